"""A step as a CUDA graph is the same step: the same weights to the bit, whatever happens between two of them."""

import warnings
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch
from emulation import H100, T4, emulated, transfers
from torch import nn

from alexnet_course.data import Dataset
from alexnet_course.errors import CourseError
from alexnet_course.models import MODELS, register_model
from alexnet_course.optim import OPTIMISERS, OptimiserSpec
from alexnet_course.recipe import Recipe
from alexnet_course.training import Hook, Run, TrainingStopped, resume, step_graph, train
from alexnet_course.training.step_graph import WARM_UP, StepGraph

# A rate that float32 holds exactly, since a graph has it as a number on the device.
RECIPE = Recipe(
    model="cnn4", epochs=2, batch_size=8, validation_size=16, train_size=64, crop=2, cutout=4, schedule="constant",
    lr=2**-10,
)  # fmt: skip
STEPS = 16


def graph_of(run: Run) -> StepGraph:
    graph = run.trainer._compute
    assert isinstance(graph, StepGraph)
    return graph


def weights(run: Run) -> list[torch.Tensor]:
    return [tensor.cpu() for tensor in run.model.state_dict().values()]


def same(one: Run, other: Run) -> bool:
    return all(map(torch.equal, weights(one), weights(other)))


def both_ways(recipe: Recipe, images: dict[str, Dataset], hook: type[Hook] = Hook, times: int = 1) -> tuple[Run, Run]:
    """A run as it is and one with a graph, which is recorded so many ``times``."""
    runs = []
    for graph in (False, True):
        runs.append(train(recipe, graph=graph, hooks=[hook()], **images))
        list(runs[-1])
    assert runs[0].steps == STEPS
    assert graph_of(runs[1]).recorded == times
    return runs[0], runs[1]


NARROW = {
    "cnn4": {"lrn": True},
    "alexnet-cifar-5x5-v1": {"hidden": 16},  # LRN, dropout
    "alexnet-cifar-3x3": {"hidden": 16},
    "vgg-style-bn": {"width": 0.125, "hidden": 16},
}


@pytest.mark.slow
@pytest.mark.parametrize("card", [T4, H100], ids=["T4", "H100"])
@pytest.mark.parametrize("model", NARROW)
def test_every_kind_of_layer_is_in_it(model, card, images):
    with emulated(card):
        plain, recorded = both_ways(RECIPE.replace(model=model, model_options=NARROW[model]), images)
        assert same(plain, recorded)
    assert plain.history[-1]["train_loss"] == recorded.history[-1]["train_loss"]
    assert plain.history[-1]["train_accuracy"] == recorded.history[-1]["train_accuracy"]
    assert recorded.record.environment.graph is True
    assert plain.record.environment.graph is False


@pytest.mark.parametrize("card", [T4, H100], ids=["T4", "H100"])
@pytest.mark.parametrize("optimiser", [name for name, spec in OPTIMISERS.items() if spec.can_be_recorded])
def test_every_optimiser_is_in_it(optimiser, card, images):
    with emulated(card):
        assert same(*both_ways(RECIPE.replace(optimiser=optimiser, decay="weights", weight_decay=0.5), images))


def test_the_learning_rate_of_each_step_is_in_it(images, h100):
    plain, recorded = both_ways(RECIPE.replace(schedule="one-cycle", warmup=0.25, optimiser="sgd", lr=0.1), images)
    assert [entry["lr"] for entry in plain.history] == [entry["lr"] for entry in recorded.history]
    for one, other in zip(weights(plain), weights(recorded), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_the_moving_average_of_the_weights_goes_with_it(images, h100):
    assert same(*both_ways(RECIPE.replace(ema=0.5), images))


class Freeze(Hook):
    """Freezes the first layer in the middle of the first epoch."""

    def on_step(self, trainer: object) -> None:
        if trainer.steps_done == 7:
            self.weight = next(trainer.model.parameters())
            self.weight.requires_grad_(False)


def test_a_step_that_is_another_one_is_recorded_anew(images, h100):
    assert same(*both_ways(RECIPE, images, Freeze, times=2))


class Listen(Hook):
    """Counts the values of one layer's output for two steps in the middle."""

    counts: list[int]

    def on_step(self, trainer: object) -> None:
        if trainer.steps_done == 5:
            self.counts = []
            self.handle = trainer.model.features[0].register_forward_hook(
                lambda layer, inputs, output: self.counts.append(output.numel())
            )
        elif trainer.steps_done == 7:
            self.handle.remove()
            assert len(self.counts) == 2


def test_who_listens_to_a_layer_hears_it(images, h100):
    assert same(*both_ways(RECIPE, images, Listen))


class LookAtGradients(Hook):
    norms: list[float] = []  # noqa: RUF012  of both runs

    def on_step(self, trainer: object) -> None:
        if trainer.steps_done == 6:
            trainer.optimiser.zero_grad()
        else:
            self.norms.append(next(trainer.model.parameters()).grad.norm().item())


def test_the_gradients_are_where_they_always_are(images, h100):
    LookAtGradients.norms.clear()
    both_ways(RECIPE, images, LookAtGradients)
    norms = LookAtGradients.norms
    assert len(set(norms)) == len(norms) // 2 == STEPS - 1
    assert norms[: STEPS - 1] == norms[STEPS - 1 :]


@pytest.mark.slow
@pytest.mark.parametrize("card", [T4, H100], ids=["T4", "H100"])
def test_a_run_with_a_graph_goes_on_to_the_bit(card, images, tmp_path):
    class Cut(Hook):
        def on_step(self, trainer: object) -> None:
            if trainer.steps_done == 9:
                raise KeyboardInterrupt

    options = {"graph": True, "checkpoint_steps": 1, **images}
    with emulated(card):
        whole = train(RECIPE, **options)
        list(whole)
        with pytest.raises(KeyboardInterrupt):
            list(train(RECIPE, out=tmp_path / "run", hooks=[Cut()], **options))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            resumed = resume(tmp_path / "run", **images)
        list(resumed)
        assert same(whole, resumed)
    assert graph_of(resumed).recorded == 1


def test_numbers_that_are_not_finite_stop_it(images, h100):
    run = train(RECIPE.replace(optimiser="sgd", lr=100.0), graph=True, **images)
    with pytest.raises(TrainingStopped, match="in epoch 1"):
        list(run)
    assert all(bool(tensor.isfinite().all()) for tensor in weights(run))


def test_a_step_that_overflows_fp16_is_skipped_in_it(images, t4):
    run = train(RECIPE, graph=True, **images)
    trainer = run.trainer
    with trainer.computing():
        trainer.start_epoch()
        for step, (batch, labels) in zip(range(WARM_UP + 2), trainer.train_loader, strict=False):
            before = weights(run)
            if step == WARM_UP + 1:
                trainer.scaler._scale.fill_(2.0**40)  # far more than fp16 can hold
            trainer.step(batch, labels)
    assert graph_of(run).recorded == 1
    assert trainer.scaler.get_scale() == 2.0**39
    assert all(map(torch.equal, before, weights(run)))


def test_a_run_with_speed_ups_of_a_gpu_goes_on_without_one(images, tmp_path):
    with emulated(T4):
        begun = train(RECIPE, graph=True, half_weights=True, out=tmp_path / "run", **images)
        next(begun)
        begun.close()
    assert begun.precision == "fp16"
    with pytest.warns(UserWarning, match="is left out here") as said:
        resumed = resume(tmp_path / "run", device="cpu", **images)
    told = " ".join(str(warning.message) for warning in said)
    assert "graph is for CUDA GPUs, and this run is on cpu, so it is left out here." in told
    assert "graph was True" in told
    assert [result.epoch for result in resumed] == [2]
    assert resumed.record.environment.graph is False
    assert resumed.record.earlier_environments[0].graph is True
    with warnings.catch_warnings():  # a finished run is only loaded
        warnings.simplefilter("error")
        assert train(RECIPE, graph=True, half_weights=True, out=tmp_path / "run", device="cpu", **images).record


@pytest.mark.slow
@pytest.mark.parametrize("card", [T4, H100], ids=["T4", "H100"])
@pytest.mark.parametrize("model", NARROW)
def test_with_the_other_ways_to_be_faster_it_is_the_same_still(model, card, images):
    recipe = RECIPE.replace(model=model, model_options=NARROW[model], crop=0, flip=False, cutout=0)
    with emulated(card):
        plain, fast = (
            train(recipe, graph=faster, half_weights=faster, epoch_at_once=faster, **images) for faster in (False, True)
        )
        list(plain)
        list(fast)
        assert same(plain, fast)
    assert graph_of(fast).recorded == 1


@pytest.mark.parametrize("ways", [{}, {"half_weights": True, "epoch_at_once": True}], ids=["alone", "with the others"])
def test_nobody_waits_for_a_step(ways, images, h100):
    class Watch(Hook):
        def on_step(self, trainer: object) -> None:
            if trainer.steps_of_epoch == 1:
                self.watching = transfers()
                self.seen = self.watching.__enter__()
            elif trainer.steps_of_epoch == len(trainer.train_loader):
                self.watching.__exit__(None, None, None)
                assert [str(transfer) for transfer in self.seen if transfer.kind != "queued"] == []

    list(train(RECIPE.replace(autoaugment=True), graph=True, hooks=[Watch()], **ways, **images))


class Impatient(nn.Module):
    """A network that looks at its own values, and drops some of them out."""

    def __init__(self, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        self.out = nn.Linear(in_channels * 32 * 32, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(1)
        return self.out(nn.functional.dropout(x / 2 if x.mean().item() > 0 else x, training=self.training))


@pytest.fixture
def impatient() -> Iterator[str]:
    register_model("impatient", Impatient)
    yield "impatient"
    del MODELS["impatient"]


@pytest.mark.parametrize("found", ["before the recording", "by the recording"])
def test_what_cannot_be_recorded_is_trained_without(impatient, images, h100, monkeypatch, found):
    if found == "by the recording":  # as with an operation of which PyTorch does not warn
        monkeypatch.setattr(step_graph, "synchronisations", lambda: nullcontext([]))
    recipe = RECIPE.replace(model=impatient)
    plain = train(recipe, **images)
    list(plain)
    other = train(recipe, graph=True, **images)
    with pytest.warns(UserWarning, match="could not be recorded as a CUDA graph.*continues without") as said:
        list(other)
    assert len(said) == 1
    assert same(plain, other)
    torch.cuda.empty_cache()
    assert torch.cuda.get_sync_debug_mode() == 0


def test_a_warning_of_the_network_s_own_is_passed_on(images, h100):
    class Warns(Impatient):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            warnings.warn("as it wishes", stacklevel=2)
            return self.out(x.flatten(1))

    register_model("warns", Warns)
    try:
        run = train(RECIPE.replace(model="warns", epochs=1), graph=True, **images)
        with pytest.warns(UserWarning, match="as it wishes"):
            list(run)
    finally:
        del MODELS["warns"]
    assert graph_of(run).recorded == 1


def test_where_there_can_be_none_it_is_said(images, h100, monkeypatch):
    with pytest.raises(CourseError, match=r"graph = True is for CUDA GPUs, and this run is on cpu"):
        train(RECIPE, graph=True, device="cpu", **images)

    def nadam(groups: list, recipe: Recipe, fused: bool) -> torch.optim.Optimizer:
        return torch.optim.NAdam(groups, recipe.lr)

    monkeypatch.setitem(OPTIMISERS, "nadam", OptimiserSpec(nadam, can_be_fused=False))
    with pytest.raises(CourseError, match=r"an optimiser that can be recorded, which 'nadam' cannot"):
        train(RECIPE.replace(optimiser="nadam"), graph=True, **images)
