"""Prompts that are held once, and the rows that are written from them: cache and attention while decoding.

A prompt's keys and values are kept once, whatever the number of its completions; each row adds only its own. Rows that
began in the same step form a cohort, so that all its rows have the same number of own tokens.
"""

from __future__ import annotations

import contextvars
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import AttentionInterface
from transformers.cache_utils import CacheLayerMixin, DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from bestofl_lib.models.contract import Completion
from bestofl_lib.models.tokens import UNIFORM_BLOCK, uniforms

if TYPE_CHECKING:
    from bestofl_lib.models.decoding import Batch

ATTENTION = "bestofl_shared_prompt"
_FIRST_ROOM = 64  # tokens for which a row's buffers are made at first
_STATUS = ("", "stop", "length", "error")


@dataclass
class Group:
    """One prompt and the completions still to be drawn from it."""

    ids: list[int]  # prompt tokens
    rows: list[tuple[int, int]]  # (index of the request, seed)
    problem_id: str = ""  # for messages
    language: str = ""
    text: str = ""


@dataclass(frozen=True)
class Shape:
    """What the buffers must hold."""

    prompt: int  # tokens of the longest prompt
    width: int  # completions of the prompt with most
    rows: int  # completions altogether

    @classmethod
    def of(cls, groups: Sequence[Group]) -> Shape:
        return cls(max(len(g.ids) for g in groups), max(len(g.rows) for g in groups), sum(len(g.rows) for g in groups))


class Queue:
    """Groups handed out from the front."""

    def __init__(self, groups: Sequence[Group]):
        self.groups = deque(groups)

    def take(self, count: int) -> list[Group]:
        return [self.groups.popleft() for _ in range(min(count, len(self.groups)))]


class Block:
    """Prompts after prefill, and the rows that still wait to begin from them."""

    def __init__(
        self, groups: Sequence[Group], keys: list[torch.Tensor], values: list[torch.Tensor], logits: torch.Tensor
    ):
        self.waiting = deque((slot, *row) for slot, group in enumerate(groups) for row in group.rows)
        self.keys, self.values = keys, values  # per layer (prompts, heads, longest, size)
        self.logits = logits  # (prompts, vocabulary) of the first new token
        device = logits.device
        self.lengths = torch.tensor([len(group.ids) for group in groups], device=device)
        positions = torch.arange(keys[0].shape[2], device=device)
        self.mask = torch.where(positions < self.lengths[:, None], 0.0, -math.inf)  # (prompts, longest)


class Cohort:
    """Rows that began in the same step, from the prompts of one block: all have written the same number of tokens."""

    def __init__(self, batch: Batch, block: Block, count: int):
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
        if self.batch.settings.temperature > 0 and self.drawn % UNIFORM_BLOCK == 0:
            size = min(UNIFORM_BLOCK, self.batch.settings.max_new_tokens)
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


COHORTS: contextvars.ContextVar[list[Cohort] | None] = contextvars.ContextVar("bestofl_cohorts", default=None)


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention while decoding: one new token per row, each cohort over its own prompts and tokens; else the usual one."""
    cohorts = COHORTS.get()
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


AttentionInterface.register(ATTENTION, _attend)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


class PassingLayer(CacheLayerMixin):
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


def keys_and_values(cache: DynamicCache) -> list[tuple[torch.Tensor, torch.Tensor]]:
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
