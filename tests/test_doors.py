"""What a stranger meets beside the documentation: the scripts, the wheel."""

import subprocess
import sys
import venv
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run_quickly(name, folder):
    script = ROOT / "experiments" / f"{name}.py"
    command = [sys.executable, str(script), "--quick", "--out", str(folder / "out")]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["penalty_vs_performance", "dqn_from_scratch", "dqn_exact_impact", "dqn_learned_impact"]
)
def test_examples_run_in_quick_mode(name, tmp_path):
    """The other experiments are reproductions: see test_reproductions."""
    done = run_quickly(name, tmp_path)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "out").iterdir())


@pytest.mark.slow
def test_the_stable_baselines3_example_runs_where_that_is_installed_and_else_says_what_is_missing(tmp_path):
    done = run_quickly("dqn_stable_baselines3", tmp_path)
    if find_spec("stable_baselines3") is None:
        said = "this example needs Stable-Baselines3 (No module named"
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert done.stderr.startswith(said)
        assert "pip install 'impactrl[sb3]'" in done.stderr
    else:
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
