"""A run repeated from its record."""

import shutil

import pytest
import torch

from alexnet_course.errors import CourseError
from alexnet_course.recipe import Recipe
from alexnet_course.records.record import Record
from alexnet_course.results.reproduce import Reproduction, find_record, repetition
from alexnet_course.results.table import make_row
from alexnet_course.results.verify import verify
from alexnet_course.training import device
from alexnet_course.watching import fit

RECIPE = Recipe(name="base", model="cnn4", epochs=2, batch_size=10, validation_size=10)


@pytest.fixture
def record(finished):
    return find_record(str(finished))


def test_on_the_cpu_a_run_is_repeated_to_the_bit(record, data):
    run = repetition(record, **data)
    list(run)
    result = Reproduction(record, run.record)
    assert result.exact
    assert str(result).splitlines()[-1] == "bit-identical: every loss, accuracy and prediction"
    assert result.differences == []


def test_so_is_one_that_changed_the_images_of_an_epoch_at_once(data):
    """Which draws other random numbers."""
    record = fit(RECIPE, progress=False, epoch_at_once=True, **data).record
    run = repetition(record, **data)
    list(run)
    assert Reproduction(record, run.record).exact
    run = repetition(record, epoch_at_once=False, **data)
    list(run)
    result = Reproduction(record, run.record)
    assert not result.exact
    assert result.differences == ["epoch_at_once False, recorded with True"]


@pytest.mark.parametrize(("lacks", "precision"), [(False, "bf16"), (True, "fp32")])
def test_the_recorded_number_of_threads_and_precision_are_used(record, data, monkeypatch, lacks, precision):
    """The precision only where the CPU has instructions for it: it would take many times as long otherwise."""
    monkeypatch.setattr(device, "cpu_lacks_bf16", lambda: lacks)
    monkeypatch.setattr(device, "cpu_has_fast_bf16", lambda: False)
    before = torch.get_num_threads()
    elsewhere = record.environment.model_copy(update={"threads": before + 1, "precision": "bf16"})
    try:
        run = repetition(record.replace(environment=elsewhere), **data)
        assert (torch.get_num_threads(), run.precision) == (before + 1, precision)
    finally:
        torch.set_num_threads(before)


def test_a_repetition_can_be_kept_beside_its_run(record, data, finished, tmp_path, write):
    """It has the recipe of the recorded run, ``auto`` included."""
    folder = tmp_path / "runs"
    shutil.copytree(finished, folder / "plain")
    list(repetition(record, out=folder / "again", **data))
    assert find_record(str(folder / "again")).recipe == record.recipe
    assert verify(folder) == []


def test_augmented_test_images_count_and_so_does_every_earlier_machine(record):
    one, other = (record.replace(augmented_test_accuracy=accuracy) for accuracy in (0.5, 0.99))
    assert not Reproduction(one, other).exact
    before = record.environment.model_copy(update={"device": "H200"})
    moved = record.replace(earlier_environments=(before,))
    device = record.environment.device
    assert Reproduction(moved, record).differences == [f"device {device}, recorded with H200 and {device}"]
    row = make_row(record.recipe, [moved])
    assert "H200" in row.device
    assert device in row.device


def test_a_repetition_that_comes_out_otherwise_says_so(record):
    values = record.as_dict()
    values["history"][0]["train_loss"] += 1e-12
    values["environment"]["torch"] = "2.6.0"
    repeated = Record.from_dict(values)
    result = Reproduction(record, repeated)
    assert (result.exact, result.within) == (False, True)
    lines = str(result).splitlines()
    assert "inside" in lines[2]
    assert lines[3] == f"torch 2.6.0, recorded with {record.environment.torch}"
    worse = repeated.replace(test_accuracy=record.test_accuracy_interval[0] - 0.01)
    assert "OUTSIDE" in str(Reproduction(record, worse))


def test_other_images_are_refused_before_anything_is_trained(record, data):
    other = {**data, "train_set": data["train_set"].subset(range(100))}
    with pytest.raises(CourseError, match=r"^The train images of two-colours have the fingerprint .* --data\.$"):
        repetition(record, **other)


def test_a_record_is_found_by_name_by_path_and_by_its_run(finished, write, tmp_path, monkeypatch):
    folder = write("base", 30)
    assert find_record("base-evening-seed0", folder) == find_record(str(folder / "base-evening-seed0.json"))
    assert find_record(str(finished)).recipe.name == "base"
    (tmp_path / "runs").mkdir()
    shutil.copytree(finished, tmp_path / "runs" / "mine-evening-seed0")
    monkeypatch.chdir(tmp_path)
    assert find_record("mine-evening-seed0", folder).recipe.name == "base"
    with pytest.raises(CourseError, match=r"^There is no record 'bas'; .*nearest: base-evening-seed0\.$"):
        find_record("bas", folder)
    shutil.copy(folder / "base-evening-seed0.npy", folder / "broken.json")
    with pytest.raises(CourseError, match=r"^broken\.json is not readable as JSON"):
        find_record("broken", folder)
