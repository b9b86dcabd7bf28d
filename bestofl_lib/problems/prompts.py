"""How a question is put to a chat model: as a short list of messages.

It knows the wording of each language and three styles. It does not know chat templates or tokens: the sampler renders the
messages with the model's own template.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from bestofl_lib.languages import language as language_record

STYLES = ("native", "question", "few_shot")


def messages(question: str, language: str, style: str = "native", system: str = "") -> list[dict[str, str]]:
    """The chat that asks one question in one language.

    Args:
        question: text of the problem in that language.
        language: ISO 639-1 code of the question.
        style: "native" puts the instruction of that language (reason in it, end with its answer line) and an
            empty line before the question; "question" sends the question alone, for models trained on bare questions;
            "few_shot" shows two solved problems of that language first and begins the solution, for base models: set
            chat_template to "plain" with it.
        system: text of a system message that comes first; empty: none, so that the chat template puts its own default.

    Returns:
        One user message, [{"role": "user", "content": …}], after the system message if there is one. In the style "few_shot"
        an assistant message follows, which the model continues.

    Raises:
        ValueError: unknown style or language, or a question without text.

    >>> messages("What is 2 + 3?", "en", "question")
    [{'role': 'user', 'content': 'What is 2 + 3?'}]
    """
    record = language_record(language)
    if not question or not question.strip():
        raise ValueError(
            f"a question in {language!r} has no text; every problem needs one, so check the problems table"
        )
    if style == "native":
        content = f"{record.instruction}\n\n{question}"
    elif style == "question":
        content = question
    elif style == "few_shot":
        return _few_shot(question, language, system)
    else:
        raise ValueError(f"unknown prompt style {style!r}; use one of: {', '.join(STYLES)}")
    chat = [{"role": "user", "content": content}]
    return [{"role": "system", "content": system}, *chat] if system else chat


def stops(language: str, style: str) -> tuple[str, ...]:
    """Texts at which a completion ends: a base model goes on with a problem of its own, under the same label."""
    return (_shots()[language]["labels"][0],) if style == "few_shot" else ()


def _few_shot(question: str, language: str, system: str) -> list[dict[str, str]]:
    record, known = language_record(language), _shots()
    if (shots := known.get(language)) is None:
        raise ValueError(
            f"prompt style 'few_shot' has no solved problems in {language!r}; it has them in {', '.join(known)}; "
            "leave the language out, or add them to bestofl_lib/problems/few_shot.toml"
        )
    ask, solve = shots["labels"]
    solved = [
        f"{ask} {problem}\n\n{solve} {solution} {record.answer_line.format(answer=answer)}"
        for problem, solution, answer in shots["problems"]
    ]
    content = "\n\n".join([*filter(None, [system]), *solved, f"{ask} {question}"])
    return [{"role": "user", "content": content}, {"role": "assistant", "content": solve}]


@cache
def _shots() -> dict[str, dict[str, Any]]:
    return tomllib.loads(Path(__file__).with_name("few_shot.toml").read_text("utf8"))
