"""How a network sees what an environment shows: one number for each value of a `Discrete`, the numbers of a `Box`."""

import math
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from impactrl.errors import ImpactError

__all__ = ["View", "view_of"]

BRIGHTEST = 255
"""Of uint8, which is scaled to [0, 1]."""
LARGEST = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class View:
    """How observations are stored, and how they are shown to a network.

    Attributes:
        shape: of an observation; () of a Discrete.
        dtype: that it is stored in.
        values: how many a Discrete has; 0: it is a Box.
        first: of these.
        flat: whether the network sees a row of numbers.
    """

    shape: tuple[int, ...]
    dtype: str
    values: int = 0
    first: int = 0
    flat: bool = True

    def __str__(self) -> str:
        if self.values:
            return f"Discrete({self.values}{f', start={self.first}' if self.first else ''})"
        return f"Box{self.shape} of {self.dtype}"

    @property
    def seen(self) -> tuple[int, ...]:
        """The shape of what the network sees."""
        if self.values:
            return (self.values,)
        return (math.prod(self.shape),) if self.flat else self.shape

    def stored(self, observations: Any) -> NDArray[Any]:
        """[N, *shape] of N observations.

        Raises:
            ImpactError: they are of another shape.
        """
        array = np.asarray(observations)
        if array.dtype.kind not in "biuf" or array.shape[1:] != self.shape:
            raise ImpactError(f"expected observations of {self}, got {array.dtype} of shape {array.shape[1:]}")
        return (array - self.first).astype(self.dtype) if self.values else array.astype(self.dtype, copy=False)

    def show(self, stored: jax.Array) -> jax.Array:
        """[..., *seen] float32 of stored observations [..., *shape]."""
        if self.values:
            return jax.nn.one_hot(stored, self.values)
        lead = stored.shape[: stored.ndim - len(self.shape)]
        shown = stored.astype(jnp.float32) / (BRIGHTEST if self.dtype == "uint8" else 1)
        return shown.reshape(*lead, *self.seen)

    def identities(self, stored: NDArray[Any]) -> NDArray[np.int32]:
        """[N] numbers from 0 on, equal for equal stored observations: their values, or a checksum of their bytes."""
        if self.values:
            return stored.astype(np.int32)
        return np.array([crc32(each.tobytes()) & LARGEST for each in stored], dtype=np.int32)


def view_of(space: "spaces.Space[Any]", network: str) -> View:
    """The view of an environment's observations, for a network "mlp" or "cnn".

    Raises:
        ImpactError: the network cannot see such observations.
    """
    if isinstance(space, spaces.Discrete) and network == "mlp":
        return View(shape=(), dtype="int32", values=int(space.n), first=int(space.start))
    if isinstance(space, spaces.Box) and (network == "mlp" or len(space.shape) == 3):
        return View(shape=space.shape, dtype=_stored_as(np.dtype(space.dtype)), flat=network == "mlp")
    advice = (
        "wrap the environment in gymnasium.wrappers.FlattenObservation"
        if network == "mlp"
        else "use network='mlp', or bring the picture to that shape with gymnasium.wrappers.TransformObservation"
    )
    wanted = "Box or Discrete" if network == "mlp" else "a Box of shape (channels, rows, columns)"
    raise ImpactError(f"a network {network!r} sees observations that are {wanted}, not {space}: {advice}")


def _stored_as(dtype: "np.dtype[Any]") -> str:
    """Bytes as they are; everything else in the precision that it is seen in."""
    return "uint8" if dtype == np.uint8 else "float32"
