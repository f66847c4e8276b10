"""Deviations and baselines by name: those of the library, those registered here, those of installed packages."""

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from impactrl.errors import ImpactError, require_known
from impactrl.measures.baselines import BASELINES, BaselineChoice
from impactrl.measures.deviations import Deviation
from impactrl.measures.families import (
    AttainableUtility,
    Empowerment,
    Features,
    FutureTasks,
    Importance,
    Power,
    RelativeReachability,
)
from impactrl.measures.pairwise import Detectability, NoDeviation, StepReversibility, Unreachability, Whitelist

__all__ = [
    "DEVIATIONS",
    "baseline_named",
    "baseline_names",
    "deviation_named",
    "deviation_names",
    "name_of",
    "register_baseline",
    "register_deviation",
    "require_object",
]

DEVIATIONS: dict[str, Deviation] = {
    "none": NoDeviation(),
    "relative_reachability": RelativeReachability(),
    "attainable_utility": AttainableUtility(),
    "unreachability": Unreachability(),
    "step_reversibility": StepReversibility(),
    "future_tasks": FutureTasks(),
    "features": Features(),
    "importance": Importance(),
    "empowerment": Empowerment(),
    "power": Power(),
    "detectability": Detectability(),
    "whitelist": Whitelist(),
}
"""The deviations that come with the library, by name."""

_own_deviations: dict[str, Deviation] = {}
_own_baselines: dict[str, BaselineChoice] = {}


def register_deviation(name: str, deviation: Deviation) -> None:
    """Makes a deviation known by name: to `Penalty`, sweep files and the command line.

    An installed package does the same with an entry point of the group `impactrl.deviations`.

    Raises:
        ImpactError: the name is taken by another one, or the object is no deviation.
    """
    _register("deviation", name, deviation, {**DEVIATIONS, **_own_deviations}, _own_deviations)


def register_baseline(name: str, baseline: BaselineChoice) -> None:
    """Makes a baseline known by name; see `register_deviation` (the group is `impactrl.baselines`)."""
    _register("baseline", name, baseline, {**BASELINES, **_own_baselines}, _own_baselines)


def _register(kind: str, name: str, given: Any, known: Mapping[str, Any], own: dict[str, Any]) -> None:
    require_object(kind, given)
    if known.get(name, given) != given:
        raise ImpactError(f"there is another {kind} called {name!r}; choose another name")
    own[name] = given


def _plugins(kind: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"impactrl.{kind}s")}


def _named(kind: str, name: str, known: Mapping[str, Any]) -> Any:
    if name in known:
        return known[name]
    plugins = _plugins(kind)
    require_known(kind, name, [*known, *plugins])
    loaded = plugins[name].load()
    given = loaded() if isinstance(loaded, type) else loaded
    require_object(kind, given)
    return given


def require_object(kind: str, given: object) -> None:
    """Refuses what is no deviation or no baseline.

    Raises:
        ImpactError: says what it is instead.
    """
    if isinstance(given, type):
        raise ImpactError(f"{kind} must be a name or an object: {given.__name__}(), not the class {given.__name__}")
    if (kind == "deviation" and not isinstance(given, Deviation)) or not hasattr(given, "fit"):
        what = "a ValueFamily, PairDeviation or Deviation" if kind == "deviation" else "a Baseline"
        raise ImpactError(f"{kind} must be a name or {what}, not {given!r}")
    try:
        hash(given)
    except TypeError as error:
        raise ImpactError(
            f"the {kind} {type(given).__name__} must be hashable, so that what was fitted for it can be found again "
            f"({error}): of a dataclass say @dataclass(frozen=True), and give it tuples for lists"
        ) from None


def deviation_named(name: str) -> Deviation:
    """The deviation of a name.

    Raises:
        ImpactError: nobody knows it; names the near ones.
    """
    deviation: Deviation = _named("deviation", name, {**DEVIATIONS, **_own_deviations})
    return deviation


def baseline_named(name: str) -> BaselineChoice:
    """The baseline of a name; as `deviation_named`."""
    baseline: BaselineChoice = _named("baseline", name, {**BASELINES, **_own_baselines})
    return baseline


def deviation_names() -> list[str]:
    """All names that `Penalty` takes for a deviation."""
    return [*DEVIATIONS, *_own_deviations, *_plugins("deviation")]


def baseline_names() -> list[str]:
    """All names that `Penalty` takes for a baseline."""
    return [*BASELINES, *_own_baselines, *_plugins("baseline")]


def name_of(given: object) -> str | None:
    """The name that an object, or one equal to it, is registered under; None if it is not."""
    for known in (DEVIATIONS, _own_deviations, BASELINES, _own_baselines):
        for name, entry in known.items():
            if entry == given:
                return name
    return None
