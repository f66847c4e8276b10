"""The agent that learns its impact: its model against search from scratch, its runs against the slow learner."""

from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_mdps import level, mdps, penalties, steps
from slow_learners import assert_learned, slow_impact_learner

from impactrl.agents.impact_kernels import improve, shorten
from impactrl.agents.impact_learner import DIAGNOSTICS, ImpactLearner, train_impact_learner
from impactrl.agents.planner import Planner, plan
from impactrl.agents.q_learning import QLearning, train
from impactrl.compile import compile_mdp
from impactrl.dynamic_programming import optimal_values
from impactrl.errors import ImpactError
from impactrl.measures.impact import COLUMNS
from impactrl.measures.penalty import Penalty
from impactrl.runs.execution import execute
from impactrl.runs.specification import Environment, RunSpecification

AU = {"deviation": "attainable_utility", "discount": 0.8, "utilities": 2}
CASES = {
    "none": {"deviation": "none"},
    "UR inaction": {"deviation": "unreachability", "baseline": "inaction"},
    "UR rollout": {"deviation": "unreachability", "rollout": True, "rollout_discount": 0.8},
    "RR": {},
    "RR rollout": {"rollout": True, "rollout_discount": 0.9},
    "RR inaction sum": {"baseline": "inaction", "scale": "sum", "discount": 1.0},
    "RR start": {"baseline": "start", "summary": "absolute", "scale": "per-value", "terminal": "absorbing"},
    "AU": {**AU, "scale": "discount", "nonterminal_weight": 0.3},
    "AU inaction rollout": {**AU, "baseline": "inaction", "rollout": True, "scale": "sum"},
    "RR limit": {"time_limit_ends": True, "nonterminal_weight": 0.1, "rollout": True, "rollout_discount": 0.5},
    "UR inaction limit": {"deviation": "unreachability", "baseline": "inaction", "time_limit_ends": True},
    "AU start": {**AU, "baseline": "start", "summary": "decrease", "scale": "per-value"},
}


def learned(name, penalty, *, weights=(0.7,), seeds=(5,), threads=1, **settings):
    mdp = level(name) if isinstance(name, str) else name
    impact = Penalty(**penalty).fit(mdp)
    return train_impact_learner(mdp, impact, ImpactLearner(**settings), weights=weights, seeds=seeds, threads=threads)


def diagnostics(training, name):
    return training.diagnostics[:, :, DIAGNOSTICS.index(name)]


# Against the slow learner


@pytest.mark.parametrize("noop", ["learned", "exact"])
@pytest.mark.parametrize("case", CASES)
def test_learning_is_that_of_the_slow_learner_bit_for_bit(case, noop):
    mdp = level("Options")
    impact = Penalty(**CASES[case]).fit(mdp)
    settings = ImpactLearner(episodes=8, learning_rate=0.3, evaluate_every=3, noop=noop)
    ours = train_impact_learner(mdp, impact, settings, weights=[0.7], seeds=[5])
    assert_learned(ours, slow_impact_learner(mdp, impact, settings, 0.7, 5))


@given(mdps(max_states=5, max_outcomes=1, max_starts=3), st.integers(0, 99), st.data())
def test_learning_in_a_random_world_is_that_of_the_slow_learner_bit_for_bit(mdp, seed, data):
    penalty = data.draw(penalties(mdp))
    if penalty.deviation == "attainable_utility":
        penalty = replace(penalty, utilities=2)  # drawn ones have no ties, which rounding would break
    settings = ImpactLearner(
        episodes=12,
        learning_rate=data.draw(st.sampled_from([0.25, 1.0])),
        evaluate_every=5,
        noop=data.draw(st.sampled_from(["learned", "exact"])),
    )
    impact = replace(penalty, time_limit_ends=data.draw(st.booleans())).fit(mdp)
    ours = train_impact_learner(mdp, impact, settings, weights=[1.5], seeds=[seed])
    assert_learned(ours, slow_impact_learner(mdp, impact, settings, 1.5, seed))


@pytest.mark.parametrize("penalty", [{"deviation": "none"}, {"baseline": "inaction"}], ids=["none", "weight 0"])
def test_without_a_charge_it_is_q_learning_on_the_state(penalty):
    mdp, common = level("Offset"), {"episodes": 200, "learning_rate": 0.5, "evaluate_every": 60}
    impact = Penalty(**penalty).fit(mdp)
    ours = train_impact_learner(mdp, impact, ImpactLearner(**common), weights=[0.0], seeds=[3])
    plain = train(impact, QLearning(**common, memory="state"), weights=[0.0], seeds=[3])
    for name in ("q", "history", "during", "steps", "row"):
        assert (getattr(ours, name) == getattr(plain, name)).all(), name


@pytest.mark.parametrize("case", ["RR rollout", "AU inaction rollout"])
def test_a_run_is_the_same_alone_in_a_batch_and_on_two_threads(case):
    settings = {"episodes": 40, "evaluate_every": 15}
    batch = {"weights": [0.0, 0.5, 2.0] * 4, "seeds": list(range(12))}
    one, two = (learned("Box", CASES[case], **batch, **settings, threads=threads) for threads in (1, 2))
    alone = learned("Box", CASES[case], weights=[0.5], seeds=[7], **settings)
    for name in ("q", "history", "during", "steps", "diagnostics"):
        assert (getattr(one, name) == getattr(two, name)).all(), name
        assert (getattr(one, name)[7:8] == getattr(alone, name)).all(), name


# The model, edge by edge

edges = st.integers(2, 7).flatmap(
    lambda n: st.tuples(st.just(n), st.lists(st.tuples(*[st.integers(0, n - 1)] * 2), max_size=3 * n))
)


@given(edges)
def test_distances_after_every_new_edge_are_those_of_a_search(drawn):
    size, pairs = drawn
    distance = np.where(np.eye(size, dtype=np.bool_), 0, size).astype(np.int32)
    graph = nx.empty_graph(size, create_using=nx.DiGraph)
    for tail, head in pairs:
        shorten(distance, tail, head)
        graph.add_edge(tail, head)
        for x, found in nx.all_pairs_shortest_path_length(graph):
            assert distance[x].tolist() == [found.get(y, size) for y in range(size)]


@given(edges, st.sampled_from([0.0, 0.5, 0.9, 0.99]), st.integers(0, 999))
def test_utilities_after_every_new_edge_are_those_of_value_iteration(drawn, discount, seed):
    size, pairs = drawn
    utility = np.random.default_rng(seed).uniform(-1, 1, size)
    values, choice = utility.copy(), np.full(size, -1)
    successor = np.full((size, max(1, len(pairs))), -2)
    for i, (tail, head) in enumerate(pairs):
        successor[tail, i] = head
        improve(values, choice, utility, successor, discount, tail, head)
        known = successor >= 0
        reward = np.where(known, utility[:, None], -np.inf)
        reward[~known.any(axis=1), 0] = utility[~known.any(axis=1)]
        followed = np.maximum(successor, 0).astype(np.int32)[:, :, None]
        exact = optimal_values(followed, known[:, :, None].astype(float), reward, discount=discount).values
        np.testing.assert_allclose(values, exact, rtol=0, atol=1e-9)


# By hand. With learning rate 1 and discount 0, action values are the last charges.

HAND = {"learning_rate": 1.0, "discount": 0.0, "epsilon_start": 0.0, "evaluate_every": 1}


def test_relative_reachability_is_averaged_over_the_states_seen():
    """0 -> 1 -> 2 -> 3, no way back; a step forward loses the states behind, of those that were seen."""
    world = replace(steps([1], [2], [3], [3], noop=None), time_limit=3)
    ours = learned(compile_mdp(world), {"baseline": "start", "discount": 1.0}, weights=[1.0], episodes=1, **HAND)
    # On the way 2, 3 and 4 states are seen, of which 1, 2 and 3 are lost.
    assert ours.q[0, :, 0].tolist() == [-1 / 2, -2 / 3, -3 / 4, 0]
    exact = [1 / 4, 2 / 4, 3 / 4]
    assert diagnostics(ours, "charge_error")[0, 0] == pytest.approx(np.mean([1 / 2 - 1 / 4, 2 / 3 - 2 / 4, 0]))
    assert ours.during[0, 0, COLUMNS.index("impact")] == pytest.approx(sum(exact))
    again = learned(compile_mdp(world), {"baseline": "start", "discount": 1.0}, weights=[1.0], episodes=2, **HAND)
    assert (-again.q[0, :3, 0]).tolist() == exact
    assert diagnostics(again, "charge_error")[0, 1] == 0


@pytest.mark.parametrize(("noop", "charge"), [("learned", 1.0), ("exact", 0.0)])
def test_doing_nothing_is_taken_to_change_nothing_until_it_was_tried(noop, charge):
    """Nobody can stay in 0: the no-op leads to 1, and so does "go". From there is no way back."""
    world = replace(steps([1, 1], [1, 1], noop=0), time_limit=2)
    mdp, penalty = compile_mdp(world), {"deviation": "unreachability", "discount": 1.0}
    # The agent is paid to go first, and never tries the no-op in 0.
    paid = replace(mdp, reward=np.where(np.arange(2)[None, :, None] == 1, 3.0, 0.0) * np.ones((2, 1, 1)))
    impact = Penalty(**penalty).fit(paid)
    settings = ImpactLearner(episodes=1, noop=noop, **{**HAND, "epsilon_start": 1.0, "epsilon_end": 1.0})
    seeds = range(20)
    ours = train_impact_learner(paid, impact, settings, weights=[1.0] * 20, seeds=seeds)
    went = ours.q[:, 0, 1] != 0  # the first action was "go"
    assert 0 < went.sum() < 20
    assert (ours.q[went, 0, 1] == 3 - charge).all()
    assert (ours.q[~went, 0, 0] == 0).all()  # having done nothing, the agent knows what that leads to


def test_what_utilities_are_worth_is_what_the_agent_has_seen_of_them():
    """0 -> 1 -> 2, which stays; one utility of 0, 1 and 4 there, discount 1/2."""
    mdp = compile_mdp(replace(steps([1], [2], [2], noop=None), time_limit=3))
    penalty = {"deviation": "attainable_utility", "baseline": "start", "discount": 0.5}
    penalty["utilities"] = ((0.0,), (1.0,), (4.0,))
    ours = learned(mdp, penalty, weights=[1.0], episodes=1, **HAND)
    # What is known of (V(0), V(1), V(2)) after each step: (1/2, 1, -), then (3/2, 3, 4), then (5/2, 5, 8).
    assert ours.q[0, :, 0].tolist() == [-(1 - 1 / 2), -(4 - 3 / 2), -(8 - 5 / 2)]
    assert diagnostics(ours, "max_error")[0, 0] < 1e-9
    again = learned(mdp, penalty, weights=[1.0], episodes=2, **HAND)
    np.testing.assert_allclose(again.q[0, :, 0], [-(5 - 5 / 2), -(8 - 5 / 2), -(8 - 5 / 2)], rtol=1e-12)


# What it converges to

MAZE = replace(
    steps(
        *([[0, 2, 1], [1, 0, 4], [2, 1, 5], [0, 6, 3], [7, 2, 4], [8, 6, 1], [4, 4, 3], [6, 0, 8]]),
        None,
        rewards=[[0, 1, -1], [2, 0, 0], [-1, 0, 0], [0, 0, 1], [1, 0, 0], [3, 0, 0], [0, -2, 0], [0, 1, 5], [0, 0, 0]],
    ),
    first=[(1 / 8, s) for s in range(8)],
)
EXPLORE = {"epsilon_end": 1.0, "learning_rate": 1.0, "discount": 0.8}


@pytest.mark.parametrize("noop", ["learned", "exact"])
@pytest.mark.parametrize("case", sorted(set(CASES) - {"none"}))
def test_when_every_action_was_tried_everywhere_all_is_exact(case, noop):
    ours = learned(compile_mdp(MAZE), CASES[case], episodes=400, evaluate_every=100, noop=noop, **EXPLORE)
    assert (diagnostics(ours, "states")[0, -2:] == 1).all()
    assert (diagnostics(ours, "actions")[0, -2:] == 1).all()
    np.testing.assert_allclose(diagnostics(ours, "max_error")[0, -2:], 0, atol=1e-9)
    np.testing.assert_allclose(diagnostics(ours, "charge_error")[0, -1], 0, atol=1e-9)


@pytest.mark.parametrize("case", ["UR rollout", "RR", "RR start", "AU"])
def test_on_a_level_errors_fall_to_nothing_as_the_world_is_seen(case):
    ours = learned("Options", CASES[case], episodes=60_000, evaluate_every=2000, seeds=[1], **EXPLORE)
    states, actions, error = (diagnostics(ours, name)[0] for name in ("states", "actions", "mean_error"))
    assert (np.diff(states) >= 0).all()
    assert (np.diff(actions) >= 0).all()
    assert (np.diff(error) <= 1e-12).all()  # of a deterministic world, more knowledge is never wrong
    assert states[0] < 1 or actions[0] < 1
    assert (states[-1], actions[-1]) == (1, 1)
    assert (error[actions == 1] < 1e-9).all()
    assert (diagnostics(ours, "charge_error")[0, 1:][actions[:-1] == 1] < 1e-9).all()


def test_action_values_converge_to_the_exact_ones_where_the_state_says_all():
    # With one first state, its baseline is no memory: what is learned on the state is learned on the product.
    mdp = level("Options")
    impact = Penalty(baseline="start", terminal="absorbing").fit(mdp)
    assert impact.mdp.num_states == mdp.num_states
    settings = ImpactLearner(episodes=200_000, evaluate_every=200_000, **EXPLORE)
    ours = train_impact_learner(mdp, impact, settings, weights=[0.5], seeds=[0])
    np.testing.assert_allclose(ours.q[0], plan(impact, Planner(discount=0.8), 0.5).q, rtol=0, atol=1e-9)


# As an agent of sweeps


def test_a_run_of_a_sweep_is_that_of_the_learner():
    agent = ImpactLearner(episodes=40, evaluate_every=15, noop="exact")
    run = RunSpecification(environment=Environment("Box"), penalty=Penalty(weight=0.5), agent=agent, seed=3)
    assert RunSpecification.from_json(run.to_json()) == run
    result = execute(run)
    mdp = level("Box")
    ours = train_impact_learner(mdp, Penalty().fit(mdp), agent, weights=[0.5], seeds=[run.seed_sequence()])
    assert (result.history == ours.history[0]).all()
    assert (result.training == ours.during[0]).all()
    assert result.steps == ours.steps[0]


# Bad input


@pytest.mark.parametrize(
    ("penalty", "said"),
    [
        ({"deviation": "features"}, "cannot learn a penalty with deviation='features', only with 'none' or"),
        ({"baseline": "average"}, "with baseline='average', only with 'start' or 'inaction' or 'stepwise'"),
        ({"goals": 5}, "with goals=5, only with 'all'; use QLearning, which knows its penalty"),
        ({"norm": "L2"}, "with norm='L2', only with 'L1'"),
        ({"scale": "max"}, "with scale='max'"),
        ({"rollout": "end", "horizon": 4}, "with rollout='end', only with False or True"),
    ],
)
def test_a_penalty_that_cannot_be_learned_is_refused(penalty, said):
    with pytest.raises(ImpactError, match=said):
        learned("Options", penalty, episodes=1)
    with pytest.raises(ImpactError, match=said):
        RunSpecification(environment=Environment("Options"), penalty=Penalty(**penalty), agent=ImpactLearner())


def test_a_world_with_chance_is_refused():
    with pytest.raises(ImpactError, match="needs a world without chance; use QLearning"):
        learned("FrozenLake-v1", {"baseline": "start"}, episodes=1)


def test_a_level_too_large_for_tables_of_pairs_is_refused(monkeypatch):
    monkeypatch.setattr("impactrl.agents.impact_learner.MAX_TABLE_BYTES", 1000)
    with pytest.raises(ImpactError, match="what 54 states have to do with each other takes 0 GiB per run; 0 GiB are"):
        learned("Options", {}, episodes=1)


def test_bad_settings_are_refused():
    with pytest.raises(ImpactError, match="noop must be one of 'learned', 'exact', not 'guessed'"):
        ImpactLearner(noop="guessed")
    with pytest.raises(ImpactError, match=r"learning_rate must be in \(0, 1\], not 2.0"):
        ImpactLearner(learning_rate=2.0)
    with pytest.raises(ImpactError, match="one weight and one seed per run: got 1 weights, 2 seeds"):
        learned("Options", {}, seeds=[1, 2], episodes=1)
