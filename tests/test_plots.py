import threading
from dataclasses import dataclass
from itertools import combinations
from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest
from matplotlib import rcParams
from matplotlib.figure import Figure
from matplotlib.text import Text

import impactrl
from impactrl.analysis.boards import agent_cell, path_panel, plot_episode, plot_paths
from impactrl.analysis.impacts import impact_board_panel, impact_matrix_panel, plot_impact
from impactrl.analysis.learning import curve_panel, plot_learning_curves
from impactrl.analysis.outcomes import outcome_panel, plot_outcomes
from impactrl.analysis.plots import PAGE_WIDTH, penalty_styles, save_figure
from impactrl.analysis.selection import held_out
from impactrl.analysis.statistics import CLASSES, GROUP, OUTCOMES, class_shares, mean_table, summarise
from impactrl.analysis.tradeoff import plane_panel, plot_plane, plot_tradeoff, tradeoff_panel

PENALTIES = ("none", "UR stepwise", "RR start", "RR inaction", "RR stepwise", "AU stepwise")
WEIGHTS = (0.01, 0.1, 1.0, 10.0, 100.0)


def make_runs(environments=("Options",), seeds=3):
    rng = np.random.default_rng(0)
    rows = []
    for environment in environments:
        for k, penalty in enumerate(PENALTIES):
            for weight in (0.0,) if penalty == "none" else WEIGHTS:
                for seed in range(seeds):
                    harm, done = float(weight < 1), float(weight < 10 or k == 3)
                    reward = 50 * done - 8 + rng.integers(2)
                    name = f"{environment}/{penalty}/{weight}/{seed}"
                    rows.append(
                        (
                            name,
                            environment,
                            "learner",
                            penalty,
                            weight,
                            seed,
                            reward,
                            reward - 10 * harm,
                            harm,
                            done,
                            k * done,
                        )
                    )
    return pd.DataFrame(rows, columns=["run", *GROUP, "seed", *OUTCOMES])


def make_curves(runs, episodes=(0, 100, 200)):
    parts = [runs.assign(trained=e, performance=runs["performance"] * e / max(episodes)) for e in episodes]
    return pd.concat(parts, ignore_index=True)


def drawn_texts(figure):
    figure.draw_without_rendering()
    ticks = [tick for ax in figure.axes for axis in (ax.xaxis, ax.yaxis) for tick in axis.get_major_ticks()]
    unseen = {
        tick.label1
        for tick in ticks
        if not min(view := tick.axes.viewLim.get_points()[:, int(tick in tick.axes.yaxis.majorTicks)])
        <= tick.get_loc()
        <= max(view)
    }
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    return [(text.get_text(), text.get_window_extent()) for text in texts if text not in unseen]


def overlaps(figure):
    return [
        (a, b)
        for (a, box), (b, other) in combinations(drawn_texts(figure), 2)
        if a != b and box.shrunk(0.9, 0.9).overlaps(other.shrunk(0.9, 0.9))
    ]


@pytest.fixture(scope="module")
def runs():
    return make_runs(("Options", "Damage"))


@pytest.fixture(scope="module")
def tradeoff(runs):
    return plot_tradeoff(runs)


def test_tradeoff_has_three_labelled_panels_for_each_environment(tradeoff):
    axes = tradeoff.axes
    assert len(axes) == 6
    assert [ax.get_title(loc="left") for ax in axes[::3]] == ["Options", "Damage"]
    assert [ax.get_ylabel() for ax in axes[:3]] == ["task return", "hidden performance", "side-effect rate"]
    assert [ax.get_xlabel() for ax in axes] == [""] * 3 + ["penalty weight λ"] * 3
    (legend,) = tradeoff.legends
    assert [text.get_text() for text in legend.get_texts()] == list(PENALTIES)


def two_agents(runs):
    return pd.concat([runs, runs.assign(agent="another learner with quite a long=name", reward=7.0)])


def test_agents_get_panels_of_their_own(runs):
    options = runs[runs["environment"] == "Options"]
    for plot in (plot_tradeoff, plot_plane, plot_outcomes):
        assert "Agent: learner." in plot(options).get_supxlabel()
        figure = plot(two_agents(options))
        titles = [ax.get_title(loc="left") for ax in figure.axes if ax.get_title(loc="left")]
        notes = [ax.texts[0].get_text().replace("\n", " ") for ax in figure.axes if ax.texts]
        assert titles == ["Options", "Options"]
        assert notes == ["learner", "another learner with quite a long=name"]
        assert "Agent" not in figure.get_supxlabel()


def test_tradeoff_states_the_number_of_runs(runs, tradeoff):
    note = tradeoff.get_supxlabel()
    assert note.startswith(
        "Agent: learner. 3 runs per point, mean with 95 % bootstrap interval.\nLines are moved by up to 3"
    )
    ragged = runs[(runs["environment"] == "Options")].iloc[1:]
    assert (
        plot_tradeoff(ragged, confidence=0.9).get_supxlabel()[16:].startswith("2 to 3 runs per point, mean with 90 %")
    )


def test_no_text_overlaps_or_leaves_the_page(runs, tradeoff):
    wordy = runs[runs["environment"] == "Options"]
    wordy = wordy.assign(penalty=wordy["penalty"] + ", a long name")
    box = impactrl.compile_mdp("Box")
    figures = [
        tradeoff,
        plot_tradeoff(wordy),
        plot_plane(runs),
        plot_plane(two_agents(wordy)),
        plot_outcomes(runs),
        plot_outcomes(two_agents(wordy)),
        plot_learning_curves(make_curves(two_agents(runs))),
        plot_impact(impactrl.Penalty().fit(box)),
    ]
    for figure in figures:
        assert figure.get_size_inches()[0] == PAGE_WIDTH
        assert overlaps(figure) == []
        page = figure.bbox.padded(1)
        assert [text for text, box in drawn_texts(figure) if page.count_contains(box.corners()) < 4] == []


def test_tradeoff_panel_draws_the_estimates(runs):
    summary = summarise(runs[runs["environment"] == "Options"])
    ax = Figure().subplots()
    assert tradeoff_panel(ax, summary, "reward") is ax
    lines = {line.get_label(): line for line in ax.lines if len(line.get_xdata()) == len(WEIGHTS)}
    lines.pop("_interval", None)
    assert set(lines) == set(PENALTIES) - {"none"}
    rows = summary[summary["penalty"] == "RR start"]
    assert lines["RR start"].get_xydata().tolist() == rows[["weight", "reward"]].to_numpy().tolist()
    bars = [line.get_ydata().reshape(-1, 3)[:, :2].tolist() for line in ax.lines if line.get_label() == "_interval"]
    assert rows[["reward_low", "reward_high"]].to_numpy().tolist() in bars
    (reference,) = [line for line in ax.lines if line.get_label() == "none" and len(line.get_xdata())]
    assert set(reference.get_ydata()) == {summary["reward"].iloc[0]}
    assert reference.is_dashed()
    assert ax.get_xscale() == "log"
    assert ax.get_xlim()[0] < 0.01 < 100 < ax.get_xlim()[1]


def test_equal_lines_are_drawn_apart(runs):
    summary = summarise(runs[runs["penalty"] == "RR start"])
    twins = pd.concat([summary.assign(environment="E", penalty=name) for name in ("a", "b")])
    ax = tradeoff_panel(Figure().subplots(), twins.drop_duplicates(["penalty", "weight"]), "reward")
    a, b = (line.get_transform().transform(line.get_xydata()) for line in ax.lines if line.get_label() in ("a", "b"))
    # 1.2 points at 100 dots per inch, to the right and up.
    np.testing.assert_allclose(b - a, 1.2 * 100 / 72)


def test_plane_panel_orders_points_by_weight_and_rings_the_largest(runs):
    summary = summarise(runs[runs["environment"] == "Options"])
    ax = Figure().subplots()
    assert plane_panel(ax, summary.iloc[::-1]) is ax
    rows = summary[summary["penalty"] == "AU stepwise"]
    path = next(line for line in ax.lines if line.get_label() == "AU stepwise" and len(line.get_xdata()))
    assert path.get_xydata().tolist() == rows[["impact", "reward"]].to_numpy().tolist()
    rings = [
        line.get_xydata()[0].tolist() for line in ax.lines if line.get_fillstyle() == "none" if len(line.get_xdata())
    ]
    assert rows[["impact", "reward"]].iloc[-1].tolist() in rings
    assert len(rings) == len(PENALTIES) - 1
    (star,) = [line for line in ax.lines if line.get_marker() == "*" and len(line.get_xdata())]
    assert star.get_label() == "none"


def test_the_exact_frontier_lies_behind_the_points(runs):
    summary = summarise(runs[runs["environment"] == "Options"])
    exact = pd.DataFrame({"reward": [9.0, 3.0, 0.0], "impact": [5.0, 2.0, 0.0]})
    ax = plane_panel(Figure().subplots(), summary, frontiers={"RR start": exact})
    (line,) = [line for line in ax.lines if line.get_label() == "RR start, exact"]
    assert line.get_xydata().tolist() == [[5, 9], [2, 3], [0, 0]]
    assert line.get_zorder() < min(other.get_zorder() for other in ax.lines if other is not line)
    figure = plot_plane(runs, frontiers={("Damage", "RR start"): exact})
    drawn = [[line.get_label() for line in ax.lines].count("RR start, exact") for ax in figure.axes]
    assert drawn == [0, 1]
    assert "exact optimum" in [text.get_text() for text in figure.legends[0].get_texts()]
    with pytest.raises(ValueError, match=r"missing columns \['impact'\]"):
        plane_panel(Figure().subplots(), summary, frontiers={"RR start": exact[["reward"]]})


def test_equal_values_up_to_rounding_are_drawn_as_equal(runs):
    summary = summarise(runs[runs["penalty"] == "none"].query("environment == 'Options'").assign(reward=[0, 1e-17, 0]))
    low, high = tradeoff_panel(Figure().subplots(), summary, "reward").get_ylim()
    assert high - low > 0.01


# Outcomes


def test_outcome_bars_are_the_shares_of_the_classes():
    shares = pd.DataFrame(
        [("E", "a", "none", 0.0, 4, 0.25, 0.75, 0.0, 0.0), ("E", "a", "RR", 0.5, 4, 0.0, 0.0, 0.5, 0.5)],
        columns=[*GROUP, "runs", *CLASSES],
    )
    ax = Figure().subplots()
    assert outcome_panel(ax, shares) is ax
    # From the left: no side effect and completed first, the worst last; the first row on top.
    found = {
        bars.get_label(): [(bar.get_y() > 0.5, bar.get_x(), bar.get_width()) for bar in bars] for bars in ax.containers
    }
    assert found == {
        CLASSES[3]: [(True, 0, 0), (False, 0, 0.5)],
        CLASSES[2]: [(True, 0, 0), (False, 0.5, 0.5)],
        CLASSES[1]: [(True, 0, 0.75), (False, 1, 0)],
        CLASSES[0]: [(True, 0.75, 0.25), (False, 1, 0)],
    }
    assert [label.get_text() for label in ax.get_yticklabels()] == ["none", "RR, λ = 0.5"]
    with pytest.raises(ValueError, match="one environment and agent"):
        outcome_panel(ax, pd.concat([shares, shares.assign(agent="b")]))


def test_outcomes_are_those_of_held_out_runs(runs):
    figure = plot_outcomes(runs)
    shares = class_shares(held_out(runs[runs["environment"] == "Options"]))
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels[1:] == [f"{row.penalty}, λ = {row.weight:g}" for row in shares.iloc[1:].itertuples()]
    assert "2 runs per bar" in figure.get_supxlabel()


# Impact, paths and episodes


@pytest.fixture(scope="module")
def box():
    return impactrl.compile_mdp("Box")


def test_the_matrix_shows_every_state_and_action(box):
    impact = impactrl.Penalty().fit(box)
    ax = Figure().subplots()
    assert impact_matrix_panel(ax, impact) is ax
    (mesh,) = ax.collections
    shown = mesh.get_array()
    assert shown.shape == (box.num_actions, impact.mdp.num_states)
    for state, action in np.ndindex(impact.mdp.num_states, box.num_actions):
        if impact.mdp.terminal[state]:
            assert np.ma.is_masked(shown[action, state])
        else:
            assert shown[action, state] == impact.unit_penalty[state, action, 0]
    assert [label.get_text() for label in ax.get_yticklabels()] == list(box.actions)


def test_a_matrix_of_many_states_shows_the_largest_of_neighbours(monkeypatch, box):
    monkeypatch.setattr("impactrl.analysis.impacts.COLUMNS_AT_MOST", 20)
    impact = impactrl.Penalty().fit(box)
    (mesh,) = impact_matrix_panel(Figure().subplots(), impact).collections
    each = -(-impact.mdp.num_states // 20)
    values = np.where(impact.mdp.terminal[:, None], -1, impact.unit_penalty[:, :, 0])
    np.testing.assert_allclose(mesh.get_array()[1].filled(-1)[:3], values[: 3 * each, 1].reshape(3, each).max(axis=1))


def test_a_board_shows_the_penalty_of_every_action_at_the_agents_cell(box):
    impact = impactrl.Penalty(discount=1.0).fit(box)
    ax = Figure().subplots()
    assert impact_board_panel(ax, impact, 0) is ax
    row, column = agent_cell(box, 0)
    marks = {line.get_marker(): (line.get_xdata()[0] - column, line.get_ydata()[0] - row) for line in ax.lines}
    assert set(marks) == {"^", "v", "<", ">", "o"}
    assert marks["o"] == (0, 0)
    assert marks["^"][1] < 0 < marks["v"][1]
    assert marks["<"][0] < 0 < marks[">"][0]
    assert "down 0.833" in ax.get_xlabel()  # into the corner: published_results, section 2
    with pytest.raises(ValueError, match="state must be from 0 to"):
        impact_board_panel(ax, impact, impact.mdp.num_states)


def test_plot_impact_shows_the_telling_states(box):
    impact = impactrl.Penalty().fit(box)
    figure = plot_impact(impact)
    titles = [ax.get_title(loc="left") for ax in figure.axes if ax.get_title(loc="left")]
    spread = np.ptp(impact.unit_penalty[:, :, 0], axis=1)
    assert titles[0] == "state 0"
    assert titles[1:] == [f"state {state}" for state in np.argsort(-spread, kind="stable") if state][:2]
    chosen = plot_impact(impact, states=[5])
    assert [ax.get_title(loc="left") for ax in chosen.axes if ax.get_title(loc="left")] == ["state 5"]
    flat = plot_impact(impactrl.Penalty(deviation="none").fit(box))
    assert flat.get_suptitle() == "none"


def test_paths_of_the_agent_and_of_inaction():
    offset = impactrl.compile_mdp("Offset")
    steps = impactrl.explain("Offset", actions="DDLDDRUUU")
    figure = plot_paths(offset, steps, baseline="inaction")
    agent, baseline = figure.axes
    assert agent.get_title(loc="left") == "the agent"
    assert baseline.get_title(loc="left") == "baseline: inaction"
    idle = impactrl.explain("Offset", actions="N" * 9)
    for ax, states in ((agent, [0, *steps["state"]]), (baseline, [0, *idle["state"]])):
        expected = path_panel(Figure().subplots(), offset, states).images[0].get_array()
        np.testing.assert_array_equal(ax.images[0].get_array(), expected)


def test_the_stepwise_path_is_a_no_op_away_from_the_agents(monkeypatch):
    options = impactrl.compile_mdp("Options")
    steps = impactrl.explain("Options", actions="LDR")
    seen = []
    monkeypatch.setattr("impactrl.analysis.boards.path_panel", lambda *arguments: seen.append(list(arguments[2])))
    plot_paths(options, steps, baseline="stepwise")
    plot_paths(options, steps, baseline="start")
    path = [0, *steps["state"]]
    assert seen == [path, [0, *path[:-1]], path, [0, 0, 0, 0]]  # nothing moves by itself here
    with pytest.raises(ValueError, match="unknown baseline with a path 'average'"):
        plot_paths(options, steps, baseline="average")


def test_an_episode_begins_where_it_began():
    """FrozenLake with two starts, of which the less likely one was drawn."""
    world = TwoStarts()
    mdp = impactrl.compile_mdp(world)
    seeds = {int(impactrl.explain(world, actions="R", seed=seed).attrs["start"]): seed for seed in range(40)}
    assert set(seeds) == {0, 1}
    for start, seed in seeds.items():
        steps = impactrl.explain(world, actions="R", seed=seed)
        first = plot_episode(mdp, steps).axes[0].images[0].get_array()
        expected = path_panel(Figure().subplots(), mdp, [start]).images[0].get_array()
        assert (first != expected).any(axis=2).mean() < 0.05  # but for the dot of the path
        steps.attrs.clear()
        with pytest.raises(ValueError, match="2 first states"):
            plot_episode(mdp, steps)


@dataclass(frozen=True)
class TwoStarts(impactrl.GridWorld[int]):
    """A corridor with a start at each end."""

    level = "#####\n#A  #\n#####"
    tiles = MappingProxyType({"#": "wall", "A": "agent"})

    def start(self):
        return [(0.75, self.cells("A")[0]), (0.25, self.cells("A")[0] + 2)]

    def outcomes(self, state, action):
        cell = state + self.offsets[action]
        return [impactrl.Outcome(state if cell in self.walls else cell)]

    def terminal(self, state):  # noqa: ARG002
        return False

    def board(self, state):
        return self.paint((state, "A"))


def test_styles_are_distinct_and_follow_the_order():
    styles = penalty_styles([*PENALTIES, "none", *map(str, range(20))])
    assert list(styles) == [*PENALTIES, *map(str, range(20))]
    assert len({(s.colour, s.marker, s.dashes) for s in styles.values()}) == len(styles)
    shifts = [s.shift for s in styles.values()]
    assert shifts == sorted(set(shifts))
    assert shifts[-1] - shifts[0] == pytest.approx(8)
    assert styles["none"].marker == "*"
    assert penalty_styles(["one"])["one"].shift == 0


def test_panels_refuse_a_mixture_and_unknown_columns(runs):
    summary = summarise(runs)
    ax = Figure().subplots()
    with pytest.raises(ValueError, match=r"one environment, got \['Options', 'Damage'\]"):
        plane_panel(ax, summary)
    with pytest.raises(ValueError, match=r"one agent, got \['learner', 'another"):
        plane_panel(ax, summarise(two_agents(runs[runs["environment"] == "Options"])))
    with pytest.raises(ValueError, match=r"unknown column 'return': expected one of reward, .*side_effect_rate"):
        tradeoff_panel(ax, summary, "return")
    with pytest.raises(ValueError, match=r"missing columns \['completed_low'"):
        curve_panel(ax, summary.drop(columns=["completed_low"]).assign(trained=0), "completed")


def test_curves_show_the_best_final_weight(runs):
    figure = plot_learning_curves(make_curves(runs))
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["Options", "Damage"]
    assert figure.axes[-1].get_xlabel() == "training episodes"
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels[0] == "none"
    # Without side effect and with the task done there is weight 1, and 10 and 100 for "RR inaction" alone.
    assert {label.split(", ")[1] for label in labels[1:] if not label.startswith("RR inaction")} == {"λ = 1"}
    assert "3 runs per point" in figure.get_supxlabel()
    assert "best mean performance" in figure.get_supxlabel()


def test_curves_draw_mean_and_band(runs):
    curves = make_curves(runs[runs["environment"] == "Options"])
    ax = plot_learning_curves(curves, column="reward", weights=dict.fromkeys(PENALTIES[1:], 0.1)).axes[0]
    shown = curves[(curves["penalty"] == "RR start") & (curves["weight"] == 0.1)]
    means = mean_table(shown, by=("trained",), columns=("reward",))
    line = next(line for line in ax.lines if line.get_label() == "RR start, λ = 0.1")
    assert line.get_xydata().tolist() == means[["trained", "reward"]].to_numpy().tolist()
    band = ax.collections[2].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (means["reward_low"].min(), means["reward_high"].max())
    assert "best" not in ax.figure.get_supxlabel()


def test_curves_refuse(runs):
    curves = make_curves(runs)
    with pytest.raises(ValueError, match="unknown column 'return': expected one of reward, performance, side_effect,"):
        plot_learning_curves(curves, column="return")
    with pytest.raises(ValueError, match=r"unknown penalties \['XX'\].*'RR start'"):
        plot_learning_curves(curves, weights={"XX": 1.0})
    with pytest.raises(ValueError, match=r"no runs of 'RR start' in 'Options' at weight 2: .* 0\.01, 0\.1, 1, 10, 100"):
        plot_learning_curves(curves, weights={"RR start": 2.0})
    with pytest.raises(ValueError, match=r"missing columns \['trained'\]"):
        plot_learning_curves(runs)


def test_saving_again_gives_the_same_bytes(tmp_path, runs):
    figure = plot_tradeoff(runs[(runs["environment"] == "Options") & runs["penalty"].isin(PENALTIES[:3])])
    for name in ("first.png", "again.png"):
        save_figure(figure, tmp_path / name)
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "again.png").read_bytes()


def test_files_carry_no_date(tmp_path):
    for name in ("figure.pdf", "figure.svg"):
        save_figure(Figure(figsize=(1, 1)), tmp_path / name)
    assert b"CreationDate" not in (tmp_path / "figure.pdf").read_bytes()
    svg = (tmp_path / "figure.svg").read_text()
    assert "<svg" in svg
    assert "<dc:date>" not in svg


def test_same_table_same_bytes_in_threads_and_global_settings_stay(tmp_path, runs):
    before = dict(rcParams)
    curves = make_curves(runs[runs["environment"] == "Options"])
    paths = [tmp_path / f"{k}.png" for k in range(2)]
    threads = [threading.Thread(target=lambda p=p: save_figure(plot_learning_curves(curves), p)) for p in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert dict(rcParams) == before


def test_saving_is_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "figure.PNG"
    save_figure(Figure(figsize=(1, 2)), path)
    old = path.read_bytes()
    assert int.from_bytes(old[16:20], "big") == 150  # width in the header: 1 inch at 150 dots per inch

    def half_written(_, target, **__):
        target.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", half_written)
    with pytest.raises(OSError, match="disk full"):
        save_figure(Figure(), path)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["figure.jpg", "figure"])
def test_saving_refuses_other_formats(tmp_path, name):
    with pytest.raises(ValueError, match=r"\['\.pdf', '\.png', '\.svg'\], got 'figure"):
        save_figure(Figure(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []
