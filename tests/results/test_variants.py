"""Figures from records: means, intervals, and what counts as a difference."""

import json
import shutil

import pytest

from alexnet_course.records import NOT_MEASURED, records_of
from alexnet_course.results.variants import accuracy_of, circumstances, compare_to
from alexnet_course.training import wilson_interval


def test_the_accuracy_is_the_mean_over_seeds_with_the_interval_of_the_images(write):
    write("base", 40)
    folder = write("base", 42, seed=1)
    accuracy, low, high = accuracy_of("base", folder)
    assert accuracy == pytest.approx(82)
    assert (low, high) == tuple(100 * end for end in wilson_interval(41, 50))
    assert accuracy_of("other", folder) is None


def test_the_circumstances_are_those_of_the_records(write):
    folder = write("base", 40)
    assert circumstances("base", folder) == "evening: 2 epochs, 110 images of 32, 1 run"
    write("base", 35, seed=1)
    assert circumstances("base", folder).endswith("2 runs")
    assert circumstances("other", folder) == NOT_MEASURED


def test_the_circumstances_of_runs_that_stopped_early_name_the_shortest_and_the_longest(write):
    write("base", 40)
    folder = write("base", 40, seed=1)
    path = folder / "base-evening-seed1.json"
    record = json.loads(path.read_text())
    record["history"].pop()
    path.write_text(json.dumps(record))
    assert circumstances("base", folder) == "evening: 1 to 2 epochs, 110 images of 32, 2 runs"


def test_only_the_longest_budget_that_is_recorded_counts(write):
    """Runs of two budgets are never mixed."""
    for budget, right in (("cpu", 10), ("evening", 20), ("long", 30)):
        folder = write("base", right, budget=budget)
        write("base", right, seed=1, budget=budget)
        assert [record.budget for record in records_of("base", folder)] == [budget, budget]
        assert accuracy_of("base", folder)[0] == pytest.approx(2 * right)


def test_a_difference_is_seen_where_the_same_images_tell_the_networks_apart(write):
    """Base and ``swapped`` are as good, base and ``near`` almost; ``far`` has ten right that the base has not."""
    write("swapped", [*range(5, 30), *range(30, 35)])
    write("near", 32)
    write("far", 40)
    folder = write("base", 30)
    variants = {"as it is": "base", "swapped": "swapped", "near": "near", "far": "far", "missing": "missing"}
    comparison = compare_to("base", variants, folder)
    base, swapped, near, far, missing = comparison.differences
    assert (base.accuracy, base.points, base.seen) == (60, None, False)
    assert (swapped.points, near.points, far.points) == pytest.approx((0, 4, 20))
    assert (swapped.seen, near.seen, far.seen) == (False, False, True)
    assert (missing.accuracy, missing.points, missing.seen) == (None, None, False)
    assert comparison.seen == "1 of 3"
    assert str(comparison).splitlines() == [
        "base: evening: 2 epochs, 110 images of 32, 1 run",
        "         test % runs points   95 %  over",
        "as it is  60.00    1",
        f"swapped   60.00    1  +0.00  ±{swapped.chance:.2f} images, within",
        f"near      64.00    1  +4.00  ±{near.chance:.2f} images, within",
        f"far       80.00    1 +20.00  ±{far.chance:.2f} images",
        "missing  not measured",
    ]


def test_without_a_base_nothing_is_compared(write):
    folder = write("lonely", 25)
    comparison = compare_to("base", {"lonely": "lonely"}, folder)
    assert comparison.seen == comparison.base == NOT_MEASURED
    assert "50.00" in str(comparison)


def test_with_several_seeds_in_common_the_interval_is_over_seeds(write):
    for seed, (before, after) in enumerate([(30, 32), (31, 34), (29, 30)]):
        write("base", before, seed=seed)
        folder = write("more", after, seed=seed)
    [more] = compare_to("base", {"more": "more"}, folder).differences
    assert (more.over, more.runs) == ("seeds", 3)
    assert more.points == pytest.approx(4)
    assert " seeds" in str(compare_to("base", {"more": "more"}, folder)).splitlines()[-1]


def test_runs_of_two_budgets_are_not_compared(write):
    """As soon as one of the two has a long run, the other is not measured against it."""
    for seed, right in enumerate((30, 31, 29)):
        write("base", right, seed=seed)
        folder = write("more", right + 3, seed=seed)
    write("base", 40, budget="long")
    [more] = compare_to("base", {"more": "more"}, folder).differences
    assert (more.points, more.seen) == (None, False)
    assert more.accuracy == pytest.approx(66)
    write("more", 41, budget="long")
    [more] = compare_to("base", {"more": "more"}, folder).differences
    assert (more.points, more.over) == (pytest.approx(2), "images")


def test_a_copy_of_a_record_is_no_second_seed(write):
    write("base", 30)
    folder = write("more", 33)
    shutil.copy(folder / "more-evening-seed0.json", folder / "more-evening-seed0 copy.json")
    assert len(records_of("more", folder)) == 1
    [more] = compare_to("base", {"more": "more"}, folder).differences
    assert (more.runs, more.over) == (1, "images")


def test_a_variant_that_cannot_be_compared_says_why_and_leaves_the_others(write):
    for seed in (0, 1):
        write("base", 30, seed=seed)
        write("more", 33, seed=seed)
    write("alone", 35, seed=3)
    folder = write("long", 41, budget="long")
    other = folder / "elsewhere-evening-seed0.json"
    values = json.loads((folder / "more-evening-seed0.json").read_text())
    values["recipe"]["name"] = "elsewhere"
    values["dataset"] |= {"name": "others", "test_fingerprint": "0" * 32}
    other.write_text(json.dumps(values))
    shutil.copy(folder / "more-evening-seed0.npy", other.with_suffix(".npy"))
    variants = {name: name for name in ("base", "more", "alone", "long", "elsewhere")}
    found = compare_to("base", variants, folder)
    assert [difference.why for difference in found.differences] == [
        "",
        "",
        "no seed in common",
        "budget long, not evening",
        "other test images",
    ]
    assert [difference.points is None for difference in found.differences] == [True, False, True, True, True]
    assert "long       82.00    1  budget long, not evening" in str(found)
    assert str(found).splitlines()[2].rstrip().endswith(" 2")  # nothing follows for the base itself
