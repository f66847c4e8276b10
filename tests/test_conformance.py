"""The exported battery over every registered level; and that it can fail."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import gymnasium as gym
import pytest

from impactrl import register_level, testing
from impactrl.envs.fragile import Vase
from impactrl.levels import level_names


@pytest.mark.parametrize("check", testing.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("level", level_names())
def test_level_conforms(level: str, check: Callable[[str], None]) -> None:
    check(level)


@pytest.mark.parametrize("level", ["Box", "Sokocoin2", "ConveyorVase", "SushiGoal"])
def test_level_conforms_with_settings(level: str) -> None:
    testing.check_level(level, goal_reward=1)  # an integer: rewards are floats all the same


@dataclass(frozen=True)
class Forgetful(Vase):
    """Rules that are no function of the state: every other call breaks the vase."""

    def outcomes(self, state, action):
        calls = self.__dict__.setdefault("calls", [0])
        calls[0] += 1
        (outcome,) = super().outcomes(state, action)
        return [outcome._replace(performance=outcome.performance + calls[0] % 2)]


@dataclass(frozen=True)
class Undrawn(Vase):
    """A character that no tile draws."""

    tiles = {"#": "wall", "A": "agent", "G": "goal"}  # noqa: RUF012


@pytest.mark.parametrize(
    ("world", "complaint"),
    [(Forgetful, "check_"), (Undrawn, "without a sprite")],
)
def test_the_battery_finds_faults(world: type, complaint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, module = f"Faulty{world.__name__}", ModuleType(f"faulty_{world.__name__}")
    setattr(module, world.__name__, world)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    register_level(name, f"{module.__name__}:{world.__name__}")
    try:
        with pytest.raises(AssertionError, match=complaint):
            testing.check_level(name)
    finally:
        del gym.registry[f"impactrl/{name}-v0"]
