"""A browser for the pages and the notebooks that these tests look at."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Request, sync_playwright

FLAGS = (  # the network flags keep Chromium from calling home, which a closed network punishes
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield browser
        browser.close()


def _complain(page: Page, request: Request) -> None:
    """JupyterLab asks for a notebook's picture twice, and takes the first request back."""
    if (request.resource_type, request.failure) != ("image", "net::ERR_ABORTED"):
        page.complaints.append(f"failed: {request.url}")


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    """A page that remembers what it complained about, in ``page.complaints``."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.complaints = []
    page.on("pageerror", lambda error: page.complaints.append(f"page error: {error.stack[:800]}"))
    page.on("console", lambda m: page.complaints.append(m.text) if m.type == "error" else None)
    page.on("requestfailed", lambda request: _complain(page, request))
    yield page
    page.close()
