"""The text of the book's page "See inside": its views are the package's, and its numbers those of the networks."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from alexnet_course import list_pretrained, load_pretrained
from alexnet_course.web import VIEWS, stack_of
from alexnet_course.web.page import sample_images

PAGE = (Path(__file__).resolve().parents[2] / "book" / "inside.md").read_text(encoding="utf-8")


def test_has_every_view_once_under_its_title_and_its_address():
    found = re.findall(r"^\(inside-(\w+)\)=\n## (.+)\n\n```\{see-inside\} (\w+)\n```$", PAGE, re.MULTILINE)
    assert found == [(name, view["title"], name) for name, view in VIEWS.items()]


def test_every_view_has_three_exercises_with_answers():
    sections = re.split(r"^\(inside-\w+\)=$", PAGE, flags=re.MULTILINE)[1:]
    for section in sections:
        assert re.findall(r"^(\d)\. ", section, re.MULTILINE) == ["1", "2", "3"]
        assert section.count("```{dropdown} Answer") == 3


def test_the_training_images_were_shifted_by_as_much_as_it_says():
    assert "shifted by up to four pixels" in " ".join(PAGE.split())
    assert {load_pretrained(name)[1].recipe.crop for name in list_pretrained()} == {4}


@pytest.fixture(scope="module")
def steps():
    return stack_of(load_pretrained("alexnet-cifar-5x5-lrn.small")[0], (3, 32, 32))


class TestNumbers:
    def test_products_of_a_value(self, steps):
        first, second = [step.layer for step in steps if isinstance(step.layer, nn.Conv2d)][:2]
        assert f"{first.weight[0].numel()} and {second.weight[0].numel()}: kernels of 5×5 over 3 and over 24" in PAGE
        assert first.weight.shape[1:] == (3, 5, 5)
        assert second.weight.shape[1:] == (24, 5, 5)

    def test_response_normalisation_divides_by_a_power_of_k(self, steps):
        layer = next(step.layer for step in steps if isinstance(step.layer, nn.LocalResponseNorm))
        assert f"k = {layer.k:.0f} dominates, and $2^{{{layer.beta}}} \\approx {layer.k**layer.beta:.2f}$" in PAGE

    def test_the_pool_that_repeats(self, steps):
        number, pool = next((at, each) for at, each in enumerate(steps) if isinstance(each.layer, nn.AdaptiveMaxPool2d))
        before = steps[number - 1].size
        repeats = (pool.size[1] // before[1]) ** 2
        assert (before[1:], pool.size[1:], repeats) == ((2, 2), (6, 6), 9)
        values = pool.size[0] * pool.size[1] * pool.size[2]
        assert f"gets {values:,} values, {values // repeats} of them different" in PAGE

    def test_response_normalisation_hardly_depends_on_the_neighbours(self, steps):
        """On all images of the page: the divisor is k to the power β to one part in a thousand."""
        record = load_pretrained("alexnet-cifar-5x5-lrn.small")[1]
        mean, std = (torch.tensor(values)[:, None, None] for values in (record.dataset.mean, record.dataset.std))
        values = (torch.stack([image for _, image in sample_images()]).float() / 255 - mean) / std
        for step in steps:
            with torch.no_grad():
                before, values = values, step.layer(values.clone())
            if isinstance(step.layer, nn.LocalResponseNorm):
                divisors = (before / values)[values > 0]
                plain = step.layer.k**step.layer.beta
                assert ((divisors / plain - 1).abs() < 1e-3).all()
        assert "by less than one part in a thousand" in PAGE
