"""The networks: one file a family, all of them by name in the registry."""

from alexnet_course.models.alexnet import AlexNet, D2LAlexNet
from alexnet_course.models.cnn4 import CNN4
from alexnet_course.models.layers import INITIALISATIONS, initialise, local_response_norm
from alexnet_course.models.lenet import LeNet5
from alexnet_course.models.network import Network
from alexnet_course.models.registry import (
    MODELS,
    ModelSpec,
    build_model,
    list_models,
    load_networks,
    measured,
    register_model,
)
from alexnet_course.models.summary import summary
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
    "list_models",
    "load_networks",
    "local_response_norm",
    "measured",
    "register_model",
    "summary",
]
