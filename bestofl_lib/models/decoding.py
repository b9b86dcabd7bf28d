"""The loop that writes completions with a loaded model: prompts prefilled once, rows that end make room for new ones.

It knows tokens. It does not know chats, problems or languages. `self_check.py` verifies that it is right for an
architecture.
"""

from __future__ import annotations

import math
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import psutil
import torch
from transformers.cache_utils import Cache, DynamicCache

from bestofl_lib.models.attention import COHORTS, PassingLayer, keys_and_values
from bestofl_lib.models.cohorts import Block, Cohort
from bestofl_lib.models.contract import Completion, Sampling, Unfinished
from bestofl_lib.models.generate_decoding import GenerateDecoder, SlowSamplingWarning
from bestofl_lib.models.opening import LanguageModel, is_out_of_memory
from bestofl_lib.models.tokens import choose_tokens
from bestofl_lib.models.work import Group, Queue, Row, Shape

_PREFILL_TOKENS = 4096  # in one forward pass, padding included
_CPU_CACHE_BYTES = 2 << 30  # at most
_CACHE_SHARE = 0.7  # of free memory
_REFILL = 0.7  # share of the rows in use below which new ones are started
_ROWS = 512  # at once, memory allowing
_HAND_OVER_SECONDS = 20.0  # between two times that what is unfinished is handed over


def free_bytes(device: torch.device) -> int:
    """Memory that is free now on a device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return int(psutil.virtual_memory().available)


def cache_room(free: int, device: torch.device) -> int:
    """How many of the bytes left free by the weights may be used for prompts and rows."""
    return int(free * _CACHE_SHARE) if device.type == "cuda" else min(_CPU_CACHE_BYTES, int(free * _CACHE_SHARE))


def rows_that_fit(room: int, token_bytes: int, vocabulary: int, shape: Shape, settings: Sampling) -> int:
    """How many completions can be written at once; the prompts of twice as many groups as needed are counted in.

    Args:
        room: bytes for their keys, values and logits.
        token_bytes: of keys and values, per token.

    >>> rows_that_fit(10_000_000, 1_000, 500, Shape(prompt=50, width=4, rows=99), Sampling(max_new_tokens=200))
    42
    """
    row = token_bytes * (settings.max_new_tokens + 2 * math.ceil(shape.prompt / shape.width)) + 16 * vocabulary
    return max(0, min(_ROWS, room // row, shape.rows))


class Decoder:
    """Writes with a loaded model, many rows at a time, as many as memory allows."""

    def __init__(self, opened: LanguageModel):
        self.opened = opened

    def rows_for(self, shape: Shape, settings: Sampling, token_bytes: int) -> int:
        """How many rows are written at once: as asked for, or as many as fit."""
        if self.opened.batch_rows is not None:
            return min(self.opened.batch_rows, shape.rows)
        room = cache_room(free_bytes(self.opened.device), self.opened.device)
        return max(1, rows_that_fit(room, token_bytes, self.opened.vocabulary, shape, settings))

    def run(
        self, take: Callable[[int], list[Group]], shape: Shape, settings: Sampling
    ) -> Iterator[tuple[int, Completion | Unfinished]]:
        """Write completions for the groups that `take(count)` hands out (none: no more), yielding (index, completion).

        Prompts whose completions may reach the length at which a model encodes positions differently (`rotary_switch`)
        are written by `generate`, after the others.
        """
        apart: list[Group] = []

        def take_together(count: int) -> list[Group]:
            while groups := take(count):
                apart.extend(group for group in groups if self._may_switch(group, settings))
                if together := [group for group in groups if not self._may_switch(group, settings)]:
                    return together
            return []

        yield from self._run_together(take_together, shape, settings)
        if apart:
            warnings.warn(
                f"{len(apart)} prompts of {self.opened.source} are sampled by Transformers' own `generate`, one at a "
                f"time, because with max_new_tokens {settings.max_new_tokens} they may exceed {self.opened.switch} "
                "tokens, where "
                "this model encodes all positions differently. The candidates are the same; shorter prompts or a "
                "smaller max_new_tokens are faster",
                SlowSamplingWarning,
                stacklevel=2,
            )
            yield from GenerateDecoder(self.opened).run(Queue(apart).take, shape, settings)

    def _may_switch(self, group: Group, settings: Sampling) -> bool:
        """Whether completions of this prompt may be longer than the model's switch of frequencies."""
        begun = max(len(row.begun) for row in group.rows)  # they are part of the prompt, and count in max_new_tokens
        switch = self.opened.switch
        return switch is not None and len(group.ids) - begun + settings.max_new_tokens > switch

    def _run_together(
        self, take: Callable[[int], list[Group]], shape: Shape, settings: Sampling
    ) -> Iterator[tuple[int, Completion | Unfinished]]:
        rows: int | None = None
        before: int | None = None  # the rows of the first batch that was too large
        again: deque[Group] = deque()

        def next_groups(count: int) -> list[Group]:
            return [again.popleft() for _ in range(min(count, len(again)))] or take(count)

        while True:
            batch: Batch | None = None
            try:
                batch = Batch(self.opened, shape, settings, rows, self.rows_for)
                yield from batch.run(next_groups)
                return
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                used = batch.rows if batch is not None else (rows or self.opened.batch_rows or _ROWS)
                again.extendleft(reversed(batch.unfinished() if batch is not None else []))
            del batch  # outside the handler, where no traceback holds its buffers any more
            if self.opened.device.type == "cuda":
                torch.cuda.empty_cache()
            if used > 1:
                before, rows = before or used, used // 2
                continue
            # alone and still too large: record that in its row and continue with the others
            again.extend([] if again else take(1))
            if not again:
                return
            index = again[0].rows.pop(0).index
            if not again[0].rows:
                again.popleft()
            yield index, Completion("", 0, "error", None, 0.0)
            before, rows = None, before


class Batch:
    """Cohorts being written together."""

    def __init__(
        self,
        opened: LanguageModel,
        shape: Shape,
        settings: Sampling,
        rows: int | None = None,
        rows_for: Callable[[Shape, Sampling, int], int] | None = None,
    ):
        self.opened, self.model, self.settings = opened, opened.model, settings
        device = opened.device
        with torch.inference_mode():
            probe = DynamicCache()
            self.model(
                input_ids=torch.zeros(1, 1, dtype=torch.long, device=device), past_key_values=probe, use_cache=True
            )
            kinds = keys_and_values(probe)
            size = sum(k.shape[1] * (k.shape[3] + v.shape[3]) * k.element_size() for k, v in kinds)
            self.cache = Cache(layers=[PassingLayer() for _ in kinds])
            self.nothing = torch.zeros(1, 1, 1, 1, device=device)  # passed as a mask, so that the model builds none
        wanted = rows or (rows_for(shape, settings, size) if rows_for else shape.rows)
        self.rows = min(wanted, shape.rows)
        self.width = min(shape.width, self.rows)
        self.cohorts: list[Cohort] = []
        self.block: Block | None = None  # with rows waiting
        self.taken: list[Group] = []  # not prefilled yet
        self.open: dict[int, tuple[Group, Row]] = {}  # by index of the request: what is taken and not finished
        self.is_exhausted = False
        self.clock = 0.0  # seconds per row that a row present all the time would have used

    @property
    def active(self) -> int:
        """Rows being written."""
        return sum(cohort.rows for cohort in self.cohorts)

    def unfinished(self) -> list[Group]:
        """Rows that were started or wait here, as groups to be sampled again."""
        by_prompt: dict[int, Group] = {}
        for group, row in self.open.values():
            left = by_prompt.setdefault(id(group), Group(group.ids, [], group.problem_id, group.language))
            left.rows.append(row)
        return list(by_prompt.values())

    def run(self, take: Callable[[int], list[Group]]) -> Iterator[tuple[int, Completion | Unfinished]]:
        """Write until nothing is left to take, yielding (index, completion), and at intervals what is unfinished."""
        handed_over = time.monotonic()
        while True:
            active = self.active
            if active <= self.rows * _REFILL:
                self._admit(take)
                active = self.active
            if active == 0:
                return
            ended = sum(int((cohort.status != 0).sum()) for cohort in self.cohorts)
            limit = self.settings.max_new_tokens  # a cohort that reaches it has ended as a whole and has no more room
            while ended < max(1, active // 16) and all(cohort.n_written < limit for cohort in self.cohorts):
                ended = self._advance()
                if time.monotonic() - handed_over > _HAND_OVER_SECONDS:
                    yield from [pair for cohort in self.cohorts for pair in cohort.unfinished(self.clock)]
                    handed_over = time.monotonic()
            finished = self._harvest()
            for index, _ in finished:
                del self.open[index]
            yield from finished

    @torch.inference_mode()
    def _admit(self, take: Callable[[int], list[Group]]) -> None:
        """Fill free rows: first from prompts that are here already, then from new ones."""
        while (free := self.rows - self.active) > 0:
            tick = time.perf_counter()
            if self.block is None:
                if not self.taken and not self.is_exhausted:
                    self.taken = take(math.ceil(free / self.width))
                    self.open |= {row.index: (group, row) for group in self.taken for row in group.rows}
                    self.is_exhausted = not self.taken
                if not self.taken:
                    return
                part = self.taken[: max(1, _PREFILL_TOKENS // max(len(group.ids) for group in self.taken))]
                self.block = self.prefill(part)
                self.taken = self.taken[len(part) :]
            block = self.block
            cohort = Cohort(self.opened, self.settings, block, min(free, len(block.waiting)), self.clock)
            cohort.note(*choose_tokens(block.logits.index_select(0, cohort.slot), cohort.draws(), self.settings))
            self.cohorts.append(cohort)
            if not block.waiting:
                self.block = None
            self.clock += (time.perf_counter() - tick) / self.active

    @torch.inference_mode()
    def prefill(self, groups: Sequence[Group]) -> Block:
        """Run prompts through the model, each once."""
        device = self.opened.device
        lengths = torch.tensor([len(group.ids) for group in groups], device=device)
        longest = max(len(group.ids) for group in groups)
        # prompts are left-aligned: a causal model never attends to the padding after them
        ids = torch.tensor([group.ids + [0] * (longest - len(group.ids)) for group in groups], device=device)
        ends, place = torch.unique(lengths - 1, return_inverse=True)
        cache = DynamicCache()
        logits = self.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=ends).logits
        if logits.shape[1] != len(ends):
            raise NotImplementedError("logits of chosen positions (logits_to_keep) are not supported")
        held = keys_and_values(cache)
        logits = logits[torch.arange(len(groups), device=device), place].float()
        return Block(groups, [keys for keys, _ in held], [values for _, values in held], logits)

    @torch.inference_mode()
    def forward(self) -> torch.Tensor:
        """Feed each row's newest token: (active, vocabulary) float32 logits of the next one."""
        for cohort in self.cohorts:
            cohort.make_room()
        token = COHORTS.set(self.cohorts)
        try:
            logits = self.model(
                input_ids=torch.cat([cohort.token for cohort in self.cohorts])[:, None],
                position_ids=torch.cat([cohort.length + cohort.age for cohort in self.cohorts])[:, None],
                past_key_values=self.cache,
                attention_mask=self.nothing,
                use_cache=True,
            ).logits
        finally:
            COHORTS.reset(token)
        return logits[:, -1].float()

    @torch.inference_mode()
    def _advance(self) -> int:
        """One token for every row; returns how many rows have ended."""
        tick = time.perf_counter()
        logits = self.forward()
        chosen = choose_tokens(logits, torch.cat([cohort.draws() for cohort in self.cohorts]), self.settings)
        rows = [cohort.rows for cohort in self.cohorts]
        for cohort, *part in zip(self.cohorts, *(x.split(rows) for x in chosen), strict=True):
            cohort.age += 1
            cohort.note(*part)
        ended = int((torch.cat([cohort.status for cohort in self.cohorts]) != 0).sum())
        self.clock += (time.perf_counter() - tick) / sum(rows)
        return ended

    @torch.inference_mode()
    def _harvest(self) -> list[tuple[int, Completion]]:
        finished = [pair for cohort in self.cohorts for pair in cohort.harvest(self.clock)]
        self.cohorts = [cohort for cohort in self.cohorts if cohort.rows]
        return finished
