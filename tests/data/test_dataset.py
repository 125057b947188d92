from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from alexnet_course.data import Dataset
from alexnet_course.data.augment import principal_colours
from alexnet_course.errors import CourseError


def random_dataset(counts: list[int], size: int = 4, seed: int = 0) -> Dataset:
    """``counts[i]`` random images of class i, shuffled."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.repeat_interleave(torch.tensor(counts))[torch.randperm(sum(counts), generator=generator)]
    images = torch.randint(256, (len(labels), 3, size, size), dtype=torch.uint8, generator=generator)
    return Dataset(images, labels, tuple(f"class {i}" for i in range(len(counts))), "random")


def test_fingerprint_depends_on_neither_order_nor_numbering_of_classes() -> None:
    dataset = random_dataset([5, 7, 9])
    order = torch.randperm(len(dataset))
    renumbered = Dataset(
        dataset.images[order], 2 - dataset.labels[order], tuple(reversed(dataset.classes)), "another name"
    )
    assert renumbered.fingerprint == dataset.fingerprint
    assert len(dataset.fingerprint) == 32


@pytest.mark.parametrize("change", ["pixel", "label", "class name", "shape", "duplicate", "missing"])
def test_fingerprint_changes_with_what_is_in_the_set(change: str) -> None:
    dataset = random_dataset([5, 7, 9])
    images, labels, classes = dataset.images.clone(), dataset.labels.clone(), dataset.classes
    if change == "pixel":
        images[3, 1, 2, 0] ^= 1
    elif change == "label":
        labels[3] = (labels[3] + 1) % 3
    elif change == "class name":
        classes = ("class 0", "class 1", "class two")
    elif change == "shape":
        images = images.reshape(len(images), 3, 2, 8)
    elif change == "duplicate":
        images, labels = torch.cat([images, images[:1]]), torch.cat([labels, labels[:1]])
    else:
        images, labels = images[1:], labels[1:]
    assert Dataset(images, labels, classes, "random").fingerprint != dataset.fingerprint


def test_fingerprint_of_a_transposed_view_is_that_of_its_pixels() -> None:
    dataset = random_dataset([5, 5])
    channels_last = dataset.images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    assert not channels_last.is_contiguous()
    assert Dataset(channels_last, dataset.labels, dataset.classes, "view").fingerprint == dataset.fingerprint


def test_renamed_keeps_images_and_fingerprint() -> None:
    dataset = random_dataset([3, 3])
    renamed = dataset.renamed("other")
    assert (renamed.name, dataset.name) == ("other", "random")
    assert renamed.images is dataset.images
    assert renamed.fingerprint == dataset.fingerprint


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=6), st.integers(0, 2**40), st.data())
def test_validation_split_is_stratified_exact_and_repeatable(counts: list[int], seed: int, data: st.DataObject) -> None:
    dataset = random_dataset(counts, size=1)
    if len(dataset) < 2:
        return
    size = data.draw(st.integers(1, len(dataset) - 1))
    train, validation = dataset.split_validation(size, seed)
    assert len(validation) == size
    assert sorted(train._digests + validation._digests) == sorted(dataset._digests)
    for label, count in enumerate(counts):
        assert abs(int((validation.labels == label).sum()) - size * count / len(dataset)) < 1
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(1))
    assert dataset.subset(order).split_validation(size, seed)[1].fingerprint == validation.fingerprint


def test_validation_split_depends_on_the_seed_and_keeps_the_order() -> None:
    dataset = random_dataset([50, 50])
    first, again, other = (dataset.split_validation(20, seed) for seed in (0, 0, 1))
    assert torch.equal(first[1].images, again[1].images)
    assert first[1].fingerprint != other[1].fingerprint
    position = {digest: index for index, digest in enumerate(dataset._digests)}
    assert [position[d] for d in first[0]._digests] == sorted(position[d] for d in first[0]._digests)


def test_split_indices_name_the_two_parts_without_copying_them() -> None:
    dataset = random_dataset([30, 50, 20])
    train, validation = dataset.split_indices(17, seed=4)
    for indices, part in zip((train, validation), dataset.split_validation(17, 4), strict=True):
        assert indices.dtype == torch.int64
        assert torch.equal(indices, indices.sort().values)
        assert torch.equal(dataset.images[indices], part.images)
        assert torch.equal(dataset.labels[indices], part.labels)
    assert sorted([*train.tolist(), *validation.tolist()]) == list(range(100))
    assert len(validation) == 17


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=5), st.integers(0, 2**40), st.data())
def test_a_split_among_some_images_is_stratified_disjoint_and_repeatable(
    counts: list[int], seed: int, data: st.DataObject
) -> None:
    dataset = random_dataset(counts, size=1)
    if len(dataset) < 3:
        return
    among = torch.tensor(sorted(data.draw(st.sets(st.integers(0, len(dataset) - 1), min_size=2))))
    size = data.draw(st.integers(1, len(among) - 1))
    rest, chosen = dataset.split_indices(size, seed, among=among)
    assert len(chosen) == size
    assert rest.dtype == chosen.dtype == torch.int64
    assert torch.equal(torch.cat([rest, chosen]).sort().values, among)  # so nothing twice, and nothing from elsewhere
    assert torch.equal(rest, rest.sort().values)
    assert torch.equal(chosen, chosen.sort().values)
    for label in range(len(counts)):
        share = size * int((dataset.labels[among] == label).sum()) / len(among)
        assert abs(int((dataset.labels[chosen] == label).sum()) - share) < 1
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(1))
    stored_otherwise, index = dataset.subset(order), order.argsort()
    _, again = stored_otherwise.split_indices(size, seed, among=index[among].sort().values)
    assert stored_otherwise.subset(again).fingerprint == dataset.subset(chosen).fingerprint


def test_a_split_among_all_is_the_split() -> None:
    dataset = random_dataset([30, 20])
    for one, other in zip(dataset.split_indices(7, 3), dataset.split_indices(7, 3, torch.arange(50)), strict=True):
        assert torch.equal(one, other)


def test_a_split_among_some_gives_ascending_indices_whatever_their_order() -> None:
    dataset = random_dataset([30, 20])
    among = torch.arange(0, 50, 2)
    shuffled = among[torch.randperm(25, generator=torch.Generator().manual_seed(2))]
    for one, other in zip(dataset.split_indices(7, 3, among), dataset.split_indices(7, 3, shuffled), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("size", [0, 4, 5])
def test_a_split_among_some_images_refuses_sizes_that_do_not_fit_them(size: int, refused: Callable[..., str]) -> None:
    sentence = refused(random_dataset([5, 5]).split_indices, size, 0, torch.tensor([1, 2, 8, 9]))
    assert f"{size} images" in sentence
    assert "has 4;" in sentence
    assert "1 to 3" in sentence


@pytest.mark.parametrize("size", [-1, 0, 10, 11])
def test_validation_split_refuses_sizes_that_do_not_fit(size: int, refused: Callable[..., str]) -> None:
    sentence = refused(random_dataset([5, 5]).split_validation, size, 0)
    assert str(size) in sentence
    assert "1 to 9" in sentence


def test_the_order_of_the_images_is_their_own_and_not_that_of_their_storage() -> None:
    dataset = random_dataset([5, 7, 9])
    turned = dataset.subset(torch.arange(len(dataset)).flip(0))
    assert not torch.equal(dataset.ordered, turned.ordered)
    assert torch.equal(dataset.images[dataset.ordered], turned.images[turned.ordered])
    assert sorted(dataset.ordered.tolist()) == list(range(len(dataset)))


def test_subset_takes_indices_in_order() -> None:
    dataset = random_dataset([4, 4])
    part = dataset.subset([5, 2])
    assert torch.equal(part.images, dataset.images[[5, 2]])
    assert torch.equal(part.labels, dataset.labels[[5, 2]])
    assert (part.classes, part.name, len(part)) == (dataset.classes, dataset.name, 2)
    assert len(dataset.subset([])) == 0


@pytest.mark.parametrize("indices", [[8], [-1]])
def test_subset_refuses_indices_outside(indices: list[int], refused: Callable[..., str]) -> None:
    assert "0 to 7" in refused(random_dataset([4, 4]).subset, indices)


def test_some_classes_alone_are_labelled_anew_in_the_order_asked_for() -> None:
    dataset = random_dataset([4, 5, 6])
    part = dataset.of_classes(["class 2", "class 0"])
    assert (part.classes, part.name, len(part)) == (("class 2", "class 0"), dataset.name, 10)
    kept = dataset.labels != 1
    assert torch.equal(part.images, dataset.images[kept])
    assert [part.classes[i] for i in part.labels] == [dataset.classes[i] for i in dataset.labels[kept]]
    assert dataset.of_classes(dataset.classes).fingerprint == dataset.fingerprint


@pytest.mark.parametrize(
    ("names", "reason"),
    [(["class 0", "cow"], "no class 'cow'"), ([], "without classes"), (["class 1", "class 1"], "repeat")],
)
def test_classes_that_are_not_there_are_refused(names: list[str], reason: str, refused: Callable[..., str]) -> None:
    assert reason in refused(random_dataset([4, 4]).of_classes, names)


def test_channel_statistics_are_those_of_the_pixels_in_float64() -> None:
    dataset = random_dataset([5000, 5000], size=3)  # several chunks, the last one short
    pixels = dataset.images.numpy().astype(np.float64) / 255
    mean, std = dataset.channel_statistics()
    np.testing.assert_allclose(mean, pixels.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, pixels.std((0, 2, 3)), rtol=1e-12)


def test_statistics_of_some_images_are_those_of_the_subset() -> None:
    dataset = random_dataset([4000, 6000], size=3)
    indices = torch.randperm(10_000, generator=torch.Generator().manual_seed(1))[:9000]  # several chunks
    part = dataset.subset(indices)
    assert dataset.channel_statistics(indices) == part.channel_statistics() != dataset.channel_statistics()
    some, same, every = (
        principal_colours(dataset.images, indices),
        principal_colours(part.images),
        principal_colours(dataset.images),
    )
    for one, other, different in zip(some, same, every, strict=True):
        assert torch.equal(one, other)
        assert not torch.equal(one, different)


def test_statistics_of_no_images_at_all_are_refused(refused: Callable[..., str]) -> None:
    assert "no images" in refused(random_dataset([3]).channel_statistics, torch.tensor([], dtype=torch.int64))


def test_to_the_device_where_it_is_is_no_copy_and_keeps_the_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = random_dataset([3, 3])
    fingerprint = dataset.fingerprint
    monkeypatch.setattr(Dataset, "_compute_digests", lambda self: pytest.fail("computed a second time"))
    there = dataset.to("cpu")
    assert there.images is dataset.images
    assert there.labels is dataset.labels
    assert (there.fingerprint, there.name, there.classes) == (fingerprint, dataset.name, dataset.classes)
    elsewhere = dataset.to("meta")
    assert (elsewhere.images.device.type, dataset.images.device.type) == ("meta", "cpu")
    assert elsewhere.fingerprint == fingerprint


def test_channel_statistics_make_no_copy_of_the_images() -> None:
    class LargestNewTensor(TorchDispatchMode):
        size = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and result.untyped_storage().data_ptr() != stored:
                self.size = max(self.size, result.numel() * result.element_size())
            return result

    dataset = random_dataset([20_000], size=8)
    stored = dataset.images.untyped_storage().data_ptr()
    with LargestNewTensor() as largest:
        dataset.channel_statistics()
        dataset.channel_statistics(torch.arange(1, 20_000))
    assert 0 < largest.size < dataset.images.numel() / 10


def test_statistics_of_nothing_are_refused(refused: Callable[..., str]) -> None:
    assert "no images" in refused(random_dataset([3]).subset([]).channel_statistics)


IMAGES, LABELS = torch.zeros(4, 3, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 1, 0])


@pytest.mark.parametrize(
    ("images", "labels", "classes", "says"),
    [
        (IMAGES.float(), LABELS, ("a", "b"), "torch.float32"),
        (IMAGES[0], LABELS, ("a", "b"), "(3, 2, 2)"),
        (IMAGES, LABELS.int(), ("a", "b"), "torch.int32"),
        (IMAGES, LABELS[:3], ("a", "b"), "4 images but 3 labels"),
        (IMAGES, LABELS, ("a",), "0 to 1"),
        (IMAGES, LABELS - 1, ("a", "b"), "-1 to 0"),
        (IMAGES, LABELS, ("a", "a"), "repeat"),
        (IMAGES, [0, 1, 1, 0], ("a", "b"), "The labels of 'wrong' are a list"),
        (IMAGES.numpy(), LABELS, ("a", "b"), "The images of 'wrong' are a ndarray"),
        (torch.zeros(4, 32, 32, 3, dtype=torch.uint8), LABELS, ("a", "b"), "give images.permute(0, 3, 1, 2)"),
        (torch.zeros(4, 28, 28, 1, dtype=torch.uint8), LABELS, ("a", "b"), "give images.permute(0, 3, 1, 2)"),
        (IMAGES, LABELS, "ab", "expected a tuple of names"),
        (IMAGES, LABELS, (0, 1), "0 is not a name"),
        (IMAGES, LABELS, ("a", " "), "' ' is not a name"),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    images: torch.Tensor, labels: torch.Tensor, classes: tuple[str, ...], says: str, refused: Callable[..., str]
) -> None:
    assert says in refused(Dataset, images, labels, classes, "wrong")


def test_a_list_of_classes_is_as_good_as_a_tuple() -> None:
    assert Dataset(IMAGES, LABELS, ["a", "b"], "list").classes == ("a", "b")


def test_a_mask_takes_the_images_where_it_is_true() -> None:
    dataset = random_dataset([3, 2, 4])
    for mask in (dataset.labels == 1, (dataset.labels == 1).tolist(), (dataset.labels == 1).numpy()):
        part = dataset.subset(mask)
        assert part.labels.tolist() == [1, 1]
        assert torch.equal(part.images, dataset.images[dataset.labels == 1])
    assert len(dataset.subset(dataset.labels == 9)) == 0


@pytest.mark.parametrize(
    ("indices", "says"),
    [
        ([True, False], "one boolean for each of its 9 images"),
        ([0.0, 1.0], "torch.float32"),
        ([[0, 1]], "of shape (1, 2)"),
    ],
)
def test_a_subset_refuses_what_are_no_indices(indices: list[object], says: str, refused: Callable[..., str]) -> None:
    assert says in refused(random_dataset([3, 2, 4]).subset, indices)


@pytest.mark.parametrize("part", ["labels", "images"])
def test_what_is_written_in_place_changes_the_fingerprint(part: str) -> None:
    dataset = random_dataset([3, 3])
    before, tensor = dataset.fingerprint, getattr(dataset, part)
    tensor[0] = 1 - tensor[0]  # label noise, say
    noisy = dataset.fingerprint
    assert noisy != before
    assert Dataset(dataset.images, dataset.labels, dataset.classes, "anew").fingerprint == noisy
    tensor[0] = 1 - tensor[0]
    assert dataset.fingerprint == before


def test_dataset_is_frozen_and_prints_in_one_line() -> None:
    dataset = random_dataset([1200])
    assert repr(dataset) == "Dataset(random: 1,200 images of 3×4×4, 1 classes)"
    with pytest.raises(AttributeError):
        dataset.name = "other"  # type: ignore[misc]
    assert issubclass(CourseError, ValueError)
