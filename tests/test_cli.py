"""The command line: every command, and one line for every mistake."""

import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from impactrl.cli import commands, main

PLAN = """
environments = ["Options", { name = "Box", movement_reward = 0, goal_reward = 1 }]
weights = [0.1, 1]
seeds = 2
agents = [{ name = "q_learning", episodes = 50, learning_rate = 1.0 }]

[[penalties]]
deviation = "none"

[[penalties]]
baseline = "stepwise"
"""


def words(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def test_envs_lists_the_levels(capsys):
    main(["envs"])
    assert re.search(r"Options\W+100\W+\w+", words(capsys))


def test_envs_lists_the_levels_with_their_sizes(capsys):
    main(["envs", "--sizes"])
    out = words(capsys)
    assert re.search(r"Options\W+60\W+60\W+6\W+100", out)
    assert re.search(r"Interference\W+64\W+46\W+3\W+100", out)


def test_show_prints_board_rules_and_size_and_draws(capsys, tmp_path):
    main(["show", "Box", "--settings", "goal_reward=1", "--png", str(tmp_path / "box.png")])
    out = words(capsys)
    assert "### G#" in out
    assert "Side effect:" in out
    assert "60 states (6 end the episode)" in out
    assert (tmp_path / "box.png").read_bytes().startswith(b"\x89PNG")


def test_show_prints_and_draws_the_state_graph(capsys, tmp_path):
    main(["show", "Options", "--graph", "--png", str(tmp_path / "graph.png")])
    out = words(capsys)
    assert "Options: 60 situations in 13 components" in out
    assert re.search(r"1\W+9\W+1\W+0\W+83.33", out)  # size, side effects, reached from, lost
    assert re.search(r"4\W+1\W+yes\W+yes\W+1\W+1\W+98.33", out)
    assert "83.3 %: down, component 0 to 1\n  ######   ######\n  # A###   #  ###\n  # X  #   # A  #" in out
    assert (tmp_path / "graph.png").stat().st_size > 20_000


def test_a_large_state_graph_is_cut_off_and_not_drawn(capsys, tmp_path):
    with pytest.raises(SystemExit):
        main(["show", "Sokocoin2", "--graph", "--png", str(tmp_path / "graph.png")])
    out, error = capsys.readouterr()
    assert "31174 situations in 1293 components; the first 40" in out
    assert "1293 components; at most 400" in error
    assert not (tmp_path / "graph.png").exists()


def test_solve_prints_the_optimum(capsys, tmp_path):
    main(
        ["solve", "Box", "--weight", "10", "--discount", "1", "--plan.discount", "1", "--png", str(tmp_path / "b.png")]
    )
    out = words(capsys)
    assert re.search(r"43\W+43\W+0\W+1\W+0.2222", out)
    assert "actions: left down right" in out
    assert (tmp_path / "b.png").stat().st_size > 10_000


def test_solve_takes_settings_and_a_horizon(capsys):
    main(["solve", "Box", "--deviation", "none", "--settings", "movement_reward=0", "--plan.horizon", "3"])
    assert "over 3 steps" in " ".join(words(capsys).split())


def test_explain_shows_what_a_penalty_sees(capsys):
    main(["explain", "Options", "--actions", "D", "--discount", "1"])
    assert re.search(r"1\W+down\W+0\W+-2\W+1\W+False\W+0.8333\W+0.8333", words(capsys))


LEVEL = """#####
#AVG#
#   #
#####"""


def test_a_level_file_is_known_wherever_a_level_is_named(capsys, tmp_path):
    (tmp_path / "corridor.txt").write_text(LEVEL)
    main(["solve", str(tmp_path / "corridor.txt"), "--deviation", "none"])
    assert "actions: right right" in words(capsys)
    plan = tmp_path / "plan.toml"
    plan.write_text('environments = ["corridor.txt"]\nagents = ["planner"]\n[[penalties]]\nweight = 1\n')
    main(["sweep", str(plan), "--out", str(tmp_path / "out")])
    assert re.search(r"corridor@\w{6}\W+RR stepwise\W+1\W+1\W+only weight\W+1", words(capsys))


def test_train_reports_the_outcome_and_keeps_the_runs(capsys, tmp_path):
    store = tmp_path / "runs.db"
    arguments = ["train", "Options", "--agent.learning-rate", "1", "--seeds", "2", "--store", str(store)]
    main(arguments)
    assert re.search(r"RR stepwise\W+1\W+2\W+1\W+1\W+0\W+1", words(capsys))
    assert store.exists()


def test_render_makes_a_film(capsys, tmp_path):
    main(["render", "Options", "--actions", "DRDDR", "--out", str(tmp_path / "film.gif")])
    assert "film.gif: 6 frames" in words(capsys)
    assert (tmp_path / "film.gif").read_bytes().startswith(b"GIF89a")


def test_sweep_runs_a_plan_resumes_and_draws(capsys, tmp_path):
    plan, out = tmp_path / "plan.toml", tmp_path / "results"
    plan.write_text(PLAN)
    main(["sweep", str(plan), "--out", str(out)])
    first = words(capsys)
    assert "Box goal_reward=1 movement_reward=0" in " ".join(first.split())
    figures = {f"{name}.png" for name in ("tradeoff", "plane", "outcomes", "learning")}
    assert {p.name for p in out.iterdir()} == {"results.db", "index.html", *figures}
    main(["sweep", str(plan), "--out", str(out)])
    assert words(capsys) == first
    (out / "tradeoff.png").unlink()
    main(["plot", str(out), "--pdf"])
    assert (out / "tradeoff.png").exists()
    assert (out / "plane.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "Bix"], "unknown environment 'Bix': did you mean 'Box'"),
        (["solve", "Box", "--deviation", "unreachibility"], "did you mean 'unreachability'"),
        (["solve", "Box", "--baseline", "stepwize"], "did you mean 'stepwise'"),
        (["solve", "Box", "--weight", "-1"], "weight must be a number of at least 0"),
        (["solve", "Box", "--deviation", "unreachability", "--summary", "absolute"], "has no summary"),
        (["solve", "Box", "--deviation", "attainable_utility", "--discount", "1"], "discount below 1"),
        (["solve", "FrozenLake-v1"], "no no-op action"),
        (["solve", "Box", "--settings", "gaol_reward=1"], "did you mean 'goal_reward'"),
        (["solve", "Box", "--settings", "goal_reward"], "name=value"),
        (["explain", "Box", "--actions", "DX"], "unknown action 'X'"),
        (["show", "Box", "--png", "/no/such/folder/box.png"], "cannot write"),
        (["show", "Box", "--png", "box.bmp"], ".png"),
        (["render", "Box", "--actions", "D", "--out", "film.avi"], ".gif"),
        (["play", "Box"], "terminal"),
        (["plot", "/no/such/folder"], "no results store"),
        (["sweep", "/no/such/plan.toml", "--out", "x"], "cannot read the sweep file"),
        (["results", "/no/such/folder"], "no results store"),
        (["export", "/no/such/folder", "--out", "x.csv"], "no results store"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("impactrl: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [(("seeds", "sedes"), "line 4: unknown key 'sedes': did you mean 'seeds'"), (("seeds = 2", "seeds = "), "line 4")],
)
def test_a_mistake_in_a_sweep_file_names_the_file_and_starts_nothing(change, message, capsys, tmp_path):
    plan = tmp_path / "plan.toml"
    plan.write_text(PLAN.replace(*change))
    with pytest.raises(SystemExit) as stop:
        main(["sweep", str(plan), "--out", str(tmp_path / "out")])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "plan.toml" in error
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_interrupted_sweep_says_so_in_one_line_and_keeps_what_is_finished(tmp_path):
    plan = tmp_path / "plan.toml"
    plan.write_text(PLAN.replace("seeds = 2", "seeds = 2000").replace("episodes = 50", "episodes = 500"))
    command = [sys.executable, "-m", "impactrl.cli", "sweep", str(plan), "--out", str(tmp_path)]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # what runs in the background may ignore it
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heard)
    store = tmp_path / "results.db"
    deadline = time.monotonic() + 60
    while (not store.exists() or _finished(store) < 20) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error == "impactrl: interrupted; finished runs of a sweep are stored, the same command goes on\n"
    assert _finished(store) >= 20


def _finished(store: Path) -> int:
    from impactrl.errors import ImpactError
    from impactrl.runs.store import Store

    try:
        with Store(store, read_only=True) as results:
            return list(results.status().values()).count("finished")
    except ImpactError:
        return 0


def test_every_command_has_help(capsys):
    for command in commands():
        with pytest.raises(SystemExit) as stop:
            main([command, "--help"])
        assert stop.value.code == 0
        assert f"impactrl {command}" in words(capsys)
