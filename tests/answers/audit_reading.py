"""Compare our reader with math-verify on a pool of real completions, language by language and kind by kind.

    python tests/answers/audit_reading.py POOL.parquet [--models 7B 32B] [--out audit.md] [--rows 500]

The pool has the columns model, question_language, reference, completion_tail. math-verify reads about a hundred completions
a second, so the whole of 23,000 takes some minutes; `--rows` takes that many, evenly spread. Every completion on which the
two differ is put under one kind; the kinds are judged by hand in `reading_cases/disagreements.tsv`, one example or more
each, and the verdict counted here is that of the kind. A difference of no known kind is listed under "other": judge it, and
add a kind.
"""

from __future__ import annotations

import argparse
import re
from fractions import Fraction
from pathlib import Path

import polars as pl

from bestofl_lib.answers.columns import read_completions
from bestofl_lib.numbers.algebra import math_verify_reading
from bestofl_lib.numbers.references import read_number
from bestofl_lib.numbers.written import canonical

HERE = Path(__file__).parent
COLUMNS = ("kind", "verdict", "language", "ours", "math_verify", "completion", "why")


def judged() -> pl.DataFrame:
    """The disagreements judged by hand: one row per example; `\\n` in a completion is a line break."""
    rows = [
        line.split("\t")
        for line in (HERE / "reading_cases" / "disagreements.tsv").read_text("utf8").split("\n")
        if line and not line.startswith("# ")
    ]
    bad = [row for row in rows if len(row) != len(COLUMNS)]
    if bad:
        raise ValueError(f"disagreements.tsv: expected {len(COLUMNS)} columns, found {len(bad[0])} in {bad[0]}")
    return pl.DataFrame(rows, schema={c: pl.String for c in COLUMNS}, orient="row")


def kind_of(
    rule: str | None, note: str, ours: str | None, theirs: str | None, completion: str, start: int | None
) -> str:
    """The kind of one disagreement, told from what was read where."""
    at = start or 0
    if rule is None and re.search(r"boxed\s*\{[^{}]*$", completion[max(0, at - 60) : at]):
        rule = "boxed"  # a box decided that there is no answer
    inner = re.search(
        r"boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}", completion[max(0, completion.rfind("boxed", 0, at + 1)) :]
    )
    content = inner[1] if rule == "boxed" and inner else ""
    reached = len(completion) - at < 250
    if note == "several boxes":
        return "several boxes"
    if note == "several numbers" and rule == "boxed":
        return "compound units in the box"
    if note == "not rational":
        return "irrational"
    if ours is None:
        return "breaks off"
    if rule in ("last_number", "conclusion", "bold"):
        return "no cue"
    if "three digits" in note:
        return "three decimals" if theirs is not None and _times(ours, 1000, theirs) else "thousands mark behind a cue"
    if theirs is not None and _times(ours, 100, theirs):
        return "percent"
    if rule == "boxed":
        if re.search(r"[^\x00-\x7f]", content) and re.search(r"[০-৯౦-౯๐-๙]", content):
            return "native digits"
        if not re.search(r"\d", content):
            return "number word in the box"
        if re.search(r"\d(?:\{?,\}?)\d{1,2}(?!\d)", content):
            return "decimal comma"
        if re.search(r"\d(?:\\[ ,]|~| )\d{3}|\d\.\d{3}", content):
            return "thousands in the language's style"
        if re.search(r"[^\W\d_]|€", re.sub(r"\\[a-z]+", "", content)):
            return "unit in the box"
        if not reached or completion.count("boxed") > 1:
            return "not the last box"
        return "plain box unread by the other" if theirs is None else "other"
    if "boxed" in completion:
        return "cue or letter beside a box"
    if rule == "cue":
        return "number directly behind a cue"
    if rule == "cue_sentence":
        return "sentence of a cue" if reached else "breaks off"
    return "other"


def _times(ours: str, factor: int, theirs: str) -> bool:
    return Fraction(ours) == factor * Fraction(theirs)


def compare_readers(pool: pl.DataFrame) -> pl.DataFrame:
    """One row per completion: language, reference, ours, rule, note, theirs, and the kind where the two differ (else null)."""
    read = read_completions(pool["completion_tail"], pool["question_language"])
    texts = pool["completion_tail"].to_list()
    theirs = [None if (v := math_verify_reading(text[-6000:])) is None else canonical(v) for text in texts]
    references = {t: canonical(v) for t in pool["reference"].unique() if (v := read_number(t)) is not None}
    table = pl.DataFrame(
        {
            "language": pool["question_language"],
            "reference": pool["reference"].replace_strict(references, return_dtype=pl.String),
            "completion": texts,
            "theirs": pl.Series(theirs, dtype=pl.String),
        }
    ).hstack(read)
    kinds = [
        None
        if r["answer"] == r["theirs"]
        else kind_of(r["rule"], r["note"], r["answer"], r["theirs"], r["completion"], r["start"])
        for r in table.iter_rows(named=True)
    ]
    return table.with_columns(kind=pl.Series(kinds, dtype=pl.String))


def report(table: pl.DataFrame) -> str:
    """The comparison as Markdown: per language, then per kind with the verdict by hand."""
    verdicts = judged().group_by("kind", maintain_order=True).agg(pl.col("verdict").first())
    told = table.join(verdicts, on="kind", how="left")
    unread, missed = pl.col("answer").is_null(), pl.col("theirs").is_null()
    right, their = (pl.col(c).eq(pl.col("reference")).fill_null(False) for c in ("answer", "theirs"))
    per_language = (
        told.group_by("language")
        .agg(
            completions=pl.len(),
            differ=pl.col("kind").is_not_null().sum(),
            unread_ours=unread.sum(),
            unread_theirs=missed.sum(),
            equal_reference_ours=right.sum(),
            equal_reference_theirs=their.sum(),
            only_ours_equal=(right & ~their).sum(),
            only_theirs_equal=(~right & their).sum(),
            kind_judged_for_ours=(pl.col("verdict") == "ours").sum(),
            kind_judged_for_theirs=(pl.col("verdict") == "math-verify").sum(),
        )
        .sort("language")
    )
    per_kind = (
        told.drop_nulls("kind")
        .group_by("kind", "verdict")
        .agg(n=pl.len(), languages=pl.col("language").unique().sort().str.join(" "))
        .sort("n", descending=True)
    )
    with pl.Config(
        tbl_rows=-1,
        tbl_cols=-1,
        tbl_formatting="MARKDOWN",
        tbl_hide_column_data_types=True,
        tbl_hide_dataframe_shape=True,
        tbl_width_chars=400,
        fmt_str_lengths=100,
    ):
        return f"# Reading answers: ours and math-verify\n\n{per_language}\n\n{per_kind}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pool", type=Path)
    parser.add_argument("--models", nargs="*", default=["7B", "32B"])
    parser.add_argument("--rows", type=int, help="evenly spread; default all")
    parser.add_argument("--out", type=Path, help="Markdown file; default the screen")
    arguments = parser.parse_args()
    pool = pl.read_parquet(arguments.pool).filter(pl.col("model").is_in(arguments.models))
    if arguments.rows:
        pool = pool.gather_every(max(1, pool.height // arguments.rows))
    table = compare_readers(pool)
    text = report(table)
    for row in table.filter(pl.col("kind") == "other").iter_rows(named=True):
        text += f"\nother: {row['language']} ours {row['answer']} ({row['rule']}) theirs {row['theirs']}: {row['completion'][-200:]!r}\n"
    if arguments.out:
        arguments.out.write_text(text, "utf8")
    else:
        print(text)


if __name__ == "__main__":
    main()
