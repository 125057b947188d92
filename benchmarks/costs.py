"""Count the cost of the networks of all recipes and records, and store it in the package for the results table.

python -m benchmarks.costs
"""

import json
from collections.abc import Iterator
from typing import Any

from alexnet_course.files import write_text
from alexnet_course.models import MODELS
from alexnet_course.models.costs import COSTS_FILE, counted
from alexnet_course.recipe import LOADABLE, Recipe
from alexnet_course.recipes import ablations, list_recipes, load_recipe
from alexnet_course.records import FOLDER
from alexnet_course.records.record import read_record
from alexnet_course.results.table import CLASSES
from alexnet_course.results.verify import record_paths


def wanted() -> Iterator[tuple[Recipe, int, int]]:
    """Every recipe of the package and of its records, with the channels and classes of its images.

    Each also with the classes of the published network, because the table compares their sizes.
    """
    recipes = [*(load_recipe(name, budget) for budget in LOADABLE for name in list_recipes(budget)), *ablations()]
    for recipe in recipes:
        yield recipe, MODELS[recipe.model].input_size[0], CLASSES.get(recipe.dataset, 10)
    for path in record_paths(FOLDER):
        record = read_record(path)  # load_records would compare it with the stored costs
        recipes.append(record.recipe)
        yield record.recipe, len(record.dataset.mean), len(record.dataset.classes)
    for recipe in recipes:
        spec = MODELS[recipe.model]
        yield recipe, spec.input_size[0], spec.num_classes


def entries() -> list[dict[str, Any]]:
    """The content of ``costs.json``."""
    found = {}
    for recipe, channels, classes in wanted():
        network = (recipe.model, dict(recipe.model_options), channels, recipe.outputs or classes, recipe.image_size)
        found[json.dumps(network, sort_keys=True)] = network
    return [counted(*found[key]) for key in sorted(found)]


def main() -> None:
    lines = ",\n ".join(map(json.dumps, entries()))
    write_text(COSTS_FILE, f"[\n {lines}\n]\n")
    print(f"{COSTS_FILE.name} is written")


if __name__ == "__main__":
    main()
