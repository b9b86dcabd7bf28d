"""With B completions per problem: which languages, and how many each?

The allocation is found by greedy ascent on the exact objective, checked by full enumeration for small budgets, chosen
on some problems and judged on others. This file deliberately knows no prices: a completion costs one everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
import polars as pl

from bestofl_lib.analysis import uncertainty as un
from bestofl_lib.analysis.apportion import apportion
from bestofl_lib.analysis.arms import arm_values, contest_of
from bestofl_lib.analysis.contest import Contest
from bestofl_lib.analysis.pool import Pool
from bestofl_lib.languages import PIVOT

Array = np.ndarray
Allocation = dict[str, int]
EXHAUSTIVE = 2_000  # enumerate all allocations where there are at most so many


@dataclass(frozen=True)
class Planned:
    """Allocations chosen on some folds and judged on the others."""

    accuracy: Array  # (problems, budgets) of the allocation that was chosen without this problem
    tokens: Array | None  # (problems, budgets) generated tokens of that allocation
    fold: Array  # (problems,) int
    chosen: list[list[Allocation]]  # per fold, per budget


def greedy_path(pool: Pool, budget: int, objective: str = "oracle", problems: Array | None = None) -> list[Allocation]:
    """Allocations for 1, 2, … budget completions, each the one before plus the language that helps most.

    Args:
        pool: the stored candidates.
        budget: the last budget, at most what all languages hold together.
        objective: "oracle" for coverage, or the reward model (also "logprob", "shortest") that will choose.
        problems: (problems,) bool or index: those to plan on; all by default.

    Raises:
        ValueError: the budget exceeds the pool.
    """
    ranked = contest_of(pool, objective, pool.languages)
    index = np.arange(pool.n_problems) if problems is None else np.arange(pool.n_problems)[problems]
    room = sum(pool.fewest(code) for code in pool.languages)
    if not 1 <= budget <= room:
        raise ValueError(f"budget {budget} is outside 1..{room}, what every problem of this pool can serve; lower it")
    current: Allocation = {}
    path = []
    for _ in range(budget):
        values = _one_more(pool, ranked, objective, current)
        best = max(values, key=lambda code: float(values[code][index].mean()))
        current = current | {best: current.get(best, 0) + 1}
        path.append(current)
    return path


def best_allocation(
    pool: Pool, budget: int, objective: str = "oracle", problems: Array | None = None
) -> tuple[Allocation, bool]:
    """The best allocation of one budget on these problems, and whether all were tried.

    All allocations are tried where there are at most 2,000; otherwise single completions are moved between
    languages until no move helps, from several starts: the greedy allocation, equal shares and every language alone.
    """
    ranked = contest_of(pool, objective, pool.languages)
    index = np.arange(pool.n_problems) if problems is None else np.arange(pool.n_problems)[problems]
    n = len(pool.languages)

    def worth(allocation: Allocation) -> float:
        return float(ranked.allocation(allocation)[index].mean())

    greedy = greedy_path(pool, budget, objective, index)[-1]
    if comb(budget + n - 1, n - 1) <= EXHAUSTIVE:
        room = [pool.fewest(code) for code in pool.languages]
        options = (dict(zip(pool.languages, ks, strict=True)) for ks in _compositions(budget, room))
        best = max(options, key=worth)
        if worth(best) <= worth(greedy) + 1e-12:
            return greedy, True
        return {code: k for code, k in best.items() if k}, True
    starts = [greedy, apportion(budget, pool.languages, {code: pool.fewest(code) for code in pool.languages})]
    starts += [{code: budget} for code in pool.languages if budget <= pool.fewest(code)]
    return max((_climbed(pool, start, worth) for start in starts if start), key=worth), False


def _climbed(pool: Pool, start: Allocation, worth: Callable[[Allocation], float]) -> Allocation:
    """Move single completions between languages until no move helps."""
    current, value = start, worth(start)
    while True:
        moves = [
            {c: k + (c == target) - (c == source) for c in pool.languages if (k := current.get(c, 0)) or c == target}
            for source in current
            for target in pool.languages
            if target != source and current.get(target, 0) < pool.fewest(target)
        ]
        better = max(moves, key=worth, default=current)
        if worth(better) <= value + 1e-12:
            return current
        current, value = {code: k for code, k in better.items() if k}, worth(better)


def planned_values(
    pool: Pool, budgets: Sequence[int], objective: str = "oracle", folds: int = 5, seed: int = 0
) -> Planned:
    """Accuracy of greedy plans at every budget, each problem judged by a plan that was made without it.

    Args:
        budgets: completions per problem.
        objective: as in `greedy_path`.
        folds: parts of the problems; fewer where there are fewer problems.

    Raises:
        ValueError: a single problem cannot be held out, or a budget above the pool.
    """
    if pool.n_problems < 2:
        raise ValueError("planning needs at least 2 problems: one to plan on and one to judge on")
    fold = np.random.default_rng(seed).permutation(pool.n_problems) % min(folds, pool.n_problems)
    ranked = contest_of(pool, objective, pool.languages)
    means = pool.mean_tokens(pool.languages)
    accuracy = np.empty((pool.n_problems, len(budgets)))
    tokens = None if means is None else np.empty_like(accuracy)
    chosen = []
    worth: dict[tuple, Array] = {}
    for part in np.unique(fold):
        path = greedy_path(pool, int(max(budgets)), objective, fold != part)
        chosen.append([path[k - 1] for k in budgets])
        mine = np.flatnonzero(fold == part)
        for column, allocation in enumerate(chosen[-1]):
            key = tuple(sorted(allocation.items()))
            if key not in worth:
                worth[key] = ranked.allocation(allocation)
            accuracy[mine, column] = worth[key][mine]
            if tokens is not None and means is not None:
                spend = np.array([allocation.get(code, 0) for code in pool.languages])
                tokens[mine, column] = means[mine] @ spend
    return Planned(accuracy, tokens, fold, chosen)


def plan_table(
    pool: Pool,
    budgets: Sequence[int] = (2, 4, 8),
    objective: str = "oracle",
    folds: int = 5,
    seed: int = 0,
    replicates: int = un.REPLICATES,
) -> pl.DataFrame:
    """What planning buys, beside English only, equal shares and the best allocation in hindsight.

    Args:
        budgets: completions per problem; those above the pool are refused.
        objective: "oracle" (coverage) or the reward model that will choose.

    Returns:
        One row per budget and arm (`arm`: planned, en, mixed, hindsight): `budget`, `objective`, `arm`, `allocation`
        (such as "en 2, th 1"; of `planned`: made on all problems, to be used on new ones), `accuracy`, `low`, `high`
        (of `planned`: held out), `gain` of the plan over this arm with `gain_low`, `gain_high`, `p`, `regret`
        (hindsight minus this arm), `exhaustive` (whether hindsight tried all allocations), `n_problems`. An arm that
        cannot serve a budget has no row.
    """
    held = planned_values(pool, budgets, objective, folds, seed)
    final = greedy_path(pool, int(max(budgets)), objective)
    ranked = contest_of(pool, objective, pool.languages)
    rows = []
    for column, k in enumerate(budgets):
        best, exhaustive = best_allocation(pool, k, objective)
        arms = {"planned": (held.accuracy[:, column], final[k - 1])}
        if PIVOT in pool.languages and k <= pool.fewest(PIVOT):
            arms[PIVOT] = (ranked.allocation({PIVOT: k}), {PIVOT: k})
        if len(pool.languages) > 1 and k <= pool.largest_budget("mixed"):
            strategy, model = _strategy(objective)
            mixed = arm_values(pool, "mixed", strategy, model, [k])
            if mixed is not None:
                arms["mixed"] = (mixed.accuracy[:, 0], {})
        arms["hindsight"] = (ranked.allocation(best), best)
        top = float(arms["hindsight"][0].mean())
        for arm, (values, allocation) in arms.items():
            spread = un.mean_interval(values, replicates=replicates, seed=seed)
            gain = un.paired_difference(held.accuracy[:, column], values, replicates=replicates, seed=seed)
            rows.append(
                {
                    "budget": k,
                    "objective": objective,
                    "arm": arm,
                    "allocation": written(allocation) if allocation else "equal shares",
                    "accuracy": float(spread.estimate),
                    "low": float(spread.low),
                    "high": float(spread.high),
                    "gain": float(gain.effect) if arm != "planned" else None,
                    "gain_low": float(gain.low) if arm != "planned" else None,
                    "gain_high": float(gain.high) if arm != "planned" else None,
                    "p": float(gain.p) if arm != "planned" else None,
                    "regret": top - float(spread.estimate),
                    "exhaustive": exhaustive,
                    "n_problems": pool.n_problems,
                }
            )
    return pl.DataFrame(rows, schema=PLAN_SCHEMA)


def allocation_table(
    pool: Pool, budgets: Sequence[int] = (2, 4, 8), objective: str = "oracle", folds: int = 5, seed: int = 0
) -> pl.DataFrame:
    """The planned allocation language by language, to chart or to paste.

    Returns:
        One row per budget and language: `budget`, `objective`, `language`, `completions` (planned on all problems),
        `least` and `most` (over the folds' plans: how firm the choice is), `n_problems`.
    """
    held = planned_values(pool, budgets, objective, folds, seed)
    final = greedy_path(pool, int(max(budgets)), objective)
    rows = []
    for column, k in enumerate(budgets):
        for code in pool.languages:
            over = [plans[column].get(code, 0) for plans in held.chosen]
            rows.append((k, objective, code, final[k - 1].get(code, 0), min(over), max(over), pool.n_problems))
    schema = {
        "budget": pl.Int32,
        "objective": pl.String,
        "language": pl.String,
        "completions": pl.Int32,
        "least": pl.Int32,
        "most": pl.Int32,
        "n_problems": pl.Int32,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


PLAN_SCHEMA = pl.Schema(
    {
        "budget": pl.Int32,
        "objective": pl.String,
        "arm": pl.String,
        "allocation": pl.String,
        "accuracy": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "gain": pl.Float64,
        "gain_low": pl.Float64,
        "gain_high": pl.Float64,
        "p": pl.Float64,
        "regret": pl.Float64,
        "exhaustive": pl.Boolean,
        "n_problems": pl.Int32,
    }
)


def written(allocation: Allocation) -> str:
    """An allocation in words, largest first.

    >>> written({"th": 1, "en": 2})
    'en 2, th 1'
    """
    return ", ".join(f"{code} {k}" for code, k in sorted(allocation.items(), key=lambda item: (-item[1], item[0])) if k)


def _strategy(objective: str) -> tuple[str, str | None]:
    return (objective, None) if objective in ("oracle", "logprob", "shortest") else ("best_of_k", objective)


def _one_more(pool: Pool, ranked: Contest, objective: str, current: Allocation) -> dict[str, Array]:
    """`Contest.one_more`, remembered: the paths of different folds share most of their steps."""
    return pool.remember(("one_more", objective, tuple(sorted(current.items()))), lambda: ranked.one_more(current))


def _compositions(budget: int, room: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """All ways to split a budget over languages that have so much room each."""
    if len(room) == 1:
        if budget <= room[0]:
            yield (budget,)
        return
    for k in range(min(budget, room[0]) + 1):
        yield from ((k, *rest) for rest in _compositions(budget - k, room[1:]))
