"""The schema of every table that crosses a step, and the run folder that holds them.

A run folder is the contract between notebooks: each reads named tables and adds its own. This file
knows columns and files; it knows nothing of models, estimators or charts.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import polars as pl

ROOT = Path(__file__).resolve().parents[1]

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
            "rule": pl.String,
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
        near = {m: difflib.get_close_matches(m, table.columns, n=1) for m in missing}
        hints = [f"{m} (is it {n[0]!r}?)" if n else m for m, n in near.items()]
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


def replace_file(path: Path, data: bytes) -> None:
    """Put data at path in one step: a reader sees the old file or the new one, never half of one.

    Raises:
        OSError: the disk is full or the folder is not writable; the old file is intact.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:80]}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


class Run:
    """One run folder: `data/runs/<name>/` with its tables and `run.json`.

    Args:
        name: letters, digits, dot, dash and underscore; at most 80 characters.
        root: the folder of all runs; by default `$BESTOFL_RUNS` or `data/runs` of the project.
    """

    def __init__(self, name: str, root: Path | str | None = None):
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", name):
            raise ValueError(
                f"run name {name!r}: use 1 to 80 letters, digits, '.', '-' or '_', starting with a letter or digit"
            )
        self.name = name
        self.root = Path(root or os.environ.get("BESTOFL_RUNS") or ROOT / "data" / "runs")
        self.folder = self.root / name

    def path(self, table: str) -> Path:
        return self.folder / f"{table}.parquet"

    def has(self, table: str) -> bool:
        return self.path(table).exists()

    def write(self, name: str, table: pl.DataFrame) -> pl.DataFrame:
        """Check the table against its schema (tables without one are written as they are) and store it atomically."""
        import io

        table = check_table(name, table) if name in SCHEMAS else table
        buffer = io.BytesIO()
        table.write_parquet(buffer)
        replace_file(self.path(name), buffer.getvalue())
        return table

    def read(self, name: str) -> pl.DataFrame:
        """One table of this run.

        Raises:
            FileNotFoundError: naming the run or table that is missing and the notebook that makes it.
            ValueError: the file is there but cannot be read.
        """
        if not self.path(name).exists():
            raise FileNotFoundError(self._missing(name))
        try:
            table = pl.read_parquet(self.path(name))
        except (pl.exceptions.PolarsError, OSError) as error:
            raise ValueError(f"{self.path(name)} cannot be read ({error}); delete it and rerun its notebook") from error
        return check_table(name, table) if name in SCHEMAS else table

    def _missing(self, name: str) -> str:
        if self.folder.is_dir():
            have = ", ".join(sorted(path.stem for path in self.folder.glob("*.parquet"))) or "none"
            return f"run {self.name!r} has no table {name!r} yet (it has: {have}); run its notebook first"
        runs = sorted(path.name for path in self.root.glob("*") if path.is_dir())
        return (
            f"no run {self.name!r} in {self.root}; run 01_generate_candidates first"
            + (f", or pick one of: {', '.join(runs)}" if runs else "")
        )

    def record(self, section: str, value: Any) -> None:
        """Set one section of `run.json`."""
        content = self.recorded() | {section: value}
        replace_file(self.folder / "run.json", json.dumps(content, indent=1, ensure_ascii=False, default=str).encode())

    def recorded(self) -> dict[str, Any]:
        """The content of `run.json`; empty before anything was recorded."""
        path = self.folder / "run.json"
        return json.loads(path.read_text("utf8")) if path.exists() else {}
