"""The figures of the chapter on CIFAR: they show what they were given, and say where nothing is measured."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from alexnet_course import CourseError, plots


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def legend(axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def written(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_curves_name_a_series_that_is_not_measured():
    (axes,) = plots.curves({"ReLU": [3.0, 2.0], "tanh": []}, "epoch", "error").axes
    assert legend(axes) == ["ReLU", "tanh: not measured"]
    assert [len(line.get_xdata()) for line in axes.lines] == [2, 0]


class TestPictureTable:
    def test_shows_each_row_under_its_label(self):
        ramp = np.arange(2 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 3, 4, 4)
        figure = plots.picture_table({"two": ramp, "one": np.full((1, 1, 4, 4), 0.5)})
        shown = [axes for axes in figure.axes if axes.images]
        assert [line.get_suptitle() for line in figure.subfigs] == ["two", "one"]
        assert [axes.figure for axes in shown] == [figure.subfigs[0]] * 2 + [figure.subfigs[1]]
        assert np.allclose(shown[1].images[0].get_array(), ramp[1].transpose(1, 2, 0) / 255)
        assert np.allclose(shown[2].images[0].get_array(), 0.5)

    def test_draws_the_boxes(self):
        figure = plots.picture_table({"a": np.zeros((1, 3, 8, 8))}, {"a": [(1, 2, 3, 4)]})
        frames = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
        assert {(box.get_x(), box.get_y(), box.get_width(), box.get_height()) for box in frames} == {(1.5, 0.5, 4, 3)}

    def test_refuses_what_are_no_pictures(self):
        with pytest.raises(CourseError, match=r"\(8, 8\) for 'a'"):
            plots.picture_table({"a": np.zeros((8, 8))})


class TestAccuracies:
    ROWS = {"base": (80.0, 79.2, 80.8), "more": None, "less": (75.0, 74.1, 75.9)}  # noqa: RUF012

    def test_draws_dots_intervals_and_the_band(self):
        (axes,) = plots.accuracies(self.ROWS, "base").axes
        dots = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if line.get_marker() == "o"]
        assert dots == [(80.0, 0), (75.0, 2)]
        (band,) = axes.patches
        assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx((79.2, 80.8))
        bars = [collection.get_segments()[0][:, 0].tolist() for collection in axes.collections]
        assert [pytest.approx(bar) for bar in bars] == [[79.2, 80.8], [74.1, 75.9]]
        assert written(axes) == ["80.0", "not measured", "75.0"]
        assert [label.get_text() for label in axes.get_yticklabels()] == list(self.ROWS)

    def test_draws_nothing_but_words_where_nothing_is_measured(self):
        (axes,) = plots.accuracies({"base": None, "more": None}, "base").axes
        assert written(axes) == ["not measured"] * 2
        assert not axes.patches

    def test_refuses_a_reference_that_is_no_row(self):
        with pytest.raises(CourseError, match="no row 'basis'"):
            plots.accuracies(self.ROWS, "basis")


class TestAccuracyAgainstCost:
    def test_sets_published_beside_measured(self):
        networks = {"a": (2e8, 80.0, (90.0, 89.4, 90.6)), "b": (1e9, None, None)}
        (axes,) = plots.accuracy_against_cost(networks).axes
        marks = {
            line.get_marker(): (line.get_xdata()[0], line.get_ydata()[0])
            for line in axes.lines
            if line.get_marker() in ("s", "o") and len(line.get_xdata())
        }
        assert marks == {"s": (200.0, 80.0), "o": (200.0, 90.0)}
        assert written(axes) == ["a", "b: not measured"]
        assert legend(axes) == ["published", "measured here"]


class TestRangeTestCurve:
    def test_draws_each_loss_their_mean_and_the_marks(self):
        points = [(10.0**-power, float(power)) for power in range(5, 0, -1)]
        (axes,) = plots.range_test_curve(points, {"chosen": 1e-3}).axes
        each, mean, mark = axes.lines
        assert each.get_ydata().tolist() == [5, 4, 3, 2, 1]
        assert list(mean.get_ydata()) == [3] * 5  # nine steps around any of the five are all five
        assert list(mark.get_xdata()) == [1e-3, 1e-3]
        assert axes.get_xscale() == "log"
        assert legend(axes) == ["each step", "mean of nine steps", "chosen: 0.001"]
        assert axes.get_ylim()[1] == pytest.approx(5.25)

    def test_a_last_loss_beyond_measure_does_not_press_the_valley_flat(self):
        (axes,) = plots.range_test_curve([(1e-3, 2.0), (1e-2, 1.0), (1e-1, 50.0)]).axes
        assert axes.get_ylim() == pytest.approx((0.95, 2.8))


class TestTwoAccuracies:
    def test_draws_the_pairs_and_the_line_of_equals(self):
        (axes,) = plots.two_accuracies({"long": [(80.0, 79.0), (90.0, 91.0)], "evening": []}, "x", "y").axes
        equal, long, _ = axes.lines
        assert list(equal.get_xdata()) == list(equal.get_ydata()) == [77.0, 93.0]
        assert list(zip(long.get_xdata(), long.get_ydata(), strict=True)) == [(80.0, 79.0), (90.0, 91.0)]
        assert legend(axes) == ["equal", "long", "evening: not measured"]

    def test_of_nothing_is_an_empty_square(self):
        (axes,) = plots.two_accuracies({"long": []}, "x", "y").axes
        assert axes.get_xlim() == axes.get_ylim() == (-2.0, 102.0)


class TestConfusionMatrix:
    def test_writes_shares_of_the_true_class_and_shades_mistakes(self):
        (axes,) = plots.confusion_matrix([[8, 2, 0], [0, 5, 0], [1, 0, 999]], ["cat", "dog", "deer"]).axes
        assert written(axes) == ["80", "20", "100", "100"]  # 0.1 % of the deer are not written
        shades = np.asarray(axes.images[0].get_array())
        assert shades.tolist() == [[0, 20, 0], [0, 0, 0], [pytest.approx(0.1), 0, 0]]
        assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog", "deer"]

    def test_refuses_a_table_that_does_not_fit_the_names(self):
        with pytest.raises(CourseError, match=r"\(2, 2\) counts for 3 classes"):
            plots.confusion_matrix([[1, 0], [0, 1]], ["a", "b", "c"])


def test_the_frames_are_seen_on_every_ground():
    figure = plots.picture_table({"a": np.zeros((1, 1, 8, 8))}, {"a": [(1, 1, 3, 3)]})
    colours = [to_hex(patch.get_edgecolor()) for patch in figure.axes[0].patches]
    assert colours == ["#ffffff", plots.ORANGE.lower()]
