from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from one_arm import majority_of_shares, weighted_vote_of_shares

from bestofl_lib.analysis.arms import STRATEGIES, arm_values, vote_weight, votes_of
from bestofl_lib.analysis.best_of_k import best_of_k
from bestofl_lib.analysis.contest import Contest
from bestofl_lib.analysis.coverage import coverage_of_shares
from bestofl_lib.analysis.curves import curves, curves_by_level, default_budgets, interval_sources
from bestofl_lib.analysis.majority import majority
from bestofl_lib.analysis.picks import draw_once, pick_candidates, selected_languages


@pytest.fixture(scope="module")
def arrays(make_arrays):
    return make_arrays(n_problems=25, n=4, quality={"mono": 1, "multi": 1.2, "cross": 1.5})


@pytest.fixture(scope="module")
def table(arrays):
    return curves(arrays, budgets=[1, 2, 4, 8, 16], draws=60, replicates=500)


def pick(table, pool, strategy, model, budget):
    model = pl.col("reward_model").is_null() if model is None else pl.col("reward_model") == model
    row = table.filter(
        (pl.col("pool") == pool) & (pl.col("strategy") == strategy) & model & (pl.col("budget") == budget)
    )
    assert len(row) == 1
    return row.row(0, named=True)


def test_every_arm_and_strategy_stands_once_at_every_budget_it_can_serve(table):
    key = ["target", "pool", "strategy", "reward_model", "budget"]
    assert not table.select(key).is_duplicated().any()
    assert table.filter(pl.col("pool") == "en")["budget"].max() == 4  # the curve stops, it never draws twice
    assert table.filter(pl.col("pool") == "mixed")["budget"].max() == 16
    assert set(table["strategy"]) == set(STRATEGIES)
    assert set(table["pool"]) == {"en", "de", "sw", "th", "mixed", "mixed-en", "half-en", "planned"}
    assert table.filter(pl.col("pool") == "de")["target"].unique().to_list() == ["de"]
    assert table.filter(pl.col("pool") == "mixed")["target"].is_null().all()


def test_no_figure_is_missing_or_outside_its_interval(table):
    for column in ("accuracy", "low", "high", "mc_error"):
        assert table[column].is_finite().all()
        assert table[column].is_between(0, 1).all()
    assert (table["low"] <= table["accuracy"] + 1e-12).all()
    assert (table["accuracy"] <= table["high"] + 1e-12).all()


def test_at_budget_1_every_strategy_is_a_random_draw(table):
    first = table.filter((pl.col("budget") == 1) & (pl.col("pool") != "planned"))
    spread = first.group_by("pool").agg(pl.col("accuracy").max() - pl.col("accuracy").min(), pl.col("mc_error").max())
    assert (spread["accuracy"] <= 6 * spread["mc_error"] + 1e-12).all()


def test_figures_are_those_of_the_estimators(arrays, table):
    correct = {c: arrays.is_correct[c] for c in arrays.languages}
    want = Contest.of(arrays.rewards["cross"], correct).shares([8]).mean()
    assert pick(table, "mixed", "best_of_k", "cross", 8)["accuracy"] == pytest.approx(want)
    want = best_of_k(arrays.rewards["mono-th"]["th"], correct["th"], 2).mean()
    assert pick(table, "th", "best_of_k", "mono", 2)["accuracy"] == pytest.approx(want)
    without = {c: v for c, v in correct.items() if c != "en"}
    want = coverage_of_shares(without, 4).mean()
    assert pick(table, "mixed-en", "oracle", None, 4)["accuracy"] == pytest.approx(want)


def test_tokens_are_those_of_the_completions_drawn(arrays, table):
    got = pick(table, "mixed", "random", None, 8)["tokens"]
    assert got == pytest.approx(8 * np.mean([np.nanmean(arrays.tokens[c]) for c in arrays.languages]))


def test_selector_efficiency_runs_from_random_to_oracle(table):
    assert pick(table, "en", "oracle", None, 4)["efficiency"] == pytest.approx(1)
    assert pick(table, "en", "random", None, 4)["efficiency"] == pytest.approx(0)
    assert pick(table, "en", "random", None, 1)["efficiency"] is None
    planned = table.filter(pl.col("pool") == "planned")
    assert planned.height and planned["efficiency"].null_count() == planned.height


def test_a_budget_that_no_arm_can_serve_names_problem_and_language(arrays):
    with pytest.raises(ValueError, match=r"budget 17 .*exceeds the 4 candidates of problem p000 \(de\)"):
        curves(arrays, budgets=[4, 17])


def test_budgets_are_refused_per_arm_with_problem_and_language(arrays):
    with pytest.raises(ValueError, match=r"budget 5 exceeds the 4 candidates of problem p000 \(sw\)"):
        arm_values(arrays, "sw", "majority", None, [5])


@pytest.mark.parametrize(
    ("settings", "pools"),
    [
        ({"n_problems": 1, "n": 2}, {"en", "de", "sw", "th", "mixed", "mixed-en", "half-en"}),
        ({"n": 1, "n_problems": 5}, {"en", "de", "sw", "th", "mixed", "mixed-en", "half-en", "planned"}),
        ({"languages": ("en",), "n_problems": 5}, {"en"}),
        (
            {"n_problems": 5, "rates": {"sw": np.zeros(5)}},
            {"en", "de", "sw", "th", "mixed", "mixed-en", "half-en", "planned"},
        ),
        (
            {"n_problems": 4, "n": {"en": [5, 3, 4, 6], "de": [1, 2, 3, 1], "sw": [2] * 4, "th": [4] * 4}},
            {"en", "de", "sw", "th", "mixed", "mixed-en", "half-en", "planned"},
        ),
    ],
    ids=["one problem", "one candidate", "one language", "never correct", "unequal"],
)
def test_thin_pools_give_finite_figures_in_every_arm(make_arrays, settings, pools):
    got = curves(make_arrays(**settings, quality={"cross": 1}), draws=20, replicates=200)
    assert set(got["pool"]) == pools
    for column in ("accuracy", "low", "high", "tokens", "mc_error"):
        assert got[column].is_finite().all()
    assert got["efficiency"].drop_nulls().is_finite().all()


def test_a_pool_without_rewards_logprobs_equations_or_tokens_still_has_its_votes(make_tables):
    from bestofl_lib.analysis.arrays import CandidateArrays

    tables = make_tables(n_problems=4, tokens=False)
    bare = tables["candidates"].drop("logprob", "n_tokens", "completion")
    got = curves(CandidateArrays.of(bare, tables["readings"].drop("false_equations")), draws=20, replicates=200)
    assert set(got["strategy"]) == {"random", "oracle", "majority"}
    assert got["tokens"].is_null().all()


def test_equal_rewards_make_best_of_k_a_random_draw(make_tables):
    from bestofl_lib.analysis.arrays import CandidateArrays

    tables = make_tables(n_problems=6, quality={"cross": 1})
    flat = tables["rewards"].with_columns(reward=pl.lit(0.0))
    got = curves(CandidateArrays.of(tables["candidates"], tables["readings"], flat), strategies=["random", "best_of_k"])
    wide = got.filter(pl.col("pool") != "planned").pivot("strategy", index=["pool", "budget"], values="accuracy")
    assert wide["best_of_k"].to_numpy() == pytest.approx(wide["random"].to_numpy())


def test_default_budgets_cover_small_ones_densely_and_stop_in_time():
    assert default_budgets(3) == [1, 2, 3]
    assert default_budgets(64)[-3:] == [32, 48, 64]


@pytest.mark.parametrize(
    ("strategy", "model"),
    [
        ("best_of_k", "cross"),
        ("majority", None),
        ("weighted", "cross"),
        ("oracle", None),
        ("shortest", None),
        ("logprob", None),
        ("arithmetic", None),
        ("random", None),
    ],
)
def test_picks_come_from_the_draw_and_are_right_as_often_as_the_curve_says(arrays, strategy, model):
    allocation = {"en": 2, "th": 2}
    held = draw_once(arrays, allocation, seed=4)
    got = pick_candidates(arrays, allocation, strategy, model, seed=4)
    key = ["problem_id", "language", "sample_index"]
    assert len(got.join(held, on=key, how="semi")) == len(got)
    assert held.group_by("problem_id", "language").len()["len"].unique().to_list() == [2]
    share = [
        pick_candidates(arrays, allocation, strategy, model, seed=s)["is_correct"].sum() / arrays.n_problems
        for s in range(16)
    ]
    want = arm_values(arrays, "en+th", strategy, model, [4], draws=400).accuracy.mean()
    assert np.mean(share) == pytest.approx(want, abs=0.05)


def test_the_same_seed_gives_the_same_draw_and_another_seed_another(arrays):
    assert draw_once(arrays, {"en": 2}, seed=1).equals(draw_once(arrays, {"en": 2}, seed=1))
    assert not draw_once(arrays, {"en": 2}, seed=1).equals(draw_once(arrays, {"en": 2}, seed=2))


def test_selected_shares_sum_to_1_and_follow_an_offset(make_arrays):
    plain = make_arrays(n_problems=20, quality={"cross": 1}, seed=5)
    raised = make_arrays(n_problems=20, quality={"cross": 1}, shift={"cross": {"sw": 50}}, seed=5)
    got = selected_languages(plain, budgets=[1, 4])
    assert got.group_by("budget").agg(pl.col("share").sum())["share"].to_numpy() == pytest.approx(1)
    assert got.filter(pl.col("budget") == 1)["share"].to_numpy() == pytest.approx(0.25)
    assert selected_languages(raised).filter(pl.col("language") == "sw")["share"][0] == pytest.approx(1)


def test_selected_shares_are_the_same_whether_problems_are_ranked_at_once_or_some_at_a_time(make_arrays, monkeypatch):
    arrays = make_arrays(n_problems=20, quality={"cross": 1}, seed=5)
    whole = selected_languages(arrays, budgets=[1, 4])
    monkeypatch.setattr("bestofl_lib.analysis.picks.AT_ONCE", 100)
    some = selected_languages(arrays, budgets=[1, 4])
    assert some["share"].to_numpy() == pytest.approx(whole["share"].to_numpy(), abs=1e-14)
    assert some.drop("share").equals(whole.drop("share"))


@pytest.mark.parametrize(
    ("strategy", "model", "said"),
    [
        ("best", None, "unknown strategy 'best'"),
        ("best_of_k", None, "needs a reward model"),
        ("majority", "cross", "takes no reward model"),
        ("best_of_k", "croos", "no rewards by 'croos'; known: mono, multi, cross"),
    ],
)
def test_an_arm_that_makes_no_sense_is_refused(arrays, strategy, model, said):
    with pytest.raises(ValueError, match=said):
        arm_values(arrays, "en", strategy, model, [1])


def test_vote_weights_change_the_weighted_vote(arrays):
    one, other = (
        arm_values(arrays, "mixed", "weighted", "cross", [8], vote_weights=w).accuracy.mean()
        for w in ("logistic", "reward")
    )
    assert one != other
    with pytest.raises(ValueError, match="unknown vote_weights"):
        arm_values(arrays, "mixed", "weighted", "cross", [8], vote_weights="softmax")


def test_an_interval_comes_from_problems_and_a_little_from_draws(make_arrays):
    table = interval_sources(make_arrays(n_problems=60, quality={"cross": 1}), budget=4)
    assert table.select("pool", "strategy", "reward_model").unique().height == 4
    width = {
        kind: (part["high"] - part["low"]).to_numpy()
        for (kind,), part in table.partition_by("resampled", as_dict=True).items()
    }
    assert (width["candidates"] < width["problems"]).all()
    assert (width["both"] > 0.8 * width["problems"]).all()
    inside = (table["low"] <= table["accuracy"]) & (table["accuracy"] <= table["high"])
    assert inside.all()


def test_the_sources_of_a_large_pools_intervals_are_ranked_side_by_side_in_enough_resamplings(make_arrays, monkeypatch):
    arrays = make_arrays(n_problems=20, n=4, quality={"cross": 1})
    monkeypatch.setattr("bestofl_lib.analysis.curves.LARGE", 1)  # so many candidates are a large pool
    table = interval_sources(arrays)
    assert table.equals(interval_sources(arrays, replicates=100))
    monkeypatch.undo()
    assert table.equals(interval_sources(arrays, replicates=100))  # by one thread


def test_without_rewards_the_sources_of_coverage_are_told(make_arrays):
    table = interval_sources(make_arrays(n_problems=20), budget=99)
    assert set(table["strategy"]) == {"oracle"}
    assert table["budget"].unique().len() == 1 and table["budget"][0] < 99


def test_sources_for_a_model_that_covers_no_language_are_refused(make_arrays):
    with pytest.raises(ValueError, match="reward model 'cross' does not cover"):
        interval_sources(make_arrays(n_problems=20), reward_model="cross")


def test_the_monte_carlo_error_of_several_trainings_is_that_of_their_mean_on_the_same_draws(make_arrays):
    one = make_arrays(n_problems=15, n=12, quality={"cross": 1.5})
    same = replace(one, other_seeds=(one.rewards,) * 2, seeds=(0, 1, 2), _kept={})
    how = ("mixed", "weighted", "cross", [4], 60)
    alone, thrice = arm_values(one, *how), arm_values(same, *how)
    np.testing.assert_allclose(thrice.accuracy, alone.accuracy, rtol=1e-12)
    np.testing.assert_allclose(thrice.mc_error, alone.mc_error)
    assert alone.mc_error[0] > 0


def test_votes_of_all_reward_models_at_once_are_those_of_each_alone(make_arrays):
    arrays = make_arrays(n_problems=12, n=12, quality={"multi": 1.0, "cross": 1.5})
    every = votes_of(arrays, "mixed", [3, 8], 40)
    answers = {code: arrays.answers[code] for code in arrays.languages}
    alone = majority_of_shares(answers, arrays.reference, [3, 8], 40)
    np.testing.assert_allclose(every[None].accuracy, alone.value, rtol=1e-12)
    for model in ("multi", "cross"):
        weights = {code: vote_weight(table) for code, table in arrays.rewards[model].items()}
        alone = weighted_vote_of_shares(weights, answers, arrays.reference, [3, 8], 40)
        np.testing.assert_allclose(every[model].accuracy, alone.value, rtol=1e-12)


def test_gains_over_the_base_language_are_paired_differences_where_both_have_the_budget(arrays):
    table = curves(arrays, replicates=200)
    alone = table.filter(pl.col("pool") == arrays.base)
    assert alone["gain"].null_count() == len(alone)
    same = ["strategy", "reward_model", "budget"]
    mixed = table.filter(pl.col("pool") == "mixed").join(alone, on=same, how="left", suffix="_base", nulls_equal=True)
    both = mixed.filter(pl.col("accuracy_base").is_not_null())
    assert len(both) > 10 and both["gain"].null_count() == 0
    assert (both["gain"] - (both["accuracy"] - both["accuracy_base"])).abs().max() < 1e-9
    assert (both["gain_low"] <= both["gain"]).all() and (both["gain"] <= both["gain_high"]).all()
    assert mixed.filter(pl.col("accuracy_base").is_null())["gain"].null_count() == len(mixed) - len(both)


def test_hundreds_of_tied_rewards_choose_as_chance_does():
    rng = np.random.default_rng(6)
    correct = {c: (rng.random((3, 400)) < share).astype(float) for c, share in (("en", 0.9), ("th", 0.2), ("sw", 0.5))}
    tied = {c: np.zeros((3, 400)) for c in correct}
    got = Contest.of(tied, correct).shares([3, 64, 500, 1200])
    want = np.mean([table.mean(1) for table in correct.values()], 0)
    np.testing.assert_allclose(got, np.repeat(want[:, None], 4, 1), atol=1e-10)


def test_the_majority_of_one_language_is_exact_up_to_64_completions_and_simulated_above(make_arrays):
    arrays = make_arrays(languages=("en", "de"), n_problems=20, n=90)
    found = arm_values(arrays, "en", "majority", None, [64, 80, 90])
    assert found.mc_error[0] == 0 and found.mc_error[1] > 0 and found.mc_error[2] < 1e-12, "all drawn: no chance left"
    exact = majority(arrays.answers["en"], arrays.reference, budgets=[64, 80, 90])
    np.testing.assert_allclose(found.accuracy[:, 0], exact[:, 0], atol=1e-12)
    assert abs(found.accuracy[:, 1] - exact[:, 1]).mean() < 0.05
    np.testing.assert_allclose(found.accuracy[:, 2], exact[:, 2], atol=1e-9)


def test_curves_by_level_are_the_curves_of_each_levels_problems_in_the_sets_order(arrays):
    """Levels as PolyMath has them, the last with no problem in this pool, one problem without a level."""
    names = ["low"] * 10 + ["medium"] * 8 + ["high"] * 6 + [None]
    problems = pl.DataFrame({"problem_id": arrays.problem_ids, "level": names})
    problems = pl.concat([problems, pl.DataFrame({"problem_id": ["elsewhere"], "level": ["top"]})])
    table = curves_by_level(arrays, problems, [1, 4], replicates=100)
    assert table["level"].unique(maintain_order=True).to_list() == ["low", "medium", "high"]
    assert set(table["pool"]) == {"en", "mixed"} and set(table["strategy"]) == {"best_of_k", "majority", "oracle"}
    for name, count in (("low", 10), ("medium", 8), ("high", 6)):
        here = np.array([level == name for level in names])
        alone = curves(
            arrays.subset(here), [1, 4], ["en", "mixed"], ["best_of_k", "majority", "oracle"], replicates=100
        )
        part = table.filter(level=name)
        assert part.drop("level").equals(alone) and set(part["n_problems"]) == {count}
    assert curves_by_level(arrays, problems.with_columns(level=pl.lit(None, pl.String))).is_empty()
