"""Training speed with photographs that stay on the disk, against the same ones in memory.

    python -m benchmarks.streaming --images 4000 --turns 7

Makes images of 256×256 pixels, caches them like those of a folder, and trains ``alexnet-owt.photos`` on both in turn,
for the same number of steps. Before each turn the file is dropped from the system's page cache, so that streamed images
come from the disk, as they do if they are larger than the memory. The rate of a turn is compared with that of the turn
beside it, because other work comes and goes.
"""

import argparse
import ctypes
import mmap
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from alexnet_course.bench import endless, spread
from alexnet_course.data import Dataset, cache
from alexnet_course.data.cache import cache_dir
from alexnet_course.recipes import load_recipe
from alexnet_course.training.device import choose_device, resolve_precision
from alexnet_course.training.trainer import Trainer
from benchmarks.command import run, whole

SIDE = 256
CLASSES = ("left", "right")


def make(count: int, path: Path) -> Dataset:
    """Noise of two classes, cached in ``path`` like a folder's images; a memory map."""
    random = np.random.default_rng(0)

    def fill(put: cache.Put) -> None:
        for number in range(count):
            put(number, random.integers(0, 256, (3, SIDE, SIDE), dtype=np.uint8))

    cache.write(path, "noise", "noise", CLASSES, [number % 2 for number in range(count)], (3, SIDE, SIDE), fill)
    kept = cache.read(path, "noise")
    assert kept is not None
    return kept


def drop_from_page_cache(path: Path, mapped: Tensor) -> None:
    """Drop the file at ``path`` and the pages of its memory map from the cache, where the system can do that."""
    if sys.platform != "linux":
        return
    begin = mapped.data_ptr() // mmap.PAGESIZE * mmap.PAGESIZE
    end = mapped.data_ptr() + mapped.nbytes
    ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), mmap.MADV_DONTNEED)
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def training(images: Dataset, device: str, batch_size: int, steps: int) -> Callable[[], float]:
    """Train for this many steps; returns images per second."""
    chosen = choose_device(device)
    recipe = load_recipe("alexnet-owt.photos").replace(batch_size=batch_size)
    trainer = Trainer(recipe, images, chosen, resolve_precision(recipe.precision, chosen))
    batches = endless(trainer.train_loader)

    def turn() -> float:
        with trainer.computing():
            trainer.begin_epoch()
            trainer.start_epoch()
            began = time.perf_counter()
            for _ in range(steps):
                trainer.step(*next(batches))
            trainer.end_training()  # waits for the device
        return steps * batch_size / (time.perf_counter() - began)

    return turn


def loading(images: Dataset, device: str, batch_size: int, steps: int) -> Callable[[], float]:
    """Prepare some more batches (cropped, mirrored, normalised) without training on them."""
    steps *= 8
    chosen = choose_device(device)
    recipe = load_recipe("alexnet-owt.photos").replace(batch_size=batch_size)
    batches = endless(Trainer(recipe, images, chosen, resolve_precision(recipe.precision, chosen)).train_loader)

    def turn() -> float:
        began = time.perf_counter()
        for _ in range(steps):
            images, _ = next(batches)
        images.sum().item()
        return steps * batch_size / (time.perf_counter() - began)

    return turn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=whole, default=4000, metavar="N")
    parser.add_argument("--turns", type=whole, default=7, metavar="N", help="of each")
    parser.add_argument("--steps", type=whole, default=4, metavar="N", help="of a turn")
    parser.add_argument("--batch-size", type=whole, default=128, metavar="N")
    parser.add_argument("--device", default="auto", metavar="D")
    options = parser.parse_args()
    cache_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_dir()) as folder:  # on a disk, as /tmp need not be
        path = Path(folder, "images.safetensors")
        kept = make(options.images, path)
        in_memory, streamed = replace(kept, images=kept.images.clone()), replace(kept, streamed=True)
        for what, task in (("training", training), ("batches alone", loading)):
            turns = [task(data, options.device, options.batch_size, options.steps) for data in (in_memory, streamed)]
            rates: tuple[list[float], list[float]] = ([], [])
            work: tuple[list[float], list[float]] = ([], [])  # CPU seconds, which other work does not change
            for number in range(options.turns + 1):
                drop_from_page_cache(path, streamed.images)
                order = (0, 1) if number % 2 else (1, 0)
                for which in order:
                    began = time.process_time()
                    rate = turns[which]()
                    if number:  # the first is a warm-up of memory and threads
                        rates[which].append(rate)
                        work[which].append(time.process_time() - began)
            shares, more = ([100 * other / one for one, other in zip(*both, strict=True)] for both in (rates, work))
            resident, from_disk = (spread(one, "{:,.0f}") for one in rates)
            print(f"{what}: in memory {resident} images a second, streamed {from_disk}; {spread(shares, '{:.0f}')} % "
                  f"of the rate, in {spread(more, '{:.0f}')} % of the CPU time", flush=True)  # fmt: skip


if __name__ == "__main__":
    sys.exit(run(main, "streaming"))
