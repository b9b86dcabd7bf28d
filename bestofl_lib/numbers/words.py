"""Number words, turned back into numbers: num2words inverted once per language, by table where it has none.

Only whole numbers from 0 on. Chinese and Japanese characters are read in `kanji.py`; this file does not know cues,
and it does not guess: a phrase that it knows only in part is no number.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any

from num2words import num2words

from bestofl_lib.languages import LANGUAGES, remembered

_BLANKS = re.compile(r"\s+")
_GAP = re.compile(r"[\s\-]*")
_LONGEST = 40  # characters of the longest phrase in the table


@remembered
def joining_words() -> str:
    """A pattern for "and" within numbers, of all languages."""
    return "|".join(sorted({re.escape(word) for record in LANGUAGES.values() for word in record.joins}))


def _composed(grammar: dict[str, Any], n: int) -> Iterator[str]:
    """A number below 1,000 by a table of units and tens, in a language that puts "hundred" before its number."""
    if n == 0:
        yield grammar["zero"]
        return
    units, tens = ("", *grammar["units"]), ("", *grammar["tens"])
    below = grammar["tens_join"].join(word for word in (tens[n % 100 // 10], units[n % 10]) if word)
    if n < 100:
        yield below
        return
    yield f"{grammar['hundred']} {units[n // 100]}"
    if n == 100:
        yield grammar["hundred"]


class Words:
    """The number words of one language."""

    def __init__(self, code: str):
        record = LANGUAGES[code]
        self.table: dict[str, int] = {}  # 0 to 99 and the hundreds; the rest is composed
        if record.grammar:
            for n in (*range(100), *range(100, 1000, 100)):
                for spelling in _composed(dict(record.grammar), n):
                    self._add(spelling, n)
        elif record.spelled:
            try:
                self._invert(code)
            except NotImplementedError:  # num2words does not know the language: only the record's own words count
                self.table.clear()
        for word, n in record.number_words:
            self._add(word, n)
        self.join = re.compile(rf"[\s,\-]*(?:(?:{joining_words()})\s)?\s*")
        self.next_word = re.compile(rf"[\s\-]+(?:(?:{joining_words()})\s+)?([^\W\d_]+)")
        self.scales: dict[str, int] = {}
        for word, scale in (*record.scales, *record.leading_scales):
            for form in _forms(word):
                self.scales[form] = scale
        self.lengths = {id(table): _lengths(table) for table in (self.table, self.scales)}
        self.firsts = {letter for lengths in self.lengths.values() for letter in lengths}
        self.leading = bool(record.leading_scales)
        self.runs_on = record.runs_on
        self.compounds = record.compound_numbers
        self.halves = record.halves

    def _invert(self, code: str) -> None:
        for n in (*range(100), *range(100, 1000, 100)):
            self._add(num2words(n, lang=code), n)
            for case in LANGUAGES[code].cases:
                self._add(num2words(n, lang=code, case=case), n)
        one = num2words(1, lang=code)
        # the form before a summand: "trois cent" un, "ciento" uno, "three hundred and" one
        for n in range(100, 1000, 100):
            joined = num2words(n + 1, lang=code)
            if joined.endswith(one) and len(joined) > len(one):
                self._add(joined.removesuffix(one).strip().removesuffix(" and"), n)

    def _add(self, spelling: str, n: int) -> None:
        for form in _forms(spelling):
            for variant in {
                form,
                form.replace("-", " "),
                form.replace(" and ", " ").replace("-", " "),
                form.replace(", ", " "),
            }:
                self.table.setdefault(variant, n)

    def _longest(self, text: str, at: int, table: dict[str, int], follows_scale: bool) -> tuple[int, int] | None:
        piece = text[at : at + _LONGEST]
        for length in self.lengths[id(table)].get(piece[:1], ()):
            value = table.get(piece[:length])
            if value is None or length > len(piece):
                continue
            rest = text[at + length : at + length + 20]
            if (
                self.runs_on
                or self.compounds
                or not rest[:1].isalpha()
                or (follows_scale and any(rest.startswith(s) for s in self.scales))
            ):
                return value, at + length
        return None

    def parse(self, text: str, at: int) -> tuple[int, int] | None:
        """The value of the longest number phrase starting at `at` and where it ends."""
        if text[at : at + 1].lower() not in self.firsts:
            return None
        text = text[at : at + 300]
        lowered = text.lower()
        if len(lowered) != len(text) or not self.table:
            return None
        total, place, last = 0, 0, None
        while True:
            joined = self.join.match(lowered, place) if last is not None else None
            begin = joined.end() if joined else place
            step = self._step(lowered, begin)
            if step is None or (last is not None and step[1] >= last) or (last == 1):
                break
            total, last, place = total + step[0], step[1], step[2]
        attached = self.runs_on or lowered.startswith(self.halves, place)
        if last is None or (not attached and lowered[place : place + 2].lstrip("-")[:1].isalpha()):
            return None  # another word begins here: twenty-first
        if (more := self.next_word.match(lowered, place)) and (more[1] in self.table or more[1] in self.scales):
            return None  # the number continues with unknown words: no number rather than its first part
        return total, at + place

    def _step(self, text: str, at: int) -> tuple[int, int, int] | None:
        """One summand: (value, its scale, end)."""
        if self.leading:
            scale = self._longest(text, at, self.scales, False)
            if scale and (space := _BLANKS.match(text, scale[1])):
                factor = self._below_thousand(text, space.end(), last=True)
                if factor:
                    return factor[0] * scale[0], scale[0], factor[1]
            return self._without_scale(text, at)
        number = self._below_thousand(text, at)
        if number is None:
            scale = self._longest(text, at, self.scales, True)  # mil quinientos, тысяча сто
            return (scale[0], scale[0], scale[1]) if scale and scale[0] >= 1000 else None
        gap = _GAP.match(text, number[1])
        scale = self._longest(text, gap.end() if gap else number[1], self.scales, True)
        if scale:
            return number[0] * scale[0], scale[0], scale[1]
        return number[0], 1, number[1]

    def _without_scale(self, text: str, at: int) -> tuple[int, int, int] | None:
        number = self._below_thousand(text, at)
        return (number[0], 1, number[1]) if number else None

    def _below_thousand(self, text: str, at: int, last: bool = False) -> tuple[int, int] | None:
        """The number below 1,000 that starts here; with `last` only one word group: "elfu tano mia sita" is 5,600."""
        number = self._longest(text, at, self.table, True)
        if number is None or last or number[0] < 100:
            if number and not last and number[0] in range(20, 100, 10):  # feminine units: семьдесят одна тысяча
                joined = self.join.match(text, number[1])
                unit = self._longest(text, joined.end() if joined else number[1], self.table, True)
                if unit and 0 < unit[0] < 10:
                    return number[0] + unit[0], unit[1]
            return number
        joined = self.join.match(text, number[1])
        rest = self._below_thousand(text, joined.end() if joined else number[1])
        return (number[0] + rest[0], rest[1]) if rest and 0 < rest[0] < 100 else number


def _lengths(table: dict[str, int]) -> dict[str, list[int]]:
    """First letter -> how long the words with it are, longest first."""
    found: dict[str, set[int]] = {}
    for word in table:
        if 0 < len(word) <= _LONGEST:
            found.setdefault(word[0], set()).add(len(word))
    return {letter: sorted(lengths, reverse=True) for letter, lengths in found.items()}


def _forms(word: str) -> set[str]:
    word = word.lower()
    return {word, unicodedata.normalize("NFC", word), unicodedata.normalize("NFD", word)}


@remembered
def words_of(code: str) -> Words:
    """The number words of a language, built at first use (some tens of milliseconds)."""
    return Words(code)
