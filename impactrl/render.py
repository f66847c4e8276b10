"""Pictures of boards, paths and episodes, in pure numpy.

A board is a uint8 array [H, W] of the published characters; `tiles` names the sprite of each character. A
character without a name is drawn as floor if it is a space, else as a card with its letter or digit.
"""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import NDArray

from impactrl.errors import ImpactError
from impactrl.sprites import BLACK, SPRITES, WHITE, Sprite, letter, rasterise, rgb, segment_distance

__all__ = ["SPRITES", "draw_board", "draw_path", "draw_text_board", "filmstrip"]

Image = NDArray[np.uint8]
Stroke = tuple[float, float, float, float, float]


def draw_board(board: NDArray[np.uint8], tiles: Mapping[str, str], *, cell_size: int = 48) -> Image:
    """Draw every cell as its sprite on the floor.

    Args:
        board: Character codes [H, W].
        tiles: From a character of the board to a name in `SPRITES`.
        cell_size: Side of a cell in pixels, 4 to 512.

    Returns:
        RGB image [H * cell_size, W * cell_size, 3], new at each call.

    Raises:
        ImpactError: The board, a sprite's name or the cell size is not as above.
    """
    _check_board(board, tiles)
    _check_cell_size(cell_size)
    codes, which = np.unique(board, return_inverse=True)
    pictures = np.stack([rasterise(_sprite(chr(code), tiles), cell_size) for code in codes])
    height, width = board.shape
    # One gather of pixel rows is ten times faster than stacking whole cells and transposing them.
    pixels = pictures[which.reshape(height, 1, width), np.arange(cell_size)[:, None]]
    return pixels.reshape(height * cell_size, width * cell_size, 3)


def draw_text_board(board: NDArray[np.uint8], tiles: Mapping[str, str], *, colour: bool = True) -> str:
    """Write the board's own characters, a line per row, without a newline at the end.

    Args:
        board: Character codes [H, W].
        tiles: From a character of the board to a name in `SPRITES`, whose accent colours the character.
        colour: Whether to add the escape sequences of a terminal with 256 colours.

    Raises:
        ImpactError: The board or a sprite's name is not as above.
    """
    _check_board(board, tiles)
    rows = [bytes(row).decode("latin-1") for row in board]
    if not colour:
        return "\n".join(rows)
    escapes = {char: _escape(SPRITES[name].accent) for char, name in tiles.items()}

    def paint(row: str) -> str:
        runs = ((escape, "".join(run)) for escape, run in groupby(row, lambda char: escapes.get(char, "")))
        return "".join(f"{escape}{run}\x1b[0m" if escape else run for escape, run in runs)

    return "\n".join(map(paint, rows))


def draw_path(image: Image, cells: Sequence[tuple[int, int]], *, cell_size: int = 48, colour: str = BLACK) -> Image:
    """Overlay a path: a dot in its first cell, a line through the cell centres, an arrow head in its last.

    Args:
        image: RGB image [H * cell_size, W * cell_size, 3] of a board; it is left as it is.
        cells: (row, column) at each time; standing still and coming back are fine, no cells draw nothing.
        cell_size: Side of a cell in pixels, 4 to 512.
        colour: Of the line, "#RRGGBB"; a pale edge sets it off from whatever lies beneath.

    Returns:
        A new image of the same shape.

    Raises:
        ImpactError: A cell is off the board, or the image, the cell size or the colour is not as above.
    """
    _check_cell_size(cell_size)
    _check_frame(image)
    height, width = image.shape[:2]
    rows, columns = height // cell_size, width // cell_size
    if height % cell_size or width % cell_size:
        raise ImpactError(f"expected an image of whole cells of {cell_size} px, got {height} x {width} px")
    for row, column in cells:
        if not (0 <= row < rows and 0 <= column < columns):
            raise ImpactError(f"expected cells on a board of {rows} x {columns}, got ({row}, {column})")

    edge = max(1.0, cell_size * 0.03)
    outside = np.full((height, width), np.inf)
    for ax, ay, bx, by, pen in np.array(list(_strokes(cells))).reshape(-1, 5) * cell_size:
        reach = pen / 2 + edge + 1
        top, left = max(0, int(min(ay, by) - reach)), max(0, int(min(ax, bx) - reach))
        window = outside[top : int(max(ay, by) + reach) + 1, left : int(max(ax, bx) + reach) + 1]
        y, x = (np.arange(size, dtype=np.float64) + 0.5 for size in window.shape)
        distance = segment_distance(x[None, :] + left, y[:, None] + top, ax, ay, bx, by)
        np.minimum(window, distance - pen / 2, out=window)

    painted = image.astype(np.float64)
    for distance, paint, opacity in ((outside - edge, WHITE, 0.6), (outside, colour, 0.8)):
        painted += opacity * np.clip(0.5 - distance, 0, 1)[..., None] * (rgb(paint) - painted)
    return np.rint(painted).astype(np.uint8)


def filmstrip(frames: Sequence[Image], *, columns: int = 8, gap: int = 8) -> Image:
    """Lay frames out row by row, with white between them and after the last.

    Args:
        frames: RGB images, all [H, W, 3].
        columns: Most frames in a row.
        gap: Pixels between neighbours.

    Returns:
        RGB image [R * H + (R - 1) * gap, C * W + (C - 1) * gap, 3] with C = min(columns, frames) and R rows.

    Raises:
        ImpactError: There is no frame, the frames differ in shape, or `columns` or `gap` is too small.
    """
    if not frames:
        raise ImpactError("expected at least one frame, got none")
    if columns < 1 or gap < 0:
        raise ImpactError(f"expected columns >= 1 and gap >= 0, got columns={columns}, gap={gap}")
    for frame in frames:
        _check_frame(frame)
    if len(shapes := {frame.shape for frame in frames}) > 1:
        raise ImpactError(f"expected frames of one shape, got {sorted(shapes)}")
    height, width = frames[0].shape[:2]
    columns = min(columns, len(frames))
    rows = -(-len(frames) // columns)
    strip = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for index, frame in enumerate(frames):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        strip[top : top + height, left : left + width] = frame
    return strip


def _sprite(char: str, tiles: Mapping[str, str]) -> Sprite:
    """Sprite of a character; a nameless one gets the floor or a card."""
    if char in tiles:
        return SPRITES[tiles[char]]
    return SPRITES["floor"] if char == " " else letter(char)


def _escape(colour: str) -> str:
    """Terminal sequence of the entry of the 6 x 6 x 6 colour cube that is nearest to the colour."""
    red, green, blue = (round(int(value) / 51) for value in rgb(colour))
    return f"\x1b[38;5;{16 + 36 * red + 6 * green + blue}m"


def _strokes(cells: Sequence[tuple[int, int]]) -> Iterator[Stroke]:
    """Pen strokes (ax, ay, bx, by, pen width) of a path, in cells; each line once."""
    points = [(column + 0.5, row + 0.5) for row, column in cells]
    moves = [(a, b) for a, b in pairwise(points) if a != b]
    for x, y in points[:1]:
        yield x, y, x, y, 0.28
    for a, b in {(min(move), max(move)) for move in moves}:
        yield *a, *b, 0.1
    for (ax, ay), (bx, by) in moves[-1:]:
        ahead = np.array([bx - ax, by - ay]) / np.hypot(bx - ax, by - ay)
        aside = np.array([-ahead[1], ahead[0]])
        for side in (aside, -aside):
            barb_x, barb_y = (bx, by) - 0.18 * ahead + 0.18 * side
            yield bx, by, barb_x, barb_y, 0.1


def _check_board(board: NDArray[np.uint8], tiles: Mapping[str, str]) -> None:
    if board.dtype != np.uint8 or board.ndim != 2 or not board.size:
        raise ImpactError(f"expected a board of uint8 [H, W], got {board.dtype} {list(board.shape)}")
    for char, name in tiles.items():
        if name not in SPRITES:
            near = get_close_matches(name, SPRITES) or sorted(SPRITES)
            raise ImpactError(f"expected a sprite's name for {char!r}, got {name!r}; is it one of {near}?")


def _check_cell_size(cell_size: int) -> None:
    if not 4 <= cell_size <= 512:
        raise ImpactError(f"expected a cell size of 4 to 512 px, got {cell_size}")


def _check_frame(frame: Image) -> None:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise ImpactError(f"expected an RGB image of uint8 [H, W, 3], got {frame.dtype} {list(frame.shape)}")
