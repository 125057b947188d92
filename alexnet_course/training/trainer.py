"""The trainer: one network with its optimiser, schedule and batches, and the definition of a training step."""

from __future__ import annotations

import gc
import math
import operator
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alexnet_course.data import Dataset
from alexnet_course.data.batches import BatchLoader
from alexnet_course.errors import CourseError, first_line
from alexnet_course.models import Network, build_model
from alexnet_course.models.network import check_logits, check_weights
from alexnet_course.muon import lay_out_like_weights, with_kernels_of
from alexnet_course.optim import OPTIMISERS, ends_early, make_optimiser, make_schedule
from alexnet_course.recipe import Recipe
from alexnet_course.shapes import memory_format
from alexnet_course.training.device import DTYPES, autocast, choice_of_kernels, let_cublas_repeat
from alexnet_course.training.division import divide, normalisation
from alexnet_course.training.evaluation import Evaluation, evaluate_batches
from alexnet_course.training.faults import (
    TrainingStopped,
    cannot_compile,
    first_layer_to_leave,
    is_out_of_memory,
    largest_that_fits,
)
from alexnet_course.training.kernels import FasterFunctions, keep_freed_memory, pool_first
from alexnet_course.training.parallel import ALONE, Group, running_statistics
from alexnet_course.training.progress import EpochResult, Stopwatch
from alexnet_course.training.speedups import HalfWeights
from alexnet_course.training.start import carried, start_from_imagenet
from alexnet_course.training.step_graph import StepGraph
from alexnet_course.training.surroundings import Surroundings

EVALUATION_BATCH = 500  # halved if it does not fit into memory
SMALLEST_SCALE = 2.0**-10  # of fp16's gradients; the scaler begins at 65,536 and halves the scale at every overflow


class Trainer:
    """The state of training. ``step`` trains on one batch, ``validate`` evaluates on the validation images.

    ``precision`` is bf16, fp16 or fp32; ``resumes`` announces that ``load_state_dict`` will follow; the other options
    are those of ``train``. ``state_dict`` has everything that the rest of the run depends on, except the random
    generators of each process, which are in ``surroundings``. Raises ``CourseError`` for a recipe that does not fit the
    network or the training set.

    The trainers of a ``group`` of processes have the same weights and use the same batches; each computes its part of a
    batch (see ``alexnet_course.training.parallel``).
    """

    def __init__(
        self,
        recipe: Recipe,
        train_set: Dataset,
        device: torch.device,
        precision: str,
        *,
        deterministic: bool = False,
        compile: bool = False,
        graph: bool = False,
        half_weights: bool = False,
        epoch_at_once: bool = False,
        compiled_pools: bool = False,
        group: Group = ALONE,
        resumes: bool = False,
    ) -> None:
        self.recipe = recipe
        self.group = group
        self.train_set = train_set
        self.device = device
        self.precision = precision
        self.deterministic = deterministic
        if deterministic:
            let_cublas_repeat()
        self.surroundings = Surroundings(recipe.seed, device)  # the seed of the initial weights and of dropout
        self.epoch = 1  # the current one
        self.history: list[dict[str, Any]] = []
        self.wall_seconds = 0.0
        self._best: dict[str, Tensor] = {}  # restore_best: the weights of the best epoch so far
        self.kept: Callable[[], str] = lambda: ""  # what is saved of the run if it stops, as the end of a sentence
        self._at_once = DTYPES[precision] if epoch_at_once else None
        self.resumes = resumes
        self.without_start: CourseError | None = None  # why pretrained weights are missing; ignored when resuming
        with self.computing():
            self._prepare(compile)
            self._choose_functions(compile, half_weights, compiled_pools)
            self._compute = self._recorded() if graph else self._make_step
            self.begin_epoch()

    def _prepare(self, compile: bool) -> None:
        """Split the images, and build the network, its optimiser and its loaders."""
        recipe, device, precision, group = self.recipe, self.device, self.precision, self.group
        fitting, validation = divide(recipe, self.train_set)
        self.mean, self.std = normalisation(recipe, self.train_set, fitting)
        classes = len(self.train_set.classes)
        if classes < 2:
            raise CourseError(f"{self.train_set.name!r} has {classes} class; expected two or more, or there is nothing "
                              "to tell apart.")  # fmt: skip
        self.outputs = recipe.outputs or classes
        if self.outputs < classes:
            raise CourseError(f"outputs = {self.outputs} is too few for {classes} classes; leave outputs out, or give "
                              f"at least {classes}.")  # fmt: skip
        self.model = self.build(init=recipe.init)
        check_weights(self.model, recipe.model)
        body = self._start() if recipe.start == "imagenet" else set()
        self.model.to(device).to(memory_format=memory_format(device))
        self.evaluated = self.model  # a hook may replace it by an average of the weights
        self._make_loaders(fitting, validation)
        if self.train_loader.batch_size < group.size:
            raise CourseError(f"A batch of {self.train_loader.batch_size} has no part for each of {group.size} "
                              "processes; give a larger batch_size, or start fewer.")  # fmt: skip
        # What the network cannot take is refused before the first epoch.
        first = self.val_loader.prepare(self.val_loader.images[:1])
        check_logits(self.model, first, self.outputs, recipe.model)
        if recipe.first_size:
            smaller = F.interpolate(first, size=(recipe.first_size, recipe.first_size))
            check_logits(self.model, smaller, self.outputs, recipe.model)

        if not group.is_main:
            self.surroundings.seed(recipe.seed + 1_000_003 * group.rank)  # so that dropout differs between parts
        self.optimiser = make_optimiser(self.model, recipe, device, body)
        self.every_step, self.every_epoch = make_schedule(self.optimiser, recipe, len(self.train_loader))
        # fp16 underflows without it; for the other precisions it does nothing.
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        if device.type == "cpu":
            keep_freed_memory()
        self._broken = torch.zeros((), device=device)  # 1 from the first step with non-finite values on
        # In this process's part of the batches of an epoch.
        self._correct = torch.zeros((), dtype=torch.int64, device=device)
        if precision != "fp16" and OPTIMISERS[recipe.optimiser].heeds_found_inf(device):
            # Fused optimisers skip the update if this is 1, without synchronising with the CPU.
            self.optimiser.found_inf = self._broken  # type: ignore[attr-defined]

    def _choose_functions(self, compile: bool, half_weights: bool, compiled_pools: bool) -> None:
        """Choose the functions that run the model. A compiled network has its own faster functions."""
        for name, wanted in (("half_weights", half_weights), ("compiled_pools", compiled_pools)):
            if compile and wanted:
                raise CourseError(f"{name} = True cannot be combined with compile = True, which includes it; leave one "
                                  "of the two out.")  # fmt: skip
        if half_weights and self.precision == "fp32":
            raise CourseError("half_weights = True is for bf16 and fp16, and this run computes in fp32; leave it out.")
        self._compiled = "compile" if compile else "compiled_pools"
        self.network: Callable[[Tensor], Any]
        self.faster: AbstractContextManager[object] = nullcontext()
        if compile:
            self.network = torch.compile(self.model)
            return
        self.faster = FasterFunctions(self.device, self.precision, compiled_pools)
        plain = pool_first(self.model) if isinstance(self.model, Network) else self.model
        self.network = HalfWeights(plain, DTYPES[self.precision]) if half_weights else plain

    def _start(self) -> set[str]:
        """Load pretrained weights; returns their names. A run that is resumed has newer weights, and does not need the
        file."""
        try:
            return self.group.main_first(lambda: start_from_imagenet(self.model, fetch=not self.resumes))
        except CourseError as error:
            if not self.resumes:
                raise
            self.without_start = error
            return carried(self.model)

    def build(self, **options: Any) -> nn.Module:
        """Build the recipe's network for these images, with new weights."""
        channels = self.train_set.images.shape[1]
        return build_model(
            self.recipe.model,
            num_classes=self.outputs,
            in_channels=channels,
            **options,
            **self.recipe.model_options,
        )

    def _recorded(self) -> StepGraph:
        if self.device.type != "cuda":
            raise CourseError(f"graph = True is for CUDA GPUs, and this run is on {self.device}; leave it out.")
        if self.group.size > 1:
            raise CourseError(f"graph = True is for one process, and {self.group.size} train together; leave it out.")
        spec = OPTIMISERS[self.recipe.optimiser]
        if not (spec.can_be_recorded and spec.heeds_found_inf(self.device)):
            raise CourseError(f"graph = True needs an optimiser that can be recorded, which {self.recipe.optimiser!r} "
                              "cannot; leave it out, or use adamw.")  # fmt: skip
        return StepGraph(self._make_step, self.model, self.optimiser)

    def _make_loaders(self, fitting: Tensor, validation: Tensor) -> None:
        on_device = self.train_set.to(self.device)  # once: both loaders share these images
        self.train_loader = BatchLoader(
            on_device,
            self.recipe.batch_size,
            indices=fitting,
            training=True,
            augmentation=self.recipe.augmentation,
            generator=torch.Generator(self.device).manual_seed(self.recipe.seed),
            at_once=self._at_once,
            mix=self.recipe.mix,
            outputs=self.outputs,
            **self._constants,
        )
        changes: dict[str, Any] = {}
        if self.recipe.augmented_validation:
            augmentation = replace(self.recipe.augmentation, alternate=False)
            generator = torch.Generator(self.device)  # seeded anew in every epoch, so that no checkpoint needs it
            changes = {"augmentation": augmentation, "generator": generator, "fitted_to": self.train_loader}
        self.val_loader = BatchLoader(on_device, EVALUATION_BATCH, indices=validation, **changes, **self._constants)

    @property
    def _constants(self) -> dict[str, Any]:
        return {
            "mean": self.mean,
            "std": self.std,
            "size": self.recipe.image_size,
            "cut": self.recipe.random_crop,
            "side": self.train_set.side,
            "device": self.device,
        }

    # --- How far it is -----------------------------------------------------------------------------------------------

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.recipe.epochs * len(self.train_loader)

    @property
    def steps_done(self) -> int:
        return (self.epoch - 1) * len(self.train_loader) + self.steps_of_epoch

    @property
    def steps_of_epoch(self) -> int:
        """Completed steps of the current epoch."""
        return len(self._rates)

    @property
    def over(self) -> bool:
        """Whether all epochs are done, or the recipe ends the run early."""
        next_rate = self.optimiser.param_groups[0]["lr"]
        return self.epoch > self.recipe.epochs or ends_early(self.recipe, self.history, next_rate)

    # --- An epoch, in the order of its parts -------------------------------------------------------------------------

    def begin_epoch(self) -> None:
        """Clear the figures of the previous epoch."""
        self._losses: list[Tensor] = []  # on the device; copied back only at the end of the epoch
        self._finite: list[Tensor] = []
        self._rates: list[float] = []
        self._correct.zero_()
        self.stopwatch = Stopwatch()
        self.train_loader.rewind()

    def start_epoch(self) -> None:
        """Prepare the network for training; ``CourseError`` if all weights are frozen."""
        if not any(weight.requires_grad for weight in self.model.parameters()):
            raise CourseError("All weights of the network are frozen, so none can be trained; thaw a part, for "
                              "example its classifier.")  # fmt: skip
        self.group.copy_from_main(list(self.model.state_dict().values()))  # a user may have changed them
        self.train_loader.size = self.recipe.training_size(self.epoch)
        self.model.train()
        self.stopwatch.start()

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Inside this, PyTorch's global random generators and settings are the run's; they are restored afterwards."""
        one_size = not self.recipe.first_size
        with choice_of_kernels(self.device, self.deterministic, one_size), self.surroundings:
            yield

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The epoch's batches, or what is left of it; ``TrainingStopped`` if memory runs out while one is prepared."""
        try:
            yield from self.train_loader
            return
        except Exception as error:
            no_memory = is_out_of_memory(error, self.device)
            if not no_memory or self.train_loader.at_once is None:
                self.group.told(error)  # the others have their batch, and wait for this process in the step
            if not no_memory:
                raise
            reason = first_line(error)
        if self.train_loader.at_once is not None:
            raise self.group.told(
                TrainingStopped(f"There is not enough memory on {self.device} to augment an epoch's images at once "
                                f"({reason}); leave epoch_at_once out{self.kept()}.")
            )  # fmt: skip
        self._stop_out_of_memory(reason)

    def step(self, images: Tensor, labels: Tensor) -> None:
        """One optimiser step on a batch, the whole batch in each process of a group; ``TrainingStopped`` if it does not
        fit into memory."""
        try:
            self._step(images, labels)
            return
        except TrainingStopped:  # by another process of the group
            raise
        except RuntimeError as error:
            compiling = cannot_compile(error)
            if not compiling and not is_out_of_memory(error, self.device):
                raise
            reason = first_line(error)
            if compiling:
                raise CourseError(f"{self._compiled} = True does not work on this machine ({reason}); install what is "
                                  "missing, or leave it out.") from None  # fmt: skip
        self._stop_out_of_memory(reason)  # outside the handler, whose error keeps the step's memory alive

    def _step(self, images: Tensor, labels: Tensor) -> None:
        loss, finite = self._compute(images, labels)
        self._losses.append(loss)
        self._finite.append(finite)
        self._rates.append(self.optimiser.param_groups[0]["lr"])
        if self.every_step is not None:
            self.every_step.step()

    def _make_step(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The part of a step that runs on the device: returns the loss, and whether its values are finite."""
        part, part_labels = self.group.part(images), self.group.part(labels)
        loss = self.group.together(lambda: self._backward(part, part_labels))
        if self.group.size > 1:
            self._average(loss, share=len(part_labels) / len(labels))
        return loss, self.group.together(lambda: self._update(loss))

    def _backward(self, images: Tensor, labels: Tensor) -> Tensor:
        """The loss of N×C×H×W images; its gradients are left in the weights' ``grad``."""
        with autocast(self.device, self.precision), self.faster:
            logits = self.network(images)
            if not isinstance(logits, Tensor):  # some networks output more in training mode
                raise CourseError(f"{self.recipe.model} returns {type(logits).__name__} in training mode, but must "
                                  "return a logit for each class; let its forward return only those.")  # fmt: skip
            loss = F.cross_entropy(logits.float(), labels, label_smoothing=self.recipe.label_smoothing)
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        most = labels.argmax(1) if labels.dim() == 2 else labels  # of mixed labels, the one with the largest share
        self._correct += (logits.detach().argmax(1) == most).sum()
        return loss.detach()

    def _average(self, loss: Tensor, share: float) -> None:
        """Average loss and gradients over the parts of a batch; this part is the fraction ``share`` of it."""
        gradients = [weight.grad for weight in self.model.parameters() if weight.grad is not None]
        self.group.average([*gradients, *running_statistics(self.model), loss], share)

    def _update(self, loss: Tensor) -> Tensor:
        finite = self._watch(loss)
        if OPTIMISERS[self.recipe.optimiser].heeds_found_inf(self.device) or self._broken == 0:
            self.scaler.step(self.optimiser)
        self.scaler.update()
        return finite

    def _watch(self, loss: Tensor) -> Tensor:
        """Whether this step's values are finite, computed on the device; after the first that are not, skip updates."""
        finite = torch.isfinite(loss)
        if self.precision != "fp16":  # its scaler lets gradients overflow on purpose now and then
            # A fault in the backward pass reaches the first layer, whose gradient is small and quickly checked.
            # Searched in every step: layers may be frozen at any time, and a network may not use all its weights.
            first = next(weight.grad for weight in self.model.parameters() if weight.grad is not None)
            finite = finite & torch.isfinite(first).all()
        torch.maximum(self._broken, (~finite).float(), out=self._broken)
        return finite

    def end_training(self) -> None:
        """Wait for the last step; ``TrainingStopped`` if a step of the epoch had non-finite values."""
        self._stop_if_not_finite()
        self.stopwatch.stop()

    def validate(self, on_batch: Callable[[], object] | None = None) -> Evaluation:
        """Evaluate the network on the validation images; call it inside ``computing``."""
        self._validation_began = time.perf_counter()
        if self.val_loader.generator is not None:
            self.val_loader.generator.manual_seed(1_000_003 * self.epoch + self.recipe.seed)
        return self._evaluate(self.val_loader, self.train_set, on_batch)

    def end_epoch(self, validation: Evaluation) -> EpochResult:
        """Add the epoch's figures to the history, step the schedule, and move on to the next epoch."""
        # Only the validation loss can show a fault of the last step.
        self._stop_if_not_finite(validation.loss)
        if self.scaler.is_enabled() and self.scaler.get_scale() < SMALLEST_SCALE:
            raise TrainingStopped(f"The gradients overflow fp16 in epoch {self.epoch} even when they are scaled by "
                                  f"{SMALLEST_SCALE:g}; train with precision = 'fp32'{self.kept()}.")  # fmt: skip
        if isinstance(self.every_epoch, torch.optim.lr_scheduler.ReduceLROnPlateau):
            self._step_plateau(self.every_epoch, validation.accuracy)
        elif self.every_epoch is not None:
            self.every_epoch.step()
        images, seconds = self.train_loader.images_per_epoch, self.stopwatch.seconds
        result = EpochResult(
            epoch=self.epoch,
            train_loss=torch.stack(self._losses).cpu().mean().item(),
            train_accuracy=self.group.total(self._correct).item() / images,
            val_loss=validation.loss,
            val_accuracy=validation.accuracy,
            lr=self._rates[-1],
            seconds=seconds + time.perf_counter() - self._validation_began,
            images_per_second=images / seconds,
        )
        self.history.append(asdict(result))
        self.wall_seconds += result.seconds
        self.epoch += 1
        self.begin_epoch()
        return result

    def _step_plateau(self, schedule: torch.optim.lr_scheduler.ReduceLROnPlateau, accuracy: float) -> None:
        """Lower the learning rate when it is due and, with ``restore_best``, restore the best weights as it falls."""
        better = operator.ge if self.recipe.equal_is_better else operator.gt
        if self.recipe.restore_best and all(better(accuracy, entry["val_accuracy"]) for entry in self.history):
            self._best = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        before = self.optimiser.param_groups[0]["lr"]
        schedule.step(accuracy)
        if self.recipe.restore_best and self.optimiser.param_groups[0]["lr"] < before:
            self.model.load_state_dict(self._best)

    # --- Evaluation on other images ----------------------------------------------------------------------------------

    def evaluate(
        self, dataset: Dataset, on_batch: Callable[[], object] | None = None, *, augmented: bool = False
    ) -> Evaluation:
        """Evaluate the network on ``dataset``, with the run's own normalisation, image size and precision.

        With ``augmented``, the images are augmented like training images, as in S0's evaluation.
        """
        changes: dict[str, Any] = {}
        if augmented:
            generator = torch.Generator(self.device).manual_seed(self.recipe.seed)
            changes = {"augmentation": self.recipe.augmentation, "generator": generator, "fitted_to": self.train_loader}
        with self.computing():
            loader = BatchLoader(dataset, EVALUATION_BATCH, **changes, **self._constants)
            return self._evaluate(loader, dataset, on_batch)

    def _evaluate(self, loader: BatchLoader, dataset: Dataset, on_batch: Callable[[], object] | None) -> Evaluation:
        """Evaluate, with batches of half the size whenever memory runs out."""
        while True:
            try:
                return evaluate_batches(self.evaluated, loader, dataset.classes, self.precision, on_batch, self.group)
            except RuntimeError as error:
                if loader.batch_size == 1 or not is_out_of_memory(error, self.device):
                    raise
            loader.batch_size //= 2

    # --- To stop and to go on ----------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on, as plain values and tensors; the same in all processes of a
        group, which all have to call this."""
        return {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "every_step": self.every_step.state_dict() if self.every_step else None,
            "every_epoch": self.every_epoch.state_dict() if self.every_epoch else None,
            "scaler": self.scaler.state_dict(),
            "loader": self.train_loader.state(),
            "epoch": self.epoch,
            "losses": torch.stack(self._losses) if self._losses else torch.zeros(0),
            "rates": self._rates,
            "correct": self.group.total(self._correct).clone(),
            "history": self.history,
            "best": self._best,
            "seconds": (self.wall_seconds, self.stopwatch.read()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore ``state``, saved with the same recipe and images."""
        with self.computing():
            self._load_state_dict(state)

    def _load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(with_kernels_of(self.optimiser, state["optimiser"]))
        lay_out_like_weights(self.optimiser)
        if self.every_step is not None:
            self.every_step.load_state_dict(state["every_step"])
        if self.every_epoch is not None:
            self.every_epoch.load_state_dict(state["every_epoch"])
        if state["scaler"]:  # empty if the run was in another precision on another device
            self.scaler.load_state_dict(state["scaler"])
        self.train_loader.resume(state["loader"])
        self.epoch, self.history = state["epoch"], state["history"]
        self._best = {name: tensor.to(self.device) for name, tensor in state.get("best", {}).items()}
        self._losses = list(state["losses"].to(self.device))
        self._finite = [torch.isfinite(loss) for loss in self._losses]
        self._rates = state["rates"]
        # Of several processes, the main one has counted for all, so far.
        self._correct.copy_(state["correct"] * self.group.is_main)
        self.wall_seconds, self.stopwatch.seconds = state["seconds"]

    # --- Faults ------------------------------------------------------------------------------------------------------

    @property
    def sound(self) -> bool:
        """Whether all steps so far and all current weights are finite, so that the state is worth saving."""
        return self._broken.item() == 0 and math.isfinite(self._largest_weight())

    def check_finite(self) -> None:
        """``TrainingStopped`` if a step of this epoch, or a weight after it, is not finite."""
        self._stop_if_not_finite(self._largest_weight(), "largest weight")

    def _largest_weight(self) -> float:
        """The largest absolute weight; not finite if the last step broke the network, which no loss shows yet."""
        return torch.stack([weight.detach().abs().max() for weight in self.model.parameters()]).max().item()

    def _stop_if_not_finite(self, after: float = 0.0, name: str = "loss") -> None:
        """Stop if a step of this epoch had non-finite values, or if the value ``after`` it is not finite."""
        finite = torch.stack(self._finite).cpu().tolist()
        if all(finite):
            step, what = len(finite) - 1, f"{name} became {after}"
            if math.isfinite(after):
                return
        else:
            step = finite.index(False)
            loss = self._losses[step].item()
            what = "gradient overflowed" if math.isfinite(loss) else f"loss became {loss}"
        images = self.group.part(self.train_loader.batch(step)[0])
        self.model.train()

        def forward() -> None:
            with autocast(self.device, self.precision), self.faster:
                self.model(images)

        layer = next(filter(None, self.group.gather(first_layer_to_leave(self.model, forward))), None)
        where = f"{layer} was the first layer with infinite or NaN outputs" if layer else "all activations are finite"
        raise TrainingStopped(
            f"The {what} in epoch {self.epoch} at step {step + 1} of {len(self.train_loader)}, at a learning rate of "
            f"{self._rates[step]:.3g}; {where}; train again with a lower lr{self.kept()}."
        )

    def _stop_out_of_memory(self, reason: str) -> None:
        """Find the batch size that would fit, and stop."""
        self.optimiser.zero_grad(set_to_none=True)
        gc.collect()  # an earlier run's memory would count
        first = self.val_loader.images[:1]

        def attempt(size: int) -> None:
            part = -(-size // self.group.size)
            images = self.val_loader.prepare(first.expand(part, -1, -1, -1))
            with autocast(self.device, self.precision), self.faster:
                self.network(images).float().sum().backward()
            self.optimiser.zero_grad(set_to_none=True)

        found = largest_that_fits(self.recipe.batch_size, attempt, self.device)
        size = min(size or 0 for size in self.group.gather(found))
        hint = f"batch_size = {size} fits" if size else "not even one image fits, so choose a smaller network"
        raise TrainingStopped(f"There is not enough memory for batch_size = {self.recipe.batch_size} on {self.device} "
                              f"({reason}); {hint}{self.kept()}.")  # fmt: skip
