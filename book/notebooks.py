"""Write the chapters for readers without Sphinx, for ``make notebooks``.

They are written to colab/, to which a page's rocket leads. The book is rendered
for this, and ``_ext/plain_notebooks.py`` converts its pages.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COLAB = ROOT / "colab"


def render(folder: Path) -> Path:
    """Render the book into ``folder``; returns the folder of the notebooks."""
    tool = Path(sys.executable).with_name("jupyter-book")
    command = [str(tool), "build", "book", "--config", "_config.yml"]
    command += ["--path-output", str(folder), "--quiet"]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return folder / "_build" / "html" / "_sources"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = render(Path(folder))
        shutil.rmtree(COLAB, ignore_errors=True)
        COLAB.mkdir()
        for notebook in sorted(made.glob("*.ipynb")):
            shutil.copyfile(notebook, COLAB / notebook.name)
            print(f"colab/{notebook.name}")


if __name__ == "__main__":
    main()
