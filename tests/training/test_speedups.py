"""The ways to be faster that a run has to ask for: what they compute is the same."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from alexnet_course.cli import main
from alexnet_course.data import Dataset
from alexnet_course.errors import CourseError
from alexnet_course.models import build_model
from alexnet_course.recipe import Recipe
from alexnet_course.training import Hook, Run, Trainer, resume, train
from alexnet_course.training.kernels import FasterFunctions
from alexnet_course.training.speedups import HalfWeights, compiled_pool

RECIPE = Recipe(
    model="cnn4", epochs=2, batch_size=8, validation_size=16, train_size=64, schedule="constant", lr=1e-3,
    precision="bf16", crop=0, flip=False,
)  # fmt: skip
NARROW = {
    "cnn4": {"lrn": True},
    "alexnet-cifar-3x3": {"width": 0.25, "hidden": 16},
    "alexnet-cifar-5x5-v1": {"width": 0.25, "hidden": 16},
    "vgg-style-bn": {"width": 0.125, "hidden": 16},
}


class Freeze(Hook):
    """The first layer stands still from the middle of an epoch on."""

    def on_step(self, trainer: Trainer) -> None:
        if trainer.steps_done == 3:
            next(trainer.model.parameters()).requires_grad_(False)


def ended(recipe: Recipe, images: dict[str, Dataset], **options: object) -> Run:
    run = train(recipe, **images, **options)
    list(run)
    return run


def same(one: Run, other: Run) -> bool:
    weights = (run.model.state_dict().values() for run in (one, other))
    return all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


@pytest.fixture(scope="module")
def images() -> dict[str, Dataset]:
    draw = torch.Generator().manual_seed(1)
    images = torch.randint(256, (100, 3, 32, 32), dtype=torch.uint8, generator=draw)
    both = Dataset(images, torch.arange(100) % 2, ("even", "odd"), "noise")
    return {"train_set": both.subset(range(90)), "test_set": both.subset(range(90, 100))}


@pytest.mark.slow
@pytest.mark.parametrize("model", NARROW)
def test_a_run_with_half_weights_or_an_epoch_at_once_is_the_same_to_the_bit(model, images):
    recipe = RECIPE.replace(model=model, model_options=NARROW[model])
    plain = ended(recipe, images, hooks=[Freeze()])
    assert same(plain, ended(recipe, images, hooks=[Freeze()], half_weights=True))
    assert same(plain, ended(recipe, images, hooks=[Freeze()], half_weights=True, epoch_at_once=True))


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_an_epoch_at_once_is_in_the_format_that_the_network_computes_in(precision, images):
    trainer = train(RECIPE.replace(precision=precision), epoch_at_once=True, **images).trainer
    batch, _ = next(iter(trainer.train_loader))
    assert batch.dtype == {"bf16": torch.bfloat16, "fp32": torch.float32}[precision]
    assert next(iter(trainer.val_loader))[0].dtype == torch.float32


@pytest.mark.slow
def test_a_run_that_is_resumed_in_the_middle_of_an_epoch_at_once_goes_on_to_the_bit(images, tmp_path):
    class Cut(Hook):
        def on_step(self, trainer: Trainer) -> None:
            if trainer.steps_done == 11:
                raise KeyboardInterrupt

    recipe, options = RECIPE.replace(crop=2, flip=True, autoaugment=True), {"epoch_at_once": True}
    whole = ended(recipe, images, **options)
    with pytest.raises(KeyboardInterrupt):
        ended(recipe, images, out=tmp_path / "run", checkpoint_steps=1, hooks=[Cut()], **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resumed = resume(tmp_path / "run", **images)
    list(resumed)
    assert same(whole, resumed)
    assert resumed.record.environment.epoch_at_once is True
    assert resumed.record.environment.half_weights is False


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_weights_are_those_that_autocast_casts_and_their_gradients_are_in_float32(dtype):
    model = build_model("vgg-style-bn", width=0.125, hidden=16)
    half = HalfWeights(model, dtype)
    weights = dict(model.named_parameters())
    assert all(half.weights[name] is weights[name] for name in half.weights)
    others = {name.rpartition(".")[0] for name in weights.keys() - half.weights.keys()}
    assert {type(model.get_submodule(layer)) for layer in others} == {nn.BatchNorm2d}

    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    gradients, logits = [], []
    for network in (model.eval(), half):
        model.zero_grad()
        with torch.autocast("cpu", dtype):
            logits.append(network(images))
        logits[-1].float().square().sum().backward()
        gradients.append([weight.grad for weight in model.parameters()])
    assert torch.equal(*logits)
    assert {gradient.dtype for gradient in gradients[1]} == {torch.float32}
    assert all(map(torch.equal, *gradients))


def test_only_weights_that_learn_and_are_used_have_a_gradient():
    class OneOfTwo(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self[0](x)

    model = nn.Sequential(nn.Linear(3, 4), OneOfTwo(nn.Linear(4, 2), nn.Linear(4, 3)))
    model[0].requires_grad_(False)
    model[1][0].weight.requires_grad_(False)
    with torch.autocast("cpu", torch.bfloat16):
        HalfWeights(model, torch.bfloat16)(torch.ones(5, 3)).sum().backward()
    assert [weight.grad if weight.grad is None else weight.grad.tolist() for weight in model.parameters()] == [
        None,
        None,
        None,
        [5.0, 5.0],
        None,
        None,
    ]


def test_a_weight_of_two_layers_has_the_gradients_of_both():
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    gradients = []
    for network in (model, HalfWeights(model, torch.bfloat16)):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            network(torch.eye(3)).sum().backward()
        gradients.append(model[0].weight.grad)
    torch.testing.assert_close(*gradients, rtol=2**-7, atol=2**-7)  # which are added up in bf16


def test_a_network_without_such_layers_is_left_as_it_is():
    assert HalfWeights(nn.BatchNorm2d(3), torch.bfloat16)(torch.ones(2, 3, 4, 4)).dtype == torch.float32


@pytest.mark.slow
@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 2)])
def test_compiled_pools_and_their_gradients_are_pytorchs_to_the_bit(kernel, stride):
    """Where several values of a window are the largest, too: after a ReLU many are 0, and in bf16 many the same."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(2, 8, 15, 15, generator=draw).bfloat16().relu().to(memory_format=torch.channels_last)
    results, gradients = [], []
    for mode in (FasterFunctions(torch.device("cpu"), "fp32"), FasterFunctions(torch.device("cpu"), "fp32", True)):
        x = images.clone().requires_grad_()
        with mode:
            pooled = nn.MaxPool2d(kernel, stride)(x)
        pooled.square().sum().backward()
        results.append(pooled)
        gradients.append(x.grad)
    assert torch.equal(*results)
    assert torch.equal(*gradients)


def test_compiled_pools_are_in_the_trainers_step(images, monkeypatch):
    pooled = []

    def compile(function: object) -> object:
        def counted(*arguments: object, **options: object) -> object:
            pooled.append(arguments[0].shape)
            return function(*arguments, **options)

        return counted

    monkeypatch.setattr(torch, "compile", compile)
    ended(RECIPE.replace(epochs=1, train_size=32), images)
    assert pooled == []
    run = ended(RECIPE.replace(epochs=1, train_size=32), images, compiled_pools=True)
    pools = sum(isinstance(layer, nn.MaxPool2d) for layer in run.model.modules())
    assert len(pooled) == pools * run.steps
    assert run.record.environment.compiled_pools is True
    assert compiled_pool()(torch.ones(1, 1, 4, 4), 2).equal(F.max_pool2d(torch.ones(1, 1, 4, 4), 2))


@pytest.mark.parametrize(
    ("precision", "options", "error"),
    [
        ("fp32", {"half_weights": True},
         "half_weights = True is for bf16 and fp16, and this run computes in fp32; leave it out."),
        ("bf16", {"half_weights": True, "compile": True},
         "half_weights = True cannot be combined with compile = True, which includes it; leave one of the two out."),
        ("bf16", {"compiled_pools": True, "compile": True},
         "compiled_pools = True cannot be combined with compile = True, which includes it; leave one of the two out."),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(precision, options, error, images):
    with pytest.raises(CourseError) as raised:
        train(RECIPE.replace(precision=precision), **options, **images)
    assert str(raised.value) == error


@pytest.mark.slow
def test_they_can_be_asked_for_on_the_command_line(tmp_path, capsys):
    out = tmp_path / "run"
    sizes = ["--set", "train_size=64", "--set", "validation_size=16", "--epochs", "1", "--precision", "bf16"]
    asked = ["--half-weights", "--epoch-at-once"]
    assert main(["train", "cnn4", "--data", "doodles", "--out", str(out), *sizes, *asked]) == 0
    record = (out / "record.json").read_text()
    assert '"half_weights": true' in record
    assert '"epoch_at_once": true' in record
