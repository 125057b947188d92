"""A run has random generators and settings of its own, and leaves those of the process as they are."""

import random
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from alexnet_course import fit
from alexnet_course.recipe import Recipe
from alexnet_course.training import Hook, Trainer, surroundings, train
from alexnet_course.training.surroundings import Surroundings

CPU = torch.device("cpu")


def small(**changes: object) -> Recipe:
    """3 steps an epoch, with batch norm and dropout."""
    values = {"model": "cnn4", "epochs": 2, "batch_size": 32, "precision": "fp32", "validation_size": 20, "lr": 0.01}
    return Recipe(**{**values, **changes})


def draw() -> tuple[float, ...]:
    return random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.randn(3)[1].item()


def losses(run: Iterator[object]) -> list[float]:
    list(run)
    return [entry["train_loss"] for entry in run.history]  # type: ignore[attr-defined]


@pytest.fixture
def alone(data) -> list[float]:
    """The losses of a run that has the process to itself."""
    return losses(train(small(), **data))


def test_its_random_numbers_are_those_of_its_seed():
    with Surroundings(3, CPU):
        ours = draw()
    with Surroundings(3, CPU):
        assert draw() == ours
    with Surroundings(4, CPU):
        assert all(a != b for a, b in zip(draw(), ours, strict=True))
    torch.manual_seed(3)
    assert torch.randn(3)[1].item() == ours[-1]


def test_random_numbers_can_be_drawn_a_second_time():
    own = Surroundings(0, CPU)
    with own:
        random.gauss(0, 1), np.random.randn()  # each keeps a second number for its next call
        inside = own.state_dict()
        first, second = draw(), draw()
    own.load_state_dict(inside)
    assert own.state_dict()["python"] == inside["python"]
    with own:
        assert (draw(), draw()) == (first, second)
        own.load_state_dict(inside)
        assert draw() == first
    assert first != second


def test_it_can_be_entered_inside_itself():
    own = Surroundings(0, CPU)
    with own:
        first = draw()
        with own:
            second = draw()
        third = draw()
    other = Surroundings(0, CPU)
    with other:
        assert (draw(), draw(), draw()) == (first, second, third)


def test_the_generators_of_the_process_are_left_alone(data):
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    draw()
    state = random.getstate(), np.random.get_state(legacy=True), torch.get_rng_state()
    expected = draw()
    random.setstate(state[0]), np.random.set_state(state[1]), torch.set_rng_state(state[2])
    losses(train(small(), **data))
    assert draw() == expected


@pytest.mark.parametrize("between", [draw, lambda: torch.manual_seed(0), lambda: random.seed(0)])
@pytest.mark.slow
def test_what_is_drawn_between_two_epochs_changes_nothing(alone, data, between):
    run = train(small(), **data)
    between()
    for _ in run:
        between()
        run.evaluate(data["test_set"])
        between()
    assert [entry["train_loss"] for entry in run.history] == alone


@pytest.mark.slow
def test_two_runs_can_take_turns(alone, data):
    one, other = train(small(), **data), train(small(seed=1), **data)
    for _ in zip(one, other, strict=True):
        pass
    assert [entry["train_loss"] for entry in one.history] == alone
    assert [entry["train_loss"] for entry in other.history] == losses(train(small(seed=1), **data))


@pytest.fixture
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    assert torch.get_default_dtype() == torch.float64
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def meta_device() -> Iterator[None]:
    """Another default device that every build has; nothing can be computed on it."""
    torch.set_default_device("meta")
    yield
    assert torch.get_default_device().type == "meta"
    torch.set_default_device(None)


@pytest.fixture
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield
        assert not torch.is_grad_enabled()


@pytest.fixture
def inference() -> Iterator[None]:
    with torch.inference_mode():
        yield
        assert torch.is_inference_mode_enabled()


@pytest.mark.parametrize("setting", ["float64", "meta_device", "no_gradients", "inference"])
def test_a_setting_of_the_process_changes_nothing_and_is_kept(alone, data, request, setting):
    request.getfixturevalue(setting)
    assert losses(train(small(), **data)) == alone


def test_what_a_hook_draws_is_saved_with_the_run(data, tmp_path):
    class Dice(Hook):
        def __init__(self) -> None:
            self.rolled: list[float] = []

        def on_step(self, trainer: Trainer) -> None:
            self.rolled.append(random.random() + np.random.rand() + torch.rand(()).item())

    whole, first, second = Dice(), Dice(), Dice()
    fit(small(), progress=False, hooks=[whole], **data)
    next(train(small(), hooks=[first], out=tmp_path / "run", **data))
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    fit(small(), progress=False, hooks=[second], out=tmp_path / "run", **data)
    assert first.rolled + second.rolled == whole.rolled


def test_an_error_puts_everything_back(data):
    run = train(small(), hooks=[type("Fails", (Hook,), {"on_step": lambda self, trainer: 1 / 0})()], **data)
    torch.set_default_dtype(torch.float64)
    try:
        state = torch.get_rng_state()
        with pytest.raises(ZeroDivisionError):
            next(run)
        assert torch.get_default_dtype() == torch.float64
        assert torch.equal(torch.get_rng_state(), state)
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_gpu_of_apples_has_a_generator_that_goes_on_too(monkeypatch):
    """Of a machine that has one, as far as another can tell: a state is handed over and comes back."""
    there = [torch.arange(3, dtype=torch.uint8)]
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: there[0])
    monkeypatch.setattr(torch.mps, "set_rng_state", lambda state: there.insert(0, state))
    apple = torch.device("mps")
    states = surroundings._states(apple)
    there.insert(0, torch.zeros(3, dtype=torch.uint8))
    surroundings._set_states(states, apple)
    assert there[0].tolist() == [0, 1, 2]
    assert "mps" not in surroundings._states(CPU)
