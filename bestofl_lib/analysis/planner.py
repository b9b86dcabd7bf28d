"""With B completions per problem: which languages, and how many completions of each?

The allocation is found by greedy ascent on the exact objective, checked by full enumeration for small budgets, chosen
on some problems and judged on others. Prices are ignored: a completion costs the same in every language.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
import polars as pl

from bestofl_lib.analysis import uncertainty as un
from bestofl_lib.analysis.apportion import apportion
from bestofl_lib.analysis.arms import contest_of
from bestofl_lib.analysis.arrays import CandidateArrays
from bestofl_lib.analysis.contest import Contest
from bestofl_lib.analysis.figures import equal_folds
from bestofl_lib.tables import SCHEMAS

Array = np.ndarray
Allocation = dict[str, int]
BUDGETS = (2, 4, 8)  # that are planned for where nobody says otherwise
EXHAUSTIVE = 2_000  # enumerate all allocations where there are at most so many


@dataclass(frozen=True)
class Planned:
    """Allocations chosen on some folds and judged on the others."""

    accuracy: Array  # (problems, budgets) of the allocation that was chosen without this problem
    tokens: Array | None  # (problems, budgets) generated tokens of that allocation
    fold: Array  # (problems,) int
    chosen: list[list[Allocation]]  # per fold, per budget


def greedy_path(
    arrays: CandidateArrays, budget: int, objective: str = "oracle", problems: Array | None = None
) -> list[Allocation]:
    """Allocations for 1, 2, … budget completions, each the one before plus the language that helps most.

    Args:
        arrays: the stored candidates.
        budget: the last budget, at most what all languages hold together.
        objective: "oracle" for coverage, or the reward model (also "logprob", "shortest", "arithmetic") that will
            choose.
        problems: (problems,) bool or index: those to plan on; all by default.

    Raises:
        ValueError: the budget exceeds the pool.
    """
    ranked = contest_of(arrays, objective, arrays.languages)
    index = np.arange(arrays.n_problems) if problems is None else np.arange(arrays.n_problems)[problems]
    room = sum(arrays.fewest(code) for code in arrays.languages)
    if not 1 <= budget <= room:
        raise ValueError(f"budget {budget} is outside 1..{room}, what every problem of this pool can serve; lower it")
    current: Allocation = {}
    path = []
    for _ in range(budget):
        values = _one_more(arrays, ranked, objective, current)
        means = np.stack(list(values.values())).take(index, 1).mean(1)
        best = list(values)[int(means.argmax())]
        current = current | {best: current.get(best, 0) + 1}
        path.append(current)
    return path


def best_allocation(
    arrays: CandidateArrays, budget: int, objective: str = "oracle", problems: Array | None = None
) -> tuple[Allocation, bool]:
    """The best allocation of one budget on these problems, and whether all were tried.

    All allocations are tried where there are at most 2,000; otherwise single completions are moved between
    languages until no move helps, from several starts: the greedy allocation, equal shares and every language alone.
    """
    ranked = contest_of(arrays, objective, arrays.languages)
    index = np.arange(arrays.n_problems) if problems is None else np.arange(arrays.n_problems)[problems]
    n = len(arrays.languages)

    def worth(allocation: Allocation) -> float:
        return float(ranked.allocation(allocation)[index].mean())

    greedy = greedy_path(arrays, budget, objective, index)[-1]
    if comb(budget + n - 1, n - 1) <= EXHAUSTIVE:
        room = [arrays.fewest(code) for code in arrays.languages]
        options = (dict(zip(arrays.languages, ks, strict=True)) for ks in _compositions(budget, room))
        best = max(options, key=worth)
        if worth(best) <= worth(greedy) + 1e-12:
            return greedy, True
        return {code: k for code, k in best.items() if k}, True
    starts = [greedy, apportion(budget, arrays.languages, {code: arrays.fewest(code) for code in arrays.languages})]
    starts += [{code: budget} for code in arrays.languages if budget <= arrays.fewest(code)]
    return max((_climbed(arrays, start, worth) for start in starts if start), key=worth), False


def _climbed(arrays: CandidateArrays, start: Allocation, worth: Callable[[Allocation], float]) -> Allocation:
    """Move single completions between languages until no move helps."""
    current, value = start, worth(start)
    while True:
        moves = [
            {c: k + (c == taker) - (c == giver) for c in arrays.languages if (k := current.get(c, 0)) or c == taker}
            for giver in current
            for taker in arrays.languages
            if taker != giver and current.get(taker, 0) < arrays.fewest(taker)
        ]
        better = max(moves, key=worth, default=current)
        if worth(better) <= value + 1e-12:
            return current
        current, value = {code: k for code, k in better.items() if k}, worth(better)


def planned_values(
    arrays: CandidateArrays, budgets: Sequence[int], objective: str = "oracle", folds: int = 5, seed: int = 0
) -> Planned:
    """Accuracy of greedy plans at every budget, each problem judged by a plan that was made without it.

    Args:
        budgets: completions per problem.
        objective: as in `greedy_path`.
        folds: parts of the problems; fewer where there are fewer problems.

    Raises:
        ValueError: a single problem cannot be held out, or a budget above the pool.
    """
    fold = equal_folds(arrays.n_problems, folds, seed)
    ranked = contest_of(arrays, objective, arrays.languages)
    means = arrays.mean_tokens(arrays.languages)
    accuracy = np.empty((arrays.n_problems, len(budgets)))
    tokens = None if means is None else np.empty_like(accuracy)
    chosen = []
    worth: dict[tuple, Array] = {}
    for part in np.unique(fold):
        path = greedy_path(arrays, int(max(budgets)), objective, fold != part)
        chosen.append([path[k - 1] for k in budgets])
        mine = np.flatnonzero(fold == part)
        for column, allocation in enumerate(chosen[-1]):
            key = tuple(sorted(allocation.items()))
            if key not in worth:
                worth[key] = ranked.allocation(allocation)
            accuracy[mine, column] = worth[key][mine]
            if tokens is not None and means is not None:
                spend = np.array([allocation.get(code, 0) for code in arrays.languages])
                tokens[mine, column] = means[mine] @ spend
    return Planned(accuracy, tokens, fold, chosen)


@dataclass(frozen=True)
class Plans:
    """What planning buys, and the plans themselves."""

    plan: pl.DataFrame  # table `plan`
    allocations: pl.DataFrame  # table `allocations`


def plans(
    arrays: CandidateArrays,
    budgets: Sequence[int] | None = None,
    objective: str = "oracle",
    folds: int = 5,
    seed: int = 0,
    replicates: int = un.REPLICATES,
) -> Plans:
    """What planning gains over the base language only and equal shares, and what the best allocation in hindsight
    would.

    Args:
        budgets: completions per problem; those above the pool are refused. None: 2, 4 and 8 as far as the pool reaches,
            or all that it has where that is less.
        objective: "oracle" (coverage) or the reward model that will choose.

    Returns:
        Tables `plan` (arms: planned, the base language's code, mixed, hindsight; `accuracy` of "planned" is held out,
        its `allocation` was made on all problems, to be used on new ones) and `allocations` (`completions` planned on
        all problems, `least` and `most` over the folds' plans: how firm the choice is). An arm that cannot serve a
        budget has no row; no rows of a single problem, which cannot be held out.
    """
    if arrays.n_problems < 2:
        return Plans(SCHEMAS["plan"].to_frame(), SCHEMAS["allocations"].to_frame())
    room = sum(arrays.fewest(code) for code in arrays.languages)
    budgets = budgets or [k for k in BUDGETS if k <= room] or [room]
    held = planned_values(arrays, budgets, objective, folds, seed)
    final = greedy_path(arrays, int(max(budgets)), objective)
    rows, given = [], []
    for column, k in enumerate(budgets):
        values = held.accuracy[:, column]
        arms, exhaustive = _plan_arms(arrays, k, objective, values, final[k - 1])
        rows += _plan_rows(
            arms, values, replicates, seed, {"budget": k, "objective": objective, "exhaustive": exhaustive}
        )
        for code in arrays.languages:
            over = [chosen[column].get(code, 0) for chosen in held.chosen]
            given.append((k, objective, code, final[k - 1].get(code, 0), min(over), max(over), arrays.n_problems))
    return Plans(
        pl.DataFrame(rows, schema=SCHEMAS["plan"]), pl.DataFrame(given, schema=SCHEMAS["allocations"], orient="row")
    )


def _plan_arms(
    arrays: CandidateArrays, k: int, objective: str, planned: Array, allocation: Allocation
) -> tuple[dict[str, tuple[Array, Allocation]], bool]:
    """Per arm its (problems,) accuracy and allocation (empty: equal shares); whether hindsight tried everything."""
    ranked = contest_of(arrays, objective, arrays.languages)
    best, exhaustive = best_allocation(arrays, k, objective)
    arms = {"planned": (planned, allocation)}
    if k <= arrays.fewest(arrays.base):
        arms[arrays.base] = (ranked.allocation({arrays.base: k}), {arrays.base: k})
    if len(arrays.languages) > 1 and k <= arrays.largest_budget("mixed"):
        arms["mixed"] = (ranked.shares([k])[:, 0], {})
    arms["hindsight"] = (ranked.allocation(best), best)
    return arms, exhaustive


def _plan_rows(
    arms: dict[str, tuple[Array, Allocation]], planned: Array, replicates: int, seed: int, shared: dict
) -> list[dict]:
    top, rows = float(arms["hindsight"][0].mean()), []
    for arm, (values, allocation) in arms.items():
        level = un.mean_interval(values, replicates=replicates, seed=seed)
        gain = un.paired_difference(planned, values, replicates=replicates, seed=seed)
        told = arm != "planned"
        rows.append(
            shared
            | {
                "arm": arm,
                "allocation": written(allocation) if allocation else "equal shares",
                "accuracy": float(level.estimate),
                "low": float(level.low),
                "high": float(level.high),
                "gain": float(gain.effect) if told else None,
                "gain_low": float(gain.low) if told else None,
                "gain_high": float(gain.high) if told else None,
                "p": float(gain.p) if told else None,
                "regret": top - float(level.estimate),
                "n_problems": len(values),
            }
        )
    return rows


def written(allocation: Allocation) -> str:
    """An allocation in words, largest first.

    >>> written({"th": 1, "en": 2})
    'en 2, th 1'
    """
    return ", ".join(f"{code} {k}" for code, k in sorted(allocation.items(), key=lambda item: (-item[1], item[0])) if k)


def _one_more(arrays: CandidateArrays, ranked: Contest, objective: str, current: Allocation) -> dict[str, Array]:
    """`Contest.one_more`, remembered: the paths of different folds share most of their steps."""
    return arrays.remember(("one_more", objective, tuple(sorted(current.items()))), lambda: ranked.one_more(current))


def _compositions(budget: int, room: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """All ways to split a budget over languages that have so much room each."""
    if len(room) == 1:
        if budget <= room[0]:
            yield (budget,)
        return
    for k in range(min(budget, room[0]) + 1):
        yield from ((k, *rest) for rest in _compositions(budget - k, room[1:]))
