"""Levels by name: Gymnasium's registry is the only one.

A level is registered with the import path of its `World`, so that importing impactrl loads no rules, and so that
an environment's specification stays plain JSON.
"""

from collections.abc import Mapping
from importlib import import_module
from inspect import signature
from typing import Any

import gymnasium as gym

from impactrl.errors import ImpactError, real_number, require_known
from impactrl.tables import TableWorld
from impactrl.world import AnyWorld

__all__ = ["NAMESPACE", "environment_id", "level_names", "make_world", "register_level", "world_of"]

NAMESPACE = "impactrl"


def register_level(
    name: str,
    world: str,
    *,
    time_limit: int = 100,
    vector: bool = True,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Registers `impactrl/<name>-v0`, so that `gym.make`, sweeps and the command line know the level.

    Args:
        name: letters, digits and dashes.
        world: import path of the world class, `"package.module:Class"`.
        time_limit: steps after which episodes are cut off; must equal the `time_limit` of the class.
        vector: whether `gym.make_vec` steps all copies at once on the compiled arrays; False for levels with too many
            states to be listed.
        settings: keyword arguments that the class always gets, as plain values.
    """
    gym.register(
        f"{NAMESPACE}/{name}-v0",
        entry_point="impactrl.env:GridEnv",
        vector_entry_point="impactrl.vector:GridVectorEnv" if vector else None,
        max_episode_steps=time_limit,
        # GridEnv checks actions and the order of calls itself, in a fraction of the wrappers' time.
        order_enforce=False,
        disable_env_checker=True,
        kwargs={"world": world, **(settings or {})},
    )


def level_names() -> list[str]:
    """The registered levels, in the order of registration."""
    return [spec.name for spec in gym.registry.values() if spec.namespace == NAMESPACE]


def environment_id(name: str) -> str:
    """The Gymnasium id of a level's short name; other ids are left as they are.

    Raises:
        ImpactError: neither a level nor a registered environment; names the near ones.

    >>> environment_id("Box"), environment_id("FrozenLake-v1")
    ('impactrl/Box-v0', 'FrozenLake-v1')
    """
    name = name.removeprefix(f"{NAMESPACE}:")  # gym.make imports what stands before the colon
    full = f"{NAMESPACE}/{name}-v0"
    if full in gym.registry:
        return full
    if name in gym.registry:
        return name
    short = name.removeprefix(f"{NAMESPACE}/").removesuffix("-v0")
    require_known("environment", short, level_names())
    return f"{NAMESPACE}/{short}-v0"


def make_world(path: str, settings: dict[str, Any]) -> AnyWorld:
    """The world at an import path `"package.module:Class"`, with its settings.

    Raises:
        ImpactError: no such class, or it has no such setting.
    """
    module, _, attribute = path.partition(":")
    try:
        factory = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ImpactError(
            f"{path!r} cannot be imported; a world is given as 'package.module:Class' ({error})"
        ) from None
    parameters = signature(factory).parameters
    for name, value in settings.items():
        require_known(f"setting of {attribute}", name, parameters)
        if isinstance(parameters[name].default, float):
            real_number(f"{name} of {attribute}", value)
    world: AnyWorld = factory(**settings)
    return world


def world_of(source: "str | gym.Env[Any, Any] | AnyWorld", settings: dict[str, Any]) -> tuple[AnyWorld, int]:
    """The rules behind a name, an environment or a world, and the episode's time limit.

    Raises:
        ImpactError: unknown name or setting, settings for something already made, or an environment whose rules
            are not known.
    """
    if isinstance(source, str):
        spec = gym.spec(environment_id(source))
        if "world" in spec.kwargs:
            given = {k: v for k, v in spec.kwargs.items() if k != "world"} | settings
            world = make_world(spec.kwargs["world"], given)
            return world, spec.max_episode_steps or world.time_limit
        try:
            env = gym.make(source, **settings)
        except (TypeError, gym.error.Error) as error:
            raise ImpactError(f"{source} cannot be made with the settings {settings}: {error}") from None
        return world_of(env, {})
    if settings:
        raise ImpactError(
            f"settings ({', '.join(settings)}) go with a level's name; this {type(source).__name__} has its own"
        )
    if not isinstance(source, gym.Env):
        return source, source.time_limit
    inner = source.unwrapped
    limit = source.spec.max_episode_steps if source.spec is not None else None
    if hasattr(inner, "world"):
        return inner.world, limit or inner.world.time_limit
    if hasattr(inner, "P") and hasattr(inner, "initial_state_distrib"):
        world = TableWorld.from_toy_text(inner)
        return world, limit or world.time_limit
    raise ImpactError(
        f"{type(inner).__name__} has no known rules: expected an impactrl environment, a `World`, or a toy-text "
        "environment with `P` and `initial_state_distrib`. Write its rules as a `World` to measure impact exactly"
    )
