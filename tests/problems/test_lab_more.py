"""More training problems for the lab: parallel, disjoint from what is judged, the same whatever their number."""

from __future__ import annotations

import polars as pl
import pytest

from bestofl_lib.problems import lab
from bestofl_lib.problems.folds import normalised_question, question_hashes
from bestofl_lib.problems.load import load


def test_lab_train_replaces_the_training_problems_and_keeps_what_is_judged():
    table, usual = load("lab-train:1500", ["en", "sw"]), load("lab", ["en", "sw"])
    assert dict(table.unique("problem_id").group_by("split").len().iter_rows()) == {
        "train": 1500,
        "dev": 250,
        "test": 250,
    }
    held_out = pl.col("split") != "train"
    assert table.filter(held_out).sort("problem_id").equals(usual.filter(held_out).sort("problem_id"))
    train = table.filter(split="train")
    assert not set(question_hashes(train)) & set(question_hashes(usual))
    assert train["problem_id"].str.starts_with("lab-more-").all()
    parallel = train.pivot("language", index="problem_id", values="reference")
    assert parallel["en"].equals(parallel["sw"].rename("en"))


def test_no_two_share_template_and_numbers_with_each_other_or_with_any_split():
    found = [(p.template, p.numbers) for p in lab.more_training_problems(3000)]
    splits = {(p.template, p.numbers) for made in lab.splits().values() for p in made}
    assert len(set(found)) == 3000 and not splits & set(found)


def test_the_first_ones_are_the_same_whatever_the_number():
    assert lab.more_training_problems(50) == lab.more_training_problems(200)[:50]


@pytest.mark.parametrize("said", ["lab-train:0", "lab-train:", "lab-train:many", "lab-train:-3"])
def test_a_number_that_is_none_is_refused(said):
    with pytest.raises(ValueError, match="number of training problems, such as lab-train:5000"):
        load(said, ["en"])


def test_a_training_question_that_reads_like_a_test_question_is_refused(monkeypatch):
    test = lab.splits()["test"][:1]
    monkeypatch.setattr(lab, "more_training_problems", lambda n, seed: test)
    with pytest.raises(ValueError, match=r"questions of 1 problem to be scored \(lab-test-0000\)"):
        lab.problems(["en"], more=1)
    assert normalised_question(lab.tell(test[0], "en")[0])
