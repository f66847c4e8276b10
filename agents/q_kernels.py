"""The compiled loops of Q-learning: a tight one for the plain algorithm, and one for its variants."""

import numba
import numpy as np
from numpy.typing import NDArray

from impactrl.agents.tabular import (
    Progress,
    Schedules,
    Task,
    chosen,
    draw,
    evaluate,
    greedy_action,
    keep_greedy,
    record,
)

__all__ = ["ALGORITHMS", "learn", "learn_variant"]

ALGORITHMS = ("q_learning", "sarsa", "expected_sarsa", "double_q")
Q_LEARNING, SARSA, EXPECTED_SARSA, DOUBLE_Q = range(4)


@numba.njit(cache=True, nogil=True)
def learn(
    rng: np.random.Generator,
    task: Task,
    schedules: Schedules,
    weight: float,
    discount: float,
    q: NDArray[np.float64],
    progress: Progress,
) -> int:
    """Q-learning of one run (Watkins 1989), in place; returns its number of steps.

    Args:
        rng: one number per step decides whether to explore and, where it does, what to do.
        task: what is played.
        schedules: with `power` 0.
        weight: of the penalty.
        discount: of the penalised reward.
        q: [Y, A], all entries alike at first.
        progress: zeros.
    """
    num_actions = q.shape[1]
    row, next_state, cumulative, terminal = task.row, task.next_state, task.cumulative, task.terminal
    columns = task.columns
    greedy = np.zeros(len(q), dtype=np.int64)
    steps = 0
    due = 0
    for episode in range(len(schedules.epsilon)):
        epsilon, rate = schedules.epsilon[episode], schedules.rate[episode]
        strength = weight * schedules.factor[episode] / (1 + schedules.evidence * steps)
        reward, performance, side_effect, impact = 0.0, 0.0, 0.0, 0.0
        x_tm1 = draw(rng, task.cumulative_start, 0, 0)
        y_tm1 = row[x_tm1]
        for _ in range(task.time_limit):
            a_tm1 = chosen(rng.random(), epsilon, num_actions, greedy[y_tm1])
            k = draw(rng, cumulative, x_tm1, a_tm1)
            x_t = next_state[x_tm1, a_tm1, k]
            y_t = row[x_t]
            over = terminal[x_t]
            reward += columns[x_tm1, a_tm1, k, 0]
            performance += columns[x_tm1, a_tm1, k, 1]
            side_effect += columns[x_tm1, a_tm1, k, 2]
            impact += columns[x_tm1, a_tm1, k, 3]
            steps += 1
            target = columns[x_tm1, a_tm1, k, 0] - strength * columns[x_tm1, a_tm1, k, 3]
            if not over:
                target += discount * q[y_t, greedy[y_t]]
            before = q[y_tm1, a_tm1]
            q[y_tm1, a_tm1] = before + rate * (target - before)
            keep_greedy(q, greedy, y_tm1, a_tm1, before)
            x_tm1, y_tm1 = x_t, y_t
            if over:
                break
        record(progress.during, due, reward, performance, side_effect, task.completed[x_tm1], impact)
        if episode + 1 == schedules.evaluations[due]:
            evaluate(task, greedy, progress.history[due])
            due += 1
    return steps


@numba.njit(cache=True, nogil=True)
def learn_variant(
    rng: np.random.Generator,
    task: Task,
    schedules: Schedules,
    weight: float,
    discount: float,
    algorithm: int,
    trace_decay: float,
    tables: NDArray[np.float64],
    progress: Progress,
) -> int:
    """Any of `ALGORITHMS` of one run, in place; returns its number of steps.

    Without traces, Q-learning takes the same steps here as in `learn`. Sarsa, and whatever has traces, choose the next
    action before they update.

    Args:
        rng: as in `learn`; double Q-learning draws one more number per step, for the table to update.
        task: what is played.
        schedules: may have a `power`.
        weight: of the penalty.
        discount: of the penalised reward.
        algorithm: its place in `ALGORITHMS`.
        trace_decay: lambda of replacing traces (Singh & Sutton 1996); those of Q-learning are cut where the agent
            explores (Watkins 1989).
        tables: [1, Y, A], or [3, Y, A] for double Q-learning (van Hasselt 2010): the sum of the two, which the agent
            acts on, and the two.
        progress: zeros.
    """
    q = tables[0]
    num_actions = q.shape[1]
    row, next_state, cumulative, terminal = task.row, task.next_state, task.cumulative, task.terminal
    columns = task.columns
    visits = np.zeros(tables.shape)
    greedy = np.zeros(len(q), dtype=np.int64)
    ahead = algorithm == SARSA or trace_decay > 0
    # The pairs that have a trace: where, and how much is left of it.
    traced_y, traced_a = np.empty(task.time_limit, dtype=np.int64), np.empty(task.time_limit, dtype=np.int64)
    trace = np.empty(task.time_limit)
    steps = 0
    due = 0
    for episode in range(len(schedules.epsilon)):
        epsilon, rate = schedules.epsilon[episode], schedules.rate[episode]
        strength = weight * schedules.factor[episode] / (1 + schedules.evidence * steps)
        reward, performance, side_effect, impact = 0.0, 0.0, 0.0, 0.0
        num_traced = 0
        x_tm1 = draw(rng, task.cumulative_start, 0, 0)
        y_tm1 = row[x_tm1]
        a_tm1 = chosen(rng.random(), epsilon, num_actions, greedy[y_tm1])
        for t in range(task.time_limit):
            k = draw(rng, cumulative, x_tm1, a_tm1)
            x_t = next_state[x_tm1, a_tm1, k]
            y_t = row[x_t]
            over = terminal[x_t]
            reward += columns[x_tm1, a_tm1, k, 0]
            performance += columns[x_tm1, a_tm1, k, 1]
            side_effect += columns[x_tm1, a_tm1, k, 2]
            impact += columns[x_tm1, a_tm1, k, 3]
            steps += 1
            target = columns[x_tm1, a_tm1, k, 0] - strength * columns[x_tm1, a_tm1, k, 3]
            a_t = 0
            if ahead and not over:
                a_t = chosen(rng.random(), epsilon, num_actions, greedy[y_t])
            table = 0
            if algorithm == DOUBLE_Q:
                table = 1 + int(rng.random() < 0.5)
            cut = trace_decay == 0
            if not over:
                value = q[y_t, greedy[y_t]]
                cut = cut or (algorithm == Q_LEARNING and q[y_t, a_t] < value)
                if algorithm == SARSA:
                    value = q[y_t, a_t]
                elif algorithm == EXPECTED_SARSA:
                    total = 0.0
                    for a in range(num_actions):
                        total += q[y_t, a]
                    value = (1 - epsilon) * value + epsilon * total / num_actions
                elif algorithm == DOUBLE_Q:
                    value = tables[3 - table, y_t, greedy_action(tables[table], y_t)]
                target += discount * value
            error = target - tables[table, y_tm1, a_tm1]
            visits[table, y_tm1, a_tm1] += 1
            place = 0
            while place < num_traced and (traced_y[place] != y_tm1 or traced_a[place] != a_tm1):
                place += 1
            traced_y[place], traced_a[place], trace[place] = y_tm1, a_tm1, 1.0
            num_traced = max(num_traced, place + 1)
            for i in range(num_traced):
                y, a = traced_y[i], traced_a[i]
                before = q[y, a]
                step = rate if schedules.power == 0 else rate / visits[table, y, a] ** schedules.power
                tables[table, y, a] += step * error * trace[i]
                if algorithm == DOUBLE_Q:
                    q[y, a] = tables[1, y, a] + tables[2, y, a]
                keep_greedy(q, greedy, y, a, before)
                trace[i] *= discount * trace_decay
            if cut:
                num_traced = 0
            if not ahead and not over and t + 1 < task.time_limit:
                a_t = chosen(rng.random(), epsilon, num_actions, greedy[y_t])
            x_tm1, y_tm1, a_tm1 = x_t, y_t, a_t
            if over:
                break
        record(progress.during, due, reward, performance, side_effect, task.completed[x_tm1], impact)
        if episode + 1 == schedules.evaluations[due]:
            evaluate(task, greedy, progress.history[due])
            due += 1
    return steps
