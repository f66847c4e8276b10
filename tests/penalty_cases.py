"""Penalties of every kind on small worlds, and what they charge, for the tests."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from random_mdps import arrays_of, dense, has_certain_noop, mdps, penalties, utility_tables

from impactrl.mdp import TabularMDP
from impactrl.measures.baselines import certain
from impactrl.measures.comparisons import Comparisons
from impactrl.measures.impact import Impact
from impactrl.measures.penalty import Penalty
from impactrl.measures.state_graph import state_graph

REACHABILITIES = ("relative_reachability", "future_tasks", "unreachability", "step_reversibility")
PAIRS = ("unreachability", "step_reversibility", "whitelist", "detectability")
STEPWISE = ("stepwise", "average", "average_other", "random", "adversarial")
FROM_START = ("start", "inaction", "policy")
EVERY_DEVIATION = (
    *REACHABILITIES,
    "attainable_utility",
    "importance",
    "power",
    "empowerment",
    "features",
    "whitelist",
    "detectability",
)
EVERY_BASELINE = (*FROM_START, *STEPWISE, "none")


@st.composite
def penalties_of_any_kind(
    draw: st.DrawFn,
    mdp: TabularMDP,
    *,
    deviations: Sequence[str] = EVERY_DEVIATION,
    baselines: Sequence[str] = EVERY_BASELINE,
    rollouts: Sequence[bool | str] = (False, True, "end"),
    scales: Sequence[str] = ("none", "per-value", "sum", "discount", "impact-unit", "gap"),
    sampled: bool = False,
    **fixed: Any,
) -> Penalty:
    """Penalties of every kind that can be fitted to `mdp`; `fixed` settings stay as they are.

    A course that may be random is an exact one, or sampled. An expectation inside is then refused.
    """

    def one_of(*options: Any) -> Any:
        return draw(st.sampled_from(options))

    name = one_of(*deviations)
    chosen: dict[str, Any] = {"deviation": name, "terminal": one_of("previous", "absorbing")}
    chosen["nonterminal_weight"] = one_of(0.25, 1.0)
    chosen["discount"] = one_of(0.5, 0.9) if name in ("attainable_utility", "importance", "power") else one_of(0.5, 1.0)

    # What is compared with what
    could = [b for b in baselines if (b == "none") <= (name == "future_tasks")]
    could = [b for b in could if not (b == "adversarial" and name in PAIRS)]
    baseline = chosen["baseline"] = one_of(*(b for b in could if b != "inaction" or mdp.noop is not None))
    table = draw(arrays_of(mdp.num_states, 0, mdp.num_actions - 1))[mdp.situation].tolist()
    policies = ["random", mdp.actions[-1], tuple(table)]
    own = [None] * 3 if mdp.noop is not None else []
    chosen["policy"] = None if baseline == "inaction" else one_of(*policies, *own)
    if baseline in ("inaction", "policy"):
        only = baseline == "inaction" and has_certain_noop(mdp)
        chosen["inaction"] = "sampled" if sampled else one_of(None, "exact") if only else "exact"
    if baseline == "adversarial":
        chosen["epsilon"] = one_of(0.0, 0.25, 1.0)
    alone = ("step_reversibility", "future_tasks", "detectability")
    rollouts = [fixed["rollout"]] if "rollout" in fixed else rollouts
    could_roll = [r for r in rollouts if not (r and name in alone) and not (r == "end" and name == "empowerment")]
    chosen["rollout"] = one_of(*could_roll)
    if chosen["rollout"] is True:
        chosen["rollout_discount"] = one_of(0.0, 0.5, 0.8)
    if chosen["rollout"] == "end":
        chosen["horizon"] = one_of(1, 2, 5)
    elif name in REACHABILITIES:
        chosen["horizon"] = one_of(None, None, 1, 3)
    elif name == "empowerment":
        chosen["horizon"] = one_of(1, 2)

    # The values
    if name in ("relative_reachability", "future_tasks"):
        chosen["goals"] = one_of("all", "all", 2)
    if name in ("attainable_utility", "importance", "power"):
        chosen["utilities"] = _utilities(draw, mdp)
    if name == "attainable_utility":
        chosen["attainable"], chosen["clip"] = one_of("arrival", "departure"), one_of(False, False, True)
    if name == "features" or (name == "detectability" and draw(st.booleans())):
        names = mdp.feature_names or ("vase", "box")
        chosen["features"] = one_of(None, (names[1],), ((names[0], 2.0), (names[1], 0.5)), (("odd", _odd),))
    if name == "whitelist":
        chosen["allowed"] = one_of(None, (), ("v>b", " >*"))
    if name == "detectability":
        chosen["divergence"] = one_of("total_variation", "jensen_shannon", "kl")
        chosen["floor"] = one_of(1e-6, 0.25)

    # How they are compared
    if name in (*PAIRS, "future_tasks"):
        could_scale = [s for s in scales if s == "none" or (s == "impact-unit" and name != "future_tasks")]
    else:
        chosen["summary"] = one_of(None, "decrease", "increase", "absolute")
        chosen["expectation"] = "outside" if sampled else one_of("outside", "inside")
        chosen["norm"] = one_of("L1", "L2", "Linf")
        could_scale = [s for s in scales if not (s in ("discount", "gap") and chosen["discount"] == 1)]
        if name == "empowerment" and not mdp.deterministic:  # capacities have an error of 1e-10: do not divide by them
            could_scale = [s for s in could_scale if s not in ("per-value", "sum", "impact-unit")]
        if mdp.noop is None:
            could_scale = [s for s in could_scale if s != "gap"]
    chosen["scale"] = one_of(*could_scale)
    if chosen["scale"] == "sum":
        chosen["norm"] = "L1"
    if chosen["scale"] == "gap":
        chosen["summary"] = one_of(None, "increase")
    if chosen["scale"] == "impact-unit":
        chosen["unit_action"] = one_of(*mdp.actions)
    return Penalty(**(chosen | fixed))


def _odd(state: Any) -> float:
    return float(state % 2)


def _utilities(draw: st.DrawFn, mdp: TabularMDP) -> Any:
    """A table (nothing cancels in it, so that it can be divided by), indicators, or a function."""
    given = draw(st.sampled_from(["table", "states", "function"]))
    if given == "function":
        return (_odd,)
    return draw(utility_tables(mdp, least=0)) if given == "table" else given


@st.composite
def tasks_with_penalties(draw: st.DrawFn, *, world: dict[str, Any] | None = None, **settings: Any) -> Any:
    """A random task and one of the penalties of `penalties`."""
    mdp = draw(mdps(**({"max_states": 5} | (world or {}))))
    return mdp, draw(penalties(mdp, **settings))


def precision(penalty: Penalty) -> dict[str, float]:
    """How far two right computations of a penalty of any kind may be apart."""
    if penalty.deviation not in ("attainable_utility", "power", "empowerment") and penalty.scale != "gap":
        return {"rtol": 1e-11, "atol": 1e-11}
    if penalty.scale in ("none", "discount"):
        return {"rtol": 0, "atol": 1e-9}  # values and capacities have an error of 1e-10 at most
    return {"rtol": 1e-7, "atol": 1e-8}


def goals_of(impact: Impact) -> list[int] | None:
    """The states whose reachability a penalty has drawn, by the names of their contributions; None: all."""
    if impact.penalty.goals == "all":
        return None
    return [int(name.removeprefix("state ")) for name in impact.contributions(0, 0).index]


def looked_up(impact: Impact, path: Sequence[tuple[int, int, int]]) -> list[tuple[float, float]]:
    """(deviation, unit penalty) of every step of a path of states, in the product."""
    if not path:
        return []
    x, found = impact.start_index(path[0][0]), []
    for before, a, after in path:
        assert impact.state[x] == before
        k, following = impact.follow(x, a, after, np.random.default_rng(0))
        found.append((float(impact.deviation[x, a, k]), float(impact.unit_penalty[x, a, k])))
        x = following
    return found


def carried_over(penalty: Penalty, task: TabularMDP, other: TabularMDP, origin: Sequence[int]) -> Penalty:
    """The same penalty for another task, each of whose states stands for one of `task`: `origin` has their ids."""
    changes: dict[str, Any] = {}
    if isinstance(penalty.utilities, tuple):
        rows: Any = penalty.utilities
        if callable(rows[0]):
            rows = [[u(state) for u in rows] for state in task.states]
        changes["utilities"] = [rows[i] for i in origin]
    if isinstance(penalty.policy, tuple):
        changes["policy"] = [penalty.policy[i] for i in origin]
    if penalty.features and callable(penalty.features[0][1]):
        changes["features"] = {
            name: lambda state, of=of: of(task.states[origin[other.index(state)]]) for name, of in penalty.features
        }
    return replace(penalty, **changes)


def pairs_of(mdp: TabularMDP, penalty: Penalty) -> NDArray[np.float64]:
    """D of all pairs of nodes, [N, N]."""
    graph = state_graph(mdp, penalty.terminal, penalty.policy)
    node, reference = (a.ravel() for a in np.indices((graph.size, graph.size)))
    comparisons = Comparisons(
        node=node[:, None],
        probability=np.ones((len(node), 1)),
        memory=reference,
        reference=certain(np.arange(graph.size)),
        to_go=np.zeros_like(node),
    )
    compare = penalty.deviation_choice.fit(graph, penalty)
    return compare(comparisons).reshape(graph.size, graph.size)


def noop_matrix(mdp: TabularMDP) -> NDArray[np.float64]:
    """[S, S] dense, of a task whose states are all nodes."""
    assert mdp.noop is not None
    return dense(mdp, [mdp.noop] * mdp.num_states)
