"""Images that do not fit into memory: kept on the disk as they are decoded, read while they are used, the same."""

import os
import resource
import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_folder import cached, damage, load
from test_folder_kinds import of_different_sizes

from alexnet_course.data import Dataset, cache, dataset, folder, load_dataset, memory
from alexnet_course.data import tree as tree_module
from alexnet_course.data.augment import Augmentation
from alexnet_course.data.batches import BatchLoader
from alexnet_course.data.streaming import Ahead
from alexnet_course.files import ABANDONED, UNFINISHED
from alexnet_course.recipe import Recipe
from alexnet_course.training import resume, train


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's cache is; and nothing has been said yet."""
    monkeypatch.setenv("ALEXNET_COURSE_CACHE", str(tmp_path / "kept"))
    monkeypatch.setattr(tree_module, "_said", set())
    return tmp_path / "kept"


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """In which neither the forty training images nor the twenty test images fit."""
    monkeypatch.setattr(memory, "free_memory", lambda: 20_000)


STATISTICS = "anon 80000\ninactive_file 10000\nactive_file 7\n"
OLDER = {
    "limit_in_bytes": "300000\n",
    "usage_in_bytes": "90000\n",
    "stat": "inactive_file 10000\ntotal_inactive_file 3000\n",
}


@pytest.mark.parametrize(
    ("meminfo", "group", "free"),
    [
        ("MemFree: 1 kB\nMemAvailable: 20 kB\nSwapFree: 4 kB\n", {"memory.max": "max\n"}, 24 * 1024),
        ("MemAvailable: 20 kB\nSwapFree: 0 kB\n", {"memory.max": "10000\n"}, 10_000),  # a container's
        ("MemFree: 20 kB\n", {"memory.max": "max\n"}, None),  # of a Linux that is too old to say
        (None, {"memory.max": "120000\n"}, 120_000),
        (None, {"memory.max": "300000\n", "memory.current": "5000\n"}, 300_000),  # without statistics
        (None, {"memory.max": "300000\n", "memory.current": "90000\n", "memory.stat": STATISTICS}, 220_000),
        (None, {"memory.max": "3000\n", "memory.current": "90000\n", "memory.stat": STATISTICS}, 0),
        (None, {f"memory/memory.{name}": text for name, text in OLDER.items()}, 213_000),
        (None, {}, None),
    ],
)
def test_images_that_take_more_than_half_of_the_free_memory_stay_on_the_disk(
    tree: Path,
    tmp_path: Path,
    meminfo: str | None,
    group: dict[str, str],
    free: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The forty images need 122,880 bytes."""
    (tmp_path / "group/memory").mkdir(parents=True)
    for name, content in {**group, "meminfo": meminfo}.items():
        if content is not None:
            (tmp_path / "group" / name).write_text(content)
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "group/meminfo")
    monkeypatch.setattr(memory, "CONTROL_GROUP", tmp_path / "group")
    assert memory.free_memory() == free
    for _ in range(2):  # decoded, and read again
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert load(tree).streamed == (free is not None and free < 2 * 122_880)


def test_a_large_square_image_among_others_does_not_make_them_all_large(
    tmp_path: Path, monkeypatch, kept: Path
) -> None:
    """Whether they fit into memory is a question of the size that they get."""
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            folder = tmp_path / "pets" / part / name
            folder.mkdir(parents=True)
            for number in range(3):
                side = 400 if (name, number) == ("cat", 0) else 40
                Image.new("RGB", (side, side)).save(folder / f"{number}.png")
    monkeypatch.setattr(memory, "free_memory", lambda: 2_000_000)  # four of the large ones
    with pytest.warns(UserWarning, match="have different sizes or are not square") as said:
        dataset = load_dataset(f"folder:{tmp_path / 'pets'}", "train", size=32)
    assert len(said) == 1
    assert (dataset.images.shape, dataset.streamed) == ((6, 3, 32, 32), False)


def test_what_a_killed_process_left_is_removed(tree: Path, kept: Path) -> None:
    load(tree)
    [stored] = (kept / "folders").glob("*.safetensors")
    names = ("old", "new")
    left = [stored.with_name(f"{stored.name}.{name}{UNFINISHED}") for name in names]
    for file, age in zip(left, (ABANDONED + 5, 0), strict=True):
        file.write_bytes(b"half")
        os.utime(file, (time.time() - age,) * 2)
    stored.unlink()
    load(tree)
    assert [file.exists() for file in left] == [False, True]


def test_that_they_stay_there_is_said_once(tree: Path, kept: Path, little_memory: None) -> None:
    with pytest.warns(UserWarning, match=r"40 images in .*train' take 0\.0 GiB decoded, more than half of") as said:
        load(tree)
    assert len(said) == 1
    assert str(kept / "folders") in str(said[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(tree)


def both(tree: Path, monkeypatch: pytest.MonkeyPatch, split: str = "train", **options: Any) -> tuple[Dataset, Dataset]:
    """The images in memory, and those that stay on the disk."""
    with warnings.catch_warnings(), monkeypatch.context() as little:
        warnings.simplefilter("ignore")
        resident = load_dataset(f"folder:{tree}", split, root=tree / "../resident", **options)
        little.setattr(memory, "free_memory", lambda: 20_000)
        streamed = load_dataset(f"folder:{tree}", split, root=tree / "../streamed", **options)
    assert (resident.streamed, streamed.streamed) == (False, True)
    return resident, streamed


def test_they_are_the_same_images(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resident, streamed = both(tree, monkeypatch)
    assert torch.equal(resident.images, streamed.images)
    assert torch.equal(resident.labels, streamed.labels)
    assert resident.fingerprint == streamed.fingerprint
    assert torch.equal(resident.ordered, streamed.ordered)
    assert resident.channel_statistics() == streamed.channel_statistics()
    for one, other in zip(resident.split_indices(7, 0), streamed.split_indices(7, 0), strict=True):
        assert torch.equal(one, other)
    part = streamed.subset(range(5))
    assert not part.streamed
    assert part.fingerprint == resident.subset(range(5)).fingerprint


def test_no_image_is_read_for_the_fingerprint_the_order_or_the_division(
    tree: Path, little_memory: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        known = load(tree).fingerprint
    for module in (cache, dataset):
        monkeypatch.setattr(module, "digest_of", None)
    monkeypatch.setattr(folder, "decode_all", None)
    again = load(tree)
    assert again.fingerprint == known
    assert len(again.ordered) == 40
    assert len(again.split_indices(7, 0)[0]) == 33
    assert again.renamed("other").fingerprint == again.to("cpu").fingerprint == known


EVERYTHING = Augmentation(crop=2, flip=True, cutout=4, colour_pca=0.1, autoaugment="cifar10")


@pytest.mark.parametrize("augmentation", [None, EVERYTHING])
@pytest.mark.parametrize(
    "options",
    [{}, {"size": 24}, {"size": 24, "cut": True}, {"size": 40, "cut": True}, {"at_once": torch.bfloat16}],
)
@pytest.mark.parametrize("training", [True, False])
def test_batches_are_the_same_to_the_bit(
    augmentation: Augmentation | None,
    options: dict[str, Any],
    training: bool,
    tree: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def loader(images: Dataset) -> BatchLoader:
        mean, std = images.channel_statistics()
        generator = torch.Generator().manual_seed(3)
        indices = torch.arange(3, 38)
        return BatchLoader(
            images, 8, indices=indices, mean=mean, std=std, training=training, augmentation=augmentation,
            generator=generator, **options,
        )  # fmt: skip

    loaders = [loader(images) for images in both(tree, monkeypatch)]
    for _ in range(2):
        epochs = [list(loader) for loader in loaders]
        assert len(epochs[0]) == len(epochs[1]) == (4 if training else 5)
        for (images, labels), (others, their_labels) in zip(*epochs, strict=True):
            assert torch.equal(images, others)
            assert torch.equal(labels, their_labels)
    state = None
    for loader_ in loaders:  # in the middle of an epoch, one goes on from where the other is
        batches = iter(loader_)
        next(batches)
        if state is not None:
            loader_.resume(state)
            batches = iter(loader_)
        state = loader_.state()
        rest = [images for images, _ in batches]
        assert len(rest) == len(loader_) - 1
        expected = rest if loader_ is loaders[0] else expected  # noqa: F821 - of the loader before
    assert all(torch.equal(one, other) for one, other in zip(expected, rest, strict=True))


def test_a_batch_is_read_while_the_one_before_is_used() -> None:
    images = torch.arange(60, dtype=torch.uint8).reshape(10, 1, 2, 3)
    ahead, copied = Ahead(images, pinned=False), []
    copy = ahead._copy

    def noted(chosen: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        copied.append(chosen.tolist())
        return copy(chosen, rows)

    ahead._copy = noted  # type: ignore[method-assign]
    one, two, three = (torch.tensor(chosen) for chosen in ([3, 1], [9, 9], [0, 5]))
    assert torch.equal(ahead.read(one, two), images[one])
    assert torch.equal(ahead.read(two, three), images[two])
    assert torch.equal(ahead.read(one, two), images[one])  # not what was expected
    assert torch.equal(ahead.read(two, one[:0]), images[two])
    assert sorted(copied) == [[0, 5], [3, 1], [3, 1], [9, 9], [9, 9]]  # the thread has its own pace


@pytest.mark.parametrize(
    ("device", "there", "free", "unused", "fits"),
    [
        ("cuda", "cpu", 2 * 12_000, 0, True),
        ("cuda", "cpu", 2 * 12_000 - 1, 0, False),
        ("cuda", "cpu", 2 * 12_000 - 500, 500, True),  # what PyTorch keeps after an earlier run
        ("cpu", "cpu", 0, 0, True),
    ],
)
def test_what_a_gpu_has_no_room_for_stays_in_the_machine_s_memory(
    device: str, there: str, free: int, unused: int, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 10**12))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 7000 + unused)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 7000)
    assert memory.fits(torch.zeros(4, 3, 10, 100, dtype=torch.uint8), torch.device(device)) == fits


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"model": "cnn4", "random_crop": True, "input_size": 28, "flip": True, "colour_pca": 0.1, "crop": 0},
    ],
)
def test_a_run_is_the_same_and_goes_on_the_same(
    change: dict[str, Any], tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe(**{"model": "lenet5", **change}, epochs=2, batch_size=8, validation_size=8, precision="fp32")
    sets = [both(tree, monkeypatch, split) for split in ("train", "test")]
    runs = [
        train(recipe, train_set=train_set, test_set=test_set, device="cpu", out=tmp_path / str(number))
        for number, (train_set, test_set) in enumerate(zip(*sets, strict=True))
    ]
    list(runs[0])
    next(runs[1])
    runs[1].close()
    rest = resume(tmp_path / "1", train_set=sets[0][0], test_set=sets[1][0], device="cpu")  # now in memory
    list(rest)
    assert runs[0].record is not None
    assert rest.record is not None
    for figure in ("weights", "predictions", "test_loss", "dataset"):
        assert getattr(runs[0].record, figure) == getattr(rest.record, figure)


def test_images_of_different_sizes_stay_on_the_disk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of_different_sizes(tmp_path / "pets")
    resident, streamed = both(tmp_path / "pets", monkeypatch, size=32)
    assert torch.equal(resident.images, streamed.images)
    assert resident.fingerprint == streamed.fingerprint
    assert torch.equal(resident.held_out, streamed.held_out)


# --- The disk --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["half-written", "empty", "a label", "noise"])
def test_a_damaged_file_is_made_again(how: str, tree: Path, kept: Path, little_memory: None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        good = load(tree)
        pixels, labels = good.images.clone(), good.labels.clone()
        del good
        (file,) = cached(kept)
        copy = shutil.copy(file, kept / "copy")  # the file itself is a memory map
        damage(Path(copy), how)
        os.replace(copy, file)
        again = load(tree)
    assert torch.equal(again.images, pixels)
    assert torch.equal(again.labels, labels)


def test_too_little_space_is_said_before_anything_is_decoded(
    tree: Path, little_memory: None, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100_000))
    monkeypatch.setattr(folder, "decode_all", None)
    with pytest.warns(UserWarning, match="read while they are used"):
        sentence = refused(load, tree)
    assert "which do not fit into memory, need 0.0 GiB, and only 0.0 GiB are free in" in sentence
    assert "ALEXNET_COURSE_CACHE" in sentence


def test_a_disk_that_becomes_full_leaves_nothing(
    tree: Path, kept: Path, little_memory: None, refused: Callable[..., str]
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
    try:
        with pytest.warns(UserWarning, match="read while they are used"):
            sentence = refused(load, tree)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "could not be written (File too large) in" in sentence
    assert cached(kept) == []


def test_the_file_is_one_that_safetensors_reads(tree: Path, kept: Path, little_memory: None) -> None:
    from safetensors.numpy import load_file

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        images = load(tree)
    (file,) = cached(kept)
    tensors = load_file(file)
    np.testing.assert_array_equal(tensors["images"], images.images.numpy())
    np.testing.assert_array_equal(tensors["labels"], images.labels.numpy())
    assert tensors["digests"].shape == (40, 16)
