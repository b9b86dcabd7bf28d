"""Rewards that tie across languages, shared exactly.

Give each tied candidate a uniform tie-breaker u. Given u of the winner, the other languages' draws are independent, so
its chance to win is an integral over u of a polynomial, which Gauss-Legendre quadrature of enough nodes evaluates
exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
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
        for batch in self.batches(sum(ks)):
            product = np.ones(batch.shape)
            win = np.zeros_like(product)
            for position, k in enumerate(ks):
                if k:
                    value, slope = batch.generating(position, k)
                    win = win * value + product * (slope * batch.excess(position))
                    product = product * value
            total += batch.by_problem(win)
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
            for batch in self.batches(int((budgets + given)[at].max()), q * reach if q else None):
                base, slope, sums, slopes = batch.symmetric(chosen, int(q), top)
                for column in at:
                    r = int(extra[column])
                    product, win = base * sums[r], base * (slope * sums[r] + slopes[r])
                    if first is not None:
                        value, rise = batch.generating(first, int(given[column]))
                        win = win * value + product * rise * batch.excess(first)
                    total[:, column] += batch.by_problem(win) / comb(len(chosen), r)
        return total

    def batches(self, budget: int, chance: Array | None = None) -> Iterator[Batch]:
        """All groups in parts that need the same number of quadrature nodes.

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
                yield Batch(self, rows[start : start + size], (nodes + 1) / 2, weights / 2)

    @cached_property
    def _pairs(self) -> tuple[Array, Array]:
        """The distinct pairs (below, tied), and (groups, languages) the place of each group's pair among them."""
        wide = int(self.tied.max(initial=0)) + 1
        distinct, place = np.unique(self.below * wide + self.tied, return_inverse=True)
        return np.stack([distinct // wide, distinct % wide], 1), place.reshape(self.tied.shape)


@dataclass(frozen=True)
class Batch:
    """Groups that need the same number of quadrature nodes."""

    ties: Ties
    rows: Array  # (groups,) which of all groups
    nodes: Array  # (nodes,) on 0..1
    weights: Array  # (nodes,)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.rows), len(self.nodes)

    def excess(self, position: int) -> Array:
        """(groups, 1) own share correct of one language minus the group's."""
        return self.ties.excess[self.rows, position, None]

    def by_problem(self, values: Array) -> Array:
        """(problems,) integrals of (groups, nodes) values, summed over each problem's groups."""
        return np.bincount(self.ties.row[self.rows], values @ self.weights, minlength=self.ties.n_problems)

    def generating(self, position: int, k: int) -> tuple[Array, Array]:
        """Generating function of the number of tied draws of one language (none above), and its slope, at the nodes."""
        pairs, places = self._pairs
        if k not in self._tables:
            j = np.arange(min(int(pairs[:, 1].max()), k) + 1)
            mass = hypergeometric(pairs[:, :1], pairs[:, 1:], k, j)
            power = self.nodes[:, None] ** j
            slope = np.zeros_like(power)
            slope[:, 1:] = power[:, :-1] * j[1:]
            self._tables[k] = mass @ power.T, mass @ slope.T
        place = places[position]
        value, rise = (table.take(place, 0) for table in self._tables[k])
        reach = self.ties.ratios.of(pairs.sum(1)[place], self.ties.row[self.rows], position, k)[:, None]
        value *= reach
        rise *= reach
        return value, rise

    @cached_property
    def _pairs(self) -> tuple[Array, Array]:
        """The distinct pairs (below, tied) of these groups, and (languages, groups) the place of each among them."""
        pairs, places = self.ties._pairs
        mine = places[self.rows].T
        seen = np.zeros(len(pairs), bool)
        seen[mine] = True
        return pairs[seen], (np.cumsum(seen) - 1)[mine]

    @cached_property
    def _tables(self) -> dict[int, tuple[Array, Array]]:
        """Per number of draws, (pairs, nodes) the generating function, given that none is above, and its slope."""
        return {}

    def symmetric(self, chosen: Sequence[int], q: int, top: int) -> tuple[Array, Array, list[Array], list[Array]]:
        """Product, sum of logarithmic derivatives, e_0 … e_top and their derivatives, each (groups, nodes)."""
        base, slope = np.ones(self.shape), np.zeros(self.shape)
        sums, slopes = [np.ones(self.shape), *np.zeros((top, *self.shape))], [*np.zeros((top + 1, *self.shape))]
        # products, in place: new arrays would cost as much again
        one, other = np.empty(self.shape), np.empty(self.shape)
        for done, position in enumerate(chosen):
            worth = self.excess(position)
            low, low_rise = self.generating(position, q)
            base *= low
            safe = np.maximum(low, 1e-300)  # where the chance is 0, so are those of one draw more and their slopes
            low_rise /= safe
            slope += np.multiply(worth, low_rise, out=one)
            if not top:
                continue
            x, x_rise = self.generating(position, q + 1)
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


def _nodes_needed(degree: Array) -> Array:
    """Nodes that integrate polynomials of this degree over 0..1 to the last digit.

    (degree + 1) / 2 nodes are exact. The polynomials here are mixtures of powers of u up to the degree; the Chebyshev
    coefficients of u^d fall like exp(−n² / d), so that far fewer nodes leave an error below rounding where d is large.
    """
    return np.maximum(np.minimum((degree + 1) // 2, np.ceil(3.4 * np.sqrt(degree)).astype(int) + 2), 1)
