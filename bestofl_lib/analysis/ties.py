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

from bestofl_lib.analysis.hypergeometric import Ratios, hypergeometric

Array = np.ndarray
_BLOCK = 8_192  # groups × nodes worked on at once, so that they stay in the processor's cache


@dataclass(frozen=True)
class Ties:
    """Groups tied across languages whose shares correct differ: what the plain sum leaves out."""

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
        """(problems, budgets) what ties add with equal shares over `chosen`, and `given` of the language `first`."""
        total = np.zeros((self.n_problems, len(budgets)))
        shares, counts = budgets // len(chosen), given * (first is not None)
        for q, count in sorted(set(zip(shares.tolist(), counts.tolist(), strict=True))):
            at = np.flatnonzero((shares == q) & (counts == count))
            extra = budgets[at] % len(chosen)
            for rows, nodes, weights in self.batches(int((budgets + given)[at].max())):
                product, win = [np.ones((len(rows), len(nodes)))], [np.zeros((len(rows), len(nodes)))]
                if first is not None:
                    product[0], slope = self.generating(rows, first, count, nodes)
                    win[0] = slope * self.excess[rows, first, None]
                for position in chosen:
                    product, win = self._joined(product, win, rows, position, q, int(extra.max()), nodes)
                for column, r in zip(at, extra, strict=True):
                    share = win[r] @ weights / comb(len(chosen), int(r))
                    total[:, column] += np.bincount(self.row[rows], share, minlength=len(total))
        return total

    def _joined(
        self, product: list[Array], win: list[Array], rows: Array, position: int, q: int, top: int, nodes: Array
    ) -> tuple[list[Array], list[Array]]:
        """Coefficients of y^0, y^1, … up to `top` after one more language that gives q or, with y, q + 1."""
        worth = self.excess[rows, position, None]
        low, low_slope = self.generating(rows, position, q, nodes)
        new_product = [p * low for p in product]
        new_win = [w * low + p * (low_slope * worth) for p, w in zip(product, win, strict=True)]
        if top:
            high, high_slope = self.generating(rows, position, q + 1, nodes)
            for r, (p, w) in enumerate(zip(product, win, strict=True), 1):
                if r > top:
                    break
                more, more_win = p * high, w * high + p * (high_slope * worth)
                if r < len(new_product):
                    new_product[r], new_win[r] = new_product[r] + more, new_win[r] + more_win
                else:
                    new_product.append(more)
                    new_win.append(more_win)
        return new_product, new_win

    def batches(self, budget: int) -> Iterator[tuple[Array, Array, Array]]:
        """Groups that need the same number of quadrature nodes, with the nodes and weights on 0..1."""
        if not len(self.row):
            return
        degree = np.minimum(self.tied.sum(1), budget)
        least = np.maximum((degree + 1) // 2, 1)
        needed = np.where(least <= 4, least, 2 ** np.ceil(np.log2(least)).astype(int))
        for count in np.unique(needed):
            nodes, weights = np.polynomial.legendre.leggauss(int(count))
            rows = np.flatnonzero(needed == count)
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
        return reach[:, None] * (mass @ power.T)[back], reach[:, None] * (mass @ slope.T)[back]
