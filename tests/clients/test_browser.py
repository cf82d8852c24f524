"""A user with a browser: Debian's Chromium, headless, with the options that `gcp-sandbox browser` prints."""

from __future__ import annotations

import re
import secrets
import shlex
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, Request, Response, expect, sync_playwright

from .conftest import URL

pytestmark = pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no chromium on this machine")
QUIET = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# Error responses of MLflow that its UI expects: it has no accounts of its own, and the name of a new experiment is unused.
NOT_THERE = re.compile(r"/mlflow/users/current$|/mlflow/experiments/get-by-name\?")


class Tab:
    """A page of a new profile, and all errors on it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.posts: list[str] = []
        self.wrong: list[str] = []
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("requestfailed", self._failed)
        page.on("response", self._note)

    def _failed(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # requests that were aborted when the page was left
            self.wrong.append(f"{request.method} {request.url}: {request.failure}")

    def _note(self, response: Response) -> None:
        request = response.request
        if response.status >= 400 and not NOT_THERE.search(request.url):
            self.wrong.append(f"{response.status} {request.method} {request.url}")
        elif request.method == "POST":
            self.posts.append(request.url)

    def sign_in(self, person: str) -> None:
        """Open the page without a session, and choose an account."""
        self.page.goto(f"{URL}/")
        assert self.page.url.startswith("https://accounts.google.com/")
        expect(self.page.get_by_role("heading", name="Choose an account")).to_be_visible()
        self.page.get_by_role("button", name=person).click()

    def see_experiments(self) -> None:
        """From the UI's first page to the list of experiments."""
        self.page.goto(f"{URL}/")
        self.page.get_by_role("link", name="Experiments", exact=True).click()


@pytest.fixture
def tab(cloud, deployed, tmp_path) -> Iterator[Tab]:
    words = shlex.split(cloud.command("browser", URL))
    options = [word for word in words[1:-1] if not word.startswith("--user-data-dir")]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch_persistent_context(
            tmp_path, executable_path=shutil.which("chromium"), args=[*options, *QUIET], chromium_sandbox=False
        )
        # The server may have to start, on a busy machine.
        browser.set_default_timeout(90_000)
        expect.set_options(timeout=90_000)
        yield Tab(browser.new_page())
        browser.close()


def test_a_user_on_the_list_creates_an_experiment_and_sees_it(tab):
    page, name = tab.page, f"seen-{secrets.token_hex(4)}"
    tab.sign_in("jane@example.com")
    page.wait_for_url(f"{URL}/**")
    tab.see_experiments()
    page.get_by_role("button", name="Create", exact=True).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("textbox").first.fill(name)
    dialog.get_by_role("button", name="Create", exact=True).click()
    page.wait_for_url(re.compile(r"/#/experiments/\d+"))
    tab.see_experiments()
    expect(page.get_by_role("row").filter(has_text=name)).to_be_visible()
    assert any(post.endswith("/experiments/create") for post in tab.posts)
    assert not tab.wrong


def test_a_user_who_is_not_on_the_list_is_rejected(tab):
    tab.sign_in("alice@example.com")
    expect(tab.page.get_by_role("heading", name="You don't have access")).to_be_visible()
    assert "alice@example.com" in tab.page.inner_text("main")
    assert [entry.split()[0] for entry in tab.wrong] == ["403"]
