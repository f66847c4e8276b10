"""The state graph for people: what can be undone is grouped, what cannot is an edge."""

from typing import NamedTuple

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from impactrl.components import Components, components, reachable_sizes
from impactrl.mdp import TabularMDP

__all__ = ["PointOfNoReturn", "condensation", "main_points", "points_of_no_return"]


class PointOfNoReturn(NamedTuple):
    """A step after which the state before it cannot be reached any more.

    Attributes:
        state: id of the state before the step.
        action: its index.
        next_state: id of the state after it.
        component: of `state` in `condensation`.
        next_component: of `next_state`.
        lost: share of the situations of the level that could be reached before the step, and cannot after it.
        anyway: whether doing nothing can lead from `state` to the same component.
    """

    state: int
    action: int
    next_state: int
    component: int
    next_component: int
    lost: float
    anyway: bool


class _Situations(NamedTuple):
    """The situations of a task (what impact measures tell apart) and their components.

    Attributes:
        state: [N] a state of each situation, the first that was found.
        successor: [N, A, K] situations.
        happens: [N, A, K] whether the outcome has a probability above 0.
        found: the components.
    """

    state: NDArray[np.intp]
    successor: NDArray[np.int32]
    happens: NDArray[np.bool_]
    found: Components


def condensation(mdp: TabularMDP) -> "nx.DiGraph[int]":
    """The components of a level and the transitions between them, none of which can be undone.

    Two situations are in one component if each can be reached from the other, under some actions and with luck. A
    situation is what an impact measure sees of a state (`World.situation`): bookkeeping does not count.

    Returns:
        A graph whose nodes are numbered so that edges lead upwards, by `layer`.
        Nodes carry `states` (ids), `size` (situations), `layer` (edges on the longest way from a first one), `start`
        (episodes can begin here), `terminal` (the episode is over), `completed` (the task is done in all states),
        `side_effect` (how many have happened: along a shortest path from the start, the least over the states),
        `reachable` (share of all situations that can still be reached, their own included).
        Edges carry `transitions` (how many: situation, action, outcome), `actions` (their names) and `noop`
        (whether doing nothing can make them).
    """
    situations = _situations(mdp)
    found = situations.found
    label = found.label[mdp.situation]
    count = len(found.size)
    reachable = reachable_sizes(found) / len(situations.state)
    terminal = np.bincount(label, weights=mdp.terminal, minlength=count) > 0
    start = np.bincount(label, weights=mdp.start, minlength=count) > 0
    undone = np.bincount(label, weights=~mdp.completed, minlength=count)
    side_effect = np.full(count, np.inf)
    np.minimum.at(side_effect, label, _side_effects(mdp))
    states = np.split(np.argsort(label, kind="stable"), np.cumsum(np.bincount(label, minlength=count))[:-1])
    graph: nx.DiGraph[int] = nx.DiGraph()
    for c in range(count):
        graph.add_node(
            c,
            states=tuple(states[c].tolist()),
            size=int(found.size[c]),
            layer=int(found.layer[c]),
            start=bool(start[c]),
            terminal=bool(terminal[c]),
            completed=not undone[c],
            side_effect=float(side_effect[c]),
            reachable=float(reachable[c]),
        )
    s, a, k = _leaving(situations)
    one, other = found.label[s], found.label[situations.successor[s, a, k]]
    for source, target, action in zip(one.tolist(), other.tolist(), a.tolist(), strict=True):
        if not graph.has_edge(source, target):
            graph.add_edge(source, target, transitions=0, actions=set())
        edge = graph.edges[source, target]
        edge["transitions"] += 1
        edge["actions"].add(action)
    for _, _, edge in graph.edges(data=True):
        edge["noop"] = mdp.noop in edge["actions"]
        edge["actions"] = tuple(mdp.actions[i] for i in sorted(edge["actions"]))
    return graph


def points_of_no_return(mdp: TabularMDP) -> list[PointOfNoReturn]:
    """All steps that leave a component, but for those that end the episode: one per situation, action and outcome.

    Returns:
        What an action brings about first, then what doing nothing brings about as well; each by what is lost, most
        first, then in order of state and action.
    """
    situations = _situations(mdp)
    label = situations.found.label
    reachable = reachable_sizes(situations.found) / len(situations.state)
    s, a, k = _leaving(situations)
    after = situations.successor[s, a, k]
    going_on = ~mdp.terminal[situations.state[after]]
    s, a, after = s[going_on], a[going_on], after[going_on]
    anyway = np.zeros(len(s), dtype=np.bool_)
    if mdp.noop is not None:
        idle = label[situations.successor[s, mdp.noop]] == label[after][:, None]
        anyway = (idle & situations.happens[s, mdp.noop]).any(axis=1)
    lost = reachable[label[s]] - reachable[label[after]]
    order = np.lexsort((a, situations.state[s], -lost, anyway))
    columns = situations.state[s], a, situations.state[after], label[s], label[after], lost, anyway
    return [PointOfNoReturn(*row) for row in zip(*(column[order].tolist() for column in columns), strict=True)]


def main_points(mdp: TabularMDP, count: int) -> list[PointOfNoReturn]:
    """The first of `points_of_no_return` for each pair of components; at most `count`."""
    found: dict[tuple[int, int], PointOfNoReturn] = {}
    for point in points_of_no_return(mdp):
        found.setdefault((point.component, point.next_component), point)
        if len(found) == count:
            break
    return list(found.values())


def _situations(mdp: TabularMDP) -> _Situations:
    state = np.unique(mdp.situation, return_index=True)[1]
    successor = mdp.situation[mdp.next_state[state]]
    probability = mdp.probability[state]
    return _Situations(state, successor, probability > 0, components(successor, probability))


def _leaving(situations: _Situations) -> tuple[NDArray[np.intp], ...]:
    """Situation, action and outcome of every transition between components."""
    label = situations.found.label
    return np.nonzero(situations.happens & (label[situations.successor] != label[:, None, None]))


def _side_effects(mdp: TabularMDP) -> NDArray[np.float64]:
    """[S] side effects less those undone, along a shortest path from a first state to each."""
    count = np.full(mdp.num_states, np.nan)
    here = np.flatnonzero(mdp.start > 0)
    count[here] = 0.0
    while len(here):
        i, a, k = np.nonzero(mdp.probability[here] > 0)
        s = here[i]
        after, first = np.unique(mdp.next_state[s, a, k], return_index=True)
        first = first[np.isnan(count[after])]
        here = mdp.next_state[s, a, k][first]
        count[here] = count[s[first]] + mdp.side_effect[s, a, k][first]
    return count
