"""Small worlds for the tests: written down by hand, and at random."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import product
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from impactrl.compile import compile_mdp
from impactrl.mdp import TabularMDP
from impactrl.measures.penalty import Penalty
from impactrl.world import Outcome, World

Rules = Mapping[tuple[Hashable, int], Sequence[Outcome[Any]]]


@dataclass(frozen=True, kw_only=True, eq=False)
class RuleWorld(World[Any]):
    """A world written down outcome by outcome: `rules[state, action]` lists what can happen."""

    rules: Rules
    first: Sequence[tuple[float, Hashable]]
    ends: frozenset[Hashable] = frozenset()
    actions: Sequence[str] = ("noop", "go")
    noop: int | None = 0
    time_limit: int = 20
    tiles: Mapping[str, str] = field(default_factory=dict)
    done: frozenset[Hashable] | None = None
    seen_as: Callable[[Any], Hashable] = lambda state: state
    boards: Mapping[Hashable, str] | None = None
    feature_names: Sequence[str] = ()
    features_of: Mapping[Hashable, Sequence[float]] = field(default_factory=dict)

    def start(self) -> Sequence[tuple[float, Hashable]]:
        return self.first

    def outcomes(self, state: Hashable, action: int) -> Sequence[Outcome[Any]]:
        assert not self.terminal(state), "a world is never asked what follows the end"
        return self.rules[state, action]

    def terminal(self, state: Hashable) -> bool:
        return state in self.ends

    def completed(self, state: Hashable) -> bool:
        return self.terminal(state) if self.done is None else state in self.done

    def situation(self, state: Hashable) -> Hashable:
        return self.seen_as(state)

    def features(self, state: Hashable) -> Sequence[float]:
        return self.features_of[self.situation(state)] if self.feature_names else ()

    def board(self, state: Hashable) -> NDArray[np.uint8]:
        text = str(state) if self.boards is None else self.boards[self.situation(state)]
        return np.frombuffer(text.encode(), dtype=np.uint8).reshape(1, -1)


def steps(*successors: Sequence[Hashable], **settings: Any) -> RuleWorld:
    """A deterministic world on states 0, 1, ...: row s lists where each action leads; None where the episode is over.

    Every step pays what `rewards` says at [s][a], else 0. Action 0 is the no-op.
    """
    rewards = settings.pop("rewards", None)
    rules = {
        (s, a): [Outcome(target, reward=float(rewards[s][a]) if rewards else 0.0)]
        for s, row in enumerate(successors)
        if row is not None
        for a, target in enumerate(row)
    }
    actions = max(len(row) for row in successors if row is not None)
    named = {"actions": tuple(f"a{i}" for i in range(actions)), "first": [(1.0, 0)]}
    ends = frozenset(s for s, row in enumerate(successors) if row is None)
    return RuleWorld(rules=rules, ends=ends, **(named | settings))


def arrays_of(shape: int | tuple[int, ...], low: int, high: int) -> st.SearchStrategy[NDArray[np.int64]]:
    """Whole numbers, every entry drawn for itself (hypothesis would fill arrays with one value)."""
    return hnp.arrays(np.int64, shape, elements=st.integers(low, high), fill=st.nothing())


@st.composite
def worlds(
    draw: st.DrawFn,
    *,
    max_states: int = 5,
    max_actions: int = 3,
    max_outcomes: int = 2,
    max_starts: int = 2,
    ends: bool = True,
    noop: str = "random",
) -> RuleWorld:
    """Random worlds whose states are numbers.

    Rewards are small whole numbers: ties, cycles and dead ends are common. With two outcomes, no probability is
    below 1/4. At least one of the first states is not terminal; others may be.

    Args:
        ends: whether there may be terminal states.
        noop: "random": some action, whatever it does; "certain": one that has one outcome; "none".
    """
    count = draw(st.integers(1, max_states))
    num_actions = draw(st.integers(1, max_actions))
    width = draw(st.integers(1, max_outcomes))
    shape = (count, num_actions, width)
    successor = draw(arrays_of(shape, 0, count - 1))
    share = draw(arrays_of(shape, 0, 3)) if width > 1 else np.zeros(shape, int)
    share[..., 0] += share.sum(axis=2) == 0
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    paid = rng.integers(-2, 3, (*shape, 3))
    boards = rng.choice(list("Avub "), (count, 4))
    features = rng.integers(-2, 3, (count, 2))
    mask = (draw(arrays_of(count, 0, 2)) == 2) & ends
    begin = draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=max_starts, unique=True))
    weight = draw(arrays_of(len(begin), 1, 3))
    mask[begin[0]] = False
    idle = None if noop == "none" else draw(st.integers(0, num_actions - 1))
    if noop == "certain":
        share[:, idle, 1:], share[:, idle, 0] = 0, 1
    rules = {
        (s, a): [
            Outcome(
                int(successor[s, a, k]),
                *(float(v) for v in paid[s, a, k]),
                probability=float(share[s, a, k] / share[s, a].sum()),
            )
            for k in range(width)
            if share[s, a, k]
        ]
        for s, a in product(range(count), range(num_actions))
    }
    return RuleWorld(
        rules=rules,
        first=[(float(w / weight.sum()), s) for w, s in zip(weight, begin, strict=True)],
        ends=frozenset(np.flatnonzero(mask).tolist()),
        actions=tuple(f"a{i}" for i in range(num_actions)),
        noop=idle,
        time_limit=draw(st.integers(1, 8)),
        done=frozenset(draw(st.sets(st.integers(0, count - 1)))),
        tiles={"A": "agent", "v": "vase", "u": "vase", "b": "box"},
        boards={s: "".join(row) for s, row in enumerate(boards)},
        feature_names=draw(st.sampled_from([(), ("heat", "noise")])),
        features_of=dict(enumerate(features.tolist())),
    )


def mdps(**settings: Any) -> st.SearchStrategy[TabularMDP]:
    """Random compiled tasks; see `worlds`."""
    return worlds(**settings).map(compile_mdp)


def utility_tables(mdp: TabularMDP, *, columns: int = 2, least: int = -8) -> st.SearchStrategy[NDArray[np.float64]]:
    """Tables of utilities in eighths, from `least` to 8; equal in states of one situation."""
    count = int(mdp.situation.max()) + 1
    eighths = arrays_of((count, columns), least, 8)
    return eighths.map(lambda table: (table / 8.0)[mdp.situation])


@st.composite
def penalties(
    draw: st.DrawFn,
    mdp: TabularMDP,
    *,
    deviations: Sequence[str] = ("unreachability", "relative_reachability", "attainable_utility"),
    baselines: Sequence[str] = ("start", "inaction", "stepwise"),
    rollout: bool | None = None,
) -> Penalty:
    """Penalties with every setting drawn, such that they can be fitted to `mdp`; inaction needs a certain no-op."""
    name = draw(st.sampled_from(deviations))
    if mdp.noop is None:
        baselines, rollout = ("start",), False
    elif not has_certain_noop(mdp):
        baselines = [b for b in baselines if b != "inaction"]
    settings: dict[str, Any] = {}
    discounts = [0.0, 0.5, 0.9, 1.0][: 3 if name == "attainable_utility" else 4]
    settings["discount"] = draw(st.sampled_from(discounts))
    if name != "unreachability":
        scales = ["none", "per-value", "sum", "discount"][: 3 if settings["discount"] == 1 else 4]
        settings["summary"] = draw(st.sampled_from(["decrease", "increase", "absolute"]))
        settings["scale"] = draw(st.sampled_from(scales))
    if name == "attainable_utility":
        # A value that is 0 only because utilities cancel is 0 up to the tolerance of the solver: do not divide by it.
        divided = settings["scale"] in ("per-value", "sum")
        settings["utilities"] = draw(utility_tables(mdp, least=0 if divided else -8))
    return Penalty(
        deviation=name,
        baseline=draw(st.sampled_from(baselines)),
        rollout=draw(st.booleans()) if rollout is None else rollout,
        rollout_discount=draw(st.sampled_from([0.0, 0.5, 0.8])),
        terminal=draw(st.sampled_from(["previous", "absorbing"])),
        nonterminal_weight=draw(st.sampled_from([0.0, 0.25, 1.0])),
        **settings,
    )


def tolerance(penalty: Penalty) -> dict[str, float]:
    """How far two right computations of a penalty may be apart."""
    if penalty.deviation != "attainable_utility":
        return {"rtol": 1e-12, "atol": 1e-12}
    if penalty.scale in ("per-value", "sum"):
        return {"rtol": 1e-9, "atol": 1e-9}
    return {"rtol": 0, "atol": 2e-10}  # of two values, each of which has an error of 1e-10 at most


def has_certain_noop(mdp: TabularMDP) -> bool:
    """Whether doing nothing has one outcome everywhere."""
    if mdp.noop is None:
        return False
    chance, target = mdp.probability[:, mdp.noop], mdp.next_state[:, mdp.noop]
    return all(len(set(target[s][chance[s] > 0])) == 1 for s in range(mdp.num_states))


@cache
def level(name: str, **settings: Any) -> TabularMDP:
    """A published level, compiled once."""
    return compile_mdp(name, **settings)


def padded(mdp: TabularMDP) -> TabularMDP:
    """The same task with a second outcome of probability 0 everywhere, so that nothing says it is deterministic."""

    def widened(array: NDArray[Any], value: Any) -> NDArray[Any]:
        return np.concatenate([array, np.broadcast_to(value, array.shape).astype(array.dtype)], axis=2)

    stay = np.arange(mdp.num_states)[:, None, None]
    return replace(
        mdp,
        next_state=widened(mdp.next_state, stay),
        **{n: widened(getattr(mdp, n), 0.0) for n in ("probability", "reward", "performance", "side_effect")},
    )


def dense(mdp: TabularMDP, policy: NDArray[np.int64] | Sequence[int]) -> NDArray[np.float64]:
    """[S, S] transition matrix of a policy."""
    matrix = np.zeros((mdp.num_states, mdp.num_states))
    for s, a in enumerate(policy):
        for k in range(mdp.next_state.shape[2]):
            matrix[s, mdp.next_state[s, a, k]] += mdp.probability[s, a, k]
    return matrix


def all_policies(mdp: TabularMDP) -> list[tuple[int, ...]]:
    """Every deterministic stationary policy; what is done in terminal states does not matter."""
    choices = [range(1) if over else range(mdp.num_actions) for over in mdp.terminal]
    return list(product(*choices))


def random_walk(mdp: TabularMDP, rng: np.random.Generator, length: int) -> list[tuple[int, int, int]]:
    """Steps (state, action, next state) of one episode of random actions."""
    s = int(rng.choice(mdp.num_states, p=mdp.start))
    path = []
    while len(path) < length and not mdp.terminal[s]:
        a = int(rng.integers(mdp.num_actions))
        k = int(rng.choice(mdp.next_state.shape[2], p=mdp.probability[s, a]))
        following = int(mdp.next_state[s, a, k])
        path.append((s, a, following))
        s = following
    return path
