"""What measures there are, for people: names, formulas and sources of everything that a `Penalty` can be made of."""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from impactrl.errors import require_known
from impactrl.measures.presets import PRESETS, preset
from impactrl.measures.registry import baseline_named, baseline_names, deviation_named, deviation_names

__all__ = ["OPTIONS", "Entry", "catalogue", "entries_named"]

OPTIONS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "summary": {
            "decrease": "max(0, V(b) - V(s))",
            "increase": "max(0, V(s) - V(b))",
            "absolute": "|V(b) - V(s)|",
        },
        "norm": {
            "L1": "the mean over the values; of features the weighted sum",
            "L2": "the root mean square; of features the root of the weighted sum of squares",
            "Linf": "the maximum; of features the weighted maximum",
        },
        "scale": {
            "none": "the deviation as it is",
            "per-value": "each term divided by |V_k(b)|, 0 counting as 1",
            "sum": "the total divided by the sum of |V_k(b)|, 0 counting as 1",
            "discount": "times 1 - discount",
            "impact-unit": "divided by what `unit_action` would cost in the same state; 1.01 for what would raise that",
            "gap": "divided by V(s) - Q(s, no-op) of the task's own reward",
            "max": "divided by the largest deviation of the task",
        },
        "rollout": {
            "False": "the states themselves are compared",
            "True": "the discounted mean along rollouts of doing nothing from both: delayed effects",
            "end": "what doing nothing leads to at the end of a plan of `horizon` steps",
        },
        "expectation": {
            "outside": "where chance decides: the expected deviation",
            "inside": "the deviation of expected values",
        },
        "inaction": {
            "exact": "a random course of inaction as a distribution over all courses",
            "sampled": "one course that shares the world's random numbers",
        },
        "terminal": {
            "previous": "ends are no states of the measure; the step that ends is charged for the pair before it",
            "absorbing": "ends are states that nothing follows",
        },
    }
)
"""Settings of a penalty that are a choice of names, and what each name means."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What there is to be said of a deviation, a baseline or a preset.

    Attributes:
        kind: "deviation", "baseline" or "preset".
        name: as `Penalty` or `preset` takes it.
        label: short name, as in legends.
        formula: what it computes.
        source: where it was published.
        facts: its usual summary and the special settings that it reads; of a preset the flags that stand for it.
        about: the whole description; of a preset what it pins.
    """

    kind: str
    name: str
    label: str = ""
    formula: str = ""
    source: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    about: str = ""


def catalogue() -> dict[str, list[Entry]]:
    """All deviations, baselines and presets: the library's, registered ones and those of installed packages."""
    named = {"deviation": (deviation_names(), deviation_named), "baseline": (baseline_names(), baseline_named)}
    found = {
        kind: [_entry(kind, name, by_name) for name in dict.fromkeys(names)] for kind, (names, by_name) in named.items()
    }
    return found | {"preset": [_preset(name) for name in PRESETS]}


def entries_named(name: str) -> list[Entry]:
    """What has a name: a deviation, a baseline, a preset, or several of them ("none").

    Raises:
        ImpactError: nothing is called so; names the near ones.
    """
    entries = [entry for kind in catalogue().values() for entry in kind]
    require_known("measure", name, {entry.name for entry in entries})
    return [entry for entry in entries if entry.name == name]


def _entry(kind: str, name: str, by_name: Callable[[str], Any]) -> Entry:
    try:
        found = by_name(name)
    except Exception as error:  # somebody else's package
        return Entry(kind=kind, name=name, formula=f"cannot be loaded: {error}")
    facts = {"summary": getattr(found, "summary", None), "reads": ", ".join(sorted(getattr(found, "reads", ())))}
    return Entry(
        kind=kind,
        name=name,
        label=getattr(found, "label", ""),
        formula=getattr(found, "formula", ""),
        source=getattr(found, "source", ""),
        facts={key: value for key, value in facts.items() if value},
        about=re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.cleandoc(type(found).__doc__ or "")),  # as paragraphs
    )


def _preset(name: str) -> Entry:
    entry, penalty = PRESETS[name], preset(name)
    return Entry(
        kind="preset",
        name=name,
        label=penalty.label,
        source=entry.citation,
        facts={"flags": " ".join(_flag(*setting) for setting in penalty.settings().items())},
        about=entry.note,
    )


def _flag(name: str, value: Any) -> str:
    """A setting of a penalty on the command line."""
    option = f"--{name.replace('_', '-')}"
    if value is True and name != "rollout":  # a switch
        return option
    return f"{option} {value:.4g}" if isinstance(value, float) else f"{option} {value}"
