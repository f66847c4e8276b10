"""Run specifications: names that last, equal where the runs are equal and different where they are not."""

import json
import os
import pickle
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

import impactrl
from impactrl.measures.presets import PRESETS
from impactrl.runs.specification import AGENTS, Environment, RunSpecification, agent_label

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
    assert hash_in_a_process_of_its_own(hash_seed, tmp_path) == "48e8f9f64adec736"


def test_defaults_stay_as_they_were_released() -> None:
    # A default value is left out of the text of a run: if it changes, stored runs come to mean something else. So never
    # change one; a new field, whose default is what was before, changes nothing.
    released: dict[type, dict[str, Any]] = {
        impactrl.Penalty: {
            "deviation": "relative_reachability",
            "baseline": "stepwise",
            "summary": None,
            "weight": 1.0,
            "discount": 0.99,
            "rollout": False,
            "rollout_discount": 0.99,
            "scale": "none",
            "nonterminal_weight": 1.0,
            "terminal": "previous",
            "utilities": 10,
            "seed": 0,
        },
        impactrl.QLearning: {
            "episodes": 2000,
            "learning_rate": 0.1,
            "discount": 0.99,
            "epsilon_start": 1.0,
            "epsilon_end": 0.0,
            "epsilon_schedule": "linear",
            "evaluate_every": 100,
        },
        impactrl.Planner: {"discount": 0.99, "horizon": None},
    }
    for kind, defaults in released.items():
        settings = kind()
        assert {name: getattr(settings, name) for name in defaults} == defaults


def test_what_has_its_default_value_is_not_in_the_text() -> None:
    plain = RunSpecification(environment=Environment("Options"), penalty=impactrl.Penalty())
    assert plain.to_json() == (
        '{"agent":{"name":"q_learning"},"environment":{"name":"impactrl/Options-v0","settings":{}},"penalty":{},"seed":0}'
    )
    spelled_out = impactrl.Penalty(deviation="relative_reachability", baseline="stepwise", discount=0.99, utilities=10)
    assert replace(plain, penalty=spelled_out).hash == plain.hash
    assert json.loads(BASIC.to_json())["penalty"] == {
        "deviation": "attainable_utility",
        "baseline": "inaction",
        "weight": 3,
        "utilities": 5,
        "seed": 2,
    }


def test_a_new_field_changes_no_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Later(impactrl.QLearning):
        temperature: float = 0.5

    monkeypatch.setitem(AGENTS, "q_learning", Later)
    later = replace(BASIC, agent=Later()).to_json()
    monkeypatch.undo()
    assert later == replace(BASIC, agent=impactrl.QLearning()).to_json()


@pytest.mark.parametrize(
    ("agent", "label"),
    [
        (impactrl.QLearning(), "q_learning"),
        (impactrl.QLearning(learning_rate=1.0, episodes=500), "q_learning episodes=500 learning_rate=1"),
        (impactrl.Planner(horizon=9), "planner horizon=9"),
    ],
)
def test_an_agents_label_names_its_settings(agent: Any, label: str) -> None:
    assert agent_label(agent) == label


def test_only_known_agents_play() -> None:
    with pytest.raises(impactrl.ImpactError, match=r"an agent is QLearning\(\.\.\.\) or .*, not 'planner'"):
        replace(BASIC, agent="planner")  # type: ignore[arg-type]


# Levels of the user's own

LEVEL = "#####\n#AVG#\n#   #\n#####"
WIDE = "######\n#AV G#\n#    #\n######"


@pytest.fixture
def unregistered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(gym, "registry", gym.registry.copy())
    monkeypatch.setattr("gymnasium.envs.registration.registry", gym.registry)
    monkeypatch.setattr("gymnasium.registry", gym.registry)


def forget(name: str) -> None:
    """As in a process where the level was not registered."""
    gym.registry.pop(name)


def on(name: str) -> RunSpecification:
    return replace(BASIC, environment=Environment(name))


@pytest.mark.usefixtures("unregistered")
def test_an_own_level_is_registered_anew_from_the_text_of_a_run() -> None:
    run = on(impactrl.make_level(LEVEL, name="hall"))
    text, hash_, label = run.to_json(), run.hash, run.environment.label
    forget("impactrl/hall-v0")
    again = RunSpecification.from_json(text)
    assert (again.hash, again.environment.label) == (hash_, label)
    assert impactrl.compile_mdp("hall").num_states > 1


@pytest.mark.usefixtures("unregistered")
def test_an_own_level_goes_with_a_run_to_another_process() -> None:
    run = on(impactrl.make_level(LEVEL, name="hall"))
    sent = pickle.dumps(run)
    forget("impactrl/hall-v0")
    again = pickle.loads(sent)
    assert again.hash == run.hash
    assert "hall" in [spec.name for spec in gym.registry.values()]


@pytest.mark.usefixtures("unregistered")
def test_an_own_class_is_registered_anew_from_its_import_path() -> None:
    impactrl.register_level("Corner", "impactrl.envs.sokoban:Box", time_limit=33, settings={"corner_reward": -3})
    run = on("Corner")
    sent, text = pickle.dumps(run), run.to_json()
    for again in (lambda: pickle.loads(sent), lambda: RunSpecification.from_json(text)):
        forget("impactrl/Corner-v0")
        assert again().to_json() == text
        assert gym.spec("impactrl/Corner-v0").max_episode_steps == 33
        assert gym.spec("impactrl/Corner-v0").kwargs["corner_reward"] == -3


@pytest.mark.usefixtures("unregistered")
def test_an_edited_level_has_another_label_and_another_hash() -> None:
    first = on(impactrl.make_level(LEVEL, name="hall"))
    label, hash_ = first.environment.label, first.hash
    forget("impactrl/hall-v0")
    second = on(impactrl.make_level(WIDE, name="hall"))
    assert re.fullmatch(r"hall@[0-9a-f]{6}", label)
    assert re.fullmatch(r"hall@[0-9a-f]{6}", second.environment.label)
    assert second.environment.label != label
    assert second.hash != hash_
    assert Environment("Options").label == "Options"


@pytest.mark.usefixtures("unregistered")
def test_a_run_on_a_level_whose_name_is_taken_is_refused() -> None:
    text = on(impactrl.make_level(LEVEL, name="hall")).to_json()
    forget("impactrl/hall-v0")
    impactrl.make_level(WIDE, name="hall")
    with pytest.raises(impactrl.ImpactError, match="impactrl/hall-v0 is another level here"):
        RunSpecification.from_json(text)


def test_a_run_on_a_level_that_is_not_here_is_refused() -> None:
    text = on("Box").to_json().replace("Box", "Bax")
    with pytest.raises(impactrl.ImpactError, match="unknown environment 'Bax': did you mean 'Box'"):
        RunSpecification.from_json(text)


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


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_comes_back_from_the_text_of_a_run(name: str) -> None:
    run = replace(BASIC, penalty=impactrl.preset(name, weight=2.5))
    again = RunSpecification.from_json(run.to_json())
    assert again == run
    assert json.loads(run.to_json())["penalty"]["weight"] == 2.5


def test_a_penalty_that_cannot_be_written_down_is_refused() -> None:
    by_function = impactrl.Penalty(deviation="features", features={"moves": lambda state: state.agent})
    with pytest.raises(impactrl.ImpactError, match="features that are functions cannot be written down"):
        replace(BASIC, penalty=by_function).to_json()
    with pytest.raises(impactrl.ImpactError, match="features that are functions cannot be written down"):
        impactrl.Sweep(environments=("Box",), penalties=(by_function,))


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
