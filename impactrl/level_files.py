"""Level files: a map, then what its characters are. Text in, a checked `LevelFile` out.

```
######
#A V #
#   G#
######
---
[legend.V]
sprite = "plant"
penalty = -5

[settings]
time_limit = 50
```

Rows and columns of a map are counted from 1 in messages; cells are flat indices, as in `GridWorld`.
"""

import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from functools import cached_property
from math import isfinite
from typing import Any, Generic, NamedTuple, TypeVar

from impactrl.errors import ImpactError, require_known
from impactrl.render import SPRITES
from impactrl.world import GRID_ACTIONS

__all__ = [
    "DEFAULTS",
    "KINDS",
    "OUTSIDE",
    "Agent",
    "Belt",
    "Box",
    "Button",
    "Coin",
    "Floor",
    "Fragile",
    "Goal",
    "Kind",
    "LevelFile",
    "Loose",
    "Placed",
    "Settings",
    "Thing",
    "Walker",
    "Wall",
    "parse_level",
]

SEPARATOR = "---"
ROUTE_LETTERS = "UDLRN"
OUTSIDE = -1
"""The cell beyond the edges of the map."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a character of the map can be. `sprite`: a name in `impactrl.render.SPRITES`."""

    sprite: str


@dataclass(frozen=True, kw_only=True)
class Loose(Kind):
    """What comes and goes. `on`: the character of the floor or belt below it at first."""

    on: str = " "


@dataclass(frozen=True, kw_only=True)
class Thing(Loose):
    """What belts carry, and what stops boxes and walkers."""


@dataclass(frozen=True, kw_only=True)
class Floor(Kind):
    """Nothing. With a sprite of its own it is a carpet."""

    sprite: str = "floor"


@dataclass(frozen=True, kw_only=True)
class Wall(Kind):
    """Stops everything, as the edges of the map do."""

    sprite: str = "wall"


@dataclass(frozen=True, kw_only=True)
class Agent(Loose):
    """Where the agent starts; there is one."""

    sprite: str = "agent"


@dataclass(frozen=True, kw_only=True)
class Goal(Kind):
    """Ends the episode when the agent is there, and pays `reward`. Boxes may stand on it."""

    sprite: str = "goal"
    reward: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Box(Thing):
    """Can be pushed. Off its first cell and in a corner of walls it is a side effect and costs `penalty`."""

    sprite: str = "box"
    penalty: float = -2.0


@dataclass(frozen=True, kw_only=True)
class Fragile(Thing):
    """Breaks when the agent enters its cell, or when a belt carries it off its end: `penalty`.

    A `pushable` one is pushed instead of entered, and pays `reward` when it is pushed off the side of a belt.
    """

    sprite: str = "vase"
    penalty: float = -2.0
    pushable: bool = False
    reward: float = 0.0

    def __post_init__(self) -> None:
        if self.reward and not self.pushable:
            raise ImpactError("reward is paid for pushing the thing off a belt, so it needs pushable = true")


@dataclass(frozen=True, kw_only=True)
class Coin(Thing):
    """Pays `reward` when the agent takes it. Without a goal, the last one ends the episode."""

    sprite: str = "coin"
    reward: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Belt(Kind):
    """Carries boxes, fragile things and coins one cell per step: `up`, `down`, `left` or `right`."""

    sprite: str = "belt"
    direction: str = "right"

    def __post_init__(self) -> None:
        require_known("direction", self.direction, GRID_ACTIONS[:4])


@dataclass(frozen=True, kw_only=True)
class Walker(Loose):
    """Walks a `route` round and round: letters U D L R, and N to wait. Gone if it meets the agent: `penalty`."""

    sprite: str = "dog"
    route: str
    penalty: float = -2.0

    def __post_init__(self) -> None:
        for step, letter in enumerate(self.route, start=1):
            if letter not in ROUTE_LETTERS:
                raise ImpactError(
                    f"step {step} of the route {self.route!r} is {letter!r}; the letters are U up, D down, L left, "
                    "R right, N wait"
                )
        count = Counter(self.route)
        if not self.route or count["U"] != count["D"] or count["L"] != count["R"]:
            raise ImpactError(
                f"the route {self.route!r} does not lead back to where it starts; it needs as many U as D and as "
                "many L as R, and N alone to stand still"
            )

    @property
    def moves(self) -> tuple[int, ...]:
        """The actions of one round, as short as it can be said."""
        period = (self.route + self.route).find(self.route, 1)
        return tuple(ROUTE_LETTERS.index(letter) for letter in self.route[:period])


@dataclass(frozen=True, kw_only=True)
class Button(Kind):
    """Ends the episode after `steps` steps unless the agent enters it before; entering costs `penalty`."""

    sprite: str = "button"
    steps: int = 2
    penalty: float = -2.0


K = TypeVar("K", bound=Kind)

KINDS: dict[str, type[Kind]] = {
    kind.__name__.lower(): kind for kind in (Floor, Wall, Agent, Goal, Box, Fragile, Coin, Belt, Walker, Button)
}
"""What a legend can call a character."""

DEFAULTS: dict[str, Kind] = {
    " ": Floor(),
    "#": Wall(),
    "A": Agent(),
    "G": Goal(),
    "X": Box(),
    "V": Fragile(),
    "C": Coin(),
    "^": Belt(direction="up"),
    "v": Belt(direction="down"),
    "<": Belt(direction="left"),
    ">": Belt(direction="right"),
}
"""What characters are if no legend says otherwise."""

FIXED = " #"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of the whole level.

    Attributes:
        time_limit: steps after which episodes are cut off.
        movement_reward: paid, visibly and hidden, for every action but no-op, blocked moves included.
        enumerable: False for a level with more states than can be listed: environments then give no `state` in
            `info`, and nothing is measured exactly.
    """

    time_limit: int = 100
    movement_reward: float = 0.0
    enumerable: bool = True


class Placed(NamedTuple, Generic[K]):
    """An object on the map."""

    cell: int
    character: str
    thing: K


@dataclass(frozen=True)
class LevelFile:
    """A level, read and checked; made by `parse_level`.

    Attributes:
        rows: the map, rows of equal length.
        legend: what every character is, defaults included.
        settings: of the whole level.
        unused: characters that the file's legend explains and the map does not have.
    """

    rows: tuple[str, ...]
    legend: Mapping[str, Kind]
    settings: Settings
    unused: tuple[str, ...] = ()

    @property
    def columns(self) -> int:
        """Width of the map."""
        return len(self.rows[0])

    def placed(self, kind: type[K]) -> tuple[Placed[K], ...]:
        """The objects of a kind, in reading order."""
        found = ((cell, c, self.legend[c]) for cell, c in enumerate("".join(self.rows)))
        return tuple(Placed(cell, c, thing) for cell, c, thing in found if isinstance(thing, kind))

    @cached_property
    def ground(self) -> tuple[str, ...]:
        """Character of what lies on each cell below the things that come and go."""
        return tuple(_ground(c, self.legend[c]) for c in "".join(self.rows))

    @cached_property
    def tiles(self) -> dict[str, str]:
        """Sprite of every character that the board can show, but the space."""
        shown = {*"".join(self.rows), *self.ground} - {" "}
        return {character: _sprite(self.legend[character]) for character in sorted(shown)}

    @cached_property
    def walls(self) -> frozenset[int]:
        """The cells that nothing enters, `OUTSIDE` among them."""
        return frozenset({OUTSIDE, *(wall.cell for wall in self.placed(Wall))})

    @cached_property
    def ahead(self) -> tuple[tuple[int, ...], ...]:
        """[action, cell]: the cell that each action points at; `OUTSIDE` beyond the edges."""
        height, width = len(self.rows), self.columns
        steps = ((-1, 0), (1, 0), (0, -1), (0, 1), (0, 0))
        return tuple(
            tuple(
                (row + down) * width + column + right
                if 0 <= row + down < height and 0 <= column + right < width
                else OUTSIDE
                for row in range(height)
                for column in range(width)
            )
            for down, right in steps
        )

    def route(self, walker: Placed[Walker]) -> tuple[int, ...]:
        """The cells of one round, where it starts first.

        Raises:
            ImpactError: a step leads into a wall.
        """
        cells = [walker.cell]
        for step, action in enumerate(walker.thing.moves, start=1):
            cells.append(self.ahead[action][cells[-1]])
            if cells[-1] in self.walls:
                raise ImpactError(
                    f"step {step} ({GRID_ACTIONS[action]}) of the route {walker.thing.route!r} of "
                    f"{self.where(walker)} leads into a wall, from {self.position(cells[-2])}"
                )
        return tuple(cells[:-1])

    def position(self, cell: int) -> str:
        """A cell in words."""
        row, column = divmod(cell, self.columns)
        return f"row {row + 1}, column {column + 1}"

    def where(self, placed: Placed[Any]) -> str:
        """An object in words."""
        return f"{_noun(type(placed.thing))} {placed.character!r} at {self.position(placed.cell)}"

    def doubts(self) -> Iterator[str]:
        """What is allowed and yet likely a mistake, in words."""
        for character in self.unused:
            yield f"the legend explains {character!r}, which is not on the map"
        reached = self._reached()
        targets: list[Placed[Any]] = [*self.placed(Goal), *self.placed(Coin)]
        for target in targets:
            if target.cell not in reached and not isinstance(self.legend[self.ground[target.cell]], Belt):
                yield f"{self.where(target)} cannot be reached: walls are in the way"
        if not targets and not any(fragile.thing.reward for fragile in self.placed(Fragile)):
            yield "there is no goal, no coin and nothing to rescue: the agent has no task"

    def _reached(self) -> set[int]:
        """The cells that walls alone do not keep the agent from."""
        reached = {agent.cell for agent in self.placed(Agent)}
        todo = list(reached)
        while todo:
            cell = todo.pop()
            found = {ahead[cell] for ahead in self.ahead} - self.walls - reached
            reached |= found
            todo += found
        return reached


def parse_level(text: str) -> LevelFile:
    r"""Reads and checks the text of a level.

    The map comes first; then, if need be, a line `---` and a legend in TOML. `[legend.P]` says what `P` is: `kind`,
    and the fields of that kind; of a default character it can change single fields. `[settings]` are those of
    `Settings`. Empty lines around the map are left out.

    Raises:
        ImpactError: the text makes no level; says where and what was expected.

    >>> level = parse_level("#####\n#A G#\n#####")
    >>> [goal.cell for goal in level.placed(Goal)]
    [8]
    >>> parse_level("#####\n#A g#\n#####")
    Traceback (most recent call last):
    impactrl.errors.ImpactError: unknown character 'g' at row 2, column 4 of the map ('#A g#'): did you mean 'G' (goal)? ...
    """  # noqa: E501
    rows, toml = _split(text)
    _check_rectangle(rows)
    content = _read_toml(toml)
    legend, settings = _legend(content.get("legend", {})), _settings(content.get("settings", {}))
    _check_characters(rows, legend)
    used = {c for character in "".join(rows) for c in (character, _ground(character, legend[character]))}
    unused = tuple(character for character in content.get("legend", {}) if character not in used)
    level = LevelFile(rows, legend, settings, unused)
    _check_agent(level)
    for walker in level.placed(Walker):
        level.route(walker)
    return level


def _split(text: str) -> tuple[tuple[str, ...], str]:
    """The rows of the map, and the legend with empty lines before it, so that it keeps its line numbers."""
    lines = text.removeprefix("\ufeff").splitlines()
    cut = next((i for i, line in enumerate(lines) if line.rstrip() == SEPARATOR), len(lines))
    rows = lines[:cut]
    while rows and not rows[0]:
        del rows[0]
    while rows and not rows[-1]:
        del rows[-1]
    return tuple(rows), "\n" * (cut + 1) + "\n".join(lines[cut + 1 :])


def _check_rectangle(rows: Sequence[str]) -> None:
    if not rows:
        raise ImpactError("the map is empty: expected rows such as '#A G#', and the legend, if any, after a line '---'")
    width = Counter(map(len, rows)).most_common(1)[0][0]
    for number, row in enumerate(rows, start=1):
        if len(row) != width:
            raise ImpactError(
                f"row {number} of the map has {len(row)} characters and should have {width} like the others: {row!r}"
            )


def _read_toml(toml: str) -> dict[str, Any]:
    try:
        content = tomllib.loads(toml)
    except tomllib.TOMLDecodeError as error:
        raise ImpactError(f"the legend is no TOML: {error}") from None
    for table, entries in content.items():
        require_known("table after the map", table, ("legend", "settings"))
        if not isinstance(entries, dict):
            raise ImpactError(f"expected a table [{table}] after the map, not {table} = {entries!r}")
    return content


def _legend(given: Mapping[str, Any]) -> dict[str, Kind]:
    """The defaults with what the file says of them and of other characters."""
    legend = dict(DEFAULTS)
    for character, entry in given.items():
        where = _table(character)
        if len(character) != 1 or not character.isprintable() or ord(character) > 255:
            raise ImpactError(f"{where}: a legend explains single characters (Latin-1, printable), not {character!r}")
        if not isinstance(entry, dict | str):
            raise ImpactError(f"{where}: expected a kind or a table with one, not {entry!r}")
        try:
            legend[character] = _kind(character, {"kind": entry} if isinstance(entry, str) else entry)
        except ImpactError as error:
            raise ImpactError(f"{where}: {error}") from None
    grounds = [character for character, thing in legend.items() if isinstance(thing, Floor | Belt)]
    for character, thing in legend.items():
        if (on := _ground(character, thing)) not in grounds and isinstance(thing, Loose):
            known = ", ".join(map(repr, grounds))
            raise ImpactError(
                f"{_table(character)}: on must be the character of a floor or a belt ({known}), not {on!r}"
            )
    return legend


def _kind(character: str, entry: Mapping[str, Any]) -> Kind:
    default = DEFAULTS.get(character)
    if "kind" in entry:
        kind = KINDS[require_known("kind", entry["kind"], KINDS)]
    elif default is not None:
        kind = type(default)
    else:
        raise ImpactError(f"expected a kind, one of {', '.join(sorted(KINDS))}")
    if character in FIXED and not isinstance(default, kind):
        raise ImpactError(f"{character!r} is always {_name(DEFAULTS[character])}; take another character")
    values = {key: value for key, value in entry.items() if key != "kind"}
    _check_values(_noun(kind), kind, values)
    return replace(default, **values) if default is not None and isinstance(default, kind) else kind(**values)


def _settings(given: Mapping[str, Any]) -> Settings:
    try:
        _check_values("the level", Settings, given)
    except ImpactError as error:
        raise ImpactError(f"[settings]: {error}") from None
    return Settings(**given)


def _check_values(owner: str, kind: type[Any], values: Mapping[str, Any]) -> None:
    """Raises unless all values are fields of the kind, of the right type and in range."""
    types = {field.name: field.type for field in fields(kind)}
    for field in fields(kind):
        if field.default is MISSING and field.name not in values:
            raise ImpactError(f"{owner} needs a {field.name}")
    for name, value in values.items():
        expected = types[require_known(f"key of {owner}", name, types)]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if expected is float and not (number and isfinite(value)):
            raise ImpactError(f"{name} must be a number, not {value!r}")
        if expected is int and not (number and isinstance(value, int) and value >= 1):
            raise ImpactError(f"{name} must be a whole number from 1 on, not {value!r}")
        if expected is bool and not isinstance(value, bool):
            raise ImpactError(f"{name} must be true or false, not {value!r}")
        if expected is str and not isinstance(value, str):
            raise ImpactError(f"{name} must be text, not {value!r}")
        if name == "penalty" and value > 0:
            raise ImpactError(f"penalty is added to the hidden score, so it must be 0 or less, not {value}")
        if name == "sprite":
            require_known("sprite", value, SPRITES)


def _check_characters(rows: Sequence[str], legend: Mapping[str, Kind]) -> None:
    for number, row in enumerate(rows, start=1):
        for column, character in enumerate(row, start=1):
            if character in legend:
                continue
            other = character.swapcase()
            near = f"did you mean {other!r} ({_name(legend[other])})? " if other in legend else ""
            known = ", ".join(f"{c!r} {_name(thing)}" for c, thing in legend.items())
            raise ImpactError(
                f"unknown character {character!r} at row {number}, column {column} of the map ({row!r}): {near}"
                f"Known: {known}. Others are explained after a line '---': {_table(character)} kind = \"fragile\""
            )


def _check_agent(level: LevelFile) -> None:
    agents = level.placed(Agent)
    if not agents:
        names = " or ".join(repr(c) for c, thing in level.legend.items() if isinstance(thing, Agent))
        raise ImpactError(f"there is no agent on the map: put {names} where it starts")
    if len(agents) > 1:
        positions = " and ".join(level.position(agent.cell) for agent in agents)
        raise ImpactError(f"there must be one agent on the map, not {len(agents)}: {positions}")
    if len(level.rows) * level.columns - len(level.placed(Wall)) == 1:
        raise ImpactError("the map is too small: it has no cell beside the agent's that is not wall")


def _ground(character: str, thing: Kind) -> str:
    return thing.on if isinstance(thing, Loose) else character


def _sprite(thing: Kind) -> str:
    """A belt's sprite points right; another direction has its own, if there is one."""
    turned = f"{thing.sprite}_{thing.direction}" if isinstance(thing, Belt) else thing.sprite
    return turned if turned in SPRITES else thing.sprite


def _table(character: str) -> str:
    """Head of a legend's table, as TOML has it."""
    bare = re.fullmatch(r"[A-Za-z0-9_-]+", character)
    return f"[legend.{character if bare else json.dumps(character, ensure_ascii=False)}]"


def _name(thing: Kind) -> str:
    return type(thing).__name__.lower()


def _noun(kind: type[Kind]) -> str:
    name = kind.__name__.lower()
    return "a fragile thing" if kind is Fragile else f"{'an' if kind is Agent else 'a'} {name}"
