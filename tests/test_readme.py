"""What README.md, CONTRIBUTING.md and the book tell people to type.

Commands of the README run, or are named here where they do; those of the others exist and take their arguments.
"""

import argparse
import importlib.util
import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
from address import address

from alexnet_course import cli, results_table
from alexnet_course.cli.parser import make_parser
from alexnet_course.results.table import COLUMNS
from benchmarks import campaign

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
TARGETS = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)

# What makes training a matter of a second; these options come last and therefore count.
QUICK = (
    " --data doodles --epochs 1 --device cpu --out run --set train_size=64 --set validation_size=32"
    " --set model_options={width=0.1,hidden=8}"
)
RUN = {
    "alexnet-course models": "",
    # In a format that needs no other package.
    "alexnet-course export alexnet-cifar-5x5-lrn.small --format onnx": " --format safetensors",
    "alexnet-course summary alexnet-cifar-3x3": "",
    "alexnet-course train alexnet-cifar-3x3 --budget evening": QUICK,
    "alexnet-course train alexnet-cifar-3x3 --data folder:PATH --epochs 5": QUICK,
    "python -m benchmarks.campaign --list": "",
}
ELSEWHERE = {
    f"git clone {address().repository}": "needs the network; test_book.py knows the address",
    f"cd {address().owner_and_name[1]}": "belongs to it",
    "make test": "is what runs this, by .ci/run",
    "make book": "by .ci/run",
    "alexnet-course train alexnet-owt --data folder:PATH --set start=imagenet --set normalisation=imagenet "
    "--set body_lr=0.1": "test_start.py, with weights that stand for torchvision's",
    "alexnet-course predict alexnet-cifar-5x5-lrn.small cat.jpg holiday --explain": "test_cli.py, with other images",
    "source .venv/bin/activate": "test_setup.py makes .venv",
    "python -m benchmarks.campaign --data cifar10=folder:PATH --minutes 30": "test_campaign.py, with small recipes",
    "alexnet-course data folder:PATH": "data/test_folder_kinds.py, with every kind of folder",
    "alexnet-course train alexnet-owt.photos --data folder:PATH": "training/test_photographs.py, with a narrow network",
}
NUMBERS = {2: "two", 3: "three"}
SHORTER = {"epochs=3": "epochs=1, train_size=64, validation_size=32"}  # in the Python examples


def test_the_result_in_the_text_is_that_of_the_records():
    row = next(row for row in results_table() if (row.recipe, row.budget) == ("alexnet-cifar-3x3.modern", "evening"))
    accuracy = next(column for column in COLUMNS if column.name == "test %").text(row)
    text = " ".join(README.partition("## What it measured")[2].split())
    assert f"classifies {accuracy} % of CIFAR-10's test images correctly" in text
    assert f"of {NUMBERS[row.seeds]} seeds" in text
    assert row.published is not None
    assert f"The write-up reports {row.published.accuracy} %" in text


def blocks(language: str, text: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[str]:
    """The lines of all blocks of shell commands, without comments."""
    lines = "".join(blocks("bash", text)).splitlines()
    return [command for line in lines if (command := re.sub(r"\s*#.*", "", line))]


def text_of(path: Path) -> str:
    """The text of a file; of a notebook that of its cells, without outputs."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    return "\n\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])


TEXTS = {
    path.relative_to(ROOT).as_posix(): text_of(path)
    for pattern in ("*.md", ".github/*.md", "benchmarks/*.md", "alexnet_course/weights/*.md",
                    "book/*.md", "book/*.ipynb", "book/quizzes/*.toml")
    for path in sorted(ROOT.glob(pattern))
}  # fmt: skip
# What a notebook fills in, what stands for something, and where the output of a command goes.
FILLED_IN = {"{BUDGET}": "evening", "{mine}": "runs/mine", "…": "", "2> log": ""}


def typed(text: str) -> list[str]:
    """Commands in blocks, in the line, and behind the ``!`` of a notebook."""
    listed = [line.strip() for block in re.findall(r"^ *```bash\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
              for line in re.sub(r"\s#.*", "", block).splitlines()]  # fmt: skip
    inline = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)
    return [*listed, *inline, *re.findall(r"^(?:\w+ = )?!(.+)", text, re.MULTILINE)]


def parsed(parser: argparse.ArgumentParser, arguments: str) -> bool:
    """Whether ``parser`` takes the arguments or, where only a command is named, knows it."""
    for word, meant in FILLED_IN.items():
        arguments = arguments.replace(word, meant)
    names_only = re.fullmatch(r"[a-z ]*", arguments) is not None
    for tried in (arguments, f"{arguments} --help") if names_only else (arguments,):
        try:
            parser.parse_args(shlex.split(tried))
        except SystemExit as stop:
            if stop.code:
                continue
        return True
    return False


@pytest.fixture(autouse=True)
def somewhere_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_every_command_of_the_readme_is_run_or_named():
    assert sorted(commands(README)) == sorted({**RUN, **ELSEWHERE})


@pytest.mark.parametrize("command", RUN)
def test_command_of_the_readme_runs(command, capsys):
    program, *arguments = shlex.split(command + RUN[command])
    if program == "python":
        assert arguments[:2] == ["-m", "benchmarks.campaign"]
        status = campaign.main(arguments[2:])
    else:
        status = cli.main(arguments)
    assert status == 0
    assert capsys.readouterr().out


@pytest.mark.slow
def test_python_of_the_readme_runs(capsys):
    examples = blocks("python", README)
    assert len(examples) == 2
    for long, short in SHORTER.items():
        assert "".join(examples).count(long) == 1
        examples = [example.replace(long, short) for example in examples]
    for example in examples:
        exec(example, {})
    out = capsys.readouterr().out
    assert "'cat'" in out
    assert "classifier.6 (10,) 40970" in out
    assert re.fullmatch(r"[01]\.\d+", out.splitlines()[-1])


@pytest.mark.parametrize("name", TEXTS)
def test_every_command_named_in_a_text_is_one(name):
    """Its arguments included, where they are given."""
    commands = typed(TEXTS[name])
    made = {match[1] for line in commands if (match := re.match(r"make ([a-z-]+)", line))}
    assert made <= set(TARGETS)
    course = [match[1] for line in commands if (match := re.search(r"(?:^| -m )alexnet[-_]course (.+)", line))]
    assert [line for line in course if not parsed(make_parser(), line)] == []
    modules = [match.groups() for line in commands if (match := re.match(r"python -m (\w[\w.]*)(.*)", line))]
    assert [module for module, _ in modules if importlib.util.find_spec(module) is None] == []
    campaigns = [arguments for module, arguments in modules if module == campaign.__name__]
    assert [line for line in campaigns if not parsed(campaign.make_parser(), line)] == []


def test_commands_are_found_in_blocks_in_lines_and_behind_exclamation_marks():
    text = "`make book`\n\n  ```bash\n  make test  # now\n  ```\n\nsaid = !alexnet-course models\n```python\n`x`\n```"
    assert typed(text) == ["make test", "make book", "x", "alexnet-course models"]
    everywhere = [line for text in TEXTS.values() for line in typed(text)]
    assert "make test-fast" in everywhere
    assert sum("alexnet-course " in line or "-m alexnet_course " in line for line in everywhere) > 20
    assert sum(line.startswith("python -m benchmarks.campaign --") for line in everywhere) >= 4
    assert not parsed(make_parser(), "train cnn4 --epoch-count 3")
    assert not parsed(make_parser(), "trains")


def test_what_is_where_names_what_is_there():
    """In the order in which the rooms of the package lie above each other."""
    (block,) = re.findall(r"## What is where\n\n```\n(.*?)```", README, re.DOTALL)
    inside = [name for line in re.findall(r"^  ((?:[a-z_]+(?:/|\.py)(?:, )?)+)", block, re.MULTILINE)
              for name in line.split(", ")]  # fmt: skip
    rooms = {path.name + "/" * path.is_dir() for path in (ROOT / "alexnet_course").iterdir()}
    not_named = {"__init__.py", "__main__.py", "__pycache__/", "py.typed"}
    assert sorted(inside) == sorted(rooms - not_named)
    outside = re.findall(r"^(\S+)", block, re.MULTILINE)
    assert [name for name in outside if not (ROOT / name).exists()] == []
    layers = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"][
        0
    ]
    upwards = [layer.split(" | ") for layer in reversed(layers["layers"])]
    height = {name: number for number, names in enumerate(upwards) for name in names}
    order = [height[name.removesuffix(".py").rstrip("/")] for name in inside if name != "weights/"]
    assert order[7:] == sorted(order[7:])  # the first seven are the ground


def test_links_of_contributing_lead_somewhere():
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", CONTRIBUTING)]
    local = [link for link in links if "://" not in link]
    assert "book/your-result.ipynb" in local
    assert [link for link in local if not (ROOT / link).exists()] == []
