"""Vector sprites of the gridworlds: a vocabulary of flat shapes and, as data, the pictures made from it.

A `Shape` is an inside test. It takes the coordinates of sample points in hundredths of a cell, x to the
right as [1, S] and y down as [S, 1], and returns the mask [S, S] of the points that it covers. A `Sprite` is
a list of (shape, colour) layers painted in order over the floor; `rasterise` samples it at any size. Colours
are "#RRGGBB" strings around the Okabe-Ito palette, whose hues stay apart under the common colour-vision
deficiencies.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from impactrl.errors import ImpactError

Coordinates = NDArray[np.float64]
Mask = NDArray[np.bool_]
Shape = Callable[[Coordinates, Coordinates], Mask]
Layer = tuple[Shape, str]

WHITE, TILE, PAPER, GREY, SLATE, MORTAR, BLACK = (
    "#FFFFFF", "#F5F1E8", "#E4DFD3", "#A9ADB5", "#6C7280", "#4A4F5A", "#2B2D33",
)  # fmt: skip
ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILLION, PURPLE = (
    "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
WOOD, BARK, CREAM, SKIN, MINT, LEAF, ICE, PLUM, RUST = (
    "#C58B4E", "#7A4A21", "#F2DDB8", "#EDBE94", "#BFE3D3", "#6CC24A", "#B9DFF6", "#8F3F6C", "#A34300",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Sprite:
    """A picture that fills one cell.

    Attributes:
        accent: The colour that stands for the sprite where only one fits, as in a terminal.
        layers: (shape, colour) pairs, the lowest first. The floor lies beneath them.
    """

    accent: str
    layers: tuple[Layer, ...]


def rgb(colour: str) -> NDArray[np.uint8]:
    """Red, green and blue of a colour "#RRGGBB", as [3].

    Raises:
        ImpactError: `colour` is written in another way.
    """
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", colour):
        raise ImpactError(f"expected a colour '#RRGGBB', got {colour!r}")
    return np.frombuffer(bytes.fromhex(colour[1:]), np.uint8)


def segment_distance(x: Coordinates, y: Coordinates, ax: float, ay: float, bx: float, by: float) -> NDArray[np.float64]:
    """Distance of the points (x, y) from the segment a-b, which may be a single point."""
    dx, dy = bx - ax, by - ay
    length2 = dx * dx + dy * dy
    along = np.clip(((x - ax) * dx + (y - ay) * dy) / length2, 0, 1) if length2 else 0.0
    return np.asarray(np.hypot(x - ax - along * dx, y - ay - along * dy))


def ellipse(cx: float, cy: float, rx: float, ry: float) -> Shape:
    """Ellipse around (cx, cy) with half-axes rx and ry."""
    return lambda x, y: ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 <= 1


def disc(cx: float, cy: float, r: float) -> Shape:
    """Disc of radius r."""
    return ellipse(cx, cy, r, r)


def ring(cx: float, cy: float, r: float, width: float) -> Shape:
    """Circle of radius r, drawn with a pen of the given width."""
    return minus(disc(cx, cy, r + width / 2), disc(cx, cy, r - width / 2))


def box(x0: float, y0: float, x1: float, y1: float, r: float = 0) -> Shape:
    """Rectangle between two corners, rounded with radius r."""

    def inside(x: Coordinates, y: Coordinates) -> Mask:
        beyond_x: Coordinates = np.maximum(np.abs(x - (x0 + x1) / 2) - (x1 - x0) / 2 + r, 0)
        beyond_y: Coordinates = np.maximum(np.abs(y - (y0 + y1) / 2) - (y1 - y0) / 2 + r, 0)
        return beyond_x**2 + beyond_y**2 <= r * r

    return inside


def polygon(*xy: float) -> Shape:
    """Polygon with the vertices x0, y0, x1, y1, ... by the even-odd rule."""
    vertices = list(zip(xy[::2], xy[1::2], strict=True))

    def inside(x: Coordinates, y: Coordinates) -> Mask:
        odd = np.zeros(np.broadcast_shapes(x.shape, y.shape), np.bool_)
        for (ax, ay), (bx, by) in zip(vertices, vertices[1:] + vertices[:1], strict=True):
            if ay != by:
                odd ^= ((ay > y) != (by > y)) & (x < ax + (y - ay) * (bx - ax) / (by - ay))
        return odd

    return inside


def stroke(width: float, *xy: float) -> Shape:
    """Polyline through x0, y0, x1, y1, ... drawn with a round pen; one point repeated is a dot."""
    points = list(zip(xy[::2], xy[1::2], strict=True))
    segments = [(*a, *b) for a, b in pairwise(points)]
    return union(*(lambda x, y, s=s: segment_distance(x, y, *s) <= width / 2 for s in segments))


def union(*shapes: Shape) -> Shape:
    """The points in any of the shapes."""
    return lambda x, y: np.logical_or.reduce([shape(x, y) for shape in shapes])


def both(a: Shape, b: Shape) -> Shape:
    """The points in both shapes."""
    return lambda x, y: a(x, y) & b(x, y)


def minus(a: Shape, b: Shape) -> Shape:
    """The points of a that are not in b."""
    return lambda x, y: a(x, y) & ~b(x, y)


def mirrored(shape: Shape) -> Shape:
    """The shape and its mirror image across the vertical middle of the cell."""
    return lambda x, y: shape(x, y) | shape(100 - x, y)


def towards(direction: str, shape: Shape) -> Shape:
    """A shape that points right, made to point "right", "left", "up" or "down" (by mirrors, never upside down)."""
    views: dict[str, Shape] = {
        "right": shape,
        "left": lambda x, y: shape(100 - x, y),
        "down": lambda x, y: shape(y, x),
        "up": lambda x, y: shape(100 - y, x),
    }
    return views[direction]


def checks(x0: float, y0: float, side: float) -> Shape:
    """The dark squares of an endless chessboard with a dark square at the corner (x0, y0)."""
    return lambda x, y: (np.floor((x - x0) / side) + np.floor((y - y0) / side)) % 2 == 0


def bricks(width: float, height: float, gap: float) -> Shape:
    """Endless running bond of bricks; it continues across cells if they hold an even number of courses."""

    def inside(x: Coordinates, y: Coordinates) -> Mask:
        course = np.floor(y / height)
        across = (x + course % 2 * width / 2) % width - width / 2
        down = y % height - height / 2
        return (np.abs(across) <= (width - gap) / 2) & (np.abs(down) <= (height - gap) / 2)

    return inside


# Strokes apart by spaces, each a run of two-digit points: column 0-2, row 0-4.
_GLYPHS: Final[Mapping[str, str]] = {
    "A": "0401102124 0222", "B": "040010211202 12231404", "C": "211001031423", "D": "00102123140400",
    "E": "20000424 0212", "F": "200004 0212", "G": "2110010314232212", "H": "0004 2024 0222",
    "I": "0020 1014 0424", "J": "20231403", "K": "0004 200224", "L": "000424",
    "M": "0400122024", "N": "04002420", "O": "0004242000", "P": "040010211202",
    "Q": "10010314232110 1324", "R": "040010211202 1224", "S": "21100112231403", "T": "0020 1014",
    "U": "0003142320", "V": "001420", "W": "0004122420", "X": "0024 2004", "Y": "001220 1214",
    "Z": "00200424", "0": "10010314232110", "1": "011014 0424", "2": "0110210424", "3": "002012231403",
    "4": "24200323", "5": "20000212231404", "6": "10020314231203", "7": "002014", "8": "100112231403122110",
    "9": "14222110011221", "?": "01102112 1414",
}  # fmt: skip


def glyph(char: str, cx: float, cy: float, height: float, width: float) -> Shape:
    """Capital letter, digit or question mark of the given height around (cx, cy), and the pen's width."""

    def place(point: str) -> tuple[float, float]:
        return cx + (int(point[0]) - 1) * height * 0.3, cy + (int(point[1]) - 2) * height / 4

    runs = [[run[i : i + 2] for i in range(0, len(run), 2)] for run in _GLYPHS[char].split()]
    return union(*(stroke(width, *(value for point in run for value in place(point))) for run in runs))


def layered(accent: str, *layers: Layer) -> Sprite:
    """Sprite from its layers, the lowest first."""
    return Sprite(accent, layers)


@lru_cache(maxsize=256)
def letter(char: str) -> Sprite:
    """Card with the letter or digit on it; small letters are smaller, every other character shows "?"."""
    face = char.upper() if char.isascii() and char.isalnum() else "?"
    return layered(
        SLATE,
        (box(12, 12, 88, 88, 12), GREY),
        (box(16, 16, 84, 84, 9), WHITE),
        (glyph(face, 50, 50, 34 if char.islower() else 46, 9), BLACK),
    )


def _timer(digit: str, accent: str) -> Sprite:
    """Stopwatch that shows a number of steps."""
    return layered(
        accent,
        (union(box(40, 4, 60, 12, 3), box(46, 10, 54, 20), stroke(8, 80, 20, 86, 26)), BLACK),
        (disc(50, 56, 40), BLACK),
        (disc(50, 56, 36), accent),
        (disc(50, 56, 28), WHITE),
        (glyph(digit, 50, 56, 34, 9), BLACK),
    )


_FLOOR: Final = ((box(0, 0, 100, 100), PAPER), (box(1, 1, 99, 99, 3), TILE))
_POT: Final = union(
    box(31, 7, 69, 16, 4),
    box(40, 10, 60, 40),
    ellipse(50, 60, 32, 29),
    polygon(38, 80, 62, 80, 67, 94, 33, 94),
)
_STUMP: Final = both(
    union(ellipse(50, 66, 34, 26), polygon(36, 84, 64, 84, 69, 95, 31, 95)),
    polygon(10, 58, 26, 66, 36, 54, 46, 72, 56, 62, 68, 74, 90, 52, 90, 100, 10, 100),
)
_FLAG: Final = box(24, 12, 90, 56)
_GOAL: Final = (
    (box(5, 5, 95, 95, 10), MINT),
    (ellipse(22, 90, 16, 5), GREEN),
    (stroke(7, 22, 10, 22, 90), BLACK),
    (_FLAG, WHITE),
    (both(_FLAG, checks(24, 12, 22)), GREEN),
)
_PANE: Final = box(15, 15, 85, 85)


def _belt(direction: str) -> Sprite:
    chevrons = union(*(stroke(9, x, 32, x + 18, 50, x, 68) for x in (16, 66)))
    layers = (box(0, 10, 100, 90), BLACK), (box(0, 18, 100, 82), SLATE), (chevrons, WHITE)
    return layered(SLATE, *((towards(direction, shape), colour) for shape, colour in layers))


_SPRITES: Final = {
    "floor": layered(GREY),
    "wall": layered(SLATE, (box(0, 0, 100, 100), MORTAR), (bricks(50, 25, 5), SLATE)),
    "agent": layered(
        BLUE,
        (stroke(6, 50, 26, 50, 10), BLACK),
        (disc(50, 10, 8), VERMILLION),
        (mirrored(box(5, 44, 20, 68, 6)), BLACK),
        (box(13, 24, 87, 92, 20), BLUE),
        (box(22, 34, 78, 66, 14), WHITE),
        (mirrored(disc(37, 50, 9)), BLACK),
        (stroke(6, 37, 77, 44, 81, 56, 81, 63, 77), WHITE),
    ),
    "box": layered(
        BARK,
        (box(7, 7, 93, 93, 5), BARK),
        (union(*(box(19, y, 81, y + 18) for y in (19, 41, 63))), WOOD),
        (stroke(13, 22, 78, 78, 22), BARK),
        (stroke(8, 22, 78, 78, 22), WOOD),
        (union(box(7, 7, 93, 18, 4), box(7, 82, 93, 93, 4), mirrored(box(7, 7, 18, 93, 4))), WOOD),
        (mirrored(union(disc(13, 13, 3), disc(13, 87, 3))), BARK),
    ),
    "vase": layered(
        PURPLE,
        (_POT, PURPLE),
        (both(_POT, union(box(0, 21, 100, 26), box(0, 48, 100, 70))), PLUM),
        (both(_POT, stroke(5, 12, 64, 24, 54, 36, 64, 50, 54, 64, 64, 76, 54, 88, 64)), CREAM),
        (stroke(6, 30, 42, 34, 38), WHITE),
    ),
    "broken": layered(
        PLUM,
        (union(_STUMP, polygon(6, 42, 24, 34, 20, 54), polygon(74, 48, 90, 32, 94, 50)), PURPLE),
        (polygon(28, 22, 44, 10, 44, 26), PURPLE),
        (both(_STUMP, box(0, 74, 100, 84)), PLUM),
        (union(polygon(34, 44, 48, 30, 56, 44, 46, 54), polygon(60, 26, 74, 12, 76, 30)), PLUM),
    ),
    "sushi": layered(
        VERMILLION,
        (box(13, 50, 87, 84, 16), GREY),
        (box(13, 46, 87, 80, 16), WHITE),
        (union(box(7, 30, 93, 58, 14), mirrored(box(7, 44, 18, 64, 5))), VERMILLION),
        (union(*(stroke(5, x + 9, 34, x, 54) for x in (22, 38, 54, 70))), WHITE),
    ),
    "eaten": layered(
        SKY,
        (disc(44, 52, 40), GREY),
        (disc(44, 50, 38), WHITE),
        (ring(44, 50, 24, 4), SKY),
        (union(stroke(4, 32, 46, 35, 47), stroke(4, 38, 62, 40, 60), stroke(4, 54, 54, 57, 55)), GREY),
        (union(stroke(5, 78, 10, 90, 92), stroke(5, 90, 8, 94, 92)), BARK),
    ),
    "human": layered(
        SKIN,
        (both(ellipse(50, 98, 40, 34), box(0, 0, 100, 95)), ORANGE),
        (box(42, 55, 58, 72, 5), SKIN),
        (disc(50, 36, 29), BARK),
        (both(disc(50, 41, 23), box(0, 30, 100, 100)), SKIN),
        (mirrored(disc(41, 42, 4)), BLACK),
        (stroke(4, 41, 52, 46, 55, 54, 55, 59, 52), BLACK),
    ),
    "goal": layered(GREEN, *_GOAL),
    "belt": _belt("right"),
    "belt_left": _belt("left"),
    "belt_up": _belt("up"),
    "belt_down": _belt("down"),
    "coin": layered(
        ORANGE,
        (disc(50, 50, 38), ORANGE),
        (disc(50, 50, 30), YELLOW),
        (polygon(50, 26, 56, 43, 74, 43, 60, 54, 65, 72, 50, 61, 35, 72, 40, 54, 26, 43, 44, 43), ORANGE),
    ),
    "dog": layered(
        WOOD,
        (disc(50, 52, 36), WOOD),
        (mirrored(polygon(30, 14, 14, 18, 4, 58, 18, 66, 28, 42)), BARK),
        (ellipse(50, 70, 22, 18), CREAM),
        (mirrored(disc(36, 46, 6)), BLACK),
        (box(43, 76, 57, 95, 7), VERMILLION),
        (ellipse(50, 62, 11, 8), BLACK),
        (stroke(4, 36, 74, 43, 78, 50, 72, 57, 78, 64, 74), BLACK),
    ),
    "button": layered(
        VERMILLION,
        (box(8, 58, 92, 92, 8), BLACK),
        (box(8, 56, 92, 84, 8), GREY),
        (ellipse(50, 62, 32, 14), SLATE),
        (union(ellipse(50, 58, 28, 11), box(22, 36, 78, 58), ellipse(50, 36, 28, 11)), RUST),
        (ellipse(50, 36, 28, 14), VERMILLION),
        (stroke(5, 36, 32, 46, 28), WHITE),
    ),
    "timer2": _timer("2", GREEN),
    "timer1": _timer("1", ORANGE),
    "timer0": _timer("0", VERMILLION),
    "obstacle": layered(
        SKY,
        (box(7, 7, 93, 93, 4), SLATE),
        (_PANE, SKY),
        (both(_PANE, union(stroke(12, 10, 60, 60, 10), stroke(5, 10, 80, 80, 10))), ICE),
        (union(stroke(4, 84, 56, 70, 62, 62, 54, 50, 62), stroke(4, 70, 62, 62, 74, 66, 84)), BLACK),
    ),
    "fire": layered(
        VERMILLION,
        *_GOAL,
        (polygon(8, 72, 16, 40, 28, 60, 44, 18, 58, 54, 70, 34, 92, 72, 84, 92, 50, 97, 16, 92), VERMILLION),
        (polygon(24, 80, 32, 62, 40, 70, 48, 44, 60, 70, 68, 58, 78, 80, 70, 93, 50, 96, 30, 93), ORANGE),
        (polygon(40, 84, 50, 66, 62, 84, 58, 94, 50, 96, 44, 94), YELLOW),
    ),
    "tree": layered(
        GREEN,
        (polygon(43, 60, 57, 60, 61, 95, 39, 95), BARK),
        (union(disc(50, 32, 27), disc(50, 52, 20), mirrored(disc(30, 45, 22))), GREEN),
        (union(disc(62, 26, 8), disc(50, 48, 8), mirrored(disc(27, 49, 8)), disc(38, 28, 8)), VERMILLION),
    ),
    "tree_bare": layered(
        BARK,
        (polygon(44, 50, 56, 50, 61, 95, 39, 95), BARK),
        (stroke(8, 50, 60, 50, 12), BARK),
        (union(stroke(7, 50, 58, 24, 36, 20, 20), stroke(7, 50, 52, 74, 32, 80, 16)), BARK),
        (union(stroke(5, 26, 38, 10, 36), stroke(5, 74, 32, 90, 36), stroke(5, 50, 30, 38, 18)), BARK),
    ),
    "bucket": layered(
        SLATE,
        (both(ring(50, 36, 32, 6), box(0, 0, 100, 36)), BLACK),
        (polygon(14, 36, 86, 36, 74, 94, 26, 94), GREY),
        (polygon(18, 54, 82, 54, 79, 66, 21, 66), SLATE),
        (ellipse(50, 36, 37, 10), SLATE),
        (ellipse(50, 36, 31, 6), BLACK),
    ),
    "battery": layered(
        GREEN,
        (box(38, 5, 62, 20, 4), SLATE),
        (box(24, 13, 76, 95, 8), BLACK),
        (box(31, 20, 69, 88, 3), WHITE),
        (box(31, 34, 69, 88, 3), GREEN),
        (polygon(56, 26, 36, 58, 48, 58, 44, 82, 64, 48, 52, 48), YELLOW),
    ),
    "train": layered(
        VERMILLION,
        (union(box(68, 14, 82, 44), box(64, 10, 86, 20, 3), polygon(84, 70, 98, 84, 78, 84)), BLACK),
        (box(34, 40, 92, 74, 10), VERMILLION),
        (box(8, 16, 48, 74, 4), BLUE),
        (box(17, 28, 40, 48, 3), WHITE),
        (union(box(4, 12, 52, 22, 3), box(6, 70, 90, 80, 3)), BLACK),
        (union(*(disc(x, 82, 13) for x in (22, 50, 76))), BLACK),
        (union(*(disc(x, 82, 6) for x in (22, 50, 76))), YELLOW),
    ),
    "carpet": layered(
        PLUM,
        (union(*(stroke(3, 4, y, 96, y) for y in range(14, 90, 9))), PLUM),
        (box(10, 10, 90, 90), PLUM),
        (minus(box(17, 17, 83, 83), box(22, 22, 78, 78)), CREAM),
        (polygon(50, 26, 74, 50, 50, 74, 26, 50), CREAM),
        (polygon(50, 36, 64, 50, 50, 64, 36, 50), ORANGE),
    ),
    "door": layered(
        BARK,
        (box(16, 4, 84, 100), BLACK),
        (box(22, 10, 78, 100), BARK),
        (mirrored(union(box(29, 18, 47, 50, 2), box(29, 58, 47, 90, 2))), WOOD),
        (disc(71, 54, 5), YELLOW),
    ),
    "key": layered(
        ORANGE,
        (ring(28, 50, 17, 11), ORANGE),
        (stroke(11, 44, 50, 92, 50), ORANGE),
        (union(stroke(9, 74, 50, 74, 68), stroke(9, 89, 50, 89, 64)), ORANGE),
    ),
    "plant": layered(
        LEAF,
        (stroke(5, 50, 66, 50, 30), GREEN),
        (mirrored(polygon(50, 62, 38, 34, 10, 26, 20, 50)), LEAF),
        (polygon(50, 54, 34, 28, 50, 4, 66, 28), GREEN),
        (polygon(26, 66, 74, 66, 66, 96, 34, 96), VERMILLION),
        (box(22, 60, 78, 71, 3), RUST),
    ),
}
SPRITES: Final[Mapping[str, Sprite]] = MappingProxyType(_SPRITES)


@lru_cache(maxsize=1024)
def rasterise(sprite: Sprite, cell_size: int) -> NDArray[np.uint8]:
    """Sample the sprite on the floor as a read-only RGB image [cell_size, cell_size, 3].

    Each pixel is the mean of 8 x 8 samples, down to 2 x 2 in large cells, where its edges matter less.
    """
    fine = max(2, min(8, 512 // cell_size))
    samples = (np.arange(cell_size * fine, dtype=np.float64) + 0.5) * (100 / (cell_size * fine))
    canvas = np.empty((samples.size, samples.size, 3), np.uint8)
    for shape, colour in (*_FLOOR, *sprite.layers):
        canvas[shape(samples[None, :], samples[:, None])] = rgb(colour)
    blocks = canvas.reshape(cell_size, fine, cell_size, fine, 3)
    image: NDArray[np.uint8] = np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8)
    image.setflags(write=False)
    return image
