"""The compiled loop of an agent that learns its own impact: a model of the transitions seen, and charges read from it.

The model is that of a deterministic world: every transition seen is one that the agent can choose.
"""

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from impactrl.agents.tabular import Progress, Schedules, Task, chosen, draw, evaluate, keep_greedy, record

__all__ = ["BASELINES", "DEVIATIONS", "Measure", "Model", "Places", "learn_impact", "new_model"]

DEVIATIONS = ("none", "unreachability", "relative_reachability", "attainable_utility")
NONE, UNREACHABILITY, RELATIVE_REACHABILITY, ATTAINABLE_UTILITY = range(4)
BASELINES = ("start", "inaction", "stepwise")
START, INACTION, STEPWISE = range(3)
UNSEEN, LEFT = -2, -1  # what an action leads to: not yet known; out of the graph
NEGLIGIBLE = 1e-17  # weight of what is left of a rollout
ZERO = 1e-9  # a value of the baseline below this scales by 1, as in `Penalty`


class Measure(NamedTuple):
    """How states are compared; the fields of a `Penalty` as numbers. N nodes, U utilities.

    Attributes:
        deviation: place in `DEVIATIONS`.
        baseline: place in `BASELINES`.
        summary: place in `SUMMARIES`; any where there is none.
        scale: place in `VALUE_SCALES`.
        factor: on every deviation.
        rollout: discount of inaction rollouts; 0 for none.
        nonterminal_weight: factor on every step that does not end the episode.
        time_limit_ends: whether the step at which an episode is cut off is charged like one that ends it.
        discount: of utilities.
        powers: [N + 1] discount of each distance, 0 for the last, which stands for no path.
        utilities: [U, N].
    """

    deviation: int
    baseline: int
    summary: int
    scale: int
    factor: float
    rollout: float
    nonterminal_weight: float
    time_limit_ends: bool
    discount: float
    powers: NDArray[np.float64]
    utilities: NDArray[np.float64]


class Places(NamedTuple):
    """Where the agent is, for the measure: X states of the task it plays, N nodes, A actions.

    Attributes:
        node: [X] node of each state, -1 where it is no state of the measure.
        noop: index of the no-op, -1 for none.
        learns_noop: whether its results have to be seen first.
        live: how many nodes have actions.
        exact: the table that is learned, as it is in truth: [N, N] reachability or [N, U] attainable utilities.
    """

    node: NDArray[np.int64]
    noop: int
    learns_noop: bool
    live: int
    exact: NDArray[np.float64]


class Model(NamedTuple):
    """What was seen so far, and what follows from it; changed in place.

    Attributes:
        successor: [N, A] node that each action leads to, or `UNSEEN` or `LEFT`.
        seen: [N] whether the agent was there.
        noop: [N] what doing nothing leads to; the node itself where that was never tried.
        distance: [N, N] int32, fewest seen steps; N where there is no path, also from what was not seen to itself.
        choice: [U, N] best seen successor for each utility, -1 where none was seen.
        values: [U, N] attainable utilities.
    """

    successor: NDArray[np.int64]
    seen: NDArray[np.bool_]
    noop: NDArray[np.int64]
    distance: NDArray[np.int32]
    choice: NDArray[np.int64]
    values: NDArray[np.float64]


def new_model(size: int, num_actions: int, measure: Measure, noop: NDArray[np.int64]) -> Model:
    """A model of nothing; `noop` is what the agent takes doing nothing to lead to at first."""
    reaches = measure.deviation in (UNREACHABILITY, RELATIVE_REACHABILITY)
    paths = (size, size) if reaches else (0, 0)
    return Model(
        successor=np.full((size, num_actions), UNSEEN),
        seen=np.zeros(size, dtype=np.bool_),
        noop=noop.copy(),
        distance=np.full(paths, size, dtype=np.int32),
        choice=np.full(measure.utilities.shape, -1),
        values=measure.utilities.copy(),
    )


@numba.njit(cache=True, nogil=True)
def see_state(model: Model, node: int) -> None:
    """Takes note of a node."""
    model.seen[node] = True
    if len(model.distance):
        model.distance[node, node] = 0


@numba.njit(cache=True, nogil=True)
def see_transition(model: Model, measure: Measure, node: int, action: int, successor: int, is_noop: bool) -> None:
    """Takes note of a transition that was not known, and of all that follows from it.

    Args:
        model: changed in place; node and successor are seen.
        measure: says which values are of interest.
        node: that was left.
        action: that was taken.
        successor: node, or `LEFT`.
        is_noop: whether the agent learns from this what doing nothing leads to.
    """
    model.successor[node, action] = successor
    if is_noop and successor >= 0:
        model.noop[node] = successor
    if successor < 0:
        return
    if len(model.distance):
        shorten(model.distance, node, successor)
    for u in range(len(model.values)):
        improve(
            model.values[u], model.choice[u], measure.utilities[u], model.successor, measure.discount, node, successor
        )


@numba.njit(cache=True, nogil=True)
def shorten(distance: NDArray[np.int32], tail: int, head: int) -> None:
    """Fewest steps between all nodes once there is an edge from tail to head: O(N^2), where there was none before.

    `d(x, y) = min(d(x, y), d(x, tail) + 1 + d(head, y))`.
    """
    size = len(distance)
    onward = distance[head].copy()
    for x in range(size):
        first = distance[x, tail] + 1
        if first < distance[x, head]:  # else nothing behind the edge is nearer than before
            for y in range(size):
                distance[x, y] = min(distance[x, y], first + onward[y])


@numba.njit(cache=True, nogil=True)
def improve(
    values: NDArray[np.float64],
    choice: NDArray[np.int64],
    utility: NDArray[np.float64],
    successor: NDArray[np.int64],
    discount: float,
    tail: int,
    head: int,
) -> None:
    """The best values of a utility once there is an edge from tail to head: policy iteration (Howard 1960).

    `V(x) = u(x) + discount * max V(seen successors of x)`; u(x) where none was seen. Before the edge was there,
    `values` and `choice` were optimal.
    """
    tolerance = 1e-13 * (1 + np.abs(utility).max()) / (1 - discount)  # above rounding, lest equals take turns
    if choice[tail] >= 0 and values[head] <= values[choice[tail]] + tolerance:
        return
    choice[tail] = head
    better = True
    while better:
        follow(values, choice, utility, discount)
        better = False
        for x in range(len(values)):
            for a in range(successor.shape[1]):
                y = successor[x, a]
                if y >= 0 and values[y] > values[choice[x]] + tolerance:
                    choice[x] = y
                    better = True


@numba.njit(cache=True, nogil=True)
def follow(
    values: NDArray[np.float64], choice: NDArray[np.int64], utility: NDArray[np.float64], discount: float
) -> None:
    """The values of always going on as `choice` says: exact, along paths into ends or cycles."""
    size = len(values)
    known = np.zeros(size, dtype=np.int8)  # 1: on the path that is being followed, 2: has its value
    path = np.empty(size, dtype=np.int64)
    for first in range(size):
        length, x = 0, first
        while x >= 0 and known[x] == 0:
            known[x] = 1
            path[length] = x
            length += 1
            x = choice[x]
        if x >= 0 and known[x] == 1:  # a cycle: its sum, for ever
            total, power, y = utility[x], discount, choice[x]
            while y != x:
                total += power * utility[y]
                power *= discount
                y = choice[y]
            values[x] = total / (1 - power)
            known[x] = 2
        for i in range(length - 1, -1, -1):
            y = path[i]
            if known[y] == 1:
                values[y] = utility[y] + (discount * values[choice[y]] if choice[y] >= 0 else 0.0)
                known[y] = 2


@numba.njit(cache=True, nogil=True)
def deviation_of(model: Model, measure: Measure, node: int, reference: int, num_seen: int) -> float:
    """D of a pair of nodes by what was seen; reachability is averaged over the states seen."""
    if measure.deviation == UNREACHABILITY:
        return measure.factor * _unreachable(model, measure, node, reference)
    if measure.deviation == RELATIVE_REACHABILITY:
        size, count = len(model.distance), num_seen
    else:
        size = count = len(model.values)
    here, there = np.zeros(size), np.zeros(size)
    _add_rollout(model, measure, node, here)
    _add_rollout(model, measure, reference, there)
    total, units = 0.0, 0.0
    for k in range(size):
        d = there[k] - here[k]
        if measure.summary == 0:
            d = max(d, 0.0)
        elif measure.summary == 1:
            d = max(-d, 0.0)
        else:
            d = abs(d)
        if measure.scale == 1 and abs(there[k]) > ZERO:
            d /= abs(there[k])
        total += d
        units += abs(there[k])
    if measure.scale == 2:
        return measure.factor * total / (units if units > ZERO else 1.0)
    return measure.factor * total / count


@numba.njit(cache=True, nogil=True)
def _add_rollout(model: Model, measure: Measure, node: int, values: NDArray[np.float64]) -> None:
    """Adds `(1 - g) sum_j g^j V(S_j)` along the no-ops from a node; without a rollout, V of the node."""
    power = 1.0
    while power > NEGLIGIBLE:
        rests = model.noop[node] == node
        weight = power if rests else (1 - measure.rollout) * power
        for k in range(len(values)):
            if measure.deviation == RELATIVE_REACHABILITY:
                values[k] += weight * measure.powers[model.distance[node, k]]
            else:
                values[k] += weight * model.values[k, node]
        if rests:
            break
        node = model.noop[node]
        power *= measure.rollout


@numba.njit(cache=True, nogil=True)
def _unreachable(model: Model, measure: Measure, node: int, reference: int) -> float:
    """`(1 - g) sum_j g^j (1 - R(S_j; B_j))` along parallel no-ops; without a rollout, of the pair."""
    total, power = 0.0, 1.0
    while power > NEGLIGIBLE:
        rests = model.noop[node] == node and model.noop[reference] == reference
        weight = power if rests else (1 - measure.rollout) * power
        total += weight * (1 - measure.powers[model.distance[node, reference]])
        if rests:
            break
        node, reference = model.noop[node], model.noop[reference]
        power *= measure.rollout
    return total


@numba.njit(cache=True, nogil=True)
def diagnose(
    model: Model, measure: Measure, places: Places, num_seen: int, num_tried: int, diagnostics: NDArray[np.float64]
) -> None:
    """Writes the first four of the diagnostics: shares of states and actions seen, mean and largest error."""
    size, num_actions = model.successor.shape
    diagnostics[0] = num_seen / size
    diagnostics[1] = num_tried / (places.live * num_actions)
    count = 0
    for x in range(size):
        for k in range(places.exact.shape[1]):
            if measure.deviation == ATTAINABLE_UTILITY:
                learned = model.values[k, x]
            else:
                learned = measure.powers[model.distance[x, k]]
            error = abs(learned - places.exact[x, k])
            diagnostics[2] += error
            diagnostics[3] = max(diagnostics[3], error)
            count += 1
    diagnostics[2] /= max(count, 1)


@numba.njit(cache=True, nogil=True)
def learn_impact(
    rng: np.random.Generator,
    task: Task,
    schedules: Schedules,
    weight: float,
    discount: float,
    measure: Measure,
    places: Places,
    model: Model,
    q: NDArray[np.float64],
    progress: Progress,
    diagnostics: NDArray[np.float64],
) -> int:
    """Q-learning of one run under charges from a model that is learned on the way; returns its number of steps.

    In every step the transition is taken note of, then the charge is read from what is known, then the action value is
    updated. Random numbers are used as in `q_kernels.learn`.

    Args:
        rng: of the run.
        task: what is played.
        schedules: with `power` 0.
        weight: of the penalty.
        discount: of the penalised reward.
        measure: of the penalty.
        places: where states are in the measure.
        model: new; changed in place.
        q: [Y, A] zeros; changed in place.
        progress: zeros; filled in. Columns of impact are the exact ones.
        diagnostics: [E, 5] zeros; filled in.
    """
    num_actions, size = q.shape[1], len(model.seen)
    row, next_state, cumulative, terminal = task.row, task.next_state, task.cumulative, task.terminal
    columns, node, successor, noop = task.columns, places.node, model.successor, model.noop
    greedy = np.zeros(len(q), dtype=np.int64)
    # Deviations of pairs that were looked at since the model changed last.
    cached, stamp = np.zeros((size, size)), np.zeros((size, size), dtype=np.int64)
    version, num_seen, num_tried = 1, 0, 0
    error, since = 0.0, 0
    steps = 0
    due = 0
    for episode in range(len(schedules.epsilon)):
        epsilon, rate = schedules.epsilon[episode], schedules.rate[episode]
        strength = weight * schedules.factor[episode] / (1 + schedules.evidence * steps)
        reward, performance, side_effect, impact = 0.0, 0.0, 0.0, 0.0
        x_tm1 = draw(rng, task.cumulative_start, 0, 0)
        y_tm1 = row[x_tm1]
        first, idle = node[x_tm1], terminal[x_tm1]  # an episode may begin where it ends, and then nothing is done
        if first >= 0 and not model.seen[first]:
            see_state(model, first)
            num_seen += 1
            version += 1
        inactive, left = first, first
        for t in range(task.time_limit):
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
            here, there = node[x_tm1], node[x_t]
            if not idle and successor[here, a_tm1] == UNSEEN:
                if there >= 0 and not model.seen[there]:
                    see_state(model, there)
                    num_seen += 1
                see_transition(model, measure, here, a_tm1, there, places.learns_noop and a_tm1 == places.noop)
                num_tried += 1
                version += 1
            charge = 0.0
            if not idle and measure.deviation != NONE:
                # The step that leaves the graph is charged for the pair before it.
                leaves = there < 0 or (measure.time_limit_ends and t + 1 == task.time_limit)
                judged, reference = here if leaves else there, first
                if measure.baseline == INACTION:
                    inactive = inactive if leaves else noop[inactive]
                    reference = inactive
                elif measure.baseline == STEPWISE and not leaves:
                    reference = noop[here]
                elif measure.baseline == STEPWISE:
                    reference = noop[left] if t > 0 else here
                left = here
                if stamp[judged, reference] != version:
                    stamp[judged, reference] = version
                    cached[judged, reference] = deviation_of(model, measure, judged, reference, num_seen)
                charge = cached[judged, reference] * (1.0 if over else measure.nonterminal_weight)
            error += abs(charge - columns[x_tm1, a_tm1, k, 3])
            since += 1
            target = columns[x_tm1, a_tm1, k, 0] - strength * charge
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
            diagnose(model, measure, places, num_seen, num_tried, diagnostics[due])
            diagnostics[due, 4] = error / since
            error, since = 0.0, 0
            due += 1
    return steps
