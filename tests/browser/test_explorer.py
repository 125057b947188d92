"""The shape explorer in a real browser: its arithmetic against `layer_table`, and what a reader does with it.

All tests but the last class run on a page of their own, made of the directive's data, the script and the styles; the
last looks at the explorer in the built book. The fixtures `browser` and `book` are those of conftest.py.
"""

import importlib.util
import json
import math
import random
import re
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from alexnet_course import build_model, layer_table
from alexnet_course.models import MODELS

BOOK = Path(__file__).resolve().parents[2] / "book"
SEED, STACKS = 6, 200

# --- Data for the comparison: networks and random stacks, as the explorer and as PyTorch have them --------------------


def windows(rng: random.Random, kind: str) -> dict[str, int]:
    kernel = rng.choice([1, 2, 3, 3, 5, 7])
    most = kernel // 2 if kind != "Conv2d" else 4  # PyTorch's limit for poolings
    found = {"kernel": kernel, "stride": rng.choice([1, 1, 1, 2, 3]), "padding": rng.randint(0, most)}
    if kind != "Conv2d":
        found["ceil"] = rng.choice([False, True])
    return found if kind == "AvgPool2d" else {**found, "dilation": rng.choice([1, 1, 1, 2])}


def random_layer(rng: random.Random, channels: int, flat: bool) -> tuple[dict, nn.Module, int]:
    """A layer as the explorer has it and as PyTorch has it, and the channels (or features) after it."""
    quiet = {"ReLU": nn.ReLU(), "Dropout": nn.Dropout()}
    kinds = [*quiet, "Linear"] if flat else [
        *quiet, "Linear", "LocalResponseNorm", "BatchNorm2d", "Flatten", "AdaptiveAvgPool2d", "AdaptiveMaxPool2d",
        *["Conv2d"] * 12, *["MaxPool2d", "AvgPool2d"] * 4,
    ]  # fmt: skip
    kind = rng.choice(kinds)
    if kind in quiet:
        return {"kind": kind}, quiet[kind], channels
    if kind == "Linear":
        units = rng.randint(1, 50)
        return {"kind": kind, "units": units}, nn.LazyLinear(units), units
    if kind == "Flatten":
        return {"kind": kind}, nn.Flatten(), channels
    if kind == "LocalResponseNorm":
        return {"kind": kind}, nn.LocalResponseNorm(5), channels
    if kind == "BatchNorm2d":
        return {"kind": kind}, nn.BatchNorm2d(channels), channels
    if kind.startswith("Adaptive"):
        size = rng.randint(1, 7)
        return {"kind": kind, "size": size}, getattr(nn, kind)(size), channels
    window = windows(rng, kind)
    renamed = {"kernel": "kernel_size", "ceil": "ceil_mode"}
    arguments = {renamed.get(key, key): value for key, value in window.items()}
    if kind != "Conv2d":
        return {"kind": kind, **window}, getattr(nn, kind)(**arguments), channels
    groups = rng.choice([1, 1, 1, *(number for number in range(2, channels + 1) if channels % number == 0)])
    after = groups * rng.randint(1, 12 // groups + 1)
    layer = nn.Conv2d(channels, after, groups=groups, **arguments)
    return {"kind": kind, "channels": after, "groups": groups, **window}, layer, after


def random_stack(rng: random.Random) -> tuple[list[dict], list[nn.Module], tuple[int, int, int]]:
    """Up to nine layers and an image, which need not be square and may vanish on the way."""
    size = (rng.randint(1, 8), rng.randint(6, 48), rng.randint(6, 48))
    stack, modules, channels, flat = [], [], size[0], False
    for _ in range(rng.randint(1, 9)):
        layer, module, channels = random_layer(rng, channels, flat)
        if layer["kind"] == "Linear" and not flat:
            modules.append(nn.Flatten())  # the explorer's linear layers do it themselves
        flat = flat or layer["kind"] in ("Linear", "Flatten")
        stack.append(layer)
        modules.append(module)
    return stack, modules, size


def as_rows(model: nn.Module, size: tuple[int, int, int], *, flattens: bool) -> list[dict]:
    """`layer_table` as the explorer writes it; `flattens`: Flatten layers count, and are not only there for PyTorch."""
    return [
        {
            "kind": row.kind,
            "output_shape": list(row.output_shape),
            "parameters": row.parameters,
            "mult_adds": row.mult_adds,
            "activation_bytes": row.activation_bytes,
            "receptive_field": row.receptive_field,
            "jump": row.jump,
        }
        for row in layer_table(model, size)
        if flattens or row.kind != "Flatten"
    ]


def expected(stack: list[dict], modules: list[nn.Module], size: tuple[int, int, int]) -> dict:
    """The rows up to the layer that PyTorch refuses, and the index of that one in the stack."""
    flattens = any(layer["kind"] == "Flatten" for layer in stack)
    for end in range(len(modules), 0, -1):
        try:
            rows = as_rows(nn.Sequential(*modules[:end]), size, flattens=flattens)
        except RuntimeError:
            continue
        return {"rows": rows, "stuck": len(rows) if len(rows) < len(stack) else None}
    return {"rows": [], "stuck": 0}


COMPARE = """cases => cases.map(([stack, input]) => {
  const { rows, problem } = shapeExplorer.table(stack, input);
  return { rows, stuck: problem && problem.index, reason: problem && problem.reason };
})"""

# --- Fixtures ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def directive():
    pytest.importorskip("sphinx", reason="the book's tools are not installed")
    spec = importlib.util.spec_from_file_location("shape_explorer", BOOK / "_ext" / "shape_explorer.py")
    module = sys.modules["shape_explorer"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def networks(directive) -> dict[str, dict]:
    return {network["name"]: network for network in directive.networks()}


@pytest.fixture(scope="module")
def own_page(directive, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("explorer")
    (folder / "index.html").write_text(
        f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Explorer</title>
        <meta name="viewport" content="width=device-width">
        <style>{(BOOK / "_static" / "course.css").read_text(encoding="utf-8")}</style>
        <script>{(BOOK / "_static" / "explorer.js").read_text(encoding="utf-8")}</script>
        <main><div class="shape-explorer"><p>Needs JavaScript.</p>
        <script type="application/json">{directive.as_json("alexnet-2012")}</script></div></main></html>""",
        encoding="utf-8",
    )
    return (folder / "index.html").as_uri()


@pytest.fixture(scope="module")
def opened(browser):
    """A page that all tests of this file share; a test of which it reports an error fails."""
    page = browser.new_page(reduced_motion="reduce")
    page.set_default_timeout(120_000)  # the machine may be busy
    yield page
    page.close()


@pytest.fixture
def quiet(opened):
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.set_viewport_size({"width": 1280, "height": 900})
    yield opened
    assert errors == []


@pytest.fixture
def explorer(quiet, own_page):
    quiet.goto(own_page)
    return quiet


def row(page, name: str):
    """The row of a layer, by the name that it begins with."""
    return page.locator("tbody tr").filter(has=page.locator(f"th:has(b:text-is('{name}'))"))


def cells(page, name: str) -> list[str]:
    return row(page, name).locator("td").all_inner_texts()


def status(page) -> str:
    return page.get_by_role("status").inner_text()


# --- Arithmetic -------------------------------------------------------------------------------------------------------


class TestArithmetic:
    @pytest.mark.parametrize("name", MODELS)
    def test_of_every_network_is_that_of_layer_table(self, explorer, networks, name):
        """At its own size, and at the smallest and, up to 300 pixels, the largest that it takes."""
        spec = MODELS[name]
        with torch.device("meta"):
            network = build_model(name, num_classes=spec.num_classes)
        layers = networks[name]["layers"]
        flattens = any(isinstance(layer, nn.Flatten) for layer in network.modules())
        sides = {spec.input_size[1], network.smallest, min(network.largest or 300, 300)}
        assert len(sides) > 1
        sizes = [(spec.input_size[0], side, side) for side in sorted(sides)]
        found = explorer.evaluate(COMPARE, [[layers, size] for size in sizes])
        for size, answer in zip(sizes, found, strict=True):
            answer["rows"] = [row for row in answer["rows"] if flattens or row["kind"] != "Flatten"]
            assert answer == {"rows": as_rows(network, size, flattens=flattens), "stuck": None, "reason": None}

    def test_of_random_stacks_is_that_of_layer_table(self, explorer):
        rng = random.Random(SEED)
        cases = [random_stack(rng) for _ in range(STACKS)]
        found = explorer.evaluate(COMPARE, [[stack, size] for stack, _, size in cases])
        wanted = [expected(*case) for case in cases]
        for case, answer, right in zip(cases, found, wanted, strict=True):
            assert {key: answer[key] for key in right} == right, case
        vanished = sum(answer["stuck"] is not None for answer in found)
        assert STACKS / 10 < vanished < STACKS / 2
        assert {answer["reason"] for answer in found} == {None, "vanishes"}

    def test_smallest_input_is_the_smallest(self, explorer):
        """Brute force: the first side of 1, 2, … that passes."""
        rng = random.Random(SEED)
        stacks = [random_stack(rng)[0] for _ in range(STACKS)]
        different = explorer.evaluate(
            """stacks => stacks.filter((stack) => {
              const found = shapeExplorer.smallestInput(stack);
              const vanishes = (side) =>
                shapeExplorer.table(stack, [5040, side, side]).problem?.reason === "vanishes";
              let side = 1;
              while (side < 3000 && vanishes(side)) side += 1;
              return found !== (side < 3000 ? side : null);
            })""",
            [[{**layer, "groups": 1} if "groups" in layer else layer for layer in stack] for stack in stacks],
        )
        assert different == []

    @pytest.mark.parametrize(
        ("stack", "reason"),
        [
            ([{"kind": "Linear", "units": 3}, {"kind": "BatchNorm2d"}], "list"),
            ([{"kind": "Conv2d", "channels": 4, "kernel": 1, "stride": 1, "padding": 0, "groups": 2}], "groups"),
            ([{"kind": "Conv2d", "channels": 4, "kernel": 1, "stride": 1, "padding": 0, "groups": 3}], "groups"),
            ([{"kind": "MaxPool2d", "kernel": 3, "stride": 1, "padding": 2}], "padding"),
        ],
    )
    def test_what_pytorch_refuses_has_a_reason(self, explorer, stack, reason):
        (answer,) = explorer.evaluate(COMPARE, [[stack, [3, 8, 8]]])
        assert (answer["reason"], answer["stuck"]) == (reason, len(stack) - 1)


# --- What a reader does -----------------------------------------------------------------------------------------------


class TestReader:
    def test_sees_the_network_that_the_chapter_names(self, explorer):
        assert cells(explorer, "conv1") == ["96×55×55", "34,944", "105,705,600", "2.32 MB", "11", "4"]
        assert cells(explorer, "fc8")[0] == "1,000"
        assert status(explorer).startswith(f"{MODELS['alexnet-2012'].parameters:,} parameters, ")
        assert explorer.get_by_text("Needs JavaScript").count() == 0

    @pytest.mark.parametrize("name", MODELS)
    def test_chooses_a_network(self, explorer, name):
        explorer.get_by_label("Network").select_option(name)
        total = explorer.locator("tfoot td").nth(1).inner_text()
        assert total == f"{MODELS[name].parameters:,}"
        assert explorer.get_by_label("Height and width").input_value() == str(MODELS[name].input_size[1])
        assert "Changed by you" not in explorer.locator(".explorer-note").first.inner_text()

    def test_changes_a_kernel_and_starts_again(self, explorer):
        explorer.get_by_label("Kernel").fill("7")
        assert cells(explorer, "conv1")[:2] == ["96×56×56", f"{(7 * 7 * 3 + 1) * 96:,}"]
        assert "96 of 7×7, stride 4" in row(explorer, "conv1").locator("th").inner_text()
        explorer.get_by_role("button", name="Start again").click()
        assert cells(explorer, "conv1")[0] == "96×55×55"

    def test_finds_changes_again_after_a_look_at_another_network(self, explorer):
        explorer.get_by_label("Stride").fill("5")
        explorer.get_by_label("Network").select_option("lenet5")
        explorer.get_by_label("Network").select_option("alexnet-2012")
        assert explorer.get_by_label("Stride").input_value() == "5"

    def test_is_told_when_the_network_is_another_one(self, explorer):
        explorer.get_by_label("Height and width").fill("200")
        assert f"fc6 reads {256 * 25:,} values here and {256 * 36:,} in alexnet-2012" in status(explorer)

    def test_is_told_where_a_image_vanishes_and_what_helps(self, explorer, networks):
        explorer.get_by_label("Height and width").fill("32")
        text = status(explorer)
        assert "vanishes at pool2 (max pooling): 2×2 of it arrives, and a window of 3×3 does not fit" in text
        assert "an input of at least 67×67 (for all layers), smaller strides in the layers before" in text
        assert "here a kernel of at most 2 or a padding of at least 1." in text
        assert cells(explorer, "pool2")[0] == "vanishes"
        assert cells(explorer, "conv3") == ["–"] * 6
        assert "3×3 does" in explorer.locator(".explorer-misfit").text_content()
        explorer.get_by_label("Height and width").fill("67")
        assert cells(explorer, "pool3")[0] == "256×1×1"

    def test_gets_advice_that_helps(self, explorer):
        """Each of the ways out brings the image at least through the layer at which it vanished."""
        rng = random.Random(SEED)
        cases = [(stack, [size[0], size[1], size[1]]) for stack, _, size in (random_stack(rng) for _ in range(STACKS))]
        advised = explorer.evaluate(
            """cases => cases.flatMap(([stack, input]) => {
              const { problem } = shapeExplorer.table(stack, input);
              if (problem?.reason !== "vanishes") return [];
              const text = shapeExplorer.explain(stack, problem);
              const through = (other, image) => {
                const after = shapeExplorer.table(other, image).problem;
                return !after || after.index > problem.index;
              };
              const change = (key, value) =>
                stack.map((layer, index) => index === problem.index ? { ...layer, [key]: value } : layer);
              const [, side] = text.match(/input of at least ([\\d,]+)/) ?? [];
              const [, kernel] = text.match(/kernel of at most (\\d+)/) ?? [];
              const [, padding] = text.match(/padding of at least (\\d+)/) ?? [];
              const pixels = side && Number(side.replaceAll(",", ""));
              return [
                side && through(stack, [input[0], pixels, pixels]),
                kernel && through(change("kernel", Number(kernel)), input),
                padding && through(change("padding", Number(padding)), input),
              ].filter((helps) => helps !== undefined);
            })""",
            cases,
        )
        assert len(advised) > STACKS / 5
        assert all(advised)

    def test_gets_advice_where_neither_size_nor_kernel_nor_padding_helps(self, explorer):
        pool = {"kind": "MaxPool2d", "kernel": 2, "stride": 1, "padding": 1, "dilation": 3}
        text = explorer.evaluate(
            "stack => shapeExplorer.explain(stack, shapeExplorer.table(stack, [3, 8, 8]).problem)",
            [{"kind": "AdaptiveAvgPool2d", "size": 1}, pool],
        )
        assert text.endswith("What would help: a smaller dilation here, with less padding.")

    @pytest.mark.parametrize("typed", ["", "-3", "1.5", "0", "2000"])
    def test_may_type_nonsense_and_loses_nothing(self, explorer, typed):
        before = cells(explorer, "conv2")
        kernel = explorer.get_by_label("Kernel")
        kernel.fill(typed)
        message = explorer.locator(f"#{kernel.get_attribute('aria-describedby')}")
        wanted = f"Kernel is {typed or 'empty'}, but must be an integer from 1 to 1,000; until then 11 counts."
        assert message.inner_text() == wanted
        assert kernel.get_attribute("aria-invalid") == "true"
        assert cells(explorer, "conv2") == before
        for _ in range(2):  # close the layer, open it again
            row(explorer, "conv1").get_by_role("button").click()
        assert explorer.get_by_label("Kernel").input_value() == typed
        explorer.get_by_label("Kernel").fill("11")
        assert explorer.get_by_label("Kernel").get_attribute("aria-invalid") == "false"
        assert explorer.locator(".explorer-message:visible").count() == 0

    def test_is_told_about_groups_that_do_not_divide(self, explorer):
        row(explorer, "conv2").get_by_role("button").click()
        explorer.get_by_label("Groups").fill("5")
        text = (
            "96 channels arrive at conv2, which cannot be divided into 5 groups; use a number of groups that divides "
        )
        text += f"both 96 and 256, such as {math.gcd(96, 256)}."
        assert status(explorer) == text
        assert explorer.locator(".explorer-message:visible").inner_text() == text
        assert cells(explorer, "conv2")[0] == "does not fit"

    def test_adds_moves_and_removes_layers(self, explorer):
        explorer.get_by_label("New layer").select_option("MaxPool2d")
        explorer.get_by_role("button", name="Add after conv1").click()
        assert cells(explorer, "pool1")[0] == "96×27×27"
        assert cells(explorer, "pool2")[0] == "96×13×13"
        assert row(explorer, "pool1").get_by_role("button").get_attribute("aria-expanded") == "true"
        explorer.get_by_role("button", name="Move up").click()
        assert cells(explorer, "pool1")[0] == "3×113×113"
        explorer.get_by_role("button", name="Remove pool1").click()
        assert cells(explorer, "conv1")[0] == "96×55×55"
        explorer.get_by_role("button", name="Remove LRN after conv1").click()
        assert "LRN" not in row(explorer, "conv1").locator("th").inner_text()
        explorer.get_by_label("New layer").select_option("BatchNorm2d")
        explorer.get_by_role("button", name="Add after conv1").click()
        assert cells(explorer, "norm1")[1] == f"{2 * 96}"

    def test_may_remove_everything(self, explorer):
        explorer.get_by_label("Network").select_option("lenet5")
        while explorer.locator(".explorer-panel").count():
            explorer.locator(".explorer-panel button[aria-label^='Remove']").last.click()
        assert status(explorer).startswith("0 parameters, 0 million mult-adds an image, 0 kB of activations")
        assert status(explorer).endswith("1×32×32 in the end.")
        explorer.get_by_role("button", name="Add at the end").click()
        assert cells(explorer, "conv1")[0] == "64×32×32"

    def test_needs_no_mouse(self, explorer):
        """Opens a layer, changes its stride with the arrows, moves it, and keeps the focus all the way."""
        row(explorer, "pool1").get_by_role("button").focus()
        explorer.keyboard.press("Enter")
        explorer.keyboard.press("Tab")
        assert explorer.evaluate("document.activeElement.closest('label').textContent") == "Kernel"
        explorer.keyboard.press("Tab")
        explorer.keyboard.press("ArrowUp")
        assert cells(explorer, "pool1")[0] == "96×18×18"
        button = explorer.get_by_role("button", name="Move down")
        button.focus()
        explorer.keyboard.press("Space")
        assert explorer.evaluate("document.activeElement.textContent") == "Move down"
        assert cells(explorer, "pool1")[0] == "256×18×18"  # behind conv2, on 55 pixels

    def test_sees_a_drawing_that_follows(self, explorer):
        """A block for each layer that changes the image, as high as its pixels, in one scale."""

        def heights() -> list[float]:
            return explorer.locator(".explorer-block").evaluate_all(
                """blocks => blocks.map((block) => {
                  const front = block.querySelectorAll("polygon")[2].points;
                  return front[2].y - front[0].y;
                })"""
            )

        assert len(heights()) == 1 + 5 + 3 + 3
        image, conv1 = heights()[:2]
        assert conv1 / image == pytest.approx(55 / 227, rel=1e-3)
        explorer.get_by_label("Stride").fill("1")
        image, conv1 = heights()[:2]
        assert conv1 / image == pytest.approx(217 / 227, rel=1e-3)
        assert "conv1 96×217×217" in explorer.get_by_role("img").get_attribute("aria-label")
        explorer.locator(".explorer-block").nth(3).click()
        assert row(explorer, "conv2").get_by_role("button").get_attribute("aria-expanded") == "true"

    def test_has_a_label_for_every_control(self, explorer):
        unnamed = explorer.evaluate(
            """() => [...document.querySelectorAll("input, select, button")].filter((control) =>
                 !control.textContent.trim() && !control.labels?.length && !control.ariaLabel).length"""
        )
        assert unnamed == 0

    @pytest.mark.parametrize("name", MODELS)
    def test_sees_what_the_activations_of_a_batch_take_up(self, explorer, name):
        """All outputs but those of ReLU, which overwrites its input, and of flatten, which looks at it as a list."""
        explorer.get_by_label("Network").select_option(name)
        explorer.get_by_label("Images in a batch").fill("512")
        spec = MODELS[name]
        with torch.device("meta"):
            table = layer_table(build_model(name, num_classes=spec.num_classes), spec.input_size)
        kept = 512 * sum(layer.activation_bytes for layer in table if layer.kind not in ("ReLU", "Flatten"))
        shown = f"{kept / 1e6:,.2f}".rstrip("0").rstrip(".") if kept < 100e6 else f"{kept / 1e6:,.0f}"
        assert explorer.locator("tfoot td").nth(3).inner_text() == f"{shown} MB"
        assert f"{shown} MB of activations with a batch of 512 images" in status(explorer)
        assert "4 bytes a number" in explorer.locator(".explorer-note").last.inner_text()

    def test_rounds_the_size_of_a_pooling_up(self, explorer):
        explorer.get_by_label("Network").select_option("alexnet-cifar-3x3")
        row(explorer, "pool2").get_by_role("button").click()
        down = cells(explorer, "pool2")[0]
        explorer.get_by_label("Round sizes up").check()
        pooled = [torch.nn.functional.max_pool2d(torch.zeros(192, 16, 16), 3, 2, ceil_mode=up) for up in (False, True)]
        assert [down, cells(explorer, "pool2")[0]] == ["×".join(map(str, each.shape)) for each in pooled]
        assert down != cells(explorer, "pool2")[0]
        assert "rounded up" in row(explorer, "pool2").locator("th").inner_text()
        assert "Changed by you" in explorer.locator(".explorer-note").first.inner_text()
        explorer.get_by_label("Round sizes up").uncheck()
        assert cells(explorer, "pool2")[0] == down

    def test_sees_a_network_whole(self, explorer):
        """The longest ones: their drawing and every row of their tables, without a scroll bar."""
        for name in ("vgg-style", "vgg-style-bn"):
            explorer.get_by_label("Network").select_option(name)
            for part in (".explorer-view", ".explorer-scroll"):
                box = explorer.locator(part)
                assert box.evaluate("box => box.scrollWidth <= box.clientWidth"), part
                assert box.evaluate("box => box.scrollHeight <= box.clientHeight"), part

    def test_sees_every_column_on_a_phone(self, explorer):
        """A card for each layer: each value is on the screen and says what it is."""
        explorer.set_viewport_size({"width": 390, "height": 800})
        for name in MODELS:
            explorer.get_by_label("Network").select_option(name)
            assert explorer.evaluate("document.documentElement.scrollWidth") <= 390
            outside = explorer.locator(".explorer-scroll").evaluate(
                """scroll => [...scroll.querySelectorAll("td")].filter((cell) => cell.textContent).filter((cell) => {
                  const { left, right, height } = cell.getBoundingClientRect();
                  return left < 0 || right > 390 || !height || cell.scrollWidth > cell.clientWidth + 1;
                }).map((cell) => cell.textContent)"""
            )
            assert outside == [], name
        explorer.get_by_label("Network").select_option("alexnet-2012")
        values = row(explorer, "conv2").locator("td")
        assert [cell.get_attribute("data-head") for cell in values.all()] == [
            "Output", "Parameters", "Mult-adds", "Activations", "Receptive field", "Jump",
        ]  # fmt: skip
        said = "cell => getComputedStyle(cell, '::before').content"
        assert values.first.evaluate(said) in ('"Output"', "attr(data-head)")
        panel = explorer.locator(".explorer-panel").bounding_box()
        assert panel["x"] + panel["width"] <= 390


# --- The chapter's tasks ----------------------------------------------------------------------------------------------


def answers() -> list[str]:
    """What the chapter says of each task, one line each."""
    cells = json.loads((BOOK / "02-shapes.ipynb").read_text(encoding="utf-8"))["cells"]
    (text,) = ("".join(cell["source"]) for cell in cells if cell["id"] == "shapes-explorer-answers")
    return [" ".join(answer.split()) for answer in re.split(r"^\d\. ", text.strip("`"), flags=re.MULTILINE)[1:]]


def sides(page, *names: str) -> list[str]:
    return [cells(page, name)[0].rsplit("×", 1)[1] for name in names]


class TestAnswers:
    def test_to_the_first_task(self, explorer):
        first, *_ = answers()
        explorer.get_by_label("Height and width").fill("32")
        assert "vanishes at pool2 (max pooling): 2×2 of it arrives, and a window of 3×3" in status(explorer)
        explorer.get_by_label("Network").select_option("alexnet-owt")
        explorer.get_by_label("Height and width").fill("32")
        assert "vanishes at pool3 (max pooling): 1×1 of it arrives, and a window of 3×3" in status(explorer)
        assert first.startswith("At pool3, one pooling later: only 1×1 reaches its 3×3 window.")
        assert "an input of at least 63×63 (for all layers)" in status(explorer)
        assert first.endswith("is 63×63.")

    def test_to_the_second_task(self, explorer):
        _, second, *_ = answers()
        explorer.get_by_label("Height and width").fill("32")
        before = f"{(256 * 36 + 1) * 4096:,}"
        explorer.get_by_label("Stride").fill("1")
        assert sides(explorer, "conv1", "pool1", "pool2", "pool3") == ["22", "10", "4", "1"]
        assert second.startswith("Yes: 32 becomes 22, 10 and 4, and one pixel is left")
        assert "fc6 reads 256 values here and 9,216 in alexnet-2012" in status(explorer)
        assert "fc6 reads 256 numbers instead of 9,216" in second
        assert f"has {cells(explorer, 'fc6')[1]} parameters instead of {before}" in second
        work = {
            name: int(cells(explorer, name)[2].replace(",", ""))
            for name in (*(f"conv{i}" for i in range(1, 6)), "fc6", "fc7", "fc8")
        }
        assert second.endswith(f"{max(work, key=work.get)} does most of the work.")

    def test_to_the_third_task(self, explorer):
        (third,) = answers()[2:3]
        explorer.get_by_label("Network").select_option("alexnet-owt")
        found = []
        for size in ("224", "448"):
            explorer.get_by_label("Height and width").fill(size)
            parameters = explorer.locator("tfoot td").nth(1).inner_text()
            found.append(
                (parameters, cells(explorer, "conv5")[4], *sides(explorer, "conv5"), cells(explorer, "conv2")[2])
            )
        (parameters, field, side, work), (same_parameters, same_field, double_side, fourfold) = found
        assert (parameters, field) == (same_parameters, same_field)
        assert f"The parameters ({parameters}) and the receptive field ({field}) stay the same." in third
        assert f"about doubles, from {side} to {double_side}," in third
        assert f"about fourfold, from {work} to {fourfold}." in third

    def test_to_the_fourth_task(self, explorer):
        (fourth,) = answers()[3:4]
        pools = [f"pool{number}" for number in range(1, 6)]
        explorer.get_by_label("Network").select_option("vgg-style")
        row(explorer, "pool1").get_by_role("button").click()
        explorer.get_by_label("Padding").fill("0")
        assert sides(explorer, *pools[:4]) == ["15", "7", "3", "1"]
        assert cells(explorer, "pool5")[0] == "vanishes"
        assert fourth.startswith(
            "No: without the padding the sizes are 15, 7, 3 and 1, and the image vanishes at pool5."
        )
        for pool in pools:
            if pool != "pool1":
                row(explorer, pool).get_by_role("button").click()
            explorer.get_by_label("Round sizes up").check()
        assert sides(explorer, *pools) == ["16", "8", "4", "2", "1"]
        assert "round up instead, the sizes are 16, 8, 4, 2 and 1" in fourth

    def test_to_the_fifth_task(self, explorer):
        explorer.get_by_label("Images in a batch").fill("512")
        layers = [f"conv{i}" for i in range(1, 6)] + ["pool1", "pool2", "pool3", "fc6", "fc7", "fc8"]

        def megabytes(name: str) -> float:
            value, unit = cells(explorer, name)[3].split()
            return float(value.replace(",", "")) / {"MB": 1, "kB": 1000}[unit]

        most = max(layers, key=megabytes)
        in_all = explorer.locator("tfoot td").nth(3).inner_text()
        assert answers()[4] == f"{most}, with its normalisation: {cells(explorer, most)[3]} of {in_all}."
        assert len(answers()) == 5


# --- In the book ------------------------------------------------------------------------------------------------------


class TestBook:
    def test_explorer_is_in_the_chapter(self, quiet, book):
        quiet.goto((book / "02-shapes.html").as_uri(), wait_until="domcontentloaded")
        quiet.locator(".explorer-ready").wait_for()
        assert cells(quiet, "conv1")[0] == "96×55×55"
        quiet.set_viewport_size({"width": 390, "height": 800})
        assert quiet.evaluate("document.documentElement.scrollWidth") <= 390

    def test_script_does_nothing_elsewhere(self, quiet, book):
        quiet.goto((book / "index.html").as_uri(), wait_until="domcontentloaded")
        assert quiet.evaluate("typeof window.shapeExplorer") == "undefined"
