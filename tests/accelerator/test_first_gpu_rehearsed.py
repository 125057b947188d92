"""The first minutes on a GPU, rehearsed on an emulated one with tiny budgets; start/sitecustomize.py puts it there."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from chapters import BOOK, tiny_environment
from machine import load_per_core

from benchmarks.first_gpu import NETWORKS, REPEATED, speeds_to_measure

START = Path(__file__).resolve().parent / "start"
ROOT = BOOK.parent


@pytest.mark.slow
@pytest.mark.skipif(load_per_core() > 3, reason="on a machine as busy as this, the clock stops every part")
def test_the_first_minutes_on_a_gpu(tmp_path: Path) -> None:
    """Every part ends without an error; on a busy machine the clock may stop one that is timed."""
    out = tmp_path / "out"
    command = ["-m", "benchmarks.first_gpu", out, "--minutes", "16", "--processes", "1", "--kills", "1"]
    command += ["--only", "vgg-style-bn.small*", "--chapters", "02-shapes"]
    variables = {**tiny_environment(START, tmp_path), "ALEXNET_COURSE_EMULATED": "H100"}
    done = subprocess.run(
        [sys.executable, *map(str, command)], cwd=ROOT, env=variables, capture_output=True, text=True
    )  # fmt: skip
    parts = {part["name"]: part for part in json.loads((out / "summary.json").read_text())}
    late = {name for name in ("bench", "speed") if parts[name]["status"] is None}
    logs = {
        name: (out / f"{name}.log").read_text()[-3000:]
        for name, part in parts.items()
        if part["status"] != 0 and name not in late
    }
    assert (done.returncode, logs) == (0, {}), done.stdout + done.stderr
    assert set(parts) == {"bench", "speed", "repeat", "kill", "chapters", "campaign-1"}
    if "bench" not in late:
        bench = json.loads((out / "bench.json").read_text())
        assert bench["environment"]["device"].startswith("NVIDIA H100")
    if "speed" not in late:
        speed = json.loads((out / "speed.json").read_text())
        ways = speeds_to_measure()
        assert [(entry["network"], entry["options"]) for entry in speed] == [
            (way["network"], way["options"]) for way in ways
        ]
        assert {entry["network"] for entry in speed} == set(NETWORKS)
        assert {entry["environment"]["precision"] for entry in speed} == {"bf16"}
        assert [entry["warnings"] for entry in speed] == [[]] * len(ways)
        for entry in speed:
            on = {key: value for key, value in entry["environment"].items() if value is True}
            assert on == entry["options"]
    repeated = json.loads((out / "repeat.json").read_text())
    assert len(repeated) == 2 * len(REPEATED)
    assert all(repeated.values())
    assert isinstance(json.loads((out / "chapters.json").read_text())["02-shapes"], float)
