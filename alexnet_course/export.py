"""Export a trained network for other programs: ONNX, TorchScript or safetensors, checked against the network."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from alexnet_course.errors import CourseError, first_line, nearest
from alexnet_course.files import check_target, expanded, refuse_existing, shown, whole_file
from alexnet_course.pretrained import load_trained
from alexnet_course.records.record import Record
from alexnet_course.shapes import watching
from alexnet_course.training.finished import build_recorded
from alexnet_course.version import __version__

TOLERANCE = 1e-4  # of a logit, relative to the largest one if that is above 1
ABOUT = "about.json"  # the entry of a TorchScript file that holds the metadata
OPSET = 17  # of ONNX: the newest that the exporters of PyTorch 2.6 and later all support

Answers = Callable[[Tensor], Tensor]  # images on the 0..1 scale to logits


@dataclass(frozen=True)
class Export:
    """An exported file."""

    path: Path
    difference: float | None
    """The largest difference between its logits and the network's; None if nothing here can run the file."""


def export_network(
    network: str | Path | tuple[nn.Module, Record], format: str, path: str | Path | None = None
) -> Export:
    """Write a trained network to a file, and compare the file's logits with the network's.

    ``network`` is the name of pretrained weights (``list_pretrained``), the folder of a finished run, or a network with
    its record; ``format`` is one of

    - ``onnx`` and ``torchscript``: the network including its normalisation. The input is N×C×H×W images on the 0..1
      scale, the output N × classes logits, for any N. In ONNX they are called ``images`` and ``logits``;
    - ``safetensors``: only the weights, for ``build_model``; images must be normalised before use;
    - ``web``: a page in one file, in which the network runs layer by layer, offline. Its weights are rounded to 8 bits,
      and its logits are compared with those of the network rounded alike.

    The file's metadata have the record's name, the network and its options, the classes in the order of the logits, and
    the side, mean and standard deviation of the images. ``path`` defaults to the name of the run, in the working
    directory. For batches of noise of several sizes, the file must give the network's logits to within 1e-4; otherwise
    no file is kept.

    Raises ``CourseError`` for an unknown format, for a file that already exists, for a network that cannot be exported
    in this format, and if ONNX's package is missing. An ONNX file is compared only if onnxruntime is installed.

    >>> from alexnet_course import export_network
    >>> export = export_network("vgg-style-bn.small", "torchscript")
    >>> export.path.name, export.difference < 1e-4
    ('vgg-style-bn.small-cpu-seed0.pt', True)
    """
    if format not in FORMATS:
        raise CourseError(f"format = {format!r} is not a known format; nearest: {nearest(format, FORMATS)}.")
    suffix, write, read = FORMATS[format]
    model, record = network if isinstance(network, tuple) else load_trained(network)
    target = expanded(path) if path is not None else Path(f"{record.recipe.run_name}{suffix}")
    refuse_existing(target)
    check_target(target)
    whole = Whole(copy.deepcopy(model).cpu().float(), record)
    with whole_file(target) as part:
        try:
            with warnings.catch_warnings():  # torch.jit is deprecated; shapes are fixed, as intended
                warnings.simplefilter("ignore")
                write(part, whole, record)
                answers = read(part, record)
                expected = _rounded(whole, record) if format == "web" else whole
                difference = None if answers is None else _compare(expected, answers, record)
        except (CourseError, OSError):
            raise
        except Exception as error:  # an exporter may fail in any way on a user's own network
            reason = first_line(error)
            raise CourseError(f"{record.recipe.model} cannot be exported as {format} ({reason:.200}); choose another "
                              "format.") from error  # fmt: skip
        if difference is not None and not difference <= TOLERANCE:  # or NaN
            raise CourseError(f"The logits of the {format} file are off by {difference:.2g}, more than "
                              f"{TOLERANCE:g}, so {shown(target)} was not kept; choose another format.")  # fmt: skip
    return Export(target, difference)


class Whole(nn.Module):
    """A trained network with its normalisation: from images on the 0..1 scale to the logits of its classes."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, record: Record) -> None:
        super().__init__()
        self.network = network
        self.classes = len(record.dataset.classes)  # there may be more outputs, as in S3
        self.register_buffer("mean", torch.tensor(record.dataset.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(record.dataset.std)[:, None, None])
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network((images - self.mean) / self.std)
        return logits[:, : self.classes]


def about(record: Record, normalises: bool = True) -> dict[str, str]:
    """A file's metadata; values that are not text are written as JSON."""
    recipe, dataset = record.recipe, record.dataset
    channels, side = len(dataset.mean), recipe.image_size
    normal = "which the file normalises" if normalises else "less mean, divided by std"
    values = {
        "name": recipe.run_name,
        "model": recipe.model,
        "model_options": recipe.as_dict()["model_options"],
        "outputs": recipe.outputs or len(dataset.classes),
        "classes": dataset.classes,
        "size": side,
        "mean": dataset.mean,
        "std": dataset.std,
        "input": f"N×{channels}×{side}×{side} images on the 0..1 scale, {normal}",
        "output": "a logit for each class",
        "dataset": dataset.name,
        "test_accuracy": record.test_accuracy,
        "written_by": f"alexnet-course {__version__}",
    }
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}


def _images(count: int, record: Record) -> Tensor:
    """Noise on the 0..1 scale, always the same."""
    side = record.recipe.image_size
    return torch.rand(count, len(record.dataset.mean), side, side, generator=torch.Generator().manual_seed(count))


def _compare(whole: Whole, answers: Answers, record: Record) -> float:
    """The largest difference of a logit, relative to the largest logit if that is above 1."""
    largest = 0.0
    for count in (1, 3):  # neither is the batch size of the export
        images = _images(count, record)
        with torch.no_grad():
            expected = whole(images)
        found = answers(images)
        if found.shape != expected.shape:
            raise CourseError(f"The file outputs {tuple(found.shape)} for {count} images, and the network "
                              f"{tuple(expected.shape)}; choose another format.")  # fmt: skip
        scale = max(1.0, expected.abs().max().item())
        largest = max(largest, (found - expected).abs().max().item() / scale)
    return largest


# --- The formats -----------------------------------------------------------------------------------------------------


def _write_safetensors(part: Path, whole: Whole, record: Record) -> None:
    from safetensors.torch import save

    # Copies, because safetensors refuses tensors that share memory.
    weights = {key: tensor.clone().contiguous() for key, tensor in whole.network.state_dict().items()}
    part.write_bytes(save(weights, about(record, normalises=False)))


def _read_safetensors(part: Path, record: Record) -> Answers:
    from safetensors.torch import load_file

    network = build_recorded(record)
    network.load_state_dict(load_file(part))
    return _without_gradients(Whole(network, record))


def _write_torchscript(part: Path, whole: Whole, record: Record) -> None:
    traced = torch.jit.trace(whole, _images(2, record), check_trace=False)
    torch.jit.save(traced, str(part), _extra_files={ABOUT: json.dumps(about(record), indent=1)})


def _read_torchscript(part: Path, record: Record) -> Answers:
    return _without_gradients(torch.jit.load(str(part), map_location="cpu"))


def _write_onnx(part: Path, whole: Whole, record: Record) -> None:
    """Use PyTorch's older exporter, which traces one forward pass. It needs no package besides onnx, and is the only
    one that works in every PyTorch since 2.6."""
    onnx = _package("onnx")
    images = _images(2, record)
    torch.onnx.export(
        _with_plain_poolings(whole, images),
        (images,),
        str(part),
        input_names=["images"],
        output_names=["logits"],
        dynamic_axes={"images": {0: "N"}, "logits": {0: "N"}},
        opset_version=OPSET,
        dynamo=False,
    )
    model = onnx.load(str(part))
    onnx.helper.set_model_props(model, about(record))
    onnx.checker.check_model(model)
    part.write_bytes(model.SerializeToString())


def _read_onnx(part: Path, record: Record) -> Answers | None:
    try:
        import onnxruntime
    except ImportError:
        return None
    session = onnxruntime.InferenceSession(str(part), providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])


# alexnet_course.web is imported where it is used: few programs need it, and each import costs all of them time.


def _rounded(whole: Whole, record: Record) -> Whole:
    """The network with the weights that a page computes with."""
    from alexnet_course.web import dequantised

    return Whole(dequantised(whole.network), record)


def _write_web(part: Path, whole: Whole, record: Record) -> None:
    from alexnet_course.web import describe, standalone_page

    part.write_text(standalone_page(describe(whole.network, record)), encoding="utf-8")


def _read_web(part: Path, record: Record) -> Answers:
    from alexnet_course.web import network_in, restored

    return _without_gradients(Whole(restored(network_in(part.read_text(encoding="utf-8"))), record))


# By name: the file's suffix, the function that writes it and the one that reads it back.
FORMATS: dict[str, tuple[str, Callable[[Path, Whole, Record], None], Callable[[Path, Record], Answers | None]]] = {
    "onnx": (".onnx", _write_onnx, _read_onnx),
    "torchscript": (".pt", _write_torchscript, _read_torchscript),
    "safetensors": (".safetensors", _write_safetensors, _read_safetensors),
    "web": (".html", _write_web, _read_web),
}


def _without_gradients(module: Any) -> Answers:
    @torch.no_grad()
    def answers(images: Tensor) -> Tensor:
        logits: Tensor = module(images)
        return logits

    return answers


def _package(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError:
        raise CourseError(f"The format onnx needs the package {name!r}; install it: pip install "
                          "'alexnet-course[onnx]'.") from None  # fmt: skip


class FixedPooling(nn.Module):
    """Adaptive pooling for one input size, h×w, in operations that ONNX supports.

    ONNX's pooling has windows of equal size; adaptive pooling has them only if the output size divides the input size.
    Window i of ``output`` begins at ⌊i h / output⌋ and ends before ⌈(i + 1) h / output⌉, as in PyTorch.
    """

    def __init__(self, layer: nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d, size: tuple[int, int]) -> None:
        super().__init__()
        self.reduce: Any = torch.mean if isinstance(layer, nn.AdaptiveAvgPool2d) else torch.amax
        wanted = layer.output_size if isinstance(layer.output_size, tuple) else (layer.output_size,) * 2
        sides = ((side, side if parts is None else parts) for side, parts in zip(size, wanted, strict=True))
        self.windows = [
            [(i * side // parts, -(-(i + 1) * side // parts)) for i in range(parts)] for side, parts in sides
        ]

    def forward(self, maps: Tensor) -> Tensor:
        rows, columns = self.windows
        maps = torch.stack([self.reduce(maps[:, :, start:end], 2) for start, end in rows], 2)
        return torch.stack([self.reduce(maps[:, :, :, start:end], 3) for start, end in columns], 3)


def _with_plain_poolings(whole: Whole, images: Tensor) -> Whole:
    """A copy whose adaptive pooling layers are fixed to the input size they get for ``images``."""
    plain = copy.deepcopy(whole)
    kinds = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
    adaptive = {name: layer for name, layer in plain.named_modules() if isinstance(layer, kinds)}
    sizes: dict[str, tuple[int, int]] = {}

    def keep(name: str, layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        sizes[name] = tuple(inputs[0].shape[-2:])

    with watching(adaptive, keep), torch.no_grad():
        plain(images)
    for name, size in sizes.items():
        plain.set_submodule(name, FixedPooling(adaptive[name], size))
    return plain
