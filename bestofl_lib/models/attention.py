"""Attention and cache of the shared-prompt loop, registered with Transformers under the name `ATTENTION`.

During prefill this is the usual attention. During decoding the cohorts hold the keys and values themselves, those of a
prompt only once. It honours scaling, sliding windows, soft-capping and attention sinks; an argument it does not know is
refused, because ignoring it would change every text.

It depends on these internals of Transformers: the signature of attention functions, `AttentionInterface`,
`AttentionMaskInterface`, `sdpa_mask`, `sdpa_attention_forward`, `CacheLayerMixin`, and `keys`, `values` of a cache's
layers.
"""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING, Any

import torch
from transformers import AttentionInterface
from transformers.cache_utils import CacheLayerMixin, DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

if TYPE_CHECKING:
    from bestofl_lib.models.cohorts import Cohort

ATTENTION = "bestofl_shared_prompt"
COHORTS: contextvars.ContextVar[list[Cohort] | None] = contextvars.ContextVar("bestofl_cohorts", default=None)

_HONOURED = {"scaling", "softcap", "sliding_window", "s_aux"}
_WITHOUT_EFFECT = {  # here: no dropout when not training, positions are in the keys already, the rest is bookkeeping
    "dropout",
    "position_ids",
    "cache_position",
    "position_embeddings",
    "past_key_values",
    "use_cache",
    "return_dict",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "logits_to_keep",
    "labels",
    "num_items_in_batch",
}
_QUERIES = 512  # queries per step, where attention scores are computed explicitly


class PassingLayer(CacheLayerMixin):
    """Passes this step's keys and values on: attention manages the buffers itself."""

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


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention in the form that Transformers' models call.

    Args:
        query: (rows, query heads, tokens, size).
        key, value: (rows, heads, tokens, size).
        attention_mask: of a prefill, bool or additive; None: causal. Not read while decoding.

    Returns:
        (rows, tokens, query heads, size), and no weights.

    Raises:
        NotImplementedError: an argument, or a kind of layer, that is not known here.
    """
    unknown = sorted(k for k, v in kwargs.items() if v is not None and k not in _HONOURED | _WITHOUT_EFFECT)
    if [k for k in unknown if not (k == "is_causal" and kwargs[k] is True)]:
        raise NotImplementedError(f"attention arguments {', '.join(unknown)} are not known")
    cohorts = COHORTS.get()
    softcap, sinks = kwargs.get("softcap"), kwargs.get("s_aux")
    if cohorts is None:
        if softcap is None and sinks is None:
            return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
        return _attend_prompts(query, key, value, attention_mask, kwargs.get("scaling"), softcap, sinks), None
    if query.shape[2] != 1:
        raise NotImplementedError(f"attention got {query.shape[2]} new tokens per row; decoding feeds one")
    window = kwargs["sliding_window"] if "sliding_window" in kwargs else _window(module)
    query = query * (kwargs.get("scaling") or query.shape[3] ** -0.5)
    parts, start = [], 0
    for cohort in cohorts:
        span = slice(start, start := start + cohort.rows)
        parts.append(
            cohort.attend(
                int(module.layer_idx),  # type: ignore[arg-type]
                query[span, :, 0], key[span, :, 0], value[span, :, 0], softcap, window, sinks,
            )
        )  # fmt: skip
    out = parts[0] if len(parts) == 1 else torch.cat(parts)
    return out.reshape(query.shape[0], 1, query.shape[1], -1), None


AttentionInterface.register(ATTENTION, _attend)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


def _attend_prompts(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float | None,
    softcap: float | None,
    sinks: torch.Tensor | None,
) -> torch.Tensor:
    """Attention with soft-capping or sinks, which PyTorch's fused attention does not support, a block of queries at a
    time.
    """
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    length = key.shape[2]
    out = []
    for part in torch.arange(query.shape[2], device=query.device).split(_QUERIES):
        scores = torch.matmul(query[:, :, part], key.transpose(2, 3)).float() * (scaling or query.shape[3] ** -0.5)
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        if mask is None:
            later = torch.arange(length, device=query.device) > part[:, None] + length - query.shape[2]
            scores = scores.masked_fill(later, -torch.inf)
        elif mask.dtype == torch.bool:
            scores = scores.masked_fill(~mask[:, :, part, :length], -torch.inf)
        else:
            scores = scores + mask[:, :, part, :length]
        out.append(torch.matmul(weigh(scores, sinks).to(query.dtype), value))
    return torch.cat(out, 2).transpose(1, 2).contiguous()


def weigh(scores: torch.Tensor, sinks: torch.Tensor | None) -> torch.Tensor:
    """Softmax over the last dimension; a sink per head takes its share of the weight and gives nothing.

    Args:
        scores: (rows, query heads, queries, keys) float32.
        sinks: as many numbers as query heads, or None.
    """
    if sinks is None:
        return scores.softmax(-1)
    sink = sinks.float().reshape(1, -1, 1, 1).expand(scores.shape[0], -1, scores.shape[2], 1)
    return torch.cat([scores, sink], -1).softmax(-1)[..., :-1]


def _window(module: torch.nn.Module) -> int | None:
    """The sliding window of a layer whose attention call does not pass one, read from the configuration.

    Raises:
        NotImplementedError: a kind of layer that is not known.
    """
    config = getattr(module, "config", None)
    kinds = getattr(config, "layer_types", None)
    window: int | None = getattr(config, "sliding_window", None)
    if not kinds:
        return window
    kind = kinds[int(module.layer_idx)]  # type: ignore[arg-type]
    if kind not in ("full_attention", "sliding_attention"):
        raise NotImplementedError(f"layers of the kind {kind!r} are not known")
    return window if kind == "sliding_attention" else None
