"""224 pixels of photographs, from the command line: what is in memory and what stays on the disk train alike."""

import json
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from alexnet_course.cli import main
from alexnet_course.data import memory
from alexnet_course.data.photos import FOLDER
from alexnet_course.records import RECORD

# In the public domain: a photograph that comes with Matplotlib, and two of the package's own.
SOURCES = {
    "admiral": Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg"),
    "cat": FOLDER / "cat.png",
    "coffee": FOLDER / "coffee.png",
}
SMALL = [
    "--device",
    "cpu",
    "--batch-size",
    "8",
    "--lr",
    "0.002",
    "--set",
    "model_options={width=0.25,hidden=64,dropout=0}",
]


def photographs(path: Path, counts: dict[str, int]) -> Path:
    """Pieces of a few photographs, of every shape and of sizes around 256 pixels."""
    random = np.random.default_rng(4)
    for name, source in SOURCES.items():
        with Image.open(source) as image:
            whole = image.convert("RGB").resize((480, 480))
        for part, count in counts.items():
            (path / part / name).mkdir(parents=True)
            for number in range(count):
                width, height = random.integers(230, 330, 2)
                left, top = random.integers(0, 480 - 330, 2)
                piece = whole.crop((left, top, left + width, top + height))
                piece.save(path / part / name / f"{number}.jpg", quality=90)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(("network", "epochs"), [("alexnet-owt", 6), ("alexnet-2012", 1)])
def test_a_folder_of_photographs_is_trained_on_from_memory_and_from_the_disk(
    network: str,
    epochs: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    photographs(tmp_path / "photographs", {"train": 16, "val": 4, "test": 6})
    records = []
    for place, free in (("memory", 10**12), ("disk", 10**6)):
        monkeypatch.setenv("ALEXNET_COURSE_CACHE", str(tmp_path / place))
        monkeypatch.setattr(memory, "free_memory", lambda free=free: free)
        command = ["train", f"{network}.photos", "--data", "folder:photographs", "--epochs", str(epochs)]
        assert main([*command, *SMALL, "--out", f"runs/{place}"]) == 0
        assert ("read while they are used" in capsys.readouterr().err) == (place == "disk")
        records.append(json.loads(Path("runs", place, RECORD).read_text()))
        assert main(["evaluate", f"runs/{place}", "--device", "cpu"]) == 0
        assert f"{records[-1]['test_accuracy']:.2%}" in capsys.readouterr().out
    resident, streamed = records
    for key in ("weights", "predictions", "dataset", "test_loss", "val_accuracy"):
        assert resident[key] == streamed[key]
    assert resident["dataset"]["division"] == "own validation"
    assert resident["dataset"]["validation_images"] == 12
    assert resident["recipe"]["load_size"] == 256
    if network == "alexnet-owt":
        assert resident["test_accuracy"] > 0.6  # a third would be chance
