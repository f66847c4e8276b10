"""Penalties from the definitions, slow and obvious, to compare the library with.

Everything is a dictionary from places (what a measure sees of a state) to chances or values; episodes are followed
step by step, every expectation is a sum over what can happen, every endless sum goes on until nothing is left.
"""

from collections import defaultdict
from itertools import product
from typing import NamedTuple

import numpy as np

NEGLIGIBLE = 1e-9  # what is smaller counts as 0 where it would divide, or decide


class Places:
    """What a measure sees of a task: its situations as numbers, and what follows them."""

    def __init__(self, mdp, penalty):
        self.mdp = mdp
        self.of = mdp.situation.tolist()
        self.state = {self.of[s]: s for s in reversed(range(mdp.num_states))}
        self.gone = {c for c, s in self.state.items() if penalty.terminal == "previous" and mdp.terminal[s]}
        self.all = sorted(set(self.state) - self.gone)
        self.follow = {c: self._follow(c) for c in self.all}
        choice = self._instead_of_nothing(penalty.policy)
        self.idle = {c: self._idle(c, choice[self.state[c]]) for c in self.all} if choice else None

    def outcomes(self, s, a):
        """The states that follow, and their chances."""
        chances = defaultdict(float)
        for k in range(self.mdp.next_state.shape[2]):
            if self.mdp.probability[s, a, k] > 0:
                chances[int(self.mdp.next_state[s, a, k])] += float(self.mdp.probability[s, a, k])
        return chances

    def _follow(self, c):
        """Per action, what of the measure can follow; nothing follows an end."""
        if self.mdp.terminal[self.state[c]]:
            return []
        per_action = [self.outcomes(self.state[c], a) for a in range(self.mdp.num_actions)]
        return [summed((self.of[s], p) for s, p in o.items() if self.of[s] not in self.gone) for o in per_action]

    def after(self, c, a):
        """Where an action leads; it stays where it would leave the measure."""
        outcomes = self.outcomes(self.state[c], a)
        return summed((c if self.of[s] in self.gone else self.of[s], p) for s, p in outcomes.items())

    def _instead_of_nothing(self, policy):
        """Per state, the share of every action in what counts as doing nothing."""
        actions, states = self.mdp.num_actions, range(self.mdp.num_states)
        if policy == "random":
            return [dict.fromkeys(range(actions), 1 / actions) for _ in states]
        if isinstance(policy, tuple):
            return [{a: 1.0} for a in policy]
        noop = self.mdp.noop if policy is None else self.mdp.actions.index(policy)
        return None if noop is None else [{noop: 1.0} for _ in states]

    def _idle(self, c, shares):
        return summed((z, share * p) for a, share in shares.items() for z, p in self.after(c, a).items())

    def moved(self, chances):
        """A distribution after doing nothing once."""
        return summed((z, p * q) for c, p in chances.items() for z, q in self.idle[c].items())


def summed(pairs):
    chances = defaultdict(float)
    for c, p in pairs:
        chances[c] += p
    return dict(chances)


def settled(places, values, improved):
    """The fixed point of a Bellman equation, {place: vector}."""
    while True:
        new = {c: np.asarray(improved(c, values), dtype=float) for c in places.all}
        change = max(np.abs(new[c] - values[c]).max() for c in places.all)
        values = new
        if change < 1e-15 * max(1.0, *(np.abs(v).max() for v in values.values())):
            return values


def best_of(places, c, values):
    """`max_a E[values]` over what can follow; None where nothing can."""
    options = [sum(p * values[z] for z, p in o.items()) for o in places.follow[c] if o]
    return np.max(options, axis=0) if options else None


def reachability(places, discount, horizon=None):
    """{x: [R(x; y) for every place y]}."""
    unit = dict(zip(places.all, np.eye(len(places.all)), strict=True))
    if horizon is not None:
        there = unit
        for _ in range(horizon):
            best = {c: best_of(places, c, there) for c in places.all}
            there = {c: there[c] if best[c] is None else best[c] for c in places.all}
        return {c: discount**horizon * v for c, v in there.items()}

    def improved(c, reach):
        best = best_of(places, c, reach)
        return np.where(unit[c] == 1, 1.0, 0.0 if best is None else discount * best)

    return settled(places, unit, improved)


def attainable(places, utilities, discount, clip=False):
    """{x: [V_u(x) for every utility u]}."""

    def improved(c, values):
        best = best_of(places, c, values)
        value = utilities[c] + (0.0 if best is None else discount * best)
        return np.clip(value, 0, 1) if clip else value

    return settled(places, {c: 0 * u for c, u in utilities.items()}, improved)


def departing(places, values):
    """{x: [max_a E[V_u(x')] for every u]}; 0 where nothing follows."""
    best = {c: best_of(places, c, values) for c in places.all}
    return {c: 0 * values[c] if best[c] is None else best[c] for c in places.all}


def idling(places, values):
    """{x: [E[V_u(x')] after doing nothing]}; 0 where nothing follows."""
    nothing = {c: not any(places.follow[c]) for c in places.all}
    return {c: 0 * values[c] if nothing[c] else mean(values, places.idle[c]) for c in places.all}


def importance(places, utilities, discount):
    """{x: [value of every utility if nothing is done]}; an end is worth its own utility."""
    over = {c: places.mdp.terminal[places.state[c]] for c in places.all}

    def improved(c, values):
        return utilities[c] + (0.0 if over[c] else discount * mean(values, places.idle[c]))

    return settled(places, {c: 0 * u for c, u in utilities.items()}, improved)


def empowerment(places, steps):
    """{x: [capacity of the channel from plans of actions to the place after them, in bits]}."""
    result = {}
    for c in places.all:
        rows = []
        for plan in product(range(places.mdp.num_actions), repeat=steps):
            chances = {c: 1.0}
            for a in plan:
                chances = summed((z, p * q) for d, p in chances.items() for z, q in places.after(d, a).items())
            rows.append([chances.get(d, 0.0) for d in places.all])
        result[c] = np.array([capacity(np.array(rows))])
    return result


def capacity(channel):
    """Of a channel [inputs, outputs], by the fixed point of Arimoto (1972)."""
    share = np.full(len(channel), 1 / len(channel))
    while True:
        mixture = share @ channel
        ratio = np.where(channel > 0, channel / np.where(mixture > 0, mixture, 1), 1)
        information = (channel * np.log2(ratio)).sum(axis=1)
        if information.max() - share @ information < 1e-11:
            return float(share @ information)
        share = share * 2**information
        share /= share.sum()


def mean(values, chances):
    return sum(p * values[c] for c, p in chances.items())


class Moment(NamedTuple):
    """What a penalty knows when the agent acts."""

    state: int
    cases: tuple  # what this state is compared with: (share, chances) of every case
    course: dict | None  # where doing nothing from the start would be
    to_go: int  # steps that are left of the plan


class ByTheBook:
    """What every step of an episode is charged.

    Args:
        mdp: the task.
        penalty: with explicit utilities, if it has any.
        goals: states whose reachability counts, if the penalty draws some.
    """

    def __init__(self, mdp, penalty, goals=None):
        self.mdp, self.penalty = mdp, penalty
        self.places = Places(mdp, penalty)
        self.known = {}
        deviation = penalty.deviation
        if deviation in ("unreachability", "step_reversibility"):
            self.pair = self._lost()
        elif deviation == "whitelist":
            self.pair = self._changed
        elif deviation != "detectability":
            self.pair = None
            self.here, self.there = self._sides(*self._family(goals))

    # What is compared

    def _family(self, goals):
        """({place: vector of values}, weights or None for a mean)."""
        places, penalty = self.places, self.penalty
        if penalty.deviation in ("relative_reachability", "future_tasks"):
            horizon = None if penalty.rollout == "end" else penalty.horizon
            reach = reachability(places, penalty.discount, horizon)
            column = [places.all.index(places.of[s]) for s in goals] if goals else range(len(places.all))
            return {c: v[list(column)] for c, v in reach.items()}, None
        if penalty.deviation == "empowerment":
            return empowerment(places, penalty.horizon or 3), None
        if penalty.deviation == "features":
            features, weights = self._features()
            return {c: features(places.state[c]) for c in places.all}, weights
        utilities = self._utilities()
        if penalty.deviation == "importance":
            return importance(places, utilities, penalty.discount), None
        values = attainable(places, utilities, penalty.discount, penalty.clip)
        if penalty.deviation == "power":
            factor = (1 - penalty.discount) / penalty.discount
            ahead = {c: factor * (values[c] - utilities[c]) for c in places.all}
            return {c: np.array([v.mean()]) for c, v in ahead.items()}, None
        return values, None

    def _utilities(self):
        places, given = self.places, self.penalty.utilities
        if given == "states":
            return dict(zip(places.all, np.eye(len(places.all)), strict=True))
        if callable(given[0]):
            return {c: np.array([u(self.mdp.states[places.state[c]]) for u in given]) for c in places.all}
        return {c: np.array(given[places.state[c]]) for c in places.all}

    def _features(self):
        """A function from state ids to vectors, and weights."""
        mdp = self.mdp
        objects = [sprite for sprite in dict.fromkeys(mdp.tiles.values()) if sprite not in ("agent", "wall")]

        def named(name, s):
            if mdp.feature_names:
                return mdp.features(mdp.states[s])[mdp.feature_names.index(name)]
            return sum(mdp.tiles.get(character) == name for character in "".join(mdp.board_text(s)))

        given = self.penalty.features
        if given is None:
            given = [(name, 1.0) for name in mdp.feature_names or objects]

        def vector(s):
            return np.array([v(mdp.states[s]) if callable(v) else named(name, s) for name, v in given], dtype=float)

        return vector, [1.0 if callable(v) else v for _, v in given]

    def _sides(self, values, weights):
        """The values that the agent's state and the baseline's are judged by."""
        self.weights, penalty = weights, self.penalty
        if penalty.deviation != "attainable_utility" or penalty.attainable == "arrival":
            return values, values
        best = departing(self.places, values)
        waits = penalty.rollout == "end" and penalty.baseline == "stepwise"
        return best, idling(self.places, values) if waits else best

    def _lost(self):
        penalty = self.penalty
        reach = reachability(self.places, penalty.discount, None if penalty.rollout == "end" else penalty.horizon)
        return lambda c, b: 1 - reach[c][self.places.all.index(b)]

    def _changed(self, c, b):
        boards = ["".join(self.mdp.board_text(self.places.state[place])) for place in (b, c)]
        agent = [character for character, sprite in self.mdp.tiles.items() if sprite == "agent"]
        allowed = self.penalty.allowed
        count = 0
        for before, after in zip(*boards, strict=True):
            if allowed is None:
                free = before in agent or after in agent
            else:
                free = any(x[0] in (before, "*") and x[2] in (after, "*") for x in allowed)
            count += before != after and not free
        return count

    # How it is compared

    def _value(self, c, side, to_go):
        """A value after the rollout, of a place."""
        key = c, side, to_go
        if key not in self.known:
            values = self.here if side == "here" else self.there
            steps = 0 if side == "there" and self.penalty.baseline == "start" else to_go  # the first state stays
            self.known[key] = self._rolled_out(lambda chances: mean(values, chances), steps, {c: 1.0})
        return self.known[key]

    def _rolled_out(self, quantity, to_go, *chances):
        """A quantity of distributions: at once, in the discounted mean over what doing nothing leads to, or there."""
        if self.penalty.rollout is False:
            return quantity(*chances)
        if self.penalty.rollout == "end":
            still = chances[1:] if self.penalty.baseline == "start" else ()  # the first state stays
            for _ in range(to_go):
                chances = [*(self.places.moved(c) for c in chances[: len(chances) - len(still)]), *still]
            return quantity(*chances)
        total, factor = 0.0, 1.0
        while factor > 1e-17:
            total = total + (1 - self.penalty.rollout_discount) * factor * quantity(*chances)
            chances, factor = [self.places.moved(c) for c in chances], factor * self.penalty.rollout_discount
        return total

    def compared(self, here, cases, to_go):
        """D of a distribution from the cases of a reference."""
        if self.penalty.deviation == "detectability":
            return self._detected(here, summed((b, share * p) for share, case in cases for b, p in case.items()))
        if self.pair is not None:
            total = 0.0
            for share, case in cases:
                for c, p in here.items():
                    for b, q in case.items():
                        total += share * p * q * self._pair_rolled_out(c, b, to_go)
            return total
        inside = self.penalty.expectation == "inside"
        values = {c: self._value(c, "here", to_go) for c in here}
        mine = [(1.0, mean(values, here))] if inside else [(p, values[c]) for c, p in here.items()]
        total = 0.0
        for share, other in self._others(cases, to_go, inside):
            total += sum(share * p * self._difference(value, other) for p, value in mine)
        return total

    def _others(self, cases, to_go, inside):
        """(share, vector) of everything that the agent's values are compared with."""
        vectors = [(share, {b: self._value(b, "there", to_go) for b in case}, case) for share, case in cases]
        expected = [(share, mean(values, case)) for share, values, case in vectors]
        if self.penalty.baseline in ("average", "average_other"):
            return [(1.0, sum(share * v for share, v in expected))]
        if self.penalty.baseline == "adversarial":
            greedy, epsilon = np.max([v for _, v in expected], axis=0), self.penalty.epsilon
            return [(1.0, (1 - epsilon) * greedy + epsilon * sum(share * v for share, v in expected))]
        if inside:
            return expected
        return [(share * p, values[b]) for share, values, case in vectors for b, p in case.items()]

    def _pair_rolled_out(self, c, b, to_go):
        key = c, b, to_go
        if key not in self.known:

            def expected(mine, other):
                return sum(p * q * self.pair(x, y) for x, p in mine.items() for y, q in other.items())

            self.known[key] = self._rolled_out(expected, to_go, {c: 1.0}, {b: 1.0})
        return self.known[key]

    def _difference(self, here, there):
        if self.penalty.deviation == "future_tasks":
            both = here if self.penalty.baseline == "none" else np.minimum(here, there)
            return -both.mean()
        lost = there - here
        terms = {"decrease": np.maximum(0, lost), "increase": np.maximum(0, -lost), "absolute": np.abs(lost)}
        term = terms[self.penalty.effective_summary]
        if self.penalty.scale == "per-value":
            term = term / np.where(np.abs(there) > NEGLIGIBLE, np.abs(there), 1)
        weights = np.ones(len(term)) if self.weights is None else np.array(self.weights)
        if self.penalty.scale == "sum":
            size = (weights * np.abs(there)).sum()
            return (weights * term).sum() / (size if size > NEGLIGIBLE else 1)
        share = 1 / len(term) if self.weights is None else 1.0
        result = {
            "L1": share * (weights * term).sum(),
            "L2": np.sqrt(share * (weights * term**2).sum()),
            "Linf": (weights * term).max(),
        }[self.penalty.norm]
        return result * (1 - self.penalty.discount if self.penalty.scale == "discount" else 1)

    def _detected(self, here, there):
        def kind(c):
            return c if self.penalty.features is None else tuple(self._features()[0](self.places.state[c]))

        p, q = (summed((kind(c), chance) for c, chance in side.items()) for side in (here, there))
        kinds = {*p, *q}
        if self.penalty.divergence == "total_variation":
            return sum(abs(p.get(x, 0) - q.get(x, 0)) for x in kinds) / 2
        if self.penalty.divergence == "kl":
            return max(0, sum(p[x] * np.log2(p[x] / max(q.get(x, 0), self.penalty.floor)) for x in p))
        middle = {x: (p.get(x, 0) + q.get(x, 0)) / 2 for x in kinds}
        return sum(side[x] * np.log2(side[x] / middle[x]) / 2 for side in (p, q) for x in side)

    # The course of an episode

    def first(self, s):
        """The moment before the first step: a state is compared with itself."""
        place = self.places.of[s]
        return Moment(s, ((1.0, {place: 1.0}),), {place: 1.0}, self.penalty.horizon or 0)

    def _reference(self, moment, a, course):
        """What the state after a step is compared with."""
        left, places = self.places.of[moment.state], self.places
        if self.penalty.deviation == "step_reversibility":
            return ((1.0, {left: 1.0}),)
        baseline = self.penalty.baseline
        if baseline in ("inaction", "policy"):
            return ((1.0, course),)
        if baseline == "stepwise":
            return ((1.0, places.moved({left: 1.0})),)
        if baseline in ("start", "none"):
            return moment.cases  # for ever
        actions = range(self.mdp.num_actions)
        if baseline in ("average_other", "random") and len(actions) > 1:
            actions = [other for other in actions if other != a]
        return tuple((1 / len(actions), places.after(left, other)) for other in actions)

    def next(self, moment, a, s, course=None):
        """The moment after a step to state s that stays in the measure; course: where doing nothing got, if drawn."""
        baseline = self.penalty.baseline
        if course is None and baseline in ("inaction", "policy") and self.penalty.inaction != "sampled":
            course = self.places.moved(moment.course)
        return Moment(s, self._reference(moment, a, course), course, moment.to_go - 1)

    def raw(self, moment, a, s, course=None):
        """D of a step, before any scale of steps."""
        places = self.places
        if places.of[s] in places.gone:  # charged for the pair before it
            return self.compared({places.of[moment.state]: 1.0}, moment.cases, moment.to_go)
        here = {places.of[s]: 1.0}
        if self.penalty.deviation == "detectability" or self.penalty.expectation == "inside":
            outcomes = places.outcomes(moment.state, a)
            here = summed((places.of[z], p) for z, p in outcomes.items() if places.of[z] not in places.gone)
            here = {c: p / sum(here.values()) for c, p in here.items()}
        after = self.next(moment, a, s, course)
        return self.compared(here, after.cases, after.to_go)

    def _over(self, moment, s):
        return self.mdp.terminal[s] or (self.penalty.rollout == "end" and moment.to_go == 1)

    def _unit(self, moment):
        action = self.mdp.actions.index(self.penalty.unit_action)
        return mean_of(lambda s: self.raw(moment, action, s), self.places.outcomes(moment.state, action))

    def deviation(self, moment, a, s, course=None):
        """D of a step under the penalty's scale."""
        raw = self.raw(moment, a, s, course)
        if self.penalty.scale == "gap":
            gap = self._gap(moment.state)
            return raw / (gap if gap > NEGLIGIBLE else 1)
        if self.penalty.scale != "impact-unit":
            return raw
        unit = self._unit(moment)

        def unit_after(z):
            return unit if self._over(moment, z) else self._unit(self.next(moment, a, z))

        raises = mean_of(unit_after, self.places.outcomes(moment.state, a)) > unit + NEGLIGIBLE
        if raises or (unit <= NEGLIGIBLE and a != self.mdp.noop):
            return 1.01
        return raw / (unit if unit > NEGLIGIBLE else 1)

    def _gap(self, s):
        """`V(s) - Q(s, no-op)` of the task's own reward."""
        if "task" not in self.known:
            values = np.zeros(self.mdp.num_states)
            while True:
                ahead = np.where(self.mdp.terminal[self.mdp.next_state], 0, values[self.mdp.next_state])
                q = (self.mdp.probability * (self.mdp.reward + self.penalty.discount * ahead)).sum(axis=2)
                if np.abs(q.max(axis=1) - values).max() < 1e-14:
                    break
                values = q.max(axis=1)
            self.known["task"] = q
        q = self.known["task"][s]
        return q.max() - q[self.mdp.noop]

    def charges(self, path, courses=None):
        """(deviation, unit penalty) of every step of a path of (state, action, next state).

        Args:
            path: it stays below the length of the plan, if there is one.
            courses: where a drawn course of doing nothing is after every step.
        """
        moment = self.first(path[0][0])
        for t, (_, a, s) in enumerate(path):
            course = None if courses is None else {courses[t]: 1.0}
            charge = self.deviation(moment, a, s, course)
            yield charge, charge * (1.0 if self._over(moment, s) else self.penalty.nonterminal_weight)
            if self.places.of[s] not in self.places.gone:
                moment = self.next(moment, a, s, course)


def mean_of(function, chances):
    return sum(p * function(s) for s, p in chances.items())
