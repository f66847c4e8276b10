"""Empowerment: against counting, closed-form channels and a general-purpose optimiser."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_mdps import RuleWorld, arrays_of, level, mdps, steps
from scipy.optimize import minimize

from impactrl.compile import compile_mdp
from impactrl.errors import ImpactError
from impactrl.measures.empowerment import channel_capacity, empowerment
from impactrl.measures.penalty import Penalty
from impactrl.measures.state_graph import state_graph
from impactrl.world import Outcome

# Channels


def entropy(*chances):
    return -sum(p * np.log2(p) for p in chances if p > 0)


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.1, 0.25, 0.5])
def test_closed_form_channels(noise):
    symmetric = [[1 - noise, noise], [noise, 1 - noise]]
    assert channel_capacity(np.array(symmetric)) == pytest.approx(1 - entropy(noise, 1 - noise), abs=1e-9)
    erasure = [[1 - noise, 0, noise], [0, 1 - noise, noise]]
    assert channel_capacity(np.array(erasure)) == pytest.approx(1 - noise, abs=1e-9)
    z = [[1.0, 0.0], [noise, 1 - noise]]
    expected = np.log2(1 + (1 - noise) * noise ** (noise / (1 - noise)))
    assert channel_capacity(np.array(z)) == pytest.approx(expected, abs=1e-9)


def test_channels_without_noise_and_without_information():
    assert channel_capacity(np.eye(5)) == pytest.approx(np.log2(5), abs=1e-9)
    assert channel_capacity(np.full((3, 4), 0.25)) == 0
    assert channel_capacity(np.ones((1, 1))) == 0
    typewriter = (np.eye(4) + np.roll(np.eye(4), 1, axis=1)) / 2  # every letter comes out as itself or the next
    assert channel_capacity(typewriter) == pytest.approx(1, abs=1e-9)


@settings(max_examples=40)
@given(st.integers(1, 4).flatmap(lambda n: st.integers(1, 4).flatmap(lambda m: arrays_of((n, m), 0, 3))))
def test_a_capacity_lies_between_what_an_optimiser_finds_from_below_and_from_above(shares):
    channel = (shares + (shares.sum(axis=1, keepdims=True) == 0)) / 1.0
    channel /= channel.sum(axis=1, keepdims=True)
    logs = np.where(channel > 0, np.log2(np.where(channel > 0, channel, 1)), 0)

    def divergences(share):
        mixture = np.maximum(share @ channel, 1e-300)
        return (channel * (logs - np.log2(mixture))).sum(axis=1)

    def simplex(z):
        weights = np.exp(z - z.max())
        return weights / weights.sum()

    found = minimize(lambda z: -simplex(z) @ divergences(simplex(z)), np.zeros(len(channel)), method="BFGS")
    best = simplex(found.x)
    capacity = channel_capacity(channel)
    assert best @ divergences(best) <= capacity + 1e-9  # any distribution of inputs is a lower bound,
    assert capacity <= divergences(best).max() + 1e-9  # and any distribution of outputs an upper one
    assert divergences(best).max() - best @ divergences(best) < 0.02  # else the bounds say nothing


def test_a_channel_that_does_not_settle_is_refused(monkeypatch):
    monkeypatch.setattr("impactrl.measures.empowerment._blahut_arimoto", lambda _: (0.25, 0.5))
    with pytest.raises(ImpactError, match=r"did not settle: it is between 0.25 and 0.5 bits"):
        channel_capacity(np.eye(2))


# Worlds


@given(mdps(max_states=6, max_outcomes=1), st.integers(1, 4), st.sampled_from(["previous", "absorbing"]))
def test_in_a_deterministic_world_it_counts_what_so_many_steps_lead_to(mdp, horizon, terminal):
    graph = state_graph(mdp, terminal)
    found = empowerment(graph, steps=horizon)
    for x, s in enumerate(graph.state):
        reached = {int(s)}
        for _ in range(horizon):
            ahead = {(here, int(z)) for here in reached for z in mdp.next_state[here, :, 0]}
            # What would leave the measure stays.
            reached = {here if terminal == "previous" and mdp.terminal[z] else z for here, z in ahead}
        assert found[x] == pytest.approx(np.log2(len(reached)), abs=1e-12)


def test_exactly_so_many_steps_and_not_up_to_so_many():
    mdp = compile_mdp(steps([1, 2], [0, 0], [1, 1]))  # 0 leads to 1 or 2, 1 back to 0, 2 to 1
    for horizon, reached in [(1, 2), (2, 2), (3, 3)]:  # {1, 2}, {0, 1}, {1, 2, 0}
        assert empowerment(state_graph(mdp, "previous"), steps=horizon)[0] == np.log2(reached)


@settings(max_examples=30)
@given(mdps(max_states=4), st.integers(1, 2), st.sampled_from(["previous", "absorbing"]))
def test_in_a_stochastic_world_it_is_the_capacity_of_all_plans(mdp, horizon, terminal):
    graph = state_graph(mdp, terminal)
    after = np.zeros((mdp.num_actions, graph.size, graph.size))
    for a, x, k in np.ndindex(mdp.num_actions, graph.size, mdp.next_state.shape[2]):
        target = graph.node[mdp.next_state[graph.state[x], a, k]]
        after[a, x, x if target < 0 else target] += mdp.probability[graph.state[x], a, k]
    found = empowerment(graph, steps=horizon)
    for x in range(graph.size):
        rows = []
        for plan in product(range(mdp.num_actions), repeat=horizon):
            mass = np.eye(graph.size)[x]
            for a in plan:
                mass = mass @ after[a]
            rows.append(mass)
        assert found[x] == pytest.approx(channel_capacity(np.array(rows)), abs=1e-9)


def test_slippery_actions_are_a_noisy_channel():
    # Left and right slip with 1/10: the binary symmetric channel.
    def towards(here, there):
        return [Outcome(here, probability=0.9), Outcome(there, probability=0.1)]

    rules = {("m", 0): towards("l", "r"), ("m", 1): towards("r", "l")}
    rules |= {(s, a): [Outcome(s)] for s in "lr" for a in (0, 1)}
    mdp = compile_mdp(RuleWorld(rules=rules, first=[(1.0, "m")], actions=("left", "right"), noop=None))
    found = empowerment(state_graph(mdp, "previous"), steps=1)
    np.testing.assert_allclose(found, [1 - entropy(0.1, 0.9), 0, 0], rtol=0, atol=1e-9)
    penalty = Penalty(deviation="empowerment", baseline="start", horizon=1)
    assert penalty.fit(mdp).deviation[0, 0, 0] == pytest.approx(1 - entropy(0.1, 0.9), abs=1e-9)


def test_empowerment_is_lost_with_the_box_in_the_corner():
    mdp = level("Options")
    graph = state_graph(mdp, "absorbing")
    found = empowerment(graph, steps=3)
    impact = Penalty(deviation="empowerment", terminal="absorbing", summary="decrease").fit(mdp)
    corner = graph.node[mdp.next_state[0, 1, 0]]
    assert impact.deviation[0, 1, 0] == pytest.approx(max(0, found[0] - found[corner]))
    gained = Penalty(deviation="empowerment", terminal="absorbing", summary="increase").fit(mdp)
    assert gained.deviation[0, 1, 0] == pytest.approx(max(0, found[corner] - found[0]))


def test_more_plans_than_can_be_listed_are_refused():
    rules = {(s, a): [Outcome(0, probability=0.5), Outcome(1, probability=0.5)] for s in (0, 1) for a in (0, 1)}
    mdp = compile_mdp(RuleWorld(rules=rules, first=[(1.0, 0)]))
    with pytest.raises(
        ImpactError, match=r"17 steps needs 131072 plans of 2 actions, more than 100000; give a smaller"
    ):
        Penalty(deviation="empowerment", horizon=17).fit(mdp)
    assert not Penalty(deviation="empowerment", horizon=10).fit(mdp).deviation.any()
