"""A terminal that is lost, a pipe whose reader has gone, a full disk behind a stream: none of them ends a run."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image
from short_runs import wait_for_checkpoint

from alexnet_course import terminal
from alexnet_course.cli import main, show_warning
from alexnet_course.data import decode
from alexnet_course.data.cifar import _from_tree
from alexnet_course.data.download import NotPublished
from alexnet_course.recipe import Recipe
from alexnet_course.terminal import Terminal, say
from alexnet_course.watching import fit
from benchmarks.kill import make_images, resume_arguments, saved_state, train_arguments

COMMAND = [sys.executable, "-m", "alexnet_course"]


class Lost(io.StringIO):
    """A stream that takes so many lines, and from then on fails."""

    def __init__(self, number: int, lines: int) -> None:
        super().__init__()
        self.error, self.lines = OSError(number, os.strerror(number)), lines

    def write(self, text: str) -> int:
        self.lines -= 1
        if self.lines < 0:
            raise self.error
        return super().write(text)

    def flush(self) -> None:
        if self.lines < 0:
            raise self.error

    def fileno(self) -> int:
        return self.descriptor


def small(**changes: object) -> Recipe:
    values = {"model": "lenet5", "epochs": 2, "batch_size": 32, "precision": "fp32", "validation_size": 20}
    return Recipe(**{**values, **changes})


@pytest.mark.parametrize("lines", [0, 5])
@pytest.mark.parametrize("number", [errno.EIO, errno.EPIPE, errno.ENOSPC, errno.EBADF])
def test_what_progress_cannot_write_is_dropped(data, monkeypatch, number, lines):
    """From the start, and in the middle; an unfinished bar complains neither when it is closed nor when it is gone."""
    monkeypatch.setattr(sys, "stderr", Lost(number, lines))
    run = fit(small(), **data)
    say("done")
    show_warning("and a warning")
    assert run.record
    assert sys.stderr.lines < 0


@pytest.mark.parametrize("stream", [None, "closed"])
def test_without_a_standard_error_nothing_is_written_anywhere(data, monkeypatch, capsys, stream):
    """Python's ``print`` would take standard output instead, where the result goes."""
    if stream == "closed":
        stream = io.StringIO()
        stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    run = fit(small(), **data)
    say("done")
    assert run.record
    assert capsys.readouterr().out == ""


def test_a_terminal_is_otherwise_the_stream_that_it_stands_for(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stderr", stream)
    found = Terminal()
    assert found.write("größer") == 6
    found.flush()
    assert (found.encoding, found.isatty(), stream.buffer.getvalue()) == ("latin-1", False, "größer".encode("latin-1"))


@pytest.mark.parametrize(("number", "status"), [(errno.EPIPE, 141), (errno.ENOSPC, 1), (errno.EIO, 1)])
def test_a_result_that_cannot_be_written_is_no_success(monkeypatch, capsys, tmp_path, number, status):
    lost = Lost(number, lines=0)
    with open(tmp_path / "stream", "w") as file:
        lost.descriptor = file.fileno()
        monkeypatch.setattr(sys, "stdout", lost)
        assert main(["models"]) == status
        assert os.readlink(f"/proc/self/fd/{file.fileno()}") == os.devnull  # so that Python's end does not complain
    said = f"alexnet-course: [Errno {number}] {os.strerror(number)}\n"
    assert capsys.readouterr().err == ("" if status == 141 else said)


def test_bars_of_the_data_cannot_end_anything_either(monkeypatch, tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png")
    with tarfile.open(tmp_path / "archive.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "x.png", "archive/train/cat/x.png")
    monkeypatch.setattr(decode, "_PROGRESS_FROM", 1)
    monkeypatch.setattr(sys, "stderr", Lost(errno.ENOSPC, lines=0))
    pixels = {}
    decode.decode_all([str(tmp_path / "x.png")], "x", pixels.__setitem__, (3, 4, 4))
    assert list(pixels) == [0]
    with pytest.raises(NotPublished, match="other images than the published ones"):
        _from_tree("cifar10", "train", tmp_path, tmp_path / "archive.tar.gz")


# --- The same in processes of their own ------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["results"], ["results", "--format", "csv"], ["models"]])
def test_a_reader_that_has_gone_is_status_141(arguments):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*COMMAND, *arguments], stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def gone_reader() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def full_disk() -> int:
    return os.open("/dev/full", os.O_WRONLY)


ENDS: dict[str, tuple[dict[str, Callable[[], int]], tuple[int, ...], int]] = {
    "2>&1 | head": ({"stdout": gone_reader, "stderr": gone_reader}, (), 141),
    "| head": ({"stdout": gone_reader}, (), 141),
    "2>/dev/full": ({"stderr": full_disk}, (), 0),
    ">/dev/full": ({"stdout": full_disk}, (), 1),
    "2>&-": ({}, (2,), 0),
    ">&- 2>&-": ({}, (1, 2), 0),
}


@pytest.mark.slow
@pytest.mark.parametrize(("streams", "closed", "status"), ENDS.values(), ids=ENDS)
def test_a_run_comes_to_its_end_whatever_happens_to_its_streams(tmp_path, monkeypatch, streams, closed, status):
    monkeypatch.setenv("ALEXNET_COURSE_CACHE", str(tmp_path / "cache"))
    make_images(tmp_path / "images", training=60, test=15)
    arguments = [*train_arguments(tmp_path / "images", tmp_path / "run", "lenet5", seed=0), "--epochs", "1"]
    arguments += ["--set", "validation_size=15"]
    opened = {name: open_stream() for name, open_stream in streams.items()}
    done = subprocess.run(
        [*COMMAND, *arguments], **opened, check=False, preexec_fn=lambda: [os.close(number) for number in closed]
    )
    for number in opened.values():
        os.close(number)
    assert done.returncode == status
    assert json.loads((tmp_path / "run" / "record.json").read_text())["recipe"]["model"] == "lenet5"


@pytest.mark.slow
def test_a_run_whose_terminal_is_closed_saves_first(tmp_path, monkeypatch):
    """System and shell both say so, and by then there is nobody to write to."""
    monkeypatch.setenv("ALEXNET_COURSE_CACHE", str(tmp_path / "cache"))
    make_images(tmp_path / "images")
    out = tmp_path / "run"
    arguments = [*train_arguments(tmp_path / "images", out, "cnn4", seed=0), "--epochs", "50"]
    options: dict[str, Any] = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL)}
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options) as process:
        try:
            wait_for_checkpoint(process, out)
            process.stdout.close()
            process.stderr.close()
            for _ in range(2):
                process.send_signal(signal.SIGHUP)
                time.sleep(0.001)
            assert process.wait(60) == 128 + signal.SIGHUP
        finally:
            process.kill()
    state = saved_state(out)
    assert state.startswith("step ")
    assert not list(out.glob("*.unfinished"))
    monkeypatch.setattr(terminal, "say", lambda text: None)
    said: list[str] = []
    monkeypatch.setattr("alexnet_course.cli.train.say", said.append)
    monkeypatch.setattr("alexnet_course.watching.watch", lambda run, **_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert main(resume_arguments(out)) == 130
    assert said == [f"resuming {out} at {state} of 600"]
