"""Ways to read numbers off a model's hidden states: one vector per candidate.

Each is handed the states of a batch and where each completion begins and ends. It knows nothing of files, batching or
training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from bestofl_lib.rewards.logits import own_logits
from bestofl_lib.rewards.steps import MOST_STEPS

_STATISTICS = 8
LOGITS_AT_ONCE = 1 << 26  # numbers, of the tokens whose likelihoods are computed together


@dataclass(frozen=True)
class Batch:
    """Candidates that were run together."""

    tokens: torch.Tensor  # (rows, tokens), right-padded
    starts: list[int]  # where each row's completion begins
    ends: list[int]  # and ends
    marks: list[list[int]] | None  # tokens of the completion, counted from its start, whose state *before* them is
    # read (its length: the state after the last); None: the texts have no marks


class Readout(Protocol):
    """One way to read a vector per candidate."""

    name: str  # part of the identity of cached values
    needs_language_model: bool  # reads the likelihood of tokens, so the output embeddings must be there

    def width(self, hidden_size: int) -> int:
        """Numbers per candidate."""
        ...

    def read(self, model: Any, states: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The vectors of a batch.

        Args:
            model: the whole model, for its output layers.
            states: (rows, 1 + tokens, hidden), the state *before* each token, and after the last one.
            batch: what was run.

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

    def read(self, model: Any, states: torch.Tensor, batch: Batch) -> torch.Tensor:
        return _last(states, batch.ends).float()


class HeadReward:
    """The reward itself: the model's `score` layer on the state after the last token."""

    name = "reward"
    needs_language_model = False

    def width(self, hidden_size: int) -> int:
        return 1

    def read(self, model: Any, states: torch.Tensor, batch: Batch) -> torch.Tensor:
        return model.score(_last(states, batch.ends)).float()


class Probe:
    """The last state, the mean state over the completion, and eight statistics of the likelihoods of its tokens."""

    name = "probe"
    needs_language_model = True

    def width(self, hidden_size: int) -> int:
        return 2 * hidden_size + _STATISTICS

    def read(self, model: Any, states: torch.Tensor, batch: Batch) -> torch.Tensor:
        inside = _inside(batch)
        mean = (states[:, 1:].float() * inside[..., None]).sum(1) / inside.sum(1, keepdim=True)
        logprob, entropy = token_likelihoods(model, states[:, :-1][inside], batch.tokens[inside])
        rows = []
        sizes = inside.sum(1).tolist()
        for p, e in zip(logprob.split(sizes), entropy.split(sizes), strict=True):
            low = p.topk(min(3, len(p)), largest=False).values
            numbers = [p.sum(), p.mean(), low[0], low.mean(), p[-6:].mean(), e.mean(), e.max()]
            rows.append(torch.stack([*numbers, torch.full_like(low[0], len(p))]))
        return torch.cat([_last(states, batch.ends).float(), mean, torch.stack(rows)], 1)

    def feature_scales(self, hidden_size: int) -> np.ndarray:
        """(width,) how large each standardised number enters a fit; what is large is hardly penalised.

        The summed log-likelihood leads: by itself it is a good reward where the base is good at the task. The other
        statistics and the many dimensions of the states only correct it. Chosen on the lab's dev split, see
        reports/LOG.md.
        """
        return np.concatenate([np.full(2 * hidden_size, 0.03), [10.0], np.full(_STATISTICS - 1, 0.1)])


class Likelihood:
    """The log-likelihood of the completion, summed over its tokens: what an implicit reward is computed from."""

    name = "implicit"
    needs_language_model = True

    def width(self, hidden_size: int) -> int:
        return 1

    def read(self, model: Any, states: torch.Tensor, batch: Batch) -> torch.Tensor:
        inside = _inside(batch)
        logprob, _ = token_likelihoods(model, states[:, :-1][inside], batch.tokens[inside])
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

    def read(self, model: Any, states: torch.Tensor, batch: Batch) -> torch.Tensor:
        return self.of(_last(states, batch.ends))

    def of(self, states: torch.Tensor) -> torch.Tensor:
        """(numbers, hidden) → (numbers, 1) float32."""
        return states.float() @ self.weight.to(states.device)[:, None] + self.bias.to(states.device)


class PrefixProbe(Probe):
    """As `Probe`, of the beginning of a completion up to a step: nothing stands behind it."""

    name = "steps"


class StepRewards:
    """One probability per step of the completion, at the marks that its text sets.

    Args:
        name: part of the identity of cached values.
        output: (numbers, hidden) → (numbers, labels) logits.
        good: column of the label "right".
        labels: the columns that share the probability; None: all.
        needs_language_model: whether `output` is a language model's own.
    """

    def __init__(
        self, name: str, output: Callable[[Any, torch.Tensor], torch.Tensor], good: int,
        labels: list[int] | None = None, needs_language_model: bool = False,
    ):  # fmt: skip
        self.name, self.output, self.good, self.labels = name, output, good, labels
        self.needs_language_model = needs_language_model

    @classmethod
    def of_value(cls, value: TokenValue) -> StepRewards:
        """With a value head: its sigmoid."""

        def both(model: Any, states: torch.Tensor) -> torch.Tensor:
            logit = value.of(states)
            return torch.cat([torch.zeros_like(logit), logit], 1)

        return cls("steps", both, good=1, needs_language_model=True)

    def width(self, hidden_size: int) -> int:
        return MOST_STEPS

    def read(self, model: Any, states: torch.Tensor, batch: Batch) -> torch.Tensor:
        if batch.marks is None:
            raise RuntimeError(f"readout {self.name!r} needs texts with marks")
        found = torch.full((len(states), MOST_STEPS), float("nan"), device=states.device)
        rows = [row for row, marks in enumerate(batch.marks) for _ in marks]
        if not rows:
            return found
        places = [start + m for start, marks in zip(batch.starts, batch.marks, strict=True) for m in marks]
        # the last step last
        columns = [MOST_STEPS - len(marks) + i for marks in batch.marks for i in range(len(marks))]
        logits = self.output(model, states[rows, places]).float()
        if self.labels is not None:
            logits = logits[:, self.labels]
            good = self.labels.index(self.good)
        else:
            good = self.good
        found[rows, columns] = logits.softmax(-1)[:, good]
        return found


def token_likelihoods(model: Any, before: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of each token, and entropy of the distribution it was drawn from; in pieces, to bound memory.

    Args:
        before: (tokens, hidden), the state before each token.
        tokens: (tokens,) ids.

    Returns:
        Two (tokens,) float32.
    """
    vocabulary = int(model.get_output_embeddings().weight.shape[0])
    logprob, entropy = [], []
    for part in torch.arange(len(tokens), device=tokens.device).split(max(1, LOGITS_AT_ONCE // vocabulary)):
        logs = own_logits(model, before[part]).log_softmax(-1)
        logprob.append(logs.gather(1, tokens[part][:, None])[:, 0])
        entropy.append(-(logs.exp() * logs).sum(-1))
    return torch.cat(logprob), torch.cat(entropy)


def _last(states: torch.Tensor, ends: list[int]) -> torch.Tensor:
    return states[torch.arange(len(ends), device=states.device), torch.tensor(ends, device=states.device)]


def _inside(batch: Batch) -> torch.Tensor:
    """(rows, tokens) bool: tokens of the completion."""
    first, end = (torch.tensor(edge, device=batch.tokens.device)[:, None] for edge in (batch.starts, batch.ends))
    place = torch.arange(batch.tokens.shape[1], device=batch.tokens.device)[None]
    return (place >= first) & (place < end)
