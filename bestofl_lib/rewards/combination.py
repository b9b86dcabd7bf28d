"""Several numbers of a candidate combined into one reward: log-probability and cross, arithmetic check and cross.

The weights come from a logistic regression of correctness, fitted on other problems than those it is used on. Tables
in, tables out; it opens no model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bestofl_lib.problems.folds import fold_of
from bestofl_lib.tables import KEY, SCHEMAS, check_table

JOINT = "+"  # between the parts of a combination's name
MEASURED = ("logprob", "arithmetic")  # parts that need no reward model
VARIANTS = ("mono", "multi", "cross")  # known names, whether or not they were trained
# one row per combination, part and training seed
WEIGHTS = pl.Schema(
    {
        "reward_model": pl.String,
        "part": pl.String,
        "seed": pl.Int32,
        "weight": pl.Float64,  # log-odds per standard deviation, mean over folds; null: a part has no numbers
        "low": pl.Float64,  # least and greatest over folds
        "high": pl.Float64,
    }
)


def combine_rewards(
    rewards: pl.DataFrame,
    candidates: pl.DataFrame,
    readings: pl.DataFrame,
    names: Sequence[str],
    folds: int = 5,
    seed: int = 0,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rewards of combinations, as reward models named like their parts: "arithmetic+cross".

    Args:
        rewards, candidates, readings: tables as in `bestofl_lib.tables`.
        names: combinations. A part is a reward model, "mono" (each language's own), "logprob" or "arithmetic" (no
            equation that is written is false).
        folds: by problem; the weights used on one are fitted on the others.
        seed: of the folds.

    Returns:
        Rows of the rewards table, one per candidate, combination and training seed (null where a part is), and WEIGHTS.
        A combination with a part that has no numbers here has no rewards, and no weights.

    Raises:
        ValueError: a name with fewer than two parts, or an unknown part.
    """
    made, told = [pl.DataFrame(schema=SCHEMAS["rewards"])], [pl.DataFrame(schema=WEIGHTS)]
    for name in names:
        parts = [part.strip() for part in name.split(JOINT)]
        if len(parts) < 2 or len(set(parts)) < len(parts):
            raise ValueError(
                f"{name!r} is not a combination; join two or more different parts by '+', as in 'logprob+cross'"
            )
        for training_seed in _seeds(rewards, parts):
            table = readings.select(*KEY, "is_correct")
            for part in parts:
                numbers = _numbers(part, rewards, candidates, readings, training_seed)
                table = table.join(numbers, on=list(KEY), how="inner")
            label = JOINT.join(parts)
            if not table.height or any(table[part].null_count() == table.height for part in parts):
                told.append(_told(label, parts, training_seed, None))
                continue
            table = table.sort(list(KEY))
            reward, weights = _cross_fitted(table, parts, folds, seed)
            made.append(
                table.select(
                    *KEY,
                    reward_model=pl.lit(label),
                    reward=pl.Series(reward).fill_nan(None),
                    seed=pl.lit(training_seed, dtype=pl.Int32),
                )
            )
            told.append(_told(label, parts, training_seed, weights))
    return check_table("rewards", pl.concat(made)), pl.concat(told)


def _told(label: str, parts: list[str], seed: int | None, weights: np.ndarray | None) -> pl.DataFrame:
    rows = [
        (label, part, seed, *((None,) * 3 if weights is None else (w.mean(), w.min(), w.max())))
        for part, w in zip(parts, [None] * len(parts) if weights is None else weights.T, strict=True)
    ]
    return pl.DataFrame(rows, schema=WEIGHTS, orient="row")


def _seeds(rewards: pl.DataFrame, parts: Sequence[str]) -> list[int | None]:
    used = rewards.filter(_by(parts))
    seeds = sorted(used["seed"].drop_nulls().unique()) if "seed" in used.columns else []
    return seeds or [None]


def _by(parts: Sequence[str]) -> pl.Expr:
    named = pl.col("reward_model").is_in(list(parts))
    return named | pl.col("reward_model").str.starts_with("mono-") if "mono" in parts else named


def _numbers(
    part: str, rewards: pl.DataFrame, candidates: pl.DataFrame, readings: pl.DataFrame, seed: int | None
) -> pl.DataFrame:
    """KEY and the part's number of each candidate that has one, as a column of its name."""
    if part == "logprob":
        table = candidates.select(*KEY, pl.col("logprob").alias(part))
    elif part == "arithmetic":
        holds = -(pl.col("false_equations") > 0).cast(pl.Float64)
        table = readings.select(*KEY, holds.alias(part))
    else:
        own = pl.col("reward_model") == pl.concat_str(pl.lit("mono-"), "language")
        mine = rewards.filter(own if part == "mono" else pl.col("reward_model") == part)
        if "seed" in mine.columns and mine["seed"].null_count() < mine.height:
            mine = mine.filter(pl.col("seed").eq_missing(pl.lit(seed, pl.Int32)))
        table = mine.select(*KEY, pl.col("reward").alias(part))
    known = sorted({*MEASURED, *VARIANTS, *rewards["reward_model"].unique()})
    if part not in known:
        raise ValueError(f"unknown part {part!r} of a combination; known: {', '.join(known)}")
    return table


def _cross_fitted(table: pl.DataFrame, parts: Sequence[str], folds: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(candidates,) log-odds, NaN where a part has no number; (folds, parts) weights."""
    x = table.select(pl.col(parts).cast(pl.Float64).fill_null(float("nan"))).to_numpy()
    right, fold = table["is_correct"].to_numpy(), np.array(fold_of(table["problem_id"], folds, seed))
    known = np.isfinite(x).all(1)
    reward, weights = np.full(len(x), np.nan), []
    for k in np.unique(fold):
        seen, mine = known & (fold != k), known & (fold == k)
        if not 0 < right[seen].sum() < seen.sum():
            raise ValueError(
                f"{int(right[seen].sum())} of {int(seen.sum())} candidates outside fold {k} are correct; "
                f"weights of {JOINT.join(parts)!r} need correct and wrong ones: use fewer folds or more problems"
            )
        fit = make_pipeline(StandardScaler(), LogisticRegression()).fit(x[seen], right[seen])
        if mine.any():
            reward[mine] = fit.decision_function(x[mine])
        weights.append(fit[-1].coef_[0])
    return reward, np.array(weights)
