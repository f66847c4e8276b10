"""What a run is: an environment, a penalty, an agent and a seed; its hash names it for ever."""

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import cached_property, lru_cache
from typing import Any

import gymnasium as gym
import numpy as np

from impactrl.agents.aup import ModelFreeAUP
from impactrl.agents.auxiliary import learned_penalty
from impactrl.agents.dqn import DQN, require_deep_learnable
from impactrl.agents.impact_learner import ImpactLearner, require_learnable
from impactrl.agents.planner import Planner
from impactrl.agents.q_learning import QLearning
from impactrl.errors import ImpactError, whole_number
from impactrl.levels import NAMESPACE, environment_id, register_level, world_of
from impactrl.measures.penalty import Penalty
from impactrl.text_world import TextWorld, make_level

__all__ = ["AGENTS", "Agent", "Environment", "RunSpecification", "agent_label", "agent_name", "training_unit"]

Agent = QLearning | ModelFreeAUP | ImpactLearner | DQN | Planner

AGENTS: dict[str, type[Agent]] = {
    "q_learning": QLearning,
    "model_free_aup": ModelFreeAUP,
    "impact_learner": ImpactLearner,
    "dqn": DQN,
    "planner": Planner,
}
"""Agents by name."""

Setting = str | int | float | tuple["Setting", ...]

TEXT_WORLD = f"{TextWorld.__module__}:{TextWorld.__name__}"
MARK_DIGITS = 6


@dataclass(frozen=True)
class Environment:
    """An environment by name, with settings.

    It can be sent to another process and kept as JSON: levels of your own are registered anew from their text, or from
    the import path of their class.

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

    def __reduce__(self) -> tuple[Any, ...]:
        return Environment.from_json, (self.to_json(),)

    @cached_property
    def _content(self) -> dict[str, Any]:
        content: dict[str, Any] = {"name": self.name, "settings": dict(self.settings)}
        registered = _registration(self.name)
        return content | ({"registered": registered} if registered else {})

    def to_json(self) -> str:
        """All that says which rules these are: also what a level of the user's own was registered with."""
        return _json(self._content)

    @classmethod
    def from_json(cls, text: str) -> "Environment":
        """The environment that `to_json` wrote; registers a level of the user's own if it is not.

        Raises:
            ImpactError: another level has its name here, or it is unknown.
        """
        content = json.loads(text)
        name, registered = content["name"], content.get("registered", {})
        if name not in gym.registry:
            _register(name, registered)
        if _canonical(_registration(name)) != _canonical(registered):
            raise ImpactError(
                f"{name} is another level here than the one that these runs were made with: give one of them another "
                "name"
            )
        return cls(name, content["settings"])

    @property
    def label(self) -> str:
        """Short name, then the settings. A level from a text has a mark, which changes with the text."""
        short = self.name.removeprefix(f"{NAMESPACE}/").removesuffix("-v0")
        registered = self._content.get("registered", {})
        if {"text", "settings"} & set(registered):
            short += f"@{hashlib.sha256(_json(registered).encode()).hexdigest()[:MARK_DIGITS]}"
        return " ".join([short, *(f"{key}={value}" for key, value in self.settings)])


@dataclass(frozen=True, kw_only=True)
class RunSpecification:
    """One run, completely.

    Attributes:
        environment: what is played.
        penalty: with its weight.
        agent: who plays, with its settings.
        seed: of everything random in the run.

    Raises:
        ImpactError: no agent, no seed, or a penalty that the agent cannot learn.
    """

    environment: Environment
    penalty: Penalty
    agent: Agent = field(default_factory=QLearning)
    seed: int = 0

    def __post_init__(self) -> None:
        agent_name(self.agent)
        if isinstance(self.agent, ModelFreeAUP):
            learned_penalty(self.penalty)
        if isinstance(self.agent, ImpactLearner):
            require_learnable(self.penalty)
        if isinstance(self.agent, DQN) and self.agent.impact == "learned":
            require_deep_learnable(self.penalty)
        object.__setattr__(self, "seed", whole_number("seed", self.seed, at_least=0))

    def to_json(self) -> str:
        """The canonical text: sorted keys, no spaces, whole numbers without a fraction.

        Fields of the penalty and of the agent that have their default value are left out, so that a field that is
        added later changes no hash. (So a default, once released, never changes.)

        Raises:
            ImpactError: the penalty has an object without a name, or a function: see `Penalty.settings`.
        """
        agent, penalty = _agent_json(self.agent), _penalty_json(self.penalty)
        return f'{{"agent":{agent},"environment":{self.environment.to_json()},"penalty":{penalty},"seed":{self.seed}}}'

    @classmethod
    def from_json(cls, text: str) -> "RunSpecification":
        """The run that `to_json` wrote.

        Raises:
            ImpactError: its level is unknown here, or another one of the same name.
        """
        content: dict[str, Any] = json.loads(text)
        agent = dict(content["agent"])
        return cls(
            environment=Environment.from_json(_json(content["environment"])),
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


def agent_name(agent: Agent) -> str:
    """The agent's name in `AGENTS`.

    Raises:
        ImpactError: it is none of those.
    """
    for name, kind in AGENTS.items():
        if type(agent) is kind:
            return name
    raise ImpactError(f"an agent is {' or '.join(f'{kind.__name__}(...)' for kind in AGENTS.values())}, not {agent!r}")


def agent_label(agent: Agent) -> str:
    """The agent's name, then its settings that are not the default.

    >>> agent_label(QLearning(learning_rate=1.0))
    'q_learning learning_rate=1'
    """
    return " ".join([agent_name(agent), *(f"{key}={_canonical(value)}" for key, value in _given(agent).items())])


def training_unit(label: str) -> str:
    """What the training of an agent is counted in, given its label: "episodes" or "steps"."""
    return "steps" if AGENTS.get(label.partition(" ")[0]) is DQN else "episodes"


@lru_cache(maxsize=1024)
def _agent_json(agent: Agent) -> str:
    return _json({"name": agent_name(agent), **_given(agent)})


@lru_cache(maxsize=1024)
def _penalty_json(penalty: Penalty) -> str:
    return _json(penalty.settings())


def _registration(name: str) -> dict[str, Any]:
    """What a level of the user's own was registered with; nothing for a published one."""
    spec = gym.spec(name)
    settings = dict(spec.kwargs)
    world = settings.pop("world", None)
    if world in (None, TEXT_WORLD):
        return settings
    if world.startswith("impactrl.envs.") and spec.name == world.partition(":")[2]:
        return {}
    return {"world": world, "time_limit": spec.max_episode_steps, **({"settings": settings} if settings else {})}


def _register(name: str, registered: Mapping[str, Any]) -> None:
    short = name.removeprefix(f"{NAMESPACE}/").removesuffix("-v0")
    if "text" in registered:
        with warnings.catch_warnings(action="ignore"):  # they were given when the level was registered first
            make_level(f"{registered['text']}\n", name=short)
    elif "world" in registered:
        register_level(
            short, registered["world"], time_limit=registered["time_limit"], settings=registered.get("settings")
        )
    else:
        environment_id(name)  # raises: a level that is not here


def _given(settings: Agent) -> dict[str, Any]:
    """The fields that do not have their default value."""
    values = {each.name: getattr(settings, each.name) for each in fields(settings)}
    defaults = {each.name: _default(each) for each in fields(settings)}
    return {name: value for name, value in values.items() if _canonical(value) != _canonical(defaults[name])}


def _default(of: "Field[Any]") -> Any:
    return of.default_factory() if of.default_factory is not MISSING else of.default


def _plain(what: str, value: Any) -> Setting:
    """A setting in its one form."""
    if isinstance(value, tuple | list):
        return tuple(_plain(what, entry) for entry in value)
    if not isinstance(value, str | int | float) or value != value:
        raise ImpactError(f"{what} must be text, a number or a list of those, not {value!r}")
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(_canonical(content), sort_keys=True, separators=(",", ":"))


def _canonical(value: Any) -> Any:
    """Equal values spelled alike: 7.0 as 7, True as 1."""
    if isinstance(value, Mapping):
        return {key: _canonical(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [_canonical(entry) for entry in value]
    return int(value) if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()) else value
