"""Deep Q-agents on Gymnasium environments: what the host remembers, that both drivers agree, and what comes of it."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

from impactrl import DQN, ImpactError, ImpactPenalty, Penalty, compile_mdp, load_policy, solve, train_dqn_on
from impactrl.agents.deep import program
from impactrl.agents.deep.checkpoint import save
from impactrl.agents.deep.hosted import Agent
from impactrl.agents.deep.hosts import host_of
from impactrl.agents.deep.level import level_of
from impactrl.agents.deep.replay import add, empty, no_priorities, revise
from impactrl.agents.deep.rules import rule_of
from impactrl.agents.deep.update import Rule, begin
from impactrl.agents.deep.view import View, view_of
from impactrl.text_world import make_level

QUICK = DQN(steps=200, learning_starts=50, batch_size=8, hidden=(8,), evaluate_every=100)
HALL = """
######
#AV G#
#    #
######
---
[legend.V]
kind = "fragile"
sprite = "vase"
penalty = -5

[legend.G]
reward = 5

[settings]
movement_reward = -0.1
"""


class Corridor(gym.Env[NDArray[np.float32], np.int64]):
    """Shows the copy, the episode and the step. Episodes have one to three steps; odd ones are cut off."""

    action_space = spaces.Discrete(2)
    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)

    def __init__(self, copy: int = 0) -> None:
        self.copy, self.episode, self.t = copy, -1, 0

    def _seen(self) -> NDArray[np.float32]:
        return np.array([self.copy, self.episode, self.t], dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.episode, self.t = self.episode + 1, 0
        return self._seen(), {}

    def step(self, action: np.int64) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        self.t += 1
        over = self.t > (self.copy + self.episode) % 3
        reward = 100.0 * self.episode + 10 * self.t + int(action)
        info = {"task_reward": 1.0, "performance": -float(self.t), "impact/deviation": 0.5}
        return self._seen(), reward, over and self.episode % 2 == 0, over and self.episode % 2 == 1, info


def corridors(mode: AutoresetMode | None) -> Any:
    copies = [lambda copy=copy: Corridor(copy) for copy in range(3)]
    return Corridor() if mode is None else SyncVectorEnv(copies, autoreset_mode=mode)


@pytest.mark.parametrize("mode", [None, *AutoresetMode])
def test_what_is_remembered_is_what_happened(mode: AutoresetMode | None) -> None:
    """Rings of 5 steps, gone round several times."""
    host = host_of(corridors(mode))
    view = view_of(host.observation_space, "mlp")
    settings = DQN(steps=100, buffer_size=5 * host.num_envs, batch_size=4, learning_starts=0, evaluate_every=100)
    rule = rule_of(settings, Penalty(deviation="none"), view.seen, actions=2, noop=None, states=0)
    agent = Agent(rule, view, host, 0)
    kept = np.zeros(host.num_envs)
    for step in range(40):
        kept += agent.step(step, 0).kept
        ring = jax.tree.map(np.asarray, agent.replay)
        assert ring.added.tolist() == kept.tolist()
        for copy, added in enumerate(ring.added.tolist()):
            episodes = []
            for i in range(max(0, added - 5), added):
                place, following, action, reward, terminal, over = (
                    ring._asdict()[name][copy, i % 5]
                    for name in ("place", "following", "action", "reward", "terminal", "over")
                )
                whose, episode, t = agent.memory.observe(place).tolist()
                assert whose == copy
                assert agent.memory.observe(following).tolist() == [copy, episode, t + 1]
                assert reward == 100 * episode + 10 * (t + 1) + action
                assert over == (t + 1 > (copy + episode) % 3)
                assert terminal == (over and episode % 2 == 0)
                episodes.append((episode, t, over))
            for (episode, t, over), (later, u, _) in pairwise(episodes):
                assert (later, u) == ((episode + 1, 0) if over else (episode, t + 1))
    assert (kept == 40).all() == (mode is not AutoresetMode.NEXT_STEP)


@pytest.mark.parametrize("mode", [None, *AutoresetMode])
def test_episodes_are_reported_as_they_were(mode: AutoresetMode | None) -> None:
    table = train_dqn_on(corridors(mode), QUICK, seed=0).episodes
    assert list(table) == ["step", "copy", "return", "length", "reward", "performance", "impact"]
    for copy, rows in table.groupby("copy"):
        lengths = [1 + (int(str(copy)) + episode) % 3 for episode in range(len(rows))]
        assert rows["length"].tolist() == lengths
        assert rows["reward"].tolist() == lengths
        assert rows["impact"].tolist() == [length / 2 for length in lengths]
        assert rows["performance"].tolist() == [-length for length in lengths]
        for episode, length, paid in zip(range(len(rows)), lengths, rows["return"], strict=True):
            certain = 100 * episode * length + 5 * length * (length + 1)
            assert certain <= paid <= certain + length
    if mode is None:
        assert table["step"].tolist() == table["length"].cumsum().tolist()
    assert table["step"].is_monotonic_increasing
    assert table["step"].iloc[-1] <= 202


class Scripted:
    """The random numbers of a compiled run: of each step, and then of the update, if there is one."""

    def __init__(self, rule: Rule, key: jax.Array, steps: int) -> None:
        self._numbers = self._all(rule.settings, key, steps)

    @staticmethod
    def _all(settings: DQN, key: jax.Array, steps: int) -> Iterator[NDArray[np.float32]]:
        every, drawn = settings.update_every, program.DRAWS
        for now in range(0, steps, every):
            keys = jax.random.split(jax.random.fold_in(jax.random.wrap_key_data(key), now))
            draws = np.asarray(jax.random.uniform(keys[0], (every * drawn + 2 * settings.batch_size,)))
            yield from draws[: every * drawn].reshape(every, drawn)[:, :1]
            if now + every > settings.learning_starts:
                yield draws[every * drawn :].reshape(2, -1)

    def random(self, shape: int | tuple[int, ...], dtype: Any) -> NDArray[np.float32]:
        numbers = next(self._numbers)
        assert numbers.shape == (shape if isinstance(shape, tuple) else (shape,))
        assert numbers.dtype == dtype
        return numbers


@pytest.mark.parametrize(
    "switches",
    [
        {},
        {"prioritised": True, "n_steps": 3, "double": False, "dueling": True, "loss": "squared"},
        {
            "optimiser": "sgd",
            "target_every": 20,
            "target_rate": 1.0,
            "buffer_size": 100,
            "epsilon_schedule": "exponential",
        },
    ],
)
def test_both_drivers_are_the_same_learner(switches: dict[str, Any]) -> None:
    """Given the same random numbers: the same steps, and the same values but for the rounding of sums."""
    settings = DQN(
        **{"steps": 400, "learning_starts": 100, "batch_size": 16, "hidden": (16,), "evaluate_every": 100}
        | {"observation": "state", "memory": "state", "learning_rate": 1e-3, "learning_rate_end": 1e-3}
        | switches
    )
    impact = Penalty().fit(compile_mdp("Options"))
    level = level_of(impact, settings)
    rule = rule_of(settings, impact.penalty, level.observation.shape[1:], actions=5, noop=4, states=60)
    key = jnp.array([1, 2], jnp.uint32)
    run, values = program.advance(
        rule,
        level,
        jnp.asarray(impact.unit_penalty, jnp.float32),
        program.new_run(rule, level, key),
        jnp.asarray(1.0),
        0,
        settings.steps,
    )

    env = ImpactPenalty(gym.make("impactrl/Options-v0", observation="state"), weight=1.0)
    host = host_of(env)
    agent = Agent(rule, view_of(host.observation_space, "mlp"), host, 0)
    first, _, steps_key = jax.random.split(jax.random.wrap_key_data(key), 3)  # as `new_run` does
    agent.learner = begin(rule, first)
    agent.rng = Scripted(rule, jax.random.key_data(steps_key), settings.steps)  # type: ignore[assignment]
    for taken in range(1, settings.steps + 1):
        agent.step(taken - 1, 0)
        if taken % settings.update_every == 0 and taken > settings.learning_starts:
            agent.learn(taken)

    ours, theirs = (jax.tree.map(np.asarray, replay) for replay in (agent.replay, run.replay))
    assert int(agent.learner.updates) == int(run.learner.updates) == 75
    for name in ("action", "terminal", "over", "added"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    np.testing.assert_allclose(ours.reward, theirs.reward, atol=1e-6)
    remembered = min(settings.steps, settings.buffer_size)
    places = agent.memory.observe(ours.place[0, :remembered])
    np.testing.assert_array_equal(places, impact.state[theirs.place[0, :remembered]])
    learned = np.asarray(program.outputs_of(agent.learner.network, level.observation))
    assert np.abs(learned - np.asarray(values)).max() < 1e-4 < np.abs(learned).max()


@pytest.fixture
def hall(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "hall.txt").write_text(HALL)
    name = make_level(tmp_path / "hall.txt")
    yield name
    del gym.registry[name]


def outcome(policy: Any, name: str, seen: str = "state") -> tuple[float, float]:
    """Performance and side effects of a greedy episode."""
    env = gym.make(name, observation=seen, max_episode_steps=30)
    observation, _ = env.reset(seed=0)
    over = False
    while not over:
        observation, _, terminated, truncated, info = env.step(policy.act(observation))
        over = terminated or truncated
    return info["performance"], info["side_effect"]


HALL_SETTINGS = DQN(
    steps=2000,
    hidden=(32,),
    learning_rate=5e-3,
    learning_rate_end=5e-4,
    learning_starts=200,
    target_rate=0.02,
    update_every=2,
    discount=0.97,
)


@pytest.mark.parametrize("copies", [1, 4])
def test_training_with_and_without_a_penalty_reaches_either_optimum(copies: int, hall: str) -> None:
    for weight in (0.0, 5.0):
        penalty = Penalty(discount=1.0, weight=weight)
        best = solve(compile_mdp(hall), penalty, discount=HALL_SETTINGS.discount)
        options = {"observation": "state", "max_episode_steps": 30}
        env = gym.make(hall, **options) if copies == 1 else gym.make_vec(hall, num_envs=copies, **options)
        policy = train_dqn_on(ImpactPenalty(env, discount=1.0, weight=weight), HALL_SETTINGS, seed=0)
        expected = best.expected_performance, best.expected_side_effect
        assert outcome(policy, hall) == pytest.approx(expected)
    assert expected == pytest.approx((4.5, 0.0))  # and without a penalty it was another one


def test_a_learned_penalty_keeps_the_vase_whole(hall: str) -> None:
    """The no-op is the level's own; what is learned is which steps cannot be undone."""
    penalty = Penalty(deviation="step_reversibility", discount=1.0, weight=2.0)
    settings = replace(HALL_SETTINGS, impact="learned", steps=4000)
    env = gym.make(hall, observation="planes", max_episode_steps=30)
    policy = train_dqn_on(env, settings, seed=0, penalty=penalty)
    assert outcome(policy, hall, "planes") == pytest.approx((4.5, 0.0))


def test_a_seed_decides_everything() -> None:
    def values(seed: int) -> NDArray[np.float64]:
        env = gym.make_vec("impactrl/Options-v0", num_envs=2, observation="planes")
        policy = train_dqn_on(env, replace(QUICK, prioritised=True), seed=seed)
        return policy.values(env.reset(seed=0)[0])

    first = values(1)
    np.testing.assert_array_equal(first, values(1))
    assert np.abs(first - values(2)).max() > 1e-3


def test_a_step_that_is_not_kept_has_no_priority() -> None:
    """10 priorities do not fill a block."""
    nothing = jnp.zeros(2)
    replay, index = add(
        empty(2, 5),
        place=nothing,
        action=nothing,
        reward=nothing,
        following=nothing,
        terminal=nothing,
        over=nothing,
        kept=jnp.array([False, True]),
    )
    assert replay.added.tolist() == [0, 1]
    priorities = revise(no_priorities(10), index, jnp.array([3.0, 2.0]))
    assert np.flatnonzero(priorities.value).tolist() == [5]
    assert priorities.total.tolist() == [2.0]


# What a network sees


def test_bytes_are_scaled_and_other_numbers_are_not() -> None:
    picture = np.array([[[0, 51], [255, 102]]], dtype=np.uint8)
    box = spaces.Box(0, 255, (1, 2, 2), np.uint8)
    flat, whole = view_of(box, "mlp"), view_of(box, "cnn")
    assert (flat.seen, whole.seen) == ((4,), (1, 2, 2))
    np.testing.assert_allclose(flat.show(flat.stored([picture])), [[0, 0.2, 1, 0.4]])
    np.testing.assert_allclose(whole.show(whole.stored([picture])), [[[[0, 0.2], [1, 0.4]]]])
    far = view_of(spaces.Box(-1e3, 1e3, (2,), np.float64), "mlp")
    np.testing.assert_allclose(far.show(far.stored([[-500.0, 0.5]])), [[-500, 0.5]])


def test_numbers_are_one_hot_from_the_first_on() -> None:
    view = view_of(spaces.Discrete(3, start=5), "mlp")
    np.testing.assert_array_equal(view.show(view.stored([7, 5])), [[0, 0, 1], [1, 0, 0]])
    assert view.identities(view.stored([7, 5])).tolist() == [2, 0]


def test_equal_observations_have_equal_numbers_and_no_others() -> None:
    view = View(shape=(2, 3), dtype="uint8")
    seen = np.random.default_rng(0).integers(0, 3, (2000, 2, 3), dtype=np.uint8)
    numbers = view.identities(seen)
    assert numbers.min() >= 0
    assert numbers.dtype == np.int32
    assert len(np.unique(numbers)) == len(np.unique(seen.reshape(2000, -1), axis=0)) > 600


# Acting, keeping


def test_actions_are_the_best_by_their_values_in_the_environments_numbers() -> None:
    class Shifted(Corridor):
        action_space = spaces.Discrete(2, start=3)

        def step(self, action: np.int64) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
            assert action in (3, 4)
            return super().step(action)

    policy = train_dqn_on(Shifted(), QUICK, seed=0)
    batch = np.array([[0, 0, 0], [0, 3, 1], [2, 1, 0]], dtype=np.float32)
    values = policy.values(batch)
    assert values.shape == (3, 2)
    assert policy.act(batch).tolist() == (values.argmax(axis=1) + 3).tolist()
    assert [policy.act(each) for each in batch] == policy.act(batch).tolist()
    assert isinstance(policy.act(batch[0]), int)
    np.testing.assert_allclose(policy.values(batch[1]), values[1], rtol=1e-6)
    with pytest.raises(
        ImpactError, match=r"expected observations of Box\(3,\) of float32, got float64 of shape \(4,\)"
    ):
        policy.act(np.zeros(4))


@pytest.mark.parametrize("observation", ["state", "planes"])
def test_a_policy_comes_back_from_its_file(observation: str, tmp_path: Path) -> None:
    env = gym.make("impactrl/Options-v0", observation=observation)
    network = "cnn" if observation == "planes" else "mlp"
    policy = train_dqn_on(env, replace(QUICK, network=network, channels=(2,), dueling=True), seed=0)
    policy.save(tmp_path / "policy")
    again = load_policy(tmp_path / "policy")
    first, _ = env.reset(seed=0)
    np.testing.assert_array_equal(again.values(first), policy.values(first))
    assert again.act(first) == policy.act(first)
    assert again.settings == policy.settings
    assert again.episodes.equals(policy.episodes)


def test_a_policy_of_a_training_without_an_ended_episode_can_be_kept(tmp_path: Path) -> None:
    short = DQN(steps=8, learning_starts=4, batch_size=8, hidden=(8,), evaluate_every=4)
    policy = train_dqn_on(gym.make("impactrl/Options-v0", observation="state"), short, seed=0)
    assert len(policy.episodes) == 0
    policy.save(tmp_path / "policy")
    again = load_policy(tmp_path / "policy")
    assert again.episodes.dtypes.equals(policy.episodes.dtypes)
    np.testing.assert_array_equal(again.values(0), policy.values(0))


def test_what_is_no_policy_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    with pytest.raises(ImpactError, match="there is no file"):
        load_policy(path)
    path.write_text("values")
    with pytest.raises(ImpactError, match="no checkpoint of a deep agent"):
        load_policy(path)
    save(path, {"architecture": "hidden (8,)"}, jnp.zeros(2), {})
    with pytest.raises(ImpactError, match=r"with kind='policy': it has .*hidden \(8,\)"):
        load_policy(path)
    monkeypatch.setattr("impactrl.agents.deep.checkpoint.FORMAT", 7)
    save(path, {"kind": "policy"}, jnp.zeros(2), {})
    monkeypatch.undo()
    with pytest.raises(ImpactError, match=r"has format 7; this version of impactrl reads format 1"):
        load_policy(path)


# Bad input


class Odd(Corridor):
    """A corridor with other spaces."""

    def __init__(self, *, shown: spaces.Space[Any] | None = None, actions: spaces.Space[Any] | None = None) -> None:
        super().__init__()
        self.observation_space = shown or Corridor.observation_space  # type: ignore[assignment]
        self.action_space = actions or Corridor.action_space  # type: ignore[assignment]


LEARNED = replace(QUICK, impact="learned")
REVERSIBLE = Penalty(deviation="step_reversibility", discount=1.0)


@pytest.mark.parametrize(
    ("env", "settings", "options", "message"),
    [
        ("corridor", QUICK, {}, "expected a Gymnasium environment or vector environment, not str"),
        (Odd(shown=spaces.Tuple([spaces.Discrete(2)])), QUICK, {}, r"not Tuple\(.*\): wrap .*FlattenObservation"),
        (Odd(shown=spaces.MultiBinary(2)), QUICK, {}, r"not MultiBinary\(2\): wrap .*FlattenObservation"),
        (
            Corridor(),
            replace(QUICK, network="cnn"),
            {},
            r"\(channels, rows, columns\), not Box\(.*TransformObservation",
        ),
        (Odd(actions=spaces.MultiDiscrete([2])), QUICK, {}, r"Discrete actions, not MultiDiscrete\(\[2\]\)"),
        (Corridor(), replace(QUICK, memory="state"), {}, "memory='state' means nothing on an environment of your own"),
        (Corridor(), replace(QUICK, observation="state"), {}, "observation='state' means nothing"),
        (Corridor(), QUICK, {"penalty": Penalty()}, "wrap it in ImpactPenalty"),
        (Corridor(), LEARNED, {}, "give a penalty"),
        (Corridor(), LEARNED, {"penalty": Penalty()}, "compares with doing nothing"),
        (Corridor(), LEARNED, {"penalty": Penalty(), "noop": 2}, r"noop=2 is no action of Discrete\(2\)"),
        (
            Corridor(),
            LEARNED,
            {
                "penalty": Penalty(
                    deviation="attainable_utility",
                    utilities="states",
                    terminal="absorbing",
                    expectation="inside",
                    scale="per-value",
                ),
                "noop": 0,
            },
            "utilities='states' are rewards of states that can be listed",
        ),
    ],
)
def test_what_cannot_be_trained_on_is_refused(env: Any, settings: DQN, options: Any, message: str) -> None:
    with pytest.raises(ImpactError, match=message):
        train_dqn_on(env, settings, seed=0, **options)


def test_a_vector_environment_says_when_it_starts_anew() -> None:
    env = corridors(AutoresetMode.NEXT_STEP)
    env.metadata = {}
    with pytest.raises(ImpactError, match=r"SyncVectorEnv does not say when .*metadata\['autoreset_mode'\]"):
        train_dqn_on(env, QUICK, seed=0)


def test_nothing_is_charged_twice() -> None:
    env = ImpactPenalty(gym.make("impactrl/Options-v0", observation="state"), weight=1.0)
    with pytest.raises(ImpactError, match="charges its impact already"):
        train_dqn_on(env, LEARNED, seed=0, penalty=REVERSIBLE)


def test_what_is_not_finite_says_when() -> None:
    class Unpaid(Corridor):
        def step(self, action: np.int64) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
            seen, reward, *over, info = super().step(action)
            return seen, np.nan if self.episode == 10 else reward, *over, info

    with pytest.raises(ImpactError, match=r"the environment paid \[nan\] after step 19"):
        train_dqn_on(Unpaid(), QUICK, seed=0)
    wild = replace(
        QUICK, learning_rate=1e30, learning_rate_end=1e30, gradient_clip=0.0, optimiser="sgd", loss="squared"
    )
    with pytest.raises(ImpactError, match=r"what was learned is not finite at step 5[26]"):
        train_dqn_on(Corridor(), wild, seed=0)
