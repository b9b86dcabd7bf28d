"""Ways to read numbers off a model's hidden states: one vector per candidate.

Each is handed the states of a batch and where each completion begins and ends. It knows nothing of files, batching or
training.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch

_STATISTICS = 8
_LOGITS_AT_ONCE = 1 << 26  # numbers


class Readout(Protocol):
    """One way to read a vector per candidate."""

    name: str  # part of the identity of cached values
    needs_language_model: bool  # reads the likelihood of tokens, so the output embeddings must be there

    def width(self, hidden_size: int) -> int:
        """Numbers per candidate."""
        ...

    def read(
        self, model: Any, states: torch.Tensor, tokens: torch.Tensor, starts: list[int], ends: list[int]
    ) -> torch.Tensor:
        """The vectors of a batch.

        Args:
            model: the whole model, for its output layers.
            states: (rows, 1 + tokens, hidden), the state *before* each token, and after the last one.
            tokens: (rows, tokens), right-padded.
            starts, ends: where each row's completion begins and ends in tokens.

        Returns:
            (rows, width) float32.
        """
        ...


class LastState:
    """The hidden state after the last token: what a linear head of a sequence classifier reads."""

    name = "features"
    needs_language_model = False

    def width(self, hidden_size: int) -> int:
        return hidden_size

    def read(
        self, model: Any, states: torch.Tensor, tokens: torch.Tensor, starts: list[int], ends: list[int]
    ) -> torch.Tensor:
        return _last(states, ends).float()


class HeadReward:
    """The reward itself: the model's `score` layer on the state after the last token."""

    name = "reward"
    needs_language_model = False

    def width(self, hidden_size: int) -> int:
        return 1

    def read(
        self, model: Any, states: torch.Tensor, tokens: torch.Tensor, starts: list[int], ends: list[int]
    ) -> torch.Tensor:
        return model.score(_last(states, ends)).float()


class Probe:
    """The last state, the mean state over the completion, and eight statistics of the likelihoods of its tokens."""

    name = "probe"
    needs_language_model = True

    def width(self, hidden_size: int) -> int:
        return 2 * hidden_size + _STATISTICS

    def read(
        self, model: Any, states: torch.Tensor, tokens: torch.Tensor, starts: list[int], ends: list[int]
    ) -> torch.Tensor:
        inside = _inside(tokens, starts, ends)
        mean = (states[:, 1:].float() * inside[..., None]).sum(1) / inside.sum(1, keepdim=True)
        logprob, entropy = token_likelihoods(model, states[:, :-1][inside], tokens[inside])
        rows = []
        sizes = inside.sum(1).tolist()
        for p, e in zip(logprob.split(sizes), entropy.split(sizes), strict=True):
            low = p.topk(min(3, len(p)), largest=False).values
            numbers = [p.sum(), p.mean(), low[0], low.mean(), p[-6:].mean(), e.mean(), e.max()]
            rows.append(torch.stack([*numbers, torch.full_like(low[0], len(p))]))
        return torch.cat([_last(states, ends).float(), mean, torch.stack(rows)], 1)

    def feature_scales(self, hidden_size: int) -> np.ndarray:
        """(width,) how large each standardised number enters a fit: the many dimensions of a state count less than the
        few statistics (by the fourth root of their number, the best of five tried on a lab policy)."""
        return np.concatenate([np.full(2 * hidden_size, hidden_size**-0.25), np.ones(_STATISTICS)])


class Likelihood:
    """The log-likelihood of the completion, summed over its tokens: what an implicit reward is computed from."""

    name = "implicit"
    needs_language_model = True

    def width(self, hidden_size: int) -> int:
        return 1

    def read(
        self, model: Any, states: torch.Tensor, tokens: torch.Tensor, starts: list[int], ends: list[int]
    ) -> torch.Tensor:
        inside = _inside(tokens, starts, ends)
        logprob, _ = token_likelihoods(model, states[:, :-1][inside], tokens[inside])
        return torch.stack([part.sum() for part in logprob.split(inside.sum(1).tolist())])[:, None]


class TokenValue:
    """The value of a verifier at the last token.

    Args:
        weight: (hidden,) of its value head.
        bias: scalar.
    """

    name = "verifier"
    needs_language_model = True

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor):
        self.weight, self.bias = weight.float(), bias.float()

    def width(self, hidden_size: int) -> int:
        return 1

    def read(
        self, model: Any, states: torch.Tensor, tokens: torch.Tensor, starts: list[int], ends: list[int]
    ) -> torch.Tensor:
        last = _last(states, ends).float()
        return last @ self.weight.to(last.device)[:, None] + self.bias.to(last.device)


def token_likelihoods(model: Any, before: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of each token, and entropy of the distribution it was drawn from; in pieces, to bound memory.

    Args:
        before: (tokens, hidden), the state before each token.
        tokens: (tokens,) ids.

    Returns:
        Two (tokens,) float32.
    """
    head = model.get_output_embeddings()
    logprob, entropy = [], []
    for part in torch.arange(len(tokens), device=tokens.device).split(max(1, _LOGITS_AT_ONCE // head.weight.shape[0])):
        logs = head(before[part]).float().log_softmax(-1)
        logprob.append(logs.gather(1, tokens[part][:, None])[:, 0])
        entropy.append(-(logs.exp() * logs).sum(-1))
    return torch.cat(logprob), torch.cat(entropy)


def _last(states: torch.Tensor, ends: list[int]) -> torch.Tensor:
    return states[torch.arange(len(ends), device=states.device), torch.tensor(ends, device=states.device)]


def _inside(tokens: torch.Tensor, starts: list[int], ends: list[int]) -> torch.Tensor:
    """(rows, tokens) bool: tokens of the completion."""
    first, end = (torch.tensor(edge, device=tokens.device)[:, None] for edge in (starts, ends))
    place = torch.arange(tokens.shape[1], device=tokens.device)[None]
    return (place >= first) & (place < end)
