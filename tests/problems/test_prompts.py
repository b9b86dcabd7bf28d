"""Prompts: their wording per language and style."""

from __future__ import annotations

import pytest

from bestofl_lib.languages import LANGUAGES
from bestofl_lib.problems.prompts import STYLES, messages, stops


@pytest.mark.parametrize("code", LANGUAGES)
def test_the_native_style_puts_the_language_s_instruction_before_the_question(code):
    (message,) = messages("2 + 3 = ?", code, "native")
    assert message == {"role": "user", "content": f"{LANGUAGES[code].instruction}\n\n2 + 3 = ?"}


@pytest.mark.parametrize("code", LANGUAGES)
def test_the_question_style_sends_the_question_alone(code):
    assert messages("2 + 3 = ?", code, "question") == [{"role": "user", "content": "2 + 3 = ?"}]


def test_the_native_style_is_the_default():
    assert messages("2 + 3 = ?", "sw") == messages("2 + 3 = ?", "sw", "native")
    assert STYLES == ("native", "question", "few_shot")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("2 + 3", "en", "nativ"), "unknown prompt style 'nativ'; use one of: native, question, few_shot"),
        (("2 + 3", "swa"), "unknown language 'swa'"),
        (("", "de"), "a question in 'de' has no text"),
        ((" \n", "de"), "a question in 'de' has no text"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        messages(*arguments)


def test_a_system_message_comes_first_and_none_is_made_up():
    assert messages("2 + 3 = ?", "en", "question", "Be brief.") == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "2 + 3 = ?"},
    ]


@pytest.mark.parametrize("code", ["bn", "de", "en", "es", "fr", "ja", "ru", "sw", "te", "th", "zh"])
def test_the_few_shot_style_shows_problems_solved_in_the_language_and_begins_the_solution(code):
    shown, begun = messages("2 + 3 = ?", code, "few_shot")
    assert (shown["role"], begun["role"]) == ("user", "assistant")
    for answer in (7, 22):
        assert LANGUAGES[code].answer_line.format(answer=answer) in shown["content"]
    assert shown["content"].endswith("2 + 3 = ?")
    (stop,) = stops(code, "few_shot")
    assert shown["content"].count(stop) == 3, "once before each problem"
    assert stops(code, "native") == ()


def test_the_few_shot_style_refuses_a_language_without_solved_problems():
    others = [
        code for code in LANGUAGES if code not in ("bn", "de", "en", "es", "fr", "ja", "ru", "sw", "te", "th", "zh")
    ]
    for code in others:
        with pytest.raises(ValueError, match=f"no solved problems in '{code}'; it has them in bn, de"):
            messages("2 + 3 = ?", code, "few_shot")
