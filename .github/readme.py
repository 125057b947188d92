"""Make the links in README.md absolute for the package index, where relative links do not work.

    python .github/readme.py v0.1.0

rewrites README.md, with the repository's address at that tag before each relative link (see release.yml).
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(!?)(\[[^]]*\])\((?![a-z]+:|#)([^)]+)\)")  # an image, or a link, to a file


def for_the_index(text: str, tag: str, repository: str) -> str:
    """``text`` with the address of each file at ``tag``: GitHub's page for it, or for an image the file itself."""
    return LINK.sub(
        lambda link: f"{link[1]}{link[2]}({repository}/{'raw' if link[1] else 'blob'}/{tag}/{link[3]})", text
    )


if __name__ == "__main__":
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    readme = ROOT / "README.md"
    new = for_the_index(readme.read_text(encoding="utf-8"), sys.argv[1], project["urls"]["Repository"])
    readme.write_text(new, encoding="utf-8")
