"""Logistic regression on fixed features, as pairs or as labelled rows.

Used for reward heads on frozen backbones and for the text-only baseline. It knows matrices and groups;
it knows nothing of languages, models or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

STRENGTHS = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)


@dataclass(frozen=True)
class LinearHead:
    """A linear reward: `features @ weights + offset`, on features as they come (no standardisation left to do)."""

    weights: np.ndarray  # (features,) float64
    offset: float  # added to every reward; moves no choice
    l2: float  # strength that was used
    held_out_loss: float  # mean log loss on held-out problems at that strength; NaN when nothing was held out
    held_out_accuracy: float  # share of held-out pairs in the right order; NaN likewise

    def rewards(self, features: np.ndarray) -> np.ndarray:
        """(rows, features) -> (rows,) float64."""
        return features.astype(np.float64) @ self.weights + self.offset


def fit_head(
    chosen: np.ndarray,
    rejected: np.ndarray,
    groups: np.ndarray,
    loss: str,
    strengths: Sequence[float] = STRENGTHS,
    folds: int = 4,
    trust: np.ndarray | None = None,
) -> LinearHead:
    """Fit a linear reward on pairs; the L2 strength is the one that does best on held-out problems.

    Features are standardised before the fit and the standardisation is folded into the returned weights.

    Args:
        chosen: (pairs, features) of the correct candidates.
        rejected: (pairs, features) of the wrong ones.
        groups: (pairs,) int, the problem of each pair; a problem is never split between fit and held-out.
        loss: "pairwise" (Bradley-Terry) or "bce" (each pair is two labelled rows).
        strengths: L2 strengths to try, in units of standardised features and mean loss; one value: nothing is held out.
        trust: (features,) how large each standardised feature stands in the fit; a smaller number is penalised more.
            None: all 1.
        folds: held-out folds for the choice of strength; fewer when there are fewer problems.

    Raises:
        ValueError: an unknown loss, no pairs, or features that are not finite.
    """
    if loss not in ("pairwise", "bce"):
        raise ValueError(f"unknown loss {loss!r}; use 'pairwise' or 'bce'")
    if len(chosen) == 0:
        raise ValueError("no training pairs; draw candidates of which some are correct and some are wrong")
    stacked = np.concatenate([chosen, rejected]).astype(np.float64)
    if not np.isfinite(stacked).all():
        raise ValueError(
            "features of training candidates are not finite; the base model is broken or its dtype too narrow"
        )
    mean, scale = stacked.mean(0), stacked.std(0)
    scale[scale < 1e-8 * max(float(scale.max()), 1e-30)] = np.inf  # a constant feature gets weight 0
    if trust is not None:
        scale = scale / trust
    stacked = (stacked - mean) / scale
    n = len(chosen)
    if loss == "pairwise":
        x, y = stacked[:n] - stacked[n:], np.ones(n)
        row_groups = groups
    else:
        x, y = np.hstack([stacked, np.ones((2 * n, 1))]), np.repeat([1.0, -1.0], n)
        row_groups = np.concatenate([groups, groups])
    free = 1 if loss == "bce" else 0  # the last column is an intercept and is not penalised
    _, row_groups = np.unique(row_groups, return_inverse=True)
    fold = np.random.default_rng(0).permutation(row_groups.max() + 1)[row_groups] % folds

    best, held_loss, held_accuracy = float(strengths[0]), float("nan"), float("nan")
    if len(strengths) > 1 and len(np.unique(fold)) > 1:
        losses = np.zeros(len(strengths))
        right = np.zeros(len(strengths))
        for k in np.unique(fold):
            inside, w = fold != k, None
            for i, strength in enumerate(strengths):  # from strong to weak, each starting from the last
                w = _minimise(x[inside], y[inside], strength, free, w)
                losses[i] += np.logaddexp(0, -y[~inside] * (x[~inside] @ w)).sum()
                held = ~inside[:n]
                gap = (stacked[:n][held] - stacked[n:][held]) @ w[: len(mean)]
                right[i] += (gap > 0).sum() + 0.5 * (gap == 0).sum()
        i = int(np.argmin(losses))
        best, held_loss, held_accuracy = float(strengths[i]), losses[i] / len(x), right[i] / n
    w = _minimise(x, y, best, free, None)
    weights = w[: len(mean)] / scale
    offset = float(w[-1] if free else 0.0) - float(weights @ mean)
    return LinearHead(weights, offset, best, float(held_loss), float(held_accuracy))


def _minimise(x: np.ndarray, y: np.ndarray, l2: float, free: int, start: np.ndarray | None) -> np.ndarray:
    """Weights of the least mean log loss plus l2/2 times their square; the last `free` ones are not penalised."""
    n, d = x.shape
    penalised = np.ones(d)
    if free:
        penalised[-free:] = 0

    def objective(w: np.ndarray) -> tuple[float, np.ndarray]:
        margin = y * (x @ w)
        value = np.logaddexp(0, -margin).mean() + 0.5 * l2 * float((penalised * w) @ w)
        return value, -(x.T @ (y * expit(-margin))) / n + l2 * penalised * w

    result = minimize(objective, np.zeros(d) if start is None else start, jac=True, method="L-BFGS-B",
                      options={"maxiter": 500, "gtol": 1e-6})  # fmt: skip
    return result.x
