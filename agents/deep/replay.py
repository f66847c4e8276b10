"""Replay: what was experienced, in rings of numbers; samples of it with the steps that followed.

Observations are not kept here but referred to by number: of a state of a compiled level, or of a slot of a buffer.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

__all__ = [
    "SMALLEST",
    "Priorities",
    "Replay",
    "Window",
    "add",
    "empty",
    "no_priorities",
    "revise",
    "sample",
    "sample_by_priority",
    "size",
    "window",
]

BLOCK = 64
"""Priorities whose sum is kept."""
SMALLEST = 1e-6
"""Added to errors, so that every step can be sampled again."""
NOWHERE = 2**31 - 1
"""An index out of the range of all rings."""


class Replay(NamedTuple):
    """Rings of C steps for each of N environments; the steps of an environment are in their order.

    Attributes:
        place: [N, C] int32, number of the observation before the step.
        action: [N, C] int32.
        reward: [N, C] float32.
        following: [N, C] int32, number of the observation after it.
        terminal: [N, C] bool, whether the step ended the episode.
        over: [N, C] bool, whether the episode ended or was cut off.
        added: [N] int32, steps ever added.
    """

    place: jax.Array
    action: jax.Array
    reward: jax.Array
    following: jax.Array
    terminal: jax.Array
    over: jax.Array
    added: jax.Array


class Window(NamedTuple):
    """Where B samples of n steps in a row are.

    Attributes:
        steps: [B, n] index into the flattened rings.
        alive: [B, n] whether the step belongs to the sample: its episode was not over, and it has happened.
        before: [B] index of the step before the first.
        preceded: [B] whether that is remembered and of the same episode.
    """

    steps: jax.Array
    alive: jax.Array
    before: jax.Array
    preceded: jax.Array


class Priorities(NamedTuple):
    """How much each step is to be sampled: [N * C] float32 in blocks, the blocks' sums, and the largest ever given."""

    value: jax.Array
    total: jax.Array
    largest: jax.Array


def empty(environments: int, capacity: int) -> Replay:
    """Rings without a step."""
    shape = environments, capacity
    numbers, flags = jnp.zeros(shape, jnp.int32), jnp.zeros(shape, jnp.bool_)
    return Replay(
        place=numbers,
        action=numbers,
        reward=jnp.zeros(shape, jnp.float32),
        following=numbers,
        terminal=flags,
        over=flags,
        added=jnp.zeros(environments, jnp.int32),
    )


def size(replay: Replay) -> jax.Array:
    """[N] steps that are remembered."""
    return jnp.minimum(replay.added, replay.place.shape[1])


def add(
    replay: Replay,
    *,
    place: jax.Array,
    action: jax.Array,
    reward: jax.Array,
    following: jax.Array,
    terminal: jax.Array,
    over: jax.Array,
    kept: jax.Array,
) -> tuple[Replay, jax.Array]:
    """Adds a step of each environment, [N], but for those that are not to be kept.

    Returns:
        The rings, and [N] the flat index of each step; of one that is not kept, `NOWHERE`.
    """
    environments, capacity = replay.place.shape
    row = jnp.arange(environments)
    column = jnp.where(kept, replay.added % capacity, capacity)

    def put(ring: jax.Array, value: jax.Array) -> jax.Array:
        return ring.at[row, column].set(value.astype(ring.dtype), mode="drop")

    added = Replay(
        place=put(replay.place, place),
        action=put(replay.action, action),
        reward=put(replay.reward, reward),
        following=put(replay.following, following),
        terminal=put(replay.terminal, terminal),
        over=put(replay.over, over),
        added=replay.added + kept,
    )
    return added, jnp.where(kept, row * capacity + column, NOWHERE)


def sample(replay: Replay, draws: jax.Array) -> jax.Array:
    """[B] flat indices of remembered steps, all equally likely, for uniform random numbers [B] in [0, 1)."""
    environments, capacity = replay.place.shape
    sizes = size(replay)
    if environments == 1:
        return jnp.minimum((draws * sizes[0]).astype(jnp.int32), sizes[0] - 1)
    ends = jnp.cumsum(sizes)
    rank = jnp.minimum((draws * ends[-1]).astype(jnp.int32), ends[-1] - 1)
    row = jnp.searchsorted(ends, rank, side="right")
    return row * capacity + rank - (ends[row] - sizes[row])


def window(replay: Replay, index: jax.Array, steps: int) -> Window:
    """The steps that follow each of [B] steps, itself included, as far as they are known and of its episode."""
    capacity = replay.place.shape[1]
    row, column = index // capacity, index % capacity
    count = replay.added[row]
    age = (count - 1 - column) % capacity  # steps added since
    ahead = jnp.arange(steps)
    inside = row[:, None] * capacity + (column[:, None] + ahead) % capacity
    over = replay.over.ravel()
    ended = over[inside].astype(jnp.int32)
    alive = (jnp.cumsum(ended, axis=1) - ended == 0) & (ahead <= age[:, None])
    before = row * capacity + (column - 1) % capacity
    preceded = (age + 1 < jnp.minimum(count, capacity)) & ~over[before]
    return Window(steps=inside, alive=alive, before=before, preceded=preceded)


def no_priorities(entries: int) -> Priorities:
    """Of so many steps, none of which has happened."""
    blocks = -(-entries // BLOCK)
    return Priorities(
        value=jnp.zeros((blocks, BLOCK), jnp.float32),
        total=jnp.zeros(blocks, jnp.float32),
        largest=jnp.ones((), jnp.float32),
    )


def revise(priorities: Priorities, index: jax.Array, value: jax.Array) -> Priorities:
    """Gives steps [B] new priorities; indices out of range are left out."""
    block = index // BLOCK
    values = priorities.value.at[block, index % BLOCK].set(value, mode="drop")
    # The sums of blocks are computed anew: corrections would add up their rounding errors.
    sums = values.at[block].get(mode="fill", fill_value=0.0).sum(axis=1)
    return Priorities(
        value=values,
        total=priorities.total.at[block].set(sums, mode="drop"),
        largest=jnp.maximum(priorities.largest, value.max()),
    )


def sample_by_priority(priorities: Priorities, draws: jax.Array) -> tuple[jax.Array, jax.Array]:
    """[B] flat indices, likely by their priorities, one from each of B equal shares of the total (Schaul et al. 2016).

    Returns:
        The indices, and [B] how likely each was in one draw.
    """
    count = len(draws)
    blocks = jnp.cumsum(priorities.total)
    wanted = (jnp.arange(count) + draws) / count * blocks[-1]
    block = _place_of(blocks[None], wanted)
    block = jnp.where(priorities.total[block] > 0, block, priorities.total.argmax())
    rest = wanted - (blocks[block] - priorities.total[block])
    values = priorities.value[block]
    within = _place_of(jnp.cumsum(values, axis=1), rest)
    # Rounding may lead one block or entry too far, to where nothing is.
    chosen = values[jnp.arange(count), within]
    best = values.argmax(axis=1)
    within = jnp.where(chosen > 0, within, best)
    return block * BLOCK + within, values[jnp.arange(count), within] / blocks[-1]


def _place_of(edges: jax.Array, wanted: jax.Array) -> jax.Array:
    """[B] how many of the ascending edges [B or 1, M] are at most what is wanted [B]; at most M - 1."""
    return jnp.minimum((edges <= wanted[:, None]).sum(axis=1), edges.shape[1] - 1)
