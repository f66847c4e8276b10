"""The numbers of every evaluation as a CSV file."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from impactrl.agents.deep.files import whole_file
from impactrl.agents.dqn import DEEP_DIAGNOSTICS, DeepTraining
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
    with whole_file(path, "the log") as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        rows = csv.writer(text)
        rows.writerow(header)
        for run, weight in enumerate(weights):
            for e in np.flatnonzero(training.evaluations <= training.steps[run]):
                numbers = [training.loss[run, e], *training.history[run, e], *training.during[run, e]]
                numbers += [] if diagnostics is None else list(diagnostics[run, e])
                rows.writerow([run, weight, training.evaluations[e], *numbers])
        text.flush()
        text.detach()
