"""
Loaded by every Python process that has this folder in PYTHONPATH: kills a process as soon as it has the response to a write.

KILLED_AFTER is a file; each write to an API adds a byte to it. KILLED_LIMIT is how many writes may succeed, the last of which
kills.
"""

import http.client
import os
import signal

READS = (":getIamPolicy", "/wait", "/token")
begin, finish = http.client.HTTPConnection.putrequest, http.client.HTTPConnection.getresponse


def putrequest(self, method, url, *args, **kwargs):
    self.is_write = method != "GET" and not url.partition("?")[0].endswith(READS)
    return begin(self, method, url, *args, **kwargs)


def getresponse(self, *args, **kwargs):
    response = finish(self, *args, **kwargs)
    if self.is_write:
        with open(os.environ["KILLED_AFTER"], "ab", buffering=0) as counted:
            counted.write(b".")
            if counted.tell() == int(os.environ["KILLED_LIMIT"]):
                os.kill(os.getpid(), signal.SIGKILL)
    return response


http.client.HTTPConnection.putrequest, http.client.HTTPConnection.getresponse = putrequest, getresponse
