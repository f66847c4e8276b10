"""Time of the exact frontier on the published levels, and whether a scan of weights with the planner agrees.

python benchmarks/frontier.py               # times, a minute
python benchmarks/frontier.py --scan 1000   # and the planner at so many weights everywhere, an hour
"""

import argparse
import time

import numpy as np

from impactrl import Penalty, Planner, compile_mdp
from impactrl.agents.frontier import trace
from impactrl.agents.planner import plan
from impactrl.errors import ImpactError

LEVELS = (
    *("Options", "Damage", "Correction", "Offset", "OffsetSushi", "Interference", "Vase", "Burning", "BurningOnFire"),
    *("Box", "ConveyorVase", "ConveyorSushi", "SushiGoal", "SushiGoal2"),
)
AU = {"deviation": "attainable_utility", "scale": "discount"}
AUP = {
    "deviation": "attainable_utility",
    "scale": "per-value",
    "discount": 0.996,
    "terminal": "absorbing",
    "utilities": 30,
}
MEASURES = {"RR": {}, "UR": {"deviation": "unreachability"}, "AU": AU, "AUP": AUP}
BASELINES = ("start", "inaction", "stepwise")
REPEATS = 7
COLUMNS = ("reward", "performance", "side_effect", "completed", "impact")


def disagreements(impact, settings, curve, weights):
    """Weights away from the critical ones at which the planner's value or columns are not those of the interval."""
    wrong = []
    for weight in weights:
        if len(curve.weights) and (np.abs(curve.weights / weight - 1) < 1e-6).any():
            continue
        best, row = plan(impact, settings, weight), curve.at(weight)
        value = row["discounted_reward"] - weight * row["discounted_impact"]
        size = 1 + abs(row["discounted_reward"]) + weight * abs(row["discounted_impact"])
        theirs = [getattr(best, f"expected_{name}") for name in COLUMNS]
        ours = row[list(COLUMNS)].to_numpy(dtype=float)
        if abs(best.value - value) > 1e-9 * size or not np.allclose(theirs, ours, rtol=1e-9, atol=1e-9):
            wrong.append(weight)
    return wrong


def main():
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scan", type=int, default=0, help="how many weights the planner solves for comparison")
    parser.add_argument("--discount", type=float, default=0.99, help="of the planner")
    options = parser.parse_args()
    settings, weights = Planner(discount=options.discount), np.geomspace(1e-4, 1e5, max(options.scan, 1))
    print(f"Frontier of a fitted penalty, discount {options.discount:g}: best of {REPEATS}")
    print(
        f"{'level':15s}{'penalty':15s}{'states':>8s}{'intervals':>11s}{'ms':>8s}{'scan: disagree':>16s}{'x time':>9s}"
    )
    slowest, wrong, scanned = 0.0, 0, 0
    for level in LEVELS:
        mdp = compile_mdp(level)
        for name, choices in MEASURES.items():
            for baseline in BASELINES:
                impact = Penalty(baseline=baseline, **choices).fit(mdp)
                line = f"{level:15s}{name + ' ' + baseline:15s}{impact.mdp.num_states:8d}"
                try:
                    trace(impact, settings)
                except ImpactError as error:
                    print(f"{line}  {error}")
                    continue
                seconds = []
                for _ in range(REPEATS):
                    begin = time.perf_counter()
                    curve = trace(impact, settings)
                    seconds.append(time.perf_counter() - begin)
                slowest = max(slowest, min(seconds))
                line += f"{len(curve.policies):11d}{1e3 * min(seconds):8.2f}"
                if options.scan:
                    begin = time.perf_counter()
                    differ = disagreements(impact, settings, curve, weights)
                    ratio = (time.perf_counter() - begin) / min(seconds)
                    wrong, scanned = wrong + len(differ), scanned + len(weights)
                    line += f"{len(differ):16d}{ratio:9.0f}"
                print(line, flush=True)
    print(f"slowest: {1e3 * slowest:.2f} ms" + (f"; {wrong} of {scanned} weights disagree" if scanned else ""))


if __name__ == "__main__":
    main()
