"""Numbers in Chinese characters, with or without digits among them: 十八, 7万, 三分之二."""

from __future__ import annotations

import re
from fractions import Fraction

from bestofl_lib.numbers.marks import Number, value_of

_KANJI = {
    c: n
    for n, cs in enumerate(
        ("〇零", "一壱壹", "二弐贰貳两兩", "三参叁參", "四肆", "五伍", "六陆陸", "七柒", "八捌", "九玖")
    )
    for c in cs
}
_KANJI_UNITS = {"十": 10, "拾": 10, "百": 100, "佰": 100, "千": 1000, "仟": 1000}
_KANJI_MYRIADS = {"万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8, "兆": 10**12}
_K = "".join(_KANJI) + "".join(_KANJI_UNITS) + "".join(_KANJI_MYRIADS)
_U = "".join(_KANJI_UNITS) + "".join(_KANJI_MYRIADS)
KANJI_NUMBER = re.compile(rf"(?:\d+(?:[,.]\d+)*\s?(?=[{_U}])|[{_K}]|(?<=[{_U}])\s?\d+(?:,\d{{3}})*(?!\d))+")
KANJI_NEXT = re.compile(rf"\s?[{_U}]|[,.]")  # behind digits: they may be part of a longer number
# 三分之二, 3分の2, 百分之二十
KANJI_PARTS = re.compile(
    rf"(\d{{1,18}}|[{_K}]{{1,30}})\s?分[之の]\s?(\d{{1,18}}(?:\.\d{{1,18}})?(?!\d)|[{_K}]{{1,30}})"
)
_KANJI_TOKEN = re.compile(rf"\d+(?:[,.]\d+)*|[{_K}]")


def kanji_value(written: str, code: str) -> Fraction:
    total, section, current = Fraction(0), Fraction(0), None
    for token in _KANJI_TOKEN.findall(written):
        if token in _KANJI_MYRIADS:
            section += current or 0
            total, section, current = total + (section or 1) * _KANJI_MYRIADS[token], Fraction(0), None
        elif token in _KANJI_UNITS:
            section, current = section + (1 if current is None else current) * _KANJI_UNITS[token], None
        elif token in _KANJI:
            current = Fraction(_KANJI[token]) if current is None else current * 10 + _KANJI[token]
        else:
            current = value_of(token, code)[0] or Fraction(0)
    return total + section + (current or 0)


def kanji_parts(match: re.Match[str], code: str) -> Number:
    """三分之二 is 2/3; a hundredth part is a percentage, and 20 % is read as 20."""
    bottom, top = (Fraction(part) if part[0].isdigit() else kanji_value(part, code) for part in match.groups())
    if not bottom:
        return Number(None, match.start(), match.end(), "division by zero")
    return Number(top if bottom == 100 else top / bottom, match.start(), match.end())


def kanji_at(text: str, at: int, code: str) -> Number | None:
    """The number in Chinese characters, with or without digits among them, that starts at `at`."""
    match = KANJI_NUMBER.match(text, at)
    if match is None or len(match[0]) > 60:
        return None
    if text[match.end() : match.end() + 1] == "分" and (parts := KANJI_PARTS.match(text, at)):
        return kanji_parts(parts, code)
    return Number(kanji_value(match[0], code), at, match.end())
