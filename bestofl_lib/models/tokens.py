"""Random streams and the choice of a token: the same draw whatever the batch, its order or the device."""

from __future__ import annotations

import math

import numpy as np
import torch

from bestofl_lib.models.contract import Sampling

UNIFORM_BLOCK = 256  # numbers of a random stream that are made at once


def uniforms(seed: int, start: int, count: int) -> np.ndarray:
    """Numbers start, start + 1, … of one candidate's random stream: (count,) float64 in [0, 1).

    Philox, a counter-based generator, keyed by the seed: no state travels with the row.
    """
    first, last = start // UNIFORM_BLOCK, (start + count - 1) // UNIFORM_BLOCK
    blocks = [
        np.random.Generator(np.random.Philox(key=seed + (block << 64))).random(UNIFORM_BLOCK)
        for block in range(first, last + 1)
    ]
    offset = start - first * UNIFORM_BLOCK
    return np.concatenate(blocks)[offset : offset + count]


def choose_tokens(
    logits: torch.Tensor, u: torch.Tensor, settings: Sampling
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Choose one token per row by inverse transform: the token in whose share of the distribution u falls.

    Args:
        logits: (rows, vocabulary) float32.
        u: (rows,) in [0, 1), one draw per row; not read at temperature 0.
        settings: temperature, then top_k, then top_p, as in Transformers.

    Returns:
        tokens (rows,) int64; their log-probability under the untempered model (rows,) float32; and
        is_bad (rows,) bool: the row's logits hold NaN or +inf, its token and log-probability mean nothing.
    """
    logprobs = logits.log_softmax(-1)
    is_bad = logprobs[:, 0].isnan()  # one NaN or +inf makes its whole row NaN
    if bool(is_bad.any()):
        logprobs = torch.where(is_bad[:, None], -math.log(logits.shape[1]), logprobs)
    if settings.temperature == 0:
        tokens = logprobs.argmax(-1)
    else:
        weights = torch.softmax(logprobs / settings.temperature, -1)
        is_whole = settings.top_k == 0 and settings.top_p == 1
        tokens = _invert_all(weights, u) if is_whole else _invert_top(weights, u, settings)
    return tokens, logprobs.gather(1, tokens[:, None])[:, 0], is_bad


def _invert_all(weights: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """Over the whole vocabulary, in the order of token ids: first the block of 64 tokens, then the token in it."""
    rows, size = weights.shape
    if size % 64:
        weights = torch.nn.functional.pad(weights, (0, 64 - size % 64))
    blocks = weights.view(rows, -1, 64)
    sums = blocks.sum(-1).to(u.dtype).cumsum(-1)
    target = u * sums[:, -1]
    block = (sums <= target[:, None]).sum(-1).clamp_(max=sums.shape[1] - 1)
    before = torch.where(block > 0, sums.gather(1, (block - 1).clamp_(min=0)[:, None])[:, 0], 0)
    inner = blocks[torch.arange(rows, device=weights.device), block].to(u.dtype)
    return block * 64 + _invert(inner, target - before)


def _invert_top(weights: torch.Tensor, u: torch.Tensor, settings: Sampling) -> torch.Tensor:
    """Over the likeliest tokens only. Exact: for rows whose nucleus is not covered, more tokens are looked at."""
    size = weights.shape[1]
    width = min(settings.top_k or 16, size)
    tokens = torch.empty(len(weights), dtype=torch.long, device=weights.device)
    rest: torch.Tensor | None = None  # rows not decided yet; None: all
    while True:
        values, ids = (weights if rest is None else weights[rest]).topk(width)
        values = values.to(u.dtype)
        if settings.top_k:
            values = values / values.sum(-1, keepdim=True)  # top_p is a share of what top_k left
        reached = values.cumsum(-1)
        kept = values * (reached - values < settings.top_p)  # a token is kept while those before it fall short
        target = (u if rest is None else u[rest]) * kept.sum(-1)
        chosen = ids.gather(1, _invert(kept, target)[:, None])[:, 0]
        covered = reached[:, -1] >= settings.top_p
        if settings.top_k or width == size or bool(covered.all()):
            if rest is None:
                return chosen
            tokens[rest] = chosen
            return tokens
        if rest is None:
            tokens, rest = chosen, (~covered).nonzero()[:, 0]
        else:
            tokens[rest] = chosen
            rest = rest[~covered]
        width = min(width * 8, size) if width < 1024 else size


def _invert(weights: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The first position whose cumulated weight exceeds target, never one of weight 0: (rows,)."""
    reached = weights.cumsum(-1)
    last = weights.shape[1] - 1 - (weights.flip(-1) > 0).to(torch.uint8).argmax(-1)
    return torch.minimum((reached <= target[:, None]).sum(-1), last)
