"""From rules to arrays: enumerate every state that can be reached."""

from array import array
from collections.abc import Hashable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from impactrl.errors import ImpactError
from impactrl.levels import world_of
from impactrl.mdp import PROBABILITY_TOLERANCE, TabularMDP
from impactrl.world import AnyWorld

__all__ = ["compile_mdp"]

MAX_STATES = 1_000_000


def compile_mdp(
    source: "str | gym.Env[Any, Any] | AnyWorld", *, max_states: int = MAX_STATES, **settings: Any
) -> TabularMDP:
    """Enumerates a world breadth-first into arrays.

    State ids are in the order of discovery: starts first, then by distance from them, actions in order.

    Args:
        source: a level's name or environment id, a Gymnasium environment (one of ours, or a toy-text environment
            with a table `P`), or a `World`.
        max_states: give up beyond this many.
        settings: of the level, where `source` is a name (`goal_reward=1`).

    Raises:
        ImpactError: unknown name or setting, more than `max_states` states (says how far it got), or outcome
            probabilities that do not sum to 1.

    >>> mdp = compile_mdp("Options")
    >>> mdp.num_states, int(mdp.terminal.sum())
    (60, 6)
    """
    if max_states < 1:
        raise ImpactError(f"max_states must be at least 1, not {max_states}")
    world, time_limit = world_of(source, settings)
    if not world.enumerable and max_states <= MAX_STATES:
        raise ImpactError(
            f"{type(world).__name__} is known to have more than {MAX_STATES} states: too many to list. Use a learner "
            "that needs no model, or raise max_states if the machine has room for them"
        )
    starts = [(weight, state) for weight, state in world.start() if weight != 0]
    if not starts:
        raise ImpactError("a world needs at least one first state of probability above 0; start() gave none")
    ids: dict[Hashable, int] = {}
    states: list[Any] = []
    for _, state in starts:
        if state not in ids:
            ids[state] = len(states)
            states.append(state)

    num_actions = len(world.actions)
    counts, successors = array("i"), array("i")
    columns = array("d")  # reward, performance, side_effect, probability of each outcome in turn
    outcomes, terminal = world.outcomes, world.terminal
    ends = bytearray()
    depth, level_end = 0, len(states)
    i = 0
    while i < len(states):
        if i == level_end:
            depth, level_end = depth + 1, len(states)
        state = states[i]
        over = terminal(state)
        ends.append(over)
        if over:
            counts.extend((1,) * num_actions)
            successors.extend((i,) * num_actions)
            columns.extend((0.0, 0.0, 0.0, 1.0) * num_actions)
        else:
            for action in range(num_actions):
                possible = outcomes(state, action)
                count = 0
                for outcome in possible:
                    if outcome[4] == 0:
                        continue
                    count += 1
                    successor = outcome[0]
                    j = ids.get(successor)
                    if j is None:
                        j = ids[successor] = len(states)
                        states.append(successor)
                    successors.append(j)
                    columns.extend(outcome[1:])
                if not count:
                    raise ImpactError(
                        f"every action needs an outcome of probability above 0; {world.actions[action]!r} has none in "
                        f"state {state!r}"
                    )
                counts.append(count)
        if len(states) > max_states:
            raise ImpactError(
                f"more than max_states = {max_states} states: stopped at distance {depth} from the start with "
                f"{i + 1} of {len(states)} known states explored; raise max_states, or use a learner that "
                "needs no enumeration"
            )
        i += 1

    shape, rows, slots = _padding(np.asarray(counts), len(states), num_actions)
    next_state = np.broadcast_to(np.arange(shape[0], dtype=np.int32)[:, None, None], shape).copy()
    next_state.reshape(-1, shape[2])[rows, slots] = successors
    padded = np.zeros((4, shape[0] * num_actions, shape[2]))
    padded[:, rows, slots] = np.asarray(columns).reshape(-1, 4).T
    reward, performance, side_effect, probability = padded.reshape(4, *shape)

    start = np.zeros(len(states))
    for weight, state in starts:
        start[ids[state]] += weight
    situation = _situations(world, states)
    mdp = TabularMDP(
        next_state=next_state,
        probability=probability,
        reward=reward,
        performance=performance,
        side_effect=side_effect,
        terminal=np.frombuffer(ends, dtype=np.bool_).copy(),
        completed=np.fromiter((world.completed(s) for s in states), dtype=np.bool_, count=len(states)),
        start=start,
        initial_performance=world.initial_performance,
        situation=situation,
        actions=tuple(world.actions),
        noop=world.noop,
        time_limit=time_limit,
        states=tuple(states),
        draw=world.board,
        tiles=world.tiles,
        feature_names=tuple(world.feature_names),
        features=world.features,
    )
    _check_situations(mdp)
    return mdp


def _padding(
    counts: NDArray[np.int32], num_states: int, num_actions: int
) -> tuple[tuple[int, int, int], NDArray[np.intp], NDArray[np.intp]]:
    """Shape [S, A, K], and for every outcome in order its row s * A + a and its slot k."""
    rows = np.repeat(np.arange(len(counts)), counts)
    slots = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    return (num_states, num_actions, int(counts.max())), rows, slots


def _situations(world: AnyWorld, states: Sequence[Hashable]) -> NDArray[np.int32]:
    numbers: dict[Hashable, int] = {}
    return np.fromiter(
        (numbers.setdefault(world.situation(s), len(numbers)) for s in states),
        dtype=np.int32,
        count=len(states),
    )


def _check_situations(mdp: TabularMDP) -> None:
    """States of one situation must behave alike: same ends, same distribution of next situations."""
    count = int(mdp.situation.max()) + 1
    if count == mdp.num_states:
        return
    from scipy import sparse

    first = np.unique(mdp.situation, return_index=True)[1]
    twin = first[mdp.situation]
    rows = np.repeat(np.arange(mdp.num_states * mdp.num_actions), mdp.next_state.shape[2])
    towards = sparse.csr_array(
        (mdp.probability.ravel(), (rows, mdp.situation[mdp.next_state].ravel())),
        shape=(mdp.num_states * mdp.num_actions, count),
    )
    twin_rows = (twin[:, None] * mdp.num_actions + np.arange(mdp.num_actions)).ravel()
    difference = abs(towards - towards[twin_rows]).tocoo()
    differ = difference.coords[0][difference.data > PROBABILITY_TOLERANCE]
    ends = np.flatnonzero(mdp.terminal != mdp.terminal[twin])
    odd = int(differ[0]) // mdp.num_actions if len(differ) else int(ends[0]) if len(ends) else None
    if odd is not None:
        raise ImpactError(
            f"World.situation leaves out more than bookkeeping: states {mdp.states[twin[odd]]!r} and "
            f"{mdp.states[odd]!r} share a situation but lead to different ones"
        )
