"""Other readers err as their originals do, and the comparison shows it per language."""

from __future__ import annotations

import polars as pl
import pytest

from bestofl_lib.analysis.reading_quality import accuracy_by_reader, disagreements
from bestofl_lib.answers.other_readers import read_with_others

CANDIDATES = pl.DataFrame(
    {
        "problem_id": ["a", "b", "a", "b"],
        "language": ["en", "en", "de", "de"],
        "sample_index": [0, 0, 0, 0],
        "completion": ["The answer is 18.", "The answer is 5,600.", "Antwort: 18,00 €", "Antwort: 5.600"],
    }
)
PROBLEMS = pl.DataFrame(
    {
        "problem_id": ["a", "b", "a", "b"],
        "language": ["en", "en", "de", "de"],
        "reference": ["18", "5600", "18", "5600"],
    }
)


def test_readers_that_strip_commas_make_german_look_worse_than_it_is() -> None:
    readings = read_with_others(CANDIDATES, PROBLEMS, readers=("last_number", "after_cue"))
    accuracy = {(r["language"], r["reader"]): r["accuracy"] for r in accuracy_by_reader(readings).iter_rows(named=True)}
    assert accuracy == {
        ("en", "ours"): 1,
        ("de", "ours"): 1,
        ("en", "last_number"): 1,
        ("en", "after_cue"): 1,
        ("de", "last_number"): 0,
        ("de", "after_cue"): 0,
    }


def test_disagreements_show_both_answers_and_the_text() -> None:
    shown = disagreements(read_with_others(CANDIDATES, PROBLEMS, readers=("last_number",)), CANDIDATES)
    assert shown.select("language", "ours", "answer", "ending").rows() == [
        ("de", "18", "1800", "Antwort: 18,00 €"),
        ("de", "5600", "28/5", "Antwort: 5.600"),
    ]


def test_math_verify_is_one_of_the_readers() -> None:
    boxed = CANDIDATES.with_columns(completion=pl.lit("\\boxed{18}"))
    readings = read_with_others(boxed, PROBLEMS, readers=("math_verify",))
    assert readings.filter(pl.col("reader") == "math_verify")["answer"].to_list() == ["18"] * 4


def test_a_limit_reads_that_many_of_each_language() -> None:
    many = pl.concat([CANDIDATES.with_columns(sample_index=pl.lit(i)) for i in range(50)])
    readings = read_with_others(many, PROBLEMS, readers=("last_number",), reader_sample=10)
    assert accuracy_by_reader(readings)["n_candidates"].to_list() == [10] * 4


def test_an_unknown_reader_is_refused_with_those_known() -> None:
    with pytest.raises(ValueError, match="unknown reader 'regex'; known: last_number, after_cue, math_verify"):
        read_with_others(CANDIDATES, PROBLEMS, readers=("regex",))
