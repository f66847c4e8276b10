"""Learned reachability: a goal-conditioned value, and relative reachability or future tasks read from it.

`Q(s, a; g)`, the discounted reachability of g once a was taken in s, as the sigmoid of a product of two embeddings, of
the origin and the goal (universal value functions, Schaul et al. 2015; so in Krakovna et al. 2020, arXiv 2010.07877,
section 4). Arriving at g is worth 1, and else `discount * max_a' Q(s', a'; g)`. With the stepwise baseline the value of
the baseline's state is `Q(s, no-op; g)`, so that no model of the world is needed.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from impactrl.agents.deep.batch import Batch
from impactrl.agents.deep.networks import Architecture, Network, copied, outputs_of
from impactrl.agents.deep.update import moved, optimiser
from impactrl.agents.dqn import DQN

__all__ = ["EMBEDDING", "STORED", "Reachability"]

EMBEDDING = 16
"""Length of the embeddings."""
DOUBT = 5.0
"""Taken off all logits, so that at first nothing seems reachable. From the middle it would take hundreds of backups, at
0.99 each, to learn that something is not."""
STORED = 512
"""How many different states are kept to be goals."""


class Networks(NamedTuple):
    """The two halves of the value: of origins, [A * EMBEDDING] outputs, and of goals, [EMBEDDING]."""

    origin: Network
    goal: Network


class State(NamedTuple):
    """What is known.

    Attributes:
        networks: both halves.
        targets: that next values come from.
        optimiser: state of both.
        updates: int32.
        goals: [STORED, *shape] observations of states that were arrived at.
        identity: [STORED] int32 what tells them apart; -1 where there is none yet.
    """

    networks: Networks
    targets: Networks
    optimiser: optax.OptState
    updates: jax.Array
    goals: jax.Array
    identity: jax.Array


@dataclass(frozen=True)
class Reachability:
    """Relative reachability or future tasks, learned.

    Attributes:
        settings: of the agent.
        architecture: of a network of the observation; its outputs are the actions.
        noop: index of the action that does nothing.
        discount: of reachability per step.
        summary: "decrease", "increase" or "absolute", of differences; "least": the bonus of future tasks, the smaller
            of both values; "own": the bonus without a baseline.
        factor: of the mean over goals.
        previous: whether terminal states are no states of the measure (terminal rule "previous").
    """

    settings: DQN
    architecture: Architecture
    noop: int
    discount: float
    summary: str
    factor: float
    previous: bool

    def begin(self, key: jax.Array) -> State:
        """Nothing known, no goals."""
        first, second = jax.random.split(key)
        shape = self.architecture
        networks = Networks(
            origin=Network(replace(shape, outputs=shape.outputs * EMBEDDING), first),
            goal=Network(replace(shape, outputs=EMBEDDING), second),
        )
        return State(
            networks=networks,
            targets=Networks(copied(networks.origin), copied(networks.goal)),
            optimiser=optimiser(self.settings).init(networks),
            updates=jnp.zeros((), jnp.int32),
            goals=jnp.zeros((STORED, *shape.observation)),
            identity=jnp.full(STORED, -1, jnp.int32),
        )

    def improve(self, state: State, batch: Batch, key: jax.Array) -> tuple[State, jax.Array]:
        """One step of Q-learning, in cross-entropy, for stored goals and the states arrived at, which are stored."""
        following, terminal = batch.following[:, 0], batch.terminal[:, 0]
        state = self._store(state, following, batch.arrival, terminal)
        rows = jnp.arange(len(batch.arrival))
        # Of stored goals, each as likely; where there are none yet, they are masked.
        chance = jnp.where(state.identity >= 0, 1.0, 0.0)
        chosen = jax.random.choice(key, STORED, (self.settings.goals,), p=chance / jnp.maximum(chance.sum(), 1.0))
        goals = jnp.concatenate([state.goals[chosen], following])
        identity = jnp.concatenate([state.identity[chosen], batch.arrival])
        shown = jnp.concatenate([state.identity[chosen] >= 0, ~(self.previous & terminal)])
        arrived = batch.arrival[:, None] == identity
        ahead = self._reach(state.targets, following, goals).max(axis=1)
        ahead = jnp.where(terminal[:, None], 0.0, self.discount * ahead)
        wanted = jnp.where(arrived, 1.0, ahead)

        def loss(networks: Networks) -> jax.Array:
            predicted = self._logits(networks, batch.observation[:, 0], goals)[rows, batch.action[:, 0]]
            each = optax.sigmoid_binary_cross_entropy(predicted, wanted)
            return (batch.importance * jnp.where(shown, each, 0.0).sum(axis=1)).mean() / jnp.maximum(shown.sum(), 1)

        mean, gradient = jax.value_and_grad(loss)(state.networks)
        change, following_state = optimiser(self.settings).update(gradient, state.optimiser, state.networks)
        networks: Networks = optax.apply_updates(state.networks, change)
        updates = state.updates + 1
        targets = Networks(
            *(moved(self.settings, *pair, updates) for pair in zip(state.targets, networks, strict=True))
        )
        learned = state._replace(networks=networks, targets=targets, optimiser=following_state, updates=updates)
        return learned, mean

    def charge(self, state: State, observation: jax.Array, action: jax.Array, following: jax.Array) -> jax.Array:
        """[M] charges by the values as they stand, in the mean over the stored goals."""
        del following
        reach = self._reach(state.networks, observation, state.goals)
        taken, baseline = reach[jnp.arange(len(action)), action], reach[:, self.noop]
        difference = baseline - taken
        each = {
            "decrease": jax.nn.relu(difference),
            "increase": jax.nn.relu(-difference),
            "absolute": jnp.abs(difference),
            "least": -jnp.minimum(baseline, taken),
            "own": -taken,
        }[self.summary]
        known = state.identity >= 0
        return self.factor * (each * known).sum(axis=1) / jnp.maximum(known.sum(), 1)

    def _reach(self, networks: Networks, observation: jax.Array, goals: jax.Array) -> jax.Array:
        """[M, A, G] reachability of goals [G, *shape] from each action in [M, *shape]."""
        return jax.nn.sigmoid(self._logits(networks, observation, goals))

    def _logits(self, networks: Networks, observation: jax.Array, goals: jax.Array) -> jax.Array:
        origins = outputs_of(networks.origin, observation).reshape(len(observation), -1, EMBEDDING)
        return origins @ outputs_of(networks.goal, goals).T - DOUBT

    def _store(self, state: State, observation: jax.Array, identity: jax.Array, terminal: jax.Array) -> State:
        """Keeps states to be goals: each has its slot, the last one to come stays."""
        slot = jnp.where(self.previous & terminal, STORED, identity % STORED)
        return state._replace(
            goals=state.goals.at[slot].set(observation, mode="drop"),
            identity=state.identity.at[slot].set(identity, mode="drop"),
        )
