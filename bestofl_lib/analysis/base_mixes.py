"""Does the base language gain from other languages? Mixes that hold it, against the strongest way to use it alone.

A mix here always holds the base language (English where the pool has it): with one other language in equal shares, with
all others sharing the second half, or as the planner allocates them. The opponent is the best of the ways that need no
other language. Both sides are chosen on other folds of problems than those they are judged on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bestofl_lib.analysis.arms import arm_tokens
from bestofl_lib.analysis.arrays import CandidateArrays
from bestofl_lib.analysis.bootstrap import LEVEL, REPLICATES
from bestofl_lib.analysis.break_even import BreakEven, break_even
from bestofl_lib.analysis.controls import base_ways
from bestofl_lib.analysis.figures import Figures, arm_figures, best_on_other_folds, equal_folds
from bestofl_lib.analysis.planner import planned_values
from bestofl_lib.analysis.votes import DRAWS

Array = np.ndarray
BEST_PAIR = "best pair"  # the base with the other language that did best on other folds
BEST_MIX = "best mix"  # whichever of all mixes did best on other folds
LARGEST = 64  # completions up to which break-even budgets are looked for: the claim is about small budgets


@dataclass(frozen=True)
class BaseMixes:
    """Mixes that hold the base language, and the ways to use it alone; figures are budgets."""

    budgets: tuple[int, ...]
    chooser: str  # reward model, or "majority", that chooses from the mixes
    mixes: dict[str, Figures]  # by arm: "en+th", …, "half-en", "planned", and BEST_PAIR, BEST_MIX
    ways: dict[str, Figures]  # the base alone, by strategy or reward model
    best_way: Figures  # whichever did best on other folds
    ways_chosen: list[list[str]]  # per fold, per budget
    mixes_chosen: list[list[str]]


def reach(arrays: CandidateArrays) -> int:
    """The largest budget that the base language and every mix that holds it can serve."""
    others = [code for code in arrays.languages if code != arrays.base]
    pairs = [arrays.largest_budget(f"{arrays.base}+{code}") for code in others]
    return min(arrays.fewest(arrays.base), arrays.largest_budget(f"half-{arrays.base}"), *pairs)


def base_mixes(
    arrays: CandidateArrays,
    budgets: Sequence[int],
    cross: str = "cross",
    mono: str = "mono",
    folds: int = 5,
    draws: int = DRAWS,
    seed: int = 0,
) -> BaseMixes:
    """Every mix and every way at each budget.

    Args:
        budgets: completions per problem, at least 2 (a single completion is no mix), at most `reach`.
        cross: chooses from the mixes where it covers the pool; otherwise a majority vote does.
    """
    rewarded = cross in arrays.reward_models and arrays.reward(cross, arrays.languages) is not None
    strategy, model = ("best_of_k", cross) if rewarded else ("majority", None)
    others = [code for code in arrays.languages if code != arrays.base]
    pairs = {
        f"{arrays.base}+{code}": arm_figures(arrays, f"{arrays.base}+{code}", strategy, model, budgets, draws, seed)
        for code in others
    }
    fold = equal_folds(arrays.n_problems, folds, seed)
    mixes = dict(pairs)
    if len(others) > 1:
        half = f"half-{arrays.base}"
        mixes[half] = arm_figures(arrays, half, strategy, model, budgets, draws, seed)
    if rewarded:
        plans = [planned_values(one, budgets, cross, folds, seed).accuracy for one in arrays.by_seed]
        mixes["planned"] = Figures(np.stack(plans))
    best, mixes_chosen = best_on_other_folds(mixes, fold)
    mixes[BEST_PAIR] = best_on_other_folds(pairs, fold)[0]
    mixes[BEST_MIX] = best
    ways = base_ways(arrays, budgets, cross, mono, seed)
    best_way, ways_chosen = best_on_other_folds(ways, fold)
    return BaseMixes(
        tuple(budgets), cross if rewarded else "majority", mixes, ways, best_way, ways_chosen, mixes_chosen
    )


def break_evens(
    arrays: CandidateArrays, mixes: BaseMixes, replicates: int = REPLICATES, seed: int = 0
) -> dict[str, BreakEven]:
    """Up to which spend the best pair is ahead of the best way alone: "completions" and, where known, "tokens".

    Tokens of the pair are those of the base with the average other language: which other one was chosen differs by
    fold.
    """
    first, second = mixes.mixes[BEST_PAIR], mixes.best_way
    grid = np.asarray(mixes.budgets, float)
    found = {"completions": _break_even(first, second, grid, None, replicates, seed)}
    spent = [
        arm_tokens(arrays, f"{arrays.base}+{code}", mixes.budgets) for code in arrays.languages if code != arrays.base
    ]
    alone = arm_tokens(arrays, arrays.base, mixes.budgets)
    known = [tokens for tokens in spent if tokens is not None]
    if alone is not None and len(known) == len(spent):
        found["tokens"] = _break_even(first, second, np.mean(known, 0), alone, replicates, seed)
    return found


def _break_even(
    first: Figures, second: Figures, spend: Array, spend_second: Array | None, replicates: int, seed: int
) -> BreakEven:
    of_seeds = (first - second).of_seeds
    return break_even(first.of_problems, second.of_problems, spend, spend_second, LEVEL, replicates, seed, of_seeds)
