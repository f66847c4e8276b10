"""What a penalty refuses, and how it says so."""

import json
import re
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given
from random_mdps import RuleWorld, level, mdps, penalties, steps

from impactrl.compile import compile_mdp
from impactrl.errors import ImpactError
from impactrl.measures.penalty import Penalty
from impactrl.measures.presets import penalty_from_settings
from impactrl.world import Outcome

TWO = steps([0, 1], [0, 1])


def refuses(said, /, **settings):
    with pytest.raises(ImpactError, match=said):
        Penalty(**settings)


# Names


@pytest.mark.parametrize(
    ("field", "wrong", "near"),
    [
        ("deviation", "relative_reachabilty", "did you mean 'relative_reachability'"),
        ("deviation", "unreachable", "did you mean '?.*unreachability"),
        ("deviation", "Attainable_Utility", "did you mean 'attainable_utility'"),
        ("baseline", "inactoin", "did you mean 'inaction'.*Known: adversarial, average"),
        ("baseline", "step-wise", "did you mean 'stepwise'"),
    ],
)
def test_an_unknown_name_is_refused_with_the_near_ones(field, wrong, near):
    refuses(rf"unknown {field} '{wrong}': {near}", **{field: wrong})


@pytest.mark.parametrize("field", ["deviation", "baseline"])
def test_a_name_like_no_other_is_refused_with_all_that_are_known(field):
    refuses(rf"unknown {field} 'qqq': Known: ", **{field: "qqq"})


@pytest.mark.parametrize(
    ("field", "wrong", "options"),
    [
        ("summary", "truncation", "None, 'decrease', 'increase', 'absolute'"),
        ("scale", "per_value", "'none', 'per-value', 'sum', 'discount', 'impact-unit', 'gap', 'max'"),
        ("terminal", "absorb", "'previous', 'absorbing'"),
        ("rollout", "yes", "False, True, 'end'"),
    ],
)
def test_an_option_that_does_not_exist_is_refused_with_those_that_do(field, wrong, options):
    refuses(f"{field} must be one of {options}, not '{wrong}'", **{field: wrong})


def test_an_unknown_setting_is_refused_with_the_near_ones():
    with pytest.raises(ImpactError, match=r"unknown penalty setting 'wieght': did you mean 'weight'"):
        penalty_from_settings({"wieght": 1.0})


# Numbers


@pytest.mark.parametrize("field", ["weight", "nonterminal_weight"])
@pytest.mark.parametrize("value", [-1, -1e-9, float("nan"), float("inf"), np.float64("nan")])
def test_a_weight_that_is_negative_or_no_number_is_refused(field, value):
    refuses(rf"{field} must be a number of at least 0, not {float(value)}", **{field: value})


@pytest.mark.parametrize("field", ["weight", "nonterminal_weight", "discount", "rollout_discount"])
@pytest.mark.parametrize("value", ["1", None, True, [1.0], 1j])
def test_what_is_no_number_is_refused(field, value):
    refuses(rf"{field} must be a number, not ", **{field: value})


@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan"), float("inf")])
def test_a_discount_outside_0_to_1_is_refused(value):
    refuses(rf"discount must be in \[0, 1\], not {value}", discount=value)


@pytest.mark.parametrize("value", [-0.01, 1.0, 1.01, float("nan")])
def test_a_rollout_discount_outside_0_to_1_or_of_1_is_refused(value):
    refuses(rf"rollout_discount must be in \[0, 1\), not {value}", rollout_discount=value, rollout=True)


@pytest.mark.parametrize("value", [-1, 0.5, "0", True, None])
def test_a_seed_that_is_no_whole_number_is_refused(value):
    refuses("seed must be", seed=value)


@pytest.mark.parametrize("value", [0, 1, np.int64(1), np.float32(0.5)])
def test_numbers_of_any_kind_become_plain_ones(value):
    penalty = Penalty(weight=value, discount=value)
    assert type(penalty.weight) is type(penalty.discount) is float
    assert penalty == Penalty(weight=float(value), discount=float(value))


# Combinations


@pytest.mark.parametrize("deviation", ["unreachability", "none"])
def test_what_is_no_difference_of_values_has_no_summary_and_no_scale(deviation):
    refuses(
        f"{deviation}.*no difference of values, so it has no summary.*it was 'absolute'",
        deviation=deviation,
        summary="absolute",
    )
    refuses(
        f"{deviation}.*no difference of values, so there is nothing to scale.*it was 'sum'",
        deviation=deviation,
        scale="sum",
    )


def test_undiscounted_attainable_utilities_are_refused():
    refuses(
        "attainable_utility needs a discount below 1.*infinite; try discount=0.99",
        deviation="attainable_utility",
        discount=1,
    )


def test_scaling_by_one_minus_a_discount_of_1_is_refused():
    refuses(r"scale='discount' multiplies by 1 - discount, which is 0 with discount=1", scale="discount", discount=1.0)


# Utilities


@pytest.mark.parametrize("table", [0, -1])
def test_a_number_of_utilities_below_1_is_refused(table):
    refuses(f"utilities must be at least 1, not {table}", deviation="attainable_utility", utilities=table)


@pytest.mark.parametrize(
    "table",
    [
        [1.0, 2.0],
        [],
        [[]],
        [[1.0], [2.0, 3.0]],
        [[1.0], [float("nan")]],
        [[1.0], [float("inf")]],
        [["a"], ["b"]],
        [[None], [1.0]],
        np.zeros((2, 2, 2)),
        "many",
        None,
        2.5,
        True,
        {"a": 1},
    ],
    ids=repr,
)
def test_a_table_of_utilities_that_is_no_table_is_refused(table):
    refuses(
        "utilities must be a number of utilities to draw, .* or a table of finite numbers with one row per state",
        deviation="attainable_utility",
        utilities=table,
    )


@pytest.mark.parametrize("rows", [1, 3])
def test_a_table_with_other_than_one_row_per_state_is_refused(rows):
    penalty = Penalty(deviation="attainable_utility", utilities=np.ones((rows, 2)))
    with pytest.raises(ImpactError, match=f"one row for each of the 2 states of the task, not {rows}"):
        penalty.fit(compile_mdp(TWO))


def test_a_table_that_tells_bookkeeping_apart_is_refused():
    mdp = level("ConveyorVase")
    twin = next(i for i in range(mdp.num_states) if mdp.situation[i] != np.arange(mdp.num_states)[i])
    table = np.ones((mdp.num_states, 1))
    for rows in ([twin], np.flatnonzero(mdp.situation == mdp.situation[twin])):
        table[rows] = 2.0
        penalty = Penalty(deviation="attainable_utility", utilities=table)
        if len(rows) == 1:
            with pytest.raises(ImpactError, match=r"must agree in states that differ in bookkeeping only"):
                penalty.fit(mdp)
        else:
            assert penalty.fit(mdp).deviation.any()


def test_a_table_as_an_array_or_as_lists_is_the_same_penalty():
    rows = [[0.5, 1.0], [0.25, 2.0]]
    forms = [
        rows,
        np.array(rows),
        tuple(map(tuple, rows)),
        np.array(rows, dtype=np.float32),
        [np.array(r) for r in rows],
    ]
    made = {Penalty(deviation="attainable_utility", utilities=form) for form in forms}
    assert len(made) == 1
    assert made.pop().utilities == ((0.5, 1.0), (0.25, 2.0))


def test_a_table_is_copied():
    table = np.ones((2, 1))
    penalty = Penalty(deviation="attainable_utility", utilities=table)
    table[:] = 5
    assert penalty.utilities == ((1.0,), (1.0,))


# Worlds that do not fit


NO_NOOP = RuleWorld(rules=dict(TWO.rules), first=[(1.0, 0)], noop=None)
COIN = RuleWorld(
    rules={(s, a): [Outcome(0, probability=0.5), Outcome(1, probability=0.5)] for s in (0, 1) for a in (0, 1)},
    first=[(1.0, 0)],
)


@pytest.mark.parametrize("deviation", ["unreachability", "relative_reachability", "attainable_utility"])
@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"baseline": "stepwise"}, "baseline='stepwise'"),
        ({"baseline": "inaction"}, "baseline='inaction'"),
        ({"baseline": "start", "rollout": True}, "a rollout"),
    ],
)
@pytest.mark.parametrize("world", [NO_NOOP, "FrozenLake-v1"], ids=["by hand", "toy text"])
def test_what_needs_a_noop_is_refused_in_a_world_without(world, settings, what, deviation):
    mdp = level(world) if isinstance(world, str) else compile_mdp(world)
    with pytest.raises(ImpactError, match=f"{what} needs to know what happens when the agent does nothing.*no no-op"):
        Penalty(deviation=deviation, **settings).fit(mdp)


@pytest.mark.parametrize("deviation", ["unreachability", "relative_reachability", "attainable_utility", "none"])
def test_a_world_without_noop_can_be_compared_with_its_start(deviation):
    Penalty(deviation=deviation, baseline="start").fit(compile_mdp(NO_NOOP))


def test_without_a_deviation_no_noop_is_needed():
    Penalty(deviation="none", baseline="stepwise").fit(compile_mdp(NO_NOOP))


@pytest.mark.parametrize("deviation", ["unreachability", "relative_reachability", "attainable_utility"])
def test_inaction_is_refused_where_doing_nothing_is_random(deviation):
    mdp = compile_mdp(COIN)
    with pytest.raises(ImpactError, match=r"baseline='inaction' is random.*'exact'.*'sampled'.*baseline='stepwise'"):
        Penalty(deviation=deviation, baseline="inaction").fit(mdp)
    for baseline in ("stepwise", "start"):
        Penalty(deviation=deviation, baseline=baseline).fit(mdp)


def test_inaction_does_not_mind_chance_that_doing_nothing_never_meets():
    rules = {(0, 0): [Outcome(0)], (0, 1): [Outcome(1)]}
    rules |= {(1, a): [Outcome(0, probability=0.5), Outcome(1, probability=0.5)] for a in (0, 1)}
    impact = Penalty(baseline="inaction", discount=1.0).fit(compile_mdp(RuleWorld(rules=rules, first=[(1.0, 0)])))
    np.testing.assert_allclose(impact.deviation, 0, rtol=0, atol=1e-14)  # everything stays reachable


def test_a_table_of_reachabilities_that_would_not_fit_in_memory_is_refused(monkeypatch):
    monkeypatch.setattr("impactrl.measures.values.MAX_TABLE_BYTES", 60 * 60 * 8 - 1)
    rolled = {"deviation": "unreachability", "rollout": True}  # asks for all pairs
    with pytest.raises(ImpactError, match=r"reachability of 60 states from 60 states needs .*Leave rollouts out"):
        Penalty(terminal="absorbing", **rolled).fit(level("Options"))
    Penalty(terminal="previous", **rolled).fit(level("Options"))
    Penalty(terminal="absorbing").fit(level("Options"))


# A penalty is a plain value


@given(mdps(max_states=3).flatmap(penalties))
def test_a_penalty_survives_json_and_is_equal_and_hashable(penalty):
    copy = penalty_from_settings(json.loads(json.dumps(asdict(penalty))))
    assert copy == penalty
    assert hash(copy) == hash(penalty)
    assert {penalty: "x"}[copy] == "x"
    assert penalty != replace(penalty, weight=penalty.weight + 1)


def test_a_penalty_cannot_be_changed():
    with pytest.raises(AttributeError):
        Penalty().weight = 2.0


@pytest.mark.parametrize(
    ("deviation", "summary", "effective"),
    [
        ("relative_reachability", None, "decrease"),
        ("relative_reachability", "absolute", "absolute"),
        ("attainable_utility", None, "absolute"),
        ("attainable_utility", "increase", "increase"),
        ("unreachability", None, ""),
        ("none", None, ""),
    ],
)
def test_the_usual_summary_of_each_deviation(deviation, summary, effective):
    assert Penalty(deviation=deviation, summary=summary).effective_summary == effective


@pytest.mark.parametrize(
    ("settings", "label"),
    [
        ({}, "RR stepwise"),
        ({"weight": 7.0}, "RR stepwise"),
        ({"deviation": "none", "baseline": "start", "weight": 3.0}, "none"),
        ({"deviation": "unreachability", "baseline": "start"}, "UR start"),
        ({"deviation": "attainable_utility", "baseline": "inaction"}, "AU inaction"),
        ({"rollout": True}, "RR stepwise rollout"),
        ({"rollout": True, "rollout_discount": 0.9}, "RR stepwise rollout rollout_discount=0.9"),
        ({"discount": 1.0}, "RR stepwise discount=1.0"),
        ({"discount": 1}, "RR stepwise discount=1.0"),
        ({"discount": 0.99}, "RR stepwise"),
        ({"summary": "absolute", "scale": "sum"}, "RR stepwise summary=absolute scale=sum"),
        (
            {"terminal": "absorbing", "nonterminal_weight": 0.5, "seed": 3},
            "RR stepwise nonterminal_weight=0.5 terminal=absorbing seed=3",
        ),
        ({"deviation": "attainable_utility", "utilities": 3}, "AU stepwise utilities=3"),
        ({"deviation": "attainable_utility", "rollout": "end", "horizon": 9}, "AU stepwise plan horizon=9"),
        ({"deviation": "step_reversibility", "baseline": "start"}, "step reversibility"),
        ({"baseline": "policy"}, "RR policy policy=random"),
        ({"scale": "impact-unit", "unit_action": "up"}, "RR stepwise scale=impact-unit unit_action=up"),
        ({"deviation": "features", "features": {"vase": 2, "box": 1}}, "features stepwise features=vase:2,box"),
        ({"deviation": "features", "features": {"own": float}}, "features stepwise features=own"),
        ({"deviation": "whitelist", "allowed": ["A> ", " >A"]}, "whitelist stepwise allowed=A> , >A"),
    ],
)
def test_the_label_says_what_is_not_the_default(settings, label):
    assert Penalty(**settings).label == label


def test_different_tables_of_utilities_have_different_labels():
    labels = [Penalty(deviation="attainable_utility", utilities=[[u]]).label for u in (1.0, 2.0, 1.0)]
    assert labels[0] == labels[2] != labels[1]
    assert re.fullmatch(r"AU stepwise utilities=table-[0-9a-f]{6}", labels[0])
