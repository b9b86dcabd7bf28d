"""What a newcomer sees first: the newest run, and its results in a few sentences.

Picks rows of stored tables and words for them; it computes no figure that the tables do not hold.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl
from IPython.display import Markdown

from bestofl_lib.analysis import run_scan
from bestofl_lib.languages import english_name
from bestofl_lib.runs import Run
from bestofl_lib.text import counted, percent


def newest_run(name: str = "", root: Path | None = None) -> Run:
    """The run of that name; for an empty name, the one whose readings or claims were written last.

    Raises:
        FileNotFoundError: there is no run, or none that has come as far as reading answers.
    """
    if name:
        run = Run(name, root)
        run.read("readings")  # says what is missing
        return run
    runs = [Run(path.parent.name, root) for path in Run("any", root).root.glob("*/readings.parquet")]
    if not runs:
        raise FileNotFoundError(
            f"no run in {Run('any', root).root} has read answers yet; type `make study` first (the lab takes minutes)"
        )
    return max(
        runs,
        key=lambda run: (
            max(run.path(table).stat().st_mtime_ns for table in ("readings", "claims") if run.has(table)),
            run.name,
        ),
    )


def headline(run: Run) -> Markdown:
    """The run's size, and its verdicts where the claims have been judged."""
    problems = run.read("problems")
    readings = run.read("readings")
    parts = [
        f"Run **{_escaped(run.name)}**: {counted(readings['problem_id'].n_unique(), 'problem')} in "
        f"{counted(readings['language'].n_unique(), 'language')} ({problems['question'].len():,} questions), "
        f"{len(readings):,} candidates, of which "
        f"{percent(readings.select(pl.col('is_correct').mean()).item())} are correct and "
        f"{percent(readings.select(pl.col('answer').is_null().mean()).item())} could not be read."
    ]
    if run.has("claims"):
        claims = run.read("claims")
        parts += [
            f"* **{_escaped(row['claim'])}: {_escaped(row['verdict'])}.** {_escaped(row['sentence'])}"
            for row in claims.iter_rows(named=True)
        ]
    else:
        parts.append("Its claims have not been judged yet: `08_budget_curves` does that.")
    return Markdown("\n\n".join(parts[:1]) + "\n\n" + "\n".join(parts[1:]))


def one_problem(run: Run, problem_id: str = "") -> pl.DataFrame:
    """One problem in every language, by default the one that divides the languages most: one row per language.

    Returns:
        `problem_id`, `language`, `question` (its first 80 characters), `reference`, `correct` (of its candidates),
        `candidates`, `favourite` (its most frequent answer).

    Raises:
        ValueError: the run has no candidates of that problem.
    """
    source = run_scan.open_run(run, "test" if "test" in set(run.read("problems")["split"]) else None)
    cells = source.cells.with_columns(share=pl.col("n_correct") / pl.col("n"))
    mixed = (
        cells.group_by("problem_id")
        .agg(spread=pl.col("share").std().fill_null(0.0))
        .sort(-pl.col("spread"), "problem_id")
    )
    chosen = cells.filter(pl.col("problem_id") == (problem_id or mixed["problem_id"][0])).sort(
        "share", "language", descending=[True, False]
    )
    if chosen.is_empty():
        raise ValueError(
            f"run {run.name!r} has no candidates of problem {problem_id!r}; its first is {cells['problem_id'][0]!r}"
        )
    told = source.problems.select("problem_id", "language", question=pl.col("question").str.head(80))
    return chosen.join(told, on=["problem_id", "language"], how="left").select(
        "problem_id",
        "language",
        "question",
        "reference",
        pl.col("n_correct").alias("correct"),
        pl.col("n").alias("candidates"),
        "favourite",
    )


def spread_of_one(table: pl.DataFrame) -> Markdown:
    """One sentence on a table of `one_problem`."""
    solved = table.filter(pl.col("correct") > 0)
    best = table.row(0, named=True)
    return Markdown(
        f"{len(solved)} of {len(table)} languages reach the right answer {_escaped(best['reference'])} at least once; "
        f"{english_name(best['language'])} does in {best['correct']} of {best['candidates']} candidates."
    )


def _escaped(text: object) -> str:
    """Text escaped so that Markdown leaves it as it is, on one line."""
    line = " ".join(str(text).split())
    return "".join("\\" + letter if letter in "\\`*_[]<>#|$&!" else letter for letter in line)
