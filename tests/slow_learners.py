"""The tabular learners once more, with lists, dictionaries and loops, and the same random numbers."""

from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from impactrl.agents.q_learning import QLearning, Training
from impactrl.measures.impact import COLUMNS, Impact


class Slow(NamedTuple):
    """What one run of `slow_learner` learned; policies and rows of `during` are those at the evaluations."""

    q: NDArray[np.float64]
    policies: list[list[int]]
    during: list[list[float]]
    steps: int


def chance(rng: np.random.Generator, probabilities: list[float]) -> int:
    """An outcome; a number is drawn only where there is more than one."""
    if len(probabilities) == 1:
        return 0
    edges = list(accumulate(probabilities))
    u = rng.random() * edges[-1]
    return next((k for k, edge in enumerate(edges) if u < edge), len(edges) - 1)


def slow_learner(impact: Impact, settings: QLearning, weight: float, seed: int) -> Slow:
    """One run of any algorithm, without a budget."""
    mdp, rng = impact.mdp, np.random.default_rng(seed)
    chances, target, over = mdp.probability.tolist(), mdp.next_state.tolist(), mdp.terminal.tolist()
    paid = {name: getattr(mdp, name).tolist() for name in ("reward", "performance", "side_effect")}
    charge = impact.unit_penalty.tolist()
    row = (impact.state if settings.memory == "state" else np.arange(mdp.num_states)).tolist()
    actions, double = range(mdp.num_actions), settings.algorithm == "double_q"
    tables: list[list[list[float]]] = [
        [[settings.initial_value] * len(actions) for _ in range(max(row) + 1)] for _ in range(1 + double)
    ]
    visits: dict[tuple[int, int, int], int] = {}
    policies, during, episodes, num_steps = [], [], [], 0
    off_policy = settings.algorithm == "q_learning"
    ahead = settings.algorithm == "sarsa" or settings.trace_decay > 0

    def acts_on(y: int, a: int) -> float:
        return sum(table[y][a] for table in tables)

    def best(y: int, table: list[list[float]] | None = None) -> int:
        return max(actions, key=lambda a: (acts_on(y, a) if table is None else table[y][a], -a))

    def choice(y: int, epsilon: float) -> int:
        u = rng.random()
        return min(int(u / epsilon * len(actions)), len(actions) - 1) if u < epsilon else best(y)

    plan = zip(settings.epsilons().tolist(), settings.learning_rates().tolist(), settings.weight_factors(), strict=True)
    for episode, (epsilon, rate, factor) in enumerate(plan):
        strength = weight * float(factor)
        if settings.weight_half_life is not None:
            strength = strength / (1 + 1 / settings.weight_half_life * num_steps)
        sums = dict.fromkeys(COLUMNS, 0.0)
        traces: dict[tuple[int, int], float] = {}
        x = chance(rng, mdp.start.tolist())
        a = choice(row[x], epsilon)
        for t in range(mdp.time_limit):
            k = chance(rng, chances[x][a])
            z = target[x][a][k]
            for name, values in paid.items():
                sums[name] += values[x][a][k]
            sums["impact"] += charge[x][a][k]
            num_steps += 1
            b = choice(row[z], epsilon) if ahead and not over[z] else None
            which = int(rng.random() < 0.5) if double else 0
            goal, explores = paid["reward"][x][a][k] - strength * charge[x][a][k], False
            if not over[z]:
                y, greedy = row[z], best(row[z])
                if settings.algorithm == "sarsa":
                    value = acts_on(y, b)
                elif settings.algorithm == "expected_sarsa":
                    mean = epsilon * sum(acts_on(y, c) for c in actions) / len(actions)
                    value = (1 - epsilon) * acts_on(y, greedy) + mean
                elif double:
                    value = tables[1 - which][y][best(y, tables[which])]
                else:
                    value = acts_on(y, greedy)
                goal += settings.discount * value
                explores = b is not None and acts_on(y, b) < acts_on(y, greedy)
            error = goal - tables[which][row[x]][a]
            visits[which, row[x], a] = visits.get((which, row[x], a), 0) + 1
            traces[row[x], a] = 1.0
            for (y, c), trace in traces.items():
                step = rate
                if settings.learning_rate_power is not None:
                    step = rate / float(visits[which, y, c]) ** settings.learning_rate_power
                tables[which][y][c] += step * error * trace
            decay = settings.discount * settings.trace_decay
            traces = {pair: trace * decay for pair, trace in traces.items()}
            if settings.trace_decay == 0 or (off_policy and explores):
                traces = {}
            x = z
            if over[x]:
                break
            if t + 1 < mdp.time_limit:
                a = choice(row[x], epsilon) if b is None else b
        sums["completed"] = float(mdp.completed[x])
        episodes.append([sums[name] for name in COLUMNS])
        if (episode + 1) % settings.evaluate_every == 0 or episode + 1 == settings.episodes:
            policies.append([best(y) for y in row])
            mean = np.array([sum(column) / len(episodes) for column in zip(*episodes, strict=True)])
            mean[COLUMNS.index("performance")] += mdp.initial_performance
            during.append(mean.tolist())
            episodes = []
    q = np.array([[acts_on(y, a) / len(tables) for a in actions] for y in range(max(row) + 1)])
    return Slow(q, policies, during, num_steps)


def expected_columns(impact: Impact, policy: list[int]) -> list[float]:
    """Exact columns of an episode of a policy, in the order of COLUMNS: by a dictionary of where the mass is."""
    mdp, sums = impact.mdp, dict.fromkeys(COLUMNS, 0.0)
    sums["performance"] = mdp.initial_performance
    mass = {int(x): float(mdp.start[x]) for x in np.flatnonzero(mdp.start)}
    for _ in range(mdp.time_limit):
        later: dict[int, float] = {}
        for x, p in mass.items():
            if mdp.terminal[x]:
                later[x] = later.get(x, 0.0) + p
                continue
            for k in np.flatnonzero(mdp.probability[x, policy[x]]):
                place = x, policy[x], k
                share, y = p * mdp.probability[place], int(mdp.next_state[place])
                later[y] = later.get(y, 0.0) + share
                for name in ("reward", "performance", "side_effect"):
                    sums[name] += share * getattr(mdp, name)[place]
                sums["impact"] += share * impact.unit_penalty[place]
        mass = later
    sums["completed"] = sum(p for x, p in mass.items() if mdp.completed[x])
    return [float(sums[name]) for name in COLUMNS]


def assert_learned(ours: Training, slow: Slow) -> None:
    """A batch of one run learned what the slow learner learned: tables bit for bit, evaluations to rounding."""
    assert (ours.q[0] == slow.q).all()
    assert ours.steps.tolist() == [slow.steps]
    assert ours.during[0].tolist() == slow.during
    expected = [expected_columns(ours.impact, policy) for policy in slow.policies]
    np.testing.assert_allclose(ours.history[0], expected, rtol=1e-13, atol=1e-12)
