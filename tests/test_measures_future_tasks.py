"""The future-task bonus of Krakovna et al. 2020 against its identities."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from random_mdps import level, mdps, random_walk, steps

from impactrl.compile import compile_mdp
from impactrl.measures.penalty import Penalty
from impactrl.measures.presets import preset

TERMINAL = st.sampled_from(["previous", "absorbing"])


def steps_of(impact, path):
    """(D, state after, index after) along a path of states."""
    x = impact.start_index(path[0][0])
    for _, a, s in path:
        k, y = impact.follow(x, a, s, np.random.default_rng(0))
        yield float(impact.deviation[x, a, k]), s, y
        x = y


def lengths(mdp, terminal):
    graph = nx.DiGraph(mdp.to_networkx())
    if terminal == "previous":
        graph.remove_nodes_from(np.flatnonzero(mdp.terminal).tolist())
    return dict(nx.all_pairs_shortest_path_length(graph)), len(graph)


@given(
    mdps(max_states=6, max_outcomes=1, ends=False, max_starts=1), st.sampled_from([0.5, 0.9, 1.0]), st.integers(0, 99)
)
def test_the_bonus_against_inaction_is_what_inaction_has_less_relative_reachability(mdp, discount, seed):
    assume(mdp.noop is not None)
    settings = {"baseline": "inaction", "discount": discount}
    bonus = Penalty(deviation="future_tasks", **settings).fit(mdp)
    relative = Penalty(deviation="relative_reachability", summary="decrease", **settings).fit(mdp)
    distance, size = lengths(mdp, "previous")
    path = random_walk(mdp, np.random.default_rng(seed), 8)
    idle = path[0][0]
    for (charged, _, _), (lost, _, _) in zip(steps_of(bonus, path), steps_of(relative, path), strict=True):
        idle = int(mdp.next_state[idle, mdp.noop, 0])
        constant = sum(discount**n for n in distance[idle].values()) / size  # whatever the agent does
        assert -charged == pytest.approx(constant - lost, abs=1e-12)


@given(mdps(max_states=6, max_outcomes=1), TERMINAL, st.sampled_from([0.5, 1.0]), st.integers(0, 99))
def test_the_bonus_is_a_mean_over_tasks_that_both_sides_can_do(mdp, terminal, discount, seed):
    """`discount^max(d(s, x), d(b, x))`, and without a baseline `discount^d(s, x)`."""
    distance, size = lengths(mdp, terminal)
    for baseline in ("none", "start"):
        impact = Penalty(deviation="future_tasks", baseline=baseline, discount=discount, terminal=terminal).fit(mdp)
        path = random_walk(mdp, np.random.default_rng(seed), 6)
        if not path:
            return
        before = start = path[0][0]
        for charged, s, _ in steps_of(impact, path):
            here = before if terminal == "previous" and mdp.terminal[s] else s
            other = distance[here if baseline == "none" else start]
            tasks = [discount ** max(n, other[x]) for x, n in distance[here].items() if x in other]
            assert -charged == pytest.approx(sum(tasks) / size, abs=1e-12)
            before = s


def test_the_bonus_by_hand_and_its_weight_over_time():
    # 0 > 1 > the end (2), which counts for nothing under the rule "previous"; discount 1/2.
    mdp = compile_mdp(steps([0, 1], [1, 2], None))
    impact = Penalty(deviation="future_tasks", baseline="none", discount=0.5, nonterminal_weight=0.1).fit(mdp)
    assert impact.deviation[:2, :, 0].tolist() == [[-0.75, -0.5], [-0.5, -0.5]]  # 0 has 1 + 1/2, 1 itself
    np.testing.assert_allclose(impact.unit_penalty[:2, :, 0], [[-0.075, -0.05], [-0.05, -0.5]], rtol=0, atol=1e-15)
    # Against inaction, which stays in 0 and has everything that 1 has.
    inaction = Penalty(deviation="future_tasks", baseline="inaction", discount=0.5).fit(mdp)
    x = inaction.start_index(0)
    y = inaction.mdp.next_state[x, 1, 0]
    assert inaction.deviation[x, :, 0].tolist() == [-0.75, -0.25]  # min of 1, 1/2 and of 0, 1
    assert inaction.deviation[y, 1, 0] == -0.25  # the end: the pair of the step before


def test_the_published_bonus_on_the_box_map():
    mdp = level("Box")
    impact = preset("krakovna2020").fit(mdp)
    relative = Penalty(baseline="inaction", summary="decrease").fit(mdp)
    # Nothing moves by itself: the constant is that of the first state.
    assert (impact.state == relative.state).all()
    real = ~impact.mdp.terminal[impact.mdp.next_state] & ~impact.mdp.terminal[:, None, None]
    constant = relative.deviation[real] - impact.deviation[real]
    assert constant.max() - constant.min() < 1e-12
    distance, size = lengths(mdp, "previous")
    assert constant[0] == pytest.approx(sum(0.99**n for n in distance[0].values()) / size, abs=1e-12)
    np.testing.assert_allclose(impact.unit_penalty[real], 0.01 * impact.deviation[real], rtol=1e-14)
