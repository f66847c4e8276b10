"""Outcome counts of model-free AUP over discounts, weights and numbers of auxiliary rewards, beside the published ones.

Turner et al. (2020), arXiv 1902.09725, figure 4: 28 settings, five levels, 50 runs each. Prints a table of every cell,
lists the cells that are more than 6 of 50 runs away, and writes to a folder:

    results.db   every run, at the published moment (after episode 5 991) and at the end; a second call goes on from it
    counts.csv   the counts of both moments and the published ones
    counts.png   the figure, in the layout of the paper

    python experiments/turner2019_counts.py            # 6 750 runs of 6 000 episodes: minutes on two cores
    python experiments/turner2019_counts.py --quick    # 2 runs each of 300 episodes
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from scipy.stats import binomtest

from impactrl import (
    CLASSES,
    ModelFreeAUP,
    Penalty,
    Store,
    Sweep,
    outcome_class,
    plot_outcome_counts,
    preset,
    save_figure,
    sweep,
)

PUBLISHED = Path(__file__).parent / "published" / "turner2019_counts.json"
LEVELS = ("Options", "Damage", "Correction", "Offset", "Interference")
AXES = {"discount": "discount γ", "lambda": "weight λ", "num_rewards": "number of auxiliary rewards"}
RUNS, FAR, MORE = 50, 6, 500
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


def run(plans: list[tuple[Setting, Sweep]], store: Path, jobs: int | None) -> Iterator[tuple[Setting, str, dict]]:
    """Does the runs, and yields setting, level and counts of every cell."""
    for setting, plan in plans:
        runs = sweep(plan, store=store, jobs=jobs)
        with Store(store) as results:
            curves = results.curves(runs["run"])
        for level, rows in curves.groupby("environment", sort=False):
            yield setting, str(level), counted(rows)


def table_of(axis: str, cells: pd.DataFrame) -> Table:
    table = Table(title=f"{AXES[axis]}: ours at the published moment, published in brackets", title_justify="left")
    table.add_column(AXES[axis])
    for level in LEVELS:
        table.add_column(level, no_wrap=True)
    for name, rows in cells[cells["axis"] == axis].groupby("setting", sort=False):
        row = [name]
        for level in LEVELS:
            cell = rows[rows["environment"] == level].iloc[0]
            ours, theirs = ("/".join(map(str, cell[of])) for of in ("published moment", "published"))
            row.append(f"{ours} ({theirs})")
        table.add_row(*row)
    return table


def explanation(cell: pd.Series, more: dict[str, list[int]], runs: int) -> str:
    """Whether chance accounts for a cell: with what probability so many runs are as far from the rate of many more."""
    ours, theirs = np.array(cell["published moment"]), np.array(cell["published"])
    worst = int(np.abs(ours - theirs).argmax())
    rate = more["published moment"][worst] / runs
    chance = {
        n: binomtest(int(k[worst]), int(k.sum()), rate).pvalue for n, k in {"ours": ours, "theirs": theirs}.items()
    }
    verdict = "chance" if chance["theirs"] > 0.01 else "differs"
    return (
        f"{verdict}: {CLASSES[worst]} in {ours[worst]} of {ours.sum()}, published {theirs[worst]}; of {runs} runs "
        f"{100 * rate:.1f} %, that is {theirs.sum() * rate:.1f} of {theirs.sum()} "
        f"(p = {chance['ours']:.2g} of ours, {chance['theirs']:.2g} of the published count)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder for the results (default: out/turner2019_counts)")
    parser.add_argument("--quick", action="store_true", help="2 runs of 300 episodes in every cell")
    parser.add_argument("--jobs", type=int, help="runs at once (default: one per core)")
    options = parser.parse_args()
    out = options.out or Path("out") / ("turner2019_counts_quick" if options.quick else "turner2019_counts")
    out.mkdir(parents=True, exist_ok=True)
    store, runs = out / "results.db", 2 if options.quick else RUNS
    published = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    # Evaluated only after the first episode, at the published moment and at the end: that changes nothing else.
    agent = ModelFreeAUP(episodes=300, evaluate_every=290) if options.quick else ModelFreeAUP(evaluate_every=5990)

    begin = time.perf_counter()
    rows = []
    plans = [(setting, setting.plan(LEVELS, runs)) for setting in settings(published["settings"], agent)]
    for setting, level, counts in run(plans, store, options.jobs):
        place = published["settings"][setting.axis].index(setting.value)
        theirs = [int(count) for count in published["counts"][setting.axis][level][place]]
        cell = {"axis": setting.axis, "setting": setting.name, "environment": level, "published": theirs}
        rows.append(cell | counts | {"what": setting})
    cells = pd.DataFrame(rows)
    seconds = time.perf_counter() - begin

    console = Console(width=150)
    console.print(f"Counts of: {' / '.join(CLASSES)}", highlight=False)
    for axis in AXES:
        console.print(table_of(axis, cells))
    print(f"{len(cells)} cells of {runs} runs in {seconds:.0f} s")
    cells.drop(columns="what").to_csv(out / "counts.csv", index=False)
    save_figure(plot_outcome_counts(bars(cells)), out / "counts.png")
    if options.quick:
        print("Too few and too short runs to compare.")
    else:
        compare(cells, store, options.jobs)
    print(f"The table, the figure and the results store are in {out}/ : look at counts.png first.")


def compare(cells: pd.DataFrame, store: Path, jobs: int | None) -> None:
    """Prints which cells are far from the published ones, and why."""
    ours, theirs = np.array(cells["published moment"].tolist()), np.array(cells["published"].tolist())
    distance = np.abs(ours - theirs).max(axis=1)
    moved = (ours != np.array(cells["end"].tolist())).any(axis=1).sum()
    print(f"{(distance == 0).sum()} of {len(cells)} cells are equal, {(distance <= FAR).sum()} within {FAR} of {RUNS}.")
    print(f"Of the counts, {moved} change between the published moment and the end.")
    for _, cell in cells[distance > FAR].iterrows():
        ((_, _, more),) = run([(cell["what"], cell["what"].plan((cell["environment"],), MORE))], store, jobs)
        print(f"  {AXES[cell['axis']]} {cell['setting']}, {cell['environment']}: {explanation(cell, more, MORE)}")


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
