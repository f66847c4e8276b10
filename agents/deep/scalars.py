"""The numbers of every evaluation as a CSV file."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from impactrl.agents.dqn import DEEP_DIAGNOSTICS, DeepTraining
from impactrl.errors import ImpactError
from impactrl.measures.impact import COLUMNS

__all__ = ["write_scalars"]


def write_scalars(path: Path, training: DeepTraining, weights: Sequence[float]) -> None:
    """Writes a row for each run and evaluation that there was.

    Step, loss, the five columns of greedy and of training episodes, and how far a learned impact is from the exact one.

    Raises:
        ImpactError: the file cannot be written.
    """
    diagnostics = training.diagnostics
    header = ["run", "weight", "step", "loss", *COLUMNS, *(f"training_{column}" for column in COLUMNS)]
    header += [] if diagnostics is None else list(DEEP_DIAGNOSTICS)
    unfinished = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(header)
            for run, weight in enumerate(weights):
                for e in np.flatnonzero(training.evaluations <= training.steps[run]):
                    numbers = [training.loss[run, e], *training.history[run, e], *training.during[run, e]]
                    numbers += [] if diagnostics is None else list(diagnostics[run, e])
                    rows.writerow([run, weight, training.evaluations[e], *numbers])
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise ImpactError(f"cannot write {path}: {error.strerror}") from None
