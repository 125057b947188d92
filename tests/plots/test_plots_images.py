"""Rows of images: what they show is what they were given."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from torchvision.transforms import FiveCrop

from alexnet_course import CourseError, plots


class TestImageRow:
    def test_shows_every_image_in_rows(self):
        images = torch.arange(7 * 3 * 4 * 4).reshape(7, 3, 4, 4).to(torch.uint8)
        figure = plots.image_row(images, titles=list("abcdefg"), columns=5)
        shown = [axes for axes in figure.axes if axes.images]
        assert len(figure.axes) == 10
        assert [axes.get_title() for axes in shown] == list("abcdefg")
        assert torch.equal(torch.tensor(shown[3].images[0].get_array() * 255).round(), images[3].permute(1, 2, 0))

    def test_clips_floats_and_takes_grey_images(self):
        (axes,) = plots.image_row(torch.tensor([-1.0, 0.5, 2.0, 1.0]).reshape(1, 1, 2, 2)).axes
        assert axes.images[0].get_array().tolist() == [[0.0, 0.5], [1.0, 1.0]]

    @pytest.mark.parametrize("shape", [(3, 4, 4), (1, 2, 4, 4)])
    def test_refuses_what_is_not_a_image(self, shape):
        with pytest.raises(CourseError, match="N×C×H×W"):
            plots.image_row(torch.zeros(shape))

    def test_refuses_a_wrong_number_of_titles(self):
        with pytest.raises(CourseError, match="2 images and 1 titles"):
            plots.image_row(torch.zeros(2, 3, 4, 4), titles=["one"])


class TestKernelRows:
    def test_shows_every_kernel_around_grey_and_scaled_by_its_largest_weight(self):
        kernels = torch.arange(-9.0, 9.0).reshape(6, 3, 1, 1) * torch.ones(1, 1, 2, 2)
        figure = plots.kernel_rows({"before": kernels, "after": kernels[:4]}, columns=4)
        first, second = figure.axes
        assert [axes.get_title() for axes in (first, second)] == ["before", "after"]
        shown = first.images[0].get_array()
        assert shown.shape == (2 * 3 - 1, 4 * 3 - 1, 3)
        assert second.images[0].get_array().shape == (2, 11, 3)
        assert shown[0, 0].tolist() == pytest.approx([0.0, 0.5 - 8 / 18, 0.5 - 7 / 18])
        assert shown[3, 3].tolist() == pytest.approx([0.5 + 6 / 16, 0.5 + 7 / 16, 1.0])
        assert (shown[2] == 1).all()  # the gap

    def test_refuses_kernels_without_three_colours(self):
        with pytest.raises(CourseError, match=r"shape \(4, 1, 3, 3\) for grey; give N×3×k×k"):
            plots.kernel_rows({"grey": torch.zeros(4, 1, 3, 3)})


class TestCropBoxes:
    def test_are_torchvision_s_five_crops(self):
        image = torch.arange(3 * 9 * 12).reshape(3, 9, 12).to(torch.uint8)
        (axes,) = plots.crop_boxes(image, size=6).axes
        crops = []
        for box in axes.patches:
            left, top = round(box.get_x() + 0.5), round(box.get_y() + 0.5)
            crops.append(image[:, top : top + round(box.get_height()), left : left + round(box.get_width())])
        assert torch.equal(torch.stack(crops), torch.stack(FiveCrop(6)(image)))

    def test_refuses_a_crop_larger_than_the_image(self):
        with pytest.raises(CourseError, match="33 pixels does not fit a 32×32 image"):
            plots.crop_boxes(torch.zeros(3, 32, 32), size=33)


class TestImageTable:
    def test_shows_each_row_under_its_label(self):
        ramp = np.arange(2 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 3, 4, 4)
        figure = plots.image_table({"two": ramp, "one": np.full((1, 1, 4, 4), 0.5)})
        shown = [axes for axes in figure.axes if axes.images]
        assert [line.get_suptitle() for line in figure.subfigs] == ["two", "one"]
        assert [axes.figure for axes in shown] == [figure.subfigs[0]] * 2 + [figure.subfigs[1]]
        assert np.allclose(shown[1].images[0].get_array(), ramp[1].transpose(1, 2, 0) / 255)
        assert np.allclose(shown[2].images[0].get_array(), 0.5)

    def test_draws_the_boxes(self):
        figure = plots.image_table({"a": np.zeros((1, 3, 8, 8))}, {"a": [(1, 2, 3, 4)]})
        frames = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
        assert {(box.get_x(), box.get_y(), box.get_width(), box.get_height()) for box in frames} == {(1.5, 0.5, 4, 3)}

    def test_refuses_what_are_no_images(self):
        with pytest.raises(CourseError, match=r"\(8, 8\) for 'a'"):
            plots.image_table({"a": np.zeros((8, 8))})


def test_the_frames_are_seen_on_every_ground():
    figure = plots.image_table({"a": np.zeros((1, 1, 8, 8))}, {"a": [(1, 1, 3, 3)]})
    colours = [to_hex(patch.get_edgecolor()) for patch in figure.axes[0].patches]
    assert colours == ["#ffffff", plots.ORANGE.lower()]


class TestEvidenceMap:
    def test_shows_the_image_and_the_evidence_stretched_over_it(self):
        image = torch.arange(3 * 8 * 12).reshape(3, 8, 12).to(torch.uint8)
        figure = plots.evidence_map(image, [[0.0, 1.0], [4.0, 2.0]], ("$a", "b"))
        left, right = figure.axes
        assert (left.get_title(), right.get_title()) == (r"\$a", "b")
        assert torch.equal(torch.tensor(left.images[0].get_array() * 255).round(), image.permute(1, 2, 0))
        grey, heat = right.images
        assert np.allclose(grey.get_array() * 255, image.float().mean(0))
        assert heat.get_array().tolist() == [[0.0, 0.25], [1.0, 0.5]]
        assert heat.get_extent() == [-0.5, 11.5, 7.5, -0.5]  # that of the image, with its first row on top

    def test_takes_grey_images_and_no_evidence(self):
        _, right = plots.evidence_map(np.full((1, 4, 4), 0.5), np.zeros((2, 2))).axes
        assert right.images[1].get_array().tolist() == [[0.0, 0.0], [0.0, 0.0]]

    @pytest.mark.parametrize(("image", "evidence"), [((2, 4, 4), (2, 2)), ((4, 4), (2, 2)), ((3, 4, 4), (1, 2, 2))])
    def test_refuses_what_is_neither(self, image, evidence):
        with pytest.raises(CourseError, match="give C×H×W with C = 1 or 3, and h×w"):
            plots.evidence_map(np.zeros(image), np.zeros(evidence))
