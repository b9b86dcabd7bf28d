"""A model that gives each candidate a vector, fast: a reward, or what a reward is computed from.

It opens a policy, a reward model or any Hub id, and runs questions and completions through it in batches that fit in
memory, each prompt once for all its completions. What is read off the hidden states is up to a readout (`readouts.py`),
what the texts look like up to `texts.py`. It does not know which candidates are correct, how pairs are made, or where
results are kept.
"""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    DynamicCache,
)
from transformers.modeling_layers import GenericForSequenceClassification, GenericForTokenClassification
from transformers.utils import logging as transformers_logging

from bestofl_lib.models.identity import fingerprint, locate
from bestofl_lib.models.opening import (
    choose_device,
    choose_dtype,
    is_out_of_memory,
    loading,
    refuse_unfit,
    rotary_switch,
)
from bestofl_lib.models.self_check import shrunk_windows
from bestofl_lib.rewards.logits import base_of, refuse_other_logits
from bestofl_lib.rewards.readouts import Batch, HeadReward, LastState, PrefixProbe, Readout
from bestofl_lib.rewards.texts import CandidateTexts

# what a classifier adds to its base
_HEAD = re.compile(r"(^|\.)(score|classifier|pre_classifier|pooler|summary)(\.|$)")
_PADDING = 0.8  # prompts of at least this share of the longest's length are padded and run with it


_EXACT, _COARSE = 1e-3, 0.05  # allowed difference of a state when prompts are shared, as a share of the largest number


class SlowScoringWarning(UserWarning):
    """A model computes each prompt once for every completion, because it cannot be shared; the rewards are the same."""


@dataclass(frozen=True)
class _Prefilled:
    """The state of several prompts after prefill, padded on the left to the longest, so that distances between tokens
    are right.
    """

    layers: list[tuple[torch.Tensor, torch.Tensor]]  # keys and values: (prompts, heads, tokens, size)
    last: torch.Tensor  # (prompts, hidden), the state after the last token
    lengths: torch.Tensor  # (prompts,) int, tokens without the padding


class RewardBackbone:
    """A model, its tokenizer, and fast ways to read a vector per candidate off it.

    Args:
        source: folder or Hub id. A causal language model gets a new linear head, to be trained or replaced.
        revision: Hub revision; None is the default branch.
        style: prompt style, see `CandidateTexts`.
        layers: keep only the first so many layers of the backbone; None keeps all.
        max_tokens: longest text in tokens. Default: the model's limit, at most 4096. The limit of a model whose rotary
            embeddings change with the length of a text is the length up to which they do not.
        device, dtype: see `choose_device` and `choose_dtype` in models/opening.py.
        batch_tokens: tokens per forward pass; None: 2,048 on a CPU, 32,768 elsewhere.
        readout: what `values` returns. None: the last hidden state of a causal backbone, the reward of any other.
        seed: of the new head, where there is one.
        require_head: refuse a checkpoint without a trained head (for imported reward models).
        labels_tokens: open a token classifier with two labels (wrong, right) instead of a sequence classifier.

    Raises:
        FileNotFoundError, ValueError: see `locate`; also more than one output, or no tokenizer.
    """

    missing_is_final = False  # another day there may be more memory

    def __init__(
        self,
        source: str | Path,
        *,
        revision: str | None = None,
        style: str = "native",
        layers: int | None = None,
        max_tokens: int | None = None,
        device: str = "auto",
        dtype: str = "auto",
        batch_tokens: int | None = None,
        readout: Readout | None = None,
        seed: int = 0,
        require_head: bool = False,
        labels_tokens: bool = False,
    ):
        self.source, self.revision, self.style, self.layers = str(source), revision, style, layers
        self.device = choose_device(device)
        self.dtype = choose_dtype(dtype, self.device)
        torch.manual_seed(seed)
        is_language_model = readout is not None and readout.needs_language_model
        tokenizer, self.model = _open(
            str(source), revision, layers, self.dtype,
            is_language_model=is_language_model, require_head=require_head, labels_tokens=labels_tokens,
        )  # fmt: skip
        self.texts = CandidateTexts(tokenizer, str(source), style)
        self.texts.is_whole = not isinstance(readout, PrefixProbe)
        self._set_padding()
        self.model.to(self.device).eval()
        if is_language_model:
            refuse_other_logits(self.model, self.source)
        self.is_causal = is_language_model or (
            isinstance(self.model, GenericForSequenceClassification | GenericForTokenClassification)
            and isinstance(getattr(self.model, "score", None), torch.nn.Linear)
        )
        limit = getattr(self.model.config.get_text_config(), "max_position_embeddings", None) or 4096
        switch = rotary_switch(self.model.config)
        limit = min(limit, switch or limit)
        self.max_tokens = max_tokens or min(limit, 4096)
        if not 8 <= self.max_tokens <= limit:
            longer = (
                "" if limit != switch else "; it encodes the positions of longer texts differently, so their rewards"
            )
            longer += " could not be compared with those of shorter ones" if longer else ""
            raise ValueError(f"max_tokens={self.max_tokens}: model {str(source)!r} takes 8 to {limit} tokens{longer}")
        self.texts.max_tokens = self.max_tokens
        self.batch_tokens = batch_tokens or (2048 if self.device.type == "cpu" else 32768)
        self.readout: Readout = readout or (LastState() if self.is_causal else HeadReward())
        self.adapter = ""  # what else shaped the weights, if something was merged into them
        self._shares_prompts: bool | None = None
        self.set_aside: dict[int, str] = {}  # row -> why it has no value, of the last call of `values`

    @property
    def hidden_size(self) -> int:
        """Numbers per hidden state."""
        return int(self.model.config.get_text_config().hidden_size)

    @property
    def width(self) -> int:
        """Numbers per candidate that `values` returns."""
        return self.readout.width(self.hidden_size)

    def identity(self) -> str:
        """What the values depend on besides the text: weights, layers, dtype, token limit, readout."""
        weights = fingerprint(self.source, self.revision)
        return json.dumps([weights, self.adapter, self.layers, self.max_tokens, str(self.dtype), self.readout.name])

    def _set_padding(self) -> None:
        config = self.model.config.get_text_config()
        if getattr(config, "pad_token_id", None) is None:
            config.pad_token_id = self.texts.pad
        if getattr(self.model.config, "pad_token_id", None) is None:  # of a model with vision it may be missing
            self.model.config.pad_token_id = config.pad_token_id
        self.texts.pad = config.pad_token_id

    def whole_texts(
        self, prompts: Sequence[tuple[str, str]], prompt_of: Sequence[int], completions: Sequence[str]
    ) -> tuple[list[dict[str, Any]], np.ndarray]:
        """Each candidate as `values` reads it, and which were cut; for training.

        A candidate is input_ids with start, where its completion begins in them; for encoders, with token_type_ids.
        """
        if not self.is_causal:
            return self.texts.encode_pairs(prompts, prompt_of, completions)
        before, body, truncated = self.texts.encode(prompts, prompt_of, completions)
        texts = [
            {"input_ids": before[p] + ids, "start": min(len(before[p]), len(before[p]) + len(ids) - 1)}
            for p, ids in zip(prompt_of, body, strict=True)
        ]
        return texts, truncated

    def values(
        self,
        prompts: Sequence[tuple[str, str]],
        prompt_of: Sequence[int],
        completions: Sequence[str],
        share: bool = True,
    ) -> tuple[np.ndarray, np.ndarray]:
        """One vector per candidate: what the readout says.

        Args:
            prompts, prompt_of, completions: as for `CandidateTexts.encode`.
            share: compute each prompt once for all its completions where the architecture allows (attention, with
                sliding windows or without). False computes each text whole; the numbers are the same up to rounding.

        Returns:
            (candidates, width) float32, NaN where a single row did not fit in memory (see `set_aside`), and
            (candidates,) bool: the completion was cut to fit.
        """
        values = np.full((len(completions), self.width), np.nan, dtype=np.float32)
        truncated = np.zeros(len(completions), dtype=bool)
        self.set_aside = {}
        for rows, part, cut in self.batches(prompts, prompt_of, completions, share):
            values[rows], truncated[rows] = part, cut
        return values, truncated

    def batches(
        self,
        prompts: Sequence[tuple[str, str]],
        prompt_of: Sequence[int],
        completions: Sequence[str],
        share: bool = True,
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """As `values`, piece by piece: row indices, their vectors, and whether each was cut."""
        if not self.is_causal:
            yield from self._encoder_batches(prompts, prompt_of, completions)
            return
        before, body, truncated = self.texts.encode(prompts, prompt_of, completions)
        marks = self.texts.marks
        owner = np.asarray(prompt_of, dtype=int)
        lone = np.array([not ids for ids in body], dtype=bool)  # nothing of the completion is left to read from
        if share and self._can_share():
            members: dict[int, list[int]] = {}
            for row in np.flatnonzero(~lone):
                members.setdefault(int(owner[row]), []).append(int(row))
            lone[[row for p in members if not before[p] for row in members[p]]] = True
            waiting = sorted((p for p in members if before[p]), key=lambda p: -len(before[p]))
            while waiting:  # the longest first: if memory runs out, it does so at the start
                longest = len(before[waiting[0]])
                size = max(1, 2 * self.batch_tokens // longest)
                chunk = [p for p in waiting[:size] if len(before[p]) >= _PADDING * longest]
                del waiting[: len(chunk)]
                for rows, part in self._shared(chunk, before, body, members, marks):
                    yield rows, part, truncated[rows]
        else:
            lone[:] = True
        order = np.flatnonzero(lone)
        whole = {int(row): before[owner[row]] + body[row] for row in order}
        for rows in _by_tokens(order, [len(whole[int(row)]) for row in order], lambda: self.batch_tokens):
            part = self._halving(
                rows,
                lambda rows: self._whole_texts(
                    [whole[int(r)] for r in rows], [len(before[owner[int(r)]]) for r in rows], _of(marks, rows)
                ),
            )
            yield rows, part, truncated[rows]

    def _shared(
        self,
        chunk: list[int],
        before: list[list[int]],
        body: list[list[int]],
        members: dict[int, list[int]],
        marks: list[list[int]] | None,
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Run prompts of similar length once each, then their completions in batches of similar length."""
        rows = np.array([row for p in chunk for row in members[p]])
        slot = {row: i for i, p in enumerate(chunk) for row in members[p]}
        prefill = self._prefill_or_none([before[p] for p in chunk])
        if prefill is None:  # not enough memory for so many prompts at once
            if len(chunk) == 1:
                self.set_aside.update({int(row): "out of memory at one row" for row in rows})
                yield rows, np.full((len(rows), self.width), np.nan, dtype=np.float32)
                return
            for part in (chunk[: len(chunk) // 2], chunk[len(chunk) // 2 :]):
                yield from self._shared(part, before, body, members, marks)
            return
        longest = max(len(before[p]) for p in chunk)
        lengths = [len(body[row]) for row in rows]

        def budget() -> int:
            return self.batch_tokens

        for batch in _by_tokens(rows, lengths, budget, extra=longest / 4):
            yield (
                batch,
                self._halving(
                    batch,
                    lambda rows: self._continue(
                        prefill, [slot[int(r)] for r in rows], [body[int(r)] for r in rows], _of(marks, rows)
                    ),
                ),
            )

    def _prefill_or_none(self, ids: list[list[int]]) -> _Prefilled | None:
        try:
            with torch.inference_mode():
                return self._prefill(ids)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            self._free()
            return None

    def _prefill(self, ids: list[list[int]]) -> _Prefilled:
        """Run prompts together. Every layer keeps all their keys, those with a sliding window too."""
        cache = DynamicCache()
        # right padding and a causal mask: padding cannot reach a prompt's own tokens, so no mask is needed
        hidden = base_of(self.model)(self._padded(ids), past_key_values=cache, use_cache=True).last_hidden_state
        layers: list[Any] = cache.layers
        lengths = torch.tensor([len(row) for row in ids], device=self.device)
        rows, longest = torch.arange(len(ids), device=self.device), hidden.shape[1]
        source = (torch.arange(longest, device=self.device)[None] - (longest - lengths)[:, None]).clamp(min=0)

        def moved(kept: torch.Tensor) -> torch.Tensor:
            return kept[rows[:, None], :, source].transpose(1, 2)

        return _Prefilled(
            [(moved(layer.keys), moved(layer.values)) for layer in layers], hidden[rows, lengths - 1], lengths
        )

    def _continue(
        self, prompts: _Prefilled, slots: list[int], ids: list[list[int]], marks: list[list[int]] | None = None
    ) -> np.ndarray:
        """Values of completions after prompts that are computed already; slots: the prompt of each."""
        with torch.inference_mode():
            tokens = self._padded(ids)
            states = self._states_after(prompts, slots, tokens)
            return self._read(states, Batch(tokens, [0] * len(ids), [len(row) for row in ids], marks))

    def _states_after(self, prompts: _Prefilled, slots: list[int], tokens: torch.Tensor) -> torch.Tensor:
        """States of tokens (rows, tokens) after their prompts: (rows, 1 + tokens, hidden), the first of the prompt's
        end.
        """
        cache = DynamicCache()
        index = torch.tensor(slots, device=self.device)
        lengths = prompts.lengths[index][:, None]
        longest = int(lengths.max())
        for layer, (keys, values) in enumerate(prompts.layers):
            cache.update(keys[index, :, -longest:], values[index, :, -longest:], layer)
        # a completion sees its prompt without the padding before it; its own padding comes last and reaches nothing
        mask = None
        if int(lengths.min()) < longest:
            prompt = torch.arange(longest, device=self.device)[None] >= longest - lengths
            mask = torch.cat([prompt, torch.ones_like(tokens, dtype=torch.bool)], 1).long()
        positions = lengths + torch.arange(tokens.shape[1], device=self.device)[None]
        hidden = base_of(self.model)(
            tokens, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        ).last_hidden_state
        return torch.cat([prompts.last[index][:, None], hidden], 1)

    def _whole_texts(self, ids: list[list[int]], starts: list[int], marks: list[list[int]] | None = None) -> np.ndarray:
        """Values of whole texts whose completions begin at `starts`."""
        with torch.inference_mode():
            tokens = self._padded(ids)
            mask = torch.arange(tokens.shape[1])[None] < torch.tensor([len(row) for row in ids])[:, None]
            hidden = base_of(self.model)(
                tokens, attention_mask=mask.long().to(self.device), use_cache=False
            ).last_hidden_state
            states = torch.cat([torch.zeros_like(hidden[:, :1]), hidden], 1)
            starts = [min(start, len(row) - 1) for start, row in zip(starts, ids, strict=True)]
            return self._read(states, Batch(tokens, starts, [len(row) for row in ids], marks))

    def _padded(self, ids: list[list[int]]) -> torch.Tensor:
        longest = max(map(len, ids))
        return torch.tensor([row + [self.texts.pad] * (longest - len(row)) for row in ids], device=self.device)

    def _read(self, states: torch.Tensor, batch: Batch) -> np.ndarray:
        return self.readout.read(self.model, states, batch).float().cpu().numpy()

    def _encoder_batches(
        self, prompts: Sequence[tuple[str, str]], prompt_of: Sequence[int], completions: Sequence[str]
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Pairs (question, completion) through the whole model."""
        texts, cut = self.texts.encode_pairs(prompts, prompt_of, completions)

        def run(rows: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                batch = self.texts.tokenizer.pad([texts[int(r)] for r in rows], return_tensors="pt").to(self.device)
                return self.model(**batch).logits.float().cpu().numpy()

        lengths = [len(text["input_ids"]) for text in texts]
        for rows in _by_tokens(np.arange(len(completions)), lengths, lambda: self.batch_tokens):
            yield rows, self._halving(rows, run), cut[rows]

    def _can_share(self) -> bool:
        """Whether states after shared prompts equal those of whole texts: tried once, with texts longer than a (shrunk)
        sliding window.
        """
        if self._shares_prompts is None:
            reason = self._doubt_of_sharing()
            self._shares_prompts = reason is None
            if reason is not None:
                warnings.warn(
                    f"{self.source} computes each prompt again for every completion, which takes longer, because "
                    f"{reason} when prompts are shared; the rewards are the same",
                    SlowScoringWarning,
                    stacklevel=4,
                )
        return self._shares_prompts

    def _doubt_of_sharing(self) -> str | None:
        vocabulary = int(self.model.get_input_embeddings().weight.shape[0])
        texts = [[(7 * i + 3 + 11 * row) % vocabulary for i in range(n)] for row, n in enumerate((16, 13))]
        try:
            with torch.inference_mode(), shrunk_windows(self.model):
                prefilled = self._prefill([texts[0][:9], texts[1][:6]])
                found = self._states_after(prefilled, [0, 1], self._padded([texts[0][9:], texts[1][6:]]))[:, 1:]
                plain = [base_of(self.model)(self._padded([ids]), use_cache=False).last_hidden_state for ids in texts]
                expected = torch.cat([plain[0][:, 9:], plain[1][:, 6:]]).float()
        except Exception as error:  # an architecture may fail in any way; whatever it is, it cannot share prompts
            if is_out_of_memory(error):
                raise
            return f"it fails with {type(error).__name__}"
        if not bool(expected.isfinite().all()):
            return None  # weights that give no numbers say nothing about sharing
        gaps = (found.float() - expected).abs().amax(-1) / max(1.0, float(expected.abs().max()))
        exact = self.dtype == torch.float32
        gap = float(gaps.max() if exact else gaps.median())
        return None if gap <= (_EXACT if exact else _COARSE) else f"its states differ by {gap:.2g} of the largest"

    def _halving(self, rows: np.ndarray, run: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """run(rows), in halves when memory runs out; a single row that does not fit is NaN and noted."""
        try:
            return run(rows)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        self._free()
        if len(rows) == 1:
            self.set_aside[int(rows[0])] = "out of memory at one row"
            return np.full((1, self.width), np.nan, dtype=np.float32)
        self.batch_tokens = max(1, self.batch_tokens // 2)
        middle = len(rows) // 2
        return np.concatenate([self._halving(rows[:middle], run), self._halving(rows[middle:], run)])

    def _free(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def _of(marks: list[list[int]] | None, rows: np.ndarray) -> list[list[int]] | None:
    return None if marks is None else [marks[int(row)] for row in rows]


def _by_tokens(
    rows: np.ndarray, lengths: Sequence[int], budget: Callable[[], int], extra: float = 0.0
) -> Iterator[np.ndarray]:
    """Rows in batches of similar length whose padded size stays within budget() tokens; the longest first.

    Args:
        extra: what each row costs besides its own tokens.
    """
    order = sorted(range(len(rows)), key=lambda i: -lengths[i])
    start = 0
    while start < len(order):
        size = max(1, math.floor(budget() / (lengths[order[start]] + extra)))
        yield rows[[order[i] for i in range(start, min(start + size, len(order)))]]
        start += size


def _open(
    source: str,
    revision: str | None,
    layers: int | None,
    dtype: torch.dtype,
    *,
    is_language_model: bool,
    require_head: bool,
    labels_tokens: bool,
) -> tuple[Any, Any]:
    """Tokenizer and model: a causal language model, or a sequence classifier with one output."""
    located = locate(source)
    common: dict[str, Any] = {"revision": revision, "trust_remote_code": False}
    changes: dict[str, Any] = {} if require_head or is_language_model or labels_tokens else {"num_labels": 1}
    if layers is not None:
        with loading(source):
            deepest = getattr(AutoConfig.from_pretrained(located, **common).get_text_config(), "num_hidden_layers", 0)
        if not 1 <= layers <= deepest:
            raise ValueError(f"layers={layers}: model {source!r} has {deepest} layers; keep 1 to {deepest} of them")
        changes["num_hidden_layers"] = layers
    family: Any = AutoModelForSequenceClassification
    if is_language_model or labels_tokens:
        family = AutoModelForCausalLM if is_language_model else AutoModelForTokenClassification
    labels = 2 if labels_tokens else 1
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # a newly initialised "score.weight" is intended here
    try:
        with loading(source):
            tokenizer = AutoTokenizer.from_pretrained(located, **common)
            model, report = family.from_pretrained(
                located, dtype=dtype, use_safetensors=True, output_loading_info=True, **common, **changes
            )
    finally:
        transformers_logging.set_verbosity(verbosity)
    new = [name for name in report["missing_keys"] if name.split(".")[0] in ("score", "classifier")]
    if (require_head or labels_tokens) and new:
        raise ValueError(
            f"model {source!r} has no trained head ({', '.join(new)} is missing): it is not a reward model; "
            "train one from it with train_reward_models"
        )
    if is_language_model and report["missing_keys"]:
        raise ValueError(
            f"model {source!r} is not a causal language model: it lacks {', '.join(report['missing_keys'])}"
        )
    refuse_unfit(
        source,
        {
            "missing_keys": [name for name in report["missing_keys"] if not _HEAD.search(name)],
            "unexpected_keys": [] if layers is not None else report["unexpected_keys"],
        },
    )
    if not is_language_model and model.config.num_labels != labels:
        raise ValueError(
            f"model {source!r} has {model.config.num_labels} outputs; a reward model has {labels} (num_labels={labels})"
        )
    return tokenizer, model
