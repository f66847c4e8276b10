"""Learned attainable utility: one head of action values for each auxiliary reward, and the charge read from them.

Turner et al. (2020), arXiv 1902.09725, with networks in the place of tables: the change in how well other goals could
be pursued, `Q_u(s, a)` against `Q_u(s, no-op)`, every `Q_u` learned by its own temporal differences.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from impactrl.agents.auxiliary import (
    ABSOLUTE,
    ADVERSARIAL,
    AVERAGE,
    AVERAGE_OTHER,
    DECREASE,
    PER_VALUE,
    RANDOM,
    STEPWISE,
    LearnedPenalty,
)
from impactrl.agents.deep.batch import Batch
from impactrl.agents.deep.networks import Architecture, Network, copied, outputs_of
from impactrl.agents.deep.update import improved, moved, optimiser
from impactrl.agents.dqn import DQN

__all__ = ["AttainableUtility", "Utilities", "charges"]

ENCODING_SHARE = 10
"""The encoder is trained in the first of so many equal parts of the updates, and fixed then."""


class Utilities(NamedTuple):
    """What arriving somewhere pays, by U auxiliary rewards.

    Attributes:
        key: [2] uint32; of rewards drawn for each state.
        linear: [U, inputs] of rewards linear in the observation.
        encoder: of rewards that are a code.
        decoder: that it is trained with.
        optimiser: state of both.
    """

    key: jax.Array
    linear: jax.Array | tuple[()] = ()
    encoder: Network | tuple[()] = ()
    decoder: Network | tuple[()] = ()
    optimiser: optax.OptState | tuple[()] = ()


class State(NamedTuple):
    """What is known.

    Attributes:
        network: of U * A action values.
        target: that next values come from.
        optimiser: its state.
        updates: int32.
        utilities: what the rewards are.
    """

    network: Network
    target: Network
    optimiser: optax.OptState
    updates: jax.Array
    utilities: Utilities


@dataclass(frozen=True)
class AttainableUtility:
    """Attainable utility preservation, learned.

    Attributes:
        settings: of the agent.
        architecture: of the network of auxiliary values; U * A outputs.
        penalty: what is charged for a difference.
    """

    settings: DQN
    architecture: Architecture
    penalty: LearnedPenalty

    def begin(self, key: jax.Array) -> State:
        """Rewards drawn, values unknown."""
        first, second = jax.random.split(key)
        network = Network(self.architecture, first)
        return State(
            network=network,
            target=copied(network),
            optimiser=optimiser(self.settings).init(network),
            updates=jnp.zeros((), jnp.int32),
            utilities=self._drawn(second),
        )

    def _drawn(self, key: jax.Array) -> Utilities:
        kind, count = self.settings.auxiliary_reward, self.penalty.rewards
        data = jax.random.key_data(key)
        inputs = self._inputs
        if kind == "linear":
            return Utilities(key=data, linear=jax.random.uniform(key, (count, inputs)) / inputs)
        if kind == "encoder":
            first, second = jax.random.split(key)
            hidden = self.settings.hidden[:1]
            encoder = Network(Architecture(observation=(inputs,), outputs=count, hidden=hidden), first)
            decoder = Network(Architecture(observation=(count,), outputs=inputs, hidden=hidden), second)
            state = optimiser(self.settings).init((encoder, decoder))
            return Utilities(key=data, encoder=encoder, decoder=decoder, optimiser=state)
        return Utilities(key=data)

    @property
    def _inputs(self) -> int:
        total = 1
        for length in self.architecture.observation:
            total *= length
        return total

    @property
    def _encoding(self) -> int:
        """Updates before the encoder is fixed."""
        updates = (self.settings.steps - self.settings.learning_starts) // self.settings.update_every
        return max(1, updates // ENCODING_SHARE) if self.settings.auxiliary_reward == "encoder" else 0

    def utilities(self, state: State, observation: jax.Array, identity: jax.Array) -> jax.Array:
        """[M, U] what arriving in each of [M, *shape] pays, between 0 and 1."""
        drawn = state.utilities
        if self.penalty.indicators:
            return jax.nn.one_hot(identity, self.penalty.rewards)
        if self.settings.auxiliary_reward == "states":
            key = jax.random.wrap_key_data(drawn.key)
            return jax.vmap(lambda i: jax.random.uniform(jax.random.fold_in(key, i), (self.penalty.rewards,)))(identity)
        flat = observation.reshape(len(observation), -1)
        if self.settings.auxiliary_reward == "linear":
            assert not isinstance(drawn.linear, tuple)
            return flat @ drawn.linear.T
        assert isinstance(drawn.encoder, Network)
        return jax.nn.sigmoid(outputs_of(drawn.encoder, flat))

    def values(self, network: Network, observation: jax.Array) -> jax.Array:
        """[M, A, U] of observations [M, *shape]."""
        outputs = outputs_of(network, observation)
        return outputs.reshape(len(observation), -1, self.penalty.rewards)

    def improve(self, state: State, batch: Batch, key: jax.Array) -> tuple[State, jax.Array]:
        """One step of Q-learning for all rewards, each with its own best next action; first the encoder, if any."""
        del key
        if not self._encoding:
            return self._learn(state, batch)
        learned: tuple[State, jax.Array] = jax.lax.cond(
            state.updates < self._encoding,
            lambda state: self._encode(state, batch),
            lambda state: self._learn(state, batch),
            state,
        )
        return learned

    def _learn(self, state: State, batch: Batch) -> tuple[State, jax.Array]:
        following, rows = batch.following[:, 0], jnp.arange(len(batch.arrival))
        best = self.values(state.target, following).max(axis=1)
        ahead = jnp.where(batch.terminal[:, 0, None], 0.0, best)
        wanted = self.utilities(state, following, batch.arrival) + self.penalty.discount * ahead
        if self.penalty.clip:
            wanted = wanted.clip(0.0, 1.0)

        def loss(network: Network) -> jax.Array:
            error = self.values(network, batch.observation[:, 0])[rows, batch.action[:, 0]] - wanted
            each = optax.huber_loss(error) if self.settings.loss == "huber" else error**2 / 2
            return (batch.importance[:, None] * each).sum(axis=1).mean()

        mean, gradient = jax.value_and_grad(loss)(state.network)
        network, following_state = improved(self.settings, state.network, gradient, state.optimiser)
        updates = state.updates + 1
        learned = state._replace(
            network=network,
            target=moved(self.settings, state.target, network, updates),
            optimiser=following_state,
            updates=updates,
        )
        return learned, mean

    def _encode(self, state: State, batch: Batch) -> tuple[State, jax.Array]:
        """One step towards a code from which the observations can be told (mean squared error)."""
        seen, drawn = batch.following[:, 0].reshape(len(batch.arrival), -1), state.utilities

        def loss(networks: tuple[Network, Network]) -> jax.Array:
            encoder, decoder = networks
            shown = outputs_of(decoder, jax.nn.sigmoid(outputs_of(encoder, seen)))
            return ((shown - seen) ** 2).mean()

        assert isinstance(drawn.encoder, Network)
        assert isinstance(drawn.decoder, Network)
        networks = drawn.encoder, drawn.decoder
        mean, gradient = jax.value_and_grad(loss)(networks)
        change, following = optimiser(self.settings).update(gradient, drawn.optimiser, networks)
        encoder, decoder = optax.apply_updates(networks, change)
        coded = drawn._replace(encoder=encoder, decoder=decoder, optimiser=following)
        return state._replace(utilities=coded, updates=state.updates + 1), mean

    def charge(self, state: State, observation: jax.Array, action: jax.Array, following: jax.Array) -> jax.Array:
        """[M] charges by the values as they stand; nothing while the encoder is trained."""
        del following
        known = charges(self.penalty, self.values(state.network, observation), action)
        return jnp.where(state.updates >= self._encoding, known, 0.0)


def charges(penalty: LearnedPenalty, values: jax.Array, action: jax.Array) -> jax.Array:
    """[M] charges at weight 1 of actions [M], from auxiliary values [M, A, U].

    The baseline "random" is charged in expectation over the other actions.
    """
    count = values.shape[1]
    if count == 1:
        return jnp.zeros(len(action))
    taken = values[jnp.arange(len(action)), action]
    if penalty.baseline == STEPWISE:
        return _deviation(penalty, values[:, penalty.noop], taken)
    if penalty.baseline == RANDOM:
        each = jax.vmap(lambda other: _deviation(penalty, values[:, other], taken))(jnp.arange(count))
        same = jnp.arange(count)[:, None] == action
        return jnp.where(same, 0.0, each).sum(axis=0) / (count - 1)
    if penalty.baseline == AVERAGE_OTHER:
        return _deviation(penalty, (values.sum(axis=1) - taken) / (count - 1), taken)
    mean = values.mean(axis=1)
    if penalty.baseline == AVERAGE:
        return _deviation(penalty, mean, taken)
    assert penalty.baseline == ADVERSARIAL
    return _deviation(penalty, (1 - penalty.epsilon) * values.max(axis=1) + penalty.epsilon * mean, taken)


def _deviation(penalty: LearnedPenalty, baseline: jax.Array, taken: jax.Array) -> jax.Array:
    """[M] the summarised and scaled difference of [M, U] values."""
    difference = baseline - taken
    if penalty.summary == ABSOLUTE:
        difference = jnp.abs(difference)
    else:
        difference = jax.nn.relu(difference if penalty.summary == DECREASE else -difference)
    unit = jnp.abs(baseline)
    if penalty.scale == PER_VALUE:
        return (difference / jnp.where(unit == 0, 1.0, unit)).mean(axis=1)
    total = unit.sum(axis=1)
    return difference.sum(axis=1) / jnp.where(total == 0, 1.0, total)
