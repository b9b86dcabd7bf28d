"""A sequence-classification model with one output, and fast ways to read numbers off it.

It opens a policy, a reward model or any Hub id as such a model, turns a question and a completion into
tokens, and returns one vector per candidate: the pooled hidden state of a causal backbone (any number of
linear heads can then be applied), or the reward itself for every other architecture. It does not know which
candidates are correct, how pairs are made, or where results are kept.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DynamicCache,
)
from transformers.cache_utils import DynamicLayer
from transformers.modeling_layers import GenericForSequenceClassification
from transformers.utils import logging as transformers_logging

from bestofl_lib.models.identity import fingerprint, locate
from bestofl_lib.models.opening import choose_device, choose_dtype, is_out_of_memory, loading
from bestofl_lib.problems.prompts import messages

_MARK = "\u2042completion\u2042"
_STATISTICS = 8
_PADDING = 0.8  # prompts down to this share of the longest are run with it, padded
_LOGITS_AT_ONCE = 1 << 26  # numbers


@dataclass(frozen=True)
class _Prefilled:
    """What several prompts leave behind, padded on the right to the longest."""

    layers: list[tuple[torch.Tensor, torch.Tensor]]  # keys and values: (prompts, heads, tokens, size)
    last: torch.Tensor  # (prompts, hidden), the state after the last token
    lengths: torch.Tensor  # (prompts,) int, tokens without the padding


class RewardBackbone:
    """An `AutoModelForSequenceClassification` with one output, its tokenizer and its way to write a candidate down.

    The text of a candidate is the chat template's rendering of the user's message (as the policy was asked) and the
    completion as the assistant's message. Prompt and completion are tokenised separately, so that a prompt's
    tokens, and its key-value cache, are shared by all its completions. Without a chat template: the user's message, a
    line break, the completion, the end-of-text token (causal models), or the pair (question, completion) for encoders.

    Args:
        source: folder or Hub id. A causal language model gets a new head, to be trained or replaced.
        revision: Hub revision; None is the default branch.
        style: prompt style, "native" or "question": the one the candidates were asked with.
        layers: keep only the first so many layers of the backbone; None keeps all.
        max_tokens: longest text in tokens. A longer completion loses its *beginning* (the answer is at the end); a prompt
            may take at most half, and loses its beginning too. Default: the model's limit, at most 4096.
        device, dtype: see `choose_device` and `choose_dtype` in models/opening.py.
        batch_tokens: tokens per forward pass; None: 2,048 on a CPU, 32,768 elsewhere.
        reads: what `values` returns. None: the pooled hidden state of a causal backbone, the reward of any other.
            "probe": for causal language models, the pooled hidden state, the mean hidden state over the completion, and eight
            statistics of how likely the completion's tokens were (see `_likelihoods`); there is no head then.
        seed: of the new head, where there is one.
        require_head: refuse a checkpoint without a trained head (for imported reward models).

    Raises:
        FileNotFoundError, ValueError: see `locate`; also more than one output, or no tokenizer.
    """

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
        reads: str | None = None,
        seed: int = 0,
        require_head: bool = False,
    ):
        if reads not in (None, "probe"):
            raise ValueError(f"reads={reads!r}; a backbone is opened with reads=None or 'probe'")
        self.source, self.revision, self.style, self.layers = str(source), revision, style, layers
        self.device = choose_device(device)
        self.dtype = choose_dtype(dtype, self.device)
        located = locate(source)
        changes: dict[str, Any] = {} if require_head or reads else {"num_labels": 1}
        if layers is not None:
            with loading(str(source)):
                have = AutoConfig.from_pretrained(located, revision=revision, trust_remote_code=False)
            deepest = getattr(have.get_text_config(), "num_hidden_layers", 0)
            if not 1 <= layers <= deepest:
                raise ValueError(
                    f"layers={layers}: model {str(source)!r} has {deepest} layers, of which 1 or more can be kept"
                )
            changes["num_hidden_layers"] = layers
        torch.manual_seed(seed)
        verbosity = transformers_logging.get_verbosity()
        transformers_logging.set_verbosity_error()  # "score.weight is newly initialised" is the point here
        try:
            with loading(str(source)):
                common = {"revision": revision, "trust_remote_code": False}
                self.tokenizer = AutoTokenizer.from_pretrained(located, **common)
                family: Any = AutoModelForCausalLM if reads else AutoModelForSequenceClassification
                self.model, report = family.from_pretrained(
                    located, dtype=self.dtype, use_safetensors=True, output_loading_info=True, **common, **changes
                )
        finally:
            transformers_logging.set_verbosity(verbosity)
        new = [name for name in report["missing_keys"] if name.split(".")[0] in ("score", "classifier")]
        if require_head and new:
            raise ValueError(
                f"model {str(source)!r} has no trained head ({', '.join(new)} is missing): it is not a reward model; "
                "train one from it with train_reward_models"
            )
        if reads and report["missing_keys"]:
            raise ValueError(
                f"model {str(source)!r} is no causal language model: it lacks {', '.join(report['missing_keys'])}"
            )
        if not reads and self.model.config.num_labels != 1:
            raise ValueError(
                f"model {str(source)!r} has {self.model.config.num_labels} outputs; a reward model has 1 (num_labels=1)"
            )
        self._set_padding()
        self.model.to(self.device).eval()
        self.is_causal = bool(reads) or (
            isinstance(self.model, GenericForSequenceClassification)
            and isinstance(getattr(self.model, "score", None), torch.nn.Linear)
        )
        limit = getattr(self.model.config.get_text_config(), "max_position_embeddings", None) or 4096
        self.max_tokens = max_tokens or min(limit, 4096)
        if not 8 <= self.max_tokens <= limit:
            raise ValueError(f"max_tokens={self.max_tokens}: model {str(source)!r} takes 8 to {limit} tokens")
        self.batch_tokens = batch_tokens or (2048 if self.device.type == "cpu" else 32768)
        self.reads = reads or ("features" if self.is_causal else "reward")  # what `values` returns
        self.adapter = ""  # what else shaped the weights, where something was merged into them
        self._ending: tuple[str, bool] | None = None
        self._shares_prompts: bool | None = None
        self.set_aside: dict[int, str] = {}  # row -> why it has no value, of the last call of `values`

    @property
    def width(self) -> int:
        """Numbers per candidate that `values` returns: 1 where rewards are read, else by the hidden size."""
        size = int(self.model.config.get_text_config().hidden_size)
        return {"features": size, "probe": 2 * size + _STATISTICS, "reward": 1}[self.reads]

    def trust(self) -> np.ndarray | None:
        """(width,) weight of each number in a fit, for `fit_head`: the many dimensions of a state count less than the few
        statistics (by the fourth root of their number, the best of five tried on a lab policy); None: all alike."""
        if self.reads != "probe":
            return None
        states = self.width - _STATISTICS
        return np.concatenate([np.full(states, (states / 2) ** -0.25), np.ones(_STATISTICS)])

    def identity(self) -> str:
        """What the values depend on besides the text: weights, layers, dtype, token limit."""
        weights = fingerprint(self.source, self.revision)
        return json.dumps([weights, self.adapter, self.layers, self.max_tokens, str(self.dtype), self.reads])

    def _set_padding(self) -> None:
        if self.tokenizer.pad_token_id is None:
            if self.tokenizer.eos_token_id is None:
                raise ValueError(f"the tokenizer of {self.source!r} has neither a padding nor an end-of-text token")
            self.tokenizer.pad_token = self.tokenizer.eos_token
        config = self.model.config.get_text_config()
        if config.pad_token_id is None:
            config.pad_token_id = self.tokenizer.pad_token_id
        if self.model.config.pad_token_id is None:
            self.model.config.pad_token_id = config.pad_token_id
        self.pad = config.pad_token_id

    # -- text ---------------------------------------------------------------------------------------------------

    def prompt_text(self, question: str, language: str) -> str:
        """What stands before the completion."""
        chat = messages(question, language, self.style)
        if self.tokenizer.chat_template is None:
            return "\n".join(message["content"] for message in chat) + "\n"
        return self._rendered([*chat, {"role": "assistant", "content": _MARK}]).split(_MARK)[0]

    def _rendered(self, chat: list[dict[str, str]]) -> str:
        return str(self.tokenizer.apply_chat_template(chat, tokenize=False))

    def ending(self) -> tuple[str, bool]:
        """What stands after the completion, and whether the template strips the completion's white space."""
        if self._ending is None:
            if self.tokenizer.chat_template is None:
                self._ending = (self.tokenizer.eos_token or "", False)
            else:
                chat = [{"role": "user", "content": "?"}, {"role": "assistant", "content": f" {_MARK} "}]
                text = self._rendered(chat)
                if text.count(_MARK) != 1:
                    raise ValueError(
                        f"the chat template of {self.source!r} does not write the assistant's message once; "
                        "use a model whose template takes a user and an assistant message"
                    )
                tail = text.split(_MARK)[1]
                stripped = not tail.startswith(" ")
                self._ending = (tail if stripped else tail[1:], stripped)
        return self._ending

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
        head = self.tokenizer(texts, add_special_tokens=not has_template)["input_ids"] if texts else []
        if not has_template and self.tokenizer.eos_token_id is not None:
            head = [ids[:-1] if ids[-1:] == [self.tokenizer.eos_token_id] else ids for ids in head]
        tail, stripped = self.ending()
        written = [(text.strip() if stripped else text) + tail for text in completions]
        body = self.tokenizer(written, add_special_tokens=False)["input_ids"] if written else []
        head = [ids[-(self.max_tokens // 2) :] if len(ids) > self.max_tokens // 2 else ids for ids in head]
        truncated = np.zeros(len(body), dtype=bool)
        for i, ids in enumerate(body):
            while ids and ids[-1] == self.pad:
                ids.pop()
            room = self.max_tokens - len(head[prompt_of[i]])
            if len(ids) > room:
                body[i] = ids[-room:]
                truncated[i] = True
        return head, body, truncated

    def whole_texts(
        self, prompts: Sequence[tuple[str, str]], prompt_of: Sequence[int], completions: Sequence[str]
    ) -> tuple[list[list[int]], np.ndarray]:
        """Token ids of each candidate from first to last, as `values` reads them, and which were cut; for training."""
        if self.is_causal:
            head, body, truncated = self.encode(prompts, prompt_of, completions)
            return [head[p] + ids for p, ids in zip(prompt_of, body, strict=True)], truncated
        first, truncated = self._encoder_texts(prompts, prompt_of, completions)
        encoded = self.tokenizer(first, list(completions), truncation="only_second", max_length=self.max_tokens)
        return encoded["input_ids"], truncated

    # -- numbers ------------------------------------------------------------------------------------------------

    def values(
        self,
        prompts: Sequence[tuple[str, str]],
        prompt_of: Sequence[int],
        completions: Sequence[str],
        share: bool = True,
    ) -> tuple[np.ndarray, np.ndarray]:
        """One vector per candidate: pooled hidden state (causal backbones) or reward (all others).

        Args:
            prompts, prompt_of, completions: as for `encode`.
            share: compute each prompt once for all its completions where the architecture allows (causal, full
                attention). False is the plain way; the numbers are the same up to rounding.

        Returns:
            (candidates, width) float32, NaN where memory did not suffice for a single row (see `set_aside`), and
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
        head, body, truncated = self.encode(prompts, prompt_of, completions)
        owner = np.asarray(prompt_of, dtype=int)
        lone = np.array([not ids for ids in body], dtype=bool)  # nothing of the completion is left to read from
        if share and self._can_share():
            members: dict[int, list[int]] = {}
            for row in np.flatnonzero(~lone):
                members.setdefault(int(owner[row]), []).append(int(row))
            lone[[row for p in members if not head[p] for row in members[p]]] = True
            waiting = sorted((p for p in members if head[p]), key=lambda p: -len(head[p]))
            while waiting:  # the longest first: memory runs out at once or never
                longest = len(head[waiting[0]])
                size = max(1, 2 * self.batch_tokens // longest)
                chunk = [p for p in waiting[:size] if len(head[p]) >= _PADDING * longest]
                del waiting[: len(chunk)]
                for rows, part in self._shared(chunk, head, body, members):
                    yield rows, part, truncated[rows]
        else:
            lone[:] = True
        order = np.flatnonzero(lone)
        whole = {int(row): head[owner[row]] + body[row] for row in order}
        for rows in _by_tokens(order, [len(whole[int(row)]) for row in order], lambda: self.batch_tokens):
            part = self._halving(
                rows,
                lambda rows: self._plain([whole[int(r)] for r in rows], [len(head[owner[int(r)]]) for r in rows]),
            )
            yield rows, part, truncated[rows]

    def _shared(
        self, chunk: list[int], head: list[list[int]], body: list[list[int]], members: dict[int, list[int]]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Prompts of similar length, run once; then their completions in batches of similar length."""
        rows = np.array([row for p in chunk for row in members[p]])
        slot = {row: i for i, p in enumerate(chunk) for row in members[p]}
        prefill = self._prefill_or_none([head[p] for p in chunk])
        if prefill is None:  # not enough memory for so many prompts at once
            if len(chunk) == 1:
                self.set_aside.update({int(row): "out of memory at one row" for row in rows})
                yield rows, np.full((len(rows), self.width), np.nan, dtype=np.float32)
                return
            for part in (chunk[: len(chunk) // 2], chunk[len(chunk) // 2 :]):
                yield from self._shared(part, head, body, members)
            return
        longest = max(len(head[p]) for p in chunk)
        lengths = [len(body[row]) for row in rows]

        def budget() -> int:
            return self.batch_tokens

        for batch in _by_tokens(rows, lengths, budget, extra=longest / 4):
            yield (
                batch,
                self._halving(
                    batch,
                    lambda rows: self._continue(prefill, [slot[int(r)] for r in rows], [body[int(r)] for r in rows]),
                ),
            )

    def _prefill_or_none(self, ids: list[list[int]]) -> _Prefilled | None:
        try:
            with torch.inference_mode():
                cache = DynamicCache(config=self.model.config.get_text_config())
                # right padding and a causal mask: padding cannot reach a prompt's own tokens, so no mask is needed
                hidden = self.model.base_model(
                    self._padded(ids), past_key_values=cache, use_cache=True
                ).last_hidden_state
                layers: list[Any] = cache.layers
                lengths = torch.tensor([len(row) for row in ids], device=self.device)
                last = hidden[torch.arange(len(ids), device=self.device), lengths - 1]
                return _Prefilled([(layer.keys, layer.values) for layer in layers], last, lengths)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            self._free()
            return None

    def _continue(self, prompts: _Prefilled, slots: list[int], ids: list[list[int]]) -> np.ndarray:
        """Values of completions after prompts that are computed already; slots: the prompt of each."""
        with torch.inference_mode():
            tokens = self._padded(ids)
            cache = DynamicCache(config=self.model.config.get_text_config())
            index = torch.tensor(slots, device=self.device)
            lengths = prompts.lengths[index][:, None]
            longest = int(lengths.max())
            for layer, (keys, values) in enumerate(prompts.layers):
                cache.update(keys[index, :, :longest], values[index, :, :longest], layer)
            # a completion sees its prompt without the padding after it; its own padding comes last and reaches nothing
            new = torch.arange(tokens.shape[1], device=self.device)[None]
            mask = None
            if int(lengths.min()) < longest:
                prompt = torch.arange(longest, device=self.device)[None] < lengths
                mask = torch.cat([prompt, torch.ones_like(tokens, dtype=torch.bool)], 1).long()
            positions = lengths + new
            hidden = self.model.base_model(
                tokens, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
            ).last_hidden_state
            states = torch.cat([prompts.last[index][:, None], hidden], 1)
            return self._read(states, tokens, [0] * len(ids), [len(row) for row in ids])

    def _plain(self, ids: list[list[int]], starts: list[int]) -> np.ndarray:
        """Values of whole texts whose completions begin at `starts`."""
        with torch.inference_mode():
            tokens = self._padded(ids)
            mask = torch.arange(tokens.shape[1])[None] < torch.tensor([len(row) for row in ids])[:, None]
            hidden = self.model.base_model(
                tokens, attention_mask=mask.long().to(self.device), use_cache=False
            ).last_hidden_state
            states = torch.cat([torch.zeros_like(hidden[:, :1]), hidden], 1)
            starts = [min(start, len(row) - 1) for start, row in zip(starts, ids, strict=True)]
            return self._read(states, tokens, starts, [len(row) for row in ids])

    def _padded(self, ids: list[list[int]]) -> torch.Tensor:
        longest = max(map(len, ids))
        return torch.tensor([row + [self.pad] * (longest - len(row)) for row in ids], device=self.device)

    def _read(self, states: torch.Tensor, tokens: torch.Tensor, starts: list[int], ends: list[int]) -> np.ndarray:
        """What `reads` asks for, of each row.

        Args:
            states: (rows, 1 + tokens, hidden), the state *before* each token, and after the last one.
            tokens: (rows, tokens), right-padded.
            starts, ends: where each row's completion begins and ends in tokens.

        Returns:
            (rows, width) float32.
        """
        rows = torch.arange(len(ends), device=self.device)
        last = states[rows, torch.tensor(ends, device=self.device)]
        if self.reads == "reward":
            return self.model.score(last).float().cpu().numpy()
        if self.reads == "features":
            return last.float().cpu().numpy()
        first, end = (torch.tensor(edge, device=self.device)[:, None] for edge in (starts, ends))
        place = torch.arange(tokens.shape[1], device=self.device)[None]
        inside = (place >= first) & (place < end)
        mean = (states[:, 1:].float() * inside[..., None]).sum(1) / inside.sum(1, keepdim=True)
        statistics = self._likelihoods(states[:, :-1], tokens, inside)
        return torch.cat([last.float(), mean, statistics], 1).cpu().numpy()

    def _likelihoods(self, states: torch.Tensor, tokens: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        """(rows, 8) float32: of the completion's log-probabilities the sum, mean, least, mean of the three least and mean
        of the last six; the mean and the greatest entropy; the number of tokens."""
        head = self.model.get_output_embeddings()
        before, after = states[inside], tokens[inside]
        logprob, entropy = [], []
        for part in torch.arange(len(after), device=self.device).split(max(1, _LOGITS_AT_ONCE // head.weight.shape[0])):
            logs = head(before[part]).float().log_softmax(-1)
            logprob.append(logs.gather(1, after[part][:, None])[:, 0])
            entropy.append(-(logs.exp() * logs).sum(-1))
        rows = []
        sizes = inside.sum(1).tolist()
        for p, e in zip(torch.cat(logprob).split(sizes), torch.cat(entropy).split(sizes), strict=True):
            low = p.topk(min(3, len(p)), largest=False).values
            numbers = [p.sum(), p.mean(), low[0], low.mean(), p[-6:].mean(), e.mean(), e.max()]
            rows.append(torch.stack([*numbers, torch.full_like(low[0], len(p))]))
        return torch.stack(rows)

    def _encoder_batches(
        self, prompts: Sequence[tuple[str, str]], prompt_of: Sequence[int], completions: Sequence[str]
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Pairs (question, completion) through the whole model; the completion loses its beginning where too long."""
        first, cut = self._encoder_texts(prompts, prompt_of, completions)
        lengths = [
            len(ids)
            for ids in self.tokenizer(first, list(completions), truncation="only_second", max_length=self.max_tokens)[
                "input_ids"
            ]
        ]

        def run(rows: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                batch = self.tokenizer(
                    [first[int(r)] for r in rows],
                    [completions[int(r)] for r in rows],
                    truncation="only_second",
                    max_length=self.max_tokens,
                    padding=True,
                    return_tensors="pt",
                ).to(self.device)
                return self.model(**batch).logits.float().cpu().numpy()

        for rows in _by_tokens(np.arange(len(completions)), lengths, lambda: self.batch_tokens):
            yield rows, self._halving(rows, run), cut[rows]

    def _encoder_texts(
        self, prompts: Sequence[tuple[str, str]], prompt_of: Sequence[int], completions: Sequence[str]
    ) -> tuple[list[str], np.ndarray]:
        """The first text of each pair (at most half of the tokens), and whether the second must be cut."""
        ask = ["\n".join(m["content"] for m in messages(q, language, self.style)) for q, language in prompts]
        self.tokenizer.truncation_side = "left"
        half = self.max_tokens // 2
        short = [
            text if len(ids) <= half else str(self.tokenizer.decode(ids[-half:]))
            for text, ids in zip(ask, self.tokenizer(ask, add_special_tokens=False)["input_ids"], strict=True)
        ]
        first = [short[p] for p in prompt_of]
        lengths = [len(ids) for ids in self.tokenizer(first, list(completions))["input_ids"]] if first else []
        return first, np.array([n > self.max_tokens for n in lengths], dtype=bool)

    def _can_share(self) -> bool:
        """Whether every layer of the cache is plain full attention (no sliding window, no recurrent state)."""
        if self._shares_prompts is None:
            try:
                with torch.inference_mode():
                    cache = DynamicCache(config=self.model.config.get_text_config())
                    self.model.base_model(
                        torch.tensor([[self.pad]], device=self.device), past_key_values=cache, use_cache=True
                    )
                self._shares_prompts = bool(cache.layers) and all(
                    type(layer) is DynamicLayer and layer.get_seq_length() == 1 for layer in cache.layers
                )
            except (TypeError, ValueError, AttributeError):  # an architecture without such a cache
                self._shares_prompts = False
        return self._shares_prompts

    def _halving(self, rows: np.ndarray, run: Any) -> np.ndarray:
        """run(rows), in halves where memory runs out; a single row that does not fit is NaN and noted."""
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


def _by_tokens(rows: np.ndarray, lengths: Sequence[int], budget: Any, extra: float = 0.0) -> Iterator[np.ndarray]:
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
