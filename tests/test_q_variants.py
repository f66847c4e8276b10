"""The variants of Q-learning: each against the slow learner, by hand, and against what it must converge to."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_mdps import RuleWorld, level, mdps, penalties, steps
from slow_learners import assert_learned, slow_learner

from impactrl.agents.planner import Planner, plan
from impactrl.agents.q_kernels import ALGORITHMS
from impactrl.agents.q_learning import QLearning, train
from impactrl.compile import compile_mdp
from impactrl.errors import ImpactError
from impactrl.measures.impact import COLUMNS
from impactrl.measures.penalty import Penalty
from impactrl.world import Outcome

SMALL = QLearning(episodes=60, learning_rate=0.3, evaluate_every=25)
VISITS = {"learning_rate_schedule": "visits", "learning_rate_power": 0.7}
VARIANTS = {
    "sarsa": {"algorithm": "sarsa"},
    "expected sarsa": {"algorithm": "expected_sarsa"},
    "double q": {"algorithm": "double_q", "initial_value": 1.5},
    "watkins": {"trace_decay": 0.8},
    "sarsa lambda": {"algorithm": "sarsa", "trace_decay": 1.0, "memory": "state"},
    "visits": VISITS,
    "double q visits": {"algorithm": "double_q", **VISITS},
    "watkins visits": {"trace_decay": 0.9, "initial_value": -1.0, **VISITS},
    "state": {"memory": "state"},
    "ramp": {"weight_schedule": "linear", "weight_start": 0.01, "initial_value": 2.0},
    "annealed": {"weight_schedule": "annealed", "weight_half_life": 200.0},
    "rates": {"learning_rate_schedule": "exponential", "learning_rate_end": 0.01, "learning_rate": 1.0},
}


def without_penalty(world):
    return Penalty(deviation="none").fit(compile_mdp(world))


def learned(impact, weight=0.0, seed=0, **settings):
    return train(impact, QLearning(**settings), weights=[weight], seeds=[seed])


# Against the slow learner


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("name", "penalty"),
    [("Box", {"discount": 1.0}), ("Offset", {"baseline": "inaction"}), ("FrozenLake-v1", {"baseline": "start"})],
    ids=["Box", "Offset", "FrozenLake"],
)
def test_a_variant_learns_what_the_slow_learner_learns_bit_for_bit(variant, name, penalty):
    impact = Penalty(**penalty).fit(level(name))
    settings = replace(SMALL, **VARIANTS[variant])
    assert_learned(train(impact, settings, weights=[0.7], seeds=[5]), slow_learner(impact, settings, 0.7, 5))


@st.composite
def any_settings(draw):
    algorithm = draw(st.sampled_from(ALGORITHMS))
    rates = draw(st.sampled_from([{}, VISITS, {"learning_rate_schedule": "linear", "learning_rate_end": 0.05}]))
    weights = draw(
        st.sampled_from(
            [
                {},
                {"weight_schedule": "linear", "weight_start": 3.0},
                {"weight_schedule": "annealed", "weight_half_life": 9.0},
            ]
        )
    )
    return QLearning(
        episodes=20,
        algorithm=algorithm,
        trace_decay=0.0 if algorithm == "double_q" else draw(st.sampled_from([0.0, 0.5, 1.0])),
        initial_value=draw(st.sampled_from([0.0, 2.5])),
        memory=draw(st.sampled_from(["product", "state"])),
        learning_rate=draw(st.sampled_from([0.25, 1.0])),
        discount=draw(st.sampled_from([0.0, 0.9, 1.0])),
        evaluate_every=6,
        **rates,
        **weights,
    )


@given(mdps(max_states=5, max_outcomes=3, max_starts=3), any_settings(), st.integers(0, 99), st.data())
def test_any_settings_in_a_random_world_learn_what_the_slow_learner_learns(mdp, settings, seed, data):
    impact = data.draw(penalties(mdp)).fit(mdp)
    assert_learned(train(impact, settings, weights=[1.5], seeds=[seed]), slow_learner(impact, settings, 1.5, seed))


def test_a_run_of_a_variant_is_the_same_alone_in_a_batch_and_on_two_threads():
    impact = Penalty().fit(level("Options"))
    for variant in VARIANTS.values():
        settings = replace(SMALL, **variant)
        one, two = (train(impact, settings, weights=[0.5, 2.0] * 4, seeds=range(8), threads=n) for n in (1, 2))
        alone = train(impact, settings, weights=[2.0], seeds=[5])
        for name in ("q", "history", "during", "steps"):
            assert (getattr(one, name) == getattr(two, name)).all()
            assert (getattr(one, name)[5:6] == getattr(alone, name)).all()


def test_the_two_kernels_agree_where_they_do_the_same():
    # 1 / n^p with a p so small that n^p is 1 to the last bit.
    impact = Penalty().fit(level("Options"))
    rates = {"learning_rate_schedule": "visits", "learning_rate_power": 1e-300}
    plain, variant = (train(impact, replace(SMALL, **s), weights=[0.5], seeds=[3]) for s in ({}, rates))
    assert (plain.q == variant.q).all()
    assert (plain.during == variant.during).all()


# By hand: 0 -> 1 -> end, each step pays 1; with learning rate 1/2 and discount 1/2

CHAIN = replace(steps([1], [2], None, rewards=[[1], [1]]), noop=None)


@pytest.mark.parametrize(
    ("settings", "after"),
    [
        ({}, [[0.5, 0.5], [0.875, 0.75], [1.125, 0.875]]),  # q0 + (1 + q1 / 2 - q0) / 2, then q1 + (1 - q1) / 2
        ({"initial_value": 4.0}, [[3.5, 2.5], [2.875, 1.75]]),
        ({"trace_decay": 0.5}, [[0.5 + 0.5 * 0.25, 0.5]]),  # the second error, 1, at lambda * discount = 1/4
        ({"trace_decay": 1.0}, [[0.5 + 0.5 * 0.5, 0.5]]),
        ({"learning_rate": 1.0, "learning_rate_schedule": "visits", "learning_rate_power": 1.0}, [[1, 1], [1.25, 1]]),
        ({"learning_rate_schedule": "linear", "learning_rate_end": 1.0}, [[0.5, 0.5], [1.25, 1.0]]),
    ],
    ids=["one step", "optimistic", "lambda 1/2", "lambda 1", "visits", "rising rate"],
)
@pytest.mark.parametrize("algorithm", ["q_learning", "sarsa", "expected_sarsa"])
def test_updates_by_hand_where_there_is_one_action(algorithm, settings, after):
    impact = without_penalty(CHAIN)
    episodes = 2 if "learning_rate_schedule" in settings else len(after)
    for count in range(1, len(after) + 1):
        if "learning_rate_end" in settings and count < episodes:
            continue
        ours = learned(impact, episodes=count, algorithm=algorithm, **({"learning_rate": 0.5} | settings), discount=0.5)
        assert ours.q[0, :2, 0].tolist() == after[count - 1]


def test_targets_by_hand_where_there_are_two_actions():
    """From 0 both actions lead to 1, where they pay 0 and 8; values of 1 are known, then one step from 0 is taken."""
    known = {"learning_rate": 1.0, "discount": 0.5, "epsilon_start": 0.5, "epsilon_end": 0.5}
    world = replace(steps([1, 1], [2, 2], None, rewards=[[0, 0], [0, 8]]), first=[(0.5, 0), (0.5, 1)])
    impact = without_penalty(world)
    seen = {}
    for algorithm in ALGORITHMS:
        ours = learned(impact, episodes=400, algorithm=algorithm, **known)
        assert ours.q[0, 1].tolist() == [0, 8]
        seen[algorithm] = ours.q[0, 0].tolist()
    assert seen["q_learning"] == seen["double_q"] == [4, 4]  # the best action's, halved
    assert seen["expected_sarsa"] == [3, 3]  # 3/4 of it: half greedy, half of the rest at random
    assert set(seen["sarsa"]) <= {0.0, 4.0}  # that of the action taken last


def test_the_first_visits_with_rate_one_over_n_make_the_mean():
    # One state, two outcomes that pay 1 and 5: without a future, the value is the mean of what was paid.
    rules = {("s", 0): [Outcome("s", reward=1.0, probability=0.5), Outcome("t", reward=5.0, probability=0.5)]}
    world = RuleWorld(rules=rules, first=[(1.0, "s")], ends=frozenset({"t"}), actions=("go",), noop=None, time_limit=50)
    rates = {"learning_rate": 1.0, "learning_rate_schedule": "visits", "learning_rate_power": 1.0}
    ours = learned(without_penalty(world), episodes=30, discount=0.0, evaluate_every=30, **rates)
    total = 30 * ours.during[0, 0, COLUMNS.index("reward")]
    np.testing.assert_allclose(ours.q[0].max(), total / ours.steps[0], rtol=1e-12)


def test_an_optimist_tries_everything():
    impact = without_penalty(replace(steps([0] * 4, rewards=[[1, 2, 3, 4]]), time_limit=1))
    settings = {"episodes": 9, "epsilon_start": 0.0, "learning_rate": 1.0, "discount": 0.0}
    assert learned(impact, **settings).q[0, 0].tolist() == [1, 0, 0, 0]
    assert learned(impact, initial_value=5.0, **settings).q[0, 0].tolist() == [1, 2, 3, 4]


# What they converge to

# Eight states, three actions and an end; every state is a first state, so that all is tried often.
MAZE = replace(
    steps(
        *([[1, 2, 0], [3, 0, 4], [5, 1, 2], [0, 6, 3], [7, 2, 4], [8, 6, 1], [4, 4, 3], [6, 0, 8]]),
        None,
        rewards=[[0, 1, -1], [2, 0, 0], [-1, 0, 0], [0, 0, 1], [1, 0, 0], [3, 0, 0], [0, -2, 0], [0, 1, 5], [0, 0, 0]],
    ),
    first=[(1 / 8, s) for s in range(8)],
)
LONG = {"discount": 0.8, "epsilon_end": 1.0, "learning_rate": 1.0, "episodes": 5000, "evaluate_every": 5000}


@pytest.mark.parametrize(
    "variant",
    [{"algorithm": "double_q"}, {"trace_decay": 0.7, "learning_rate": 0.5}, {"initial_value": 30.0}],
    ids=["double q", "watkins", "optimistic"],
)
def test_off_policy_variants_converge_to_the_exact_action_values(variant):
    impact = Penalty(baseline="start", discount=1.0).fit(compile_mdp(MAZE))
    ours = learned(impact, 1.0, **(LONG | variant))
    best = plan(impact, Planner(discount=0.8), 1.0)
    live = ~impact.mdp.terminal
    np.testing.assert_allclose(ours.q[0, live], best.q[live], rtol=0, atol=1e-9)


def test_expected_sarsa_converges_to_the_values_of_what_it_does():
    mdp = compile_mdp(MAZE)
    ours = learned(without_penalty(MAZE), **LONG, algorithm="expected_sarsa")
    follows, live = mdp.next_state[:, :, 0], ~mdp.terminal
    walk = np.zeros((mdp.num_states, mdp.num_states))
    for x in np.flatnonzero(live):
        for y in follows[x][live[follows[x]]]:
            walk[x, y] += 1 / mdp.num_actions
    values = np.linalg.solve(np.eye(mdp.num_states) - 0.8 * walk, mdp.reward[:, :, 0].mean(axis=1))
    exact = mdp.reward[:, :, 0] + 0.8 * np.where(live[follows], values[follows], 0.0)
    np.testing.assert_allclose(ours.q[0, live], exact[live], rtol=0, atol=1e-9)


def test_sarsa_learns_to_stay_away_from_the_edge_and_q_learning_does_not():
    """A bridge of two steps, paying 1 each, with a fall of -20 beside it; a detour of four steps pays 0.2 each."""
    world = replace(
        steps(
            [1, 3, 1],
            [2, 6, 6],
            None,
            [4, 4, 4],
            [5, 5, 5],
            [2, 2, 2],
            None,
            rewards=[[1, 0.2, 1], [1, -20, -20], [0] * 3, [0.2] * 3, [0.2] * 3, [0.2] * 3, [0] * 3],
        ),
        noop=None,
    )
    settings = {"episodes": 20_000, "learning_rate": 0.05, "discount": 1.0, "epsilon_start": 0.3, "epsilon_end": 0.3}
    impact = without_penalty(world)
    bridge = {name: learned(impact, **settings, algorithm=name).q[0, 0].argmax() != 1 for name in ALGORITHMS}
    assert bridge == {"q_learning": True, "sarsa": False, "expected_sarsa": False, "double_q": True}


# Impact during training


def test_what_happens_during_training_by_hand():
    """Three actions: end well (1 side effect), end badly, stay; without learning, episodes are all alike."""
    rules = {
        ("s", 0): [Outcome("well", reward=1.0, performance=2.0, side_effect=1.0)],
        ("s", 1): [Outcome("badly", reward=-1.0)],
        ("s", 2): [Outcome("s", performance=0.5)],
    }
    world = RuleWorld(
        rules=rules,
        first=[(1.0, "s")],
        ends=frozenset({"well", "badly"}),
        done=frozenset({"well"}),
        actions=("a", "b", "stay"),
        noop=2,
        time_limit=4,
    )
    penalty = Penalty(deviation="unreachability", baseline="start", terminal="absorbing", discount=1.0)
    impact = penalty.fit(compile_mdp(world))
    greedy = {"epsilon_start": 0.0, "epsilon_end": 0.0, "learning_rate": 1.0, "evaluate_every": 1}
    ours = learned(impact, 0.0, episodes=2, **greedy)
    assert ours.during[0].tolist() == [[1, 2, 1, 1, 1]] * 2
    # Charged 3, it tries each action once, then stays: 4 steps of 0.5 each.
    ours = learned(impact, 3.0, episodes=4, **greedy)
    assert ours.during[0].tolist() == [[1, 2, 1, 1, 1], [-1, 0, 0, 0, 1], [0, 2, 0, 0, 0], [0, 2, 0, 0, 0]]
    assert learned(impact, 3.0, episodes=4, **(greedy | {"evaluate_every": 2})).during[0].tolist() == [
        [0, 1, 0.5, 0.5, 1],
        [0, 2, 0, 0, 0],
    ]


def test_a_greedy_agent_that_has_learned_does_during_training_what_it_does_in_the_evaluation():
    impact = Penalty(baseline="inaction").fit(level("Offset"))
    ours = learned(impact, 0.3, episodes=3000, learning_rate=1.0, epsilon_schedule="step", evaluate_every=500)
    np.testing.assert_allclose(ours.during[0, -1], ours.history[0, -1], rtol=0, atol=1e-12)
    assert (ours.during[0, 0] != ours.history[0, 0]).any()


def test_a_penalty_lessens_the_impact_of_learning_itself():
    impact = Penalty(discount=1.0).fit(level("Options"))
    settings = QLearning(episodes=2000, learning_rate=1.0, epsilon_end=0.1)
    ours = train(impact, settings, weights=[0.0, 1.0] * 8, seeds=range(16))
    side_effects = ours.during[:, :, COLUMNS.index("side_effect")].mean(axis=1)
    assert side_effects[1::2].max() < 0.7 * side_effects[::2].min()


# The weight over training


@pytest.mark.parametrize(
    ("settings", "factors"),
    [
        ({}, [1, 1, 1]),
        ({"weight_schedule": "linear", "weight_start": 0.0}, [0, 1 / 2, 1]),
        ({"weight_schedule": "linear", "weight_start": 2.0}, [2, 3 / 2, 1]),
        ({"weight_schedule": "annealed", "weight_half_life": 1.0}, [1, 1 / 2, 1 / 3]),  # n = 0, 1, 2 steps before
        ({"weight_schedule": "annealed", "weight_half_life": 2.0}, [1, 2 / 3, 1 / 2]),
    ],
)
def test_weights_over_training_by_hand(settings, factors):
    # One step, to where nothing returns from: relative reachability 1/2. The last episode overwrites what was learned.
    impact = Penalty(discount=1.0, baseline="start").fit(compile_mdp(replace(steps([1], [1]), time_limit=1)))
    for variant in ({}, {"algorithm": "sarsa"}):
        learning = {"learning_rate": 1.0, "discount": 0.0, "episodes": 3, **variant, **settings}
        ours = learned(impact, 4.0, **learning)
        assert ours.q[0, 0, 0] == pytest.approx(-4 * factors[-1] / 2)
        assert ours.history[0, -1, COLUMNS.index("impact")] == 0.5  # the column is always that of weight 1
        averaged = learned(impact, 4.0, **(learning | {"learning_rate_schedule": "visits", "learning_rate_power": 1.0}))
        assert averaged.q[0, 0, 0] == pytest.approx(-4 * np.mean(factors) / 2)


# Memory


def test_learning_on_the_state_alone_is_the_same_where_the_baseline_needs_no_memory():
    impact = Penalty(terminal="absorbing").fit(level("Options"))
    product, state = (learned(impact, 0.5, memory=memory, episodes=200) for memory in ("product", "state"))
    assert (product.q == state.q).all()
    assert (product.row == state.row).all()


def test_learning_on_the_state_alone_cannot_tell_memories_apart():
    impact = Penalty(baseline="inaction").fit(level("Offset"))
    product, state = (learned(impact, 0.5, memory=memory, episodes=200) for memory in ("product", "state"))
    assert product.q.shape == (1, impact.mdp.num_states, impact.mdp.num_actions)
    assert state.q.shape == (1, level("Offset").num_states, impact.mdp.num_actions)
    assert impact.mdp.num_states > level("Offset").num_states
    assert (state.row == impact.state).all()


# Settings


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"algorithm": "q-learning"}, "algorithm must be one of 'q_learning', 'sarsa', 'expected_sarsa', 'double_q'"),
        ({"memory": "board"}, "memory must be one of 'product', 'state', not 'board'"),
        ({"trace_decay": 1.1}, r"trace_decay must be in \[0, 1\], not 1.1"),
        ({"trace_decay": 0.5, "algorithm": "double_q"}, "double_q has two tables and no traces"),
        ({"initial_value": float("inf")}, "initial_value must be finite, not inf"),
        ({"initial_value": "high"}, "initial_value must be a number, not 'high'"),
        (
            {"learning_rate_schedule": "linear"},
            "learning_rate_schedule='linear' or 'exponential' needs a learning_rate",
        ),
        ({"learning_rate_end": 0.1}, "learning_rate_end has no effect without learning_rate_schedule='linear' or"),
        ({"learning_rate_schedule": "visits"}, "learning_rate_schedule='visits' needs a learning_rate_power"),
        ({"learning_rate_power": 0.5}, "learning_rate_power has no effect without learning_rate_schedule='visits'"),
        ({"learning_rate_schedule": "linear", "learning_rate_end": 0}, r"learning_rate_end must be in \(0, 1\], not 0"),
        ({**VISITS, "learning_rate_power": 0.0}, r"learning_rate_power must be in \(0, 1\], not 0"),
        ({"weight_schedule": "linear"}, "weight_schedule='linear' needs a weight_start"),
        ({"weight_start": 0.1}, "weight_start has no effect without weight_schedule='linear'"),
        ({"weight_schedule": "linear", "weight_start": -1}, "weight_start must be finite and at least 0, not -1"),
        ({"weight_schedule": "annealed"}, "weight_schedule='annealed' needs a weight_half_life"),
        ({"weight_schedule": "annealed", "weight_half_life": 0}, "weight_half_life must be finite and above 0, not 0"),
        ({"budget": -0.1}, "budget must be finite and at least 0, not -0.1"),
        ({"budget": float("nan")}, "budget must be finite and at least 0, not nan"),
        ({"budget_units": 0}, "budget_units must be at least 1, not 0"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_bad_settings_are_refused(settings, said):
    with pytest.raises(ImpactError, match=said):
        QLearning(**settings)
