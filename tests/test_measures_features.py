"""Features, by hand: norms and weights, functions, what stands on the board, the deviation of Shah et al."""

import numpy as np
import pytest
from random_mdps import RuleWorld, level, steps

from impactrl.compile import compile_mdp
from impactrl.errors import ImpactError
from impactrl.measures.penalty import Penalty
from impactrl.measures.presets import preset

ROOM = steps(
    [0, 1, 2],
    [1, 1, 1],
    [2, 2, 2],
    feature_names=("heat", "noise", "dust"),
    features_of={0: (0, 10, 1), 1: (3, 6, 1), 2: (0, 10, -1)},
)


def charged(world=ROOM, **settings):
    return Penalty(deviation="features", **settings).fit(compile_mdp(world)).deviation[0, :, 0].tolist()


# From 0, action 1 changes heat by 3 and noise by 4; action 2 dust by 2.


@pytest.mark.parametrize(
    ("norm", "features", "expected"),
    [
        ("L1", None, [0, 7, 2]),
        ("L2", None, [0, 5, 2]),
        ("Linf", None, [0, 4, 2]),
        ("L1", {"heat": 2.0, "dust": 0.5}, [0, 6, 1]),
        ("L2", {"heat": 4.0, "noise": 4.0}, [0, 10, 0]),
        ("Linf", {"heat": 2.0, "noise": 1.0, "dust": 0.5}, [0, 6, 1]),
        ("L1", ["noise"], [0, 4, 0]),
        ("L1", {"heat": 0.0}, [0, 0, 0]),
    ],
)
def test_norms_and_weights_by_hand(norm, features, expected):
    assert charged(norm=norm, features=features) == pytest.approx(expected, abs=1e-14)


def test_summaries_by_hand():
    # Against 0: heat rises by 3, noise falls by 4; dust falls by 2.
    assert charged(summary="increase") == [0, 3, 0]
    assert charged(summary="decrease") == [0, 4, 2]


def test_scales_of_weighted_features_by_hand():
    weights = {"heat": 2.0, "noise": 1.0, "dust": 0.5}
    assert charged(features=weights, scale="sum") == pytest.approx([0, (6 + 4) / 10.5, 1 / 10.5])  # 2*0 + 10 + 1/2
    assert charged(features=weights, scale="per-value") == pytest.approx([0, 6 + 0.4, 0.5 * 2])  # heat 0 counts as 1


def test_functions_stand_beside_names():
    features = {"heat": 2.0, "number": lambda s: 10.0 * s}
    assert charged(features=features) == [0, 6 + 10, 20]
    impact = Penalty(deviation="features", features=features).fit(compile_mdp(ROOM))
    assert impact.contributions(0, 1).to_dict() == {"number": 10, "heat": 6}


def test_functions_need_no_features_of_the_world():
    bare = steps([0, 1], [1, 1])
    assert charged(bare, features={"number": lambda s: 10.0 * s}) == [0, 10]
    with pytest.raises(ImpactError, match=r"names no features and no tiles to count; give features = \{name: function"):
        charged(bare)
    with pytest.raises(ImpactError, match="names no features and no tiles to count"):
        charged(bare, features=["heat"])


def test_an_unknown_feature_is_refused_with_the_near_ones():
    with pytest.raises(ImpactError, match=r"unknown feature 'haet': did you mean 'heat'\? Known: dust, heat, noise"):
        charged(features=["haet"])


@pytest.mark.parametrize("number", [float("nan"), float("-inf")])
def test_a_function_that_is_not_finite_is_refused(number):
    features = {"odd": lambda s: number if s == 1 else 0.0}
    for deviation in ("features", "detectability"):
        with pytest.raises(ImpactError, match=f"feature 'odd' must be a finite number in every state; it is {number}"):
            Penalty(deviation=deviation, features=features).fit(compile_mdp(ROOM))


def test_features_that_tell_bookkeeping_apart_are_refused():
    mdp = level("ConveyorVase")
    twin = next(i for i in range(mdp.num_states) if (mdp.situation[:i] == mdp.situation[i]).any())
    for deviation in ("features", "detectability"):
        penalty = Penalty(deviation=deviation, features={"story": lambda s: float(s == mdp.states[twin])})
        with pytest.raises(ImpactError, match="features must agree in states that differ in bookkeeping only"):
            penalty.fit(mdp)


# Objects on the board


def test_a_world_without_features_counts_its_objects():
    boards = {0: "Avvb", 1: " Avb", 2: "Auv "}  # a vase broken; a vase changed and the box gone
    world = steps(
        [0, 1, 2], [1, 1, 1], [2, 2, 2], boards=boards, tiles={"A": "agent", "v": "vase", "u": "vase", "b": "box"}
    )
    assert charged(world) == [0, 1, 1]  # both kinds of vase are vases
    assert charged(world, features={"vase": 3.0}) == [0, 3, 0]
    assert charged(world, features=["box"]) == [0, 0, 1]
    with pytest.raises(ImpactError, match=r"unknown feature 'agent'.*Known: box, vase"):  # its place is no feature
        charged(world, features=["agent"])


def test_the_board_of_a_published_level_is_counted():
    mdp = level("Vase")
    impact = Penalty(deviation="features", baseline="start").fit(mdp)
    assert set(impact.contributions(0, 0).index) == {"vase", "goal"}
    walk = {"L": 2, "U": 0}
    x, charges = impact.start_index(0), []
    for letter in "UU":
        charges.append(float(impact.deviation[x, walk[letter], 0]))
        x = impact.mdp.next_state[x, walk[letter], 0]
    assert charges == [1, 1]  # broken under the agent's feet, and for good
    x = impact.start_index(0)
    assert impact.deviation[x, walk["L"], 0] == 0


# Shah et al. 2019


def test_the_deviation_of_shah_et_al_on_the_vase_room():
    # The agent starts at the upper goal. Features: broken vases, on a carpet, at the left goal, at the upper goal.
    mdp = level("VaseRoom")
    penalty = preset("rlsp-deviation")
    impact = penalty.fit(mdp)
    north, south, east, west, stay = range(5)

    def walked(*actions):
        x, found = impact.start_index(0), []
        for a in actions:
            k = 0
            found.append(penalty.weight * float(impact.unit_penalty[x, a, k]))
            x = impact.mdp.next_state[x, a, k]
        return found

    assert walked(stay, north) == [0, 0]
    # West: gone from the goal. South: on the carpet. West: at the left goal.
    half = 0.5
    away, two = half * 1, half * np.sqrt(2)
    assert walked(west, south, west) == pytest.approx([away, two, two], abs=1e-15)
    # South: gone from the goal, and the vase broken; west: on the carpet as well; back: the vase alone.
    assert walked(south, west) == pytest.approx([two, half * np.sqrt(3)], abs=1e-15)
    assert walked(south, north) == pytest.approx([two, away], abs=1e-15)
    assert walked(east, west) == [away, 0]


def test_walls_and_the_agent_are_no_objects():
    world = RuleWorld(rules=ROOM.rules, first=[(1.0, 0)], actions=("a0", "a1", "a2"), tiles={"#": "wall", "A": "agent"})
    with pytest.raises(ImpactError, match="names no features and no tiles to count"):
        charged(world)
