"""Sampled goals: unbiased, with a standard error that is one; counting instead of a table."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_mdps import level, mdps

from impactrl.measures.penalty import Penalty
from impactrl.measures.state_graph import state_graph
from impactrl.measures.values import reachability

DRAWS = 150


@pytest.mark.parametrize(
    ("name", "settings"), [("Offset", {}), ("Options", {"summary": "absolute"}), ("Offset", {"scale": "discount"})]
)
def test_sampled_goals_estimate_without_bias_and_say_how_well(name, settings):
    mdp = level(name)
    exact = Penalty(**settings).fit(mdp).deviation
    samples = [Penalty(goals=40, seed=seed, **settings).fit(mdp) for seed in range(DRAWS)]
    estimates = np.array([impact.deviation for impact in samples])
    errors = np.array([impact.standard_error for impact in samples])
    spread = estimates.std(axis=0)
    matters = exact > 0.01 * exact.max()
    assert matters.sum() > 5
    # The mean of the estimates is within 4 of its standard errors, everywhere.
    assert (np.abs(estimates.mean(axis=0) - exact) <= 4 * spread / np.sqrt(DRAWS) + 1e-12).all()
    # The stated variance is, on average, the variance there is, which so many draws show to within 3 sqrt(2 / DRAWS).
    ratio = (errors**2).mean(axis=0)[matters] / spread[matters] ** 2
    np.testing.assert_allclose(ratio.mean(), 1, atol=3 * np.sqrt(2 / DRAWS))


def test_what_is_no_mean_over_goals_has_no_standard_error():
    for settings in ({"scale": "sum"}, {"norm": "L2"}, {"scale": "max"}):
        assert Penalty(goals=20, **settings).fit(level("Options")).standard_error is None


def test_as_many_goals_as_states_are_all_of_them():
    mdp = level("Options")
    every, sampled = Penalty().fit(mdp), Penalty(goals=1000).fit(mdp)
    assert (every.deviation == sampled.deviation).all()
    assert every.standard_error is sampled.standard_error is None


@given(
    mdps(max_states=6, max_outcomes=1, noop="certain"),
    st.sampled_from(["previous", "absorbing"]),
    st.sampled_from(["decrease", "increase", "absolute"]),
    st.sampled_from(["start", "inaction", "stepwise"]),
)
def test_counting_gives_what_the_table_gives(mdp, terminal, summary, baseline):
    impact = Penalty(discount=1.0, terminal=terminal, summary=summary, baseline=baseline).fit(mdp)
    graph = state_graph(mdp, terminal)
    table = reachability(graph, discount=1.0)
    # Under the norm "L2" the same differences go through the table; they are 0 or 1, so their squares are themselves.
    squared = Penalty(discount=1.0, terminal=terminal, summary=summary, baseline=baseline, norm="L2").fit(mdp)
    np.testing.assert_allclose(impact.deviation, squared.deviation**2, rtol=0, atol=1e-12)
    assert set(np.unique(table)) <= {0.0, 1.0}
