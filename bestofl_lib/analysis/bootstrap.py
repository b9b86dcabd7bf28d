"""The one bootstrap: what resampling problems and training seeds does to means over problems.

Per-problem values were computed once; a replicate is a reweighting of problems, so all replicates of all figures are
one matrix product. Two constructions are combined, because each fails where the other works:

* **BCa** (bias-corrected and accelerated, Efron 1987), expanded for few problems (Hesterberg 2015: the t quantile times
  sqrt(n / (n − 1)) in place of the normal one). The weights of a replicate are not counts but gamma variables with the
  same first three moments: counts put accuracies near 0.98 on a lattice of a few values, where quantiles jump.
* **An unseen problem at the bound** (Gaffke 2005): exponential weights over the problems and one more, imagined at the
  worst value, with half the weight of a seen one. For values 0 and 1 and full weight this is the Clopper–Pearson
  interval. Near a ceiling, or where few problems differ, the sample holds few or none of the rare values that decide
  the mean; BCa then covers as little as 49 to 88 % of the truth, and this construction does not.

The interval reaches to the outer end of the two, and the p-value is the larger of the two. Chosen by simulation over
values of the kind that is reported: `python -m bestofl_lib.analysis.interval_check`.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import ndtr, ndtri, stdtr, stdtrit

Array = np.ndarray

LEVEL = 0.95
REPLICATES = 2000
# for the quality of rewards: many models and languages, where a tenth of a point does not matter
QUICK_REPLICATES = 1000
UNSEEN = 0.5  # weight of the imagined problem; 1: Clopper–Pearson where values are 0 and 1
MANY = 40  # with more problems that differ, the imagined one lies nearer in proportion: none decides the mean any more
FEW = 8  # with fewer problems that differ, the imagined one may lie at the bounds, not only as far out as those seen
_BLOCK = 1_000_000  # replicate values held at once, by each thread
THREADS = min(os.cpu_count() or 1, 4)


@dataclass(frozen=True)
class Resampled:
    """Interval and p-value of each figure's mean, each (figures,)."""

    low: Array
    high: Array
    p: Array  # two-sided, against `null`; at least 1 / replicates


def resampled(
    table: Array,
    level: float,
    replicates: int,
    seed: int,
    bounds: tuple[float, float],
    null: float = 0.0,
    natural: bool = True,
    of_seeds: Array | None = None,
) -> Resampled:
    """Interval and p-value of means over problems.

    Args:
        table: (problems, figures) float.
        level: nominal coverage.
        replicates: resamplings.
        seed: the same seed resamples alike, so that figures can be compared.
        bounds: the least and the largest value a problem can have.
        null: the mean that the p-value is about.
        natural: whether values reach the bounds as a matter of course (accuracies do, differences do not): then the
            unseen problem always lies there; else only as far out as the problems seen, unless few of them differ.
        of_seeds: (seeds, figures) mean over problems per training seed; their spread enters with a t distribution,
            since few seeds say little about their own spread.
    """
    tail = (1 - level) / 2
    size = max(1, _BLOCK // replicates)

    def of_block(start: int) -> Resampled:
        block = table[:, start : start + size]
        trained = None if of_seeds is None else of_seeds[:, start : start + size]
        shift = _seed_shifts(trained, replicates, seed)
        bca = _bca(block, tail, replicates, seed, bounds, null, shift)
        unseen = _unseen(block, tail, replicates, seed, bounds, null, natural, shift)
        low, high = np.minimum(bca.low, unseen.low), np.maximum(bca.high, unseen.high)
        return Resampled(np.clip(low, *bounds), np.clip(high, *bounds), np.maximum(bca.p, unseen.p))

    first, *others = range(0, max(table.shape[1], 1), size)
    parts = [of_block(first)]  # makes the weights
    if others:
        with ThreadPoolExecutor(THREADS) as pool:
            parts += pool.map(of_block, others)
    return Resampled(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("low", "high", "p")))


def effective_number(table: Array, middle: Array | float = 0.0) -> Array:
    """(figures,) how many problems differ from the middle, weighted by the size of the difference: (Σ|d|)² / Σd².

    >>> effective_number(np.array([[1.0], [1.0], [0.0], [0.01]])).round(2)
    array([2.02])
    """
    away = np.abs(table - middle)
    return away.sum(0) ** 2 / np.maximum((away**2).sum(0), 1e-300)


@lru_cache(maxsize=8)
def resampling_weights(n_problems: int, replicates: int = REPLICATES, seed: int = 0) -> Array:
    """(replicates, n_problems) weights that sum to 1: each row is one smooth resampling of problems.

    Gamma variables of shape 4, standardised: mean 1, variance 1 and third moment 1 like the counts of a resampling with
    replacement, but continuous. Single weights can be negative; only means are built from them. Below 30 problems the
    weights are exponential (Rubin's Bayesian bootstrap), so that their sum is never near 0.

    Raises:
        ValueError: no problems, or fewer than 100 replicates.
    """
    _check(n_problems, replicates)
    rng = np.random.default_rng(seed)
    shape = 4.0 if n_problems >= 30 else 1.0  # few problems: exponential weights, so that no sum comes near 0
    weights = (rng.standard_gamma(shape, size=(replicates, n_problems)) - shape) / np.sqrt(shape) + 1
    weights /= weights.sum(1, keepdims=True)
    weights.setflags(write=False)
    return weights


@lru_cache(maxsize=8)
def _unseen_weights(n_problems: int, replicates: int, seed: int) -> tuple[Array, Array]:
    """Exponential weights of the problems seen and (replicates, 1) of the unseen one; each row sums to 1."""
    _check(n_problems, replicates)
    rng = np.random.default_rng([seed, 1])
    seen = rng.standard_exponential((replicates, n_problems))
    more = rng.standard_gamma(UNSEEN, (replicates, 1))
    total = seen.sum(1, keepdims=True) + more
    return seen / total, more / total


def _check(n_problems: int, replicates: int) -> None:
    if n_problems < 1:
        raise ValueError("no problems to resample; the table is empty")
    if replicates < 100:
        raise ValueError(f"{replicates} replicates are too few for an interval; use 2,000")


def _seed_shifts(of_seeds: Array | None, replicates: int, seed: int) -> Array:
    """(figures, replicates) what other training seeds would add to the mean; 0 where there is one seed."""
    if of_seeds is None or len(of_seeds) < 2:
        return np.zeros((1, 1))
    error = of_seeds.std(0, ddof=1) / np.sqrt(len(of_seeds))
    return error[:, None] * np.random.default_rng([seed, 2]).standard_t(len(of_seeds) - 1, (1, replicates))


def _bca(
    block: Array, tail: float, replicates: int, seed: int, bounds: tuple[float, float], null: float, shift: Array
) -> Resampled:
    n = len(block)
    expansion = np.sqrt(n / max(n - 1, 1))
    centre = block.mean(0)
    away = block - centre
    square = (away**2).sum(0)
    varied = square > 1e-20 * n
    with np.errstate(invalid="ignore", divide="ignore"):
        skew = np.where(varied, (away**3).sum(0) / (6 * square**1.5), 0.0)
    means = np.ascontiguousarray((resampling_weights(n, replicates, seed) @ away).T)  # (figures, replicates), centred
    means[np.abs(means) < 1e-13] = 0.0
    means = means + shift
    bias = _z(means, 0.0)
    means.sort(1)
    ends = []
    for share, sign in ((tail, -1), (1 - tail, 1)):
        z = bias + expansion * stdtrit(max(n - 1, 1), share)
        at = ndtr(bias + z / _floor(1 - skew * z)) * (replicates - 1)
        lower = np.clip(np.floor(at), 0, replicates - 1).astype(int)
        upper = np.minimum(lower + 1, replicates - 1)
        rows = np.arange(len(means))
        value = centre + means[rows, lower] + (at - lower) * (means[rows, upper] - means[rows, lower])
        reach = (1 - tail ** (1 / n)) * (bounds[0] - centre if sign < 0 else bounds[1] - centre)
        ends.append(np.where(varied, value, centre + reach))
    w = _z(means, (null - centre)[:, None]) - bias
    z = w / _floor(1 + skew * w) - bias
    p = np.clip(2 * stdtr(max(n - 1, 1), -np.abs(z) / expansion), 1 / replicates, 1.0)
    reach = (1 - tail ** (1 / n)) * np.where(centre > null, centre - bounds[0], bounds[1] - centre)
    flat = np.where(np.abs(centre - null) > reach, 2 * tail, 1.0)  # equal everywhere: excluded, or not
    return Resampled(ends[0], ends[1], np.where(varied, p, flat))


def _unseen(
    block: Array,
    tail: float,
    replicates: int,
    seed: int,
    bounds: tuple[float, float],
    null: float,
    natural: bool,
    shift: Array,
) -> Resampled:
    seen, more = _unseen_weights(len(block), replicates, seed)
    means = np.ascontiguousarray((seen @ block).T) + shift  # (figures, replicates)
    lowest, highest = np.full(block.shape[1], bounds[0]), np.full(block.shape[1], bounds[1])
    if not natural:
        middle = np.median(block, 0)
        reach = np.abs(block - middle).max(0)
        effective = effective_number(block, middle)
        reach *= np.minimum(1, MANY / np.maximum(effective, 1))
        many = effective >= FEW
        lowest = np.where(many, np.maximum(middle - reach, lowest), lowest)
        highest = np.where(many, np.minimum(middle + reach, highest), highest)
    below, above = means + lowest[:, None] * more.T, means + highest[:, None] * more.T
    p = 2 * np.minimum((below <= null + 1e-13).mean(1), (above >= null - 1e-13).mean(1))
    at = [round(tail * (replicates - 1)), round((1 - tail) * (replicates - 1))]
    low = np.partition(below, at[0], axis=1)[:, at[0]]
    high = np.partition(above, at[1], axis=1)[:, at[1]]
    return Resampled(low, high, np.clip(p, 1 / replicates, 1.0))


def _z(means: Array, at: float | Array) -> Array:
    """Normal score of the share of replicates below a value; ties count half, never 0 or 1."""
    replicates = means.shape[1]
    share = ((means < at).sum(1) + 0.5 * (means == at).sum(1)) / replicates
    return ndtri(np.clip(share, 0.5 / replicates, 1 - 0.5 / replicates))


def _floor(x: Array) -> Array:
    return np.maximum(x, 1e-3)
