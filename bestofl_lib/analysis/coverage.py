"""Coverage (pass@k): the chance that at least one completion of a budget is correct, exactly.

Arrays are `(problems, candidates)`; NaN marks a candidate that does not exist. `budget` is one number and gives
`(problems,)`, `budgets` is a sequence and gives `(problems, budgets)`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bestofl_lib.analysis.checks import check_budget, check_shares, checked_allocation, checked_budgets, problem_name
from bestofl_lib.analysis.hypergeometric import counts, none_correct
from bestofl_lib.analysis.shares import over_shares

Array = np.ndarray


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
    ks, single = checked_budgets(budget, budgets)
    n, c = np.atleast_1d(np.asarray(n_candidates, float)), np.atleast_1d(np.asarray(n_correct, float))
    n, c = np.broadcast_arrays(n, c)
    if (c < 0).any() or (c > n).any():
        p = int(np.flatnonzero((c < 0) | (c > n))[0])
        where = problem_name(p, problem_ids, language)
        raise ValueError(f"{c[p]:g} correct of {n[p]:g} candidates in {where}; check the counts")
    check_budget(n, int(ks.max()), problem_ids, language)
    covered = 1 - none_correct(n, c, int(ks.max()))[:, ks]
    return covered[:, 0] if single else covered


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
    for code, k in checked_allocation(allocation, is_correct).items():
        n, c = counts(is_correct[code])
        check_budget(n, k, problem_ids, code)
        miss = miss * none_correct(n, c, k)[:, k]
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
    ks, single = checked_budgets(budget, budgets, least=1)
    tables = []
    top = -(-int(ks.max()) // len(is_correct))
    check_shares({code: counts(values)[0] for code, values in is_correct.items()}, ks, problem_ids)
    for values in is_correct.values():
        n, c = counts(values)
        tables.append(none_correct(n, c, top))
    covered = 1 - over_shares(lambda position, k: tables[position][:, k], len(tables), ks)
    return covered[:, 0] if single else covered
