"""The fuzzer finds what it looks for, and in a small dose finds nothing."""

import random

import pytest

from alexnet_course.results.table import write_between_markers
from benchmarks.fuzz import KINDS, LATE, damage, fault_in, fuzz, prepare, random_arguments, table


@pytest.mark.parametrize(
    ("status", "err", "fault"),
    [
        (0, "", ""),
        (2, "alexnet-course: a sentence", ""),
        (LATE, "half a bar", ""),
        (1, "Traceback (most recent call last):\n", "a traceback"),
        (2, " \n", "a failure without a word"),
        (-11, "", "an end with status -11"),
        (None, "", "an end with status None"),
        (3, "what?", "an end with status 3"),
    ],
)
def test_what_counts_as_a_fault(status, err, fault):
    assert fault_in(status, err) == fault


def test_a_damaged_file_is_another_file(tmp_path):
    path, chance = tmp_path / "file", random.Random(0)
    for _ in range(50):
        path.write_bytes(bytes(100))
        damage(chance, path)
        assert path.read_bytes() != bytes(100)


def test_argument_lists_name_every_command_and_repeat_with_the_seed():
    lists = [random_arguments(random.Random(seed)) for seed in range(300)]
    assert {"train", "resume", "results", "evaluate", "summary", "bench"} <= {
        arguments[0] for arguments in lists if arguments
    }
    assert lists == [random_arguments(random.Random(seed)) for seed in range(300)]


def test_a_table_can_be_written_where_the_fuzzer_writes_one(tmp_path, monkeypatch):
    def no_run(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("benchmarks.fuzz.attempt", no_run)
    with pytest.raises(ZeroDivisionError):
        prepare(tmp_path)
    assert write_between_markers(tmp_path / "table.md", "the table\n")


@pytest.mark.slow
def test_a_few_of_each_find_nothing():
    outcomes = fuzz(arguments=8, flips=1, seed=2, progress=lambda text: None)
    assert [outcome for outcome in outcomes if outcome.fault] == []
    lines = {line.split()[0]: line.split()[1] for line in table(outcomes).splitlines()}
    assert lines == {"kind": "attempts", "arguments": "8", **dict.fromkeys(KINDS, "2")}
