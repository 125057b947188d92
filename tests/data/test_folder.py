import os
import resource
import shutil
import socket
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from trees import Images, write_tree

from alexnet_course.data import Dataset, folder, load_dataset


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's cache is."""
    monkeypatch.setenv("ALEXNET_COURSE_CACHE", str(tmp_path / "kept"))
    return tmp_path / "kept"


def load(tree: Path, split: str | None = None) -> Dataset:
    return load_dataset(f"folder:{tree}", split)


def cached(kept: Path) -> list[Path]:
    return sorted(file for file in kept.rglob("*") if file.is_file())


def test_images_labels_and_names(tree: Path, images: Images) -> None:
    train, test = load(tree), load(tree, "test")
    assert train.classes == test.classes == ("cat", "truck")
    assert train.name == "folder:pets"
    assert (len(train), len(test)) == (40, 20)
    np.testing.assert_array_equal(train.images[20].permute(1, 2, 0), images["train"]["truck"][0])
    assert train.labels.tolist() == [0] * 20 + [1] * 20
    assert train.fingerprint == load(tree, "train").fingerprint != test.fingerprint


def test_fingerprint_is_independent_of_the_file_format(tmp_path: Path, tree: Path, images: Images) -> None:
    assert load(write_tree(tmp_path / "other", images, "bmp")).fingerprint == load(tree).fingerprint


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_known_images_get_their_name(tree: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fingerprint = load(tree).fingerprint
    monkeypatch.setitem(folder.KNOWN_FINGERPRINTS, fingerprint, name)
    assert load(tree).name == name
    assert load(tree, "test").name == "folder:pets"
    Image.new("RGB", (32, 32)).save(tree / "train/cat/000.png")
    assert load(tree).name == "folder:pets"


@pytest.mark.parametrize(
    ("split", "fingerprint", "name"),
    [
        ("train", "13f049e863097f830921b504f20819dd", "cifar10"),
        ("test", "2a5f2e8a3b10ab4574fa2c6c74af200d", "cifar10"),
        ("train", "53a7c94c8d219effb12b1d370ff87049", "cifar100"),
        ("test", "252f8c39c92152913bb9c76ed9834ac1", "cifar100"),
    ],
)
def test_fingerprints_of_the_published_images(
    tree: Path, split: str, fingerprint: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Dataset, "fingerprint", fingerprint)
    assert load(tree, split).name == name


def test_what_file_managers_leave_behind_is_passed_over(tree: Path) -> None:
    before = load(tree).fingerprint
    (tree / "train/cat/.DS_Store").write_text("x")
    (tree / "train/cat/Thumbs.db").write_text("x")
    (tree / "train/cat/.ipynb_checkpoints").mkdir()
    shutil.copy(tree / "train/cat/000.png", tree / "train/cat/.ipynb_checkpoints/000.png")
    (tree / "train/.ipynb_checkpoints").mkdir()
    assert load(tree).fingerprint == before


def test_bar_shows_only_where_decoding_takes_a_while(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load(tree, "test")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("alexnet_course.data.decode._PROGRESS_FROM", 30)
    load(tree)
    output = capsys.readouterr()
    assert "40/40" in output.err
    assert output.out == ""


# --- The cache -------------------------------------------------------------------------------------------------------


def forbid_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*_: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(folder, "decode_all", decode)


def test_decoded_once(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(tree)
    forbid_decoding(monkeypatch)
    second = load(tree)
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.labels, second.labels)
    assert (first.classes, first.name) == (second.classes, second.name)
    monkeypatch.chdir(tree.parent)
    assert load(Path(tree.name)).fingerprint == first.fingerprint  # the same tree by another path
    with pytest.raises(AssertionError, match="decoded again"):
        load(tree, "test")


def test_an_older_version_stays_whole_for_a_run_that_reads_it(tree: Path, kept: Path) -> None:
    """It is mapped into memory: if its file were cut to nothing, the run would die of SIGBUS."""
    load(tree)
    [path] = kept.rglob("*.safetensors")
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        Image.new("RGB", (32, 32)).save(tree / "train/cat/new.png")
        load(tree)
        assert os.fstat(file.fileno()).st_size == size
        assert os.fstat(file.fileno()).st_nlink == 0  # and it is gone from the folder


@pytest.mark.parametrize("change", ["edited", "added", "removed", "renamed", "swapped"])
def test_changed_tree_is_decoded_again(tree: Path, kept: Path, change: str) -> None:
    if change == "swapped":
        for number, file in enumerate(sorted((tree / "train").glob("*/*.png"))):
            Image.new("RGB", (32, 32), (number, number % 7, 5)).save(file.with_suffix(".bmp"))  # all of one size
            file.unlink()
            os.utime(file.with_suffix(".bmp"), ns=(0, 0))
    before = load(tree)
    file = tree / "train/cat/003.png"
    if change == "edited":
        inverted = Image.fromarray(255 - np.asarray(Image.open(file)))
        inverted.save(file)
        os.utime(file, ns=(0, 1))  # a clock that stood still must not hide the edit
    elif change == "added":
        Image.new("RGB", (32, 32)).save(tree / "train/cat/new.png")
    elif change == "removed":
        file.unlink()
    elif change == "renamed":
        (tree / "train/cat").rename(tree / "train/dog")
        (tree / "test/cat").rename(tree / "test/dog")
    else:  # the same names, sizes and times as before
        for one, other in (("cat", "between"), ("truck", "cat"), ("between", "truck")):
            (tree / "train" / one).rename(tree / "train" / other)
    assert load(tree).fingerprint != before.fingerprint
    assert len(cached(kept)) == 1  # the old pixels do not stay behind


def damage(file: Path, how: str) -> None:
    whole = file.read_bytes()
    if how == "half-written":
        file.write_bytes(whole[: len(whole) // 2])
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "one bit":
        middle = len(whole) // 2
        file.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    elif how == "a label":
        file.write_bytes(whole.replace((1).to_bytes(8, "little"), (0).to_bytes(8, "little"), 1))
    else:
        file.write_bytes(os.urandom(len(whole)))
    assert file.read_bytes() != whole


@pytest.mark.parametrize("how", ["half-written", "empty", "one bit", "a label", "noise"])
def test_damaged_cache_is_never_read_and_is_made_again(
    tree: Path, kept: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = load(tree)
    pixels, labels = good.images.clone(), good.labels.clone()
    (file,) = cached(kept)
    damage(file, how)
    again = load(tree)
    assert torch.equal(again.images, pixels)
    assert torch.equal(again.labels, labels)
    forbid_decoding(monkeypatch)
    assert torch.equal(load(tree).images, pixels)


def test_others_can_read_the_cache_as_the_system_s_rules_say(tree: Path, kept: Path) -> None:
    load(tree)
    (tree / "ordinary").touch()
    (file,) = cached(kept)
    assert file.stat().st_mode == (tree / "ordinary").stat().st_mode


@pytest.mark.parametrize(
    "load_it",
    [
        lambda tree: load_dataset("doodles", "test"),
        lambda tree: load_dataset(f"folder:~/{tree.name}"),
        lambda tree: load_dataset("cifar10", root="~/kept"),
        lambda tree: load_dataset("~"),
    ],
)
def test_without_a_home_folder_the_cache_has_to_be_named(
    tree: Path, load_it: Callable[[Path], Dataset], monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    def unknown(_: int) -> None:
        raise KeyError("uid not found")

    monkeypatch.delenv("HOME")
    monkeypatch.delenv("ALEXNET_COURSE_CACHE")
    monkeypatch.setattr("pwd.getpwuid", unknown)
    assert "begins with a home folder that this system does not know; set HOME" in refused(load_it, tree)


def test_interrupted_writing_leaves_nothing(tree: Path, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("alexnet_course.data.cache.fingerprint_of", interrupted)  # once all pixels are written
    with pytest.raises(KeyboardInterrupt):
        load(tree)
    assert cached(kept) == []


def test_full_disk_is_warned_of_and_costs_nothing(tree: Path, kept: Path, images: Images) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))  # the forty images take twice as much
    try:
        with pytest.warns(UserWarning, match=r"could not be stored.*ALEXNET_COURSE_CACHE") as warned:
            dataset = load(tree)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    np.testing.assert_array_equal(dataset.images[0].permute(1, 2, 0), images["train"]["cat"][0])
    assert len(warned) == 1
    assert Path(warned[0].filename) == Path(__file__)
    assert cached(kept) == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(tree)
    assert len(cached(kept)) == 1


def test_cache_folder_that_cannot_be_made_is_warned_of(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("ALEXNET_COURSE_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="could not be stored"):
        assert len(load(tree)) == 40


# --- Bad trees, one sentence each ------------------------------------------------------------------------------------


def test_missing_path(tmp_path: Path, refused: Callable[..., str]) -> None:
    assert "nowhere" in refused(load, tmp_path / "nowhere")
    assert "names no path" in refused(load_dataset, "folder:")


@pytest.mark.parametrize("split", ["train", "test"])
def test_missing_split(tree: Path, split: str, refused: Callable[..., str]) -> None:
    shutil.rmtree(tree / split)
    assert f"no folder {split!r}" in refused(load, tree)


def test_no_class_folders(tree: Path, refused: Callable[..., str]) -> None:
    for name in ("cat", "truck"):
        shutil.rmtree(tree / "train" / name)
    assert "no class folders" in refused(load, tree)


@pytest.mark.parametrize("split", ["train", "test"])
def test_empty_class_folder(tree: Path, split: str, refused: Callable[..., str]) -> None:
    for name in ("train", "test"):
        (tree / name / "dog").mkdir()
    other = {"train": "test", "test": "train"}[split]
    shutil.copy(tree / "train/cat/000.png", tree / other / "dog/000.png")
    assert f"{split}/dog" in refused(load, tree)


@pytest.mark.parametrize("split", ["train", "test"])
def test_different_classes(tree: Path, split: str, refused: Callable[..., str]) -> None:
    (tree / split / "cat").rename(tree / split / "dog")
    sentence = refused(load, tree)
    assert "different classes" in sentence
    assert "'cat' is only in " + {"train": "test", "test": "train"}[split] in sentence


@pytest.mark.parametrize("content", ["text", "truncated", "empty", "other suffix"])
def test_file_that_is_not_a_image(tree: Path, content: str, refused: Callable[..., str]) -> None:
    file = tree / "train/truck/005.png"
    if content == "text":
        file.write_text("not an image")
    elif content == "truncated":
        file.write_bytes(file.read_bytes()[:500])
    elif content == "empty":
        file.write_bytes(b"")
    else:
        file = file.with_name("notes.txt")
        file.write_text("about trucks")
    sentence = refused(load, tree)
    assert str(file) in sentence
    assert "cannot be read as an image" in sentence


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_device_without_end(path: Path) -> None:
    path.symlink_to("/dev/zero")


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        here = os.getcwd()
        os.chdir(path.parent)  # such a path must not be long
        made.bind(path.name)
        os.chdir(here)


@pytest.mark.parametrize("make", [a_pipe, a_device_without_end, a_socket])
def test_what_is_no_file_is_not_waited_for(
    tree: Path, make: Callable[[Path], None], refused: Callable[..., str]
) -> None:
    file = tree / "train/cat/a.png"  # the first, whose size is that of all
    make(file)
    assert f"{str(file)!r} cannot be read as an image (not a file)" in refused(load, tree)


def test_a_cache_that_is_a_pipe_is_not_waited_for(tree: Path, kept: Path) -> None:
    before = load(tree).fingerprint
    (file,) = cached(kept)
    file.unlink()
    os.mkfifo(file)
    with pytest.warns(UserWarning, match="could not be stored in .* not a file"):
        assert load(tree).fingerprint == before
    assert file.is_fifo()


@pytest.mark.parametrize("closed", ["train", "train/cat", "train/cat/inner", "test/truck"])
def test_a_folder_that_cannot_be_opened_is_not_empty(
    tree: Path, closed: str, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "train/cat/inner").mkdir()
    scandir = os.scandir

    def scan(path: str | Path) -> object:
        if Path(path) == tree / closed:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan)
    sentence = refused(load, tree)
    assert f"{str(tree / closed)!r} cannot be opened (Permission denied)" in sentence


def test_classes_one_level_too_deep_are_not_one_class(tree: Path, refused: Callable[..., str]) -> None:
    for split in ("train", "test"):
        (tree / split).rename(tree / "images")
        (tree / split).mkdir()
        (tree / "images").rename(tree / split / "images")
    assert "has only one class folder, 'images'" in refused(load, tree)


def test_link_that_leads_nowhere(tree: Path, refused: Callable[..., str]) -> None:
    (tree / "train/cat/000.png").unlink()
    (tree / "train/cat/000.png").symlink_to(tree / "gone.png")
    assert "No such file" in refused(load, tree)
