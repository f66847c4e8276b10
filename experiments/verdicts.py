"""What the reproductions share: their arguments, the published values, cells with a verdict, and tables of them.

A cell is one published value beside the reproduced one. A script collects its cells and hands them to `conclude`, which
prints them, writes them to `verdicts.csv`, and saves the figures. `reproduce.py` makes a page of what all wrote.
"""

import argparse
import csv
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from scipy.stats import fisher_exact

from impactrl import save_figure

AGREES, DIFFERS, UNJUDGED = "agrees", "differs", "too few runs"
CHANCE = 0.01  # two counts differ if chance alone would part them so far less often
CELLS = "verdicts.csv"
PUBLISHED = Path(__file__).parent / "published"
HALF_A_DIGIT, EQUAL = 0.5 + 1e-6, 1e-9


@dataclass(frozen=True)
class Cell:
    """A published value, the reproduced one, and whether they agree."""

    table: str
    row: str
    column: str
    published: str
    reproduced: str
    verdict: str

    @property
    def name(self) -> str:
        """Row and column: no two cells of a script have the same."""
        return f"{self.row}, {self.column}"

    @property
    def text(self) -> str:
        """Both values, and whether they differ."""
        values = f"{self.reproduced} ({self.published})"
        return f"{values} {DIFFERS}" if self.verdict == DIFFERS else values


def verdict(agrees: bool, *, enough: bool = True) -> str:
    """The verdict in a word; none where there are too few runs to judge by."""
    if not enough:
        return UNJUDGED
    return AGREES if agrees else DIFFERS


def digits(table: str, row: str, column: str, published: str, value: float) -> Cell:
    """A number that agrees if it rounds to all the digits that were published; a whole number has to be equal."""
    places = len(published.partition(".")[2])
    agrees = abs(value - float(published)) <= (HALF_A_DIGIT * 10.0**-places if places else EQUAL)
    text = f"{value:.{places}f}" if places else f"{value:.6g}"
    return Cell(table, row, column, published, text, verdict(agrees))


def same_rate(ours: int, runs: int, theirs: int, published_runs: int) -> bool:
    """Whether chance accounts for the difference of two counts (Fisher's exact test)."""
    return fisher_exact([[ours, runs - ours], [theirs, published_runs - theirs]]).pvalue >= CHANCE


def published(section: str) -> dict[str, Any]:
    """Published values: a section of `published/tables.toml`."""
    return tomllib.loads((PUBLISHED / "tables.toml").read_text(encoding="utf-8"))[section]


def arguments(doc: str | None, file: str, *, quick: str) -> argparse.Namespace:
    """The arguments that every script takes; the folder of the results is made.

    Args:
        doc: of the script; its first line describes it.
        file: of the script; its name is that of the default folder.
        quick: what `--quick` does.
    """
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    name = Path(file).stem
    parser.add_argument("--out", type=Path, help=f"folder for the results (default: out/{name})")
    parser.add_argument("--quick", action="store_true", help=quick)
    options = parser.parse_args()
    if options.out is None:
        options.out = Path("out") / (f"{name}_quick" if options.quick else name)
    options.out.mkdir(parents=True, exist_ok=True)
    return options


def grids(cells: Iterable[Cell]) -> Iterator[tuple[str, list[str], dict[str, list[str]]]]:
    """The cells as tables: the title, the columns, and the texts of every row, "" where there is no cell."""
    tables: dict[str, dict[str, dict[str, str]]] = {}
    for cell in cells:
        tables.setdefault(cell.table, {}).setdefault(cell.row, {})[cell.column] = cell.text
    for title, rows in tables.items():
        columns = list(dict.fromkeys(column for row in rows.values() for column in row))
        yield title, columns, {name: [row.get(column, "") for column in columns] for name, row in rows.items()}


def markdown(cells: Iterable[Cell]) -> str:
    """The cells as tables of Markdown; those that differ in bold."""
    parts = []
    for title, columns, rows in grids(cells):
        lines = [f"| {title} | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
        for name, texts in rows.items():
            shown = [f"**{text}**" if text.endswith(DIFFERS) else text for text in texts]
            lines.append(f"| {name} | {' | '.join(shown)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def conclude(out: Path, cells: list[Cell], figures: Mapping[str, Figure]) -> None:
    """Prints the cells, the reproduced value with the published one in brackets, and writes them and the figures."""
    names = [cell.name for cell in cells]
    assert len(set(names)) == len(names), "two cells have one name"
    console = Console(width=160)
    for title, columns, rows in grids(cells):
        table = Table(title=f"{title}: reproduced (published)", title_justify="left")
        for column in ("", *columns):
            table.add_column(column)
        for name, texts in rows.items():
            table.add_row(name, *texts)
        console.print(table, highlight=False)
    for name, figure in figures.items():
        save_figure(figure, out / name)
    write(cells, out / CELLS)
    counts = {word: sum(cell.verdict == word for cell in cells) for word in (AGREES, DIFFERS, UNJUDGED)}
    print(f"{len(cells)} cells: " + ", ".join(f"{count} {word}" for word, count in counts.items() if count))
    print(f"Wrote {', '.join([CELLS, *figures])} to {out}/.")


def write(cells: Iterable[Cell], path: Path) -> None:
    """Writes cells as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Cell)])
        writer.writeheader()
        writer.writerows(asdict(cell) for cell in cells)


def read(path: Path) -> list[Cell]:
    """Reads what `write` wrote."""
    with path.open(newline="", encoding="utf-8") as file:
        return [Cell(**row) for row in csv.DictReader(file)]


def plot_numbers(numbers: Iterable[tuple[str, float, float]], *, label: str) -> Figure:
    """A line for every number: what was published as a ring, what was reproduced as a dot in it.

    Args:
        numbers: name, published and reproduced value.
        label: of the axis.
    """
    names, theirs, ours = zip(*numbers, strict=True)
    figure = Figure(figsize=(6.9, 0.6 + 0.17 * len(names)), layout="constrained")
    ax = figure.subplots()
    places = range(len(names))[::-1]
    ax.plot(theirs, places, "o", markersize=8, fillstyle="none", color="#D55E00", label="published")
    ax.plot(ours, places, "o", markersize=3, color="#0072B2", label="reproduced")
    ax.set_yticks(places, names, fontsize=7)
    ax.tick_params(axis="x", labelsize=7)
    ax.set_xlabel(label, fontsize=7)
    ax.grid(alpha=0.3)
    ax.margins(y=0.5 / len(names))
    figure.legend(fontsize=7, frameon=False, ncols=2, loc="outside upper center")
    return figure
