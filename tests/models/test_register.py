"""Networks of one's own: what may be registered, and that everything else takes them."""

import os
import pickle
import sys
from functools import partial

import pytest
import torch
from torch import nn

from alexnet_course import CourseError, Recipe, build_model, fit, layer_table, list_models, register_model, summary
from alexnet_course.models import MODELS, load_networks
from alexnet_course.records.check import check_fit
from alexnet_course.results.table import results_table
from alexnet_course.training import load_run
from alexnet_course.training.kernels import FasterFunctions


@pytest.fixture(autouse=True)
def only_the_course_s_networks_afterwards():
    before = dict(MODELS)
    yield
    MODELS.clear()
    MODELS.update(before)


class Tiny(nn.Module):
    """No Network: layers in any order, functions between them, an option that the course's networks also have."""

    def __init__(self, num_classes=10, in_channels=3, width=4, extra=False):
        super().__init__()
        self.unused = nn.Linear(2, 2) if extra else None
        self.out = nn.Linear(width, num_classes)
        self.body = nn.Sequential(nn.Conv2d(in_channels, width, 3, stride=2), nn.ReLU(), nn.MaxPool2d(2))

    def forward(self, x):
        return self.out(self.body(x).mean(dim=(2, 3)))


class WithValues(Tiny):
    """Looks at its values, which a network without any does not have."""

    def forward(self, x):
        x = super().forward(x)
        return x if x.detach().sum().item() < 1e9 else -x


class Skipping(Tiny):
    """Takes its layers one by one: another order of them would be another network."""

    def forward(self, x):
        x = self.body[0](x)
        rectified = self.body[1](x)
        return self.out((rectified - x).mean(dim=(2, 3)))


class Shared(Tiny):
    """Two names for one weight."""

    def __init__(self, num_classes=10, in_channels=3):
        super().__init__(num_classes, in_channels, width=num_classes)
        self.back = nn.Linear(num_classes, num_classes, bias=False)
        self.back.weight = self.out.weight

    def forward(self, x):
        return self.back(super().forward(x))


def test_it_is_built_listed_counted_and_tabulated_like_the_others():
    state = torch.get_rng_state()
    register_model("tiny-net", Tiny, source="me", note="small")
    assert torch.equal(torch.get_rng_state(), state)
    assert list_models()[-1] == "tiny-net"
    model = build_model("tiny-net", num_classes=7, in_channels=1, width=100)  # no factor here
    assert model(torch.zeros(2, 1, 20, 20)).shape == (2, 7)
    count = sum(weight.numel() for weight in Tiny().parameters())
    spec = MODELS["tiny-net"]
    assert (spec.parameters, spec.source, spec.note) == (count, "me", "small")
    assert sum(layer.parameters for layer in layer_table(build_model("tiny-net"), spec.input_size)) == count
    assert "Tiny" in summary(build_model("tiny-net"), spec.input_size)
    with pytest.raises(CourseError, match="tiny-net has no override 'depth'"):
        build_model("tiny-net", depth=2)
    with pytest.raises(CourseError, match="extra is 1, but must be True or False"):
        build_model("tiny-net", extra=1)


@pytest.mark.parametrize("build", [Tiny, partial(Tiny, extra=True), WithValues, Skipping, Shared])
def test_it_is_trained_recorded_loaded_and_repeated(build, data, tmp_path):
    register_model("tiny-net", build)
    recipe = Recipe(name="mine", model="tiny-net", epochs=2, batch_size=10, validation_size=10, init="he")
    run = fit(recipe, out=tmp_path / "run", progress=False, **data)
    model, record = load_run(run.out)
    assert record.parameters == sum(weight.numel() for weight in build(num_classes=2, in_channels=3).parameters())
    for name, tensor in run.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)
    again = fit(recipe, progress=False, **data)
    assert again.record.test_loss == record.test_loss
    check_fit(record)
    row = next(row for row in results_table(tmp_path, [record]) if row.recipe == "mine")
    assert (row.dataset, row.seeds, row.parameters) == ("two-colours", 1, record.parameters)
    assert row.mult_adds > row.parameters


def test_training_runs_what_was_registered_and_no_layer_changes_its_place(data):
    register_model("tiny-net", Skipping)
    recipe = Recipe(model="tiny-net", epochs=1, batch_size=10, validation_size=10, lr=1e-9, precision="fp32",
                    crop=0, flip=False, schedule="constant")  # fmt: skip
    run = fit(recipe, progress=False, **data)
    # The weights have hardly moved, so the training loss is that of the network as evaluation sees it, as it is.
    assert run.history[0]["train_loss"] == pytest.approx(run.evaluate(data["train_set"]).loss, abs=0.02)
    assert run.trainer.network is run.model


def test_functions_that_are_called_by_keyword_alone_are_left_to_pytorch():
    x, weight = torch.ones(1, 3), torch.ones(2, 3)
    with torch.autocast("cpu", torch.bfloat16), FasterFunctions(torch.device("cpu"), "bf16"):
        assert nn.functional.linear(input=x, weight=weight, bias=torch.zeros(2)).tolist() == [[3, 3]]


def test_a_builder_may_take_whatever_there_is():
    def build(**options):
        return Tiny(options["num_classes"], options["in_channels"], options.get("wide", 4))

    register_model("tiny-net", build, input_size=(1, 28, 28), num_classes=3)
    assert build_model("tiny-net", num_classes=3, wide=6).out.in_features == 6
    assert Recipe(model="tiny-net").image_size == 28


def test_registering_it_again_is_fine_and_what_it_builds_now_counts():
    register_model("tiny-net", Tiny)
    before = MODELS["tiny-net"].parameters
    anew = type("Tiny", (Tiny,), {"__module__": Tiny.__module__, "__init__": lambda self, num_classes, in_channels:
                                  Tiny.__init__(self, num_classes, in_channels, 8)})  # fmt: skip
    register_model("tiny-net", anew)  # as a cell does that was changed and run again
    assert MODELS["tiny-net"].parameters > before
    register_model("tiny-wide", partial(Tiny, width=9))
    register_model("tiny-wide", partial(Tiny, width=9))
    for build in (partial(Tiny, width=5), Tiny, lambda num_classes, in_channels: Tiny(num_classes, in_channels)):
        with pytest.raises(CourseError, match="'tiny-wide' is already registered with another builder"):
            register_model("tiny-wide", build)


def of_another_shape(num_classes, in_channels):
    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * 32 * 32, 7))


class Viewing(Tiny):
    def forward(self, x):
        return self.out(self.body(x).view(len(x), -1))


@pytest.mark.parametrize(
    ("name", "build", "options", "sentence"),
    [
        ("Tiny_Net", Tiny, {}, "'Tiny_Net' is not a network name; give one in lower case with hyphens"),
        ("tiny-net.modern", Tiny, {}, "'tiny-net.modern' is not a network name"),
        ("cnn4", Tiny, {}, "'cnn4' is a network of the course; give yours another name"),
        ("tiny-net", Tiny(), {}, "build is a Tiny; give the class or the function"),
        ("tiny-net", "Tiny", {}, "build is a str; give the class"),
        ("tiny-net", lambda classes: Tiny(classes), {}, "does not take num_classes as a keyword"),
        ("tiny-net", lambda num_classes: Tiny(num_classes), {}, "does not take in_channels as a keyword"),
        ("tiny-net", lambda num_classes, in_channels, depth: Tiny(), {}, "cannot be built with num_classes=10 and"),
        ("tiny-net", lambda num_classes, in_channels: [Tiny()], {}, "gives list, but must give an nn.Module"),
        ("tiny-net", lambda num_classes, in_channels: nn.Flatten(), {}, "has no parameters, so there is nothing to"),
        ("tiny-net", of_another_shape, {}, r"gives shape (2, 7) for 2×3×32×32, but must give (2, 10)"),
        ("tiny-net", of_another_shape, {"input_size": (3, 28, 28)}, "cannot take an image of 3×28×28 (RuntimeError: "),
        ("tiny-net", Tiny, {"input_size": (3, 32, 16)}, "images must be square; give H equal to W"),
        ("tiny-net", Tiny, {"input_size": (32, 32)}, "must be positive integers: (C, H, W)"),
        ("tiny-net", Tiny, {"num_classes": 0}, "num_classes 0, but must be positive integers"),
    ],
)  # fmt: skip
def test_what_will_not_do_is_refused_in_one_sentence_and_not_registered(name, build, options, sentence):
    before = dict(MODELS)
    with pytest.raises(CourseError) as caught:
        register_model(name, build, **options)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert before == MODELS


def test_a_network_that_does_not_fit_the_images_is_refused_before_training(data):
    register_model("seven-classes", of_another_shape, num_classes=7)
    with pytest.raises(CourseError, match=r"seven-classes gives shape \(1, 7\) for 1×3×32×32, but must give \(1, 2\)"):
        fit(Recipe(model="seven-classes"), progress=False, **data)
    register_model("viewing", partial(Viewing, width=4 * 7 * 7), input_size=(3, 8, 8))
    with pytest.raises(CourseError, match=r"viewing cannot take an image of 3×32×32 \(RuntimeError: .*reshape"):
        fit(Recipe(model="viewing", input_size=32, model_options={"width": 4}), progress=False, **data)


FILE = """
from torch import nn
from alexnet_course import register_model

class Pooled(nn.Sequential):
    def __init__(self, num_classes=10, in_channels=3):
        super().__init__(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(in_channels * 16, num_classes))

register_model("pooled-net", Pooled)
"""


def test_a_file_registers_its_networks(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    assert load_networks(path) == load_networks(path) == ["pooled-net"]
    other = tmp_path / "other.py"
    other.write_text(FILE)
    with pytest.raises(
        CourseError, match=r"other\.py', line 9: 'pooled-net' is already registered with another builder"
    ):
        load_networks(other)


def test_a_file_that_was_changed_within_the_second_is_read_anew(tmp_path):
    """Its bytecode, which Python knows by the time in whole seconds and the size, would be the old one."""
    path = tmp_path / "mine.py"
    for width in (4, 8):
        path.write_text(FILE.replace("4)", f"{width})").replace("16", f"{width} ** 2"))
        os.utime(path, (1_000_000_000, 1_000_000_000))
        load_networks(path)
        assert build_model("pooled-net")[0].output_size == width
    assert [file.name for file in tmp_path.iterdir()] == ["mine.py"]


def test_a_file_is_a_module_that_dataclasses_and_pickle_find(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from __future__ import annotations\nfrom dataclasses import KW_ONLY, dataclass\n"
        "@dataclass\nclass Options:\n    _: KW_ONLY\n    width: int = 4\n" + FILE
    )
    load_networks(path)
    network = build_model("pooled-net")
    assert isinstance(pickle.loads(pickle.dumps(network)), type(network))
    options = sys.modules[type(network).__module__].Options
    assert pickle.loads(pickle.dumps(options(width=8))) == options(width=8)


def test_a_file_that_stops_leaves_the_module_that_it_was_before(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    load_networks(path)
    first = build_model("pooled-net")
    path.write_text("1 / 0\n")
    with pytest.raises(CourseError, match="ZeroDivisionError"):
        load_networks(path)
    assert isinstance(pickle.loads(pickle.dumps(first)), type(first))
    path.write_text(FILE)
    load_networks(path)
    assert not isinstance(build_model("pooled-net"), type(first))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x = 1\n", "registers no network; call register_model in it"),
        ("\nimport nowhere\n", "stopped in line 2 (ModuleNotFoundError: No module named 'nowhere'); fix it there"),
        ("def f():\n    open('lost.txt')\n\nf()\n", "stopped in line 2 (FileNotFoundError: "),
        ("x = \n", "stopped in line 1 (SyntaxError: "),
        ("import sys\nsys.exit(3)\n", "stopped in line 2 (SystemExit: 3)"),
        ("x = '\0'\n", "source code string cannot contain null bytes"),
        ("from alexnet_course import register_model\nregister_model('cnn4', print)\n",
         "line 2: 'cnn4' is a network of the course"),
    ],
)  # fmt: skip
def test_a_file_that_will_not_do_is_refused_in_one_sentence(tmp_path, text, sentence):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(CourseError) as caught:
        load_networks(path)
    assert sentence in str(caught.value)
    assert "mine.py'" in str(caught.value)
    with pytest.raises(CourseError, match=r"There is no file .*lost\.py'; give a Python file that registers networks"):
        load_networks(tmp_path / "lost.py")
