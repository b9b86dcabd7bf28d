"""Digits of every script and the marks between them: what 1,000, 1.000 and 1 000 are in which language.

It knows no signs before a number and no words behind it; those are read in `written.py`.
"""

from __future__ import annotations

import itertools
import re
import sys
import unicodedata
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from bestofl_lib.languages import LANGUAGES

THREE_DIGITS = "three digits after the mark read as thousands"  # the note where the ambiguous mark was decided
MAX_DIGITS = 300  # a longer run of digits is never an answer; converting it would only take time

# One character for one character, so that places in the uniform text are places in the original.
_UNIFORM = {
    code: ord("0") + unicodedata.digit(chr(code))
    for code in range(0x660, sys.maxunicode + 1)
    if unicodedata.category(chr(code)) == "Nd"
} | {
    ord(a): b
    for a, b in {
        "−": "-",
        "－": "-",
        "﹣": "-",
        "‐": "-",
        "‑": "-",
        "＋": "+",
        "＝": "=",
        "／": "/",
        "⁄": "/",
        "∕": "/",
        "％": "%",
        "﹪": "%",
        "٪": "%",
        "，": ",",
        "．": ".",
        "٫": ".",
        "٬": ",",
        "：": ":",
        "∶": ":",
        "（": "(",
        "）": ")",
        "＄": "$",
        "﹩": "$",
        "￥": "¥",
        "￡": "£",
        "　": " ",
        "＊": "*",
        "［": "[",
        "］": "]",
        "｛": "{",
        "｝": "}",
        "～": "~",
        "ｘ": "x",
        "✕": "×",
        "∗": "*",
        "⋅": "·",
        "∙": "·",
    }.items()
}

UNIFORM = {chr(code): chr(to) if isinstance(to, int) else to for code, to in _UNIFORM.items()}
_IN_UTF_16 = np.arange(0x10000, dtype="<u2")  # what each code of the basic plane becomes
for _char, _becomes in UNIFORM.items():
    if ord(_char) < len(_IN_UTF_16):
        _IN_UTF_16[ord(_char)] = ord(_becomes)

_WRITTEN = {to: [to, *(char for char, becomes in UNIFORM.items() if becomes == to)] for to in set(UNIFORM.values())}


def written_forms(text: str) -> list[str]:
    """Every text that `uniform` turns into this one: what to look for in the original.

    >>> written_forms("a:b")
    ['a:b', 'a：b', 'a∶b']
    """
    return ["".join(form) for form in itertools.product(*(_WRITTEN.get(char, [char]) for char in text))]


_SPACE = r"(?:[ \u00a0\u2007-\u200a\u202f'’]|\\[,;:! ]|~|\{ \}|\\thinspace )"
_MARK = r"(?:[,.]|\{[,.]\}|\{\\[,]\}|,\\!)"
_GROUP = rf"(?:{_SPACE}|{_MARK})"
NUMBER = (
    rf"(?:\d{{1,3}}(?P<west>{_GROUP})\d{{3}}(?:(?P=west)\d{{3}})*+(?!\d)(?:{_MARK}\d++)?"
    rf"|\d{{1,2}}(?P<india>{_GROUP})\d\d(?:(?P=india)\d\d)*(?P=india)\d{{3}}(?!\d)(?:{_MARK}\d++)?"
    rf"|\d++(?:{_MARK}\d++)?"
    r"|\.\d++)"
)
_NOT_DIGIT_OR_MARK = re.compile(r"[^\d,.]+")
_SPACES = re.compile(_SPACE)
A_DIGIT = re.compile(r"\d")


class Number(NamedTuple):
    """A number found in a text; a tuple, because many are made: four times quicker than a frozen dataclass."""

    value: Fraction | None  # None: something like a number, but not one; the note says what
    start: int
    end: int  # past scales and fractions, before percent signs and units
    note: str = ""


def uniform(text: str) -> str:
    """The text with uniform digits, signs and marks; every character keeps its place.

    >>> uniform("১৮ und −５６００")
    '18 und -5600'
    """
    if text.isascii():
        return text
    codes = text.encode("utf-16-le", "surrogatepass")
    if len(codes) == 2 * len(text):
        same = _IN_UTF_16[np.frombuffer(codes, "<u2")].tobytes().decode("utf-16-le", "surrogatepass")
        if len(same) == len(text):  # else two halves of a surrogate pair, given one by one, became one character
            return same
    for char in set(text) & UNIFORM.keys():
        text = text.replace(char, UNIFORM[char])
    return text


@lru_cache(maxsize=65_536)
def whole(digits: str) -> Fraction:
    return Fraction(int(digits))


def value_of(written: str, code: str) -> tuple[Fraction | None, str]:
    """The value of digits with marks, and a note where the rule of three digits or a foreign mark decided.

    A mark followed by exactly three digits, after one to three digits that are not a lone 0, groups thousands in every
    language; otherwise the language's convention, then English's.

    >>> value_of("1,14,200", "bn"), value_of("2.125", "en")[0], value_of("0.125", "en")[0]
    ((Fraction(114200, 1), ''), Fraction(2125, 1), Fraction(1, 8))
    """
    if written.isdigit():
        return (whole(written), "") if len(written) <= MAX_DIGITS else (None, f"{len(written)} digits")
    compact = written if written.isascii() and "\\" not in written else _SPACES.sub(" ", written.replace(",\\!", ","))
    compact = _SPACES.sub("", compact.replace("{ }", " ").replace("{,}", ",").replace("{.}", "."))
    spaced = len(compact) < len(written) and " " in _SPACES.sub(" ", written.replace(",\\!", ","))
    compact = _NOT_DIGIT_OR_MARK.sub("", compact)
    if len(compact) > MAX_DIGITS:
        return None, f"{len(compact)} characters"
    commas, dots = compact.count(","), compact.count(".")
    mark, note = "", ""
    if commas and dots:
        mark = "," if compact.rfind(",") > compact.rfind(".") else "."
        if compact.count(mark) > 1:
            return None, "marks in no known order"
    elif commas + dots == 1:
        here = "," if commas else "."
        before, after = compact.split(here)
        groups = len(after) == 3 and 1 <= len(before) <= 3 and before != "0" and not spaced
        if not groups:
            mark = here
        if groups and here != LANGUAGES[code].groups[0]:
            note = f"{written!r}: {THREE_DIGITS}"
        elif not groups and here == "," and LANGUAGES[code].decimal != "," and before:
            note = f"{written!r}: comma read as decimal mark"
    digits, _, decimals = (
        compact.replace("," if mark == "." else ".", "").partition(mark)
        if mark
        else (compact.replace(",", "").replace(".", ""), "", "")
    )
    return Fraction(int((digits or "0") + decimals), 10 ** len(decimals)), note
