"""The networks against what was published about them, and what they say to images that do not fit."""

import re
from pathlib import Path

import pytest
import torch
import torchinfo
import torchvision
from torch import nn

from alexnet_course.errors import CourseError
from alexnet_course.models import MODELS, AlexNet, Network, build_model, list_models, summary
from alexnet_course.shapes import layer_table, zeros_like_input

TABLES = Path(__file__).parent / "tables"  # carried over from the write-ups S0, S1 and S4

# From the write-ups S0 to S4 and the two papers; the counts of the other networks follow from their layers alone.
PUBLISHED_PARAMETERS = {
    "alexnet-cifar-3x3": 57_023_306,
    "alexnet-d2l": 46_787_978,
    "alexnet-lrn": 58_322_314,
    "alexnet-cifar-5x5-v1": 24_740_234,
    "alexnet-cifar-5x5": 57_026_378,
    "alexnet-cifar-5x5-lrn": 58_294_666,
    "alexnet-2012": 60_965_224,
    "alexnet-owt": 61_100_840,
    "lenet5": 61_706,
}


def hollow(name, num_classes=10, **overrides):
    """A network without values: for questions about shapes, which it answers without memory or time."""
    with torch.device("meta"):
        return build_model(name, num_classes, **overrides).eval()


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", list_models())
def test_counts_shapes_and_totals(name):
    spec = MODELS[name]
    model = hollow(name, spec.num_classes)
    assert model.name == spec.name == name
    assert count(model) == spec.parameters == PUBLISHED_PARAMETERS.get(name, spec.parameters)
    rows = layer_table(model, spec.input_size)
    assert rows[-1].output_shape == (spec.num_classes,)
    assert sum(row.parameters for row in rows) == spec.parameters
    info = torchinfo.summary(model, input_data=zeros_like_input(model, (1, *spec.input_size)), verbose=0)
    assert sum(row.mult_adds for row in rows) == info.total_mult_adds
    # torchinfo counts the outputs of the layers with weights only, and twice: once more for their gradients.
    assert sum(2 * row.activation_bytes for row in rows if row.parameters) == info.total_output_bytes
    assert [(row.kind, row.output_shape) for row in rows] == [
        (layer.class_name, tuple(layer.output_size[1:])) for layer in info.summary_list if layer.is_leaf_layer
    ]


@pytest.mark.parametrize("name", list_models())
def test_other_channels_and_classes(name):
    model = hollow(name, 3, in_channels=2)
    assert model(zeros_like_input(model, (2, 2, model.smallest, model.smallest))).shape == (2, 3)


def test_vgg_style_has_about_the_published_size():
    assert abs(MODELS["vgg-style"].parameters / 15.9e6 - 1) < 0.01


def test_s1_count_and_its_trailing_relu():
    model = hollow("alexnet-d2l")
    assert count(model) == 46_787_978
    assert isinstance(model.net[-1], nn.Linear)
    wrong = build_model("alexnet-d2l", trailing_relu=True).eval()
    logits = wrong.net[:-1](x := torch.randn(4, 3, 224, 224))
    assert (logits < 0).any()
    assert torch.equal(wrong(x), logits.clamp(min=0))


def test_s0_table_to_the_letter():
    published = (TABLES / "s0.txt").read_text()
    assert summary(hollow("alexnet-cifar-3x3"), (3, 32, 32)) + "\n" == published
    assert summary(hollow("alexnet-cifar-3x3"), (1, 3, 32, 32)) + "\n" == published


def test_s1_table_row_by_row():
    rows = layer_table(hollow("alexnet-d2l", trailing_relu=True), (3, 224, 224))
    rows = [row for row in rows if row.kind != "Flatten"]  # S1's network flattened outside of its layers
    ours = [
        f"{row.kind}-{number}  {[-1, *row.output_shape]}  {row.parameters:,}"
        for number, row in enumerate(rows, start=1)
    ]
    mebi = 2**20  # torchsummary's MB
    parameters = sum(row.parameters for row in rows)
    sizes = (3 * 224 * 224 * 4 / mebi, 2 * sum(row.activation_bytes for row in rows) / mebi, parameters * 4 / mebi)
    labels = ("Input size", "Forward/backward pass size", "Params size", "Estimated Total Size")
    ours += [f"Total params: {parameters:,}", f"Trainable params: {parameters:,}", "Non-trainable params: 0"]
    ours += [f"{label} (MB): {size:.2f}" for label, size in zip(labels, (*sizes, sum(sizes)), strict=True)]
    assert ours == (TABLES / "s1.txt").read_text().splitlines()


def test_s4_table_row_by_row():
    model = hollow("alexnet-d2l", in_channels=1)
    assert count(model) == 46_764_746
    rows = layer_table(model, (1, 224, 224))
    ours = [
        f"{row.kind} output shape: torch.Size([batch_size, {', '.join(str(side) for side in row.output_shape)}])"
        for row in rows
    ]
    published = (TABLES / "s4.txt").read_text().replace("num_label", "10")
    assert ours == published.splitlines()


def test_s3_first_version_layer_by_layer():
    """Against S3's network.py, branch v1."""
    rows = layer_table(model := hollow("alexnet-cifar-5x5-v1"), (3, 32, 32))
    block = ["Conv2d", "ReLU", "LocalResponseNorm", "MaxPool2d"]
    hidden = ["Linear", "ReLU", "Dropout"]
    kinds = [*block, *block, *["Conv2d", "ReLU"] * 2, *block, *hidden, *hidden, "Linear"]
    assert [row.kind for row in rows] == kinds
    maps = [row.output_shape for row in rows if row.kind in ("Conv2d", "MaxPool2d", "Linear")]
    assert maps == [
        *[(96, 28, 28), (96, 13, 13), (256, 13, 13), (256, 6, 6)],
        *[(384, 6, 6), (384, 6, 6), (256, 6, 6), (256, 2, 2)],
        *[(4096,), (4096,), (10,)],
    ]
    assert model.classifier[0].in_features == 1024
    assert count(hollow("alexnet-cifar-5x5-v1", 256)) == 25_748_096  # outputs that S3 gave it for CIFAR-100


@pytest.mark.parametrize(
    ("name", "alpha"),
    [("alexnet-cifar-5x5-v1", 1e-4), ("alexnet-cifar-5x5-lrn", 1e-4), ("alexnet-lrn", 5e-4), ("alexnet-2012", 5e-4)],
)
def test_s3_gives_pytorch_the_papers_alpha(name, alpha):
    """PyTorch divides it by 5, so that the paper's own is five times as large there."""
    norms = [layer for layer in hollow(name).modules() if isinstance(layer, nn.LocalResponseNorm)]
    assert {(norm.size, norm.alpha, norm.beta, norm.k) for norm in norms} == {(5, alpha, 0.75, 2)}


def test_owt_is_torchvisions():
    ours = build_model("alexnet-owt", 1000).eval()
    with torch.device("meta"):
        theirs = torchvision.models.alexnet(weights=None).eval()
    shapes = {key: value.shape for key, value in theirs.state_dict().items()}
    assert {key: value.shape for key, value in ours.state_dict().items()} == shapes
    theirs.load_state_dict(ours.state_dict(), assign=True)
    x = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))


def test_2012_has_two_groups_where_the_paper_has():
    convolutions = [layer for layer in hollow("alexnet-2012").modules() if isinstance(layer, nn.Conv2d)]
    assert [layer.groups for layer in convolutions] == [1, 2, 1, 2, 2]
    # Section 3.5: "256 kernels of size 5 × 5 × 48", "3 × 3 × 256", "3 × 3 × 192", "3 × 3 × 192".
    shapes = [(96, 3, 11, 11), (256, 48, 5, 5), (384, 256, 3, 3), (384, 192, 3, 3), (256, 192, 3, 3)]
    assert [tuple(layer.weight.shape) for layer in convolutions] == shapes


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("alexnet-owt", ["Dropout", "Linear", "ReLU", "Dropout", "Linear", "ReLU", "Linear"]),
        ("alexnet-2012", ["Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]),
        ("alexnet-cifar-5x5-v1", ["Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]),
        ("alexnet-cifar-5x5", ["Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]),
        ("vgg-style", ["Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]),
    ],
)
def test_place_and_rate_of_dropout(name, order):
    head = hollow(name, dropout=0.25).classifier
    assert [type(layer).__name__ for layer in head] == order
    assert {layer.p for layer in head if isinstance(layer, nn.Dropout)} == {0.25}


def test_cnn4_flags():
    kinds = [row.kind for row in layer_table(build_model("cnn4", activation="tanh", lrn=True), (3, 32, 32))]
    assert kinds == [
        *["Conv2d", "Tanh", "MaxPool2d", "LocalResponseNorm"],
        *["Conv2d", "Tanh", "AvgPool2d", "LocalResponseNorm"],
        *["Conv2d", "Tanh", "AvgPool2d", "Linear"],
    ]


def test_cnn4_averages_only_pixels_that_exist():
    pool = next(layer for layer in build_model("cnn4").modules() if isinstance(layer, nn.AvgPool2d))
    assert torch.equal(pool(torch.ones(1, 1, 16, 16)), torch.ones(1, 1, 8, 8))


# --- wrong names and values -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "alexnet-cifar-3x4"}, ["'alexnet-cifar-3x4'", "alexnet-cifar-3x3"]),
        ({"name": "zzz"}, ["'zzz'", *list_models()]),
        ({"name": "lenet5", "dropout": 0.5}, ["lenet5", "'dropout'", "in_channels, init"]),
        ({"name": "cnn4", "activation": "gelu"}, ["'gelu'", "relu or tanh"]),
        ({"name": "cnn4", "lrn": "yes"}, ["lrn", "'yes'", "True or False"]),
        ({"name": "cnn4", "init": "xavier"}, ["init", "'xavier'", "default or paper"]),
        ({"name": "cnn4", "num_classes": 0}, ["num_classes is 0", "from 1 to 65536"]),
        ({"name": "cnn4", "num_classes": 2.5}, ["num_classes is 2.5"]),
        ({"name": "cnn4", "num_classes": True}, ["num_classes is True"]),
        ({"name": "cnn4", "in_channels": -1}, ["in_channels is -1"]),
        ({"name": "alexnet-lrn", "dropout": 1}, ["dropout is 1,"]),
        ({"name": "alexnet-lrn", "dropout": "0.5"}, ["dropout is '0.5'"]),
    ],
)
def test_wrong_arguments(arguments, words):
    with pytest.raises(CourseError) as error:
        build_model(**arguments)
    for word in words:
        assert word in str(error.value)


# --- images that do not fit -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        (
            "alexnet-lrn",
            (1, 3, 32, 32),
            "alexnet-lrn cannot take an image of 32×32: it vanishes at features.7 (MaxPool2d 3/2), where only 2×2 of "
            "it is left; the smallest that works is 227×227 and the largest 258×258.",
        ),
        (
            "alexnet-cifar-5x5-v1",
            (1, 3, 36, 40),
            "alexnet-cifar-5x5-v1 cannot take an image of 36×40: it reaches classifier.0 (Linear) as 256×3×3 = 2,304 "
            "values, where 1,024 are expected; the smallest that works is 27×27 and the largest 34×34.",
        ),
        (
            "alexnet-owt",
            (1, 3, 224, 40),
            "alexnet-owt cannot take an image of 224×40: it vanishes at features.12 (MaxPool2d 3/2), where only 13×1 "
            "of it is left; the smallest that works is 63×63.",
        ),
        (
            "alexnet-d2l",
            (1, 3, 256, 256),
            "alexnet-d2l cannot take an image of 256×256: it reaches net.14 (Linear) as 256×6×6 = 9,216 values, where "
            "6,400 are expected; the smallest that works is 193×193 and the largest 224×224.",
        ),
        (
            "lenet5",
            (5, 1, 64, 64),
            "lenet5 cannot take an image of 64×64: it reaches classifier.0 (Linear) as 120×9×9 = 9,720 values, where "
            "120 are expected; the smallest that works is 32×32 and the largest 35×35.",
        ),
        (
            "lenet5",
            (5, 3, 32, 32),
            "lenet5 takes images with 1 channel, but got 5×3×32×32 (N×C×H×W); convert the images, or build it with "
            "in_channels=3.",
        ),
        (
            "cnn4",
            (3, 32, 32),
            "cnn4 takes a batch of shape N×3×H×W, but got one of shape 3×32×32; add the dimensions that are missing "
            "(x.unsqueeze(0) makes a batch of one image).",
        ),
    ],
)
def test_images_that_do_not_fit(name, shape, message):
    with pytest.raises(CourseError) as error:
        hollow(name)(torch.zeros(shape, device="meta"))
    assert str(error.value) == message


def test_bytes_instead_of_numbers():
    with pytest.raises(CourseError, match=r"cnn4 .* torch.uint8; scale them first"):
        build_model("cnn4")(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))


@pytest.mark.parametrize("name", list_models())
def test_limits_are_torchs_own(name, monkeypatch):
    model = hollow(name)
    fits = [model.smallest, *([model.largest] if model.largest else [])]
    too_small_or_large = [model.smallest - 1, *([model.largest + 1] if model.largest else [])]
    monkeypatch.setattr(Network, "check_input", lambda self, x: None)
    for side in fits:
        assert model(zeros_like_input(model, (1, model.in_channels, side, side))).shape == (1, 10)
    for side in too_small_or_large:
        with pytest.raises(RuntimeError):
            model(zeros_like_input(model, (1, model.in_channels, side, side)))


def test_changed_layers_are_looked_at_as_they_are():
    model = hollow("alexnet-owt")
    model.features[0] = nn.Conv2d(3, 64, kernel_size=3, padding=2, device="meta")  # S0's change of torchvision's
    assert model(zeros_like_input(model, (1, 3, 32, 32))).shape == (1, 10)
    model.measure_input()
    assert model.smallest == hollow("alexnet-cifar-3x3").smallest


@pytest.mark.parametrize(
    ("pool", "inputs", "message"),
    [
        (nn.MaxPool2d(2), 400, "at 12×12 pixels, it reaches classifier.0 (Linear) as 32×4×4 = 512 values, where 400"),
        (
            nn.AdaptiveAvgPool2d(2),
            400,
            "it reaches classifier.0 (Linear) as 32×2×2 = 128 values, where 400 are expected",
        ),
    ],
)
def test_layers_that_fit_for_no_square_image_are_refused(pool, inputs, message):
    """A square map of 32 channels never has 400 values."""

    class Wrong(Network):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(nn.Conv2d(3, 32, 5), nn.ReLU(), pool)
            self.classifier = nn.Sequential(nn.Linear(inputs, 10))
            self.measure_input()

    with pytest.raises(CourseError, match=f"^Wrong cannot take any square image: .*{re.escape(message)}"):
        Wrong()


def test_a_network_built_by_hand_calls_itself_by_its_class():
    with torch.device("meta"):
        model = AlexNet((4, 4, 4, 4, 4), kernel=3, stride=1, padding=1)
    with pytest.raises(CourseError, match=r"^AlexNet takes"):
        model(torch.zeros(1, 1, 2, 2))


@pytest.mark.slow
def test_compiles_into_one_graph_and_still_explains():
    model = build_model("lenet5")
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    for batch, side in [(2, 32), (3, 33)]:  # the second call makes the sizes symbolic
        x = torch.randn(batch, 1, side, side)
        assert torch.equal(compiled(x), model(x))
    with pytest.raises(CourseError, match="lenet5 cannot take an image of 8×8"):
        torch.compile(model, backend="eager")(torch.zeros(1, 1, 8, 8))


# --- summary ----------------------------------------------------------------------------------------------------------


def test_summary_changes_nothing():
    model = build_model("vgg-style-bn").train()
    model.features.eval()
    modes = [module.training for module in model.modules()]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    summary(model, (3, 32, 32))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("height", "unit"), [(20, "(M): 20"), (938.75, "(M): 938.75"), (60_080, "(G): 60.08"), (1_030_000, "(T): 1.03")]
)
def test_summary_spells_its_units(height, unit):
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False, device="meta"))  # one multiply-add for every pixel
    text = summary(model, (1, int(height * 100), 10_000))
    assert re.search(r"^Total mult-adds .*$", text, re.MULTILINE)[0] == f"Total mult-adds {unit}"


def test_summary_explains_wrong_input():
    model = hollow("alexnet-lrn")
    with pytest.raises(CourseError, match="alexnet-lrn cannot take an image of 32×32"):
        summary(model, (3, 32, 32))
    for wrong in [(32, 32), (3, 0, 32), (3, 32.0, 32)]:
        with pytest.raises(CourseError, match=r"input_size is .* positive integers"):
            summary(model, wrong)
