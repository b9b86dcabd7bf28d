"""Where solutions lose their answer: from which step on the policy no longer reaches it.

The table of labelled steps in, shares per language out.
"""

from __future__ import annotations

import polars as pl

from bestofl_lib.tables import KEYS


def where_lost(step_labels: pl.DataFrame) -> pl.DataFrame:
    """From which step on no rollout of a wrong candidate reaches the right answer.

    Args:
        step_labels: table of that name.

    Returns:
        One row per language, and one for all (null): `language`, `n_candidates`, `steps` (mean number), `n_wrong`, and
        as shares of the wrong ones `first` (no rollout from the first step on reaches the answer), `later` (some step
        still did, but not the one before the last) and `last` (the step before the last still did).
    """
    reached = pl.col("right") > 0
    before_last = reached.slice(0, pl.len() - 1)
    one_each = step_labels.sort(*KEYS, "step").group_by(KEYS, maintain_order=True).agg(
        steps=pl.len(), is_wrong=~reached.last(), any=before_last.any(), late=before_last.last().fill_null(False)
    )  # fmt: skip
    each = pl.concat([one_each, one_each.with_columns(language=pl.lit(None, pl.String))])

    def share(has: pl.Expr) -> pl.Expr:
        return has.filter("is_wrong").mean()

    return (
        each.group_by("language")
        .agg(
            n_candidates=pl.len(),
            steps=pl.col("steps").mean(),
            n_wrong=pl.col("is_wrong").sum(),
            first=share(~pl.col("any")),
            later=share(pl.col("any") & ~pl.col("late")),
            last=share(pl.col("late")),
        )
        .sort("language", nulls_last=True)
    )
