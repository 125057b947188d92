"""A run: from a recipe and images to a trained network and its record, with a folder from which it can be resumed."""

from __future__ import annotations

import gc
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict, Unpack

from torch import Tensor, nn

from alexnet_course.data import Dataset
from alexnet_course.data.fingerprints import name_of_both
from alexnet_course.errors import CourseError, nearest
from alexnet_course.files import expanded, shown
from alexnet_course.recipe import Recipe
from alexnet_course.records import PREDICTIONS, RECORD
from alexnet_course.records.check import changes, misnamed
from alexnet_course.records.predictions import Predictions, pack, save_predictions
from alexnet_course.records.record import Record, write_record
from alexnet_course.training.averaging import WeightAverage
from alexnet_course.training.device import computes, device_name, resolve_precision
from alexnet_course.training.evaluation import Evaluation
from alexnet_course.training.faults import TrainingStopped
from alexnet_course.training.finished import check_end, environment, load_run, make_record, save_weights
from alexnet_course.training.folder import RunFolder, read_plan, refuse_changes, refuse_other_processes
from alexnet_course.training.hooks import Call, Hook, Stop
from alexnet_course.training.loop import epochs
from alexnet_course.training.parallel import join_group
from alexnet_course.training.progress import EpochResult
from alexnet_course.training.saving import Checkpoints, check_intervals
from alexnet_course.training.trainer import Trainer


class RunOptions(TypedDict, total=False):
    """The options of ``train``, where they are documented."""

    train_set: Dataset | None
    test_set: Dataset | None
    device: str
    precision: str | None
    out: str | Path | None
    checkpoint_steps: int
    checkpoint_seconds: float | None
    deadline: float | None
    deterministic: bool
    compile: bool
    graph: bool
    half_weights: bool
    epoch_at_once: bool
    compiled_pools: bool
    on_step: Callable[[], object] | None
    hooks: Sequence[Hook]


def _both(recipe: Recipe, train_set: Dataset | None, test_set: Dataset | None) -> tuple[Dataset, Dataset]:
    """The training and the test images, as given or else the recipe's."""
    return recipe.both() if train_set is None or test_set is None else (train_set, test_set)


class Run(Iterator[EpochResult]):
    """A training run: iterate over it to train; each iteration is one epoch.

    ``model``, ``mean``, ``std``, ``device`` and ``precision`` are available from the start, ``history`` grows by one
    entry per epoch, and ``record`` is None until the iteration has ended. The test images are evaluated once, at that
    moment. ``trainer`` does the work.

    With ``out`` the run is saved in that folder after epochs, and after every ``checkpoint_steps`` steps. If the folder
    holds an unfinished run of the same recipe and images, it is resumed; a finished run is loaded, and the iteration
    ends at once. Ctrl-C, SIGTERM and closing the terminal (SIGHUP) save the run before it stops.

    Processes started by ``torchrun`` each create a ``Run`` with the same options and train together: see ``train``.
    ``group`` is the group of these processes; only the main one has a ``folder``.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        train_set: Dataset | None = None,
        test_set: Dataset | None = None,
        device: str = "auto",
        precision: str | None = None,
        out: str | Path | None = None,
        checkpoint_steps: int = 0,
        checkpoint_seconds: float | None = None,
        deadline: float | None = None,
        deterministic: bool = False,
        compile: bool = False,
        graph: bool = False,
        half_weights: bool = False,
        epoch_at_once: bool = False,
        compiled_pools: bool = False,
        on_step: Callable[[], object] | None = None,
        hooks: Sequence[Hook] = (),
    ) -> None:
        for given, other in ((train_set, "test_set"), (test_set, "train_set")):
            if given is not None and None in (train_set, test_set):
                raise CourseError(f"{given.name!r} is given without a {other}, which would then come from the recipe's "
                                  f"data set, {recipe.dataset!r}; give both, or neither.")  # fmt: skip
        check_intervals(checkpoint_steps, checkpoint_seconds)
        self.recipe = recipe
        self.group = join_group()
        self.device = self.group.device(device)
        self.out = expanded(out).absolute() if out is not None else None  # the working directory may change
        self.folder: RunFolder | None = None
        self._checkpoints: Checkpoints | None = None
        self.group.on_main(lambda: self._take_folder(out))
        self.on_step = on_step or (lambda: None)
        self.record: Record | None = None
        try:
            self.train_set, self.test_set = self.group.main_first(lambda: _both(recipe, train_set, test_set))
            if not len(self.test_set):
                raise CourseError(f"{self.test_set.name!r} has no test images, so the run could not be evaluated; give "
                                  "some.")  # fmt: skip
            here, there = (part.images.shape[1] for part in (self.train_set, self.test_set))
            if here != there:
                raise CourseError(f"The training images have {here} channels and the test images {there}; give two "
                                  "splits of one data set.")  # fmt: skip
            if self.train_set.classes != self.test_set.classes:
                raise CourseError("The training and the test images do not have the same classes; give two splits of "
                                  "one data set.")  # fmt: skip
            self.options = {
                "deterministic": deterministic,
                "compile": compile,
                "graph": graph,
                "half_weights": half_weights,
                "epoch_at_once": epoch_at_once,
                "compiled_pools": compiled_pools,
            }
            self.precision = self.group.on_main(lambda: self._choose_precision(precision))
            resumes = self.group.on_main(self._has_saved)
            if resumes:
                self._leave_what_is_not_here()
            if self.device.type != "cpu":
                gc.collect()  # earlier runs hold memory of the GPU until Python finds their cycles of references
            self.trainer = self.group.together(
                lambda: Trainer(
                    recipe,
                    self.train_set,
                    self.device,
                    self.precision,
                    **self.options,
                    group=self.group,
                    resumes=resumes,
                )
            )
            average = [WeightAverage(self.trainer, recipe.ema)] if recipe.ema else []
            self._stateful: list[Hook] = [*average, *hooks]
            # Recorded now, since the code may change later.
            self.environments = [self.group.on_main(self._environment)]
            self.group.on_main(lambda: check_end(self.trainer, self.test_set, self.environments))
            if self.out is not None:
                self._checkpoints = Checkpoints(self.folder, self.state_dict, checkpoint_steps, checkpoint_seconds)
                self._open_folder()
            self.trainer.kept = self._kept
            kept = "it has no folder to be saved in"
            if self.out is not None:
                kept = f"the run is in {shown(self.out)}, resume it to go on"
            self._stop = Stop(self._save_to_stop, kept, deadline)
            saving = [self._checkpoints] if self._checkpoints is not None else []
            # User code is called before the save, so that a saved step is complete.
            self._hooks = [Call(lambda: self.on_step()), *self._stateful, *saving, self._stop]
            self._epochs = self._train()
        except BaseException:
            self.close()
            raise

    def _take_folder(self, out: str | Path | None) -> None:
        self.folder = RunFolder(expanded(out)) if out is not None else None

    def _has_saved(self) -> bool:
        return self.folder is not None and (self.folder.saved or self.folder.finished)

    def _leave_what_is_not_here(self) -> None:
        """Leave out speed-ups that the run was started with and this device does not have, with a warning."""
        lacks = {
            "graph": self.device.type != "cuda" and f"graph is for CUDA GPUs, and this run is on {self.device}",
            "half_weights": self.precision == "fp32" and "half_weights is for bf16 and fp16, and this run is in fp32",
        }
        for name, reason in lacks.items():
            if self.options[name] and reason:
                self.options[name] = False
                if self.folder is not None and not self.folder.finished:  # a finished run is only loaded
                    warnings.warn(f"{reason}, so it is left out here.", stacklevel=4)

    def _environment(self) -> dict[str, Any]:
        return environment(self.device, self.precision, self.options, self.group.size)

    def _choose_precision(self, asked: str | None) -> str:
        """The precision of the start if the run is resumed on the same device; a new measurement might differ.

        It is chosen anew on a CPU that only imitates it: off Linux, CPUs with and without bf16 may have the same name.
        """
        plan, recipe = self.folder.plan() if self.folder is not None else None, self.recipe
        if plan is not None and plan["device"] == device_name(self.device):
            started_in = str(plan["precision"])
            if recipe.precision != "auto" or computes(self.device, started_in):
                return started_in
        if asked is not None and recipe.precision == "auto":
            recipe = recipe.replace(precision=asked)  # which checks it
        return resolve_precision(recipe.precision, self.device)

    @property
    def model(self) -> nn.Module:
        return self.trainer.model

    @property
    def mean(self) -> tuple[float, ...]:
        return self.trainer.mean

    @property
    def std(self) -> tuple[float, ...]:
        return self.trainer.std

    @property
    def history(self) -> list[dict[str, Any]]:
        """One ``EpochResult`` per epoch, as a dictionary."""
        return self.trainer.history

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.trainer.steps

    @property
    def steps_done(self) -> int:
        return self.trainer.steps_done

    def stop(self) -> None:
        """Ask the run to stop after its next step: it is saved if it has a folder, and raises ``TrainingStopped``."""
        self._stop.ask("the program")

    def evaluate(self, dataset: Dataset) -> Evaluation:
        """Evaluate the network in its current state, with the run's own normalisation, image size and precision.

        If several processes train together, all of them have to call this.
        """
        return self.trainer.evaluate(dataset)

    def __next__(self) -> EpochResult:
        with self._stop.signals if self.out is not None else nullcontext():
            return next(self._epochs)

    def _train(self) -> Iterator[EpochResult]:
        try:
            for result in epochs(self.trainer, self._hooks):
                if self.trainer.over:
                    self._finish()
                yield result
            if self.record is None:  # the previous process stopped after its last epoch, before its record
                self._finish()
        finally:
            self.close()

    def _finish(self) -> None:
        """Evaluate on the test images, once, and write the weights and the record."""

        def heed() -> None:
            self._stop.heed(self.trainer)

        if self.group.size > 1:
            heed()  # several processes do not stop inside an evaluation
        for hook in self._hooks:
            hook.on_end(self.trainer)
        self.trainer.stopwatch.start()
        test = self.trainer.evaluate(self.test_set, heed)
        if not math.isfinite(test.loss):  # a record needs finite figures
            raise TrainingStopped(f"The loss on the test images became {test.loss}; train again with a lower lr, or "
                                  f"with precision = 'fp32'{self.trainer.kept()}.")  # fmt: skip
        augmented = None
        if self.recipe.augmented_test:
            augmented = self.trainer.evaluate(self.test_set, heed, augmented=True)
        self.trainer.stopwatch.stop()
        self.trainer.wall_seconds += self.trainer.stopwatch.seconds
        predictions = pack(test.predictions[self.test_set.ordered], len(self.test_set.classes))
        record = make_record(self.trainer, self.test_set, test, predictions, self.environments, augmented)
        self.record = self.group.on_main(lambda: record)  # with the main process's times
        self.group.on_main(lambda: self._write(record, predictions))

    def _write(self, record: Record, predictions: Predictions) -> None:
        if self.folder is None:
            return
        try:
            save_weights(self.folder.path, self.model)
            save_predictions(self.folder.path / PREDICTIONS, predictions)
            write_record(self.folder.path / RECORD, record)
            self.folder.discard_checkpoints()
        except OSError as error:
            raise TrainingStopped(
                f"The run is finished, with a test accuracy of {record.test_accuracy:.2%}, but it could not be "
                f"written to {shown(self.folder.path)} ({error}); {self.folder.remedy} and resume it."
            ) from None

    def close(self) -> None:
        """Release the folder for another run. Called automatically when the run ends."""
        try:
            if self._checkpoints is not None:
                self._checkpoints.close()
        finally:
            if self.folder is not None:
                self.folder.release()

    # --- To stop and to go on ----------------------------------------------------------------------------------------

    def _open_folder(self) -> None:
        """Resume the run in the folder, or begin a new one if there is none."""
        record, weights, state = self.group.on_main(self._look_into_folder)
        if record is not None:
            self.model.load_state_dict(weights)
            self.record = record
            self.trainer.evaluated = self.model
            self.trainer.history, self.trainer.epoch = list(map(asdict, record.history)), self.recipe.epochs + 1
            self.environments = [record.environment.model_dump(exclude_unset=True)]
        elif state is not None:
            self.load_state_dict(state)
        elif self.trainer.without_start is not None:  # needed after all, since no checkpoint was intact
            raise self.trainer.without_start

    def _look_into_folder(self) -> tuple[Record | None, dict[str, Tensor], dict[str, Any] | None]:
        """The record and the weights of a finished run, or the state of an interrupted one; neither for a new run.
        Called on the main process."""
        folder = self.folder
        assert folder is not None
        plan: dict[str, Any] = {
            "recipe": self.recipe.as_dict(),
            "data": self._fingerprints,
            "options": self.options,
            "device": device_name(self.device),
            "precision": self.precision,
            **({"processes": self.group.size} if self.group.size > 1 else {}),
        }
        if folder.finished:
            model, record = load_run(folder.path)
            data = {key: getattr(record.dataset, key) for key in plan["data"]}
            refuse_changes(
                {"recipe": record.recipe.as_dict(), "data": data, "options": {}}, {**plan, "options": {}}, folder.path
            )
            folder.discard_checkpoints()  # left if the previous process stopped after its record
            self.close()
            return record, model.state_dict(), None
        before = folder.plan()
        if before is not None:
            refuse_changes(before, plan, folder.path)
            refuse_other_processes(before, plan, folder.path)
        folder.clear_unfinished()
        folder.check_targets()
        if before is None:
            folder.save_plan(plan)
            self._say_if_changed()
        return None, {}, folder.load(plan)

    def _say_if_changed(self) -> None:
        """Warn if the results table would refuse the record, as its recipe or images are not those of their name."""
        images = name_of_both(self.train_set.name, self.test_set.name)
        for name in dict.fromkeys(misnamed(images, **self._fingerprints).values()):
            warnings.warn(f"These images are called {name!r} and are not the published ones, or not all of them, so "
                          "the results table will not take the run's record; give them a name of their own: "
                          "dataset.renamed(...).", stacklevel=7)  # fmt: skip
        changed = changes(self.recipe, images, self.precision)
        if changed:
            warnings.warn(f"This recipe has the name of the package's {self.recipe.name}, from which it differs in "
                          f"{', '.join(changed)}, so the results table will not take its record; give it a name of its "
                          "own: recipe.replace(name=...).", stacklevel=7)  # fmt: skip

    @property
    def _fingerprints(self) -> dict[str, str]:
        return {"fingerprint": self.train_set.fingerprint, "test_fingerprint": self.test_set.fingerprint}

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on, as plain values and tensors."""
        random, *of_others = self.group.gather(self.trainer.surroundings.state_dict())
        return {
            "recipe": self.recipe.as_dict(),
            "data": self._fingerprints,
            "environments": self.environments,
            "random": random,
            "others": of_others,  # if several processes train together
            "hooks": [(type(hook).__name__, hook.state_dict()) for hook in self._stateful],
            **self.trainer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore ``state``; warns if the environment has changed."""
        self.trainer.load_state_dict(state)
        self.trainer.surroundings.load_state_dict([state["random"], *state.get("others", [])][self.group.rank])
        saved = state.get("hooks", [])
        for hook in self._stateful:  # a new hook has no state to restore
            position = next((i for i, (name, _) in enumerate(saved) if name == type(hook).__name__), None)
            if position is not None and (its_state := saved.pop(position)[1]):
                hook.load_state_dict(its_state)
        before, now = state["environments"], self.environments[0]
        if before[-1] == now:
            self.environments = before
        else:
            keys = dict.fromkeys([*before[-1], *now])
            differing = [key for key in keys if now.get(key) != before[-1].get(key)]
            changes = ", ".join(f"{key} was {before[-1].get(key)}" for key in differing)
            if self.group.is_main:
                warnings.warn(f"The run is resumed in another environment ({changes}), so it will not be "
                              "bit-identical.", stacklevel=4)  # fmt: skip
            self.environments = [*before, now]

    def _save_to_stop(self) -> None:
        """Save before stopping, unless the state is broken or the run already has its record."""
        if self._checkpoints is not None and self.record is None and self.trainer.sound:
            self._checkpoints.save(self.trainer)

    def _kept(self) -> str:
        """What is saved of the run when it stops, as the end of a sentence."""
        if self._checkpoints is None or self.folder is None:
            return ""
        self._checkpoints.settle()
        return f"; the run up to its last checkpoint is in {shown(self.folder.path)}" if self.folder.saved else ""


def train(recipe: Recipe, **options: Unpack[RunOptions]) -> Run:
    """Start a run, or resume the one in the folder ``out``. Iterate over the result to train; each iteration yields the
    ``EpochResult`` of one epoch.

    ``options``:

    - ``train_set`` and ``test_set``: each a ``Dataset``, instead of the recipe's.
    - ``device``: ``"auto"``, or a name such as ``"cuda:1"``.
    - ``precision``: what the recipe's ``auto`` stands for, instead of a choice for this machine; for repeating a run.
    - ``out``: the folder of the run. The run is saved there after epochs and after every ``checkpoint_steps`` steps,
      and resumed from there if the folder is given again.
    - ``checkpoint_seconds``: skip the save after an epoch if the last save is more recent than this; 0: save after
      every epoch. By default saving takes at most a twentieth of the time: after a save of 2 seconds, the next one
      follows the first epoch that ends at least 38 seconds later. The network of S0 takes 700 MB with its optimiser,
      and longer to write than a fast GPU needs for an epoch; on a CPU, and for small networks, every epoch is saved.
      The save after the last epoch and the save of a run that is asked to stop are never skipped.
    - ``deadline``: save and stop once ``time.monotonic()`` is past it.
    - ``deterministic``: on a GPU, use only deterministic kernels. On the CPU all are.
    - ``compile``: run the network through ``torch.compile``, which takes a while to compile.
    - ``graph``: on a CUDA GPU, launch each step as one CUDA graph instead of kernel by kernel. Worthwhile for a small
      network on a fast GPU.
    - ``half_weights``: in bf16 and fp16, cast all weights at once instead of one by one, and likewise their gradients.
    - ``epoch_at_once``: augment a whole epoch's images at once, and keep them in the precision that the network
      computes in. On a GPU they take up twice (in fp32 four times) the memory of the images themselves. The random
      numbers differ from those without it.
    - ``compiled_pools``: run max pooling through ``torch.compile``, which saves most of its memory on a GPU.
    - ``on_step``: a function called after every optimiser step.
    - ``hooks``: instances of subclasses of ``alexnet_course.training.Hook``.

    With ``torchrun --nproc-per-node N``, each of the N processes computes a part of every batch, on a GPU of its own if
    there are any; ``batch_size`` remains that of the whole batch. The run is equivalent to that of one process except
    for rounding, dropout and batch norm, which treat each part separately. One process writes the folder, and the run
    has to be resumed with N processes.

    A run has its own random generators, and leaves PyTorch's global ones and its settings unchanged. Raises
    ``CourseError`` for an unknown option, for invalid steps or seconds, and for a checkpoint in ``out`` that cannot be
    read or belongs to another run.

    >>> from alexnet_course import Recipe, train
    >>> run = train(Recipe(model="cnn4", epochs=2, train_size=100, validation_size=50))
    >>> for epoch in run:
    ...     print(f"epoch {epoch.epoch}: {len(run.history)} done, {0 <= epoch.val_accuracy <= 1}")
    epoch 1: 1 done, True
    epoch 2: 2 done, True
    >>> run.record.dataset.test_images
    1000
    """
    for name in options:
        if name not in RunOptions.__annotations__:
            raise CourseError(f"{name!r} is not an option of train; nearest: "
                              f"{nearest(name, RunOptions.__annotations__)}.")  # fmt: skip
    return Run(recipe, **options)


def resume(folder: str | Path, **options: Unpack[RunOptions]) -> Run:
    """Resume the unfinished run in ``folder``; ``options`` are those of ``train``.

    The recipe and the settings are those it was started with, except for speed-ups that this device does not have
    (``graph``, ``half_weights``) and those that are given here. Raises ``CourseError`` if there is no unfinished run.

    >>> from alexnet_course import Recipe, resume, train
    >>> run = train(Recipe(model="cnn4", epochs=2, train_size=100, validation_size=50), out="runs/first")
    >>> next(iter(run)).epoch  # then the power fails
    1
    >>> [epoch.epoch for epoch in resume("runs/first")]
    [2]
    """
    folder = expanded(folder)
    plan = join_group().on_main(lambda: read_plan(folder))
    return train(Recipe.from_dict(plan["recipe"]), **{"out": folder, **plan["options"], **options})
