"""Figures from records: means, intervals, and what counts as a difference."""

import copy
import json
from math import sqrt

import pytest

from alexnet_course.records import NOT_MEASURED
from alexnet_course.records.tables import accuracy_of, circumstances, compare_to
from alexnet_course.training import Recipe, fit, wilson_interval

RECIPE = Recipe(name="base", model="cnn4", epochs=1, batch_size=10, validation_size=10, budget="cpu")


@pytest.fixture(scope="module")
def example(data):
    return fit(RECIPE, progress=False, **data).record


@pytest.fixture
def write(example, tmp_path):
    def record(name, accuracy, seed=0, budget="cpu"):
        made = copy.deepcopy(example)
        made["recipe"] |= {"name": name, "seed": seed, "budget": budget}
        made |= {"seed": seed, "budget": budget, "test_accuracy": accuracy}
        made["dataset"]["test_images"] = 10_000
        (tmp_path / f"{name}{'-cpu' if budget == 'cpu' else ''}-seed{seed}.json").write_text(json.dumps(made))
        return tmp_path

    return record


def test_the_accuracy_is_the_mean_over_seeds_with_the_interval_of_the_pictures(write):
    write("base", 0.80)
    folder = write("base", 0.82, seed=1)
    accuracy, low, high = accuracy_of("base", folder)
    assert accuracy == pytest.approx(81)
    assert (low, high) == tuple(100 * end for end in wilson_interval(8100, 10_000))
    assert accuracy_of("other", folder) is None


def test_the_circumstances_are_those_of_the_records(write):
    folder = write("base", 0.8)
    assert circumstances("base", folder) == "cpu: 1 epoch, 110 pictures of 32, 1 run"
    write("base", 0.7, seed=1)
    assert circumstances("base", folder).endswith("2 runs")
    assert circumstances("other", folder) == NOT_MEASURED


def test_a_difference_is_seen_beyond_the_spread_of_two_proportions(write):
    for run in (("near", 0.65), ("far", 0.66), ("below", 0.62)):
        write(*run)
    folder = write("base", 0.64)
    variants = {"as it is": "base", "near": "near", "far": "far", "below": "below", "missing": "missing"}
    comparison = compare_to("base", variants, folder)
    base, near, far, below, missing = comparison.differences
    assert (base.accuracy, base.points, base.seen) == (64, None, False)
    assert (near.points, far.points, below.points) == pytest.approx((1, 2, -2))
    assert near.chance == pytest.approx(100 * 1.96 * sqrt((0.64 * 0.36 + 0.65 * 0.35) / 10_000), rel=0.01)
    assert (near.seen, far.seen, below.seen) == (False, True, True)
    assert (missing.accuracy, missing.points, missing.seen) == (None, None, False)
    assert comparison.seen == "2 of 3"
    assert str(comparison).splitlines() == [
        "base: cpu: 1 epoch, 110 pictures of 32, 1 run",
        "         test % points  chance",
        "as it is  64.00",
        f"near      65.00  +1.00  ±{near.chance:.2f} within",
        f"far       66.00  +2.00  ±{far.chance:.2f}",
        f"below     62.00  -2.00  ±{below.chance:.2f}",
        "missing  not measured",
    ]


def test_without_a_base_nothing_is_compared(write):
    folder = write("lonely", 0.5)
    comparison = compare_to("base", {"lonely": "lonely"}, folder)
    assert comparison.seen == comparison.base == NOT_MEASURED
    assert "50.00" in str(comparison)
