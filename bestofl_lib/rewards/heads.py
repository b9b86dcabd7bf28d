"""Logistic regression on fixed features, as pairs, as labelled rows or on shares.

Used for reward heads on frozen backbones and for the text baseline. It knows matrices and groups; it knows nothing of
languages, models or files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
    n = len(chosen)
    stacked, mean, scale = _standardised(np.concatenate([chosen, rejected]), feature_scales)
    if loss == "pairwise":
        x, y, row_groups = stacked[:n] - stacked[n:], np.ones(n), groups
    else:
        x, y, row_groups = stacked, np.repeat([1.0, -1.0], n), np.concatenate([groups, groups])
    fold = _folds(row_groups, folds)

    def in_order(k: int, w: np.ndarray) -> float:
        held = fold[:n] == k
        gap = (stacked[:n][held] - stacked[n:][held]) @ w
        return float((gap > 0).sum() + 0.5 * (gap == 0).sum())

    w, intercept, right = _best_fit(x, y, np.ones(len(x)), fold, strengths, loss == "bce", in_order)
    weights = w / scale
    return LinearHead(weights, intercept - float(weights @ mean), right / n)


def fit_values(
    features: np.ndarray,
    targets: np.ndarray,
    groups: np.ndarray,
    strengths: Sequence[float] = STRENGTHS,
    folds: int = 4,
    feature_scales: np.ndarray | None = None,
) -> LinearHead:
    """Fit the log-odds of shares, such as how often the right answer is reached from a step, by logistic regression.

    Args:
        features: (rows, features).
        targets: (rows,) in [0, 1].
        groups: (rows,) int, the problem of each row.
        strengths, folds, feature_scales: as for `fit_head`.

    Raises:
        ValueError: all targets are 0, or all 1; or features that are not finite.
    """
    if not 0 < float(np.sum(targets)) < len(targets):
        raise ValueError(
            f"all {len(targets):,} steps have the label {targets[0] if len(targets) else 'none'}: there is nothing to "
            "tell apart; label candidates of more problems"
        )
    stacked, mean, scale = _standardised(features, feature_scales)
    # a share is two weighted rows, one of each label
    rows = np.concatenate([np.flatnonzero(targets > 0), np.flatnonzero(targets < 1)])
    y = np.repeat([1.0, -1.0], [(targets > 0).sum(), (targets < 1).sum()])
    shares = np.where(y > 0, targets[rows], 1 - targets[rows])
    fold = _folds(groups, folds)[rows]
    w, intercept, _ = _best_fit(stacked[rows], y, shares, fold, strengths, True, lambda k, w: float("nan"))
    weights = w / scale
    return LinearHead(weights, intercept - float(weights @ mean), float("nan"))


def _standardised(features: np.ndarray, feature_scales: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features as they are fitted, and the mean and scale that lead there."""
    stacked = features.astype(np.float64)
    if not np.isfinite(stacked).all():
        raise ValueError(
            "features of training candidates are not finite; the base model is broken or its dtype too narrow"
        )
    mean, scale = stacked.mean(0), stacked.std(0)
    scale[scale < 1e-8 * max(float(scale.max()), 1e-30)] = np.inf  # a constant feature gets weight 0
    if feature_scales is not None:
        scale = scale / feature_scales
    return (stacked - mean) / scale, mean, scale


def _folds(groups: np.ndarray, folds: int) -> np.ndarray:
    """(rows,) the held-out fold of each row; a group is never split."""
    _, groups = np.unique(groups, return_inverse=True)
    return np.random.default_rng(0).permutation(groups.max() + 1)[groups] % folds


def _best_fit(
    x: np.ndarray,
    y: np.ndarray,
    shares: np.ndarray,
    fold: np.ndarray,
    strengths: Sequence[float],
    with_intercept: bool,
    judge: Callable[[int, np.ndarray], float],
) -> tuple[np.ndarray, float, float]:
    """Weights and intercept at the strength with the least held-out loss, and what `judge` says of the folds at it in
    all (NaN when nothing was held out).
    """
    best, judged = float(strengths[0]), float("nan")
    if len(strengths) > 1 and len(np.unique(fold)) > 1:
        losses, sums = np.zeros(len(strengths)), np.zeros(len(strengths))
        for k in np.unique(fold):
            inside = fold != k
            fits = _fits(x[inside], y[inside], shares[inside], strengths, with_intercept=with_intercept)
            for i, (w, intercept) in enumerate(fits):
                loss = np.logaddexp(0, -y[~inside] * (x[~inside] @ w + intercept))
                losses[i] += loss @ shares[~inside]
                sums[i] += judge(int(k), w)
        i = int(np.argmin(losses))
        best, judged = float(strengths[i]), float(sums[i])
    ((w, intercept),) = _fits(x, y, shares, [best], with_intercept=with_intercept)
    return w, intercept, judged


def _fits(
    x: np.ndarray, y: np.ndarray, shares: np.ndarray, strengths: Sequence[float], *, with_intercept: bool
) -> Iterator[tuple[np.ndarray, float]]:
    """Weights and intercept of the least mean log loss plus strength/2 times the squared weights, for each strength.
    Rows count by their shares.

    The intercept is not penalised. Each fit starts from the last one, so give strengths from strong to weak.
    """
    if not with_intercept:  # differences all have one label; turned around with it, a row changes no loss
        if len(x) == 1:
            x, y, shares = np.repeat(x, 2, axis=0), np.repeat(y, 2), np.repeat(shares, 2)
        turn = np.where(np.arange(len(x)) % 2, -1.0, 1.0)
        x, y = x * turn[:, None], y * turn
    basis = None
    if x.shape[1] > len(x):  # the best weights lie in the span of the rows: fit there, in as many coordinates as rows
        basis, coordinates = np.linalg.qr(x.T)
        x = coordinates.T
    model = LogisticRegression(fit_intercept=with_intercept, warm_start=True, max_iter=500, tol=1e-6)
    for strength in strengths:
        model.set_params(C=1 / (strength * shares.sum())).fit(x, y, sample_weight=shares)
        weights = model.coef_[0].copy() if basis is None else basis @ model.coef_[0]
        yield weights, float(model.intercept_[0]) if with_intercept else 0.0
