"""Deviations and baselines of one's own: as objects, by registered names, from installed packages."""

import json
from importlib.metadata import EntryPoint
from typing import ClassVar

import numpy as np
import pytest
from random_mdps import level, steps

import impactrl
from impactrl.compile import compile_mdp
from impactrl.errors import ImpactError
from impactrl.measures import registry
from impactrl.measures.baselines import Baseline, Start, certain
from impactrl.measures.deviations import PairDeviation, ValueFamily
from impactrl.measures.families import AttainableUtility, RelativeReachability
from impactrl.measures.penalty import Penalty
from impactrl.measures.presets import penalty_from_settings
from impactrl.measures.registry import (
    BASELINES,
    DEVIATIONS,
    baseline_names,
    deviation_names,
    register_baseline,
    register_deviation,
)


class Boxes(ValueFamily):
    """Where the box is: the number of its cell."""

    label = "boxes"

    def values(self, graph, penalty):  # noqa: ARG002
        return (graph.boards() == ord("X")).argmax(axis=1)[:, None].astype(float)


class Cells(PairDeviation):
    """How many cells differ."""

    label = "cells"

    def pairs(self, graph, penalty):  # noqa: ARG002
        boards = graph.boards()
        return lambda node, reference: (boards[node] != boards[reference]).sum(axis=1).astype(float)


class Previous(Baseline):
    """The state just left."""

    formula: ClassVar[str] = "b = s_t"
    forgetful = True

    def initial(self, graph, node):  # noqa: ARG002
        return node

    def advance(self, graph, memory, node, action):  # noqa: ARG002
        return node

    def reference(self, graph, memory):  # noqa: ARG002
        return certain(memory)


@pytest.fixture(autouse=True)
def own(monkeypatch):
    """Nothing registered here stays."""
    monkeypatch.setattr(registry, "_own_deviations", {})
    monkeypatch.setattr(registry, "_own_baselines", {})


def test_a_value_family_of_ones_own_by_hand():
    impact = Penalty(deviation=Boxes(), baseline="start").fit(level("Options"))
    assert impact.deviation[impact.start_index(0), :, 0].tolist() == [0, 6, 0, 0, 0]  # pushed down a row of 6 cells
    assert impact.contributions(impact.start_index(0), 1).to_dict() == {"value 0": 6}
    falls = Penalty(deviation=Boxes(), baseline="start", summary="decrease").fit(level("Options"))
    assert not falls.deviation[falls.start_index(0)].any()


def test_a_pair_deviation_and_a_baseline_of_ones_own_by_hand():
    impact = Penalty(deviation=Cells(), baseline=Previous()).fit(level("Vase"))
    assert impact.deviation[0, :, 0].tolist() == [2, 0, 2, 2, 0]  # a step changes two cells; down is a wall


def test_objects_and_registered_names_are_the_same_penalty():
    boxes, previous = Boxes(), Previous()
    impactrl.register_deviation("boxes", boxes)
    impactrl.register_baseline("previous", previous)
    named = Penalty(deviation="boxes", baseline="previous")
    assert named == Penalty(deviation=boxes, baseline=previous)
    assert hash(named) == hash(Penalty(deviation=boxes, baseline=previous))
    assert named.label == "boxes previous"
    assert (named.deviation_choice, named.baseline_choice) == (boxes, previous)
    assert named.settings() == {"deviation": "boxes", "baseline": "previous"}
    assert penalty_from_settings(json.loads(json.dumps(named.settings()))) == named
    assert {"boxes", *DEVIATIONS} <= set(deviation_names())
    assert {"previous", *BASELINES} <= set(baseline_names())
    mdp = level("Options")
    assert (named.fit(mdp).deviation == Penalty(deviation=Boxes(), baseline=Previous()).fit(mdp).deviation).all()


def test_an_object_like_a_built_in_one_goes_by_its_name():
    penalty = Penalty(deviation=AttainableUtility(), baseline=Start())
    assert penalty == Penalty(deviation="attainable_utility", baseline="start")
    assert penalty.settings() == {"deviation": "attainable_utility", "baseline": "start"}


def test_an_object_without_a_name_cannot_be_written_down():
    penalty = Penalty(deviation=Boxes(), baseline=Previous())
    assert (penalty.deviation_name, penalty.baseline_name) == ("boxes", "Previous")
    with pytest.raises(ImpactError, match=r"deviation Boxes has no name .*call impactrl.register_deviation\(name, obj"):
        penalty.settings()
    with pytest.raises(
        ImpactError, match=r"baseline Previous has no name .*call impactrl.register_baseline\(name, obj"
    ):
        Penalty(baseline=Previous()).settings()


def test_functions_cannot_be_written_down():
    for settings in (
        {"deviation": "attainable_utility", "utilities": [float]},
        {"deviation": "features", "features": {"number": float}},
        {"deviation": "features", "features": {"vase": 1.0, "number": float}},
    ):
        with pytest.raises(
            ImpactError, match="that are functions cannot be written down; give a table or names instead"
        ):
            Penalty(**settings).settings()


def test_a_name_is_given_once():
    register_deviation("boxes", Boxes())
    with pytest.raises(ImpactError, match="there is another deviation called 'boxes'; choose another name"):
        register_deviation("boxes", Boxes())  # another object
    with pytest.raises(ImpactError, match="there is another deviation called 'power'; choose another name"):
        register_deviation("power", Boxes())
    with pytest.raises(ImpactError, match="there is another baseline called 'start'; choose another name"):
        register_baseline("start", Previous())
    same = Cells()
    register_deviation("cells", same)
    register_deviation("cells", same)
    register_deviation("relative_reachability", RelativeReachability())  # it is that one


@pytest.mark.parametrize(
    ("register", "given", "said"),
    [
        (register_deviation, Boxes, r"an object: Boxes\(\), not the class Boxes"),
        (register_baseline, Previous, r"an object: Previous\(\), not the class Previous"),
        (register_deviation, Previous(), "must be a name or a ValueFamily, PairDeviation or Deviation"),
        (register_deviation, 3, "must be a name or a ValueFamily, PairDeviation or Deviation, not 3"),
        (register_baseline, "start", "baseline must be a name or a Baseline, not 'start'"),
    ],
)
def test_what_is_none_is_refused_when_it_is_registered(register, given, said):
    with pytest.raises(ImpactError, match=said):
        register("mine", given)
    assert "mine" not in [*deviation_names(), *baseline_names()]


def test_near_names_are_those_of_ones_own_too():
    register_deviation("boxes", Boxes())
    with pytest.raises(ImpactError, match=r"unknown deviation 'boxs': did you mean 'boxes'"):
        Penalty(deviation="boxs")


# Installed packages


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package on the path that brings a deviation class, a deviation object and a baseline."""
    (tmp_path / "heat_package.py").write_text(
        "import numpy as np\n"
        "from impactrl import Baseline, ValueFamily\n"
        "from impactrl.measures.baselines import Start\n"
        "class Heat(ValueFamily):\n"
        "    label = 'heat'\n"
        "    def values(self, graph, penalty):\n"
        "        return graph.state[:, None].astype(float)\n"
        "heat = Heat()\n"
        "class First(Start):\n"
        "    pass\n"
        "nothing = 3\n"
    )
    info = tmp_path / "heat_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: heat-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[impactrl.deviations]\nheat_class = heat_package:Heat\nheat_object = heat_package:heat\n"
        "not_one = heat_package:nothing\npower = heat_package:heat\n"
        "[impactrl.baselines]\nfirst = heat_package:First\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("name", ["heat_class", "heat_object"])
def test_an_installed_package_brings_deviations_and_baselines(name):
    assert name in deviation_names()
    assert "first" in baseline_names()
    mdp = compile_mdp(steps([0, 1, 2], [1, 1, 1], [2, 2, 2]))
    penalty = Penalty(deviation=name, baseline="first")
    assert penalty.settings() == {"deviation": name, "baseline": "first"}
    assert penalty.label == "heat first"
    assert penalty.fit(mdp).deviation[0, :, 0].tolist() == [0, 1, 2]


@pytest.mark.usefixtures("package")
def test_a_package_does_not_take_the_names_of_the_library_and_brings_deviations_only():
    assert Penalty(deviation="power").label == "POWER stepwise"
    with pytest.raises(
        ImpactError, match="deviation must be a name or a ValueFamily, PairDeviation or Deviation, not 3"
    ):
        Penalty(deviation="not_one")
    with pytest.raises(ImpactError, match="unknown deviation 'heat_clas': did you mean 'heat_class'"):
        Penalty(deviation="heat_clas")


def test_entry_points_are_asked_by_group(monkeypatch):
    asked = []

    def points(*, group):
        asked.append(group)
        return [EntryPoint("boxes_of_a_package", f"{__name__}:Boxes", group)]

    monkeypatch.setattr(registry, "entry_points", points)
    assert "boxes_of_a_package" in deviation_names()
    assert "boxes_of_a_package" in baseline_names()
    assert asked == ["impactrl.deviations", "impactrl.baselines"]


# What the list of measures says


@pytest.mark.parametrize("name", [name for name in DEVIATIONS if name != "none"])
def test_every_deviation_says_what_it_is_and_where_it_was_published(name):
    deviation = DEVIATIONS[name]
    assert deviation.label
    assert deviation.formula
    assert deviation.source
    assert deviation.summary in (None, "decrease", "increase", "absolute")


@pytest.mark.parametrize("name", [name for name in BASELINES if name != "none"])
def test_every_baseline_says_what_it_is_and_where_it_was_published(name):
    assert BASELINES[name].formula
    assert BASELINES[name].source


def test_labels_are_different():
    labels = [deviation.label for deviation in DEVIATIONS.values()]
    assert len(set(labels)) == len(labels)
    assert np.all([label == label.strip() for label in labels])
