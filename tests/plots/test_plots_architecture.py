"""The figures of whole networks: what they draw is what they were given."""

import pytest
from drawn import texts
from matplotlib.colors import to_hex
from matplotlib.patches import FancyArrowPatch

from alexnet_course import CourseError, plots


class TestConnectionDiagram:
    def test_arrows_cross_where_there_is_one_group(self):
        figure = plots.connection_diagram(groups=[2, 1], channels=[96, 256, 384], names=["one", "two", "three"])
        arrows = [patch for patch in figure.axes[0].patches if isinstance(patch, FancyArrowPatch)]
        assert len(arrows) == 2 + 4
        crossing = [arrow for arrow in arrows if to_hex(arrow.get_edgecolor()) == plots.PINK.lower()]
        assert len(crossing) == 2
        assert texts(figure) == ["48", "GPU 1", "48", "GPU 2", "one", "128", "128", "two", "192", "192", "three"]

    def test_refuses_what_does_not_fit_together(self):
        with pytest.raises(CourseError, match="2 steps, 2 layers and 2 names"):
            plots.connection_diagram(groups=[2, 1], channels=[96, 256], names=["one", "two"])


def test_shares_are_percent_of_each_total():
    (axes,) = plots.shares(["one", "two"], {"a": [1, 3], "b": [5, 0]}).axes
    assert [bar.get_width() for bar in axes.patches] == [25, 75, 100, 0]
    assert texts(axes.figure) == ["25.0", "75.0", "100.0", "0.0"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["one", "two"]


class TestLayerColumns:
    COLUMNS = {"small": ["convolution 5×5", "linear 10"], "large": ["convolution 3×3", "pooling 2×2", "linear 20"]}  # noqa: RUF012

    def test_each_column_has_its_layers_from_the_bottom_to_the_top(self):
        (axes,) = plots.layer_columns(self.COLUMNS).axes
        assert texts(axes.figure) == ["convolution 5×5", "linear 10", "small", *self.COLUMNS["large"], "large"]
        rows = [(box.get_x() // 1, box.get_y() // 1) for box in axes.patches]
        assert rows == [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]

    def test_layers_of_one_kind_have_one_colour(self):
        (axes,) = plots.layer_columns(self.COLUMNS).axes
        colours = [box.get_edgecolor() for box in axes.patches]
        assert colours[0] == colours[2]
        assert colours[1] == colours[4]
        assert len(set(colours)) == 3

    def test_refuses_more_kinds_than_colours(self):
        with pytest.raises(CourseError, match="got 8 kinds of layers, but has 7 colours"):
            plots.layer_columns({"many": [f"kind{number}" for number in range(8)]})
