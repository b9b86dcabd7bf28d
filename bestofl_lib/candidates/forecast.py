"""Says what a call of `generate` would take: completions wanted and held, tokens, time, memory and price."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from bestofl_lib.candidates.sampling import Wanted, requested
from bestofl_lib.candidates.store import Store
from bestofl_lib.models.contract import Request, Sampler, Sampling
from bestofl_lib.problems.prompts import Asking
from bestofl_lib.progress import duration
from bestofl_lib.tables import KEY


@dataclass(frozen=True)
class Forecast:
    """What is wanted, what is stored, and what the rest would take."""

    wanted: int  # completions asked for
    held: int  # of them in the store
    most_tokens: int  # that the missing ones can have
    tokens_per_second: float | None  # measured on this machine; None: nothing is missing, or a server writes
    weights: int  # bytes; 0 where nothing was measured
    cache_per_token: int  # bytes
    free: int = 0  # bytes on the device before the model is loaded
    rows: int = 0  # completions written at once in this memory
    place: str = ""  # device and number format
    price: float = 0.0  # of a million tokens that a server writes; 0: unknown

    @property
    def most_seconds(self) -> float:
        """The time if every completion were as long as it may be."""
        return self.most_tokens / self.tokens_per_second if self.tokens_per_second else 0.0

    @property
    def most_cost(self) -> float:
        """The price if every completion were as long as it may be, in the currency of `price`; prompts not counted."""
        return cost(self.most_tokens, self.price)

    def __str__(self) -> str:
        said = f"{self.wanted:,} completions wanted, {self.held:,} held"
        if not self.tokens_per_second:
            rest = f"; at most {self.most_tokens:,} tokens for the rest" if self.most_tokens else ": nothing to draw"
            cost = f", which cost at most {self.most_cost:,.2f}" if self.most_tokens and self.price else ""
            return said + rest + cost
        return (
            f"{said}; at most {self.most_tokens:,} tokens for the rest, at {self.tokens_per_second:,.0f} tokens/s "
            f"(measured now) at most {duration(self.most_seconds)}; "
            f"{memory_words(self.weights, self.cache_per_token, self.free, self.rows, self.place)}"
        )


def forecast(
    problems: pl.DataFrame,
    store: Store,
    sampler: Sampler,
    n: Wanted,
    settings: Sampling,
    *,
    seed: int = 0,
    style: str = "native",
    system_prompt: str = "",
    asking: Asking | None = None,
) -> Forecast:
    """What `generate` with the same arguments would take. It loads the model and writes a few tokens, which are not
    kept.

    Raises:
        ValueError: as `generate`; a prompt that leaves no room in the model's context; a model that does not fit in
            memory.
    """
    prompts, _, wanted = requested(
        problems, sampler.identity, n, settings, seed, style, system_prompt, asking or Asking()
    )
    missing = wanted.join(store.peek(), on=[*KEY, "draw"], how="anti", maintain_order="left")
    left = missing.height
    speed, weights, cache, free, rows, place = None, 0, 0, 0, 0, ""
    if left and (measured := _as_measurable(sampler)) is not None:
        memory = measured.memory()
        weights, cache = memory.weights, memory.cache_per_token
        keys = missing.select(*KEY, "row").iter_rows()
        requests = [Request(problem, language, k, prompts[row], k) for problem, language, k, row in keys]
        place = f"{measured.device.type}, {str(measured.dtype).removeprefix('torch.')}"
        free, rows = measured.fitting(requests, settings)
        if not rows:
            raise ValueError(
                f"{measured.name} does not fit: {memory_words(weights, cache, free, rows, place)}; take a smaller "
                "model or dtype, a device with more memory, or a server (model: http://host:8000/v1)"
            )
        speed = measured.tokens_per_second(requests, settings)
    most = left * settings.max_new_tokens
    price = getattr(sampler, "price", 0.0)  # of those that ask servers
    return Forecast(wanted.height, wanted.height - left, most, speed, weights, cache, free, rows, place, price)


def cost(tokens: int, price: float) -> float:
    """What so many tokens written by a server cost, in the currency of `price`, which is that of a million."""
    return tokens * price / 1e6


def memory_words(weights: int, cache_per_token: int, free: int, rows: int, place: str) -> str:
    """What a model takes and what fits, in one phrase.

    >>> memory_words(15_230_000_000, 57_344, 80_000_000_000, 512, "cuda, bfloat16").partition("; ")[2]
    'in 80.0 GB free 512 completions are written at once'
    """
    fit = f"{rows:,} completions are written at once" if rows else "not one completion fits"
    return (
        f"memory ({place}): weights {weights / 1e9:.1f} GB, cache {cache_per_token / 1e3:.0f} kB per token; "
        f"in {free / 1e9:.1f} GB free {fit}"
    )


def _as_measurable(sampler: Sampler) -> Any:
    """The sampler if it loads a model in this process; no model library is imported for one that does not."""
    return sampler if hasattr(sampler, "tokens_per_second") else None
