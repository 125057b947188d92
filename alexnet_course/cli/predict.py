"""``alexnet-course predict``."""

from __future__ import annotations

import argparse
import json
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING

from alexnet_course.cli.common import Commands, add_command, add_networks, add_trained, free_folder
from alexnet_course.errors import CourseError
from alexnet_course.files import check_target, expanded, refuse_existing, shown, whole_file
from alexnet_course.terminal import say

if TYPE_CHECKING:
    from alexnet_course.prediction import Prediction

EXPLAINED = "explained"


def add(commands: Commands) -> None:
    text = "classify images of your own with a trained network"
    sub = add_command(
        commands, "predict", predict_command, text, "predict vgg-style-bn.small cat.jpg holiday --explain"
    )
    add_trained(sub)
    sub.add_argument("images", nargs="+", metavar="IMAGE", help="an image, or a folder with images at any depth")
    sub.add_argument("--top", type=int, default=5, metavar="N", help="the N most probable classes (default: 5)")
    sub.add_argument("--json", action="store_true", help="print one JSON document, with all probabilities")
    sub.add_argument(
        "--explain",
        nargs="?",
        const="",
        metavar="PATH",
        help="draw the evidence for the most probable class (Grad-CAM) next to the image: into a folder or, for one "
        f"image, into a .png file (default: a new folder {EXPLAINED})",
    )
    sub.add_argument("--device", default="auto", metavar="D")
    add_networks(sub)


def predict_command(options: argparse.Namespace) -> None:
    if options.top < 1:
        raise CourseError(f"--top {options.top} shows nothing; give a number of at least 1.")
    target = new_figures(options.explain) if options.explain else None  # before the work
    from alexnet_course.prediction import predict
    from alexnet_course.pretrained import load_trained
    from alexnet_course.training import choose_device

    model, record = load_trained(options.run)
    model.to(choose_device(options.device))
    answers = predict((model, record), options.images, explain=options.explain is not None)
    if options.explain is not None:
        draw(answers, target or free_folder(Path(EXPLAINED), "--explain"))
    if options.json:
        images = [{"image": str(a.path), "probabilities": a.probabilities} for a in answers]
        print(json.dumps({"network": record.recipe.run_name, "images": images}, indent=1))
        return
    width = max(map(len, record.dataset.classes))
    for answer in answers:
        print(shown(answer.path))
        for name, probability in islice(answer.probabilities.items(), options.top):
            print(f"  {name:<{width}}  {probability:7.2%}")


def new_figures(given: str) -> Path:
    """Where the figures go; ``CourseError`` for an existing file, which may be the image itself."""
    path = expanded(given)
    if path.suffix.lower() == ".png":
        refuse_existing(path)
        check_target(path)
    return path


def draw(answers: list[Prediction], target: Path) -> None:
    """Draw a figure for each image; draws nothing if one of them would overwrite a file."""
    if target.suffix.lower() == ".png":
        if len(answers) > 1:
            raise CourseError(f"--explain {str(target)!r} is one file for {len(answers)} images; give a folder.")
        files = [target]
    else:
        try:
            target.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CourseError(f"--explain {str(target)!r} is not a folder and cannot be created ({error.strerror}); "
                              "give a writable folder.") from None  # fmt: skip
        files = [target / f"{name}.png" for name in different_names([answer.path.stem for answer in answers])]
    for file in files:
        refuse_existing(file)
    import matplotlib.pyplot as plt

    from alexnet_course import plots

    plots.use_style()
    for answer, file in zip(answers, files, strict=True):
        assert answer.evidence is not None  # because of explain=True
        best = f"{answer.best}: {answer.probabilities[answer.best]:.1%}"
        figure = plots.evidence_map(answer.image, answer.evidence, (answer.path.name, best))
        with whole_file(file) as part:
            figure.savefig(part, format="png")
        plt.close(figure)
    say(f"{len(files)} explained in {shown(target)}")


def different_names(names: list[str]) -> list[str]:
    """``names``, with a number appended to repeated ones."""
    different: list[str] = []
    for name in names:
        taken = {other.lower() for other in different}  # some file systems ignore case
        free = (f"{name}-{number}" for number in count(2))
        different.append(name if name.lower() not in taken else next(n for n in free if n.lower() not in taken))
    return different
