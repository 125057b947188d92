"""The predictions of a run: one byte for each test image, in a file beside the record.

The images are in the order of ``Dataset.ordered``, which does not depend on how they are stored, so the predictions of
any two runs can be compared image by image.
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
    """A hash of the predictions, 32 hexadecimal digits, which the record states."""
    return blake2b(predictions.tobytes(), digest_size=16).hexdigest()


def save_predictions(path: Path, predictions: Predictions) -> None:
    """Write the predictions as ``.npy``, completely or not at all."""
    with whole_file(path) as part, part.open("wb") as file:
        np.save(file, predictions, allow_pickle=False)


def load_predictions(path: Path) -> Predictions:
    """The predictions of one run. Raises ``CourseError`` if the file is missing or has other content."""
    try:
        refuse_what_is_no_file(path)
        # Mapped, so that a file that claims more entries than it has is refused before memory is allocated.
        found = np.array(np.lib.format.open_memmap(path, mode="r"))
    except (OSError, ValueError, OverflowError) as error:
        raise CourseError(f"{path.name} cannot be read as predictions ({error}); restore it, or make the run again "
                          "with python -m benchmarks.campaign.") from None  # fmt: skip
    if found.ndim != 1 or not np.issubdtype(found.dtype, np.unsignedinteger):
        raise CourseError(f"{path.name} does not hold one unsigned class number for each image; restore it, or make "
                          "the run again with python -m benchmarks.campaign.")  # fmt: skip
    return found


def stored_labels(test_fingerprint: str) -> Predictions | None:
    """The labels of the test images with this fingerprint, in the order of ``Dataset.ordered``; None if not stored.

    A class is numbered by its name's position in alphabetical order. The labels are public, and stored so that
    accuracies can be recomputed from the predictions without the images.
    """
    path = LABELS / f"{test_fingerprint}.npy"
    return load_predictions(path) if path.exists() else None


def labels_of(dataset: Dataset) -> Predictions:
    """The same labels as ``stored_labels``, computed from the data set itself."""
    alphabetical = np.argsort(np.argsort(dataset.classes))
    return pack(alphabetical[dataset.labels[dataset.ordered].cpu().numpy()], len(dataset.classes))
