"""What a network says of images in files: the same as of the images of a data set, whatever the files look like."""

import re
import warnings
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from alexnet_course import CourseError, Recipe, fit, load_pretrained, predict, prediction
from alexnet_course.data.batches import BatchLoader
from alexnet_course.data.decode import read_image
from alexnet_course.data.folder import load_folder
from alexnet_course.data.photos import FOLDER as PHOTOS
from alexnet_course.records.record import Record
from alexnet_course.shapes import evaluating

NAME = "vgg-style-bn.small"


@pytest.fixture(scope="module")
def network() -> tuple[nn.Module, Record]:
    return load_pretrained(NAME)


@pytest.fixture(scope="module")
def record(network) -> Record:
    return network[1]


def of_channels(record: Record, channels: int) -> Record:
    constants = {"mean": (0.5,) * channels, "std": (0.5,) * channels}
    return record.replace(dataset=record.dataset.model_copy(update=constants))


class Echo(nn.Module):
    """Says of each image how bright its channels are."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.same = nn.Conv2d(channels, channels, 1, groups=channels, bias=False)
        nn.init.ones_(self.same.weight)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.same(images).mean((2, 3))


def test_a_file_gets_the_answer_that_its_image_gets_in_a_data_set(network, tmp_path):
    model, record = network
    for split in ("train", "test"):
        for number, name in enumerate(record.dataset.classes):
            (tmp_path / split / name).mkdir(parents=True)
            draw = torch.Generator().manual_seed(number)
            pixels = torch.randint(256, (32, 32, 3), dtype=torch.uint8, generator=draw).numpy()
            Image.fromarray(pixels).save(tmp_path / split / name / "x.png")
    dataset = load_folder(tmp_path, "test", tmp_path)
    loader = BatchLoader(dataset, 10, mean=record.dataset.mean, std=record.dataset.std)
    with torch.no_grad():
        expected = model(loader.prepare(dataset.images)).softmax(1)
    found = predict(network, tmp_path / "test")
    assert [answer.path.parent.name for answer in found] == list(dataset.classes)
    for answer, row in zip(found, expected, strict=True):
        assert [answer.probabilities[name] for name in dataset.classes] == pytest.approx(row.tolist(), abs=1e-6)
        assert list(answer.probabilities.values()) == sorted(answer.probabilities.values(), reverse=True)
        assert sum(answer.probabilities.values()) == pytest.approx(1)
        assert answer.best == dataset.classes[int(row.argmax())]
        assert answer.evidence is None


@pytest.mark.parametrize("size", [(96, 32), (300, 90), (32, 96), (33, 12)])
def test_the_middle_of_a_image_is_seen_at_the_network_s_size(network, tmp_path, size):
    """Of red, green and blue side by side, the green."""
    width, height = size
    image = Image.new("RGB", size, "lime")
    long, short = max(size), min(size)
    margin = (long - short) // 2 - long // 20
    for place, colour in ((0, "red"), (long - margin, "blue")):
        corner = (place, 0) if width > height else (0, place)
        image.paste(Image.new("RGB", (margin, height) if width > height else (width, margin), colour), corner)
    image.save(tmp_path / "x.png")
    (answer,) = predict(network, tmp_path / "x.png", explain=True)
    assert answer.image.shape == (3, 32, 32)
    green = torch.tensor([0.0, 1.0, 0.0])[:, None, None].expand(3, 32, 32)
    assert torch.allclose(answer.image, green, atol=1e-5)


def test_a_large_image_is_smoothed_before_it_is_made_small(network, tmp_path):
    stripes = torch.zeros(320, 320, 3, dtype=torch.uint8)
    stripes[::2] = 255
    Image.fromarray(stripes.numpy()).save(tmp_path / "x.png")
    (answer,) = predict(network, str(tmp_path / "x.png"), explain=True)
    assert (answer.image - 0.5).abs().max() < 0.06


@pytest.mark.filterwarnings("ignore:Some images have transparent parts")
def test_a_image_is_turned_upright_and_what_is_transparent_is_white(network, tmp_path):
    upright = Image.new("RGB", (32, 32), "black")
    upright.paste("white", (0, 0, 32, 16))
    exif = Image.Exif()
    exif[0x0112] = 3  # held upside down
    upright.rotate(180).save(tmp_path / "turned.png", exif=exif)
    Image.new("RGBA", (32, 32), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    turned, clear = predict(network, [tmp_path / "turned.png", tmp_path / "clear.png"], explain=True)
    halves = torch.tensor([1.0, 0.0]).repeat_interleave(16)[:, None].expand(3, 32, 32)
    assert torch.allclose(turned.image, halves, atol=1e-6)
    assert torch.allclose(clear.image, torch.ones(3, 32, 32), atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "left", "middle"),
    [
        ({"resize": "pad"}, "black", "lime"),  # of a tall image all is seen, between black
        ({"load_size": 64, "random_crop": True}, "lime", "lime"),  # the middle, as in an evaluation
        ({"load_size": 64}, "blue", "lime"),  # resized twice
    ],
)
def test_a_image_is_prepared_as_the_recipe_says(network, tmp_path, changes, left, middle):
    """A green square in the middle of blue, half as wide, or, for the first, nothing but green and tall."""
    model, record = network
    image = Image.new("RGB", (128, 128), "blue")
    image.paste("lime", (32, 32, 96, 96))
    if "resize" in changes:
        image = Image.new("RGB", (64, 128), "lime")
    image.save(tmp_path / "x.png")
    changed = record.replace(recipe=record.recipe.replace(**changes))
    (answer,) = predict((model, changed), tmp_path / "x.png", explain=True)
    assert answer.image.shape == (3, 32, 32)
    for column, colour in ((2, left), (16, middle)):
        expected = torch.tensor({"black": [0.0, 0, 0], "lime": [0.0, 1, 0], "blue": [0.0, 0, 1]}[colour])
        assert torch.allclose(answer.image[:, 16, column], expected, atol=0.01)


def test_a_file_gets_the_answer_of_an_evaluation_although_all_training_images_were_large_squares(tmp_path):
    """Squares of one size stay as they are, so crops of 32 pixels are a part of 48, not of ``load_size``."""
    draw = torch.Generator().manual_seed(0)
    for split, count in (("train", 6), ("test", 8)):
        for name in ("a", "b"):
            (tmp_path / "squares" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = torch.randint(256, (6, 6, 3), dtype=torch.uint8, generator=draw).numpy()
                side = 80 if (split, number) == ("test", 0) else 48  # so the test images have different sizes
                image = Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST)
                image.save(tmp_path / "squares" / split / name / f"{number}.png")
    recipe = Recipe(
        model="cnn4",
        dataset=f"folder:{tmp_path / 'squares'}",
        epochs=1,
        batch_size=2,
        validation_size=4,
        load_size=36,
        random_crop=True,
        crop=0,
    )
    with pytest.warns(UserWarning, match="different sizes or are not square, so all are resized to 48×48"):
        run = fit(recipe, device="cpu", progress=False)
    assert run.record.dataset.side == 48
    answers = predict((run.model, run.record), tmp_path / "squares" / "test")
    right = sum(answer.best == answer.path.parent.name for answer in answers) / len(answers)
    assert right == run.record.test_accuracy
    loader = BatchLoader(run.test_set, 16, mean=run.mean, std=run.std, size=32, cut=True)
    with torch.no_grad(), evaluating(run.model):
        expected = run.model(loader.prepare(run.test_set.images)).softmax(1)
    for answer, row in zip(answers, expected, strict=True):
        assert [answer.probabilities[name] for name in ("a", "b")] == pytest.approx(row.tolist(), abs=1e-5)


def test_a_photograph_has_no_more_detail_than_the_training_images_that_were_enlarged(network, tmp_path):
    """Stripes of two pixels in 128 are grey in 32, which is what a network was trained on that enlarges to 64."""
    _, record = network
    stripes = torch.zeros(128, 128, 3, dtype=torch.uint8)
    stripes[:, ::4] = stripes[:, 1::4] = 255
    Image.fromarray(stripes.numpy()).save(tmp_path / "x.png")
    trained = record.replace(
        recipe=record.recipe.replace(input_size=64), dataset=record.dataset.model_copy(update={"side": 32})
    )
    (answer,) = predict((Echo(), trained), tmp_path / "x.png", explain=True)
    assert answer.image.shape == (3, 64, 64)
    assert answer.image[:, 8:-8, 8:-8].std() < 0.02


class TestFiles:
    @pytest.fixture
    def folder(self, tmp_path) -> Path:
        for name in ("b.png", "deep/er/a.png", ".hidden.png", ".ipynb_checkpoints/b.png", "c.png"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), "red").save(tmp_path / name)
        (tmp_path / "Thumbs.db").write_text("no image")
        return tmp_path

    def test_a_folder_is_taken_as_a_whole_but_for_what_is_left_behind(self, network, folder):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = predict(network, folder)
        assert [answer.path for answer in found] == [folder / name for name in ("b.png", "c.png", "deep/er/a.png")]

    def test_what_is_no_image_is_left_out_of_a_folder_and_said(self, network, folder):
        (folder / "notes.txt").write_text("no image")
        with pytest.warns(UserWarning, match=r"^One file is skipped: '.*notes.txt' cannot be read as an image"):
            assert len(predict(network, folder)) == 3

    def test_what_is_named_itself_must_be_one(self, network, folder):
        (folder / "notes.txt").write_text("no image")
        with pytest.raises(CourseError, match=r"notes.txt' cannot be read as an image"):
            predict(network, [folder / "b.png", folder / "notes.txt"])
        with pytest.raises(CourseError, match=r"^There is no image '.*nowhere.png'; give the path of a file"):
            predict(network, [folder / "notes.txt", folder / "nowhere.png"])  # said before anything is read

    def test_there_must_be_one(self, network, tmp_path):
        with pytest.raises(CourseError, match=re.escape(f"There is no image in {str(tmp_path)!r}; give files, or")):
            predict(network, tmp_path)


def test_any_number_of_images_takes_the_memory_of_one_batch(network, tmp_path, monkeypatch):
    for number in range(6):
        Image.new("RGB", (8, 8), "red").save(tmp_path / f"{number}.png")
    read = []
    monkeypatch.setattr(prediction, "BATCH", 2)
    monkeypatch.setattr(prediction, "read_image", lambda file, *way: read.append(file) or read_image(file, *way))
    found = prediction.predictions(*network, [tmp_path])
    assert next(found).path == tmp_path / "0.png"
    assert len(read) == 2
    rest = list(found)
    assert [answer.path.name for answer in rest] == ["1.png", "2.png", "3.png", "4.png", "5.png"]
    assert {answer.image for answer in rest} == {None}


def test_a_network_of_grey_images_gets_the_brightness(record, tmp_path):
    Image.new("RGB", (40, 40), (255, 0, 0)).save(tmp_path / "x.png")
    (answer,) = predict((Echo(1), of_channels(record, 1)), tmp_path / "x.png", explain=True)
    assert answer.image.shape == (1, 32, 32)
    assert answer.image.mean().item() == pytest.approx(0.299, abs=1e-3)  # what red adds to it (ITU-R BT.601)


def test_a_network_of_other_channels_is_refused(record):
    with pytest.raises(CourseError, match="The network takes images of 4 channels, and image files have 3, or 1"):
        predict((Echo(4), of_channels(record, 4)), PHOTOS / "cat.png")


def test_outputs_beyond_the_classes_do_not_count(record, tmp_path):
    Image.new("RGB", (32, 32), (255, 0, 128)).save(tmp_path / "x.png")
    two = record.replace(dataset=of_channels(record, 3).dataset.model_copy(update={"classes": ("red", "green")}))
    (answer,) = predict((Echo(), two), tmp_path / "x.png")
    red, green = torch.tensor([1.0, -1.0]).softmax(0).tolist()  # 1 and 0, normalised; the blue is no class
    assert answer.probabilities == {"red": pytest.approx(red), "green": pytest.approx(green)}


def test_a_network_that_is_given_stays_as_it_was(network):
    model, record = network
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    (answer,) = predict((model, record), PHOTOS / "cat.png", explain=True)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    model.eval()
    (named,) = predict(NAME, PHOTOS / "cat.png", device="cpu")
    assert answer.probabilities == named.probabilities
    assert answer.evidence.shape == (4, 4)
    assert answer.evidence.max() > 0
