"""Every deviation with every baseline and rollout, on a published level and on a small world of chance."""

import numpy as np
import pytest
from penalty_cases import EVERY_BASELINE, EVERY_DEVIATION, PAIRS
from random_mdps import RuleWorld

from impactrl.compile import compile_mdp
from impactrl.errors import ImpactError
from impactrl.measures.penalty import Penalty
from impactrl.measures.registry import baseline_names, deviation_names
from impactrl.world import Outcome

ALONE = ("step_reversibility", "future_tasks", "detectability")
ROLLOUTS = {
    "plain": {},
    "rollout": {"rollout": True, "rollout_discount": 0.9},
    "plan": {"rollout": "end", "horizon": 4},
}


def weather():
    """A vase that wind may break, an agent that may walk past, push it or leave; outcomes number from one to three."""
    wind = [(0.25, "broken"), (0.75, "whole")]
    rules = {}
    for place in ("door", "room"):
        for vase in ("whole", "broken"):
            drafts = wind if vase == "whole" else [(1.0, "broken")]
            other = "room" if place == "door" else "door"
            rules[(place, vase), 0] = [Outcome((place, v), probability=p) for p, v in drafts]
            slips = [Outcome((place, vase), probability=0.5)]
            rules[(place, vase), 1] = slips + [Outcome((other, v), probability=p / 2) for p, v in drafts]
            rules[(place, vase), 2] = [Outcome((place, "broken") if place == "room" else ("out", vase), reward=1.0)]
    states = [(place, vase) for place in ("door", "room", "out") for vase in ("whole", "broken")]
    return RuleWorld(
        rules=rules,
        first=[(0.75, ("door", "whole")), (0.25, ("room", "whole"))],
        ends=frozenset([("out", "whole"), ("out", "broken")]),
        actions=("wait", "walk", "act"),
        time_limit=12,
        tiles={"A": "agent", "v": "vase", ":": "broken"},
        boards={
            (p, v): {"door": "A ", "room": " A", "out": "  "}[p] + ("v" if v == "whole" else ":") for p, v in states
        },
    )


TASKS = {"Options": lambda: compile_mdp("Options"), "weather": lambda: compile_mdp(weather())}


def refusal(deviation, baseline, rollout):
    """What a combination is refused with; None if it is not."""
    if baseline == "adversarial" and deviation in PAIRS:
        return "takes the best of several values"
    if baseline == "none" and deviation != "future_tasks":
        return "compares two states"
    if deviation in ALONE and rollout != "plain":
        return "it has no rollout"
    if deviation == "empowerment" and rollout == "plan":
        return "it has no rollout='end'"
    return None


def test_the_battery_is_complete():
    assert set(deviation_names()) == {*EVERY_DEVIATION, "none"}
    assert set(baseline_names()) == set(EVERY_BASELINE)


@pytest.mark.parametrize("rollout", ROLLOUTS)
@pytest.mark.parametrize("deviation", EVERY_DEVIATION)
@pytest.mark.parametrize("task", TASKS)
def test_every_combination_is_sound_or_refused_with_a_reason(task, deviation, rollout):
    mdp = TASKS[task]()
    fitted = 0
    for baseline in EVERY_BASELINE:
        settings = {"deviation": deviation, "baseline": baseline, **ROLLOUTS[rollout]}
        if baseline in ("inaction", "policy"):
            settings["inaction"] = "exact"
        if deviation in ("attainable_utility", "importance", "power"):
            settings |= {"utilities": 2, "discount": 0.9}
        if deviation == "features":
            settings["features"] = {"number": lambda state: float(mdp.index(state))}
        reason = refusal(deviation, baseline, rollout)
        if reason is not None:
            with pytest.raises(ImpactError, match=reason):
                Penalty(**settings)
            continue
        impact = Penalty(**settings).fit(mdp)
        pair = impact.mdp
        assert impact.deviation.shape == pair.probability.shape
        assert impact.deviation.dtype == np.float64
        assert np.isfinite(impact.deviation).all()
        assert not impact.deviation[pair.terminal].any()
        assert not impact.deviation[pair.probability == 0].any()
        sign = -1 if deviation == "future_tasks" else 1
        assert (sign * impact.deviation >= 0).all()
        assert impact.deviation.any()
        again = Penalty(**settings).fit(TASKS[task]())
        assert (again.deviation == impact.deviation).all()
        assert (again.memory == impact.memory).all()
        assert (again.mdp.next_state == pair.next_state).all()
        fitted += 1
    expected = sum(refusal(deviation, baseline, rollout) is None for baseline in EVERY_BASELINE)
    assert fitted == expected


@pytest.mark.parametrize("terminal", ["previous", "absorbing"])
@pytest.mark.parametrize(
    "deviation", [name for name in EVERY_DEVIATION if name not in ("detectability", "future_tasks")]
)
def test_sampled_courses_are_sound_with_every_deviation(deviation, terminal):
    mdp = compile_mdp(weather())
    for baseline in ("inaction", "policy"):
        penalty = Penalty(deviation=deviation, baseline=baseline, inaction="sampled", terminal=terminal, discount=0.9)
        impact = penalty.fit(mdp)
        assert np.isfinite(impact.deviation).all()
        assert not impact.deviation[impact.mdp.terminal].any()
        assert not impact.deviation[impact.mdp.probability == 0].any()
        assert impact.deviation.any()
        again = penalty.fit(compile_mdp(weather()))
        assert (again.deviation == impact.deviation).all()
        assert (again.mdp.probability == impact.mdp.probability).all()
