"""Presets: what they pin, that they can be written down, and that they fit every level where their baseline exists."""

import json

import numpy as np
import pytest
from random_mdps import RuleWorld, level, steps

from impactrl.compile import compile_mdp
from impactrl.errors import ImpactError
from impactrl.measures.penalty import Penalty
from impactrl.measures.presets import PRESETS, penalty_from_settings, preset
from impactrl.world import Outcome

PUBLISHED = ["krakovna2019", "krakovna2020", "turner2019-model-free", "turner2019-plan", "turner2019-plan-start"]
PUBLISHED += ["turner2019-plan-inaction", "turner2019-plan-decrease", "turner2019-plan-rr", "eresheim2023-average"]
PUBLISHED += ["eresheim2023-average-other", "eresheim2023-random", "eresheim2023-adversarial", "rlsp-deviation"]
PUBLISHED += ["rlsp-reachability", "armstrong2012-features"]

TURNER = [
    "Options",
    "Damage",
    "Correction",
    "Offset",
    "OffsetSushi",
    "Interference",
    "Vase",
    "Burning",
    "BurningOnFire",
]
KRAKOVNA = ["Box", "ConveyorVase", "ConveyorSushi", "SushiGoal", "SushiGoal2"]  # Sokocoin levels have too many states
RLSP = ["VaseRoom", "FarVaseRoom", "ToyTrain", "BatteriesEasy", "BatteriesHard"]


def quick(name):
    """A preset with fewer random utilities: what it compares does not depend on their number."""
    many = PRESETS[name].settings.get("utilities") in (30, 1000)
    return preset(name, **({"utilities": 1} if many else {}))


def test_all_published_penalties_are_there():
    assert set(PUBLISHED) <= set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_a_citation_and_survives_being_written_down(name):
    entry, penalty = PRESETS[name], preset(name)
    assert entry.citation
    assert entry.note.endswith(".")
    assert any(year in entry.citation for year in ("2012", "2016", "2017", "2019", "2020", "2021", "2023"))
    written = json.loads(json.dumps(penalty.settings()))
    assert penalty_from_settings(written) == penalty
    assert penalty_from_settings({"preset": name}) == penalty
    assert written == json.loads(json.dumps(dict(entry.settings)))  # nothing pinned that is the default, nothing lost
    heavier = penalty_from_settings({"preset": name, "weight": 7.0})
    assert heavier.weight == 7.0
    assert heavier != penalty


def test_presets_are_different_penalties():
    assert len({preset(name) for name in PRESETS}) == len(PRESETS)
    assert len({preset(name).label for name in PRESETS}) == len(PRESETS)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("krakovna2019", {"deviation": "relative_reachability", "baseline": "stepwise", "rollout": True}),
        (
            "krakovna2019",
            {"terminal": "previous", "nonterminal_weight": 1.0, "discount": 0.99, "rollout_discount": 0.99},
        ),
        ("krakovna2020", {"deviation": "future_tasks", "baseline": "inaction", "terminal": "previous"}),
        ("krakovna2020", {"discount": 0.99, "nonterminal_weight": 1 - 0.99}),
        ("turner2019-model-free", {"discount": 0.996, "weight": 1 / 1.501, "utilities": 30, "scale": "per-value"}),
        ("turner2019-model-free", {"baseline": "stepwise", "terminal": "absorbing", "expectation": "inside"}),
        ("turner2019-plan", {"rollout": "end", "horizon": 9, "attainable": "departure", "baseline": "stepwise"}),
        ("turner2019-plan-start", {"rollout": "end", "horizon": 9, "baseline": "start"}),
        ("turner2019-plan-inaction", {"rollout": "end", "horizon": 9, "baseline": "inaction"}),
        ("turner2019-plan-decrease", {"rollout": "end", "horizon": 9, "summary": "decrease"}),
        ("turner2019-plan-rr", {"utilities": "states", "clip": True, "summary": "decrease", "baseline": "inaction"}),
        ("eresheim2023-average-other", {"baseline": "average_other", "scale": "per-value", "discount": 0.996}),
        ("rlsp-deviation", {"deviation": "features", "norm": "L2", "weight": 0.5, "baseline": "start"}),
        ("rlsp-reachability", {"discount": 1.0, "horizon": 20, "baseline": "inaction", "scale": "max"}),
    ],
)
def test_a_preset_pins_what_was_published(name, settings):
    penalty = preset(name)
    for field, value in settings.items():
        assert getattr(penalty, field) == (pytest.approx(value) if isinstance(value, float) else value), field


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_fits_every_deterministic_published_level(name):
    charged = 0
    for place in (*TURNER, *KRAKOVNA, *RLSP):
        impact = quick(name).fit(level(place))
        assert np.isfinite(impact.deviation).all()
        assert not impact.deviation[impact.mdp.terminal].any()
        charged += impact.deviation.any()
    assert charged >= 10


RANDOM_COURSE = {"krakovna2020", "armstrong2012-features", "armstrong2017-importance"}
RANDOM_COURSE |= {"turner2019-plan-inaction", "turner2019-plan-rr"}
"""Where doing nothing is random they have to be told which course is meant."""


def rainy():
    """Rain may come whatever one does; the agent can walk off."""
    rules = {
        ((place, wet), a): [
            Outcome(("b" if a else place, True), probability=0.25 if not wet else 1.0),
            Outcome(("b" if a else place, False), probability=0.75 if not wet else 0.0),
        ]
        for place in "ab"
        for wet in (False, True)
        for a in (0, 1)
    }
    rules = {key: [o for o in outcomes if o.probability > 0] for key, outcomes in rules.items()}
    return RuleWorld(
        rules=rules,
        first=[(1.0, ("a", False))],
        feature_names=("place", "wet"),
        features_of={(p, w): (float(p == "b"), float(w)) for p in "ab" for w in (False, True)},
    )


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_which_course_it_needs_where_doing_nothing_is_random(name):
    mdp = compile_mdp(rainy())
    if name in RANDOM_COURSE:
        with pytest.raises(ImpactError, match="the course of baseline='inaction' is random in this world"):
            quick(name).fit(mdp)
        settings = {"inaction": "exact"}
    else:
        settings = {}
    many = PRESETS[name].settings.get("utilities") in (30, 1000)
    impact = preset(name, **settings, **({"utilities": 2} if many else {})).fit(mdp)
    assert np.isfinite(impact.deviation).all()


@pytest.mark.parametrize("name", sorted(RANDOM_COURSE))
def test_apples_grow_by_chance(name):
    with pytest.raises(ImpactError, match="the course of baseline='inaction' is random in this world"):
        quick(name).fit(level("Apples"))


NEEDS_NO_NO_OP = {f"eresheim2023-{kind}" for kind in ("average", "average-other", "random", "adversarial")}
NEEDS_NO_NO_OP |= {"rlsp-deviation"}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_that_does_nothing_is_refused_in_a_world_without_a_no_op_unless_a_policy_stands_for_it(name):
    world = steps(
        [1, 2], [1, 0], [2, 0], noop=None, feature_names=("place",), features_of={s: (float(s),) for s in range(3)}
    )
    mdp = compile_mdp(world)
    if name in NEEDS_NO_NO_OP:
        assert quick(name).fit(mdp).deviation.any()
        return
    with pytest.raises(ImpactError, match="needs to know what happens when the agent does nothing"):
        quick(name).fit(mdp)
    settings = dict(quick(name).settings())
    if settings.get("baseline") == "inaction":
        settings["baseline"] = "policy"
    assert np.isfinite(penalty_from_settings({**settings, "policy": "a0"}).fit(mdp).deviation).all()


def test_differences_that_the_notes_name():
    # Turner 2019's expectation is inside the difference, Krakovna et al.'s outside: apart in a stochastic world.
    mdp = compile_mdp(rainy())
    turner = preset("turner2019-model-free", utilities="states", seed=1)
    krakovna = Penalty(**{**turner.settings(), "expectation": "outside"})
    assert (turner.fit(mdp).deviation[:, mdp.noop] <= 1e-12).all()  # rain is nobody's fault
    assert krakovna.fit(mdp).deviation[:, mdp.noop].max() > 0.1
    # The plan agent's stepwise baseline does nothing at the end, the others' act at their best there.
    vase = level("Vase")
    plan, start = (preset(name, utilities=2).fit(vase) for name in ("turner2019-plan", "turner2019-plan-start"))
    idle = [4] * 8
    for impact, free in ((start, True), (plan, False)):
        x, sums = impact.start_index(0), 0.0
        for a in idle:
            sums += impact.deviation[x, a, 0]
            x = impact.mdp.next_state[x, a, 0]
        assert (sums == 0) == free


def test_a_level_with_too_many_states_for_a_table_is_refused_in_good_time():
    with pytest.raises(
        ImpactError, match=r"reachability of 3\d{4} states from 3\d{4} states needs 7 GiB; 4 GiB are allowed"
    ):
        preset("krakovna2019", deviation="unreachability").fit(level("Sokocoin2"))
