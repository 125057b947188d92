"""The drawn data set: the same everywhere, balanced, varied, hard for a linear classifier, not for a small AlexNet."""

import hashlib
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from alexnet_course.data import load_dataset
from alexnet_course.data.doodles import CLASSES, TEST_SIZE, TRAIN_SIZE, draw_doodles

Split = tuple[Tensor, Tensor]


def draw(split: str) -> Split:
    images, labels = draw_doodles(split)
    return torch.from_numpy(images), torch.from_numpy(labels)


@pytest.fixture(scope="module")
def train() -> Split:
    return draw("train")


@pytest.fixture(scope="module")
def test() -> Split:
    return draw("test")


@pytest.mark.slow
def test_shapes_types_and_balance(train: Split, test: Split) -> None:
    for (images, labels), size in ((train, TRAIN_SIZE), (test, TEST_SIZE)):
        assert images.shape == (size, 3, 32, 32)
        assert (images.dtype, labels.dtype) == (torch.uint8, torch.int64)
        assert labels.bincount().tolist() == [size // len(CLASSES)] * len(CLASSES)


def test_the_order_is_shuffled_and_every_prefix_nearly_balanced(test: Split) -> None:
    tens = test[1].view(-1, len(CLASSES))
    assert torch.equal(tens.sort(dim=1).values, torch.arange(len(CLASSES)).expand_as(tens))
    assert len(tens.unique(dim=0)) == len(tens)


@pytest.mark.parametrize("count", [1, 37])
def test_fewer_images_are_a_prefix_of_more(test: Split, count: int) -> None:
    images, labels = draw_doodles("test", count)
    assert np.array_equal(images, test[0][:count].numpy())
    assert np.array_equal(labels, test[1][:count].numpy())


@pytest.mark.slow
def test_more_images_than_the_split_has_draw_on(test: Split) -> None:
    images, labels = draw_doodles("test", TEST_SIZE + 10)
    assert np.array_equal(images[:TEST_SIZE], test[0].numpy())
    assert sorted(labels[TEST_SIZE:]) == list(range(len(CLASSES)))


@pytest.mark.slow
def test_no_image_occurs_twice_not_even_across_splits_and_seeds(train: Split, test: Split) -> None:
    other, _ = draw_doodles("train", 100, seed=1)
    images = [*train[0].numpy(), *test[0].numpy(), *other]
    assert len({image.tobytes() for image in images}) == len(images)


@pytest.mark.slow
def test_these_are_the_images_that_records_were_made_with(train: Split) -> None:
    images, labels = train[0][:200].numpy(), train[1][:200].numpy()
    digest = hashlib.sha256(images.tobytes() + labels.astype("<i8").tobytes()).hexdigest()
    assert digest == "505f68fc8942294e175d7a3478ee2acd441f0b468087b8f742d0c45e5a9e479c"


@pytest.mark.slow
def test_no_two_images_of_a_class_are_alike(train: Split) -> None:
    images, labels = train
    for label, name in enumerate(CLASSES):
        pixels = images[labels == label].flatten(1).double()
        apart = torch.cdist(pixels, pixels) / pixels.shape[1] ** 0.5  # root mean square, in grey levels
        apart.fill_diagonal_(torch.inf)
        assert apart.min() > 20, name


def test_drawing_takes_seconds() -> None:
    start = time.process_time()
    draw_doodles("train", 600)
    # A tenth of the data set, with room for a machine several times slower than a laptop.
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("validation",), ("'validation'", "train or test")),
        (("tset",), ("'tset'", "use test")),
        ((None,), ("None", "train or test")),
        (("train", 0), ("0 doodles", "at least 1")),
        (("train", -3), ("-3 doodles", "at least 1")),
        (("train", 2.5), ("2.5 doodles", "integer")),
    ],
)
def test_bad_input_is_refused(refused: Callable[..., str], arguments: tuple[object], parts: tuple[str, str]) -> None:
    sentence = refused(draw_doodles, *arguments)
    assert all(part in sentence for part in parts), sentence


def linear_accuracy(train: Split, test: Split, weight_decay: float) -> float:
    """Test accuracy of multinomial logistic regression on N×D features, fitted to its optimum."""
    (features, labels), (unseen, truth) = train, test
    mean, deviation = features.mean(0), features.std(0)
    features, unseen = (features - mean) / deviation, (unseen - mean) / deviation
    weight = torch.zeros(len(CLASSES), features.shape[1], requires_grad=True)
    bias = torch.zeros(len(CLASSES), requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = functional.cross_entropy(features @ weight.T + bias, labels) + weight_decay / 2 * weight.square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    return (unseen @ weight.T + bias).argmax(1).eq(truth).float().mean().item()


@pytest.mark.slow
@pytest.mark.slow
def test_a_linear_classifier_on_the_pixels_stays_far_below_70_percent(train: Split, test: Split) -> None:
    seen, unseen = [(images.flatten(1).float(), labels) for images, labels in (train, test)]
    # The best of the weight decays 0.01, 0.03, 0.1, 0.3 and 1; the lower bound shows that the fit itself works.
    assert 0.3 < linear_accuracy(seen, unseen, 0.1) < 0.6


@pytest.mark.slow
def test_the_scene_does_not_give_the_class_away(train: Split, test: Split) -> None:
    frame = torch.ones(3, 32, 32, dtype=torch.bool)
    frame[:, 2:-2, 2:-2] = False
    seen, unseen = [(images[:, frame].float(), labels) for images, labels in (train, test)]
    assert linear_accuracy(seen, unseen, 0.3) < 0.35


def small_alexnet() -> nn.Sequential:
    """AlexNet's five convolutions and three poolings at 1/4 of its width and less, with batch norm for speed."""

    def convolution(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

    def pooling() -> nn.Module:
        return nn.MaxPool2d(kernel_size=3, stride=2, padding=1)

    return nn.Sequential(
        *convolution(3, 24),
        pooling(),
        *convolution(24, 48),
        pooling(),
        *convolution(48, 64),
        *convolution(64, 64),
        *convolution(64, 48),
        pooling(),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(48 * 4 * 4, 256),
        nn.ReLU(),
        nn.Linear(256, len(CLASSES)),
    )


@pytest.mark.slow
@pytest.mark.slow
def test_a_small_alexnet_passes_90_percent(train: Split, test: Split) -> None:
    (images, labels), (unseen, truth) = [(images.float() / 128 - 1, labels) for images, labels in (train, test)]
    epochs, batch_size = 4, 50
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = small_alexnet().to(memory_format=torch.channels_last)
        optimiser = torch.optim.AdamW(model.parameters())
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.005, epochs * len(images) // batch_size)
        for _ in range(epochs):
            for batch in torch.randperm(len(images)).split(batch_size):
                shift = torch.randint(-3, 4, (2,)).tolist()
                mirrored = torch.rand(batch_size, 1, 1, 1) < 0.5
                inputs = images[batch].roll(shift, dims=(2, 3))
                inputs = torch.where(mirrored, inputs.flip(3), inputs)
                optimiser.zero_grad()
                outputs = model(inputs.contiguous(memory_format=torch.channels_last))
                functional.cross_entropy(outputs, labels[batch]).backward()
                optimiser.step()
                schedule.step()
        model.eval()
        with torch.no_grad():
            accuracy = torch.cat([model(part) for part in unseen.split(200)]).argmax(1).eq(truth).float().mean().item()
    assert accuracy > 0.9


@pytest.mark.parametrize("part", ["labels", "images"])
def test_label_noise_does_not_stay_for_later_loads(part: str) -> None:
    noisy = load_dataset("doodles", "test")
    before, tensor = noisy.fingerprint, getattr(noisy, part)
    tensor[:10] = 1
    assert noisy.fingerprint != before
    assert load_dataset("doodles", "test").fingerprint == before
    assert load_dataset("doodles", "test").images is load_dataset("doodles", "test").images
