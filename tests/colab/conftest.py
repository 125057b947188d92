"""The environments of environments.py, made once for all tests of this folder."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from environments import ROOT, Colab, NoColab, make_colabs


@pytest.fixture(scope="session")
def colabs_or_why_not() -> Iterator[dict[str, Colab] | NoColab]:
    (ROOT / "_build").mkdir(exist_ok=True)
    # Beside .venv, where uv links to the files in its cache; removed at once, since they may be copies of gigabytes.
    with tempfile.TemporaryDirectory(dir=ROOT / "_build", prefix="colab-") as scratch:
        try:
            yield make_colabs(Path(scratch))
        except NoColab as reason:
            yield reason


@pytest.fixture(scope="session")
def colabs(colabs_or_why_not: dict[str, Colab] | NoColab) -> dict[str, Colab]:
    """By their names in ``ENVIRONMENTS``."""
    if isinstance(colabs_or_why_not, NoColab):
        pytest.skip(f"tests of Colab: {colabs_or_why_not}")
    return colabs_or_why_not


@pytest.fixture(scope="session")
def oldest_python(colabs_or_why_not: dict[str, Colab] | NoColab) -> Path:
    """That of the older environment, in which the course is installed; where there is none, the one that runs this."""
    if isinstance(colabs_or_why_not, NoColab):
        return Path(sys.executable)
    return colabs_or_why_not["older"].python
