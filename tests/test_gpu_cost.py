"""What a chapter is said to cost on a GPU follows from the runs that it makes, and gives way to a measurement."""

import json
from pathlib import Path

import full_profile
import pytest
from full_profile import cost

BOOK = Path(__file__).resolve().parents[1] / "book"
RUN = {
    "runs": 2, "epochs": 10, "training": 1000, "validation": 500, "network": "x", "batch_size": 100,
    "image_bytes": 10_000_000, "parameters": 1_000_000, "mult_adds": 50_000_000, "activation_bytes": 4_000_000,
}  # fmt: skip


@pytest.fixture
def book(tmp_path):
    (tmp_path / "full_profile.json").write_text(json.dumps({"one": [RUN], "two": [RUN, RUN | {"batch_size": 10_000}]}))
    return tmp_path


def test_an_estimate_is_said_to_be_one_and_from_what():
    assert full_profile.mult_adds([RUN]) == 2 * 10 * (3 * 1000 + 500) * 50_000_000
    assert full_profile.steps([RUN]) == 2 * 10 * 10
    assert full_profile.seconds([RUN]) == pytest.approx(7e12 / (65e12 / 8) + 200 * 0.003)
    assert full_profile.peak_bytes([RUN]) == 10_000_000 + 16_000_000 + 200_000_000


def test_the_sentence(book):
    assert cost(book, "one") == (
        "Training on CIFAR-10 takes less than a minute on Colab's T4, and up to 1 GB of its memory. This is "
        "estimated, not measured: 4 trillion multiply-adds at 1/8 of the GPU's peak, and 200 training steps, each of "
        "which takes 3 ms to launch."
    )
    assert "up to 21 GB" in cost(book, "two")  # the largest run counts
    assert cost(book, "three") == cost(book / "nowhere", "one") == ""


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(59, "less than a minute"), (60, "about 1 minute"), (100, "about 2 minutes"), (5400, "about 90 minutes"),
     (9000, "about 2.5 hours")],
)  # fmt: skip
def test_a_measurement_takes_its_place(book, seconds, said):
    chapters = {"one": {"seconds": seconds, "peak_bytes": 1_500_000_000}}
    (book / "gpu.json").write_text(json.dumps({"device": "Tesla T4", "torch": "2.8.0", "chapters": chapters}))
    assert cost(book, "one") == (
        f"All cells together, with CIFAR-10: {said} and up to 2 GB of its memory, measured on Tesla T4 with PyTorch "
        "2.8.0."
    )
    assert "estimated" in cost(book, "two")


def test_every_chapter_that_trains_in_full_says_so_on_its_page():
    chapters = json.loads((BOOK / "full_profile.json").read_text(encoding="utf-8"))
    assert len(chapters) >= 5
    for name in chapters:
        notebook = (BOOK.parent / "colab" / f"{name}.ipynb").read_text(encoding="utf-8")
        assert json.dumps(cost(BOOK, name).replace("'", "’"), ensure_ascii=False)[1:-1] in notebook
