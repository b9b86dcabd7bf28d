"""Pairs: what they are made of, and that no variant gets more of them or peeks at scored problems."""

from __future__ import annotations

import polars as pl
import pytest

from bestofl_lib.rewards.pairs import (
    available_pairs,
    reward_model_names,
    training_pairs,
)

NAMES = ["mono-en", "mono-sw", "multi", "cross"]


@pytest.mark.parametrize("name", NAMES)
def test_every_pair_is_a_correct_and_a_wrong_candidate_of_one_problem_and_stands_once(world, name):
    pairs = training_pairs(world.readings, name, 90)
    assert pairs.height == 90
    assert not pairs.is_duplicated().any()
    truth = world.readings.select("problem_id", "language", "sample_index", "is_correct")
    for side, value in (("chosen", True), ("rejected", False)):
        keys = pairs.select("problem_id", language=f"{side}_language", sample_index=f"{side}_index")
        assert keys.join(truth, on=keys.columns)["is_correct"].to_list() == [value] * 90


def test_mono_pairs_are_in_one_language_multi_within_and_cross_across(world):
    assert set(training_pairs(world.readings, "mono-sw", 20).select("chosen_language", "rejected_language").rows()) == {
        ("sw", "sw")
    }
    multi = training_pairs(world.readings, "multi", 90)
    assert (multi["chosen_language"] == multi["rejected_language"]).all()
    assert set(multi["chosen_language"].value_counts()["count"]) == {30}
    cross = training_pairs(world.readings, "cross", 90, cross_shares="equal")
    assert (cross["chosen_language"] != cross["rejected_language"]).all()
    assert set(cross.group_by("chosen_language", "rejected_language").len()["len"]) == {15}


def test_natural_shares_of_cross_follow_the_pairs_that_exist(world):
    weak = world.readings.with_columns(
        is_correct=pl.col("is_correct") & ((pl.col("language") != "sw") | (pl.col("problem_id") < "p02"))
    )
    exist = (
        training_pairs(weak, "cross", available_pairs(weak, "cross"))
        .group_by("chosen_language", "rejected_language")
        .len("exist")
    )
    drawn = training_pairs(weak, "cross", 120).group_by("chosen_language", "rejected_language").len("drawn")
    both = exist.join(drawn, on=["chosen_language", "rejected_language"], how="left").fill_null(0)
    expected = both["exist"] / both["exist"].sum() * 120
    assert ((both["drawn"] - expected).abs() < 1).all()
    equal = training_pairs(weak, "cross", 120, cross_shares="equal").filter(pl.col("chosen_language") == "sw").height
    natural = both.filter(pl.col("chosen_language") == "sw")["drawn"].sum()
    assert natural < equal / 2, "a language that is seldom right is seldom the one to prefer"
    with pytest.raises(ValueError, match="unknown cross_shares 'fair'; use 'natural' or 'equal'"):
        training_pairs(weak, "cross", 10, cross_shares="fair")


def test_all_pairs_can_be_drawn_and_not_one_more(world):
    for name in NAMES:
        have = available_pairs(world.readings, name)
        assert training_pairs(world.readings, name, have).height == have
        with pytest.raises(ValueError, match=f"{name}: {have + 1} training pairs asked, {have} exist"):
            training_pairs(world.readings, name, have + 1)
    assert available_pairs(world.readings, "mono-en") == 24 * 4
    assert available_pairs(world.readings, "cross") == 24 * (6 * 6 - 3 * 4)


def test_pairs_are_spread_over_problems(world):
    counts = training_pairs(world.readings, "mono-en", 48)["problem_id"].value_counts()["count"]
    assert set(counts) == {2}


def test_the_seed_changes_the_pairs_and_the_same_seed_repeats_them(world):
    one = training_pairs(world.readings, "cross", 40, seed=1)
    assert one.equals(training_pairs(world.readings, "cross", 40, seed=1))
    assert not one.equals(training_pairs(world.readings, "cross", 40, seed=2))
    assert one.equals(training_pairs(world.readings.sample(fraction=1, shuffle=True, seed=3), "cross", 40, seed=1))


def test_a_language_without_correct_candidates_has_no_pairs_and_does_not_empty_multi(world):
    never = world.readings.with_columns(is_correct=pl.col("is_correct") & (pl.col("language") != "zh"))
    assert available_pairs(never, "mono-zh") == 0
    assert available_pairs(never, "multi") == 2 * 24 * 4
    assert "zh" not in training_pairs(never, "cross", 50)["chosen_language"].to_list()


def test_names_are_expanded_and_unknown_ones_refused():
    assert reward_model_names(["mono", "cross"], ["en", "sw"]) == ["mono-en", "mono-sw", "cross"]
    with pytest.raises(ValueError, match="unknown reward model variant 'croos'; use 'mono', 'multi', 'cross'"):
        reward_model_names(["croos"], ["en"])
    with pytest.raises(ValueError, match="unknown language 'xx'"):
        reward_model_names(["mono-xx"], ["en"])
