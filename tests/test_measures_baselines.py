"""Baselines: those without a no-op against exact action values, policies in place of the no-op, exact courses."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from penalty_cases import looked_up, penalties_of_any_kind
from random_mdps import RuleWorld, dense, mdps, random_walk, steps, utility_tables

from impactrl.compile import compile_mdp
from impactrl.measures.baselines import Baseline, certain
from impactrl.measures.penalty import Penalty
from impactrl.measures.state_graph import state_graph
from impactrl.measures.values import attainable_utilities, reachability
from impactrl.world import Outcome

# Without a no-op: Eresheim et al. 2023


FORK = steps([1, 2, 3], [1] * 3, [2] * 3, [3] * 3, noop=None)
WORTH = [[0.0, 0.0], [6.0, 0.0], [0.0, 3.0], [3.0, 9.0]]  # Q of the three actions in 0: 6 0 3, and 0 3 9


@pytest.mark.parametrize(
    ("baseline", "expected"),
    [
        # The means over all are 3 and 4.
        ("average", [(3 + 4) / 2, (3 + 1) / 2, (0 + 5) / 2]),
        # Over the others: 3/2, 9/2, 3 and 6, 9/2, 3/2.
        ("average_other", [(4.5 + 6) / 2, (4.5 + 1.5) / 2, (0 + 7.5) / 2]),
        # Each of the others for itself: |6 - 0|, |6 - 3| and so on.
        ("random", [((6 + 3) / 2 + (3 + 9) / 2) / 2, ((6 + 3) / 2 + (3 + 6) / 2) / 2, ((3 + 3) / 2 + (9 + 6) / 2) / 2]),
        # 3/4 of the best and 1/4 of the mean: 5.25 and 7.75.
        ("adversarial", [(0.75 + 7.75) / 2, (5.25 + 4.75) / 2, (2.25 + 1.25) / 2]),
    ],
)
def test_baselines_without_a_no_op_by_hand(baseline, expected):
    penalty = Penalty(deviation="attainable_utility", baseline=baseline, utilities=WORTH, discount=0.0, epsilon=0.25)
    impact = penalty.fit(compile_mdp(FORK))
    np.testing.assert_allclose(impact.deviation[0, :, 0], expected, rtol=0, atol=1e-9)
    assert not impact.deviation[1:].any()


@given(mdps(max_states=5, max_outcomes=1, ends=False), st.sampled_from([0.0, 0.5, 1.0]), st.data())
def test_baselines_without_a_no_op_against_exact_action_values(mdp, epsilon, data):
    table = data.draw(utility_tables(mdp))
    q = attainable_utilities(state_graph(mdp, "previous"), table, discount=0.9)[mdp.next_state[:, :, 0]]  # [S, A, 2]
    others = [[b for b in range(mdp.num_actions) if b != a] or [a] for a in range(mdp.num_actions)]
    mean, best = q.mean(axis=1, keepdims=True), q.max(axis=1, keepdims=True)
    expected = {
        "average": np.abs(q - mean),
        "average_other": np.abs(q - np.stack([q[:, b].mean(axis=1) for b in others], axis=1)),
        "random": np.stack([np.abs(q[:, b] - q[:, [a]]).mean(axis=1) for a, b in enumerate(others)], axis=1),
        "adversarial": np.abs(q - (1 - epsilon) * best - epsilon * mean),
    }
    for baseline, terms in expected.items():
        penalty = Penalty(
            deviation="attainable_utility", baseline=baseline, utilities=table, discount=0.9, epsilon=epsilon
        )
        impact = penalty.fit(mdp)
        np.testing.assert_allclose(impact.deviation[:, :, 0], terms.mean(axis=2), rtol=0, atol=1e-9)


def test_where_there_is_one_action_the_others_are_itself():
    mdp = compile_mdp(steps([1], [1], noop=None))
    for baseline in ("average_other", "random"):
        assert not Penalty(baseline=baseline).fit(mdp).deviation.any()


def test_deviations_without_values_are_averaged_themselves():
    # 0 leads to 1 (back to 0) or 2 (for good): from 2 neither 1 nor 0 is reachable, from 1 both others are.
    mdp = compile_mdp(steps([1, 2], [0, 2], [2, 2], noop=None))
    for baseline, expected in [("average", [0, 0.5]), ("average_other", [0, 1]), ("random", [0, 1])]:
        impact = Penalty(deviation="unreachability", baseline=baseline, discount=1.0).fit(mdp)
        assert impact.deviation[0, :, 0].tolist() == expected


# A policy in place of the no-op


@settings(max_examples=80)
@given(mdps(max_states=4), st.data())
def test_the_name_of_an_action_as_policy_is_that_action_as_no_op(mdp, data):
    number = data.draw(st.integers(0, mdp.num_actions - 1))
    other = replace(mdp, noop=number)
    penalty = data.draw(penalties_of_any_kind(other, policy=None, scales=["none", "per-value", "sum"]))
    if penalty.baseline in ("inaction", "policy"):
        penalty = replace(penalty, baseline="policy", inaction="exact")
    named = replace(penalty, policy=mdp.actions[number]).fit(mdp)
    table = replace(penalty, policy=[number] * mdp.num_states).fit(mdp)
    plain = replace(penalty, baseline="inaction" if penalty.baseline == "policy" else penalty.baseline, policy=None)
    expected = plain.fit(other)
    assert (named.deviation == table.deviation).all()
    np.testing.assert_allclose(named.deviation, expected.deviation, rtol=1e-13, atol=1e-13)


def test_a_default_policy_by_hand():
    # The policy of the house: in 0 go to 1, in 1 to 2, in 2 stay. Doing nothing stays everywhere.
    mdp = compile_mdp(steps([0, 1], [1, 2], [2, 2]))
    heat = {"deviation": "features", "features": {"heat": lambda s: [0.0, 1.0, 5.0][s]}}
    followed = Penalty(baseline="policy", policy=(1, 1, 0), **heat).fit(mdp)
    x, charged = followed.start_index(0), []
    for a in (0, 1, 1):
        charged.append(float(followed.deviation[x, a, 0]))
        x = followed.mdp.next_state[x, a, 0]
    assert charged == [1, 4, 0]  # in 0, 1, 2 where the policy is in 1, 2, 2
    single = Penalty(baseline="stepwise", policy=(1, 1, 0), **heat).fit(mdp)
    assert single.deviation[:, :, 0].tolist() == [[1, 0], [4, 0], [0, 0]]


def test_the_random_policy_is_a_distribution_over_all_actions():
    mdp = compile_mdp(steps([0, 1, 2], [1] * 3, [2] * 3))
    heat = {"deviation": "features", "features": {"heat": lambda s: [0.0, 1.0, 5.0][s]}, "baseline": "policy"}
    for named in ({}, {"policy": "random"}):
        outside = Penalty(inaction="exact", **heat, **named).fit(mdp)
        assert outside.penalty.policy == "random"
        x = outside.start_index(0)
        expected = [(0 + 1 + 5) / 3, (1 + 0 + 4) / 3, (5 + 4 + 0) / 3]
        np.testing.assert_allclose(outside.deviation[x, :, 0], expected, rtol=0, atol=1e-14)
    inside = Penalty(inaction="exact", expectation="inside", **heat).fit(mdp)
    np.testing.assert_allclose(inside.deviation[inside.start_index(0), :, 0], [2, 1, 3], rtol=0, atol=1e-14)


# Exact courses


@given(mdps(max_states=5, ends=False), st.data())
def test_the_exact_course_is_a_power_of_the_matrix_of_doing_nothing(mdp, data):
    assume(mdp.noop is not None)
    heat = data.draw(utility_tables(mdp, columns=1))[:, 0]
    features = {"heat": lambda s: heat[mdp.index(s)]}
    inside = Penalty(
        deviation="features", features=features, baseline="inaction", inaction="exact", expectation="inside"
    ).fit(mdp)
    outside = replace(inside.penalty, expectation="outside").fit(mdp)
    matrix = dense(mdp, [mdp.noop] * mdp.num_states)
    rng = np.random.default_rng(0)
    s = int(rng.choice(mdp.num_states, p=mdp.start))
    x, mass = inside.start_index(s), np.eye(mdp.num_states)[s]
    for _ in range(mdp.time_limit):
        mass = mass @ matrix
        a = int(rng.integers(mdp.num_actions))
        chance = inside.mdp.probability[x, a]
        after = inside.state[inside.mdp.next_state[x, a]]
        expected = abs(mass @ heat - chance @ heat[after])
        assert inside.deviation[x, a, 0] == pytest.approx(expected, abs=1e-12)
        for k in np.flatnonzero(chance):
            assert outside.deviation[x, a, k] == pytest.approx(mass @ np.abs(heat - heat[after[k]]), abs=1e-12)
        x = int(inside.mdp.next_state[x, a, np.flatnonzero(chance)[-1]])


def test_an_expectation_inside_forgives_chance_by_hand():
    # Doing nothing throws a coin between heat 0 and 4; action 1 makes heat 2 for sure.
    rules = {(0, 0): [Outcome(1, probability=0.5), Outcome(2, probability=0.5)], (0, 1): [Outcome(3)]}
    rules |= {(s, a): [Outcome(s)] for s in (1, 2, 3) for a in (0, 1)}
    mdp = compile_mdp(RuleWorld(rules=rules, first=[(1.0, 0)]))
    heat = {"deviation": "features", "features": {"heat": lambda s: [2.0, 0.0, 4.0, 2.0][s]}}
    outside, inside = (Penalty(expectation=e, **heat).fit(mdp).deviation[0] for e in ("outside", "inside"))
    assert outside.tolist() == [[2, 2], [2, 0]]  # 0 against 0 and 4, 4 against 0 and 4; 2 against 0 and 4
    assert inside.tolist() == [[0, 0], [0, 0]]


# A baseline of one's own


class Previous(Baseline):
    """The state just left."""

    forgetful = True

    def initial(self, graph, node):  # noqa: ARG002
        return node

    def advance(self, graph, memory, node, action):  # noqa: ARG002
        return node

    def reference(self, graph, memory):  # noqa: ARG002
        return certain(memory)


class Toggle(Baseline):
    """The first state and the state just left, in turn: a memory that is no node."""

    def memories(self, graph):
        return 2 * graph.size * graph.size

    def initial(self, graph, node):
        return 2 * (node * graph.size + node)

    def advance(self, graph, memory, node, action):  # noqa: ARG002
        first = memory // 2 // graph.size
        return 2 * (first * graph.size + node) + 1 - memory % 2

    def reference(self, graph, memory):
        pair = memory // 2
        return certain(np.where(memory % 2 == 0, pair // graph.size, pair % graph.size))


@given(mdps(max_states=5), st.sampled_from([0.5, 1.0]), st.sampled_from(["previous", "absorbing"]))
def test_unreachability_of_the_state_just_left_is_step_reversibility(mdp, discount, terminal):
    settings = {"discount": discount, "terminal": terminal}
    own = Penalty(deviation="unreachability", baseline=Previous(), **settings).fit(mdp)
    built_in = Penalty(deviation="step_reversibility", **settings).fit(mdp)
    assert (own.deviation == built_in.deviation).all()


def test_step_reversibility_by_hand():
    # 0 and 1 lead to each other, 1 also to 2, for good; with discount 1/2 the way back is worth 1/2.
    mdp = compile_mdp(steps([0, 1], [0, 2], [2, 2]))
    deviation = Penalty(deviation="step_reversibility", discount=0.5).fit(mdp).deviation[:, :, 0]
    assert deviation.tolist() == [[0, 0.5], [0.5, 1], [0, 0]]
    for baseline in ("start", "inaction", "average"):  # whatever else is compared with
        other = Penalty(deviation="step_reversibility", discount=0.5, baseline=baseline).fit(mdp)
        assert (other.deviation[:, :, 0] == deviation).all()


@given(mdps(max_states=4), st.integers(0, 99))
def test_a_memory_of_ones_own_is_followed(mdp, seed):
    impact = Penalty(deviation="unreachability", baseline=Toggle(), discount=0.5, terminal="absorbing").fit(mdp)
    reach = reachability(state_graph(mdp, "absorbing"), discount=0.5)
    path = random_walk(mdp, np.random.default_rng(seed), 7)
    found = [deviation for deviation, _ in looked_up(impact, path)]
    expected = [1 - reach[z, s if t % 2 == 0 else path[0][0]] for t, (s, _, z) in enumerate(path)]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
