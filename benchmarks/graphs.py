"""Time and memory of searching in the state graph, from a hundred to a million states.

python benchmarks/graphs.py            # everything, some minutes
python benchmarks/graphs.py --levels 3 # the first three sizes only

Every size is measured in a process of its own, so that its peak memory is its own. Beside it, in the same run: the
obvious ways on small levels, networkx for all pairs and dense numpy value iteration.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import networkx as nx
import numpy as np
from storeroom import BRIGHT, FRAGILE

from impactrl import compile_mdp
from impactrl.components import closure_differences, components
from impactrl.measures.state_graph import state_graph
from impactrl.presence import presence_columns
from impactrl.reach import prepare

FAMILIES = {"vases": FRAGILE, "lamps": BRIGHT}
GOALS, BLOCK, DISCOUNT = 1000, 128, 0.99
REPEATS = 3


def peak():
    """Peak memory of this process so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def best_of(repeats, work):
    """The shortest of several times in seconds, and the last result."""
    shortest = np.inf
    for _ in range(repeats):
        begin = time.perf_counter()
        result = work()
        shortest = min(shortest, time.perf_counter() - begin)
    return shortest, result


def stepwise_pairs(mdp):
    """For every state and action, what follows it and what follows the no-op."""
    after = mdp.next_state[:, :, 0]
    return after.ravel(), np.repeat(after[:, mdp.noop], mdp.num_actions)


def sampled_columns(search, goals):
    """The columns of all goals, a block at a time; what a caller would sum up is only touched."""
    return sum(
        float(search.columns(goals[i : i + BLOCK], discount=DISCOUNT)[0].sum()) for i in range(0, len(goals), BLOCK)
    )


def measure(family, size):
    """Times and peak memory of one level, in the order in which they are taken."""
    tiny = compile_mdp(FAMILIES[family][0])
    closure_differences(tiny.next_state, tiny.probability, *stepwise_pairs(tiny))  # loads the kernels
    sampled_columns(prepare(tiny.next_state, tiny.probability), np.arange(3))
    seconds, mdp = best_of(1, lambda: compile_mdp(FAMILIES[family][size], max_states=2_000_000))
    repeats = REPEATS if mdp.num_states < 200_000 else 1
    row = {"states": mdp.num_states, "compile": seconds, "compile GiB": peak()}
    successor, probability = mdp.next_state, mdp.probability
    row["components"] = len(components(successor, probability).size)
    row["pairs"], _ = best_of(repeats, lambda: closure_differences(successor, probability, *stepwise_pairs(mdp)))
    row["pairs GiB"] = peak()
    goals = np.random.default_rng(0).choice(mdp.num_states, min(GOALS, mdp.num_states), replace=False)
    row["goals"] = len(goals)
    row["columns"], _ = best_of(repeats, lambda: sampled_columns(prepare(successor, probability), np.sort(goals)))
    row["columns GiB"] = peak()
    return row


def exponent(rows, key):
    """Slope of the logarithms of time against states, over the sizes from 10^3."""
    x, y = np.log([(row["states"], row[key]) for row in rows[1:]]).T
    return float(np.polyfit(x, y, 1)[0])


def references():
    """Ratios to the obvious ways, in this run."""
    mdp = compile_mdp(FRAGILE[1])
    first, second = stepwise_pairs(mdp)
    graph = nx.DiGraph(mdp.to_networkx())

    def by_networkx():
        reached = {x: {x} | nx.descendants(graph, x) for x in graph}
        return [len(reached[b] - reached[a]) for a, b in zip(first.tolist(), second.tolist(), strict=True)]

    slow, expected = best_of(1, by_networkx)
    fast, (lost, _) = best_of(REPEATS, lambda: closure_differences(mdp.next_state, mdp.probability, first, second))
    assert lost.tolist() == expected
    print(f"stepwise pairs, {mdp.num_states} states: {fast * 1e3:.1f} ms; networkx {slow:.2f} s, {slow / fast:.0f} x")

    apples = state_graph(compile_mdp("Apples"), "previous")
    search, everything = prepare(apples.successor, apples.probability), np.arange(apples.size)
    few = everything[:: apples.size // 8]

    def by_numpy(sweeps):
        values = np.zeros((apples.size, len(few)))
        values[few, np.arange(len(few))] = 1.0
        for _ in range(sweeps):
            expected = np.einsum("xak,xakg->xag", apples.probability, values[apples.successor])
            values = DISCOUNT * expected.max(axis=1)
            values[few, np.arange(len(few))] = 1.0
        return values

    slow, _ = best_of(1, lambda: by_numpy(20))
    slow *= apples.size / len(few)
    for discount in (DISCOUNT, 1.0):
        search.columns(few, discount=discount)
        fast, _ = best_of(REPEATS, lambda d=discount: search.columns(everything, discount=d))
        print(f"Apples, all {apples.size} goals, discount {discount:g}: {fast:.2f} s")
    presence_columns(apples.successor, apples.probability, few, steps=20)
    fast, _ = best_of(REPEATS, lambda: presence_columns(apples.successor, apples.probability, everything, steps=20))
    print(f"Apples, all {apples.size} goals, after exactly 20 steps: {fast:.2f} s")
    print(f"  twenty dense numpy sweeps for all goals: {slow:.0f} s (from {len(few)} goals)")
    for name in ("BatteriesEasy", "BatteriesHard"):
        graph = state_graph(compile_mdp(name), "previous")
        fast, _ = best_of(
            REPEATS,
            lambda g=graph: prepare(g.successor, g.probability).columns(np.arange(g.size), discount=DISCOUNT),
        )
        print(f"{name}, all {graph.size} goals, discount 0.99: {fast * 1e3:.1f} ms")


def main():
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--levels", type=int, default=5, help="how many sizes of each family")
    parser.add_argument("--one", nargs=2, metavar=("FAMILY", "SIZE"), help="measure one level and print it as JSON")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one[0], int(options.one[1]))))
        return
    for family in FAMILIES:
        print(f"Storeroom with {family}; pairs: stepwise, exact, discount 1; columns: sampled goals, {DISCOUNT}")
        rows = []
        for size in range(options.levels):
            command = [sys.executable, __file__, "--one", family, str(size)]
            rows.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
            if size == 0:
                print("".join(f"{key:>13s}" for key in rows[0]))
            print("".join(f"{v:13.4g}" if isinstance(v, float) else f"{v:13d}" for v in rows[-1].values()))
        if len(rows) > 2:
            powers = ", ".join(f"{key} {exponent(rows, key):.2f}" for key in ("compile", "pairs", "columns"))
            print(f"growth with the number of states, exponents from the second size on: {powers}")
    print()
    references()  # last: a process begins with the peak memory of the one that started it


if __name__ == "__main__":
    main()
