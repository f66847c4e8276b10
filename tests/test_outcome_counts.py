import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from impactrl.analysis.counts import count_panel, plot_outcome_counts
from impactrl.analysis.statistics import CLASSES
from impactrl.errors import ImpactError


def counts(panel="weight", settings=("1", "2", "3"), sources=("ours", "published")):
    rows = [
        {"panel": panel, "environment": level, "setting": setting, "source": source}
        | dict(zip(CLASSES, (i, 1, 2, 3 + k), strict=True))
        for k, source in enumerate(sources)
        for level in ("Options", "Damage")
        for i, setting in enumerate(settings)
    ]
    return pd.DataFrame(rows)


def bars(ax):
    """Bottom, height, left end and hatch of every bar, in the order of drawing."""
    return [(p.get_y(), p.get_height(), p.get_x(), p.get_hatch()) for p in ax.patches]


def test_bars_are_stacked_shares():
    ax = count_panel(Figure().subplots(), counts())
    drawn = bars(ax)
    assert len(drawn) == 2 * 2 * 3 * 4
    # Ours first: four classes one after the other, six bars each; the second setting has 1, 1, 2 and 3 of 7.
    second = [drawn[4 * 0 + 6 * k + 1] for k in range(4)]
    np.testing.assert_allclose([height for _, height, _, _ in second], [1 / 7, 1 / 7, 2 / 7, 3 / 7])
    np.testing.assert_allclose([bottom for bottom, *_ in second], [0, 1 / 7, 2 / 7, 4 / 7])
    assert len({left for _, _, left, _ in second}) == 1
    assert {hatch for *_, hatch in drawn[:24]} == {None}
    assert None not in {hatch for *_, hatch in drawn[24:]}


def test_bars_of_one_setting_stand_beside_each_other_and_levels_apart():
    drawn = bars(count_panel(Figure().subplots(), counts()))
    ours, theirs = [left for _, _, left, _ in drawn[:6]], [left for _, _, left, _ in drawn[24:30]]
    steps = np.diff(ours)
    np.testing.assert_allclose(steps, [1, 1, steps[2], 1, 1])
    assert steps[2] > 1.5
    assert (np.array(theirs) - ours > 0).all()
    assert (np.array(theirs[:-1]) < ours[1:]).all()


def test_settings_and_levels_are_named():
    ax = count_panel(Figure().subplots(), counts())
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "", ""] * 2
    assert [text.get_text() for text in ax.texts] == ["Options", "Damage"]
    ax = count_panel(Figure().subplots(), counts(settings=("a long name", "b")))
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a long name", "b"] * 2


@pytest.mark.parametrize(("sources", "keys"), [(("ours",), 4), (("ours", "published"), 6)])
def test_a_figure_has_a_panel_for_each_thing_varied_and_one_legend(sources, keys):
    table = pd.concat([counts(panel, sources=sources) for panel in ("weight", "discount")])
    figure = plot_outcome_counts(table)
    assert [ax.get_xlabel() for ax in figure.axes] == ["weight", "discount"]
    (legend,) = figure.legends
    assert len(legend.get_texts()) == keys


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (counts().drop(columns="source"), "missing columns"),
        (counts().iloc[1:], "a row for each of 12 levels x settings x sources, got 11"),
        (pd.concat([counts().iloc[1:], counts().iloc[1:2]]), "a row for each of 12"),
        (counts().iloc[:0], "at least one row"),
    ],
)
def test_tables_that_make_no_figure_are_refused(table, said):
    with pytest.raises(ImpactError, match=said):
        plot_outcome_counts(table)
