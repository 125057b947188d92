"""Names and texts of other people: none leaves its folder, breaks a table or a figure, or cannot be printed."""

import csv
import io
import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch
from PIL import Image

from alexnet_course import plots
from alexnet_course.cli import main
from alexnet_course.data import Dataset, load_dataset
from alexnet_course.errors import CourseError
from alexnet_course.recipe import Recipe
from alexnet_course.results.table import Row, as_csv, as_markdown, in_markdown
from alexnet_course.terminal import print_anything, say
from alexnet_course.training import Bin

TWO_FORMS = "größe", unicodedata.normalize("NFD", "größe")


# --- At the door -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("../../x", "name = '../../x' cannot be part of a path; begin with a letter or a digit, and use only those"),
        ("/etc/x", "name = '/etc/x' cannot be part of a path"),
        ("..\\x", r"name = '..\\x' cannot be part of a path"),
        (".hidden", "name = '.hidden' cannot be part of a path"),
        ("C:x", "name = 'C:x' cannot be part of a path"),
        ("a|b", "name = 'a|b' cannot be part of a path"),
        ("=HYPERLINK(1)", "name = '=HYPERLINK(1)' cannot be part of a path"),
        ("$x$", "name = '$x$' cannot be part of a path"),
        ("_x", "name = '_x' cannot be part of a path"),
        ("-rf", "name = '-rf' cannot be part of a path"),
        ("x.", "name = 'x.' cannot be part of a path"),
        (" ", "name = ' ' is empty; write something"),
        ("a\nb", r"name = 'a\nb' has an unprintable character, '\n'; leave it out"),
        ("\x1b[31mred", r"has an unprintable character, '\x1b'"),
        ("a\u202eb", r"has an unprintable character, '\u202e'"),  # from here on, from right to left
        ("caf\udce9", r"has an unprintable character, '\udce9'"),  # a byte that is no UTF-8
        ("ß" * 101, "is too long for a path; use at most 200 bytes"),
    ],
)
def test_a_recipe_s_name_can_be_part_of_a_path(name, sentence, tmp_path, monkeypatch, capsys):
    with pytest.raises(CourseError) as error:
        Recipe(name=name, model="cnn4")
    assert sentence in str(error.value)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text(f'model = "cnn4"\nname = {json.dumps(name)}\n')  # as TOML writes it, too
    assert main(["train", "mine.toml"]) == 2
    assert "mine.toml" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.toml"]


@pytest.mark.parametrize("name", ["vgg-style-bn.modern-cifar100", "Meine Größe (2)", "実験1", "lr_1e-3", "a+b", "3"])
def test_every_other_name_is_fine(name):
    assert Recipe(name=name, model="cnn4").run_name == f"{name}-seed0"


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31m", "caf\udce9", "a\u202eb", "\u200b", "", "  "])
def test_what_a_data_set_names_can_be_printed(name):
    images, labels = torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 1])
    with pytest.raises(CourseError, match=r"cannot be used: .* is not a name; it "):
        Dataset(images, labels, ("a", name), "mine")
    with pytest.raises(CourseError, match=r"cannot be used: .* is not a name; it "):
        Dataset(images, labels, ("a", "b"), name)
    if name.strip():
        with pytest.raises(CourseError, match=r"dataset = .* has an unprintable character"):
            Recipe(dataset=f"folder:{name}")


def test_both_forms_of_a_name_are_one_name():
    images, labels = torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 1])
    one, other = (Dataset(images, labels, (form, "b"), form) for form in TWO_FORMS)
    assert (one.classes, one.name, one.fingerprint) == (other.classes, other.name, other.fingerprint)
    assert Recipe(name=TWO_FORMS[1], model="cnn4") == Recipe(name=TWO_FORMS[0], model="cnn4")


# --- Files -----------------------------------------------------------------------------------------------------------


def tree(root: Path, train: list[bytes], test: list[bytes], file: bytes = b"1.png") -> Path:
    for split, classes in ((b"train", train), (b"test", test)):
        for number, name in enumerate(classes):
            folder = os.path.join(os.fsencode(root), split, name)
            os.makedirs(folder)
            with open(os.path.join(folder, file), "wb") as image:
                Image.new("RGB", (8, 8), (50 * number, 0, 0)).save(image, "png")
    return root


COMPOSED, DECOMPOSED = (form.encode() for form in TWO_FORMS)


def test_splits_whose_names_are_in_different_forms_have_the_same_classes(tmp_path):
    """An archive that was packed on a Mac beside one that was not: and no label stands for another class."""
    found = tree(tmp_path / "tree", [b"grz", DECOMPOSED], [b"grz", COMPOSED])
    train, test = (load_dataset(f"folder:{found}", split, root=tmp_path / "cache") for split in ("train", "test"))
    assert train.classes == test.classes == ("grz", TWO_FORMS[0])
    for dataset in (train, test):
        assert [dataset.classes[label] for label in dataset.labels] == ["grz", TWO_FORMS[0]]
        assert dataset.images[:, 0, 0, 0].tolist() == [0, 50]


def test_file_names_in_another_encoding_are_read(tmp_path):
    for _ in range(2):  # and then from the cache
        (tmp_path / "tree").exists() or tree(
            tmp_path / "tree", [b"a", b"b"], [b"a", b"b"], "café.png".encode("latin-1")
        )
        assert len(load_dataset(f"folder:{tmp_path / 'tree'}", "test", root=tmp_path / "cache")) == 2


@pytest.mark.parametrize("classes", [[b"a", "café".encode("latin-1")], [b"a", b"b\nc"], [COMPOSED, DECOMPOSED]])
def test_class_folders_whose_names_are_none_are_refused(tmp_path, capsys, classes):
    assert main(["data", f"folder:{tree(tmp_path / 'tree', classes, classes)}"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "is not a name; it has an unprintable character" in line or "repeat: " in line


RECIPE = 'model = "cnn4"\nname = "größe"\n'


@pytest.mark.parametrize(
    "content",
    [
        RECIPE.encode("utf-8-sig"),
        RECIPE.encode("utf-16"),
        b"\xfe\xff" + RECIPE.encode("utf-16-be"),
        RECIPE.replace("\n", "\r\n").encode(),
        unicodedata.normalize("NFD", RECIPE).encode(),
    ],
    ids=["UTF-8 with BOM", "UTF-16", "UTF-16, big end first", "Windows's ends of lines", "NFD"],
)
def test_a_recipe_is_read_as_editors_save_it(tmp_path, content):
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    assert Recipe.from_toml(path).name == "größe"


@pytest.mark.parametrize("content", [RECIPE.encode("latin-1"), RECIPE.encode("utf-16")[:-1], b"\xff" * 9])
def test_a_recipe_in_another_encoding_is_refused_with_what_to_do(tmp_path, content, capsys):
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    assert main(["train", str(path)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"alexnet-course: {str(path)!r} is not a text file in UTF-8 (")
    assert line.endswith("; save it as one.")


def test_the_name_of_a_recipe_s_file_is_in_one_form(tmp_path):
    path = tmp_path / f"{TWO_FORMS[1]}.toml"
    path.write_text('model = "cnn4"\n')
    assert Recipe.from_toml(path).name == TWO_FORMS[0]


# --- Tables ----------------------------------------------------------------------------------------------------------

MARKS = ["a|b", "a\\|b", "*a*", "__init__", "`a`", "<b>a</b>", "[a](b)", "$x_1$", "~~a~~", "a\\"]


@pytest.mark.parametrize("text", MARKS)
def test_marks_of_markdown_are_letters_in_a_cell(text):
    MarkdownIt = pytest.importorskip("markdown_it", reason="markdown-it-py comes with the book").MarkdownIt
    row = Row(text, "cnn4", "cifar10", "long", 1, 1, None, None)
    page = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(as_markdown([row], ("recipe", "budget")))
    cells = [token for token in page if token.type == "inline"][2:]
    assert len(cells) == 2
    shown = [(child.type, child.content) for child in cells[0].children]
    assert {kind for kind, _ in shown} <= {"text", "text_special"}
    assert "".join(content for _, content in shown) == text


def test_a_text_without_marks_stays_as_it_is():
    for text in ("vgg-style.modern", "80.05 (S0; its test images)", "84.00 ± 4.00", "Intel(R) Xeon(R), größer"):
        assert in_markdown(text) == text
    assert in_markdown("two\nlines") == "two lines"


@pytest.mark.parametrize("text", ["=HYPERLINK(1)", "+1", "-1", "@SUM(1)"])
def test_a_spreadsheet_computes_no_text(text):
    [line] = csv.DictReader(io.StringIO(as_csv([Row("a", "cnn4", text, "long", 1, 1, None, None)])))
    assert line["dataset"] == f"'{text}"
    assert line["recipe"] == "a"


# --- Figures ---------------------------------------------------------------------------------------------------------

TEXTS = [r"$\no$", "_x", "a_b $5 or $6", "__"]
FIGURES = {
    "shares": lambda text: plots.shares([text], {text: [1]}),
    "confusion_matrix": lambda text: plots.confusion_matrix([[1, 0], [0, 1]], [text, "b"]),
    "confusion_side_by_side": lambda text: plots.confusion_side_by_side({text: [[1, 0], [0, 1]]}, [text, "b"]),
    "reliability_diagram": lambda text: plots.reliability_diagram({text: [Bin(0.0, 0.1, 5, 0.05, 0.4)]}),
    "scatter_by_class": lambda text: plots.scatter_by_class(torch.zeros(1, 2), torch.tensor([0]), [text], ("a", "b")),
    "accuracies": lambda text: plots.accuracies({text: (50, 40, 60)}, text),
    "accuracy_against_cost": lambda text: plots.accuracy_against_cost({text: (1e6, 80.0, None)}),
    "two_accuracies": lambda text: plots.two_accuracies({text: [(50, 60)]}, "a", "b"),
    "diary": lambda text: plots.diary([text], {text: [[50.0]]}),
    "accuracy_by_count": lambda text: plots.accuracy_by_count([10], {text: [[0.5]]}),
    "measured_effects": lambda text: plots.measured_effects(
        [{"name": text, "kind": text, "mean": 1, "low": 0, "high": 2}], "points"
    ),
    "image_row": lambda text: plots.image_row(torch.zeros(1, 3, 8, 8), [text]),
    "image_table": lambda text: plots.image_table({text: torch.zeros(1, 3, 8, 8)}),
    "learning_curves_of": lambda text: plots.learning_curves_of({text: {text: []}}),
    "seed_spread": lambda text: plots.seed_spread([Row(text, "cnn4", "cifar10", "long", 1, 1, None, None)]),
    "waterfall": lambda text: plots.waterfall([plots.Step(text, 50.0)]),
    "layer_maps": lambda text: plots.layer_maps({text: [[1.0]]}, [text], "size"),
    "rate_sweep": lambda text: plots.rate_sweep({text: {0.1: 1.0}}, 2.3, "a guess"),
    "range_test_curve": lambda text: plots.range_test_curve([(0.1, 2.0), (0.2, 1.0)], {text: 0.1}),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
def test_a_figure_shows_a_name_letter_for_letter(draw, text):
    figure = draw(text)
    try:
        figure.canvas.draw()  # where a formula that is none would be refused
        written = [found.get_text() for found in figure.findobj(plt.Text)]
        assert any(text in found.replace(r"\$", "$") and "$" not in found.replace(r"\$", "") for found in written)
        for found in figure.findobj(plt.matplotlib.legend.Legend):
            assert all(entry.get_text() for entry in found.get_texts())
    finally:
        plt.close(figure)


def test_a_curve_may_have_a_formula_for_a_label_and_an_underscore_before_it():
    figure = plots.curves({"_$0.9^t$": [1], "_none": []}, "t", "error")
    figure.canvas.draw()
    [legend] = figure.findobj(plt.matplotlib.legend.Legend)
    assert [entry.get_text().lstrip("\u200b") for entry in legend.get_texts()] == ["_$0.9^t$", "_none: not measured"]
    plt.close(figure)


# --- Consoles --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "text", "expected"),
    [
        ("ascii", "3×32×32 ± 1 – 2 → 3", "3x32x32 +- 1 - 2 -> 3"),
        ("latin-1", "3×32×32 ± 1 – 2 → 3", "3×32×32 ± 1 - 2 -> 3"),
        ("cp1252", "3×32×32 ± 1 – 2 → 3", "3×32×32 ± 1 – 2 -> 3"),
        ("utf-8", "3×32×32 ± 1 – 2 → 3", "3×32×32 ± 1 – 2 → 3"),
        ("ascii", "größe", r"gr\xf6\xdfe"),
        ("cp1252", "größe 実験", r"größe \u5b9f\u9a13"),
        ("utf-8", "caf\udce9", r"caf\udce9"),
    ],
)
def test_what_a_console_cannot_print_is_printed_otherwise(monkeypatch, encoding, text, expected):
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding) for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    print_anything()
    print(text, flush=True)
    say(text)
    said = out.buffer.getvalue()
    assert said == err.buffer.getvalue()
    assert said.decode(encoding) == f"{expected}\n"


@pytest.mark.parametrize(
    "arguments", ["models", "results", "results --all --format markdown", "summary cnn4", "data nowhere/größe"]
)
def test_every_command_speaks_ascii(arguments):
    done = subprocess.run(
        [sys.executable, "-m", "alexnet_course", *arguments.split()],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=False,
    )
    assert done.returncode == (2 if "nowhere" in arguments else 0), done.stderr
    assert (done.stdout + done.stderr).isascii()
    assert b"Traceback" not in done.stderr


def test_what_the_user_says_of_unknown_characters_is_done(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), "ascii", errors="xmlcharrefreplace")
    monkeypatch.setattr(sys, "stdout", out)
    print_anything()
    print("×", end="", flush=True)
    assert out.buffer.getvalue() == b"&#215;"
