"""Playing a level in the terminal, the five columns live beside the board.

Two parts that know nothing of each other, the drawing (`draw`) and the keyboard; `play` joins them with the game.
"""

import os
import re
import select
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import zip_longest
from types import FrameType
from typing import Any, Final

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderResult
from rich.live import Live
from rich.style import Style
from rich.text import Text

from impactrl.errors import ImpactError
from impactrl.explaining import letters_of
from impactrl.game import Game, Moment, action_of, new_game, press
from impactrl.measures.penalty import Penalty
from impactrl.sprites import BLACK, GREY, MORTAR, SLATE, SPRITES, TILE, VERMILLION, WHITE, rgb
from impactrl.world import AnyWorld

__all__ = ["draw", "number", "play", "read_keys"]

# -------------------------------------------------------------------------------------------------- the drawing

_ALARM: Final = Style(color=WHITE, bgcolor=VERMILLION, bold=True)
_GOOD: Final = Style(color=WHITE, bgcolor="#00704F", bold=True)
_PLAIN: Final = Style(color=WHITE, bgcolor=MORTAR, bold=True)
_FAINT: Final = Style(dim=True)
_STRONG: Final = Style(bold=True)
_TABLE_WIDTH: Final = 33
_FOOT_WIDTH: Final = 100
_GAP: Final = 3
_ARROWS: Final = {"up": "↑", "down": "↓", "left": "←", "right": "→"}
_BLANK: Final = Text()


def draw(game: Game) -> ConsoleRenderable:
    """The game as something that rich can print: board, columns, last actions and keys.

    It adapts to the space there is, down to a part of the board around the agent with the columns in one line.
    """
    return _Drawing(game)


@dataclass(frozen=True)
class _Drawing:
    game: Game

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, height = options.max_width, options.max_height
        layouts = _layouts(self.game, width, height)
        for line in next(lines for lines in layouts if _fits(lines, width, height)):
            line.no_wrap, line.overflow = True, "crop"
            yield line


def _fits(lines: Sequence[Text], width: int, height: int) -> bool:
    return len(lines) <= height and max(line.cell_len for line in lines) <= width


def _layouts(game: Game, width: int, height: int) -> Iterator[list[Text]]:
    """Ways to lay the screen out, the roomiest first; the last one always fits."""
    title, status, last = (_cut(line, width) for line in (_title(game), _status(game), _last_actions(game, width)))
    table = _table(game)
    keys = _keys(game, min(width, _FOOT_WIDTH))
    foot = [status, _BLANK, last, _BLANK, *keys]
    board = _board(game)
    for magnification in (3, 2, 1):
        yield [title, _BLANK, *_beside(_board(game, magnification=magnification), table), _BLANK, *foot]
    yield [title, *_beside(board, table), status, last, *keys]
    line = status or _cut(keys[0], width)
    yield [title, *_beside(board, table), line, last]
    yield [title, _BLANK, *board, _BLANK, *table, _BLANK, *foot]
    yield [title, *board, *table, line, last]
    beside = (height - 3, width - _TABLE_WIDTH - _GAP)
    if beside[0] >= len(table) and beside[1] >= 20:
        yield [title, *_beside(_board(game, room=beside), table), line, last]
    brief = _brief(game, width)
    beneath = (height - len(brief) - 1, width)
    if beneath[0] >= min(3, len(board)):
        yield [*_board(game, room=beneath), *brief, line]
    part = _board(game, room=((height + 1) // 2, width))
    yield [_cut(each, width) for each in [*part, *([status] if status else []), *brief][:height]]


def _cut(line: Text, width: int) -> Text:
    line = line.copy()
    line.truncate(width, overflow="ellipsis")
    return line


def _beside(board: Sequence[Text], table: Sequence[Text]) -> list[Text]:
    wide = max(line.cell_len for line in board)
    pairs = zip_longest(board, table, fillvalue=_BLANK)
    return [Text.assemble(left, " " * (wide - left.cell_len + _GAP), right) for left, right in pairs]


def _packed(parts: Iterable[Text], width: int) -> list[Text]:
    """The parts in as few lines as they take."""
    lines: list[Text] = []
    for part in parts:
        if lines and lines[-1].cell_len + 2 + part.cell_len <= width:
            lines[-1] = Text.assemble(lines[-1], "  ", part)
        else:
            lines.append(part)
    return lines


def _title(game: Game) -> Text:
    rules = game.rules
    penalty = f"   {rules.impact.penalty.label}, weight {rules.impact.penalty.weight:g}" if rules.impact else ""
    return Text.assemble((rules.name, _STRONG), f"   step {game.steps} of {rules.time_limit}", (penalty, _FAINT))


def _status(game: Game) -> Text:
    """The end, a side effect, and an answer to the last key."""
    now = game.now
    parts: list[Text] = []
    if game.over:
        end = "EPISODE OVER" if game.terminal else "TIME IS UP"
        how = "completed" if now.completed else "not completed"
        parts.append(Text(f" {end}: {how} ", _GOOD if now.completed else _PLAIN))
    if now.step.side_effect:
        happened = now.step.side_effect > 0
        parts.append(Text(" SIDE EFFECT " if happened else " side effect undone ", _ALARM if happened else _GOOD))
    if game.note or game.over:
        parts.append(Text(game.note or "u undo, r restart, q quit"))
    return Text(" ").join(parts)


def _table(game: Game) -> list[Text]:
    """The columns: this step's and the episode's so far."""
    now, impact = game.now, game.rules.impact
    rows = [
        ("task reward", number(now.step.reward), number(now.total.reward)),
        ("performance", number(now.step.performance), number(now.total.performance)),
        ("side effects", number(now.step.side_effect), number(now.total.side_effect)),
        ("completed", "", "yes" if now.completed else "no"),
    ]
    if impact is None:
        rows.append(("impact", "", "no penalty"))
    else:
        charged = impact.penalty.weight * now.total.impact
        rows += [
            ("impact", number(now.step.impact), number(now.total.impact)),
            ("", "", ""),
            ("deviation", number(now.deviation), ""),
            ("penalty", number(now.penalty), number(charged)),
            ("agent is paid", number(now.step.reward - now.penalty), number(now.total.reward - charged)),
        ]
    lines = [Text(f"{'':13}{'this step':>10}{'so far':>10}", _FAINT)]
    for name, step, so_far in rows:
        alarm = name == "side effects" and now.total.side_effect > 0
        strong = Style(color=VERMILLION, bold=True) if alarm else _STRONG
        lines.append(Text.assemble(f"{name:<13}{step if game.steps else '':>10}", (f"{so_far:>10}", strong)))
    return lines


def _brief(game: Game, width: int) -> list[Text]:
    """The five columns in a line, or in a few."""
    total, impact = game.now.total, game.rules.impact
    return _packed(
        [
            Text(f"step {game.steps}"),
            Text(f"reward {number(total.reward)}"),
            Text(f"performance {number(total.performance)}"),
            Text(f"side effects {number(total.side_effect)}"),
            Text(f"completed {'yes' if game.now.completed else 'no'}"),
            *([Text(f"impact {number(total.impact)}")] if impact else []),
        ],
        width,
    )


def number(value: float) -> str:
    """A number as people read it: whole ones whole, others to four digits, no dust of rounding.

    >>> number(-13.0), number(0.1 + 0.2 - 0.3), number(5 / 6), number(12345.0)
    ('-13', '0', '0.8333', '12345')
    """
    value = round(value, 10) + 0.0
    return f"{value:.0f}" if value.is_integer() and abs(value) < 1e9 else f"{value:.4g}"


def _last_actions(game: Game, width: int) -> Text:
    """The end of the action sequence; steps with a side effect stand out."""
    words: list[Text] = []
    room = width - len("actions … ")
    for moment in reversed(game.moments[1:]):
        word = Text(_sign(game, moment), _ALARM if moment.step.side_effect > 0 else _STRONG)
        room -= word.cell_len + 1
        if room < 0:
            words.append(Text("…"))
            break
        words.append(word)
    return Text.assemble(("actions ", _FAINT), Text(" ").join(reversed(words)) if words else ("none yet", _FAINT))


def _sign(game: Game, moment: Moment) -> str:
    """An action as an arrow where it moves, a dot where it does nothing, else by name."""
    world = game.rules.world
    if moment.action == world.noop:
        return "·"
    return next(
        (sign for key, sign in _ARROWS.items() if action_of(world, key) == moment.action), _action_name(game, moment)
    )


def _action_name(game: Game, moment: Moment) -> str:
    return "" if moment.action is None else game.rules.world.actions[moment.action]


def _keys(game: Game, width: int) -> list[Text]:
    world = game.rules.world
    moves = any(action_of(world, key) is not None for key in ("up", "down", "left", "right"))
    keys = {
        **({"arrows": "move"} if moves else {}),
        **({"space": world.actions[world.noop]} if world.noop is not None else {}),
        **({"i": "interact"} if action_of(world, "i") is not None else {}),
        "u": "undo",
        "r": "restart",
        "q": "quit",
    }
    digits = len(str(len(world.actions) - 1))
    numbers = {f"{number:0{digits}}": name for number, name in enumerate(world.actions)}
    return [
        line
        for group in (keys, numbers)
        for line in _packed((Text.assemble((key, _STRONG), (f" {does}", _FAINT)) for key, does in group.items()), width)
    ]


def _board(game: Game, *, magnification: int = 1, room: tuple[int, int] | None = None) -> list[Text]:
    """The board, a cell two characters wide so that it looks square.

    Args:
        game: whose present is drawn.
        magnification: of the cells.
        room: lines and columns to keep to, with narrow cells or only the part around the agent.
    """
    world = game.rules.world
    board = world.board(game.now.state)
    width = 2 * magnification
    if room is not None:
        width = 2 if 2 * board.shape[1] <= room[1] else 1
        board = _around_the_agent(board, world.tiles, room[0], room[1] // width)
    cells = {int(code): _cell(chr(code), world.tiles, width) for code in np.unique(board)}
    lines = []
    for row in board.tolist():
        full = Text.assemble(*(cells[code] for code in row))
        bare = Text.assemble(*(cells[code] if code == ord("#") else (" " * width, cells[code][1]) for code in row))
        lines += [full if line == magnification // 2 else bare for line in range(magnification)]
    return lines


def _cell(character: str, tiles: Mapping[str, str], width: int) -> tuple[str, Style]:
    """A cell's text and its colours: those of its sprite, black or white on them."""
    if character == " ":
        return " " * width, Style(bgcolor=TILE)
    sprite = tiles.get(character)
    if sprite == "wall":
        return character * width, Style(color=SLATE, bgcolor=MORTAR)
    colour = SPRITES[sprite].accent if sprite else GREY
    bright = float(np.array([0.299, 0.587, 0.114]) @ rgb(colour)) > 140
    return character.center(width), Style(color=BLACK if bright else WHITE, bgcolor=colour, bold=True)


def _around_the_agent(board: NDArray[np.uint8], tiles: Mapping[str, str], rows: int, columns: int) -> NDArray[np.uint8]:
    """At most so many rows and columns of a board, with the agent as near to the middle as its edges allow."""
    agents = [ord(character) for character, sprite in tiles.items() if sprite == "agent"]
    places = np.argwhere(np.isin(board, agents))
    centre = places[0] if len(places) else np.array(board.shape) // 2
    top, left = (
        int(np.clip(at - size // 2, 0, max(0, whole - size)))
        for at, size, whole in zip(centre, (rows, columns), board.shape, strict=True)
    )
    return board[top : top + rows, left : left + columns]


# ------------------------------------------------------------------------------------------------- the keyboard

_SEQUENCE: Final = re.compile(rb"\x1b(?:\[[0-9;?]*[A-Za-z~]|O[A-Za-z]|[^[O\x1b])|\x1b(?=\x1b)|[^\x1b]")
_ENDINGS: Final = {b"A": "up", b"B": "down", b"C": "right", b"D": "left"}
_CONTROLS: Final = {b" ": "space", b"\x7f": "backspace", b"\x08": "backspace", b"\x03": "ctrl-c", b"\x04": "ctrl-c"}
_ESCAPE_SECONDS: Final = 0.05
_PATIENCE_SECONDS: Final = 0.25


def read_keys(data: bytes) -> tuple[list[str], bytes]:
    r"""What a terminal sent, as keys.

    Args:
        data: characters and escape sequences.

    Returns:
        The keys: printable characters, "up", "down", "left", "right", "space", "backspace", "ctrl-c"; others are
        left out. And the beginning of a sequence whose rest has not come yet.

    >>> read_keys(b"u\x1b[Dq\x1b[")
    (['u', 'left', 'q'], b'\x1b[')
    """
    keys = []
    end = 0
    while match := _SEQUENCE.match(data, end):
        end, token = match.end(), match.group()
        if token in _CONTROLS:
            keys.append(_CONTROLS[token])
        elif len(token) > 2:
            keys += [_ENDINGS[token[-1:]]] if token[-1:] in _ENDINGS else []
        elif len(token) == 1 and token.isascii() and chr(token[0]).isprintable():
            keys.append(chr(token[0]))
    return keys, data[end:]


def _keys_typed(descriptor: int) -> Iterator[str]:
    """Keys as they are typed, until the terminal closes; "" now and then in between."""
    data = b""
    while True:
        ready, _, _ = select.select([descriptor], [], [], _ESCAPE_SECONDS if data else _PATIENCE_SECONDS)
        if not ready:
            data = b""  # an escape key of its own, not the beginning of a sequence
            yield ""
            continue
        try:
            new = os.read(descriptor, 1024)
        except OSError:  # the terminal is gone
            return
        if not new:
            return
        keys, data = read_keys(data + new)
        yield from keys


@contextmanager
def _unbuffered(descriptor: int) -> Iterator[int]:
    """Every key at once and unseen, Ctrl-C among them; the terminal is restored whatever happens."""
    import termios

    before = termios.tcgetattr(descriptor)
    settings = termios.tcgetattr(descriptor)
    settings[3] &= ~(termios.ICANON | termios.ECHO | termios.ISIG | termios.IEXTEN)
    settings[6][termios.VMIN], settings[6][termios.VTIME] = 1, 0
    terminate = signal.signal(signal.SIGTERM, _leave)
    try:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, settings)
        yield descriptor
    finally:
        with suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)
        signal.signal(signal.SIGTERM, terminate)


def _leave(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    sys.exit(128 + number)


def _require_terminal() -> None:
    try:
        import termios  # noqa: F401
    except ImportError:
        raise ImpactError("playing needs a terminal of Linux or macOS; on Windows, use WSL") from None
    for name, stream in (("input", sys.stdin), ("output", sys.stdout)):
        if stream is None or not stream.isatty():
            raise ImpactError(f"playing needs a terminal, and standard {name} is none")


def play(
    source: "str | gym.Env[Any, Any] | AnyWorld", *, penalty: Penalty | None = None, seed: int = 0, **settings: Any
) -> None:
    """Plays a level in the terminal, from the main thread; returns when the player quits.

    Keys are those of `press`; Ctrl-C quits as well. Prints at the end what came of it.

    Args:
        source: as in `compile_mdp`.
        penalty: whose impact is shown; see `new_game`.
        seed: of chance.
        settings: of the level, where `source` is a name.

    Raises:
        ImpactError: standard input or output is no terminal; and as `new_game`.
    """
    _require_terminal()
    console = Console(highlight=False)
    with console.status("fitting the penalty to the level"):  # minutes, for thousands of states
        game = new_game(source, penalty=penalty, seed=seed, **settings)
    size = console.size
    live = Live(draw(game), console=console, screen=True, auto_refresh=False)
    with _unbuffered(sys.stdin.fileno()) as descriptor:
        try:
            live.start(refresh=True)  # not as a context manager, which an interruption on entering does not leave
            for key in _keys_typed(descriptor):
                if key or console.size != size:
                    size = console.size
                    game = press(game, key) if key else game
                    if game.left:
                        break
                    live.update(draw(game), refresh=True)
        finally:
            live.stop()
    console.print(_summary(game))


def _summary(game: Game) -> Text:
    """What came of a game, and the actions as `impactrl explain` and `impactrl render` read them."""
    letters = {index: letter for letter, index in letters_of(game.rules.world.actions).items()}
    taken = game.actions
    spelt = "".join(letters[a] for a in taken) if all(a in letters for a in taken) else " ".join(map(str, taken))
    lines = [_title(game), *_table(game), *([Text(f'actions: "{spelt}"')] if taken else [])]
    return Text("\n").join(lines)
