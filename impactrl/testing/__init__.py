"""The conformance batteries: what levels, deviations and baselines must do, for ours and for yours.

`check_level("MyLevel")`, `check_deviation(MyDeviation())` and `check_baseline(MyBaseline())` run all checks of their
kind; `CHECKS`, `DEVIATION_CHECKS` and `BASELINE_CHECKS` list them, for a parametrised test.
"""

from impactrl.testing.levels import CHECKS, check_level
from impactrl.testing.measures import BASELINE_CHECKS, DEVIATION_CHECKS, check_baseline, check_deviation

__all__ = ["BASELINE_CHECKS", "CHECKS", "DEVIATION_CHECKS", "check_baseline", "check_deviation", "check_level"]
