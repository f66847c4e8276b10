"""Deep Q-agents through the doors of all agents: specifications, sweeps, stores, estimates, the command line."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import impactrl
from impactrl.agents import dqn
from impactrl.analysis.learning import plot_learning_curves
from impactrl.cli import main
from impactrl.runs.estimate import estimate
from impactrl.runs.execution import execute, execute_together
from impactrl.runs.specification import Environment, RunSpecification, agent_label, training_unit

TINY = impactrl.DQN(steps=400, learning_starts=40, hidden=(8,), batch_size=8, buffer_size=400, evaluate_every=200)
LEARNED = replace(TINY, impact="learned")
RR = impactrl.Penalty(deviation="relative_reachability", weight=0.5)


def specification(seed: int = 0, *, agent: impactrl.DQN = TINY, weight: float = 0.5) -> RunSpecification:
    return RunSpecification(environment=Environment("Vase"), penalty=replace(RR, weight=weight), agent=agent, seed=seed)


def test_a_specification_is_read_back_as_it_was() -> None:
    given = specification(agent=replace(TINY, network="cnn", channels=(4,), dueling=True))
    again = RunSpecification.from_json(given.to_json())
    assert again == given
    assert again.hash == given.hash
    assert agent_label(impactrl.DQN(hidden=(8, 4))) == "dqn hidden=[8, 4]"
    assert training_unit(agent_label(TINY)) == "steps"
    assert training_unit("q_learning episodes=3") == "episodes"


def test_what_cannot_be_learned_is_no_specification() -> None:
    rollout = replace(RR, rollout=True)
    RunSpecification(environment=Environment("Vase"), penalty=rollout, agent=TINY)
    with pytest.raises(impactrl.ImpactError, match="cannot learn a penalty with rollout=True"):
        RunSpecification(environment=Environment("Vase"), penalty=rollout, agent=LEARNED)


def test_runs_together_are_the_runs_alone() -> None:
    runs = [specification(0), specification(1), specification(0, weight=0.0)]
    together = execute_together(runs, threads=2, progress=False)
    for run, result in zip(runs, together, strict=True):
        alone = execute(run)
        assert not isinstance(result, impactrl.ImpactError)
        np.testing.assert_array_equal(result.history, alone.history)
        np.testing.assert_array_equal(result.training, alone.training)
        assert result.evaluations.tolist() == [200, 400]
        assert result.steps == 400
        assert result.diagnostics == {}


def test_runs_together_share_all_but_weight_and_seed() -> None:
    with pytest.raises(impactrl.ImpactError, match="share environment, penalty and agent; these have 2 of them"):
        execute_together([specification(), specification(agent=LEARNED)])
    other = RunSpecification(environment=Environment("Vase"), penalty=RR, agent=impactrl.QLearning())
    with pytest.raises(impactrl.ImpactError, match="only runs of a DQN can be done together"):
        execute_together([other])


def test_a_sweep_keeps_curves_diagnostics_and_failures(tmp_path: Path) -> None:
    diverging = replace(TINY, learning_rate=1e30, gradient_clip=0.0, optimiser="sgd", loss="squared")
    plan = impactrl.Sweep(
        environments=("Vase",), penalties=(RR,), weights=(0.5,), seeds=2, agents=(TINY, LEARNED, diverging)
    )
    with pytest.warns(UserWarning, match=r"2 of 6 runs failed .* stopped at step 200: what was learned is not finite"):
        runs = impactrl.sweep(plan, store=tmp_path / "runs.db", progress=False)
    assert len(runs) == 4
    with impactrl.Store(tmp_path / "runs.db", read_only=True) as store:
        curves, diagnostics = store.curves(), store.diagnostics()
        assert "jax" in store.versions(runs["run"].iloc[0])
    assert set(curves["trained"]) == {200, 400}
    assert set(diagnostics["agent"]) == {agent_label(LEARNED)}
    assert np.isfinite(diagnostics["mean_error"]).all()
    figure = plot_learning_curves(curves)
    assert [ax.get_xlabel() for ax in figure.axes] == ["", "training steps"]


def test_panels_of_agents_that_count_otherwise_say_so(tmp_path: Path) -> None:
    agents = (TINY, impactrl.QLearning(episodes=20, evaluate_every=10))
    plan = impactrl.Sweep(environments=("Vase",), penalties=(RR,), weights=(0.5,), seeds=1, agents=agents)
    impactrl.sweep(plan, store=tmp_path / "runs.db", progress=False)
    with impactrl.Store(tmp_path / "runs.db", read_only=True) as store:
        figure = plot_learning_curves(store.curves())
    assert sorted(ax.get_xlabel() for ax in figure.axes) == ["training episodes", "training steps"]


def test_an_estimate_probes_fewer_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def watched(run: RunSpecification) -> object:
        seen.append(run.agent)
        return execute(run)

    monkeypatch.setattr("impactrl.runs.estimate.execute", watched)
    agent = replace(TINY, steps=40_000, evaluate_every=2000)
    plan = impactrl.Sweep(environments=("Vase",), penalties=(RR,), weights=(0.5,), seeds=3, agents=(agent,))
    (group,) = estimate(plan).groups
    assert {each.steps for each in seen} == {2000}  # a twentieth
    assert group.error == ""
    assert group.run_seconds > 0


def test_without_the_extra_a_sweep_does_not_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dqn, "find_spec", lambda name: None if name == "jax" else find_spec(name))
    plan = impactrl.Sweep(environments=("Vase",), penalties=(RR,), seeds=1, agents=(TINY,))
    with pytest.raises(impactrl.ImpactError, match=r"deep Q-agents need jax, .*impactrl\[deep\]"):
        impactrl.sweep(plan, store=tmp_path / "runs.db", progress=False)
    with impactrl.Store(tmp_path / "runs.db") as store:
        assert store.status() == {}


TRAIN = ["train", "Vase", "--weight", "0.5", "--seeds", "2"]
DEEP = [*TRAIN, "--agent", "dqn", "--agent.steps", "400", "--agent.hidden", "8", "--agent.evaluate-every", "200"]
DEEP += ["--agent.learning-starts", "40", "--agent.batch-size", "8", "--agent.buffer-size", "400"]


def test_train_trains_a_deep_agent_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, log = tmp_path / "runs.db", tmp_path / "log.csv"
    main([*DEEP, "--store", str(store), "--checkpoint", str(tmp_path / "kept"), "--log", str(log)])
    out = capsys.readouterr().out
    assert f"agent: {agent_label(TINY)}" in out
    table = pd.read_csv(log)
    assert table["step"].tolist() == [200, 400] * 2
    assert table["run"].tolist() == [0, 0, 1, 1]
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["run-0.npz", "run-1.npz"]
    with impactrl.Store(store, read_only=True) as kept:
        stored = kept.runs()
    alone = execute(specification(1)).history[-1]
    assert stored.set_index("seed").loc[1, ["reward", "performance"]].tolist() == alone[:2].tolist()
    log.unlink()
    main([*DEEP, "--store", str(store), "--log", str(log)])
    assert not log.exists()  # all runs were there already
    assert capsys.readouterr().out == out


@pytest.mark.parametrize("name", ["model_free_aup", "impact_learner", "planner"])
def test_train_trains_every_agent(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    few = [] if name == "planner" else ["--agent.episodes", "20"]
    penalty = ["--preset", "turner2019-model-free"] if name == "model_free_aup" else []
    main([*TRAIN, "--agent", name, *few, *penalty])
    assert f"agent: {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([*TRAIN, "--agent", "dqm"], "unknown agent 'dqm': did you mean 'dqn'?"),
        ([*TRAIN, "--device", "gpu"], "--device, --checkpoint and --log are of deep agents: add --agent dqn"),
        ([*DEEP, "--device", "gpu"], "no gpu is here, only cpu"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
