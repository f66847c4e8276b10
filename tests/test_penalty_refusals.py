"""Every refusal of settings that do not go together, or do not fit the task, and how it says so."""

import re

import numpy as np
import pytest
from random_mdps import RuleWorld, level, steps

from impactrl.compile import compile_mdp
from impactrl.errors import ImpactError
from impactrl.measures.families import RelativeReachability
from impactrl.measures.penalty import Penalty
from impactrl.measures.presets import penalty_from_settings, preset
from impactrl.world import Outcome

AU, FT, UR, STEP = "attainable_utility", "future_tasks", "unreachability", "step_reversibility"
TWO = steps([0, 1], [0, 1])
NO_NOOP = steps([0, 1], [0, 1], noop=None)


def refuses(said, /, **settings):
    with pytest.raises(ImpactError, match=re.escape(said)):
        Penalty(**settings)


def refuses_to_fit(said, world, /, **settings):
    penalty = Penalty(**settings)
    with pytest.raises(ImpactError, match=re.escape(said)):
        penalty.fit(compile_mdp(world))


# Options and numbers


@pytest.mark.parametrize(
    ("field", "wrong", "options"),
    [
        ("norm", "l2", "'L1', 'L2', 'Linf'"),
        ("expectation", "in", "'outside', 'inside'"),
        ("inaction", "random", "None, 'exact', 'sampled'"),
        ("attainable", "leave", "'arrival', 'departure'"),
        ("clip", "yes", "False, True"),
        ("divergence", "js", "'total_variation', 'jensen_shannon', 'kl'"),
        ("rollout", None, "False, True, 'end'"),
        ("summary", "", "None, 'decrease', 'increase', 'absolute'"),
    ],
)
def test_an_option_that_does_not_exist_is_refused_with_those_that_do(field, wrong, options):
    refuses(f"{field} must be one of {options}, not {wrong!r}", **{field: wrong})


@pytest.mark.parametrize(
    ("field", "value", "interval"),
    [
        ("epsilon", -0.1, "[0, 1]"),
        ("epsilon", 1.5, "[0, 1]"),
        ("floor", 0.0, "(0, 1]"),
        ("floor", 1.5, "(0, 1]"),
        ("floor", float("nan"), "(0, 1]"),
    ],
)
def test_a_number_out_of_range_is_refused(field, value, interval):
    refuses(f"{field} must be in {interval}, not {value}", **{field: value})


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("horizon", 0, "horizon must be at least 1, not 0"),
        ("horizon", 2.5, "horizon must be a whole number of at least 1, not 2.5"),
        ("goals", 0, "goals must be at least 1, not 0"),
        ("goals", "some", "goals must be a whole number of at least 1, not 'some'"),
        ("epsilon", "0.1", "epsilon must be a number, not '0.1'"),
        ("floor", None, "floor must be a number, not None"),
    ],
)
def test_what_is_no_such_number_is_refused(field, value, said):
    refuses(said, **{field: value})


# What one setting asks of another


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"scale": "discount", "discount": 1.0},
            "which is 0 with discount=1: give a smaller discount, or leave scale out",
        ),
        ({"scale": "sum", "norm": "L2"}, "scale='sum' divides one total by another: it goes with norm='L1', not 'L2'"),
        ({"scale": "sum", "norm": "Linf"}, "it goes with norm='L1', not 'Linf'"),
        (
            {"scale": "gap", "summary": "decrease"},
            "scale='gap' charges increases only; leave summary out (it was 'decrease')",
        ),
        ({"scale": "gap", "summary": "absolute"}, "leave summary out (it was 'absolute')"),
        ({"scale": "impact-unit"}, "unit_action is the unit of scale='impact-unit': give both, or none of them"),
        ({"unit_action": "up"}, "unit_action is the unit of scale='impact-unit': give both, or none of them"),
        ({"rollout": "end"}, "rollout='end' compares at the end of a plan: give its length, as horizon=9"),
        (
            {"baseline": "inaction", "policy": "random"},
            "the inaction baseline follows the no-op; with another policy it is baseline='policy'",
        ),
        *(
            (
                {"baseline": baseline, "inaction": "exact"},
                f"it goes with baseline='inaction' or 'policy', not {baseline!r}",
            )
            for baseline in ("start", "stepwise", "average")
        ),
        (
            {"baseline": "inaction", "inaction": "sampled", "expectation": "inside"},
            "a sampled course of inaction is one state, so no expectation can be taken of its values: use "
            "inaction='exact', or expectation='outside'",
        ),
        (
            {"baseline": "inaction", "inaction": "sampled", "deviation": "detectability"},
            "use inaction='exact', or expectation='outside' and another deviation than detectability",
        ),
        *(
            (
                {"baseline": "adversarial", "deviation": deviation},
                f"takes the best of several values, and {deviation} has none: use average, average_other or random",
            )
            for deviation in (UR, STEP, "whitelist", "detectability")
        ),
        *(
            ({"baseline": "none", "deviation": deviation}, f"{deviation} compares two states: baseline='none' goes")
            for deviation in ("relative_reachability", UR, AU, "features")
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings, said):
    refuses(said, **settings)


def test_what_goes_together_after_all():
    Penalty(deviation="none", baseline="none")
    Penalty(deviation="none", baseline="adversarial")
    Penalty(deviation=FT, baseline="none")
    Penalty(deviation=AU, baseline="adversarial")
    Penalty(scale="gap", summary="increase")
    Penalty(baseline="policy", policy="random")
    assert Penalty(baseline="policy").policy == "random"


# What a deviation does not have


@pytest.mark.parametrize(
    ("deviation", "setting", "value"),
    [
        (AU, "horizon", 9),
        ("features", "horizon", 9),
        ("power", "horizon", 9),
        ("whitelist", "horizon", 9),
        ("relative_reachability", "utilities", 3),
        ("features", "utilities", "states"),
        ("importance", "attainable", "departure"),
        ("power", "clip", True),
        (AU, "goals", 5),
        (UR, "goals", 5),
        (AU, "features", (("vase", 1.0),)),
        ("features", "allowed", ("A> ",)),
        ("features", "divergence", "kl"),
        (UR, "floor", 0.5),
    ],
)
def test_a_setting_that_a_deviation_does_not_read_is_refused(deviation, setting, value):
    refuses(
        f"{deviation} does not read {setting}; leave it out (it was {value!r})", deviation=deviation, **{setting: value}
    )


def test_a_horizon_that_is_not_read_is_likely_the_length_of_a_plan():
    refuses("it is also the length of the plan of rollout='end'", deviation=AU, horizon=9)
    Penalty(deviation=AU, horizon=9, rollout="end")


@pytest.mark.parametrize("deviation", [UR, STEP, "whitelist", "detectability", FT, "none"])
@pytest.mark.parametrize(
    ("setting", "value"), [("summary", "absolute"), ("norm", "L2"), ("norm", "Linf"), ("expectation", "inside")]
)
def test_what_is_no_difference_of_values_has_no_settings_of_one(deviation, setting, value):
    refuses(
        f"{deviation} is no difference of values, so it has no {setting}; leave {setting} out (it was {value!r}) or "
        "use relative_reachability or attainable_utility",
        deviation=deviation,
        **{setting: value},
    )


@pytest.mark.parametrize("deviation", [UR, STEP, "whitelist", "detectability", FT])
@pytest.mark.parametrize("scale", ["per-value", "sum", "discount", "gap"])
def test_what_is_no_difference_of_values_has_nothing_to_scale_by(deviation, scale):
    refuses(f"there is nothing to scale by; leave scale out (it was {scale!r})", deviation=deviation, scale=scale)


@pytest.mark.parametrize("rollout", [{"rollout": True}, {"rollout": "end", "horizon": 3}])
@pytest.mark.parametrize(
    ("deviation", "said"),
    [
        (FT, "future_tasks is a bonus for what can be reached from the state itself: it has no rollout"),
        (STEP, "step_reversibility judges the step itself, so it has no rollout"),
        ("detectability", "detectability compares the distributions after one step, so it has no rollout"),
    ],
)
def test_what_has_no_rollout_is_refused_one(deviation, said, rollout):
    refuses(said, deviation=deviation, **rollout)


def test_a_bonus_has_no_unit_of_impact():
    refuses("there is no unit of impact to divide it by", deviation=FT, scale="impact-unit", unit_action="up")


def test_empowerment_has_no_plan_because_the_horizon_is_its_own():
    refuses(
        "empowerment uses the horizon for its number of actions, so it has no rollout='end'",
        deviation="empowerment",
        rollout="end",
        horizon=3,
    )
    Penalty(deviation="empowerment", rollout=True)


@pytest.mark.parametrize("deviation", [AU, "importance", "power"])
def test_undiscounted_utilities_are_refused(deviation):
    refuses(f"{deviation} needs a discount below 1", deviation=deviation, discount=1.0)


# Features, lists of changes, policies


@pytest.mark.parametrize(
    "features", [{}, [], "vase", 3, ["vase", "vase"], [("vase", 1.0, 2.0)], {"vase": "much"}, [3]], ids=repr
)
def test_features_that_are_none_are_refused(features):
    refuses(
        "features must be names of features, or a table from different names to weights or functions of the state; "
        f"not {features!r}",
        deviation="features",
        features=features,
    )


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_of_a_feature_that_is_negative_or_not_finite_is_refused(weight):
    refuses(
        f"the weight of feature 'vase' must be a number of at least 0, not {weight}",
        deviation="features",
        features={"vase": weight},
    )


@pytest.mark.parametrize("allowed", ["A> ", 3, True])
def test_a_list_of_changes_that_is_none_is_refused(allowed):
    refuses(f"""allowed is a list of changes, as ["v> "], not {allowed!r}""", deviation="whitelist", allowed=allowed)


@pytest.mark.parametrize("change", ["A>", "AB>", "A->B", "", 3, None])
def test_a_change_that_is_none_is_refused(change):
    refuses(
        f"""an allowed change is written "c>c'", two characters of the board or *, not {change!r}""",
        deviation="whitelist",
        allowed=["A> ", change],
    )


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (3, "policy must be 'random', the name of an action, or one action index per state; not 3"),
        ([0.5, 1], "an action of policy must be a whole number of at least 0, not 0.5"),
        ([0, -1], "an action of policy must be at least 0, not -1"),
        ([[0], [1]], "an action of policy must be a whole number of at least 0, not [0]"),
    ],
)
def test_a_policy_that_is_none_is_refused(policy, said):
    refuses(said, policy=policy)


def test_a_policy_as_an_array_or_a_list_is_the_same_penalty():
    made = {Penalty(policy=policy) for policy in ([0, 1], (0, 1), np.array([0, 1]), np.array([0, 1], dtype=np.int8))}
    assert len(made) == 1
    assert made.pop().policy == (0, 1)


# Worlds that do not fit


def test_a_policy_that_does_not_fit_the_task_is_refused():
    refuses_to_fit("unknown policy 'stop': Known: a0, a1, random", TWO, policy="stop")
    for policy, came in [((0,), "1 entries up to 0"), ((0, 2), "2 entries up to 2"), ((), "0 entries up to none")]:
        refuses_to_fit(
            f"one action index from 0 to 1 for each of the 2 states of the task; this one has {came}",
            TWO,
            policy=policy,
        )


def test_a_policy_that_tells_bookkeeping_apart_is_refused():
    mdp = level("ConveyorVase")
    twins = np.flatnonzero(mdp.situation != np.arange(mdp.num_states))
    policy = np.full(mdp.num_states, mdp.noop)
    policy[twins] = 0
    with pytest.raises(ImpactError, match="a policy must agree in states that differ in bookkeeping only"):
        Penalty(policy=policy).fit(mdp)


@pytest.mark.parametrize("deviation", ["importance", "features", "empowerment", "power", "whitelist", "detectability"])
@pytest.mark.parametrize("baseline", ["stepwise", "inaction"])
def test_a_baseline_that_does_nothing_is_refused_in_a_world_without_a_no_op(deviation, baseline):
    features = {"features": {"number": float}} if deviation in ("features", "detectability") else {}
    refuses_to_fit(
        f"baseline={baseline!r} needs to know what happens when the agent does nothing, but this world has no no-op "
        "action; give a policy that stands for it, or use a baseline without one: start, average, average_other, "
        "random or adversarial",
        NO_NOOP,
        deviation=deviation,
        baseline=baseline,
        **features,
    )


def test_importance_needs_to_know_what_doing_nothing_is():
    refuses_to_fit("importance needs to know what happens", NO_NOOP, deviation="importance", baseline="start")
    Penalty(deviation="importance", baseline="start", policy="random").fit(compile_mdp(NO_NOOP))


def test_an_action_that_the_world_does_not_have_is_no_unit():
    refuses_to_fit(
        "scale='impact-unit' needs the name of a mild action as its unit: give unit_action, one of a0, a1; not 'mild'",
        TWO,
        scale="impact-unit",
        unit_action="mild",
    )


def test_there_is_no_gap_without_a_no_op():
    refuses_to_fit("this world has no no-op; use another scale", NO_NOOP, scale="gap", baseline="start")


def test_a_random_course_has_to_be_an_exact_or_a_sampled_one():
    rules = {(s, a): [Outcome(0, probability=0.5), Outcome(1, probability=0.5)] for s in (0, 1) for a in (0, 1)}
    coin = RuleWorld(rules=rules, first=[(1.0, 0)])
    for settings in ({"baseline": "inaction"}, {"baseline": "policy", "policy": "go"}):
        refuses_to_fit(
            f"the course of baseline={settings['baseline']!r} is random in this world: say inaction='exact' (compare "
            "with the distribution over all courses) or inaction='sampled' (with one course that shares the world's "
            "random numbers), or use baseline='stepwise'",
            coin,
            **settings,
        )
        for inaction in ("exact", "sampled"):
            Penalty(inaction=inaction, **settings).fit(compile_mdp(coin))


# Presets and plain settings


def test_an_unknown_preset_is_refused_with_the_near_ones():
    with pytest.raises(ImpactError, match=r"unknown preset 'krakovna2018': did you mean 'krakovna20\d\d'"):
        preset("krakovna2018")
    with pytest.raises(ImpactError, match=r"unknown preset 'qqq': Known: amodei2016-empowerment, armstrong2012"):
        penalty_from_settings({"preset": "qqq"})


def test_an_unknown_setting_of_a_preset_is_refused_with_the_near_ones():
    with pytest.raises(ImpactError, match=r"unknown penalty setting 'wieght': did you mean 'weight'"):
        preset("krakovna2019", wieght=3.0)


@pytest.mark.parametrize("settings", ["krakovna2019", 3, None, [("weight", 3.0)]])
def test_settings_that_are_no_table_are_refused(settings):
    with pytest.raises(ImpactError, match=r"a penalty is a table of its settings, as \{ deviation = ... \}, not"):
        penalty_from_settings(settings)


def test_overrides_of_a_preset_are_checked_like_any_setting():
    with pytest.raises(ImpactError, match="attainable_utility needs a discount below 1"):
        preset("turner2019-model-free", discount=1.0)
    with pytest.raises(ImpactError, match="does not read horizon"):
        preset("turner2019-plan", rollout=False)


def test_a_deviation_that_is_no_difference_of_values_has_no_contributions():
    impact = Penalty(deviation=UR).fit(level("Options"))
    with pytest.raises(ImpactError, match="unreachability is no difference of values: there is nothing to break up"):
        impact.contributions(0, 0)


# Objects


@pytest.mark.parametrize(
    ("field", "given", "said"),
    [
        ("deviation", 3, "deviation must be a name or a ValueFamily, PairDeviation or Deviation, not 3"),
        ("deviation", None, "deviation must be a name or a ValueFamily, PairDeviation or Deviation, not None"),
        (
            "deviation",
            RelativeReachability,
            "deviation must be a name or an object: RelativeReachability(), not the class",
        ),
        ("baseline", 3, "baseline must be a name or a Baseline, not 3"),
        ("baseline", ImpactError, "baseline must be a name or an object: ImpactError(), not the class ImpactError"),
    ],
)
def test_what_is_neither_a_name_nor_an_object_of_the_kind_is_refused(field, given, said):
    refuses(said, **{field: given})
