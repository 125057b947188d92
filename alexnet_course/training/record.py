"""What a finished run leaves behind: ``record.json`` with every figure, ``predictions.npy`` and the weights."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

import alexnet_course
from alexnet_course.errors import CourseError
from alexnet_course.files import whole_file, write_text
from alexnet_course.models import build_model
from alexnet_course.records import SCHEMA_NAME, check_record
from alexnet_course.records.predictions import Predictions, digest
from alexnet_course.training.evaluation import Evaluation
from alexnet_course.training.precision import device_name

if TYPE_CHECKING:
    from alexnet_course.training.loop import Run

RECORD, PREDICTIONS, WEIGHTS = "record.json", "predictions.npy", "weights.safetensors"


def make_record(
    run: Run, test: Evaluation, predictions: Predictions, augmented: Evaluation | None = None
) -> dict[str, Any]:
    """The record of a finished run, checked against the schema; ``augmented``: on changed test pictures, as S0 did."""
    history = run.history
    train_seconds = sum(run.train_loader.images_per_epoch / entry["images_per_second"] for entry in history)
    record = {
        "schema": SCHEMA_NAME,
        "budget": run.recipe.budget,
        "recipe": run.recipe.as_dict(),
        "dataset": {
            "name": run.train_set.name,
            "fingerprint": run.train_set.fingerprint,
            "test_fingerprint": run.test_set.fingerprint,
            "classes": list(run.train_set.classes),
            "training_images": len(run.train_loader.indices),
            "validation_images": len(run.val_loader.indices),
            "test_images": len(run.test_set),
            "mean": list(run.mean),
            "std": list(run.std),
        },
        "seed": run.recipe.seed,
        "history": history,
        "val_accuracy": history[-1]["val_accuracy"],
        "test_accuracy": test.accuracy,
        "test_accuracy_interval": list(test.interval),
        "test_loss": test.loss,
        "per_class_accuracy": test.per_class,
        "confusion_matrix": test.confusion,
        "predictions": digest(predictions),
        "parameters": sum(weight.numel() for weight in run.model.parameters()),
        "environment": run.environments[-1],
        "wall_seconds": run.wall_seconds,
        "images_per_second": run.train_loader.images_per_epoch * len(history) / train_seconds,
    }
    if augmented is not None:
        record["augmented_test_accuracy"] = augmented.accuracy
    if len(run.environments) > 1:  # interrupted, and gone on with elsewhere
        record["earlier_environments"] = run.environments[:-1]
    check_record(record)
    return record


def environment(device: torch.device, precision: str, options: Mapping[str, bool]) -> dict[str, Any]:
    """Where and with what a run was made; of the ``options``, those that are on."""
    return {
        "device": device_name(device),
        "precision": precision,
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),  # its own class otherwise, which no checkpoint would take
        "python": platform.python_version(),
        "system": platform.system(),
        "package": alexnet_course.__version__,
        "git_commit": git_commit(),
        **{name: True for name, on in options.items() if on},
    }


def git_commit() -> str | None:
    """The commit of the course's checkout, with ``+changes`` where files differ from it; None outside a checkout."""
    package = Path(alexnet_course.__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(package), *arguments], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != package.parent.resolve():
            return None  # installed somewhere inside another project's checkout
        changes = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changes else "")
    except (OSError, subprocess.SubprocessError):
        return None


def save_weights(out: Path, model: nn.Module) -> None:
    """Write the weights, whole or not at all; ``OSError`` where the disk does not take them."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    # Copies, because safetensors takes no two names for the same memory, as networks that share weights have.
    weights = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in model.state_dict().items()}
    try:
        with whole_file(out / WEIGHTS) as part:
            save_file(weights, part)
    except SafetensorError as error:
        raise OSError(str(error)) from None


def save_record(out: Path, record: dict[str, Any]) -> None:
    """Write ``record.json``, whole or not at all."""
    write_text(out / RECORD, dump_record(record))


def dump_record(record: dict[str, Any]) -> str:
    """JSON with one line an epoch and one a row of the confusion matrix, so that a record reads well and diffs well."""
    lines = []
    for key, value in record.items():
        if key in ("history", "confusion_matrix"):
            text = "[\n  " + ",\n  ".join(map(json.dumps, value)) + "\n ]"
        else:
            text = json.dumps(value)
        lines.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def load_run(folder: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """The network (on the CPU, with the weights of the last epoch) and the record of a finished run."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    for name in (RECORD, WEIGHTS):
        if not (folder / name).is_file():
            raise CourseError(f"{str(folder)!r} has no {name}; give the folder of a finished run.")
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except ValueError as error:
        raise CourseError(f"{str(folder / RECORD)!r} is not readable as JSON ({error}); train again.") from None
    check_record(record, str(folder / RECORD))
    recipe, dataset = record["recipe"], record["dataset"]
    model = build_model(
        recipe["model"],
        num_classes=recipe.get("outputs") or len(dataset["classes"]),
        in_channels=len(dataset["mean"]),
        **recipe["model_options"],
    )
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise CourseError(f"{str(folder / WEIGHTS)!r} does not hold the weights of {recipe['model']!r} ({reason}); "
                          "train again.") from None  # fmt: skip
    return model, record
