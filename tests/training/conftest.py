"""What tests of interrupted runs share."""

import os
from typing import Any

import pytest
from two_processes import with_everything


@pytest.fixture
def no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that somebody makes between two parts of a run would be a change of its environment."""
    monkeypatch.setenv("GIT_DIR", os.devnull)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, data: dict[str, Any]) -> dict[str, Any]:
    """The options of ``train``, with a network of a millisecond that has batch norm and dropout."""
    monkeypatch.setattr("alexnet_course.training.trainer.build_model", with_everything)
    return data
