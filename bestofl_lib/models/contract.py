"""What a sampler is asked for and what it returns: the types that all samplers and callers share.

A sampler may run in this process, in many, or behind an endpoint. It loads no model library.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

DTYPES = ("auto", "float32", "bfloat16", "float16")  # of weights and cache; "auto": what suits the device


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. The order is that of Transformers: temperature, then top_k, then top_p."""

    temperature: float = 0.8  # 0: always the likeliest token
    top_p: float = 0.95  # keep the likeliest tokens that together reach this probability; 1: all
    top_k: int = 0  # keep this many of the likeliest tokens; 0: all
    max_new_tokens: int = 512  # longest completion, in tokens, with its end-of-text token

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise ValueError(f"temperature {self.temperature} must be 0 (greedy) or above, such as 0.8")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p {self.top_p} must be above 0 and at most 1 (1 keeps every token)")
        if self.top_k < 0 or int(self.top_k) != self.top_k:
            raise ValueError(f"top_k {self.top_k} must be a whole number, 0 (keep every token) or above")
        if self.max_new_tokens < 1 or int(self.max_new_tokens) != self.max_new_tokens:
            raise ValueError(f"max_new_tokens {self.max_new_tokens} must be a whole number of at least 1")
        # 1 and 1.0 are the same setting and must have the same hash
        object.__setattr__(self, "temperature", float(self.temperature))
        object.__setattr__(self, "top_p", float(self.top_p))
        object.__setattr__(self, "top_k", int(self.top_k))
        object.__setattr__(self, "max_new_tokens", int(self.max_new_tokens))


@dataclass(frozen=True)
class Unfinished:
    """What was written of a completion that has not ended: enough to continue it exactly."""

    tokens: tuple[int, ...]  # generated so far
    logprob: float  # summed over them, of the untempered model
    seconds: float  # its share of wall time so far


@dataclass(frozen=True)
class Request:
    """One completion to draw."""

    problem_id: str
    language: str
    sample_index: int
    messages: tuple[Mapping[str, str], ...]  # the chat; the model continues the last message if it is the assistant's
    seed: int | None  # of this candidate's own random stream, 0 to 2**63 - 1; None, in what comes back: unseeded
    stop: tuple[str, ...] = ()  # texts at which the completion ends; they are not part of it
    begun: Unfinished | None = None  # what an interrupted call wrote of it; a sampler may also start again


@dataclass(frozen=True)
class Completion:
    """What the model wrote for one request."""

    text: str  # without special tokens
    n_tokens: int  # tokens generated, the end-of-text token included
    finish_reason: str  # "stop", "length" or "error"
    logprob: float | None  # summed over the generated tokens, of the untempered model; None with "error"
    seconds: float  # its share of its batch's wall time
    token_ids: tuple[int, ...] | None = None  # where a server gives them
    token_logprobs: tuple[float, ...] | None = None  # one per generated token, of the untempered model


class Sampler(Protocol):
    """Anything that can write completions."""

    name: str  # of the model, for tables and charts
    identity: str  # model and revision, or a hash of its weights; cheap to know, no model is loaded for it

    def sample(
        self, requests: Sequence[Request], settings: Sampling
    ) -> Iterator[tuple[Request, Completion | Unfinished]]:
        """Yield every request once with its completion, as they finish, in any order.

        In between, a sampler may hand over what is still `Unfinished`, so that an interrupt does not lose it.

        A sampler that could not use a request's seed yields the request with the seed that was used instead.
        """
        ...


def check_engine(engine: str) -> None:
    """Refuse what is neither this process nor a Ray cluster.

    Raises:
        ValueError: naming the choices.
    """
    if engine not in ("local", "ray") and not engine.startswith("ray://"):
        raise ValueError(f"unknown engine {engine!r}; use 'local', 'ray' or 'ray://head:10001'")


def check_device(device: str) -> None:
    """Refuse what is no name of a device.

    Raises:
        ValueError: naming the choices.
    """
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", device):
        raise ValueError(f"unknown device {device!r}; use 'auto', 'cpu', 'cuda', 'cuda:1' or 'mps'")
