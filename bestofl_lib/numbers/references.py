r"""References: the value of a written right answer or, where it is none, the expression that it is.

**The rule.** A reference that comes as a number (JSON, Parquet) is that number. As text it is one number, with or
without a currency sign before it and a unit behind it. A comma or point with exactly three digits behind it and one to
three before ("1,234", "18.000") could be either mark. It groups thousands where it is a comma and the row's language
groups with commas. Else the problem's other languages decide, where only one reading agrees with theirs. Else the set
is refused with the rows, until `decimal_mark` says which mark is the decimal one; then every text must be written so.

Roots, π, letters, brackets and several numbers are no number: `11\sqrt2` is never 11. They are expressions where they
are understood as a whole: formulas of digits, known functions and single letters; intervals, tuples, sets, lists with
signs between their values, matrices, equations; the letter of an option, and words in `\text{…}`. What is neither (bare
words, one letter that could be anything, 18:30, "18 or 19") is refused by kind. This file knows texts and the marks of
languages; tables of problems are `problems/load.py`'s.
"""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal
from fractions import Fraction

from bestofl_lib.languages import LANGUAGES, PIVOT, remembered
from bestofl_lib.numbers.forms import form_of, spelled
from bestofl_lib.numbers.marks import MAX_DIGITS, uniform
from bestofl_lib.numbers.written import UNIT_DIGITS, any_number

DECIMAL_MARKS = ("", ".", ",")  # "": by the rule
_EITHER = re.compile(r"(?<![\d.,])(?!0[.,])(\d{1,3})([.,])(\d{3})(?![.,]?\d)")
_LISTED = re.compile(r"(?<![\d.,])\d+,(?:\d{1,2}|\d{4,})(?![.,]?\d)")
_MARKED = re.compile(r"\d[\d.,]*\d|\d|[.,]\d+")
_GROUPS = re.compile(  # several marks that group: 1,234,567.5 and 1.234.567,5; 12,34,567
    r"\d{1,3}(?:,\d{3})*(?:\.\d*)?|\d{1,3}(?:\.\d{3})*(?:,\d*)?|\d{1,2}(?:,\d\d)+,\d{3}(?:\.\d*)?"
)
_KINDS = (  # what a text that is not a number contains -> its kind
    (r"\\(?:d|t)?frac\s*\{?\s*[^\d\s{]|√|\\sqrt|∛", "a root or a fraction of expressions"),
    (r"π|\\pi\b|∞|\\infty", "π or infinity"),
    (r"^\s*(?:\\left\s*)?[\[({⟨]|\\(?:lfloor|lceil|langle|\{|begin)", "a point, set or interval in brackets"),
    (r"[=<>≤≥≈]|\\(?:le|ge|leq|geq|approx|neq|lt|gt)\b", "an equation or inequality"),
    (r"[\^*+_!|]|\\[a-zA-Z]", "an expression"),
    (r"\d[.,]?[^\d.,].*\d|[.,]\d*[.,]", "several numbers"),
    (r"[^\W\d_]", "letters or words"),
)
_TEXT = re.compile(r"\\(?:text|mathrm|textrm|textbf|mathbf|mbox|operatorname|rm)\s*\{([^{}]*)\}")
_SPACING = re.compile(r"\\[,;:! ]|\\(?:quad|qquad|%|\$|degree)|\^\s*\{?\s*\\circ\s*\}?|[$%°′″~{}.?。।]")
_UNIT_LETTERS = "mgslLhtWVAJNKCFd"  # a single letter with a space before it that is a unit rather than a variable


def number_text(value: float | int | Decimal | str) -> str:
    """A number from a file in canonical spelling, however it was written.

    Args:
        value: a number, or its digits with a point as decimal mark and perhaps an exponent.

    Returns:
        Such as "18" or "17/8"; "nan" and "inf" as they are.

    >>> number_text(2.125), number_text(18.0), number_text("1e3")
    ('17/8', '18', '1000')
    """
    written = str(value)
    return str(Fraction(written)) if re.fullmatch(r"[-+]?[\d.]+(?:[eE][-+]?\d{1,4})?", written) else written


def read_number(text: str) -> Fraction | None:
    """The number in a text, with ambiguous marks read as in the pivot language; None if there is no number.

    >>> read_number("1,800"), read_number("3.5 €"), read_number("18 m2"), read_number("n/a"), read_number("2x")
    (Fraction(1800, 1), Fraction(7, 2), Fraction(18, 1), None, None)
    """
    values, fault = possible_values(text, PIVOT)
    return values[0] if values and not fault else None


def possible_values(text: str, code: str, decimal_mark: str = "") -> tuple[tuple[Fraction, ...], str]:
    """The numbers that a reference could be, or what it is instead.

    Args:
        text: a reference; of a worked solution in GSM8K's style, what follows its `####` counts.
        code: language of its row.
        decimal_mark: one of `DECIMAL_MARKS`.

    Returns:
        One value; two where a mark could be either, with thousands first; none, and then the kind of text. One with a
        kind: "3,5" is 7/2 or two numbers where the language's decimal mark is no comma.

    >>> possible_values("1,234", "en"), possible_values("18.000", "en")
    (((Fraction(1234, 1),), ''), ((Fraction(18000, 1), Fraction(18, 1)), ''))
    >>> possible_values("18.000", "en", "."), possible_values(r"11\\sqrt2", "en")
    (((Fraction(18, 1),), ''), ((), 'a root or a fraction of expressions'))
    """
    shown = uniform(text.rsplit("####", 1)[-1]).strip()
    shown = re.sub(r",\s*\\!\s*(?=\d{3})", "", shown).replace("{,}", ",").replace("{.}", ".")
    if decimal_mark:
        written, fault = _with_stated_mark(shown, decimal_mark)
        return _value(written) if not fault else ((), fault)
    doubted = _EITHER.search(shown)
    if doubted is None:
        values, fault = _value(shown)
        listed = _LISTED.search(shown) is not None and LANGUAGES[code].decimal != ","
        return values, "one number or several" if values and listed else fault
    whole = shown[: doubted.start()] + doubted[1] + doubted[3] + shown[doubted.end() :]
    values, fault = _value(whole)
    if fault or (doubted[2] == "," and "," in LANGUAGES[code].groups):
        return values, fault
    decimal = shown[: doubted.start()] + f"{doubted[1]}.{doubted[3]}0" + shown[doubted.end() :]
    return (*values, *_value(decimal)[0]), ""


def expression_text(text: str, code: str, decimal_mark: str = "") -> str | None:
    """The expression that a reference is, as `forms.spelled` writes it; None where it is none by the rule.

    Whether math-verify understands it is not asked here.

    >>> print(expression_text(r"11\\sqrt2", "en"), expression_text("18 or 19", "en"), expression_text("n/a", "en"))
    11\\sqrt{2} None None
    """
    shown = text.rsplit("####", 1)[-1].strip()
    written = spelled(shown, code, decimal_mark)
    form = form_of(written)
    if form is None or re.fullmatch(r"[a-z]", written):
        return None
    if form.kind == "any_order" and not form.brackets:  # a list
        if all(part.number() is not None for part in form.parts) and not re.search(r"[,;]|\\pm", written):
            return None  # 18 or 19: which?
        if re.search(r"\d,\d{3}(?!\d)|^[\d.]+,\d+$", uniform(shown)):
            return None  # 1,234,5 and 3,5
    return written


def _value(shown: str) -> tuple[tuple[Fraction, ...], str]:
    if not shown:
        return (), "nothing"
    if len(re.sub(r"\D", "", shown)) > MAX_DIGITS:
        return (), f"more than {MAX_DIGITS} digits"
    if any(len(re.findall("[.,]", found)) > 1 and not _GROUPS.fullmatch(found) for found in _MARKED.findall(shown)):
        return (), "several numbers"
    number = any_number(shown, 0, PIVOT, words=not re.search(r"\d", shown))
    if number is None or number.value is None or not _is_unit(shown[number.end :]):
        return (), _kind(shown)
    return (number.value,), ""


def _kind(shown: str) -> str:
    return next((kind for pattern, kind in _KINDS if re.search(pattern, shown)), "no number")


def _is_unit(behind: str) -> bool:
    """Whether what follows a number only says of what it is a number: nothing, a percent sign, a currency, a few
    words.
    """
    rest = _SPACING.sub("", UNIT_DIGITS.sub(lambda found: found[0].rstrip("23²³"), _TEXT.sub(r" \1", behind)))
    if re.search(r"[\d\\^*+=<>≤≥≈()\[\]|_√∛π∞!×÷·±;:&#@]", rest) or len(rest) > 60:
        return False
    words = re.findall(r"[^\W\d_]+", rest)
    if {word.lower() for word in words} & _either() or any(_is_greek(word) for word in words):
        return False
    if len(words) == 1 and len(words[0]) == 1 and words[0].isascii():
        return rest[0] == " " and words[0] in _UNIT_LETTERS
    return True


def _is_greek(word: str) -> bool:
    return len(word) == 1 and unicodedata.name(word, "").startswith("GREEK")


@remembered
def _either() -> frozenset[str]:
    return frozenset(word for record in LANGUAGES.values() for word in record.either)


def _with_stated_mark(shown: str, mark: str) -> tuple[str, str]:
    """The text with its numbers written as "1234.50", or why they are not written with this decimal mark."""
    other = "," if mark == "." else "."
    m, o = re.escape(mark), re.escape(other)
    right = re.compile(rf"(?:\d+|\d{{1,3}}(?:{o}\d{{3}})+|\d{{1,2}}(?:{o}\d\d)*{o}\d{{3}}|(?={m}))(?:{m}\d+)?")
    wrong = [found[0] for found in _MARKED.finditer(shown) if not right.fullmatch(found[0])]
    if wrong:
        return shown, f"not written with {mark!r} as decimal mark"

    def rewritten(found: re.Match[str]) -> str:
        written = found[0].replace(other, "").replace(mark, ".")
        return written + "0" if re.search(r"\.\d{3}$", written) else written

    return _MARKED.sub(rewritten, shown), ""
