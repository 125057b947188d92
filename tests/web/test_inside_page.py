"""The text of the book's page "See inside": its views are the package's, and its numbers those of the networks."""

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from alexnet_course import list_pretrained, load_pretrained
from alexnet_course.web import VIEWS, dequantised, stack_of
from alexnet_course.web.page import sample_images

PAGE = (Path(__file__).resolve().parents[2] / "book" / "inside.md").read_text(encoding="utf-8")
WORDS = " ".join(PAGE.split())
ALEXNET, VGG = "alexnet-cifar-5x5-lrn.small", "vgg-style-bn.small"
SAMPLES = {name: image.float() / 255 for name, image in sample_images()}


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


class Small:
    """A network as the page has it, with weights of 8 bits; what is done to an image is done as inside.js does it."""

    def __init__(self, name: str) -> None:
        self.name = name
        model, record = load_pretrained(name)
        self.model, self.classes = dequantised(model), record.dataset.classes
        self.mean, self.std = (torch.tensor(each)[:, None, None] for each in (record.dataset.mean, record.dataset.std))
        self.steps = stack_of(self.model, (3, 32, 32))

    @torch.no_grad()
    def probabilities(self, images: Tensor, *, response_norm: bool = True, batch_norm: str = "stored", dropout=0.0):
        """The maps of all convolutions, and the probabilities."""
        values, maps = (images - self.mean) / self.std, []
        for layer in (step.layer for step in self.steps):
            if isinstance(layer, nn.BatchNorm2d) and batch_norm == "image":
                values = F.instance_norm(values, weight=layer.weight, bias=layer.bias, eps=layer.eps)
            elif isinstance(layer, nn.Dropout):
                values = F.dropout(values, dropout)
            elif not (
                (isinstance(layer, nn.BatchNorm2d) and batch_norm == "off")
                or (isinstance(layer, nn.LocalResponseNorm) and not response_norm)
            ):
                values = layer(values.clone())
            if isinstance(layer, nn.Conv2d):
                maps.append(values.clone())
        return maps, values.softmax(1)

    def answers(self, images: Tensor, **switches) -> list[str]:
        return [self.classes[at] for at in self.probabilities(images, **switches)[1].argmax(1)]

    def covered(self, image: Tensor, top: int, left: int, side: int) -> Tensor:
        image = image.clone()
        image[:, top : top + side, left : left + side] = self.mean
        return image

    def shifted(self, image: Tensor, right: int) -> Tensor:
        return torch.cat([self.mean.expand(3, 32, right), image[:, :, : 32 - right]], dim=2)


def blurred(images: Tensor) -> Tensor:
    """By a Gaussian with a deviation of one pixel, whose weights outside of the image are left out."""
    weights = torch.exp(-(torch.arange(-3.0, 4) ** 2) / 2)
    for shape in ((1, 1, 1, 7), (1, 1, 7, 1)):
        kernel = weights.view(shape).expand(3, -1, -1, -1)
        total = F.conv2d(torch.ones_like(images), kernel, padding="same", groups=3)
        images = F.conv2d(images, kernel, padding="same", groups=3) / total
    return images


@pytest.fixture(scope="module", params=[ALEXNET, VGG])
def small(request) -> Small:
    return Small(request.param)


@pytest.fixture(scope="module")
def cases() -> Tensor:
    """The page's images as they are, mirrored, and shifted by up to four pixels."""
    shifts = [(down, right) for down in (-4, 0, 4) for right in (-4, 0, 4)]
    images = torch.stack([*SAMPLES.values()])
    images = torch.cat([images, images.flip(3)])
    return torch.cat([torch.roll(images, shift, dims=(2, 3)) for shift in shifts])


class TestAnswers:
    """What the views and the answers to the exercises say of the two networks."""

    def test_blur_changes_most_and_a_covered_corner_least(self, small):
        assert "Blur usually changes most, by far" in VIEWS["image"]["look"]
        images = torch.stack([*SAMPLES.values()])
        before = small.probabilities(images)[1]
        cost = {}
        for name, changed in {
            "blur": blurred(images),
            "shift": torch.stack([small.shifted(image, 4) for image in images]),
            "mirror": images.flip(3),
            "corner": torch.stack([small.covered(image, 0, 0, 8) for image in images]),
        }.items():
            cost[name] = (small.probabilities(changed)[1] - before).abs().sum(1).mean().item() / 2
        assert cost["blur"] > 2 * max(cost["shift"], cost["mirror"])
        assert cost["corner"] == min(cost.values())

    def test_the_smallest_cover_that_changes_the_cat(self, small):
        cat = SAMPLES["photograph: cat"]
        chance = small.probabilities(cat[None])[1].max().item()
        assert small.answers(cat[None]) == ["cat"]
        for side in range(1, 33):
            covered = [small.covered(cat, y, x, side) for y in range(33 - side) for x in range(33 - side)]
            others = [name for name in small.answers(torch.stack(covered)) if name != "cat"]
            if others:
                break
        if small.name == ALEXNET:
            assert side == 1
            assert others.count("frog") >= len(others) - 1
            assert 25 <= len(others) <= 34
            assert "a single pixel: there are about thirty of the 1,024" in WORDS
            assert "whose cover makes *frog* the most probable class" in WORDS
            assert f"the first gives *cat* only {chance:.0%}".replace("%", " %") in WORDS
        else:
            assert f"`{small.name}` needs at least {side}×{side} pixels" in WORDS
            assert f"the second {chance:.0%}".replace("%", " %") in WORDS

    def test_the_horse_survives_a_shift_by_nine_pixels(self, small):
        horse = SAMPLES["photograph: horse"]
        assert "when it is shifted right by nine pixels" in WORDS
        assert small.answers(torch.stack([small.shifted(horse, right) for right in range(10)])) == ["horse"] * 10

    def test_no_class_fits_the_coffee_and_one_is_sure(self, small):
        coffee = SAMPLES["photograph: coffee"][None]
        assert small.probabilities(coffee)[1].max() > 0.7
        assert "A network can be confident about an image of a kind that it has never seen" in WORDS

    def test_colour_kernels(self):
        kernels = Small(ALEXNET).steps[0].layer.weight.detach()
        sums = kernels.sum((2, 3))
        even = (sums**2).sum(1) / kernels[0, 0].numel() / (kernels**2).sum((1, 2, 3))  # share of the mean's energy
        coloured = [number for number, share in enumerate(even.tolist()) if share > 0.1]
        assert f"Maps {', '.join(map(str, coloured[:-1]))} and {coloured[-1]}, counted from 0" in WORDS
        assert even.median() < 0.01  # the others' weights cancel
        assert "in kernel 5 they add up to more than zero for green, and to less than zero for red and blue" in WORDS
        assert (sums[5] > 0).tolist() == [False, True, False]

    def test_zeros_after_relu(self, small, cases):
        values, shares = (cases - small.mean) / small.std, []
        for layer in (step.layer for step in small.steps):
            with torch.no_grad():
                before, values = values, layer(values.clone())
            if isinstance(layer, nn.ReLU):
                assert (before == 0).float().mean() < 0.001
                shares.append((values == 0).float().mean().item())
        assert shares[-3] > 0.7  # "most of them are zero", in the last maps
        if small.name == ALEXNET:
            assert "three quarters of them from the first ReLU on" in WORDS
            assert all(share > 0.7 for share in shares[:5])
        else:
            assert "it is a quarter at first and more than half later" in WORDS
            assert 0.2 < shares[0] < 0.3
            assert all(share > 0.48 for share in shares[3:])

    def test_what_speaks_for_one_class_speaks_against_the_second(self, small):
        assert "Often the same regions appear with the opposite sign" in WORDS
        together = []
        for image in SAMPLES.values():
            squares = [small.covered(image, y, x, 8) for y in range(0, 28, 4) for x in range(0, 28, 4)]
            probabilities = small.probabilities(torch.stack([image, *squares]))[1]
            first, second = probabilities[0].topk(2).indices
            falls = probabilities[0] - probabilities[1:]
            together.append(torch.corrcoef(falls[:, [first, second]].T)[0, 1])
        assert torch.stack(together).median() < -0.5

    def test_without_response_normalisation(self, cases):
        small = Small(ALEXNET)
        (maps, before), (larger, after) = (small.probabilities(cases, response_norm=on) for on in (True, False))
        assert (before.argmax(1) == after.argmax(1)).float().mean() > 0.6  # "the answer usually survives"
        growth = [(more.std() / less.std()).item() for less, more in zip(maps, larger, strict=True)]
        assert "about two or three times as large" in VIEWS["switches"]["look"]
        assert growth[0] == 1
        assert all(1.5 < each < 3.5 for each in growth[1:])

    @pytest.mark.parametrize("batch_norm", ["image", "off"])
    def test_batch_norm_with_other_statistics_is_a_guess(self, batch_norm):
        small, classes = Small(VGG), Small(VGG).classes
        shown = {name: image for name, image in SAMPLES.items() if name.split(": ")[1] in classes}
        answers = small.answers(torch.stack([*shown.values()]), batch_norm=batch_norm)
        right = sum(name.endswith(answer) for name, answer in zip(shown, answers, strict=True))
        assert right <= 3  # of twelve
        assert min(step.size[1] for step in small.steps if isinstance(step.layer, nn.BatchNorm2d)) == 2

    def test_dropout_at_10_50_and_90_percent(self, small):
        assert "Usually almost all, most and few" in WORDS
        torch.manual_seed(0)
        images = torch.stack([*SAMPLES.values()])
        before = small.answers(images)
        kept = []
        for share in (0.1, 0.5, 0.9):
            passes = [small.answers(images, dropout=share) for _ in range(20)]
            kept.append(sum(one == other for answers in passes for one, other in zip(before, answers, strict=True)))
        almost_all, most, few = (count / 20 / len(images) for count in kept)
        assert almost_all > 0.8
        assert 0.5 < most < almost_all
        assert few < 0.35


@pytest.fixture(scope="module")
def steps():
    return stack_of(load_pretrained(ALEXNET)[0], (3, 32, 32))


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
        small = Small(ALEXNET)
        values = (torch.stack([*SAMPLES.values()]) - small.mean) / small.std
        for step in steps:
            with torch.no_grad():
                before, values = values, step.layer(values.clone())
            if isinstance(step.layer, nn.LocalResponseNorm):
                divisors = (before / values)[values > 0]
                plain = step.layer.k**step.layer.beta
                assert ((divisors / plain - 1).abs() < 1e-3).all()
        assert "by less than one part in a thousand" in PAGE
