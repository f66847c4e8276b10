"""`explain`: notations of actions, numbers worked out by hand, and errors."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import pandas as pd
import pytest

import impactrl
from impactrl.explaining import parse_actions

COLUMNS = ["state", "action", "reward", "performance", "side_effect", "completed", "deviation", "penalty"]
REACHABILITY = impactrl.Penalty(deviation="relative_reachability", baseline="stepwise", discount=1.0)


@pytest.mark.parametrize(
    "actions", ["ldrn", " L D R N ", "2 1 3 4", "2,1,3,4", "2, 1, 3, 4", [2, 1, 3, 4], (2, 1, 3, 4)]
)
def test_letters_numbers_and_sequences_mean_the_same(actions: str | Sequence[int]) -> None:
    table = impactrl.explain("Box", actions=actions, penalty=REACHABILITY)
    assert table["action"].tolist() == ["left", "down", "right", "noop"]
    pd.testing.assert_frame_equal(table, impactrl.explain("Box", actions="LDRN", penalty=REACHABILITY))


def test_indices_of_numpy_are_indices() -> None:
    assert parse_actions(np.array([0, 4]), ["up", "down", "left", "right", "noop"]) == [0, 4]


@pytest.mark.parametrize(
    ("level", "actions", "deviations"),
    [
        # 54 states are no ends. With the box in the corner 45 of them are lost, with the box moved right 12.
        ("Box", "D", [0.8333]),
        ("Box", "LDR", [0.0, 0.0, 0.2222]),
        ("Options", "D", [0.8333]),
    ],
)
def test_deviations_worked_out_by_hand(level: str, actions: str, deviations: list[float]) -> None:
    table = impactrl.explain(level, actions=actions, penalty=REACHABILITY)
    assert table["deviation"].round(4).tolist() == deviations


def test_the_deviation_of_the_corner_is_the_share_of_states_it_cuts_off() -> None:
    mdp = impactrl.compile_mdp("Box")

    def within_reach(state: int) -> set[int]:
        seen, todo = {state}, [state]
        while todo:
            for following in mdp.next_state[todo.pop(), :, 0].tolist():
                if following not in seen:
                    seen.add(following)
                    todo.append(following)
        return {s for s in seen if not mdp.terminal[s]}

    before, after = within_reach(0), within_reach(int(mdp.next_state[0, 1, 0]))
    lost = len(before - after) / int((~mdp.terminal).sum())
    assert impactrl.explain("Box", actions="D", penalty=REACHABILITY)["deviation"][0] == pytest.approx(lost, abs=1e-12)


def test_the_columns_of_a_whole_episode() -> None:
    penalty = impactrl.Penalty(discount=1.0, weight=3.0)
    table = impactrl.explain("Box", actions="DRDRD", penalty=penalty)
    assert list(table.columns) == COLUMNS
    assert table["action"].tolist() == ["down", "right", "down", "right", "down"]
    assert table["reward"].tolist() == [-1, -1, -1, -1, 49]
    assert table["performance"].tolist() == [-11, -12, -13, -14, 35]
    assert table["side_effect"].tolist() == [1] * 5
    assert table["completed"].tolist() == [False] * 4 + [True]
    assert (table["penalty"] == 3.0 * table["deviation"]).all()
    assert [table[c].dtype.kind for c in COLUMNS if c != "action"] == ["i", "f", "f", "f", "b", "f", "f"]
    mdp = impactrl.compile_mdp("Box")
    assert mdp.board_text(int(table["state"].iloc[0]))[2:4] == ["# A  #", "##X  #"]


def test_the_weight_scales_the_penalty_and_not_the_deviation() -> None:
    light, heavy = (impactrl.explain("Box", actions="LDRDR", penalty=impactrl.Penalty(weight=w)) for w in (0.25, 4.0))
    pd.testing.assert_series_equal(light["deviation"], heavy["deviation"])
    assert light["penalty"].sum() > 0
    np.testing.assert_allclose(16 * light["penalty"], heavy["penalty"], rtol=1e-12)


def test_without_a_penalty_nothing_deviates() -> None:
    table = impactrl.explain("Box", actions="DRD")
    assert table["deviation"].tolist() == table["penalty"].tolist() == [0.0, 0.0, 0.0]


def test_actions_after_the_end_are_not_played() -> None:
    table = impactrl.explain("Options", actions="LDRDRDR" + "NNU")
    assert len(table) == 7
    assert table["completed"].tolist() == [False] * 6 + [True]


def test_no_actions_give_a_table_without_rows() -> None:
    table = impactrl.explain("Box", actions="")
    assert len(table) == 0
    assert list(table.columns) == COLUMNS


def test_settings_and_ready_made_environments_are_explained_alike() -> None:
    by_name = impactrl.explain("Box", actions="DRDRD", penalty=REACHABILITY, goal_reward=7, corner_reward=-2)
    assert by_name["reward"].sum() == 2
    assert by_name["performance"].iloc[-1] == 0
    env = gym.make("impactrl/Box-v0", goal_reward=7, corner_reward=-2)
    pd.testing.assert_frame_equal(by_name, impactrl.explain(env, actions="DRDRD", penalty=REACHABILITY))
    world = env.unwrapped.world
    pd.testing.assert_frame_equal(by_name, impactrl.explain(world, actions="DRDRD", penalty=REACHABILITY))


def test_the_seed_decides_what_a_stochastic_world_does() -> None:
    def lake(seed: int) -> list[int]:
        path: list[int] = impactrl.explain("FrozenLake-v1", actions=[2, 1] * 20, seed=seed)["state"].tolist()
        return path

    assert lake(1) == lake(1)
    assert len({tuple(lake(seed)) for seed in range(6)}) > 1


@pytest.mark.parametrize(
    ("source", "actions", "message"),
    [
        ("Box", "LXD", r"unknown action 'X' in 'LXD'; letters: U = up, D = down, L = left, R = right, N = noop"),
        ("Box", "1D", r"actions are letters or numbers, not both: '1D'"),
        ("Box", "1 5", r"there is no action 5; the actions are 0 = up, .*, 4 = noop"),
        ("Box", [0, -1], r"there is no action -1; the actions are 0 = up"),
        ("FrozenLake-v1", "D", r"unknown action 'D' in 'D'; letters: none here: give numbers"),
        ("Bx", "D", r"unknown environment 'Bx': did you mean 'Box'"),
        ("CartPole-v1", "0", r"CartPoleEnv has no known rules"),
    ],
)
def test_what_cannot_be_played_is_refused_with_the_reason(source: str, actions: Any, message: str) -> None:
    with pytest.raises(impactrl.ImpactError, match=message):
        impactrl.explain(source, actions=actions)


def test_settings_of_something_ready_made_are_refused() -> None:
    with pytest.raises(impactrl.ImpactError, match=r"settings \(goal_reward\) go with a level's name"):
        impactrl.explain(gym.make("impactrl/Box-v0"), actions="D", goal_reward=3)


def test_a_penalty_that_does_not_fit_is_refused() -> None:
    with pytest.raises(impactrl.ImpactError, match="no no-op action"):
        impactrl.explain("FrozenLake-v1", actions="1", penalty=REACHABILITY)
