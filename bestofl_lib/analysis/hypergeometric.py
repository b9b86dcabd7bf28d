"""Chances of drawing without replacement: how many of the drawn are of one kind.

The arithmetic that all exact estimators share. It knows neither rewards nor languages.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

Array = np.ndarray


def counts(is_correct: Array) -> tuple[Array, Array]:
    values = np.atleast_2d(np.asarray(is_correct, float))
    return (~np.isnan(values)).sum(1), np.nansum(values, 1)


def none_correct(n: Array, c: Array, top: int) -> Array:
    """(problems, top + 1) C(n − c, k) / C(n, k) for k = 0..top, as a running product."""
    j = np.arange(top)
    factors = np.clip(n[:, None] - c[:, None] - j, 0, None) / np.maximum(n[:, None] - j, 1)
    return np.concatenate([np.ones((len(n), 1)), np.cumprod(factors, 1)], 1)


def hypergeometric(b: Array, t: Array, k: int, j: Array) -> Array:
    """(rows, j) chance of j tied among k drawn from b + t; rows where that is impossible are 0."""
    low = np.maximum(k - b, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(np.maximum(t - j[:-1], 0) * (k - j[:-1]) / ((j[:-1] + 1) * (b - k + j[:-1] + 1)))
    ratio = np.where(j[:-1] < low, 0.0, ratio)
    logs = np.concatenate([np.zeros((len(b), 1)), np.cumsum(ratio, 1)], 1)
    logs = np.where((j < low) | (j > t), -np.inf, logs)
    possible = (b + t >= k)[:, 0]
    logs[~possible] = 0
    mass = np.exp(logs - logs.max(1, keepdims=True))
    mass = mass / mass.sum(1, keepdims=True)
    mass[~possible] = 0
    return mass


def runs(codes: Array) -> tuple[Array, Array, Array, Array]:
    """Distinct codes per row: sort order, and of each run its row, code and length (code -1 left in)."""
    order = np.argsort(codes, axis=1, kind="stable")
    ordered = np.take_along_axis(codes, order, 1)
    first = np.ones(codes.shape, bool)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    start = np.flatnonzero(first.ravel())
    length = np.diff(np.append(start, codes.size))
    return order, start // max(codes.shape[1], 1), ordered.ravel()[start], length


@lru_cache(maxsize=256)
def legendre(count: int) -> tuple[Array, Array]:
    """Nodes and weights of Gauss-Legendre quadrature on −1..1."""
    return np.polynomial.legendre.leggauss(count)


class Ratios:
    """C(b, k) / C(n, k): the chance that k drawn of n all belong to a certain b, by a table per k that grows as asked.

    Args:
        n_candidates: (problems, languages) int.
    """

    def __init__(self, n_candidates: Array):
        self.n_candidates = n_candidates
        self._sizes = np.unique(n_candidates)
        self._tables = {0: np.ones((len(self._sizes), int(self._sizes.max(initial=0)) + 1))}

    def sizes(self, row: Array, position: int) -> Array:
        """Candidates of the problems of `row` in the language at `position`; a single number where all are equal."""
        return self._sizes if len(self._sizes) == 1 else self.n_candidates[row, position]

    def of(self, b: Array, row: Array, position: int, k: int) -> Array:
        """One ratio per entry: `b` candidates of problem `row` in the language at `position`."""
        if k not in self._tables:
            start = max(known for known in self._tables if known < k)
            table = self._tables[start]
            for j in range(start, k):
                table = table * np.maximum(np.arange(table.shape[1]) - j, 0) / np.maximum(self._sizes - j, 1)[:, None]
            self._tables[k] = table
        if len(self._sizes) == 1:
            return self._tables[k][0].take(b)
        return self._tables[k][np.searchsorted(self._sizes, self.n_candidates[row, position]), b]

    def one_more(self, b: Array, row: Array, position: int, k: int) -> Array:
        """(b − k) / (n − k): the chance that one more belongs to them too, given that k do; 0 where b < k."""
        if len(self._sizes) == 1:
            return (np.maximum(np.arange(self._sizes[0] + 1) - k, 0) / (self._sizes[0] - k)).take(b)
        return np.maximum(b - k, 0) / (self.sizes(row, position) - k)
