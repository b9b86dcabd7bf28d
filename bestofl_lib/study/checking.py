"""`bestofl check FILE`: what a file of completions or of problems would be read as, and the command that runs it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import polars as pl

from bestofl_lib.candidates.pools import ImportedPool, read_pool
from bestofl_lib.languages import english_name
from bestofl_lib.problems.load import load
from bestofl_lib.study.errors import StudyError
from bestofl_lib.study.parameters import spoken
from bestofl_lib.text import counted

WIDTH = 60  # characters shown of a text

OF_REFERENCES = ("decimal_mark", "answer_kind")  # options that say how references are to be read


def check_file(source: str, options: dict[str, str] | None = None) -> list[str]:
    """What a file or folder would be read as, line by line: three rows, what is missing, and the next command.

    Args:
        source: completions (a pool) or problems, in any form that the importers know.
        options: `model`, `axis`, `language`, `decimal_mark`, `answer_kind` or `problems`, as for the study `pool`;
            `columns` as `ours:theirs,…`; `rewards` as `column,…`.

    Raises:
        StudyError: it can be read as neither; with what each reading lacks.
    """
    options = options or {}
    try:
        return _as_pool(source, options)
    except (ValueError, OSError) as first:
        if re.search(r", (?:line|row) \d+: (?:n_tokens|logprob|sample_index|reward)", str(first)):
            raise StudyError(spoken(str(first), ("columns", "rewards"))) from first  # only completions have those
        try:
            lines = _as_problems(source, options)
            if "no column for completion" in str(first):
                return lines
            return [f"not read as completions: {spoken(str(first), tuple(options))}", *lines]
        except (ValueError, OSError) as second:
            words = (
                "model",
                "axis",
                "language",
                "columns",
                "rewards",
                "problems",
                "decimal_mark",
                "answer_kind",
                "set_aside",
            )
            raise StudyError(
                f"{source} can be read neither as completions nor as problems\n"
                f"  as completions: {spoken(str(first), words)}\n  as problems: {spoken(str(second), words)}"
            ) from first


def _as_pool(source: str, options: dict[str, str]) -> list[str]:
    columns, rewards = ([p for p in options.get(name, "").split(",") if p] for name in ("columns", "rewards"))
    asked = load(options["problems"], None, **_of_references(options)) if options.get("problems") else None
    known: dict[str, Any] = _of_references(options) | {
        name: options[name] for name in ("model", "axis", "language") if options.get(name)
    }
    pool = read_pool(source, columns=columns or None, rewards=rewards, problems=asked, **known)
    given = "".join(f" -p {name}={shlex.quote(value)}" for name, value in options.items())
    name = Path(source).stem.lower().replace("_", "-") or "pool"
    name = "".join(c for c in name if c.isalnum() or c in "-.")[:40].strip("-.") or "pool"
    return [
        f"{source}: {counted(len(pool.rows), 'completion')} of "
        f"{counted(pool.problems['problem_id'].n_unique(), 'problem')}",
        *(f"  {note}" for note in pool.notes),
        "per language: " + ", ".join(f"{english_name(c)} {n:,}" for c, n in _counts(pool)),
        "the first three",
        *_rows(
            next(pool.parts()).join(pool.problems, on=["problem_id", "language"]),
            ("question", "completion", "reference"),
        ),
        *_lacks(pool),
        f"run it: bestofl run pool -p pool={shlex.quote(source)}{given} -p run={name}",
    ]


def _as_problems(source: str, options: dict[str, str]) -> list[str]:
    told = _of_references(options)
    problems = load(source, None, **told)
    splits = ", ".join(f"{n:,} {split}" for split, n in problems.group_by("split").len().sort("split").iter_rows())
    codes = sorted(problems["language"].unique())
    said = "".join(f" -p {name}={value}" for name, value in told.items())
    return [
        f"{source}: {counted(problems['problem_id'].n_unique(), 'problem')} in {counted(len(codes), 'language')} "
        f"({', '.join(codes)}); rows: {splits}",
        "the first three",
        *_rows(problems, ("question", "reference")),
        f"run it: bestofl run mgsm -p source={shlex.quote(source)} -p "
        f"languages={','.join(codes)}{said} -p model=… -p run=mine",
    ]


def _of_references(options: dict[str, str]) -> dict[str, Any]:
    """How references are to be read."""
    return {name: options[name] for name in OF_REFERENCES if options.get(name)}


def _counts(pool: ImportedPool) -> list[tuple[str, int]]:
    return list(pool.rows.group_by("language").len().sort("language").iter_rows())


def _lacks(pool: ImportedPool) -> list[str]:
    """What the pool lacks, and what cannot be computed without it."""
    lines = []
    for column, cost in (
        ("finish_reason", "completions that were cut cannot be told from whole ones"),
        ("n_tokens", "budgets are shown in completions, not in tokens"),
        ("logprob", "there is no choice by likelihood"),
    ):
        if pool.rows[column].null_count() == len(pool.rows):
            lines.append(f"no {column}: {cost}")
    if pool.rewards.is_empty():
        lines.append("no rewards named (-p rewards=COLUMN): a baseline that sees only the text gives them")
    return lines


def _rows(table: pl.DataFrame, columns: tuple[str, ...]) -> list[str]:
    lines = []
    for row in table.head(3).iter_rows(named=True):
        lines.append(f"  {row['problem_id']} · {row['language']}")
        lines += [f"    {column}: {_short(row[column])}" for column in columns]
    return lines


def _short(text: object) -> str:
    """One line of text for a terminal: no control characters, an ellipsis in the middle of a long text."""
    shown = "".join(c if c.isprintable() else " " for c in str(text))
    return shown if len(shown) <= 2 * WIDTH else f"{shown[:WIDTH]} … {shown[-WIDTH:]}"
