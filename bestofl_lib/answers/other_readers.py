"""What three public readers would have read, next to ours, for the audit.

They reproduce the behaviour of the originals, faults included, and nothing else in the project uses them: the last
number
of the text; the last number behind the answer's cue with commas stripped; and math-verify on the raw completion.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fractions import Fraction

import polars as pl

from bestofl_lib.answers.columns import read_answers
from bestofl_lib.languages import LANGUAGES, PIVOT
from bestofl_lib.numbers.algebra import expression_by_math_verify, math_verify_reading
from bestofl_lib.numbers.references import read_number
from bestofl_lib.numbers.written import canonical
from bestofl_lib.tables import KEY

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def _fraction(written: str) -> Fraction | None:
    return Fraction(written) if len(written) <= 300 else None


def last_number(completion: str, language: str) -> Fraction | None:
    """The last number of the text, commas stripped: the rule of many public GSM8K harnesses.

    >>> last_number("Antwort: 5.600 Kalorien", "de")
    Fraction(28, 5)
    """
    found = _NUMBER.findall(completion.replace(",", ""))
    return _fraction(found[-1]) if found else None


def after_cue(completion: str, language: str) -> Fraction | None:
    """The last number behind the last "Answer:" in the question's language or in English, commas stripped.

    >>> after_cue("Antwort: 18,00 €", "de")
    Fraction(1800, 1)
    """
    cues = {LANGUAGES[language].cues[0], LANGUAGES[PIVOT].cues[0]}
    lowered = completion.lower()
    if len(lowered) != len(completion):
        lowered = completion
    places = [place + len(cue) for cue in cues if (place := lowered.rfind(cue)) >= 0]
    if not places:
        return None
    found = _NUMBER.findall(completion[max(places) :].replace(",", ""))
    return _fraction(found[-1]) if found else None


def math_verify(completion: str, language: str) -> Fraction | None:
    """What math-verify reads in the raw completion; it knows no language. Slow: about a hundred a second."""
    return math_verify_reading(completion[-6000:])


OURS = "ours"  # this project's reader
READERS: dict[str, Callable[[str, str], Fraction | None]] = {
    "last_number": last_number,
    "after_cue": after_cue,
    "math_verify": math_verify,
}


def read_with_others(
    candidates: pl.DataFrame,
    problems: pl.DataFrame,
    readers: Sequence[str] = tuple(READERS),
    reader_sample: int | None = 100,
) -> pl.DataFrame:
    """The same candidates read by ours and by other readers.

    Where the reference is an expression, math-verify compares it with the whole completion; the two others know numbers
    only.

    Args:
        candidates: one row per candidate, with the key columns and `completion`.
        problems: one row per problem and language, with `problem_id`, `language`, `reference`.
        readers: names in `READERS`.
        reader_sample: candidates per language, evenly spread over the table; None reads all (math-verify is slow).

    Returns:
        One row per candidate and reader ("ours" first): key, reader, answer (canonical or null), is_correct, reference,
        ours (our answer).

    Raises:
        ValueError: an unknown reader, naming those known; what `read_answers` raises.
    """
    unknown = [name for name in readers if name not in READERS]
    if unknown:
        raise ValueError(f"unknown reader {unknown[0]!r}; known: {', '.join(READERS)}")
    if reader_sample is not None and reader_sample < 1:
        raise ValueError(
            f"reader_sample is {reader_sample}; expected at least 1 candidate per language, or None for all"
        )
    if reader_sample is not None:
        candidates = candidates.filter(evenly_spread(reader_sample))
    ours = read_answers(candidates, problems)
    spelled = {
        text: canonical(value)
        for text in problems["reference"].unique().to_list()
        if (value := read_number(text)) is not None
    }
    kind = pl.col("answer_kind") if "answer_kind" in problems.columns else pl.lit(None, pl.String)
    references = (
        problems.select("problem_id", "language", "reference", is_expression=(kind == "expression").fill_null(False))
        .unique(["problem_id", "language"])
        .with_columns(pl.when("is_expression").then("reference").otherwise(pl.col("reference").replace(spelled)))
    )
    base = (
        ours.select(*KEY, ours=pl.col("answer"))
        .join(references, on=["problem_id", "language"], how="left", maintain_order="left")
        .with_columns(completion=candidates["completion"])
    )
    parts = [base.with_columns(reader=pl.lit(OURS), answer=pl.col("ours"))]
    for name in readers:
        read = READERS[name]
        answers = [
            expression_by_math_verify(text[-6000:], reference)
            if name == "math_verify" and text and is_expression
            else None
            if text is None or (value := read(text, code)) is None
            else canonical(value)
            for text, code, reference, is_expression in base.select(
                "completion", "language", "reference", "is_expression"
            ).iter_rows()
        ]
        parts.append(base.with_columns(reader=pl.lit(name), answer=pl.Series(answers, dtype=pl.String)))
    return (
        pl.concat(parts)
        .with_columns(is_correct=(pl.col("answer") == pl.col("reference")).fill_null(False))
        .select(*KEY, "reader", "answer", "is_correct", "reference", "ours")
    )


def evenly_spread(n: int) -> pl.Expr:
    """Which rows of a table are at most `n` of each language, evenly spread over it."""
    place, size = pl.int_range(pl.len()).over("language"), pl.len().over("language")
    return place % (size / n).ceil().cast(pl.Int64).clip(1) == 0
