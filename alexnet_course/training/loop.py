"""The trainer: one loop, read from top to bottom."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from alexnet_course.data import Dataset, load_dataset
from alexnet_course.data.batches import BatchLoader
from alexnet_course.errors import CourseError
from alexnet_course.models import Network, build_model
from alexnet_course.models.network import check_logits
from alexnet_course.records.predictions import pack, save_predictions
from alexnet_course.training.checkpoint import (
    RunFolder,
    random_state,
    read_plan,
    refuse_changes,
    set_random_state,
)
from alexnet_course.training.evaluation import Evaluation, evaluate_batches
from alexnet_course.training.faster import FasterFunctions, keep_freed_memory, pool_first
from alexnet_course.training.faults import first_layer_to_leave, is_out_of_memory, largest_that_fits
from alexnet_course.training.precision import (
    autocast,
    choose_device,
    device_name,
    resolve_precision,
    use_deterministic_kernels,
)
from alexnet_course.training.recipe import NORMALISATIONS, Recipe
from alexnet_course.training.record import (
    PREDICTIONS,
    environment,
    load_run,
    make_record,
    save_record,
    save_weights,
)
from alexnet_course.training.schedule import epochs_without_progress, make_optimiser, make_schedule
from alexnet_course.training.signals import StopWish

EVALUATION_BATCH = 500  # halved where the memory does not suffice
SMALLEST_SCALE = 2.0**-10  # of fp16's gradients; the scaler begins at 65,536 and halves it at every overflow


class TrainingStopped(RuntimeError):
    """A run that cannot go on; the message is one sentence. ``signal`` is the number of the signal that stopped it."""

    signal: int | None = None


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

    With ``out`` the run is saved in that folder after every epoch, and after every ``checkpoint_steps`` steps. If the
    folder holds an unfinished run of the same recipe and pictures, this one goes on where it stopped; a finished one is
    loaded, and the iteration is over at once. Ctrl-C and SIGTERM save first.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        train_set: Dataset | None = None,
        test_set: Dataset | None = None,
        device: str = "auto",
        out: str | Path | None = None,
        checkpoint_steps: int = 0,
        checkpoint_seconds: float = 0.0,
        deterministic: bool = False,
        compile: bool = False,
        on_step: Callable[[], object] | None = None,
    ) -> None:
        self.recipe = recipe
        self.device = choose_device(device)
        self.out = Path(out) if out is not None else None
        self.folder = RunFolder(self.out) if self.out is not None else None
        try:
            self.train_set = train_set if train_set is not None else load_dataset(recipe.dataset, "train")
            self.test_set = test_set if test_set is not None else load_dataset(recipe.dataset, "test")
            if self.train_set.classes != self.test_set.classes:
                raise CourseError("The training and the test pictures do not have the same classes; give two parts of "
                                  "one data set.")  # fmt: skip
            self.checkpoint_steps = checkpoint_steps
            self.checkpoint_seconds = checkpoint_seconds
            self._saved_at = time.perf_counter()
            self.on_step = on_step or (lambda: None)
            self.options = {"deterministic": deterministic, "compile": compile}
            use_deterministic_kernels(self.device, deterministic)
            self.precision = self._choose_precision()
            self._set_up()
            self._stop_wish = StopWish()
            self._epochs = self._train()
            if self.folder is not None:
                self._open_folder(self.folder)
        except BaseException:
            self.close()
            raise

    def _choose_precision(self) -> str:
        """That of the start, if the run goes on on the same device: measured again, it might come out different."""
        plan = self.folder.plan() if self.folder is not None else None
        if plan is not None and plan["device"] == device_name(self.device):
            return str(plan["precision"])
        return resolve_precision(self.recipe.precision, self.device)

    def _set_up(self) -> None:
        """Everything that training needs, as it is before the first step."""
        recipe = self.recipe
        size = picture_count("validation_size", recipe.validation_size, len(self.train_set))
        fitting, validation = self.train_set.split_indices(size, recipe.seed)
        if recipe.train_size != 1:
            wanted = picture_count("train_size", recipe.train_size, len(fitting))
            _, fitting = self.train_set.split_indices(wanted, recipe.seed, among=fitting)
        self.mean, self.std = self._normalisation(fitting)
        classes = len(self.train_set.classes)
        outputs = recipe.outputs or classes
        if outputs < classes:
            raise CourseError(f"outputs = {outputs} is too few for {classes} classes; leave outputs out, or give at "
                              f"least {classes}.")  # fmt: skip

        torch.manual_seed(recipe.seed)  # the first weights and dropout
        self.model = build_model(
            recipe.model,
            num_classes=outputs,
            in_channels=self.train_set.images.shape[1],
            init=recipe.init,
            **recipe.model_options,
        )
        self.model.to(self.device).to(memory_format=torch.channels_last)
        # What runs, over the layers of the model. A compiled network has faster functions of its own.
        compiled = self.options["compile"]
        plain = pool_first(self.model) if isinstance(self.model, Network) else self.model
        self._network = torch.compile(self.model) if compiled else plain
        self._faster = nullcontext() if compiled else FasterFunctions(self.device, self.precision)
        self._constants: dict[str, Any] = {
            "mean": self.mean,
            "std": self.std,
            "size": recipe.picture_size,
            "device": self.device,
        }
        on_device = self.train_set.to(self.device)  # once: both loaders share these pictures
        self.train_loader = BatchLoader(
            on_device,
            recipe.batch_size,
            indices=fitting,
            training=True,
            augmentation=recipe.augmentation,
            generator=torch.Generator(self.device).manual_seed(recipe.seed),
            **self._constants,
        )
        self.val_loader = BatchLoader(on_device, EVALUATION_BATCH, indices=validation, **self._constants)
        # What the network cannot take is refused before the first epoch.
        picture = self.val_loader.prepare(on_device.images[:1])
        check_logits(self.model, picture, outputs, recipe.model)

        self.optimiser = make_optimiser(self.model, recipe, self.device)
        self.every_step, self.every_epoch = make_schedule(self.optimiser, recipe, len(self.train_loader))
        # fp16 underflows without it; in the other formats it does nothing.
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        if self.device.type == "cpu":
            keep_freed_memory()
        self._broken = torch.zeros((), device=self.device)  # 1 from the first step on whose numbers are not finite
        if self.precision != "fp16":
            # The fused optimisers leave the weights alone where this is 1, without asking the processor.
            self.optimiser.found_inf = self._broken  # type: ignore[attr-defined]

        self.epoch = 1  # the one under way
        self.history: list[dict[str, Any]] = []
        self.record: dict[str, Any] = {}
        self._best: dict[str, Tensor] = {}  # restore_best: the weights of the best epoch so far
        self.wall_seconds = 0.0
        self.environments = [environment(self.device, self.precision, self.options)]  # now: the code may yet change
        self._begin_epoch()

    def _normalisation(self, fitting: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel: of the pictures to train on alone, or the recipe's constants."""
        name, channels = self.recipe.normalisation, self.train_set.images.shape[1]
        if name == "dataset":
            return self.train_set.channel_statistics(fitting)
        mean, std = NORMALISATIONS[name]
        if channels != len(mean):
            raise CourseError(f"normalisation = {name!r} has constants for RGB, but the pictures have {channels} "
                              "channels; set normalisation = 'dataset'.")  # fmt: skip
        return mean, std

    def _begin_epoch(self) -> None:
        """Clear the figures of the epoch that is over."""
        self._losses: list[Tensor] = []  # on the device: nothing is copied back before the epoch ends
        self._finite: list[Tensor] = []
        self._rates: list[float] = []
        self._correct = torch.zeros((), dtype=torch.int64, device=self.device)
        self._train_seconds = 0.0
        self.train_loader.rewind()

    @property
    def _first_gradient(self) -> Tensor:
        """That of the first weight that learns; looked for in every step, since ``freeze`` and ``thaw`` may come at any
        time, and since a network of your own may have weights that it does not use."""
        return next(weight.grad for weight in self.model.parameters() if weight.grad is not None)

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.recipe.epochs * len(self.train_loader)

    @property
    def steps_done(self) -> int:
        return (self.epoch - 1) * len(self.train_loader) + len(self._rates)

    def __next__(self) -> EpochResult:
        with self._stop_wish if self.folder is not None else nullcontext():
            return next(self._epochs)

    def _train(self) -> Iterator[EpochResult]:
        try:
            while not self.over:
                if self.folder is not None:
                    self.folder.check_held()
                self._heed_stop_wish()
                if not any(weight.requires_grad for weight in self.model.parameters()):
                    raise CourseError("All weights of the network are frozen, so none can learn; thaw a part, for "
                                      "example its classifier.")  # fmt: skip
                self._train_epoch()
                result = self._end_epoch()
                if self.over:
                    self._finish()
                yield result
            if not self.record:  # the process before this one stopped between its last epoch and its record
                self._finish()
        finally:
            self.close()

    def _train_epoch(self) -> None:
        """The rest of the epoch under way; all of it, unless the run was interrupted in it."""
        self.model.train()
        clock = time.perf_counter()
        for images, labels in self.train_loader:
            self._attempt_step(images, labels)
            self.on_step()
            clock = self._count_seconds(clock)
            if self.checkpoint_steps and len(self._rates) % self.checkpoint_steps == 0:
                self._stop_if_not_finite(self._largest_weight(), "largest weight")
                self._save()
                clock = time.perf_counter()  # saving is not training
            self._heed_stop_wish()
        self._stop_if_not_finite()  # waits until the device has done all steps
        self._count_seconds(clock)

    def _count_seconds(self, since: float) -> float:
        """Add the time ``since`` then to that of the epoch's training; gives the time now."""
        now = time.perf_counter()
        self._train_seconds += now - since
        return now

    def _attempt_step(self, images: Tensor, labels: Tensor) -> None:
        try:
            self._train_step(images, labels)
            return
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error).splitlines()[0]
        self._stop_out_of_memory(reason)  # outside of the handler, whose error holds on to the memory of the step

    def _train_step(self, images: Tensor, labels: Tensor) -> None:
        with autocast(self.device, self.precision), self._faster:
            logits = self._network(images)
            loss = F.cross_entropy(logits.float(), labels, label_smoothing=self.recipe.label_smoothing)
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self._watch(loss.detach())
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self._rates.append(self.optimiser.param_groups[0]["lr"])
        self._correct += (logits.detach().argmax(1) == labels).sum()
        if self.every_step is not None:
            self.every_step.step()

    def _watch(self, loss: Tensor) -> None:
        """Note on the device whether this step's numbers are finite, and from the first that are not, stand still."""
        finite = torch.isfinite(loss)
        if self.precision != "fp16":  # whose scaler makes gradients overflow on purpose, now and then
            # What goes wrong on the way back arrives at the first layer, whose gradient is small and quickly checked.
            finite = finite & torch.isfinite(self._first_gradient).all()
        torch.maximum(self._broken, (~finite).float(), out=self._broken)
        self._losses.append(loss)
        self._finite.append(finite)

    def _end_epoch(self) -> EpochResult:
        """Validate, save, and give the epoch's figures."""
        clock = time.perf_counter()
        validation = self._evaluate(self.val_loader, self.train_set, self._heed_stop_wish)
        # The validation loss shows what the last step did to the network, which no training loss has seen.
        self._stop_if_not_finite(validation.loss)
        if self.scaler.is_enabled() and self.scaler.get_scale() < SMALLEST_SCALE:
            raise TrainingStopped(f"The gradients overflow fp16 in epoch {self.epoch} even when they are scaled by "
                                  f"{SMALLEST_SCALE:g}; train with precision = 'fp32'{self._kept()}.")  # fmt: skip
        if isinstance(self.every_epoch, torch.optim.lr_scheduler.ReduceLROnPlateau):
            self._step_plateau(self.every_epoch, validation.accuracy)
        elif self.every_epoch is not None:
            self.every_epoch.step()
        images_seen = self.train_loader.images_per_epoch
        result = EpochResult(
            epoch=self.epoch,
            train_loss=torch.stack(self._losses).cpu().mean().item(),
            train_accuracy=self._correct.item() / images_seen,
            val_loss=validation.loss,
            val_accuracy=validation.accuracy,
            lr=self._rates[-1],
            seconds=self._train_seconds + time.perf_counter() - clock,
            images_per_second=images_seen / self._train_seconds,
        )
        self.history.append(asdict(result))
        self.wall_seconds += result.seconds
        self.epoch += 1
        self._begin_epoch()
        if self.over or time.perf_counter() - self._saved_at >= self.checkpoint_seconds:
            self._save()
        return result

    @property
    def over(self) -> bool:
        """Whether all epochs are done, or ``stop_after`` ends the run before."""
        without = epochs_without_progress([entry["val_accuracy"] for entry in self.history])
        return self.epoch > self.recipe.epochs or 0 < self.recipe.stop_after <= without

    def _step_plateau(self, schedule: torch.optim.lr_scheduler.ReduceLROnPlateau, accuracy: float) -> None:
        """Let the rate fall where it is time and, with ``restore_best``, go back to the best weights as it does."""
        if self.recipe.restore_best and all(accuracy > entry["val_accuracy"] for entry in self.history):
            self._best = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        before = self.optimiser.param_groups[0]["lr"]
        schedule.step(accuracy)
        if self.recipe.restore_best and self.optimiser.param_groups[0]["lr"] < before:
            self.model.load_state_dict(self._best)

    def _finish(self) -> None:
        """Look at the test pictures, once, and write weights and record."""
        clock = time.perf_counter()
        test = self.evaluate(self.test_set, self._heed_stop_wish)
        augmented = self._evaluate_augmented() if self.recipe.augmented_test else None
        self.wall_seconds += time.perf_counter() - clock
        predictions = pack(test.predictions[self.test_set.ordered], len(self.test_set.classes))
        self.record = make_record(self, test, predictions, augmented)
        if self.folder is None:
            return
        try:
            save_weights(self.folder.path, self.model)
            save_predictions(self.folder.path / PREDICTIONS, predictions)
            save_record(self.folder.path, self.record)
            self.folder.discard_checkpoints()
        except OSError as error:
            raise TrainingStopped(
                f"The run is finished, with a test accuracy of {test.accuracy:.2%}, but it could not be written to "
                f"{self.out} ({error}); {self.folder.remedy} and resume it."
            ) from None

    def evaluate(self, dataset: Dataset, on_batch: Callable[[], object] | None = None) -> Evaluation:
        """Evaluate the network as it is now, with the run's own normalisation, picture size and precision."""
        return self._evaluate(BatchLoader(dataset, EVALUATION_BATCH, **self._constants), dataset, on_batch)

    def _evaluate_augmented(self) -> Evaluation:
        """The test pictures changed at random like the training pictures: what S0 measured."""
        generator = torch.Generator(self.device).manual_seed(self.recipe.seed)
        changes = self.recipe.augmentation
        loader = BatchLoader(
            self.test_set, EVALUATION_BATCH, augmentation=changes, generator=generator, **self._constants
        )
        return self._evaluate(loader, self.test_set, self._heed_stop_wish)

    def _evaluate(self, loader: BatchLoader, dataset: Dataset, on_batch: Callable[[], object] | None) -> Evaluation:
        """In batches half as large wherever the memory does not suffice."""
        while True:
            try:
                return evaluate_batches(self.model, loader, dataset.classes, self.precision, on_batch)
            except RuntimeError as error:
                if loader.batch_size == 1 or not is_out_of_memory(error):
                    raise
            loader.batch_size //= 2

    def close(self) -> None:
        """Let another run have the folder. Happens by itself when the run ends."""
        if self.folder is not None:
            self.folder.release()

    # --- Interruption ------------------------------------------------------------------------------------------------

    def _open_folder(self, folder: RunFolder) -> None:
        """Go on where the run in ``folder`` stopped; begin where there is none."""
        plan = {
            "recipe": self.recipe.as_dict(),
            "data": {"fingerprint": self.train_set.fingerprint, "test_fingerprint": self.test_set.fingerprint},
            "options": self.options,
            "device": device_name(self.device),
            "precision": self.precision,
        }
        if folder.finished:
            model, record = load_run(folder.path)
            data = {key: record["dataset"][key] for key in plan["data"]}
            refuse_changes(
                {"recipe": record["recipe"], "data": data, "options": {}}, {**plan, "options": {}}, folder.path
            )
            self.model.load_state_dict(model.state_dict())
            self.history, self.record = record["history"], record
            self.epoch = self.recipe.epochs + 1
            self.environments = [record["environment"]]
            folder.discard_checkpoints()  # where the process before this one stopped after its record
            self.close()
            return
        before = folder.plan()
        if before is not None:
            refuse_changes(before, plan, folder.path)
        folder.open()
        if before is None:
            folder.save_plan(plan)
        state = folder.load()
        if state is not None:
            self._set_state(state)

    def _state(self) -> dict[str, Any]:
        """All that the rest of the run depends on, as plain values and tensors."""
        return {
            "recipe": self.recipe.as_dict(),
            "environments": self.environments,
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "every_step": self.every_step.state_dict() if self.every_step else None,
            "every_epoch": self.every_epoch.state_dict() if self.every_epoch else None,
            "scaler": self.scaler.state_dict(),
            "random": random_state(self.device),
            "loader": self.train_loader.state(),
            "epoch": self.epoch,
            "losses": torch.stack(self._losses) if self._losses else torch.zeros(0),
            "rates": self._rates,
            "correct": self._correct,
            "history": self.history,
            "best": self._best,
            "seconds": (self.wall_seconds, self._train_seconds),
        }

    def _set_state(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.every_step is not None:
            self.every_step.load_state_dict(state["every_step"])
        if self.every_epoch is not None:
            self.every_epoch.load_state_dict(state["every_epoch"])
        self.scaler.load_state_dict(state["scaler"])
        set_random_state(state["random"], self.device)
        self.train_loader.resume(state["loader"])
        self.epoch, self.history = state["epoch"], state["history"]
        self._best = {name: tensor.to(self.device) for name, tensor in state.get("best", {}).items()}
        self._losses = list(state["losses"].to(self.device))
        self._finite = [torch.isfinite(loss) for loss in self._losses]
        self._rates, self._correct = state["rates"], state["correct"].to(self.device)
        self.wall_seconds, self._train_seconds = state["seconds"]
        before, now = state["environments"], self.environments[0]
        if before[-1] == now:
            self.environments = before
        else:
            changes = ", ".join(f"{key} was {before[-1].get(key)}" for key in now if now[key] != before[-1].get(key))
            warnings.warn(f"The run goes on in another environment ({changes}), so it will not be the same to the bit.",
                          stacklevel=4)  # fmt: skip
            self.environments = [*before, now]

    def _save(self) -> None:
        """Write a checkpoint. A full disk costs the checkpoint, not the run."""
        if self.folder is None:
            return
        clock = time.perf_counter()
        try:
            self.folder.save(self._state(), self.steps_done)
        except OSError as error:
            warnings.warn(f"The checkpoint of step {self.steps_done} could not be saved in {self.out} ({error}); "
                          f"training goes on, so {self.folder.remedy} before it ends.", stacklevel=4)  # fmt: skip
        self._saved_at = time.perf_counter()
        self.wall_seconds += self._saved_at - clock

    def _heed_stop_wish(self) -> None:
        """After Ctrl-C or SIGTERM: save, then stop."""
        wish = self._stop_wish.signal
        if wish is None:
            return
        if not self.record and self._broken == 0 and math.isfinite(self._largest_weight()):
            self._save()
        where = f"at step {self.steps_done:,} of {self.steps:,}"
        stopped = TrainingStopped(f"Stopped by {wish.name} {where}; the run is in {self.out}, resume it to go on.")
        stopped.signal = wish
        raise stopped

    # --- Faults ------------------------------------------------------------------------------------------------------

    def _largest_weight(self) -> float:
        """Not finite where the last step broke the network, which no loss has seen yet."""
        return torch.stack([weight.detach().abs().max() for weight in self.model.parameters()]).max().item()

    def _stop_if_not_finite(self, after: float = 0.0, name: str = "loss") -> None:
        """Stop where a step of this epoch met numbers that are not finite, or what was found ``after`` it is not."""
        finite = torch.stack(self._finite).cpu().tolist()
        if all(finite):
            step, what = len(finite) - 1, f"{name} became {after}"
            if math.isfinite(after):
                return
        else:
            step = finite.index(False)
            loss = self._losses[step].item()
            what = "gradient overflowed" if math.isfinite(loss) else f"loss became {loss}"
        images, _ = self.train_loader.batch(step)
        self.model.train()

        def forward() -> None:
            with autocast(self.device, self.precision):
                self.model(images)

        layer = first_layer_to_leave(self.model, forward)
        where = f"the activations of {layer} left the finite numbers first" if layer else "no activation did by itself"
        raise TrainingStopped(
            f"The {what} in epoch {self.epoch} at step {step + 1} of {len(self.train_loader)}, at a learning rate of "
            f"{self._rates[step]:.3g}; {where}; train again with a lower lr{self._kept()}."
        )

    def _stop_out_of_memory(self, reason: str) -> None:
        """Find out what would fit, and stop."""
        self.optimiser.zero_grad(set_to_none=True)
        pictures = self.val_loader.images[:1]

        def attempt(size: int) -> None:
            images = self.val_loader.prepare(pictures.expand(size, -1, -1, -1))
            with autocast(self.device, self.precision), self._faster:
                self._network(images).float().sum().backward()
            self.optimiser.zero_grad(set_to_none=True)

        size = largest_that_fits(self.recipe.batch_size, attempt)
        hint = f"batch_size = {size} fits" if size else "not even one picture fits, so choose a smaller network"
        raise TrainingStopped(f"There is not enough memory for batch_size = {self.recipe.batch_size} on {self.device} "
                              f"({reason}); {hint}{self._kept()}.")  # fmt: skip

    def _kept(self) -> str:
        """What is left of the run, as the end of a sentence."""
        saved = self.folder is not None and self.folder.checkpoints()
        return f"; the run up to its last checkpoint is in {self.out}" if saved else ""


def train(recipe: Recipe, **options: Any) -> Run:
    """Start a run, or go on with the one in the folder ``out``; iterate over the result to train, one ``EpochResult``
    an epoch.

    ``options``:

    - ``train_set`` and ``test_set``: each a ``Dataset``, instead of the recipe's.
    - ``device``: ``"auto"``, or a name such as ``"cuda:1"``.
    - ``out``: the folder of the run. It is saved there after every epoch and after every ``checkpoint_steps`` steps,
      and goes on from there if it is given again.
    - ``checkpoint_seconds``: leave out the save after an epoch where the last one is not so long ago; the network of S0
      is 700 MB with its optimiser, which takes longer to write than a fast GPU needs for an epoch.
    - ``deterministic``: on a GPU, use only kernels whose result can be repeated to the bit. On the CPU all are.
    - ``compile``: run the network through ``torch.compile``, which takes a while before it is faster.
    - ``on_step``: called after every optimiser step.

    torch's global random generator is seeded with the recipe's seed.

    >>> from alexnet_course import Recipe, train
    >>> run = train(Recipe(model="cnn4", epochs=2, train_size=100, validation_size=50))
    >>> for epoch in run:
    ...     print(f"epoch {epoch.epoch}: {len(run.history)} done, {0 <= epoch.val_accuracy <= 1}")
    epoch 1: 1 done, True
    epoch 2: 2 done, True
    >>> run.record["dataset"]["test_images"]
    1000
    """
    return Run(recipe, **options)


def resume(folder: str | Path, **options: Any) -> Run:
    """Go on with the unfinished run in ``folder``; ``options`` are those of ``train``.

    Recipe and settings are those that it was started with. ``CourseError`` where there is no unfinished run.

    >>> from alexnet_course import Recipe, resume, train
    >>> run = train(Recipe(model="cnn4", epochs=2, train_size=100, validation_size=50), out="runs/first")
    >>> next(iter(run)).epoch  # and now the lights go out
    1
    >>> [epoch.epoch for epoch in resume("runs/first")]
    [2]
    """
    plan = read_plan(folder)
    return Run(Recipe.from_dict(plan["recipe"]), out=folder, **{**plan["options"], **options})


def picture_count(key: str, size: float, available: int) -> int:
    """How many of ``available`` training pictures ``size`` means: so many, or that share where it is below 1."""
    count = round(size * available) if size < 1 else int(size)
    if not 0 < count < available:
        raise CourseError(f"{key} = {size:g} would be {count} of {available} training pictures; "
                          "give a number that leaves some on both sides, for example 0.1.")  # fmt: skip
    return count
