"""Recipe in, trained network and record out."""

from alexnet_course.training.evaluation import Evaluation, evaluate, wilson_interval
from alexnet_course.training.loop import EpochResult, Run, TrainingStopped, resume, train
from alexnet_course.training.precision import choose_device, choose_precision
from alexnet_course.training.range_test import lr_range_test
from alexnet_course.training.recipe import Recipe
from alexnet_course.training.record import load_run
from alexnet_course.training.statistics import LayerStatistics
from alexnet_course.training.transfer import carry_features, freeze, thaw
from alexnet_course.training.watching import fit

__all__ = [
    "EpochResult",
    "Evaluation",
    "LayerStatistics",
    "Recipe",
    "Run",
    "TrainingStopped",
    "carry_features",
    "choose_device",
    "choose_precision",
    "evaluate",
    "fit",
    "freeze",
    "load_run",
    "lr_range_test",
    "resume",
    "thaw",
    "train",
    "wilson_interval",
]
