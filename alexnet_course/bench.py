"""Benchmark of the trainer against a typical training loop: speed ratios, measured side by side.

All contenders train the same network on the same images, with the same augmentation and the same optimiser, each in its
own process. They take turns of a few seconds, so that other load on the machine affects all of them. Each turn gives
one ratio; the report has the median of the turns with the smallest and the largest.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torchvision import transforms

from alexnet_course.data import load_dataset
from alexnet_course.errors import CourseError
from alexnet_course.models import build_model, load_networks
from alexnet_course.recipe import Recipe
from alexnet_course.shapes import layer_table
from alexnet_course.training import Run, Trainer, choose_device
from alexnet_course.training.device import DTYPES, resolve_precision
from alexnet_course.training.faults import TrainingStopped
from alexnet_course.training.finished import environment

SCHEMA = "alexnet-course/bench-1"
S0, TUNED, PLAIN, OURS, COMPILED, MATRIX = (
    "S0's loop", "the same, tuned", "ours, PyTorch's functions", "ours", "ours, compiled", "matrix product",
)  # fmt: skip
# Optional speed-ups of a run, each alone and then all together, by their names in the report.
ALL_WAYS = "ours, with all of these"
WAYS: dict[str, dict[str, bool]] = {
    "ours, a step as a graph": {"graph": True},
    "ours, half weights": {"half_weights": True},
    "ours, an epoch at once": {"epoch_at_once": True},
    "ours, compiled pools": {"compiled_pools": True},
}
WAYS[ALL_WAYS] = {name: True for way in WAYS.values() for name in way}
S0_BATCH, S0_WORKERS = 32, 2
BATCH = {"cpu": 1024, "cuda": 2048, "mps": 512}  # of our trainer and of the tuned loop
LARGE_GPU, SMALLER = 24e9, 512  # a GPU with less memory gets this batch, since all contenders are there at once
MATRIX_SIDE = {"cpu": 4096, "cuda": 8192, "mps": 4096}
QUEUE = 8  # steps that may be queued on a GPU: enough to keep it busy, without half a minute of backlog on a slow one

Step = Callable[[], float]  # one step of work, which returns its amount


def bench(
    model: str,
    dataset: str,
    *,
    device: str = "auto",
    batch_size: int | None = None,
    repeats: int = 5,
    seconds: float = 3.0,
    compile: bool = False,
    ways: bool = False,
    networks: Sequence[str] = (),
    progress: Callable[[str], object] = lambda text: None,
    keep: Callable[[dict[str, Any]], object] = lambda result: None,
) -> dict[str, Any]:
    """Benchmark the trainer with the network ``model`` on ``dataset``; returns all measurements, ready for JSON.

    In each of ``repeats`` turns, a contender works for ``seconds``, and for at least one step. ``compile`` also
    measures ``torch.compile``, and ``ways`` each of ``WAYS``, which are always measured on a GPU. ``networks`` are
    files that register networks of your own (``load_networks``), which each contender's process runs. ``rates`` are in
    images per second, and for the matrix product in operations per second: one list per contender, one entry per turn.
    ``keep`` gets the result after every turn, in case the rest does not come; only the last one has a profile.
    """
    if repeats < 1:
        raise CourseError(f"repeats = {repeats} would measure nothing; give at least 1.")
    if batch_size is not None and batch_size < 1:
        raise CourseError(f"batch_size = {batch_size} is too small; give at least 1, or leave it out.")
    if not 0 < seconds < math.inf:
        raise CourseError(f"seconds = {seconds} is not the length of a turn; give a positive number.")
    chosen = choose_device(device)
    train_set = load_dataset(dataset, "train")
    if len(train_set) < S0_BATCH:
        raise CourseError(f"{dataset!r} has {len(train_set)} training images, and a batch of S0's loop has {S0_BATCH}; "
                          "give a data set with at least as many.")  # fmt: skip
    available = len(train_set) * 9 // 10  # the rest is held out
    batch_size = min(batch_size or default_batch(chosen), available)
    recipe = Recipe(
        model=model, dataset=dataset, batch_size=batch_size, optimiser="sgd", lr=1e-3, weight_decay=5e-5,
        schedule="constant", epochs=1,
    )  # fmt: skip
    precision = resolve_precision(recipe.precision, chosen)
    contender_of = partial(Contender, networks=networks)

    tried = {}
    for workers in sorted({0, 1, 2, min(4, os.cpu_count() or 1), min(8, os.cpu_count() or 1)}):
        progress(f"the tuned loop with {workers} loading processes")
        with contender_of(loop_of_s0, recipe, device, batch_size, workers) as contender:
            tried[workers] = contender.rate(seconds)
    workers = max(tried, key=tried.__getitem__)

    planned: dict[str, tuple[Any, ...]] = {
        MATRIX: (matrix_product,),
        S0: (loop_of_s0, S0_BATCH, S0_WORKERS),
        TUNED: (loop_of_s0, batch_size, workers),
        PLAIN: (our_loop, False),
        OURS: (our_loop, True),
    }
    if ways or chosen.type == "cuda":
        planned |= {name: (our_loop, True, options) for name, options in ways_for(chosen, precision).items()}
    if compile:
        planned[COMPILED] = our_loop, True, {"compile": True}
    network = build_model(model, num_classes=len(train_set.classes), in_channels=train_set.images.shape[1])
    side = recipe.image_size
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "environment": {**environment(chosen, precision, {}), "cores": os.cpu_count()},
        "model": model,
        "parameters": sum(weight.numel() for weight in network.parameters()),
        "mult_adds": sum(layer.mult_adds for layer in layer_table(network, (train_set.images.shape[1], side, side))),
        "dataset": {"name": train_set.name, "training_images": available},
        "batch_size": batch_size,
        "workers": workers,
        "workers_tried": {str(count): rate for count, rate in tried.items()},
    }
    contenders: dict[str, Contender] = {}
    rates: dict[str, list[float]] = {name: [] for name in planned}
    try:
        for name, (make, *settings) in planned.items():
            contenders[name] = contender_of(make, recipe, device, *settings)
        for contender in contenders.values():  # a warm-up turn that is not counted
            contender.rate(seconds)
        for turn in range(repeats):
            for name, contender in contenders.items():
                progress(f"turn {turn + 1} of {repeats}: {name}")
                rates[name].append(contender.rate(seconds))
            result |= {
                "rates": rates,
                "first_step_seconds": {name: contender.first_step_seconds for name, contender in contenders.items()},
                "peak_bytes": contenders[OURS].peak_bytes(),
                "profile": {},
            }
            keep(result)
    finally:
        for contender in contenders.values():
            contender.close()
    progress("a profile of our step")
    with contender_of(our_loop, recipe, device, True) as contender:
        return {**result, "profile": contender.profile()}


def default_batch(device: torch.device) -> int:
    if device.type == "cuda" and torch.cuda.get_device_properties(device).total_memory < LARGE_GPU:
        return SMALLER
    return BATCH[device.type]


def ways_for(device: torch.device, precision: str) -> dict[str, dict[str, bool]]:
    """The entries of ``WAYS`` that are available on ``device`` in this precision."""
    without = {"graph"} if device.type != "cuda" else set()
    without |= {"half_weights"} if precision == "fp32" else set()
    kept = {name: {option: True for option in options if option not in without} for name, options in WAYS.items()}
    return {name: options for name, options in kept.items() if options}


# --- The contenders --------------------------------------------------------------------------------------------------


def matrix_product(recipe: Recipe, device: torch.device) -> Step:
    """A large matrix product in the trainer's precision: the most that the machine can do."""
    side = MATRIX_SIDE[device.type]
    dtype = DTYPES[resolve_precision(recipe.precision, device)]
    one, other = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    result = torch.empty_like(one)

    def step() -> float:
        torch.mm(one, other, out=result)
        return 2.0 * side**3

    return step


def loop_of_s0(recipe: Recipe, device: torch.device, batch_size: int, workers: int) -> Step:
    """The loop of S0 and of most tutorials: torchvision's data set, a DataLoader, fp32, ``loss.item()`` at every step.

    The augmentation is ours; S0's AutoAugment would only make it slower.
    """
    loader: torch.utils.data.DataLoader[Any] = torch.utils.data.DataLoader(
        ImagesOneByOne(recipe), batch_size, shuffle=True, drop_last=True, num_workers=workers,
        persistent_workers=workers > 0, pin_memory=device.type == "cuda",
    )  # fmt: skip
    batches = endless(loader)
    dataset = recipe.images("train")
    model = build_model(recipe.model, num_classes=len(dataset.classes), in_channels=dataset.images.shape[1])
    model.to(device).train()
    optimiser = torch.optim.SGD(model.parameters(), recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay)

    def step() -> float:
        images, labels = next(batches)
        images, labels = images.to(device), labels.to(device)
        optimiser.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimiser.step()
        loss.item()
        return len(labels)

    return step


class ImagesOneByOne(torchvision.datasets.CIFAR10):
    """A data set like torchvision's CIFAR-10: one PIL image at a time, through PIL transforms."""

    def __init__(self, recipe: Recipe) -> None:
        dataset = recipe.images("train")
        mean, std = dataset.channel_statistics()
        side = dataset.images.shape[2]
        change = [
            transforms.RandomCrop(side, padding=recipe.crop),
            transforms.RandomHorizontalFlip(),
            *([transforms.Resize(recipe.image_size)] if side != recipe.image_size else []),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
        torchvision.datasets.VisionDataset.__init__(self, root="", transform=transforms.Compose(change))
        self.data = dataset.images.permute(0, 2, 3, 1).contiguous().numpy()
        self.targets = dataset.labels.tolist()


def our_loop(
    recipe: Recipe, device: torch.device, faster: bool, options: Mapping[str, Any] = MappingProxyType({})
) -> Step:
    """The trainer's own step on its own batches, with ``options`` of the trainer; without ``faster``, it uses PyTorch's
    functions."""
    train_set = recipe.images("train")
    precision = resolve_precision(recipe.precision, device)
    trainer = Trainer(recipe, train_set, device, precision, **options)
    if not faster:
        trainer.network, trainer.faster = trainer.model, nullcontext()

    def steps() -> Iterator[float]:
        with trainer.computing():
            trainer.start_epoch()
            for images, labels in endless(trainer.train_loader):
                trainer.step(images, labels)
                if trainer.steps_of_epoch >= len(trainer.train_loader):
                    trainer.begin_epoch()  # as at the start of every epoch
                yield len(labels)

    return steps().__next__


def our_epochs(recipe: Recipe, device: torch.device, images: int) -> Step:
    """Whole epochs of the trainer on the first ``images`` of the training set, validation included."""
    train_set, test_set = (recipe.images(split) for split in ("train", "test"))
    recipe = recipe.replace(epochs=10_000)
    run = Run(recipe, train_set=train_set.subset(range(images)), test_set=test_set, device=str(device))

    def step() -> float:
        next(run)
        return run.trainer.train_loader.images_per_epoch

    return step


def endless(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Processes that are started in here do not receive Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():  # only that one may
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


# --- Measuring -------------------------------------------------------------------------------------------------------


class Contender:
    """A separate process that builds a step with ``make(recipe, device, *settings)`` and runs it on request.

    The process is separate so that no contender benefits from another one's memory or threads.
    """

    def __init__(
        self, make: Callable[..., Step], recipe: Recipe, device: str, *settings: Any, networks: Sequence[str] = ()
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, make, recipe.as_dict(), device, settings, networks))
        with without_interrupts():  # Ctrl-C is for us, who then close the pipe
            self._process.start()
        theirs.close()
        self.first_step_seconds: float = self._answer()

    def rate(self, seconds: float, warm_up: bool = True) -> float:
        """Work per second over at least ``seconds`` and one step, after an uncounted step if ``warm_up``."""
        return float(self._ask(("rate", seconds, warm_up)))

    def peak_bytes(self) -> int | None:
        """Peak memory in use on a GPU."""
        peak: int | None = self._ask(("peak",))
        return peak

    def profile(self) -> dict[str, float]:
        """The fraction of a step's time that each kind of operation takes."""
        shares: dict[str, float] = self._ask(("profile",))
        return shares

    def _ask(self, question: tuple[Any, ...]) -> Any:
        self._pipe.send(question)
        return self._answer()

    def _answer(self) -> Any:
        try:
            answer = self._pipe.recv()
        except EOFError:
            self.close()
            raise RuntimeError("A contender's process has ended; see its error above.") from None
        if isinstance(answer, CourseError | TrainingStopped):
            self.close()
            raise answer
        return answer

    def close(self) -> None:
        self._pipe.close()  # which ends the process
        self._process.join()

    def __enter__(self) -> Contender:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _work(
    pipe: Any,
    make: Callable[..., Step],
    recipe: dict[str, Any],
    device: str,
    settings: Sequence[Any],
    networks: Sequence[str],
) -> None:
    try:
        for file in networks:
            load_networks(file)
        chosen = choose_device(device)
        step = make(Recipe.from_dict(recipe), chosen, *settings)
        start = _now(chosen)
        step()
        pipe.send(_now(chosen) - start)
        while True:
            question, *details = pipe.recv()
            if question == "rate":
                rate = _rate(step, chosen, *details)
                if chosen.type == "cuda":
                    torch.cuda.empty_cache()  # the other contenders need the memory
                pipe.send(rate)
            elif question == "peak":
                pipe.send(torch.cuda.max_memory_allocated(chosen) if chosen.type == "cuda" else None)
            else:
                pipe.send(_profile(step, chosen))
    except (EOFError, BrokenPipeError):  # the pipe was closed
        pass
    except (CourseError, TrainingStopped) as error:
        pipe.send(error)


def _rate(step: Step, device: torch.device, seconds: float, warm_up: bool) -> float:
    if device.type == "cuda":
        step = _not_far_ahead(step, device)
    if warm_up:
        step()
    start = _now(device)
    work = step()
    while time.perf_counter() - start < seconds:
        work += step()
    return work / (_now(device) - start)


def _not_far_ahead(step: Step, device: torch.device) -> Step:
    """``step``, but waiting while the GPU is ``QUEUE`` steps behind."""
    queued: deque[torch.cuda.Event] = deque()

    def bounded() -> float:
        work = step()
        queued.append(torch.cuda.Event())
        queued[-1].record(torch.cuda.current_stream(device))
        if len(queued) > QUEUE:
            queued.popleft().synchronize()
        return work

    return bounded


def _now(device: torch.device) -> float:
    """The time once the device has finished its queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()


# The order matters, since cuDNN's names also tell how a kernel works: a convolution may be a gemm with a fused ReLU.
KINDS = {
    "pooling": ("pool", "upsample"),
    "batch norm": ("batch_norm", "bn_fw", "bn_bw", "batchnorm"),
    "convolutions": ("conv", "fprop", "dgrad", "wgrad", "implicit_gemm", "cudnn"),
    "linear layers": ("addmm", "aten::mm", "gemm", "gemv", "splitk", "cutlass", "nvjet"),
    "ReLU": ("clamp", "threshold", "relu"),
    "optimiser": ("fused_sgd", "fused_adam", "fusedsgd", "fusedadam", "multi_tensor"),
    "augmentation": ("index", "gather", "pad", "random_from_to"),
    "dropout": ("random", "bernoulli", "dropout"),
    "copies and casts": ("copy", "fill", "zero", "memcpy", "memset", "contiguous"),
}


def kind_of(operation: str) -> str:
    """The kind of an operation of PyTorch, or of a kernel of cuDNN or cuBLAS, by its name."""
    name = operation.lower()
    return next((kind for kind, words in KINDS.items() if any(word in name for word in words)), "other")


def _profile(step: Step, device: torch.device, warm_up: int = 8, steps: int = 5) -> dict[str, float]:
    from torch.profiler import ProfilerActivity, profile

    for _ in range(warm_up):
        step()
    on_gpu = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA] if on_gpu else [ProfilerActivity.CPU]) as profiler:
        start = _now(device)
        for _ in range(steps):
            step()
        took = 1e6 * (_now(device) - start)
    shares = dict.fromkeys([*KINDS, "other"], 0.0)
    for event in profiler.key_averages():
        spent = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        shares[kind_of(event.key)] += spent / took
    return {**shares, "gaps": max(0.0, 1 - sum(shares.values()))}


# --- The report ------------------------------------------------------------------------------------------------------


def ratios(result: dict[str, Any], name: str, to: str) -> list[float]:
    """How many times as fast as ``to`` the contender ``name`` was, turn by turn."""
    return [a / b for a, b in zip(result["rates"][name], result["rates"][to], strict=True)]


def matrix_shares(result: dict[str, Any], name: str) -> list[float]:
    """The fraction of the matrix rate that ``name`` reached, turn by turn.

    A training step counts as three forward passes with two operations per multiply-add.
    """
    return [6 * result["mult_adds"] * share for share in ratios(result, name, MATRIX)]


def epochs_to_earn_back(result: dict[str, Any]) -> float | None:
    """After how many epochs ``torch.compile`` has paid for its compilation; None: never, or not measured."""
    if COMPILED not in result["rates"]:
        return None
    plain, compiled = (
        result["dataset"]["training_images"] / statistics.median(result["rates"][name]) for name in (OURS, COMPILED)
    )
    spent = result["first_step_seconds"][COMPILED] - result["first_step_seconds"][OURS]
    return spent / (plain - compiled) if compiled < plain else None


def table(result: dict[str, Any]) -> str:
    """The result as text."""
    about, batch = result["environment"], result["batch_size"]
    settings = {
        S0: f"batch {S0_BATCH}, fp32, {S0_WORKERS} loading processes",
        TUNED: f"batch {batch}, fp32, {result['workers']} loading processes",
    }
    lines = [
        f"{result['model']} ({result['parameters']:,} parameters) on {result['dataset']['name']}, training",
        f"{about['device']}, {about['cores']} cores, {about['threads']} threads, PyTorch {about['torch']}; "
        f"median (smallest to largest) of {len(result['rates'][OURS])} turns",
        "",
        f"{'':28}{'images/s':>9}  {'times ' + S0:<22}{'times the tuned':<22}{'of the matrix rate':<20}",
    ]
    for name, rates in result["rates"].items():
        if name == MATRIX:
            continue
        columns = (
            spread(ratios(result, name, S0), "{:.1f}"),
            spread(ratios(result, name, TUNED), "{:.1f}"),
            spread([100 * share for share in matrix_shares(result, name)], "{:.0f}") + " %",
        )
        lines.append(f"{name:<28}{statistics.median(rates):>9,.0f}  {columns[0]:<22}{columns[1]:<22}{columns[2]:<20}")
        note = settings.get(name, f"batch {batch}, {about['precision']}")
        lines.append(f"  {note}")
    rate = [value / 1e12 for value in result["rates"][MATRIX]]
    lines += ["", f"matrix rate in {about['precision']}: {spread(rate, '{:.2f}')} TFLOP/s"]
    if result["peak_bytes"] is not None:
        lines.append(f"peak memory of ours: {result['peak_bytes'] / 2**30:.2f} GiB")
    if COMPILED in result["rates"]:
        epochs = epochs_to_earn_back(result)
        earned = "is never earned back" if epochs is None else f"is earned back after {epochs:.1f} epochs"
        lines.append(f"torch.compile takes {result['first_step_seconds'][COMPILED]:.0f} s, which {earned}")
    shares = sorted(result["profile"].items(), key=lambda item: -item[1])
    lines.append("a step of ours: " + ", ".join(f"{kind} {share:.0%}" for kind, share in shares if share >= 0.005))
    return "\n".join(lines)


def spread(values: Sequence[float], form: str) -> str:
    """Median (smallest to largest)."""
    return f"{form.format(statistics.median(values))} ({form.format(min(values))} to {form.format(max(values))})"
