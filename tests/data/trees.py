"""Trees of image files, written from arrays."""

from pathlib import Path

import numpy as np
from PIL import Image

Images = dict[str, dict[str, list[np.ndarray]]]  # split -> class -> images, each 32×32×3


def write_tree(path: Path, images: Images, suffix: str = "png") -> Path:
    for split, classes in images.items():
        for name, members in classes.items():
            (path / split / name).mkdir(parents=True)
            for number, pixels in enumerate(members):
                Image.fromarray(pixels).save(path / split / name / f"{number:03}.{suffix}")
    return path
