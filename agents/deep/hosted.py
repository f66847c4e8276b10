"""Deep Q-agents on any Gymnasium environment: the loop on the host around the same update as on compiled levels."""

from collections.abc import Callable
from dataclasses import fields
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from impactrl.agents.deep.batch import Batch, batch_of
from impactrl.agents.deep.driving import ONE_CORE, Drawn, draw_steps, explore, review
from impactrl.agents.deep.episodes import Episodes
from impactrl.agents.deep.hosts import Host, Stepped, host_of
from impactrl.agents.deep.memory import Memory
from impactrl.agents.deep.networks import outputs_of
from impactrl.agents.deep.replay import Priorities, Replay, add, empty, no_priorities, revise
from impactrl.agents.deep.rules import rule_of
from impactrl.agents.deep.update import Learner, Rule, begin, update
from impactrl.agents.deep.view import View, view_of
from impactrl.agents.deep_policy import DeepPolicy
from impactrl.agents.dqn import DQN
from impactrl.errors import ImpactError
from impactrl.measures.families import STATES
from impactrl.measures.penalty import Penalty
from impactrl.progress import progress_bar

__all__ = ["Agent", "train_hosted"]

SHOWN = ("observation", "following", "before", "later")
"""The parts of a batch that are observations."""
NOTCHES = 100
"""Of the progress bar."""


class Programs(NamedTuple):
    """What is compiled, of the things that an agent does.

    Attributes:
        begin: from a key to one that has learned nothing.
        act: from the network, [N, *shape] observations, how many steps there were and [N] random numbers to actions.
        remember: from the rings, the priorities and a step to both, after it.
        draw: what to learn from.
        learn: an update, and the priorities after it.
    """

    begin: Callable[[jax.Array], Learner]
    act: Callable[..., jax.Array]
    remember: Callable[..., tuple[Replay, Priorities]]
    draw: Callable[..., Drawn]
    learn: Callable[..., tuple[Learner, Priorities, jax.Array]]


class Agent:
    """What an agent has learned, what it remembers, and where its copies of the environment are."""

    def __init__(self, rule: Rule, view: View, host: Host, seed: int) -> None:
        settings, copies = rule.settings, host.num_envs
        ours, theirs = np.random.SeedSequence(seed).spawn(2)
        capacity = -(-settings.buffer_size // copies)
        self.rule, self.host = rule, host
        self.weight = np.float32(0.0)
        self.memory = Memory(view, capacity, host.reset(seed))
        self._programs = _programs(rule, view)
        first, self._key = jax.random.split(jax.random.wrap_key_data(jnp.asarray(ours.generate_state(2, np.uint32))))
        self.learner = self._programs.begin(first)
        # Arrays of their own, since every step gives them away.
        self.replay: Replay = jax.tree.map(jnp.copy, empty(copies, capacity))
        self._priorities = no_priorities(copies * capacity if settings.prioritised else 1)
        self.rng = np.random.default_rng(theirs)

    def step(self, taken: int, first_action: int) -> Stepped:
        """One step of every copy, remembered; `taken` says how many steps there were."""
        draws = self.rng.random(self.host.num_envs, dtype=np.float32)
        action = np.asarray(self._programs.act(self.learner.network, self.memory.now(), taken, draws))
        stepped = self.host.step(action.astype(np.int64) + first_action)
        if not np.isfinite(stepped.reward[stepped.kept]).all():
            raise ImpactError(f"the environment paid {stepped.reward[stepped.kept].tolist()} after step {taken}")
        before, after = self.memory.remember(stepped)
        self.replay, self._priorities = self._programs.remember(
            self.replay,
            self._priorities,
            place=before.astype(np.int32),
            action=action,
            reward=stepped.reward.astype(np.float32),
            following=after.astype(np.int32),
            terminal=stepped.terminal,
            over=stepped.over,
            kept=stepped.kept,
        )
        return stepped

    def learn(self, taken: int) -> None:
        """One update from what is remembered."""
        draws = self.rng.random((2, self.rule.settings.batch_size), dtype=np.float32)
        drawn = self._programs.draw(self.replay, self._priorities, taken, draws)
        sample, importance = jax.tree.map(np.asarray, (drawn.sample, drawn.importance))
        batch = batch_of(sample, importance, self.memory.observe, self.memory.identify)
        self.learner, self._priorities, loss = self._programs.learn(
            self.learner, self._priorities, drawn.place, batch, self.weight, self._key
        )
        if not np.isfinite(float(loss)):
            raise _diverged(taken)


@lru_cache(maxsize=8)
def _programs(rule: Rule, view: View) -> Programs:
    """Compiled once for all trainings alike."""
    settings = rule.settings

    def act(network: Any, stored: jax.Array, step: jax.Array, draws: jax.Array) -> jax.Array:
        return explore(settings, outputs_of(network, view.show(stored)), step, draws)

    def remember(replay: Replay, priorities: Priorities, **step: jax.Array) -> tuple[Replay, Priorities]:
        replay, index = add(replay, **step)
        if settings.prioritised:
            priorities = revise(priorities, index, jnp.full(len(index), priorities.largest))
        return replay, priorities

    def draw(replay: Replay, priorities: Priorities, step: jax.Array, draws: jax.Array) -> Drawn:
        return draw_steps(settings, replay, priorities, step, (draws[0], draws[1]))

    def learn(
        learner: Learner, priorities: Priorities, index: jax.Array, batch: Batch, weight: jax.Array, key: jax.Array
    ) -> tuple[Learner, Priorities, jax.Array]:
        shown = batch._replace(**{name: view.show(getattr(batch, name)) for name in SHOWN})
        draw_key = jax.random.fold_in(key, learner.updates)
        learner, error, loss = update(rule, learner, shown, weight, draw_key)
        return learner, review(settings, priorities, index, error), loss

    return Programs(
        begin=jax.jit(lambda key: begin(rule, key)),
        act=jax.jit(act, compiler_options=ONE_CORE),
        remember=jax.jit(remember, donate_argnums=(0, 1), compiler_options=ONE_CORE),
        draw=jax.jit(draw, compiler_options=ONE_CORE),
        learn=jax.jit(learn, donate_argnums=1, compiler_options=ONE_CORE),
    )


def train_hosted(
    env: Any, settings: DQN, *, seed: int, penalty: Penalty | None, noop: int | None, progress: bool | None
) -> DeepPolicy:
    """`train_dqn_on`, once JAX is known to be there."""
    _require_meant(settings, penalty)
    host = host_of(env)
    view = view_of(host.observation_space, settings.network)
    actions = _actions_of(host)
    rule = rule_of(
        settings,
        Penalty(deviation="none") if penalty is None else penalty,
        view.seen,
        actions=int(actions.n),
        noop=_noop_of(env, noop, actions),
        states=_states_of(view, penalty),
    )
    agent = Agent(rule, view, host, seed)
    agent.weight = np.float32(0.0 if penalty is None else penalty.weight)
    episodes = Episodes(host.num_envs)
    taken, every = 0, settings.update_every
    with progress_bar(progress) as bar:
        task, notch = bar.add_task("training", total=settings.steps), 0
        while taken < settings.steps:
            stepped = agent.step(taken, int(actions.start))
            before, taken = taken, taken + int(stepped.kept.sum())
            _require_charged_once(rule, stepped)
            episodes.follow(taken, stepped)
            for due in range((before // every + 1) * every, min(taken, settings.steps) + 1, every):
                if due > settings.learning_starts:
                    agent.learn(due)
            if taken * NOTCHES // settings.steps > notch:
                notch = taken * NOTCHES // settings.steps
                bar.update(task, completed=min(taken, settings.steps))
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(agent.learner.network)):
        raise _diverged(taken)
    return DeepPolicy(
        settings=settings,
        view=view,
        network=agent.learner.network,
        architecture=rule.architecture,
        first_action=int(actions.start),
        episodes=episodes.table(),
    )


def _diverged(step: int) -> ImpactError:
    return ImpactError(
        f"what was learned is not finite at step {step}: a smaller learning_rate or a gradient_clip may help, or the "
        "environment's observations or rewards are not"
    )


def _require_meant(settings: DQN, penalty: Penalty | None) -> None:
    """Raises for what means nothing here."""
    for entry in fields(DQN):
        value = getattr(settings, entry.name)
        if entry.name in ("observation", "memory") and value != entry.default:
            raise ImpactError(
                f"{entry.name}={value!r} means nothing on an environment of your own, which decides itself what it "
                "shows: leave it out"
            )
    if settings.impact == "exact" and penalty is not None:
        raise ImpactError(
            "with impact='exact' the environment's own reward counts: wrap it in ImpactPenalty instead of giving a "
            "penalty, or let one be learned with impact='learned'"
        )
    if settings.impact == "learned" and penalty is None:
        raise ImpactError("impact='learned' needs to be told what to learn: give a penalty")


def _require_charged_once(rule: Rule, stepped: Stepped) -> None:
    """Raises where the environment and the agent both charge."""
    if rule.impact is not None and np.nan_to_num(stepped.told.get("impact/penalty", np.zeros(1))).any():
        raise ImpactError(
            "the environment charges its impact already, and another charge would be learned: use impact='exact', or "
            "ImpactPenalty with weight=0"
        )


def _actions_of(host: Host) -> spaces.Discrete:
    if not isinstance(host.action_space, spaces.Discrete):
        raise ImpactError(f"a deep Q-agent chooses among Discrete actions, not {host.action_space}")
    return host.action_space


def _noop_of(env: Any, noop: int | None, actions: spaces.Discrete) -> int | None:
    """The place of the action that does nothing: the one that is given, or the level's own."""
    if noop is None:
        base = env.unwrapped
        world = getattr(getattr(base, "envs", [base])[0].unwrapped, "world", None)
        found: int | None = getattr(world, "noop", None)
        return found
    if not actions.contains(np.int64(noop)):
        raise ImpactError(f"noop={noop} is no action of {actions}")
    return noop - int(actions.start)


def _states_of(view: View, penalty: Penalty | None) -> int:
    """How many observations can be told apart, where that is asked."""
    if penalty is not None and penalty.utilities == STATES and not view.values:
        raise ImpactError(f"utilities='states' are rewards of states that can be listed: Discrete, not {view}")
    return view.values
