"""A run goes on on another kind of device: not to the bit, but it goes on, and the same each time."""

import copy
import warnings
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from alexnet_course.data import batches
from alexnet_course.data.batches import set_or_seed
from alexnet_course.recipe import Recipe
from alexnet_course.shapes import memory_format
from alexnet_course.training import device, resume, run, train, trainer
from alexnet_course.training.kernels import FasterFunctions


def recipe() -> Recipe:
    values = {"model": "cnn4", "epochs": 3, "batch_size": 32, "validation_size": 20, "crop": 2}
    return Recipe(**values)


@pytest.fixture
def elsewhere(monkeypatch):
    """``elsewhere(name, precision)``: from now on the machine is another one, on which ``auto`` is that format."""

    def arrange(name: str, precision: str) -> None:
        monkeypatch.setattr(run, "device_name", lambda device: name)
        monkeypatch.setattr(run, "resolve_precision", lambda requested, device: precision)

    return arrange


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [("bf16", "fp16"), ("fp16", "bf16"), ("fp32", "fp16")])
def test_a_run_goes_on_in_another_format_on_another_device(elsewhere, data, tmp_path, before, after):
    """fp16 alone has a scaler with a state."""
    elsewhere("one", before)
    begun = train(recipe(), out=tmp_path / "run", **data)
    next(begun)
    begun.close()
    elsewhere("another", after)
    with pytest.warns(UserWarning, match="is resumed in another environment"):
        resumed = resume(tmp_path / "run", **data)
    assert (resumed.precision, resumed.steps_done) == (after, 3)
    list(resumed)
    assert resumed.record.test_accuracy > 0.8
    assert [entry.precision for entry in resumed.record.earlier_environments] == [before]


@pytest.mark.parametrize(
    ("asked", "lacks", "after"), [("auto", True, "fp32"), ("auto", False, "bf16"), ("bf16", True, "bf16")]
)
def test_a_cpu_of_the_same_name_may_lack_bf16(elsewhere, monkeypatch, data, tmp_path, asked, lacks, after):
    """A run that asks for bf16 keeps it, however slow."""
    elsewhere("AMD EPYC (cpu)", "bf16")
    plan = recipe().replace(precision=asked, epochs=2)
    begun = train(plan, out=tmp_path / "run", **data)
    next(begun)
    begun.close()
    elsewhere("AMD EPYC (cpu)", "fp32")
    monkeypatch.setattr(device, "cpu_lacks_bf16", lambda: lacks)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        resumed = resume(tmp_path / "run", **data)
    assert resumed.precision == after
    assert any("precision was bf16" in str(each.message) for each in warned) is (after == "fp32")
    list(resumed)


@pytest.mark.parametrize("optimiser", ["sgd", "adam", "adamw", "muon"])
def test_an_optimiser_without_fused_kernels_goes_on_with_them(data, optimiser):
    """Apple's GPUs have none in every version of PyTorch, and the saved state says so."""
    begun = train(recipe().replace(optimiser=optimiser, lr=1e-3), **data)
    next(begun)
    state = begun.state_dict()
    for part in (state["optimiser"], state["optimiser"].get("adamw", {"param_groups": []})):
        for group in part["param_groups"]:
            group["fused"] = False
    other = train(recipe().replace(optimiser=optimiser, lr=1e-3), **data)
    other.load_state_dict(state)
    assert [result.epoch for result in other] == [2, 3]


@pytest.mark.parametrize("optimiser", ["sgd", "adam", "adamw", "muon"])
def test_an_optimiser_goes_on_with_averages_that_were_laid_out_otherwise(data, optimiser):
    """As on Apple's GPUs, where weights are not channels-last. A fused kernel goes through both in memory's order."""
    plan = recipe().replace(optimiser=optimiser, lr=1e-3, crop=0)
    begun, other = train(plan, **data), train(plan, **data)
    next(begun)
    state = copy.deepcopy(begun.state_dict())

    def otherwise(value: object) -> object:
        if isinstance(value, dict):
            return {key: otherwise(entry) for key, entry in value.items()}
        return value.contiguous() if isinstance(value, Tensor) else value

    assert begun.trainer.model.features[0].weight.stride() != otherwise(begun.trainer.model.features[0].weight).stride()
    other.load_state_dict({**state, "optimiser": otherwise(state["optimiser"])})
    list(begun), list(other)
    assert [entry["train_loss"] for entry in other.history] == [entry["train_loss"] for entry in begun.history]


def test_a_generator_takes_the_state_of_another_kind_of_device():
    """A GPU's is 16 bytes, a processor's some thousand."""
    of_a_gpu = torch.arange(16, dtype=torch.uint8)
    draws = []
    for state in (of_a_gpu, of_a_gpu, of_a_gpu.flip(0)):
        generator = torch.Generator()
        set_or_seed(generator, state)
        draws.append(torch.rand(5, generator=generator))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_a_generator_takes_the_state_of_its_own_kind_as_it_is():
    one, other = torch.Generator().manual_seed(3), torch.Generator().manual_seed(4)
    torch.rand(7, generator=one)
    set_or_seed(other, one.get_state())
    assert torch.equal(torch.rand(5, generator=one), torch.rand(5, generator=other))


def test_a_loader_s_state_from_a_gpu_lets_a_run_go_on(data):
    finished = train(recipe(), **data)
    next(finished)
    state = finished.state_dict()
    state["loader"] = {**state["loader"], "random": torch.arange(16, dtype=torch.uint8)}
    other = train(recipe(), **data)
    other.load_state_dict(state)
    assert [result.epoch for result in other] == [2, 3]


@pytest.mark.parametrize("name", ["vgg-style-bn", "alexnet-cifar-3x3", "cnn4"])
def test_on_apple_s_gpus_every_layer_gets_its_images_one_channel_after_the_other(name, few, monkeypatch):
    """In the other order their gradients are wrong there; seen on a processor, which is told to do the same."""
    for module in (batches, trainer):
        monkeypatch.setattr(module, "memory_format", lambda device: memory_format("mps"))
    monkeypatch.setattr(trainer, "FasterFunctions", lambda device, *rest: FasterFunctions(torch.device("mps"), *rest))
    options = {"lrn": True} if name == "cnn4" else {"width": 0.125, "hidden": 8}
    begun = train(
        Recipe(
            model=name, model_options=options, epochs=1, batch_size=4, validation_size=4, precision="fp32", crop=2,
            colour_pca=0.1, cutout=4, autoaugment=True,
        ),
        **few,
    )  # fmt: skip
    layouts = set()

    def note(*values: Tensor) -> None:
        layouts.update(value.is_contiguous() for value in values)

    def look(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        note(*inputs, output, *layer.parameters())
        if output.requires_grad:
            output.register_hook(note)  # of the gradient

    for layer in begun.trainer.network.modules():
        if not any(layer.children()):
            layer.register_forward_hook(look)
    list(begun)
    assert layouts == {True}


@pytest.mark.parametrize("is_main", [True, False])
def test_of_several_processes_one_says_that_the_environment_is_another(data, elsewhere, is_main):
    before = train(recipe(), **data)
    next(before)
    elsewhere("another", "fp32")
    now = train(recipe(), **data)
    now.group = SimpleNamespace(rank=0, is_main=is_main)
    state = before.state_dict()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        now.load_state_dict({**state, "environments": [{**state["environments"][0], "device": "a third"}]})
    assert ["device was a third" in str(warning.message) for warning in said] == [True] * is_main
    assert len(now.environments) == 2
