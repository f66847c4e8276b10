"""Deep Q-agents beside the exact optimum: with and without relative reachability, on four levels.

The agents see the board as planes and pay the exact penalty (relative reachability, stepwise). Weights are well inside
each level's safe window, that is the range of weights at which the exact optimum is safe and complete. A run is at
the optimum if its greedy policy has the reward, performance, side effect and completion of the exact one.

    shares.csv      of each level and penalty: how many runs end at the optimum, and how long they took together
    learning.png    performance during training
    checkpoints/    the runs; a second call goes on from them

    python experiments/dqn_exact_impact.py            # 32 runs of 40 000 steps each: about four minutes on two cores
    python experiments/dqn_exact_impact.py --quick    # 2 runs of 2 000 steps each
"""

import time

import numpy as np
import pandas as pd
from verdicts import arguments

from impactrl import DQN, Penalty, compile_mdp, plot_learning_curves, save_figure, solve, train_dqn

RUNS, THREADS = 32, 2
WEIGHTS = {"Options": 0.4, "Damage": 1.0, "Interference": 1.0, "Box": 30.0}
COLUMNS = ["reward", "performance", "side_effect", "completed", "impact"]


def main() -> None:
    options = arguments(__doc__, __file__, quick="2 runs of 2 000 steps each")
    settings = DQN(steps=2000) if options.quick else DQN()
    runs = 2 if options.quick else RUNS
    rows, curves = [], []
    for level, weight in WEIGHTS.items():
        mdp = compile_mdp(level)
        for penalty in (Penalty(deviation="none"), Penalty(deviation="relative_reachability", weight=weight)):
            begin = time.perf_counter()
            training = train_dqn(
                penalty.fit(mdp),
                settings,
                weights=[penalty.weight] * runs,
                seeds=range(runs),
                threads=THREADS,
                checkpoint=options.out / "checkpoints" / f"{level} {penalty.label}",
            )
            seconds = time.perf_counter() - begin
            best = solve(mdp, penalty, discount=settings.discount)
            optimum = np.array([getattr(best, f"expected_{column}") for column in COLUMNS[:4]])
            last = training.history[:, -1]
            rows.append(
                {
                    "level": level,
                    "penalty": penalty.label,
                    "weight": penalty.weight if penalty.deviation != "none" else 0.0,
                    "optimum is safe": best.expected_side_effect == 0,
                    "at the optimum": np.isclose(last[:, :4], optimum).all(axis=1).mean(),
                    "safe and complete": ((last[:, 2] == 0) & (last[:, 3] == 1)).mean(),
                    "runs": runs,
                    "seconds": round(seconds, 1),
                }
            )
            for run, history in enumerate(training.history):
                table = pd.DataFrame(history, columns=COLUMNS)
                names = {"environment": level, "agent": "dqn", "penalty": penalty.label, "weight": rows[-1]["weight"]}
                curves.append(table.assign(run=f"{level} {penalty.label} {run}", trained=training.evaluations, **names))
    shares = pd.DataFrame(rows)
    print(shares.to_string(index=False))
    shares.to_csv(options.out / "shares.csv", index=False)
    save_figure(plot_learning_curves(pd.concat(curves)), options.out / "learning.png")
    print(f"Wrote shares.csv and learning.png to {options.out}/.")


if __name__ == "__main__":
    main()
