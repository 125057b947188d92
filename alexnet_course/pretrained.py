"""Trained networks that come with the package: small ones, in fp16, each with the record of its run."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from functools import cache
from hashlib import blake2b
from pathlib import Path

from torch import Tensor, nn

from alexnet_course.data import Dataset
from alexnet_course.errors import CourseError, nearest
from alexnet_course.files import expanded, write_tensors, write_text
from alexnet_course.records import FOLDER as RECORDS
from alexnet_course.records.check import read_fitting
from alexnet_course.records.record import Record, dump_record
from alexnet_course.results.table import in_markdown
from alexnet_course.results.verify import other_accuracy
from alexnet_course.training.evaluation import evaluate
from alexnet_course.training.finished import build_recorded, load_run

FOLDER = Path(__file__).parent / "weights"
INDEX = "weights.toml"


def list_pretrained(folder: str | Path = FOLDER) -> list[str]:
    """The names that ``load_pretrained`` knows.

    >>> from alexnet_course import list_pretrained
    >>> list_pretrained()
    ['alexnet-cifar-5x5-lrn.small', 'vgg-style-bn.small']
    """
    return list(_index(Path(folder)))


def load_pretrained(name: str, folder: str | Path = FOLDER) -> tuple[nn.Module, Record]:
    """A trained network, in ``eval()`` mode on the CPU, and the record of the run that trained it.

    ``record.dataset`` has what you need to use it: the classes, in the order of the logits, and the mean and standard
    deviation for normalising images. Works offline. Raises ``CourseError`` for an unknown name, and if the weights or
    their record have been changed or damaged since they were added to the package.

    >>> from alexnet_course import load_pretrained
    >>> model, record = load_pretrained("vgg-style-bn.small")
    >>> record.dataset.name, record.dataset.classes[3]
    ('cifar10', 'cat')
    """
    from safetensors.torch import load

    known = _index(Path(folder))
    if name not in known:
        raise CourseError(f"There are no pretrained weights {name!r}; nearest: {nearest(name, known)}.")
    path = Path(folder) / f"{name}.safetensors"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CourseError(f"The weights {path.name} cannot be read ({error}); reinstall the package.") from None
    if _digest(content) != known[name]["blake2b"]:
        raise CourseError(f"The weights {path.name} have the hash {_digest(content)}, not {known[name]['blake2b']}, so "
                          "they were changed or damaged; reinstall the package.")  # fmt: skip
    record = _packaged(known[name]["record"])
    if _digest(dump_record(record).encode()) != known[name]["record_blake2b"]:
        raise CourseError(f"The record {known[name]['record']} is not the one that came with the weights {path.name}, "
                          "so it was changed; reinstall the package.")  # fmt: skip
    model = build_recorded(record)
    model.load_state_dict({key: tensor.float() for key, tensor in load(content).items()})
    return model.eval(), record


def load_trained(run: str | Path) -> tuple[nn.Module, Record]:
    """A trained network, in ``eval()`` mode on the CPU, and the record of its run.

    ``run`` is the folder of a finished run or a name from ``list_pretrained``. Raises ``CourseError`` if there is no
    such run.
    """
    known = list_pretrained()
    if str(run) in known:
        return load_pretrained(str(run))
    if not expanded(run).is_dir():
        raise CourseError(f"{str(run)!r} is neither the folder of a finished run nor the name of pretrained weights; "
                          f"nearest: {nearest(str(run), known)}.")  # fmt: skip
    model, record = load_run(run)
    return model.eval(), record


def verify_pretrained(images: Dataset | None = None, folder: str | Path = FOLDER) -> list[str]:
    """Check the package's trained networks; returns one sentence per problem, and an empty list if there is none.

    Their weights and records must be unchanged. With ``images``, a test set, networks that were tested on it are tested
    again.
    """
    problems = []
    for name in list_pretrained(folder):
        try:
            model, record = load_pretrained(name, folder)
        except CourseError as error:
            problems.append(str(error))
            continue
        dataset = record.dataset
        if images is not None and images.fingerprint == dataset.test_fingerprint:
            size = record.recipe.image_size
            found = evaluate(model, images, mean=dataset.mean, std=dataset.std, input_size=size, precision="fp32")
            problems += filter(None, [other_accuracy(record, images, found.accuracy)])
    return problems


def keep_weights(run: str | Path, folder: str | Path = FOLDER) -> str:
    """Add the weights of the finished run in the folder ``run`` to those in ``folder``; returns their name.

    Matrices and kernels are stored in fp16, the few other values in fp32.
    """
    model, record = load_run(run)
    recipe = record.recipe
    folder = Path(folder)
    if folder == FOLDER and dump_record(_packaged(recipe.run_name)) != dump_record(record):
        raise CourseError(f"The record {recipe.run_name} of the package is not that of {str(run)!r}; keep the weights "
                          "of the recorded run.")  # fmt: skip
    folder.mkdir(exist_ok=True)
    path = folder / f"{recipe.name}.safetensors"
    write_tensors(path, {key: _half(tensor) for key, tensor in model.state_dict().items()})
    entry = {
        "record": recipe.run_name,
        "record_blake2b": _digest(dump_record(record).encode()),
        "blake2b": _digest(path.read_bytes()),
    }
    entries = {**_index(folder), recipe.name: entry}
    lines = ["# The record that the weights belong to, and the hashes of both. Written by benchmarks/weights.py."]
    for name, entry in sorted(entries.items()):
        lines += ["", f'["{name}"]', *(f'{key} = "{value}"' for key, value in entry.items())]
    write_text(folder / INDEX, "\n".join(lines) + "\n")
    _index.cache_clear()
    return recipe.name


def model_card(record: Record, size: int) -> str:
    """What to know about a trained network of ``size`` bytes, in Markdown, from its record."""
    recipe, dataset, environment = record.recipe, record.dataset, record.environment
    low, high = record.test_accuracy_interval
    worst = min(record.per_class_accuracy, key=record.per_class_accuracy.__getitem__)
    options = ", ".join(f"{key} {value}" for key, value in recipe.model_options.items())
    lines = [
        f"# {recipe.name}",
        "",
        f"`{recipe.model}` ({options}), {record.parameters:,} parameters, {size:,} bytes in fp16.",
        "",
        f"**Data.** {in_markdown(dataset.name)}, {dataset.training_images:,} images to train on and "
        f"{dataset.validation_images:,} held out; fingerprint `{dataset.fingerprint}`. Images of "
        f"{len(dataset.mean)}×{recipe.image_size}×{recipe.image_size}, scaled to 0..1, then normalised with the "
        f"mean {_numbers(dataset.mean)} and the standard deviation {_numbers(dataset.std)}.",
        "",
        f"**Recipe.** `{recipe.name}`, budget `{recipe.budget}`, seed {recipe.seed}: {recipe.epochs} epochs of "
        f"{recipe.optimiser} at {recipe.lr:g}, batches of {recipe.batch_size}, on {environment.device} with torch "
        f"{environment.torch}.",
        "",
        f"**Accuracy** of the run's own weights on the {dataset.test_images:,} test images: "
        f"{record.test_accuracy:.2%} (95 % interval {low:.2%} to {high:.2%}); on held-out images "
        f"{record.val_accuracy:.2%}. `alexnet-course evaluate {recipe.name} --data {dataset.name}` measures "
        "that of the weights as they are here, rounded to fp16.",
        "",
        "| class | right |",
        "| --- | ---: |",
        *(f"| {in_markdown(name)} | {share:.1%} |" for name, share in record.per_class_accuracy.items()),
        "",
        f"**Limits.** It knows these {len(dataset.classes)} classes and puts every image into one of them, with "
        f"confidence; {in_markdown(worst)} is what it gets wrong most often. It was trained on small, centred "
        "photographs: on drawings, on larger scenes and on newer images expect less. It is there to look at, not to "
        "rely on.",
        "",
    ]
    return "\n".join(lines)


def _packaged(run_name: str) -> Record:
    """The package's record of this run, whatever the working directory holds under that name."""
    return read_fitting(RECORDS / f"{run_name}.json")


def _numbers(values: Iterable[float]) -> str:
    return "(" + ", ".join(f"{value:.4f}" for value in values) + ")"


def _half(tensor: Tensor) -> Tensor:
    return tensor.half().contiguous() if tensor.dim() > 1 else tensor.contiguous()


def _digest(content: bytes) -> str:
    return blake2b(content, digest_size=16).hexdigest()


@cache
def _index(folder: Path) -> dict[str, dict[str, str]]:
    path = folder / INDEX
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
