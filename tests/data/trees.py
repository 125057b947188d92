"""Trees of picture files, written from arrays."""

from pathlib import Path

import numpy as np
from PIL import Image

Pictures = dict[str, dict[str, list[np.ndarray]]]  # split -> class -> pictures, each 32×32×3


def write_tree(path: Path, pictures: Pictures, suffix: str = "png") -> Path:
    for split, classes in pictures.items():
        for name, members in classes.items():
            (path / split / name).mkdir(parents=True)
            for number, pixels in enumerate(members):
                Image.fromarray(pixels).save(path / split / name / f"{number:03}.{suffix}")
    return path
