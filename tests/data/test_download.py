"""Downloads from servers of this machine that are slow, gone, wrong, broken, or do not do what was asked."""

import errno
import hashlib
import io
import os
import re
import resource
import socket
import ssl
import struct
import sys
import tarfile
import time
import urllib.error
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from test_sources import pickled_batches, publish
from trees import Images

from alexnet_course.data import cache, cifar, download, load_dataset
from alexnet_course.data.download import ABANDONED, PAUSES, Mirror, NotPublished, checksum
from alexnet_course.files import UNFINISHED

CONTENT = os.urandom(50_000)
OTHER = os.urandom(50_000)
Ask = Callable[..., bytes]


class Handler(BaseHTTPRequestHandler):
    """Serves ``CONTENT`` under ``/TROUBLE/file``, and is in that trouble."""

    requests: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        trouble, span = self.path.split("/")[1], self.headers.get("Range")
        self.requests.append((trouble, span))
        if trouble.isdigit():
            self.send_error(int(trouble))
            return
        content = OTHER if trouble == "wrong" else CONTENT
        start = int(re.fullmatch(r"bytes=(\d+)-", span)[1]) if span else 0
        if start >= len(content) and trouble != "no-ranges":
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if start and trouble not in ("no-ranges", "page"):
            if trouble == "other-range":
                start -= 100
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            start = 0
            self.send_response(200)
        self.send_header("Content-Type", "text/html" if trouble == "page" else "application/gzip")
        if trouble != "no-length":
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        try:
            self.send(content[start:], trouble)
        except OSError:  # the reader has gone
            self.close_connection = True

    def send(self, rest: bytes, trouble: str) -> None:
        if trouble == "truncated":
            self.wfile.write(rest[: len(rest) // 2])
        elif trouble == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
        elif trouble == "trickle":
            for byte in rest[:60]:
                self.wfile.write(bytes([byte]))
                time.sleep(0.01)
        elif trouble in ("slow", "slower"):  # 200 and 100 kB a second
            step = 1000 if trouble == "slow" else 500
            for begin in range(0, len(rest), step):
                self.wfile.write(rest[begin : begin + step])
                time.sleep(0.005)
        elif trouble == "silent":
            time.sleep(0.4)  # longer than the test lets the reader wait
        else:
            self.wfile.write(rest)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ask]:
    """Downloads the file from servers in these troubles, one after the other; what comes is checked."""
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(Handler, "requests", [])
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{unused.getsockname()[1]}"

    def take(part: Path) -> bytes:
        if part.read_bytes() != CONTENT:
            raise NotPublished("its checksum is another")
        part.replace(tmp_path / "kept/file")
        return CONTENT

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        httpd.daemon_threads = True
        httpd.handle_error = lambda *_: None
        Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()

        def call(*troubles: str) -> bytes:
            servers = {"refused": nobody}
            address = f"127.0.0.1:{httpd.server_port}"
            urls = [f"http://{servers.get(trouble, address)}/{trouble}/file" for trouble in troubles]
            return download.download("it", [Mirror(url, tmp_path / "kept/file", take) for url in urls])

        yield call
        httpd.shutdown()


def parts(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "kept").glob(f"*{UNFINISHED}"))


def leave_part(tmp_path: Path, content: bytes, age: float = ABANDONED + 1, process: int = 1) -> Path:
    """As a process that was ended leaves it."""
    part = tmp_path / f"kept/file.{process}{UNFINISHED}"
    part.parent.mkdir(exist_ok=True)
    part.write_bytes(content)
    os.utime(part, (time.time() - age,) * 2)
    return part


@pytest.mark.parametrize(
    ("troubles", "says", "asked"),
    [
        (["fine"], [], ["fine"]),
        (["no-length"], [], ["no-length"]),
        (["404", "fine"], ["404 Not Found"], ["404", "fine"]),
        (["refused", "fine"], ["Connection refused"], ["fine"]),
        (["503", "fine"], ["503 Service Unavailable"], ["503", "fine"]),
        (["wrong", "fine"], ["its checksum is another"], ["wrong", "fine"]),
        (["page", "fine"], ["it sent a web page"], ["page", "fine"]),
        (["truncated", "fine"], ["the connection broke after 25,000 of 50,000 bytes"], ["truncated", "fine"]),
        (["reset", "fine"], ["Connection reset"], ["reset", "fine"]),
        (["silent", "fine"], ["timed out"], ["silent", "fine"]),
        (["trickle", "fine"], ["bytes a second"], ["trickle", "fine"]),
        (["slow", "fine"], ["too slow: at "], ["slow", "fine"]),
        (["404", "wrong", "503", "fine"], ["404", "checksum", "503"], ["404", "wrong", "503", "fine"]),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else None,
)
def test_the_first_server_that_gives_the_file_is_enough(
    troubles: list[str],
    says: list[str],
    asked: list[str],
    ask: Ask,
    tmp_path: Path,
    pauses: list[float],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.15)
    monkeypatch.setattr(download, "PATIENCE", 0.05)
    assert ask(*troubles) == CONTENT
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(says)
    assert all(line.startswith("it could not be downloaded from ") for line in lines)
    assert all(text in line for text, line in zip(says, lines, strict=True))
    assert [trouble for trouble, _ in Handler.requests] == asked
    assert pauses == []
    assert parts(tmp_path) == []


@pytest.mark.parametrize(
    ("troubles", "tries", "says"),
    [
        (["404"], 1, ["404 Not Found"]),
        (["403", "410"], 2, ["403 Forbidden", "410 Gone"]),
        (["503"], 2, ["503 Service Unavailable"]),
        (["429", "404"], 3, ["429 Too Many Requests", "404 Not Found"]),
        (["wrong"], 1, ["its checksum is another"]),
        (["page"], 1, ["it sent a web page"]),
        (["truncated"], 2, ["the connection broke after 37,500 of 50,000 bytes"]),
        (["silent"], 2, ["timed out"]),
        (["trickle", "refused"], 2, ["bytes a second", "Connection refused"]),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else None,
)
def test_where_all_fail_one_sentence_says_what_was_tried(
    troubles: list[str],
    tries: int,
    says: list[str],
    ask: Ask,
    pauses: list[float],
    monkeypatch: pytest.MonkeyPatch,
    refused: Callable[..., str],
) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.15)
    sentence = refused(ask, *troubles)
    assert sentence.startswith("'it' could not be downloaded from http://127.0.0.1:")
    for trouble, text in zip(troubles, says, strict=True):
        assert re.search(rf"/{trouble}/file \([^)]*{text}", sentence)
    assert "folder:PATH" in sentence
    assert "doodles" in sentence
    assert len(Handler.requests) == tries
    assert pauses == (list(PAUSES) if tries > len(troubles) or "refused" in troubles else [])


def test_where_all_are_slow_the_fastest_goes_on(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.05)
    monkeypatch.setattr(download, "PATIENCE", 0.05)
    assert ask("slower", "slow") == CONTENT
    assert [trouble for trouble, _ in Handler.requests] == ["slower", "slow", "slow"]
    starts = [int((span or "bytes=0-")[6:-1]) for _, span in Handler.requests]
    assert 0 == starts[0] < starts[1] < starts[2]
    assert pauses == []


@pytest.mark.parametrize(
    ("left", "age", "trouble", "asked"),
    [
        (CONTENT[:20_000], ABANDONED + 1, "fine", ["bytes=20000-"]),
        (CONTENT[:20_000], 0.0, "fine", [None]),  # another process is at work
        (CONTENT[:20_000], ABANDONED + 1, "no-ranges", ["bytes=20000-"]),  # the whole file comes
        (CONTENT[:20_000], ABANDONED + 1, "other-range", ["bytes=20000-", None]),
        (CONTENT, ABANDONED + 1, "fine", ["bytes=50000-"]),  # only its name was missing
        (CONTENT + b"more", ABANDONED + 1, "fine", ["bytes=50004-", None]),
        (OTHER[:20_000], ABANDONED + 1, "fine", ["bytes=20000-", None]),  # the file there has changed since
    ],
)
def test_a_download_goes_on_where_it_stopped_or_begins_anew(
    left: bytes, age: float, trouble: str, asked: list[str | None], ask: Ask, tmp_path: Path
) -> None:
    other = leave_part(tmp_path, left, age)
    assert ask(trouble) == CONTENT
    assert (tmp_path / "kept/file").read_bytes() == CONTENT
    assert [span for _, span in Handler.requests] == asked
    assert parts(tmp_path) == ([] if age else [other])


def test_the_longest_of_several_parts_is_gone_on_with(ask: Ask, tmp_path: Path) -> None:
    for process, size in ((1, 5_000), (2, 30_000), (3, 10_000)):
        leave_part(tmp_path, CONTENT[:size], process=process)
    assert ask("fine") == CONTENT
    assert Handler.requests == [("fine", "bytes=30000-")]
    assert parts(tmp_path) == []


def test_what_is_there_is_kept_for_the_next_try_of_any_process(
    ask: Ask, tmp_path: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "PAUSES", ())
    refused(ask, "truncated")
    (part,) = parts(tmp_path)
    part.rename(part.with_name(f"file.1{UNFINISHED}"))
    refused(ask, "page")  # of a network that asks for a password, say
    assert ask("fine") == CONTENT
    assert Handler.requests[1:] == [("page", "bytes=25000-"), ("fine", "bytes=25000-")]


def test_a_full_disk_is_no_server_s_fault(ask: Ask, refused: Callable[..., str], tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        sentence = refused(ask, "fine", "no-length")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert f"'it' could not be stored in {str(tmp_path / 'kept')!r} (File too large); free some space" in sentence
    assert len(Handler.requests) == 1


def test_a_long_download_shows_how_far_it_is_and_how_fast(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(download, "_BAR_FROM", 1)
    leave_part(tmp_path, CONTENT[:20_000])
    ask("fine")
    output = capsys.readouterr()
    assert re.search(r"file from 127\.0\.0\.1:\d+: +40%", output.err)
    assert re.search(r"50\.0k/50\.0k .*B/s", output.err)
    assert output.out == ""


def test_a_bar_that_cannot_be_shown_ends_no_download(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download, "_BAR_FROM", 1)
    monkeypatch.setattr(sys, "stderr", Full())
    assert ask("fine") == CONTENT


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ssl.SSLCertVerificationError(1, "certificate verify failed"), "certificate verify failed"),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), "Temporary failure"),
    ],
)
def test_what_keeps_from_the_server_is_said(
    error: OSError,
    says: str,
    ask: Ask,
    pauses: list[float],
    refused: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def urlopen(*_: object, **__: object) -> None:
        raise urllib.error.URLError(error)

    monkeypatch.setattr(download.urllib.request, "urlopen", urlopen)
    assert says in refused(ask, "fine")
    assert len(pauses) == isinstance(error, socket.gaierror)  # a certificate that is not trusted stays so


@pytest.mark.parametrize(
    ("rate", "patience", "fails_at"),
    [(1200, 1e9, None), (900, 1e9, 16), (1, 1e9, 16), (1200, 60.0, 16), (90_000, 600.0, None)],
)
def test_how_fast_an_answer_comes_is_asked_again_and_again(
    rate: int, patience: float, fails_at: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not of all that came so far: a line that was fast and trickles now is given up as well."""
    clock = [0.0]
    monkeypatch.setattr(download, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    sizes = iter([10_000_000, 10_000_000] + [rate] * 80)
    times = iter([0.0, 16.0, *(float(second) for second in range(17, 200))])

    def read1(_: int) -> bytes:
        clock[0] = next(times)
        return b"x" * next(sizes, 0)

    came = 0
    try:
        for _ in download._blocks(SimpleNamespace(read1=read1), 30_000_000, patience):
            came += 1
        failed = None
    except (TimeoutError, download.TooSlow):
        failed = came - 2
    assert failed == fails_at


# --- The published data sets -----------------------------------------------------------------------------------------


def archive_of_files(images: Images, place: str = "cifar/{split}/{name}/{number}.png", suffix: str = "PNG") -> bytes:
    """As fast.ai has it."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for split, classes in images.items():
            for name, members in classes.items():
                for number, pixels in enumerate(members):
                    file = io.BytesIO()
                    Image.fromarray(pixels).save(file, suffix)
                    member = tarfile.TarInfo(place.format(split=split, name=name, number=number))
                    member.size = file.tell()
                    file.seek(0)
                    tar.addfile(member, file)
    return content.getvalue()


@pytest.fixture
def published(
    server: tuple[Path, str], images: Images, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], tuple[Path, Path]]:
    """Serves a data set as torchvision's archive, as the copy of another server, and as an archive of files; gives
    the first two, of which only the copy is as it should be."""

    def serve(spec: str) -> tuple[Path, Path]:
        archive = publish(server, pickled_batches(images, spec), spec, monkeypatch)
        copy = archive.with_name(f"copy-{archive.name}")
        copy.write_bytes(archive.read_bytes())
        monkeypatch.setattr(cifar, "ARCHIVES", {spec: (server[1] + copy.name,)})
        monkeypatch.setattr(cifar, "TREES", {spec: (server[1] + "tree.tgz",)})
        (server[0] / "tree.tgz").write_bytes(archive_of_files(images, "c/{split}/kind/{name}/{number}.png"))
        known = {load_dataset(spec, split, root=server[0] / "other").fingerprint: spec for split in ("train", "test")}
        monkeypatch.setattr(cifar, "KNOWN_FINGERPRINTS", known)
        return archive, copy

    return serve


@pytest.mark.parametrize("spec", ["cifar10", "cifar100"])
@pytest.mark.parametrize("only", ["the copy", "the files"])
def test_the_same_images_come_from_another_server(
    spec: str,
    only: str,
    published: Callable[[str], tuple[Path, Path]],
    tmp_path: Path,
    server: tuple[Path, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    archive, copy = published(spec)
    expected = [load_dataset(spec, split, root=server[0] / "other") for split in ("train", "test")]
    archive.write_bytes(b"not an archive")
    if only == "the files":
        copy.unlink()
    root = tmp_path / "kept"
    found = [load_dataset(spec, split, root=root) for split in ("test", "train")]
    assert [data.fingerprint for data in reversed(found)] == [data.fingerprint for data in expected]
    assert {(data.name, data.classes) for data in found} == {(spec, ("cat", "truck"))}
    assert f"{spec} could not be downloaded from 127.0.0.1" in capsys.readouterr().err
    for file in server[0].glob("*gz"):
        file.unlink()
    assert load_dataset(spec, root=root).fingerprint == expected[0].fingerprint  # downloaded once
    left = {file.name for file in root.iterdir()}
    assert left == ({spec} if only == "the files" else {archive.name, torchvision_folder(spec)})


def torchvision_folder(spec: str) -> str:
    return str(getattr(torchvision.datasets, cifar.TORCHVISION[spec]).base_folder)


def with_other_pixels(images: Images) -> bytes:
    images["train"]["cat"][0] = 255 - images["train"]["cat"][0]
    return archive_of_files(images)


def as_jpeg(images: Images) -> bytes:
    return archive_of_files(images, "c/{split}/{name}/{number}.jpg", "JPEG")


def of_another_size(images: Images) -> bytes:
    return archive_of_files({**images, "test": {"cat": [np.zeros((33, 32, 3), np.uint8)]}})


def without_a_test_set(images: Images) -> bytes:
    return archive_of_files({"train": images["train"], "test": {}})


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (with_other_pixels, "their fingerprint differs"),
        (as_jpeg, "their fingerprint differs"),
        (of_another_size, "has other images than the published ones"),
        (without_a_test_set, "not an archive of images"),
        (lambda images: archive_of_files(images)[:5000], "not an archive of images"),
        (lambda images: b"nothing of the kind", "not an archive of images"),
    ],
)
def test_files_that_are_not_the_published_images_are_refused(
    make: Callable[[Images], bytes],
    says: str,
    published: Callable[[str], tuple[Path, Path]],
    images: Images,
    server: tuple[Path, str],
    tmp_path: Path,
    refused: Callable[..., str],
) -> None:
    for archive in published("cifar10"):
        archive.unlink()
    (server[0] / "tree.tgz").write_bytes(make(images))
    sentence = refused(load_dataset, "cifar10", root=tmp_path / "kept")
    assert re.search(rf"/tree\.tgz \([^)]*{says}", sentence)
    assert sentence.count("404 File not found") == 2
    assert list((tmp_path / "kept").rglob("*")) == []


def test_cifar10_1_comes_from_another_server(
    server: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    arrays = (np.zeros((3, 32, 32, 3), np.uint8), np.arange(3, dtype=np.int32))
    (server[0] / "second").mkdir()
    for name, array in zip(cifar.CIFAR10_1_FILES, arrays, strict=True):
        np.save(server[0] / "second" / name, array)
        (server[0] / name).write_bytes(b"other")
    sums = {name: checksum(server[0] / "second" / name, "sha256") for name in cifar.CIFAR10_1_FILES}
    monkeypatch.setattr(cifar, "CIFAR10_1_FILES", sums)
    monkeypatch.setattr(cifar, "CIFAR10_1_URLS", (server[1], f"{server[1]}second/"))
    assert load_dataset("cifar10.1", root=tmp_path / "kept").labels.tolist() == [0, 1, 2]
    monkeypatch.setattr(cifar, "CIFAR10_1_URLS", (server[1],))
    assert torch.equal(load_dataset("cifar10.1", root=tmp_path / "kept").labels, torch.arange(3))
    assert "its SHA-256 is " + hashlib.sha256(b"other").hexdigest() in refused(load_dataset, "cifar10.1", root=tmp_path)


def test_what_was_kept_of_an_archive_of_files_counts_by_its_fingerprint_alone(
    published: Callable[[str], tuple[Path, Path]], tmp_path: Path, server: tuple[Path, str]
) -> None:
    published("cifar10")
    root = tmp_path / "kept"
    whole = load_dataset("cifar10", root=server[0] / "other")
    cache.keep(whole.subset(range(10)), cifar._kept(root, "cifar10", "train"), "cifar10")
    assert len(load_dataset("cifar10", root=root)) == len(whole)
