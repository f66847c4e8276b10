"""All benchmarks in short: one table of figures, each beside a plain implementation and the memory bandwidth.

make bench                         # up to 10^5 states, some two minutes
python benchmarks/run.py --full    # and 10^6 states

Writes docs/benchmarks.md and docs/figures/benchmarks.png. The plain implementations are in references.py and, for the
learners, beside their own benchmarks; tests/test_benchmarks.py checks that they agree with the library.
"""

import argparse
import os
import platform
import resource
import time
from pathlib import Path
from textwrap import fill

import aup
import deep
import numpy as np
import q_learning
from matplotlib.figure import Figure
from references import dictionary_enumeration, networkx_reachability, numpy_value_iteration
from storeroom import FRAGILE

from impactrl import Penalty, Planner, compile_mdp, save_figure, train, train_aup
from impactrl.agents.frontier import trace
from impactrl.agents.planner import plan
from impactrl.levels import world_of

DOCS = Path(__file__).parents[1] / "docs"
LEVELS = ("Options", "Box", "SushiGoal2", "BatteriesEasy")
DISCOUNT, GOALS, SEEDS, WEIGHT = 0.99, 1000, 5, 1.0
EXACT = Penalty(discount=1.0, terminal="absorbing")
SAMPLED = Penalty(discount=DISCOUNT, terminal="absorbing", goals=GOALS)
PLANNER = Planner(discount=DISCOUNT)
REPEATS = 5
COPIED = 2**28
LARGE = 50_000
"""States from which on a time is taken once."""
UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""), (1e-3, "m"), (1e-6, "µ"))
KINDS = {
    "compile": "compile",
    "exact": "fit, exact, γ = 1",
    "sampled": f"fit, {GOALS} goals, γ = 0.99",
    "solve": "solve",
}


def best_of(repeats, work):
    """The shortest of several times in seconds, and the last result."""
    shortest = np.inf
    for _ in range(repeats):
        begin = time.perf_counter()
        result = work()
        shortest = min(shortest, time.perf_counter() - begin)
    return shortest, result


def amount(value, unit):
    """A number to three digits with the usual prefix: 0.0123 s is 12.3 ms."""
    factor, prefix = next((u for u in UNITS if value >= u[0]), UNITS[-1])
    return f"{value / factor:.3g} {prefix}{unit}".replace("  ", " ")


def peak():
    """Peak memory of this process so far in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def bandwidth():
    """Bytes read and written per second by numpy's copy of a large array."""
    source = np.ones(COPIED // 8)
    target = np.zeros_like(source)
    seconds, _ = best_of(REPEATS, lambda: np.copyto(target, source))
    return 2 * COPIED / seconds


class Table:
    """Lines of the table; times are for one unit of work each."""

    def __init__(self, bytes_per_second):
        self.bytes_per_second = bytes_per_second
        self.lines = [
            "| what | library | plain implementation | ratio | bytes copied meanwhile |",
            "|---|--:|--:|--:|--:|",
        ]

    def add(self, what, seconds, plain=None, unit=""):
        """One line: a time, or a rate per second if its unit is given; `plain` is the reference's time."""
        shown = (lambda s: amount(1 / s, f" {unit}/s")) if unit else (lambda s: amount(s, "s"))
        beside = (shown(plain), f"{plain / seconds:.3g}") if plain else ("", "")
        copied = amount(seconds * self.bytes_per_second, "B")
        self.lines.append("| " + " | ".join((what, shown(seconds), *beside, copied)) + " |")


def growth(sizes):
    """Times on ever larger levels: a row of numbers each."""
    for penalty in (EXACT, SAMPLED):
        plan(penalty.fit(compile_mdp(FRAGILE[0])), PLANNER, WEIGHT)  # loads the kernels
    rows = []
    for world in FRAGILE[:sizes]:
        seconds, mdp = best_of(1, lambda w=world: compile_mdp(w, max_states=2_000_000))
        repeats = REPEATS if mdp.num_states < LARGE else 1
        if repeats > 1:
            seconds, mdp = best_of(repeats, lambda w=world: compile_mdp(w))
        row = {"states": mdp.num_states, "compile": seconds}
        row["exact"], impact = best_of(repeats, lambda m=mdp: EXACT.fit(m))
        row["solve"], _ = best_of(repeats, lambda i=impact: plan(i, PLANNER, WEIGHT))
        del impact
        row["sampled"], _ = best_of(repeats, lambda m=mdp: SAMPLED.fit(m))
        row["peak"] = peak()
        rows.append(row)
    return rows


def exponent(rows, key):
    """Slope of the logarithms of time against states, from 10^3 states on: below, fixed costs weigh too much."""
    x, y = np.log([(row["states"], row[key]) for row in rows[1:]]).T
    return float(np.polyfit(x, y, 1)[0])


def estimates():
    """Of all transitions of the level of 10^4 states, the share whose estimate is within 3 standard errors.

    Returns:
        [SEEDS] the share for each draw of goals, [SEEDS] that of the transitions with any deviation, and [SEEDS] of
        those outside the share whose estimate and standard error are both 0: no goal that counts was drawn.
    """
    mdp = compile_mdp(FRAGILE[2])
    exact = Penalty(discount=DISCOUNT, terminal="absorbing").fit(mdp).deviation
    shares = []
    for seed in range(SEEDS):
        impact = Penalty(discount=DISCOUNT, terminal="absorbing", goals=GOALS, seed=seed).fit(mdp)
        within = np.abs(impact.deviation - exact) <= 3 * impact.standard_error + 1e-12
        real = (mdp.probability > 0) & ~mdp.terminal[:, None, None]
        missed = (impact.deviation == 0)[real & ~within] & (impact.standard_error == 0)[real & ~within]
        shares.append((within[real].mean(), within[real & (exact > 0)].mean(), missed.mean()))
    return np.array(shares).T


def learners(table):
    """Steps per second, evaluations included."""
    mdp = compile_mdp("Options")
    impact = Penalty(weight=WEIGHT).fit(mdp)
    runs = {"weights": [WEIGHT] * 32, "seeds": range(32), "threads": 1}
    train(impact, q_learning.SETTINGS, weights=[WEIGHT], seeds=[0])
    seconds, training = best_of(REPEATS, lambda: train(impact, q_learning.SETTINGS, **runs))
    slow, (steps, _) = best_of(2, lambda: q_learning.plain(impact, q_learning.SETTINGS, 0))
    table.add("Q-learning, Options, one thread", seconds / training.steps.sum(), slow / steps, "steps")

    runs = {"weights": [aup.PENALTY.weight] * 2, "seeds": range(2), "threads": 1}
    short = aup.ModelFreeAUP(episodes=aup.PLAIN_EPISODES)
    train_aup(mdp, aup.PENALTY, short, weights=[aup.PENALTY.weight], seeds=[0])
    seconds, training = best_of(REPEATS, lambda: train_aup(mdp, aup.PENALTY, aup.SETTINGS, **runs))
    slow, (steps, _) = best_of(2, lambda: aup.plain(mdp, short, 0))
    name = f"AUP, {aup.PENALTY.utilities} auxiliary rewards, Options, one thread"
    table.add(name, seconds / training.steps.sum(), slow / steps, "steps")


def networks(table):
    """Updates per second of deep Q-networks, beside Stable-Baselines3's where that is installed."""
    rates = deep.measure(deep.STEPS, deep.THEIR_STEPS, REPEATS)
    theirs = rates.pop(deep.THEIRS, None)
    for name, rate in rates.items():
        table.add(f"deep Q, {deep.LEVEL}, {name}", 1 / rate, theirs and 1 / theirs, "updates")


def levels(table):
    """Fit, solve and frontier of published levels."""
    penalty = Penalty(discount=DISCOUNT, terminal="absorbing")
    for level in LEVELS:
        mdp = compile_mdp(level)
        seconds, impact = best_of(REPEATS, lambda m=mdp: penalty.fit(m))
        slow, _ = best_of(1, lambda m=mdp: networkx_reachability(m, DISCOUNT))
        table.add(f"fit, γ = 0.99, {level}, {mdp.num_states} states", seconds, slow)
        seconds, _ = best_of(REPEATS, lambda i=impact: plan(i, PLANNER, WEIGHT))
        paid = impact.penalised_reward(WEIGHT)
        slow, _ = best_of(1, lambda m=mdp, p=paid: numpy_value_iteration(m, p, DISCOUNT))
        table.add(f"solve, {level}", seconds, slow)
        trace(impact, PLANNER)
        seconds, curve = best_of(REPEATS, lambda i=impact: trace(i, PLANNER))
        table.add(f"frontier, {level}, critical weights: {len(curve.weights)}", seconds)
    seconds, mdp = best_of(2, lambda: compile_mdp("Sokocoin2"))
    slow, _ = best_of(2, lambda: dictionary_enumeration(world_of("Sokocoin2", {})[0]))
    count = mdp.num_states * mdp.num_actions
    table.add(f"compile, Sokocoin2, {mdp.num_states} states", seconds / count, slow / count, "transitions")


def machine():
    """The machine in words."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    python = f"Python {platform.python_version()}, numpy {np.__version__}"
    return f"{os.cpu_count()} cores, {memory:.0f} GiB of memory, {python}"


def draw(rows):
    """Time against states, both logarithmic, with the fitted exponents."""
    figure = Figure(figsize=(6.9, 3.6), layout="constrained")
    ax = figure.subplots()
    for (key, name), marker in zip(KINDS.items(), "os^D", strict=True):
        x, y = zip(*((row["states"], row[key]) for row in rows), strict=True)
        ax.loglog(x, y, marker=marker, markersize=4, label=f"{name}: exponent {exponent(rows, key):.2f}")
    ax.set(xlabel="states", ylabel="seconds")
    ax.grid(alpha=0.3)
    ax.legend(frameon=False)
    return figure


def main():
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="also a level of a million states")
    options = parser.parse_args()
    begin = time.perf_counter()
    rows = growth(len(FRAGILE) if options.full else len(FRAGILE) - 1)  # first: its peak memory is its own
    shares = estimates()
    speed = bandwidth()
    table = Table(speed)
    learners(table)
    networks(table)
    levels(table)
    for key, name in KINDS.items():
        for row in rows:
            table.add(f"{name}, {row['states']} states", row[key])
    powers = "; ".join(f"{name}: {exponent(rows, key):.2f}" for key, name in KINDS.items())
    memory = ", ".join(f"{row['peak']:.2f} GiB after {row['states']}" for row in rows)
    *_, missed = shares
    everywhere, charged = (f"{100 * s.mean():.2f} % (lowest {100 * s.min():.2f} %)" for s in shares[:2])
    paragraphs = [
        f"`make bench` measures this afresh, in one process. This machine: {machine()}. Times are the best of "
        f"{REPEATS}, of one or two where they are long. The plain implementations are dictionaries in Python "
        "(learners, enumeration), Stable-Baselines3 where it is installed (deep Q, see `benchmarks/deep.py`), "
        "networkx's search for all pairs (fit) and value iteration on dense numpy matrices (solve). The "
        "last column says what numpy's copy of a large array reads and writes in the time of one unit or step, at "
        f"{speed / 1e9:.1f} GB/s. Fit is stepwise relative reachability; solve and frontier have discount 0.99 and "
        "start from a fitted penalty. Lines without the name of a level are of those in `benchmarks/storeroom.py`.",
        f"Time grows as a power of the number of states, from 10³ on with these exponents: {powers}. Peak memory of "
        f"the process so far: {memory} states.",
        f"Sampled against exact, {rows[2]['states']} states, {GOALS} goals, {SEEDS} draws: within 3 standard errors "
        f"are {everywhere} of all transitions, and {charged} of those with a deviation above 0. Of those outside, "
        f"{100 * missed.mean():.0f} % have an estimate and a standard error of 0: few goals count there, and none of "
        "them was drawn.",
    ]
    first, *others = (fill(paragraph, 120) for paragraph in paragraphs)
    table_text = "\n".join(table.lines)
    picture = "![Seconds against states](figures/benchmarks.png)\n"
    text = "\n\n".join(["# Benchmarks", first, table_text, *others, picture])
    print(text)
    (DOCS / "benchmarks.md").write_text(text, encoding="utf-8")
    save_figure(draw(rows), DOCS / "figures" / "benchmarks.png")
    print(f"{time.perf_counter() - begin:.0f} s in all; wrote docs/benchmarks.md and docs/figures/benchmarks.png")


if __name__ == "__main__":
    main()
