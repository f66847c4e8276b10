"""What a host remembers: observations in a buffer, and the rings of steps that refer to its slots."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from impactrl.agents.deep.hosts import Stepped
from impactrl.agents.deep.view import View

__all__ = ["Memory"]


class Memory:
    """The observations that N rings of C steps refer to.

    Each copy of the environment has 2 C + 1 slots: C steps arrive somewhere and C episodes may begin, so that nothing
    is overwritten that a remembered step, or the next one, refers to.

    Args:
        view: of the observations.
        capacity: C.
        observations: [N, ...] the first.
    """

    def __init__(self, view: View, capacity: int, observations: Any) -> None:
        first = view.stored(observations)
        self._view, self._slots = view, 2 * capacity + 1
        self._shown = np.zeros((len(first) * self._slots, *view.shape), dtype=view.dtype)
        self._identity = np.zeros(len(self._shown), dtype=np.int32)
        self._base = np.arange(len(first)) * self._slots
        self._used = np.zeros(len(first), dtype=np.int64)
        self.here = self._keep(first, np.ones(len(first), dtype=np.bool_))

    def _keep(self, stored: NDArray[Any], which: NDArray[np.bool_]) -> NDArray[np.int64]:
        """[N] the slots of the observations of some copies, [N, *shape], once they are in the buffer."""
        slot = self._base + self._used % self._slots
        self._shown[slot[which]] = stored[which]
        self._identity[slot[which]] = self._view.identities(stored[which])
        self._used += which
        return slot

    def remember(self, stepped: Stepped) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """[N] the slots before and after a step; where nothing was kept, they mean nothing."""
        before = self.here
        after = self._keep(self._view.stored(stepped.arrived), stepped.kept)
        self.here = np.where(stepped.kept, after, before)
        if stepped.begun.any():
            first = self._keep(self._view.stored(stepped.observation), stepped.begun)
            self.here = np.where(stepped.begun, first, self.here)
        return before, after

    def observe(self, slots: Any) -> NDArray[Any]:
        """[..., *shape] what was stored in slots [...]."""
        shown: NDArray[Any] = self._shown[np.asarray(slots)]
        return shown

    def identify(self, slots: Any) -> NDArray[np.int32]:
        """[...] what tells the observations in slots [...] apart."""
        identity: NDArray[np.int32] = self._identity[np.asarray(slots)]
        return identity

    def now(self) -> NDArray[Any]:
        """[N, *shape] where the copies are."""
        return self._shown[self.here]
