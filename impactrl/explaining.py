"""`explain`: what a penalty sees, step by step."""

import operator
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import pandas as pd

from impactrl.env import compiled
from impactrl.errors import ImpactError, whole_number
from impactrl.game import Game, action_named, new_game, take
from impactrl.measures.penalty import Penalty
from impactrl.world import AnyWorld

__all__ = ["explain", "letters_of", "parse_actions"]

LETTERS = {"U": "up", "D": "down", "L": "left", "R": "right", "N": "space", "I": "i"}
"""Letters of actions, and the keys that stand for the same."""
COLUMNS = ("state", "action", "reward", "performance", "side_effect", "completed", "deviation", "penalty")


def letters_of(names: Sequence[str]) -> dict[str, int]:
    """The letters that stand for actions of a world, and their indices.

    >>> letters_of(["north", "south", "east", "west", "stay"])
    {'U': 0, 'D': 1, 'L': 3, 'R': 2, 'N': 4}
    """
    found = {letter: action_named(key, names) for letter, key in LETTERS.items()}
    return {letter: index for letter, index in found.items() if index is not None}


def parse_actions(actions: str | Sequence[int], names: Sequence[str]) -> list[int]:
    """Actions as indices.

    Args:
        actions: letters U D L R N I ("LDR"; up, down, left, right, no-op, interact, or what a world calls them: north,
            stay), numbers ("2 1 3" or "2,1,3"), or a sequence of indices.
        names: names of the world's actions.

    Raises:
        ImpactError: a letter or number that is no action of the world.

    >>> parse_actions("LD R", ["up", "down", "left", "right", "noop"])
    [2, 1, 3]
    """
    if not isinstance(actions, str):
        try:
            indices = [operator.index(a) for a in actions]
        except TypeError:
            raise ImpactError(f"actions are letters or whole numbers, not {actions!r}") from None
    elif any(c.isdigit() for c in actions):
        words = actions.replace(",", " ").split()
        if not all(word.isdigit() for word in words):
            raise ImpactError(f"actions are letters or numbers, not both: {actions!r}")
        indices = [int(word) for word in words]
    else:
        letters = letters_of(names)
        wrong = [c for c in actions.upper() if not c.isspace() and c not in letters]
        if wrong:
            known = ", ".join(f"{letter} = {names[i]}" for letter, i in letters.items()) or "none here: give numbers"
            raise ImpactError(f"unknown action {wrong[0]!r} in {actions!r}; letters: {known}")
        indices = [letters[c] for c in actions.upper() if not c.isspace()]
    for index in indices:
        if not 0 <= index < len(names):
            listing = ", ".join(f"{i} = {name}" for i, name in enumerate(names))
            raise ImpactError(f"there is no action {index}; the actions are {listing}")
    return indices


def explain(
    source: "str | gym.Env[Any, Any] | AnyWorld",
    *,
    actions: str | Sequence[int],
    penalty: Penalty | None = None,
    top: int = 0,
    seed: int = 0,
    **settings: Any,
) -> pd.DataFrame:
    """Plays actions and reports, step by step, what happened and what a penalty makes of it.

    Args:
        source: as in `compile_mdp`.
        actions: see `parse_actions`. The episode may end, or reach its time limit, before they do; the rest is not
            played, so that the table has fewer rows than there are actions.
        penalty: None for none.
        top: how many of the goals, utilities or features that made the deviation to name; see `Impact.contributions`.
        seed: of the environment, for stochastic worlds.
        settings: of the level, where `source` is a name.

    Returns:
        One row per step: `state` (integer id reached), `action` (its name), `reward` (of the task), `performance`,
        `side_effect` and `completed` (of the episode so far), `deviation` and `penalty` (of this step). With `top`
        also `contributions`: pairs of a name and what it added to the deviation, largest first, without those that
        added nothing. Its `attrs["start"]` is the state that the episode began with.

    Raises:
        ImpactError: an unknown level, setting or action, a penalty that does not fit the level, or `top` for a
            deviation that is no difference of values.

    >>> explain("Options", actions="D", penalty=Penalty(discount=1.0)).round(4).iloc[0].to_dict()
    {'state': 1, 'action': 'down', 'reward': 0.0, 'performance': -2.0, 'side_effect': 1.0, 'completed': False, 'deviation': 0.8333, 'penalty': 0.8333}
    """  # noqa: E501
    top = whole_number("top", top, at_least=0)
    game = new_game(source, penalty=penalty, seed=seed, **settings)
    world = game.rules.world
    task = game.rules.task or compiled(world)
    for action in parse_actions(actions, world.actions):
        if game.over:
            break
        game = take(game, action)
    rows = [
        {
            "state": task.index(moment.state),
            "action": world.actions[action],
            "reward": moment.step.reward,
            "performance": moment.total.performance,
            "side_effect": moment.total.side_effect,
            "completed": moment.completed,
            "deviation": moment.deviation,
            "penalty": moment.penalty,
        }
        for action, moment in zip(game.actions, game.moments[1:], strict=True)
    ]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table.attrs["start"] = task.index(game.moments[0].state)
    if top:
        table["contributions"] = pd.Series(_contributions(game, top), dtype=object)
    return table


def _contributions(game: Game, top: int) -> list[list[tuple[str, float]]]:
    """Of every step, the largest contributions and their names."""
    impact = game.rules.impact
    if impact is None:
        raise ImpactError("without a penalty nothing deviates, so there are no contributions: give one, or top=0")
    before, after = game.moments[:-1], game.moments[1:]
    places = [(b.index, a, m.outcome) for b, a, m in zip(before, game.actions, after, strict=True)]
    return [
        [(str(name), float(amount)) for name, amount in series[:top].items() if amount]
        for series in impact.contributions_of(places)
    ]
