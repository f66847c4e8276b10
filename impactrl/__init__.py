"""Side effects in reinforcement learning: worlds with a hidden score, impact measures, planners and learners.

Importing registers the environments `impactrl/<Level>-v0` with Gymnasium. Everything listed in `__all__` is loaded
when first used.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import impactrl.envs  # noqa: F401  (registers the levels)

if TYPE_CHECKING:
    from impactrl.agents.aup import ModelFreeAUP as ModelFreeAUP
    from impactrl.agents.aup import train_aup as train_aup
    from impactrl.agents.constrained import solve_within_budget as solve_within_budget
    from impactrl.agents.deep_policy import DeepPolicy as DeepPolicy
    from impactrl.agents.deep_policy import load_policy as load_policy
    from impactrl.agents.dqn import DQN as DQN
    from impactrl.agents.dqn import DeepTraining as DeepTraining
    from impactrl.agents.dqn import train_dqn as train_dqn
    from impactrl.agents.dqn import train_dqn_on as train_dqn_on
    from impactrl.agents.frontier import Frontier as Frontier
    from impactrl.agents.frontier import frontier as frontier
    from impactrl.agents.impact_learner import ImpactLearner as ImpactLearner
    from impactrl.agents.impact_learner import train_impact_learner as train_impact_learner
    from impactrl.agents.plan_ahead import plan_ahead as plan_ahead
    from impactrl.agents.planner import Planner as Planner
    from impactrl.agents.planner import solve as solve
    from impactrl.agents.q_learning import QLearning as QLearning
    from impactrl.agents.q_learning import train as train
    from impactrl.analysis.boards import path_panel as path_panel
    from impactrl.analysis.boards import plot_episode as plot_episode
    from impactrl.analysis.boards import plot_paths as plot_paths
    from impactrl.analysis.bootstrap import interquartile_mean as interquartile_mean
    from impactrl.analysis.bootstrap import paired_difference as paired_difference
    from impactrl.analysis.bootstrap import probability_of_improvement as probability_of_improvement
    from impactrl.analysis.comparison import aggregate as aggregate
    from impactrl.analysis.comparison import compare as compare
    from impactrl.analysis.counts import plot_outcome_counts as plot_outcome_counts
    from impactrl.analysis.frontiers import plot_frontier as plot_frontier
    from impactrl.analysis.graphs import plot_state_graph as plot_state_graph
    from impactrl.analysis.impacts import impact_board_panel as impact_board_panel
    from impactrl.analysis.impacts import impact_matrix_panel as impact_matrix_panel
    from impactrl.analysis.impacts import plot_impact as plot_impact
    from impactrl.analysis.learning import curve_panel as curve_panel
    from impactrl.analysis.learning import plot_learning_curves as plot_learning_curves
    from impactrl.analysis.outcomes import outcome_panel as outcome_panel
    from impactrl.analysis.outcomes import plot_outcomes as plot_outcomes
    from impactrl.analysis.plots import save_figure as save_figure
    from impactrl.analysis.selection import held_out as held_out
    from impactrl.analysis.selection import outcome_table as outcome_table
    from impactrl.analysis.statistics import CLASSES as CLASSES
    from impactrl.analysis.statistics import class_shares as class_shares
    from impactrl.analysis.statistics import outcome_class as outcome_class
    from impactrl.analysis.statistics import summarise as summarise
    from impactrl.analysis.tradeoff import plane_panel as plane_panel
    from impactrl.analysis.tradeoff import plot_plane as plot_plane
    from impactrl.analysis.tradeoff import plot_tradeoff as plot_tradeoff
    from impactrl.analysis.tradeoff import tradeoff_panel as tradeoff_panel
    from impactrl.compile import compile_mdp as compile_mdp
    from impactrl.condensing import condensation as condensation
    from impactrl.condensing import points_of_no_return as points_of_no_return
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
    "CLASSES": "analysis.statistics",
    "DQN": "agents.dqn",
    "Baseline": "measures.baselines",
    "DeepPolicy": "agents.deep_policy",
    "DeepTraining": "agents.dqn",
    "Deviation": "measures.deviations",
    "Environment": "runs.specification",
    "Frontier": "agents.frontier",
    "GridEnv": "env",
    "GridWorld": "world",
    "Impact": "measures.impact",
    "ImpactError": "errors",
    "ImpactLearner": "agents.impact_learner",
    "ImpactPenalty": "wrappers",
    "ModelFreeAUP": "agents.aup",
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
    "aggregate": "analysis.comparison",
    "class_shares": "analysis.statistics",
    "compare": "analysis.comparison",
    "compile_mdp": "compile",
    "condensation": "condensing",
    "curve_panel": "analysis.learning",
    "explain": "explaining",
    "frontier": "agents.frontier",
    "held_out": "analysis.selection",
    "impact_board_panel": "analysis.impacts",
    "impact_matrix_panel": "analysis.impacts",
    "interquartile_mean": "analysis.bootstrap",
    "load_policy": "agents.deep_policy",
    "make_level": "text_world",
    "outcome_class": "analysis.statistics",
    "outcome_panel": "analysis.outcomes",
    "outcome_table": "analysis.selection",
    "paired_difference": "analysis.bootstrap",
    "path_panel": "analysis.boards",
    "plane_panel": "analysis.tradeoff",
    "plan_ahead": "agents.plan_ahead",
    "plot_episode": "analysis.boards",
    "plot_frontier": "analysis.frontiers",
    "plot_impact": "analysis.impacts",
    "plot_learning_curves": "analysis.learning",
    "plot_outcome_counts": "analysis.counts",
    "plot_outcomes": "analysis.outcomes",
    "plot_paths": "analysis.boards",
    "plot_plane": "analysis.tradeoff",
    "plot_state_graph": "analysis.graphs",
    "plot_tradeoff": "analysis.tradeoff",
    "points_of_no_return": "condensing",
    "preset": "measures.presets",
    "probability_of_improvement": "analysis.bootstrap",
    "read_sweep": "runs.files",
    "register_baseline": "measures.registry",
    "register_deviation": "measures.registry",
    "register_level": "levels",
    "save_figure": "analysis.plots",
    "solve": "agents.planner",
    "solve_within_budget": "agents.constrained",
    "summarise": "analysis.statistics",
    "sweep": "runs.sweep",
    "tradeoff_panel": "analysis.tradeoff",
    "train": "agents.q_learning",
    "train_aup": "agents.aup",
    "train_dqn": "agents.dqn",
    "train_dqn_on": "agents.dqn",
    "train_impact_learner": "agents.impact_learner",
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
