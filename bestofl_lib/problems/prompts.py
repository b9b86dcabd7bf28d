"""How a question is asked of a chat model: as a short list of messages.

It knows the wording of each language and three styles. It does not know chat templates or tokens: the sampler renders
the messages with the model's own template.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bestofl_lib.languages import check_languages
from bestofl_lib.languages import language as language_record

STYLES = ("native", "question", "few_shot")
WAYS = ("instruction", "prefill")
WORDING = "wording "  # with a number from 2: the condition of a candidate that was asked in other words


@dataclass(frozen=True)
class Asking:
    """In which languages questions are asked, thought about and answered. By default all are the row's own language."""

    question_language: str = ""  # of all questions; the row's language is then that of the thinking
    think_in: tuple[str, ...] = ()  # each question is thought about in each of these; empty: in the row's language
    think_by: str = (
        "instruction"  # "instruction": in that language, asking for it; "prefill": its first word is given, too
    )
    answer_in: str = ""  # of the last line; empty: the language of the thinking
    wordings: int = 1  # of the instruction, for test problems in languages whose record has several

    def __post_init__(self) -> None:
        given = [*self.think_in, *filter(None, (self.question_language, self.answer_in))]
        if given:
            check_languages(dict.fromkeys(given))
        if self.wordings < 1:
            raise ValueError(f"wordings={self.wordings} asks for no instruction at all; use 1 or more")
        if self.think_by not in WAYS:
            raise ValueError(f"unknown think_by {self.think_by!r}; use one of: {', '.join(WAYS)}")
        if self.question_language and self.think_in:
            raise ValueError(
                f"question_language={self.question_language!r} makes `languages` those of the thinking, so think_in="
                f"{list(self.think_in)} sets them a second time; leave one of the two out"
            )
        if len(set(self.think_in)) < len(self.think_in):
            raise ValueError(f"think_in names a language twice: {', '.join(self.think_in)}")

    def thinking(self, language: str) -> tuple[str, ...]:
        """The languages in which a question of the row's language is thought about, one after the other."""
        return self.think_in or (language,)

    def worded(self, thinking: str, split: str) -> range:
        """Numbers of the wordings in which problems of a split are asked; 0 is the usual one. Other splits than test,
        and languages with a single wording, have that alone.

        Raises:
            ValueError: the language's record has several wordings, but fewer than asked for.
        """
        record = language_record(thinking)
        if split != "test" or not record.wordings:
            return range(1)
        if self.wordings > len(record.wordings) + 1:
            raise ValueError(
                f"wordings={self.wordings} exceeds the {len(record.wordings) + 1} wordings of the instruction in "
                f"{record.name}; lower it, or give more with `wordings` in a language file (parameter language_file)"
            )
        return range(self.wordings)

    def opening(self, thinking: str) -> str:
        """What the solution begins with; empty where nothing is given.

        Raises:
            ValueError: the language's record has no opening.
        """
        if self.think_by != "prefill":
            return ""
        record = language_record(thinking)
        if not record.opening:
            raise ValueError(
                f"{record.name} ({thinking}) has no first word to begin a solution with; give a language file with "
                f'code = "{thinking}" and opening = "…" (parameter language_file), or set think_by=\'instruction\''
            )
        return record.opening

    def check(self, style: str) -> None:
        """Refuse what a prompt style cannot ask for.

        Raises:
            ValueError: the style has no instruction, and the thinking or the answer would need one.
        """
        wanted = {
            "question_language": self.question_language and self.think_by == "instruction",
            "think_in": self.think_in and self.think_by == "instruction",
            "answer_in": self.answer_in,
        }
        if self.wordings > 1 and style != "native":
            raise ValueError(
                f"wordings={self.wordings} varies the instruction, and the prompt style {style!r} has none; use "
                "style='native', or wordings=1"
            )
        if style == "question" and (names := [name for name, is_so in wanted.items() if is_so]):
            raise ValueError(
                f"the prompt style 'question' sends the question alone, so it cannot ask for {' and '.join(names)}; "
                "use "
                "style='native'" + ("" if self.answer_in else ", or think_by='prefill'")
            )


def messages(
    question: str,
    language: str,
    style: str = "native",
    system_prompt: str = "",
    *,
    answer_language: str = "",
    opening: str = "",
    wording: int = 0,
) -> list[dict[str, str]]:
    """The chat that asks one question.

    Args:
        question: text of the problem, usually in that language.
        language: ISO 639-1 code of the language to think in: that of the instruction.
        style: "native" puts the instruction of that language (reason in it, end with its answer line) and an
            empty line before the question; "question" sends the question alone, for models trained on bare questions;
            "few_shot" shows two solved problems of that language first and begins the solution, for base models: set
            chat_template to "plain" with it.
        system_prompt: text of a system message that comes first; empty: none, so that the chat template puts its own
            default.
        answer_language: of the last line, where it is another one.
        opening: words that the solution begins with; the model continues them.
        wording: number of the instruction in the language's record: 0 is `instruction`, 1 and on are `wordings`.

    Returns:
        One user message, [{"role": "user", "content": …}], after the system message if there is one. In the style
        "few_shot", or with an opening, an assistant message follows, which the model continues.

    Raises:
        ValueError: unknown style or language, or a question without text.

    >>> messages("What is 2 + 3?", "en", "question")
    [{'role': 'user', 'content': 'What is 2 + 3?'}]
    """
    record, last_line = language_record(language), language_record(answer_language or language).answer_line
    if not question or not question.strip():
        raise ValueError(
            f"a question in {language!r} has no text; every problem needs one, so check the problems table"
        )
    if style == "native":
        # an instruction quotes its language's answer line
        quoted = record.answer_line.format(answer="…")
        instruction = (record.instruction, *record.wordings)[wording]
        content = f"{instruction.replace(quoted, last_line.format(answer='…'))}\n\n{question}"
    elif style == "question":
        content = question
    elif style == "few_shot":
        return _few_shot(question, language, system_prompt, last_line, opening)
    else:
        raise ValueError(f"unknown prompt style {style!r}; use one of: {', '.join(STYLES)}")
    chat = [{"role": "user", "content": content}]
    if opening:
        chat.append({"role": "assistant", "content": opening})
    return [{"role": "system", "content": system_prompt}, *chat] if system_prompt else chat


def stops(language: str, style: str) -> tuple[str, ...]:
    """Texts at which a completion ends: a base model continues with a problem that it makes up, under the same
    label.
    """
    return (_shots()[language]["labels"][0],) if style == "few_shot" else ()


def _few_shot(question: str, language: str, system_prompt: str, last_line: str, opening: str) -> list[dict[str, str]]:
    known = _shots()
    if (shots := known.get(language)) is None:
        raise ValueError(
            f"prompt style 'few_shot' has no solved problems in {language!r}; it has them in {', '.join(known)}; "
            "leave the language out, or add them to bestofl_lib/problems/few_shot.toml"
        )
    ask, solve = shots["labels"]
    solved = [
        f"{ask} {problem}\n\n{solve} {solution} {last_line.format(answer=answer)}"
        for problem, solution, answer in shots["problems"]
    ]
    content = "\n\n".join([*filter(None, [system_prompt]), *solved, f"{ask} {question}"])
    return [{"role": "user", "content": content}, {"role": "assistant", "content": f"{solve} {opening}".strip()}]


@cache
def _shots() -> dict[str, dict[str, Any]]:
    return tomllib.loads(Path(__file__).with_name("few_shot.toml").read_text("utf8"))
