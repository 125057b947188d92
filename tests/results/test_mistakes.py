"""What the ten mistakes cost on CIFAR-10: the file that comes with the package, and how its rows are read."""

import json

import pytest

from alexnet_course import load_pretrained
from alexnet_course.errors import CourseError
from alexnet_course.results.compare import paired_over_seeds
from alexnet_course.results.mistakes import MISTAKES_FILE, Mistake, load_mistakes


def test_the_measurements_are_of_the_weights_and_images_that_the_package_names():
    found = load_mistakes()
    _, record = load_pretrained(found.weights)
    assert found.test_fingerprint == record.dataset.test_fingerprint
    assert found.accuracy == pytest.approx(100 * record.test_accuracy, abs=0.05)
    assert {row.kind for row in found.rows} == {"measuring", "training"}
    assert all(row.right == (found.accuracy,) * len(row.right) for row in found.rows if row.kind == "measuring")


def test_a_mistake_in_training_has_the_paired_interval_over_its_seeds():
    row = Mistake("a", "b", "training", (80.0, 82.0, 84.0), (79.6, 81.1, 82.7))
    assert row.differences == pytest.approx([-0.4, -0.9, -1.3])
    assert row.points == pytest.approx(-2.6 / 3)
    assert row.chance == paired_over_seeds(row.right, row.wrong).chance > abs(row.points)
    assert not row.seen


def test_a_mistake_in_measuring_has_the_interval_of_the_images_or_none():
    assert Mistake("a", "b", "measuring", (80.0,), (79.0,), 0.5).seen
    assert not Mistake("a", "b", "measuring", (80.0,), (79.0,), 1.5).seen
    cases = Mistake("a", "b", "measuring", (80.0, 80.0), (79.0, 81.0))
    assert cases.chance is cases.test is None
    assert not cases.seen


def test_the_table_has_a_line_for_each_row_the_largest_first():
    found = load_mistakes()
    _, *lines = str(found).splitlines()
    assert len(lines) == len(found.rows)
    largest = max(found.rows, key=lambda row: abs(row.points))
    assert lines[0].startswith(f"{largest.name}, {largest.how}")


def test_a_file_of_something_else_is_refused(tmp_path):
    content = json.loads(MISTAKES_FILE.read_text(encoding="utf-8"))
    content["rows"][0]["wrong"] = []
    path = tmp_path / "wrong.json"
    for text in ("{}", "[1", json.dumps(content)):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(CourseError, match=r"make it with python -m benchmarks\.mistakes"):
            load_mistakes(path)
