"""Scales of steps: what a deviation is divided by once every transition has one."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from impactrl.dynamic_programming import action_values, optimal_values
from impactrl.errors import ImpactError
from impactrl.mdp import TabularMDP
from impactrl.measures.product import Product

if TYPE_CHECKING:
    from impactrl.measures.penalty import Penalty

__all__ = ["OVER_UNIT", "STEP_SCALES", "scaled"]

STEP_SCALES = ("impact-unit", "gap", "max")
OVER_UNIT = 1.01
ZERO = 1e-9

Floats = NDArray[np.float64]


def scaled(deviation: Floats, both: Product, penalty: "Penalty", task: TabularMDP) -> Floats:
    """[X, A, K] the deviations of all transitions under the penalty's scale of steps, if it has one.

    Raises:
        ImpactError: the scale asks for an action that the task does not have.
    """
    if penalty.scale == "impact-unit":
        return _by_unit(deviation, both, _action(task, penalty.unit_action))
    if penalty.scale == "gap":
        return _by_gap(deviation, both, penalty, task)
    if penalty.scale == "max":
        largest = np.abs(deviation).max(initial=0.0)
        return deviation / (largest if largest > ZERO else 1.0)
    return deviation


def _action(task: TabularMDP, name: str | None) -> int:
    if name is None or name not in task.actions:
        raise ImpactError(
            "scale='impact-unit' needs the name of a mild action as its unit: give unit_action, one of "
            f"{', '.join(task.actions)}; not {name!r}"
        )
    return task.actions.index(name)


def _by_unit(deviation: Floats, both: Product, action: int) -> Floats:
    """Divided by what the mild action would cost in the same state; 1.01 for what is expected to raise that cost.

    Turner (2018), Towards a new impact measure: the ImpactUnit is estimated anew at every state. An action that is
    expected to increase it, or any but the no-op where it is 0, is charged 1.01.
    """
    mdp = both.mdp
    unit = (mdp.probability[:, action] * deviation[:, action]).sum(axis=1)
    over = mdp.terminal
    following = np.where(over[mdp.next_state], unit[:, None, None], unit[mdp.next_state])
    raises = (mdp.probability * following).sum(axis=2) > unit[:, None] + ZERO
    none = np.broadcast_to(unit[:, None] <= ZERO, raises.shape)
    if mdp.noop is not None:
        none = none & (np.arange(mdp.num_actions) != mdp.noop)
    charged = deviation / np.where(unit > ZERO, unit, 1.0)[:, None, None]
    real = (mdp.probability > 0) & ~over[:, None, None]
    result: Floats = np.where(real & (raises | none)[:, :, None], OVER_UNIT, charged)
    return result


def _by_gap(deviation: Floats, both: Product, penalty: "Penalty", task: TabularMDP) -> Floats:
    """Divided by `V(s) - Q(s, no-op)` of the task's reward in the state that is left; a gap of 0 counts as 1.

    Turner et al. (2020), arXiv 2006.06547.
    """
    if task.noop is None:
        raise ImpactError(
            "scale='gap' divides by what the best action is worth beyond the no-op, and this world has no no-op; use "
            "another scale"
        )
    continuing = np.where(task.terminal[task.next_state], 0.0, task.probability)
    reward = (task.probability * task.reward).sum(axis=2)
    values = optimal_values(task.next_state, continuing, reward, discount=penalty.discount).values
    q = action_values(task.next_state, continuing, reward, values, discount=penalty.discount)
    gap = (q.max(axis=1) - q[:, task.noop])[both.state]
    return deviation / np.where(gap > ZERO, gap, 1.0)[:, None, None]
