"""Sign in at a server behind Identity-Aware Proxy, as a browser does, and print the status of its page: sign_in.py URL EMAIL."""

import sys

import requests

url, email = sys.argv[1:]
browser = requests.Session()
page = browser.get(url, timeout=60)
print(browser.post(page.url, data={"other": email}, timeout=90).status_code)
