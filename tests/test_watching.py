"""What one sees of a run: the bar, the live figure of a notebook, TensorBoard."""

import re
import sys
from dataclasses import asdict
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest

from alexnet_course.errors import CourseError
from alexnet_course.recipe import Recipe
from alexnet_course.training import train
from alexnet_course.watching import SCALARS, fit, in_notebook, watch


def small(**changes: object) -> Recipe:
    """lenet5 on 100 training and 20 validation images: 3 steps an epoch."""
    values = {"model": "lenet5", "epochs": 2, "batch_size": 32, "precision": "fp32", "validation_size": 20}
    return Recipe(**{**values, **changes})


def drawn(text: str) -> list[str]:
    """Every state of the bar, one after the other."""
    return [state for state in re.split(r"[\r\n]", text) if "step" in state]


# --- The bar ---------------------------------------------------------------------------------------------------------


def test_the_bar_shows_loss_accuracy_speed_and_time_left(data, capsys):
    run = fit(small(name="one"), **data)
    out, err = capsys.readouterr()
    assert out == ""
    states = drawn(err)
    assert states[0].startswith("one:   0%")
    assert "0/6" in states[0]
    for entry in run.history:
        said = (
            f"epoch {entry['epoch']}/2, loss {entry['train_loss']:.3f}, val {entry['val_accuracy']:.1%}, "
            f"{entry['images_per_second']:,.0f} img/s"
        )
        (first, *_) = [state for state in states if said in state]
        assert re.search(rf"{3 * entry['epoch']}/6 \[\d\d:\d\d<\d\d:\d\d, ", first)  # the time so far and that left
    assert "6/6" in states[-1]


def test_the_bar_of_a_run_that_goes_on_begins_where_it_stopped(data, tmp_path, capsys):
    run = train(small(), out=tmp_path / "run", **data)
    next(run)
    run.close()
    fit(small(), out=tmp_path / "run", **data)
    states = drawn(capsys.readouterr().err)
    assert " 50%" in states[0]
    assert "3/6" in states[0]
    assert "6/6" in states[-1]
    assert not [state for state in states if "0/6" in state]


def test_without_progress_nothing_is_written(data, capsys):
    fit(small(epochs=1), progress=False, **data)
    assert capsys.readouterr() == ("", "")


def test_the_caller_s_own_on_step_is_called_as_well(data):
    steps = []
    run = train(small(), on_step=lambda: steps.append(run.steps_done), **data)
    assert watch(run, progress=False) is run
    assert steps == [1, 2, 3, 4, 5, 6]


# --- The figure ------------------------------------------------------------------------------------------------------


def test_in_notebook(monkeypatch):
    def running(shell: object) -> None:
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))

    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not in_notebook()
    running(None)  # imported by some library
    assert not in_notebook()
    running(SimpleNamespace())  # IPython in a terminal
    assert not in_notebook()
    running(SimpleNamespace(kernel=object()))
    assert in_notebook()


def test_without_a_notebook_no_figure_is_drawn(data, monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    monkeypatch.setattr("alexnet_course.plots.learning_curves", lambda _: pytest.fail("a figure"))
    fit(small(epochs=1), **data)


CELLS = [
    """
import torch
from alexnet_course import Recipe, fit
from alexnet_course.data import Dataset

torch.manual_seed(0)
images = Dataset(torch.randint(256, (40, 3, 32, 32), dtype=torch.uint8), torch.arange(40) % 2, ("a", "b"), "noise")
recipe = Recipe(model="lenet5", epochs=3, batch_size=16, precision="fp32", validation_size=8)
sets = {"train_set": images, "test_set": images, "device": "cpu"}
run = fit(recipe, **sets)
""",
    "run = fit(recipe, progress=False, **sets)",
]


@pytest.fixture(scope="module")
def notebook():
    """A notebook with two runs, executed; with it, of each cell, how images reached it, and the images."""
    nbclient = pytest.importorskip("nbclient", reason="nbclient, which comes with the extra book, is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel, which comes with the extra book, is not installed")
    import nbformat

    images = [[] for _ in CELLS]

    class Client(nbclient.NotebookClient):
        def process_message(self, message, cell, cell_index):
            content = message["content"]
            if "image/png" in content.get("data", {}):
                images[cell_index].append(
                    (message["msg_type"], content["transient"]["display_id"], content["data"]["image/png"])
                )
            return super().process_message(message, cell, cell_index)

    executed = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in CELLS])
    Client(executed, timeout=120, kernel_name="python3").execute()
    return executed, images


def shown(cell) -> list[str]:
    return [output["data"]["image/png"] for output in cell.outputs if "image/png" in output.get("data", {})]


@pytest.mark.slow
def test_in_a_notebook_there_is_one_figure_that_changes_once_an_epoch(notebook):
    executed, images = notebook
    kinds, displays, drawn = zip(*images[0], strict=True)
    assert kinds == ("display_data", "update_display_data", "update_display_data")
    assert len(set(displays)) == 1
    assert len(set(drawn)) == 3
    assert [image.strip() for image in shown(executed.cells[0])] == [drawn[-1].strip()]


@pytest.mark.slow
def test_in_a_notebook_there_is_no_figure_without_progress(notebook):
    executed, images = notebook
    assert executed.cells[1].outputs == images[1] == []


def test_the_live_figure_leaves_no_figure_open(data, monkeypatch):
    """A notebook would show it once more at the end of the cell, and 20 open ones cost memory."""
    pytest.importorskip("IPython", reason="IPython, which comes with the extra book, is not installed")
    seen, open_before = [], plt.get_fignums()

    def display(figure: object, display_id: bool) -> SimpleNamespace:
        seen.append(figure)
        return SimpleNamespace(update=seen.append)

    monkeypatch.setattr("IPython.display.display", display)
    monkeypatch.setattr("alexnet_course.watching.in_notebook", lambda: True)
    run = fit(small(), **data)
    assert len(seen) == 2
    assert plt.get_fignums() == open_before
    losses = seen[-1].axes[0].lines[0].get_ydata()
    assert list(losses) == [entry["train_loss"] for entry in run.history]


# --- TensorBoard -----------------------------------------------------------------------------------------------------


def scalars(run) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard would draw of a run: tag -> (step, value)."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator").EventAccumulator(
        str(run.out / "tensorboard")
    )
    reader.Reload()
    return {tag: [(event.step, event.value) for event in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}


def equal_the_history(run) -> None:
    read = scalars(run)
    assert set(read) == set(SCALARS)
    for name in SCALARS:
        assert [step for step, _ in read[name]] == [entry["epoch"] for entry in run.history]
        assert [value for _, value in read[name]] == pytest.approx([entry[name] for entry in run.history], rel=1e-6)


def test_tensorboard_gets_the_figures_of_the_history(data, tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed; run pip install tensorboard")
    run = fit(small(epochs=3), progress=False, tensorboard=True, out=tmp_path / "run", **data)
    equal_the_history(run)


def test_tensorboard_forgets_an_epoch_that_was_trained_twice(data, tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed; run pip install tensorboard")

    class Killed(Exception):
        pass

    def kill_in_the_third_epoch() -> None:
        if run.steps_done == 8:
            raise Killed

    run = train(small(epochs=3), out=tmp_path / "run", on_step=kill_in_the_third_epoch, **data)
    with pytest.raises(Killed):
        watch(run, progress=False, tensorboard=True)
    max(run.out.glob("*.pt")).unlink()  # the second epoch's is lost
    run = fit(small(epochs=3), progress=False, tensorboard=True, out=tmp_path / "run", **data)
    assert len(list((run.out / "tensorboard").iterdir())) == 2
    equal_the_history(run)


def test_tensorboard_needs_a_folder(data):
    with pytest.raises(CourseError, match=r"^tensorboard = True needs a folder to write to; give the run one with out"):
        fit(small(), progress=False, tensorboard=True, **data)


def test_tensorboard_that_is_not_installed(data, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(CourseError, match=r"^TensorBoard is not installed; pip install tensorboard, or leave it out"):
        fit(small(), progress=False, tensorboard=True, out=tmp_path / "run", **data)
    assert not (tmp_path / "run").exists()
    run = fit(small(), progress=False, out=tmp_path / "run", **data)  # nothing stands in the way of leaving it out
    assert list(map(asdict, run.record.history)) == run.history
