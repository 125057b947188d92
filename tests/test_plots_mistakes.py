"""The figure of the page on mistakes."""

import matplotlib.pyplot as plt
import pytest
from matplotlib.colors import to_hex

from alexnet_course import CourseError, plots

ROWS = [
    {"name": "first", "kind": "training", "mean": -20.0, "low": -31.0, "high": -5.0},
    {"name": "second", "kind": "measuring", "mean": 2.0, "low": 1.0, "high": 3.5},
    {"name": "third", "kind": "training", "mean": 0.04, "low": -0.5, "high": 0.5},
]


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


class TestMeasuredEffects:
    def test_draws_mean_and_range_of_every_row_from_top_to_bottom(self):
        (axes,) = plots.measured_effects(ROWS, "points").axes
        dots = {(x, y) for line in axes.lines if line.get_marker() == "o" for x, y in line.get_xydata().tolist()}
        assert dots == {(-20.0, 0), (2.0, 1), (0.04, 2)}
        ranges = {
            (segment[0][1], segment[0][0], segment[1][0])
            for lines in axes.collections
            for segment in lines.get_segments()
        }
        assert ranges == {(0, -31.0, -5.0), (1, 1.0, 3.5), (2, -0.5, 0.5)}
        assert [label.get_text() for label in axes.get_yticklabels()] == ["first", "second", "third"]
        assert axes.yaxis_inverted()
        assert axes.get_xlabel() == "points"

    def test_writes_the_means(self):
        (axes,) = plots.measured_effects(ROWS, "points").axes
        assert [text.get_text() for text in axes.texts] == ["−20.0", "+2.0", "+0.0"]

    def test_gives_each_kind_a_colour_and_names_it(self):
        figure = plots.measured_effects(ROWS, "points")
        (axes,) = figure.axes
        colours = {line.get_label(): to_hex(line.get_color()) for line in axes.lines if line.get_marker() == "o"}
        assert colours == {"training": plots.BLUE.lower(), "measuring": plots.ORANGE.lower()}
        (legend,) = figure.legends
        assert [text.get_text() for text in legend.get_texts()] == ["training", "measuring"]

    def test_scale_reaches_as_far_as_the_ranges(self):
        (axes,) = plots.measured_effects(ROWS, "points").axes
        assert [label.get_text() for label in axes.get_xticklabels()] == [
            "−30", "−10", "−3", "−1", "0", "1", "3",
        ]  # fmt: skip
        (axes,) = plots.measured_effects(ROWS[2:], "points").axes
        assert [label.get_text() for label in axes.get_xticklabels()] == ["−1", "0", "1"]

    def test_refuses_more_kinds_than_colours(self):
        rows = [{**ROWS[0], "kind": str(number)} for number in range(len(plots.PALETTE) + 1)]
        with pytest.raises(CourseError, match="got 8 kinds"):
            plots.measured_effects(rows, "points")
