from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bestofl_lib.analysis import uncertainty as un
from bestofl_lib.analysis.bootstrap import _bca, resampling_weights
from bestofl_lib.analysis.break_even import break_even
from bestofl_lib.analysis.verdicts import holm

N = 250


def bernoulli(rate):
    return lambda rng, runs: (rng.random((N, runs)) < rate).astype(float)


def eighths(rate, spread):
    """Share correct of 8 candidates, problems of unequal difficulty."""
    return lambda rng, runs: rng.binomial(8, rng.beta(rate * spread, (1 - rate) * spread, (N, runs))) / 8


@pytest.mark.parametrize(
    ("draw", "truth"),
    [
        (bernoulli(0.5), 0.5),
        (bernoulli(0.9), 0.9),
        (bernoulli(0.98), 0.98),
        (eighths(0.7, 1), 0.7),
        (eighths(0.98, 0.8), 0.98),
        (eighths(0.98, 10), 0.98),
    ],
    ids=["half", "0.9", "near the top", "unequal problems", "unequal problems near the top", "alike near the top"],
)
def test_a_95_percent_interval_over_250_problems_covers_93_to_97_percent(draw, truth):
    runs = 1500
    low, high = un.mean_interval(draw(np.random.default_rng(11), runs), replicates=1000)[1:]
    covered = ((low <= truth) & (truth <= high)).mean()
    noise = 2 * np.sqrt(0.95 * 0.05 / runs)  # of the simulation itself
    assert 0.93 - noise <= covered <= 0.97 + noise


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng, runs: (rng.binomial(8, 0.6, (N, runs)) - rng.binomial(8, 0.6, (N, runs))) / 8,
        lambda rng, runs: rng.choice([-1, 0, 1.0], p=[0.15, 0.7, 0.15], size=(N, runs)),
        lambda rng, runs: rng.choice([-0.1, 0, 1.0], p=[0.2, 0.78, 0.02], size=(N, runs)),
    ],
    ids=["eighths", "0/1", "rare large gains against frequent small losses"],
)
def test_the_paired_test_rejects_a_true_null_in_at_most_6_percent(draw):
    runs = 3000
    values = draw(np.random.default_rng(5), runs)
    test = un.paired_difference(values, np.zeros_like(values), replicates=1000)
    noise = 2 * np.sqrt(0.05 * 0.95 / runs)
    assert 0.01 <= (test.p < 0.05).mean() <= 0.06 + noise


def test_interval_and_p_value_never_contradict_each_other():
    rng = np.random.default_rng(2)
    values = rng.normal(0.1, 1, (60, 400)) / 4
    test = un.paired_difference(values, np.zeros_like(values))
    clear = np.minimum(np.abs(test.low), np.abs(test.high)) > 2e-3  # replicates are finite
    assert ((test.p < 0.05) == ((test.low > 0) | (test.high < 0)))[clear].all()


@pytest.mark.parametrize("n_differing", range(1, 6))
def test_a_handful_of_problems_that_differ_proves_nothing(n_differing):
    first = np.zeros(24)
    first[:n_differing] = 1
    for sign in (1, -1):
        test = un.paired_difference(sign * first, np.zeros(24))
        assert test.p >= 2.0 ** (1 - n_differing) > 0.05
        nothing = un.paired_difference(np.zeros(24), np.zeros(24))
        assert test.low <= nothing.low < 0 < nothing.high <= test.high, "no surer than where no problem differs"
    first[:12] = 1
    many = un.paired_difference(first, np.zeros(24))
    assert many.p < 0.01 and many.low > 0


def test_large_samples_agree_with_the_t_interval():
    values = np.random.default_rng(3).normal(0.4, 0.1, 400)
    got = un.mean_interval(values, replicates=6000)
    want = stats.t.interval(0.95, 399, values.mean(), stats.sem(values))
    assert (got.low, got.high) == pytest.approx(want, abs=1e-3)
    other = values + np.random.default_rng(4).normal(0.008, 0.08, 400)
    p = stats.ttest_rel(values, other).pvalue
    assert un.paired_difference(values, other, replicates=6000).p == pytest.approx(p, abs=0.02)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_few_problems_give_a_finite_wide_interval(n):
    got = un.mean_interval(np.linspace(0.2, 0.9, n))
    assert np.isfinite([got.low, got.high]).all()
    assert 0 <= got.low <= got.estimate <= got.high <= 1
    if n == 1:
        assert got.high - got.low > 0.9


def test_a_sample_without_variation_still_admits_what_it_cannot_exclude():
    got = un.mean_interval(np.ones((N, 2)))
    assert got.low == pytest.approx(0.025 ** (1 / N) * np.ones(2))
    assert (got.high == 1).all()
    same = un.paired_difference(np.ones(N), np.ones(N))
    assert same.p == 1
    assert same.low == pytest.approx(-same.high)
    assert un.paired_difference(np.ones(N), np.zeros(N)).p < 0.06


def test_holm_equals_its_definition_and_leaves_untested_ones_alone():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    got = holm([0.02, None, 0.9])
    assert np.isnan(got[1])
    assert got[[0, 2]] == pytest.approx([0.04, 0.9])


@pytest.mark.parametrize("tests", [1, 11])
def test_the_detectable_effect_is_detected_with_80_percent_power_by_the_corrected_rule(tests):
    rng = np.random.default_rng(6)
    base = rng.normal(0, 0.3, (N, 1000)).clip(-1, 1)
    effect = un.paired_difference(base, np.zeros_like(base), replicates=1000, tests=tests).mde.mean()
    test = un.paired_difference(base + effect, np.zeros_like(base), replicates=10_000)
    assert (test.p < 0.05 / tests).mean() == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize("n_differing", [0, 3, 12, 200])
def test_the_detectable_effect_agrees_with_the_interval_beside_it(n_differing):
    first = np.zeros(N)
    first[:n_differing] = np.random.default_rng(1).choice([-1, 1, 0.5], n_differing)
    found = un.paired_difference(first, np.zeros(N))
    half = (found.high - found.low) / 2
    assert found.mde == pytest.approx(half * (1.96 + 0.8416) / 1.96, rel=1e-3)


def test_the_bca_part_of_the_interval_is_that_of_scipy():
    values = np.random.default_rng(9).beta(4, 1, 60)
    want = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=1).confidence_interval
    expansion = (stats.t.ppf(0.975, 59) * np.sqrt(60 / 59)) / stats.norm.ppf(0.975)
    middle = values.mean()
    found = _bca(values[:, None], 0.025, 20_000, 0, (0.0, 1.0), 0.0, np.zeros((1, 1)))
    assert (found.high[0] - middle) / (want.high - middle) == pytest.approx(expansion, rel=0.03)
    assert (middle - found.low[0]) / (middle - want.low) == pytest.approx(expansion, rel=0.03)


def test_training_seeds_that_disagree_widen_the_interval_and_one_seed_changes_nothing():
    values = np.random.default_rng(3).beta(2, 1, (N, 2))
    alone = un.mean_interval(values)
    assert un.mean_interval(values, of_seeds=values.mean(0)[None]).low == pytest.approx(alone.low)
    agree = un.mean_interval(values, of_seeds=np.repeat(values.mean(0)[None], 3, 0))
    assert agree.low == pytest.approx(alone.low)
    apart = un.mean_interval(values, of_seeds=values.mean(0) + np.array([[-0.03], [0.0], [0.03]]))
    assert ((apart.high - apart.low) > 1.2 * (alone.high - alone.low)).all()


def around(levels, seed):
    """(problems, budgets) whose mean over problems is exactly `levels`."""
    noise = np.random.default_rng(seed).normal(0, 0.1, (N, len(levels)))
    return np.asarray(levels) + noise - noise.mean(0)


def test_the_break_even_budget_is_where_the_curves_cross():
    budgets = np.array([1, 2, 4, 8, 16.0])
    found = break_even(around([0.5, 0.6, 0.66, 0.68, 0.7], 1), around([0.52, 0.58, 0.64, 0.7, 0.74], 2), budgets)
    assert found.start == pytest.approx(1.5)  # halfway between 1 and 2
    assert found.end == pytest.approx(6)  # halfway between 4 and 8
    assert found.low < 6 < found.high


def test_the_break_even_in_tokens_uses_each_curves_own_spend():
    mixed, english = np.tile([0.5, 0.7, 0.8], (N, 1)), np.tile([0.6, 0.75, 0.8], (N, 1))
    same = break_even(mixed, english, np.array([10, 20, 40.0]))
    assert same.end is None
    assert same.start is None  # at equal spend it is never ahead
    cheaper = break_even(mixed, english, np.array([10, 20, 40.0]), np.array([20, 40, 80.0]))
    assert (cheaper.smallest, cheaper.largest) == pytest.approx((20, 40))
    assert cheaper.start == pytest.approx(20)  # half the tokens a completion: ahead as soon as both can be bought
    assert cheaper.end is None
    assert cheaper.high is None


def test_the_interval_of_the_break_even_covers_the_crossing_of_noisy_curves():
    rng = np.random.default_rng(12)
    budgets, hits = np.array([1, 2, 4, 8.0]), 0
    for _ in range(200):
        differ = rng.normal(0, 0.3, (60, 1)) + rng.normal(0, 0.1, (60, 4))
        found = break_even(0.5 + np.array([0.06, 0.02, -0.02, -0.06]) + differ, np.full((60, 4), 0.5), budgets)
        hits += (found.low or 0) <= 3 <= (found.high or np.inf)
    assert 0.93 <= hits / 200 <= 0.99


def test_a_curve_that_is_never_ahead_has_no_break_even():
    found = break_even(np.full((N, 3), 0.4), np.full((N, 3), 0.6), np.array([1, 2, 4]))
    assert found.start is None
    assert found.end is None
    assert found.low is None
    assert found.high == pytest.approx(1)  # the smallest spend: no replicate is ahead anywhere


def test_resampling_candidates_too_is_conservative_and_candidates_alone_narrower():
    rng = np.random.default_rng(8)
    rates = rng.beta(2, 2, (N, 1))
    drawn = rng.random((N, 8)) < rates
    exists = np.ones_like(drawn)

    again = np.stack([np.take_along_axis(drawn, un.resampled_places(exists, rng), 1).mean(1) for _ in range(500)])
    plain = un.mean_interval(drawn.mean(1))
    both = un.two_level_interval(drawn.mean(1), again)
    same_problems = un.two_level_interval(drawn.mean(1), again, problems=False)
    assert both.high - both.low > 0.98 * (plain.high - plain.low)
    assert same_problems.high - same_problems.low < 0.7 * (plain.high - plain.low)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: un.mean_interval(np.zeros((0, 2))), "table is empty"),
        (lambda: un.mean_interval(np.array([0.5, np.nan])), "value of problem 1, figure 0 is nan"),
        (lambda: un.paired_difference(np.zeros(3), np.zeros(4)), "align them by problem"),
        (lambda: resampling_weights(5, 10), "10 replicates are too few"),
        (lambda: break_even(np.zeros((3, 2)), np.zeros((3, 2)), np.zeros((2, 2))), "spend is"),
    ],
)
def test_a_wrong_call_says_what_is_expected(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_other_training_seeds_widen_a_break_even_as_they_move_the_curve():
    rng = np.random.default_rng(0)
    budgets = np.array([1, 2, 4, 8.0])
    noise = rng.normal(0, 0.05, (300, 1))
    first, second = np.array([0.6, 0.65, 0.69, 0.7]) + noise, np.array([0.5, 0.6, 0.68, 0.74]) + noise
    of_seeds = np.array([[0.1], [0.12], [0.08]]) * np.ones(4)
    alone = break_even(first, second, budgets)
    moved = break_even(first, second, budgets, of_seeds=of_seeds)
    assert moved.end == alone.end
    assert moved.low < alone.low < alone.end < alone.high < (moved.high or np.inf)
