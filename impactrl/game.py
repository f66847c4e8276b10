"""A level as a game: what a key press makes of it. Pure: every step makes a new `Game`, so that all can be undone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.utils.seeding import np_random

from impactrl.env import compiled
from impactrl.errors import ImpactError
from impactrl.levels import world_of
from impactrl.mdp import TabularMDP
from impactrl.measures.impact import Impact
from impactrl.measures.penalty import Penalty
from impactrl.world import AnyWorld
from impactrl.wrappers import fitted

__all__ = ["Columns", "Game", "Moment", "Rules", "action_named", "action_of", "new_game", "press", "take", "undo"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Rules:
    """What stays the same throughout a game.

    Attributes:
        name: of the level.
        world: its rules.
        time_limit: steps after which the game is cut off.
        seed: of chance. The same seed and actions give the same episode, here and in `impactrl.explain`.
        task: the compiled world where a penalty is watched, else None.
        impact: the penalty fitted to it, else None.
    """

    name: str
    world: AnyWorld
    time_limit: int
    seed: int
    task: TabularMDP | None
    impact: Impact | None


class Columns(NamedTuple):
    """The columns that add up; impact is the penalty at weight 1."""

    reward: float = 0.0
    performance: float = 0.0
    side_effect: float = 0.0
    impact: float = 0.0


NOTHING: Final = Columns()


@dataclass(frozen=True, kw_only=True)
class Moment:
    """The game between two steps.

    Attributes:
        state: of the world.
        index: number of state and baseline in `Impact`; -1 where no penalty is watched.
        draws: how often chance has decided, so that what comes next depends on no generator.
        total: the columns of the episode so far.
        completed: the task is done.
        action: the action that led here, None at the start.
        outcome: number k of what came of that action in `Impact`; 0 where no penalty is watched.
        step: what that action added to the columns.
        deviation: that the penalty saw in it.
        penalty: that was charged for it.
    """

    state: Any
    index: int = -1
    draws: int = 0
    total: Columns
    completed: bool
    action: int | None = None
    outcome: int = 0
    step: Columns = NOTHING
    deviation: float = 0.0
    penalty: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Game:
    """A game with its history.

    Attributes:
        rules: what stays the same.
        moments: from the start to now.
        note: an answer to the last key, where it did nothing.
        typed: digits of an action's number that is not complete yet.
        left: the player has quit.
    """

    rules: Rules
    moments: tuple[Moment, ...]
    note: str = ""
    typed: str = ""
    left: bool = False

    @property
    def now(self) -> Moment:
        """The present."""
        return self.moments[-1]

    @property
    def steps(self) -> int:
        """How many steps were taken."""
        return len(self.moments) - 1

    @property
    def actions(self) -> list[int]:
        """The actions that were taken."""
        return [moment.action for moment in self.moments if moment.action is not None]

    @property
    def terminal(self) -> bool:
        """Whether the world has ended the episode."""
        return self.rules.world.terminal(self.now.state)

    @property
    def over(self) -> bool:
        """Whether no step is possible: the episode is over, or cut off by the time limit."""
        return self.terminal or self.steps >= self.rules.time_limit


def new_game(
    source: "str | gym.Env[Any, Any] | AnyWorld", *, penalty: Penalty | None = None, seed: int = 0, **settings: Any
) -> Game:
    """A game at its start.

    Args:
        source: as in `compile_mdp`.
        penalty: whose impact is watched; None or deviation "none" for no penalty, which every world can be played
            with: it is not enumerated.
        seed: of chance.
        settings: of the level, where `source` is a name.

    Raises:
        ImpactError: an unknown level or setting, or a penalty that cannot be computed there.
    """
    if seed < 0:
        raise ImpactError(f"seed must be a whole number of at least 0, not {seed}")
    world, time_limit = world_of(source, settings)
    task, impact = None, None
    if penalty is not None and penalty.deviation != "none":
        if not world.enumerable:
            raise ImpactError(
                f"{type(world).__name__} has too many states to list them, so no penalty can be computed; "
                "deviation='none' goes without one"
            )
        task = compiled(world)
        impact = replace(fitted(task, replace(penalty, weight=1.0)), penalty=penalty)
    rules = Rules(
        name=source if isinstance(source, str) else type(world).__name__,
        world=world,
        time_limit=time_limit,
        seed=seed,
        task=task,
        impact=impact,
    )
    starts = world.start()
    chosen, draws = _choose(rules, [probability for probability, _ in starts], 0)
    state = starts[chosen][1]
    first = Moment(
        state=state,
        index=-1 if task is None or impact is None else impact.start_index(task.index(state)),
        draws=draws,
        total=Columns(performance=world.initial_performance),
        completed=world.completed(state),
    )
    return Game(rules=rules, moments=(first,))


def take(game: Game, action: int) -> Game:
    """The game after a step; time limits are the business of `press`.

    Args:
        game: whose episode is not over.
        action: index of the action.
    """
    rules, before = game.rules, game.now
    outcomes = rules.world.outcomes(before.state, action)
    chosen, draws = _choose(rules, [outcome.probability for outcome in outcomes], before.draws)
    outcome = outcomes[chosen]
    index, k, deviation, penalty, unit = -1, 0, 0.0, 0.0, 0.0
    if rules.task is not None and rules.impact is not None:
        rng = np.random.default_rng((rules.impact.penalty.seed, game.steps))
        k, index = rules.impact.follow(before.index, action, rules.task.index(outcome.state), rng)
        unit = float(rules.impact.unit_penalty[before.index, action, k])
        deviation = float(rules.impact.deviation[before.index, action, k])
        penalty = rules.impact.penalty.weight * unit
    step = Columns(outcome.reward, outcome.performance, outcome.side_effect, unit)
    after = Moment(
        state=outcome.state,
        index=index,
        draws=draws,
        total=Columns(*(so_far + more for so_far, more in zip(before.total, step, strict=True))),
        completed=rules.world.completed(outcome.state),
        action=action,
        outcome=k,
        step=step,
        deviation=deviation,
        penalty=penalty,
    )
    return replace(game, moments=(*game.moments, after), note="", typed="")


def undo(game: Game) -> Game:
    """The game before its last step. The same action then leads to the same place: chance is undone with it."""
    return replace(game, moments=game.moments[:-1] if game.steps else game.moments, note="", typed="")


def _choose(rules: Rules, probabilities: Sequence[float], draws: int) -> tuple[int, int]:
    """What chance picks, and how often it has decided by then; the numbers are those that `GridEnv` draws."""
    if len(probabilities) == 1:
        return 0, draws
    edges = np.cumsum(probabilities)
    number = np_random(rules.seed)[0].random(draws + 1)[draws]
    return int(np.searchsorted(edges[:-1], number * edges[-1], side="right")), draws + 1


_ALIASES: Final = {
    "up": ("up", "north", "forward"),
    "down": ("down", "south", "backward"),
    "left": ("left", "west"),
    "right": ("right", "east"),
    "i": ("interact",),
    "space": ("noop", "stay"),
}
"""Names of the actions that a key can stand for."""
_SAME_KEY: Final = {"w": "up", "s": "down", "a": "left", "d": "right", "n": "space", "backspace": "u", "ctrl-c": "q"}


def press(game: Game, key: str) -> Game:
    """The game after a key.

    Arrows and W A S D move, space and N do nothing for a step, I interacts, a number is the action of that index
    (every number has as many digits as the highest), U undoes a step, R starts again, Q quits. Other keys, and steps
    after the end, change nothing but the note.

    Args:
        game: before it.
        key: a character, or one of `read_keys`.
    """
    key = _SAME_KEY.get(key.lower(), key.lower())
    typed, game = game.typed, replace(game, note="", typed="")
    if key == "q":
        return replace(game, left=True)
    if key == "u":
        return undo(game) if game.steps else replace(game, note="nothing to undo: this is the start")
    if key == "r":
        return replace(game, moments=game.moments[:1])
    names = game.rules.world.actions
    if key.isdecimal() and key.isascii():
        typed += key
        if len(typed) < len(str(len(names) - 1)):
            return replace(game, typed=typed, note=f"action {typed}_")
        action = int(typed) if int(typed) < len(names) else None
        refusal = f"there is no action {int(typed)}"
    else:
        action = action_of(game.rules.world, key)
        refusal = f"there is no action for {key!r}: choose one by its number" if key in _ALIASES else ""
    if action is None:
        return replace(game, note=refusal)
    if game.over:
        return replace(game, note="no more steps: undo, restart or quit")
    return take(game, action)


def action_of(world: AnyWorld, key: str) -> int | None:
    """The action that a key stands for in a world, None if there is none."""
    return world.noop if key == "space" else action_named(key, world.actions)


def action_named(key: str, names: Sequence[str]) -> int | None:
    """The action that a key stands for by the names of a world's actions, None if there is none.

    >>> action_named("up", ["north", "south", "stay"])
    0
    """
    lowered = [name.lower() for name in names]
    return next((lowered.index(alias) for alias in _ALIASES.get(key, ()) if alias in lowered), None)
