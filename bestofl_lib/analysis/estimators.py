"""Exact expectations over all subsets of a stored pool: coverage, best-of-k, majority.

Every figure is the mean over subsets drawn without replacement, so one stored pool gives every budget and every
allocation without sampling noise. Where no exact form is known to be cheap (majority over several languages, weighted
votes) a seeded Monte Carlo returns its own standard error beside the estimate.

This file is numpy alone. It deliberately knows nothing of tables, of reward models or of uncertainty over problems.

Conventions: arrays are `(problems, candidates)`; NaN marks a candidate that does not exist (problems may have unequal
numbers of candidates); ties share equally; `budget` is one number and gives `(problems,)`, `budgets` is a sequence and
gives `(problems, budgets)`. `problem_ids` and `language` only serve to name the culprit in an error.

How ties between languages are shared exactly: give each tied candidate a uniform tie-breaker u. Given u of the winner,
the other languages' draws are independent, so its chance to win is an integral over u of a polynomial, which
Gauss-Legendre quadrature of enough nodes evaluates exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import comb
from typing import NamedTuple

import numpy as np
import scipy.sparse
from scipy.special import gammaln

Array = np.ndarray
_ENUMERATED = 10  # weighted votes over so few candidates of one language are enumerated
_BLOCK = 8_192  # entries worked on at once, so that they stay in the processor's cache


# ---------------------------------------------------------------- one language


def coverage(
    n_correct: Array,
    n_candidates: Array,
    budget: int | None = None,
    *,
    budgets: Sequence[int] | Array | None = None,
    problem_ids: Sequence[str] | None = None,
    language: str | None = None,
) -> Array:
    """Chance that at least one of `budget` candidates is correct (pass@k).

    Args:
        n_correct: (problems,) int, correct candidates drawn.
        n_candidates: (problems,) int, candidates drawn.
        budget: candidates kept per problem, 0..min(n_candidates).
        budgets: several of them at once, instead of `budget`.

    Returns:
        (problems,) float in [0, 1], or (problems, budgets); its mean over problems is the benchmark figure.

    Raises:
        ValueError: naming the first problem with fewer than `budget` candidates.

    Source: Chen et al. 2021, arXiv:2107.03374, eq. 1.

    >>> coverage(np.array([1]), np.array([2]), 1)
    array([0.5])
    """
    ks, single = _budgets(budget, budgets)
    n, c = np.atleast_1d(np.asarray(n_candidates, float)), np.atleast_1d(np.asarray(n_correct, float))
    n, c = np.broadcast_arrays(n, c)
    if (c < 0).any() or (c > n).any():
        p = int(np.flatnonzero((c < 0) | (c > n))[0])
        where = _name(p, problem_ids, language)
        raise ValueError(f"{c[p]:g} correct of {n[p]:g} candidates in {where}; check the counts")
    _check_budget(n, int(ks.max()), problem_ids, language)
    covered = 1 - _miss(n, c, int(ks.max()))[:, ks]
    return covered[:, 0] if single else covered


def best_of_k(
    rewards: Array,
    is_correct: Array,
    budget: int | None = None,
    *,
    budgets: Sequence[int] | Array | None = None,
    problem_ids: Sequence[str] | None = None,
    language: str | None = None,
) -> Array:
    """Chance that the highest reward among `budget` candidates belongs to a correct one.

    Args:
        rewards: (problems, candidates) float; NaN: the candidate does not exist.
        is_correct: (problems, candidates) bool, or float with NaN where the candidate does not exist. With floats a
            NaN reward of a candidate that exists is an error; with bools a NaN reward means that none exists.
        budget: candidates kept per problem, 1..min(candidates).
        budgets: several of them at once, instead of `budget`.

    Returns:
        (problems,) float in [0, 1], or (problems, budgets).

    Raises:
        ValueError: naming the first candidate whose reward is infinite or NaN, or a problem with too few candidates.

    >>> best_of_k(np.array([[0.1, 0.9]]), np.array([[True, False]]), budgets=[1, 2])
    array([[0.5, 0. ]])
    """
    ks, single = _budgets(budget, budgets, least=1)
    rewards, payoff, exists = _checked(rewards, is_correct, problem_ids, language)
    n = exists.sum(1)
    _check_budget(n, int(ks.max()), problem_ids, language)
    order = np.argsort(rewards, axis=1, kind="stable")  # NaN last
    payoff = _tie_means(np.take_along_axis(rewards, order, 1), np.take_along_axis(payoff, order, 1))
    result = np.empty((len(n), len(ks)))
    for size in np.unique(n):
        rows = n == size
        result[rows] = payoff[rows, :size] @ _win_weights(int(size), ks)
    return result[:, 0] if single else result


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
        answers: (problems, candidates) int answer codes, -1: no answer could be read. Float with NaN also serves:
            NaN: the candidate does not exist.
        reference: (problems,) int, the code of the right answer (any code that never occurs, if nobody found it).
        budget: candidates kept per problem, 1..min(candidates).
        budgets: several of them at once, instead of `budget`.
        exists: (problems, candidates) bool; by default all but NaN.

    Returns:
        (problems,) float in [0, 1], or (problems, budgets).

    How: for v = votes of the reference, each other answer contributes the polynomial of its counts below v plus w times
    its count of exactly v; 1 / (1 + number of rivals at v) is the integral of w^rivals over 0..1. The coefficient of
    z^k over C(n, k) is the chance. Counts are tilted (binomial instead of raw coefficients) so that nothing overflows.
    """
    ks, single = _budgets(budget, budgets, least=1)
    answers = np.atleast_2d(np.asarray(answers))
    if exists is None:
        exists = ~np.isnan(answers) if answers.dtype.kind == "f" else np.ones(answers.shape, bool)
    n = exists.sum(1)
    _check_budget(n, int(ks.max()), problem_ids, language)
    codes = np.where(exists, np.nan_to_num(answers.astype(float), nan=-1), -1).astype(np.int64)
    right, rivals = _vote_counts(codes, np.asarray(reference, np.int64).reshape(-1))
    result = np.zeros((len(n), len(ks)))
    for size in np.unique(n):
        rows = np.flatnonzero((n == size) & (right > 0))
        if len(rows):
            result[rows] = _majority_equal_size(right[rows], rivals[rows], int(size), ks)
    return result[:, 0] if single else result


# ---------------------------------------------------------------- several languages


def coverage_of_allocation(
    is_correct: Mapping[str, Array],
    allocation: Mapping[str, int],
    *,
    problem_ids: Sequence[str] | None = None,
) -> Array:
    """Chance that at least one candidate is correct when each language gives its number of the allocation.

    Args:
        is_correct: per language (problems, candidates) bool, or float with NaN where the candidate does not exist.
        allocation: completions per language; languages left out get none.

    Returns:
        (problems,) float in [0, 1].

    Raises:
        ValueError: unknown language, or a language and problem with too few candidates.
    """
    miss: Array | float = 1.0
    for code, k in _checked_allocation(allocation, is_correct).items():
        n, c = _counts(is_correct[code])
        _check_budget(n, k, problem_ids, code)
        miss = miss * _miss(n, c, k)[:, k]
    return 1 - np.asarray(miss)


def coverage_of_shares(
    is_correct: Mapping[str, Array],
    budget: int | None = None,
    *,
    budgets: Sequence[int] | Array | None = None,
    problem_ids: Sequence[str] | None = None,
) -> Array:
    """Coverage of the mixed pool with equal shares, exactly.

    Of a budget k over L languages each gets k // L, and k % L languages, drawn uniformly at random, one more; the
    figure is the expectation over that draw too (elementary symmetric polynomials, never an enumeration).

    Args and Returns: as `coverage_of_allocation`; `budgets` gives (problems, budgets).
    """
    ks, single = _budgets(budget, budgets, least=1)
    tables = []
    top = -(-int(ks.max()) // len(is_correct))
    _check_shares({code: _counts(values)[0] for code, values in is_correct.items()}, ks, problem_ids)
    for values in is_correct.values():
        n, c = _counts(values)
        tables.append(_miss(n, c, top))
    covered = 1 - _over_shares(lambda position, k: tables[position][:, k], len(tables), ks)
    return covered[:, 0] if single else covered


def best_of_allocation(
    rewards: Mapping[str, Array],
    is_correct: Mapping[str, Array],
    allocation: Mapping[str, int],
    *,
    problem_ids: Sequence[str] | None = None,
) -> Array:
    """Chance that the highest reward among all candidates of the allocation belongs to a correct one, exactly.

    Args:
        rewards: per language (problems, candidates) float; NaN: does not exist.
        is_correct: per language (problems, candidates), as in `best_of_k`.
        allocation: completions per language; languages left out get none.

    Returns:
        (problems,) float in [0, 1].

    Many allocations of one pool: make a `Contest` once and ask it.
    """
    used = _checked_allocation(allocation, is_correct)
    _same_languages(rewards, is_correct, used)
    return Contest.of({c: rewards[c] for c in used}, {c: is_correct[c] for c in used}, problem_ids).allocation(used)


def best_of_shares(
    rewards: Mapping[str, Array],
    is_correct: Mapping[str, Array],
    budget: int | None = None,
    *,
    budgets: Sequence[int] | Array | None = None,
    problem_ids: Sequence[str] | None = None,
) -> Array:
    """Best-of-k by reward from the mixed pool with equal shares, exactly; see `coverage_of_shares` for the shares.

    Returns:
        (problems,) float in [0, 1], or (problems, budgets).
    """
    _same_languages(rewards, is_correct, is_correct)
    ks, single = _budgets(budget, budgets, least=1)
    result = Contest.of(rewards, is_correct, problem_ids).shares(ks)
    return result[:, 0] if single else result


@dataclass(frozen=True)
class Contest:
    """All candidates of a pool, ranked by one reward: answers any allocation fast. Make it with `Contest.of`.

    Only the ranks where correctness changes are kept: with F(g) = chance that no drawn candidate ranks above group g,
    accuracy = Σ_g m_g (F(g) − F(g−1)) = m_last + Σ_g (m_g − m_{g+1}) F(g), where m_g is the share correct in group g.
    """

    languages: tuple[str, ...]
    n_candidates: Array  # (problems, languages) int
    last: Array  # (problems,) share correct in the top group
    step: scipy.sparse.csr_matrix  # (problems, entries): m_g − m_{g+1}
    row: Array  # (entries,) problem of the entry
    at_most: Array  # (entries, languages) candidates at or below the entry's reward
    ties: _Ties  # groups tied across languages whose shares correct differ
    problem_ids: Sequence[str] | None = None
    _tables: dict = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        rewards: Mapping[str, Array],
        payoff: Mapping[str, Array],
        problem_ids: Sequence[str] | None = None,
    ) -> Contest:
        """Rank the candidates.

        Args:
            rewards: per language (problems, candidates) float; NaN: does not exist.
            payoff: per language (problems, candidates): what a win of this candidate is worth; 1 and 0 for correct and
                wrong. Any float serves: with tokens instead, `allocation` gives the winner's expected tokens.
        """
        languages = tuple(payoff)
        if not languages:
            raise ValueError("no languages given; a pool needs at least one")
        checked = [_checked(rewards[c], payoff[c], problem_ids, c) for c in languages]
        sizes = {len(values) for values, _, _ in checked}
        if len(sizes) > 1:
            shapes = ", ".join(f"{c} {len(v)}" for c, (v, _, _) in zip(languages, checked, strict=True))
            raise ValueError(f"languages differ in their number of problems ({shapes}); align them by problem_id")
        n_problems, n_languages = sizes.pop(), len(languages)
        reward = np.concatenate([values for values, _, _ in checked], 1)
        value = np.concatenate([values for _, values, _ in checked], 1)
        exists = np.concatenate([mask for _, _, mask in checked], 1)
        column = np.repeat(np.arange(n_languages), [values.shape[1] for values, _, _ in checked])
        n = np.stack([mask.sum(1) for _, _, mask in checked], 1)

        order = np.argsort(reward, axis=1, kind="stable")
        kept = np.take_along_axis(exists, order, 1)
        row = np.repeat(np.arange(n_problems), kept.sum(1))
        flat_reward = np.take_along_axis(reward, order, 1)[kept]
        flat_value = np.take_along_axis(value, order, 1)[kept]
        flat_language = column[order][kept]
        first = np.ones(len(row), bool)
        first[1:] = (flat_reward[1:] != flat_reward[:-1]) | (row[1:] != row[:-1])
        group = np.cumsum(first) - 1
        group_row = row[first]
        n_groups = len(group_row)
        cell = group * n_languages + flat_language
        tied = np.bincount(cell, minlength=n_groups * n_languages).reshape(n_groups, n_languages)
        worth = np.bincount(cell, flat_value, minlength=n_groups * n_languages).reshape(n_groups, n_languages)
        at_most = np.cumsum(tied, 0)
        top = np.ones(n_groups, bool)
        top[:-1] = group_row[1:] != group_row[:-1]
        drawn = np.zeros((n_problems, n_languages), int)
        drawn[group_row[top]] = at_most[top]
        before = np.concatenate([np.zeros((1, n_languages), int), np.cumsum(n, 0)[:-1]])
        at_most = at_most - before[group_row]

        mean = worth.sum(1) / tied.sum(1)
        with np.errstate(invalid="ignore", divide="ignore"):
            own = np.where(tied > 0, worth / tied, np.nan)
        crossing = (tied > 0).sum(1) > 1
        uneven = np.zeros(n_groups, bool)
        if crossing.any():
            spread = own[crossing]
            uneven[crossing] = np.nanmax(spread, 1) - np.nanmin(spread, 1) > 0
        last = np.zeros(n_problems)
        last[group_row[top]] = mean[top]
        step = np.zeros(n_groups)
        step[:-1] = mean[:-1] - mean[1:]
        entry = ~top & (step != 0)
        rows = group_row[entry]
        matrix = scipy.sparse.csr_matrix((step[entry], (rows, np.arange(len(rows)))), shape=(n_problems, len(rows)))
        ties = _Ties(
            group_row[uneven],
            np.asfortranarray((at_most - tied)[uneven]),  # columns are read one by one
            np.asfortranarray(tied[uneven]),
            np.asfortranarray(np.where(tied > 0, own - mean[:, None], 0.0)[uneven]),
        )
        return cls(languages, n, last, matrix, rows, np.asfortranarray(at_most[entry]), ties, problem_ids)

    def allocation(self, allocation: Mapping[str, int]) -> Array:
        """(problems,) expected payoff of the winner when each language gives its number of the allocation."""
        used = _checked_allocation(allocation, self.languages)
        positions = {self.languages.index(code): k for code, k in used.items()}
        for position, k in positions.items():
            _check_budget(self.n_candidates[:, position], k, self.problem_ids, self.languages[position])
        below = np.ones(len(self.row))
        for position, k in positions.items():
            below = below * self._below(position, k)
        # languages without budget change no F, so their groups add nothing to the sum
        result = self.last + self.step @ below
        return result + self.ties.allocation(self, [positions.get(i, 0) for i in range(len(self.languages))])

    def shares(self, budgets: Iterable[int], languages: Sequence[str] | None = None) -> Array:
        """(problems, budgets) expected payoff of the winner with equal shares over `languages` (default: all)."""
        ks = np.asarray(list(budgets), int)
        chosen = [self.languages.index(code) for code in (languages or self.languages)]
        _check_shares({self.languages[i]: self.n_candidates[:, i] for i in chosen}, ks, self.problem_ids)
        below = np.empty((len(self.row), len(ks)))
        for start in range(0, len(self.row), _BLOCK):
            part = slice(start, start + _BLOCK)

            def factor(position: int, k: int, part: slice = part) -> Array:
                return self._below(chosen[position], k, part)

            below[part] = _over_shares(factor, len(chosen), ks)
        return self.last[:, None] + self.step @ below + self.ties.shares(self, chosen, ks)

    def one_more(self, allocation: Mapping[str, int]) -> dict[str, Array]:
        """Per language that can still give one: (problems,) expected payoff of the winner with one more of it.

        Args:
            allocation: completions per language so far; may be empty.
        """
        ks = [int(allocation.get(code, 0)) for code in self.languages]
        factors = [self._below(position, k) if k else None for position, k in enumerate(ks)]
        before: list[Array | float] = [1.0]  # products of the languages left and right of each
        after: list[Array | float] = [1.0]
        for factor in factors[:-1]:
            before.append(before[-1] if factor is None else before[-1] * factor)
        for factor in factors[:0:-1]:
            after.append(after[-1] if factor is None else after[-1] * factor)
        result = {}
        for position, code in enumerate(self.languages):
            if ks[position] < self.n_candidates[:, position].min():
                below = before[position] * after[-1 - position] * self._below(position, ks[position] + 1)
                more = [k + (i == position) for i, k in enumerate(ks)]
                result[code] = self.last + self.step @ below + self.ties.allocation(self, more)
        return result

    def shapley(self, budget: int) -> Array:
        """(problems, languages) exact Shapley value of each language for the winner's expected payoff.

        The game: a set of languages shares `budget` equally (leftovers at random); the empty set is worth 0. All
        2^L sets count, but none is enumerated: the sum over sets of one size is a coefficient of
        Π_l (1 + x (F_l(q) + y F_l(q + 1))), and leaving one language out is one division.
        """
        n = len(self.languages)
        for position, code in enumerate(self.languages):
            _check_budget(self.n_candidates[:, position], budget, self.problem_ids, code)
        total = np.zeros((n + 1, len(self.last)))  # sums over sets of one size
        without = np.zeros((n, n + 1, len(self.last)))  # the same over sets that lack a language
        for size in range(1, n + 1):
            total[size] = comb(n, size) * self.last
            without[:, size] = comb(n - 1, size) * self.last
        for q in {budget // size for size in range(1, n + 1)}:
            sizes = [size for size in range(1, n + 1) if budget // size == q]
            more = any(budget % size for size in sizes)
            low = [self._below(position, q) for position in range(n)]
            high = [self._below(position, q + 1) for position in range(n)] if more else low
            self._set_sums(low, high, sizes, budget, total, without, lambda x: self.step @ x)
            for rows, nodes, weights in self.ties._batches(budget):
                low, high = (
                    [
                        np.stack([value, slope * self.ties.excess[rows, position, None]])
                        for position in range(n)
                        for value, slope in [self.ties._pgf(self, rows, position, k, nodes)]
                    ]
                    for k in (q, q + 1 if more else q)
                )
                where = self.ties.row[rows]

                def read(x: Array, weights: Array = weights, where: Array = where) -> Array:
                    return np.bincount(where, x[1] @ weights, minlength=len(self.last))

                self._set_sums(low, high, sizes, budget, total, without, read)
        value = np.zeros((len(self.last), n))
        for position in range(n):
            for size in range(n):
                joined = total[size + 1] - without[position, size + 1]
                value[:, position] += (joined - without[position, size]) / comb(n - 1, size) / n
        return value

    @staticmethod
    def _set_sums(
        low: list[Array],
        high: list[Array],
        sizes: list[int],
        budget: int,
        total: Array,
        without: Array,
        read: Callable[[Array], Array],
    ) -> None:
        """Add to `total` and `without` what `read` makes of the coefficients of x^size y^(budget % size)."""
        dual = low[0].ndim == 3  # (value, slope) pairs: products follow the product rule

        def times(a: Array, b: Array) -> Array:
            return np.stack([a[0] * b[0], a[0] * b[1] + a[1] * b[0]]) if dual else a * b

        top, extra = max(sizes), max(budget % size for size in sizes)
        one = np.ones(low[0].shape)
        if dual:
            one[1] = 0
        zero = np.zeros_like(one)
        table = [[zero] * (extra + 1) for _ in range(top + 1)]
        table[0][0] = one
        for a, b in zip(low, high, strict=True):
            for s in range(top, 0, -1):
                for r in range(min(extra, s), -1, -1):
                    if table[s - 1][r] is not zero:
                        table[s][r] = table[s][r] + times(table[s - 1][r], a)
                    if r and table[s - 1][r - 1] is not zero:
                        table[s][r] = table[s][r] + times(table[s - 1][r - 1], b)
        for size in sizes:
            r = budget % size
            total[size] += read(table[size][r]) / comb(size, r)
        for position, (a, b) in enumerate(zip(low, high, strict=True)):
            rest = [[zero] * (extra + 1) for _ in range(top + 1)]
            rest[0][0] = one
            for s in range(1, top + 1):
                for r in range(min(extra, s) + 1):
                    left = table[s][r] - times(rest[s - 1][r], a)
                    rest[s][r] = left - times(rest[s - 1][r - 1], b) if r else left
            for size in sizes:
                r = budget % size
                if size < len(low):
                    without[position, size] += read(rest[size][r]) / comb(size, r)

    def _below(self, position: int, k: int, part: slice = slice(None)) -> Array:
        """(entries,) chance that k draws of one language all rank at or below the entry."""
        return self._ratio(self.at_most[part, position], self.row[part], position, k)

    def _ratio(self, b: Array, row: Array, position: int, k: int) -> Array:
        """C(b, k) / C(n, k) by table, n being the candidates of one language in the problems `row`."""
        if "sizes" not in self._tables:
            self._tables["sizes"] = np.unique(self.n_candidates)
        sizes = self._tables["sizes"]
        if k not in self._tables:
            start = max((known for known in self._tables if known != "sizes" and known < k), default=0)
            table = self._tables.get(start, np.ones((len(sizes), int(sizes.max(initial=0)) + 1)))
            for j in range(start, k):
                table = table * np.maximum(np.arange(table.shape[1]) - j, 0) / np.maximum(sizes - j, 1)[:, None]
            self._tables[k] = table
        if len(sizes) == 1:
            return self._tables[k][0][b]
        return self._tables[k][np.searchsorted(sizes, self.n_candidates[row, position]), b]


@dataclass(frozen=True)
class _Ties:
    """Groups tied across languages whose shares correct differ: what the plain sum leaves out."""

    row: Array  # (groups,) problem
    below: Array  # (groups, languages) candidates strictly below
    tied: Array  # (groups, languages) candidates in the group
    excess: Array  # (groups, languages) own share correct minus the group's

    def allocation(self, contest: Contest, ks: Sequence[int]) -> Array:
        total = np.zeros(len(contest.last))
        for rows, nodes, weights in self._batches(sum(ks)):
            product = np.ones((len(rows), len(nodes)))
            win = np.zeros_like(product)
            for position, k in enumerate(ks):
                if k:
                    value, slope = self._pgf(contest, rows, position, k, nodes)
                    win = win * value + product * (slope * self.excess[rows, position, None])
                    product = product * value
            total += np.bincount(self.row[rows], win @ weights, minlength=len(total))
        return total

    def shares(self, contest: Contest, chosen: Sequence[int], budgets: Array) -> Array:
        total = np.zeros((len(contest.last), len(budgets)))
        for q in np.unique(budgets // len(chosen)):
            at = np.flatnonzero(budgets // len(chosen) == q)
            extra = budgets[at] % len(chosen)
            top = int(extra.max())
            for rows, nodes, weights in self._batches(int(budgets[at].max())):
                product = [np.ones((len(rows), len(nodes)))]  # coefficients of y^0, y^1, …
                win = [np.zeros((len(rows), len(nodes)))]
                for position in chosen:
                    worth = self.excess[rows, position, None]
                    low, low_slope = self._pgf(contest, rows, position, int(q), nodes)
                    low_slope = low_slope * worth
                    if top:
                        high, high_slope = self._pgf(contest, rows, position, int(q) + 1, nodes)
                        high_slope = high_slope * worth
                        if len(product) <= top:
                            win.append(win[-1] * high + product[-1] * high_slope)
                            product.append(product[-1] * high)
                            fresh = len(product) - 1
                        else:
                            fresh = len(product)
                        for r in range(fresh - 1, 0, -1):
                            win[r] = win[r] * low + product[r] * low_slope
                            win[r] += win[r - 1] * high + product[r - 1] * high_slope
                            product[r] = product[r] * low + product[r - 1] * high
                    win[0] = win[0] * low + product[0] * low_slope
                    product[0] = product[0] * low
                for column, r in zip(at, extra, strict=True):
                    share = win[r] @ weights / comb(len(chosen), int(r))
                    total[:, column] += np.bincount(self.row[rows], share, minlength=len(total))
        return total

    def _batches(self, budget: int) -> Iterator[tuple[Array, Array, Array]]:
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

    def _pgf(self, contest: Contest, rows: Array, position: int, k: int, nodes: Array) -> tuple[Array, Array]:
        """Generating function of the number of tied draws of one language (none above), and its slope, at the nodes."""
        b, t = self.below[rows, position], self.tied[rows, position]
        reach = contest._ratio(b + t, self.row[rows], position, k)
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
        mass = _hypergeometric(pairs[:, :1], pairs[:, 1:], k, j)
        power = nodes[:, None] ** j
        slope = np.zeros_like(power)
        slope[:, 1:] = power[:, :-1] * j[1:]
        return reach[:, None] * (mass @ power.T)[back], reach[:, None] * (mass @ slope.T)[back]


@dataclass(frozen=True)
class Winners:
    """Which language the best-rewarded candidate comes from: answers any allocation fast. Make it with `Winners.of`."""

    ranks: Contest  # the pool ranked, with an entry for every distinct reward
    ends: Array  # (entries + problems,) position of each group in the list of entries, -1: the top group
    row: Array  # (entries + problems,) problem of the group, in order
    position: Array  # (entries + problems,) language of the group
    tied: dict[str, Contest]  # one contest per language where rewards tie across languages; else empty

    @classmethod
    def of(cls, rewards: Mapping[str, Array], problem_ids: Sequence[str] | None = None) -> Winners:
        """Rank the candidates; per language (problems, candidates) float, NaN: does not exist."""
        ranks = Contest.of(rewards, rewards, problem_ids)
        n_problems = len(ranks.n_candidates)
        row = np.concatenate([ranks.row, np.arange(n_problems)])
        ends = np.concatenate([np.arange(len(ranks.row)), np.full(n_problems, -1)])
        order = np.lexsort((ends < 0, row))  # entries rank upwards within a problem; the top group closes it
        row, ends = row[order], ends[order]
        at_most = np.concatenate([ranks.at_most, ranks.n_candidates])[order]
        joined = np.diff(at_most, axis=0, prepend=0)
        first = np.ones(len(row), bool)
        first[1:] = row[1:] != row[:-1]
        joined[first] = at_most[first]
        tied: dict[str, Contest] = {}
        if ((joined > 0).sum(1) > 1).any():
            for code in rewards:
                payoff = {c: np.where(np.isnan(values), np.nan, float(c == code)) for c, values in rewards.items()}
                tied[code] = Contest.of(rewards, payoff, problem_ids)
        return cls(ranks, ends, row, joined.argmax(1), tied)

    def allocation(self, allocation: Mapping[str, int]) -> Array:
        """(problems, languages) chance that the winner is from each language; rows sum to 1."""
        if self.tied:
            return np.stack([contest.allocation(allocation) for contest in self.tied.values()], 1)
        used = _checked_allocation(allocation, self.ranks.languages)
        below = np.ones(len(self.ranks.row))
        for code, k in used.items():
            position = self.ranks.languages.index(code)
            _check_budget(self.ranks.n_candidates[:, position], k, self.ranks.problem_ids, code)
            below = below * self.ranks._below(position, k)
        return self._shares(below)

    def shares(self, budget: int, languages: Sequence[str] | None = None) -> Array:
        """The same with equal shares over `languages` (default: all); see `coverage_of_shares`."""
        if self.tied:
            return np.stack([contest.shares([budget], languages)[:, 0] for contest in self.tied.values()], 1)
        chosen = [self.ranks.languages.index(code) for code in (languages or self.ranks.languages)]
        ks = np.array([budget])
        sizes = {self.ranks.languages[i]: self.ranks.n_candidates[:, i] for i in chosen}
        _check_shares(sizes, ks, self.ranks.problem_ids)
        return self._shares(_over_shares(lambda place, k: self.ranks._below(chosen[place], k), len(chosen), ks)[:, 0])

    def _shares(self, below: Array) -> Array:
        reached = np.append(below, 1.0)[self.ends]  # chance that no drawn candidate ranks above the group
        wins = np.diff(reached, prepend=0.0)
        first = np.ones(len(wins), bool)
        first[1:] = self.row[1:] != self.row[:-1]
        wins[first] = reached[first]
        shape = self.ranks.n_candidates.shape
        cell = self.row * shape[1] + self.position
        return np.bincount(cell, wins, minlength=shape[0] * shape[1]).reshape(shape)


# ---------------------------------------------------------------- votes over several languages, by Monte Carlo


class Estimate(NamedTuple):
    """A Monte Carlo figure and its own error."""

    value: Array  # (problems,) or (problems, budgets)
    standard_error: Array  # the same shape; of the Monte Carlo alone, not of the problems


def majority_of_allocation(
    answers: Mapping[str, Array],
    reference: Array,
    allocation: Mapping[str, int],
    draws: int = 200,
    seed: int = 0,
    *,
    problem_ids: Sequence[str] | None = None,
) -> Estimate:
    """Chance that the most frequent answer of a mixed draw is the reference, by Monte Carlo.

    Args:
        answers: per language (problems, candidates) answer codes that mean the same in all languages, -1: unread;
            float with NaN: the candidate does not exist.
        reference: (problems,) int, the code of the right answer.
        allocation: completions per language.
        draws: subsets per problem.
        seed: the same seed gives the same figures.

    Returns:
        Estimate of (problems,): the chance and its standard error.
    """
    used = _checked_allocation(allocation, answers)
    return _votes({c: answers[c] for c in used}, None, reference, draws, seed, problem_ids, allocation=used)


def majority_of_shares(
    answers: Mapping[str, Array],
    reference: Array,
    budgets: Sequence[int] | Array,
    draws: int = 200,
    seed: int = 0,
    *,
    problem_ids: Sequence[str] | None = None,
) -> Estimate:
    """Majority from the mixed pool with equal shares at many budgets, by Monte Carlo.

    One random sequence per draw serves all budgets: in each round every language gives one candidate, in random order.

    Returns:
        Estimate of (problems, budgets).
    """
    return _votes(answers, None, reference, draws, seed, problem_ids, budgets=budgets)


def weighted_vote(
    weights: Mapping[str, Array],
    answers: Mapping[str, Array],
    reference: Array,
    allocation: Mapping[str, int],
    draws: int = 200,
    seed: int = 0,
    *,
    problem_ids: Sequence[str] | None = None,
) -> Estimate:
    """Chance that the answer with the largest sum of weights is the reference, by Monte Carlo.

    Args:
        weights: per language (problems, candidates) float, such as rewards; sums that differ by less than one part in
            10^9 tie. A negative weight is allowed and counts against its answer.
        answers, reference, allocation, draws, seed: as in `majority_of_allocation`.

    Returns:
        Estimate of (problems,).
    """
    used = _checked_allocation(allocation, answers)
    _same_languages(weights, answers, used)
    kept = {c: answers[c] for c in used}
    return _votes(kept, {c: weights[c] for c in used}, reference, draws, seed, problem_ids, allocation=used)


def weighted_vote_of_shares(
    weights: Mapping[str, Array],
    answers: Mapping[str, Array],
    reference: Array,
    budgets: Sequence[int] | Array,
    draws: int = 200,
    seed: int = 0,
    *,
    problem_ids: Sequence[str] | None = None,
) -> Estimate:
    """Weighted vote from the mixed pool with equal shares at many budgets; one language is the one-group case.

    Returns:
        Estimate of (problems, budgets). One language of at most 10 candidates is exact: its subsets are enumerated and
        the standard error is 0.
    """
    _same_languages(weights, answers, answers)
    return _votes(answers, weights, reference, draws, seed, problem_ids, budgets=budgets)


def _votes(
    answers: Mapping[str, Array],
    weights: Mapping[str, Array] | None,
    reference: Array,
    draws: int,
    seed: int,
    problem_ids: Sequence[str] | None,
    *,
    budgets: Sequence[int] | Array | None = None,
    allocation: Mapping[str, int] | None = None,
) -> Estimate:
    if draws < 2:
        raise ValueError(f"draws is {draws}; at least 2 are needed to state an error, 200 is usual")
    languages = list(answers)
    tables = [np.atleast_2d(np.asarray(answers[c], float)) for c in languages]
    sizes = np.stack([(~np.isnan(table)).sum(1) for table in tables], 1)  # (problems, languages)
    n_problems, width = len(sizes), max(table.shape[1] for table in tables)
    if allocation is not None:
        for position, code in enumerate(languages):
            _check_budget(sizes[:, position], allocation[code], problem_ids, code)
        each = max(allocation.values())
        ks = np.array([sum(allocation.values())])
    else:
        ks, _ = _budgets(None, budgets, least=1)
        _check_shares(dict(zip(languages, sizes.T, strict=True)), ks, problem_ids)
        each = -(-int(ks.max()) // len(languages))
    codes = np.full((n_problems, len(languages), width), -1, np.int64)
    heavy = None if weights is None else np.zeros(codes.shape)
    for position, (code, table) in enumerate(zip(languages, tables, strict=True)):
        exists = ~np.isnan(table)
        order = np.argsort(~exists, axis=1, kind="stable")  # existing candidates first
        moved = np.take_along_axis(np.where(exists, table, -1), order, 1)
        codes[:, position, : table.shape[1]] = moved
        if weights is not None and heavy is not None:
            checked, _, _ = _checked(weights[code], np.where(exists, 0.0, np.nan), problem_ids, code)
            heavy[:, position, : table.shape[1]] = np.take_along_axis(np.nan_to_num(checked), order, 1)
    flat, right = _dense(codes.reshape(n_problems, -1), np.asarray(reference, np.int64).reshape(-1))
    n_answers = int(flat.max(initial=0)) + 1
    if len(languages) == 1 and heavy is not None and width <= _ENUMERATED:
        exact = _enumerated(flat, heavy[:, 0], right, sizes[:, 0], ks)
        none = np.zeros_like(exact)
        return Estimate(exact[:, 0], none[:, 0]) if allocation is not None else Estimate(exact, none)
    rng = np.random.default_rng(seed)
    value, error = np.empty((n_problems, len(ks))), np.empty((n_problems, len(ks)))
    per_problem = draws * max(n_answers * (1 if heavy is None else 2), len(languages) * (width + each))
    step = max(1, 12_000_000 // per_problem)
    for start in range(0, n_problems, step):
        part = slice(start, min(start + step, n_problems))
        chosen = _without_replacement(sizes[part], draws, width, each, rng)
        turns = _order(len(chosen), draws, languages, each, allocation, rng)
        shares = _tally(
            flat[part],
            None if heavy is None else heavy[part].reshape(len(chosen), -1),
            right[part],
            chosen,
            turns,
            width,
            n_answers,
            ks,
        )  # (problems, draws, budgets)
        value[part] = shares.mean(1)
        error[part] = shares.std(1, ddof=1) / np.sqrt(draws)
    return Estimate(value[:, 0], error[:, 0]) if allocation is not None else Estimate(value, error)


def _enumerated(codes: Array, weights: Array, right: Array, sizes: Array, ks: Array) -> Array:
    """(problems, budgets) weighted vote of few candidates over all their subsets."""
    result = np.empty((len(codes), len(ks)))
    for n in np.unique(sizes):
        rows = np.flatnonzero(sizes == n)
        subsets = (np.arange(1, 2**n)[:, None] >> np.arange(n)) & 1
        members = subsets.sum(1)
        for start in range(0, len(rows), max(1, 2_000_000 // (len(subsets) * n))):
            part = rows[start : start + max(1, 2_000_000 // (len(subsets) * n))]
            given = codes[part, :n, None] == np.arange(int(codes[part, :n].max(initial=0)) + 1)
            votes, sums = subsets @ given.astype(float), subsets @ (given * weights[part, :n, None])
            share = _share_of_sums(votes, sums, right[part], len(part), len(subsets))
            for column, k in enumerate(ks):
                result[part, column] = share[:, members == k].mean(1)
    return result


def _without_replacement(sizes: Array, draws: int, width: int, each: int, rng: np.random.Generator) -> Array:
    """(problems, draws, languages, each) candidate indices, distinct within a language (partial Fisher-Yates)."""
    shape = (len(sizes), draws, sizes.shape[1])
    deck = np.broadcast_to(np.arange(width, dtype=np.int16 if width < 2**15 else np.int32), (*shape, width)).copy()
    for t in range(min(each, width)):
        room = np.maximum(sizes - t, 1)[:, None, :]
        other = np.minimum(t + (rng.random(shape) * room).astype(np.int64), width - 1)[..., None]
        mine = deck[..., t].copy()
        deck[..., t] = np.take_along_axis(deck, other, -1)[..., 0]
        np.put_along_axis(deck, other, np.where(other[..., 0] == t, deck[..., t], mine)[..., None], -1)
    return deck[..., :each]


def _order(
    n_problems: int,
    draws: int,
    languages: list[str],
    each: int,
    allocation: Mapping[str, int] | None,
    rng: np.random.Generator,
) -> Iterator[tuple[Array | int, int]]:
    """Which language gives its how-manieth candidate, step by step."""
    if allocation is not None:
        for position, code in enumerate(languages):
            yield from ((position, t) for t in range(allocation[code]))
        return
    for t in range(each):
        turn = np.argsort(rng.random((n_problems, draws, len(languages))), axis=-1)
        yield from ((turn[..., s], t) for s in range(len(languages)))


def _tally(
    codes: Array,
    weights: Array | None,
    right: Array,
    chosen: Array,
    order: Iterable[tuple[Array | int, int]],
    width: int,
    n_answers: int,
    ks: Array,
) -> Array:
    """(problems, draws, budgets) share of the win that the reference has in each draw."""
    n_problems, draws = chosen.shape[:2]
    row, draw = np.ogrid[:n_problems, :draws]
    cell = (np.arange(n_problems * draws) * n_answers).reshape(n_problems, draws)
    votes = np.zeros(n_problems * draws * n_answers, np.int16)
    sums = None if weights is None else np.zeros(len(votes))
    best = np.zeros((n_problems, draws), np.int16)
    level = np.zeros((n_problems, draws), np.int16)
    mine = np.zeros((n_problems, draws), np.int16)
    result = np.zeros((n_problems, draws, len(ks)))
    for done, (position, t) in enumerate(order, 1):
        column = position * width + chosen[row, draw, position, t]
        code = codes[row, column]
        voted = code >= 0
        at = cell[voted] + code[voted]
        votes[at] += 1
        if sums is not None and weights is not None:
            sums[at] += weights[row, column][voted]
        else:
            now = votes[at]
            top = best[voted]
            level[voted] = np.where(now > top, 1, level[voted] + (now == top))
            best[voted] = np.maximum(now, top)
            mine += voted & (code == right[:, None])
        for index in np.flatnonzero(ks == done):
            if sums is None:
                result[..., index] = np.where((mine > 0) & (mine == best), 1 / np.maximum(level, 1), 0)
            else:
                result[..., index] = _share_of_sums(votes, sums, right, n_problems, draws)
        if done == ks.max():
            break
    return result


def _share_of_sums(votes: Array, sums: Array, right: Array, n_problems: int, draws: int) -> Array:
    heard = votes.reshape(n_problems, draws, -1) > 0
    total = np.where(heard, sums.reshape(heard.shape), -np.inf)
    top = total.max(-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        winners = heard & (total >= top - 1e-9 * np.abs(top))
    own = np.take_along_axis(winners, np.maximum(right, 0)[:, None, None].repeat(draws, 1), -1)[..., 0]
    return np.where((right >= 0)[:, None] & own, 1 / np.maximum(winners.sum(-1), 1), 0)


# ---------------------------------------------------------------- parts


def _budgets(budget: int | None, budgets: Sequence[int] | Array | None, least: int = 0) -> tuple[Array, bool]:
    if (budget is None) == (budgets is None):
        raise ValueError("give either budget (one number) or budgets (a sequence of them)")
    given = np.asarray([budget] if budgets is None else list(budgets))
    if given.ndim != 1 or not len(given) or given.dtype.kind not in "iu":
        raise ValueError(f"budgets are whole numbers, found {given.tolist()}; write them as 1, 2, 4")
    if (given < least).any():
        raise ValueError(f"budget {given.min()} is below {least}; a strategy needs at least {least} completion")
    return given.astype(int), budgets is None


def _name(problem: int, problem_ids: Sequence[str] | None, language: str | None) -> str:
    label = f"problem {problem}" if problem_ids is None else f"problem {problem_ids[problem]}"
    return label + (f" ({language})" if language else "")


def _check_budget(n: Array, k: int, problem_ids: Sequence[str] | None, language: str | None, said: str = "") -> None:
    n = np.asarray(n)
    if (n < k).any():
        p = int(np.flatnonzero(n < k)[0])
        raise ValueError(
            f"budget {said or k} exceeds the {int(n[p])} candidates of {_name(p, problem_ids, language)}; "
            "draw more or lower the budget"
        )


def _check_shares(sizes: Mapping[str, Array], ks: Array, problem_ids: Sequence[str] | None) -> None:
    top = int(np.max(ks))
    each = -(-top // len(sizes))
    for code, n in sizes.items():
        said = str(top) if len(sizes) == 1 else f"{top} ({each} for each of {len(sizes)} languages)"
        _check_budget(n, each, problem_ids, code, said)


def _checked_allocation(allocation: Mapping[str, int], known: Iterable[str]) -> dict[str, int]:
    """The allocation without its zeros."""
    known = list(known)
    for code, k in allocation.items():
        if code not in known:
            raise ValueError(f"allocation names language {code!r}, which the pool lacks; it has {', '.join(known)}")
        if not isinstance(k, int | np.integer) or isinstance(k, bool) or k < 0:
            raise ValueError(f"allocation gives {code} {k!r} completions; a whole number from 0 is expected")
    used = {code: int(k) for code, k in allocation.items() if k}
    if not used:
        raise ValueError("the allocation is empty; give at least one language one completion")
    return used


def _same_languages(rewards: Mapping[str, Array], others: Mapping[str, Array], used: Iterable[str]) -> None:
    lacking = [code for code in used if code not in rewards or code not in others]
    if lacking:
        raise ValueError(f"no rewards for {', '.join(lacking)}; rewards cover {', '.join(rewards) or 'no language'}")


def _checked(
    rewards: Array, payoff: Array, problem_ids: Sequence[str] | None, language: str | None
) -> tuple[Array, Array, Array]:
    """Rewards, payoffs (0 where absent) and the mask of candidates that exist, each (problems, candidates)."""
    rewards, payoff = np.atleast_2d(np.asarray(rewards, float)), np.atleast_2d(np.asarray(payoff))
    if rewards.shape != payoff.shape:
        raise ValueError(
            f"rewards are {rewards.shape} and is_correct is {payoff.shape}{f' for {language}' if language else ''}; "
            "both are (problems, candidates)"
        )
    exists = ~np.isnan(payoff) if payoff.dtype.kind == "f" else ~np.isnan(rewards)
    bad = exists & ~np.isfinite(rewards)
    if bad.any():
        p, i = (int(x[0]) for x in np.nonzero(bad))
        raise ValueError(
            f"reward {rewards[p, i]:g} of candidate {i} of {_name(p, problem_ids, language)} cannot be ranked; "
            "score it again or drop the candidate"
        )
    stray = ~exists & ~np.isnan(rewards)
    if stray.any():
        p, i = (int(x[0]) for x in np.nonzero(stray))
        raise ValueError(
            f"candidate {i} of {_name(p, problem_ids, language)} has a reward but does not exist (is_correct is NaN); "
            "give both from the same table"
        )
    return rewards, np.where(exists, np.nan_to_num(payoff.astype(float)), 0.0), exists


def _counts(is_correct: Array) -> tuple[Array, Array]:
    values = np.atleast_2d(np.asarray(is_correct, float))
    return (~np.isnan(values)).sum(1), np.nansum(values, 1)


def _miss(n: Array, c: Array, top: int) -> Array:
    """(problems, top + 1) C(n − c, k) / C(n, k) for k = 0..top, as a running product."""
    j = np.arange(top)
    factors = np.clip(n[:, None] - c[:, None] - j, 0, None) / np.maximum(n[:, None] - j, 1)
    return np.concatenate([np.ones((len(n), 1)), np.cumprod(factors, 1)], 1)


def _over_shares(factor: Callable[[int, int], Array], n_languages: int, ks: Array) -> Array:
    """(entries, budgets) mean of Π_l factor(l, k_l) over the random equal shares of each budget.

    The coefficient of y^r in Π_l (factor(l, q) + y factor(l, q + 1)), over C(L, r).
    """
    columns: list[Array | None] = [None] * len(ks)
    for q in np.unique(ks // n_languages):
        at = np.flatnonzero(ks // n_languages == q)
        extra = ks[at] % n_languages
        top = int(extra.max())
        product: list[Array] = []
        for position in range(n_languages):
            low = factor(position, int(q))
            high = factor(position, int(q) + 1) if top else low
            if not product:
                product = [low, high][: top + 1]
                continue
            longer = len(product) <= top
            tail = product[-1] * high if longer else None
            for r in range(len(product) - 1, 0, -1):
                product[r] = product[r] * low + product[r - 1] * high
            product[0] = product[0] * low
            if tail is not None:
                product.append(tail)
        for column, r in zip(at, extra, strict=True):
            columns[column] = product[r] / comb(n_languages, int(r))
    return np.stack([c for c in columns if c is not None], 1)


def _tie_means(rewards: Array, payoff: Array) -> Array:
    """Payoffs sorted by reward, each replaced by the mean of its tie."""
    first = np.ones(rewards.shape, bool)
    first[:, 1:] = rewards[:, 1:] != rewards[:, :-1]
    group = np.cumsum(first.ravel()) - 1
    sizes = np.bincount(group)
    return (np.bincount(group, payoff.ravel()) / sizes)[group].reshape(payoff.shape)


def _win_weights(n: int, ks: Array) -> Array:
    """(n, budgets) chance that the candidate at rank i (1 = lowest) is the best of k: C(i−1, k−1) / C(n, k)."""
    i = np.arange(n, 1, -1)[:, None]
    factors = np.clip(i - ks, 0, None) / (i - 1)
    weights = np.cumprod(np.concatenate([(ks / n)[None], factors]), 0)
    return weights[::-1]


def _hypergeometric(b: Array, t: Array, k: int, j: Array) -> Array:
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


def _runs(codes: Array) -> tuple[Array, Array, Array, Array]:
    """Distinct codes per row: sort order, and of each run its row, code and length (code -1 left in)."""
    order = np.argsort(codes, axis=1, kind="stable")
    ordered = np.take_along_axis(codes, order, 1)
    first = np.ones(codes.shape, bool)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    start = np.flatnonzero(first.ravel())
    length = np.diff(np.append(start, codes.size))
    return order, start // max(codes.shape[1], 1), ordered.ravel()[start], length


def _vote_counts(codes: Array, reference: Array) -> tuple[Array, Array]:
    """Votes of the reference (rows,) and of every other answer (rows, answers), most frequent first."""
    _, row, code, length = _runs(codes)
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


def _dense(codes: Array, reference: Array) -> tuple[Array, Array]:
    """Codes renumbered 0, 1, … within each row (-1 stays), and the reference's new code (-2: nobody gave it)."""
    order, row, code, length = _runs(codes)
    valid = code >= 0
    running = np.cumsum(valid)
    before = np.concatenate([[0], running])[np.searchsorted(row, np.arange(len(codes)))]
    fresh = np.where(valid, running - 1 - before[row], -1)
    result = np.empty_like(codes)
    np.put_along_axis(result, order, np.repeat(fresh, length).reshape(codes.shape), 1)
    right = np.full(len(codes), -2)
    found = valid & (code == reference[row])
    right[row[found]] = fresh[found]
    return result, right


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
        nodes, weights = np.polynomial.legendre.leggauss(degree // 2 + 1)
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
