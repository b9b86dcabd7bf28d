"""Budget curves: every arm and strategy at every budget, with intervals, as one long table.

It collects per-problem figures from `arms` (and `planner`) and gives all of them intervals in one go. It
deliberately has no opinion on which curve matters: that is `claims`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from bestofl_lib.analysis import uncertainty as un
from bestofl_lib.analysis.arms import PLAIN, REWARDED, STRATEGIES, arm_tokens, arm_values, contest_of
from bestofl_lib.analysis.planner import planned_values
from bestofl_lib.analysis.pool import Pool
from bestofl_lib.analysis.votes import DRAWS
from bestofl_lib.languages import PIVOT
from bestofl_lib.tables import SCHEMAS, check_table

Array = np.ndarray


def default_budgets(largest: int) -> list[int]:
    """1 to 8, then in steps of about a quarter to a half, up to `largest`.

    >>> default_budgets(20)
    [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20]
    """
    budgets, k = list(range(1, 9)), 8
    while k < largest:
        budgets += [k * 5 // 4, k * 3 // 2, k * 2]
        k *= 2
    return [k for k in budgets if k <= largest]


def default_pools(pool: Pool) -> list[str]:
    """Each language only, mixed, mixed without English, planned: as far as the pool has several languages."""
    several = ["mixed"] if len(pool.languages) > 1 else []
    if PIVOT in pool.languages and len(pool.languages) > 2:
        several.append("mixed-en")
    if several and pool.n_problems > 1:
        several.append("planned")
    return [*pool.languages, *several]


def curves(
    pool: Pool,
    budgets: Sequence[int] | None = None,
    pools: Sequence[str] | None = None,
    strategies: Sequence[str] | None = None,
    draws: int = DRAWS,
    replicates: int = un.REPLICATES,
    folds: int = 5,
    seed: int = 0,
    vote_weights: str = "logistic",
) -> pl.DataFrame:
    """The full grid of arms, strategies and budgets.

    Args:
        pool: made by `Pool.of` from a run's tables.
        budgets: completions per problem; by default `default_budgets` up to what the largest arm can serve. Each arm's
            curve stops at the largest budget that its every problem can serve.
        pools: arms; by default `default_pools`. "planned" exists for oracle and best_of_k, and is judged on problems
            it was not planned on.
        strategies: by default all that the pool has numbers for.
        draws: per problem, for the strategies that need a Monte Carlo (its error is the column `mc_error`).
        replicates: resamplings of problems for the 95 % intervals.
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
    pools = default_pools(pool) if pools is None else list(pools)
    chosen = list(STRATEGIES) if strategies is None else list(strategies)
    unknown = [s for s in chosen if s not in STRATEGIES]
    if unknown:
        raise ValueError(f"unknown strategy {unknown[0]!r}; known: {', '.join(STRATEGIES)}")
    reach = {name: _largest(pool, name) for name in pools}
    wanted = default_budgets(max(reach.values())) if budgets is None else sorted({int(k) for k in budgets})
    if max(wanted) > max(reach.values()) or min(wanted) < 1:
        widest = max(reach, key=lambda name: reach[name])
        # refuses, naming problem and language
        arm_values(pool, "mixed" if widest == "planned" else widest, "oracle", None, wanted)
    arms: list[tuple[dict[str, Any], Array, Array, Array | None]] = []
    for name in pools:
        ks = [k for k in wanted if k <= reach[name]]
        if not ks:
            continue
        target = name if name in pool.languages else None
        tokens = None if name == "planned" else arm_tokens(pool, name, ks)
        for strategy, model in _arms(pool, chosen):
            label: dict[str, Any] = {"target": target, "pool": name, "strategy": strategy, "reward_model": model}
            label["budget"] = ks
            if name == "planned":
                objective = model if strategy == "best_of_k" else strategy
                if strategy not in ("oracle", "best_of_k") or not _covers(pool, strategy, str(objective)):
                    continue
                plan = planned_values(pool, ks, str(objective), folds, seed)
                arms.append((label, plan.accuracy, np.zeros(len(ks)), plan.tokens))
            else:
                values = arm_values(pool, name, strategy, model, ks, draws, seed, vote_weights)
                if values is not None:
                    arms.append((label, values.accuracy, values.mc_error, tokens))
    if not arms:
        raise ValueError(f"the pool has no numbers for {', '.join(chosen)} in {', '.join(pools)}; score it first")
    every = np.concatenate([accuracy for _, accuracy, _, _ in arms], 1)
    spread = un.mean_interval(every, replicates=replicates, seed=seed)
    base = {name: _ends(pool, name, [k for k in wanted if k <= reach[name]]) for name in pools}
    columns: dict[str, list] = {name: [] for name in SCHEMAS["curves"]}
    done = 0
    for label, accuracy, error, tokens in arms:
        count = accuracy.shape[1]
        part, done = slice(done, done + count), done + count
        low, high = base[label["pool"]]
        room = high - low
        efficiency = (spread.estimate[part] - low) / np.where(room > 1e-9, room, 1)
        for name in ("target", "pool", "strategy", "reward_model"):
            columns[name] += [label[name]] * count
        columns["budget"] += label["budget"]
        columns["tokens"] += [None] * count if tokens is None else tokens.mean(0).tolist()
        columns["accuracy"] += np.clip(spread.estimate[part], 0, 1).tolist()
        columns["low"] += np.clip(spread.low[part], 0, 1).tolist()
        columns["high"] += np.clip(spread.high[part], 0, 1).tolist()
        columns["mc_error"] += error.tolist()
        columns["efficiency"] += [float(e) if r > 1e-9 else None for e, r in zip(efficiency, room, strict=True)]
        columns["n_problems"] += [pool.n_problems] * count
    return check_table("curves", pl.DataFrame(columns, schema=SCHEMAS["curves"]))


def interval_sources(
    pool: Pool, budget: int = 8, reward_model: str | None = None, replicates: int = 200, seed: int = 0
) -> pl.DataFrame:
    """Of what an interval is made: other problems, other draws on the same problems, or both.

    Args:
        pool: made by `Pool.of` from a run's tables.
        budget: completions per problem; less where an arm holds less.
        reward_model: of best of k; by default cross or else the first that covers all languages. Without any only
            coverage is looked at.
        replicates: resamplings of candidates; problems are resampled as often.

    Returns:
        One row per arm (English only or else the first language, and mixed), strategy (oracle, best_of_k) and `resampled`:
        "problems" (the interval of all other figures), "candidates" (the same problems, sampled again) or "both" (the
        two-level interval). Columns: `pool`, `strategy`, `reward_model`, `budget`, `resampled`, `accuracy`, `low`,
        `high`, `n_problems`.
    """
    alone = PIVOT if PIVOT in pool.languages else pool.languages[0]
    pools = [alone, "mixed"] if len(pool.languages) > 1 else [alone]
    k = min(budget, *(pool.largest_budget(name) for name in pools))
    covering = [name for name in pool.reward_models if pool.reward(name, pool.languages)]
    model = reward_model or ("cross" if "cross" in covering else next(iter(covering), None))
    arms = [(name, *how) for how in [("oracle", None), *([("best_of_k", model)] if model else [])] for name in pools]

    def figures(drawn: Pool) -> Array:
        ranked = [contest_of(drawn, how or "oracle", drawn.members(name)) for name, _, how in arms]
        return np.concatenate([contestants.shares([k]) for contestants in ranked], 1)

    rng = np.random.default_rng(seed)
    stored, again = figures(pool), np.stack([figures(pool.redrawn(rng)) for _ in range(replicates)])
    kinds = {
        "problems": un.mean_interval(stored, seed=seed),
        "candidates": un.two_level_interval(stored, again, seed=seed, problems=False),
        "both": un.two_level_interval(stored, again, seed=seed),
    }
    return pl.DataFrame(
        [
            (*arm, k, kind, float(found.estimate[i]), float(found.low[i]), float(found.high[i]), pool.n_problems)
            for i, arm in enumerate(arms)
            for kind, found in kinds.items()
        ],
        schema={
            "pool": pl.String,
            "strategy": pl.String,
            "reward_model": pl.String,
            "budget": pl.Int32,
            "resampled": pl.String,
            "accuracy": pl.Float64,
            "low": pl.Float64,
            "high": pl.Float64,
            "n_problems": pl.Int32,
        },
        orient="row",
    )


def _arms(pool: Pool, strategies: Sequence[str]) -> list[tuple[str, str | None]]:
    return [(s, None) for s in strategies if s in PLAIN] + [
        (s, model) for s in strategies if s in REWARDED for model in pool.reward_models
    ]


def _covers(pool: Pool, strategy: str, objective: str) -> bool:
    return strategy == "oracle" or pool.reward(objective, pool.languages) is not None


def _largest(pool: Pool, name: str) -> int:
    if name == "planned":
        return pool.largest_budget("mixed")
    return pool.largest_budget(name)


def _ends(pool: Pool, name: str, ks: Sequence[int]) -> tuple[Array, Array]:
    """Random and oracle accuracy of an arm at its budgets; no room between them where each plan has its own pool."""
    if not ks or name == "planned":
        return np.zeros(len(ks)), np.zeros(len(ks))
    low, high = (arm_values(pool, name, s, None, ks) for s in ("random", "oracle"))
    if low is None or high is None:
        raise ValueError(f"pool {name!r} has no candidates to draw")
    return low.accuracy.mean(0), high.accuracy.mean(0)
