"""Says what a call of `generate` would take before it is made: completions wanted and held, tokens, time and memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from bestofl_lib.candidates.sampling import requested
from bestofl_lib.candidates.store import Store
from bestofl_lib.models.contract import Request, Sampler, Sampling
from bestofl_lib.problems.prompts import Asking
from bestofl_lib.tables import KEY


@dataclass(frozen=True)
class Forecast:
    """What is wanted, what is there, and what the rest would take."""

    wanted: int  # completions asked for
    held: int  # of them in the store
    most_tokens: int  # that the missing ones can have
    tokens_per_second: float | None  # measured on this machine; None: nothing is missing, or a server writes
    weights: int  # bytes; 0 where nothing was measured
    cache_per_token: int  # bytes

    @property
    def most_seconds(self) -> float:
        """The time if every completion were as long as it may be."""
        return self.most_tokens / self.tokens_per_second if self.tokens_per_second else 0.0

    def __str__(self) -> str:
        said = f"{self.wanted:,} completions wanted, {self.held:,} held"
        if not self.tokens_per_second:
            rest = f"; at most {self.most_tokens:,} tokens for the rest" if self.most_tokens else ": nothing to draw"
            return said + rest
        minutes = self.most_seconds / 60
        time = f"{minutes / 60:.1f} hours" if minutes > 90 else f"{max(1, round(minutes))} minutes"
        return (
            f"{said}; at most {self.most_tokens:,} tokens for the rest, at {self.tokens_per_second:,.0f} tokens/s (measured now) "
            f"at most {time}; memory: weights {self.weights / 1e9:.1f} GB, cache {self.cache_per_token / 1e3:.0f} kB per token"
        )


def forecast(
    problems: pl.DataFrame,
    store: Store,
    sampler: Sampler,
    n: int | Mapping[str, int],
    settings: Sampling,
    *,
    seed: int = 0,
    style: str = "native",
    system: str = "",
    asking: Asking | None = None,
) -> Forecast:
    """What `generate` with the same arguments would take. It loads the model and writes a few tokens, which are not kept.

    Raises:
        ValueError: as `generate`, and for a prompt that leaves no room in the model's context.
    """
    prompts, _, wanted = requested(problems, sampler.identity, n, settings, seed, style, system, asking or Asking())
    missing = wanted.join(store.peek(), on=[*KEY, "draw"], how="anti", maintain_order="left")
    left = missing.height
    speed, weights, cache = None, 0, 0
    if left and (measured := _as_measurable(sampler)) is not None:
        memory = measured.memory()
        weights, cache = memory.weights, memory.cache_per_token
        rows = missing.select(*KEY, "row").iter_rows()
        requests = [Request(problem, language, k, prompts[row], k) for problem, language, k, row in rows]
        speed = measured.tokens_per_second(requests, settings)
    return Forecast(wanted.height, wanted.height - left, left * settings.max_new_tokens, speed, weights, cache)


def _as_measurable(sampler: Sampler) -> Any:
    """The sampler if it loads a model in this process; no model library is imported for one that does not."""
    return sampler if hasattr(sampler, "tokens_per_second") else None
