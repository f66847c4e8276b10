"""Networks of action values, and of what else is learned: convolutions, layers, a head or two."""

import math
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp

__all__ = ["Architecture", "Network", "copied", "outputs_of"]

KERNEL = 3
"""Rows and columns of a convolution."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What a network looks like.

    Attributes:
        observation: shape of what it sees: [numbers], or [channels, rows, columns] where there are convolutions.
        outputs: how many numbers it gives.
        hidden: width of each layer.
        channels: of each 3x3 convolution before them.
        dueling: whether the outputs are a value and advantages.
    """

    observation: tuple[int, ...]
    outputs: int
    hidden: tuple[int, ...]
    channels: tuple[int, ...] = ()
    dueling: bool = False

    def __str__(self) -> str:
        convolutions = f", convolutions {self.channels}" if self.channels else ""
        return (
            f"observation {self.observation}{convolutions}, hidden {self.hidden}, outputs {self.outputs}"
            f"{', dueling' if self.dueling else ''}"
        )


class Network(eqx.Module):
    """Convolutions, then layers, all with rectifiers, then the outputs.

    Without hidden layers it is linear and has no bias, so that on one-hot observations it is a table. Initial weights
    and biases are uniform in +-1/sqrt(inputs).

    Args:
        architecture: what it looks like.
        key: of the initial weights.
    """

    convolutions: tuple[eqx.nn.Conv2d, ...]
    layers: tuple[eqx.nn.Linear, ...]
    head: eqx.nn.Linear
    value: eqx.nn.Linear | None

    def __init__(self, architecture: Architecture, key: jax.Array) -> None:
        shape = architecture.observation
        keys = iter(jax.random.split(key, len(architecture.channels) + len(architecture.hidden) + 2))
        convolutions, layers = [], []
        channels = shape[0] if architecture.channels else 0
        for width in architecture.channels:
            convolutions.append(eqx.nn.Conv2d(channels, width, KERNEL, padding="SAME", key=next(keys)))
            channels = width
        inputs = channels * math.prod(shape[1:]) if architecture.channels else shape[0]
        for width in architecture.hidden:
            layers.append(eqx.nn.Linear(inputs, width, key=next(keys)))
            inputs = width
        self.convolutions, self.layers = tuple(convolutions), tuple(layers)
        bias = bool(architecture.hidden)
        self.head = eqx.nn.Linear(inputs, architecture.outputs, use_bias=bias, key=next(keys))
        self.value = eqx.nn.Linear(inputs, 1, key=next(keys)) if architecture.dueling else None

    def __call__(self, observation: jax.Array) -> jax.Array:
        """[outputs] of one observation."""
        x = observation
        for convolution in self.convolutions:
            x = jax.nn.relu(convolution(x))
        x = x.ravel()
        for layer in self.layers:
            x = jax.nn.relu(layer(x))
        outputs: jax.Array = self.head(x)
        if self.value is None:
            return outputs
        return self.value(x) + outputs - outputs.mean()


def outputs_of(network: Network, observations: jax.Array) -> jax.Array:
    """[..., outputs] of observations [..., *shape of one].

    The leading axes are those that the network's observation does not have.
    """
    lead = observations.ndim - (3 if network.convolutions else 1)
    flat = observations.reshape(-1, *observations.shape[lead:])
    return jax.vmap(network)(flat).reshape(*observations.shape[:lead], -1)


def copied(network: Network) -> Network:
    """The same network in arrays of its own."""
    same: Network = jax.tree.map(jnp.copy, network)
    return same
