"""The benchmark: its arithmetic, its contenders, its report. How fast this machine is, is not tested."""

import json
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from alexnet_course import bench
from alexnet_course.bench import COMPILED, MATRIX, OURS, PLAIN, S0, TUNED, Contender
from alexnet_course.cli import main
from alexnet_course.errors import CourseError
from alexnet_course.models import MODELS, load_networks
from alexnet_course.recipe import Recipe
from benchmarks import report
from benchmarks.command import run

CPU = torch.device("cpu")
OWN_NETWORK = """
from torch import nn
from alexnet_course import register_model

def own(num_classes=10, in_channels=3):
    return nn.Sequential(nn.Conv2d(in_channels, 4, 3, stride=4), nn.Flatten(), nn.Linear(256, num_classes))

register_model("own-net", own)
"""
RECIPE = Recipe(model="lenet5", batch_size=100, optimiser="sgd", lr=1e-3, schedule="constant", epochs=1)


def result(**changes: object) -> dict:
    """What a machine with simple numbers would give."""
    rates = {
        MATRIX: [6e9, 6e9, 12e9],
        S0: [10, 20, 10],
        TUNED: [20, 20, 20],
        PLAIN: [90, 90, 90],
        OURS: [100, 100, 100],
    }
    values = {
        "model": "lenet5",
        "parameters": 1,
        "mult_adds": 1e7,
        "environment": {
            "device": "abacus (cpu)", "cores": 2, "threads": 2, "torch": "2", "python": "3", "system": "Linux",
            "package": "0", "git_commit": None, "precision": "bf16",
        },
        "dataset": {"name": "doodles", "training_images": 4500},
        "batch_size": 1024,
        "workers": 1,
        "rates": rates,
        "first_step_seconds": dict.fromkeys(rates, 1.0),
        "peak_bytes": None,
        "profile": {"convolutions": 0.9, "gaps": 0.1, "dropout": 0.001},
    }  # fmt: skip
    return {**values, **changes}


def test_ratios_are_those_of_the_same_turn():
    assert bench.ratios(result(), OURS, S0) == [10, 5, 10]
    assert bench.spread(bench.ratios(result(), OURS, S0), "{:.1f}") == "10.0 (5.0 to 10.0)"


def test_a_training_image_costs_six_operations_a_multiply_add():
    assert bench.matrix_shares(result(), OURS) == pytest.approx([1, 1, 0.5])


def test_when_compiling_is_earned_back():
    compiled = result()
    assert bench.epochs_to_earn_back(compiled) is None  # not measured
    compiled["rates"][COMPILED], compiled["first_step_seconds"][COMPILED] = [150, 150, 150], 46.0
    assert bench.epochs_to_earn_back(compiled) == pytest.approx(45 / (45 - 30))
    compiled["rates"][COMPILED] = [100, 100, 100]
    assert bench.epochs_to_earn_back(compiled) is None
    assert "is never earned back" in bench.table(compiled)


def test_the_table_says_what_was_measured_on_what():
    lines = bench.table(result()).splitlines()
    assert lines[1].startswith("abacus (cpu), 2 cores, 2 threads, PyTorch 2; median (smallest to largest) of 3 turns")
    (ours,) = (line for line in lines if line.startswith("ours "))
    assert " ".join(ours.split()) == "ours 100 10.0 (5.0 to 10.0) 5.0 (5.0 to 5.0) 100 (50 to 100) %"
    assert lines[-1] == "a step of ours: convolutions 90%, gaps 10%"
    assert "peak memory of ours: 2.00 GiB" in bench.table(result(peak_bytes=2**31))


@pytest.mark.parametrize(
    ("make", "settings", "work"),
    [
        (bench.loop_of_s0, (32, 0), 32),
        (bench.our_loop, (False,), 100),
        (bench.our_loop, (True,), 100),
        (bench.our_epochs, (500,), 400),  # 450 are trained on, in whole batches
    ],
)
def test_a_step_of_a_contender_trains(make, settings, work):
    torch.manual_seed(0)
    step = make(RECIPE, CPU, *settings)
    assert step() == work
    assert step() == work


def test_the_loop_of_s0_sees_augmented_normalised_images():
    images = bench.ImagesOneByOne(RECIPE)
    assert len(images) == 5000
    image, label = images[0]
    assert (tuple(image.shape), image.dtype, label) == ((3, 32, 32), torch.float32, images.targets[0])
    assert not torch.equal(image, images[0][0])


def test_the_matrix_product_counts_its_operations(monkeypatch):
    monkeypatch.setitem(bench.MATRIX_SIDE, "cpu", 16)
    assert bench.matrix_product(RECIPE, CPU)() == 2 * 16**3


@pytest.mark.slow
def test_a_contender_works_in_a_process_of_its_own():
    with Contender(bench.our_loop, RECIPE, "cpu", True) as contender:
        assert contender.first_step_seconds > 0
        assert contender.rate(0.1) > 0
        assert contender.peak_bytes() is None
        profile = contender.profile()
    assert set(profile) == {*bench.KINDS, "other", "gaps"}
    assert sum(profile.values()) == pytest.approx(1, abs=0.2)
    assert profile["convolutions"] > 0
    assert not contender._process.is_alive()


@pytest.mark.slow
def test_what_a_contender_refuses_is_said_here_in_one_sentence():
    with pytest.raises(CourseError, match=r"^graph = True is for CUDA GPUs, and this run is on cpu; leave it out\.$"):
        Contender(bench.our_loop, RECIPE, "cpu", True, {"graph": True})
    assert multiprocessing.active_children() == []


def test_no_contender_is_left_when_a_later_one_cannot_begin(monkeypatch):
    """They would wait for ever, and the bench for them."""
    begun, closed = [], []

    class Failing(HereAndNow):
        def __init__(self, make, recipe, device, *settings, networks=()):
            super().__init__(make, recipe, device, *settings)
            if {"compile": True} in settings:
                raise CourseError("compile = True does not work on this machine.")
            begun.append(self)

        def close(self):
            closed.append(self)

        def __exit__(self, *_):
            self.close()

    monkeypatch.setattr(bench, "Contender", Failing)
    with pytest.raises(CourseError, match="compile = True does not work"):
        bench.bench("lenet5", "doodles", device="cpu", repeats=1, compile=True)
    assert closed == begun


def test_a_gpu_is_never_far_behind(monkeypatch):
    """Half a minute of products could else be queued on a small card, and the time would be up long before its end."""
    queued: list[object] = []
    most = 0

    class Event:
        def record(self, stream: object) -> None:
            nonlocal most
            assert stream == "of cuda:1"
            queued.append(self)
            most = max(most, len(queued))

        def synchronize(self) -> None:
            if self in queued:  # or the GPU has got there already
                del queued[: queued.index(self) + 1]

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: queued.clear())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"of {device}")
    rate = bench._rate(lambda: 1.0, torch.device("cuda", 1), 0.05, True)
    assert rate > 0
    assert most == bench.QUEUE + 1


def test_a_contender_leaves_a_gpu_s_memory_to_the_next(monkeypatch):
    """Five of them would else hold what their largest step took."""
    said = []
    questions = iter([("rate", 0.0, False), ("rate", 0.0, False)])

    class Pipe:
        def send(self, answer: object) -> None:
            said.append("answer")

        def recv(self) -> object:
            try:
                return next(questions)
            except StopIteration:
                raise EOFError from None

    monkeypatch.setattr(bench, "choose_device", lambda device: torch.device("cuda"))
    monkeypatch.setattr(bench, "_now", lambda device: 0.0)
    monkeypatch.setattr(bench, "_rate", lambda *_: 1.0)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: said.append("empty"))
    bench._work(Pipe(), lambda recipe, device: lambda: 1.0, RECIPE.as_dict(), "cuda", (), ())
    assert said == ["answer", "empty", "answer", "empty", "answer"]


class HereAndNow:
    """A contender without its process, and as fast as it likes."""

    first_step_seconds = 1.0

    def __init__(self, make, recipe, device, *settings, networks=()):
        assert recipe.model == "lenet5"
        self.speed = 1.0 + len(settings)

    def rate(self, seconds, warm_up=True):
        return self.speed

    def peak_bytes(self):
        return None

    def profile(self):
        return {"convolutions": 1.0}

    def close(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def test_the_command_prints_the_table_and_keeps_every_figure(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bench, "Contender", HereAndNow)
    path = tmp_path / "bench.json"
    assert main(["bench", "--model", "lenet5", "--repeats", "3", "--device", "cpu", "--json", str(path)]) == 0
    measured = json.loads(path.read_text())
    assert {len(rates) for rates in measured["rates"].values()} == {3}
    assert set(measured["rates"]) == {MATRIX, S0, TUNED, PLAIN, OURS}
    assert measured["schema"] == bench.SCHEMA
    assert set(measured["workers_tried"]) >= {"0", "1", "2"}
    out = capsys.readouterr().out
    assert out == f"{bench.table(measured)}\nall measurements are in {path}\n"


def test_what_is_measured_is_kept_after_every_turn(monkeypatch):
    class Broken(HereAndNow):
        turns = 0

        def rate(self, seconds, warm_up=True):
            Broken.turns += 1
            if Broken.turns > 25:  # in the third turn of five contenders, after the tries of the tuned loop
                raise RuntimeError("the GPU has gone")
            return 1.0

    monkeypatch.setattr(bench, "Contender", Broken)
    monkeypatch.setattr(bench.os, "cpu_count", lambda: 8)
    kept = []
    with pytest.raises(RuntimeError, match="has gone"):
        bench.bench("lenet5", "doodles", device="cpu", repeats=5, keep=lambda result: kept.append(json.dumps(result)))
    last = json.loads(kept[-1])
    assert [{len(rates) for rates in json.loads(text)["rates"].values()} for text in kept] == [{1}, {2}, {3}]
    assert bench.table(last).startswith("lenet5 (")


@pytest.mark.parametrize(("gigabytes", "batch"), [(15, 512), (79, 2048)])
def test_a_small_gpu_gets_a_smaller_batch(monkeypatch, gigabytes, batch):
    properties = SimpleNamespace(total_memory=gigabytes * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    assert bench.default_batch(torch.device("cuda")) == batch
    assert bench.default_batch(torch.device("cpu")) == 1024


def test_the_measurements_overwrite_no_file(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bench, "Contender", HereAndNow)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    command = ["bench", "--model", "lenet5", "--repeats", "1", "--device", "cpu"]
    for name in ("bench.json", "bench-2.json", "bench-3.json"):
        assert main(command) == 0
        assert capsys.readouterr().out.endswith(f"all measurements are in {name}\n")
    before = (tmp_path / "bench.json").read_bytes()
    assert main([*command, "--json", "bench.json"]) == 2
    assert "'bench.json' already exists and is not overwritten" in capsys.readouterr().err
    assert (tmp_path / "bench.json").read_bytes() == before
    assert main([*command, "--json=~/mine.json"]) == 0
    assert (tmp_path / "home" / "mine.json").is_file()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"repeats": 0}, "repeats = 0 would measure nothing; give at least 1"),
        ({"batch_size": 0}, "batch_size = 0 is too small; give at least 1, or leave it out"),
        ({"seconds": math.inf}, "seconds = inf is not the length of a turn; give a positive number"),
        ({"seconds": math.nan}, "seconds = nan is not the length of a turn"),
        ({"seconds": -1.0}, r"seconds = -1\.0 is not the length of a turn"),
    ],
)
def test_what_measures_nothing_or_never_ends_is_refused_before_the_images_are_loaded(monkeypatch, options, sentence):
    monkeypatch.delattr(bench, "load_dataset")
    with pytest.raises(CourseError, match=sentence):
        bench.bench("lenet5", "doodles", device="cpu", **options)


@pytest.fixture
def own(tmp_path) -> str:
    """A file that registers a network, which is forgotten afterwards."""
    (tmp_path / "own.py").write_text(OWN_NETWORK)
    before = dict(MODELS)
    yield str(tmp_path / "own.py")
    MODELS.clear()
    MODELS.update(before)


def test_a_network_of_one_s_own_reaches_the_processes_of_all_contenders(monkeypatch, own, tmp_path):
    given = []

    class Noting(HereAndNow):
        def __init__(self, make, recipe, device, *settings, networks=()):
            super().__init__(make, recipe, device, *settings)
            given.append(list(networks))

    monkeypatch.setattr(bench, "Contender", Noting)
    command = ["bench", "--model", "lenet5", "--repeats", "1", "--device", "cpu", "--json", str(tmp_path / "x.json")]
    assert main([*command, "--networks", own]) == 0
    assert len(given) > 5
    assert given == [[own]] * len(given)


@pytest.mark.slow
def test_a_contender_s_process_knows_a_network_of_one_s_own(own):
    load_networks(own)
    with Contender(bench.our_loop, RECIPE.replace(model="own-net"), "cpu", True, networks=[own]) as contender:
        assert contender.rate(0.01) > 0


def test_fewer_images_than_a_batch_of_s0_are_refused(data, monkeypatch):
    """Its loader would be empty, and the bench wait for ever."""
    few = data["train_set"].subset(range(24))
    monkeypatch.setattr(bench, "load_dataset", lambda *_: few)
    with pytest.raises(CourseError, match=r"has 24 training images, and a batch of S0's loop has 32"):
        bench.bench("lenet5", "doodles", device="cpu", repeats=1)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="its signals are others")
def test_ctrl_c_ends_a_bench_without_a_traceback(tmp_path):
    begins = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)"  # which pytest may ignore
    arguments = ["bench", "--model", "lenet5", "--device", "cpu", "--json", "x"]
    command = [sys.executable, "-c", f"{begins}; from alexnet_course.cli import main; sys.exit(main({arguments}))"]
    with subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, text=True
    ) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        time.sleep(1)  # the first contender is being started
        os.killpg(process.pid, signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(60) == 130, rest
    assert "0 loading processes" in line
    assert "Traceback" not in rest
    assert rest.endswith("stopped\n")


class TestReport:
    """benchmarks/README.md is made from the results, and they are of the network and the kind that it says."""

    def test_is_that_of_the_committed_results(self):
        results = report.load_results()
        assert results
        assert (report.HERE / "README.md").read_text(encoding="utf-8") == report.render(results)
        assert (report.HERE / "speed.png").stat().st_size > 10_000

    def test_results_are_whole(self):
        for measured in report.load_results():
            assert measured["schema"] == bench.SCHEMA
            assert measured["model"] == report.MODEL
            assert len(measured["rates"][OURS]) >= 5
            rates = [
                *measured["rates"].values(),
                *measured["by_batch_size"].values(),
                *measured["by_data_size"].values(),
            ]
            assert all(math.isfinite(rate) and rate > 0 for turns in rates for rate in turns)
            assert not (measured["environment"]["git_commit"] or "").endswith("+changes")

    def test_measures_every_size_that_the_data_has(self, monkeypatch):
        monkeypatch.setattr(report, "bench", lambda *_, **__: {"rates": {}})
        monkeypatch.setattr(
            report, "Contender", lambda make, recipe, *_: HereAndNow(make, recipe.replace(model="lenet5"), "")
        )
        measured = report.measure("doodles", "cpu")
        assert list(measured["by_batch_size"]) == ["32", "64", "128", "256", "512", "1024", "2048", "4096"]
        assert list(measured["by_data_size"]) == ["1000", "2000", "5000"]
        assert {len(rates) for rates in measured["by_batch_size"].values()} == {3}

    def test_draws_every_machine(self):
        measured = {
            **result(),
            "by_batch_size": {"32": [1, 2]},
            "by_data_size": {"1000": [3, 4]},
            "data_size_batch": 128,
        }
        figure = report.draw([measured, measured])
        assert [len(axes.containers) for axes in figure.axes] == [2, 2]


def test_benchmarks_are_importable_from_the_root_alone():
    assert Path(report.__file__).parents[1] == Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("aten::mkldnn_convolution", "convolutions"),
        (
            "sm80_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc_kernel_cudnn",
            "convolutions",
        ),
        (
            "void cutlass__5x_cudnn::Kernel<cutlass_tensorop_bf16_s16816wgrad_optimized_bf16_128x128>",
            "convolutions",
        ),
        ("turing_fp16_s1688cudnn_fp16_256x128_ldg8_relu_f2f_exp_small_nhwc_tn_v1", "convolutions"),
        ("void cudnn::bn_fw_tr_1C11_kernel_NCHW<float, float, int, 512, true, 1, true>", "batch norm"),
        ("void cudnn::pooling_fw_4d_kernel<float, float, cudnn::maxpooling_func<float>>", "pooling"),
        ("nvjet_tst_128x256_64x4_1x2_h_bz_coopA_TNT", "linear layers"),
        ("ampere_bf16_s16816gemm_bf16_128x64_ldg8_f2f_stages_64x4_nn", "linear layers"),
        ("aten::addmm", "linear layers"),
        ("void gemv2T_kernel_val<int, int, __nv_bfloat16, __nv_bfloat16, float, 128, 16, 4, 4>", "linear layers"),
        ("void cublasLt::splitKreduce_kernel<32, 16, int, float, __nv_bfloat16, float>", "linear layers"),
        (
            "void at::native::distribution_elementwise_grid_stride_kernel<unsigned int, 4, random_from_to_kernel>",
            "augmentation",
        ),
        ("void at::native::(anonymous namespace)::fused_dropout_kernel_vec<float, float, 1, 4, bool>", "dropout"),
        ("Memcpy DtoD (Device -> Device)", "copies and casts"),
        ("Memset (Device)", "copies and casts"),
        ("void at::native::multi_tensor_apply_kernel<FusedOptimizerTensorListMetadata<4>>", "optimiser"),
        ("void at::native::FusedAdamMathFunctor<float, 4>", "optimiser"),
        ("aten::something_new", "other"),
    ],
)
def test_a_kernel_is_filed_under_what_it_is_for(name, kind):
    """Names as the profiler shows them on a processor, a T4 and newer GPUs."""
    assert bench.kind_of(name) == kind


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["report", "--device", "cud"], "cud"),
        (["streaming", "--device", "cud"], "cud"),
        (["streaming", "--turns", "0"], "--turns: '0' is not an integer of at least 1"),
        (["quantised", "--data", "folder:/nowhere"], "/nowhere"),
        (["weights", "/nowhere"], "/nowhere"),
        (["mistakes"], "SPEC"),
        (["first_gpu", "out", "--data", "cifar10"], "NAME=SPEC"),
    ],
)
def test_a_benchmark_says_in_a_sentence_what_is_wrong(command, said, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(report.__file__).parents[1]))
    name, *arguments = command
    found = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert found.returncode == 2
    assert said in found.stderr
    assert "Traceback" not in found.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_report_without_measurements_leaves_the_old_one(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    monkeypatch.setattr(report, "HERE", tmp_path)
    (tmp_path / "README.md").write_text("old")
    monkeypatch.setattr(sys, "argv", ["report", "--render"])
    assert run(report.main, "report") == 2
    assert "has no measurements to write a report of" in capsys.readouterr().err
    assert (tmp_path / "README.md").read_text() == "old"
