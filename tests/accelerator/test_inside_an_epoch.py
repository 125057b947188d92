"""Between the first and the last step of an epoch, the processor waits for nothing that the GPU has yet to do.

For every augmentation, every network and every recipe of the package. What is allowed before the first step: to move
the images there, to draw the epoch's order, and to hand over the seeds of an augmentation that draws on the processor.
"""

from contextlib import ExitStack
from inspect import signature

import pytest
import torch
from emulation import Transfer, transfers

from alexnet_course.data import Dataset
from alexnet_course.models import MODELS
from alexnet_course.optim import OPTIMISERS
from alexnet_course.recipe import Recipe
from alexnet_course.recipes import ablations, list_recipes, load_recipe
from alexnet_course.training import Hook, Trainer, train

STEPS = 3
BATCH = 4
RECIPES = {recipe.name: recipe for recipe in [*map(load_recipe, list_recipes()), *ablations()]}


class BetweenSteps(Hook):
    """Collects what is noted from the end of an epoch's first step to the end of its last."""

    def __init__(self) -> None:
        self.seen: list[Transfer] = []
        self.steps = 0

    def on_step(self, trainer: Trainer) -> None:
        self.steps += 1
        if trainer.steps_of_epoch == 1:
            self._watching = ExitStack()
            self._now = self._watching.enter_context(transfers())
        elif trainer.steps_of_epoch == len(trainer.train_loader):
            self._watching.close()
            self.seen += self._now


def waits(recipe: Recipe, train_set: Dataset, test_set: Dataset) -> list[str]:
    """What the host waits for inside of the epochs of two."""
    between = BetweenSteps()
    recipe = recipe.replace(
        epochs=2, batch_size=BATCH, train_size=STEPS * BATCH, validation_size=BATCH, warmup=0.25,
        **({"lr_steps": [1]} if recipe.schedule == "step" else {}),
    )  # fmt: skip
    run = train(recipe, train_set=train_set, test_set=test_set, hooks=[between])
    list(run)
    assert run.device.type == "cuda"
    assert between.steps == 2 * STEPS
    return [str(transfer) for transfer in between.seen if transfer.kind != "queued"]


def narrow(recipe: Recipe) -> Recipe:
    """The same with a network of few weights, where it has options for that: its kinds of layers are what counts."""
    takes = signature(MODELS[recipe.model].build).parameters
    few = {"width": 0.125, "hidden": 32}
    if "overrides" not in takes:
        few = {name: value for name, value in few.items() if name in takes}
    return recipe.replace(model_options={**recipe.model_options, **few})


def noise(count: int, channels: int = 3, side: int = 32) -> Dataset:
    images = torch.randint(256, (count, channels, side, side), dtype=torch.uint8, generator=torch.Generator())
    return Dataset(images, torch.arange(count) % 2, ("even", "odd"), "noise")


@pytest.fixture(scope="module")
def images() -> dict[str, Dataset]:
    return {"train_set": noise(32), "test_set": noise(8)}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"crop": 4},
        {"flip": True},
        {"cutout": 8},
        {"colour_pca": 0.1},
        {"input_size": 26},
        {"label_smoothing": 0.1},
        {"autoaugment": True},
        {"flip": True, "alternate_flip": True},
        {"mix": "mixup"},
        {"mix": "cutmix"},
        {"input_size": 32, "first_size": 26},
        {"autoaugment": True, "autoaugment_policy": "imagenet"},
    ],
    ids=str,
)
def test_no_augmentation_makes_the_host_wait(change, images, h100):
    recipe = Recipe(**{"model": "cnn4", "crop": 0, "flip": False, **change})
    assert waits(recipe, **images) == []


@pytest.mark.parametrize("card", ["t4", "h100"])
@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_no_optimiser_does_in_either_format(optimiser, card, images, request):
    request.getfixturevalue(card)
    assert waits(Recipe(model="cnn4", optimiser=optimiser, lr=1e-4), **images) == []


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_no_network_does(model, h100):
    channels, side, _ = MODELS[model].input_size
    sets = {"train_set": noise(20, channels, side), "test_set": noise(4, channels, side)}
    assert waits(narrow(Recipe(model=model, lr=1e-4)), **sets) == []


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_no_recipe_does(recipe, images, h100):
    assert waits(narrow(recipe).replace(lr=1e-5), **images) == []
