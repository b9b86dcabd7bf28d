"""Combinations of rewards: better than each part where parts say different things, and fitted on other problems."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression

from bestofl_lib.analysis.arrays import CandidateArrays
from bestofl_lib.analysis.reward_quality import within_problem_auc
from bestofl_lib.rewards.combination import combine_rewards
from bestofl_lib.tables import KEY


@pytest.fixture(scope="module")
def tables():
    """Two languages, 60 problems of 6 candidates; "cross" and log-probability each know half of what is right."""
    rng = np.random.default_rng(0)
    rows = [
        {"problem_id": f"p{p}", "language": code, "sample_index": i}
        for p in range(60) for code in ("en", "th") for i in range(6)
    ]  # fmt: skip
    n = len(rows)
    right = rng.random(n) < 0.5
    table = pl.DataFrame(rows, schema_overrides={"sample_index": pl.Int32}).with_columns(
        is_correct=right, answer=pl.Series(np.where(right, "1", "2")), note=pl.lit(""),
        logprob=rng.normal(right, 1), false_equations=pl.Series((~right & (rng.random(n) < 0.6)).astype(int)),
    )  # fmt: skip
    rewards = pl.concat(
        table.select(
            *KEY, reward_model=pl.lit("cross"), reward=pl.Series(rng.normal(right, 1)), seed=pl.lit(s, pl.Int32)
        )
        for s in (0, 1)
    )
    return rewards, table.select(*KEY, "logprob"), table.drop("logprob")


def test_a_combination_tells_right_from_wrong_better_than_its_parts(tables):
    rewards, candidates, readings = tables
    combined, weights = combine_rewards(
        rewards, candidates, readings, ["logprob+cross", "arithmetic + logprob + cross"]
    )
    assert set(combined["reward_model"]) == {"logprob+cross", "arithmetic+logprob+cross"}
    assert combined.group_by("reward_model", "seed").len()["len"].to_list() == [720] * 4
    auc = dict(
        within_problem_auc(pl.concat([rewards, combined]), readings)
        .filter(pl.col("language").is_null()).select("reward_model", "auc").iter_rows()
    )  # fmt: skip
    assert auc["cross"] + 0.05 < auc["logprob+cross"] < auc["arithmetic+logprob+cross"] - 0.03
    assert (weights["low"] > 0).all() and set(weights["seed"]) == {0, 1}
    arrays = CandidateArrays.of(candidates, readings, pl.concat([rewards, combined]))
    assert {"cross", "logprob+cross"} <= set(arrays.reward_models) and arrays.seeds == (0, 1)


def test_a_problem_has_no_say_in_the_weights_it_is_judged_by(tables):
    rewards, candidates, readings = tables
    first, _ = combine_rewards(rewards, candidates, readings, ["logprob+cross"])
    mine = pl.col("problem_id") == "p7"
    turned = readings.with_columns(is_correct=pl.when(mine).then(~pl.col("is_correct")).otherwise("is_correct"))
    second, _ = combine_rewards(rewards, candidates, turned, ["logprob+cross"])
    assert first.filter(mine).equals(second.filter(mine)) and not first.equals(second)


def test_a_part_without_a_number_sets_the_candidate_aside(tables):
    rewards, candidates, readings = tables
    holed = candidates.with_columns(logprob=pl.when(pl.col("sample_index") > 0).then("logprob"))
    combined, _ = combine_rewards(rewards, holed, readings, ["logprob+cross"])
    assert combined.filter(pl.col("reward").is_null())["sample_index"].unique().to_list() == [0]


@pytest.mark.parametrize("name", ["cross", "cross+cross", "cross+croos"])
def test_names_that_cannot_be_combined_are_refused(tables, name):
    with pytest.raises(ValueError, match=r"cross"):
        combine_rewards(*tables, [name])


def test_a_combination_without_numbers_of_a_part_is_left_out_and_said(tables):
    rewards, candidates, readings = tables
    unknown = candidates.with_columns(logprob=pl.lit(None, pl.Float64))
    for name, known in (("logprob+cross", unknown), ("mono+cross", candidates)):
        combined, weights = combine_rewards(rewards, known, readings, [name])
        assert combined.is_empty() and weights["weight"].null_count() == weights.height > 0
    none = rewards.clear()
    assert combine_rewards(none, candidates, readings, ["logprob+cross"])[0].is_empty()


def test_weights_come_from_the_dev_split_where_there_is_one(tables):
    rewards, candidates, readings = tables
    ours, theirs = (pl.col("problem_id").is_in([f"p{p}" for p in part]) for part in (range(30), range(30, 60)))
    dev = rewards.filter(theirs), readings.filter(theirs)
    combined, weights = combine_rewards(
        rewards.filter(ours), candidates, readings.filter(ours), ["logprob+cross"], dev=dev
    )
    assert set(combined["problem_id"]) == {f"p{p}" for p in range(30)} and combined["reward"].null_count() == 0
    assert weights["weight"].null_count() == 0 and weights["low"].null_count() == weights.height, "one fit, no folds"
    table = dev[1].join(candidates, on=list(KEY)).join(dev[0].filter(pl.col("seed") == 0), on=list(KEY))
    x = table.select("logprob", "reward").to_numpy()
    slow = LogisticRegression().fit((x - x.mean(0)) / x.std(0), table["is_correct"].to_numpy()).coef_[0]
    assert weights.filter(pl.col("seed") == 0)["weight"].to_list() == pytest.approx(slow, abs=1e-4)
    wrong = dev[1].with_columns(is_correct=pl.lit(False))
    with pytest.raises(ValueError, match="0 of 360 candidates of the dev split are correct"):
        combine_rewards(rewards, candidates, readings, ["logprob+cross"], dev=(dev[0], wrong))
