"""The trainer: one loop, read from top to bottom."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alexnet_course.data import Dataset, load_dataset
from alexnet_course.data.batches import BatchLoader
from alexnet_course.errors import CourseError
from alexnet_course.models import build_model
from alexnet_course.training.evaluation import Evaluation, evaluate_batches
from alexnet_course.training.precision import autocast, choose_device, resolve_precision
from alexnet_course.training.recipe import Recipe
from alexnet_course.training.record import environment, kept_epoch, make_record, save_progress, save_record


class TrainingStopped(RuntimeError):
    """A run that cannot go on; the message is one sentence."""


@dataclass(frozen=True)
class EpochResult:
    """One epoch. Losses are mean cross-entropies, accuracies fractions of 1; the training figures are those of the
    augmented pictures, with dropout, while the weights moved. ``lr`` is the rate of the epoch's last step; ``seconds``
    are those of the whole epoch, ``images_per_second`` counts its training part alone."""

    epoch: int
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    lr: float
    seconds: float
    images_per_second: float


class Run(Iterator[EpochResult]):
    """A training run: iterate over it to train; each step of the iteration is one epoch.

    ``model``, ``mean``, ``std``, ``device`` and ``precision`` are there from the start, ``history`` grows by one entry
    an epoch, ``record`` is there when the iteration has ended. The test pictures are looked at once, at that moment.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        train_set: Dataset | None = None,
        test_set: Dataset | None = None,
        device: str = "auto",
        out: str | Path | None = None,
        on_step: Callable[[], object] | None = None,
    ) -> None:
        self.recipe = recipe
        self.device = choose_device(device)
        self.precision = resolve_precision(recipe.precision, self.device)
        self.out = Path(out) if out is not None else None
        if self.out is not None:
            _refuse_if_taken(self.out)
        self.train_set = train_set if train_set is not None else load_dataset(recipe.dataset, "train")
        self.test_set = test_set if test_set is not None else load_dataset(recipe.dataset, "test")
        if self.train_set.classes != self.test_set.classes:
            raise CourseError("The training and the test pictures do not have the same classes; give two parts of one "
                              "data set.")  # fmt: skip
        self.history: list[dict[str, Any]] = []
        self.record: dict[str, Any] = {}
        self.on_step = on_step or (lambda: None)

        size = validation_count(recipe.validation_size, len(self.train_set))
        fitting, validation = self.train_set.split_validation(size, recipe.seed)
        self.mean, self.std = fitting.channel_statistics()  # of the training pictures alone

        torch.manual_seed(recipe.seed)  # the first weights and dropout
        channels = self.train_set.images.shape[1]
        self.model = build_model(
            recipe.model,
            num_classes=len(self.train_set.classes),
            in_channels=channels,
            init=recipe.init,
            **recipe.model_options,
        )
        self.model.to(self.device).to(memory_format=torch.channels_last)
        constants: dict[str, Any] = {
            "mean": self.mean,
            "std": self.std,
            "size": recipe.picture_size,
            "device": self.device,
        }
        self.train_loader = BatchLoader(
            fitting,
            recipe.batch_size,
            training=True,
            augmentation=recipe.augmentation,
            generator=torch.Generator(self.device).manual_seed(recipe.seed),
            **constants,
        )
        self.val_loader = BatchLoader(validation, 500, **constants)
        self._constants = constants
        with torch.no_grad():  # a picture size that the network cannot take is refused before the first epoch
            self.model.eval()(self.val_loader.prepare(self.val_loader.images[:1]))
        self.environment = environment(self.device, self.precision)  # now: the code may change while this runs
        if self.out is not None:
            _make_folder(self.out)  # last, so that a run that cannot start leaves nothing behind
        self._epochs = self._train()

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.recipe.epochs * len(self.train_loader)

    def __next__(self) -> EpochResult:
        return next(self._epochs)

    def _train(self) -> Iterator[EpochResult]:
        recipe, model, device = self.recipe, self.model, self.device
        optimiser = make_optimiser(model, recipe, device)
        every_step, every_epoch = make_schedule(optimiser, recipe, len(self.train_loader))
        # fp16 underflows without it; in the other formats it does nothing.
        scaler = torch.amp.GradScaler(device.type, enabled=self.precision == "fp16")
        began = time.perf_counter()
        for epoch in range(1, recipe.epochs + 1):
            start = time.perf_counter()
            model.train()
            losses: list[Tensor] = []  # on the device: nothing is copied back before the epoch ends
            rates: list[float] = []
            correct = torch.zeros((), dtype=torch.int64, device=device)
            for images, labels in self.train_loader:
                with autocast(device, self.precision):
                    logits = model(images)
                    loss = F.cross_entropy(logits.float(), labels, label_smoothing=recipe.label_smoothing)
                optimiser.zero_grad(set_to_none=True)
                scaler.scale(loss).backward()
                scaler.step(optimiser)
                scaler.update()
                losses.append(loss.detach())
                rates.append(optimiser.param_groups[0]["lr"])
                correct += (logits.detach().argmax(1) == labels).sum()
                if every_step is not None:
                    every_step.step()
                self.on_step()
            step_losses = torch.stack(losses).cpu()
            train_seconds = time.perf_counter() - start
            validation = evaluate_batches(model, self.val_loader, self.train_set.classes, self.precision)
            # The validation loss shows what the last step did to the network, which no training loss has seen.
            self._stop_if_not_finite([*step_losses.tolist(), validation.loss], rates, epoch)
            if isinstance(every_epoch, torch.optim.lr_scheduler.ReduceLROnPlateau):
                every_epoch.step(validation.accuracy)
            elif every_epoch is not None:
                every_epoch.step()
            images_seen = self.train_loader.images_per_epoch
            result = EpochResult(
                epoch=epoch,
                train_loss=step_losses.mean().item(),
                train_accuracy=correct.item() / images_seen,
                val_loss=validation.loss,
                val_accuracy=validation.accuracy,
                lr=rates[-1],
                seconds=time.perf_counter() - start,
                images_per_second=images_seen / train_seconds,
            )
            self.history.append(asdict(result))
            if self.out is not None:
                try:
                    save_progress(self.out, model, self.history)
                except OSError as error:  # a full disk, say: the network in memory is worth more than the file
                    problem = f"Epoch {epoch} could not be saved in {self.out} ({error})"
                    warnings.warn(f"{problem}; training goes on, so free some space before it ends.", stacklevel=2)
            if epoch == recipe.epochs:
                self._finish(time.perf_counter() - began)
            yield result

    def _finish(self, wall_seconds: float) -> None:
        """Look at the test pictures, once, and write the record."""
        self.record = make_record(self, self.evaluate(self.test_set), wall_seconds)
        if self.out is not None:
            try:
                save_record(self.out, self.record)
            except OSError as error:
                accuracy = self.record["test_accuracy"]
                raise TrainingStopped(f"The run is finished, with a test accuracy of {accuracy:.2%}, but its record "
                                      f"could not be written to {self.out} ({error}).") from None  # fmt: skip

    def evaluate(self, dataset: Dataset) -> Evaluation:
        """Evaluate the network as it is now, with the run's own normalisation, picture size and precision."""
        loader = BatchLoader(dataset, 500, **self._constants)
        return evaluate_batches(self.model, loader, dataset.classes, self.precision)

    def _stop_if_not_finite(self, losses: list[float], rates: list[float], epoch: int) -> None:
        broken = next((number for number, loss in enumerate(losses) if not math.isfinite(loss)), None)
        if broken is None:
            return
        step = min(broken, len(rates) - 1)
        saved = kept_epoch(self.out) if self.out is not None else None
        kept = f"; the weights of epoch {saved} are in {self.out}" if saved is not None else ""
        raise TrainingStopped(
            f"The loss became {losses[broken]} in epoch {epoch} at step {step + 1} of {len(rates)}, at a learning rate "
            f"of {rates[step]:.3g}; train again with a lower lr{kept}."
        )


def train(recipe: Recipe, **options: Any) -> Run:
    """Start a run; iterate over the result to train, one ``EpochResult`` an epoch.

    ``options``: ``train_set`` and ``test_set`` (each a ``Dataset``, instead of the recipe's), ``device`` (``"auto"``),
    ``out`` (a new folder for weights and record) and ``on_step`` (called after every optimiser step). torch's
    global random generator is seeded with the recipe's seed. ::

        run = train(Recipe(model="cnn4", epochs=3))
        for epoch in run:
            print(epoch.epoch, epoch.val_accuracy)
        print(run.record["test_accuracy"])
    """
    return Run(recipe, **options)


def fit(recipe: Recipe, *, progress: bool = True, **options: Any) -> Run:
    """``train`` to the end, with a progress bar on standard error; returns the finished run."""
    from tqdm.auto import tqdm

    run = Run(recipe, **options)
    with tqdm(total=run.steps, desc=recipe.name, unit="step", disable=not progress) as bar:
        run.on_step = bar.update
        for result in run:
            bar.set_postfix_str(
                f"epoch {result.epoch}/{recipe.epochs}, loss {result.train_loss:.3f}, "
                f"val {result.val_accuracy:.1%}, {result.images_per_second:.0f} img/s"
            )
    return run


def validation_count(size: float, available: int) -> int:
    """How many of ``available`` training pictures are held out: ``size`` of them, or that share where it is below 1."""
    count = round(size * available) if size < 1 else int(size)
    if not 0 < count < available:
        raise CourseError(f"validation_size = {size:g} would hold out {count} of {available} training pictures; "
                          "give a number that leaves some on both sides, for example 0.1.")  # fmt: skip
    return count


def make_optimiser(model: nn.Module, recipe: Recipe, device: torch.device) -> torch.optim.Optimizer:
    fused = device.type in ("cuda", "cpu")  # one kernel for all weights; also keeps fp16's overflow check on the device
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(
            model.parameters(), recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay, fused=fused
        )
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimiser]
    return kind(model.parameters(), recipe.lr, weight_decay=recipe.weight_decay, fused=fused)


Scheduler = torch.optim.lr_scheduler.LRScheduler


def make_schedule(
    optimiser: torch.optim.Optimizer, recipe: Recipe, steps_per_epoch: int
) -> tuple[Scheduler | None, Scheduler | None]:
    """torch's own schedulers: the one to step after every step, and the one to step after every epoch."""
    schedules = torch.optim.lr_scheduler
    if recipe.schedule == "one-cycle":
        total = recipe.epochs * steps_per_epoch
        return schedules.LambdaLR(optimiser, lambda step: one_cycle(step, total, recipe.warmup)), None
    if recipe.schedule == "step":
        return None, schedules.MultiStepLR(optimiser, list(recipe.lr_steps), recipe.lr_factor)
    if recipe.schedule == "plateau":
        return None, schedules.ReduceLROnPlateau(optimiser, "max", recipe.lr_factor, recipe.patience)
    return None, None


def one_cycle(step: int, total: int, warmup: float) -> float:
    """The share of the highest learning rate at ``step`` (from 0) of ``total``.

    A straight rise over the share ``warmup`` of all steps, then half a cosine down towards 0. Source: Smith 2018, with
    the cosine of Loshchilov and Hutter 2017.
    """
    rise = max(1, round(warmup * total))
    if step < rise:
        return (step + 1) / rise
    return (1 + math.cos(math.pi * (step - rise + 1) / (total - rise + 1))) / 2


def _refuse_if_taken(out: Path) -> None:
    """Raise ``CourseError`` where ``out`` holds something that a run would overwrite."""
    if out.exists() and not out.is_dir():
        raise CourseError(f"{str(out)!r} is a file; give a folder for the run.")
    if out.exists() and any(out.iterdir()):
        raise CourseError(f"{str(out)!r} already holds files, which a new run would overwrite; give a new folder.")


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"{str(out)!r} cannot be made ({error.strerror})"
        raise CourseError(f"{reason}; give a folder that you may write to.") from None
