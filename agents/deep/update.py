"""The one update of a deep Q-agent, for compiled levels and for any environment."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

from impactrl.agents.deep.batch import Batch
from impactrl.agents.deep.networks import Architecture, Network, copied, outputs_of
from impactrl.agents.dqn import DQN

__all__ = [
    "LearnedImpact",
    "Learner",
    "Rule",
    "begin",
    "epsilon",
    "importance_exponent",
    "improved",
    "moved",
    "optimiser",
    "update",
]


class LearnedImpact(Protocol):
    """A penalty that is learned from the same steps as the task. Hashable, and without arrays of its own."""

    def begin(self, key: jax.Array) -> Any:
        """What it knows at first: arrays."""

    def improve(self, state: Any, batch: Batch, key: jax.Array) -> tuple[Any, jax.Array]:
        """What it knows after a batch, and the loss."""

    def charge(self, state: Any, observation: jax.Array, action: jax.Array, following: jax.Array) -> jax.Array:
        """[M] charges, at weight 1, of steps that do not end the episode: [M, *shape], [M], [M, *shape]."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """All that an update needs to know beside its arrays.

    Attributes:
        settings: of the agent.
        architecture: of the network of action values; its outputs are the actions.
        impact: that is learned; None: rewards come with their penalty.
        previous: of a learned impact: whether the step that ends an episode is charged for the one before it (terminal
            rule "previous"), or for itself.
        nonterminal_weight: of a learned impact, factor on steps that do not end the episode.
    """

    settings: DQN
    architecture: Architecture
    impact: LearnedImpact | None = None
    previous: bool = False
    nonterminal_weight: float = 1.0


class Learner(NamedTuple):
    """What an agent has learned.

    Attributes:
        network: of action values.
        target: the network that next values come from.
        optimiser: its state.
        updates: int32, how many there were.
        impact: what it knows of its impact; () where that is exact.
    """

    network: Network
    target: Network
    optimiser: Any
    updates: jax.Array
    impact: Any


def begin(rule: Rule, key: jax.Array) -> Learner:
    """An agent that has learned nothing."""
    ours, theirs = jax.random.split(key)
    network = Network(rule.architecture, ours)
    return Learner(
        network=network,
        target=copied(network),
        optimiser=optimiser(rule.settings).init(network),
        updates=jnp.zeros((), jnp.int32),
        impact=() if rule.impact is None else rule.impact.begin(theirs),
    )


def optimiser(settings: DQN) -> optax.GradientTransformation:
    """Of the network of action values, and of what is learned beside it."""
    updates = (settings.steps - settings.learning_starts) // settings.update_every
    rate = optax.linear_schedule(settings.learning_rate, settings.learning_rate_end, updates)
    steps = optax.adam(rate) if settings.optimiser == "adam" else optax.sgd(rate)
    clip = optax.clip_by_global_norm(settings.gradient_clip) if settings.gradient_clip else optax.identity()
    return optax.chain(clip, steps)


def update(
    rule: Rule, learner: Learner, batch: Batch, weight: jax.Array, key: jax.Array
) -> tuple[Learner, jax.Array, jax.Array]:
    """Learns from a batch: first the impact, if it is learned, then the charges are read from it, then the task.

    The target of n steps of reward is `sum_j discount^j r_j + discount^m Q(s', a')`, m the steps until the sample or
    the episode ends, 0 for Q where s' is terminal; a' is the target's best action or, in double Q-learning, that of the
    network.

    Args:
        rule: how.
        learner: what is known so far.
        batch: of B samples.
        weight: of the learned penalty.
        key: of what is random in learning the impact.

    Returns:
        What is known now, [B] errors of the predictions, and the mean loss.
    """
    settings = rule.settings
    impact, reward = learner.impact, batch.reward
    if rule.impact is not None:
        impact, _ = rule.impact.improve(impact, batch, key)
        reward = reward - weight * _charges(rule, impact, batch)
    steps = batch.alive.sum(axis=1)
    last = jnp.arange(len(steps)), steps - 1
    returns = (reward * batch.alive * settings.discount ** jnp.arange(reward.shape[1])).sum(axis=1)
    following = batch.following[last]
    theirs = outputs_of(learner.target, following)
    chosen = (outputs_of(learner.network, following) if settings.double else theirs).argmax(axis=1)
    ahead = jnp.where(batch.terminal[last], 0.0, theirs[jnp.arange(len(steps)), chosen])
    wanted = returns + settings.discount**steps * ahead

    def loss(network: Network) -> tuple[jax.Array, jax.Array]:
        values = outputs_of(network, batch.observation[:, 0])
        error = values[jnp.arange(len(steps)), batch.action[:, 0]] - wanted
        each = optax.huber_loss(error) if settings.loss == "huber" else error**2 / 2
        return (batch.importance * each).mean(), error

    (mean, error), gradient = jax.value_and_grad(loss, has_aux=True)(learner.network)
    network, state = improved(settings, learner.network, gradient, learner.optimiser)
    updates = learner.updates + 1
    learned = Learner(
        network=network,
        target=moved(settings, learner.target, network, updates),
        optimiser=state,
        updates=updates,
        impact=impact,
    )
    return learned, error, mean


def improved(settings: DQN, network: Network, gradient: Any, state: Any) -> tuple[Network, Any]:
    """A network after a step of the optimiser, and the optimiser's state."""
    change, state = optimiser(settings).update(gradient, state, network)
    return optax.apply_updates(network, change), state


def moved(settings: DQN, target: Network, network: Network, updates: jax.Array) -> Network:
    """The target network after so many updates: moved towards the network if it is time."""
    due, rate = updates % settings.target_every == 0, settings.target_rate

    def move(old: jax.Array, new: jax.Array) -> jax.Array:
        return jnp.where(due, new if rate == 1 else old + rate * (new - old), old)

    result: Network = jax.tree.map(move, target, network)
    return result


def epsilon(settings: DQN, step: jax.Array) -> jax.Array:
    """The share of random actions at a step."""
    done = jnp.minimum(step / (settings.exploration * settings.steps), 1.0)
    if settings.epsilon_schedule == "linear":
        return settings.epsilon_start + done * (settings.epsilon_end - settings.epsilon_start)
    return settings.epsilon_start * (settings.epsilon_end / settings.epsilon_start) ** done


def importance_exponent(settings: DQN, step: jax.Array) -> jax.Array:
    """Of the correction for prioritised replay at a step."""
    return settings.importance_exponent + step / settings.steps * (1.0 - settings.importance_exponent)


def _charges(rule: Rule, impact: Any, batch: Batch) -> jax.Array:
    """[B, n] what each step is charged, at weight 1."""
    assert rule.impact is not None
    observation, action, following = batch.observation, batch.action, batch.following
    charged = jnp.ones_like(batch.terminal)
    if rule.previous:
        before = jnp.concatenate([batch.before[:, None], observation[:, :-1]], axis=1)
        before_action = jnp.concatenate([batch.before_action[:, None], action[:, :-1]], axis=1)
        first = jnp.zeros_like(batch.alive).at[:, 0].set(~batch.preceded)
        over = batch.terminal.reshape(*batch.terminal.shape, *(1,) * (observation.ndim - 2))
        observation, following = jnp.where(over, before, observation), jnp.where(over, observation, following)
        action = jnp.where(batch.terminal, before_action, action)
        charged = ~(batch.terminal & first)
    flat = [array.reshape(-1, *array.shape[2:]) for array in (observation, action, following)]
    charges = rule.impact.charge(impact, *flat).reshape(action.shape)
    factor = jnp.where(batch.terminal, 1.0, rule.nonterminal_weight)
    return jax.lax.stop_gradient(charges * charged * factor)
