"""What the end of a run would refuse is refused before its first step; what its middle would, at the first of it."""

import itertools
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from short_runs import recipe
from torch import Tensor, nn
from torch.nn import functional as F

from alexnet_course.data import Dataset
from alexnet_course.errors import CourseError
from alexnet_course.models import MODELS, register_model
from alexnet_course.recipes import load_recipe
from alexnet_course.training import Evaluation, Hook, Trainer, TrainingStopped, kernels, resume, train
from alexnet_course.training import checkpoint as checkpoint_module
from alexnet_course.training import run as run_module
from alexnet_course.training import trainer as trainer_module


@pytest.fixture(autouse=True)
def only_the_course_s_networks_afterwards() -> Iterator[None]:
    before = dict(MODELS)
    yield
    MODELS.clear()
    MODELS.update(before)


class Plain(nn.Module):
    """A network of one layer."""

    def __init__(self, num_classes: int = 2, in_channels: int = 3) -> None:
        super().__init__()
        self.out = nn.Linear(in_channels, num_classes)

    def forward(self, x: Tensor) -> Any:
        return self.out(x.mean((2, 3)))


# --- Networks --------------------------------------------------------------------------------------------------------


class Counting(Plain):
    def get_extra_state(self) -> int:
        return 3

    def set_extra_state(self, state: int) -> None:
        pass


class WithTuple(Plain):
    def get_extra_state(self) -> tuple[int, str]:
        return 3, "words"

    def set_extra_state(self, state: object) -> None:
        pass


class Lazy(Plain):
    def __init__(self, num_classes: int = 2, in_channels: int = 3) -> None:
        super().__init__(num_classes, in_channels)
        self.out = nn.LazyLinear(num_classes)


class LazyNorm(Plain):
    """A lazy buffer, beside weights that are none."""

    def __init__(self, num_classes: int = 2, in_channels: int = 3) -> None:
        super().__init__(num_classes, in_channels)
        self.norm = nn.LazyBatchNorm1d(affine=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(super().forward(x))


class WithPair(Plain):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(x), x


REGISTERED = {
    Counting: "'own' keeps _extra_state (int) with its weights, which must be tensors; make it a buffer",
    WithTuple: "'own' keeps _extra_state (tuple) with its weights, which must be tensors; make it a buffer",
    Lazy: "'own' has a lazy layer in out.weight, whose weights have no shape before the first batch; give the layer",
    LazyNorm: "'own' has a lazy layer in norm.running_mean, whose weights have no shape before the first batch",
    WithPair: "'own' gives tuple for 2×3×32×32, but must give (2, 10), a logit for each class; fix its last layer.",
}


@pytest.mark.parametrize(("build", "sentence"), REGISTERED.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_network_that_could_not_be_kept_is_not_registered(build, sentence):
    with pytest.raises(CourseError) as refused:
        register_model("own", build)
    assert str(refused.value).startswith(sentence)
    assert "own" not in MODELS


widths = itertools.count(1)


class AnotherEachTime(Plain):
    def __init__(self, num_classes: int = 2, in_channels: int = 3) -> None:
        super().__init__(num_classes, in_channels)
        self.spare = nn.Linear(next(widths), 1)


class Sparse(Plain):
    def __init__(self, num_classes: int = 2, in_channels: int = 3) -> None:
        super().__init__(num_classes, in_channels)
        self.register_buffer("graph", torch.eye(3).to_sparse())


class KeysOfItsOwn(Plain):
    """Saves under names that it does not know when it is loaded."""

    def state_dict(self, *args: Any, **options: Any) -> Any:
        return {f"mine.{key}": tensor for key, tensor in super().state_dict(*args, **options).items()}


class LazyByOption(Plain):
    def __init__(self, num_classes: int = 2, in_channels: int = 3, lazy: int = 0) -> None:
        super().__init__(num_classes, in_channels)
        self.out = nn.LazyLinear(num_classes) if lazy else self.out


BUILT = {
    AnotherEachTime: r"The weights of own could not be saved and loaded again at .*size mismatch for spare.weight",
    Sparse: r"The weights of own could not be saved and loaded again at the end of this run \(.* sparse",
    KeysOfItsOwn: r"The weights of own could not be saved and loaded again .*Missing key.* in state_dict: .out.weight",
    LazyByOption: r"^own has a lazy layer in out.weight",
}


@pytest.mark.parametrize(("build", "sentence"), BUILT.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_network_that_could_not_be_saved_at_the_end_makes_no_step(data, tmp_path, monkeypatch, build, sentence):
    register_model("own", build)
    monkeypatch.setattr(Trainer, "step", lambda *_: pytest.fail("a step"))
    options = {"lazy": 1} if build is LazyByOption else {}
    with pytest.raises(CourseError, match=sentence) as refused:
        train(recipe(model="own", model_options=options), out=tmp_path / "run", **data)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()


class MoreWhileItTrains(Plain):
    def forward(self, x: Tensor) -> Any:
        logits = super().forward(x)
        return (logits, x) if self.training else logits


def test_a_network_that_gives_a_tuple_while_it_trains_says_so_at_the_first_step(data):
    register_model("own", MoreWhileItTrains)
    with pytest.raises(
        CourseError, match=r"^own returns tuple in training mode, but must return a logit for each class"
    ):
        next(train(recipe(model="own"), **data))


@pytest.mark.parametrize("option", ["compile", "compiled_pools"])
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("BackendCompilerFailed", "InvalidCxxCompiler: No working C++ compiler found"),
        ("TritonMissing", "Cannot find a working triton installation.\n\nSet TORCH_LOGS"),
        ("GPUTooOldForTriton", "Found Tesla P100 which is too old to be supported by the triton GPU compiler"),
    ],
)
def test_compiling_without_a_compiler_is_one_sentence(few, monkeypatch, option, kind, reason):
    """PyTorch raises a kind of the first, for each of its backends, or one of the others."""

    def compile(function: object, **options: object) -> Callable[..., Tensor]:
        def fail(*images: Tensor, **options: object) -> Tensor:
            raise type("InductorError", (type(kind, (RuntimeError,), {}),), {})(reason)

        return fail

    monkeypatch.setattr(torch, "compile", compile)
    monkeypatch.setattr(kernels, "compiled_pool", lambda: compile(F.max_pool2d))
    with pytest.raises(CourseError) as refused:
        next(train(recipe(batch_size=4, validation_size=4), **{option: True}, **few))
    first = reason.splitlines()[0]
    assert str(refused.value).startswith(f"{option} = True does not work on this machine ({first}); install what is")


@pytest.mark.slow
def test_the_error_of_compiling_without_a_compiler_is_the_one_that_is_known(few, monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", "/nowhere")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(CourseError, match=r"^compile = True does not work on this machine \(.*C\+\+ compiler"):
        next(train(recipe(batch_size=4, validation_size=4), compile=True, **few))


def test_what_is_tried_before_the_first_step_changes_no_random_number(tiny, monkeypatch):
    runs = [train(recipe(epochs=1), **tiny)]
    monkeypatch.setattr("alexnet_course.training.run.check_end", lambda *_: None)
    torch.manual_seed(3)
    runs.append(train(recipe(epochs=1), **tiny))
    unseen = torch.get_rng_state()
    list(map(list, runs))
    assert torch.equal(torch.get_rng_state(), unseen)
    assert runs[0].record.test_loss == runs[1].record.test_loss


# --- Images and recipes ----------------------------------------------------------------------------------------------


def with_classes(*names: Any) -> Callable[[dict[str, Any]], object]:
    return lambda data: Dataset(data["train_set"].images, data["train_set"].labels, names, "mine")


def gray_tests(data: dict[str, Any]) -> object:
    test = data["test_set"]
    gray = Dataset(test.images[:, :1], test.labels, test.classes, test.name)
    return train(recipe(), **{**data, "test_set": gray})


def a_name_of_no_text(data: dict[str, Any]) -> object:
    named = {part: data[part].renamed("caf\udce9") for part in ("train_set", "test_set")}
    return train(recipe(), **{**data, **named})


DATA = {
    "integer-classes": (
        with_classes(0, 1),
        "The classes (0, 1) of the data set 'mine' cannot be used: 0 is not a name",
    ),
    "empty-class": (with_classes("", "blue"), "The classes ('', 'blue') of the data set 'mine' cannot be used: '' is"),
    "class-of-no-text": (with_classes("caf\udce9", "b"), "The classes ('caf\\udce9', 'b') of the data set 'mine' can"),
    "empty-name": (lambda data: data["train_set"].renamed(""), "The name of the data set '' cannot be used"),
    "name-of-no-text": (a_name_of_no_text, "The name of the data set 'caf\\udce9' cannot be used"),
    "no-test-images": (
        lambda data: train(recipe(), **{**data, "test_set": data["test_set"].subset([])}),
        "'two-colours' has no test images",
    ),
    "gray-test-images": (gray_tests, "The training images have 3 channels and the test images 1; give two splits"),
    "blank-recipe-name": (lambda data: recipe(name=" "), "name = ' ' is empty; write something"),
    "recipe-name-with-a-zero": (lambda data: recipe(name="a\0b"), "name = 'a\\x00b' has an unprintable character"),
}


@pytest.mark.parametrize(("make", "sentence"), DATA.values(), ids=DATA)
def test_images_and_names_that_no_record_takes_are_refused_at_the_door(data, make, sentence):
    with pytest.raises(CourseError) as refused:
        make(data)
    assert str(refused.value).startswith(sentence)


REFUSED = {
    "fingerprint": (Dataset, "fingerprint", "?", "dataset/fingerprint = '?' does not match ^[0-9a-f]{16,}$."),
    "mean": (
        trainer_module,
        "normalisation",
        lambda *_: ((2.0,) * 3, (1.0,) * 3),
        "dataset/mean/0 = 2.0 is out of range",
    ),
    "threads": (torch, "get_num_threads", lambda: 0, "environment/threads = 0 is out of range; it must be at least 1"),
    "device": (run_module, "environment", lambda *_: {"device": 3}, "environment/device = 3 has the wrong type"),
}


@pytest.mark.parametrize(("where", "name", "value", "sentence"), REFUSED.values(), ids=REFUSED)
def test_a_record_that_would_be_refused_at_the_end_is_refused_before_the_first_step(
    tiny, tmp_path, monkeypatch, where, name, value, sentence
):
    """Whatever it is: the model of the record itself looks at it."""
    monkeypatch.setattr(where, name, value)
    with pytest.raises(CourseError) as refused:
        train(recipe(), out=tmp_path / "run", **tiny)
    assert str(refused.value).startswith(f"This run could not be recorded when it finishes: {sentence}")
    assert not (tmp_path / "run").exists()


def test_a_test_loss_that_no_record_takes_leaves_the_run_to_go_on_with(tiny, tmp_path):
    """The network is sound on all images that were held out."""
    run = train(recipe(epochs=1), out=tmp_path / "run", **tiny)
    at_the_end = run.trainer.evaluate

    def evaluate(*images: Any, **options: Any) -> Any:
        return Evaluation(**{**vars(at_the_end(*images, **options)), "loss": float("inf")})

    run.trainer.evaluate = evaluate
    with pytest.raises(TrainingStopped, match=r"^The loss on the test images became inf; .* last checkpoint is in "):
        list(run)
    assert list(resume(tmp_path / "run", **tiny)) == []


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        (
            "vgg-style-bn.small",
            {"epochs": 1},
            "the package's vgg-style-bn.small, from which it differs in epochs, so the",
        ),
        (
            "alexnet-d2l.modern",
            {"model": "cnn4"},
            "the package's alexnet-d2l.modern, from which it differs in model, so",
        ),
        (
            "ablation.vgg.base",
            {"train_size": 50, "validation_size": 20},
            "the package's ablation.vgg.base, from which it differs in validation_size, train_size, so the results",
        ),
        ("vgg-style-bn.small", {"name": "mine", "epochs": 1}, ""),
        ("vgg-style-bn.small", {"seed": 3}, ""),
    ],
)
@pytest.mark.parametrize("with_folder", [True, False])
def test_a_recipe_that_was_changed_in_a_program_is_told_apart_before_the_first_step(
    tiny, tmp_path, name, settings, said, with_folder
):
    """Where it is to leave a record."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        run = train(load_recipe(name).replace(**settings), **({"out": tmp_path / "run"} if with_folder else {}), **tiny)
    run.close()
    if with_folder and said:
        (warning,) = told
        assert said in str(warning.message)
        assert Path(warning.filename) == Path(__file__)
    else:
        assert told == []


@pytest.mark.parametrize("name", ["weights.safetensors", "predictions.npy"])
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_stands_where_the_results_are_to_go_is_named_before_the_run_goes_on(tiny, tmp_path, name, make):
    run = train(recipe(), out=tmp_path / "run", **tiny)
    next(run)
    run.close()
    make(run.out / name)
    with pytest.raises(
        CourseError, match=rf"{name}' cannot be written to \(not a file\); give the path of a file in a"
    ):
        resume(run.out, **tiny)
    assert [path.name for path in run.out.glob("checkpoint-*")] == ["checkpoint-000000006.pt"]


# --- The first checkpoint --------------------------------------------------------------------------------------------


class Keeping(Hook):
    """Keeps ``value`` in each checkpoint."""

    def __init__(self, value: object) -> None:
        self.value = value

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}


@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize("value", [os.PathLike, nn.ReLU(), slice(1, 2)], ids=["class", "layer", "slice"])
def test_a_first_checkpoint_that_could_not_be_read_stops_the_run(tiny, tmp_path, value, steps):
    run = train(recipe(), out=tmp_path / "run", checkpoint_steps=steps, hooks=[Keeping(value)], **tiny)
    with pytest.raises(
        CourseError, match=r"^The first checkpoint of the run holds more than numbers, texts and tensors"
    ):
        list(run)
    assert run.steps_done == (steps or 6)
    assert [path.name for path in run.out.iterdir() if path.name != ".lock"] == ["run.json"]


@pytest.mark.parametrize("device", ["cpu", "in the background"])
def test_a_disk_that_gives_something_else_back_stops_the_run(tiny, tmp_path, monkeypatch, device):
    if device != "cpu":
        monkeypatch.setattr("alexnet_course.training.saving.Checkpoints.background", frozenset({"cpu"}))
    write = checkpoint_module.write_checkpoint

    def forget(path: Any, state: dict[str, Any]) -> None:
        write(path, state)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] + bytes(8) + content[len(content) // 2 + 8 :])

    monkeypatch.setattr("alexnet_course.training.folder.write_checkpoint", forget)
    with pytest.raises(
        CourseError, match=r"^The first checkpoint of the run cannot be read back as written: .* disk\.$"
    ):
        list(train(recipe(), out=tmp_path / "run", **tiny))
    assert not list((tmp_path / "run").glob("checkpoint*"))


def test_only_the_first_checkpoint_of_a_process_is_read_back(tiny, tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr("alexnet_course.training.folder.read_back", lambda path: read.append(path.name[:20]))
    run = train(recipe(), out=tmp_path / "run", **tiny)
    next(run)
    next(run)
    run.close()
    list(resume(tmp_path / "run", **tiny))
    assert read == ["checkpoint-000000006", "checkpoint-000000018"]


def test_a_first_checkpoint_that_cannot_be_read_now_is_like_one_that_cannot_be_written(tiny, tmp_path, monkeypatch):
    def fail(path: Any) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as disk:
        disk.setattr("alexnet_course.training.folder.read_back", fail)
        run = train(recipe(), out=tmp_path / "run", **tiny)
        with pytest.warns(UserWarning, match=r"The checkpoint of step 6 could not be saved .*Input/output error"):
            next(run)
    list(run)
    assert run.record is not None
