"""Every chart of the workbench: a table goes in, an Altair chart comes out.

A chart's title says the question, its subtitle the unit, the denominator and the interval. Intervals are 95 %. No chart
computes a figure: it chooses rows, words and encodings. Charts take aggregated tables of at most a few thousand rows.
"""

from bestofl_lib.display.charts.claims import claim_controls, claim_details, claims_forest
from bestofl_lib.display.charts.complementarity import (
    added_languages,
    exclusive_solves,
    gain_over_resampling,
    greedy_order,
    shapley,
    sole_solvers,
)
from bestofl_lib.display.charts.curves import (
    budget_curves,
    curves_by_level,
    english_against_mixed,
    interval_sources,
    runs_side_by_side,
)
from bestofl_lib.display.charts.planning import allocation, planner_regret
from bestofl_lib.display.charts.reading import (
    accuracy_by_language,
    accuracy_by_reader,
    completion_lengths,
    reading_rules,
    trace_languages,
)
from bestofl_lib.display.charts.rewards import calibration, reward_quality, selected_languages
from bestofl_lib.display.charts.training import reward_trials, transfer

__all__ = [
    "accuracy_by_language",
    "accuracy_by_reader",
    "added_languages",
    "allocation",
    "budget_curves",
    "calibration",
    "claim_controls",
    "claim_details",
    "claims_forest",
    "completion_lengths",
    "curves_by_level",
    "english_against_mixed",
    "exclusive_solves",
    "gain_over_resampling",
    "greedy_order",
    "interval_sources",
    "planner_regret",
    "reading_rules",
    "reward_quality",
    "reward_trials",
    "runs_side_by_side",
    "selected_languages",
    "shapley",
    "sole_solvers",
    "trace_languages",
    "transfer",
]
