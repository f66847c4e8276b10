"""What made an impact: `Impact.contributions`, `explain(top=...)` and what the command line shows of it."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from random_mdps import has_certain_noop, level, mdps, utility_tables

import impactrl
from impactrl.cli import main
from impactrl.explaining import letters_of, parse_actions
from impactrl.game import new_game, press
from impactrl.measures.penalty import Penalty

UNDISCOUNTED = Penalty(discount=1.0)


def words(capsys):
    return " ".join(capsys.readouterr().out.split())


# What the contributions are


@settings(max_examples=40)
@given(mdps(noop="certain"), st.data())
def test_contributions_add_up_to_the_deviation(mdp, data):
    assume(has_certain_noop(mdp))
    penalty = Penalty(
        deviation="attainable_utility",
        baseline=data.draw(st.sampled_from(["start", "inaction", "stepwise"])),
        summary=data.draw(st.sampled_from(["decrease", "increase", "absolute"])),
        expectation=data.draw(st.sampled_from(["outside", "inside"])),
        rollout=data.draw(st.booleans()),
        terminal=data.draw(st.sampled_from(["previous", "absorbing"])),
        utilities=data.draw(utility_tables(mdp, columns=3)),
        discount=0.5,
    )
    impact = penalty.fit(mdp)
    places = [tuple(map(int, place)) for place in np.argwhere(impact.mdp.probability > 0)]
    found = impact.contributions_of(places)
    assert len(found) == len(places)
    for place, series in zip(places, found, strict=True):
        assert set(series.index) == {"utility 0", "utility 1", "utility 2"}
        assert series.sum() == pytest.approx(impact.deviation[place], abs=1e-9)
        assert (np.diff(series.abs()) <= 0).all()
        pd.testing.assert_series_equal(series, impact.contributions(*place))


def test_no_transitions_have_no_contributions():
    assert UNDISCOUNTED.fit(level("Options")).contributions_of([]) == []


# In explain


def test_the_goals_that_the_corner_cuts_off_are_named_with_their_equal_shares():
    (step,) = impactrl.explain("Options", actions="D", penalty=UNDISCOUNTED, top=60)["contributions"]
    mdp = level("Options")
    lost = {name for name, _ in step}
    assert len(lost) == 45  # of 54 states that are no ends
    assert [amount for _, amount in step] == pytest.approx([1 / 54] * 45)
    for name in lost:  # all that is lost has the box elsewhere than in the corner
        assert mdp.board_text(int(name.removeprefix("state ")))[3][2] != "X"


def test_top_says_how_many_and_leaves_out_what_added_nothing():
    table = impactrl.explain("Box", actions="LDR", penalty=UNDISCOUNTED, top=2)
    assert [len(made) for made in table["contributions"]] == [0, 0, 2]
    assert table.drop(columns="contributions").equals(impactrl.explain("Box", actions="LDR", penalty=UNDISCOUNTED))


def test_features_are_named_as_the_world_names_them():
    # The toy train goes from place 3 to place 2 in the first step; its weights say how much that matters.
    weights = {"train at place 2": 2.0, "train at place 3": 0.5}
    penalty = Penalty(deviation="features", baseline="start", features=weights)
    step = impactrl.explain("BatteriesEasy", actions="U", penalty=penalty, top=3).iloc[0]
    assert step.contributions == list(weights.items())
    assert step.deviation == 2.5


def test_a_bonus_has_negative_contributions():
    penalty = Penalty(deviation="future_tasks", baseline="none")
    table = impactrl.explain("Options", actions="D", penalty=penalty, top=100)
    assert sum(amount for _, amount in table["contributions"][0]) == pytest.approx(table["deviation"][0])
    assert all(amount < 0 for _, amount in table["contributions"][0])


def test_no_actions_have_no_contributions():
    table = impactrl.explain("Options", actions="", penalty=UNDISCOUNTED, top=3)
    assert len(table) == 0
    assert "contributions" in table


@pytest.mark.parametrize(
    ("penalty", "top", "said"),
    [
        (
            Penalty(deviation="unreachability"),
            1,
            "unreachability is no difference of values: there is nothing to break",
        ),
        (None, 1, "without a penalty nothing deviates"),
        (Penalty(), -1, "top must be at least 0, not -1"),
        (Penalty(), 1.5, "top must be a whole number"),
    ],
)
def test_what_has_no_contributions_is_refused(penalty, top, said):
    with pytest.raises(impactrl.ImpactError, match=said):
        impactrl.explain("Options", actions="D", penalty=penalty, top=top)


def test_a_sampled_baseline_goes_the_same_way_in_explain_and_in_the_game():
    penalty = Penalty(baseline="policy", policy="random", inaction="sampled", seed=5)
    actions = [1, 2, 1, 0, 3, 1, 4, 1, 2, 3]
    game = new_game("Options", penalty=penalty, seed=3)
    for action in actions:
        game = press(game, str(action))
    table = impactrl.explain("Options", actions=actions, penalty=penalty, seed=3, top=1)
    assert [m.deviation for m in game.moments[1:]] == table["deviation"].tolist()
    assert table["deviation"].any()
    for made, deviation in zip(table["contributions"], table["deviation"], strict=True):
        assert bool(made) == bool(deviation)


# Letters of levels with other names


@pytest.mark.parametrize(
    ("names", "letters"),
    [
        (["up", "down", "left", "right", "noop"], {"U": 0, "D": 1, "L": 2, "R": 3, "N": 4}),
        (["north", "south", "east", "west", "stay"], {"U": 0, "D": 1, "R": 2, "L": 3, "N": 4}),
        (["North", "South", "East", "West", "Stay", "Interact"], {"U": 0, "D": 1, "R": 2, "L": 3, "N": 4, "I": 5}),
        (["forward", "turn"], {"U": 0}),
        (["0", "1"], {}),
    ],
)
def test_letters_stand_for_actions_whatever_they_are_called(names, letters):
    assert letters_of(names) == letters
    spelt = "".join(letters)
    if spelt:
        assert parse_actions(spelt, names) == list(letters.values())


def test_letters_move_the_train_as_its_own_names_do():
    pd.testing.assert_frame_equal(
        impactrl.explain("ToyTrain", actions="UDRLN"), impactrl.explain("ToyTrain", actions=[0, 1, 2, 3, 4])
    )


def test_an_unknown_letter_names_the_actions_of_the_level():
    with pytest.raises(impactrl.ImpactError, match=r"letters: U = north, D = south, L = west, R = east, N = stay$"):
        impactrl.explain("VaseRoom", actions="X")


# On the command line


def test_explain_names_what_made_the_impact_and_shows_the_goals(capsys):
    main(["explain", "Options", "--actions", "D", "--discount", "1", "--top", "2"])
    out = capsys.readouterr().out
    mdp = level("Options")
    goals = re.findall(r"state (\d+) \(0.01852\)", out)
    assert len(goals) == 2
    assert f"state {goals[0]}: 0.01852    state {goals[1]}: 0.01852" in out
    rows = zip(*(mdp.board_text(int(goal)) for goal in goals), strict=True)
    for left, right in rows:
        assert re.search(rf"{re.escape(left)} +{re.escape(right)}", out)


def test_explain_shows_no_boards_where_no_states_are_meant(capsys):
    main(["explain", "Options", "--actions", "D", "--deviation", "attainable_utility", "--top", "2"])
    out = words(capsys)
    assert re.search(r"1 down utility \d \([\d.]+\), utility \d \([\d.]+\)$", out)


def test_explain_says_when_nothing_had_an_impact(capsys):
    main(["explain", "Options", "--actions", "NN", "--top", "2"])
    assert words(capsys).endswith("no step had an impact")


def test_actions_after_the_end_are_said_not_to_be_played(capsys, tmp_path):
    main(["explain", "Options", "--actions", "DRDDRNNN"])
    assert "the episode was over after 5 of 8 actions; the rest was not played" in words(capsys)
    main(["render", "Options", "--actions", "DRDDRNNN", "--out", str(tmp_path / "film.gif")])
    assert "the episode was over after 5 of 8 actions; the rest was not played" in words(capsys)
    main(["explain", "Options", "--actions", "DRDDR"])
    assert "not played" not in words(capsys)


def test_chance_has_a_seed_on_the_command_line(capsys):
    def states(seed):
        main(["explain", "FrozenLake-v1", "--actions", "2 1 2 1 2 1", "--deviation", "none", "--chance", str(seed)])
        return words(capsys)

    assert states(1) == states(1)
    assert len({states(seed) for seed in range(6)}) > 1
