import torch

from alexnet_course.data import Dataset
from alexnet_course.data.augment import Augmentation
from alexnet_course.data.batches import BatchLoader

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def numbered(count: int) -> Dataset:
    """Picture i has the value i everywhere and the label i modulo 7."""
    images = torch.arange(count, dtype=torch.uint8)[:, None, None, None].repeat(1, 3, 8, 8)
    return Dataset(images, torch.arange(count) % 7, tuple("abcdefg"), "numbered")


def values(pixels: torch.Tensor) -> torch.Tensor:
    """The uint8 values that normalised pixels came from."""
    mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    return ((pixels * std + mean) * 255).round().long()


def test_without_training_every_picture_comes_once_in_order_and_normalised():
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


def test_augmentation_is_for_training_only_and_repeats_for_a_seed():
    everything = Augmentation(crop=2, flip=True, cutout=3, colour_pca=0.1)
    images = torch.randint(256, (20, 3, 8, 8), dtype=torch.uint8)
    data = Dataset(images, torch.zeros(20, dtype=torch.int64), ("one",), "noise")

    def first_batch(seed: int, training: bool) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        loader = BatchLoader(
            data, 20, mean=MEAN, std=STD, training=training, augmentation=everything, generator=generator
        )
        return next(iter(loader))[0]

    assert torch.equal(first_batch(1, True), first_batch(1, True))
    assert not torch.equal(first_batch(1, True), first_batch(2, True))
    assert torch.equal(values(first_batch(1, False)), images.long())


def test_pictures_that_are_not_square_are_brought_to_a_square_and_left_alone_without_a_size():
    oblong = Dataset(torch.zeros(2, 3, 16, 8, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), ("a",), "oblong")
    for size, shape in ((8, (2, 3, 8, 8)), (None, (2, 3, 16, 8))):
        images, _ = next(iter(BatchLoader(oblong, 2, mean=MEAN, std=STD, size=size)))
        assert images.shape == shape


def test_pictures_are_resized_to_what_the_network_takes():
    loader = BatchLoader(numbered(4), 4, mean=MEAN, std=STD, size=20)
    images, _ = next(iter(loader))
    assert images.shape == (4, 3, 20, 20)
    assert torch.equal(values(images)[:, :, 10, 10], torch.arange(4)[:, None].expand(4, 3))
