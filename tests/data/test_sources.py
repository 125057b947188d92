import errno
import hashlib
import io
import os
import pickle
import shutil
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from trees import Images, write_tree

from alexnet_course.data import Dataset, cifar, doodles, load_dataset, sources
from alexnet_course.data.doodles import CLASSES, TEST_SIZE, TRAIN_SIZE
from alexnet_course.files import ABANDONED, UNFINISHED

Server = tuple[Path, str]


def pickled_batches(images: Images, spec: str) -> dict[str, bytes]:
    """File name -> content of a CIFAR archive: the training images in their batches, the test images, the names."""
    parts = {"cifar10": [f"data_batch_{i}" for i in range(1, 6)], "cifar100": ["train"]}[spec]
    files = {}
    for split, names in (("train", parts), ("test", ["test_batch" if spec == "cifar10" else "test"])):
        arrays = np.array([pixels for members in images[split].values() for pixels in members])
        labels = np.repeat([0, 1], [len(members) for members in images[split].values()])
        order = np.random.default_rng(3).permutation(len(labels))  # the archive's order is not a folder's
        for name, index in zip(names, np.array_split(order, len(names)), strict=True):
            data = arrays[index].transpose(0, 3, 1, 2).reshape(len(index), 3072)
            key = "labels" if spec == "cifar10" else "fine_labels"
            files[name] = pickle.dumps({"data": data, key: labels[index].tolist()})
    names = list(images["train"])
    if spec == "cifar10":
        files["batches.meta"] = pickle.dumps({"label_names": names})
    else:
        files["meta"] = pickle.dumps({"fine_label_names": names})
    return files


def publish(server: Server, files: dict[str, bytes], spec: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Serves ``files`` as the archive of ``spec``, and gives torchvision its address and checksums."""
    folder, address = server
    source = getattr(torchvision.datasets, cifar.TORCHVISION[spec])
    archive = folder / source.filename
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{source.base_folder}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))

    def checksums(published: list[list[str]]) -> list[list[str]]:
        return [[name, hashlib.md5(files[name]).hexdigest()] for name, _ in published]

    monkeypatch.setattr(source, "url", address + source.filename)
    monkeypatch.setattr(cifar, "ARCHIVES", {spec: ()})
    monkeypatch.setattr(cifar, "TREES", {spec: ()})
    monkeypatch.setattr(source, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    monkeypatch.setattr(source, "train_list", checksums(source.train_list))
    monkeypatch.setattr(source, "test_list", checksums(source.test_list))
    meta = source.meta["filename"]
    monkeypatch.setattr(source, "meta", {**source.meta, "md5": hashlib.md5(files[meta]).hexdigest()})
    return archive


# --- CIFAR-10 and CIFAR-100 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["cifar10", "cifar100"])
def test_archive_and_tree_of_the_same_pixels_are_the_same_data(
    spec: str,
    server: Server,
    images: Images,
    tree: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    archive = publish(server, pickled_batches(images, spec), spec, monkeypatch)
    for split in ("train", "test"):
        ours = load_dataset(spec, split, root=tmp_path / "kept")
        folder = load_dataset(f"folder:{tree}", split, root=tmp_path / "kept")
        assert (ours.name, ours.classes) == (spec, folder.classes)
        assert ours.fingerprint == folder.fingerprint
        assert not torch.equal(ours.images, folder.images)  # the order differs
        assert ours.split_validation(7, 0)[1].fingerprint == folder.split_validation(7, 0)[1].fingerprint
    archive.unlink()  # downloaded once
    assert len(load_dataset(spec, root=tmp_path / "kept")) == 40
    assert capsys.readouterr().out == ""


def test_two_processes_that_unpack_an_archive_do_not_disturb_each_other(
    server: Server, images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = publish(server, pickled_batches(images, "cifar10"), "cifar10", monkeypatch)
    root = tmp_path / "kept"
    root.mkdir()
    archive.rename(root / archive.name)
    (root / "cifar-10-batches-py").mkdir()  # of an earlier process that was killed
    extract, others = torchvision.datasets.utils.extract_archive, []

    def interrupted(file: str, to: str) -> None:
        if others:
            return extract(file, to)
        others.append(to)
        others.append(load_dataset("cifar10", root=root))  # as another process would, in the meantime
        folder = root / "cifar-10-batches-py"
        with open(folder / "data_batch_1", "rb") as being_read:
            extract(file, to)
            assert len(pickle.load(being_read)["labels"]) == 8

    monkeypatch.setattr(torchvision.datasets.utils, "extract_archive", interrupted)
    ours = load_dataset("cifar10", root=root)
    assert ours.fingerprint == others[1].fingerprint
    assert load_dataset("cifar10", root=root).fingerprint == ours.fingerprint
    assert sorted(path.name for path in root.iterdir()) == ["cifar-10-batches-py", archive.name]


def test_what_a_process_killed_while_unpacking_left_is_removed(
    server: Server, images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = publish(server, pickled_batches(images, "cifar10"), "cifar10", monkeypatch)
    root = tmp_path / "kept"
    extract = torchvision.datasets.utils.extract_archive

    def leaves_copies(file: str, to: str) -> None:
        extract(file, to)
        for name in ("abandoned", "in-use"):
            shutil.copytree(to, to.replace(UNFINISHED, f"{name}{UNFINISHED}"))

    with monkeypatch.context() as patch:
        patch.setattr(torchvision.datasets.utils, "extract_archive", leaves_copies)
        load_dataset("cifar10", root=root)
    [in_use] = root.glob(f"*in-use{UNFINISHED}")
    for left in list(root.glob(f"*{UNFINISHED}")):
        for path in (left, *left.rglob("*")):
            os.utime(path, (time.time() - ABANDONED - 5,) * 2)
    os.utime(next(in_use.rglob("data_batch_1")))  # another process is writing it
    shutil.rmtree(root / "cifar-10-batches-py")
    load_dataset("cifar10", root=root)
    assert sorted(root.iterdir()) == sorted([root / "cifar-10-batches-py", root / archive.name, in_use])


def truncated(archive: Path) -> None:
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])


def altered(archive: Path) -> None:
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 1
    archive.write_bytes(content)


@pytest.mark.parametrize("harm", [truncated, altered])
@pytest.mark.parametrize("checksum", ["of the whole", "of the harmed"])
def test_archive_that_is_not_the_published_one(
    harm: Callable[[Path], None],
    checksum: str,
    server: Server,
    images: Images,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refused: Callable[..., str],
) -> None:
    archive = publish(server, pickled_batches(images, "cifar10"), "cifar10", monkeypatch)
    whole, md5 = archive.read_bytes(), torchvision.datasets.CIFAR10.tgz_md5
    harm(archive)
    if checksum == "of the harmed":  # so that the damage shows only in unpacking
        monkeypatch.setattr(torchvision.datasets.CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    sentence = refused(load_dataset, "cifar10", root=tmp_path / "kept")
    assert "'cifar10' could not be downloaded" in sentence
    assert "the download is not the" in sentence
    assert torchvision.datasets.CIFAR10.url in sentence
    archive.write_bytes(whole)
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "tgz_md5", md5)
    assert len(load_dataset("cifar10", root=tmp_path / "kept")) == 40  # trying again helps, as the sentence says


def test_labels_and_images_of_different_lengths(
    images: Images, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    files = pickled_batches(images, "cifar10")
    batch = pickle.loads(files["data_batch_2"])
    files["data_batch_2"] = pickle.dumps({**batch, "labels": batch["labels"][:-1]})
    publish(server, files, "cifar10", monkeypatch)
    assert "40 images but 39 labels" in refused(load_dataset, "cifar10", root=tmp_path / "kept")


# --- CIFAR-10.1 ------------------------------------------------------------------------------------------------------


def publish_cifar10_1(server: Server, images: Images, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    arrays = np.array(images["test"]["cat"])
    labels = np.arange(10, dtype=np.int32)
    for name, array in zip(cifar.CIFAR10_1_FILES, (arrays, labels), strict=True):
        np.save(server[0] / name, array)
    accept_what_is_served(server, monkeypatch)
    return arrays


def accept_what_is_served(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar, "CIFAR10_1_URLS", (server[1],))
    checksums = {name: hashlib.sha256((server[0] / name).read_bytes()).hexdigest() for name in cifar.CIFAR10_1_FILES}
    monkeypatch.setattr(cifar, "CIFAR10_1_FILES", checksums)


def test_cifar10_1(server: Server, images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = publish_cifar10_1(server, images, monkeypatch)
    dataset = load_dataset("cifar10.1", root=tmp_path / "kept")
    np.testing.assert_array_equal(dataset.images.permute(0, 2, 3, 1), images)
    assert (dataset.name, dataset.classes, dataset.labels.tolist()) == ("cifar10.1", CLASSES, list(range(10)))
    for file in server[0].iterdir():
        file.unlink()
    assert load_dataset("cifar10.1", "test", root=tmp_path / "kept").fingerprint == dataset.fingerprint


def test_cifar10_1_in_a_folder_that_cannot_be_written_to(
    server: Server, images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_cifar10_1(server, images, monkeypatch)
    before = load_dataset("cifar10.1", root=tmp_path / "kept").fingerprint
    monkeypatch.setattr(Path, "replace", read_only)
    assert load_dataset("cifar10.1", root=tmp_path / "kept").fingerprint == before


def read_only(path: Path, *_: object) -> None:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))


@pytest.mark.parametrize("harm", [truncated, altered])
@pytest.mark.parametrize("number", [0, 1])
def test_cifar10_1_files_that_are_not_the_published_ones(
    harm: Callable[[Path], None],
    number: int,
    server: Server,
    images: Images,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refused: Callable[..., str],
) -> None:
    publish_cifar10_1(server, images, monkeypatch)
    load_dataset("cifar10.1", root=tmp_path / "kept")
    name = list(cifar.CIFAR10_1_FILES)[number]
    harm(tmp_path / "kept" / name)  # a damaged file here is fetched again ...
    load_dataset("cifar10.1", root=tmp_path / "kept")
    harm(tmp_path / "kept" / name)
    harm(server[0] / name)  # ... and a damaged one there is refused
    sentence = refused(load_dataset, "cifar10.1", root=tmp_path / "kept")
    assert "is not the complete published file" in sentence
    assert name in sentence


def test_cifar10_1_never_opens_a_pickle(
    server: Server, images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    opened = tmp_path / "opened"

    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (opened,)

    publish_cifar10_1(server, images, monkeypatch)
    target = server[0] / "cifar10.1_v6_data.npy"
    for content in ("object array", "bare pickle"):
        if content == "object array":
            np.save(target, np.array([Trap()], dtype=object), allow_pickle=True)
        else:
            target.write_bytes(pickle.dumps(Trap()))
        accept_what_is_served(server, monkeypatch)
        assert "is not the published file" in refused(load_dataset, "cifar10.1", root=tmp_path / "kept")
        assert not opened.exists()
    np.load(target, allow_pickle=True)
    assert opened.exists()  # the trap works


def test_cifar10_1_has_no_train_split(refused: Callable[..., str]) -> None:
    assert "no train split" in refused(load_dataset, "cifar10.1", "train")


# --- Specs -----------------------------------------------------------------------------------------------------------


def test_doodles() -> None:
    train, test = load_dataset("doodles"), load_dataset("doodles", "test")
    assert (len(train), len(test)) == (TRAIN_SIZE, TEST_SIZE) == (5000, 1000)
    assert (train.name, train.classes, tuple(train.images.shape[1:])) == ("doodles", CLASSES, (3, 32, 32))
    assert train.labels.bincount().tolist() == [500] * 10
    assert train.fingerprint != test.fingerprint
    assert load_dataset("doodles", "train").images is train.images  # drawn once


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The splits that were drawn, in this order; a drawing is twenty noisy images, and each is another one."""
    splits: list[str] = []

    def draw(split: str) -> tuple[np.ndarray, np.ndarray]:
        splits.append(split)
        pixels = np.random.default_rng(len(splits)).integers(0, 256, (20, 3, 32, 32), dtype=np.uint8)
        return pixels, np.arange(20) % len(CLASSES)

    monkeypatch.setattr(doodles, "draw_doodles", draw)
    sources._drawn.cache_clear()
    yield splits
    sources._drawn.cache_clear()  # nobody else shall get these


def doodles_of_a_new_process(root: Path, split: str = "train") -> Dataset:
    sources._drawn.cache_clear()
    return load_dataset("doodles", split, root=root)


def test_doodles_are_drawn_once_and_then_read_from_the_disk(drawn: list[str], tmp_path: Path) -> None:
    first = doodles_of_a_new_process(tmp_path)
    assert load_dataset("doodles", "train", root=tmp_path).images is first.images
    again = doodles_of_a_new_process(tmp_path)
    assert drawn == ["train"]
    assert torch.equal(again.images, first.images)
    assert torch.equal(again.labels, first.labels)
    assert (again.name, again.classes, again.fingerprint) == ("doodles", CLASSES, first.fingerprint)
    test = doodles_of_a_new_process(tmp_path, "test")
    assert drawn == ["train", "test"]
    assert test.fingerprint != first.fingerprint
    assert sorted(file.name for file in (tmp_path / "doodles").iterdir()) == ["test.safetensors", "train.safetensors"]


@pytest.mark.parametrize("tool", ["PIL.__version__", "numpy.__version__", "the drawing"])
def test_doodles_are_drawn_anew_where_the_drawing_or_a_tool_behind_it_changed(
    tool: str, drawn: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = doodles_of_a_new_process(tmp_path)
    with monkeypatch.context() as changed:
        if tool == "the drawing":
            (tmp_path / "doodles.py").write_text("# other lines\n")
            changed.setattr(doodles, "__file__", str(tmp_path / "doodles.py"))
        else:
            changed.setattr(tool, "99.1")
        other = doodles_of_a_new_process(tmp_path)
        assert drawn == ["train", "train"]
        assert other.fingerprint != first.fingerprint
        assert doodles_of_a_new_process(tmp_path).fingerprint == other.fingerprint
        assert drawn == ["train", "train"]


@pytest.mark.parametrize("harm", [truncated, altered, Path.unlink])
def test_doodles_are_drawn_anew_where_the_file_is_damaged(
    harm: Callable[[Path], None], drawn: list[str], tmp_path: Path
) -> None:
    doodles_of_a_new_process(tmp_path)
    harm(tmp_path / "doodles" / "train.safetensors")
    second = doodles_of_a_new_process(tmp_path)
    assert drawn == ["train", "train"]
    assert doodles_of_a_new_process(tmp_path).fingerprint == second.fingerprint  # and kept
    assert drawn == ["train", "train"]


def test_doodles_that_cannot_be_kept_are_only_warned_of(drawn: list[str], tmp_path: Path) -> None:
    (tmp_path / "doodles").write_text("a file where the folder would be")
    with pytest.warns(UserWarning, match=r"'doodles' could not be stored in .* so the next run has to make them again"):
        dataset = doodles_of_a_new_process(tmp_path)
    assert len(dataset) == 20


@pytest.mark.parametrize(
    ("spec", "split", "says"),
    [
        ("cifar-10", None, "expected cifar10"),
        ("CIFAR10", None, "Unknown data set 'CIFAR10'"),
        ("imagenet", None, "folder:PATH"),
        ("doodle", None, "doodles"),
        ("doodles", "validation", "Unknown split 'validation'"),
        ("doodles", "tests", "expected test"),
    ],
)
def test_unknown_spec_or_split(spec: str, split: str | None, says: str, refused: Callable[..., str]) -> None:
    assert says in refused(load_dataset, spec, split)


def test_path_without_the_prefix(tree: Path, refused: Callable[..., str]) -> None:
    assert f"write 'folder:{tree}'" in refused(load_dataset, str(tree))


def test_home_is_expanded(images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tree(tmp_path / "pets", images)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ALEXNET_COURSE_CACHE", raising=False)
    assert len(load_dataset("folder:~/pets")) == 40
    assert len(list((tmp_path / ".cache/alexnet-course/folders").iterdir())) == 1
