"""The record of a finished run: every figure, epoch by epoch, with all that it takes to make the run again."""

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
    """Keys that are newer than a record have their defaults; these there have always been."""
    for key in ("name", "model", "dataset", "epochs", "batch_size", "optimiser", "lr", "schedule", "seed"):
        if key not in recipe.model_fields_set:
            raise ValueError(f"{key} is missing")
    return recipe


@dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class EpochResult:
    """One epoch. Losses are mean cross-entropies, accuracies fractions of 1; the training figures are those of the
    augmented images, with dropout, while the weights moved. ``lr`` is the rate of the epoch's last step; ``seconds``
    are those of the whole epoch, ``images_per_second`` counts its training part alone."""

    epoch: Count
    train_loss: NotNegative
    train_accuracy: Fraction
    val_loss: NotNegative
    val_accuracy: Fraction
    lr: NotNegative
    seconds: NotNegative
    images_per_second: Positive


class DatasetInfo(Part):
    """The images of a run: which they are, in how many parts, and how they were normalised."""

    name: Name
    fingerprint: Fingerprint
    """Of all training images, those held out for validation among them."""
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
    """How a folder came by its parts where it has not train and test alone: it has validation images of its own; those
    are its test images; a fifth of each class became the test images, chosen by their names."""


class Environment(Part):
    """Where and with what a run was made."""

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
    """How many trained together, where it was more than one."""


class NewImages(Part):
    """The same network on newer images of the same classes, CIFAR-10.1."""

    name: Name
    fingerprint: Fingerprint
    images: Count
    accuracy: Fraction
    interval: tuple[Fraction, Fraction]


class Record(Checked):
    """What a finished run says of itself. Losses are in nats, accuracies fractions of 1, intervals Wilson's of 95 %.

    Whether the figures agree with one another is for ``alexnet_course.results.verify`` to say.

    >>> from alexnet_course import load_records
    >>> record = load_records(pattern="alexnet-cifar-3x3.modern-*")[0]
    >>> record.recipe.model, record.dataset.name, len(record.history) <= record.recipe.epochs
    ('alexnet-cifar-3x3', 'cifar10', True)
    """

    called = "a record"

    schema_name: Schema = Field(alias="schema")
    budget: Annotated[str, one_of(BUDGETS)]
    """How long the run was; runs of different budgets do not share a row."""
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
    """Test images; rows are the true classes, columns the predicted ones, in the order of ``dataset.classes``."""
    predictions: Fingerprint
    """Names the class numbers that the network gave to the test images, which lie beside the record."""
    parameters: Count
    environment: Environment
    wall_seconds: Positive
    images_per_second: Positive
    augmented_test_accuracy: Fraction | None = None
    """On test images augmented like the training images, as S0 did: not comparable with any other."""
    earlier_environments: Annotated[tuple[Environment, ...], Field(min_length=1)] | None = None
    """Of a run that was interrupted and went on elsewhere."""
    weights: Fingerprint | None = None
    """Names the weights that were evaluated (``weights_digest``), which lie beside the record of a run of your own."""
    new_images: NewImages | None = None

    @classmethod
    def from_dict(cls, values: Any, origin: str = "the record") -> Record:
        """The record that JSON holds; ``CourseError`` that begins with ``origin`` where it holds something else."""
        try:
            if not isinstance(values, dict):
                raise CourseError(f"{values!r:.80} is not a table.")
            return cls(**values)
        except CourseError as error:
            raise CourseError(f"{origin} is not a record of this course: {error}") from None


def read_record(path: Path, origin: str | None = None) -> Record:
    """The record in a file, which errors call ``origin``, by default by its name."""
    origin = origin or path.name
    try:
        values = json.loads(read_text(path), object_pairs_hook=_each_once, parse_constant=_no_constant)
    except OSError as error:
        raise CourseError(f"{origin} cannot be read as a record ({error}); restore or delete it.") from None
    except (ValueError, RecursionError) as error:
        raise CourseError(f"{origin} is not readable as JSON ({error}); restore or delete it.") from None
    return Record.from_dict(values, origin)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A table of JSON, which may not have a key twice: readers differ in which of the two they take."""
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} is there twice")
    return values


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def write_record(path: Path, record: Record) -> None:
    """Write ``record``, whole or not at all."""
    write_text(path, dump_record(record))


def dump_record(record: Record) -> str:
    """JSON with one line an epoch and one a row of the confusion matrix, so that a record reads well and diffs well."""
    lines = []
    for key, value in record.as_dict().items():
        if key in ("history", "confusion_matrix"):
            text = "[\n  " + ",\n  ".join(map(json.dumps, value)) + "\n ]"
        else:
            text = json.dumps(value)
        lines.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"
