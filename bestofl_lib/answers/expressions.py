r"""Read the answers of problems whose reference is an expression: \frac{\pi}{2}, (1, 2], {1, 3}, x = 5, (B).

The answer stands in the last box, else behind the last cue, as for numbers. It is read as a whole or not at all:
what is not understood has no answer and is never its first number. Words are compared as a whole: "neither even nor
odd" is not "neither". A percentage is the number before its sign, as for numbers: 60 is 60 %, and 0.6 is not. Equal
answers of a problem vote together: they are written as the reference where they equal it, else as the first of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import polars as pl

from bestofl_lib.answers.boxes import EMPTY_BOX, boxes_from_the_end, is_stated
from bestofl_lib.answers.phrases import phrases, spellings
from bestofl_lib.answers.reading import behind_thinking, cues_from_the_end, seen_places
from bestofl_lib.answers.statements import BEHIND_BOX, SENTENCE_END, asks, sentence_end
from bestofl_lib.languages import LANGUAGES, remembered
from bestofl_lib.numbers.equality import Equality
from bestofl_lib.numbers.forms import form_of, spelled
from bestofl_lib.numbers.marks import uniform
from bestofl_lib.text import trie

NOT_UNDERSTOOD = "not understood as an expression"
_BETWEEN_BOXES = re.compile(
    r"[\s$*,;]*(?:\\\))?[\s$*,;]*(?:\\text\{[^{}]*\}|[^\W\d_]{1,4})?"
    r"[\s$*,;]*(?:\\\()?[\s$]*(?:[a-zA-Z](?:_\w)?\s*=\s*)?"
)


@dataclass(frozen=True)
class ExpressionReading:
    """The expression that one completion gives as its answer."""

    answer: str | None  # as `forms.spelled` writes it; None: nothing that could be read
    start: int | None = None  # span in the completion, in characters
    end: int | None = None
    rule: str | None = None  # "boxed" or "cue"; None where there is no answer
    note: str = ""  # empty, or why the reading is missing


def read_expression(completion: str | None, code: str, cut: bool = False) -> ExpressionReading:
    """The expression that a completion gives as its answer.

    Args:
        completion: raw text.
        code: language of the question, a known one.
        cut: whether generation stopped at the token limit: an answer that touches the end is none then.

    Returns:
        The reading, never an exception. Whether math-verify understands it is asked by `read_expressions`.

    >>> read_expression(r"So it is $\\boxed{\\dfrac{\\pi}2}$.", "en").answer
    '\\\\frac{\\\\pi}{2}'
    >>> read_expression("Antwort: 3 Äpfel oder mehr", "de").note
    'not understood as an expression'
    """
    if not completion or not completion.strip():
        return ExpressionReading(None, note="empty")
    places = seen_places(completion)
    text = uniform(completion if len(places) == len(completion) else "".join(completion[i] for i in places))
    begin = behind_thinking(text)
    if begin is None:
        return ExpressionReading(None, note="thinking never ends")
    found = _boxed(text, begin, code) or _behind_cue(text, begin, code)
    if found is None:
        return ExpressionReading(None, note="no box and no cue")
    if found.start is None or found.end is None:
        return found
    if cut and found.answer is not None and not text[found.end :].strip(" \t$.*"):
        return ExpressionReading(None, note="the answer touches the cut")
    return replace(found, start=places[found.start], end=places[max(found.end - 1, found.start)] + 1)


def _boxed(text: str, begin: int, code: str) -> ExpressionReading | None:
    """What the last box holds, together with those just before it; behind an empty one, a cue says the answer."""
    every = boxes_from_the_end(text, begin)
    boxes = [box for box in every if text[box[1] : box[2]].strip(" $") or is_stated(text, begin, box[0])]
    if not boxes:
        return None
    if not text[boxes[0][1] : boxes[0][2]].strip(" $"):
        empty = ExpressionReading(None, boxes[0][1], boxes[0][2], note=EMPTY_BOX)
        return _behind_cue(text, boxes[0][2], code) or empty
    said = [boxes[0]]
    for box in boxes[1:]:
        between = text[box[2] + 1 : said[-1][0]]
        if "\n" in between or len(between) > BEHIND_BOX or SENTENCE_END.search(between):
            break
        if not _BETWEEN_BOXES.fullmatch(between):
            if text[box[1] : box[2]].strip() == text[said[-1][1] : said[-1][2]].strip():
                break
            return ExpressionReading(None, box[1], said[0][2], note="several boxes")
        said.append(box)
    inside = [text[inner:close].strip() for _, inner, close in reversed(said)]
    whole = ", ".join(dict.fromkeys(inside))
    return _understood(whole, said[-1][1], said[0][2], "boxed", code)


def _understood(written: str, start: int, end: int, rule: str, code: str) -> ExpressionReading:
    if "?" in written or phrases().refusal.search(written):
        return ExpressionReading(None, start, end, note="a refusal")
    answer = spelled(written, code)
    form = form_of(answer)
    if form is None and rule == "boxed" and re.fullmatch(r"[^\W\d_]+(?:[ '-][^\W\d_]+){0,3}", answer):
        answer = rf"\text{{{answer}}}"  # a word alone in the box: an option's text
        form = form_of(answer)
    if form is None:
        return ExpressionReading(None, start, end, note=NOT_UNDERSTOOD)
    if form.kind == "value" and not form.unit and not form.name:
        answer = spelled(form.text)  # without words behind it
    return ExpressionReading(answer, start, end, rule)


# -- behind a cue

_MATH = re.compile(r"\$\$?([^$\n]{1,300})\$\$?|\\\(([^\n]{1,300}?)\\\)|\\\[([^\n]{1,300}?)\\\]")
_MARKUP = re.compile(r"\$+|\\[()\[\]]|\*\*|__|`")
_WORDS_BEHIND = re.compile(r"[\s*_.。।,!]*(?:[^\W\d_]+[\s*_.。।!]*){0,3}")


@remembered
def _lead() -> re.Pattern[str]:
    """What may stand between a cue and its answer."""
    copulas = spellings({word for record in LANGUAGES.values() for word in record.copulas})
    cased = trie(word for word in copulas if word[0].upper() != word[0].lower())
    free = trie(word for word in copulas if word[0].upper() == word[0].lower())
    return re.compile(rf"(?:[\s*_:=≈\"“”„«»`#>→⇒|•]|{cased}(?![^\W_])|{free})*+")


def _behind_cue(text: str, begin: int, code: str) -> ExpressionReading | None:
    """What stands behind the last cue: the rest of its sentence, or the formula that it opens with."""
    tried: ExpressionReading | None = None
    for cue in cues_from_the_end(phrases().cue, text, begin, len(text)):
        lead = _lead().match(text, cue.end())
        start = lead.end() if lead else cue.end()
        end = _end(text, start)
        if start >= end or asks(text, start):
            continue
        for stop in _stops(text, start, end):
            found = _understood(_MARKUP.sub(" ", text[start:stop]).strip(), start, stop, "cue", code)
            if stop < end and _is_part_of_text(found.answer):
                break
            if found.answer is not None or found.note != NOT_UNDERSTOOD:
                return found
            tried = tried or found
        break
    return tried


def _is_part_of_text(answer: str | None) -> bool:
    """Whether an answer that words follow is itself in words, so that it is not all of them: \\text{neither} even nor
    odd. A number's words are its unit, an option's its text.
    """
    form = form_of(answer) if answer else None
    return form is not None and form.kind == "text" and len(form.text) > 1


def _end(text: str, start: int) -> int:
    """The end of the sentence that starts here; a full stop within a formula ends none."""
    end = sentence_end(text, start)
    while (math := _MATH.search(text, start, min(len(text), end + 300))) and math.start() < end < math.end():
        end = sentence_end(text, math.end())
    return end


def _stops(text: str, start: int, end: int) -> Iterator[int]:
    """Where an answer that starts here may end: with its sentence, or with a formula that only words follow."""
    yield end
    math = _MATH.match(text, start)
    if math is not None and _WORDS_BEHIND.fullmatch(text, math.end(), end):
        yield math.end()


# -- tables


def read_expressions(candidates: pl.DataFrame, references: dict[str, str], equality: Equality) -> pl.DataFrame:
    """The readings of candidates whose references are expressions, equal answers of a problem written alike.

    Args:
        candidates: problem_id, language, completion, and `cut`: whether it was cut off.
        references: of each problem.
        equality: compares, and remembers.

    Returns:
        One row per candidate, in order: answer, rule, start, end, note, is_correct.
    """
    distinct = candidates.select("language", "completion", "cut").unique(maintain_order=True)
    readings = [read_expression(text, code, cut) for code, text, cut in distinct.iter_rows()]
    known = equality.understood(sorted({r.answer for r in readings if r.answer is not None} | set(references.values())))
    readings = [
        replace(r, answer=None, rule=None, note=NOT_UNDERSTOOD) if r.answer is not None and not known[r.answer] else r
        for r in readings
    ]
    fields = ("answer", "rule", "start", "end", "note")
    schema = {"answer": pl.String, "rule": pl.String, "start": pl.Int32, "end": pl.Int32, "note": pl.String}
    table = pl.DataFrame([[getattr(r, name) for r in readings] for name in fields], schema=schema)
    read = candidates.select("problem_id", "language", "completion", "cut").join(
        distinct.hstack(table),
        on=["language", "completion", "cut"],
        how="left",
        nulls_equal=True,
        maintain_order="left",
    )
    stands: dict[tuple[str, str], str] = {}
    for (name,), rows in read.drop_nulls("answer").group_by("problem_id", maintain_order=True):
        problem = str(name)
        for text, one in equality.classes(rows["answer"].unique().to_list(), references[problem]).items():
            stands[problem, text] = one
    answers = [stands.get((name, text)) for name, text in read.select("problem_id", "answer").iter_rows()]
    right = [references[name] == answer for name, answer in zip(read["problem_id"], answers, strict=True)]
    made = read.with_columns(answer=pl.Series(answers, dtype=pl.String), is_correct=pl.Series(right, dtype=pl.Boolean))
    return made.select(*fields, "is_correct")
