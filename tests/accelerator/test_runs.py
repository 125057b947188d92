"""Whole runs on a GPU: the format that suits the card, stopped and gone on with here and elsewhere, fp16's overflow."""

import itertools
import warnings
from dataclasses import replace

import pytest
import torch
from emulation import H100, P100, T4, emulated
from torch import nn

from alexnet_course.data import memory
from alexnet_course.errors import CourseError
from alexnet_course.recipe import Recipe
from alexnet_course.training import Hook, Run, choose_device, evaluate, resume, train
from alexnet_course.training.device import resolve_precision
from alexnet_course.training.finished import load_run

RECIPE = Recipe(model="cnn4", epochs=2, batch_size=16, validation_size=16, train_size=64, crop=2, cutout=4, lr=1e-2)
SAVED = 2  # steps, of four an epoch


class Cut(Hook):
    """The lights go out after some steps."""

    def on_step(self, trainer: object) -> None:
        if trainer.steps_done == SAVED + 1:  # which is not saved yet
            raise KeyboardInterrupt


def cut_off(folder, card, device, images, recipe=RECIPE) -> None:
    with emulated(card):
        run = train(recipe, out=folder, device=device, checkpoint_steps=1, hooks=[Cut()], **images)
        with pytest.raises(KeyboardInterrupt):
            list(run)


def same(one: Run, other: Run) -> bool:
    pairs = zip(one.model.state_dict().values(), other.model.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.slow
@pytest.mark.parametrize(("card", "precision"), [(T4, "fp16"), (H100, "bf16")], ids=["T4", "H100"])
def test_a_run_is_in_the_format_of_the_card_and_learns(card, precision, images, tmp_path):
    with emulated(card):
        run = train(RECIPE.replace(epochs=5), out=tmp_path / "run", **images)
        list(run)
        assert (run.device.type, run.precision) == ("cuda", precision)
        assert {tensor.device.type for tensor in run.model.state_dict().values()} == {"cuda"}
    assert run.record.environment.device == card.name
    assert run.record.environment.precision == precision
    assert run.record.test_accuracy > 0.8
    model, record = load_run(tmp_path / "run")  # on a machine without a GPU
    assert record == run.record
    assert next(model.parameters()).device.type == "cpu"


def test_a_card_that_pytorch_has_no_code_for_is_left_alone(images):
    with emulated(P100):
        with pytest.warns(UserWarning, match="no code for Tesla P100-PCIE-16GB, whose compute capability is 6.0"):
            assert choose_device("auto").type == "cpu"
        with pytest.raises(CourseError, match="no code for Tesla P100"):
            choose_device("cuda")
        with pytest.warns(UserWarning, match="the CPU is used instead"):
            run = train(RECIPE.replace(precision="fp32"), **images)
        list(run)
    assert run.device.type == "cpu"


def test_a_second_card_is_not_there(h100):
    with pytest.raises(CourseError, match=r"'cuda:1' does not exist; this machine has 1 GPU"):
        choose_device("cuda:1")
    assert resolve_precision("auto", choose_device("cuda:0")) == "bf16"


@pytest.mark.parametrize("why", ["larger than the memory", "larger than the card's"])
def test_images_that_do_not_fit_are_trained_on_as_if_they_did(why, images, h100, monkeypatch):
    recipe = RECIPE.replace(epochs=1, colour_pca=0.1)
    resident = train(recipe, **images)
    list(resident)
    if why == "larger than the memory":
        images = {name: replace(part, streamed=True) for name, part in images.items()}
    else:
        monkeypatch.setattr(memory, "SHARE", 0.0)
    streamed = train(recipe, **images)
    assert streamed.trainer.train_loader.images.device.type == "cpu"
    assert streamed.trainer.train_loader.labels.device.type == "cuda"
    list(streamed)
    assert same(resident, streamed)
    assert resident.record.predictions == streamed.record.predictions


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [RECIPE, RECIPE.replace(model_options={"lrn": True})], ids=["plain", "lrn"])
@pytest.mark.parametrize("card", [T4, H100], ids=["T4", "H100"])
def test_a_run_goes_on_on_the_same_card_to_the_bit(card, recipe, images, tmp_path):
    with emulated(card):
        whole = train(recipe, **images)
        list(whole)
    cut_off(tmp_path / "run", card, "cuda", images, recipe)
    with emulated(card), warnings.catch_warnings():
        warnings.simplefilter("error")
        resumed = resume(tmp_path / "run", **images)
        assert resumed.steps_done == SAVED
        list(resumed)
        assert same(whole, resumed)
    assert resumed.record.confusion_matrix == whole.record.confusion_matrix


@pytest.mark.slow
def test_dropout_goes_on_on_a_card_as_if_nothing_had_been(images, tmp_path):
    """Its draws are of the GPU's own generator."""
    recipe = RECIPE.replace(model="vgg-style-bn", model_options={"width": 0.125, "hidden": 16}, epochs=1)
    with emulated(H100):
        whole = train(recipe, **images)
        list(whole)
    cut_off(tmp_path / "run", H100, "cuda", images, recipe)
    with emulated(H100):
        torch.rand(1, device="cuda")  # what another part of the program has drawn
        resumed = resume(tmp_path / "run", **images)
        list(resumed)
        assert same(whole, resumed)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after", "precisions"),
    [
        ((H100, "cuda"), (H100, "cpu"), ("bf16", "fp32")),
        ((H100, "cpu"), (H100, "cuda"), ("fp32", "bf16")),
        ((T4, "cuda"), (T4, "cpu"), ("fp16", "fp32")),
        ((T4, "cpu"), (T4, "cuda"), ("fp32", "fp16")),
        ((T4, "cuda"), (H100, "cuda"), ("fp16", "bf16")),
        ((H100, "cuda"), (T4, "cuda"), ("bf16", "fp16")),
    ],
    ids=lambda value: "-".join(part if isinstance(part, str) else part.name for part in value),
)
def test_a_run_goes_on_on_another_device(before, after, precisions, images, tmp_path, monkeypatch):
    monkeypatch.setattr("alexnet_course.training.device.cpu_has_fast_bf16", lambda: False)
    cut_off(tmp_path / "run", *before, images)
    card, device = after
    ends = []
    for folder in ("run", "copy"):
        if folder == "run":
            copy_folder(tmp_path / "run", tmp_path / "copy")
        with emulated(card):
            with pytest.warns(UserWarning, match="is resumed in another environment"):
                resumed = resume(tmp_path / folder, device=device, **images)
            assert (resumed.device.type, resumed.precision, resumed.steps_done) == (device, precisions[1], SAVED)
            list(resumed)
            ends.append(resumed)
    assert [entry.precision for entry in resumed.record.earlier_environments] == [precisions[0]]
    with emulated(card):
        assert same(*ends)  # the same each time


def copy_folder(source, target) -> None:
    target.mkdir()
    for path in source.iterdir():
        if path.name != ".lock":
            (target / path.name).write_bytes(path.read_bytes())


@pytest.mark.parametrize("optimiser", ["sgd", "adamw", "muon"])
def test_a_step_that_overflows_fp16_is_skipped(optimiser, images, t4):
    """The weights stay, the scale is halved, and the step after it counts."""
    run = train(RECIPE.replace(optimiser=optimiser, lr=1e-4), **images)
    trainer = run.trainer
    trainer.start_epoch()
    weights = [snapshot(run)]
    for step, (batch, labels) in zip(range(3), trainer.train_loader, strict=False):
        scale = trainer.scaler.get_scale()
        if step == 1:
            trainer.scaler._scale.fill_(2.0**40)  # far more than fp16 can hold
        trainer.step(batch, labels)
        if step == 1:
            assert trainer.scaler.get_scale() == 2.0**39
            trainer.scaler._scale.fill_(scale)
        weights.append(snapshot(run))
    changed = [not all(map(torch.equal, one, other)) for one, other in itertools.pairwise(weights)]
    assert changed == [True, False, True]
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weights[-1])


def snapshot(run: Run) -> list[torch.Tensor]:
    return [tensor.clone() for tensor in run.model.state_dict().values()]


@pytest.mark.slow
@pytest.mark.parametrize(
    "model_options",
    [
        {},
        {"lrn": True},
    ],
    ids=["plain", "lrn"],
)
def test_a_deterministic_run_uses_no_kernel_that_cuda_cannot_repeat(model_options, images, h100):
    run = train(RECIPE.replace(model_options=model_options), deterministic=True, **images)
    list(run)
    assert run.record.environment.deterministic is True


def test_a_deterministic_run_leaves_the_choice_of_kernels_as_it_was(images, h100):
    run = train(RECIPE, deterministic=True, **images)
    asked = []
    run.on_step = lambda: asked.append(torch.are_deterministic_algorithms_enabled())
    list(run)
    assert set(asked) == {True}
    assert not torch.are_deterministic_algorithms_enabled()
    plain = train(RECIPE, **images)
    plain.on_step = lambda: asked.append(torch.backends.cudnn.benchmark)
    list(plain)
    assert asked[-1] is True
    assert torch.backends.cudnn.benchmark is False


class LargeValues(nn.Module):
    """A network of a reader's own, with PyTorch's LRN on values whose squares fp16 does not have."""

    def __init__(self, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        self.large = nn.Conv2d(in_channels, 8, 3)
        self.norm = nn.LocalResponseNorm(5)
        self.out = nn.Linear(8, num_classes)
        nn.init.constant_(self.large.bias, 300.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.norm(self.large(x)).mean((2, 3)))


def test_an_evaluation_in_fp16_does_not_overflow_either(images, t4):
    torch.manual_seed(0)
    model, dataset = LargeValues(num_classes=2), images["test_set"]
    constants = {"mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2)}
    exact = evaluate(model, dataset, **constants)
    found = evaluate(model.to("cuda"), dataset, precision="fp16", **constants)
    assert found.loss == pytest.approx(exact.loss, rel=1e-3)
