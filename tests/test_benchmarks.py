"""The plain implementations that the benchmarks compare with compute what the library computes."""

import runpy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from impactrl import ModelFreeAUP, Penalty, QLearning, compile_mdp, solve, train, train_aup
from impactrl.levels import world_of

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def functions(name: str) -> dict[str, Any]:
    return runpy.run_path(str(BENCHMARKS / f"{name}.py"))


@pytest.mark.parametrize("discount", [0.9, 1.0])
def test_networkx_and_the_library_agree_on_relative_reachability(discount: float) -> None:
    mdp = compile_mdp("Box")
    impact = Penalty(discount=discount, terminal="absorbing").fit(mdp)
    expected = functions("references")["networkx_reachability"](mdp, discount)
    assert expected.max() > 0.1
    np.testing.assert_allclose(impact.deviation[:, :, 0], expected, rtol=0, atol=1e-10)


def test_dense_value_iteration_and_the_planner_agree() -> None:
    mdp = compile_mdp("BatteriesEasy")
    best = solve(mdp, Penalty(weight=2.0, terminal="absorbing"), discount=0.95)
    reward = best.impact.penalised_reward(2.0)
    values = functions("references")["numpy_value_iteration"](mdp, reward, 0.95)
    np.testing.assert_allclose(best.q.max(axis=1), values, rtol=0, atol=1e-8)


def test_dictionaries_and_compile_mdp_find_the_same_states_and_outcomes() -> None:
    mdp = compile_mdp("Offset")
    table = functions("references")["dictionary_enumeration"](world_of("Offset", {})[0])
    assert list(table) == list(mdp.states)
    for s, actions in enumerate(table.values()):
        for a, outcomes in enumerate(actions):
            assert [o.state for o in outcomes] == [mdp.states[t] for t in mdp.next_state[s, a]]
            assert [o.reward for o in outcomes] == mdp.reward[s, a].tolist()


def test_both_q_learners_find_the_exact_optimum() -> None:
    mdp, penalty, settings = compile_mdp("Options"), Penalty(weight=1.0), QLearning(episodes=1000, learning_rate=1.0)
    best = solve(mdp, penalty, discount=settings.discount)
    _, q = functions("q_learning")["plain"](best.impact, settings, seed=0)
    ours = train(best.impact, settings, weights=[1.0], seeds=[0])
    assert max(q[0]) == pytest.approx(best.value, abs=1e-12)
    assert ours.q[0, 0].max() == pytest.approx(best.value, abs=1e-12)


@pytest.mark.slow
def test_updates_of_deep_networks_are_measured_beside_stable_baselines3_where_that_is_installed() -> None:
    deep = functions("deep")
    rates = deep["measure"](200, 200, 1)
    assert (deep["THEIRS"] in rates) == (find_spec("stable_baselines3") is not None)
    assert len(rates) == 3 + (deep["THEIRS"] in rates)
    assert min(rates.values()) > 0


def test_both_aup_learners_learn_the_same_on_average() -> None:
    """The rewards are drawn by each for itself, so single runs differ; means of logarithms do by chance alone."""
    mdp, settings, aup = compile_mdp("Correction"), ModelFreeAUP(episodes=40), functions("aup")
    first = "\n".join(mdp.board_text(0))
    plain = np.log1p([-aup["plain"](mdp, settings, seed)[1][first] for seed in range(50)])
    penalty = aup["PENALTY"]
    training = train_aup(mdp, penalty, settings, weights=[penalty.weight] * 200, seeds=range(200))
    ours = np.log1p(-training.q[:, 0])
    error = np.sqrt(plain.var(axis=0, ddof=1) / len(plain) + ours.var(axis=0, ddof=1) / len(ours))
    assert error.max() < 0.2 < ours.mean(axis=0).max()
    assert (np.abs(plain.mean(axis=0) - ours.mean(axis=0)) <= 4 * error).all()
