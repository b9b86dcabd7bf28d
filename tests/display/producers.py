"""The tables that charts, sentences and pages take, made by the functions that make them in a study, on a made-up run.

A chart that is tested with an invented table can look for a column that nobody writes. Everything here is the real thing, small.
"""

from __future__ import annotations

from pathlib import Path

import nbformat
import polars as pl
from made_up_runs import write_run

from bestofl_lib.analysis import complementarity
from bestofl_lib.analysis.arrays import CandidateArrays, arrays_of_run
from bestofl_lib.analysis.claims import claims_of
from bestofl_lib.analysis.comparison import curves_side_by_side
from bestofl_lib.analysis.curves import curves, curves_by_level, interval_sources
from bestofl_lib.analysis.drawn import completion_lengths
from bestofl_lib.analysis.picks import selected_by_every_rule
from bestofl_lib.analysis.planner import plans
from bestofl_lib.analysis.reading_quality import accuracy_by_language, accuracy_by_reader
from bestofl_lib.analysis.reward_quality import calibration, transfer, within_problem_auc
from bestofl_lib.answers.other_readers import read_with_others
from bestofl_lib.experiments import quality_of_trial
from bestofl_lib.runs import Run

LANGUAGES = ("en", "de", "sw", "th")
N_PROBLEMS, N = 24, 6


def small_run(folder: Path) -> Run:
    """A run of four languages, with an answer that cannot be read in each, and its tables written."""
    texts = {("lab-test-0003", code, 1): "…" for code in LANGUAGES}
    run = write_run(folder, "small", n_problems=N_PROBLEMS, n=N, languages=LANGUAGES, texts=texts)
    for name, table in produce(run).items():
        if name in STORED:
            run.write(STORED[name], table)
    return run


STORED = {
    "accuracy_by_language": "accuracy",
    "claims": "claims",
    "claim_details": "claim_details",
    "claim_controls": "claim_controls",
    "added_languages": "added_languages",
    "budget_curves": "curves",
    "gain_over_resampling": "gains",
    "planner_regret": "plan",
}


def produce(run: Run) -> dict[str, pl.DataFrame]:
    """Chart or sentence to its table, as the notebooks make it."""
    arrays, problems, candidates = arrays_of_run(run), run.read("problems"), run.candidates()
    readings, rewards = run.read("readings"), run.read("rewards")
    judged = readings.join(candidates.select("problem_id", "language", "sample_index", "finish_reason"), on=KEYS)
    others = read_with_others(candidates, problems, reader_sample=12)
    alone = curves_side_by_side([run], replicates=200)
    reliability, _ = calibration(rewards.filter(pl.col("reward_model").is_in(["multi", "cross"])), readings)
    levels = problems.with_columns(
        level=pl.when(pl.col("problem_id") < "lab-test-0005").then(pl.lit("low")).otherwise(pl.lit("high"))
    )
    return _of_arrays(arrays) | {
        "curves_by_level": curves_by_level(arrays, levels, replicates=200),
        "completion_lengths": completion_lengths(candidates),
        "accuracy_by_language": accuracy_by_language(judged, problems),
        "reading_rules": judged.group_by("language", "rule").agg(n=pl.len()),
        "accuracy_by_reader": accuracy_by_reader(others),
        "trace_languages": judged.group_by("language", "trace_language").agg(n=pl.len()),
        "reward_quality": within_problem_auc(rewards, readings),
        "calibration": reliability,
        "transfer": transfer(rewards, readings),
        "reward_trials": _trials(rewards, readings, arrays),
        "runs_side_by_side": pl.concat([alone, alone.with_columns(run=pl.lit("other"))]),
    }


def _of_arrays(arrays: CandidateArrays) -> dict[str, pl.DataFrame]:
    table, judged, made = curves(arrays), claims_of(arrays), plans(arrays, [2, 4], "cross", 3)
    return {
        "claims": judged.claims,
        "claims_forest": judged.claims,
        "claim_details": judged.details,
        "claim_controls": judged.controls,
        "added_languages": complementarity.added_languages(arrays),
        "budget_curves": table,
        "english_against_mixed": table,
        "interval_sources": interval_sources(arrays),
        "selected_languages": selected_by_every_rule(arrays),
        "exclusive_solves": complementarity.exclusive_solves(arrays),
        "gain_over_resampling": complementarity.gain_over_resampling(arrays),
        "greedy_order": complementarity.greedy_order(arrays),
        "shapley": pl.concat(complementarity.shapley(arrays, objective=name) for name in ("oracle", "cross")),
        "sole_solvers": complementarity.sole_solvers(arrays),
        "planner_regret": made.plan,
        "allocation": made.allocations,
    }


def _trials(rewards: pl.DataFrame, readings: pl.DataFrame, pool: CandidateArrays) -> pl.DataFrame:
    """Two ways to train, judged as `experiments` judges them; what was learnt from is made up."""
    numbers = {"seed": 0, "rows": 40, "n_problems": 12, "n_candidates": 60, "seconds": 2.5}
    learnt = pl.DataFrame({"reward_model": ["multi", "cross"]} | numbers)
    shared = rewards.filter(pl.col("reward_model").is_in(["multi", "cross"]))
    worse = shared.with_columns(reward=-pl.col("reward"))
    return pl.concat(
        quality_of_trial(name, learnt, part, readings, pool)
        for name, part in (("as the run", shared), ("rows 20", worse))
    )


KEYS = ["problem_id", "language", "sample_index"]


def write_executed(run: Run, name: str, outputs: list) -> Path:
    """An executed notebook of the run that shows these outputs, each a MIME bundle and its metadata."""
    cells = [nbformat.v4.new_markdown_cell(f"# {name}\n\n> Is it drawn?")]
    cells += [
        nbformat.v4.new_code_cell(
            "x", execution_count=1, outputs=[nbformat.v4.new_output("display_data", data=data, metadata=metadata)]
        )
        for data, metadata in outputs
    ]
    path = run.folder / "notebooks" / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path
