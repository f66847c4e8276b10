"""`TextWorld`: the rules of a level file. `make_level`: from a file to a registered environment."""

import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple
from warnings import warn

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from impactrl.errors import ImpactError
from impactrl.level_files import (
    FIXED,
    Agent,
    Belt,
    Box,
    Button,
    Coin,
    Fragile,
    Goal,
    LevelFile,
    Placed,
    Thing,
    Walker,
    parse_level,
)
from impactrl.levels import NAMESPACE, register_level
from impactrl.world import GRID_ACTIONS, GridWorld, Outcome

__all__ = ["LEVEL_FILE", "TextState", "TextWorld", "make_level"]

LEVEL_FILE = ".txt"
"""Where environments are named, a name with this ending is the path of a level file."""


class TextState(NamedTuple):
    """What changes in a level. A kind that the level does not have takes no room.

    Attributes:
        agent: its cell.
        things: cells of boxes, fragile things and coins in reading order; None once broken or taken.
        walkers: how far each is on its route; None once gone.
        timers: steps left of each button; None once pressed.
        touched: numbers of the fragile things that belts could break and the agent has pushed. Bookkeeping.
    """

    agent: int
    things: tuple[int | None, ...] = ()
    walkers: tuple[int | None, ...] = ()
    timers: tuple[int | None, ...] = ()
    touched: frozenset[int] = frozenset()


@dataclass(kw_only=True)
class _Frame:
    """A state in the middle of a step, and what the step has come to so far."""

    agent: int
    things: list[int | None]
    walkers: list[int | None]
    timers: list[int | None]
    touched: set[int]
    reward: float = 0.0
    performance: float = 0.0
    side_effect: float = 0.0

    def pay(self, reward: float) -> None:
        """Visibly and hidden."""
        self.reward += reward
        self.performance += reward

    def charge(self, penalty: float, side_effect: float) -> None:
        """Hidden only."""
        self.performance += penalty
        self.side_effect += side_effect


@dataclass(frozen=True)
class TextWorld(GridWorld[TextState]):
    r"""A level written as text.

    In every step, in this order:

    1. An action other than no-op pays `movement_reward`.
    2. A box or pushable thing in front of the agent is pushed one cell. Walls, other things and walkers stop it.
    3. The agent moves, stopped by walls and by what it could not push.
    4. What the agent enters: a fragile thing breaks, a coin is taken, a button is pressed.
    5. Belts carry what stands on them one cell, all at once, also onto the agent's cell (then as in 4). A thing waits
       while a wall, a walker or a thing that stays is ahead. A fragile thing that is carried off the end of a belt
       breaks; that is a side effect if the agent pushed it before.
    6. Walkers go on with their routes; one waits while a thing is ahead.
    7. A walker on the agent's cell is gone. Swapping cells is no hit.
    8. The timers of buttons that were not pressed count down; 0 ends the episode.
    9. An agent on a goal is paid, and the episode ends.

    Side effects: things broken (see 5), walkers gone, buttons pressed, and boxes that are off their first cell and
    touch two walls or more that are not exactly an opposite pair; these are refunded when they leave.
    Completed: the agent is on a goal; without goals, all coins are taken; without both, everything that pays for
    its rescue is intact and off the belts.

    The board does not show timers, how far a walker is on its route, and what lies below something else.

    Args:
        text: a map and a legend, see `parse_level`.

    Raises:
        ImpactError: the text makes no level.

    >>> TextWorld("#####\n#AVG#\n#####").outcomes(TextState(6, things=(7,)), 3)
    [Outcome(state=TextState(agent=7, things=(None,), walkers=(), timers=(), touched=frozenset()), reward=0.0, performance=-2.0, side_effect=1.0, probability=1.0)]
    """  # noqa: E501

    text: str
    file: LevelFile = field(init=False, repr=False, compare=False)
    level: str = field(init=False, repr=False, compare=False)
    time_limit: int = field(init=False, repr=False, compare=False)
    enumerable: bool = field(init=False, repr=False, compare=False)
    tiles: Mapping[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        file = parse_level(self.text)
        for name, value in {
            "file": file,
            "level": "\n".join(file.rows),
            "time_limit": file.settings.time_limit,
            "enumerable": file.settings.enumerable,
            "tiles": file.tiles,
        }.items():
            object.__setattr__(self, name, value)

    # The level

    @cached_property
    def walls(self) -> frozenset[int]:
        """The cells that nothing enters, `OUTSIDE` among them."""
        return self.file.walls

    @cached_property
    def things(self) -> tuple[Placed[Thing], ...]:
        """Boxes, fragile things and coins, where they are at first."""
        return self.file.placed(Thing)

    @cached_property
    def walkers(self) -> tuple[Placed[Walker], ...]:
        """Moving beings, where they are at first."""
        return self.file.placed(Walker)

    @cached_property
    def routes(self) -> tuple[tuple[int, ...], ...]:
        """The cells of each walker's round."""
        return tuple(map(self.file.route, self.walkers))

    @cached_property
    def buttons(self) -> tuple[Placed[Button], ...]:
        """Buttons with their timers."""
        return self.file.placed(Button)

    @cached_property
    def goals(self) -> dict[int, float]:
        """What each goal pays."""
        return {goal.cell: goal.thing.reward for goal in self.file.placed(Goal)}

    @cached_property
    def belts(self) -> dict[int, int]:
        """The direction of the belt on a cell, as an action."""
        kinds = ((cell, self.file.legend[c]) for cell, c in enumerate(self.file.ground))
        return {cell: GRID_ACTIONS.index(kind.direction) for cell, kind in kinds if isinstance(kind, Belt)}

    @cached_property
    def corners(self) -> frozenset[int]:
        """The cells that touch two walls or more that are not exactly an opposite pair."""
        up, down, left, right, here = self.file.ahead
        walls = self.walls
        return frozenset(
            c for c in here if (up[c] in walls or down[c] in walls) and (left[c] in walls or right[c] in walls)
        )

    @cached_property
    def pushable(self) -> frozenset[int]:
        """Numbers of the things that are pushed; the others are entered."""
        return frozenset(self._numbers(lambda thing: isinstance(thing, Box) or getattr(thing, "pushable", False)))

    @cached_property
    def coins(self) -> tuple[int, ...]:
        """Numbers of the coins."""
        return self._numbers(lambda thing: isinstance(thing, Coin))

    @cached_property
    def rescues(self) -> tuple[int, ...]:
        """Numbers of the fragile things that pay when they are pushed off a belt."""
        return self._numbers(lambda thing: isinstance(thing, Fragile) and thing.reward != 0)

    def _numbers(self, chosen: Callable[[Thing], bool]) -> tuple[int, ...]:
        return tuple(i for i, placed in enumerate(self.things) if chosen(placed.thing))

    # The rules

    def start(self) -> Sequence[tuple[float, TextState]]:
        """See `World`."""
        first = TextState(
            agent=self.file.placed(Agent)[0].cell,
            things=tuple(placed.cell for placed in self.things),
            walkers=(0,) * len(self.walkers),
            timers=tuple(button.thing.steps for button in self.buttons),
        )
        return [(1.0, first)]

    def outcomes(self, state: TextState, action: int) -> Sequence[Outcome[TextState]]:
        """See `World`."""
        frame = _Frame(
            agent=state.agent,
            things=list(state.things),
            walkers=list(state.walkers),
            timers=list(state.timers),
            touched=set(state.touched),
        )
        if action != self.noop:
            frame.pay(self.file.settings.movement_reward)
            self._push(frame, action)
            self._move(frame, action)
        self._enter(frame)
        self._carry(frame)
        self._walk(frame)
        self._meet(frame)
        self._count_down(frame)
        frame.pay(self.goals.get(frame.agent, 0.0))
        after = TextState(
            frame.agent, tuple(frame.things), tuple(frame.walkers), tuple(frame.timers), frozenset(frame.touched)
        )
        return [Outcome(after, frame.reward, frame.performance, frame.side_effect)]

    def terminal(self, state: TextState) -> bool:
        """See `World`."""
        return 0 in state.timers or state.agent in self.goals or self._all_coins_taken(state)

    def completed(self, state: TextState) -> bool:
        """See `World`."""
        if self.goals:
            return state.agent in self.goals
        if self.coins:
            return self._all_coins_taken(state)
        places = [state.things[i] for i in self.rescues]
        return bool(places) and all(cell is not None and cell not in self.belts for cell in places)

    def situation(self, state: TextState) -> Hashable:
        """Whether the agent touched a thing before is bookkeeping."""
        return state._replace(touched=frozenset())

    def board(self, state: TextState) -> NDArray[np.uint8]:
        """See `World`."""
        return self.paint(*self._layers(state))

    # The steps of a step

    def _push(self, frame: _Frame, action: int) -> None:
        cell = self.file.ahead[action][frame.agent]
        number = self._pushable_at(frame, cell)
        beyond = self.file.ahead[action][cell]
        if number is None or beyond in self.walls or beyond in frame.things or beyond in self._walker_cells(frame):
            return
        self._place(frame, number, beyond)
        thing = self.things[number].thing
        if isinstance(thing, Fragile) and self.belts:
            frame.touched.add(number)
            sideways = cell in self.belts and self.belts[cell] // 2 != action // 2
            if sideways and beyond not in self.belts:
                frame.pay(thing.reward)

    def _move(self, frame: _Frame, action: int) -> None:
        cell = self.file.ahead[action][frame.agent]
        if cell not in self.walls and self._pushable_at(frame, cell) is None:
            frame.agent = cell

    def _enter(self, frame: _Frame) -> None:
        for number, placed in enumerate(self.things):
            if frame.things[number] == frame.agent and number not in self.pushable:
                frame.things[number] = None
                if isinstance(placed.thing, Coin):
                    frame.pay(placed.thing.reward)
                elif isinstance(placed.thing, Fragile):
                    frame.charge(placed.thing.penalty, side_effect=1.0)
        for number, button in enumerate(self.buttons):
            if button.cell == frame.agent and frame.timers[number] is not None:
                frame.timers[number] = None
                frame.charge(button.thing.penalty, side_effect=1.0)

    def _carry(self, frame: _Frame) -> None:
        if not self.belts:
            return
        for number, cell in self._carried(frame).items():
            thing = self.things[number].thing
            if isinstance(thing, Fragile) and cell not in self.belts:
                frame.things[number] = None
                frame.charge(thing.penalty, side_effect=float(number in frame.touched))
                frame.touched.discard(number)
            else:
                self._place(frame, number, cell)
        self._enter(frame)

    def _carried(self, frame: _Frame) -> dict[int, int]:
        """Where the belts bring each thing that does not have to wait."""
        cells = {i: c for i, c in enumerate(frame.things) if c is not None}
        goes = {i: self.file.ahead[self.belts[c]][c] for i, c in cells.items() if c in self.belts}

        def waits(i: int) -> bool:
            stays = {c for j, c in cells.items() if j not in goes}
            swapped = any(cells[j] == goes[i] and goes[j] == cells[i] for j in goes)
            later = any(j < i and goes[j] == goes[i] for j in goes)
            return goes[i] in stays or swapped or later

        beings = self._walker_cells(frame)
        goes = {i: c for i, c in goes.items() if c not in self.walls and c not in beings}
        while waiting := [i for i in goes if waits(i)]:
            goes = {i: c for i, c in goes.items() if i not in waiting}
        return goes

    def _walk(self, frame: _Frame) -> None:
        for number, route in enumerate(self.routes):
            phase = frame.walkers[number]
            if phase is not None:
                following = (phase + 1) % len(route)
                if route[following] not in frame.things:
                    frame.walkers[number] = following

    def _meet(self, frame: _Frame) -> None:
        for number, route in enumerate(self.routes):
            phase = frame.walkers[number]
            if phase is not None and route[phase] == frame.agent:
                frame.walkers[number] = None
                frame.charge(self.walkers[number].thing.penalty, side_effect=1.0)

    def _count_down(self, frame: _Frame) -> None:
        frame.timers = [None if steps is None else steps - 1 for steps in frame.timers]

    def _place(self, frame: _Frame, number: int, cell: int) -> None:
        """Puts a thing somewhere; a box in a corner counts, one that leaves it is refunded."""
        first, _, thing = self.things[number]
        if isinstance(thing, Box):
            before = frame.things[number] != first and frame.things[number] in self.corners
            change = (cell != first and cell in self.corners) - before
            frame.charge(change * thing.penalty, side_effect=float(change))
        frame.things[number] = cell

    def _pushable_at(self, frame: _Frame, cell: int) -> int | None:
        return next((i for i in self.pushable if frame.things[i] == cell), None)

    def _walker_cells(self, frame: _Frame) -> set[int]:
        pairs = zip(self.routes, frame.walkers, strict=True)
        return {route[phase] for route, phase in pairs if phase is not None}

    def _all_coins_taken(self, state: TextState) -> bool:
        """In a level whose task that is."""
        return bool(self.coins) and not self.goals and all(state.things[i] is None for i in self.coins)

    def _layers(self, state: TextState) -> Iterator[tuple[int, str]]:
        buttons = {button.cell for button in self.buttons}
        yield from ((cell, c) for cell, c in enumerate(self.file.ground) if c not in FIXED and cell not in buttons)
        for button, steps in zip(self.buttons, state.timers, strict=True):
            if steps is not None:
                yield button.cell, button.character
        for placed, cell in zip(self.things, state.things, strict=True):
            if cell is not None:
                yield cell, placed.character
        for walker, route, phase in zip(self.walkers, self.routes, state.walkers, strict=True):
            if phase is not None:
                yield route[phase], walker.character
        yield state.agent, self.file.placed(Agent)[0].character


def make_level(source: str | Path, *, name: str | None = None) -> str:
    """Registers a level that is written as text, so that `gym.make`, `compile_mdp`, sweeps and all others know it.

    The environment's specification holds the whole text: it needs the file no more, and what is in the file later
    changes no registered level.

    Args:
        source: the path of a level file, or, with a line break in it, the text itself; see `parse_level`.
        name: letters, digits, dashes and underscores. Default: the file's name without its ending; for a text
            "Level-" and a number made from it.

    Returns:
        The environment id, `impactrl/<name>-v0`.

    Raises:
        ImpactError: no such file, a text that makes no level (says where), or a name that another level has.

    Warns:
        UserWarning: a goal that cannot be reached, and other things that are allowed and likely a mistake.
    """
    if isinstance(source, str) and "\n" in source:
        text, where = source, "the level"
        default = f"Level-{sha256(_tidy(text).encode()).hexdigest()[:8]}"
    else:
        text, where, default = _read(Path(source)), str(source), Path(source).stem
    name = default if name is None else name
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ImpactError(
            f"a level's name is made of letters, digits, dashes and underscores, not {name!r}: give it one with name="
        )
    full = f"{NAMESPACE}/{name}-v0"
    world, settings = f"{__name__}:{TextWorld.__name__}", {"text": _tidy(text)}
    if full in gym.registry:
        if gym.registry[full].kwargs == {"world": world, **settings}:
            return full
        raise ImpactError(
            f"{full} is another level already (a file that was edited makes another level, so that results of the "
            f'two are not mixed up): give this one its own name, make_level(..., name="{name}-2")'
        )
    try:
        level = parse_level(text)
    except ImpactError as error:
        raise ImpactError(f"{where}: {error}") from None
    for doubt in level.doubts():
        warn(f"{where}: {doubt}", UserWarning, stacklevel=2)
    register_level(
        name,
        world,
        time_limit=level.settings.time_limit,
        vector=level.settings.enumerable,
        settings=settings,
    )
    return full


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ImpactError(
            f"cannot read the level file {path}: {error.strerror}. (The text of a level has line breaks; without one "
            "it is taken for a path)"
        ) from None
    except UnicodeDecodeError as error:
        raise ImpactError(f"{path} is no text in UTF-8: {error}") from None


def _tidy(text: str) -> str:
    """The same text for the same level, whatever the line endings."""
    return "\n".join(text.removeprefix("\ufeff").splitlines()).strip("\n")
