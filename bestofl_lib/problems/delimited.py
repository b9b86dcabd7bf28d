"""Splits CSV and TSV into rows: quotes honoured, each row with its line number, an incomplete last row detected.

A quoted field may hold marks, line ends and doubled quotes. An empty field is null, an empty quoted one is empty text.
It knows nothing of columns; encodings and endings are `files.py`'s.
"""

from __future__ import annotations

import re


def records(text: str, mark: str, name: str) -> tuple[list[tuple[int, list[str | None]]], str]:
    """The rows of a delimited text, the header first, each with the line on which it begins.

    The last row is left out where the text ends before it is sure to be whole: within quotes, or without a line end
    behind an unquoted field ("18" could be the start of "180").

    Args:
        text: lines end in "\\n".
        mark: one character between fields.
        name: of the file, for messages.

    Returns:
        The rows, and what was left out: a sentence, or empty.

    Raises:
        ValueError: naming the line with another number of fields than the header or with a stray quote.

    >>> records('a,b\\n1,"x\\ny"\\n2,z', ",", "f.csv")[0]
    [(1, ['a', 'b']), (2, ['1', 'x\\ny'])]
    """
    field = re.compile(rf'(?:"((?:[^"]++|"")*+)"|((?!")[^{re.escape(mark)}\n]*+))({re.escape(mark)}|\n|\Z)')
    rows: list[tuple[int, list[str | None]]] = []
    fields: list[str | None] = []
    at, line, begun = 0, 1, 1
    whole = True  # whether the last field is sure to have ended
    while at < len(text):
        found = field.match(text, at)
        if found is None:
            _refuse_stray_quote(text, at, line, mark, rows, name)
            return rows, _left_out(name, begun)
        fields.append(found[1].replace('""', '"') if found[1] is not None else found[2] or None)
        at = found.end()
        line += found[0].count("\n")
        whole = found[3] == "\n" or (not found[3] and found[1] is not None)
        if found[3] == mark:
            if at < len(text):
                continue
            fields.append(None)
        if fields == [None] and found[1] is None:
            fields, begun = [], line
            continue
        expected = len(rows[0][1]) if rows else len(fields)
        if not whole and rows:
            return rows, _left_out(name, begun)
        if len(fields) != expected:
            raise ValueError(
                f"{name}, line {begun}: expected {expected} fields as in the header, found {len(fields)}; put text "
                f"that holds {'a tab' if mark == chr(9) else repr(mark)} or a line end into quotes"
            )
        rows.append((begun, fields))
        fields, begun = [], line
    return rows, ""


def _left_out(name: str, line: int) -> str:
    return (
        f"{name}: its last row (line {line}) has no line end and may be incomplete; it is left out. If it is complete, "
        "end the file with a line end"
    )


def _refuse_stray_quote(text: str, at: int, line: int, mark: str, rows: list, name: str) -> None:
    """Raise unless the quoted field that begins here was torn by the end of the file."""
    opened = re.compile(r'"(?:[^"]++|"")*+').match(text, at)
    end = opened.end() if opened else at
    swallowed = text[at:end].split("\n")[1:]
    marks = len(rows[0][1]) - 1 if rows else 0
    if end < len(text) or (marks and any(part.count(mark) == marks for part in swallowed)):
        raise ValueError(
            f"{name}, line {line}: a quote opens a field here ({text[at : at + 30]!r}) that does not end before the "
            "next mark; write a quote inside a quoted field twice, and quote every field that begins with one"
        )
