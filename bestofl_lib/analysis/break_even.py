"""Up to which budget is one curve ahead of another, and how sure is that?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bestofl_lib.analysis.bootstrap import LEVEL, REPLICATES, resampling_weights

Array = np.ndarray


@dataclass(frozen=True)
class BreakEven:
    """Where one curve stops being ahead of another."""

    start: float | None  # spend from which `first` is ahead; None: it never is
    end: float | None  # spend up to which it is; None: never ahead, or still ahead at the largest spend
    low: float | None  # interval of `end`; None: below the smallest spend compared (never ahead)
    high: float | None  # None: beyond the largest spend compared
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
    shifts: Array | None = None,
) -> BreakEven:
    """The spend up to which curve `first` is ahead of `second`, with an interval over problems and training seeds.

    Args:
        first, second: (problems, budgets) per-problem values; the two may have different budgets.
        spend_first: (budgets,) completions, or (problems, budgets) tokens; increasing along budgets.
        spend_second: the same for `second`; by default that of `first`.
        shifts: (replicates, budgets) what other training seeds would add to `first` − `second`, where both have the
            same budgets; see `bootstrap.joint_seed_shifts`. None: one seed.

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
    if shifts is not None:
        ya[1:] += shifts
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
