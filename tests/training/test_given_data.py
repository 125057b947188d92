"""Data sets that are given to a run: what does not fit is refused before the first step."""

import math

import pytest
import torch

from alexnet_course.data import Dataset
from alexnet_course.errors import CourseError
from alexnet_course.recipe import Recipe
from alexnet_course.training import evaluate, train


def small(**changes: object) -> Recipe:
    values = {"model": "cnn4", "epochs": 1, "batch_size": 32, "precision": "fp32", "validation_size": 20, "lr": 0.01}
    return Recipe(**{**values, **changes})


@pytest.mark.parametrize("given", ["train_set", "test_set"])
def test_half_a_pair_is_refused(data, given):
    """Or the other half would be the doodles that a recipe trains on by default."""
    with pytest.raises(CourseError, match=r"'two-colours' is given without a .*, 'doodles'; give both, or neither"):
        train(small(), **{given: data[given]})


def test_no_test_images_are_refused(data):
    with pytest.raises(CourseError, match="'two-colours' has no test images"):
        train(small(), **{**data, "test_set": data["test_set"].subset([])})


def test_one_class_is_refused(data):
    one = {name: data[name].of_classes(["red"]) for name in ("train_set", "test_set")}
    with pytest.raises(CourseError, match="'two-colours' has 1 class; expected two or more"):
        train(small(), **one)


def test_a_channel_that_is_the_same_everywhere_trains(data):
    def without_blue(dataset: Dataset) -> Dataset:
        images = dataset.images.clone()
        images[:, 2] = 7
        return Dataset(images, dataset.labels, dataset.classes, "no-blue")

    run = train(small(), **{name: without_blue(data[name]) for name in ("train_set", "test_set")})
    (epoch,) = run
    assert math.isfinite(epoch.train_loss)
    assert run.std[2] == 1.0
    assert run.mean[2] == pytest.approx(7 / 255)


def test_constants_that_would_divide_by_nothing_are_refused(data):
    model = train(small(), **data).model
    for std in ((1.0, 1.0, 0.0), (1.0, -1.0, 1.0), (1.0, math.nan, 1.0)):
        with pytest.raises(CourseError, match="would divide by a number that is not above 0"):
            evaluate(model, data["test_set"], mean=(0.5, 0.5, 0.5), std=std)


def test_label_noise_is_recorded_as_what_it_is(data):
    """Written in place after the fingerprint was asked for."""
    noisy = Dataset(data["train_set"].images, data["train_set"].labels.clone(), ("red", "blue"), "two-colours")
    clean = noisy.fingerprint
    noisy.labels[:10] = 1 - noisy.labels[:10]
    run = train(small(), **{**data, "train_set": noisy})
    list(run)
    assert run.record.dataset.fingerprint == noisy.fingerprint != clean
    assert torch.equal(noisy.labels[10:], data["train_set"].labels[10:])
