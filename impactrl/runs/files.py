"""Sweep files: a plan, or its penalties alone, as TOML."""

import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from impactrl.errors import ImpactError, require_known, whole_number
from impactrl.measures.penalty import Penalty
from impactrl.measures.presets import penalty_from_settings
from impactrl.runs.lines import line_of
from impactrl.runs.specification import AGENTS, Agent, Environment
from impactrl.runs.sweep import Sweep, weight_of
from impactrl.text_world import LEVEL_FILE, make_level

__all__ = ["read_penalties", "read_sweep"]

KEYS = tuple(field.name for field in fields(Sweep))


class _MistakeError(ImpactError):
    """A mistake and the line it is in, None if it is in no line of its own."""

    def __init__(self, message: str, line: int | None) -> None:
        super().__init__(message)
        self.line = line


def read_sweep(path: str | Path) -> Sweep:
    """Reads a plan.

    The keys are those of `Sweep`.

    - `environments` and `agents`: each entry is a name, or a table with `name` and settings. An environment's name that
      ends in .txt is a level file, looked for beside the sweep file. Agents are "q_learning", "planner" and so on.
    - `penalties`: tables with the fields of `Penalty`; with `preset`, the fields change that preset.
    - `weights`: a list; `{ geometric = [first, last], count = how many }`; or `"critical"`, see `critical_weights`.
    - `seeds`: how many.

    ```toml
    environments = ["Options", { name = "Box", goal_reward = 1 }]
    agents = [{ name = "q_learning", learning_rate = 1.0 }]
    weights = { geometric = [0.1, 100], count = 7 }
    seeds = 20

    [[penalties]]
    deviation = "relative_reachability"
    baseline = "stepwise"
    ```

    Raises:
        ImpactError: no such file, no TOML, an unknown key (names the near ones), or a value that cannot be; names the
            file and the line.
    """
    with _read(path, "sweep") as reader:
        return reader.sweep()


def read_penalties(path: str | Path) -> tuple[Penalty, ...]:
    """Reads the `[[penalties]]` of a TOML file; a sweep file will do, whatever else it says.

    Raises:
        ImpactError: as `read_sweep`.
    """
    with _read(path, "penalties") as reader:
        return reader.penalties()


@contextmanager
def _read(path: str | Path, kind: str) -> Iterator["_Reader"]:
    """The content of a file; mistakes in it name the file and the line."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except OSError as error:
        raise ImpactError(f"cannot read the {kind} file {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ImpactError(f"{path} is no TOML file: {error}") from None
    try:
        yield _Reader(text, content, Path(path).parent)
    except _MistakeError as mistake:
        where = path if mistake.line is None else f"{path}, line {mistake.line}"
        raise ImpactError(f"{where}: {mistake}") from None


class _Reader:
    """The content of a sweep file, with its text to find lines in and its folder to find level files in."""

    def __init__(self, text: str, content: Mapping[str, Any], folder: Path) -> None:
        self.text, self.content, self.folder = text, content, folder

    def penalties(self) -> tuple[Penalty, ...]:
        for key in self.content:
            with self._at(key):
                require_known("key", key, KEYS)
        return self._entries("penalties", penalty_from_settings)

    def sweep(self) -> Sweep:
        penalties = self.penalties()
        given: dict[str, Any] = {
            "environments": self._entries("environments", self._environment),
            "penalties": penalties,
        }
        if "agents" in self.content:
            given["agents"] = self._entries("agents", _agent)
        for key, read in (("weights", _weights), ("seeds", lambda seeds: whole_number("seeds", seeds, at_least=1))):
            if key in self.content:
                with self._at(key):
                    given[key] = read(self.content[key])
        try:
            return Sweep(**given)
        except ImpactError as error:
            at = next((key for key in self.content if key in str(error)), None)
            raise _MistakeError(str(error), line_of(self.text, at) if at else None) from None

    @contextmanager
    def _at(self, key: str, entry: Any = None, index: int = 0) -> Iterator[None]:
        """Mistakes in here are in that entry."""
        try:
            yield
        except (ImpactError, TypeError, ValueError) as error:
            text = str(error) if isinstance(error, ImpactError) else f"a value has the wrong type: {error}"
            raise _MistakeError(text, line_of(self.text, key, entry, index, message=text)) from None

    def _entries(self, key: str, read: Any) -> tuple[Any, ...]:
        if not isinstance(self.content.get(key), list):
            raise _MistakeError(f"expected a list of {key}", line_of(self.text, key))
        entries = []
        for index, entry in enumerate(self.content[key]):
            with self._at(key, entry, index):
                entries.append(read(entry))
        return tuple(entries)

    def _environment(self, entry: str | Mapping[str, Any]) -> Environment:
        name, settings = _named("environment", entry)
        if name.endswith(LEVEL_FILE):
            name = make_level(self.folder / name)
        return Environment(name, tuple(settings.items()))


def _agent(entry: str | Mapping[str, Any]) -> Agent:
    name, settings = _named("agent", entry)
    kind = AGENTS[require_known("agent", name, AGENTS)]
    for key in settings:
        require_known(f"setting of {name}", key, [field.name for field in fields(kind)])
    return kind(**settings)


def _named(what: str, entry: Any) -> tuple[str, dict[str, Any]]:
    """The name of an entry, and its settings."""
    table = {"name": entry} if isinstance(entry, str) else entry
    if not isinstance(table, Mapping) or not isinstance(table.get("name"), str):
        raise ImpactError(f"an {what} is a name or a table with a name, not {entry!r}")
    return table["name"], {key: value for key, value in table.items() if key != "name"}


def _weights(given: Any) -> tuple[float, ...] | Literal["critical"]:
    if given == "critical":
        return "critical"
    if isinstance(given, Mapping) and set(given) == {"geometric", "count"}:
        ends, count = given["geometric"], whole_number("count of weights", given["count"], at_least=2)
        if isinstance(ends, list) and len(ends) == 2:
            first, last = (weight_of(end) for end in ends)
            if 0 < first < last:
                return tuple(np.geomspace(first, last, count).tolist())
        raise ImpactError(f"geometric weights go from one number above 0 to a larger one, not {ends!r}")
    if not isinstance(given, list):
        raise ImpactError(
            f'weights are a list, {{ geometric = [first, last], count = ... }}, or "critical", not {given!r}'
        )
    return tuple(weight_of(weight) for weight in given)
