"""How certain is a figure that was measured on these problems? Intervals, paired tests, Holm, detectable effects.

Everything works on per-problem values that were computed once, and resamples problems (and training seeds) by the one
bootstrap in `bootstrap.py`. This file needs numpy only and knows nothing of tables. Interval and p-value are two forms
of one statement, so they never contradict each other.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtri, stdtrit

from bestofl_lib.analysis.bootstrap import LEVEL, REPLICATES, effective_number, resampled, resampling_weights

Array = np.ndarray
POWER = 0.8


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
    mde: Array  # minimum detectable effect at 80 % power, at the level that the verdict is corrected to


def mean_interval(
    values: Array,
    level: float = LEVEL,
    replicates: int = REPLICATES,
    seed: int = 0,
    bounds: tuple[float, float] = (0.0, 1.0),
    of_seeds: Array | None = None,
) -> Interval:
    """Interval of a mean over problems.

    Args:
        values: (problems,) or (problems, figures) float; figures are independent columns, such as budgets.
        level: nominal coverage.
        replicates: resamplings of problems.
        bounds: the least and the largest value a problem can have; one unseen problem may lie there.
        of_seeds: (seeds,) or (seeds, figures) mean over problems per training seed of the reward model; None: one seed.

    Returns:
        Interval of () or (figures,).
    """
    table, single = _columns(values)
    natural = bounds == (0.0, 1.0)
    found = resampled(table, level, replicates, seed, bounds, natural=natural, of_seeds=_seeds(of_seeds))
    return _squeeze(Interval(table.mean(0), found.low, found.high), single)


def paired_difference(
    first: Array,
    second: Array,
    level: float = LEVEL,
    replicates: int = REPLICATES,
    seed: int = 0,
    null: float = 0.0,
    tests: int = 1,
    of_seeds: Array | None = None,
) -> Difference:
    """Mean of first − second over the same problems, with interval, two-sided p-value and detectable effect.

    Where only m problems differ, flipping their signs gives no p below 2^(1 − m); nor does this. Where that exceeds
    1 − level, the interval also holds what as many equal values cannot exclude of the largest difference seen:
    a handful of problems proves nothing and rules little out. Problems that differ by a little count as little.

    Args:
        first, second: (problems,) or (problems, figures) values of the same problems in the same order, in [0, 1].
        null: the difference that the p-value is about.
        tests: number of comparisons that the verdict is corrected for; the detectable effect is that of this rule.
        of_seeds: (seeds,) or (seeds, figures) mean difference per training seed; None: one seed.

    Returns:
        Difference of () or (figures,).
    """
    first, second = np.asarray(first, float), np.asarray(second, float)
    if first.shape != second.shape:
        raise ValueError(f"paired values differ in shape, {first.shape} and {second.shape}; align them by problem")
    table, single = _columns(first - second)
    trained = _seeds(of_seeds)
    found = resampled(table, level, replicates, seed, (-1.0, 1.0), null, natural=False, of_seeds=trained)
    least = np.minimum(2.0 ** (1 - effective_number(table)), 1.0)
    largest = np.abs(table).max(0)
    reach = (1 - ((1 - level) / 2) ** (1 / len(table))) * np.where(largest > 0, largest, 1)
    low = np.where(least > 1 - level, np.minimum(found.low, -reach), found.low)
    high = np.where(least > 1 - level, np.maximum(found.high, reach), found.high)
    mde = minimum_detectable_effect(low, high, level, tests=tests)
    return _squeeze(Difference(table.mean(0), low, high, np.maximum(found.p, least), mde), single)


def minimum_detectable_effect(
    low: Array | float,
    high: Array | float,
    level: float = LEVEL,
    power: float = POWER,
    tests: int = 1,
    jointly: int = 1,
) -> Array:
    """Smallest true mean difference that the verdict's own rule finds with chance `power`.

    (z of level/tests + z of power) × standard error, where the standard error is that of the interval: half its width
    over z of level. So an interval of ± 16.8 points never stands beside a detectable effect of 6.8.

    Args:
        low, high: () or (figures,) ends of the interval at `level`.
        tests: number of comparisons corrected for (Bonferroni, Holm's first step).
        jointly: number of tests that must all succeed (intersection–union); each then needs power^(1/jointly).
    """
    error = (np.asarray(high) - np.asarray(low)) / (2 * ndtri((1 + level) / 2))
    return (ndtri(1 - (1 - level) / (2 * tests)) + ndtri(power ** (1 / jointly))) * error


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
            candidates again, with replacement, within each language (see `resampled_places`). Subset estimators are
            biased on pools with repeats; only the deviations from the replicates' own mean are used.

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


def seed_interval(of_seeds: Array, level: float = LEVEL) -> Interval:
    """t interval of the mean over training seeds alone: what other seeds would change on the same problems.

    Args:
        of_seeds: (seeds, figures) mean over problems per training seed; at least two seeds.
    """
    centre, n = of_seeds.mean(0), len(of_seeds)
    reach = -stdtrit(n - 1, (1 - level) / 2) * of_seeds.std(0, ddof=1) / np.sqrt(n)
    return Interval(centre, np.clip(centre - reach, 0, 1), np.clip(centre + reach, 0, 1))


def resampled_places(exists: Array, rng: np.random.Generator) -> Array:
    """(problems, candidates) indices that draw each problem's existing candidates again, with replacement.

    Existing candidates are expected first in each row; where none exists the index points at a missing one again.
    """
    n = exists.sum(1)[:, None]
    drawn = (rng.random(exists.shape) * n).astype(int)
    return np.where(exists, drawn, np.arange(exists.shape[1]))


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


def _seeds(of_seeds: Array | None) -> Array | None:
    """(seeds, figures), or None where there is one seed."""
    if of_seeds is None or len(of_seeds) < 2:
        return None
    of_seeds = np.asarray(of_seeds, float)
    return of_seeds[:, None] if of_seeds.ndim == 1 else of_seeds
