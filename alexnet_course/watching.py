"""Monitor a run: a progress bar, a live figure in a notebook, TensorBoard."""

from __future__ import annotations

import sys
import warnings
from dataclasses import asdict
from typing import Any, Unpack

from alexnet_course.errors import CourseError
from alexnet_course.recipe import Recipe
from alexnet_course.terminal import Terminal
from alexnet_course.training import EpochResult, Run, RunOptions, train

SCALARS = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr", "images_per_second")


def fit(recipe: Recipe, *, progress: bool = True, tensorboard: bool = False, **options: Unpack[RunOptions]) -> Run:
    """Train to the end with ``train``; returns the finished run.

    With ``progress`` there is a bar on standard error and, in a notebook, a figure of the learning curves that is
    updated after each epoch. ``tensorboard`` logs the metrics of each epoch to the folder of the run, for TensorBoard.
    ``options`` are those of ``train``.

    >>> from alexnet_course import Recipe, fit
    >>> run = fit(Recipe(model="cnn4", epochs=1, train_size=100, validation_size=50), progress=False)
    >>> len(run.history)
    1
    """
    if tensorboard:
        summary_writer()
    return watch(train(recipe, **options), progress=progress, tensorboard=tensorboard)


def watch(run: Run, *, progress: bool = True, tensorboard: bool = False) -> Run:
    """Train ``run`` to its end and show its progress; with several processes, only the main one does."""
    with warnings.catch_warnings():  # tqdm warns that without ipywidgets the bar is text
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm
    progress, tensorboard = progress and run.group.is_main, tensorboard and run.group.is_main
    writer = _tensorboard_writer(run) if tensorboard else None
    figure = _LiveFigure() if progress and in_notebook() else None
    recipe, call_before = run.recipe, run.on_step
    with tqdm(
        total=run.steps,
        initial=run.steps_done,
        desc=recipe.name,
        unit="step",
        disable=not progress,
        leave=True,
        file=None if in_notebook() else Terminal(),  # tqdm has its own bar for notebooks
    ) as bar:

        def on_step() -> None:
            bar.update()
            call_before()

        run.on_step = on_step
        for result in run:
            bar.set_postfix_str(
                f"epoch {result.epoch}/{recipe.epochs}, loss {result.train_loss:.3f}, "
                f"val {result.val_accuracy:.1%}, {result.images_per_second:,.0f} img/s"
            )
            if figure is not None:
                figure.draw(run.history)
            if writer is not None:
                _write_scalars(writer, result)
    if writer is not None:
        writer.close()
    return run


def in_notebook() -> bool:
    """Whether this runs in a Jupyter kernel, which can display a figure and update it."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


class _LiveFigure:
    """The learning curves, updated in place in a notebook's output."""

    def __init__(self) -> None:
        self._handle: Any = None

    def draw(self, history: list[dict[str, Any]]) -> None:
        import matplotlib.pyplot as plt
        from IPython.display import display

        from alexnet_course.plots import learning_curves

        figure = learning_curves(history)
        plt.close(figure)  # otherwise the notebook shows it again at the end of the cell
        if self._handle is None:
            self._handle = display(figure, display_id=True)
        else:
            self._handle.update(figure)


def summary_writer() -> Any:
    """TensorBoard's writer class; ``CourseError`` if TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise CourseError("TensorBoard is not installed; pip install tensorboard, or leave it out.") from None
    return SummaryWriter


def _tensorboard_writer(run: Run) -> Any:
    if run.out is None:
        raise CourseError("tensorboard = True needs a folder to write to; give the run one with out.")
    # Discard what a killed process logged for epochs that are trained again.
    return summary_writer()(str(run.out / "tensorboard"), purge_step=run.trainer.epoch)


def _write_scalars(writer: Any, result: EpochResult) -> None:
    values = asdict(result)
    for name in SCALARS:
        writer.add_scalar(name, values[name], result.epoch)
    writer.flush()
