"""The exact facts about the map of Box of Krakovna et al.

How many states there are and stay reachable, what relative reachability (RR) and unreachability (UR) charge for the two
ways to push the box, the best unsafe and the best safe plan, and the weights at which a stepwise penalty makes the safe
one optimal: all undiscounted unless it says otherwise, with 1 lost for a move and 50 paid for the goal. Nothing is
learned; a cell agrees if all published digits do.

    verdicts.csv   every fact beside the published one
    windows.png    what the exact optimum does at every weight

    python experiments/krakovna2019_box.py            # seconds; --quick is the same
"""

from dataclasses import replace

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order
from verdicts import Cell, arguments, conclude, digits, published, verdict

from impactrl import Penalty, TabularMDP, compile_mdp, explain, frontier, plot_frontier, solve

PUSHES = {"the push into the corner": "D", "the sideways push": "LDR"}
TERMINAL = {"terminal states are states": "absorbing", "they are no states": "previous"}
FACTS, PLANS, WINDOWS = "map of Box", "best plans", "safe weights"


def reachable(mdp: TabularMDP, state: int, terminal: str) -> int:
    """How many states of the measure can be reached from one, itself included."""
    rows = np.repeat(np.arange(mdp.num_states), mdp.num_actions)
    graph = csr_array((np.ones(len(rows)), (rows, mdp.next_state[:, :, 0].ravel())), shape=(mdp.num_states,) * 2)
    found = breadth_first_order(graph, state, return_predecessors=False)
    return int((~mdp.terminal[found]).sum()) if terminal == "previous" else len(found)


def facts(mdp: TabularMDP, terminal: str) -> dict[str, float]:
    """The facts under a rule for terminal states, by the names of the published ones."""
    found: dict[str, float] = {"states": mdp.num_states if terminal == "absorbing" else int((~mdp.terminal).sum())}
    for push, actions in PUSHES.items():

        def charged(penalty: Penalty, actions: str = actions) -> float:
            steps = explain("Box", actions=actions, penalty=replace(penalty, terminal=terminal))
            return float(steps["deviation"].iloc[-1])

        after = int(explain("Box", actions=actions)["state"].iloc[-1])
        found[f"states that stay reachable after {push}"] = reachable(mdp, after, terminal)
        found[f"RR of {push}, γ = 1"] = charged(Penalty(discount=1.0))
        found[f"RR of {push}, γ = 0.99"] = charged(Penalty(discount=0.99))
        found[f"UR of {push}"] = charged(Penalty(deviation="unreachability", discount=1.0))
    return found


def main() -> None:
    options = arguments(__doc__, __file__, quick="the same")
    said, mdp = published("krakovna2019"), compile_mdp("Box")
    cells = []
    for place, (column, terminal) in enumerate(TERMINAL.items()):
        found = facts(mdp, terminal)
        cells += [digits(FACTS, name, column, row[place], found[name]) for name, row in said["box"].items()]

    # The unsafe plan is the optimum without a penalty, the safe one that in the middle of the safe weights.
    rr, ur = Penalty(discount=1.0), Penalty(deviation="unreachability", discount=1.0)
    for name, (path, reward, performance) in said["box_plans"].items():
        best = solve(mdp, replace(rr, weight=0.0 if name == "unsafe" else 25.0), discount=1.0)
        steps = explain("Box", actions=path)
        end = [steps["reward"].sum(), *steps[["performance", "side_effect"]].iloc[-1]]
        same = np.allclose(end, [best.expected_reward, best.expected_performance, best.expected_side_effect], atol=1e-9)
        letters = "".join("UDLRN"[action] for action in best.actions())
        text = letters if not same or letters == path else f"{path} or {letters}"
        cells.append(Cell(PLANS, name, "path", path, text, verdict(same)))
        cells.append(digits(PLANS, name, "return", reward, best.expected_reward))
        cells.append(digits(PLANS, name, "hidden score", performance, best.expected_performance))

    curves = {"RR": frontier(mdp, rr, discount=1.0), "UR": frontier(mdp, ur, discount=1.0)}
    for name, window in said["box_windows"].items():
        found_window = curves[name].safe_window
        if window and found_window:
            ends = zip(("from", "to"), window, found_window, strict=True)
            cells += [digits(WINDOWS, name, end, theirs, ours) for end, theirs, ours in ends]
        else:
            texts = ["none" if not w else " – ".join(map(str, w)) for w in (window, found_window)]
            cells.append(Cell(WINDOWS, name, "from", *texts, verdict(texts[0] == texts[1])))
    conclude(options.out, cells, {"windows.png": plot_frontier(curves)})


if __name__ == "__main__":
    main()
