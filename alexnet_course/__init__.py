"""AlexNet, rebuilt: the networks, the data, the trainer and the records behind the course."""

__version__ = "0.1.0"

from alexnet_course.data import Dataset, load_dataset
from alexnet_course.errors import CourseError
from alexnet_course.models import build_model, list_models, register_model, summary
from alexnet_course.pretrained import list_pretrained, load_pretrained
from alexnet_course.recipes import list_recipes, load_recipe
from alexnet_course.records import load_records
from alexnet_course.records.results import results_table
from alexnet_course.shapes import conv_output_size, layer_table
from alexnet_course.training import Recipe, evaluate, fit, resume, train

__all__ = [
    "CourseError",
    "Dataset",
    "Recipe",
    "build_model",
    "conv_output_size",
    "evaluate",
    "fit",
    "layer_table",
    "list_models",
    "list_pretrained",
    "list_recipes",
    "load_dataset",
    "load_pretrained",
    "load_recipe",
    "load_records",
    "register_model",
    "results_table",
    "resume",
    "summary",
    "train",
]
