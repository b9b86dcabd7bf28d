"""What training, or a pass of a frozen model, will hold in memory, computed layer by layer before it starts.

The model is made without weights (device "meta"). The count runs Transformers' own forward, so it follows the
architecture. It leaves out mixed precision, which keeps less.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from bestofl_lib.models.opening import loading
from bestofl_lib.rewards.logits import base_of
from bestofl_lib.rewards.readouts import LOGITS_AT_ONCE
from bestofl_lib.rewards.reward_module import with_adapter
from bestofl_lib.rewards.spec import TrainingSettings

_ROWS, _TOKENS = 2, 32  # of the text that is counted
_OPTIMISED = 16  # bytes of a trained number: itself, its gradient and two moments, all float32


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes that training holds at its peak."""

    weights: int  # that are not trained
    trained: int  # trained numbers with gradients and moments
    kept_per_token: float  # of all layers, between forward and backward
    again_per_token: float  # of the layer that is computed again; 0 where nothing is
    per_token: float  # outside the layers; below 0 where the first keeps less than the others

    def total(self, tokens: int) -> int:
        """With so many tokens at once, padding included."""
        return round(
            self.weights + self.trained + tokens * (self.kept_per_token + self.again_per_token + self.per_token)
        )


def training_memory(config: Any, settings: TrainingSettings, dtype: torch.dtype, checkpointed: bool) -> TrainingMemory:
    """The memory of a training of this configuration.

    Args:
        config: of the base, as `AutoConfig` reads it.
        settings: tuning "lora" or "full", and readout; logits of likelihoods are not counted.
        dtype: of weights that are not trained.
        checkpointed: whether activations of layers are computed again instead of kept.

    Raises:
        ValueError: the model cannot be built from its configuration.
    """
    layers = int(config.get_text_config().num_hidden_layers)
    kept = [_kept(config, n, settings, dtype, checkpointed) for n in (1, 2)]
    whole = _kept(config, 2, settings, dtype, False) - _kept(config, 1, settings, dtype, False) if checkpointed else 0.0
    model = _build(config, layers, settings, dtype, checkpointed)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = sum(p.numel() * p.element_size() for p in model.parameters() if not p.requires_grad)
    layer = kept[1] - kept[0]
    return TrainingMemory(frozen, _OPTIMISED * trained, layers * layer, whole, kept[0] - layer)


@dataclass(frozen=True)
class ReadingMemory:
    """Bytes that a pass of a frozen model over candidates holds at its peak, prompts shared (see `RewardBackbone`)."""

    weights: int
    cache_per_token: int  # keys and values of all layers
    spread_per_token: int  # keys and values of one layer, repeated to every query head
    forward_per_token: float  # of a layer at its peak
    read_per_token: int  # what a readout makes of the states
    logits: int  # of the piece of tokens whose likelihoods are computed at once; 0 where none are

    def total(self, batch_tokens: int, longest: int) -> int:
        """The most that a pass can hold, texts being as unfavourable as the batches allow.

        Args:
            batch_tokens: as of `RewardBackbone`: prompts of twice as many tokens are run at once, and completions of so
                many continue copies of prompts of at most four times as many.
            longest: tokens of the longest text, which is run whole whatever its length.
        """
        tokens, prompts, copies = max(batch_tokens, longest), max(2 * batch_tokens, longest), 4 * batch_tokens
        first = prompts * max(self.forward_per_token + self.cache_per_token, 2 * self.cache_per_token)
        then: float = (prompts + copies + tokens) * self.cache_per_token + (copies + tokens) * self.spread_per_token
        then += tokens * (self.forward_per_token + self.read_per_token) + self.logits
        return round(self.weights + max(first, then))


def reading_memory(config: Any, readout: str, dtype: torch.dtype, layers: int | None = None) -> ReadingMemory:
    """The memory of a pass that a frozen model of this configuration makes for readout "head" or "probe".

    Attention is taken to run in fused kernels, which never hold the square of a text's length.

    Raises:
        ValueError: the model cannot be built from its configuration.
    """
    text = config.get_text_config()
    settings = TrainingSettings(readout="head" if readout == "head" else "implicit", tuning="lora")
    deepest = layers or int(text.num_hidden_layers)
    whole = _build(config, deepest, settings, dtype, False, adapted=False)
    one = _build(config, 1, settings, dtype, False, adapted=False).eval()
    with torch.inference_mode(), _Live() as live, torch.device("meta"):
        ids = torch.zeros(_ROWS, _TOKENS, dtype=torch.long)
        mask = torch.ones(_ROWS, 1, _TOKENS, _TOKENS, dtype=torch.bool)  # whole, as in `kept_bytes`
        base_of(one)(input_ids=ids, attention_mask=mask, use_cache=False)
    heads = int(text.num_attention_heads)
    size = int(getattr(text, "head_dim", None) or text.hidden_size // heads)
    shared = int(getattr(text, "num_key_value_heads", None) or heads)
    states = int(text.hidden_size) * (3 * dtype.itemsize + 3 * 4)  # as they come, with the prompts', chosen; as float32
    return ReadingMemory(
        weights=sum(p.numel() * p.element_size() for p in whole.parameters()),
        cache_per_token=2 * deepest * shared * size * dtype.itemsize,
        spread_per_token=2 * heads * size * dtype.itemsize,
        forward_per_token=live.most / (_ROWS * _TOKENS),
        read_per_token=states,
        logits=0 if readout == "head" else LOGITS_AT_ONCE * (dtype.itemsize + 4 * 4),
    )


class _Live(TorchDispatchMode):
    """Counts the bytes of tensors that are made within it and still alive: `most` is the peak."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0
        self._held: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        self._held = {key: held for key, held in self._held.items() if not held[0].expired()}
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor) and (key := tensor.untyped_storage()._cdata) not in given:
                self._held[key] = StorageWeakRef(tensor.untyped_storage()), tensor.untyped_storage().nbytes()
        self.most = max(self.most, sum(size for _, size in self._held.values()))
        return made


def _kept(config: Any, layers: int, settings: TrainingSettings, dtype: torch.dtype, checkpointed: bool) -> float:
    """Bytes per token that a forward keeps for its backward, parameters not counted."""
    return kept_bytes(_build(config, layers, settings, dtype, checkpointed), _ROWS, _TOKENS) / (_ROWS * _TOKENS)


def kept_bytes(model: Any, rows: int, tokens: int) -> int:
    """Bytes that a forward of rows × tokens keeps for its backward, parameters not counted."""
    held: dict[int, tuple[int, Any]] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        held[storage._cdata] = storage.nbytes(), storage  # held, so that no other takes its place
        return tensor

    device = next(model.parameters()).device
    ids = torch.zeros(rows, tokens, dtype=torch.long, device=device)
    # whole, so that none is made by its contents
    mask = torch.ones(rows, 1, tokens, tokens, dtype=torch.bool, device=device)
    base = base_of(model.get_base_model() if hasattr(model, "get_base_model") else model)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        states = base(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    parameters = {p.untyped_storage()._cdata for p in model.parameters()}
    del states
    return sum(size for key, (size, _) in held.items() if key not in parameters)


def _build(
    config: Any, layers: int, settings: TrainingSettings, dtype: torch.dtype, checkpointed: bool, adapted: bool = True
) -> Any:
    changed = copy.deepcopy(config)
    text = changed.get_text_config()
    text.num_hidden_layers = layers
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:layers]
    family: Any = AutoModelForSequenceClassification if settings.readout == "head" else AutoModelForCausalLM
    if settings.readout == "head":
        changed.num_labels = 1
    with loading(str(getattr(config, "name_or_path", "") or config.model_type)), torch.device("meta"):
        model = family.from_config(changed, dtype=dtype if settings.tuning == "lora" else torch.float32)
        if settings.tuning == "lora" and adapted:
            model = with_adapter(model, settings, checkpointed)
    return model.train()
