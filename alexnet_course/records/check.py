"""Whether a record fits the package: its recipe, network and images are those of the same names here."""

from __future__ import annotations

from pathlib import Path

from alexnet_course.data.fingerprints import AND, KNOWN_FINGERPRINTS
from alexnet_course.errors import CourseError
from alexnet_course.models.costs import mult_adds_of, parameters_of
from alexnet_course.recipe import Recipe
from alexnet_course.recipes import changed_keys, namesake
from alexnet_course.records.record import Record, read_record


def read_fitting(path: Path) -> Record:
    """The record in a file. Raises ``CourseError`` if it is not one, or does not fit the package (``check_fit``)."""
    record = read_record(path)
    check_fit(record, path.name)
    return record


def check_fit(record: Record, origin: str = "the record", build: bool = False) -> None:
    """Raise ``CourseError`` if ``record`` does not fit the package.

    A recipe with the name of one of the package's must be equal to it. The number of parameters must be that of the
    recipe's network. Images with the name of a published data set must have its fingerprints. With ``build`` the
    network is built to count its parameters, even if ``costs.json`` has their number.
    """
    recipe = record.recipe
    known = namesake(recipe)
    changed = changes(recipe, record.dataset.name, record.environment.precision)
    if known is not None and changed:
        ours, theirs = known.as_dict(), recipe.as_dict()
        what = ", ".join(f"{key} is {theirs[key]!r} and not {ours[key]!r}" for key in changed)
        raise CourseError(f"{origin} has a recipe named {recipe.name!r} with the hash {recipe.fingerprint}, but "
                          f"the package's of that name has {known.fingerprint}: {what}; make the run again, or give "
                          "your recipe a name of its own.")  # fmt: skip
    if (record.budget, record.seed) != (recipe.budget, recipe.seed):
        raise CourseError(f"{origin} says budget {record.budget!r} and seed {record.seed}, but its recipe "
                          f"{recipe.budget!r} and {recipe.seed}; restore it, or make the run again.")  # fmt: skip
    dataset = record.dataset
    network = (recipe.model, recipe.model_options, len(dataset.mean), recipe.outputs or len(dataset.classes))
    try:
        parameters = parameters_of(*network, again=build)
        if record.parameters != parameters:  # the stored count may be from before you changed the network
            parameters = parameters_of(*network, again=True)
        mult_adds_of(*network, recipe.image_size)
    except Exception as error:  # a network's code may raise anything for such options or images
        raise CourseError(f"{origin} is the record of a {recipe.model} that cannot be "
                          f"built ({str(error).removesuffix('.')}); restore it, or make the "
                          "run again.") from None  # fmt: skip
    if record.parameters != parameters:
        raise CourseError(f"{origin} is the record of a {recipe.model} with {record.parameters:,} parameters, but its "
                          f"recipe builds one with {parameters:,}; restore it, or make the run again.")  # fmt: skip
    for key, name in misnamed(dataset.name, dataset.fingerprint, dataset.test_fingerprint).items():
        raise CourseError(f"{origin} used images that it calls {name!r}, but their {key} "
                          f"{getattr(dataset, key)} is not that of {name!r}; restore it, or make the run "
                          "again on the published images.")  # fmt: skip


def misnamed(images: str, fingerprint: str, test_fingerprint: str) -> dict[str, str]:
    """The fingerprints, by their key in a record, that do not fit the name of the images, with this name.

    Images with the name of a published data set must have its fingerprints, and images with its fingerprints its name.
    """
    names = images.split(AND)
    given = {"fingerprint": (names[0], fingerprint), "test_fingerprint": (names[-1], test_fingerprint)}
    published = set(KNOWN_FINGERPRINTS.values())
    return {
        key: name
        for key, (name, found) in given.items()
        if KNOWN_FINGERPRINTS.get(found, None if name in published else name) != name
    }


def changes(recipe: Recipe, images: str, precision: str = "") -> list[str]:
    """The keys in which ``recipe`` differs from the package's recipe of the same name.

    Two kinds of difference do not count: published images are the same wherever they are stored (``images``), and a
    ``precision`` may stand for ``auto``.
    """
    known = namesake(recipe)
    meant = {"dataset": images} if images in KNOWN_FINGERPRINTS.values() else {}
    if known is not None and known.precision == "auto" and recipe.precision == precision:
        meant["precision"] = "auto"
    return changed_keys(recipe, **meant)
