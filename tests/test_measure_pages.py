"""docs/measures.md and docs/own_measures.md: they name everything, and their commands and files work."""

import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest

import impactrl
from impactrl.cli import main
from impactrl.measures import registry
from impactrl.measures.baselines import BASELINES
from impactrl.measures.presets import PRESETS
from impactrl.measures.registry import DEVIATIONS
from impactrl.testing import check_baseline, check_deviation

DOCS = Path(__file__).parents[1] / "docs"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), flags=re.DOTALL)


def commands(page: str) -> list[list[str]]:
    lines = [line for block in blocks(page, "console") for line in block.splitlines()]
    return [shlex.split(line.removeprefix("$ impactrl ")) for line in lines]


def test_the_page_of_measures_speaks_of_every_one():
    page = (DOCS / "measures.md").read_text()
    for name in [*DEVIATIONS, *BASELINES]:
        assert f"`{name}`" in page
    for name in PRESETS:  # families of presets are written as `turner2019-plan`, `-plan-start`
        start, dash, rest = name.partition("-")
        assert f"`{name}`" in page or (start in page and f"`{dash}{rest}`" in page)


@pytest.mark.parametrize("command", commands("measures.md"), ids=" ".join)
def test_commands_of_the_page_of_measures_run(command, capsys):
    main(command)
    assert capsys.readouterr().out


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The classes of the page as an installed package: a module, and the entry points that the page shows."""
    definitions = [block for block in blocks("own_measures.md", "python") if "\nclass " in block]
    kept = [re.split(r"^\S+ = |^for ", block, flags=re.MULTILINE)[0] for block in definitions[:3]]
    (tmp_path / "my_measures.py").write_text("\n".join(kept))
    points = tomllib.loads(blocks("own_measures.md", "toml")[0])["project"]["entry-points"]
    info = tmp_path / "my_measures-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my_measures\nVersion: 1.0\n")
    lines = [f"[{group}]\n" + "\n".join(f"{k} = {v}" for k, v in names.items()) for group, names in points.items()]
    (info / "entry_points.txt").write_text("\n\n".join(lines))
    monkeypatch.setattr(registry, "_own_deviations", {})
    monkeypatch.setattr(registry, "_own_baselines", {})
    monkeypatch.delitem(sys.modules, "my_measures", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_the_entry_points_of_the_page_make_its_measures_known(installed, capsys):
    check_deviation("boxes", ["Options"])
    check_baseline("previous", ["Options"])
    plan = installed / "plan.toml"
    plan.write_text(blocks("own_measures.md", "toml")[1])
    assert impactrl.read_sweep(plan).penalties[0].label == "boxes previous"
    shown = commands("own_measures.md")
    assert {command[0] for command in shown} == {"measures", "explain"}
    for command in shown:
        main(command)
        assert "boxes" in capsys.readouterr().out
