"""The learning-rate range test takes the steps of a run, at rates that rise."""

import math

import pytest
import torch
import torch.nn.functional as F

from alexnet_course import CourseError, Recipe, train
from alexnet_course.training import lr_range_test, trainer

SMALL = Recipe(model="cnn4", batch_size=20, label_smoothing=0.1, precision="fp32", schedule="constant")


def test_the_rate_rises_by_the_same_factor_from_end_to_end(few):
    points = lr_range_test(SMALL, train_set=few["train_set"], device="cpu", lowest=1e-4, highest=1e-2, steps=5)
    rates = [rate for rate, _ in points]
    assert rates == pytest.approx([1e-4, 10**-3.5, 1e-3, 10**-2.5, 1e-2])


def test_its_images_have_the_size_of_a_run_s_first_epoch(few, monkeypatch):
    sizes = []
    build = trainer.build_model

    def noting(*names, **options):
        network = build(*names, **options)
        network.register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].shape[-1]))
        return network

    monkeypatch.setattr(trainer, "build_model", noting)
    recipe = SMALL.replace(first_size=28, epochs=8)
    lr_range_test(recipe, train_set=few["train_set"], device="cpu", lowest=1e-4, highest=1e-2, steps=3)
    assert sizes[-3:] == [recipe.training_size(1)] * 3 == [28] * 3


@pytest.mark.slow
def test_at_one_rate_it_is_a_run_of_the_trainer(data):
    """Same first weights, same batches, same loss: with hardly any rise, the same numbers."""
    rate, epochs = 1e-3, 2
    run = train(SMALL.replace(lr=rate, epochs=epochs), **data)
    expected = [epoch.train_loss for epoch in run]
    a_little_more = rate * (1 + 1e-9)
    points = lr_range_test(
        SMALL,
        train_set=data["train_set"],
        device="cpu",
        lowest=rate,
        highest=a_little_more,
        steps=epochs * len(run.trainer.train_loader),
    )
    losses = torch.tensor([loss for _, loss in points]).reshape(epochs, -1).mean(1)
    assert losses.tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_it_stops_where_the_loss_explodes(data):
    # Without momentum and augmentation the network learns two colours in a few steps, and then meets absurd rates.
    recipe = SMALL.replace(crop=0, flip=False, label_smoothing=0.0)
    points = lr_range_test(recipe, train_set=data["train_set"], device="cpu", lowest=1e-2, highest=1e3, steps=60)
    losses = [loss for _, loss in points]
    assert len(points) < 60
    assert all(math.isfinite(loss) for loss in losses)
    least = torch.tensor(losses).cummin(0).values.tolist()
    assert all(loss <= 4 * low for loss, low in zip(losses[1:-1], least, strict=False))


def test_a_loss_that_is_not_finite_is_left_out(data, monkeypatch):
    calls = []
    cross_entropy = F.cross_entropy

    def breaks_at_the_third(logits, labels, label_smoothing):
        calls.append(label_smoothing)
        return cross_entropy(logits, labels) * (math.inf if len(calls) == 3 else 1)

    monkeypatch.setattr(F, "cross_entropy", breaks_at_the_third)
    points = lr_range_test(SMALL, train_set=data["train_set"], device="cpu", lowest=1e-5, highest=1e-4, steps=9)
    assert len(points) == 2
    assert calls == [0.1] * 3


def test_it_looks_at_no_image_that_it_does_not_train_on(data, monkeypatch):
    def evaluate_batches(*_arguments):
        raise AssertionError("evaluated")

    monkeypatch.setattr(trainer, "evaluate_batches", evaluate_batches)
    lr_range_test(SMALL, train_set=data["train_set"], device="cpu", steps=12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"lowest": 1.0}, "do not rise"), ({"lowest": 0.0}, "do not rise"), ({"steps": 1}, "at least 2")],
)
def test_a_range_that_is_none_is_refused(few, settings, message):
    with pytest.raises(CourseError, match=message):
        lr_range_test(SMALL, train_set=few["train_set"], device="cpu", **settings)
