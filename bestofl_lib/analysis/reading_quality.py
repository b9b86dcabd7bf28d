"""The figures of reading: accuracy, unread and doubtful answers per language, and how much depends on the reader."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import polars as pl
from scipy.stats import binomtest

from bestofl_lib.analysis.uncertainty import mean_interval
from bestofl_lib.answers.columns import read_answers
from bestofl_lib.answers.doubts import is_doubtful
from bestofl_lib.answers.other_readers import OURS
from bestofl_lib.tables import KEY, SCHEMAS, check_table

READ_FOR_ORDER = 50_000  # candidates that are read, about, where only the order of languages is asked for


def accuracy_by_language(readings: pl.DataFrame, problems: pl.DataFrame | None = None) -> pl.DataFrame:
    """Accuracy of one candidate with its interval over problems, and the shares that are unreadable, doubtful or cut
    off.

    Args:
        readings: table `readings`; with a column `finish_reason` (join it from the candidates) the cut ones are
            counted.
        problems: table `problems`, to leave out those that a revised edition replaced in at least one language; where
            it is not given, or does not know, the column `accuracy_unrevised` is null.

    Returns:
        One row per language: `language`, `accuracy`, `low`, `high` (95 % over problems), `unreadable`, `doubtful`,
        `cut` (shares of candidates), `n_candidates`, `n_problems`, `accuracy_unrevised`, `n_unrevised`.
    """
    readings = readings.with_columns(_doubtful=is_doubtful(readings) & pl.col("answer").is_not_null())
    kept = None
    if problems is not None and problems["is_revised"].fill_null(False).any():
        revised = problems.filter(pl.col("is_revised"))["problem_id"].unique()
        kept = pl.col("problem_id").is_in(revised.implode()).not_()
    if "finish_reason" not in readings.columns:
        readings = readings.with_columns(finish_reason=pl.lit(None, pl.String))
    rows = []
    for (code,), part in readings.group_by("language", maintain_order=True):
        per_problem = part.group_by("problem_id", maintain_order=True).agg(pl.col("is_correct").mean())
        spread = mean_interval(per_problem["is_correct"].to_numpy())
        rest = per_problem.filter(kept) if kept is not None else per_problem.clear()
        rows.append(
            {
                "language": code,
                "accuracy": float(spread.estimate),
                "low": float(spread.low),
                "high": float(spread.high),
                "unreadable": part["answer"].is_null().mean(),
                "doubtful": part["_doubtful"].mean(),
                "cut": (part["finish_reason"] == "length").mean(),
                "n_candidates": len(part),
                "n_problems": len(per_problem),
                "accuracy_unrevised": rest["is_correct"].mean(),
                "n_unrevised": len(rest),
            }
        )
    table = pl.DataFrame(rows, infer_schema_length=None)
    return table.sort("accuracy", "language", descending=[True, False])


def languages_by_accuracy(
    candidates: pl.DataFrame | Iterable[pl.DataFrame], problems: pl.DataFrame, memory: Path | None = None
) -> list[str]:
    """The order of languages that `accuracy_by_language` will give, for charts that are drawn before it.

    Where there are many candidates, only the first of each problem are read, so languages that are about equally
    accurate can stand the other way round.

    Args:
        candidates: table `candidates`, in one or in several.
        problems: table `problems`; test problems count where there are any.
        memory: see `read_answers`.
    """
    test = problems.filter(pl.col("split") == "test")
    asked = test if len(test) else problems
    first = pl.col("sample_index") < max(1, READ_FOR_ORDER // len(asked))
    parts = [candidates] if isinstance(candidates, pl.DataFrame) else candidates
    drawn = pl.concat(part.filter(first) for part in parts)
    drawn = drawn.join(asked.select("problem_id", "language"), on=["problem_id", "language"], how="semi")
    if drawn.is_empty():
        return []
    return accuracy_by_language(read_answers(drawn, asked, memory))["language"].to_list()


def accuracy_by_level(readings: pl.DataFrame, problems: pl.DataFrame) -> pl.DataFrame:
    """Accuracy of one candidate per language and level of difficulty, with its interval over problems.

    Args:
        readings: table `readings`.
        problems: table `problems`; those without a level are left out.

    Returns:
        Table `accuracy_by_level`; no rows where the set has no levels.
    """
    levels = problems.filter(pl.col("level").is_not_null()).select("problem_id", "language", "level")
    judged = readings.join(levels, on=["problem_id", "language"], how="inner", maintain_order="left")
    rows = [
        accuracy_by_language(part).with_columns(level=pl.lit(level))
        for (level,), part in judged.partition_by("level", as_dict=True, maintain_order=True).items()
    ]
    return check_table("accuracy_by_level", pl.concat(rows) if rows else SCHEMAS["accuracy_by_level"].to_frame())


def accuracy_by_reader(readings: pl.DataFrame) -> pl.DataFrame:
    """How accurate a language looks under each reader.

    Args:
        readings: what `read_with_others` returns.

    Returns:
        One row per language and reader: language, reader, n_candidates, n_read, accuracy, gap (accuracy minus ours).
    """
    counted = readings.group_by("language", "reader", maintain_order=True).agg(
        n_candidates=pl.len(), n_read=pl.col("answer").is_not_null().sum(), accuracy=pl.col("is_correct").mean()
    )
    ours = counted.filter(pl.col("reader") == OURS).select("language", our_accuracy="accuracy")
    return (
        counted.join(ours, on="language", how="left", maintain_order="left")
        .with_columns(gap=pl.col("accuracy") - pl.col("our_accuracy"))
        .drop("our_accuracy")
    )


def precision_of_reader(labels: pl.DataFrame, readings: pl.DataFrame) -> pl.DataFrame:
    """How often the reader was right, by the judgement of people.

    Args:
        labels: table `labels`.
        readings: table `readings`. A label whose answer is now read differently is left out and counted.

    Returns:
        One row per language, and one for all (null) first: `language`, `n`, `n_right`, `precision`, `low`, `high`
        (95 %, Wilson's interval for a share), `n_outdated`. No row without labels.
    """
    now = labels.join(readings.select(*KEY, "answer"), on=list(KEY), how="left", suffix="_now")
    now = now.with_columns(valid=pl.col("answer").eq_missing(pl.col("answer_now")))
    groups = [(None, now), *((code, part) for (code,), part in now.group_by("language", maintain_order=True))]
    rows = []
    for code, part in groups if len(now) else []:
        valid = part.filter("valid")
        n, right = len(valid), int(valid["is_right"].sum())
        low, high = binomtest(right, n).proportion_ci(method="wilson") if n else (None, None)
        rows.append((code, n, right, right / n if n else None, low, high, len(part) - n))
    schema = {
        "language": pl.String,
        "n": pl.Int64,
        "n_right": pl.Int64,
        "precision": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "n_outdated": pl.Int64,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def disagreements(readings: pl.DataFrame, candidates: pl.DataFrame, characters: int = 200) -> pl.DataFrame:
    """Where another reader read something else than ours.

    Args:
        readings: what `read_with_others` returns.
        candidates: the candidates it read.
        characters: of the completion's end that are shown.

    Returns:
        One row per candidate and reader that differs: key, reader, answer, ours, reference, is_correct, ending (the end
        of the completion).
    """
    keyed = candidates.select([*KEY, "completion"]).with_columns(pl.col(c).cast(t) for c, t in KEY.items())
    return (
        readings.filter((pl.col("reader") != OURS) & pl.col("answer").ne_missing(pl.col("ours")))
        .join(keyed, on=list(KEY), how="left", maintain_order="left")
        .with_columns(ending=pl.col("completion").str.tail(characters))
        .select(*KEY, "reader", "answer", "ours", "reference", "is_correct", "ending")
    )


def compliance(readings: pl.DataFrame) -> pl.DataFrame:
    """How often completions are written in the language they were asked for.

    Args:
        readings: one row per candidate, with `language` and `trace_language`.

    Returns:
        One row per language: language, n_candidates, n_told (where the trace language could be told), compliance (share
        of those told that are in the question's language; null where none could be told), most_common_other.
    """
    told = pl.col("trace_language").is_not_null()
    other = pl.col("trace_language").filter(told & (pl.col("trace_language") != pl.col("language")))
    return (
        readings.group_by("language")
        .agg(
            n_candidates=pl.len(),
            n_told=told.sum(),
            compliance=(pl.col("trace_language") == pl.col("language")).filter(told).mean(),
            most_common_other=other.mode().sort().first(),
        )
        .sort("language")
    )
