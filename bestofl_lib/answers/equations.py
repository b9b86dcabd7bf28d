"""Written arithmetic: which of the equations in a completion are false, in any language.

"77 - 28 = 49" is true or false, whatever words surround it. The check knows neither the question nor the reference: it
is a baseline for choosing between candidates, and reward models should be compared with it. Equations with unknowns or
percent signs are not judged.
"""

from __future__ import annotations

import itertools
import operator
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache, lru_cache, partial
from typing import NamedTuple

import polars as pl

from bestofl_lib.languages import PIVOT
from bestofl_lib.numbers.marks import UNIFORM, uniform
from bestofl_lib.numbers.written import SIGNS, VULGAR, numbers_in

LONGEST = 20_000  # characters of a completion that are looked at, from its end
_UNIT = r"(?:[^\s\d=≈+*/×÷·()<>{}\\.,;:!?।。，、|%^_-]{1,24}|\\text\s?\{[^{}=]{0,40}\})"
_SPACE = r"(?:\s|\\[,;: ]|~)*+"
_OPERATION = r"[-+*/×÷·–]|x(?=\s?[\d($])|:(?=\s)|\\(?:times|cdot|div)(?![a-z])"
_BETWEEN = re.compile(
    rf"(?P<close>(?:{_SPACE}\))*)(?:{_SPACE}{_UNIT}){{0,3}}(?P<close2>(?:{_SPACE}\))*){_SPACE}"
    rf"(?P<sign>{_OPERATION}|(?<![=<>!])=(?!=))(?:{_SPACE}\\?[{SIGNS}])?"
    rf"(?P<open>(?:{_SPACE}\()*){_SPACE}(?:\\?[{SIGNS}])?{_SPACE}"
)
# what every such text ends with; quicker, because words can be divided into units in many ways
_MAY_LINK = re.compile(rf"(?:[-+*/×÷·–x:=]|times|cdot|div)[\s(~,;:\\{SIGNS}]*$")
_UNKNOWN = re.compile(r"\s*[a-zA-Z](?![^\W\d_])")  # 2x + 3: a letter used as a variable; also 5 m, which costs little
_OPENED = re.compile(rf"(?:(?<!\\)\({_SPACE}(?:\\?[{SIGNS}])?{_SPACE})+$")
_CLOSED = re.compile(rf"(?:{_SPACE}\))+")
Exact = int | Fraction  # whole numbers as int, which is many times quicker than a Fraction


def _quotient(a: Exact, b: Exact) -> Exact:
    return _simplest(Fraction(a) / b)


def _simplest(value: Exact) -> Exact:
    return value.numerator if value.denominator == 1 else value


_PRODUCTS: dict[str, Callable[[Exact, Exact], Exact]] = {"*": operator.mul, "/": _quotient, ":": _quotient}
_SPELLED = {"×": "*", "·": "*", "x": "*", "\\times": "*", "\\cdot": "*", "÷": "/", "\\div": "/", "–": "-"}


def equations(completion: str, code: str) -> list[bool]:
    """Whether each equation of a completion holds, of those that can be judged, in order.

    An equation is one equals sign with arithmetic on its left. It holds where both sides are equal, or the right side
    is the left rounded to the digits that are written.

    Args:
        completion: raw text.
        code: language whose way to write numbers comes first.

    >>> equations("She has 7 × 4 = 28. Then 77 - 28 = 5, so 5.", "en")
    [True, False]
    """
    formulas, reader = re.findall(_FORMULA, uniform(completion)[-LONGEST:]), _Reader(code)
    return [holds for formula in formulas if "=" in formula for holds in reader.equations(formula)]


# What one equation may extend over, written for `re` and Polars alike. It ends at a full stop before a blank, at marks
# that occur neither in numbers nor between them, and at other commands of LaTeX. The backslash before it is kept, since
# no parenthesis opens in \(.
_FORMULA = (
    r"\\?(?:[^\\,.;!?。।|<>]+|,(?:[0-9,.]|\s*\}|\\!)|\.(?:[^\s\\,;!?。।|<>]|\\overline)"
    r"|\\text\s?\{(?:[^{}=!?。।.]|\.+[^\s{}=!?。।.])*\}|\\text"
    rf"|\\[,;:! {SIGNS}]|\\[dtc]?frac|\\times|\\cdot|\\div|\\thinspace |\\overline)+\.?"
)


_NUMERIC = f"0-9{''.join(VULGAR)}"
_EQUATED = rf"(?s)[{_NUMERIC}].*=[\s()~,;:.\\{SIGNS}–-]*(?:[{_NUMERIC}]|[dtc]?frac)"
# The first number with what precedes it, and the last with what follows, both without what cannot matter to them: then
# more formulas are equal.
_OPENING = rf"^[^{_NUMERIC}]*([\p{{L}}--[c]][^{_NUMERIC}\p{{L}}]*[0-9])"  # \frac1 stays whole
_CLOSING = rf"([0-9][^{_NUMERIC}\\\p{{L}}]*\p{{L}}[^{_NUMERIC}\\\s]*\s)[^{_NUMERIC}]*$"

# Behind the first digit no word, and no mark that two languages may read differently.
_IN_ANY = r"^[^0-9]*[0-9](?:[^\p{L}.,{\\]|\\times|\\cdot|\\div)*\.?$"


def count_equations(completions: pl.Series, languages: pl.Series) -> pl.DataFrame:
    """How many equations each completion writes down, and how many of them are false.

    Returns:
        One row per completion, in order: `equations`, `false_equations` (null where there is no completion).
    """
    text, formula = pl.col("completion"), pl.col("formula")
    frame = pl.DataFrame({"language": languages.cast(pl.String), "completion": completions.cast(pl.String)})
    frame = frame.with_row_index("row")
    formulas = (
        frame.filter(text.str.contains("[=＝]"))
        .select("row", "language", formula=text.str.replace_many(UNIFORM).str.tail(LONGEST).str.extract_all(_FORMULA))
        .explode("formula")
        .filter(formula.str.contains(_EQUATED))
        .with_columns(formula.str.replace(_OPENING, "$1").str.replace(_CLOSING, "$1").str.strip_chars())
        .with_columns(language=pl.when(formula.str.contains(_IN_ANY)).then(pl.lit(PIVOT)).otherwise("language"))
    )
    distinct = formulas.select("language", "formula").unique()  # samples of one problem write the same again and again
    readers = {code: _Reader(code) for code in distinct["language"].unique()}
    judged = [readers[code].equations(text) for code, text in distinct.iter_rows()]
    counted = distinct.with_columns(
        equations=pl.Series([len(row) for row in judged], dtype=pl.Int32),
        false_equations=pl.Series([row.count(False) for row in judged], dtype=pl.Int32),
    )
    names = ("equations", "false_equations")
    sums = formulas.join(counted, on=["language", "formula"]).group_by("row").agg(pl.col(names).sum())
    joined = frame.join(sums, on="row", how="left", maintain_order="left")
    return joined.select(pl.when(text.is_not_null()).then(pl.col(name).fill_null(0)) for name in names)


class _Number(NamedTuple):
    value: Exact | None  # None: something like a number, but not one
    is_quotient: bool = False  # 56/8 is read as one number
    has_minus: bool = False


_NONE = _Number(None)


class _Gap(NamedTuple):
    """What the text behind one number and before the next says about them."""

    spoils: bool  # the number before it cannot be judged: a percentage, a power, or the factor of an unknown
    closed: int  # parentheses, directly behind the number
    sign: str  # the operator that links the numbers; empty: none
    linked: int  # parentheses that open behind the operator
    opened: int  # parentheses that open directly before the next number, whatever stands before them
    is_blank: bool
    has_equals: bool


class _Term(NamedTuple):
    """A number of a formula, with the operator before it."""

    sign: str  # "=", "+", "-", one of _PRODUCTS (":" may also end a heading), or "" for the first
    opened: int  # parentheses
    closed: int
    value: Exact
    is_quotient: bool


class _Reader:
    """Reads formulas in one language; it remembers digits and what stands between them."""

    def __init__(self, code: str):
        self.code = code
        self.alone = cache(partial(_alone, code))
        self.apart = cache(partial(_apart, code))

    def equations(self, formula: str) -> list[bool]:
        """Whether each equation holds, in order."""
        runs = self._runs_of_digits(formula)
        if runs is None:
            numbers, between = _in_context(formula, self.code)
            runs = _runs(numbers, [_gap(text) for text in between])
        return [holds for run in runs if len(run) > 1 for holds in _judged(run)]

    def _runs_of_digits(self, formula: str) -> list[list[_Term]] | None:
        """The runs with an equals sign; None where one of their numbers may be more than its digits."""
        pieces = _DIGITS.split(formula)
        between, numbers = pieces[::2], [self.alone(digits) for digits in pieces[1::2]]
        if _NONE in numbers:
            return None
        gaps = [_gap(text) for text in between]
        runs, done, last = [], 0, len(numbers)
        for place, gap in enumerate(gaps):
            if not gap.has_equals or not done <= place < last or place == 0:
                continue
            start = end = place
            while start > done and (start == place or gaps[start].sign):
                start -= 1
            while end < last and (end == place or gaps[end].sign):
                end += 1
            first = start - (start > 0 and "}" in between[start])  # 5 \\text{ m2} × 3: the 2 is no number
            if not all([self.apart(between[at], at > 0, at < last) for at in range(first, end + 1)]):
                return None
            runs += _runs(numbers[start:end], gaps[start : end + 1])
            done = end
        return runs


# digits with marks, and what makes them parts of another number
_DIGITS = re.compile(rf"(\d++(?:[.,]\d++)*+(?:/\d++)?+|[{''.join(VULGAR)}]|frac|overline)")


def _alone(code: str, digits: str) -> _Number:
    """What digits are that nothing stands around; `_NONE` where they are not one number."""
    found = numbers_in(digits, 0, len(digits), code) if digits[0].isdecimal() and "/" not in digits else []
    one = found[0].value if len(found) == 1 and found[0].end == len(digits) else None
    return _NONE if one is None else _Number(_simplest(one))


def _apart(code: str, between: str, behind: bool, before: bool) -> bool:
    """Whether a text behind or before digits leaves them the numbers that they are alone, whatever they are.

    It is tried with digits that most easily become part of a time, a quotient or a group of thousands.
    """
    if between.lstrip().startswith(("^", "**")) and before:
        return False  # a power of ten, perhaps
    text = "8" * behind + between + "888" * before
    wanted = [(8, 0, 1)] * behind + [(888, len(text) - 3, len(text))] * before
    return [number[:3] for number in numbers_in(text, 0, len(text), code)] == wanted


def _in_context(formula: str, code: str) -> tuple[list[_Number], list[str]]:
    """The numbers of `numbers_in`, and the texts before, between and behind them."""
    numbers, between, at = [], [], 0
    for value, start, end, _ in numbers_in(formula, 0, len(formula), code):
        written = formula[start:end]
        exact = None if value is None else _simplest(value)
        numbers.append(_Number(exact, "/" in written or "frac" in written, written[0] in "-–"))
        between.append(formula[at:start])
        at = end
    return numbers, [*between, formula[at:]]


@lru_cache(maxsize=65_536)
def _gap(between: str) -> _Gap:
    found = _BETWEEN.fullmatch(between) if len(between) <= 120 and _MAY_LINK.search(between) else None
    if found is not None and found["sign"] == ":" and any(c.isalpha() for c in between):
        found = None  # red: 21 ÷ 3 = 7
    closing, opening = _CLOSED.match(between), _OPENED.search(between, max(0, len(between) - 12))
    return _Gap(
        between[:1] in ("%", "^") or _UNKNOWN.match(between) is not None,
        closing[0].count(")") if closing else 0,
        _SPELLED.get(found["sign"], found["sign"]) if found else "",
        found["open"].count("(") if found else 0,
        opening[0].count("(") if opening else 0,
        len(between) <= 120 and not between.strip(),
        "=" in between,
    )


def _runs(numbers: Sequence[_Number], gaps: Sequence[_Gap]) -> list[list[_Term]]:
    """Numbers joined by operators and equals signs, as long as possible.

    Args:
        gaps: before, between and behind the numbers.
    """
    runs: list[list[_Term]] = []
    run: list[_Term] = []
    for (value, is_quotient, has_minus), before, behind in zip(numbers, gaps, gaps[1:], strict=False):
        sign, opened = before.sign, before.linked
        if has_minus and before.is_blank:
            sign = "-"  # 77 -28
        if not run or not sign:
            runs.append(run)
            run, sign, opened = [], "", before.opened
        if value is None or behind.spoils:
            runs.append(run)
            run = []
            continue
        if has_minus and sign == "-":  # the sign is the operator
            value = -value
        run.append(_Term(sign, opened, behind.closed, value, is_quotient))
    return [*runs, run]


def _judged(run: list[_Term]) -> list[bool]:
    """Whether the equations of one run hold: each side against the next."""
    cuts = [i for i, term in enumerate(run) if term.sign == "="]
    sides = [run[a:b] for a, b in zip([0, *cuts], [*cuts, len(run)], strict=True)] if cuts else []
    found = []
    for left, right in itertools.pairwise(sides):
        if len(left) == 1 and not left[0].is_quotient:
            continue
        value = _value(left)
        if value is None:
            continue
        # 5 × 3 = 15 + 2 = 17: the first number is the result
        holds = _equals(value, right[0].value) or (
            (all_of_it := _value(right)) is not None and _equals(value, all_of_it)
        )
        headed = [] if holds else [i for i, term in enumerate(left) if term.sign == ":"]
        if headed:  # "day 2: 3 + 4 = 7" is no division
            found += _judged([left[headed[-1]]._replace(sign=""), *left[headed[-1] + 1 :], *right])
        else:
            found.append(holds)
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
    opened, closed = sum([term.opened for term in side]), sum([term.closed for term in side])
    unclosed = min(max(0, opened - closed), side[0].opened)  # ((3 + 4) × 2 = 14)
    unopened = min(max(0, closed - opened), side[-1].closed)  # (so 3 + 4 = 7)
    if opened - unclosed != closed - unopened:
        return None
    side = [side[0]._replace(opened=side[0].opened - unclosed), *side[1:]] if unclosed else side
    side = [*side[:-1], side[-1]._replace(closed=side[-1].closed - unopened)] if unopened else side
    try:
        return _sum(side)
    except ZeroDivisionError:
        return None


def _sum(side: list[_Term]) -> Exact | None:
    around: list[tuple[Exact, Exact | None, str]] = []  # what stands before each parenthesis that is open
    total: Exact = 0
    product: Exact | None = None
    for term in side:
        sign, value = term.sign, term.value
        for _ in range(term.opened):
            around.append((total, product, sign))
            total, product = 0, None
        for closes in range(term.closed + 1):
            if closes:
                if not around or product is None:
                    return None
                value = total + product
                total, product, sign = around.pop()
            if product is None:
                product = value
            elif sign in "+-":
                total, product = total + product, value if sign == "+" else -value
            else:
                product = _PRODUCTS[sign](product, value)
    return None if product is None else total + product
