"""What the package may cost: seconds before the first step, and memory. Each measurement is a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from alexnet_course.data import load_dataset

START = """
import json, time


class Clock:
    '''Seconds since the start: passed, or worked, whichever are fewer, so that others' work does not count.'''

    def __init__(self):
        self.start = time.perf_counter(), time.process_time()

    def seconds(self):
        return min(time.perf_counter() - self.start[0], time.process_time() - self.start[1])


clock = Clock()
import pydantic.types, torch, torchvision  # the libraries; pydantic by itself puts off its largest part

libraries = clock.seconds()
clock = Clock()
from alexnet_course import *  # or it would be imported where it is used

imported = clock.seconds()


class FirstStep(Exception):
    pass


def first_step(*_):
    raise FirstStep


clock = Clock()
run = train(Recipe(dataset="doodles"), device="cpu")
run.model.register_forward_pre_hook(first_step)
try:
    next(run)
except FirstStep:
    print(json.dumps({"imported": imported, "started": clock.seconds(), "libraries": libraries}))
    assert run.recipe.model == "alexnet-cifar-3x3"
"""


SLOW = 4  # seconds that the libraries take to import, already compiled


@pytest.mark.slow
def test_import_and_first_step_come_soon(tmp_path, monkeypatch):
    """Issue 3 allows 0.3 s for the import after the libraries, and 2 s from there to the first step on
    doodles that are cached, here with the course's network of 57 million weights. Where the libraries' own
    import is SLOW, both may take as much longer as it does."""
    monkeypatch.setenv("ALEXNET_COURSE_CACHE", str(tmp_path / "cache"))
    # What Python has compiled is stored, as it usually is, but not beside the files, where that may be forbidden.
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path / "compiled"))
    for split in ("train", "test"):
        load_dataset("doodles", split)
    best = {"imported": float("inf"), "started": float("inf")}
    for attempt in range(4):
        done = subprocess.run([sys.executable, "-c", START], capture_output=True, text=True, check=True)
        if attempt:  # the first compiles
            found = json.loads(done.stdout)
            slowness = max(1, found["libraries"] / SLOW)
            best = {key: min(best[key], found[key] / slowness) for key in best}
            if best["imported"] <= 0.3 and best["started"] <= 2:
                break
    assert best["imported"] <= 0.3
    assert best["started"] <= 2


MEMORY = """
import resource

import torch

from alexnet_course.data import Dataset
from alexnet_course.recipe import Recipe
from alexnet_course.training import train


def data(count):
    images = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8)
    return Dataset(images, torch.arange(count) % 10, tuple("abcdefghij"), "noise")


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def make_and_train(train_set):
    recipe = Recipe(model="lenet5", batch_size=64, epochs=1, precision="fp32", validation_size=0.1)
    run = train(recipe, train_set=train_set, test_set=few, device="cpu")
    images, labels = next(iter(run.trainer.train_loader))
    run.trainer.step(images, labels)
    return run


few = data(200)
make_and_train(few)  # libraries, threads and buffers
many = data(60_000)
pixels = many.images.numel()
before = peak()
run = make_and_train(many)
assert run.trainer.train_loader.images.data_ptr() == run.trainer.val_loader.images.data_ptr() == many.images.data_ptr()
assert run.trainer.train_loader.labels.data_ptr() == run.trainer.val_loader.labels.data_ptr() == many.labels.data_ptr()
print(pixels, peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux counts the peak in known units")
def test_images_cost_their_pixels_once():
    """60,000 images are 184 MB; the run that trains and validates on them needs hardly more."""
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    pixels, more = map(int, done.stdout.split())
    assert pixels == 184_320_000
    assert more < pixels / 3
