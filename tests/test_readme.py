"""What README.md and CONTRIBUTING.md tell people to type: it runs, or it is named here where it does."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from alexnet_course import cli
from benchmarks import campaign

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
TARGETS = re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)

# What makes training a matter of a second; these options come last and therefore count.
QUICK = (
    " --data doodles --epochs 1 --device cpu --out run --set train_size=64 --set validation_size=32"
    " --set model_options={width=0.1,hidden=8}"
)
RUN = {
    "alexnet-course models": "",
    "alexnet-course summary alexnet-cifar-3x3": "",
    "alexnet-course train alexnet-cifar-3x3 --budget evening": QUICK,
    "alexnet-course train alexnet-cifar-3x3 --data folder:PATH --epochs 5": QUICK,
    "python -m benchmarks.campaign --list": "",
}
ELSEWHERE = {
    "git clone https://github.com/alexnet-course/alexnet-course": "needs the network; test_book.py knows the address",
    "cd alexnet-course": "belongs to it",
    "make test": "is what runs this, by .ci/run",
    "make book": "by .ci/run",
    "source .venv/bin/activate": "test_setup.py makes .venv",
    "python -m benchmarks.campaign --data cifar10=folder:PATH --minutes 30": "test_campaign.py, with small recipes",
}
SHORTER = {"epochs=3": "epochs=1, train_size=64, validation_size=32"}  # in the Python examples


def blocks(language: str, text: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[str]:
    """The lines of all blocks of shell commands, without comments."""
    lines = "".join(blocks("bash", text)).splitlines()
    return [command for line in lines if (command := re.sub(r"\s*#.*", "", line))]


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


@pytest.mark.parametrize("text", [README, CONTRIBUTING], ids=["README", "CONTRIBUTING"])
def test_every_command_named_in_the_text_exists(text):
    code = [*commands(text), *re.findall(r"`([^`\n]+)`", text)]
    made = {match[1] for line in code if (match := re.match(r"make ([a-z]+)", line))}
    called = {match[1] for line in code if (match := re.match(r"alexnet-course (--version|[a-z]+)", line))}
    run = {match[1] for line in code if (match := re.match(r"python -m ([\w.]+)", line))}
    assert {"test", "book"} <= made <= set(TARGETS)
    for name in called:
        with pytest.raises(SystemExit) as stop:
            cli.main([name, "--help"])
        assert stop.value.code == 0, name
    assert len(called) >= 2
    assert run
    assert [name for name in run if importlib.util.find_spec(name) is None] == []


def test_links_of_contributing_lead_somewhere():
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", CONTRIBUTING)]
    local = [link for link in links if "://" not in link]
    assert "book/your-result.ipynb" in local
    assert [link for link in local if not (ROOT / link).exists()] == []
