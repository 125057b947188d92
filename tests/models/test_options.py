"""The options that the experiments change: what they do to a network, and that without them it is the published one."""

import inspect
import math
import re
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from alexnet_course.errors import CourseError
from alexnet_course.models import MODELS, build_model, initialise, list_models
from alexnet_course.models.layers import scaled
from alexnet_course.shapes import layer_table, zeros_like_input

ALEXNETS = {  # channels of the convolutions and side of the first one's kernel, from the write-ups and the two papers
    "alexnet-cifar-3x3": ((64, 192, 384, 256, 256), 3),
    "alexnet-cifar-5x5": ((64, 192, 384, 256, 256), 5),
    "alexnet-cifar-5x5-lrn": ((96, 256, 384, 384, 256), 5),
    "alexnet-cifar-5x5-v1": ((96, 256, 384, 384, 256), 5),
    "alexnet-lrn": ((96, 256, 384, 384, 256), 11),
    "alexnet-2012": ((96, 256, 384, 384, 256), 11),
    "alexnet-owt": ((64, 192, 384, 256, 256), 11),
}
POOLED = ["alexnet-cifar-3x3", "alexnet-cifar-5x5", "alexnet-cifar-5x5-lrn", "alexnet-owt"]  # to any side of the map
FIXED = {"alexnet-lrn": 6, "alexnet-2012": 6, "alexnet-cifar-5x5-v1": 2}  # the side of their last map
S3_WITH_LRN = {"alexnet-cifar-5x5-lrn", "alexnet-cifar-5x5-v1"}
WITH_LRN = {*S3_WITH_LRN, "alexnet-lrn", "alexnet-2012"}
VGGS = {"vgg-style": (2, 2, 2, 2, 2), "vgg-style-bn": (2, 2, 2, 3, 3)}

# Where the weights are, by the names that they had before there were any options: those of torchvision and of d2l.
POSITIONS = {
    "alexnet-cifar-3x3": ("features 0 3 6 8 10", "classifier 1 4 6"),
    "alexnet-d2l": ("net 0 3 6 8 10 14 17 20",),
    "alexnet-lrn": ("features 0 4 8 10 12", "classifier 0 3 6"),
    "vgg-style": ("features 0 2 5 7 10 12 15 17 20 22", "classifier 0 3 6"),
    "vgg-style-bn": (
        "features 0 1 3 4 7 8 10 11 14 15 17 18 21 22 24 25 27 28 31 32 34 35 37 38",
        "classifier 0 3 6",
    ),
    "alexnet-cifar-5x5": ("features 0 3 6 8 10", "classifier 0 3 6"),
    "alexnet-cifar-5x5-lrn": ("features 0 4 8 10 12", "classifier 0 3 6"),
    "alexnet-cifar-5x5-v1": ("features 0 4 8 10 12", "classifier 0 3 6"),
    "alexnet-2012": ("features 0 4 8 10 12", "classifier 0 3 6"),
    "alexnet-owt": ("features 0 3 6 8 10", "classifier 1 4 6"),
    "lenet5": ("features 0 3 6", "classifier 0 2"),
    "cnn4": ("features 0 3 6", "classifier 0"),
}


def hollow(name, num_classes=10, **options):
    """A network without values: for questions about shapes, which it answers without memory or time."""
    with torch.device("meta"):
        return build_model(name, num_classes, **options).eval()


def count(model):
    return sum(weight.numel() for weight in model.parameters())


def kinds(model):
    return [type(layer).__name__ for layer in model.modules() if not any(layer.children())]


def logits_of(model, name, images=2):
    return model(zeros_like_input(model, (images, *MODELS[name].input_size)))


def convolution(inputs, outputs, kernel, groups=1):
    return outputs * (inputs // groups * kernel**2 + 1)


def head(inputs, hidden, classes):
    return hidden * (inputs + 1) + hidden * (hidden + 1) + classes * (hidden + 1)


def alexnet_parameters(name, channels, hidden=4096, side=None, batch_norm=False, classes=10):
    """From the drawing in the paper, without a network."""
    one, two, three, four, five = channels
    groups = 2 if name == "alexnet-2012" else 1
    convolutions = [(3, one, ALEXNETS[name][1]), (one, two, 5, groups), (two, three, 3), (three, four, 3, groups),
                    (four, five, 3, groups)]  # fmt: skip
    norms = 2 * sum(channels) if batch_norm else 0
    side = side or FIXED.get(name, 6)
    return sum(convolution(*layer) for layer in convolutions) + norms + head(five * side**2, hidden, classes)


def vgg_parameters(name, channels, hidden=2304, batch_norm=False, classes=10):
    total, inputs = 0, 3
    for outputs, depth in zip(channels, VGGS[name], strict=True):
        for _ in range(depth):
            total += convolution(inputs, outputs, 3) + (2 * outputs if batch_norm else 0)
            inputs = outputs
    return total + head(inputs, hidden, classes)


# --- Without options -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list_models())
def test_without_options_a_network_keeps_its_weights_and_their_names(name):
    """So that weights which were saved before there were options still fit, and torchvision's do."""
    found: dict[str, list[str]] = {}
    for part, position in sorted(
        {tuple(key.split(".")[:2]) for key in hollow(name).state_dict()}, key=lambda p: int(p[1])
    ):
        found.setdefault(part, []).append(position)
    assert {part: " ".join(positions) for part, positions in found.items()} == {
        line.split()[0]: line.partition(" ")[2] for line in POSITIONS[name]
    }


@pytest.mark.parametrize("name", list_models())
def test_every_option_s_default_is_the_published_network(name):
    defaults = {key: value.default for key, value in inspect.signature(MODELS[name].build).parameters.items()}
    assert defaults.pop("num_classes") == 10
    assert (defaults["in_channels"] == 3) or name == "lenet5"
    plain, spelt = hollow(name), hollow(name, **defaults)
    assert str(spelt) == str(plain)
    shapes = [{key: value.shape for key, value in model.state_dict().items()} for model in (plain, spelt)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("name", ALEXNETS)
def test_the_count_by_hand_is_the_published_one(name):
    classes = MODELS[name].num_classes
    assert alexnet_parameters(name, ALEXNETS[name][0], classes=classes) == MODELS[name].parameters


# --- Width and hidden layers -----------------------------------------------------------------------------------------


def test_scaled():
    assert [scaled(64, width) for width in (0.5, 0.25, 1.5, 0.01, 2)] == [32, 16, 96, 8, 128]
    assert scaled(96, 0.3) == 32  # 28.8, to the nearest multiple of 8
    assert scaled(100, 1) == scaled(100, 1.0) == 100  # the published number, whatever it is
    assert isinstance(scaled(64, 0.5), int)


@given(st.integers(8, 1024), st.floats(0.01, 8))
def test_scaled_is_the_nearest_multiple_of_8(channels, width):
    if width != 1:
        result = scaled(channels, width)
        assert result % 8 == 0
        assert result >= 8
        assert abs(result - channels * width) <= 4 or channels * width < 4


WIDTHS = {0.5: lambda channels: tuple(c // 2 for c in channels), 2: lambda channels: tuple(2 * c for c in channels)}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ALEXNETS)
def test_width_multiplies_the_channels_of_an_alexnet(name, width):
    channels = WIDTHS[width](ALEXNETS[name][0])
    model = hollow(name, 7, width=width)
    convolutions = [layer for layer in model.features if isinstance(layer, nn.Conv2d)]
    assert tuple(layer.out_channels for layer in convolutions) == channels
    assert convolutions[0].in_channels == 3  # the images stay as they are
    assert count(model) == alexnet_parameters(name, channels, classes=7)
    assert logits_of(model, name).shape == (2, 7)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", VGGS)
def test_width_multiplies_the_channels_of_a_vgg(name, width):
    channels = WIDTHS[width]((64, 128, 256, 512, 512))
    model = hollow(name, 7, width=width)
    assert count(model) == vgg_parameters(name, channels, batch_norm=name == "vgg-style-bn", classes=7)
    assert logits_of(model, name).shape == (2, 7)


def test_a_very_narrow_network_keeps_eight_channels():
    convolutions = [layer for layer in hollow("alexnet-cifar-3x3", width=0.01).features if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [8] * 5


@pytest.mark.parametrize("name", [*ALEXNETS, *VGGS])
def test_hidden_sets_both_hidden_layers(name):
    model = hollow(name, hidden=100)
    sizes = [(layer.in_features, layer.out_features) for layer in model.modules() if isinstance(layer, nn.Linear)]
    assert sizes == [(sizes[0][0], 100), (100, 100), (100, 10)]
    if name in ALEXNETS:
        assert count(model) == alexnet_parameters(name, ALEXNETS[name][0], hidden=100)
    else:
        batch_norm = name == "vgg-style-bn"
        assert count(model) == vgg_parameters(name, (64, 128, 256, 512, 512), hidden=100, batch_norm=batch_norm)
    assert logits_of(model, name).shape == (2, 10)


# --- The last map and the poolings -----------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [1, 3, 4])
@pytest.mark.parametrize("name", POOLED)
def test_map_side_is_what_the_head_sees(name, side):
    model = hollow(name, map_side=side)
    rows = {row.name: row for row in layer_table(model, MODELS[name].input_size)}
    assert rows["avgpool"].output_shape == (256, side, side)
    assert count(model) == alexnet_parameters(name, ALEXNETS[name][0], side=side)
    assert logits_of(model, name).shape == (2, 10)


def test_the_pool_stays_of_its_kind():
    for name, kind in (
        ("alexnet-cifar-3x3", nn.AdaptiveAvgPool2d),
        ("alexnet-cifar-5x5", nn.AdaptiveAvgPool2d),
        ("alexnet-cifar-5x5-lrn", nn.AdaptiveMaxPool2d),
    ):
        assert type(hollow(name, map_side=3).avgpool) is kind
    assert all(hollow(name).avgpool is None for name in FIXED)


@pytest.mark.parametrize("name", ALEXNETS)
def test_poolings_overlap_or_not(name):
    for overlap, window in ((True, 3), (False, 2)):
        model = hollow(name, overlap=overlap)
        pools = [layer for layer in model.features if isinstance(layer, nn.MaxPool2d)]
        assert [(pool.kernel_size, pool.stride) for pool in pools] == [(window, 2)] * 3
        # A pooling has no weights, but of S3's 28×28 three of 2×2 leave more: 14, 7, 3 in position of 13, 6, 2.
        side = 3 if name == "alexnet-cifar-5x5-v1" and not overlap else None
        assert count(model) == alexnet_parameters(name, ALEXNETS[name][0], side=side)
        assert logits_of(model, name).shape == (2, 10)


def test_cnn4_without_overlap_has_maps_of_the_same_sizes():
    """Section 3.4 compares the two, so everything else must be equal."""
    with_overlap, without = (
        [(row.kind, row.output_shape, row.parameters) for row in layer_table(hollow("cnn4", overlap=o), (3, 32, 32))]
        for o in (True, False)
    )
    assert without == with_overlap
    pools = [layer for layer in hollow("cnn4", overlap=False).features if "Pool" in type(layer).__name__]
    assert [(pool.kernel_size, pool.stride, pool.padding) for pool in pools] == [(2, 2, 0)] * 3
    x = torch.arange(64.0).view(1, 1, 8, 8)
    assert torch.equal(pools[0](x)[0, 0, 0], torch.tensor([9.0, 11, 13, 15]))  # the largest of each four


def test_cnn4_in_two_towers_keeps_them_apart_before_the_third_convolution():
    towers, whole = (build_model("cnn4", groups=groups) for groups in (2, 1))
    assert [m.groups for m in towers.features if isinstance(m, nn.Conv2d)] == [1, 2, 1]
    assert sum(p.numel() for p in whole.parameters()) - sum(p.numel() for p in towers.parameters()) == 16 * 32 * 5**2


# --- Normalisation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*ALEXNETS, *VGGS])
def test_batch_norm_stands_in_front_of_every_relu_of_the_convolutions(name):
    model = hollow(name, batch_norm=True)
    layers = list(model.features)
    convolutions = [position for position, layer in enumerate(layers) if isinstance(layer, nn.Conv2d)]
    for position in convolutions:
        norm, relu = layers[position + 1], layers[position + 2]
        assert type(norm) is nn.BatchNorm2d
        assert norm.num_features == layers[position].out_channels
        assert type(relu) is nn.ReLU
    number = Counter(kinds(model))
    assert number["BatchNorm2d"] == number["Conv2d"] == len(convolutions) > 0  # and nowhere else
    if name in ALEXNETS:
        assert count(model) == alexnet_parameters(name, ALEXNETS[name][0], batch_norm=True)
    else:
        assert count(model) == vgg_parameters(name, (64, 128, 256, 512, 512), batch_norm=True)
    assert logits_of(model, name).shape == (2, 10)


@pytest.mark.parametrize("name", [*ALEXNETS, *VGGS])
def test_without_batch_norm_there_is_none(name):
    model = hollow(name, batch_norm=False)
    assert "BatchNorm2d" not in kinds(model)
    if name in VGGS:
        assert count(model) == vgg_parameters(name, (64, 128, 256, 512, 512))


@pytest.mark.parametrize("name", ALEXNETS)
def test_response_norm_is_where_it_was_published_and_can_be_left_out(name):
    """Section 3.3: behind the ReLU of convolutions 1 and 2, in front of the pooling. S3: of convolution 5 too."""
    behind = [1, 2, 5] if name in S3_WITH_LRN else [1, 2]
    for lrn in (True, False):
        model = hollow(name, lrn=lrn)
        found = kinds(model.features)
        positions = [position for position, kind in enumerate(found) if kind == "LocalResponseNorm"]
        assert [found[:position].count("Conv2d") for position in positions] == (behind if lrn else [])
        for position in positions:
            assert (found[position - 1], found[position + 1]) == ("ReLU", "MaxPool2d")
        assert count(model) == alexnet_parameters(name, ALEXNETS[name][0])
    assert ("LocalResponseNorm" in kinds(hollow(name))) == (name in WITH_LRN)


@pytest.mark.parametrize("lrn", [True, False])
def test_response_norm_and_the_other_options_of_cnn4_go_together(lrn):
    model = hollow("cnn4", lrn=lrn, overlap=False, activation="tanh")
    assert Counter(kinds(model))["LocalResponseNorm"] == 2 * lrn
    assert count(model) == MODELS["cnn4"].parameters
    assert logits_of(model, "cnn4").shape == (2, 10)


def test_all_options_of_an_alexnet_together():
    options = {"width": 0.5, "hidden": 64, "map_side": 3, "overlap": False, "batch_norm": True, "lrn": True}
    model = build_model("alexnet-cifar-3x3", 5, dropout=0.0, init="he", **options)
    channels = (32, 96, 192, 128, 128)
    assert count(model) == alexnet_parameters("alexnet-cifar-3x3", channels, 64, 3, batch_norm=True, classes=5)
    assert kinds(model.features)[:5] == ["Conv2d", "BatchNorm2d", "ReLU", "LocalResponseNorm", "MaxPool2d"]
    logits = model(torch.randn(4, 3, 32, 32))
    assert logits.shape == (4, 5)
    logits.sum().backward()
    assert all(weight.grad is not None for weight in model.parameters())


# --- First weights ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("alexnet-2012", {"width": 0.25, "hidden": 128}),  # in groups, so a kernel sees half of the channels
        ("alexnet-cifar-3x3", {"width": 0.5, "hidden": 256, "batch_norm": True}),
        ("vgg-style-bn", {"width": 0.25, "hidden": 256}),
        ("cnn4", {}),
    ],
)
def test_he_initialisation(name, options):
    torch.manual_seed(0)
    model = build_model(name, init="he", **options)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            inputs, number = layer.weight[0].numel(), layer.weight.numel()
            wanted = math.sqrt(2 / inputs)
            assert abs(layer.weight.std().item() - wanted) < 5 * wanted / math.sqrt(2 * number)
            assert abs(layer.weight.mean().item()) < 5 * wanted / math.sqrt(number)
            assert layer.weight.abs().max() > 2 * wanted  # normal, not uniform, which ends at 1.73
            assert not layer.bias.any()
        elif isinstance(layer, nn.BatchNorm2d):
            assert layer.weight.unique().tolist() == [1]
            assert not layer.bias.any()


def test_he_initialisation_keeps_the_size_of_activations():
    """What it is for: PyTorch's own start lets them die away in a deep network without batch norm."""
    sizes = {}
    for init in ("he", "default"):
        torch.manual_seed(1)
        model = build_model("vgg-style", init=init, width=0.5, hidden=256).eval()
        x = torch.randn(8, 3, 32, 32)
        with torch.no_grad():
            sizes[init] = model.features(x).square().mean().sqrt().item()
    assert 0.2 < sizes["he"] < 5
    assert sizes["default"] < 0.05


def test_he_takes_a_layer_without_bias():
    layer = nn.Linear(1000, 50, bias=False)
    initialise(layer, "he")
    assert abs(layer.weight.std().item() - math.sqrt(2 / 1000)) < 0.002


# --- Wrong values ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("vgg-style", {"hidden": 0}, "hidden is 0, but must be an integer from 1 to 65536"),
        ("vgg-style", {"hidden": -4096}, "hidden is -4096"),
        ("alexnet-lrn", {"hidden": 10.0}, "hidden is 10.0"),
        ("alexnet-lrn", {"hidden": True}, "hidden is True"),
        ("alexnet-lrn", {"hidden": "many"}, "hidden is 'many'"),
        ("alexnet-lrn", {"hidden": 100_000}, "hidden is 100000"),
        ("vgg-style", {"width": 0}, "width is 0, but must be a number above 0 and at most 8"),
        ("vgg-style", {"width": -0.5}, "width is -0.5"),
        ("alexnet-lrn", {"width": "x"}, "width is 'x'"),
        ("alexnet-lrn", {"width": True}, "width is True"),
        ("alexnet-lrn", {"width": 9}, "width is 9"),
        ("alexnet-lrn", {"width": math.nan}, "width is nan"),
        ("alexnet-lrn", {"width": None}, "width is None"),
        ("alexnet-cifar-3x3", {"map_side": 0}, "map_side is 0, but must be an integer"),
        ("alexnet-cifar-3x3", {"map_side": 2.5}, "map_side is 2.5"),
        ("alexnet-lrn", {"map_side": 3}, "map_side is 3, but this network has no adaptive pool"),
        ("alexnet-2012", {"map_side": 7}, "leave map_side at 6"),
        ("alexnet-cifar-5x5-v1", {"map_side": 6}, "leave map_side at 2"),
        ("alexnet-lrn", {"batch_norm": 1}, "batch_norm is 1, but must be True or False"),
        ("vgg-style", {"batch_norm": "yes"}, "batch_norm is 'yes', but must be True or False"),
        ("cnn4", {"overlap": 0}, "overlap is 0, but must be True or False"),
        ("alexnet-lrn", {"lrn": "no"}, "lrn is 'no', but must be True or False"),
        ("cnn4", {"width": 0.5}, "cnn4 has no override 'width' (= 0.5); it takes in_channels, activation, lrn,"),
        ("alexnet-d2l", {"batch_norm": True}, "alexnet-d2l has no override 'batch_norm'"),
        ("vgg-style", {"lrn": True}, "vgg-style has no override 'lrn'"),
        ("lenet5", {"hidden": 10}, "lenet5 has no override 'hidden'"),
        ("cnn4", {"init": "He"}, "init is 'He', but must be default or paper or he"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_refused_in_one_sentence(name, options, words):
    with pytest.raises(CourseError) as caught:
        hollow(name, **options)
    sentence = str(caught.value)
    assert words in sentence
    assert sentence.endswith(".")
    assert not re.search(r"\.\s|\n", sentence), sentence
