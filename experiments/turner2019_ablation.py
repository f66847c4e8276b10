"""The ablation of attainable utility preservation: which agent does what on which level, with many seeds.

Turner et al. (2020), arXiv 1902.09725, table 1, gives one outcome for every agent and level. Here every agent has 50
runs; a cell agrees if most of them come to the published outcome, and if chance accounts for the difference from the
ten runs of the authors' program (Fisher's exact test, p of at least 0.01). Best on Correction is to be shut off. All
agents of a level use the same auxiliary values, as learned by the model-free agent; "relative reachability" is that of
the authors' program, with learned values of state indicators.

    outcomes.csv   the counts of all four classes of every cell
    verdicts.csv   those of the published outcome
    ablation.png   the counts as a figure

    python experiments/turner2019_ablation.py            # half a minute
    python experiments/turner2019_ablation.py --quick    # 2 seeds
"""

import os
from dataclasses import replace

import numpy as np
import pandas as pd
from verdicts import Cell, arguments, conclude, published, same_rate, verdict

from impactrl import (
    CLASSES,
    ModelFreeAUP,
    Penalty,
    TabularMDP,
    compile_mdp,
    outcome_class,
    plan_ahead,
    plot_outcome_counts,
    preset,
    solve,
    train_aup,
)

SEEDS, DRAWS, PROGRAM_RUNS = 50, 20, 10
AUP = preset("turner2019-model-free")
INDICATORS = replace(AUP, utilities="states", clip=True)
PLANS = {
    "starting state": preset("turner2019-plan-start"),
    "inaction": preset("turner2019-plan-inaction"),
    "decrease": preset("turner2019-plan-decrease"),
    "AUP": preset("turner2019-plan"),
}
REACHABILITY = {
    "relative reachability": preset("turner2019-plan-rr"),
    "relative reachability, λ = 0.1": preset("turner2019-plan-rr", weight=0.1),
}
SHORT = {"model-free AUP": "model-free", "relative reachability": "RR", "relative reachability, λ = 0.1": "RR, λ = .1"}
WORDS = {CLASSES[0]: "side effect, incomplete", CLASSES[1]: "side effect", CLASSES[2]: "incomplete", CLASSES[3]: "best"}


def outcomes_of(mdp: TabularMDP, seeds: int) -> tuple[dict[str, pd.Series], np.ndarray]:
    """What becomes of each agent on a level, a class per seed; and [seeds] mean errors of the learned values."""
    batch = {"seeds": range(seeds), "threads": os.cpu_count() or 1}
    agent = ModelFreeAUP(evaluate_every=6000)

    def trained(penalty: Penalty, *, diagnostics: bool = False):
        weights = [penalty.weight] * seeds
        return train_aup(mdp, penalty, agent, weights=weights, diagnostics=diagnostics, **batch)

    def planned(training, penalty: Penalty) -> pd.Series:
        plans = [plan_ahead(mdp, values[training.row], penalty) for values in training.auxiliary]
        return outcome_class(pd.DataFrame([vars(plan) for plan in plans]))

    standard, indicators = trained(Penalty(deviation="none")), trained(INDICATORS)
    model_free = trained(AUP, diagnostics=True)
    return {
        "standard": pd.Series(np.array(CLASSES)[standard.outcomes[:, -1]]),
        "model-free AUP": pd.Series(np.array(CLASSES)[model_free.outcomes[:, -1]]),
        **{name: planned(model_free, penalty) for name, penalty in PLANS.items()},
        **{name: planned(indicators, penalty) for name, penalty in REACHABILITY.items()},
    }, model_free.distance[:, -1, 0]


def cell_of(agent: str, level: str, said: str, tens: int, found: pd.Series, *, enough: bool) -> Cell:
    """How many runs have the published outcome, beside how many of the program's ten."""
    words = found.map(WORDS)
    if level == "Correction":
        words = words.replace({"incomplete": "best", "best": "safe, not shut off"})
    hits, total = int((words == said).sum()), len(words)
    agrees = hits > total / 2 and same_rate(hits, total, tens, PROGRAM_RUNS)
    theirs = said if tens == PROGRAM_RUNS else f"{said}, {tens} of {PROGRAM_RUNS}"
    ours = f"{said}, {hits} of {total}" if hits else f"{words.mode()[0]}"
    return Cell("agent", agent, level, theirs, ours, verdict(agrees, enough=enough))


def exact_shares(level: str, draws: int) -> dict[str, float]:
    """The share of draws of the utilities in which the agent that plans on exact values has the side effect."""
    mdp, shares = compile_mdp(level), {}
    for name, penalty in PLANS.items():
        plans = [solve(mdp, replace(penalty, seed=seed), discount=0.996, horizon=9) for seed in range(draws)]
        shares[name] = float(np.mean([plan.expected_side_effect > 0.5 for plan in plans]))
    return shares


def main() -> None:
    options = arguments(__doc__, __file__, quick="2 seeds instead of 50")
    said = published("turner2019")
    found, errors = {}, {}
    for level in said["levels"]:
        found[level], errors[level] = outcomes_of(compile_mdp(level), 2 if options.quick else SEEDS)
    rows = [
        {"environment": level, "agent": agent} | {name: int((outcomes == name).sum()) for name in CLASSES}
        for level in said["levels"]
        for agent, outcomes in found[level].items()
    ]
    counts = pd.DataFrame(rows)
    counts.to_csv(options.out / "outcomes.csv", index=False)

    outcomes = {agent: dict(zip(said["levels"], row, strict=True)) for agent, row in said["ablation"].items()}
    cells = [
        cell_of(
            *(agent, level, outcome, said["ten_seeds"].get(agent, {}).get(level, PROGRAM_RUNS)),
            found[level][agent],
            enough=not options.quick,
        )
        for agent, row in (outcomes | said["other_weights"]).items()
        for level, outcome in row.items()
    ]
    error, low, high = (f(errors["Options"]) for f in (np.mean, np.min, np.max))
    near = verdict(bool(low <= said["mean_error"] <= high), enough=not options.quick)
    ours = f"{error:.0f}, {low:.0f} – {high:.0f}"
    cells.append(
        Cell("learned values", "mean error of auxiliary values", "Options", str(said["mean_error"]), ours, near)
    )
    bars = counts.assign(panel="", source="", setting=counts["agent"].replace(SHORT))
    conclude(options.out, cells, {"ablation.png": plot_outcome_counts(bars)})

    draws = 2 if options.quick else DRAWS
    print(f"The same plans on exact auxiliary values, {draws} draws of the rewards: share with the side effect")
    for level in ("Damage", "Interference"):
        shares = exact_shares(level, draws)
        print(f"  {level}: " + ", ".join(f"{agent} {100 * share:.0f} %" for agent, share in shares.items()))


if __name__ == "__main__":
    main()
