"""Whether a record fits the package: its recipe, its network and its pictures are those that go by their names here."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from alexnet_course.data.fingerprints import KNOWN_FINGERPRINTS
from alexnet_course.errors import CourseError
from alexnet_course.models.costs import mult_adds_of, parameters_of
from alexnet_course.recipe import Recipe
from alexnet_course.recipes import ablations, list_recipes, load_recipe
from alexnet_course.records.record import Record, read_record


def read_fitting(path: Path) -> Record:
    """The record in a file, if it is one and fits the package (``check_fit``); ``CourseError`` otherwise."""
    record = read_record(path)
    check_fit(record, path.name)
    return record


def check_fit(record: Record, origin: str = "the record", build: bool = False) -> None:
    """Raise ``CourseError`` where ``record`` is not of a run that the package knows.

    Its recipe must be the package's, if it has the name of one; its network must have as many parameters as the recipe
    builds; pictures with the name of a published data set must have its fingerprints. With ``build`` the network is
    built to count them, also where ``costs.json`` says how many there are.
    """
    recipe = record.recipe
    known = _known(recipe.budget).get(recipe.name)
    if known is not None and known.fingerprint != recipe.fingerprint:
        ours, theirs = known.as_dict(), recipe.as_dict()
        what = ", ".join(f"{key} is {theirs[key]!r} and not {ours[key]!r}"
                         for key in ours if key != "seed" and ours[key] != theirs[key])  # fmt: skip
        raise CourseError(f"{origin} has a recipe of the name {recipe.name!r} and the hash {recipe.fingerprint}, but "
                          f"the package's of that name has {known.fingerprint}: {what}; make the run again, or give "
                          "your recipe a name of its own.")  # fmt: skip
    if (record.budget, record.seed) != (recipe.budget, recipe.seed):
        raise CourseError(f"{origin} says budget {record.budget!r} and seed {record.seed}, but its recipe "
                          f"{recipe.budget!r} and {recipe.seed}; restore it, or make the run again.")  # fmt: skip
    dataset = record.dataset
    network = (recipe.model, recipe.model_options, len(dataset.mean), recipe.outputs or len(dataset.classes))
    try:
        parameters = parameters_of(*network, again=build)
        if record.parameters != parameters:  # which may be of a network as it was before you changed it
            parameters = parameters_of(*network, again=True)
        mult_adds_of(*network, recipe.picture_size)
    except Exception as error:  # whatever the code of a network makes of such options or images
        raise CourseError(f"{origin} is of a {recipe.model} that cannot be built ({str(error).removesuffix('.')}); "
                          "restore it, or make the run again.") from None  # fmt: skip
    if record.parameters != parameters:
        raise CourseError(f"{origin} is of a {recipe.model} with {record.parameters:,} parameters, but its recipe "
                          f"builds one with {parameters:,}; restore it, or make the run again.")  # fmt: skip
    for key in ("fingerprint", "test_fingerprint"):
        fingerprint = getattr(dataset, key)
        name = KNOWN_FINGERPRINTS.get(fingerprint, dataset.name)
        published = dataset.name in KNOWN_FINGERPRINTS.values() and fingerprint not in KNOWN_FINGERPRINTS
        if name != dataset.name or published:
            raise CourseError(f"{origin} is of pictures that it calls {dataset.name!r}, but their {key} "
                              f"{fingerprint} is not that of {dataset.name!r}; restore it, or make the run "
                              "again on the published pictures.")  # fmt: skip


@cache
def _known(budget: str) -> dict[str, Recipe]:
    """The package's recipes with this budget, by name."""
    return {recipe.name: recipe for recipe in [*(load_recipe(n, budget) for n in list_recipes(budget)), *ablations()]}
