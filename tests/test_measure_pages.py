"""docs/measures.md names everything that a penalty can be made of."""

from pathlib import Path

from impactrl.measures.baselines import BASELINES
from impactrl.measures.presets import PRESETS
from impactrl.measures.registry import DEVIATIONS

PAGE = (Path(__file__).parents[1] / "docs" / "measures.md").read_text(encoding="utf-8")


def test_the_page_of_measures_speaks_of_every_one():
    for name in [*DEVIATIONS, *BASELINES]:
        assert f"`{name}`" in PAGE
    for name in PRESETS:  # families of presets are written as `turner2019-plan`, `-plan-start`
        start, dash, rest = name.partition("-")
        assert f"`{name}`" in PAGE or (start in PAGE and f"`{dash}{rest}`" in PAGE)
