"""A recipe: everything that decides how a run goes, in one frozen, checked object."""

from __future__ import annotations

import dataclasses
import json
import math
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alexnet_course.errors import CourseError, nearest
from alexnet_course.models import INITIALISATIONS, MODELS
from alexnet_course.optim import OPTIMISERS, SCHEDULES

if TYPE_CHECKING:
    from alexnet_course.data.augment import Augmentation

# long: what the recipe itself asks for. evening: its table [evening], the same number of epochs for every network of a
# size, so that rows compare. ablation: a reduced network on part of the pictures, one thing changed. cpu: records of
# an earlier plan, a different shortening for every recipe; none is made any more.
BUDGETS = ("long", "evening", "ablation", "cpu")
LOADABLE = BUDGETS[:2]

# Mean and standard deviation of each channel on the 0..1 scale. The default, dataset, computes them from the training
# images. imagenet: those that torchvision's weights were trained with.
NORMALISATIONS = {
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}

CHOICES: dict[str, Collection[str]] = {
    "optimiser": OPTIMISERS,
    "schedule": SCHEDULES,
    "decay": ("all", "weights"),
    "init": INITIALISATIONS,
    "precision": ("auto", "bf16", "fp16", "fp32"),
    "budget": BUDGETS,
    "normalisation": ("dataset", *NORMALISATIONS),
    "autoaugment_policy": ("cifar10", "imagenet"),
}

# (smallest, largest, is the smallest itself allowed). What lies outside is a slip of the keyboard, not an experiment.
RANGES: dict[str, tuple[float, float, bool]] = {
    "input_size": (0, 1024, True),
    "epochs": (1, 10_000, True),
    "batch_size": (1, 65_536, True),
    "lr": (0, 100, False),
    "warmup": (0, 1, True),
    "lr_factor": (0, 1, False),
    "patience": (0, 10_000, True),
    "max_drops": (0, 100, True),
    "stop_after": (0, 10_000, True),
    "outputs": (0, 65_536, True),
    "momentum": (0, 0.9999, True),
    "weight_decay": (0, 1, True),
    "label_smoothing": (0, 0.9999, True),
    "ema": (0, 0.99999, True),
    "crop": (0, 112, True),
    "cutout": (0, 224, True),
    "colour_pca": (0, 10, True),
    "seed": (0, 2**31 - 1, True),
    "validation_size": (0, 1_000_000, False),
    "train_size": (0, 1_000_000, False),
}


@dataclass(frozen=True)
class Recipe:
    """How to train one network on one data set. Unknown keys and values out of range raise ``CourseError``.

    Rates are for the mean loss over a batch. ``validation_size`` is a share of the training pictures where it is below
    1, a number of pictures otherwise; ``train_size`` is a share of the rest where it is at most 1, a number otherwise.

    >>> from alexnet_course import Recipe
    >>> recipe = Recipe(model="cnn4", epochs=3)
    >>> recipe.replace(seed=1).run_name
    'cnn4-seed1'
    >>> recipe.replace(epochs=0)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    alexnet_course.errors.CourseError: epochs = 0 is out of range; it must be at least 1 and at most 10000; ...
    """

    name: str = ""  # what the run is called; the model's name where nothing is given
    model: str = "alexnet-cifar-3x3"  # a name of list_models()
    model_options: Mapping[str, Any] = field(default_factory=dict)  # overrides of build_model, e.g. dropout
    dataset: str = "doodles"  # a spec of load_dataset
    outputs: int = (
        0  # logits of the network; 0: one for each class. S3 gave its network 256 for CIFAR-100's 100 classes
    )
    input_size: int = 0  # side in pixels that pictures are resized to; 0: what the network was made for
    epochs: int = 10
    batch_size: int = 128
    optimiser: str = "sgd"
    lr: float = 0.02  # the highest learning rate of the schedule
    schedule: str = "one-cycle"
    warmup: float = 0.25  # one-cycle: share of all steps in which the rate rises
    lr_steps: tuple[int, ...] = ()  # step: the epochs after which the rate is multiplied by lr_factor
    lr_factor: float = 0.1  # step, plateau (the paper divided by 10, section 5)
    patience: int = 3  # plateau: epochs without a better validation accuracy; one more, and the rate falls
    max_drops: int = 0  # plateau: how many times the rate may fall; 0: any number of times
    restore_best: bool = False  # plateau: go back to the weights of the best validation accuracy when the rate falls
    stop_after: int = 0  # end the run after so many epochs without a better validation accuracy; 0: never
    momentum: float = 0.9  # sgd only
    weight_decay: float = 5e-4
    decay: str = "all"  # what weight_decay applies to: all, or weights, that is neither biases nor batch norm
    label_smoothing: float = 0.0
    ema: float = 0.0  # decay a step of the moving average of the weights that is evaluated; 0: the weights as they are
    crop: int = 4  # pixels of padding before the random crop
    flip: bool = True
    cutout: int = 0  # side of the blanked square in pixels
    colour_pca: float = 0.0  # standard deviation of the colour shift; the paper's is 0.1
    normalisation: str = "dataset"  # constants of the training images, or those of NORMALISATIONS
    autoaugment: bool = False
    augment: Mapping[str, Any] = field(default_factory=dict)  # further ones of AUGMENTATIONS, each with its strength
    autoaugment_policy: str = "cifar10"  # the policy searched for CIFAR-10, or torchvision's default, ImageNet's
    augmented_test: bool = False  # measure on augmented test pictures as well, as S0 did: not comparable with others
    init: str = "default"  # PyTorch's, the paper's, or He's
    precision: str = "auto"
    seed: int = 0
    validation_size: float = 0.1
    train_size: float = 1.0
    budget: str = "long"  # of BUDGETS; a label for the record

    def __post_init__(self) -> None:
        for spec in dataclasses.fields(self):
            object.__setattr__(self, spec.name, _typed(spec.name, getattr(self, spec.name), _default(spec)))
        if self.model not in MODELS:
            raise CourseError(f"model = {self.model!r} is not a network of this course; nearest: "
                              f"{nearest(self.model, MODELS)}; one of your own has to be registered first "
                              "(register_model, --networks FILE).")  # fmt: skip
        for key, names in CHOICES.items():
            value = getattr(self, key)
            if value not in names:
                raise CourseError(f"{key} = {value!r} is not a choice; nearest: {nearest(value, names)}.")
        for key, (low, high, closed) in RANGES.items():
            _in_range(key, getattr(self, key), low, high, closed)
        if self.schedule == "step":
            if not self.lr_steps:
                raise CourseError("schedule = 'step' needs lr_steps, the epochs after which the rate falls, "
                                  f"for example [{max(1, self.epochs // 2)}].")  # fmt: skip
            for epoch in self.lr_steps:
                _in_range("lr_steps", epoch, 1, self.epochs, True)
        elif self.lr_steps:
            raise CourseError(f"lr_steps = {list(self.lr_steps)} has no effect with schedule = {self.schedule!r}; "
                              "set schedule = 'step' or leave lr_steps out.")  # fmt: skip
        if self.schedule != "plateau":
            for key, value in (("max_drops", self.max_drops), ("restore_best", self.restore_best)):
                if value:
                    raise CourseError(f"{key} = {value!r} has no effect with schedule = {self.schedule!r}; set "
                                      f"schedule = 'plateau' or leave {key} out.")  # fmt: skip
        if self.autoaugment_policy != "cifar10" and not self.autoaugment:
            raise CourseError(f"autoaugment_policy = {self.autoaugment_policy!r} has no effect without autoaugment; "
                              "set autoaugment = true or leave autoaugment_policy out.")  # fmt: skip
        if self.validation_size >= 1 and self.validation_size != int(self.validation_size):
            raise CourseError(f"validation_size = {self.validation_size} is neither a share below 1 nor a whole "
                              f"number of pictures; nearest: {round(self.validation_size)}.")  # fmt: skip
        if self.train_size > 1 and self.train_size != int(self.train_size):
            raise CourseError(f"train_size = {self.train_size} is neither a share up to 1 nor a whole number of "
                              f"pictures; nearest: {round(self.train_size)}.")  # fmt: skip
        for key in ("init", "in_channels"):
            if key in self.model_options:
                raise CourseError(f"model_options must not set {key!r}, which the recipe's own init and the data set "
                                  "decide; leave it out.")  # fmt: skip
        if not self.name:
            object.__setattr__(self, "name", self.model)

    @property
    def augmentation(self) -> Augmentation:
        from alexnet_course.data.augment import Augmentation  # here, because it imports PyTorch

        return Augmentation(
            crop=self.crop,
            flip=self.flip,
            cutout=self.cutout,
            colour_pca=self.colour_pca,
            autoaugment=self.autoaugment_policy if self.autoaugment else "",
            others=self.augment,
        )

    @property
    def picture_size(self) -> int:
        """Side in pixels of the pictures that the network sees."""
        return self.input_size or MODELS[self.model].input_size[1]

    @property
    def run_name(self) -> str:
        """What a run of this recipe is called: the recipe's name, ``-evening`` where it has that budget, and the
        seed."""
        budget = f"-{self.budget}" if self.budget in ("evening", "cpu") else ""
        return f"{self.name}{budget}-seed{self.seed}"

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that name what is done, whatever the seed: two recipes with the same train alike."""
        values = {key: value for key, value in self.as_dict().items() if key != "seed"}
        return blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=8).hexdigest()

    def replace(self, **changes: Any) -> Recipe:
        """A copy with some values changed, checked like any other recipe."""
        return Recipe.from_dict({**self.as_dict(), **changes})

    def as_dict(self) -> dict[str, Any]:
        """Every value, in the types that JSON and TOML have."""
        values = {spec.name: getattr(self, spec.name) for spec in dataclasses.fields(self)}
        return {
            **values,
            "model_options": dict(self.model_options),
            "augment": dict(self.augment),
            "lr_steps": list(self.lr_steps),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        known = [spec.name for spec in dataclasses.fields(cls)]
        for key in values:
            if key not in known:
                raise CourseError(f"{key!r} is not a key of a recipe; nearest: {nearest(key, known)}.")
        return cls(**values)

    @classmethod
    def from_toml(cls, path: str | Path, budget: str = "long") -> Recipe:
        """Read a recipe from a TOML file; the file's name is the recipe's, unless it sets ``name``.

        A table ``[evening]`` in the file says what is different with ``budget="evening"``.
        """
        path = Path(path)
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise CourseError(f"There is no recipe file {str(path)!r}; give the path of a TOML file.") from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise CourseError(f"{str(path)!r} cannot be read as a TOML file ({error}); mend it there.") from None
        if "budget" in values:
            raise CourseError(f"{path.name}: budget = {values['budget']!r} is not for the file to say; put what is "
                              "different in an evening into a table [evening].")  # fmt: skip
        check_budget(budget)
        evening = values.pop("evening", None)
        if budget == "evening":
            if not isinstance(evening, dict):
                raise CourseError(f"{path.name} has no table [evening], which says what is different in a run of "
                                  "that budget; add one, or use the budget 'long'.")  # fmt: skip
            values |= evening
        try:
            return cls.from_dict({"name": path.stem, **values, "budget": budget})
        except CourseError as error:
            raise CourseError(f"{path.name}: {error}") from None


def check_budget(budget: str) -> None:
    """``CourseError`` for a budget that no recipe can be loaded with."""
    if budget not in LOADABLE:
        raise CourseError(f"budget = {budget!r} is not a choice; nearest: {nearest(budget, LOADABLE)}.")


def _default(spec: dataclasses.Field[Any]) -> Any:
    return spec.default if spec.default is not dataclasses.MISSING else {}


def _typed(key: str, value: Any, default: Any) -> Any:
    """``value`` in the type of the key's default, where that loses nothing."""
    if isinstance(default, bool) or isinstance(value, bool):
        fits = isinstance(default, bool) and isinstance(value, bool)
        wanted = "true or false" if isinstance(default, bool) else f"a value like {default!r}"
    elif isinstance(default, int):
        fits, wanted = isinstance(value, int), "a whole number"
    elif isinstance(default, float):
        fits, wanted = isinstance(value, int | float) and math.isfinite(value), "a finite number"
        value = float(value) if fits else value
    elif isinstance(default, str):
        fits, wanted = isinstance(value, str), "a text in quotes"
    elif isinstance(default, tuple):
        fits = isinstance(value, list | tuple) and all(isinstance(v, int) and not isinstance(v, bool) for v in value)
        wanted = "a list of whole numbers"
        value = tuple(value) if fits else value
    else:
        fits = isinstance(value, Mapping) and all(isinstance(v, str | int | float | bool) for v in value.values())
        wanted = "a table of options such as {dropout = 0.5}"
        value = dict(value) if fits else value
    if not fits:
        raise CourseError(f"{key} = {value!r} is of the wrong kind; give {wanted}.")
    return value


def _in_range(key: str, value: float, low: float, high: float, closed: bool) -> None:
    if (low <= value if closed else low < value) and value <= high:
        return
    near = min(max(value, low), high)
    hint = f"; the nearest that works is {near}" if closed or near != low else ""
    raise CourseError(f"{key} = {value} is out of range; it must be {'at least' if closed else 'above'} {low} "
                      f"and at most {high}{hint}.")  # fmt: skip
