r"""Expressions as answers, taken apart: a tuple, set, interval, matrix, equation or option into the values it holds.

What an expression consists of is read here by its brackets and separators; whether two values are equal is asked of
math-verify in `algebra.py`. So (1, 2) is never {1, 2}, [0, 1] never (0, 1), and a text that is not understood as a
whole has no form: no number is picked out of it.

**The marks.** In `(1,5; 2)` or `(1,5, 2)` the comma without a blank belongs to its number; in `(1,5)` it separates.
Outside brackets `2,5\pi` is 5/2 π where the language's decimal mark is a comma.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction

from bestofl_lib.languages import LANGUAGES, PIVOT, remembered
from bestofl_lib.numbers.marks import MAX_DIGITS, uniform
from bestofl_lib.numbers.written import canonical, number_at
from bestofl_lib.text import trie

MAX_CHARACTERS = 300  # a longer text is no answer


@dataclass(frozen=True)
class Form:
    """One answer, taken apart."""

    kind: str  # "value", "text", "ordered" (tuple, interval), "any_order" (list, set), "union", "matrix", "relation"
    text: str  # of a value, its LaTeX without unit; of words, themselves in lower case; of a relation, all of it
    parts: tuple[Form, ...] = ()  # what a tuple, set, union or matrix holds
    brackets: str = ""  # "()", "[)", …; "{}" of a set; "| |" of a determinant
    name: str = ""  # what it is said to be equal to: x in x = 3; empty: nothing
    unit: str = ""  # "cm", "%", …; empty: none, or one that is not known

    def values(self) -> list[str]:
        """The LaTeX of every value and relation inside, in order."""
        own = [self.text] if self.kind in ("value", "relation") and self.number() is None else []
        return own + [text for part in self.parts for text in part.values()]

    def number(self) -> Fraction | None:
        """The exact value of a written number; None for everything else."""
        return _number(self.text) if self.kind == "value" else None


def spelled(text: str, code: str = PIVOT, decimal_mark: str = "") -> str:
    r"""One spelling for an expression, in LaTeX: what differs only in writing is the same text.

    Args:
        text: as a model or a data set wrote it, without the box around it.
        code: the language whose marks its numbers have.
        decimal_mark: "." or ",", instead of the language's.

    >>> spelled(r"$\left( \dfrac12 ,\, 3√2 \right)$"), spelled(r"2,5\pi", "de")
    ('(\\frac{1}{2}, 3\\sqrt{2})', '2.5\\pi')
    """
    shown = _OUTER.sub("", uniform(text).strip()).strip()
    for pattern, put in _SPELLINGS:
        shown = pattern.sub(put, shown)
    shown = _with_english_marks(shown.strip(), decimal_mark or LANGUAGES[code].decimal)
    shown = _without_blanks(shown)
    number = _number(shown)
    return canonical(number) if number is not None else shown


def form_of(text: str) -> Form | None:
    r"""What an expression consists of.

    Args:
        text: from `spelled`.

    Returns:
        Its form; None where some part of it is no expression, such as words among numbers.

    >>> [part.text for part in form_of(spelled(r"[0, \frac{\pi}{2})")).parts], form_of("3 apples or more")
    (['0', '\\frac{\\pi}{2}'], None)
    """
    return None if not text or len(text) > MAX_CHARACTERS else _form(text, 0)


# -- spelling ----------------------------------------------------------------------------------------------------------

_OUTER = re.compile(r"^(?:\\\[|\\\(|\$+)\s*|\s*(?:\\\]|\\\)|\$+)$")
_SPELLINGS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), put)
    for pattern, put in (
        (r"\\(?:left|right|[bB]igg?[lr]?|displaystyle|textstyle|limits|boldsymbol|mathbf|bf)(?![a-zA-Z])\s*\.?", ""),
        (r"\\[dtc]frac(?![a-z])", r"\\frac"),
        (r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
        (r"\\frac\s*(\d)\s*\{", r"\\frac{\1}{"),
        (r"(\\frac\s*\{[^{}]*\})\s*(\d)", r"\1{\2}"),
        (r"\\(?:mathrm|textbf|textrm|textit|mbox|operatorname)\s*\{", r"\\text{"),
        (r"\\(?:vec|hat)(?![a-z])\s*", ""),
        (r"\\([ij])math(?![a-z])", r"\1"),
        (r"\\[lr]?[vV]ert(?![a-z])", "|"),
        (r"(\\\\)\[[\d.]+\s*[a-z]+\]", r"\1"),
        (r"([_^])\s*(\d)\s+(?=\d)", r"\1{\2}"),
        (r"\\(?:lbrace|\{)", r"\\{"),
        (r"\\(?:rbrace|\})", r"\\}"),
        (r"\\(?:langle|lang)(?![a-z])|⟨", r"\\langle "),
        (r"\\(?:rangle|rang)(?![a-z])|⟩", r"\\rangle "),
        (r"\\(?:leqslant|leq)(?![a-z])|≤|⩽|<=", r"\\le "),
        (r"\\(?:geqslant|geq)(?![a-z])|≥|⩾|>=", r"\\ge "),
        (r"\\lt(?![a-z])", "<"),
        (r"\\gt(?![a-z])", ">"),
        (r"\\neq(?![a-z])|≠", r"\\ne "),
        (r"\\isin(?![a-z])|∈", r"\\in "),
        (r"∪", r"\\cup "),
        (r"\\infin(?![a-z])|∞", r"\\infty "),
        (r"\\(?:varnothing|emptyset)(?![a-z])|∅|ø", r"\\emptyset "),
        (r"π", r"\\pi "),
        (r"±", r"\\pm "),
        (r"×", r"\\times "),
        (r"÷", r"\\div "),
        (r"·", r"\\cdot "),
        (r"²", "^2"),
        (r"³", "^3"),
        (r"√\s*\(([^()]*)\)", r"\\sqrt{\1}"),
        (r"√\s*(\d+|[a-z])", r"\\sqrt{\1}"),
        (r"\\sqrt\s*(\d|[a-z])", r"\\sqrt{\1}"),
        (r"(?<![\\a-z])sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}"),
        (r"(?<![\\a-zA-Z])pi(?![a-zA-Z])", r"\\pi "),
        (r"\^\s*\{?\s*\\circ\s*\}?|\\degree(?![a-z])|°", r"^\\circ "),
        (r"\\%|%", r"\\%"),
        (r"\\\$|[€£¥₹]", ""),
        (r"(?<=\d)\{?,\}?\\!\s*(?=\d{3})|(?<=\d)\{,\}(?=\d{3}(?!\d))|(?<=\d)(?:\\[,;]|~)(?=\d{3}(?!\d))", ""),
        (r"(?<=\d)\{([,.])\}(?=\d)", r"\1"),
        (r"(?<=\d) (?=\d{3}(?!\d))", ""),
        (r"(?<!\\)\\[,;:! ]|\\(?:quad|qquad|thinspace)(?![a-z])|~", " "),
        (r"،|、", ", "),
        (r"؛|；", ";"),
        (r"[.。।।]$", ""),
    )
)
_BLANKS = re.compile(r"(\\text\s*\{[^{}]*\})|(\\[a-zA-Z]+)\s+(?=[a-zA-Z])|\s*([,;])\s*|(\s+)")


def _without_blanks(text: str) -> str:
    """Blanks stay in words, behind commas and where a command would run into a letter."""

    def put(found: re.Match[str]) -> str:
        if found[1]:
            return re.sub(r"\s+", " ", found[1])
        if found[2]:
            return found[2] + " "
        if found[3]:
            return found[3] + " "
        before, after = text[: found.start()][-1:], text[found.end() : found.end() + 1]
        if after.isdigit() and re.search(r"\\[a-zA-Z]+$", text[: found.start()]):
            return ""
        return " " if before.isalnum() and after.isalnum() else ""

    return _BLANKS.sub(put, text).strip()


_GROUPED = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_SEPARATED = re.compile(r";|,\s")


def _with_english_marks(text: str, decimal_mark: str) -> str:
    """The text with decimal points and without marks between thousands; what separates values is `, ` or `;`."""
    if "," not in text and "." not in text:
        return text
    separated = _SEPARATED.search(text) is not None
    made, depth, at = [], 0, 0
    for token in re.finditer(r"\\?[\[({]|\\?[\])}]|\d[\d.,]*\d", text):
        piece = token[0]
        if piece[-1] in "[({":
            depth += not text[: token.start()].endswith(("frac", "sqrt", "text", "^", "_"))
        elif piece[-1] in "])}":
            depth = max(0, depth - 1)
        elif "," in piece or "." in piece:
            made += [text[at : token.start()], _marks(piece, decimal_mark, depth > 0, separated)]
            at = token.end()
    return "".join([*made, text[at:]])


def _marks(piece: str, decimal_mark: str, bracketed: bool, separated: bool) -> str:
    if decimal_mark == ",":
        if (not bracketed or separated) and re.fullmatch(r"\d{1,3}(?:\.\d{3})+(?:,\d+)?|\d+,\d+", piece):
            return piece.replace(".", "").replace(",", ".")
        return piece
    if (not bracketed or separated) and "," in piece:
        return _GROUPED.sub(lambda found: found[0].replace(",", ""), piece)
    return piece


# -- taking apart ------------------------------------------------------------------------------------------------------

_DEPTH = 8  # brackets within brackets
_OPTION = re.compile(r"(?:\\text\{\s*)?\(?\s*([A-Z])\s*\)?(?:\s*\})?[.:]?")
_OPTION_WITH_TEXT = re.compile(r"(?:\\text\{\s*)?\(([A-Z])\)(?:\s*\})?\s*\S.*")
_WORDS = re.compile(r"\\text\s*\{([^{}]*)\}")
_SIGN = re.compile(r"\\(?:le|ge|ne|in|approx|equiv|sim|mid|to)(?![a-zA-Z])|[=<>]")
_NAME = re.compile(r"(?:[a-zA-Z]|\\[a-z]+)(?:_(?:\w|\{\w+\}))?'*(?:\([a-z](?:, [a-z])*\))?|\([a-z](?:, [a-z])+\)")
_OPEN, _CLOSE = {"(", "[", "{", r"\{", r"\langle"}, {")", "]", "}", r"\}", r"\rangle"}
_TOKEN = re.compile(r"\\(?:[a-zA-Z]+|.)|[\s\S]")
_TURNED = re.compile(r"(?<![\w)\]])\]([^\[\]]*?[,;][^\[\]]*)([\[\]])|(\[)([^\[\]()]*?[,;][^\[\]()]*)\[(?!\w)")
_MATRIX = re.compile(
    r"\\begin\{([pbvBV]?)(?:small)?(?:matrix|array)\}(?:\{[clr|]+\})?(.*)\\end\{[a-zA-Z]+\}", re.DOTALL
)


def _form(text: str, depth: int) -> Form | None:
    text = text.strip()
    if not text or depth > _DEPTH:
        return None
    if option := _OPTION.fullmatch(text) or _OPTION_WITH_TEXT.fullmatch(text):
        return Form("text", option[1])
    if (words := _WORDS.fullmatch(text)) and re.search(r"[^\W\d_]{2}", words[1]):
        return Form("text", re.sub(r"\s+", " ", words[1]).strip(" .").lower())
    text = _TURNED.sub(_as_round, text)
    for take in (_list, _relation, _union, _bracketed, _matrix):
        found = take(text, depth)
        if found is not None:
            return found if found.kind != "nothing" else None
    return _value(text)


_NOTHING = Form("nothing", "")  # it looks like this kind of expression, but is none


def _as_round(found: re.Match[str]) -> str:
    """]a, b[ as (a, b), as intervals are written in French."""
    if found[1] is not None:
        return f"({found[1]}" + (")" if found[2] == "[" else "]")
    return f"[{found[4]})"


def _split(text: str, separators: re.Pattern[str]) -> list[str]:
    """The pieces between separators that stand outside all brackets."""
    pieces, depth, start, at = [], 0, 0, 0
    while at < len(text):
        separator = separators.match(text, at) if depth == 0 else None
        if separator is not None and separator.end() > at:
            pieces.append(text[start:at])
            start = at = separator.end()
            continue
        token = _TOKEN.match(text, at)
        written = token[0] if token else text[at]
        depth += (written in _OPEN) - (written in _CLOSE)
        at += len(written)
    return [*pieces, text[start:]]


@remembered
def _separators() -> re.Pattern[str]:
    every = {(w, r.runs_on) for r in LANGUAGES.values() for w in (*r.either, *r.both)}
    said = trie(w for w, _ in every)
    apart = trie(w for w, _ in every if len(w) > 1)  # y and o are variables as well
    joined = trie(w for w, runs_on in every if runs_on and not w.isascii())
    words = rf"\\text\{{\s*(?:{said})\s*\}}|\s(?:{apart})\s|\s?(?:{joined})\s?"
    return re.compile(rf"[,;]\s*(?:{words})?|{words}")


_COMMA = re.compile(r"[,;]")
_CUP = re.compile(r"\\cup(?![a-z])")


def _list(text: str, depth: int) -> Form | None:
    pieces = _split(text, _separators())
    if len(pieces) > 1:
        parts = [_form(piece, depth + 1) for piece in pieces]
        if any(part is None for part in parts):
            return _NOTHING
        known = tuple(part for part in parts if part is not None)
        flat = [
            inner
            for part in known
            for inner in (part.parts if part.kind == "any_order" and not part.brackets else (part,))
        ]
        if all(part.kind == "ordered" and part.name for part in known):
            return Form("union", text, known, name=known[0].name)  # x < 1 or x > 5
        return Form("any_order", text, tuple(flat))
    if len(both := _split(text, re.compile(r"\\pm(?![a-z])"))) == 2:
        named = re.fullmatch(r"(.*=\s*)(.*)", both[0])
        head, first = (named[1], named[2]) if named else ("", both[0])
        two = [_form(head + f"{first}{sign}{both[1]}", depth + 1) for sign in ("+" if first.strip() else "", "-")]
        if any(part is None for part in two):
            return _NOTHING
        return Form("any_order", text, tuple(part for part in two if part is not None))
    return None


def _relation(text: str, depth: int) -> Form | None:
    sides = _split(text, _SIGN)
    if len(sides) == 1:
        return None
    signs, at = [], 0
    for side in sides[:-1]:
        sign = _SIGN.match(text, at + len(side))
        signs.append(sign[0] if sign else "")
        at += len(side) + len(signs[-1])
    sides = [side.strip() for side in sides]
    if not all(sides):
        return _NOTHING
    if set(signs) == {"="} or signs == [r"\in"]:
        if not _NAME.fullmatch(sides[0]):
            sides = sides[::-1] if len(sides) == 2 and signs == ["="] else sides
        if _NAME.fullmatch(sides[0]) and (len(sides) == 2 or not _NAME.fullmatch(sides[1])):
            value = _form(sides[-1], depth + 1)
            return replace(value, name=sides[0]) if value is not None else _NOTHING
    return _interval(sides, signs) or (Form("relation", text) if _is_formula(text) else _NOTHING)


def _interval(sides: list[str], signs: list[str]) -> Form | None:
    """x < 5, 5 > x and -1 < x \\le 3 as intervals."""
    if any(sign not in ("<", ">", r"\le", r"\ge") for sign in signs):
        return None
    if {sign in (">", r"\ge") for sign in signs} == {True}:
        sides, signs = sides[::-1], [{">": "<", r"\ge": r"\le"}[sign] for sign in signs[::-1]]
    if any(sign in (">", r"\ge") for sign in signs):
        return None
    if len(sides) == 2:
        if _NAME.fullmatch(sides[0]):
            sides, signs = [r"-\infty", *sides], ["<", *signs]
        else:
            sides, signs = [*sides, r"\infty"], [*signs, "<"]
    if len(sides) != 3 or not _NAME.fullmatch(sides[1]):
        return None
    low, high = _value(sides[0]), _value(sides[2])
    if low is None or high is None:
        return None
    brackets = ("(" if signs[0] == "<" else "[") + (")" if signs[1] == "<" else "]")
    return Form("ordered", "", (low, high), brackets, sides[1])


def _union(text: str, depth: int) -> Form | None:
    pieces = _split(text, _CUP)
    if len(pieces) == 1:
        return None
    parts = [_form(piece, depth + 1) for piece in pieces]
    known = tuple(part for part in parts if part is not None and part.kind in ("ordered", "any_order"))
    return Form("union", text, known) if len(known) == len(parts) else _NOTHING


def _bracketed(text: str, depth: int) -> Form | None:
    opened = _TOKEN.match(text)
    if opened is None or opened[0] not in _OPEN - {"{"}:
        return Form("any_order", text, (), "{}") if text == r"\emptyset" else None
    level, close = 0, None
    for token in _TOKEN.finditer(text):
        level += (token[0] in _OPEN) - (token[0] in _CLOSE)
        if level == 0:
            close = token
            break
    if close is None or close.end() != len(text):
        return None
    inner = text[opened.end() : close.start()].strip()
    if not inner:
        return Form("any_order", text, (), "{}") if opened[0] == r"\{" else _NOTHING
    if len(_split(inner, re.compile(r"\\mid(?![a-z])|\||:"))) > 1:
        return _NOTHING  # a set by its condition
    pieces = _split(inner, _COMMA)
    if opened[0] == "(" and len(pieces) == 1:
        return _form(inner, depth + 1) if close[0] == ")" else _NOTHING
    parts = [_form(piece, depth + 1) for piece in pieces]
    known = tuple(part for part in parts if part is not None)
    if len(known) < len(parts):
        return _NOTHING
    if opened[0] == r"\{":
        flat = [inner for part in known for inner in (part.parts if part.kind == "any_order" else (part,))]
        return Form("any_order", text, tuple(flat), "{}")
    if len(known) == 1:
        return None
    round_or_square = {r"\langle": "(", r"\rangle": ")"}
    brackets = "".join(round_or_square.get(mark, mark) for mark in (opened[0], close[0]))
    return Form("ordered", text, known, brackets)


def _matrix(text: str, depth: int) -> Form | None:
    found = _MATRIX.fullmatch(text)
    if found is None:
        return None
    rows = []
    for line in re.split(r"\\\\", found[2].strip().removesuffix(r"\\")):
        cells = [_form(cell, depth + 1) for cell in line.split("&")]
        if any(cell is None for cell in cells):
            return _NOTHING
        rows.append(Form("ordered", "", tuple(cell for cell in cells if cell is not None), "row"))
    return Form("matrix", text, tuple(rows), "| |" if found[1] in ("v", "V") else "")


# -- values ------------------------------------------------------------------------------------------------------------

_FUNCTIONS = frozenset(
    re.findall(
        r"\w+",
        "frac sqrt pi infty cdot times div sin cos tan cot sec csc arcsin arccos arctan log ln exp binom "
        "overline alpha beta gamma delta theta lambda mu phi omega sigma tau rho epsilon varphi Delta Omega "
        "choose circ min max lfloor rfloor lceil rceil ",
    )
)
_UNITS = {
    name: unit
    for unit, names in {
        "%": r"\% percent", "°": r"^\circ degrees degree deg °", "mm": "mm millimeters",
        "cm": "cm centimeters centimeter",
        "m": "m meters meter metres", "km": "km kilometers", "in": "in inches inch", "ft": "ft feet foot",
        "mi": "mi mile miles", "kg": "kg kilograms", "g": "g grams", "h": "h hr hrs hour hours",
        "min": "min minutes minute",
        "s": "s sec seconds second", "day": "day days",
    }.items()
    for name in names.split()
}  # fmt: skip
_UNIT_BEHIND = re.compile(
    r"\s*(?:\\text\s*\{(?P<said>[^{}]*)\}(?:\^\{?[23]\}?)?|(?P<mark>\\%|\^\\circ)"
    r"|\s(?P<plain>(?:[a-z]{4,}|mm|cm|km|kg|mg|ml|ft|in|sec|min|hrs?|mph|sq)(?:\^\{?[23]\}?)?(?:\s[a-z]+)*)"
    r"|\s*(?P<foreign>[^\W\d_a-zA-Z][^\d\\^_=+*/(){}\[\]]*))$"
)
_BASED = re.compile(r"(-?\d[\dA-F]*)_(?:\{(\d{1,2})\}|(\d{1,2}))")  # 1101_2
_DECIMAL = re.compile(r"(?<![\d.])(\d*)\.(\d+)(?:\\overline\{(\d+)\})?(?![\d.])|(?<![\d.])(\d+)\.\\overline\{(\d+)\}")


def _value(text: str) -> Form | None:
    """A single value, perhaps with a unit; None where it is not a formula."""
    if based := _BASED.fullmatch(text):
        return Form("value", based[1], unit=f"base {based[2] or based[3]}")
    unit = ""
    if re.search(r"\\(?:sin|cos|tan|cot|sec|csc)", text):  # sin 30° is no number of degrees
        text = re.sub(r"(\d+)\^\\circ", r"{(\\frac{\1\\pi}{180})}", text)
    while behind := _UNIT_BEHIND.search(text):
        if not re.search(r"\d|\\[a-z]|[a-zA-Z]$", text[: behind.start()]) or re.search(r"\d", behind["said"] or ""):
            return None
        said = (behind["said"] or behind["plain"] or behind["foreign"] or behind["mark"] or "").strip()
        power = re.search(r"\^\{?([23])\}?$", behind[0])
        unit = unit or (_UNITS.get(said.lower(), "") + (power[1] if power and said.lower() in _UNITS else ""))
        text = text[: behind.start()].strip()
    text = text.removeprefix("$").strip()
    if not text or not _is_formula(text):
        return None
    return Form("value", text, unit=unit)


def _is_formula(text: str) -> bool:
    """Whether a text is made of digits, operators, known functions and single letters."""
    if len(re.sub(r"\D", "", text)) > MAX_DIGITS or re.search(
        r"\d,\d|\.\.|[?#&@\"]|\d\s+\d|\d\.\d+\.\d|[-+*/^_=]\s*$", text
    ):
        return False
    if re.fullmatch(r"[nN]/[aA]", text):
        return False
    bare = re.sub(r"\\([a-zA-Z]+)", lambda found: " " if found[1] in _FUNCTIONS else " ~ ", text)
    bare = re.sub(r"(?<![a-zA-Z])(?:sin|cos|tan|log|ln|sqrt)(?![a-zA-Z])", " ", bare)
    words = re.findall(r"[a-zA-Z]{2,}", bare)
    if (
        "~" in bare
        or not bare.isascii()
        or any(len(w) > 3 or sorted(w) != list(w) or w.lower() in _WORDS_AS_PRODUCTS for w in words)
    ):
        return False
    return re.fullmatch(r"[\w\s+\-*/^(){}\[\]|!.=<>\\'%]+", bare.replace(r"\%", "").replace(",", " ")) is not None


# letters in the order of the alphabet are read as a product (ab, xyz); these are words all the same
_WORDS_AS_PRODUCTS = frozenset(
    re.findall(r"\w+", "no or is of to an as at do go if in it my all any not how why am be by so we box cm mm ft")
)


def _number(text: str) -> Fraction | None:
    """The value of a number that is written alone, in English style."""
    if not re.match(r"-?\s*(?:[\d.]|\\frac)", text):
        return None
    number = number_at(text, 0, PIVOT)
    if number is None or number.end != len(text) or "," in text:
        return None
    exact = re.fullmatch(r"-?\d*\.\d+", text)
    return Fraction(text) if exact else number.value


def for_algebra(text: str) -> str:
    r"""A value's LaTeX with its decimals as exact fractions: 0.5x is \frac{5}{10}x."""

    def exact(found: re.Match[str]) -> str:
        whole, fixed, period = found[1] or found[4] or "0", found[2] or "", found[3] or found[5] or ""
        if not period:
            return rf"\frac{{{int(whole + fixed)}}}{{{10 ** len(fixed)}}}"
        nines = 10 ** len(fixed) * (10 ** len(period) - 1)
        return rf"\frac{{{int(whole + fixed + period) - int(whole + fixed)}}}{{{nines}}}"

    return _DECIMAL.sub(exact, text)
