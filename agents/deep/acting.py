"""Action values of observations, for those who only want to act."""

from functools import partial
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from impactrl.agents.deep.driving import ONE_CORE
from impactrl.agents.deep.networks import Network, outputs_of
from impactrl.agents.deep.view import View

__all__ = ["action_values"]


def action_values(view: View, network: Network, stored: NDArray[Any]) -> NDArray[np.float64]:
    """[B, A] of stored observations [B, *shape]."""
    return np.asarray(_values(view, network, stored), dtype=np.float64)


@partial(jax.jit, static_argnums=0, compiler_options=ONE_CORE)
def _values(view: View, network: Network, stored: jax.Array) -> jax.Array:
    return outputs_of(network, view.show(stored))
