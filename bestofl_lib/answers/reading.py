"""Read the answer that a completion gives, exactly, in every language.

`read_answer` is the definition; `read_answers` does a table and gives the same readings, faster. Both know how models
announce answers; how numbers are written is known by `numbers/`, words by `languages.py`, and neither knows the
question or the reference: a reader that knew them would be biased towards them.

**Where the answer is.** Thinking sections are skipped. Then, in this order:

1. `boxed`: the last `\\boxed{…}` that holds a number, unless a cue with a number directly behind it comes later.
   A box that says in words or by "?" that it has no answer decides: None, never an earlier number. So does an empty
   box that stands where an answer does, unless something behind it is an answer by these rules. Where a sentence behind
   several boxes concludes with their sum, the sum is the answer.
2. `cue`: the last cue ("answer", "Antwort", "答え", …, in any language) with a number directly behind it, unless its
   sentence is a question. Words that head explanations ("Solution:", 解答) are cues only where no other cue gives a
   number.
3. `cue_sentence`: the last cue with words between it and the number. In its sentence (in its paragraph, if the cue
   opens a line) the last bold number, else the last number outside trailing brackets.
4. without any cue, each with a note: `first_line`, a number that is the whole first paragraph; `bold`, the bold number
that is the text's last; `conclusion`, the last number, in
   a sentence that opens with "therefore"; `last_number`, the last number. A text that breaks off within the sentence of
   its last number concludes nothing: None.

Directly behind a number, `= …` is followed to the end of its sentence ("4 × 1,400 = 5,600" gives 5600), remarks are not
("5,600 (that is 4 × 1,400)"). Two numbers offered ("18 or 19"), ranges, times, dates and compound units ("1 hour 35
minutes"), and sentences that refuse ("cannot be determined") are no answer: the reading is None and the note says why.
A percentage is the number before its sign.

**The ambiguous mark.** A mark followed by exactly three digits, after one to three digits that are not a lone 0, groups
thousands in every language: `2.125` and `2,125` are both 2125. Otherwise the language's convention holds, then
English's. The cost: a decimal with exactly three decimals (2.125 meant as 17/8) is read a thousand times too large.
In grade-school problems this is far rarer than models that mix the marks of two languages: of 24,402 real completions
the rule decided 10 against the language's own mark, 7 of them right and none that would be right as a decimal. Only
where the mark is the language's decimal mark and the completion writes other decimals with it is it one here as well;
where the mark is the language's own decimal mark, the note says that the rule decided, so that the audit can count the
cost.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import NamedTuple

from bestofl_lib.answers.boxes import EMPTY_BOX, last_box, total_of_boxes
from bestofl_lib.answers.phrases import phrases
from bestofl_lib.answers.statements import REACH, TRIES, Found, asks, closes, cue_sentence, direct_number, without_cue
from bestofl_lib.languages import language
from bestofl_lib.numbers.marks import THREE_DIGITS, uniform
from bestofl_lib.numbers.written import canonical

_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\u0000]")
_THINKING_ENDS = re.compile(r"</think(?:ing)?>|</reasoning>|<\|end_of_thought\|>|◁/think▷")
_THINKING_STARTS = re.compile(r"<think(?:ing)?>|<reasoning>|<\|begin_of_thought\|>|◁think▷")


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


def read_answer(completion: str | None, language_code: str, cut: bool = False) -> Reading:
    """The answer that a completion gives.

    Args:
        completion: raw text, as the model wrote it; None is read as nothing.
        language_code: language of the question; its conventions come before English's.
        cut: whether generation stopped at the token limit: then a number that touches the end of the text, or that was
            found without a box or cue, is no answer.

    Returns:
        The reading. Nothing found, or nothing that is one number, has the value None; never an exception.

    Raises:
        ValueError: the language is not known.

    >>> read_answer("Also 4 × 1.400.\\n\\nAntwort: 5.600 Kalorien", "de").value
    Fraction(5600, 1)
    """
    code = language(language_code).code
    if cut:
        return if_cut(read_answer(completion, language_code), completion)
    if not completion:
        return Reading(None, note="empty")
    if _INVISIBLE.search(completion):
        places = seen_places(completion)
        seen = read_visible(_INVISIBLE.sub("", completion), code)
        if seen.start is None or seen.end is None or seen.start >= len(places):
            return seen
        start, end = places[seen.start], places[max(seen.end - 1, seen.start)] + 1
        return Reading(seen.value, completion[start:end], start, end, seen.rule, seen.note)
    return read_visible(completion, code)


def seen_places(completion: str) -> list[int]:
    """The places of all characters that are not invisible."""
    unseen = set(_INVISIBLE.findall(completion))
    return [i for i, c in enumerate(completion) if c not in unseen]


_TOUCHES_END = re.compile(r"[ \t.,٫٬'’/^:%*=+$\\-]*")


def if_cut(reading: Reading, completion: str | None) -> Reading:
    """The reading of a completion that was cut off at the token limit."""
    if reading.value is None or not completion or reading.end is None:
        return reading
    if reading.rule in ("bold", "conclusion", "last_number"):
        return replace(reading, value=None, rule=None, note="cut off before an answer")
    if _TOUCHES_END.fullmatch(completion, reading.end):
        return replace(reading, value=None, rule=None, note="the number touches the cut")
    return reading


def read_visible(completion: str, code: str) -> Reading:
    """`read_answer` for a text without invisible characters and a code that is known."""
    return found_by(completion, code)[1]


class Cues(NamedTuple):
    """What is known beforehand about the cues of a completion, in characters."""

    first: int = 0  # those before it are not looked at
    last: int = sys.maxsize  # none starts behind it; -1: there is none
    last_heading: int = sys.maxsize  # the same of headings
    until: str = "last_number"  # the last rule that is tried: "boxed", "cue" or "cue_sentence"; else all are


_NOTHING_KNOWN = Cues()


def found_by(completion: str, code: str, known: Cues = _NOTHING_KNOWN) -> tuple[str | None, Reading]:
    """The same, and the rule that decided: unlike the reading's own rule, it is also known where the decision was "no
    answer".
    """
    begin = behind_thinking(completion)
    if begin is None:
        return None, Reading(None, note="thinking never ends")
    solution = completion[begin:]
    if not solution or solution.isspace():
        return None, Reading(None, note="empty")
    text = uniform(completion)
    rule, found = _find(text, begin, code, known)
    if found is None:
        return None, Reading(None, note="no number")
    if THREE_DIGITS in found.note:
        found = _by_other_decimals(text, begin, found, code)
    written = completion[found.start : found.end]
    kept = written.rstrip()
    start = found.start + len(written) - len(written.lstrip())
    end = found.start + len(kept)
    named = rule if found.value is not None else None
    return rule, Reading(found.value, completion[start:end], start, end, named, found.note)


def behind_thinking(completion: str) -> int | None:
    """Where the solution starts: behind the thinking sections; None where one never ends."""
    begin = 0
    if "<" in completion or "◁" in completion:
        for ended in _THINKING_ENDS.finditer(completion):
            begin = ended.end()
        if _THINKING_STARTS.search(completion, begin):
            return None
    return begin


def _find(text: str, begin: int, code: str, known: Cues) -> tuple[str | None, Found | None]:
    box, box_place = last_box(text, begin, code)
    if box is not None and box.note == EMPTY_BOX:
        if known.until == "boxed":
            return None, None
        line = max(begin, text.rfind("\n", begin, box.start) + 1)  # "the answer in \\boxed{} is 7"
        rule, found = _without_box(text, line, code, known)
        return (rule, found) if found is not None and found.start >= box_place else ("boxed", box)
    if box is not None:
        for cue in cues_from_the_end(phrases().cue, text, max(begin, box_place), known.last):
            later = direct_number(text, cue.end(), code, digits_only=True)
            if later is not None and later.value is not None and closes(text, later, text[box.start : box.end]):
                return "cue", later
        return "boxed", total_of_boxes(text, begin, box_place, box, code) or box
    return (None, None) if known.until == "boxed" else _without_box(text, begin, code, known)


def _without_box(text: str, begin: int, code: str, known: Cues) -> tuple[str | None, Found | None]:
    for pattern, last in ((phrases().cue, known.last), (phrases().heading, known.last_heading)):
        for cue in cues_from_the_end(pattern, text, max(begin, known.first), last):
            direct = direct_number(text, cue.end(), code)
            if direct is not None and not asks(text, direct.end):
                return "cue", direct
            sentences = direct is None and known.until != "cue"
            between = cue_sentence(text, cue, code) if sentences else None
            if between is not None:
                return between
    return without_cue(text, begin, code) if known.until == "last_number" else (None, None)


_STEP = 500  # characters searched for cues at a time


def cues_from_the_end(pattern: re.Pattern[str], text: str, begin: int, last: int) -> Iterator[re.Match[str]]:
    """The last `TRIES` matches of a pattern of cues, last first; what stands before the match that decides is not
    searched.

    Each step starts at a line break where there is one: no cue runs over it, so the matches are those of a search of
    the whole.
    """
    end, left, over = min(len(text), last + 1), TRIES, phrases().longest_cue - 1
    while end > begin and left > 0:
        start = max(text.rfind("\n", max(begin, end - 4 * _STEP), max(begin, end - _STEP)), end - 4 * _STEP, begin)
        found = [cue for cue in pattern.finditer(text, start, end + over) if cue.start() < end]
        yield from reversed(found[-left:])
        end, left = start, left - len(found)


_THREE = re.compile(r"\D*?(\d{1,3})([.,])(\d{3})(?!\d)\D*")


def _by_other_decimals(text: str, begin: int, found: Found, code: str) -> Found:
    """Three digits behind the language's decimal mark, where the completion writes other decimals with it and no
    thousands.
    """
    written = _THREE.fullmatch(text, found.start, found.end)
    if written is None or found.value is None or written[2] != language(code).decimal:
        return found
    mark = re.escape(written[2])
    whole = text[begin : begin + 20 * REACH]
    others = re.search(rf"(?<![\d.,])(?:0{mark}\d+|\d+{mark}(?:\d{{1,2}}|\d{{4,9}}))(?![\d.,]*\d)", whole)
    if others is None or re.search(rf"\d{mark}\d{{3}}{mark}\d{{3}}", whole):
        return found
    value = Fraction(f"{written[1]}.{written[3]}")
    return Found(
        -value if found.value < 0 else value, found.start, found.end, "three decimals, as elsewhere in the completion"
    )
