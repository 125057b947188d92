"""What is noted of a network's layers is what PyTorch computes, and noting it changes nothing."""

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from alexnet_course.errors import CourseError
from alexnet_course.models import build_model
from alexnet_course.recipe import Recipe
from alexnet_course.training import LayerStatistics, train
from alexnet_course.training.layer_statistics import MEASURES, activation_figures, rectified_layers

NARROW = {"width": 0.125, "hidden": 16, "dropout": 0.0}


def narrow(**changes: object) -> Recipe:
    values = {
        "model": "vgg-style-bn", "model_options": NARROW, "epochs": 1, "batch_size": 16, "lr": 0.05,
        "precision": "fp32", "validation_size": 40,
    }  # fmt: skip
    return Recipe(**{**values, **changes})


def test_names_count_layers_by_kind_and_take_batch_norm_with_them():
    layers = rectified_layers(build_model("vgg-style-bn", **NARROW))
    assert list(layers) == [*(f"conv{i}" for i in range(1, 13)), "fc13", "fc14"]
    for name, (layer, last) in layers.items():
        assert type(layer).__name__ == ("Linear" if name.startswith("fc") else "Conv2d")
        assert type(last).__name__ == ("Linear" if name.startswith("fc") else "BatchNorm2d")
    plain = rectified_layers(build_model("alexnet-cifar-3x3", width=0.125, hidden=16))
    assert list(plain) == ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"]
    assert all(layer is last for layer, last in plain.values())


def test_figures_of_activations_are_those_behind_the_relu():
    x = torch.randn(5, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    x[:, 1] = -x[:, 1].abs()  # a channel that the ReLU silences
    x[:, 2] += 5  # and one that differs from the others, which does not count as deviation
    mean, std, zeros, dead = activation_figures(x).tolist()
    assert mean == pytest.approx(x.mean().item())
    assert std**2 == pytest.approx(sum(x[:, channel].var(correction=0).item() for channel in range(4)) / 4)
    assert zeros == pytest.approx((F.relu(x) == 0).float().mean().item())
    assert dead == 0.25


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_run_is_the_same_to_the_bit_with_and_without(data, precision):
    recipe = narrow(precision=precision, epochs=2, cutout=8)
    alone, watched = train(recipe, **data), train(recipe, **data)
    list(alone)
    with LayerStatistics(watched.model) as statistics:
        watched.on_step = statistics.note
        torch.manual_seed(recipe.seed)  # as it was before the first run
        list(watched)
    assert statistics.steps == list(range(1, watched.steps + 1))
    pairs = zip(alone.model.state_dict().values(), watched.model.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert all(statistics[measure].shape == (watched.steps, 14) for measure in MEASURES)


def test_what_is_noted_is_what_the_first_step_computes(data):
    run = train(narrow(crop=0, flip=False), **data)
    with LayerStatistics(run.model, every=2) as statistics:
        run.on_step = statistics.note
        list(run)
    assert statistics.steps == [1, 3, 5]  # of 5

    again = train(narrow(crop=0, flip=False), **data)  # the same first weights
    images, labels = next(iter(again.trainer.train_loader))
    again.model.train()
    kept = {}
    for name, (_, last) in rectified_layers(again.model).items():
        last.register_forward_hook(lambda _, __, output, name=name: kept.update({name: output.clone()}))
    F.cross_entropy(again.model(images), labels).backward()
    for column, (name, (layer, _)) in enumerate(rectified_layers(again.model).items()):
        assert statistics.names[column] == name
        variance = kept[name].transpose(0, 1).flatten(1).var(1, correction=0).mean().item()
        assert statistics["std"][0, column].item() ** 2 == pytest.approx(variance, rel=1e-3)
        zeros = (F.relu(kept[name]) == 0).float().mean().item()
        assert statistics["zeros"][0, column].item() == pytest.approx(zeros, abs=1e-3)
        assert statistics["gradient"][0, column].item() == pytest.approx(layer.weight.grad.norm().item(), rel=1e-3)


def test_nothing_is_read_back_and_nothing_is_left_behind(data):
    class Reads(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            self.count += operation is torch.ops.aten._local_scalar_dense.default
            return operation(*args, **(kwargs or {}))

    run = train(narrow(), **data)
    after = []
    with LayerStatistics(run.model) as statistics, Reads() as reads:
        run.on_step = lambda: (statistics.note(), after.append(reads.count))
        next(run)
    assert len(set(after[1:])) == 1
    assert not any(layer._forward_hooks for layer in run.model.modules())


def test_wrong_use_is_told_in_one_sentence(data):
    model = build_model("vgg-style-bn", **NARROW)
    with pytest.raises(CourseError, match="every = 0"):
        LayerStatistics(model, every=0)
    with pytest.raises(CourseError, match="Linear has no layer followed by a ReLU"):
        LayerStatistics(torch.nn.Linear(2, 2))
    statistics = LayerStatistics(model)
    with pytest.raises(CourseError, match="'median' is not measured; ask for one of mean, std"):
        statistics["median"]
    with pytest.raises(CourseError, match="No step has been recorded"):
        statistics["mean"]
    with pytest.raises(CourseError, match="No step has passed conv1"):
        statistics.note()
