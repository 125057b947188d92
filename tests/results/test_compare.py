"""Differences are tested: image by image with one seed, seed by seed with several."""

from math import comb, sqrt

import numpy as np
import pytest

from alexnet_course.errors import CourseError
from alexnet_course.records import records_of
from alexnet_course.records.predictions import save_predictions
from alexnet_course.results.compare import compare, correct, mcnemar, paired_over_seeds


def pair(both, first, second, neither):
    """Which images two networks got right: so many both, the first alone, the second alone, neither."""
    table = [(True, True)] * both + [(True, False)] * first + [(False, True)] * second + [(False, False)] * neither
    return np.array(table, dtype=bool).T


def test_mcnemar_counts_only_the_images_that_one_alone_got_right():
    test = mcnemar(*pair(60, 4, 16, 20))
    assert test.points == pytest.approx(12)
    assert test.p == pytest.approx(2 * sum(comb(20, k) for k in range(5)) / 2**20)
    assert test.chance == pytest.approx(100 * 1.959964 * sqrt(20 - 144 / 100) / 100)
    assert test.seen
    assert str(test) == f"+12.00 ± {test.chance:.2f} points, p = 0.012 (McNemar's test)"
    more = mcnemar(*pair(6000, 4, 16, 2000))
    assert more.p == pytest.approx(test.p)


def test_networks_that_differ_nowhere_or_by_a_coin_s_toss_are_not_told_apart():
    assert mcnemar(*pair(5, 0, 0, 5)).p == 1
    even = mcnemar(*pair(10, 7, 7, 10))
    assert (even.points, even.seen) == (0, False)
    assert str(even).endswith("p = 1.000 (McNemar's test): no difference seen")


def test_the_order_turns_the_sign_and_nothing_else():
    one, other = pair(50, 30, 10, 10)
    there, back = mcnemar(one, other), mcnemar(other, one)
    assert there.points == -back.points == -20
    assert (there.chance, there.p) == pytest.approx((back.chance, back.p))


def test_over_seeds_the_differences_of_each_seed_count():
    """By hand: differences 1, 2, 3; mean 2, standard error 1/√3, t = 3.464 with two degrees of freedom."""
    test = paired_over_seeds([80, 82, 84], [81, 84, 87])
    assert test.points == 2
    assert test.chance == pytest.approx(4.302653 / sqrt(3))
    assert test.p == pytest.approx(0.0741799, rel=1e-4)
    assert not test.seen
    assert test.method == "paired over 3 seeds"


@pytest.mark.parametrize(("second", "p"), [([81, 83], 0), ([80, 82], 1)])
def test_seeds_that_agree_exactly_leave_nothing_to_chance(second, p):
    assert paired_over_seeds([80, 82], second).p == p


def test_one_seed_is_compared_image_by_image_and_more_seed_by_seed(write):
    write("base", 30)
    folder = write("other", 40)
    test = compare(records_of("base", folder), records_of("other", folder), folder)
    assert (test.points, test.method) == (20, "McNemar's test")
    for seed in (1, 2):
        write("base", 30 + seed, seed=seed)
        write("other", 40 + seed, seed=seed)
    assert compare(records_of("base", folder), records_of("other", folder), folder).method == "paired over 3 seeds"


def test_what_a_run_got_right_is_read_off_its_predictions(write):
    folder = write("base", [1, 5, 49])
    assert np.flatnonzero(correct(records_of("base", folder)[0], folder)).tolist() == [1, 5, 49]


def test_runs_that_cannot_be_compared_are_refused(write, known_labels):
    folder = write("base", 30)
    write("late", 30, seed=3)
    write("elsewhere", 30)
    base, late = records_of("base", folder), records_of("late", folder)
    with pytest.raises(CourseError, match="no seed in common"):
        compare(base, late, folder)
    [found] = records_of("elsewhere", folder)
    elsewhere = [found.replace(dataset=found.dataset.model_copy(update={"test_fingerprint": "0" * 32}))]
    with pytest.raises(CourseError, match="base-evening-seed0 and elsewhere-evening-seed0 were not tested on the same"):
        compare(base, elsewhere, folder)
    next(known_labels.iterdir()).unlink()
    with pytest.raises(CourseError, match=r"keeps no labels of two-colours, so base-evening-seed0 .* two seeds"):
        compare(base, base, folder)
    with pytest.raises(CourseError, match=r"^There are 2 and 3 images"):
        mcnemar(np.ones(2, bool), np.ones(3, bool))


@pytest.mark.parametrize("count", [50, 49])
def test_predictions_of_another_run_are_not_compared(write, count):
    write("base", 40)
    folder = write("more", 43)
    save_predictions(folder / "more-evening-seed0.npy", np.zeros(count, dtype=np.uint8))
    with pytest.raises(CourseError, match=r"^more-evening-seed0\.npy holds other predictions than those"):
        compare(records_of("base", folder), records_of("more", folder), folder)
