"""What a box states: the number or expression in the last `\\boxed{…}` of a completion."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from math import factorial

from bestofl_lib.answers.phrases import phrases
from bestofl_lib.answers.statements import (
    BEHIND_BOX,
    BRACKETED_END,
    REACH,
    SENTENCE_END,
    TRIES,
    Found,
    best_of,
    chain,
    english,
    last_match,
    sentence_end,
)
from bestofl_lib.numbers.algebra import evaluate
from bestofl_lib.numbers.marks import A_DIGIT
from bestofl_lib.numbers.written import UNIT_DIGITS, Number, any_number, number_at, numbers_in

_SEVERAL_BOXES = "several boxes"
_BOX = re.compile(r"\\f?boxed\s*(?=[{\d-])")
_TEXT_GROUP = re.compile(r"\\(?:text|mathrm|mathbf|textbf|mathit|operatorname)\s*\{([^{}]*)\}")
_RUNS_ON = re.compile(r"[^\W\d_]")
_MATH = re.compile(r"\\(?:d?frac|sqrt|pi|times|div|cdot|left|pm|overline)|[+*/^()×÷√π]|\d\s*-\s*\d")
_BOX_BEFORE = re.compile(rf"boxed\s?\{{([^{{}}\n]{{1,40}})\}}([^\d=\n]{{1,{BEHIND_BOX}}})$")
_BRACE = re.compile(r"[{}]")


def last_box(text: str, begin: int, code: str) -> tuple[Found | None, int]:
    """The last box that holds something readable, and where it ends."""
    for opened, inner, close in boxes_from_the_end(text, begin):
        found = _box_content(text, inner, close, code)
        said = _says_nothing(text, inner, close) if found is None else ""
        if said and (said != EMPTY_BOX or is_stated(text, begin, opened)):
            return Found(None, inner, close, said), close
        if found is not None:
            return _unless_several(text, begin, opened, found, code), close
    return None, begin


_WORD_OR_SIGN = re.compile(r"[=:]|(?<![^\W\d_])[^\W\d_]")


def is_stated(text: str, begin: int, box: int) -> bool:
    """Whether an empty box stands where an answer does: it opens its line or sentence, or "=", ":" or words such as
    "the answer is" stand directly before it. Else it is only spoken of: "put it in \\boxed{}".
    """
    line = max(begin, text.rfind("\n", begin, box) + 1)
    stop = line + len(text[line:box].rstrip(" $*_([\\>•-"))
    near = max(line, stop - BEHIND_BOX)
    starts = [line, *(found.start() for found in _WORD_OR_SIGN.finditer(text, near, stop))]
    starts += [found.end() for ends in (phrases().cue, SENTENCE_END) for found in ends.finditer(text, near, stop)]
    return any((lead := phrases().lead.match(text, at, stop)) is not None and lead.end() == stop for at in starts)


def boxes_from_the_end(text: str, begin: int) -> Iterator[tuple[int, int, int]]:
    """The last `TRIES` boxes, last first: where each starts, and where its content starts and ends."""
    at, tries = len(text), 0
    while tries < TRIES and (at := text.rfind("boxed", begin, at)) > begin:
        tries += 1
        opened = _BOX.match(text, at - 1) or _BOX.match(text, at - 2)
        if opened is None:
            continue
        inner = opened.end()
        if text[inner] == "{":
            inner += 1
            close = _closing(text, inner)
        else:
            close = inner + 1
            while close < len(text) and text[close].isdigit():
                close += 1
        if close >= len(text) and text[inner - 1] == "{":
            continue  # the text was cut off within the box
        yield opened.start(), inner, close


def _unless_several(text: str, begin: int, at: int, found: Found, code: str) -> Found:
    """No answer where another number is boxed just before: \\boxed{38} or \\boxed{71}, \\boxed{1} hour \\boxed{35}
    minutes.
    """
    line = max(text.rfind("\n", begin, at) + 1, begin, at - 2 * BEHIND_BOX)
    before = _BOX_BEFORE.search(text, line, at)
    if before is None or found.value is None or SENTENCE_END.search(text, before.start(2), at):
        return found
    other = _box_content(text, before.start(1), before.end(1), code)
    if other is None or other.value is None or other.value == found.value:
        return found
    return Found(None, before.start(), found.end, _SEVERAL_BOXES)


def total_of_boxes(text: str, begin: int, place: int, last: Found, code: str) -> Found | None:
    """The total that a sentence behind several boxes concludes with, where it is their sum: \\boxed{3} … \\boxed{4}. In
    total 7.
    """
    concluded = last_match(phrases().conclusion, text, place, min(len(text), place + REACH))
    if concluded is None or (last.value is None and last.note != _SEVERAL_BOXES):
        return None
    total = best_of(text, concluded.end(), sentence_end(text, concluded.end()), code)
    if total is None or total.value is None:
        return None
    parts = []
    for opened in deque(_BOX.finditer(text, begin, place), maxlen=TRIES):
        inner = opened.end() + (text[opened.end()] == "{")
        found = _box_content(text, inner, _closing(text, inner), code)
        parts += [found.value] if found is not None and found.value is not None else []
    return Found(total.value, total.start, total.end, "the sum of several boxes") if sum(parts) == total.value else None


def _closing(text: str, at: int) -> int:
    depth, end = 1, min(len(text), at + REACH)
    for brace in _BRACE.finditer(text, at, end):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return brace.start()
    newline = text.find("\n", at, end)  # a box that is never closed ends with its line
    return newline if newline >= 0 else end


EMPTY_BOX = "an empty box"
# a box that says in words, or by a question mark, that it has no answer; "…", "___" and the like are empty
_WORDS_IN_BOX = re.compile(r"[?？؟]|(?<!\\)(?<![a-zA-Z])(?!text|mathrm|mathbf|textbf|mathit)[^\W\d_]")
_OPTION = re.compile(r"\\?[({\s]*[A-E][)}\s.]*")


def _says_nothing(text: str, start: int, end: int) -> str:
    """How a box without a number says so: "?", "cannot be determined", x, or nothing at all. Then no earlier number is
    the answer.

    The letter of an option, a template such as "your answer" and a box around another one say nothing about numbers:
    empty.
    """
    if _OPTION.fullmatch(text, start, end) or phrases().cue.search(text, start, end):
        return ""
    if _WORDS_IN_BOX.search(text, start, end):
        return "no number in the box"
    return "" if "boxed" in text[start:end] else EMPTY_BOX


_FACTORIAL = re.compile(r"\s?!(?!\s*\d{3})[\s$]*")
_AFTER_BOX = re.compile(r"\}?\s{0,4}(?:\\[)\]]|\$|\*\*)?\s{0,4}")


def _box_content(text: str, start: int, end: int, code: str) -> Found | None:
    """The number in a box; None where the box holds no digits, no number words and no mathematics."""
    inner = text[start:end]
    if not inner.strip():
        return None
    if "boxed" in inner:
        return None
    if phrases().offered.search(inner):
        return Found(None, start, end, "two numbers offered")
    lead = phrases().lead.match(text[:end], start)
    at = lead.end() if lead else start
    window = text[:end]
    number = any_number(window, at, code, words=not A_DIGIT.search(inner))
    if number is not None and (bang := _FACTORIAL.match(window, number.end)):
        whole = re.fullmatch(r"\d{1,2}", text[number.start : number.end])
        value = Fraction(factorial(int(whole[0]))) if whole and bang.end() == end else None
        return Found(value, number.start, bang.end(), "a factorial")
    if number is not None:
        chained = chain(window, number, end, code)
        if chained is not None:
            return chained
        rest = UNIT_DIGITS.sub("", BRACKETED_END.sub("", text[number.end : end]))
        if number.value is None or not A_DIGIT.search(rest):
            number = _scaled_behind(text, number, end, code)
            return Found(number.value, number.start, number.end, number.note)
    if not A_DIGIT.search(inner) and not re.search(r"\\(?:pi|sqrt|frac)|π", inner):
        return None
    several = numbers_in(text, start, end, code)
    if len(several) == 1 and number is None and not _MATH.search(inner):
        only = several[0]
        return Found(only.value, only.start, only.end, only.note)
    return _expression(text, start, end, code)


def _scaled_behind(text: str, number: Number, end: int, code: str) -> Number:
    """A box that holds the bare number may be followed by what multiplies it: \\boxed{7}万, \\boxed{5} million."""
    if number.value is None or text[number.end : end].strip():
        return number
    behind = _AFTER_BOX.match(text, end)
    tail = text[behind.end() : behind.end() + 16] if behind else ""
    if not tail or not _RUNS_ON.match(tail):
        return number
    joined = text[number.start : number.end] + " " + tail
    scaled = number_at(joined, 0, code)
    if scaled is None or scaled.value is None or scaled.end <= number.end - number.start:
        return number
    return Number(scaled.value, number.start, number.end, "scale behind the box")


def _expression(text: str, start: int, end: int, code: str) -> Found:
    inner = text[start:end]
    if not _MATH.search(inner):
        return Found(None, start, end, "several numbers" if A_DIGIT.search(inner) else "not a number")
    if re.search(r"\d.*\\(?:text|mathrm|mathbf|textbf)\s*\{[^{}]*[^\W\d_][^{}]*\}.*\d", inner, re.DOTALL):
        return Found(None, start, end, "words and numbers mixed")
    if re.search(r"[^\W\d_a-zA-Z]", _TEXT_GROUP.sub("", inner).replace("π", "").replace("√", "")):
        return Found(None, start, end, "words and numbers mixed")
    value, note = evaluate(english(_TEXT_GROUP.sub(" ", inner), code))
    return Found(value, start, end, note)
