"""Folds belong to problem ids, and what was trained on is never scored."""

from __future__ import annotations

import polars as pl
import pytest

from bestofl_lib.problems.folds import check_disjoint, fold_of, normalised_question, question_hashes
from bestofl_lib.problems.sets import SETS

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
    with pytest.raises(ValueError, match=r"questions of 1 problem to be scored \(other\)"):
        check_disjoint(train["problem_id"], question_hashes(train), renamed, "cross")


def test_questions_that_differ_in_a_number_or_a_vowel_sign_are_different():
    assert normalised_question("How many, 3?") == normalised_question("how  many 3")
    assert normalised_question("3 apples") != normalised_question("4 apples")
    assert normalised_question("কি") != normalised_question("কা")


def mgsm(name: str, count: int = 4) -> pl.DataFrame:
    """Problems with the ids of a set, in a language and words that no other set shares."""
    level = SETS[name].levels[0] + "-" if SETS[name].levels else ""
    rows = [(f"{SETS[name].prefix or name}-{level}{i:03}", "sw", f"{name} {i}?") for i in range(1, count + 1)]
    return pl.DataFrame(rows, schema=["problem_id", "language", "question"], orient="row")


SAME = ["mgsm", "global-mgsm", "afrimgsm", "mgsm-pro"]


@pytest.mark.parametrize("trained", SAME)
@pytest.mark.parametrize("scored", SAME)
def test_what_learnt_from_one_set_of_a_family_scores_no_other(trained, scored):
    mine, other = mgsm(trained), mgsm(scored)
    if trained == scored == "mgsm-pro":
        with pytest.raises(ValueError, match="are variants of the same problems of gsm8k-test"):
            check_disjoint(mine["problem_id"][:2], [], other[2:], "cross")
    elif trained == scored:
        check_disjoint(mine["problem_id"][:2], [], other[2:], "cross")  # other folds of one set
        with pytest.raises(ValueError, match="was trained on 4 of the problems"):
            check_disjoint(mine["problem_id"], [], other, "cross")
    else:
        with pytest.raises(ValueError, match=rf"trained on {trained} and is to score {scored}.*source lab-train:5000"):
            check_disjoint(mine["problem_id"], question_hashes(mine), other, "cross")


def test_sets_of_other_families_and_the_lab_may_be_trained_on():
    lab = pl.DataFrame({"problem_id": ["lab-train-0001"], "language": ["sw"], "question": ["lab?"]})
    for one in (mgsm("msvamp"), mgsm("polymath"), lab):
        check_disjoint(one["problem_id"], question_hashes(one), mgsm("mgsm"), "cross")


def test_an_own_table_with_a_question_of_the_test_is_known_by_its_text():
    own = mgsm("mgsm").with_columns(problem_id=pl.format("mine-{}", "problem_id"))
    with pytest.raises(ValueError, match="were in the training data of reward model 'cross' under other ids"):
        check_disjoint(own["problem_id"], question_hashes(own), mgsm("mgsm"), "cross")
