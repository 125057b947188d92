"""The figures of training runs: what they draw is what they were given."""

import math

import numpy as np
import pytest
from drawn import inner_legend, lines_of
from matplotlib.colors import to_hex

from alexnet_course import CourseError, plots


class TestCurves:
    def test_draws_each_series_from_its_start(self):
        (axes,) = plots.curves({"a": [3, 2, 1], "b": [4, 4]}, "x", "y", start=5, level=2.5, level_label="half").axes
        first, second, level = axes.lines
        assert list(first.get_xdata()) == [5, 6, 7]
        assert list(first.get_ydata()) == [3, 2, 1]
        assert list(second.get_xdata()) == [5, 6]
        assert list(level.get_ydata()) == [2.5, 2.5]
        assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b", "half"]

    def test_refuses_more_series_than_can_be_told_apart(self):
        with pytest.raises(CourseError, match="5 series"):
            plots.curves({key: [1.0] for key in "abcde"}, "x", "y")


def test_curves_name_a_series_that_is_not_measured():
    (axes,) = plots.curves({"ReLU": [3.0, 2.0], "tanh": []}, "epoch", "error").axes
    assert inner_legend(axes) == ["ReLU", "tanh: not measured"]
    assert axes.get_yticks().size
    (empty,) = plots.curves({"ReLU": [], "tanh": []}, "epoch", "error").axes
    assert inner_legend(empty) == ["ReLU: not measured", "tanh: not measured"]
    assert not empty.get_yticks().size
    assert [len(line.get_xdata()) for line in axes.lines] == [2, 0]


class TestLearningCurves:
    @staticmethod
    def history(epochs: int) -> list[dict[str, float]]:
        keys = ("train_loss", "val_loss", "train_accuracy", "val_accuracy")
        return [
            {"epoch": epoch, **{key: (number + 1) / (10 * epoch) for number, key in enumerate(keys)}}
            for epoch in range(1, epochs + 1)
        ]

    @pytest.mark.parametrize("epochs", [1, 5])
    def test_draws_losses_and_accuracies_of_both_parts(self, epochs):
        history = self.history(epochs)
        losses, accuracies = plots.learning_curves(history).axes
        for axes, figure, scale in ((losses, "loss", 1), (accuracies, "accuracy", 100)):
            drawn = {line.get_label(): line for line in axes.lines}
            assert set(drawn) == {"training", "validation"}
            for label, part in (("training", "train"), ("validation", "val")):
                assert list(drawn[label].get_xdata()) == list(range(1, epochs + 1))
                expected = [scale * entry[f"{part}_{figure}"] for entry in history]
                assert list(drawn[label].get_ydata()) == pytest.approx(expected)
        assert [text.get_text() for text in losses.get_legend().get_texts()] == ["training", "validation"]
        assert (losses.get_ylabel(), accuracies.get_ylabel()) == ("loss", "accuracy (%)")

    def test_tells_the_parts_apart_without_colour_and_counts_in_whole_epochs(self):
        for axes in plots.learning_curves(self.history(2)).axes:
            assert len({line.get_linestyle() for line in axes.lines}) == 2
            assert len({line.get_marker() for line in axes.lines}) == 2
            assert all(tick == int(tick) for tick in axes.get_xticks())


class TestRangeTestCurve:
    def test_draws_each_loss_their_mean_and_the_marks(self):
        points = [(10.0**-power, float(power)) for power in range(5, 0, -1)]
        (axes,) = plots.range_test_curve(points, {"chosen": 1e-3}).axes
        each, mean, mark = axes.lines
        assert each.get_ydata().tolist() == [5, 4, 3, 2, 1]
        assert list(mean.get_ydata()) == [3] * 5  # nine steps around any of the five are all five
        assert list(mark.get_xdata()) == [1e-3, 1e-3]
        assert axes.get_xscale() == "log"
        assert inner_legend(axes) == ["each step", "mean of nine steps", "chosen: 0.001"]
        assert axes.get_ylim()[1] == pytest.approx(5.25)

    def test_a_last_loss_beyond_measure_does_not_press_the_valley_flat(self):
        (axes,) = plots.range_test_curve([(1e-3, 2.0), (1e-2, 1.0), (1e-1, 50.0)]).axes
        assert axes.get_ylim() == pytest.approx((0.95, 2.8))


class TestLayerMaps:
    def test_draws_logarithms_on_one_scale_with_the_first_layer_below(self):
        panels = {"one": [[1.0, 0.01], [1.0, 0.001]], "other": [[10.0, math.nan], [0.0, 1.0]]}
        figure = plots.layer_maps(panels, ["low", "high"], "size", steps=[1, 11])
        first, second, bar = figure.axes
        images = [axes.images[0] for axes in (first, second)]
        assert np.allclose(images[0].get_array(), [[0, 0], [-2, -3]])
        assert images[0].get_clim() == images[1].get_clim() == (-3, 1)
        assert images[1].get_array().mask.tolist() == [[False, True], [True, False]]
        assert images[0].origin == "lower"
        assert images[0].get_extent() == [0.5, 11.5, -0.5, 1.5]
        assert [label.get_text() for label in first.get_yticklabels()] == ["low", "high"]
        assert [axes.get_title() for axes in (first, second)] == ["one", "other"]
        assert bar.get_ylabel() == "size"

    def test_a_single_power_of_ten_is_drawn_too(self):
        figure = plots.layer_maps({"one": [[1.0], [1.0]]}, ["only"], "size")
        assert figure.axes[0].images[0].get_clim() == (0, 1)

    def test_refuses_arrays_of_another_number_of_layers(self):
        with pytest.raises(CourseError, match=r"'one' as \(1, 2\) and 3 layers"):
            plots.layer_maps({"one": [[1.0, 2.0]]}, ["a", "b", "c"], "size")


class TestRateSweep:
    def test_puts_a_cross_at_the_top_where_a_run_broke_down(self):
        losses = {"plain": {0.1: math.nan, 0.01: 1.5, 1.0: 9.0}, "other": {0.1: 1.0}}
        (axes,) = plots.rate_sweep(losses, level=2.3, level_label="a guess").axes
        (kept,) = lines_of(axes, "o")
        assert (list(kept.get_xdata()), list(kept.get_ydata())) == ([0.01], [1.5])
        crosses = [line for line in lines_of(axes, "x") if to_hex(line.get_color()) == plots.BLUE.lower()]
        assert [list(line.get_xdata()) for line in crosses] == [[0.1, 1.0]]
        assert min(crosses[0].get_ydata()) > 2.3
        assert axes.get_xscale() == "log"
        assert [text.get_text() for text in axes.get_legend().get_texts()] == [
            "plain",
            "other",
            "a guess",
            "broke down",
        ]

    def test_refuses_more_networks_than_styles(self):
        with pytest.raises(CourseError, match="5 networks"):
            plots.rate_sweep({str(number): {0.1: 1.0} for number in range(5)}, 2.3, "a guess")
