"""Time of the exact frontier on the published levels, and whether a scan of weights with the planner agrees.

python benchmarks/frontier.py               # times, a minute
python benchmarks/frontier.py --scan 1000   # and the planner at so many weights everywhere, an hour
"""

import argparse
import time

import numpy as np

from impactrl import Penalty, Planner, compile_mdp, make_level
from impactrl.agents.frontier import trace
from impactrl.agents.planner import continuing_probability, plan
from impactrl.dynamic_programming import policy_values
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


def scan(impact, settings, curve, weights):
    """How often, away from the critical weights, the planner differs from the interval, and how often in ties only.

    The planner takes actions for equal that differ by less than 1e-9 of their value: at very small weights it may leave
    the line of the interval for one that is as good but for that.
    """
    wrong = ties = 0
    mdp = impact.mdp
    continuing = continuing_probability(mdp)
    for weight in weights:
        if len(curve.weights) and (np.abs(curve.weights / weight - 1) < 1e-6).any():
            continue
        best, row = plan(impact, settings, weight), curve.at(weight)
        value = row["discounted_reward"] - weight * row["discounted_impact"]
        size = 1 + abs(row["discounted_reward"]) + weight * abs(row["discounted_impact"])
        theirs = [getattr(best, f"expected_{name}") for name in COLUMNS]
        ours = row[list(COLUMNS)].to_numpy(dtype=float)
        if abs(best.value - value) > 1e-9 * size:
            wrong += 1
        elif not np.allclose(theirs, ours, rtol=1e-9, atol=1e-9):
            paid = (mdp.probability * impact.penalised_reward(weight)).sum(axis=2)
            own = policy_values(mdp.next_state, continuing, paid, best.policy, discount=settings.discount).values
            tie = abs(mdp.start @ own - value) <= 2e-9 * size
            wrong, ties = wrong + (not tie), ties + tie
    return wrong, ties


def maze():
    """A level of 7 296 states: three walls, each with two doors blocked by vases and a long way round."""
    rows = [list("#" * 14), *(list("#" + " " * 12 + "#") for _ in range(12)), list("#" * 14)]
    for number, column in enumerate((4, 7, 10), start=1):
        for row in rows[1:-1]:
            row[column] = "#"
        rows[2 + number][column] = rows[11][column] = "V"
        rows[1 if number % 2 else 12][column] = " "
    rows[1][1], rows[12][12] = "A", "G"
    text = "\n".join("".join(row) for row in rows)
    return make_level(text + "\n---\n[legend.G]\nreward = 100\n[settings]\nmovement_reward = -1\n", name="maze")


def main():
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scan", type=int, default=0, help="how many weights the planner solves for comparison")
    parser.add_argument("--discount", type=float, default=0.99, help="of the planner")
    options = parser.parse_args()
    settings, weights = Planner(discount=options.discount), np.geomspace(1e-4, 1e5, max(options.scan, 1))
    maze()
    tasks = [(level, name, baseline) for level in LEVELS for name in MEASURES for baseline in BASELINES]
    print(f"Frontier of a fitted penalty, discount {options.discount:g}: best of {REPEATS}")
    print(f"{'level':15s}{'penalty':15s}{'states':>8s}{'intervals':>11s}{'ms':>8s}")
    slowest, totals = 0.0, np.zeros(2, dtype=int)
    for level, name, baseline in [*tasks, *(("maze", "RR", baseline) for baseline in BASELINES)]:
        impact = Penalty(baseline=baseline, **MEASURES[name]).fit(compile_mdp(level))
        line = f"{level:15s}{name + ' ' + baseline:15s}{impact.mdp.num_states:8d}"
        try:
            curve, seconds = timed(impact, settings)
        except ImpactError as error:
            print(f"{line}  {error}")
            continue
        line += f"{len(curve.policies):11d}{1e3 * seconds:8.2f}"
        slowest = max(slowest, seconds)
        if options.scan and level != "maze":
            begin = time.perf_counter()
            found = scan(impact, settings, curve, weights)
            totals += found
            ratio = (time.perf_counter() - begin) / seconds
            line += f"   scan: {found[0]} wrong, {found[1]} ties of the planner, {ratio:.0f} x the time"
        print(line, flush=True)
    print(f"slowest: {1e3 * slowest:.2f} ms" + (f"; {totals[0]} wrong, {totals[1]} ties" if options.scan else ""))


def timed(impact, settings):
    """The frontier and the seconds that it took: the least of some trials, after one that compiles."""
    trace(impact, settings)
    seconds = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        curve = trace(impact, settings)
        seconds.append(time.perf_counter() - begin)
    return curve, min(seconds)


if __name__ == "__main__":
    main()
