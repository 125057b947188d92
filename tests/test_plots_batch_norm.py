"""The figures of chapter 4: what they draw is what they were given."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex

from alexnet_course import CourseError, plots


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def lines_of(axes, marker):
    return [line for line in axes.lines if line.get_marker() == marker]


class TestDiary:
    def test_draws_each_source_where_it_has_something(self):
        figure = plots.diary(
            ["first", "second", "third"],
            {"theirs": [[80.0], [70.0], [90.0]], "ours": [[85.0, 84.0, 86.0], None, None], "nobody's": [None] * 3},
        )
        (axes,) = figure.axes
        assert [label.get_text() for label in axes.get_yticklabels()] == ["first", "second", "third"]
        (path,) = [line for line in axes.lines if line.get_linestyle() == ":"]
        assert list(path.get_xdata()) == [80, 70, 90]
        (ours,) = lines_of(axes, "s")
        assert list(ours.get_xdata()) == [85]
        (interval,) = [line for line in axes.lines if list(line.get_xdata()) == [84, 86]]
        assert interval.get_ydata()[0] == ours.get_ydata()[0]
        assert sorted(text.get_text() for text in axes.texts) == ["70.0", "80.0", "85.0", "90.0"]
        (legend,) = figure.legends
        assert [text.get_text() for text in legend.get_texts()] == ["theirs", "ours", "nobody's: none yet"]
        assert axes.yaxis_inverted()  # time runs downwards

    def test_refuses_more_sources_than_markers(self):
        with pytest.raises(CourseError, match="5 sources"):
            plots.diary(["one"], {str(number): [[1.0]] for number in range(5)})


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


class TestAccuracyByCount:
    def test_draws_means_seeds_and_their_range(self):
        (axes,) = plots.accuracy_by_count((10, 100), {"one": [[0.4, 0.6], [0.9]], "other": [[0.5], [0.7]]}).axes
        means = [
            list(line.get_ydata()) for line in axes.lines if len(line.get_xdata()) == 2 and line.get_label()[0] != "_"
        ]
        assert means == [[50, 90], [50, 70]]
        (seeds,) = [line for line in axes.lines if sorted(np.round(line.get_ydata(), 6)) == [40, 60]]
        assert np.allclose(seeds.get_xdata(), 10, rtol=0.05)
        band = axes.collections[0].get_paths()[0].vertices
        assert (round(band[:, 1].min(), 6), round(band[:, 1].max(), 6)) == (40, 90)
        assert [label.get_text() for label in axes.get_xticklabels()] == ["10", "100"]

    def test_refuses_more_ways_than_styles(self):
        with pytest.raises(CourseError, match="5 ways"):
            plots.accuracy_by_count((10,), {str(number): [[1.0]] for number in range(5)})
