"""How good rewards are: within a problem, across languages, and as probabilities.

Rewards and readings in, long tables out, with 95 % intervals over problems and the trainings of a reward model. It
knows no models and draws no charts.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
from scipy.special import expit
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression

from bestofl_lib.analysis.bootstrap import QUICK_REPLICATES, resampling_weights
from bestofl_lib.analysis.uncertainty import mean_interval
from bestofl_lib.problems.folds import fold_of
from bestofl_lib.tables import KEY, SCHEMAS

WITHIN, ACROSS = SCHEMAS["reward_quality"], SCHEMAS["reward_across"]

# one row per reward model, method and bin that is not empty
RELIABILITY = pl.Schema(
    {
        "reward_model": pl.String,
        "method": pl.String,  # "raw": sigmoid(reward); "platt": sigmoid(a * reward + b), cross-fitted by problem
        "bin": pl.Int32,
        "probability": pl.Float64,  # mean predicted probability in the bin
        "share_correct": pl.Float64,
        "n_candidates": pl.Int64,
    }
)

# one row per reward model, method and language (null: all)
CALIBRATION = pl.Schema(
    {
        "reward_model": pl.String,
        "method": pl.String,
        "language": pl.String,
        "ece": pl.Float64,  # expected calibration error: mean |share correct - probability| over bins, weighted by size
        "low": pl.Float64,
        "high": pl.Float64,
        "brier": pl.Float64,  # mean squared error of the probability
        "share_correct": pl.Float64,
        "n_candidates": pl.Int64,
    }
)


def within_problem_auc(rewards: pl.DataFrame | pl.LazyFrame, readings: pl.DataFrame, seed: int = 0) -> pl.DataFrame:
    """How often a correct candidate outranks a wrong one of the same problem and language (WITHIN).

    Each problem has the same weight, however many pairs it has. Problems whose candidates are all correct or all wrong
    say nothing and are not counted. A language in which no problem has both is absent.

    Args:
        rewards, readings: tables as in `bestofl_lib.tables`; of rewards that are only scanned, one model's in one
            language are in memory at a time.
        seed: of the resampling of problems for the intervals.
    """
    rewards = rewards.lazy()
    scored = rewards.select("reward_model", "language").unique().collect().sort("reward_model", "language")
    judged = readings.select(*KEY, "is_correct").partition_by("language", as_dict=True)
    found = []
    for (model,), cells in scored.group_by("reward_model", maintain_order=True):
        every = []
        for code in cells["language"]:
            mine = rewards.filter((pl.col("reward_model") == model) & (pl.col("language") == code)).collect()
            rows = _labelled(mine, judged.get((code,), readings.clear()))
            if rows.is_empty():
                continue
            per_problem = _of_seeds(rows, _problem_aucs)
            every.append(per_problem)
            found.append(_summary({"reward_model": model, "language": code}, "auc", per_problem, seed))
        if every:
            found.append(_summary({"reward_model": model, "language": None}, "auc", pl.concat(every), seed))
    return pl.DataFrame([row for row in found if row], schema=WITHIN)


def across_language_accuracy(rewards: pl.DataFrame, readings: pl.DataFrame, seed: int = 0) -> pl.DataFrame:
    """How often a correct candidate in one language outranks a wrong one of the same problem in another (ACROSS).

    This is what choosing from a mixed pool rests on. Each problem has the same weight. Reward models that scored a
    single language are absent.
    """
    table = _labelled(rewards, readings)
    found = []
    for (model,), part in table.partition_by("reward_model", as_dict=True, maintain_order=True).items():
        if part["language"].n_unique() < 2:
            continue
        cells = _of_seeds(part, _cross_cells)
        if not cells.height:
            continue
        names = {"reward_model": model}
        for (a, b), rows in cells.partition_by(
            "chosen_language", "rejected_language", as_dict=True, maintain_order=True
        ).items():
            found.append(_summary(names | {"chosen_language": a, "rejected_language": b}, "accuracy", rows, seed))
        found.append(_summary(names | {"chosen_language": None, "rejected_language": None}, "accuracy", cells, seed))
    return pl.DataFrame([row for row in found if row], schema=ACROSS)


def transfer(rewards: pl.DataFrame, readings: pl.DataFrame, seed: int = 0) -> pl.DataFrame:
    """What a reward model trained on one language knows in another: AUC of every mono model in every language.

    Returns:
        One row per mono model and language that it scored: `trained_on`, `language`, `auc`, `low`, `high`,
        `n_problems`, `n_pairs`. Mono models score other languages than their own with scope "all".
    """
    mono = rewards.filter(pl.col("reward_model").str.starts_with("mono-"))
    found = within_problem_auc(mono, readings, seed).drop_nulls("language")
    return found.select(
        pl.col("reward_model").str.strip_prefix("mono-").alias("trained_on"), pl.exclude("reward_model")
    )


def calibration(
    rewards: pl.DataFrame, readings: pl.DataFrame, method: str = "platt", bins: int = 10, folds: int = 5, seed: int = 0
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rewards as probabilities of being correct: the reliability diagram and its error (RELIABILITY, CALIBRATION).

    Args:
        method: "raw", sigmoid(reward), which means something after loss "bce" only; "platt", sigmoid(a * reward + b)
            with a and b fitted by cross-fitting over problems, so that no problem sets its own probability.
        bins: of equal width in probability.
        folds: for "platt".
        seed: of the intervals, which resample problems.

    Raises:
        ValueError: an unknown method or fewer than two bins.
    """
    if method not in ("raw", "platt"):
        raise ValueError(f"unknown calibration method {method!r}; use 'raw' or 'platt'")
    if bins < 2:
        raise ValueError(f"bins={bins}: a reliability diagram needs at least 2")
    table = _labelled(rewards, readings)
    table = table.filter(pl.col("seed").eq_missing(pl.col("seed").min().over("reward_model")))  # the first training
    # scikit-learn's `calibration_curve` says neither which rewards are in a bin nor how many, which the intervals need
    diagrams, errors = [], []
    for (model,), part in table.partition_by("reward_model", as_dict=True, maintain_order=True).items():
        reward, right = part["reward"].to_numpy(), part["is_correct"].to_numpy().astype(float)
        problem = part["problem_id"].rank("dense").to_numpy() - 1
        if method == "raw":
            probability = expit(reward)
        else:
            fold = np.array(fold_of(part["problem_id"], folds, seed))
            probability = np.empty(len(reward))
            for k in np.unique(fold):
                inside = fold != k if (fold != k).any() else fold == k
                slope, intercept = _platt(reward[inside], right[inside])
                probability[fold == k] = expit(slope * reward[fold == k] + intercept)
        place = np.minimum((probability * bins).astype(int), bins - 1)
        for b in np.unique(place):
            mine = place == b
            diagrams.append((model, method, int(b), probability[mine].mean(), right[mine].mean(), int(mine.sum())))
        for code in [None, *sorted(part["language"].unique())]:
            mine = np.ones(len(reward), dtype=bool) if code is None else (part["language"] == code).to_numpy()
            ece, low, high = _ece(probability[mine], right[mine], place[mine], problem[mine], bins, seed)
            brier = float(((probability[mine] - right[mine]) ** 2).mean())
            errors.append((model, method, code, ece, low, high, brier, right[mine].mean(), int(mine.sum())))
    return (
        pl.DataFrame(diagrams, schema=RELIABILITY, orient="row"),
        pl.DataFrame(errors, schema=CALIBRATION, orient="row"),
    )


def _labelled(rewards: pl.DataFrame, readings: pl.DataFrame) -> pl.DataFrame:
    judged = rewards.drop_nulls("reward")  # without those set aside
    table = judged.join(readings.select(*KEY, "is_correct"), on=list(KEY), how="left")
    if table["is_correct"].null_count():
        raise ValueError(
            f"{table['is_correct'].null_count()} of {table.height} rewards have no reading; run 03_check_answers first"
        )
    if "seed" not in table.columns:
        table = table.with_columns(seed=pl.lit(None, pl.Int32))
    return table.sort("reward_model", "seed", "language", "problem_id", "sample_index")


def _of_seeds(rows: pl.DataFrame, values: Callable[[pl.DataFrame], pl.DataFrame]) -> pl.DataFrame:
    """What `values` makes of each training of a reward model, numbered by `training`."""
    parts = rows.partition_by("seed", maintain_order=True)
    return pl.concat([values(part).with_columns(training=number) for number, part in enumerate(parts)])


def _problem_aucs(rows: pl.DataFrame) -> pl.DataFrame:
    """One row per problem with both kinds: problem_id, value, pairs. Mann-Whitney by mid-ranks."""
    ranked = rows.with_columns(rank=pl.col("reward").rank("average").over("problem_id"))
    right = pl.col("is_correct").sum().cast(pl.Int64)
    return (
        ranked.group_by("problem_id", maintain_order=True)
        .agg(
            right=right, wrong=pl.len().cast(pl.Int64) - right, ranks=pl.col("rank").filter(pl.col("is_correct")).sum()
        )
        .filter((pl.col("right") > 0) & (pl.col("wrong") > 0))
        .select(
            "problem_id",
            value=(pl.col("ranks") - pl.col("right") * (pl.col("right") + 1) / 2) / (pl.col("right") * pl.col("wrong")),
            pairs=pl.col("right") * pl.col("wrong"),
        )
    )


def _cross_cells(rows: pl.DataFrame) -> pl.DataFrame:
    """One row per problem and ordered pair of languages that has such pairs: value is the share in the right order."""
    found = []
    for (problem,), part in rows.partition_by("problem_id", as_dict=True, maintain_order=True).items():
        reward, right = part["reward"].to_numpy(), part["is_correct"].to_numpy()
        language = part["language"].to_numpy()
        if right.all() or not right.any():
            continue
        order = rankdata(reward, method="dense")
        wins = np.sign(order[right][:, None] - order[~right][None, :]) / 2 + 0.5
        a, b = language[right], language[~right]
        a_names, a_code = np.unique(a, return_inverse=True)
        b_names, b_code = np.unique(b, return_inverse=True)
        rows_of = (a_code[:, None] == np.arange(len(a_names))).astype(float)
        columns_of = (b_code[:, None] == np.arange(len(b_names))).astype(float)
        total, size = rows_of.T @ wins @ columns_of, np.outer(rows_of.sum(0), columns_of.sum(0))
        for i, chosen in enumerate(a_names):
            for j, rejected in enumerate(b_names):
                if chosen != rejected:
                    found.append((problem, chosen, rejected, total[i, j] / size[i, j], int(size[i, j])))
    schema = {
        "problem_id": pl.String,
        "chosen_language": pl.String,
        "rejected_language": pl.String,
        "value": pl.Float64,
        "pairs": pl.Int64,
    }
    return pl.DataFrame(found, schema=schema, orient="row").sort("chosen_language", "rejected_language", "problem_id")


def _summary(names: dict[str, str | None], column: str, rows: pl.DataFrame, seed: int) -> dict[str, object]:
    """Mean of the rows' values with its interval over problems and trainings; empty without rows."""
    if not rows.height:
        return {}
    of_trainings = rows.group_by("training", maintain_order=True).agg(pl.col("value").mean())["value"].to_numpy()
    trainings = len(of_trainings)
    per_problem = rows.group_by("problem_id", maintain_order=True).agg(
        pl.col("value").sum() / trainings, n=pl.len() / trainings
    )
    total, n = per_problem["value"].to_numpy(), per_problem["n"].to_numpy()
    share = total.sum() / n.sum()
    # a ratio of sums is, to first order, the mean of these values; each problem counts once per language
    level = mean_interval(
        share + (total - share * n) / n.mean(),
        replicates=QUICK_REPLICATES,
        seed=seed,
        bounds=_bounds(n),
        of_seeds=of_trainings if trainings > 1 else None,
    )
    return names | {
        column: float(share),
        "low": float(np.clip(level.low, 0, 1)),
        "high": float(np.clip(level.high, 0, 1)),
        "n_problems": len(total),
        "n_pairs": round(rows["pairs"].sum() / trainings),
    }


def _bounds(n: np.ndarray) -> tuple[float, float]:
    """What the linearised value of one problem can be: a share where every problem counts once."""
    most = float(n.max() / n.mean())
    return (0.0, 1.0) if most == 1 else (-most, 1 + most)


def _platt(reward: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of the least log loss, with Platt's smoothed targets, on standardised rewards."""
    mean, scale = reward.mean(), reward.std() or 1.0
    x = (reward - mean) / scale
    n_right, n_wrong = right.sum(), len(right) - right.sum()
    target = np.where(right > 0, (n_right + 1) / (n_right + 2), 1 / (n_wrong + 2))
    both = np.repeat([1, 0], len(x))  # a target of .9 is nine tenths right and one tenth wrong
    fit = LogisticRegression(C=np.inf, tol=1e-8)
    fit.fit(np.tile(x, 2)[:, None], both, sample_weight=np.concatenate([target, 1 - target]))
    slope, intercept = float(fit.coef_[0, 0]), float(fit.intercept_[0])
    return slope / scale, intercept - slope * mean / scale


def _ece(
    probability: np.ndarray, right: np.ndarray, place: np.ndarray, problem: np.ndarray, bins: int, seed: int
) -> tuple[float, float, float]:
    """Expected calibration error and its interval over problems."""
    _, row = np.unique(problem, return_inverse=True)
    gap = np.zeros((row.max() + 1, bins))
    np.add.at(gap, (row, place), right - probability)

    def error(weights: np.ndarray) -> np.ndarray:
        return np.abs(weights @ gap).sum(-1) / (weights @ size)

    size = np.bincount(row).astype(float)
    low, high = np.quantile(error(resampling_weights(len(size), QUICK_REPLICATES, seed)), [0.025, 0.975])
    return float(error(np.ones(len(size)))), float(low), float(high)
