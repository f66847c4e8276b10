"""Networks of action values, and of what else is learned: convolutions, layers, a head or two."""

import math
from dataclasses import dataclass
from functools import lru_cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

__all__ = ["Architecture", "Network", "copied", "outputs_of"]

KERNEL = 3
"""Rows and columns that a convolution sees at once."""


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


class Convolution(eqx.Module):
    """A 3x3 convolution that keeps the size of the board, as one product of matrices.

    The library's own takes fifteen times as long on boards of this size, and more for its gradients.

    Args:
        channels: of what it sees.
        width: of its outputs.
        key: of the initial weights.
    """

    layer: eqx.nn.Linear

    def __init__(self, channels: int, width: int, key: jax.Array) -> None:
        self.layer = eqx.nn.Linear(KERNEL**2 * channels, width, key=key)

    def __call__(self, board: jax.Array) -> jax.Array:
        """[rows, columns, width] of a board [rows, columns, channels]; beyond its edge there are zeros."""
        rows, columns, channels = board.shape
        cells = jnp.pad(board.reshape(rows * columns, channels), ((0, 1), (0, 0)))
        patches = cells[_neighbours(rows, columns)].reshape(rows * columns, -1)
        return jax.vmap(self.layer)(patches).reshape(rows, columns, -1)


@lru_cache(maxsize=64)
def _neighbours(rows: int, columns: int) -> NDArray[np.int64]:
    """[rows * columns, 9] number of each cell's neighbours, itself included; rows * columns beyond the edge."""
    numbers = np.full((rows + 2, columns + 2), rows * columns)
    numbers[1:-1, 1:-1] = np.arange(rows * columns).reshape(rows, columns)
    shifted = [numbers[i : i + rows, j : j + columns].ravel() for i in range(KERNEL) for j in range(KERNEL)]
    return np.stack(shifted, axis=1)


class Network(eqx.Module):
    """Convolutions, then layers, all with rectifiers, then the outputs.

    Without hidden layers it is linear and has no bias, so that on one-hot observations it is a table. Initial weights
    and biases are uniform in +-1/sqrt(inputs).

    Args:
        architecture: what it looks like.
        key: of the initial weights.
    """

    convolutions: tuple[Convolution, ...]
    layers: tuple[eqx.nn.Linear, ...]
    head: eqx.nn.Linear
    value: eqx.nn.Linear | None

    def __init__(self, architecture: Architecture, key: jax.Array) -> None:
        shape = architecture.observation
        keys = iter(jax.random.split(key, len(architecture.channels) + len(architecture.hidden) + 2))
        convolutions, layers = [], []
        channels = shape[0] if architecture.channels else 0
        for width in architecture.channels:
            convolutions.append(Convolution(channels, width, next(keys)))
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
        x = jnp.moveaxis(observation, 0, -1) if self.convolutions else observation
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
