"""The shared figures: what they draw is what they were given."""

from collections.abc import Iterator

import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from torchvision.transforms import FiveCrop

from alexnet_course import plots
from alexnet_course.errors import CourseError
from alexnet_course.models import MODELS, build_model
from alexnet_course.shapes import Layer, layer_table


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def texts(figure: Figure) -> list[str]:
    """Everything that is written inside the panels, titles left out."""
    return [text.get_text() for axes in figure.axes for text in axes.texts]


@pytest.fixture(scope="module")
def tables() -> dict[str, tuple[int, list[Layer]]]:
    """Input size and layer table of two networks."""
    with torch.device("meta"):
        networks = {name: build_model(name) for name in ("alexnet-2012", "alexnet-cifar-3x3")}
    sizes = {name: MODELS[name].input_size for name in networks}
    return {name: (sizes[name][-1], layer_table(network, sizes[name])) for name, network in networks.items()}


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
        assert legend == ["kernel", "picture", "never seen"]

    def test_refuses_a_kernel_that_does_not_fit(self):
        with pytest.raises(CourseError, match="5 pixels"):
            plots.kernel_positions(size=3, kernel=5)


class TestStackedKernels:
    def test_says_what_each_stack_sees(self):
        figure = plots.stacked_kernels([[5], [3, 3], [3, 3, 3]])
        titles = [axes.get_title() for axes in figure.axes]
        assert titles == ["5×5: sees 5", "3×3, 3×3: sees 5", "3×3, 3×3, 3×3: sees 7", ""]

    def test_draws_one_cell_for_each_unit(self):
        (axes, _) = plots.stacked_kernels([[3, 3]]).axes
        cells = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
        assert len(cells) == 1 + 3 + 5


class TestShrinkingPictures:
    def test_spatial_sizes(self, tables):
        assert plots.spatial_sizes(*tables["alexnet-2012"]) == [227, 55, 27, 13, 6]
        assert plots.spatial_sizes(*tables["alexnet-cifar-3x3"]) == [32, 34, 16, 7, 3, 6]

    def test_squares_are_in_proportion(self, tables):
        figure = plots.shrinking_pictures(tables)
        first = figure.axes[0]
        assert [text.get_text() for text in first.texts] == ["227", "55", "27", "13", "6"]
        sides = [square.get_width() for square in first.patches]
        assert sides == pytest.approx([size / 227 for size in (227, 55, 27, 13, 6)])
        assert [axes.get_title(loc="left") for axes in figure.axes] == list(tables)


def test_layer_labels_count_by_kind(tables):
    _, layers = tables["alexnet-cifar-3x3"]
    labels = [label for label in plots.layer_labels(layers) if label.startswith(("conv", "pool", "fc"))]
    assert labels == ["conv1", "pool1", "conv2", "pool2", "conv3", "conv4", "conv5", "pool3", "fc1", "fc2", "fc3"]


class TestReceptiveFieldBoxes:
    picture = torch.full((3, 32, 32), 128, dtype=torch.uint8)

    def test_boxes_are_as_wide_as_the_receptive_fields(self, tables):
        first, second = plots.receptive_field_boxes(self.picture, tables).axes
        frame = 227
        assert [box.get_width() for box in first.patches] == [11, 19, 51, 67, 99, 131, 163, 195, frame]
        frame = 32
        assert [box.get_width() for box in second.patches] == [3, 5, 13, 17, 25, 33, 41, 49, frame]

    def test_boxes_share_the_middle_of_the_picture(self, tables):
        for axes, (size, _) in zip(
            plots.receptive_field_boxes(self.picture, tables).axes, tables.values(), strict=True
        ):
            assert {box.get_x() + box.get_width() / 2 for box in axes.patches} == {size / 2}

    def test_leaves_out_boxes_far_beyond_the_picture(self, tables):
        _, layers = tables["alexnet-cifar-3x3"]
        axes, _ = plots.receptive_field_boxes(self.picture, {"tiny": (16, layers)}).axes
        assert max(box.get_width() for box in axes.patches) == 25

    def test_labels_name_layer_and_width(self, tables):
        written = texts(plots.receptive_field_boxes(self.picture, tables))
        assert "conv2: 51" in written
        assert "conv2: 13" in written


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


class TestPictureRow:
    def test_shows_every_picture_in_rows(self):
        pictures = torch.arange(7 * 3 * 4 * 4).reshape(7, 3, 4, 4).to(torch.uint8)
        figure = plots.picture_row(pictures, titles=list("abcdefg"), columns=5)
        shown = [axes for axes in figure.axes if axes.images]
        assert len(figure.axes) == 10
        assert [axes.get_title() for axes in shown] == list("abcdefg")
        assert torch.equal(torch.tensor(shown[3].images[0].get_array() * 255).round(), pictures[3].permute(1, 2, 0))

    def test_clips_floats_and_takes_grey_pictures(self):
        (axes,) = plots.picture_row(torch.tensor([-1.0, 0.5, 2.0, 1.0]).reshape(1, 1, 2, 2)).axes
        assert axes.images[0].get_array().tolist() == [[0.0, 0.5], [1.0, 1.0]]

    @pytest.mark.parametrize("shape", [(3, 4, 4), (1, 2, 4, 4)])
    def test_refuses_what_is_not_a_picture(self, shape):
        with pytest.raises(CourseError, match="N×C×H×W"):
            plots.picture_row(torch.zeros(shape))

    def test_refuses_a_wrong_number_of_titles(self):
        with pytest.raises(CourseError, match="2 pictures and 1 titles"):
            plots.picture_row(torch.zeros(2, 3, 4, 4), titles=["one"])


class TestPoolingWindows:
    @pytest.mark.parametrize(("kernel", "unseen", "twice"), [(2, [12], []), (3, [], [2, 4, 6, 8, 10])])
    def test_shades_pixels_by_how_often_they_are_seen(self, kernel, unseen, twice):
        (axes,) = plots.pooling_windows(13, [(kernel, 2)]).axes
        shades = [to_hex(box.get_facecolor()) for box in axes.patches]
        assert [pixel for pixel, shade in enumerate(shades) if shade == "#ffffff"] == unseen
        assert [pixel for pixel, shade in enumerate(shades) if shade == plots.SKY.lower()] == twice
        assert len(axes.lines) == 6
        assert axes.get_title(loc="left") == f"kernel {kernel}, stride 2: 6 windows over 13 pixels"


class TestCropBoxes:
    def test_are_torchvision_s_five_crops(self):
        picture = torch.arange(3 * 9 * 12).reshape(3, 9, 12).to(torch.uint8)
        (axes,) = plots.crop_boxes(picture, size=6).axes
        crops = []
        for box in axes.patches:
            left, top = round(box.get_x() + 0.5), round(box.get_y() + 0.5)
            crops.append(picture[:, top : top + round(box.get_height()), left : left + round(box.get_width())])
        assert torch.equal(torch.stack(crops), torch.stack(FiveCrop(6)(picture)))

    def test_refuses_a_crop_larger_than_the_picture(self):
        with pytest.raises(CourseError, match="33 pixels does not fit a 32×32 picture"):
            plots.crop_boxes(torch.zeros(3, 32, 32), size=33)


def test_shares_are_percent_of_each_total():
    (axes,) = plots.shares(["one", "two"], {"a": [1, 3], "b": [5, 0]}).axes
    assert [bar.get_width() for bar in axes.patches] == [25, 75, 100, 0]
    assert texts(axes.figure) == ["25.0", "75.0", "100.0", "0.0"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["one", "two"]


def test_style_is_white_and_readable():
    with plt.rc_context():
        plots.use_style()
        assert plt.rcParams["figure.facecolor"] == plt.rcParams["axes.facecolor"] == "white"
        assert min(plt.rcParams[f"{axis}tick.labelsize"] for axis in "xy") >= 10
        assert plt.rcParams["axes.prop_cycle"].by_key()["color"] == list(plots.PALETTE)


class TestLearningCurves:
    @staticmethod
    def history(epochs: int) -> list[dict[str, float]]:
        keys = ("train_loss", "val_loss", "train_accuracy", "val_accuracy")
        return [
            {"epoch": epoch, **{key: (place + 1) / (10 * epoch) for place, key in enumerate(keys)}}
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
