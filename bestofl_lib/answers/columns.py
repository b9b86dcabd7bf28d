"""Answers of whole tables: the readings of `read_answer`, made faster and graded against the references."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path

import polars as pl

from bestofl_lib.answers.equations import count_equations
from bestofl_lib.answers.expressions import read_expressions
from bestofl_lib.answers.phrases import phrases
from bestofl_lib.answers.reading import Cues, Reading, found_by, if_cut, read_answer
from bestofl_lib.answers.statements import BEHIND_BOX
from bestofl_lib.languages import language
from bestofl_lib.numbers.equality import Equality
from bestofl_lib.numbers.marks import THREE_DIGITS
from bestofl_lib.numbers.references import read_number
from bestofl_lib.numbers.written import canonical
from bestofl_lib.tables import KEY, SCHEMAS
from bestofl_lib.text import counted

READINGS = pl.Schema({c: t for c, t in SCHEMAS["readings"].items() if c != "trace_language"})


def read_answers(candidates: pl.DataFrame, problems: pl.DataFrame, memory: Path | None = None) -> pl.DataFrame:
    """The readings of a whole table of candidates, graded exactly.

    Args:
        candidates: one row per candidate, with the key columns and `completion`; where `finish_reason` is "length", the
            text was cut off, see `read_answer`.
        problems: one row per problem and language, with `problem_id`, `language`, `reference`; where `answer_kind` is
            "expression", answers are read by `expressions.read_expression` and compared by math-verify. Where it is a
            number that is not whole, three digits behind the language's decimal mark are decimals.
        memory: a file that keeps what math-verify said about each expression, for the next time.

    Returns:
        One row per candidate, in the order given: key, answer (canonical or null), rule (which read the answer; null
        where there is none), start, end, note, is_correct (never null), equations, false_equations.

    Raises:
        ValueError: an unknown language, a candidate whose problem is unknown, or a reference that is not a number.
    """
    for code in candidates["language"].unique().to_list():
        language(code)
    length = pl.col("finish_reason") == "length" if "finish_reason" in candidates.columns else pl.lit(False)
    keyed = candidates.with_columns(cut=length.fill_null(False)).select(
        *(pl.col(c).cast(t) for c, t in KEY.items()), "completion", "cut"
    )
    keyed = keyed.hstack(count_equations(keyed["completion"], keyed["language"])).with_row_index("row")
    expressions = _expressions(problems)
    by_algebra = pl.col("problem_id").is_in(list(expressions))
    numbers = keyed.filter(~by_algebra)
    read = read_completions(numbers["completion"], numbers["language"], numbers["cut"])
    table = _grade(
        _with_three_decimals(numbers.hstack(read), problems),
        problems.filter(~pl.col("problem_id").cast(pl.String).is_in(list(expressions))),
    )
    if expressions:
        rest = keyed.filter(by_algebra)
        equality = Equality(memory)
        compared = rest.hstack(read_expressions(rest, expressions, equality))
        equality.save()
        table = pl.concat([table, compared.select(table.columns)]).sort("row")
    return table.select(pl.col(c).cast(t) for c, t in READINGS.items())


def _with_three_decimals(read: pl.DataFrame, problems: pl.DataFrame) -> pl.DataFrame:
    """The readings with 1.125 as 9/8 where the problem's reference is not whole, see `reading`'s ambiguous mark."""
    fractions = problems.filter(pl.col("reference").str.contains("/", literal=True))["problem_id"].unique()
    read_as_thousands = pl.col("note").str.ends_with(THREE_DIGITS) & pl.col("answer").is_not_null()
    chosen = read.filter(read_as_thousands & pl.col("problem_id").is_in(fractions.cast(pl.String).implode()))
    if chosen.is_empty():
        return read
    smaller = [canonical(Fraction(answer) / 1000) for answer in chosen["answer"]]
    made = chosen.select("row", answer=pl.Series(smaller), note=pl.lit("three decimals, since the reference has some"))
    return read.update(made, on="row")


def _expressions(problems: pl.DataFrame) -> dict[str, str]:
    """The problems whose reference is an expression, and it."""
    if "answer_kind" not in problems.columns:
        return {}
    chosen = problems.filter(pl.col("answer_kind") == "expression").select("problem_id", "reference")
    return dict(chosen.unique("problem_id").iter_rows())


_READ = pl.Schema({c: READINGS[c] for c in ("answer", "rule", "start", "end", "note")})
# invisible characters, in several patterns: a pattern of more literals is searched for ten times slower
_UNSEEN = ("[\u200b-\u200f]", "[\u202a-\u202e]", "[\u2060-\u2069]", "[\u00ad\ufeff\u0000]")
_THINKING = r"</?think|</?reasoning|<\|(?:begin|end)_of_thought|◁"
_ONE_WHOLE_NUMBER = (
    r"^(\P{N}*?)([1-9][0-9]{0,2}(?:[,.\x{a0}\x{202f}][0-9]{3})+|"
    r"[1-9][0-9]?(?:,[0-9]{2})+,[0-9]{3}|[1-9][0-9]{0,17})(\P{N}*)$"
)
_LAST_BOX = r"(\\f?boxed\s*\{(?:[^{}\n\\]|\\[^bf\n]|\{[^{}\n]*\})*\})((?:[^\\]|\\[^bf])*)$"  # and what is behind it
_BEFORE_BOX = 2 * BEHIND_BOX  # characters before a box in which another box can make it doubtful
_BEFORE_CUE = 201  # characters before a cue that can matter to its sentence: its clause and where its line opens
_NEAR_THE_END = 1_000  # characters
_TEXT = pl.col("completion")


def read_completions(completions: pl.Series, languages: pl.Series, cut: pl.Series | None = None) -> pl.DataFrame:
    """What `read_answer` reads in each completion, for a whole column.

    A box or a cue decides the answer, whatever precedes it. So the text from the last box or cue on is cut out with
    Polars, each distinct piece is read once, and only where the piece does not decide the whole completion is read.

    Args:
        completions: raw texts, may be null.
        languages: code of each question's language.
        cut: whether each was cut off at the token limit; by default none was.

    Returns:
        One row per completion, in order: answer (canonical or null), rule (null where the answer is), start, end, note.
    """
    frame = pl.DataFrame(
        {"completion": completions.cast(pl.String), "language": languages.cast(pl.String)}
    ).with_row_index("row")
    pieces = _deciding_pieces(frame)
    by_shape = _read_by_shape(pieces.filter("alone"))
    by_piece = _read_by_piece(pieces.join(by_shape, on="row", how="anti"), frame)
    fast = pl.concat([by_shape, by_piece])
    slow = _read_whole(frame.join(fast, on="row", how="anti"), pieces)
    table = pl.concat([fast.select("row", *(pl.col(c).cast(t) for c, t in _READ.items())), slow]).sort("row")
    return _without_what_the_cut_took(table.select(list(_READ)), frame["completion"], cut)


def _deciding_pieces(frame: pl.DataFrame) -> pl.DataFrame:
    """What may decide by itself: the last box, or the text from the last cue on.

    Args:
        frame: row, completion, language.

    Returns:
        One row per completion that has a piece: row, language, before (characters before it), piece, wanted (its rule),
        alone (whether nothing that precedes the piece can matter to where it starts). Where a completion has no box and
        no cue, the piece is null.
    """
    usual = frame.lazy().filter(_TEXT.is_not_null(), ~_has_unseen(), ~_TEXT.str.contains(_THINKING))
    has_box = _TEXT.str.contains("boxed", literal=True)
    boxes, rest = pl.collect_all([_boxes(usual.filter(has_box)), usual.filter(~has_box)], engine="streaming")
    return pl.concat(
        [part.select("row", "language", "before", "piece", "wanted", "alone") for part in (boxes, _cues(rest))]
    )


def _has_unseen() -> pl.Expr:
    """Whether there are invisible characters: then places in what is seen are others."""
    return pl.any_horizontal(_TEXT.str.contains(some) for some in _UNSEEN)


def _boxes(frame: pl.LazyFrame) -> pl.LazyFrame:
    """The last box of each completion, where behind it no cue or conclusion can overrule it with a number.

    The piece extends over what can matter to the box: another box on the line before it, a scale word behind it.
    """
    box, behind, start = pl.col("box"), pl.col("behind"), pl.col("before")
    with_digits = pl.when(behind.str.contains(r"\p{N}")).then(behind)
    overruled = with_digits.str.contains_any(phrases().overruling_words).fill_null(False)
    near = behind.str.slice(0, BEHIND_BOX)
    room = pl.min_horizontal(start, _BEFORE_BOX)
    return (
        frame.with_columns(_TEXT.str.extract_groups(_LAST_BOX).struct.rename_fields(["box", "behind"]).struct.unnest())
        .filter(box.is_not_null(), ~overruled)
        .with_columns(before=_TEXT.str.len_chars() - box.str.len_chars() - behind.str.len_chars())
        .with_columns(line=_TEXT.str.slice(start - room, room), scaled=near.str.contains_any(phrases().scale_words))
        .with_columns(second=pl.col("line").str.contains(r"boxed[^\n]*$"))
        .filter(~pl.col("second") | box.str.contains(r"boxed[^b]*\p{Nd}[^b]*$"))  # else an earlier box may be read
        .select(
            "row",
            "language",
            before=pl.when("second").then(start - room).otherwise(start),
            piece=pl.when("second").then("line").otherwise(pl.lit(""))
            + box
            + pl.when("scaled").then(near).otherwise(pl.lit("")),
            wanted=pl.lit("boxed"),
            alone=pl.lit(True),
        )
    )


def _cues(frame: pl.DataFrame) -> pl.DataFrame:
    """The text from the last cue on, of completions without a box; most cues stand near the end."""
    near = _from_last_cue(frame, _TEXT.str.tail(_NEAR_THE_END))
    without = pl.col("piece").is_null()
    return pl.concat([near.filter(~without), _from_last_cue(near.filter(without), _TEXT)])


def _from_last_cue(frame: pl.DataFrame, text: pl.Expr) -> pl.DataFrame:
    """The cue may be part of a heading that starts before it; then the piece is not to be read alone."""
    whole, place = text.cast(pl.Binary), pl.col("place")
    before, starts = whole.bin.slice(0, place), [start.encode() for start in phrases().heading_starts]
    headed = pl.any_horizontal(place == 0, *(before.bin.ends_with(start) for start in starts))
    return (
        frame.with_columns(place=_last(phrases().cue_words, text))
        .with_columns(piece=whole.bin.slice(place).cast(pl.String), wanted=pl.lit("cue"), alone=~headed)
        .with_columns(before=_TEXT.str.len_chars() - pl.col("piece").str.len_chars())
    )


def _last(words: list[str], text: pl.Expr = _TEXT) -> pl.Expr:
    """The place, in bytes, where the last of some words starts in a text; null where there is none."""
    return text.str.find_many(words, overlapping=True).list.max()


def _with_last(frame: pl.DataFrame, name: str, words: list[str]) -> pl.DataFrame:
    """A column more: the place, in characters, where the last of some words starts; -1 where there is none."""

    def placed(rows: pl.DataFrame, text: pl.Expr) -> pl.DataFrame:
        behind = text.cast(pl.Binary).bin.slice(_last(words, text)).cast(pl.String)
        return rows.with_columns((_TEXT.str.len_chars().cast(pl.Int64) - behind.str.len_chars()).alias(name))

    near = placed(frame, _TEXT.str.tail(_NEAR_THE_END))
    without = pl.col(name).is_null()
    return pl.concat([near.filter(~without), placed(near.filter(without), _TEXT)]).with_columns(
        pl.col(name).fill_null(-1)
    )


def _read_by_piece(pieces: pl.DataFrame, frame: pl.DataFrame) -> pl.DataFrame:
    """Read each distinct piece once; a cue's piece is preceded by what matters to its sentence.

    Returns:
        One row per piece that decides: row, answer, rule, start, end, note.
    """
    cued = pl.col("wanted") == "cue"
    at = pl.when(cued).then(pl.min_horizontal("before", pl.lit(_BEFORE_CUE))).otherwise(0)
    pieces = (
        pieces.drop_nulls("piece")
        .join(frame.select("row", "completion"), on="row", how="left")
        .with_columns(at=at, before=pl.col("before") - at)
        .with_columns(piece=pl.when(cued).then(_TEXT.str.slice(pl.col("before"))).otherwise("piece"))
    )
    once = cache(_piece)
    read = [
        once(piece, code, wanted, at, wanted == "cue")
        for piece, code, wanted, at in pieces.select("piece", "language", "wanted", "at").iter_rows()
    ]
    return _at_their_places(pieces.hstack(_rows(read)).drop_nulls("note"))


def _read_whole(frame: pl.DataFrame, pieces: pl.DataFrame) -> pl.DataFrame:
    """Read completions from their end; where they have no box, it is known where their last cue and heading are.

    Args:
        frame: row, completion, language.
        pieces: from `_deciding_pieces`.

    Returns:
        One row per completion: row, answer, rule, start, end, note.
    """
    known = pieces.filter(pl.col("wanted") == "cue").select("row", cue=pl.col("before").cast(pl.Int64).fill_null(-1))
    frame = frame.join(known, on="row", how="left")
    cued = _with_last(frame.filter(pl.col("cue").is_not_null()), "heading", phrases().heading_words)
    other = _with_last(frame.filter(pl.col("cue").is_null()), "cue", phrases().cue_words)
    whole = pl.concat([cued, other.with_columns(pl.when(~_has_unseen()).then("cue").alias("cue"))], how="diagonal")
    once = cache(_whole)
    read = [once(*row) for row in whole.select("completion", "language", "cue", "heading").iter_rows()]
    return whole.select("row").hstack(_rows(read))


def _whole(completion: str | None, code: str, cue: int | None, heading: int | None) -> Reading:
    """The reading of a completion of which it may be known where the last cue and the last heading are."""
    if completion is None or cue is None:
        return read_answer(completion, code)
    return found_by(completion, code, Cues(0, cue, sys.maxsize if heading is None else heading))[1]


def _without_what_the_cut_took(read: pl.DataFrame, completions: pl.Series, cut: pl.Series | None) -> pl.DataFrame:
    if cut is None or not cut.any():
        return read
    lost: dict[int, str] = {}
    for row in (cut.fill_null(False) & read["answer"].is_not_null()).arg_true():
        answer, rule, start, end, note = read.row(row)
        kept = if_cut(Reading(Fraction(answer), "", start, end, rule, note), completions[row])
        if kept.value is None:
            lost[row] = kept.note
    place = pl.int_range(pl.len())
    taken = place.is_in(list(lost))
    return read.with_columns(
        answer=pl.when(~taken).then("answer"),
        rule=pl.when(~taken).then("rule"),
        note=pl.when(taken).then(place.replace_strict(lost, default="", return_dtype=pl.String)).otherwise("note"),
    )


def _read_by_shape(pieces: pl.DataFrame) -> pl.DataFrame:
    """Read the pieces whose only number is a whole one: where the answer is read does not depend on its digits.

    Every such piece is read once with all its digits turned into nines. Where the reading is that number itself and
    nothing is doubtful, the answer is the number's digits.

    Args:
        pieces: one row per piece: row, language, before (characters cut off), piece, wanted (the rule that must fire).

    Returns:
        One row per piece that could be read so: row, answer, rule, start, end, note.
    """
    shaped = (
        pieces.select("language", "piece", "wanted")
        .unique(maintain_order=True)
        .with_columns(groups=pl.col("piece").str.extract_groups(_ONE_WHOLE_NUMBER))
        .with_columns(number=pl.col("groups").struct.field("2"))
        .filter(pl.col("number").is_not_null())
        .with_columns(
            shape=pl.col("groups").struct.field("1")
            + pl.col("number").str.replace_all("[0-9]", "9")
            + pl.col("groups").struct.field("3")
        )
    )
    shapes = shaped.select("language", "shape", "wanted").unique(maintain_order=True)
    rows: list[Reading | None] = []
    for code, shape, wanted in shapes.iter_rows():
        reading = _piece(shape, code, wanted)
        itself = reading is not None and reading.answer == re.sub(r"\D", "", shape) and reading.text[:1] == "9"
        rows.append(reading if itself and reading is not None and not reading.note else None)
    read = pl.concat([shapes, _rows(rows).drop("answer")], how="horizontal").filter(pl.col("rule").is_not_null())
    decided = shaped.join(read, on=["language", "shape", "wanted"], how="inner").with_columns(
        answer=pl.col("number").str.replace_all("[^0-9]", "")
    )
    return _at_their_places(pieces.join(decided, on=["language", "piece", "wanted"], how="inner"))


def _at_their_places(read: pl.DataFrame) -> pl.DataFrame:
    """The readings of pieces with places in the whole completion.

    Returns:
        One row per piece: row, answer, rule, start, end, note.
    """
    return read.select(
        "row",
        "answer",
        "rule",
        (pl.col("start") + pl.col("before")).cast(pl.Int32),
        (pl.col("end") + pl.col("before")).cast(pl.Int32),
        "note",
    )


def _piece(piece: str, code: str, wanted: str, at: int = 0, sentences: bool = False) -> Reading | None:
    """The reading of the end of a completion; None where it does not decide what the whole is read as.

    Args:
        wanted: "boxed": the piece is a box; "cue": the last cue starts at `at`, and the whole has no box.
        sentences: whether what stands before `at` is enough for the sentence of the cue.
    """
    if wanted == "boxed":
        known = Cues(last=-1, until="boxed")
    else:
        known = Cues(at, at, -1, until="cue_sentence" if sentences else "cue")
    rule, reading = found_by(piece, code, known)
    return reading if rule is not None and THREE_DIGITS not in reading.note else None


def _rows(readings: Sequence[Reading | None]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "answer": [r.answer if r else None for r in readings],
            "rule": [r.rule if r else None for r in readings],
            "start": [r.start if r else None for r in readings],
            "end": [r.end if r else None for r in readings],
            "note": [r.note if r else None for r in readings],
        },
        schema=_READ,
    )


def _grade(read: pl.DataFrame, problems: pl.DataFrame) -> pl.DataFrame:
    """Add is_correct: the answer equals the reference as a number; null answers are not correct."""
    references = problems.select("problem_id", "language", "reference").unique(["problem_id", "language"])
    texts = references["reference"].unique().to_list()
    values = {text: read_number(text) if text is not None else None for text in texts}
    bad = [text for text, value in values.items() if value is None]
    if bad:
        row = references.filter(
            pl.col("reference").is_in([b for b in bad if b is not None]) | pl.col("reference").is_null()
        ).row(0)
        raise ValueError(f"reference {row[2]!r} of problem {row[0]} ({row[1]}) is not a number; correct the data set")
    spelled = {text: canonical(value) for text, value in values.items() if value is not None}
    references = references.with_columns(
        pl.col("problem_id").cast(pl.String), pl.col("reference").replace_strict(spelled, return_dtype=pl.String)
    )
    joined = read.join(references, on=["problem_id", "language"], how="left", maintain_order="left")
    lost = joined.filter(pl.col("reference").is_null())
    if lost.height:
        first = lost.row(0, named=True)
        raise ValueError(
            f"{counted(lost.height, 'candidate')} without a problem, the first {first['problem_id']!r} "
            f"({first['language']}); "
            "expected each (problem_id, language) among the problems; read the problems the candidates were drawn for"
        )
    graded = joined.with_columns(is_correct=(pl.col("answer") == pl.col("reference")).fill_null(False))
    return graded.select("row", *READINGS)
