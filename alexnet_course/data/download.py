"""Downloads: from the first of several servers that has the published file, resumed where another one stopped."""

import hashlib
import http.client
import math
import os
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from tqdm import tqdm

from alexnet_course.errors import CourseError
from alexnet_course.files import ABANDONED, UNFINISHED, beside, discard
from alexnet_course.terminal import Terminal, say
from alexnet_course.version import __version__

TIMEOUT = 15.0  # seconds without an answer, and the period over which a rate is measured
SLOWEST = 1000  # bytes a second; at that rate CIFAR-10 would take two days
PATIENCE = 600.0  # seconds allowed for the rest, or the next server is tried; a good server takes seconds
PAUSES = (5.0,)  # seconds before servers with a temporary problem are tried again

_BLOCK = 1 << 16
_BAR_FROM = 1 << 22  # bytes; fewer arrive in an instant

T = TypeVar("T")


class NotPublished(Exception):
    """The download is not the published file."""


class TooSlow(Exception):
    """A server whose ``rate`` (bytes a second) is too low for the rest of the file."""

    def __init__(self, rate: float, seconds: float) -> None:
        super().__init__(f"too slow: at {rate / 1000:,.0f} kB a second the rest takes {seconds / 60:,.0f} minutes")
        self.rate = rate


@dataclass(frozen=True)
class Mirror(Generic[T]):
    """A server that has a file. ``path`` is where the file is stored here: a download of the same file that was begun
    from another server is resumed. ``take`` turns the downloaded file, which it may move or remove, into the result, or
    raises ``NotPublished``."""

    url: str
    path: Path
    take: Callable[[Path], T]


IN_PLACE_OF_IMAGES = "use 'folder:PATH' for images on this machine, or 'doodles', which needs no network"


def download(what: str, mirrors: Sequence[Mirror[T]], instead: str = IN_PLACE_OF_IMAGES) -> T:
    """The result from the first of ``mirrors`` that sends the complete published file.

    If one fails, the next is tried, with a line on standard error. A slow one is left for another, which resumes the
    download; if all are slow, the fastest continues. Servers with a temporary problem are tried twice. Raises
    ``CourseError`` if none sends the file, with the reason for each and what to do ``instead``, and if the disk cannot
    store it.
    """
    left, reasons, rates = list(mirrors), {}, dict.fromkeys(mirrors, 0.0)
    for final, pause in ((False, 0.0), *((True, pause) for pause in PAUSES)):
        left.sort(key=lambda mirror: -rates[mirror])
        if pause and not any(rates.values()):
            time.sleep(pause)
        for mirror in tuple(left):
            patience = math.inf if final or len(mirrors) == 1 else PATIENCE
            try:
                return _fetch(what, mirror, patience)
            except TooSlow as error:
                rates[mirror] = error.rate
                reasons[mirror] = str(error)
            except (NotPublished, http.client.HTTPException, OSError) as error:
                reasons[mirror] = _in_words(error)
                if not _may_pass(error):
                    left.remove(mirror)
            if len(mirrors) > 1:
                say(f"{what} could not be downloaded from {_server(mirror)} ({reasons[mirror]})")
        if not left:
            break
    tried = ", ".join(f"{mirror.url} ({reasons[mirror]})" for mirror in mirrors)
    raise CourseError(f"{what!r} could not be downloaded from {tried}; connect to the network and try again, or "
                      f"{instead}.")  # fmt: skip


def checksum(path: Path, algorithm: str) -> str:
    """The checksum of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, partial(hashlib.new, algorithm, usedforsecurity=False)).hexdigest()


def _fetch(what: str, mirror: Mirror[T], patience: float) -> T:
    with _kept(what, mirror.path.parent):
        mirror.path.parent.mkdir(parents=True, exist_ok=True)
    with _part(mirror.path) as part:
        resumed = _stream(what, mirror, part, patience)
        try:
            return _taken(what, mirror, part)
        except NotPublished:
            discard(part)
            if not resumed:
                raise
        # The beginning, from another server or an earlier day, may have been wrong.
        _stream(what, mirror, part, patience)
        try:
            return _taken(what, mirror, part)
        except NotPublished:
            discard(part)
            raise


def _taken(what: str, mirror: Mirror[T], part: Path) -> T:
    with _kept(what, mirror.path.parent):
        return mirror.take(part)


@contextmanager
def _part(path: Path) -> Iterator[Path]:
    """Where this process writes the download of ``path``; it continues what another process has left there."""
    part = beside(path)
    for other in set(path.parent.glob(f"{path.name}.*{UNFINISHED}")) - {part}:
        with suppress(FileNotFoundError):  # another process was faster
            if time.time() - other.stat().st_mtime > ABANDONED:
                longer = not part.exists() or other.stat().st_size > part.stat().st_size
                other.replace(part) if longer else discard(other)
    try:
        yield part
    finally:
        with suppress(OSError):
            os.utime(part, (0, 0))  # marks it as free, so that the next process need not wait


def _stream(what: str, mirror: Mirror[Any], part: Path, patience: float) -> bool:
    """Complete the file ``part``; returns whether its beginning was there before."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(mirror.url, headers={"User-Agent": f"alexnet-course/{__version__}"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # range not satisfiable: nothing is left to send
            raise
        if error.headers.get("Content-Range") == f"bytes */{have}":
            return True
        discard(part)
        return _stream(what, mirror, part, patience)
    with answer:
        if answer.headers.get_content_type() == "text/html":  # an error page, or one that asks for a password
            raise NotPublished("it sent a web page instead of the file")
        if answer.status != 206:  # it sends the file from the beginning
            have = 0
        elif not (answer.headers.get("Content-Range") or "").startswith(f"bytes {have}-"):
            answer.close()
            discard(part)
            return _stream(what, mirror, part, patience)
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length is not None else None
        with _kept(what, part.parent):
            file = open(part, "ab" if have else "wb")  # noqa: SIM115 - its errors differ from those of the network
        bar = tqdm(total=total, initial=have, desc=f"{mirror.path.name} from {_server(mirror)}", unit="B",
                   unit_scale=True, disable=total is None or total < _BAR_FROM, file=Terminal())  # fmt: skip
        with file, bar:
            came = 0
            for block in _blocks(answer, total - have if total is not None else None, patience):
                with _kept(what, part.parent):
                    file.write(block)
                came += len(block)
                bar.update(len(block))
            with _kept(what, part.parent):
                file.flush()
                os.fsync(file.fileno())
    if total is not None and have + came < total:
        raise ConnectionError(f"the connection broke after {have + came:,} of {total:,} bytes")
    return have > 0


def _blocks(answer: http.client.HTTPResponse, length: int | None, patience: float) -> Iterator[bytes]:
    """The blocks of the answer, as long as they arrive fast enough. A timeout on silence would not end a trickle, in
    which each byte arrives in time, so the rate is measured."""
    since, counted, came = time.monotonic(), 0, 0
    while block := answer.read1(_BLOCK):
        yield block
        counted += len(block)
        came += len(block)
        seconds = time.monotonic() - since
        if seconds > TIMEOUT:
            rate = counted / seconds
            if rate < SLOWEST:
                raise TimeoutError(f"it sent only {rate:,.0f} bytes a second")
            if length is not None and (length - came) / rate > patience:
                raise TooSlow(rate, (length - came) / rate)
            since, counted = time.monotonic(), 0


@contextmanager
def _kept(what: str, folder: Path) -> Iterator[None]:
    """Turn errors of the disk into one sentence; no other server would help."""
    try:
        yield
    except OSError as error:
        raise CourseError(f"{what!r} could not be stored in {str(folder)!r} ({error.strerror or error}); free some "
                          "space there, or set ALEXNET_COURSE_CACHE to another folder.") from error  # fmt: skip


def _may_pass(error: Exception) -> bool:
    """Whether the problem may be temporary: a busy server, a broken connection, an incomplete file."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code >= 500 or error.code in (408, 429)  # request timeout, too many requests
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return False
    passing = (ConnectionError, TimeoutError, socket.gaierror, ssl.SSLError, http.client.HTTPException)
    return isinstance(reason, passing)


def _in_words(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    if isinstance(reason, ssl.SSLCertVerificationError):
        reason = reason.verify_message if getattr(reason, "verify_message", "") else reason
    code = f"{error.code} " if isinstance(error, urllib.error.HTTPError) else ""
    text = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    return re.sub(r"\s+", " ", f"{code}{text}").rstrip(".")


def _server(mirror: Mirror[Any]) -> str:
    return urlsplit(mirror.url).netloc
