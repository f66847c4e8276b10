"""Settings that the tabular learners share."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from impactrl.errors import ImpactError, real_number, require_one_of, whole_number

__all__ = ["EPSILON_SCHEDULES", "TabularLearner"]

EPSILON_SCHEDULES = ("linear", "exponential", "step")


@dataclass(frozen=True, kw_only=True)
class TabularLearner:
    """What every learner that plays episodes has to be told.

    Attributes:
        episodes: of training, each cut off at the level's time limit (without calling that an end).
        learning_rate: in (0, 1].
        discount: of the penalised reward, in [0, 1].
        epsilon_start: share of random actions in the first episode.
        epsilon_end: and in the last.
        epsilon_schedule: how it gets there: "linear"; "exponential"; or "step", the first value for two thirds of
            the episodes, then the last (Turner et al. 2020 explore with 0.8, then 0.1).
        evaluate_every: episodes between greedy evaluations; the last episode is always followed by one.

    Raises:
        ImpactError: a value out of range; says what was expected.
    """

    episodes: int = 2000
    learning_rate: float = 0.1
    discount: float = 0.99
    epsilon_start: float = 1.0
    epsilon_end: float = 0.0
    epsilon_schedule: str = "linear"
    evaluate_every: int = 100

    def __post_init__(self) -> None:
        require_one_of("epsilon_schedule", self.epsilon_schedule, EPSILON_SCHEDULES)
        for name in ("episodes", "evaluate_every"):
            object.__setattr__(self, name, whole_number(name, getattr(self, name), at_least=1))
        for name in ("learning_rate", "discount", "epsilon_start", "epsilon_end"):
            object.__setattr__(self, name, real_number(name, getattr(self, name)))
        for name in ("discount", "epsilon_start", "epsilon_end"):
            if not 0 <= getattr(self, name) <= 1:
                raise ImpactError(f"{name} must be in [0, 1], not {getattr(self, name)}")
        if not 0 < self.learning_rate <= 1:
            raise ImpactError(f"learning_rate must be in (0, 1], not {self.learning_rate}")
        if self.epsilon_schedule == "exponential" and min(self.epsilon_start, self.epsilon_end) == 0:
            raise ImpactError("an exponential schedule never reaches 0; give an epsilon_end above 0")

    def epsilons(self) -> NDArray[np.float64]:
        """[episodes] the share of random actions in each.

        >>> TabularLearner(episodes=3).epsilons().tolist()
        [1.0, 0.5, 0.0]
        """
        if self.epsilon_schedule == "linear":
            return np.linspace(self.epsilon_start, self.epsilon_end, self.episodes)
        if self.epsilon_schedule == "exponential":
            return np.geomspace(self.epsilon_start, self.epsilon_end, self.episodes)
        first = np.arange(self.episodes) < 2 * self.episodes / 3
        return np.where(first, self.epsilon_start, self.epsilon_end)

    def evaluations(self) -> NDArray[np.int64]:
        """[E] after how many episodes the greedy policy is evaluated.

        >>> TabularLearner(episodes=250, evaluate_every=100).evaluations().tolist()
        [100, 200, 250]
        """
        regular = np.arange(self.evaluate_every, self.episodes, self.evaluate_every, dtype=np.int64)
        return np.append(regular, np.int64(self.episodes))
