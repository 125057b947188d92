"""Several processes that train together are one process, but for rounding; two of them are started here."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import two_processes
from two_processes import BATCH, losses, recipe

from alexnet_course.cli import main
from alexnet_course.errors import CourseError
from alexnet_course.results.verify import verify
from alexnet_course.training import Run, evaluate, load_run, parallel, resume, train, trainer
from alexnet_course.training.parallel import ALONE, Group, join_group

ROOT = Path(__file__).resolve().parents[2]


def torchrun(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Two processes in ``folder``, each on one thread; they have to end well."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *arguments]
    changes = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "GIT_DIR": os.devnull}
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **changes}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def odd(data: dict[str, Any]) -> dict[str, Any]:
    """The options of ``train``, with a test set that two processes cannot share fairly."""
    return {**data, "test_set": data["test_set"].subset(range(49))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, odd: dict[str, Any]) -> Path:
    """Where the two processes have been."""
    folder = tmp_path_factory.mktemp("two")
    torch.save(odd, folder / "data.pt")
    begun = train(recipe(), out=folder / "alone", **odd)
    next(begun)
    begun.close()
    torchrun(Path(two_processes.__file__), folder, folder=folder)
    return folder


@pytest.fixture(scope="module")
def both(folder: Path) -> list[dict[str, Any]]:
    """What each of them found."""
    return [torch.load(folder / f"found-{rank}.pt", weights_only=False) for rank in (0, 1)]


@pytest.fixture(scope="module")
def one(odd: dict[str, Any]) -> tuple[Run, list[float]]:
    """The run of one process, and the loss of each of its steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "EVALUATION_BATCH", BATCH)
        run = train(recipe(), **odd)
        return run, losses(run)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.values(), other.values(), strict=True))


@pytest.mark.slow
def test_two_processes_train_like_one(both, one):
    run, alone = one
    together = both[0]["whole"]
    assert len(alone) == 15
    torch.testing.assert_close(torch.tensor(together["losses"]), torch.tensor(alone), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together["weights"], dict(run.model.state_dict()), rtol=1e-3, atol=1e-5)
    for entry, other in zip(together["history"], run.history, strict=True):
        assert entry["lr"] == other["lr"]
        assert entry["train_loss"] == pytest.approx(other["train_loss"], rel=1e-4)
        assert entry["train_accuracy"] == pytest.approx(other["train_accuracy"], abs=0.025)  # counted, of 85


@pytest.mark.slow
def test_both_have_the_same_network_to_the_bit(both):
    for run in ("whole", "uninterrupted"):
        assert same(*(found[run]["weights"] for found in both))
    assert both[0]["whole"]["losses"] == both[1]["whole"]["losses"]


@pytest.mark.slow
def test_every_image_is_counted_once(both, one, folder, odd):
    record = both[0]["whole"]["record"]
    assert record == both[1]["whole"]["record"] == json.loads((folder / "whole" / "record.json").read_text())
    assert sorted(path.name for path in (folder / "whole").iterdir()) == [
        "predictions.npy",
        "record.json",
        "weights.safetensors",
    ]
    assert verify(folder / "whole") == []
    model, _ = load_run(folder / "whole")
    constants = {key: record["dataset"][key] for key in ("mean", "std")}
    by_hand = evaluate(model, odd["test_set"], **constants)
    assert by_hand.count == 49
    assert by_hand.confusion == record["confusion_matrix"]
    assert by_hand.accuracy == record["test_accuracy"]
    assert by_hand.loss == pytest.approx(record["test_loss"], rel=1e-5)
    alone = one[0].record.as_dict()
    assert record["predictions"] == alone["predictions"]
    assert record["augmented_test_accuracy"] == alone["augmented_test_accuracy"]
    assert record["environment"]["processes"] == 2
    assert "processes" not in alone["environment"]


@pytest.mark.slow
def test_each_process_has_dropout_of_its_own(both):
    assert not torch.equal(both[0]["dropout"], both[1]["dropout"])


@pytest.mark.slow
def test_one_stops_both_and_the_end_is_that_of_a_run_which_was_left_alone(both, folder):
    for found in both:
        assert found["stopped"] == (
            "Stopped by the program at step 7 of 15; the run is in interrupted, resume it to go on."  # seen from there
        )
        assert found["resumed at"] == 7
        assert same(found["interrupted"]["weights"], found["uninterrupted"]["weights"])
        whole, resumed = found["uninterrupted"]["record"], found["interrupted"]["record"]
        for key in ("val_accuracy", "test_accuracy", "test_loss", "confusion_matrix", "predictions", "environment"):
            assert whole[key] == resumed[key]
        for entry, other in zip(whole["history"], resumed["history"], strict=True):
            assert all(entry[key] == other[key] for key in ("train_loss", "train_accuracy", "val_loss", "lr"))


@pytest.mark.slow
def test_another_number_of_processes_is_refused(both, folder, odd):
    sentence = "The run in '%s' cannot be resumed with %s, since it was started with %s; resume it %s."
    for found in both:
        assert found["alone"] == sentence % ("alone", "2 processes", "1", "without torchrun")
    expected = sentence % (folder / "unfinished", "1 process", "2", "with torchrun --nproc-per-node 2")
    with pytest.raises(CourseError) as refused:
        resume(folder / "unfinished", **odd)
    assert str(refused.value) == expected


@pytest.mark.slow
def test_what_goes_wrong_in_one_stops_both(both):
    first, second = both
    assert first["batch of one"] == second["batch of one"]
    assert first["batch of one"].startswith("A batch of 1 has no part for each of 2 processes; give a larger ")
    assert first["out of memory"] == second["out of memory"]
    assert first["out of memory"] == (
        "There is not enough memory for batch_size = 17 on cpu (CUDA out of memory); not even one image fits, "
        "so choose a smaller network."
    )
    for what in ("batch out of memory", "epoch out of memory", "lost image"):
        assert first[what] == second[what]
    assert first["batch out of memory"].startswith("There is not enough memory for batch_size = 17 on cpu (CUDA ")
    assert first["epoch out of memory"].endswith("images at once (CUDA out of memory); leave epoch_at_once out.")
    assert first["lost image"] == "image 7 is gone"
    assert first["not finite"] == second["not finite"]
    assert first["not finite"].startswith("The loss became nan in epoch 1 at step 4 of 5, ")
    assert same(first["not finite weights"], second["not finite weights"])
    assert all(weight.isfinite().all() for weight in first["not finite weights"].values())


@pytest.mark.slow
def test_the_command_line_prints_once(tmp_path):
    settings = [f"--set={setting}" for setting in ("train_size=64", "validation_size=20", "cutout=0")]
    command = [
        "train",
        "cnn4",
        "--data",
        "doodles",
        "--epochs",
        "1",
        "--batch-size",
        "32",
        "--device",
        "cpu",
        *settings,
    ]
    done = torchrun("-m", "alexnet_course", *command, folder=tmp_path)
    assert done.stdout.count("test accuracy") == 1
    assert done.stdout.endswith("record in runs/cnn4-seed0/record.json\n")
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr.count(" 0/2 [") == 1  # the beginning of the progress bar
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["cnn4-seed0"]


def test_a_process_that_torchrun_did_not_start_is_alone(monkeypatch):
    monkeypatch.setenv("RANK", "1")  # as other launchers say, too
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert join_group() is ALONE
    batch = torch.rand(5, 3)
    assert ALONE.part(batch) is batch
    assert ALONE.total(batch) is batch


@pytest.mark.parametrize(("count", "size"), [(16, 2), (17, 2), (1, 2), (7, 3), (128, 8)])
def test_the_parts_of_a_batch_make_the_batch(count, size):
    batch = torch.arange(count)
    parts = [Group(rank, size).part(batch) for rank in range(size)]
    assert torch.equal(torch.cat(parts), batch)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_device_that_processes_cannot_share_is_refused(monkeypatch):
    group = Group(0, 2)
    with pytest.raises(CourseError, match=r"^device = 'mps' cannot be used by 2 processes; give cuda, so that each "):
        group.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(CourseError, match=r"^2 processes need 2 GPUs, and this machine has 1; start no more than that"):
        group.device("cuda")
    assert group.device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(("machines", "here", "number"), [(2, "1", 0), (1, "2", 1)])
def test_each_process_of_a_machine_takes_a_gpu_of_its_own(monkeypatch, machines, here, number):
    """The second of two: on a machine of its own, and beside the first."""
    taken: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setattr(parallel, "choose_device", torch.device)
    monkeypatch.setattr(Group, "together", lambda group, function: function())
    monkeypatch.setenv("LOCAL_WORLD_SIZE", here)
    monkeypatch.setenv("LOCAL_RANK", str(number))
    assert Group(1, 2).device("cuda") == torch.device("cuda", number)
    assert taken == [torch.device("cuda", number)]


@pytest.mark.parametrize("size", [1, 2])
def test_a_process_on_its_own_averages_nothing(size):
    """Nor does it need a group of torch's; two of them do."""
    tensor = torch.ones(3)
    if size == 1:
        Group(0, 1).average([tensor], share=0.5)
        assert tensor.tolist() == [1.0, 1.0, 1.0]
    else:
        with pytest.raises(ValueError, match="process group"):
            Group(0, 2).average([tensor], share=0.5)


def test_several_processes_have_no_step_as_a_graph():
    run = SimpleNamespace(device=torch.device("cuda"), group=Group(0, 2))
    with pytest.raises(CourseError, match=r"^graph = True is for one process, and 2 train together; leave it out\.$"):
        trainer.Trainer._recorded(run)


def test_a_torch_without_processes_trains_alone(monkeypatch):
    monkeypatch.setattr("torch.distributed.is_available", lambda: False)
    assert join_group() == ALONE


def test_only_the_main_process_speaks(monkeypatch, capsys):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    for rank, said in (("0", 1), ("1", 0)):
        monkeypatch.setenv("RANK", rank)
        assert main(["summary", "no-such-network"]) == 2
        with pytest.raises(SystemExit):
            main(["train"])
        assert capsys.readouterr().err.count("alexnet-course: ") == said
