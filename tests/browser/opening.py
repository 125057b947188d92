"""How the tests in a browser open a page of the book, and what they hold against it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Response

BOOK = Path(__file__).resolve().parents[2] / "_build" / "html"
WIDE, NARROW = (1280, 800), (390, 800)  # a window, a phone
PATIENCE = 120_000  # milliseconds: a machine that does other things, too, is slow and not broken


def open_page(browser: Browser, address: str) -> Page:
    """A page in a context of its own, so that it has nothing in its cache and nothing stored."""
    width, height = WIDE
    context = browser.new_context(
        base_url=address,
        viewport={"width": width, "height": height},
        color_scheme="light",
        permissions=["clipboard-read", "clipboard-write"],
    )
    context.set_default_timeout(PATIENCE)
    return context.new_page()


def watch(page: Page) -> list[str]:
    """A list that from now on gets a sentence for each error of the page, failed request, and request elsewhere."""
    complaints: list[str] = []

    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error":
            complaints.append(f"console: {message.text}")

    def on_request(request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob", "file") and parts.hostname != "127.0.0.1":
            complaints.append(f"asks another machine: {request.url}")

    def on_failed(request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # the reader was gone before it came
            complaints.append(f"failed: {request.url}")

    def on_response(response: Response) -> None:
        if response.status >= 400:
            complaints.append(f"answered {response.status}: {response.url}")

    page.on("console", on_console)
    page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    page.on("request", on_request)
    page.on("requestfailed", on_failed)
    page.on("response", on_response)
    return complaints
