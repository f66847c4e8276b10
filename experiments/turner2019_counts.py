"""Outcome counts of model-free AUP over discounts, weights and numbers of auxiliary rewards.

Turner et al. (2020), arXiv 1902.09725, figure 4: 28 settings, five levels, 50 runs each. Cells are counts of: side
effect and incomplete / side effect and completed / no side effect and incomplete / no side effect and completed. A cell
agrees if no count is more than 5 of 50 away; where one is, 500 runs say whether chance accounts for it.

    results.db     every run, at the published moment (after episode 5 991) and at the end; a second call goes on
    counts.csv     the counts of both moments
    verdicts.csv   those of the published moment beside the published ones
    counts.png     the figure, in the layout of the paper

    python experiments/turner2019_counts.py            # 6 750 runs of 6 000 episodes: minutes on two cores
    python experiments/turner2019_counts.py --quick    # 2 runs each of 300 episodes
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from verdicts import PUBLISHED, Cell, arguments, conclude, verdict

from impactrl import (
    CLASSES,
    ModelFreeAUP,
    Penalty,
    Store,
    Sweep,
    outcome_class,
    plot_outcome_counts,
    preset,
    sweep,
)

LEVELS = ("Options", "Damage", "Correction", "Offset", "Interference")
AXES = {"discount": "discount γ", "lambda": "weight λ", "num_rewards": "number of auxiliary rewards"}
SYMBOLS = {"discount": "γ", "lambda": "λ", "num_rewards": "n"}
RUNS, FAR, MORE = 50, 5, 500
MOMENT = {"published moment": -2, "end": -1}
AUP = preset("turner2019-model-free")


@dataclass(frozen=True)
class Setting:
    """One column of a panel: what is varied, its value, and the agent and penalty that go with it."""

    axis: str
    value: float
    agent: ModelFreeAUP
    penalty: Penalty

    @property
    def name(self) -> str:
        """The value as text."""
        return f"{self.value:.0f}" if self.value.is_integer() else f"{self.value:.3g}".lstrip("0")

    def plan(self, levels: tuple[str, ...], runs: int) -> Sweep:
        """Its runs."""
        return Sweep(environments=levels, penalties=(self.penalty,), agents=(self.agent,), seeds=runs)


def settings(values: dict[str, list[float]], agent: ModelFreeAUP) -> Iterator[Setting]:
    """The published settings; each varies one thing and leaves the others at their defaults."""
    for value in values["discount"]:
        yield Setting("discount", value, replace(agent, discount=value), replace(AUP, discount=value))
    for value in values["lambda"]:
        yield Setting("lambda", value, agent, replace(AUP, weight=value))
    for value in map(float, values["num_rewards"]):
        penalty = replace(AUP, utilities=int(value)) if value else Penalty(deviation="none")
        yield Setting("num_rewards", value, agent, penalty)


def counted(curves: pd.DataFrame) -> dict[str, list[int]]:
    """The counts of the four classes at each moment, from the learning curves of the runs of one cell."""
    counts = {}
    for moment, place in MOMENT.items():
        found = outcome_class(curves.groupby("run", sort=False).nth(place))
        counts[moment] = [int((found == name).sum()) for name in CLASSES]
    return counts


def run(plans: list[tuple[Setting, Sweep]], store: Path) -> Iterator[tuple[Setting, str, dict]]:
    """Does the runs, and yields setting, level and counts of every cell."""
    for setting, plan in plans:
        runs = sweep(plan, store=store)
        with Store(store) as results:
            curves = results.curves(runs["run"])
        for level, rows in curves.groupby("environment", sort=False):
            yield setting, str(level), counted(rows)


def distance(count: pd.Series) -> int:
    """By how many runs the published count and ours differ, in the class where it is most."""
    return int(np.abs(np.array(count["published moment"]) - np.array(count["published"])).max())


def cell_of(count: pd.Series, *, enough: bool) -> Cell:
    """A count beside the published one."""
    ours, theirs = ("/".join(map(str, count[of])) for of in ("published moment", "published"))
    row = f"{SYMBOLS[count['axis']]} = {count['setting']}"
    agrees = verdict(distance(count) <= FAR, enough=enough)
    return Cell(AXES[count["axis"]], row, count["environment"], theirs, ours, agrees)


def explanation(count: pd.Series, more: dict[str, list[int]], runs: int) -> str:
    """Whether chance accounts for a cell: with what probability so many runs are as far from the rate of many more."""
    ours, theirs = np.array(count["published moment"]), np.array(count["published"])
    worst = int(np.abs(ours - theirs).argmax())
    rate = more["published moment"][worst] / runs
    chance = [binomtest(int(k[worst]), int(k.sum()), rate).pvalue for k in (ours, theirs)]
    return (
        f"{CLASSES[worst]} in {ours[worst]} of {ours.sum()}, published {theirs[worst]}; of {runs} runs "
        f"{100 * rate:.1f} %, that is {theirs.sum() * rate:.1f} of {theirs.sum()} "
        f"(p = {chance[0]:.2g} of ours, {chance[1]:.2g} of the published count)"
    )


def main() -> None:
    options = arguments(__doc__, __file__, quick="2 runs of 300 episodes in every cell")
    store, runs = options.out / "results.db", 2 if options.quick else RUNS
    published = json.loads((PUBLISHED / "turner2019_counts.json").read_text(encoding="utf-8"))
    # Evaluated only after the first episode, at the published moment and at the end: that changes nothing else.
    agent = ModelFreeAUP(episodes=300, evaluate_every=290) if options.quick else ModelFreeAUP(evaluate_every=5990)

    rows = []
    plans = [(setting, setting.plan(LEVELS, runs)) for setting in settings(published["settings"], agent)]
    for setting, level, found in run(plans, store):
        place = published["settings"][setting.axis].index(setting.value)
        theirs = [int(count) for count in published["counts"][setting.axis][level][place]]
        names = {"axis": setting.axis, "setting": setting.name, "environment": level, "published": theirs}
        rows.append(names | found | {"what": setting})
    counts = pd.DataFrame(rows)
    counts.drop(columns="what").to_csv(options.out / "counts.csv", index=False)
    cells = [cell_of(count, enough=not options.quick) for _, count in counts.iterrows()]
    conclude(options.out, cells, {"counts.png": plot_outcome_counts(bars(counts))})
    if not options.quick:
        compare(counts, store)


def compare(counts: pd.DataFrame, store: Path) -> None:
    """Prints how close the cells are to the published ones, and of each that is far whether chance accounts for it."""
    equal = (counts["published moment"] == counts["published"]).sum()
    moved = (counts["published moment"] != counts["end"]).sum()
    print(f"{equal} of {len(counts)} cells are equal; {moved} change between the published moment and the end.")
    for _, count in counts[counts.apply(distance, axis=1) > FAR].iterrows():
        ((_, _, more),) = run([(count["what"], count["what"].plan((count["environment"],), MORE))], store)
        print(f"  {AXES[count['axis']]} {count['setting']}, {count['environment']}: {explanation(count, more, MORE)}")


def bars(cells: pd.DataFrame) -> pd.DataFrame:
    """The table of the figure: the weights ascending, as in the paper."""
    ordered = pd.concat([cells[cells["axis"] == axis].iloc[:: -1 if axis == "lambda" else 1] for axis in AXES])
    ordered["environment"] = pd.Categorical(ordered["environment"], LEVELS, ordered=True)
    ordered = ordered.sort_values("environment", kind="stable")
    parts = []
    for source, column in (("this library", "published moment"), ("published", "published")):
        counts = pd.DataFrame(ordered[column].tolist(), columns=list(CLASSES), index=ordered.index)
        labels = pd.DataFrame(
            {
                "panel": ordered["axis"].map(AXES),
                "environment": ordered["environment"].astype(str),
                "setting": ordered["setting"],
                "source": source,
            }
        )
        parts.append(labels.join(counts))
    table = pd.concat(parts)
    return pd.concat([table[table["panel"] == title] for title in AXES.values()])


if __name__ == "__main__":
    main()
