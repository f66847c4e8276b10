"""What a learner that does not know the world keeps of other goals: auxiliary values, and the penalty read from them.

Turner et al. (2020), arXiv 1902.09725: the change in how well other goals could be pursued, `Q_u(s, a)` against
`Q_u(s, no-op)` for a set of rewards u. Eresheim et al. (2023), "Standing still is not an option", put something else in
the place of the no-op's value.

The values of U rewards are kept in tables of Y rows and W columns, W the next multiple of `LANES`; columns beyond U
stay 0.
"""

from collections.abc import Hashable
from dataclasses import fields
from functools import lru_cache
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from impactrl.errors import ImpactError, require_one_of
from impactrl.mdp import TabularMDP
from impactrl.measures.differences import SUMMARIES
from impactrl.measures.families import STATES
from impactrl.measures.penalty import Penalty
from impactrl.measures.state_graph import state_graph
from impactrl.measures.values import attainable_utilities

__all__ = [
    "ABSOLUTE",
    "ADVERSARIAL",
    "AVERAGE",
    "AVERAGE_OTHER",
    "DECREASE",
    "KEYS",
    "LANES",
    "PER_VALUE",
    "RANDOM",
    "STEPWISE",
    "LearnedPenalty",
    "all_charges",
    "charge",
    "drawn_utilities",
    "exact_auxiliary",
    "expected_charge",
    "for_task",
    "improve",
    "learned_penalty",
    "table_rows",
]

KEYS = ("board", "state")
TASKS_KEPT = 16
LANES = 4
"""Sums over rewards run in so many lanes, so that they are fast, and the same on every processor."""

BASELINES = ("stepwise", "average", "average_other", "random", "adversarial")
STEPWISE, AVERAGE, AVERAGE_OTHER, RANDOM, ADVERSARIAL = range(5)  # places in BASELINES
DECREASE, INCREASE, ABSOLUTE = map(SUMMARIES.index, ("decrease", "increase", "absolute"))
SCALES = ("per-value", "sum")
PER_VALUE, SUM = range(2)  # places in SCALES

READ = {"deviation", "baseline", "weight", "epsilon"}
READ_OF_VALUES = READ | {"summary", "discount", "scale", "terminal", "expectation", "utilities", "clip"}
HINT = "preset('turner2019-model-free') is one that can be learned"


class LearnedPenalty(NamedTuple):
    """A penalty as the kernels read it.

    Attributes:
        rewards: U, how many; 0 charges nothing.
        indicators: whether each reward is 1 in one row of the tables and 0 in the others.
        clip: whether values are kept in [0, 1].
        baseline: place in `BASELINES`.
        summary: place in `SUMMARIES`.
        scale: place in `SCALES`.
        discount: of the auxiliary values.
        epsilon: of the baseline "adversarial".
        noop: the action of the baseline "stepwise"; -1 for others.
    """

    rewards: int
    indicators: bool
    clip: bool
    baseline: int
    summary: int
    scale: int
    discount: float
    epsilon: float
    noop: int


NOTHING = LearnedPenalty(0, False, False, STEPWISE, ABSOLUTE, PER_VALUE, 0.0, 0.0, -1)


def learned_penalty(penalty: Penalty) -> LearnedPenalty:
    """A penalty whose values are learned on the way, before it meets a task (`for_task`).

    Raises:
        ImpactError: a setting that means nothing there, or cannot be had.
    """
    nothing = penalty.deviation == "none"
    for entry in fields(penalty):
        value = getattr(penalty, entry.name)
        if entry.name not in (READ if nothing else READ_OF_VALUES) and value != entry.default:
            why = " (the utilities are drawn in every run, from the run's seed)" if entry.name == "seed" else ""
            raise ImpactError(f"a learned penalty has no use for {entry.name}={value!r}{why}: leave it out")
    if nothing:
        return NOTHING
    possible = {
        "deviation": ("attainable_utility", "none"),
        "baseline": BASELINES,
        "summary": (None, *SUMMARIES),
        "scale": SCALES,
        "terminal": ("absorbing",),
        "expectation": ("inside",),
    }
    for name, allowed in possible.items():
        if getattr(penalty, name) not in allowed:
            raise ImpactError(
                f"a learned penalty needs {name}={' or '.join(map(repr, allowed))}, not {getattr(penalty, name)!r}; "
                f"{HINT}"
            )
    rewards = 0 if penalty.utilities == STATES else penalty.utilities
    if not isinstance(rewards, int):
        raise ImpactError(
            "a learned penalty draws its utilities: say how many, or 'states' for the indicator of every row of its "
            "tables, instead of listing them"
        )
    return LearnedPenalty(
        rewards=rewards,
        indicators=penalty.utilities == STATES,
        clip=penalty.clip,
        baseline=BASELINES.index(str(penalty.baseline)),
        summary=SUMMARIES.index(penalty.effective_summary),
        scale=SCALES.index(penalty.scale),
        discount=penalty.discount,
        epsilon=penalty.epsilon,
        noop=-1,
    )


def for_task(learned: LearnedPenalty, noop: int | None, rows: int) -> LearnedPenalty:
    """The penalty for a task whose tables have so many rows: with its no-op, and an indicator per row.

    Raises:
        ImpactError: the baseline needs a no-op and the world has none.
    """
    if learned.indicators:
        learned = learned._replace(rewards=rows)
    if learned.rewards and learned.baseline == STEPWISE:
        if noop is None:
            raise ImpactError(
                "baseline='stepwise' compares with doing nothing, and this world has no no-op action; use one of "
                f"{', '.join(map(repr, BASELINES[1:]))}"
            )
        learned = learned._replace(noop=noop)
    return learned


@lru_cache(maxsize=TASKS_KEPT)
def table_rows(mdp: TabularMDP, key: str) -> NDArray[np.int64]:
    """[S] the row of a learner's tables in each state; kept for the next runs on the same task.

    Args:
        mdp: the task.
        key: "board": what is painted, so that states that look alike share a row; "state": what a measure sees,
            `mdp.situation`.
    """
    require_one_of("key", key, KEYS)
    seen = mdp.situation if key == "state" else [mdp.draw(state).tobytes() for state in mdp.states]
    numbers: dict[Hashable, int] = {}
    rows = np.array([numbers.setdefault(each, len(numbers)) for each in seen], dtype=np.int64)
    rows.flags.writeable = False
    return rows


def drawn_utilities(rng: np.random.Generator, rows: int, learned: LearnedPenalty) -> NDArray[np.float64]:
    """[rows, W] what each auxiliary reward pays on arriving in a row: uniform in [0, 1), or indicators."""
    utilities = np.zeros((rows, -(-learned.rewards // LANES) * LANES))
    utilities[:, : learned.rewards] = np.eye(rows) if learned.indicators else rng.random((rows, learned.rewards))
    return utilities


def exact_auxiliary(mdp: TabularMDP, utilities: NDArray[np.float64], learned: LearnedPenalty) -> NDArray[np.float64]:
    """`Q_u(s, a) = E[u(s') + discount * max_a' Q_u(s', a')]`: what the learned auxiliary values should be.

    Args:
        mdp: the task.
        utilities: [S, U], of arriving in each state; the same for states of one situation.
        learned: the penalty, for its discount and its clipping.

    Returns:
        [S, A, U]; 0 in terminal states, where nothing more is to be had.
    """
    graph = state_graph(mdp, "absorbing")
    values = attainable_utilities(graph, utilities[graph.state], discount=learned.discount, clip=learned.clip)
    expected = np.einsum("sak,saku->sau", mdp.probability, values[graph.node[mdp.next_state]])
    exact: NDArray[np.float64] = np.ascontiguousarray(expected)  # the kernels are compiled for one layout
    exact[mdp.terminal] = 0.0
    return exact


# Inlined, and indexing whole arrays: handing arrays over and slicing them would cost more than the work.


@numba.njit(cache=True, nogil=True, inline="always")
def improve(
    learned: LearnedPenalty,
    utilities: NDArray[np.float64],
    learning_rate: float,
    row: int,
    action: int,
    following: int,
    over: bool,
    auxiliary: NDArray[np.float64],
    top: NDArray[np.float64],
) -> None:
    """One step of Q-learning for all auxiliary rewards, in place.

    Args:
        learned: the penalty.
        utilities: [Y, W].
        learning_rate: in (0, 1].
        row: where the step began.
        action: that was taken.
        following: the row it led to.
        over: whether the episode ended there.
        auxiliary: [Y, A, W] the values.
        top: [Y, W] their maximum over actions, kept up to date.
    """
    width = utilities.shape[1]
    discount = 0.0 if over else learned.discount
    lowest, highest = (0.0, 1.0) if learned.clip else (-np.inf, np.inf)
    fell = False
    for u in range(width):
        before = auxiliary[row, action, u]
        value = before + learning_rate * (utilities[following, u] + discount * top[following, u] - before)
        value = min(max(value, lowest), highest)
        auxiliary[row, action, u] = value
        top[row, u] = value if value > top[row, u] else top[row, u]
        fell |= value < before
    if fell:  # then the maximum may have been this action's
        for u in range(width):
            top[row, u] = auxiliary[row, 0, u]
        for a in range(1, auxiliary.shape[1]):
            for u in range(width):
                value = auxiliary[row, a, u]
                top[row, u] = value if value > top[row, u] else top[row, u]


@numba.njit(cache=True, nogil=True, inline="always")
def charge(
    learned: LearnedPenalty,
    rng: np.random.Generator,
    row: int,
    action: int,
    auxiliary: NDArray[np.float64],
    top: NDArray[np.float64],
    scratch: NDArray[np.float64],
) -> float:
    """The penalty of an action at weight 1, from the auxiliary values as they stand.

    Args:
        learned: the penalty.
        rng: of the baseline "random", which takes another action for every reward anew.
        row: where the action was taken.
        action: that was taken.
        auxiliary: [Y, A, W] the values.
        top: [Y, W] their maximum over actions.
        scratch: [2, W].
    """
    num_actions, width = auxiliary.shape[1:]
    if learned.rewards == 0 or action == learned.noop or num_actions == 1:
        return 0.0
    if learned.baseline == STEPWISE:
        for u in range(width):
            scratch[0, u] = auxiliary[row, learned.noop, u]
    elif learned.baseline == RANDOM:
        for u in range(learned.rewards):
            other = int(rng.random() * (num_actions - 1))
            scratch[0, u] = auxiliary[row, other + (other >= action), u]
    else:
        others = learned.baseline == AVERAGE_OTHER
        scratch[0] = 0.0
        for a in range(num_actions):
            if a != action or not others:
                for u in range(width):
                    scratch[0, u] += auxiliary[row, a, u]
        for u in range(width):
            scratch[0, u] /= num_actions - others
        if learned.baseline == ADVERSARIAL:
            for u in range(width):
                scratch[0, u] = (1 - learned.epsilon) * top[row, u] + learned.epsilon * scratch[0, u]
    return _deviation(learned, row, action, auxiliary, scratch)


@numba.njit(cache=True, nogil=True)
def expected_charge(
    learned: LearnedPenalty,
    rng: np.random.Generator,
    row: int,
    action: int,
    auxiliary: NDArray[np.float64],
    top: NDArray[np.float64],
    scratch: NDArray[np.float64],
) -> float:
    """As `charge`, but draws nothing: the mean over the other actions under the baseline "random"."""
    num_actions = auxiliary.shape[1]
    if learned.baseline != RANDOM or learned.rewards == 0 or num_actions == 1:
        return charge(learned, rng, row, action, auxiliary, top, scratch)
    mean = 0.0
    for a in range(num_actions):
        if a != action:
            scratch[0] = auxiliary[row, a]
            mean += _deviation(learned, row, action, auxiliary, scratch) / (num_actions - 1)
    return mean


def all_charges(learned: LearnedPenalty, auxiliary: NDArray[np.float64]) -> NDArray[np.float64]:
    """[Y, A] what each action is charged at weight 1 by values [Y, A, U]; in expectation where that is random."""
    rows, actions, rewards = auxiliary.shape
    padded = np.zeros((rows, actions, -(-rewards // LANES) * LANES))
    padded[:, :, :rewards] = auxiliary
    result: NDArray[np.float64] = _all_charges(learned, np.random.default_rng(0), padded, padded.max(axis=1))
    return result


@numba.njit(cache=True, nogil=True)
def _all_charges(
    learned: LearnedPenalty, rng: np.random.Generator, auxiliary: NDArray[np.float64], top: NDArray[np.float64]
) -> NDArray[np.float64]:
    result = np.zeros((auxiliary.shape[0], auxiliary.shape[1]))
    scratch = np.zeros((2, auxiliary.shape[2]))
    for y in range(len(result)):
        for a in range(result.shape[1]):
            result[y, a] = expected_charge(learned, rng, y, a, auxiliary, top, scratch)
    return result


@numba.njit(cache=True, nogil=True, inline="always")
def _deviation(
    learned: LearnedPenalty,
    row: int,
    action: int,
    auxiliary: NDArray[np.float64],
    scratch: NDArray[np.float64],
) -> float:
    """The summarised and scaled difference from the values in `scratch[0]`, [W]; `scratch[1]` is overwritten."""
    width = auxiliary.shape[2]
    # One loop for each summary, without branches inside.
    if learned.summary == ABSOLUTE:
        for u in range(width):
            scratch[1, u] = abs(scratch[0, u] - auxiliary[row, action, u])
    else:
        sign = 1.0 if learned.summary == DECREASE else -1.0
        for u in range(width):
            d = sign * (scratch[0, u] - auxiliary[row, action, u])
            scratch[1, u] = d if d > 0.0 else 0.0
    if learned.scale == PER_VALUE:
        for u in range(width):
            unit = abs(scratch[0, u])
            scratch[1, u] /= unit if unit != 0.0 else 1.0
    total = _sum(scratch, 1)
    size = float(learned.rewards)
    if learned.scale == SUM:
        for u in range(width):
            scratch[1, u] = abs(scratch[0, u])
        size = _sum(scratch, 1)
        size = size if size != 0.0 else 1.0
    return total / size


@numba.njit(cache=True, nogil=True, inline="always")
def _sum(terms: NDArray[np.float64], i: int) -> float:
    """The sum of `terms[i]`, lane by lane."""
    first, second, third, fourth = 0.0, 0.0, 0.0, 0.0
    for u in range(0, terms.shape[1], LANES):
        first += terms[i, u]
        second += terms[i, u + 1]
        third += terms[i, u + 2]
        fourth += terms[i, u + 3]
    return (first + second) + (third + fourth)
