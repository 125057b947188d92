"""Predictions of a trained network for unlabelled images."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

import torch
from torch import Tensor, nn

from alexnet_course.data import Dataset
from alexnet_course.data.batches import BatchLoader
from alexnet_course.data.decode import read_image
from alexnet_course.data.tree import image_files
from alexnet_course.errors import CourseError
from alexnet_course.features import grad_cam
from alexnet_course.files import expanded
from alexnet_course.pretrained import load_trained
from alexnet_course.records.record import Record
from alexnet_course.shapes import evaluating
from alexnet_course.training.device import choose_device, fp32_in_full

BATCH = 64


@dataclass(frozen=True)
class Prediction:
    """A network's prediction for one image."""

    path: Path
    """The file."""
    probabilities: dict[str, float]
    """The probability of every class, the most probable first; they add up to 1."""
    image: Tensor | None = field(default=None, compare=False, repr=False)
    """With ``explain``, the image as the network saw it, C×H×W on the 0..1 scale; otherwise None, to save memory."""
    evidence: Tensor | None = field(default=None, compare=False, repr=False)
    """With ``explain``, where the evidence for the most probable class lies, h×w (``grad_cam``); otherwise None."""

    @property
    def best(self) -> str:
        """The most probable class."""
        return next(iter(self.probabilities))


def predict(
    network: str | Path | tuple[nn.Module, Record],
    images: str | Path | Sequence[str | Path],
    *,
    device: str = "auto",
    explain: bool = False,
) -> list[Prediction]:
    """Classify ``images`` with a trained network; returns one prediction per image, in the order given.

    ``network`` is the name of pretrained weights (``list_pretrained``), the folder of a finished run, or a network with
    its record. A network that is passed in stays on its device; the others are moved to ``device``.

    Each of ``images`` is a file, or a folder whose files are read at any depth, except those that file managers leave
    there. Images are prepared as in a folder of training images of different sizes: rotated upright, transparent parts
    made white, resized to the side of the training images as the recipe's ``resize`` says, then cropped or enlarged for
    the network as those were, and normalised with their constants. For a network of greyscale images they are
    converted. With ``explain``, each prediction comes with the image and its evidence.

    Raises ``CourseError`` for a run or an image that does not exist, for a named file that is not an image, and for a
    network whose input has neither one channel nor three. Files in a folder that are not images are skipped with a
    warning.

    >>> from alexnet_course import predict
    >>> from alexnet_course.data.photos import FOLDER
    >>> cat, horse = predict("vgg-style-bn.small", [FOLDER / "cat.png", FOLDER / "horse.png"])
    >>> cat.best, horse.best, horse.probabilities["horse"] > 0.5
    ('cat', 'horse', True)
    """
    if isinstance(network, tuple):
        model, record = network
    else:
        chosen = choose_device(device)
        model, record = load_trained(network)
        model.to(chosen)
    return list(predictions(model, record, [images] if isinstance(images, str | Path) else images, explain))


def predictions(
    model: nn.Module, record: Record, images: Sequence[str | Path], explain: bool = False
) -> Iterator[Prediction]:
    """What ``predict`` returns, as it comes, so that any number of images takes the memory of one batch."""
    recipe, trained_on = record.recipe, record.dataset
    side = trained_on.side or recipe.loaded_size
    found = _read(files_in(images), len(trained_on.mean), side, recipe.resize)
    first = list(islice(found, 1))
    if not first:
        raise CourseError(f"There is no image in {', '.join(map(repr, map(str, images)))}; give files, or folders "
                          "with images in them.")  # fmt: skip
    found = chain(first, found)
    while batch := list(islice(found, BATCH)):
        yield from _classify(model, record, batch, explain)


def _classify(
    model: nn.Module, record: Record, batch: Sequence[tuple[Path, Tensor]], explain: bool
) -> list[Prediction]:
    recipe, trained_on = record.recipe, record.dataset
    names = trained_on.classes
    chosen = next(model.parameters()).device
    pixels = torch.stack([each for _, each in batch])
    dataset = Dataset(pixels, torch.zeros(len(batch), dtype=torch.int64), names, "images")
    loader = BatchLoader(  # prepares them like the images of a data set
        dataset,
        BATCH,
        mean=trained_on.mean,
        std=trained_on.std,
        size=recipe.image_size,
        cut=recipe.random_crop,
        device=chosen,
    )
    answers = []
    with evaluating(model), fp32_in_full(chosen):
        prepared = loader.prepare(pixels)
        with torch.no_grad():  # there may be more outputs than classes, as in S3
            shares = model(prepared)[:, : len(names)].float().softmax(1).cpu()
        seen = (prepared * loader.std + loader.mean).cpu()
        for number, (file, _) in enumerate(batch):
            row = shares[number]
            order = row.argsort(descending=True, stable=True).tolist()
            shown = (seen[number], grad_cam(model, prepared[number], order[0])) if explain else ()
            answers.append(Prediction(file, {names[i]: row[i].item() for i in order}, *shown))
    return answers


def files_in(images: Iterable[str | Path]) -> list[tuple[Path, bool]]:
    """Every file, and whether it was named itself; ``CourseError``, before any is read, if one does not exist."""
    files: list[tuple[Path, bool]] = []
    for path in map(expanded, images):
        if path.is_dir():
            files += [(Path(file), False) for file in image_files(path)]
        elif path.exists():
            files.append((path, True))
        else:
            raise CourseError(f"There is no image {str(path)!r}; give the path of a file, or of a folder with "
                              "images in it.")  # fmt: skip
    return files


def _read(files: Iterable[tuple[Path, bool]], channels: int, side: int, resize: str) -> Iterator[tuple[Path, Tensor]]:
    """Each image as uint8 ``channels``×``side``×``side``, resized like the images of a data set in a folder."""
    from torchvision.transforms.v2.functional import rgb_to_grayscale

    if channels not in (1, 3):
        raise CourseError(f"The network takes images of {channels} channels, and image files have 3, or 1 if they are "
                          "grey; give a network for one of these.")  # fmt: skip
    for path, named in files:
        try:
            pixels = read_image(str(path), side, resize)
        except CourseError as error:
            if named:
                raise
            warnings.warn(f"One file is skipped: {error}", stacklevel=4)
            continue
        colours = torch.tensor(pixels)
        yield path, rgb_to_grayscale(colours) if channels == 1 else colours
