"""Deep attainable utility preservation with learned values, beside the tables of model-free AUP, on Turner's levels.

A deep Q-agent learns the value of each auxiliary reward with a head of its own, and is charged by what it has learned.
It should end as the tabular agent of Turner et al. (2020) does, with the same penalty: 30 rewards drawn for each run,
discount 0.996, weight 1/1.501. The published deep agent trained the values through their mean over actions only, so
that differences between actions were random; here the rank correlation of the learned charges with the exact ones
says how far they can be trusted.

    outcomes.csv      of each level: the tabular agent's usual outcome, how many deep runs end so, and how far their
                      charges are from the exact ones of each run's own rewards
    measures.csv      the other measures that can be learned, where the exact optimum is safe: how many runs are safe
                      and complete with the exact charges, and with learned ones
    learning.png      performance and rank correlation during training
    checkpoints/      the deep runs; a second call goes on from them
    tables.db         the tabular runs

    python experiments/dqn_learned_impact.py            # 16 runs of 100 000 steps each: a quarter of an hour
    python experiments/dqn_learned_impact.py --quick    # 2 runs of 2 000 steps each
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from verdicts import arguments

from impactrl import (
    DQN,
    DeepTraining,
    ModelFreeAUP,
    Penalty,
    Sweep,
    compile_mdp,
    outcome_class,
    preset,
    save_figure,
    sweep,
    train_dqn,
)

LEVELS = ("Options", "Damage", "Correction", "Offset", "Interference")
RUNS, THREADS = 16, 2
PENALTY = preset("turner2019-model-free")
OTHERS = [
    ("Options", Penalty(deviation="relative_reachability", weight=0.4)),
    ("Damage", Penalty(deviation="relative_reachability", weight=1.0)),
    ("Options", Penalty(deviation="future_tasks", weight=0.007)),
    ("Damage", Penalty(deviation="future_tasks", weight=0.007)),
    ("Damage", Penalty(deviation="step_reversibility", discount=1.0, weight=0.1)),
    ("Vase", Penalty(deviation="step_reversibility", discount=1.0, weight=0.1)),
]
OTHER_RUNS = 8
COLUMNS = ["reward", "performance", "side_effect", "completed", "impact"]


def tabular_outcomes(levels: tuple[str, ...], runs: int, quick: bool, store: str) -> "pd.Series[str]":
    """The usual outcome of the tabular agent on each level."""
    agent = ModelFreeAUP(evaluate_every=5990)
    plan = Sweep(
        environments=levels,
        penalties=(PENALTY,),
        agents=(replace(agent, episodes=300, evaluate_every=290) if quick else agent,),
        seeds=runs,
    )
    table = sweep(plan, store=store)
    outcomes = table.assign(outcome=outcome_class(table)).groupby("environment")["outcome"]
    return outcomes.agg(lambda group: group.mode().iloc[0])


def other_measures(settings: DQN, runs: int, out: Path) -> pd.DataFrame:
    """The other measures: outcomes with exact and with learned charges, and how far these are from the exact ones."""
    rows = []
    for level, penalty in OTHERS:
        fitted = penalty.fit(compile_mdp(level))
        row = {"measure": penalty.label, "level": level, "weight": penalty.weight, "runs": runs}
        for impact in ("exact", "learned"):
            training = train_dqn(
                fitted,
                replace(settings, impact=impact),
                weights=[penalty.weight] * runs,
                seeds=range(runs),
                threads=THREADS,
                checkpoint=out / "checkpoints" / f"{penalty.label} {level} {impact}",
            )
            last = training.history[:, -1]
            row[f"safe, {impact}"] = ((last[:, 2] == 0) & (last[:, 3] == 1)).mean()
        row["mean error"], row["largest error"], row["rank correlation"] = training.diagnostics[:, -1].mean(axis=0)
        rows.append(row)
    return pd.DataFrame(rows)


def plot(trainings: dict[str, DeepTraining]) -> Figure:
    """Performance and rank correlation during training: the mean over runs, and the middle half of them."""
    figure = Figure(figsize=(6.9, 4.2), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True)
    for level, training in trainings.items():
        performance = training.history[:, :, COLUMNS.index("performance")]
        for ax, values in zip(panels, (performance, training.diagnostics[:, :, 2]), strict=True):
            (line,) = ax.plot(training.evaluations, np.nanmean(values, axis=0), label=level)
            low, high = np.nanquantile(values, [0.25, 0.75], axis=0)
            ax.fill_between(training.evaluations, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
            ax.grid(alpha=0.3)
    panels[0].set_ylabel("hidden performance")
    panels[1].set_ylabel("rank correlation\nwith the exact charges")
    panels[1].set_xlabel("training steps")
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(trainings), frameon=False
    )
    return figure


def main() -> None:
    options = arguments(__doc__, __file__, quick="2 runs of 2 000 steps each")
    runs = 2 if options.quick else RUNS
    settings = DQN(impact="learned", steps=100_000, evaluate_every=5000)
    if options.quick:
        settings = replace(settings, steps=2000, evaluate_every=1000)
    tabular = tabular_outcomes(LEVELS, runs, options.quick, options.out / "tables.db")
    rows, trainings = [], {}
    for level in LEVELS:
        training = train_dqn(
            PENALTY.fit(compile_mdp(level)),
            settings,
            weights=[PENALTY.weight] * runs,
            seeds=range(runs),
            threads=THREADS,
            checkpoint=options.out / "checkpoints" / level,
        )
        trainings[level] = training
        outcomes = outcome_class(pd.DataFrame(training.history[:, -1], columns=COLUMNS))
        error, _, correlation = training.diagnostics[:, -1].mean(axis=0)
        rows.append(
            {
                "level": level,
                "tabular agent": tabular[level],
                "deep runs that agree": (outcomes == tabular[level]).mean(),
                "runs": runs,
                "mean error": round(error, 4),
                "rank correlation": round(correlation, 3),
            }
        )
    table = pd.DataFrame(rows)
    print(table.to_string(index=False))
    table.to_csv(options.out / "outcomes.csv", index=False)
    others = other_measures(replace(settings, steps=settings.steps * 2 // 5), min(runs, OTHER_RUNS), options.out)
    print(others.round(4).to_string(index=False))
    others.to_csv(options.out / "measures.csv", index=False)
    save_figure(plot(trainings), options.out / "learning.png")
    print(f"Wrote outcomes.csv, measures.csv and learning.png to {options.out}/.")


if __name__ == "__main__":
    main()
