"""Settings of deep agents: what is refused, and with which words; what they need to be there."""

import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from deep_cases import NONE, SMALL, corridor, random_task

from impactrl.agents import dqn
from impactrl.agents.deep.devices import device_named
from impactrl.agents.deep.rules import rule_of
from impactrl.agents.dqn import DQN, require_deep_learnable, train_dqn
from impactrl.errors import ImpactError
from impactrl.measures.penalty import Penalty

REFUSED: list[tuple[dict[str, Any], str]] = [
    *(
        ({name: "none of them"}, f"{name} must be one of '{known}', .* not 'none of them'")
        for name, known in [
            ("epsilon_schedule", "linear"),
            ("loss", "huber"),
            ("network", "mlp"),
            ("optimiser", "adam"),
            ("observation", "planes"),
            ("memory", "product"),
            ("impact", "exact"),
            ("auxiliary_reward", "states"),
        ]
    ),
    *(
        ({name: 0}, f"{name} must be at least 1, not 0")
        for name in (
            "steps",
            "batch_size",
            "buffer_size",
            "update_every",
            "target_every",
            "n_steps",
            "goals",
            "window",
            "evaluate_every",
        )
    ),
    ({"learning_starts": -1}, "learning_starts must be at least 0, not -1"),
    ({"steps": 10.5}, "steps must be a whole number of at least 1, not 10.5"),
    *(({name: 2}, f"{name} must be true or false, not 2") for name in ("double", "dueling", "prioritised")),
    ({"hidden": 64}, "hidden must be a list of whole numbers, not 64"),
    ({"hidden": "64"}, "hidden must be a list of whole numbers, not '64'"),
    ({"hidden": (64, 0)}, "an entry of hidden must be at least 1, not 0"),
    ({"channels": (1.5,)}, "an entry of channels must be a whole number"),
    *(
        ({name: value}, rf"{name} must be in \[{low}, 1\], not {value:g}")
        for name, low in [
            ("discount", "0"),
            ("epsilon_start", "0"),
            ("epsilon_end", "0"),
            ("priority_exponent", "0"),
            ("importance_exponent", "0"),
            ("exploration", "0"),
            ("target_rate", "0"),
            ("threshold", "0.5"),
        ]
        for value in (-0.1, 1.1, float("nan"))
    ),
    *(
        ({name: value}, f"{name} must be a number of at least 0, not {value:g}")
        for name in ("learning_rate", "learning_rate_end", "gradient_clip")
        for value in (-0.1, float("inf"), float("nan"))
    ),
    ({"discount": "0.9"}, "discount must be a number, not '0.9'"),
    *(
        ({name: 0}, f"{name} must be above 0")
        for name in ("learning_rate", "learning_rate_end", "exploration", "target_rate")
    ),
    ({"threshold": 1}, "threshold must be below 1"),
    ({"epsilon_schedule": "exponential", "epsilon_end": 0}, "an exponential schedule never reaches 0"),
    ({"epsilon_schedule": "exponential", "epsilon_start": 0}, "an exponential schedule never reaches 0"),
    ({"network": "cnn", "observation": "state"}, "network='cnn' needs observation='planes'"),
    ({"network": "cnn", "channels": ()}, "network='cnn' needs at least one entry in channels"),
    ({"dueling": True, "hidden": ()}, "a dueling network needs a hidden layer"),
    ({"buffer_size": 31}, "buffer_size=31 holds no batch of 32 transitions over 1 steps"),
    ({"buffer_size": 40, "n_steps": 41}, "buffer_size=40 holds no batch of 32 transitions over 41 steps"),
    ({"steps": 1001, "learning_starts": 0}, "steps must be a multiple of update_every=4, not 1001"),
    ({"evaluate_every": 1001}, "evaluate_every must be a multiple of update_every=4, not 1001"),
    ({"steps": 400, "learning_starts": 400}, "learning_starts=400 leaves nothing of 400 steps to learn in"),
]


@pytest.mark.parametrize(("given", "message"), REFUSED, ids=lambda entry: str(entry)[:60])
def test_refused_settings(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ImpactError, match=message):
        DQN(**given)


@pytest.mark.parametrize(
    "given",
    [
        {"discount": 0, "epsilon_start": 0, "epsilon_end": 0, "priority_exponent": 0, "gradient_clip": 0},
        {"discount": 1, "importance_exponent": 1, "exploration": 1, "target_rate": 1, "threshold": 0.5},
        {"buffer_size": 32, "n_steps": 32},
        {"steps": 400, "learning_starts": 399},
        {"network": "mlp", "channels": ()},
        {"hidden": (), "observation": "state"},
    ],
)
def test_settings_at_the_border_are_taken(given: dict[str, Any]) -> None:
    settings = DQN(**given)
    assert {name: getattr(settings, name) for name in given} == given


def test_numbers_and_lists_become_what_they_stand_for() -> None:
    settings = DQN(steps=np.int64(5000), hidden=[8, 4], discount=1)  # type: ignore[arg-type]
    assert settings == DQN(steps=5000, hidden=(8, 4), discount=1.0)
    assert hash(settings) == hash(DQN(steps=5000, hidden=(8, 4), discount=1.0))
    assert (type(settings.steps), type(settings.discount)) == (int, float)


@pytest.mark.parametrize(
    ("steps", "every", "expected"),
    [(5000, 2000, [2000, 4000, 5000]), (4000, 2000, [2000, 4000]), (2000, 4000, [2000]), (4, 4, [4])],
)
def test_evaluations_end_with_the_last_step(steps: int, every: int, expected: list[int]) -> None:
    assert DQN(steps=steps, evaluate_every=every, learning_starts=0).evaluations().tolist() == expected


# Penalties that can be learned


@pytest.mark.parametrize(
    "penalty",
    [
        NONE,
        Penalty(),
        Penalty(summary="absolute", scale="discount", terminal="absorbing", nonterminal_weight=0.1, weight=3.0),
        Penalty(deviation="future_tasks"),
        Penalty(deviation="future_tasks", baseline="none"),
        Penalty(deviation="step_reversibility", discount=1.0),
        Penalty(
            deviation="attainable_utility",
            baseline="average",
            scale="per-value",
            terminal="absorbing",
            expectation="inside",
        ),
    ],
)
def test_penalties_that_can_be_learned(penalty: Penalty) -> None:
    require_deep_learnable(penalty)


@pytest.mark.parametrize(
    ("given", "setting"),
    [
        ({"deviation": "unreachability"}, "deviation='unreachability'"),
        ({"baseline": "inaction"}, "baseline='inaction'"),
        ({"deviation": "future_tasks", "baseline": "start"}, "baseline='start'"),
        ({"rollout": True}, "rollout=True"),
        ({"scale": "per-value"}, "scale='per-value'"),
        ({"norm": "L2"}, "norm='L2'"),
        ({"horizon": 3}, "horizon=3"),
        ({"policy": (0, 0, 0, 0)}, r"policy=\(0, 0, 0, 0\)"),
        ({"time_limit_ends": True}, "time_limit_ends=True"),
        ({"goals": 5}, "goals=5"),
        ({"deviation": "step_reversibility", "discount": 0.9}, "discount=0.9"),
        ({"deviation": "attainable_utility"}, "a learned penalty needs"),
    ],
)
def test_penalties_that_cannot_be_learned(given: dict[str, Any], setting: str) -> None:
    with pytest.raises(ImpactError, match=setting):
        require_deep_learnable(Penalty(**given))


AUP = Penalty(deviation="attainable_utility", scale="sum", terminal="absorbing", expectation="inside")
LEARNED = replace(SMALL, impact="learned")
ONE: dict[str, Any] = {"weights": [1.0], "seeds": [0]}


@pytest.mark.parametrize("penalty", [Penalty(), AUP])
def test_doing_nothing_has_to_be_possible(penalty: Penalty) -> None:
    with pytest.raises(ImpactError, match="this world has no no-op action"):
        rule_of(LEARNED, penalty, (4,), actions=2, noop=None, states=4)


def test_future_tasks_without_a_baseline_need_no_noop() -> None:
    penalty = Penalty(deviation="future_tasks", baseline="none")
    assert rule_of(LEARNED, penalty, (4,), actions=2, noop=None, states=4).impact is not None


def test_learned_reachability_is_of_worlds_without_chance() -> None:
    with pytest.raises(ImpactError, match="in this world steps are random"):
        train_dqn(Penalty().fit(random_task(0)), LEARNED, **ONE)


def test_indicators_are_rewards_of_states() -> None:
    with pytest.raises(ImpactError, match="auxiliary_reward='states'"):
        train_dqn(replace(AUP, utilities="states").fit(corridor()), replace(LEARNED, auxiliary_reward="linear"), **ONE)


def test_evaluations_are_at_least_an_episode_apart() -> None:
    with pytest.raises(ImpactError, match="evaluate_every must be at least the level's time limit of 41 steps"):
        train_dqn(NONE.fit(corridor(time_limit=41)), SMALL, **ONE)


def test_a_weight_and_a_seed_for_each_run() -> None:
    with pytest.raises(ImpactError, match="got 2 weights, 1 seeds"):
        train_dqn(NONE.fit(corridor()), SMALL, weights=[1.0, 2.0], seeds=[0])


# What has to be there


@pytest.mark.parametrize(
    ("absent", "said"),
    [
        ({"jax"}, "deep Q-agents need jax, which is not installed: pip install 'impactrl[deep]'"),
        (
            {"jax", "optax", "equinox"},
            "deep Q-agents need jax, optax, equinox, which are not installed: pip install 'impactrl[deep]'",
        ),
    ],
)
def test_without_the_extra(absent: set[str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dqn, "find_spec", lambda name: None if name in absent else find_spec(name))
    with pytest.raises(ImpactError) as refused:
        train_dqn(NONE.fit(corridor()), SMALL, **ONE)
    assert str(refused.value) == said


def test_without_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    import jax

    cpus, asked = jax.devices("cpu"), []

    def devices(kind: str | None = None) -> list[Any]:
        asked.append(kind)
        if kind == "gpu":
            raise RuntimeError(
                "Unknown backend: 'gpu' requested, but no platforms that are instances of gpu are present."
            )
        return cpus

    monkeypatch.setattr(jax, "devices", devices)
    with pytest.raises(ImpactError, match=r"no gpu is here, only cpu: use device='cpu', or install jax with support"):
        train_dqn(NONE.fit(corridor()), SMALL, device="gpu", **ONE)
    assert asked[0] == "gpu"
    assert device_named("cpu") == cpus[0]
    with pytest.raises(ImpactError, match="device must be one of 'cpu', 'gpu', not 'tpu'"):
        device_named("tpu")


IMPORT = "import sys; import impactrl; impactrl.DQN(steps=4000); print('jax' in sys.modules)"


def test_settings_need_no_jax() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False\n"
