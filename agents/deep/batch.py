"""What an update learns from: samples of the replay, first as numbers, then with the observations they refer to."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from impactrl.agents.deep.replay import Replay, window
from impactrl.agents.dqn import DQN

__all__ = ["Batch", "Sample", "batch_of", "sample_of"]


class Sample(NamedTuple):
    """B samples of n steps in a row, observations by their numbers.

    Attributes:
        place: [B, n] before each step.
        action: [B, n].
        reward: [B, n].
        following: [B, n] after it.
        terminal: [B, n].
        alive: [B, n] whether the step belongs to the sample; the first does.
        before: [B] number of the observation one step before the first.
        before_action: [B] that was taken there.
        preceded: [B] whether that is remembered, and of the same episode.
        later: [B] number of an observation of the same episode after the first step, at most a window away.
    """

    place: Any
    action: Any
    reward: Any
    following: Any
    terminal: Any
    alive: Any
    before: Any
    before_action: Any
    preceded: Any
    later: Any


class Batch(NamedTuple):
    """A sample with observations.

    Attributes:
        observation: [B, n, *shape] before each step.
        action: [B, n].
        reward: [B, n].
        following: [B, n, *shape] after it.
        terminal: [B, n].
        alive: [B, n].
        importance: [B] weight in the loss.
        before: [B, *shape] one step before the first.
        before_action: [B].
        preceded: [B].
        later: [B, *shape].
        arrival: [B] what tells apart the observations after the first step: equal numbers for equal ones.
    """

    observation: jax.Array
    action: jax.Array
    reward: jax.Array
    following: jax.Array
    terminal: jax.Array
    alive: jax.Array
    importance: jax.Array
    before: jax.Array
    before_action: jax.Array
    preceded: jax.Array
    later: jax.Array
    arrival: jax.Array


def sample_of(settings: DQN, replay: Replay, index: jax.Array, draws: jax.Array) -> Sample:
    """The steps from each of [B] indices on; uniform random numbers [B] choose how much later `later` is."""
    seen = window(replay, index, settings.n_steps)
    ahead = window(replay, index, settings.window)
    steps = ahead.alive.sum(axis=1)
    chosen = jnp.minimum((draws * steps).astype(jnp.int32), steps - 1)
    following = replay.following.ravel()
    return Sample(
        place=replay.place.ravel()[seen.steps],
        action=replay.action.ravel()[seen.steps],
        reward=replay.reward.ravel()[seen.steps],
        following=following[seen.steps],
        terminal=replay.terminal.ravel()[seen.steps],
        alive=seen.alive,
        before=replay.place.ravel()[seen.before],
        before_action=replay.action.ravel()[seen.before],
        preceded=seen.preceded,
        later=following[ahead.steps[jnp.arange(len(index)), chosen]],
    )


def batch_of(
    sample: Sample, importance: jax.Array, observe: Callable[[Any], Any], identify: Callable[[Any], Any]
) -> Batch:
    """The sample with what its numbers refer to.

    Args:
        sample: of B.
        importance: [B].
        observe: from numbers [...] to observations [..., *shape].
        identify: from numbers [...] to what tells observations apart.
    """
    return Batch(
        observation=observe(sample.place),
        action=sample.action,
        reward=sample.reward,
        following=observe(sample.following),
        terminal=sample.terminal,
        alive=sample.alive,
        importance=importance,
        before=observe(sample.before),
        before_action=sample.before_action,
        preceded=sample.preceded,
        later=observe(sample.later),
        arrival=identify(sample.following[:, 0]),
    )
