"""Learned impact: charges from hand-made values, and what is learned on tiny levels against the exact tables."""

from dataclasses import replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from deep_cases import TABLE, Walk, corridor, jitted, one_hot, ring_with_a_drop, rule_for, table_network

from impactrl.agents.auxiliary import BASELINES, SCALES, LearnedPenalty, all_charges, exact_auxiliary
from impactrl.agents.deep.attainable import ENCODING_SHARE, AttainableUtility, charges
from impactrl.agents.deep.batch import Batch
from impactrl.agents.deep.diagnostics import Judge
from impactrl.agents.deep.networks import Architecture
from impactrl.agents.deep.precedence import Precedence
from impactrl.agents.deep.reachability import EMBEDDING, STORED, Reachability
from impactrl.agents.dqn import DQN
from impactrl.measures.differences import SUMMARIES
from impactrl.measures.penalty import Penalty

AUP = Penalty(
    deviation="attainable_utility", utilities=3, discount=0.8, scale="sum", terminal="absorbing", expectation="inside"
)
WANDERING: dict[str, Any] = {"epsilon_end": 1.0, "impact": "learned"}
LINEAR = DQN(
    **TABLE | WANDERING,
    steps=4000,
    evaluate_every=4000,
    learning_starts=16,
    update_every=2,
    learning_rate=4.0,
    learning_rate_end=0.5,
    target_rate=1.0,
    buffer_size=4000,
)


def batch_of(states: list[int], actions: list[int], following: list[int], terminal: list[bool], count: int) -> Batch:
    """Single steps with one-hot observations."""
    return Batch(
        observation=one_hot(states, count)[:, None],
        action=jnp.array(actions)[:, None],
        reward=jnp.zeros((len(states), 1)),
        following=one_hot(following, count)[:, None],
        terminal=jnp.array(terminal)[:, None],
        alive=jnp.ones((len(states), 1), bool),
        importance=jnp.ones(len(states)),
        before=one_hot(states, count),
        before_action=jnp.array(actions),
        preceded=jnp.zeros(len(states), bool),
        later=one_hot(following, count),
        arrival=jnp.array(following, jnp.int32),
    )


def begun(impact: Any, seed: int = 0) -> Any:
    """What a learned impact knows at first."""
    return jitted(type(impact).begin)(impact, jax.random.key(seed))


# Attainable utility: the charge


@pytest.mark.parametrize("scale", range(len(SCALES)), ids=SCALES)
@pytest.mark.parametrize("baseline", range(len(BASELINES)), ids=BASELINES)
def test_charges_are_those_of_the_tabular_agents(baseline: int, scale: int) -> None:
    """For every summary, on random values, some of which are 0 or below."""
    rng = np.random.default_rng(baseline)
    values = rng.normal(size=(7, 4, 3)) * (rng.random((7, 4, 3)) < 0.8)
    values[0] = 0.0
    state, action = (array.ravel() for array in np.meshgrid(np.arange(7), np.arange(4), indexing="ij"))
    for summary in range(len(SUMMARIES)):
        penalty = LearnedPenalty(
            rewards=3,
            indicators=False,
            clip=False,
            baseline=baseline,
            summary=summary,
            scale=scale,
            discount=0.9,
            epsilon=0.3,
            noop=2 if BASELINES[baseline] == "stepwise" else -1,
        )
        learned = jitted(charges)(penalty, jnp.asarray(values[state], jnp.float32), jnp.asarray(action))
        expected = all_charges(penalty, values).ravel()
        np.testing.assert_allclose(learned, expected, rtol=2e-4, atol=1e-5)
        assert len(np.unique(expected.round(6))) > 5


def test_a_single_action_has_no_other_to_be_compared_with() -> None:
    penalty = LearnedPenalty(2, False, False, BASELINES.index("average_other"), 0, 0, 0.9, 0.1, -1)
    assert charges(penalty, jnp.ones((3, 1, 2)), jnp.zeros(3, jnp.int32)).tolist() == [0.0] * 3


# Attainable utility: the rewards


def attainable(kind: str, **changes: Any) -> AttainableUtility:
    settings = replace(LINEAR, auxiliary_reward=kind, hidden=(6,) if kind == "encoder" else (), **changes)
    architecture = Architecture(observation=(5,), outputs=2 * 3, hidden=())
    penalty = LearnedPenalty(3, False, False, 0, SUMMARIES.index("absolute"), 0, 0.8, 0.0, 0)
    return AttainableUtility(settings=settings, architecture=architecture, penalty=penalty)


@pytest.mark.parametrize("kind", ["states", "linear", "encoder"])
def test_rewards_are_shares_and_the_same_for_what_looks_the_same(kind: str) -> None:
    impact = attainable(kind)
    rng = np.random.default_rng(1)
    seen = (rng.random((6, 5)) < 0.5).astype(np.float32)
    seen[4:] = seen[1], np.ones(5)
    identity = jnp.array([0, 1, 2, 3, 1, 5])
    state = begun(impact, 3)
    rewards = np.asarray(jitted(AttainableUtility.utilities)(impact, state, jnp.asarray(seen), identity))
    assert rewards.shape == (6, 3)
    assert rewards.min() >= 0
    assert rewards.max() <= 1
    np.testing.assert_allclose(rewards[4], rewards[1], rtol=1e-6)
    assert (np.ptp(rewards, axis=0) > 0).all()  # of places
    assert (np.ptp(rewards, axis=1) > 0).all()  # of rewards
    other = begun(impact, 4)
    again = np.asarray(jitted(AttainableUtility.utilities)(impact, other, jnp.asarray(seen), identity))
    assert not np.allclose(again, rewards)


def test_indicators_are_1_in_their_own_state() -> None:
    impact = attainable("states")
    indicators = replace(impact, penalty=impact.penalty._replace(indicators=True, rewards=4))
    state = begun(impact)
    shown = indicators.utilities(state, jnp.zeros((3, 5)), jnp.array([2, 0, 2]))
    assert shown.tolist() == [[0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 1, 0]]


def test_the_encoder_learns_in_its_share_of_the_updates_and_is_fixed_then() -> None:
    """60 updates: in the first 6 a code is learned and nothing is charged, and the values are learned after that."""
    impact = attainable("encoder", steps=136, evaluate_every=136, optimiser="adam", learning_rate=0.02)
    assert 60 // ENCODING_SHARE == 6
    state = begun(impact)
    batch = batch_of([0, 1, 2, 3], [1, 0, 1, 0], [1, 2, 3, 4], [False] * 4, 5)
    improve, charge = jitted(AttainableUtility.improve), jitted(AttainableUtility.charge)
    losses = []
    for updates in range(1, 12):
        before = state
        state, loss = improve(impact, state, batch, jax.random.key(updates))
        losses.append(float(loss))
        coded = not jnp.array_equal(before.utilities.encoder.head.weight, state.utilities.encoder.head.weight)
        valued = not jnp.array_equal(before.network.head.weight, state.network.head.weight)
        assert (coded, valued) == ((True, False) if updates <= 6 else (False, True))
        charged = charge(impact, state, batch.observation[:, 0], batch.action[:, 0], batch.following[:, 0])
        assert bool((charged != 0).any()) == (updates >= 6)
    assert losses[5] < losses[0]  # of the same batch: what it sees is told better


def test_an_auxiliary_update_by_hand() -> None:
    """Each reward with its own best next action; clipping is of what is wanted; nothing follows the end."""
    impact = attainable("states", learning_rate=0.5, learning_rate_end=0.5)
    impact = replace(impact, penalty=impact.penalty._replace(rewards=2, indicators=True, clip=True, discount=0.5))
    values = np.zeros((2, 2, 2))  # [S, A, U]
    values[0, 1] = 0.25, 0.5
    values[1] = [[1.0, -1.0], [0.0, 4.0]]
    state = begun(impact)
    network = table_network(values.reshape(2, 4))
    state = state._replace(network=network, target=network)
    batch = batch_of([0, 0], [1, 1], [1, 0], [False, True], 2)
    learned, loss = jitted(AttainableUtility.improve)(impact, state, batch, jax.random.key(0))
    # Arriving in 1 pays (0, 1), and 0.5 * (1, 4) follows: 0.5 and 1, clipped from 3. The end in 0 pays (1, 0).
    errors = np.array([[0.25 - 0.5, 0.5 - 1.0], [0.25 - 1.0, 0.5 - 0.0]])
    assert float(loss) == pytest.approx((errors**2 / 2).sum() / 2)
    after = np.asarray(impact.values(learned.network, jnp.eye(2)))
    np.testing.assert_allclose(after[0, 1], values[0, 1] - 0.5 * errors.sum(axis=0) / 2, rtol=1e-6)
    assert after[1].tolist() == values[1].tolist()


def test_learned_auxiliary_values_become_the_exact_ones() -> None:
    """A table for a network, and steps at random for long enough."""
    mdp = ring_with_a_drop()
    walk = Walk(AUP.fit(mdp), LINEAR, weight=0.0).to(LINEAR.steps)
    learned = walk.rule.impact
    assert isinstance(learned, AttainableUtility)
    state, everywhere = walk.run.learner.impact, walk.level.observation
    rewards = np.asarray(learned.utilities(state, everywhere, walk.level.identity), np.float64)
    exact = exact_auxiliary(mdp, rewards, learned.penalty)
    values = np.asarray(learned.values(state.network, everywhere))
    np.testing.assert_allclose(values[~mdp.terminal], exact[~mdp.terminal], atol=2e-3)
    judge = Judge(walk.impact, walk.rule, walk.level)
    unit = judge.unit_penalty(walk.run.learner)
    np.testing.assert_allclose(unit[..., 0], all_charges(learned.penalty, exact) * ~mdp.terminal[:, None])
    mean, largest, correlation = judge.diagnostics(walk.run.learner, unit)
    assert 0 < mean < largest < 5e-3
    assert correlation > 0.9


# Reachability


LEARNING = DQN(
    **WANDERING,
    steps=6000,
    evaluate_every=6000,
    learning_starts=64,
    update_every=2,
    learning_rate=5e-3,
    learning_rate_end=1e-3,
    hidden=(16,),
    observation="state",
    buffer_size=6000,
    goals=4,
    window=6,
)


@cache
def learned_on(penalty: Penalty) -> Walk:
    return Walk(penalty.fit(ring_with_a_drop()), LEARNING, weight=0.0).to(LEARNING.steps)


def charged(walk: Walk) -> np.ndarray:
    """[S, A] what a run has learned to charge in each state, of a task without chance."""
    rule, level = walk.rule, walk.level
    assert rule.impact is not None
    states, actions = level.next_state.shape[:2]
    state = np.repeat(np.arange(states), actions)
    action = np.tile(np.arange(actions), states)
    following = np.asarray(level.next_state)[state, action, 0]
    see = level.observation
    result = rule.impact.charge(walk.run.learner.impact, see[state], jnp.asarray(action), see[following])
    return np.asarray(result).reshape(states, actions)


@pytest.mark.parametrize(
    "penalty", [Penalty(), Penalty(deviation="future_tasks", terminal="absorbing")], ids=lambda p: p.label
)
def test_learned_reachability_becomes_the_exact_one(penalty: Penalty) -> None:
    """Of all steps that do not end the episode, to a tenth; dropping to the state that cannot be left is the worst."""
    walk = learned_on(penalty)
    mdp, exact, learned = walk.impact.mdp, walk.impact.unit_penalty[..., 0], charged(walk)
    judged = ~mdp.terminal[mdp.next_state[..., 0]]
    np.testing.assert_allclose(learned[judged], exact[judged], atol=0.1)
    worst, action = np.unravel_index(np.where(judged, learned, -np.inf)[walk.impact.state < 3].argmax(), (99, 3))
    assert (walk.impact.state[worst], action) == (1, 2)
    diagnostics = Judge(walk.impact, walk.rule, walk.level).diagnostics(walk.run.learner, walk.impact.unit_penalty)
    assert diagnostics[0] == pytest.approx(np.abs(learned - exact)[judged].mean(), rel=1e-5)
    assert diagnostics[1] == pytest.approx(np.abs(learned - exact)[judged].max(), rel=1e-5)
    assert diagnostics[2] > 0.85


def reachability(summary: str, *, previous: bool = False, factor: float = 1.0) -> Reachability:
    return Reachability(
        settings=replace(LEARNING, goals=2, hidden=()),
        architecture=Architecture(observation=(3,), outputs=2, hidden=()),
        noop=0,
        discount=0.9,
        summary=summary,
        factor=factor,
        previous=previous,
    )


@pytest.mark.parametrize(
    ("summary", "expected"),
    [
        ("decrease", (0.6 + 0.0) / 2),
        ("increase", (0.0 + 0.3) / 2),
        ("absolute", (0.6 + 0.3) / 2),
        ("least", -(0.2 + 0.1) / 2),
        ("own", -(0.2 + 0.4) / 2),
    ],
)
def test_charges_of_reachability_by_hand(summary: str, expected: float) -> None:
    """In state 0 doing nothing reaches the two stored goals by 0.8 and 0.1, the action by 0.2 and 0.4."""
    impact = reachability(summary, factor=0.5)
    reach = np.array([[0.8, 0.1], [0.2, 0.4]])  # [A, goals]
    origins = np.zeros((3, 2, EMBEDDING))
    origins[0, :, :2] = np.log(reach / (1 - reach)) + 5.0  # what is taken off at first
    goals = np.zeros((3, EMBEDDING))
    goals[1, 0] = goals[2, 1] = 1.0
    state = begun(impact)
    networks = state.networks._replace(origin=table_network(origins.reshape(3, -1)), goal=table_network(goals))
    identity = state.identity.at[jnp.array([1, 2])].set(jnp.array([1, 2]))
    stored = state.goals.at[jnp.array([1, 2])].set(jnp.eye(3)[1:])
    state = state._replace(networks=networks, identity=identity, goals=stored)
    found = impact.charge(state, one_hot([0], 3), jnp.array([1]), one_hot([1], 3))
    np.testing.assert_allclose(found, [0.5 * expected], rtol=1e-5)
    standing = impact.charge(state, one_hot([0], 3), jnp.array([0]), one_hot([0], 3))
    np.testing.assert_allclose(standing, [0.5 * {"least": -0.45, "own": -0.45}.get(summary, 0.0)], rtol=1e-5)


@pytest.mark.parametrize("terminal", [False, True])
def test_the_loss_of_reachability_by_hand(terminal: bool) -> None:
    """Everything is predicted to be reached by 0.2; the targets say 0.8 from state 1 by one action, 0.3 by the other.

    A step arrives in 1: that goal is worth 1, and state 2 0.9 * 0.8, or nothing once the episode is over. Of three
    goals, one is the state arrived at; two are drawn of the stored ones, 1 and 2.
    """
    impact = reachability("decrease")
    logit = {reach: np.log(reach / (1 - reach)) + 5.0 for reach in (0.2, 0.3, 0.8)}
    goal, origin = np.zeros((3, EMBEDDING)), np.zeros((3, 2, EMBEDDING))
    goal[:, 0], origin[:, :, 0] = 1.0, logit[0.2]
    ahead = origin.copy()
    ahead[1, :, 0] = logit[0.8], logit[0.3]
    state = begun(impact)
    networks = state.networks._replace(origin=table_network(origin.reshape(3, -1)), goal=table_network(goal))
    targets = networks._replace(origin=table_network(ahead.reshape(3, -1)))
    stored = state.goals.at[2].set(jnp.eye(3)[2]), state.identity.at[2].set(2)
    state = state._replace(networks=networks, targets=targets, goals=stored[0], identity=stored[1])

    def entropy(wanted: float) -> float:
        return -(wanted * np.log(0.2) + (1 - wanted) * np.log(0.8))

    other = 0.0 if terminal else 0.9 * 0.8
    possible = [(drawn * entropy(other) + (3 - drawn) * entropy(1.0)) / 3 for drawn in range(3)]
    seen = set()
    for key in range(20):
        batch = batch_of([0], [1], [1], [terminal], 3)
        _, loss = jitted(Reachability.improve)(impact, state, batch, jax.random.key(key))
        (drawn,) = np.flatnonzero(np.isclose(float(loss), possible, rtol=1e-5))
        seen.add(int(drawn))
    assert seen == {0, 1, 2}


@pytest.mark.parametrize("previous", [False, True])
def test_what_is_arrived_at_becomes_a_goal(previous: bool) -> None:
    """But for terminal states, where those are no states of the measure; of two in one slot the last stays."""
    impact = reachability("decrease", previous=previous)
    batch = batch_of([0, 1, 1], [1, 1, 0], [1, 2, 1], [False, True, False], 3)
    batch = batch._replace(arrival=jnp.array([1, 2, 1 + STORED], jnp.int32))
    state, loss = jitted(Reachability.improve)(impact, begun(impact), batch, jax.random.key(1))
    kept = {int(i): np.asarray(g).tolist() for i, g in zip(state.identity, state.goals, strict=True) if i >= 0}
    first = [i for i in kept if i % STORED == 1]
    assert len(first) == 1
    assert kept[first[0]] == [0, 1, 0]
    assert (2 in kept) == (not previous)
    assert np.isfinite(loss)


def test_a_batch_without_a_goal_teaches_nothing() -> None:
    """Only endings, where those are no states of the measure: a mean of nothing."""
    impact = reachability("decrease", previous=True)
    begin = begun(impact)
    batch = batch_of([1, 1, 1], [1, 1, 1], [2, 2, 2], [True] * 3, 3)
    state, loss = jitted(Reachability.improve)(impact, begin, batch, jax.random.key(1))
    assert float(loss) == 0.0
    for ours, theirs in zip(jax.tree.leaves(state.networks), jax.tree.leaves(begin.networks), strict=True):
        np.testing.assert_array_equal(ours, theirs)


# Reversibility


def test_only_the_step_that_cannot_be_undone_is_charged() -> None:
    """The end in 0, and the drop from 1."""
    walk = learned_on(Penalty(deviation="step_reversibility", discount=1.0, terminal="absorbing"))
    expected = np.zeros((5, 3))
    expected[0, 2] = expected[1, 2] = 1.0
    assert walk.impact.unit_penalty[..., 0].tolist() == expected.tolist()
    assert charged(walk)[:4].tolist() == expected[:4].tolist()


@pytest.mark.parametrize(("threshold", "expected"), [(0.7, 1.0), (0.8, 0.0)])
def test_a_step_is_charged_if_its_order_is_surer_than_the_threshold(threshold: float, expected: float) -> None:
    """The network's logit of 0 coming before 1 is 1.2: it is sure by 0.77."""
    settings = replace(LEARNING, threshold=threshold, hidden=())
    impact = Precedence(settings=settings, architecture=Architecture(observation=(2,), outputs=2, hidden=()))
    state = begun(impact)
    assert state.network.head.weight.shape == (1, 4)
    state = state._replace(network=table_network([[0.9], [-0.4], [-0.2], [0.3]]))
    found = impact.charge(state, one_hot([0, 1], 2), jnp.array([0, 0]), one_hot([1, 0], 2))
    assert found.tolist() == [expected, 0.0]


def test_precedence_learns_which_comes_first_whatever_the_coin() -> None:
    """One pair, again and again: 0 comes before 1."""
    settings = replace(LEARNING, hidden=(), optimiser="sgd", learning_rate=0.5, learning_rate_end=0.5)
    impact = Precedence(settings=settings, architecture=Architecture(observation=(2,), outputs=2, hidden=()))
    state = begun(impact)
    batch = batch_of([0, 0, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1], [False] * 4, 2)
    for i in range(40):
        state, _ = jitted(Precedence.improve)(impact, state, batch, jax.random.key(i))
    weight = np.asarray(state.network.head.weight)[0]
    assert weight[0] + weight[3] > 2
    assert weight[1] + weight[2] < -2


def test_the_rule_of_a_penalty_says_what_is_learned() -> None:
    """From a penalty's settings to those of the learner."""
    rr = Penalty(scale="discount", discount=0.9, summary="absolute", nonterminal_weight=0.25)
    rule, _ = rule_for(rr.fit(corridor()), LEARNING)
    assert isinstance(rule.impact, Reachability)
    assert (rule.previous, rule.nonterminal_weight) == (True, 0.25)
    assert (rule.impact.summary, rule.impact.discount, rule.impact.noop, rule.impact.previous) == (
        "absolute",
        0.9,
        0,
        True,
    )
    assert rule.impact.factor == pytest.approx(0.1)
    for baseline, summary in (("stepwise", "least"), ("none", "own")):
        penalty = Penalty(deviation="future_tasks", baseline=baseline, terminal="absorbing")
        rule, _ = rule_for(penalty.fit(corridor()), LEARNING)
        assert isinstance(rule.impact, Reachability)
        assert (rule.impact.summary, rule.impact.factor, rule.previous) == (summary, 1.0, False)
    rule, _ = rule_for(Penalty(deviation="none").fit(corridor()), LEARNING)
    assert rule.impact is None
    rule, _ = rule_for(AUP.fit(corridor()), replace(LEARNING, dueling=True))
    assert isinstance(rule.impact, AttainableUtility)
    assert (rule.impact.architecture.outputs, rule.impact.architecture.dueling) == (6, False)
    assert rule.architecture.dueling
