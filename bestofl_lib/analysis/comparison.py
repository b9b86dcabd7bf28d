"""Runs side by side: what differs between them, what that changed, and whether it is more than chance.

Compares stored tables; it draws, reads and scores nothing. Figures are paired by problem. The words for them and the
page are in `display/report/compare.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from bestofl_lib.analysis import uncertainty
from bestofl_lib.analysis.arms import arm_values
from bestofl_lib.analysis.arrays import CandidateArrays, arrays_of_run
from bestofl_lib.analysis.curves import default_budgets
from bestofl_lib.analysis.run_scan import Source, open_run
from bestofl_lib.analysis.verdicts import holm
from bestofl_lib.runs import Run
from bestofl_lib.tables import KEYS

STEPS = (
    ("sampling", ("01_", "02_", "problems/", "models/", "candidates/")),
    ("reading", ("03_", "answers/", "numbers/", "languages")),
    ("rewards", ("04_", "05_", "06_", "rewards/")),
)

ARMS = (
    ("random", None),
    ("majority", None),
    ("best_of_k", "mono"),
    ("best_of_k", "multi"),
    ("best_of_k", "cross"),
    ("logprob", None),
    ("arithmetic", None),
    ("oracle", None),
)
SIDE_BY_SIDE = {
    "run": pl.String,
    "strategy": pl.String,
    "reward_model": pl.String,
    "budget": pl.Int64,
    "accuracy": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n_problems": pl.Int64,
}


@dataclass(frozen=True)
class Comparison:
    """What `compare_runs` found; differences are second minus first."""

    first: str
    second: str
    n_problems: int  # that both runs have
    settings: pl.DataFrame  # one row per setting that differs: step, what, first, second
    # candidates: first, second, same (key and text), reread (of these, another answer), rejudged, rescored
    counts: dict[str, int]
    # one row per language: shares correct, difference with interval, its parts by sampling and by reading
    languages: pl.DataFrame
    arms: pl.DataFrame  # one row per strategy on the mixed pool at the largest budget both reach
    flips: pl.DataFrame  # one row per problem that the chosen arm solves in one run and not in the other


def compare_runs(first: Run, second: Run) -> Comparison:
    """Compare two runs on the problems and languages that both have.

    Args:
        first, second: with problems, candidates and readings.

    Raises:
        FileNotFoundError: a run or one of its tables is missing.
        ValueError: no problem or language is in both, or the same id has another right answer.
    """
    if first.name == second.name and first.root == second.root:
        raise ValueError(f"run {first.name!r} is compared with itself; name two runs")
    sources = [_opened(run) for run in (first, second)]
    codes = [code for code in sources[0].languages if code in sources[1].languages]
    references = [s.problems.select("problem_id", "reference").unique("problem_id") for s in sources]
    shared = references[0].join(references[1], on="problem_id", suffix="_second").sort("problem_id")
    if shared.is_empty() or not codes:
        raise ValueError(
            f"runs {first.name!r} and {second.name!r} share no {'language' if len(shared) else 'problem'}; nothing can "
            "be paired"
        )
    other = shared.filter(pl.col("reference") != pl.col("reference_second"))
    if len(other):
        row = other.row(0, named=True)
        raise ValueError(
            f"problem {row['problem_id']!r} has the reference {row['reference']} in {first.name!r} and "
            f"{row['reference_second']} in {second.name!r} ({len(other)} such problems); the runs are not about the "
            "same problems"
        )
    tables = [_judged(source, codes) for source in sources]
    both = tables[0].join(tables[1], on=KEYS, suffix="_second")
    same = both.filter(pl.col("text") == pl.col("text_second"))
    rescored = _rescored(sources[0], sources[1], same)
    counts = {
        "first": len(tables[0]), "second": len(tables[1]), "same": len(same),
        "reread": same.filter(pl.col("answer").ne_missing(pl.col("answer_second"))).height,
        "rejudged": same.filter(pl.col("is_correct") != pl.col("is_correct_second")).height,
        "rescored": rescored.height,
    }  # fmt: skip
    arms, values, ids = _arms(first, second, sources, codes)
    return Comparison(
        first.name, second.name, len(shared), settings(first.recorded(), second.recorded()), counts,
        _languages(tables, same, codes), arms, _flips(values, ids, tables, same, rescored),
    )  # fmt: skip


def curves_side_by_side(runs: Sequence[Run], replicates: int = uncertainty.REPLICATES) -> pl.DataFrame:
    """Accuracy against budget of several runs, on the problems and languages that all of them have, in equal shares.

    Returns:
        One row per run, strategy and budget: `run`, `strategy`, `reward_model`, `budget`, `accuracy`, `low`, `high`
        (95 % over problems), `n_problems`. A strategy has rows for the runs that have its numbers.

    Raises:
        ValueError: no problem or language is in all runs.
    """
    pools = [_pool(run, source) for run in runs for source in [_opened(run)]]
    codes = [code for code in pools[0].languages if all(code in arrays.languages for arrays in pools)]
    shared = set.intersection(*(set(arrays.problem_ids) for arrays in pools))
    ids = [problem for problem in pools[0].problem_ids if problem in shared]
    if not ids or not codes:
        names = ", ".join(run.name for run in runs)
        raise ValueError(
            f"no {'language' if ids else 'problem'} is in all of {names}; compare runs of the same problems"
        )
    budgets = default_budgets(min(arrays.largest_budget("+".join(codes)) for arrays in pools))
    rows: list[tuple[Any, ...]] = []
    for run, arrays in zip(runs, pools, strict=True):
        here = [arrays.problem_ids.index(problem) for problem in ids]
        for strategy, model in ARMS:
            if model is not None and model not in arrays.reward_models:
                continue
            found = arm_values(arrays, "+".join(codes), strategy, model, budgets)
            if found is None:
                continue
            level = uncertainty.mean_interval(found.accuracy[here], replicates=replicates)
            for at, k in enumerate(budgets):
                figures = (float(level.estimate[at]), float(level.low[at]), float(level.high[at]))
                rows.append((run.name, strategy, model, k, *figures, len(ids)))
    return pl.DataFrame(rows, schema=SIDE_BY_SIDE, orient="row")


def completions_side_by_side(runs: Sequence[Run], problem_ids: Sequence[str]) -> pl.DataFrame:
    """What each run chose for these problems: of all languages the candidate with the highest cross reward, else the
    first drawn.

    Returns:
        One row per problem (in the order given) and run: `problem_id`, `run`, `language`, `question`, `completion`,
        `answer`, `is_correct`, `reference`.
    """
    parts = []
    for run in runs:
        source = _opened(run)
        here = pl.col("problem_id").is_in(list(problem_ids))
        table = source.candidates().filter(here).select(*KEYS, "completion").unique(KEYS, keep="first")
        table = table.join(source.readings.filter(here).select(*KEYS, "answer", "is_correct"), on=KEYS)
        reward = pl.lit(0.0).alias("reward")
        if "cross" in source.models:
            table = table.join(source.rewards_by("cross").select(*KEYS, "reward"), on=KEYS, how="left")
            reward = pl.col("reward").fill_nan(None).fill_null(-np.inf)
        best = table.with_columns(reward).sort("problem_id", -pl.col("reward"), *KEYS[1:]).collect()
        best = best.unique("problem_id", keep="first", maintain_order=True).drop("reward")
        told = source.problems.select("problem_id", "language", "question", "reference")
        parts.append(best.join(told, on=["problem_id", "language"], how="left").with_columns(run=pl.lit(run.name)))
    order = pl.DataFrame({"problem_id": list(problem_ids)}, schema={"problem_id": pl.String}).with_row_index("place")
    chosen = pl.concat(parts).join(order, on="problem_id").sort("place", maintain_order=True)
    return chosen.select("problem_id", "run", "language", "question", "completion", "answer", "is_correct", "reference")


def settings(first: dict[str, Any], second: dict[str, Any]) -> pl.DataFrame:
    """How two `run.json` differ: one row per parameter, library file and version (`step`, `what`, `first`,
    `second`).
    """
    rows: list[tuple[str, str, str, str]] = []
    notebooks = [record.get("notebooks", {}) for record in (first, second)]
    for name in sorted({*notebooks[0], *notebooks[1]}):
        here, there = (notebook.get(name, {}) for notebook in notebooks)
        for section, word in (("parameters", ""), ("library", "code of "), ("versions", "version of ")):
            old, new = here.get(section) or {}, there.get(section) or {}
            for key in sorted({*old, *new}):
                if old.get(key) != new.get(key) and not (section == "parameters" and key == "run"):
                    where = key if section == "library" else name
                    pair = ("one", "another") if section == "library" else (_value(old, key), _value(new, key))
                    rows.append((_step(where), f"{word}{key}", *pair))
    return pl.DataFrame(
        rows, schema=dict.fromkeys(("step", "what", "first", "second"), pl.String), orient="row"
    ).unique(maintain_order=True)


def _judged(source: Source, codes: Sequence[str]) -> pl.DataFrame:
    """One row per candidate: a hash of its text, its answer and whether that is correct."""
    here = pl.col("language").is_in(list(codes))
    texts = (
        source.candidates()
        .filter(here)
        .select(*KEYS, text=pl.col("completion").hash(seed=7))
        .unique(KEYS, keep="first")
    )
    return (
        source.readings.filter(here)
        .select(*KEYS, "answer", "is_correct")
        .join(texts, on=KEYS, how="left")
        .sort(*KEYS)
        .collect()
    )


def _rescored(first: Source, second: Source, same: pl.DataFrame) -> pl.DataFrame:
    """The candidates of one text that a reward model of both runs rewards differently."""
    models = [model for model in first.models if model in second.models]
    if first.rewards is None or second.rewards is None or not models:
        return same.head(0).select(KEYS)
    pair = first.rewards.join(second.rewards, on=[*KEYS, "reward_model"], suffix="_second")
    apart = (pl.col("reward") - pl.col("reward_second")).abs() > 1e-9
    one_aside = pl.col("reward").is_null() != pl.col("reward_second").is_null()
    moved = pair.filter(apart | one_aside).select(KEYS).unique()
    return same.lazy().select(KEYS).join(moved, on=KEYS, how="semi").collect()


def _languages(tables: list[pl.DataFrame], same: pl.DataFrame, codes: Sequence[str]) -> pl.DataFrame:
    """Share correct per language, paired by problem. Reading explains the part of the difference that comes from
    candidates with the same text but another judgement, over the second run's candidates; sampling explains the rest.
    """
    means = [
        table.group_by("language", "problem_id").agg(pl.col("is_correct").mean().alias("share"), pl.len().alias("n"))
        for table in tables
    ]
    moved = same.group_by("language", "problem_id").agg(
        (pl.col("is_correct_second").cast(pl.Int32) - pl.col("is_correct").cast(pl.Int32)).sum().alias("moved")
    )
    cells = (
        means[0]
        .join(means[1], on=["language", "problem_id"], suffix="_second")
        .join(moved, on=["language", "problem_id"], how="left")
    )
    cells = cells.with_columns(reading=pl.col("moved").fill_null(0) / pl.col("n_second")).sort("problem_id")
    rows = []
    for code in codes:
        mine = cells.filter(pl.col("language") == code)
        if len(mine):
            test = uncertainty.paired_difference(mine["share_second"].to_numpy(), mine["share"].to_numpy())
            reading = float(np.mean(mine["reading"].to_numpy()))
            rows.append(
                _row(test, mine["share"].to_numpy(), mine["share_second"].to_numpy())
                | {
                    "language": code,
                    "by_reading": reading,
                    "by_sampling": float(test.effect) - reading,
                    "n_problems": len(mine),
                }
            )
    return _corrected(rows)


def _arms(
    first: Run, second: Run, sources: list[Source], codes: Sequence[str]
) -> tuple[pl.DataFrame, tuple[np.ndarray, np.ndarray], list[str]]:
    """The strategies that both runs allow, on the mixed pool, at the largest budget that both reach."""
    pools = [_pool(run, source) for run, source in zip((first, second), sources, strict=True)]
    ids = [problem for problem in pools[0].problem_ids if problem in set(pools[1].problem_ids)]
    if not ids:
        raise ValueError(
            f"runs {first.name!r} and {second.name!r} share no problem with candidates in all languages; nothing can "
            "be paired"
        )
    rows_of = [[arrays.problem_ids.index(problem) for problem in ids] for arrays in pools]
    name = codes[0] if len(codes) == 1 else "+".join(codes)
    budget = min(int(arrays.n_candidates(code).min()) for arrays in pools for code in codes) * len(codes)
    rows, values = [], {}
    others = sorted(set(pools[0].reward_models) & set(pools[1].reward_models) - {model for _, model in ARMS})
    given = [("best_of_k", model) for model in others]
    for strategy, model in (*ARMS, *given):
        if model is not None and not all(
            model in arrays.reward_models or (model == "mono" and _covers(arrays, codes)) for arrays in pools
        ):
            continue
        found = [arm_values(arrays, name, strategy, model, [budget]) for arrays in pools]
        if found[0] is None or found[1] is None:
            continue
        pair = [arm.accuracy[place, 0] for arm, place in zip(found, rows_of, strict=True) if arm is not None]
        values[strategy, model] = (pair[0], pair[1])
        test = uncertainty.paired_difference(pair[1], pair[0])
        rows.append(
            _row(test, pair[0], pair[1])
            | {"strategy": strategy, "reward_model": model, "budget": budget, "n_problems": len(ids)}
        )
    choice = next(
        arm
        for arm in (*(("best_of_k", model) for model in ("cross", *others, "multi", "mono")), ("majority", None))
        if arm in values
    )
    judges = [(row["strategy"], row["reward_model"]) == choice for row in rows]
    return _corrected(rows).with_columns(judges=pl.Series(judges)), values[choice], ids


def _opened(run: Run) -> Source:
    """Its test problems, or all where it has no test split."""
    return open_run(run, "test" if "test" in set(run.read("problems")["split"]) else None)


def _pool(run: Run, source: Source) -> CandidateArrays:
    if source.split:
        return arrays_of_run(run, split=source.split)
    rewards = run.read("rewards") if run.has("rewards") else None
    return CandidateArrays.of(
        source.candidates().collect(), run.read("readings"), rewards, source.problems, split=None, drop_incomplete=True
    )


def _covers(arrays: CandidateArrays, codes: Sequence[str]) -> bool:
    return all(f"mono-{code}" in arrays.reward_models for code in codes)


def _flips(
    values: tuple[np.ndarray, np.ndarray],
    ids: Sequence[str],
    tables: list[pl.DataFrame],
    same: pl.DataFrame,
    rescored: pl.DataFrame,
) -> pl.DataFrame:
    """Problems whose chance to be solved crosses one half, the largest change first, and what differs in their
    candidates.
    """
    frame = pl.DataFrame({"problem_id": list(ids), "first": values[0], "second": values[1]})
    flipped = frame.filter((pl.col("first") > 0.5) != (pl.col("second") > 0.5))
    tally = [table.group_by("problem_id").len() for table in tables]
    alike = same.group_by("problem_id").agg(
        pl.len().alias("alike"), reread=(pl.col("answer").ne_missing(pl.col("answer_second"))).sum()
    )
    moved = rescored.group_by("problem_id").agg(rescored=pl.len())
    joined = flipped.join(tally[0], on="problem_id", how="left").join(
        tally[1], on="problem_id", how="left", suffix="_second"
    )
    joined = joined.join(alike, on="problem_id", how="left").join(moved, on="problem_id", how="left")
    drawn = pl.max_horizontal("len", "len_second").cast(pl.Int64) - pl.col("alike").fill_null(0).cast(pl.Int64)
    parts = [
        pl.when(count > 0).then(pl.format(text, count)).otherwise(None)
        for text, count in (
            ("{} other completions", drawn),
            ("{} other readings", pl.col("reread").fill_null(0)),
            ("{} other rewards", pl.col("rescored").fill_null(0)),
        )
    ]
    return (
        joined.with_columns(why=pl.concat_str(parts, separator=", ", ignore_nulls=True))
        .sort(-(pl.col("second") - pl.col("first")).abs(), "problem_id")
        .select("problem_id", "first", "second", "why")
    )  # fmt: skip


def _row(test: uncertainty.Difference, first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """One tested difference, and the number of problems behind it."""
    return {
        "first": float(np.mean(first)),
        "second": float(np.mean(second)),
        "difference": float(test.effect),
        "low": float(test.low),
        "high": float(test.high),
        "p": float(test.p),
        "mde": float(test.mde),
        "n_changed": int(np.sum(np.abs(second - first) > 1e-12)),
    }


def _corrected(rows: list[dict[str, Any]]) -> pl.DataFrame:
    table = pl.DataFrame(rows, infer_schema_length=None)
    return table.with_columns(p_holm=pl.Series(holm(table["p"].to_list())))


def _step(where: str) -> str:
    return next(
        (
            step
            for step, starts in STEPS
            if any(where.removeprefix("bestofl_lib/").startswith(start) for start in starts)
        ),
        "analysis",
    )


def _value(values: dict[str, Any], key: str) -> str:
    return repr(values[key]) if key in values else "not set"
