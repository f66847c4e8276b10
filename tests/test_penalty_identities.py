"""What must hold of every penalty, and a slow penalty by the book to compare with."""

from collections import defaultdict
from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from random_mdps import (
    RuleWorld,
    all_policies,
    arrays_of,
    dense,
    has_certain_noop,
    level,
    mdps,
    padded,
    penalties,
    random_walk,
    steps,
    tolerance,
    utility_tables,
    worlds,
)
from scipy import sparse

from impactrl.compile import compile_mdp
from impactrl.envs.conveyor import ConveyorVase
from impactrl.measures.baselines import certain
from impactrl.measures.comparisons import Comparisons
from impactrl.measures.penalty import Penalty
from impactrl.measures.state_graph import state_graph
from impactrl.measures.values import attainable_utilities, reachability, rollout_pairs, rollout_values
from impactrl.world import Outcome

VALUE_DIFFERENCES = ("relative_reachability", "attainable_utility")
TERMINAL = st.sampled_from(["previous", "absorbing"])
DISCOUNTS = st.sampled_from([0.0, 0.5, 0.9, 1.0])


class ByTheBook:
    """A penalty from the definitions: dictionaries, sums until nothing is left, one pair of states at a time."""

    def __init__(self, mdp, penalty):
        self.mdp, self.penalty = mdp, penalty
        self.place = mdp.situation.tolist()
        stands_for = {self.place[s]: s for s in reversed(range(mdp.num_states))}
        self.gone = {c for c, s in stands_for.items() if penalty.terminal == "previous" and mdp.terminal[s]}
        self.places = sorted(set(stands_for) - self.gone)
        self.follow = {c: self._follow(stands_for[c]) for c in self.places}
        self.idle = {c: self._idle(stands_for[c]) for c in self.places} if mdp.noop is not None else {}
        self.known = {}
        if penalty.deviation == "attainable_utility":
            table = np.array(penalty.utilities)
            self.utilities = {c: table[stands_for[c]] for c in self.places}
            self.values = self._attainable()
        else:
            self.values = self._reachable()

    def _outcomes(self, s, a):
        """The places that follow, and their chances."""
        chances = defaultdict(float)
        for k in range(self.mdp.next_state.shape[2]):
            if self.mdp.probability[s, a, k] > 0:
                chances[self.place[self.mdp.next_state[s, a, k]]] += self.mdp.probability[s, a, k]
        return chances

    def _follow(self, s):
        """Per action, what of the measure can follow; nothing follows an end."""
        if self.mdp.terminal[s]:
            return []
        per_action = [self._outcomes(s, a) for a in range(self.mdp.num_actions)]
        return [{c: p for c, p in chances.items() if c not in self.gone} for chances in per_action]

    def _idle(self, s):
        """Where doing nothing leads; it stays where it would leave the measure."""
        chances = defaultdict(float)
        for c, p in self._outcomes(s, self.mdp.noop).items():
            chances[self.place[s] if c in self.gone else c] += p
        return chances

    def _settled(self, values, improved):
        while True:
            new = improved(values)
            change = max(np.abs(new[c] - values[c]).max() for c in self.places)
            values = new
            if change < 1e-15 * max(1.0, *(np.abs(v).max() for v in values.values())):
                return values

    def _reachable(self):
        """{x: [R(x; y) for every place y]}."""
        discount, unit = self.penalty.discount, dict(zip(self.places, np.eye(len(self.places)), strict=True))

        def improved(reach):
            new = {}
            for x in self.places:
                options = [sum(p * reach[z] for z, p in o.items()) for o in self.follow[x] if o]
                best = np.max(options, axis=0) if options else 0.0
                new[x] = np.where(unit[x] == 1, 1.0, discount * best)
            return new

        return self._settled(unit, improved)

    def _attainable(self):
        """{x: [V_u(x) for every utility u]}."""

        def improved(values):
            new = {}
            for x in self.places:
                options = [sum(p * values[z] for z, p in o.items()) for o in self.follow[x] if o]
                best = np.max(options, axis=0) if options else 0.0
                new[x] = self.utilities[x] + self.penalty.discount * best
            return new

        return self._settled({x: 0 * u for x, u in self.utilities.items()}, improved)

    def _moved(self, chances):
        """A distribution one no-op later."""
        later = defaultdict(float)
        for c, p in chances.items():
            for z, q in self.idle[c].items():
                later[z] += p * q
        return later

    def _rolled_out(self, quantity, *chances):
        """`(1 - g) sum_j g^j quantity(distributions j no-ops later)`."""
        total, factor = 0.0, 1.0
        while factor > 1e-17:
            total = total + (1 - self.penalty.rollout_discount) * factor * quantity(*chances)
            chances, factor = [self._moved(c) for c in chances], factor * self.penalty.rollout_discount
        return total

    def _family(self, c):
        if not self.penalty.rollout:
            return self.values[c]
        return self._rolled_out(lambda chances: sum(p * self.values[z] for z, p in chances.items()), {c: 1.0})

    def deviation(self, c, b):
        """D(c; b) of two places."""
        if (c, b) not in self.known:
            self.known[c, b] = self._deviation(c, b)
        return self.known[c, b]

    def _deviation(self, c, b):
        if self.penalty.deviation == "unreachability":

            def lost(here, there):
                column = {y: i for i, y in enumerate(self.places)}
                return sum(p * q * (1 - self.values[x][column[y]]) for x, p in here.items() for y, q in there.items())

            return self._rolled_out(lost, {c: 1.0}, {b: 1.0}) if self.penalty.rollout else lost({c: 1.0}, {b: 1.0})
        here, there = self._family(c), self._family(b)
        terms = {
            "decrease": [max(0.0, v - w) for v, w in zip(there, here, strict=True)],
            "increase": [max(0.0, w - v) for v, w in zip(there, here, strict=True)],
            "absolute": [abs(v - w) for v, w in zip(there, here, strict=True)],
        }[self.penalty.effective_summary]
        if self.penalty.scale == "per-value":
            terms = [t / (abs(v) if v != 0 else 1) for t, v in zip(terms, there, strict=True)]
        if self.penalty.scale == "sum":
            size = sum(abs(v) for v in there)
            return sum(terms) / (size if size != 0 else 1)
        return (1 - self.penalty.discount if self.penalty.scale == "discount" else 1) * sum(terms) / len(terms)

    def charges(self, path):
        """(deviation, unit penalty) of every step of a path of (state, action, next state)."""
        baseline = {self.place[path[0][0]]: 1.0}
        for before, _, after in path:
            here = self.place[after]
            if here in self.gone:
                here = self.place[before]  # the pair of the step before, or the start with itself
            elif self.penalty.baseline == "inaction":
                baseline = self._moved(baseline)
            elif self.penalty.baseline == "stepwise":
                baseline = self._moved({self.place[before]: 1.0})
            charge = sum(p * self.deviation(here, b) for b, p in baseline.items())
            yield charge, charge * (1.0 if self.mdp.terminal[after] else self.penalty.nonterminal_weight)


def looked_up(impact, path):
    """(deviation, unit penalty) of every step, and the states that the product says were visited."""
    if not path:
        return []
    x, found = impact.start_index(path[0][0]), []
    for before, a, after in path:
        assert impact.state[x] == before
        k, following = impact.follow(x, a, after, np.random.default_rng(0))
        found.append((impact.deviation[x, a, k], impact.unit_penalty[x, a, k]))
        x = following
    return found


def pairs_of(mdp, penalty):
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


def noop_matrix(mdp):
    """[S, S] dense, of a task whose states are all nodes."""
    return dense(mdp, [mdp.noop] * mdp.num_states)


@st.composite
def tasks_with_penalties(draw, *, world=None, **settings):
    mdp = draw(mdps(**({"max_states": 5} | (world or {}))))
    return mdp, draw(penalties(mdp, **settings))


# The whole of it: the product process against a penalty by the book


@settings(max_examples=300)
@given(
    st.sampled_from(["random", "certain", "none"]).flatmap(lambda noop: tasks_with_penalties(world={"noop": noop})),
    st.integers(0, 2**32),
)
def test_every_step_of_random_episodes_is_charged_by_the_book(task, seed):
    mdp, penalty = task
    impact, book, rng = penalty.fit(mdp), ByTheBook(mdp, penalty), np.random.default_rng(seed)
    for _ in range(4):
        path = random_walk(mdp, rng, 12)
        expected = list(book.charges(path)) if path else []
        np.testing.assert_allclose(
            np.reshape(looked_up(impact, path), (-1, 2)), np.reshape(expected, (-1, 2)), **tolerance(penalty)
        )


@pytest.mark.parametrize("terminal", ["previous", "absorbing"])
@pytest.mark.parametrize("rollout", [False, True])
@pytest.mark.parametrize("baseline", ["start", "inaction", "stepwise"])
@pytest.mark.parametrize("deviation", ["unreachability", "relative_reachability", "attainable_utility"])
@pytest.mark.parametrize("name", ["Options", "Interference"])
def test_every_step_in_a_published_level_is_charged_by_the_book(name, deviation, baseline, rollout, terminal):
    mdp, rng = level(name), np.random.default_rng(7)
    extra = {"utilities": rng.random((mdp.num_states, 3))} if deviation == "attainable_utility" else {}
    penalty = Penalty(
        deviation=deviation,
        baseline=baseline,
        rollout=rollout,
        discount=0.8,
        rollout_discount=0.7,
        terminal=terminal,
        nonterminal_weight=0.25,
        **extra,
    )
    impact, book = penalty.fit(mdp), ByTheBook(mdp, penalty)
    ended = 0
    for _ in range(12):
        path = random_walk(mdp, rng, 100)
        ended += mdp.terminal[path[-1][2]]
        np.testing.assert_allclose(looked_up(impact, path), list(book.charges(path)), **tolerance(penalty))
    assert ended


@pytest.mark.parametrize("deviation", ["unreachability", "relative_reachability"])
def test_every_step_in_a_stochastic_game_is_charged_by_the_book(deviation):
    mdp, rng = level("FrozenLake-v1"), np.random.default_rng(7)
    penalty = Penalty(deviation=deviation, baseline="start", discount=0.8)
    impact, book = penalty.fit(mdp), ByTheBook(mdp, penalty)
    for _ in range(20):
        path = random_walk(mdp, rng, 100)
        np.testing.assert_allclose(looked_up(impact, path), list(book.charges(path)), **tolerance(penalty))


@given(tasks_with_penalties())
def test_the_product_is_the_task_itself_with_a_memory(task):
    mdp, penalty = task
    impact = penalty.fit(mdp)
    pair = impact.mdp
    assert len({(s, m) for s, m in zip(impact.state, impact.memory, strict=True)}) == pair.num_states
    for name in ("reward", "performance", "side_effect", "probability", "terminal", "completed"):
        assert (getattr(pair, name) == getattr(mdp, name)[impact.state]).all(), name
    real = pair.probability > 0
    assert (impact.state[pair.next_state][real] == mdp.next_state[impact.state][real]).all()
    assert np.bincount(impact.state, pair.start, mdp.num_states).tolist() == mdp.start.tolist()
    # Nothing in it that cannot occur:
    graph = nx.DiGraph((int(x), int(y)) for x, a, k in np.argwhere(real) for y in [pair.next_state[x, a, k]])
    found = set().union(*(nx.descendants(graph, x) | {x} for x in np.flatnonzero(pair.start).tolist()))
    assert found == set(range(pair.num_states))


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


# Identities


@given(tasks_with_penalties())
def test_a_state_does_not_deviate_from_itself(task):
    mdp, penalty = task
    # Two random rollouts from one state part ways: for a deviation of pairs that is an impact by definition.
    assume(not (penalty.deviation == "unreachability" and penalty.rollout and not has_certain_noop(mdp)))
    np.testing.assert_allclose(pairs_of(mdp, penalty).diagonal(), 0, rtol=0, atol=1e-13)


@given(tasks_with_penalties(deviations=["unreachability", "relative_reachability"]))
def test_reachability_deviations_are_shares(task):
    mdp, penalty = task
    penalty = replace(penalty, scale="none") if penalty.deviation == "relative_reachability" else penalty
    pairs = pairs_of(mdp, penalty)
    assert (pairs >= -1e-13).all()
    assert (pairs <= 1 + 1e-13).all()
    assert (penalty.fit(mdp).deviation <= 1 + 1e-13).all()


@given(tasks_with_penalties(deviations=VALUE_DIFFERENCES))
def test_decrease_and_increase_add_up_to_the_absolute_deviation(task):
    mdp, penalty = task
    decrease, increase, absolute = (
        replace(penalty, summary=summary).fit(mdp).deviation for summary in ("decrease", "increase", "absolute")
    )
    np.testing.assert_allclose(decrease + increase, absolute, rtol=1e-13, atol=1e-13)


@given(tasks_with_penalties(deviations=VALUE_DIFFERENCES))
def test_a_decrease_seen_from_the_other_side_is_an_increase(task):
    mdp, penalty = task
    assume(penalty.scale in ("none", "discount"))
    decrease, increase = (pairs_of(mdp, replace(penalty, summary=s)) for s in ("decrease", "increase"))
    np.testing.assert_allclose(decrease, increase.T, rtol=0, atol=1e-13)


@given(mdps(max_states=5, noop="certain", ends=False), st.data())
def test_doing_nothing_costs_nothing_against_the_stepwise_baseline(mdp, data):
    impact = data.draw(penalties(mdp, baselines=["stepwise"])).fit(mdp)
    np.testing.assert_allclose(impact.deviation[:, mdp.noop], 0, rtol=0, atol=1e-13)


@given(mdps(max_states=5, noop="certain"), st.data())
def test_doing_nothing_from_the_start_on_costs_nothing_against_the_inaction_baseline(mdp, data):
    impact = data.draw(penalties(mdp, baselines=["inaction"])).fit(mdp)
    for x in np.flatnonzero(impact.mdp.start):
        for _ in range(8):
            np.testing.assert_allclose(impact.deviation[x, mdp.noop, 0], 0, rtol=0, atol=1e-13)
            x = impact.mdp.next_state[x, mdp.noop, 0]


@given(mdps(max_states=5), st.data())
def test_without_a_deviation_nothing_is_charged(mdp, data):
    terminal = data.draw(TERMINAL)
    impact = Penalty(deviation="none", terminal=terminal, discount=1.0).fit(mdp)
    assert not impact.deviation.any()
    assert (impact.penalised_reward(5.0) == impact.mdp.reward).all()


@settings(max_examples=100)
@given(worlds(max_states=5), st.data())
def test_other_names_for_states_and_actions_change_nothing(world, data):
    mdp = compile_mdp(world)
    penalty = data.draw(penalties(mdp))
    states = data.draw(st.permutations(range(5)))
    actions = data.draw(st.permutations(range(mdp.num_actions)))  # the new number of each action
    other = compile_mdp(
        replace(
            world,
            rules={
                (states[s], actions[a]): [o._replace(state=states[o.state]) for o in reversed(outcomes)]
                for (s, a), outcomes in world.rules.items()
            },
            first=[(p, states[s]) for p, s in reversed(world.first)],
            ends=frozenset(states[s] for s in world.ends),
            noop=None if world.noop is None else actions[world.noop],
        )
    )
    renamed = penalty
    if penalty.deviation == "attainable_utility":
        rows = {states[s]: penalty.utilities[i] for i, s in enumerate(mdp.states)}
        renamed = replace(penalty, utilities=[rows[s] for s in other.states])
    impact, impact_of_other = penalty.fit(mdp), renamed.fit(other)
    assert impact.mdp.num_states == impact_of_other.mdp.num_states
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    for _ in range(4):
        path = random_walk(mdp, rng, 10)
        names = [
            (other.index(states[mdp.states[s]]), actions[a], other.index(states[mdp.states[z]])) for s, a, z in path
        ]
        np.testing.assert_allclose(
            np.array(looked_up(impact, path)), np.array(looked_up(impact_of_other, names)), **tolerance(penalty)
        )


@given(tasks_with_penalties(world={"max_outcomes": 1}))
def test_a_stochastic_world_that_leaves_nothing_to_chance_is_a_deterministic_one(task):
    mdp, penalty = task
    rng, narrow, wide = np.random.default_rng(1), penalty.fit(mdp), penalty.fit(padded(mdp))
    assert mdp.deterministic
    assert not wide.mdp.deterministic
    for _ in range(3):
        path = random_walk(mdp, rng, 10)
        np.testing.assert_allclose(
            np.array(looked_up(narrow, path)), np.array(looked_up(wide, path)), **tolerance(penalty)
        )


@given(mdps(max_states=5), TERMINAL, st.sampled_from(["start", "stepwise"]), st.booleans())
def test_relative_reachability_tends_to_its_undiscounted_value(mdp, terminal, baseline, rollout):
    assume(mdp.noop is not None)
    penalty = Penalty(baseline=baseline, rollout=rollout, terminal=terminal, rollout_discount=0.5)
    limit = replace(penalty, discount=1.0).fit(mdp).deviation
    nearly = replace(penalty, discount=1 - 1e-9).fit(mdp).deviation
    # Every step costs 1e-9 at most, and whatever can be reached takes far fewer than 1000 steps on average.
    np.testing.assert_allclose(nearly, limit, rtol=0, atol=1e-6)


# Reachability


def fundamental_reach(mdp, goal, discount):
    """[S] best of all policies, each by a dense linear system: `E[discount^N]` to reach the goal."""
    best = np.zeros(mdp.num_states)
    for policy in all_policies(mdp):
        matrix = dense(mdp, policy)
        # With discount 1 the system is singular where the goal is out of reach: there the answer is 0.
        graph = nx.DiGraph((int(y), int(x)) for x, y in np.argwhere(matrix > 0) if x != goal)
        graph.add_node(goal)
        able = sorted(nx.descendants(graph, goal))
        value = np.zeros(mdp.num_states)
        value[goal] = 1
        if able:
            inner = np.eye(len(able)) - discount * matrix[np.ix_(able, able)]
            value[able] = np.linalg.solve(inner, discount * matrix[able, goal])
        best = np.maximum(best, value)
    return best


@given(mdps(max_states=4), DISCOUNTS)
def test_reachability_is_the_best_that_any_policy_can_do(mdp, discount):
    table = reachability(state_graph(mdp, "absorbing"), discount=discount)
    for goal in range(mdp.num_states):
        np.testing.assert_allclose(table[:, goal], fundamental_reach(mdp, goal, discount), rtol=0, atol=1e-11)


@given(mdps(max_states=8, max_outcomes=3), DISCOUNTS, TERMINAL)
def test_reachability_satisfies_its_bellman_equation(mdp, discount, terminal):
    live = [s for s in range(mdp.num_states) if terminal == "absorbing" or not mdp.terminal[s]]
    table = reachability(state_graph(mdp, terminal), discount=discount)
    assert table.shape == (len(live), len(live))
    transitions = np.stack([dense(mdp, [a] * mdp.num_states)[np.ix_(live, live)] for a in range(mdp.num_actions)])
    expected = discount * (transitions @ table).max(axis=0, initial=0.0)
    np.fill_diagonal(expected, 1.0)
    np.testing.assert_allclose(table, expected, rtol=0, atol=1e-13)


@given(mdps(max_states=8, max_outcomes=1), DISCOUNTS, TERMINAL)
def test_deterministic_reachability_is_a_power_of_the_shortest_distance(mdp, discount, terminal):
    graph = nx.DiGraph(mdp.to_networkx())
    if terminal == "previous":
        graph.remove_nodes_from(np.flatnonzero(mdp.terminal).tolist())
    nodes = sorted(graph)
    lengths = dict(nx.all_pairs_shortest_path_length(graph))
    expected = [[discount ** lengths[x][y] if y in lengths[x] else 0.0 for y in nodes] for x in nodes]
    for task in (mdp, padded(mdp)):  # by search, and by the stochastic kernel
        table = reachability(state_graph(task, terminal), discount=discount)
        np.testing.assert_allclose(table, np.reshape(expected, table.shape), rtol=0, atol=1e-15)


@given(mdps(max_states=6, max_outcomes=3), DISCOUNTS)
def test_a_detour_does_not_make_a_state_more_reachable(mdp, discount):
    table = reachability(state_graph(mdp, "absorbing"), discount=discount)
    through = (table[:, :, None] * table[None, :, :]).max(axis=1)  # x to y, then y to z
    assert (table >= through - 1e-13).all()


def test_reachability_by_hand():
    # 0 tries: with 1/2 it gets to 1, with 1/2 it stays. 1 goes back to 0 with 1/4 and falls to 2 with 3/4.
    rules = {
        (0, 0): [Outcome(1, probability=0.5), Outcome(0, probability=0.5)],
        (1, 0): [Outcome(0, probability=0.25), Outcome(2, probability=0.75)],
        (2, 0): [Outcome(2)],
    }
    mdp = compile_mdp(RuleWorld(rules=rules, first=[(1.0, 0)], actions=("try",), noop=None))
    graph = state_graph(mdp, "previous")
    undiscounted = [[1, 1, 1], [0.25, 1, 1], [0, 0, 1]]
    np.testing.assert_allclose(reachability(graph, discount=1.0), undiscounted, rtol=0, atol=1e-14)
    # With discount 1/2: R(0;1) = (1/4) + (1/4) R(0;1) = 1/3; R(1;0) = 1/8; R(1;2) = 3/8 + (1/8) R(0;2) and
    # R(0;2) = (1/3) R(1;2), so R(1;2) = (3/8) / (1 - 1/24) = 9/23.
    halved = [[1, 1 / 3, 3 / 23], [1 / 8, 1, 9 / 23], [0, 0, 1]]
    np.testing.assert_allclose(reachability(graph, discount=0.5), halved, rtol=0, atol=1e-15)


@given(mdps(max_states=6), DISCOUNTS, TERMINAL)
def test_unreachability_is_one_minus_reachability(mdp, discount, terminal):
    penalty = Penalty(deviation="unreachability", discount=discount, terminal=terminal)
    table = reachability(state_graph(mdp, terminal), discount=discount)
    assert (pairs_of(mdp, penalty) == 1 - table).all()


# Attainable utilities


@given(mdps(max_states=4), st.sampled_from([0.0, 0.5, 0.9]), st.data())
def test_attainable_utilities_are_the_best_that_any_policy_can_do(mdp, discount, data):
    table = data.draw(utility_tables(mdp))
    best = np.full(table.shape, -np.inf)
    for policy in all_policies(mdp):
        matrix = dense(mdp, policy) * ~mdp.terminal[:, None]  # an end is worth its own utility
        best = np.maximum(best, np.linalg.solve(np.eye(mdp.num_states) - discount * matrix, table))
    ours = attainable_utilities(state_graph(mdp, "absorbing"), table, discount=discount)
    np.testing.assert_allclose(ours, best, rtol=0, atol=2e-10)


def test_under_the_rule_previous_the_end_is_not_attainable():
    # 0 can wait or end; ending would be worth 100. 1 can only end: nothing of the measure follows it.
    mdp = compile_mdp(steps([0, 1, 2], [2, 2, 2], None))
    utilities = np.array([[1.0, -1.0], [5.0, -5.0], [100.0, 100.0]])
    previous = attainable_utilities(state_graph(mdp, "previous"), utilities[:2], discount=0.5)
    # 0: the best of waiting for ever, 1 / (1 - 1/2) = 2, and going to 1, 1 + 5/2; and for the second utility of
    # waiting for ever, -2, and going to 1, -1 - 5/2.
    np.testing.assert_allclose(previous, [[3.5, -2.0], [5.0, -5.0]], rtol=0, atol=1e-10)
    absorbing = attainable_utilities(state_graph(mdp, "absorbing"), utilities, discount=0.5)
    # Now 0 ends at once for 1 + 100/2 and -1 + 100/2; 1 for 5 + 50 and -5 + 50.
    np.testing.assert_allclose(absorbing, [[51.0, 49.0], [55.0, 45.0], [100.0, 100.0]], rtol=0, atol=1e-10)


@given(mdps(max_states=5, noop="certain", ends=False, max_outcomes=1), st.data())
def test_the_stepwise_penalty_is_the_difference_of_auxiliary_action_values(mdp, data):
    table = data.draw(utility_tables(mdp, columns=3))
    impact = Penalty(deviation="attainable_utility", utilities=table, discount=0.9).fit(mdp)
    values = attainable_utilities(state_graph(mdp, "previous"), table, discount=0.9)
    q = values[mdp.next_state[:, :, 0]]  # [S, A, 3]
    expected = np.abs(q - q[:, mdp.noop, None]).mean(axis=2)
    np.testing.assert_allclose(impact.deviation[:, :, 0], expected, rtol=0, atol=1e-13)


@given(mdps(max_states=5, noop="certain"), st.integers(0, 5), st.integers(1, 4))
def test_drawn_utilities_depend_on_the_seed_alone(mdp, seed, count):
    settings = {"deviation": "attainable_utility", "utilities": count}
    ours = Penalty(seed=seed, **settings).fit(mdp).deviation
    assert (ours == Penalty(seed=seed, **settings).fit(mdp).deviation).all()
    drawn = np.random.default_rng(seed).random((mdp.num_states, count))
    absorbing = Penalty(seed=seed, terminal="absorbing", **settings).fit(mdp).deviation
    by_table = Penalty(**(settings | {"utilities": drawn}), terminal="absorbing").fit(mdp).deviation
    assert (absorbing == by_table).all()


# Rollouts


@given(mdps(max_states=6, max_outcomes=3, ends=False), st.sampled_from([0.0, 0.5, 0.9, 0.97]), st.data())
def test_a_rollout_of_values_is_the_long_sum(mdp, discount, data):
    assume(mdp.noop is not None)
    values = data.draw(utility_tables(mdp, columns=3))
    matrix, total, factor, later = noop_matrix(mdp), 0.0, 1 - discount, values
    while factor > 1e-17:
        total, later, factor = total + factor * later, matrix @ later, factor * discount
    ours = rollout_values(state_graph(mdp, "previous").idle, values, discount=discount)
    np.testing.assert_allclose(ours, total, rtol=0, atol=1e-13)


@given(mdps(max_states=6, max_outcomes=3, ends=False), st.sampled_from([0.0, 0.5, 0.9, 0.97]), st.data())
def test_a_rollout_of_pairs_is_the_long_sum(mdp, discount, data):
    assume(mdp.noop is not None)
    size = mdp.num_states
    pairs = data.draw(arrays_of((size, size), -8, 8)) / 8.0
    matrix, total, factor, later = noop_matrix(mdp), 0.0, 1 - discount, pairs
    while factor > 1e-17:
        total, later, factor = total + factor * later, matrix @ later @ matrix.T, factor * discount
    ours = rollout_pairs(state_graph(mdp, "previous").idle, pairs, discount=discount)
    np.testing.assert_allclose(ours, total, rtol=0, atol=1e-13)


def test_a_rollout_around_a_cycle_by_hand():
    # No-ops run 0 > 1 > 2 > 0; with discount 1/2 the rounds weigh 1/2, 1/4, 1/8, 1/16, ...: 4/7, 2/7, 1/7.
    cycle = sparse.csr_array(np.roll(np.eye(3), 1, axis=1))
    ours = rollout_values(cycle, np.array([[7.0], [0.0], [0.0]]), discount=0.5)
    np.testing.assert_allclose(ours, [[4.0], [1.0], [2.0]], rtol=0, atol=1e-14)
    pairs = np.zeros((3, 3))
    pairs[0, 1] = 7.0
    ours = rollout_pairs(cycle, pairs, discount=0.5)
    expected = np.zeros((3, 3))
    expected[0, 1], expected[2, 0], expected[1, 2] = 4.0, 2.0, 1.0
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-14)


def test_a_rollout_with_a_discount_near_1_is_the_long_run_average():
    cycle = sparse.csr_array(np.roll(np.eye(3), 1, axis=1))
    ours = rollout_values(cycle, np.array([[9.0], [0.0], [0.0]]), discount=1 - 1e-9)
    np.testing.assert_allclose(ours, 3.0, rtol=0, atol=1e-8)


def test_rollouts_see_delayed_effects_by_hand():
    # 0 lights a fuse (1); doing nothing, the fuse burns down (2).
    mdp = compile_mdp(steps([0, 1], [2, 2], [2, 2]))
    settings = {"discount": 1.0, "rollout_discount": 0.5}
    lit, burnt = (0, 1, 0), (1, 0, 0)
    plain, rolled = Penalty(**settings).fit(mdp), Penalty(rollout=True, **settings).fit(mdp)
    assert (plain.deviation[lit], plain.deviation[burnt]) == (pytest.approx(1 / 3), 0)  # R(1) = 0 1 1
    assert (rolled.deviation[lit], rolled.deviation[burnt]) == (pytest.approx(1.5 / 3), 0)  # W(1) = 0 1/2 1
    unreachable = Penalty(deviation="unreachability", rollout=True, **settings).fit(mdp)
    assert unreachable.deviation[lit] == pytest.approx(1.0)


# Scales


SCALED = {
    # V(0) = 2, 1/2, 0 and V(1) = 1/2, 1, -2: differences 3/2, -1/2, 2.
    ("none", "decrease"): 3.5 / 3,
    ("none", "increase"): 0.5 / 3,
    ("none", "absolute"): 4 / 3,
    ("per-value", "decrease"): (0.75 + 0 + 2) / 3,
    ("per-value", "increase"): (0 + 1 + 0) / 3,
    ("per-value", "absolute"): (0.75 + 1 + 2) / 3,
    ("sum", "decrease"): 3.5 / 2.5,
    ("sum", "increase"): 0.5 / 2.5,
    ("sum", "absolute"): 4 / 2.5,
    ("discount", "decrease"): 3.5 / 6,
    ("discount", "increase"): 0.5 / 6,
    ("discount", "absolute"): 4 / 6,
}


@pytest.mark.parametrize(("scale", "summary"), SCALED)
def test_scales_by_hand(scale, summary):
    # 0 can wait or go to 1 for good; discount 1/2. V(1) is twice its utility; V(0) the better of waiting for ever,
    # twice its utility, and going at once, its utility and half V(1): 2 or 5/4; 0 or 1/2; 0 or -1.
    mdp = compile_mdp(steps([0, 1], [1, 1]))
    penalty = Penalty(
        deviation="attainable_utility",
        utilities=[[1, 0, 0], [0.25, 0.5, -1]],
        discount=0.5,
        scale=scale,
        summary=summary,
    )
    impact = penalty.fit(mdp)
    assert impact.deviation[0, 1, 0] == pytest.approx(SCALED[scale, summary], abs=1e-9)
    assert not impact.deviation[[0, 1, 1], [0, 0, 1]].any()


@pytest.mark.parametrize("scale", ["per-value", "sum"])
def test_a_baseline_value_of_0_scales_by_1(scale):
    mdp = compile_mdp(steps([0, 1], [1, 1]))
    impact = Penalty(
        deviation="attainable_utility", utilities=[[0, 0], [-1, -2]], discount=0.5, scale=scale, summary="decrease"
    ).fit(mdp)
    expected = {"per-value": (2 + 4) / 2, "sum": 2 + 4}[scale]
    assert impact.deviation[0, 1, 0] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("scale", ["per-value", "sum"])
def test_a_baseline_value_whose_utilities_cancel_scales_by_1(scale):
    # 2 is for ever: V = 1/8 / (1 - 1/2) = 1/4; 1 goes there, or waits: V = -1/8 + 1/8 = 0.
    mdp = compile_mdp(steps([0, 1], [1, 2], [2, 2]))
    impact = Penalty(
        deviation="attainable_utility", utilities=[[0.125], [-0.125], [0.125]], discount=0.5, scale=scale
    ).fit(mdp)
    assert impact.deviation[1, 1, 0] == pytest.approx(0.25, abs=1e-9)


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
    penalty = data.draw(penalties(plain))
    ours = penalty
    if penalty.deviation == "attainable_utility":
        ours = replace(penalty, utilities=[penalty.utilities[i] for i in number])
    with_note, without = ours.fit(noted), penalty.fit(plain)
    rng = np.random.default_rng(1)
    for _ in range(3):
        path = random_walk(noted, rng, 10)
        short = [(number[s], a, number[z]) for s, a, z in path]
        np.testing.assert_allclose(
            np.array(looked_up(with_note, path)), np.array(looked_up(without, short)), **tolerance(penalty)
        )


# Exact facts on the Box map


UP, DOWN, LEFT, RIGHT = range(4)


def walked(mdp, actions):
    s = 0
    for a in actions:
        s = int(mdp.next_state[s, a, 0])
    return s


def reachable_by_networkx(mdp, s, terminal):
    graph = nx.DiGraph(mdp.to_networkx())
    if terminal == "previous":
        graph.remove_nodes_from(np.flatnonzero(mdp.terminal).tolist())
    return len(nx.descendants(graph, s) | {s}), len(graph)


@pytest.mark.parametrize(
    ("terminal", "states", "after_corner", "after_sideways"), [("absorbing", 60, 10, 47), ("previous", 54, 9, 42)]
)
def test_so_many_states_of_the_box_map_stay_reachable(terminal, states, after_corner, after_sideways):
    mdp = level("Box")
    graph = state_graph(mdp, terminal)
    assert graph.size == states
    table = reachability(graph, discount=1.0)
    for actions, count in [([DOWN], after_corner), ([LEFT, DOWN, RIGHT], after_sideways)]:
        s = walked(mdp, actions)
        assert reachable_by_networkx(mdp, s, terminal) == (count, states)
        assert table[graph.node[s]].sum() == count


@pytest.mark.parametrize(
    ("terminal", "discount", "corner", "sideways"),
    [
        ("absorbing", 1.0, 0.8333, 0.2167),
        ("absorbing", 0.99, 0.7669, 0.2082),
        ("previous", 1.0, 0.8333, 0.2222),
        ("previous", 0.99, 0.7688, 0.2140),
    ],
)
def test_stepwise_relative_reachability_of_the_two_pushes(terminal, discount, corner, sideways):
    mdp = level("Box")
    impact = Penalty(terminal=terminal, discount=discount).fit(mdp)
    assert impact.deviation[0, DOWN, 0] == pytest.approx(corner, abs=5e-5)
    assert impact.deviation[walked(mdp, [LEFT, DOWN]), RIGHT, 0] == pytest.approx(sideways, abs=5e-5)


@pytest.mark.parametrize("terminal", ["absorbing", "previous"])
@pytest.mark.parametrize("discount", [0.99, 1.0])
def test_unreachability_cannot_tell_the_two_pushes_apart(terminal, discount):
    mdp = level("Box")
    impact = Penalty(deviation="unreachability", terminal=terminal, discount=discount).fit(mdp)
    assert impact.deviation[0, DOWN, 0] == 1
    assert impact.deviation[walked(mdp, [LEFT, DOWN]), RIGHT, 0] == 1


def test_with_an_absorbing_goal_arriving_at_it_costs_nearly_everything():
    mdp = level("Box")
    s = walked(mdp, [LEFT, DOWN, RIGHT, DOWN, RIGHT, RIGHT])
    assert mdp.terminal[mdp.next_state[s, DOWN, 0]]
    assert Penalty(terminal="absorbing", discount=1.0).fit(mdp).deviation[s, DOWN, 0] == pytest.approx(46 / 60)
    assert Penalty(terminal="previous", discount=1.0).fit(mdp).deviation[s].max() == 0
