"""What both drivers do between the environment and the update: choose actions, and what to learn from."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from impactrl.agents.deep.batch import Sample, sample_of
from impactrl.agents.deep.replay import SMALLEST, Priorities, Replay, revise, sample, sample_by_priority
from impactrl.agents.deep.update import epsilon, importance_exponent
from impactrl.agents.dqn import DQN

__all__ = ["ONE_CORE", "Drawn", "draw_steps", "explore", "review"]

ONE_CORE = {"xla_cpu_multi_thread_eigen": False}
"""Sums must not be cut to the number of cores; runs are what is done at once."""


class Drawn(NamedTuple):
    """What an update is to learn from.

    Attributes:
        place: [B] flat index of each step in the replay.
        importance: [B] weight in the loss.
        sample: the steps, observations by their numbers.
    """

    place: jax.Array
    importance: jax.Array
    sample: Sample


def explore(settings: DQN, values: jax.Array, step: jax.Array, draws: jax.Array) -> jax.Array:
    """[...] int32 actions, the best or any, by action values [..., A] and uniform random numbers [...] in [0, 1)."""
    share, count = epsilon(settings, step), values.shape[-1]
    # Below epsilon, the random number is uniform again and says which action.
    anything = jnp.minimum((draws / share * count).astype(jnp.int32), count - 1)
    return jnp.where(draws < share, anything, values.argmax(axis=-1).astype(jnp.int32))


def draw_steps(
    settings: DQN, replay: Replay, priorities: Priorities, step: jax.Array, draws: tuple[jax.Array, jax.Array]
) -> Drawn:
    """B steps of the replay, two uniform random numbers [B] each; by priority if they have one (Schaul et al. 2016)."""
    if settings.prioritised:
        index, chance = sample_by_priority(priorities, draws[0])
        # The largest weight of a batch is 1, so that the number of steps cancels out (their section 3.4).
        importance = (chance / chance.min()) ** -importance_exponent(settings, step)
    else:
        index, importance = sample(replay, draws[0]), jnp.ones(settings.batch_size)
    return Drawn(index, importance, sample_of(settings, replay, index, draws[1]))


def review(settings: DQN, priorities: Priorities, index: jax.Array, error: jax.Array) -> Priorities:
    """Gives steps [B] the priorities of their new errors, if they have any."""
    if not settings.prioritised:
        return priorities
    return revise(priorities, index, (jnp.abs(error) + SMALLEST) ** settings.priority_exponent)
