"""Sweep files: a plan, or its penalties alone, as TOML."""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from impactrl.errors import ImpactError, require_known
from impactrl.measures.penalty import Penalty
from impactrl.measures.presets import penalty_from_settings
from impactrl.runs.specification import AGENTS, Environment
from impactrl.runs.sweep import Sweep
from impactrl.text_world import LEVEL_FILE, make_level

__all__ = ["read_penalties", "read_sweep"]

Content = TypeVar("Content")


def read_sweep(path: str | Path) -> Sweep:
    """Reads a plan.

    The keys are those of `Sweep`. An environment is a name, or a table with `name` and its settings; a name that ends
    in .txt is a level file, looked for beside the sweep file. A penalty is a table with the fields of `Penalty`; the
    agent is a table with `name` ("q_learning" or "planner") and the fields of its class:

    ```toml
    environments = ["Options", { name = "Box", goal_reward = 1 }]
    weights = [0.1, 1, 10]
    seeds = 20
    agent = { name = "q_learning", learning_rate = 1.0 }

    [[penalties]]
    deviation = "relative_reachability"
    baseline = "stepwise"
    ```

    Raises:
        ImpactError: no such file, no TOML (says where), an unknown key (names the near ones), or a value that
            cannot be; names the file.
    """
    return _read(path, "sweep", lambda content: _sweep(content, Path(path).parent))


def read_penalties(path: str | Path) -> tuple[Penalty, ...]:
    """Reads the `[[penalties]]` of a TOML file; a sweep file will do, whatever else it says.

    Raises:
        ImpactError: as `read_sweep`.
    """
    return _read(path, "penalties", _penalties)


def _read(path: str | Path, kind: str, parsed: Callable[[dict[str, Any]], Content]) -> Content:
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ImpactError(f"cannot read the {kind} file {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ImpactError(f"{path} is no TOML file: {error}") from None
    try:
        return parsed(content)
    except ImpactError as error:
        raise ImpactError(f"{path}: {error}") from None
    except (TypeError, ValueError) as error:
        raise ImpactError(f"{path}: a value has the wrong type: {error}") from None


def _sweep(content: Mapping[str, Any], folder: Path) -> Sweep:
    penalties = _penalties(content)
    if not isinstance(content.get("environments"), list):
        raise ImpactError("a sweep needs a list of environments")
    given: dict[str, Any] = {key: content[key] for key in ("weights", "seeds") if key in content}
    if "agent" in content:
        given["agent"] = _agent(content["agent"])
    return Sweep(
        environments=tuple(_environment(entry, folder) for entry in content["environments"]),
        penalties=penalties,
        **given,
    )


def _penalties(content: Mapping[str, Any]) -> tuple[Penalty, ...]:
    for key in content:
        require_known("key", key, [field.name for field in fields(Sweep)])
    if not isinstance(content.get("penalties"), list):
        raise ImpactError("expected a list of penalties, each a table [[penalties]]")
    return tuple(penalty_from_settings(entry) for entry in content["penalties"])


def _environment(entry: str | Mapping[str, Any], folder: Path) -> Environment:
    table = {"name": entry} if isinstance(entry, str) else entry
    if not isinstance(table, Mapping) or not isinstance(table.get("name"), str):
        raise ImpactError(f"an environment is a name or a table with a name, not {entry!r}")
    name = table["name"]
    if name.endswith(LEVEL_FILE):
        name = make_level(folder / name)
    return Environment(name, tuple((key, value) for key, value in table.items() if key != "name"))


def _agent(entry: Mapping[str, Any]) -> Any:
    if not isinstance(entry, Mapping) or "name" not in entry:
        raise ImpactError(f"the agent is a table with a name: one of {', '.join(AGENTS)}")
    kind = AGENTS[require_known("agent", entry["name"], AGENTS)]
    settings = {k: v for k, v in entry.items() if k != "name"}
    for key in settings:
        require_known(f"setting of {entry['name']}", key, [field.name for field in fields(kind)])
    return kind(**settings)
