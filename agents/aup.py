"""Attainable utility preservation without a model: the auxiliary values are learned beside the task, a run per kernel.

Turner et al. (2020), arXiv 1902.09725, "Model-free AUP". In every step all auxiliary values are updated first, then the
penalty is read from them, then the task's values are updated with the penalised reward.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from impactrl.agents.auxiliary import (
    KEYS,
    LearnedPenalty,
    charge,
    drawn_utilities,
    exact_auxiliary,
    expected_charge,
    for_task,
    improve,
    learned_penalty,
    table_rows,
)
from impactrl.agents.settings import TabularLearner
from impactrl.agents.tabular import (
    Progress,
    Task,
    draw,
    evaluate,
    finish,
    keep_greedy,
    new_progress,
    record,
    require_seeds,
    run_all,
    task_of,
)
from impactrl.errors import require_one_of, whole_number
from impactrl.mdp import TabularMDP
from impactrl.measures.impact import COLUMNS
from impactrl.measures.penalty import Penalty

__all__ = ["AUPTraining", "ModelFreeAUP", "train_aup"]


@dataclass(frozen=True, kw_only=True)
class ModelFreeAUP(TabularLearner):
    """Settings of the learner of Turner et al. (2020); the defaults are the published ones.

    How many auxiliary rewards there are, the discount of their values, baseline and scale are the penalty's. The shares
    `epsilon_start` and `epsilon_end` are of actions other than the greedy one. The greedy policy is evaluated after the
    first episode, then after `evaluate_every` more each, and after the last: with the defaults, the published counts
    are those of the last evaluation but one.

    Attributes:
        evaluation_steps: length of an evaluation; the level's time limit if that is less.
        key: what the learner can tell apart: "board" (states that look alike are one, as published) or "state".

    >>> ModelFreeAUP().evaluations()[[0, 1, -2, -1]].tolist()
    [1, 11, 5991, 6000]
    """

    episodes: int = 6000
    learning_rate: float = 1.0
    discount: float = 0.996
    epsilon_start: float = 0.8
    epsilon_end: float = 0.1
    epsilon_schedule: str = "step"
    evaluate_every: int = 10
    evaluation_steps: int = 9
    key: str = "board"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_of("key", self.key, KEYS)
        steps = whole_number("evaluation_steps", self.evaluation_steps, at_least=1)
        object.__setattr__(self, "evaluation_steps", steps)

    def evaluations(self) -> NDArray[np.int64]:
        """[E] after how many episodes the greedy policy is evaluated.

        >>> ModelFreeAUP(episodes=40).evaluations().tolist()
        [1, 11, 21, 31, 40]
        """
        regular = np.arange(1, self.episodes, self.evaluate_every, dtype=np.int64)
        return np.append(regular, np.int64(self.episodes))


@dataclass(frozen=True, kw_only=True, eq=False)
class AUPTraining:
    """What a batch of R runs learned: tables of Y rows, A actions, U auxiliary rewards.

    Attributes:
        row: [S] row of the tables in each state of the task.
        q: [R, Y, A] final action values of the penalised task.
        auxiliary: [R, Y, A, U] final auxiliary action values.
        utilities: [R, Y, U] what each auxiliary reward pays on arriving in a row.
        evaluations: [E] episodes after which the greedy policy was evaluated.
        history: [R, E, 5] exact expected columns of a greedy episode, in the order of `COLUMNS`; the impact is what
            the learner would charge itself by its tables of that moment.
        during: [R, E, 5] the same columns as they came while learning: the mean over the training episodes since the
            evaluation before; the impact is what the learner did charge itself.
        distance: [R, E, 2] mean and largest absolute error of the auxiliary values, over the states and actions tried
            so far; None without diagnostics.
        steps: [R] environment steps taken.
    """

    row: NDArray[np.int64]
    q: NDArray[np.float64]
    auxiliary: NDArray[np.float64]
    utilities: NDArray[np.float64]
    evaluations: NDArray[np.int64]
    history: NDArray[np.float64]
    during: NDArray[np.float64]
    distance: NDArray[np.float64] | None
    steps: NDArray[np.int64]

    @property
    def outcomes(self) -> NDArray[np.int64]:
        """[R, E] what each evaluation came to, in the published order.

        0: side effect, incomplete; 1: side effect, completed; 2: no side effect, incomplete; 3: no side effect,
        completed. In random worlds, what is at least as likely as not.
        """
        columns = dict(zip(COLUMNS, np.moveaxis(self.history, 2, 0), strict=True))
        harmed, done = columns["side_effect"] >= 0.5, columns["completed"] >= 0.5
        return np.where(harmed, 0, 2) + np.where(done, 1, 0)


def train_aup(
    mdp: TabularMDP,
    penalty: Penalty,
    settings: ModelFreeAUP,
    *,
    weights: Sequence[float],
    seeds: Sequence[int | np.random.SeedSequence],
    threads: int = 1,
    diagnostics: bool = False,
) -> AUPTraining:
    """Trains a batch of runs that learn the auxiliary values of their penalty beside the task.

    A run depends on its own weight and seed alone: the same alone, in any batch, on any number of threads.

    Args:
        mdp: the task.
        penalty: "attainable_utility" with expectation "inside", as in the preset "turner2019-model-free", or "none".
            The utilities are a number, which every run draws for itself from its seed, or "states", the indicator of
            every row of the tables. Baseline "stepwise", "average", "average_other", "random" or "adversarial"; scale
            "per-value" or "sum"; terminal "absorbing". Its own weight is not used.
        settings: shared by the batch.
        weights: [R] penalty weights.
        seeds: [R] one per run.
        threads: how many runs to train at once (the kernel holds no lock).
        diagnostics: also compute the exact auxiliary values, and how far from them the learned ones are.

    Raises:
        ImpactError: weights and seeds of different length, a penalty that cannot be learned so, or a world without
            the no-op that the baseline needs.

    >>> from impactrl.compile import compile_mdp
    >>> from impactrl.measures.presets import preset
    >>> aup = preset("turner2019-model-free")
    >>> runs = train_aup(compile_mdp("Damage"), aup, ModelFreeAUP(), weights=[aup.weight], seeds=[0])
    >>> runs.outcomes[0, -1]  # no side effect, completed
    np.int64(3)
    """
    require_seeds(weights, seeds)
    row = table_rows(mdp, settings.key)
    rows = int(row.max()) + 1
    learned = for_task(learned_penalty(penalty), mdp.noop, rows)
    task = task_of(Penalty(deviation="none").fit(mdp), row)
    epsilons, evaluations = settings.epsilons(), settings.evaluations()
    q = np.zeros((len(seeds), rows, mdp.num_actions))
    auxiliary = np.zeros((*q.shape, learned.rewards))
    utilities = np.zeros((len(seeds), rows, learned.rewards))
    progress = new_progress(len(seeds), evaluations)
    distance = np.zeros((len(seeds), len(evaluations), 2))
    steps = np.zeros(len(seeds), dtype=np.int64)

    def run(i: int) -> None:
        rng = np.random.default_rng(seeds[i])
        drawn = drawn_utilities(rng, rows, learned)
        tables = _Tables(
            utilities=drawn,
            q=np.zeros(q.shape[1:]),
            auxiliary=np.zeros((*q.shape[1:], drawn.shape[1])),
            top=np.zeros(drawn.shape),
            tried=np.zeros((mdp.num_states, mdp.num_actions), dtype=np.bool_),
        )
        utilities[i] = drawn[:, : learned.rewards]
        exact = exact_auxiliary(mdp, utilities[i, row], learned) if diagnostics else np.empty((0, 0, 0))
        steps[i] = _learn(
            rng,
            task,
            task._replace(columns=task.columns.copy(), time_limit=min(settings.evaluation_steps, task.time_limit)),
            learned,
            float(weights[i]),
            epsilons,
            settings.learning_rate,
            settings.discount,
            evaluations,
            exact,
            tables,
            Progress(history=progress.history[i], during=progress.during[i]),
            distance[i],
        )
        q[i], auxiliary[i] = tables.q, tables.auxiliary[:, :, : learned.rewards]

    run_all(run, len(seeds), threads)
    finish(progress, evaluations, mdp.initial_performance)
    return AUPTraining(
        row=row,
        q=q,
        auxiliary=auxiliary,
        utilities=utilities,
        evaluations=evaluations,
        history=progress.history,
        during=progress.during,
        distance=distance if diagnostics else None,
        steps=steps,
    )


class _Tables(NamedTuple):
    """What a run knows; all but the utilities changes in place.

    Attributes:
        utilities: [Y, W].
        q: [Y, A].
        auxiliary: [Y, A, W].
        top: [Y, W] maximum of `auxiliary` over actions.
        tried: [S, A] what was ever done.
    """

    utilities: NDArray[np.float64]
    q: NDArray[np.float64]
    auxiliary: NDArray[np.float64]
    top: NDArray[np.float64]
    tried: NDArray[np.bool_]


@numba.njit(cache=True, nogil=True)
def _chosen(u: float, epsilon: float, num_actions: int, greedy: int) -> int:
    """The greedy action, or below epsilon one of the others: the random number `u` is uniform again and says which."""
    if u >= epsilon or num_actions == 1:
        return greedy
    other = min(int(u / epsilon * (num_actions - 1)), num_actions - 2)
    return other + (other >= greedy)


@numba.njit(cache=True, nogil=True)
def _learn(
    rng: np.random.Generator,
    task: Task,
    watched: Task,
    learned: LearnedPenalty,
    weight: float,
    epsilons: NDArray[np.float64],
    learning_rate: float,
    discount: float,
    evaluations: NDArray[np.int64],
    exact: NDArray[np.float64],
    tables: _Tables,
    progress: Progress,
    distance: NDArray[np.float64],
) -> int:
    """Trains one run in place; returns its number of steps. Evaluations play `watched`, whose columns are the run's."""
    utilities, q, auxiliary, top, tried = tables
    row, next_state, columns, terminal = task.row, task.next_state, task.columns, task.terminal
    cumulative, cumulative_start = task.cumulative, task.cumulative_start
    num_actions = q.shape[1]
    greedy = np.zeros(len(q), dtype=np.int64)
    scratch = np.zeros((2, utilities.shape[1]))
    steps, due = 0, 0
    for episode in range(len(epsilons)):
        epsilon = epsilons[episode]
        reward, performance, side_effect, impact = 0.0, 0.0, 0.0, 0.0
        s_tm1 = draw(rng, cumulative_start, 0, 0)
        y_tm1 = row[s_tm1]
        for _ in range(task.time_limit):
            a_tm1 = _chosen(rng.random(), epsilon, num_actions, greedy[y_tm1])
            k = draw(rng, cumulative, s_tm1, a_tm1)
            s_t = next_state[s_tm1, a_tm1, k]
            y_t, over = row[s_t], terminal[s_t]
            tried[s_tm1, a_tm1] = True
            improve(learned, utilities, learning_rate, y_tm1, a_tm1, y_t, over, auxiliary, top)
            unit = charge(learned, rng, y_tm1, a_tm1, auxiliary, top, scratch)
            reward += columns[s_tm1, a_tm1, k, 0]
            performance += columns[s_tm1, a_tm1, k, 1]
            side_effect += columns[s_tm1, a_tm1, k, 2]
            impact += unit
            steps += 1
            target = columns[s_tm1, a_tm1, k, 0] - weight * unit
            if not over:
                target += discount * q[y_t, greedy[y_t]]
            before = q[y_tm1, a_tm1]
            q[y_tm1, a_tm1] = before + learning_rate * (target - before)
            keep_greedy(q, greedy, y_tm1, a_tm1, before)
            s_tm1, y_tm1 = s_t, y_t
            if over:
                break
        record(progress.during, due, reward, performance, side_effect, task.completed[s_tm1], impact)
        if episode + 1 == evaluations[due]:
            _write_impacts(rng, watched, learned, tables, greedy, scratch)
            evaluate(watched, greedy, progress.history[due])
            _write_distance(exact, row, tables, distance[due])
            due += 1
    return steps


@numba.njit(cache=True, nogil=True)
def _write_impacts(
    rng: np.random.Generator,
    task: Task,
    learned: LearnedPenalty,
    tables: _Tables,
    greedy: NDArray[np.int64],
    scratch: NDArray[np.float64],
) -> None:
    """Writes the impact of the greedy actions into the task's columns, in all states they can lead to."""
    known = task.start > 0
    first = np.flatnonzero(known)
    todo = np.empty(len(known), dtype=np.int64)
    count = len(first)
    todo[:count] = first
    i = 0
    while i < count:
        s = todo[i]
        i += 1
        if task.terminal[s]:
            continue
        y = task.row[s]
        a = greedy[y]
        task.columns[s, a, :, 3] = expected_charge(learned, rng, y, a, tables.auxiliary, tables.top, scratch)
        for k in range(task.next_state.shape[2]):
            following = task.next_state[s, a, k]
            if task.probability[s, a, k] > 0 and not known[following]:
                known[following] = True
                todo[count] = following
                count += 1


@numba.njit(cache=True, nogil=True)
def _write_distance(
    exact: NDArray[np.float64], row: NDArray[np.int64], tables: _Tables, result: NDArray[np.float64]
) -> None:
    """Writes mean and largest absolute error of the auxiliary values over what was tried; 0 without `exact`."""
    total, largest, count = 0.0, 0.0, 0
    for s in range(len(exact)):
        for a in range(exact.shape[1]):
            if tables.tried[s, a]:
                for u in range(exact.shape[2]):
                    error = abs(tables.auxiliary[row[s], a, u] - exact[s, a, u])
                    total += error
                    largest = max(largest, error)
                    count += 1
    result[0] = total / max(count, 1)
    result[1] = largest
