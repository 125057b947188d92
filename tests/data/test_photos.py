"""The images that come with the package, and what the trained network that comes with it says of them."""

import torch

from alexnet_course import load_pretrained
from alexnet_course.data.photos import FOLDER, load_photos


def test_each_is_a_image_of_cifar_s_size_with_its_source():
    photos = load_photos()
    assert list(photos) == ["cat", "coffee", "horse", "rocket"]
    sources = (FOLDER / "SOURCES.md").read_text()
    for name, photo in photos.items():
        assert (photo.dtype, tuple(photo.shape)) == (torch.uint8, (3, 32, 32))
        assert photo.float().std() > 10
        assert f"| {name}.png |" in sources


def test_the_small_network_knows_the_two_that_have_a_class():
    """As chapter 3 says of them."""
    model, record = load_pretrained("vgg-style-bn.small")
    mean, std = (torch.tensor(getattr(record.dataset, key))[:, None, None] for key in ("mean", "std"))
    photos = load_photos()
    with torch.no_grad():
        shares = model((torch.stack(list(photos.values())) / 255 - mean) / std).softmax(1)
    said = [record.dataset.classes[index] for index in shares.argmax(1)]
    assert (said[0], said[2]) == ("cat", "horse")
    assert shares.max(1).values[[1, 3]].min() > 0.5  # and is sure of the others, too
