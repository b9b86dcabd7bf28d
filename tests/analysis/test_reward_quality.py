"""The audit against slow, obvious counting."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from bestofl_lib.analysis.reward_quality import (
    across_language_accuracy,
    calibration,
    transfer,
    within_problem_auc,
)
from bestofl_lib.tables import KEY


def _rewards(world, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    noise = rng.integers(-2, 3, world.readings.height)  # integers: ties occur
    return world.readings.select(
        *KEY,
        reward_model=pl.lit("cross"),
        reward=(pl.col("is_correct").cast(pl.Int64) + pl.Series(noise)).cast(pl.Float64),
    )


def _slow(table: pl.DataFrame, chosen: str, rejected: str) -> float:
    """Mean over problems of the share of pairs in the right order."""
    shares = []
    for problem in table["problem_id"].unique():
        rows = table.filter(pl.col("problem_id") == problem)
        right = rows.filter(pl.col("is_correct") & (pl.col("language") == chosen))["reward"]
        wrong = rows.filter(~pl.col("is_correct") & (pl.col("language") == rejected))["reward"]
        pairs = [(a > b) + 0.5 * (a == b) for a in right for b in wrong]
        if pairs:
            shares.append(np.mean(pairs))
    return float(np.mean(shares))


def test_within_problem_auc_equals_counting_pairs(world):
    rewards = _rewards(world)
    table = rewards.join(world.readings, on=list(KEY))
    found = within_problem_auc(rewards, world.readings)
    for code in ("en", "sw", "zh"):
        row = found.row(by_predicate=pl.col("language") == code, named=True)
        assert row["auc"] == pytest.approx(_slow(table, code, code))
        assert row["low"] < row["auc"] < row["high"]
        assert (row["n_problems"], row["n_pairs"]) == (24, 96)
    every = found.row(by_predicate=pl.col("language").is_null(), named=True)
    assert every["auc"] == pytest.approx(found.filter(pl.col("language").is_not_null())["auc"].mean())


def test_across_language_accuracy_equals_counting_pairs(world):
    rewards = _rewards(world)
    table = rewards.join(world.readings, on=list(KEY))
    found = across_language_accuracy(rewards, world.readings)
    assert found.height == 6 + 1
    for a, b in (("en", "sw"), ("sw", "en"), ("zh", "en")):
        row = found.filter(pl.col("chosen_language") == a, pl.col("rejected_language") == b).row(0, named=True)
        assert row["accuracy"] == pytest.approx(_slow(table, a, b))


def test_a_reward_that_favours_a_language_is_caught_across_and_not_within(world):
    rewards = _rewards(world).with_columns(reward=pl.col("reward") + 100 * (pl.col("language") == "en"))
    before, after = (within_problem_auc(r, world.readings)["auc"].to_list() for r in (_rewards(world), rewards))
    assert before == after
    across = across_language_accuracy(rewards, world.readings)
    assert across.filter(pl.col("chosen_language") == "sw", pl.col("rejected_language") == "en")["accuracy"].item() == 0


def test_problems_all_right_or_all_wrong_are_not_counted(world):
    flat = world.readings.with_columns(is_correct=pl.col("is_correct") | (pl.col("problem_id") == "p03"))
    assert set(within_problem_auc(_rewards(world), flat)["n_problems"]) == {23}
    none = world.readings.with_columns(is_correct=pl.lit(False))
    assert within_problem_auc(_rewards(world), none).height == 0
    assert across_language_accuracy(_rewards(world), none).height == 0


def test_honest_log_odds_are_calibrated_raw_and_platt_repairs_a_stretched_reward():
    rng = np.random.default_rng(0)
    n = 6000
    logit = rng.normal(size=n) * 1.5
    readings = pl.DataFrame(
        {
            "problem_id": [f"p{i // 10}" for i in range(n)],
            "language": ["en"] * n,
            "sample_index": [i % 10 for i in range(n)],
            "is_correct": rng.random(n) < 1 / (1 + np.exp(-logit)),
        },
        schema_overrides={"sample_index": pl.Int32},
    )
    honest = readings.select(*KEY, reward_model=pl.lit("cross"), reward=pl.Series(logit))
    stretched = honest.with_columns(reward=pl.col("reward") * 5 + 3)
    assert calibration(honest, readings, "raw")[1]["ece"].max() < 0.03
    assert calibration(stretched, readings, "raw")[1]["ece"].min() > 0.15
    diagram, error = calibration(stretched, readings, "platt")
    assert error["ece"].max() < 0.03
    assert (diagram["probability"] - diagram["share_correct"]).abs().max() < 0.08
    assert diagram["n_candidates"].sum() == n


def test_bad_input_is_named(world):
    with pytest.raises(ValueError, match="unknown calibration method 'isotonic'; use 'raw' or 'platt'"):
        calibration(_rewards(world), world.readings, "isotonic")
    with pytest.raises(ValueError, match="48 of 96 rewards have no reading"):
        within_problem_auc(_rewards(world), world.readings.filter(pl.col("sample_index") < 2))


def test_trainings_are_averaged_and_widen_the_interval(world):
    one, other = _rewards(world, 0), _rewards(world, 1).with_columns(reward=-pl.col("reward"))
    alone = [within_problem_auc(part, world.readings) for part in (one, other)]
    both = pl.concat([one.with_columns(seed=pl.lit(0, pl.Int32)), other.with_columns(seed=pl.lit(1, pl.Int32))])
    found = within_problem_auc(both, world.readings)
    assert found["auc"].to_list() == pytest.approx(((alone[0]["auc"] + alone[1]["auc"]) / 2).to_list())
    assert found["n_pairs"].to_list() == alone[0]["n_pairs"].to_list()
    widths = [(part["high"] - part["low"]).mean() for part in (found, *alone)]
    assert widths[0] > 2 * max(widths[1:]), "two trainings that disagree leave little that is sure"


def test_transfer_is_the_quality_of_each_mono_model_in_each_language(world):
    rewards = pl.concat(
        [
            _rewards(world, i).with_columns(reward_model=pl.lit(name))
            for i, name in enumerate(("mono-en", "mono-sw", "cross"))
        ]
    )
    found = transfer(rewards, world.readings)
    assert set(found.select("trained_on", "language").iter_rows()) == {
        (a, b) for a in ("en", "sw") for b in ("en", "sw", "zh")
    }
    whole = within_problem_auc(rewards, world.readings)
    for trained_on, code, auc in found.select("trained_on", "language", "auc").iter_rows():
        row = whole.filter((pl.col("reward_model") == f"mono-{trained_on}") & (pl.col("language") == code))
        assert auc == row["auc"].item()
