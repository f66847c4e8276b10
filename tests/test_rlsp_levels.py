"""The levels of Shah et al. (2019): every rule by hand, and the published numbers."""

from collections.abc import Iterable
from itertools import product
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import impactrl
from impactrl.env import OBSERVATIONS
from impactrl.envs.apples import Apples, AppleState
from impactrl.envs.features import FeatureWorld
from impactrl.envs.rooms import FarVaseRoom, RoomState, VaseRoom
from impactrl.envs.trains import BatteriesEasy, BatteriesHard, BatteryState, ToyTrain, TrainState
from impactrl.render import SPRITES
from impactrl.world import board_text

LETTERS = "NSEW.I"
WORLDS = [VaseRoom, FarVaseRoom, ToyTrain, Apples, BatteriesEasy, BatteriesHard]
DETERMINISTIC = [world for world in WORLDS if world is not Apples]

World = FeatureWorld[Any]


def after(world: World, state: Any, letters: str) -> Any:
    """The state that the letters lead to; each must have one outcome."""
    for letter in letters:
        ((probability, state),) = world.successors(state, LETTERS.index(letter))
        assert probability == 1
    return state


def only(world: World, state: Any, letter: str) -> impactrl.Outcome[Any]:
    (outcome,) = world.outcomes(state, LETTERS.index(letter))
    return outcome


def cell(world: World, x: int, y: int) -> int:
    return y * world.shape[1] + x


def solved(world: World) -> Any:
    return impactrl.solve(impactrl.compile_mdp(world), horizon=20, discount=1.0)


# Published numbers

OPTIMAL = [(VaseRoom, 17), (FarVaseRoom, 14), (ToyTrain, 16), (Apples, 67.44), (BatteriesEasy, 9), (BatteriesHard, 9)]
SPECIFIED = [
    (VaseRoom, 17, -2, 0.486),
    (FarVaseRoom, 16, -1, 0.559),
    (ToyTrain, 16, -3, 0.472),
    (Apples, 0, 40, 0.686),
    (BatteriesEasy, 9, 9, 1.0),
    (BatteriesHard, 16, 4, 0.828),
]


@pytest.mark.parametrize(("world", "best"), OPTIMAL)
def test_the_published_return_of_the_true_optimum(world: type[World], best: float) -> None:
    solution = solved(world(specified=world().true))
    assert solution.expected_reward == pytest.approx(best, abs=0.005)
    assert solution.expected_performance == pytest.approx(solution.expected_reward, abs=1e-9)


@pytest.mark.parametrize(("world", "reward", "performance", "fraction"), SPECIFIED)
def test_the_published_return_and_fraction_of_the_specified_optimum(
    world: type[World], reward: float, performance: float, fraction: float
) -> None:
    solution, best = solved(world()), solved(world(specified=world().true))
    assert solution.expected_reward == pytest.approx(reward, abs=1e-9)
    assert solution.expected_performance == pytest.approx(performance, abs=1e-9)
    share = (solution.expected_performance + 20) / (best.expected_performance + 20)
    assert share == pytest.approx(fraction, abs=0.0005)


PATHS = [
    (VaseRoom, "specified", "SWW"),  # only because ties go to the lowest action: W S W is as short
    (VaseRoom, "true", "WSW"),
    (FarVaseRoom, "specified", "EEEE"),
    (FarVaseRoom, "true", "SEEEEN"),
    (ToyTrain, "specified", "SSEE"),  # as above; E E S S is as short and hits no train
    (ToyTrain, "true", "EESS"),
    (BatteriesHard, "specified", "SSEE"),
    (BatteriesHard, "true", "SSEESSNNEEW"),
    (Apples, "specified", "N" * 20),
]


@pytest.mark.parametrize(("world", "weights", "letters"), PATHS)
def test_the_optimal_paths(world: type[World], weights: str, letters: str) -> None:
    solution = solved(world(specified=getattr(world(), weights)))
    assert "".join(LETTERS[a] for a in solution.actions()).startswith(letters)


@pytest.mark.parametrize(("world", "effects"), [(VaseRoom, 1), (FarVaseRoom, 1), (ToyTrain, 1)])
def test_the_specified_optimum_has_the_side_effect_and_the_true_one_has_not(world: type[World], effects: int) -> None:
    assert solved(world()).expected_side_effect == effects
    assert solved(world(specified=world().true)).expected_side_effect == 0


def test_a_plan_without_end_stays_at_the_goal_but_one_of_20_steps_does_not_care_about_the_last() -> None:
    mdp = impactrl.compile_mdp(VaseRoom())
    assert impactrl.solve(mdp, discount=0.99).expected_completed == 1
    planned = impactrl.solve(mdp, discount=1.0, horizon=20)
    assert planned.actions()[-1] == 0
    assert planned.expected_completed == 0
    assert planned.expected_reward == impactrl.solve(mdp, discount=0.99).expected_reward == 17


# States


def listed(world: World) -> set[Any]:
    """The states that the published program lists: all products of their parts that make sense."""
    flags = (False, True)
    cells = range(world.shape[0] * world.shape[1])
    if isinstance(world, VaseRoom | FarVaseRoom):
        return {RoomState(a, whole) for a, whole in product(cells, flags) if not (whole and a == world.vase)}
    if isinstance(world, ToyTrain):
        every = (TrainState(*parts) for parts in product(cells, flags, range(4), flags))
        return {
            s
            for s in every
            if not (s.vase_whole and s.agent == world.vase) and not (s.train_whole and s.agent == world.track[s.train])
        }
    if isinstance(world, Apples):
        trees = product(flags, repeat=3)
        return {AppleState(*parts) for parts in product(range(4), world.free, trees, range(11), flags)}
    assert isinstance(world, BatteriesEasy | BatteriesHard)
    lying = product(flags, repeat=2)
    batteries = {BatteryState(*parts) for parts in product(cells, range(4), range(10), lying, flags)}
    first, second = world.shelves
    return {
        s
        for s in batteries
        if s.carrying or not ((s.agent == first and s.batteries[0]) or (s.agent == second and s.batteries[1]))
    }


COUNTS = [
    (VaseRoom, 29, 29, 29),
    (FarVaseRoom, 29, 29, 29),
    (ToyTrain, 384, 384, 384),
    (Apples, 7744, 4320, 5280),
    (BatteriesEasy, 7840, 355, 2075),
    (BatteriesHard, 7840, 355, 2075),
]


@pytest.mark.parametrize(("world", "published", "from_current", "from_human"), COUNTS)
def test_of_the_states_that_the_program_lists_those_that_can_be_reached(
    world: type[World], published: int, from_current: int, from_human: int
) -> None:
    states = listed(world())
    assert len(states) == published
    current = impactrl.compile_mdp(world())
    human = impactrl.compile_mdp(world(start_from="human"))
    assert (current.num_states, human.num_states) == (from_current, from_human)
    assert set(current.states) <= set(human.states) <= states


@pytest.mark.parametrize("world", WORLDS)
def test_no_action_leads_out_of_the_listed_states(world: type[World]) -> None:
    rules, states = world(), listed(world())
    for state in list(states)[::7]:
        for action in range(len(rules.actions)):
            assert {following for _, following in rules.successors(state, action)} <= states


def test_an_agent_among_trees_faces_a_free_cell_only_if_it_came_from_behind() -> None:
    """Why 4320 of 7744: 30 of 44 pairs of cell and direction, and the bucket holds 2 to 10 instead of 0 to 10."""
    world = Apples()
    opposite = (1, 0, 3, 2)
    pairs = {
        (facing, agent)
        for agent in world.free
        for facing in range(4)
        if world.moves[agent][facing] == agent or world.moves[agent][opposite[facing]] != agent
    }
    assert len(pairs) == 30
    mdp = impactrl.compile_mdp(world)
    assert {(s.facing, s.agent) for s in mdp.states} == pairs
    assert mdp.num_states == 30 * 2**3 * 9 * 2


@pytest.mark.parametrize(
    ("world", "states"), [(VaseRoom, 7), (FarVaseRoom, 5), (ToyTrain, 8), (Apples, 11), (BatteriesEasy, 11)]
)
def test_the_human_can_have_come_to_the_current_state_in_the_published_time(world: type[World], states: int) -> None:
    """The published T counts states, the first one included: one action fewer."""
    rules = world(start_from="human")
    reached = {rules.human_start()}
    for _ in range(states - 1):
        reached = {s for r in reached for a in range(len(rules.actions)) for _, s in rules.successors(r, a)}
    assert rules.current() in reached


@pytest.mark.parametrize("world", WORLDS)
def test_the_setting_start_from_chooses_the_first_state(world: type[World]) -> None:
    current, human = world(), world(start_from="human")
    assert current.start() == [(1.0, current.current())]
    assert human.start() == [(1.0, human.human_start())]
    assert current.current() != human.human_start()


def test_the_first_states_by_hand() -> None:
    assert (VaseRoom().current(), VaseRoom().human_start()) == ((2, True), (12, True))
    assert (FarVaseRoom().current(), FarVaseRoom().human_start()) == ((0, True), (10, True))
    assert (ToyTrain().current(), ToyTrain().human_start()) == ((2, True, 3, True), (20, True, 0, True))
    for batteries in (BatteriesEasy(), BatteriesHard()):
        assert batteries.current() == (2, 2, 8, (False, True), False)
        assert batteries.human_start() == (20, 0, 8, (True, True), False)
    assert Apples().current() == (1, 4, (True, False, True), 2, False)
    assert Apples().human_start() == (0, 6, (True, True, True), 0, False)


# Moves


@pytest.mark.parametrize("world", WORLDS)
def test_moves_stop_at_the_edge_and_at_what_blocks(world: type[World]) -> None:
    rules = world()
    rows, columns = rules.shape
    blocked = {"VaseRoom": [], "FarVaseRoom": [], "Apples": [(0, 0), (2, 0), (2, 4), (1, 2)]}.get(world.__name__, [])
    for x, y in product(range(columns), range(rows)):
        targets = [(x, y - 1), (x, y + 1), (x + 1, y), (x - 1, y), (x, y)]
        inside = [(p if 0 <= p[0] < columns and 0 <= p[1] < rows else (x, y)) for p in targets]
        assert rules.ahead[cell(rules, x, y)] == tuple(cell(rules, *p) for p in inside)
        if (x, y) not in blocked:
            free = [(x, y) if p in blocked else p for p in inside]
            assert rules.moves[cell(rules, x, y)] == tuple(cell(rules, *p) for p in free)


@pytest.mark.parametrize("world", WORLDS)
def test_actions_and_no_op(world: type[World]) -> None:
    more = ["interact"] if world is Apples else []
    assert list(world.actions) == ["north", "south", "east", "west", "stay", *more]
    assert world.noop == 4
    assert world.time_limit == 20


# Rooms


def test_entering_a_vase_breaks_it_for_good_and_it_blocks_nobody() -> None:
    world = VaseRoom()
    hit = only(world, RoomState(2, whole=True), "S")
    assert (hit.state, hit.side_effect) == (RoomState(7, whole=False), 1)
    again = only(world, hit.state, "N")
    assert (again.state, again.side_effect) == (RoomState(2, whole=False), 0)
    assert only(world, again.state, "S").side_effect == 0


def test_a_step_pays_for_the_state_that_it_leaves() -> None:
    world = VaseRoom()
    hit = only(world, RoomState(2, whole=True), "S")
    assert (hit.reward, hit.performance) == (0, 0)
    following = only(world, hit.state, ".")
    assert (following.reward, following.performance) == (0, -1)
    left = only(world, RoomState(5, whole=False), "E")  # from the goal of the order
    assert (left.reward, left.performance) == (1, 0)


def test_features_of_rooms() -> None:
    world = VaseRoom()
    assert world.features(RoomState(2, whole=True)) == (0, 0, 0, 1)
    assert world.features(RoomState(5, whole=False)) == (1, 0, 1, 0)
    assert [c for c in range(15) if world.features(RoomState(c, whole=False))[1]] == [
        cell(world, 1, 1),
        cell(world, 3, 1),
    ]
    far = FarVaseRoom()
    assert far.features(RoomState(cell(far, 0, 0), whole=True)) == (0, 0, 1, 0)
    assert far.features(RoomState(cell(far, 4, 0), whole=False)) == (1, 0, 0, 1)
    assert far.features(RoomState(cell(far, 3, 2), whole=False)) == (1, 1, 0, 0)


# ToyTrain


def test_the_train_runs_clockwise() -> None:
    world = ToyTrain()
    assert world.track == (7, 8, 13, 12)
    state, cells = world.human_start(), []
    for _ in range(5):
        cells.append(world.track[state.train])
        state = after(world, state, ".")
    assert cells == [cell(world, *p) for p in [(2, 1), (3, 1), (3, 2), (2, 2), (2, 1)]]


def train_state(agent: tuple[int, int], train: int, vase_whole: bool = True, train_whole: bool = True) -> TrainState:
    return TrainState(cell(ToyTrain(), *agent), vase_whole, train, train_whole)


@pytest.mark.parametrize(
    ("before", "letter", "expected", "effect"),
    [
        (train_state((3, 0), 0), "S", train_state((3, 1), 1, train_whole=False), 1),  # both enter the cell
        (train_state((3, 1), 0), ".", train_state((3, 1), 1, train_whole=False), 1),  # the train runs into the agent
        (train_state((4, 1), 0), "E", train_state((4, 1), 1), 0),  # at the edge
        (train_state((3, 1), 0), "W", train_state((2, 1), 1), 0),  # they swap cells
        (train_state((2, 0), 0), "S", train_state((2, 1), 1), 0),  # the agent follows the train
        (train_state((1, 1), 0), "S", train_state((1, 2), 1, vase_whole=False), 1),  # the vase
        (train_state((1, 2), 1, vase_whole=False), ".", train_state((1, 2), 2, vase_whole=False), 0),
        (train_state((3, 1), 1, train_whole=False), "N", train_state((3, 0), 1, train_whole=False), 0),  # it stays put
        (train_state((3, 0), 1, train_whole=False), "S", train_state((3, 1), 1, train_whole=False), 0),
        (train_state((2, 2), 1, False, False), "W", train_state((1, 2), 1, False, False), 0),
        (train_state((2, 2), 1, train_whole=False), "W", train_state((1, 2), 1, False, False), 1),
    ],
)
def test_agent_then_train_then_what_breaks(before: TrainState, letter: str, expected: TrainState, effect: int) -> None:
    outcome = only(ToyTrain(), before, letter)
    assert (outcome.state, outcome.side_effect) == (expected, effect)


def test_features_of_the_toy_train() -> None:
    world = ToyTrain()
    assert world.features(world.human_start()) == (0, 0, 0, 1, 0, 0, 0, 0, 0)
    assert world.features(world.current()) == (0, 0, 0, 0, 0, 0, 1, 1, 0)
    assert world.features(train_state((4, 0), 2, False, False)) == (1, 1, 1, 0, 0, 1, 0, 0, 0)
    assert world.features(train_state((4, 2), 1)) == (0, 0, 0, 0, 1, 0, 0, 0, 1)
    assert only(world, train_state((4, 2), 1, False, False), "N").performance == -1


# Batteries


def battery_state(
    agent: tuple[int, int], train: int, life: int, left: str = "", carrying: bool = False
) -> BatteryState:
    return BatteryState(cell(BatteriesEasy(), *agent), train, life, ("1" in left, "2" in left), carrying)


@pytest.mark.parametrize(
    ("before", "letter", "expected", "effect"),
    [
        (battery_state((1, 0), 0, 8, "12"), "W", battery_state((0, 0), 1, 7, "2", True), 0),  # picked up
        (battery_state((1, 0), 0, 8, "2"), "W", battery_state((0, 0), 1, 7, "2"), 0),  # there is none any more
        (battery_state((1, 0), 0, 8, "1", True), "W", battery_state((0, 0), 1, 7, "1", True), 0),  # one at a time
        (battery_state((0, 0), 0, 8, "1", True), ".", battery_state((0, 0), 1, 7, "1", True), 0),
        (battery_state((2, 0), 0, 5, "", True), "S", battery_state((2, 1), 1, 9), 0),  # where the train stood
        (battery_state((3, 0), 0, 5, "", True), "S", battery_state((3, 1), 1, 4, "", True), 0),  # where it goes to
        (battery_state((3, 1), 1, 5, "", True), ".", battery_state((3, 1), 2, 9), 0),  # standing still will do
        (battery_state((2, 0), 0, 5), "S", battery_state((2, 1), 1, 4), 0),  # no battery, and no harm
        (battery_state((3, 1), 0, 5), ".", battery_state((3, 1), 1, 4), 0),
        (battery_state((0, 2), 3, 1), ".", battery_state((0, 2), 0, 0), 1),  # it dies where it has come to
        (battery_state((0, 2), 0, 0), ".", battery_state((0, 2), 0, 0), 0),  # and stands still
        (battery_state((2, 0), 0, 0, "", True), "S", battery_state((2, 1), 1, 9), -1),  # until it gets a battery
        (battery_state((2, 0), 0, 1, "", True), "S", battery_state((2, 1), 1, 9), 0),
        (battery_state((4, 3), 0, 1, "2"), "S", battery_state((4, 4), 1, 0, "", True), 1),
    ],
)
def test_battery_in_then_train_then_battery_up(
    before: BatteryState, letter: str, expected: BatteryState, effect: int
) -> None:
    for world in (BatteriesEasy(), BatteriesHard()):
        outcome = only(world, before, letter)
        assert (outcome.state, outcome.side_effect) == (expected, effect)


def test_features_of_batteries_and_what_they_are_worth() -> None:
    easy, hard = BatteriesEasy(), BatteriesHard()
    assert easy.features(easy.human_start()) == (2, 0, 1, 0, 0, 0, 0, 0)
    assert easy.features(easy.current()) == (1, 0, 0, 0, 1, 0, 1, 0)
    dead = battery_state((4, 2), 3, 0)
    assert hard.features(dead) == (0, 1, 0, 0, 0, 1, 0, 1)
    assert (only(easy, dead, ".").reward, only(easy, dead, ".").performance) == (0, 0)
    assert (only(hard, dead, ".").reward, only(hard, dead, ".").performance) == (1, 0)


# Apples


def apple_state(
    agent: tuple[int, int], facing: str, trees: str = "111", bucket: int = 0, carrying: bool = False
) -> AppleState:
    return AppleState(LETTERS.index(facing), cell(Apples(), *agent), tuple(t == "1" for t in trees), bucket, carrying)


@pytest.mark.parametrize(
    ("before", "letter", "expected"),
    [
        (apple_state((1, 1), "S"), "N", apple_state((1, 0), "N")),  # turns and steps
        (apple_state((1, 1), "E"), "S", apple_state((1, 1), "S")),  # turns; the bucket blocks
        (apple_state((0, 1), "S"), "N", apple_state((0, 1), "N")),  # so does a tree
        (apple_state((0, 1), "S"), "W", apple_state((0, 1), "W")),  # and the edge
        (apple_state((0, 1), "W"), ".", apple_state((0, 1), "W")),
        (apple_state((0, 1), "N"), "I", apple_state((0, 1), "N", "011", 0, True)),  # picks
        (apple_state((1, 0), "W"), "I", apple_state((1, 0), "W", "011", 0, True)),  # from any side
        (apple_state((1, 0), "E"), "I", apple_state((1, 0), "E", "101", 0, True)),
        (apple_state((1, 4), "E"), "I", apple_state((1, 4), "E", "110", 0, True)),
        (apple_state((0, 1), "W"), "I", apple_state((0, 1), "W")),  # the edge is no tree
        (apple_state((1, 1), "S"), "I", apple_state((1, 1), "S")),  # nothing is taken out of the bucket
        (apple_state((1, 1), "S", bucket=4, carrying=True), "I", apple_state((1, 1), "S", bucket=5)),  # drops in
        (apple_state((1, 1), "E", bucket=4, carrying=True), "I", apple_state((1, 1), "E", bucket=4)),  # drops: lost
        (apple_state((0, 1), "N", bucket=4, carrying=True), "I", apple_state((0, 1), "N", bucket=4)),  # before a tree
        (apple_state((0, 2), "E", bucket=10, carrying=True), "I", apple_state((0, 2), "E", bucket=10)),  # it is full
        (apple_state((1, 1), "S", carrying=True), "W", apple_state((0, 1), "W", carrying=True)),
    ],
)
def test_turning_picking_and_dropping(before: AppleState, letter: str, expected: AppleState) -> None:
    outcome = only(Apples(), before, letter)
    assert (outcome.state, outcome.side_effect) == (expected, 0)


def chances(state: AppleState, letter: str) -> dict[str, float]:
    outcomes = Apples().outcomes(state, LETTERS.index(letter))
    found = {"".join("01"[t] for t in outcome.state.trees): outcome.probability for outcome in outcomes}
    assert len(found) == len(outcomes)
    assert len({outcome.state._replace(trees=()) for outcome in outcomes}) == 1
    return found


@pytest.mark.parametrize(
    ("trees", "letter", "expected"),
    [
        ("101", ".", {"101": 0.9, "111": 0.1}),
        ("001", ".", {"001": 0.81, "101": 0.09, "011": 0.09, "111": 0.01}),
        ("000", "S", {"000": 0.729, "100": 0.081, "010": 0.081, "001": 0.081, "110": 0.009, "101": 0.009, "011": 0.009}
            | {"111": 0.001}),
        ("101", "I", {"001": 0.9, "011": 0.1}),  # what is picked in this step does not bear again in it
        ("001", "I", {"001": 0.81, "101": 0.09, "011": 0.09, "111": 0.01}),  # nothing there to pick
    ],
)  # fmt: skip
def test_trees_that_were_empty_before_the_step_bear_again_independently(
    trees: str, letter: str, expected: dict[str, float]
) -> None:
    assert chances(apple_state((0, 1), "N", trees), letter) == pytest.approx(expected)


def test_an_empty_tree_that_bears_again_in_this_step_could_not_be_picked_yet() -> None:
    outcomes = Apples().outcomes(apple_state((0, 1), "N", "011"), LETTERS.index("I"))
    assert [o.state.carrying for o in outcomes] == [False, False]


def test_features_of_apples() -> None:
    world = Apples()
    places = [(0, 1), (0, 2), (0, 3), (0, 4), (1, 0), (1, 1), (1, 3), (1, 4), (2, 1), (2, 2), (2, 3)]
    assert world.feature_names[3:] == tuple(f"at {place}" for place in places)
    for i, place in enumerate(places):
        features = world.features(apple_state(place, "N", "101", 7, True))
        assert features == (7, 2, 1, *(float(j == i) for j in range(11)))
    outcome = only(world, apple_state((1, 1), "S", bucket=7, carrying=True), "I")
    assert (outcome.reward, outcome.performance) == (0, 7)


# What all share


@pytest.mark.parametrize("world", WORLDS)
def test_outcomes_are_plain_and_the_same_every_time(world: type[World]) -> None:
    rules, other = world(), world()
    for state in impactrl.compile_mdp(rules).states[::11]:
        for action in range(len(rules.actions)):
            outcomes = rules.outcomes(state, action)
            assert outcomes == rules.outcomes(state, action) == other.outcomes(state, action)
            assert sum(o.probability for o in outcomes) == pytest.approx(1, abs=1e-12)
            assert {type(number) for o in outcomes for number in o[1:]} == {float}
            assert len({o.state for o in outcomes}) == len(outcomes)


@pytest.mark.parametrize("world", WORLDS)
def test_columns_follow_from_features_and_effects(world: type[World]) -> None:
    rules = world(specified=range(1, 1 + len(world.feature_names)))
    mdp = impactrl.compile_mdp(rules)
    features = np.array([rules.features(s) for s in mdp.states])
    effects = np.array([rules.effects(s) for s in mdp.states])
    assert features.shape == (mdp.num_states, len(rules.feature_names))
    reward, performance = features @ rules.specified, features @ rules.true
    real = mdp.probability > 0
    for column, expected in [(mdp.reward, reward), (mdp.performance, performance)]:
        np.testing.assert_allclose(column[real], np.broadcast_to(expected[:, None, None], real.shape)[real])
    change = effects[mdp.next_state] - effects[:, None, None]
    np.testing.assert_array_equal(mdp.side_effect[real], change[real])
    assert not mdp.terminal.any()


def test_completed_is_to_be_at_a_goal_that_the_weights_name() -> None:
    assert [VaseRoom().completed(RoomState(c, whole=False)) for c in (5, 2, 7)] == [True, False, False]
    both = VaseRoom(specified=(0, 0, 1, 2))
    assert [both.completed(RoomState(c, whole=False)) for c in (5, 2, 7)] == [True, True, False]
    assert not VaseRoom(specified=(0, 1, 0, -1)).completed(RoomState(2, whole=True))
    assert [FarVaseRoom().completed(RoomState(c, whole=False)) for c in (0, 4)] == [False, True]
    assert ToyTrain().completed(train_state((4, 2), 0, train_whole=False))
    assert not ToyTrain().completed(train_state((2, 0), 0))
    for batteries in (BatteriesEasy(), BatteriesHard()):
        assert batteries.completed(battery_state((4, 2), 0, 1))
        assert not batteries.completed(battery_state((4, 2), 0, 0))
        assert not batteries.completed(battery_state((2, 0), 0, 1))


def test_completed_apples_are_more_than_at_the_start() -> None:
    states = [apple_state((1, 1), "S", bucket=n) for n in range(4)]
    assert [Apples().completed(s) for s in states] == [False, False, False, True]
    assert [Apples(start_from="human").completed(s) for s in states] == [False, True, True, True]


BOARDS: list[tuple[World, Any, list[str]]] = [
    (VaseRoom(), VaseRoom().human_start(), ["  G  ", "GCVC ", "  A  "]),
    (VaseRoom(), VaseRoom().current(), ["  A  ", "GCVC ", "     "]),
    (VaseRoom(), RoomState(6, whole=False), ["  G  ", "GA:C ", "     "]),
    (VaseRoom(), RoomState(7, whole=False), ["  G  ", "GCAC ", "     "]),
    (FarVaseRoom(), FarVaseRoom().human_start(), ["G  VG", "     ", "A  C "]),
    (FarVaseRoom(), RoomState(4, whole=False), ["G  :A", "     ", "   C "]),
    (ToyTrain(), ToyTrain().human_start(), ["  G C", "  T  ", " V  G", "     ", "A    "]),
    (ToyTrain(), ToyTrain().current(), ["  A C", "     ", " VT G", "     ", "     "]),
    (ToyTrain(), train_state((4, 0), 2, False, False), ["  G A", "     ", " : tG", "     ", "     "]),
    (BatteriesEasy(), BatteriesEasy().human_start(), ["B G  ", "  T  ", "    G", "     ", "A   B"]),
    (BatteriesHard(), BatteriesHard().current(), ["  A  ", "     ", "   TG", "     ", "    B"]),
    (BatteriesHard(), battery_state((0, 0), 1, 0), ["A G  ", "   t ", "    G", "     ", "     "]),
    (Apples(), Apples().human_start(), ["T T", "   ", "AB ", "   ", "  T"]),
    (Apples(), Apples().current(), ["T t", " A ", " B ", "   ", "  T"]),
]


@pytest.mark.parametrize(("world", "state", "rows"), BOARDS)
def test_boards(world: World, state: Any, rows: list[str]) -> None:
    board = world.board(state)
    assert board.dtype == np.uint8
    assert board_text(board) == rows


def characters(boards: Iterable[bytes]) -> set[str]:
    return {chr(code) for board in boards for code in board}


@pytest.mark.parametrize(
    ("world", "boards"),
    [(VaseRoom, 29), (FarVaseRoom, 29), (ToyTrain, 384), (Apples, 88), (BatteriesEasy, 261), (BatteriesHard, 261)],
)
def test_how_much_of_the_state_the_board_shows_and_a_sprite_for_everything(world: type[World], boards: int) -> None:
    mdp = impactrl.compile_mdp(world())
    seen = {mdp.draw(state).tobytes() for state in mdp.states}
    assert len(seen) == boards
    assert characters(seen) == {" ", *world.tiles}
    assert set(world.tiles.values()) <= set(SPRITES)


# Settings


@pytest.mark.parametrize("world", WORLDS)
def test_weights_from_json_make_the_same_world(world: type[World]) -> None:
    rules = world(specified=list(world().specified), true=np.array(world().true))
    assert rules == world()
    assert hash(rules) == hash(world())
    assert {type(weight) for weight in rules.specified + rules.true} == {float}
    with pytest.raises(AttributeError):
        rules.true = ()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"specified": (0, 1)}, r"specified must be 4 finite numbers, the weights of broken vases, .*; not \(0, 1\)"),
        ({"true": (0, 1, 2, 3, 4)}, r"true must be 4 finite numbers, .*; not \(0, 1, 2, 3, 4\)"),
        ({"true": 1.0}, r"true must be 4 finite numbers, .*; not 1.0"),
        ({"specified": (0, 0, 1, "x")}, r"specified must be 4 finite numbers, .*'x'"),
        ({"specified": "0010"}, r"specified must be 4 finite numbers, .*'0010'"),
        ({"specified": None}, r"specified must be 4 finite numbers, .*; not None"),
        ({"specified": (0, 0, 1, float("nan"))}, r"specified must be 4 finite numbers, .*nan"),
        ({"start_from": "humans"}, r"start_from must be one of 'current', 'human', not 'humans'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(impactrl.ImpactError, match=message):
        VaseRoom(**settings)


# Environments


@pytest.mark.parametrize("observation", OBSERVATIONS)
@pytest.mark.parametrize("world", WORLDS)
def test_the_checker_of_gymnasium_has_nothing_to_say(world: type[World], observation: str) -> None:
    check_env(impactrl.GridEnv(world(), observation=observation), skip_render_check=True)


def test_an_episode_pays_the_20_states_of_the_published_evaluation() -> None:
    env = impactrl.GridEnv(FarVaseRoom())
    env.reset(seed=0)
    rewards = [env.step(LETTERS.index(letter)) for letter in "EEEE" + "." * 16]
    assert [reward for _, reward, *_ in rewards] == [0.0] * 4 + [1.0] * 16
    info = rewards[-1][-1]
    assert (info["performance"], info["side_effect"], info["completed"]) == (-1.0, 1.0, True)


def test_apples_grow_by_the_seed() -> None:
    def boards(seed: int) -> list[list[str]]:
        env = impactrl.GridEnv(Apples())
        env.reset(seed=seed)
        found = []
        for _ in range(15):
            env.step(4)
            found.append(env.board_text())
        return found

    assert boards(1) == boards(1)
    assert len({str(boards(seed)) for seed in range(8)}) > 1
