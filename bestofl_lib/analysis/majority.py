"""Majority (maj@k) in one language, exactly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import gammaln

from bestofl_lib.analysis.checks import check_budget, checked_budgets
from bestofl_lib.analysis.hypergeometric import legendre, runs

Array = np.ndarray
EXACT = 64  # the largest budget of curves that is not simulated: the time of the exact figure grows with its cube


def majority(
    answers: Array,
    reference: Array,
    budget: int | None = None,
    *,
    budgets: Sequence[int] | Array | None = None,
    exists: Array | None = None,
    problem_ids: Sequence[str] | None = None,
    language: str | None = None,
) -> Array:
    """Chance that the most frequent answer among `budget` candidates is the reference (maj@k), exactly.

    An unread answer (-1) uses up budget but is never a vote; a subset without any vote counts as wrong.

    Args:
        answers: (problems, candidates) int answer codes, -1: no answer could be read. Floats will do as well, with NaN
            where the candidate does not exist.
        reference: (problems,) int, the code of the right answer (a code that never occurs, if no candidate has it).
        budget: candidates kept per problem, 1..min(candidates).
        budgets: several of them at once, instead of `budget`.
        exists: (problems, candidates) bool; by default all but NaN.

    Returns:
        (problems,) float in [0, 1], or (problems, budgets).

    How: for v = votes of the reference, each other answer contributes the polynomial of its counts below v plus w times
    its count of exactly v; 1 / (1 + number of rivals at v) is the integral of w^rivals over 0..1. The coefficient of
    z^k over C(n, k) is the chance. Counts are tilted (binomial instead of raw coefficients) so that nothing overflows.
    """
    ks, single = checked_budgets(budget, budgets, least=1)
    answers = np.atleast_2d(np.asarray(answers))
    if exists is None:
        exists = ~np.isnan(answers) if answers.dtype.kind == "f" else np.ones(answers.shape, bool)
    n = exists.sum(1)
    check_budget(n, int(ks.max()), problem_ids, language)
    codes = np.where(exists, np.nan_to_num(answers.astype(float), nan=-1), -1).astype(np.int64)
    right, rivals = _vote_counts(codes, np.asarray(reference, np.int64).reshape(-1))
    result = np.zeros((len(n), len(ks)))
    for size in np.unique(n):
        rows = np.flatnonzero((n == size) & (right > 0))
        if len(rows):
            result[rows] = _majority_equal_size(right[rows], rivals[rows], int(size), ks)
    return result[:, 0] if single else result


def _vote_counts(codes: Array, reference: Array) -> tuple[Array, Array]:
    """Votes of the reference (rows,) and of every other answer (rows, answers), most frequent first."""
    _, row, code, length = runs(codes)
    valid = code >= 0
    row, code, length = row[valid], code[valid], length[valid]
    is_right = code == reference[row]
    right = np.bincount(row[is_right], length[is_right], minlength=len(codes)).astype(int)
    row, length = row[~is_right], length[~is_right]
    order = np.lexsort((-length, row))
    row, length = row[order], length[order]
    per_row = np.bincount(row, minlength=len(codes))
    place = np.arange(len(row)) - np.repeat(np.cumsum(per_row) - per_row, per_row)
    rivals = np.zeros((len(codes), int(per_row.max(initial=0))), int)
    rivals[row, place] = length
    return right, rivals


def _majority_equal_size(right: Array, rivals: Array, n: int, ks: Array) -> Array:
    """`majority` for rows that all have n candidates and at least one right answer."""
    result = np.zeros((len(right), len(ks)))
    left = np.unique(ks)
    while len(left):
        centre = left[len(left) // 2]
        p = (centre + 0.5) / (n + 1)
        log_mass = (
            gammaln(n + 1) - gammaln(left + 1) - gammaln(n - left + 1) + left * np.log(p) + (n - left) * np.log1p(-p)
        )
        served = left[log_mass > -460]
        left = left[log_mass <= -460]
        columns = np.flatnonzero(np.isin(ks, served))
        rows = max(1, 4_000_000 // (int(served.max()) * (rivals.shape[1] // 2 + 1)))
        for start in range(0, len(right), rows):
            part = slice(start, start + rows)
            result[part, columns] = _majority_tilted(right[part], rivals[part], n, ks[columns], p)
    return result


def _majority_tilted(right: Array, rivals: Array, n: int, ks: Array, p: float) -> Array:
    top = int(ks.max())
    mass = np.zeros((n + 1, top + 1))  # binomial(m, p) at j, by Pascal's rule: all terms positive
    mass[0, 0] = 1
    for m in range(n):
        mass[m + 1] = mass[m] * (1 - p)
        mass[m + 1, 1:] += mass[m, :-1] * p
    result = np.zeros((len(right), len(ks)))
    for v in range(1, min(int(right.max()), top) + 1):
        rows = np.flatnonzero(right >= v)
        strong = (rivals[rows] >= v).sum(1)
        order = np.argsort(-strong, kind="stable")
        rows, strong = rows[order], strong[order]
        rest = n - right[rows] - np.where(rivals[rows] >= v, rivals[rows], 0).sum(1)
        degree = min(int(strong.max(initial=0)), (top - v) // v)
        nodes, weights = legendre(degree // 2 + 1)
        nodes, weights = (nodes + 1) / 2, weights / 2
        length = top - v + 1
        product = np.repeat(mass[rest, :length][:, None], len(nodes), 1)  # (rows, nodes, degree of z)
        for place in range(int(strong.max(initial=0))):
            active = int((strong > place).sum())
            count = rivals[rows[:active], place]
            old = product[:active]
            new = old * mass[count, 0][:, None, None]
            for j in range(1, min(v, length - 1) + 1):
                term = old[..., : length - j] * mass[count, j][:, None, None]
                new[..., j:] += term * nodes[:, None] if j == v else term
            product[:active] = new
        polynomial = np.einsum("rqz,q->rz", product, weights)
        reach = ks >= v
        result[np.ix_(rows, np.flatnonzero(reach))] += (
            mass[right[rows], v][:, None] * polynomial[:, ks[reach] - v] / mass[n, ks[reach]]
        )
    return result
