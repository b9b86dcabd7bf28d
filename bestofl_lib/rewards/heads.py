"""Logistic regression on fixed features, as pairs or as labelled rows.

Used for reward heads on frozen backbones and for the text baseline. It knows matrices and groups; it knows nothing of
languages, models or files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression

STRENGTHS = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)


@dataclass(frozen=True)
class LinearHead:
    """A linear reward: `features @ weights + offset`, on features as they come (no standardisation left to do)."""

    weights: np.ndarray  # (features,) float64
    offset: float  # added to every reward; moves no choice
    held_out_accuracy: float  # share of held-out pairs in the right order; NaN when nothing was held out

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
    feature_scales: np.ndarray | None = None,
) -> LinearHead:
    """Fit a linear reward on pairs; the L2 strength is the one that does best on held-out problems.

    Features are standardised before the fit and the standardisation is folded into the returned weights.

    Args:
        chosen: (pairs, features) of the correct candidates.
        rejected: (pairs, features) of the wrong ones.
        groups: (pairs,) int, the problem of each pair; a problem is never split between fit and held-out.
        loss: "pairwise" (Bradley-Terry) or "bce" (each pair is two labelled rows).
        strengths: L2 strengths to try, in units of standardised features and mean loss; one value: nothing is held out.
        folds: held-out folds for the choice of strength; fewer if there are fewer problems.
        feature_scales: (features,) standard deviation that each feature is given in the fit; a smaller one is penalised
            more. None: all 1.

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
    if feature_scales is not None:
        scale = scale / feature_scales
    stacked = (stacked - mean) / scale
    n = len(chosen)
    if loss == "pairwise":
        x, y = stacked[:n] - stacked[n:], np.ones(n)
        row_groups = groups
    else:
        x, y = stacked, np.repeat([1.0, -1.0], n)
        row_groups = np.concatenate([groups, groups])
    _, row_groups = np.unique(row_groups, return_inverse=True)
    fold = np.random.default_rng(0).permutation(row_groups.max() + 1)[row_groups] % folds

    best, held_accuracy = float(strengths[0]), float("nan")
    if len(strengths) > 1 and len(np.unique(fold)) > 1:
        losses = np.zeros(len(strengths))
        right = np.zeros(len(strengths))
        for k in np.unique(fold):
            inside = fold != k
            held = ~inside[:n]
            gaps = stacked[:n][held] - stacked[n:][held]
            for i, (w, intercept) in enumerate(_fits(x[inside], y[inside], strengths, with_intercept=loss == "bce")):
                losses[i] += np.logaddexp(0, -y[~inside] * (x[~inside] @ w + intercept)).sum()
                gap = gaps @ w
                right[i] += (gap > 0).sum() + 0.5 * (gap == 0).sum()
        i = int(np.argmin(losses))
        best, held_accuracy = float(strengths[i]), right[i] / n
    ((w, intercept),) = _fits(x, y, [best], with_intercept=loss == "bce")
    weights = w / scale
    return LinearHead(weights, intercept - float(weights @ mean), float(held_accuracy))


def _fits(
    x: np.ndarray, y: np.ndarray, strengths: Sequence[float], *, with_intercept: bool
) -> Iterator[tuple[np.ndarray, float]]:
    """Weights and intercept of the least mean log loss plus strength/2 times the squared weights, for each strength.

    The intercept is not penalised. Each fit starts from the last one, so give strengths from strong to weak.
    """
    if not with_intercept:  # differences all have one label; turned around with it, a row changes no loss
        x, y = (np.repeat(x, 2, axis=0), np.repeat(y, 2)) if len(x) == 1 else (x, y)
        turn = np.where(np.arange(len(x)) % 2, -1.0, 1.0)
        x, y = x * turn[:, None], y * turn
    basis = None
    if x.shape[1] > len(x):  # the best weights lie in the span of the rows: fit there, in as many coordinates as rows
        basis, coordinates = np.linalg.qr(x.T)
        x = coordinates.T
    model = LogisticRegression(fit_intercept=with_intercept, warm_start=True, max_iter=500, tol=1e-6)
    for strength in strengths:
        model.set_params(C=1 / (strength * len(x))).fit(x, y)
        weights = model.coef_[0].copy() if basis is None else basis @ model.coef_[0]
        yield weights, float(model.intercept_[0]) if with_intercept else 0.0
