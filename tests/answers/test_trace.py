"""The language of a trace: right on plain questions, silent on numbers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bestofl_lib.analysis.reading_quality import compliance
from bestofl_lib.answers.trace import _code, _identifier, _shares, trace_languages, words_only
from bestofl_lib.languages import LANGUAGES, is_language

MGSM = Path(__file__).resolve().parents[1] / "data" / "mgsm"


def trace_language(text: str | None, languages: Iterable[str] = LANGUAGES) -> tuple[str | None, float]:
    return trace_languages([text], languages).row(0)


def questions(code: str) -> list[str]:
    path = MGSM / f"mgsm_{code}.tsv"
    return [line.split("\t")[0] for line in path.read_text("utf8").splitlines()]


@pytest.mark.parametrize("code", [path.stem.removeprefix("mgsm_") for path in sorted(MGSM.glob("*.tsv"))])
def test_mgsms_own_questions_are_told_apart(code: str) -> None:
    told = trace_languages(questions(code))["trace_language"]
    assert (told == code).sum() >= 0.98 * len(told)
    assert (told.is_not_null() & (told != code)).sum() <= 0.01 * len(told)


@pytest.mark.parametrize(
    "text",
    [
        "",
        None,
        "18",
        "\\boxed{18}",
        "\\[ \\frac{3}{4} \\times 8 = 6 \\]",
        "3 + 4 = 7",
        "১৮ + ৩ = ২১",
        "x = 5, y = 6",
        "OK.",
    ],
)
def test_a_numeric_or_short_text_is_left_undecided(text: str | None) -> None:
    assert trace_language(text)[0] is None


def test_many_texts_at_once_have_the_shares_that_the_classifier_gives_each() -> None:
    texts = [text for code in LANGUAGES if (MGSM / f"mgsm_{code}.tsv").exists() for text in questions(code)[:20]]
    texts += [text[:9] for text in texts[::7]] + ["", "12", texts[0].upper()]
    known = _identifier()
    alone = [[dict(known.rank(text))[label] for label in known.labels] for text in texts]
    np.testing.assert_allclose(_shares(texts), alone, atol=3e-5)


def test_mathematics_does_not_make_a_german_text_english() -> None:
    text = "Zuerst rechnen wir \\(\\text{total} = 3 \\times 18\\), danach $\\frac{answer}{price}$ und \\boxed{54}."
    assert words_only(text) == "Zuerst rechnen wir danach und"
    assert trace_language(text)[0] == "de"


def test_an_english_trace_to_a_thai_question_counts_against_compliance() -> None:
    table = pl.DataFrame({"language": ["th", "th", "th"], "trace_language": ["en", "th", None]})
    assert compliance(table).row(0, named=True) == {
        "language": "th",
        "n_candidates": 3,
        "n_told": 2,
        "compliance": 0.5,
        "most_common_other": "en",
    }


def test_an_unknown_language_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ValueError, match="did you mean 'sw'"):
        trace_languages(["habari"], ["Swahili"])


def test_a_megabyte_is_read_at_once() -> None:
    assert trace_language("Dies ist ein langer deutscher Satz. " * 30_000)[0] == "de"
    trace_language("\\(" * 500_000)
    trace_language("$" + "a" * 1_000_000)


def test_korean_is_not_called_chinese_because_it_was_not_asked_for() -> None:
    korean = "먼저 상자의 개수를 세고 각 상자에 들어 있는 연필의 수를 곱하면 전체 연필의 수를 알 수 있습니다."
    assert trace_language(korean, ["en", "zh", "ja"])[0] is None
    assert trace_language(korean, ["en", "zh", "ko"])[0] == "ko"
    assert trace_language(korean)[0] == "ko"


KOREAN = (
    "먼저 상자의 개수를 세고 각 상자에 들어 있는 연필의 수를 곱하면 전체 연필의 수를 알 수 있습니다.",
    "사과 3개와 배 4개가 있으므로 모두 7개입니다. 따라서 정답은 7입니다.",
    "計算하면 답은 10원이다. 그러므로 男子는 열 명이고 女子는 다섯 명이다.",
    LANGUAGES["ko"].instruction,
)


@pytest.mark.parametrize("text", KOREAN)
def test_korean_is_called_nothing_else_in_any_shortlist_with_chinese(text: str) -> None:
    shortlists = [["zh"], *(["zh", other] for other in LANGUAGES if other not in ("zh", "ko"))]
    assert {trace_language(text, codes)[0] for codes in shortlists} == {None}
    assert {trace_language(text, [*codes, "ko"])[0] for codes in shortlists} == {"ko"}


CLASSIC = (  # the languages that langid has had since 2011
    "af am an ar as az be bg bn br bs ca cs cy da de dz el en eo es et eu fa fi fo fr ga gl gu he hi hr ht hu hy id is "
    "it ja jv ka kk km kn ko ku ky la lb lo lt lv mg mk ml mn mr ms mt nb ne nl nn no oc or pa pl ps pt qu ro ru rw se "
    "si sk sl sq sr sv sw ta te th tl tr ug uk ur vi vo wa xh zh zu"
)


def test_every_classic_language_of_the_classifier_has_a_record_and_can_be_told() -> None:
    labels = {_code(label) for label in _identifier().nb_classes}
    codes = [_code(label) for label in CLASSIC.split()]
    assert len(codes) == 97 and not [code for code in codes if not is_language(code)]
    assert set(codes) - labels == {"nb"}  # the classifier says no for both written forms
    tagalog = "Una, bilangin muna natin ang mga kahon, at pagkatapos ay idagdag ang mga lapis."
    assert trace_language(tagalog, ["fil", "en"])[0] == "fil"


INSTRUCTED = [code for code in LANGUAGES if not LANGUAGES[code].generic]


@pytest.mark.parametrize("code", INSTRUCTED)
def test_the_instruction_of_every_language_is_told_apart(code: str) -> None:
    told, _ = trace_language(LANGUAGES[code].instruction)
    assert told in (code, None) or {told, code} == {"id", "ms"}
