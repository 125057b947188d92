"""Weights that come with the package: what is put in comes out, and nothing else is taken for it."""

import shutil

import pytest
import torch

from alexnet_course.errors import CourseError
from alexnet_course.pretrained import FOLDER, keep_weights, list_pretrained, load_pretrained, load_trained, model_card
from alexnet_course.recipe import Recipe
from alexnet_course.records.record import dump_record
from alexnet_course.watching import fit
from benchmarks.weights import main


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    recipe = Recipe(name="tiny", model="cnn4", epochs=2, batch_size=20, validation_size=20, budget="evening")
    return fit(recipe, progress=False, out=tmp_path_factory.mktemp("runs") / "tiny", **data)


@pytest.fixture
def kept(run, tmp_path, monkeypatch):
    """A folder with the weights of one run, whose record is the package's."""
    records = tmp_path / "records"
    records.mkdir()
    (records / f"{run.recipe.run_name}.json").write_text(dump_record(run.record))
    monkeypatch.setattr("alexnet_course.pretrained.RECORDS", records)
    folder = tmp_path / "weights"
    assert keep_weights(run.out, folder) == "tiny"
    return folder


def test_what_was_kept_is_loaded_ready_for_use(run, kept, data):
    model, record = load_pretrained("tiny", kept)
    assert record == run.record
    assert not model.training
    assert list_pretrained(kept) == ["tiny"]
    for name, tensor in run.model.state_dict().items():
        found = model.state_dict()[name]
        assert found.dtype == tensor.dtype
        assert torch.equal(found, tensor) if tensor.dim() < 2 else torch.equal(found, tensor.half().float())
    size = (kept / "tiny.safetensors").stat().st_size
    assert size < 2.2 * record.parameters + 2000


def test_weights_that_were_changed_are_refused(kept):
    path = kept / "tiny.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CourseError, match=r"^The weights tiny\.safetensors have the hash .* reinstall the package\."):
        load_pretrained("tiny", kept)
    path.unlink()
    with pytest.raises(CourseError, match="cannot be read"):
        load_pretrained("tiny", kept)
    with pytest.raises(CourseError, match=r"^There are no pretrained weights 'tinny'; nearest: tiny\."):
        load_pretrained("tinny", kept)


def test_keeping_more_leaves_the_others(run, kept, monkeypatch):
    before = (kept / "weights.toml").read_text()
    assert keep_weights(run.out, kept) == "tiny"
    assert (kept / "weights.toml").read_text() == before
    (kept / "weights.toml").write_text(before + '\n["other"]\nrecord = "other-seed0"\nblake2b = "00"\n')
    from alexnet_course import pretrained

    pretrained._index.cache_clear()
    keep_weights(run.out, kept)
    assert list_pretrained(kept) == ["other", "tiny"]


def test_the_card_says_what_the_record_says(run):
    card = model_card(run.record, 1234)
    assert card.startswith("# tiny\n")
    for text in (f"{run.record.parameters:,} parameters", "1,234 bytes", f"{run.record.test_accuracy:.2%}",
                 "two-colours", "| red | "):  # fmt: skip
        assert text in card


@pytest.mark.parametrize("name", list_pretrained())
def test_the_package_s_weights_are_small_load_and_have_a_current_card(name):
    path = FOLDER / f"{name}.safetensors"
    model, record = load_pretrained(name)
    assert path.stat().st_size <= 1_000_000
    assert sum(weight.numel() for weight in model.parameters()) == record.parameters
    assert (FOLDER / f"{name}.md").read_text() == model_card(record, path.stat().st_size)
    assert record.dataset.name == "cifar10"


def test_there_are_weights_in_the_package():
    assert "vgg-style-bn.small" in list_pretrained()


def test_the_command_puts_them_there_with_their_card(run, kept, monkeypatch, capsys):
    for module in ("alexnet_course.pretrained", "benchmarks.weights"):
        monkeypatch.setattr(f"{module}.FOLDER", kept)
    monkeypatch.setattr("benchmarks.weights.keep_weights", lambda out: keep_weights(out, kept))
    monkeypatch.setattr("benchmarks.weights.list_pretrained", lambda: list_pretrained(kept))
    monkeypatch.setattr("benchmarks.weights.load_pretrained", lambda name: load_pretrained(name, kept))
    main([str(run.out)])
    assert (kept / "tiny.md").read_text().startswith("# tiny")
    assert "tiny.safetensors: " in capsys.readouterr().out


def test_they_are_loaded_wherever_the_working_directory_is(tmp_path, monkeypatch):
    """Even in one with a folder of a run's name, in which train writes."""
    monkeypatch.chdir(tmp_path)
    record = load_pretrained("vgg-style-bn.small")[1]
    (tmp_path / record.recipe.run_name).mkdir()
    assert load_pretrained("vgg-style-bn.small")[1] == record


def test_a_name_that_is_mistyped_is_met_with_the_nearest(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(CourseError, match=r"^'vgg-style-bn\.smoll' is neither the folder of .*; nearest: vgg-style-bn"):
        load_trained("vgg-style-bn.smoll")
    (tmp_path / "run").mkdir()
    with pytest.raises(CourseError, match=r"run' has no record\.json; give the folder of a finished run\.$"):
        load_trained("~/run")


def test_evaluate_takes_them_by_name(tmp_path, capsys):
    """On a tree of CIFAR-10's classes, one image each: the cat and the horse among the package's own photographs."""
    from alexnet_course.cli import main as command
    from alexnet_course.data.photos import FOLDER as PHOTOS

    _, record = load_pretrained("vgg-style-bn.small")
    for name in record.dataset.classes:
        folder = tmp_path / "test" / name
        folder.mkdir(parents=True)
        shutil.copy(PHOTOS / f"{name if name in ('cat', 'horse') else 'coffee'}.png", folder)
    shutil.copytree(tmp_path / "test", tmp_path / "train")
    assert command(["evaluate", "vgg-style-bn.small", "--data", f"folder:{tmp_path}"]) == 0
    said = dict(line.split() for line in capsys.readouterr().out.splitlines()[1:])
    assert said["cat"] == said["horse"] == "100.00%"
    assert said["dog"] == "0.00%"


def test_weights_whose_record_is_not_in_the_package_are_not_kept(run, kept, monkeypatch):
    monkeypatch.setattr("alexnet_course.pretrained.FOLDER", kept)
    before = {path.name: path.read_bytes() for path in kept.iterdir()}
    assert keep_weights(run.out, kept) == "tiny"
    [record] = (kept.parent / "records").glob("*.json")
    record.write_text(dump_record(run.record.replace(wall_seconds=1.0)))
    with pytest.raises(CourseError, match=r"^The record tiny-evening-seed0 of the package is not that of"):
        keep_weights(run.out, kept)
    record.unlink()
    with pytest.raises(CourseError, match=r"^tiny-evening-seed0\.json cannot be read as a record"):
        keep_weights(run.out, kept)
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == before
