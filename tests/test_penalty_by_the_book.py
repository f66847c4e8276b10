"""Every step of random episodes, under penalties of every kind, is charged what the definitions say."""

from dataclasses import replace

import numpy as np
import pytest
from by_the_book import ByTheBook
from hypothesis import given, settings
from hypothesis import strategies as st
from penalty_cases import EVERY_DEVIATION, goals_of, looked_up, penalties_of_any_kind, precision
from random_mdps import level, mdps, random_walk

from impactrl.measures.penalty import Penalty
from impactrl.measures.presets import PRESETS, preset

LIMIT = 9
"""Steps of an episode. Walks stay below: a unit of impact looks one step ahead."""


def check(mdp, penalty, paths):
    impact = penalty.fit(mdp)
    book = ByTheBook(mdp, penalty, goals_of(impact))
    for path in paths:
        expected = list(book.charges(path)) if path else []
        np.testing.assert_allclose(looked_up(impact, path), expected, **precision(penalty), err_msg=repr(penalty))


def walks(mdp, penalty, rng, number, length):
    steps = min(length, penalty.horizon) if penalty.rollout == "end" else length
    return [random_walk(mdp, rng, steps) for _ in range(number)]


KINDS = [(deviation, {}) for deviation in EVERY_DEVIATION] + [
    ("relative_reachability", {"rollout": True}),
    ("attainable_utility", {"rollout": "end"}),
    ("attainable_utility", {"attainable": "departure"}),
    ("attainable_utility", {"expectation": "inside"}),
]


@pytest.mark.parametrize(("deviation", "fixed"), KINDS, ids=str)
@settings(max_examples=50)
@given(st.data())
def test_every_step_in_random_tasks(deviation, fixed, data):
    noop = data.draw(st.sampled_from(["random", "certain", "none"]))
    mdp = replace(data.draw(mdps(max_states=4, noop=noop)), time_limit=LIMIT)
    penalty = data.draw(penalties_of_any_kind(mdp, deviations=[deviation], **fixed))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    check(mdp, penalty, walks(mdp, penalty, rng, 2, LIMIT - 1))


@pytest.mark.parametrize("deviation", ["relative_reachability", "attainable_utility", "features"])
@settings(max_examples=50)
@given(st.data())
def test_every_step_under_the_impact_unit_in_random_tasks(deviation, data):
    mdp = replace(data.draw(mdps(max_states=4)), time_limit=LIMIT)
    penalty = data.draw(penalties_of_any_kind(mdp, deviations=[deviation], scales=["impact-unit"]))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    check(mdp, penalty, walks(mdp, penalty, rng, 2, 5))


@pytest.mark.parametrize("name", ["Options", "Interference"])
@pytest.mark.parametrize("published", sorted(PRESETS))
def test_every_step_of_a_published_penalty_in_a_published_level(published, name):
    mdp, rng = level(name), np.random.default_rng(7)
    penalty = preset(published, nonterminal_weight=0.25)
    settings = {"rollout_discount": 0.7}  # fewer sums and sweeps by the book
    if penalty.discount < 1:
        settings["discount"] = 0.8
    if penalty.utilities in (30, 1000):
        settings["utilities"] = rng.random((mdp.num_states, 2))
    if penalty.scale == "max":
        settings["scale"] = "none"  # a factor, tested for itself
    penalty = replace(penalty, **settings)
    paths = walks(mdp, penalty, rng, 6, 100)
    assert penalty.rollout == "end" or any(mdp.terminal[path[-1][2]] for path in paths)
    check(mdp, penalty, paths)


@pytest.mark.parametrize("baseline", ["start", "average", "average_other", "random", "policy"])
@pytest.mark.parametrize("deviation", ["unreachability", "relative_reachability"])
def test_every_step_in_a_stochastic_game(deviation, baseline):
    mdp = level("FrozenLake-v1")
    extra = {"inaction": "exact", "policy": "2"} if baseline == "policy" else {}
    penalty = Penalty(deviation=deviation, baseline=baseline, discount=0.8, **extra)
    check(mdp, penalty, walks(mdp, penalty, np.random.default_rng(7), 12, 100))


@settings(max_examples=80)
@given(st.data())
def test_every_step_against_a_sampled_course(data):
    mdp = data.draw(mdps(max_states=4))
    deviations = [d for d in EVERY_DEVIATION if d not in ("future_tasks", "detectability", "step_reversibility")]
    penalty = data.draw(
        penalties_of_any_kind(
            mdp,
            deviations=deviations,
            baselines=["policy"] if mdp.noop is None else ["policy", "inaction"],
            scales=["none", "per-value"],
            sampled=True,
        )
    )
    impact = penalty.fit(mdp)
    book = ByTheBook(mdp, penalty, goals_of(impact))
    graph_state = book.places.all  # memories number the places of the measure in order
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    pair = impact.mdp
    x = int(rng.choice(pair.num_states, p=pair.start))
    path, courses, found = [], [], []
    while len(path) < (penalty.horizon if penalty.rollout == "end" else 7) and not pair.terminal[x]:
        a = int(rng.integers(mdp.num_actions))
        k = int(rng.choice(pair.next_state.shape[2], p=pair.probability[x, a]))
        y = int(pair.next_state[x, a, k])
        found.append((impact.deviation[x, a, k], impact.unit_penalty[x, a, k]))
        path.append((int(impact.state[x]), a, int(impact.state[y])))
        courses.append(graph_state[impact.memory[y]] if impact.memory[y] >= 0 else None)
        x = y
    expected = list(book.charges(path, courses)) if path else []
    np.testing.assert_allclose(found, expected, **precision(penalty), err_msg=repr(penalty))
