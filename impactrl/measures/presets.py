"""Presets: the rows of choices that papers and their programs made, with citations."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

from impactrl.errors import ImpactError, require_known
from impactrl.measures.penalty import Penalty

__all__ = ["PRESETS", "Preset", "penalty_from_settings", "preset"]

TURNER_WEIGHT = 1 / 1.501


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A published penalty.

    Attributes:
        citation: where it was published.
        note: what it pins, or how the program differs from what is computed here.
        settings: of `Penalty`, those that are not its defaults.
    """

    citation: str
    note: str
    settings: Mapping[str, Any]


KRAKOVNA_2019 = "Krakovna et al. 2019, Penalizing side effects using stepwise relative reachability, arXiv 1806.01186"
KRAKOVNA_2020 = "Krakovna et al. 2020, Avoiding side effects by considering future tasks, arXiv 2010.07877"
TURNER_2019 = "Turner et al. 2020, Conservative agency via attainable utility preservation, arXiv 1902.09725"
ERESHEIM_2023 = "Eresheim et al. 2023, Standing still is not an option"
SHAH_2019 = "Shah et al. 2019, Preferences implicit in the state of the world, arXiv 1902.04198"
ARMSTRONG_2012 = "Armstrong 2012, The mathematics of reduced impact; Armstrong and Levinstein 2017, arXiv 1705.10720"
ARMSTRONG_2017 = "Armstrong and Levinstein 2017, Low impact artificial intelligences, arXiv 1705.10720"
AMODEI_2016 = "Amodei et al. 2016, Concrete problems in AI safety, arXiv 1606.06565, section 3"
TURNER_2021 = "Turner et al. 2021, Optimal policies tend to seek power, arXiv 1912.01683"

AUP = {
    "deviation": "attainable_utility",
    "discount": 0.996,
    "scale": "per-value",
    "terminal": "absorbing",
    "expectation": "inside",
    "utilities": 30,
    "weight": TURNER_WEIGHT,
}
PLAN = {**AUP, "rollout": "end", "horizon": 9, "attainable": "departure"}
PLAN_NOTE = (
    "Compares the ends of a plan of 9 steps whose rest is spent doing nothing: max_a Q(end, a) of the agent with "
    "Q(end, no-op) of the stepwise baseline, or with max_a Q(end, a) of start and inaction."
)
NO_OP_FREE = "Replaces Q(s, no-op) by {}; exact action values where the paper's agent learns them."

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "krakovna2019": Preset(
            citation=KRAKOVNA_2019,
            note="Stepwise relative reachability with inaction rollouts; every step weighs 1; terminal states are no "
            "states of the measure. The mean is over all states of the task; the program's over those it has seen.",
            settings={"rollout": True},
        ),
        "krakovna2020": Preset(
            citation=KRAKOVNA_2020,
            note="The future-task bonus against the inaction baseline: minus the deviation. Steps that do not end the "
            "episode weigh 1 - discount.",
            settings={"deviation": "future_tasks", "baseline": "inaction", "nonterminal_weight": 0.01},
        ),
        "turner2019-model-free": Preset(
            citation=TURNER_2019,
            note="|Q_u(s, a) - Q_u(s, no-op)| / Q_u(s, no-op), mean over 30 random utilities; the expectation is taken "
            "inside the difference. Exact action values; the program's are learned, and far from converged.",
            settings=AUP,
        ),
        "turner2019-plan": Preset(citation=TURNER_2019, note=PLAN_NOTE, settings=PLAN),
        "turner2019-plan-start": Preset(citation=TURNER_2019, note=PLAN_NOTE, settings={**PLAN, "baseline": "start"}),
        "turner2019-plan-inaction": Preset(
            citation=TURNER_2019, note=PLAN_NOTE, settings={**PLAN, "baseline": "inaction"}
        ),
        "turner2019-plan-decrease": Preset(
            citation=TURNER_2019, note=PLAN_NOTE, settings={**PLAN, "summary": "decrease"}
        ),
        "turner2019-plan-rr": Preset(
            citation=TURNER_2019,
            note="The row 'relative reachability' of that program: attainable utilities of the indicators of all "
            "states, clipped to [0, 1], inaction baseline, decrease. " + PLAN_NOTE,
            settings={**PLAN, "baseline": "inaction", "summary": "decrease", "utilities": "states", "clip": True},
        ),
        "eresheim2023-average": Preset(
            citation=ERESHEIM_2023,
            note=NO_OP_FREE.format("the mean over all actions"),
            settings={**AUP, "baseline": "average"},
        ),
        "eresheim2023-average-other": Preset(
            citation=ERESHEIM_2023,
            note=NO_OP_FREE.format("the mean over the other actions"),
            settings={**AUP, "baseline": "average_other"},
        ),
        "eresheim2023-random": Preset(
            citation=ERESHEIM_2023,
            note=NO_OP_FREE.format("the value of one random other action (the expected penalty)"),
            settings={**AUP, "baseline": "random"},
        ),
        "eresheim2023-adversarial": Preset(
            citation=ERESHEIM_2023,
            note=NO_OP_FREE.format("the value under the epsilon-greedy auxiliary policy")
            + " The program's epsilon is the share of greedy actions, 0.9 at the end of training.",
            settings={**AUP, "baseline": "adversarial", "epsilon": 0.9},
        ),
        "rlsp-deviation": Preset(
            citation=SHAH_2019,
            note="0.5 times the Euclidean distance of the features from those of the first state.",
            settings={"deviation": "features", "baseline": "start", "norm": "L2", "weight": 0.5},
        ),
        "rlsp-reachability": Preset(
            citation=SHAH_2019,
            note="Undiscounted relative reachability over 20 steps from the distribution of inaction, divided by its "
            "largest value. The program divides by the largest over all states and times, also pairs that cannot "
            "occur together.",
            settings={"baseline": "inaction", "inaction": "exact", "discount": 1.0, "horizon": 20, "scale": "max"},
        ),
        "armstrong2012-features": Preset(
            citation=ARMSTRONG_2012,
            note="Twenty million questions: the summed difference of all features from those under inaction.",
            settings={"deviation": "features", "baseline": "inaction"},
        ),
        "armstrong2017-importance": Preset(
            citation=ARMSTRONG_2017,
            note="The largest change of the value that doing nothing has for a utility; 30 random utilities.",
            settings={"deviation": "importance", "baseline": "inaction", "norm": "Linf", "utilities": 30},
        ),
        "amodei2016-empowerment": Preset(
            citation=AMODEI_2016,
            note="Influence as such is penalised: what the step adds to 3-step empowerment, beyond the no-op.",
            settings={"deviation": "empowerment", "summary": "increase"},
        ),
        "turner2021-power": Preset(
            citation=TURNER_2021,
            note="The change of the average ability to achieve goals; the mean over 1 000 random utilities.",
            settings={"deviation": "power", "utilities": 1000, "terminal": "absorbing"},
        ),
    }
)
"""Published penalties by name."""


def preset(name: str, **settings: Any) -> Penalty:
    """A published penalty.

    Args:
        name: of `PRESETS`; `impactrl measures` lists them with citations.
        settings: of `Penalty`, in place of the published ones.

    Raises:
        ImpactError: an unknown name, or settings that do not go together.

    >>> preset("krakovna2019", weight=3.0).label
    'RR stepwise rollout'
    """
    require_known("preset", name, PRESETS)
    return penalty_from_settings({**PRESETS[name].settings, **settings})


def penalty_from_settings(settings: Mapping[str, Any]) -> Penalty:
    """A penalty from plain settings; unknown keys get their near ones. The key `preset` says where to start from."""
    if not isinstance(settings, Mapping):
        raise ImpactError(f"a penalty is a table of its settings, as {{ deviation = ... }}, not {settings!r}")
    known = [entry.name for entry in fields(Penalty)]
    own = {name: value for name, value in settings.items() if name != "preset"}
    for name in own:
        require_known("penalty setting", name, ["preset", *known])
    return preset(settings["preset"], **own) if "preset" in settings else Penalty(**own)
