"""What a network said of each test image: one byte an image, beside the record of its run.

The images are in the order of ``Dataset.ordered``, which does not depend on how they were stored, so that the
predictions of any two runs can be compared image by image.
"""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from alexnet_course.data.dataset import Dataset
from alexnet_course.errors import CourseError
from alexnet_course.files import refuse_what_is_no_file, whole_file

LABELS = Path(__file__).parent / "labels"

Predictions = npt.NDArray[np.unsignedinteger[Any]]


def pack(classes: npt.ArrayLike, count: int) -> Predictions:
    """Class numbers as the smallest unsigned integers that hold ``count`` classes: bytes up to 256 of them."""
    return np.asarray(classes).astype(np.min_scalar_type(count - 1))


def digest(predictions: Predictions) -> str:
    """32 hexadecimal digits that name these predictions; the record of the run states them."""
    return blake2b(predictions.tobytes(), digest_size=16).hexdigest()


def save_predictions(path: Path, predictions: Predictions) -> None:
    """Write ``.npy``, whole or not at all."""
    with whole_file(path) as part, part.open("wb") as file:
        np.save(file, predictions, allow_pickle=False)


def load_predictions(path: Path) -> Predictions:
    """Those of one run. Raises ``CourseError`` where the file is missing or holds something else."""
    try:
        refuse_what_is_no_file(path)
        # Mapped, because then a file that claims more entries than it has is refused before memory is asked for.
        found = np.array(np.lib.format.open_memmap(path, mode="r"))
    except (OSError, ValueError, OverflowError) as error:
        raise CourseError(f"{path.name} cannot be read as predictions ({error}); restore it, or make the run again "
                          "with python -m benchmarks.campaign.") from None  # fmt: skip
    if found.ndim != 1 or not np.issubdtype(found.dtype, np.unsignedinteger):
        raise CourseError(f"{path.name} does not hold one unsigned class number an image; restore it, or make the run "
                          "again with python -m benchmarks.campaign.")  # fmt: skip
    return found


def stored_labels(test_fingerprint: str) -> Predictions | None:
    """The classes of the test images with this fingerprint, in the order of ``Dataset.ordered``; None where not kept.

    A class is its position among the names in alphabetical order. They are public, and kept so that every figure can be
    computed again from the predictions, without the images.
    """
    path = LABELS / f"{test_fingerprint}.npy"
    return load_predictions(path) if path.exists() else None


def labels_of(dataset: Dataset) -> Predictions:
    """What ``stored_labels`` keeps, computed from the images themselves."""
    alphabetical = np.argsort(np.argsort(dataset.classes))
    return pack(alphabetical[dataset.labels[dataset.ordered].cpu().numpy()], len(dataset.classes))
