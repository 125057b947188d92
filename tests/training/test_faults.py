"""What goes wrong in a run is named, stops it at once, and costs nothing of what was saved."""

import math
import re
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from alexnet_course.optim import OptimiserSpec
from alexnet_course.recipe import Recipe
from alexnet_course.training import Run, TrainingStopped, resume, train
from alexnet_course.training.checkpoint import read_checkpoint
from alexnet_course.training.faults import first_layer_to_leave, is_out_of_memory, largest_that_fits
from alexnet_course.training.trainer import SMALLEST_SCALE
from alexnet_course.watching import fit


def small(**changes: object) -> Recipe:
    """A run of half a second: lenet5 on 100 training and 20 validation images, 3 steps an epoch."""
    values = {
        "model": "lenet5",
        "epochs": 3,
        "batch_size": 32,
        "precision": "fp32",
        "validation_size": 20,
        "schedule": "constant",
        "crop": 0,
    }
    return Recipe(**{**values, **changes})


def poison(model: nn.Module, layer: str, value: float = math.nan) -> None:
    with torch.no_grad():
        model.get_submodule(layer).weight[0].fill_(value)


def copied(model: nn.Module) -> list[Tensor]:
    return [weight.detach().clone() for weight in model.parameters()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def at_step(run: Run, number: int, act: Callable[[], object]) -> None:
    """``act`` after step ``number`` (from 1) of the whole run."""
    run.on_step = lambda: act() if run.steps_done == number else None


class _Overflow(torch.autograd.Function):
    """Nothing on the way there; infinity on the way back, as a product of large numbers would give."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient * math.inf


def overflow_gradients(run: Run, layer: str, step: int) -> None:
    """Gradients overflow behind ``layer`` in step ``step`` (from 1) of the whole run; the loss does not show it."""

    def hook(module: nn.Module, inputs: object, output: Tensor) -> Tensor | None:
        overflows = torch.is_grad_enabled() and run.steps_done + 1 == step
        return _Overflow.apply(output) if overflows else None

    run.model.get_submodule(layer).register_forward_hook(hook)


# --- Numbers that are not finite -------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", ["features.0", "features.3", "classifier.2"])
@pytest.mark.parametrize(
    ("value", "precision"), [(math.nan, "fp32"), (math.nan, "bf16"), (math.nan, "fp16"), (math.inf, "fp32")]
)
def test_the_first_layer_that_left_is_named(few, layer, value, precision):
    run = train(small(batch_size=4, validation_size=4, precision=precision, epochs=2), **few)
    next(run)
    poison(run.model, layer, value)
    with pytest.raises(TrainingStopped) as caught:
        next(run)
    kind = type(run.model.get_submodule(layer)).__name__
    # Tanh brings infinity back to 1, so an infinite weight in the middle may not reach the loss but its gradient does.
    assert re.match(
        r"The (loss became (nan|inf)|gradient overflowed) in epoch 2 at step [12] of 2, ", str(caught.value)
    )
    assert f"{layer} ({kind}) was the first layer with infinite or NaN outputs" in str(caught.value)


def test_the_sentence_names_epoch_step_rate_and_what_to_do(data, tmp_path):
    run = train(small(lr=0.0123), out=tmp_path / "run", **data)
    next(run)
    at_step(run, 4, lambda: poison(run.model, "features.0"))
    with pytest.raises(TrainingStopped) as caught:
        next(run)
    assert str(caught.value) == (
        "The loss became nan in epoch 2 at step 2 of 3, at a learning rate of 0.0123; features.0 (Conv2d) "
        "was the first layer with infinite or NaN outputs; train again with a lower lr; the run up to its last "
        "checkpoint is in "
        f"{tmp_path / 'run'}."
    )
    assert caught.value.signal is None
    assert next(run, None) is None  # over


@pytest.mark.parametrize("optimiser", ["sgd", "adam", "adamw", "muon"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_gradient_that_overflows_is_caught_at_its_step_and_moves_nothing(few, optimiser, precision):
    run = train(small(optimiser=optimiser, precision=precision, batch_size=2, validation_size=4), **few)
    next(run)
    overflow_gradients(run, "features.6", step=6)  # the second of the next epoch
    weights = [copied(run.model)]
    run.on_step = lambda: weights.append(copied(run.model))
    with pytest.raises(TrainingStopped) as caught:
        next(run)
    # From that step on nothing moves, though the gradients of the last two steps are finite again.
    assert [not same(one, other) for one, other in pairwise(weights)] == [True, False, False, False]
    assert all(bool(weight.isfinite().all()) for weight in weights[-1])
    assert str(caught.value).startswith("The gradient overflowed in epoch 2 at step 2 of 4, at a learning rate of ")
    assert "all activations are finite; train again with a lower lr." in str(caught.value)


def test_a_loss_that_is_not_finite_moves_nothing(few):
    run = train(small(batch_size=2, validation_size=4), **few)
    next(run)
    # A loss that is infinite only once, and whose gradient is finite.
    run.model.register_forward_hook(lambda m, i, out: out + (math.inf if run.steps_done == 5 and m.training else 0))
    weights = []
    run.on_step = lambda: weights.append(copied(run.model))
    with pytest.raises(TrainingStopped, match=r"The loss became (nan|inf) in epoch 2 at step 2 of 4"):
        next(run)
    assert all(same(weights[0], later) for later in weights[1:])


@pytest.mark.parametrize("optimiser", ["sgd", "adam", "adamw"])
def test_on_apple_s_gpus_nothing_moves_either(few, optimiser, monkeypatch):
    """There no optimiser is fused, and one that is not fused does not look at ``found_inf``; seen on a processor."""
    heeds = OptimiserSpec.heeds_found_inf
    monkeypatch.setattr(OptimiserSpec, "heeds_found_inf", lambda spec, device: heeds(spec, torch.device("mps")))
    run = train(small(optimiser=optimiser, batch_size=2, validation_size=4), **few)
    assert not run.trainer.optimiser.defaults["fused"]
    overflow_gradients(run, "features.6", step=2)
    weights = [copied(run.model)]
    run.on_step = lambda: weights.append(copied(run.model))
    with pytest.raises(TrainingStopped, match=r"^The gradient overflowed in epoch 1 at step 2 of 4"):
        next(run)
    assert [not same(one, other) for one, other in pairwise(weights)] == [True, False, False, False]


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_network_that_breaks_in_the_last_step_of_all_is_not_recorded(data, tmp_path, epochs):
    """Only the validation images can show it."""
    run = train(small(epochs=epochs), out=tmp_path / "run", **data)
    at_step(run, run.steps, lambda: poison(run.model, "features.3"))
    with pytest.raises(TrainingStopped) as caught:
        list(run)
    assert f"The loss became nan in epoch {epochs} at step 3 of 3" in str(caught.value)
    assert "features.3 (Conv2d)" in str(caught.value)
    assert str(caught.value).endswith("with a lower lr." if epochs == 1 else f"is in {tmp_path / 'run'}.")
    assert not (tmp_path / "run" / "record.json").exists()
    assert not (tmp_path / "run" / "weights.safetensors").exists()
    newest = [] if epochs == 1 else ["checkpoint-000000003.pt", "checkpoint-000000006.pt"]
    assert sorted(path.name for path in (tmp_path / "run").glob("*.pt")) == newest


def test_the_last_good_checkpoint_is_kept_and_the_run_can_go_on_from_it(data, tmp_path):
    run = train(small(), out=tmp_path / "run", checkpoint_steps=1, **data)
    next(run)
    overflow_gradients(run, "features.6", step=5)
    with pytest.raises(TrainingStopped, match="The gradient overflowed in epoch 2 at step 2 of 3"):
        next(run)
    kept = sorted((tmp_path / "run").glob("*.pt"))
    assert [path.name for path in kept] == ["checkpoint-000000003.pt", "checkpoint-000000004.pt"]
    for path in kept:
        state = read_checkpoint(path)
        values = [*state["model"].values(), *(s["momentum_buffer"] for s in state["optimiser"]["state"].values())]
        assert all(bool(value.isfinite().all()) for value in values)
    run = resume(tmp_path / "run", **data)
    assert run.steps_done == 4
    list(run)
    undisturbed = fit(small(), progress=False, **data)
    assert same(copied(run.model), copied(undisturbed.model))


@pytest.mark.parametrize("every", [2, 3])
def test_no_checkpoint_is_written_once_the_numbers_are_broken(data, tmp_path, every):
    """Broken in the first step of the second epoch; the next checkpoint would come later in it, or at its end."""
    run = train(small(epochs=2), out=tmp_path / "run", checkpoint_steps=every, **data)
    next(run)

    def written() -> dict[str, bytes]:
        """All but the lock, in which a run that has ended no longer has its name."""
        return {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.name != ".lock"}

    before = written()
    overflow_gradients(run, "features.6", step=4)
    with pytest.raises(TrainingStopped, match="in epoch 2 at step 1 of 3"):
        next(run)
    assert written() == before


def test_weights_that_an_update_broke_are_not_written_either(data, tmp_path):
    """Loss and gradients of the step were finite; its update was not, which no loss has seen yet."""
    run = train(small(epochs=2), out=tmp_path / "run", checkpoint_steps=1, **data)
    next(run)
    at_step(run, 5, lambda: poison(run.model, "features.3"))
    said = r"^The largest weight became nan in epoch 2 at step 2 of 3.*features\.3 \(Conv2d\) was the first layer"
    with pytest.raises(TrainingStopped, match=said):
        next(run)
    kept = sorted((tmp_path / "run").glob("*.pt"))
    assert [path.name for path in kept] == ["checkpoint-000000003.pt", "checkpoint-000000004.pt"]


def test_a_rate_that_is_far_too_high_stops_the_run(data):
    recipe = small(model="cnn4", lr=100, epochs=20, momentum=0.99)
    with pytest.raises(TrainingStopped, match=r"The loss became (nan|inf) in epoch \d+ at step \d+ of \d+, at a learn"):
        fit(recipe, progress=False, **data)


def test_first_layer_to_leave_goes_by_the_computation_and_not_by_the_order_of_definition():
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.first = nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.ReLU())

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.first(x))

    network = Backwards()

    def layer(x: Tensor) -> str | None:
        return first_layer_to_leave(network, lambda: network(x))

    assert layer(torch.ones(1, 2)) is None
    poison(network, "last")
    assert layer(torch.ones(1, 2)) == "last (Linear)"
    poison(network, "first.0")
    assert layer(torch.ones(1, 2)) == "first.0 (Linear)"
    assert not any(module._forward_hooks for module in network.modules())


def test_first_layer_to_leave_takes_its_hooks_away_after_an_error():
    network = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        first_layer_to_leave(network, lambda: network(torch.ones(1, 3)))
    assert not network[0]._forward_hooks


# --- fp16: gradients that the scaler made too large ------------------------------------------------------------------


def scales_and_weights(run: Run) -> tuple[list[float], list[list[Tensor]]]:
    scales, weights = [run.trainer.scaler.get_scale()], [copied(run.model)]

    def note() -> None:
        scales.append(run.trainer.scaler.get_scale())
        weights.append(copied(run.model))

    run.on_step = note
    return scales, weights


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_in_fp16_a_step_whose_gradients_overflow_is_skipped_and_training_goes_on(few, optimiser):
    recipe = small(precision="fp16", optimiser=optimiser, batch_size=2, validation_size=4, epochs=2, lr=1e-3)
    run = train(recipe, **few)
    overflow_gradients(run, "features.6", step=3)
    scales, weights = scales_and_weights(run)
    list(run)
    start = scales[0]
    assert start > 1
    assert scales[1:] == [start] * 2 + [start / 2] * 6
    moved = [not same(one, other) for one, other in pairwise(weights)]
    assert moved == [True, True, False, True, True, True, True, True]
    assert run.record.environment.precision == "fp16"
    assert all(bool(weight.isfinite().all()) for weight in weights[-1])


@pytest.mark.parametrize("optimiser", ["sgd", "adam", "adamw", "muon"])
def test_in_fp16_a_first_step_that_is_skipped_leaves_nothing_behind(few, optimiser, monkeypatch):
    """PyTorch's fused SGD makes the memory of its momentum in the first step, and does not fill it if that is skipped.

    Here memory that nobody filled is full of NaN, where in truth it is whatever was there before.
    """
    empty_like = torch.empty_like

    def unfilled(like: Tensor, **options: object) -> Tensor:
        made = empty_like(like, **options)
        return made.fill_(math.nan) if made.is_floating_point() else made

    monkeypatch.setattr(torch, "empty_like", unfilled)
    recipe = small(precision="fp16", optimiser=optimiser, batch_size=4, validation_size=4, epochs=2, lr=1e-3)
    run = train(recipe, **few)
    overflow_gradients(run, "features.6", step=1)
    _, weights = scales_and_weights(run)
    list(run)
    assert [not same(one, other) for one, other in pairwise(weights)] == [False, True, True, True]
    assert all(bool(weight.isfinite().all()) for weight in weights[-1])


def test_in_fp16_a_scale_that_is_too_high_falls_until_it_fits(few):
    """The gradients really overflow: those of a scale of 2²⁶ are no numbers that fp16 has."""
    run = train(small(precision="fp16", batch_size=2, validation_size=4, epochs=4, lr=1e-3), **few)
    run.trainer.scaler.load_state_dict({**run.trainer.scaler.state_dict(), "scale": 2.0**26})
    scales, weights = scales_and_weights(run)
    list(run)
    moved = [not same(one, other) for one, other in pairwise(weights)]
    skipped = moved.index(True)
    assert 2 < skipped < 14
    assert scales[: skipped + 1] == [2.0 ** (26 - step) for step in range(skipped + 1)]
    assert moved == [one == other for one, other in pairwise(scales)]  # skipped where, and only where, it fell
    assert sum(moved[skipped:]) > 1


def test_in_fp16_the_scale_grows_while_nothing_overflows_and_the_checkpoint_keeps_it(few, tmp_path):
    recipe = small(precision="fp16", batch_size=2, validation_size=4, epochs=2, lr=1e-3)
    run = train(recipe, out=tmp_path / "run", **few)
    run.trainer.scaler.load_state_dict({**run.trainer.scaler.state_dict(), "scale": 64.0, "growth_interval": 3})
    scales, _ = scales_and_weights(run)
    next(run)
    assert scales == [64.0, 64.0, 64.0, 128.0, 128.0]
    run.close()
    again = resume(tmp_path / "run", **few)
    assert again.trainer.scaler.state_dict() == run.trainer.scaler.state_dict()
    scales, _ = scales_and_weights(again)
    next(again)
    assert scales == [128.0, 128.0, 256.0, 256.0, 256.0]  # the steps before the interruption count


def test_in_fp16_a_loss_that_is_not_finite_stops_the_run(few):
    run = train(small(precision="fp16", batch_size=2, validation_size=4), **few)
    at_step(run, 2, lambda: poison(run.model, "features.3"))
    with pytest.raises(TrainingStopped, match=r"The loss became nan in epoch 1 at step 3 of 4.*features\.3 \(Conv2d\)"):
        next(run)


def test_in_fp16_gradients_that_overflow_at_every_scale_stop_the_run(few):
    run = train(small(precision="fp16", batch_size=2, validation_size=4), **few)
    run.trainer.scaler.load_state_dict({**run.trainer.scaler.state_dict(), "scale": 2 * SMALLEST_SCALE})
    next(run)
    for _ in range(2):
        run.trainer.scaler.update(run.trainer.scaler.get_scale() / 2)
    with pytest.raises(
        TrainingStopped, match=r"^The gradients overflow fp16 in epoch 2 even when .* precision = 'fp32'"
    ):
        next(run)


# --- Out of memory ---------------------------------------------------------------------------------------------------

OF_A_GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee the documentation.")
OF_A_PROCESSOR = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "40000000000 bytes. Error code 12 (Cannot allocate memory)\nframe #0: somewhere"
)


def room_for(run: Run, images: int, error: Exception, first_step: int = 1) -> None:
    """From step ``first_step`` on, a training step with more ``images`` than that has too little memory."""

    def hook(module: nn.Module, inputs: tuple[Tensor]) -> None:
        if torch.is_grad_enabled() and run.steps_done + 1 >= first_step and len(inputs[0]) > images:
            raise error

    run.model.register_forward_pre_hook(hook)


@pytest.mark.parametrize("error", [OF_A_GPU, OF_A_PROCESSOR], ids=["GPU", "processor"])
@pytest.mark.parametrize(("room", "fits"), [(31, 16), (16, 16), (15, 8), (1, 1)])
def test_too_little_memory_names_the_batch_size_and_one_that_fits(data, error, room, fits):
    run = train(small(), **data)
    room_for(run, room, error)
    with pytest.raises(TrainingStopped) as caught:
        next(run)
    reason = str(error).splitlines()[0]
    assert str(caught.value) == (
        f"There is not enough memory for batch_size = 32 on cpu ({reason}); batch_size = {fits} fits."
    )
    assert all(weight.grad is None for weight in run.model.parameters())


def test_the_size_that_is_said_to_fit_fits(data):
    run = train(small(batch_size=50), **data)
    room_for(run, 20, OF_A_GPU)
    with pytest.raises(TrainingStopped) as caught:
        next(run)
    run = train(small(batch_size=int(re.search(r"batch_size = (\d+) fits", str(caught.value))[1])), **data)
    room_for(run, 20, OF_A_GPU)
    assert next(run).epoch == 1


def room_to_prepare(run: Run, images: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is too little memory to prepare more than ``images`` at once."""
    for loader in (run.trainer.train_loader, run.trainer.val_loader):

        def prepare(pixels: Tensor, *seed: object, prepared: Callable = loader.prepare) -> Tensor:
            if len(pixels) > images:
                raise OF_A_GPU
            return prepared(pixels, *seed)

        monkeypatch.setattr(loader, "prepare", prepare)


def test_too_little_memory_to_prepare_a_batch(data, monkeypatch):
    run = train(small(), **data)
    room_to_prepare(run, 31, monkeypatch)
    with pytest.raises(TrainingStopped) as caught:
        next(run)
    assert str(caught.value) == (
        "There is not enough memory for batch_size = 32 on cpu (CUDA out of memory. Tried to allocate 2.00 GiB.); "
        "batch_size = 16 fits."
    )


def test_too_little_memory_for_an_epoch_at_once(data, monkeypatch, tmp_path):
    run = train(small(), epoch_at_once=True, out=tmp_path / "run", **data)
    room_to_prepare(run, 32, monkeypatch)
    with pytest.raises(TrainingStopped) as caught:
        next(run)
    assert str(caught.value).startswith(
        "There is not enough memory on cpu to augment an epoch's images at once (CUDA out of memory. Tried to "
        "allocate 2.00 GiB.); leave epoch_at_once out"
    )
    without = train(small(), **data)
    room_to_prepare(without, 32, monkeypatch)
    assert next(without).epoch == 1


def test_too_little_memory_for_a_single_image(data):
    run = train(small(), **data)
    room_for(run, 0, OF_A_GPU)
    with pytest.raises(TrainingStopped, match=r"; not even one image fits, so choose a smaller network\.$"):
        next(run)


def test_too_little_memory_costs_nothing_that_was_saved(data, tmp_path):
    run = train(small(), out=tmp_path / "run", **data)
    room_for(run, 16, OF_A_GPU, first_step=5)
    next(run)
    with pytest.raises(TrainingStopped) as caught:
        next(run)
    assert str(caught.value).endswith(f"fits; the run up to its last checkpoint is in {tmp_path / 'run'}.")
    again = resume(tmp_path / "run", **data)
    assert again.steps_done == 3
    list(again)
    assert same(copied(again.model), copied(fit(small(), progress=False, **data).model))


def test_too_little_memory_for_a_validation_batch_halves_it(data):
    whole, run = train(small(epochs=1), **data), train(small(epochs=1), **data)
    sizes = []

    def hook(module: nn.Module, inputs: tuple[Tensor]) -> None:
        if not torch.is_grad_enabled():
            sizes.append(len(inputs[0]))
            if len(inputs[0]) > 6:
                raise OF_A_GPU

    run.model.register_forward_pre_hook(hook)
    list(run)
    assert sizes[:6] == [20, 10, 5, 5, 5, 5]  # 20 validation images
    list(whole)
    assert run.record.confusion_matrix == whole.record.confusion_matrix


def test_any_other_error_passes_as_it_is(data):
    run = train(small(), **data)
    error = RuntimeError("The size of tensor a (3) must match the size of tensor b (4)")
    room_for(run, 16, error)
    with pytest.raises(RuntimeError) as caught:
        next(run)
    assert caught.value is error


def test_any_other_error_while_looking_for_a_size_passes_as_it_is():
    def attempt(size: int) -> None:
        raise OF_A_GPU if size > 4 else RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        largest_that_fits(64, attempt)


@pytest.mark.parametrize(
    ("batch_size", "room", "found", "tried"),
    [
        (64, 1000, 32, [32]),  # that of the run did not fit, so it is not tried again
        (64, 9, 8, [32, 16, 8]),
        (100, 13, 12, [50, 25, 12]),
        (3, 1, 1, [1]),
        (64, 0, None, [32, 16, 8, 4, 2, 1]),
        (1, 1, None, []),
    ],
)
def test_largest_that_fits_goes_by_halves(batch_size, room, found, tried):
    sizes = []

    def attempt(size: int) -> None:
        sizes.append(size)
        if size > room:
            raise OF_A_PROCESSOR

    assert largest_that_fits(batch_size, attempt) == found
    assert sizes == tried


def test_before_each_size_a_gpu_gives_back_what_it_keeps(monkeypatch):
    given_back: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: given_back.append(1))

    def attempt(size: int) -> None:
        assert len(given_back) == {32: 1, 16: 2}[size]
        if size > 16:
            raise OF_A_PROCESSOR

    assert largest_that_fits(64, attempt) == 16


def test_what_is_out_of_memory():
    assert is_out_of_memory(OF_A_GPU)
    assert is_out_of_memory(OF_A_PROCESSOR)
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)  # this version's own words
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    "said",
    [
        "DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.",
        "MPS backend out of memory (MPS allocated: 9.05 GB).",
        "Invalid buffer size: 24.00 GiB",  # Apple's, too
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call",
        "CUDA driver error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    ],
)
def test_words_that_say_out_of_memory_and_nothing_else(said):
    assert is_out_of_memory(RuntimeError(said))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("shapes cannot be multiplied"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("CUDA error: no kernel image is available for execution on the device"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`"),
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's "
                     "workers are out of shared memory."),
        ValueError("can't allocate memory"),
        MemoryError("out of memory"),  # of the processor, from Python itself
    ],
)  # fmt: skip
def test_other_faults_are_not_taken_for_it(error, gpu_with):
    gpu_with(free=0)
    assert not is_out_of_memory(error)


@pytest.fixture
def gpu_with(monkeypatch):
    """``gpu_with(free, reserved, allocated)``, in GB of 16: what is in use on the GPU of this machine."""

    def arrange(free: float, reserved: float = 0, allocated: float = 0) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        figures = {"mem_get_info": (round(free * 1e9), 16_000_000_000), "memory_reserved": round(reserved * 1e9),
                   "memory_allocated": round(allocated * 1e9)}  # fmt: skip
        empty = {"mem_get_info": (16_000_000_000, 16_000_000_000), "memory_reserved": 0, "memory_allocated": 0}
        for name in figures:  # of the GPU in use, or of cuda:1
            monkeypatch.setattr(
                torch.cuda, name, lambda device=None, name=name: (empty if device == FIRST else figures)[name]
            )

    return arrange


AMBIGUOUS = [
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR\nYou can try to repro this exception using"),
    RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if you passed in a non-"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
    RuntimeError("FIND was unable to find an engine to execute this computation after trying 4 plans"),
]


FIRST = torch.device("cuda", 0)


def test_the_gpu_that_is_asked_is_the_one_that_computes(gpu_with):
    gpu_with(free=0.4, reserved=15, allocated=14.5)
    assert is_out_of_memory(AMBIGUOUS[0], torch.device("cuda", 1))
    assert not is_out_of_memory(AMBIGUOUS[0], FIRST)
    assert not is_out_of_memory(AMBIGUOUS[0], torch.device("cpu"))


@pytest.mark.parametrize("error", AMBIGUOUS)
def test_what_may_be_another_fault_is_out_of_memory_where_the_gpu_is_nearly_full(error, gpu_with):
    gpu_with(free=0.4, reserved=15, allocated=14.5)
    assert is_out_of_memory(error)
    gpu_with(free=0.4, reserved=15, allocated=9)  # PyTorch itself holds memory that nothing is in
    assert not is_out_of_memory(error)
    gpu_with(free=12, reserved=3, allocated=3)
    assert not is_out_of_memory(error)


@pytest.mark.parametrize("error", AMBIGUOUS)
def test_without_a_gpu_or_with_a_broken_one_it_is_another_fault(error, gpu_with, monkeypatch):
    assert torch.cuda.is_available() or not is_out_of_memory(error)
    gpu_with(free=0)

    def broken(device: object) -> tuple[int, int]:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "mem_get_info", broken)
    assert not is_out_of_memory(error)
