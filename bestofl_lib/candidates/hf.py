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
from dataclasses import dataclass, field
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

from bestofl_lib.candidates.sampling import Completion, Request, Sampling
from bestofl_lib.problems.files import find

_ATTENTION = "bestofl_shared_prompt"
_UNIFORM_BLOCK = 256  # tokens for which a row's random numbers are held at once
_PREFILL_TOKENS = 4096  # in one forward pass, padding included
_CPU_CACHE_BYTES = 2 << 30
_SMALL_MODEL_BYTES = 400 << 20  # below this, CPU cores work better apart than together
_WORKER_REQUESTS = 3000  # below this, starting processes costs more than it saves
_IDENTITY_FILES = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model",
    "special_tokens_map.json", "chat_template.jinja", "vocab.json", "merges.txt", "added_tokens.json",
)  # fmt: skip
_REFILL = 0.75  # share of the rows in use below which new ones are started
_STATUS = ("", "stop", "length", "error")


class HFSampler:
    """A `Sampler` over any causal language model of the Hub, or a folder in its format.

    Nothing is loaded before the first `sample`; but what is wrong with the folder or name is said at once.

    Args:
        model: Hub id such as "Qwen/Qwen2.5-7B-Instruct", or a folder with config, safetensors weights and tokenizer.
        revision: branch, tag or commit on the Hub; None: the default branch. The commit it stands for is recorded.
        device: "auto" (CUDA, else MPS, else CPU) or a torch device such as "cuda:1".
        dtype: "auto" (bfloat16 on CUDA where it has it, else float16; float16 on MPS; float32 on CPU), or a torch name.
        batch_rows: completions written at once per process; None: as the memory allows, 512 at most.
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
                raise ValueError(f"revision {revision!r} was given for the folder {folder}; only Hub models have revisions")
            _check_weights(folder)
            self.source, self.revision, self.name = str(folder.resolve()), None, folder.resolve().name
            identity = f"sha256:{_folder_hash(folder)}"
            self._weight_bytes = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        elif folder.is_absolute() or str(model).startswith((".", "~")) or str(model).count("/") != 1:
            raise FileNotFoundError(
                f"no model folder {str(model)!r}; give a folder that holds config.json and *.safetensors, "
                "or a Hub id such as 'Qwen/Qwen2.5-7B-Instruct'"
            )
        else:
            self.source, self.name = str(model), str(model)
            self.revision = _hub_commit(self.source, revision)
            identity = f"{self.source}@{self.revision}"
            self._weight_bytes = 0
        if chat_template is not None:
            identity += "+template:" + hashlib.sha256(chat_template.encode()).hexdigest()[:8]
        self.identity = identity

    @cached_property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        with _loading(self.source):
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
            source: Iterator[tuple[int, Completion]] = self._decoder.run(_Queue(groups).take, _Shape.of(groups), settings)
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
        encoded = self.tokenizer([g.text for g in groups], add_special_tokens=self.chat_template == "plain")["input_ids"]
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


def pick(
    logits: torch.Tensor, u: torch.Tensor, settings: Sampling
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Choose one token per row by inverse transform: the token in whose share of the distribution u falls.

    Args:
        logits: (rows, vocabulary) float32.
        u: (rows,) in [0, 1), one draw per row; not read at temperature 0.
        settings: temperature, then top_k, then top_p, as in Transformers.

    Returns:
        tokens (rows,) int64; their log-probability under the untempered model (rows,) float32; and
        is_bad (rows,) bool: the row's logits hold NaN or +inf, its token and log-probability mean nothing.
    """
    total = logits.logsumexp(-1)
    is_bad = ~torch.isfinite(total)
    if bool(is_bad.any()):
        logits = torch.where(is_bad[:, None], 0.0, logits)
    if settings.temperature == 0:
        tokens = logits.argmax(-1)
    elif settings.top_k == 0 and settings.top_p == 1:
        tokens = _invert_all(logits, u, settings.temperature)
    else:
        tokens = _invert_top(logits, u, settings)
    return tokens, logits.gather(1, tokens[:, None])[:, 0] - total, is_bad


def _invert_all(logits: torch.Tensor, u: torch.Tensor, temperature: float) -> torch.Tensor:
    """Over the whole vocabulary, in the order of token ids: first the block of 64 tokens, then the token in it."""
    rows, size = logits.shape
    weights = torch.softmax(logits / temperature, -1)
    if size % 64:
        weights = torch.nn.functional.pad(weights, (0, 64 - size % 64))
    blocks = weights.view(rows, -1, 64)
    sums = blocks.sum(-1).to(u.dtype).cumsum(-1)
    target = (u * sums[:, -1])[:, None]
    block = (sums <= target).sum(-1).clamp_(max=sums.shape[1] - 1)
    before = torch.where(block > 0, sums.gather(1, (block - 1).clamp_(min=0)[:, None])[:, 0], 0)
    inner = blocks[torch.arange(rows, device=logits.device), block].to(u.dtype)
    return block * 64 + _invert(inner, target[:, 0] - before)


def _invert_top(logits: torch.Tensor, u: torch.Tensor, settings: Sampling) -> torch.Tensor:
    """Over the likeliest tokens only. Exact: the number looked at grows for the rows whose nucleus is not covered."""
    size = logits.shape[1]
    width = min(settings.top_k or 16, size)
    whole = (logits / settings.temperature).logsumexp(-1) if settings.top_k == 0 else None
    tokens = torch.empty(len(logits), dtype=torch.long, device=logits.device)
    rest: torch.Tensor | None = None  # rows not decided yet; None: all
    while True:
        part = logits if rest is None else logits[rest]
        values, ids = part.topk(width)
        values = (values / settings.temperature).to(u.dtype)
        norm = values.logsumexp(-1)  # with top_k, top_p is a share of what top_k left
        if whole is not None:
            norm = whole.to(u.dtype) if rest is None else whole[rest].to(u.dtype)
        weights = (values - norm[:, None]).exp()
        reached = weights.cumsum(-1)
        kept = weights * (reached - weights < settings.top_p)  # a token is kept while those before it fall short
        target = (u if rest is None else u[rest]) * kept.sum(-1)
        chosen = ids.gather(1, _invert(kept, target)[:, None])[:, 0]
        covered = reached[:, -1] >= settings.top_p
        if whole is None or width == size or bool(covered.all()):
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


class _SharedLayer(CacheLayerMixin):
    """Keys and values of one layer: prompts once per prompt, then each row's own tokens."""

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, groups: int, prompt: int, rows: int, new: int):
        """keys and values: (1, heads, tokens, size) of this layer, for their shapes and type."""
        super().__init__()
        heads = keys.shape[1]
        self.prompt_keys = keys.new_zeros(groups, heads, prompt, keys.shape[3])
        self.prompt_values = values.new_zeros(groups, heads, prompt, values.shape[3])
        self.keys = keys.new_zeros(rows, heads, new, keys.shape[3])
        self.values = values.new_zeros(rows, heads, new, values.shape[3])
        self.is_initialized = True
        self.places = torch.zeros(0, dtype=torch.long)  # where this step's keys go in the flattened buffer

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing to do: the buffers are made with the layer."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write one token per row; attention reads the buffers itself."""
        self.keys.view(-1, self.keys.shape[3]).index_copy_(0, self.places, key_states.reshape(-1, self.keys.shape[3]))
        self.values.view(-1, self.values.shape[3]).index_copy_(
            0, self.places, value_states.reshape(-1, self.values.shape[3])
        )
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
    return held


@dataclass
class _Step:
    """What attention has to know in one decoding step."""

    layers: list[Any]
    cells: torch.Tensor  # (rows,) the row's place in the grid of groups × width
    groups: int  # groups in use
    width: int
    prompt: int  # prompt positions to read
    new: int  # own positions to read
    mask: torch.Tensor  # (rows, 1, 1, prompt + new) float32, 0 or -inf
    distance: torch.Tensor | None  # (rows, 1, 1, prompt + new) how far back a position lies; for sliding windows
    windows: dict[int, torch.Tensor] = field(default_factory=dict)


_STEP: contextvars.ContextVar[_Step | None] = contextvars.ContextVar("bestofl_step", default=None)


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of one new token per row over its prompt (read once for all rows of the prompt) and its own tokens."""
    step = _STEP.get()
    if step is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    layer = step.layers[int(module.layer_idx)]  # type: ignore[arg-type]
    rows, query_heads, _, size = query.shape
    heads = layer.keys.shape[1]
    per = query_heads // heads
    scale = kwargs.get("scaling") or size**-0.5
    q = (query * scale).view(rows, heads, per, size)
    # places of the grid without a row hold anything: nothing reads what comes of them
    grid = q.new_empty(step.groups * step.width, heads, per, size).index_copy_(0, step.cells, q)
    grid = grid.view(step.groups, step.width, heads, per, size).transpose(1, 2).flatten(2, 3)
    keys = layer.prompt_keys[: step.groups, :, : step.prompt]
    over_prompt = torch.matmul(grid, keys.transpose(2, 3))  # (groups, heads, width * per, prompt)
    over_prompt = over_prompt.view(step.groups, heads, step.width, per, -1).transpose(1, 2).flatten(0, 1)
    over_prompt = over_prompt.index_select(0, step.cells)  # (rows, heads, per, prompt)
    over_new = torch.matmul(q, layer.keys[:rows, :, : step.new].transpose(2, 3))
    scores = torch.cat([over_prompt, over_new], -1).float()
    if (softcap := kwargs.get("softcap")) is not None:
        scores = softcap * torch.tanh(scores / softcap)
    scores = scores + step.mask
    if (window := kwargs.get("sliding_window")) is not None and step.distance is not None:
        if window not in step.windows:
            step.windows[window] = torch.where(step.distance < window, 0.0, -math.inf)
        scores = scores + step.windows[window]
    weights = scores.softmax(-1).to(query.dtype)
    grid = weights.new_empty(step.groups * step.width, heads, per, step.prompt)
    grid = grid.index_copy_(0, step.cells, weights[..., : step.prompt])
    grid = grid.view(step.groups, step.width, heads, per, -1).transpose(1, 2).flatten(2, 3)
    out = torch.matmul(grid, layer.prompt_values[: step.groups, :, : step.prompt])
    out = out.view(step.groups, heads, step.width, per, -1).transpose(1, 2).flatten(0, 1).index_select(0, step.cells)
    out = out + torch.matmul(weights[..., step.prompt :], layer.values[:rows, :, : step.new])
    return out.reshape(rows, 1, query_heads, -1), None


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
        with _loading(self.source):
            self.tokenizer = AutoTokenizer.from_pretrained(self.source, **common)
            self.model = AutoModelForCausalLM.from_pretrained(
                self.source, use_safetensors=True, dtype=options["dtype"], attn_implementation=_ATTENTION, **common
            )
        self.model.to(self.device).eval()  # type: ignore[arg-type]
        self.vocabulary = int(self.model.get_output_embeddings().weight.shape[0])
        ends = self._end_tokens(common)
        self.is_end = torch.zeros(self.vocabulary, dtype=torch.bool, device=self.device)
        self.is_end[sorted(ends)] = True
        self.has_windows = getattr(self.model.config.get_text_config(), "sliding_window", None) is not None
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
        reason = None
        try:
            batch = _Batch(self, _Shape(7, 2, 2), Sampling(max_new_tokens=4), rows=2)
            batch.prefill([_Group(ids[:7].tolist(), [])])
            found = [batch.group_logits[0]]
            batch.place([0, 0], [0, 1])
            for position in (7, 8):
                batch.token[:2] = ids[position]
                found.append(batch.forward()[1])
                batch.age[:2] += 1
            gap = float((torch.stack(found).float() - plain).abs().max())
            allowed = 0.01 if self.model.dtype == torch.float32 else 0.1
            if not gap <= allowed * max(1.0, float(plain.abs().max())):
                reason = f"its logits differ by {gap:.3g} from those of a plain forward pass"
        except (AttributeError, TypeError, KeyError, IndexError, NotImplementedError) as error:
            reason = f"it fails with {type(error).__name__}: {error}"
        if reason is not None and bool(torch.isfinite(plain).all()):
            kind = self.model.config.model_type
            raise ValueError(
                f"{self.source} (architecture {kind!r}) cannot be sampled in this process: {reason}. "
                "Serve it with vLLM or another OpenAI-compatible server and sample over HTTP"
            )

    def rows_for(self, shape: _Shape, settings: Sampling, token_bytes: int) -> int:
        """How many rows fit; the prompts of twice as many groups as needed are counted in."""
        wanted = self.batch_rows or 512
        if self.batch_rows is None:
            row = token_bytes * (settings.max_new_tokens + 2 * math.ceil(shape.prompt / shape.width)) + 16 * self.vocabulary
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
                if not _is_out_of_memory(error):
                    raise
                used = batch.rows if batch is not None else (rows or self.batch_rows or 512)
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


class _Batch:
    """Rows being written, their prompts and their buffers."""

    def __init__(self, decoder: _Decoder, shape: _Shape, settings: Sampling, rows: int | None = None):
        self.decoder, self.model, self.settings = decoder, decoder.model, settings
        device, real, new = decoder.device, decoder.real, settings.max_new_tokens
        with torch.inference_mode():
            probe = DynamicCache()
            self.model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=device), past_key_values=probe, use_cache=True)
            kinds = _held(probe)
            size = sum(k.shape[1] * (k.shape[3] + v.shape[3]) * k.element_size() for k, v in kinds)
            self.rows = min(rows or decoder.rows_for(shape, settings, size), shape.rows)
            self.width = min(shape.width, self.rows)
            self.groups = min(2 * math.ceil(self.rows / self.width) + 1, self.rows + 1)
            self.layers = [_SharedLayer(k, v, self.groups, shape.prompt, self.rows, new) for k, v in kinds]
            self.cache = Cache(layers=list(self.layers))
            self.nothing = torch.zeros(1, 1, 1, 1, device=device)  # stands for a mask, so that the model makes none
            # per group
            self.group_logits = torch.zeros(self.groups, decoder.vocabulary, device=device)
            self.group_mask = torch.full((self.groups, shape.prompt), -math.inf, device=device)
            self.group_length = torch.zeros(self.groups, dtype=torch.long, device=device)
            self.slots: list[_Group | None] = [None] * self.groups
            self.waiting: list[list[tuple[int, int]]] = [[] for _ in range(self.groups)]
            self.columns: list[list[int]] = [[] for _ in range(self.groups)]  # free ones of the grid
            # per row; rows 0 … active - 1 are in use
            self.active = 0
            self.token = torch.zeros(self.rows, dtype=torch.long, device=device)  # to be fed next
            self.age = torch.zeros(self.rows, dtype=torch.long, device=device)  # own tokens in the cache
            self.group = torch.zeros(self.rows, dtype=torch.long, device=device)
            self.cell = torch.zeros(self.rows, dtype=torch.long, device=device)
            self.status = torch.zeros(self.rows, dtype=torch.long, device=device)  # index into _STATUS
            self.count = torch.zeros(self.rows, dtype=torch.long, device=device)  # tokens written
            self.logprob = torch.zeros(self.rows, dtype=real, device=device)
            self.written = torch.zeros(self.rows, new, dtype=torch.long, device=device)
            self.uniform = torch.zeros(self.rows, min(_UNIFORM_BLOCK, new), dtype=real, device=device)
            self.mask = torch.full((self.rows, new), -math.inf, device=device)
            self.per_row = [
                self.token, self.age, self.group, self.cell, self.status, self.count, self.logprob,
                self.written, self.uniform, self.mask,
            ]  # fmt: skip
            self.heads = torch.arange(max(k.shape[1] for k, _ in kinds), device=device)
        self.indices = np.zeros(self.rows, dtype=np.int64)  # of the request
        self.seeds = np.zeros(self.rows, dtype=np.int64)
        self.started = np.zeros(self.rows)  # the batch's clock when the row began
        self.ages = np.zeros(self.rows, dtype=np.int64)  # tokens drawn, on the host
        self.clock = 0.0  # seconds per row that a row present all the time would have used
        self.taken: list[_Group] = []  # not prefilled yet
        self.open: dict[int, tuple[_Group, int]] = {}  # by index of the request: what is taken and not finished
        self.is_exhausted = False

    def unfinished(self) -> list[_Group]:
        """What was begun or waits here, as groups to be drawn anew."""
        by_prompt: dict[int, _Group] = {}
        for index, (group, seed) in self.open.items():
            left = by_prompt.setdefault(id(group), _Group(group.ids, [], group.problem_id, group.language))
            left.rows.append((index, seed))
        return list(by_prompt.values())

    @torch.inference_mode()
    def _admit(self, take: Callable[[int], list[_Group]]) -> None:
        """Fill free rows: first from prompts that are here already, then from new ones."""
        tick = time.perf_counter()
        free = self.rows - self.active
        waiting = sum(len(rows) for rows in self.waiting)
        slots = [slot for slot, group in enumerate(self.slots) if group is None]
        while waiting < free and slots:
            if not self.taken:
                self.taken = [] if self.is_exhausted else take(min(len(slots), math.ceil((free - waiting) / self.width)))
                self.open |= {index: (group, seed) for group in self.taken for index, seed in group.rows}
            if not self.taken:
                self.is_exhausted = True
                break
            longest = max(len(group.ids) for group in self.taken)
            part = self.taken[: max(1, _PREFILL_TOKENS // longest)]
            used = self.prefill(part, slots)
            slots = slots[len(used) :]
            for slot, group in zip(used, part, strict=True):
                self.slots[slot], self.waiting[slot] = group, list(group.rows)
                self.columns[slot] = list(range(self.width))
            self.taken = self.taken[len(part) :]
            waiting += sum(len(group.rows) for group in part)
        chosen: list[int] = []
        columns: list[int] = []
        first = self.active
        for slot, rows in enumerate(self.waiting):
            while rows and len(chosen) < free and self.columns[slot]:
                row = first + len(chosen)
                self.indices[row], self.seeds[row] = rows.pop(0)
                chosen.append(slot)
                columns.append(self.columns[slot].pop())
        if not chosen:
            return
        self.place(chosen, columns)
        span = slice(first, self.active)
        self.started[span] = self.clock
        self.ages[span] = 0
        self._refresh(range(first, self.active))
        self._record(self.group_logits.index_select(0, self.group[span]), span)
        self.clock += (time.perf_counter() - tick) / self.active

    @torch.inference_mode()
    def prefill(self, groups: Sequence[_Group], slots: Sequence[int] | None = None) -> list[int]:
        """Run the prompts through the model once; returns the slots they were put in."""
        device = self.decoder.device
        slots = list(slots or range(len(groups)))[: len(groups)]
        lengths = torch.tensor([len(group.ids) for group in groups], device=device)
        longest = int(lengths.max())
        # prompts stand on the left: a causal model never looks at the padding behind them
        ids = torch.tensor([group.ids + [0] * (longest - len(group.ids)) for group in groups], device=device)
        ends, place = torch.unique(lengths - 1, return_inverse=True)
        cache = DynamicCache()
        logits = self.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=ends).logits
        where = torch.tensor(slots, device=device)
        if logits.shape[1] != len(ends):
            raise NotImplementedError("logits of chosen positions (logits_to_keep) are not supported")
        self.group_logits[where] = logits[torch.arange(len(groups), device=device), place].float()
        self.group_length[where] = lengths
        positions = torch.arange(self.group_mask.shape[1], device=device)
        self.group_mask[where] = torch.where(positions < lengths[:, None], 0.0, -math.inf)
        for own, (keys, values) in zip(self.layers, _held(cache), strict=True):
            own.prompt_keys[where, :, :longest] = keys
            own.prompt_values[where, :, :longest] = values
        return slots

    def place(self, slots: Sequence[int], columns: Sequence[int]) -> None:
        """Begin one row per entry, from the prompt in its slot, at its column of the grid."""
        span = slice(self.active, self.active + len(slots))
        device = self.decoder.device
        self.group[span] = torch.tensor(slots, device=device)
        self.cell[span] = self.group[span] * self.width + torch.tensor(columns, device=device)
        for state in (self.age, self.status, self.count, self.logprob):
            state[span] = 0
        self.mask[span] = -math.inf
        self.active = span.stop

    @torch.inference_mode()
    def forward(self) -> torch.Tensor:
        """Feed each row's newest token: (active, vocabulary) float32 logits of the next one."""
        rows = self.active
        age, group = self.age[:rows], self.group[:rows]
        self.mask[:rows].scatter_(1, age[:, None], 0.0)
        groups = max((slot for slot, here in enumerate(self.slots) if here is not None), default=0) + 1
        prompt = max((len(here.ids) for here in self.slots if here is not None), default=self.group_mask.shape[1])
        new = int(self.ages[:rows].max(initial=0)) or int(age.max()) + 1
        mask = torch.cat([self.group_mask.index_select(0, group)[:, :prompt], self.mask[:rows, :new]], 1)
        length = self.group_length.index_select(0, group)
        position = length + age
        distance = None
        if self.decoder.has_windows:
            at = torch.cat([
                torch.arange(prompt, device=mask.device).expand(rows, -1),
                length[:, None] + torch.arange(new, device=mask.device),
            ], 1)  # fmt: skip
            distance = (position[:, None] - at)[:, None, None]
        step = _Step(self.layers, self.cell[:rows], groups, self.width, prompt, new, mask[:, None, None], distance)
        places: dict[int, torch.Tensor] = {}
        for layer in self.layers:
            heads, size = layer.keys.shape[1], layer.keys.shape[2]
            if heads not in places:
                row = torch.arange(rows, device=mask.device)[:, None] * heads
                places[heads] = ((row + self.heads[:heads]) * size + age[:, None]).flatten()
            layer.places = places[heads]
        token = _STEP.set(step)
        try:
            logits = self.model(
                input_ids=self.token[:rows, None],
                position_ids=position[:, None],
                past_key_values=self.cache,
                attention_mask=self.nothing,
                use_cache=True,
            ).logits
        finally:
            _STEP.reset(token)
        return logits[:, -1].float()

    def _record(self, logits: torch.Tensor, span: slice) -> None:
        """Choose the next token of the rows in span and note it; rows that have ended stay as they are."""
        count = self.count[span]
        column = count % self.uniform.shape[1]
        u = self.uniform[span].gather(1, column[:, None])[:, 0]
        tokens, logprob, is_bad = pick(logits, u, self.settings)
        alive = self.status[span] == 0
        good = alive & ~is_bad
        self.written[span].scatter_(1, count.clamp(max=self.settings.max_new_tokens - 1)[:, None], tokens[:, None])
        self.logprob[span] += torch.where(good, logprob, 0.0).to(self.logprob.dtype)
        count += good
        status = torch.where(count >= self.settings.max_new_tokens, 2, 0)
        status = torch.where(self.decoder.is_end[tokens], 1, status)
        status = torch.where(is_bad, 3, status)
        self.status[span] = torch.where(alive, status, self.status[span])
        self.token[span] = tokens
        self.ages[span] += 1

    def _refresh(self, rows: Sequence[int]) -> None:
        """Put the next block of random numbers in place for these rows."""
        if self.settings.temperature == 0:
            return
        size = self.uniform.shape[1]
        block = np.stack([uniforms(int(self.seeds[row]), int(self.ages[row]), size) for row in rows])
        index = torch.tensor(list(rows), device=self.decoder.device)
        self.uniform[index] = torch.from_numpy(block).to(self.decoder.device, self.uniform.dtype)

    @torch.inference_mode()
    def _harvest(self) -> list[tuple[int, Completion]]:
        """Take finished rows out and close the gaps with rows from the end."""
        status = self.status[: self.active].cpu().numpy()
        ended = np.flatnonzero(status)
        index = torch.from_numpy(ended).to(self.decoder.device)
        counts = self.count[index].tolist()
        written = self.written[index].cpu().numpy()
        logprobs, cells = self.logprob[index].tolist(), self.cell[index].tolist()
        kept = [line[:count] for line, count in zip(written, counts, strict=True)]
        ids = [line[:-1] if status[row] == 1 else line for row, line in zip(ended, kept, strict=True)]
        texts = self.decoder.tokenizer.batch_decode(
            [line.tolist() for line in ids], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        finished = []
        for i, row in enumerate(ended):
            reason = _STATUS[status[row]]
            seconds = float(self.clock - self.started[row])
            logprob = None if reason == "error" else logprobs[i]
            finished.append((int(self.indices[row]), Completion(texts[i], counts[i], reason, logprob, seconds)))
            slot, column = divmod(cells[i], self.width)
            self.columns[slot].append(column)
        left = self.active - len(ended)
        holes = ended[ended < left]
        movers = np.flatnonzero(status[left:] == 0) + left
        if len(holes):
            to, frm = torch.from_numpy(holes).to(index.device), torch.from_numpy(movers).to(index.device)
            for state in self.per_row:
                state[to] = state[frm]
            new = int(self.ages[movers].max())
            for layer in self.layers:
                layer.keys[to, :, :new] = layer.keys[frm, :, :new]
                layer.values[to, :, :new] = layer.values[frm, :, :new]
            for known in (self.indices, self.seeds, self.started, self.ages):
                known[holes] = known[movers]
        self.active = left
        for index_done, _ in finished:
            del self.open[index_done]
        for slot, group in enumerate(self.slots):
            if group is not None and not self.waiting[slot] and len(self.columns[slot]) == self.width:
                self.slots[slot] = None
        return finished

    @torch.inference_mode()
    def _advance(self) -> int:
        """One token for every row; returns how many rows have ended."""
        tick = time.perf_counter()
        rows = self.active
        logits = self.forward()
        self.age[:rows] += self.status[:rows] == 0
        due = np.flatnonzero(self.ages[:rows] % self.uniform.shape[1] == 0)
        if len(due):
            self._refresh(due.tolist())
        self._record(logits, slice(0, rows))
        ended = int((self.status[:rows] != 0).sum())
        self.clock += (time.perf_counter() - tick) / rows
        return ended

    def run(self, take: Callable[[int], list[_Group]]) -> Iterator[tuple[int, Completion]]:
        """Write until nothing is left to take, yielding (index, completion)."""
        while True:
            if self.active <= self.rows * _REFILL and (self.taken or any(self.waiting) or not self.is_exhausted):
                self._admit(take)
            if self.active == 0:
                return
            ended = int((self.status[: self.active] != 0).sum())
            while ended < max(1, self.active // 16):
                ended = self._advance()
            yield from self._harvest()


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


def _check_weights(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} has no config.json, so it is not a model folder of Transformers; check the path")
    if any(folder.glob("*.safetensors")):
        return
    pickles = sorted(p.name for kind in ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl") for p in folder.glob(kind))
    if pickles:
        raise ValueError(
            f"{folder} holds its weights only as {', '.join(pickles)}, a pickle, which can run any code when it is loaded; "
            "convert it with save_pretrained (it writes safetensors) where you trust it, or take a revision that has them"
        )
    raise FileNotFoundError(f"{folder} holds no weights (*.safetensors); finish its training or download, or check the path")


def _folder_hash(folder: Path) -> str:
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


def _hub_commit(model: str, revision: str | None) -> str:
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
def _loading(source: str) -> Iterator[None]:
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
            hint = "; only safetensors weights are loaded, as pickles can run code: take a model or revision that has them"
        first = str(error).strip().split("\n")[0]
        raise ValueError(f"{source} cannot be loaded: {first}{hint}") from error
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def _context(source: str, revision: str | None, trust_remote_code: bool) -> int | None:
    """Positions the model can attend to; None where its configuration does not say."""
    with _loading(source):
        config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=trust_remote_code)
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return "out of memory" in text or "can't allocate memory" in text or "not enough memory" in text
