"""Episodes as moving pictures: the board of every step, and beneath it what the step did."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from impactrl.errors import ImpactError
from impactrl.explaining import parse_actions
from impactrl.game import Game, Moment, new_game, take
from impactrl.measures.penalty import Penalty
from impactrl.playing import number
from impactrl.render import draw_board, filmstrip
from impactrl.sprites import BLACK, MORTAR, SLATE, TILE, VERMILLION, WHITE
from impactrl.world import AnyWorld

__all__ = ["draw_frames", "record"]

Frame = NDArray[np.uint8]
Entry = tuple[str, str, str]
"""A name, its value and the value's colour."""

FIRST_SECONDS: Final = 1.0
"""The first frame stays at least that long."""
LAST_SECONDS: Final = 2.0
"""The last frame stays at least that long."""
DARK_GREEN: Final = "#00704F"
GIF_COLOURS: Final = 255
"""A GIF has 256; the one left over says "as in the frame before", which makes for small files."""


def record(
    source: "str | gym.Env[Any, Any] | AnyWorld",
    *,
    actions: str | Sequence[int],
    path: str | os.PathLike[str],
    penalty: Penalty | None = None,
    seed: int = 0,
    cell_size: int = 48,
    fps: float = 4,
    **settings: Any,
) -> int:
    """Plays actions and writes the episode as a film, whole or not at all.

    The episode is that of `impactrl.explain`, and so are its numbers.

    Args:
        source: as in `compile_mdp`.
        actions: see `impactrl.explaining.parse_actions`; those after the end of the episode are not played.
        path: ends in .gif, .mp4 (needs the extra `render`) or .png (a filmstrip). An old file of that name is
            replaced.
        penalty: whose impact is shown; None or deviation "none" for no penalty.
        seed: of chance.
        cell_size: side of a cell in pixels.
        fps: steps per second of .gif and .mp4; the first and the last frame stay longer.
        settings: of the level, where `source` is a name.

    Returns:
        The number of frames: one for the start and one for every step.

    Raises:
        ImpactError: another ending, a file that cannot be written, imageio missing for .mp4, an impossible `fps`
            or `cell_size`, and as `impactrl.explain`.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _WRITERS:
        raise ImpactError(f"expected a path ending in one of {', '.join(_WRITERS)}, got {path.name!r}")
    if not 0.1 <= fps <= 50:
        raise ImpactError(f"fps must be from 0.1 to 50, not {fps}")
    game = new_game(source, penalty=penalty, seed=seed, **settings)
    for action in parse_actions(actions, list(game.rules.world.actions)):
        if game.over:
            break
        game = take(game, action)
    frames = draw_frames(game, cell_size=cell_size)
    draft = path.with_name(f".{path.stem}-{uuid4().hex}{suffix}")
    try:
        draft.touch(exist_ok=False)  # so that an impossible path is the system's word, not a library's
        try:
            _WRITERS[suffix](draft, frames, float(fps))
            os.replace(draft, path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or str(error).partition("\n")[0]
        raise ImpactError(f"cannot write {path}: {reason}") from None
    return len(frames)


# ---------------------------------------------------------------------------------------------------- the frames


def draw_frames(game: Game, *, cell_size: int = 48) -> list[Frame]:
    """The board at every moment of a game, and beneath it the step, its action and the columns so far.

    A step with a new side effect has a coloured bar and a coloured edge.

    Args:
        game: with its history.
        cell_size: side of a cell in pixels.

    Returns:
        RGB images, all [height, width, 3].
    """
    world = game.rules.world
    boards = [draw_board(world.board(m.state), world.tiles, cell_size=cell_size) for m in game.moments]
    # A table of states writes them out, so its boards differ in size.
    height, width = (max(board.shape[axis] for board in boards) for axis in (0, 1))
    caption = _Caption(game=game, board_width=width, font_size=max(12, round(0.25 * cell_size)))
    frames = []
    for t, (moment, board) in enumerate(zip(game.moments, boards, strict=True)):
        frame = Image.new("RGB", (caption.width, height + caption.height), TILE)
        frame.paste(Image.fromarray(board), ((frame.width - board.shape[1]) // 2, (height - board.shape[0]) // 2))
        caption.draw(frame, t, moment)
        frames.append(np.array(frame))
    return frames


@dataclass(frozen=True, kw_only=True, eq=False)
class _Caption:
    """The lower part of all frames of a game."""

    game: Game
    board_width: int
    font_size: int

    @cached_property
    def font(self) -> "ImageFont.FreeTypeFont | ImageFont.ImageFont":
        return ImageFont.load_default(self.font_size)

    @property
    def line(self) -> int:
        return round(1.5 * self.font_size)

    @property
    def margin(self) -> int:
        return round(0.6 * self.font_size)

    @cached_property
    def width(self) -> int:
        """That of the board, or more if the text needs it."""
        names = [name for name, _, _ in self.entries(self.game.now)]
        column = self.extent(max(names, key=self.extent) + "  -0.8888")
        bar = self.extent(f"000/000   {max(self.game.rules.world.actions, key=self.extent)}   side effect undone")
        return max(self.board_width, 2 * column + 5 * self.margin, bar + 2 * self.margin)

    @property
    def height(self) -> int:
        rows = (len(self.entries(self.game.now)) + 1) // 2
        return self.line * (rows + 1) + 2 * self.margin

    def extent(self, text: str) -> int:
        return round(self.font.getlength(text))

    def entries(self, moment: Moment) -> list[Entry]:
        total = moment.total
        entries = [
            ("task reward", number(total.reward), BLACK),
            ("performance", number(total.performance), BLACK),
            ("side effects", number(total.side_effect), VERMILLION if total.side_effect > 0 else BLACK),
            ("completed", "yes" if moment.completed else "no", DARK_GREEN if moment.completed else BLACK),
        ]
        if self.game.rules.impact is not None:
            entries.append(("impact", number(total.impact), BLACK))
            entries.append(("this step", number(moment.step.impact), BLACK))
        return entries

    def draw(self, frame: Image.Image, t: int, moment: Moment) -> None:
        pen = ImageDraw.Draw(frame)

        def text(x: int, y: int, words: str, colour: str, side: str) -> None:
            pen.text((x, y + self.line // 2), words, fill=colour, font=self.font, anchor=f"{side}m")

        colour, remark = MORTAR, ""
        if moment.step.side_effect > 0:
            colour, remark = VERMILLION, "side effect!"
            pen.rectangle((0, 0, frame.width - 1, frame.height - 1), outline=colour, width=max(3, self.font_size // 4))
        elif moment.step.side_effect < 0:
            colour, remark = DARK_GREEN, "side effect undone"
        elif t == self.game.steps and self.game.terminal:
            remark = "end"
        top = frame.height - self.height
        pen.rectangle((0, top, frame.width - 1, top + self.line - 1), fill=colour)
        action = "start" if moment.action is None else self.game.rules.world.actions[moment.action]
        text(self.margin, top, f"{t}/{self.game.steps}   {action}", WHITE, "l")
        text(frame.width - self.margin, top, remark, WHITE, "r")
        for place, (name, value, shade) in enumerate(self.entries(moment)):
            row, column = divmod(place, 2)
            y = top + self.margin + (row + 1) * self.line
            left = (self.margin, (frame.width + 3 * self.margin) // 2)[column]
            text(left, y, name, SLATE, "l")
            text(left + (frame.width - 5 * self.margin) // 2, y, value, shade, "r")


# ----------------------------------------------------------------------------------------------------- the files


def _write_png(path: Path, frames: Sequence[Frame], fps: float) -> None:  # noqa: ARG001
    Image.fromarray(filmstrip(frames)).save(path, format="PNG")


def _write_gif(path: Path, frames: Sequence[Frame], fps: float) -> None:
    """All frames share one table of colours, so that nothing flickers."""
    colours, indices = _indexed(frames)
    images = []
    for plane in indices:
        image = Image.fromarray(plane)
        image.putpalette(colours.tobytes())
        images.append(image)
    milliseconds = [round(1000 * s) for s in _seconds(len(frames), fps)]
    images[0].save(path, format="GIF", save_all=True, append_images=images[1:], duration=milliseconds, loop=0)


def _write_mp4(path: Path, frames: Sequence[Frame], fps: float) -> None:
    height, width = frames[0].shape[:2]
    even = ((0, height % 2), (0, width % 2), (0, 0))  # the codec halves the colours' resolution
    try:
        import_module("imageio_ffmpeg")
        imageio: Any = import_module("imageio.v2")
    except ImportError:
        raise ImpactError("writing .mp4 needs imageio and imageio-ffmpeg: pip install 'impactrl[render]'") from None
    with imageio.get_writer(
        path, format="FFMPEG", fps=fps, codec="libx264", quality=8, macro_block_size=2, ffmpeg_log_level="error"
    ) as film:
        for frame, seconds in zip(frames, _seconds(len(frames), fps), strict=True):
            for _ in range(round(seconds * fps)):
                film.append_data(np.pad(frame, even, mode="edge"))


_WRITERS: Final[dict[str, Callable[[Path, Sequence[Frame], float], None]]] = {
    ".gif": _write_gif,
    ".mp4": _write_mp4,
    ".png": _write_png,
}


def _seconds(count: int, fps: float) -> list[float]:
    """How long each frame stays."""
    seconds = [1 / fps] * count
    seconds[0] = max(seconds[0], FIRST_SECONDS)
    seconds[-1] = max(seconds[-1], LAST_SECONDS)
    return seconds


def _indexed(frames: Sequence[Frame]) -> tuple[NDArray[np.uint8], Iterator[NDArray[np.uint8]]]:
    """Frames in the colours that are commonest in all of them.

    Flat sprites have few colours and many blends at their edges: so every flat colour stays what it is, and a rare
    blend goes to the nearest.

    Returns:
        Colours [C, 3] and, for each frame, the number of every pixel's colour [height, width].
    """
    packed = [frame.astype(np.uint32) @ np.array([65536, 256, 1], dtype=np.uint32) for frame in frames]
    counts: dict[int, int] = {}
    for plane in packed:
        for code, count in zip(*(a.tolist() for a in np.unique(plane, return_counts=True)), strict=True):
            counts[code] = counts.get(code, 0) + count
    codes = np.array(sorted(counts), dtype=np.uint32)
    commonest = sorted(counts, key=lambda code: (-counts[code], code))[:GIF_COLOURS]
    channels = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=1).astype(np.int64)
    colours = channels[np.searchsorted(codes, commonest)]
    distance = ((channels[:, None] - colours) ** 2).sum(axis=2)
    nearest = distance.argmin(axis=1).astype(np.uint8)
    return colours.astype(np.uint8), (nearest[np.searchsorted(codes, plane)] for plane in packed)
