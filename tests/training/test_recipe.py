import json

import pytest

from alexnet_course.data.doodles import TRAIN_SIZE
from alexnet_course.errors import CourseError
from alexnet_course.models import MODELS
from alexnet_course.recipes import FOLDER, list_recipes, load_recipe
from alexnet_course.training import Recipe
from alexnet_course.training.loop import picture_count


def test_defaults_are_a_valid_recipe_named_after_its_model():
    assert Recipe().name == Recipe().model
    assert Recipe(name="mine").name == "mine"


def test_a_recipe_survives_json():
    recipe = Recipe(model="cnn4", model_options={"activation": "tanh"}, schedule="step", lr_steps=(2, 5), epochs=8)
    assert Recipe.from_dict(json.loads(json.dumps(recipe.as_dict()))) == recipe


def test_a_recipe_cannot_be_changed_but_copied_with_changes():
    recipe = Recipe(epochs=3)
    with pytest.raises(AttributeError):
        recipe.epochs = 4
    assert recipe.replace(epochs=4) == Recipe(epochs=4)


def test_toml(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text('model = "cnn4"\nlr = 1\nmodel_options = {lrn = true}\nlr_steps = [2]\nschedule = "step"\n')
    recipe = Recipe.from_toml(path)
    assert recipe == Recipe(
        name="small", model="cnn4", lr=1.0, model_options={"lrn": True}, lr_steps=(2,), schedule="step"
    )
    assert load_recipe(str(path)) == recipe


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epoch": 3}, "'epoch' is not a key of a recipe; nearest: epochs"),
        (
            {"model": "alexnet-cifar"},
            "model = 'alexnet-cifar' is not a network of this course; nearest: alexnet-cifar-",
        ),
        ({"optimiser": "sdg"}, "optimiser = 'sdg' is not a choice; nearest: sgd."),
        ({"schedule": "onecycle"}, "schedule = 'onecycle' is not a choice; nearest: one-cycle."),
        (
            {"epochs": 0},
            "epochs = 0 is out of range; it must be at least 1 and at most 10000; the nearest that works is 1.",
        ),
        ({"lr": 0}, "lr = 0.0 is out of range; it must be above 0 and at most 100."),
        ({"lr": float("nan")}, "lr = nan is of the wrong kind; give a finite number."),
        ({"batch_size": 1e9}, "batch_size = 1000000000.0 is of the wrong kind; give a whole number."),
        (
            {"batch_size": 100_000},
            "batch_size = 100000 is out of range; it must be at least 1 and at most 65536; the near",
        ),
        ({"flip": 1}, "flip = 1 is of the wrong kind; give true or false."),
        ({"crop": True}, "crop = True is of the wrong kind; give a value like 4."),
        ({"seed": "1"}, "seed = '1' is of the wrong kind; give a whole number."),
        ({"model_options": {"dropout": [1]}}, "model_options = {'dropout': [1]} is of the wrong kind; give a table"),
        ({"model_options": {"init": "paper"}}, "model_options must not set 'init'"),
        ({"validation_size": 10.5}, "validation_size = 10.5 is neither a share below 1 nor a whole number"),
        ({"schedule": "step"}, "schedule = 'step' needs lr_steps"),
        (
            {"schedule": "step", "lr_steps": [99]},
            "lr_steps = 99 is out of range; it must be at least 1 and at most 10;",
        ),
        ({"lr_steps": [2]}, "lr_steps = [2] has no effect with schedule = 'one-cycle'"),
    ],
)
def test_what_is_wrong_is_refused_in_one_sentence(values, message):
    with pytest.raises(CourseError) as caught:
        Recipe.from_dict(values)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("lr = ", "cannot be read as a TOML file"),
        ("lrr = 1", "bad.toml: 'lrr' is not a key of a recipe; nearest: lr"),
    ],
)
def test_a_bad_file_is_named(tmp_path, content, message):
    path = tmp_path / "bad.toml"
    path.write_text(content)
    with pytest.raises(CourseError, match=message):
        Recipe.from_toml(path)


def test_a_missing_file_and_an_unknown_name():
    with pytest.raises(CourseError, match=r"no recipe file 'nowhere\.toml'"):
        load_recipe("nowhere.toml")
    with pytest.raises(CourseError, match=r"'alexnet-cifar-3' is neither a recipe.*nearest: .*alexnet-cifar-3x3"):
        load_recipe("alexnet-cifar-3")


def test_every_network_has_a_default_recipe():
    for name in MODELS:
        assert load_recipe(name).model == name


@pytest.mark.parametrize("name", list_recipes())
def test_the_package_s_recipes_are_valid_and_say_what_they_are(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert name.startswith(recipe.model + ".")
    assert (FOLDER / f"{name}.toml").read_text().startswith("#")
    assert picture_count("validation_size", recipe.validation_size, 50_000) == 5000
    assert picture_count("validation_size", recipe.validation_size, TRAIN_SIZE) < TRAIN_SIZE  # so --data doodles works
