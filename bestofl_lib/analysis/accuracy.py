"""How often candidates are right and how often they can be read, per language; the figures of the reading audit.

Tables in, tables out. It does not read answers: that is `candidates/reading.py`.
"""

from __future__ import annotations

import polars as pl

from bestofl_lib.analysis.uncertainty import mean_interval


def accuracy_by_language(readings: pl.DataFrame, problems: pl.DataFrame | None = None) -> pl.DataFrame:
    """Accuracy of one candidate with its interval over problems, and the shares that are unreadable, doubtful or cut off.

    Args:
        readings: table `readings`; with a column `finish_reason` (join it from the candidates) the cut ones are counted.
        problems: table `problems`, to leave out those that a revised edition replaced in at least one language; where
            it is not given, or does not know, the column `accuracy_unrevised` is null.

    Returns:
        One row per language: `language`, `accuracy`, `low`, `high` (95 % over problems), `unreadable`, `doubtful`, `cut`
        (shares of candidates), `n_candidates`, `n_problems`, `accuracy_unrevised`, `n_unrevised`.
    """
    kept = None
    if problems is not None and problems["is_revised"].fill_null(False).any():
        revised = problems.filter(pl.col("is_revised"))["problem_id"].unique()
        kept = pl.col("problem_id").is_in(revised.implode()).not_()
    if "finish_reason" not in readings.columns:
        readings = readings.with_columns(finish_reason=pl.lit(None, pl.String))
    rows = []
    for (code,), part in readings.group_by("language", maintain_order=True):
        per_problem = part.group_by("problem_id", maintain_order=True).agg(pl.col("is_correct").mean())
        spread = mean_interval(per_problem["is_correct"].to_numpy())
        rest = per_problem.filter(kept) if kept is not None else per_problem.clear()
        rows.append(
            {
                "language": code,
                "accuracy": float(spread.estimate),
                "low": float(spread.low),
                "high": float(spread.high),
                "unreadable": part["answer"].is_null().mean(),
                "doubtful": (part["answer"].is_not_null() & (part["note"].fill_null("") != "")).mean(),
                "cut": (part["finish_reason"] == "length").mean(),
                "n_candidates": len(part),
                "n_problems": len(per_problem),
                "accuracy_unrevised": rest["is_correct"].mean(),
                "n_unrevised": len(rest),
            }
        )
    return pl.DataFrame(rows, infer_schema_length=None).sort("accuracy", descending=True)
