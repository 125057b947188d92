"""The examples in docstrings are what a reader tries first: each is complete, and gives what it says."""

import ast
import doctest
import importlib
import re
from pathlib import Path

import pytest

import alexnet_course
from alexnet_course.models import MODELS

PACKAGE = Path(alexnet_course.__file__).parent
SOURCES = {path: path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
NO_EXAMPLE = {"CourseError", "summary"}  # of what `import alexnet_course` offers


def examples() -> dict[str, doctest.DocTest]:
    found = {}
    for path, text in SOURCES.items():
        if ">>> " in text:  # the other modules need not be imported
            parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
            module = importlib.import_module(".".join(parts).removesuffix(".__init__"))
            for test in doctest.DocTestFinder().find(module, globs={"__name__": "__main__"}):
                if test.examples:
                    found[test.name] = test
    return found


EXAMPLES = examples()


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_gives_what_it_says(name, tmp_path, monkeypatch):
    """Without the names of its module, so that what a reader copies has all it needs."""
    monkeypatch.chdir(tmp_path)
    before = dict(MODELS)
    said: list[str] = []
    try:
        result = doctest.DocTestRunner().run(EXAMPLES[name], out=said.append)
    finally:  # an example registers a network
        MODELS.clear()
        MODELS.update(before)
    assert result.attempted >= 2
    assert not result.failed, "".join(said)


def test_what_the_package_offers_has_an_example():
    with_example = {name.rpartition(".")[2] for name in EXAMPLES}
    assert set(alexnet_course.__all__) - with_example == NO_EXAMPLE


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_example_escapes_these_tests(path):
    """A block of code after two colons would not be run."""
    for node in ast.walk(ast.parse(SOURCES[path])):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            assert not re.search(r"::\n\s*\n", ast.get_docstring(node) or ""), node
