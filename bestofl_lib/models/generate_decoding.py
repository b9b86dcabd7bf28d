"""Writes with Transformers' own `generate`, for architectures that the shared-prompt loop cannot serve.

One prompt at a time, without padding, so that any cache or recurrent state is right. Each row still has its own random
stream, so its text is the same whatever the batch. Slower: nothing is shared between prompts.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from bestofl_lib.models.cohorts import cut_at
from bestofl_lib.models.contract import Completion, Sampling, Unfinished
from bestofl_lib.models.opening import LanguageModel, is_out_of_memory
from bestofl_lib.models.tokens import choose_tokens, uniforms
from bestofl_lib.models.work import Group, Row, Shape

_ROWS = 32  # of one prompt at once


class SlowSamplingWarning(UserWarning):
    """A model, or some of its prompts, are sampled by `generate` instead of the faster loop; the candidates are the
    same.
    """


class GenerateDecoder:
    """Writes with `model.generate`, one prompt at a time."""

    def __init__(self, opened: LanguageModel):
        self.opened = opened
        self.rows = opened.batch_rows or _ROWS

    def run(
        self, take: Callable[[int], list[Group]], shape: Shape, settings: Sampling
    ) -> Iterator[tuple[int, Completion | Unfinished]]:
        """Write completions for the groups that `take(count)` hands out (none: no more), yielding (index,
        completion).
        """
        while groups := take(1):
            for group in groups:
                waiting = deque([group.rows])
                while waiting:
                    rows = waiting.popleft()
                    size = min(self.rows, len(rows))
                    if size < len(rows):
                        waiting.extendleft(reversed([rows[i : i + size] for i in range(0, len(rows), size)]))
                        continue
                    try:
                        finished = self._write(group.ids, rows, settings)
                    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                        if not is_out_of_memory(error):
                            raise
                        finished = None
                    if finished is not None:
                        yield from finished
                    elif size > 1:
                        self._halve(size)
                        waiting.appendleft(rows)
                    else:
                        yield rows[0].index, Completion("", 0, "error", None, 0.0)

    def _halve(self, size: int) -> None:
        self.rows = size // 2
        if self.opened.device.type == "cuda":
            torch.cuda.empty_cache()

    @torch.inference_mode()
    def _write(self, ids: list[int], rows: Sequence[Row], settings: Sampling) -> list[tuple[int, Completion]]:
        started = time.perf_counter()
        opened = self.opened
        tokenizer = opened.tokenizer
        prompt = torch.tensor([ids] * len(rows), device=opened.device)
        if opened.switch is not None:  # dynamic frequencies outlast a call; a short text resets them
            opened.model(input_ids=prompt[:1, :1], use_cache=False)
        choice = _Choice(opened, rows, settings, len(ids))
        opened.model.generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=False, num_beams=1, use_cache=True,
            max_new_tokens=settings.max_new_tokens - len(rows[0].begun), min_length=0, repetition_penalty=1.0,
            eos_token_id=opened.is_end.nonzero()[:, 0].tolist(), pad_token_id=int(opened.is_end.nonzero()[0, 0]),
            logits_processor=LogitsProcessorList([choice]), stopping_criteria=StoppingCriteriaList([_AllEnded(choice)]),
        )  # fmt: skip
        seconds = (time.perf_counter() - started) / len(rows)
        out = []
        for row, own, logprob, reason in zip(rows, choice.written, choice.logprobs, choice.reasons, strict=True):
            has_end = reason == "stop" and bool(opened.is_end[own[-1]])
            text = tokenizer.decode(
                [*row.begun, *own[: len(own) - has_end]], skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
            text = cut_at(text, row.stop) if reason == "stop" else text
            n = len(row.begun) + len(own)
            total = None if reason == "error" else row.logprob + logprob
            out.append((row.index, Completion(text, n, reason or "length", total, row.seconds + seconds)))
        return out


class _Choice(LogitsProcessor):
    """Chooses each row's token by its own stream and masks all others from `generate`; records tokens and
    log-probabilities.
    """

    def __init__(self, opened: LanguageModel, rows: Sequence[Row], settings: Sampling, start: int):
        self.opened, self.rows, self.settings, self.start = opened, rows, settings, start
        self.written: list[list[int]] = [[] for _ in rows]
        self.logprobs = [0.0] * len(rows)
        self.reasons = [""] * len(rows)  # how each row ended; empty: still writing
        left = settings.max_new_tokens - len(rows[0].begun)
        self.draws = np.stack([uniforms(row.seed, len(row.begun), left) for row in rows])

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        step = input_ids.shape[1] - self.start
        u = torch.from_numpy(self.draws[:, step]).to(scores.device, self.opened.real)
        chosen = choose_tokens(scores[:, : self.opened.vocabulary].float(), u, self.settings)
        tokens, logprobs, is_bad = (part.tolist() for part in chosen)
        for place, row in enumerate(self.rows):
            if self.reasons[place]:
                continue
            if is_bad[place]:
                self.reasons[place] = "error"
                continue
            self.written[place].append(tokens[place])
            self.logprobs[place] += logprobs[place]
            if bool(self.opened.is_end[tokens[place]]) or self._is_stopped(row, self.written[place]):
                self.reasons[place] = "stop"
        forced = torch.full_like(scores, -torch.inf)
        return forced.scatter_(1, chosen[0][:, None], 0.0)

    def _is_stopped(self, row: Row, own: Sequence[int]) -> bool:
        if not row.stop:
            return False
        text = self.opened.tokenizer.decode([*row.begun, *own], skip_special_tokens=True)
        return any(stop in text for stop in row.stop)


class _AllEnded(StoppingCriteria):
    """Ends `generate` for the rows that have ended by our own count."""

    def __init__(self, choice: _Choice):
        self.choice = choice

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        return torch.tensor([bool(reason) for reason in self.choice.reasons], device=input_ids.device)
