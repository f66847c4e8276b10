"""What the documentation site gets from the code: its home page, the help of every command, a page for each room."""

import inspect
import io
import os
import re
from contextlib import redirect_stdout, suppress
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import impactrl
from impactrl import cli, testing

ROOT = Path(__file__).parents[1]
WORLDS = "worlds"
TITLES = {
    WORLDS: "Worlds and tasks",
    "measures": "Measures",
    "agents": "Agents",
    "runs": "Runs",
    "analysis": "Statistics and figures",
    "testing": "Testing",
}
"""Rooms in the order of the navigation; others follow under their own name."""


def on_config(config: MkDocsConfig) -> None:
    """Fills in the pages of the rooms."""
    (section,) = (entry for entry in config.nav or [] if "Python" in entry)
    section["Python"] = [{title(room): f"api/{room}.md"} for room in rooms()]


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Adds the pages that are made from the code."""
    pages = {"index.md": home(), "commands.md": commands()}
    pages |= {f"api/{room}.md": room_page(room, names) for room, names in rooms().items()}
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))


def home() -> str:
    """The README, with its links as they are from here."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return "---\nhide: [navigation]\n---\n\n" + re.sub(r"(\]\()docs/", r"\1", text)


def commands() -> str:
    """What every command says of itself."""
    parts = [
        "# Commands\n\nWhat `impactrl --help` and `impactrl COMMAND --help` say. The options are the fields of the "
        "library's dataclasses, which the pages under Python explain.",
        _block(help_of()),
        *(f"## {command}\n\n{_block(help_of(command))}" for command in cli.commands()),
    ]
    return "\n\n".join(parts)


def help_of(*command: str) -> str:
    """The help of a command, as in a terminal of 100 columns."""
    said = io.StringIO()
    with patch.dict(os.environ, COLUMNS="100"), redirect_stdout(said), suppress(SystemExit):
        cli.main([*command, "--help"])
    return said.getvalue()


def _block(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```"


def rooms() -> dict[str, list[str]]:
    """The dotted names of all that is public, by the package that it lives in."""
    found: dict[str, list[str]] = {room: [] for room in TITLES}
    for name, home in sorted(impactrl._HOMES.items(), key=lambda item: (item[1], item[0])):
        room = home.partition(".")[0] if "." in home else WORLDS
        found.setdefault(room, []).append(f"impactrl.{name}")
    found["testing"] = [f"impactrl.testing.{name}" for name in testing.__all__]
    return found


def title(room: str) -> str:
    """What a room is called in the navigation."""
    return TITLES.get(room, room.capitalize())


def room_page(room: str, names: list[str]) -> str:
    """A page with the docstrings of a room's public names, each followed by classes that belong to it."""
    package = impactrl if room == WORLDS else import_module(f"impactrl.{room}")
    about = "What everything else is built on." if room == WORLDS else inspect.getdoc(package)
    parts, told = [f"# {title(room)}", str(about)], [loaded(f"impactrl.{name}") for name in impactrl.__all__]
    for name in names:
        parts.append(f"::: {name}")
        for belonging in belongings(loaded(name)):
            if belonging not in told:
                parts.append(f"::: {belonging.__module__}.{belonging.__name__}\n    options: {{ heading_level: 3 }}")
                told.append(belonging)
    return "\n\n".join(parts)


def loaded(name: str) -> object:
    """What a dotted name stands for; None where that needs an extra which is not installed."""
    package, _, attribute = name.rpartition(".")
    with suppress(ImportError):
        return getattr(import_module(package), attribute)
    return None


def belongings(thing: object) -> list[type]:
    """The library's classes that a reader of something's docstring will ask for: bases, and what is returned."""
    found: tuple[object, ...]
    if inspect.isclass(thing):
        found = inspect.getmro(thing)
    elif inspect.isfunction(thing):
        returned = re.findall(r"\w+", str(thing.__annotations__.get("return")))
        found = tuple(thing.__globals__.get(word) for word in returned)
    else:
        found = ()
    return [each for each in found if inspect.isclass(each) and each.__module__.startswith("impactrl.")]


class Doctests(griffe.Extension):
    """Shows the examples in docstrings as code."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        """Puts fences around paragraphs that begin with a prompt."""
        if obj.docstring is not None:
            paragraphs = inspect.cleandoc(obj.docstring.value).split("\n\n")
            obj.docstring.value = "\n\n".join(
                f"```pycon\n{text}\n```" if text.startswith(">>> ") else text for text in paragraphs
            )
