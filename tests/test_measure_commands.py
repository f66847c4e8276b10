"""Penalties from the command line and from sweep files: what there is, presets, every field."""

import subprocess
import sys
from typing import ClassVar

import numpy as np
import pytest
from rich.console import Console

import impactrl
from impactrl import cli
from impactrl.cli import PenaltyFlags, main
from impactrl.measures import catalogue, registry
from impactrl.measures.baselines import BASELINES
from impactrl.measures.deviations import SCALES
from impactrl.measures.differences import NORMS, SUMMARIES
from impactrl.measures.penalty import Penalty
from impactrl.measures.presets import PRESETS
from impactrl.measures.registry import DEVIATIONS
from impactrl.measures.state_graph import TERMINAL_RULES


@pytest.fixture
def own(monkeypatch):
    """Room for registered names that go when the test is over."""
    monkeypatch.setattr(registry, "_own_deviations", {})
    monkeypatch.setattr(registry, "_own_baselines", {})


class Cells(impactrl.PairDeviation):
    """Counts the cells of the board that differ."""

    label: ClassVar[str] = "cells"
    formula: ClassVar[str] = "number of cells that differ"
    source: ClassVar[str] = "a test"

    def pairs(self, graph, penalty):  # noqa: ARG002
        boards = graph.boards()
        return lambda node, reference: (boards[node] != boards[reference]).sum(axis=1).astype(float)


def words(capsys):
    """What was printed, on one line."""
    return " ".join(capsys.readouterr().out.split())


def refused(capsys, *arguments):
    """The one line that a mistake is answered with."""
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("impactrl: ")
    assert error.count("\n") == 1
    return error


# impactrl measures


def test_measures_lists_everything_with_formula_and_source(capsys):
    main(["measures"])
    out = words(capsys)
    for name, entry in [*DEVIATIONS.items(), *BASELINES.items()]:
        assert f"{name} " in out
        assert entry.formula in out
        assert entry.source in out
    for name, entry in PRESETS.items():
        assert f"{name} " in out
        assert entry.citation in out
    assert "RR; summary decrease; reads goals" in out.replace("label ", "")


@pytest.mark.parametrize("name", [*DEVIATIONS, *BASELINES, *PRESETS])
def test_a_measure_by_name_is_shown_in_full(name, capsys):
    main(["measures", name])
    out = words(capsys)
    kinds = [("deviation", DEVIATIONS), ("baseline", BASELINES)]
    for kind, known in kinds:
        if name in known:
            assert f"{kind} {name}" in out
            assert known[name].formula in out
            assert " ".join(type(known[name]).__doc__.split()) in out
    if name in PRESETS:
        assert PRESETS[name].note in out
        assert PRESETS[name].citation in out


def test_what_is_said_of_settings_is_said_of_all_there_are():
    options = {name: tuple(meanings) for name, meanings in catalogue.OPTIONS.items()}
    assert options["summary"] == SUMMARIES
    assert options["norm"] == NORMS
    assert options["scale"] == SCALES
    assert options["terminal"] == TERMINAL_RULES
    for name, values in options.items():
        for value in values:
            fitting = {"norm": {}, "scale": {"impact-unit": {"unit_action": "up"}}, "rollout": {"end": {"horizon": 3}}}
            others = fitting.get(name, {}).get(value, {}) | ({"baseline": "inaction"} if name == "inaction" else {})
            given = {"False": False, "True": True}.get(value, value)
            assert getattr(Penalty(**{name: given}, **others), name) == given


def test_the_flags_of_a_preset_are_the_preset(monkeypatch):
    seen = []

    def look(penalty: PenaltyFlags = Penalty()) -> None:  # noqa: B008
        """Look at a penalty."""
        seen.append(penalty)

    monkeypatch.setattr(cli, "commands", lambda agent: {"look": look, "sweep": cli.sweep})  # noqa: ARG005
    for name in PRESETS:
        (entry,) = catalogue.entries_named(name)
        main(["look", *entry.facts["flags"].split()])
        main(["look", "--preset", name])
        short, whole = seen[-2:]
        assert whole == impactrl.preset(name)
        assert short.weight == pytest.approx(whole.weight, rel=1e-3)  # written to four digits
        assert short.settings() | {"weight": 0} == whole.settings() | {"weight": 0}


@pytest.mark.usefixtures("own")
def test_registered_ones_are_listed_and_known(capsys):
    impactrl.register_deviation("cells", Cells())
    main(["measures", "cells"])
    assert words(capsys) == (
        "deviation cells (cells) Counts the cells of the board that differ. formula number of cells that differ "
        "source a test"
    )
    main(["explain", "Options", "--actions", "D", "--deviation", "cells", "--baseline", "start"])
    assert "cells start, weight 1" in words(capsys)


def installed(folder, monkeypatch, entry_points, code="", module="their_measures"):
    """A package as pip would leave it."""
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)
    (folder / f"{module}.py").write_text(code)
    monkeypatch.syspath_prepend(str(folder))


def test_those_of_installed_packages_are_listed_and_known(tmp_path, monkeypatch, capsys):
    code = """
import impactrl

class Nothing(impactrl.PairDeviation):
    "Nothing at all."
    label, formula = "nothing", "zero"
    def pairs(self, graph, penalty):
        return lambda node, reference: 0.0 * node
"""
    installed(tmp_path, monkeypatch, "[impactrl.deviations]\nnothing_at_all = their_measures:Nothing\n", code)
    main(["measures"])
    assert "nothing_at_all zero label nothing" in words(capsys)
    main(["solve", "Options", "--deviation", "nothing_at_all"])
    assert "nothing stepwise" in words(capsys)
    assert "did you mean 'nothing_at_all'" in refused(capsys, "solve", "Options", "--deviation", "nothing_at_al")


def test_a_package_that_cannot_be_loaded_spoils_nothing(tmp_path, monkeypatch, capsys):
    points = "[impactrl.baselines]\nbroken = my_broken_measures:Missing\n"
    installed(tmp_path, monkeypatch, points, "import no_such_module_at_all", module="my_broken_measures")
    main(["measures"])
    out = words(capsys)
    assert "broken cannot be loaded: No module named 'no_such_module_at_all'" in out
    assert "krakovna2019" in out


def test_an_unknown_measure_is_answered_with_the_near_ones(capsys):
    assert "unknown measure 'whitelits': did you mean 'whitelist'" in refused(capsys, "measures", "whitelits")


def test_no_figures_are_loaded_to_list_measures():
    code = "import sys; from impactrl.cli import main; main(['measures']); print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


# Presets


@pytest.fixture
def seen(monkeypatch):
    """The penalties that `impactrl look` was given."""
    found = []

    def look(penalty: PenaltyFlags = Penalty()) -> None:  # noqa: B008
        """Look at a penalty."""
        found.append(penalty)

    monkeypatch.setattr(cli, "commands", lambda agent: {"look": look, "sweep": cli.sweep})  # noqa: ARG005
    return found


@pytest.mark.parametrize("command", ["solve", "explain", "render", "play", "train"])
def test_every_command_with_a_penalty_takes_a_preset_and_says_so(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert "--preset NAME" in words(capsys)
    arguments = {"explain": ["--actions", "D"], "render": ["--actions", "D", "--out", "x.gif"]}.get(command, [])
    error = refused(capsys, command, "Options", *arguments, "--preset", "krakovna209")
    assert "unknown preset 'krakovna209': did you mean 'krakovna2019'" in error


@pytest.mark.parametrize(
    ("flags", "settings"),
    [
        (["--preset", "turner2019-plan"], {}),
        (["--preset=turner2019-plan"], {}),
        (["--weight", "2", "--preset", "turner2019-plan"], {"weight": 2.0}),
        (["--preset", "turner2019-plan", "--weight", "2", "--utilities", "5"], {"weight": 2.0, "utilities": 5}),
        (
            ["--preset", "turner2019-plan", "--rollout", "False", "--horizon", "None"],
            {"rollout": False, "horizon": None},
        ),
        (["--preset", "turner2019-plan", "--weight", "1"], {"weight": 1.0}),  # back to the default of the class
    ],
)
def test_flags_override_a_preset(flags, settings, seen):
    main(["look", *flags])
    assert seen == [impactrl.preset("turner2019-plan", **settings)]


def test_a_preset_shows_in_the_help_of_the_flags(capsys):
    with pytest.raises(SystemExit):
        main(["solve", "--preset", "turner2019-plan", "--help"])
    assert "(default: attainable_utility)" in words(capsys)


def test_flags_that_do_not_go_with_a_preset_are_refused(capsys):
    error = refused(capsys, "solve", "Box", "--preset", "turner2019-model-free", "--deviation", "relative_reachability")
    assert "relative_reachability does not read utilities; leave it out (it was 30)" in error


def test_a_preset_solves_what_it_says(capsys):
    main(["solve", "Options", "--preset", "turner2019-model-free", "--weight", "0.1"])
    best = impactrl.solve(impactrl.compile_mdp("Options"), impactrl.preset("turner2019-model-free", weight=0.1))
    assert f"{best.expected_impact:.4g} actions:" in words(capsys)


# Every field


@pytest.mark.parametrize(
    ("flags", "settings"),
    [
        ("--rollout True", {"rollout": True}),
        ("--rollout False", {}),
        ("--rollout end --horizon 9", {"rollout": "end", "horizon": 9}),
        ("--rollout True --rollout-discount 0.5", {"rollout": True, "rollout_discount": 0.5}),
        ("--horizon 20", {"horizon": 20}),
        ("--norm L2", {"norm": "L2"}),
        ("--expectation inside", {"expectation": "inside"}),
        ("--scale impact-unit --unit-action up", {"scale": "impact-unit", "unit_action": "up"}),
        ("--scale max --nonterminal-weight 0.01", {"scale": "max", "nonterminal_weight": 0.01}),
        ("--terminal absorbing", {"terminal": "absorbing"}),
        ("--baseline inaction --inaction exact", {"baseline": "inaction", "inaction": "exact"}),
        ("--baseline policy --policy up", {"baseline": "policy", "policy": "up"}),
        ("--policy random", {"policy": "random"}),
        ("--policy 4 0 1", {"policy": (4, 0, 1)}),
        ("--baseline adversarial --epsilon 0.3", {"baseline": "adversarial", "epsilon": 0.3}),
        ("--deviation attainable_utility --utilities 3", {"deviation": "attainable_utility", "utilities": 3}),
        (
            "--deviation attainable_utility --utilities states --clip",
            {"deviation": "attainable_utility", "utilities": "states", "clip": True},
        ),
        (
            "--deviation attainable_utility --attainable departure",
            {"deviation": "attainable_utility", "attainable": "departure"},
        ),
        ("--goals 10 --seed 3", {"goals": 10, "seed": 3}),
        ("--goals all", {}),
        (
            "--deviation features --features box 2 goal 0.5 --norm Linf",
            {"deviation": "features", "features": {"box": 2.0, "goal": 0.5}, "norm": "Linf"},
        ),
        ("--deviation whitelist --allowed A>* X>C", {"deviation": "whitelist", "allowed": ("A>*", "X>C")}),
        ("--deviation whitelist --allowed None", {"deviation": "whitelist"}),
        (
            "--deviation detectability --divergence kl --floor 0.001",
            {"deviation": "detectability", "divergence": "kl", "floor": 0.001},
        ),
        ("--summary absolute --discount 1 --weight 3", {"summary": "absolute", "discount": 1, "weight": 3}),
        ("--summary None", {}),
    ],
)
def test_every_field_can_be_set_by_a_flag(flags, settings, seen):
    main(["look", *flags.split()])
    assert seen == [Penalty(**settings)]


def test_every_field_has_a_flag(capsys):
    with pytest.raises(SystemExit):
        main(["solve", "--help"])
    out = words(capsys)
    for field in Penalty.__dataclass_fields__:
        assert f"--{field.replace('_', '-')}" in out


PENALTIES = {
    'deviation = "features"\nfeatures = { box = 2, goal = 0.5 }': {
        "deviation": "features",
        "features": (("box", 2.0), ("goal", 0.5)),
    },
    'deviation = "features"\nfeatures = ["box", "goal"]': {
        "deviation": "features",
        "features": (("box", 1.0), ("goal", 1.0)),
    },
    'deviation = "features"\nfeatures = [["box", 2], ["goal", 0.5]]': {
        "deviation": "features",
        "features": (("box", 2.0), ("goal", 0.5)),
    },
    'baseline = "policy"\npolicy = [4, 0, 1]': {"baseline": "policy", "policy": (4, 0, 1)},
    'baseline = "policy"\npolicy = "random"\ninaction = "exact"': {
        "baseline": "policy",
        "policy": "random",
        "inaction": "exact",
    },
    'rollout = "end"\nhorizon = 9': {"rollout": "end", "horizon": 9},
    "rollout = true": {"rollout": True},
    "goals = 10": {"goals": 10},
    'deviation = "attainable_utility"\nutilities = "states"': {
        "deviation": "attainable_utility",
        "utilities": "states",
    },
    'deviation = "attainable_utility"\nutilities = [[1, 0], [0, 2.5]]': {
        "deviation": "attainable_utility",
        "utilities": ((1.0, 0.0), (0.0, 2.5)),
    },
    'deviation = "whitelist"\nallowed = ["A>*", "*>A"]': {"deviation": "whitelist", "allowed": ("A>*", "*>A")},
    'preset = "turner2019-plan"\nutilities = 5': None,
}


@pytest.mark.parametrize(("text", "settings"), PENALTIES.items())
def test_every_field_can_be_set_in_a_sweep_file(text, settings, tmp_path):
    plan = tmp_path / "plan.toml"
    plan.write_text(f'environments = ["Options"]\n\n[[penalties]]\n{text}\n')
    expected = impactrl.preset("turner2019-plan", utilities=5) if settings is None else Penalty(**settings)
    assert impactrl.read_sweep(plan).penalties == (expected,)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('preset = "krakovna209"', "unknown preset 'krakovna209': did you mean 'krakovna2019'"),
        ('deviation = "features"\nfeatures = "box"', "features must be names of features"),
        ('deviation = "whitelist"\nallowed = ["AX"]', "an allowed change is written"),
        ('deviation = "whitelist"\nallowed = "A>X"', r"allowed is a list of changes, as"),
        ("policy = [0.5]", "an action of policy must be a whole number"),
        ('rollout = "end"', "give its length, as horizon=9"),
        ("goals = 0", "goals must be at least 1"),
    ],
)
def test_a_mistake_in_a_penalty_of_a_sweep_file_names_the_file(text, said, tmp_path):
    plan = tmp_path / "plan.toml"
    plan.write_text(f'environments = ["Options"]\n\n[[penalties]]\n{text}\n')
    with pytest.raises(impactrl.ImpactError) as mistake:
        impactrl.read_sweep(plan)
    assert "plan.toml" in str(mistake.value)
    assert said in str(mistake.value)


# Hard budgets


def test_solve_with_a_budget_prints_what_it_buys_and_where_chance_decides(capsys):
    main(["solve", "Box", "--budget", "0.3"])
    out = words(capsys)
    best = impactrl.solve_within_budget(impactrl.compile_mdp("Box"), Penalty(), budget=0.3)
    assert "at most 0.3 discounted impact: the optimum for discount 0.99, over 100 steps" in out
    assert f"discounted: return {best.value:.4g}, impact 0.3" in out
    assert f"a unit of budget is worth {best.multiplier:.4g}" in out
    (x,) = np.flatnonzero((best.policy > 0).sum(axis=1) > 1)
    assert f"left to chance: down {best.policy[x, 1]:.4g}, left {best.policy[x, 2]:.4g}, in ###### # A###" in out


def test_solve_with_a_budget_and_a_horizon_says_in_which_step_chance_decides(capsys):
    main(["solve", "Box", "--budget", "0.3", "--plan.horizon", "8", "--plan.discount", "1"])
    assert "left to chance in step 1: " in words(capsys)


def test_a_budget_that_does_not_bind_is_said_to(capsys):
    main(["solve", "Box", "--budget", "5"])
    assert "the budget does not bind" in words(capsys)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--budget", "-1"], "the least possible is 0"),
        (["--budget", "1", "--png", "x.png"], "there is no one episode"),
        (["--budget", "1", "--plan.discount", "1"], "needs a horizon"),
    ],
)
def test_a_budget_that_cannot_be_is_refused_in_one_line(arguments, said, capsys):
    assert said in refused(capsys, "solve", "Box", *arguments)


# Terminals


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize(
    "arguments",
    [
        ["measures"],
        ["measures", "turner2019-plan-rr"],
        ["explain", "Options", "--actions", "DRDDR", "--top", "4"],
        ["solve", "Options", "--preset", "turner2019-plan-rr"],
        ["solve", "Box", "--budget", "0.3"],
        ["train", "Vase", "--seeds", "1", "--agent.episodes", "20", "--preset", "turner2019-model-free"],
    ],
    ids=" ".join,
)
def test_nothing_is_cut_off_in_a_terminal(arguments, width, capsys, monkeypatch):
    for module in ("impactrl.terminal", "impactrl.cli"):
        monkeypatch.setattr(f"{module}.terminal", lambda: Console(width=width, highlight=False))
    main(arguments)
    out = capsys.readouterr().out
    assert "…" not in out
    own = [line for line in out.splitlines() if not line.startswith("actions:")]
    assert max(map(len, own)) <= width
