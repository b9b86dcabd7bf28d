"""Folds belong to problem ids, and what was trained on is never scored."""

from __future__ import annotations

import polars as pl
import pytest

from bestofl_lib.problems.folds import check_disjoint, fold_of, normalised_question, question_hashes

PROBLEMS = pl.DataFrame(
    [
        (f"p{i:02}", code, f"Question {i} ({code})?", "train" if i % 2 == 0 else "test")
        for i in range(24)
        for code in ("en", "sw")
    ],
    schema=["problem_id", "language", "question", "split"],
    orient="row",
)


def test_folds_depend_on_the_problem_alone_and_are_of_similar_size():
    folds = fold_of([f"p{i}" for i in range(1000)], 5)
    assert fold_of(["p7"], 5) == [folds[7]]
    assert all(150 < folds.count(k) < 250 for k in range(5))
    with pytest.raises(ValueError, match="folds=1"):
        fold_of(["p"], 1)


def test_a_problem_shared_by_id_or_by_text_is_refused():
    train, test = (PROBLEMS.filter(split=name) for name in ("train", "test"))
    check_disjoint(train["problem_id"], question_hashes(train), test, "cross")
    with pytest.raises(ValueError, match=r"'cross' was trained on 12 of the problems to be scored \(p00, p02, p04\)"):
        check_disjoint(train["problem_id"], [], PROBLEMS, "cross")
    renamed = train.head(1).with_columns(
        problem_id=pl.lit("other"), question=pl.col("question").str.to_uppercase() + "  "
    )
    with pytest.raises(ValueError, match=r"questions of 1 problems to be scored \(other\)"):
        check_disjoint(train["problem_id"], question_hashes(train), renamed, "cross")


def test_questions_that_differ_in_a_number_or_a_vowel_sign_are_different():
    assert normalised_question("How many, 3?") == normalised_question("how  many 3")
    assert normalised_question("3 apples") != normalised_question("4 apples")
    assert normalised_question("কি") != normalised_question("কা")
