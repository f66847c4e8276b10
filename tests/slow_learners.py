"""The tabular learners once more, with lists, dictionaries and loops, and the same random numbers."""

from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from impactrl.agents.impact_learner import ImpactLearner
from impactrl.agents.q_learning import QLearning, Training
from impactrl.mdp import TabularMDP
from impactrl.measures.families import node_utilities
from impactrl.measures.impact import COLUMNS, Impact
from impactrl.measures.penalty import Penalty
from impactrl.measures.state_graph import StateGraph, state_graph


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


class SlowModel:
    """What was seen of a world, as a dictionary of transitions; all tables are made afresh whenever it grows."""

    def __init__(self, graph: StateGraph, penalty: Penalty, learns_noop: bool) -> None:
        self.penalty, self.size, self.seen = penalty, graph.size, set[int]()
        self.follows: dict[tuple[int, int], int] = {}
        self.noop = {} if learns_noop or graph.idle is None else dict(enumerate(graph.idle.indices.tolist()))
        utilities = penalty.deviation == "attainable_utility"
        self.utilities = node_utilities(graph, penalty) if utilities else np.empty((graph.size, 0))
        self.table: list[list[float]] = []

    def see(self, node: int, action: int | None = None, successor: int | None = None) -> None:
        """Takes note of a first node, or of a transition."""
        before = len(self.seen), len(self.follows)
        self.seen.add(node)
        if action is not None and successor is not None:
            self.seen.add(successor)
            self.follows[node, action] = successor
        if before != (len(self.seen), len(self.follows)) and self.penalty.deviation != "none":
            self.refresh()

    def does_nothing(self, node: int) -> int:
        return self.noop.get(node, node)

    def refresh(self) -> None:
        """The value family of every node: reachabilities of the nodes seen, or attainable utilities."""
        if self.penalty.deviation == "attainable_utility":
            columns = [self._attainable(self.utilities[:, u]) for u in range(self.utilities.shape[1])]
            self.table = [list(row) for row in zip(*columns, strict=True)]
        else:
            self.table = [self._reachable(node) for node in range(self.size)]

    def _reachable(self, node: int) -> list[float]:
        distance = {node: 0} if node in self.seen else {}
        ring = list(distance)
        while ring:
            near = {m for n in ring for (tail, _), m in self.follows.items() if tail == n}
            ring = sorted(near - set(distance))
            distance |= dict.fromkeys(ring, max(distance.values()) + 1)
        powers = self.penalty.discount ** np.arange(self.size)
        return [float(powers[distance[m]]) if m in distance else 0.0 for m in range(self.size)]

    def _attainable(self, utility: NDArray[np.float64]) -> list[float]:
        """Value iteration says where to go; going there for ever says what it is worth."""
        nodes, discount, u = range(self.size), self.penalty.discount, utility.tolist()
        options: dict[int, list[int]] = {n: [] for n in nodes}
        for (n, _), m in self.follows.items():
            options[n].append(m)
        reached = np.zeros((self.size, self.size), dtype=np.bool_)
        for n in nodes:
            reached[n, options[n]] = True
        value, after = np.full(self.size, np.inf), utility
        while np.abs(value - after).max() > 1e-13:
            value = after
            ahead = np.where(reached, value, -np.inf).max(axis=1)
            after = utility + discount * np.where(reached.any(axis=1), ahead, 0.0)
        goes = {n: max(options[n], key=lambda m: value[m]) for n in nodes if options[n]}
        known: dict[int, float] = {}

        def worth(n: int, path: list[int]) -> float:
            if n not in known and n in path:
                cycle = path[path.index(n) :]
                total, power = 0.0, 1.0
                for m in cycle:
                    total, power = total + power * u[m], power * discount
                known[n] = total / (1 - power)
            elif n not in known:
                ahead = u[n] + discount * worth(goes[n], [*path, n]) if n in goes else u[n]
                known.setdefault(n, ahead)
            return known[n]

        return [worth(n, []) for n in nodes]

    def deviation(self, node: int, reference: int) -> float:
        penalty, discount = self.penalty, self.penalty.rollout_discount if self.penalty.rollout else 0.0
        if penalty.deviation == "unreachability":
            total = 0.0
            for share, (n, m) in self._courses((node, reference), discount):
                total += share * (1 - self.table[n][m])
            return total
        here, there = ([0.0] * len(self.table[0]) for _ in range(2))
        for start, values in ((node, here), (reference, there)):
            for share, (n,) in self._courses((start,), discount):
                values[:] = [v + share * w for v, w in zip(values, self.table[n], strict=True)]
        judge = {"decrease": lambda d: max(d, 0.0), "increase": lambda d: max(-d, 0.0), "absolute": abs}
        total, units = 0.0, 0.0
        for v, w in zip(here, there, strict=True):
            d = judge[penalty.effective_summary](w - v)
            total += d / abs(w) if penalty.scale == "per-value" and abs(w) > 1e-9 else d
            units += abs(w)
        count = len(self.seen) if penalty.deviation == "relative_reachability" else len(here)
        factor = 1 - penalty.discount if penalty.scale == "discount" else 1.0
        return factor * total / ((units if units > 1e-9 else 1.0) if penalty.scale == "sum" else count)

    def _courses(self, nodes: tuple[int, ...], discount: float) -> Iterator[tuple[float, tuple[int, ...]]]:
        """Nodes that parallel no-ops lead to, each with its share in the discounted mean."""
        power = 1.0
        while power > 1e-17:
            after = tuple(self.does_nothing(n) for n in nodes)
            yield (power if after == nodes else (1 - discount) * power), nodes
            if after == nodes:
                return
            nodes, power = after, power * discount


def slow_impact_learner(mdp: TabularMDP, impact: Impact, settings: ImpactLearner, weight: float, seed: int) -> Slow:
    """One run of an agent that learns its impact."""
    penalty, rng = impact.penalty, np.random.default_rng(seed)
    graph = state_graph(mdp, penalty.terminal)
    model = SlowModel(graph, penalty, settings.noop == "learned")
    pair, row, node = impact.mdp, impact.state.tolist(), graph.node[impact.state].tolist()
    actions = range(pair.num_actions)
    q = [[0.0] * len(actions) for _ in range(mdp.num_states)]
    policies, during, episodes, num_steps = [], [], [], 0

    def best(y: int) -> int:
        return q[y].index(max(q[y]))

    for episode, epsilon in enumerate(settings.epsilons().tolist()):
        sums = dict.fromkeys(COLUMNS, 0.0)
        x = chance(rng, pair.start.tolist())
        trail, inactive, idle = [node[x]], node[x], bool(pair.terminal[x])
        if node[x] >= 0:
            model.see(node[x])
        for t in range(pair.time_limit):
            u = rng.random()
            a = min(int(u / epsilon * len(actions)), len(actions) - 1) if u < epsilon else best(row[x])
            z, n = int(pair.next_state[x, a, 0]), node[x]
            m = node[z]
            for name in ("reward", "performance", "side_effect"):
                sums[name] += float(getattr(pair, name)[x, a, 0])
            sums["impact"] += float(impact.unit_penalty[x, a, 0])
            num_steps += 1
            if m >= 0 and not idle:
                if settings.noop == "learned" and a == pair.noop:
                    model.noop[n] = m
                model.see(n, a, m)
            if m >= 0 and not idle and not (penalty.time_limit_ends and t == pair.time_limit - 1):
                inactive = model.does_nothing(inactive)
                trail.append(m)
            compared = {
                "start": trail[0],
                "inaction": inactive,
                "stepwise": model.does_nothing(trail[-2]) if len(trail) > 1 else trail[0],
            }
            charge = 0.0
            if penalty.deviation != "none" and not idle:
                charge = model.deviation(trail[-1], compared[penalty.baseline])
                charge *= 1.0 if pair.terminal[z] else penalty.nonterminal_weight
            goal = float(pair.reward[x, a, 0]) - weight * charge
            goal += 0.0 if pair.terminal[z] else settings.discount * max(q[row[z]])
            q[row[x]][a] += settings.learning_rate * (goal - q[row[x]][a])
            x = z
            if pair.terminal[x]:
                break
        sums["completed"] = float(pair.completed[x])
        episodes.append([sums[name] for name in COLUMNS])
        if (episode + 1) % settings.evaluate_every == 0 or episode + 1 == settings.episodes:
            policies.append([best(y) for y in row])
            mean = np.array([sum(column) / len(episodes) for column in zip(*episodes, strict=True)])
            mean[COLUMNS.index("performance")] += mdp.initial_performance
            during.append(mean.tolist())
            episodes = []
    return Slow(np.array(q), policies, during, num_steps)


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
