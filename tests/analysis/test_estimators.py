from __future__ import annotations

from fractions import Fraction
from itertools import combinations, product
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from one_arm import best_of_allocation, majority_of_shares, weighted_vote_of_shares

from bestofl_lib.analysis.best_of_k import best_of_k
from bestofl_lib.analysis.contest import Contest
from bestofl_lib.analysis.coverage import coverage, coverage_of_allocation, coverage_of_shares
from bestofl_lib.analysis.majority import majority
from bestofl_lib.analysis.votes import majority_of_allocation, weighted_vote_of_allocation

# ------------------------------------------------------------ slow, obvious oracles


def subsets(sizes, allocation):
    """All ways to draw allocation[l] of sizes[l] candidates, as lists of (language, index)."""
    parts = [[[(code, i) for i in c] for c in combinations(range(sizes[code]), k)] for code, k in allocation.items()]
    for chosen in product(*parts):
        yield [key for part in chosen for key in part]


def mean_over(sizes, allocation, value):
    values = [value(subset) for subset in subsets(sizes, allocation)]
    return sum(values, Fraction(0)) / len(values)


def best_share(subset, rewards, correct):
    top = max(rewards[c][i] for c, i in subset)
    winners = [(c, i) for c, i in subset if rewards[c][i] == top]
    return Fraction(sum(int(correct[c][i]) for c, i in winners), len(winners))


def vote_share(subset, answers, reference, weights=None):
    tally: dict = {}
    for c, i in subset:
        if answers[c][i] >= 0:
            tally[answers[c][i]] = tally.get(answers[c][i], 0) + (1 if weights is None else Fraction(weights[c][i]))
    if not tally:
        return Fraction(0)
    winners = [a for a, n in tally.items() if n == max(tally.values())]
    return Fraction(int(reference in winners), len(winners))


def share_allocations(languages, k):
    """Every equal-shares allocation of k, each as likely as the others."""
    q, r = divmod(k, len(languages))
    for extra in combinations(languages, r):
        yield {code: q + (code in extra) for code in languages}


@st.composite
def pools(draw, max_languages=3, max_candidates=4, votes=False):
    """One problem: per language rewards (few values, so ties are common), correctness and answers."""
    languages = ["en", "th", "sw"][: draw(st.integers(1, max_languages))]
    pool = {}
    for code in languages:
        n = draw(st.integers(1, max_candidates))
        rewards = draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
        answers = draw(st.lists(st.integers(-1, 2), min_size=n, max_size=n))
        correct = draw(st.lists(st.booleans(), min_size=n, max_size=n))
        pool[code] = (rewards, [a == 0 for a in answers] if votes else correct, answers)
    return pool


def row(values, width=6):
    return np.array([list(map(float, values)) + [np.nan] * (width - len(values))])


# ------------------------------------------------------------ equal to enumeration


@given(pools(max_languages=1, max_candidates=6))
@settings(max_examples=150, deadline=None)
def test_best_of_k_equals_the_mean_over_all_subsets(pool):
    rewards, correct, _ = pool["en"]
    n = len(rewards)
    budgets = list(range(1, n + 1))
    got = best_of_k(row(rewards), row(correct), budgets=budgets)[0]
    for k in budgets:
        want = mean_over({"en": n}, {"en": k}, lambda s: best_share(s, {"en": rewards}, {"en": correct}))
        assert got[k - 1] == pytest.approx(float(want), abs=1e-12)
        assert best_of_k(row(rewards), row(correct), k)[0] == got[k - 1]


@given(st.integers(1, 8).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))))
def test_coverage_equals_the_mean_over_all_subsets(case):
    n, c = case
    got = coverage(np.array([c]), np.array([n]), budgets=list(range(n + 1)))[0]
    for k in range(n + 1):
        hits = [any(i < c for i in s) for s in combinations(range(n), k)]
        assert got[k] == pytest.approx(sum(hits) / len(hits), abs=1e-12)


@given(pools(), st.data())
@settings(max_examples=200, deadline=None)
def test_best_of_allocation_equals_the_mean_over_all_subsets(pool, data):
    allocation = {code: data.draw(st.integers(0, len(values[0]))) for code, values in pool.items()}
    if not sum(allocation.values()):
        allocation["en"] = 1
    rewards, correct = ({c: v[i] for c, v in pool.items()} for i in (0, 1))
    sizes = {c: len(v) for c, v in rewards.items()}
    want = mean_over(sizes, allocation, lambda s: best_share(s, rewards, correct))
    arrays = [{c: row(v) for c, v in table.items()} for table in (rewards, correct)]
    assert best_of_allocation(*arrays, allocation)[0] == pytest.approx(float(want), abs=1e-12)
    # a contest over all languages gives the same as one over the languages used
    assert Contest.of(*arrays).allocation(allocation)[0] == pytest.approx(float(want), abs=1e-12)
    want = mean_over(sizes, allocation, lambda s: Fraction(int(any(correct[c][i] for c, i in s))))
    assert coverage_of_allocation(arrays[1], allocation)[0] == pytest.approx(float(want), abs=1e-12)


@given(pools(max_candidates=3))
@settings(max_examples=150, deadline=None)
def test_equal_shares_equal_the_mean_over_all_leftover_draws(pool):
    rewards, correct = ({c: v[i] for c, v in pool.items()} for i in (0, 1))
    sizes = {c: len(v) for c, v in rewards.items()}
    arrays = [{c: row(v) for c, v in table.items()} for table in (rewards, correct)]
    budgets = list(range(1, len(pool) * min(sizes.values()) + 1))
    best = Contest.of(*arrays).shares(budgets)[0]
    covered = coverage_of_shares(arrays[1], budgets=budgets)[0]
    for k in budgets:
        options = list(share_allocations(list(pool), k))
        want = sum(mean_over(sizes, a, lambda s: best_share(s, rewards, correct)) for a in options) / len(options)
        assert best[k - 1] == pytest.approx(float(want), abs=1e-12)
        hit = [mean_over(sizes, a, lambda s: Fraction(int(any(correct[c][i] for c, i in s)))) for a in options]
        assert covered[k - 1] == pytest.approx(float(sum(hit) / len(options)), abs=1e-12)


@given(st.lists(st.integers(-1, 3), min_size=1, max_size=8), st.integers(0, 4))
@settings(max_examples=250, deadline=None)
def test_majority_equals_the_mean_over_all_subsets(answers, reference):
    n = len(answers)
    got = majority(np.array([answers]), np.array([reference]), budgets=list(range(1, n + 1)))[0]
    for k in range(1, n + 1):
        want = mean_over({"en": n}, {"en": k}, lambda s: vote_share(s, {"en": answers}, reference))
        assert got[k - 1] == pytest.approx(float(want), abs=1e-12)


@given(pools(votes=True, max_candidates=3), st.integers(0, 5))
@settings(max_examples=25, deadline=None)
def test_monte_carlo_votes_agree_with_enumeration_within_their_own_error(pool, seed):
    rewards, _, answers = ({c: v[i] for c, v in pool.items()} for i in (0, 1, 2))
    sizes = {c: len(v) for c, v in answers.items()}
    budgets = list(range(1, len(pool) * min(sizes.values()) + 1))
    tables = [{c: row(v) for c, v in table.items()} for table in (answers, rewards)]
    votes = majority_of_shares(tables[0], np.array([0]), budgets, draws=400, seed=seed)
    weighted = weighted_vote_of_shares(tables[1], tables[0], np.array([0]), budgets, draws=400, seed=seed)
    for k in budgets:
        options = list(share_allocations(list(pool), k))
        for got, weights in ((votes, None), (weighted, rewards)):
            each = [mean_over(sizes, a, lambda s, w=weights: vote_share(s, answers, 0, w)) for a in options]
            want = float(sum(each) / len(each))
            assert abs(got.value[0, k - 1] - want) <= 5 * got.standard_error[0, k - 1] + 0.02
    allocation = {code: min(2, n) for code, n in sizes.items()}
    want = float(mean_over(sizes, allocation, lambda s: vote_share(s, answers, 0)))
    got = majority_of_allocation(tables[0], np.array([0]), allocation, draws=400, seed=seed)
    assert abs(got.value[0] - want) <= 5 * got.standard_error[0] + 0.02
    want = float(mean_over(sizes, allocation, lambda s: vote_share(s, answers, 0, rewards)))
    got = weighted_vote_of_allocation(tables[1], tables[0], np.array([0]), allocation, draws=400, seed=seed)
    assert abs(got.value[0] - want) <= 5 * got.standard_error[0] + 0.02


def test_the_standard_error_of_a_monte_carlo_is_the_spread_between_seeds():
    rng = np.random.default_rng(1)
    answers = {c: rng.integers(0, 3, (4, 6)).astype(float) for c in ("en", "th")}
    runs = [majority_of_shares(answers, np.zeros(4, int), [3], draws=50, seed=s) for s in range(300)]
    spread = np.std([r.value[:, 0] for r in runs], axis=0)
    stated = np.mean([r.standard_error[:, 0] for r in runs], axis=0)
    assert spread == pytest.approx(stated, rel=0.2)


@given(pools(max_languages=1, max_candidates=6, votes=True))
@settings(max_examples=60, deadline=None)
def test_a_weighted_vote_of_few_candidates_is_exact(pool):
    rewards, _, answers = pool["en"]
    n = len(answers)
    # a third of a point, so that sums of floats do not tie exactly where fractions do
    weights = [r / 3 for r in rewards]
    budgets = list(range(1, n + 1))
    got = weighted_vote_of_shares({"en": row(weights)}, {"en": row(answers)}, np.array([0]), budgets)
    assert (got.standard_error == 0).all()
    for k in budgets:
        want = mean_over({"en": n}, {"en": k}, lambda s: vote_share(s, {"en": answers}, 0, {"en": rewards}))
        assert got.value[0, k - 1] == pytest.approx(float(want), abs=1e-12)


def test_a_weighted_vote_of_many_candidates_agrees_with_its_enumeration(monkeypatch):
    rng = np.random.default_rng(4)
    answers, weights = {"en": rng.integers(-1, 4, (20, 8))}, {"en": rng.normal(size=(20, 8))}
    exact = weighted_vote_of_shares(weights, answers, np.zeros(20, int), [1, 3, 8])
    monkeypatch.setattr("bestofl_lib.analysis.votes.ENUMERATED", 0)
    drawn = weighted_vote_of_shares(weights, answers, np.zeros(20, int), [1, 3, 8], draws=1500)
    assert (np.abs(exact.value - drawn.value) <= 4.5 * drawn.standard_error + 1e-9).all()


def test_one_language_monte_carlo_agrees_with_the_exact_majority():
    rng = np.random.default_rng(2)
    answers = rng.integers(-1, 4, (30, 12))
    exact = majority(answers, np.zeros(30, int), budgets=[1, 3, 6, 12])
    drawn = majority_of_shares({"en": answers}, np.zeros(30, int), [1, 3, 6, 12], draws=2000)
    assert (np.abs(exact - drawn.value) <= 4.5 * drawn.standard_error + 1e-9).all()


# ------------------------------------------------------------ stable for 1,024 candidates


def test_a_thousand_candidates_lose_no_precision():
    rng = np.random.default_rng(3)
    n, budgets = 1024, [1, 2, 3, 16, 100, 511, 512, 700, 1023, 1024]
    correct = rng.random(n) < 0.02
    rewards = rng.integers(0, 300, n).astype(float)
    got = best_of_k(rewards[None], correct[None], budgets=budgets)[0]
    covered = coverage(np.array([correct.sum()]), np.array([n]), budgets=budgets)[0]
    values = np.unique(rewards)
    for column, k in enumerate(budgets):
        total, want, below = comb(n, k), Fraction(0), 0
        for value in values:
            tied = rewards == value
            upto = below + int(tied.sum())
            share = Fraction(int(correct[tied].sum()), int(tied.sum()))
            want += share * Fraction(comb(upto, k) - comb(below, k), total)
            below = upto
        assert got[column] == pytest.approx(float(want), abs=1e-12)
        assert covered[column] == pytest.approx(float(1 - Fraction(comb(n - int(correct.sum()), k), total)), abs=1e-12)


def test_a_thousand_candidates_in_two_tied_languages_lose_no_precision():
    """All rewards equal: each draw wins with chance 1/k, so accuracy is the allocation's mean share correct."""
    correct = {"en": np.arange(512)[None] < 300, "th": np.arange(512)[None] < 5}
    rewards = {code: np.zeros((1, 512)) for code in correct}
    for a, b in ((1, 1), (512, 512), (300, 7), (1, 511)):
        want = (a * 300 / 512 + b * 5 / 512) / (a + b)
        assert best_of_allocation(rewards, correct, {"en": a, "th": b})[0] == pytest.approx(want, abs=1e-12)
    got = Contest.of(rewards, correct).shares([2, 5, 1024])[0]
    assert got == pytest.approx(305 / 1024, abs=1e-12)


def test_majority_of_a_thousand_candidates_neither_overflows_nor_drifts():
    answers = np.array([[0] * 600 + [1] * 424])
    budgets = [1, 2, 3, 101, 600, 849, 1024]
    got = majority(answers, np.array([0]), budgets=budgets)[0]
    for column, k in enumerate(budgets):
        total = comb(1024, k)
        want = sum(
            (Fraction(1) if 2 * j > k else Fraction(1, 2)) * Fraction(comb(600, j) * comb(424, k - j), total)
            for j in range(-(-k // 2), min(k, 600) + 1)
        )
        assert got[column] == pytest.approx(float(want), abs=1e-12)


# ------------------------------------------------------------ odd but legal input


def test_problems_may_have_unequal_numbers_of_candidates():
    rewards = np.array([[1, 2, 3.0], [5, 4, np.nan]])
    correct = np.array([[0, 0, 1.0], [1, 0, np.nan]])
    assert best_of_k(rewards, correct, 2) == pytest.approx([2 / 3, 1])
    assert majority(np.array([[0, 1, 1], [0, 0, np.nan]]), np.array([0, 0]), 2) == pytest.approx([1 / 3, 1])


def test_equal_rewards_make_every_budget_a_random_choice():
    correct = np.array([[1, 0, 0, 1], [0, 0, 0, 1]], bool)
    assert best_of_k(np.ones((2, 4)), correct, budgets=[1, 2, 3, 4]) == pytest.approx(np.array([[0.5] * 4, [0.25] * 4]))


def test_a_language_without_a_correct_answer_gives_zero():
    correct = {"en": np.ones((1, 2), bool), "th": np.zeros((1, 2), bool)}
    assert coverage_of_allocation(correct, {"th": 2})[0] == 0
    assert Contest.of({c: np.zeros((1, 2)) for c in correct}, correct).shares([2])[0, 0] == pytest.approx(0.5)


def test_a_payoff_may_be_any_number():
    contest = Contest.of({"en": np.array([[1.0, 2.0]])}, {"en": np.array([[10.0, 30.0]])})
    assert contest.allocation({"en": 1})[0] == pytest.approx(20)
    assert contest.allocation({"en": 2})[0] == pytest.approx(30)


# ------------------------------------------------------------ refusals say what to do


def test_a_budget_above_the_pool_names_problem_and_language():
    said = r"budget 16 exceeds the 8 candidates of problem mgsm-041 \(sw\); draw more or lower the budget"
    with pytest.raises(ValueError, match=said):
        coverage(np.array([1]), np.array([8]), 16, problem_ids=["mgsm-041"], language="sw")
    with pytest.raises(ValueError, match=r"problem p1 \(th\)"):
        coverage_of_allocation(
            {"en": np.ones((2, 3)), "th": np.array([[1, 1], [1, np.nan]])}, {"th": 2}, problem_ids=["p0", "p1"]
        )
    with pytest.raises(ValueError, match=r"budget 5 \(3 for each of 2 languages\) exceeds the 2 candidates"):
        coverage_of_shares({"en": np.ones((1, 3)), "th": np.ones((1, 2))}, 5)
    with pytest.raises(ValueError, match="budget 3 exceeds the 2 candidates"):
        majority(np.array([[0, 1]]), np.array([0]), 3)


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_a_reward_that_is_not_a_number_names_its_candidate(bad):
    with pytest.raises(ValueError, match=r"candidate 1 of problem mgsm-003 \(te\) cannot be ranked"):
        best_of_k(np.array([[0.5, bad]]), np.array([[1.0, 0.0]]), 1, problem_ids=["mgsm-003"], language="te")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: coverage_of_allocation({"en": np.ones((1, 2))}, {"xx": 1}), "names language 'xx'"),
        (lambda: coverage_of_allocation({"en": np.ones((1, 2))}, {"en": 0}), "allocation is empty"),
        (lambda: coverage_of_allocation({"en": np.ones((1, 2))}, {"en": -1}), "gives en -1"),
        (lambda: best_of_k(np.ones((1, 2)), np.ones((1, 2)), 0), "budget 0 is below 1"),
        (lambda: best_of_k(np.ones((1, 2)), np.ones((1, 2))), "either budget"),
        (lambda: best_of_k(np.ones((1, 2)), np.ones((1, 3)), 1), "rewards are"),
        (lambda: coverage(np.array([3]), np.array([2]), 1), "3 correct of 2"),
        (lambda: Contest.of({"en": np.ones((1, 2))}, {"th": np.ones((1, 2))}), "no rewards for th"),
        (lambda: majority_of_shares({"en": np.ones((1, 2))}, np.zeros(1), [1], draws=1), "draws is 1"),
    ],
)
def test_a_wrong_call_says_what_is_expected(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_a_candidate_that_was_set_aside_is_chosen_only_where_no_other_was_drawn():
    rewards, correct = row([-np.inf, 0.2, -5.0]), row([1, 0, 0])
    assert best_of_k(rewards, correct, budgets=[1, 2, 3])[0] == pytest.approx([1 / 3, 0, 0])
    both = {"en": row([-np.inf, 0.3]), "th": row([-np.inf, 0.1])}
    right = {"en": row([1, 0]), "th": row([0, 0])}
    assert best_of_allocation(both, right, {"en": 1, "th": 1})[0] == pytest.approx(1 / 8)  # both set aside: they tie
