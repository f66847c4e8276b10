"""What a run is: an environment, a penalty, an agent and a seed; its hash names it for ever."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from impactrl.agents.planner import Planner
from impactrl.agents.q_learning import QLearning
from impactrl.errors import ImpactError
from impactrl.levels import NAMESPACE, environment_id, world_of
from impactrl.measures.penalty import Penalty

__all__ = ["AGENTS", "Environment", "RunSpecification"]

AGENTS: dict[str, type[QLearning] | type[Planner]] = {"q_learning": QLearning, "planner": Planner}
"""Agents by name."""

Setting = str | int | float | bool


@dataclass(frozen=True)
class Environment:
    """An environment by name, with settings.

    Attributes:
        name: a level's name or a Gymnasium id; kept as the id.
        settings: keyword arguments of the level, as sorted pairs; a mapping will do.

    Raises:
        ImpactError: unknown name or setting.

    >>> Environment("Box", {"goal_reward": 1}).label
    'Box goal_reward=1'
    """

    name: str
    settings: tuple[tuple[str, Setting], ...] = ()

    def __post_init__(self) -> None:
        pairs = self.settings.items() if isinstance(self.settings, Mapping) else self.settings
        for key, value in pairs:
            if not isinstance(value, Setting):
                raise ImpactError(f"setting {key} of {self.name} must be a plain value, not {value!r}")
        object.__setattr__(self, "name", environment_id(self.name))
        object.__setattr__(self, "settings", tuple(sorted(pairs)))
        world_of(self.name, dict(self.settings))

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

    @property
    def agent_name(self) -> str:
        """The agent's name in `AGENTS`."""
        return next(name for name, kind in AGENTS.items() if isinstance(self.agent, kind))

    def to_json(self) -> str:
        """The canonical text: sorted keys, no spaces, whole numbers without a fraction."""
        content = {
            "environment": {"name": self.environment.name, "settings": dict(self.environment.settings)},
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


def _canonical(value: Any) -> Any:
    """Equal numbers spelled alike: 7.0 as 7."""
    if isinstance(value, dict):
        return {key: _canonical(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [_canonical(entry) for entry in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
