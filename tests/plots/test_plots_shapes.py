"""The figures of shapes: what they draw is what they were given."""

import pytest
import torch
from drawn import texts
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from alexnet_course import CourseError, plots
from alexnet_course.models import MODELS, build_model
from alexnet_course.shapes import Layer, layer_table


@pytest.fixture(scope="module")
def tables() -> dict[str, tuple[int, list[Layer]]]:
    """Input size and layer table of two networks."""
    with torch.device("meta"):
        networks = {name: build_model(name) for name in ("alexnet-2012", "alexnet-cifar-3x3")}
    sizes = {name: MODELS[name].input_size for name in networks}
    return {name: (sizes[name][-1], layer_table(network, sizes[name])) for name, network in networks.items()}


class TestPoolingWindows:
    @pytest.mark.parametrize(("kernel", "unseen", "twice"), [(2, [12], []), (3, [], [2, 4, 6, 8, 10])])
    def test_shades_pixels_by_how_often_they_are_seen(self, kernel, unseen, twice):
        (axes,) = plots.pooling_windows(13, [(kernel, 2)]).axes
        shades = [to_hex(box.get_facecolor()) for box in axes.patches]
        assert [pixel for pixel, shade in enumerate(shades) if shade == "#ffffff"] == unseen
        assert [pixel for pixel, shade in enumerate(shades) if shade == plots.SKY.lower()] == twice
        assert len(axes.lines) == 6
        assert axes.get_title(loc="left") == f"kernel {kernel}, stride 2: 6 windows over 13 pixels"


class TestKernelPositions:
    @staticmethod
    def coloured(figure: Figure, colour: str) -> list[tuple[int, int]]:
        """(row, pixel) of the boxes of that colour."""
        return [
            (round(box.get_y() - 0.1), round(box.get_x() - 0.05))
            for box in figure.axes[0].patches
            if to_hex(box.get_facecolor()).lower() == colour.lower()
        ]

    def test_draws_the_kernel_at_each_position(self):
        figure = plots.kernel_positions(size=7, kernel=3, stride=2, padding=1)
        expected = [(row, 2 * row - 1 + tap) for row in range(4) for tap in range(3)]
        assert sorted(self.coloured(figure, plots.BLUE)) == expected

    def test_draws_dilation(self):
        figure = plots.kernel_positions(size=5, kernel=3, dilation=2)
        assert self.coloured(figure, plots.BLUE) == [(0, 0), (0, 2), (0, 4)]

    def test_marks_pixels_that_the_floor_drops(self):
        figure = plots.kernel_positions(size=8, kernel=3, stride=2)
        assert self.coloured(figure, plots.ORANGE) == [(row, 7) for row in range(3)]
        legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        assert legend == ["kernel", "image", "never seen"]

    def test_refuses_a_kernel_that_does_not_fit(self):
        with pytest.raises(CourseError, match="5 pixels"):
            plots.kernel_positions(size=3, kernel=5)


class TestShrinkingImages:
    def test_spatial_sizes(self, tables):
        assert plots.spatial_sizes(*tables["alexnet-2012"]) == [227, 55, 27, 13, 6]
        assert plots.spatial_sizes(*tables["alexnet-cifar-3x3"]) == [32, 34, 16, 7, 3, 6]

    def test_squares_are_in_proportion(self, tables):
        figure = plots.shrinking_images(tables)
        first = figure.axes[0]
        assert [text.get_text() for text in first.texts] == ["227", "55", "27", "13", "6"]
        sides = [square.get_width() for square in first.patches]
        assert sides == pytest.approx([size / 227 for size in (227, 55, 27, 13, 6)])
        assert [axes.get_title(loc="left") for axes in figure.axes] == list(tables)


class TestReceptiveFieldBoxes:
    image = torch.full((3, 32, 32), 128, dtype=torch.uint8)

    def test_boxes_are_as_wide_as_the_receptive_fields(self, tables):
        first, second = plots.receptive_field_boxes(self.image, tables).axes
        frame = 227
        assert [box.get_width() for box in first.patches] == [11, 19, 51, 67, 99, 131, 163, 195, frame]
        frame = 32
        assert [box.get_width() for box in second.patches] == [3, 5, 13, 17, 25, 33, 41, 49, frame]

    def test_boxes_share_the_middle_of_the_image(self, tables):
        for axes, (size, _) in zip(plots.receptive_field_boxes(self.image, tables).axes, tables.values(), strict=True):
            assert {box.get_x() + box.get_width() / 2 for box in axes.patches} == {size / 2}

    def test_leaves_out_boxes_far_beyond_the_image(self, tables):
        _, layers = tables["alexnet-cifar-3x3"]
        axes, _ = plots.receptive_field_boxes(self.image, {"tiny": (16, layers)}).axes
        assert max(box.get_width() for box in axes.patches) == 25

    def test_labels_name_layer_and_width(self, tables):
        written = texts(plots.receptive_field_boxes(self.image, tables))
        assert "conv2: 51" in written
        assert "conv2: 13" in written


class TestStackedKernels:
    def test_says_what_each_stack_sees(self):
        figure = plots.stacked_kernels([[5], [3, 3], [3, 3, 3]])
        titles = [axes.get_title() for axes in figure.axes]
        assert titles == ["5×5: sees 5", "3×3, 3×3: sees 5", "3×3, 3×3, 3×3: sees 7", ""]

    def test_draws_one_cell_for_each_unit(self):
        (axes, _) = plots.stacked_kernels([[3, 3]]).axes
        cells = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
        assert len(cells) == 1 + 3 + 5
