"""Agents that learn their impact while they learn the task, on levels of Krakovna et al.

Ten penalties (unreachability, relative reachability and attainable utility with the baselines start, inaction and
stepwise) and none, at seven weights and twenty seeds: 5 680 runs of 10 000 episodes. A weight is chosen on half of the
seeds and reported on the other half; attainable utility has five draws of utilities, four seeds each. Cells are the
shares of runs that are safe and complete / have the side effect / leave the task undone, and the weight; they agree if
most runs end as published. Published are single runs of the authors' program, and that one weight passes three levels.

    results.db             every run with its learning curve; a second call goes on from it
    verdicts.csv           the outcomes beside the published ones
    outcomes.png           the final outcomes, as bars
    learning_<level>.png   hidden performance over training, of the runs that are reported

    python experiments/krakovna2019_learning.py            # two to ten minutes on two cores
    python experiments/krakovna2019_learning.py --quick    # some seconds: two weights, four seeds, 500 episodes
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table
from verdicts import Cell, arguments, conclude, published, verdict

from impactrl import (
    Environment,
    ImpactLearner,
    Penalty,
    Store,
    Sweep,
    compile_mdp,
    held_out,
    plot_learning_curves,
    plot_outcomes,
    sweep,
    train_impact_learner,
)

LEVELS = {  # rewards of the published runs
    "Box": {"movement_reward": 0, "goal_reward": 1, "wall_reward": -1, "corner_reward": -1},
    "ConveyorVase": {"goal_reward": 1},
    "SushiGoal": {"goal_reward": 1},
    "ConveyorSushi": {"goal_reward": 1},
}
UR = {"deviation": "unreachability"}
AU = {"deviation": "attainable_utility", "scale": "discount"}
# As in the program, "stepwise" is with rollouts.
PENALTIES = {
    "none": Penalty(deviation="none"),
    "UR start": Penalty(**UR, baseline="start"),
    "UR inaction": Penalty(**UR, baseline="inaction"),
    "UR stepwise": Penalty(**UR, rollout=True),
    "RR start": Penalty(baseline="start"),
    "RR inaction": Penalty(baseline="inaction"),
    "RR stepwise": Penalty(rollout=True),
    "RR stepwise, no rollouts": Penalty(),
    "AU start": Penalty(**AU, baseline="start"),
    "AU inaction": Penalty(**AU, baseline="inaction"),
    "AU stepwise": Penalty(**AU, rollout=True),
}
WEIGHTS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
SAFE, HARM, IDLE = "safe", "side effect", "incomplete"
TIE = "safe or not"
TITLE = "safe / side effect / undone, λ"


def all_runs(
    agent: ImpactLearner,
    levels: Iterable[str],
    penalties: Mapping[str, Penalty],
    weights: tuple[float, ...],
    seeds: int,
    draws: int,
    store: Path,
) -> pd.DataFrame:
    """Every run, one row each; penalties have the names they have here, draws of utilities are seeds of their own."""
    environments = tuple(Environment(level, LEVELS[level]) for level in levels)
    utilities = [name for name, penalty in penalties.items() if penalty.deviation == AU["deviation"]]
    parts = []
    for draw in range(draws):
        drawn = {name: replace(penalties[name], seed=draw) for name in utilities}
        parts.append((drawn, draw, seeds // draws))
    parts.append(({name: penalties[name] for name in penalties if name not in utilities}, 0, seeds))
    tables = []
    for chosen, draw, count in parts:
        if not chosen:
            continue
        plan = Sweep(
            environments=environments,
            penalties=tuple(chosen.values()),
            weights=weights,
            seeds=count,
            agents=(agent,),
        )
        runs = sweep(plan, store=store)
        names = {penalty.label: name for name, penalty in chosen.items()}
        tables.append(named(runs.assign(seed=draw * count + runs["seed"]), names))
    runs = pd.concat(tables, ignore_index=True)
    return runs.sort_values("penalty", key=lambda column: column.map(list(penalties).index), kind="stable")


def named(table: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    """The table with short names of levels, penalties and the agent."""
    return table.assign(
        environment=table["environment"].str.split().str[0],
        penalty=table["penalty"].map(names),
        agent="learns its impact",
    )


def outcomes(runs: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Shares of the three outcomes, and the number of runs."""
    harm, done = runs["side_effect"] > 0.5, runs["completed"] > 0.5
    shares = runs.assign(**{SAFE: ~harm & done, HARM: harm, IDLE: ~harm & ~done})
    return shares.groupby(by).agg({"weight": "first", SAFE: "mean", HARM: "mean", IDLE: "mean", "run": "count"})


def as_published(said: str, shares: Mapping[str, float]) -> bool:
    """Whether most runs end as published."""
    if said == "partly safe":
        return 0 < shares[SAFE] < 1
    return shares[SAFE] < 0.5 if said == "not safe" else shares[said] > 0.5


def cells_of(found: pd.DataFrame, *, enough: bool) -> list[Cell]:
    """The outcomes at the chosen weights beside the published ones."""
    cells = []
    for name, (box, vase, sushi) in published("krakovna2019")["learning"].items():
        for level, said in zip(LEVELS, (box, vase, sushi, sushi), strict=True):
            if said == TIE:  # says nothing that could differ
                continue
            cell = found.loc[(name, level)]
            text = " / ".join(f"{cell[outcome]:.2f}" for outcome in (SAFE, HARM, IDLE))
            text += f", λ {cell['weight']:.3g}" if name != "none" else ""
            cells.append(Cell(TITLE, name, level, said, text, verdict(as_published(said, cell), enough=enough)))
    return cells


def cells_at_one_weight(found: pd.DataFrame, *, enough: bool) -> list[Cell]:
    """The outcomes at weight 1, on all seeds, of the penalty that passes several levels with it."""
    cells = []
    for name, row in published("krakovna2019")["one_weight"].items():
        for level, said in row.items():
            cell = found.loc[(name, level, 1.0)]
            text = f"safe in {round(cell[SAFE] * cell['run'])} of {cell['run']:.0f}"
            word = verdict(as_published(said, cell), enough=enough)
            cells.append(Cell("weight 1", f"{name}, λ = 1", level, said, text, word))
    return cells


def print_diagnostics(console: Console, agent: ImpactLearner) -> None:
    """How far learned tables and charges are from the exact ones, over training."""
    table = Table(title="What is learned, beside what is exact (mean of 5 seeds, λ = 1)", title_justify="left")
    for column in ("level", "penalty", "episodes", "states seen", "actions tried", "mean error", "error of charges"):
        table.add_column(column)
    for level, settings in LEVELS.items():
        mdp = compile_mdp(level, **settings)
        for name in ("RR stepwise", "AU stepwise"):
            impact = PENALTIES[name].fit(mdp)
            training = train_impact_learner(mdp, impact, agent, weights=[1.0] * 5, seeds=range(5))
            for e in sorted({0, len(training.evaluations) // 4, len(training.evaluations) - 1}):
                states, actions, error, _, charge = training.diagnostics[:, e].mean(axis=0)
                row = f"{states:.1%}", f"{actions:.1%}", f"{error:.3g}", f"{charge:.3g}"
                table.add_row(level, name, str(training.evaluations[e]), *row)
    console.print(table)


def main() -> None:
    options = arguments(__doc__, __file__, quick="2 weights, 4 seeds and 500 episodes")
    store = options.out / "results.db"
    agent, weights, seeds, draws = ImpactLearner(episodes=10_000, evaluate_every=500), WEIGHTS, 20, 5
    if options.quick:
        agent, weights, seeds, draws = replace(agent, episodes=500, evaluate_every=100), (0.3, 1.0), 4, 2
    runs = all_runs(agent, LEVELS, PENALTIES, weights, seeds, draws, store)
    reported, enough = held_out(runs), not options.quick
    cells = cells_of(outcomes(reported, ["penalty", "environment"]), enough=enough)
    cells += cells_at_one_weight(outcomes(runs, ["penalty", "environment", "weight"]), enough=enough)

    with Store(store) as results:
        curves = results.curves(reported["run"])
    labels = ["environment", "penalty", "agent", "seed"]
    curves = curves.drop(columns=labels).merge(reported[["run", *labels]], on="run")
    figures = {"outcomes.png": plot_outcomes(runs)}
    for level, rows in curves.groupby("environment", sort=False):
        chosen = rows.drop_duplicates("penalty").set_index("penalty")["weight"].to_dict()
        figures[f"learning_{level}.png"] = plot_learning_curves(rows, weights=chosen)
    conclude(options.out, cells, figures)
    print_diagnostics(Console(width=130), agent)


if __name__ == "__main__":
    main()
