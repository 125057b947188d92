"""What the tests of the rendered book in a browser share: the book, a server for it on this machine, and a browser.

The browser is the machine's own Chromium (Debian: ``apt install chromium``), driven by Playwright. Where there
is none, or no Playwright, or no book in ``_build/html``, the tests are skipped. The browser can reach this machine
alone; a page that asks for anything elsewhere fails its test, as does one with an error in the console.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from opening import BOOK, open_page, watch

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "book"))
import pdf  # which looks for the same browser


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing: the tests look at what was asked for themselves."""


@pytest.fixture(scope="session")
def book() -> Path:
    """The folder of the rendered book."""
    if not (BOOK / "index.html").is_file():
        pytest.skip(f"browser tests: there is no book in {BOOK}; `make book` renders it")
    return BOOK


@pytest.fixture(scope="session")
def address(book: Path) -> Iterator[str]:
    """``http://127.0.0.1:<port>/``, where the book is served."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(book))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium that finds no other machine."""
    program = pdf.find_browser()
    if program is None:
        names = ", ".join(pdf.NAMES)
        pytest.skip(f"browser tests: found no {names}; install one or set {pdf.VARIABLE} to where one is")
    playwright = pytest.importorskip("playwright.sync_api", reason="browser tests: playwright is not installed")
    with playwright.sync_playwright() as driver:
        nowhere = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
        started = driver.chromium.launch(executable_path=program, args=[nowhere])
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """A fresh page as wide as a window, with a clipboard; ``page.goto("02-shapes.html")`` opens a page of the book.

    A test that uses it fails if the page complained (see ``watch``).
    """
    opened = open_page(browser, address)
    complaints = watch(opened)
    yield opened
    opened.context.close()
    assert complaints == []
