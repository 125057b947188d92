"""CIFAR-10 and CIFAR-100 through torchvision, and CIFAR-10.1 from its two published files."""

import contextlib
import gzip
import hashlib
import http.client
import io
import pickle
import socket
import ssl
import sys
import tarfile
import time
import urllib.error
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from alexnet_course.data.dataset import Dataset
from alexnet_course.data.doodles import CLASSES  # CIFAR-10's, in CIFAR-10's order
from alexnet_course.errors import CourseError

TORCHVISION = {"cifar10": "CIFAR10", "cifar100": "CIFAR100"}  # spec -> class in torchvision.datasets

CIFAR10_1 = "cifar10.1"
CIFAR10_1_URL = "https://raw.githubusercontent.com/modestyachts/CIFAR-10.1/master/datasets/"
# SHA-256 of the two version 6 files, as TensorFlow Datasets publishes them in url_checksums/cifar10_1.txt.
CIFAR10_1_FILES = {
    "cifar10.1_v6_data.npy": "2997188e5816f5bd545dc77771b6227828c28146049fcecf3fa10775474cacc6",
    "cifar10.1_v6_labels.npy": "ae40beda001693674edc94d925ee8268cfe68905f8f9aff800c8dcdfcd6c9448",
}

_TIMEOUT = 30.0  # seconds without an answer
_SLOWEST = 1000  # bytes a second, on average over so many seconds; CIFAR-10 would take two days
PAUSES = (2.0, 10.0)  # seconds before a download is tried again

T = TypeVar("T")


def load_cifar(spec: str, split: str, root: Path) -> Dataset:
    """``cifar10`` or ``cifar100``, 3×32×32: 50,000 training or 10,000 test pictures, downloaded into ``root`` once.

    torchvision checks the MD5 of the archive and, each time, of every file taken from it. A download that failed for a
    reason that may pass is tried again. Raises ``CourseError`` without a network, without space, and for an archive
    that is not the published one.
    """
    import torchvision  # here, so that importing the package does not take its seconds

    source = getattr(torchvision.datasets, TORCHVISION[spec])
    # Older torchvisions print their progress; standard output is for results.
    with contextlib.redirect_stdout(sys.stderr):
        published = _download(lambda: source(root, train=split == "train", download=True), spec, source.url, root)
    return _dataset(published.data, published.targets, tuple(published.classes), spec)


def load_cifar10_1(root: Path) -> Dataset:
    """``cifar10.1`` version 6, 3×32×32: 2,000 test pictures with CIFAR-10's classes (Recht et al. 2018).

    The two files are downloaded into ``root`` once and their SHA-256 checked each time; a pickle in them is never
    opened. Raises ``CourseError`` without a network, without space, and for files that are not the published ones.
    """

    def get(name: str, sha256: str) -> np.ndarray:
        file = root / name
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != sha256:
            root.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(CIFAR10_1_URL + name, str(file), hash_prefix=sha256)
        return np.load(file, allow_pickle=False)

    images, labels = (
        _download(partial(get, name, sha256), CIFAR10_1, CIFAR10_1_URL + name, root)
        for name, sha256 in CIFAR10_1_FILES.items()
    )
    return _dataset(images, labels, CLASSES, CIFAR10_1)


def _dataset(images: np.ndarray, labels: np.ndarray | list[int], classes: tuple[str, ...], name: str) -> Dataset:
    """From N×H×W×C, as CIFAR's authors store pictures, to a ``Dataset``."""
    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    return Dataset(pixels, torch.as_tensor(labels, dtype=torch.int64), classes, name)


def _download(get: Callable[[], T], spec: str, url: str, root: Path) -> T:
    """``get()``, again after each of ``PAUSES`` where what went wrong may pass; what does not, as one sentence."""
    offline = (urllib.error.URLError, ConnectionError, TimeoutError, socket.gaierror, ssl.SSLError)
    damaged = (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, pickle.UnpicklingError)
    # Neither torch nor torchvision sets a time limit, so a dead line would hang for ever, and one that trickles too.
    timeout, response = socket.getdefaulttimeout(), http.client.HTTPConnection.response_class
    socket.setdefaulttimeout(_TIMEOUT)
    http.client.HTTPConnection.response_class = _Response
    tries = 0
    try:
        while True:
            tries += 1
            try:
                return get()
            except Exception as error:
                if tries > len(PAUSES) or not _may_pass(error):
                    raise
                time.sleep(PAUSES[tries - 1])
    except (*offline, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise CourseError(
            f"{spec!r} could not be downloaded from {url} in {_tries(tries)} ({reason}); connect to the network and "
            "try again, or use 'folder:PATH' for pictures on this machine, or 'doodles', which needs none."
        ) from error
    except (RuntimeError, ValueError, KeyError, *damaged) as error:
        raise CourseError(
            f"What came from {url} for {spec!r} is not the published file, or only a part of it, and was not used "
            f"({_tries(tries)}); try again, or use 'folder:PATH' for pictures on this machine, or 'doodles', which "
            "needs no network."
        ) from error
    except OSError as error:
        raise CourseError(
            f"{spec!r} could not be kept in {str(root)!r} ({error.strerror or error}); free some space there, or name "
            "another folder in ALEXNET_COURSE_CACHE."
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)
        http.client.HTTPConnection.response_class = response


class _Response(http.client.HTTPResponse):
    """An answer that has to come steadily, whoever reads it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.fp = io.BufferedReader(_Steady(self.fp))


class _Steady(io.RawIOBase):
    """``source``, but ``TimeoutError`` where less than ``_SLOWEST`` comes out of it. Each byte of a trickle comes in
    time, so that no time limit on the silence between two of them ends it."""

    def __init__(self, source: io.BufferedReader) -> None:
        self._source = source
        self._since, self._bytes = time.monotonic(), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._source.readinto1(buffer)
        self._bytes += count
        seconds = time.monotonic() - self._since
        if count and seconds > _TIMEOUT:
            if self._bytes < _SLOWEST * seconds:
                raise TimeoutError(f"{self._bytes / seconds:,.0f} bytes a second came")
            self._since, self._bytes = time.monotonic(), 0
        return count

    def close(self) -> None:
        self._source.close()
        super().close()


def _may_pass(error: Exception) -> bool:
    """Whether the same download may work a little later: after a busy server, a broken line, a part of a file."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code >= 500 or error.code in (408, 429)  # too slow, too many requests
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return False
    # RuntimeError: torch's and torchvision's for a wrong checksum.
    passing = (ConnectionError, TimeoutError, socket.gaierror, ssl.SSLError, http.client.HTTPException, RuntimeError)
    return isinstance(reason, passing)


def _tries(count: int) -> str:
    return "one try" if count == 1 else f"{count} tries"
