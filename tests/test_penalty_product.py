"""The product of a task with the memory of a baseline: which pairs there are, which of them a step is charged for."""

from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from penalty_cases import EVERY_BASELINE, carried_over, looked_up, penalties_of_any_kind, precision
from random_mdps import RuleWorld, level, mdps, random_walk, steps, tolerance, worlds

from impactrl.compile import compile_mdp
from impactrl.envs.conveyor import ConveyorVase
from impactrl.measures.penalty import Penalty
from impactrl.world import Outcome

TERMINAL = st.sampled_from(["previous", "absorbing"])


def found_from_the_start(mdp):
    """The states that can occur, by networkx."""
    graph = nx.DiGraph((int(x), int(mdp.next_state[x, a, k])) for x, a, k in np.argwhere(mdp.probability > 0))
    first = np.flatnonzero(mdp.start).tolist()
    return set().union(*(nx.descendants(graph, x) | {x} for x in first))


@settings(max_examples=100)
@given(mdps(), st.sampled_from([b for b in EVERY_BASELINE if b != "none"]), st.data())
def test_the_product_is_the_task_itself_with_a_memory(mdp, baseline, data):
    assume(mdp.noop is not None or baseline != "inaction")
    penalty = data.draw(
        penalties_of_any_kind(
            mdp, deviations=["relative_reachability", "features"], baselines=[baseline], rollouts=[False, True]
        )
    )
    impact = penalty.fit(mdp)
    pair = impact.mdp
    assert len({(s, m) for s, m in zip(impact.state, impact.memory, strict=True)}) == pair.num_states
    for name in ("reward", "performance", "side_effect", "probability", "terminal", "completed"):
        assert (getattr(pair, name) == getattr(mdp, name)[impact.state]).all(), name
    real = pair.probability > 0
    assert (impact.state[pair.next_state][real] == mdp.next_state[impact.state][real]).all()
    assert np.bincount(impact.state, pair.start, mdp.num_states).tolist() == mdp.start.tolist()
    assert found_from_the_start(pair) == set(range(pair.num_states))


@given(mdps(), st.integers(1, 5), st.data())
def test_a_plan_ends_after_its_steps_and_is_the_task_until_then(mdp, horizon, data):
    penalty = data.draw(
        penalties_of_any_kind(
            mdp, deviations=["relative_reachability"], rollouts=["end"], scales=["none"], horizon=horizon
        )
    )
    impact = penalty.fit(mdp)
    pair = impact.mdp
    to_go = np.array([state.to_go for state in pair.states])
    assert pair.time_limit == min(horizon, mdp.time_limit)
    assert (to_go[pair.start > 0] == horizon).all()
    assert (pair.terminal == (mdp.terminal[impact.state] | (to_go == 0))).all()
    assert found_from_the_start(pair) == set(range(pair.num_states))
    for x, a, k in np.argwhere(pair.probability > 0):
        y = pair.next_state[x, a, k]
        if pair.terminal[x]:
            assert x == y
            assert pair.reward[x, a, k] == impact.deviation[x, a, k] == 0
        else:
            assert to_go[y] == to_go[x] - 1
            assert impact.state[y] == mdp.next_state[impact.state[x], a, k]
            assert pair.reward[x, a, k] == mdp.reward[impact.state[x], a, k]


def test_a_pair_says_what_is_compared_and_is_drawn_as_the_state():
    mdp = level("Offset")
    impact = Penalty(baseline="inaction").fit(mdp)
    x = impact.mdp.next_state[impact.start_index(0), 2, 0]
    left, idle = mdp.next_state[0, 2, 0], mdp.next_state[0, mdp.noop, 0]
    assert impact.mdp.states[x] == (mdp.states[left], mdp.states[idle], 0)
    assert impact.mdp.board_text(x) == mdp.board_text(left)
    assert impact.mdp.index(impact.mdp.states[x]) == x
    assert Penalty(deviation="future_tasks", baseline="none").fit(mdp).mdp is mdp  # nothing to remember


def test_the_product_of_a_task_with_a_state_out_of_reach_has_the_pairs_that_occur():
    # Doing nothing leads from 0 to 1 for ever, action 1 stays: pairs 0 0, 0 1 and 1 1. Nothing leads to 2.
    mdp = compile_mdp(replace(steps([1, 0], [1, 1], [2, 2]), first=[(0.5, 0), (0.5, 2)]))
    mdp = replace(mdp, start=np.eye(3)[0])
    impact = Penalty(baseline="inaction", discount=1.0).fit(mdp)
    assert sorted(mdp.states[s] for s in impact.state) == [0, 0, 1]
    real = impact.mdp.probability > 0
    assert (impact.state[impact.mdp.next_state][real] == mdp.next_state[impact.state][real]).all()


@given(mdps(), TERMINAL)
def test_the_reward_less_the_weighted_impact_is_what_the_agent_is_paid(mdp, terminal):
    assume(mdp.noop is not None)
    impact = Penalty(nonterminal_weight=0.25, terminal=terminal, weight=3.0).fit(mdp)
    paid = impact.penalised_reward(3.0)
    for x, a, k in np.argwhere(impact.mdp.probability > 0):
        factor = 1.0 if impact.mdp.terminal[impact.mdp.next_state[x, a, k]] else 0.25
        expected = impact.mdp.reward[x, a, k] - 3.0 * factor * impact.deviation[x, a, k]
        assert paid[x, a, k] == pytest.approx(expected, abs=1e-15)
        assert impact.columns[x, a, k, 3] == pytest.approx(factor * impact.deviation[x, a, k], abs=1e-15)


def test_the_last_step_is_charged_for_the_pair_before_it_by_hand():
    # 0 > 1 > 2 (the end). From 0 nothing returns: after the first step 1 of the 2 states that count is lost.
    mdp = compile_mdp(steps([0, 1], [1, 2], None))
    for baseline, after_waiting in [("start", 0.5), ("inaction", 0.5), ("stepwise", 0.0)]:
        impact = Penalty(baseline=baseline, discount=1.0, terminal="previous", nonterminal_weight=0.1).fit(mdp)

        def charged(*actions, impact=impact):
            x, total = 0, []
            for a in actions:
                total.append(float(impact.unit_penalty[x, a, 0]))
                x = impact.mdp.next_state[x, a, 0]
            return total

        assert charged(1, 1) == [0.05, 0.5]
        assert charged(1, 0, 1) == [0.05, 0.1 * after_waiting, after_waiting]


def test_the_pair_before_the_first_step_is_the_start_with_itself_by_hand():
    # 0: doing nothing leads to 1, for ever; 0 can stay, and it can end (2). 0 has what 1 has, and 0 itself.
    mdp = compile_mdp(steps([1, 0, 2], [1, 1, 1], None))
    impact = Penalty(summary="increase", discount=1.0, terminal="previous", baseline="stepwise").fit(mdp)
    x = impact.start_index(0)
    assert impact.deviation[x, 2, 0] == 0  # 0 against 0
    y = int(impact.mdp.next_state[x, 1, 0])
    assert impact.deviation[x, 1, 0] == 0.5  # 0 against 1
    assert impact.deviation[y, 2, 0] == 0.5  # 0 against 1, the pair of the step before
    z = int(impact.mdp.next_state[y, 1, 0])
    assert impact.deviation[z, 2, 0] == 0.5
    assert (impact.state[[x, y, z]] == 0).all()
    assert x != y == z


def test_a_random_noop_makes_the_stepwise_baseline_an_expectation_by_hand():
    # 0: doing nothing, a coin decides between 0 and 1; going leads to 2. 1 and 2 are for ever.
    rules = {(0, 0): [Outcome(0, probability=0.5), Outcome(1, probability=0.5)], (0, 1): [Outcome(2)]}
    rules |= {(s, a): [Outcome(s)] for s in (1, 2) for a in (0, 1)}
    mdp = compile_mdp(RuleWorld(rules=rules, first=[(1.0, 0)]))
    impact = Penalty(discount=1.0).fit(mdp)  # reachable from 0, 1, 2: all, 1 alone, 2 alone
    expected = [
        [0, (2 / 3 + 0) / 2],  # outcome 0 against 0 and 1; outcome 1 against 0 and 1
        [(2 / 3 + 1 / 3) / 2, 0],  # outcome 2 against 0 and 1; no second outcome
    ]
    np.testing.assert_allclose(impact.deviation[0], expected, rtol=0, atol=1e-14)


def test_a_task_that_is_over_from_the_start_has_no_impact():
    assert not Penalty(terminal="previous").fit(compile_mdp(steps(None, [0, 0]))).deviation.any()


def test_an_episode_of_one_step_is_charged_nothing_under_the_rule_previous():
    mdp = compile_mdp(steps([0, 1], None))
    for baseline in ("start", "inaction", "stepwise"):
        for deviation in ("unreachability", "relative_reachability"):
            settings = {"deviation": deviation, "baseline": baseline, "discount": 1.0}
            assert Penalty(terminal="previous", **settings).fit(mdp).deviation[0, 1, 0] == 0
            assert Penalty(terminal="absorbing", **settings).fit(mdp).deviation[0, 1, 0] > 0


# Bookkeeping


def lumped(world, mdp):
    """The task whose states are the situations; only what the measure needs."""
    rules = {
        (world.situation(s), a): [Outcome(world.situation(o.state), probability=o.probability) for o in outcomes]
        for s in mdp.states
        if not world.terminal(s)
        for a in range(mdp.num_actions)
        for outcomes in [world.outcomes(s, a)]
    }
    return compile_mdp(
        RuleWorld(
            rules=rules,
            first=[(p, world.situation(s)) for p, s in world.start()],
            ends=frozenset(world.situation(s) for s in mdp.states if world.terminal(s)),
            actions=world.actions,
            noop=world.noop,
        )
    )


@pytest.mark.parametrize("baseline", ["start", "inaction", "stepwise"])
@pytest.mark.parametrize("deviation", ["unreachability", "relative_reachability", "attainable_utility"])
def test_the_vase_is_judged_as_if_its_story_were_not_written_down(deviation, baseline):
    world, mdp = ConveyorVase(), level("ConveyorVase")
    plain = lumped(world, mdp)
    assert (mdp.num_states, plain.num_states) == (398, 370)
    number = [plain.index(world.situation(s)) for s in mdp.states]
    settings = {"deviation": deviation, "baseline": baseline, "discount": 0.95, "rollout": baseline == "stepwise"}
    if deviation == "attainable_utility":
        table = np.random.default_rng(3).random((plain.num_states, 2))
        ours = Penalty(utilities=table[number], **settings).fit(mdp)
        theirs = Penalty(utilities=table, **settings).fit(plain)
    else:
        ours, theirs = Penalty(**settings).fit(mdp), Penalty(**settings).fit(plain)
    if baseline == "stepwise":
        np.testing.assert_allclose(ours.deviation, theirs.deviation[number], **tolerance(theirs.penalty))
        return
    rng, told = np.random.default_rng(5), 0
    for _ in range(30):
        path = random_walk(mdp, rng, 60)
        told += any(mdp.states[z].removed for _, _, z in path)
        short = [(number[s], a, number[z]) for s, a, z in path]
        np.testing.assert_allclose(looked_up(ours, path), looked_up(theirs, short), **tolerance(theirs.penalty))
    assert told


@settings(max_examples=100)
@given(worlds(max_states=4), st.sets(st.tuples(st.integers(0, 3), st.integers(0, 2))), st.data())
def test_a_note_in_the_state_changes_no_deviation(world, writes, data):
    rules = {
        ((s, note), a): [o._replace(state=(o.state, note or (s, a) in writes)) for o in outcomes]
        for (s, a), outcomes in world.rules.items()
        for note in (False, True)
    }
    noted = compile_mdp(
        replace(
            world,
            rules=rules,
            first=[(p, (s, False)) for p, s in world.first],
            ends=frozenset((s, note) for s in world.ends for note in (False, True)),
            done=None,
            seen_as=lambda state: state[0],
        )
    )
    plain = compile_mdp(world)
    number = [plain.index(s) for s, _ in noted.states]
    penalty = data.draw(penalties_of_any_kind(plain, goals="all"))
    ours = carried_over(penalty, plain, noted, number)
    with_note, without = ours.fit(noted), penalty.fit(plain)
    rng = np.random.default_rng(1)
    for path in (random_walk(noted, rng, penalty.horizon if penalty.rollout == "end" else 10) for _ in range(3)):
        short = [(number[s], a, number[z]) for s, a, z in path]
        np.testing.assert_allclose(looked_up(with_note, path), looked_up(without, short), **precision(penalty))
