"""How far a learned impact is from the exact one."""

from dataclasses import dataclass
from functools import cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from impactrl.agents.auxiliary import all_charges, exact_auxiliary
from impactrl.agents.deep.attainable import AttainableUtility
from impactrl.agents.deep.level import Level
from impactrl.agents.deep.update import LearnedImpact, Learner, Rule
from impactrl.measures.impact import Impact

__all__ = ["Judge"]

AT_ONCE = 32
"""States whose charges are computed together."""


@dataclass(frozen=True, eq=False)
class Judge:
    """Knows the exact charges of what a run learns.

    Attributes:
        impact: the fitted penalty.
        rule: of the run.
        level: its arrays.
    """

    impact: Impact
    rule: Rule
    level: Level

    def unit_penalty(self, learner: Learner) -> NDArray[np.float64]:
        """[X, A, K] the exact charges at weight 1; of attainable utility, of the rewards that the run has drawn."""
        learned = self.rule.impact
        if not isinstance(learned, AttainableUtility):
            return self.impact.unit_penalty
        mdp = self.impact.mdp
        drawn = _utilities(learned, learner.impact, self.level)
        values = exact_auxiliary(mdp, np.asarray(drawn, dtype=np.float64), learned.penalty)
        charged = all_charges(learned.penalty, values) * ~mdp.terminal[:, None]
        return np.broadcast_to(charged[:, :, None], mdp.next_state.shape).copy()

    def diagnostics(self, learner: Learner, exact: NDArray[np.float64]) -> NDArray[np.float64]:
        """[3] mean and largest absolute error and rank correlation of the learned charges, see `DEEP_DIAGNOSTICS`."""
        assert self.rule.impact is not None
        learned = np.asarray(_charged(self.rule.impact, learner.impact, self.level), dtype=np.float64)
        probability = self.impact.mdp.probability
        ours, theirs = ((table * probability).sum(axis=2)[self._judged] for table in (learned, exact))
        ours *= self.rule.nonterminal_weight
        error = np.abs(ours - theirs)
        return np.array([error.mean(), error.max(), _rank_correlation(ours, theirs)])

    @cached_property
    def _judged(self) -> NDArray[np.bool_]:
        """[X, A] where an episode goes on."""
        mdp = self.impact.mdp
        ends = (mdp.probability * mdp.terminal[mdp.next_state]).sum(axis=2) > 0
        judged: NDArray[np.bool_] = ~ends & ~mdp.terminal[:, None]
        return judged


def _rank_correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Spearman's, ties with their mean rank; NaN where all of one are equal."""
    ranks = [rankdata(np.round(values, 9)) for values in (first, second)]
    if any(rank.min() == rank.max() for rank in ranks):
        return float("nan")
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


@partial(jax.jit, static_argnums=0)
def _utilities(learned: AttainableUtility, state: object, level: Level) -> jax.Array:
    """[X, U] what arriving in each state pays."""
    return learned.utilities(state, level.observation, level.identity)  # type: ignore[arg-type]


@partial(jax.jit, static_argnums=0)
def _charged(learned: LearnedImpact, state: object, level: Level) -> jax.Array:
    """[X, A, K] the learned charges."""
    _, actions, outcomes = level.next_state.shape

    def of_state(x: jax.Array) -> jax.Array:
        observation = jnp.broadcast_to(level.observation[x], (actions * outcomes, *level.observation.shape[1:]))
        following = level.observation[level.next_state[x].ravel()]
        action = jnp.repeat(jnp.arange(actions), outcomes)
        return learned.charge(state, observation, action, following).reshape(actions, outcomes)

    charged: jax.Array = jax.lax.map(of_state, jnp.arange(len(level.next_state)), batch_size=AT_ONCE)
    return charged
