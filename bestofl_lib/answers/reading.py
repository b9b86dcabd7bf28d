"""Read the answer that a completion gives, exactly, in every language.

`read_answer` is the definition; `read_answers` does a table and gives the same readings, faster. Both know how models
announce answers; how numbers are written is known by `numbers/`, words by `languages.py`, and neither knows the
question or the reference: a reader that knew them would read what it hopes for.

**Where the answer is.** Thinking sections are skipped. Then, in this order:

1. `boxed`: the last `\\boxed{…}` that holds a number, unless a cue with a number directly behind it comes later.
2. `cue`: the last cue ("answer", "Antwort", "答え", …, in any language) with a number directly behind it.
3. `cue_sentence`: the last cue with words between it and the number. In its sentence (in its paragraph, if the cue
   opens a line) the last bold number, else the last number outside trailing brackets.
4. without any cue, each with a note: `bold`, the bold number that is the text's last; `conclusion`, the last number, in
   a sentence that opens with "therefore"; `last_number`, the last number. A text that breaks off within the sentence of
   its last number concludes nothing: None.

Directly behind a number, `= …` is followed to the end of its sentence ("4 × 1,400 = 5,600" gives 5600), remarks are not
("5,600 (that is 4 × 1,400)"). Two numbers offered ("18 or 19"), ranges, times, dates and compound units ("1 hour 35
minutes") are no answer: the reading is None and the note says why. A percentage is the number before its sign.

**The ambiguous mark.** A mark followed by exactly three digits, after one to three digits that are not a lone 0, groups
thousands in every language: `2.125` and `2,125` are both 2125. Otherwise the language's convention holds, then
English's. The cost: a decimal with exactly three decimals (2.125 meant as 17/8) is read a thousand times too large.
Answers of grade-school problems have three decimals far more rarely than models mix the marks of two languages; where
the mark is the language's own decimal mark, the note says that the rule decided, so that the audit can count the cost.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from fractions import Fraction

from bestofl_lib.answers.expressions import evaluate
from bestofl_lib.answers.phrases import phrases
from bestofl_lib.languages import language
from bestofl_lib.numbers.written import (
    UNIT_DIGITS,
    Number,
    any_number,
    canonical,
    number_at,
    numbers_in,
    plain,
    with_half,
)

_REACH = 1_000  # characters behind a cue in which its number may stand
BEHIND_BOX = 40  # characters around a box that can matter to it
_TRIES = 60  # cues and boxes looked at, from the end: keeps junk linear
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\u0000]")
_THINKING_ENDS = re.compile(r"</think(?:ing)?>|</reasoning>|<\|end_of_thought\|>|◁/think▷")
_THINKING_STARTS = re.compile(r"<think(?:ing)?>|<reasoning>|<\|begin_of_thought\|>|◁think▷")
_SENTENCE_END = re.compile(r"[。！？!?।॥\n]|\.(?=\s|$|[*_)\"”»’])")
_PARAGRAPH_END = re.compile(r"\n\s*\n")
# up to four words may stand before the cue: "So the final Answer: …"
_LINE_OPENS = re.compile(r"(?:\A|\n)[\s#*_>\-•(\[【「✅👉]*(?:[^\W\d_]+[ ,*-]+){0,4}+(?:\w{0,12})$")
_FORMULA = re.compile(r"[\d\s+*/×÷·^().,{}x−–-]+|\\(?:times|div|cdot|[dt]?frac)")
_EQUALS = re.compile(r"(?:=|≈|≃|\\approx)")
_PERCENT_OF = re.compile(
    r"\s?%\s*(?:[^\W\d_]{1,4}\s+|的|の)\D{0,2}\d"
)  # 25 % of 80: not the answer, but how it is found
_BOLD = re.compile(r"\*\*([^*\n]{1,200})\*\*|\\textbf\{([^{}\n]{1,200})\}|<b>([^<\n]{1,200})</b>")
_BOX = re.compile(r"\\f?boxed\s*(?=[{\d-])")
_BRACKETED_END = re.compile(r"\([^()\n]*\)[\s.。*]*$")
_TEXT_GROUP = re.compile(r"\\(?:text|mathrm|mathbf|textbf|mathit|operatorname)\s*\{([^{}]*)\}")
_RUNS_ON = re.compile(r"[^\W\d_]")
_MATH = re.compile(r"\\(?:d?frac|sqrt|pi|times|div|cdot|left|pm|overline)|[+*/^()×÷√π]|\d\s*-\s*\d")
_BOX_BEFORE = re.compile(rf"boxed\s?\{{([^{{}}\n]{{1,40}})\}}([^\d=\n]{{1,{BEHIND_BOX}}})$")
_LIST_ITEM = re.compile(r"1[.)]\s")
_SECOND_ITEM = re.compile(r"\n\s*(?:\*\*)?2[.)]\s")
_BRACE = re.compile(r"[{}]")


@dataclass(frozen=True)
class Reading:
    """The answer read in one completion."""

    value: Fraction | None  # None: nothing that could be read
    text: str = ""  # as written
    start: int | None = None  # span in the completion, in characters
    end: int | None = None
    rule: str | None = None  # which rule read the answer; None where there is no answer
    note: str = ""  # empty, or why the reading is doubtful or missing

    @property
    def answer(self) -> str | None:
        """Canonical form of the value, such as "18" or "7/2"; None if there is no value."""
        return None if self.value is None else canonical(self.value)


@dataclass(frozen=True)
class _Found:
    """What a rule found in the uniform text."""

    value: Fraction | None
    start: int
    end: int
    note: str = ""


def read_answer(completion: str | None, language_code: str) -> Reading:
    """The answer that a completion gives.

    Args:
        completion: raw text, as the model wrote it; None is read as nothing.
        language_code: language of the question; its conventions come before English's.

    Returns:
        The reading. Nothing found, or nothing that is one number, has the value None; never an exception.

    Raises:
        ValueError: the language is not known.

    >>> read_answer("Also 4 × 1.400.\\n\\nAntwort: 5.600 Kalorien", "de").value
    Fraction(5600, 1)
    """
    code = language(language_code).code
    if not completion:
        return Reading(None, note="empty")
    if _INVISIBLE.search(completion):
        unseen = set(_INVISIBLE.findall(completion))
        places = [i for i, c in enumerate(completion) if c not in unseen]
        seen = read_visible("".join(completion[i] for i in places), code)
        if seen.start is None or seen.end is None or seen.start >= len(places):
            return seen
        start, end = places[seen.start], places[max(seen.end - 1, seen.start)] + 1
        return Reading(seen.value, completion[start:end], start, end, seen.rule, seen.note)
    return read_visible(completion, code)


def read_visible(completion: str, code: str) -> Reading:
    """`read_answer` for a text without invisible characters and a code that is known."""
    return found_by(completion, code)[1]


def found_by(completion: str, code: str) -> tuple[str | None, Reading]:
    """The same, and the rule that decided: unlike the reading's own rule, it is also known where the decision was "no answer"."""
    begin = 0
    if "<" in completion or "◁" in completion:
        for ended in _THINKING_ENDS.finditer(completion):
            begin = ended.end()
        if _THINKING_STARTS.search(completion, begin):
            return None, Reading(None, note="thinking never ends")
    if not completion[begin:].strip():
        return None, Reading(None, note="empty")
    text = plain(completion)
    rule, found = _find(text, begin, code)
    if found is None:
        return None, Reading(None, note="no number")
    written = completion[found.start : found.end]
    kept = written.rstrip()
    start = found.start + len(written) - len(written.lstrip())
    end = found.start + len(kept)
    named = rule if found.value is not None else None
    return rule, Reading(found.value, completion[start:end], start, end, named, found.note)


def _find(text: str, begin: int, code: str) -> tuple[str | None, _Found | None]:
    box, box_place = _last_box(text, begin, code)
    cues = deque(phrases().cue.finditer(text, max(begin, box_place)), maxlen=_TRIES)
    if box is not None:
        for cue in reversed(cues):
            later = _direct(text, cue.end(), code, digits_only=True)
            if later is not None and later.value is not None and _closes(text, later, text[box.start : box.end]):
                return "cue", later
        return "boxed", box
    for cue in reversed(cues):
        direct = _direct(text, cue.end(), code)
        if direct is not None:
            return "cue", direct
        between = _cue_sentence(text, cue, code)
        if between is not None:
            return between
    return _without_cue(text, begin, code)


# --- boxes


def _last_box(text: str, begin: int, code: str) -> tuple[_Found | None, int]:
    """The last box that holds something readable, and where it ends."""
    at, tries = len(text), 0
    while tries < _TRIES and (at := text.rfind("boxed", begin, at)) > begin:
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
        found = _box_content(text, inner, close, code)
        if found is not None:
            return _unless_several(text, begin, opened.start(), found, code), close
    return None, begin


def _unless_several(text: str, begin: int, at: int, found: _Found, code: str) -> _Found:
    """No answer where another number is boxed just before: \\boxed{38} or \\boxed{71}, \\boxed{1} hour \\boxed{35} minutes."""
    line = max(text.rfind("\n", begin, at) + 1, begin, at - 2 * BEHIND_BOX)
    before = _BOX_BEFORE.search(text, line, at)
    if before is None or found.value is None or _SENTENCE_END.search(text, before.start(2), at):
        return found
    other = _box_content(text, before.start(1), before.end(1), code)
    if other is None or other.value is None or other.value == found.value:
        return found
    return _Found(None, before.start(), found.end, "several boxes")


def _closing(text: str, at: int) -> int:
    depth, end = 1, min(len(text), at + _REACH)
    for brace in _BRACE.finditer(text, at, end):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return brace.start()
    newline = text.find("\n", at, end)  # a box that is never closed ends with its line
    return newline if newline >= 0 else end


_AFTER_BOX = re.compile(r"\}?\s{0,4}(?:\\[)\]]|\$|\*\*)?\s{0,4}")


def _box_content(text: str, start: int, end: int, code: str) -> _Found | None:
    """The number in a box; None where the box holds no digits, no number words and no mathematics."""
    inner = text[start:end]
    if not inner.strip():
        return None
    if "boxed" in inner:
        return None
    lead = phrases().lead.match(text[:end], start)
    at = lead.end() if lead else start
    window = text[:end]
    number = any_number(window, at, code, words=not re.search(r"\d", inner))
    if number is not None:
        chained = _chain(window, number, end, code)
        if chained is not None:
            return chained
        rest = UNIT_DIGITS.sub("", _BRACKETED_END.sub("", text[number.end : end]))
        if number.value is None or not re.search(r"\d", rest):
            number = _scaled_behind(text, number, end, code)
            return _Found(number.value, number.start, number.end, number.note)
    if not re.search(r"\d", inner) and not re.search(r"\\(?:pi|sqrt|frac)|π", inner):
        return None
    several = numbers_in(text, start, end, code)
    if len(several) == 1 and number is None and not _MATH.search(inner):
        only = several[0]
        return _Found(only.value, only.start, only.end, only.note)
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


def _expression(text: str, start: int, end: int, code: str) -> _Found:
    inner = text[start:end]
    if not _MATH.search(inner):
        return _Found(None, start, end, "several numbers" if re.search(r"\d", inner) else "not a number")
    if re.search(r"[^\W\d_a-zA-Z]", _TEXT_GROUP.sub("", inner).replace("π", "").replace("√", "")):
        return _Found(None, start, end, "words and numbers mixed")
    value, note = evaluate(_english(_TEXT_GROUP.sub(" ", inner), code))
    return _Found(value, start, end, note)


def _english(expression: str, code: str) -> str:
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


# --- cues


def _sentence_end(text: str, at: int) -> int:
    ended = _SENTENCE_END.search(text, at, min(len(text), at + _REACH))
    return ended.start() if ended else min(len(text), at + _REACH)


def _direct(text: str, at: int, code: str, digits_only: bool = False) -> _Found | None:
    """The number directly behind a cue; None where something else stands there."""
    lead = phrases().lead.match(text, at, min(len(text), at + 200))
    place = lead.end() if lead else at
    if place >= len(text):
        return None
    if _LIST_ITEM.match(text, place) and _SECOND_ITEM.search(text, place, min(len(text), place + 2 * _REACH)):
        return None
    number: Number | None
    if digits_only:
        number = number_at(text, place, code)
    else:
        until = _sentence_end(text, place)
        number = any_number(text, place, code, words=not re.search(r"\d", text[place:until]))
    if number is None:
        return None
    end = _line_end(text, number.end)
    chained = _chain(text, number, end, code)
    if chained is not None:
        return chained
    if phrases().per.match(text, number.end):
        return None
    if number.value is not None and (compound := phrases().compound.match(text, number.end, end)):
        second = number_at(text, compound.end(), code)
        return _Found(None, number.start, second.end if second else compound.end(), "several numbers")
    other = phrases().either.match(text, number.end)
    if other and number.value is not None:
        second = number_at(text, other.end(), code)
        if second is not None and second.value != number.value:
            return _Found(None, number.start, second.end, "two numbers offered")
    if _PERCENT_OF.match(text, number.end):
        return None
    return _Found(number.value, number.start, number.end, number.note)


def _last(pattern: re.Pattern[str], text: str, start: int, end: int) -> re.Match[str] | None:
    found = None
    for match in pattern.finditer(text, start, end):
        found = match
    return found


def _closes(text: str, found: _Found, boxed: str) -> bool:
    """Whether a number behind a cue ends its statement, so that it can overrule a box before it."""
    end = _sentence_end(text, found.end)
    behind = text[found.end : end]
    if end == len(text) and not behind.strip(" *$\\)]") and boxed.startswith(text[found.start : found.end].strip()):
        return False  # the text was cut off within the number
    return len(behind) <= BEHIND_BOX and not re.search(r"\d", behind)


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at, at + 400)
    return end if end >= 0 else min(len(text), at + 400)


def _chain(text: str, number: Number, end: int, code: str) -> _Found | None:
    """Follow "4 × 1,400 = 5,600" from its first number to its result; None where no operator follows."""
    operator = phrases().operator.match(text, number.end, end)
    if operator is None:
        return None
    sentence = min(_sentence_end(text, number.end), end)
    equals = _last(_EQUALS, text, number.end, sentence)
    if equals is not None:
        lead = phrases().lead.match(text, equals.end(), sentence)
        result = number_at(text, lead.end() if lead else equals.end(), code)
        if result is not None and not phrases().operator.match(text, result.end, sentence):
            return _Found(result.value, result.start, result.end, result.note)
        return (
            None
            if operator["op"] in "=≈≃\\approx"
            else _Found(None, number.start, sentence, "an equation without result")
        )
    op = operator["op"]
    direct = text[number.end : operator.start("op")].strip() == ""
    if op in ("-", "–", "−", "^", "**") and not direct:
        return None
    if op in ("-", "–", "−") and not text[operator.start("op") - 1].isspace():
        return _Found(None, number.start, operator.end(), "a range")
    last = number.end
    while (piece := _FORMULA.match(text, last, end)) and piece.end() > last:
        last = piece.end()
    formula = text[number.start : last].rstrip(" .,\n")
    value, note = evaluate(_english(re.sub(r"(?<=\d)\s*x\s*(?=\d)", r"\\times ", formula).replace("–", "-"), code))
    return _Found(value, number.start, number.start + len(formula), note)


def _cue_sentence(text: str, cue: re.Match[str], code: str) -> tuple[str, _Found] | None:
    """The number in the sentence that a cue opens, with words between them."""
    at = cue.end()
    line = max(text.rfind("\n", 0, cue.start()), cue.start() - 80, 0)
    if _LINE_OPENS.match(text, line, cue.start()) is None:
        found = _best_of(text, at, _sentence_end(text, at), code, line)
        return ("cue_sentence", found) if found else None
    lead = phrases().lead.match(text, at)
    content = lead.end() if lead else at
    ended = _PARAGRAPH_END.search(text, content, min(len(text), content + _REACH))
    end = ended.start() if ended else min(len(text), content + _REACH)
    found = _best_of(text, at, end, code, line)
    if found is not None and found.note == _SEVERAL:  # the cue is the heading of a whole solution
        rule, last = _without_cue(text, at, code)
        if last is not None and (rule in ("bold", "conclusion") or end < len(text.rstrip())):
            return "cue_sentence", _Found(
                last.value, last.start, last.end, _SEVERAL if last.note == _NO_CUE else last.note
            )
    return ("cue_sentence", found) if found else None


_SEVERAL = "several numbers in the sentence"
_NO_CUE = "no cue"


def _best_of(text: str, start: int, end: int, code: str, line: int | None = None) -> _Found | None:
    """The last bold number between two places, else the last number outside trailing brackets.

    Args:
        line: where the line of `start` begins, so that its bold marks are paired rightly.
    """
    bold = None
    for match in _BOLD.finditer(text, start if line is None else line, end):
        group = match.lastindex or 1
        inside = numbers_in(text, match.start(group), match.end(group), code) if match.start(group) >= start else []
        if inside:
            bold = inside[-1]
    numbers = numbers_in(text, start, end, code)
    if bold is None:
        bracketed = _BRACKETED_END.search(text, start, end)
        outside = [n for n in numbers if bracketed is None or n.start < bracketed.start()]
        numbers = outside or numbers
    chosen = bold or (numbers[-1] if numbers else None)
    if chosen is None:
        return None
    several = len({n.value for n in numbers}) > 1
    chosen = with_half(text, chosen)
    note = chosen.note or (_SEVERAL if several and bold is None else "")
    return _Found(chosen.value, chosen.start, chosen.end, note)


# --- no cue


def _without_cue(text: str, begin: int, code: str) -> tuple[str | None, _Found | None]:
    """What a text without a cue concludes with; a sentence that was cut off concludes nothing."""
    start = max(begin, len(text) - 2 * _REACH)
    numbers = numbers_in(text, start, len(text), code)
    if not numbers:
        return None, None
    last = numbers[-1]
    bold = _last(_BOLD, text, start, len(text))
    if bold is not None:
        group = bold.lastindex or 1
        inside = [n for n in numbers if bold.start(group) <= n.start < bold.end(group)]
        if len(inside) == 1 and inside[0] == last:
            return "bold", _Found(last.value, last.start, last.end, _NO_CUE)
    end = _sentence_end(text, last.end)
    if end >= len(text) and len(text) - last.end > BEHIND_BOX:
        return None, None
    concluded = _last(phrases().conclusion, text, start, last.start)
    if concluded is not None and _sentence_end(text, concluded.end()) >= last.end:
        found = _best_of(text, concluded.end(), end, code)
        if found is not None:
            return "conclusion", _Found(found.value, found.start, found.end, found.note or _NO_CUE)
    found = _best_of(text, text.rfind("\n", start, last.start) + 1 or start, end, code)
    if found is None:
        return None, None
    return "last_number", _Found(found.value, found.start, found.end, found.note or _NO_CUE)
