"""The documentation site: it builds without a warning, names all that is public once, loads nothing from elsewhere."""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from html import unescape
from pathlib import Path

import pytest

import impactrl
from impactrl import testing
from impactrl.cli import commands

ROOT = Path(__file__).parents[1]


def build(root: Path, to: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(to)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The pages of the site, as HTML."""
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT, folder)
    assert done.returncode == 0, done.stderr
    return {str(path.relative_to(folder)): path.read_text(encoding="utf-8") for path in folder.rglob("*.html")}


def test_every_public_name_is_on_one_page(pages: dict[str, str]) -> None:
    headings = Counter(name for page in pages.values() for name in re.findall(r'<h2 id="(impactrl\.[\w.]+)"', page))
    names = [f"impactrl.{name}" for name in impactrl.__all__]
    assert headings == Counter(names + [f"impactrl.testing.{name}" for name in testing.__all__])


def test_every_command_is_there_with_its_options(pages: dict[str, str]) -> None:
    said = unescape(re.sub(r"<[^>]+>", "", pages["commands.html"]))
    assert re.findall(r"^usage: impactrl (\w+) ", said, flags=re.MULTILINE) == list(commands())
    assert all(option in said for option in ("--preset", "--plan.discount", "--retry-failed", "--agent.learning-rate"))


def test_every_page_can_be_reached_from_the_first(pages: dict[str, str]) -> None:
    links = set(re.findall(r'href="([\w/]+\.html)"', pages["index.html"]))
    assert links >= pages.keys() - {"404.html", "index.html"}


def test_nothing_is_loaded_from_elsewhere(pages: dict[str, str]) -> None:
    for page in pages.values():
        assert not re.findall(r'(?:src|href)="(?:https?:)?//', page)


def test_examples_in_docstrings_are_code(pages: dict[str, str]) -> None:
    for name, page in pages.items():
        prose = re.sub(r"<pre.*?</pre>", "", page, flags=re.DOTALL)
        assert "&gt;&gt;&gt;" not in prose, name


def test_broken_links_and_a_page_out_of_sight_are_noticed(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    for name in ("README.md", "mkdocs.yml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "impactrl").symlink_to(ROOT / "impactrl")
    for page, text in {
        "README.md": "[nowhere](docs/nowhere.md)",
        "docs/start.md": "[no heading](sweeps.md#no-heading)",
        "docs/new_page.md": "# A page that no other leads to",
    }.items():
        with (tmp_path / page).open("a") as file:
            file.write(f"\n{text}\n")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode == 1
    assert done.stderr.count("WARNING") == 3, done.stderr
    for said in ("'nowhere.md'", "#no-heading", "new_page.md"):
        assert said in done.stderr
