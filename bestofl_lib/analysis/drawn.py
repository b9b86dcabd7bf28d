"""What was drawn: how long completions are in each language, and how they end."""

from __future__ import annotations

import polars as pl


def completion_lengths(candidates: pl.DataFrame) -> pl.DataFrame:
    """Length and end of the completions of each language.

    Args:
        candidates: table `candidates`; a column `length` (characters) does in place of the completions.

    Returns:
        One row per language: `language`, `unit` ("tokens", or "characters" where a candidate's tokens are not known),
        `median`, `low` and `high` (a tenth of the completions is shorter, a tenth longer), `longest`, `cut` (share that
        ended at the token limit; null where no end is known), `n_candidates`.
    """
    counted = candidates["n_tokens"].null_count() == 0
    characters = pl.col("length") if "length" in candidates.columns else pl.col("completion").str.len_chars()
    length = pl.col("n_tokens") if counted else characters
    ends = pl.col("finish_reason").drop_nulls()
    return (
        candidates.group_by("language")
        .agg(
            unit=pl.lit("tokens" if counted else "characters"),
            median=length.median(),
            low=length.quantile(0.1),
            high=length.quantile(0.9),
            longest=length.max(),
            cut=(ends == "length").mean(),
            n_candidates=pl.len(),
        )
        .sort("language")
    )
