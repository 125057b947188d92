"""AlexNet, rebuilt: the networks, the data, the trainer and the records behind the course.

Names are imported on first use, so code that does not need PyTorch does not wait for it.
"""

from typing import TYPE_CHECKING

from alexnet_course.lazy import lazily

if TYPE_CHECKING:
    from alexnet_course.data import Dataset, load_dataset
    from alexnet_course.errors import CourseError
    from alexnet_course.export import export_network
    from alexnet_course.models import build_model, list_models, register_model, summary
    from alexnet_course.prediction import predict
    from alexnet_course.pretrained import list_pretrained, load_pretrained
    from alexnet_course.recipe import Recipe
    from alexnet_course.recipes import list_recipes, load_recipe
    from alexnet_course.records import load_records
    from alexnet_course.results.table import results_table
    from alexnet_course.shapes import conv_output_size, layer_table
    from alexnet_course.training import evaluate, resume, train
    from alexnet_course.version import __version__ as __version__
    from alexnet_course.watching import fit

__all__ = [
    "CourseError",
    "Dataset",
    "Recipe",
    "build_model",
    "conv_output_size",
    "evaluate",
    "export_network",
    "fit",
    "layer_table",
    "list_models",
    "list_pretrained",
    "list_recipes",
    "load_dataset",
    "load_pretrained",
    "load_recipe",
    "load_records",
    "predict",
    "register_model",
    "results_table",
    "resume",
    "summary",
    "train",
]

_MODULES = {
    "data": ("Dataset", "load_dataset"),
    "errors": ("CourseError",),
    "export": ("export_network",),
    "models": ("build_model", "list_models", "register_model", "summary"),
    "pretrained": ("list_pretrained", "load_pretrained"),
    "prediction": ("predict",),
    "recipe": ("Recipe",),
    "recipes": ("list_recipes", "load_recipe"),
    "records": ("load_records",),
    "results.table": ("results_table",),
    "shapes": ("conv_output_size", "layer_table"),
    "training": ("evaluate", "resume", "train"),
    "version": ("__version__",),
    "watching": ("fit",),
}

if not TYPE_CHECKING:  # a type checker would accept any name through it
    __getattr__, __dir__ = lazily(__name__, _MODULES)
