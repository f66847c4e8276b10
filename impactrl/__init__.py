"""Side effects in reinforcement learning: worlds with a hidden score, impact measures, planners and learners.

Importing registers the environments `impactrl/<Level>-v0` with Gymnasium. Everything listed in `__all__` is loaded
when first used.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import impactrl.envs  # noqa: F401  (registers the levels)

if TYPE_CHECKING:
    from impactrl.agents.budget import solve_within_budget as solve_within_budget
    from impactrl.agents.planner import Planner as Planner
    from impactrl.agents.planner import solve as solve
    from impactrl.agents.q_learning import QLearning as QLearning
    from impactrl.agents.q_learning import train as train
    from impactrl.analysis.boards import plot_episode as plot_episode
    from impactrl.analysis.plots import plot_learning_curves as plot_learning_curves
    from impactrl.analysis.plots import plot_tradeoff as plot_tradeoff
    from impactrl.analysis.plots import save_figure as save_figure
    from impactrl.analysis.statistics import outcome_table as outcome_table
    from impactrl.analysis.statistics import summarise as summarise
    from impactrl.compile import compile_mdp as compile_mdp
    from impactrl.env import GridEnv as GridEnv
    from impactrl.errors import ImpactError as ImpactError
    from impactrl.explaining import explain as explain
    from impactrl.levels import register_level as register_level
    from impactrl.mdp import TabularMDP as TabularMDP
    from impactrl.measures.baselines import Baseline as Baseline
    from impactrl.measures.deviations import Deviation as Deviation
    from impactrl.measures.deviations import PairDeviation as PairDeviation
    from impactrl.measures.deviations import ValueFamily as ValueFamily
    from impactrl.measures.impact import Impact as Impact
    from impactrl.measures.penalty import Penalty as Penalty
    from impactrl.measures.presets import PRESETS as PRESETS
    from impactrl.measures.presets import preset as preset
    from impactrl.measures.registry import register_baseline as register_baseline
    from impactrl.measures.registry import register_deviation as register_deviation
    from impactrl.runs.files import read_sweep as read_sweep
    from impactrl.runs.specification import Environment as Environment
    from impactrl.runs.store import Store as Store
    from impactrl.runs.sweep import Sweep as Sweep
    from impactrl.runs.sweep import sweep as sweep
    from impactrl.text_world import TextWorld as TextWorld
    from impactrl.text_world import make_level as make_level
    from impactrl.world import GridWorld as GridWorld
    from impactrl.world import Outcome as Outcome
    from impactrl.world import World as World
    from impactrl.wrappers import ImpactPenalty as ImpactPenalty

_HOMES = {
    "Baseline": "measures.baselines",
    "Deviation": "measures.deviations",
    "Environment": "runs.specification",
    "GridEnv": "env",
    "GridWorld": "world",
    "Impact": "measures.impact",
    "ImpactError": "errors",
    "ImpactPenalty": "wrappers",
    "Outcome": "world",
    "PRESETS": "measures.presets",
    "PairDeviation": "measures.deviations",
    "Penalty": "measures.penalty",
    "Planner": "agents.planner",
    "QLearning": "agents.q_learning",
    "Store": "runs.store",
    "Sweep": "runs.sweep",
    "TabularMDP": "mdp",
    "TextWorld": "text_world",
    "ValueFamily": "measures.deviations",
    "World": "world",
    "compile_mdp": "compile",
    "explain": "explaining",
    "make_level": "text_world",
    "outcome_table": "analysis.statistics",
    "plot_episode": "analysis.boards",
    "plot_learning_curves": "analysis.plots",
    "plot_tradeoff": "analysis.plots",
    "preset": "measures.presets",
    "read_sweep": "runs.files",
    "register_baseline": "measures.registry",
    "register_deviation": "measures.registry",
    "register_level": "levels",
    "save_figure": "analysis.plots",
    "solve": "agents.planner",
    "solve_within_budget": "agents.budget",
    "summarise": "analysis.statistics",
    "sweep": "runs.sweep",
    "train": "agents.q_learning",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("impactrl")
    if name not in _HOMES:
        raise AttributeError(f"module 'impactrl' has no attribute {name!r}")
    value = getattr(import_module(f"impactrl.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
