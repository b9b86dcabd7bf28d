"""Ids and references of whole tables: ids are text, references numbers or expressions.

What is neither is refused with its rows.

How one reference is read is `numbers/references.py`'s; this file knows columns, and which rows are one problem.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import polars as pl

from bestofl_lib.numbers.equality import Equality
from bestofl_lib.numbers.references import DECIMAL_MARKS, expression_text, number_text, possible_values
from bestofl_lib.numbers.written import canonical
from bestofl_lib.problems.files import place
from bestofl_lib.text import counted

KINDS = ("number", "expression")  # of answers
NO_ID = ("", "nan", "none", "null")  # what tools write for a missing id
SHOWN = 10  # rows in a message
EITHER = "could be two numbers"


def ids_as_text(table: pl.DataFrame) -> pl.Expr:
    """The column problem_id as text: "01" is not "1", 1.5 is "1.5"; a column of floats that are whole has no ".0"."""
    column = pl.col("problem_id")
    if not table.schema["problem_id"].is_float():
        return column.cast(pl.String)
    text = column.cast(pl.String)
    all_whole = (column.is_nan() | (column % 1 == 0)).all()
    return pl.when(all_whole).then(text.str.strip_suffix(".0")).otherwise(text)


def references_as_text(table: pl.DataFrame, name: str = "reference") -> pl.Expr:
    """The column of references as text; numbers in their canonical spelling, which no rule for marks changes."""
    text = pl.col(name).cast(pl.String).alias("reference")
    return text.map_elements(number_text, return_dtype=pl.String) if table.schema[name].is_numeric() else text


def check_ids(table: pl.DataFrame, source: str | Path = "", lines: Sequence[int] | None = None) -> None:
    """Refuse rows without an id.

    Args:
        table: with problem_id as text.
        source: the file, for the message.
        lines: on which line of it each row begins; by default they are counted.

    Raises:
        ValueError: naming the first such row.
    """
    missing = table["problem_id"].str.strip_chars().str.to_lowercase()
    rows = (missing.is_null() | missing.is_in(list(NO_ID))).arg_true()
    if len(rows):
        first = int(rows[0])
        where = place(source, lines[first]) if lines else f"row {first + 1}"
        raise ValueError(
            f"{counted(len(rows), 'row')} without a problem_id, the first {where} with "
            f"{table['problem_id'][first]!r}; give each problem an id, the same in all languages, or leave the rows "
            "out"
        )


def check_one_question_each(table: pl.DataFrame) -> None:
    """Refuse a problem that has several rows in one language, showing the questions.

    Raises:
        ValueError: listing the rows.
    """
    twice = table.filter(pl.struct("problem_id", "language").is_duplicated()).sort(
        "problem_id", "language", maintain_order=True
    )
    if len(twice):
        raise ValueError(
            f"{counted(len(twice), 'problem row')} occurring twice in one language; give each question its own id, or "
            f"leave copies out:\n{_listed(twice, 'question')}"
        )


def read_references(table: pl.DataFrame, decimal_mark: str = "", answer_kind: str = "") -> pl.DataFrame:
    """The table with canonical references.

    A problem is one of expressions where the reference is one in some language; then it is in all of them, and
    references that are equal are written alike.

    Args:
        table: problem_id, language (known ones) and reference as text; rows whose `answer_kind` is given are taken as
            they are where it is "expression".
        decimal_mark: "." or ","; empty: by the rule in `numbers/references.py`.
        answer_kind: "number": nothing else is accepted; "expression": numbers too are compared as expressions; empty:
            by the rule.

    Returns:
        The rows as they came, with `reference` canonical or null, `answer_kind` ("number" or "expression"; null where
        the reference is), `stated` as it was, and `fault`: why it is null.

    Raises:
        ValueError: an unknown decimal mark or kind.
    """
    if answer_kind not in ("", *KINDS):
        raise ValueError(f"answer_kind {answer_kind!r}: expected {' or '.join(KINDS)}, or nothing for the rule")
    told = "answer_kind" in table.columns
    given = table if told else table.with_columns(answer_kind=pl.lit(None, pl.String))
    numbers = _read_numbers(given.drop("answer_kind"), decimal_mark).with_columns(given["answer_kind"])
    if answer_kind == "number":
        return numbers.with_columns(answer_kind=pl.when(pl.col("reference").is_not_null()).then(pl.lit("number")))
    kept = pl.col("answer_kind") == "expression"
    if answer_kind == "expression":
        kept = pl.lit(False)
    stated = numbers.filter(~kept | kept.is_null(), pl.col("stated").is_not_null())
    if answer_kind != "expression":
        stated = stated.filter(pl.col("reference").is_null(), ~pl.col("fault").str.starts_with(EITHER))
    each = stated.select("language", "stated").unique()
    written = {
        (code, text): made
        for code, text in each.iter_rows()
        if (made := expression_text(text, code, decimal_mark)) is not None
    }
    equality = Equality()
    understood = equality.understood(sorted(set(written.values()))) if written else {}
    written = {key: text for key, text in written.items() if understood[text]}
    found = [
        text if kind == "expression" and not answer_kind else written.get((code, text))
        for code, text, kind in numbers.select("language", "stated", "answer_kind").iter_rows()
    ]
    return _one_kind_each(numbers.with_columns(_expression=pl.Series(found, dtype=pl.String)), equality)


def _one_kind_each(table: pl.DataFrame, equality: Equality) -> pl.DataFrame:
    """References as expressions where the problem's is one in some language, and alike where they are equal."""
    is_expression = pl.col("_expression").is_not_null().any().over("problem_id")
    table = table.with_columns(
        reference=pl.coalesce("_expression", "reference"),
        answer_kind=pl.when(is_expression).then(pl.lit("expression")).otherwise(pl.lit("number")),
    )
    several = table.filter(is_expression, pl.col("reference").n_unique().over("problem_id") > 1)
    alike: list[tuple[str, str, str]] = []
    for (name,), rows in several.drop_nulls("reference").group_by("problem_id"):
        classes = equality.classes(rows["reference"].unique().to_list())
        alike += [(str(name), text, stands) for text, stands in classes.items()]
    made = pl.DataFrame(alike, schema=["problem_id", "reference", "_alike"], orient="row", strict=False)
    made = made.cast(pl.String)
    return (
        table.join(made, on=["problem_id", "reference"], how="left", maintain_order="left")
        .with_columns(
            reference=pl.coalesce("_alike", "reference"),
            answer_kind=pl.when(pl.col("reference").is_not_null()).then("answer_kind"),
        )
        .drop("_alike", "_expression")
    )


def _read_numbers(table: pl.DataFrame, decimal_mark: str) -> pl.DataFrame:
    """The table with `reference` a canonical number or null, `stated` as it was and `fault`: why it is null."""
    if decimal_mark not in DECIMAL_MARKS:
        raise ValueError(f"decimal_mark {decimal_mark!r}: expected '.' or ',', or nothing for the rule of references")
    rows = table.select("problem_id", "language", "reference").unique(maintain_order=True)
    each = rows.select("language", "reference").unique().drop_nulls()
    read = {(code, text): possible_values(text, code, decimal_mark) for code, text in each.iter_rows()}
    sure = {key: values[0] for key, (values, fault) in read.items() if len(values) == 1 and not fault}
    doubted = {key for key, (values, _) in read.items() if values} - sure.keys()
    known: dict[str, set[Fraction]] = {}
    for name, code, text in rows.iter_rows() if doubted else ():
        if (code, text) in sure:
            known.setdefault(name, set()).add(sure[code, text])
    made: list[str | None] = []
    faults: list[str | None] = []
    for name, code, text in rows.iter_rows():
        values, fault = read.get((code, text), ((), "nothing"))
        agreeing = [value for value in values if value in known.get(name, ())] if (code, text) in doubted else values
        made.append(canonical(agreeing[0]) if len(agreeing) == 1 else None)
        in_doubt = f"{EITHER} ({fault or ' or '.join(_decimal(value) for value in values)})" if values else fault
        faults.append(None if len(agreeing) == 1 else in_doubt)
    rows = rows.with_columns(_read=pl.Series(made, dtype=pl.String), fault=pl.Series(faults, dtype=pl.String))
    key = ["problem_id", "language", "reference"]
    joined = table.join(rows, on=key, how="left", nulls_equal=True, maintain_order="left")
    return joined.rename({"reference": "stated", "_read": "reference"})


def refuse_unread(table: pl.DataFrame, advice: str = "") -> None:
    """Refuse a table in which some reference is neither one number nor an expression, by kind, with the rows.

    Args:
        table: from `read_references`.
        advice: what else the caller can do about such references.

    Raises:
        ValueError: naming each kind of fault, its rows and the remedy.
    """
    unread = table.filter(pl.col("reference").is_null() & pl.col("stated").is_not_null())
    if unread.is_empty():
        return
    kinds = unread.with_columns(kind=pl.col("fault").str.replace(r" \(.*", "")).partition_by(
        "kind", maintain_order=True
    )
    parts = [f"{rows['kind'][0]}: {counted(len(rows), 'row')}\n{_listed(rows, 'stated', 'fault')}" for rows in kinds]
    doubt = unread["fault"].str.starts_with(EITHER).any()
    remedies = (
        ["write the number or the formula alone (words as \\text{…}), or leave these problems out"]
        if len(kinds) > doubt
        else []
    )
    remedies += [advice] if advice and len(kinds) > doubt else []
    remedies += ["say which mark is the decimal one with decimal_mark='.' or decimal_mark=','"] if doubt else []
    raise ValueError(
        f"{counted(len(unread), 'problem row')} with a reference that is neither one number nor an expression; "
        f"{'; '.join(remedies)}:\n" + "\n".join(parts)
    )


def _decimal(value: Fraction) -> str:
    return str(value) if value.denominator == 1 else f"{float(value):g}"


def _listed(rows: pl.DataFrame, *shown: str) -> str:
    lines = []
    for row in rows.head(SHOWN).iter_rows(named=True):
        last = f", {row[shown[1]]}" if len(shown) > 1 and str(row[shown[1]]).startswith(EITHER) else ""
        lines.append(f"  {row['problem_id']} ({row['language']}): {str(row[shown[0]])[:80]!r}{last}")
    return "\n".join(lines) + (f"\n  … and {len(rows) - SHOWN} more" if len(rows) > SHOWN else "")
