"""Recipes: one TOML file each, ``<network>.published.toml`` for the write-up's, ``<network>.modern.toml`` for ours.

``ablations.toml`` has all ablations: base recipes and variants with one thing changed. ``photos.toml`` has the recipes
for folders of photographs, which do not name a data set.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from alexnet_course.errors import CourseError, nearest
from alexnet_course.models import MODELS
from alexnet_course.recipe import Recipe, check_budget, without_evening

FOLDER = Path(__file__).parent
ABLATIONS = FOLDER / "ablations.toml"
PHOTOS = FOLDER / "photos.toml"


def list_recipes(budget: str = "long") -> list[str]:
    """The names of the package's recipes with this budget, except the ablations and those for photographs of your own
    (``alexnet-2012.photos``, ``alexnet-owt.photos``).

    >>> from alexnet_course import list_recipes
    >>> "alexnet-cifar-3x3.modern" in list_recipes()
    True
    """
    paths = [path for path in FOLDER.glob("*.toml") if path not in (ABLATIONS, PHOTOS)]
    return sorted(path.stem for path in paths if budget == "long" or budget in tomllib.loads(path.read_text("utf-8")))


def load_recipe(name: str, budget: str = "long") -> Recipe:
    """Load a recipe by its name (including ablations and recipes for photographs), by the path of a TOML file, or by
    the name of a network.

    With ``budget="evening"`` it is shortened, as its file says, to a number of epochs that all networks share. A
    network's default recipe is ``<network>.modern`` if the package has one, otherwise ``Recipe(model=name)``. Raises
    ``CourseError`` with the nearest names if there is nothing of that name, and for a recipe that cannot be shortened.

    >>> from alexnet_course import load_recipe
    >>> load_recipe("alexnet-cifar-3x3", "evening").run_name
    'alexnet-cifar-3x3.modern-evening-seed0'
    """
    check_budget(budget)
    if name.endswith(".toml"):
        return Recipe.from_toml(name, budget)
    known = list_recipes()
    for candidate in (name, f"{name}.modern"):
        if candidate in known:
            return Recipe.from_toml(FOLDER / f"{candidate}.toml", budget)
    if name in MODELS:
        return Recipe(model=name, budget=budget)
    more = {recipe.name: recipe for recipe in [*ablations(), *for_photographs()]}
    if name in more:
        if budget == "evening":
            raise without_evening(name)
        return more[name]
    raise CourseError(f"{name!r} is neither a recipe, a network nor a TOML file; "
                      f"nearest: {nearest(name, [*known, *MODELS, *more])}.")  # fmt: skip


def namesake(recipe: Recipe) -> Recipe | None:
    """The package's recipe with this one's name and budget; None if there is none."""
    return _by_name(recipe.budget).get(recipe.name)


def changed_keys(recipe: Recipe, **meant: str) -> list[str]:
    """The keys other than the seed in which ``recipe`` differs from its ``namesake``; empty if it has none. ``meant``
    has values to compare instead of the recipe's own."""
    ours = namesake(recipe)
    theirs = {**recipe.as_dict(), **meant}
    return [key for key, value in ours.as_dict().items() if key != "seed" and theirs[key] != value] if ours else []


@cache
def _by_name(budget: str) -> dict[str, Recipe]:
    """The package's recipes with this budget."""
    return {recipe.name: recipe for recipe in [*(load_recipe(n, budget) for n in list_recipes(budget)), *ablations()]}


def ablations() -> list[Recipe]:
    """The recipes of ``ablations.toml``, ``ablation.GROUP.VARIANT``: for each group its base, then its variants.

    A group whose base is the name of another group has that one's base, and no recipe of this name.
    """
    recipes = []
    tables = tomllib.loads(ABLATIONS.read_text(encoding="utf-8"))
    for group, table in tables.items():
        own = not isinstance(table["base"], str)
        base = table["base"] if own else tables[table["base"]]["base"]
        for variant, changes in {**({"base": {}} if own else {}), **table["variants"]}.items():
            values = merged(base, changes)
            recipes.append(Recipe.from_dict({**values, "name": f"ablation.{group}.{variant}", "budget": "ablation"}))
    return recipes


def for_photographs() -> list[Recipe]:
    """The recipes of ``photos.toml``; the user names the data set."""
    tables = tomllib.loads(PHOTOS.read_text(encoding="utf-8"))
    return [Recipe.from_dict({"name": name, **values}) for name, values in tables.items()]


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` with ``changes``; the options of the model are merged one by one."""
    options = {**values.get("model_options", {}), **changes.get("model_options", {})}
    return {**values, **changes, "model_options": options}
