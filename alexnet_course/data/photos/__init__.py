"""Four small images that come with the package, to show a trained network without a download."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

FOLDER = Path(__file__).parent


def load_photos() -> dict[str, Tensor]:
    """The images by name, each uint8 of 3×32×32: two show a class of CIFAR-10, two do not.

    They are in the public domain and from no data set (``SOURCES.md`` beside them), so a figure may show them.
    """
    import numpy as np
    from PIL import Image

    images = {}
    for path in sorted(FOLDER.glob("*.png")):
        with Image.open(path) as image:
            images[path.stem] = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    return images
