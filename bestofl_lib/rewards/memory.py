"""What training will hold in memory, computed before it starts on a model without weights (device "meta"), layer by
layer.

The count runs Transformers' own forward, so it follows the architecture. It leaves out mixed precision, which keeps
less.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from bestofl_lib.models.opening import loading
from bestofl_lib.rewards.logits import base_of
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
    mask = torch.ones(
        rows, 1, tokens, tokens, dtype=torch.bool, device=device
    )  # whole, so that none is made by its contents
    base = base_of(model.get_base_model() if hasattr(model, "get_base_model") else model)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        states = base(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    parameters = {p.untyped_storage()._cdata for p in model.parameters()}
    del states
    return sum(size for key, (size, _) in held.items() if key not in parameters)


def _build(config: Any, layers: int, settings: TrainingSettings, dtype: torch.dtype, checkpointed: bool) -> Any:
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
        if settings.tuning == "lora":
            model = with_adapter(model, settings, checkpointed)
    return model.train()
