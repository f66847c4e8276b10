"""Every block of code in README.md and docs/ runs, in order, in a folder of its own, and prints what the page says.

What a block is, the first word after the fence says:

    python      runs; comments at the start of a line are what it prints
    console     lines with `$ ` are commands; lines below one are what it prints, `...` standing for any lines
    toml, text  is not run; with a title, it is a file
    python title="kitchen.py"   adds to that file in the folder

A block that must not run has the comment `<!-- not run: why -->` before it, and is counted here.
"""

import contextlib
import io
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from markdown_it import MarkdownIt
from PIL import Image

from impactrl.cli import commands, main
from impactrl.measures import registry

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
LEVELS = frozenset(gym.registry)
PAGES = {
    "README.md": ROOT / "README.md",
    **{str(path.relative_to(ROOT)): path for path in sorted(DOCS.glob("**/*.md"))},
}
LANGUAGES = {"python", "console", "toml", "text"}
NOT_RUN: dict[str, list[str]] = {}
"""Blocks that do not run: the reasons given, by page."""


ELSEWHERE = {
    r"make demo": (".ci/run", "make demo"),
    r"make test": (".ci/run", "make test"),
    r"make docs": ("tests/test_site.py", "mkdocs"),
    r"python experiments/\w+\.py( --quick)?": ("tests/test_doors.py", "experiments"),
    r"impactrl play \w+": ("tests/test_playing.py", "impactrl.playing"),
    r"source \.venv/bin/activate": ("Makefile", "VENV := .venv"),
}
"""Commands that are not run here, the file that runs them or has to do with them, and what it says there."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    line: int
    language: str
    title: str | None
    code: str
    not_run: str | None


def blocks_of(text: str) -> Iterator[Block]:
    reason = None
    for token in MarkdownIt().parse(text):
        if token.type == "html_block":
            comment = re.fullmatch(r"<!-- not run: (.+) -->", token.content.strip())
            reason = comment and comment[1]
        elif token.type in ("fence", "code_block"):
            language, _, options = token.info.partition(" ")
            title = re.fullmatch(r'title="([\w./-]+)"', options)
            assert title or not options, f"{token.info}: only a title may follow the language"
            assert token.map is not None
            yield Block(token.map[0] + 1, language, title and title[1], token.content, reason)
            reason = None


BLOCKS = {page: list(blocks_of(path.read_text(encoding="utf-8"))) for page, path in PAGES.items()}


def commands_of(block: Block) -> Iterator[tuple[str, list[str]]]:
    """The commands of a console block without their comments, each with the lines that stand below it."""
    parts = re.split(r"^\$ ", block.code, flags=re.MULTILINE)
    assert not parts[0], f"line {block.line}: a console block starts with a command"
    for part in parts[1:]:
        command, *said = part.splitlines()
        yield shlex.join(shlex.split(command, comments=True)), said


def agrees(said: list[str], shown: list[str]) -> bool:
    """Whether lines are those shown, of which `...` stands for any."""
    pattern = "".join(r"(.*\n)*?" if line == "..." else re.escape(f"{line}\n") for line in shown)
    return re.fullmatch(pattern, "".join(f"{line.rstrip()}\n" for line in said)) is not None


@dataclass
class Reader:
    """Somebody who types what a page says, in an empty folder."""

    folder: Path
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "page"})

    def follow(self, block: Block) -> None:
        if block.title:
            self.write(block.title, block.code)
        elif block.language == "python":
            code = compile("\n" * block.line + block.code, "the page", "exec")
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(code, self.names)
            shown = re.findall(r"^#(?: (.*))?$", block.code, flags=re.MULTILINE)
            assert out.getvalue().splitlines() == shown, f"line {block.line}"
        elif block.language == "console":
            for command, shown in commands_of(block):
                if any(re.fullmatch(pattern, command) for pattern in ELSEWHERE):
                    assert not shown
                    continue
                said = self.run(shlex.split(command))
                assert not shown or agrees(said.splitlines(), shown), f"{command} prints\n{said}"

    def write(self, name: str, text: str) -> None:
        """Adds to a file, and to the module if it is one that is already imported."""
        path = self.folder / name
        path.write_text(path.read_text() + "\n\n" + text if path.exists() else text)
        module = sys.modules.get(name.removesuffix(".py"))
        if module is not None:
            exec(compile(text, name, "exec"), module.__dict__)

    def run(self, command: list[str]) -> str:
        """What a command prints; it must print something, and no warnings."""
        if command == ["pip", "install", "-e", "."]:
            return self.install()
        if command[0] == "python":
            assert (self.folder / command[1]).exists()
            done = subprocess.run([sys.executable, *command[1:]], capture_output=True, text=True, check=False)
            said, complaint = done.stdout, done.stderr
        else:
            assert command[0] == "impactrl", f"{command[0]}: neither run here nor in ELSEWHERE"
            with (
                new_process(),
                contextlib.redirect_stdout(io.StringIO()) as out,
                contextlib.redirect_stderr(io.StringIO()) as err,
            ):
                main(command[1:])
            said, complaint = out.getvalue(), err.getvalue()
        assert complaint == "", command
        assert said, command
        return said

    def install(self) -> str:
        """What an installer leaves of the folder's pyproject.toml: the names of its entry points."""
        project = tomllib.loads((self.folder / "pyproject.toml").read_text())["project"]
        info = self.folder / f"{project['name']}-{project['version']}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        )
        points = [
            f"[{group}]\n" + "".join(f"{name} = {place}\n" for name, place in members.items())
            for group, members in project["entry-points"].items()
        ]
        (info / "entry_points.txt").write_text("\n".join(points))
        return "installed"


@contextlib.contextmanager
def new_process() -> Iterator[None]:
    """Nothing but the library is registered, and what comes to be registered goes again."""
    own = {name: getattr(registry, name) for name in ("_own_deviations", "_own_baselines")}
    levels = dict(gym.registry)
    try:
        for name in own:
            setattr(registry, name, {})
        for name in gym.registry.keys() - LEVELS:
            del gym.registry[name]
        yield
    finally:
        for name, content in own.items():
            setattr(registry, name, content)
        gym.registry.clear()
        gym.registry.update(levels)


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    """Somebody in an empty folder, of whom nothing stays behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with new_process():
        yield Reader(tmp_path)
    for name, module in list(sys.modules.items()):
        if Path(getattr(module, "__file__", None) or "/").is_relative_to(tmp_path):
            del sys.modules[name]


@pytest.mark.parametrize("page", [page for page, blocks in BLOCKS.items() if blocks])
def test_a_page_does_what_it_says(page: str, reader: Reader) -> None:
    for block in BLOCKS[page]:
        if block.not_run is None:
            reader.follow(block)
    for name in set(re.findall(r"\(\S*?figures/(\w+\.png)\)", PAGES[page].read_text(encoding="utf-8"))):
        if (reader.folder / name).exists():  # the page shows what its code draws
            drawn, shown = (np.asarray(Image.open(f / name), dtype=float) for f in (reader.folder, DOCS / "figures"))
            assert drawn.shape == shown.shape, f"docs/figures/{name} is out of date"
            assert abs(drawn - shown).mean() < 1, f"docs/figures/{name} is out of date"


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_of_a_known_kind_and_every_file_is_used(page: str) -> None:
    blocks = BLOCKS[page]
    assert {block.language for block in blocks} <= LANGUAGES
    assert [block.not_run for block in blocks if block.not_run] == NOT_RUN.get(page, [])
    for i, block in enumerate(blocks):
        assert block.title or block.language != "toml", f"line {block.line}: which file is this?"
        if block.title:
            later = "".join(b.code for b in blocks[i + 1 :] if b.language in ("python", "console"))
            used = block.title.removesuffix(".py") in later
            assert used or (block.title == "pyproject.toml" and "pip install" in later), f"{block.title} is not used"


def test_pages_speak_of_every_command_and_of_all_that_is_run_elsewhere() -> None:
    every = [c for blocks in BLOCKS.values() for b in blocks if b.language == "console" for c, _ in commands_of(b)]
    assert {c.split()[1] for c in every if c.startswith("impactrl ")} == set(commands())
    for pattern, (file, text) in ELSEWHERE.items():
        assert any(re.fullmatch(pattern, command) for command in every), pattern
        assert text in (ROOT / file).read_text(encoding="utf-8")
    for command in every:
        kind, name, *_ = shlex.split(command)
        if kind == "make":
            assert re.search(rf"^{name}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE), command
        if kind == "python" and "/" in name:
            assert (ROOT / name).exists(), command


def follow(reader: Reader, text: str) -> None:
    for block in blocks_of(text):
        reader.follow(block)


def test_files_and_what_is_printed_are_followed(reader: Reader) -> None:
    follow(reader, "```python\nprint(1)\n# 1\n```")
    follow(reader, '```python title="hall.py"\nwidth = 3\n```\n\n```python\nimport hall\nprint(hall.width)\n# 3\n```')
    follow(reader, '```python title="hall.py"\nheight = 2\n```\n\n```python\nprint(hall.height)\n# 2\n```')
    assert (reader.folder / "hall.py").read_text() == "width = 3\n\n\nheight = 2\n"


@pytest.mark.parametrize(
    "text",
    [
        "```python\nprint(1)\n# 2\n```",
        "```python\nprint(1)\n```",
        "1. in a list\n\n    ```python\n    print(1)\n    # 2\n    ```",
        "```console\n$ impactrl envs\nlevel\n```",
        "```console\n$ rm -r levels\n```",
        '```python linenums="1"\n```',
    ],
)
def test_a_block_that_does_something_else_is_noticed(text: str, reader: Reader) -> None:
    with pytest.raises(AssertionError):
        follow(reader, text)


def test_a_block_that_must_not_run_says_why() -> None:
    first, second = blocks_of("<!-- not run: it needs a week -->\n\n```python\nwait()\n```\n\n```python\n```\n")
    assert (first.not_run, second.not_run) == ("it needs a week", None)


def test_lines_may_be_left_out_of_what_a_command_prints() -> None:
    assert agrees(["a ", "b", "c"], ["a", "b", "c"])
    assert agrees(["a", "b", "c"], ["...", "c"])
    assert agrees(["a", "b", "c"], ["a", "..."])
    assert not agrees(["a", "b", "c"], ["a", "c"])
    assert not agrees(["a", "b", "c"], ["...", "b"])
