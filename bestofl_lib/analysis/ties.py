"""Rewards that tie across languages, shared exactly.

Give each tied candidate a uniform tie-breaker u. Given u of the winner, the other languages' draws are independent, so
its chance to win is an integral over u of a polynomial, which Gauss-Legendre quadrature of enough nodes evaluates
exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

from bestofl_lib.analysis.hypergeometric import Ratios, hypergeometric, legendre

Array = np.ndarray
NEGLIGIBLE = -37.0  # log of a chance that changes no figure: 1e-16
_BLOCK = 32_768  # groups × nodes processed at a time, so that they stay in the processor's cache


@dataclass(frozen=True)
class Ties:
    """Groups tied across languages whose shares correct differ: what the sum over groups leaves out."""

    ratios: Ratios
    row: Array  # (groups,) problem
    below: Array  # (groups, languages) candidates strictly below
    tied: Array  # (groups, languages) candidates in the group
    excess: Array  # (groups, languages) own share correct minus the group's

    @property
    def n_problems(self) -> int:
        return len(self.ratios.n_candidates)

    def allocation(self, ks: Sequence[int]) -> Array:
        total = np.zeros(self.n_problems)
        for rows, nodes, weights in self.batches(sum(ks)):
            product = np.ones((len(rows), len(nodes)))
            win = np.zeros_like(product)
            for position, k in enumerate(ks):
                if k:
                    value, slope = self.generating(rows, position, k, nodes)
                    win = win * value + product * (slope * self.excess[rows, position, None])
                    product = product * value
            total += np.bincount(self.row[rows], win @ weights, minlength=len(total))
        return total

    def shares(self, chosen: Sequence[int], budgets: Array, first: int | None, given: Array) -> Array:
        """(problems, budgets) what ties add with equal shares over `chosen`, and `given` of the language `first`.

        With q = k // L of each language and r more, drawn at random: the product of the languages' generating functions
        is L × e_r(x), see `Contest._below_shares`; its derivative towards the languages whose tied candidates are worth
        more is L × (Σ s × e_r + d_r), with s the logarithmic derivatives and d_r the derivative of e_r.
        """
        total = np.zeros((self.n_problems, len(budgets)))
        q_of, extra = budgets // len(chosen), budgets % len(chosen)
        reach = np.zeros(len(self.row))
        for position in chosen:
            with np.errstate(divide="ignore"):
                n = self.ratios.sizes(self.row, position)
                reach += np.log((self.below[:, position] + self.tied[:, position]) / n)
        for q in np.unique(q_of):
            at = np.flatnonzero(q_of == q)
            top = int(extra[at].max())
            for rows, nodes, weights in self.batches(int((budgets + given)[at].max()), q * reach if q else None):
                base, slope, sums, slopes = self._symmetric(rows, nodes, chosen, int(q), top)
                for column in at:
                    r = int(extra[column])
                    product, win = base * sums[r], base * (slope * sums[r] + slopes[r])
                    if first is not None:
                        value, rise = self.generating(rows, first, int(given[column]), nodes)
                        win = win * value + product * rise * self.excess[rows, first, None]
                    share = win @ weights / comb(len(chosen), r)
                    total[:, column] += np.bincount(self.row[rows], share, minlength=len(total))
        return total

    def _symmetric(
        self, rows: Array, nodes: Array, chosen: Sequence[int], q: int, top: int
    ) -> tuple[Array, Array, list[Array], list[Array]]:
        """Product, sum of logarithmic derivatives, e_0 … e_top and their derivatives, each (groups, nodes)."""
        shape = (len(rows), len(nodes))
        base, slope = np.ones(shape), np.zeros(shape)
        sums, slopes = [np.ones(shape), *np.zeros((top, *shape))], [*np.zeros((top + 1, *shape))]
        one, other = np.empty(shape), np.empty(shape)  # products, in place: new arrays would cost as much again
        for done, position in enumerate(chosen):
            worth = self.excess[rows, position, None]
            low, low_rise = self.generating(rows, position, q, nodes)
            base *= low
            safe = np.maximum(low, 1e-300)  # where the chance is 0, so are those of one draw more and their slopes
            low_rise /= safe
            slope += np.multiply(worth, low_rise, out=one)
            if not top:
                continue
            x, x_rise = self.generating(rows, position, q + 1, nodes)
            if q:
                x /= safe
                x_rise /= safe
                x_rise -= np.multiply(x, low_rise, out=one)
            x_rise *= worth
            for r in range(min(done + 1, top), 0, -1):
                np.multiply(slopes[r - 1], x, out=one)
                one += np.multiply(sums[r - 1], x_rise, out=other)
                slopes[r] += one
                sums[r] += np.multiply(sums[r - 1], x, out=one)
        return base, slope, sums, slopes

    def batches(self, budget: int, chance: Array | None = None) -> Iterator[tuple[Array, Array, Array]]:
        """Groups that need the same number of quadrature nodes, with the nodes and weights on 0..1.

        Args:
            budget: completions drawn.
            chance: (groups,) log of a bound on the chance that no drawn candidate ranks above the group; groups that
                practically never win are left out.
        """
        if not len(self.row):
            return
        degree = np.minimum(self.tied.sum(1), budget)
        least = _nodes_needed(degree)
        needed = np.where(least <= 4, least, 2 ** np.ceil(np.log2(least)).astype(int))
        for count in np.unique(needed):
            nodes, weights = legendre(int(count))
            rows = np.flatnonzero(needed == count if chance is None else (needed == count) & (chance > NEGLIGIBLE))
            size = max(1, 4 * _BLOCK // int(count))
            for start in range(0, len(rows), size):
                yield rows[start : start + size], (nodes + 1) / 2, weights / 2

    def generating(self, rows: Array, position: int, k: int, nodes: Array) -> tuple[Array, Array]:
        """Generating function of the number of tied draws of one language (none above), and its slope, at the nodes."""
        b, t = self.below[rows, position], self.tied[rows, position]
        reach = self.ratios.of(b + t, self.row[rows], position, k)
        if k == 0 or not t.any():
            return np.repeat(reach[:, None], len(nodes), 1), np.zeros((len(rows), len(nodes)))
        wide = int(t.max()) + 1
        key = b * wide + t
        seen = np.zeros(int(key.max()) + 1, bool)  # few distinct (below, tied) pairs: find them without sorting
        seen[key] = True
        distinct = np.flatnonzero(seen)
        back = (np.cumsum(seen) - 1)[key]
        pairs = np.stack([distinct // wide, distinct % wide], 1)
        j = np.arange(min(int(t.max()), k) + 1)
        mass = hypergeometric(pairs[:, :1], pairs[:, 1:], k, j)
        power = nodes[:, None] ** j
        slope = np.zeros_like(power)
        slope[:, 1:] = power[:, :-1] * j[1:]
        value, rise = (mass @ power.T).take(back, 0), (mass @ slope.T).take(back, 0)
        value *= reach[:, None]
        rise *= reach[:, None]
        return value, rise


def _nodes_needed(degree: Array) -> Array:
    """Nodes that integrate polynomials of this degree over 0..1 to the last digit.

    (degree + 1) / 2 nodes are exact. The polynomials here are mixtures of powers of u up to the degree; the Chebyshev
    coefficients of u^d fall like exp(−n² / d), so that far fewer nodes leave an error below rounding where d is large.
    """
    return np.maximum(np.minimum((degree + 1) // 2, np.ceil(3.4 * np.sqrt(degree)).astype(int) + 2), 1)
