"""Tabular Q-learning under a penalty, as one compiled kernel per run; runs of a batch share the fitted arrays."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from impactrl.dynamic_programming import episode_columns
from impactrl.errors import ImpactError, real_number, require_one_of, whole_number
from impactrl.measures.impact import COLUMNS, Impact

__all__ = ["EPSILON_SCHEDULES", "QLearning", "Training", "train"]

EPSILON_SCHEDULES = ("linear", "exponential", "step")


@dataclass(frozen=True, kw_only=True)
class QLearning:
    """Settings of Q-learning on the product of state and baseline.

    Attributes:
        episodes: of training, each cut off at the level's time limit (without calling that an end).
        learning_rate: in (0, 1].
        discount: of the penalised reward, in [0, 1].
        epsilon_start: share of random actions in the first episode.
        epsilon_end: and in the last.
        epsilon_schedule: how it gets there: "linear"; "exponential"; or "step", the first value for two thirds of
            the episodes, then the last (Turner et al. 2020 explore with 0.8, then 0.1).
        evaluate_every: episodes between greedy evaluations; the last episode is always followed by one.
    """

    episodes: int = 2000
    learning_rate: float = 0.1
    discount: float = 0.99
    epsilon_start: float = 1.0
    epsilon_end: float = 0.0
    epsilon_schedule: str = "linear"
    evaluate_every: int = 100

    def __post_init__(self) -> None:
        require_one_of("epsilon_schedule", self.epsilon_schedule, EPSILON_SCHEDULES)
        for name in ("episodes", "evaluate_every"):
            object.__setattr__(self, name, whole_number(name, getattr(self, name), at_least=1))
        for name in ("learning_rate", "discount", "epsilon_start", "epsilon_end"):
            object.__setattr__(self, name, real_number(name, getattr(self, name)))
        for name in ("discount", "epsilon_start", "epsilon_end"):
            if not 0 <= getattr(self, name) <= 1:
                raise ImpactError(f"{name} must be in [0, 1], not {getattr(self, name)}")
        if not 0 < self.learning_rate <= 1:
            raise ImpactError(f"learning_rate must be in (0, 1], not {self.learning_rate}")
        if self.epsilon_schedule == "exponential" and min(self.epsilon_start, self.epsilon_end) == 0:
            raise ImpactError("an exponential schedule never reaches 0; give an epsilon_end above 0")

    def epsilons(self) -> NDArray[np.float64]:
        """[episodes] the share of random actions in each.

        >>> QLearning(episodes=3).epsilons().tolist()
        [1.0, 0.5, 0.0]
        """
        if self.epsilon_schedule == "linear":
            return np.linspace(self.epsilon_start, self.epsilon_end, self.episodes)
        if self.epsilon_schedule == "exponential":
            return np.geomspace(self.epsilon_start, self.epsilon_end, self.episodes)
        first = np.arange(self.episodes) < 2 * self.episodes / 3
        return np.where(first, self.epsilon_start, self.epsilon_end)

    def evaluations(self) -> NDArray[np.int64]:
        """[E] after how many episodes the greedy policy is evaluated.

        >>> QLearning(episodes=250, evaluate_every=100).evaluations().tolist()
        [100, 200, 250]
        """
        regular = np.arange(self.evaluate_every, self.episodes, self.evaluate_every, dtype=np.int64)
        return np.append(regular, np.int64(self.episodes))


@dataclass(frozen=True, kw_only=True, eq=False)
class Training:
    """What a batch of R runs learned.

    Attributes:
        q: [R, X, A] final action values.
        evaluations: [E] episodes after which the greedy policy was evaluated.
        history: [R, E, 5] exact expected columns of a greedy episode, in the order of `COLUMNS`.
        steps: [R] environment steps taken.
    """

    q: NDArray[np.float64]
    evaluations: NDArray[np.int64]
    history: NDArray[np.float64]
    steps: NDArray[np.int64]


def train(
    impact: Impact,
    settings: QLearning,
    *,
    weights: Sequence[float],
    seeds: Sequence[int | np.random.SeedSequence],
    threads: int = 1,
) -> Training:
    """Trains a batch of runs on one fitted penalty.

    A run depends on its own weight and seed alone: the same alone, in any batch, on any number of threads.

    Args:
        impact: the fitted penalty; its own weight is not used.
        settings: shared by the batch.
        weights: [R] penalty weights.
        seeds: [R] one per run.
        threads: how many runs to train at once (the kernel holds no lock).

    Raises:
        ImpactError: weights and seeds of different length.
    """
    if len(weights) != len(seeds):
        raise ImpactError(f"one weight and one seed per run: got {len(weights)} weights, {len(seeds)} seeds")
    mdp = impact.mdp
    epsilons, evaluations = settings.epsilons(), settings.evaluations()
    completed = mdp.completed.astype(np.float64)
    q = np.zeros((len(seeds), mdp.num_states, mdp.num_actions))
    history = np.zeros((len(seeds), len(evaluations), 5))
    steps = np.zeros(len(seeds), dtype=np.int64)
    cumulative, cumulative_start = mdp.probability.cumsum(axis=2), mdp.start.cumsum()
    columns = impact.columns

    def run(i: int) -> None:
        own = np.zeros(q.shape[1:])  # not a view of q: neighbouring runs would share cache lines between threads
        steps[i] = _learn(
            np.random.default_rng(seeds[i]),
            mdp.next_state,
            cumulative,
            impact.penalised_reward(weights[i]),
            mdp.terminal,
            cumulative_start,
            mdp.time_limit,
            epsilons,
            settings.learning_rate,
            settings.discount,
            evaluations,
            (mdp.probability, columns, mdp.start, completed),
            own,
            history[i],
        )
        q[i] = own

    if threads == 1:
        for i in range(len(seeds)):
            run(i)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(run, range(len(seeds))))
    history[:, :, COLUMNS.index("performance")] += mdp.initial_performance
    return Training(q=q, evaluations=evaluations, history=history, steps=steps)


@numba.njit(cache=True, nogil=True, inline="always")
def _best(values: NDArray[np.float64]) -> int:
    """Index of the largest value, the lowest one of equals."""
    best = 0
    for a in range(1, len(values)):
        if values[a] > values[best]:
            best = a
    return best


@numba.njit(cache=True, nogil=True, inline="always")
def _draw(rng: np.random.Generator, cumulative: NDArray[np.float64]) -> int:
    """An index with the given cumulative probabilities; no random number where there is one."""
    last = len(cumulative) - 1
    if last == 0:
        return 0
    u = rng.random() * cumulative[last]
    k = 0
    while k < last and u >= cumulative[k]:
        k += 1
    return k


@numba.njit(cache=True, nogil=True)
def _learn(
    rng: np.random.Generator,
    next_state: NDArray[np.int32],
    cumulative: NDArray[np.float64],
    reward: NDArray[np.float64],
    terminal: NDArray[np.bool_],
    cumulative_start: NDArray[np.float64],
    time_limit: int,
    epsilons: NDArray[np.float64],
    learning_rate: float,
    discount: float,
    evaluations: NDArray[np.int64],
    evaluation: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
    q: NDArray[np.float64],
    history: NDArray[np.float64],
) -> int:
    """Trains one run in place; returns its number of steps.

    One random number decides whether to explore and, where it does, what to do: below epsilon it is uniform again.
    """
    probability, columns, start, completed = evaluation
    num_actions = q.shape[1]
    steps = 0
    due = 0
    for episode in range(len(epsilons)):
        epsilon = epsilons[episode]
        s_tm1 = _draw(rng, cumulative_start)
        greedy = _best(q[s_tm1])
        for _ in range(time_limit):
            u = rng.random()
            a_tm1 = min(int(u / epsilon * num_actions), num_actions - 1) if u < epsilon else greedy
            k = _draw(rng, cumulative[s_tm1, a_tm1])
            s_t = next_state[s_tm1, a_tm1, k]
            target = reward[s_tm1, a_tm1, k]
            steps += 1
            if terminal[s_t]:
                q[s_tm1, a_tm1] += learning_rate * (target - q[s_tm1, a_tm1])
                break
            greedy = _best(q[s_t])
            target += discount * q[s_t, greedy]
            q[s_tm1, a_tm1] += learning_rate * (target - q[s_tm1, a_tm1])
            if s_t == s_tm1:
                greedy = _best(q[s_t])
            s_tm1 = s_t
        if episode + 1 == evaluations[due]:
            policy = np.empty((1, len(q)), dtype=np.int64)
            for s in range(len(q)):
                policy[0, s] = _best(q[s])
            sums, last = episode_columns(next_state, probability, columns, terminal, start, policy, time_limit)
            history[due, 0] = sums[0]
            history[due, 1] = sums[1]
            history[due, 2] = sums[2]
            history[due, 3] = (last * completed).sum()
            history[due, 4] = sums[3]
            due += 1
    return steps
