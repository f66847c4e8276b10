"""Reading a sweep's folder: choosing runs, tables for other programs, the page of figures, and the commands."""

import builtins
import json
import os
import re
import resource
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pytest

import impactrl
from impactrl.analysis.report import drawings, findings
from impactrl.cli import main
from impactrl.runs.query import in_order, select_runs, write_table
from impactrl.runs.store import LABELS, Store

PLAN = """
environments = ["Options", "FrozenLake-v1", { name = "Box", goal_reward = 7 }]
agents = ["planner", { name = "q_learning", episodes = 60, evaluate_every = 30 }]
weights = [0.1, 1]
seeds = 4

[[penalties]]
deviation = "none"

[[penalties]]
baseline = "stepwise"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a sweep in which the runs with a penalty on FrozenLake have failed."""
    here = tmp_path_factory.mktemp("sweep")
    (here / "plan.toml").write_text(PLAN)
    with pytest.raises(SystemExit) as stop:
        main(["sweep", str(here / "plan.toml"), "--out", str(here / "out")])
    assert stop.value.code == 1
    return here / "out"


@pytest.fixture
def runs(folder: Path) -> pd.DataFrame:
    with Store(folder / "results.db", read_only=True) as store:
        return store.runs()


def said(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    main(arguments)
    return " ".join(capsys.readouterr().out.split())


# Choosing


def test_runs_are_chosen_by_labels_and_weights(runs: pd.DataFrame) -> None:
    box = select_runs(runs, environment="Box*", agent="planner")
    assert set(zip(box["environment"], box["agent"], strict=True)) == {("Box goal_reward=7", "planner")}
    assert len(box) == 3
    assert set(select_runs(runs, penalty="none", weights=[0.0])["penalty"]) == {"none"}
    assert set(select_runs(runs, weights=[0.1, 1])["weight"]) == {0.1, 1.0}
    assert len(select_runs(runs)) == len(runs)
    for wrong, message in (
        ({"penalty": "XX"}, r"no runs with penalty 'XX'; there are: .*'none'"),
        ({"weights": [3]}, r"no runs with weight 3; there are: 0, 0\.1, 1$"),
        ({"environment": "box*"}, r"no runs with environment .box"),
    ):
        with pytest.raises(impactrl.ImpactError, match=message):
            select_runs(runs, **wrong)  # type: ignore[arg-type]


def test_the_order_of_running_is_forgotten(runs: pd.DataFrame) -> None:
    ordered = in_order(runs)
    pd.testing.assert_frame_equal(in_order(runs.sample(frac=1, random_state=1)), ordered)
    assert ordered["penalty"].iloc[0] == "none"
    assert ordered["environment"].is_monotonic_increasing
    assert sorted(ordered["run"]) == sorted(runs["run"])


# Tables


@pytest.mark.parametrize("format", ["csv", "json", "parquet"])
def test_a_table_comes_back_from_a_file(format: str, runs: pd.DataFrame, tmp_path: Path) -> None:  # noqa: A002
    path = tmp_path / "runs"
    awkward = runs.assign(reward=np.where(np.arange(len(runs)) % 2, 0.1 + 0.2, np.nan))
    write_table(awkward, path, format=format)
    read = {"csv": pd.read_csv, "parquet": pd.read_parquet, "json": lambda p: pd.DataFrame(json.loads(p.read_text()))}
    again = read[format](path).astype(dict.fromkeys(LABELS[1:6], str))
    pd.testing.assert_frame_equal(again, awkward.astype(dict.fromkeys(LABELS[1:6], str)), check_dtype=False)
    assert [entry.name for entry in tmp_path.iterdir()] == ["runs"]


def test_parquet_without_pyarrow_is_one_line(
    runs: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = builtins.__import__

    def without_pyarrow(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".")[0] == "pyarrow":
            raise ImportError("No module named 'pyarrow'")
        return imported(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without_pyarrow)
    for module in [name for name in sys.modules if name.split(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(impactrl.ImpactError, match=r"needs pyarrow: pip install 'impactrl\[parquet\]'$"):
        write_table(runs, tmp_path / "runs.parquet", format="parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_table_that_cannot_be_written_leaves_nothing(runs: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(impactrl.ImpactError, match=r"cannot write .*: No such file or directory"):
        write_table(runs, tmp_path / "nowhere" / "runs.csv", format="csv")
    with pytest.raises(impactrl.ImpactError, match="format must be one of 'csv', 'parquet', 'json', not 'xls'"):
        write_table(runs, tmp_path / "runs.xls", format="xls")


# The page


class Page(HTMLParser):
    """What is in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.images: list[str] = []
        self.cells: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.images += [str(dict(attrs)["src"])] if tag == "img" else []
        assert tag not in ("script", "link")  # it opens from disk, without anything else

    def handle_data(self, data: str) -> None:
        self.words += data.split()


def test_the_page_holds_all_figures_and_the_outcomes(folder: Path, runs: pd.DataFrame) -> None:
    text = (folder / "index.html").read_text(encoding="utf-8")
    page = Page(text)
    with Store(folder / "results.db", read_only=True) as store:
        figures = drawings(findings(in_order(runs), store.curves))
    assert [drawing.name for drawing in figures] == [
        *("tradeoff", "tradeoff-2", "outcomes", "outcomes-2", "plane", "plane-2", "learning", "learning-2")
    ]
    assert len(page.images) == len(figures)
    assert all(source.startswith("data:image/png;base64,iVBOR") for source in page.images)
    assert all((folder / f"{drawing.name}.png").exists() for drawing in figures)
    assert f"{len(runs)} finished runs, 10 that failed and are left out" in " ".join(page.words)
    assert "other seeds" in text
    assert f"numpy {np.__version__}" in text


def test_a_sweep_of_planners_has_no_learning_curves(folder: Path, runs: pd.DataFrame) -> None:
    with Store(folder / "results.db", read_only=True) as store:
        found = findings(runs[runs["agent"] == "planner"], store.curves)
    assert {drawing.name for drawing in drawings(found)} == {"tradeoff", "outcomes", "plane"}


def test_the_exact_optimum_goes_behind_the_runs_when_asked_for(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(folder / "results.db", tmp_path)
    seen: list[Any] = []
    monkeypatch.setattr("impactrl.analysis.report.drawings", lambda found: seen.append(found) or [])
    main(["plot", str(tmp_path)])
    main(["plot", str(tmp_path), "--exact"])
    assert seen[0].frontiers == {}
    assert set(seen[1].frontiers) == {("Options", "RR stepwise"), ("Box goal_reward=7", "RR stepwise")}
    exact = impactrl.frontier(impactrl.compile_mdp("Options"), impactrl.Penalty(), discount=0.99).intervals
    pd.testing.assert_frame_equal(seen[1].frontiers["Options", "RR stepwise"], exact)


# The commands


def test_results_shows_means_and_failures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = said(["results", str(folder), "--environment", "Box*", "--agent", "planner"], capsys)
    assert "3 finished runs" in out
    assert len(re.findall(r"Box goal_reward=7 (?:none|RR stepwise) (?:0|0\.1|1) 1 ", out)) == 3
    assert "10 runs failed: see them with --failed" in out
    out = said(["results", str(folder), "--failed", "--rows", "1"], capsys)
    assert "10 failed runs" in out
    assert "no no-op action" in out
    assert "9 more rows" in out
    out = said(["results", str(folder), "--best", "--environment", "Options", "--agent", "q*"], capsys)
    assert "other seeds" in out


def test_export_writes_the_runs_or_their_curves(
    folder: Path, runs: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"{len(runs)} rows" in said(["export", str(folder), "--out", str(tmp_path / "a.csv")], capsys)
    table = pd.read_csv(tmp_path / "a.csv")
    assert table["run"].tolist() == runs["run"].tolist()
    assert {"steps", "seconds", "stored", "versions"} < set(table.columns)
    said(["export", str(folder), "--curves", "--format", "json", "--out", str(tmp_path / "b.json")], capsys)
    curves = json.loads((tmp_path / "b.json").read_text())
    assert {row["trained"] for row in curves} == {0, 30, 60}


def test_a_dry_run_says_what_there_is_to_do_and_does_nothing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text(PLAN.replace("seeds = 4", "seeds = 5"))
    out = said(["sweep", str(plan), "--out", str(tmp_path / "new"), "--dry-run", "--jobs", "1"], capsys)
    assert "54 runs to do, 1 at once: about" in out
    assert "(from short probes)" in out
    assert re.search(r"memory: about \d+ MiB", out)
    assert "would fail: FrozenLake-v1 with planner: baseline='stepwise' needs" in out
    assert [entry.name for entry in tmp_path.iterdir()] == ["plan.toml"]
    before = (folder / "results.db").read_bytes()
    out = said(["sweep", str(plan), "--out", str(folder), "--dry-run"], capsys)
    assert "Options q_learning episodes=60 evaluate_every=30 15 12 0 3 " in out
    assert "from the store's runs" in out
    assert (folder / "results.db").read_bytes() == before
    plan.write_text(PLAN)
    assert "nothing to do" in said(["sweep", str(plan), "--out", str(folder), "--dry-run"], capsys)


def run_sweep(plan: str, folder: Path, *more: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit status, and what is said and complained of."""
    (folder / "plan.toml").write_text(plan)
    capsys.readouterr()
    status = 0
    try:
        main(["sweep", str(folder / "plan.toml"), "--out", str(folder / "out"), *more])
    except SystemExit as stop:
        status = int(str(stop.code))
    return status, *capsys.readouterr()


def test_failed_runs_are_said_at_the_end_and_tried_again_when_asked_for(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder, tmp_path / "out")
    monkeypatch.setattr("impactrl.analysis.report.drawings", lambda _: [])  # not drawn again and again
    status, out, error = run_sweep(PLAN, tmp_path, capsys=capsys)
    assert status == 1
    assert error.count("\n") == 1
    assert error.startswith("impactrl: 10 of 45 runs failed and are left out (--retry-failed tries them again).")
    assert "The first, FrozenLake-v1 with RR stepwise, planner, weight 0.1, seed 0: baseline='stepwise'" in error
    tried = []
    execute = sys.modules["impactrl.runs.execution"].execute
    monkeypatch.setattr("impactrl.runs.sweep.execute", lambda run: tried.append(run) or execute(run))
    assert run_sweep(PLAN, tmp_path, capsys=capsys) == (1, out, error)
    assert tried == []
    assert run_sweep(PLAN, tmp_path, "--retry-failed", capsys=capsys) == (1, out, error)
    assert len(tried) == 10


BIG = """
environments = ["Options"]
agents = [{ name = "q_learning", episodes = 1500, evaluate_every = 1 }]
seeds = 16
[[penalties]]
"""


@contextmanager
def files_no_larger_than(limit: int) -> Iterator[None]:
    """A full disk, to the process."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_sweep_on_a_full_disk_keeps_what_is_finished_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every run has 72 kB of curves."""
    with files_no_larger_than(400_000):
        status, _, error = run_sweep(BIG, tmp_path, "--jobs", "1", capsys=capsys)
    assert status == 2
    assert re.fullmatch(r"impactrl: cannot write to the results store .*Runs stored before are kept\n", error)
    store = tmp_path / "out" / "results.db"
    with Store(store, read_only=True) as results:
        kept, curves = results.runs(), results.curves()
    assert 1 <= len(kept) < 16
    status, _, error = run_sweep(BIG, tmp_path, "--jobs", "2", capsys=capsys)
    assert (status, error) == (0, "")
    with Store(store, read_only=True) as results:
        assert len(results.runs()) == 16
        pd.testing.assert_frame_equal(results.curves(kept["run"]), curves, check_exact=True)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs POSIX permissions")
def test_a_sweep_into_a_folder_that_may_not_be_written_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with TemporaryDirectory(prefix="impactrl-results-") as name:
        folder = Path(name)
        (folder / "out").mkdir()
        (folder / "out").chmod(0o555)
        folder.chmod(0o777)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            status, _, error = run_sweep(BIG, folder, capsys=capsys)
        finally:
            if root:
                os.seteuid(0)
        assert (status, error.count("\n")) == (2, 1)
        assert re.match(r"impactrl: cannot open the results store .*out/results\.db", error)
        assert list((folder / "out").iterdir()) == []
        (folder / "out").chmod(0o777)


def test_export_writes_what_agents_learned_of_their_impact(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text(
        'environments = ["Options"]\nseeds = 1\npenalties = [{ deviation = "relative_reachability" }]\n'
        'agents = [{ name = "impact_learner", episodes = 20, evaluate_every = 10 }]\n'
    )
    said(["sweep", str(plan), "--out", str(tmp_path / "learned")], capsys)
    written = tmp_path / "d.csv"
    assert "2 rows" in said(["export", str(tmp_path / "learned"), "--diagnostics", "--out", str(written)], capsys)
    table = pd.read_csv(written)
    assert table["trained"].tolist() == [10, 20]
    assert table["states"].between(0.01, 1).all()
    assert "0 rows" in said(["export", str(folder), "--diagnostics", "--out", str(tmp_path / "none.csv")], capsys)
    with pytest.raises(SystemExit):
        main(["export", str(folder), "--curves", "--diagnostics", "--out", str(tmp_path / "both.csv")])
    assert "give one of both flags" in capsys.readouterr().err
