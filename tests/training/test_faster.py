"""What makes an epoch worth more: Muon, growing images, alternating flips, mixed images."""

import math
import warnings
from typing import Any

import pytest
import torch

from alexnet_course import CourseError, Dataset, fit
from alexnet_course.data.augment import Augmentation, mixed
from alexnet_course.data.batches import BatchLoader
from alexnet_course.muon import MuonWithAdamW
from alexnet_course.optim import make_optimiser
from alexnet_course.recipe import Recipe
from alexnet_course.training import TrainingStopped, resume, train

needs_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="PyTorch has it from 2.9 on")


def small(**changes: Any) -> Recipe:
    """12 steps an epoch, with batch norm and dropout."""
    values = {"model": "cnn4", "epochs": 2, "batch_size": 8, "precision": "fp32", "validation_size": 20, "lr": 0.002}
    return Recipe(**{**values, **changes})


# --- Muon ------------------------------------------------------------------------------------------------------------


def network() -> torch.nn.Sequential:
    torch.manual_seed(0)
    layers = torch.nn.Conv2d(3, 16, 3), torch.nn.Flatten(), torch.nn.Linear(576, 128), torch.nn.Linear(128, 10)
    return torch.nn.Sequential(*layers).to(memory_format=torch.channels_last)


def some_images(model: torch.nn.Module) -> torch.Tensor:
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return images.to(next(model.parameters()).dtype)


def trained(model: torch.nn.Module, *optimisers: torch.optim.Optimizer, steps: int = 3) -> None:
    images = some_images(model)
    for _ in range(steps):
        model.zero_grad()
        model(images).square().mean().backward()
        for optimiser in optimisers:
            optimiser.step()


@needs_muon
def test_muon_is_pytorchs_for_the_matrices_and_adamw_for_the_rest(monkeypatch):
    # All in double precision: Newton and Schulz's iteration, else in bf16, enlarges what a processor rounds away.
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda tensor: tensor)
    recipe = Recipe(model="cnn4", optimiser="muon", lr=0.01, weight_decay=0.1, decay="weights", momentum=0.95)
    ours, plain = network().double(), network().double()
    trained(ours, make_optimiser(ours, recipe, torch.device("cpu")))

    first, hidden, last = plain[0], plain[2], plain[3]
    kernels = torch.nn.Parameter(first.weight.detach().flatten(1))

    def forward(images: torch.Tensor) -> torch.Tensor:
        maps = torch.nn.functional.conv2d(images, kernels.view(16, 3, 3, 3), first.bias)
        return last(hidden(maps.flatten(1)))

    his = [
        torch.optim.Muon(
            [kernels, hidden.weight], 0.01, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW([last.weight], 0.01, weight_decay=0.1),
        torch.optim.AdamW([first.bias, hidden.bias, last.bias], 0.01, weight_decay=0.0),
    ]
    images = some_images(plain)
    for _ in range(3):
        for each in his:
            each.zero_grad()
        forward(images).square().mean().backward()
        for each in his:
            each.step()
    for layer, his_weight in ((0, kernels.view(16, 3, 3, 3)), (2, hidden.weight), (3, last.weight)):
        torch.testing.assert_close(ours[layer].weight, his_weight, rtol=0, atol=1e-8)
    assert not torch.equal(ours[0].weight, plain[0].weight)


@needs_muon
def test_muon_leaves_frozen_weights_alone_and_follows_the_learning_rate():
    model, start = network(), network()
    model[0].requires_grad_(False)
    optimiser = MuonWithAdamW([{"params": list(model.parameters())}], lr=0.01, weight_decay=0.1, momentum=0.9)
    trained(model, optimiser)
    assert torch.equal(model[0].weight, start[0].weight)
    assert not torch.equal(model[2].weight, start[2].weight)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimiser.param_groups[0]["lr"] = 0.0
    trained(model, optimiser)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@needs_muon
@pytest.mark.parametrize(
    "changes",
    [
        {"optimiser": "muon", "decay": "weights"},
        {"mix": "cutmix", "label_smoothing": 0.1},
        {"alternate_flip": True},
        {"first_size": 26},
    ],
    ids=lambda changes: next(iter(changes)),
)
@pytest.mark.parametrize("at_once", [False, True])
def test_a_resumed_run_has_the_same_weights_to_the_bit(data, tmp_path, no_commit, changes, at_once):
    options: Any = {"epoch_at_once": at_once, **data}
    alone = fit(small(epochs=3, **changes), progress=False, **options)
    run = train(small(epochs=3, **changes), out=tmp_path / "run", checkpoint_steps=7, **options)
    run.on_step = lambda: run.stop() if run.steps_done == 15 else None  # inside the second epoch
    with pytest.raises(TrainingStopped, match="at step 15 of "):
        list(run)
    resumed = resume(tmp_path / "run", **data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [epoch.epoch for epoch in resumed] == [2, 3]
    other = resumed.model.state_dict()
    assert all(torch.equal(value, other[name]) for name, value in alone.model.state_dict().items())
    assert alone.record.test_loss == resumed.record.test_loss


def test_mixed_labels_have_as_many_columns_as_there_are_outputs(data):
    run = fit(small(epochs=1, mix="mixup", outputs=5), progress=False, **data)
    assert math.isfinite(run.record.history[0].train_loss)
    images, labels = next(iter(run.trainer.train_loader))
    assert labels.shape == (len(images), 5)
    assert not labels[:, 2:].any()


def test_an_older_pytorch_has_no_muon(data, monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon", raising=False)
    with pytest.raises(CourseError, match=r"optimiser = 'muon' needs PyTorch 2\.9 or newer, and this is 2\."):
        train(small(optimiser="muon"), **data)


@needs_muon
def test_muon_takes_no_closure():
    optimiser = MuonWithAdamW([{"params": list(network().parameters())}], lr=0.01, weight_decay=0.0, momentum=0.9)
    with pytest.raises(TypeError, match="muon takes no closure"):
        optimiser.step(lambda: 0.0)


# --- Growing images --------------------------------------------------------------------------------------------------


def test_the_images_of_training_grow_and_those_of_validation_do_not(data):
    run = train(small(epochs=8, first_size=26), **data)
    sizes: list[tuple[int, ...]] = []
    run.model.features[0].register_forward_pre_hook(
        lambda layer, inputs: sizes.append((layer.training, inputs[0].shape[2]))
    )
    list(run)
    assert sorted({size for training, size in sizes if training}) == [26, 27, 28, 29, 30, 31, 32]
    assert [size for training, size in sizes if training] == sorted(size for training, size in sizes if training)
    assert {size for training, size in sizes if not training} == {32}


def test_a_network_that_cannot_take_the_first_size_is_named(data):
    with pytest.raises(CourseError, match=r"vgg-style cannot take an image of 24×24"):
        train(small(model="vgg-style", first_size=24), **data)


# --- Alternating flips -----------------------------------------------------------------------------------------------


def numbered(count: int) -> Dataset:
    """Images that are dark on the left and have their number as label."""
    images = torch.zeros(count, 1, 2, 2, dtype=torch.uint8)
    images[..., 1] = 200
    return Dataset(images, torch.arange(count), [str(number) for number in range(count)], "numbered")


def orientations(loader: BatchLoader) -> dict[int, bool]:
    """Whether each image of an epoch is mirrored."""
    return {
        int(label): bool(image[0, 0, 0] > image[0, 0, 1])
        for images, labels in loader
        for image, label in zip(images, labels, strict=True)
    }


@pytest.mark.parametrize("at_once", [None, torch.float32])
def test_alternating_flips_show_each_image_one_way_and_then_the_other(at_once):
    loader = BatchLoader(
        numbered(64),
        16,
        mean=[0.0],
        std=[1.0],
        training=True,
        augmentation=Augmentation(flip=True, alternate=True),
        generator=torch.Generator().manual_seed(0),
        at_once=at_once,
    )
    first, second, third = (orientations(loader) for _ in range(3))
    assert len(first) == 64
    assert 16 < sum(first.values()) < 48
    assert second == {label: not mirrored for label, mirrored in first.items()}
    assert third == first


# --- Mixed images ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixed_labels_are_the_shares_of_the_images(kind):
    levels = torch.arange(6.0)[:, None, None, None].expand(6, 3, 8, 8).clone()
    images, labels = mixed(levels, torch.arange(6), kind, 7, seed=3)
    assert labels.shape == (6, 7)
    torch.testing.assert_close(labels.sum(1), torch.ones(6))
    # Each image is one level, so the mean level of a mixture is that of its labels.
    torch.testing.assert_close(images.mean((1, 2, 3)), labels @ torch.arange(7.0))
    whole = images.flatten(1)
    assert ((whole == whole[:, :1]).all(1)).all() == (kind == "mixup")
    assert torch.equal(levels[2], torch.full((3, 8, 8), 2.0))  # the batch itself is unchanged


def test_mixing_has_its_own_random_numbers():
    images, labels = torch.randn(6, 3, 8, 8), torch.arange(6)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    one, again, other = (mixed(images, labels, "mixup", 6, seed=seed)[1] for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_a_run_trains_on_mixed_images_and_is_measured_on_clean_ones(data, kind):
    run = train(small(mix=kind, epochs=1), **data)
    batches: list[torch.Tensor] = []
    step = run.trainer.step
    run.trainer.step = lambda images, labels: (batches.append(labels), step(images, labels))
    result = next(run)
    assert all(labels.shape == (8, len(data["train_set"].classes)) for labels in batches)
    assert len({tuple(labels.max(1).values.tolist()) for labels in batches}) > 1
    assert 0 <= result.train_accuracy <= 1
    assert run.evaluate(data["test_set"]).count == len(data["test_set"])
