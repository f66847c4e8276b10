"""What commands share: levels and settings as people type them, tables on the terminal, files."""

import tomllib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from impactrl.errors import ImpactError
from impactrl.text_world import LEVEL_FILE, make_level

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "known_level",
    "make_folder",
    "print_heading",
    "print_pairs",
    "print_rows",
    "print_table",
    "read_settings",
    "terminal",
    "write",
]


UNLIMITED = 10_000


def known_level(env: str) -> str:
    """The environment, registered first if it is a level file."""
    return make_level(env) if env.endswith(LEVEL_FILE) else env


def read_settings(pairs: tuple[str, ...]) -> dict[str, Any]:
    """`goal_reward=1` as keyword arguments; values are read as TOML, bare words as text.

    Raises:
        ImpactError: a pair without an equals sign.
    """
    settings = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ImpactError(f"a setting is written name=value, not {pair!r}")
        try:
            settings[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            settings[key] = value
    return settings


def terminal() -> Console:
    """The terminal; in a file or a pipe one that is wide enough for every table."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=UNLIMITED)


def print_heading(text: str) -> None:
    """What comes next."""
    terminal().print(Text(text, style="italic"), end="\n\n")


def print_table(table: "pd.DataFrame", title: str = "") -> None:
    """A pandas table on the terminal; see `print_rows`."""
    print_rows(list(table.columns), list(table.itertuples(index=False)), title)


def print_rows(columns: Sequence[object], rows: Sequence[Sequence[object]], title: str = "") -> None:
    """A table on the terminal, numbers to four digits; row by row where it is too wide. Nothing is cut off."""
    drawn = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    names = [str(column).replace("_", " ") for column in columns]
    for i, name in enumerate(names):
        number = bool(rows) and all(isinstance(row[i], int | float) and not isinstance(row[i], bool) for row in rows)
        header = name.replace(" ", "\n") if number else name
        drawn.add_column(header, justify="right" if number else "left", no_wrap=number)
    texts = [[f"{v:.4g}" if isinstance(v, float) else str(v) for v in row] for row in rows]
    for text in texts:
        drawn.add_row(*text)
    console = terminal()
    if title:
        console.print(Text(title, style="italic"))
    if Measurement.get(console, console.options.update(max_width=UNLIMITED), drawn).minimum <= console.width:
        console.print(drawn)
    else:
        for text in texts:
            print_pairs(zip(names, text, strict=True))


def print_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """Names and what is to be said of them, side by side, and a blank line."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column()
    for name, text in pairs:
        grid.add_row(Text(name, style="bold"), Text(text))
    terminal().print(grid)
    print()


def write(save: Callable[[Path], None], path: Path) -> None:
    """Writes a file and says so.

    Raises:
        ImpactError: it cannot be written.
    """
    try:
        save(path)
    except OSError as error:
        raise ImpactError(f"cannot write {path}: {error.strerror}") from None
    print(f"wrote {path}")


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it.

    Raises:
        ImpactError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImpactError(f"cannot make the folder {folder}: {error.strerror}") from None
