"""Prompts, each held once, and the rows that are generated from them.

A prompt's keys and values are kept once, whatever the number of its completions; each row adds only its own. Rows that
began in the same step form a cohort, so that all its rows have the same number of own tokens.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

import numpy as np
import torch

from bestofl_lib.models.attention import weigh
from bestofl_lib.models.contract import Completion, Sampling, Unfinished
from bestofl_lib.models.opening import LanguageModel
from bestofl_lib.models.tokens import UNIFORM_BLOCK, uniforms
from bestofl_lib.models.work import Group, Row

_FIRST_ROOM = 64  # tokens: initial size of a row's buffers
_STATUS = ("", "stop", "length", "error", "stop")  # 1: by an end-of-text token; 4: by a text
_TAIL = 24  # newest tokens searched for a stop text


class Block:
    """Prompts after prefill, and the rows that still wait to begin from them."""

    def __init__(
        self, groups: Sequence[Group], keys: list[torch.Tensor], values: list[torch.Tensor], logits: torch.Tensor
    ):
        self.waiting = deque((slot, row) for slot, group in enumerate(groups) for row in group.rows)
        self.keys, self.values = keys, values  # per layer (prompts, heads, longest, size)
        self.logits = logits  # (prompts, vocabulary) of the first new token
        device = logits.device
        self.lengths = torch.tensor([len(group.ids) for group in groups], device=device)
        positions = torch.arange(keys[0].shape[2], device=device)
        self.mask = torch.where(positions < self.lengths[:, None], 0.0, -math.inf)  # (prompts, longest)


class Cohort:
    """Rows that began in the same step, from the prompts of one block: all have written the same number of tokens."""

    def __init__(self, opened: LanguageModel, settings: Sampling, block: Block, count: int, clock: float):
        taken = [block.waiting.popleft() for _ in range(count)]
        device, real = opened.device, opened.real
        self.opened, self.settings = opened, settings
        self.rows = count
        self.age = 0  # own tokens in the cache
        self.started = clock
        self.sources: list[Row] = [row for _, row in taken]
        slots = np.array([slot for slot, _ in taken])
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
        room = min(_FIRST_ROOM, settings.max_new_tokens)
        self.keys = [k.new_empty(count, k.shape[1], room, k.shape[3]) for k in block.keys]
        self.values = [v.new_empty(count, v.shape[1], room, v.shape[3]) for v in block.values]
        self.token = torch.zeros(count, dtype=torch.long, device=device)  # to be fed next
        self.status = torch.zeros(count, dtype=torch.long, device=device)  # index into _STATUS
        begun = [(len(row.begun), row.logprob) for row in self.sources]
        self.count = torch.tensor([n for n, _ in begun], device=device)  # tokens written, those begun before included
        self.logprob = torch.tensor([logprob for _, logprob in begun], dtype=real, device=device)
        self.written = torch.zeros(count, room, dtype=torch.long, device=device)
        self.uniform = torch.zeros(count, 1, dtype=real, device=device)
        self.n_written = 0

    def draws(self) -> torch.Tensor:
        """The next random number of each row: (rows,)."""
        if self.settings.temperature > 0 and self.n_written % UNIFORM_BLOCK == 0:
            size = min(UNIFORM_BLOCK, self.settings.max_new_tokens)
            block = np.stack([uniforms(row.seed, len(row.begun) + self.n_written, size) for row in self.sources])
            self.uniform = torch.from_numpy(block).to(self.uniform.device, self.uniform.dtype)
        return self.uniform[:, self.n_written % self.uniform.shape[1]]

    def note(self, tokens: torch.Tensor, logprob: torch.Tensor, is_bad: torch.Tensor) -> None:
        """Take the tokens chosen for these rows; rows that have ended stay as they are."""
        if self.n_written == self.written.shape[1]:
            self.written = torch.cat([self.written, torch.zeros_like(self.written)], 1)
        alive = self.status == 0
        good = alive & ~is_bad
        self.written[:, self.n_written] = tokens
        self.n_written += 1
        self.logprob += torch.where(good, logprob, 0.0)
        self.count += good
        status = 2 * (self.count >= self.settings.max_new_tokens)
        status = torch.where(self.opened.is_end[tokens], 1, status)
        status = torch.where(is_bad, 3, status)
        self.status = torch.where(alive, status, self.status)
        self.token = tokens
        if any(row.stop for row in self.sources):
            self._stop_at_text(alive)

    def _stop_at_text(self, wrote: torch.Tensor) -> None:
        """End the rows whose newest tokens contain one of their stop texts."""
        alive = np.flatnonzero((wrote & (self.status % 2 == 0)).cpu().numpy())  # not those ended by token or fault
        if not len(alive):
            return
        tails = self.written[:, max(0, self.n_written - _TAIL) : self.n_written].tolist()
        before = [self.sources[row].begun[-_TAIL:] if self.n_written < _TAIL else () for row in alive]
        texts = self._decoded([[*begun, *tails[row]] for row, begun in zip(alive, before, strict=True)])
        for row, text in zip(alive, texts, strict=True):
            if any(stop in text for stop in self.sources[row].stop):
                self.status[row] = 4

    def _decoded(self, ids: Sequence[Sequence[int]]) -> list[str]:
        return self.opened.tokenizer.batch_decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def make_room(self) -> None:
        """Double the buffers when they are full, up to max_new_tokens."""
        room = self.keys[0].shape[2]
        if self.age < room:
            return
        more = min(room, self.settings.max_new_tokens - room)
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
        sinks: torch.Tensor | None = None,
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
        weights = weigh(scores.flatten(1, 2)[:, :, None], sinks).view_as(scores).to(query.dtype)
        out = torch.matmul(self._to_grid(weights[..., : self.longest]), self.prompt_values[layer])
        return (self._from_grid(out, per) + torch.matmul(weights[..., self.longest :], values[:rows, :, :new])).flatten(
            1, 2
        )

    def _to_grid(self, x: torch.Tensor) -> torch.Tensor:
        """(rows, heads, per, n) to (prompts, heads, width * per, n); cells without a row hold arbitrary values that are
        never read.
        """
        _, heads, per, n = x.shape
        grid = x.new_empty(self.prompts * self.width, heads, per, n).index_copy_(0, self.cell, x)
        return grid.view(self.prompts, self.width, heads, per, n).transpose(1, 2).flatten(2, 3)

    def _from_grid(self, x: torch.Tensor, per: int) -> torch.Tensor:
        """The inverse of _to_grid."""
        prompts, heads, _, n = x.shape
        x = x.view(prompts, heads, self.width, per, n).transpose(1, 2).flatten(0, 1)
        return x.index_select(0, self.cell)

    def unfinished(self, clock: float) -> list[tuple[int, Unfinished]]:
        """What the rows that have not ended have written so far."""
        counts, logprobs = self.count.tolist(), self.logprob.tolist()
        written = self.written[:, : self.n_written].tolist()
        return [
            (row.index, Unfinished((*row.begun, *own), logprobs[place], row.seconds + clock - self.started))
            for place, (row, own) in enumerate(zip(self.sources, written, strict=True))
            if counts[place] == len(row.begun) + len(own) and not self.status[place]
        ]

    def harvest(self, clock: float) -> list[tuple[int, Completion]]:
        """Take finished rows out and close the gaps with rows from the end."""
        status = self.status.cpu().numpy()
        ended = np.flatnonzero(status)
        if not len(ended):
            return []
        index = torch.from_numpy(ended).to(self.token.device)
        counts, logprobs = self.count[index].tolist(), self.logprob[index].tolist()
        written = self.written[index].tolist()
        rows = [self.sources[place] for place in ended]
        own = [n - len(row.begun) - (status[place] == 1) for place, row, n in zip(ended, rows, counts, strict=True)]
        texts = self._decoded([[*row.begun, *line[:n]] for row, line, n in zip(rows, written, own, strict=True)])
        finished = []
        for place, row, text, n, logprob in zip(ended, rows, texts, counts, logprobs, strict=True):
            reason = _STATUS[status[place]]
            text = cut_at(text, row.stop) if reason == "stop" else text
            seconds = row.seconds + clock - self.started
            finished.append((row.index, Completion(text, n, reason, None if reason == "error" else logprob, seconds)))
        self._close_gaps(status, ended)
        return finished

    def _close_gaps(self, status: np.ndarray, ended: np.ndarray) -> None:
        self.rows -= len(ended)
        order = np.arange(self.rows)
        holes = ended[ended < self.rows]
        order[holes] = np.flatnonzero(status[self.rows :] == 0) + self.rows
        device = self.token.device
        to, frm = (torch.from_numpy(rows).to(device) for rows in (holes, order[holes]))
        for held in (self.keys, self.values):
            for buffer in held:
                buffer[to, :, : self.age] = buffer[frm, :, : self.age]
        kept = torch.from_numpy(order).to(device)
        for name in ("slot", "cell", "length", "mask", "token", "status", "count", "logprob", "written", "uniform"):
            setattr(self, name, getattr(self, name).index_select(0, kept))
        self.sources = [self.sources[place] for place in order]
        self._shrink()

    def _shrink(self) -> None:
        """Free prompts and buffer space without rows once they are the larger part."""
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


def cut_at(text: str, stops: Sequence[str]) -> str:
    """The text before the first of the texts that stop it."""
    return text[: min((text.find(stop) for stop in stops if stop in text), default=len(text))]
