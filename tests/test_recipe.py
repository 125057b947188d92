import copy
import json
import pickle
import re

import pytest
import torch

from alexnet_course.data import Dataset
from alexnet_course.data.augment import Augmentation
from alexnet_course.data.doodles import TRAIN_SIZE
from alexnet_course.errors import CourseError
from alexnet_course.models import MODELS, build_model
from alexnet_course.recipe import Recipe
from alexnet_course.recipes import FOLDER, for_photographs, list_recipes, load_recipe
from alexnet_course.shapes import zeros_like_input
from alexnet_course.training.division import image_count
from alexnet_course.watching import fit


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


def test_a_recipe_can_be_pickled_and_copied():
    recipe = Recipe(epochs=8, schedule="step", lr_steps=[2, 5], model_options={"dropout": 0.2})
    assert pickle.loads(pickle.dumps(recipe)) == copy.deepcopy(recipe) == recipe
    assert recipe.__replace__(epochs=9) == recipe.replace(epochs=9)  # what copy.replace calls


def test_what_a_recipe_was_made_from_can_change_without_it():
    options, steps = {"dropout": 0.2}, [2, 5]
    recipe = Recipe(epochs=8, schedule="step", lr_steps=steps, model_options=options)
    options["dropout"] = 0.5
    steps.append(7)
    assert (recipe.model_options, recipe.lr_steps) == ({"dropout": 0.2}, (2, 5))


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
        ({"lr": 0}, "lr = 0 is out of range; it must be above 0 and at most 100."),
        ({"lr": float("nan")}, "lr = nan has the wrong type; give a finite number."),
        ({"batch_size": 1e9}, "batch_size = 1000000000.0 has the wrong type; give an integer."),
        (
            {"batch_size": 100_000},
            "batch_size = 100000 is out of range; it must be at least 1 and at most 65536; the near",
        ),
        ({"flip": 1}, "flip = 1 has the wrong type; give true or false."),
        ({"crop": True}, "crop = True has the wrong type; give an integer."),
        ({"seed": "1"}, "seed = '1' has the wrong type; give an integer."),
        ({"model_options": {"dropout": [1]}}, "model_options = {'dropout': [1]} has the wrong type; give a table"),
        ({"model_options": 3}, "model_options = 3 has the wrong type; give a table of options such as {dropout ="),
        ({"lr_steps": [2, True]}, "lr_steps/1 = True has the wrong type; give an integer."),
        ({"lr_steps": "23"}, "lr_steps = '23' has the wrong type; give a list."),
        ({"model": 3}, "model = 3 has the wrong type; give a string in quotes."),
        ({"epochs": 10**100}, f"epochs = 1{'0' * 79}… is out of range; it must be at least 1 and at most 10000"),
        ({"model_options": {"init": "paper"}}, "model_options must not set 'init'"),
        ({"model_options": {"num_classes": 3}}, "model_options must not set 'num_classes'"),
        ({"validation_size": 10.5}, "validation_size = 10.5 is neither a fraction below 1 nor an integer number"),
        (
            {"train_size": 10.5},
            "train_size = 10.5 is neither a fraction up to 1 nor an integer number of images; nearest: 10.",
        ),
        ({"train_size": 0}, "train_size = 0 is out of range; it must be above 0"),
        ({"train_size": -5}, "train_size = -5 is out of range"),
        ({"train_size": "all"}, "train_size = 'all' has the wrong type; give a finite number."),
        ({"decay": "weight"}, "decay = 'weight' is not a choice; nearest: weights."),
        ({"budget": "gpu"}, "budget = 'gpu' is not a choice; nearest: cpu."),
        ({"normalisation": "imagnet"}, "normalisation = 'imagnet' is not a choice; nearest: imagenet."),
        ({"autoaugment_policy": "imagenet"}, "autoaugment_policy = 'imagenet' has no effect without autoaugment; set"),
        ({"max_drops": 3}, "max_drops = 3 has no effect with schedule = 'one-cycle'; set schedule = 'plateau' or"),
        ({"restore_best": True}, "restore_best = True has no effect with schedule = 'one-cycle'; set schedule ="),
        (
            {"drop_restarts": True, "stop_after": 2},
            "drop_restarts = True has no effect with schedule = 'one-cycle'; set",
        ),
        (
            {"drop_restarts": True, "schedule": "plateau"},
            "drop_restarts = True has no effect without stop_after; set stop_after or leave drop_restarts out.",
        ),
        ({"equal_is_better": True}, "equal_is_better = True has no effect without schedule = 'plateau' or stop_after;"),
        ({"lr_factor": 1.0, "schedule": "plateau"}, "lr_factor = 1.0 is out of range; it must be above 0 and below 1"),
        (
            {"ema": 0.99, "restore_best": True, "schedule": "plateau"},
            "ema = 0.99 cannot be combined with restore_best, which restores the weights and not their average; leave",
        ),
        ({"keep_dropping": True}, "keep_dropping = True has no effect with schedule = 'one-cycle'; set schedule ="),
        (
            {"augmented_validation": True, "crop": 0, "flip": False},
            "augmented_validation = True has no effect without an augmentation; set one, or leave augmented_validation",
        ),
        ({"stop_at": 1.5}, "stop_at = 1.5 is out of range; it must be at least 0 and at most 1"),
        ({"stop_after": -1}, "stop_after = -1 is out of range; it must be at least 0"),
        ({"outputs": 1.5}, "outputs = 1.5 has the wrong type; give an integer."),
        ({"budget": 1}, "budget = 1 has the wrong type; give a string in quotes."),
        ({"autoaugment": "cifar10"}, "autoaugment = 'cifar10' has the wrong type; give true or false."),
        ({"augmented_test": 1}, "augmented_test = 1 has the wrong type; give true or false."),
        ({"init": "He"}, "init = 'He' is not a choice; nearest: he."),
        ({"schedule": "step"}, "schedule = 'step' needs lr_steps"),
        (
            {"schedule": "step", "lr_steps": [99]},
            "lr_steps = 99 is out of range; it must be at least 1 and at most 10;",
        ),
        ({"lr_steps": [2]}, "lr_steps = [2] has no effect with schedule = 'one-cycle'"),
        (
            {"start": "imagenet", "model": "cnn4"},
            "start = 'imagenet' has weights only for alexnet-owt, and model is 'cnn4'; set model = 'alexnet-owt' or",
        ),
        ({"start": "image-net"}, "start = 'image-net' is not a choice; nearest: imagenet"),
        ({"body_lr": 0.1}, "body_lr = 0.1 has no effect with start = 'new', where all weights are new; set start ="),
        ({"body_lr": 2.0}, "body_lr = 2.0 is out of range; it must be at least 0 and at most 1"),
        ({"mix": "mix-up"}, "mix = 'mix-up' is not a choice; nearest: mixup"),
        ({"alternate_flip": True, "flip": False}, "alternate_flip = True has no effect with flip = False; set flip"),
        ({"first_size": 32}, "first_size = 32 is not smaller than the 32 pixels to which the images grow; give fewer"),
        ({"first_size": 24, "random_crop": True}, "first_size = 24 cannot be combined with random_crop, which does"),
        ({"resize": "squash"}, "resize = 'squash' is not a choice; nearest: "),
        (
            {"load_size": 31},
            "load_size = 31 is smaller than the 32 pixels that the network sees, so images would",
        ),
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
        ("lr = ", "is not valid TOML"),
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


def test_what_a_recipe_does_to_images():
    plain = Recipe(crop=0, flip=False)
    assert plain.augmentation == Augmentation()
    assert plain.replace(autoaugment=True).augmentation == Augmentation(autoaugment="cifar10")
    imagenet = plain.replace(autoaugment=True, autoaugment_policy="imagenet")
    assert imagenet.augmentation == Augmentation(autoaugment="imagenet")
    assert plain.replace(augmented_test=True).augmentation == Augmentation()


def test_a_run_is_called_after_recipe_budget_and_seed():
    recipe = Recipe(name="mine", seed=3)
    assert recipe.run_name == "mine-seed3"
    assert recipe.replace(budget="evening").run_name == "mine-evening-seed3"
    assert recipe.replace(budget="ablation").run_name == "mine-seed3"


# --- Budgets ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def two_budgets(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text('model = "cnn4"\nepochs = 50\nlr = 0.1\n\n[evening]\nepochs = 3\ntrain_size = 0.2\n'
                    "model_options = { lrn = true }\n")  # fmt: skip
    return path


def test_the_evening_budget_is_the_recipe_with_its_table(two_budgets):
    full, short = (Recipe.from_toml(two_budgets, budget) for budget in ("long", "evening"))
    assert full == Recipe(name="small", model="cnn4", epochs=50, lr=0.1) == Recipe.from_toml(two_budgets)
    assert short == full.replace(epochs=3, train_size=0.2, model_options={"lrn": True}, budget="evening")
    assert load_recipe(str(two_budgets), "evening") == short
    assert (full.run_name, short.run_name) == ("small-seed0", "small-evening-seed0")


@pytest.mark.parametrize("content", ['model = "cnn4"\n', 'model = "cnn4"\nevening = 3\n'])
def test_a_recipe_without_an_evening_table_has_no_evening_budget(tmp_path, content):
    path = tmp_path / "long.toml"
    path.write_text(content)
    assert Recipe.from_toml(path).epochs == Recipe().epochs
    with pytest.raises(
        CourseError, match=r"^long\.toml has no table \[evening\] with the values .* use the budget 'long'\.$"
    ):
        Recipe.from_toml(path, "evening")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("epoch = 3", "small.toml: 'epoch' is not a key of a recipe; nearest: epochs."),
        ("epochs = 0", "small.toml: epochs = 0 is out of range; it must be at least 1 and at most 10000; the nearest"),
        ("lr_steps = [2]", "small.toml: lr_steps = [2] has no effect"),
    ],
)
def test_what_is_wrong_in_an_evening_table_is_refused_with_the_file(tmp_path, table, message):
    path = tmp_path / "small.toml"
    path.write_text(f'model = "cnn4"\n[evening]\n{table}\n')
    with pytest.raises(CourseError) as caught:
        Recipe.from_toml(path, "evening")
    assert str(caught.value).startswith(message)
    assert not re.search(r"\.\s|\n", str(caught.value).removeprefix("small.toml: "))


def test_an_unknown_budget_is_refused(two_budgets):
    for name in (str(two_budgets), "vgg-style", "lenet5"):
        with pytest.raises(CourseError, match=r"budget = 'cpu' is not a choice; nearest: "):
            load_recipe(name, "cpu")


def test_a_network_without_a_recipe_has_the_defaults_in_both_budgets():
    assert load_recipe("lenet5") == Recipe(model="lenet5")
    assert load_recipe("lenet5", "evening") == Recipe(model="lenet5", budget="evening")
    assert load_recipe("vgg-style", "evening") == load_recipe("vgg-style.modern", "evening")


@pytest.mark.parametrize("name", ["ablation.vgg.base", "alexnet-2012.photos"])
def test_a_recipe_of_the_package_that_cannot_be_shortened_is_refused_in_an_evening(name):
    assert load_recipe(name).name == name
    with pytest.raises(CourseError, match=rf"^{re.escape(name)} has no table \[evening\] .* use the budget 'long'\.$"):
        load_recipe(name, "evening")


# --- The package's recipes -------------------------------------------------------------------------------------------

BEST, SMALL = "vgg-style-bn.best", {"vgg-style-bn.small", "alexnet-cifar-5x5-lrn.small"}
SETTINGS = {"": (1e-2, "plateau"), "-1e-3": (1e-3, "constant"), "-1e-4": (1e-4, "constant")}
DATA = ("", "-cifar100")
FIRST, SECOND = "alexnet-cifar-5x5-v1", ("alexnet-cifar-5x5", "alexnet-cifar-5x5-lrn")  # S3's versions
UNKNOWN = ("alexnet-d2l", "alexnet-lrn", "vgg-style", "vgg-style-bn")  # S1 and S2 do not say how they trained
LARGE = ("alexnet-d2l", "alexnet-lrn")  # on 224 pixels or so
NO_MUON = {"vgg-style.modern", BEST, *SMALL}  # in an evening
MODERN = ["alexnet-cifar-3x3", *UNKNOWN, FIRST, *SECOND]
BOTH = [(name, budget) for budget in ("long", "evening") for name in list_recipes(budget)]


def test_every_network_of_the_write_ups_has_its_recipes_and_there_is_no_other():
    expected = {f"{name}.modern" for name in MODERN} | {BEST} | SMALL
    expected |= {f"{name}.modern-cifar100" for name in (FIRST, *SECOND, "vgg-style-bn")}
    expected |= {f"{name}.plain" for name in UNKNOWN} | {"alexnet-cifar-3x3.published"}
    expected |= {f"{FIRST}.published{setting}{data}" for setting in SETTINGS for data in DATA}
    expected |= {f"{name}.published-{o}{data}" for name in SECOND for o in ("sgd", "adam") for data in DATA}
    assert set(list_recipes()) == expected


@pytest.mark.parametrize(("name", "budget"), BOTH)
def test_the_package_s_recipes_are_valid_and_say_what_they_are(name, budget):
    recipe = load_recipe(name, budget)
    assert (recipe.name, recipe.budget, recipe.seed) == (name, budget, 0)
    assert name.startswith(recipe.model + ".")
    first, second = (FOLDER / f"{name}.toml").read_text(encoding="utf-8").splitlines()[:2]
    assert re.match(r"# \w", first)
    assert len(first) > 40 or second.startswith("# ")
    assert recipe.dataset == ("cifar100" if name.endswith("cifar100") else "cifar10")
    held_out = 10_000 if "cifar-5x5" in name and ".published" in name else 5000  # S3: a fifth
    held_out = 500 if name == "alexnet-cifar-3x3.published" else held_out  # S0 held out none
    assert image_count("validation_size", recipe.validation_size, 50_000) == held_out
    assert image_count("validation_size", recipe.validation_size, TRAIN_SIZE) < TRAIN_SIZE  # so --data doodles works
    assert recipe.train_size == 1


@pytest.mark.parametrize("name", list_recipes("evening"))
def test_an_evening_is_the_same_number_of_epochs_for_every_network(name):
    long, evening = (load_recipe(name, budget) for budget in ("long", "evening"))
    assert evening.epochs == (20 if evening.model in LARGE else 30) < long.epochs
    same = ["model", "dataset", "schedule", "init", "validation_size", "train_size"]
    same += ["model_options"] * (name != BEST)
    for key in same:
        assert getattr(evening, key) == getattr(long, key)
    # Muon has been measured in an evening; the long recipe changes with its first run.
    no_muon = name.partition("-cifar100")[0] in NO_MUON
    assert (evening.optimiser, long.optimiser) == ("adamw" if no_muon else "muon", "adamw")


def test_what_others_published_is_repeated_in_full_and_ours_in_an_evening_too():
    assert {name.partition(".")[2].partition("-")[0] for name in list_recipes("evening")} == {"modern", "best", "small"}


@pytest.mark.parametrize(("name", "budget"), BOTH)
def test_the_network_of_a_recipe_is_the_published_one_and_takes_its_images(name, budget):
    recipe = load_recipe(name, budget)
    outputs = recipe.outputs or (100 if recipe.dataset == "cifar100" else 10)
    with torch.device("meta"):
        model = build_model(recipe.model, outputs, **recipe.model_options).eval()
    assert model(zeros_like_input(model, (2, 3, recipe.image_size, recipe.image_size))).shape == (2, outputs)
    count = sum(weight.numel() for weight in model.parameters())
    if outputs > 10:
        assert model.classifier[-1].weight.shape[0] == outputs
    elif name == BEST:
        assert count <= 60_000_000
    elif name in SMALL:
        assert 2 * len(torch.nn.utils.parameters_to_vector(model.state_dict().values())) < 1_000_000  # bytes of fp16
    else:
        assert count == MODELS[recipe.model].parameters
    if budget == "long":  # what the file says of it
        stated = re.findall(r"(\d+,\d{3},\d{3})\W+parameters", (FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
        assert stated in ([], [f"{count:,}"])


@pytest.mark.parametrize("recipe", for_photographs(), ids=lambda recipe: recipe.name)
def test_the_recipes_for_photographs_name_no_data_set_and_cut_what_the_network_sees_out_of_256_pixels(recipe):
    assert load_recipe(recipe.name) == recipe
    assert recipe.name == f"{recipe.model}.photos"
    assert recipe.name not in list_recipes()
    assert recipe.dataset == Recipe().dataset
    assert (recipe.load_size, recipe.random_crop, recipe.crop) == (256, True, 0)
    assert recipe.image_size in (224, 227)


def settings(name: str) -> dict[str, object]:
    return {key: value for key, value in load_recipe(name).as_dict().items() if key not in ("name", "model", "dataset")}


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("setting", SETTINGS)
def test_the_settings_of_s3_s_first_version(setting, data):
    recipe = load_recipe(f"{FIRST}.published{setting}{data}")
    assert (recipe.lr, recipe.schedule) == SETTINGS[setting]
    quoted = data and not setting  # the only run of them whose curve is known
    assert (recipe.max_drops, recipe.patience) == ((0, 3) if setting else (3, 10 if quoted else 20))
    assert (recipe.outputs, recipe.normalisation, recipe.validation_size) == (256 if data else 0, "none", 0.2)
    assert (recipe.optimiser, recipe.momentum, recipe.weight_decay, recipe.batch_size) == ("sgd", 0.9, 5e-4, 128)
    assert (recipe.epochs, recipe.stop_after, recipe.augmentation) == (3000, 41 if quoted else 101, Augmentation())
    assert (recipe.equal_is_better, recipe.drop_restarts) == (False, False)
    assert (recipe.keep_dropping, recipe.augmented_validation) == (not setting, False)


@pytest.mark.parametrize("name", SECOND)
def test_the_settings_of_s3_s_second_version(name):
    sgd, adam = (load_recipe(f"{name}.published-{optimiser}") for optimiser in ("sgd", "adam"))
    assert (sgd.optimiser, sgd.lr, sgd.momentum, sgd.weight_decay) == ("sgd", 1e-2, 0.9, 5e-4)
    assert (sgd.schedule, sgd.patience, sgd.max_drops, sgd.restore_best) == ("plateau", 15, 3, True)
    assert (adam.optimiser, adam.lr, adam.weight_decay, adam.schedule) == ("adam", 1e-4, 5e-4, "constant")
    for recipe in (sgd, adam):
        assert (recipe.normalisation, recipe.augmentation) == ("imagenet", Augmentation(flip=True))
        assert (recipe.epochs, recipe.stop_after, recipe.batch_size, recipe.validation_size) == (200, 50, 128, 0.2)
        assert (recipe.equal_is_better, recipe.drop_restarts) == (True, recipe is sgd)
        assert (recipe.augmented_validation, recipe.keep_dropping) == (True, False)
        assert settings(recipe.name) == settings(f"{recipe.name}-cifar100")


def test_s0_s_settings():
    recipe = load_recipe("alexnet-cifar-3x3.published")
    assert (recipe.optimiser, recipe.lr, recipe.momentum, recipe.weight_decay) == ("sgd", 1e-3, 0.9, 1e-4)
    assert (recipe.batch_size, recipe.decay, recipe.label_smoothing) == (32, "all", 0.0)
    assert (recipe.augmentation, recipe.normalisation) == (Augmentation(autoaugment="imagenet"), "half")
    assert (recipe.augmented_test, recipe.validation_size) == (True, 500)
    assert (recipe.schedule, recipe.epochs, recipe.stop_at) == ("constant", 300, 0.9476)


def test_s1_s_mistake_is_in_the_plain_recipe_alone():
    assert load_recipe("alexnet-d2l.plain").model_options == {"trailing_relu": True}
    assert load_recipe("alexnet-d2l.modern").model_options == {}


def test_only_the_recipe_of_s0_measures_on_augmented_test_images():
    assert [name for name in list_recipes() if load_recipe(name).augmented_test] == ["alexnet-cifar-3x3.published"]


@pytest.fixture(scope="module")
def hundred_classes():
    """A stand-in for CIFAR-100: three training images of each class, and one for the test, of its own colours."""
    generator = torch.Generator().manual_seed(0)
    names = tuple(f"class {number:02}" for number in range(100))
    planes = torch.randint(256, (100, 3, 1, 1), generator=generator, dtype=torch.uint8)

    def split(each: int) -> Dataset:
        labels = torch.arange(100 * each) % 100
        images = planes[labels].expand(-1, -1, 32, 32).clone()
        images[:, :, :8] = torch.randint(256, (100 * each, 3, 8, 32), generator=generator, dtype=torch.uint8)
        return Dataset(images, labels, names, "cifar100")

    return {"train_set": split(3), "test_set": split(1), "device": "cpu"}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "budget"), [(name, budget) for name, budget in BOTH if name.endswith("cifar100")])
def test_the_cifar100_recipes_train_on_a_stand_in(name, budget, hundred_classes):
    """One epoch of a narrow network."""
    recipe = load_recipe(name, budget)
    shorter = {"epochs": 1, "model_options": {"width": 0.125, "hidden": 32}, "batch_size": 50, "precision": "fp32"}
    run = fit(recipe.replace(**shorter), progress=False, **hundred_classes)
    record = run.record
    assert (record.dataset.name, len(record.dataset.classes), record.budget) == ("cifar100", 100, budget)
    held_out = round(300 * recipe.validation_size)
    assert (record.dataset.training_images, record.dataset.validation_images) == (300 - held_out, held_out)
    assert len(record.confusion_matrix) == len(record.confusion_matrix[0]) == 100
    guessing = torch.tensor(float(recipe.outputs or 100)).log().item()
    assert record.history[0].train_loss == pytest.approx(guessing, rel=0.1)


def test_a_file_does_not_set_its_own_budget(tmp_path):
    path = tmp_path / "short.toml"
    path.write_text('budget = "cpu"\n')
    with pytest.raises(CourseError, match=r"short\.toml: .*budget = 'cpu' cannot be set in the file"):
        Recipe.from_toml(path)
