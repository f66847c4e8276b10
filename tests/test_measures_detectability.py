"""Detectability: divergences of distributions of states or features, by hand and against their known inequalities."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from random_mdps import RuleWorld, mdps, steps

from impactrl.compile import compile_mdp
from impactrl.measures.penalty import Penalty
from impactrl.world import Outcome

DIVERGENCES = ("total_variation", "jensen_shannon", "kl")
ENDLESS = {"max_states": 5, "ends": False}


def detected(mdp, **settings):
    """[S, A] against the stepwise baseline; all outcomes of an action are judged alike."""
    deviation = Penalty(deviation="detectability", **settings).fit(mdp).deviation
    return deviation[:, :, 0]


def laws(mdp):
    """[S, A, S] where actions lead."""
    result = np.zeros((mdp.num_states, mdp.num_actions, mdp.num_states))
    for s, a, k in np.ndindex(mdp.next_state.shape):
        result[s, a, mdp.next_state[s, a, k]] += mdp.probability[s, a, k]
    return result


# By hand


def coins():
    """0: the no-op leads to 1 or 2 with 1/2 each; the actions after it to 1 with 1/4, to 3, and to 1 or 2 again."""
    rules = {
        (0, 0): [Outcome(1, probability=0.5), Outcome(2, probability=0.5)],
        (0, 1): [Outcome(1, probability=0.25), Outcome(2, probability=0.75)],
        (0, 2): [Outcome(3)],
        (0, 3): [Outcome(2, probability=0.5), Outcome(1, probability=0.5)],
    } | {(s, a): [Outcome(s)] for s in (1, 2, 3) for a in range(4)}
    return compile_mdp(RuleWorld(rules=rules, first=[(1.0, 0)], actions=("noop", "biased", "apart", "same")))


def test_divergences_by_hand():
    mdp = coins()
    np.testing.assert_allclose(detected(mdp)[0], [0, 0.25, 1, 0], rtol=0, atol=1e-15)
    # Middle of 1/4 3/4 and 1/2 1/2: 3/8 5/8.
    biased = (0.25 * np.log2(2 / 3) + 0.75 * np.log2(6 / 5) + 0.5 * np.log2(4 / 3) + 0.5 * np.log2(4 / 5)) / 2
    found = detected(mdp, divergence="jensen_shannon")[0]
    np.testing.assert_allclose(found, [0, biased, 1, 0], rtol=0, atol=1e-15)
    # KL of the action's from the baseline's: log2 of 1/2 and 3/2; what the baseline cannot do counts as the floor.
    found = detected(mdp, divergence="kl", floor=0.125)[0]
    np.testing.assert_allclose(found, [0, 0.25 * -1 + 0.75 * np.log2(1.5), 3, 0], rtol=0, atol=1e-15)
    assert detected(mdp, divergence="kl")[0, 2] == pytest.approx(np.log2(1e6), abs=1e-12)


def test_features_are_all_that_an_observer_sees():
    mdp = coins()
    parity = {"parity": lambda s: s % 2}  # 1 and 3 look alike
    assert detected(mdp, features=parity)[0].tolist() == [0, 0.25, 0.5, 0]
    blind = {"nothing": lambda _: 0.0}
    for divergence in DIVERGENCES:
        assert not detected(mdp, features=blind, divergence=divergence).any()
    sharp = {"number": float}
    for divergence in DIVERGENCES:
        assert (detected(mdp, features=sharp, divergence=divergence) == detected(mdp, divergence=divergence)).all()


def test_the_baseline_is_a_mixture_where_it_has_several_cases():
    mdp = compile_mdp(steps([1, 2], [1, 1], [2, 2], noop=None))
    assert detected(mdp, baseline="average")[0].tolist() == [0.5, 0.5]  # 1 or 2 against an even mixture
    assert detected(mdp, baseline="average_other")[0].tolist() == [1, 1]


def test_the_course_of_inaction_is_compared_as_a_distribution():
    mdp = coins()
    impact = Penalty(deviation="detectability", baseline="inaction", inaction="exact").fit(mdp)
    x = impact.start_index(0)
    assert impact.deviation[x, :, 0].tolist() == [0, 0.25, 1, 0]
    y = impact.mdp.next_state[x, 0, 0]  # in 1 for good, where inaction is in 1 or 2
    assert impact.deviation[y, 0, 0] == 0.5


def test_the_step_that_ends_an_episode_is_judged_by_the_pair_before_it():
    # 0: the no-op throws a coin between 0 and the end; go leads to 1, from where everything ends.
    rules = {
        (0, 0): [Outcome(0, probability=0.5), Outcome(2, probability=0.5)],
        (0, 1): [Outcome(1)],
        (1, 0): [Outcome(2)],
        (1, 1): [Outcome(2)],
    }
    mdp = compile_mdp(RuleWorld(rules=rules, first=[(1.0, 0)], ends=frozenset([2])))
    impact = Penalty(deviation="detectability").fit(mdp)
    x = impact.start_index(0)
    assert impact.deviation[x].tolist() == [[0, 0], [1, 0]]  # what would end stays: 0 against 0, and 1 against 0
    y = impact.mdp.next_state[x, 1, 0]
    assert impact.deviation[y].tolist() == [[1, 0], [1, 0]]  # 1 against 0, as in the step before


# In general


@given(mdps(**ENDLESS, max_outcomes=1), st.sampled_from(DIVERGENCES))
def test_in_a_deterministic_world_it_says_whether_states_differ(mdp, divergence):
    assume(mdp.noop is not None)
    target = mdp.next_state[:, :, 0]
    differs = (target != target[:, [mdp.noop]]).astype(float)
    size = np.log2(1e6) if divergence == "kl" else 1.0
    np.testing.assert_allclose(detected(mdp, divergence=divergence), size * differs, rtol=0, atol=1e-12)


@settings(max_examples=100)
@given(mdps(**ENDLESS, max_outcomes=3))
def test_divergences_and_their_inequalities(mdp):
    assume(mdp.noop is not None)
    variation, shannon, kl = (detected(mdp, divergence=d, floor=1e-9) for d in DIVERGENCES)
    law = laws(mdp)
    expected = np.abs(law - law[:, [mdp.noop]]).sum(axis=2) / 2
    np.testing.assert_allclose(variation, expected, rtol=0, atol=1e-14)
    for found in (variation, shannon):
        assert (found >= 0).all()
        assert (found <= 1 + 1e-14).all()
    assert (shannon <= variation + 1e-14).all()  # Lin 1991
    pinsker = variation**2 / (2 * np.log(2))
    assert (shannon >= pinsker - 1e-14).all()
    assert (kl >= 4 * pinsker - 1e-6).all()  # a floor below every probability changes KL by less
    assert ((variation < 1e-12) == (kl < 1e-9)).all()


@given(mdps(**ENDLESS), st.data())
def test_total_variation_and_jensen_shannon_do_not_say_who_is_who(mdp, data):
    one, other = (data.draw(st.integers(0, mdp.num_actions - 1)) for _ in range(2))
    for divergence in ("total_variation", "jensen_shannon"):
        found = detected(replace(mdp, noop=one), divergence=divergence)[:, other]
        back = detected(replace(mdp, noop=other), divergence=divergence)[:, one]
        np.testing.assert_allclose(found, back, rtol=0, atol=1e-14)


@given(mdps(**ENDLESS), st.sampled_from([2.0**-3, 2.0**-10, 2.0**-30]))
def test_the_floor_bounds_kl(mdp, floor):
    assume(mdp.noop is not None)
    found = detected(mdp, divergence="kl", floor=floor)
    assert (found <= -np.log2(floor) + 1e-12).all()
    assert (found >= detected(mdp, divergence="kl", floor=2 * floor) - 1e-12).all()
