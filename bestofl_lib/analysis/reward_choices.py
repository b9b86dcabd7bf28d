"""What influences a reward model's choices: bias at fixed correctness, agreement with another, offsets of a language.

Tables and pools in, long tables with 95 % intervals over problems out. It opens no model and draws no charts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import polars as pl
from babel import Locale

from bestofl_lib.analysis.arms import arm_values
from bestofl_lib.analysis.arrays import CandidateArrays
from bestofl_lib.analysis.bootstrap import QUICK_REPLICATES
from bestofl_lib.analysis.reward_quality import within_problem_auc
from bestofl_lib.analysis.uncertainty import mean_interval
from bestofl_lib.languages import PIVOT, is_language, language
from bestofl_lib.problems.folds import fold_of
from bestofl_lib.tables import KEY, SCHEMAS

BIAS = SCHEMAS["reward_bias"]


def reward_bias(rewards: pl.DataFrame, readings: pl.DataFrame, candidates: pl.DataFrame) -> pl.DataFrame:
    """What moves a reward although correctness stays the same (BIAS).

    A candidate is compared with others of its problem that are as right as it is. For its language, and for a script
    that several languages share, these are all others. For its length (longer than their median), its place in the pool
    (drawn in the second half) and whether a cue such as "The answer is" announces its answer, they are those of its own
    language. Rewards are divided by the reward model's standard deviation; training seeds are averaged.

    Args:
        rewards, readings, candidates: tables as in `bestofl_lib.tables`.
    """
    told = readings.select(*KEY, "is_correct", cue=pl.col("rule").fill_null("").str.contains("cue"))
    texts = candidates.select(*KEY, length=pl.col("completion").str.len_chars())
    mean = rewards.drop_nulls("reward").group_by("reward_model", *KEY, maintain_order=True).agg(pl.col("reward").mean())
    table = mean.join(told, on=list(KEY)).join(texts, on=list(KEY))
    table = table.with_columns(pl.col("reward") / pl.col("reward").std().over("reward_model"))
    peers = ["reward_model", "problem_id", "is_correct"]
    near = [*peers, "language"]
    length, place = pl.col("length"), pl.col("sample_index")
    traits = {
        "length": ("longer", length > length.median().over(near), near),
        "place": ("later", place > place.median().over(near), near),
        "cue": ("announced", pl.col("cue"), near),
    }
    parts = [
        _apart(table.filter(_several(peers, "language")), "language", pl.col("language"), peers),
        _apart(table, "script", _shared_script(table["language"].unique().to_list()), peers),
        *(
            _apart(table.with_columns(has=has), name, pl.when("has").then(pl.lit(value)), group)
            for name, (value, has, group) in traits.items()
        ),
    ]
    return pl.concat(parts)


def _shared_script(codes: list[str]) -> pl.Expr:
    """English name of a candidate's script where several of the languages are written in it, else null."""
    of = {code: language(code).script for code in codes if is_language(code)}
    several = {script for script, n in Counter(of.values()).items() if n > 1}
    names = Locale.parse(PIVOT).scripts
    return pl.col("language").replace_strict(
        {code: names.get(script, script) for code, script in of.items() if script in several},
        default=None,
        return_dtype=pl.String,
    )


def _several(group: list[str], column: str) -> pl.Expr:
    return pl.col(column).n_unique().over(group) > 1


def _apart(table: pl.DataFrame, trait: str, value: pl.Expr, group: list[str]) -> pl.DataFrame:
    """Rewards of the candidates with each value of a trait against their peers without it."""
    table = table.with_columns(value=value)
    rows = []
    for (model, name), _ in table.drop_nulls("value").group_by("reward_model", "value", maintain_order=True):
        mine = table.filter(pl.col("reward_model") == model).with_columns(
            has=(pl.col("value") == name).fill_null(False)
        )
        cells = (
            mine.group_by(group, maintain_order=True)
            .agg(
                gap=pl.col("reward").filter("has").mean() - pl.col("reward").filter(~pl.col("has")).mean(),
                n=pl.col("has").sum().cast(pl.Int64),
            )
            .drop_nulls("gap")
        )
        if not cells.height:
            continue
        of_problem = cells.group_by("problem_id", maintain_order=True).agg(pl.col("gap").mean(), pl.col("n").sum())
        gaps = of_problem["gap"].to_numpy()
        most = float(np.abs(gaps).max())
        level = mean_interval(gaps, replicates=QUICK_REPLICATES, bounds=(-most, most))
        rows.append(
            (
                model,
                trait,
                name,
                float(gaps.mean()),
                float(level.low),
                float(level.high),
                len(gaps),
                int(of_problem["n"].sum()),
            )
        )
    return pl.DataFrame(rows, schema=BIAS, orient="row").sort("reward_model", "trait", "value")


def quality_by_seed(rewards: pl.DataFrame, readings: pl.DataFrame) -> pl.DataFrame:
    """AUC within a problem and language of each training of a reward model.

    Returns:
        One row per reward model and seed (null: not known): `reward_model`, `seed`, `auc`, `low`, `high`, `n_problems`,
        `n_pairs`.
    """
    parts = []
    for part in rewards.partition_by("seed"):
        found = within_problem_auc(part, readings).filter(pl.col("language").is_null())
        parts.append(found.with_columns(seed=pl.lit(part["seed"][0], pl.Int32)))
    columns = ("reward_model", "seed", "auc", "low", "high", "n_problems", "n_pairs")
    return pl.concat(parts).select(columns).sort("reward_model", "seed")


def quality_by_aggregation(steps: pl.DataFrame, readings: pl.DataFrame) -> pl.DataFrame:
    """AUC within a problem and language of process reward models, by how the rewards of steps become one.

    Args:
        steps: table `reward_steps`.

    Returns:
        One row per reward model and aggregation: `reward_model`, `aggregation`, `auc`, `low`, `high`, `n_problems`,
        `n_pairs`.
    """
    ways = {
        "last": pl.last("reward"),
        "min": pl.min("reward"),
        "product": pl.col("reward").product(),
        "mean": pl.mean("reward"),
    }
    groups = steps.sort("step").group_by("reward_model", *KEY, maintain_order=True)
    rewards = groups.agg(**ways)
    parts = []
    for way in ways:
        of_way = rewards.select("reward_model", *KEY, reward=pl.col(way).cast(pl.Float64))
        found = within_problem_auc(of_way, readings).filter(pl.col("language").is_null())
        parts.append(
            found.select("reward_model", pl.lit(way).alias("aggregation"), pl.exclude("reward_model", "language"))
        )
    return pl.concat(parts).sort("reward_model", maintain_order=True)


def agreement(pool: CandidateArrays, first: str, second: str, name: str = "mixed") -> pl.DataFrame:
    """Which problems two reward models solve when each chooses among all candidates of an arm.

    Returns:
        One row per problem: `problem_id`, `first`, `second` (share of tied best candidates that are correct, mean over
        training seeds), `cell` ("both", "first", "second", "neither", by a share of at least one half).
    """
    solved = {model: _solved(pool, model, name) for model in (first, second)}
    one, other = pl.col("first") >= 0.5, pl.col("second") >= 0.5
    cell = pl.when(one & other).then(pl.lit("both")).when(one).then(pl.lit("first")).when(other).then(pl.lit("second"))
    table = pl.DataFrame({"problem_id": pool.problem_ids, "first": solved[first], "second": solved[second]})
    return table.with_columns(cell=cell.otherwise(pl.lit("neither")))


def _solved(pool: CandidateArrays, model: str, name: str) -> np.ndarray:
    members, found = pool.members(name), []
    for one in pool.by_seed:
        rewards = one.reward(model, members)
        if rewards is None:
            raise ValueError(f"no rewards by {model!r} in all of {', '.join(members)}; choose another reward model")
        everything = np.concatenate([np.where(one.exists[c], rewards[c], -np.inf) for c in members], 1)
        right = np.concatenate([np.nan_to_num(one.is_correct[c]) for c in members], 1)
        best = everything == everything.max(1, keepdims=True)
        found.append((best * right).sum(1) / best.sum(1))
    return np.mean(found, 0)


def offset_curve(
    pool: CandidateArrays,
    model: str,
    code: str,
    budget: int = 8,
    offsets: Sequence[float] | None = None,
    folds: int = 5,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What an offset on one language's rewards does to choosing from the mixed pool, and the best one found on other
    problems.

    Args:
        pool: with rewards by `model`.
        code: the language whose rewards are moved.
        budget: completions per problem.
        offsets: in units of the rewards; by default from minus two to two standard deviations in steps of a quarter.
        folds: by problem; the offset used on one is the best on the others.

    Returns:
        One row per offset: `offset`, `accuracy`, `low`, `high`. And one row: `language`, `least` and `most` (offset
        fitted over the folds), `accuracy` with it, `gain` over no offset, `low`, `high` (of the gain).
    """
    if offsets is None:
        tables = pool.reward(model, pool.languages)
        if tables is None:
            raise ValueError(f"reward model {model!r} does not cover the mixed pool; score all its languages")
        rewards = np.concatenate([table[np.isfinite(table)] for table in tables.values()])
        offsets = (float(rewards.std()) * np.arange(-8, 9) / 4).tolist()
    values = np.stack([_mixed(pool.with_offsets(model, {code: x}), model, budget) for x in offsets], 1)
    level = mean_interval(values)
    curve = pl.DataFrame({"offset": list(offsets), "accuracy": values.mean(0), "low": level.low, "high": level.high})
    fold = np.array(fold_of(pool.problem_ids, folds))
    chosen = np.array([int(values[fold != k].mean(0).argmax()) for k in range(folds)])
    fitted = values[np.arange(len(fold)), chosen[fold]]
    gain = fitted - _mixed(pool, model, budget)
    apart = mean_interval(gain, bounds=(-1.0, 1.0))
    used = np.asarray(offsets)[chosen]
    best = pl.DataFrame({
        "language": [code], "least": [used.min()], "most": [used.max()], "accuracy": [fitted.mean()],
        "gain": [gain.mean()], "low": [float(apart.low)], "high": [float(apart.high)],
    })  # fmt: skip
    return curve, best


def _mixed(pool: CandidateArrays, model: str, budget: int) -> np.ndarray:
    values = arm_values(pool, "mixed", "best_of_k", model, [budget])
    if values is None:
        raise ValueError(f"reward model {model!r} does not cover the mixed pool")
    return values.accuracy[:, 0]
