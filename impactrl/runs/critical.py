"""The weights that tell everything: at and between those at which the exact optimum changes."""

import math
from functools import lru_cache
from itertools import pairwise

from impactrl.agents.frontier import trace
from impactrl.agents.planner import Planner
from impactrl.errors import ImpactError
from impactrl.measures.penalty import Penalty
from impactrl.runs.execution import fitted
from impactrl.runs.specification import Agent, Environment

__all__ = ["critical_weights"]

DIGITS = 9  # as many as the frontier is exact to; so a weight is spelled alike on all machines


def critical_weights(environment: Environment, penalty: Penalty, agent: Agent) -> tuple[float, ...]:
    """The critical weights of a penalty in an environment and one weight in each interval between them, ascending.

    Between two critical weights, their geometric mean; below the first, half of it; above the last, twice that. The
    optimum is that of the agent's discount (and horizon, for a planner). Weights have 9 significant digits.

    Returns:
        The penalty's own weight, where the optimum is the same at all weights.

    Raises:
        ImpactError: the penalty does not fit the environment, or has no frontier; says which.
    """
    horizon = agent.horizon if isinstance(agent, Planner) else None
    try:
        exact = _exact(environment, penalty, Planner(discount=agent.discount, horizon=horizon))
    except ImpactError as error:
        raise ImpactError(f"critical weights of {penalty.label} in {environment.label}: {error}") from None
    if not exact:
        return (penalty.weight,)
    between = [math.sqrt(low * high) for low, high in pairwise(exact)]
    weights = sorted([exact[0] / 2, *exact, *between, 2 * exact[-1]])
    return tuple(float(f"{weight:.{DIGITS}g}") for weight in weights)


@lru_cache(maxsize=1024)
def _exact(environment: Environment, penalty: Penalty, plan: Planner) -> tuple[float, ...]:
    return tuple(trace(fitted(environment, penalty), plan).weights.tolist())
