"""What sampling will take: memory from the configuration, speed from a short trial on this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from bestofl_lib.models.contract import Completion, Sampling, Unfinished
from bestofl_lib.models.decoding import Decoder, cache_room, rows_that_fit
from bestofl_lib.models.generate_decoding import GenerateDecoder
from bestofl_lib.models.opening import loading
from bestofl_lib.models.work import Group, Queue, Shape

# rows and tokens; tried in order until one takes long enough to be measured
_TRIED = ((4, 4), (64, 16))
_ENOUGH_SECONDS = 3.0


@dataclass(frozen=True)
class Memory:
    """Memory of a model while it writes."""

    weights: int  # bytes
    cache_per_token: int  # bytes of keys and values, of one token of a prompt (held once) or of a completion
    vocabulary: int  # tokens that have a logit

    def rows(self, free: int, device: torch.device, shape: Shape, settings: Sampling) -> int:
        """How many completions can be written at once in `free` bytes, the weights included; 0: none."""
        room = cache_room(free - self.weights, device)
        return rows_that_fit(room, self.cache_per_token, self.vocabulary, shape, settings) if room > 0 else 0


def memory(source: str, revision: str | None, dtype: torch.dtype) -> Memory:
    """The memory of a model, from its config.json alone: no weights are read.

    Args:
        source: folder or Hub id.
        dtype: of weights and cache.

    Raises:
        ValueError: the configuration cannot be read, or its architecture is unknown.
    """
    with loading(source):
        config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
        family: Any = AutoModelForCausalLM
        with torch.device("meta"):
            model = family.from_config(config, dtype=dtype)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or getattr(text, "num_attention_heads", 0) or 0
    size = getattr(text, "head_dim", None) or text.hidden_size // max(1, getattr(text, "num_attention_heads", 1))
    return Memory(weights, 2 * text.num_hidden_layers * heads * size * dtype.itemsize, text.vocab_size)


def tokens_per_second(writer: Decoder | GenerateDecoder, groups: Sequence[Group], settings: Sampling) -> float:
    """The speed of a loaded model, measured on a few tokens of some of the prompts to come; takes seconds.

    It counts generated tokens; their prompts are part of the time, as they will be, though a real completion is longer.
    """
    for rows, tokens in _TRIED:
        speed, seconds = _tried(writer, groups, settings, rows, tokens)
        if seconds > _ENOUGH_SECONDS:
            break
    return speed


def _tried(
    writer: Decoder | GenerateDecoder, groups: Sequence[Group], settings: Sampling, rows: int, tokens: int
) -> tuple[float, float]:
    """Tokens per second of so many rows and tokens, and the seconds it took."""
    tried, left = [], rows
    for group in groups:
        part = group.rows[:left]
        left -= len(part)
        tried.extend([Group(group.ids, part, group.problem_id, group.language)] if part else [])
    short = Sampling(settings.temperature, settings.top_p, settings.top_k, min(tokens, settings.max_new_tokens))
    start, written = time.perf_counter(), 0
    found: Completion | Unfinished
    for _, found in writer.run(Queue(tried).take, Shape.of(tried), short):
        written += found.n_tokens if isinstance(found, Completion) else 0
    seconds = time.perf_counter() - start
    return written / seconds, seconds
