"""Small tasks, settings and pieces of deep agents, for the tests. Shapes are few, since each costs a compilation."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray
from random_mdps import RuleWorld, steps

from impactrl.agents.deep.level import Level, level_of
from impactrl.agents.deep.networks import Architecture, Network
from impactrl.agents.deep.program import Run, advance, new_run
from impactrl.agents.deep.rules import rule_of
from impactrl.agents.deep.update import Rule
from impactrl.agents.dqn import DQN
from impactrl.compile import compile_mdp
from impactrl.mdp import TabularMDP
from impactrl.measures.impact import Impact
from impactrl.measures.penalty import Penalty
from impactrl.world import Outcome

NONE = Penalty(deviation="none")
TABLE: dict[str, Any] = {
    "hidden": (),
    "optimiser": "sgd",
    "loss": "squared",
    "observation": "state",
    "gradient_clip": 0.0,
    "double": False,
}
"""Settings of a network that is a table."""
SMALL = DQN(
    steps=84,
    evaluate_every=40,
    update_every=2,
    learning_starts=8,
    batch_size=4,
    buffer_size=32,
    hidden=(4,),
    learning_rate=0.01,
)
"""A short training, for what does not depend on having learned much."""


def random_task(seed: int, *, time_limit: int = 7) -> TabularMDP:
    """6 states, the last one terminal, 3 actions, 2 outcomes that lead to different states: always the same shape."""
    rng = np.random.default_rng(seed)
    rules = {}
    for s in range(5):
        for a in range(3):
            other = int(rng.choice([t for t in range(6) if t != s + 1]))
            chance = float(rng.uniform(0.2, 0.8))
            paid = rng.integers(-2, 3, (2, 3)).astype(float)
            rules[s, a] = [
                Outcome(s + 1, *paid[0], probability=chance),
                Outcome(other, *paid[1], probability=1 - chance),
            ]
    world = RuleWorld(
        rules=rules,
        first=[(0.25, 0), (0.75, 2)],
        ends=frozenset({5}),
        actions=("a", "b", "c"),
        time_limit=time_limit,
        done=frozenset({4, 5}),
    )
    return compile_mdp(world)


def corridor(**settings: Any) -> TabularMDP:
    """Three states in a row and the end; action 0 is the no-op, action 1 goes on, the last step pays 1."""
    return compile_mdp(steps([0, 1], [1, 2], [2, 3], None, rewards=[[0, 0], [0, 0], [0, 1]], **settings))


def ring_with_a_drop(**settings: Any) -> TabularMDP:
    """Action 1 goes round the ring of the states 0, 1 and 2; action 2 ends the episode in 0, and drops from 1 to 3.

    Nothing leads away from 3. Action 0 is the no-op.
    """
    return compile_mdp(steps([0, 1, 4], [1, 2, 3], [2, 0, 2], [3, 3, 3], None, **settings))


def table_network(values: ArrayLike) -> Network:
    """The network without layers whose values of one-hot observations are a table [S, A]."""
    table = jnp.asarray(values, jnp.float32)
    network = Network(Architecture(observation=(len(table),), outputs=table.shape[1], hidden=()), jax.random.key(0))
    filled: Network = eqx.tree_at(lambda n: n.head.weight, network, table.T)
    return filled


def rule_for(impact: Impact, settings: DQN) -> tuple[Rule, Level]:
    """The rule and the level of a training, as `train_dqn` makes them."""
    level = level_of(impact, settings)
    rule = rule_of(
        settings,
        impact.penalty,
        level.observation.shape[1:],
        actions=impact.mdp.num_actions,
        noop=impact.mdp.noop,
        states=int(level.identity.max()) + 1,
    )
    return rule, level


def key_of(seed: int) -> jax.Array:
    """What a run's random numbers come from."""
    return jnp.asarray(np.random.SeedSequence(seed).generate_state(2, np.uint32))


class Walk:
    """A run that is taken step by step, and what it remembers of its steps."""

    def __init__(self, impact: Impact, settings: DQN, *, weight: float = 1.0, seed: int = 0) -> None:
        self.impact, self.settings, self.weight = impact, settings, weight
        self.rule, self.level = rule_for(impact, settings)
        self.unit = jnp.asarray(impact.unit_penalty, jnp.float32)
        self.run: Run = new_run(self.rule, self.level, key_of(seed))
        self.step = 0
        self.values: NDArray[np.float32] = np.zeros((0, 0), np.float32)

    def to(self, until: int) -> "Walk":
        """Goes on until a step."""
        weight = jnp.float32(self.weight)
        with jax.default_device(jax.devices("cpu")[0]):  # as in training, else it would be compiled twice
            self.run, values = advance(self.rule, self.level, self.unit, self.run, weight, self.step, until)
        self.step, self.values = until, np.asarray(values)
        return self

    def remembered(self) -> dict[str, NDArray[Any]]:
        """The steps since the beginning, if none is forgotten yet: [steps] of each of the replay's columns."""
        replay = self.run.replay
        count = int(replay.added[0])
        assert count <= replay.place.shape[1], "the replay is too small for all steps"
        return {name: np.asarray(getattr(replay, name))[0, :count] for name in replay._fields if name != "added"}


def outcome_of(mdp: TabularMDP, s: int, a: int, following: int) -> int:
    """Which of the outcomes, that lead to different states, was seen."""
    (k,) = np.flatnonzero((mdp.next_state[s, a] == following) & (mdp.probability[s, a] > 0))
    return int(k)


def small(**changes: Any) -> DQN:
    """`SMALL` with changes."""
    return replace(SMALL, **changes)


jitted = partial(jax.jit, static_argnums=0)


def one_hot(states: Sequence[int] | NDArray[Any], count: int) -> jax.Array:
    """[..., count] of numbers [...]."""
    return jnp.eye(count)[np.asarray(states)]
