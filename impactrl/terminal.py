"""What commands share: levels and settings as people type them, tables on the terminal, files."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from impactrl.errors import ImpactError
from impactrl.text_world import LEVEL_FILE, make_level

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["known_level", "make_folder", "print_table", "read_settings", "write"]


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


def print_table(table: "pd.DataFrame", title: str = "") -> None:
    """A pandas table on the terminal, numbers to four digits."""
    drawn = Table(title=title or None, title_justify="left")
    for column in table.columns:
        drawn.add_column(str(column), justify="right" if table[column].dtype.kind in "fi" else "left")
    for row in table.itertuples(index=False):
        drawn.add_row(*(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row))
    console = Console()
    # A table that is cut off is of no use in a file or a pipe.
    (console if console.is_terminal else Console(width=UNLIMITED)).print(drawn)


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
