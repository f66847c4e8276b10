"""The reproductions: strict verdicts, pages that hide nothing, and a driver that survives what goes wrong."""

import importlib
import json
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_mdps import mdps

import impactrl

ROOT = Path(__file__).parents[1]
EXPERIMENTS = ROOT / "experiments"
OTHERS = {
    "dqn_exact_impact",
    "dqn_from_scratch",
    "dqn_learned_impact",
    "dqn_stable_baselines3",
    "penalty_vs_performance",
    "reproduce",
    "verdicts",
}
MAX_BYTES = 150_000

sys.path.append(str(EXPERIMENTS))
verdicts: ModuleType = importlib.import_module("verdicts")
reproduce: ModuleType = importlib.import_module("reproduce")
shah2019: ModuleType = importlib.import_module("shah2019")


def cell(verdict: str, row: str = "RR", published: str = "1") -> Any:
    return verdicts.Cell("table", row, "Box", published, "2", verdict)


def result(name: str, cells: list[Any], error: str = "") -> Any:
    script = reproduce.Script(name, "a paper", "a table", ())
    return reproduce.Result(script, cells, 1.0, False, error)


# Verdicts


@pytest.mark.parametrize(
    ("published", "value", "text", "agrees"),
    [
        ("0.8333", 5 / 6, "0.8333", True),
        ("0.8333", 0.83336, "0.8334", False),
        (".486", 18 / 37, "0.486", True),
        (".486", 0.4853, "0.485", False),
        ("193.5", 193.5, "193.5", True),
        ("43", 43.0, "43", True),
        ("43", 43.2, "43.2", False),  # a whole number is no rounded one
        ("1", 0.9985, "0.9985", False),
    ],
)
def test_numbers_agree_if_all_published_digits_do(published: str, value: float, text: str, agrees: bool) -> None:
    found = verdicts.digits("table", "row", "column", published, value)
    assert (found.reproduced, found.verdict == verdicts.AGREES) == (text, agrees)


def test_counts_agree_if_chance_accounts_for_the_difference() -> None:
    # Of 100 runs with 7 or 8 hits, the chance that all are among the same 50, either way: 0.0125 and 0.0058.
    assert verdicts.same_rate(0, 50, 7, 50)
    assert not verdicts.same_rate(0, 50, 8, 50)
    assert verdicts.same_rate(46, 50, 10, 10)


def test_too_few_runs_have_no_verdict() -> None:
    assert verdicts.verdict(True) == verdicts.AGREES
    assert verdicts.verdict(False) == verdicts.DIFFERS
    assert verdicts.verdict(True, enough=False) == verdicts.verdict(False, enough=False) == verdicts.UNJUDGED


def test_cells_are_read_as_they_were_written(tmp_path: Path) -> None:
    cells = [cell(verdicts.AGREES), verdicts.Cell("a, b", 'λ = "1"', "x", "1\n2", "", verdicts.DIFFERS)]
    verdicts.write(cells, tmp_path / "cells.csv")
    assert verdicts.read(tmp_path / "cells.csv") == cells


def test_tables_show_both_values_and_what_differs() -> None:
    cells = [
        cell(verdicts.AGREES),
        cell(verdicts.DIFFERS, "UR"),
        verdicts.Cell("table", "UR", "Vase", "3", "3", "agrees"),
    ]
    assert verdicts.markdown(cells).splitlines() == [
        "| table | Box | Vase |",
        "|---|---|---|",
        "| RR | 2 (1) |  |",
        "| UR | **2 (1) differs** | 3 (3) |",
    ]


# The page


def test_a_difference_without_a_reason_is_called_unexplained_and_a_reason_without_a_difference_is_left_out() -> None:
    cells = [cell(verdicts.DIFFERS, "known"), cell(verdicts.DIFFERS, "unknown"), cell(verdicts.AGREES, "agreeing")]
    results = [result("shah2019", cells)]
    why = {("shah2019", f"{name}, Box"): f"Reason of {name}." for name in ("known", "agreeing")}
    text = " ".join(reproduce.page(results, why, "figures").split())
    assert "known, Box: 2 (1) differs. Reason of known." in text
    assert "unknown, Box: 2 (1) differs. **unexplained**" in text
    assert "Reason of agreeing" not in text
    assert reproduce.unexplained(results, why) == ["shah2019: unknown, Box"]
    assert "| 3 | 1 | 2 | 1 |" in text


def test_a_script_that_failed_is_on_the_page() -> None:
    text = reproduce.page([result("shah2019", [], "ValueError: no")], {}, "figures")
    assert "**Failed:** ValueError: no" in text


def test_every_reproduction_has_its_place_in_the_driver() -> None:
    assert {script.name for script in reproduce.SCRIPTS} == {p.stem for p in EXPERIMENTS.glob("*.py")} - OTHERS
    for script in reproduce.SCRIPTS:
        title, about, *_ = script.doc
        assert title.endswith(".")
        assert about.endswith(".")


def test_the_page_in_docs_is_complete_and_every_difference_in_it_explained() -> None:
    page = (ROOT / "docs" / "reproduction.md").read_text(encoding="utf-8")
    flat = " ".join(page.split())
    assert "unexplained" not in flat
    assert "Failed" not in flat
    for script in reproduce.SCRIPTS:
        assert f"## `{script.name}.py`" in page
        for name in script.figures:
            figure = Path("figures") / "reproduction" / f"{script.name}_{name}"
            assert f"({figure})" in page
            assert 0 < (ROOT / "docs" / figure).stat().st_size < MAX_BYTES
    for (script, name), text in reproduce.explanations().items():
        assert script in {known.name for known in reproduce.SCRIPTS}
        assert f"{name}: " in flat, f"the explanation of {name} is of no use"
        assert " ".join(text.split()) in flat


# The driver


GOOD = """
import sys
from pathlib import Path
out = Path(sys.argv[sys.argv.index("--out") + 1])
with (out / "calls.txt").open("a") as file:
    file.write("called with --quick" if "--quick" in sys.argv else "called")
(out / "verdicts.csv").write_text("table,row,column,published,reproduced,verdict\\nt,r,c,1,1,agrees\\n")
"""


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """The driver with two scripts, of which the first fails unless there is a file mended.txt."""
    mended = str(tmp_path / "mended.txt")
    bad = f"from pathlib import Path\nif not Path({mended!r}).exists():\n    raise SystemExit('sick')\n"
    for name, source in (("bad", bad + GOOD), ("good", GOOD)):
        (tmp_path / f"{name}.py").write_text(f'"""Title.\n\nAbout.\n"""\n{source}', encoding="utf-8")
    monkeypatch.setattr(reproduce, "HERE", tmp_path)
    monkeypatch.setattr(reproduce, "ROOT", tmp_path / "root")
    monkeypatch.setattr(reproduce, "code_of", lambda: "code")
    monkeypatch.setattr(reproduce, "SCRIPTS", tuple(reproduce.Script(name, "p", "i", ()) for name in ("bad", "good")))
    monkeypatch.setattr(sys, "argv", ["reproduce.py", "--out", str(tmp_path / "out")])
    return reproduce.main


def test_a_script_that_fails_stops_no_other_and_the_next_call_goes_on(
    driver: Callable[[], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert driver() == 1
    said = capsys.readouterr().out
    assert "FAILED: sick" in said
    assert "1 cells, 1 agree, 0 differ" in said
    out = tmp_path / "out" / "code"
    assert "**Failed:** sick" in (out / "reproduction.md").read_text(encoding="utf-8")
    assert not (tmp_path / "root").exists()  # the page in docs is left as it is
    (tmp_path / "mended.txt").touch()
    assert driver() == 0
    assert (out / "good" / "calls.txt").read_text() == "called"  # once
    assert json.loads((out / "bad" / "done.json").read_text())["resumed"]
    assert "\\* finished by a second call" in (tmp_path / "root" / "docs" / "reproduction.md").read_text("utf-8")


@pytest.mark.parametrize("more", [["--quick"], ["good"]])
def test_the_page_in_docs_is_of_all_scripts_in_full_only(
    driver: Callable[[], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str]
) -> None:
    (tmp_path / "mended.txt").touch()
    monkeypatch.setattr(sys, "argv", [*sys.argv, *more])
    assert driver() == 0
    assert not (tmp_path / "root").exists()
    assert len(list((tmp_path / "out").glob("*/reproduction.md"))) == 1


def test_an_unknown_script_is_refused(
    driver: Callable[[], int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [*sys.argv, "ugly"])
    with pytest.raises(SystemExit):
        driver()
    assert "there is no script 'ugly'; there are bad, good" in capsys.readouterr().err


def test_results_are_those_of_the_code(tmp_path: Path) -> None:
    (tmp_path / "experiments").mkdir()
    names = {}
    for name, text in (
        ("a.py", "1"),
        ("a.py", "2"),
        ("reproduce.py", "3"),
        ("b.toml", "4"),
        ("explanations.toml", "5"),
    ):
        (tmp_path / "experiments" / name).write_text(text)
        names[name, text] = reproduce.code_of(tmp_path)
    assert names["a.py", "1"] != names["a.py", "2"] != names["b.toml", "4"]
    assert names["a.py", "2"] == names["reproduce.py", "3"]  # what only makes the page costs no results
    assert names["b.toml", "4"] == names["explanations.toml", "5"]


@pytest.mark.slow
def test_all_reproductions_run_in_quick_mode(tmp_path: Path) -> None:
    page = ROOT / "docs" / "reproduction.md"
    before = page.read_bytes()
    command = [sys.executable, str(EXPERIMENTS / "reproduce.py"), "--quick", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert page.read_bytes() == before
    (out,) = (tmp_path / "out").iterdir()
    for script in reproduce.SCRIPTS:
        cells = verdicts.read(out / script.name / "verdicts.csv")
        assert cells
        assert all((out / script.name / figure).stat().st_size for figure in script.figures)
    # What is exact is exact in quick mode, too.
    for name in ("krakovna2019_box", "shah2019", "worked_numbers"):
        assert {c.verdict for c in verdicts.read(out / name / "verdicts.csv")} == {verdicts.AGREES}


# Published values


def test_two_papers_that_print_the_same_counts_are_transcribed_alike() -> None:
    tables = tomllib.loads((EXPERIMENTS / "published" / "tables.toml").read_text(encoding="utf-8"))
    counts = json.loads((EXPERIMENTS / "published" / "turner2019_counts.json").read_text(encoding="utf-8"))
    place = counts["settings"]["num_rewards"].index(30)
    safe = [counts["counts"]["num_rewards"][level][place][3] for level in tables["eresheim2023"]["levels"]]
    assert safe == tables["eresheim2023"]["counts"]["AUP (no-op)"]


# Inferring preferences


def log_likelihood(mdp: impactrl.TabularMDP, worth: np.ndarray, observed: int, states: int) -> float:
    """Straight from the definition, with loops."""
    value, policies = worth.copy(), []
    for _ in range(states - 1):
        q = np.array(
            [
                [worth[s] + mdp.probability[s, a] @ value[mdp.next_state[s, a]] for a in range(mdp.num_actions)]
                for s in range(mdp.num_states)
            ]
        )
        value = np.log(np.exp(q).sum(axis=1))
        policies.insert(0, np.exp(q - value[:, None]))
    chance = mdp.start.copy()
    for policy in policies:
        after = np.zeros_like(chance)
        for s, a, k in np.ndindex(mdp.next_state.shape):
            after[mdp.next_state[s, a, k]] += chance[s] * policy[s, a] * mdp.probability[s, a, k]
        chance = after
    return float(np.log(chance[observed])) if chance[observed] > 0 else -np.inf


@given(mdps(max_states=4), st.integers(1, 4), st.integers(0, 99))
def test_the_gradient_of_the_likelihood_is_that_of_finite_differences(
    mdp: impactrl.TabularMDP, states: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    features, weights = rng.normal(size=(mdp.num_states, 2)), rng.normal(size=2)
    for observed in range(mdp.num_states):
        if log_likelihood(mdp, features @ weights, observed, states) == -np.inf:
            continue
        found = shah2019.likelihood_gradient(mdp, features, weights, observed, states)
        step = 1e-5
        expected = [
            (
                log_likelihood(mdp, features @ (weights + step * unit), observed, states)
                - log_likelihood(mdp, features @ (weights - step * unit), observed, states)
            )
            / (2 * step)
            for unit in np.eye(2)
        ]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
