"""What ``test_parallel.py`` lets ``torchrun`` start as two processes: the runs of the tests, one after the other.

Each process writes what it found into the folder that is its argument, into ``found-RANK.pt``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from alexnet_course.errors import CourseError
from alexnet_course.recipe import Recipe
from alexnet_course.training import Run, TrainingStopped, resume, train, trainer

BATCH = 16  # images of an evaluation at a time, so that a test set of 49 leaves a last batch of one
AUGMENTED = {"crop": 4, "flip": True, "cutout": 8, "colour_pca": 0.1, "label_smoothing": 0.1, "augmented_test": True,
             "augmented_validation": True}  # fmt: skip


def recipe(**changes: Any) -> Recipe:
    """Three epochs of 5 steps, the batches of 17 images so that the parts are not alike."""
    values = {"model": "cnn4", "epochs": 3, "batch_size": 17, "precision": "fp32", "validation_size": 33, "lr": 0.02}
    return Recipe(**{**values, **AUGMENTED, **changes})


def with_everything(name: str, num_classes: int, in_channels: int, **_: object) -> nn.Module:
    """A network of a millisecond that has batch norm and dropout."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 4, kernel_size=3, stride=4),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(4 * 8 * 8, num_classes),
    )


def losses(run: Run) -> list[float]:
    """Train to the end; the loss of each step."""
    found: list[float] = []
    run.on_step = lambda: found.append(run.trainer._losses[-1].item())
    list(run)
    return found


def figures(run: Run) -> dict[str, Any]:
    state = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    return {"weights": state, "record": run.record.as_dict(), "history": run.history}


def stopped(run: Run) -> str:
    """The message with which the run stops."""
    try:
        list(run)
    except (TrainingStopped, CourseError) as error:
        return str(error)
    return ""


def main(folder: Path) -> None:
    data = torch.load(folder / "data.pt", weights_only=False)
    trainer.EVALUATION_BATCH = BATCH
    found: dict[str, Any] = {}

    run = train(recipe(), out=folder / "whole", **data)
    found["whole"] = {"losses": losses(run), **figures(run)}
    rank = run.group.rank

    try:
        resume(folder / "alone", **data)
    except CourseError as error:
        found["alone"] = str(error)
    try:
        train(recipe(batch_size=1), **data)
    except CourseError as error:
        found["batch of one"] = str(error)

    plain, trainer.build_model = trainer.build_model, with_everything
    run = train(recipe(), out=folder / "uninterrupted", **data)
    found["dropout"] = torch.get_rng_state()
    list(run)
    found["uninterrupted"] = figures(run)
    run = train(recipe(), out=folder / "interrupted", **data)
    run.on_step = lambda: run.stop() if (rank, run.steps_done) == (1, 7) else None  # only one of them
    found["stopped"] = stopped(run)
    torch.manual_seed(999)  # another process would have other random numbers
    run = resume(folder / "interrupted", **data)
    found["resumed at"] = run.steps_done
    list(run)
    found["interrupted"] = figures(run)
    run = train(recipe(), out=folder / "unfinished", **data)
    run.on_step = lambda: run.stop() if (rank, run.steps_done) == (0, 2) else None
    stopped(run)
    trainer.build_model = plain

    run = train(recipe(), **data)
    run.model.register_forward_hook(lambda *_: out_of_memory() if (rank, run.steps_done) == (1, 3) else None)
    found["out of memory"] = stopped(run)

    for what, fails, options in (
        ("batch out of memory", out_of_memory, {}),
        ("epoch out of memory", out_of_memory, {"epoch_at_once": True}),
        ("lost image", lost_image, {}),
    ):
        run = train(recipe(), **data, **options)
        if rank == 1:
            run.trainer.train_loader.prepare = fails
        found[what] = stopped(run)

    run = train(recipe(), **data)
    hook = run.model.features[0].register_forward_hook(
        lambda layer, inputs, output: output * torch.nan if (rank, run.steps_done) == (1, 3) else None
    )
    found["not finite"] = stopped(run)
    hook.remove()
    found["not finite weights"] = run.model.state_dict()
    torch.save(found, folder / f"found-{rank}.pt")


def out_of_memory(*_: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


def lost_image(*_: object) -> None:
    raise CourseError("image 7 is gone")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
