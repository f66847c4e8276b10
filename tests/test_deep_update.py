"""The update of deep Q-agents against numbers worked by hand, and against tabular Q-learning."""

from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from deep_cases import TABLE, Walk, jitted, one_hot, random_task, table_network

from impactrl.agents.deep.batch import Batch, batch_of, sample_of
from impactrl.agents.deep.networks import Architecture, outputs_of
from impactrl.agents.deep.replay import add, empty
from impactrl.agents.deep.update import Learner, Rule, begin, epsilon, importance_exponent, update
from impactrl.agents.dqn import DQN
from impactrl.measures.penalty import Penalty

NETWORK = np.array([[1.0, 2.0], [3.0, 0.0], [0.5, -1.0], [0.0, 0.0]])
TARGET = np.array([[0.0, 0.0], [2.0, 4.0], [1.0, 0.0], [8.0, 0.0]])
BY_HAND = DQN(
    steps=1000,
    learning_starts=0,
    update_every=1,
    learning_rate=0.5,
    learning_rate_end=0.5,
    discount=0.5,
    batch_size=2,
    target_rate=1.0,
    **TABLE,
)
ARCHITECTURE = Architecture(observation=(4,), outputs=2, hidden=())
fast_update = jitted(update)


def learner_of(rule: Rule, network: Any = NETWORK, target: Any = TARGET) -> Learner:
    start = begin(rule, jax.random.key(0))
    return start._replace(network=table_network(network), target=table_network(target))


def rule_with(**changes: Any) -> Rule:
    return Rule(settings=replace(BY_HAND, **changes), architecture=ARCHITECTURE)


def two_steps(importance: tuple[float, float] = (1.0, 1.0)) -> Batch:
    """0 -(action 1, pays 1)-> 1, which goes on; and 1 -(action 0, pays -1)-> 2, the end."""
    rows = jnp.zeros(2, jnp.int32)
    return Batch(
        observation=one_hot([[0], [1]], 4),
        action=jnp.array([[1], [0]]),
        reward=jnp.array([[1.0], [-1.0]]),
        following=one_hot([[1], [2]], 4),
        terminal=jnp.array([[False], [True]]),
        alive=jnp.array([[True], [True]]),
        importance=jnp.array(importance),
        before=one_hot([0, 0], 4),
        before_action=rows,
        preceded=jnp.array([False, False]),
        later=one_hot([1, 2], 4),
        arrival=jnp.array([1, 2]),
    )


def learn(rule: Rule, batch: Batch, learner: Learner | None = None) -> tuple[Learner, Any, float]:
    done = fast_update(rule, learner or learner_of(rule), batch, jnp.float32(0.0), jax.random.key(0))
    return done[0], np.asarray(done[1]), float(done[2])


def table_of(network: Any) -> Any:
    """[S, A] values of a network on one-hot observations."""
    return np.asarray(outputs_of(network, jnp.eye(4)))


def test_target_error_loss_and_step() -> None:
    """Wanted: 1 + 0.5 * 4 = 3 where 2 was predicted; -1, since nothing follows, where 3 was."""
    learned, error, loss = learn(rule_with(), two_steps())
    assert error.tolist() == [-1.0, 4.0]
    assert loss == (1 / 2 + 16 / 2) / 2
    expected = NETWORK.copy()
    expected[0, 1] = 2.0 + 0.5 * 1.0 / 2  # the rate times the mean's gradient
    expected[1, 0] = 3.0 - 0.5 * 4.0 / 2
    assert table_of(learned.network).tolist() == expected.tolist()
    assert table_of(learned.target).tolist() == expected.tolist()


def test_double_lets_the_network_choose_and_the_target_value() -> None:
    """In state 1 the network prefers action 0, which the target values 2: wanted is 1 + 0.5 * 2."""
    _, error, _ = learn(rule_with(double=True), two_steps())
    assert error.tolist() == [0.0, 4.0]


def test_huber_is_linear_beyond_errors_of_1() -> None:
    learned, error, loss = learn(rule_with(loss="huber"), two_steps())
    assert error.tolist() == [-1.0, 4.0]
    assert loss == (0.5 + 3.5) / 2
    assert table_of(learned.network)[1, 0] == 3.0 - 0.5 * 1.0 / 2


def test_importance_weights_the_loss_and_not_the_errors() -> None:
    learned, error, loss = learn(rule_with(), two_steps((0.5, 0.25)))
    assert error.tolist() == [-1.0, 4.0]
    assert loss == (0.5 * 0.5 + 0.25 * 8) / 2
    assert table_of(learned.network)[0, 1] == 2.0 + 0.5 * 0.5 / 2
    assert table_of(learned.network)[1, 0] == 3.0 - 0.5 * 0.25 * 4 / 2


def test_the_gradient_is_clipped_by_its_norm() -> None:
    """Errors of -6 and 8 make gradients of -3 and 4, of norm 5: with at most 2.5 they are halved."""
    batch = two_steps()._replace(reward=jnp.array([[6.0], [-5.0]]))
    learned, error, _ = learn(rule_with(gradient_clip=2.5), batch)
    assert error.tolist() == [-6.0, 8.0]
    assert table_of(learned.network)[0, 1] == pytest.approx(2.0 + 0.5 * 3 / 2, rel=1e-6)
    assert table_of(learned.network)[1, 0] == pytest.approx(3.0 - 0.5 * 4 / 2, rel=1e-6)


def test_adam_first_moves_by_the_rate_whatever_the_gradient() -> None:
    learned, _, _ = learn(rule_with(optimiser="adam", learning_rate=0.1), two_steps())
    change = table_of(learned.network) - NETWORK
    np.testing.assert_allclose(change[[0, 1], [1, 0]], [0.1, -0.1], rtol=1e-5)
    assert np.count_nonzero(change) == 2


def test_the_learning_rate_falls_linearly_over_the_updates() -> None:
    """4 updates from 12 steps; the Huber gradient of a large error is 1, so the value moves by the rate itself."""
    rule = rule_with(
        steps=12,
        learning_starts=4,
        update_every=2,
        evaluate_every=2,
        learning_rate=1.0,
        learning_rate_end=0.5,
        loss="huber",
        discount=0.0,
    )
    batch = two_steps()._replace(reward=jnp.array([[100.0], [-100.0]]))
    learner, seen = learner_of(rule, target=NETWORK), []
    for _ in range(6):
        learner, _, _ = learn(rule, batch, learner)
        seen.append(float(table_of(learner.network)[0, 1]))
    np.testing.assert_allclose(2 * np.diff([2.0, *seen]), [1.0, 0.875, 0.75, 0.625, 0.5, 0.5], atol=1e-5)


def test_the_target_is_copied_every_so_many_updates() -> None:
    rule = rule_with(target_every=3)
    learner = learner_of(rule)
    for update_number in range(1, 8):
        before = learner.target
        learner, _, _ = learn(rule, two_steps(), learner)
        expected = learner.network if update_number % 3 == 0 else before
        assert table_of(learner.target).tolist() == table_of(expected).tolist()
    assert table_of(learner.target).tolist() != table_of(learner.network).tolist()


def test_polyak_moves_the_target_a_quarter_of_the_way() -> None:
    learned, _, _ = learn(rule_with(target_rate=0.25), two_steps())
    expected = TARGET + 0.25 * (table_of(learned.network) - TARGET)
    np.testing.assert_allclose(table_of(learned.target), expected, rtol=1e-6)


def test_dueling_learns_the_value_and_the_advantages() -> None:
    """Value 2, advantages 1 and 3: the values are 1 and 3. An error of 1 in the first moves them by the chain rule."""
    architecture = Architecture(observation=(1,), outputs=2, hidden=(1,), dueling=True)
    settings = replace(BY_HAND, batch_size=1, hidden=(1,), dueling=True, learning_rate=0.1, learning_rate_end=0.1)
    rule = Rule(settings=settings, architecture=architecture)
    learner = begin(rule, jax.random.key(0))

    def filled(network: Any) -> Any:
        def parts(n: Any) -> list[Any]:
            layer = n.layers[0]
            return [layer.weight, layer.bias, n.head.weight, n.head.bias, n.value.weight, n.value.bias]

        numbers = [[[1.0]], [0.0], [[1.0], [3.0]], [0.0, 0.0], [[2.0]], [0.0]]
        return eqx.tree_at(parts, network, [jnp.array(n) for n in numbers])

    learner = learner._replace(network=filled(learner.network), target=filled(learner.target))
    batch = Batch(
        observation=jnp.ones((1, 1, 1)),
        action=jnp.zeros((1, 1), jnp.int32),
        reward=jnp.zeros((1, 1)),
        following=jnp.ones((1, 1, 1)),
        terminal=jnp.ones((1, 1), bool),
        alive=jnp.ones((1, 1), bool),
        importance=jnp.ones(1),
        before=jnp.ones((1, 1)),
        before_action=jnp.zeros(1, jnp.int32),
        preceded=jnp.zeros(1, bool),
        later=jnp.ones((1, 1)),
        arrival=jnp.zeros(1, jnp.int32),
    )
    np.testing.assert_allclose(outputs_of(learner.network, jnp.ones(1)), [1.0, 3.0])
    learned, error, _ = learn(rule, batch, learner)
    assert error.tolist() == [1.0]
    network: Any = learned.network
    np.testing.assert_allclose(network.head.weight[:, 0], [1 - 0.1 * 0.5, 3 + 0.1 * 0.5], rtol=1e-6)
    np.testing.assert_allclose([network.value.weight[0, 0], network.value.bias[0]], [1.9, -0.1], rtol=1e-6)
    # dQ/dx = 2 + 1 - (1 + 3) / 2 = 1
    np.testing.assert_allclose([network.layers[0].weight[0, 0], network.layers[0].bias[0]], [0.9, -0.1], rtol=1e-6)


# Several steps of reward, from what happened to what is wanted

EPISODES = {
    # 0 -> 1 -> 2 -> 3, paying 1, 2 and 4; then what follows the second step differs.
    "goes on": ([False, False, False], [False, False, False], 1 + 0.5 * 2 + 0.25 * 4 + 0.125 * 8.0),
    "ends": ([False, True, False], [False, True, False], 1 + 0.5 * 2),
    "is cut off": ([False, False, False], [False, True, False], 1 + 0.5 * 2 + 0.25 * 1.0),
    "ends at the last step": ([False, False, True], [False, False, True], 1 + 0.5 * 2 + 0.25 * 4),
    "has come so far": ([False, False], [False, False], 1 + 0.5 * 2 + 0.25 * 1.0),
    "has only begun": ([False], [False], 1 + 0.5 * 4.0),
}


@pytest.mark.parametrize("case", EPISODES)
def test_the_target_of_three_steps(case: str) -> None:
    """The best values by the target are 4, 1 and 8 in states 1, 2 and 3."""
    terminal, over, wanted = EPISODES[case]
    replay = empty(1, 8)
    for s, (ends, cut) in enumerate(zip(terminal, over, strict=True)):
        replay, _ = add(
            replay,
            place=jnp.array([s]),
            action=jnp.array([1]),
            reward=jnp.array([2.0**s]),
            following=jnp.array([s + 1]),
            terminal=jnp.array([ends]),
            over=jnp.array([cut]),
            kept=jnp.array([True]),
        )
    rule = rule_with(n_steps=3, batch_size=1)
    sample = sample_of(rule.settings, replay, jnp.array([0]), jnp.array([0.0]))
    batch = batch_of(sample, jnp.ones(1), jnp.eye(4).__getitem__, lambda number: number)
    _, error, _ = learn(rule, batch)
    assert error.tolist() == [2.0 - wanted]


# Learned impact, with one that says what it was asked


@dataclass(frozen=True)
class Asked:
    """Charges 1000 * before + 10 * action + after, and learns to add what it was given to learn from."""

    def begin(self, key: jax.Array) -> jax.Array:
        del key
        return jnp.zeros(())

    def improve(self, state: jax.Array, batch: Batch, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        del key
        return state + batch.reward.sum(), jnp.zeros(())

    def charge(self, state: jax.Array, observation: jax.Array, action: jax.Array, following: jax.Array) -> jax.Array:
        place = jnp.arange(observation.shape[-1])
        return 1e4 * state + 1000.0 * observation @ place + 10.0 * action + following @ place


def asked(*, previous: bool, nonterminal_weight: float = 1.0, preceded: bool = True, rewards: Any = (0, 0)) -> Any:
    """Errors of two steps: 1 -(action 1)-> 2, and 2 -(action 0)-> 3, the end, after 1 -(action 1)-> 2."""
    settings = replace(BY_HAND, discount=0.0)
    rule = Rule(
        settings=settings,
        architecture=ARCHITECTURE,
        impact=Asked(),
        previous=previous,
        nonterminal_weight=nonterminal_weight,
    )
    batch = two_steps()._replace(
        observation=one_hot([[1], [2]], 4),
        following=one_hot([[2], [3]], 4),
        action=jnp.array([[1], [0]]),
        reward=jnp.array(rewards, jnp.float32)[:, None],
        before=one_hot([0, 1], 4),
        before_action=jnp.array([0, 1]),
        preceded=jnp.array([True, preceded]),
    )
    learner = learner_of(rule, network=0 * NETWORK)
    learned, error, _ = fast_update(rule, learner, batch, jnp.float32(2.0), jax.random.key(0))
    return error.tolist(), float(learned.impact)


def test_a_learned_charge_is_paid_with_the_weight() -> None:
    assert asked(previous=False)[0] == [2.0 * 1012, 2.0 * 2003]


def test_the_step_that_ends_the_episode_is_charged_for_the_one_before_it() -> None:
    assert asked(previous=True)[0] == [2.0 * 1012, 2.0 * 1012]
    assert asked(previous=True, preceded=False)[0] == [2.0 * 1012, 0.0]


def test_the_weight_of_steps_before_the_end() -> None:
    assert asked(previous=False, nonterminal_weight=0.5)[0] == [2.0 * 506, 2.0 * 2003]
    assert asked(previous=True, nonterminal_weight=0.5)[0] == [2.0 * 506, 2.0 * 1012]


def test_the_impact_learns_first_and_is_charged_then() -> None:
    error, known = asked(previous=False, rewards=(1, 2))
    assert known == 3.0
    assert error == [2.0 * (3e4 + 1012) - 1, 2.0 * (3e4 + 2003) - 2]


def test_charges_inside_a_sample_of_several_steps() -> None:
    """1 -> 2 -> 3, the end: the second step is charged for the first, whatever came before the sample."""
    settings = replace(BY_HAND, n_steps=2, batch_size=1, discount=0.5)
    rule = Rule(settings=settings, architecture=ARCHITECTURE, impact=Asked(), previous=True)
    batch = Batch(
        observation=one_hot([[1, 2]], 4),
        action=jnp.array([[1, 0]]),
        reward=jnp.zeros((1, 2)),
        following=one_hot([[2, 3]], 4),
        terminal=jnp.array([[False, True]]),
        alive=jnp.array([[True, True]]),
        importance=jnp.ones(1),
        before=one_hot([0], 4),
        before_action=jnp.array([0]),
        preceded=jnp.array([False]),
        later=one_hot([2], 4),
        arrival=jnp.array([2]),
    )
    learner = learner_of(rule, network=0 * NETWORK)
    _, error, _ = fast_update(rule, learner, batch, jnp.float32(1.0), jax.random.key(0))
    assert error.tolist() == [1012 + 0.5 * 1012]


# Schedules


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("linear", [0.9, 0.5, 0.1, 0.1]), ("exponential", [0.9, 0.3, 0.1, 0.1])],
)
def test_epsilon_falls_over_its_share_of_the_steps(schedule: str, expected: list[float]) -> None:
    settings = DQN(steps=1000, epsilon_start=0.9, epsilon_end=0.1, exploration=0.4, epsilon_schedule=schedule)
    seen = [float(epsilon(settings, jnp.asarray(step))) for step in (0, 200, 400, 900)]
    np.testing.assert_allclose(seen, expected, rtol=1e-6)


def test_the_importance_exponent_rises_to_1() -> None:
    settings = DQN(steps=1000, importance_exponent=0.4)
    seen = [float(importance_exponent(settings, jnp.asarray(step))) for step in (0, 500, 1000)]
    np.testing.assert_allclose(seen, [0.4, 0.7, 1.0], rtol=1e-6)


# A table


@pytest.mark.parametrize("seed", range(4))
def test_with_a_table_for_a_network_it_is_q_learning(seed: int) -> None:
    """Step by step: a replay of one step is what just happened, and the target is the network."""
    mdp = random_task(seed)
    settings = DQN(
        steps=400,
        evaluate_every=400,
        learning_starts=0,
        update_every=1,
        batch_size=1,
        buffer_size=1,
        learning_rate=0.3,
        learning_rate_end=0.3,
        discount=0.9,
        target_rate=1.0,
        **TABLE,
    )
    walk = Walk(Penalty(discount=0.9, terminal="absorbing").fit(mdp), settings, weight=1.5 * (seed % 2), seed=seed)
    q = np.array(outputs_of(walk.run.learner.network, walk.level.observation))
    assert q.shape == (6, 3)
    reward = walk.impact.penalised_reward(walk.weight)
    ended = cut = 0
    for step in range(1, 201):
        s = int(walk.run.place)
        walk.to(step)
        happened = {name: array[0, 0].item() for name, array in walk.run.replay._asdict().items() if name != "added"}
        assert happened["place"] == s
        a, following = happened["action"], happened["following"]
        (k,) = np.flatnonzero(mdp.next_state[s, a] == following)
        ahead = 0.0 if mdp.terminal[following] else 0.9 * q[following].max()
        q[s, a] += np.float32(0.3) * (np.float32(reward[s, a, k]) + ahead - q[s, a])
        np.testing.assert_allclose(walk.values, q, rtol=2e-6, atol=2e-6)
        q = walk.values.copy()
        ended += happened["terminal"]
        cut += happened["over"] and not happened["terminal"]
    assert ended > 0
    assert cut > 0  # with a value of what would have followed
