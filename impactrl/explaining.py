"""`explain`: what a penalty sees, step by step."""

import operator
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import pandas as pd

from impactrl.env import GridEnv
from impactrl.errors import ImpactError
from impactrl.levels import world_of
from impactrl.measures.penalty import Penalty
from impactrl.world import AnyWorld
from impactrl.wrappers import ImpactPenalty

__all__ = ["explain", "parse_actions"]

LETTERS = {"U": "up", "D": "down", "L": "left", "R": "right", "N": "noop"}


def parse_actions(actions: str | Sequence[int], names: Sequence[str]) -> list[int]:
    """Actions as indices.

    Args:
        actions: letters U D L R N ("LDR"), numbers ("2 1 3" or "2,1,3"), or a sequence of indices.
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
        letters = {k: names.index(v) for k, v in LETTERS.items() if v in names}
        wrong = [c for c in actions.upper() if not c.isspace() and c not in letters]
        if wrong:
            known = ", ".join(f"{k} = {LETTERS[k]}" for k in letters) or "none here: give numbers"
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
    seed: int = 0,
    **settings: Any,
) -> pd.DataFrame:
    """Plays actions and reports, step by step, what happened and what a penalty makes of it.

    Args:
        source: as in `compile_mdp`.
        actions: see `parse_actions`. The episode may end, or reach its time limit, before they do; the rest is not
            played.
        penalty: None for none.
        seed: of the environment, for stochastic worlds.
        settings: of the level, where `source` is a name.

    Returns:
        One row per step: `state` (integer id reached), `action` (its name), `reward` (of the task), `performance`,
        `side_effect` and `completed` (of the episode so far), `deviation` and `penalty` (of this step). Its
        `attrs["start"]` is the state that the episode began with.

    >>> explain("Options", actions="D", penalty=Penalty(discount=1.0)).round(4).iloc[0].to_dict()
    {'state': 1, 'action': 'down', 'reward': 0.0, 'performance': -2.0, 'side_effect': 1.0, 'completed': False, 'deviation': 0.8333, 'penalty': 0.8333}
    """  # noqa: E501
    world, time_limit = world_of(source, settings)
    penalty = penalty or Penalty(deviation="none")
    env = ImpactPenalty(GridEnv(world), **vars(penalty))
    _, first = env.reset(seed=seed)
    rows = []
    for action in parse_actions(actions, list(world.actions))[:time_limit]:
        _, _, terminated, _, info = env.step(action)
        rows.append(
            {
                "state": info["state"],
                "action": world.actions[action],
                "reward": info["task_reward"],
                "performance": info["performance"],
                "side_effect": info["side_effect"],
                "completed": info["completed"],
                "deviation": info["impact/deviation"],
                "penalty": info["impact/penalty"],
            }
        )
        if terminated:
            break
    columns = ["state", "action", "reward", "performance", "side_effect", "completed", "deviation", "penalty"]
    table = pd.DataFrame(rows, columns=columns)
    table.attrs["start"] = first["state"]
    return table
