"""The main job: penalty weight against performance, for six penalties on three published levels.

Trains 2 760 Q-learning agents (with --quick, 96), prints what each penalty achieves, and writes to a folder:

    results.db     every run with its learning curve; a second call goes on from it
    tradeoff.png   task return, hidden performance and side effects against the weight
    outcomes.png   side effect or not, completed or not, at the best weights
    learning.png   performance during training
    <level>_<episode>.png   the boards of a careless and of a careful episode

    python experiments/penalty_vs_performance.py
"""

import argparse
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from impactrl import (
    Penalty,
    QLearning,
    Store,
    Sweep,
    compile_mdp,
    explain,
    outcome_table,
    plot_episode,
    plot_learning_curves,
    plot_outcomes,
    plot_tradeoff,
    save_figure,
    sweep,
)

PENALTIES = (
    Penalty(deviation="none"),
    Penalty(deviation="unreachability", baseline="stepwise"),
    Penalty(deviation="relative_reachability", baseline="start"),
    Penalty(deviation="relative_reachability", baseline="inaction"),
    Penalty(deviation="relative_reachability", baseline="stepwise"),
    Penalty(deviation="attainable_utility", baseline="stepwise", scale="discount"),
)
# The worlds are deterministic, so a learning rate of 1 (Turner et al. 2020) learns fastest.
AGENT = QLearning(episodes=2000, learning_rate=1.0, discount=0.99)
COLUMNS = (
    *("environment", "penalty", "safe_weights", "best_weight", "runs"),
    *("reward", "performance", "side_effect_rate", "completed", "impact"),
)
EPISODES = {
    "Options": {"careless": "DRDDR", "careful": "LDRDRDR"},
    "Offset": {"offsetting": "DDLDDRUUU", "careful": "DDN"},
    "Interference": {"interfering": "RRDUURRRR", "careful": "RRRRRR"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder for the results (default: out/penalty_vs_performance)")
    parser.add_argument("--quick", action="store_true", help="3 weights and 2 seeds instead of 9 and 20")
    parser.add_argument("--jobs", type=int, help="runs at once (default: one per core)")
    options = parser.parse_args()
    out = options.out or Path("out") / ("penalty_vs_performance_quick" if options.quick else "penalty_vs_performance")
    out.mkdir(parents=True, exist_ok=True)

    weights = 10.0 ** np.linspace(-2, 2, 3 if options.quick else 9)
    plan = Sweep(
        environments=tuple(EPISODES),
        penalties=PENALTIES,
        weights=tuple(weights),
        seeds=2 if options.quick else 20,
        agents=(AGENT,),
    )
    begin = time.perf_counter()
    runs = sweep(plan, store=out / "results.db", jobs=options.jobs)
    print(f"{len(runs)} runs of {AGENT.episodes} episodes in {time.perf_counter() - begin:.1f} s")

    title = "What each penalty achieves at its best weight, on seeds that did not choose it"
    table = Table(title=title, title_justify="left")
    outcomes = outcome_table(runs)[list(COLUMNS)]
    for column in COLUMNS:
        table.add_column(column.replace("_", " "))
    for row in outcomes.itertuples(index=False):
        table.add_row(*(f"{value:.3g}" if isinstance(value, float) else str(value) for value in row))
    Console(width=130).print(table)

    with Store(out / "results.db") as store:
        curves = store.curves(runs["run"])
    save_figure(plot_tradeoff(runs), out / "tradeoff.png")
    save_figure(plot_outcomes(runs), out / "outcomes.png")
    save_figure(plot_learning_curves(curves), out / "learning.png")
    for level, episodes in EPISODES.items():
        mdp = compile_mdp(level)
        for name, actions in episodes.items():
            steps = explain(level, actions=actions, penalty=PENALTIES[4])
            save_figure(plot_episode(mdp, steps, title=f"{level}, {name}: RR stepwise"), out / f"{level}_{name}.png")
    print(f"Figures and the results store are in {out}/ : look at tradeoff.png first.")


if __name__ == "__main__":
    main()
