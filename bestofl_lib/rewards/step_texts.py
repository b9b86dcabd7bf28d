"""Texts for imported models whose rewards are read elsewhere than at the last token of a chat.

Each template writes question and completion as its models were trained on them, and marks where a reward is read. It
knows tokens and steps; it knows no weights.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from bestofl_lib.rewards.judging import judge_messages
from bestofl_lib.rewards.steps import split_steps, step_ends
from bestofl_lib.rewards.texts import CandidateTexts

QWEN_SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."
QWEN_SEPARATOR = "<extra_0>"
KI = " ки"
_LABEL = "\u2042label\u2042"


class MarkedTexts(CandidateTexts, ABC):
    """Texts with marks: the tokens of each completion, and which states are read.

    After `encode`, `marks[i]` holds positions in completion i: the state *before* the token there is read; a position
    equal to the number of tokens is the state after the last one. A completion that is too long loses its beginning
    with the marks in it, never its last step.
    """

    def __init__(self, tokenizer: Any, source: str, style: str):
        super().__init__(tokenizer, source, style)
        self.marks = []

    def encode(
        self, prompts: Sequence[tuple[str, str]], prompt_of: Sequence[int], completions: Sequence[str]
    ) -> tuple[list[list[int]], list[list[int]], np.ndarray]:
        before = [self.prompt_ids(question, language) for question, language in prompts]
        half = self.max_tokens // 2
        before = [ids[-half:] for ids in before]
        body, marks, truncated = [], [], np.zeros(len(completions), dtype=bool)
        for i, completion in enumerate(completions):
            ids, places = self.completion_ids(prompts[prompt_of[i]][0], completion)
            lost = max(0, len(ids) - (self.max_tokens - len(before[prompt_of[i]])))
            truncated[i] = lost > 0
            body.append(ids[lost:])
            marks.append([place - lost for place in places if place > lost or not lost])
        self.marks = marks
        return before, body, truncated

    @abstractmethod
    def prompt_ids(self, question: str, language: str) -> list[int]:
        """Tokens that all completions of a question share."""

    @abstractmethod
    def completion_ids(self, question: str, completion: str) -> tuple[list[int], list[int]]:
        """Tokens of one completion with everything that follows it, and its marks."""

    def ids(self, text: str, special: bool = False) -> list[int]:
        """Tokens of a text, with the tokenizer's own special tokens only on request."""
        return list(self.tokenizer(text, add_special_tokens=special)["input_ids"])

    def one_token(self, text: str) -> int:
        """The token of a label or separator.

        Raises:
            ValueError: it is not a single token of this tokenizer.
        """
        found = self.ids(text)
        if len(found) != 1 or found[0] == self.tokenizer.unk_token_id:
            raise ValueError(
                f"the tokenizer of {self.source!r} has no single token for {text!r}, which this way of reading needs; "
                "choose another template"
            )
        return found[0]


class OwnSteps(CandidateTexts):
    """Candidates as every reward model trained here reads them, with a mark after the last token of each step."""

    def encode(
        self, prompts: Sequence[tuple[str, str]], prompt_of: Sequence[int], completions: Sequence[str]
    ) -> tuple[list[list[int]], list[list[int]], np.ndarray]:
        if not self.tokenizer.is_fast:
            raise ValueError(
                f"the tokenizer of {self.source!r} does not say where its tokens stand in the text, which readout "
                "'steps' needs; use tuning 'frozen', or a model with a tokenizer.json"
            )
        before, body, truncated = super().encode(prompts, prompt_of, completions)
        stripped = self.ending[1]
        self.marks = []
        for ids, completion in zip(body, completions, strict=True):
            text = completion.strip() if stripped else completion
            found = self.tokenizer(text + self.ending[0], add_special_tokens=False, return_offsets_mapping=True)
            kept = len(found["input_ids"])
            while kept and found["input_ids"][kept - 1] == self.pad:  # as for every text
                kept -= 1
            lost = kept - len(ids)
            marks = np.searchsorted([begin for begin, _ in found["offset_mapping"]], step_ends(text)) - lost
            self.marks.append([min(int(mark), len(ids)) for mark in marks if mark > 0 or not lost])
        return before, body, truncated


class QwenSteps(MarkedTexts):
    """Qwen2.5-Math-PRM: a system turn, and `<extra_0>` after every step; the state after each separator is read."""

    def prompt_ids(self, question: str, language: str) -> list[int]:
        return self.ids(self.prompt_text(question, language))

    def completion_ids(self, question: str, completion: str) -> tuple[list[int], list[int]]:
        separator = self.one_token(QWEN_SEPARATOR)
        text = QWEN_SEPARATOR.join(split_steps(completion)) + QWEN_SEPARATOR
        ids = self.ids(text + self.ending[0])
        return ids, [place + 1 for place, token in enumerate(ids) if token == separator]


class LineSteps(MarkedTexts):
    """What TRL's PRMTrainer writes: the question, then each step with a line break, whose last token is read."""

    def prompt_ids(self, question: str, language: str) -> list[int]:
        start = self.tokenizer.bos_token_id
        return ([] if start is None else [start]) + self.ids(question)

    def completion_ids(self, question: str, completion: str) -> tuple[list[int], list[int]]:
        ids: list[int] = []
        marks = []
        for step in split_steps(completion):
            ids += self.ids(step) + self.ids("\n")
            marks.append(len(ids))
        return ids, marks


class KiSteps(MarkedTexts):
    """Math-Shepherd: question, a blank, and each step with a label place " ки", whose own position is read."""

    def prompt_ids(self, question: str, language: str) -> list[int]:
        return self.ids(question, special=True)

    def completion_ids(self, question: str, completion: str) -> tuple[list[int], list[int]]:
        place = self.ids(KI)[-1]
        text = "\n".join(step + KI for step in split_steps(completion))
        starts_words = str(self.tokenizer.convert_ids_to_tokens(self.ids("a"))[0]).startswith("\u2581")
        ids = self.ids(text if starts_words else " " + text)  # SentencePiece writes the blank itself
        return ids, [at + 1 for at, token in enumerate(ids) if token == place]


class LabelTurns(MarkedTexts):
    """RLHFlow: each step is a user turn and its label an assistant turn "+"; the state before each label is read."""

    def prompt_ids(self, question: str, language: str) -> list[int]:
        text = self._rendered([{"role": "user", "content": question + " " + _LABEL}])
        return self.ids(text.split(_LABEL)[0].rstrip(" "))

    def completion_ids(self, question: str, completion: str) -> tuple[list[int], list[int]]:
        steps = split_steps(completion)
        chat = []
        for number, step in enumerate(steps):
            chat.append({"role": "user", "content": step if number else question + " " + step})
            chat.append({"role": "assistant", "content": _LABEL})
        text = self._rendered(chat)
        if text.count(_LABEL) != len(steps):
            raise ValueError(
                f"the chat template of {self.source!r} does not write every turn once; use a model whose template "
                "takes turns of user and assistant"
            )
        before = self._rendered([{"role": "user", "content": question + " " + _LABEL}]).split(_LABEL)[0].rstrip(" ")
        label, ids, marks = self.one_token("+"), [], []
        *pieces, end = text[len(before) :].split(_LABEL)
        for piece in pieces:
            ids += self.ids(piece)
            marks.append(len(ids))
            ids.append(label)
        return ids + self.ids(end), marks


class JudgeTexts(MarkedTexts):
    """A chat model is asked whether the solution is correct; the state before its answer is read."""

    def prompt_ids(self, question: str, language: str) -> list[int]:
        return self.ids(self._asked(question, _LABEL).split(_LABEL)[0])

    def completion_ids(self, question: str, completion: str) -> tuple[list[int], list[int]]:
        _, after = self._asked(question, _LABEL).split(_LABEL)
        ids = self.ids(completion.strip() + after)
        return ids, [len(ids)]

    def _asked(self, question: str, completion: str) -> str:
        if self.tokenizer.chat_template is None:
            raise ValueError(f"{self.source!r} has no chat template, which a judge needs; use a chat model")
        chat = judge_messages("judge", question, completion)
        return str(self.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))


STEP_TEXTS: dict[tuple[str, str], type[MarkedTexts]] = {  # by way and template
    ("two-layer steps", "qwen-math"): QwenSteps,
    ("token steps", "lines"): LineSteps,
    ("label steps", "labels"): LabelTurns,
    ("label steps", "ki"): KiSteps,
    ("judge", "judge"): JudgeTexts,
}
