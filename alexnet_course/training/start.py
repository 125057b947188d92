"""Pretrained weights that a run can start from: those of torchvision's AlexNet, trained on ImageNet.

torchvision's network is that of "One weird trick" (Krizhevsky 2014), ``alexnet-owt`` here.
"""

from __future__ import annotations

import pickle
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import torch
from torch import Tensor, nn

from alexnet_course.data.cache import cache_dir
from alexnet_course.data.download import Mirror, NotPublished, checksum, download
from alexnet_course.errors import CourseError, first_line
from alexnet_course.files import expanded
from alexnet_course.models import build_model
from alexnet_course.models.registry import without_values
from alexnet_course.recipe import IMAGENET_MODEL
from alexnet_course.training.transfer import carry_features

IMAGENET_CLASSES = 1000
HIDDEN = ("classifier.1", "classifier.4")


def start_from_imagenet(model: nn.Module, fetch: bool = True) -> set[str]:
    """Copy ImageNet weights into ``model``, an ``alexnet-owt``: all features and, if they have the published size, both
    hidden layers. The last layer is left unchanged, since its classes differ. Returns ``carried(model)``.

    Raises ``CourseError`` if the features do not fit, or if there is no file of these weights and, with ``fetch``, it
    cannot be downloaded.
    """
    source = _published()
    names = carried(model)
    source.load_state_dict(imagenet_weights(fetch), assign=True)
    carry_features(source, model)
    theirs = source.state_dict()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name in names:
                weight.copy_(theirs[name])
    return names


def carried(model: nn.Module) -> set[str]:
    """The names of the weights that ``start_from_imagenet`` copies, known without loading them: the body of the
    network. All other weights are its head."""
    published = _published().state_dict()
    return {
        name
        for name, weight in model.named_parameters()
        if name.startswith(("features.", *HIDDEN)) and name in published and published[name].shape == weight.shape
    }


def imagenet_weights(fetch: bool = True) -> dict[str, Tensor]:
    """torchvision's weights by name, from its file in PyTorch's folder (``torch.hub.get_dir()``) or in the course's
    download folder; with ``fetch``, a missing file is downloaded there.

    The file's name ends with the first digits of its SHA-256, which is checked each time. Raises ``CourseError`` if
    there is no such file.
    """
    from torchvision.models import AlexNet_Weights

    url = AlexNet_Weights.IMAGENET1K_V1.url
    name = PurePosixPath(urlsplit(url).path).name
    digits = PurePosixPath(name).stem.rpartition("-")[2]
    own = cache_dir() / name
    remedy = f"put torchvision's file {name} into {str(own.parent)!r}"

    def take(file: Path, path: Path = own) -> Path:
        found = checksum(file, "sha256")
        if not found.startswith(digits):
            raise NotPublished(f"its SHA-256 begins with {found[: len(digits)]}, not with {digits}")
        return file.replace(path) if file != path else path  # which may be in a read-only folder

    places = (expanded(torch.hub.get_dir()) / "checkpoints" / name, own)
    path = next((place for place in places if place.is_file()), None)
    try:
        if path is not None:
            take(path, path)
        elif fetch:
            path = download(name, [Mirror(url, own, take)], remedy)
        else:
            raise CourseError(f"There is no {name}, the weights that start = 'imagenet' needs; {remedy}.")
        weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except NotPublished as error:
        raise CourseError(f"{str(path)!r} is not torchvision's file: {error}; remove it to download it "
                          "again.") from None  # fmt: skip
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise CourseError(f"{str(path)!r} cannot be read ({first_line(error):.200}); remove it, or {remedy}.") from None
    return weights


def _published() -> nn.Module:
    """The network of these weights on the meta device: shapes without values."""
    return without_values(lambda: build_model(IMAGENET_MODEL, num_classes=IMAGENET_CLASSES))
