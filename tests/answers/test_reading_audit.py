"""The comparison with math-verify: every kind of disagreement is judged, and real completions show no other kind."""

from __future__ import annotations

import importlib.util
import sys
from fractions import Fraction
from pathlib import Path

import polars as pl
import pytest

from bestofl_lib.answers.columns import read_completions
from bestofl_lib.answers.reading import read_answer

POOL = Path(__file__).resolve().parents[1] / "data" / "pools/s1_mgsm_sample.parquet"


@pytest.fixture(scope="module")
def audit():
    spec = importlib.util.spec_from_file_location("audit_reading", Path(__file__).with_name("audit_reading.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules["audit_reading"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pool() -> pl.DataFrame:
    return pl.read_parquet(POOL).filter(pl.col("model").is_in(["7B", "32B"]))


def test_every_judged_disagreement_reads_as_it_was_judged(audit) -> None:
    rows = audit.judged()
    assert set(rows["verdict"]) <= {"ours", "math-verify", "neither"}
    for row in rows.iter_rows(named=True):
        text = row["completion"].replace("\\\\", "\0").replace("\\n", "\n").replace("\0", "\\")
        assert len(text) <= 450
        expected = None if row["ours"] == "-" else Fraction(row["ours"])
        assert read_answer(text, row["language"]).value == expected, row


def test_a_sample_of_real_completions_shows_no_kind_that_was_not_judged(audit, pool: pl.DataFrame) -> None:
    table = audit.compare_readers(pool.gather_every(pool.height // 150))
    assert set(table["kind"].drop_nulls()) <= set(audit.judged()["kind"])
    assert "| language" in audit.report(table)


def test_real_completions_read_alike_one_by_one_and_as_a_table(pool: pl.DataFrame) -> None:
    some = pool.gather_every(2)
    read = read_completions(some["completion_tail"], some["question_language"])
    for text, code, row in zip(some["completion_tail"], some["question_language"], read.iter_rows(), strict=True):
        one = read_answer(text, code)
        assert row == (one.answer, one.rule, one.start, one.end, one.note)


def test_nearly_every_box_of_real_completions_is_read(pool: pl.DataFrame) -> None:
    boxed = pool.filter(pl.col("completion_tail").str.contains(r"boxed\{\d+\}"))
    read = read_completions(boxed["completion_tail"], boxed["question_language"])
    assert read["answer"].null_count() <= 0.001 * boxed.height
