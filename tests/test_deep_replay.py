"""Replay of deep agents against a slow obvious one, and priorities against their exact probabilities."""

from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from impactrl.agents.deep.batch import sample_of
from impactrl.agents.deep.replay import (
    BLOCK,
    Replay,
    add,
    empty,
    no_priorities,
    revise,
    sample,
    sample_by_priority,
    size,
    window,
)
from impactrl.agents.dqn import DQN

fast_add, fast_revise, fast_size = jax.jit(add), jax.jit(revise), jax.jit(size)
fast_window = jax.jit(window, static_argnums=2)
fast_sample, fast_sample_by_priority = jax.jit(sample), jax.jit(sample_by_priority)
fast_sample_of = jax.jit(sample_of, static_argnums=0)
SETTINGS = DQN(n_steps=3, window=4)
LAST = np.nextafter(np.float32(1), np.float32(0))  # the largest uniform random number


class Step(NamedTuple):
    """One remembered step; `name` is unlike that of any other."""

    name: int
    terminal: bool
    over: bool


class SlowReplay:
    """Queues of steps."""

    def __init__(self, environments: int, capacity: int) -> None:
        self.rings: list[deque[Step]] = [deque(maxlen=capacity) for _ in range(environments)]

    def following(self, row: int, i: int, count: int) -> list[Step]:
        """At most so many steps from the i-th oldest on, until the episode is over."""
        result = []
        for step in list(self.rings[row])[i : i + count]:
            result.append(step)
            if step.over:
                break
        return result

    def preceding(self, row: int, i: int) -> Step | None:
        """The step before the i-th oldest, if it is remembered and of the same episode."""
        before = self.rings[row][i - 1] if i else None
        return before if before is not None and not before.over else None


@st.composite
def streams(draw: st.DrawFn) -> tuple[Replay, SlowReplay]:
    """Both kinds of replay after some steps, of 1 or 3 environments, some of which skip a step now and then."""
    environments = draw(st.sampled_from([1, 3]))
    capacity = draw(st.sampled_from([4, 9]))
    replay, slow = empty(environments, capacity), SlowReplay(environments, capacity)
    flags = st.lists(st.integers(0, 9), min_size=environments, max_size=environments)
    name = 1  # 0 is what is empty
    for row in draw(st.lists(flags, max_size=25)):
        kept = np.array([flag != 0 for flag in row])
        terminal = np.array([flag in (1, 2) for flag in row])
        over = terminal | np.array([flag == 3 for flag in row])
        names = name + np.arange(environments)
        replay, index = fast_add(
            replay,
            place=names,
            action=names % 5,
            reward=names / 4,
            following=names + 1000,
            terminal=terminal,
            over=over,
            kept=kept,
        )
        for e in np.flatnonzero(kept):
            slow.rings[e].append(Step(int(names[e]), bool(terminal[e]), bool(over[e])))
            assert replay.place.ravel()[index[e]] == names[e]
        assert (np.asarray(index)[~kept] >= -(-environments * capacity // BLOCK) * BLOCK).all()  # no priority's place
        name += environments
    return replay, slow


def place_of(replay: Replay, name: int) -> int:
    """Where a step is in the flattened rings."""
    (index,) = np.flatnonzero(np.asarray(replay.place).ravel() == name)
    return int(index)


@given(streams())
def test_the_rings_remember_the_last_steps(both: tuple[Replay, SlowReplay]) -> None:
    replay, slow = both
    assert fast_size(replay).tolist() == [len(ring) for ring in slow.rings]
    for row, ring in enumerate(slow.rings):
        for step in ring:
            column = place_of(replay, step.name) - row * replay.place.shape[1]
            assert replay.action[row, column] == step.name % 5
            assert replay.reward[row, column] == step.name / 4
            assert replay.following[row, column] == step.name + 1000
            assert replay.terminal[row, column] == step.terminal
            assert replay.over[row, column] == step.over


@given(streams(), st.sampled_from([1, 3, 6]))
def test_windows_stay_in_the_episode_and_in_what_is_known(both: tuple[Replay, SlowReplay], length: int) -> None:
    replay, slow = both
    names = np.asarray(replay.place).ravel()
    everywhere = fast_window(replay, jnp.arange(len(names)), length)
    for row, ring in enumerate(slow.rings):
        for i, step in enumerate(ring):
            index = place_of(replay, step.name)
            wanted = slow.following(row, i, length)
            alive = np.asarray(everywhere.alive[index])
            assert alive.tolist() == [True] * len(wanted) + [False] * (length - len(wanted))
            assert names[np.asarray(everywhere.steps[index])[alive]].tolist() == [step.name for step in wanted]
            before = slow.preceding(row, i)
            assert bool(everywhere.preceded[index]) == (before is not None)
            if before is not None:
                assert names[everywhere.before[index]] == before.name


@given(streams(), st.sampled_from([0.0, 0.3, 0.5, 0.8, float(LAST)]))
def test_samples_have_all_of_their_steps(both: tuple[Replay, SlowReplay], draw: float) -> None:
    replay, slow = both
    names = np.asarray(replay.place).ravel()
    draws = jnp.full(len(names), draw, jnp.float32)
    found = jax.tree.map(np.asarray, fast_sample_of(SETTINGS, replay, jnp.arange(len(names)), draws))
    for row, ring in enumerate(slow.rings):
        for i, step in enumerate(ring):
            index = place_of(replay, step.name)
            wanted = slow.following(row, i, SETTINGS.n_steps)
            alive = found.alive[index]
            assert found.place[index][alive].tolist() == [s.name for s in wanted]
            assert found.action[index][alive].tolist() == [s.name % 5 for s in wanted]
            assert found.reward[index][alive].tolist() == [s.name / 4 for s in wanted]
            assert found.following[index][alive].tolist() == [s.name + 1000 for s in wanted]
            assert found.terminal[index][alive].tolist() == [s.terminal for s in wanted]
            later = slow.following(row, i, SETTINGS.window)
            assert found.later[index] == later[int(np.float32(draw) * len(later))].name + 1000
            before = slow.preceding(row, i)
            assert bool(found.preceded[index]) == (before is not None)
            if before is not None:
                assert found.before[index] == before.name
                assert found.before_action[index] == before.name % 5


@given(streams())
def test_evenly_spaced_draws_sample_every_step_once(both: tuple[Replay, SlowReplay]) -> None:
    replay, slow = both
    total = sum(len(ring) for ring in slow.rings)
    if total == 0:
        return
    everything = [step.name for ring in slow.rings for step in ring]
    names = np.asarray(replay.place).ravel()
    draws = np.zeros(27, np.float32)  # as many as there can be: one shape
    draws[:total] = (np.arange(total) + 0.5) / total
    index = np.asarray(fast_sample(replay, draws))
    assert sorted(names[index[:total]].tolist()) == sorted(everything)
    draws[:2] = 0.0, LAST
    assert set(names[np.asarray(fast_sample(replay, draws))[:2]].tolist()) <= set(everything)


# Priorities


def priorities_of(values: Sequence[float]) -> Any:
    given_all = no_priorities(len(values))
    return fast_revise(given_all, jnp.arange(len(values)), jnp.asarray(values, jnp.float32))


@given(st.lists(st.tuples(st.integers(0, 150), st.floats(0, 8, width=32, allow_subnormal=False)), max_size=12))
@settings(max_examples=30)
def test_sums_of_blocks_are_plain_sums(changes: list[tuple[int, float]]) -> None:
    """Whatever is revised, one by one or together; what is out of range is left out."""
    one_by_one, plain = no_priorities(100), np.zeros(2 * BLOCK, np.float32)
    for index, value in changes:
        inside = index if index < 100 else 2**31 - 1
        one_by_one = fast_revise(one_by_one, jnp.array([inside]), jnp.array([value], jnp.float32))
        if index < 100:
            plain[index] = value
    assert np.asarray(one_by_one.value).ravel().tolist() == plain.tolist()
    np.testing.assert_allclose(one_by_one.total, plain.reshape(2, BLOCK).sum(axis=1), rtol=1e-6)
    assert one_by_one.largest == max([1.0, *(value for _, value in changes)])


def test_several_priorities_of_one_block_at_once() -> None:
    revised = priorities_of([1.0] * 70)
    revised = fast_revise(revised, jnp.array([3, 5, 66]), jnp.array([10.0, 20.0, 30.0]))
    assert revised.total.tolist() == [62 + 30, 5 + 30]


@given(st.lists(st.integers(0, 5), min_size=130, max_size=130).filter(any), st.floats(0, 1, exclude_max=True, width=32))
@settings(max_examples=40)
def test_a_draw_lands_where_the_running_sum_passes_it(values: list[int], draw: float) -> None:
    """Whole numbers, so that sums are exact; a place of priority 0 is never drawn."""
    draws = np.full(16, draw, np.float32)
    index, chance = map(np.asarray, fast_sample_by_priority(priorities_of(values), draws))
    edges, total = np.cumsum(values), np.float32(sum(values))
    wanted = (np.arange(16, dtype=np.float32) + draws) / np.float32(16) * total
    assert (
        index.tolist() == np.minimum(np.searchsorted(edges, wanted, side="right"), np.flatnonzero(values)[-1]).tolist()
    )
    np.testing.assert_allclose(chance, np.array(values)[index] / total, rtol=1e-6)
    assert (chance > 0).all()


def test_steps_are_sampled_by_their_priorities() -> None:
    """By the chi-square statistic of the counts.

    One draw from each of equal shares spreads counts no wider than independent draws would, so the quantile for those
    is an upper bound: it is passed once in a million.
    """
    rng = np.random.default_rng(0)
    values = rng.exponential(size=100) * (rng.random(100) < 0.8)
    priorities = priorities_of(values.tolist())
    counts = np.zeros(100)
    for _ in range(2000):
        index, chance = map(np.asarray, fast_sample_by_priority(priorities, rng.random(32).astype(np.float32)))
        np.add.at(counts, index, 1)
        np.testing.assert_allclose(chance, values[index] / values.sum(), rtol=1e-4)
    expected = 2000 * 32 * values / values.sum()
    likely = expected > 0
    assert (counts[~likely] == 0).all()
    statistic = ((counts - expected)[likely] ** 2 / expected[likely]).sum()
    assert statistic < chi2.ppf(1 - 1e-6, likely.sum() - 1)


def test_one_draw_of_a_batch_comes_from_each_share() -> None:
    """Of four equal priorities, four draws are one each: in independent draws that is rare."""
    priorities = priorities_of([2.0, 2.0, 2.0, 2.0])
    rng = np.random.default_rng(1)
    for _ in range(20):
        index, _ = fast_sample_by_priority(priorities, rng.random(4).astype(np.float32))
        assert index.tolist() == [0, 1, 2, 3]


def test_a_step_that_is_not_kept_is_never_replayed() -> None:
    """Also where the capacity is no multiple of the blocks' length."""
    replay, priorities = empty(1, 9), no_priorities(9)
    zero = np.zeros(1, np.int64)
    for kept in (True, False):
        flags = {"terminal": np.array([False]), "over": np.array([False]), "kept": np.array([kept])}
        replay, index = fast_add(replay, place=zero, action=zero, reward=zero / 4, following=zero, **flags)
        priorities = fast_revise(priorities, index, jnp.ones(1))
    index, _ = fast_sample_by_priority(priorities, np.linspace(0, 0.99, 16, dtype=np.float32))
    assert set(index.tolist()) == {0}
