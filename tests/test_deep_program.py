"""Training on compiled levels: what the program does in each step, and that a run depends on nothing but itself."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from deep_cases import SMALL, TABLE, Walk, corridor, key_of, outcome_of, random_task, table_network
from scipy.stats import chi2

from impactrl.agents.deep import compiled
from impactrl.agents.deep.networks import outputs_of
from impactrl.agents.deep.program import advance, advance_all, forget_sums, new_run
from impactrl.agents.deep.replay import SMALLEST, add, empty, no_priorities, revise
from impactrl.agents.dqn import DQN, DeepTraining, train_dqn
from impactrl.measures.impact import COLUMNS, Impact
from impactrl.measures.penalty import Penalty

STEPS = 8000
WEIGHT = 0.7


@cache
def impact() -> Impact:
    return Penalty(discount=0.9, terminal="absorbing", nonterminal_weight=0.5).fit(random_task(5))


@cache
def wandering() -> Walk:
    """Steps that are all remembered, and not learned from: at random first, greedy in the second half."""
    settings = DQN(
        steps=STEPS + 1,
        evaluate_every=STEPS + 1,
        learning_starts=STEPS,
        update_every=1,
        buffer_size=STEPS + 1,
        epsilon_end=0.0,
        batch_size=1,
        **TABLE,
    )
    return Walk(impact(), settings, weight=WEIGHT, seed=3).to(STEPS)


def test_transitions_are_those_of_the_task() -> None:
    mdp, seen = impact().mdp, wandering().remembered()
    paid = impact().penalised_reward(WEIGHT)
    elapsed = 0
    for i in range(STEPS):
        s, a, following = (int(seen[name][i]) for name in ("place", "action", "following"))
        k = outcome_of(mdp, s, a, following)
        assert seen["reward"][i] == pytest.approx(paid[s, a, k], abs=1e-5)
        elapsed += 1
        assert seen["terminal"][i] == mdp.terminal[following]
        assert seen["over"][i] == (mdp.terminal[following] or elapsed == mdp.time_limit)
        if i + 1 < STEPS:
            begins = mdp.start[seen["place"][i + 1]] > 0
            assert begins if seen["over"][i] else seen["place"][i + 1] == following
        elapsed = 0 if seen["over"][i] else elapsed
    assert (seen["over"] & ~seen["terminal"]).any()
    assert seen["terminal"].any()


def chi_square(counts: np.ndarray, chances: np.ndarray) -> tuple[float, float]:
    """The statistic of counts, and what it exceeds once in a million."""
    expected = counts.sum() * chances
    return float(((counts - expected) ** 2 / expected).sum()), float(chi2.ppf(1 - 1e-6, len(counts) - 1))


def test_outcomes_and_beginnings_have_their_probabilities() -> None:
    mdp, seen = impact().mdp, wandering().remembered()
    last = np.flatnonzero(seen["over"][:-1])
    begun = seen["place"][last + 1]
    assert (mdp.start[begun] > 0).all()
    steps = zip(*(seen[name][last].tolist() for name in ("place", "action", "following")), strict=True)
    ended_by = np.array([outcome_of(mdp, *step) for step in steps])
    for k in range(2):  # the beginning does not depend on the outcome before it
        counts = np.bincount(begun[ended_by == k], minlength=6)[mdp.start > 0]
        statistic, bound = chi_square(counts, mdp.start[mdp.start > 0])
        assert counts.sum() > 300
        assert statistic < bound
    for s in np.flatnonzero(~mdp.terminal):
        for a in range(3):
            here = (seen["place"] == s) & (seen["action"] == a)
            assert here.sum() > 50
            counts = np.array([(seen["following"][here] == t).sum() for t in mdp.next_state[s, a]])
            statistic, bound = chi_square(counts, mdp.probability[s, a])
            assert statistic < bound


def test_actions_are_random_at_first_and_greedy_at_last() -> None:
    """Epsilon falls from 1 to 0 over the first half; a random action is the greedy one in one of three."""
    seen, half = wandering().remembered(), STEPS // 2
    assert wandering().run.losses == 0  # so that the values were the same all the time
    greedy = wandering().values.argmax(axis=1)[seen["place"]]
    assert (seen["action"][half + 1 :] == greedy[half + 1 :]).all()
    for quarter, share in ((slice(0, half // 2), 0.75), (slice(half // 2, half), 0.25)):
        found = (seen["action"] == greedy)[quarter].mean()
        expected = 1 - share * 2 / 3
        # Five standard deviations of independent steps.
        assert found == pytest.approx(expected, abs=5 * np.sqrt(expected * (1 - expected) / (half // 2)))
    others = ((seen["action"] - greedy) % 3)[:half]
    statistic, bound = chi_square(np.bincount(others, minlength=3)[1:], np.full(2, 1 / 2))
    assert statistic < bound


def test_what_came_while_learning_is_the_mean_of_the_replayed_episodes() -> None:
    mdp, walk = impact().mdp, wandering()
    seen, episodes, episode = walk.remembered(), [], np.zeros(5)
    for s, a, following, over in zip(*(seen[n] for n in ("place", "action", "following", "over")), strict=True):
        k = outcome_of(mdp, s, a, following)
        episode[[0, 1, 2, 4]] += impact().columns[s, a, k]
        if over:
            episode[3] = mdp.completed[following]
            episodes.append(episode)
            episode = np.zeros(5)
    assert int(walk.run.episodes) == len(episodes)
    np.testing.assert_allclose(walk.run.during, np.sum(episodes, axis=0), rtol=1e-4, atol=1e-2)
    assert 0 < np.mean(episodes, axis=0)[3] < 1
    assert forget_sums(walk.run).during.tolist() == [0.0] * 5


def test_learning_begins_after_its_first_steps_and_comes_every_so_often() -> None:
    """Settings of 8 steps before, and of 2 steps per update: after 10, 12, ..."""
    walk = Walk(corridor_impact(), SMALL)
    assert int(walk.to(8).run.learner.updates) == 0
    assert int(walk.to(10).run.learner.updates) == 1
    assert int(walk.to(40).run.learner.updates) == 16
    assert int(walk.run.losses) == 16
    assert int(walk.run.replay.added[0]) == 40


@cache
def corridor_impact() -> Impact:
    return Penalty().fit(corridor())


# Prioritised replay


PRIORITISED = DQN(
    steps=8,
    evaluate_every=8,
    learning_starts=0,
    update_every=1,
    batch_size=2,
    buffer_size=3,
    prioritised=True,
    priority_exponent=0.5,
    importance_exponent=0.5,
    learning_rate=0.5,
    learning_rate_end=0.5,
    discount=0.0,
    epsilon_start=0.0,
    epsilon_end=0.0,
    **TABLE,
)


def test_prioritised_updates_by_hand() -> None:
    """Two steps of priorities 3 and 1 are remembered, both with value and error 4 and 9; a third one comes in.

    It gets the largest priority so far, 3, of 7 in all. Two samples come, one of each half of the total, each with the
    weight (3 * chance) ** -b, over the larger one of both, and b = 0.5 + 0.5 / 8 after the first of eight steps. The
    priority of a sampled step becomes the root of its error.
    """
    mdp = Penalty(deviation="none", terminal="absorbing").fit(corridor())
    exponent, errors, chance = 0.5 + 0.5 / 8, {0: 4.0, 1: 9.0, 2: 2.0}, {0: 3 / 7, 1: 1 / 7, 2: 3 / 7}
    cells = {0: (1, 0), 1: (2, 1), 2: (0, 0)}  # state and action of each step
    values = np.array([[2.0, 0.0], [4.0, 0.0], [0.0, 9.0], [0.0, 0.0]])
    chosen = set()
    for seed in range(12):
        walk = Walk(mdp, PRIORITISED, weight=0.0, seed=seed)
        replay, priorities = empty(1, 3), no_priorities(3)
        for index, priority in ((0, 3.0), (1, 1.0)):
            s, a = cells[index]
            numbers = {"place": s, "action": a, "reward": 0.0, "following": s, "terminal": False, "over": False}
            given = {name: jnp.array([number]) for name, number in numbers.items()}
            replay, where = add(replay, **given, kept=jnp.array([True]))
            priorities = revise(priorities, where, jnp.array([priority]))
        network = table_network(values)
        learner = walk.run.learner._replace(network=network, target=network)
        walk.run = walk.run._replace(replay=replay, priorities=priorities, learner=learner)
        walk.to(1)
        assert walk.remembered()["place"].tolist() == [1, 2, 0]
        assert walk.remembered()["action"].tolist() == [0, 1, 0]
        after = np.asarray(walk.run.priorities.value)[0, :3]
        sampled = [i for i in range(3) if after[i] == pytest.approx((errors[i] + SMALLEST) ** 0.5, rel=1e-5)]
        kept = [i for i in range(3) if i not in sampled]
        assert after[kept].tolist() == [{0: 3.0, 1: 1.0, 2: 3.0}[i] for i in kept]
        assert walk.run.priorities.largest == pytest.approx(max(3.0, *after))
        twice = sampled * 2 if len(sampled) == 1 else sampled
        weights = np.array([(3 * chance[i]) ** -exponent for i in twice])
        weights /= weights.max()
        expected = values.copy()
        for i, weight in zip(twice, weights, strict=True):
            expected[cells[i]] -= 0.5 * weight * errors[i] / 2
        np.testing.assert_allclose(walk.values, expected, rtol=1e-5)
        chosen.add(tuple(sampled))
    assert chosen >= {(0, 1), (0, 2)}  # of the first half always 0; of the second either


# A run is itself


@cache
def batch() -> DeepTraining:
    return train_dqn(corridor_impact(), SMALL, weights=[0.0, 1.0, 1.0, 0.3], seeds=[0, 0, 1, 5], progress=False)


def same(ours: DeepTraining, theirs: DeepTraining, mine: list[int], yours: list[int]) -> bool:
    fields = ("q", "history", "during", "loss", "steps", "stopped")
    return all(
        np.array_equal(getattr(ours, name)[mine], getattr(theirs, name)[yours], equal_nan=True) for name in fields
    )


def test_a_run_is_the_same_alone_in_another_batch_and_on_two_threads() -> None:
    alone = train_dqn(corridor_impact(), SMALL, weights=[1.0], seeds=[1], progress=False)
    assert same(alone, batch(), [0], [2])
    turned = train_dqn(corridor_impact(), SMALL, weights=[0.3, 1.0, 0.0], seeds=[5, 0, 0], threads=2, progress=False)
    assert same(turned, batch(), [0, 1, 2], [3, 1, 0])
    keyed = train_dqn(corridor_impact(), SMALL, weights=[1.0], seeds=[np.random.SeedSequence(1)], progress=False)
    assert same(keyed, batch(), [0], [2])


def test_another_weight_or_seed_is_another_run() -> None:
    assert not np.array_equal(batch().q[0], batch().q[1])
    assert not np.array_equal(batch().q[1], batch().q[2])


def test_what_training_reports_is_what_the_program_did() -> None:
    walk = Walk(corridor_impact(), SMALL, weight=0.3, seed=5)
    for e, until in enumerate((40, 80, 84)):
        walk.to(until)
        with np.errstate(invalid="ignore"):  # no episode may have ended in the last four steps
            mean = np.asarray(walk.run.during, np.float64) / int(walk.run.episodes)
        np.testing.assert_array_equal(batch().during[3, e], mean)
        np.testing.assert_allclose(batch().loss[3, e], float(walk.run.loss) / int(walk.run.losses), rtol=1e-7)
        walk.run = forget_sums(walk.run)
    np.testing.assert_array_equal(batch().q[3], walk.values)
    assert batch().steps.tolist() == [84] * 4
    assert batch().evaluations.tolist() == [40, 80, 84]


def test_history_is_the_greedy_episode() -> None:
    """Walked through by hand: the corridor has no chance in it."""
    mdp = corridor_impact().mdp
    for r in range(4):
        x, columns = int(np.flatnonzero(mdp.start)[0]), np.zeros(5)
        for _ in range(mdp.time_limit):
            a = batch().q[r, x].argmax()
            columns[[0, 1, 2, 4]] += corridor_impact().columns[x, a, 0]
            x = mdp.next_state[x, a, 0]
        columns[3] = mdp.completed[x]
        np.testing.assert_allclose(batch().history[r, -1], columns, rtol=1e-12)
    assert len(np.unique(batch().history[:, -1, COLUMNS.index("completed")])) == 2  # some arrive, some do not


def test_an_interval_without_an_end_of_an_episode_has_no_mean() -> None:
    """The last one has four steps only."""
    ended = np.isfinite(batch().during)
    assert ended[:, :2].all()
    assert {tuple(row) for row in ended[:, 2].tolist()} == {(True,) * 5, (False,) * 5}
    assert np.isfinite(batch().history).all()


def test_performance_begins_where_the_task_does() -> None:
    mdp = replace(corridor(), initial_performance=-3.0)
    done = train_dqn(Penalty().fit(mdp), SMALL, weights=[0.3], seeds=[5], progress=False)
    place = COLUMNS.index("performance")
    offset = np.eye(5)[place] * -3
    np.testing.assert_array_equal(done.history[0], batch().history[3] + offset)
    np.testing.assert_array_equal(done.during[0], batch().during[3] + offset)


def test_all_runs_as_one_program_learn_the_same() -> None:
    """The program of a GPU, each run with charges of its own. Sums may be rounded otherwise, so over few steps only."""
    walk = Walk(corridor_impact(), SMALL)
    weights = [0.0, 1.0, 0.3]
    starts = [new_run(walk.rule, walk.level, key_of(seed)) for seed in (0, 1, 5)]
    units = jnp.stack([walk.unit, 2 * walk.unit, walk.unit])
    together = jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts)
    runs, values = advance_all(walk.rule, walk.level, units, together, jnp.array(weights, jnp.float32), 0, 40)
    assert values.shape == (3, 5, 2)
    for r, (start, weight) in enumerate(zip(starts, weights, strict=True)):
        with jax.default_device(jax.devices("cpu")[0]):
            alone, expected = advance(walk.rule, walk.level, units[r], start, jnp.float32(weight), 0, 40)
        np.testing.assert_allclose(values[r], expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(runs.replay.action[r], alone.replay.action)
        np.testing.assert_allclose(runs.during[r], alone.during, rtol=1e-5)
        np.testing.assert_allclose(outputs_of(alone.learner.network, walk.level.observation), expected, rtol=1e-6)


def test_a_batch_on_a_gpu_is_one_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a device that is none, so that the whole way is gone."""
    monkeypatch.setattr(compiled, "device_named", lambda _: jax.devices("cpu")[0])
    weights, seeds = [0.0, 1.0, 1.0, 0.3], [0, 0, 1, 5]
    done = train_dqn(corridor_impact(), SMALL, weights=weights, seeds=seeds, device="gpu", progress=False)
    np.testing.assert_allclose(done.q, batch().q, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(done.history, batch().history)
    np.testing.assert_allclose(done.during, batch().during, rtol=1e-5)
    np.testing.assert_allclose(done.loss, batch().loss, rtol=1e-3)
