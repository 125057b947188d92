"""The figures of accuracies: they show what they were given, and say where nothing is measured."""

import numpy as np
import pytest
from drawn import inner_legend, lines_of, texts, written
from matplotlib.colors import to_hex

from alexnet_course import CourseError, plots


class TestErrorByYear:
    entries = (
        {"year": 2011, "team": "A", "error": 25.8, "deep": False},
        {"year": 2012, "team": "B", "error": 15.3, "deep": True},
    )

    def test_draws_a_bar_an_entry_in_the_colour_of_its_kind(self):
        (axes,) = plots.error_by_year(self.entries, human_error=5.1).axes
        bars = [bar for bar in axes.patches if bar.get_height() > 0]
        assert [bar.get_height() for bar in bars] == [25.8, 15.3]
        assert [to_hex(bar.get_facecolor()) for bar in bars] == [plots.GREY.lower(), plots.ORANGE.lower()]
        assert [label.get_text() for label in axes.get_xticklabels()] == ["A ’11", "B ’12"]

    def test_draws_the_human_line_only_where_there_is_one(self):
        with_line, without = plots.error_by_year(self.entries, 5.1), plots.error_by_year(self.entries)
        assert list(with_line.axes[0].lines[0].get_ydata()) == [5.1, 5.1]
        assert "one person: 5.1" in texts(with_line)
        assert not without.axes[0].lines


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
        assert inner_legend(axes) == ["published", "measured here"]


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


class TestTwoAccuracies:
    def test_draws_the_pairs_and_the_line_of_equals(self):
        (axes,) = plots.two_accuracies({"long": [(80.0, 79.0), (90.0, 91.0)], "evening": []}, "x", "y").axes
        equal, long, _ = axes.lines
        assert list(equal.get_xdata()) == list(equal.get_ydata()) == [77.0, 93.0]
        assert list(zip(long.get_xdata(), long.get_ydata(), strict=True)) == [(80.0, 79.0), (90.0, 91.0)]
        assert inner_legend(axes) == ["equal", "long", "evening: not measured"]

    def test_of_nothing_is_an_empty_square(self):
        (axes,) = plots.two_accuracies({"long": []}, "x", "y").axes
        assert axes.get_xlim() == axes.get_ylim() == (-2.0, 102.0)


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


ROWS = [
    {"name": "first", "kind": "training", "mean": -20.0, "low": -31.0, "high": -5.0},
    {"name": "second", "kind": "measuring", "mean": 2.0, "low": 1.0, "high": 3.5},
    {"name": "third", "kind": "training", "mean": 0.04, "low": -0.5, "high": 0.5},
]


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
