"""Recipe in, trained network and record out."""

from alexnet_course.training.evaluation import Evaluation, evaluate, wilson_interval
from alexnet_course.training.loop import EpochResult, Run, TrainingStopped, resume, train
from alexnet_course.training.precision import choose_device, choose_precision
from alexnet_course.training.recipe import Recipe
from alexnet_course.training.record import load_run
from alexnet_course.training.watching import fit

__all__ = [
    "EpochResult",
    "Evaluation",
    "Recipe",
    "Run",
    "TrainingStopped",
    "choose_device",
    "choose_precision",
    "evaluate",
    "fit",
    "load_run",
    "resume",
    "train",
    "wilson_interval",
]
