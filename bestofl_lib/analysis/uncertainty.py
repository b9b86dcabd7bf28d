"""How sure is a figure that was measured on these problems? Intervals, paired tests, Holm, break-even budgets.

Everything works on per-problem values that were computed once: a bootstrap replicate is a reweighting of problems, so
all replicates of all figures are one matrix product. This file is numpy alone and knows nothing of tables.

Intervals are BCa (bias-corrected and accelerated) bootstraps over problems, expanded for few problems (Hesterberg
2015: the t quantile times sqrt(n / (n − 1)) in place of the normal one). The weights of a replicate are not counts but
gamma variables with the same first three moments: counts put accuracies near 0.98 on a lattice of a few values, where
quantiles jump. Chosen by simulation at 250 problems (tests/analysis/test_uncertainty.py repeats it): t intervals fell
to 87 to 92 % near 0.98, the studentised bootstrap was at 97.9 % there and breaks where a replicate has no variation.
The paired p-value is the BCa interval turned around (the largest level whose interval still holds 0), so interval and
test never contradict each other. Its weak spot: where two strategies differ by a whole 0/1 on fewer than about 20
problems and agree elsewhere, a nominal 5 % test rejects a true null in up to 7 %.

A sample without any variation (all problems solved, or two strategies equal everywhere) has no bootstrap spread; the
interval then follows from what n equal values cannot exclude: a share of 1 − (α/2)^(1/n) of problems may behave
differently, anywhere within `bounds`. One problem is the extreme case: its interval is nearly all of `bounds`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri, stdtr, stdtrit

Array = np.ndarray

LEVEL = 0.95
REPLICATES = 2000
POWER = 0.8
_BLOCK = 4_000_000  # replicate values held at once


class Interval(NamedTuple):
    """A mean over problems and its interval, each () or (figures,)."""

    estimate: Array
    low: Array
    high: Array


class Difference(NamedTuple):
    """A paired difference of two means over the same problems, each () or (figures,)."""

    effect: Array
    low: Array
    high: Array
    p: Array  # two-sided; at least 1 / replicates
    mde: Array  # minimum detectable effect at 80 % power and 5 % level


@lru_cache(maxsize=8)
def resampling_weights(n_problems: int, replicates: int = REPLICATES, seed: int = 0) -> Array:
    """(replicates, n_problems) weights that sum to 1: each row is one smooth resampling of problems.

    Gamma variables of shape 4, standardised: mean 1, variance 1 and third moment 1 like the counts of a resampling with
    replacement, but continuous. Single weights can be negative; only means are built from them. Below 30 problems the
    weights are exponential (Rubin's Bayesian bootstrap), so that their sum is never near 0.
    """
    if n_problems < 1:
        raise ValueError("no problems to resample; the table is empty")
    if replicates < 100:
        raise ValueError(f"{replicates} replicates are too few for an interval; use 2,000")
    rng = np.random.default_rng(seed)
    shape = 4.0 if n_problems >= 30 else 1.0  # few problems: exponential weights, so that no sum comes near 0
    weights = (rng.standard_gamma(shape, size=(replicates, n_problems)) - shape) / np.sqrt(shape) + 1
    weights /= weights.sum(1, keepdims=True)
    weights.setflags(write=False)
    return weights


def mean_interval(
    values: Array,
    level: float = LEVEL,
    replicates: int = REPLICATES,
    seed: int = 0,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Interval:
    """BCa interval of a mean over problems.

    Args:
        values: (problems,) or (problems, figures) float; figures are independent columns, such as budgets.
        level: nominal coverage.
        replicates: resamplings of problems.
        bounds: the least and the largest value a problem can have; used for samples without variation.

    Returns:
        Interval of () or (figures,).
    """
    table, single = _columns(values)
    low, high, _ = _bca(table, level, replicates, seed, bounds, null=None)
    return _squeeze(Interval(table.mean(0), low, high), single)


def paired_difference(
    first: Array,
    second: Array,
    level: float = LEVEL,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Difference:
    """Mean of first − second over the same problems, with BCa interval, two-sided p-value and detectable effect.

    Where only m problems differ, flipping their signs gives no p below 2^(1 − m); nor does this. Where that exceeds
    1 − level, the interval also holds what as many equal values cannot exclude (see the top of this file): a handful of
    problems neither proves nor rules out anything.

    Args:
        first, second: (problems,) or (problems, figures) values of the same problems in the same order, in [0, 1].

    Returns:
        Difference of () or (figures,).
    """
    first, second = np.asarray(first, float), np.asarray(second, float)
    if first.shape != second.shape:
        raise ValueError(f"paired values differ in shape, {first.shape} and {second.shape}; align them by problem")
    table, single = _columns(first - second)
    low, high, p = _bca(table, level, replicates, seed, (-1.0, 1.0), null=0.0)
    n_differing = (np.abs(table) > 1e-12).sum(0)
    p = np.maximum(p, np.minimum(2.0 ** (1 - n_differing), 1.0))
    few, reach = 2.0 ** (1 - n_differing) > 1 - level, 1 - ((1 - level) / 2) ** (1 / len(table))
    low, high = np.where(few, np.minimum(low, -reach), low), np.where(few, np.maximum(high, reach), high)
    return _squeeze(Difference(table.mean(0), low, high, p, minimum_detectable_effect(table)), single)


def minimum_detectable_effect(differences: Array, level: float = LEVEL, power: float = POWER, tests: int = 1) -> Array:
    """Smallest true mean difference that a test of this many problems finds with chance `power`.

    (z of level/tests + z of power) × standard error of the mean difference. Where all differences are equal, the
    standard error is bounded by what as many equal values cannot exclude.

    Args:
        differences: (problems,) or (problems, figures) paired differences.
        tests: number of comparisons corrected for (Bonferroni, Holm's first step).
    """
    table, single = _columns(differences)
    n = len(table)
    quantile = ndtri(1 - (1 - level) / (2 * tests)) + ndtri(power)
    deviation = table.std(0, ddof=1) if n > 1 else np.zeros(table.shape[1])
    constant = np.ptp(table, 0) < 1e-12
    error = np.where(constant, (1 - ((1 - level) / 2) ** (1 / n)) / quantile, deviation / np.sqrt(n))
    result = quantile * error
    return result[0] if single else result


def holm(p: Sequence[float | None] | Array) -> Array:
    """Holm's correction: the adjusted p-values in the given order; tests without a value (None, NaN) stay NaN.

    >>> holm([0.01, 0.04, 0.03])
    array([0.03, 0.06, 0.06])
    """
    values = np.array([np.nan if x is None else float(x) for x in p])
    told = np.flatnonzero(~np.isnan(values))
    order = told[np.argsort(values[told], kind="stable")]
    adjusted = np.full(len(values), np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * (len(order) - np.arange(len(order)))), 1.0)
    return adjusted


def two_level_interval(
    values: Array, again: Array, level: float = LEVEL, seed: int = 0, problems: bool = True
) -> Interval:
    """Percentile interval that resamples problems and, within each, candidates.

    Resampling problems alone already carries the noise of finite draws, since each problem brings its own; this version
    adds it once more and is therefore conservative. With `problems=False` only candidates are resampled: the spread to
    expect when the *same* problems are sampled again.

    Args:
        values: (problems, figures) or (problems,) figures of the stored pool.
        again: (replicates, problems, figures) or (replicates, problems): the same figures after drawing each problem's
            candidates again, with replacement, within each language (see `redrawn`). Subset estimators are biased on
            pools with repeats; only the deviations from the replicates' own mean are used.

    Returns:
        Interval of () or (figures,).
    """
    table, single = _columns(values)
    again = np.asarray(again, float).reshape(len(again), *table.shape)
    again = again - again.mean(0) + table
    replicates = len(again)
    weights = resampling_weights(len(table), replicates, seed) if problems else np.full((1, len(table)), 1 / len(table))
    means = np.einsum("rp,rpf->rf", np.broadcast_to(weights, (replicates, len(table))), again)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return _squeeze(Interval(table.mean(0), low, high), single)


def redrawn(exists: Array, rng: np.random.Generator) -> Array:
    """(problems, candidates) indices that draw each problem's existing candidates again, with replacement.

    Existing candidates are expected first in each row; where none exists the index points at a hole again.
    """
    n = exists.sum(1)[:, None]
    drawn = (rng.random(exists.shape) * n).astype(int)
    return np.where(exists, drawn, np.arange(exists.shape[1]))


@dataclass(frozen=True)
class BreakEven:
    """Where one curve stops being ahead of another."""

    start: float | None  # spend from which `first` is ahead; None: it never is
    end: float | None  # spend up to which it is; None: never ahead, or still ahead at the largest spend
    low: float | None  # interval of `end`; None: below the smallest spend compared (never ahead)
    high: float | None  # None: beyond the largest spend compared
    share_ahead: float  # share of replicates in which `first` is ahead somewhere
    smallest: float  # range of spend that was compared
    largest: float


def break_even(
    first: Array,
    second: Array,
    spend_first: Array,
    spend_second: Array | None = None,
    level: float = LEVEL,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> BreakEven:
    """The spend up to which curve `first` is ahead of `second`, with an interval over problems.

    Args:
        first, second: (problems, budgets) per-problem values; the two may have different budgets.
        spend_first: (budgets,) completions, or (problems, budgets) tokens; increasing along budgets.
        spend_second: the same for `second`; by default that of `first`.

    Returns:
        BreakEven: curves are means over problems, linear between budgets; `end` is the last spend at which `first`
        gives up its lead for good.
    """
    first, second = np.asarray(first, float), np.asarray(second, float)
    n = len(first)
    spend = []
    for curve, x in ((first, spend_first), (second, spend_first if spend_second is None else spend_second)):
        x = np.asarray(x, float)
        spend.append(np.broadcast_to(x, curve.shape) if x.ndim == 1 else x)
        if spend[-1].shape != curve.shape:
            raise ValueError(f"spend is {x.shape} for a curve of {curve.shape}; give (budgets,) or (problems, budgets)")
    weights = np.concatenate([np.full((1, n), 1 / n), resampling_weights(n, replicates, seed)])
    ya, yb, xa, xb = (weights @ table for table in (first, second, *spend))
    spans = np.array([_lead(*row) for row in zip(xa, ya, xb, yb, strict=True)])  # start, end; ±inf
    smallest, largest = max(xa[0, 0], xb[0, 0]), min(xa[0, -1], xb[0, -1])
    low, high = np.quantile(spans[1:, 1], [(1 - level) / 2, (1 + level) / 2], method="nearest")
    if n < 2:  # one problem says nothing about the others
        low, high = -np.inf, np.inf
    start, end = spans[0]
    return BreakEven(
        start=float(start) if np.isfinite(start) else None,
        end=float(end) if np.isfinite(end) else None,
        low=float(low) if np.isfinite(low) else (None if low < 0 else float(largest)),
        high=float(high) if np.isfinite(high) else (None if high > 0 else float(smallest)),
        share_ahead=float(np.mean(spans[1:, 1] > -np.inf)),
        smallest=float(smallest),
        largest=float(largest),
    )


def _lead(xa: Array, ya: Array, xb: Array, yb: Array) -> tuple[float, float]:
    """Where a is ahead of b: first and last spend; (inf, -inf) never, end = inf: still ahead at the largest spend."""
    low, high = max(xa[0], xb[0]), min(xa[-1], xb[-1])
    x = np.unique(np.concatenate([xa, xb]))
    x = x[(x >= low) & (x <= high)]
    if not len(x):
        return np.inf, -np.inf
    gap = np.interp(x, xa, ya) - np.interp(x, xb, yb)
    ahead = np.flatnonzero(gap > 1e-12)
    if not len(ahead):
        return np.inf, -np.inf
    i, j = ahead[0], ahead[-1]
    start = x[i] if i == 0 else _zero(x[i - 1], gap[i - 1], x[i], gap[i])
    return start, np.inf if j == len(x) - 1 else _zero(x[j], gap[j], x[j + 1], gap[j + 1])


def _zero(x0: float, y0: float, x1: float, y1: float) -> float:
    return x0 if y0 == y1 else x0 + (x1 - x0) * y0 / (y0 - y1)


def _columns(values: Array) -> tuple[Array, bool]:
    values = np.asarray(values, float)
    table = values[:, None] if values.ndim == 1 else values
    if not len(table):
        raise ValueError("no problems to average over; the table is empty")
    if not np.isfinite(table).all():
        p, f = (int(x[0]) for x in np.nonzero(~np.isfinite(table)))
        raise ValueError(f"value of problem {p}, figure {f} is {table[p, f]}; per-problem values are finite numbers")
    return table, values.ndim == 1


def _squeeze(result: Any, single: bool) -> Any:
    return type(result)(*(x[0] for x in result)) if single else result


def _bca(
    table: Array, level: float, replicates: int, seed: int, bounds: tuple[float, float], null: float | None
) -> tuple[Array, Array, Array]:
    """Lower and upper ends and, with `null`, two-sided p-values, one per column."""
    n, n_figures = table.shape
    weights = resampling_weights(n, replicates, seed)
    low, high, p = np.empty(n_figures), np.empty(n_figures), np.ones(n_figures)
    tail = (1 - level) / 2
    expansion = np.sqrt(n / max(n - 1, 1))
    for start in range(0, n_figures, max(1, _BLOCK // replicates)):
        part = slice(start, start + max(1, _BLOCK // replicates))
        block = table[:, part]
        centre = block.mean(0)
        away = block - centre
        square = (away**2).sum(0)
        varied = square > 1e-20 * n
        with np.errstate(invalid="ignore", divide="ignore"):
            skew = np.where(varied, (away**3).sum(0) / (6 * square**1.5), 0.0)
        means = np.ascontiguousarray((weights @ away).T)  # (figures, replicates), centred
        means[np.abs(means) < 1e-13] = 0.0
        bias = _z(means, 0.0)
        means.sort(1)
        for end, share, sign in ((low, tail, -1), (high, 1 - tail, 1)):
            z = bias + expansion * stdtrit(max(n - 1, 1), share)
            at = ndtr(bias + z / _floor(1 - skew * z)) * (replicates - 1)
            lower = np.clip(np.floor(at), 0, replicates - 1).astype(int)
            upper = np.minimum(lower + 1, replicates - 1)
            rows = np.arange(len(means))
            value = centre + means[rows, lower] + (at - lower) * (means[rows, upper] - means[rows, lower])
            reach = (1 - tail ** (1 / n)) * (bounds[0] - centre if sign < 0 else bounds[1] - centre)
            end[part] = np.clip(np.where(varied, value, centre + reach), *bounds)
        if null is not None:
            w = _z(means, (null - centre)[:, None]) - bias
            z = w / _floor(1 + skew * w) - bias
            own = 2 * stdtr(max(n - 1, 1), -np.abs(z) / expansion)
            reach = (1 - tail ** (1 / n)) * np.where(centre > null, centre - bounds[0], bounds[1] - centre)
            flat = np.where(np.abs(centre - null) > reach, 2 * tail, 1.0)  # equal everywhere: excluded, or not
            p[part] = np.where(varied, np.clip(own, 1 / replicates, 1.0), flat)
    return low, high, p


def _z(means: Array, at: float | Array) -> Array:
    """Normal score of the share of replicates below a value; ties count half, never 0 or 1."""
    replicates = means.shape[1]
    share = ((means < at).sum(1) + 0.5 * (means == at).sum(1)) / replicates
    return ndtri(np.clip(share, 0.5 / replicates, 1 - 0.5 / replicates))


def _floor(x: Array) -> Array:
    return np.maximum(x, 1e-3)
