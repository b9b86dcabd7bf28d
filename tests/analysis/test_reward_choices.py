"""What a reward model goes by: planted biases are found, absent ones are not."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from bestofl_lib.analysis.arms import arm_values
from bestofl_lib.analysis.arrays import CandidateArrays
from bestofl_lib.analysis.reward_choices import agreement, offset_curve, quality_by_aggregation, reward_bias
from bestofl_lib.analysis.reward_quality import within_problem_auc
from bestofl_lib.rewards.steps import AGGREGATIONS, aggregate_steps
from bestofl_lib.tables import KEY


@pytest.fixture(scope="module")
def tables(make_tables):
    made = make_tables(n_problems=60, n=6, quality={"cross": 1.0, "multi": 1.0}, shift={"multi": {"en": 2.0}})
    cue = pl.when(pl.col("sample_index") % 2 == 0).then(pl.lit("cue")).otherwise(pl.lit("last_number"))
    readings = made["readings"].with_columns(rule=cue)
    pushed = made["rewards"].join(readings.select(*KEY, "rule"), on=list(KEY)).with_columns(
        reward=pl.col("reward") + pl.when((pl.col("reward_model") == "multi") & (pl.col("rule") == "cue")).then(1.0).otherwise(0.0)
    )  # fmt: skip
    return made | {"readings": readings, "rewards": pushed.drop("rule")}


def test_a_planted_bias_is_found_at_fixed_correctness_and_none_where_there_is_none(tables):
    found = reward_bias(tables["rewards"], tables["readings"], tables["candidates"])
    row = {(m, t, v): (b, low, high) for m, t, v, b, low, high, *_ in found.iter_rows()}
    assert row["multi", "language", "en"][1] > 0.5 and row["multi", "language", "de"][2] < 0
    assert row["multi", "cue", "announced"][1] > 0.2
    for trait, value in (("language", "en"), ("cue", "announced"), ("length", "longer"), ("place", "later")):
        assert row["cross", trait, value][1] < 0.1 and row["cross", trait, value][2] > -0.1


def test_the_bias_of_a_language_equals_slow_counting(tables):
    found = reward_bias(tables["rewards"], tables["readings"], tables["candidates"])
    table = tables["rewards"].filter(pl.col("reward_model") == "cross").join(tables["readings"], on=list(KEY))
    spread, gaps = table["reward"].std(), []
    for problem in table["problem_id"].unique():
        here = []
        for right in (True, False):
            part = table.filter((pl.col("problem_id") == problem) & (pl.col("is_correct") == right))
            mine, others = part.filter(pl.col("language") == "th"), part.filter(pl.col("language") != "th")
            if mine.height and others.height:
                here.append(mine["reward"].mean() - others["reward"].mean())
        gaps += [np.mean(here)] if here else []
    wanted = found.filter((pl.col("reward_model") == "cross") & (pl.col("value") == "th"))["bias"].item()
    assert wanted == pytest.approx(np.mean(gaps) / spread)


def test_agreement_counts_each_problem_once_and_a_model_agrees_with_itself(tables):
    pool = CandidateArrays.of(tables["candidates"], tables["readings"], tables["rewards"])
    table = agreement(pool, "cross", "multi")
    assert table["problem_id"].to_list() == list(pool.problem_ids)
    assert set(agreement(pool, "cross", "cross")["cell"]) <= {"both", "neither"}
    rewards = pool.reward("cross", pool.languages)
    p = 7
    best = max((rewards[c][p, i], pool.is_correct[c][p, i]) for c in pool.languages for i in range(rewards[c].shape[1]))
    assert table["first"][p] == best[1]


def test_the_offset_that_undoes_a_planted_bias_is_found_on_other_problems(tables):
    pool = CandidateArrays.of(tables["candidates"], tables["readings"], tables["rewards"])
    curve, best = offset_curve(pool, "multi", "en", 4, [-4.0, -2.0, 0.0, 2.0])
    assert curve.row(2)[1] == pytest.approx(arm_values(pool, "mixed", "best_of_k", "multi", [4]).accuracy.mean())
    assert best["most"].item() < 0 and best["gain"].item() > 0 and best["low"].item() < best["gain"].item()


def test_a_script_that_languages_share_is_a_trait_and_one_of_a_single_language_is_not(tables):
    pushed = tables["rewards"].with_columns(reward=pl.col("reward") + 2.0 * pl.col("language").is_in(["en", "de"]))
    found = reward_bias(pushed, tables["readings"], tables["candidates"]).filter(pl.col("trait") == "script")
    assert set(found["value"]) == {"Latin"}, "Thai alone would only repeat its language"
    assert (found.filter(pl.col("reward_model") == "cross")["low"] > 0.5).all()


def test_each_aggregation_of_steps_is_judged_as_the_library_aggregates(tables):
    rng = np.random.default_rng(0)
    readings = tables["readings"]
    right = readings["is_correct"].to_numpy()
    steps = np.where(
        rng.random((len(right), 3)) < 0.2, np.nan, rng.random((len(right), 3)) * 0.5 + 0.3 * right[:, None]
    )
    steps = np.where(np.isnan(steps[:, -1:]), np.nan_to_num(steps, nan=0.4), steps)
    told = readings.select(*KEY, reward_model=pl.lit("prm"), reward=pl.Series(steps.tolist())).with_columns(
        step=pl.lit([0, 1, 2], pl.List(pl.Int32))
    )
    long = told.explode("reward", "step").filter(pl.col("reward").is_not_nan())
    found = quality_by_aggregation(long.sample(fraction=1, shuffle=True, seed=1), readings)
    assert found["aggregation"].to_list() == list(AGGREGATIONS)
    for way, auc in found.select("aggregation", "auc").iter_rows():
        rewards = readings.select(*KEY, reward_model=pl.lit("prm"), reward=pl.Series(aggregate_steps(steps, way)))
        whole = within_problem_auc(rewards, readings).filter(pl.col("language").is_null())
        assert auc == pytest.approx(whole["auc"].item(), abs=1e-12), way
