import dataclasses
import re
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from alexnet_course.data import Dataset
from alexnet_course.data.augment import Changes
from alexnet_course.data.batches import BatchLoader
from alexnet_course.errors import CourseError
from alexnet_course.models import build_model
from alexnet_course.optim import make_optimiser, make_schedule, one_cycle
from alexnet_course.recipe import Recipe
from alexnet_course.results.verify import verify
from alexnet_course.training import Run, Trainer, TrainingStopped, evaluate, saving, train, trainer, wilson_interval
from alexnet_course.training.division import image_count
from alexnet_course.training.evaluation import evaluate_batches
from alexnet_course.training.finished import load_run
from alexnet_course.training.folder import RunFolder
from alexnet_course.watching import fit

CPU = torch.device("cpu")


def small(**changes: object) -> Recipe:
    """A run of a second: cnn4 on 100 training and 20 validation images."""
    values = {"model": "cnn4", "epochs": 2, "batch_size": 32, "precision": "fp32", "validation_size": 20, "lr": 0.05}
    return Recipe(**{**values, **changes})


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_a_run_yields_one_result_an_epoch_and_learns(data):
    run = train(small(epochs=4), **data)
    results = list(run)
    assert [result.epoch for result in results] == [1, 2, 3, 4]
    assert [entry["val_accuracy"] for entry in run.history] == [result.val_accuracy for result in results]
    assert results[-1].train_loss < results[0].train_loss
    assert run.record.test_accuracy > 0.9
    assert all(result.images_per_second > 0 and result.seconds > 0 for result in results)
    assert next(run, None) is None


@pytest.mark.slow
def test_the_same_seed_gives_the_same_run_and_another_seed_another(data):
    everything = {"flip": True, "crop": 4, "cutout": 8, "colour_pca": 0.1}
    first, second, other = (fit(small(seed=s, **everything), progress=False, **data) for s in (3, 3, 4))
    assert same_weights(first.model, second.model)
    assert not same_weights(first.model, other.model)
    for entry, again in zip(first.history, second.history, strict=True):
        for key in ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr"):
            assert entry[key] == again[key]


class HostReads(TorchDispatchMode):
    """Counts the operations that make the processor wait for the device: a tensor's value or a data-dependent size."""

    WAITING = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.count += operation in self.WAITING
        return operation(*args, **(kwargs or {}))


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_nothing_is_read_back_inside_an_epoch(data, optimiser):
    run = train(small(optimiser=optimiser, crop=4, flip=True, cutout=8, colour_pca=0.1, epochs=1), **data)
    after_each_step = []
    with HostReads() as reads:
        run.on_step = lambda: after_each_step.append(reads.count)
        next(run)
    assert len(after_each_step) == len(run.trainer.train_loader) == 3
    assert len(set(after_each_step)) == 1  # the first step may import parts of torch that read something once
    assert reads.count > after_each_step[-1]  # after the epoch; so the count works


def test_the_test_images_are_read_once_and_at_the_end(data, monkeypatch):
    seen: list[tuple[int, int]] = []
    evaluate_run = Trainer.evaluate

    def noted(trainer: Trainer, dataset: Dataset, *rest: object) -> object:
        seen.append((len(trainer.history), len(dataset)))
        return evaluate_run(trainer, dataset, *rest)

    monkeypatch.setattr(Trainer, "evaluate", noted)
    fit(small(epochs=3), progress=False, **data)
    assert seen == [(3, len(data["test_set"]))]


def test_normalisation_comes_from_the_training_images_without_the_held_out_ones(data):
    run = train(small(), **data)
    fitting, validation = data["train_set"].split_validation(20, 0)
    assert (run.mean, run.std) == fitting.channel_statistics() != data["train_set"].channel_statistics()
    for loader, part in ((run.trainer.train_loader, fitting), (run.trainer.val_loader, validation)):
        assert torch.equal(loader.images[loader.indices], part.images)
        assert torch.equal(loader.labels[loader.indices], part.labels)


@pytest.mark.parametrize(("name", "mean", "std"), [("half", 0.5, 0.5), ("imagenet", 0.485, 0.229), ("none", 0.0, 1.0)])
def test_normalisation_with_fixed_constants(data, name, mean, std):
    run = train(small(normalisation=name), **data)
    assert (run.mean[0], run.std[0]) == (mean, std)
    images = run.trainer.val_loader.prepare(data["train_set"].images[:2])
    expected = (data["train_set"].images[:2, 0].float() / 255 - mean) / std
    assert torch.allclose(images[:, 0], expected)
    next(run)
    assert evaluate(run.model, data["test_set"], mean=run.mean, std=run.std).loss == run.evaluate(data["test_set"]).loss


def test_fixed_constants_are_for_rgb(data):
    grey = {key: Dataset(part.images[:, :1], part.labels, part.classes, "grey")
            for key, part in data.items() if isinstance(part, Dataset)}  # fmt: skip
    with pytest.raises(
        CourseError, match=r"^normalisation = 'half' has constants for RGB, but .* have 1 channels; set"
    ):
        train(small(normalisation="half"), **grey, device="cpu")


@pytest.mark.slow
def test_more_outputs_than_classes_as_s3_had_them(data, tmp_path):
    run = fit(small(outputs=5, epochs=4), progress=False, out=tmp_path / "run", **data)
    assert run.record.parameters == sum(w.numel() for w in build_model("cnn4", 5).parameters())
    assert len(run.record.confusion_matrix) == 2
    assert run.record.test_accuracy > 0.9
    assert verify(tmp_path / "run") == []
    model, _ = load_run(tmp_path / "run")
    assert same_weights(model, run.model)
    with pytest.raises(
        CourseError, match=r"^outputs = 1 is too few for 2 classes; leave outputs out, or give at least"
    ):
        train(small(outputs=1), **data)


def accuracies(monkeypatch: pytest.MonkeyPatch, *values: float) -> None:
    """Let the validations of a run come out as these, and its test as the last."""
    left = list(values)

    def instead(*arguments: object) -> object:
        found = evaluate_batches(*arguments)
        return dataclasses.replace(found, accuracy=left.pop(0) if len(left) > 1 else left[0])

    monkeypatch.setattr(trainer, "evaluate_batches", instead)


@pytest.mark.slow
def test_a_run_stops_when_it_makes_no_progress(data, monkeypatch, tmp_path):
    accuracies(monkeypatch, 0.5, 0.6, 0.6, 0.55, 0.7)
    run = fit(small(epochs=9, stop_after=2), progress=False, out=tmp_path / "run", **data)
    assert [entry["val_accuracy"] for entry in run.history] == [0.5, 0.6, 0.6, 0.55]
    assert run.trainer.over
    assert len(run.record.history) == 4
    again = train(small(epochs=9, stop_after=2), out=tmp_path / "run", **data)  # finished, so there is nothing to do
    assert list(again) == []
    assert again.record == run.record


@pytest.mark.slow
def test_a_run_stops_at_a_training_accuracy(data, tmp_path):
    alone = fit(small(epochs=4), progress=False, **data)
    reached = [entry["train_accuracy"] for entry in alone.history]
    assert reached[0] < reached[1] <= 1
    stopped = fit(small(epochs=4, stop_at=reached[1]), progress=False, out=tmp_path / "run", **data)
    assert [entry["train_accuracy"] for entry in stopped.history] == reached[:2]
    assert [problem for problem in verify(tmp_path / "run") if "history" in problem] == []
    assert len(fit(small(epochs=2, stop_at=1.0), progress=False, **data).history) == 2  # not reached


@pytest.mark.slow
def test_validation_images_are_augmented_where_the_recipe_says_so(data):
    """Each epoch with changes of its own, and the training as without them."""
    plain, changed = (fit(small(augmented_validation=on, **LOUD), progress=False, **data) for on in (False, True))
    assert same_weights(plain.model, changed.model)
    assert plain.record.test_accuracy == changed.record.test_accuracy
    found = [[entry["val_loss"] for entry in run.history] for run in (plain, changed)]
    assert all(one != other for one, other in zip(*found, strict=True))
    trainer = changed.trainer
    losses = []
    for trainer.epoch in (1, 2, 1):
        with trainer.computing():
            losses.append(trainer.validate().loss)
    assert losses[0] == losses[2] != losses[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "epochs"),
    [
        ({}, 3),  # the rate falls after the third epoch
        ({"drop_restarts": True}, 5),
        ({"equal_is_better": True}, 5),  # counted from the third epoch, and the rate falls after the fifth
        ({"equal_is_better": True, "drop_restarts": True}, 7),
    ],
)
def test_what_counts_as_progress_and_from_where(data, monkeypatch, tmp_path, changes, epochs):
    plan = small(epochs=9, schedule="plateau", patience=1, max_drops=1, stop_after=2, **changes)
    accuracies(monkeypatch, 0.6, 0.5, 0.6, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5)
    run = fit(plan, progress=False, out=tmp_path / "run", **data)
    assert len(run.history) == epochs
    assert [problem for problem in verify(tmp_path / "run") if "history" in problem or " lr " in problem] == []


def test_the_rate_does_not_fall_while_the_accuracy_rises_by_less_than_a_ten_thousandth():
    """As it can on more than 10,000 validation images; where weights are kept and runs stopped, that is progress."""
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    _, plateau = make_schedule(optimiser, small(schedule="plateau", patience=0), steps_per_epoch=1)
    for accuracy in (0.9, 0.90005, 0.9001):
        plateau.step(accuracy)
    assert optimiser.param_groups[0]["lr"] == 0.1
    plateau.step(0.9001)
    assert optimiser.param_groups[0]["lr"] == pytest.approx(0.01)


@pytest.mark.slow
def test_a_plateau_goes_back_to_the_last_of_equal_weights(data, monkeypatch):
    plan = small(epochs=4, schedule="plateau", patience=0, restore_best=True, equal_is_better=True)
    accuracies(monkeypatch, 0.6, 0.6, 0.5, 0.5)
    run = train(plan, **data)
    weights = []
    for _ in run:
        weights.append({name: tensor.clone() for name, tensor in run.model.state_dict().items()})
    same = [all(torch.equal(weights[1][name], later[name]) for name in later) for later in weights]
    assert same == [False, True, True, True]


@pytest.mark.slow
def test_a_plateau_goes_back_to_the_best_weights(data, monkeypatch):
    plan = small(epochs=5, schedule="plateau", patience=0, max_drops=1, restore_best=True)
    accuracies(monkeypatch, 0.5, 0.6, 0.4, 0.3, 0.2)
    run = train(plan, **data)
    weights = []
    for _ in run:
        weights.append({name: tensor.clone() for name, tensor in run.model.state_dict().items()})
    same = [all(torch.equal(weights[1][name], later[name]) for name in later) for later in weights]
    assert same == [False, True, True, False, False]  # after epoch 3 it falls, and the weights are those of epoch 2
    assert [entry["lr"] for entry in run.history] == pytest.approx([0.05, 0.05, 0.05, 0.005, 0.005])


def test_a_training_figure_is_the_mean_over_all_images_of_the_epoch(data):
    """Without augmentation, dropout and at a rate of almost 0 the epoch's figures are those of the fixed network."""
    run = train(small(epochs=1, lr=1e-12, crop=0, flip=False, batch_size=25, weight_decay=0), **data)
    fitting, _ = data["train_set"].split_validation(20, 0)
    before = evaluate(run.model, fitting, mean=run.mean, std=run.std)
    result = next(run)
    assert result.train_accuracy == before.accuracy
    assert result.train_loss == pytest.approx(before.loss, rel=1e-5)


def test_evaluate_counts_images_not_batches(data):
    model = build_model("cnn4", num_classes=2)
    mean, std = data["train_set"].channel_statistics()
    results = [evaluate(model, data["test_set"], mean=mean, std=std, batch_size=size) for size in (1, 7, 49, 50, 500)]
    assert len({result.accuracy for result in results}) == 1
    assert results[0].loss == pytest.approx(results[-1].loss, rel=1e-5)
    images = (data["test_set"].images / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    with torch.no_grad():
        logits = model.eval()(images)
    labels = data["test_set"].labels
    assert results[0].accuracy == (logits.argmax(1) == labels).double().mean().item()
    assert results[0].loss == pytest.approx(functional.cross_entropy(logits, labels).item(), rel=1e-5)
    confusion = results[0].confusion
    assert [sum(row) for row in confusion] == labels.bincount().tolist()
    assert results[0].per_class == {"red": confusion[0][0] / 25, "blue": confusion[1][1] / 25}


def test_evaluate_leaves_the_mode_and_the_weights_alone(data):
    model = build_model("vgg-style-bn", num_classes=2).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    few = data["test_set"].subset(range(4))
    evaluate(model, few, mean=(0.5,) * 3, std=(0.2,) * 3)
    assert model.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.slow
def test_images_are_enlarged_to_what_the_network_takes(few):
    shapes = []
    recipe = Recipe(model="alexnet-d2l", epochs=1, batch_size=4, validation_size=4, precision="fp32")
    run = train(recipe, **few)
    run.model.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(inputs[0].shape)))
    next(run)
    assert set(shapes) == {(4, 3, 224, 224), (12, 3, 224, 224)}


def test_a_size_that_the_network_cannot_take_is_refused_before_training(data):
    with pytest.raises(CourseError, match=r"alexnet-lrn .*32×32"):
        train(Recipe(model="alexnet-lrn", input_size=32, validation_size=20), **data)


def test_the_precision_of_a_run_whose_recipe_leaves_it_open_can_be_given(data):
    run = train(small(precision="auto"), precision="bf16", **data)
    assert (run.precision, run.recipe.precision) == ("bf16", "auto")
    assert train(small(precision="fp32"), precision="bf16", **data).precision == "fp32"
    with pytest.raises(CourseError, match=r"^precision = 'bf17' is not a choice; nearest: bf16"):
        train(small(precision="auto"), precision="bf17", **data)


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_every_precision_trains(data, precision):
    run = fit(small(precision=precision, epochs=4), progress=False, **data)
    assert run.record.environment.precision == precision
    assert run.record.test_accuracy > 0.9
    assert all(weight.dtype == torch.float32 for weight in run.model.parameters())


def test_fp16_takes_the_same_step_as_fp32_within_its_rounding(few):
    """With gradient scaling, as on Colab's T4. One small step, because processors without fp16 emulate it slowly."""
    runs = {p: train(small(model="lenet5", epochs=1, validation_size=4, precision=p), **few) for p in ("fp16", "fp32")}
    start = [weight.detach().clone() for weight in runs["fp16"].model.parameters()]
    for run in runs.values():
        next(run)
    moved = 0.0
    pairs = zip(runs["fp16"].model.parameters(), runs["fp32"].model.parameters(), start, strict=True)
    for half, single, before in pairs:
        moved = max(moved, (single - before).abs().max().item())
        torch.testing.assert_close(half, single, atol=2e-4, rtol=0)
    assert moved > 2e-3


@pytest.mark.parametrize("optimiser", ["sgd", "adam", "adamw", "muon"])
def test_every_optimiser_trains(data, optimiser):
    run = fit(small(optimiser=optimiser, lr=0.05 if optimiser == "sgd" else 2e-3, epochs=4), progress=False, **data)
    assert run.record.test_accuracy > 0.9


def test_label_smoothing_changes_the_training_loss_alone(data):
    plain, smooth = (train(small(epochs=1, lr=1e-12, label_smoothing=s), **data) for s in (0.0, 0.2))
    one, other = next(plain), next(smooth)
    assert one.val_loss == other.val_loss
    assert one.train_loss != other.train_loss


def rates(epochs: int, per_epoch: int, **changes: object) -> list[float]:
    recipe = small(epochs=epochs, lr=0.1, **changes)
    optimiser = make_optimiser(torch.nn.Linear(1, 1), recipe, CPU)
    every_step, every_epoch = make_schedule(optimiser, recipe, per_epoch)
    seen = []
    for _ in range(epochs):
        for _ in range(per_epoch):
            seen.append(optimiser.param_groups[0]["lr"])
            optimiser.step()
            if every_step:
                every_step.step()
        if every_epoch:
            every_epoch.step(*([0.5] if changes["schedule"] == "plateau" else []))
    return seen


def test_schedules():
    assert rates(3, 2, schedule="constant") == [0.1] * 6
    step = rates(4, 1, schedule="step", lr_steps=[1, 3], lr_factor=0.5)
    assert step == pytest.approx([0.1, 0.05, 0.05, 0.025])
    plateau = rates(6, 1, schedule="plateau", patience=1)  # the accuracy never rises
    assert plateau == pytest.approx([0.1, 0.1, 0.1, 0.01, 0.01, 0.001])
    twice = rates(9, 1, schedule="plateau", patience=1, max_drops=2)
    assert twice == pytest.approx([0.1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001, 0.001, 0.001])
    at_once = rates(6, 1, schedule="plateau", patience=1, max_drops=2, keep_dropping=True)
    assert at_once == pytest.approx([0.1, 0.1, 0.1, 0.01, 0.001, 0.001])
    cycle = rates(4, 5, schedule="one-cycle", warmup=0.25)
    assert max(cycle) == cycle[4] == pytest.approx(0.1)
    assert cycle[:5] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1])
    assert all(a > b > 0 for a, b in pairwise(cycle[4:]))
    assert cycle[-1] < 0.002


@pytest.mark.parametrize("total", [1, 2, 3, 10])
@pytest.mark.parametrize("warmup", [0.0, 0.5, 1.0])
def test_one_cycle_of_any_length_stays_between_nothing_and_the_peak(total, warmup):
    shares = [one_cycle(step, total, warmup) for step in range(total + 1)]
    assert all(0 <= share <= 1 for share in shares)
    assert max(shares) == 1


def test_image_count():
    for key in ("validation_size", "train_size"):
        assert image_count(key, 0.1, 50_000) == image_count(key, 5000, 50_000) == 5000
        for size, count in ((50_000, 50_000), (60_000, 60_000), (1e-9, 0)):
            with pytest.raises(CourseError, match=f"^{key} = {size:g} would be {count} of 50000 training images; give"):
                image_count(key, size, 50_000)
    for available in (2, 5, 14):
        with pytest.raises(CourseError, match=f"would be 0 of {available} .*, for example 1\\.$"):
            image_count("validation_size", 0.01, available)
    with pytest.raises(CourseError, match=r"^1 training image cannot be divided for validation_size = 0\.1; give more"):
        image_count("validation_size", 0.1, 1)


def test_train_and_test_images_of_different_classes_are_refused(data):
    other = Dataset(data["test_set"].images, data["test_set"].labels, ("red", "green"), "other")
    with pytest.raises(CourseError, match="do not have the same classes"):
        train(small(), train_set=data["train_set"], test_set=other, device="cpu")


def test_nothing_that_exists_is_overwritten(data, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(CourseError, match="already holds files"):
        train(small(), out=tmp_path, **data)
    with pytest.raises(CourseError, match="is a file; give a folder"):
        train(small(), out=tmp_path / "notes.txt", **data)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_run_under_way_keeps_its_plan_and_its_two_newest_checkpoints(data, tmp_path):
    """And nothing else: weights and record are those of a finished run."""
    run = train(small(epochs=4), out=tmp_path / "run", **data)
    after_each_epoch = []
    for _ in range(3):
        next(run)
        after_each_epoch.append({path.name for path in run.out.iterdir()} - {".lock"})
    epochs = ["checkpoint-000000003.pt", "checkpoint-000000006.pt", "checkpoint-000000009.pt"]
    assert after_each_epoch == [{"run.json", *epochs[:1]}, {"run.json", *epochs[:2]}, {"run.json", *epochs[1:]}]
    assert len(list(run)) == 1
    assert {path.name for path in run.out.iterdir()} == {"predictions.npy", "record.json", "weights.safetensors"}


def test_checkpoints_inside_an_epoch_come_every_so_many_steps_of_it(data, tmp_path):
    run = train(small(epochs=1, batch_size=14), out=tmp_path / "run", checkpoint_steps=3, **data)
    newest = []
    run.on_step = lambda: newest.append(max((path.name for path in run.out.glob("*.pt")), default=None))
    next(run)
    names = [None] * 3 + ["checkpoint-000000003.pt"] * 3 + ["checkpoint-000000006.pt"]
    assert newest == names  # before the save of that step, if there is one


def test_a_run_that_saves_trains_like_one_that_does_not(data, tmp_path):
    saved = fit(small(crop=4), progress=False, out=tmp_path / "run", checkpoint_steps=1, **data)
    assert same_weights(saved.model, fit(small(crop=4), progress=False, **data).model)


def test_a_record_that_cannot_be_written_is_not_lost_silently(data, tmp_path, monkeypatch):
    run = train(small(epochs=1), out=tmp_path / "run", **data)
    monkeypatch.setattr("alexnet_course.training.run.write_record", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(TrainingStopped, match=r"finished, with a test accuracy of \d.*could not be written"):
        next(run)


def test_wilson_interval():
    """Against the values of R's binom.confint(method="wilson") for 8 of 10, and the limits."""
    assert wilson_interval(8, 10) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)
    assert wilson_interval(0, 10)[0] == 0
    assert all(wilson_interval(n, n)[1] == 1 for n in range(1, 100))
    low, high = wilson_interval(8005, 10_000)
    assert 0.792 < low < 0.8005 < high < 0.809


# --- Part of the training images -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [40, 0.4])
def test_train_size_takes_a_stratified_part_of_what_is_not_held_out(data, size):
    whole, run = (train(small(train_size=s, epochs=1), **data) for s in (1.0, size))
    used, held_out = run.trainer.train_loader.indices, run.trainer.val_loader.indices
    assert len(used) == 40
    assert data["train_set"].labels[used].bincount().tolist() == [20, 20]
    assert set(used.tolist()) < set(whole.trainer.train_loader.indices.tolist())
    assert torch.equal(held_out, whole.trainer.val_loader.indices)  # so that validation figures can be compared
    assert (run.mean, run.std) == data["train_set"].channel_statistics(used) != (whole.mean, whole.std)
    list(run)
    counts = [getattr(run.record.dataset, f"{part}_images") for part in ("training", "validation", "test")]
    assert counts == [40, 20, len(data["test_set"])]


def test_which_part_it_is_depends_on_the_seed(data):
    runs = [train(small(train_size=40, seed=seed, validation_size=2), **data) for seed in (0, 0, 1)]
    parts = [run.trainer.train_loader.indices for run in runs]
    assert torch.equal(parts[0], parts[1])
    assert not torch.equal(parts[0], parts[2])


def test_a_part_of_as_many_images_as_there_are_is_all_of_them(data):
    whole, part = (train(small(validation_size=20, train_size=size), **data) for size in (1, 100))
    assert torch.equal(part.trainer.train_loader.indices, whole.trainer.train_loader.indices)


@pytest.mark.parametrize("size", [101, 1e-6])
def test_a_part_that_is_too_large_or_nothing_is_refused(data, size):
    with pytest.raises(CourseError) as caught:
        train(small(train_size=size), **data)
    assert re.fullmatch(rf"train_size = {size:g} would be {round(size)} of 100 training images; [^.]*for example 10\.",
                        str(caught.value))  # fmt: skip


# --- What is pulled towards 0 ----------------------------------------------------------------------------------------


def mixed() -> torch.nn.Sequential:
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Linear(4, 2)
    )
    for weight in network.parameters():
        torch.nn.init.uniform_(weight, 0.5, 1.0)
    return network


@pytest.mark.parametrize("optimiser", ["sgd", "adam", "adamw", "muon"])
@pytest.mark.parametrize(("decay", "shrink"), [("weights", ["0.weight", "3.weight"]), ("all", None)])
def test_decay_pulls_what_it_names(optimiser, decay, shrink):
    network = mixed()
    before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    changes = {"optimiser": optimiser, "decay": decay, "weight_decay": 0.1, "lr": 0.1}
    stepper = make_optimiser(network, small(**changes), CPU)
    for weight in network.parameters():
        weight.grad = torch.zeros_like(weight)  # so that nothing but decay moves a weight
    stepper.step()
    after = dict(network.named_parameters())
    assert len(before) == 6
    assert [name for name in before if (after[name] < before[name]).all()] == (shrink or list(before))
    assert all(torch.equal(after[name], before[name]) for name in before if shrink and name not in shrink)
    held = [weight for group in stepper.param_groups for weight in group["params"]]
    assert len(held) == 6 == len({id(weight) for weight in held})


@pytest.mark.parametrize("schedule", ["constant", "step", "plateau", "one-cycle"])
def test_the_rate_of_every_group_follows_the_schedule(schedule):
    changes = {"step": {"lr_steps": [1]}, "plateau": {"patience": 0}}.get(schedule, {})
    recipe = small(decay="weights", schedule=schedule, **changes)
    stepper = make_optimiser(mixed(), recipe, CPU)
    every_step, every_epoch = make_schedule(stepper, recipe, 3)
    seen = [[group["lr"] for group in stepper.param_groups]]
    for _ in range(3):
        stepper.step()
        if every_step is not None:
            every_step.step()
        if every_epoch is not None:
            every_epoch.step(*([0.5] if schedule == "plateau" else []))
        seen.append([group["lr"] for group in stepper.param_groups])
    assert len(seen) == 4
    assert all(one == other for one, other in seen)
    assert (len({one for one, _ in seen}) == 1) == (schedule == "constant")


# --- S0's test images ----------------------------------------------------------------------------------------------

LOUD = {
    "colour_pca": 10.0,
    "epochs": 3,
    "crop": 0,
}  # colours tell the classes apart, so that no network can see through


@pytest.mark.slow
def test_augmented_test_images_are_measured_beside_the_clean_ones(data):
    """Trained on colours that say nothing, and still: only the second figure may come from changed test images."""
    plain, both, again = (fit(small(augmented_test=on, **LOUD), progress=False, **data) for on in (False, True, True))
    assert plain.record.augmented_test_accuracy is None
    for key in ("test_accuracy", "test_loss", "confusion_matrix", "val_accuracy"):
        assert getattr(both.record, key) == getattr(plain.record, key)
    loader = BatchLoader(
        data["test_set"], 500, mean=both.mean, std=both.std, size=32, augmentation=both.recipe.augmentation,
        generator=torch.Generator().manual_seed(both.recipe.seed),
    )  # fmt: skip
    of_the_training_images = both.trainer.train_loader
    loader.changes = Changes(both.recipe.augmentation, of_the_training_images.images, of_the_training_images.indices)
    by_hand = evaluate_batches(both.model, loader, data["test_set"].classes, "fp32")
    assert both.record.augmented_test_accuracy == by_hand.accuracy == again.record.augmented_test_accuracy
    assert by_hand.loss != both.record.test_loss


def test_augmented_test_images_cost_a_network_that_was_trained_on_clean_ones(data):
    run = train(small(epochs=4, crop=0, flip=False), **data)
    list(run)
    run.recipe = run.trainer.recipe = run.recipe.replace(augmented_test=True, colour_pca=10.0)
    run._finish()
    assert run.record.test_accuracy > 0.9
    assert run.record.augmented_test_accuracy < 0.8


# --- Checkpoints by the clock ----------------------------------------------------------------------------------------


def saves_of(monkeypatch: pytest.MonkeyPatch, run: Run) -> list[int]:
    """The steps at which ``run`` is saved, while it trains to its end."""
    saved: list[int] = []
    save = RunFolder.save

    def noted(folder: RunFolder, state: dict[str, object], step: int) -> None:
        saved.append(step)
        save(folder, state, step)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save", noted)
        list(run)
    return saved


@pytest.mark.parametrize(("seconds", "steps"), [(0.0, [3, 6, 9]), (1e6, [9])])
def test_with_checkpoint_seconds_only_the_last_epoch_is_always_saved(data, tmp_path, monkeypatch, seconds, steps):
    run = train(small(epochs=3), out=tmp_path / "run", **{**data, "checkpoint_seconds": seconds})
    assert saves_of(monkeypatch, run) == steps
    assert {path.name for path in run.out.iterdir()} == {"predictions.npy", "record.json", "weights.safetensors"}


@pytest.mark.slow
def test_checkpoint_seconds_count_from_the_last_save(data, tmp_path, monkeypatch):
    """By a clock that makes 10 seconds of each epoch."""
    run = train(small(epochs=5), out=tmp_path / "run", **{**data, "checkpoint_seconds": 15})
    monkeypatch.setattr(
        saving, "time", SimpleNamespace(perf_counter=lambda: 10.0 * run.trainer.epoch + 1e-3 * run.steps_done)
    )
    run._checkpoints._saved_at = 10.0
    assert saves_of(monkeypatch, run) == [6, 12, 15]
