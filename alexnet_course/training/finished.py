"""The files of a finished run: ``record.json`` with every figure, ``predictions.npy`` and the weights."""

from __future__ import annotations

import json
import platform
import warnings
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from alexnet_course.data import Dataset
from alexnet_course.data.fingerprints import name_of_both
from alexnet_course.errors import CourseError, first_line
from alexnet_course.files import expanded, write_tensors
from alexnet_course.models import build_model
from alexnet_course.models.registry import without_values
from alexnet_course.records import RECORD, WEIGHTS
from alexnet_course.records.predictions import Predictions, digest, pack
from alexnet_course.records.record import SCHEMA, EpochResult, Record, dump_record, read_record
from alexnet_course.training.device import device_name
from alexnet_course.training.evaluation import Evaluation
from alexnet_course.training.trainer import Trainer
from alexnet_course.version import __version__, git_commit


def make_record(
    trainer: Trainer,
    test_set: Dataset,
    test: Evaluation,
    predictions: Predictions,
    environments: Sequence[dict[str, Any]],
    augmented: Evaluation | None = None,
) -> Record:
    """The record of a finished run.

    ``predictions`` are for the test images in the order of ``Dataset.ordered``; ``environments`` are those of the run,
    the last one last; ``augmented`` is the evaluation on augmented test images, as in S0.
    """
    history = tuple(EpochResult(**entry) for entry in trainer.history)
    seconds, weights = trainer.wall_seconds, weights_digest(trainer.model.state_dict())
    return _record(trainer, test_set, history, seconds, test, predictions, environments, augmented, weights)


def check_end(trainer: Trainer, test_set: Dataset, environments: Sequence[dict[str, Any]]) -> None:
    """Rehearse the end of the run with placeholder results: ``CourseError`` if its record or its weights would be
    rejected then, or could not be read back."""
    from safetensors.torch import save

    classes, count = test_set.classes, len(test_set)
    confusion = np.zeros((len(classes), len(classes)), dtype=int)
    confusion[0, 0] = count
    test = Evaluation(0.0, 0.0, dict.fromkeys(classes, 0.0), confusion.tolist(), torch.zeros(count))
    epoch = EpochResult(1, *(0.0,) * 6, images_per_second=1.0)
    try:
        record = _record(trainer, test_set, (epoch,), 1.0, test, pack(np.zeros(count), len(classes)), environments)
        Record.from_dict(json.loads(dump_record(record)))
    except CourseError as error:
        raise CourseError(f"This run could not be recorded when it finishes: {error}") from None
    name = trainer.recipe.model
    weights = trainer.model.state_dict()
    try:
        save({key: tensor.new_empty(0) for key, tensor in weights.items()})
        with warnings.catch_warnings():  # PyTorch warns that nothing is copied on the meta device
            warnings.simplefilter("ignore")
            without_values(lambda: trainer.build().load_state_dict(weights))
    except Exception as error:  # a user's own network may fail in any way
        reason = " ".join(str(error).split())
        raise CourseError(f"The weights of {name} could not be saved and loaded again at the end of this run "
                          f"({reason:.200}); let it keep dense tensors, and its builder build the same network each "
                          "time.") from error  # fmt: skip


def _record(
    trainer: Trainer,
    test_set: Dataset,
    history: tuple[EpochResult, ...],
    wall_seconds: float,
    test: Evaluation,
    predictions: Predictions,
    environments: Sequence[dict[str, Any]],
    augmented: Evaluation | None = None,
    weights: str | None = None,
) -> Record:
    recipe, train_set = trainer.recipe, trainer.train_set
    division = train_set.division or test_set.division
    train_seconds = sum(trainer.train_loader.images_per_epoch / entry.images_per_second for entry in history)
    # As if read from a file, so that any error in them becomes one sentence.
    values: dict[str, Any] = {
        "schema": SCHEMA,
        "budget": recipe.budget,
        "recipe": recipe.replace(),  # a copy with every key set, so that no default is implied
        "dataset": {
            "name": name_of_both(train_set.name, test_set.name),
            "fingerprint": train_set.fingerprint,
            "test_fingerprint": test_set.fingerprint,
            "classes": train_set.classes,
            "training_images": len(trainer.train_loader.indices),
            "validation_images": len(trainer.val_loader.indices),
            "test_images": len(test_set),
            "mean": trainer.mean,
            "std": trainer.std,
            **({"division": division} if division else {}),
            **({"side": train_set.side} if train_set.side is not None else {}),
        },
        "seed": recipe.seed,
        "history": history,
        "val_accuracy": history[-1].val_accuracy,
        "test_accuracy": test.accuracy,
        "test_accuracy_interval": test.interval,
        "test_loss": test.loss,
        "per_class_accuracy": test.per_class,
        "confusion_matrix": test.confusion,
        "predictions": digest(predictions),
        "parameters": sum(weight.numel() for weight in trainer.model.parameters()),
        "environment": environments[-1],
        "wall_seconds": wall_seconds,
        "images_per_second": trainer.train_loader.images_per_epoch * len(history) / train_seconds,
    }
    if weights is not None:
        values["weights"] = weights
    if augmented is not None:
        values["augmented_test_accuracy"] = augmented.accuracy
    if len(environments) > 1:  # interrupted, and resumed elsewhere
        values["earlier_environments"] = environments[:-1]
    return Record(**values)


def environment(
    device: torch.device, precision: str, options: Mapping[str, bool], processes: int = 1
) -> dict[str, Any]:
    """The hardware and software of a run, with the ``options`` that are on, and ``processes`` if more than 1."""
    return {
        "device": device_name(device),
        "precision": precision,
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),  # a plain str, since checkpoints reject TorchVersion
        "python": platform.python_version(),
        "system": platform.system(),
        "package": __version__,
        "git_commit": git_commit(),
        **{name: True for name, on in options.items() if on},
        **({"processes": processes} if processes > 1 else {}),
    }


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """A hash of these weights in 32 hexadecimal digits, which the record of the run states."""
    digest = blake2b(digest_size=16)
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_weights(out: Path, model: nn.Module) -> None:
    """Write the weights atomically; ``OSError`` if they cannot be written."""
    # Copies, because safetensors refuses tensors that share memory, as in networks with shared weights.
    weights = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in model.state_dict().items()}
    write_tensors(out / WEIGHTS, weights)


def load_run(folder: str | Path) -> tuple[nn.Module, Record]:
    """Load the network (on the CPU, with the weights of the last epoch) and the record of a finished run."""
    folder = expanded(folder)
    for name in (RECORD, WEIGHTS):
        if not (folder / name).is_file():
            raise CourseError(f"{str(folder)!r} has no {name}; give the folder of a finished run.")
    record = read_record(folder / RECORD, repr(str(folder / RECORD)))
    model = build_recorded(record)
    weights = load_weights(folder / WEIGHTS, record, repr(str(folder / WEIGHTS)))
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = first_line(error)
        raise CourseError(f"{str(folder / WEIGHTS)!r} does not hold the weights of {record.recipe.model!r} ({reason}); "
                          "train again.") from None  # fmt: skip
    return model, record


def build_recorded(record: Record) -> nn.Module:
    """Build the network of the run, with new weights."""
    recipe, dataset = record.recipe, record.dataset
    outputs = recipe.outputs or len(dataset.classes)
    return build_model(recipe.model, num_classes=outputs, in_channels=len(dataset.mean), **recipe.model_options)


def load_weights(path: Path, record: Record, origin: str) -> dict[str, Tensor]:
    """Load weights from a file; ``CourseError`` if they are not those of ``record``, as far as it states their hash."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CourseError(f"{origin} does not hold the weights of {record.recipe.model!r} ({error}); "
                          "train again.") from None  # fmt: skip
    found = weights_digest(weights)
    if record.weights not in (None, found):
        raise CourseError(f"{origin} holds the weights {found}, but the record is for {record.weights}; restore them, "
                          "or train again.")  # fmt: skip
    return weights
