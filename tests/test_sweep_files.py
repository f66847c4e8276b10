"""Sweep files: what they say, and in which line they are wrong; plans before they are run."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

import impactrl
from impactrl.runs.estimate import estimate
from impactrl.runs.files import read_sweep
from impactrl.runs.specification import Environment
from impactrl.runs.store import Store

PLAN = """\
# A plan with everything in it.
environments = [
    "Options",
    { name = "Box", goal_reward = 7 },  # seven
]
agents = [
    "planner",
    { name = "q_learning", episodes = 40, learning_rate = 1.0 },
]
weights = { geometric = [0.1, 10], count = 3 }
seeds = 2

[[penalties]]
deviation = "none"

[[penalties]]
deviation = "attainable_utility"
# compared with doing nothing at all
baseline = "inaction"
scale = "discount"
"""


def written(text: str, folder: Path) -> Path:
    (folder / "plan.toml").write_text(text)
    return folder / "plan.toml"


def test_a_plan_is_read(tmp_path: Path) -> None:
    assert read_sweep(written(PLAN, tmp_path)) == impactrl.Sweep(
        environments=("Options", Environment("Box", {"goal_reward": 7})),
        agents=(impactrl.Planner(), impactrl.QLearning(episodes=40, learning_rate=1.0)),
        penalties=(
            impactrl.Penalty(deviation="none"),
            impactrl.Penalty(deviation="attainable_utility", baseline="inaction", scale="discount"),
        ),
        weights=(0.1, 1.0, 10.0),
        seeds=2,
    )


def test_what_is_left_out_has_the_defaults_of_a_sweep(tmp_path: Path) -> None:
    plan = read_sweep(written('environments = ["Box"]\n[[penalties]]\nweight = 3\n', tmp_path))
    assert plan == impactrl.Sweep(environments=("Box",), penalties=(impactrl.Penalty(weight=3),))


def test_entries_may_be_tables_of_their_own(tmp_path: Path) -> None:
    entries = ('[[environments]]\nname = "Box"', '[[environments]]\nname = "Options"', '[[agents]]\nname = "planner"')
    plan = read_sweep(written("\n".join([*entries, "[[penalties]]"]), tmp_path))
    assert [environment.label for environment in plan.environments] == ["Box", "Options"]
    assert plan.agents == (impactrl.Planner(),)


def test_a_penalty_may_be_a_preset_with_changes(tmp_path: Path) -> None:
    text = 'environments = ["Box"]\n[[penalties]]\npreset = "krakovna2019"\nbaseline = "inaction"\n'
    plan = read_sweep(written(text, tmp_path))
    assert plan.penalties == (impactrl.preset("krakovna2019", baseline="inaction"),)
    with pytest.raises(impactrl.ImpactError, match=r"line 3: unknown preset 'krakovna2O19': did you mean"):
        read_sweep(written(text.replace("2019", "2O19"), tmp_path))


def test_level_files_lie_beside_the_sweep_file(tmp_path: Path) -> None:
    (tmp_path / "tiny-hall.txt").write_text("#####\n#AVG#\n#   #\n#####")
    plan = read_sweep(written('environments = ["tiny-hall.txt"]\n[[penalties]]\n', tmp_path))
    assert plan.environments[0].label.startswith("tiny-hall@")


@pytest.mark.parametrize(
    ("change", "line", "message"),
    [
        (("seeds", "sedes"), 11, "unknown key 'sedes': did you mean 'seeds'"),
        (("agents", "agent"), 6, "unknown key 'agent': did you mean 'agents'"),
        (('"Options"', '"Opions"'), 3, "unknown environment 'Opions': did you mean 'Options'"),
        (('"Options"', "7"), 3, "an environment is a name or a table with a name, not 7"),
        (("goal_reward", "gaol_reward"), 4, "unknown setting of Box 'gaol_reward': did you mean 'goal_reward'"),
        (('"planner"', '"planer"'), 7, "unknown agent 'planer': did you mean 'planner'"),
        (("episodes = 40", "episode = 40"), 8, "unknown setting of q_learning 'episode': did you mean 'episodes'"),
        (("learning_rate = 1.0", "learning_rate = 3"), 8, "learning_rate must be in (0, 1], not 3.0"),
        (("[0.1, 10]", "[10, 0.1]"), 10, "geometric weights go from one number above 0 to a larger one, not [10, 0.1]"),
        (("count = 3", "count = 1"), 10, "count of weights must be at least 2, not 1"),
        (("{ geometric = [0.1, 10], count = 3 }", "[1, -1]"), 10, "a weight must be a number of at least 0, not -1.0"),
        (("{ geometric = [0.1, 10], count = 3 }", '["much"]'), 10, "a weight must be a number, not 'much'"),
        (("{ geometric = [0.1, 10], count = 3 }", "3"), 10, "weights are a list, { geometric = "),
        (("seeds = 2", 'seeds = "two"'), 11, "seeds must be a whole number"),
        (("seeds = 2", "seeds = 0"), 11, "seeds must be at least 1, not 0"),
        (('"none"', '"non"'), 14, "unknown deviation 'non': did you mean 'none'"),
        (
            ("[[penalties]]\ndeviation", "[[penaltys]]\ndeviation"),
            13,
            "unknown key 'penaltys': did you mean 'penalties'",
        ),
        (('"inaction"', '"inactoin"'), 19, "unknown baseline 'inactoin': did you mean 'inaction'"),
        (("baseline =", "basline ="), 19, "unknown penalty setting 'basline': did you mean 'baseline'"),
        (('scale = "discount"', "discount = 2"), 20, "discount must be in [0, 1], not 2.0"),
        (('"Options"', '"Box"'), None, None),
        (('{ name = "Box", goal_reward = 7 }', '"Options"'), 2, "environments of a sweep must be different"),
        (('"Options"', '"no-such-file.txt"'), 3, "cannot read the level file"),
    ],
)
def test_a_mistake_is_shown_in_its_line(
    change: tuple[str, str], line: int | None, message: str | None, tmp_path: Path
) -> None:
    path = written(PLAN.replace(*change), tmp_path)
    if message is None:
        read_sweep(path)  # the same level with other settings is no mistake
        return
    with pytest.raises(impactrl.ImpactError) as caught:
        read_sweep(path)
    text = str(caught.value)
    assert text.startswith(f"{path}, line {line}: ")
    assert message in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeds = \n", "plan.toml is no TOML file: .*line 1"),
        ('environments = ["Box"]', "plan.toml: expected a list of penalties"),
        ('environments = "Box"\n[[penalties]]', "plan.toml, line 1: expected a list of environments"),
        ("environments = []\n[[penalties]]", "plan.toml, line 1: a sweep needs at least one entry in environments"),
    ],
)
def test_a_plan_without_content_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(impactrl.ImpactError, match=re.compile(message, re.DOTALL)):
        read_sweep(written(text, tmp_path))


# Estimates


SMALL = impactrl.Sweep(
    environments=("Options", "FrozenLake-v1"),
    penalties=(impactrl.Penalty(deviation="none"), impactrl.Penalty()),
    weights=(0.1, 1.0),
    seeds=2,
    agents=(impactrl.QLearning(episodes=60), impactrl.Planner()),
)


def test_an_estimate_counts_and_measures_what_is_missing(tmp_path: Path) -> None:
    store = tmp_path / "results.db"
    plan = estimate(SMALL, store=store, jobs=2)
    assert not store.exists()
    counts = [(g.environment, g.agent.split()[0], g.runs, g.done, g.failed, g.missing) for g in plan.groups]
    assert counts == [
        ("Options", "q_learning", 6, 0, 0, 6),
        ("Options", "planner", 3, 0, 0, 3),
        ("FrozenLake-v1", "q_learning", 6, 0, 0, 6),
        ("FrozenLake-v1", "planner", 3, 0, 0, 3),
    ]
    options, _, lake, _ = plan.groups
    assert options.fits == 2  # one fit serves all weights and seeds
    assert options.run_seconds > 0
    assert not options.error
    assert "no no-op" in lake.error
    assert plan.missing == 18
    assert plan.source == "from short probes"
    runs = sum(group.missing * group.run_seconds for group in plan.groups)
    fits = sum(group.fits * group.fit_seconds for group in plan.groups)
    assert plan.seconds == pytest.approx(fits + runs / 2)
    # The arrays of a task are float64 [X, A, K] in their bulk: deviation, penalty and four columns, three of the MDP.
    impact = impactrl.Penalty().fit(impactrl.compile_mdp("Options"))
    assert options.fit_bytes >= 3 * impact.deviation.nbytes
    assert plan.bytes >= 2 * options.fit_bytes


def test_an_estimate_of_a_store_knows_what_is_done_and_how_long_it_took(tmp_path: Path) -> None:
    store = tmp_path / "results.db"
    done = replace(SMALL, environments=("Options",))
    impactrl.sweep(done, store=store)
    with pytest.raises(impactrl.ImpactError, match="runs failed"):
        impactrl.sweep(replace(SMALL, environments=("FrozenLake-v1",), penalties=SMALL.penalties[1:]), store=store)
    plan = estimate(replace(SMALL, seeds=3), store=store, jobs=1)
    assert [(g.runs, g.done, g.failed, g.missing) for g in plan.groups] == [
        (9, 6, 0, 3),
        (3, 3, 0, 0),
        (9, 0, 4, 5),
        (3, 0, 2, 1),
    ]
    with Store(store, read_only=True) as results:
        timings = results.timings()
    learned = timings[timings["agent"] == plan.groups[0].agent]
    assert plan.groups[0].run_seconds == learned["seconds"].median()
    assert plan.groups[0].stored
    assert plan.source == "from the store's runs and short probes" or plan.source == "from the store's runs"
    retried = estimate(SMALL, store=store, retry_failed=True)
    assert [g.missing for g in retried.groups] == [0, 0, 6, 3]
    assert estimate(done, store=store).seconds == estimate(done, store=store).missing == 0


# Critical weights


def test_critical_weights_are_those_of_the_frontier_and_others_between(tmp_path: Path) -> None:
    """Box, undiscounted: critical at 2 / (0.8333 - 0.2222) and 43 / 0.2222 (published_results, section 2)."""
    text = (
        'environments = ["Box"]\nweights = "critical"\nagents = [{ name = "planner", discount = 1 }]\n'
        '[[penalties]]\ndeviation = "none"\n[[penalties]]\ndiscount = 1\n'
    )
    plan = read_sweep(written(text, tmp_path))
    weights = [run.penalty.weight for run in plan.runs()]
    low, high = 36 / 11, 193.5
    assert weights == pytest.approx([0, low / 2, low, (low * high) ** 0.5, high, 2 * high], rel=1e-8)
    assert all(weight == float(f"{weight:.9g}") for weight in weights)
    table = impactrl.sweep(plan, store=tmp_path / "results.db").set_index("weight")
    assert table.loc[[weights[1], weights[3], weights[5]], "performance"].tolist() == [35, 43, 0]


def test_critical_weights_are_those_of_each_environment_penalty_and_discount() -> None:
    agents = (impactrl.Planner(discount=0.9), impactrl.Planner(discount=0.99), impactrl.QLearning(discount=0.99))
    penalties = (impactrl.Penalty(), impactrl.Penalty(baseline="inaction"))
    plan = impactrl.Sweep(
        environments=("Options", "Box"), penalties=penalties, weights="critical", seeds=1, agents=agents
    )
    found: dict[tuple[str, str, float], set[float]] = {}
    for run in plan.runs():
        key = run.environment.label, run.penalty.baseline, run.agent.discount
        found.setdefault(key, set()).add(run.penalty.weight)
    assert len(found) == 8
    for (environment, baseline, discount), weights in found.items():
        mdp = impactrl.compile_mdp(environment)
        exact = impactrl.frontier(mdp, impactrl.Penalty(baseline=baseline), discount=discount).weights
        assert len(weights) == 2 * len(exact) + 1
        assert all(min(abs(weight - w) for w in weights) < 1e-8 * weight for weight in exact)


def test_without_critical_weights_a_penalty_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("impactrl.runs.critical._exact", lambda *_: ())
    plan = impactrl.Sweep(environments=("Box",), penalties=(impactrl.Penalty(weight=3),), weights="critical", seeds=1)
    assert [run.penalty.weight for run in plan.runs()] == [3]


def test_a_penalty_that_does_not_fit_has_no_critical_weights() -> None:
    plan = impactrl.Sweep(environments=("FrozenLake-v1",), penalties=(impactrl.Penalty(),), weights="critical")
    with pytest.raises(impactrl.ImpactError, match=r"critical weights of RR stepwise in FrozenLake-v1: .*no no-op"):
        plan.runs()
