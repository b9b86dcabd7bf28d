from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import polars as pl
import pytest

from bestofl_lib.analysis import complementarity as co
from bestofl_lib.analysis.arrays import CandidateArrays
from bestofl_lib.analysis.contest import Contest
from bestofl_lib.analysis.coverage import coverage_of_allocation, coverage_of_shares


@pytest.fixture(scope="module")
def arrays(make_arrays):
    return make_arrays(n_problems=30, n=4, quality={"cross": 1})


def test_exclusive_solves_of_two_languages_and_shared_ones_make_up_all_problems(arrays):
    table = co.exclusive_solves(arrays, budget=2)
    assert len(table) == 4 * 3
    row = table.filter((pl.col("language") == "en") & (pl.col("other") == "sw")).row(0, named=True)
    back = table.filter((pl.col("language") == "sw") & (pl.col("other") == "en")).row(0, named=True)
    total = row["exclusive"] + back["exclusive"] + row["both_right"] + row["both_wrong"]
    assert total == pytest.approx(30)
    assert row["phi"] == pytest.approx(back["phi"])


def test_exclusive_resampled_is_what_a_second_draw_of_the_same_language_would_give(make_arrays):
    """With one candidate drawn of four: solved first, failed by a second, disjoint draw."""
    arrays = make_arrays(languages=("en", "th"), n_problems=12, n=4)
    got = co.exclusive_solves(arrays).filter(pl.col("language") == "en")["exclusive_resampled"][0]
    c = np.nansum(arrays.is_correct["en"], 1)
    assert got == pytest.approx((c * (4 - c) / (4 * 3)).sum())


def test_phi_is_1_for_identical_and_minus_1_for_opposite_languages(make_tables):
    rates = {"en": np.repeat([0.0, 1], 10), "th": np.repeat([0.0, 1], 10), "sw": np.repeat([1.0, 0], 10)}
    tables = make_tables(languages=("en", "th", "sw"), n_problems=20, rates=rates)
    table = co.exclusive_solves(CandidateArrays.of(tables["candidates"], tables["readings"]))
    phi = {(a, b): p for a, b, p in table.select("language", "other", "phi").iter_rows()}
    assert phi["en", "th"] == pytest.approx(1)
    assert phi["en", "sw"] == pytest.approx(-1)


def test_the_gain_is_coverage_with_the_language_minus_coverage_of_english_again(arrays):
    table = co.gain_over_resampling(arrays, budgets=[3], replicates=300)
    row = table.filter(pl.col("language") == "th").row(0, named=True)
    with_it = coverage_of_allocation(arrays.is_correct, {"en": 2, "th": 1})
    again = coverage_of_allocation(arrays.is_correct, {"en": 3})
    assert row["gain"] == pytest.approx((with_it - again).mean())
    assert row["low"] <= row["gain"] <= row["high"]
    assert row["p_holm"] >= row["p"]


def test_a_second_language_gains_where_english_never_succeeds(make_tables):
    rng = np.random.default_rng(1)
    english = np.where(rng.random(120) < 0.5, 0.95, 0.0)
    tables = make_tables(
        languages=("en", "th", "de"), n_problems=120, rates={"en": english, "th": 0.9 - 0.9 * english, "de": english}
    )
    table = co.gain_over_resampling(CandidateArrays.of(tables["candidates"], tables["readings"]), budgets=[2])
    gains = dict(table.select("language", "gain").iter_rows())
    assert gains["th"] > 0.2
    assert abs(gains["de"]) < 0.05
    assert table.filter(pl.col("language") == "th")["p_holm"][0] < 0.01


@pytest.mark.parametrize("objective", ["oracle", "cross", "shortest"])
@pytest.mark.parametrize("budget", [1, 2, 3, 4])
def test_shapley_equals_the_sum_over_all_sets(arrays, objective, budget):
    correct = arrays.is_correct
    rewards = correct if objective == "oracle" else arrays.reward(objective, arrays.languages)
    worth = {(): 0.0}
    for size in range(1, 5):
        for chosen in combinations(arrays.languages, size):
            tables = ({c: rewards[c] for c in chosen}, {c: correct[c] for c in chosen})
            worth[chosen] = Contest.of(*tables).shares([budget]).mean()
    table = co.shapley(arrays, budget, objective, replicates=200)
    for code, got in table.select("language", "shapley").iter_rows():
        rest = [c for c in arrays.languages if c != code]
        want = 0.0
        for size in range(4):
            for chosen in combinations(rest, size):
                joined = tuple(c for c in arrays.languages if c in (*chosen, code))
                want += (worth[joined] - worth[chosen]) / comb(3, size) / 4
        assert got == pytest.approx(want, abs=1e-12)
    assert table["shapley"].sum() == pytest.approx(worth[arrays.languages])


def test_a_language_without_a_correct_answer_has_the_smallest_shapley_value(make_arrays):
    arrays = make_arrays(n_problems=20, rates={"sw": np.zeros(20)})
    table = co.shapley(arrays, 2).sort("shapley")
    assert table["language"][0] == "sw"
    assert table["shapley"][0] < 0.01


def test_greedy_order_starts_with_the_best_language_and_ends_with_all(arrays):
    table = co.greedy_order(arrays, 4, replicates=200)
    single = {c: coverage_of_allocation(arrays.is_correct, {c: 4}).mean() for c in arrays.languages}
    assert table["language"][0] == max(single, key=single.get)
    assert table["accuracy"][-1] == pytest.approx(coverage_of_shares(arrays.is_correct, 4).mean())
    assert table["gain"].is_null().to_list() == [True, False, False, False]


def one_answer(rows):
    """Tables from (problem, language, index, answer, note); the reference is 1."""
    readings = pl.DataFrame(
        rows, schema=["problem_id", "language", "sample_index", "answer", "note"], orient="row"
    ).with_columns(is_correct=pl.col("answer").eq_missing("1"))
    return readings.select("problem_id", "language", "sample_index"), readings


def test_sole_solves_are_put_down_to_reading_revision_resampling_or_left():
    plan = {
        "reading": (["1", "1"], ["2", None]),  # the other language has an unread answer
        "revised": (["1", "1"], ["2", "2"]),
        "resampling": (["1", "2"], ["2", "2"]),  # a second draw fails
        "left": (["1", "1"], ["2", "2"]),
        "shared": (["1", "1"], ["1", "1"]),
    }
    rows = [
        (problem, code, i, answer, "")
        for problem, answers in plan.items()
        for code, given in zip(("en", "th"), answers, strict=True)
        for i, answer in enumerate(given)
    ]
    candidates, readings = one_answer(rows)
    problems = pl.DataFrame(
        [
            {"problem_id": p, "language": c, "split": "test", "is_revised": p == "revised" and c == "th"}
            for p in plan
            for c in ("en", "th")
        ]
    )
    table = co.sole_solvers(CandidateArrays.of(candidates, readings, problems=problems)).filter(
        pl.col("language") == "en"
    )
    got = dict(table.select("cause", "problems").iter_rows())
    assert got["revised question"] == pytest.approx(1)
    assert got["left"] == pytest.approx(1)
    # half of the draws of "reading" meet the unread answer first; all of its second draws might
    assert got["answer reading"] == pytest.approx(0.5)
    assert got["resampling"] == pytest.approx(0.5 + 0.5)
    assert co.sole_solvers(CandidateArrays.of(candidates, readings, problems=problems))["share"].sum() == pytest.approx(
        1
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"n_problems": 1, "n": 2},
        {"n": 1, "n_problems": 5},
        {"languages": ("en",), "n_problems": 5},
        {"languages": ("th", "sw"), "n_problems": 5},
        {"n_problems": 5, "rates": {c: np.zeros(5) for c in ("en", "de", "sw", "th")}},
    ],
    ids=["one problem", "one candidate", "one language", "no English", "nothing solved"],
)
def test_thin_pools_give_finite_figures_or_no_rows(make_arrays, settings):
    arrays = make_arrays(**settings)
    for make in (co.exclusive_solves, co.gain_over_resampling, co.greedy_order, co.shapley, co.sole_solvers):
        table = make(arrays)
        for column in table.select(pl.selectors.float()).columns:
            assert table[column].drop_nulls().is_finite().all(), (make.__name__, column)


def test_a_budget_of_1_leaves_no_room_for_a_second_language(arrays):
    with pytest.raises(ValueError, match="leaves no room for a second language"):
        co.gain_over_resampling(arrays, budgets=[1])
