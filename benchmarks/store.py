"""Seconds that the commands take which read a store of 100 000 finished runs, in one run.

Five levels, eight penalties, 25 weights, a hundred seeds, twenty evaluations each; the results are made up.

python benchmarks/store.py [folder to keep the store in]
"""

import sys
import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from impactrl import Penalty, QLearning, Store, Sweep
from impactrl.cli import main
from impactrl.runs.execution import RunResult
from impactrl.runs.sweep import missing_runs

EVALUATIONS, REPEATS = 20, 3
PLAN = Sweep(
    environments=("Options", "Offset", "Damage", "Interference", "Box"),
    penalties=tuple(
        Penalty(deviation=deviation, baseline=baseline, rollout=rollout)
        for deviation in ("relative_reachability", "unreachability")
        for baseline in ("stepwise", "inaction", "start")
        for rollout in (False, True)
    )[:8],
    weights=tuple(np.geomspace(0.01, 100, 25)),
    seeds=100,
    agents=(QLearning(episodes=100 * EVALUATIONS),),
)


def fill(path):
    """Stores a made-up result for every run of the plan; seconds that took."""
    rng = np.random.default_rng(0)
    begin = time.perf_counter()
    with Store(path) as store:
        for run in missing_runs(PLAN.runs(), store, retry_failed=False):
            history = np.round(rng.random((EVALUATIONS, 5)), 2)
            evaluations = PLAN.agents[0].evaluations()
            store.add(run, RunResult(evaluations=evaluations, history=history, steps=100_000, seconds=0.01))
    return time.perf_counter() - begin


def seconds(action):
    """Least of several times, without what is printed."""
    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        with redirect_stdout(StringIO()):
            action()
        times.append(time.perf_counter() - begin)
    return min(times)


def measure(folder):
    """Measures and prints."""
    path = folder / "results.db"
    spent = fill(path)
    count = len(PLAN.runs())
    size = path.stat().st_size / 2**20
    print(f"{count} runs, {EVALUATIONS} evaluations each, {size:.0f} MiB; least of {REPEATS}")
    print(f"  {spent:6.1f} s  storing them one by one (what was not there)")

    def list_runs():
        with Store(path, read_only=True) as store:
            store.runs()

    def resume():
        with Store(path, read_only=True) as store:
            assert not missing_runs(PLAN.runs(), store, retry_failed=False)

    for name, action in {
        "listing: the table of runs": list_runs,
        "resuming: what of the plan is missing": resume,
        "summary: impactrl results": lambda: main(["results", str(folder)]),
        "best weights: impactrl results --best": lambda: main(["results", str(folder), "--best"]),
        "export: impactrl export": lambda: main(["export", str(folder), "--out", str(folder / "runs.csv")]),
        "figures: impactrl plot": lambda: main(["plot", str(folder)]),
    }.items():
        print(f"  {seconds(action):6.1f} s  {name}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(Path(sys.argv[1]))
    else:
        with TemporaryDirectory() as here:
            measure(Path(here))
