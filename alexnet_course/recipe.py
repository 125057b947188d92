"""A recipe: everything that determines a training run, in one immutable, validated object."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeAlias

from pydantic import AfterValidator, ConfigDict, Field, PlainValidator, Strict, model_validator

from alexnet_course.checked import Checked, follows, one_of, out_of_range, wrong
from alexnet_course.errors import CourseError, nearest
from alexnet_course.files import expanded, read_text
from alexnet_course.models import INITIALISATIONS, MODELS
from alexnet_course.names import same_form, wrong_with_file_name, wrong_with_name
from alexnet_course.optim import OPTIMISERS, SCHEDULES

if TYPE_CHECKING:
    from alexnet_course.data import Dataset
    from alexnet_course.data.augment import Augmentation

# long: the recipe as it is. evening: with its table [evening], the same number of epochs for all networks of a size, so
# that results are comparable. ablation: a reduced network on part of the images, with one thing changed. cpu: records
# of an earlier plan, which shortened each recipe differently; no new ones are made.
BUDGETS = ("long", "evening", "ablation", "cpu")
LOADABLE = BUDGETS[:2]

# Mean and standard deviation of each channel on the 0..1 scale. The default, dataset, computes them from the training
# images. imagenet: the constants that torchvision's weights were trained with.
NORMALISATIONS = {
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}

# mixup: a weighted mean of two images (Zhang et al. 2018). cutmix: a rectangle of the other one (Yun et al. 2019).
MIXES = ("none", "mixup", "cutmix")

STARTS = ("new", "imagenet")
GROWING = 0.75  # share of a run's epochs over which the training images grow
IMAGENET_MODEL = "alexnet-owt"  # has the layers and names of torchvision's AlexNet

# Upper bounds of values. A larger value is a typing error, not an experiment.
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
BelowOne: TypeAlias = Annotated[float, Field(ge=0, le=0.9999)]
ShareOrCount: TypeAlias = Annotated[float, Field(gt=0, le=1_000_000)]
Epochs: TypeAlias = Annotated[int, Field(ge=0, le=10_000)]


def _network(value: str) -> str:
    if value not in MODELS:
        raise wrong(f"is not a network of this course; nearest: {nearest(value, MODELS)}; register a network of your "
                    "own first (register_model, --networks FILE)")  # fmt: skip
    return value


def _options(value: Any) -> dict[str, Any]:
    fits = isinstance(value, Mapping) and all(isinstance(key, str) for key in value)
    if not fits or not all(isinstance(option, str | int | float) for option in value.values()):
        raise wrong("has the wrong type; give a table of options such as {dropout = 0.5}")
    return dict(value)


class Recipe(Checked):
    """How to train one network on one data set. Unknown keys and values out of range raise ``CourseError``.

    Learning rates are for the mean loss over a batch. ``validation_size`` is a fraction of the training images if it is
    below 1, otherwise a number of images; ``train_size`` is a fraction of the rest if it is at most 1, otherwise a
    number of images.

    >>> from alexnet_course import Recipe
    >>> recipe = Recipe(model="cnn4", epochs=3)
    >>> recipe.replace(seed=1).run_name
    'cnn4-seed1'
    >>> recipe.replace(epochs=0)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    alexnet_course.errors.CourseError: epochs = 0 is out of range; it must be at least 1 and at most 10000; ...
    """

    # Strict types: neither True nor "3" is a number here; an integer is accepted as a float.
    model_config = ConfigDict(strict=True)
    called = "a recipe"

    # The name of the run; by default, the model's.
    name: Annotated[str, AfterValidator(same_form), follows(wrong_with_file_name, empty=True)] = ""
    model: Annotated[str, AfterValidator(_network)] = "alexnet-cifar-3x3"  # a name of list_models()
    # Arguments of build_model, e.g. dropout.
    model_options: Annotated[Mapping[str, Any], PlainValidator(_options)] = Field(default_factory=dict)
    # A spec of load_dataset; a path in it is taken literally.
    dataset: Annotated[str, follows(wrong_with_name)] = "doodles"
    # Logits of the network; 0: one for each class. S3's network has 256 for CIFAR-100's 100 classes.
    outputs: Annotated[int, Field(ge=0, le=65_536)] = 0
    # Side in pixels that images are resized to; 0: the network's own.
    input_size: Annotated[int, Field(ge=0, le=1024)] = 0
    # Side that images of a folder are resized to if their sizes differ; 0: that of the network's input.
    load_size: Annotated[int, Field(ge=0, le=4096)] = 0
    # How: crop to the centre, or pad with black.
    resize: Annotated[str, one_of(("crop", "pad"))] = "crop"
    epochs: Annotated[int, Field(ge=1, le=10_000)] = 10
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 128
    optimiser: Annotated[str, one_of(OPTIMISERS)] = "sgd"
    lr: Annotated[float, Field(gt=0, le=100)] = 0.02  # the highest learning rate of the schedule
    # Fine-tuning: the learning rate of the weights loaded by start, as a fraction of lr, the rate of the new ones.
    body_lr: Share = 1.0
    schedule: Annotated[str, one_of(SCHEDULES)] = "one-cycle"
    warmup: Share = 0.25  # one-cycle: fraction of all steps in which the rate rises
    # Step: the epochs after which the rate is multiplied by lr_factor.
    lr_steps: Annotated[tuple[int, ...], Strict(False)] = ()
    lr_factor: Annotated[float, Field(gt=0, lt=1)] = 0.1  # step, plateau (the paper divided by 10, section 5)
    patience: Epochs = 3  # plateau: epochs without a better validation accuracy before the next one lowers the rate
    # Plateau: how many times the rate may fall; 0: any number of times.
    max_drops: Annotated[int, Field(ge=0, le=100)] = 0
    # Plateau: after the rate has fallen, each further epoch without a better accuracy lowers it again.
    keep_dropping: bool = False
    restore_best: bool = False  # plateau: go back to the weights of the best validation accuracy when the rate falls
    stop_after: Epochs = 0  # end the run after this many epochs without a better validation accuracy; 0: never
    stop_at: Share = 0.0  # end the run after the first epoch with this training accuracy; 0: never
    drop_restarts: bool = False  # plateau: the epochs of stop_after are counted anew when the rate falls
    # patience, restore_best and stop_after: whether an accuracy that equals the best one counts as a better one.
    equal_is_better: bool = False
    momentum: BelowOne = 0.9  # sgd and muon only
    weight_decay: Share = 5e-4
    # What weight_decay applies to: all, or weights, that is neither biases nor batch norm.
    decay: Annotated[str, one_of(("all", "weights"))] = "all"
    label_smoothing: BelowOne = 0.0
    # Decay per step of the moving average of the weights that is evaluated; 0: no averaging.
    ema: Annotated[float, Field(ge=0, le=0.99999)] = 0.0
    crop: Annotated[int, Field(ge=0, le=112)] = 4  # pixels of padding before the random crop
    # Crop images larger than the network's input, at random in training and at the centre otherwise, instead of
    # resizing them; the paper's section 4.1 crops 224 pixels of 256.
    random_crop: bool = False
    flip: bool = True
    # Mirror an image in every other epoch, half of the images in the odd ones, instead of drawing anew in each epoch.
    alternate_flip: bool = False
    cutout: Annotated[int, Field(ge=0, le=224)] = 0  # side of the blanked square in pixels
    # Combine each image with another one of its batch, and their labels: MIXES. The training accuracy then counts hits
    # of the label with the larger share.
    mix: Annotated[str, one_of(MIXES)] = "none"
    # Side in pixels of the training images in the first epoch; it grows to the full one in three quarters of the run.
    # 0: the full size throughout.
    first_size: Annotated[int, Field(ge=0, le=1024)] = 0
    colour_pca: Annotated[float, Field(ge=0, le=10)] = 0.0  # standard deviation of the colour shift; the paper's is 0.1
    # Computed from the training images, or one of NORMALISATIONS.
    normalisation: Annotated[str, one_of(("dataset", *NORMALISATIONS))] = "dataset"
    autoaugment: bool = False
    # More of AUGMENTATIONS, each with its strength.
    augment: Annotated[Mapping[str, Any], PlainValidator(_options)] = Field(default_factory=dict)
    # The policy searched for CIFAR-10, or torchvision's default, ImageNet's.
    autoaugment_policy: Annotated[str, one_of(("cifar10", "imagenet"))] = "cifar10"
    augmented_test: bool = False  # measure on augmented test images as well, as S0 did: not comparable with others
    # Augment the validation images, too, as S3's second version did: a schedule and stop_after then follow a noisier
    # accuracy. With alternate_flip, these images are mirrored at random.
    augmented_validation: bool = False
    init: Annotated[str, one_of(INITIALISATIONS)] = "default"  # PyTorch's, the paper's, or He's
    # What training starts from: new weights, or torchvision's for alexnet-owt, trained on ImageNet's 1,000 classes
    # (use normalisation = "imagenet" with them), with a new last layer.
    start: Annotated[str, one_of(STARTS)] = "new"
    precision: Annotated[str, one_of(("auto", "bf16", "fp16", "fp32"))] = "auto"
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    validation_size: ShareOrCount = 0.1
    train_size: ShareOrCount = 1.0
    budget: Annotated[str, one_of(BUDGETS)] = "long"  # of BUDGETS; a label for the record

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if self.schedule == "step":
            if not self.lr_steps:
                raise CourseError("schedule = 'step' needs lr_steps, the epochs after which the rate falls, "
                                  f"for example [{max(1, self.epochs // 2)}].")  # fmt: skip
            for epoch in self.lr_steps:
                if not 1 <= epoch <= self.epochs:
                    raise CourseError(f"lr_steps = {epoch} {out_of_range(epoch, {'ge': 1, 'le': self.epochs})}.")
        elif self.lr_steps:
            raise CourseError(f"lr_steps = {list(self.lr_steps)} has no effect with schedule = {self.schedule!r}; "
                              "set schedule = 'step' or leave lr_steps out.")  # fmt: skip
        if self.schedule != "plateau":
            for key in ("max_drops", "keep_dropping", "restore_best", "drop_restarts"):
                if value := getattr(self, key):
                    raise CourseError(f"{key} = {value!r} has no effect with schedule = {self.schedule!r}; set "
                                      f"schedule = 'plateau' or leave {key} out.")  # fmt: skip
        if self.ema and self.restore_best:
            raise CourseError(f"ema = {self.ema} cannot be combined with restore_best, which restores the weights and "
                              "not their average; leave one of the two out.")  # fmt: skip
        if self.drop_restarts and not self.stop_after:
            raise CourseError("drop_restarts = True has no effect without stop_after; set stop_after or leave "
                              "drop_restarts out.")  # fmt: skip
        if self.equal_is_better and self.schedule != "plateau" and not self.stop_after:
            raise CourseError("equal_is_better = True has no effect without schedule = 'plateau' or stop_after; set "
                              "one of them or leave equal_is_better out.")  # fmt: skip
        if self.autoaugment_policy != "cifar10" and not self.autoaugment:
            raise CourseError(f"autoaugment_policy = {self.autoaugment_policy!r} has no effect without autoaugment; "
                              "set autoaugment = true or leave autoaugment_policy out.")  # fmt: skip
        changes = (self.crop, self.random_crop, self.flip, self.cutout, self.colour_pca, self.autoaugment, self.augment)
        if self.augmented_validation and not any(changes):
            raise CourseError("augmented_validation = True has no effect without an augmentation; set one, or leave "
                              "augmented_validation out.")  # fmt: skip
        if self.alternate_flip and not self.flip:
            raise CourseError("alternate_flip = True has no effect with flip = False; set flip = true or leave "
                              "alternate_flip out.")  # fmt: skip
        if self.first_size and not self.first_size < self.image_size:
            raise CourseError(f"first_size = {self.first_size} is not smaller than the {self.image_size} pixels to "
                              "which the images grow; give fewer, or leave first_size out.")  # fmt: skip
        if self.first_size and self.random_crop:
            raise CourseError(f"first_size = {self.first_size} cannot be combined with random_crop, which does not "
                              "resize images; leave one of the two out.")  # fmt: skip
        if self.start == "imagenet" and self.model != IMAGENET_MODEL:
            raise CourseError(f"start = 'imagenet' has weights only for {IMAGENET_MODEL}, and model is "
                              f"{self.model!r}; set model = {IMAGENET_MODEL!r} or leave start out.")  # fmt: skip
        if self.body_lr != 1 and self.start == "new":
            raise CourseError(f"body_lr = {self.body_lr} has no effect with start = 'new', where all weights are new; "
                              "set start = 'imagenet' or leave body_lr out.")  # fmt: skip
        if 0 < self.load_size < self.image_size:
            raise CourseError(f"load_size = {self.load_size} is smaller than the {self.image_size} pixels that the "
                              "network sees, so images would lose detail; leave load_size out, or give at least "
                              f"{self.image_size}.")  # fmt: skip
        if self.validation_size >= 1 and self.validation_size != int(self.validation_size):
            raise CourseError(f"validation_size = {self.validation_size} is neither a fraction below 1 nor an integer "
                              f"number of images; nearest: {round(self.validation_size)}.")  # fmt: skip
        if self.train_size > 1 and self.train_size != int(self.train_size):
            raise CourseError(f"train_size = {self.train_size} is neither a fraction up to 1 nor an integer number of "
                              f"images; nearest: {round(self.train_size)}.")  # fmt: skip
        for key in ("init", "in_channels", "num_classes"):
            if key in self.model_options:
                raise CourseError(f"model_options must not set {key!r}, which is determined by the recipe's init, its "
                                  "outputs or the data set; leave it out.")  # fmt: skip
        if not self.name:
            object.__setattr__(self, "name", self.model)
        return self

    @property
    def augmentation(self) -> Augmentation:
        from alexnet_course.data.augment import Augmentation  # here, because it imports PyTorch

        return Augmentation(
            crop=self.crop,
            flip=self.flip,
            alternate=self.alternate_flip,
            cutout=self.cutout,
            colour_pca=self.colour_pca,
            autoaugment=self.autoaugment_policy if self.autoaugment else "",
            others=self.augment,
        )

    @property
    def image_size(self) -> int:
        """Side in pixels of the images that the network sees."""
        return self.input_size or MODELS[self.model].input_size[1]

    def training_size(self, epoch: int) -> int:
        """Side in pixels of the training images in ``epoch``, from 1.

        >>> from alexnet_course import Recipe
        >>> recipe = Recipe(model="cnn4", input_size=32, first_size=24, epochs=8)
        >>> [recipe.training_size(epoch) for epoch in range(1, 9)]
        [24, 25, 27, 28, 29, 31, 32, 32]
        """
        if not self.first_size:
            return self.image_size
        share = min(1.0, (epoch - 1) / (GROWING * self.epochs))
        return self.first_size + round(share * (self.image_size - self.first_size))

    def images(self, split: str, spec: str | None = None, side: int | None = None) -> Dataset:
        """A split of the recipe's data set, or of ``spec``. Images of different sizes become squares of ``side``
        pixels, by default ``loaded_size`` (``load_dataset``)."""
        from alexnet_course.data import load_dataset  # here, because it imports PyTorch

        return load_dataset(spec or self.dataset, split, size=side or self.loaded_size, resize=self.resize)

    def both(self, spec: str | None = None) -> tuple[Dataset, Dataset]:
        """The training and the test images; if these have different sizes, they come to the side of the former."""
        from alexnet_course.data.sources import LARGEST  # here, because it imports PyTorch

        train_set = self.images("train", spec)
        side = train_set.side and min(train_set.side, LARGEST)
        return train_set, self.images("test", spec, side)

    @property
    def loaded_size(self) -> int:
        """Side in pixels of the squares that photographs of different sizes become before they are cropped."""
        return self.load_size or self.image_size

    @property
    def run_name(self) -> str:
        """The name of a run of this recipe: the recipe's name, ``-evening`` if that is its budget, and the seed."""
        budget = f"-{self.budget}" if self.budget in ("evening", "cpu") else ""
        return f"{self.name}{budget}-seed{self.seed}"

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that identify the recipe without its seed: equal fingerprints mean equal training."""
        values = {key: value for key, value in self.as_dict().items() if key != "seed"}
        return blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=8).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """Every value, in types that JSON and TOML support."""
        return self.model_dump(mode="json")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        return cls(**values)

    @classmethod
    def from_toml(cls, path: str | Path, budget: str = "long") -> Recipe:
        """Read a recipe from a TOML file; the file's name is the recipe's, unless it sets ``name``.

        A table ``[evening]`` in the file has the values that differ with ``budget="evening"``.
        """
        path = expanded(path)
        try:
            values = tomllib.loads(read_text(path))
        except FileNotFoundError:
            raise CourseError(f"There is no recipe file {str(path)!r}; give the path of a TOML file.") from None
        except UnicodeDecodeError as error:
            raise CourseError(f"{str(path)!r} is not a text file in UTF-8 ({error}); save it as one.") from None
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise CourseError(f"{str(path)!r} is not valid TOML ({error}); correct it there.") from None
        if "budget" in values:
            raise CourseError(f"{path.name}: budget = {values['budget']!r} cannot be set in the file; put the values "
                              "that differ in a table [evening].")  # fmt: skip
        check_budget(budget)
        evening = values.pop("evening", None)
        if budget == "evening":
            if not isinstance(evening, dict):
                raise without_evening(path.name)
            values |= evening
        try:
            return cls.from_dict({"name": path.stem, **values, "budget": budget})
        except CourseError as error:
            raise CourseError(f"{path.name}: {error}") from None


def check_budget(budget: str) -> None:
    """``CourseError`` unless recipes can be loaded with this budget."""
    if budget not in LOADABLE:
        raise CourseError(f"budget = {budget!r} is not a choice; nearest: {nearest(budget, LOADABLE)}.")


def without_evening(name: str) -> CourseError:
    return CourseError(f"{name} has no table [evening] with the values that differ in a run of that budget; add one, "
                       "or use the budget 'long'.")  # fmt: skip
