"""The networks: one file a family, all of them by name in the registry.

What needs PyTorch is imported when it is first asked for.
"""

from typing import TYPE_CHECKING

from alexnet_course.lazy import lazily
from alexnet_course.models.registry import (
    MODELS,
    build_model,
    list_models,
    load_networks,
    measured,
    register_model,
)
from alexnet_course.models.specs import INITIALISATIONS, ModelSpec
from alexnet_course.models.summary import summary

if TYPE_CHECKING:
    from alexnet_course.models.alexnet import AlexNet, D2LAlexNet
    from alexnet_course.models.cnn4 import CNN4
    from alexnet_course.models.layers import initialise, local_response_norm
    from alexnet_course.models.lenet import LeNet5
    from alexnet_course.models.names import layer_names
    from alexnet_course.models.network import Network
    from alexnet_course.models.vgg import VGGStyle

__all__ = [
    "CNN4",
    "INITIALISATIONS",
    "MODELS",
    "AlexNet",
    "D2LAlexNet",
    "LeNet5",
    "ModelSpec",
    "Network",
    "VGGStyle",
    "build_model",
    "initialise",
    "layer_names",
    "list_models",
    "load_networks",
    "local_response_norm",
    "measured",
    "register_model",
    "summary",
]

_MODULES = {
    "alexnet": ("AlexNet", "D2LAlexNet"),
    "cnn4": ("CNN4",),
    "layers": ("initialise", "local_response_norm"),
    "lenet": ("LeNet5",),
    "names": ("layer_names",),
    "network": ("Network",),
    "vgg": ("VGGStyle",),
}

if not TYPE_CHECKING:  # a type checker would take every name from it
    __getattr__, __dir__ = lazily(__name__, _MODULES)
