"""Reads one written number exactly: what references and answers are both compared as.

It knows digits, marks and number words of every language. It does not look for a number in a text: that is
`candidates/reading.py`.
"""

from __future__ import annotations

import re
from fractions import Fraction

from bestofl_lib.candidates.numerals import kanji_at, number_at, plain, words_at


def read_number(text: str, language: str = "en") -> Fraction | None:
    """The number that a text is, with or without a unit behind it; None if it is none or several.

    >>> read_number("1,800"), read_number("3,5 €", "de"), read_number("n/a")
    (Fraction(1800, 1), Fraction(7, 2), None)
    """
    shown = plain(text).strip()
    number = kanji_at(shown, 0, language) or number_at(shown, 0, language) or words_at(shown.lower(), 0, language)
    return number.value if number and not re.search(r"\d", shown[number.end :]) else None


def canonical(value: Fraction) -> str:
    """One spelling for each number.

    >>> canonical(Fraction(36, 2)), canonical(Fraction("3.5"))
    ('18', '7/2')
    """
    return str(value)
