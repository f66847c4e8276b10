"""What becomes of the agent on Box at the weights that were published for it.

Runs of the program of Krakovna et al. (2019, 2020), mostly one for each, say at which weights a penalty solves Box, or
freezes the agent: "disc" charges steps that do not end the episode with 1 - 0.99 of the penalty, the others in full.
Here every weight has 20 runs of 10 000 episodes of an agent that learns its impact, attainable utility with a draw of
utilities for each. A cell agrees if most runs end as published. The figure shows at which weights the exact optimum is
safe, for one draw; printed is for how many of 40 draws it is safe at the published weights.

    results.db     every run; a second call goes on from it
    verdicts.csv   the outcomes beside the published ones
    windows.png    what the exact optimum does at every weight

    python experiments/krakovna2019_weights.py            # half a minute
    python experiments/krakovna2019_weights.py --quick    # 4 seeds of 500 episodes
"""

from dataclasses import replace

from krakovna2019_learning import IDLE, LEVELS, PENALTIES, SAFE, all_runs, as_published, outcomes
from verdicts import Cell, arguments, conclude, published, verdict

from impactrl import Frontier, ImpactLearner, Penalty, compile_mdp, frontier, plot_frontier

DISCOUNTED, DRAWS = ", disc", 40


def penalty_of(name: str) -> Penalty:
    """The penalty of a row."""
    penalty = PENALTIES[name.removesuffix(DISCOUNTED)]
    return replace(penalty, nonterminal_weight=0.01) if name.endswith(DISCOUNTED) else penalty


def is_safe(curve: Frontier, weight: float) -> bool:
    """Whether the exact optimum at a weight has no side effect and completes the task."""
    return any(lower < weight < upper for lower, upper in curve.safe_windows)


def main() -> None:
    options = arguments(__doc__, __file__, quick="4 seeds and 500 episodes")
    agent, seeds, draws = ImpactLearner(episodes=10_000, evaluate_every=10_000), 20, 20
    if options.quick:
        agent, seeds, draws = replace(agent, episodes=500, evaluate_every=500), 4, 2
    cells = []
    rows = published("krakovna2019")["box_weights"]
    for name, row in rows.items():
        weights, store = tuple(map(float, row)), options.out / "results.db"
        runs = all_runs(agent, ["Box"], {name: penalty_of(name)}, weights, seeds, draws, store)
        found = outcomes(runs.assign(at=runs["weight"]), ["at"])
        for weight, said in row.items():
            cell = found.loc[float(weight)]
            outcome = IDLE if said == IDLE else SAFE
            text = f"{outcome} in {round(cell[outcome] * cell['run'])} of {cell['run']:.0f}"
            word = verdict(as_published(said, cell), enough=not options.quick)
            cells.append(Cell("penalty", name, f"λ = {weight}", said, text, word))
    mdp = compile_mdp("Box", **LEVELS["Box"])
    curves = {name: frontier(mdp, penalty_of(name), discount=agent.discount) for name in rows}
    conclude(options.out, cells, {"windows.png": plot_frontier(curves)})
    for name, row in rows.items():
        if not name.startswith("AU"):
            continue
        drawn = [frontier(mdp, replace(penalty_of(name), seed=s), discount=agent.discount) for s in range(DRAWS)]
        counts = {weight: sum(is_safe(curve, float(weight)) for curve in drawn) for weight in row}
        text = ", ".join(f"{count} at λ = {weight}" for weight, count in counts.items())
        ends = [end for curve in drawn for _, end in curve.safe_windows]
        print(f"{name}: of {DRAWS} draws of the utilities, the exact optimum is safe in {text}; ", end="")
        print(f"up to a weight between {min(ends):.0f} and {max(ends):.0f}")


if __name__ == "__main__":
    main()
