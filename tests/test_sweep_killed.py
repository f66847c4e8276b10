"""A sweep that is killed again and again comes to the table of one that is left alone."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from impactrl.runs.store import Store

KILLS = 20
ROWS = "SELECT run, id, seconds, history FROM runs JOIN details USING (id)"
SCRIPT = """
import sys

import impactrl
import impactrl.runs.sweep as sweeps

plan = impactrl.Sweep(
    environments=("Options", "Box"),
    penalties=(impactrl.Penalty(deviation="none"), impactrl.Penalty()),
    weights=(0.5, 5.0),
    seeds=400,
    agents=(impactrl.QLearning(episodes=200, evaluate_every=50),),
)
log = open("executed.log", "w")
execute = sweeps.execute
execute(plan.runs()[-1])  # loads the kernels

def noting(specification):
    log.write(specification.hash + "\\n")
    log.flush()
    return execute(specification)

sweeps.execute = noting
print("ready", flush=True)
impactrl.sweep(plan, store="results.db", jobs=2, progress=False).to_pickle("table.pkl")
"""


class Row(NamedTuple):
    """What shows that a stored run is the one that was stored at first."""

    rowid: int
    seconds: float
    history: bytes


def start(folder: Path) -> subprocess.Popen[str]:
    """The sweep in a process group of its own, about to begin."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], cwd=folder, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait(timeout=60) == -signal.SIGKILL
    assert process.stdout is not None
    process.stdout.close()


def finish(folder: Path) -> float:
    """Runs the sweep to its end; seconds that it took."""
    process = start(folder)
    begin = time.monotonic()
    assert process.communicate(timeout=300) == ("", None)
    assert process.returncode == 0
    return time.monotonic() - begin


def stored(folder: Path) -> dict[str, Row]:
    """The rows of a store, which must be whole; read from a copy, so that the next sweep finds what the kill left."""
    copy = folder.parent / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("*-shm"))
    with closing(sqlite3.connect(copy / "results.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
            return {}
        return {run: Row(*rest) for run, *rest in connection.execute(ROWS)}


def executed(folder: Path) -> list[str]:
    return (folder / "executed.log").read_text().split("\n")[:-1]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
def test_a_sweep_killed_at_random_moments_ends_as_one_left_alone(tmp_path: Path) -> None:
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    alone.mkdir()
    killed.mkdir()
    work = finish(alone)
    undisturbed: pd.DataFrame = pd.read_pickle(alone / "table.pkl")
    assert len(undisturbed) == len(set(executed(alone))) == 2400

    moments = np.random.default_rng(20).random(KILLS)
    before: dict[str, Row] = {}
    progress = []
    for moment in moments:
        process = start(killed)
        time.sleep(moment * (0.1 + work / 5 * (1 - len(before) / len(undisturbed))))  # never enough for all
        kill(process)
        after = stored(killed) if (killed / "results.db").exists() else {}
        assert before.items() <= after.items()
        assert not set(executed(killed)) & set(before)
        assert set(after) <= set(executed(killed)) | set(before)
        progress.append(len(after) - len(before))
        before = after
    assert sum(count > 0 for count in progress) > KILLS / 4  # or the moments were no test
    assert len(before) < len(undisturbed)

    finish(killed)
    last = executed(killed)
    assert len(last) == len(set(last)) == len(undisturbed) - len(before)
    assert not set(last) & set(before)
    assert before.items() <= stored(killed).items()
    pd.testing.assert_frame_equal(pd.read_pickle(killed / "table.pkl"), undisturbed, check_exact=True)
    order = undisturbed["run"].tolist()
    with Store(alone / "results.db") as one, Store(killed / "results.db") as other:
        pd.testing.assert_frame_equal(other.curves(order), one.curves(order), check_exact=True)
