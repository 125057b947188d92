"""The wish to stop: noted once, and then everything is as before."""

import signal
import threading
from collections.abc import Iterator

import pytest

from alexnet_course.training.signals import WATCHED, StopWish


@pytest.fixture(autouse=True)
def handlers() -> Iterator[dict[signal.Signals, object]]:
    """Handlers that only note the signal, in place of those of the test's process."""
    before = {number: signal.getsignal(number) for number in WATCHED}
    for number in WATCHED:
        signal.signal(number, lambda number, frame: arrived.append(number))
    arrived.clear()
    yield {number: signal.getsignal(number) for number in WATCHED}
    for number, handler in before.items():
        signal.signal(number, handler)


arrived: list[int] = []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_a_wish_and_the_second_acts_as_usual(number, handlers):
    wish = StopWish()
    with wish:
        assert wish.signal is None
        signal.raise_signal(number)
        assert (wish.signal, arrived) == (number, [])
        assert {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}.items() <= handlers.items()
        signal.raise_signal(number)
        assert arrived == [number]
    assert wish.signal is number


@pytest.mark.parametrize("first", WATCHED)
def test_a_terminal_that_is_closed_is_a_wish_however_often_it_is_told(first, handlers):
    """By the system and by the shell, the second while the run is being saved; it does not hide what came before."""
    with StopWish() as wish:
        for number in (first, signal.SIGHUP, signal.SIGHUP):
            signal.raise_signal(number)
        assert (wish.signal, arrived) == (first, [])
        signal.raise_signal(signal.SIGTERM)
        assert arrived == [signal.SIGTERM]
    assert {n: signal.getsignal(n) for n in WATCHED} == handlers


def test_without_a_signal_everything_is_as_before(handlers):
    wish = StopWish()
    for _ in range(2):  # entered once an epoch
        with wish:
            assert signal.getsignal(signal.SIGINT) == wish._note
        assert {n: signal.getsignal(n) for n in WATCHED} == handlers
    assert wish.signal is None


def test_an_error_inside_leaves_everything_as_before(handlers):
    with pytest.raises(ZeroDivisionError), StopWish():
        _ = 1 / 0
    assert {n: signal.getsignal(n) for n in WATCHED} == handlers


def test_python_s_own_ctrl_c_comes_back():
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with StopWish() as wish:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert wish.signal is signal.SIGINT


def test_a_signal_that_is_ignored_stays_ignored():
    """As in a job that a shell started in the background."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with StopWish() as wish:
        signal.raise_signal(signal.SIGINT)
        assert wish.signal is None
        signal.raise_signal(signal.SIGTERM)
        assert wish.signal is signal.SIGTERM
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_in_another_thread_nothing_happens(handlers):
    seen = []

    def elsewhere() -> None:
        with StopWish() as wish:
            seen.append({n: signal.getsignal(n) for n in WATCHED})
        seen.append(wish.signal)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [handlers, None]
