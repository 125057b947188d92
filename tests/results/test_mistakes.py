"""What the ten mistakes cost on CIFAR-10: the packaged file, how its rows are read, and mistakes made on purpose."""

import json

import pytest
import torch
from torch import nn

from alexnet_course import load_pretrained
from alexnet_course.errors import CourseError
from alexnet_course.results.compare import paired_over_seeds
from alexnet_course.results.mistakes import (
    MISTAKES_FILE,
    Mistake,
    divide_alpha,
    drop_before_norms,
    load_mistakes,
    relu_on_logits,
)


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


def test_a_file_of_something_else_or_none_is_refused(tmp_path):
    content = json.loads(MISTAKES_FILE.read_text(encoding="utf-8"))
    content["rows"][0]["wrong"] = []
    path = tmp_path / "wrong.json"
    for text in (None, "{}", "[1", json.dumps(content)):
        if text is not None:
            path.write_text(text, encoding="utf-8")
        with pytest.raises(CourseError, match=r"make it with python -m benchmarks\.mistakes"):
            load_mistakes(path)


def test_a_relu_on_the_logits_leaves_the_hidden_layer_alone():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 10))
    images = torch.randn(50, 4)
    hidden, right = network[0](images), network(images)
    relu_on_logits(network)
    assert torch.equal(network(images), right.relu())
    assert torch.equal(network[0](images), hidden)
    assert hidden.min() < 0


def test_alpha_is_divided_in_every_response_normalisation():
    network = nn.Sequential(nn.LocalResponseNorm(5, alpha=5e-4), nn.ReLU(), nn.LocalResponseNorm(3, alpha=3e-4))
    divide_alpha(network)
    assert [network[0].alpha, network[2].alpha] == pytest.approx([1e-4, 1e-4])


def test_dropout_comes_before_each_norm_in_training_alone_and_can_be_removed():
    torch.manual_seed(0)
    network = nn.Sequential(nn.BatchNorm2d(2), nn.ReLU(), nn.BatchNorm2d(2))
    images = torch.rand(8, 2, 16, 16)
    inputs = []
    handles = drop_before_norms(network, 0.5)
    network[0].register_forward_pre_hook(lambda layer, given: inputs.append(given[0]))
    network(images)
    network.eval()
    network(images)
    network.train()
    assert len(handles) == 2
    for handle in handles:
        handle.remove()
    network(images)
    dropped, *unchanged = inputs
    assert 0.4 < (dropped == 0).float().mean() < 0.6
    assert all(torch.equal(given, images) for given in unchanged)
