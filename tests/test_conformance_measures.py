"""The batteries for deviations and baselines over all of ours; and that every check can fail, in one clear sentence."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

import impactrl
from impactrl.measures.baselines import BASELINES, certain
from impactrl.measures.registry import DEVIATIONS
from impactrl.testing import check_baseline, check_deviation

# Ours


@pytest.mark.parametrize("name", DEVIATIONS)
def test_our_deviations_conform(name):
    check_deviation(name, bonus=name == "future_tasks")


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("relative_reachability", {"rollout": True, "goals": 7}),
        ("relative_reachability", {"rollout": "end", "horizon": 5, "terminal": "absorbing"}),
        ("attainable_utility", {"scale": "per-value", "norm": "L2", "baseline": "inaction"}),
        ("attainable_utility", {"utilities": "states", "clip": True}),
        ("features", {"features": {"box": 2.0}}),
        ("relative_reachability", {"baseline": "inaction", "time_limit_ends": True}),
    ],
)
def test_our_deviations_conform_with_settings(name, settings):
    check_deviation(name, ["Options"], **settings)


@pytest.mark.parametrize("name", ["relative_reachability", "attainable_utility", "unreachability", "detectability"])
def test_our_deviations_conform_in_worlds_of_chance_and_bookkeeping(name):
    check_deviation(name, ["FrozenLake-v1", "ConveyorVase"], baseline="start")


@pytest.mark.parametrize("name", BASELINES)
def test_our_baselines_conform(name):
    others = {"none": {"deviation": "future_tasks"}, "policy": {"inaction": "exact"}}
    check_baseline(name, **others.get(name, {}))


@pytest.mark.parametrize("inaction", ["exact", "sampled"])
def test_a_random_course_of_inaction_conforms(inaction):
    check_baseline("policy", ["FrozenLake-v1"], policy="random", inaction=inaction)


# Deviations with a fault


class Fine(impactrl.PairDeviation):
    """Nothing is wrong with it: the number of cells that differ."""

    label: ClassVar[str] = "cells"
    formula: ClassVar[str] = "number of cells that differ"

    def pairs(self, graph, penalty):  # noqa: ARG002
        boards = graph.boards()
        return lambda node, reference: (boards[node] != boards[reference]).sum(axis=1).astype(float)


class FineFamily(impactrl.ValueFamily):
    """Nothing is wrong with it either: the row and column of the figure."""

    label: ClassVar[str] = "place"
    formula: ClassVar[str] = "distance of the figure"

    def values(self, graph, penalty):  # noqa: ARG002
        cell = (graph.boards() == ord("A")).argmax(axis=1)
        return np.stack([cell // 6, cell % 6], axis=1).astype(float)

    def names(self, graph, penalty):  # noqa: ARG002
        return ["row", "column"]


@pytest.mark.parametrize("deviation", [Fine(), FineFamily()])
def test_sound_ones_pass(deviation):
    check_deviation(deviation)
    check_deviation(deviation, baseline="inaction", rollout=True)


class Unnamed(Fine):
    label: ClassVar[str] = ""


class Unexplained(Fine):
    formula: ClassVar[str] = ""


class OddSummary(FineFamily):
    summary: ClassVar[str | None] = "difference"


class Constant(Fine):
    def pairs(self, graph, penalty):  # noqa: ARG002
        return lambda node, _: np.full(len(node), 0.5)


class OneNumber(Fine):
    def pairs(self, graph, penalty):  # noqa: ARG002
        return lambda node, reference: float((node != reference).sum())


class NotANumber(Fine):
    def pairs(self, graph, penalty):  # noqa: ARG002
        return lambda node, reference: np.where(node == reference, 0.0, np.nan)


class Numbered(Fine):
    def pairs(self, graph, penalty):  # noqa: ARG002
        return lambda node, reference: np.abs(node - reference).astype(float)


class Moody(Fine):
    draws: ClassVar[np.random.Generator] = np.random.default_rng(0)

    def pairs(self, graph, penalty):  # noqa: ARG002
        drawn = self.draws.random((graph.size, graph.size))
        return lambda node, reference: np.where(node == reference, 0.0, drawn[node, reference])


class Whims(Fine):
    """0 for a state against itself when it is asked so, and yet the no-op costs something."""

    def pairs(self, graph, penalty):
        if penalty.baseline == "stepwise":
            return lambda node, _: np.full(len(node), 0.25)
        return super().pairs(graph, penalty)


class Flat(FineFamily):
    def values(self, graph, penalty):
        return super().values(graph, penalty)[:, 0]


class Short(FineFamily):
    def values(self, graph, penalty):
        return super().values(graph, penalty)[:-1]


class Whole(FineFamily):
    def values(self, graph, penalty):
        return super().values(graph, penalty).astype(int)


class Endless(FineFamily):
    def values(self, graph, penalty):
        return 1 / (super().values(graph, penalty) - 1)


class Misnamed(FineFamily):
    def names(self, graph, penalty):  # noqa: ARG002
        return ["row"]


class Misweighted(FineFamily):
    def weights(self, graph, penalty):  # noqa: ARG002
        return np.ones(3)


class Picky(Fine):
    def pairs(self, graph, penalty):  # noqa: ARG002
        raise impactrl.ImpactError("there is no moon in this world")


@pytest.mark.parametrize(
    ("deviation", "said"),
    [
        (Unnamed(), r"check_described failed .* on Options: it has no label: set the class attribute `label`"),
        (Unexplained(), r"it has no formula: set the class attribute `formula`"),
        (OddSummary(), r"summary must be one of 'decrease', 'increase', 'absolute', None"),
        (Constant(), r"check_zero_for_itself .*state 0 deviates from itself by 0.5; it must be 0 \(of a bonus"),
        (OneNumber(), r"check_shapes .*`pairs` gave an array of shape \(\) for 54 pairs, not \(54,\)"),
        (NotANumber(), r"check_finite .*'down' in state 0 deviates by nan, which is no finite number"),
        (Numbered(), r"check_numbering .*with the states numbered otherwise, state \d+ deviates from state \d+ by"),
        (Moody(), r"check_deterministic .*two fits differ by .*: draw random numbers from np.random.default_rng"),
        (Flat(), r"check_shapes .*values must be a table \[N, K\], not an array of shape \(54,\)"),
        (Short(), r"values must have one row for each of the 54 nodes, not 53"),
        (Whole(), r"values must be float64, not int64: .astype\(float\) makes them so"),
        (Endless(), r"value 0 of state \d+ is inf"),
        (Misnamed(), r"there are 2 values, but 1 names"),
        (Misweighted(), r"there are 2 values, but weights of shape \(3,\)"),
    ],
    ids=lambda entry: type(entry).__name__ if isinstance(entry, impactrl.Deviation) else "",
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_a_fault_of_a_deviation_is_found_and_named(deviation, said):
    with pytest.raises(AssertionError, match=said):
        check_deviation(deviation, baseline="inaction")


def test_what_cannot_be_fitted_says_why():
    with pytest.raises(AssertionError, match="on Options: there is no moon in this world"):
        check_deviation(Picky())
    with pytest.raises(AssertionError, match="on FrozenLake-v1: the boards of this world are not all of one size"):
        check_deviation(Fine(), ["FrozenLake-v1"])
    with pytest.raises(AssertionError, match="on FrozenLake-v1: baseline='stepwise' needs to know"):
        check_deviation("unreachability", ["FrozenLake-v1"])


def test_what_the_noop_costs_is_found():
    with pytest.raises(AssertionError, match=r"'noop' in state \d+ costs 0.25 under the stepwise baseline, although"):
        check_deviation(Whims(), baseline="inaction")


def test_a_bonus_is_one_by_word_only():
    with pytest.raises(AssertionError, match="of a bonus say bonus=True"):
        check_deviation("future_tasks")


# Baselines with a fault


class Still(impactrl.Baseline):
    """Nothing is wrong with it: the state just left."""

    formula: ClassVar[str] = "b = s_t"
    forgetful: ClassVar[bool] = True

    def initial(self, graph, node):  # noqa: ARG002
        return node

    def advance(self, graph, memory, node, action):  # noqa: ARG002
        return node

    def reference(self, graph, memory):  # noqa: ARG002
        return certain(memory)


def test_a_sound_baseline_passes():
    check_baseline(Still())
    check_baseline(Still(), ["FrozenLake-v1"], deviation="relative_reachability")


class Wordless(Still):
    formula: ClassVar[str] = ""


class Elsewhere(Still):
    def initial(self, graph, node):
        return (node + 1) % graph.size


class Overflowing(Still):
    def advance(self, graph, memory, node, action):  # noqa: ARG002
        return node + (action == 4) * graph.size

    def reference(self, graph, memory):
        return certain(memory % graph.size)


class Fractional(Still):
    def advance(self, graph, memory, node, action):  # noqa: ARG002
        return node / 1.0


class Lopsided(Still):
    def reference(self, graph, memory):
        right = super().reference(graph, memory)
        return replace(right, share=np.where(memory[:, None] > 0, 0.25, 1.0))


class Remembering(Still):
    """The first state, which is no matter of the last step."""

    def advance(self, graph, memory, node, action):  # noqa: ARG002
        return memory


@pytest.mark.parametrize(
    ("baseline", "said"),
    [
        (Wordless(), r"check_formula failed .* on Options: it has no formula"),
        (
            Elsewhere(),
            r"check_start .*starts in state 0 is compared with other states from the first, with probability 1",
        ),
        (Fractional(), r"check_memories .*`advance` must give whole numbers, not float64"),
        (Overflowing(), r"check_memories .*`advance` gave memory \d+; `memories` says there are 54, from 0"),
        (Lopsided(), r"check_references .*for memory \d+ they sum to 0.25"),
    ],
    ids=lambda entry: type(entry).__name__ if isinstance(entry, impactrl.Baseline) else "",
)
def test_a_fault_of_a_baseline_is_found_and_named(baseline, said):
    with pytest.raises(AssertionError, match=said):
        check_baseline(baseline)


def test_a_baseline_that_is_not_as_forgetful_as_it_says_is_found():
    with pytest.raises(
        AssertionError, match=r"it calls itself forgetful, yet what it remembers after 'up' in state 0 depends on"
    ):
        check_baseline(Remembering(), terminal="previous")
