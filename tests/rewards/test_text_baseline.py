"""The text baseline learns what the text gives away and never from the problem it scores."""

from __future__ import annotations

import re

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from sklearn.feature_extraction.text import HashingVectorizer

from bestofl_lib.analysis.reward_quality import across_language_accuracy, within_problem_auc
from bestofl_lib.rewards import text_baseline
from bestofl_lib.rewards.text_baseline import text_features


def score_text_baseline(candidates, readings, **how):
    rewards, told = text_baseline.score_text_baseline([candidates], readings, **how)
    return rewards.collect(), told


def rewards_of_pool(given, candidates, readings, **how):
    rewards, told = text_baseline.rewards_of_pool(given, [candidates], readings, **how)
    return rewards.collect(), told


def test_a_pool_in_several_tables_is_scored_as_in_one(world):
    cut = world.candidates["problem_id"].unique().sort()[7]
    parts = [world.candidates.filter(pl.col("problem_id") < cut), world.candidates.filter(pl.col("problem_id") >= cut)]
    rewards, told = text_baseline.score_text_baseline(parts, world.readings, rows=50)
    expected, told_of_one = score_text_baseline(world.candidates, world.readings, rows=50)
    assert told.equals(told_of_one)
    assert_frame_equal(rewards.collect(), expected)


def test_ngrams_are_counted_as_scikit_learn_counts_them():
    texts = ["ab  12\n\n x", "", "a", "答えは25です。", "ఒక ఫోన్ ధర 440", "🙂🙂b", "aa" * 200]
    theirs = HashingVectorizer(
        analyzer="char", ngram_range=(2, 3), lowercase=False, n_features=512, alternate_sign=False, norm=None
    )
    same_digits = [re.sub("[1-9]", "0", text) for text in texts]
    expected = np.sqrt(theirs.transform([text[-300:] for text in same_digits]).toarray().astype(np.float32))
    assert np.array_equal(text_features(texts, np.ones(len(texts), bool))[:, 10:], expected)


def test_tell_tale_words_are_learnt_by_cross_fitting_at_equal_rows(world):
    rewards, told = score_text_baseline(world.candidates, world.readings, rows=1000)
    assert told["rows"].n_unique() == 1
    assert told["rows"][0] == told["available"].min()
    assert set(told["status"]) == {"trained"} and told["n_problems"].min() > 1
    assert (told["n_candidates"] <= 2 * told["rows"]).all() and (told["n_candidates"] > told["n_problems"]).all()
    assert within_problem_auc(rewards, world.readings)["auc"].min() > 0.9
    assert across_language_accuracy(rewards, world.readings)["accuracy"].min() > 0.9
    assert rewards.filter(pl.col("reward_model") == "mono-sw")["language"].unique().to_list() == ["sw"]


def test_a_pool_that_does_not_say_how_candidates_ended_is_scored_alike(world):
    untold = world.candidates.with_columns(finish_reason=pl.lit(None, pl.String))
    first, second = (
        score_text_baseline(table, world.readings, variants=["multi"])[0] for table in (world.candidates, untold)
    )
    assert first.height and first.equals(second)


@pytest.mark.parametrize("names", [["mgsm-pro-symbolic-0001", "mgsm-pro-symbolic-0002"], ["mgsm-001", "afrimgsm-002"]])
def test_variants_of_the_same_problems_do_not_learn_from_each_other(world, names):
    """One family's problems are the same in other words: a fold would score what it learnt from."""
    ids = world.candidates["problem_id"].unique().sort().to_list()
    renamed = dict(zip(ids[:2], names, strict=True))
    tables = (t.with_columns(pl.col("problem_id").replace(renamed)) for t in (world.candidates, world.readings))
    with pytest.raises(ValueError, match=r"(?s)text baseline.*gsm8k-test.*bring rewards"):
        score_text_baseline(*tables)


def test_three_trainings_differ_in_their_pairs_and_each_scores_every_candidate_once(world):
    rewards, _ = score_text_baseline(world.candidates, world.readings, variants=["multi"], rows=40)
    first, *others = rewards.partition_by("seed")
    assert len(others) == 2 and first.height == world.candidates.height
    assert all(first["reward"].to_list() != other["reward"].to_list() for other in others)
    once, _ = score_text_baseline(world.candidates, world.readings, variants=["multi"], rows=40, trainings=1)
    assert once.equals(first)
    with pytest.raises(ValueError, match="use 1 or more"):
        score_text_baseline(world.candidates, world.readings, trainings=0)


def test_labels_without_a_trace_in_the_text_are_not_learnt(world):
    rng = np.random.default_rng(0)
    luck = world.readings.with_columns(
        is_correct=pl.Series(rng.random(world.readings.height) < 0.5), answer=pl.lit("1")
    )
    rewards, _ = score_text_baseline(world.candidates, luck, variants=["multi"])
    row = within_problem_auc(rewards, luck).filter(pl.col("language").is_null())
    assert row["low"].item() < 0.5 < row["high"].item()


def test_features_are_finite_for_odd_texts_and_blind_to_which_digits_stand_there():
    odd = ["", " ", "\n\n", "x", "५ = ৫", "\ud800", "🙂" * 2000, "a" * 100_000]
    assert np.isfinite(text_features(odd, np.zeros(len(odd), dtype=bool))).all()
    same = text_features(["it is 12 + 9", "it is 34 + 8"], np.ones(2, dtype=bool))
    assert np.array_equal(same[0, 10:], same[1, 10:])


def test_a_pool_too_small_or_uniform_for_pairs_gives_an_empty_table_that_says_so(world):
    from bestofl_lib.analysis.reward_quality import within_problem_auc
    from bestofl_lib.display import charts, takeaways

    for candidates in (world.candidates, world.candidates.head(3)):
        right = world.readings.with_columns(is_correct=pl.lit(True))
        rewards, told = score_text_baseline(candidates, right)
        assert rewards.height == 0 and set(told["rows"]) == {0} and set(told["available"]) == {0}
        quality = within_problem_auc(rewards, right)
        assert "no rewards to judge" in charts.reward_quality(quality).to_json()
        assert "nothing to judge" in takeaways.reward_quality(quality).data


def given_by(world, name: str) -> pl.DataFrame:
    key = world.candidates.select("problem_id", "language", "sample_index")
    return key.with_columns(reward_model=pl.lit(name), reward=pl.int_range(pl.len()).cast(pl.Float64))


def test_given_rewards_take_the_place_of_the_baseline_or_stand_beside_it(world):
    given = given_by(world, "rm")
    rewards, told = rewards_of_pool(given, world.candidates, world.readings, variants=["multi"])
    assert rewards["reward"].to_list() == given["reward"].to_list() and told.is_empty()
    both, told = rewards_of_pool(given, world.candidates, world.readings, beside=True, variants=["multi"])
    assert set(both["reward_model"]) == {"rm", "multi"} and len(told) == 1
    none, told = rewards_of_pool(given.clear(), world.candidates, world.readings, variants=["multi"])
    assert set(none["reward_model"]) == {"multi"}


def test_given_rewards_of_other_candidates_or_under_the_baselines_names_are_refused(world):
    given = given_by(world, "rm")
    with pytest.raises(ValueError, match=r"'rm' do not fit .* 1 rows; run 02_import_pool again"):
        rewards_of_pool(given.head(len(given) - 1), world.candidates, world.readings)
    with pytest.raises(ValueError, match="multi.*rewards='mine=multi'"):
        rewards_of_pool(
            given_by(world, "multi"), world.candidates, world.readings, beside=True, variants=["multi"], rows=40
        )
