"""Written arithmetic: which of the equations in a completion are false, in any language.

"77 - 28 = 49" is true or false, whatever words surround it. The check knows neither the question nor the reference: it
is a baseline for choosing between candidates, and reward models should be compared with it. Equations with unknowns or
percent signs are not judged.
"""

from __future__ import annotations

import itertools
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

import polars as pl

from bestofl_lib.numbers.marks import uniform
from bestofl_lib.numbers.written import SIGNS, numbers_in

LONGEST = 20_000  # characters of a completion that are looked at, from its end
_MOST_NUMBERS = 2_000
_UNIT = r"(?:[^\s\d=≈+*/×÷·()<>{}\\.,;:!?।。，、|%^_-]{1,24}|\\text\s?\{[^{}=]{0,40}\})"
_SPACE = r"(?:\s|\\[,;: ]|~)*+"
_OPERATION = r"[-+*/×÷·–]|x(?=\s?[\d($])|:(?=\s)|\\(?:times|cdot|div)(?![a-z])"
_BETWEEN = re.compile(
    rf"(?P<close>(?:{_SPACE}\))*)(?:{_SPACE}{_UNIT}){{0,3}}(?P<close2>(?:{_SPACE}\))*){_SPACE}"
    rf"(?P<sign>{_OPERATION}|(?<![=<>!])=(?!=))(?:{_SPACE}\\?[{SIGNS}])?"
    rf"(?P<open>(?:{_SPACE}\()*){_SPACE}(?:\\?[{SIGNS}])?{_SPACE}"
)
_UNKNOWN = re.compile(r"\s*[a-zA-Z](?![^\W\d_])")  # 2x + 3: a letter used as a variable; also 5 m, which costs little
_OPENED = re.compile(rf"(?:(?<!\\)\({_SPACE}(?:\\?[{SIGNS}])?{_SPACE})+$")
_CLOSED = re.compile(rf"(?:{_SPACE}\))+")
Exact = int | Fraction  # whole numbers as int, which is many times quicker than a Fraction


def _quotient(a: Exact, b: Exact) -> Exact:
    return _simplest(Fraction(a) / b)


def _simplest(value: Exact) -> Exact:
    return value.numerator if value.denominator == 1 else value


_MEANS: dict[str, Callable[[Exact, Exact], Exact]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": _quotient, ":": _quotient,
}  # fmt: skip
_SPELLED = {"×": "*", "·": "*", "x": "*", "\\times": "*", "\\cdot": "*", "÷": "/", "\\div": "/", "–": "-"}


@dataclass(frozen=True)
class Equation:
    """One equals sign with arithmetic on its left."""

    text: str  # from the first number to the result
    holds: bool  # both sides are equal, or the right side is the left rounded to the digits that are written


def equations(completion: str, code: str) -> list[Equation]:
    """The equations of a completion that can be judged, in order.

    Args:
        completion: raw text.
        code: language whose way to write numbers comes first.

    >>> [(e.text, e.holds) for e in equations("She has 7 × 4 = 28. Then 77 - 28 = 5, so 5.", "en")]
    [('7 × 4 = 28', True), ('77 - 28 = 5', False)]
    """
    return [equation for sentence in _sentences(completion) for equation in _equations_of(sentence, code)]


# What no equation extends over: a full stop before a blank, and marks that occur neither in numbers nor between them.
_SENTENCE_ENDS = re.compile(r"(?<=\.)\s|(?<!\\)!|[?。।]")


def _sentences(completion: str) -> list[str]:
    """The sentences of the uniform text that hold an equals sign: the others are not searched for numbers."""
    text = uniform(completion)[-LONGEST:]
    return [sentence for sentence in _SENTENCE_ENDS.split(text) if "=" in sentence] if "=" in text else []


def _equations_of(sentence: str, code: str) -> list[Equation]:
    return [equation for run in _runs(sentence, code) if len(run) > 1 for equation in _judged(run, sentence)]


def count_equations(completions: pl.Series, languages: pl.Series) -> pl.DataFrame:
    """How many equations each completion writes down, and how many of them are false.

    Returns:
        One row per completion, in order: `equations`, `false_equations` (null where there is no completion).
    """
    frame = pl.DataFrame({"language": languages.cast(pl.String), "completion": completions.cast(pl.String)})
    distinct = frame.unique().filter(pl.col("completion").str.contains("[=＝]"))
    known: dict[tuple[str, str], list[bool]] = {}  # samples of one problem write the same equations again and again
    judged = []
    for code, text in distinct.iter_rows():
        row: list[bool] = []
        for sentence in _sentences(text):
            key = (code, sentence.strip())
            if key not in known:
                known[key] = [equation.holds for equation in _equations_of(sentence, code)]
            row += known[key]
        judged.append(row)
    counted = distinct.with_columns(
        equations=pl.Series([len(row) for row in judged], dtype=pl.Int32),
        false_equations=pl.Series([row.count(False) for row in judged], dtype=pl.Int32),
    )
    joined = frame.join(counted, on=["language", "completion"], how="left", maintain_order="left")
    written = pl.col("completion").is_not_null()
    return joined.select(pl.when(written).then(pl.col(name).fill_null(0)) for name in ("equations", "false_equations"))


class _Term(NamedTuple):
    """A number of a formula, with the operator before it."""

    sign: str  # "=", one of _MEANS (":" may also end a heading), or "" for the first
    opened: int  # parentheses
    closed: int
    value: Exact
    is_quotient: bool  # 56/8 is read as one number
    start: int
    end: int


def _runs(text: str, code: str) -> list[list[_Term]]:
    """Numbers joined by operators and equals signs, as long as possible."""
    runs: list[list[_Term]] = []
    run: list[_Term] = []
    for number in numbers_in(text, 0, len(text), code, _MOST_NUMBERS):
        value, start = number.value, number.start
        link = _link(text, run[-1], start) if run else None
        if link is None:
            runs.append(run)
            before = _OPENED.search(text, max(0, start - 12), start)
            run, link = [], ("", before[0].count("(") if before else 0)
        if value is None or _UNKNOWN.match(text, number.end) or text[number.end : number.end + 1] in ("%", "^"):
            runs.append(run)
            run = []
            continue
        sign, opened = link
        closing = _CLOSED.match(text, number.end)
        closed = closing[0].count(")") if closing else 0
        written = text[start : number.end]
        if sign == "-" and written[:1] in "-–":  # "77 -28": the sign is the operator
            value = -value
        exact = int(written) if written.isdigit() else _simplest(value)
        run.append(_Term(sign, opened, closed, exact, "/" in written or "frac" in written, start, number.end))
    return [*runs, run]


def _link(text: str, last: _Term, start: int) -> tuple[str, int] | None:
    """The operator between two numbers and the parentheses it opens; None where they do not belong together."""
    if start - last.end > 120:
        return None
    between = text[last.end : start]
    link = _joint(between)
    if link is _NONE and text[start] in "-–" and not between.strip():
        return "-", 0
    return None if link is _NONE else link


_NONE = ("", -1)  # no operator stands there


@lru_cache(maxsize=65_536)
def _joint(between: str) -> tuple[str, int] | None:
    """What stands between two numbers: the operator and the parentheses it opens; None: a heading's colon."""
    found = _BETWEEN.fullmatch(between)
    if found is None:
        return _NONE
    sign = found["sign"]
    if sign == ":" and any(c.isalpha() for c in found[0]):
        return None  # red: 21 ÷ 3 = 7
    return _SPELLED.get(sign, sign), found["open"].count("(")


def _judged(run: list[_Term], text: str) -> list[Equation]:
    """The equations of one run: each side against the next."""
    cuts = [i for i, term in enumerate(run) if term.sign == "="]
    sides = [run[a:b] for a, b in zip([0, *cuts], [*cuts, len(run)], strict=True)] if cuts else []
    found = []
    for left, right in itertools.pairwise(sides):
        if len(left) == 1 and not left[0].is_quotient:
            continue
        value = _value(left)
        if value is None:
            continue
        results = [right[0].value, _value(right)]  # 5 × 3 = 15 + 2 = 17: the first number is the result
        holds = any(result is not None and _equals(value, result) for result in results)
        headed = [i for i, term in enumerate(left) if term.sign == ":"]
        if headed and not holds:  # "day 2: 3 + 4 = 7" is no division
            found += _judged([left[headed[-1]]._replace(sign=""), *left[headed[-1] + 1 :], *right], text)
        else:
            found.append(Equation(text[left[0].start : right[0].end], holds))
    return found


def _equals(exact: Exact, written: Exact) -> bool:
    """Equal, or a fraction rounded to the decimals that are written."""
    if exact == written:
        return True
    if exact.denominator == 1 or written.denominator == 1:
        return False
    decimals = 0
    while decimals < 12 and (written * 10**decimals).denominator != 1:
        decimals += 1
    return abs(Fraction(exact) - written) < Fraction(1, 10**decimals)


def _value(side: list[_Term]) -> Exact | None:
    """The value of one side; None where its parentheses do not match or it divides by zero."""
    if len(side) == 1 and not side[0].opened and not side[0].closed:
        return side[0].value
    tokens: list[str | Exact] = []
    for i, term in enumerate(side):
        tokens += [term.sign] * (i > 0) + ["("] * term.opened + [term.value] + [")"] * term.closed
    while tokens and tokens[0] == "(" and tokens.count("(") > tokens.count(")"):
        tokens = tokens[1:]  # ((3 + 4) × 2 = 14)
    opened = tokens.count("(")
    while tokens and tokens[-1] == ")" and tokens.count(")") > opened:
        tokens.pop()  # (so 3 + 4 = 7)
    if opened != tokens.count(")"):
        return None
    try:
        value, rest = _sum(tokens)
    except (ZeroDivisionError, IndexError, ValueError):
        return None
    return value if not rest else None


def _sum(tokens: list[str | Exact]) -> tuple[Exact, list[str | Exact]]:
    value, tokens = _product(tokens)
    while tokens and tokens[0] in ("+", "-"):
        other, rest = _product(tokens[1:])
        value, tokens = _MEANS[str(tokens[0])](value, other), rest
    return value, tokens


def _product(tokens: list[str | Exact]) -> tuple[Exact, list[str | Exact]]:
    value, tokens = _factor(tokens)
    while tokens and tokens[0] in ("*", "/", ":"):
        other, rest = _factor(tokens[1:])
        value, tokens = _MEANS[str(tokens[0])](value, other), rest
    return value, tokens


def _factor(tokens: list[str | Exact]) -> tuple[Exact, list[str | Exact]]:
    first, rest = tokens[0], tokens[1:]
    if not isinstance(first, str):  # faster than isinstance against Fraction, an abstract number
        return first, rest
    if first != "(":
        raise ValueError(f"{first!r} where a number was expected")
    value, rest = _sum(rest)
    if not rest or rest[0] != ")":
        raise ValueError("a parenthesis is not closed")
    return value, rest[1:]
