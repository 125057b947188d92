"""The figures of what a computer does in training."""

import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from alexnet_course import CourseError, plots


class TestNumberFlow:
    def test_draws_a_box_a_tensor_in_the_colour_of_its_format(self):
        stages = [("", (2, 3, 4), "uint8"), ("cast", (2, 3, 4), "bfloat16"), ("loss", (), "float32")]
        (axes,) = plots.number_flow(stages).axes
        boxes = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
        assert [to_hex(box.get_facecolor()) for box in boxes] == [
            colour.lower() for colour in (plots.GREY, plots.ORANGE, plots.BLUE)
        ]
        written = [text.get_text() for text in axes.texts]
        assert written == [
            "2×3×4  uint8", "24 B",
            "2×3×4  bfloat16", "48 B", "cast",
            "one number  float32", "4 B", "loss",
        ]  # fmt: skip

    def test_refuses_a_format_that_it_has_no_colour_for(self):
        with pytest.raises(CourseError, match="'int64'"):
            plots.number_flow([("", (2,), "int64")])


@pytest.mark.parametrize(
    ("count", "text"),
    [(4, "4 B"), (999, "999 B"), (999.7, "1 kB"), (196_608, "197 kB"), (684_279_672, "684 MB"), (2.5e9, "2.5 GB")],
)
def test_byte_count(count, text):
    assert plots.byte_count(count) == text


class TestQueueTimeline:
    def lanes(self, axes) -> dict[str, list[tuple[float, float]]]:
        spans = [(bar.get_y() + bar.get_height() / 2, bar.get_x(), bar.get_width()) for bar in axes.patches]
        return {
            name: [(left, left + width) for lane, left, width in spans if round(lane) == number]
            for name, number in (("CPU", 1), ("GPU", 0))
        }

    def test_reading_back_makes_each_wait_for_the_other(self):
        waiting, flowing = plots.queue_timeline(queueing=2, computing=5, steps=3).axes
        assert self.lanes(waiting) == {"CPU": [(0, 2), (7, 9), (14, 16)], "GPU": [(2, 7), (9, 14), (16, 21)]}
        assert self.lanes(flowing) == {"CPU": [(0, 2), (2, 4), (4, 6)], "GPU": [(2, 7), (7, 12), (12, 17)]}
        assert waiting.get_title(loc="left") == "read back after each step: 21 units"
        assert flowing.get_title(loc="left") == "read back once, at the end: 17 units"

    def test_a_slow_cpu_is_waited_for_either_way(self):
        waiting, flowing = plots.queue_timeline(queueing=5, computing=2, steps=3).axes
        assert self.lanes(waiting)["GPU"][-1][1] == 21
        assert self.lanes(flowing)["GPU"][-1][1] == 17
