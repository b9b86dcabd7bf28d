"""All candidates of a pool, ranked once by a reward: who wins under any allocation, exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import comb

import numpy as np
import scipy.sparse

from bestofl_lib.analysis.checks import (
    check_budget,
    check_same_languages,
    check_shares,
    checked_allocation,
    checked_rewards,
)
from bestofl_lib.analysis.hypergeometric import Ratios
from bestofl_lib.analysis.shares import over_shares
from bestofl_lib.analysis.ties import NEGLIGIBLE, Batch, Ties

Array = np.ndarray
_BLOCK = 16_384  # entries processed at a time: few enough for the processor's cache, many enough for two threads


@dataclass(frozen=True)
class Contest:
    """All candidates of a pool, ranked by one reward: answers any allocation fast. Make it with `Contest.of`.

    Only the ranks where correctness changes are kept: with F(g) = chance that no drawn candidate ranks above group g,
    accuracy = Σ_g m_g (F(g) − F(g−1)) = m_last + Σ_g (m_g − m_{g+1}) F(g), where m_g is the share correct in group g.
    """

    languages: tuple[str, ...]
    ratios: Ratios  # of the candidates per problem and language
    last: Array  # (problems,) share correct in the top group
    step: scipy.sparse.csr_matrix  # (problems, entries): m_g − m_{g+1}
    row: Array  # (entries,) problem of the entry
    at_most: Array  # (entries, languages) candidates at or below the entry's reward; of the smallest integer type
    ties: Ties  # groups tied across languages whose shares correct differ
    problem_ids: Sequence[str] | None = None

    @property
    def n_candidates(self) -> Array:
        """(problems, languages) int."""
        return self.ratios.n_candidates

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
            payoff: per language (problems, candidates): the payoff if this candidate wins: 1 and 0 for correct and
                wrong. Any float will do: with tokens instead, `allocation` gives the winner's expected tokens.
        """
        languages = tuple(payoff)
        reward, value, exists, column, n = _side_by_side(rewards, payoff, problem_ids)
        n_problems, n_languages = n.shape

        order = np.argsort(reward, axis=1)
        kept = np.take_along_axis(exists, order, 1)
        row = np.repeat(np.arange(n_problems), kept.sum(1))
        flat_reward = np.take_along_axis(reward, order, 1)[kept]
        flat_value = np.take_along_axis(value, order, 1)[kept]
        flat_language = column[order][kept]
        first = np.ones(len(row), bool)
        first[1:] = (flat_reward[1:] != flat_reward[:-1]) | (row[1:] != row[:-1])
        start = np.flatnonzero(first)
        end = np.append(start[1:], len(row))
        group_row = row[start]
        mean = np.add.reduceat(flat_value, start) / (end - start)
        top = np.ones(len(start), bool)
        top[:-1] = group_row[1:] != group_row[:-1]
        last = np.zeros(n_problems)
        last[group_row[top]] = mean[top]
        step = np.zeros(len(start))
        step[:-1] = mean[:-1] - mean[1:]
        entry = ~top & (step != 0)
        rows = group_row[entry]
        matrix = scipy.sparse.csr_matrix((step[entry], (rows, np.arange(len(rows)))), shape=(n_problems, len(rows)))
        crossing = np.minimum.reduceat(flat_language, start) != np.maximum.reduceat(flat_language, start)
        shape, size = (len(rows), n_languages), int(n.max(initial=0))
        at_most = np.empty(shape, np.min_scalar_type(size), order="F")  # columns are read one by one
        below, tied, excess = (np.empty((crossing.sum(), n_languages), kind, "F") for kind in (int, int, float))
        up_to = end[entry]
        for position in range(n_languages):
            mine = flat_language == position
            so_far = np.append(0, np.cumsum(mine, dtype=np.int32))  # ten times as fast as in 64 bits
            before = np.append(0, np.cumsum(n[:, position]))
            at_most[:, position] = so_far[up_to] - before[rows]
            if not len(below):
                continue
            below[:, position] = so_far[start[crossing]] - before[group_row[crossing]]
            tied[:, position] = so_far[end[crossing]] - so_far[start[crossing]]
            worth = np.add.reduceat(np.where(mine, flat_value, 0.0), start)[crossing]
            own = worth / np.maximum(tied[:, position], 1)
            excess[:, position] = np.where(tied[:, position] > 0, own - mean[crossing], 0.0)
        uneven = np.abs(excess).max(1, initial=0) > 0
        ties = Ties(
            Ratios(n), group_row[crossing][uneven], *(np.asfortranarray(x[uneven]) for x in (below, tied, excess))
        )
        return cls(languages, Ratios(n), last, matrix, rows, at_most, ties, problem_ids)

    def allocation(self, allocation: Mapping[str, int]) -> Array:
        """(problems,) expected payoff of the winner when each language gives its number of the allocation."""
        used = checked_allocation(allocation, self.languages)
        positions = {self.languages.index(code): k for code, k in used.items()}
        for position, k in positions.items():
            check_budget(self.n_candidates[:, position], k, self.problem_ids, self.languages[position])
        below = np.ones(len(self.row))
        for position, k in positions.items():
            below = below * self.below(position, k)
        # languages without budget change no F, so their groups add nothing to the sum
        result = self.last + self.step @ below
        return result + self.ties.allocation([positions.get(i, 0) for i in range(len(self.languages))])

    def shares(self, budgets: Iterable[int], languages: Sequence[str] | None = None, half: str | None = None) -> Array:
        """(problems, budgets) expected payoff of the winner with equal shares over `languages` (default: all).

        Args:
            budgets: completions per problem.
            languages: those that share the budget.
            half: one of them that gets half of the budget, rounded up; the others share the rest equally.
        """
        ks = np.asarray(list(budgets), int)
        chosen = [self.languages.index(code) for code in (languages or self.languages) if code != half]
        given, ks = ((ks + 1) // 2, ks // 2) if half else (0 * ks, ks)
        check_shares({self.languages[i]: self.n_candidates[:, i] for i in chosen}, ks, self.problem_ids)
        first = None if half is None else self.languages.index(half)
        if first is not None:
            check_budget(self.n_candidates[:, first], int(given.max()), self.problem_ids, half)
        total = self._sum_of_shares(chosen, ks, first, given)
        return self.last[:, None] + total + self.ties.shares(chosen, ks, first, given)

    def _sum_of_shares(self, chosen: Sequence[int], ks: Array, first: int | None, given: Array) -> Array:
        """(problems, budgets) Σ over entries of step × chance that no drawn candidate ranks above the entry.

        With q = k // L each and r more: Π_l C(b_l, q) / C(n_l, q) times e_r(x) / C(L, r), where e_r is an elementary
        symmetric polynomial and x_l = (b_l − q) / (n_l − q) is what one more draw of a language costs.
        """
        total = np.zeros((len(self.last), len(ks)))
        q_of, extra = ks // len(chosen), ks % len(chosen)
        reach = self._reach(chosen)
        own = np.zeros(len(reach)) if first is None else self._reach([first])
        for q in np.unique(q_of):
            at = np.flatnonzero(q_of == q)
            top, least = int(extra[at].max()), int(given[at].min())
            bound = q * reach if q else np.zeros(len(reach))  # log of a bound on the chance
            sum_of_entries = np.zeros((len(total), len(at)))
            possible = np.flatnonzero((bound + least * own if least else bound) > NEGLIGIBLE)
            for start in range(0, len(possible), _BLOCK):
                part = possible[start : start + _BLOCK]
                row, step = self.row[part], self.step.data[part]
                product, sums = step.copy(), [np.ones(len(part)), *np.zeros((top, len(part)))]
                more = np.empty(len(part))
                for done, position in enumerate(chosen):
                    b = self.at_most[:, position].take(part).astype(np.intp)
                    if q:
                        product *= self.ratios.of(b, row, position, int(q))
                    if top:
                        x = self.ratios.one_more(b, row, position, int(q))
                        for r in range(min(done + 1, top), 0, -1):
                            sums[r] += np.multiply(sums[r - 1], x, out=more)
                worth = np.empty((len(at), len(part)))
                for place, column in enumerate(at):
                    r = int(extra[column])
                    np.multiply(product, sums[r], out=worth[place])
                    if first is not None:
                        worth[place] *= self.below(first, int(given[column]), part)
                _add_by_row(sum_of_entries, row, worth)
            total[:, at] = sum_of_entries / [comb(len(chosen), int(r)) for r in extra[at]]
        return total

    def _reach(self, positions: Sequence[int]) -> Array:
        """(entries,) log of a bound: the chance that q draws of each language stay at or below the entry is at most
        exp(q × reach).
        """
        reach = np.zeros(len(self.row))
        for position in positions:
            with np.errstate(divide="ignore"):
                reach += np.log(self.at_most[:, position] / self.ratios.sizes(self.row, position))
        return reach

    def one_more(self, allocation: Mapping[str, int]) -> dict[str, Array]:
        """Per language that can still give one: (problems,) expected payoff of the winner with one more of it.

        Args:
            allocation: completions per language so far; may be empty.
        """
        ks = [int(allocation.get(code, 0)) for code in self.languages]
        open_ = [i for i in range(len(ks)) if ks[i] < self.n_candidates[:, i].min()]
        now = self.step.data
        for position, k in enumerate(ks):
            if k:
                now = now * self.below(position, k)
        weighted = scipy.sparse.csr_matrix((now, self.step.indices, self.step.indptr), self.step.shape)
        # the next draw of n − k is one of the b − k at or below, given that k are
        sums = weighted @ self._counts
        left = sums[:, :-1] - np.asarray(ks) * sums[:, -1:]
        values = self.last[:, None] + left / np.maximum(self.n_candidates - ks, 1)
        return {
            self.languages[position]: values[:, position]
            + self.ties.allocation([k + (i == position) for i, k in enumerate(ks)])
            for position in open_
        }

    @cached_property
    def _counts(self) -> Array:
        """`at_most` as floats, entry by entry, and a column of ones."""
        counts = np.ones((len(self.at_most), self.at_most.shape[1] + 1))  # in rows, as sparse products read them
        counts[:, :-1] = self.at_most
        return counts

    def shapley(self, budget: int) -> Array:
        """(problems, languages) exact Shapley value of each language for the winner's expected payoff.

        The game: a set of languages shares `budget` equally (leftovers at random); the empty set is worth 0. All
        2^L sets count, but none is enumerated: the sum over sets of one size is a coefficient of
        Π_l (1 + x (F_l(q) + y F_l(q + 1))), and leaving one language out is one division.
        """
        n = len(self.languages)
        for position, code in enumerate(self.languages):
            check_budget(self.n_candidates[:, position], budget, self.problem_ids, code)
        total = np.zeros((n + 1, len(self.last)))  # sums over sets of one size
        without = np.zeros((n, n + 1, len(self.last)))  # the same over sets that lack a language
        for size in range(1, n + 1):
            total[size] = comb(n, size) * self.last
            without[:, size] = comb(n - 1, size) * self.last
        for q in {budget // size for size in range(1, n + 1)}:
            sizes = [size for size in range(1, n + 1) if budget // size == q]
            more = any(budget % size for size in sizes)
            low = [self.below(position, q) for position in range(n)]
            high = [self.below(position, q + 1) for position in range(n)] if more else low
            self._set_sums(low, high, sizes, budget, total, without, lambda x: self.step @ x)
            for batch in self.ties.batches(budget):
                low, high = (
                    [
                        np.stack([value, slope * batch.excess(position)])
                        for position in range(n)
                        for value, slope in [batch.generating(position, k)]
                    ]
                    for k in (q, q + 1 if more else q)
                )

                def read(x: Array, batch: Batch = batch) -> Array:
                    return batch.by_problem(x[1])

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

    def below(self, position: int, k: int, part: slice | Array = slice(None)) -> Array:
        """(entries,) chance that k draws of one language all rank at or below the entry."""
        return self.ratios.of(self.at_most[part, position], self.row[part], position, k)


def _add_by_row(total: Array, row: Array, values: Array) -> None:
    """Add (columns, entries) values to the rows of `total` that the entries belong to; rows ascend."""
    if len(row):
        start = np.append(0, np.flatnonzero(row[1:] != row[:-1]) + 1)
        total[row[start]] += np.add.reduceat(values, start, axis=1).T


def _side_by_side(
    rewards: Mapping[str, Array], payoff: Mapping[str, Array], problem_ids: Sequence[str] | None
) -> tuple[Array, Array, Array, Array, Array]:
    """Rewards, payoffs and existence as (problems, candidates of all languages); (candidates,) position of each one's
    language; and (problems, languages) numbers of candidates."""
    languages = tuple(payoff)
    if not languages:
        raise ValueError("no languages given; a pool needs at least one")
    check_same_languages(rewards, payoff, payoff)
    checked = [checked_rewards(rewards[c], payoff[c], problem_ids, c) for c in languages]
    if len({len(values) for values, _, _ in checked}) > 1:
        shapes = ", ".join(f"{c} {len(v)}" for c, (v, _, _) in zip(languages, checked, strict=True))
        raise ValueError(f"languages differ in their number of problems ({shapes}); align them by problem_id")
    reward, value, exists = (np.concatenate(parts, 1) for parts in zip(*checked, strict=True))
    column = np.repeat(np.arange(len(languages)), [values.shape[1] for values, _, _ in checked])
    return reward, value, exists, column, np.stack([mask.sum(1) for _, _, mask in checked], 1)


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
        at_most = np.concatenate([ranks.at_most, ranks.n_candidates.astype(ranks.at_most.dtype)])[order]
        joined = at_most.copy()
        joined[1:] -= at_most[:-1]
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
        used = checked_allocation(allocation, self.ranks.languages)
        below = np.ones(len(self.ranks.row))
        for code, k in used.items():
            position = self.ranks.languages.index(code)
            check_budget(self.ranks.n_candidates[:, position], k, self.ranks.problem_ids, code)
            below = below * self.ranks.below(position, k)
        return self._shares(below)

    def shares(self, budget: int, languages: Sequence[str] | None = None) -> Array:
        """The same with equal shares over `languages` (default: all); see `coverage_of_shares`."""
        if self.tied:
            return np.stack([contest.shares([budget], languages)[:, 0] for contest in self.tied.values()], 1)
        chosen = [self.ranks.languages.index(code) for code in (languages or self.ranks.languages)]
        ks = np.array([budget])
        sizes = {self.ranks.languages[i]: self.ranks.n_candidates[:, i] for i in chosen}
        check_shares(sizes, ks, self.ranks.problem_ids)
        return self._shares(over_shares(lambda place, k: self.ranks.below(chosen[place], k), len(chosen), ks)[:, 0])

    def _shares(self, below: Array) -> Array:
        reached = np.append(below, 1.0)[self.ends]  # chance that no drawn candidate ranks above the group
        wins = np.diff(reached, prepend=0.0)
        first = np.ones(len(wins), bool)
        first[1:] = self.row[1:] != self.row[:-1]
        wins[first] = reached[first]
        shape = self.ranks.n_candidates.shape
        cell = self.row * shape[1] + self.position
        return np.bincount(cell, wins, minlength=shape[0] * shape[1]).reshape(shape)
