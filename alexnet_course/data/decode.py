"""Image files of any format to bytes: 3×H×W, upright, and of one size."""

import os
import stat
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from alexnet_course.data.tree import say_once
from alexnet_course.errors import CourseError
from alexnet_course.terminal import Terminal

RESIZES = ("crop", "pad")

_PROGRESS_FROM = 2000  # files; fewer are decoded in an instant
_TASK = 64  # files for each task of the thread pool, because 60,000 tasks of one file would cost more than they gain


class OtherSize(Exception):
    """An image whose size differs from the others."""


def decode_all(
    files: Sequence[str],
    what: str,
    put: Callable[[int, np.ndarray], object],
    shape: tuple[int, ...],
    size: int | None = None,
    resize: str = "crop",
) -> None:
    """Call ``put(number, pixels)`` for each of ``files``, from several threads; pixels are uint8 of ``shape``.

    With ``size``, images are resized to it; without, ``OtherSize`` is raised if one has another shape.
    """

    def decode(start: int) -> int:
        part = files[start : start + _TASK]
        for number, file in enumerate(part, start):
            pixels = read_image(file, size, resize)
            if pixels.shape != shape:
                raise OtherSize
            put(number, pixels)
        return len(part)

    bar = tqdm(total=len(files), desc=f"decoding {what}", unit="image", disable=len(files) < _PROGRESS_FROM,
               file=Terminal())  # fmt: skip
    with bar, ThreadPoolExecutor() as pool:  # decoding releases Python's global lock
        try:
            for count in pool.map(decode, range(0, len(files), _TASK)):
                bar.update(count)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def read_image(file: str, size: int | None = None, resize: str = "crop") -> np.ndarray:
    """One image as uint8 3×H×W: RGB, rotated as its EXIF data say, transparent parts white.

    With ``size`` it becomes a square of that side. ``crop``: the short side is resized to it, and the long side is cut
    at both ends; ``pad``: the long side is resized to it, and the rest is black. Raises ``CourseError`` for a file that
    is not an image.
    """
    try:
        if not stat.S_ISREG(os.stat(file).st_mode):  # reading a pipe or a device might never end
            raise ValueError("not a file")
        with Image.open(file) as image:
            if size is not None:
                image.draft(None, (2 * size, 2 * size))  # decodes no more of a large JPEG than needed
            upright = _as_rgb(_upright(image))
            if size is not None:
                upright = _resized(upright, size, resize)
            return np.asarray(upright).transpose(2, 0, 1)
    except Exception as error:  # Pillow's decoders raise all kinds of errors
        raise unreadable(file, "" if isinstance(error, UnidentifiedImageError) else f" ({error})") from error


def size_in_header(file: str) -> tuple[int, int] | None:
    """Width and height as the file states them, without decoding it; None if it does not."""
    try:
        with Image.open(file) as image:
            return image.size
    except Exception:  # Pillow's decoders raise all kinds of errors; read_image reports them
        return None


def _upright(image: Image.Image) -> Image.Image:
    image.load()  # so that only an error of the EXIF data remains
    try:
        return ImageOps.exif_transpose(image)
    except Exception as error:  # of all kinds, too
        say_once(f"some images have EXIF data that cannot be read ({error}), so they are not rotated")
        return image


def _resized(image: Image.Image, size: int, resize: str) -> Image.Image:
    how = Image.Resampling.BILINEAR  # Pillow's antialiases when it reduces
    if resize == "crop":
        return ImageOps.fit(image, (size, size), how)
    scale = size / max(image.size)
    if round(scale * min(image.size)) == 0:  # so narrow that nothing would be left
        width, height = (max(1, round(scale * side)) for side in image.size)
        image = image.resize((width, height), how)
    return ImageOps.pad(image, (size, size), how)


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _from_long_numbers(image).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    whole = image.convert("RGBA")
    if whole.getchannel("A").getextrema()[0] == 255:  # it could be transparent, and nowhere is
        return whole.convert("RGB")
    say_once("some images have transparent parts, which become white")
    return Image.alpha_composite(Image.new("RGBA", whole.size, "white"), whole).convert("RGB")


def _from_long_numbers(image: Image.Image) -> Image.Image:
    """16-bit grey to 8 bits, over its whole range; Pillow's own conversion would clip values above 255."""
    values = np.asarray(image)
    if image.mode == "F" or not 0 <= values.min() <= values.max() <= 65_535:
        raise ValueError(f"of mode {image.mode}, whose range is unknown; save it with 8 or 16 bits")
    return Image.fromarray(((values.astype(np.uint32) * 255 + 32_767) // 65_535).astype(np.uint8))


def unreadable(file: str, reason: str) -> CourseError:
    return CourseError(
        f"{file!r} cannot be read as an image{reason}; expected a PNG, JPEG or other image file, so replace it or "
        "move it out of the tree."
    )
