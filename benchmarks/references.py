"""Plain implementations to compare with: what one would write first, without a thought for speed."""

import networkx as nx
import numpy as np

__all__ = ["dictionary_enumeration", "networkx_reachability", "numpy_value_iteration"]

TOLERANCE = 1e-9


def dictionary_enumeration(world):
    """All outcomes of a world: {state: [outcomes of action 0, of action 1, ...]}, breadth-first from its starts."""
    todo = [state for _, state in world.start()]
    table = dict.fromkeys(todo)
    for state in todo:
        if world.terminal(state):
            table[state] = []
            continue
        table[state] = [list(world.outcomes(state, action)) for action in range(len(world.actions))]
        for outcomes in table[state]:
            for outcome in outcomes:
                if outcome.state not in table:
                    table[outcome.state] = None
                    todo.append(outcome.state)
    return table


def networkx_reachability(mdp, discount):
    """[S, A] stepwise relative reachability of a world without chance, ends absorbing (Krakovna et al. 2019, eq. 2).

    All pairs are searched; reachability is `discount` to the power of the steps needed, 0 where there is no way.
    """
    situation, after = mdp.situation, mdp.next_state[:, :, 0]
    count = int(situation.max()) + 1
    graph = nx.DiGraph()
    graph.add_nodes_from(range(count))
    graph.add_edges_from((int(situation[s]), int(situation[t])) for s in range(len(after)) for t in after[s])
    reach = np.zeros((count, count))
    for x, steps in nx.all_pairs_shortest_path_length(graph):
        for y, distance in steps.items():
            reach[x, y] = discount**distance
    deviation = np.zeros(after.shape)
    for s in np.flatnonzero(~mdp.terminal):
        baseline = reach[situation[after[s, mdp.noop]]]
        for a in range(mdp.num_actions):
            deviation[s, a] = np.maximum(0.0, baseline - reach[situation[after[s, a]]]).mean()
    return deviation


def numpy_value_iteration(mdp, reward, discount):
    """[S] optimal values: dense [A, S, S] matrices, all states in every sweep, within `TOLERANCE` of the optimum.

    Args:
        mdp: the task.
        reward: [S, A, K] of its transitions.
        discount: below 1.
    """
    states, actions, outcomes = mdp.next_state.shape
    chance = np.zeros((actions, states, states))
    for k in range(outcomes):
        going_on = np.where(mdp.terminal[mdp.next_state[:, :, k]], 0.0, mdp.probability[:, :, k])
        for a in range(actions):
            np.add.at(chance[a], (np.arange(states), mdp.next_state[:, a, k]), going_on[:, a])
    paid = (mdp.probability * reward).sum(axis=2).T
    values = np.zeros(states)
    while True:
        better = (paid + discount * (chance @ values)).max(axis=0)
        if np.abs(better - values).max() * discount <= TOLERANCE * (1 - discount):
            return better
        values = better
