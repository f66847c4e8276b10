"""What a stranger types first: the README, the scripts, the wheel."""

import re
import shlex
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from impactrl.cli import main
from impactrl.measures import registry

ROOT = Path(__file__).parents[1]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)


PAGES = ["README.md", "docs/environments.md", "docs/measures.md", "docs/own_measures.md", "docs/state_graphs.md"]


@pytest.mark.parametrize("page", PAGES)
def test_python_of_a_page_runs_and_prints_what_it_says(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for names in ("_own_deviations", "_own_baselines"):  # what a page registers goes when the test is over
        monkeypatch.setattr(registry, names, {})
    code = "".join(blocks(page, "python"))
    exec(compile(code, page, "exec"), {})
    assert capsys.readouterr().out.splitlines() == re.findall(r"^# (.*)$", code, flags=re.MULTILINE)


def test_commands_of_the_readme_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plan.toml").write_text(blocks("README.md", "toml")[0])
    commands = [line[2:].split("#")[0] for block in blocks("README.md", "console") for line in block.splitlines()]
    ours = [shlex.split(c) for c in commands if c.startswith("impactrl ")]
    assert {c[1] for c in ours} == {
        "envs",
        "measures",
        "show",
        "solve",
        "frontier",
        "explain",
        "render",
        "play",
        "train",
        "sweep",
        "results",
        "export",
        "plot",
    }
    for command in ours:
        if command[1] == "play":
            continue  # needs a terminal: see test_playing
        main(command[1:])
        said = capsys.readouterr()
        assert said.out
        assert said.err == ""


def test_the_page_on_sweeps_runs_from_its_plan_to_its_numbers(tmp_path, monkeypatch, capsys):
    page = "docs/sweeps.md"
    monkeypatch.chdir(tmp_path)
    Path("plan.toml").write_text(blocks(page, "toml")[0])
    for line in "".join(blocks(page, "console")).splitlines():
        main(shlex.split(line[2:].split("  #")[0])[1:])
        assert capsys.readouterr().err == ""
    assert {"out/index.html", "out/plane.pdf", "runs.csv"} <= {
        str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")
    }
    code = "".join(blocks(page, "python"))
    exec(compile(code, page, "exec"), {})
    assert capsys.readouterr().out.splitlines() == re.findall(r"^# (.*)$", code, flags=re.MULTILINE)


@pytest.mark.slow
def test_the_main_job_runs_in_quick_mode(tmp_path):
    """The other experiments are reproductions: see test_reproductions."""
    script = ROOT / "experiments" / "penalty_vs_performance.py"
    command = [sys.executable, str(script), "--quick", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "out").iterdir())


@pytest.mark.slow
def test_the_wheel_holds_everything_and_works_in_a_clean_environment(tmp_path):
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = [p for folder in ("envs", "agents") for p in (ROOT / folder).rglob("*") if p.suffix in (".py", ".txt")]
    for path in sources:
        assert f"impactrl/{path.relative_to(ROOT)}" in names
    for path in (ROOT / "impactrl").rglob("*.py"):
        assert str(path.relative_to(ROOT)) in names
    assert "impactrl/py.typed" in names

    # The dependencies are those of this environment; only the package itself is installed afresh.
    venv.create(tmp_path / "clean", with_pip=False)
    site = next((tmp_path / "clean" / "lib").glob("python*/site-packages"))
    zipfile.ZipFile(wheel).extractall(site)
    here = Path(pytest.__file__).parents[1]
    (site / "dependencies.pth").write_text(str(here))
    code = "import impactrl; print(impactrl.__file__); print(impactrl.compile_mdp('Offset').num_states)"
    python = tmp_path / "clean" / "bin" / "python"
    done = subprocess.run([python, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    place, states = done.stdout.splitlines()
    assert place.startswith(str(site))
    assert states == "398"
