"""`Impact`: a penalty fitted to a task, the charge of every transition."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from impactrl.errors import ImpactError
from impactrl.mdp import TabularMDP

if TYPE_CHECKING:
    import pandas as pd

    from impactrl.measures.penalty import Penalty

__all__ = ["COLUMNS", "Impact"]

COLUMNS = ("reward", "performance", "side_effect", "completed", "impact")
"""The five columns of every result, in order. Impact is the summed penalty at weight 1."""

Place = tuple[int, int, int]
"""x, a, k: a transition."""
Contributions = Callable[[Sequence[Place]], tuple[list[str], NDArray[np.float64]]]
"""From P transitions to the names of the K values, and [P, K] what each of them adds to D there."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Impact:
    """A penalty fitted to a task.

    Attributes:
        penalty: the choices.
        mdp: the task, or its product with the baseline's memory; X states, numbered as everything here.
        state: [X] id of each state in the task's own MDP.
        memory: [X] what the baseline remembers there, -1 for nothing.
        deviation: [X, A, K] float64, D of every transition; 0 on padding and in terminal states.
        standard_error: [X, A, K] of D as an estimate, where the penalty samples goals and D is a mean over them; else
            None.
    """

    penalty: "Penalty"
    mdp: TabularMDP
    state: NDArray[np.int64]
    memory: NDArray[np.int64]
    deviation: NDArray[np.float64]
    standard_error: NDArray[np.float64] | None = None
    _terms: Contributions | None = None

    @cached_property
    def unit_penalty(self) -> NDArray[np.float64]:
        """[X, A, K] what each transition is charged at weight 1: D, times `nonterminal_weight` before the end."""
        factor = np.where(self.mdp.terminal[self.mdp.next_state], 1.0, self.penalty.nonterminal_weight)
        return self.deviation * factor

    @cached_property
    def columns(self) -> NDArray[np.float64]:
        """[X, A, K, 4]: reward, performance, side effect and impact of each transition."""
        mdp = self.mdp
        return np.stack([mdp.reward, mdp.performance, mdp.side_effect, self.unit_penalty], axis=3)

    def penalised_reward(self, weight: float) -> NDArray[np.float64]:
        """[X, A, K] what the agent is paid: reward less weight times the unit penalty."""
        return self.mdp.reward - weight * self.unit_penalty

    def contributions(self, index: int, action: int, k: int = 0) -> "pd.Series":
        """What each value of the family adds to the deviation of a transition, largest first.

        Of values that the deviation is a mean or weighted sum of, in the units of the deviation: under the norm "L1"
        and a scale of values they add up to it, before a scale of steps.

        Args:
            index: x, of the state that is left.
            action: a.
            k: of the outcome.

        Returns:
            A series from what the values are of ("state 12", "utility 3", a feature's name) to numbers.

        Raises:
            ImpactError: the deviation is no difference of values.
        """
        return self.contributions_of([(index, action, k)])[0]

    def contributions_of(self, places: Sequence[Place]) -> "list[pd.Series]":
        """`contributions` of several transitions (x, a, k), for which the values are computed but once."""
        if self._terms is None:
            raise ImpactError(f"{self.penalty.deviation_name} is no difference of values: there is nothing to break up")
        if not places:
            return []
        names, terms = self._terms(places)
        import pandas as pd

        rows = [pd.Series(row, index=names) for row in terms]
        return [row.iloc[np.argsort(-row.abs().to_numpy(), kind="stable")] for row in rows]

    def start_index(self, state: int) -> int:
        """The index of an episode's first state, given its id in the task's MDP."""
        return int(np.flatnonzero((self.state == state) & (self.mdp.start > 0))[0])

    def follow(self, index: int, action: int, state: int, rng: np.random.Generator) -> tuple[int, int]:
        """The outcome k and the next index, when `action` led to the task's state `state`.

        Args:
            index: x, before the step.
            action: a.
            state: id of the task's state that was reached.
            rng: of a sampled baseline, which may have gone different ways; not asked where there is one.
        """
        following = self.mdp.next_state[index, action]
        chance = np.where(self.state[following] == state, self.mdp.probability[index, action], 0.0)
        fits = np.flatnonzero(chance)
        if not len(fits):
            raise self._astray(index, action, state)
        k = int(
            fits[0]
            if (following[fits] == following[fits[0]]).all()
            else rng.choice(fits, p=chance[fits] / chance.sum())
        )
        return k, int(following[k])

    def follow_all(
        self, index: NDArray[np.int64], action: NDArray[np.int64], state: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """`follow` for n steps at once: [n] outcomes and [n] next indices."""
        following = self.mdp.next_state[index, action].astype(np.int64)
        chance = np.where(self.state[following] == state[:, None], self.mdp.probability[index, action], 0.0)
        rows = np.arange(len(index))
        k = (chance > 0).argmax(axis=1)
        astray = np.flatnonzero(chance[rows, k] == 0)
        if len(astray):
            raise self._astray(*(int(given[astray[0]]) for given in (index, action, state)))
        split = np.flatnonzero(((following != following[rows, k][:, None]) & (chance > 0)).any(axis=1))
        if len(split):
            edges = chance[split].cumsum(axis=1)
            k[split] = (edges <= rng.random((len(split), 1)) * edges[:, -1:]).sum(axis=1)
        return k, following[rows, k]

    def _astray(self, index: int, action: int, state: int) -> ImpactError:
        return ImpactError(
            f"action {self.mdp.actions[action]!r} cannot lead from state {self.state[index]} of the task to state "
            f"{state}: the environment does not follow the rules that the penalty was fitted to"
        )
