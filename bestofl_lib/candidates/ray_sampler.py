"""Samples with the Transformers sampler on every worker of a Ray cluster.

A candidate's stream depends on its own seed alone, so what is drawn is the same, candidate by candidate, as on one
machine, however many workers there are and whatever happens to them. This process is the only one that stores.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bestofl_lib.candidates.transformers_sampler import TransformersSampler
from bestofl_lib.models.contract import Completion, Request, Sampling
from bestofl_lib.models.ray_crew import RayCluster

_CHUNK = 256  # requests that a worker is given at once; what a lost worker costs


class RaySampler:
    """A `Sampler` over a Ray cluster.

    Args:
        model, revision, dtype, chat_template, batch_rows: see `TransformersSampler`; a folder must be there on every
            node under the same path.
        engine, device, workers: see `RayCluster`.
        chunk: requests that a worker is given at once.

    Raises:
        ImportError: Ray is not installed.
        FileNotFoundError, ValueError: see `TransformersSampler`.
    """

    def __init__(
        self,
        model: str,
        revision: str | None = None,
        *,
        engine: str = "ray",
        device: str = "auto",
        dtype: str = "auto",
        workers: int | None = None,
        chat_template: str | None = None,
        batch_rows: int | None = None,
        chunk: int = _CHUNK,
    ):
        self._cluster = RayCluster(engine, device, workers)
        if chunk < 1:
            raise ValueError(f"chunk is {chunk}; a worker must be given at least 1 request at a time")
        # the worker's number format follows from its device, which need not be this machine's
        self._options = {"model": str(model), "revision": revision, "dtype": dtype, "chat_template": chat_template,
                         "batch_rows": batch_rows}  # fmt: skip
        local = TransformersSampler(model, revision, device="cpu", chat_template=chat_template, batch_rows=batch_rows)
        self.name, self.identity, self.chunk = local.name, local.identity, chunk
        self.facts: dict[str, Any] = {}

    def sample(self, requests: Sequence[Request], settings: Sampling) -> Iterator[tuple[Request, Completion]]:
        """Yield every request once with its completion, as chunks of them finish.

        Raises:
            RuntimeError: workers die again and again without finishing anything.
            ConnectionError: no cluster at the address of `engine`.
        """
        self.facts = {}
        make, call = functools.partial(_open, self._options), functools.partial(_write, settings)
        with self._cluster.connected():
            for _, written in self._cluster.work(make, list(_chunks(requests, self.chunk)), call, self.facts):
                yield from written


def _open(options: Mapping[str, Any], device: str) -> TransformersSampler:
    return TransformersSampler(**options, device=device, workers=1)


def _write(
    settings: Sampling, sampler: TransformersSampler, requests: Sequence[Request]
) -> list[tuple[Request, Completion]]:
    drawn = sampler.sample(requests, settings)
    return [(request, written) for request, written in drawn if isinstance(written, Completion)]


def _chunks(requests: Sequence[Request], size: int) -> Iterator[list[Request]]:
    """Requests in chunks of about `size`; those of one prompt stay together, so that it is read once."""
    by_prompt: dict[tuple[tuple[str, str], ...], list[Request]] = {}
    for request in requests:
        key = tuple((message["role"], message["content"]) for message in request.messages)
        by_prompt.setdefault(key, []).append(request)
    chunk: list[Request] = []
    for group in by_prompt.values():
        for start in range(0, len(group), size):
            if chunk and len(chunk) + len(group[start : start + size]) > size:
                yield chunk
                chunk = []
            chunk += group[start : start + size]
    if chunk:
        yield chunk
