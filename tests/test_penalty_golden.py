"""Exact penalties against numbers that the published programs printed (`data/`)."""

import gzip
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from random_mdps import level

from impactrl.agents.planner import solve
from impactrl.measures.presets import preset
from impactrl.measures.state_graph import state_graph
from impactrl.measures.values import attainable_utilities

DATA = Path(__file__).parent / "data"
DEVIATIONS = {
    "reach": "unreachability",
    "rel_reach": "relative_reachability",
    "att_util": "attainable_utility",
}
BASELINES = {  # name there: baseline, with inaction rollouts
    "start": ("start", False),
    "inaction": ("inaction", False),
    "stepwise": ("stepwise", True),
    "step_noroll": ("stepwise", False),
}
SUMMARIES = {None: None, "truncation": "decrease", "absolute": "absolute"}


@cache
def golden(name):
    with gzip.open(DATA / f"{name}.json.gz", "rt", encoding="utf-8") as file:
        return json.load(file)


def boards_of(mdp):
    return ["\n".join(mdp.board_text(i)) for i in range(mdp.num_states)]


# Krakovna et al. 2019/2020


def krakovna_rows():
    for name in ("Box", "ConveyorVase"):
        for i, row in enumerate(golden(f"krakovna_{name}")["penalties"]):
            words = [name, row["deviation"], row["summary"], row["value_discount"], row["baseline"]]
            yield pytest.param(name, i, id="-".join(str(w) for w in words if w is not None))


def krakovna_task(name):
    return level(name, **golden(f"krakovna_{name}")["reward_settings"])


@pytest.mark.parametrize(("name", "row"), list(krakovna_rows()))
def test_penalties_of_scripted_episodes_are_those_of_the_program_of_krakovna_et_al(name, row):
    data = golden(f"krakovna_{name}")
    mdp, row = krakovna_task(name), data["penalties"][row]
    baseline, rollout = BASELINES[row["baseline"]]
    settings = {}
    if row["deviation"] == "att_util":
        utilities = dict(zip(data["boards"], data["utilities"], strict=True))
        settings = {"scale": "discount", "utilities": [utilities.get(b, [0.0] * 10) for b in boards_of(mdp)]}
    impact = preset(
        "krakovna2019",
        deviation=DEVIATIONS[row["deviation"]],
        baseline=baseline,
        rollout=rollout,
        summary=SUMMARIES[row["summary"]],
        discount=row["value_discount"],
        **settings,
    ).fit(mdp)
    assert data["beta"] == data["nonterminal_weight"] == 1
    for number, (episode, expected) in enumerate(zip(data["episodes"], row["values"], strict=True)):
        x, charged = impact.start_index(0), []
        for a in episode["actions"]:
            charged.append(impact.unit_penalty[x, a, 0])
            x = impact.mdp.next_state[x, a, 0]
        np.testing.assert_allclose(charged, expected, rtol=0, atol=1e-9, err_msg=f"episode {number}")


@pytest.mark.parametrize("name", ["Box", "ConveyorVase"])
def test_scripted_episodes_pass_through_the_boards_of_the_program_of_krakovna_et_al(name):
    data, mdp = golden(f"krakovna_{name}"), krakovna_task(name)
    boards = boards_of(mdp)
    for episode in data["episodes"]:
        s, seen = 0, [boards[0]]
        for a in episode["actions"]:
            assert not mdp.terminal[s]
            s = mdp.next_state[s, a, 0]
            seen.append(boards[s])
        if episode["ended"]:
            seen.pop()  # the program numbers no ends
        assert mdp.terminal[s] == episode["ended"]
        assert seen == [data["boards"][i] for i in episode["states"]]


@pytest.mark.parametrize("name", ["Box", "ConveyorVase"])
def test_relative_reachability_averages_over_as_many_states_as_the_program_of_krakovna_et_al(name):
    data = golden(f"krakovna_{name}")
    normalisers = {row["normaliser"] for row in data["penalties"]} - {None}
    assert normalisers == {state_graph(krakovna_task(name), "previous").size} == {data["nonterminal_boards"]}


# Turner et al. 2019/2020

SIZES = {"Options": 60, "Vase": 23}


@pytest.fixture(scope="module", params=sorted(SIZES))
def turner(request):
    """The task, the program's states by our ids, its auxiliary rewards, [S, 30], and its plans."""
    data, mdp = golden(f"turner_{request.param}"), level(request.param)
    assert mdp.num_states == SIZES[request.param]
    by_board = {state["board"]: state for state in data["states"]}
    states = [by_board[board] for board in boards_of(mdp)]
    rewards = np.array([data["aux_rewards_30"][state["board"]] for state in states])
    return mdp, states, rewards, data["plans_horizon_9_lambda_1/1.501"]


def live(mdp):
    return np.flatnonzero(~mdp.terminal)


def test_transitions_are_those_of_the_program_of_turner_et_al(turner):
    mdp, states, _, _ = turner
    number = {state["id"]: i for i, state in enumerate(states)}
    assert len(number) == mdp.num_states
    for i, state in enumerate(states):
        assert mdp.terminal[i] == state["terminal"]
        if not state["terminal"]:
            assert mdp.next_state[i, :, 0].tolist() == [number[j] for j in state["next"]]
            assert mdp.reward[i, :, 0].tolist() == state["reward"]
            assert mdp.performance[i, :, 0].tolist() == state["hidden_delta"]


def test_attainable_utilities_are_the_exact_values_of_turner_et_al(turner):
    mdp, states, rewards, _ = turner
    values = attainable_utilities(state_graph(mdp, "absorbing"), rewards, discount=0.996)
    assert values.shape == (mdp.num_states, 30)
    known = len(states[0]["Q"][0])
    for i in live(mdp):
        # Q_u(s, a) = V_u(s'), the utility of s' itself included; the file has those of the first rewards.
        ours = values[mdp.next_state[i, :, 0], :known]
        np.testing.assert_allclose(ours, states[i]["Q"], rtol=0, atol=1e-9, err_msg=f"state {i}")


@pytest.mark.parametrize("scale", ["per-value", "sum"])
@pytest.mark.parametrize("count", [3, 30])
def test_aup_penalties_are_those_of_the_program_of_turner_et_al(turner, scale, count):
    mdp, states, rewards, _ = turner
    key = {"per-value": "P_per", "sum": "P_sum"}[scale] + ("_30" if count == 30 else "")
    impact = preset("turner2019-model-free", scale=scale, utilities=rewards[:, :count]).fit(mdp)
    assert impact.mdp is mdp  # one no-op from the state just left needs no memory
    expected = [states[i][key] for i in live(mdp)]
    np.testing.assert_allclose(impact.unit_penalty[live(mdp), :, 0], expected, rtol=0, atol=1e-9)


PLANS = {  # name there: preset, overrides
    "AUP": ("turner2019-plan", {}),
    "Starting state": ("turner2019-plan-start", {}),
    "Inaction": ("turner2019-plan-inaction", {}),
    "Decrease": ("turner2019-plan-decrease", {}),
    "AUP sum scale": ("turner2019-plan", {"scale": "sum"}),
}


@pytest.mark.parametrize("count", [3, 30])
@pytest.mark.parametrize("agent", PLANS)
def test_plans_are_those_of_the_program_of_turner_et_al(turner, agent, count):
    mdp, _, rewards, plans = turner
    assert len(plans) == 2 * len(PLANS)
    expected = plans[f"{agent} K={count}"]
    name, settings = PLANS[agent]
    penalty = preset(name, utilities=rewards[:, :count], **settings)
    best = solve(mdp, penalty, discount=0.996, horizon=9)
    assert best.actions() == expected["actions"]
    assert best.value == pytest.approx(expected["planned_return"], rel=0, abs=1e-10)


def test_a_plan_that_compared_best_actions_on_both_sides_would_not_be_that_of_the_program(turner):
    mdp, _, rewards, plans = turner  # difference 3 of the specification: its stepwise baseline goes on doing nothing
    penalty = preset("turner2019-plan", utilities=rewards, attainable="arrival")
    value = solve(mdp, penalty, discount=0.996, horizon=9).value
    assert abs(value - plans["AUP K=30"]["planned_return"]) > 1e-4
