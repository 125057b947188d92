"""What is new comes in from outside, in one place: an optimiser, a schedule, and whoever looks on."""

import math
import re

import pytest
import torch
from torch import Tensor
from torch.optim import lr_scheduler

from alexnet_course.data import SOURCES, Source, load_dataset
from alexnet_course.data.augment import AUGMENTATIONS, Augmentation, AugmentationSpec, Change
from alexnet_course.errors import CourseError
from alexnet_course.optim import OPTIMISERS, SCHEDULES, OptimiserSpec
from alexnet_course.recipe import Recipe
from alexnet_course.training import EpochResult, Hook, Trainer, TrainingStopped, resume, train

OTHERS = {
    "nadam": lambda groups, recipe, fused: torch.optim.NAdam(groups, recipe.lr, weight_decay=recipe.weight_decay),
    "rmsprop": lambda groups, recipe, fused: torch.optim.RMSprop(groups, recipe.lr, momentum=recipe.momentum),
}


def small(**changes: object) -> Recipe:
    """3 steps an epoch, with batch norm and dropout."""
    values = {"model": "cnn4", "epochs": 2, "batch_size": 32, "precision": "fp32", "validation_size": 20, "lr": 1e-3}
    return Recipe(**{**values, **changes})


@pytest.fixture(params=OTHERS)
def optimiser(request, monkeypatch) -> str:
    """The name of one that this package does not have, and that knows nothing of ``found_inf``."""
    monkeypatch.setitem(OPTIMISERS, request.param, OptimiserSpec(OTHERS[request.param], can_be_fused=False))
    return request.param


@pytest.mark.slow
def test_a_recipe_can_name_a_new_optimiser(optimiser, data):
    run = train(small(optimiser=optimiser, epochs=6), **data)
    list(run)
    assert type(run.trainer.optimiser).__name__.lower() == optimiser
    assert run.record.test_accuracy > 0.9
    assert run.record.recipe.optimiser == optimiser


def test_a_new_optimiser_goes_on_to_the_bit(optimiser, data, tmp_path):
    recipe = small(optimiser=optimiser)
    alone = train(recipe, **data)
    list(alone)
    next(train(recipe, out=tmp_path / "run", **data))
    resumed = resume(tmp_path / "run", **data)
    assert resumed.steps_done == 3
    list(resumed)
    for one, other in zip(alone.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_no_optimiser_moves_the_weights_after_numbers_that_are_not_finite(optimiser, data, bad):
    """Neither its momentum nor its weight decay does."""
    run = train(small(optimiser=optimiser), **data)
    after: list[list[Tensor]] = []

    def note() -> None:
        after.append([weight.detach().clone() for weight in run.model.parameters()])
        if run.steps_done == 1:  # from now on every image is as bad as can be
            run.trainer.train_loader.mean.fill_(bad)

    run.on_step = note
    with pytest.raises(TrainingStopped, match="at step 2 of 3"):
        list(run)
    first, second, third = after
    assert all(torch.equal(a, b) and torch.equal(b, c) for a, b, c in zip(first, second, third, strict=True))


def test_a_recipe_can_name_a_new_schedule(monkeypatch, data):
    def halving(optimiser: torch.optim.Optimizer, recipe: Recipe, steps_per_epoch: int) -> tuple[None, object]:
        return None, lr_scheduler.ExponentialLR(optimiser, 0.5)

    monkeypatch.setitem(SCHEDULES, "halving", halving)
    run = train(small(schedule="halving", epochs=3), **data)
    assert [round(result.lr / 1e-3, 6) for result in run] == [1, 0.5, 0.25]


def test_what_nobody_registered_is_refused():
    with pytest.raises(CourseError, match="optimiser = 'nadam' is not a choice; nearest: adam"):
        small(optimiser="nadam")


def test_a_new_data_set_is_one_entry(monkeypatch, data):
    parts = {split: data[f"{split}_set"] for split in ("train", "test")}
    monkeypatch.setitem(SOURCES, "two-colours", Source(lambda split, root: parts[split]))
    run = train(small(dataset="two-colours", epochs=1), device="cpu")
    list(run)
    assert run.record.dataset.fingerprint == parts["train"].fingerprint
    with pytest.raises(CourseError, match="Unknown data set 'two-colour'; expected two-colours"):
        load_dataset("two-colour")


@pytest.mark.slow
def test_a_new_augmentation_is_one_entry(monkeypatch, data, tmp_path):
    """Random erasing with a grey level for each image, as a plugin would add it."""
    seen: list[int] = []

    def grey_square(wanted: Augmentation, images: Tensor, indices: Tensor) -> Change | None:
        side = wanted.others.get("grey-square", 0)

        def change(batch: Tensor, generator: torch.Generator | None, seed: int | None) -> Tensor:
            seen.append(seed is not None)
            level = torch.randint(256, (len(batch), 1, 1, 1), generator=generator).to(batch.dtype)
            return torch.cat([level.expand(-1, batch.shape[1], side, batch.shape[3]), batch[:, :, side:]], 2)

        return change if side else None

    monkeypatch.setitem(AUGMENTATIONS, "grey-square", AugmentationSpec("pixels", grey_square, seeded=True))
    recipe = small(augment={"grey-square": 8}, crop=0, flip=False)
    alone = train(recipe, **data)
    list(alone)
    next(train(recipe, out=tmp_path / "run", **data))
    resumed = resume(tmp_path / "run", **data)
    list(resumed)
    for one, other in zip(alone.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert seen
    assert all(seen)
    assert alone.record.recipe.augment == {"grey-square": 8}
    plain = train(recipe.replace(augment={}), **data)
    next(plain)
    assert plain.history[0]["train_loss"] != alone.history[0]["train_loss"]


def test_an_augmentation_that_nobody_registered_is_refused(data):
    with pytest.raises(CourseError, match="augment names 'cut-out', which is not a registered augmentation; nearest: "
                                          "cutout"):  # fmt: skip
        train(small(augment={"cut-out": 8}), **data)


class Diary(Hook):
    """Notes all that the loop tells it."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def on_epoch_start(self, trainer: Trainer) -> None:
        self.notes.append(f"epoch {trainer.epoch} begins")

    def on_step(self, trainer: Trainer) -> None:
        self.notes.append(f"step {trainer.steps_done}")

    def on_evaluation_batch(self, trainer: Trainer) -> None:
        self.notes.append("held-out batch")

    def on_epoch_end(self, trainer: Trainer, result: EpochResult) -> None:
        self.notes.append(f"epoch {result.epoch} is over")


def test_a_hook_sees_a_run_in_order(data):
    diary = Diary()
    list(train(small(), hooks=[diary], **data))
    epoch = "epoch {0} begins, step {1}, step {2}, step {3}, held-out batch, epoch {0} is over"
    assert ", ".join(diary.notes) == ", ".join(epoch.format(*numbers) for numbers in ((1, 1, 2, 3), (2, 4, 5, 6)))


def test_a_hook_changes_no_bit(data):
    runs = [train(small(), hooks=hooks, **data) for hooks in ((), [Diary()])]
    for run in runs:
        list(run)
    for one, other in zip(*(run.model.parameters() for run in runs), strict=True):
        assert torch.equal(one, other)


def test_a_hook_can_stop_a_run(data, tmp_path):
    class Enough(Hook):
        def on_step(self, trainer: Trainer) -> None:
            if trainer.steps_done == 4:
                run.stop()

    run = train(small(), out=tmp_path / "run", hooks=[Enough()], **data)
    with pytest.raises(TrainingStopped, match=re.escape("Stopped by the program at step 4 of 6; the run is in ")):
        list(run)
    assert resume(tmp_path / "run", **data).steps_done == 4


def test_a_run_without_a_folder_says_that_nothing_is_kept(data):
    run = train(small(), **data)
    run.on_step = run.stop
    with pytest.raises(TrainingStopped, match="at step 1 of 6; it has no folder to be saved in"):
        list(run)


def test_a_deadline_that_is_past_stops_before_the_first_step(data, tmp_path):
    run = train(small(), out=tmp_path / "run", deadline=-math.inf, **data)
    with pytest.raises(TrainingStopped, match="Stopped by its deadline at step 0 of 6"):
        list(run)


def test_a_slip_in_an_option_is_one_sentence(data):
    with pytest.raises(CourseError, match="'devise' is not an option of train; nearest: device"):
        train(small(), devise="cpu", train_set=data["train_set"], test_set=data["test_set"])
