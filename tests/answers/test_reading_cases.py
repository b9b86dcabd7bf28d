"""Every case of every language reads as its row says, with and without prose before it."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import polars as pl
import pytest

from bestofl_lib.answers.columns import read_answers, read_completions
from bestofl_lib.answers.reading import found_by, read_answer
from bestofl_lib.languages import LANGUAGES

HERE = Path(__file__).parent / "reading_cases"
PROBES = Path(__file__).resolve().parents[1] / "data" / "answer_probes.jsonl"
PROSE = "First we count: there are 3 boxes with 7 things each, so 3 × 7 = 21.\n\n"


def cases(code: str) -> list[tuple[Fraction | None, str]]:
    rows = []
    for line in (HERE / f"{code}.tsv").read_text("utf8").split("\n"):
        if line and not line.startswith("# "):
            value, _, completion = line.partition("\t")
            text = completion.replace("\\\\", "\0").replace("\\n", "\n").replace("\\t", "\t").replace("\0", "\\")
            rows.append((None if value == "-" else Fraction(value), text))
    return rows


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_case_of_a_language_reads_as_its_row_says(code: str) -> None:
    wrong = [
        (text, value, read_answer(text, code)) for value, text in cases(code) if read_answer(text, code).value != value
    ]
    assert not wrong


@pytest.mark.parametrize("code", LANGUAGES)
def test_prose_before_an_answer_changes_nothing_but_its_place(code: str) -> None:
    for value, text in cases(code):
        alone, behind = read_answer(text, code), read_answer(PROSE + text, code)
        if found_by(text, code)[0] in ("boxed", "cue", "cue_sentence"):
            assert (behind.value, behind.rule) == (value, alone.rule), text
            assert behind.start == alone.start + len(PROSE)


@pytest.mark.parametrize("code", LANGUAGES)
def test_the_span_of_a_reading_is_what_it_says_was_written(code: str) -> None:
    for _, text in cases(code):
        reading = read_answer(text, code)
        if reading.start is not None:
            assert text[reading.start : reading.end] == reading.text


def test_there_are_at_least_three_hundred_cases() -> None:
    assert sum(len(cases(code)) for code in LANGUAGES) >= 300


def test_a_table_reads_every_case_like_one_completion_at_a_time() -> None:
    rows = [(code, text) for code in LANGUAGES for _, text in cases(code)]
    rows += [(code, PROSE + text) for code, text in rows]
    frame = pl.DataFrame(rows, schema=["language", "completion"], orient="row")
    read = read_completions(frame["completion"], frame["language"])
    for (code, text), row in zip(rows, read.iter_rows(), strict=True):
        one = read_answer(text, code)
        assert row == (one.answer, one.rule, one.start, one.end, one.note), text


def test_the_answer_probes_all_read_right() -> None:
    probes = [json.loads(line) for line in PROBES.read_text("utf8").splitlines()]
    assert [read_answer(p["completion"], p["language"]).value for p in probes] == [Fraction(p["value"]) for p in probes]
    candidates = pl.DataFrame(
        {
            "problem_id": [str(i) for i in range(len(probes))],
            "language": [p["language"] for p in probes],
            "sample_index": [0] * len(probes),
            "completion": [p["completion"] for p in probes],
        }
    )
    problems = candidates.select("problem_id", "language", reference=pl.Series([p["value"] for p in probes]))
    assert read_answers(candidates, problems)["is_correct"].all()


HELD_OUT = {  # file -> what is still read otherwise than its row says
    "held_out": {
        "Answer: 64 dollars and 50 cents",
        "The answer is three dozen eggs, i.e. 36.",
        "Therefore the train covers 240 km in 3 hours.",
    },
    "held_out_second": {"Είναι 7 η απάντηση;"},  # the Greek question mark is a semicolon
    "held_out_third": {
        # two units of money: none rather than one of the two
        "The answer is 12 dollars and 5 cents.",
        "Die Antwort ist 9 Euro und 50 Cent.",
        "La réponse est 4 euros et 20 centimes.",
        "La respuesta es 15 dólares y 50 centavos.",
        "Jibu ni dola 64 na senti 50.",
        "A resposta é 8 reais e 25 centavos.",
        "La risposta è 6 euro e 70 centesimi.",
        # cut off without saying so: sampling and pools say it by finish_reason
        "First, she buys 4 packs of 6, which is 24. Then she gives 5 to",
        "Primero, 5 × 8 = 40. Después restamos 12 y",
        "まず、りんごは 3 個あります。次に",
        "D'abord, 7 × 9 = 63. Ensuite, il faut ajouter",
        # three decimals, without a reference that has some
        "The parcel weighs 1.125 kg. The answer is 1.125 kg.",
        "\\boxed{4.472}",
        "Die Antwort ist 1,125 kg.",
        # a dozen is a unit: problems ask for how many dozens
        "The answer is 4 dozen.",
        "La réponse est 2 douzaines.",
        "Answer: three dozen",
        "She needs 3 buses because 120 / 50 = 2.4, and she cannot rent part of a bus.",
    },
}


@pytest.mark.parametrize("name", HELD_OUT)
def test_held_out_endings_read_as_their_rows_say_but_for_those_named(name: str) -> None:
    rows = [line.split("\t") for line in (HERE / f"{name}.tsv").read_text("utf8").splitlines() if line[:2] != "# "]
    wrong = set()
    for code, value, written in rows:
        text = written.replace("\\\\", "\0").replace("\\n", "\n").replace("\0", "\\")
        if read_answer(text, code).value != (None if value == "-" else Fraction(value)):
            wrong.add(text)
    assert wrong == HELD_OUT[name]
