"""``alexnet-course train`` and ``resume``."""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alexnet_course.cli.common import (
    Commands,
    add_command,
    add_networks,
    check_images_are_there,
    free_folder,
    is_main_process,
    moved_images,
    removed_if_empty,
    with_interval,
)
from alexnet_course.errors import CourseError
from alexnet_course.files import expanded, shown
from alexnet_course.records import RECORD
from alexnet_course.terminal import say

if TYPE_CHECKING:
    from alexnet_course.recipe import Recipe
    from alexnet_course.training import Run


ON_SEVERAL_GPUS = """on several GPUs, here 4, each of which computes a part of every batch:
  torchrun --nproc-per-node 4 -m alexnet_course train alexnet-cifar-3x3"""


def add(commands: Commands) -> None:
    sub = add_command(
        commands,
        "train",
        train_command,
        "train a network and save its weights and a record",
        "train alexnet-cifar-3x3 --data folder:data/cifar10 --epochs 5 --set label_smoothing=0.1",
    )
    sub.epilog = f"{sub.epilog}\n\n{ON_SEVERAL_GPUS}"
    sub.add_argument("name", metavar="NAME", help="a recipe, a TOML file, or a network (its default recipe)")
    sub.add_argument("--data", dest="dataset", metavar="SPEC", help="train on this data set instead of the recipe's")
    sub.add_argument("--budget", default="long", metavar="B", help="long, or evening (the recipe's table of that name)")
    sub.add_argument("--epochs", type=int, metavar="N")
    sub.add_argument("--batch-size", type=int, metavar="N")
    sub.add_argument("--lr", type=float, metavar="X", help="highest learning rate")
    sub.add_argument("--seed", type=int, metavar="S")
    sub.add_argument("--precision", metavar="P", help="auto, bf16, fp16 or fp32")
    sub.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any other key of the recipe")
    sub.add_argument(
        "--out", metavar="DIR", help="folder of the run; resumes an interrupted run (default: runs/NAME-seedS)"
    )
    sub.add_argument("--deterministic", action="store_true", help="on a GPU, use only deterministic kernels")
    sub.add_argument("--compile", action="store_true", help="run the network through torch.compile")
    sub.add_argument("--graph", action="store_true", help="on a GPU, launch each step as one CUDA graph")
    sub.add_argument("--half-weights", action="store_true", help="cast all weights to bf16 or fp16 at once")
    sub.add_argument("--epoch-at-once", action="store_true", help="augment the images of a whole epoch at once")
    sub.add_argument("--compiled-pools", action="store_true", help="run the max pools through torch.compile")
    add_run_options(sub)

    example = "resume runs/cnn4-seed0"
    sub = add_command(commands, "resume", resume_command, "resume an interrupted run", example)
    sub.add_argument("run", metavar="RUN", help="the folder of the run")
    sub.add_argument("--data", metavar="SPEC", help="where the images are now, if they were moved")
    sub.add_argument("--plain", action="store_true", help="without the speed-ups it was started with, such as --graph")
    add_run_options(sub)


def add_run_options(sub: argparse.ArgumentParser) -> None:
    """Add the options that may change when a run is resumed."""
    sub.add_argument("--device", default="auto", metavar="D", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    sub.add_argument("--checkpoint-steps", type=int, default=0, metavar="N", help="save every N steps, not only epochs")
    sub.add_argument(
        "--checkpoint-seconds",
        type=float,
        metavar="X",
        help="save after an epoch if the last save is at least X seconds ago; 0: after every epoch (default: so often "
        "that saving takes at most a twentieth of the time)",
    )
    sub.add_argument("--tensorboard", action="store_true", help="also write the learning curves for TensorBoard")
    add_networks(sub)


def train_command(options: argparse.Namespace) -> None:
    settings = parse_settings(options.set)  # before the imports, which take a while
    from alexnet_course.recipes import load_recipe

    recipe = load_recipe(options.name, options.budget)
    given = ("dataset", "epochs", "batch_size", "lr", "seed", "precision")
    changes = {key: getattr(options, key) for key in given if getattr(options, key) is not None}
    recipe = recipe.replace(**{**changes, **settings})

    from alexnet_course.training import train
    from alexnet_course.training.parallel import join_group
    from alexnet_course.watching import summary_writer

    recipe, images = under_its_own_name(recipe)
    if options.tensorboard:
        summary_writer()  # fail before the folder is created if TensorBoard is missing
    new = Path("runs") / recipe.run_name
    folder = expanded(options.out) if options.out else join_group().on_main(lambda: free_folder(new))
    with removed_if_empty(None if options.out else folder):
        run = train(
            recipe,
            device=options.device,
            out=folder,
            **checkpoints(options),
            deterministic=options.deterministic,
            compile=options.compile,
            graph=options.graph,
            half_weights=options.half_weights,
            epoch_at_once=options.epoch_at_once,
            compiled_pools=options.compiled_pools,
            **images,
        )
    finish(run, options)


def under_its_own_name(recipe: Recipe) -> tuple[Recipe, dict[str, Any]]:
    """``recipe``, renamed NAME-changed if it differs from the package's recipe of that name, so that its record can
    appear next to the package's. Also the images, as arguments for the run, if they had to be loaded."""
    from alexnet_course.data.fingerprints import name_of_both
    from alexnet_course.records.check import changes
    from alexnet_course.training.parallel import join_group

    images: dict[str, Any] = {}
    changed = changes(recipe, recipe.dataset)
    if changed == ["dataset"]:  # perhaps the published images in another folder
        images = join_group().main_first(lambda: moved_images(recipe, recipe.dataset))
        changed = changes(recipe, name_of_both(images["train_set"].name, images["test_set"].name))
    if not changed:
        return recipe, images
    name = f"{recipe.name}-changed"
    if is_main_process():
        say(f"this recipe differs from the package's {recipe.name} in {', '.join(changed)}, so the run is called "
            f"{name}")  # fmt: skip
    return recipe.replace(name=name), images


def resume_command(options: argparse.Namespace) -> None:
    from alexnet_course.recipe import Recipe
    from alexnet_course.training import resume
    from alexnet_course.training.folder import SPEED_UPS, read_plan
    from alexnet_course.training.parallel import join_group

    plain: dict[str, Any] = dict.fromkeys(SPEED_UPS, False) if options.plain else {}
    folder = expanded(options.run)
    recipe = Recipe.from_dict(join_group().on_main(lambda: read_plan(folder))["recipe"])
    check_images_are_there(recipe.dataset, options.data)
    moved = moved_images(recipe, options.data)
    run = resume(folder, device=options.device, **checkpoints(options), **plain, **moved)
    finish(run, options)


def checkpoints(options: argparse.Namespace) -> dict[str, Any]:
    return {"checkpoint_steps": options.checkpoint_steps, "checkpoint_seconds": options.checkpoint_seconds}


def finish(run: Run, options: argparse.Namespace) -> None:
    """Train to the end, with a progress bar, and print the result."""
    from alexnet_course.training.parallel import leave_group
    from alexnet_course.watching import watch

    assert run.out is not None
    if run.record is not None and run.group.is_main:
        say(f"{shown(run.out)} already holds this run, finished")
    elif run.steps_done and run.group.is_main:
        say(f"resuming {shown(run.out)} at step {run.steps_done:,} of {run.steps:,}")
    watch(run, tensorboard=options.tensorboard)
    leave_group()
    record = run.record
    if record is not None and run.group.is_main:
        print(f"test accuracy {with_interval(record.test_accuracy, record.test_accuracy_interval)}, "
              f"validation {record.val_accuracy:.2%}; record in {shown(run.out)}/{RECORD}")  # fmt: skip


def parse_settings(settings: list[str]) -> dict[str, Any]:
    """Parse ``key=value`` pairs; values are TOML (0.1, true, [3, 6], {dropout = 0.2}) or, failing that, plain text."""
    values: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        key = key.strip()
        if not equals:
            raise CourseError(f"--set {setting!r} has no value; write KEY=VALUE, for example label_smoothing=0.1.")
        try:
            values[key] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            values[key] = text.strip()
    return values
