"""Small image trees and small CIFAR archives in the true format, made from the same random pixels."""

import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import numpy as np
import pytest
from trees import Images, write_tree

from alexnet_course.errors import CourseError


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds for which a download waited before it was tried again; in tests they take no time."""
    waited: list[float] = []
    clock = SimpleNamespace(sleep=waited.append, monotonic=time.monotonic, time=time.time)
    monkeypatch.setattr("alexnet_course.data.download.time", clock)
    return waited


@pytest.fixture
def images() -> Images:
    """Forty training and twenty test images, half of them cats."""
    rng = np.random.default_rng(7)
    return {
        split: {name: list(rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)) for name in ("cat", "truck")}
        for split, count in (("train", 20), ("test", 10))
    }


@pytest.fixture
def tree(tmp_path: Path, images: Images) -> Path:
    return write_tree(tmp_path / "pets", images)


@pytest.fixture
def refused() -> Callable[..., str]:
    """Calls something, and returns the one sentence with which it is refused."""

    def call(function: Callable[..., object], *args: object, **options: object) -> str:
        with pytest.raises(CourseError) as caught:
            function(*args, **options)
        sentence = str(caught.value)
        assert sentence.endswith(".")
        assert not re.search(r"\.\s|\n", sentence), sentence
        return sentence

    return call


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that hangs up before the end is what some tests are about."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A folder, and the address under which a web server on this machine serves it."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "served"
    folder.mkdir()
    with Server(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as httpd:
        Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
        yield folder, f"http://127.0.0.1:{httpd.server_port}/"
        httpd.shutdown()
