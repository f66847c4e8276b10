"""`Penalty`: one row of choices. Fitted to a task it becomes the impact of every transition."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from impactrl.errors import ImpactError, real_number, require_one_of, whole_number
from impactrl.mdp import TabularMDP
from impactrl.measures.baselines import BaselineChoice
from impactrl.measures.deviations import SCALES, Deviation, ValueFamily
from impactrl.measures.differences import NORMS, SUMMARIES
from impactrl.measures.families import STATES
from impactrl.measures.fitting import fit
from impactrl.measures.impact import Impact
from impactrl.measures.pairwise import DIVERGENCES, NoDeviation
from impactrl.measures.registry import baseline_named, deviation_named, name_of, require_object
from impactrl.measures.state_graph import TERMINAL_RULES

__all__ = ["Penalty"]

if TYPE_CHECKING:
    DeviationName = str | Deviation
    BaselineName = str | BaselineChoice
    Utilities = int | str | tuple[tuple[float, ...], ...] | tuple[Callable[[Any], float], ...]
    Features = tuple[tuple[str, float | Callable[[Any], float]], ...] | None
else:  # what can be written on a command line
    DeviationName = BaselineName = str
    Utilities = int | Literal["states"]
    Features = tuple[tuple[str, float], ...] | None


@dataclass(frozen=True, kw_only=True)
class Penalty:
    """What the agent pays for its impact: `reward - weight * D(s_{t+1}; b_{t+1})` in every step.

    `impactrl measures` lists the deviations and baselines with formulas and sources.

    Attributes:
        deviation: the measure, by name or as an object (see `Deviation`).
        baseline: what a state is compared with, by name or as an object (see `Baseline`).
        summary: what counts in a difference d = value of the baseline - value of the state: "decrease" max(0, d),
            or "increase" max(0, -d), or "absolute" |d|. None: the usual one of the deviation; with scale "gap":
            increase.
        weight: of the penalty against the reward.
        discount: inside the values (of reachability per step, of utilities), in [0, 1].
        rollout: compare along rollouts of no-ops from both states (delayed effects), in discounted mean; "end": at the
            end of a plan of `horizon` steps, the rest of which is spent doing nothing (the start baseline stays).
        rollout_discount: of discounted rollouts, in [0, 1).
        horizon: steps of a plan (rollout "end"), of reachability (being there after exactly so many), of empowerment
            where None means 3.
        norm: over the values: "L1" (mean), "L2" (root mean square), "Linf" (maximum); of features weighted sum, root of
            the weighted sum of squares, maximum.
        expectation: where a step or a baseline is random: "outside", the expected deviation (Krakovna et al.), or
            else "inside", the deviation of expected values (Turner et al.: of action values).
        scale: "none"; "per-value": each term divided by the size of the baseline's value, 0 counting as 1, as in
            Turner et al. 2020; "sum": total difference over the total of the baseline's values; "discount": times
            one minus the discount (Krakovna et al. 2019); "impact-unit": by the penalty of `unit_action` in the same
            state (Turner 2018); "gap": by V(s) - Q(s, no-op) of the task's own reward; "max": by the largest of the
            task (Shah et al. 2019).
        unit_action: name of the mild action of scale "impact-unit".
        nonterminal_weight: factor on every step that does not end the episode.
        terminal: "previous": terminal states are no states of the measure, and the step that ends the episode is
            charged for the pair before it. "absorbing": they are states that nothing follows.
        time_limit_ends: whether the step at which an episode is cut off is charged like one that ends it, as in the
            program of Krakovna et al. States then know how many steps are left.
        inaction: of a random course of inaction: "exact", the distribution over all courses; "sampled", one course that
            shares the world's random numbers. None: such worlds are refused.
        policy: what stands for doing nothing, in baselines and rollouts: the name of an action, "random", or a table of
            one action index per state id. None: the no-op; with baseline "policy": "random".
        epsilon: of the baseline "adversarial".
        utilities: of attainable_utility, importance and power: how many to draw, uniform in [0, 1) for every state
            independently; "states": the indicator of every state; a table with one row per state id of the task and one
            column per utility; or, in Python, functions of the state.
        attainable: whether the value of a state includes its own utility ("arrival"), or is the best action's value
            there ("departure": the plan agent of Turner et al., whose stepwise baseline goes on doing nothing).
        clip: keep attainable utilities in [0, 1] in every backup.
        goals: of reachability: "all" states, or how many to sample.
        features: of features and detectability: weights of named features of the world or, in Python, functions of the
            state by name; None: all features of the world, with weight 1 (a world that names none: the objects on its
            board).
        allowed: of whitelist: changes of a cell's character that cost nothing, "c>c'" with * for any. None: what the
            agent's own figure does.
        divergence: of detectability: "total_variation", "jensen_shannon" or "kl".
        floor: smallest probability of the baseline that "kl" reckons with, in (0, 1].
        seed: of drawn utilities and goals, and of sampled inaction in an environment.

    Raises:
        ImpactError: an unknown name, a value out of range, or an impossible combination; says what and why.

    >>> Penalty(deviation="unreachability").label
    'UR stepwise'
    """

    deviation: DeviationName = "relative_reachability"
    baseline: BaselineName = "stepwise"
    summary: str | None = None
    weight: float = 1.0
    discount: float = 0.99
    rollout: bool | Literal["end"] = False
    rollout_discount: float = 0.99
    horizon: int | None = None
    norm: str = "L1"
    expectation: str = "outside"
    scale: str = "none"
    unit_action: str | None = None
    nonterminal_weight: float = 1.0
    terminal: str = "previous"
    time_limit_ends: bool = False
    inaction: str | None = None
    policy: str | tuple[int, ...] | None = None
    epsilon: float = 0.1
    utilities: Utilities = 10
    attainable: str = "arrival"
    clip: bool = False
    goals: int | Literal["all"] = "all"
    features: Features = None
    allowed: tuple[str, ...] | None = None
    divergence: str = "total_variation"
    floor: float = 1e-6
    seed: int = 0

    def __post_init__(self) -> None:
        put = object.__setattr__
        for name in ("deviation", "baseline"):
            given = getattr(self, name)
            if not isinstance(given, str):
                require_object(name, given)
                put(self, name, name_of(given) or given)
        deviation, _ = self.deviation_choice, self.baseline_choice
        options = {
            "summary": (None, *SUMMARIES),
            "rollout": (False, True, "end"),
            "norm": NORMS,
            "expectation": ("outside", "inside"),
            "scale": SCALES,
            "terminal": TERMINAL_RULES,
            "inaction": (None, "exact", "sampled"),
            "attainable": ("arrival", "departure"),
            "clip": (False, True),
            "time_limit_ends": (False, True),
            "divergence": DIVERGENCES,
        }
        for name, allowed in options.items():
            require_one_of(name, getattr(self, name), allowed)
        for name in ("weight", "nonterminal_weight"):
            value = real_number(name, getattr(self, name))
            if not (math.isfinite(value) and value >= 0):
                raise ImpactError(f"{name} must be a number of at least 0, not {value}")
            put(self, name, value)
        intervals = {"discount": "[0, 1]", "epsilon": "[0, 1]", "floor": "(0, 1]", "rollout_discount": "[0, 1)"}
        for name, interval in intervals.items():
            value = real_number(name, getattr(self, name))
            if not (0 < value < 1 or (value == 0 and interval[0] == "[") or (value == 1 and interval[-1] == "]")):
                raise ImpactError(f"{name} must be in {interval}, not {value}")
            put(self, name, value)
        put(self, "rollout", "end" if self.rollout == "end" else bool(self.rollout))
        put(self, "clip", bool(self.clip))
        put(self, "time_limit_ends", bool(self.time_limit_ends))
        put(self, "seed", whole_number("seed", self.seed, at_least=0))
        if self.horizon is not None:
            put(self, "horizon", whole_number("horizon", self.horizon, at_least=1))
        if self.goals != "all":
            put(self, "goals", whole_number("goals", self.goals, at_least=1))
        put(self, "utilities", _checked_utilities(self.utilities))
        put(self, "features", _checked_features(self.features))
        put(self, "allowed", _checked_allowed(self.allowed))
        put(self, "policy", _checked_policy(self.policy))
        if self.baseline == "policy" and self.policy is None:
            put(self, "policy", "random")
        self._check_combinations()
        deviation.check(self)

    def _check_combinations(self) -> None:
        if self.scale == "discount" and self.discount == 1:
            raise ImpactError(
                "scale='discount' multiplies by 1 - discount, which is 0 with discount=1: give a smaller discount, or "
                "leave scale out"
            )
        if self.scale == "sum" and self.norm != "L1":
            raise ImpactError(f"scale='sum' divides one total by another: it goes with norm='L1', not {self.norm!r}")
        if self.scale == "gap" and self.summary not in (None, "increase"):
            raise ImpactError(f"scale='gap' charges increases only; leave summary out (it was {self.summary!r})")
        if (self.unit_action is not None) != (self.scale == "impact-unit"):
            raise ImpactError("unit_action is the unit of scale='impact-unit': give both, or none of them")
        if self.rollout == "end" and self.horizon is None:
            raise ImpactError("rollout='end' compares at the end of a plan: give its length, as horizon=9")
        if self.time_limit_ends and self.rollout == "end":
            raise ImpactError("rollout='end' ends episodes with its plan: leave time_limit_ends out")
        if self.policy is not None and self.baseline == "inaction":
            raise ImpactError("the inaction baseline follows the no-op; with another policy it is baseline='policy'")
        if self.inaction is not None and self.baseline not in ("inaction", "policy"):
            raise ImpactError(
                "inaction says how a random course from the start is followed: it goes with baseline='inaction' or "
                f"'policy', not {self.baseline_name!r}"
            )
        if self.inaction == "sampled" and (self.expectation == "inside" or self.deviation_choice.whole):
            raise ImpactError(
                "a sampled course of inaction is one state, so no expectation can be taken of its values: use "
                "inaction='exact', or expectation='outside' and another deviation than detectability"
            )
        if self.baseline == "adversarial" and not isinstance(self.deviation_choice, ValueFamily | NoDeviation):
            raise ImpactError(
                f"baseline='adversarial' takes the best of several values, and {self.deviation_name} has none: use "
                "average, average_other or random"
            )
        if self.baseline == "none" and self.deviation not in ("none", "future_tasks"):
            raise ImpactError(f"{self.deviation_name} compares two states: baseline='none' goes with future_tasks only")

    @property
    def deviation_choice(self) -> Deviation:
        """The measure itself."""
        return deviation_named(self.deviation) if isinstance(self.deviation, str) else self.deviation

    @property
    def baseline_choice(self) -> BaselineChoice:
        """The baseline itself."""
        return baseline_named(self.baseline) if isinstance(self.baseline, str) else self.baseline

    @property
    def deviation_name(self) -> str:
        """The name of the measure, or its label if it is not registered."""
        return self.deviation if isinstance(self.deviation, str) else self.deviation.label

    @property
    def baseline_name(self) -> str:
        """The name of the baseline, or of its class if it is not registered."""
        return self.baseline if isinstance(self.baseline, str) else type(self.baseline).__name__

    @property
    def effective_summary(self) -> str:
        """The summary, or the usual one of the deviation or the scale; "" where it has none."""
        usual = self.deviation_choice.summary
        return self.summary or ("increase" if usual and self.scale == "gap" else usual) or ""

    @property
    def label(self) -> str:
        """A short name: deviation, baseline and every setting but the weight that is not the default."""
        deviation = self.deviation_choice
        if isinstance(deviation, NoDeviation):
            return "none"
        parts = [deviation.label, *([] if deviation.baseline else [self.baseline_name])]
        parts += {False: [], True: ["rollout"], "end": ["plan"]}[self.rollout]
        for entry in fields(self):
            value = getattr(self, entry.name)
            if entry.name not in ("deviation", "baseline", "weight", "rollout") and value != entry.default:
                if isinstance(value, tuple) and entry.name in ("utilities", "policy"):
                    value = f"table-{sha256(repr(value).encode()).hexdigest()[:6]}"
                elif isinstance(value, tuple):
                    value = ",".join(e if isinstance(e, str) else _feature_label(*e) for e in value)
                parts.append(f"{entry.name}={value}")
        return " ".join(parts)

    def settings(self) -> dict[str, Any]:
        """Every setting that is not the default, as plain values: what a sweep file would say.

        Raises:
            ImpactError: an object that has no name, or a function: they cannot be written down.
        """
        plain = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        for name in ("deviation", "baseline"):
            if not isinstance(plain[name], str):
                raise ImpactError(
                    f"the {name} {type(plain[name]).__name__} has no name to be written down by; call "
                    f"impactrl.register_{name}(name, object) first"
                )
        for name in ("utilities", "features"):
            entries = plain[name] if isinstance(plain[name], tuple) else ()
            if any(callable(e) or (isinstance(e, tuple) and callable(e[-1])) for e in entries):
                raise ImpactError(f"{name} that are functions cannot be written down; give a table or names instead")
        defaults = {entry.name: entry.default for entry in fields(self)}
        return {name: value for name, value in plain.items() if value != defaults[name]}

    def fit(self, mdp: TabularMDP) -> Impact:
        """Computes the impact of every transition of a task.

        Raises:
            ImpactError: the baseline or the rollout needs a no-op and the world has none, something given by state or
                by name does not fit the task, or a table would not fit in memory.
        """
        return fit(self, self.deviation_choice, mdp)


def _checked_utilities(utilities: Any) -> Any:
    """A count or a name as it is; tables and functions as tuples, so that a penalty stays hashable and plain."""
    if isinstance(utilities, str) and utilities == STATES:
        return utilities
    if isinstance(utilities, int | np.integer) and not isinstance(utilities, bool):
        return whole_number("utilities", utilities, at_least=1)
    if isinstance(utilities, list | tuple) and utilities and all(callable(u) for u in utilities):
        return tuple(utilities)
    try:
        table = np.array(utilities, dtype=np.float64)
    except (TypeError, ValueError):
        table = np.empty(0)
    if table.ndim != 2 or table.size == 0 or not np.isfinite(table).all():
        raise ImpactError(
            "utilities must be a number of utilities to draw, 'states', a list of functions of the state, or a table "
            "of finite numbers with one row per state and one column per utility"
        )
    return tuple(map(tuple, table.tolist()))


def _checked_features(features: Any) -> Any:
    """Pairs of a name and a weight or function, from a mapping, from pairs, or from names alone."""
    if features is None:
        return None
    pairs = features.items() if isinstance(features, Mapping) else features
    try:
        pairs = [(entry, 1.0) if isinstance(entry, str) else tuple(entry) for entry in pairs]
        result = tuple((str(name), value if callable(value) else real_number(name, value)) for name, value in pairs)
    except (TypeError, ValueError):
        result = ()
    if isinstance(features, str) or not result or len(dict(result)) < len(result):
        raise ImpactError(
            "features must be names of features, or a table from different names to weights or functions of the state; "
            f"not {features!r}"
        )
    for name, value in result:
        if not callable(value) and not (math.isfinite(value) and value >= 0):
            raise ImpactError(f"the weight of feature {name!r} must be a number of at least 0, not {value}")
    return result


def _feature_label(name: str, value: Any) -> str:
    return name if callable(value) or value == 1 else f"{name}:{value:g}"


def _checked_allowed(allowed: Any) -> tuple[str, ...] | None:
    if allowed is None:
        return None
    if isinstance(allowed, str) or not isinstance(allowed, Iterable):
        raise ImpactError(f'allowed is a list of changes, as ["v> "], not {allowed!r}')
    changes = tuple(allowed)
    for change in changes:
        if not (isinstance(change, str) and len(change) == 3 and change[1] == ">"):
            raise ImpactError(f'an allowed change is written "c>c\'", two characters of the board or *, not {change!r}')
    return changes


def _checked_policy(policy: Any) -> str | tuple[int, ...] | None:
    if policy is None or isinstance(policy, str):
        return policy
    try:
        return tuple(whole_number("an action of policy", a, at_least=0) for a in np.asarray(policy).tolist())
    except TypeError:
        raise ImpactError(
            f"policy must be 'random', the name of an action, or one action index per state; not {policy!r}"
        ) from None
