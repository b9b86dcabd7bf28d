"""The loop that writes completions with a loaded model: prompts prefilled once, rows that end make room for new ones.

It knows tokens. It does not know chats, problems or languages.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.cache_utils import Cache, DynamicCache

from bestofl_lib.models.cohorts import (
    ATTENTION,
    COHORTS,
    Block,
    Cohort,
    Group,
    PassingLayer,
    Shape,
    keys_and_values,
)
from bestofl_lib.models.contract import Completion, Sampling
from bestofl_lib.models.opening import is_out_of_memory, loading
from bestofl_lib.models.tokens import choose_tokens

_PREFILL_TOKENS = 4096  # in one forward pass, padding included
_CPU_CACHE_BYTES = 2 << 30
_REFILL = 0.7  # share of the rows in use below which new ones are started
_ROWS = 512  # at once, memory allowing


class Decoder:
    """The loaded model and the loop that writes with it."""

    def __init__(self, options: Mapping[str, Any]):
        self.source = options["source"]
        self.device = torch.device(options["device"])
        self.batch_rows = options["batch_rows"]
        # float64 makes the draw as fine as the random number; MPS has none
        self.real = torch.float32 if self.device.type == "mps" else torch.float64
        if threads := options.get("threads"):
            torch.set_num_threads(threads)
        common = {"revision": options["revision"], "trust_remote_code": False}
        with loading(self.source):
            self.tokenizer = AutoTokenizer.from_pretrained(self.source, **common)
            self.model = AutoModelForCausalLM.from_pretrained(
                self.source, use_safetensors=True, dtype=options["dtype"], attn_implementation=ATTENTION, **common
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
            batch = Batch(self, Shape(7, 2, 2), Sampling(max_new_tokens=4), rows=2)
            block = batch.prefill([Group(ids[:7].tolist(), [(0, 0), (1, 1)])])
            cohort = Cohort(batch, block, 2)
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

    def rows_for(self, shape: Shape, settings: Sampling, token_bytes: int) -> int:
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
        self, take: Callable[[int], list[Group]], shape: Shape, settings: Sampling
    ) -> Iterator[tuple[int, Completion]]:
        """Write completions for the groups that `take(count)` hands out (none: no more), yielding (index, completion)."""
        rows: int | None = None
        before: int | None = None  # the rows of the first batch that was too large
        again: deque[Group] = deque()

        def next_groups(count: int) -> list[Group]:
            return [again.popleft() for _ in range(min(count, len(again)))] or take(count)

        while True:
            batch: Batch | None = None
            try:
                batch = Batch(self, shape, settings, rows)
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


class Batch:
    """Cohorts being written together."""

    def __init__(self, decoder: Decoder, shape: Shape, settings: Sampling, rows: int | None = None):
        self.decoder, self.model, self.settings = decoder, decoder.model, settings
        device = decoder.device
        with torch.inference_mode():
            probe = DynamicCache()
            self.model(
                input_ids=torch.zeros(1, 1, dtype=torch.long, device=device), past_key_values=probe, use_cache=True
            )
            kinds = keys_and_values(probe)
            size = sum(k.shape[1] * (k.shape[3] + v.shape[3]) * k.element_size() for k, v in kinds)
            self.cache = Cache(layers=[PassingLayer() for _ in kinds])
            self.nothing = torch.zeros(1, 1, 1, 1, device=device)  # stands for a mask, so that the model makes none
        self.rows = min(rows or decoder.rows_for(shape, settings, size), shape.rows)
        self.width = min(shape.width, self.rows)
        self.cohorts: list[Cohort] = []
        self.block: Block | None = None  # with rows waiting
        self.taken: list[Group] = []  # not prefilled yet
        self.open: dict[int, tuple[Group, int]] = {}  # by index of the request: what is taken and not finished
        self.is_exhausted = False
        self.clock = 0.0  # seconds per row that a row present all the time would have used

    @property
    def active(self) -> int:
        """Rows being written."""
        return sum(cohort.rows for cohort in self.cohorts)

    def unfinished(self) -> list[Group]:
        """What was begun or waits here, as groups to be drawn anew."""
        by_prompt: dict[int, Group] = {}
        for index, (group, seed) in self.open.items():
            left = by_prompt.setdefault(id(group), Group(group.ids, [], group.problem_id, group.language))
            left.rows.append((index, seed))
        return list(by_prompt.values())

    def run(self, take: Callable[[int], list[Group]]) -> Iterator[tuple[int, Completion]]:
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
    def _admit(self, take: Callable[[int], list[Group]]) -> None:
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
            cohort = Cohort(self, block, min(free, len(block.waiting)))
            cohort.note(*choose_tokens(block.logits.index_select(0, cohort.slot), cohort.draws(), self.settings))
            self.cohorts.append(cohort)
            if not block.waiting:
                self.block = None
            self.clock += (time.perf_counter() - tick) / self.active

    @torch.inference_mode()
    def prefill(self, groups: Sequence[Group]) -> Block:
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
        finished = [pair for cohort in self.cohorts for pair in cohort.harvest()]
        self.cohorts = [cohort for cohort in self.cohorts if cohort.rows]
        return finished
