"""The 2 × 2 of pool and selector, and its controls, against enumeration of all subsets."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import polars as pl
import pytest

from bestofl_lib.analysis import controls
from bestofl_lib.analysis.arms import arm_values
from bestofl_lib.analysis.base_mixes import BEST_MIX, base_mixes, reach
from bestofl_lib.analysis.contest import Contest
from bestofl_lib.analysis.decomposition import cells_of
from bestofl_lib.analysis.figures import Figures, arm_figures, best_on_other_folds, equal_folds


@pytest.fixture(scope="module")
def arrays(make_arrays):
    return make_arrays(languages=("en", "de"), n_problems=12, n=3, quality={"mono": 1, "cross": 1, "multi": 1})


def slow_best(rewards, correct, draws):
    """Mean over draws (lists of candidates) of the share correct among the best rewarded."""
    shares = []
    for draw in draws:
        top = max(rewards[c] for c in draw)
        best = [correct[c] for c in draw if rewards[c] == top]
        shares.append(sum(best) / len(best))
    return np.mean(shares)


def mixed_draws(k):
    """All draws of k over two languages with equal shares: leftovers go to either language."""
    options = [(k // 2, k - k // 2), (k - k // 2, k // 2)]
    for i, (a, b) in enumerate(options if k % 2 else options[:1]):
        del i
        for x, y in product(combinations(range(3), a), combinations(range(3), b)):
            yield [("en", c) for c in x] + [("de", c) for c in y]


def candidates(arrays, rewards, problem):
    keys = [(code, i) for code in arrays.languages for i in range(3)]
    return {k: rewards[k[0]][problem, k[1]] for k in keys}, {k: arrays.is_correct[k[0]][problem, k[1]] for k in keys}


@pytest.mark.parametrize("k", [1, 2, 3])
def test_every_cell_equals_enumeration(arrays, k):
    cells = cells_of(arrays, arrays.languages, k)
    for model, own, mixed in (
        ("mono", cells.own_mono, cells.mixed_mono),
        ("cross", cells.own_cross, cells.mixed_cross),
    ):
        rewards = arrays.reward(model, arrays.languages)
        for problem in range(arrays.n_problems):
            reward, correct = candidates(arrays, rewards, problem)
            want = slow_best(reward, correct, mixed_draws(k))
            assert mixed.of_problems[problem, 0] == pytest.approx(want, abs=1e-12)
            for column, code in enumerate(arrays.languages):
                draws = [[(code, i) for i in c] for c in combinations(range(3), k)]
                want = slow_best(reward, correct, draws)
                assert own.of_problems[problem, column] == pytest.approx(want, abs=1e-12)


def test_refitted_rewards_equal_enumeration_and_use_other_folds_only(arrays):
    fold = equal_folds(arrays.n_problems)
    cross = arrays.reward("cross", arrays.languages)
    got = controls._refitted(arrays, 2, "cross", controls.without_language_means, fold).of_problems[:, 0]
    for problem in range(arrays.n_problems):
        inside = fold != fold[problem]
        moved = {code: cross[code] - cross[code][inside].mean() for code in arrays.languages}
        reward, correct = candidates(arrays, moved, problem)
        assert got[problem] == pytest.approx(slow_best(reward, correct, mixed_draws(2)), abs=1e-12)
    got = controls._refitted(arrays, 2, "cross", controls.language_prior, fold).of_problems[:, 0]
    for problem in range(arrays.n_problems):
        inside = fold != fold[problem]
        share = {code: arrays.is_correct[code][inside].mean() for code in arrays.languages}
        reward, correct = candidates(arrays, {c: np.full((12, 3), s) for c, s in share.items()}, problem)
        assert got[problem] == pytest.approx(slow_best(reward, correct, mixed_draws(2)), abs=1e-12)


def test_fitted_intercepts_undo_an_offset_between_languages(make_arrays):
    settings = {"languages": ("en", "de"), "n_problems": 150, "n": 4, "quality": {"mono": 1, "cross": 1, "multi": 3}}
    plain = make_arrays(**settings)
    shifted = make_arrays(**settings, shift={"multi": {"de": 20.0}})
    fold = equal_folds(150)
    fair = controls._refitted(plain, 4, "multi", controls.with_intercepts, fold).of_problems.mean()
    mended = controls._refitted(shifted, 4, "multi", controls.with_intercepts, fold).of_problems.mean()
    broken = arm_figures(shifted, "mixed", "best_of_k", "multi", [4]).of_problems.mean()
    assert mended == pytest.approx(fair, abs=0.01)
    assert broken < fair - 0.03


def test_the_controls_hold_every_arm_once_per_language_and_for_the_mean(arrays):
    cells = cells_of(arrays, arrays.languages, 2)
    table = controls.control_table(arrays, cells, replicates=200)
    mean = table.filter(pl.col("language").is_null())
    assert len(table) == 3 * len(mean)
    accuracy = dict(mean.select(pl.format("{}, {}", "pool", "selector"), "accuracy").iter_rows())
    assert accuracy["own, mono"] == pytest.approx(cells.own_mono.of_problems.mean())
    assert accuracy["en, one draw"] == pytest.approx(np.mean(arrays.is_correct["en"]))
    assert mean["gain"].to_list() == pytest.approx(mean["accuracy"] - accuracy["own, mono"])
    assert set(table.filter(pl.col("fitted"))["selector"]) == {
        "multi with intercepts", "cross without language means", "language prior", "best way",
    }  # fmt: skip


def test_what_is_chosen_on_other_folds_is_judged_on_problems_it_was_not_chosen_on():
    fold = np.array([0, 0, 1, 1])
    lucky = Figures(np.array([[[1.0], [1.0], [0.0], [0.0]]]))  # best on fold 0, worst on fold 1
    steady = Figures(np.full((1, 4, 1), 0.4))
    found, chosen = best_on_other_folds({"lucky": lucky, "steady": steady}, fold)
    assert chosen == [["steady"], ["lucky"]]
    assert found.of_problems[:, 0].tolist() == [0.4, 0.4, 0.0, 0.0]


def test_mixes_hold_the_base_language_and_half_of_it_equals_enumeration(make_arrays):
    arrays = make_arrays(languages=("en", "de", "th"), n_problems=8, n=3, quality={"mono": 1, "cross": 1})
    assert reach(arrays) == 3
    found = base_mixes(arrays, [2, 3])
    assert set(found.mixes) == {"en+de", "en+th", "half-en", "planned", "best pair", BEST_MIX}
    assert set(found.ways) == {"majority", "logprob", "arithmetic", "mono", "cross"}
    rewards = arrays.reward("cross", arrays.languages)
    for problem in range(arrays.n_problems):
        reward, correct = candidates(arrays, rewards, problem)
        for column, (own, other) in enumerate([(1, 1), (2, 1)]):
            draws = [
                [("en", i) for i in a] + [(code, j)]
                for a in combinations(range(3), own) for code in ("de", "th") for j in range(3)
            ]  # fmt: skip
            del other
            want = slow_best(reward, correct, draws)
            assert found.mixes["half-en"].of_problems[problem, column] == pytest.approx(want, abs=1e-12)


def test_controls_are_fitted_on_problems_outside_where_they_have_the_rewards(make_arrays):
    """The judged problems would make "de" the best language; the ones outside say "en"."""
    low, high = np.full(30, 0.2), np.full(30, 0.9)
    how = {"languages": ("en", "de"), "n_problems": 30, "n": 4}
    judged = make_arrays(**how, rates={"en": low, "de": high}, quality={"mono": 1, "cross": 1, "multi": 1})
    outside = make_arrays(**how, rates={"en": high, "de": low}, quality={"mono": 1, "cross": 1, "multi": 1}, seed=5)
    bare = make_arrays(**how, rates={"en": high, "de": low}, seed=5)  # as training problems are: without rewards
    cells = cells_of(judged, ("en", "de"), 2)

    def accuracy(outside, selector):
        table = controls.control_table(judged, cells, replicates=200, outside=outside)
        return table.filter(pl.col("language").is_null(), pl.col("selector") == selector)["accuracy"].item()

    assert accuracy(None, "language prior") == pytest.approx(judged.is_correct["de"].mean())
    for known in (outside, bare):
        assert accuracy(known, "language prior") == pytest.approx(judged.is_correct["en"].mean())
    means = {code: outside.rewards["cross"][code].mean() for code in ("en", "de")}
    moved = {code: judged.rewards["cross"][code] - means[code] for code in means}
    want = Contest.of(moved, judged.is_correct).shares([2]).mean()
    assert accuracy(outside, "cross without language means") == pytest.approx(want, abs=1e-12)
    for selector in ("cross without language means", "multi with intercepts"):
        assert accuracy(bare, selector) == accuracy(None, selector)  # no rewards there: other folds
        assert accuracy(outside, selector) != accuracy(None, selector)


def test_a_majority_over_half_english_agrees_with_enumeration_within_its_own_error(make_arrays):
    arrays = make_arrays(languages=("en", "de", "th"), n_problems=10, n=4, wrong_answers=2)
    got = arm_values(arrays, "half-en", "majority", budgets=[2, 3, 4, 5], draws=3000)
    for column, k in enumerate([2, 3, 4, 5]):
        own, others = (k + 1) // 2, k // 2
        extra = [("de",), ("th",)] if others % 2 else [()]
        want = []
        for problem in range(arrays.n_problems):
            shares = []
            for more in extra:
                each = {"en": own} | {code: others // 2 + (code in more) for code in ("de", "th")}
                hands = [combinations([int(a) for a in arrays.answers[c][problem]], n) for c, n in each.items()]
                shares += [majority_share([a for hand in draw for a in hand if a >= 0]) for draw in product(*hands)]
            want.append(np.mean(shares))
        assert abs(got.accuracy[:, column].mean() - np.mean(want)) <= 4.5 * got.mc_error[column] + 1e-12
        assert np.abs(got.accuracy[:, column] - want).max() < 0.05
    assert (got.mc_error > 0).all()


def majority_share(votes):
    """Share of the win that answer 0 has among these votes."""
    most = max((votes.count(answer) for answer in votes), default=0)
    winners = {answer for answer in votes if votes.count(answer) == most}
    return 1 / len(winners) if 0 in winners else 0.0
