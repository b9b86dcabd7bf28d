"""Votes over several languages, and weighted votes: a seeded Monte Carlo that reports its own error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array

from bestofl_lib.analysis.checks import (
    check_budget,
    check_same_languages,
    check_shares,
    checked_allocation,
    checked_budgets,
    checked_rewards,
)
from bestofl_lib.analysis.hypergeometric import runs

Array = np.ndarray
DRAWS = 64  # subsets per problem of every simulated vote: about 0.2 points of error over 250 problems
_BLOCK = 600_000  # votes or sums over all draws that are processed at a time
_CELLS = 200_000  # sums of votes, over all tables of weights, that are counted together: they stay in the cache
ENUMERATED = 10  # weighted votes over so few candidates of one language are enumerated


class Estimate(NamedTuple):
    """A Monte Carlo figure and its own error."""

    value: Array  # (problems,) or (problems, budgets)
    standard_error: Array  # the same shape; of the Monte Carlo alone, not of the problems


Kind = Sequence[Mapping[str, Array] | None]  # weights per training seed; None: every vote counts 1


@dataclass(frozen=True)
class Tally:
    """The figures of one kind of vote, with the weights of each training seed, on the same draws."""

    by_seed: Array  # (seeds, problems, budgets)
    error: Array  # (problems, budgets) Monte Carlo standard error of the mean over seeds

    @property
    def estimate(self) -> Estimate:
        return Estimate(self.by_seed.mean(0), self.error)

    @property
    def of_one_budget(self) -> Estimate:
        """Estimate of (problems,), where there is a single budget."""
        return Estimate(self.by_seed.mean(0)[:, 0], self.error[:, 0])


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
    given = {c: answers[c] for c in used}
    return _votes(given, [[None]], reference, draws, seed, problem_ids, allocation=used)[0].of_one_budget


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
    heavy = {c: weights[c] for c in used}
    return _votes(kept, [[heavy]], reference, draws, seed, problem_ids, allocation=used)[0].of_one_budget


def votes_of_shares(
    answers: Mapping[str, Array],
    kinds: Sequence[Kind],
    reference: Array,
    budgets: Sequence[int] | Array,
    draws: int = DRAWS,
    seed: int = 0,
    *,
    problem_ids: Sequence[str] | None = None,
    half: str | None = None,
) -> list[Tally]:
    """Several kinds of votes with equal shares at many budgets, on the same random draws, made and counted once.

    One random sequence per draw serves all budgets: in each round every language gives one candidate, in random order.

    Args:
        kinds: each a table of weights per training seed, as in `weighted_vote_of_allocation`; None instead of a table:
            every vote counts 1 (the majority).
        half: a language that gets half of every budget, rounded up; the others share the rest.

    Returns:
        One Tally per kind. Weighted votes of one language of at most 10 candidates are exact: its subsets are
        enumerated and the standard error is 0.
    """
    for table in (table for kind in kinds for table in kind if table is not None):
        check_same_languages(table, answers, answers)
    return _votes(answers, kinds, reference, draws, seed, problem_ids, budgets=budgets, half=half)


@dataclass(frozen=True)
class _Ballots:
    """Votes of all candidates, answers renumbered within each problem: 0 is the reference if any candidate gave it."""

    languages: tuple[str, ...]
    codes: Array  # (problems, languages, candidates) int32, existing ones first; -1: no answer, or no candidate
    weights: Array  # (problems, languages, candidates, tables) what each vote weighs
    is_solved: Array  # (problems,) bool: some candidate has the reference
    sizes: Array  # (problems, languages)

    @classmethod
    def of(
        cls,
        answers: Mapping[str, Array],
        weights: Sequence[Mapping[str, Array] | None],
        reference: Array,
        problem_ids: Sequence[str] | None,
    ) -> _Ballots:
        tables = [np.atleast_2d(np.asarray(table, float)) for table in answers.values()]
        sizes = np.stack([(~np.isnan(table)).sum(1) for table in tables], 1)
        shape = (len(sizes), len(tables), max(table.shape[1] for table in tables))
        codes, heavy = np.full(shape, -1, np.int64), np.ones((*shape, len(weights)))
        for position, (code, table) in enumerate(zip(answers, tables, strict=True)):
            exists = ~np.isnan(table)
            order = np.argsort(~exists, axis=1, kind="stable")  # existing candidates first
            codes[:, position, : table.shape[1]] = np.take_along_axis(np.where(exists, table, -1), order, 1)
            for place, given in enumerate(weights):
                if given is not None:
                    checked, _, _ = checked_rewards(given[code], np.where(exists, 0.0, np.nan), problem_ids, code)
                    kept = np.take_along_axis(np.nan_to_num(checked), order, 1)
                    heavy[:, position, : table.shape[1], place] = kept
        flat, is_solved = _dense(codes.reshape(len(sizes), -1), np.asarray(reference, np.int64).reshape(-1))
        return cls(tuple(answers), flat.reshape(shape).astype(np.int32), heavy, is_solved, sizes)

    @property
    def n_answers(self) -> Array:
        """(problems,) distinct answers."""
        return self.codes.max((1, 2), initial=0) + 1

    @property
    def unvoted(self) -> float:
        """The sum of an answer without a vote: below that of any answer with one."""
        return 0.0 if (self.weights[self.codes >= 0] > 0).all() else -np.inf

    def of_problems(self, rows: Array | slice) -> _Ballots:
        return _Ballots(self.languages, self.codes[rows], self.weights[rows], self.is_solved[rows], self.sizes[rows])


def _votes(
    answers: Mapping[str, Array],
    kinds: Sequence[Kind],
    reference: Array,
    draws: int,
    seed: int,
    problem_ids: Sequence[str] | None,
    *,
    budgets: Sequence[int] | Array | None = None,
    allocation: Mapping[str, int] | None = None,
    half: str | None = None,
) -> list[Tally]:
    if draws < 2:
        raise ValueError(f"draws is {draws}; at least 2 are needed to state an error, {DRAWS} is usual")
    tables = [table for kind in kinds for table in kind]
    ballots = _Ballots.of(answers, tables, reference, problem_ids)
    given, ks = _given(ballots, budgets, allocation, half, problem_ids)
    ends = np.cumsum([0, *map(len, kinds)])  # the tables of a kind
    every = np.zeros((len(tables), len(ballots.sizes), len(ks)))
    errors = np.zeros((len(kinds), len(ballots.sizes), len(ks)))
    weighted = all(table is not None for table in tables)
    if len(ballots.languages) == 1 and weighted and ballots.codes.shape[2] <= ENUMERATED:
        every = _enumerated(ballots, ks)
    else:
        mean = np.zeros((len(tables), len(kinds)))  # over the tables of a kind
        for place, kind in enumerate(kinds):
            mean[ends[place] : ends[place + 1], place] = 1 / len(kind)
        rng, (distinct, places) = np.random.default_rng(seed), np.unique(ks, return_inverse=True)
        for rows in _blocks(ballots, draws, int(sum(given))):
            part = ballots.of_problems(rows)
            order = _sequence(part, draws, given, allocation is not None, half, rng)
            size = max(1, _CELLS // (draws * len(tables) * int(part.n_answers.max())))
            for some in (slice(start, start + size) for start in range(0, len(rows), size)):
                share = _counted(part.of_problems(some), order[some], distinct)[places]
                every[:, rows[some]] = share.mean(2).transpose(2, 1, 0)
                of_kinds = np.ascontiguousarray((share @ mean).swapaxes(2, 3))  # draws last: read one after the other
                errors[:, rows[some]] = (of_kinds.std(3, ddof=1) / np.sqrt(draws)).transpose(2, 1, 0)
    return [Tally(every[ends[i] : ends[i + 1]], errors[i]) for i in range(len(kinds))]


def _blocks(ballots: _Ballots, draws: int, length: int) -> Iterator[Array]:
    """Blocks of problems to process together: with similar numbers of answers, and few enough to stay in the
    processor's cache.

    Problems that no candidate solves are left out: their vote is wrong in every draw.
    """
    cells = draws * np.maximum(8 * ballots.n_answers, length)  # 8 tables of weights: the draws depend on no table
    rows = np.flatnonzero(ballots.is_solved)
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
    """(tables, problems, budgets) the weighted vote of few candidates of one language over all subsets."""
    codes, sizes = ballots.codes[:, 0], ballots.sizes[:, 0]
    result = np.zeros((ballots.weights.shape[3], len(codes), len(ks)))
    for n in np.unique(sizes):
        rows = np.flatnonzero((sizes == n) & ballots.is_solved)
        subsets = ((np.arange(1, 2**n)[:, None] >> np.arange(n)) & 1).astype(float)
        of_size = (subsets.sum(1)[:, None] == ks) / np.maximum((subsets.sum(1)[:, None] == ks).sum(0), 1)
        size = max(1, _BLOCK // len(subsets))
        for part in (rows[start : start + size] for start in range(0, len(rows), size)):
            said = codes[part, :n] == np.arange(int(codes[part, :n].max(initial=0)) + 1)[:, None, None]
            votes = said @ subsets.T  # (answers, problems, subsets)
            for values, weights in zip(result, np.moveaxis(ballots.weights[part, 0, :n], 2, 0), strict=True):
                sums = np.where(votes > 0, (said * weights) @ subsets.T, -np.inf)
                values[part] = _share_of_win(sums, -np.inf) @ of_size
    return result


def _sequence(
    ballots: _Ballots, draws: int, given: Sequence[int], in_turn: bool, half: str | None, rng: np.random.Generator
) -> Array:
    """(problems, draws, candidates) columns of the candidates in the order in which they are drawn.

    With `in_turn`, one language after the other gives all of its candidates. Else every language gives one in each
    round, in random order; with `half` that language's candidates alternate with those of the others.
    """
    sizes, width = ballots.sizes, ballots.codes.shape[2]
    drawn = [position * width + _drawn(sizes[:, position], draws, k, rng) for position, k in enumerate(given)]
    if in_turn:
        return np.concatenate(drawn, 2)
    first = None if half is None else drawn.pop(ballots.languages.index(half))
    rounds = np.stack(drawn, 3)  # (problems, draws, rounds, languages)
    shared = _shuffled(rounds, rng).reshape(*rounds.shape[:2], -1) if len(drawn) > 1 else rounds[..., 0]
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
        cards = np.broadcast_to(np.arange(n, dtype=np.int32), (len(rows), draws, n))
        deck[rows] = _shuffled(cards, rng)[..., :k]
    return deck


def _shuffled(values: Array, rng: np.random.Generator) -> Array:
    """The integers along the last axis in random order: sorted by random numbers that stand in the bits above them.

    Three times as fast as `Generator.permuted`. Two of them come in ascending order with a chance of 1/2 + 2^-17 or
    less.
    """
    bits = int(values.max(initial=0)).bit_length()
    kind = np.uint32 if bits <= 16 else np.uint64
    key = rng.integers(0, np.iinfo(kind).max, values.shape, kind, endpoint=True)
    key &= ~kind(2**bits - 1)
    key |= values.astype(kind)
    key.sort(-1)
    key &= kind(2**bits - 1)
    return key.astype(values.dtype)


def _counted(ballots: _Ballots, order: Array, ks: Array) -> Array:
    """(budgets, problems, draws, tables) the share of the win that answer 0 has after each budget."""
    n_problems, draws = order.shape[:2]
    width, n_answers, n_tables = ballots.codes[0].size, int(ballots.n_answers.max()), ballots.weights.shape[3]
    each, unvoted = n_problems * draws, ballots.unvoted
    drawn = np.ascontiguousarray(order[..., : int(ks.max())].transpose(2, 0, 1), np.int32).reshape(-1, each)
    drawn += np.repeat(np.arange(n_problems, dtype=np.int32) * np.int32(width), draws)
    code = ballots.codes.reshape(-1).take(drawn)
    cell = code * np.int32(each) + np.arange(each, dtype=np.int32)
    cell[code < 0] = n_answers * each  # one cell for all that could not be read, left out at the end
    weights, ones = ballots.weights.reshape(-1, n_tables), np.ones(drawn.size)
    shape = (n_answers * each + 1, len(weights))
    sums, votes, done = np.zeros((shape[0], n_tables)), np.zeros(shape[0]), 0
    share = np.empty((len(ks), each, n_tables))
    for place, k in enumerate(ks):
        step, done = slice(done, int(k)), int(k)
        at = cell[step].reshape(-1)
        if len(at) == each:  # one vote of each draw: cells differ
            sums[at] += weights[drawn[step][0]]
        else:
            sums += coo_array((ones[: len(at)], (at, drawn[step].reshape(-1))), shape) @ weights
        total = sums[:-1].reshape(n_answers, each, n_tables)
        if unvoted:
            votes += np.bincount(at, minlength=len(votes))
            total = np.where(votes[:-1].reshape(n_answers, each, 1) > 0, total, unvoted)
        share[place] = _share_of_win(total, unvoted)
    return share.reshape(len(ks), n_problems, draws, n_tables)


def _share_of_win(total: Array, unvoted: float) -> Array:
    """The share of the win that answer 0 has.

    Args:
        total: (answers, …) sums of weights.
        unvoted: the sum where an answer has no vote.
    """
    rival = total[1:].max(0) if len(total) > 1 else np.full(total.shape[1:], unvoted)
    top = np.maximum(total[0], rival)
    with np.errstate(invalid="ignore"):  # no votes
        top -= 1e-9 * np.abs(top)
    wins = (total[0] > unvoted) & (total[0] >= top)
    share = wins.astype(float)
    tied: np.ndarray = wins & (rival >= top)
    if tied.any():
        share[tied] = 1 / (total[:, tied] >= top[tied]).sum(0)
    return share


def _dense(codes: Array, reference: Array) -> tuple[Array, Array]:
    """Codes renumbered 0, 1, … within each row, the reference first (-1 stays), and whether anybody gave it."""
    order, row, code, length = runs(codes)
    valid = code >= 0
    running = np.cumsum(valid)
    before = np.concatenate([[0], running])[np.searchsorted(row, np.arange(len(codes)))]
    fresh = np.where(valid, running - 1 - before[row], -1)
    result = np.empty_like(codes)
    np.put_along_axis(result, order, np.repeat(fresh, length).reshape(codes.shape), 1)
    right = np.zeros(len(codes), int)
    found = valid & (code == reference[row])
    right[row[found]] = fresh[found]
    is_solved = np.zeros(len(codes), bool)
    is_solved[row[found]] = True
    first = right[:, None]  # the reference and answer 0 change numbers
    result = np.where(result == first, 0, np.where(result == 0, first, result))
    return result, is_solved
