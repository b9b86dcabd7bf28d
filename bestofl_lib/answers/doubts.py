"""Which readings are doubtful: the one definition, for accuracy per language and for the analysis alike.

A reading is doubtful where it is missing or carries a note. Some doubts cannot matter: the reading is wrong, and
the right answer is not among the numbers of the completion, so no other reading would have been right.
"""

from __future__ import annotations

import polars as pl

from bestofl_lib.languages import is_language
from bestofl_lib.numbers.marks import uniform
from bestofl_lib.numbers.references import read_number
from bestofl_lib.numbers.written import numbers_in
from bestofl_lib.tables import KEY


def is_doubtful(readings: pl.DataFrame) -> pl.Expr:
    """Whether a reading is missing or carries a note; a table without the column `note` has no notes.

    Args:
        readings: one row per candidate, with `answer`; asked for its columns only.
    """
    missing = pl.col("answer").is_null()
    return missing | (pl.col("note").fill_null("") != "") if "note" in readings.columns else missing


def without_harmless_doubts(
    table: pl.DataFrame, candidates: pl.DataFrame, problems: pl.DataFrame | None
) -> pl.DataFrame:
    """The table, `doubtful` only where the reading may hide the right answer.

    Texts without any digit stay doubtful (their numbers may be words), and so do all where texts or references are
    absent, or references are expressions.

    Args:
        table: one row per candidate: key, `is_correct`, `doubtful`.
        candidates: one row per candidate, perhaps with `completion`.
        problems: one row per problem and language, perhaps with `reference`.
    """
    if problems is None or "reference" not in problems.columns or "completion" not in candidates.columns:
        return table
    keys = list(KEY)
    doubted = table.filter(
        pl.col("doubtful"),
        ~pl.col("is_correct"),
        pl.col("language").is_in([c for c in table["language"].unique() if is_language(c)]),
    )
    texts = doubted.select(keys).join(candidates.select(*keys, "completion"), on=keys, how="left")
    texts = texts.join(
        problems.select("problem_id", "language", "reference"), on=["problem_id", "language"], how="left"
    )
    harmless = [
        (problem, code, index)
        for problem, code, index, text, reference in texts.iter_rows()
        if text and reference and not _may_hold(uniform(text), reference, code)
    ]
    schema = {name: table.schema[name] for name in keys}
    found = pl.DataFrame(harmless, schema=schema, orient="row").with_columns(harmless=pl.lit(True))
    return (
        table.join(found, on=keys, how="left")
        .with_columns(pl.col("doubtful") & pl.col("harmless").is_null())
        .drop("harmless")
    )


def _may_hold(text: str, reference: str, code: str) -> bool:
    right = read_number(reference)
    numbers = numbers_in(text, 0, len(text), code)
    return right is None or not numbers or right in [number.value for number in numbers]
