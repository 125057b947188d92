"""The record of a finished run: its results, epoch by epoch, and everything needed to repeat it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from alexnet_course.checked import Checked, Part, follows, one_of, wrong
from alexnet_course.errors import CourseError
from alexnet_course.files import read_text, write_text
from alexnet_course.names import same_form, wrong_with_name
from alexnet_course.recipe import BUDGETS, Recipe
from alexnet_course.records import PREDICTIONS as PREDICTIONS
from alexnet_course.records import RECORD as RECORD
from alexnet_course.records import WEIGHTS as WEIGHTS

Schema: TypeAlias = Literal["alexnet-course/record-1"]
SCHEMA: Schema = "alexnet-course/record-1"


Printable: TypeAlias = Annotated[str, AfterValidator(same_form), follows(wrong_with_name, empty=True)]
Name: TypeAlias = Annotated[str, AfterValidator(same_form), follows(wrong_with_name)]
Fingerprint: TypeAlias = Annotated[str, Field(pattern="^[0-9a-f]{16,}$")]
Count: TypeAlias = Annotated[int, Field(strict=True, ge=1, le=10**12)]  # beyond that, sums leave 64 bits
CountFrom0: TypeAlias = Annotated[int, Field(strict=True, ge=0, le=10**12)]
Fraction: TypeAlias = Annotated[float, Field(strict=True, ge=0, le=1)]
Positive: TypeAlias = Annotated[float, Field(strict=True, gt=0)]
NotNegative: TypeAlias = Annotated[float, Field(strict=True, ge=0)]
On: TypeAlias = Annotated[bool, Field(strict=True)]


def _different(names: tuple[str, ...]) -> tuple[str, ...]:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise wrong(f"names {twice!r} twice")
    return names


def _rectangular(rows: list[list[int]]) -> list[list[int]]:
    if len({len(row) for row in rows}) > 1:
        raise wrong("has rows of different lengths")
    return rows


def _says_enough(recipe: Recipe) -> Recipe:
    """Raise ``ValueError`` if a key is missing that has always existed; newer keys have their defaults."""
    for key in ("name", "model", "dataset", "epochs", "batch_size", "optimiser", "lr", "schedule", "seed"):
        if key not in recipe.model_fields_set:
            raise ValueError(f"{key} is missing")
    return recipe


@dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class EpochResult:
    """One epoch. Losses are mean cross-entropies in nats, accuracies fractions of 1. Training loss and accuracy are
    those of the augmented images, with dropout, while the weights were changing. ``lr`` is the learning rate of the
    epoch's last step. ``seconds`` are those of the whole epoch; ``images_per_second`` counts only its training."""

    epoch: Count
    train_loss: NotNegative
    train_accuracy: Fraction
    val_loss: NotNegative
    val_accuracy: Fraction
    lr: NotNegative
    seconds: NotNegative
    images_per_second: Positive


class DatasetInfo(Part):
    """The images of a run: their fingerprints, their numbers and their normalisation."""

    name: Name
    fingerprint: Fingerprint
    """Of all training images, including those held out for validation."""
    test_fingerprint: Fingerprint
    classes: Annotated[tuple[Name, ...], Field(min_length=1), AfterValidator(_different)]
    """In the order of the logits."""
    training_images: Count
    validation_images: Count
    test_images: Count
    mean: Annotated[tuple[Fraction, ...], Field(min_length=1)]
    """Of each channel, on the 0..1 scale."""
    std: Annotated[tuple[Fraction, ...], Field(min_length=1)]
    division: Literal["own validation", "validation as test", "by name"] | None = None
    """How a folder was divided, unless it has just train and test. In this order: it has its own validation images; its
    validation images serve as test images; a fifth of each class, chosen by file name, became the test images."""
    side: Count | None = None
    """Side in pixels of the training images before they are cropped or enlarged for the network, if all are squares of
    one size. Older records do not have it."""


class Environment(Part):
    """The machine and the software of a run."""

    device: Printable
    precision: Annotated[str, one_of(("bf16", "fp16", "fp32"))]
    threads: Count
    torch: Printable
    python: Printable
    system: Printable
    package: Printable
    git_commit: Printable | None
    deterministic: On = False
    compile: On = False
    graph: On = False
    half_weights: On = False
    epoch_at_once: On = False
    compiled_pools: On = False
    processes: Annotated[int, Field(strict=True, ge=2)] | None = None
    """Number of processes, if there was more than one."""


class NewImages(Part):
    """The same network on newer images of the same classes, CIFAR-10.1."""

    name: Name
    fingerprint: Fingerprint
    images: Count
    accuracy: Fraction
    interval: tuple[Fraction, Fraction]


class Record(Checked):
    """The record of a finished run. Losses are in nats, accuracies fractions of 1, intervals Wilson's 95 % intervals.

    ``alexnet_course.results.verify`` checks whether its numbers agree with one another.

    >>> from alexnet_course import load_records
    >>> record = load_records(pattern="alexnet-cifar-3x3.modern-*")[0]
    >>> record.recipe.model, record.dataset.name, len(record.history) <= record.recipe.epochs
    ('alexnet-cifar-3x3', 'cifar10', True)
    """

    called = "a record"

    schema_name: Schema = Field(alias="schema")
    budget: Annotated[str, one_of(BUDGETS)]
    """The length of the run; runs of different budgets do not share a row."""
    recipe: Annotated[Recipe, AfterValidator(_says_enough)]
    dataset: DatasetInfo
    seed: Annotated[int, Field(strict=True, ge=0)]
    history: Annotated[tuple[EpochResult, ...], Field(min_length=1)]
    val_accuracy: Fraction
    """After the last epoch."""
    test_accuracy: Fraction
    test_accuracy_interval: tuple[Fraction, Fraction]
    test_loss: NotNegative
    per_class_accuracy: Mapping[str, Fraction]
    confusion_matrix: Annotated[list[list[CountFrom0]], Field(min_length=1), AfterValidator(_rectangular)]
    """Numbers of test images: rows are true classes, columns predicted ones, in the order of ``dataset.classes``."""
    predictions: Fingerprint
    """Hash of the predictions for the test images, which are in a file beside the record."""
    parameters: Count
    environment: Environment
    wall_seconds: Positive
    images_per_second: Positive
    augmented_test_accuracy: Fraction | None = None
    """On test images augmented like the training images, as S0 did; not comparable with any other accuracy."""
    earlier_environments: Annotated[tuple[Environment, ...], Field(min_length=1)] | None = None
    """The earlier environments of a run that was interrupted and resumed elsewhere."""
    weights: Fingerprint | None = None
    """Hash of the evaluated weights (``weights_digest``), which are beside the record of a run of your own."""
    new_images: NewImages | None = None

    @property
    def environments(self) -> tuple[Environment, ...]:
        """All of them, in order; more than one if the run was resumed elsewhere."""
        return (*(self.earlier_environments or ()), self.environment)

    @classmethod
    def from_dict(cls, values: Any, origin: str = "the record") -> Record:
        """The record with these values. Raises ``CourseError``, which names ``origin``, if they are not valid."""
        try:
            if not isinstance(values, dict):
                raise CourseError(f"{values!r:.80} is not a table.")
            return cls(**values)
        except CourseError as error:
            raise CourseError(f"{origin} is not a record of this course: {error}") from None


def read_record(path: Path, origin: str | None = None) -> Record:
    """The record in a file. Errors call the file ``origin``, by default its name."""
    origin = origin or path.name
    try:
        values = json.loads(read_text(path), object_pairs_hook=_each_once, parse_constant=_no_constant)
    except OSError as error:
        raise CourseError(f"{origin} cannot be read as a record ({error}); restore or delete it.") from None
    except (ValueError, RecursionError) as error:
        raise CourseError(f"{origin} is not readable as JSON ({error}); restore or delete it.") from None
    return Record.from_dict(values, origin)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object without duplicate keys, of which readers differ in the one they take."""
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} is there twice")
    return values


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def write_record(path: Path, record: Record) -> None:
    """Write ``record``, completely or not at all."""
    write_text(path, dump_record(record))


def dump_record(record: Record) -> str:
    """JSON with one line for each epoch and each row of the confusion matrix, so that records read and diff well."""
    lines = []
    for key, value in record.as_dict().items():
        if key in ("history", "confusion_matrix"):
            text = "[\n  " + ",\n  ".join(map(json.dumps, value)) + "\n ]"
        else:
            text = json.dumps(value)
        lines.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"
