"""``doodles``: a small data set that the course draws itself, with CIFAR-10's ten class names.

Nothing is downloaded: every image is made of polygons in front of a made-up scene, 32×32 RGB. The figures differ in
pose, proportion, colour and line width, so that a linear classifier on the pixels gets lost while a small
convolutional network does not, and a chapter can train one in seconds.

The file reads in the order in which an image comes about: colours, the canvas, the scene behind, the ten figures, one
whole image, and :func:`draw_doodles`. All randomness of an image comes from one ``random.Random`` seeded with its
seed, split and number; corners are rounded to whole pixels of a canvas that is four times as large, and all arithmetic
on pixels is in integers, so that every machine draws the same images. (Pillow before 11.2 fills some polygons one
pixel of that canvas differently, which the eye cannot see but a fingerprint can.)
"""

import colorsys
import math
from collections.abc import Callable, Sequence
from random import Random
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from alexnet_course.errors import CourseError, nearest

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TRAIN_SIZE = 5000
TEST_SIZE = 1000

SIZE = 32  # pixels of a finished image's side
OVERSAMPLING = 4  # drawn this many times larger, then averaged down: that is the anti-aliasing
FULL = SIZE * OVERSAMPLING

Colour = tuple[int, int, int]
Point = tuple[float, float]
T = TypeVar("T")
Number = TypeVar("Number", np.float64, np.int64)

# --- Colours ---------------------------------------------------------------------------------------------------------

BLACK: Colour = (25, 22, 25)
WHITE: Colour = (245, 245, 240)
GLASS: Colour = (60, 80, 105)
LAMP: Colour = (255, 245, 190)
FURS: tuple[Colour, ...] = (
    (150, 95, 50),
    (105, 65, 40),
    (190, 140, 85),
    (225, 200, 160),
    (215, 120, 50),
    (120, 115, 115),
    (185, 180, 175),
    (60, 50, 50),
    (235, 230, 222),
)


def pick(rng: Random, options: Sequence[T]) -> T:
    """One of ``options``, each as likely as the others."""
    return options[int(rng.random() * len(options))]


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """The RGB colour (0..255) of a hue, saturation and value on the 0..1 scale; hues beyond it wrap around."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """The colour that is ``share`` (0..1) of the way from ``first`` to ``second``."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def fur(rng: Random) -> Colour:
    """A coat that cats, dogs, deer and horses share, so that its colour gives none of them away."""
    return mix(pick(rng, FURS), hsv(rng.uniform(0.02, 0.12), 0.5, rng.uniform(0.2, 0.9)), 0.25)


def paint(rng: Random) -> Colour:
    """A lacquer for anything built: bright, or now and then white, grey or nearly black."""
    if rng.random() < 0.3:
        return hsv(0.6, 0.08, rng.uniform(0.25, 0.97))
    return hsv(rng.random(), rng.uniform(0.5, 0.95), rng.uniform(0.5, 0.95))


# --- The canvas ------------------------------------------------------------------------------------------------------

CIRCLE = np.array([(math.cos(2 * math.pi * k / 20), math.sin(2 * math.pi * k / 20)) for k in range(20)])


class Canvas:
    """Collects filled shapes in unit coordinates: x from -1 to 1 to the right, y from -1 to 1 upwards.

    Later shapes hide earlier ones. All of them are kept as polygons, so that one map can pose the whole drawing.
    """

    def __init__(self) -> None:
        self.outlines: list[NDArray[np.float64]] = []  # the corners of each shape, K×2
        self.colours: list[Colour] = []

    def polygon(self, colour: Colour, *corners: Point) -> None:
        """A filled polygon; the last corner is joined to the first."""
        self.outlines.append(np.array(corners))
        self.colours.append(colour)

    def box(self, colour: Colour, left: float, bottom: float, right: float, top: float) -> None:
        """A rectangle."""
        self.polygon(colour, (left, bottom), (right, bottom), (right, top), (left, top))

    def ellipse(self, colour: Colour, x: float, y: float, rx: float, ry: float, tilt: float = 0.0) -> None:
        """An ellipse about (x, y) with half axes ``rx`` and ``ry``, turned anticlockwise by ``tilt`` radians."""
        cos, sin = math.cos(tilt), math.sin(tilt)
        self.outlines.append(CIRCLE @ np.array([(rx * cos, rx * sin), (-ry * sin, ry * cos)]) + (x, y))
        self.colours.append(colour)

    def disc(self, colour: Colour, x: float, y: float, radius: float) -> None:
        """A circle about (x, y), filled."""
        self.ellipse(colour, x, y, radius, radius)

    def line(self, colour: Colour, width: float, *points: Point, taper: float = 1.0) -> None:
        """A stroke through ``points`` that is ``width`` wide at its start and ``taper`` times as wide at its end."""
        left, right = [], []
        for k, (x, y) in enumerate(points):
            (x0, y0), (x1, y1) = points[max(k - 1, 0)], points[min(k + 1, len(points) - 1)]
            half = width / 2 * (1 + (taper - 1) * k / (len(points) - 1)) / math.hypot(x1 - x0, y1 - y0)
            across = (-(y1 - y0) * half, (x1 - x0) * half)
            left.append((x + across[0], y + across[1]))
            right.append((x - across[0], y - across[1]))
        self.polygon(colour, *left, *reversed(right))

    def rotate(self, angle: float) -> None:
        """Turns all that is drawn so far about the origin, in radians, anticlockwise."""
        cos, sin = math.cos(angle), math.sin(angle)
        self.outlines = [corners @ np.array([(cos, sin), (-sin, cos)]) for corners in self.outlines]

    def pose(self, rng: Random, turn: float, size: float) -> None:
        """Turns, mirrors, shears and tilts away what is drawn, and puts it into a frame of the image.

        ``turn`` is the largest rotation in radians; the longer side of the result is ``size`` of the image's side.
        """
        angle, shear = rng.uniform(-turn, turn), rng.uniform(-0.2, 0.2)
        mirror, stretch = pick(rng, (-1.0, 1.0)), rng.uniform(0.85, 1.15)
        cos, sin = math.cos(angle), math.sin(angle)
        points = np.concatenate(self.outlines)
        points = points * (mirror * stretch, 1 / stretch)
        points = points @ np.array([(cos, sin), (shear * cos - sin, shear * sin + cos)])
        # Dividing by a depth that grows across the figure is what a camera does.
        points /= 1 + points @ np.array([(rng.uniform(-0.15, 0.15),), (rng.uniform(-0.15, 0.15),)])
        low, high = points.min(axis=0), points.max(axis=0)
        scale = 2 * size / (high - low).max()
        room = np.maximum(1.04 - (high - low) * scale / 2, 0)  # 1.04: a paw may leave the image
        centre = room * (rng.uniform(-0.7, 0.7), rng.uniform(-0.7, 0.7))
        self.outlines = self._by_shape((points - (low + high) / 2) * scale + centre)

    def draw(self, image: Image.Image, ink: Colour = BLACK, ink_width: int = 0) -> None:
        """Paints the shapes onto ``image``, with an outline of ``ink_width`` pixels around all of them together."""
        points = np.concatenate(self.outlines) * (1, -1)  # an image's rows count downwards
        pixels = np.rint((points + 1) * (FULL / 2)).astype(np.int64)
        outlines = [corners.ravel().tolist() for corners in self._by_shape(pixels)]
        draw = ImageDraw.Draw(image)
        if ink_width:
            for outline in outlines:
                # Half of the stroke will be hidden under the shapes, and so will all of it between two of them.
                draw.line(outline + outline[:2], fill=ink, width=2 * ink_width)
        for outline, colour in zip(outlines, self.colours, strict=True):
            draw.polygon(outline, fill=colour)

    def _by_shape(self, points: NDArray[Number]) -> list[NDArray[Number]]:
        """All corners in one array, N×2, cut up again into those of each shape."""
        return np.split(points, np.cumsum([len(corners) for corners in self.outlines])[:-1])


# --- The scene behind ------------------------------------------------------------------------------------------------


def scene(rng: Random, place: str) -> Image.Image:
    """A landscape at four times the final size: ``sky``, or a ``road``, ``grass`` or ``water`` under one.

    Light, season, horizon and clutter vary within each place.
    """
    light = rng.uniform(0.6, 1.0)
    zenith = hsv(rng.uniform(0.52, 0.64), rng.uniform(0.15, 0.75), light)
    haze = pick(rng, (mix(zenith, WHITE, 0.6), hsv(rng.uniform(0.0, 0.14), rng.uniform(0.2, 0.6), light)))
    ground = {
        "sky": haze,
        "road": hsv(rng.uniform(0.05, 0.65), rng.uniform(0.02, 0.15), light * rng.uniform(0.35, 0.8)),
        "grass": hsv(rng.uniform(0.12, 0.36), rng.uniform(0.3, 0.8), light * rng.uniform(0.5, 0.9)),
        "water": hsv(rng.uniform(0.48, 0.64), rng.uniform(0.3, 0.8), light * rng.uniform(0.5, 0.9)),
    }[place]
    horizon = FULL if place == "sky" else round(rng.uniform(0.0, 0.75) * FULL)  # rows of sky, counted from the top
    above = np.linspace(zenith, haze, horizon)
    below = np.linspace(mix(ground, haze, 0.3), mix(ground, BLACK, rng.uniform(0, 0.3)), FULL - horizon)
    rows = np.rint(np.concatenate([above, below])).astype(np.uint8)
    image = Image.fromarray(rows[:, None].repeat(FULL, axis=1))

    canvas, edge = Canvas(), 1 - 2 * horizon / FULL  # the horizon once more, in unit coordinates
    clouds(canvas, rng, haze, edge)
    if place != "sky":
        skyline(canvas, rng, place, ground, haze, edge)
        clutter(canvas, rng, place, ground, edge)
    if canvas.outlines:
        canvas.draw(image)
    return image


def clouds(canvas: Canvas, rng: Random, haze: Colour, edge: float) -> None:
    """Now and then a sun, and up to three clouds, above the height ``edge``."""
    if rng.random() < 0.2:
        canvas.disc(hsv(rng.uniform(0.08, 0.16), 0.4, 1.0), rng.uniform(-1, 1), rng.uniform(edge, 1), 0.18)
    for _ in range(int(rng.uniform(0, 4)) if edge < 0.5 else 0):
        x, y, puff = rng.uniform(-1, 1), rng.uniform(edge + 0.1, 1), rng.uniform(0.12, 0.3)
        white = mix(haze, WHITE, rng.uniform(0.3, 0.9))
        canvas.ellipse(white, x, y, 2 * puff, 0.6 * puff)
        canvas.disc(white, x + rng.uniform(-1, 1) * puff, y + 0.4 * puff, 0.7 * puff)


def skyline(canvas: Canvas, rng: Random, place: str, ground: Colour, haze: Colour, edge: float) -> None:
    """Up to three things that stand on the horizon: houses along a road, hills elsewhere."""
    for _ in range(int(rng.uniform(0, 4))):
        x, wide, tall = rng.uniform(-1, 1), rng.uniform(0.15, 0.7), rng.uniform(0.1, 0.5)
        if place == "road":
            wall = mix(hsv(rng.random(), 0.4, 0.6), haze, rng.uniform(0.2, 0.7))
            canvas.box(wall, x - wide / 2, edge, x + wide / 2, edge + tall)
        else:
            slope = mix(mix(ground, BLACK, 0.3), haze, rng.uniform(0.1, 0.6))
            canvas.polygon(slope, (x - wide, edge), (x - wide / 4, edge + 0.7 * tall), (x + wide, edge))


def clutter(canvas: Canvas, rng: Random, place: str, ground: Colour, edge: float) -> None:
    """What lies on the ground, below the height ``edge``: a dashed line, trees and blades of grass, or waves."""
    depth = 1 + edge
    if place == "road":
        lane, phase = rng.uniform(-0.4, 0.4), rng.uniform(0.0, 0.2)
        for near in (phase, phase + 0.25, phase + 0.5, phase + 0.75):  # 0 at the horizon, 1 at our feet
            start, end = (lane * near, edge - near * depth), (lane * (near + 0.1), edge - (near + 0.1) * depth)
            canvas.line(mix(ground, WHITE, 0.6), 0.03 + 0.05 * near, start, end)
    if place == "grass":
        for _ in range(int(rng.uniform(0, 3))):
            x, crown = rng.uniform(-1, 1), rng.uniform(0.12, 0.35)
            canvas.line(mix(ground, BLACK, 0.6), 0.08, (x, edge - 0.1), (x, edge + crown))
            canvas.disc(mix(ground, BLACK, rng.uniform(0.2, 0.5)), x, edge + 1.5 * crown, crown)
        blade = mix(ground, pick(rng, (WHITE, BLACK, hsv(rng.random(), 0.8, 0.9))), rng.uniform(0.2, 0.5))
        for _ in range(int(rng.uniform(0, 14))):
            x, y = rng.uniform(-1, 1), rng.uniform(-1, edge)
            canvas.line(blade, 0.05, (x, y), (x + rng.uniform(-0.06, 0.06), y + 0.15))
    if place == "water":
        crest = mix(ground, WHITE, rng.uniform(0.2, 0.6))
        for _ in range(int(rng.uniform(3, 14))):
            x, y = rng.uniform(-1, 1), rng.uniform(-1, edge)
            canvas.line(crest, 0.04, (x - rng.uniform(0.05, 0.25), y), (x, y + 0.03), (x + 0.15, y))


# --- The ten figures -------------------------------------------------------------------------------------------------
# Each faces right and draws from the back to the front; mirroring comes with the pose. All lengths are in unit
# coordinates, and the ranges of the random numbers are what makes one cat differ from the next.


def wheel(canvas: Canvas, x: float, y: float, radius: float) -> None:
    """A tyre with its hub."""
    canvas.disc(BLACK, x, y, radius)
    canvas.disc((175, 175, 180), x, y, radius * 0.45)


def eye(canvas: Canvas, x: float, y: float, radius: float) -> None:
    """A white eye that looks ahead."""
    canvas.disc(WHITE, x, y, radius)
    canvas.disc(BLACK, x + radius * 0.25, y, radius * 0.6)


def legs(canvas: Canvas, rng: Random, coat: Colour, back: float, front: float, top: float, width: float) -> None:
    """Four legs from the height ``top`` down to -1 in some phase of a walk; the two far ones are in the shade."""
    for x, colour in (
        (back + 0.14, mix(coat, BLACK, 0.35)),
        (front - 0.14, mix(coat, BLACK, 0.35)),
        (back, coat),
        (front, coat),
    ):
        knee, foot = x + rng.uniform(-0.09, 0.09), x + rng.uniform(-0.16, 0.16)
        canvas.line(colour, width, (x, top), (knee, (top - 1) / 2), (foot, -1), taper=0.7)


def airplane(canvas: Canvas, rng: Random) -> None:
    """A fuselage with wings and a tail, from the side or from above."""
    body, wing = paint(rng), paint(rng)
    body = pick(rng, (body, mix(body, WHITE, 0.7)))
    girth, span, sweep = rng.uniform(0.11, 0.18), rng.uniform(0.5, 0.95), rng.uniform(0.0, 0.45)
    if rng.random() < 0.5:  # from above, flying in any direction
        for side in (-1, 1):
            canvas.polygon(wing, (0.3, 0), (0.2 - sweep, side * span), (-0.02 - sweep, side * span), (-0.15, 0))
            canvas.polygon(wing, (-0.65, 0), (-0.85, side * 0.38), (-0.98, side * 0.38), (-0.9, 0))
            if span > 0.7:
                canvas.ellipse(mix(wing, BLACK, 0.5), 0.2 - sweep / 2, side * span / 2, 0.16, 0.06)
        canvas.ellipse(body, 0, 0, 1, girth)
        canvas.line(mix(wing, BLACK, 0.4), 0.06, (-0.95, 0), (-0.6, 0))
        canvas.ellipse(GLASS, 0.75, 0, 0.1, girth * 0.55)
        canvas.rotate(rng.uniform(-math.pi, math.pi))
    else:
        canvas.polygon(mix(wing, BLACK, 0.3), (0.25, 0.05), (-0.1 - sweep, 0.5), (-0.3 - sweep, 0.5), (-0.2, 0.05))
        canvas.polygon(wing, (-0.6, 0.05), (-0.85, 0.55), (-1.08, 0.58), (-0.95, 0.05))
        canvas.polygon(body, (-1.05, 0.12), (-0.5, girth), (0.6, girth), (0.95, 0.02), (0.6, -girth), (-0.5, -girth))
        canvas.line(GLASS, 0.07, (-0.45, girth * 0.35), (0.5, girth * 0.35))
        canvas.polygon(GLASS, (0.62, girth * 0.9), (0.85, girth * 0.3), (0.62, girth * 0.3))
        canvas.polygon(wing, (0.3, -0.05), (-0.15 - sweep, -span * 0.75), (-0.38 - sweep, -span * 0.75), (-0.2, -0.05))
        canvas.polygon(mix(wing, BLACK, 0.2), (-0.7, 0.05), (-0.95, -0.18), (-1.1, -0.18), (-0.95, 0.08))
        canvas.rotate(rng.uniform(-0.35, 0.35))


def automobile(canvas: Canvas, rng: Random) -> None:
    """A low body with a cabin, windows and two wheels; from the front, a windscreen, headlights and a grille."""
    body = paint(rng)
    if rng.random() < 0.25:  # from the front
        top = rng.uniform(0.45, 0.75)
        for side in (-1, 1):
            canvas.box(BLACK, side * 0.65 - 0.13, -0.75, side * 0.65 + 0.13, -0.3)
        canvas.polygon(body, (-0.75, 0), (-0.5, top), (0.5, top), (0.75, 0))
        canvas.polygon(GLASS, (-0.62, 0.05), (-0.43, top - 0.1), (0.43, top - 0.1), (0.62, 0.05))
        canvas.polygon(body, (-0.85, -0.5), (-0.85, -0.1), (-0.7, 0.08), (0.7, 0.08), (0.85, -0.1), (0.85, -0.5))
        canvas.box(mix(body, BLACK, 0.6), -0.35, -0.38, 0.35, -0.2)
        for side in (-1, 1):
            canvas.disc(LAMP, side * 0.62, -0.15, 0.14)
        return
    roof, rear, front = rng.uniform(0.38, 0.55), rng.uniform(-0.95, -0.55), rng.uniform(0.2, 0.45)
    nose, radius = rng.uniform(-0.05, 0.08), rng.uniform(0.19, 0.25)
    canvas.polygon(body, (rear, 0.05), (rear + 0.22, roof), (front - 0.3, roof), (front + 0.1, 0.05))
    glass = pick(rng, (GLASS, (170, 205, 225)))
    middle = (rear + front) / 2 - 0.05
    canvas.polygon(
        glass, (rear + 0.14, 0.07), (rear + 0.27, roof - 0.08), (middle - 0.04, roof - 0.08), (middle - 0.04, 0.07)
    )
    canvas.polygon(
        glass, (middle + 0.04, 0.07), (middle + 0.04, roof - 0.08), (front - 0.33, roof - 0.08), (front - 0.03, 0.07)
    )
    canvas.polygon(body, (-1, -0.32), (-1, 0.03), (-0.9, 0.1), (0.45, 0.1), (0.95, nose), (1.02, -0.32))
    canvas.line(mix(body, BLACK, 0.3), 0.05, (-0.95, -0.3), (1, -0.3))
    canvas.disc(LAMP, 0.95, -0.08, 0.08)
    canvas.disc((200, 40, 40), -0.97, -0.03, 0.06)
    for x in (-0.57, 0.6):
        wheel(canvas, x, -0.34, radius)


def truck(canvas: Canvas, rng: Random) -> None:
    """A tall cab before a box, a tank or a dumper's bed, on two to four pairs of wheels."""
    cab, load = paint(rng), paint(rng)
    height, cut, kind = rng.uniform(0.4, 0.75), rng.uniform(0.28, 0.45), rng.random()
    canvas.box((70, 70, 75), -1, -0.42, 0.95, -0.28)
    if kind < 0.6:  # a box
        canvas.box(load, -1.05, -0.3, cut - 0.08, height)
        stripe = mix(load, pick(rng, (WHITE, BLACK)), 0.5)
        if rng.random() < 0.5:
            canvas.box(stripe, -1.05, 0.05, cut - 0.08, 0.2)
        else:
            for x in (-0.7, -0.35, 0):
                canvas.line(stripe, 0.05, (x, -0.28), (x, height - 0.03))
    elif kind < 0.8:  # a tank
        canvas.ellipse(load, -0.38, 0.05, 0.68, 0.36)
        canvas.ellipse(mix(load, WHITE, 0.5), -0.4, 0.2, 0.5, 0.08)
    else:  # a bed with sand
        canvas.polygon((190, 160, 100), (-0.95, 0.1), (-0.4, height * 0.8), (cut - 0.2, 0.1))
        canvas.polygon(load, (-1.1, 0.2), (-0.95, -0.3), (cut - 0.12, -0.3), (cut - 0.08, 0.2))
    roof = rng.uniform(0.3, 0.5)
    canvas.polygon(cab, (cut, -0.38), (cut, roof), (0.75, roof), (0.92, 0.05), (1, 0), (1, -0.38))
    canvas.polygon(GLASS, (cut + 0.12, 0.05), (cut + 0.12, roof - 0.1), (0.7, roof - 0.1), (0.82, 0.05))
    canvas.disc(LAMP, 0.95, -0.2, 0.08)
    radius = rng.uniform(0.17, 0.22)
    for x in pick(rng, ((-0.75, 0.65), (-0.8, -0.35, 0.65), (-0.85, -0.42, 0.1, 0.7))):
        wheel(canvas, x, -0.45, radius)


def ship(canvas: Canvas, rng: Random) -> None:
    """A hull with a mast: under sail, or with a bridge and a funnel, or loaded with containers."""
    hull, trim, kind = paint(rng), paint(rng), rng.random()
    deck, keel = rng.uniform(-0.35, -0.15), rng.uniform(-0.8, -0.6)
    if kind < 0.4:  # under sail
        mast, sail = rng.uniform(-0.1, 0.2), pick(rng, (WHITE, WHITE, paint(rng)))
        canvas.line((90, 65, 45), 0.07, (mast, deck), (mast, 1))
        canvas.polygon(
            sail, (mast - 0.06, deck + 0.12), (mast - 0.06, 0.95), (mast - rng.uniform(0.5, 0.8), deck + 0.12)
        )
        canvas.polygon(mix(sail, trim, 0.3), (mast + 0.06, deck + 0.12), (mast + 0.06, 0.8), (0.8, deck + 0.12))
        canvas.polygon(trim, (mast, 1.1), (mast, 0.96), (mast - 0.25, 1.03))
    else:
        white, x = mix(trim, WHITE, 0.8), rng.uniform(-0.6, -0.1)
        if kind < 0.7:  # a liner
            canvas.box(white, -0.75, deck, 0.55, deck + 0.22)
            canvas.box(white, -0.55, deck + 0.2, 0.35, deck + 0.42)
            for y in (deck + 0.1, deck + 0.31):
                canvas.line(GLASS, 0.07, (-0.5, y), (0.3, y))
            for k in range(int(rng.uniform(1, 4))):
                canvas.polygon(
                    trim,
                    (x + 0.3 * k, deck + 0.4),
                    (x + 0.3 * k - 0.05, 0.55),
                    (x + 0.3 * k + 0.12, 0.55),
                    (x + 0.3 * k + 0.15, deck + 0.4),
                )
            canvas.line(BLACK, 0.05, (0.45, deck), (0.45, 0.8))
        else:  # a freighter
            canvas.line(BLACK, 0.06, (0.6, deck), (0.6, 0.6))
            for k in range(4):
                canvas.box(paint(rng), -0.42 + 0.25 * k, deck, -0.2 + 0.25 * k, deck + rng.uniform(0.15, 0.5))
            canvas.box(white, -0.85, deck, -0.48, 0.35)
            canvas.line(GLASS, 0.1, (-0.8, 0.22), (-0.5, 0.22))
            canvas.box(trim, -0.78, 0.35, -0.62, 0.6)
    bow = rng.uniform(0.0, 0.15)
    canvas.polygon(hull, (-1, deck), (1.05, deck + bow), (0.7, keel), (-0.8, keel))
    canvas.polygon(mix(hull, trim, 0.6), (-0.87, keel + 0.15), (0.8, keel + 0.15), (0.7, keel), (-0.8, keel))


def bird(canvas: Canvas, rng: Random) -> None:
    """A round body with a beak, a tail and a wing: perched on thin legs, or in flight with both wings up."""
    coat = pick(rng, (paint(rng), fur(rng)))
    belly, wing = mix(coat, WHITE, rng.uniform(0.2, 0.7)), mix(coat, BLACK, rng.uniform(0.2, 0.5))
    beak, tilt = pick(rng, ((240, 170, 40), (235, 120, 40), (70, 65, 60))), rng.uniform(0.1, 0.5)
    if rng.random() < 0.4:  # in flight
        up = rng.uniform(0.6, 1.0)
        canvas.polygon(mix(wing, BLACK, 0.2), (0.25, 0.1), (0.35, up), (0.05, up * 0.8), (-0.1, 0.1))
        canvas.polygon(wing, (-0.5, 0.08), (-1, 0.2), (-1.05, -0.1))
        canvas.ellipse(coat, 0, 0, 0.62, 0.25)
        canvas.ellipse(belly, 0.05, -0.1, 0.45, 0.13)
        canvas.polygon(wing, (0.2, 0.1), (-0.2, up), (-0.55, up * 0.9), (-0.25, 0.05))
        head = (0.58, 0.15)
    else:
        for x in (-0.08, 0.15):
            canvas.line(beak, 0.07, (x, -0.4), (x + 0.03, -0.9), (x + 0.17, -0.93))
        canvas.polygon(wing, (-0.35, 0.12), (-1, -0.15 - tilt), (-0.85, -0.4 - tilt), (-0.3, -0.2))
        canvas.ellipse(coat, 0, -0.08, 0.6, rng.uniform(0.36, 0.48), tilt)
        canvas.ellipse(belly, 0.2, -0.15, 0.33, 0.27, tilt)
        canvas.ellipse(wing, -0.2, -0.05, 0.42, 0.2, tilt)
        head = (0.42, rng.uniform(0.35, 0.55))
    x, y = head
    canvas.polygon(beak, (x + 0.15, y + 0.13), (x + rng.uniform(0.42, 0.65), y - 0.05), (x + 0.15, y - 0.12))
    canvas.disc(coat, x, y, rng.uniform(0.25, 0.3))
    eye(canvas, x + 0.09, y + 0.06, 0.09)


def cat(canvas: Canvas, rng: Random) -> None:
    """Pointed ears, whiskers and a long raised tail: walking past, or sitting and looking at us."""
    coat = fur(rng)
    mark = mix(coat, pick(rng, (BLACK, WHITE)), 0.45)
    striped = rng.random() < 0.5
    if rng.random() < 0.5:  # walking
        x, y, size = 0.68, rng.uniform(0.2, 0.4), rng.uniform(0.33, 0.4)
        curl = rng.uniform(-0.2, 0.3)
        canvas.line(coat, 0.15, (-0.6, -0.05), (-0.9, 0.25), (-0.95 + curl / 3, 0.65), (-0.8 + curl, 0.95), taper=0.7)
        legs(canvas, rng, coat, -0.52, 0.45, -0.2, 0.17)
        canvas.ellipse(coat, -0.05, -0.15, 0.68, 0.29)
        if striped:
            for k in range(4):
                canvas.line(mark, 0.07, (-0.45 + 0.22 * k, 0.12), (-0.42 + 0.22 * k, -0.15))
    else:
        x, y, size = 0.0, 0.4, rng.uniform(0.42, 0.5)
        reach = rng.uniform(0.75, 1.0)
        canvas.line(coat, 0.17, (0.2, -0.85), (0.7, -0.8), (reach, -0.4), (reach - 0.1, 0.05), taper=0.7)
        canvas.ellipse(coat, 0, -0.45, 0.5, 0.55)
        canvas.ellipse(mix(coat, WHITE, 0.5), 0, -0.4, 0.22, 0.35)
        for paw in (-0.2, 0.2):
            canvas.line(mix(coat, BLACK, 0.12), 0.17, (paw, -0.4), (paw, -0.95))
        if striped:
            for side in (-1, 1):
                for height in (-0.6, -0.35):
                    canvas.line(mark, 0.07, (side * 0.46, height), (side * 0.28, height + 0.03))
    cat_head(canvas, rng, coat, x, y, size)


def cat_head(canvas: Canvas, rng: Random, coat: Colour, x: float, y: float, size: float) -> None:
    """A cat's face, seen from the front: ``size`` from its centre (x, y) to the edge."""

    def at(across: float, up: float) -> Point:
        return x + size * across, y + size * up

    pink, tall = (225, 140, 140), rng.uniform(1.35, 1.7)
    for side in (-1, 1):
        canvas.polygon(coat, at(side * 0.95, 0.2), at(side * 0.9, tall), at(side * 0.1, 0.85))
        canvas.line(pink, 0.08, at(side * 0.65, 0.7), at(side * 0.8, 0.85 * tall))
    canvas.ellipse(coat, x, y, 1.08 * size, 0.92 * size)
    iris = pick(rng, ((90, 200, 90), (230, 200, 60), (110, 190, 230)))
    for side in (-1, 1):
        canvas.ellipse(iris, *at(side * 0.42, 0.12), 0.26 * size, 0.22 * size)
        canvas.ellipse(BLACK, *at(side * 0.42, 0.12), 0.1 * size, 0.22 * size)
        for height in (-0.1, -0.5):  # whiskers
            canvas.line(WHITE, 0.035, at(side * 0.3, -0.3), at(side * 1.4, height))
    canvas.polygon(pink, at(-0.15, -0.15), at(0.15, -0.15), at(0, -0.38))


def dog(canvas: Canvas, rng: Random) -> None:
    """Drooping ears, a long muzzle with a black nose and often a tongue: standing, or sitting and looking at us."""
    coat = fur(rng)
    ear = mix(coat, pick(rng, (BLACK, (110, 60, 30))), rng.uniform(0.4, 0.7))
    muzzle, tongue = mix(coat, WHITE, rng.uniform(0.2, 0.6)), (230, 95, 105)
    patched = rng.random() < 0.4
    if rng.random() < 0.55:  # standing, in profile
        x, y, wag = 0.6, rng.uniform(0.3, 0.45), rng.uniform(0.2, 0.6)
        canvas.line(coat, 0.16, (-0.55, 0.0), (-0.85, 0.15 + wag / 2), (-0.9, 0.15 + wag), taper=0.5)
        legs(canvas, rng, coat, -0.5, 0.4, -0.15, rng.uniform(0.18, 0.24))
        canvas.ellipse(coat, -0.08, -0.12, 0.62, rng.uniform(0.26, 0.34))
        canvas.line(coat, 0.4, (0.35, -0.05), (0.55, 0.3))
        if patched:
            canvas.ellipse(ear, -0.2, 0.0, 0.25, 0.17)
        if rng.random() < 0.5:
            canvas.ellipse(tongue, x + 0.38, y - 0.3, 0.08, 0.17)
        canvas.ellipse(muzzle, x + 0.32, y - 0.1, rng.uniform(0.28, 0.36), 0.15)
        canvas.disc(coat, x, y, 0.31)
        canvas.disc(BLACK, x + 0.62, y - 0.04, 0.09)
        eye(canvas, x + 0.14, y + 0.1, 0.08)
        canvas.ellipse(ear, x - 0.14, y - 0.1, 0.13, rng.uniform(0.3, 0.42), rng.uniform(-0.4, 0.1))
    else:
        y, size = 0.4, rng.uniform(0.4, 0.46)
        canvas.line(coat, 0.16, (0.35, -0.8), (0.8, -0.55), (0.9, -0.3), taper=0.6)
        canvas.ellipse(coat, 0, -0.45, 0.48, 0.55)
        canvas.ellipse(muzzle, 0, -0.35, 0.25, 0.3)
        for paw in (-0.22, 0.22):
            canvas.line(mix(coat, BLACK, 0.12), 0.2, (paw, -0.35), (paw, -0.95))
        canvas.ellipse(coat, 0, y, size, size)
        if patched:
            canvas.ellipse(ear, size * 0.4, y + size * 0.2, size * 0.4, size * 0.4)
        if rng.random() < 0.6:
            canvas.ellipse(tongue, 0, y - size * 0.95, size * 0.25, size * 0.4)
        canvas.ellipse(muzzle, 0, y - size * 0.45, size * 0.6, size * 0.45)
        canvas.ellipse(BLACK, 0, y - size * 0.25, size * 0.27, size * 0.19)
        hang = rng.uniform(0.75, 1.1)
        for side in (-1, 1):
            eye(canvas, side * size * 0.42, y + size * 0.28, size * 0.2)
            canvas.ellipse(ear, side * size * 1.05, y - size * 0.05, size * 0.3, size * hang, side * 0.25)


def deer(canvas: Canvas, rng: Random) -> None:
    """A slender body on thin legs, a raised neck, antlers, and often a spotted back."""
    coat = fur(rng)
    light, horn = mix(coat, WHITE, 0.6), pick(rng, ((110, 80, 50), (215, 190, 150), (70, 50, 40)))
    x, y = rng.uniform(0.5, 0.65), rng.uniform(0.3, 0.45)
    canvas.ellipse(light, -0.65, -0.02, 0.12, 0.16, 0.5)
    legs(canvas, rng, coat, -0.48, 0.3, -0.1, rng.uniform(0.09, 0.12))
    canvas.ellipse(coat, -0.1, -0.12, 0.55, rng.uniform(0.21, 0.26))
    canvas.ellipse(light, -0.1, -0.26, 0.38, 0.1)
    canvas.line(coat, 0.32, (0.25, -0.1), (x, y), taper=0.6)
    if rng.random() < 0.5:
        for k in range(6):
            canvas.disc(light, -0.42 + 0.13 * k, 0.0 - 0.1 * (k % 2), 0.045)
    tall, reach, tines = rng.uniform(0.5, 0.7), rng.uniform(0.2, 0.4), int(rng.uniform(2, 4))
    for side in (-1, 1):
        root, tip = (x + side * 0.03, y + 0.1), (x + side * reach, y + 0.12 + tall)
        bend = (x + side * reach * 1.1, y + 0.12 + tall * 0.45)
        canvas.line(horn, 0.085, root, bend, tip)
        for k in range(tines):
            along = 0.25 + 0.3 * k
            foot = (root[0] + (bend[0] - root[0]) * min(1, 2 * along), root[1] + (tip[1] - root[1]) * along)
            canvas.line(horn, 0.075, foot, (foot[0] + 0.2 * (1 if k % 2 else -1) * side, foot[1] + 0.2))
    canvas.ellipse(mix(coat, BLACK, 0.2), x - 0.2, y + 0.1, 0.17, 0.07, -0.3)
    canvas.ellipse(coat, x + 0.12, y, 0.27, 0.14, -0.35)
    canvas.disc(BLACK, x + 0.34, y - 0.09, 0.06)
    canvas.disc(BLACK, x + 0.1, y + 0.05, 0.05)


def horse(canvas: Canvas, rng: Random) -> None:
    """A heavy body on long legs, a long head, a mane down the neck and a tail of hair."""
    coat = fur(rng)
    hair = mix(coat, pick(rng, (BLACK, BLACK, WHITE)), rng.uniform(0.55, 0.9))
    x, y, flow = rng.uniform(0.6, 0.75), rng.uniform(0.4, 0.7), rng.uniform(0.0, 0.35)
    canvas.line(hair, 0.2, (-0.62, 0.12), (-0.85, 0.0 + flow / 2), (-0.9 - flow / 2, -0.6 + flow), taper=0.6)
    legs(canvas, rng, coat, -0.5, 0.38, -0.1, rng.uniform(0.15, 0.19))
    canvas.ellipse(coat, -0.3, 0.0, 0.38, 0.31)
    canvas.ellipse(coat, 0.0, -0.02, 0.6, 0.26)
    canvas.ellipse(coat, 0.28, 0.0, 0.28, 0.29)
    canvas.line(hair, 0.2, (0.2, 0.22), ((0.2 + x) / 2 - 0.12, (0.3 + y) / 2 + 0.12), (x - 0.08, y + 0.16))
    canvas.line(coat, 0.42, (0.28, 0.05), (x, y), taper=0.55)
    for ear in (0.0, 0.12):
        canvas.polygon(coat, (x - 0.1 + ear, y + 0.05), (x - 0.05 + ear, y + 0.3), (x + 0.06 + ear, y + 0.08))
    canvas.line(coat, 0.27, (x - 0.05, y + 0.08), (x + 0.2, y - 0.12), (x + 0.38, y - 0.32), taper=0.7)
    canvas.disc(mix(coat, BLACK, 0.35), x + 0.37, y - 0.3, 0.1)
    if rng.random() < 0.4:
        canvas.line(WHITE, 0.07, (x + 0.13, y + 0.02), (x + 0.33, y - 0.2))
    canvas.disc(BLACK, x + 0.06, y + 0.0, 0.05)


def frog(canvas: Canvas, rng: Random) -> None:
    """Bulging eyes, a wide mouth and bent hind legs: facing us, or crouching in profile."""
    coat = hsv(
        pick(rng, (0.3, 0.3, 0.1, rng.random())) + rng.uniform(-0.08, 0.08),
        rng.uniform(0.45, 0.9),
        rng.uniform(0.4, 0.85),
    )
    dark, belly = mix(coat, BLACK, rng.uniform(0.2, 0.4)), mix(coat, (240, 235, 180), rng.uniform(0.4, 0.8))
    mouth = mix(coat, BLACK, 0.7)
    if rng.random() < 0.55:  # facing us
        wide = rng.uniform(0.5, 0.62)
        for side in (-1, 1):
            canvas.ellipse(dark, side * 0.68, -0.35, 0.34, 0.2, side * -0.7)
            canvas.line(dark, 0.16, (side * 0.85, -0.5), (side * 0.5, -0.72), (side * 1.0, -0.78))
        canvas.ellipse(coat, 0, -0.3, wide, 0.45)
        canvas.ellipse(belly, 0, -0.42, wide * 0.7, 0.3)
        for side in (-1, 1):
            canvas.line(coat, 0.15, (side * 0.35, -0.35), (side * 0.3, -0.75), (side * 0.5, -0.82))
            canvas.disc(coat, side * 0.38, 0.42, 0.25)
        canvas.ellipse(coat, 0, 0.15, wide * 1.08, 0.34)
        canvas.line(mouth, 0.07, (-wide * 0.85, 0.12), (-wide * 0.4, -0.02), (wide * 0.4, -0.02), (wide * 0.85, 0.12))
        for side in (-1, 1):
            canvas.disc(WHITE, side * 0.38, 0.45, 0.18)
            canvas.disc(BLACK, side * 0.38, 0.45, 0.1)
    else:
        canvas.line(dark, 0.16, (-0.35, -0.55), (-0.95, -0.62), (-0.3, -0.72))
        canvas.ellipse(coat, -0.05, -0.15, 0.75, 0.33, rng.uniform(0.35, 0.55))
        canvas.ellipse(belly, 0.2, -0.2, 0.4, 0.2, 0.6)
        canvas.ellipse(coat, 0.52, 0.18, 0.4, 0.26)
        canvas.line(mouth, 0.06, (0.4, 0.08), (0.7, 0.05), (0.9, 0.12))
        canvas.ellipse(dark, -0.42, -0.38, 0.42, 0.2, rng.uniform(0.4, 0.8))
        canvas.line(dark, 0.15, (-0.6, -0.6), (0.0, -0.68), (0.12, -0.72))
        canvas.line(coat, 0.15, (0.35, -0.15), (0.3, -0.5), (0.5, -0.72))
        canvas.disc(coat, 0.5, 0.42, 0.23)
        eye(canvas, 0.53, 0.44, 0.16)
    for _ in range(int(rng.uniform(0, 5))):
        canvas.disc(dark, rng.uniform(-0.3, 0.3), rng.uniform(-0.25, 0.1), 0.06)


# What draws each class, and where it is mostly at home; no class has a place of its own.
FIGURES: dict[str, tuple[Callable[[Canvas, Random], None], tuple[str, ...]]] = {
    "airplane": (airplane, ("sky", "sky", "road", "grass", "water")),
    "automobile": (automobile, ("road", "road", "grass")),
    "bird": (bird, ("sky", "grass", "water", "road")),
    "cat": (cat, ("grass", "road")),
    "deer": (deer, ("grass", "grass", "road", "water")),
    "dog": (dog, ("grass", "road", "water")),
    "frog": (frog, ("grass", "water", "road")),
    "horse": (horse, ("grass", "grass", "road")),
    "ship": (ship, ("water", "water", "sky")),
    "truck": (truck, ("road", "road", "grass")),
}
PLACES = ("sky", "road", "grass", "water")

# --- One image, and all of them ------------------------------------------------------------------------------------


def draw_doodle(rng: Random, name: str) -> NDArray[np.uint8]:
    """One image of the class ``name``, as uint8 of shape 3×32×32."""
    figure, homes = FIGURES[name]
    image = scene(rng, pick(rng, PLACES) if rng.random() < 0.2 else pick(rng, homes))
    canvas = Canvas()
    figure(canvas, rng)
    canvas.pose(rng, turn=0.2, size=rng.uniform(0.78, 1.0))
    ink = pick(rng, (BLACK, BLACK, WHITE, paint(rng)))
    canvas.draw(image, ink, ink_width=int(rng.uniform(0, 4.5)))
    pixels = np.asarray(image.reduce(OVERSAMPLING), dtype=np.int64)
    # Exposure and sensor noise, in 256ths: integers, for the same result everywhere.
    gain, offset, grain = int(rng.uniform(200, 290)), int(rng.uniform(-15, 30)), int(rng.uniform(0, 32))
    noise = np.frombuffer(rng.randbytes(pixels.size), np.uint8).reshape(pixels.shape).astype(np.int64) - 128
    pixels = (pixels * gain + noise * grain) // 256 + offset
    return pixels.clip(0, 255).astype(np.uint8).transpose(2, 0, 1)


def draw_doodles(split: str, count: int | None = None, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draws the first ``count`` images of a split.

    Args:
        split: ``"train"`` or ``"test"``; the two never share an image.
        count: how many, at least one. ``None`` draws the whole split: 5,000 or 1,000. A larger number draws on.
        seed: another seed draws another data set with the same classes.

    Returns:
        The images, uint8 of shape ``count``×3×32×32, and the labels, int64 of shape ``count``, indices into
        :data:`CLASSES`. Image ``i`` depends on ``seed``, ``split`` and ``i`` alone, so fewer images are a prefix
        of more. Each ten in a row, from the first on, show each class once, in random order.

    Raises:
        CourseError: for an unknown split or a count below one.
    """
    sizes = {"train": TRAIN_SIZE, "test": TEST_SIZE}
    if split not in sizes:
        raise CourseError(f"doodles has no split {split!r}; use {nearest(str(split), sizes)}.")
    count = sizes[split] if count is None else count
    if not isinstance(count, int) or count < 1:
        raise CourseError(f"Cannot draw {count!r} doodles; count must be an integer of at least 1, or None for all.")
    images = np.empty((count, 3, SIZE, SIZE), np.uint8)
    labels = np.empty(count, np.int64)
    for i in range(count):
        if i % len(CLASSES) == 0:
            # Sorting by random keys is a shuffle whose result no version of Python will change.
            shuffler = Random(f"doodles {seed} {split} labels {i}")
            order = sorted(range(len(CLASSES)), key=lambda _: shuffler.random())
        labels[i] = order[i % len(CLASSES)]
        images[i] = draw_doodle(Random(f"doodles {seed} {split} {i}"), CLASSES[labels[i]])
    return images, labels
