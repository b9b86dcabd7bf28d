"""Do languages solve different problems, and more so than drawing again from one language?

Tables of exclusive solves, gains over resampling, greedy order, Shapley values, and what explains problems that one
language alone solves. Everything is an exact expectation over the stored pool. It deliberately judges no claim.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from bestofl_lib.analysis import uncertainty as un
from bestofl_lib.analysis.arms import contest_of
from bestofl_lib.analysis.arrays import CandidateArrays
from bestofl_lib.analysis.coverage import coverage, coverage_of_allocation
from bestofl_lib.analysis.figures import Figures
from bestofl_lib.analysis.hypergeometric import none_correct
from bestofl_lib.analysis.verdicts import Judged, judge
from bestofl_lib.tables import SCHEMAS

Array = np.ndarray

CAUSES = ("answer reading", "revised question", "resampling", "left")


def exclusive_solves(arrays: CandidateArrays, budget: int = 1) -> pl.DataFrame:
    """Language × language: which problems one solves and the other does not, with `budget` completions each.

    "Solves" means that at least one of the completions is correct; all counts are expectations over which are drawn.

    Returns:
        One row per ordered pair of different languages: `language` (solves), `other` (does not), `budget` (completions
        of each), `exclusive`, `both_wrong` (double faults), `both_right` (expected problems), `phi` (correlation of the
        two over problems; null where one never varies), `exclusive_resampled` (problems that `language` would solve and
        a second, disjoint draw of itself would not: the part of `exclusive` that needs no second language; null where
        the pool is too small), `n_problems`.
    """
    solved, twice = {}, {}
    for code in arrays.languages:
        n, c = arrays.n_candidates(code), np.nansum(arrays.is_correct[code], 1)
        solved[code] = coverage(c, n, budget, problem_ids=arrays.problem_ids, language=code)
        if arrays.fewest(code) >= 2 * budget:
            twice[code] = coverage(c, n, 2 * budget)
    rows = []
    for code in arrays.languages:
        for other in arrays.languages:
            if code == other:
                continue
            a, b = solved[code], solved[other]
            right, wrong = float((a * b).sum()), float(((1 - a) * (1 - b)).sum())
            mine, theirs = float((a * (1 - b)).sum()), float((b * (1 - a)).sum())
            spread = (right + mine) * (theirs + wrong) * (right + theirs) * (mine + wrong)
            rows.append(
                {
                    "language": code,
                    "other": other,
                    "budget": budget,
                    "exclusive": mine,
                    "both_wrong": wrong,
                    "both_right": right,
                    "phi": (right * wrong - mine * theirs) / spread**0.5 if spread > 1e-12 else None,
                    "exclusive_resampled": float((twice[code] - a).sum()) if code in twice else None,
                    "n_problems": arrays.n_problems,
                }
            )
    return pl.DataFrame(rows, schema=SCHEMAS["exclusive"])


def gain_values(arrays: CandidateArrays, code: str, budget: int, base: str) -> tuple[Array, Array]:
    """(problems,) coverage of base and language together, and of base alone, both with `budget` completions.

    The language gets half of the budget, rounded down; base the r
    """
    added = budget // 2
    correct = {c: arrays.is_correct[c] for c in (base, code)}
    with_it = coverage_of_allocation(correct, {base: budget - added, code: added}, problem_ids=arrays.problem_ids)
    again = coverage_of_allocation(correct, {base: budget}, problem_ids=arrays.problem_ids)
    return with_it, again


def gain_budgets(arrays: CandidateArrays, base: str) -> list[int]:
    """Budgets 2, 4, 8, … at which a language can be compared with drawing `base` again."""
    if base not in arrays.languages or len(arrays.languages) < 2:
        return []
    least = min(arrays.fewest(code) for code in arrays.languages if code != base)
    return [k for k in (2**i for i in range(1, 12)) if k <= arrays.fewest(base) and k // 2 <= least]


def gain_over_resampling(
    arrays: CandidateArrays,
    budgets: Sequence[int] | None = None,
    base: str | None = None,
    replicates: int = un.REPLICATES,
    seed: int = 0,
) -> pl.DataFrame:
    """What each language adds to `base` beyond drawing `base` again, at equal budget.

    Both arms start from the same k − k // 2 completions of `base`; one adds k // 2 of the language, the other k // 2
    more of `base`. `gain` is the difference of the two gains in coverage, paired by problem; Holm over languages within
    each budget.

    Args:
        budgets: completions per problem; by default `gain_budgets`.
        base: by default `pool.base`.

    Returns:
        Table `gains`: one row per language other than `base` and budget. Empty where `base` has a single candidate per
        problem.

    Raises:
        ValueError: `base` is not in the pool, or a budget below 2.
    """
    base = _known_base(arrays, base)
    budgets = gain_budgets(arrays, base) if budgets is None else list(budgets)
    others = [code for code in arrays.languages if code != base]
    frames = [pl.DataFrame(schema=SCHEMAS["gains"])]
    for k in budgets if others else []:
        if k < 2:
            raise ValueError(f"budget {k} leaves no room for a second language; use 2 or more")
        added = k // 2
        both, again, judged = _judged_gains(arrays, base, others, k, replicates, seed)
        first, second = (un.mean_interval(x.of_problems, replicates=replicates, seed=seed) for x in (both, again))
        start = coverage_of_allocation(arrays.is_correct, {base: k - added}, problem_ids=arrays.problem_ids).mean()
        frames.append(
            pl.DataFrame(
                {
                    "language": others,
                    "base": [base] * len(others),
                    "budget": [k] * len(others),
                    "added": [added] * len(others),
                    "coverage_base": [float(start)] * len(others),
                    "coverage_with": first.estimate,
                    "coverage_again": second.estimate,
                    "with_low": first.low,
                    "with_high": first.high,
                    "again_low": second.low,
                    "again_high": second.high,
                    **{name: values for name, values in judged.gains().items() if name != "room"},
                    "n_problems": [arrays.n_problems] * len(others),
                },
                schema=SCHEMAS["gains"],
            )
        )
    return pl.concat(frames)


def added_languages(
    arrays: CandidateArrays, budget: int | None = None, replicates: int = un.REPLICATES, seed: int = 0
) -> pl.DataFrame:
    """For a speaker of each language: which second language adds most coverage at equal budget?

    Args:
        budget: completions per problem, half of them in the added language; by default the largest power of two that
            every language can serve.

    Returns:
        Table `added_languages`: one row per base and added language; Holm over the languages added to one base. Empty
        where some language has a single candidate per problem, or there is one language.
    """
    possible = [k for k in gain_budgets(arrays, arrays.base) if k <= _single(arrays)]
    frames = [pl.DataFrame(schema=SCHEMAS["added_languages"])]
    if budget is None and not possible:
        return frames[0]
    k = possible[-1] if budget is None else budget
    for base in arrays.languages:
        others = [code for code in arrays.languages if code != base]
        both, again, judged = _judged_gains(arrays, base, others, k, replicates, seed)
        frames.append(
            pl.DataFrame(
                {
                    "base": [base] * len(others),
                    "language": others,
                    "budget": [k] * len(others),
                    "coverage_with": both.of_problems.mean(0),
                    "coverage_again": again.of_problems.mean(0),
                    **judged.gains(),
                    "n_problems": [arrays.n_problems] * len(others),
                },
                schema=SCHEMAS["added_languages"],
            )
        )
    return pl.concat(frames)


def _judged_gains(
    arrays: CandidateArrays, base: str, others: Sequence[str], budget: int, replicates: int, seed: int
) -> tuple[Figures, Figures, Judged]:
    pairs = [gain_values(arrays, code, budget, base) for code in others]
    both, again = (Figures(np.stack(side, 1)[None]) for side in zip(*pairs, strict=True))
    return both, again, judge(both, again, replicates=replicates, seed=seed)


def _known_base(arrays: CandidateArrays, base: str | None) -> str:
    if base is not None and base not in arrays.languages:
        raise ValueError(f"base {base!r} is not a language of this pool; it has {', '.join(arrays.languages)}")
    return base or arrays.base


def greedy_order(
    arrays: CandidateArrays,
    budget: int | None = None,
    objective: str = "oracle",
    replicates: int = un.REPLICATES,
    seed: int = 0,
) -> pl.DataFrame:
    """Languages in the order in which each helps most, at a fixed budget shared equally.

    The order is found and judged on the same problems, so later gains are overstated; `planner` holds problems out.

    Args:
        budget: completions per problem over all languages; by default what every single language can serve.
        objective: "oracle" for coverage, or a reward model that chooses.

    Returns:
        One row per step: `step`, `language` added, `pool` so far (joined by "+"), `accuracy` with interval, `gain` over
        the step before (null at the first; may be negative: the budget stays the same).
    """
    budget = _single(arrays) if budget is None else budget
    ranked = contest_of(arrays, objective, arrays.languages)
    current: list[str] = []
    rows: list[dict] = []
    while len(current) < len(arrays.languages):
        options = {c: ranked.shares([budget], [*current, c])[:, 0] for c in arrays.languages if c not in current}
        best = max(options, key=lambda code: float(options[code].mean()))
        current.append(best)
        spread = un.mean_interval(options[best], replicates=replicates, seed=seed)
        value = float(spread.estimate)
        rows.append(
            {
                "step": len(current),
                "language": best,
                "pool": "+".join(current),
                "objective": objective,
                "budget": budget,
                "accuracy": value,
                "low": float(spread.low),
                "high": float(spread.high),
                "gain": value - rows[-1]["accuracy"] if rows else None,
                "n_problems": arrays.n_problems,
            }
        )
    return pl.DataFrame(rows, schema=SCHEMAS["greedy"])


def shapley(
    arrays: CandidateArrays,
    budget: int | None = None,
    objective: str = "oracle",
    replicates: int = un.REPLICATES,
    seed: int = 0,
) -> pl.DataFrame:
    """Exact Shapley value of each language, over all sets of languages that share one budget equally.

    Args:
        budget: completions per problem, whatever the set; by default what every single language can serve.
        objective: "oracle" for coverage, or a reward model that chooses.

    Returns:
        One row per language: `shapley` (points of accuracy; they sum to `total`, the accuracy of all languages
        together), interval over problems, `share` of the total (null where nothing is solved).
    """
    budget = _single(arrays) if budget is None else budget
    values = contest_of(arrays, objective, arrays.languages).shapley(budget)
    spread = un.mean_interval(values, replicates=replicates, seed=seed, bounds=(-1.0, 1.0))
    total = float(values.sum(1).mean())
    return pl.DataFrame(
        {
            "language": list(arrays.languages),
            "objective": [objective] * len(arrays.languages),
            "budget": [budget] * len(arrays.languages),
            "shapley": spread.estimate,
            "low": spread.low,
            "high": spread.high,
            "share": [float(v) / total if total > 1e-12 else None for v in spread.estimate],
            "total": [total] * len(arrays.languages),
            "n_problems": [arrays.n_problems] * len(arrays.languages),
        },
        schema=SCHEMAS["shapley"],
    )


def sole_solvers(arrays: CandidateArrays) -> pl.DataFrame:
    """Artefact or reasoning? Problems that one language alone solves, split by what explains them.

    A problem counts for a language as far as it is its sole solver when every language draws h = n // 2 candidates (an
    expectation over the draws). Each is put down to the first cause that applies:

    * answer reading: it would not be its sole solver if every unread or doubtful reading of the other languages were
      right, and its own doubtful ones wrong; an upper bound on what misreading can explain;
    * revised question: a revised edition of the data replaced this problem's question in some language of the pool;
    * resampling: a second, disjoint draw of h in every language would not repeat it (the sole solver fails, or another
      language solves it);
    * left: none of these. Complementary reasoning, if there is any, is in this part.

    With one candidate per language there is no second draw: "resampling" is null and "left" still contains it.

    Returns:
        One row per language and cause: `problems` (expected), `share` of all sole solves, `budget` (h of each
        language), `n_problems`.
    """
    h = max(1, min(arrays.fewest(code) for code in arrays.languages) // 2)
    twice = all(arrays.fewest(code) >= 2 * h for code in arrays.languages)
    right = {code: np.nan_to_num(arrays.is_correct[code]) > 0 for code in arrays.languages}
    revised = np.any([arrays.is_revised[code] for code in arrays.languages], 0)

    def missed(code: str, correct: Array) -> tuple[Array, Array]:
        """(problems,) chance that h draws all fail, and that 2 h do."""
        miss = none_correct(arrays.n_candidates(code), correct.sum(1).astype(float), 2 * h if twice else h)
        return miss[:, h], miss[:, -1]

    def sole(code: str, own: Array, others: dict[str, Array]) -> tuple[Array, Array]:
        """(problems,) chance to be the sole solver of one draw, and of each of two disjoint draws."""
        once, both = missed(code, own)
        first, again = 1 - once, 1 - 2 * once + both if twice else 1 - once
        for other, correct in others.items():
            miss = missed(other, correct)
            first, again = first * miss[0], again * miss[1]
        return first, again

    rows: list[tuple[str, str, float | None, int]] = []
    for code in arrays.languages:
        rest = [other for other in arrays.languages if other != code]
        plain, _ = sole(code, right[code], {o: right[o] for o in rest})
        hopeful = {o: right[o] | arrays.doubtful[o] & arrays.exists[o] for o in rest}
        firm, again = sole(code, right[code] & ~arrays.doubtful[code], hopeful)
        counts: tuple[float | None, ...] = (
            max(0.0, float((plain - firm).sum())),
            float(firm[revised].sum()),
            max(0.0, float((firm - again)[~revised].sum())) if twice else None,
            float(again[~revised].sum()),
        )
        rows += [(code, cause, count, h) for cause, count in zip(CAUSES, counts, strict=True)]
    total = sum(count for _, _, count, _ in rows if count is not None)
    return pl.DataFrame(
        [
            (code, cause, count, count / total if count is not None and total > 1e-12 else None, h, arrays.n_problems)
            for code, cause, count, h in rows
        ],
        schema=SCHEMAS["sole_solvers"],
        orient="row",
    )


def _single(arrays: CandidateArrays) -> int:
    return min(arrays.fewest(code) for code in arrays.languages)
