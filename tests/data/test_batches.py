from collections.abc import Callable
from typing import Any

import pytest
import torch

from alexnet_course.data import Dataset, batches
from alexnet_course.data.augment import Augmentation
from alexnet_course.data.batches import BatchLoader
from alexnet_course.errors import CourseError

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def numbered(count: int) -> Dataset:
    """Image i has the value i everywhere and the label i modulo 7."""
    images = torch.arange(count, dtype=torch.uint8)[:, None, None, None].repeat(1, 3, 8, 8)
    return Dataset(images, torch.arange(count) % 7, tuple("abcdefg"), "numbered")


def values(pixels: torch.Tensor) -> torch.Tensor:
    """The uint8 values that normalised pixels came from."""
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    return ((pixels * std + mean) * 255).round().long()


def test_without_training_every_image_comes_once_in_order_and_normalised():
    loader = BatchLoader(numbered(25), 10, mean=MEAN, std=STD)
    batches = list(loader)
    assert [len(labels) for _, labels in batches] == [10, 10, 5] == [10, 10, loader.images_per_epoch - 20]
    assert len(loader) == 3
    pixels = torch.cat([images for images, _ in batches])
    assert torch.equal(values(pixels)[:, 0, 0, 0], torch.arange(25))
    torch.testing.assert_close(
        pixels[20, :, 0, 0], (torch.full((3,), 20 / 255) - torch.tensor(MEAN)) / torch.tensor(STD)
    )
    assert pixels.dtype == torch.float32
    assert batches[0][0].is_contiguous(memory_format=torch.channels_last)


def test_training_shuffles_anew_each_epoch_keeps_labels_and_drops_the_short_batch():
    generator = torch.Generator().manual_seed(3)
    loader = BatchLoader(numbered(25), 10, mean=MEAN, std=STD, training=True, generator=generator)
    epochs = []
    for _ in range(2):
        batches = list(loader)
        assert len(batches) == len(loader) == 2
        seen = torch.cat([values(images)[:, 0, 0, 0] for images, _ in batches])
        labels = torch.cat([labels for _, labels in batches])
        assert torch.equal(labels, seen % 7)
        assert len(seen.unique()) == 20 == loader.images_per_epoch
        epochs.append(seen)
    assert not torch.equal(*epochs)


def test_a_batch_larger_than_the_data_set_is_the_whole_data_set():
    loader = BatchLoader(numbered(6), 128, mean=MEAN, std=STD, training=True)
    assert [len(labels) for _, labels in loader] == [6]


def test_a_data_set_without_images_is_refused():
    with pytest.raises(CourseError, match=r"^'numbered' has no images to make batches of; give some\.$"):
        BatchLoader(numbered(25).subset([]), 10, mean=MEAN, std=STD)


EVERYTHING = Augmentation(crop=2, flip=True, cutout=3, colour_pca=0.1, autoaugment="cifar10")


@pytest.mark.parametrize("training", [True, False])
def test_augmentation_repeats_for_a_seed(training):
    images = torch.randint(256, (20, 3, 8, 8), dtype=torch.uint8)
    data = Dataset(images, torch.zeros(20, dtype=torch.int64), ("one",), "noise")

    def first_batch(seed: int, change: Augmentation | None) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return next(iter(BatchLoader(
            data, 20, mean=MEAN, std=STD, training=training, augmentation=change, generator=generator
        )))[0]  # fmt: skip

    assert torch.equal(first_batch(1, EVERYTHING), first_batch(1, EVERYTHING))
    assert not torch.equal(first_batch(1, EVERYTHING), first_batch(2, EVERYTHING))
    plain = {tuple(image) for image in values(first_batch(1, None)).flatten(1).tolist()}
    assert plain == {tuple(image) for image in images.flatten(1).tolist()}  # without one, nothing is changed


def test_augmented_without_training_every_image_comes_once_and_in_order():
    """As the test images of S0. The number of its image is in each pixel that was neither moved in nor blanked."""
    change = Augmentation(crop=2, flip=True, cutout=3)
    data = numbered(25)
    loader = BatchLoader(data, 10, mean=MEAN, std=STD, augmentation=change, generator=torch.Generator().manual_seed(1))
    batches = list(loader)
    assert [len(labels) for _, labels in batches] == [10, 10, 5]
    assert torch.equal(torch.cat([labels for _, labels in batches]), data.labels)
    pixels = torch.cat([values(images) for images, _ in batches])
    for number, image in enumerate(pixels):
        shown = (image == number).all(0)
        assert shown.sum() >= 16
    assert not torch.equal(pixels, data.images.long())


@pytest.mark.parametrize("key", ["crop", "flip", "cutout", "colour_pca", "autoaugment"])
def test_each_augmentation_is_applied(key):
    """Alone, in training and without."""
    data = noisy(12)
    change = Augmentation(**{key: {"flip": True, "autoaugment": "cifar10", "colour_pca": 1.0}.get(key, 3)})
    for training in (False, True):
        kept = BatchLoader(data, 12, mean=MEAN, std=STD)
        changed = BatchLoader(data, 12, mean=MEAN, std=STD, training=training, augmentation=change)
        torch.manual_seed(0)
        assert not torch.equal(changed.batch(0)[0], kept.batch(0)[0])


def test_images_that_are_not_square_are_brought_to_a_square_and_left_alone_without_a_size():
    oblong = Dataset(torch.zeros(2, 3, 16, 8, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), ("a",), "oblong")
    for size, shape in ((8, (2, 3, 8, 8)), (None, (2, 3, 16, 8))):
        images, _ = next(iter(BatchLoader(oblong, 2, mean=MEAN, std=STD, size=size)))
        assert images.shape == shape


def test_images_are_resized_to_what_the_network_takes():
    loader = BatchLoader(numbered(4), 4, mean=MEAN, std=STD, size=20)
    images, _ = next(iter(loader))
    assert images.shape == (4, 3, 20, 20)
    assert torch.equal(values(images)[:, :, 10, 10], torch.arange(4)[:, None].expand(4, 3))


# --- A part of a data set --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("colour_pca", [0.0, 0.1])
def test_a_part_given_by_indices_is_the_part_copied_out(colour_pca):
    data, indices = noisy(30), torch.tensor([3, 4, 9, 17, 18, 25, 29])
    change = Augmentation(crop=2, flip=True, cutout=3, colour_pca=colour_pca)
    for training in (False, True):
        part, copied = (
            BatchLoader(
                of, 3, mean=MEAN, std=STD, training=training, augmentation=change,
                generator=torch.Generator().manual_seed(1), **options,
            )
            for of, options in ((data, {"indices": indices}), (data.subset(indices), {}))
        )  # fmt: skip
        assert (len(part), part.images_per_epoch) == (len(copied), copied.images_per_epoch)
        for _ in range(2):
            assert same_batches(list(part), list(copied))


def test_the_loaders_of_two_parts_share_the_images():
    data = noisy(20)
    fitting, held_out = data.split_indices(5, 0)
    loaders = [BatchLoader(data, 4, indices=indices, mean=MEAN, std=STD) for indices in (fitting, held_out)]
    assert {loader.images.data_ptr() for loader in loaders} == {data.images.data_ptr()}
    assert {loader.labels.data_ptr() for loader in loaders} == {data.labels.data_ptr()}
    assert [loader.images_per_epoch for loader in loaders] == [15, 5]


def test_a_batch_larger_than_the_part_is_the_whole_part():
    loader = BatchLoader(noisy(20), 128, indices=torch.arange(6), mean=MEAN, std=STD, training=True)
    assert [len(labels) for _, labels in loader] == [6]


# --- Interruption ----------------------------------------------------------------------------------------------------


def noisy(count: int) -> Dataset:
    images = torch.randint(256, (count, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(count))
    return Dataset(images, torch.arange(count) % 7, tuple("abcdefg"), "noise")


def same_batches(some: list[Any], others: list[Any]) -> bool:
    return len(some) == len(others) and all(
        torch.equal(a, b) for one, other in zip(some, others, strict=True) for a, b in zip(one, other, strict=True)
    )


@pytest.fixture(params=[None, 1, 2, 6], ids=["batch by batch", "one at once", "two at once", "an epoch at once"])
def loader(request, monkeypatch) -> Callable[..., BatchLoader]:
    """Six batches of five, with everything that draws random numbers."""

    def make(seed: int = 0, **options: Any) -> BatchLoader:
        generator = torch.Generator().manual_seed(seed)
        options = {"training": True, "augmentation": EVERYTHING, **options}
        return BatchLoader(noisy(32), 5, mean=MEAN, std=STD, generator=generator, at_once=at_once, **options)

    at_once = torch.float32 if request.param else None
    if request.param:
        monkeypatch.setattr(batches, "AT_ONCE", request.param * 5 * 3 * 8 * 8 * 4)
        assert make()._together == request.param
    return make


@pytest.mark.parametrize("done", [1, 3, 5])
def test_a_state_taken_inside_an_epoch_leads_to_the_same_rest_and_the_same_epochs_after_it(done, loader):
    one, other = loader(seed=1), loader(seed=2)
    list(one)
    epoch = iter(one)
    for _ in range(done):
        next(epoch)  # the last of these is in the trainer's hands, so it counts as done
    state = one.state()
    rest, following = list(epoch), list(one)
    list(other)  # whatever it did before
    other.resume(state)
    assert len(rest) == 6 - done
    assert same_batches(list(other), rest)
    assert same_batches(list(other), following)
    assert not same_batches(rest, following[done:])


def test_a_state_is_not_changed_by_what_comes_after_it(loader):
    one = loader(seed=1)
    epoch = iter(one)
    next(epoch)
    state = one.state()
    rest = list(epoch)
    list(one)
    for _ in range(2):
        other = loader(seed=2)
        other.resume(state)
        assert same_batches(list(other), rest)


def test_a_state_with_all_batches_done_leaves_none(loader):
    """As where a run stops after the last step of an epoch, before its validation."""
    one, other = loader(seed=1), loader(seed=2)
    list(one)
    state = one.state()
    assert state["step"] == 6
    other.resume(state)
    assert list(other) == []
    assert same_batches(list(other), list(one))


@pytest.mark.parametrize("done", [2, 6])
def test_after_a_rewind_a_state_is_that_of_a_new_epoch(done, loader):
    one, other = loader(seed=1), loader(seed=2)
    epoch = iter(one)
    for _ in range(done):
        next(epoch)
    one.rewind()
    state = one.state()
    assert state["step"] == 0
    other.resume(state)
    new = list(other)
    assert len(new) == 6
    assert same_batches(new, list(one))


def test_the_state_of_a_new_loader_is_its_beginning(loader):
    one, other = loader(seed=1), loader(seed=2)
    other.resume(one.state())
    assert same_batches(list(other), list(one))


def test_an_epoch_that_was_given_up_is_followed_by_a_whole_one(loader):
    one = loader(augmentation=None)
    for _ in one:
        break
    seen = torch.cat([values(images).flatten(1) for images, _ in one])
    assert len(seen.unique(dim=0)) == len(seen) == 30


def test_a_resumed_epoch_that_is_given_up_again_is_followed_by_a_whole_one(loader):
    one, other = loader(seed=1), loader(seed=2)
    epoch = iter(one)
    next(epoch)
    other.resume(one.state())
    next(iter(other))
    assert len(list(other)) == 6


def test_batches_can_be_asked_for_by_number(loader):
    one = loader(augmentation=None)
    for step, (images, labels) in enumerate(one):
        again = one.batch(step)
        assert torch.equal(images, again[0])
        assert torch.equal(labels, again[1])
    first = one.batch(0)
    assert not torch.equal(first[0], images)
    fixed = BatchLoader(noisy(12), 5, mean=MEAN, std=STD)
    assert same_batches([fixed.batch(step) for step in range(3)], list(fixed))


def test_a_batch_asked_for_by_number_is_the_same_images_augmented_anew_or_kept(loader):
    one = loader()
    for step, (images, labels) in enumerate(one):
        again = one.batch(step)
        assert torch.equal(labels, again[1])
        assert torch.equal(images, again[0]) == (one.at_once is not None)  # which has them still


def test_a_state_of_a_loader_without_a_generator_of_its_own():
    one, other = (BatchLoader(noisy(12), 5, mean=MEAN, std=STD) for _ in range(2))
    epoch = iter(one)
    next(epoch)
    state = one.state()
    assert state["random"] is None
    other.resume(state)
    assert same_batches(list(other), list(epoch))


@pytest.mark.parametrize("cut", [True, False])
def test_images_of_another_side_come_to_that_of_the_training_images_first(cut):
    """A square of 12 pixels in 48: of 32 pixels it would be 8, and of those the middle 16 are half."""
    large = torch.zeros(1, 3, 48, 48, dtype=torch.uint8)
    large[:, :, 18:30, 18:30] = 255
    dataset = Dataset(large, torch.zeros(1, dtype=torch.int64), ("a",), "squares")
    of_network = 16 if cut else 64
    loader = BatchLoader(dataset, 1, mean=(0, 0, 0), std=(1, 1, 1), size=of_network, cut=cut, side=32)
    ((images, _),) = loader
    assert images.shape == (1, 3, of_network, of_network)
    assert images.mean().item() == pytest.approx(8**2 / (16**2 if cut else 32**2), rel=0.05)
    blocks = images.unfold(2, 2, 2).unfold(3, 2, 2)
    assert cut or blocks.std((-1, -2)).max() < 0.3  # no edge is sharper than 32 pixels can show


@pytest.mark.parametrize("together", [1, 2, 3, 6])
def test_batches_that_are_made_at_once_are_large_ones_cut_up(together, monkeypatch):
    monkeypatch.setattr(batches, "AT_ONCE", together * 5 * 3 * 8 * 8 * 2)
    changes = Augmentation(crop=2, flip=True, cutout=3, colour_pca=0.1)

    def images(size: int, at_once: torch.dtype | None) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(7)
        options = {"mean": MEAN, "std": STD, "training": True, "augmentation": changes, "generator": generator}
        return [images for images, _ in BatchLoader(noisy(32), size, at_once=at_once, **options)]

    at_once = images(5, torch.bfloat16)
    large = images(5 * together, None)
    assert {batch.stride() for batch in at_once} == {large[0].stride()}
    assert torch.equal(torch.cat(at_once), torch.cat(large).bfloat16())
