"""Samples from a Transformers model in this process, or in one process per core or device.

A prompt is prefilled once and its keys and values are held once, whatever the number of its completions; each row
adds only its own. Rows that end make room for new ones. Every candidate has its own random stream, one number per
token, so its text depends neither on its neighbours nor on the device. (Two kernels may still round a probability
differently in its last bits; once in millions of tokens a draw falls just there.)

It knows models and tokens. It does not know problems, languages, answers or the store.
"""

from __future__ import annotations

import contextlib
import contextvars
import hashlib
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError
from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.utils import logging as transformers_logging

from bestofl_lib.models.contract import Completion, Request, Sampling
from bestofl_lib.problems.files import find
from bestofl_lib.text import content_digest

_ATTENTION = "bestofl_shared_prompt"
_UNIFORM_BLOCK = 256  # tokens for which a row's random numbers are held at once
_FIRST_ROOM = 64  # tokens for which a row's buffers are made at first
_PREFILL_TOKENS = 4096  # in one forward pass, padding included
_CPU_CACHE_BYTES = 2 << 30
_SMALL_MODEL_BYTES = 400 << 20  # below this, CPU cores work better apart than together
_WORKER_REQUESTS = 6000  # below this, starting processes costs more than it saves
_IDENTITY_FILES = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model",
    "special_tokens_map.json", "chat_template.jinja", "vocab.json", "merges.txt", "added_tokens.json",
)  # fmt: skip
_REFILL = 0.7  # share of the rows in use below which new ones are started
_ROWS = 512  # at once, memory allowing
_STATUS = ("", "stop", "length", "error")


class HFSampler:
    """A `Sampler` over any causal language model of the Hub, or a folder in its format.

    Nothing is loaded before the first `sample`; but what is wrong with the folder or name is said at once.

    Args:
        model: Hub id such as "Qwen/Qwen2.5-7B-Instruct", or a folder with config, safetensors weights and tokenizer.
        revision: branch, tag or commit on the Hub; None: the default branch. The commit it stands for is recorded.
        device: "auto" (CUDA, else MPS, else CPU) or a torch device such as "cuda:1".
        dtype: "auto" (bfloat16 on CUDA where it has it, else float16; float16 on MPS; float32 on CPU), or a torch name.
        batch_rows: completions written at once per process; None: 512, or as the memory allows.
        workers: processes; None: one per CUDA device, or one per core on a CPU when the model is small and there is
            much to do, else 1 (this process). What is drawn is the same.
        chat_template: None: the tokenizer's own; "plain": the messages' texts joined by empty lines, for base models;
            or a Jinja template. Part of the identity, so it is recorded with every candidate.
        trust_remote_code: whether code that comes with the model may run. Off, and to be left off for unknown models.

    Raises:
        FileNotFoundError: no such folder or Hub model, or a folder without weights.
        ValueError: weights only as pickles (they can run code when loaded), or an unknown device or dtype.
    """

    def __init__(
        self,
        model: str | Path,
        revision: str | None = None,
        *,
        device: str = "auto",
        dtype: str = "auto",
        batch_rows: int | None = None,
        workers: int | None = None,
        chat_template: str | None = None,
        trust_remote_code: bool = False,
    ):
        if batch_rows is not None and batch_rows < 1:
            raise ValueError(f"batch_rows is {batch_rows}; at least 1 completion has to be written at a time")
        if workers is not None and workers < 1:
            raise ValueError(f"workers is {workers}; at least 1 process has to do the work")
        self.chat_template = chat_template
        self.trust_remote_code = trust_remote_code
        self.batch_rows = batch_rows
        self._workers = workers
        self.device = choose_device(device)
        self.dtype = choose_dtype(dtype, self.device)
        self._one_device = device != "auto"
        folder = find(model)
        if folder.is_dir():
            if revision is not None:
                raise ValueError(
                    f"revision {revision!r} was given for the folder {folder}; only Hub models have revisions"
                )
            check_weights(folder)
            self.source, self.revision, self.name = str(folder.resolve()), None, folder.resolve().name
            identity = f"sha256:{folder_hash(folder)}"
            self._weight_bytes = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        elif folder.is_absolute() or str(model).startswith((".", "~")) or str(model).count("/") != 1:
            raise FileNotFoundError(
                f"no model folder {str(model)!r}; give a folder that holds config.json and *.safetensors, "
                "or a Hub id such as 'Qwen/Qwen2.5-7B-Instruct'"
            )
        else:
            self.source, self.name = str(model), str(model)
            self.revision = hub_commit(self.source, revision)
            identity = f"{self.source}@{self.revision}"
            self._weight_bytes = 0
        if chat_template is not None:
            identity += "+template:" + content_digest(chat_template)[:8]
        self.identity = identity

    @cached_property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        with loading(self.source):
            return AutoTokenizer.from_pretrained(
                self.source, revision=self.revision, trust_remote_code=self.trust_remote_code
            )

    @cached_property
    def _decoder(self) -> _Decoder:
        return _Decoder(self._options(str(self.device)))

    def _options(self, device: str) -> dict[str, Any]:
        return {
            "source": self.source,
            "revision": self.revision,
            "trust_remote_code": self.trust_remote_code,
            "device": device,
            "dtype": self.dtype,
            "batch_rows": self.batch_rows,
        }

    def sample(self, requests: Sequence[Request], settings: Sampling) -> Iterator[tuple[Request, Completion]]:
        """Yield every request once with its completion, as they finish.

        A request that runs out of memory on its own, or whose logits are not numbers, ends with finish reason "error".

        Raises:
            ValueError: no chat template, or a prompt that leaves no room for max_new_tokens in the model's context.
        """
        groups = self._groups(requests, settings)
        workers = self._count_workers(len(requests), len(groups))
        if workers == 1:
            source: Iterator[tuple[int, Completion]] = self._decoder.run(
                _Queue(groups).take, _Shape.of(groups), settings
            )
        else:
            source = _run_workers(self._worker_options(workers), groups, settings)
        with contextlib.closing(source):  # type: ignore[type-var]
            for index, completion in source:
                yield requests[index], completion

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The prompt text of a chat, ready for the model to go on from.

        Raises:
            ValueError: the tokenizer has no chat template and none was given.
        """
        if self.chat_template == "plain":
            return "\n\n".join(message["content"] for message in messages) + "\n\n"
        if self.chat_template is None and not self.tokenizer.chat_template:
            raise ValueError(
                f"{self.name} has no chat template, so it is probably a base model; take its instruct version, "
                "or pass chat_template='plain' (texts only) or a Jinja template"
            )
        return self.tokenizer.apply_chat_template(
            [dict(message) for message in messages],
            chat_template=self.chat_template,
            add_generation_prompt=True,
            tokenize=False,
        )

    def _groups(self, requests: Sequence[Request], settings: Sampling) -> list[_Group]:
        """One group per prompt, the longest prompts first."""
        by_prompt: dict[tuple[tuple[str, str], ...], _Group] = {}
        for index, request in enumerate(requests):
            key = tuple((message["role"], message["content"]) for message in request.messages)
            if key not in by_prompt:
                by_prompt[key] = _Group([], [], request.problem_id, request.language)
                by_prompt[key].text = self.render(request.messages)
            by_prompt[key].rows.append((index, request.seed))
        groups = list(by_prompt.values())
        # the template has put special tokens in its place already
        encoded = self.tokenizer([g.text for g in groups], add_special_tokens=self.chat_template == "plain")[
            "input_ids"
        ]
        room = _context(self.source, self.revision, self.trust_remote_code)
        for group, ids in zip(groups, encoded, strict=True):
            group.ids = ids
            if not ids:
                raise ValueError(f"the prompt of problem {group.problem_id} ({group.language}) has no tokens")
            if room is not None and len(ids) + settings.max_new_tokens > room:
                raise ValueError(
                    f"the prompt of problem {group.problem_id} ({group.language}) has {len(ids)} tokens, which with "
                    f"max_new_tokens {settings.max_new_tokens} exceeds the {room} positions of {self.name}; "
                    f"lower max_new_tokens to {max(room - len(ids), 0)} or take a model with a longer context"
                )
            group.text = ""
        groups.sort(key=lambda group: -len(group.ids))
        return groups

    def _count_workers(self, n_requests: int, n_groups: int) -> int:
        if self._workers is not None:
            return max(1, min(self._workers, n_groups))
        if not hasattr(os, "fork"):
            return 1  # worker processes need POSIX pipes
        if self.device.type == "cuda" and not self._one_device:
            return min(torch.cuda.device_count(), n_groups)
        if self.device.type == "cpu" and 0 < self._weight_bytes < _SMALL_MODEL_BYTES and n_requests >= _WORKER_REQUESTS:
            return min(_cores(), n_groups)
        return 1

    def _worker_options(self, workers: int) -> list[dict[str, Any]]:
        if self.device.type == "cuda" and not self._one_device:
            return [self._options(f"cuda:{i % torch.cuda.device_count()}") for i in range(workers)]
        threads = max(1, _cores() // workers)
        return [self._options(str(self.device)) | {"threads": threads} for _ in range(workers)]


def choose_device(device: str = "auto") -> torch.device:
    """The device to work on: as named, or for "auto" CUDA, else MPS, else CPU.

    Raises:
        ValueError: a name torch does not know, or a device this machine lacks.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        if torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"unknown device {device!r}; use 'auto', 'cpu', 'cuda', 'cuda:1' or 'mps'") from error
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(chosen.type, True):
        raise ValueError(f"device {device!r} is not available on this machine; use 'auto' or 'cpu'")
    return chosen


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The number format of weights and cache: as named, or for "auto" the one that suits the device.

    Raises:
        ValueError: not a floating-point format of torch.
    """
    if dtype == "auto":
        if device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        return torch.float16 if device.type == "mps" else torch.float32
    chosen = getattr(torch, dtype, None)
    if not isinstance(chosen, torch.dtype) or not chosen.is_floating_point:
        raise ValueError(f"unknown dtype {dtype!r}; use 'auto', 'float32', 'bfloat16' or 'float16'")
    return chosen


# Choosing a token


def uniforms(seed: int, start: int, count: int) -> np.ndarray:
    """Numbers start, start + 1, … of one candidate's random stream: (count,) float64 in [0, 1).

    Philox, a counter-based generator, keyed by the seed: no state travels with the row.
    """
    first, last = start // _UNIFORM_BLOCK, (start + count - 1) // _UNIFORM_BLOCK
    blocks = [
        np.random.Generator(np.random.Philox(key=seed + (block << 64))).random(_UNIFORM_BLOCK)
        for block in range(first, last + 1)
    ]
    offset = start - first * _UNIFORM_BLOCK
    return np.concatenate(blocks)[offset : offset + count]


def pick(logits: torch.Tensor, u: torch.Tensor, settings: Sampling) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Choose one token per row by inverse transform: the token in whose share of the distribution u falls.

    Args:
        logits: (rows, vocabulary) float32.
        u: (rows,) in [0, 1), one draw per row; not read at temperature 0.
        settings: temperature, then top_k, then top_p, as in Transformers.

    Returns:
        tokens (rows,) int64; their log-probability under the untempered model (rows,) float32; and
        is_bad (rows,) bool: the row's logits hold NaN or +inf, its token and log-probability mean nothing.
    """
    logprobs = logits.log_softmax(-1)
    is_bad = logprobs[:, 0].isnan()  # one NaN or +inf makes its whole row NaN
    if bool(is_bad.any()):
        logprobs = torch.where(is_bad[:, None], -math.log(logits.shape[1]), logprobs)
    if settings.temperature == 0:
        tokens = logprobs.argmax(-1)
    else:
        weights = torch.softmax(logprobs / settings.temperature, -1)
        is_whole = settings.top_k == 0 and settings.top_p == 1
        tokens = _invert_all(weights, u) if is_whole else _invert_top(weights, u, settings)
    return tokens, logprobs.gather(1, tokens[:, None])[:, 0], is_bad


def _invert_all(weights: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """Over the whole vocabulary, in the order of token ids: first the block of 64 tokens, then the token in it."""
    rows, size = weights.shape
    if size % 64:
        weights = torch.nn.functional.pad(weights, (0, 64 - size % 64))
    blocks = weights.view(rows, -1, 64)
    sums = blocks.sum(-1).to(u.dtype).cumsum(-1)
    target = u * sums[:, -1]
    block = (sums <= target[:, None]).sum(-1).clamp_(max=sums.shape[1] - 1)
    before = torch.where(block > 0, sums.gather(1, (block - 1).clamp_(min=0)[:, None])[:, 0], 0)
    inner = blocks[torch.arange(rows, device=weights.device), block].to(u.dtype)
    return block * 64 + _invert(inner, target - before)


def _invert_top(weights: torch.Tensor, u: torch.Tensor, settings: Sampling) -> torch.Tensor:
    """Over the likeliest tokens only. Exact: the number looked at grows for the rows whose nucleus is not covered."""
    size = weights.shape[1]
    width = min(settings.top_k or 16, size)
    tokens = torch.empty(len(weights), dtype=torch.long, device=weights.device)
    rest: torch.Tensor | None = None  # rows not decided yet; None: all
    while True:
        values, ids = (weights if rest is None else weights[rest]).topk(width)
        values = values.to(u.dtype)
        if settings.top_k:
            values = values / values.sum(-1, keepdim=True)  # top_p is a share of what top_k left
        reached = values.cumsum(-1)
        kept = values * (reached - values < settings.top_p)  # a token is kept while those before it fall short
        target = (u if rest is None else u[rest]) * kept.sum(-1)
        chosen = ids.gather(1, _invert(kept, target)[:, None])[:, 0]
        covered = reached[:, -1] >= settings.top_p
        if settings.top_k or width == size or bool(covered.all()):
            if rest is None:
                return chosen
            tokens[rest] = chosen
            return tokens
        if rest is None:
            tokens, rest = chosen, (~covered).nonzero()[:, 0]
        else:
            tokens[rest] = chosen
            rest = rest[~covered]
        width = min(width * 8, size) if width < 1024 else size


def _invert(weights: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The first position whose cumulated weight exceeds target, never one of weight 0: (rows,)."""
    reached = weights.cumsum(-1)
    last = weights.shape[1] - 1 - (weights.flip(-1) > 0).to(torch.uint8).argmax(-1)
    return torch.minimum((reached <= target[:, None]).sum(-1), last)


# The model with one copy of each prompt


@dataclass
class _Group:
    """One prompt and the completions still to be drawn from it."""

    ids: list[int]  # prompt tokens
    rows: list[tuple[int, int]]  # (index of the request, seed)
    problem_id: str = ""  # for messages
    language: str = ""
    text: str = ""


@dataclass(frozen=True)
class _Shape:
    """What the buffers must hold."""

    prompt: int  # tokens of the longest prompt
    width: int  # completions of the prompt with most
    rows: int  # completions altogether

    @classmethod
    def of(cls, groups: Sequence[_Group]) -> _Shape:
        return cls(max(len(g.ids) for g in groups), max(len(g.rows) for g in groups), sum(len(g.rows) for g in groups))


class _Queue:
    """Groups handed out from the front."""

    def __init__(self, groups: Sequence[_Group]):
        self.groups = deque(groups)

    def take(self, count: int) -> list[_Group]:
        return [self.groups.popleft() for _ in range(min(count, len(self.groups)))]


class _PassingLayer(CacheLayerMixin):
    """Hands this step's keys and values on: attention writes and reads the buffers itself."""

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing to prepare."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return key_states, value_states

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return query_length, 0

    def get_seq_length(self) -> int:
        return 0

    def get_max_length(self) -> int:
        return -1


def _held(cache: DynamicCache) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Keys and values of every layer.

    Raises:
        NotImplementedError: a layer keeps something else, such as the state of a linear attention.
    """
    held = []
    for number, layer in enumerate(cache.layers):
        keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
        if not (isinstance(keys, torch.Tensor) and isinstance(values, torch.Tensor)):
            raise NotImplementedError(f"layer {number} keeps no keys and values ({type(layer).__name__})")
        held.append((keys, values))
    if not held:
        raise NotImplementedError("no layer keeps keys and values")
    return held


_COHORTS: contextvars.ContextVar[list[_Cohort] | None] = contextvars.ContextVar("bestofl_cohorts", default=None)


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention while decoding: one new token per row, each cohort over its own prompts and tokens; else the usual one."""
    cohorts = _COHORTS.get()
    if cohorts is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    query = query * (kwargs.get("scaling") or query.shape[3] ** -0.5)
    parts, start = [], 0
    for cohort in cohorts:
        span = slice(start, start := start + cohort.rows)
        parts.append(
            cohort.attend(
                int(module.layer_idx),  # type: ignore[arg-type]
                query[span, :, 0], key[span, :, 0], value[span, :, 0], kwargs.get("softcap"), kwargs.get("sliding_window"),
            )
        )  # fmt: skip
    out = parts[0] if len(parts) == 1 else torch.cat(parts)
    return out.reshape(query.shape[0], 1, query.shape[1], -1), None


AttentionInterface.register(_ATTENTION, _attend)
AttentionMaskInterface.register(_ATTENTION, sdpa_mask)


class _Decoder:
    """The loaded model and the loop that writes with it."""

    def __init__(self, options: Mapping[str, Any]):
        self.source = options["source"]
        self.device = torch.device(options["device"])
        self.batch_rows = options["batch_rows"]
        # float64 makes the draw as fine as the random number; MPS has none
        self.real = torch.float32 if self.device.type == "mps" else torch.float64
        if threads := options.get("threads"):
            torch.set_num_threads(threads)
        common = {"revision": options["revision"], "trust_remote_code": options["trust_remote_code"]}
        with loading(self.source):
            self.tokenizer = AutoTokenizer.from_pretrained(self.source, **common)
            self.model = AutoModelForCausalLM.from_pretrained(
                self.source, use_safetensors=True, dtype=options["dtype"], attn_implementation=_ATTENTION, **common
            )
        self.model.to(self.device).eval()  # type: ignore[arg-type]
        self.vocabulary = int(self.model.get_output_embeddings().weight.shape[0])
        ends = self._end_tokens(common)
        self.is_end = torch.zeros(self.vocabulary, dtype=torch.bool, device=self.device)
        self.is_end[sorted(ends)] = True
        self._check()

    def _end_tokens(self, common: Mapping[str, Any]) -> set[int]:
        named = self.model.generation_config.eos_token_id if self.model.generation_config else None
        ends = set(named if isinstance(named, list) else [named]) | {self.tokenizer.eos_token_id}
        ends = {int(token) for token in ends if token is not None and 0 <= token < self.vocabulary}
        if not ends:
            raise ValueError(
                f"{self.source} names no end-of-text token, so completions would never end; "
                "set eos_token_id in its generation_config.json"
            )
        return ends

    @torch.inference_mode()
    def _check(self) -> None:
        """Compare two decoding steps with a plain forward pass, so that no architecture is sampled wrongly.

        Raises:
            ValueError: this model's attention is of a kind that the loop does not know.
        """
        ids = (torch.arange(9, device=self.device) * 7 + 3) % self.vocabulary
        plain = self.model(input_ids=ids[None], use_cache=False).logits[0, 6:].float()
        reason: str | None = None
        cause: Exception | None = None
        try:
            batch = _Batch(self, _Shape(7, 2, 2), Sampling(max_new_tokens=4), rows=2)
            block = batch.prefill([_Group(ids[:7].tolist(), [(0, 0), (1, 1)])])
            cohort = _Cohort(batch, block, 2)
            batch.cohorts.append(cohort)
            found = [block.logits[0]]
            for position in (7, 8):
                cohort.token[:] = ids[position]
                found.append(batch.forward()[1])
                cohort.age += 1
            gap = float((torch.stack(found).float() - plain).abs().max())
            allowed = 0.01 if self.model.dtype == torch.float32 else 0.1
            sound = bool(torch.isfinite(plain).all())  # weights that give no numbers say nothing about the loop
            if sound and not gap <= allowed * max(1.0, float(plain.abs().max())):
                reason = f"its logits differ by {gap:.3g} from those of a plain forward pass"
        except (AttributeError, TypeError, KeyError, IndexError, NotImplementedError) as error:
            reason, cause = f"it fails with {type(error).__name__}: {error}", error
        if reason is not None:
            kind = self.model.config.model_type
            raise ValueError(
                f"{self.source} (architecture {kind!r}) cannot be sampled in this process: {reason}. "
                "Sample it with another engine and import the completions: bestofl run pool -p pool=FILE"
            ) from cause

    def rows_for(self, shape: _Shape, settings: Sampling, token_bytes: int) -> int:
        """How many rows fit; the prompts of twice as many groups as needed are counted in."""
        wanted = self.batch_rows or _ROWS
        if self.batch_rows is None:
            row = (
                token_bytes * (settings.max_new_tokens + 2 * math.ceil(shape.prompt / shape.width))
                + 16 * self.vocabulary
            )
            free = _CPU_CACHE_BYTES
            if self.device.type == "cuda":
                free = int(torch.cuda.mem_get_info(self.device)[0] * 0.7)
            wanted = max(1, min(wanted, free // row))
        return min(wanted, shape.rows)

    def run(
        self, take: Callable[[int], list[_Group]], shape: _Shape, settings: Sampling
    ) -> Iterator[tuple[int, Completion]]:
        """Write completions for the groups that `take(count)` hands out (none: no more), yielding (index, completion)."""
        rows: int | None = None
        before: int | None = None  # the rows of the first batch that was too large
        again: deque[_Group] = deque()

        def next_groups(count: int) -> list[_Group]:
            return [again.popleft() for _ in range(min(count, len(again)))] or take(count)

        while True:
            batch: _Batch | None = None
            try:
                batch = _Batch(self, shape, settings, rows)
                yield from batch.run(next_groups)
                return
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                used = batch.rows if batch is not None else (rows or self.batch_rows or _ROWS)
                again.extendleft(reversed(batch.unfinished() if batch is not None else []))
            del batch  # outside the handler, where no traceback holds its buffers any more
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            if used > 1:
                before, rows = before or used, used // 2
                continue
            # alone and still too large: say so in its row and go on with the others
            again.extend([] if again else take(1))
            if not again:
                return
            index, _ = again[0].rows.pop(0)
            if not again[0].rows:
                again.popleft()
            yield index, Completion("", 0, "error", None, 0.0)
            before, rows = None, before


class _Block:
    """Prompts after prefill, and the rows that still wait to begin from them."""

    def __init__(
        self, groups: Sequence[_Group], keys: list[torch.Tensor], values: list[torch.Tensor], logits: torch.Tensor
    ):
        self.waiting = deque((slot, *row) for slot, group in enumerate(groups) for row in group.rows)
        self.keys, self.values = keys, values  # per layer (prompts, heads, longest, size)
        self.logits = logits  # (prompts, vocabulary) of the first new token
        device = logits.device
        self.lengths = torch.tensor([len(group.ids) for group in groups], device=device)
        positions = torch.arange(keys[0].shape[2], device=device)
        self.mask = torch.where(positions < self.lengths[:, None], 0.0, -math.inf)  # (prompts, longest)


class _Cohort:
    """Rows that began in the same step, from the prompts of one block: all have written the same number of tokens."""

    def __init__(self, batch: _Batch, block: _Block, count: int):
        taken = [block.waiting.popleft() for _ in range(count)]
        device, real = batch.decoder.device, batch.decoder.real
        self.batch = batch
        self.rows = count
        self.age = 0  # own tokens in the cache
        self.started = batch.clock
        self.indices = np.array([index for _, index, _ in taken], dtype=np.int64)
        self.seeds = np.array([seed for _, _, seed in taken], dtype=np.int64)
        slots = np.array([slot for slot, _, _ in taken])
        first = np.searchsorted(slots, slots)  # rows of a prompt stand together
        columns = np.arange(count) - first
        self.width = int(columns.max()) + 1
        self.prompt_keys, self.prompt_values = block.keys, block.values
        self.prompts = len(block.lengths)
        self.longest = block.mask.shape[1]
        self.slot = torch.from_numpy(slots).to(device)
        self.cell = self.slot * self.width + torch.from_numpy(columns).to(device)  # place in a grid of prompts x width
        self.length = block.lengths.index_select(0, self.slot)
        self.mask = block.mask.index_select(0, self.slot)[:, None, None]
        room = min(_FIRST_ROOM, batch.settings.max_new_tokens)
        self.keys = [k.new_empty(count, k.shape[1], room, k.shape[3]) for k in block.keys]
        self.values = [v.new_empty(count, v.shape[1], room, v.shape[3]) for v in block.values]
        self.token = torch.zeros(count, dtype=torch.long, device=device)  # to be fed next
        self.status = torch.zeros(count, dtype=torch.long, device=device)  # index into _STATUS
        self.count = torch.zeros(count, dtype=torch.long, device=device)  # tokens written
        self.logprob = torch.zeros(count, dtype=real, device=device)
        self.written = torch.zeros(count, room, dtype=torch.long, device=device)
        self.uniform = torch.zeros(count, 1, dtype=real, device=device)
        self.drawn = 0

    def draws(self) -> torch.Tensor:
        """The next random number of each row: (rows,)."""
        if self.batch.settings.temperature > 0 and self.drawn % _UNIFORM_BLOCK == 0:
            size = min(_UNIFORM_BLOCK, self.batch.settings.max_new_tokens)
            block = np.stack([uniforms(int(seed), self.drawn, size) for seed in self.seeds])
            self.uniform = torch.from_numpy(block).to(self.uniform.device, self.uniform.dtype)
        return self.uniform[:, self.drawn % self.uniform.shape[1]]

    def note(self, tokens: torch.Tensor, logprob: torch.Tensor, is_bad: torch.Tensor) -> None:
        """Take the tokens chosen for these rows; rows that have ended stay as they are."""
        if self.drawn == self.written.shape[1]:
            self.written = torch.cat([self.written, torch.zeros_like(self.written)], 1)
        alive = self.status == 0
        good = alive & ~is_bad
        self.written[:, self.drawn] = tokens
        self.drawn += 1
        self.logprob += torch.where(good, logprob, 0.0)
        self.count += good
        status = 2 * (self.count >= self.batch.settings.max_new_tokens)
        status = torch.where(self.batch.decoder.is_end[tokens], 1, status)
        status = torch.where(is_bad, 3, status)
        self.status = torch.where(alive, status, self.status)
        self.token = tokens

    def make_room(self) -> None:
        """Double the buffers when they are full, up to max_new_tokens."""
        room = self.keys[0].shape[2]
        if self.age < room:
            return
        more = min(room, self.batch.settings.max_new_tokens - room)
        for held in (self.keys, self.values):
            for number, old in enumerate(held):
                held[number] = torch.cat([old, old.new_empty(*old.shape[:2], more, old.shape[3])], 2)

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        softcap: float | None,
        window: int | None,
    ) -> torch.Tensor:
        """query (rows, query heads, size), scaled; key and value (rows, heads, size): (rows, query heads, value size).

        A prompt's keys and values are read once for all its rows: its queries stand side by side in a grid.
        """
        rows, heads, size = key.shape
        new = self.age + 1
        keys, values = self.keys[layer], self.values[layer]
        keys[:rows, :, self.age] = key
        values[:rows, :, self.age] = value
        q = query.reshape(rows, heads, -1, size)
        per = q.shape[2]
        over_prompt = torch.matmul(self._to_grid(q), self.prompt_keys[layer].transpose(2, 3))
        over_prompt = self._from_grid(over_prompt, per)  # (rows, heads, per, longest)
        over_new = torch.matmul(q, keys[:rows, :, :new].transpose(2, 3))  # (rows, heads, per, new)
        scores = torch.cat([over_prompt.float(), over_new.float()], -1)
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        scores[..., : self.longest] += self.mask
        if window is not None and self.longest + new > window:
            at = torch.arange(self.longest, device=q.device)
            far = self.length[:, None] + self.age - at >= window  # (rows, longest)
            scores[..., : self.longest].masked_fill_(far[:, None, None], -math.inf)
            scores[..., self.longest : self.longest + max(0, new - window)] = -math.inf
        weights = scores.softmax(-1).to(query.dtype)
        out = torch.matmul(self._to_grid(weights[..., : self.longest]), self.prompt_values[layer])
        return (self._from_grid(out, per) + torch.matmul(weights[..., self.longest :], values[:rows, :, :new])).flatten(
            1, 2
        )

    def _to_grid(self, x: torch.Tensor) -> torch.Tensor:
        """(rows, heads, per, n) to (prompts, heads, width * per, n); places without a row hold anything, and stay unread."""
        _, heads, per, n = x.shape
        grid = x.new_empty(self.prompts * self.width, heads, per, n).index_copy_(0, self.cell, x)
        return grid.view(self.prompts, self.width, heads, per, n).transpose(1, 2).flatten(2, 3)

    def _from_grid(self, x: torch.Tensor, per: int) -> torch.Tensor:
        """The inverse of _to_grid."""
        prompts, heads, _, n = x.shape
        x = x.view(prompts, heads, self.width, per, n).transpose(1, 2).flatten(0, 1)
        return x.index_select(0, self.cell)

    def harvest(self) -> list[tuple[int, Completion]]:
        """Take finished rows out and close the gaps with rows from the end."""
        status = self.status.cpu().numpy()
        ended = np.flatnonzero(status)
        if not len(ended):
            return []
        index = torch.from_numpy(ended).to(self.token.device)
        counts, logprobs = self.count[index].tolist(), self.logprob[index].tolist()
        written = self.written[index].tolist()
        ids = [line[: n - (status[row] == 1)] for row, line, n in zip(ended, written, counts, strict=True)]
        texts = self.batch.decoder.tokenizer.batch_decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        seconds = self.batch.clock - self.started
        finished = []
        for row, text, n, logprob in zip(ended, texts, counts, logprobs, strict=True):
            reason = _STATUS[status[row]]
            completion = Completion(text, n, reason, None if reason == "error" else logprob, seconds)
            finished.append((int(self.indices[row]), completion))
        self.rows -= len(ended)
        order = np.arange(self.rows)
        holes = ended[ended < self.rows]
        order[holes] = np.flatnonzero(status[self.rows :] == 0) + self.rows
        to, frm = (torch.from_numpy(rows).to(index.device) for rows in (holes, order[holes]))
        for held in (self.keys, self.values):
            for buffer in held:
                buffer[to, :, : self.age] = buffer[frm, :, : self.age]
        kept = torch.from_numpy(order).to(index.device)
        for name in ("slot", "cell", "length", "mask", "token", "status", "count", "logprob", "written", "uniform"):
            setattr(self, name, getattr(self, name).index_select(0, kept))
        self.indices, self.seeds = self.indices[order], self.seeds[order]
        self._shrink()
        return finished

    def _shrink(self) -> None:
        """Let go of prompts without rows and of room without rows, once they are the greater part."""
        used = self.slot.unique()
        if 2 * len(used) <= self.prompts and self.rows:
            renamed = torch.searchsorted(used, self.slot)
            self.cell = renamed * self.width + self.cell % self.width
            self.slot, self.prompts = renamed, len(used)
            self.prompt_keys = [k.index_select(0, used) for k in self.prompt_keys]
            self.prompt_values = [v.index_select(0, used) for v in self.prompt_values]
        if 2 * self.rows <= len(self.keys[0]):
            self.keys = [k[: self.rows].clone() for k in self.keys]
            self.values = [v[: self.rows].clone() for v in self.values]


class _Batch:
    """Cohorts being written together."""

    def __init__(self, decoder: _Decoder, shape: _Shape, settings: Sampling, rows: int | None = None):
        self.decoder, self.model, self.settings = decoder, decoder.model, settings
        device = decoder.device
        with torch.inference_mode():
            probe = DynamicCache()
            self.model(
                input_ids=torch.zeros(1, 1, dtype=torch.long, device=device), past_key_values=probe, use_cache=True
            )
            kinds = _held(probe)
            size = sum(k.shape[1] * (k.shape[3] + v.shape[3]) * k.element_size() for k, v in kinds)
            self.cache = Cache(layers=[_PassingLayer() for _ in kinds])
            self.nothing = torch.zeros(1, 1, 1, 1, device=device)  # stands for a mask, so that the model makes none
        self.rows = min(rows or decoder.rows_for(shape, settings, size), shape.rows)
        self.width = min(shape.width, self.rows)
        self.cohorts: list[_Cohort] = []
        self.block: _Block | None = None  # with rows waiting
        self.taken: list[_Group] = []  # not prefilled yet
        self.open: dict[int, tuple[_Group, int]] = {}  # by index of the request: what is taken and not finished
        self.is_exhausted = False
        self.clock = 0.0  # seconds per row that a row present all the time would have used

    @property
    def active(self) -> int:
        """Rows being written."""
        return sum(cohort.rows for cohort in self.cohorts)

    def unfinished(self) -> list[_Group]:
        """What was begun or waits here, as groups to be drawn anew."""
        by_prompt: dict[int, _Group] = {}
        for index, (group, seed) in self.open.items():
            left = by_prompt.setdefault(id(group), _Group(group.ids, [], group.problem_id, group.language))
            left.rows.append((index, seed))
        return list(by_prompt.values())

    def run(self, take: Callable[[int], list[_Group]]) -> Iterator[tuple[int, Completion]]:
        """Write until nothing is left to take, yielding (index, completion)."""
        while True:
            active = self.active
            if active <= self.rows * _REFILL:
                self._admit(take)
                active = self.active
            if active == 0:
                return
            ended = sum(int((cohort.status != 0).sum()) for cohort in self.cohorts)
            limit = self.settings.max_new_tokens  # a cohort that reaches it has ended as a whole and has no more room
            while ended < max(1, active // 16) and all(cohort.drawn < limit for cohort in self.cohorts):
                ended = self._advance()
            finished = self._harvest()
            for index, _ in finished:
                del self.open[index]
            yield from finished

    @torch.inference_mode()
    def _admit(self, take: Callable[[int], list[_Group]]) -> None:
        """Fill free rows: first from prompts that are here already, then from new ones."""
        while (free := self.rows - self.active) > 0:
            tick = time.perf_counter()
            if self.block is None:
                if not self.taken and not self.is_exhausted:
                    self.taken = take(math.ceil(free / self.width))
                    self.open |= {index: (group, seed) for group in self.taken for index, seed in group.rows}
                    self.is_exhausted = not self.taken
                if not self.taken:
                    return
                part = self.taken[: max(1, _PREFILL_TOKENS // max(len(group.ids) for group in self.taken))]
                self.block = self.prefill(part)
                self.taken = self.taken[len(part) :]
            block = self.block
            cohort = _Cohort(self, block, min(free, len(block.waiting)))
            cohort.note(*pick(block.logits.index_select(0, cohort.slot), cohort.draws(), self.settings))
            self.cohorts.append(cohort)
            if not block.waiting:
                self.block = None
            self.clock += (time.perf_counter() - tick) / self.active

    @torch.inference_mode()
    def prefill(self, groups: Sequence[_Group]) -> _Block:
        """Run prompts through the model, each once."""
        device = self.decoder.device
        lengths = torch.tensor([len(group.ids) for group in groups], device=device)
        longest = max(len(group.ids) for group in groups)
        # prompts stand on the left: a causal model never looks at the padding behind them
        ids = torch.tensor([group.ids + [0] * (longest - len(group.ids)) for group in groups], device=device)
        ends, place = torch.unique(lengths - 1, return_inverse=True)
        cache = DynamicCache()
        logits = self.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=ends).logits
        if logits.shape[1] != len(ends):
            raise NotImplementedError("logits of chosen positions (logits_to_keep) are not supported")
        held = _held(cache)
        logits = logits[torch.arange(len(groups), device=device), place].float()
        return _Block(groups, [keys for keys, _ in held], [values for _, values in held], logits)

    @torch.inference_mode()
    def forward(self) -> torch.Tensor:
        """Feed each row's newest token: (active, vocabulary) float32 logits of the next one."""
        for cohort in self.cohorts:
            cohort.make_room()
        token = _COHORTS.set(self.cohorts)
        try:
            logits = self.model(
                input_ids=torch.cat([cohort.token for cohort in self.cohorts])[:, None],
                position_ids=torch.cat([cohort.length + cohort.age for cohort in self.cohorts])[:, None],
                past_key_values=self.cache,
                attention_mask=self.nothing,
                use_cache=True,
            ).logits
        finally:
            _COHORTS.reset(token)
        return logits[:, -1].float()

    @torch.inference_mode()
    def _advance(self) -> int:
        """One token for every row; returns how many rows have ended."""
        tick = time.perf_counter()
        logits = self.forward()
        chosen = pick(logits, torch.cat([cohort.draws() for cohort in self.cohorts]), self.settings)
        rows = [cohort.rows for cohort in self.cohorts]
        for cohort, *part in zip(self.cohorts, *(x.split(rows) for x in chosen), strict=True):
            cohort.age += 1
            cohort.note(*part)
        ended = int((torch.cat([cohort.status for cohort in self.cohorts]) != 0).sum())
        self.clock += (time.perf_counter() - tick) / sum(rows)
        return ended

    @torch.inference_mode()
    def _harvest(self) -> list[tuple[int, Completion]]:
        finished = [pair for cohort in self.cohorts for pair in cohort.harvest()]
        self.cohorts = [cohort for cohort in self.cohorts if cohort.rows]
        return finished


# Several processes


def _run_workers(
    options: Sequence[Mapping[str, Any]], groups: Sequence[_Group], settings: Sampling
) -> Iterator[tuple[int, Completion]]:
    """Share the groups among processes, each with its own copy of the model; they fetch more as they finish.

    Plain subprocesses on a socket, because multiprocessing would run the caller's script again in each.
    """
    queue, shape = _Queue(groups), _Shape.of(groups)
    workers: dict[Connection, subprocess.Popen[bytes]] = {}
    path = os.pathsep.join([str(Path(__file__).resolve().parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    try:
        for option in options:
            ours, theirs = socket.socketpair()
            with theirs:
                command = "import sys; from bestofl_lib.candidates.hf import serve; serve(int(sys.argv[1]))"
                process = subprocess.Popen(
                    [sys.executable, "-c", command, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    env=os.environ | {"PYTHONPATH": path},
                )
            connection = Connection(ours.detach())
            workers[connection] = process
            connection.send((dict(option), shape, settings))
        while workers:
            for ready in wait(list(workers)):
                connection = ready  # type: ignore[assignment]
                try:
                    kind, content = connection.recv()
                except (EOFError, ConnectionError):
                    code = workers.pop(connection).wait()
                    raise RuntimeError(
                        f"a sampling process ended with status {code}"
                        + (" (killed, most likely for want of memory)" if code == -9 else "")
                        + "; what was drawn is kept: run again, with fewer workers or batch_rows"
                    ) from None
                if kind == "take":
                    connection.send(queue.take(content))
                elif kind == "done":
                    yield from content
                elif kind == "failed":
                    raise content
                else:
                    workers.pop(connection).wait()
                    connection.close()
    finally:
        for connection, process in workers.items():
            connection.close()
            process.kill()
            process.wait()


def serve(descriptor: int) -> None:
    """The life of a sampling process: told what to do on this socket, it ends when the socket does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends this process
    connection = Connection(descriptor)
    pending: list[tuple[int, Completion]] = []
    sent = time.monotonic()

    def send() -> None:
        nonlocal sent
        sent = time.monotonic()
        if pending:
            connection.send(("done", pending.copy()))
            pending.clear()

    def take(count: int) -> list[_Group]:
        send()
        connection.send(("take", count))
        return connection.recv()

    try:
        options, shape, settings = connection.recv()
        try:
            for pair in _Decoder(options).run(take, shape, settings):
                pending.append(pair)
                if len(pending) >= 256 or time.monotonic() - sent > 1:
                    send()
            send()
            connection.send(("end", None))
        except (EOFError, ConnectionError):
            raise
        except Exception as error:  # handed to the parent, which raises it
            send()
            connection.send(("failed", error))
    except (EOFError, ConnectionError):
        return  # the parent is gone


# Folders, the Hub and the machine


def check_weights(folder: Path) -> None:
    """Refuse a folder that holds no model.

    Raises:
        FileNotFoundError: no config.json, or no weights.
        ValueError: its only weights are pickles, which can run any code.
    """
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"{folder} has no config.json, so it is not a model folder of Transformers; check the path"
        )
    if any(folder.glob("*.safetensors")):
        return
    pickles = sorted(p.name for kind in ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl") for p in folder.glob(kind))
    if pickles:
        raise ValueError(
            f"{folder} holds its weights only as {', '.join(pickles)}, a pickle, which can run any code when it is loaded; "
            "convert it with save_pretrained (it writes safetensors) where you trust it, or take a revision that has them"
        )
    raise FileNotFoundError(
        f"{folder} holds no weights (*.safetensors); finish its training or download, or check the path"
    )


def folder_hash(folder: Path) -> str:
    """Hash of weights, configuration and tokenizer: of all bytes, but for large weights of header, size and samples."""
    digest = hashlib.sha256()
    files = sorted([*folder.glob("*.safetensors"), *(folder / n for n in _IDENTITY_FILES if (folder / n).is_file())])
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name} {size}\n".encode())
        with file.open("rb") as stream:
            if size <= 256 << 20:
                digest.update(stream.read())
                continue
            for part in range(64):  # the first holds the header
                stream.seek(part * (size - (1 << 20)) // 63)
                digest.update(stream.read(1 << 20))
    return digest.hexdigest()[:16]


def hub_commit(model: str, revision: str | None) -> str:
    """The commit that a Hub id and revision stand for: asked of the Hub, or of the local cache when offline."""
    try:
        path = hf_hub_download(model, "config.json", revision=revision, etag_timeout=5)
    except GatedRepoError as error:
        raise PermissionError(
            f"{model} is gated: accept its licence on its Hub page and log in with `hf auth login`, or take another model"
        ) from error
    except RevisionNotFoundError as error:
        raise ValueError(f"{model} has no revision {revision!r} on the Hub; give a branch, tag or commit") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise FileNotFoundError(
            f"no model folder and no Hub model {model!r}; check the spelling, or log in (`hf auth login`) if it is private"
        ) from error
    except LocalEntryNotFoundError as error:
        raise FileNotFoundError(
            f"no model folder {model!r}, and the Hub cannot be reached to look for a model of that name "
            "(offline, and it is not in the local cache); connect, or give a folder such as data/lab/policy"
        ) from error
    except EntryNotFoundError as error:
        raise FileNotFoundError(f"{model} on the Hub has no config.json, so it is not a Transformers model") from error
    except OSError as error:
        raise FileNotFoundError(f"no model folder {model!r}, and asking the Hub failed: {error}") from error
    return Path(path).parent.name


@contextlib.contextmanager
def loading(source: str) -> Iterator[None]:
    """Without the library's progress bars, and with its errors said shorter."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        hint = ""
        if "trust_remote_code" in str(error):
            hint = "; it brings its own code: read that code, then pass trust_remote_code=True if you trust it"
        elif "safetensors" in str(error):
            hint = (
                "; only safetensors weights are loaded, as pickles can run code: take a model or revision that has them"
            )
        first = str(error).strip().split("\n")[0]
        raise ValueError(f"{source} cannot be loaded: {first}{hint}") from error
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def _context(source: str, revision: str | None, trust_remote_code: bool) -> int | None:
    """Positions the model can attend to; None where its configuration does not say."""
    with loading(source):
        config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=trust_remote_code)
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice, on whatever device."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return "out of memory" in text or "can't allocate memory" in text or "not enough memory" in text
