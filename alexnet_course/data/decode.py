"""Image files of any kind to bytes: 3×H×W, as they are to be seen, and of one size."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from alexnet_course.data.tree import say_once
from alexnet_course.errors import CourseError

RESIZES = ("crop", "pad")

_PROGRESS_FROM = 2000  # files; fewer are decoded before a bar would be read
_TASK = 64  # files a task of the thread pool: 60,000 tasks of one file would cost more than they share out


class OtherSize(Exception):
    """An image that is not of the size of the others."""


def decode_all(
    files: Sequence[str],
    what: str,
    put: Callable[[int, np.ndarray], object],
    shape: tuple[int, ...],
    size: int | None = None,
    resize: str = "crop",
) -> None:
    """``put(number, pixels)`` for each of ``files``, from several threads; uint8, of ``shape``.

    With ``size``, images are brought to that; else ``OtherSize`` is raised where one has another shape.
    """

    def decode(start: int) -> int:
        part = files[start : start + _TASK]
        for number, file in enumerate(part, start):
            pixels = read_image(file, size, resize)
            if pixels.shape != shape:
                raise OtherSize
            put(number, pixels)
        return len(part)

    bar = tqdm(total=len(files), desc=f"decoding {what}", unit="image", disable=len(files) < _PROGRESS_FROM)
    with bar, ThreadPoolExecutor() as pool:  # decoding releases Python's lock
        try:
            for count in pool.map(decode, range(0, len(files), _TASK)):
                bar.update(count)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def read_image(file: str, size: int | None = None, resize: str = "crop") -> np.ndarray:
    """One image as uint8 3×H×W: RGB, turned as its camera noted that it was held, transparent parts white.

    With ``size`` it becomes a square of that side: ``crop``: the short side is resized to it, and what is then too long
    is cut off on both ends; ``pad``: the long side is, and what is missing is black. Raises ``CourseError`` for what is
    no image.
    """
    try:
        with Image.open(file) as image:
            if size is not None:
                image.draft(None, (2 * size, 2 * size))  # of a large JPEG, no more than is needed
            upright = _as_rgb(ImageOps.exif_transpose(image))
            if size is not None:
                fit = {"crop": ImageOps.fit, "pad": ImageOps.pad}[resize]
                upright = fit(upright, (size, size), Image.Resampling.BILINEAR)  # Pillow's smooths where it reduces
            return np.asarray(upright).transpose(2, 0, 1)
    except Exception as error:  # Pillow's decoders raise whatever they come across
        raise unreadable(file, "" if isinstance(error, UnidentifiedImageError) else f" ({error})") from error


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _from_long_numbers(image).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    say_once("some images are transparent in parts, which become white")
    whole = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", whole.size, "white"), whole).convert("RGB")


def _from_long_numbers(image: Image.Image) -> Image.Image:
    """Grey of 16 bits in 8, all of its range, where Pillow's own conversion cuts off what is above 255."""
    values = np.asarray(image)
    if image.mode == "F" or not 0 <= values.min() <= values.max() <= 65_535:
        raise ValueError(f"of mode {image.mode}, whose range nobody knows; save it with 8 or 16 bits")
    return Image.fromarray(((values.astype(np.uint32) * 255 + 32_767) // 65_535).astype(np.uint8))


def unreadable(file: str, reason: str) -> CourseError:
    return CourseError(
        f"{file!r} cannot be read as an image{reason}; expected a PNG, JPEG or other image file, so replace it or "
        "move it out of the tree."
    )
