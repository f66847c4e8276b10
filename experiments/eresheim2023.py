"""Model-free AUP with baselines for worlds without a no-op.

Eresheim et al. (2023), "Standing still is not an option": the value of the no-op is replaced by something that needs
none. Cells count the runs of 50 without a side effect and with the task completed; they agree if chance accounts for
the difference (Fisher's exact test, p of at least 0.01). The levels have a no-op, which the agent may take, as in the
published table. "Adversarial" is the value under an epsilon-greedy auxiliary policy; for epsilon the program takes the
share of greedy actions, 0.2 and then 0.9 for the last third of the training, so the row has 0.9. The figure also has
0.1, the share of exploring actions.

    results.db     every run; a second call goes on from it
    verdicts.csv   the counts beside the published ones
    counts.png     the counts of all four classes

    python experiments/eresheim2023.py            # 1 500 runs: half a minute
    python experiments/eresheim2023.py --quick    # 2 runs each of 300 episodes
"""

from dataclasses import replace

from verdicts import Cell, arguments, conclude, published, same_rate, verdict

from impactrl import CLASSES, ModelFreeAUP, Store, Sweep, outcome_class, plot_outcome_counts, preset, sweep

RUNS = 50
PENALTIES = {
    "AUP (no-op)": preset("turner2019-model-free"),
    "adversarial": preset("eresheim2023-adversarial", epsilon=0.9),
    "adversarial, epsilon 0.1": preset("eresheim2023-adversarial", epsilon=0.1),
    "average": preset("eresheim2023-average"),
    "average-other": preset("eresheim2023-average-other"),
    "random": preset("eresheim2023-random"),
}
BEST, IDLE = CLASSES[3], CLASSES[2]


def main() -> None:
    options = arguments(__doc__, __file__, quick="2 runs of 300 episodes in every cell")
    store, said = options.out / "results.db", published("eresheim2023")
    agent = ModelFreeAUP(evaluate_every=5990)
    plan = Sweep(
        environments=tuple(said["levels"]),
        penalties=tuple(PENALTIES.values()),
        agents=(replace(agent, episodes=300, evaluate_every=290) if options.quick else agent,),
        seeds=2 if options.quick else RUNS,
    )
    runs = sweep(plan, store=store)
    with Store(store) as results:
        # The published moment is the evaluation after episode 5 991, the last but one.
        moment = results.curves(runs["run"]).groupby("run", sort=False).nth(-2)
    names = {penalty.label: name for name, penalty in PENALTIES.items()}
    moment = moment.assign(outcome=outcome_class(moment), penalty=moment["penalty"].map(names))
    counts = moment.groupby(["penalty", "environment", "outcome"], sort=False).size().unstack(fill_value=0)
    counts = counts.reindex(columns=list(CLASSES), fill_value=0)

    def cell(row: str, level: str, outcome: str, theirs: int) -> Cell:
        ours = int(counts.loc[(row, level), outcome])
        agrees = same_rate(ours, plan.seeds, theirs, RUNS)
        word = verdict(agrees, enough=not options.quick)
        title = f"{outcome}, of {RUNS}"
        return Cell(title, row if outcome == BEST else f"{row}, idle", level, str(theirs), str(ours), word)

    cells = [
        cell(name, level, BEST, theirs)
        for name, row in said["counts"].items()
        for level, theirs in zip(said["levels"], row, strict=True)
    ]
    cells += [cell(name, level, IDLE, n) for name, row in said["idle"].items() for level, n in row.items()]
    bars = counts.reset_index().rename(columns={"penalty": "setting"}).assign(panel="", source="")
    bars["setting"] = bars["setting"].replace({"adversarial, epsilon 0.1": "advers., ε = .1"})
    conclude(options.out, cells, {"counts.png": plot_outcome_counts(bars)})


if __name__ == "__main__":
    main()
