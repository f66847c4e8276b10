"""Sampled inaction: one course of doing nothing that shares the world's random numbers, step by step."""

from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from penalty_cases import penalties_of_any_kind
from random_mdps import RuleWorld, mdps, steps

from impactrl.compile import compile_mdp
from impactrl.measures.penalty import Penalty
from impactrl.measures.state_graph import state_graph
from impactrl.world import Outcome

GRID = (np.arange(60) + 0.5) / 60
"""Random numbers that hit every outcome of random worlds as often as it is likely: chances are sixtieths there."""


def outcome_of(mdp, s, a, number):
    """What a world's outcome list makes of a number in [0, 1)."""
    return int(mdp.next_state[s, a, np.searchsorted(mdp.probability[s, a].cumsum(), number, side="right")])


def simulated(mdp, graph, s, a, memory, choice):
    """{(state, node of the baseline): chance} after one step, number by number; `choice` is the baseline's action."""
    found = Counter()
    other = int(graph.state[memory])
    for number in GRID:
        after = int(graph.node[outcome_of(mdp, other, choice[other], number)])
        found[outcome_of(mdp, s, a, number), memory if after < 0 else after] += 1 / 60
    return found


@st.composite
def sampled(draw):
    mdp = draw(mdps(max_states=5, max_outcomes=2))
    assume(mdp.noop is not None)
    policy = draw(st.sampled_from([None, tuple((np.arange(mdp.num_states) % mdp.num_actions).tolist())]))
    penalty = Penalty(
        deviation="unreachability",
        baseline="inaction" if policy is None else "policy",
        policy=policy,
        inaction="sampled",
        discount=draw(st.sampled_from([0.5, 1.0])),
        terminal=draw(st.sampled_from(["previous", "absorbing"])),
    )
    return mdp, penalty


@settings(max_examples=150)
@given(sampled())
def test_every_step_is_a_simulation_with_one_random_number(task):
    mdp, penalty = task
    impact, graph = penalty.fit(mdp), state_graph(mdp, penalty.terminal, penalty.policy)
    choice = [mdp.noop] * mdp.num_states if penalty.policy is None else penalty.policy
    pair = impact.mdp
    for x in np.flatnonzero(~pair.terminal):
        for a in range(mdp.num_actions):
            s, memory = int(impact.state[x]), int(impact.memory[x])
            expected = simulated(mdp, graph, s, a, memory, choice)
            found = defaultdict(float)
            for k in np.flatnonzero(pair.probability[x, a]):
                y = pair.next_state[x, a, k]
                found[int(impact.state[y]), int(impact.memory[y])] += pair.probability[x, a, k]
            kept = Counter()
            for (z, m), chance in expected.items():
                kept[z, -1 if graph.node[z] < 0 else m] += chance  # at the end the baseline is forgotten
            assert set(found) == set(kept)
            for key, chance in kept.items():
                assert found[key] == pytest.approx(chance, abs=1e-12)


@settings(max_examples=60)
@given(sampled())
def test_each_side_for_itself_follows_its_own_law(task):
    mdp, penalty = task
    impact, graph = penalty.fit(mdp), state_graph(mdp, penalty.terminal, penalty.policy)
    pair, idle = impact.mdp, graph.idle.toarray()
    for x in np.flatnonzero(~pair.terminal):
        for a in range(mdp.num_actions):
            agent, baseline = np.zeros(mdp.num_states), np.zeros(graph.size)
            for k in np.flatnonzero(pair.probability[x, a]):
                y = pair.next_state[x, a, k]
                agent[impact.state[y]] += pair.probability[x, a, k]
                baseline[impact.memory[y]] += pair.probability[x, a, k] * (impact.memory[y] >= 0)
            law = np.bincount(mdp.next_state[impact.state[x], a], mdp.probability[impact.state[x], a], mdp.num_states)
            np.testing.assert_allclose(agent, law, rtol=0, atol=1e-12)
            if (graph.node[law > 0] >= 0).all():
                np.testing.assert_allclose(baseline, idle[impact.memory[x]], rtol=0, atol=1e-12)


@settings(max_examples=80)
@given(mdps(max_states=5), st.data())
def test_doing_nothing_from_the_start_on_is_the_baseline_itself(mdp, data):
    assume(mdp.noop is not None)
    deviations = [
        "relative_reachability",
        "attainable_utility",
        "unreachability",
        "features",
        "whitelist",
        "importance",
    ]
    penalty = data.draw(
        penalties_of_any_kind(
            mdp,
            deviations=deviations,
            baselines=["inaction"],
            scales=["none", "per-value", "sum"],
            rollouts=[False, "end"],
            sampled=True,
        )
    )
    if penalty.deviation == "unreachability" and penalty.rollout is False:
        penalty = replace(penalty, horizon=None)
    pairs_part = penalty.rollout and penalty.deviation in ("unreachability", "whitelist")  # rollouts are independent
    assume(not pairs_part)
    impact = penalty.fit(mdp)
    graph = state_graph(mdp, penalty.terminal)
    ahead = list(np.flatnonzero(impact.mdp.start))
    for _ in range(6):
        ahead = [x for x in ahead if not impact.mdp.terminal[x]]
        for x in ahead:
            assert impact.memory[x] == graph.node[impact.state[x]]
        real = [impact.mdp.probability[x, mdp.noop] > 0 for x in ahead]
        for x, there in zip(ahead, real, strict=True):
            np.testing.assert_allclose(impact.deviation[x, mdp.noop][there], 0, rtol=0, atol=1e-9)
        ahead = {
            int(y) for x, there in zip(ahead, real, strict=True) for y in impact.mdp.next_state[x, mdp.noop][there]
        }


def test_the_order_in_which_a_world_lists_its_outcomes_is_that_of_the_random_numbers():
    # Going from 0 leads to 1 or 2, in this order; doing nothing leads to 2 or 1, in that order.
    both = [Outcome(1, probability=0.5), Outcome(2, probability=0.5)]
    rules = {(0, 0): both, (0, 1): both[::-1]} | {(s, a): [Outcome(s)] for s in (1, 2) for a in (0, 1)}
    mdp = compile_mdp(RuleWorld(rules=rules, first=[(1.0, 0)], actions=("go", "noop"), noop=1))
    impact = Penalty(deviation="unreachability", baseline="inaction", inaction="sampled", discount=1.0).fit(mdp)

    def expected(a):
        return float((impact.mdp.probability[0, a] * impact.deviation[0, a]).sum())

    assert expected(1) == 0  # the same numbers, the same outcomes
    assert expected(0) == 1  # the same numbers, always the other one
    exact = Penalty(deviation="unreachability", baseline="inaction", inaction="exact", discount=1.0).fit(mdp)
    assert exact.deviation[0, 0, 0] == exact.deviation[0, 1, 0] == 0.5  # independent of each other


def test_chance_that_agent_and_baseline_share_is_no_impact():
    # Rain falls with 1/3 wherever the agent is (a or b); moving from a to b is all that it does.
    def weather(place):
        return [Outcome((place, "wet"), probability=1 / 3), Outcome((place, "dry"), probability=2 / 3)]

    rules = {((p, w), a): weather(p if a == 0 else "b") for p in "ab" for w in ("wet", "dry") for a in (0, 1)}
    mdp = compile_mdp(RuleWorld(rules=rules, first=[(1.0, ("a", "dry"))]))
    wet = {"features": {"wet": lambda s: float(s[1] == "wet")}, "deviation": "features"}
    shared = Penalty(baseline="inaction", inaction="sampled", **wet).fit(mdp)
    assert not shared.deviation[shared.mdp.probability > 0].any()
    exact = Penalty(baseline="inaction", inaction="exact", **wet).fit(mdp)
    assert exact.deviation[exact.mdp.probability > 0].min() == pytest.approx(1 / 3)


def test_the_end_of_an_episode_forgets_the_baseline():
    rules = {(0, 0): [Outcome(0, probability=0.5), Outcome(1, probability=0.5)], (0, 1): [Outcome(2)]}
    rules |= {(1, a): [Outcome(1)] for a in (0, 1)}
    mdp = compile_mdp(RuleWorld(rules=rules, first=[(1.0, 0)], ends=frozenset([2])))
    impact = Penalty(deviation="unreachability", baseline="inaction", inaction="sampled", discount=1.0).fit(mdp)
    over = impact.mdp.terminal
    assert over.sum() == 1
    assert impact.memory[over].tolist() == [-1]
    assert not impact.deviation[over].any()


def test_what_was_seen_of_the_agent_narrows_down_where_the_baseline_is():
    # In 0 doing nothing and going list the same odds: seeing the agent in 1 says that the baseline is in 1, too.
    odds = [Outcome(1, probability=0.25), Outcome(2, probability=0.75)]
    other = [Outcome(1, probability=0.5), Outcome(2, probability=0.5)]
    rules = {(0, 0): odds, (0, 1): odds, (0, 2): other} | {(s, a): [Outcome(s)] for s in (1, 2) for a in range(3)}
    mdp = compile_mdp(RuleWorld(rules=rules, first=[(1.0, 0)], actions=("noop", "same", "other")))
    impact = Penalty(deviation="unreachability", baseline="inaction", inaction="sampled", discount=1.0).fit(mdp)
    rng = np.random.default_rng(0)

    def baselines(action, state, draws=3000):
        seen = Counter(impact.follow(0, action, state, rng)[1] for _ in range(draws))
        return {int(impact.memory[x]): count / draws for x, count in seen.items()}

    assert baselines(1, 1) == {1: 1.0}
    assert baselines(1, 2) == {2: 1.0}
    # With the other odds the agent is in 1 for numbers below 1/2, the baseline for those below 1/4.
    assert baselines(2, 2) == {2: 1.0}
    assert baselines(2, 1)[1] == pytest.approx(0.5, abs=0.04)  # four standard errors


# The exact distribution


def test_rounding_does_not_make_new_distributions():
    # Every action stays; the shares of all that can happen, 1/3 + 1/3 + 1/9 + 2/9, add up to a little less than 1.
    rules = {(0, 0): [Outcome(0)], (0, 1): [Outcome(0)]}
    rules[0, 2] = [Outcome(0, reward=1.0, probability=1 / 3), Outcome(0, probability=2 / 3)]
    mdp = compile_mdp(RuleWorld(rules=rules, first=[(1.0, 0)], actions=("a", "b", "c"), noop=None))
    assert state_graph(mdp, "previous", "random").idle.toarray() != 1
    impact = Penalty(baseline="policy", policy="random", inaction="exact").fit(mdp)
    assert impact.mdp.num_states == 1


def test_an_exact_course_goes_on_to_the_time_limit_from_every_start():
    # Doing nothing runs 0 > 1 > 2 > 3 > 4 for good; episodes start in 0 or 1. The course of 1 is part of that of 0.
    world = replace(steps([1, 0], [2, 1], [3, 2], [4, 3], [4, 4]), first=[(0.5, 0), (0.5, 1)], time_limit=2)
    mdp = compile_mdp(world)
    impact = Penalty(deviation="unreachability", baseline="inaction", inaction="exact", discount=1.0).fit(mdp)
    for start in (0, 1):
        x, charged = impact.start_index(mdp.index(start)), []
        for _ in range(2):
            charged.append(float(impact.deviation[x, mdp.noop, 0]))
            x = impact.mdp.next_state[x, mdp.noop, 0]
        assert charged == [0, 0]


@settings(max_examples=60)
@given(mdps(max_states=4, noop="certain"), st.data())
def test_where_the_course_is_certain_all_three_baselines_are_one(mdp, data):
    penalty = data.draw(
        penalties_of_any_kind(mdp, baselines=["inaction"], scales=["none", "per-value"], expectation="outside")
    )
    assume(penalty.deviation != "detectability")
    plain, exact, drawn = (replace(penalty, inaction=i).fit(mdp) for i in (None, "exact", "sampled"))
    rng = np.random.default_rng(0)
    places = [int(np.flatnonzero(i.mdp.start)[0]) for i in (plain, exact, drawn)]
    for _ in range(mdp.time_limit):
        if plain.mdp.terminal[places[0]]:
            break
        a = int(rng.integers(mdp.num_actions))
        chance = plain.mdp.probability[places[0], a]
        target = int(plain.state[plain.mdp.next_state[places[0], a, rng.choice(len(chance), p=chance)]])
        charges = []
        for i, impact in enumerate((plain, exact, drawn)):
            k, following = impact.follow(places[i], a, target, rng)
            charges.append(impact.deviation[places[i], a, k])
            places[i] = following
        np.testing.assert_allclose(charges, charges[0], rtol=1e-9, atol=1e-12)
