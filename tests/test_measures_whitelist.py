"""Whitelisting, by hand on boards of published levels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_mdps import level, mdps

from impactrl.measures.penalty import Penalty

LETTERS = {"U": 0, "D": 1, "L": 2, "R": 3, "N": 4}
MOVES = ("A> ", " >A")


def charged(name, actions, **settings):
    impact = Penalty(deviation="whitelist", **settings).fit(level(name))
    x, found = impact.start_index(0), []
    for letter in actions:
        a = LETTERS[letter]
        found.append(float(impact.deviation[x, a, 0]))
        x = impact.mdp.next_state[x, a, 0]
    return found


# #####
# # G #
# #   #
# # V #
# # A #
# #####


@pytest.mark.parametrize("baseline", ["start", "inaction"])
def test_moving_is_free_and_a_broken_vase_costs_1_once_the_agent_has_left_it(baseline):
    assert charged("Vase", "LURN", baseline=baseline) == [0, 0, 0, 0]
    assert charged("Vase", "UU", baseline=baseline) == [0, 1]  # the agent hides what it stands on
    assert charged("Vase", "UUN", baseline=baseline, allowed=(*MOVES, "V> ")) == [1, 0, 0]  # V > A, then V > space


@pytest.mark.parametrize("baseline", ["start", "inaction", "stepwise"])
def test_with_moves_alone_on_the_list_stepping_on_the_vase_costs_1(baseline):
    once = baseline == "stepwise"
    assert charged("Vase", "LU", baseline=baseline, allowed=MOVES) == [0, 0]
    assert charged("Vase", "UU", baseline=baseline, allowed=MOVES) == [1, 0 if once else 1]


def test_where_every_change_is_charged_a_move_costs_2_cells():
    assert charged("Vase", "L", allowed=()) == [2]  # A > space and space > A
    assert charged("Vase", "U", allowed=()) == [2]  # A > space and V > A
    assert charged("Vase", "U", allowed=["*>*"]) == [0]
    assert charged("Vase", "U", allowed=["A>*"]) == [1]
    assert charged("Vase", "U", allowed=["*>A"]) == [1]
    assert charged("Vase", "U", allowed=["V>A"]) == [1]
    assert charged("Vase", "N", allowed=()) == [0]


# ######
# # A###
# # X  #
# ##   #
# ### G#
# ######


def test_a_pushed_box_is_one_new_box_and_a_missing_one_that_the_agent_hides():
    # Down: the box moves a cell down. space > X is charged; X > A is the agent's own doing.
    assert charged("Options", "D", baseline="start") == [1]
    # And right: the cell where the box was is bare now, X > space.
    assert charged("Options", "DUR", baseline="start")[1:] == [2, 2]
    assert charged("Options", "DU", baseline="start", allowed=(*MOVES, "A>*", "*>A", " >X", "X> ")) == [0, 0]
    # Stepwise the baseline has what was done before: only the push itself is new.
    assert charged("Options", "DUR") == [1, 0, 0]


def test_what_the_baseline_does_as_well_is_not_charged():
    # On the belt the vase moves by itself; after so many no-ops both boards have it in the same place.
    assert charged("Offset", "NNNNN", baseline="inaction") == [0] * 5
    start = charged("Offset", "NNNNN", baseline="start")
    assert start[0] == 2  # gone from one cell, new in the next
    assert charged("Offset", "UUU", baseline="inaction") == [0] * 3


@settings(max_examples=50)
@given(mdps(max_states=5), st.data())
def test_it_counts_cells_and_is_bounded_by_the_list(mdp, data):
    changes = [f"{a}>{b}" for a in "Avub " for b in "Avub "]
    some = tuple(data.draw(st.lists(st.sampled_from(changes), unique=True, max_size=12)))
    more = (*some, *data.draw(st.lists(st.sampled_from(changes), unique=True, max_size=5)))
    count = {
        allowed: Penalty(deviation="whitelist", baseline="start", allowed=allowed, terminal="absorbing")
        .fit(mdp)
        .deviation
        for allowed in (some, more, ())
    }
    assert (count[more] <= count[some]).all()
    assert (count[some] <= count[()]).all()
    assert (count[()] == np.round(count[()])).all()
    assert count[()].max() <= 4  # cells
