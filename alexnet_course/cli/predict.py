"""``alexnet-course predict``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from itertools import chain, count, islice
from pathlib import Path
from typing import TYPE_CHECKING

from alexnet_course.cli.common import Commands, add_command, add_networks, add_trained, free_folder, removed_if_empty
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
    target = new_target(options.explain) if options.explain else None  # before the imports
    from alexnet_course.prediction import files_in, predictions
    from alexnet_course.pretrained import load_trained
    from alexnet_course.training import choose_device

    model, record = load_trained(options.run)
    model.to(choose_device(options.device))
    figures = None
    if options.explain is not None:
        figures = Figures(target, [path for path, _ in files_in(options.images)])
    width = max(map(len, record.dataset.classes))
    images = []
    with removed_if_empty(figures.made if figures is not None else None):
        for answer in predictions(model, record, options.images, figures is not None):
            if figures is not None:
                figures.draw(answer)
            if options.json:
                images.append({"image": str(answer.path), "probabilities": answer.probabilities})
                continue
            print(shown(answer.path))
            for name, probability in islice(answer.probabilities.items(), options.top):
                print(f"  {name:<{width}}  {probability:7.2%}")
    if options.json:
        print(json.dumps({"network": record.recipe.run_name, "images": images}, indent=1))
    if figures is not None:
        say(f"{len(figures.names)} explained in {shown(figures.target)}")


def new_target(given: str) -> Path:
    """Where the figures go; ``CourseError`` for an existing file, which may be the image itself."""
    path = expanded(given)
    if is_one_file(path):
        refuse_existing(path)
        check_target(path)
    return path


def is_one_file(target: Path) -> bool:
    return target.suffix.lower() == ".png"


class Figures:
    """The figures of ``--explain`` in ``target``, a ``.png`` file or a folder; None: a new folder.

    Before the work it is checked that they can be written there, one for each of ``images``, without overwriting
    anything.
    """

    def __init__(self, target: Path | None, images: Sequence[Path]) -> None:
        self.names: set[str] = set()  # of those that are drawn, in lower case, since some file systems ignore case
        self.made: Path | None = None  # the folder, if it was not there before
        if target is None:
            self.target = self.made = free_folder(Path(EXPLAINED), "--explain")
            return
        self.target = target
        if is_one_file(target):
            if len(images) > 1:
                raise CourseError(f"--explain {str(target)!r} is one file for {len(images)} images; give a folder.")
            return
        self.made = None if target.exists() else target
        try:
            target.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CourseError(f"--explain {str(target)!r} is not a folder and cannot be created ({error.strerror}); "
                              "give a writable folder.") from None  # fmt: skip
        names: set[str] = set()
        files = [self._file(image, names) for image in images]
        check_target(next(iter(files), target / "x.png"))

    def draw(self, answer: Prediction) -> None:
        import matplotlib.pyplot as plt

        from alexnet_course import plots

        assert answer.image is not None  # because of explain=True
        assert answer.evidence is not None
        plots.use_style()
        best = f"{answer.best}: {answer.probabilities[answer.best]:.1%}"
        figure = plots.evidence_map(answer.image, answer.evidence, (answer.path.name, best))
        with whole_file(self._file(answer.path, self.names)) as part:
            figure.savefig(part, format="png")
        plt.close(figure)

    def _file(self, image: Path, names: set[str]) -> Path:
        """A file for the figure of ``image`` that does not exist and is not in ``names``, to which it is added."""
        numbered = chain([image.stem], (f"{image.stem}-{number}" for number in count(2)))
        name = next(name for name in numbered if name.lower() not in names)
        names.add(name.lower())
        file = self.target if is_one_file(self.target) else self.target / f"{name}.png"
        refuse_existing(file)
        return file
