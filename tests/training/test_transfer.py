"""Features carried over arrive to the bit, and a frozen part stays as it is through a whole run."""

import copy

import pytest
import torch
from torch import nn

from alexnet_course.errors import CourseError
from alexnet_course.models import build_model
from alexnet_course.recipe import Recipe
from alexnet_course.training import TrainingStopped, carry_features, freeze, thaw, train

NARROW = {"width": 0.125, "hidden": 16, "dropout": 0.0}


def narrow(**changes: object) -> Recipe:
    values = {
        "model": "vgg-style-bn", "model_options": NARROW, "epochs": 2, "batch_size": 16, "lr": 0.05,
        "precision": "fp32", "validation_size": 40,
    }  # fmt: skip
    return Recipe(**{**values, **changes})


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[bool]:
    return [torch.equal(one[name], other[name]) for name in one]


@pytest.fixture(scope="module")
def trained_once(data) -> nn.Module:
    run = train(narrow(epochs=1, seed=1), **data)
    next(run)
    return run.model


@pytest.fixture
def trained(trained_once) -> nn.Module:
    """A copy for each test, which may change it."""
    return copy.deepcopy(trained_once)


def test_features_arrive_to_the_bit_and_the_classifier_stays(trained):
    target = build_model("vgg-style-bn", num_classes=7, **{**NARROW, "hidden": 32})
    classifier = state(target.classifier)
    carry_features(trained, target)
    assert all(same(state(trained.features), state(target.features)))
    assert any("running_mean" in name for name in target.features.state_dict())
    assert all(same(classifier, state(target.classifier)))
    next(trained.parameters()).data.zero_()
    assert next(target.parameters()).abs().sum() > 0  # a copy, not the same memory


def test_features_come_from_torchvision_as_well():
    import torchvision

    with torch.device("meta"):
        names = set(torchvision.models.alexnet(weights=None).features.state_dict())
        ours = build_model("alexnet-owt")
    assert names == set(ours.features.state_dict())


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({**NARROW, "width": 0.25}, r"features.0.weight is of shape \(8, 3, 3, 3\) in the source and of shape \(16,"),
        ({**NARROW, "batch_norm": False}, r"features.1.weight is of shape \(8,\) in the source and missing in"),
    ],
)
def test_features_that_do_not_fit_are_refused_before_anything_is_copied(trained, options, reason):
    target = build_model("vgg-style-bn", **options)
    before = state(target)
    with pytest.raises(CourseError, match=reason):
        carry_features(trained, target)
    assert all(same(before, state(target)))


def test_a_network_without_features_is_refused(trained):
    with pytest.raises(CourseError, match="The target, Linear, has no part called features"):
        carry_features(trained, nn.Linear(2, 2))


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_frozen_features_do_not_change_in_a_run_and_the_classifier_learns(trained, data, optimiser, precision):
    recipe = narrow(optimiser=optimiser, lr=0.02 if optimiser == "sgd" else 2e-3, precision=precision)
    run = train(recipe, **data)
    carry_features(trained, run.model)
    freeze(run.model.features)
    features, classifier = state(run.model.features), state(run.model.classifier)
    list(run)
    assert all(same(features, state(run.model.features)))  # batch norm's running statistics among them
    assert not any(same(classifier, state(run.model.classifier)))


def test_frozen_batch_norm_works_as_in_evaluation_whatever_mode_it_is_put_in(trained, data):
    batch = data["train_set"].images[:8].float() / 255
    with torch.no_grad():
        evaluated = trained.eval().features(batch)
        freeze(trained.features)
        assert torch.equal(trained.train().features(batch), evaluated)
        copied = copy.deepcopy(trained).train()
        assert torch.equal(copied.features(batch), evaluated)
        for network in (trained, copied):
            before = state(network.features)
            thaw(network.features)
            assert not torch.equal(network.features(batch), evaluated)  # the batch's own statistics again
            assert not all(same(before, state(network.features)))


KINDS = {
    "1d": lambda: nn.Sequential(nn.Flatten(), nn.BatchNorm1d(3 * 4 * 4)),
    "1d-no-affine": lambda: nn.Sequential(nn.Flatten(), nn.BatchNorm1d(3 * 4 * 4, affine=False)),
    "2d-no-affine": lambda: nn.Sequential(nn.BatchNorm2d(3, affine=False)),
    "3d": lambda: nn.Sequential(nn.Unflatten(1, (3, 1)), nn.BatchNorm3d(3)),
    "instance": lambda: nn.Sequential(nn.InstanceNorm2d(3, track_running_stats=True)),
}


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_every_kind_of_running_statistics_stands_still_and_follows_again(make):
    network, images = make().train(), torch.rand(8, 3, 4, 4)
    network(images)
    evaluated = network.eval()(images)
    freeze(network)
    before = state(network)
    assert torch.equal(network.train()(images), evaluated)
    copied = copy.deepcopy(network).train()
    assert torch.equal(copied(images), evaluated)
    assert all(same(before, state(network)))
    for each in (network, copied):
        thaw(each)
        assert not torch.equal(each(images), evaluated)
        assert not all(same(before, state(each)))


def test_batch_norm_without_running_statistics_goes_on_with_those_of_the_batch():
    network, images = nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)), torch.rand(8, 3, 4, 4)
    expected = network.train()(images)
    freeze(network)
    assert torch.equal(network.train()(images), expected)


def test_a_thawed_network_learns_in_all_its_layers(trained, data):
    run = train(narrow(), **data)
    carry_features(trained, run.model)
    freeze(run.model.features)
    next(run)
    frozen = state(run.model.features)
    thaw(run.model.features)
    next(run)
    after = state(run.model.features)
    assert not any(torch.equal(frozen[name], after[name]) for name in frozen if name.endswith(".weight"))


def test_freezing_forgets_the_gradient_that_is_there(trained):
    trained.train()(torch.rand(4, 3, 32, 32)).sum().backward()
    before = state(trained.features)
    freeze(trained.features)
    torch.optim.SGD(trained.parameters(), lr=1.0).step()
    assert all(same(before, state(trained.features)))


def test_a_fault_is_noticed_in_a_run_whose_first_layers_are_frozen(data):
    run = train(narrow(lr=50.0, epochs=4), **data)
    freeze(run.model.features)
    with torch.no_grad():
        next(run.model.classifier.parameters()).fill_(1e38)
    with pytest.raises(TrainingStopped, match="train again with a lower lr"):
        list(run)


def test_a_network_that_is_frozen_as_a_whole_is_refused(data):
    run = train(narrow(), **data)
    freeze(run.model)
    with pytest.raises(CourseError, match="All weights of the network are frozen, so none can be trained; thaw a part"):
        list(run)
