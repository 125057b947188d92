"""What is written for other programs gives the network's own answers there, and says what its use needs."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from alexnet_course import CourseError, build_model, export_network, load_pretrained
from alexnet_course.cli import main
from alexnet_course.cli.export import FORMATS as NAMES
from alexnet_course.data.batches import BatchLoader
from alexnet_course.data.dataset import Dataset
from alexnet_course.export import ABOUT, FORMATS, FixedPooling
from alexnet_course.models import MODELS, alexnet
from alexnet_course.models.specs import SPECS
from alexnet_course.records.record import Record

NAME = "vgg-style-bn.small"
EXACT = [format for format in FORMATS if format != "web"]  # a page has rounded weights: tests/web
NARROW = {"width": 0.1, "hidden": 8}
# Every network at its smallest, and what can be switched on in it.
NETWORKS = {spec.name: {} if spec.name in ("alexnet-d2l", "cnn4", "lenet5") else NARROW for spec in SPECS}
SWITCHED = [
    ("alexnet-cifar-3x3", {**NARROW, "batch_norm": True}),
    ("alexnet-cifar-3x3", {**NARROW, "map_side": 3, "overlap": False}),
    ("alexnet-d2l", {"trailing_relu": True}),
    ("cnn4", {"lrn": True}),
    ("cnn4", {"activation": "tanh"}),
]


@pytest.fixture(autouse=True)
def somewhere_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def network() -> tuple[nn.Module, Record]:
    return load_pretrained(NAME)


@pytest.fixture
def registered(monkeypatch):
    """Makes ``build`` the network ``mine``, with the record of a run of it."""

    def register(build, record: Record) -> tuple[nn.Module, Record]:
        monkeypatch.setitem(MODELS, "mine", replace(MODELS["cnn4"], name="mine", builder=build))
        return build(), record.replace(recipe=record.recipe.replace(model="mine", model_options={}, name="mine"))

    return register


def needs(format: str) -> None:
    if format == "onnx":
        pytest.importorskip("onnxruntime", reason="onnxruntime, which comes with the extra test, is not installed")


def answers(path: Path, format: str, record: Record, images: torch.Tensor) -> tuple[torch.Tensor, dict[str, str]]:
    """What another program gets out of a file: logits of images on the 0..1 scale, and what the file says of itself."""
    if format == "onnx":
        import onnx
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        said = {pair.key: pair.value for pair in onnx.load(str(path)).metadata_props}
        assert session.get_inputs()[0].shape == ["N", 3, 32, 32]
        return torch.from_numpy(session.run(None, {"images": images.numpy()})[0]), said
    if format == "torchscript":
        more = {ABOUT: ""}
        loaded = torch.jit.load(str(path), _extra_files=more)
        return loaded(images), json.loads(more[ABOUT])
    with safe_open(path, "pt") as file:
        said = file.metadata()
        weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    built = build_model(said["model"], num_classes=int(said["outputs"]), **json.loads(said["model_options"])).eval()
    built.load_state_dict(weights)
    mean, std = (torch.tensor(json.loads(said[key]))[:, None, None] for key in ("mean", "std"))
    return built((images - mean) / std), said


@pytest.mark.parametrize("format", EXACT)
def test_another_program_gets_the_answers_of_the_network_for_any_number_of_images(network, format):
    needs(format)
    model, record = network
    model.train()
    export = export_network((model, record), format)
    assert model.training
    model.eval()
    pixels = torch.randint(256, (5, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))
    dataset = Dataset(pixels, torch.zeros(5, dtype=torch.int64), record.dataset.classes, "noise")
    loader = BatchLoader(dataset, 5, mean=record.dataset.mean, std=record.dataset.std)
    with torch.no_grad():
        expected = model(loader.prepare(pixels))
        found, said = answers(export.path, format, record, pixels.float() / 255)
    assert torch.allclose(found, expected, atol=1e-4)
    assert export.difference < 1e-4
    assert export.path.name == f"vgg-style-bn.small-cpu-seed0{export.path.suffix}"
    assert said["name"] == "vgg-style-bn.small-cpu-seed0"
    assert json.loads(said["classes"]) == list(record.dataset.classes)
    assert json.loads(said["mean"]) == list(record.dataset.mean)
    assert json.loads(said["std"]) == list(record.dataset.std)
    assert json.loads(said["size"]) == 32
    assert json.loads(said["test_accuracy"]) == record.test_accuracy
    assert said["input"].startswith("N×3×32×32 images on the 0..1 scale, ")
    assert ("which the file normalises" in said["input"]) == (format != "safetensors")
    assert [path.name for path in Path().iterdir()] == [export.path.name]


def test_the_command_line_knows_the_formats():
    assert tuple(FORMATS) == NAMES


@pytest.mark.parametrize("format", EXACT)
@pytest.mark.parametrize(("name", "options"), [*NETWORKS.items(), *SWITCHED])
def test_every_kind_of_network_comes_out_as_it_was(network, name, options, format, monkeypatch):
    """Response norm, batch norm, two towers, adaptive poolings whose windows differ in size."""
    needs(format)
    if name == "alexnet-d2l":  # whose widths are no options
        monkeypatch.setattr(alexnet, "PAPER_CHANNELS", (8, 16, 8, 8, 8))
        head = alexnet.hidden_and_output
        monkeypatch.setattr(alexnet, "hidden_and_output", lambda inputs, hidden, *more: head(inputs, 8, *more))
    record = network[1]
    recipe = record.recipe.replace(model=name, model_options=options, name="x")
    torch.manual_seed(0)
    model = build_model(name, in_channels=3, init="he", **options)  # with which the logits are not all alike
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.5, 2)
    export = export_network((model, record.replace(recipe=recipe)), format, "x")
    assert export.difference < 1e-4


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (2, 7), (6, 6), (13, 5)])
@pytest.mark.parametrize("output", [6, (1, 4), (None, 3)])
def test_a_fixed_pooling_is_the_adaptive_one(size, output):
    maps = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    for kind in (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d):
        assert torch.allclose(FixedPooling(kind(output), size)(maps), kind(output)(maps), atol=1e-6)


def test_outputs_beyond_the_classes_are_left_out(network):
    model, record = network
    fewer = record.replace(dataset=record.dataset.model_copy(update={"classes": record.dataset.classes[:4]}))
    export = export_network((model, fewer), "torchscript")
    assert torch.jit.load(str(export.path))(torch.zeros(2, 3, 32, 32)).shape == (2, 4)


class TestWhatIsRefused:
    def test_a_file_that_gives_other_answers_is_not_kept(self, network, monkeypatch):
        suffix, write, read = FORMATS["safetensors"]

        def off(part, record):
            right = read(part, record)
            return lambda images: right(images) + 2e-4 * right(images).abs().max()

        monkeypatch.setitem(FORMATS, "safetensors", (suffix, write, off))
        with pytest.raises(CourseError, match=r"The logits of the safetensors file are off by 0\.0002, more than"):
            export_network(network, "safetensors", "x")
        assert not list(Path().iterdir())

    def test_a_file_that_exists_stays(self, network):
        Path("mine.pt").write_text("mine")
        with pytest.raises(CourseError, match=r"'mine.pt' already exists and is not overwritten"):
            export_network(network, "torchscript", "mine.pt")
        assert Path("mine.pt").read_text() == "mine"
        with pytest.raises(CourseError, match=r"'missing/x' cannot be written to"):
            export_network(network, "torchscript", "missing/x")

    def test_another_format(self, network):
        with pytest.raises(CourseError, match=r"format = 'onxx' is not a known format; nearest: onnx\."):
            export_network(network, "onxx")

    def test_a_network_that_takes_one_number_of_images_alone(self, network, registered):
        class Fixed(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = nn.Linear(3072, 10)

            def forward(self, images):
                return self.layer(images.reshape(int(images.shape[0]), 3072)) + torch.zeros(len(images), 1)

        with pytest.raises(CourseError, match=r"^mine cannot be exported as torchscript \(.*\); choose another"):
            export_network(registered(Fixed, network[1]), "torchscript")
        assert not list(Path().iterdir())

    def test_a_network_that_the_format_cannot_hold(self, network, registered):
        needs("onnx")

        class Odd(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = nn.Linear(10, 10)

            def forward(self, images):
                return self.layer(torch.fft.fft(images).real.mean((1, 2))[:, :10])

        with pytest.raises(CourseError, match=r"^mine cannot be exported as onnx \(.*\); choose another format\."):
            export_network(registered(Odd, network[1]), "onnx")
        assert not list(Path().iterdir())


def test_what_is_missing_for_onnx_is_said(monkeypatch, capsys):
    needs("onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["export", NAME, "--format", "onnx", "-o", "x.onnx"]) == 0
    assert "; not compared, because onnxruntime is not installed" in capsys.readouterr().out
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["export", NAME, "--format", "onnx"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "The format onnx needs the package 'onnx'; install it: pip install 'alexnet-course[onnx]'." in err
    assert [path.name for path in Path().iterdir()] == ["x.onnx"]


def test_the_command_says_what_it_wrote_and_how_well_it_fits(capsys):
    assert main(["export", NAME, "--format", "safetensors"]) == 0
    out, err = capsys.readouterr()
    file = Path("vgg-style-bn.small-cpu-seed0.safetensors")
    assert out == f"{file}: {file.stat().st_size:,} bytes; its logits differ from the network's by at most 0.0e+00\n"
    assert err == ""
    assert main(["export", NAME, "--format", "safetensors"]) == 2
    assert "already exists" in capsys.readouterr().err
