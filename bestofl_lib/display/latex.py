"""Result tables as LaTeX for a paper: booktabs, numbers with intervals, every text escaped. It computes no figure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import polars as pl

from bestofl_lib.display import words
from bestofl_lib.languages import english_name
from bestofl_lib.text import p_value, signed, unsigned

SIGNS = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "$-$", "<": "$<$", ">": "$>$",
}  # fmt: skip
TABLES: dict[str, Sequence[str]] = {  # of a run, and the columns that are results
    "claims": ("claim", "part", "effect", "p_holm", "mde", "verdict", "n_problems"),
    "claim_details": ("claim", "part", "language", "budget", "effect", "p_holm", "verdict"),
    "accuracy": ("language", "accuracy", "unreadable", "n_candidates", "n_problems"),
    "reward_quality": ("reward_model", "language", "auc", "n_problems"),
    "gains": ("language", "base", "budget", "gain", "p_holm"),
    "plan": ("budget", "arm", "allocation", "accuracy", "gain"),
}
WITH_INTERVAL = {
    "effect": ("low", "high"),
    "accuracy": ("low", "high"),
    "auc": ("low", "high"),
    "gain": ("low", "high"),
}
POINTS = ("effect", "gain")  # differences, in percentage points


def escape(text: object) -> str:
    """Text escaped so that LaTeX prints it as it is.

    >>> escape("50 % of a_b")
    '50 \\\\% of a\\\\_b'
    """
    return "".join(SIGNS.get(letter, letter) for letter in str(text))


def booktabs(name: str, table: pl.DataFrame, caption: str, label: str) -> str:
    """One result table of a run.

    Args:
        name: one of TABLES.
        table: as the run stores it.
        caption: one sentence, with where it comes from.
        label: for `\\ref`.
    """
    columns = [column for column in TABLES[name] if column in table.columns]
    headings = [words.HEADINGS.get(column, column.replace("_", " ")) for column in columns]
    align = "".join("r" if table[column].dtype.is_numeric() else "l" for column in columns)
    rows = [" & ".join(_cell(column, row) for column in columns) + r" \\" for row in table.iter_rows(named=True)]
    return "\n".join(
        [
            "% needs \\usepackage{booktabs}",
            r"\begin{table}",
            r"  \centering",
            f"  \\caption{{{escape(caption)}}}",
            f"  \\label{{{label}}}",
            f"  \\begin{{tabular}}{{{align}}}",
            r"    \toprule",
            "    " + " & ".join(map(escape, headings)) + r" \\",
            r"    \midrule",
            *(f"    {row}" for row in rows),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _cell(column: str, row: dict[str, Any]) -> str:
    value = row[column]
    if value is None or value != value:
        return "--"
    if column in ("language", "base"):
        return escape(english_name(value))
    if column in ("p", "p_holm"):
        return escape(p_value(value))
    if not isinstance(value, float):
        return escape(value)
    digits: Callable[[float], str] = (
        signed if column in POINTS else (lambda x: f"{x:.3f}") if column == "auc" else unsigned
    )
    low, high = (row.get(name) for name in _interval_of(column, row))
    interval = "" if low is None or high is None else f" [{digits(low)}, {digits(high)}]"
    return escape(digits(value) + interval).replace("+", "$+$")


def _interval_of(column: str, row: dict[str, Any]) -> tuple[str, str]:
    if f"{column}_low" in row:
        return f"{column}_low", f"{column}_high"
    return WITH_INTERVAL.get(column, ("", ""))
