"""The split into training and validation images, and the normalisation of both."""

from __future__ import annotations

import torch
from torch import Tensor

from alexnet_course.data import Dataset
from alexnet_course.errors import CourseError
from alexnet_course.recipe import NORMALISATIONS, Recipe


def divide(recipe: Recipe, train_set: Dataset) -> tuple[Tensor, Tensor]:
    """Indices of the training and of the validation images, int64, ascending. A data set with a validation set of its
    own is not split."""
    if train_set.held_out is not None:
        validation = train_set.held_out
        every = torch.arange(len(train_set))
        fitting = every[~torch.isin(every, validation)]
    else:
        size = image_count("validation_size", recipe.validation_size, len(train_set))
        fitting, validation = train_set.split_indices(size, recipe.seed)
    if recipe.train_size not in (1, len(fitting)):
        wanted = image_count("train_size", recipe.train_size, len(fitting))
        _, fitting = train_set.split_indices(wanted, recipe.seed, among=fitting)
    return fitting, validation


def image_count(key: str, size: float, available: int) -> int:
    """The number of images that ``size`` means: itself, or that fraction of ``available`` if it is below 1."""
    count = round(size * available) if size < 1 else int(size)
    if not 0 < count < available:
        if available < 2:
            raise CourseError(f"{available} training image cannot be divided for {key} = {size:g}; give more images.")
        raise CourseError(f"{key} = {size:g} would be {count} of {available} training images; give a number that "
                          f"leaves some in both parts, for example {max(1, available // 10)}.")  # fmt: skip
    return count


def normalisation(recipe: Recipe, train_set: Dataset, fitting: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel: of the images at ``fitting`` only, or the recipe's constants."""
    name, channels = recipe.normalisation, train_set.images.shape[1]
    if name == "dataset":
        mean, std = train_set.channel_statistics(fitting)
        return mean, tuple(value or 1.0 for value in std)  # a constant channel becomes 0
    mean, std = NORMALISATIONS[name]
    if channels != len(mean):
        raise CourseError(f"normalisation = {name!r} has constants for RGB, but the images have {channels} channels; "
                          "set normalisation = 'dataset'.")  # fmt: skip
    return mean, std
