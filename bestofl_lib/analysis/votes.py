"""Votes over several languages, and weighted votes: a seeded Monte Carlo that reports its own error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bestofl_lib.analysis.checks import (
    check_budget,
    check_same_languages,
    check_shares,
    checked_allocation,
    checked_budgets,
    checked_rewards,
)
from bestofl_lib.analysis.drawing import runs

Array = np.ndarray
DRAWS = 64  # subsets per problem of every simulated vote: about 0.2 points of error over 250 problems
_BLOCK = 200_000  # votes or answers over all draws that are worked on at once
ENUMERATED = 10  # weighted votes over so few candidates of one language are enumerated


class Estimate(NamedTuple):
    """A Monte Carlo figure and its own error."""

    value: Array  # (problems,) or (problems, budgets)
    standard_error: Array  # the same shape; of the Monte Carlo alone, not of the problems


def majority_of_allocation(
    answers: Mapping[str, Array],
    reference: Array,
    allocation: Mapping[str, int],
    draws: int = DRAWS,
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
    used = checked_allocation(allocation, answers)
    return _votes({c: answers[c] for c in used}, None, reference, draws, seed, problem_ids, allocation=used)


def majority_of_shares(
    answers: Mapping[str, Array],
    reference: Array,
    budgets: Sequence[int] | Array,
    draws: int = DRAWS,
    seed: int = 0,
    *,
    problem_ids: Sequence[str] | None = None,
    half: str | None = None,
) -> Estimate:
    """Majority from the mixed pool with equal shares at many budgets, by Monte Carlo.

    One random sequence per draw serves all budgets: in each round every language gives one candidate, in random order.

    Args:
        half: a language that gets half of every budget, rounded up; the others share the rest.

    Returns:
        Estimate of (problems, budgets).
    """
    return _votes(answers, None, reference, draws, seed, problem_ids, budgets=budgets, half=half)


def weighted_vote_of_allocation(
    weights: Mapping[str, Array],
    answers: Mapping[str, Array],
    reference: Array,
    allocation: Mapping[str, int],
    draws: int = DRAWS,
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
    used = checked_allocation(allocation, answers)
    check_same_languages(weights, answers, used)
    kept = {c: answers[c] for c in used}
    return _votes(kept, {c: weights[c] for c in used}, reference, draws, seed, problem_ids, allocation=used)


def weighted_vote_of_shares(
    weights: Mapping[str, Array],
    answers: Mapping[str, Array],
    reference: Array,
    budgets: Sequence[int] | Array,
    draws: int = DRAWS,
    seed: int = 0,
    *,
    problem_ids: Sequence[str] | None = None,
    half: str | None = None,
) -> Estimate:
    """Weighted vote from the mixed pool with equal shares at many budgets; one language is the one-group case.

    Returns:
        Estimate of (problems, budgets). One language of at most 10 candidates is exact: its subsets are enumerated and
        the standard error is 0.
    """
    check_same_languages(weights, answers, answers)
    return _votes(answers, weights, reference, draws, seed, problem_ids, budgets=budgets, half=half)


@dataclass(frozen=True)
class _Ballots:
    """Votes of all candidates, answers renumbered 0, 1, … within each problem."""

    languages: tuple[str, ...]
    codes: Array  # (problems, languages, candidates) int, existing ones first; -1: no answer, or no candidate
    weights: Array | None  # the same shape; None: every vote counts 1
    right: Array  # (problems,) code of the reference, -2: nobody gave it
    sizes: Array  # (problems, languages)

    @classmethod
    def of(
        cls,
        answers: Mapping[str, Array],
        weights: Mapping[str, Array] | None,
        reference: Array,
        problem_ids: Sequence[str] | None,
    ) -> _Ballots:
        tables = [np.atleast_2d(np.asarray(table, float)) for table in answers.values()]
        sizes = np.stack([(~np.isnan(table)).sum(1) for table in tables], 1)
        shape = (len(sizes), len(tables), max(table.shape[1] for table in tables))
        codes, heavy = np.full(shape, -1, np.int64), np.zeros(shape)
        for position, (code, table) in enumerate(zip(answers, tables, strict=True)):
            exists = ~np.isnan(table)
            order = np.argsort(~exists, axis=1, kind="stable")  # existing candidates first
            codes[:, position, : table.shape[1]] = np.take_along_axis(np.where(exists, table, -1), order, 1)
            if weights is not None:
                checked, _, _ = checked_rewards(weights[code], np.where(exists, 0.0, np.nan), problem_ids, code)
                heavy[:, position, : table.shape[1]] = np.take_along_axis(np.nan_to_num(checked), order, 1)
        flat, right = _dense(codes.reshape(len(sizes), -1), np.asarray(reference, np.int64).reshape(-1))
        return cls(tuple(answers), flat.reshape(shape), None if weights is None else heavy, right, sizes)

    @property
    def n_answers(self) -> Array:
        """(problems,) distinct answers."""
        return self.codes.max((1, 2), initial=0) + 1

    def of_problems(self, rows: Array) -> _Ballots:
        weights = None if self.weights is None else self.weights[rows]
        return _Ballots(self.languages, self.codes[rows], weights, self.right[rows], self.sizes[rows])


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
    half: str | None = None,
) -> Estimate:
    if draws < 2:
        raise ValueError(f"draws is {draws}; at least 2 are needed to state an error, {DRAWS} is usual")
    ballots = _Ballots.of(answers, weights, reference, problem_ids)
    given, ks = _given(ballots, budgets, allocation, half, problem_ids)
    single = allocation is not None
    if len(ballots.languages) == 1 and weights is not None and ballots.codes.shape[2] <= ENUMERATED:
        exact = _enumerated(ballots, ks)
        none = np.zeros_like(exact)
        return Estimate(exact[:, 0], none[:, 0]) if single else Estimate(exact, none)
    rng = np.random.default_rng(seed)
    value, error = np.zeros((len(ballots.sizes), len(ks))), np.zeros((len(ballots.sizes), len(ks)))
    for rows in _blocks(ballots, draws, int(sum(given))):
        part = ballots.of_problems(rows)
        order = _sequence(part, draws, given, single, half, rng)
        shares = _tally(part, order[..., : int(ks.max())], ks)  # (problems, draws, budgets)
        value[rows] = shares.mean(1)
        error[rows] = shares.std(1, ddof=1) / np.sqrt(draws)
    return Estimate(value[:, 0], error[:, 0]) if single else Estimate(value, error)


def _blocks(ballots: _Ballots, draws: int, length: int) -> Iterator[Array]:
    """Problems to be worked on together: with like numbers of answers, and few enough to stay in the processor's cache.

    Problems that nobody solved are left out: their vote is lost in every draw.
    """
    cells = draws * np.maximum(ballots.n_answers, length)
    rows = np.flatnonzero(ballots.right >= 0)
    rows = rows[np.argsort(cells[rows], kind="stable")]
    start = 0
    while start < len(rows):
        size = max(1, _BLOCK // int(cells[rows[min(start + 8, len(rows) - 1)]]))
        yield rows[start : start + size]
        start += size


def _given(
    ballots: _Ballots,
    budgets: Sequence[int] | Array | None,
    allocation: Mapping[str, int] | None,
    half: str | None,
    problem_ids: Sequence[str] | None,
) -> tuple[list[int], Array]:
    """How many candidates each language gives at most, and the budgets."""
    sizes = dict(zip(ballots.languages, ballots.sizes.T, strict=True))
    if allocation is not None:
        for code, n in sizes.items():
            check_budget(n, allocation[code], problem_ids, code)
        return [allocation[code] for code in sizes], np.array([sum(allocation.values())])
    ks, _ = checked_budgets(None, budgets, least=1)
    top = int(ks.max())
    others = {code: n for code, n in sizes.items() if code != half}
    shared = top // 2 if half else top
    check_shares(others, np.array([shared]), problem_ids)
    if half:
        check_budget(sizes[half], top - shared, problem_ids, half)
    each = -(-shared // len(others))
    return [top - shared if code == half else each for code in sizes], ks


def _enumerated(ballots: _Ballots, ks: Array) -> Array:
    """(problems, budgets) weighted vote of few candidates of one language over all their subsets."""
    if ballots.weights is None:
        raise ValueError("votes without weights have an exact form: use `majority`")
    codes, weights, sizes = ballots.codes[:, 0], ballots.weights[:, 0], ballots.sizes[:, 0]
    result = np.empty((len(codes), len(ks)))
    for n in np.unique(sizes):
        rows = np.flatnonzero(sizes == n)
        subsets = (np.arange(1, 2**n)[:, None] >> np.arange(n)) & 1
        members = subsets.sum(1)
        for start in range(0, len(rows), max(1, 2_000_000 // (len(subsets) * n))):
            part = rows[start : start + max(1, 2_000_000 // (len(subsets) * n))]
            given = codes[part, :n, None] == np.arange(int(codes[part, :n].max(initial=0)) + 1)
            votes, sums = subsets @ given.astype(float), subsets @ (given * weights[part, :n, None])
            share = _share_of_win(votes, sums, ballots.right[part])
            for column, k in enumerate(ks):
                result[part, column] = share[:, members == k].mean(1)
    return result


def _sequence(
    ballots: _Ballots, draws: int, given: Sequence[int], in_turn: bool, half: str | None, rng: np.random.Generator
) -> Array:
    """(problems, draws, candidates) columns of the candidates in the order in which they are drawn.

    With `in_turn` one language gives all of its candidates after the other. Else every language gives one in each
    round, in random order; with `half` that language's candidates alternate with those of the others.
    """
    sizes, width = ballots.sizes, ballots.codes.shape[2]
    drawn = [position * width + _drawn(sizes[:, position], draws, k, rng) for position, k in enumerate(given)]
    if in_turn:
        return np.concatenate(drawn, 2)
    first = None if half is None else drawn.pop(ballots.languages.index(half))
    rounds = np.stack(drawn, 3)  # (problems, draws, rounds, languages)
    shared = rng.permuted(rounds, axis=3).reshape(*rounds.shape[:2], -1) if len(drawn) > 1 else rounds[..., 0]
    if first is None:
        return shared
    merged = np.empty((*shared.shape[:2], 2 * first.shape[2]), shared.dtype)
    merged[..., ::2] = first
    count = min(shared.shape[2], first.shape[2])
    merged[..., 1 : 2 * count : 2] = shared[..., :count]
    return merged


def _drawn(sizes: Array, draws: int, k: int, rng: np.random.Generator) -> Array:
    """(problems, draws, k) distinct candidates of one language, in random order."""
    deck = np.empty((len(sizes), draws, k), np.int32)
    for n in np.unique(sizes):
        rows = np.flatnonzero(sizes == n)
        if k > n:  # more than is there is asked only of a language that never gets so far
            raise ValueError(f"{k} candidates are drawn from {n}; lower the budget")
        cards = np.broadcast_to(np.arange(n, dtype=np.int32), (len(rows) * draws, n))
        deck[rows] = rng.permuted(cards, axis=1)[:, :k].reshape(len(rows), draws, k)
    return deck


def _tally(ballots: _Ballots, order: Array, ks: Array) -> Array:
    """(problems, draws, budgets) share of the win that the reference has in each draw."""
    n_problems, draws = order.shape[:2]
    shape = (n_problems, draws, int(ballots.n_answers.max()))
    row = np.arange(n_problems)[:, None, None]
    code = ballots.codes.reshape(n_problems, -1)[row, order]
    weight = None if ballots.weights is None else ballots.weights.reshape(n_problems, -1)[row, order]
    cell = np.arange(n_problems * draws).reshape(n_problems, draws, 1) * shape[2] + code
    votes, sums = (np.zeros(n_problems * draws * shape[2]) for _ in range(2))
    result, done = np.zeros((n_problems, draws, len(ks))), 0
    for k in np.unique(ks):
        step = slice(done, k)
        said = code[..., step] >= 0
        cells, done = cell[..., step][said], k
        votes += np.bincount(cells, minlength=len(votes))
        if weight is not None:
            sums += np.bincount(cells, weight[..., step][said], minlength=len(votes))
        share = _share_of_win(votes.reshape(shape), None if weight is None else sums.reshape(shape), ballots.right)
        result[..., ks == k] = share[..., None]
    return result


def _share_of_win(votes: Array, sums: Array | None, right: Array) -> Array:
    """(problems, draws) share of the win of the right answer; `votes` and `sums` are (problems, draws, answers)."""
    heard = votes > 0
    if sums is None:
        winners = heard & (votes == votes.max(-1, keepdims=True))
    else:
        total = np.where(heard, sums, -np.inf)
        top = total.max(-1, keepdims=True)
        with np.errstate(invalid="ignore"):
            winners = heard & (total >= top - 1e-9 * np.abs(top))
    own = np.take_along_axis(winners, np.maximum(right, 0)[:, None, None].repeat(votes.shape[1], 1), -1)[..., 0]
    return np.where((right >= 0)[:, None] & own, 1 / np.maximum(winners.sum(-1), 1), 0)


def _dense(codes: Array, reference: Array) -> tuple[Array, Array]:
    """Codes renumbered 0, 1, … within each row (-1 stays), and the reference's new code (-2: nobody gave it)."""
    order, row, code, length = runs(codes)
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
