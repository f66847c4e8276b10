"""Attainable utility preservation without a model, against a slow learner, exact values and published counts."""

import gzip
import json
from dataclasses import fields, replace
from functools import cache, reduce
from itertools import accumulate, product
from operator import add
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_mdps import level, mdps, steps
from scipy.stats import fisher_exact

from impactrl.agents.aup import ModelFreeAUP, train_aup
from impactrl.agents.auxiliary import exact_auxiliary, learned_penalty, table_rows
from impactrl.agents.plan_ahead import plan_ahead
from impactrl.agents.planner import Planner, plan, solve
from impactrl.analysis.statistics import CLASSES, outcome_class
from impactrl.compile import compile_mdp
from impactrl.errors import ImpactError
from impactrl.measures.impact import COLUMNS
from impactrl.measures.penalty import Penalty
from impactrl.measures.presets import preset
from impactrl.measures.state_graph import state_graph
from impactrl.measures.values import attainable_utilities
from impactrl.runs.execution import execute
from impactrl.runs.files import read_sweep
from impactrl.runs.specification import Environment, RunSpecification
from impactrl.runs.store import Store
from impactrl.runs.sweep import sweep

TESTS = Path(__file__).parent
NONE, AUP, PLAN = Penalty(deviation="none"), preset("turner2019-model-free"), preset("turner2019-plan")
SMALL = ModelFreeAUP(episodes=60, evaluate_every=25)
CASES = {
    "Options": ("Options", {}, {}),
    "Options, rate 0.3": ("Options", {"utilities": 5}, {"learning_rate": 0.3, "discount": 0.9}),
    "Options, sum": ("Options", {"scale": "sum", "utilities": 7}, {}),
    "Damage by board": ("Damage", {"summary": "decrease"}, {"evaluation_steps": 3}),
    "Damage by state": ("Damage", {"summary": "increase"}, {"key": "state"}),
    "Correction, indicators": ("Correction", {"utilities": "states", "clip": True}, {}),
    "Interference, average": ("Interference", {"baseline": "average"}, {}),
    "Interference, average of others": ("Interference", {"baseline": "average_other"}, {"epsilon_start": 0.3}),
    "Interference, random": ("Interference", {"baseline": "random", "utilities": 6}, {}),
    "Interference, adversarial": ("Interference", {"baseline": "adversarial", "epsilon": 0.7}, {}),
    "FrozenLake, average": ("FrozenLake-v1", {"baseline": "average", "utilities": 3}, {"learning_rate": 0.5}),
    "FrozenLake, random, sum": ("FrozenLake-v1", {"baseline": "random", "scale": "sum", "utilities": 3}, {}),
}


# The learner once more, slowly


class Slow:
    """Dictionaries and loops, one run, with the same random numbers."""

    def __init__(self, mdp, penalty, settings, weight, seed):
        self.mdp, self.penalty, self.settings, self.weight = mdp, penalty, settings, weight
        self.rng = np.random.default_rng(seed)
        by_board = settings.key == "board"
        seen = [tuple(mdp.board_text(s)) if by_board else int(mdp.situation[s]) for s in range(mdp.num_states)]
        self.keys = list(dict.fromkeys(seen))
        self.key = seen
        if penalty.deviation == "none":
            self.utilities = {key: [] for key in self.keys}
        elif penalty.utilities == "states":
            self.utilities = {key: [float(key == other) for other in self.keys] for key in self.keys}
        else:
            drawn = self.rng.random((len(self.keys), penalty.utilities)).tolist()
            self.utilities = dict(zip(self.keys, drawn, strict=True))
        self.count = len(self.utilities[self.keys[0]])
        self.actions = range(mdp.num_actions)
        self.q = {key: [0.0] * mdp.num_actions for key in self.keys}
        self.auxiliary = {key: [[0.0] * self.count for _ in self.actions] for key in self.keys}

    def drawn(self, probabilities):
        if len(probabilities) == 1:
            return 0
        edges = list(accumulate(probabilities))
        u = self.rng.random() * edges[-1]
        return next((k for k, edge in enumerate(edges) if u < edge), len(edges) - 1)

    def greedy(self, s):
        values = self.q[self.key[s]]
        return values.index(max(values))

    def action(self, s, epsilon):
        u, greedy = self.rng.random(), self.greedy(s)
        others = [a for a in self.actions if a != greedy]
        if u >= epsilon or not others:
            return greedy
        return others[min(int(u / epsilon * len(others)), len(others) - 1)]

    def run(self):
        self.policies, self.impacts, self.steps = [], [], 0
        due = self.settings.evaluations().tolist()
        for episode, epsilon in enumerate(self.settings.epsilons().tolist(), start=1):
            s = self.drawn(self.mdp.start.tolist())
            for _ in range(self.mdp.time_limit):
                a = self.action(s, epsilon)
                k = self.drawn(self.mdp.probability[s, a].tolist())
                following = int(self.mdp.next_state[s, a, k])
                self.learn(s, a, k, following)
                self.steps += 1
                s = following
                if self.mdp.terminal[s]:
                    break
            if episode in due:
                policy = [self.greedy(s) for s in range(self.mdp.num_states)]
                self.policies.append(policy)
                self.impacts.append([self.expected(s, policy[s]) for s in range(self.mdp.num_states)])
        return self

    def learn(self, s, a, k, following):
        here, there, over = self.key[s], self.key[following], self.mdp.terminal[following]
        rate = self.settings.learning_rate
        for u in range(self.count):
            best = 0.0 if over else max(values[u] for values in self.auxiliary[there])
            old = self.auxiliary[here][a][u]
            new = old + rate * (self.utilities[there][u] + self.penalty.discount * best - old)
            self.auxiliary[here][a][u] = min(max(new, 0.0), 1.0) if self.penalty.clip else new
        charged = self.charge(s, a, self.reference(s, a))
        target = self.mdp.reward[s, a, k] - self.weight * charged
        if not over:
            target += self.settings.discount * max(self.q[there])
        self.q[here][a] += rate * (target - self.q[here][a])

    def reference(self, s, a):
        table, others = self.auxiliary[self.key[s]], [b for b in self.actions if b != a]
        if self.penalty.baseline == "stepwise":
            return table[self.mdp.noop]
        if not others:
            return table[a]
        if self.penalty.baseline == "random":
            return [table[others[int(self.rng.random() * len(others))]][u] for u in range(self.count)]
        if self.penalty.baseline == "average_other":
            return [reduce(add, (table[b][u] for b in others)) / len(others) for u in range(self.count)]
        means = [reduce(add, (table[b][u] for b in self.actions)) / len(table) for u in range(self.count)]
        if self.penalty.baseline == "average":
            return means
        best = [max(table[b][u] for b in self.actions) for u in range(self.count)]
        epsilon = self.penalty.epsilon
        return [(1 - epsilon) * best[u] + epsilon * means[u] for u in range(self.count)]

    def charge(self, s, a, reference):
        if self.count == 0:
            return 0.0
        values = self.auxiliary[self.key[s]][a]
        summarised = {"absolute": abs, "decrease": lambda d: max(d, 0.0), "increase": lambda d: max(-d, 0.0)}
        terms = [summarised[self.penalty.effective_summary](r - v) for r, v in zip(reference, values, strict=True)]
        if self.penalty.scale == "sum":
            return in_lanes(terms) / (in_lanes([abs(r) for r in reference]) or 1.0)
        return in_lanes([t / (abs(r) or 1.0) for t, r in zip(terms, reference, strict=True)]) / self.count

    def expected(self, s, a):
        others = [b for b in self.actions if b != a]
        if self.count and self.penalty.baseline == "random" and others:
            table = self.auxiliary[self.key[s]]
            return sum(self.charge(s, a, table[b]) for b in others) / len(others)
        return self.charge(s, a, self.reference(s, a)) if self.count else 0.0


def in_lanes(terms):
    """The sum, in four lanes: in the order of the kernel."""
    first, second, third, fourth = (reduce(add, terms[lane::4], 0.0) for lane in range(4))
    return (first + second) + (third + fourth)


def expected_columns(slow, i):
    """Exact columns of the i-th evaluation, in the order of COLUMNS: by a dictionary of where the mass is."""
    mdp, policy, sums = slow.mdp, slow.policies[i], dict.fromkeys(COLUMNS, 0.0)
    sums["performance"] = mdp.initial_performance
    mass = {int(s): float(mdp.start[s]) for s in np.flatnonzero(mdp.start)}
    for _ in range(min(slow.settings.evaluation_steps, mdp.time_limit)):
        later = {}
        for s, p in mass.items():
            if mdp.terminal[s]:
                later[s] = later.get(s, 0.0) + p
                continue
            for k in np.flatnonzero(mdp.probability[s, policy[s]]):
                place = s, policy[s], k
                share, following = p * mdp.probability[place], int(mdp.next_state[place])
                later[following] = later.get(following, 0.0) + share
                for name in ("reward", "performance", "side_effect"):
                    sums[name] += share * getattr(mdp, name)[place]
                sums["impact"] += share * slow.impacts[i][s]
        mass = later
    sums["completed"] = sum(p for s, p in mass.items() if mdp.completed[s])
    return [sums[name] for name in COLUMNS]


def assert_learns_as_the_slow_one(mdp, penalty, settings, weight, seed):
    ours = train_aup(mdp, penalty, settings, weights=[weight], seeds=[seed])
    slow = Slow(mdp, penalty, settings, weight, seed).run()
    assert ours.q[0].tolist() == [slow.q[key] for key in slow.keys]
    assert ours.auxiliary[0].tolist() == [slow.auxiliary[key] for key in slow.keys]
    assert ours.utilities[0].tolist() == [slow.utilities[key] for key in slow.keys]
    assert [slow.keys[y] for y in ours.row] == slow.key
    assert ours.steps.tolist() == [slow.steps]
    expected = [expected_columns(slow, i) for i in range(len(ours.evaluations))]
    np.testing.assert_allclose(ours.history[0], expected, rtol=1e-12, atol=1e-12)
    return ours


@pytest.mark.parametrize("case", CASES)
def test_learning_is_that_of_the_slow_learner_bit_for_bit(case):
    name, penalty, learner = CASES[case]
    ours = assert_learns_as_the_slow_one(level(name), replace(AUP, **penalty), replace(SMALL, **learner), 0.6, 11)
    assert ours.q.any()
    assert ours.auxiliary.any()
    assert ours.evaluations.tolist() == [1, 26, 51, 60]


@settings(max_examples=40)
@given(
    mdps(max_states=5, max_outcomes=3, max_starts=3),
    st.sampled_from(["stepwise", "average", "average_other", "random", "adversarial"]),
    st.sampled_from(["per-value", "sum"]),
    st.sampled_from(["absolute", "decrease", "increase"]),
    st.sampled_from([0.25, 1.0]),
    st.sampled_from([1, 4, 5, "states"]),
    st.integers(0, 99),
)
def test_learning_in_a_random_world_is_that_of_the_slow_learner_bit_for_bit(
    mdp, baseline, scale, summary, rate, utilities, seed
):
    penalty = replace(AUP, baseline=baseline, scale=scale, summary=summary, utilities=utilities, clip=seed % 2 == 0)
    learner = ModelFreeAUP(episodes=12, learning_rate=rate, evaluate_every=5)
    assert_learns_as_the_slow_one(mdp, penalty, learner, 1.5, seed)


def test_without_a_penalty_it_is_plain_q_learning():
    ours = assert_learns_as_the_slow_one(level("Options"), NONE, SMALL, 0.6, 4)
    assert ours.auxiliary.shape == (1, 60, 5, 0)
    assert (ours.history[:, :, COLUMNS.index("impact")] == 0).all()


# By hand


def line(**settings):
    """Three states in a row, 0 to 2, where the episode ends; go, or stay. Every step pays 1."""
    return compile_mdp(steps([0, 1], [1, 2], None, rewards=[[1, 1], [1, 1]], noop=0, **settings))


def test_one_episode_by_hand():
    # Greedy and from 0 the agent takes the lowest action, the no-op, and goes nowhere.
    mdp, learner = line(time_limit=2), ModelFreeAUP(episodes=1, epsilon_start=0.0, discount=0.5)
    ours = train_aup(mdp, replace(AUP, utilities=1, discount=0.5), learner, weights=[1.0], seeds=[0])
    (u,) = ours.utilities[0, 0]
    assert ours.auxiliary[0, 0, :, 0].tolist() == [u + 0.5 * u, 0.0]
    assert ours.q[0].tolist() == [[1.5, 0.0], [0.0, 0.0], [0.0, 0.0]]  # the no-op costs nothing
    assert ours.history[0, 0].tolist() == [2, 0, 0, 0, 0]


def test_the_penalty_is_read_after_the_auxiliary_values_were_updated():
    # Always the other action than the greedy one: go, go. Q_u(s, no-op) = 0 counts as 1, so each step is charged
    # |Q_u(s, go)| as it is after this very step: u(1), then u(2), of which only the first is bootstrapped from.
    mdp, learner = line(), ModelFreeAUP(episodes=1, epsilon_start=1.0, discount=0.5)
    ours = train_aup(mdp, replace(AUP, utilities=1, discount=0.5), learner, weights=[2.0], seeds=[0])
    u = ours.utilities[0, :, 0].tolist()
    assert ours.steps.tolist() == [2]
    assert ours.auxiliary[0, :, 1, 0].tolist() == [u[1], u[2], 0.0]
    assert ours.q[0, :, 1].tolist() == [1 - 2 * u[1], 1 - 2 * u[2], 0.0]
    np.testing.assert_allclose(ours.during[0, 0], [2, 0, 0, 1, u[1] + u[2]])


def test_exploration_takes_the_other_actions_alike_and_never_the_greedy_one():
    # With learning rate 1 and one step an episode, q remembers which of 4 actions was tried. Action 0 is greedy.
    mdp = compile_mdp(replace(steps([0] * 4, rewards=[[1, 2, 3, 4]]), time_limit=1))
    learner = ModelFreeAUP(episodes=1, epsilon_start=1.0)
    ours = train_aup(mdp, NONE, learner, weights=[0.0] * 3000, seeds=range(3000))
    tried = (ours.q[:, 0] > 0).sum(axis=0)
    assert tried[0] == 0
    assert tried.sum() == 3000
    assert np.abs(tried[1:] - 1000).max() < 4 * np.sqrt(3000 * 2 / 9)


def test_tables_by_board_and_by_state():
    damage, offset = level("Damage"), level("Offset")
    assert table_rows(damage, "board").max() + 1 == 45  # the board hides where the dog is heading
    assert table_rows(damage, "state").max() + 1 == 56
    assert table_rows(offset, "board").max() + 1 == table_rows(offset, "state").max() + 1 == 370


@pytest.mark.parametrize("name", ["Options", "Damage", "Correction", "Offset", "Interference", "ConveyorVase"])
def test_states_of_one_situation_look_alike(name):
    mdp = level(name)
    assert len({(*pair,) for pair in zip(mdp.situation, table_rows(mdp, "board"), strict=True)}) == max(
        mdp.situation + 1
    )


# What is learned


@pytest.mark.parametrize("rate", [1.0, 0.5])
@pytest.mark.parametrize("name", ["Damage", "Correction"])
def test_auxiliary_values_converge_to_the_exact_ones(name, rate):
    mdp, penalty = level(name), replace(AUP, discount=0.9, utilities=5)
    learner = ModelFreeAUP(
        episodes=40_000, learning_rate=rate, epsilon_end=0.8, evaluate_every=10_000, key="state", discount=0.9
    )
    ours = train_aup(mdp, penalty, learner, weights=[0.5], seeds=[0], diagnostics=True)
    graph = state_graph(mdp, "absorbing")
    values = attainable_utilities(graph, ours.utilities[0][ours.row[graph.state]], discount=0.9)
    exact = values[graph.node[mdp.next_state[:, :, 0]]]
    live = ~mdp.terminal
    np.testing.assert_allclose(ours.auxiliary[0][ours.row][live], exact[live], rtol=0, atol=1e-9)
    errors = ours.distance[0]
    assert errors[0, 0] > 0.5
    assert (np.diff(errors[:, 0]) < 1e-12).all()
    assert (errors[:, 1] >= errors[:, 0]).all()
    assert errors[-1, 1] < 1e-9


@pytest.mark.parametrize("baseline", ["stepwise", "average", "average_other", "adversarial"])
@pytest.mark.parametrize(("scale", "summary"), [("per-value", "absolute"), ("sum", "decrease")])
def test_with_converged_values_the_task_is_that_of_the_exact_penalty(baseline, scale, summary):
    mdp = level("Correction")
    penalty = replace(AUP, baseline=baseline, scale=scale, summary=summary, discount=0.9, utilities=5, epsilon=0.3)
    learner = ModelFreeAUP(episodes=20_000, epsilon_end=0.8, evaluate_every=20_000, discount=0.8, evaluation_steps=100)
    ours = train_aup(mdp, penalty, learner, weights=[0.7], seeds=[3])
    exact = replace(penalty, utilities=ours.utilities[0][ours.row]).fit(mdp)
    best = plan(exact, Planner(discount=0.8), 0.7)
    # `average_other` remembers the last action, but what a state is worth does not depend on it.
    first = [int(np.flatnonzero(exact.state == s)[0]) for s in range(mdp.num_states)]
    np.testing.assert_allclose(ours.q[0][ours.row], best.q[first], rtol=0, atol=1e-8)
    found = ours.history[0, -1]
    expected = [best.expected_reward, best.expected_performance, best.expected_side_effect, best.expected_completed]
    np.testing.assert_allclose(found, [*expected, best.expected_impact], rtol=0, atol=1e-8)


def test_published_values_are_far_from_converged_on_options():
    # Published: a mean error of 82 where values reach 250.
    ours = train_aup(level("Options"), AUP, ModelFreeAUP(), weights=[AUP.weight] * 4, seeds=range(4), diagnostics=True)
    assert ours.utilities.max() / (1 - AUP.discount) > 200
    assert (ours.distance[:, -1, 0] > 50).all()


def test_distance_is_over_what_was_tried():
    mdp, learner = line(time_limit=1), ModelFreeAUP(episodes=1, epsilon_start=0.0)
    ours = train_aup(mdp, replace(AUP, utilities=2, discount=0.5), learner, weights=[0.0], seeds=[5], diagnostics=True)
    u = ours.utilities[0]
    # Tried: the no-op in state 0. It is worth u(0) plus half of the better of staying for ever and going to the end.
    best = np.maximum(2 * u[0], u[1] + 0.5 * np.maximum(2 * u[1], u[2]))
    np.testing.assert_allclose(ours.distance[0, 0], [(best / 2).mean(), (best / 2).max()], rtol=1e-9)


def test_exact_values_of_indicators_are_the_discounted_reachability_with_clipping():
    mdp = line()
    learned = learned_penalty(replace(AUP, utilities="states", clip=True, discount=0.5))
    exact = exact_auxiliary(mdp, np.eye(3), learned)
    # From 0, go: 1 is reached at once, 2 one step later; the way back to 0 is barred.
    assert exact[0].tolist() == [[1, 0.5, 0.25], [0, 1, 0.5]]
    assert exact[2].tolist() == [[0, 0, 0], [0, 0, 0]]


# Published counts


@cache
def published():
    with open(TESTS.parent / "experiments" / "published" / "turner2019_counts.json", encoding="utf-8") as file:
        return json.load(file)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "axis", "place"),
    [
        ("Options", "lambda", 5),
        ("Options", "discount", 2),
        ("Damage", "discount", 1),
        ("Correction", "lambda", 5),
        ("Offset", "lambda", 1),
        ("Interference", "discount", 0),
    ],
)
def test_outcomes_are_those_published(name, axis, place):
    value, counts = published()["settings"][axis][place], published()["counts"][axis][name][place]
    discount = value if axis == "discount" else AUP.discount
    weight = value if axis == "lambda" else AUP.weight
    ours = train_aup(
        level(name),
        replace(AUP, discount=discount),
        ModelFreeAUP(discount=discount),
        weights=[weight] * 50,
        seeds=range(50),
        threads=2,
    )
    assert ours.evaluations[-2] == 5991  # the published moment, the evaluation of episode 5990
    found = np.bincount(ours.outcomes[:, -2], minlength=4)
    for k in range(4):
        table = [[found[k], 50 - found[k]], [counts[k], 50 - counts[k]]]
        assert fisher_exact(table).pvalue > 0.001, (k, found, counts)


def test_classes_of_outcomes_are_those_of_run_tables():
    ours = train_aup(level("Damage"), AUP, replace(SMALL, evaluate_every=1), weights=[0.5], seeds=[1])
    table = pd.DataFrame(ours.history[0], columns=list(COLUMNS))
    assert [CLASSES[k] for k in ours.outcomes[0]] == outcome_class(table).tolist()
    assert len(set(ours.outcomes[0])) > 1


# Reproducibility


@pytest.mark.parametrize("baseline", ["stepwise", "random"])
def test_a_run_is_the_same_alone_in_a_batch_and_on_two_threads(baseline):
    mdp, penalty = level("Damage"), replace(AUP, baseline=baseline, utilities=3)
    weights, seeds = [0.1 * (1 + i % 5) for i in range(16)], [1000 + i // 2 for i in range(16)]
    batch = train_aup(mdp, penalty, SMALL, weights=weights, seeds=seeds, diagnostics=True)

    def assert_same(ours, places):
        for field in fields(batch):
            if field.name not in ("row", "evaluations"):
                assert (getattr(ours, field.name) == getattr(batch, field.name)[places]).all(), field.name

    assert_same(train_aup(mdp, penalty, SMALL, weights=weights, seeds=seeds, threads=2, diagnostics=True), slice(None))
    for i in (0, 7, 15):
        alone = train_aup(mdp, penalty, SMALL, weights=[weights[i]], seeds=[seeds[i]], diagnostics=True)
        assert_same(alone, slice(i, i + 1))
    plain = train_aup(mdp, penalty, SMALL, weights=weights, seeds=seeds)
    assert plain.distance is None
    assert (plain.q == batch.q).all()


def test_evaluations_do_not_disturb_learning():
    penalty = replace(AUP, baseline="random", utilities=3)
    often, seldom = (
        train_aup(level("Options"), penalty, replace(SMALL, evaluate_every=n), weights=[0.5], seeds=[3])
        for n in (1, 1000)
    )
    assert (often.q == seldom.q).all()
    assert often.evaluations.tolist() == list(range(1, 61))
    assert seldom.evaluations.tolist() == [1, 60]
    assert (often.history[:, -1] == seldom.history[:, -1]).all()


def test_training_columns_are_means_over_the_episodes_since_the_last_evaluation():
    often, seldom = (
        train_aup(level("Damage"), AUP, replace(SMALL, evaluate_every=n), weights=[0.5], seeds=[3]) for n in (1, 1000)
    )
    np.testing.assert_allclose(seldom.during[0, 0], often.during[0, 0])
    np.testing.assert_allclose(seldom.during[0, 1], often.during[0, 1:].mean(axis=0))
    assert seldom.during[0, 1, COLUMNS.index("side_effect")] > 0


def test_an_empty_batch_is_no_error():
    ours = train_aup(level("Damage"), AUP, SMALL, weights=[], seeds=[])
    assert ours.q.shape == (0, 45, 5)


# Settings


def test_the_published_moments():
    learner = ModelFreeAUP()
    assert learner.evaluations()[[0, 1, -2, -1]].tolist() == [1, 11, 5991, 6000]
    assert learner.epsilons()[[0, 3999, 4000, 5999]].tolist() == [0.8, 0.8, 0.1, 0.1]
    assert ModelFreeAUP(episodes=1).evaluations().tolist() == [1]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"episodes": 0}, "episodes must be at least 1, not 0"),
        ({"evaluate_every": 2.5}, "evaluate_every must be a whole number of at least 1, not 2.5"),
        ({"evaluation_steps": 0}, "evaluation_steps must be at least 1, not 0"),
        ({"learning_rate": 0.0}, r"learning_rate must be in \(0, 1\], not 0.0"),
        ({"discount": 1.1}, r"discount must be in \[0, 1\], not 1.1"),
        ({"epsilon_start": -0.1}, r"epsilon_start must be in \[0, 1\], not -0.1"),
        ({"epsilon_end": float("nan")}, r"epsilon_end must be in \[0, 1\], not nan"),
        ({"key": "observation"}, "key must be one of 'board', 'state', not 'observation'"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_bad_settings_are_refused(bad, said):
    with pytest.raises(ImpactError, match=said):
        ModelFreeAUP(**bad)


@pytest.mark.parametrize(
    ("penalty", "said"),
    [
        (Penalty(), "needs deviation='attainable_utility' or 'none', not 'relative_reachability'; preset"),
        (replace(AUP, baseline="start"), "needs baseline='stepwise' or 'average' or .* not 'start'"),
        (replace(AUP, scale="none"), "needs scale='per-value' or 'sum', not 'none'"),
        (replace(AUP, terminal="previous"), "needs terminal='absorbing', not 'previous'"),
        (replace(AUP, expectation="outside"), "needs expectation='inside', not 'outside'"),
        (replace(AUP, rollout=True), "has no use for rollout=True: leave it out"),
        (replace(AUP, seed=3), r"has no use for seed=3 \(the utilities are drawn in every run"),
        (replace(AUP, norm="L2"), "has no use for norm='L2'"),
        (replace(AUP, utilities=((0.5,),) * 60), "draws its utilities: say how many"),
        (replace(NONE, discount=0.5), "has no use for discount=0.5"),
    ],
    ids=lambda value: value.label if isinstance(value, Penalty) else "",
)
def test_penalties_that_cannot_be_learned_are_refused(penalty, said):
    with pytest.raises(ImpactError, match=said):
        train_aup(level("Options"), penalty, SMALL, weights=[1.0], seeds=[0])


def test_the_stepwise_baseline_needs_a_no_op():
    with pytest.raises(ImpactError, match="no no-op action; use one of 'average', 'average_other'"):
        train_aup(level("FrozenLake-v1"), AUP, SMALL, weights=[1.0], seeds=[0])


def test_one_weight_and_one_seed_per_run():
    with pytest.raises(ImpactError, match="one weight and one seed per run: got 2 weights, 1 seeds"):
        train_aup(level("Options"), AUP, SMALL, weights=[1.0, 2.0], seeds=[0])


# Planning ahead


PLANS = {
    "AUP": {},
    "Starting state": {"baseline": "start"},
    "Inaction": {"baseline": "inaction"},
    "Decrease": {"summary": "decrease"},
    "AUP sum scale": {"scale": "sum"},
}


@cache
def golden(name):
    with gzip.open(TESTS / "data" / f"turner_{name}.json.gz", "rt", encoding="utf-8") as file:
        data = json.load(file)
    mdp = level(name)
    boards = ["\n".join(mdp.board_text(s)) for s in range(mdp.num_states)]
    return data, np.array([data["aux_rewards_30"][board] for board in boards])


@cache
def exact_golden(name, count):
    return exact_auxiliary(level(name), golden(name)[1][:, :count], learned_penalty(AUP))


@pytest.mark.parametrize("name", ["Options", "Vase"])
@pytest.mark.parametrize("count", [3, 30])
@pytest.mark.parametrize("agent", PLANS)
def test_plans_on_exact_values_are_those_of_the_program_of_turner_et_al(name, count, agent):
    mdp, penalty = level(name), replace(PLAN, **PLANS[agent])
    found = plan_ahead(mdp, exact_golden(name, count), penalty)
    expected = golden(name)[0]["plans_horizon_9_lambda_1/1.501"][f"{agent} K={count}"]
    assert list(found.actions) == expected["actions"]
    assert found.planned_return == pytest.approx(expected["planned_return"], rel=0, abs=1e-9)
    assert found.completed
    # The same optimum by the exact planner, under the exact penalty.
    best = solve(mdp, replace(penalty, utilities=golden(name)[1][:, :count]), discount=0.996, horizon=9)
    assert best.actions() == list(found.actions)
    assert best.value == pytest.approx(found.planned_return, abs=1e-9)
    columns = best.expected_reward, best.expected_performance, best.expected_side_effect, best.expected_impact
    assert columns == pytest.approx((found.reward, found.performance, found.side_effect, found.impact), abs=1e-9)


def slow_plan(mdp, values, penalty, discount):
    """Every sequence of actions, followed step by step: the first of the best, its return and its impact."""
    n, idle = penalty.horizon, mdp.noop

    def after(actions):
        s = int(mdp.start.argmax())
        for a in actions:
            s = int(mdp.next_state[s, a, 0])
        return s

    def unit(actions, t):
        end = after([*actions[: t + 1], *[idle] * (n - t - 1)])
        if penalty.baseline == "stepwise":
            reference = values[after([*actions[:t], *[idle] * (n - t)]), idle]
        else:
            reference = values[after([] if penalty.baseline == "start" else [idle] * n)].max(axis=0)
        d = reference - values[end].max(axis=0)
        d = {"absolute": abs(d), "decrease": np.maximum(d, 0), "increase": np.maximum(-d, 0)}[penalty.effective_summary]
        if penalty.scale == "sum":
            return d.sum() / (abs(reference).sum() or 1.0)
        return np.mean([x / (abs(r) or 1.0) for x, r in zip(d, reference, strict=True)])

    results = []
    for sequence in product(range(mdp.num_actions), repeat=n):
        total, impact, taken = 0.0, 0.0, []
        for t, a in enumerate(sequence):
            s = after(sequence[:t])
            if mdp.terminal[s]:
                break
            charged = unit(sequence, t)
            total += discount**t * (mdp.reward[s, a, 0] - penalty.weight * charged)
            impact += charged
            taken.append(a)
        results.append((total, impact, tuple(taken)))
    best = max(total for total, _, _ in results)
    return next(result for result in results if result[0] >= best - 1e-9)


@settings(max_examples=80)
@given(
    mdps(max_states=6, max_outcomes=1, max_starts=1, noop="certain"),
    st.sampled_from(["stepwise", "inaction", "start"]),
    st.sampled_from(["per-value", "sum"]),
    st.sampled_from(["absolute", "decrease", "increase"]),
    st.sampled_from([0.0, 0.5, 3.0]),
    st.integers(1, 4),
    st.integers(0, 99),
)
def test_a_plan_is_the_best_of_all_sequences(mdp, baseline, scale, summary, weight, horizon, seed):
    values = np.random.default_rng(seed).integers(0, 8, (mdp.num_states, mdp.num_actions, 2)) / 4
    values[mdp.terminal] = 0.0
    penalty = replace(PLAN, baseline=baseline, scale=scale, summary=summary, weight=weight, horizon=horizon)
    found = plan_ahead(mdp, values, penalty, discount=0.75)
    total, impact, actions = slow_plan(mdp, values, penalty, 0.75)
    assert found.planned_return == pytest.approx(total, abs=1e-9)
    assert found.actions == actions
    assert found.impact == pytest.approx(impact, abs=1e-9)


def test_a_plan_on_learned_values_is_played_in_the_level():
    # Damage: the board hides where the dog is heading, so the learned tables have fewer rows than states.
    mdp = level("Damage")
    training = train_aup(mdp, AUP, ModelFreeAUP(), weights=[AUP.weight], seeds=[0])
    found = plan_ahead(mdp, training.auxiliary[0][training.row], PLAN)
    s, sums = 0, np.zeros(3)
    for a in found.actions:
        assert not mdp.terminal[s]
        sums += mdp.reward[s, a, 0], mdp.performance[s, a, 0], mdp.side_effect[s, a, 0]
        s = mdp.next_state[s, a, 0]
    assert (found.reward, found.performance, found.side_effect) == tuple(sums)
    assert found.completed == mdp.completed[s]
    assert found.completed


@pytest.mark.parametrize(
    ("name", "penalty", "values", "said"),
    [
        ("Options", AUP, (60, 5, 2), "needs rollout='end', not False; start from preset"),
        ("Options", replace(PLAN, attainable="arrival"), (60, 5, 2), "needs attainable='departure'"),
        ("Options", replace(PLAN, scale="none"), (60, 5, 2), "needs scale='per-value' or 'sum', not 'none'"),
        ("Options", PLAN, (60, 5), r"values must be of shape \(60, 5, U\)"),
        ("Options", PLAN, (60, 5, 0), "U at least 1"),
        ("FrozenLake-v1", PLAN, (16, 4, 2), "one outcome, and one first state"),
    ],
)
def test_plans_that_make_no_sense_are_refused(name, penalty, values, said):
    with pytest.raises(ImpactError, match=said):
        plan_ahead(level(name), np.zeros(values), penalty)
    if name == "Options":
        with pytest.raises(ImpactError, match=r"discount must be in \[0, 1\], not 2"):
            plan_ahead(level(name), np.zeros((60, 5, 2)), PLAN, discount=2)


# In sweeps


def specification(**changes):
    settings = {"environment": Environment("Damage"), "penalty": AUP, "agent": SMALL, "seed": 3}
    return RunSpecification(**(settings | changes))


def test_a_run_is_the_training_with_the_seed_of_its_specification():
    run = specification()
    assert RunSpecification.from_json(run.to_json()) == run
    result = execute(run)
    ours = train_aup(level("Damage"), AUP, SMALL, weights=[AUP.weight], seeds=[run.seed_sequence()])
    assert (result.history == ours.history[0]).all()
    assert (result.training == ours.during[0]).all()
    assert result.evaluations.tolist() == ours.evaluations.tolist()
    assert result.steps == ours.steps[0]


def test_a_penalty_that_cannot_be_learned_is_refused_before_anything_runs():
    with pytest.raises(ImpactError, match="a learned penalty needs scale="):
        specification(penalty=replace(AUP, scale="none"))


def test_a_sweep_file_can_name_the_learner(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(
        """
        environments = ["Damage", "Correction"]
        agents = [{ name = "model_free_aup", episodes = 40 }, "planner"]
        seeds = 2

        [[penalties]]
        preset = "turner2019-model-free"
        utilities = 3

        [[penalties]]
        preset = "eresheim2023-average"
        utilities = 3
        """
    )
    runs = sweep(read_sweep(path), store=tmp_path / "results.db", jobs=2)
    assert runs.groupby("agent", sort=False).size().tolist() == [8, 4]
    assert runs["agent"].iloc[0] == "model_free_aup episodes=40"
    with Store(tmp_path / "results.db") as store:
        curves = store.curves(runs["run"][:1])
    assert curves["trained"].tolist() == [1, 11, 21, 31, 40]
