"""Reads tables from outside: Parquet, CSV, TSV and JSON Lines, local, on the Hub or at an https:// address.

Byte order marks, UTF-16, CRLF, semicolons for commas, a last line cut short and lone surrogates are accepted; what
cannot be read is refused with the file, the line and the next step. It knows nothing of what a column means. Rows of
CSV and TSV are split in `delimited.py`.
"""

from __future__ import annotations

import codecs
import io
import json
import math
import re
import urllib.request
import warnings
from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl

from bestofl_lib.files import ROOT
from bestofl_lib.problems.delimited import records
from bestofl_lib.text import nearest, suggestion, valid_unicode

ENDINGS = ("parquet", "csv", "tsv", "jsonl")
LINE = "_line"  # the column of `read_table(…, numbered=True)`: where a row begins in its file, see `place`


class FileWarning(UserWarning):
    """Part of a file had to be left out."""


def is_remote(source: str | Path) -> bool:
    """Whether this is an address such as `hf://…` and not a path."""
    return "://" in str(source)


def find(source: str | Path) -> Path:
    """A path as given, or taken from the project's folder (notebooks run elsewhere than the command that starts
    them).
    """
    path = Path(source).expanduser()
    return path if path.exists() or path.is_absolute() or not (ROOT / path).exists() else ROOT / path


def read_text(address: str | Path) -> str:
    """The text of a file here or on the Hub: UTF-8, or UTF-16 that says so in its first bytes.

    Raises:
        OSError: naming the address and what to do if it cannot be reached.
        ValueError: naming the first line that is not UTF-8.
    """
    data = _read_bytes(address)
    coding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return data.decode(coding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{address}, line {line}: byte {data[error.start]:#x} is not UTF-8; convert the file first, for example "
            "with `iconv -f WINDOWS-1252 -t UTF-8` (a file of mixed encodings line by line)"
        ) from error


def _read_bytes(address: str | Path) -> bytes:
    try:
        if is_remote(address):
            if str(address).startswith("https://"):
                with urllib.request.urlopen(str(address), timeout=60) as answer:
                    return bytes(answer.read())
            from huggingface_hub import HfFileSystem

            return HfFileSystem().cat_file(str(address).removeprefix("hf://"))
        return find(address).read_bytes()
    except Exception as error:  # the Hub's client raises many kinds of errors; each means that the file cannot be read
        advice = "check the address and the network, or give a local copy" if is_remote(address) else "check the path"
        raise OSError(f"{address} cannot be read ({type(error).__name__}: {error}); {advice}") from error


def place(source: str | Path, line: int) -> str:
    """How messages name a row of a file: its line, or its row where there are no lines; both count from 1.

    >>> place("pool.csv", 3), place("pool.parquet", 3)
    ('pool.csv, line 3', 'pool.parquet, row 3')
    """
    by_lines = str(source).lower().endswith((".csv", ".tsv", ".jsonl"))
    return f"{source}, {'line' if by_lines else 'row'} {line}"


def json_lines(text: str, name: str | Path) -> list[dict[str, Any]]:
    """The objects of JSON Lines.

    A last line without an end that is not JSON was cut short when its writer was stopped: it is left out with a
    `FileWarning`. Lone surrogates become U+FFFD.

    Raises:
        ValueError: naming the line that is no JSON object, is nested too deeply or holds a number of too many digits.
    """
    return [row for _, row in _numbered_json(text, name)]


def _numbered_json(text: str, name: str | Path) -> list[tuple[int, dict[str, Any]]]:
    lines = text.split("\n")
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines) and number > 1:
                warnings.warn(
                    f"{name}: its last line, {number}, was cut short and is left out", FileWarning, stacklevel=4
                )
                break
            raise ValueError(
                f"{name}, line {number}: not JSON ({error.msg} at character {error.pos + 1}: "
                f"{line[max(0, error.pos - 20) : error.pos + 20]!r}); correct or remove the line"
            ) from error
        except RecursionError as error:
            raise ValueError(
                f"{name}, line {number}: brackets nested too deeply ({line[:40]!r}…); correct or remove the line"
            ) from error
        except ValueError as error:  # Python's limit on digits
            digits = max(re.findall(r"\d+", line), key=len)
            raise ValueError(
                f"{name}, line {number}: a number of {len(digits):,} digits ({digits[:20]}…); correct or remove the "
                "line, or put the number into quotes where it is text"
            ) from error
        if not isinstance(row, dict):
            raise ValueError(f"{name}, line {number}: expected a JSON object, found {type(row).__name__} {line[:40]!r}")
        rows.append((number, whole(row) if "\\ud" in line or "\\uD" in line else row))
    return rows


def whole(value: Any) -> Any:
    """The value with lone surrogates in its texts replaced by U+FFFD (tables hold valid Unicode only)."""
    if isinstance(value, str):
        return valid_unicode(value)
    if isinstance(value, list):
        return [whole(item) for item in value]
    if isinstance(value, dict):
        return {whole(key): whole(item) for key, item in value.items()}
    return value


def read_table(source: str | Path, numbered: bool = False) -> pl.DataFrame:
    """A table file here or on the Hub; every value of CSV and TSV is text, and so is a nested object of JSON Lines.

    A last row of CSV or TSV that may have been cut short is left out with a `FileWarning`, see `delimited.records`.

    Args:
        numbered: add the column `LINE`: the line on which each row begins, in Parquet its row, from 1.

    Raises:
        OSError: the file cannot be read.
        ValueError: for another ending, a column named twice, no rows, or naming the line that cannot be read.
    """
    ending = str(source).rsplit(".", 1)[-1].lower()
    try:
        if ending == "parquet":
            table = pl.read_parquet(str(source) if is_remote(source) else io.BytesIO(_read_bytes(source)))
            lines = pl.int_range(1, pl.len() + 1, dtype=pl.Int64, eager=False)
            table = table.with_columns(lines.alias(LINE))
        elif ending in ("csv", "tsv"):
            table = _delimited(read_text(source), source)
        elif ending == "jsonl":
            rows = _numbered_json(read_text(source), source)
            table = frame([row for _, row in rows]).with_columns(pl.Series(LINE, [n for n, _ in rows], pl.Int64))
        else:
            raise ValueError(f"{source}: expected a file that ends in .{', .'.join(ENDINGS[:-1])} or .{ENDINGS[-1]}")
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:  # a panic is no Exception
        raise ValueError(f"{source} is damaged or of another kind than its name says: {error}") from error
    if table.is_empty():
        raise ValueError(f"{source} holds no rows")
    return table if numbered else table.drop(LINE)


def _delimited(text: str, source: str | Path) -> pl.DataFrame:
    text = text.replace("\r\n", "\n")
    header_line = text.split("\n", 1)[0]
    mark = "\t" if str(source).lower().endswith(".tsv") else max(",;\t", key=header_line.count)
    rows, left_out = records(text, mark, str(source))
    if left_out:
        warnings.warn(left_out, FileWarning, stacklevel=3)
    if not rows:
        raise ValueError(f"{source} holds no rows")
    header = [name or f"column {i}" for i, name in enumerate(rows[0][1], 1)]
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise ValueError(f"{source} has several columns named {', '.join(twice)}; rename all but one")
    columns = {name: [fields[i] for _, fields in rows[1:]] for i, name in enumerate(header)}
    return pl.DataFrame(
        columns | {LINE: [line for line, _ in rows[1:]]}, schema=dict.fromkeys(header, pl.String) | {LINE: pl.Int64}
    )


def frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Rows of JSON as a table; a column that mixes kinds, or holds objects, is text."""
    names = list(dict.fromkeys(name for row in rows for name in row if name != LINE))
    return pl.DataFrame([_column(name, [row.get(name) for row in rows]) for name in names])


def _column(name: str, values: list[Any]) -> pl.Series:
    kinds = {type(value) for value in values} - {type(None)}
    most = 2**53 if float in kinds else 2**63  # beyond it two whole numbers would become one, or null
    kept = len(kinds) < 2 or kinds == {int, float}
    if kept and not any(_nested(v) or (isinstance(v, int) and abs(v) >= most) for v in values):
        try:
            return pl.Series(name, values, strict=False)
        except (pl.exceptions.PolarsError, TypeError, OverflowError):  # lists of several kinds
            pass
    return pl.Series(name, [None if value is None else _as_text(value) for value in values], pl.String)


def _as_text(value: Any) -> str:
    """A value of a column that also holds others; a number with three decimals gets a fourth, else it could be
    thousands.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        written = format(Decimal(repr(value)), "f")
        return written + "0" if re.fullmatch(r"-?\d+\.\d{3}", written) else written
    return json.dumps(value, ensure_ascii=False)


def _nested(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(_nested(item) for item in value))


def check_roles(columns: Iterable[str], known: Iterable[str]) -> None:
    """Refuse a name that is none of this project's columns.

    Raises:
        ValueError: naming those that exist.
    """
    if strange := [name for name in columns if name not in known]:
        raise ValueError(
            f"this project has no column {strange[0]!r}; {suggestion(strange[0], known)}its columns are "
            f"{', '.join(known)}"
        )


def match_columns(
    columns: Mapping[str, str],
    table: pl.DataFrame,
    known: Mapping[str, Iterable[str]],
    needed: Iterable[str],
    source: str,
) -> dict[str, str]:
    """Which column of a table has each role: the one that the user names, else the first one with a known name.

    Args:
        columns: what the user names, our name -> theirs.
        table: as it was read.
        known: our name -> names by which others call it, the likeliest first.
        needed: those of ours that are required.
        source: for messages.

    Raises:
        ValueError: naming the missing column, the closest match, and the columns that exist.
    """
    check_roles(columns, known)
    have = {name.lower(): name for name in reversed(table.columns)}
    picked: dict[str, str] = {}
    for ours, names in known.items():
        theirs = columns.get(ours)
        if theirs is not None and theirs not in table.columns:
            raise ValueError(
                f"{source} has no column {theirs!r} (for {ours}); {suggestion(theirs, table.columns, 0.4)}"
                f"it has {', '.join(table.columns)}"
            )
        theirs = theirs or next((have[name] for name in (ours, *names) if name in have), None)
        if theirs is not None:
            picked[ours] = theirs
    for ours in needed:
        if ours not in picked:
            names = [ours, *known[ours]]
            near = next((found for name in names if (found := nearest(name, table.columns, 0.7))), None)
            guess = near or "its name"
            hint = f"is it {guess!r}? " if near else ""
            raise ValueError(
                f"{source} has no column for {ours}; {hint}say which it is with columns={{'{ours}': '{guess}'}} "
                f"(in a study: -p columns={ours}:{guess.replace(' ', '_')}); it has {', '.join(table.columns)}"
            )
    return picked
