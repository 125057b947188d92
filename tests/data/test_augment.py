import pytest
import torch

from alexnet_course.data.augment import autoaugment, colour_pca, crop_and_flip, cutout, principal_colours
from alexnet_course.errors import CourseError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered(count: int = 64, size: int = 8) -> torch.Tensor:
    """Images whose pixels all differ and are never zero, so that a pixel tells where it came from."""
    pixels = torch.arange(1, 3 * size * size + 1, dtype=torch.int16).reshape(1, 3, size, size)
    return pixels.repeat(count, 1, 1, 1)


def test_every_crop_is_a_window_of_the_padded_image():
    images, padding = numbered(200), 2
    changed = crop_and_flip(images, padding, flip=False, generator=generator())
    padded = torch.nn.functional.pad(images[0], (padding,) * 4)
    windows = [padded[:, top : top + 8, left : left + 8] for top in range(5) for left in range(5)]
    seen = set()
    for image in changed:
        matches = [i for i, window in enumerate(windows) if torch.equal(window, image)]
        assert len(matches) == 1
        seen.update(matches)
    assert len(seen) == 25  # every position occurs


def test_flip_mirrors_about_half_and_keeps_channels_and_rows():
    images = numbered(400)
    changed = crop_and_flip(images, 0, flip=True, generator=generator())
    mirrored = [torch.equal(image, images[0].flip(-1)) for image in changed]
    unchanged = [torch.equal(image, images[0]) for image in changed]
    assert all(m != u for m, u in zip(mirrored, unchanged, strict=True))
    assert 150 < sum(mirrored) < 250


def test_crop_and_flip_keeps_type_and_repeats_for_a_seed():
    images = torch.randint(256, (16, 3, 8, 8), dtype=torch.uint8)
    first, second = (crop_and_flip(images, 2, True, generator(5)) for _ in range(2))
    assert first.dtype == torch.uint8
    assert torch.equal(first, second)
    assert not torch.equal(first, crop_and_flip(images, 2, True, generator(6)))


def test_cutout_blanks_one_square_that_may_stick_out():
    blanked = (cutout(torch.ones(300, 3, 16, 16), 6, generator()) == 0).all(1)
    areas = blanked.flatten(1).sum(1)
    assert areas.max() == 36
    assert areas.min() >= 9  # at most half of each side is outside
    for hole in blanked[:20]:
        rows, columns = hole.any(1).sum(), hole.any(0).sum()
        assert hole.sum() == rows * columns


def test_principal_colours_are_those_of_the_covariance():
    images = torch.randint(256, (50, 3, 8, 8), dtype=torch.uint8)
    images[:, 1] = images[:, 0] // 2  # so that the channels are correlated
    eigenvalues, eigenvectors = principal_colours(images)
    pixels = images.movedim(1, -1).reshape(-1, 3).double() / 255
    covariance = torch.cov(pixels.T, correction=0)
    torch.testing.assert_close(eigenvectors @ eigenvalues.diag() @ eigenvectors.T, covariance)


def test_colour_shift_is_one_colour_a_image_with_the_paper_s_spread():
    eigenvalues = torch.tensor([0.1, 0.5, 2.0], dtype=torch.float64)
    eigenvectors = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=generator()))[0]
    images = torch.rand(20_000, 3, 2, 2)
    shift = colour_pca(images, eigenvalues, eigenvectors, 0.1, generator(1)) - images
    torch.testing.assert_close(shift, shift[:, :, :1, :1].expand_as(shift), atol=1e-5, rtol=0)
    spread = (shift[:, :, 0, 0].double() @ eigenvectors).std(0)
    torch.testing.assert_close(spread, 0.1 * eigenvalues, rtol=0.03, atol=0)


def test_principal_colours_need_three_channels():
    with pytest.raises(CourseError, match="have 1 channels, but principal colours are those of RGB"):
        principal_colours(torch.zeros(2, 1, 4, 4, dtype=torch.uint8))


def test_no_colour_shift_at_strength_zero():
    images = torch.rand(4, 3, 2, 2)
    assert torch.equal(colour_pca(images, torch.ones(3), torch.eye(3), 0.0), images)


# --- AutoAugment -----------------------------------------------------------------------------------------------------


def smooth(count: int = 24, size: int = 32) -> torch.Tensor:
    """Copies of one image of three different slopes: whatever a policy does to it, something changes."""
    rows, columns = torch.arange(size)[:, None].expand(size, size), torch.arange(size).expand(size, size)
    image = torch.stack([40 + 4 * rows, 200 - 5 * columns, 60 + rows + 2 * columns])
    return image.to(torch.uint8).expand(count, 3, size, size).clone()


def test_autoaugment_keeps_type_and_shape_and_repeats_for_a_generator_s_state():
    images = smooth()
    first, second = (autoaugment(images, generator(5)) for _ in range(2))
    assert (first.dtype, first.shape) == (torch.uint8, images.shape)
    assert torch.equal(first, second)
    assert not torch.equal(first, autoaugment(images, generator(6)))
    assert torch.equal(images, smooth())  # what it is given stays as it is


def test_autoaugment_goes_on_drawing_from_its_generator():
    images, draws = smooth(), generator(5)
    state = draws.get_state()
    first, second = autoaugment(images, draws), autoaugment(images, draws)
    assert not torch.equal(first, second)
    draws.set_state(state)
    assert torch.equal(autoaugment(images, draws), first)


def test_autoaugment_draws_for_each_image_by_itself():
    changed = autoaugment(smooth(), generator())
    assert len(changed.flatten(1).unique(dim=0)) > 8


@pytest.mark.parametrize("own", [True, False])
def test_autoaugment_leaves_torch_s_generators_to_others(own, monkeypatch):
    """Dropout's are the global ones, on the processor and on a GPU; only the seed may come from the former."""

    def never(*_: object) -> None:
        raise AssertionError("a GPU's generator was seeded")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", never)
    torch.default_generator.manual_seed(3)
    if not own:
        torch.randint(2**62, (1,))
    expected = torch.rand(3)
    torch.default_generator.manual_seed(3)
    autoaugment(smooth(4), generator() if own else None)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("policy", ["cifar10", "imagenet"])
def test_autoaugment_is_torchvision_s_policy_of_that_name(policy):
    from torchvision.transforms import AutoAugmentPolicy, v2

    images = smooth(6)
    seed = int(torch.randint(2**62, (1,), generator=generator(9)))
    theirs = v2.AutoAugment({"cifar10": AutoAugmentPolicy.CIFAR10, "imagenet": AutoAugmentPolicy.IMAGENET}[policy])
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        expected = torch.stack([theirs(image) for image in images])
    assert torch.equal(autoaugment(images, generator(9), policy), expected)
    other = "imagenet" if policy == "cifar10" else "cifar10"
    assert not torch.equal(autoaugment(images, generator(9), other), expected)
