"""Training: from a recipe to a trained network and its record."""

from alexnet_course.training.calibration import Bin, calibration_error, fit_temperature, reliability
from alexnet_course.training.device import choose_device, choose_precision
from alexnet_course.training.evaluation import Evaluation, evaluate, wilson_interval
from alexnet_course.training.faults import TrainingStopped
from alexnet_course.training.finished import load_run
from alexnet_course.training.hooks import Hook
from alexnet_course.training.layer_statistics import LayerStatistics
from alexnet_course.training.loop import epochs
from alexnet_course.training.progress import EpochResult
from alexnet_course.training.range_test import lr_range_test
from alexnet_course.training.run import Run, RunOptions, resume, train
from alexnet_course.training.trainer import Trainer
from alexnet_course.training.transfer import carry_features, freeze, thaw

__all__ = [
    "Bin",
    "EpochResult",
    "Evaluation",
    "Hook",
    "LayerStatistics",
    "Run",
    "RunOptions",
    "Trainer",
    "TrainingStopped",
    "calibration_error",
    "carry_features",
    "choose_device",
    "choose_precision",
    "epochs",
    "evaluate",
    "fit_temperature",
    "freeze",
    "load_run",
    "lr_range_test",
    "reliability",
    "resume",
    "thaw",
    "train",
    "wilson_interval",
]
