"""Numbers as eleven languages write them: digits of every script, marks, scales, fractions, words.

Everything here looks at one position of a text that `uniform` has normalised, and says which number starts there. It
knows nothing of completions, cues or boxes: which number is the answer is decided in `answers/reading.py`.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

from bestofl_lib.languages import LANGUAGES, PIVOT, remembered
from bestofl_lib.numbers.kanji import KANJI_NEXT, KANJI_NUMBER, KANJI_PARTS, kanji_at, kanji_parts, kanji_value
from bestofl_lib.numbers.marks import A_DIGIT, MAX_DIGITS, NUMBER, Number, value_of, whole
from bestofl_lib.numbers.words import words_of
from bestofl_lib.text import trie

_NUMBER = re.compile(NUMBER)

SIGNS = "$€£¥₹₽฿৳₩₺₫₴₦₱₿₸₪₵"
_SIGN = re.compile(rf"[-+–](?=\\?[{SIGNS}]?\s?[\d.\\])\s?|\+")
_CURRENCY = re.compile(rf"\\?[{SIGNS}]\s?|\\text\{{\s*[{SIGNS}]\s*\}}\s?")
VULGAR = {c: Fraction(unicodedata.numeric(c)).limit_denominator(1000) for c in "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅐⅛⅜⅝⅞⅑⅒"}
_FRAC = re.compile(
    r"\\[dtc]?frac\s*(?:\{\s*(?P<n>-?\s*\d[\d.,]*)\s*\}\s*\{\s*(?P<d>\d[\d.,]*)\s*\}"
    r"|(?P<n1>\d)\s*(?P<d1>\d)|(?P<n2>\d)\s*\{(?P<d2>\d+)\})"
)
_SLASH = re.compile(r"\s?/\s?(\d{1,12})(?![\d.,]*\d)")
_POWER_OF_TEN = re.compile(r"\s*(?:\\times|×|·|\*|\\cdot|x)\s*10\s*(?:\^|\*\*)\s*+(?:\{\s*+)?(-?\d{1,3})\s*\}?(?!\d)")
_E = re.compile(r"[eE]([+-]?\d{1,3})(?!\w|\.\d)")
_REPEATING = re.compile(r"(\d+)\.(\d*)\\overline\{(\d{1,20})\}")
_MINUS = re.compile(r"[-–](?=\d)")
_MARKED = re.compile(r"[\d.,]+")
_FRAC_BEHIND = re.compile(r"\s*+(?:\\[,; ]\s*+)?(?=\\[dtc]?frac)")
_BLANK = re.compile(r"\s")
_NOTHING_MORE = frozenset(",.;:!?()[]{}$%=+-–<>|\"'&#@_^~`。、，")  # behind digits: no fraction, power or scale follows


_BLANK_ON_LINE = r"[^\S\n]"


@remembered
def _mixed() -> re.Pattern[str]:
    """The fraction of a mixed number: 2 1/2, 2 and 1/2, 2と1/2."""
    spaced = "|".join(
        sorted({re.escape(w) for r in LANGUAGES.values() for w in (*r.both, *r.joins)}, key=len, reverse=True)
    )
    joined = "|".join(sorted({re.escape(w) for r in LANGUAGES.values() if r.runs_on for w in r.both}))
    return re.compile(
        rf"(?:{_BLANK_ON_LINE}|\\[,; ]|{_BLANK_ON_LINE}+(?:{spaced})(?:\s+a)?\s|{joined}){_BLANK_ON_LINE}*"
        r"(\d{1,4})/(\d{1,4})(?!\d)"
    )


@remembered
def _scales(code: str) -> tuple[re.Pattern[str], dict[str, int]]:
    """What may follow a number and multiply it: this language's words before English's before all others'.

    Short Latin words of other languages do not count: "bin" is a thousand in Turkish only.
    """
    table: dict[str, int] = {"k": 1000}
    for other in (code, PIVOT, *LANGUAGES):
        for word, scale in LANGUAGES[other].scales:
            if other not in (code, PIVOT) and len(word) < 5 and word.isascii():
                continue
            for form in {
                word,
                word.capitalize(),
                unicodedata.normalize("NFD", word),
                unicodedata.normalize("NFC", word),
            }:
                table.setdefault(form, scale)
    cased = trie(w for w in table if w[0].upper() != w[0].lower() and w != "k")
    free = trie(w for w in table if w[0].upper() == w[0].lower())
    return re.compile(rf"(?:\s|\\[, ]|\\text\{{\s*)?\s?(?:({cased})(?![^\W\d_])|({free})(?![るりっ]))|(k)(?!\w)"), table


@remembered
def _leading() -> tuple[re.Pattern[str], dict[str, int]]:
    table = {form: n for r in LANGUAGES.values() for w, n in r.leading_scales for form in (w, w.capitalize())}
    return re.compile(rf"({'|'.join(table)})\s+(?=\d)"), table


@remembered
def _plain() -> re.Pattern[str]:
    """Digits with nothing behind them that could belong to the number: by far the most numbers."""
    records = LANGUAGES.values()
    words = {w for r in records for w in (*r.both, *r.joins, *(scale for scale, _ in r.scales))}
    forms = {form for w in words for case in (w, w.capitalize()) for form in _both_forms(case)}
    apart = trie(w for w in forms if w[0].upper() != w[0].lower())
    joined = trie(w for w in forms if w[0].upper() == w[0].lower())
    longer = rf"(?:{apart}|k)(?![^\W\d_])|{joined}|{KANJI_NEXT.pattern}|[x分{''.join(VULGAR)}]"
    return re.compile(
        r"[0-9]{1,18}+(?=$|[;!?()\[\]}$%=+<>|\"&#@_^`。、–-]|[.,:](?:$|[^0-9\\])|[ \n][+=–\n(-]"
        r"|[ ]?\\[()\[\]]|\*\*|[ \n](?:[×*·]|\\times|\\div)[ ]?(?!10)[0-9]"
        rf"|(?:[ ]|(?![eE]))(?!{longer})[^\W\d_])"
    )


def number_at(text: str, at: int, code: str) -> Number | None:
    """The number that starts exactly at `at`, with its sign, scale, fraction or power of ten; None if none starts
    there.

    Args:
        text: uniform, see `uniform`.
        at: place in it.
        code: language whose conventions come first.
    """
    if plain := _plain().match(text, at):
        return Number(whole(plain[0]), at, plain.end())
    if text[at : at + 1].isdigit():
        return _unsigned(text, at, code)
    start, negative = at, False
    if sign := _SIGN.match(text, at):
        negative, at = sign[0][0] in "-–", sign.end()
    if currency := _CURRENCY.match(text, at):
        at = currency.end()
        if sign2 := _MINUS.match(text, at):
            negative, at = True, sign2.end()
    if not at < len(text):
        return None
    found = _unsigned(text, at, code)
    if found is None:
        return None
    value = -found.value if negative and found.value is not None else found.value
    return Number(value, start, found.end, found.note)


def _unsigned(text: str, at: int, code: str) -> Number | None:
    char = text[at]
    if char == "\\":
        if fraction := _FRAC.match(text, at):
            return _fraction(fraction, at, Fraction(0), code)
        return None
    if char in VULGAR:
        return Number(VULGAR[char], at, at + 1)
    if char.isalpha():
        pattern, table = _leading()
        if leading := pattern.match(text, at):
            inner = _unsigned(text, leading.end(), code)
            if inner and inner.value is not None:
                return Number(inner.value * table[leading[1]], at, inner.end, inner.note)
        return None
    match = _NUMBER.match(text, at)
    if match is None:
        return None
    follows = text[match.end() : match.end() + 2]
    if follows[:1] == "分" and (parts := KANJI_PARTS.match(text, at)):
        return kanji_parts(parts, code)
    if char != "." and KANJI_NEXT.match(follows):
        kanji = KANJI_NUMBER.match(text, at)
        if kanji and kanji.end() > match.end():
            return Number(kanji_value(kanji[0], code), at, kanji.end())
    if "\\" in follows and (repeating := _REPEATING.match(text, at)) and len(repeating[0]) <= MAX_DIGITS:
        whole, fixed, period = repeating[1], repeating[2], repeating[3]
        nines = 10 ** len(fixed) * (10 ** len(period) - 1)
        return Number(Fraction(int(whole + fixed + period) - int(whole + fixed), nines), at, repeating.end())
    end = match.end()
    value, note = value_of(match[0], code)
    if follows[:1] in (",", ".") and follows[1:].isdigit():
        rest = _MARKED.match(text, end)
        return Number(None, at, rest.end() if rest else end, f"{text[at : end + 8]!r}: marks in no known order")
    if value is None:
        return Number(None, at, end, note)
    if follows[:1] == ":" and follows[1:].isdigit():
        return Number(None, at, end, f"{text[at : end + 3]!r}: a time or a ratio")
    if not follows or follows[0] in _NOTHING_MORE:
        return Number(value, at, end, note)
    if follows[0] in VULGAR:
        return Number(value + VULGAR[follows[0]], at, end + 1, note)
    if follows[0] in "eE" and (power := _E.match(text, end)):
        return Number(value * Fraction(10) ** int(power[1]), at, power.end(), note)
    if slash := _SLASH.match(text, end):
        if int(slash[1]) == 0:
            return Number(None, at, slash.end(), "division by zero")
        return Number(value / int(slash[1]), at, slash.end(), note)
    if value.denominator == 1:
        if fraction := _FRAC_BEHIND.match(text, end):
            behind = _FRAC.match(text, fraction.end())
            if behind:
                return _fraction(behind, at, value, code)
        if (mixed := _mixed().match(text, end)) and 0 < int(mixed[1]) < int(mixed[2]):
            return Number(value + Fraction(int(mixed[1]), int(mixed[2])), at, mixed.end(), note)
    if power := _POWER_OF_TEN.match(text, end):
        return Number(value * Fraction(10) ** int(power[1]), at, power.end(), note)
    if scale := _scales(code)[0].match(text, end):
        return _scaled(text, at, value, scale, code)
    return Number(value, at, end, note)


def _scaled(text: str, at: int, value: Fraction, scale: re.Match[str], code: str) -> Number:
    """A number that starts at `at` times its scale word and what follows: 3 lakh 50 thousand, 5 thousand 600."""
    pattern, table = _scales(code)
    factor = table[scale[1] or scale[2] or scale[3]]
    value, end = value * factor, scale.end()
    while more := _BLANK.match(text, end):
        part = _NUMBER.match(text, more.end())
        inner_value = value_of(part[0], code)[0] if part else None
        if part is None or inner_value is None:
            break
        step = pattern.match(text, part.end())
        inner_factor = table[step[1] or step[2] or step[3]] if step else 1
        if inner_value * inner_factor >= factor or (step is None and factor > 1000):
            break
        value, end, factor = value + inner_value * inner_factor, step.end() if step else part.end(), inner_factor
    return Number(value, at, end)


def _fraction(match: re.Match[str], at: int, whole: Fraction, code: str) -> Number:
    top, bottom = (match["n"] or match["n1"] or match["n2"]), (match["d"] or match["d1"] or match["d2"])
    negative = top.startswith("-")
    numerator, _ = value_of(top.lstrip("- "), code)
    denominator, _ = value_of(bottom, code)
    if numerator is None or not denominator:
        return Number(None, at, match.end(), "not a fraction")
    part = numerator / denominator
    return Number(whole + (-part if negative else part), at, match.end())


def words_at(text: str, at: int, code: str) -> Number | None:
    """The number in words of one language that starts at `at`, longest first; None if none does."""
    pattern, fractions, parts = _fraction_words(code)
    if alone := pattern.match(text, at):
        return Number(fractions[alone[0].lower()], at, alone.end())
    found = words_of(code).parse(text, at)
    if found is None:
        return None
    value, end = found
    if (word := _WORD_BEHIND.match(text, end)) and value < parts.get(word[1].lower(), 0):
        return Number(Fraction(value, parts[word[1].lower()]), at, word.end(), "number words read as a fraction")
    return Number(Fraction(value), at, end)


_WORD_BEHIND = re.compile(r"[\s-]([^\W\d_]+)")


@remembered
def _fraction_words(code: str) -> tuple[re.Pattern[str], dict[str, Fraction], dict[str, int]]:
    """Words of a language that are fractions, and those that make a fraction of the number word before them."""
    record = LANGUAGES[code]
    table = {form: Fraction(value) for word, value in record.fractions for form in _both_forms(word)}
    words = "|".join(re.escape(word) for word in sorted(table, key=len, reverse=True))
    behind = "" if record.runs_on else r"(?![^\W_])"
    return re.compile(rf"(?:{words or '(?!)'}){behind}", re.IGNORECASE), table, dict(record.parts)


@remembered
def _halves() -> tuple[re.Pattern[str], re.Pattern[str], tuple[str, ...]]:
    """Words that add one half: those behind a number, how they stand there (perhaps behind a unit), and those before
    it.
    """
    apart = {w for r in LANGUAGES.values() if not r.runs_on for w in r.halves}
    joined = {form for r in LANGUAGES.values() if r.runs_on for w in r.halves for form in _both_forms(w)}
    after = [re.escape(w) for r in LANGUAGES.values() for w in r.after_halves]
    leading = {form for r in LANGUAGES.values() for w in r.leading_halves for form in _both_forms(w)}
    behind = re.compile(
        rf"(?:\s?[^\s\d.,;:!?()=+*/<>。，、-]{{1,14}}?)??\s?(?:(?:{'|'.join(apart)})(?![^\W\d_])"
        rf"|(?:{'|'.join(joined)})(?=[\s.,!?)*。，、）」}}\\]|$|{'|'.join(after)}))"
    )
    return re.compile(trie([*apart, *joined])), behind, tuple(leading)


def with_half(text: str, number: Number) -> Number:
    """The number and the half that a word adds to it: two hours and a half, 2時間半, সাড়ে তিন.

    Whole numbers only; a number in a text that says no half is returned as it is.
    """
    if number.value is None or number.value.denominator != 1:
        return number
    words, pattern, leading = _halves()
    if words.search(text, number.end, number.end + 32) and (found := pattern.match(text, number.end)):
        return Number(number.value + _half(number.value), number.start, found.end(), number.note)
    before = text[max(0, number.start - 8) : number.start].rstrip()
    if before.endswith(leading):
        word = next(word for word in leading if before.endswith(word))
        start = text.rindex(word, 0, number.start)
        return Number(number.value + _half(number.value), start, number.end, number.note)
    return number


def _half(value: Fraction) -> Fraction:
    return Fraction(-1 if value < 0 else 1, 2)


def _both_forms(word: str) -> set[str]:
    return {unicodedata.normalize(form, word) for form in ("NFC", "NFD")} | {word}


def numbers_in(text: str, start: int, end: int, code: str) -> list[Number]:
    """All numbers in digits between two places, left to right; digits inside a Latin word (CO2, m2) are none.

    Time: linear, since each number is passed over once.
    """
    found: list[Number] = []
    at = start
    window = text[:end] if end < len(text) else text
    while hit := _START.search(window, at, end):
        number = number_at(window, hit.start(), code)
        if number is None:
            at = hit.end()
            continue
        found.append(number)
        at = max(number.end, hit.end())
    return found


_DIGIT = r"\d½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"
# each alternative starts with its character and looks behind it then: the search passes over all others at once
_START = re.compile(
    rf"[-–](?<![\w)\]}}$%][-–])(?=\\?[{SIGNS}]?\d)|[{_DIGIT}](?<![A-Za-z0-9_^][{_DIGIT}])(?<![A-Za-z]\{{[{_DIGIT}])"
    r"|\\[dtc]?frac|\.(?<![\d\w.]\.)(?=\d)"
)


_COUNTERS = frozenset(
    "个個人元円块塊本枚匹頭头台名歳岁年月日天时時分秒小ド美欧只隻条條件箱袋杯瓶张張页頁次回倍点點米公英升克斤千で"
    "。．.,、，!！)）*\\}」]%\n "
)
# the 2 of m2
UNIT_DIGITS = re.compile(r"(?:[a-zA-Z]|\\text\{[^{}]*\}|\})\s*+(?:\^\s*+)?(?:\{\s*+)?[23](?![\d.,])|[²³]")


def any_number(text: str, at: int, code: str, words: bool) -> Number | None:
    """A number at this place: in digits, or (where no digits follow) in Chinese characters or in words; see
    `with_half`.
    """
    number = _any_number(text, at, code, words)
    return with_half(text, number) if number else None


def _any_number(text: str, at: int, code: str, words: bool) -> Number | None:
    if at >= len(text):
        return None
    number = number_at(text, at, code)
    if number is not None:
        return number
    kanji = kanji_at(text, at, code)
    if kanji is not None:
        lone = kanji.end - kanji.start == 1
        follows = text[kanji.end : kanji.end + 1]
        if A_DIGIT.search(text, kanji.start, kanji.end) or (
            words and (not lone or not follows or follows in _COUNTERS)
        ):
            return kanji
    if words:
        for known in dict.fromkeys((code, PIVOT)):
            spoken = words_at(text, at, known)
            if spoken is not None and (
                spoken.value != 1
                or not text[spoken.end : spoken.end + 2].strip(" *_\n")
                or text[spoken.end] in ".!,।。"
            ):
                return spoken
    return None


def canonical(value: Fraction) -> str:
    """One spelling for each number: "18", "-5", "7/2".

    >>> canonical(Fraction(36, 2)), canonical(Fraction("3.5"))
    ('18', '7/2')
    """
    return str(value)
