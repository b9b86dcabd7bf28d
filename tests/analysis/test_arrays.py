from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from made_up_runs import write_run

from bestofl_lib.analysis.arms import arm_values
from bestofl_lib.analysis.arrays import CandidateArrays, arrays_of_run
from bestofl_lib.analysis.picks import pick_candidates


def build(tables, **changes):
    given = tables | changes
    return CandidateArrays.of(given["candidates"], given["readings"], given["rewards"], given["problems"])


def test_tables_in_any_row_order_make_the_same_pool(make_tables):
    tables = make_tables(n_problems=8, n=3, quality={"mono": 1, "cross": 1})
    arrays = build(tables)
    mixed = build({k: v.sample(fraction=1, shuffle=True, seed=3) for k, v in tables.items()})
    assert arrays.problem_ids == mixed.problem_ids
    for code in arrays.languages:
        assert (arrays.answers[code] == mixed.answers[code]).all()
        assert (arrays.rewards["cross"][code] == mixed.rewards["cross"][code]).all()
        assert (arrays.sample_index[code] == [[0, 1, 2]] * 8).all()


def test_equal_answers_share_a_code_across_languages_and_the_reference_is_0(make_tables):
    tables = make_tables(n_problems=5, n=4)
    arrays = build(tables)
    table = tables["readings"].filter(pl.col("problem_id") == "p002")
    codes = {}
    for _, code, i, answer, right, *_ in table.iter_rows():
        got = arrays.answers[code][2, i]
        assert (got == 0) == right
        assert (got == -1) == (answer is None)
        assert codes.setdefault(answer, got) == got
    assert len(set(codes.values())) == len(codes)


def test_unequal_numbers_of_candidates_are_normal(make_tables):
    many = {"en": np.array([3, 1, 2]), "th": np.array([1, 4, 2])}
    arrays = build(make_tables(languages=("en", "th"), n_problems=3, n=many))
    assert arrays.n_candidates("th").tolist() == [1, 4, 2]
    assert arrays.largest_budget("mixed") == 2
    assert np.isnan(arrays.is_correct["th"][0, 1:]).all()


def test_only_the_judged_split_is_kept(make_tables):
    tables = make_tables(n_problems=6)
    train = pl.when(pl.col("problem_id") < "p002").then(pl.lit("train")).otherwise(pl.lit("test"))
    arrays = build(tables, problems=tables["problems"].with_columns(split=train))
    assert arrays.n_problems == 4
    with pytest.raises(ValueError, match="no problems in split 'test'; the table has dev"):
        build(tables, problems=tables["problems"].with_columns(split=pl.lit("dev")))


def test_a_problem_without_candidates_in_some_language_is_named_or_dropped(make_tables):
    tables = make_tables(n_problems=4)
    gap = (pl.col("problem_id") == "p001") & (pl.col("language") == "sw")
    less = tables | {"candidates": tables["candidates"].filter(~gap)}
    with pytest.raises(ValueError, match=r"1 of 4 problems lack candidates in some language, such as p001 \(sw\)"):
        build(less)
    arrays = CandidateArrays.of(less["candidates"], less["readings"], drop_incomplete=True)
    assert (arrays.n_problems, arrays.n_dropped) == (3, 1)


def test_a_candidate_without_reading_or_reward_is_named(make_tables):
    tables = make_tables(n_problems=4, quality={"cross": 1})
    one = (pl.col("problem_id") == "p003") & (pl.col("language") == "de") & (pl.col("sample_index") == 2)
    with pytest.raises(ValueError, match=r"1 candidate without a reading, such as p003 \(de\) number 2"):
        build(tables, readings=tables["readings"].filter(~one))
    with pytest.raises(ValueError, match=r"'cross' lacks rewards for 1 of 16 candidates in de, such as p003 \(de\)"):
        build(tables, rewards=tables["rewards"].filter(~one))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_reward_that_is_not_a_number_names_model_and_candidate(make_tables, bad):
    tables = make_tables(n_problems=2, quality={"cross": 1})
    one = (pl.col("problem_id") == "p001") & (pl.col("language") == "th") & (pl.col("sample_index") == 0)
    broken = tables["rewards"].with_columns(reward=pl.when(one).then(pl.lit(bad, pl.Float64)).otherwise("reward"))
    with pytest.raises(ValueError, match=r"reward model 'cross' gives .* to p001 \(th\) number 0"):
        build(tables, rewards=broken)


@pytest.mark.parametrize("strategy", ["best_of_k", "weighted"])
def test_a_candidate_set_aside_is_never_selected_and_has_no_weight(make_tables, strategy):
    tables = make_tables(n_problems=12, quality={"cross": 1})
    best = pl.col("reward") == pl.col("reward").max().over("problem_id")
    aside = tables["rewards"].with_columns(reward=pl.when(best).then(None).otherwise("reward"))
    arrays = build(tables, rewards=aside)
    picked = pick_candidates(arrays, {code: arrays.fewest(code) for code in arrays.languages}, strategy, "cross")
    chosen = picked.join(aside, on=["problem_id", "language", "sample_index"])["reward"]
    assert aside["reward"].null_count() == len(chosen) == 12 and chosen.null_count() == 0
    every = arm_values(arrays, "mixed", strategy, "cross", [arrays.largest_budget("mixed")]).accuracy[:, 0]
    assert np.allclose(every, picked["is_correct"])


def test_a_model_without_one_usable_reward_in_a_language_does_not_cover_it(make_tables):
    tables = make_tables(n_problems=3, quality={"cross": 1})
    nothing = tables["rewards"].with_columns(reward=pl.when(pl.col("language") == "th").then(None).otherwise("reward"))
    arrays = build(tables, rewards=nothing)
    assert arrays.reward("cross", arrays.languages) is None and arrays.reward("cross", ["en"]) is not None


def test_a_reward_model_may_leave_out_whole_languages(make_tables):
    tables = make_tables(n_problems=3, quality={"mono": 1, "cross": 1})
    arrays = build(tables, rewards=tables["rewards"].filter(pl.col("language") != "sw"))
    assert arrays.reward("cross", arrays.languages) is None
    assert set(arrays.reward("mono", ["en", "de"])) == {"en", "de"}
    assert arrays.reward_models == ("mono", "cross")


def test_shortest_falls_back_on_characters_where_token_counts_are_unknown(make_tables):
    tables = make_tables(n_problems=3, tokens=False)
    arrays = build(tables)
    assert arrays.mean_tokens(arrays.languages) is None
    assert arrays.reward("shortest", ["en"])["en"][0, 0] == -len(tables["candidates"]["completion"][0])


@pytest.mark.parametrize(
    ("name", "said"), [("mixd", "did you mean 'mixed'"), ("en+xx", "unknown pool"), ("mixed-fr", "is empty or all")]
)
def test_an_unknown_pool_name_is_refused(make_arrays, name, said):
    with pytest.raises(ValueError, match=said):
        make_arrays(n_problems=2).members(name)


def test_a_language_without_candidates_is_refused_by_name(make_tables):
    tables = make_tables(n_problems=2)
    with pytest.raises(ValueError, match="no candidates in bn; the pool has de, en, sw, th"):
        CandidateArrays.of(tables["candidates"], tables["readings"], languages=["en", "bn"])


def test_revised_problems_can_be_left_out(make_arrays):
    arrays = make_arrays(n_problems=30)
    marked = np.any([arrays.is_revised[c] for c in arrays.languages], 0)
    assert 0 < marked.sum() < 30
    assert arrays.without_revised().n_problems == 30 - marked.sum()


@pytest.mark.parametrize(
    ("completion", "doubtful"),
    [
        ("Perhaps 18, perhaps 20.", True),
        ("Perhaps 19, perhaps 20.", False),
        ("dix-huit, je crois", True),
        ("১৮ বা ২০", True),
    ],
)
def test_a_doubtful_reading_counts_only_where_the_right_answer_stands_in_the_text(make_tables, completion, doubtful):
    tables = make_tables(n_problems=3)
    one = (pl.col("problem_id") == "p001") & (pl.col("language") == "th") & (pl.col("sample_index") == 0)
    readings = tables["readings"].with_columns(
        note=pl.when(one).then(pl.lit("several numbers")).otherwise(pl.lit("")),
        is_correct=pl.col("is_correct") & ~one,
        answer=pl.when(one).then(pl.lit("20")).otherwise("answer").fill_null("7"),
    )
    candidates = tables["candidates"].with_columns(
        completion=pl.when(one).then(pl.lit(completion)).otherwise("completion")
    )
    problems = tables["problems"].with_columns(reference=pl.lit("18"))
    arrays = CandidateArrays.of(candidates, readings, problems=problems)
    assert arrays.doubtful["th"][1].tolist() == [doubtful, *[False] * (len(arrays.doubtful["th"][1]) - 1)]
    assert CandidateArrays.of(candidates, readings).doubtful["th"][1, 0], "without references nothing can be ruled out"


def test_candidates_in_another_language_than_asked_can_be_left_out(tmp_path):
    run = write_run(tmp_path, n_problems=20, n=4, languages=("en", "sw"))
    everything, own = arrays_of_run(run), arrays_of_run(run, own_language_only=True)
    stray = run.read("readings").filter(pl.col("trace_language") != pl.col("language"))
    assert set(stray["language"]) == {"sw"}
    assert own.exists["en"].sum() == everything.exists["en"].sum() == 80
    assert own.exists["sw"].sum() == 80 - len(stray) < 80
    left = {(problem, i) for (p, i), exists in np.ndenumerate(own.exists["sw"]) if exists
            for problem, i in [(own.problem_ids[p], int(own.sample_index["sw"][p, i]))]}  # fmt: skip
    assert left.isdisjoint(stray.select("problem_id", "sample_index").iter_rows())
