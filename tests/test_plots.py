import threading
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib import rcParams
from matplotlib.figure import Figure
from matplotlib.text import Text

from impactrl.analysis.plots import (
    curve_panel,
    penalty_styles,
    plane_panel,
    plot_learning_curves,
    plot_tradeoff,
    save_figure,
    tradeoff_panel,
)
from impactrl.analysis.statistics import GROUP, OUTCOMES, mean_table, summarise

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
    parts = [runs.assign(episode=e, performance=runs["performance"] * e / max(episodes)) for e in episodes]
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


def test_tradeoff_has_four_labelled_panels_for_each_environment(tradeoff):
    axes = tradeoff.axes
    assert len(axes) == 8
    assert [ax.get_title(loc="left") for ax in axes[::4]] == ["Options", "Damage"]
    assert [ax.get_ylabel().replace("\n", " ") for ax in axes[:4]] == [
        "task return",
        "hidden performance",
        "share of runs with the side effect",
        "task return",
    ]
    assert [ax.get_xlabel() for ax in axes[4:]] == ["penalty weight λ"] * 3 + ["impact (sum over episode)"]
    (legend,) = tradeoff.legends
    assert [text.get_text() for text in legend.get_texts()] == [*PENALTIES, "largest weight"]


def test_tradeoff_states_the_number_of_runs(runs, tradeoff):
    note = tradeoff.get_supxlabel()
    assert note.startswith("3 runs per point, mean with 95 % bootstrap interval. Lines are moved by up to 3 points")
    ragged = runs[(runs["environment"] == "Options")].iloc[1:]
    assert plot_tradeoff(ragged, confidence=0.9).get_supxlabel().startswith("2 to 3 runs per point, mean with 90 %")


def test_no_text_overlaps_or_leaves_the_page(runs, tradeoff):
    wordy = runs[runs["environment"] == "Options"]
    wordy = wordy.assign(penalty=wordy["penalty"] + ", a long name")
    for figure in (tradeoff, plot_tradeoff(wordy), plot_learning_curves(make_curves(runs))):
        assert overlaps(figure) == []
        page = figure.bbox.padded(1)
        assert [text for text, box in drawn_texts(figure) if page.count_contains(box.corners()) < 4] == []


def test_tradeoff_panel_draws_the_estimates(runs):
    summary = summarise(runs[runs["environment"] == "Options"])
    ax = Figure().subplots()
    assert tradeoff_panel(ax, summary, "reward") is ax
    lines = {line.get_label(): line for line in ax.lines if len(line.get_xdata()) == len(WEIGHTS)}
    assert set(lines) == set(PENALTIES) - {"none"}
    rows = summary[summary["penalty"] == "RR start"]
    assert lines["RR start"].get_xydata().tolist() == rows[["weight", "reward"]].to_numpy().tolist()
    bars = [segment[:, 1].tolist() for bar in ax.collections for segment in bar.get_segments()]
    assert rows[["reward_low", "reward_high"]].to_numpy().tolist() == bars[5:10]
    (reference,) = [line for line in ax.lines if line.get_label() == "none" and len(line.get_xdata())]
    assert set(reference.get_ydata()) == {summary["reward"].iloc[0]}
    assert reference.is_dashed()
    assert ax.get_xscale() == "log"
    assert ax.get_xlim()[0] < 0.01 < 100 < ax.get_xlim()[1]


def test_equal_lines_are_drawn_apart(runs):
    summary = summarise(runs[runs["penalty"] == "RR start"])
    twins = pd.concat([summary.assign(environment="E", penalty=name) for name in ("a", "b")])
    ax = tradeoff_panel(Figure().subplots(), twins.drop_duplicates(["penalty", "weight"]), "reward")
    a, b = (line.get_transform().transform(line.get_xydata()) for line in ax.lines if len(line.get_xdata()) > 1)
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
    with pytest.raises(ValueError, match=r"unknown column 'return': expected one of reward, .*side_effect_rate"):
        tradeoff_panel(ax, summary, "return")
    with pytest.raises(ValueError, match=r"missing columns \['completed_low'"):
        curve_panel(ax, summary.drop(columns=["completed_low"]).assign(episode=0), "completed")


def test_curves_show_the_best_final_weight(runs):
    figure = plot_learning_curves(make_curves(runs))
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["Options", "Damage"]
    assert figure.axes[-1].get_xlabel() == "training episode"
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
    means = mean_table(shown, by=("episode",), columns=("reward",))
    line = next(line for line in ax.lines if line.get_label() == "RR start, λ = 0.1")
    assert line.get_xydata().tolist() == means[["episode", "reward"]].to_numpy().tolist()
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
    with pytest.raises(ValueError, match=r"missing columns \['episode'\]"):
        plot_learning_curves(runs)
    with pytest.raises(ValueError, match="one agent"):
        plot_learning_curves(curves.assign(agent=curves["seed"].astype(str)))


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
