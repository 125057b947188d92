"""Recipes: one TOML file each, ``<network>.published.toml`` for the write-up's, ``<network>.modern.toml`` for ours."""

from __future__ import annotations

from pathlib import Path

from alexnet_course.errors import CourseError, nearest
from alexnet_course.models import MODELS
from alexnet_course.training.recipe import Recipe

FOLDER = Path(__file__).parent


def list_recipes() -> list[str]:
    """The names of the recipes that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_recipe(name: str, budget: str = "full") -> Recipe:
    """A recipe by its name, by the path of a TOML file, or by the name of a network.

    With ``budget="cpu"`` it is shortened, as its file says, to what a machine without a GPU does in minutes. A
    network's default recipe is ``<network>.modern`` where the package has one, and ``Recipe(model=name)`` otherwise.
    Raises ``CourseError`` with the nearest names where there is nothing of that name.
    """
    if name.endswith(".toml"):
        return Recipe.from_toml(name, budget)
    known = list_recipes()
    for candidate in (name, f"{name}.modern"):
        if candidate in known:
            return Recipe.from_toml(FOLDER / f"{candidate}.toml", budget)
    if name in MODELS:
        return Recipe(model=name, budget=budget)
    raise CourseError(f"{name!r} is neither a recipe nor a network nor a TOML file; "
                      f"nearest: {nearest(name, [*known, *MODELS])}.")  # fmt: skip
