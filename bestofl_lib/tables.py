"""The schema and the grain of every table that crosses a step. It knows columns; it knows nothing of files."""

from __future__ import annotations

import polars as pl

from bestofl_lib.text import nearest

SPLITS = ("train", "dev", "test")  # of problems: reward models learn from train; test is judged
KEY = {"problem_id": pl.String, "language": pl.String, "sample_index": pl.Int32}

SCHEMAS: dict[str, pl.Schema] = {
    # one row per problem and language
    "problems": pl.Schema(
        {
            "problem_id": pl.String,  # the same for all translations
            "language": pl.String,
            "split": pl.String,  # "train" (reward models learn from it), "dev" or "test"
            "question": pl.String,  # NFC
            "reference": pl.String,  # canonical, such as "18" or "7/2"; equal in all languages
            "is_revised": pl.Boolean,  # this language's question was replaced in a revised edition
        }
    ),
    # one row per candidate
    "candidates": pl.Schema(
        KEY
        | {
            "draw": pl.String,  # hash of all that shapes the completion: model, revision, prompt, settings
            "model": pl.String,
            "completion": pl.String,
            "n_tokens": pl.Int32,  # null where an imported pool does not say
            "finish_reason": pl.String,  # "stop", "length" or "error"
            "logprob": pl.Float64,  # summed over the completion's tokens, of the untempered model
            "seed": pl.Int64,
            "seconds": pl.Float64,  # its share of its batch's wall time
            "condition": pl.String,  # null, or what set this candidate apart in an imported pool
        }
    ),
    # one row per candidate
    "readings": pl.Schema(
        KEY
        | {
            "answer": pl.String,  # canonical; null when nothing could be read
            "rule": pl.String,  # which rule read the answer; null exactly where the answer is
            "start": pl.Int32,
            "end": pl.Int32,
            "note": pl.String,  # empty, or why the reading is doubtful
            "is_correct": pl.Boolean,  # never null: an unreadable answer is not correct, and is counted
            "trace_language": pl.String,  # the language the completion is written in; null: abstained
        }
    ),
    # one row per candidate and reward model
    "rewards": pl.Schema(KEY | {"reward_model": pl.String, "reward": pl.Float64}),  # null: set aside, no usable number
    # one row per target language, pool, strategy, reward model and budget
    "curves": pl.Schema(
        {
            "target": pl.String,  # language whose speaker asks; null when the arm is the same for all
            "pool": pl.String,  # languages the budget is spread over: "en", "mixed", "mixed-en", "planned"
            "strategy": pl.String,
            "reward_model": pl.String,  # null for strategies without one
            "budget": pl.Int32,  # completions per problem, over all languages
            "tokens": pl.Float64,  # mean generated tokens per problem at this budget
            "accuracy": pl.Float64,
            "low": pl.Float64,  # 95 % interval over problems
            "high": pl.Float64,
            "mc_error": pl.Float64,  # Monte Carlo standard error of accuracy; 0 where it is exact
            "efficiency": pl.Float64,  # (strategy - random) / (oracle - random); null where the oracle gains nothing
            "n_problems": pl.Int32,
        }
    ),
}


def check_table(name: str, table: pl.DataFrame) -> pl.DataFrame:
    """The table with its columns in the order and types of its schema.

    Raises:
        ValueError: naming missing columns (with a suggestion), columns of another type, or key rows that stand twice.
    """
    schema = SCHEMAS[name]
    missing = [column for column in schema if column not in table.columns]
    if missing:
        near = {m: nearest(m, table.columns) for m in missing}
        hints = [f"{m} (is it {n!r}?)" if n else m for m, n in near.items()]
        raise ValueError(f"table {name!r} lacks {', '.join(hints)}; it has {', '.join(table.columns)}")
    try:
        table = table.select(pl.col(column).cast(dtype) for column, dtype in schema.items())
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"table {name!r} does not fit its schema: {error}") from error
    key = [c for c in ("problem_id", "language", "sample_index", "reward_model") if c in schema]
    if "problem_id" in schema and table.select(key).is_duplicated().any():
        row = table.filter(table.select(key).is_duplicated()).row(0, named=True)
        raise ValueError(f"table {name!r} has twice " + ", ".join(f"{c} {row[c]!r}" for c in key))
    return table
