"""Test what a reader does on Colab: run a chapter's first cell, which installs the course, then run every chapter.

Runs in Colab's image (.github/workflows/colab.yml) or in any other environment with Jupyter (tests/colab); prints a
report in Markdown and exits with 1 after a failure. By hand, run it from outside the checkout, so that its package is
not imported:

    python3 /path/to/checkout/.github/colab.py [--package /path/to/checkout]
"""

import argparse
import json
import re
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

BOOK = Path(__file__).resolve().parents[1] / "book"
COLABS_OWN = ("torch", "torchvision", "numpy", "pandas", "matplotlib")
CELL_SECONDS = 1200

# Makes a kernel look like Colab's.
ON_COLAB = 'import sys, types\nsys.modules.setdefault("google.colab", types.ModuleType("google.colab"))'
# Colab imports some packages before a reader's first cell. A package that was reinstalled has another version, another
# path, or different files (inode and time).
LOOK = f"""
import json, os, time
from importlib import import_module, metadata

def look():
    found = {{}}
    for name in {COLABS_OWN!r}:
        file = import_module(name).__file__
        found[name] = [metadata.version(name), file, os.stat(file).st_ino, os.stat(file).st_mtime_ns]
    print(json.dumps({{"clock": time.time(), "packages": found}}))

look()
"""
COURSE = "import json, alexnet_course, d2l\nprint(json.dumps([alexnet_course.__file__, d2l.__file__]))"


def first_cell(chapter: Path, package: str | None) -> str:
    """The chapter's first code cell, which installs what is missing; ``package`` replaces the release in it."""
    notebook = nbformat.read(chapter, as_version=4)
    source = next(cell for cell in notebook.cells if cell.cell_type == "code").source
    return re.sub(r'"alexnet-course @ [^"]*"', lambda _: json.dumps(package), source) if package else source


def execute(notebook: Any, folder: str) -> str:
    """Run the notebook in a new kernel in ``folder``; returns the error, or an empty string."""
    resources = {"metadata": {"path": folder}}
    client = NotebookClient(notebook, timeout=CELL_SECONDS, kernel_name="python3", resources=resources)
    try:
        client.execute()
    except Exception as error:  # run the other chapters in any case
        return re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip() or type(error).__name__  # without colours
    return ""


def written(cells: list[Any], stream: str) -> list[str]:
    """What each cell wrote to ``stdout`` or to ``stderr`` (shown in red), without cells that wrote nothing."""
    outputs = [[output.text for output in cell.outputs if output.get("name") == stream] for cell in cells]
    return ["".join(texts) for texts in outputs if texts]


def install(first: str) -> dict[str, Any]:
    """Run the first cell in a kernel like Colab's, and import the course in the same kernel."""
    sources = [f"{ON_COLAB}\n{LOOK}", first, "look()", COURSE]
    notebook: Any = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    with tempfile.TemporaryDirectory() as folder:
        error = execute(notebook, folder)
    if error:
        return {"error": "\n".join([*written(notebook.cells, "stdout"), error])}
    before, after, course = (json.loads("".join(written([notebook.cells[place]], "stdout"))) for place in (0, 2, 3))
    return {
        "error": "",
        "seconds": after["clock"] - before["clock"],
        "before": before["packages"],
        "after": after["packages"],
        "course": course,
    }


def run_chapter(chapter: Path) -> dict[str, Any]:
    """Run the chapter in a kernel like Colab's, with the installed packages."""
    notebook: Any = nbformat.read(chapter, as_version=4)
    codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
    codes[0].source = ON_COLAB
    for cell in codes:
        cell.outputs = []
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        error = execute(notebook, folder)
    return {"error": error, "seconds": time.perf_counter() - start, "red": written(codes, "stderr")}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--package", metavar="PATH", help="install this instead of the release")
    parser.add_argument("--chapters", nargs="*", metavar="NAME", help="run these instead of all")
    parser.add_argument("--jobs", type=int, default=1, help="number of chapters to run at a time")
    parser.add_argument("--report", type=Path, metavar="FILE", help="also write the findings as JSON")
    options = parser.parse_args()
    chapters = sorted(BOOK.glob("*.ipynb"))
    print("## The course on Colab\n")
    cells = [first_cell(chapter, options.package) for chapter in chapters]
    installed = install(max(cells, key=len))  # one also installs d2l
    report = {"install": installed, "chapters": {}}
    failed = bool(installed["error"])
    if failed:
        print(f"The first cell failed:\n\n```\n{installed['error']}\n```")
    else:
        print(f"Installed in {installed['seconds']:.0f} s.\n")
        for name, before in installed["before"].items():
            after = installed["after"][name]
            failed |= after != before
            print(f"- {name} {before[0]}" + ("" if after == before else f" **was replaced by {after[0]}**"))
        print(flush=True)
        wanted = [chapter for chapter in chapters if options.chapters is None or chapter.stem in options.chapters]
        with ThreadPoolExecutor(options.jobs) as pool:
            for chapter, found in zip(wanted, pool.map(run_chapter, wanted), strict=True):
                report["chapters"][chapter.stem] = found
                failed |= bool(found["error"])
                print(f"- {chapter.stem}: {'**failed**' if found['error'] else 'ran'} in {found['seconds']:.0f} s")
                for text in filter(None, [found["error"], *found["red"]]):
                    print(f"\n```\n{text.strip()}\n```\n", flush=True)
    if options.report:
        options.report.write_text(json.dumps(report), encoding="utf-8")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
