"""Every step of the published programs' episodes, replayed through Gymnasium."""

import gzip
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

import impactrl  # noqa: F401  (registers the levels)
from impactrl.levels import level_names

DATA = Path(__file__).parent / "data"
TRACES = {path.name.removesuffix(".jsonl.gz"): path for path in sorted(DATA.glob("*.jsonl.gz"))}
REPLAYED = [name for name in TRACES if name in level_names()]


def episodes_of(level: str) -> list[dict[str, Any]]:
    with gzip.open(TRACES[level], "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def test_the_published_traces_of_the_first_five_levels_are_replayed() -> None:
    assert {"Options", "Interference", "Offset", "Box", "ConveyorVase"} <= set(REPLAYED)


@pytest.mark.parametrize("level", REPLAYED)
def test_every_step_agrees_with_the_published_program(level: str) -> None:
    episodes = episodes_of(level)
    assert len(episodes) == 30
    mismatches: list[tuple[Any, ...]] = []
    for episode in episodes:
        assert episode["env"] == level
        env = gym.make(f"impactrl/{level}-v0", **episode.get("kwargs", {}))
        board, _ = env.reset(seed=0)
        first = [bytes(row).decode() for row in board]
        if first != episode["board0"]:
            mismatches.append((episode["episode"], "reset", first, episode["board0"]))
        for frame, step in enumerate(episode["steps"]):
            board, reward, terminated, truncated, info = env.step(step["a"])
            got = {
                "board": [bytes(row).decode() for row in board],
                "r": pytest.approx(reward, abs=1e-9),
                "last": terminated or truncated,
                "hidden": pytest.approx(info["performance"], abs=1e-9),
            }
            mismatches += [
                (episode["episode"], frame, column, got[column], step[column])
                for column in got
                if got[column] != step[column]
            ]
    assert mismatches == []


@pytest.mark.parametrize("level", REPLAYED)
def test_only_the_rules_and_the_registered_limit_end_an_episode(level: str) -> None:
    """`last` in a trace is a true end, or the time limit where the trace is as long as that."""
    limit = gym.spec(f"impactrl/{level}-v0").max_episode_steps
    for episode in episodes_of(level):
        env = gym.make(f"impactrl/{level}-v0", **episode.get("kwargs", {}))
        env.reset(seed=0)
        for frame, step in enumerate(episode["steps"], start=1):
            _, _, terminated, truncated, _ = env.step(step["a"])
            assert truncated == (frame == limit)
            assert terminated == (step["last"] and frame != limit)
