"""The moving average of the weights: what it is, that it is what counts, and that it goes on to the bit."""

import pytest
import torch

from alexnet_course import fit
from alexnet_course.recipe import Recipe
from alexnet_course.training import Hook, Trainer, TrainingStopped, resume, train
from alexnet_course.training.averaging import EVERY, WeightAverage
from alexnet_course.training.evaluation import evaluate
from alexnet_course.training.transfer import carry_features


def small(**changes: object) -> Recipe:
    """12 steps an epoch, with batch norm and dropout."""
    values = {"model": "cnn4", "epochs": 2, "batch_size": 8, "precision": "fp32", "validation_size": 20, "lr": 0.002}
    return Recipe(**{**values, "ema": 0.9, **changes})


class Weights(Hook):
    """Notes the weights of every step, and the average after each epoch."""

    def __init__(self) -> None:
        self.after_step: dict[int, dict[str, torch.Tensor]] = {}
        self.average: dict[str, torch.Tensor] = {}

    def on_epoch_start(self, trainer: Trainer) -> None:
        if trainer.steps_done == 0:
            self.after_step[0] = {name: value.clone() for name, value in trainer.model.state_dict().items()}

    def on_step(self, trainer: Trainer) -> None:
        self.after_step[trainer.steps_done] = {
            name: value.clone() for name, value in trainer.model.state_dict().items()
        }

    def on_epoch_end(self, trainer: Trainer, result: object) -> None:
        self.average = {name: value.clone() for name, value in trainer.evaluated.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_it_is_the_average_by_its_definition(data):
    weights = Weights()
    run = train(small(epochs=1), hooks=[weights], **data)
    list(run)
    steps = [step for step in weights.after_step if step and step % EVERY == 0]
    assert steps == [5, 10]
    for name, average in weights.average.items():
        expected = weights.after_step[0][name].double()
        for step in steps:
            decay = min(0.9, (1 + step) / (10 + step)) ** EVERY
            expected = decay * expected + (1 - decay) * weights.after_step[step][name].double()
        if not average.is_floating_point():
            expected = weights.after_step[10][name]
        torch.testing.assert_close(average.double(), expected.double(), rtol=1e-5, atol=1e-7)


def test_a_run_of_fewer_steps_is_averaged_as_well(data):
    """Else it would be evaluated with its initial weights."""
    weights = Weights()
    list(train(small(epochs=1, batch_size=50), hooks=[weights], **data))
    assert sorted(weights.after_step) == [0, 1, 2]
    decay = (1 + 2) / (10 + 2)
    for name, average in weights.average.items():
        if average.is_floating_point():
            begun, ended = (weights.after_step[step][name] for step in (0, 2))
            torch.testing.assert_close(average, decay**2 * begun + (1 - decay**2) * ended, rtol=1e-5, atol=1e-7)


def test_it_is_what_is_evaluated_and_what_the_run_ends_with(data):
    weights = Weights()
    run = fit(small(), progress=False, hooks=[weights], **data)
    assert same(run.model.state_dict(), weights.average)
    assert not same(weights.average, weights.after_step[24])
    again = evaluate(run.model, data["test_set"], mean=run.mean, std=run.std, precision=run.precision)
    assert again.accuracy == run.record.test_accuracy == run.evaluate(data["test_set"]).accuracy
    assert again.loss == run.record.test_loss


@pytest.mark.slow
def test_training_itself_is_not_changed(data):
    with_it, without = (fit(small(ema=ema), progress=False, **data) for ema in (0.9, 0.0))
    assert [e["train_loss"] for e in with_it.history] == [e["train_loss"] for e in without.history]
    assert not same(with_it.model.state_dict(), without.model.state_dict())


@pytest.mark.slow
def test_it_goes_on_to_the_bit(data, tmp_path):
    alone = fit(small(), progress=False, **data)
    run = train(small(), out=tmp_path / "run", checkpoint_steps=7, **data)
    run.on_step = lambda: run.stop() if run.steps_done == 8 else None
    with pytest.raises(TrainingStopped, match="at step 8 of "):
        list(run)
    resumed = resume(tmp_path / "run", **data)
    assert resumed.steps_done == 8
    list(resumed)
    assert same(alone.model.state_dict(), resumed.model.state_dict())
    assert alone.history[1]["val_loss"] == resumed.history[1]["val_loss"]
    finished = train(small(), out=tmp_path / "run", **data)
    assert finished.evaluate(data["test_set"]).accuracy == alone.record.test_accuracy


def test_it_begins_with_the_weights_that_a_program_has_put_in(data):
    learned = fit(small(ema=0.0), progress=False, **data).model
    run = train(small(epochs=1, lr=1e-12, weight_decay=0.0), **data)
    carry_features(learned, run.model)
    next(run)
    torch.testing.assert_close(run.model.features[0].weight, learned.features[0].weight)


@pytest.mark.parametrize("steps", [EVERY, 2 * EVERY])
def test_what_is_counted_is_not_averaged(tiny, steps):
    """Batch norm counts its batches in whole numbers."""
    run = train(small(epochs=1, batch_size=16), **tiny)
    average = WeightAverage(run.trainer, decay=0.9)
    run.model[1].num_batches_tracked.fill_(7)
    run.trainer._rates = [0.1] * steps
    average.on_step(run.trainer)
    assert average.model[1].num_batches_tracked == 7
