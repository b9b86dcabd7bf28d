"""Up to which budget is one curve ahead of another, and how sure is that?"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bestofl_lib.analysis.bootstrap import LEVEL, REPLICATES
from bestofl_lib.analysis.uncertainty import paired_difference

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
    of_seeds: Array | None = None,
) -> BreakEven:
    """The spend up to which curve `first` is ahead of `second`, with an interval over problems and training seeds.

    Args:
        first, second: (problems, budgets) per-problem values; the two may have different budgets.
        spend_first: (budgets,) completions, or (problems, budgets) tokens; their means increase along budgets.
        spend_second: the same for `second`; by default that of `first`.
        of_seeds: (seeds, budgets of `first`) mean of `first` − `second` per training seed; None: one seed.

    Returns:
        BreakEven: curves are means over problems, linear between budgets; `end` is the last spend at which `first`
        gives up its lead for good. Its interval inverts the paired comparison at every spend: it reaches from the end
        of the lead that is sure to the end of the lead that cannot be excluded, by the ends of `paired_difference`.
    """
    if spend_second is None:
        spend_second = spend_first
    (xa, ya), (xb, yb) = (_level(*curve) for curve in ((first, spend_first), (second, spend_second)))
    smallest, largest = max(xa[0], xb[0]), min(xa[-1], xb[-1])
    x = np.unique(np.concatenate([xa, xb]))
    x = x[(x >= smallest) & (x <= largest)]
    known = BreakEven(None, None, None, None, float(smallest), float(largest))
    if not len(x):
        return known
    here = _between(xa, x)
    one, other = ya @ here, yb @ _between(xb, x)
    moved = None if of_seeds is None else (one - other).mean(0) + (of_seeds - of_seeds.mean(0)) @ here
    gap = paired_difference(one, other, level, replicates, seed, of_seeds=moved)
    start, end = _lead(x, gap.effect)
    low, high = _lead(x, gap.low)[1], _lead(x, gap.high)[1]
    if len(ya) < 2:  # one problem says nothing about the others
        low, high = -np.inf, np.inf
    return replace(
        known,
        start=float(start) if np.isfinite(start) else None,
        end=float(end) if np.isfinite(end) else None,
        low=float(low) if np.isfinite(low) else (None if low < 0 else float(largest)),
        high=float(high) if np.isfinite(high) else (None if high > 0 else float(smallest)),
    )


def _level(values: Array, spend: Array) -> tuple[Array, Array]:
    """The mean spend of each budget, and the values as they would be at it: moved along the slope of the mean curve."""
    values, spend = np.asarray(values, float), np.asarray(spend, float)
    if spend.ndim == 1 and len(spend) == values.shape[1]:
        return spend, values
    if spend.shape != values.shape:
        raise ValueError(
            f"spend is {spend.shape} for a curve of {values.shape}; give (budgets,) or (problems, budgets)"
        )
    x = spend.mean(0)
    slope = np.gradient(values.mean(0), x) if len(x) > 1 else np.zeros(1)
    return x, values - slope * (spend - x)


def _between(known: Array, x: Array) -> Array:
    """(known, x) weights of linear interpolation."""
    return np.stack([np.interp(x, known, row) for row in np.eye(len(known))])


def _lead(x: Array, gap: Array) -> tuple[float, float]:
    """Where the gap is positive: first and last spend; (inf, -inf) nowhere, end = inf: still so at the last spend."""
    ahead = np.flatnonzero(gap > 1e-12)
    if not len(ahead):
        return np.inf, -np.inf
    i, j = ahead[0], ahead[-1]
    start = x[i] if i == 0 else _zero(x[i - 1], gap[i - 1], x[i], gap[i])
    return start, np.inf if j == len(x) - 1 else _zero(x[j], gap[j], x[j + 1], gap[j + 1])


def _zero(x0: float, y0: float, x1: float, y1: float) -> float:
    return x0 if y0 == y1 else x0 + (x1 - x0) * y0 / (y0 - y1)
