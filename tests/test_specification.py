"""Run specifications: names that last, equal where the runs are equal and different where they are not."""

import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import impactrl
from impactrl.runs.specification import Environment, RunSpecification

BASIC = RunSpecification(
    environment=Environment("Box", {"goal_reward": 7}),
    penalty=impactrl.Penalty(deviation="attainable_utility", baseline="inaction", weight=3.0, utilities=5, seed=2),
    agent=impactrl.QLearning(episodes=40, learning_rate=0.5),
    seed=4,
)
VARIANTS = [
    BASIC,
    replace(BASIC, seed=5),
    replace(BASIC, environment=Environment("Box")),
    replace(BASIC, environment=Environment("Box", {"goal_reward": 8})),
    replace(BASIC, environment=Environment("Box", {"wall_reward": 7})),
    replace(BASIC, environment=Environment("Options", {"goal_reward": 7})),
    replace(BASIC, penalty=replace(BASIC.penalty, weight=3.5)),
    replace(BASIC, penalty=replace(BASIC.penalty, seed=3)),
    replace(BASIC, penalty=replace(BASIC.penalty, baseline="stepwise")),
    replace(BASIC, penalty=replace(BASIC.penalty, rollout=True)),
    replace(BASIC, penalty=replace(BASIC.penalty, utilities=((1.0,), (0.5,)))),
    replace(BASIC, agent=impactrl.QLearning(episodes=41, learning_rate=0.5)),
    replace(BASIC, agent=impactrl.QLearning(episodes=40, learning_rate=0.25)),
    replace(BASIC, agent=impactrl.Planner()),
    replace(BASIC, agent=impactrl.Planner(horizon=9)),
]
DEFAULTS = (
    "RunSpecification(environment=Environment('Options'), penalty=Penalty(weight=0.1), agent=QLearning(), seed=3)"
)


def hash_in_a_process_of_its_own(hash_seed: str, folder: Path) -> str:
    code = (
        "from impactrl import Penalty, QLearning\n"
        "from impactrl.runs.specification import Environment, RunSpecification\n"
        f"print({DEFAULTS}.hash)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize("hash_seed", ["1", "2024"])
def test_the_hash_is_the_same_in_every_process_and_for_ever(hash_seed: str, tmp_path: Path) -> None:
    # Stores are resumed by this hash: if it changes, every stored run is lost to its plan. Change it on purpose only.
    assert hash_in_a_process_of_its_own(hash_seed, tmp_path) == "d4a387324c7ba77e"


def test_the_canonical_text_is_plain_and_sorted() -> None:
    text = BASIC.to_json()
    content = json.loads(text)
    assert text == json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert content["environment"] == {"name": "impactrl/Box-v0", "settings": {"goal_reward": 7}}
    assert content["agent"]["name"] == "q_learning"
    assert (content["seed"], content["penalty"]["seed"], content["penalty"]["weight"]) == (4, 2, 3.0)


@pytest.mark.parametrize("specification", VARIANTS)
def test_a_specification_comes_back_from_its_text(specification: RunSpecification) -> None:
    again = RunSpecification.from_json(specification.to_json())
    assert again == specification
    assert again.hash == specification.hash


def test_a_specification_can_be_sent_to_a_worker() -> None:
    again = pickle.loads(pickle.dumps(BASIC))
    assert (again, again.hash) == (BASIC, BASIC.hash)


def test_whatever_is_different_has_another_hash_and_other_random_numbers() -> None:
    assert len({specification.hash for specification in VARIANTS}) == len(VARIANTS)
    drawn = {tuple(specification.seed_sequence().generate_state(4).tolist()) for specification in VARIANTS}
    assert len(drawn) == len(VARIANTS)


def test_the_random_numbers_of_a_run_are_always_the_same() -> None:
    again = RunSpecification.from_json(BASIC.to_json())
    assert (again.seed_sequence().generate_state(8) == BASIC.seed_sequence().generate_state(8)).all()


@pytest.mark.parametrize(
    "same",
    [
        Environment("Box", {"wall_reward": -2, "goal_reward": 7}),
        Environment("Box", (("goal_reward", 7), ("wall_reward", -2))),
        Environment("Box", (("wall_reward", -2), ("goal_reward", 7))),
        Environment("impactrl/Box-v0", {"goal_reward": 7, "wall_reward": -2}),
    ],
)
def test_one_environment_has_one_name_and_one_order_of_settings(same: Environment) -> None:
    first = Environment("Box", {"goal_reward": 7, "wall_reward": -2})
    assert same == first
    assert hash(same) == hash(first)
    assert replace(BASIC, environment=same).hash == replace(BASIC, environment=first).hash
    assert same.label == "Box goal_reward=7 wall_reward=-2"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            replace(BASIC, environment=Environment("Box", {"goal_reward": 7})),
            replace(BASIC, environment=Environment("Box", {"goal_reward": 7.0})),
        ),
        (
            replace(BASIC, agent=impactrl.QLearning(discount=1)),
            replace(BASIC, agent=impactrl.QLearning(discount=1.0)),
        ),
        (
            replace(BASIC, agent=impactrl.Planner(discount=1)),
            replace(BASIC, agent=impactrl.Planner(discount=1.0)),
        ),
        (
            replace(BASIC, penalty=replace(BASIC.penalty, weight=3)),
            replace(BASIC, penalty=replace(BASIC.penalty, weight=3.0)),
        ),
        (
            replace(BASIC, penalty=replace(BASIC.penalty, rollout=1)),
            replace(BASIC, penalty=replace(BASIC.penalty, rollout=True)),
        ),
        (
            replace(BASIC, environment=Environment("FrozenLake-v1", {"is_slippery": 0})),
            replace(BASIC, environment=Environment("FrozenLake-v1", {"is_slippery": False})),
        ),
        (
            replace(BASIC, penalty=replace(BASIC.penalty, weight=0.0)),
            replace(BASIC, penalty=replace(BASIC.penalty, weight=-0.0)),
        ),
    ],
)
def test_equal_specifications_are_the_same_run(one: RunSpecification, other: RunSpecification) -> None:
    assert one == other
    assert one.hash == other.hash


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("Bax", {}, r"unknown environment 'Bax': did you mean 'Box'"),
        ("impactrl/Opsions-v0", {}, r"did you mean 'Options'"),
        ("Box", {"goal_rewrd": 1}, r"unknown setting of Box 'goal_rewrd': did you mean 'goal_reward'"),
        ("Box", {"goal_reward": {}}, r"setting goal_reward of Box must be text, a number or a list of those, not \{\}"),
        ("CartPole-v1", {}, r"CartPoleEnv has no known rules"),
    ],
)
def test_an_environment_that_cannot_be_run_is_refused_at_once(
    name: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(impactrl.ImpactError, match=message):
        Environment(name, settings)


def test_an_environment_of_gymnasium_goes_with_its_own_settings() -> None:
    lake = Environment("FrozenLake-v1", {"is_slippery": False})
    assert lake.name == "FrozenLake-v1"
    assert lake != Environment("FrozenLake-v1")


def test_an_unknown_setting_of_an_environment_of_gymnasium_is_refused() -> None:
    with pytest.raises(impactrl.ImpactError, match="is_sliperry"):
        Environment("FrozenLake-v1", {"is_sliperry": False})
