"""The images and the folders that people have: each kind is taken as it should be, or refused in one sentence."""

import json
import os
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alexnet_course.cli import main
from alexnet_course.data import Dataset, load_dataset, tree
from alexnet_course.data.decode import read_image
from alexnet_course.errors import CourseError
from alexnet_course.records import RECORD

RED, WHITE, BLACK = (200, 30, 90), (255, 255, 255), (0, 0, 0)


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's cache is; and nothing has been said yet."""
    monkeypatch.setenv("ALEXNET_COURSE_CACHE", str(tmp_path / "kept"))
    monkeypatch.setattr(tree, "_said", set())
    return tmp_path / "kept"


# --- One image -----------------------------------------------------------------------------------------------------


def sixteen_bits(mode: str) -> Image.Image:
    values = np.array([[0, 128], [32_768, 65_535]], dtype=np.uint16)
    return Image.fromarray(values if mode == "I;16" else values.astype(np.int32))


def half_red(mode: str) -> Image.Image:
    """Red above, transparent below."""
    image = Image.new("RGBA", (2, 2), (*RED, 0))
    image.paste((*RED, 255), (0, 0, 2, 1))
    return image.quantize(4) if mode == "P" else image.convert(mode)


def palette_with_a_transparent_colour() -> Image.Image:
    image = Image.new("P", (2, 2), 1)
    image.putpalette([*RED, 1, 2, 3])
    image.info["transparency"] = 1
    return image


@pytest.mark.parametrize(
    ("make", "suffix", "pixels"),
    [
        (lambda: Image.new("RGB", (2, 2), RED), "png", [RED] * 4),
        (lambda: Image.new("RGB", (2, 2), RED), "bmp", [RED] * 4),
        (lambda: Image.new("RGB", (2, 2), RED), "webp", None),
        (lambda: Image.new("RGB", (2, 2), RED), "tif", [RED] * 4),
        (lambda: Image.new("RGB", (2, 2), RED), "gif", [RED] * 4),
        (lambda: Image.new("L", (2, 2), 77), "png", [(77, 77, 77)] * 4),
        (lambda: Image.new("1", (2, 2), 1), "png", [WHITE] * 4),
        (lambda: Image.new("RGB", (2, 2), RED).quantize(4), "png", [RED] * 4),
        (lambda: Image.new("LA", (2, 2), (77, 0)), "png", [WHITE] * 4),
        (lambda: half_red("RGBA"), "png", [RED, RED, WHITE, WHITE]),
        (lambda: half_red("P"), "png", [RED, RED, WHITE, WHITE]),
        (palette_with_a_transparent_colour, "png", [WHITE] * 4),
        (lambda: sixteen_bits("I;16"), "png", [BLACK, BLACK, (128,) * 3, WHITE]),
        (lambda: sixteen_bits("I;16"), "tif", [BLACK, BLACK, (128,) * 3, WHITE]),
        (lambda: sixteen_bits("I"), "tif", [BLACK, BLACK, (128,) * 3, WHITE]),
        (lambda: Image.new("CMYK", (2, 2), (0, 255, 255, 0)), "tif", [(255, 0, 0)] * 4),
        (lambda: Image.new("CMYK", (2, 2), (0, 255, 255, 0)), "jpg", None),
        (lambda: Image.new("YCbCr", (2, 2), (255, 128, 128)), "jpg", [WHITE] * 4),
    ],
)
def test_every_kind_of_image_is_rgb(
    make: Callable[[], Image.Image], suffix: str, pixels: list[tuple[int, ...]] | None, tmp_path: Path
) -> None:
    file = tmp_path / f"image.{suffix}"
    make().save(file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = read_image(str(file))
    assert (found.dtype, found.shape) == (np.uint8, (3, 2, 2))
    if pixels is not None:
        assert list(map(tuple, found.reshape(3, 4).T.tolist())) == pixels
    else:  # of a format that does not keep them to the bit
        wanted = np.array((255, 0, 0) if suffix == "jpg" else RED)
        assert np.abs(found.reshape(3, 4).T - wanted).max() < 12


def test_what_becomes_white_is_said_once(tmp_path: Path) -> None:
    half_red("RGBA").save(tmp_path / "image.png")
    with pytest.warns(UserWarning, match=r"^Some images have transparent parts, which become white\.$") as said:
        images = [read_image(str(tmp_path / "image.png")) for _ in range(3)]
    assert len(images) == 3
    assert len(said) == 1


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Image.new("F", (2, 2), 0.5), "of mode F, whose range is unknown"),
        (lambda: Image.fromarray(np.array([[70_000, 0]], dtype=np.int32)), "of mode I, whose range is unknown"),
        (lambda: Image.fromarray(np.array([[-1, 0]], dtype=np.int32)), "of mode I, whose range is unknown"),
    ],
)
def test_numbers_whose_range_nobody_knows_are_refused(
    make: Callable[[], Image.Image], says: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    make().save(tmp_path / "image.tif")
    assert says in refused(read_image, str(tmp_path / "image.tif"))


@pytest.mark.parametrize(("orientation", "corner"), [(1, (0, 0)), (3, (31, 31)), (6, (0, 31)), (8, (31, 0))])
@pytest.mark.parametrize("size", [None, 32])
def test_a_image_is_turned_as_the_camera_was_held(
    orientation: int, corner: tuple[int, int], size: int | None, tmp_path: Path
) -> None:
    """The bright corner is top left in the file; ``corner`` is its row and column as the image is to be seen."""
    image = Image.new("RGB", (32, 32))
    image.paste(WHITE, (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "image.png", exif=exif)
    image = read_image(str(tmp_path / "image.png"), size)
    assert image[0, corner[0], corner[1]] == 255
    assert (image == 255).mean() == 1 / 16


def stripes(width: int, height: int) -> np.ndarray:
    """Red, then green, then blue along the longer side, each a third of it."""
    long = max(width, height)
    place = (np.arange(long) * 3 // long)[:, None] == np.arange(3)
    row = (place * 255).astype(np.uint8)
    return np.broadcast_to(row[None] if width >= height else row[:, None], (height, width, 3)).copy()


@pytest.mark.parametrize(("width", "height"), [(90, 30), (30, 90), (900, 300)])
def test_the_short_side_is_resized_and_the_middle_taken_or_all_of_it(width: int, height: int, tmp_path: Path) -> None:
    Image.fromarray(stripes(width, height)).save(tmp_path / "image.png")
    cropped = read_image(str(tmp_path / "image.png"), 30, "crop").transpose(1, 2, 0)
    assert cropped.shape == (30, 30, 3)
    assert np.abs(cropped[1:-1, 1:-1].astype(int) - (0, 255, 0)).max() < 100  # the middle third, with soft edges
    assert cropped[15, 15].tolist() == [0, 255, 0]
    padded = read_image(str(tmp_path / "image.png"), 30, "pad").transpose(1, 2, 0)
    if height > width:
        padded = padded.transpose(1, 0, 2)
    assert padded[:9].max() == padded[-9:].max() == 0
    assert [padded[15, column].tolist() for column in (3, 15, 26)] == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]


@pytest.mark.parametrize(("width", "height"), [(300, 1), (1, 300)])
def test_something_is_left_of_the_narrowest_image(width: int, height: int, tmp_path: Path) -> None:
    Image.new("RGB", (width, height), WHITE).save(tmp_path / "image.png")
    padded = read_image(str(tmp_path / "image.png"), 32, "pad")
    assert (padded == 255).sum() == 3 * 32


def test_an_image_that_could_be_transparent_and_is_not_is_no_reason_to_say_so(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (255, 0, 0, 255)).save(tmp_path / "image.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(str(tmp_path / "image.png"))[:, 0, 0].tolist() == [255, 0, 0]


def test_an_image_with_damaged_exif_data_is_an_image_nevertheless(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), WHITE).save(tmp_path / "image.png", exif=b"Exif\0\0not a header at all")
    with pytest.warns(UserWarning, match="Some images have EXIF data that cannot be read"):
        assert read_image(str(tmp_path / "image.png")).min() == 255


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "image.png")
    with pytest.raises(CourseError, match=r"cannot be read as an image \(not a file\); expected"):
        read_image(str(tmp_path / "image.png"))


def test_a_reduced_image_is_smoothed_and_a_large_jpeg_alike(tmp_path: Path) -> None:
    checks = ((np.indices((512, 512)).sum(0) % 2) * 255).astype(np.uint8)
    Image.fromarray(checks).save(tmp_path / "checks.png")
    Image.fromarray(checks).save(tmp_path / "checks.jpg", quality=95)
    for name in ("checks.png", "checks.jpg"):
        image = read_image(str(tmp_path / name), 32)
        assert 120 <= image.min() <= image.max() <= 135


# --- A folder --------------------------------------------------------------------------------------------------------


def write(path: Path, images: dict[str, Image.Image]) -> Path:
    for name, image in images.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(path / name)
    return path


def plain(number: int, size: tuple[int, int] = (8, 8)) -> Image.Image:
    return Image.new("RGB", size, (number % 256, number // 256, 50))


def classes_of(count: int, part: str = "", first: int = 0) -> dict[str, Image.Image]:
    """So many images of two classes, each of another colour."""
    names = [f"{part}{kind}/{number}.png" for kind in ("cat", "dog") for number in range(count)]
    return {name: plain(first + place) for place, name in enumerate(names)}


def load(path: Path, split: str | None = None, **options: object) -> Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_dataset(f"folder:{path}", split, **options)  # type: ignore[arg-type]


def colours(dataset: Dataset) -> set[int]:
    return {int(image[0, 0, 0]) + 256 * int(image[1, 0, 0]) for image in dataset.images}


LEFT_BEHIND = [
    "train/.ipynb_checkpoints/a.png",
    "train/cat/.ipynb_checkpoints/a.png",
    "train/cat/__MACOSX/._a.png",
    "__MACOSX/train/cat/._a.png",
    "train/__MACOSX/a.png",
    "train/cat/._0.png",
    "train/cat/.hidden",
    "train/cat/.DS_Store",
    "train/cat/Thumbs.db",
    "train/cat/thumbs.db",
    "train/cat/desktop.ini",
    "train/cat/Desktop.ini",
    ".git/cat/a.png",
]


@pytest.mark.parametrize("name", LEFT_BEHIND)
@pytest.mark.parametrize("with_parts", [True, False])
def test_what_systems_and_notebooks_leave_behind_is_passed_over(name: str, with_parts: bool, tmp_path: Path) -> None:
    parts = {**classes_of(3, "train/"), **classes_of(2, "test/", 10)}
    path = write(tmp_path / "pets", parts if with_parts else classes_of(5))
    before = load(path).fingerprint, load(path, "test").fingerprint
    left = path / (name if with_parts else name.replace("train/", ""))
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_text("not an image")
    assert (load(path).fingerprint, load(path, "test").fingerprint) == before


def test_images_of_one_size_stay_as_they_are(tmp_path: Path) -> None:
    path = write(tmp_path / "pets", {**classes_of(3, "train/"), **classes_of(2, "test/", 10)})
    fingerprint = load(path).fingerprint
    for options in ({"size": 5}, {"size": 100}, {"resize": "pad"}):
        assert load(path, **options).fingerprint == fingerprint
    assert load(path).images.shape[1:] == (3, 8, 8)


def test_images_of_one_size_that_are_not_square_are_resized_as_those_to_predict_are(tmp_path: Path) -> None:
    """A network would squash them in training, and see a centre cropped from them afterwards."""
    wide = Image.fromarray(np.arange(20 * 40 * 3).astype(np.uint8).reshape(20, 40, 3))
    path = write(tmp_path / "wide", {f"train/{kind}/0.png": wide for kind in ("cat", "dog")} | classes_of(1, "test/"))
    with pytest.warns(UserWarning, match=r"have different sizes or are not square, so all are resized to 16×16"):
        dataset = load_dataset(f"folder:{path}", "train", size=16)
    np.testing.assert_array_equal(dataset.images[0], read_image(str(path / "train/cat/0.png"), 16, "crop"))


def test_images_of_different_sizes_get_the_size_that_is_asked_for(tmp_path: Path, kept: Path) -> None:
    sizes = {"train/cat/0.png": (40, 20), "train/cat/1.png": (20, 40), "train/dog/0.png": (30, 30)}
    tests = {"test/cat/0.png": (40, 20), "test/dog/0.png": (9, 31)}
    path = write(tmp_path / "pets", {name: plain(7, size) for name, size in {**sizes, **tests}.items()})
    with pytest.warns(UserWarning, match=r"train' have different sizes or .* all are resized to 224×224") as said:
        assert load_dataset(f"folder:{path}").images.shape == (3, 3, 224, 224)
    assert len(said) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_dataset(f"folder:{path}").images.shape == (3, 3, 224, 224)  # from the cache, without a word
    found = {load(path, size=size, resize=resize).fingerprint for size in (16, 24) for resize in ("crop", "pad")}
    assert len(found) == 4
    assert load(path, "test", size=16).images.shape == (2, 3, 16, 16)
    assert load(path, size=16).name == "folder:pets"
    assert len(list(kept.rglob("*.safetensors"))) == 6
    plain(9, (50, 50)).save(path / "train/cat/0.png")
    assert load(path, size=16).images[0, 0, 0, 0] == 9
    assert len(list(kept.rglob("*.safetensors"))) == 2  # those of the tree as it was are gone


@pytest.mark.parametrize("options", [{"size": 0}, {"size": 5000}, {"resize": "squash"}])
def test_sizes_and_ways_that_are_none_are_refused(
    options: dict[str, object], tmp_path: Path, refused: Callable[..., str]
) -> None:
    assert str(next(iter(options.values()))) in refused(load_dataset, f"folder:{tmp_path}", **options)


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_validation_images_beside_the_others_are_held_out(name: str, tmp_path: Path) -> None:
    parts = classes_of(4, "train/") | classes_of(2, f"{name}/", 100) | classes_of(3, "test/", 200)
    path = write(tmp_path / "pets", parts)
    dataset, test = load(path), load(path, "test")
    assert (len(dataset), len(test), dataset.division, test.division) == (12, 6, "own validation", "own validation")
    assert dataset.held_out is not None
    assert colours(dataset.subset(dataset.held_out)) == set(range(100, 104))
    assert test.held_out is None
    half = dataset.subset(range(2, 10))
    assert half.held_out is not None
    assert colours(half.subset(half.held_out)) == {100, 101}
    cats = dataset.of_classes(["cat"])
    assert cats.held_out is not None
    assert colours(cats.subset(cats.held_out)) == {100, 101}


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_validation_images_in_the_place_of_a_test_set_are_that(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "pets", classes_of(4, "train/") | classes_of(2, f"{name}/", 100))
    with pytest.warns(UserWarning, match=f"has no folder test, so the images in {name} are its test images") as said:
        train_set, test_set = (load_dataset(f"folder:{path}", split) for split in ("train", "test"))
    assert len(said) == 1
    assert colours(train_set) == set(range(8))
    assert colours(test_set) == set(range(100, 104))
    assert train_set.held_out is None
    assert train_set.division == test_set.division == "validation as test"


def test_a_folder_without_parts_is_divided_by_the_names(tmp_path: Path) -> None:
    path = write(tmp_path / "pets", classes_of(100))
    with pytest.warns(
        UserWarning, match=r"has no folders train and test, so \d+ of its 200 images, about 20% of each"
    ) as said:
        before = [load_dataset(f"folder:{path}", split) for split in ("train", "test")]
    assert len(said) == 1
    assert colours(before[0]) | colours(before[1]) == set(range(200))
    assert not colours(before[0]) & colours(before[1])
    for count in before[1].labels.bincount():
        assert 10 <= count <= 30
    assert [part.division for part in before] == ["by name", "by name"]
    for number in range(50):
        plain(300 + number).save(path / f"cat/more-{number}.png")
    after = [load(path, split) for split in ("train", "test")]
    assert [colours(part) & set(range(200)) for part in after] == [colours(part) for part in before]
    moved = Path(shutil.move(path, tmp_path / "elsewhere"))
    assert [load(moved, split).fingerprint for split in ("train", "test")] == [part.fingerprint for part in after]


@pytest.mark.parametrize("count", [2, 3])
def test_each_class_has_images_in_both_parts(count: int, tmp_path: Path) -> None:
    names = [f"{kind}/{number}.png" for kind in map(str, range(20)) for number in range(count)]
    path = write(tmp_path / "pets", {name: plain(place) for place, name in enumerate(names)})
    train_set, test_set = load(path), load(path, "test")
    assert train_set.labels.bincount(minlength=20).min() == 1 or count == 3
    assert len(test_set.labels.unique()) == len(train_set.labels.unique()) == 20


def test_a_class_may_be_called_train_if_others_are_called_otherwise(tmp_path: Path) -> None:
    path = write(tmp_path / "vehicles", {f"{name}/{i}.png": plain(i) for name in ("Train", "bus") for i in range(9)})
    with pytest.warns(UserWarning, match="has no folders train and test"):
        assert load_dataset(f"folder:{path}", "train").classes == ("Train", "bus")


def test_folders_inside_a_class_are_taken_and_that_is_said(tmp_path: Path) -> None:
    parts = classes_of(2, "train/") | classes_of(2, "test/", 10) | {"train/cat/kittens/young/a.png": plain(99)}
    path = write(tmp_path / "pets", parts)
    with pytest.warns(UserWarning, match="has folders in it, such as 'kittens/young', whose images count as 'cat'"):
        dataset = load_dataset(f"folder:{path}")
    assert colours(dataset.of_classes(["cat"])) == {0, 1, 99}


def with_one_image(path: Path) -> None:
    write(path, {"cat/0.png": plain(1), "dog/0.png": plain(2), "dog/1.png": plain(3)})


def with_two_validations(path: Path) -> None:
    write(path, classes_of(2, "train/") | classes_of(2, "val/") | classes_of(2, "valid/"))


def with_another_class(path: Path) -> None:
    write(
        path, classes_of(2, "train/") | classes_of(2, "test/") | {"val/cat/0.png": plain(0), "val/cow/0.png": plain(1)}
    )


def with_validation_alone(path: Path) -> None:
    write(path, classes_of(2, "val/"))


def with_large_letters(path: Path) -> None:
    write(path, classes_of(2, "Train/") | classes_of(2, "TEST/"))


def with_one_other_name(path: Path) -> None:
    write(path, classes_of(2, "train/") | classes_of(2, "testing/"))


def with_one_class(path: Path) -> None:
    write(path, {"all/cat/0.png": plain(0)})


def with_a_class_called_train(path: Path) -> None:
    write(path, {f"{name}/{number}.png": plain(number) for name in ("bus", "car", "train") for number in range(2)})


def with_no_image(path: Path) -> None:
    write(path, classes_of(3))
    (path / "dog/notes.txt").write_text("about dogs")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (with_one_image, "only one image of 'cat', which cannot be in both"),
        (with_two_validations, "has val and valid; expected one folder of validation images"),
        (with_another_class, "has different classes in train and val: 'cow' is only in val"),
        (with_validation_alone, "has no folder 'train'"),
        (with_large_letters, "has 'TEST' and 'Train', which are not the names of its parts; expected train and test"),
        (with_one_other_name, "has 'testing', which are not"),
        (with_one_class, "has only one class folder, 'all'"),
        (
            with_a_class_called_train,
            "has no folder 'test'; expected train and test, each with one folder for each class, "
            "so add it, or rename train if it is a class.",
        ),
        (with_no_image, "notes.txt' cannot be read as an image"),
        (lambda path: path.mkdir(), "has no folder 'train'"),
        (lambda path: None, "There is no folder"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said(
    make: Callable[[Path], None], says: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    make(tmp_path / "pets")
    assert says in refused(load, tmp_path / "pets")


# --- From the command line -------------------------------------------------------------------------------------------


def of_different_sizes(path: Path) -> None:
    """Red cats and blue dogs, of every shape and kind, and validation images of their own."""
    random = np.random.default_rng(1)
    for part, count in (("train", 12), ("val", 4), ("test", 6)):
        for kind, colour in (("cat", (220, 60, 60)), ("dog", (60, 60, 220))):
            for number in range(count):
                width, height = random.integers(20, 60, 2)
                noise = random.integers(0, 40, (height, width, 3), dtype=np.uint8)
                image = Image.fromarray(noise + np.array(colour, dtype=np.uint8) - 40)
                write(path, {f"{part}/{kind}/{number}.png": image if number else image.convert("RGBA")})


def without_parts(path: Path) -> None:
    write(path, classes_of(30))


def with_val_for_test(path: Path) -> None:
    of_different_sizes(path)
    shutil.rmtree(path / "test")


def with_only_test_images_of_different_sizes(path: Path) -> None:
    of_different_sizes(path)
    for part in ("train", "val"):
        for file in (path / part).rglob("*.png"):
            with Image.open(file) as image:
                image.resize((40, 40)).save(file)


@pytest.mark.slow
@pytest.mark.parametrize("resize", ["crop", "pad"])
@pytest.mark.parametrize(
    ("make", "division", "counts"),
    [
        (of_different_sizes, "own validation", (24, 8, 12)),
        (with_only_test_images_of_different_sizes, "own validation", (24, 8, 12)),
        (with_val_for_test, "validation as test", (22, 2, 8)),
        (without_parts, "by name", None),
    ],
)
def test_such_a_folder_goes_all_the_way(
    make: Callable[[Path], None],
    division: str,
    counts: tuple[int, int, int] | None,
    resize: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "pets")
    spec, run = "folder:pets", "runs/it"
    settings = ["--set", f"resize={resize}", "--set", "load_size=36", "--set", "random_crop=true"]
    assert main(["data", spec, "--size", "36", "--resize", resize]) == 0
    printed = capsys.readouterr()
    assert ("8 of them are for validation" in printed.out) == (division == "own validation")
    command = ["train", "lenet5", "--data", spec, "--epochs", "1", "--batch-size", "8", "--out", run, *settings]
    assert main(command) == 0
    record = json.loads((tmp_path / run / RECORD).read_text())
    dataset = record["dataset"]
    assert dataset["division"] == division
    if counts is not None:
        assert tuple(dataset[f"{part}_images"] for part in ("training", "validation", "test")) == counts
    fingerprints = re.findall(r"fingerprint (\w+)", printed.out)
    assert fingerprints == [dataset["fingerprint"], dataset["test_fingerprint"]]
    assert main(["evaluate", run]) == 0
    assert f"{record['test_accuracy']:.2%}" in capsys.readouterr().out
    assert main(["results", "verify", "--records", run, "--data", spec]) == 0
    assert main(["reproduce", run, "--data", f"folder:{tmp_path / 'pets'}"]) == 0
    assert "bit-identical" in capsys.readouterr().out
