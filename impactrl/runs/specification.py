"""What a run is: an environment, a penalty, an agent and a seed; its hash names it for ever."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import gymnasium as gym
import numpy as np

from impactrl.agents.planner import Planner
from impactrl.agents.q_learning import QLearning
from impactrl.errors import ImpactError, whole_number
from impactrl.levels import NAMESPACE, environment_id, world_of
from impactrl.measures.penalty import Penalty

__all__ = ["AGENTS", "Environment", "RunSpecification"]

AGENTS: dict[str, type[QLearning] | type[Planner]] = {"q_learning": QLearning, "planner": Planner}
"""Agents by name."""

Setting = str | int | float | tuple["Setting", ...]


@dataclass(frozen=True)
class Environment:
    """An environment by name, with settings.

    Attributes:
        name: a level's name or a Gymnasium id; kept as the id.
        settings: keyword arguments of the level, as sorted pairs; a mapping will do. Lists become tuples, and whole
            numbers are integers.

    Raises:
        ImpactError: unknown name or setting.

    >>> Environment("Box", {"goal_reward": 1}).label
    'Box goal_reward=1'
    """

    name: str
    settings: tuple[tuple[str, Setting], ...] = ()

    def __post_init__(self) -> None:
        given = self.settings.items() if isinstance(self.settings, Mapping) else self.settings
        settings = {key: _plain(f"setting {key} of {self.name}", value) for key, value in given}
        if len(settings) < len(given):
            raise ImpactError(f"a setting of {self.name} is given twice: {', '.join(key for key, _ in given)}")
        object.__setattr__(self, "name", environment_id(self.name))
        object.__setattr__(self, "settings", tuple(sorted(settings.items())))
        world_of(self.name, settings)

    def content(self) -> dict[str, Any]:
        """All that says which rules these are: also what a level file was registered with, its text."""
        content: dict[str, Any] = {"name": self.name, "settings": dict(self.settings)}
        registered = {key: value for key, value in gym.spec(self.name).kwargs.items() if key != "world"}
        return content | ({"registered": registered} if registered else {})

    @property
    def label(self) -> str:
        """Short name, then the settings."""
        short = self.name.removeprefix(f"{NAMESPACE}/").removesuffix("-v0")
        return " ".join([short, *(f"{key}={value}" for key, value in self.settings)])


@dataclass(frozen=True, kw_only=True)
class RunSpecification:
    """One run, completely.

    Attributes:
        environment: what is played.
        penalty: with its weight.
        agent: who plays, with its settings.
        seed: of everything random in the run.
    """

    environment: Environment
    penalty: Penalty
    agent: QLearning | Planner = field(default_factory=QLearning)
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", whole_number("seed", self.seed, at_least=0))

    @property
    def agent_name(self) -> str:
        """The agent's name in `AGENTS`."""
        return next(name for name, kind in AGENTS.items() if isinstance(self.agent, kind))

    def to_json(self) -> str:
        """The canonical text: sorted keys, no spaces, whole numbers without a fraction."""
        content = {
            "environment": self.environment.content(),
            "penalty": asdict(self.penalty),
            "agent": {"name": self.agent_name, **asdict(self.agent)},
            "seed": self.seed,
        }
        return json.dumps(_canonical(content), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "RunSpecification":
        """The run that `to_json` wrote."""
        content: dict[str, Any] = json.loads(text)
        agent = dict(content["agent"])
        return cls(
            environment=Environment(content["environment"]["name"], content["environment"]["settings"]),
            penalty=Penalty(**content["penalty"]),
            agent=AGENTS[agent.pop("name")](**agent),
            seed=content["seed"],
        )

    @cached_property
    def _digest(self) -> bytes:
        return hashlib.sha256(self.to_json().encode()).digest()

    @property
    def hash(self) -> str:
        """16 hexadecimal digits of the SHA-256 of the canonical text."""
        return self._digest[:8].hex()

    def seed_sequence(self) -> np.random.SeedSequence:
        """The source of all randomness in the run: keyed by the whole specification."""
        words = np.frombuffer(self._digest, dtype="<u4")
        return np.random.SeedSequence(self.seed, spawn_key=tuple(int(w) for w in words))


def _plain(what: str, value: Any) -> Setting:
    """A setting in its one form."""
    if isinstance(value, tuple | list):
        return tuple(_plain(what, entry) for entry in value)
    if not isinstance(value, str | int | float) or value != value:
        raise ImpactError(f"{what} must be text, a number or a list of those, not {value!r}")
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _canonical(value: Any) -> Any:
    """Equal values spelled alike: 7.0 as 7, True as 1."""
    if isinstance(value, dict):
        return {key: _canonical(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [_canonical(entry) for entry in value]
    return int(value) if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()) else value
