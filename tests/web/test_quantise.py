"""What a page gets of a network: its layers in order, weights in 8 bits, and nothing that the page cannot compute."""

import json
import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from alexnet_course import CourseError, build_model, export_network, list_pretrained, load_dataset, load_pretrained
from alexnet_course.models import MODELS
from alexnet_course.recipe import Recipe
from alexnet_course.web import (
    VIEWS,
    dequantised,
    describe,
    measured_accuracy,
    network_in,
    network_script,
    restored,
    sample_script,
    stack_of,
    standalone_page,
)
from alexnet_course.web.page import SAMPLES
from alexnet_course.web.quantise import quantised

SMALL = [name for name, spec in MODELS.items() if spec.input_size == (3, 32, 32) and name != "lenet5"]
LIMIT = 600_000  # bytes of a network's script


@pytest.fixture(scope="module")
def shipped():
    return load_pretrained("vgg-style-bn.small")


@pytest.fixture
def recorded(shipped, monkeypatch):
    """Makes a network one with a record, as export needs it."""

    def make(network: nn.Module, image_size: int = 0):
        record = shipped[1]
        monkeypatch.setitem(MODELS, "mine", replace(MODELS["cnn4"], name="mine", builder=lambda **_: network))
        recipe = record.recipe.replace(model="mine", model_options={}, name="mine", input_size=image_size)
        return network.eval(), record.replace(recipe=recipe)

    return make


class TestQuantised:
    def test_no_weight_is_off_by_more_than_half_a_step_and_the_largest_is_exact(self):
        weight = (
            torch.randn(7, 3, 5, 5, generator=torch.Generator().manual_seed(0))
            * torch.logspace(-3, 3, 7)[:, None, None, None]
        )
        integers, scale = quantised(weight)
        again = integers * scale[:, None, None, None]
        assert integers.dtype == torch.int8
        assert ((again - weight).abs() <= scale[:, None, None, None] * 0.5001).all()
        assert torch.allclose(again.flatten(1).abs().amax(1), weight.flatten(1).abs().amax(1))

    @pytest.mark.parametrize("name", list_pretrained())
    def test_the_shipped_networks_lose_next_to_nothing_by_it(self, name):
        """Of the measured record: the class is the same for 99 % of CIFAR-10's test images."""
        measured = measured_accuracy(name)
        assert measured["same_class"] >= 0.99
        assert measured["fp32"] == pytest.approx(load_pretrained(name)[1].test_accuracy, abs=0.0021)
        assert measured["quantised"] == pytest.approx(measured["fp32"], abs=0.01)

    @pytest.mark.parametrize("name", list_pretrained())
    def test_the_network_is_small_enough_for_a_page(self, name):
        assert len(network_script(describe(*load_pretrained(name))).encode()) < LIMIT + 15_000  # of names and sizes
        integers = describe(*load_pretrained(name))["integers"]
        assert len(integers) <= LIMIT


class TestStack:
    def test_is_in_the_order_of_execution_with_a_flatten_where_the_network_has_none(self):
        steps = stack_of(build_model("alexnet-cifar-5x5-lrn", num_classes=10, width=0.1, hidden=8), (3, 32, 32))
        names = [type(step.layer).__name__ for step in steps]
        assert names.count("Flatten") == 1
        assert names[:4] == ["Conv2d", "ReLU", "LocalResponseNorm", "MaxPool2d"]
        assert [step.name for step in steps][-1] == "classifier.6"
        assert steps[names.index("Flatten") - 1].size == (steps[names.index("Flatten") - 1].size[0], 6, 6)

    def test_a_layer_that_runs_twice_is_refused(self):
        relu = nn.ReLU()
        network = nn.Sequential(nn.Conv2d(3, 4, 3), relu, nn.Conv2d(4, 4, 3), relu)
        with pytest.raises(CourseError, match=r"The layer 1 runs twice, .*; write it down twice\."):
            stack_of(network, (3, 32, 32))

    @pytest.mark.parametrize("shortcut", [lambda x, y: x + y, lambda x, y: torch.cat([x, y], 1)])
    def test_a_network_with_a_shortcut_is_refused(self, shortcut):
        class Residual(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

            def forward(self, images):
                found = self.first(images)
                return shortcut(found, self.second(found))

        with pytest.raises(CourseError, match=r"^The network is not one layer after the other"):
            stack_of(Residual(), (3, 32, 32))

    def test_the_network_keeps_its_mode(self):
        network = build_model("cnn4", num_classes=10).train()
        stack_of(network, (3, 32, 32))
        assert all(module.training for module in network.modules())


class TestDescribe:
    @pytest.mark.parametrize("name", SMALL)
    def test_every_network_on_32_pixels_is_restored_as_it_was(self, name, shipped):
        options = {} if name == "cnn4" else {"width": 0.1, "hidden": 8}
        torch.manual_seed(0)
        network = build_model(name, num_classes=10, init="he", **options).eval()
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.uniform_(layer.running_mean)
                nn.init.uniform_(layer.running_var, 0.5, 2)
                nn.init.uniform_(layer.weight)
        record = shipped[1]
        recipe = record.recipe.replace(model=name, model_options=options, name="x")
        described = json.loads(json.dumps(describe(network, record.replace(recipe=recipe))))
        images = torch.randn(4, 3, 32, 32)
        with torch.no_grad():
            assert torch.allclose(restored(described)(images), dequantised(network)(images), atol=1e-5, rtol=1e-4)

    @pytest.mark.parametrize(
        ("layer", "says"),
        [
            (nn.PReLU(), r"^The page does not know the layer 1 \(PReLU\); it knows Conv2d, Linear, "),
            (nn.Conv2d(4, 4, 3, dilation=2), r"^The page pads with zeros and knows no dilation, and 1 is"),
            (
                nn.Conv2d(4, 4, 3, padding="same"),
                r"^The page pads with zeros and knows no dilation, and 1 is",
            ),
            (nn.Conv2d(4, 4, (3, 1)), r"^The page draws squares, and 1 has kernel_size = \(3, 1\); give it the same"),
            (nn.MaxPool2d(2, dilation=2), r"^The page knows max pooling without dilation and indices, and 1 is"),
            (
                nn.AvgPool2d(3, ceil_mode=True),
                r"^The page knows average pooling that is rounded down, and 1 is otherwise",
            ),
            (nn.BatchNorm2d(4, track_running_stats=False), r"^The page normalises with stored statistics, and 1 keeps"),
        ],
    )
    def test_what_the_page_does_not_know_is_named_in_a_sentence_and_no_file_is_left(
        self, layer, says, recorded, tmp_path
    ):
        network = nn.Sequential(nn.Conv2d(3, 4, 3), layer, nn.Flatten(), nn.LazyLinear(10))
        network(torch.zeros(2, 3, 32, 32))
        with pytest.raises(CourseError, match=says):
            export_network(recorded(network), "web", tmp_path / "x.html")
        assert not list(tmp_path.iterdir())

    def test_other_images_are_refused(self, recorded):
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))
        with pytest.raises(CourseError, match=r"^The page shows images of 3×32×32, and mine-.* takes 3×48×48; train"):
            describe(*recorded(network, 48))


class TestPage:
    def test_export_writes_the_network_rounded_to_8_bits(self, shipped, tmp_path):
        export = export_network(shipped, "web", tmp_path / "page.html")
        assert export.difference < 1e-4
        network = network_in((tmp_path / "page.html").read_text(encoding="utf-8"))
        assert network["classes"] == list(shipped[1].dataset.classes)
        assert network["accuracy"] is None  # measured for the package's own networks alone

    def test_has_every_view_and_asks_for_no_other_file(self, shipped):
        page = standalone_page(describe(*shipped))
        for name, view in VIEWS.items():
            assert f'id="inside-{name}"' in page
            assert view["title"] in page
        assert "src=" not in page.replace("src: address", "")
        assert "http" not in page

    def test_a_class_cannot_end_the_script(self, shipped):
        model, record = shipped
        classes = ("</script><b>", *record.dataset.classes[1:])
        told = record.replace(dataset=record.dataset.model_copy(update={"classes": classes}))
        assert "</script><b>" not in standalone_page(describe(model, told))

    def test_a_network_of_any_name_leaves_the_images_where_the_page_looks_for_them(self, shipped):
        """Even of the one by which they were once called."""
        model, record = shipped
        page = standalone_page(describe(model, record.replace(recipe=record.recipe.replace(name="samples"))))
        names = re.findall(r'alexnetInside \?\?= \{\}\)\["(.*?)"\] = ', page)
        assert names == ["samples", SAMPLES]
        assert f'SAMPLES = "{SAMPLES}"' in page
        with pytest.raises(CourseError, match="cannot be part of a path"):
            Recipe(name=SAMPLES)

    def test_its_images_may_be_shown_to_anyone(self):
        script = sample_script()
        doodles = load_dataset("doodles", "test").classes
        assert [name for name in doodles if f"doodle: {name}" not in script] == []
        assert script.count("photograph: ") == 4
