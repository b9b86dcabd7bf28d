"""Budget curves: every arm and strategy at every budget, with intervals, as one long table.

It collects per-problem figures from `arms` (and `planner`) and gives all of them intervals in one go. It does not
decide which curve matters: that is `claims`.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import polars as pl

from bestofl_lib.analysis import uncertainty as un
from bestofl_lib.analysis.arms import (
    REWARDED,
    STRATEGIES,
    UNREWARDED,
    Values,
    arm_tokens,
    arm_values,
    majority_values,
)
from bestofl_lib.analysis.arrays import CandidateArrays
from bestofl_lib.analysis.bootstrap import THREADS
from bestofl_lib.analysis.figures import Figures, compared, side_by_side
from bestofl_lib.analysis.planner import planned_values
from bestofl_lib.analysis.votes import DRAWS
from bestofl_lib.tables import SCHEMAS, check_table

Array = np.ndarray
BY_LEVEL = ("best_of_k", "majority", "oracle")  # strategies that are looked at per level of difficulty
LARGE = 1_000_000  # candidates; with fewer, threads wait for the interpreter longer than they save
PLANNED = 32  # plans are made completion by completion, and for budgets at which they matter


def default_budgets(largest: int) -> list[int]:
    """Every budget from 1 to 8, then two in each doubling (12, 16, 24, 32, …), and `largest` itself.

    A geometric grid: 30 budgets reach 8,000 completions.

    >>> default_budgets(20)
    [1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20]
    >>> default_budgets(400)[-5:]
    [128, 192, 256, 384, 400]
    """
    budgets, k = list(range(1, 9)), 8
    while k < largest:
        budgets += [k * 3 // 2, k * 2]
        k *= 2
    return [k for k in budgets if k < largest] + [largest]


def default_pools(arrays: CandidateArrays) -> list[str]:
    """Each language only, mixed, mixed without the base language, half base and half others, planned.

    As far as the pool has several languages and problems.
    """
    if len(arrays.languages) < 2:
        return list(arrays.languages)
    several = ["mixed"]
    if len(arrays.languages) > 2:
        several += [f"mixed-{arrays.base}", f"half-{arrays.base}"]
    if arrays.n_problems > 1:
        several.append("planned")
    return [*arrays.languages, *several]


@dataclass(frozen=True)
class _Curve:
    """One arm at all budgets that it can serve."""

    pool: str
    strategy: str
    model: str | None
    budgets: list[int]
    figures: Figures
    mc_error: Array  # (budgets,)
    tokens: Array | None  # (problems, budgets)


def curves(
    arrays: CandidateArrays,
    budgets: Sequence[int] | None = None,
    pools: Sequence[str] | None = None,
    strategies: Sequence[str] | None = None,
    draws: int = DRAWS,
    replicates: int = un.REPLICATES,
    folds: int = 5,
    seed: int = 0,
    vote_weights: str = "logistic",
) -> pl.DataFrame:
    """All combinations of arms, strategies and budgets.

    Args:
        arrays: made by `CandidateArrays.of` from a run's tables.
        budgets: completions per problem; by default each arm's own `default_budgets`, up to and with the largest that
            its every problem can serve. Given budgets are left out of the arms that cannot serve them.
        pools: arms; by default `default_pools`. "planned" exists for oracle and best_of_k, and is judged on problems
            it was not planned on.
        strategies: by default all that the pool has numbers for.
        draws: per problem, for the strategies that need a Monte Carlo (its error is the column `mc_error`).
        replicates: resamplings of problems, and of training seeds where there are several, for the 95 % intervals.
        folds: for "planned".
        vote_weights: see `arms.arm_values`.

    Returns:
        Table `curves`: one row per target language, pool, strategy, reward model and budget. `target` is the language
        for arms of one language, null for arms that are the same for all. `tokens` is null where counts are unknown,
        `efficiency` (strategy − random) / (oracle − random), null where the oracle gains nothing and for plans, which
        draw from another pool in each fold.

    Raises:
        ValueError: an unknown pool or strategy, or a budget that no arm can serve: names problem and language.
    """
    pools = default_pools(arrays) if pools is None else list(pools)
    chosen = list(STRATEGIES) if strategies is None else list(strategies)
    unknown = [s for s in chosen if s not in STRATEGIES]
    if unknown:
        raise ValueError(f"unknown strategy {unknown[0]!r}; known: {', '.join(STRATEGIES)}")
    served = _served(arrays, pools, budgets)
    asked = [(name, strategy, model) for name in served for strategy, model in _arms(arrays, chosen)]

    def made(arm: tuple[str, str, str | None]) -> list[_Curve]:
        name, strategy, model = arm
        ks = served[name]
        if name == "planned":
            return _planned(arrays, strategy, model, ks, folds, seed)
        if strategy == "majority":  # on the same draws as the weighted votes
            weights = vote_weights if "weighted" in chosen else None
            values: Values | None = majority_values(arrays, name, ks, draws, seed, weights)
        else:
            values = arm_values(arrays, name, strategy, model, ks, draws, seed, vote_weights)
        if values is None:
            return []
        figures = Figures(values.accuracy[None] if values.by_seed is None else values.by_seed)
        return [_Curve(name, strategy, model, ks, figures, values.mc_error, arm_tokens(arrays, name, ks))]

    # glibc keeps freed memory only up to twice the size of the largest array freed so far, 32 MB at most: without this
    # line the first arms get every array of some megabytes from the system anew, a tenth of their time.
    np.empty(31 << 20, np.uint8)
    with ThreadPoolExecutor(_workers(arrays)) as pool:  # NumPy's loops run side by side
        found = [curve for part in pool.map(made, [arm for arm in asked if served[arm[0]]]) for curve in part]
    if not found:
        raise ValueError(f"the pool has no numbers for {', '.join(chosen)} in {', '.join(pools)}; score it first")
    return _curve_table(arrays, found, served, replicates, seed)


def _workers(arrays: CandidateArrays) -> int:
    """How many threads rank pools side by side."""
    return THREADS if sum(map(np.size, arrays.exists.values())) > LARGE else 1


def _curve_table(
    arrays: CandidateArrays, found: Sequence[_Curve], served: dict[str, list[int]], replicates: int, seed: int
) -> pl.DataFrame:
    base = {name: _ends(arrays, name, ks) for name, ks in served.items()}
    gains = _gains(arrays, found, replicates, seed)
    frames: dict[int, pl.DataFrame] = {}  # by position, so that the order of arms is kept
    for n_seeds in sorted({len(curve.figures.values) for curve in found}):
        places = [i for i, curve in enumerate(found) if len(curve.figures.values) == n_seeds]
        group = [found[i] for i in places]
        every = side_by_side([curve.figures for curve in group])
        level = un.mean_interval(every.of_problems, replicates=replicates, seed=seed, of_seeds=every.of_seeds)
        done = 0
        for place, curve in zip(places, group, strict=True):
            part, done = slice(done, done + len(curve.budgets)), done + len(curve.budgets)
            low, high = base[curve.pool]
            room = high - low
            efficiency = (level.estimate[part] - low) / np.where(room > 1e-9, room, 1)
            count = len(curve.budgets)
            frames[place] = pl.DataFrame(
                {
                    "target": [curve.pool if curve.pool in arrays.languages else None] * count,
                    "pool": [curve.pool] * count,
                    "strategy": [curve.strategy] * count,
                    "reward_model": [curve.model] * count,
                    "budget": curve.budgets,
                    "tokens": [None] * count if curve.tokens is None else curve.tokens.mean(0),
                    "accuracy": np.clip(level.estimate[part], 0, 1),
                    "low": np.clip(level.low[part], 0, 1),
                    "high": np.clip(level.high[part], 0, 1),
                    "mc_error": curve.mc_error,
                    **gains[place],
                    "efficiency": [float(e) if r > 1e-9 else None for e, r in zip(efficiency, room, strict=True)],
                    "n_problems": [arrays.n_problems] * count,
                },
                schema=SCHEMAS["curves"],
            )
    return check_table("curves", pl.concat([frames[i] for i in range(len(found))]))


def _gains(
    arrays: CandidateArrays, found: Sequence[_Curve], replicates: int, seed: int
) -> list[dict[str, list[float | None]]]:
    """Per curve of several languages its accuracy minus that of the base language alone at the same budgets, in the
    same way, paired.
    """
    alone = {(c.strategy, c.model): c for c in found if c.pool == arrays.base}
    parts: list[tuple[int, int, Figures]] = []  # place of the curve, budgets that both have, differences
    for place, curve in enumerate(found):
        rival = alone.get((curve.strategy, curve.model))
        if rival is None or curve.pool in arrays.languages:
            continue
        both = sum(k in rival.budgets for k in curve.budgets)  # budgets ascend: the first of each
        if both and curve.budgets[:both] == rival.budgets[:both]:
            parts.append((place, both, Figures(curve.figures.values[..., :both] - rival.figures.values[..., :both])))
    made: list[dict[str, list[float | None]]] = [
        {name: [None] * len(curve.budgets) for name in ("gain", "gain_low", "gain_high")} for curve in found
    ]
    for n_seeds in sorted({len(figures.values) for _, _, figures in parts}):
        group = [part for part in parts if len(part[2].values) == n_seeds]
        test = compared(side_by_side([figures for _, _, figures in group]), replicates=replicates, seed=seed)
        done = 0
        for place, both, _ in group:
            for name, values in (("gain", test.effect), ("gain_low", test.low), ("gain_high", test.high)):
                made[place][name][:both] = [float(value) for value in values[done : done + both]]
            done += both
    return made


def _served(arrays: CandidateArrays, pools: Sequence[str], budgets: Sequence[int] | None) -> dict[str, list[int]]:
    """The budgets that each arm can serve."""
    reach = {name: arrays.largest_budget("mixed" if name == "planned" else name) for name in pools}
    if "planned" in reach:
        reach["planned"] = min(reach["planned"], PLANNED)
    if budgets is None:
        return {name: default_budgets(most) for name, most in reach.items()}
    top, wanted = max(reach.values()), sorted({int(k) for k in budgets})
    if max(wanted) > top or min(wanted) < 1:
        widest = max(reach, key=lambda name: reach[name])
        # refuses, naming problem and language
        arm_values(arrays, "mixed" if widest == "planned" else widest, "oracle", None, wanted)
    return {name: [k for k in wanted if k <= most] for name, most in reach.items()}


def _planned(
    arrays: CandidateArrays, strategy: str, model: str | None, ks: list[int], folds: int, seed: int
) -> list[_Curve]:
    """The held-out plan as a curve; none where plans do not exist for the strategy or the model."""
    objective = model if strategy == "best_of_k" else strategy
    if strategy not in ("oracle", "best_of_k") or not _covers(arrays, strategy, str(objective)):
        return []
    every = arrays.by_seed if strategy == "best_of_k" else (arrays,)
    made = [planned_values(one, ks, str(objective), folds, seed) for one in every]
    figures = Figures(np.stack([plan.accuracy for plan in made]))
    spent = [plan.tokens for plan in made if plan.tokens is not None]
    tokens = np.mean(spent, 0) if spent else None
    return [_Curve("planned", strategy, model, ks, figures, np.zeros(len(ks)), tokens)]


def interval_sources(
    arrays: CandidateArrays,
    budget: int = 8,
    reward_model: str | None = None,
    replicates: int | None = None,
    seed: int = 0,
) -> pl.DataFrame:
    """The sources of an interval: other problems, other draws on the same problems, both, or other training seeds.

    Args:
        arrays: made by `CandidateArrays.of` from a run's tables.
        budget: completions per problem; less where an arm holds less.
        reward_model: of best of k; by default cross or else the first that covers all languages. Without any only
            coverage is looked at.
        replicates: resamplings of candidates; problems are resampled as often. By default 200, of large pools fewer:
            each ranks all candidates anew, and 400 million in all are ranked, in at least 100 resamplings.

    Returns:
        Table `interval_sources`: one row per arm (the base language only, and mixed), strategy (oracle, best_of_k) and
        `resampled`: "problems", "candidates" (the same problems, sampled again), "both" (the two-level interval) or,
        where reward models were trained with several seeds, "training" (other seeds).

    Raises:
        ValueError: the reward model does not cover all languages.
    """
    alone = arrays.base
    pools = [alone, "mixed"] if len(arrays.languages) > 1 else [alone]
    k = min(budget, *(arrays.largest_budget(name) for name in pools))
    covering = [name for name in arrays.reward_models if arrays.reward(name, arrays.languages)]
    model = reward_model or ("cross" if "cross" in covering else next(iter(covering), None))
    if model and model not in covering:
        raise ValueError(
            f"reward model {model!r} does not cover all languages; those that do: {', '.join(covering) or 'none'}"
        )
    arms = [(name, *how) for how in [("oracle", None), *([("best_of_k", model)] if model else [])] for name in pools]

    def figures(arrays: CandidateArrays) -> Array:
        found = [arm_values(arrays, *arm, [k]) for arm in arms]
        return np.concatenate([values.accuracy for values in found if values is not None], 1)

    if replicates is None:
        replicates = min(200, max(100, 400 * LARGE // sum(map(np.size, arrays.exists.values()))))
    by_seed = Figures(np.stack([figures(one) for one in arrays.by_seed]))
    with ThreadPoolExecutor(_workers(arrays)) as pool:
        draws = np.random.default_rng(seed).spawn(replicates)
        again = np.stack(list(pool.map(lambda rng: figures(arrays.resampled(rng, model)), draws)))
    stored = by_seed.of_problems
    kinds = {
        "problems": un.mean_interval(stored, seed=seed),
        "candidates": un.two_level_interval(stored, again, seed=seed, problems=False),
        "both": un.two_level_interval(stored, again, seed=seed),
    }
    if by_seed.of_seeds is not None:
        kinds["training"] = un.seed_interval(by_seed.of_seeds)
    return pl.DataFrame(
        [
            (*arm, k, kind, float(found.estimate[i]), float(found.low[i]), float(found.high[i]), arrays.n_problems)
            for i, arm in enumerate(arms)
            for kind, found in kinds.items()
        ],
        schema=SCHEMAS["interval_sources"],
        orient="row",
    )


def curves_by_level(
    arrays: CandidateArrays,
    problems: pl.DataFrame,
    budgets: Sequence[int] | None = None,
    replicates: int = un.REPLICATES,
    seed: int = 0,
) -> pl.DataFrame:
    """The base language alone and the mixed pool on the problems of each level of difficulty.

    Args:
        arrays: made by `CandidateArrays.of` from a run's tables.
        problems: table `problems`; those without a level are left out.
        budgets, replicates, seed: see `curves`.

    Returns:
        Table `curves_by_level`: as `curves`, by best of k, majority and the oracle, with the level; levels in the order
        of `problems`. No rows where the set has no levels.
    """
    known = problems.drop_nulls("level").unique("problem_id", maintain_order=True)
    level = dict(known.select("problem_id", "level").iter_rows())
    pools = [arrays.base, "mixed"] if len(arrays.languages) > 1 else [arrays.base]
    parts = []
    for name in dict.fromkeys(level.values()):
        here = np.array([level.get(problem) == name for problem in arrays.problem_ids])
        if here.any():
            part = curves(arrays.subset(here), budgets, pools, BY_LEVEL, replicates=replicates, seed=seed)
            parts.append(part.select(pl.lit(name).alias("level"), *part.columns))
    return check_table("curves_by_level", pl.concat(parts) if parts else SCHEMAS["curves_by_level"].to_frame())


def _arms(arrays: CandidateArrays, strategies: Sequence[str]) -> list[tuple[str, str | None]]:
    return [(s, None) for s in strategies if s in UNREWARDED] + [
        (s, model) for s in strategies if s in REWARDED for model in arrays.reward_models
    ]


def _covers(arrays: CandidateArrays, strategy: str, objective: str) -> bool:
    return strategy == "oracle" or arrays.reward(objective, arrays.languages) is not None


def _ends(arrays: CandidateArrays, name: str, ks: Sequence[int]) -> tuple[Array, Array]:
    """Random and oracle accuracy of an arm at its budgets; no room between them where each plan has its own pool."""
    if not ks or name == "planned":
        return np.zeros(len(ks)), np.zeros(len(ks))
    low, high = (arm_values(arrays, name, s, None, ks) for s in ("random", "oracle"))
    if low is None or high is None:
        raise ValueError(f"pool {name!r} has no candidates to draw")
    return low.accuracy.mean(0), high.accuracy.mean(0)
