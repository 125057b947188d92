"""Gives a process the emulated card that ALEXNET_COURSE_EMULATED names, and tiny budgets for the full profile.

Python imports a module of this name by itself when it starts. It is at work in the processes that a test starts with
this folder on their path, and in all that these start.
"""

import atexit
import os
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2]
sys.path.append(str(TESTS / "accelerator"))

import torch  # noqa: E402
from emulation import emulated  # noqa: E402
from emulation.cards import CARDS  # noqa: E402

emulation = emulated(CARDS[os.environ["ALEXNET_COURSE_EMULATED"]])
emulation.__enter__()
torch.compile = lambda model: model  # which is not emulated
atexit.register(emulation.__exit__, None, None, None)

spec = spec_from_file_location("tiny", TESTS / "colab" / "tiny" / "sitecustomize.py")
tiny = module_from_spec(spec)
spec.loader.exec_module(tiny)
for name in (
    "alexnet-cifar-3x3",
    "alexnet-cifar-5x5",
    "alexnet-cifar-5x5-lrn",
    "alexnet-lrn",
    "vgg-style",
):
    tiny.NARROW[name] = {"hidden": 64}  # here every weight is copied in every step

if {"bench", "--multiprocessing-fork"} & set(sys.orig_argv):  # the bench and its contenders
    from alexnet_course import bench

    real_bench, real_profile = bench.bench, bench._profile
    # PyTorch's profiler asks CUDA itself, which is not there.
    bench._profile = lambda step, device: real_profile(step, bench.torch.device("cpu"))
    bench.MATRIX_SIDE["cuda"], bench.BATCH["cuda"] = 64, 16
    bench.bench = lambda model, *data, **options: real_bench("cnn4", *data, **options | {"repeats": 1, "seconds": 0.1})

if "speed" in sys.orig_argv:  # two dozen runs, of which only the steps count
    tiny.BATCHES, tiny.BATCH_SIZE = 2, 4
