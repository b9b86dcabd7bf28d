"""How a question is put to a chat model: as a short list of messages.

It knows the wording of each language and two styles. It does not know chat templates or tokens: the sampler renders the
messages with the model's own template.
"""

from __future__ import annotations

from bestofl_lib.languages import language as language_record

STYLES = ("native", "question")


def messages(question: str, language: str, style: str = "native", system: str = "") -> list[dict[str, str]]:
    """The chat that asks one question in one language.

    Args:
        question: text of the problem in that language.
        language: ISO 639-1 code of the question.
        style: "native" puts the instruction of that language (reason in it, end with its answer line) and an
            empty line before the question; "question" sends the question alone, for models trained on bare questions.
        system: text of a system message that comes first; empty: none, so that the chat template puts its own default.

    Returns:
        One user message, [{"role": "user", "content": …}], after the system message if there is one.

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
    else:
        raise ValueError(f"unknown prompt style {style!r}; use one of: {', '.join(STYLES)}")
    chat = [{"role": "user", "content": content}]
    return [{"role": "system", "content": system}, *chat] if system else chat
