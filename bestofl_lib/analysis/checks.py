"""Checks of the estimators' arguments, with errors that name problem, language and remedy.

`problem_ids` and `language` only serve to name what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

Array = np.ndarray


def checked_budgets(budget: int | None, budgets: Sequence[int] | Array | None, least: int = 0) -> tuple[Array, bool]:
    if (budget is None) == (budgets is None):
        raise ValueError("give either budget (one number) or budgets (a sequence of them)")
    given = np.asarray([budget] if budgets is None else list(budgets))
    if given.ndim != 1 or not len(given) or given.dtype.kind not in "iu":
        raise ValueError(f"budgets are whole numbers, found {given.tolist()}; write them as 1, 2, 4")
    if (given < least).any():
        raise ValueError(f"budget {given.min()} is below {least}; a strategy needs at least {least} completion")
    return given.astype(int), budgets is None


def check_budget(n: Array, k: int, problem_ids: Sequence[str] | None, language: str | None, said: str = "") -> None:
    n = np.asarray(n)
    if (n < k).any():
        p = int(np.flatnonzero(n < k)[0])
        raise ValueError(
            f"budget {said or k} exceeds the {int(n[p])} candidates of {problem_name(p, problem_ids, language)}; "
            "draw more or lower the budget"
        )


def check_shares(sizes: Mapping[str, Array], ks: Array, problem_ids: Sequence[str] | None) -> None:
    top = int(np.max(ks))
    each = -(-top // len(sizes))
    for code, n in sizes.items():
        said = str(top) if len(sizes) == 1 else f"{top} ({each} for each of {len(sizes)} languages)"
        check_budget(n, each, problem_ids, code, said)


def checked_allocation(allocation: Mapping[str, int], known: Iterable[str]) -> dict[str, int]:
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


def check_same_languages(rewards: Mapping[str, Array], others: Mapping[str, Array], used: Iterable[str]) -> None:
    lacking = [code for code in used if code not in rewards or code not in others]
    if lacking:
        raise ValueError(f"no rewards for {', '.join(lacking)}; rewards cover {', '.join(rewards) or 'no language'}")


def checked_rewards(
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
    bad = exists & (np.isnan(rewards) | np.isposinf(rewards))
    if bad.any():
        p, i = (int(x[0]) for x in np.nonzero(bad))
        raise ValueError(
            f"reward {rewards[p, i]:g} of candidate {i} of {problem_name(p, problem_ids, language)} cannot be ranked; "
            "score it again or drop the candidate"
        )
    stray = ~exists & ~np.isnan(rewards)
    if stray.any():
        p, i = (int(x[0]) for x in np.nonzero(stray))
        raise ValueError(
            f"candidate {i} of {problem_name(p, problem_ids, language)} has a reward but does not exist (is_correct "
            "is NaN); give both from the same table"
        )
    return rewards, np.where(exists, np.nan_to_num(payoff.astype(float)), 0.0), exists


def problem_name(problem: int, problem_ids: Sequence[str] | None, language: str | None) -> str:
    label = f"problem {problem}" if problem_ids is None else f"problem {problem_ids[problem]}"
    return label + (f" ({language})" if language else "")
