"""A language model's own logits of hidden states that are computed already: its head, with soft-capping and scaling.

It relies on one convention of Transformers: a model for causal language modelling calls its base model, or its decoder,
once and computes logits from the last hidden state that this returns.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

_EXACT = 1e-3  # allowed difference of a logit in float32, as a share of the largest
_COARSE = 0.05  # the same in shorter formats


def own_logits(model: Any, states: torch.Tensor) -> torch.Tensor:
    """What the model's own forward computes from its last hidden states; gradients flow through.

    Args:
        model: for causal language modelling.
        states: (tokens, hidden), as its base model returns them.

    Returns:
        (tokens, vocabulary) float32.

    Raises:
        NotImplementedError: the model does not use what its base model returns.
    """
    held = _States(states[None])
    with _returning(model, held):
        nothing = torch.zeros(1, len(states), dtype=torch.long, device=states.device)
        logits = model(input_ids=nothing, use_cache=False).logits
    if not held.is_used:
        raise NotImplementedError(f"{type(model).__name__} computes logits without its base model")
    return logits[0].float()


def base_of(model: Any) -> Any:
    """The part of a model that computes hidden states from tokens.

    Raises:
        ValueError: there is none that is known.
    """
    base = model.base_model
    if base is model:  # some classes of Transformers name another part than they have
        base = getattr(model, "model", None)
    if base is None:
        raise ValueError(f"{type(model).__name__} has no base model whose states could be read; take another model")
    return base


def refuse_other_logits(model: Any, source: str) -> None:
    """Refuse a language model whose likelihoods cannot be read from its hidden states.

    Raises:
        ValueError: logits from its hidden states are not those of its own forward.
    """
    device = next(model.parameters()).device
    ids = torch.tensor([[3, 10, 17, 24, 31]], device=device) % int(model.get_output_embeddings().weight.shape[0])
    with torch.inference_mode():
        expected = model(input_ids=ids, use_cache=False).logits[0].float()
        states = base_of(model)(ids, use_cache=False).last_hidden_state[0]
        try:
            found = own_logits(model, states)
        except (NotImplementedError, TypeError, AttributeError, RuntimeError) as error:
            gap, reason = torch.inf, str(error)
        else:
            gap, reason = float((found - expected).abs().max()), "they differ from those of the model itself"
    allowed = (_EXACT if model.dtype == torch.float32 else _COARSE) * max(1.0, float(expected.abs().max()))
    if not gap <= allowed and bool(expected.isfinite().all()):
        raise ValueError(
            f"logits of {source} ({type(model).__name__}) cannot be computed from its hidden states ({reason}), so "
            "likelihoods of tokens cannot be read; use readout 'head'"
        )


class _States:
    """Takes the place of a base model's output: the last hidden states, and nothing else."""

    def __init__(self, states: torch.Tensor):
        self._states = states
        self.is_used = False

    @property
    def last_hidden_state(self) -> torch.Tensor:
        self.is_used = True
        return self._states

    def __getitem__(self, place: Any) -> Any:
        self.is_used = True
        return (self._states,)[place]

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


@contextlib.contextmanager
def _returning(model: Any, held: _States) -> Iterator[None]:
    """The model's base model and decoder return `held`, whatever their input."""
    base, decoder = base_of(model), model.get_decoder()  # which for some classes is the output layer, called "decoder"
    modules = {id(part): part for part in (base, decoder) if any(part is inner for inner in base.modules())}
    before = {key: part.__dict__.get("forward") for key, part in modules.items()}
    try:
        for part in modules.values():
            part.forward = lambda *_, **__: held
        yield
    finally:
        for key, part in modules.items():
            del part.forward
            if before[key] is not None:  # a wrapper around the class's own
                part.forward = before[key]
