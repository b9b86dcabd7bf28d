"""Votes over several languages, and weighted votes: a seeded Monte Carlo that reports its own error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
ENUMERATED = 10  # weighted votes over so few candidates of one language are enumerated


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
    used = checked_allocation(allocation, answers)
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


def weighted_vote_of_allocation(
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
    used = checked_allocation(allocation, answers)
    check_same_languages(weights, answers, used)
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
    check_same_languages(weights, answers, answers)
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
            check_budget(sizes[:, position], allocation[code], problem_ids, code)
        each = max(allocation.values())
        ks = np.array([sum(allocation.values())])
    else:
        ks, _ = checked_budgets(None, budgets, least=1)
        check_shares(dict(zip(languages, sizes.T, strict=True)), ks, problem_ids)
        each = -(-int(ks.max()) // len(languages))
    codes = np.full((n_problems, len(languages), width), -1, np.int64)
    heavy = None if weights is None else np.zeros(codes.shape)
    for position, (code, table) in enumerate(zip(languages, tables, strict=True)):
        exists = ~np.isnan(table)
        order = np.argsort(~exists, axis=1, kind="stable")  # existing candidates first
        moved = np.take_along_axis(np.where(exists, table, -1), order, 1)
        codes[:, position, : table.shape[1]] = moved
        if weights is not None and heavy is not None:
            checked, _, _ = checked_rewards(weights[code], np.where(exists, 0.0, np.nan), problem_ids, code)
            heavy[:, position, : table.shape[1]] = np.take_along_axis(np.nan_to_num(checked), order, 1)
    flat, right = _dense(codes.reshape(n_problems, -1), np.asarray(reference, np.int64).reshape(-1))
    n_answers = int(flat.max(initial=0)) + 1
    if len(languages) == 1 and heavy is not None and width <= ENUMERATED:
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
