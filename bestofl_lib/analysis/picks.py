"""Which candidate wins: the share of wins of each language, and the concrete pick of one random draw.

It knows tables; figures over all draws come from the exact estimators.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from bestofl_lib.analysis.arms import checked_arm, vote_weight
from bestofl_lib.analysis.arrays import MEASURES, CandidateArrays
from bestofl_lib.analysis.checks import check_budget, checked_allocation
from bestofl_lib.analysis.contest import Winners
from bestofl_lib.tables import SCHEMAS
from bestofl_lib.text import stable_integer

AT_ONCE = 1_000_000  # candidates ranked at a time, to bound memory


def selected_languages(
    arrays: CandidateArrays,
    name: str = "mixed",
    reward_model: str = "cross",
    budgets: Sequence[int] = (4,),
    strategy: str = "best_of_k",
) -> pl.DataFrame:
    """How often the winner comes from each language, exactly; the mean over training seeds of a reward model.

    Returns:
        One row per language and budget: `language`, `share` (of wins), `strategy`, `reward_model`, `pool`, `budget`,
        `n_problems`. Empty where the reward model does not cover the pool.
    """
    members = checked_arm(arrays, name, strategy, reward_model if strategy == "best_of_k" else None, "logistic")
    pools, ruler = ((arrays,), strategy) if strategy in MEASURES else (arrays.by_seed, reward_model)
    of_seeds = [rewards for pool in pools if (rewards := pool.reward(ruler, members)) is not None]
    wins = np.zeros((len(budgets), len(members)))
    n, size = arrays.n_problems, sum(arrays.exists[code].size for code in members)
    for rewards in of_seeds:
        for some in np.array_split(np.arange(n), min(n, size // AT_ONCE + 1)):
            ids = [arrays.problem_ids[i] for i in some]
            winners = Winners.of({code: rewards[code][some] for code in members}, ids)
            wins += np.stack([winners.shares(k).sum(0) for k in budgets]) / (n * len(of_seeds))
    rows = [
        (code, float(wins[row, place]), int(k))
        for place, code in enumerate(members if of_seeds else ())
        for row, k in enumerate(budgets)
    ]
    model = reward_model if strategy == "best_of_k" else None
    told = [(code, share, strategy, model, name, k, arrays.n_problems) for code, share, k in rows]
    return pl.DataFrame(told, schema=SCHEMAS["selected"], orient="row")


def selected_by_every_rule(arrays: CandidateArrays, budget: int | None = None, name: str = "mixed") -> pl.DataFrame:
    """`selected_languages` of each reward model that covers the pool, and of the numbers that candidates carry
    themselves.

    Args:
        budget: completions per problem; by default one of each language of the pool.
    """
    budgets = [len(arrays.members(name)) if budget is None else budget]
    models = [
        selected_languages(arrays, name, model, budgets)
        for model in arrays.reward_models
        if arrays.reward(model, arrays.members(name))
    ]
    return pl.concat([*models, *(selected_languages(arrays, name, rule, budgets, rule) for rule in MEASURES)])


def draw_once(arrays: CandidateArrays, allocation: Mapping[str, int], seed: int = 0) -> pl.DataFrame:
    """One random draw per problem with this allocation: which stored candidates it holds.

    Returns:
        One row per drawn candidate: `problem_id`, `language`, `sample_index`, `is_correct`.
    """
    used = checked_allocation(allocation, arrays.languages)
    rows = []
    for code, k in used.items():
        check_budget(arrays.n_candidates(code), k, arrays.problem_ids, code)
        lots = np.stack(
            [_lots(seed, f"{problem}:{code}", arrays.exists[code].shape[1]) for problem in arrays.problem_ids]
        )
        order = np.argsort(np.where(arrays.exists[code], lots, np.inf), 1)[:, :k]
        index = np.take_along_axis(arrays.sample_index[code], order, 1)
        right = np.take_along_axis(arrays.is_correct[code], order, 1) > 0
        rows += [
            (problem, code, int(i), bool(c))
            for p, problem in enumerate(arrays.problem_ids)
            for i, c in zip(index[p], right[p], strict=True)
        ]
    schema = {"problem_id": pl.String, "language": pl.String, "sample_index": pl.Int32, "is_correct": pl.Boolean}
    return pl.DataFrame(rows, schema=schema, orient="row").sort("problem_id", "language", "sample_index")


def pick_candidates(
    arrays: CandidateArrays,
    allocation: Mapping[str, int],
    strategy: str = "best_of_k",
    reward_model: str | None = None,
    seed: int = 0,
    vote_weights: str = "logistic",
) -> pl.DataFrame:
    """The candidate that a strategy picks from one random draw per problem, for reading.

    Ties are broken by the seed. Votes pick one candidate of the winning answer. `oracle` picks a correct one if drawn.

    Returns:
        One row per problem: `problem_id`, `language`, `sample_index` (of the pick), `is_correct`, `strategy`,
        `reward_model`, `budget`. No row where a vote had no answer to count.
    """
    used = checked_allocation(allocation, arrays.languages)
    checked_arm(arrays, "+".join(used), strategy, reward_model, vote_weights)
    members, table = tuple(used), draw_once(arrays, used, seed)
    model = strategy if strategy in MEASURES else reward_model
    rewards = arrays.reward(model, members) if model else None
    if model and rewards is None:
        raise ValueError(f"{model!r} gives no numbers for {', '.join(members)}; choose another strategy or pool")
    row = {problem: p for p, problem in enumerate(arrays.problem_ids)}
    places = {c: {(p, i): n for (p, n), i in np.ndenumerate(arrays.sample_index[c]) if i >= 0} for c in members}
    value, answer = [], []
    for problem, code, index, right in table.iter_rows():
        at = (row[problem], places[code][(row[problem], index)])
        value.append(float(rewards[code][at]) if rewards else float(right) if strategy == "oracle" else 0.0)
        answer.append(int(arrays.answers[code][at]))
    table = table.with_columns(
        value=pl.Series(value, dtype=pl.Float64),
        answer=pl.Series(answer, dtype=pl.Int64),
        lot=pl.Series(np.concatenate([_lots(seed + 1, problem, n) for problem, n in _counts(table)]), dtype=pl.Float64),
    )
    if strategy in ("majority", "weighted"):
        each = vote_weight(table["value"].to_numpy(), vote_weights) if strategy == "weighted" else np.ones(len(table))
        table = table.with_columns(weight=pl.Series(each))
        tally = (
            table.filter(pl.col("answer") >= 0)
            .group_by("problem_id", "answer")
            .agg(pl.col("weight").sum().round(9).alias("votes"), pl.col("lot").min().alias("turn"))
            .sort("problem_id", "votes", "turn", descending=[False, True, False])
            .unique("problem_id", keep="first", maintain_order=True)
        )
        table = table.join(tally.select("problem_id", "answer"), on=["problem_id", "answer"], how="semi")
    return (
        table.sort("problem_id", "value", "lot", descending=[False, True, False])
        .unique("problem_id", keep="first", maintain_order=True)
        .select("problem_id", "language", "sample_index", "is_correct")
        .with_columns(
            strategy=pl.lit(strategy),
            reward_model=pl.lit(reward_model, pl.String),
            budget=pl.lit(sum(used.values()), pl.Int32),
        )
    )


def _lots(seed: int, name: str, n: int) -> np.ndarray:
    """(n,) uniform numbers that depend on the seed and the name alone, so that a problem's draw does not depend on the
    other problems.
    """
    return np.random.default_rng([seed, stable_integer(name)]).random(n)


def _counts(table: pl.DataFrame) -> list[tuple[str, int]]:
    """Rows per problem, in the order of a table that is sorted by problem."""
    return [(problem, n) for problem, n in table.group_by("problem_id", maintain_order=True).len().iter_rows()]
