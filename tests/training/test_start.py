"""A run that begins with torchvision's weights: where they come from, what they are worth, and what moves how fast."""

import errno
import hashlib
import os
import pickle
import re
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from alexnet_course import CourseError, Recipe, build_model, resume, train
from alexnet_course.optim import make_optimiser, make_schedule
from alexnet_course.results.verify import verify
from alexnet_course.training import freeze, load_run, lr_range_test
from alexnet_course.training import start as module
from alexnet_course.training.start import carried, imagenet_weights, start_from_imagenet
from alexnet_course.training.trainer import Trainer

CPU = torch.device("cpu")
HEAD = "classifier."  # of a network whose hidden layers are smaller than the published ones


def narrow(**changes: object) -> Recipe:
    values = {
        "model": "alexnet-owt", "model_options": {"hidden": 8, "dropout": 0.0}, "start": "imagenet", "input_size": 63,
        "normalisation": "imagenet", "epochs": 2, "batch_size": 6, "lr": 0.01, "schedule": "constant", "crop": 0,
        "precision": "fp32", "validation_size": 4, "optimiser": "sgd", "momentum": 0.0, "weight_decay": 0.0,
    }  # fmt: skip
    return Recipe(**{**values, **changes})


@pytest.fixture(scope="module")
def learned() -> dict[str, torch.Tensor]:
    """What stands for torchvision's weights: random features, and zeros for the 58 million others, all the same one."""
    with torch.device("meta"):
        shapes = build_model("alexnet-owt", num_classes=1000).state_dict()
    torch.manual_seed(1)
    features = build_model("alexnet-owt", hidden=1).state_dict()
    return {
        name: features[name] if name.startswith("features") else torch.zeros(()).expand(tensor.shape)
        for name, tensor in shapes.items()
    }


@pytest.fixture
def at_hand(learned, monkeypatch) -> dict[str, torch.Tensor]:
    monkeypatch.setattr(module, "imagenet_weights", lambda fetch: learned)
    return learned


@pytest.fixture
def lost(at_hand, monkeypatch) -> Callable[[], None]:
    """Takes the weights away again."""

    def gone(fetch: bool) -> None:
        assert not fetch
        raise CourseError("They are gone.")

    return lambda: monkeypatch.setattr(module, "imagenet_weights", gone)


class TestTheFile:
    @pytest.fixture(autouse=True)
    def places(self, tmp_path, monkeypatch) -> tuple[Path, Path]:
        """The folders of PyTorch's downloads and of the course's."""
        monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
        monkeypatch.setenv("ALEXNET_COURSE_CACHE", str(tmp_path / "course"))
        monkeypatch.setattr("alexnet_course.data.download.PAUSES", ())
        return tmp_path / "torch" / "hub" / "checkpoints", tmp_path / "course"

    @pytest.fixture
    def publish(self, monkeypatch) -> Callable[[bytes, str], str]:
        """Makes these bytes torchvision's published file, at an address; returns its name."""

        def call(content: bytes, address: str = "http://127.0.0.1:9/") -> str:
            name = f"alexnet-owt-{hashlib.sha256(content).hexdigest()[:8]}.pth"
            weights = SimpleNamespace(IMAGENET1K_V1=SimpleNamespace(url=f"{address}models/{name}"))
            monkeypatch.setattr("torchvision.models.AlexNet_Weights", weights)
            return name

        return call

    @pytest.fixture
    def content(self, tmp_path) -> bytes:
        torch.save({"a": torch.arange(3)}, tmp_path / "content")
        return (tmp_path / "content").read_bytes()

    @pytest.fixture
    def server(self, tmp_path, monkeypatch) -> Iterator[tuple[Path, str]]:
        class Quiet(SimpleHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

        monkeypatch.setenv("no_proxy", "127.0.0.1")
        (tmp_path / "served" / "models").mkdir(parents=True)
        with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "served"))) as httpd:
            Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
            yield tmp_path / "served" / "models", f"http://127.0.0.1:{httpd.server_port}/"
            httpd.shutdown()

    @pytest.mark.parametrize("place", [0, 1])
    def test_is_found_where_it_is_on_the_disk(self, places, publish, content, place):
        name = publish(content)
        places[place].mkdir(parents=True)
        (places[place] / name).write_bytes(content)
        assert imagenet_weights()["a"].tolist() == [0, 1, 2]
        assert (places[place] / name).read_bytes() == content

    def test_may_be_in_a_folder_that_cannot_be_written_to(self, places, publish, content, monkeypatch):
        name = publish(content)
        places[0].mkdir(parents=True)
        (places[0] / name).write_bytes(content)

        def read_only(*_: object) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        monkeypatch.setattr(Path, "replace", read_only)
        assert imagenet_weights()["a"].tolist() == [0, 1, 2]

    def test_is_downloaded_once(self, places, publish, content, server):
        folder, address = server
        name = publish(content, address)
        (folder / name).write_bytes(content)
        assert imagenet_weights()["a"].tolist() == [0, 1, 2]
        assert [path.name for path in places[1].iterdir()] == [name]
        (folder / name).unlink()
        assert imagenet_weights()["a"].tolist() == [0, 1, 2]

    def test_another_one_is_refused(self, places, publish, content, server):
        folder, address = server
        name = publish(content, address)
        (folder / name).write_bytes(content[:-1] + b"?")
        with pytest.raises(CourseError, match=rf"{name}' could not be downloaded from .* \(its SHA-256 begins with "):
            imagenet_weights()
        places[0].mkdir(parents=True)
        (places[0] / name).write_bytes(content[:-1] + b"?")
        with pytest.raises(CourseError, match=r"is not torchvision's file: its SHA-256 begins with .*; remove it to"):
            imagenet_weights()

    def test_that_cannot_be_had_is_said_with_what_to_do(self, places, publish, content):
        name = publish(content)
        remedy = re.escape(f"put torchvision's file {name} into {str(places[1])!r}.")
        with pytest.raises(
            CourseError, match=rf"could not be downloaded from http://127.0.0.1:9/models/{name} .*{remedy}"
        ):
            imagenet_weights()
        with pytest.raises(CourseError, match=f"^There is no {name}, the weights that .* needs; {remedy}"):
            imagenet_weights(fetch=False)

    def test_runs_no_code_of_its_own(self, places, publish):
        content = pickle.dumps(os.getcwd, protocol=2)  # a function, of the kind that could do anything
        name = publish(content)
        places[0].mkdir(parents=True)
        (places[0] / name).write_bytes(content)
        with pytest.raises(CourseError, match=rf"{name}' cannot be read \(.*\); remove it, or put"):
            imagenet_weights()

    @pytest.mark.slow
    def test_makes_our_network_torchvision_s(self, places, publish, tmp_path):
        import torchvision

        theirs = torchvision.models.alexnet().eval()
        torch.save(theirs.state_dict(), tmp_path / "weights")
        content = (tmp_path / "weights").read_bytes()
        places[0].mkdir(parents=True)
        (tmp_path / "weights").rename(places[0] / publish(content))
        ours = build_model("alexnet-owt", num_classes=1000).eval()
        head = {name: tensor.clone() for name, tensor in ours.classifier[6].state_dict().items()}
        assert start_from_imagenet(ours) == {name for name, _ in ours.named_parameters() if "classifier.6" not in name}
        assert all(torch.equal(tensor, head[name]) for name, tensor in ours.classifier[6].state_dict().items())
        ours.classifier[6].load_state_dict(theirs.classifier[6].state_dict())
        images = torch.randn(2, 3, 224, 224)
        with torch.no_grad():
            assert torch.allclose(ours(images), theirs(images), atol=1e-5)


def test_the_features_come_along_and_what_does_not_fit_is_new(at_hand, few):
    run = train(narrow(), **few)
    state = run.model.state_dict()
    assert all(torch.equal(state[name], at_hand[name]) for name in state if name.startswith("features"))
    assert carried(run.model) == {name for name in state if name.startswith("features")}
    fresh = Trainer(narrow(start="new"), few["train_set"], CPU, "fp32").model.state_dict()
    assert all(torch.equal(state[name], fresh[name]) for name in state if name.startswith(HEAD))  # as the seed says


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"width": 0.5}, r"The features do not fit: features.0.weight is of shape \(64, 3, 11, 11\) in the source and"),
        ({"batch_norm": True}, "The features do not fit: "),
    ],
)
def test_features_of_other_sizes_are_refused(at_hand, few, tmp_path, options, sentence):
    with pytest.raises(CourseError, match=sentence):
        train(narrow(model_options={"hidden": 8, **options}), **few, out=tmp_path / "run")


# --- Two rates -------------------------------------------------------------------------------------------------------


def moved(recipe: Recipe, data, held: str = "") -> dict[str, torch.Tensor]:
    """How far each weight goes in the first step."""
    trainer = Trainer(recipe, data["train_set"], CPU, "fp32")
    if held:
        freeze(trainer.model.get_submodule(held))
    before = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    trainer.start_epoch()
    with trainer.computing():
        trainer.step(*next(iter(trainer.train_loader)))
    return {name: weight.detach() - before[name] for name, weight in trainer.model.named_parameters()}


@pytest.mark.parametrize("factor", [0.1, 0.0])
@pytest.mark.parametrize("decay", ["all", "weights"])
def test_the_body_moves_at_its_own_rate_and_the_head_at_that_of_the_recipe(at_hand, few, factor, decay):
    changes = {"weight_decay": 0.01, "decay": decay}
    same, slower = (moved(narrow(body_lr=share, **changes), few) for share in (1.0, factor))
    assert any(name.startswith("features") for name in same)
    for name, way in same.items():
        assert way.abs().max() > 0
        share = 1.0 if name.startswith(HEAD) else factor
        assert torch.allclose(slower[name], share * way, rtol=1e-3, atol=1e-8), name


def test_a_frozen_part_of_the_body_stays_and_the_rest_moves_slowly(at_hand, few):
    held = moved(narrow(body_lr=0.1), few, held="features.0")
    free = moved(narrow(body_lr=0.1), few)
    for name, way in free.items():
        expected = torch.zeros_like(way) if name.startswith("features.0.") else way
        assert torch.equal(held[name], expected), name


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(2, 2), nn.Linear(2, 2)


@pytest.mark.parametrize(("decay", "groups"), [("all", 2), ("weights", 4)])
@pytest.mark.parametrize("optimiser", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize(
    "schedule",
    [
        {"schedule": "constant"},
        {"schedule": "one-cycle"},
        {"schedule": "step", "lr_steps": [1, 2]},
        {"schedule": "plateau", "patience": 0, "max_drops": 2},
    ],
    ids=lambda keys: keys["schedule"],
)
def test_every_schedule_keeps_the_ratio_of_the_rates(optimiser, schedule, decay, groups):
    recipe = narrow(optimiser=optimiser, body_lr=0.25, epochs=4, decay=decay, **schedule)
    stepper = make_optimiser(Two(), recipe, CPU, {"body.weight", "body.bias"})
    assert len(stepper.param_groups) == groups
    decays = [group["weight_decay"] for group in stepper.param_groups]
    assert decays == [recipe.weight_decay, 0.0][: groups // 2] * 2
    every_step, every_epoch = make_schedule(stepper, recipe, 1)
    heads = []
    for _ in range(4):
        rates = [group["lr"] for group in stepper.param_groups]
        heads.append(rates[0])
        assert rates == pytest.approx([rates[0]] * (groups // 2) + [0.25 * rates[0]] * (groups // 2))
        stepper.step()
        if every_step is not None:
            every_step.step()
        if every_epoch is not None:
            every_epoch.step(*([0.5] if schedule["schedule"] == "plateau" else []))
    assert (len(set(heads)) == 1) == (schedule["schedule"] == "constant")
    if schedule["schedule"] == "plateau":
        assert heads == pytest.approx([0.01, 0.01, 0.001, 0.0001])  # and no lower, nor the body's


def test_the_range_test_keeps_it_too(at_hand, few, monkeypatch):
    seen = []
    prepared = Trainer._prepare

    def watched(trainer: Trainer, compile: bool) -> None:
        prepared(trainer, compile)
        step = trainer.optimiser.step
        groups = trainer.optimiser.param_groups
        trainer.optimiser.step = lambda *a, **k: (seen.append([g["lr"] for g in groups]), step(*a, **k))[1]

    monkeypatch.setattr(Trainer, "_prepare", watched)
    recipe = narrow(body_lr=0.1, schedule="one-cycle")
    lr_range_test(recipe, train_set=few["train_set"], device="cpu", lowest=1e-4, highest=1e-2, steps=3)
    assert seen == [pytest.approx([rate, rate / 10]) for rate in (1e-4, 1e-3, 1e-2)]


# --- Runs ------------------------------------------------------------------------------------------------------------


def test_the_record_says_what_the_run_began_with_and_verifies(at_hand, few, tmp_path):
    run = train(narrow(body_lr=0.1, schedule="one-cycle"), **few, out=tmp_path / "run")
    list(run)
    _, record = load_run(tmp_path / "run")
    assert (record.recipe.start, record.recipe.body_lr) == ("imagenet", 0.1)
    assert verify(tmp_path / "run", few["test_set"], few["train_set"]) == []


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_a_run_goes_on_to_the_bit_and_no_longer_needs_the_weights(at_hand, lost, few, tmp_path, optimiser):
    recipe = narrow(body_lr=0.1, optimiser=optimiser, decay="weights", weight_decay=0.01, momentum=0.9, ema=0.9)
    whole = train(recipe, **few)
    list(whole)
    next(train(recipe, **few, out=tmp_path / "run"))
    lost()
    rest = resume(tmp_path / "run", **few)
    list(rest)
    assert [epoch["epoch"] for epoch in rest.history] == [1, 2]
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, rest.model.state_dict()[name]), name
    again = train(recipe, **few, out=tmp_path / "run")  # finished
    assert again.record is not None
    with pytest.raises(AssertionError):
        train(recipe, **few)  # a new one wants to fetch them


def test_a_run_without_a_whole_checkpoint_begins_with_them_or_not_at_all(at_hand, lost, few, tmp_path):
    folder = tmp_path / "run"
    next(train(narrow(), **few, out=folder))
    for path in folder.glob("checkpoint-*.pt"):
        path.write_bytes(b"damaged")
    lost()
    with pytest.warns(UserWarning, match="Starting from the beginning"), pytest.raises(CourseError, match="are gone"):
        resume(folder, **few)
    assert list(folder.glob("checkpoint-*.pt"))
