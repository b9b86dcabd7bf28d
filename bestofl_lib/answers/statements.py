"""What a sentence states: the number behind a cue, in its sentence, or in a text without any cue.

All positions are those of the uniform text, see `numbers/marks.uniform`. Which of the statements of a completion is its
answer is decided in `reading.py`.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from bestofl_lib.answers.phrases import phrases
from bestofl_lib.numbers.algebra import evaluate
from bestofl_lib.numbers.marks import A_DIGIT
from bestofl_lib.numbers.written import Number, any_number, number_at, numbers_in, with_half

BEHIND_BOX = 40  # characters around a box that can matter to it
REACH = 1_000  # characters behind a cue in which its number may stand
TRIES = 60  # cues and boxes looked at, from the end: keeps junk linear
SENTENCE_END = re.compile(r"[。！？!?؟।॥۔።။៕\n]|\.(?=\s|$|[*_)\"”»’])")
_CLAUSE = re.compile(rf"{SENTENCE_END.pattern}|[,;:，、،؛：；](?=\s|[^\x00-\x7f])")
_PARAGRAPH_END = re.compile(r"\n\s*\n")
_LINE_OPENS = re.compile(r"(?:\A|\n)[\s#*_>\-•(\[【「✅👉]*(?:[^\W\d_]+[ ,*-]+){0,4}+(?:\w{0,12})$")
_FORMULA = re.compile(r"[\d\s+*/×÷·^().,{}x−–-]+|\\(?:times|div|cdot|[dt]?frac)")
_BLANKS = re.compile(r"\s+")
_EQUALS = re.compile(r"(?:=|≈|≃|\\approx)")
# 25 % of 80: not the answer, but how it is found
_PERCENT_OF = re.compile(r"\s?%\s*(?:[^\W\d_]{1,4}\s+|的|の)\D{0,2}\d")
_BOLD = re.compile(r"\*\*([^*\n]{1,200})\*\*|\\textbf\{([^{}\n]{1,200})\}|<b>([^<\n]{1,200})</b>")
BRACKETED_END = re.compile(r"\([^()\n]*\)[\s.。*]*$")
_LIST_ITEM = re.compile(r"1[.)]\s")
_SECOND_ITEM = re.compile(r"\n\s*(?:\*\*)?2[.)]\s")


class Found(NamedTuple):
    """What a rule found in the uniform text."""

    value: Fraction | None
    start: int
    end: int
    note: str = ""


def asks(text: str, at: int) -> bool:
    """Whether the sentence around a place ends with a question mark: "Is the answer 20?" states nothing."""
    end = sentence_end(text, at)
    return text[end : end + 1] in ("?", "？", "؟")


def sentence_end(text: str, at: int) -> int:
    ended = SENTENCE_END.search(text, at, min(len(text), at + REACH))
    return ended.start() if ended else min(len(text), at + REACH)


def _clause_start(text: str, at: int) -> int:
    found = last_match(_CLAUSE, text, max(0, at - 200), at)
    return found.end() if found else max(0, at - 200)


def direct_number(text: str, at: int, code: str, digits_only: bool = False) -> Found | None:
    """The number directly after a cue; None where something else is there."""
    lead = phrases().lead.match(text, at, min(len(text), at + 200))
    place = lead.end() if lead else at
    if place >= len(text):
        return None
    if _LIST_ITEM.match(text, place) and _SECOND_ITEM.search(text, place, min(len(text), place + 2 * REACH)):
        return None
    number: Number | None
    if digits_only:
        number = number_at(text, place, code)
    else:
        until = sentence_end(text, place)
        words = A_DIGIT.search(text, place, until) is None
        number = any_number(text, place, code, words)
        if number is None and (minus := phrases().negative.match(text, place)):
            number = any_number(text, minus.end(), code, words)
            number = number and Number(None if number.value is None else -number.value, place, number.end, number.note)
    if number is None:
        return None
    end = _line_end(text, number.end)
    chained = chain(text, number, end, code)
    if chained is not None:
        return chained
    if phrases().per.match(text, number.end):
        return None
    if number.value is not None and (compound := phrases().compound.match(text, number.end, end)):
        second = number_at(text, compound.end(), code)
        return Found(None, number.start, second.end if second else compound.end(), "several numbers")
    if number.value is not None and (less := _BLANKS.match(text, number.end)):
        taken = _minus(text, less.end(), end, code)  # 8 minus 5 = 3
        if taken is not None:
            return taken
    if number.value is not None and (joint := phrases().range_joint.match(text, number.end)):
        second = number_at(text, joint.end(), code)
        if second is not None:
            return Found(None, number.start, second.end, "a range")
    other = phrases().either.match(text, number.end)
    if other and number.value is not None:
        second = number_at(text, other.end(), code)
        if second is not None and second.value != number.value:
            return Found(None, number.start, second.end, "two numbers offered")
    if _PERCENT_OF.match(text, number.end):
        return None
    return Found(number.value, number.start, number.end, number.note)


def _minus(text: str, at: int, end: int, code: str) -> Found | None:
    """The value of "minus 5 = 3" after a number; None where there is no minus in words."""
    word = phrases().negative.match(text, at)
    taken = number_at(text, word.end(), code) if word else None
    if taken is None:
        return None
    return chain(text, taken, end, code) or Found(None, at, taken.end, "an equation without result")


def last_match(pattern: re.Pattern[str], text: str, start: int, end: int) -> re.Match[str] | None:
    found = None
    for match in pattern.finditer(text, start, end):
        found = match
    return found


def closes(text: str, found: Found, boxed: str) -> bool:
    """Whether a number behind a cue ends its statement, so that it can overrule a box before it."""
    end = sentence_end(text, found.end)
    behind = text[found.end : end]
    if text[end : end + 1] in ("?", "？", "؟"):
        return False
    if end == len(text) and not behind.strip(" *$\\)]") and boxed.startswith(text[found.start : found.end].strip()):
        return False  # the text was cut off within the number
    return len(behind) <= BEHIND_BOX and not A_DIGIT.search(behind)


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at, at + 400)
    return end if end >= 0 else min(len(text), at + 400)


_DEGREES = re.compile(r"\s*\^\s*(?:\{\s*)?\\circ(?![a-z])")


def chain(text: str, number: Number, end: int, code: str) -> Found | None:
    """Follow "4 × 1,400 = 5,600" from its first number to its result; None where no operator follows."""
    operator = phrases().operator.match(text, number.end, end)
    if operator is None:
        return None
    sentence = min(sentence_end(text, number.end), end)
    equals = last_match(_EQUALS, text, number.end, sentence)
    if equals is not None:
        lead = phrases().lead.match(text, equals.end(), sentence)
        result = number_at(text, lead.end() if lead else equals.end(), code)
        if result is not None and not phrases().operator.match(text, result.end, sentence):
            return Found(result.value, result.start, result.end, result.note)
        return (
            None
            if operator["op"] in "=≈≃\\approx"
            else Found(None, number.start, sentence, "an equation without result")
        )
    op = operator["op"]
    direct = text[number.end : operator.start("op")].strip() == ""
    if (op in ("-", "–", "−", "^", "**") and not direct) or _DEGREES.match(text, number.end):
        return None
    if op in ("-", "–", "−") and not text[operator.start("op") - 1].isspace():
        return Found(None, number.start, operator.end(), "a range")
    last = number.end
    while (piece := _FORMULA.match(text, last, end)) and piece.end() > last:
        last = piece.end()
    formula = text[number.start : last].rstrip(" .,\n")
    value, note = evaluate(english(re.sub(r"(?<=\d)\s*x\s*(?=\d)", r"\\times ", formula).replace("–", "-"), code))
    return Found(value, number.start, number.start + len(formula), note)


def cue_sentence(text: str, cue: re.Match[str], code: str) -> tuple[str, Found] | None:
    """The number in the sentence that a cue opens, with words between them."""
    at = cue.end()
    line = max(text.rfind("\n", 0, cue.start()), cue.start() - 80, 0)
    if _LINE_OPENS.match(text, line, cue.start()) is None:
        found = best_of(text, at, sentence_end(text, at), code, line)
        return ("cue_sentence", found) if found else None
    lead = phrases().lead.match(text, at)
    content = lead.end() if lead else at
    ended = _PARAGRAPH_END.search(text, content, min(len(text), content + REACH))
    end = ended.start() if ended else min(len(text), content + REACH)
    found = best_of(text, at, end, code, line)
    if found is not None and found.note == _SEVERAL:  # the cue is the heading of a whole solution
        rule, last = without_cue(text, at, code)
        if last is not None and (rule in ("bold", "conclusion") or end < len(text.rstrip())):
            return "cue_sentence", Found(
                last.value, last.start, last.end, _SEVERAL if last.note == _NO_CUE else last.note
            )
    return ("cue_sentence", found) if found else None


_SEVERAL = "several numbers in the sentence"
_NO_CUE = "no cue"


def best_of(
    text: str, start: int, end: int, code: str, line: int | None = None, known: list[Number] | None = None
) -> Found | None:
    """The last bold number between two places, else the last number outside trailing brackets.

    Args:
        line: where the line of `start` begins, so that its bold marks are paired rightly.
        known: the numbers between the places, where they have been looked for.
    """
    bold = None
    for match in _BOLD.finditer(text, start if line is None else line, end):
        group = match.lastindex or 1
        inside = numbers_in(text, match.start(group), match.end(group), code) if match.start(group) >= start else []
        if inside:
            bold = inside[-1]
    numbers = numbers_in(text, start, end, code) if known is None else known
    if bold is None:
        bracketed = BRACKETED_END.search(text, start, end)
        outside = [n for n in numbers if bracketed is None or n.start < bracketed.start()]
        numbers = outside or numbers
    chosen = bold or (numbers[-1] if numbers else None)
    if chosen is None:
        return None
    if (part := _larger_unit(text, numbers, chosen)) is not None:
        return Found(None, part.start, chosen.end, "several numbers")
    several = any(n.value != numbers[0].value for n in numbers)
    chosen = with_half(text, chosen)
    before = text[max(start, chosen.start - 60) : chosen.start]
    opened = start if sentence_end(text, start) >= chosen.start else chosen.start
    if phrases().refusal.search(text, _clause_start(text, opened), sentence_end(text, chosen.end)):
        return Found(None, chosen.start, chosen.end, "a refusal")
    if phrases().range_opening.search(before):
        return Found(None, chosen.start, chosen.end, "a range")
    if chosen.value is not None and chosen.value.numerator > 0 and phrases().negated.search(before):
        chosen = Number(-chosen.value, chosen.start, chosen.end, chosen.note)
    note = chosen.note or (_SEVERAL if several and bold is None else "")
    return Found(chosen.value, chosen.start, chosen.end, note)


def _larger_unit(text: str, numbers: list[Number], chosen: Number) -> Number | None:
    """The 3 of "3 hours and 45 minutes" where 45 is chosen; None where the number before is no part of it."""
    at = next((place for place in reversed(range(len(numbers))) if numbers[place].start == chosen.start), 0)
    before = numbers[at - 1] if at else None
    if before is None or before.value is None:
        return None
    between = text[before.end : chosen.start]
    unit = None if phrases().per.match(text, before.end) else phrases().compound.match(text, before.end)
    return before if unit and unit.end() == chosen.start and (" " in between or len(between) <= 4) else None


# --- no cue

_UNFINISHED = re.compile(r"\s*(?:[=≈+*/×÷−–-]|\\(?:times|div|cdot|approx))[\s$*\\()]*$")  # 15 + 27 =
_OPEN_FORMULA = re.compile(r"(?<!\$)\$(?=\\)[^$]*$")  # $\frac{11}{4} at the end, never closed; not $5
_BARE_LINE = re.compile(r"[\s*_#$\\(]*")


def _first_line(text: str, begin: int, code: str) -> Found | None:
    """A number that is the whole first paragraph, before an explanation; None where the explanation ends in a
    result.
    """
    start = _BARE_LINE.match(text, begin)
    at = start.end() if start else begin
    number = number_at(text, at, code) if at < len(text) else None
    line = text.find("\n", at)
    if number is None or number.value is None or line < 0 or not _PARAGRAPH_END.match(text, line):
        return None
    if (
        not re.fullmatch(r"(?:\s?[^\W\d_]{1,15}){0,2}[\s*_.。।$\\)]*", text[number.end : line])
        or not text[line:].strip()
    ):
        return None
    result = last_match(re.compile(r"[=≈]\s*(?=[\d$€£])|\*\*\s*(?=[\d$])"), text, line, line + 4 * REACH)
    same = number_at(text, result.end(), code) if result else number
    if same is None or same.value != number.value:
        return Found(None, number.start, number.end, "first line and explanation may differ")
    return Found(number.value, number.start, number.end, _NO_CUE)


def without_cue(text: str, begin: int, code: str) -> tuple[str | None, Found | None]:
    """What a text without a cue concludes with; a sentence that was cut off concludes nothing."""
    start = max(begin, len(text) - 2 * REACH)
    numbers = numbers_in(text, start, len(text), code)
    if not numbers:
        return None, None
    first = _first_line(text, begin, code)
    if first is not None:
        return "first_line", first
    last = numbers[-1]
    if asks(text, last.end):
        return None, Found(None, last.start, last.end, "a question")
    if _OPEN_FORMULA.match(text, last.start - 1):
        return None, Found(None, last.start, last.end, "cut off within a formula")
    if _UNFINISHED.match(text, last.end):
        return None, Found(None, last.start, last.end, "an equation without result")
    bold = last_match(_BOLD, text, start, len(text))
    if bold is not None:
        group = bold.lastindex or 1
        inside = [n for n in numbers if bold.start(group) <= n.start < bold.end(group)]
        if len(inside) == 1 and inside[0] == last:
            return "bold", Found(last.value, last.start, last.end, _NO_CUE)
    end = sentence_end(text, last.end)
    if end >= len(text) and len(text) - last.end > BEHIND_BOX:
        return None, None
    concluded = last_match(phrases().conclusion, text, start, last.start)
    if concluded is not None and sentence_end(text, concluded.end()) >= last.end:
        found = best_of(text, concluded.end(), end, code)
        if found is not None:
            return "conclusion", Found(found.value, found.start, found.end, found.note or _NO_CUE)
    line = text.rfind("\n", start, last.start) + 1 or start
    found = best_of(text, line, end, code, known=[n for n in numbers if n.start >= line])
    if found is None:
        return None, None
    return "last_number", Found(found.value, found.start, found.end, found.note or _NO_CUE)


def english(expression: str, code: str) -> str:
    """The expression with its numbers in English style, without grouping."""
    written, at = [], 0
    for number in numbers_in(expression, 0, len(expression), code):
        piece = expression[number.start : number.end]
        if number.value is None or "\\frac" in piece or "/" in piece or not re.search(r"[.,\s~]", piece):
            continue
        exact = number.value
        shown = (
            str(exact.numerator) if exact.denominator == 1 else f"\\frac{{{exact.numerator}}}{{{exact.denominator}}}"
        )
        written += [expression[at : number.start], shown]
        at = number.end
    return "".join([*written, expression[at:]]).replace("÷", "\\div ").replace("×", "\\times ").strip()
