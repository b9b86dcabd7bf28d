"""What a reward model reads of a candidate: the question and the completion as token ids.

It knows a tokenizer and a prompt style. It does not know models, rewards or which candidates are correct.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from bestofl_lib.problems.prompts import messages

_MARK = "\u2042completion\u2042"


class CandidateTexts:
    """Turns candidates into token ids for one model.

    The text of a candidate is the chat template's rendering of the user's message (as the policy was asked) and the
    completion as the assistant's message. Prompt and completion are tokenised separately, so that a prompt's tokens,
    and its key-value cache, are shared by all its completions. Without a chat template: the user's message, a line
    break, the completion, the end-of-text token (causal models), or the pair (question, completion) for encoders.

    A completion that is too long loses its *beginning* (the answer is at the end); a prompt may take at most half of
    the tokens, and loses its beginning too.

    Args:
        tokenizer: of the model; given a padding token if it has none.
        source: the model's name, for messages.
        style: prompt style, "native" or "question": the one that the candidates were asked with.

    Raises:
        ValueError: a tokenizer with neither padding nor end-of-text token.
    """

    def __init__(self, tokenizer: Any, source: str, style: str):
        self.tokenizer, self.source, self.style = tokenizer, source, style
        self.system: str | None = None  # content of a system turn before the question
        self.max_tokens = 4096  # set by the model that reads the texts
        self.marks: list[list[int]] | None = None  # where rewards of steps are read, see `step_texts`
        self.is_whole = True  # a completion ends as the template ends it; False: it is a beginning, with nothing behind
        if tokenizer.pad_token_id is None:
            if tokenizer.eos_token_id is None:
                raise ValueError(f"the tokenizer of {source!r} has neither a padding nor an end-of-text token")
            tokenizer.pad_token = tokenizer.eos_token
        self.pad = tokenizer.pad_token_id  # replaced if the model's configuration names another

    def prompt_text(self, question: str, language: str) -> str:
        """The text before the completion."""
        chat = messages(question, language, self.style)
        if self.system is not None:
            chat = [{"role": "system", "content": self.system}, *chat]
        begun = chat.pop()["content"] if chat[-1]["role"] == "assistant" else ""  # the completion continues it
        if self.tokenizer.chat_template is None:
            if begun:  # as it was sampled
                return "\n\n".join([*(message["content"] for message in chat), begun])
            return "\n".join(message["content"] for message in chat) + "\n"
        return self._rendered([*chat, {"role": "assistant", "content": begun + _MARK}]).split(_MARK)[0]

    @cached_property
    def ending(self) -> tuple[str, bool]:
        """The text after the completion, and whether the template strips the completion's white space."""
        if self.tokenizer.chat_template is None:
            return self.tokenizer.eos_token or "", False
        chat = [{"role": "user", "content": "?"}, {"role": "assistant", "content": f" {_MARK} "}]
        text = self._rendered(chat)
        if text.count(_MARK) != 1:
            raise ValueError(
                f"the chat template of {self.source!r} does not write the assistant's message once; "
                "use a model whose template takes a user and an assistant message"
            )
        tail = text.split(_MARK)[1]
        stripped = not tail.startswith(" ")
        return (tail if stripped else tail[1:]), stripped

    def encode(
        self, prompts: Sequence[tuple[str, str]], prompt_of: Sequence[int], completions: Sequence[str]
    ) -> tuple[list[list[int]], list[list[int]], np.ndarray]:
        """Token ids of prompts and of completions (with what follows them), and which completions were cut.

        The last token of a completion is the one whose hidden state is read, by the rule of Transformers: the rightmost
        that is not the padding token.

        Args:
            prompts: (question, language) each.
            prompt_of: (candidates,) index into prompts.
            completions: (candidates,) raw text.
        """
        has_template = self.tokenizer.chat_template is not None
        texts = [self.prompt_text(question, language) for question, language in prompts]
        before = self.tokenizer(texts, add_special_tokens=not has_template)["input_ids"] if texts else []
        if not has_template and self.tokenizer.eos_token_id is not None:
            before = [ids[:-1] if ids[-1:] == [self.tokenizer.eos_token_id] else ids for ids in before]
        tail, stripped = self.ending if self.is_whole else ("", self.ending[1])
        written = [(text.strip() if stripped else text) + tail for text in completions]
        body = self.tokenizer(written, add_special_tokens=False)["input_ids"] if written else []
        half = self.max_tokens // 2
        before = [ids[-half:] if len(ids) > half else ids for ids in before]
        truncated = np.zeros(len(body), dtype=bool)
        for i, ids in enumerate(body):
            while ids and ids[-1] == self.pad:
                ids.pop()
            room = self.max_tokens - len(before[prompt_of[i]])
            if len(ids) > room:
                body[i] = ids[-room:]
                truncated[i] = True
        return before, body, truncated

    def encode_pairs(
        self, prompts: Sequence[tuple[str, str]], prompt_of: Sequence[int], completions: Sequence[str]
    ) -> tuple[list[dict[str, list[int]]], np.ndarray]:
        """Each pair (question, completion) as an encoder reads it (input_ids and, where the tokenizer gives them,
        token_type_ids), and which completions were cut."""
        ask = ["\n".join(m["content"] for m in messages(q, language, self.style)) for q, language in prompts]
        self.tokenizer.truncation_side = "left"
        half = self.max_tokens // 2
        short = [
            text if len(ids) <= half else str(self.tokenizer.decode(ids[-half:]))
            for text, ids in zip(ask, self.tokenizer(ask, add_special_tokens=False)["input_ids"], strict=True)
        ]
        if not completions:
            return [], np.zeros(0, dtype=bool)
        first, second = [short[p] for p in prompt_of], list(completions)
        full = [len(ids) for ids in self.tokenizer(first, second)["input_ids"]]
        cut = self.tokenizer(first, second, truncation="only_second", max_length=self.max_tokens)
        names = [name for name in ("input_ids", "token_type_ids") if name in cut]
        texts = [{name: cut[name][i] for name in names} for i in range(len(second))]
        return texts, np.array([n > self.max_tokens for n in full], dtype=bool)

    def _rendered(self, chat: list[dict[str, str]]) -> str:
        return str(self.tokenizer.apply_chat_template(chat, tokenize=False))
