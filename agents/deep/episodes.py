"""The episodes of a training, as they end."""

from typing import Any

import numpy as np
import pandas as pd

from impactrl.agents.deep.hosts import Stepped

__all__ = ["Episodes"]

SUMMED = {"reward": "task_reward", "impact": "impact/deviation"}
COUNTS = ("step", "copy", "length")
LAST = ("performance", "side_effect", "completed")
"""What `info` says of the episode so far."""


class Episodes:
    """Sums over the episodes of N copies, and a row for each that ended."""

    def __init__(self, copies: int) -> None:
        self._returns = np.zeros(copies)
        self._lengths = np.zeros(copies, dtype=np.int64)
        self._sums = {column: np.zeros(copies) for column in SUMMED}
        self._rows: list[dict[str, Any]] = []

    def follow(self, step: int, stepped: Stepped) -> None:
        """Adds what came of a step; `step` says how many there were."""
        told, kept = stepped.told, stepped.kept
        self._returns += np.where(kept, stepped.reward, 0.0)
        self._lengths += kept
        summed = {column: name for column, name in SUMMED.items() if name in told}
        for column, name in summed.items():
            self._sums[column] += np.where(kept, told[name], 0.0)
        ended = kept & stepped.over
        for i in np.flatnonzero(ended).tolist():
            row = {"step": step, "copy": i, "return": self._returns[i], "length": int(self._lengths[i])}
            row |= {column: self._sums[column][i] for column in summed}
            self._rows.append(row | {name: told[name][i] for name in LAST if name in told})
        for sums in (self._returns, self._lengths, *self._sums.values()):
            sums[ended] = 0

    def table(self) -> pd.DataFrame:
        """All rows; see `DeepPolicy`."""
        known = {column for row in self._rows for column in row}
        order = ["step", "copy", "return", "length", *(c for c in ("reward", *LAST, "impact") if c in known)]
        types = {column: np.int64 if column in COUNTS else np.float64 for column in order}  # also of no rows
        return pd.DataFrame(self._rows, columns=order).astype(types)
