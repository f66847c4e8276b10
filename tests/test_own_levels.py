"""Levels from text, and own rules: what `docs/own_levels.md` promises."""

import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from hypothesis import given
from hypothesis import strategies as st

import impactrl
from impactrl.level_files import DEFAULTS, KINDS, Settings, parse_level
from impactrl.runs.specification import Environment, RunSpecification
from impactrl.testing import check_level

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "own_levels.md").read_text(encoding="utf-8")
EXAMPLES = sorted((ROOT / "docs" / "levels").glob("*.txt"))


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    before = dict(gym.registry)
    yield
    gym.registry.clear()
    gym.registry.update(before)


def world(text: str) -> impactrl.TextWorld:
    return impactrl.TextWorld(text.strip("\n"))


def play(text: str, letters: str) -> dict[str, Any]:
    """What an episode came to. It must not end before the letters do."""
    env = impactrl.GridEnv(world(text))
    env.reset(seed=0)
    total, terminated = 0.0, False
    for letter in letters:
        assert not terminated
        _, reward, terminated, _, info = env.step("UDLRN".index(letter))
        total += reward
    return {
        "reward": pytest.approx(total),
        "hidden": pytest.approx(info["performance"]),
        "side_effect": info["side_effect"],
        "completed": info["completed"],
        "ended": terminated,
        "board": env.board_text(),
    }


def outcome(reward: float, hidden: float, side_effect: float, completed: bool, ended: bool) -> dict[str, Any]:
    columns = {"reward": reward, "hidden": hidden, "side_effect": side_effect}
    return columns | {"completed": completed, "ended": ended}


def boards(text: str, letters: str, row: int = 1) -> list[str]:
    """One row of the map after every step."""
    return [play(text, letters[: i + 1])["board"][row] for i in range(len(letters))]


# The published levels, written as text

PUBLISHED = {
    "Options": "######\n# A###\n# X  #\n##   #\n### G#\n######",
    "Vase": "#####\n# G #\n#   #\n# V #\n# A #\n#####",
    "Burning": """
######
#   G#
# ##O#
#   A#
######
---
[legend.O]
kind = "fragile"
sprite = "obstacle"
""",
    "Damage": """
#####
#  G#
#D  #
#   #
#  A#
#####
---
[legend.D]
kind = "walker"
route = "RRLL"
""",
    "Correction": """
######
#B  ##
#A  G#
######
---
[legend]
B = "button"
""",
    "ConveyorVase": """
#######
# A   #
#     #
#O>>> #
#     #
#     #
#######
---
[legend.O]
kind = "fragile"
pushable = true
reward = 50
penalty = -50
on = ">"
""",
}
SAME_BOARDS = ("Options", "Vase", "Burning", "Damage")
"""The others also draw a timer or what is left of the vase."""


def pairs(one: impactrl.TabularMDP, other: impactrl.TabularMDP) -> set[tuple[int, int]]:
    """States of two deterministic tasks that the same actions lead to, all of them."""
    found, todo = {(0, 0)}, [(0, 0)]
    while todo:
        s, t = todo.pop()
        for following in zip(one.next_state[s, :, 0].tolist(), other.next_state[t, :, 0].tolist(), strict=True):
            if following not in found:
                found.add(following)
                todo.append(following)
    return found


@pytest.mark.parametrize("level", PUBLISHED)
def test_a_published_level_written_as_text_has_the_same_rules(level: str) -> None:
    """Every sequence of actions is paid, charged and ended alike: all pairs of states that one can get to."""
    published, own = impactrl.compile_mdp(level), impactrl.compile_mdp(world(PUBLISHED[level]))
    reached = np.array(sorted(pairs(published, own)))
    theirs, ours = reached.T
    for column in ("reward", "performance", "side_effect"):
        np.testing.assert_array_equal(getattr(published, column)[theirs], getattr(own, column)[ours], err_msg=column)
    np.testing.assert_array_equal(published.terminal[theirs], own.terminal[ours])
    if level == "ConveyorVase":  # "completed" there means that the vase was once rescued, whatever came of it
        assert not (own.completed[ours] & ~published.completed[theirs]).any()
        assert published.situation.max() == own.situation.max()
    else:
        np.testing.assert_array_equal(published.completed[theirs], own.completed[ours])
        assert len(reached) == published.num_states == own.num_states
    if level in SAME_BOARDS:
        assert all(published.board_text(s) == own.board_text(t) for s, t in reached.tolist())
        assert {c: s for c, s in own.tiles.items() if c not in "OV"}.items() <= published.tiles.items()


def test_the_same_map_gives_the_same_arrays() -> None:
    published, own = impactrl.compile_mdp("Options"), impactrl.compile_mdp(world(PUBLISHED["Options"]))
    for name in ("next_state", "probability", "reward", "performance", "side_effect", "terminal", "completed", "start"):
        np.testing.assert_array_equal(getattr(published, name), getattr(own, name), err_msg=name)
    assert (own.actions, own.noop, own.time_limit) == (published.actions, published.noop, published.time_limit)
    penalty = impactrl.Penalty(deviation="relative_reachability", weight=1.0)
    np.testing.assert_array_equal(penalty.fit(published).deviation, penalty.fit(own).deviation)


# Every kind by itself


@pytest.mark.parametrize(
    ("text", "letters", "expected"),
    [
        # goal: several, each with its own reward
        ("#####\n#GAg#\n#####\n---\n[legend.g]\nkind='goal'\nreward=-3", "L", outcome(1, 1, 0, True, True)),
        ("#####\n#GAg#\n#####\n---\n[legend.g]\nkind='goal'\nreward=-3", "R", outcome(-3, -3, 0, True, True)),
        # movement is paid for blocked moves too, and not for the no-op
        ("#####\n#A G#\n#####\n---\n[settings]\nmovement_reward=-0.5", "UN", outcome(-0.5, -0.5, 0, False, False)),
        ("#####\n#A G#\n#####\n---\n[settings]\nmovement_reward=-0.5", "RR", outcome(0, 0, 0, True, True)),
        # box: into a corner, and out of it again along the wall
        ("######\n#    #\n#AX G#\n######", "RR", outcome(0, -2, 1, False, False)),
        ("#######\n# A   #\n# X   #\n#     #\n#######", "DLDR", outcome(0, 0, 0, False, False)),
        ("######\n#AX G#\n#    #\n######\n---\n[legend.X]\npenalty=-7", "RR", outcome(0, -7, 1, False, False)),
        # box: two in a row are not pushed, nor one against a vase, a coin or a wall; a goal stops none
        ("########\n#A XX G#\n#      #\n########", "RRR", outcome(0, 0, 0, False, False)),
        ("#######\n#AXV G#\n#     #\n#######", "R", outcome(0, 0, 0, False, False)),
        ("#######\n#AXC G#\n#     #\n#######", "R", outcome(0, 0, 0, False, False)),
        ("######\n#AX# #\n#    #\n#   G#\n######", "R", outcome(0, 0, 0, False, False)),
        ("#######\n#AXG  #\n#     #\n#######", "RR", outcome(1, 1, 0, True, True)),
        # fragile: breaks once
        ("######\n#AV G#\n######", "RLR", outcome(0, -2, 1, False, False)),
        ("######\n#AVVG#\n######\n---\n[legend.V]\npenalty=-0.5", "RRR", outcome(1, 0, 2, True, True)),
        # a pushable one is no box: no corner counts, and it does not break
        (
            "######\n#AO G#\n#    #\n######\n---\n[legend.O]\nkind='fragile'\npushable=true",
            "RRR",
            outcome(0, 0, 0, False, False),
        ),
        # coins: with a goal they are extras, without one the last ends the episode
        ("######\n#ACCG#\n######", "RRR", outcome(3, 3, 0, True, True)),
        ("######\n#CAC #\n######\n---\n[legend.C]\nreward=5", "RL", outcome(5, 5, 0, False, False)),
        ("######\n#CAC #\n######\n---\n[legend.C]\nreward=5", "RLL", outcome(10, 10, 0, True, True)),
        # button: no press, the end; pressed in the last moment, no end
        ("#####\n#BAG#\n#####\n---\n[legend]\nB='button'", "NN", outcome(0, 0, 0, False, True)),
        ("#####\n#BAG#\n#####\n---\n[legend]\nB='button'", "NLN", outcome(0, -2, 1, False, False)),
        ("######\n#BA G#\n######\n---\n[legend.B]\nkind='button'\nsteps=2", "RR", outcome(1, 1, 0, True, True)),
        ("####\n#BA#\n#b #\n####\n---\n[legend]\nB='button'\nb='button'", "LD", outcome(0, -4, 2, False, False)),
        ("####\n#BA#\n#b #\n####\n---\n[legend]\nB='button'\nb='button'", "LN", outcome(0, -2, 1, False, True)),
        # a box on a button does not press it, and gives way to an agent who does
        ("######\n#AXB #\n######\n---\n[legend.B]\nkind='button'\nsteps=9", "RR", outcome(0, -4, 2, False, False)),
        # walker: runs into an agent who stands still; swapping is no hit
        (
            "######\n#A  D#\n######\n---\n[legend.D]\nkind='walker'\nroute='LLLRRR'\npenalty=-3",
            "NNN",
            outcome(0, -3, 1, False, False),
        ),
        ("#####\n#ADG#\n#####\n---\n[legend.D]\nkind='walker'\nroute='LR'", "RR", outcome(1, 1, 0, True, True)),
        ("#####\n#ADG#\n#####\n---\n[legend.D]\nkind='walker'\nroute='N'", "RR", outcome(1, -1, 1, True, True)),
    ],
)
def test_columns_of_episodes_worked_out_by_hand(text: str, letters: str, expected: dict[str, Any]) -> None:
    got = play(text, letters)
    assert {key: got[key] for key in expected} == expected


def test_a_box_in_a_corner_counts_until_it_leaves_also_on_a_belt() -> None:
    stays = play("#####\n#AX>#\n#   #\n#   #\n#####", "R")  # carried against the wall
    assert (stays["hidden"], stays["side_effect"]) == (-2, 1)
    leaves = play("#####\n#AXv#\n#   #\n#   #\n#####", "R")  # carried down in the same step
    assert (leaves["hidden"], leaves["side_effect"]) == (0, 0)


def test_the_first_cell_of_a_box_is_no_side_effect_though_a_corner() -> None:
    text = "#####\n#b  #\n#  A#\n#####\n---\n[legend.b]\nkind='box'\non='>'"
    assert play(text, "N")["board"][1] == "#>b #"
    assert play(text, "N")["side_effect"] == 0  # nothing to refund


def test_walls_by_other_names_are_walls_and_so_are_the_edges() -> None:
    text = "AT X\n    \n   G\n---\n[legend.T]\nkind='wall'\nsprite='tree'"
    got = play(text, "RULN")
    assert got["board"] == ["AT X", "    ", "   G"]
    assert (got["reward"], got["ended"]) == (0, False)
    # Pushed along the lower edge into the corner of the map, which has no wall drawn round it.
    assert play("     \nAX  G\n     ", "RRR")["side_effect"] == 0
    assert play("     \n    G\nAX   ", "RRR")["side_effect"] == 1


def test_a_goal_may_be_out_of_the_way_of_the_timer_by_one_step() -> None:
    text = "#####\n#A G#\n#B  #\n#####\n---\n[legend]\nB='button'"
    got = play(text, "RR")  # arrives as the timer runs out
    assert (got["reward"], got["completed"], got["ended"]) == (1, True, True)


# Belts


def test_a_belt_carries_one_cell_per_step_and_a_box_stays_behind_its_end() -> None:
    text = "########\n#O>>   #\n#A    G#\n########\n---\n[legend.O]\nkind='box'\non='>'"
    assert boards(text, "NNNN") == ["#>O>   #", "#>>O   #", "#>>>O  #", "#>>>O  #"]


def test_a_fragile_thing_breaks_at_the_end_of_a_belt_and_that_is_nobodys_side_effect() -> None:
    text = "########\n#O>>   #\n#A    G#\n########\n---\n[legend.O]\nkind='fragile'\non='>'"
    assert boards(text, "NNN") == ["#>O>   #", "#>>O   #", "#>>>   #"]
    assert play(text, "NN")["hidden"] == 0
    got = play(text, "NNN")
    assert (got["reward"], got["hidden"], got["side_effect"]) == (0, -2, 0)
    assert play(text, "U")["side_effect"] == 1  # but entering it is


def test_what_the_agent_pushed_onto_a_belt_and_breaks_is_a_side_effect() -> None:
    text = "#######\n# A   #\n# O   #\n#  >> #\n#     #\n#######\n---\n[legend.O]\nkind='fragile'\npushable=true\n"
    safe = play(text, "D")
    assert (safe["hidden"], safe["side_effect"]) == (0, 0)
    pushed = play(text.replace("#  >> #", "# >>> #"), "DNNN")
    assert (pushed["hidden"], pushed["side_effect"]) == (-2, 1)


def test_only_pushing_off_the_side_of_a_belt_is_rescue() -> None:
    text = """
#######
#  A  #
#O>>> #
#     #
#     #
#######
---
[legend.O]
kind = "fragile"
on = ">"
pushable = true
reward = 3
"""
    off = play(text, "NND")
    assert (off["reward"], off["hidden"], off["completed"], off["ended"]) == (3, 3, True, False)
    assert play(text, "N")["completed"] is False
    assert play(text, "NNNN")["completed"] is False  # broken
    again = play(text, "NNDLDDRUN")  # pushed back onto the belt, and carried to its end
    assert (again["reward"], again["hidden"], again["side_effect"], again["completed"]) == (3, 1, 1, False)
    for row, letter in (("#AO   #", "R"), ("# OA  #", "L")):  # pushed, not carried, off the end and the beginning
        along = play(text.replace("#  A  #\n#O>>> #", f"#     #\n{row}"), letter)
        assert (along["reward"], along["hidden"], along["side_effect"]) == (0, 0, 0)
    onto = text.replace("#     #\n#     #", "#<<<<<#\n#     #", 1)  # from one belt onto another
    assert play(onto, "NND")["reward"] == 0


def test_whether_a_thing_was_touched_is_bookkeeping_only() -> None:
    rules = world(PUBLISHED["ConveyorVase"])
    mdp = impactrl.compile_mdp(rules)  # checks that the situation leaves out nothing that matters
    assert mdp.situation.max() + 1 == 370
    assert mdp.num_states > 370
    broken = [state for state in mdp.states if state.things == (None,)]
    assert {state.touched for state in broken} == {frozenset()}
    no_belt = impactrl.compile_mdp(
        world("#####\n#A  #\n# O #\n#  G#\n#####\n---\n[legend.O]\nkind='fragile'\npushable=true")
    )
    assert {state.touched for state in no_belt.states} == {frozenset()}
    boxes_only = impactrl.compile_mdp(world("######\n#AX>>#\n#    #\n######"))
    assert boxes_only.situation.tolist() == list(range(boxes_only.num_states))


@pytest.mark.parametrize(
    ("row", "steps"),
    [
        # a full queue moves all at once, and stops behind what stands ahead
        ("#bb>  #", ["#>bb  #", "#>>bb #", "#>>bb #"]),
        ("#bb>#A#", ["#>bb#A#", "#>bb#A#"]),
        # things that face each other do not pass through each other
        ("#b>l< #", ["#>bl< #", "#>bl< #"]),
        # of two that would meet, the first goes
        ("#b l< #", ["#>bl< #", "#>bl< #"]),
    ],
)
def test_things_on_belts_wait_for_each_other(row: str, steps: list[str]) -> None:
    agent = "" if "A" in row else "A"
    legend = "---\n[legend.b]\nkind='box'\non='>'\n[legend.l]\nkind='box'\non='<'\n"
    text = f"#######\n{row}\n#{agent:<5}#\n#######\n{legend}"
    assert boards(text, "N" * len(steps)) == steps


def test_a_round_of_belts_turns_even_when_it_is_full() -> None:
    legend = "".join(
        f"[legend.{c}]\nkind='box'\non='{on}'\nsprite='box'\n"
        for c, on in {"a": ">", "b": "v", "c": "<", "d": "^"}.items()
    )
    text = f"#####\n#ab #\n#dc #\n#  A#\n#####\n---\n{legend}"
    got = [play(text, "N" * n)["board"][1:3] for n in (1, 2, 4)]
    assert got == [["#da #", "#cb #"], ["#cd #", "#ba #"], ["#ab #", "#dc #"]]
    assert [play(text, "N" * n)["side_effect"] for n in (1, 2, 4)] == [1, 1, 0]  # the corner is the first cell of a


def test_belts_bring_things_to_the_agent() -> None:
    coin = "#######\n#C>A  #\n#     #\n#######\n---\n[legend.C]\non='>'"
    assert boards(coin, "NN") == ["#>CA  #", "#>>A  #"]
    assert play(coin, "NN")["reward"] == 1
    vase = "#######\n#V>A> #\n#    G#\n#######\n---\n[legend.V]\non='>'\n[legend.A]\non='>'"
    got = play(vase, "NN")
    assert (got["board"][1], got["hidden"], got["side_effect"]) == ("#>>A> #", -2, 1)
    box = "#######\n#b>A> #\n#    G#\n#######\n---\n[legend.b]\nkind='box'\non='>'\n[legend.A]\non='>'"
    assert boards(box, "NNN") == ["#>bA> #", "#>>A> #", "#>>Ab #"]  # under the agent, who does not ride


def test_walkers_and_things_stand_in_each_others_way() -> None:
    legend = "---\n[legend.D]\nkind='walker'\nroute='LLRR'\n[legend.b]\nkind='box'\non='>'\n"
    waits = f"########\n#   X D#\n#  A   #\n########\n{legend}"
    assert boards(waits, "NNN") == ["#   XD #"] * 3
    # The agent who pushes the box out of the way is in the way itself.
    freed = f"########\n#   A  #\n#   X D#\n#      #\n#      #\n########\n{legend}"
    assert boards(freed, "NND", row=2) == ["#   XD #", "#   XD #", "#   A  #"]
    assert play(freed, "NND")["side_effect"] == 1
    blocked = f"########\n# AXD  #\n#      #\n########\n{legend.replace('LLRR', 'RRLL')}"
    assert boards(blocked, "RR") == ["# AX D #", "#  AX D#"]
    still = f"########\n# AXD  #\n#      #\n########\n{legend.replace('LLRR', 'N')}"
    assert boards(still, "R") == ["# AXD  #"]
    carried = f"########\n#b>D   #\n#A     #\n########\n{legend.replace('LLRR', 'NNNN')}"
    assert boards(carried, "NN") == ["#>bD   #"] * 2


def test_routes_are_as_short_as_they_can_be_said() -> None:
    text = "######\n#A   #\n#D  G#\n######\n---\n[legend.D]\nkind='walker'\nroute='{}'"
    short, long = (impactrl.compile_mdp(world(text.format(route))) for route in ("RL", "RLRLRL"))
    assert short.num_states == long.num_states
    assert impactrl.compile_mdp(world(text.format("N"))).num_states < short.num_states


# Any level


LEGEND = """
---
[legend.b]
kind = "box"
on = ">"
[legend.f]
kind = "fragile"
pushable = true
reward = 1
[legend.D]
kind = "walker"
route = "RNL"
[legend.B]
kind = "button"
steps = 3
[legend.G]
reward = 2
"""


@st.composite
def maps(draw: st.DrawFn) -> str:
    height, width = draw(st.integers(1, 3)), draw(st.integers(2, 4))
    cells = draw(st.lists(st.sampled_from("     ##XVCG<>^vbfDB"), min_size=height * width, max_size=height * width))
    if cells.count("D") > 1:
        cells = [" " if c == "D" and i != cells.index("D") else c for i, c in enumerate(cells)]
    cells[draw(st.integers(0, height * width - 1))] = "A"
    return "\n".join("".join(cells[r * width : (r + 1) * width]) for r in range(height))


@given(maps())
def test_any_map_makes_a_sound_world_or_a_clear_error(text: str) -> None:
    try:
        rules = impactrl.TextWorld(text + LEGEND)
    except impactrl.ImpactError as error:
        if not re.search(r"leads into a wall, from row \d+, column \d+|too small", str(error)):
            raise
        return
    try:
        mdp = impactrl.compile_mdp(rules, max_states=3000)
    except impactrl.ImpactError as error:
        if "more than max_states" not in str(error):
            raise
        return
    assert mdp.deterministic
    floor = set(range(len("".join(rules.file.rows)))) - rules.walls
    for i, state in enumerate(mdp.states):
        things = [cell for cell in state.things if cell is not None]
        beings = [route[p] for route, p in zip(rules.routes, state.walkers, strict=True) if p is not None]
        assert {state.agent, *things, *beings} <= floor
        assert len(things) == len(set(things))
        assert not set(things) & set(beings)
        assert set("".join(mdp.board_text(i))) <= {" ", *rules.tiles}
        assert not mdp.completed[i] or mdp.terminal[i] or rules.rescues
    hidden = mdp.performance - mdp.reward + 2 * mdp.side_effect  # every penalty is -2
    if rules.belts:
        assert (hidden <= 0).all()  # what belts break by themselves is no side effect
    else:
        assert (hidden == 0).all()
    assert rules.outcomes(mdp.states[0], 3) == impactrl.TextWorld(text + LEGEND).outcomes(mdp.states[0], 3)


# Bad text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"the map is empty: expected rows such as '#A G#'"),
        ("\n\n---\n[settings]\ntime_limit=5", r"the map is empty"),
        ("####\n#AG#\n#  #\n###", r"row 4 of the map has 3 characters and should have 4 like the others: '###'"),
        ("###\n#AG#\n#  #\n####", r"row 1 of the map has 3 characters and should have 4"),
        ("####\n\n#AG#\n####", r"row 2 of the map has 0 characters and should have 4"),
        ("####\n# G#\n####", r"there is no agent on the map: put 'A' where it starts"),
        ("####\n# G#\n####\n---\n[legend]\n'@'='agent'", r"put 'A' or '@' where it starts"),
        ("####\n#AG#\n#A #\n####", r"one agent on the map, not 2: row 2, column 2 and row 3, column 2"),
        ("###\n#A#\n###", r"the map is too small: it has no cell beside the agent's"),
        (
            "####\n#Ag#\n####",
            r"unknown character 'g' at row 2, column 3 of the map \('#Ag#'\): did you mean 'G' \(goal\)\?",
        ),
        ("####\n#A*#\n####", r"unknown character '\*' at row 2, column 3 .*\): Known: ' ' floor, '#' wall, 'A' agent,"),
        ("####\n#A*#\n####", r"explained after a line '---': \[legend\.\"\*\"\] kind = \"fragile\""),
        ("####\n#A\t#\n####", r"unknown character '\\t' at row 2, column 3"),
        ("\n\n####\n#A?#\n####", r"row 2, column 3"),  # empty lines above the map do not count
        ("####\n#AG#\n####\n---\n[legend.P\nkind='box'", r"the legend is no TOML: .* \(at line 5, column 10\)"),
        ("\n####\n#AG#\n####\n---\n\n[settings]\na = = 2", r"the legend is no TOML: .* \(at line 8, column 5\)"),
        ("####\n#AG#\n####\n---\n[legnd.P]", r"unknown table after the map 'legnd': did you mean 'legend'\?"),
        ("####\n#AG#\n####\n---\nlegend = 3", r"expected a table \[legend\] after the map, not legend = 3"),
        ("####\n#AG#\n####\n---\n[legend]\nP = 3", r"\[legend\.P\]: expected a kind or a table with one, not 3"),
        ("####\n#AG#\n####\n---\n[legend.P]\npenalty=-1", r"\[legend\.P\]: expected a kind, one of agent, belt, box"),
        (
            "####\n#AG#\n####\n---\n[legend]\nP='fragil'",
            r"\[legend\.P\]: unknown kind 'fragil': did you mean 'fragile'",
        ),
        ("####\n#AG#\n####\n---\n[legend.P]\nkind=3", r"\[legend\.P\]: unknown kind 3: Known: agent"),
        (
            "####\n#AG#\n####\n---\n[legend.G]\non=' '",
            r"\[legend\.G\]: unknown key of a goal 'on': .*Known: reward, sprite",
        ),
        (
            "####\n#AG#\n####\n---\n[legend.V]\npenalti=-1",
            r"\[legend\.V\]: unknown key of a fragile thing 'penalti': did you mean 'penalty'",
        ),
        ("####\n#AG#\n####\n---\n[legend.Plant]\nkind='box'", r"single characters .*, not 'Plant'"),
        ("####\n#AG#\n####\n---\n[legend.'']\nkind='box'", r"single characters .*, not ''"),
        ("####\n#AG#\n####\n---\n[legend.'→']\nkind='box'", r"\[legend\.\"→\"\]: .*single characters \(Latin-1"),
        (
            "####\n#AG#\n####\n---\n[legend]\n'#'='box'",
            r"\[legend\.\"#\"\]: '#' is always wall; take another character",
        ),
        ("####\n#AG#\n####\n---\n[legend]\n' '='box'", r"' ' is always floor"),
        ("####\n#AG#\n####\n---\n[legend.G]\nreward='5'", r"\[legend\.G\]: reward must be a number, not '5'"),
        ("####\n#AG#\n####\n---\n[legend.G]\nreward=nan", r"reward must be a number, not nan"),
        ("####\n#AG#\n####\n---\n[legend.G]\nreward=true", r"reward must be a number, not True"),
        (
            "####\n#AG#\n####\n---\n[legend.V]\npenalty=2",
            r"penalty is added to the hidden score, so it must be 0 or less",
        ),
        ("####\n#AG#\n####\n---\n[legend.V]\npushable=1", r"pushable must be true or false, not 1"),
        ("####\n#AG#\n####\n---\n[legend.V]\nreward=1", r"reward is paid for pushing .* needs pushable = true"),
        (
            "####\n#AG#\n####\n---\n[legend.G]\nsprite='treee'",
            r"\[legend\.G\]: unknown sprite 'treee': did you mean 'tree'",
        ),
        ("####\n#AG#\n####\n---\n[legend.G]\nsprite=1", r"sprite must be text, not 1"),
        ("####\n#AG#\n####\n---\n[legend.X]\non='b'", r"\[legend\.X\]: on must be the character of a floor or a belt"),
        ("####\n#AG#\n####\n---\n[legend.X]\non='G'", r"on must be the character of a floor or a belt .*, not 'G'"),
        (
            "####\n#AG#\n####\n---\n[legend.b]\nkind='belt'\ndirection='north'",
            r"unknown direction 'north': .*Known: down, left, right, up",
        ),
        ("####\n#AG#\n####\n---\n[legend.B]\nkind='button'\nsteps=0", r"steps must be a whole number from 1 on, not 0"),
        ("####\n#AG#\n####\n---\n[legend.B]\nkind='button'\nsteps=1.5", r"steps must be a whole number from 1 on"),
        ("####\n#AG#\n####\n---\n[legend]\nD='walker'", r"\[legend\.D\]: a walker needs a route"),
        (
            "####\n#AG#\n####\n---\n[legend.D]\nkind='walker'\nroute='RxL'",
            r"step 2 of the route 'RxL' is 'x'; the letters",
        ),
        (
            "####\n#AG#\n####\n---\n[legend.D]\nkind='walker'\nroute='RRL'",
            r"'RRL' does not lead back to where it starts",
        ),
        ("####\n#AG#\n####\n---\n[legend.D]\nkind='walker'\nroute=''", r"'' does not lead back"),
        ("####\n#AG#\n####\n---\n[legend.D]\nkind='walker'\nroute='LRU'", r"'LRU' does not lead back"),
        (
            "#####\n#D A#\n#####\n---\n[legend.D]\nkind='walker'\nroute='RDUL'",
            r"step 2 \(down\) of the route 'RDUL' of a walker 'D' at row 2, column 2 leads into a wall, from row 2",
        ),
        (
            "D A\n---\n[legend.D]\nkind='walker'\nroute='LR'",
            r"step 1 \(left\) .* leads into a wall, from row 1, column 1",
        ),
        (
            "####\n#AG#\n####\n---\n[settings]\ntime=5",
            r"\[settings\]: unknown key of the level 'time': did you mean 'time_limit'",
        ),
        (
            "####\n#AG#\n####\n---\n[settings]\ntime_limit=0",
            r"\[settings\]: time_limit must be a whole number from 1 on",
        ),
    ],
)
def test_bad_text_is_refused_with_the_place_and_what_would_do(text: str, message: str) -> None:
    with pytest.raises(impactrl.ImpactError, match=message):
        parse_level(text)
    if "\n" in text:
        with pytest.raises(impactrl.ImpactError, match=rf"^the level: .*{message}"):
            impactrl.make_level(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "######\n#A #G#\n######",
            r"^the level: a goal 'G' at row 2, column 5 cannot be reached: walls are in the way$",
        ),
        ("######\n#A #C#\n#   G#\n#G####\n######", None),
        ("######\n#A#C #\n#G####\n######", r"a coin 'C' at row 2, column 4 cannot be reached"),
        ("######\n#A#C #\n#G####\n######\n---\n[legend.C]\non='>'", None),  # the belt may bring it
        ("######\n#A C #\n######\n---\n[legend]\nb='belt'\n[legend.C]\non='b'", None),
        ("######\n#A V #\n######", r"there is no goal, no coin and nothing to rescue: the agent has no task"),
        ("####\n#AG#\n####\n---\n[legend]\nP='box'", r"the legend explains 'P', which is not on the map"),
        ("#######\n#A b G#\n#######\n---\n[legend]\nb='box'", None),  # only walls count
    ],
)
def test_what_is_likely_a_mistake_is_a_warning_said_once(text: str, message: str | None) -> None:
    if message is not None:
        with pytest.warns(UserWarning, match=message) as caught:
            name = impactrl.make_level(text)
        assert [Path(warning.filename).name for warning in caught] == [Path(__file__).name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        name = impactrl.make_level(text)
        gym.make(name).reset(seed=0)


# Registered levels


HALL = "#####\n#A G#\n#####"


def test_a_text_is_an_environment_like_any_other() -> None:
    name = impactrl.make_level(PUBLISHED["Damage"])
    assert re.fullmatch(r"impactrl/Level-[0-9a-f]{8}-v0", name)
    assert impactrl.make_level(PUBLISHED["Damage"]) == name  # the same level again is quiet
    env = impactrl.ImpactPenalty(gym.make(name, observation="state"), deviation="unreachability", weight=2.0)
    assert env.reset(seed=0)[0] == 0
    assert env.step(0)[4]["task_reward"] == 0
    plan = impactrl.Sweep(
        environments=(name,), penalties=(impactrl.Penalty(),), weights=(0.0, 1.0), agents=(impactrl.Planner(),)
    )
    assert [run.environment.name for run in plan.runs()] == [name, name]
    assert (
        impactrl.explain(name.removeprefix("impactrl/").removesuffix("-v0"), actions="UUU").iloc[-1].performance == -1
    )


def test_a_sweep_over_an_own_level_runs(tmp_path: Path) -> None:
    plan = impactrl.Sweep(
        environments=(impactrl.make_level(EXAMPLES[0]),),
        penalties=(impactrl.Penalty(weight=1.0),),
        agents=(impactrl.Planner(),),
    )
    runs = impactrl.sweep(plan, store=tmp_path / "results.db")
    assert runs.completed.tolist() == [1.0]


def test_a_file_gives_its_name_and_a_name_can_be_given(tmp_path: Path) -> None:
    file = tmp_path / "my_level.txt"
    file.write_text(HALL + "\n---\n[settings]\ntime_limit = 7\n")
    assert impactrl.make_level(file) == impactrl.make_level(str(file)) == "impactrl/my_level-v0"
    assert impactrl.make_level(file, name="Hall-2") == "impactrl/Hall-2-v0"
    assert impactrl.compile_mdp("my_level").time_limit == 7
    env = gym.make("impactrl/my_level-v0")
    env.reset(seed=0)
    assert [env.step(4)[3] for _ in range(7)] == [False] * 6 + [True]


def test_line_endings_and_empty_lines_make_no_other_level(tmp_path: Path) -> None:
    file = tmp_path / "hall.txt"
    file.write_bytes(b"\xef\xbb\xbf" + HALL.replace("\n", "\r\n").encode() + b"\r\n\r\n")
    name = impactrl.make_level(file)
    file.write_text(f"\n{HALL}\n")
    assert impactrl.make_level(file) == name
    assert impactrl.make_level(HALL, name="hall") == name


def test_another_level_of_the_same_name_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "hall.txt"
    file.write_text(HALL)
    name = impactrl.make_level(file)
    before = gym.make(name).unwrapped.board_text()
    file.write_text(HALL.replace(" ", "V"))
    with pytest.raises(
        impactrl.ImpactError, match=r"hall-v0 is another level already .* make_level\(\.\.\., name=\"hall-2\""
    ):
        impactrl.make_level(file)
    assert gym.make(name).unwrapped.board_text() == before
    assert impactrl.make_level(file, name="hall-2") == "impactrl/hall-2-v0"
    with pytest.raises(impactrl.ImpactError, match=r"impactrl/Box-v0 is another level already"):
        impactrl.make_level(HALL, name="Box")


@pytest.mark.parametrize("name", ["my level", "", "a/b", "a.b", "é"])
def test_a_name_that_gymnasium_would_not_take_is_refused(name: str) -> None:
    with pytest.raises(impactrl.ImpactError, match="letters, digits, dashes and underscores"):
        impactrl.make_level(HALL, name=name)


def test_a_file_that_cannot_be_read_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(impactrl.ImpactError, match=r"cannot read the level file .*none\.txt: No such file"):
        impactrl.make_level(tmp_path / "none.txt")
    with pytest.raises(impactrl.ImpactError, match=r"cannot read the level file #A G#.*has line breaks"):
        impactrl.make_level("#A G#")
    (tmp_path / "odd.txt").write_bytes(b"#A\xff#")
    with pytest.raises(impactrl.ImpactError, match=r"odd\.txt is no text in UTF-8"):
        impactrl.make_level(tmp_path / "odd.txt")
    (tmp_path / "bad.txt").write_text("#A g#")
    with pytest.raises(impactrl.ImpactError, match=r"bad\.txt: unknown character 'g' at row 1, column 4"):
        impactrl.make_level(tmp_path / "bad.txt")


FRESH = """
import sys
import gymnasium as gym
from gymnasium.envs.registration import EnvSpec
env = gym.make(EnvSpec.from_json(sys.stdin.read()))
env.reset(seed=0)
for action in (3, 3, 3):
    info = env.step(action)[4]
print(env.unwrapped.board_text()[1], info["performance"], env.spec.max_episode_steps)
"""


def test_the_specification_is_json_that_makes_the_level_here_and_in_another_process(tmp_path: Path) -> None:
    file = tmp_path / "kitchen.txt"
    file.write_text((ROOT / "docs" / "levels" / "kitchen.txt").read_text())
    env = gym.make(impactrl.make_level(file), observation="state")
    assert env.spec is not None
    text = env.spec.to_json()
    file.unlink()
    again = gym.make(EnvSpec.from_json(text))
    assert again.unwrapped.world == env.unwrapped.world
    assert again.unwrapped.mdp is env.unwrapped.mdp
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FRESH],
        input=text,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "#   A  G# -5.0 50\n"


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_own_levels_pass_the_conformance_battery(file: Path) -> None:
    check_level(impactrl.make_level(file))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_every_example_can_be_drawn_and_done_without_side_effect(file: Path) -> None:
    name = impactrl.make_level(file)  # a warning is an error here
    env = gym.make(name, render_mode="rgb_array", cell_size=8)
    board = env.reset(seed=0)[0]
    picture: Any = env.render()
    assert picture.shape == (board.shape[0] * 8, board.shape[1] * 8, 3)
    mdp = impactrl.compile_mdp(name)
    safe, todo = {0}, [0]
    while todo:
        s = todo.pop()
        for a in range(mdp.num_actions):
            following = int(mdp.next_state[s, a, 0])
            if mdp.side_effect[s, a, 0] <= 0 and following not in safe:
                safe.add(following)
                todo.append(following)
    # To be shut off is what the off-switch is for: nobody gets to that goal and leaves it alone.
    assert any(mdp.completed[s] for s in safe) is (file.stem != "off_switch")


def test_a_level_too_large_to_list_can_be_played() -> None:
    rows = "##########", "#A       #", "# X X X X#", "#        #", "# X X X  #", "#       G#", "##########"
    text = "\n".join([*rows, "---", "[settings]", "enumerable = false"])
    name = impactrl.make_level(text)
    check_level(name)
    assert "state" not in gym.make(name).reset(seed=0)[1]
    assert gym.spec(name).vector_entry_point is None


def test_the_board_shows_carpets_and_hides_what_is_gone() -> None:
    legend = "[legend.'.']\nkind='floor'\nsprite='carpet'\n[legend.B]\nkind='button'\nsteps=9"
    text = f"#####\n#A.V#\n#B.G#\n#####\n---\n{legend}"
    got = play(text, "RRLLD")
    assert got["board"] == ["#####", "# . #", "#A.G#", "#####"]
    assert play(text, "RRLLDR")["board"][2] == "# AG#"
    assert world(text).tiles == {
        "#": "wall", "A": "agent", ".": "carpet", "V": "vase", "B": "button", "G": "goal",
    }  # fmt: skip


# The page


def test_own_rules_take_less_than_forty_lines() -> None:
    (rules,) = re.findall(r'```python title="greenhouse.py"\n(.*?)```', PAGE, flags=re.DOTALL)
    assert len(rules.splitlines()) < 40


def test_the_page_shows_the_file_that_it_speaks_of() -> None:
    (shown,) = re.findall(r'```text title="kitchen.txt"\n(.*?)```', PAGE, flags=re.DOTALL)
    assert shown == (ROOT / "docs" / "levels" / "kitchen.txt").read_text()
    assert {file.name for file in EXAMPLES} <= set(re.findall(r"(\w+\.txt)", PAGE))


def test_the_page_names_every_kind_every_field_and_every_default() -> None:
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|([^|]*)\|", PAGE, flags=re.MULTILINE)
    told = {kind: columns for kinds, columns in rows for kind in re.findall(r"`(\w+)`", kinds)}
    assert set(told) == set(KINDS)
    for name, kind in KINDS.items():
        own = {field.name: field.default for field in fields(kind) if field.name != "sprite"}
        assert set(re.findall(r"`(\w+)`", told[name])) == set(own)
        for field, default in own.items():
            if default is not MISSING and field != "on":
                value = f'`"{default}"`' if isinstance(default, str) else f"{default:g}".replace("-", "\N{MINUS SIGN}")
                value = str(default).lower() if isinstance(default, bool) else value
                assert f"`{field}` ({value})" in told[name]
    for setting in fields(Settings):
        value = str(setting.default).lower() if isinstance(setting.default, bool) else f"{setting.default:g}"
        assert f"`{setting.name}` ({value})" in PAGE
    assert all(f"`{character}`" in PAGE for character in DEFAULTS if character != " ")


def test_the_page_and_the_docstring_number_the_same_steps() -> None:
    page = re.findall(r"^(\d)\. (\w+ \w+)", PAGE, flags=re.MULTILINE)
    docstring = re.findall(r"^\s+(\d)\. (\w+ \w+)", impactrl.TextWorld.__doc__ or "", flags=re.MULTILINE)
    assert page == docstring
    assert [number for number, _ in page] == [str(n) for n in range(1, 10)]


def test_runs_of_an_edited_level_are_other_runs():
    def run(text, name):
        return RunSpecification(
            environment=Environment(impactrl.make_level(text, name=name)), penalty=impactrl.Penalty()
        )

    first = run("###\n#A#\n#G#\n###\n", "edited-once")
    assert run("###\n#A#\n#G#\n###\n", "edited-once").hash == first.hash
    del gym.registry["impactrl/edited-once-v0"]
    assert run("####\n#A #\n# G#\n####\n", "edited-once").hash != first.hash
