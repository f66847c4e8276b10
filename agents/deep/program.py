"""A run on a compiled level as one program: environment, replay and updates, without leaving the device."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from impactrl.agents.deep.batch import batch_of
from impactrl.agents.deep.driving import ONE_CORE, draw_steps, explore, review
from impactrl.agents.deep.level import Level
from impactrl.agents.deep.networks import outputs_of
from impactrl.agents.deep.replay import Priorities, Replay, add, empty, no_priorities, revise
from impactrl.agents.deep.update import Learner, Rule, begin, update

__all__ = ["SUMS", "Run", "advance", "advance_all", "forget_sums", "new_run"]

DRAWS = 3  # of a step: what to do, what comes of it, where the next episode begins


SUMS = ("during", "episodes", "loss", "losses")


class Run(NamedTuple):
    """Where a run is.

    Attributes:
        learner: what it knows.
        replay: of one environment; observations are the level's states.
        priorities: of the steps in it; unused unless replay is prioritised.
        place: int32, the state.
        elapsed: int32, steps of the episode.
        episode: [5] float32, the episode's columns so far.
        during: [5] sums over the episodes that ended since they were last read.
        episodes: int32, how many those are.
        loss: sum over the updates since it was last read.
        losses: int32, how many those are.
        key: [2] uint32, of everything random from the first step on.
    """

    learner: Learner
    replay: Replay
    priorities: Priorities
    place: jax.Array
    elapsed: jax.Array
    episode: jax.Array
    during: jax.Array
    episodes: jax.Array
    loss: jax.Array
    losses: jax.Array
    key: jax.Array


def new_run(rule: Rule, level: Level, key: jax.Array) -> Run:
    """A run before its first step; `key` is [2] uint32."""
    # Steps fold their number into a key of their own: `fold_in(key, 0)` is the first of `split(key)`.
    first, second, third = jax.random.split(jax.random.wrap_key_data(key), 3)
    return Run(
        learner=begin(rule, first),
        replay=empty(1, rule.settings.buffer_size),
        priorities=no_priorities(rule.settings.buffer_size if rule.settings.prioritised else 1),
        place=_start(level, jax.random.uniform(second)),
        elapsed=jnp.zeros((), jnp.int32),
        episode=jnp.zeros(5),
        during=jnp.zeros(5),
        episodes=jnp.zeros((), jnp.int32),
        loss=jnp.zeros(()),
        losses=jnp.zeros((), jnp.int32),
        key=jax.random.key_data(third),
    )


def _advance(
    rule: Rule, level: Level, unit: jax.Array, run: Run, weight: jax.Array, step: jax.Array, until: jax.Array
) -> tuple[Run, jax.Array]:
    """Goes on from a step to another, a multiple of `update_every` later: the run, and [X, A] its action values.

    `unit` is [X, A, K] what every transition is charged at weight 1; what a run learns to charge itself is not.
    """
    settings = rule.settings

    def iteration(i: jax.Array, run: Run) -> Run:
        now = step + i * settings.update_every
        keys = jax.random.split(jax.random.fold_in(jax.random.wrap_key_data(run.key), now))
        draws = jax.random.uniform(keys[0], (settings.update_every * DRAWS + 2 * settings.batch_size,))
        steps, rest = jnp.split(draws, [settings.update_every * DRAWS])
        for j, three in enumerate(steps.reshape(settings.update_every, DRAWS)):
            run = _step(rule, level, unit, run, weight, now + j, three)
        after = now + settings.update_every
        learned: Run = jax.lax.cond(
            after > settings.learning_starts,
            lambda run: _learn(rule, level, run, weight, after, rest.reshape(2, -1), keys[1]),
            lambda run: run,
            run,
        )
        return learned

    run = jax.lax.fori_loop(0, (until - step) // settings.update_every, iteration, run)
    return run, outputs_of(run.learner.network, level.observation)


advance = partial(jax.jit, static_argnums=0, compiler_options=ONE_CORE)(_advance)
"""One run on the CPU."""


@partial(jax.jit, static_argnums=0)
def advance_all(
    rule: Rule, level: Level, unit: jax.Array, runs: Run, weights: jax.Array, step: jax.Array, until: jax.Array
) -> tuple[Run, jax.Array]:
    """All runs as one program; `runs`, the weights and, if runs have their own, `unit` have a first axis [R]."""
    own = 0 if unit.ndim == level.next_state.ndim + 1 else None
    together = jax.vmap(partial(_advance, rule), in_axes=(None, own, 0, 0, None, None))
    return together(level, unit, runs, weights, step, until)


def forget_sums(run: Run) -> Run:
    """The run with all sums at 0."""
    return run._replace(
        during=jnp.zeros_like(run.during),
        episodes=jnp.zeros_like(run.episodes),
        loss=jnp.zeros_like(run.loss),
        losses=jnp.zeros_like(run.losses),
    )


def _start(level: Level, draw: jax.Array) -> jax.Array:
    first = jnp.searchsorted(level.cumulative_start, draw * level.cumulative_start[-1], side="right")
    return first.astype(jnp.int32)


def _step(
    rule: Rule, level: Level, unit: jax.Array, run: Run, weight: jax.Array, now: jax.Array, draws: jax.Array
) -> Run:
    """One step of the environment, remembered."""
    values = outputs_of(run.learner.network, level.observation[run.place])
    action = explore(rule.settings, values, now, draws[0])
    edges = level.cumulative[run.place, action]
    k = jnp.minimum((edges <= draws[1] * edges[-1]).sum(), len(edges) - 1)
    outcome = run.place, action, k
    following, columns = level.next_state[outcome], level.columns[outcome]
    paid = columns[0] - weight * unit[outcome] if rule.impact is None else columns[0]
    terminal, elapsed = level.terminal[following], run.elapsed + 1
    over = terminal | (elapsed >= level.time_limit)
    replay, index = add(
        run.replay,
        place=run.place,
        action=action,
        reward=paid,
        following=following,
        terminal=terminal,
        over=over,
        kept=jnp.ones(1, jnp.bool_),
    )
    completed = level.completed[following] * over
    episode = run.episode + jnp.concatenate([columns, jnp.stack([completed, unit[outcome]])])
    priorities = run.priorities
    if rule.settings.prioritised:
        priorities = revise(priorities, index, priorities.largest[None])
    return run._replace(
        replay=replay,
        priorities=priorities,
        place=jnp.where(over, _start(level, draws[2]), following),
        elapsed=jnp.where(over, 0, elapsed),
        episode=jnp.where(over, 0.0, episode),
        during=run.during + jnp.where(over, episode, 0.0),
        episodes=run.episodes + over,
    )


def _learn(
    rule: Rule, level: Level, run: Run, weight: jax.Array, now: jax.Array, draws: jax.Array, key: jax.Array
) -> Run:
    """One update from the replay."""
    drawn = draw_steps(rule.settings, run.replay, run.priorities, now, (draws[0], draws[1]))
    batch = batch_of(drawn.sample, drawn.importance, level.observation.__getitem__, level.identity.__getitem__)
    learner, error, loss = update(rule, run.learner, batch, weight, key)
    priorities = review(rule.settings, run.priorities, drawn.place, error)
    return run._replace(learner=learner, priorities=priorities, loss=run.loss + loss, losses=run.losses + 1)
