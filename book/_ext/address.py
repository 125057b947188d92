"""All public addresses of the course, from the one in ``_config.yml``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "_config.yml"
GITHUB = re.compile(r"https://github\.com/([A-Za-z0-9-]+)/([\w.-]*\w)")
COLAB = "https://colab.research.google.com"
KAGGLE = "https://kaggle.com/kernels/welcome?src="


@dataclass(frozen=True)
class Address:
    """The location of the course: a GitHub repository and its branch."""

    repository: str
    branch: str = "main"

    @property
    def owner_and_name(self) -> tuple[str, str]:
        found = GITHUB.fullmatch(self.repository)
        if found is None:
            raise ValueError(
                f"{self.repository!r} is not a GitHub repository; write "
                "https://github.com/OWNER/NAME."
            )
        return found[1], found[2]

    @property
    def book(self) -> str:
        """The published book, on GitHub Pages."""
        owner, name = self.owner_and_name
        host = f"{owner.lower()}.github.io"
        return f"https://{host}/" + ("" if name.lower() == host else f"{name}/")

    def file(self, path: str) -> str:
        """GitHub's page for a file of the repository."""
        return f"{self.repository}/blob/{self.branch}/{path}"

    def colab(self, path: str) -> str:
        """The link that opens a notebook of the repository on Colab."""
        place = self.file(path).removeprefix("https://github.com")
        return f"{COLAB}/github{place}"

    def kaggle(self, path: str) -> str:
        """The link that opens a copy of it on Kaggle."""
        return KAGGLE + self.file(path)

    def release(self, version: str) -> str:
        """The files of a release, available as soon as its tag is."""
        return f"{self.repository}/archive/refs/tags/v{version}.tar.gz"


def address() -> Address:
    """The address of this copy of the course."""
    repository = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))[
        "repository"
    ]
    return Address(repository["url"], repository["branch"])
