"""Learned reversibility: which of two states comes first, and so which steps cannot be undone.

Grinsztajn et al. (2021), arXiv 2106.04480: a classifier is trained on pairs of states from the same episode, shown in
either order. Where a step leads from x to y and y never comes before x, it learns to be sure of the order; where both
orders occur, it cannot be. A step is charged if its order is surer than a threshold (their equation 5).
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from impactrl.agents.deep.batch import Batch
from impactrl.agents.deep.networks import Architecture, Network, outputs_of
from impactrl.agents.deep.update import improved, optimiser
from impactrl.agents.dqn import DQN

__all__ = ["Precedence"]


class State(NamedTuple):
    """What is known.

    Attributes:
        network: of two observations, one after the other: the logit of the first coming first.
        optimiser: its state.
    """

    network: Network
    optimiser: optax.OptState


@dataclass(frozen=True)
class Precedence:
    """Step reversibility, learned.

    Attributes:
        settings: of the agent.
        architecture: of a network of the observation; its outputs do not matter.
    """

    settings: DQN
    architecture: Architecture

    def begin(self, key: jax.Array) -> State:
        """Nothing known."""
        channels, *board = self.architecture.observation
        network = Network(replace(self.architecture, observation=(2 * channels, *board), outputs=1), key)
        return State(network=network, optimiser=optimiser(self.settings).init(network))

    def improve(self, state: State, batch: Batch, key: jax.Array) -> tuple[State, jax.Array]:
        """One step of logistic regression on pairs of an episode, each in an order that a coin decides."""
        turned = jax.random.bernoulli(key, shape=(len(batch.arrival),))
        earlier, later = batch.observation[:, 0], batch.later
        flip = turned.reshape(-1, *(1,) * (earlier.ndim - 1))
        first, second = jnp.where(flip, later, earlier), jnp.where(flip, earlier, later)

        def loss(network: Network) -> jax.Array:
            each = optax.sigmoid_binary_cross_entropy(_logit(network, first, second), 1.0 - turned)
            mean: jax.Array = (batch.importance * each).mean()
            return mean

        mean, gradient = jax.value_and_grad(loss)(state.network)
        network, following = improved(self.settings, state.network, gradient, state.optimiser)
        return State(network=network, optimiser=following), mean

    def charge(self, state: State, observation: jax.Array, action: jax.Array, following: jax.Array) -> jax.Array:
        """[M] 1 where a step is surely one way, else 0."""
        del action
        sure = jax.nn.sigmoid(_logit(state.network, observation, following))
        charged: jax.Array = (sure > self.settings.threshold).astype(jnp.float32)
        return charged


def _logit(network: Network, first: jax.Array, second: jax.Array) -> jax.Array:
    """[M] of pairs of observations [M, *shape]."""
    logits: jax.Array = outputs_of(network, jnp.concatenate([first, second], axis=1))[:, 0]
    return logits
