"""Measure on CIFAR-10 what each mistake of the chapter "Mistakes seen in the wild" costs, and keep it in the package.

python -m benchmarks.mistakes folder:data/cifar10

Mistakes in measuring: the weights that come with the package, evaluated rightly and wrongly. Mistakes in training: a
small network, trained with and without the mistake for each of three seeds. One thread, several minutes.
"""

import argparse
import copy
import json
import sys
from collections.abc import Callable
from dataclasses import asdict

import torch
from torch import Tensor, nn

from alexnet_course import Recipe, evaluate, load_dataset, load_pretrained, train
from alexnet_course.data import Dataset
from alexnet_course.data.augment import Augmentation
from alexnet_course.data.batches import BatchLoader
from alexnet_course.files import write_text
from alexnet_course.results.compare import mcnemar
from alexnet_course.results.mistakes import (
    MISTAKES_FILE,
    Mistake,
    divide_alpha,
    drop_before_norms,
    relu_on_logits,
)
from alexnet_course.training.evaluation import evaluate_batches
from alexnet_course.training.finished import environment
from benchmarks.command import run

WEIGHTS = "vgg-style-bn.small"
SEEDS = (0, 1, 2)
DRAWS = range(10)
SMALL = {"width": 0.125, "hidden": 64, "batch_norm": True, "dropout": 0.0}
RECIPE = Recipe(
    name="mistakes", model="alexnet-cifar-3x3", model_options=SMALL, dataset="cifar10", epochs=5, batch_size=64,
    optimiser="adamw", lr=0.005, weight_decay=0.05, decay="weights", init="he", crop=0, flip=False,
    validation_size=1000, train_size=5000, precision="fp32",
)  # fmt: skip
Change = Callable[[nn.Module], object]


def in_measuring(test_set: Dataset) -> tuple[float, list[Mistake]]:
    """The accuracy of the package's weights in per cent, and what wrong evaluations make of it."""
    model, record = load_pretrained(WEIGHTS)
    data, recipe = record.dataset, record.recipe
    ours = {"mean": data.mean, "std": data.std}
    result = evaluate(model, test_set, **ours)
    right, told = 100 * result.accuracy, result.predictions == test_set.labels
    rows = []

    def by_image(name: str, how: str, wrong: Tensor) -> None:
        tested = mcnemar(told.numpy(), wrong.numpy())
        rows.append(Mistake(name, how, "measuring", (right,), (right + tested.points,), tested.chance))

    pixels = test_set.images.double() / 255
    per_image = tuple(pixels.std((2, 3)).mean(0).tolist())
    constants = {
        "ImageNet's": {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
        "averaged std": {"mean": data.mean, "std": per_image},
        "none at all": {"mean": (0.0,) * 3, "std": (1.0,) * 3},
    }
    for how, wrong in constants.items():
        by_image("wrong constants", how, evaluate(model, test_set, **wrong).predictions == test_set.labels)

    changes = Augmentation(crop=recipe.crop, flip=recipe.flip)
    drawn = []
    for seed in DRAWS:
        torch.manual_seed(seed)
        loader = BatchLoader(test_set, 500, augmentation=changes, **ours)
        drawn.append(100 * evaluate_batches(model, loader, test_set.classes, "fp32").accuracy)
    rows.append(Mistake("augmented test images", "shifts and mirror images", "measuring",
                        (right,) * len(drawn), tuple(drawn)))  # fmt: skip

    shuffled = torch.randperm(len(test_set), generator=torch.Generator().manual_seed(0))
    by_class = test_set.labels.argsort(stable=True)
    for how, order, size in (("500, shuffled", shuffled, 500), ("5, shuffled", shuffled, 5),
                             ("500, by class", by_class, 500)):  # fmt: skip
        left = copy.deepcopy(model).train()
        with torch.no_grad():
            batches = BatchLoader(test_set.subset(order), size, **ours)
            answers = torch.cat([left(images).argmax(1) == labels for images, labels in batches])
        in_order = torch.empty_like(answers)
        in_order[order] = answers
        by_image("forgetting eval()", f"batches of {how}", in_order)
        after = evaluate(left, test_set, **ours).predictions == test_set.labels
        by_image("forgetting eval()", f"afterwards, from {how}", after)

    for size in (64, 128, 256):
        means = []
        for seed in DRAWS:
            order = torch.randperm(len(told), generator=torch.Generator().manual_seed(seed))
            parts = told[order].double().split(size)
            means.append(100 * sum(part.mean().item() for part in parts) / len(parts))
        rows.append(Mistake("averaging batch accuracies", f"batches of {size}", "measuring",
                            (right,) * len(means), tuple(means)))  # fmt: skip
    return right, rows


def in_training(train_set: Dataset, test_set: Dataset) -> list[Mistake]:
    """Each mistake in training, three seeds with it and three without."""

    def accuracies(mistake: Change | None = None, lrn: bool = False, **changes: object) -> tuple[float, ...]:
        found = []
        for seed in SEEDS:
            recipe = RECIPE.replace(seed=seed, model_options={**SMALL, "lrn": lrn}, **changes)
            run = train(recipe, train_set=train_set, test_set=test_set, device="cpu")
            if mistake is not None:
                mistake(run.model)
            list(run)
            assert run.record is not None
            found.append(100 * run.record.test_accuracy)
        print(mistake.__name__ if mistake else changes or "right", *(f"{value:.2f}" for value in found), flush=True)
        return tuple(found)

    right, with_lrn = accuracies(), accuracies(lrn=True)
    rows = [
        ("ReLU on the logits", "after the last layer", right, accuracies(relu_on_logits)),
        ("PyTorch's α", "in two layers", with_lrn, accuracies(divide_alpha, lrn=True)),
        ("dropout before batch norm", "0.2, against none", right, accuracies(drop_before_norms)),
        ("weight decay on everything", "0.05", right, accuracies(decay="all")),
        ("workers with one seed", "each image four times", right,
         accuracies(train_size=RECIPE.train_size // 4, epochs=4 * RECIPE.epochs)),
    ]  # fmt: skip
    return [Mistake(name, how, "training", before, after) for name, how, before, after in rows]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mistakes", description=__doc__.splitlines()[0])
    parser.add_argument("data", metavar="SPEC", help="CIFAR-10, as in folder:data/cifar10")
    data = parser.parse_args().data
    torch.set_num_threads(1)
    train_set, test_set = load_dataset(data, "train"), load_dataset(data, "test")
    accuracy, rows = in_measuring(test_set)
    for row in rows:
        print(f"{row.name}, {row.how}: {row.points:+.2f}", flush=True)
    rows += in_training(train_set, test_set)
    content = {
        "weights": WEIGHTS,
        "accuracy": accuracy,
        "dataset": "cifar10",
        "test_fingerprint": test_set.fingerprint,
        "recipe": RECIPE.model_dump(mode="json", exclude_unset=True, exclude={"seed"}),
        "environment": environment(torch.device("cpu"), "fp32", {}),
        "rows": [asdict(row) for row in rows],
    }
    write_text(MISTAKES_FILE, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    print(f"{MISTAKES_FILE.name} is written")


if __name__ == "__main__":
    sys.exit(run(main, "mistakes"))
