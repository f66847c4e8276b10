"""What a deep agent sees of a level, and what a learned impact takes for one state."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from deep_cases import corridor, random_task, ring_with_a_drop
from random_mdps import RuleWorld, level

from impactrl.agents.deep.level import identities, level_of, pictures
from impactrl.agents.dqn import DQN
from impactrl.compile import compile_mdp
from impactrl.measures.impact import Impact
from impactrl.measures.penalty import Penalty
from impactrl.world import Outcome

PLANES, STATE = DQN(), DQN(observation="state")
CNN = DQN(network="cnn")
INACTION = Penalty(baseline="inaction")


def two_cells(**settings: Any) -> RuleWorld:
    """Boards "A.", ".A" and "AA" of states 0, 1 and 2; the second cell of 0 and 2 differs. All go on to the next."""
    rules = {(s, a): [Outcome((s + a) % 3)] for s in range(3) for a in range(2)}
    return RuleWorld(rules=rules, first=[(1.0, 0)], boards={0: "A.x", 1: ".Ax", 2: "AAx"}, **settings)


def test_planes_say_where_each_character_is() -> None:
    shown = pictures(Penalty(deviation="none").fit(compile_mdp(two_cells())), CNN)
    assert shown.shape == (3, 3, 1, 3)  # characters ".", "A" and "x"
    assert shown.dtype == np.float32
    assert shown[:, 0, 0].tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]
    assert shown[:, 1, 0].tolist() == [[1, 0, 0], [0, 1, 0], [1, 1, 0]]
    assert shown[:, 2, 0].tolist() == [[0, 0, 1]] * 3


def test_an_mlp_leaves_out_what_never_changes() -> None:
    """Of nine numbers the third column is the same in all states."""
    shown = pictures(Penalty(deviation="none").fit(compile_mdp(two_cells())), PLANES)
    assert shown.tolist() == [[0, 1, 1, 0], [1, 0, 0, 1], [0, 0, 1, 1]]


def test_a_world_that_never_changes_shows_one_number() -> None:
    world = RuleWorld(rules={(0, 0): [Outcome(0)], (0, 1): [Outcome(0)]}, first=[(1.0, 0)])
    assert pictures(Penalty(deviation="none").fit(compile_mdp(world)), PLANES).shape == (1, 1)


def test_states_are_one_hot() -> None:
    impact = Penalty(terminal="absorbing").fit(corridor())
    assert pictures(impact, STATE).tolist() == np.eye(4).tolist()


@pytest.fixture(scope="module")
def inaction() -> Impact:
    """Pairs of state and memory: the baseline goes its own way in a world that moves by itself."""
    rules = {(s, a): [Outcome(t)] for s, row in enumerate([(1, 2), (2, 2), (0, 1)]) for a, t in enumerate(row)}
    world = RuleWorld(rules=rules, first=[(1.0, 0)], boards={0: "A..", 1: ".A.", 2: "..A"})
    impact = INACTION.fit(compile_mdp(world))
    assert impact.mdp.num_states > 3
    return impact


@pytest.mark.parametrize("settings", [PLANES, CNN, STATE])
def test_pairs_with_other_memories_look_different(inaction: Impact, settings: DQN) -> None:
    shown = pictures(inaction, settings).reshape(inaction.mdp.num_states, -1)
    assert len(np.unique(shown, axis=0)) == inaction.mdp.num_states
    alone = pictures(inaction, replace(settings, memory="state")).reshape(inaction.mdp.num_states, -1)
    for s in range(3):
        assert len(np.unique(alone[inaction.state == s], axis=0)) == 1
    assert len(np.unique(alone, axis=0)) == 3


def test_a_remembered_state_is_shown_as_its_board(inaction: Impact) -> None:
    shown = pictures(inaction, CNN)
    state, memory = shown[:, :2], shown[:, 2:]
    assert memory.shape == state.shape
    for x in range(inaction.mdp.num_states):
        remembered = inaction.mdp.states[x].baseline
        np.testing.assert_array_equal(memory[x], state[inaction.state == remembered][0])


def test_a_learned_impact_sees_the_state_alone() -> None:
    """Under the terminal rule "previous" the product remembers where the last step came from."""
    impact = Penalty(terminal="previous").fit(corridor())
    assert impact.state.tolist() == [0, 1, 2, 2, 3]
    learned = replace(STATE, impact="learned")
    assert pictures(impact, STATE).tolist() == np.eye(5).tolist()
    assert pictures(impact, learned).tolist() == np.eye(4)[impact.state].tolist()
    assert identities(impact, learned).tolist() == impact.state.tolist()
    # As boards: the memories 1 and 2 of the state 2, and nothing elsewhere.
    planes = pictures(impact, CNN)
    assert [set(np.unique(plane[4:])) for plane in planes] == [{0}, {0}, {0, 1}, {0, 1}, {0}]
    assert planes[2, 4:].tolist() == planes[1, :4].tolist()
    assert planes[3, 4:].tolist() == planes[2, :4].tolist()


def test_steps_that_are_left_of_a_plan_are_seen() -> None:
    """A pair knows them, and what it will be charged depends on them."""
    impact = Penalty(rollout="end", horizon=3).fit(ring_with_a_drop())
    to_go = np.array([pair.to_go for pair in impact.mdp.states])
    assert set(to_go) == {0, 1, 2, 3}
    shown = pictures(impact, CNN)
    assert len(np.unique(shown.reshape(len(to_go), -1), axis=0)) == impact.mdp.num_states
    np.testing.assert_allclose(shown[:, -1, 0, 0], to_go / 3, rtol=1e-6)
    hidden = pictures(impact, replace(CNN, memory="state"))
    assert hidden.shape[1] == 5  # the characters 0 to 4


def test_states_that_look_alike_are_one() -> None:
    world = RuleWorld(
        rules={(s, a): [Outcome((s + a) % 3)] for s in range(3) for a in range(2)},
        first=[(1.0, 0)],
        boards={0: "A.", 1: ".A", 2: "A."},
    )
    impact = Penalty(deviation="none").fit(compile_mdp(world))
    first, second, third = identities(impact, PLANES).tolist()
    assert first == third != second
    assert len(set(identities(impact, STATE).tolist())) == 3


def test_bookkeeping_makes_no_other_state_of_a_measure() -> None:
    """In the conveyor level states carry whether the vase was rescued once, which no measure sees."""
    mdp = level("ConveyorVase")
    impact = Penalty(deviation="none").fit(mdp)
    numbers = identities(impact, STATE)
    assert numbers.tolist() == mdp.situation.tolist()
    assert numbers.max() + 1 < mdp.num_states
    boards = identities(impact, PLANES)
    assert (boards[:, None] == boards).tolist() == (numbers[:, None] == numbers).tolist()


def test_the_arrays_are_those_of_the_task() -> None:
    mdp = random_task(3)
    impact = Penalty(terminal="absorbing").fit(mdp)
    arrays = level_of(impact, STATE)
    np.testing.assert_array_equal(arrays.next_state, mdp.next_state)
    np.testing.assert_allclose(np.diff(arrays.cumulative, axis=2, prepend=0), mdp.probability, atol=1e-6)
    np.testing.assert_allclose(np.diff(arrays.cumulative_start, prepend=0), mdp.start, atol=1e-6)
    np.testing.assert_array_equal(arrays.columns[..., 0], mdp.reward)
    np.testing.assert_array_equal(arrays.columns[..., 1], mdp.performance)
    np.testing.assert_array_equal(arrays.columns[..., 2], mdp.side_effect)
    np.testing.assert_array_equal(arrays.terminal, mdp.terminal)
    np.testing.assert_array_equal(arrays.completed, mdp.completed)
    assert int(arrays.time_limit) == mdp.time_limit
