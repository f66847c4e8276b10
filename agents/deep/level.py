"""A compiled level as a deep agent's program sees it: arrays in single precision, and pictures of its states."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from impactrl.agents.dqn import DQN
from impactrl.measures.impact import Impact
from impactrl.measures.product import PairState

__all__ = ["Level", "identities", "level_of", "pictures"]


class Level(NamedTuple):
    """X states, A actions, K outcomes.

    Attributes:
        observation: [X, *shape] float32, what the network sees.
        identity: [X] int32, equal for observations of the state that are equal.
        next_state: [X, A, K] int32.
        cumulative: [X, A, K] float32, of the outcomes' probabilities.
        columns: [X, A, K, 3] float32, reward, performance and side effect.
        terminal: [X] bool.
        completed: [X] float32.
        cumulative_start: [X] float32.
        time_limit: int32, steps.
    """

    observation: jax.Array
    identity: jax.Array
    next_state: jax.Array
    cumulative: jax.Array
    columns: jax.Array
    terminal: jax.Array
    completed: jax.Array
    cumulative_start: jax.Array
    time_limit: jax.Array


def level_of(impact: Impact, settings: DQN) -> Level:
    """The arrays of a fitted penalty's task."""
    mdp, single = impact.mdp, np.float32
    return Level(
        observation=jnp.asarray(pictures(impact, settings)),
        identity=jnp.asarray(identities(impact, settings)),
        next_state=jnp.asarray(mdp.next_state),
        cumulative=jnp.asarray(mdp.probability.cumsum(axis=2).astype(single)),
        columns=jnp.asarray(impact.columns[..., :3].astype(single)),
        terminal=jnp.asarray(mdp.terminal),
        completed=jnp.asarray(mdp.completed.astype(single)),
        cumulative_start=jnp.asarray(mdp.start.cumsum().astype(single)),
        time_limit=jnp.asarray(mdp.time_limit, jnp.int32),
    )


def pictures(impact: Impact, settings: DQN) -> NDArray[np.float32]:
    """[X, *shape] what a network sees of each state; see `DQN`.

    With planes, a memory is seen as the board that it remembers, where there is one, and else as a number, as are the
    steps that are left of a plan. As "state", all of this is one-hot together.
    """
    remembers = settings.memory == "product" and settings.impact == "exact"
    if settings.observation == "state":
        row = np.arange(impact.mdp.num_states) if remembers else impact.state
        return np.eye(int(row.max()) + 1, dtype=np.float32)[row]
    planes = _planes(impact, [impact.mdp.draw(state) for state in impact.mdp.states])
    if remembers:
        planes = np.concatenate([planes, *_remembered(impact, planes.shape[2:])], axis=1)
    if settings.network == "cnn":
        return planes
    flat = planes.reshape(len(planes), -1)
    changing = flat.min(axis=0) < flat.max(axis=0)
    return np.ascontiguousarray(flat[:, changing if changing.any() else slice(1)])


def identities(impact: Impact, settings: DQN) -> NDArray[np.int32]:
    """[X] numbers that are equal where a learned impact takes states for one: by boards or by situations."""
    if settings.observation == "state":
        alone = np.array_equal(impact.state, np.arange(impact.mdp.num_states))
        # A product has no situations of its own.
        return impact.mdp.situation if alone else impact.state.astype(np.int32)
    boards = np.stack([impact.mdp.draw(state).ravel() for state in impact.mdp.states])
    return np.unique(boards, axis=0, return_inverse=True)[1].ravel().astype(np.int32)


def _planes(impact: Impact, boards: Sequence[NDArray[np.uint8] | None]) -> NDArray[np.float32]:
    """[X, C, rows, columns] a 0/1 plane for each character that any state shows; nothing where there is no board."""
    shown = np.unique(np.stack([impact.mdp.draw(state) for state in impact.mdp.states]))
    blank = np.zeros_like(impact.mdp.draw(impact.mdp.states[0]))
    stacked = np.stack([blank if board is None else board for board in boards])
    planes: NDArray[np.float32] = (stacked[:, None] == shown[:, None, None]).astype(np.float32)
    return planes


def _remembered(impact: Impact, board: tuple[int, ...]) -> Iterator[NDArray[np.float32]]:
    """[X, M, rows, columns] what pairs of state and memory know beside the state, part by part; nothing of states.

    The board of the state that the baseline remembers; of a memory that is no state, its share of the largest, in a
    plane; and so the steps that are left of a plan.
    """
    pairs = impact.mdp.states
    if not isinstance(pairs[0], PairState):
        return
    if any(pair.baseline is not None for pair in pairs):
        yield _planes(
            impact,
            [None if pair.baseline is None else impact.mdp.draw(pair._replace(state=pair.baseline)) for pair in pairs],
        )
    else:
        yield from _shares(impact.memory + 1, board)
    yield from _shares(np.array([pair.to_go for pair in pairs]), board)


def _shares(number: NDArray[np.int64], board: tuple[int, ...]) -> Iterator[NDArray[np.float32]]:
    """[X, 1, rows, columns] planes of numbers [X] as shares of the largest; nothing if all are equal."""
    if number.min() < number.max():
        share = (number / number.max()).astype(np.float32)
        yield np.broadcast_to(share[:, None, None, None], (len(number), 1, *board))
