from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from one_arm import best_of_allocation

from bestofl_lib.analysis import planner
from bestofl_lib.analysis.coverage import coverage_of_allocation


@pytest.fixture(scope="module")
def arrays(make_arrays):
    return make_arrays(n_problems=40, n=4, quality={"cross": 1})


@pytest.mark.parametrize("objective", ["oracle", "cross", "shortest"])
def test_each_step_of_the_path_adds_the_language_that_helps_most(arrays, objective):
    path = planner.greedy_path(arrays, 4, objective)
    rewards = arrays.is_correct if objective == "oracle" else arrays.reward(objective, arrays.languages)
    before: dict = {}
    for step in path:
        options = {
            code: best_of_allocation(rewards, arrays.is_correct, before | {code: before.get(code, 0) + 1}).mean()
            for code in arrays.languages
            if before.get(code, 0) < 4
        }
        assert best_of_allocation(rewards, arrays.is_correct, step).mean() == pytest.approx(max(options.values()))
        before = step
    assert [sum(step.values()) for step in path] == [1, 2, 3, 4]


def test_the_best_allocation_of_a_small_budget_is_the_best_of_all(arrays):
    found, exhaustive = planner.best_allocation(arrays, 3)
    assert exhaustive
    every = [
        {"en": a, "de": b, "sw": c, "th": 3 - a - b - c}
        for a in range(4)
        for b in range(4 - a)
        for c in range(4 - a - b)
    ]
    best = max(coverage_of_allocation(arrays.is_correct, allocation).mean() for allocation in every)
    assert coverage_of_allocation(arrays.is_correct, found).mean() == pytest.approx(best)


def test_greedy_with_moves_comes_close_to_the_full_search(arrays, monkeypatch):
    worth = {}
    for limit in (planner.EXHAUSTIVE, 0):
        monkeypatch.setattr(planner, "EXHAUSTIVE", limit)
        allocation, exhaustive = planner.best_allocation(arrays, 6, "cross")
        assert exhaustive == (limit > 0)
        worth[limit] = planner.contest_of(arrays, "cross", arrays.languages).allocation(allocation).mean()
    assert worth[0] == pytest.approx(max(worth.values()), abs=0.01)


def test_a_plan_never_sees_the_problems_it_is_judged_on(make_arrays):
    """One problem that only Swahili solves must not bring Swahili into its own plan."""
    rates = {"en": np.array([1.0] * 9 + [0]), "sw": np.array([0.0] * 9 + [1])}
    arrays = make_arrays(languages=("en", "sw"), n_problems=10, rates=rates, n=3)
    held = planner.planned_values(arrays, [1], folds=10)
    assert held.accuracy[9, 0] == 0
    assert (held.accuracy[:9, 0] == 1).all()


def test_planning_finds_a_language_pair_that_beats_english_alone(make_arrays):
    rng = np.random.default_rng(2)
    half = rng.random(150) < 0.5
    rates = {"en": np.where(half, 0.9, 0.05), "sw": np.where(half, 0.05, 0.9), "de": np.full(150, 0.1)}
    arrays = make_arrays(languages=("en", "sw", "de"), n_problems=150, rates=rates)
    table = planner.plans(arrays, [2]).plan
    rows = {arm: row for arm, row in zip(table["arm"], table.iter_rows(named=True), strict=True)}
    assert rows["planned"]["allocation"] == "en 1, sw 1"
    assert rows["en"]["gain"] > 0.2
    assert rows["en"]["p"] < 0.01
    assert rows["planned"]["regret"] == pytest.approx(0, abs=1e-9)
    assert set(table["arm"]) == {"planned", "en", "mixed", "hindsight"}


def test_hindsight_is_never_worse_than_the_plan_and_regret_says_by_how_much(arrays):
    table = planner.plans(arrays, [2, 4, 6], "cross", replicates=200).plan
    for budget in (2, 4, 6):
        rows = table.filter(pl.col("budget") == budget)
        top = rows.filter(pl.col("arm") == "hindsight")["accuracy"][0]
        assert (rows["accuracy"] <= top + 1e-9).all()
        assert rows["regret"].to_numpy() == pytest.approx(top - rows["accuracy"].to_numpy())
    assert "en" not in table.filter(pl.col("budget") == 6)["arm"]  # English has 4 candidates


def test_the_allocation_table_sums_to_the_budget(arrays):
    table = planner.plans(arrays, [2, 5]).allocations
    sums = dict(table.group_by("budget").agg(pl.col("completions").sum()).iter_rows())
    assert sums == {2: 2, 5: 5}
    assert (table["least"] <= table["most"]).all()


def test_a_budget_above_the_pool_and_a_single_problem_are_refused(arrays, make_arrays):
    with pytest.raises(ValueError, match=r"budget 17 is outside 1\.\.16"):
        planner.greedy_path(arrays, 17)
    with pytest.raises(ValueError, match="at least 2"):
        planner.planned_values(make_arrays(n_problems=1), [2])


def test_a_single_language_pool_plans_that_language(make_arrays):
    table = planner.plans(make_arrays(languages=("th",), n_problems=6), [2]).plan
    assert table.filter(pl.col("arm") == "planned")["allocation"][0] == "th 2"
