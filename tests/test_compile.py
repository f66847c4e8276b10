import itertools
from collections import Counter
from dataclasses import dataclass, fields, replace

import gymnasium as gym
import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from random_mdps import RuleWorld, has_certain_noop, level, mdps, padded, steps, worlds

import impactrl.envs.sokoban
from impactrl.compile import compile_mdp
from impactrl.env import GridEnv
from impactrl.errors import ImpactError
from impactrl.mdp import TabularMDP
from impactrl.tables import TableWorld
from impactrl.world import Outcome, World

TAXI = next(name for name in gym.registry if name.startswith("Taxi-v"))
CLIFF = next(name for name in gym.registry if name.startswith("CliffWalking-v"))


@dataclass(frozen=True)
class Slide(World[tuple[str, int]]):
    """A track of three cells: push moves one cell on, and with `slip` two; cell 2 ends. Cell 0 is ice or sand."""

    slip: float = 0.0

    actions = ("push", "rest")
    noop = 1
    time_limit = 7
    tiles = {"I": "floor"}  # noqa: RUF012

    def start(self):
        return [(0.75, ("ice", 0)), (0.25, ("sand", 0))]

    def outcomes(self, state, action):
        ground, cell = state
        if action == self.noop:
            return [Outcome(state)]
        steady = Outcome((ground, cell + 1), 1.0, 2.0, 3.0, 1 - self.slip)
        if not self.slip or ground == "sand":
            return [steady._replace(probability=1.0)]
        return [steady, Outcome((ground, 2), reward=-1.0, side_effect=1.0, probability=self.slip)]

    def terminal(self, state):
        return state[1] == 2

    def completed(self, state):
        return state == ("sand", 2)

    def board(self, state):
        row = np.full((1, 3), ord("."), dtype=np.uint8)
        row[0, state[1]] = ord(state[0][0].upper())
        return row


# Arrays of a world made by hand


def test_states_are_numbered_breadth_first_from_all_starts():
    assert compile_mdp(Slide()).states == (
        ("ice", 0),
        ("sand", 0),
        ("ice", 1),
        ("sand", 1),
        ("ice", 2),
        ("sand", 2),
    )


def test_the_order_of_discovery_is_that_of_actions_and_outcomes():
    def lists(*targets):
        return [Outcome(t, probability=1 / len(targets)) for t in targets]

    rules = {("s", 0): lists("d", "b"), ("s", 1): lists("s", "a"), ("d", 0): lists("c"), ("d", 1): lists("s")}
    rules |= {(leaf, a): lists(leaf) for leaf in "abc" for a in range(2)}
    assert compile_mdp(RuleWorld(rules=rules, first=[(1.0, "s")])).states == ("s", "d", "b", "a", "c")


def test_arrays_of_a_deterministic_world():
    mdp = compile_mdp(Slide())
    assert mdp.next_state[:, :, 0].tolist() == [[2, 0], [3, 1], [4, 2], [5, 3], [4, 4], [5, 5]]
    assert mdp.next_state.shape == (6, 2, 1)
    assert (mdp.probability == 1).all()
    for name, value in [("reward", 1.0), ("performance", 2.0), ("side_effect", 3.0)]:
        assert getattr(mdp, name)[:, :, 0].tolist() == [[value, 0.0]] * 4 + [[0.0, 0.0]] * 2, name
    assert mdp.terminal.tolist() == [False] * 4 + [True] * 2
    assert mdp.completed.tolist() == [False] * 5 + [True]
    assert mdp.start.tolist() == [0.75, 0.25, 0, 0, 0, 0]
    assert mdp.situation.tolist() == [0, 1, 2, 3, 4, 5]
    assert (mdp.num_states, mdp.num_actions, mdp.actions, mdp.noop, mdp.time_limit) == (6, 2, ("push", "rest"), 1, 7)
    assert mdp.deterministic
    assert mdp.tiles == {"I": "floor"}


def test_arrays_of_a_stochastic_world_are_padded_with_the_state_itself():
    mdp = compile_mdp(Slide(slip=0.25))
    #             ice 0      sand 0    ice 1 (end on both outcomes)
    assert mdp.states[:4] == (("ice", 0), ("sand", 0), ("ice", 1), ("ice", 2))
    assert mdp.next_state[:3].tolist() == [[[2, 3], [0, 0]], [[4, 1], [1, 1]], [[3, 3], [2, 2]]]
    assert mdp.probability[:3].tolist() == [[[0.75, 0.25], [1, 0]], [[1, 0], [1, 0]], [[0.75, 0.25], [1, 0]]]
    assert mdp.reward[:2, 0].tolist() == [[1, -1], [1, 0]]
    assert mdp.performance[:2, 0].tolist() == [[2, 0], [2, 0]]
    assert mdp.side_effect[:2, 0].tolist() == [[3, 1], [3, 0]]
    assert not mdp.deterministic


def test_terminal_states_absorb_and_are_never_asked_what_follows():
    mdp = compile_mdp(Slide(slip=0.25))
    ends = np.flatnonzero(mdp.terminal)
    assert [mdp.states[i] for i in ends] == [("ice", 2), ("sand", 2)]
    assert (mdp.next_state[ends] == ends[:, None, None]).all()
    assert (mdp.probability[ends] == [1, 0]).all()
    assert not mdp.reward[ends].any()


def test_a_first_state_given_twice_counts_twice():
    world = replace(steps([0, 1], [0, 1]), first=[(0.5, 1), (0.25, 0), (0.25, 1)])
    mdp = compile_mdp(world)
    assert (mdp.states, mdp.start.tolist()) == ((1, 0), [0.75, 0.25])


@given(worlds(max_states=7, max_outcomes=3, max_starts=3))
def test_the_arrays_say_what_the_rules_say(world):
    mdp = compile_mdp(world)
    assert dict(enumerate(mdp.start)) == pytest.approx(
        {i: sum(p for p, s in world.start() if s == state) for i, state in enumerate(mdp.states)}
    )
    for s, state in enumerate(mdp.states):
        assert mdp.terminal[s] == world.terminal(state)
        assert mdp.completed[s] == world.completed(state)
        for a in range(mdp.num_actions):
            real = mdp.probability[s, a] > 0
            compiled = Counter(
                (mdp.states[z], r, p, x, q)
                for z, r, p, x, q in zip(
                    *(x[s, a][real] for x in (mdp.next_state, mdp.reward, mdp.performance, mdp.side_effect)),
                    mdp.probability[s, a][real],
                    strict=True,
                )
            )
            over = [Outcome(state)]
            assert compiled == Counter(tuple(o) for o in (over if mdp.terminal[s] else world.outcomes(state, a)))


@given(mdps(max_states=8, max_starts=3))
def test_state_numbers_grow_with_the_distance_from_the_starts(mdp):
    graph = nx.DiGraph(mdp.to_networkx())
    distance = nx.multi_source_dijkstra_path_length(graph, set(np.flatnonzero(mdp.start).tolist()), weight=None)
    in_order = [distance[i] for i in range(mdp.num_states)]  # a KeyError would be a state that cannot be reached
    assert in_order == sorted(in_order)


# What is refused


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        (3, r"max_states = 3 states: stopped at distance 0 from the start with 2 of 4 known"),
        (4, r"max_states = 4 states: stopped at distance 1 from the start with 3 of 5 known"),
        (5, r"max_states = 5 states: stopped at distance 1 from the start with 4 of 6 known"),
    ],
)
def test_too_many_states_are_refused_and_the_message_says_how_far_it_got(limit, said):
    with pytest.raises(ImpactError, match=said):
        compile_mdp(Slide(), max_states=limit)


def test_exactly_as_many_states_as_allowed_will_do():
    assert compile_mdp(Slide(), max_states=6).num_states == 6


def test_a_world_without_end_is_refused():
    class Counting(Slide):
        def outcomes(self, state, action):
            return [Outcome((state[0], state[1] - action))]

    with pytest.raises(ImpactError, match=r"max_states = 1000.*stopped at distance 4\d\d from the start"):
        compile_mdp(Counting(), max_states=1000)


def test_room_for_no_state_is_refused():
    with pytest.raises(ImpactError, match="max_states must be at least 1, not 0"):
        compile_mdp(Slide(), max_states=0)


def test_a_world_known_to_be_too_large_is_refused_unless_the_limit_is_raised():
    class Large(Slide):
        enumerable = False

    with pytest.raises(ImpactError, match=r"Large is known to have more than 1000000 states.*raise max_states"):
        compile_mdp(Large())
    assert compile_mdp(Large(), max_states=1_000_001).num_states == 6


@pytest.mark.parametrize(
    ("chances", "total"), [([0.5, 0.4], "0.9"), ([1.0, 1e-6], "1.000001"), ([0.5, 0.5, 0.5], "1.5")]
)
def test_probabilities_that_do_not_sum_to_1_are_refused_and_the_place_is_named(chances, total):
    rules = {("here", 0): [Outcome("here")], ("here", 1): [Outcome("here", probability=p) for p in chances]}
    with pytest.raises(ImpactError, match=rf"sum to {total} for action 'go' in state 'here'"):
        compile_mdp(RuleWorld(rules=rules, first=[(1.0, "here")]))


@pytest.mark.parametrize("first", [[(1.0, "here")], []], ids=["no outcomes at all", "no first state"])
def test_a_world_where_nothing_can_happen_is_refused(first):
    with pytest.raises(ImpactError, match="of probability above 0"):
        compile_mdp(RuleWorld(rules={("here", 0): [], ("here", 1): []}, first=first))


def test_rounding_in_probabilities_is_allowed():
    rules = {("here", a): [Outcome("here", probability=0.1)] * 10 for a in range(2)}
    assert compile_mdp(RuleWorld(rules=rules, first=[(1.0, "here")])).num_states == 1


def test_negative_probabilities_are_refused():
    rules = {("here", a): [Outcome("here", probability=p) for p in (1.5, -0.5)] for a in range(2)}
    with pytest.raises(ImpactError, match="must not be negative"):
        compile_mdp(RuleWorld(rules=rules, first=[(1.0, "here")]))


@pytest.mark.parametrize("chances", [(0.5, 0.4), (1.5, -0.5)])
def test_start_probabilities_that_do_not_sum_to_1_are_refused(chances):
    with pytest.raises(ImpactError, match="start probabilities must sum to 1"):
        compile_mdp(replace(steps([0, 1], [0, 1]), first=list(zip(chances, (0, 1), strict=True))))


def test_an_outcome_of_probability_0_leads_to_no_state():
    rules = {(s, a): [Outcome(s), Outcome("ghost", probability=0.0)] for s in ("x", "ghost") for a in range(2)}
    assert compile_mdp(RuleWorld(rules=rules, first=[(1.0, "x")])).states == ("x",)


def test_a_first_state_of_probability_0_is_no_state():
    world = replace(steps([0, 1], [0, 1], [2, 2]), first=[(0.0, 2), (1.0, 0)])
    assert compile_mdp(world).states == (0, 1)


def test_too_many_first_states_are_refused_also_where_all_are_terminal():
    world = replace(steps([0, 1], None, None), first=[(0.5, 1), (0.5, 2)])
    with pytest.raises(ImpactError, match="more than max_states = 1 states"):
        compile_mdp(world, max_states=1)


@pytest.mark.parametrize("name", ["probability", "start"])
def test_probabilities_that_are_no_numbers_are_refused(name):
    mdp = compile_mdp(steps([0, 1], [0, 1]))
    with pytest.raises(ImpactError, match="must sum to 1"):
        replace(mdp, **{name: np.full(getattr(mdp, name).shape, np.nan)})


CHANGES = {
    "next_state must be int32": {"next_state": np.zeros((2, 2, 1), dtype=np.int64)},
    r"next_state must be \[S, A, K\]": {"next_state": np.zeros((2, 2), dtype=np.int32)},
    r"reward must be float64 of shape \(2, 2, 1\)": {"reward": np.zeros((2, 2, 2))},
    "terminal must be bool": {"terminal": np.zeros(2, dtype=np.int8)},
    "every successor must be a state id from 0 to 1": {"next_state": np.full((2, 2, 1), 2, dtype=np.int32)},
    "2 states and 2 actions in the arrays, but 1 states": {"states": (0,)},
    "2 states and 2 action names|2 states and 1 action names": {"actions": ("a",)},
    "noop must be None or an action index below 2, not 2": {"noop": 2},
    "time_limit must be at least 1": {"time_limit": 0},
    "terminal states must absorb: self-loop": {"terminal": np.array([True, False])},
}


@pytest.mark.parametrize("said", CHANGES)
def test_arrays_that_are_no_task_are_refused(said):
    mdp = compile_mdp(steps([0, 1], [0, 1]))
    with pytest.raises(ImpactError, match=said):
        replace(mdp, **CHANGES[said])


def test_a_terminal_state_that_pays_is_refused():
    mdp = compile_mdp(steps([0, 1], None))
    with pytest.raises(ImpactError, match=r"terminal states must absorb.*reward 0"):
        replace(mdp, performance=np.ones((2, 2, 1)))


def test_an_unknown_level_is_refused_with_the_near_ones():
    with pytest.raises(ImpactError, match=r"unknown environment 'Boxx': did you mean 'Box'\? Known: .*ConveyorVase"):
        compile_mdp("Boxx")


def test_an_unknown_setting_is_refused_with_the_near_ones():
    with pytest.raises(ImpactError, match=r"unknown setting of Box 'goal_rewrd': did you mean 'goal_reward'"):
        compile_mdp("Box", goal_rewrd=1)


def test_an_unknown_setting_of_a_toy_text_environment_is_refused():
    with pytest.raises(ImpactError, match=r"FrozenLake-v1 cannot be made with the settings \{'slippery': True\}"):
        compile_mdp("FrozenLake-v1", slippery=True)


def test_settings_for_a_world_already_made_are_refused():
    with pytest.raises(ImpactError, match=r"settings \(slip\) go with a level's name; this Slide has its own"):
        compile_mdp(Slide(), slip=0.5)


def test_an_environment_without_known_rules_is_refused():
    with pytest.raises(ImpactError, match="CartPoleEnv has no known rules"):
        compile_mdp("CartPole-v1")


# Looking things up


def test_index_is_the_inverse_of_states():
    mdp = level("Interference")
    assert [mdp.index(state) for state in mdp.states] == list(range(mdp.num_states))


def test_the_index_of_an_unknown_state_is_refused():
    with pytest.raises(ImpactError, match=r"\('ice', 9\) is none of the 6 states reachable from the start"):
        compile_mdp(Slide()).index(("ice", 9))


def test_board_text_shows_a_state_as_rows_of_characters():
    mdp = compile_mdp(Slide())
    assert mdp.board_text(mdp.index(("sand", 1))) == [".S."]
    assert level("Options").board_text(0) == ["######", "# A###", "# X  #", "##   #", "### G#", "######"]


def test_arrays_cannot_be_written_to():
    mdp = compile_mdp(Slide())
    arrays = [f.name for f in fields(TabularMDP) if isinstance(getattr(mdp, f.name), np.ndarray)]
    assert len(arrays) == 9
    for name in arrays:
        with pytest.raises(ValueError, match="read-only"):
            getattr(mdp, name)[...] = 0


@given(mdps(max_states=6, max_outcomes=3))
def test_the_networkx_graph_has_exactly_the_possible_outcomes_as_edges(mdp):
    graph = mdp.to_networkx()
    names = ("action", "probability", "reward", "performance", "side_effect")
    edges = Counter((s, z, *(d[n] for n in names)) for s, z, d in graph.edges(data=True))
    expected = Counter()
    for s, a, k in itertools.product(*map(range, mdp.next_state.shape)):
        if mdp.probability[s, a, k]:
            numbers = (mdp.probability, mdp.reward, mdp.performance, mdp.side_effect)
            expected[s, mdp.next_state[s, a, k], mdp.actions[a], *(x[s, a, k] for x in numbers)] += 1
    assert edges == expected
    assert [graph.nodes[i] for i in range(len(graph))] == [
        {"state": mdp.states[i], "terminal": mdp.terminal[i], "completed": mdp.completed[i]}
        for i in range(mdp.num_states)
    ]


# Situations


def noted(world, writes):
    """The world with a note in its states that is written at some (state, action), and changes nothing."""
    rules = {
        ((s, note), a): [o._replace(state=(o.state, note or (s, a) in writes)) for o in outcomes]
        for (s, a), outcomes in world.rules.items()
        for note in (False, True)
    }
    ends = frozenset((s, note) for s in world.ends for note in (False, True))
    first = [(p, (s, False)) for p, s in world.first]
    return replace(world, rules=rules, first=first, ends=ends, done=None, seen_as=lambda state: state[0])


def test_states_that_differ_in_bookkeeping_share_a_situation():
    mdp = compile_mdp(noted(steps([0, 1], [0, 1]), writes={(0, 0)}))
    assert mdp.states == ((0, False), (0, True), (1, False), (1, True))
    assert mdp.situation.tolist() == [0, 0, 1, 1]


@given(worlds(max_states=4, max_outcomes=3))
def test_a_note_that_changes_nothing_is_accepted(world):
    writes = {(s, 0) for s in range(4)}
    mdp = compile_mdp(noted(world, writes))
    plain = compile_mdp(world)
    assert len(set(mdp.situation)) == plain.num_states
    assert len({(mdp.states[i][0], mdp.situation[i]) for i in range(mdp.num_states)}) == plain.num_states


@pytest.mark.parametrize("elsewhere", [{1: 1.0}, {0: 0.5, 1: 0.5}], ids=["another state", "other chances"])
def test_a_note_that_decides_what_follows_is_more_than_bookkeeping(elsewhere):
    world = noted(steps([1, 0], [0, 1]), writes={(0, 1)})
    world.rules[(1, True), 0] = [Outcome((s, True), probability=p) for s, p in elsewhere.items()]
    with pytest.raises(
        ImpactError, match=r"leaves out more than bookkeeping: states \(1, False\) and \(1, True\) share"
    ):
        compile_mdp(world)


def test_a_note_that_ends_the_episode_is_more_than_bookkeeping():
    rules = {(s, a): [Outcome(("x", a == 1))] for s in [("x", False), ("x", True)] for a in range(2)}
    world = RuleWorld(rules=rules, first=[(1.0, ("x", False))], ends=frozenset({("x", True)}), seen_as=lambda s: s[0])
    with pytest.raises(ImpactError, match="leaves out more than bookkeeping"):
        compile_mdp(world)


def test_a_note_may_change_the_hidden_columns():
    world = noted(steps([0, 1], [0, 1]), writes={(0, 1)})
    world.rules[(0, True), 1] = [Outcome((1, True), performance=-5.0, side_effect=1.0)]
    assert compile_mdp(world).situation.max() == 1


# Published levels and toy-text environments


@pytest.mark.parametrize(
    ("name", "states", "boards", "situations", "ends"),
    [
        ("Options", 60, 60, 60, 6),
        ("Interference", 64, 46, 64, 3),
        ("Offset", 398, 370, 370, 0),
        ("Box", 60, 60, 60, 6),
        ("ConveyorVase", 398, 370, 370, 0),
    ],
)
def test_sizes_of_the_published_levels(name, states, boards, situations, ends):
    mdp = level(name)
    assert mdp.num_states == states
    assert len({tuple(mdp.board_text(i)) for i in range(states)}) == boards
    assert mdp.situation.max() + 1 == situations
    assert mdp.terminal.sum() == ends
    assert mdp.deterministic
    assert mdp.start.tolist() == [1] + [0] * (states - 1)
    assert (mdp.actions, mdp.noop) == (("up", "down", "left", "right", "noop"), 4)


def test_names_ids_environments_and_worlds_compile_to_the_same_arrays():
    sources = [
        "impactrl/Box-v0",
        gym.make("impactrl/Box-v0", movement_reward=0.0),
        GridEnv("impactrl.envs.sokoban:Box", movement_reward=0.0),
        impactrl.envs.sokoban.Box(movement_reward=0.0),
    ]
    wanted = compile_mdp("Box", movement_reward=0.0)
    assert wanted.reward.min() == 0
    for source in sources:
        mdp = compile_mdp(source, **({"movement_reward": 0.0} if isinstance(source, str) else {}))
        assert mdp.states == wanted.states
        for name in ("next_state", "reward", "performance", "side_effect", "terminal"):
            assert (getattr(mdp, name) == getattr(wanted, name)).all()


@pytest.mark.parametrize("name", ["FrozenLake-v1", CLIFF, TAXI])
def test_toy_text_arrays_say_what_their_table_says(name):
    env = gym.make(name).unwrapped
    mdp = level(name)
    assert (mdp.num_actions, mdp.noop, mdp.time_limit) == (
        env.action_space.n,
        None,
        gym.spec(name).max_episode_steps or 100,
    )
    assert mdp.start @ np.array([env.initial_state_distrib[s] for s in mdp.states]) == pytest.approx(
        (np.asarray(env.initial_state_distrib) ** 2).sum()
    )
    ends = {s for row in env.P.values() for o in row.values() for p, s, _, over in o if over and p > 0}
    for i, state in enumerate(mdp.states):
        assert mdp.terminal[i] == (state in ends)
        if mdp.terminal[i]:
            continue
        for a in range(mdp.num_actions):
            compiled, expected = Counter(), Counter()
            for k in np.flatnonzero(mdp.probability[i, a]):
                compiled[mdp.states[mdp.next_state[i, a, k]], mdp.reward[i, a, k]] += mdp.probability[i, a, k]
            for p, s, r, _ in env.P[state][a]:
                expected[int(s), float(r)] += p
            assert compiled == pytest.approx(+expected)
    assert (mdp.performance == mdp.reward).all()
    assert not mdp.side_effect.any()


def test_a_toy_text_environment_takes_its_own_settings():
    steady = compile_mdp("FrozenLake-v1", is_slippery=False, desc=["SFHG", "HFFF", "FHHF"])
    assert steady.deterministic
    assert steady.states == (0, 4, 1, 5, 2, 9, 6, 10, 7, 11, 3)  # all but 8, behind two holes
    assert {steady.states[i] for i in np.flatnonzero(steady.terminal)} == {2, 3, 4, 9, 10}
    assert steady.board_text(3) == ["state 5"]
    assert not level("FrozenLake-v1").deterministic


def test_a_table_whose_state_ends_only_sometimes_is_refused():
    table = {0: {0: [(0.5, 1, 0.0, True), (0.5, 0, 0.0, False)], 1: [(1.0, 1, 0.0, False)]}, 1: {0: [], 1: []}}
    with pytest.raises(ImpactError, match="state 1 ends the episode on some transitions and not on others"):
        TableWorld(table=table, first=(1.0, 0.0), actions=("a", "b"))


def test_rows_of_probability_0_in_a_table_mean_nothing():
    table = {0: {0: [(1.0, 1, 0.0, False), (0.0, 2, 5.0, True), (0.0, 1, 5.0, True)]}, 1: {0: [(1.0, 0, 1.0, False)]}}
    table[2] = {0: [(1.0, 2, 0.0, False)]}
    mdp = compile_mdp(TableWorld(table=table, first=(1.0, 0.0, 0.0), actions=("on",)))
    assert mdp.states == (0, 1)
    assert mdp.next_state[:, :, 0].tolist() == [[1], [0]]
    assert mdp.deterministic
    assert not mdp.terminal.any()


# The helpers of the tests themselves


@given(mdps(max_outcomes=1))
def test_padding_changes_no_task(mdp):
    wide = padded(mdp)
    assert wide.next_state.shape[2] == 2
    assert not wide.deterministic
    assert (wide.next_state[..., :1] == mdp.next_state).all()
    assert not wide.probability[..., 1].any()


@given(mdps(noop="certain", max_outcomes=3))
def test_certain_noops_have_one_outcome(mdp):
    assert has_certain_noop(mdp)
