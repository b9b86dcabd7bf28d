"""The linear reward: finds what there is, in the units it was given."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from bestofl_lib.rewards.heads import fit_head


def _pairs(n: int = 400, d: int = 8, seed: int = 0):
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=d)
    x = rng.normal(size=(2, n, d)) * np.logspace(-2, 2, d) + 50
    gap = ((x[0] - x[1]) / np.logspace(-2, 2, d)) @ truth
    swap = rng.random(n) > 1 / (1 + np.exp(-3 * gap))
    chosen, rejected = np.where(swap[:, None], x[1], x[0]), np.where(swap[:, None], x[0], x[1])
    return chosen, rejected, np.arange(n) // 4


@pytest.mark.parametrize("loss", ["pairwise", "bce"])
def test_a_planted_direction_is_found_whatever_the_scale_of_features(loss):
    chosen, rejected, groups = _pairs()
    head = fit_head(chosen[:300], rejected[:300], groups[:300], loss)
    right = (head.rewards(chosen[300:]) > head.rewards(rejected[300:])).mean()
    assert right > 0.85
    assert abs(head.held_out_accuracy - right) < 0.15


def test_noise_gets_the_strongest_penalty_and_a_held_out_accuracy_near_chance():
    rng = np.random.default_rng(0)
    pairs = rng.normal(size=(200, 50)), rng.normal(size=(200, 50)), np.arange(200)
    head = fit_head(*pairs, "pairwise")
    weak = fit_head(*pairs, "pairwise", strengths=[1.0])
    assert np.linalg.norm(head.weights) <= np.linalg.norm(weak.weights)
    assert 0.35 < head.held_out_accuracy < 0.65


def test_a_feature_that_never_changes_has_weight_zero():
    chosen, rejected, groups = _pairs()
    chosen[:, 2] = rejected[:, 2] = 7.0
    assert fit_head(chosen, rejected, groups, "pairwise").weights[2] == 0


def test_bce_rewards_are_log_odds():
    chosen, rejected, groups = _pairs(2000)
    head = fit_head(chosen, rejected, groups, "bce")
    rewards = np.concatenate([head.rewards(chosen), head.rewards(rejected)])
    right = np.repeat([1.0, 0.0], len(chosen))
    sure = rewards > 1
    assert abs((1 / (1 + np.exp(-rewards[sure]))).mean() - right[sure].mean()) < 0.05


def test_bad_input_is_named():
    chosen, rejected, groups = _pairs(10)
    with pytest.raises(ValueError, match="unknown loss 'hinge'; use 'pairwise' or 'bce'"):
        fit_head(chosen, rejected, groups, "hinge")
    with pytest.raises(ValueError, match="no training pairs"):
        fit_head(chosen[:0], rejected[:0], groups[:0], "bce")
    chosen[0, 0] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        fit_head(chosen, rejected, groups, "bce")


@pytest.mark.parametrize("loss", ["pairwise", "bce"])
@pytest.mark.parametrize("pairs", [1, 10, 60])
def test_weights_are_those_of_a_slow_minimiser_with_more_and_with_fewer_pairs_than_features(loss, pairs):
    chosen, rejected, groups = _pairs(pairs, d=20)
    head = fit_head(chosen, rejected, groups, loss, strengths=[0.1])
    both = np.concatenate([chosen, rejected])
    scale = both.std(0)
    rows = (chosen - rejected) / scale if loss == "pairwise" else (both - both.mean(0)) / scale
    labels = np.ones(pairs) if loss == "pairwise" else np.repeat([1.0, -1.0], pairs)

    def objective(w: np.ndarray) -> float:
        intercept = w[-1] if loss == "bce" else 0.0
        return np.logaddexp(0, -labels * (rows @ w[:-1] + intercept)).mean() + 0.05 * w[:-1] @ w[:-1]

    slow = minimize(objective, np.zeros(21), method="BFGS", options={"gtol": 1e-8}).x[:-1]
    assert np.abs(head.weights * scale - slow).max() < 1e-4 * max(1, np.abs(slow).max())
