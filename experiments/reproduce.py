"""All reproductions, one after the other, and the page about them: docs/reproduction.md.

Runs every script that compares published values with reproduced ones, says how long each took, and makes a page with a
section for each: its figure, all cells, and of those that differ, why. A script that fails stops no other. After a call
that was killed, the same call goes on: finished scripts are kept, and unfinished ones keep their finished runs, for as
long as the code is the same. The page in docs is written only if all scripts were run in full and none failed; else it
is in the folder of the results.

    <code>/<script>/       what each script wrote, and what it printed (log.txt)
    <code>/reproduction.md and figures/, if not in docs

    python experiments/reproduce.py                     # ten minutes on two cores
    python experiments/reproduce.py --quick             # a minute: hardly anything is learned
    python experiments/reproduce.py shah2019 eresheim2023
"""

import argparse
import ast
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from textwrap import TextWrapper

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from verdicts import AGREES, CELLS, DIFFERS, PUBLISHED, Cell, markdown, read

import impactrl

HERE = Path(__file__).resolve().parent
ROOT, PAGE = HERE.parent, "reproduction.md"
CODE = ("experiments", "impactrl", "envs", "agents")
ONLY_THE_PAGE = ("reproduce.py", "explanations.toml")
SUFFIXES = (".py", ".toml", ".json", ".txt")
DONE, LOG = "done.json", "log.txt"
UNEXPLAINED = "**unexplained**"
PARAGRAPH = TextWrapper(120, break_on_hyphens=False, break_long_words=False)
ENTRY = TextWrapper(120, break_on_hyphens=False, break_long_words=False, subsequent_indent="  ")


@dataclass(frozen=True)
class Script:
    """A reproduction: its file, what of which paper it is, and the figures that go on the page."""

    name: str
    paper: str
    item: str
    figures: tuple[str, ...]

    @property
    def doc(self) -> list[str]:
        """The paragraphs of its docstring."""
        source = (HERE / f"{self.name}.py").read_text(encoding="utf-8")
        return (ast.get_docstring(ast.parse(source)) or "").split("\n\n")


SCRIPTS = (
    Script("turner2019_counts", "Turner et al. 2020", "figure 4", ("counts.png",)),
    Script("turner2019_ablation", "Turner et al. 2020", "table 1, and ten runs of the program", ("ablation.png",)),
    Script("eresheim2023", "Eresheim et al. 2023", "counts without a no-op", ("counts.png",)),
    Script("krakovna2019_box", "Krakovna et al. 2019", "facts about Box", ("windows.png",)),
    Script("krakovna2019_learning", "Krakovna et al. 2019, 2020", "bar charts, runs of the program", ("outcomes.png",)),
    Script("krakovna2019_weights", "Krakovna et al. 2019, 2020", "weights that solve Box", ("windows.png",)),
    Script("shah2019", "Shah et al. 2019", "table 1, and returns", ("fractions.png",)),
    Script("exact_outcomes", "Krakovna et al. 2019, Turner et al. 2020", "claims", ("windows_Offset.png",)),
    Script("published_presets", "all but Shah et al.", "outcomes, as exact optima", ("draws.png",)),
    Script("worked_numbers", "Turner 2018, Krakovna et al. 2020, Turner et al. 2021", "numbers", ("power.png",)),
)


@dataclass(frozen=True)
class Result:
    """What came of a script: its cells and seconds, or an error."""

    script: Script
    cells: list[Cell]
    seconds: float
    resumed: bool
    error: str = ""

    def count(self, verdict: str) -> int:
        """How many cells have a verdict."""
        return sum(cell.verdict == verdict for cell in self.cells)


def explanations(path: Path = PUBLISHED / "explanations.toml") -> dict[tuple[str, str], str]:
    """Why cells differ, by script and cell."""
    entries = tomllib.loads(path.read_text(encoding="utf-8"))["explanation"]
    return {(entry["script"], cell): entry["text"] for entry in entries for cell in entry["cells"]}


def code_of(root: Path = ROOT) -> str:
    """A short name of the code that the results depend on: results of other code are not kept."""
    digest = hashlib.sha256(np.__version__.encode())
    files = (path for folder in CODE for path in (root / folder).rglob("*") if path.suffix in SUFFIXES)
    for path in sorted(path for path in files if path.name not in ONLY_THE_PAGE):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def run(script: Script, out: Path, *, quick: bool) -> Result:
    """Runs a script, unless it is done already."""
    resumed = out.is_dir()
    done = out / DONE
    if not done.is_file():
        out.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, str(HERE / f"{script.name}.py"), "--out", str(out), *(["--quick"] if quick else [])]
        begin = time.perf_counter()
        with (out / LOG).open("w", encoding="utf-8") as log:
            status = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT).returncode
        seconds = time.perf_counter() - begin
        if status:
            lines = (out / LOG).read_text(encoding="utf-8").strip().splitlines() or [f"exit status {status}"]
            return Result(script, [], seconds, resumed, lines[-1])
        done.write_text(json.dumps({"seconds": seconds, "resumed": resumed}), encoding="utf-8")
    return Result(script, read(out / CELLS), **json.loads(done.read_text(encoding="utf-8")))


def run_all(scripts: Iterable[Script], out: Path, *, quick: bool) -> list[Result]:
    """Runs scripts, and prints a line for each."""
    scripts, results = list(scripts), []
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=len(scripts))
        for place, script in enumerate(scripts, start=1):
            bar.update(task, description=script.name)
            result = run(script, out / script.name, quick=quick)
            results.append(result)
            bar.advance(task)
            print(f"[{place:2d}/{len(scripts)}] {script.name:22}{result.seconds:6.0f} s  {line_of(result)}", flush=True)
    return results


def line_of(result: Result) -> str:
    """What came of a script, in a few words."""
    if result.error:
        return f"FAILED: {result.error}"
    return f"{len(result.cells)} cells, {result.count(AGREES)} agree, {result.count(DIFFERS)} differ"


def page(results: list[Result], why: dict[tuple[str, str], str], figures: str) -> str:
    """The page about all results; `figures` is the folder of its figures."""
    total = sum(result.seconds for result in results)
    versions = f"Python {platform.python_version()}, numpy {np.__version__}, impactrl {impactrl.__version__}"
    star = "\\*" if any(result.resumed for result in results) else ""
    parts = [
        "# Reproductions",
        PARAGRAPH.fill(
            "`make reproduce` repeats every published figure, table and number that this library can be held against, "
            "and writes this page. Nothing else is needed: the first time it sets up its environment. It can be "
            "stopped and started again; `make reproduce REPRODUCE_ARGS=--quick` only shows that everything runs, and "
            "`REPRODUCE_ARGS=shah2019` runs one script. The scripts are in `experiments/`, the published values, as "
            "they are printed, in `experiments/published/`."
        ),
        PARAGRAPH.fill(
            f"These are of a machine with {os.cpu_count()} cores, which may have had other work: {versions}; "
            f"{total / 60:.0f} minutes in all. The numbers do not depend on the machine, the seconds do."
        ),
        summary(results, star),
        PARAGRAPH.fill(
            "A cell is one published value. Tables below show the reproduced value with the published one in "
            "brackets. Numbers agree if they round to all the digits that were published; counts of runs, if chance "
            "accounts for the difference; outcomes, if most runs come to them. Each section says more."
        ),
    ]
    return "\n\n".join([*parts, *(section(result, why, figures) for result in results)]) + "\n"


def summary(results: list[Result], star: str) -> str:
    """The table of all scripts."""
    lines = ["| script | paper | what | cells | agree | differ | seconds |", "|---|---|---|--:|--:|--:|--:|"]
    for result in results:
        script = result.script
        counts = f"{len(result.cells)} | {result.count(AGREES)} | {result.count(DIFFERS)}"
        seconds = f"{result.seconds:.0f}{star if result.resumed else ''}"
        link = f"[`{script.name}.py`](#{script.name}py)"
        lines.append(f"| {link} | {script.paper} | {script.item} | {counts} | {seconds} |")
    counts = [sum(map(len, (r.cells for r in results))), *(sum(r.count(v) for r in results) for v in (AGREES, DIFFERS))]
    total = sum(result.seconds for result in results)
    lines.append(f"| all | | | {counts[0]} | {counts[1]} | {counts[2]} | {total:.0f} |")
    return "\n".join(lines) + (
        "\n\n\\* finished by a second call; what the first had done is not counted" if star else ""
    )


def section(result: Result, why: dict[tuple[str, str], str], figures: str) -> str:
    """A script's section: what it does, its figures, its cells, and why some differ."""
    script = result.script
    title, about = script.doc[:2]
    parts = [f"## `{script.name}.py`", PARAGRAPH.fill(f"**{title}** {about}")]
    if result.error:
        return "\n\n".join([*parts, f"**Failed:** {result.error}"])
    parts += [f"![{title.rstrip('.')}]({figures}/{script.name}_{name})" for name in script.figures]
    parts.append(markdown(result.cells))
    reasons: dict[str, list[Cell]] = {}
    for cell in result.cells:
        if cell.verdict == DIFFERS:
            reasons.setdefault(why.get((script.name, cell.name), UNEXPLAINED), []).append(cell)
    if reasons:
        lines = [f"- {'; '.join(f'{c.name}: {c.text}' for c in cells)}. {text}" for text, cells in reasons.items()]
        parts.append("What differs:\n\n" + "\n".join(ENTRY.fill(line) for line in lines))
    return "\n\n".join(parts)


def unexplained(results: list[Result], why: dict[tuple[str, str], str]) -> list[str]:
    """The cells that differ for no known reason."""
    differing = [(r.script.name, c.name) for r in results for c in r.cells if c.verdict == DIFFERS]
    return [f"{script}: {cell}" for script, cell in differing if (script, cell) not in why]


def write_page(results: list[Result], out: Path, docs: Path) -> None:
    """Writes the page and its figures into a folder."""
    figures = docs / "figures" / "reproduction"
    shutil.rmtree(figures, ignore_errors=True)
    figures.mkdir(parents=True)
    for result in results:
        for name in () if result.error else result.script.figures:
            shutil.copyfile(out / result.script.name / name, figures / f"{result.script.name}_{name}")
    (docs / PAGE).write_text(page(results, explanations(), "figures/reproduction"), encoding="utf-8")


def main() -> int:
    """Runs what was asked for; the exit status says whether all scripts ended well."""
    names = [script.name for script in SCRIPTS]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("scripts", nargs="*", metavar="script", help=f"some of {', '.join(names)} (default: all)")
    parser.add_argument("--out", type=Path, default=Path("out/reproduce"), help="folder for the results")
    parser.add_argument("--quick", action="store_true", help="hardly any runs: shows that everything works")
    options = parser.parse_args()
    if wrong := [name for name in options.scripts if name not in names]:
        parser.error(f"there is no script {wrong[0]!r}; there are {', '.join(names)}")
    out = options.out / (code_of() + ("_quick" if options.quick else ""))
    wanted = [script for script in SCRIPTS if script.name in (options.scripts or names)]
    try:
        results = run_all(wanted, out, quick=options.quick)
    except KeyboardInterrupt:
        print("Stopped. What is finished is kept: the same command goes on.")
        return 130
    failed = [result.script.name for result in results if result.error]
    final = not options.quick and not failed and len(wanted) == len(SCRIPTS)
    docs = ROOT / "docs" if final else out
    write_page(results, out, docs)
    for cell in unexplained(results, explanations()):
        print(f"Differs for no known reason: {cell}")
    if failed:
        print(f"Failed: {', '.join(failed)}; what they printed is in {LOG} in their folders in {out}/.")
    print(f"Wrote {docs / PAGE}.")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
