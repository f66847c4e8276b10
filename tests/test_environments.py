"""The Gymnasium environments: interface, registration, and the facts of the published levels worked out by hand."""

import copy
import inspect
import pickle
import re
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import impactrl
from impactrl.env import OBSERVATIONS
from impactrl.envs.sokoban import Options
from impactrl.levels import level_names, make_world

LEVELS = level_names()
PUBLISHED = ["Options", "Interference", "Offset", "Box", "ConveyorVase"]
MAPS = Path(__file__).parents[1] / "envs" / "levels"
HEADINGS = [
    "Description",
    "Action space",
    "Observation space",
    "Starting state",
    "Rewards",
    "Episode end",
    "Side effect",
    "Reward versus performance",
    "Information",
    "Arguments",
    "Source",
]
KRAKOVNA_2020 = {"movement_reward": 0, "goal_reward": 1, "wall_reward": -1, "corner_reward": -1}


class Casino(impactrl.World[int]):
    """Random starts, random outcomes: what the published levels above do not have."""

    actions = ("stay", "bet")
    noop = 0
    time_limit = 50
    tiles = dict.fromkeys("0123456789", "floor")

    def start(self) -> Sequence[tuple[float, int]]:
        return [(0.25, 2), (0.75, 5)]

    def outcomes(self, state: int, action: int) -> Sequence[impactrl.Outcome[int]]:
        if action == 0:
            return [impactrl.Outcome(state)]
        return [
            impactrl.Outcome(min(9, state + 1), reward=1.0, performance=2.0, probability=0.3),
            impactrl.Outcome(max(1, state - 1), reward=-1.0, side_effect=1.0, probability=0.5),
            impactrl.Outcome(0, probability=0.2),
        ]

    def terminal(self, state: int) -> bool:
        return state == 0

    def board(self, state: int) -> Any:
        return np.array([[ord(str(state))]], dtype=np.uint8)


def without_trailing_blanks(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip("\n").split("\n")]


def world_class(level: str) -> type[Any]:
    module, _, name = gym.spec(f"impactrl/{level}-v0").kwargs["world"].partition(":")
    found: type[Any] = getattr(import_module(module), name)
    return found


def enumerable(level: str) -> bool:
    return bool(world_class(level).enumerable)


def rollout(env: gym.Env[Any, Any], actions: Sequence[int], seed: int) -> list[tuple[Any, ...]]:
    """What every reset and step returned; a new episode after each end."""
    seen: list[tuple[Any, ...]] = [env.reset(seed=seed)]
    for action in actions:
        *step, info = env.step(action)
        seen.append((*step, info))
        if step[2] or step[3]:
            seen.append(env.reset())
    return [(np.asarray(entry[0]).tolist(), *entry[1:]) for entry in seen]


def play(env: gym.Env[Any, Any], letters: str) -> tuple[float, dict[str, Any], bool, bool]:
    """Return, last info, terminated and truncated of one episode that ends no earlier than the letters do."""
    env.reset(seed=0)
    total = 0.0
    for i, letter in enumerate(letters):
        _, reward, terminated, truncated, info = env.step("UDLRN".index(letter))
        total += float(reward)
        assert not terminated or i == len(letters) - 1
    return total, info, terminated, truncated


def actions_for(env: gym.Env[Any, Any], count: int) -> list[int]:
    return np.random.default_rng(3).integers(env.unwrapped.action_space.n, size=count).tolist()


# Interface


@pytest.mark.parametrize("observation", OBSERVATIONS)
@pytest.mark.parametrize("level", LEVELS)
def test_the_checker_of_gymnasium_has_nothing_to_say(level: str, observation: str) -> None:
    if observation == "state" and not enumerable(level):
        with pytest.raises(impactrl.ImpactError, match="too many states"):
            gym.make(f"impactrl/{level}-v0", observation=observation)
        return
    check_env(gym.make(f"impactrl/{level}-v0", observation=observation).unwrapped)  # a warning is an error here


@pytest.mark.parametrize("level", LEVELS)
def test_steps_are_plain_python_and_info_has_the_same_keys_always(level: str) -> None:
    env = gym.make(f"impactrl/{level}-v0").unwrapped
    _, info = env.reset(seed=0)
    infos = [info]
    for action in actions_for(env, 200):
        _, reward, terminated, truncated, info = env.step(action)
        infos.append(info)
        assert (type(reward), type(terminated), type(truncated)) == (float, bool, bool)
        if terminated:
            infos.append(env.reset()[1])
    kinds = {tuple(sorted((key, type(value)) for key, value in info.items())) for info in infos}
    expected = [("completed", bool), ("performance", float), ("side_effect", float)]
    assert kinds == {tuple([*expected, ("state", int)] if enumerable(level) else expected)}


@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_the_seed_decides_every_random_outcome(observation: str) -> None:
    actions = [1, 0, 1, 1, 1] * 20
    first, again, other = (rollout(impactrl.GridEnv(Casino(), observation=observation), actions, s) for s in (4, 4, 5))
    assert first == again
    assert first != other


def test_random_outcomes_come_with_their_probabilities() -> None:
    env = impactrl.GridEnv(Casino(), observation="state")
    starts, outcomes = [], []
    env.reset(seed=0)
    for _ in range(4000):
        env.reset()
        starts.append(env.state)
        before = env.state
        env.step(1)
        outcomes.append("end" if env.state == 0 else "won" if env.state > before else "lost")
    frequencies = [starts.count(5), outcomes.count("won"), outcomes.count("lost"), outcomes.count("end")]
    # Five standard deviations of a share estimated from 4000 draws are at most 0.04.
    assert np.array(frequencies) / 4000 == pytest.approx([0.75, 0.3, 0.5, 0.2], abs=0.04)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_a_copy_in_the_middle_goes_on_alike_and_apart(duplicate: Any) -> None:
    env = impactrl.GridEnv(Casino(), observation="state")
    env.reset(seed=1)
    for _ in range(3):
        env.step(0)
    twin = duplicate(env)
    actions = [1] * 12

    def go_on(one: impactrl.GridEnv) -> list[Any]:
        seen: list[Any] = []
        for action in actions:
            seen.append(one.step(action))
            if seen[-1][2]:
                seen.append(one.reset())
        return seen

    original = go_on(env)  # must not move the twin
    assert go_on(twin) == original


@pytest.mark.parametrize("level", LEVELS)
def test_a_made_environment_survives_pickling_in_mid_episode(level: str) -> None:
    env = gym.make(f"impactrl/{level}-v0")
    env.reset(seed=1)
    env.step(1)
    twin = pickle.loads(pickle.dumps(env))
    for action in (2, 1, 3):
        one, two = env.step(action), twin.step(action)
        np.testing.assert_array_equal(one[0], two[0])
        assert one[1:] == two[1:]
        if one[2]:
            break


@pytest.mark.parametrize("level", LEVELS)
def test_board_state_and_planes_show_the_same(level: str) -> None:
    observations = [o for o in OBSERVATIONS if o != "state" or enumerable(level)]
    envs = {o: gym.make(f"impactrl/{level}-v0", observation=o).unwrapped for o in observations}
    actions = actions_for(envs["board"], 300)
    histories = {o: rollout(env, actions, seed=0) for o, env in envs.items()}
    for i, seen in enumerate(histories["board"]):
        assert all(history[i][1:] == seen[1:] for history in histories.values())
        text = ["".join(map(chr, row)) for row in seen[0]]
        stack = np.array(histories["planes"][i][0])
        assert (stack.sum(axis=0) == 1).all()
        assert text == ["".join(envs["planes"].characters[c] for c in row) for row in stack.argmax(axis=0)]
        if "state" in histories:
            assert histories["state"][i][0] == seen[-1]["state"]
            assert text == envs["state"].mdp.board_text(seen[-1]["state"])


@pytest.mark.parametrize("level", LEVELS)
def test_the_time_limit_of_the_level_is_registered(level: str) -> None:
    env = gym.make(f"impactrl/{level}-v0")
    assert env.spec is not None
    assert env.spec.max_episode_steps == env.unwrapped.world.time_limit
    if enumerable(level):
        assert env.unwrapped.mdp.time_limit == env.unwrapped.world.time_limit


@pytest.mark.parametrize("level", PUBLISHED)
def test_doing_nothing_is_cut_off_exactly_at_the_time_limit(level: str) -> None:
    env = gym.make(f"impactrl/{level}-v0")
    limit = env.unwrapped.world.time_limit
    env.reset(seed=0)
    ends = [env.step(env.unwrapped.world.noop)[2:4] for _ in range(limit)]
    assert ends == [(False, False)] * (limit - 1) + [(False, True)]


# Facts worked out by hand

FACTS: list[tuple[str, dict[str, float], str, float, float, float, bool, bool]] = [
    ("Options", {}, "D", 0, -2, 1, False, False),
    ("Options", {}, "LDRR", 0, -2, 1, False, False),
    ("Options", {}, "LDRDRDR", 1, 1, 0, True, True),
    ("Options", {}, "DRDDR", 1, -1, 1, True, True),
    ("Options", {"goal_reward": 3, "corner_reward": -7}, "DRDDR", 3, -4, 1, True, True),
    ("Damage", {}, "UUU", 1, -1, 1, True, True),
    ("Damage", {}, "UNUU", 1, 1, 0, True, True),
    ("Correction", {}, "NN", 0, 0, 0, False, True),
    ("Correction", {}, "UDRRR", 1, -1, 1, True, True),
    ("Offset", {}, "N" * 20, 0, 0, 0, False, False),
    ("Offset", {}, "DD", 1, 1, 0, True, False),
    ("OffsetSushi", {}, "N" * 20, 0, 1, 0, True, False),
    ("OffsetSushi", {}, "DD", 0, -1, 1, False, False),
    ("Interference", {}, "RRRRRR", 1, 1, 0, True, True),
    ("Interference", {}, "RDNN", 0, -2, 1, False, False),
    ("Vase", {}, "UUU", 1, -1, 1, True, True),
    ("Vase", {}, "LUUUR", 1, 1, 0, True, True),
    ("Burning", {}, "UU", 1, -1, 1, True, True),
    ("Burning", {}, "LLLUURRR", 1, 1, 0, True, True),
    ("BurningOnFire", {}, "UU", 0.8, 0.8, 1, True, True),
    ("BurningOnFire", {}, "LLLUURRR", 0.2, 0.2, 0, True, True),
    ("Box", {}, "DRDRD", 45, 35, 1, True, True),
    ("Box", {}, "LDRDRRD", 43, 43, 0, True, True),
    ("Box", {}, "U", -1, -1, 0, False, False),
    ("Box", {}, "N", 0, 0, 0, False, False),
    ("Box", KRAKOVNA_2020, "DRDRD", 1, 0, 1, True, True),
    ("ConveyorVase", {}, "NNN", 0, 0, 0, False, False),
    ("ConveyorVase", {}, "NNNN", 0, -50, 0, False, False),
    ("ConveyorVase", {}, "DD", 50, 50, 0, True, False),
    ("ConveyorVase", {"goal_reward": 1}, "DD" + "N" * 30, 1, 1, 0, True, False),
]
"""Level, settings, actions; then return, hidden score, side effects, completed, terminated."""


@pytest.mark.parametrize(
    ("level", "settings", "letters", "reward", "performance", "side_effect", "completed", "terminated"),
    [fact for fact in FACTS if fact[0] in LEVELS],
)
def test_columns_of_episodes_worked_out_by_hand(
    level: str,
    settings: dict[str, float],
    letters: str,
    reward: float,
    performance: float,
    side_effect: float,
    completed: bool,
    terminated: bool,
) -> None:
    env = gym.make(f"impactrl/{level}-v0", **settings)
    total, info, ended, _ = play(env, letters)
    assert ended is terminated
    assert total == pytest.approx(reward, abs=1e-12)
    assert info["performance"] == pytest.approx(performance, abs=1e-12)
    assert info["side_effect"] == side_effect
    assert info["completed"] is completed


@pytest.mark.parametrize(("level", "reward", "performance"), [("Offset", 1, -1), ("ConveyorVase", 50, 0)])
def test_a_rescued_vase_that_is_put_back_and_breaks_is_the_side_effect(
    level: str, reward: float, performance: float
) -> None:
    mdp = impactrl.compile_mdp(level)
    queue, seen, found = deque([(0, "")]), {0}, None
    while queue and found is None:
        state, path = queue.popleft()
        for action in range(mdp.num_actions):
            following = int(mdp.next_state[state, action, 0])
            letters = path + "UDLRN"[action]
            if mdp.side_effect[state, action, 0] > 0:
                found = letters
                break
            if following not in seen:
                seen.add(following)
                queue.append((following, letters))
    assert found is not None
    assert len(found) <= 20
    total, info, terminated, truncated = play(gym.make(f"impactrl/{level}-v0"), found)
    assert not terminated
    assert not truncated
    assert (total, info["performance"], info["side_effect"], info["completed"]) == (reward, performance, 1, True)


@pytest.mark.parametrize("level", PUBLISHED)
def test_the_count_of_side_effects_depends_on_the_state_alone(level: str) -> None:
    """What was counted on entering a state is refunded on leaving it, whatever the way."""
    mdp = impactrl.compile_mdp(level)
    count = np.full(mdp.num_states, np.nan)
    count[mdp.start > 0] = 0
    for s in range(mdp.num_states):  # ids are in the order of discovery
        for a in range(mdp.num_actions):
            following = mdp.next_state[s, a, 0]
            if np.isnan(count[following]):
                count[following] = count[s] + mdp.side_effect[s, a, 0]
            assert count[following] == count[s] + mdp.side_effect[s, a, 0]
    assert set(count) == {0.0, 1.0}


class Shaft(Options):
    """A box in a shaft: walls on both sides all the way, and below it in the end."""

    level = "#####\n#GA##\n##X##\n## ##\n## ##\n#####"


def test_walls_on_opposite_sides_are_no_corner_and_three_walls_are() -> None:
    env = impactrl.GridEnv(Shaft())
    env.reset(seed=0)
    assert [env.step(1)[4]["side_effect"] for _ in range(3)] == [0, 1, 1]
    assert env.board_text()[3:5] == ["##A##", "##X##"]


# Drawing


@pytest.mark.parametrize("level", LEVELS)
def test_pictures_have_a_square_of_pixels_for_every_cell_and_follow_the_state(level: str) -> None:
    env = gym.make(f"impactrl/{level}-v0", render_mode="rgb_array", cell_size=16)
    board, _ = env.reset(seed=0)
    first: Any = env.render()
    assert first.dtype == np.uint8
    assert first.shape == (board.shape[0] * 16, board.shape[1] * 16, 3)
    moved = next(moved for moved, *_ in map(env.step, (1, 2, 3, 0)) if (moved != board).any())
    second: Any = env.render()
    cells = (first != second).reshape(board.shape[0], 16, board.shape[1], 16, 3).any(axis=(1, 3, 4))
    np.testing.assert_array_equal(cells, board != moved)


@pytest.mark.parametrize("level", LEVELS)
def test_the_text_picture_is_the_board_in_colour(level: str) -> None:
    env = gym.make(f"impactrl/{level}-v0", render_mode="ansi")
    env.reset(seed=0)
    env.step(1)
    text: Any = env.render()
    assert "\x1b[" in text
    assert re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines() == env.unwrapped.board_text()


# Errors


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"goal_rewrd": 1}, r"unknown setting of Box 'goal_rewrd': did you mean 'goal_reward'"),
        ({"observation": "pixels"}, r"observation must be one of 'board', 'state', 'planes', not 'pixels'"),
    ],
)
def test_settings_that_do_not_exist_are_refused_by_name(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(impactrl.ImpactError, match=message):
        gym.make("impactrl/Box-v0", **settings)


def test_a_render_mode_that_does_not_exist_is_refused() -> None:
    with pytest.raises(impactrl.ImpactError, match=r"render_mode must be one of .*'rgb_array', 'ansi', not 'ascii'"):
        impactrl.GridEnv(make_world("impactrl.envs.sokoban:Box", {}), render_mode="ascii")


def test_settings_do_not_go_with_a_world_that_is_made() -> None:
    with pytest.raises(impactrl.ImpactError, match="settings go with a world given by its import path"):
        impactrl.GridEnv(make_world("impactrl.envs.sokoban:Box", {}), goal_reward=1)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("impactrl.envs.sokobn:Box", "No module named"),
        ("impactrl.envs.sokoban:Boxx", "no attribute 'Boxx'"),
        ("impactrl.envs.sokoban", "'package.module:Class'"),
        ("", "'package.module:Class'"),
    ],
)
def test_a_world_that_cannot_be_imported_is_refused_with_the_reason(path: str, message: str) -> None:
    with pytest.raises(impactrl.ImpactError, match=message):
        impactrl.GridEnv(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Boxx", "unknown environment 'Boxx': did you mean 'Box'"),
        ("box", "did you mean 'Box'"),
        ("impactrl/Optoins-v0", "did you mean 'Options'"),
    ],
)
def test_an_unknown_level_is_answered_with_the_near_ones(name: str, message: str) -> None:
    with pytest.raises(impactrl.ImpactError, match=message):
        impactrl.compile_mdp(name)


@pytest.mark.parametrize("action", [5, -1, 1.0, "up", None, np.array([1])])
def test_an_action_that_does_not_exist_is_refused_and_changes_nothing(action: Any) -> None:
    env = gym.make("impactrl/Box-v0").unwrapped
    env.reset(seed=0)
    board = env.board_text()
    with pytest.raises(impactrl.ImpactError, match=r"action must be an integer .*, not "):
        env.step(action)
    assert env.board_text() == board
    assert env.step(np.int64(1))[1] == -1.0


def test_a_step_after_the_end_asks_for_a_reset() -> None:
    env = gym.make("impactrl/Box-v0")
    play(env, "DRDRD")
    with pytest.raises(impactrl.ImpactError, match=r"call reset\(\)"):
        env.step(0)
    _, info = env.reset()
    assert (info["performance"], info["side_effect"], info["completed"], info["state"]) == (0.0, 0.0, False, 0)


# Registration


def run_python(code: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_gymnasium_alone_finds_the_levels_by_module_and_id(tmp_path: Path) -> None:
    code = (
        "import gymnasium as gym\n"
        "env = gym.make('impactrl:impactrl/Box-v0')\n"
        "env.reset(seed=0)\n"
        "print(env.step(1)[1], env.unwrapped.board_text()[2])"
    )
    assert run_python(code, tmp_path) == "-1.0 # A  #\n"


def test_importing_is_cheap(tmp_path: Path) -> None:
    code = (
        "import sys, impactrl\n"
        "heavy = {'matplotlib', 'pandas', 'numba', 'scipy', 'networkx', 'rich'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "impactrl.solve; print('numba' in sys.modules)"
    )
    assert run_python(code, tmp_path) == "[]\nTrue\n"


def test_every_public_name_can_be_loaded(tmp_path: Path) -> None:
    code = "import impactrl\nfor name in impactrl.__all__: getattr(impactrl, name)\nprint(impactrl.__version__)"
    assert run_python(code, tmp_path) == f"{impactrl.__version__}\n"
    assert set(impactrl.__all__) <= set(dir(impactrl))
    with pytest.raises(AttributeError, match="no attribute 'compile_mpd'"):
        impactrl.compile_mpd  # noqa: B018


OWN_WORLD = '''
from dataclasses import dataclass

import numpy as np

import impactrl


@dataclass(frozen=True)
class Corridor(impactrl.World[int]):
    """Walk right to the end; a vase in the middle can only be broken."""

    length: int = 4
    actions = ("left", "right", "wait")
    noop = 2
    time_limit = 7
    tiles = {"A": "agent"}

    def start(self):
        return [(1.0, 0)]

    def outcomes(self, state, action):
        following = max(0, min(self.length, state + (-1, 1, 0)[action]))
        return [impactrl.Outcome(following, reward=float(following == self.length), performance=-0.5)]

    def terminal(self, state):
        return state == self.length

    def board(self, state):
        row = np.full((1, self.length + 1), ord(" "), dtype=np.uint8)
        row[0, state] = ord("A")
        return row
'''


def test_a_users_own_world_is_a_level_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "corridor_of_a_user.py").write_text(OWN_WORLD)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = dict(gym.registry)
    impactrl.register_level("Corridor", "corridor_of_a_user:Corridor", time_limit=7)
    try:
        check_env(gym.make("impactrl/Corridor-v0", length=2).unwrapped)
        env = gym.make("impactrl/Corridor-v0", length=2)
        env.reset(seed=0)
        assert env.unwrapped.board_text() == ["A  "]
        env.step(1)
        board, reward, terminated, _, info = env.step(1)
        assert (bytes(board[0]), reward, terminated) == (b"  A", 1.0, True)
        assert info == {"state": 2, "performance": -1.0, "side_effect": 0.0, "completed": True}

        slow = gym.make("impactrl/Corridor-v0")
        slow.reset(seed=0)
        assert [slow.step(2)[3] for _ in range(7)] == [False] * 6 + [True]

        mdp = impactrl.compile_mdp("Corridor", length=9)
        assert (mdp.num_states, mdp.noop, mdp.time_limit) == (10, 2, 7)
        wrapped = impactrl.ImpactPenalty(gym.make("impactrl/Corridor-v0"), deviation="unreachability", discount=1.0)
        wrapped.reset(seed=0)
        assert wrapped.step(1)[4]["impact/deviation"] == 0.0  # one can walk back
        assert "Corridor" in level_names()
    finally:
        gym.registry.clear()
        gym.registry.update(before)


# Documentation


@pytest.mark.parametrize("level", LEVELS)
def test_the_docstring_has_the_fixed_headings_in_order(level: str) -> None:
    text = inspect.getdoc(world_class(level)) or ""
    assert re.findall(r"^([A-Z][a-z ]+):", text, flags=re.MULTILINE) == HEADINGS


@pytest.mark.parametrize("level", LEVELS)
def test_the_docstring_shows_the_map_and_names_every_setting_and_the_time_limit(level: str) -> None:
    world = world_class(level)
    text = inspect.getdoc(world) or ""
    picture = without_trailing_blanks(text.split("```\n")[1])
    assert picture == without_trailing_blanks(world.level)
    assert picture in [without_trailing_blanks(path.read_text()) for path in MAPS.glob("*.txt")]
    sections = dict(re.findall(r"^([A-Z][a-z ]+): ((?:.|\n)*?)(?=^[A-Z][a-z ]+:|\Z)", text, flags=re.MULTILINE))
    assert set(re.findall(r"`(\w+)`", sections["Arguments"])) == {field.name for field in fields(world)}
    assert f"{world.time_limit} steps" in sections["Episode end"]
    assert set(re.findall(r"`(\w+)`", sections["Information"])) >= {"performance", "side_effect", "completed"}
    assert "arXiv" in sections["Source"]


def test_every_map_is_that_of_a_level() -> None:
    drawn = {world_class(level).level for level in LEVELS}
    assert {path.name for path in MAPS.iterdir() if path.read_text().rstrip("\n") not in drawn} == set()
