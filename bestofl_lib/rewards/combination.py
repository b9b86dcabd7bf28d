"""Several numbers of a candidate combined into one reward: log-probability and cross, arithmetic check and cross.

The weights come from a logistic regression of correctness, fitted on other problems than those it is used on: on the
dev split where there is one, else across folds. Tables in, tables out; it opens no model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from bestofl_lib.problems.folds import fold_of
from bestofl_lib.rewards.pairs import VARIANTS
from bestofl_lib.tables import KEY, SCHEMAS, check_table
from bestofl_lib.text import counted

JOINT = "+"  # between the parts of a combination's name
MEASURED = ("logprob", "arithmetic")  # parts that need no reward model
# one row per combination, part and training seed
WEIGHTS = pl.Schema(
    {
        "reward_model": pl.String,
        "part": pl.String,
        "seed": pl.Int32,
        "weight": pl.Float64,  # log-odds per standard deviation, mean over folds; null: a part has no numbers
        "low": pl.Float64,  # least and greatest over folds; null where all weights were fitted once, on the dev split
        "high": pl.Float64,
    }
)


def combine_rewards(
    rewards: pl.DataFrame | pl.LazyFrame,
    candidates: pl.DataFrame,
    readings: pl.DataFrame,
    names: Sequence[str],
    folds: int = 5,
    seed: int = 0,
    dev: tuple[pl.DataFrame, pl.DataFrame] | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rewards of combinations, as reward models named like their parts: "arithmetic+cross".

    Args:
        rewards, candidates, readings: tables as in `bestofl_lib.tables`.
        names: combinations. A part is a reward model, "mono" (each language's own), "logprob" or "arithmetic" (no
            equation that is written is false).
        folds: by problem; the weights used on one are fitted on the others.
        seed: of the folds.
        dev: rewards and readings of problems that are not judged: all weights are fitted on them, and folds not used.

    Returns:
        Rows of the rewards table, one per candidate, combination and training seed (null where a part is), and WEIGHTS.
        A combination with a part that has no numbers here has no rewards, and no weights.

    Raises:
        ValueError: a name with fewer than two parts, or an unknown part.
    """
    rewards = rewards.lazy().collect() if names else SCHEMAS["rewards"].to_frame()
    made, told = [pl.DataFrame(schema=SCHEMAS["rewards"])], [pl.DataFrame(schema=WEIGHTS)]
    for name in names:
        parts = [part.strip() for part in name.split(JOINT)]
        if len(parts) < 2 or len(set(parts)) < len(parts):
            raise ValueError(
                f"{name!r} is not a combination; join two or more different parts by '+', as in 'logprob+cross'"
            )
        for training_seed in _seeds(rewards, parts):
            table = _side_by_side(parts, rewards, candidates, readings, training_seed)
            label = JOINT.join(parts)
            if not table.height or any(table[part].null_count() == table.height for part in parts):
                told.append(_told(label, parts, training_seed, None))
                continue
            if dev is None:
                reward, weights = _cross_fitted(table, parts, folds, seed)
            else:
                apart = _side_by_side(parts, dev[0], candidates, dev[1], training_seed)
                reward, weights = _fitted_on(apart, table, parts)
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


def _side_by_side(
    parts: Sequence[str],
    rewards: pl.DataFrame,
    candidates: pl.DataFrame,
    readings: pl.DataFrame,
    seed: int | None,
) -> pl.DataFrame:
    """One row per candidate that has all parts: KEY, is_correct and a column per part."""
    table = readings.select(*KEY, "is_correct")
    for part in parts:
        table = table.join(_numbers(part, rewards, candidates, readings, seed), on=list(KEY), how="inner")
    return table.sort(list(KEY))


def _told(label: str, parts: list[str], seed: int | None, weights: np.ndarray | None) -> pl.DataFrame:
    of_parts = [[]] * len(parts) if weights is None else weights.T.tolist()  # one per fold each
    rows = [
        (label, part, seed, float(np.mean(w)) if w else None, *((min(w), max(w)) if len(w) > 1 else (None, None)))
        for part, w in zip(parts, of_parts, strict=True)
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
    x, fold = _columns(table, parts), np.array(fold_of(table["problem_id"], folds, seed))
    right, known = table["is_correct"].to_numpy(), np.isfinite(x).all(1)
    reward, weights = np.full(len(x), np.nan), []
    for k in np.unique(fold):
        seen, mine = known & (fold != k), known & (fold == k)
        fit = _fit(x[seen], right[seen], parts, f"outside fold {k}")
        if mine.any():
            reward[mine] = fit.decision_function(x[mine])
        weights.append(fit[-1].coef_[0])
    return reward, np.array(weights)


def _fitted_on(dev: pl.DataFrame, table: pl.DataFrame, parts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(candidates,) log-odds by weights of the dev split, NaN where a part has no number; (1, parts) weights."""
    x, x_dev = _columns(table, parts), _columns(dev, parts)
    known, seen = np.isfinite(x).all(1), np.isfinite(x_dev).all(1)
    fit = _fit(x_dev[seen], dev["is_correct"].to_numpy()[seen], parts, "of the dev split")
    reward = np.full(len(x), np.nan)
    if known.any():
        reward[known] = fit.decision_function(x[known])
    return reward, fit[-1].coef_[:1]


def _columns(table: pl.DataFrame, parts: Sequence[str]) -> np.ndarray:
    return table.select(pl.col(parts).cast(pl.Float64).fill_null(float("nan"))).to_numpy()


def _fit(x: np.ndarray, right: np.ndarray, parts: Sequence[str], which: str) -> Pipeline:
    if not 0 < right.sum() < len(right):
        raise ValueError(
            f"{int(right.sum())} of {counted(len(right), 'candidate')} {which} are correct; weights of "
            f"{JOINT.join(parts)!r} need correct and wrong ones: use fewer folds or more problems"
        )
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(x, right)
