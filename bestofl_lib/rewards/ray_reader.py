"""Reads reward models of this project, or imported ones, on every worker of a Ray cluster.

To the cache of rewards it looks like one model in this process, which stays the only one that stores. The folder of
reward models must be there on every node under the same path.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bestofl_lib.models.ray_crew import RayCluster
from bestofl_lib.rewards.backbone import RewardBackbone
from bestofl_lib.rewards.opening import open_reward_model
from bestofl_lib.rewards.spec import RewardModelSpec

_CHUNK = 2048  # candidates that a worker is given at once; what a lost worker costs

Work = tuple[list[int], list[tuple[str, str]], list[int], list[str]]  # rows, their prompts, prompt_of, completions


class RayReader:
    """One reward model on a cluster, as `cached_values` takes it.

    Args:
        place, spec: of the reward model.
        cluster: connected by the caller.
        options: dtype and batch_tokens, see `RewardBackbone`.
        chunk: candidates that a worker is given at once.

    Attributes:
        facts: workers, and how many were lost, at the last `batches`.
    """

    missing_is_final = False

    def __init__(
        self, place: Path, spec: RewardModelSpec, cluster: RayCluster, options: Mapping[str, Any], chunk: int = _CHUNK
    ):
        self.style, self.chunk, self.facts = spec.style, chunk, dict[str, Any]()
        self._cluster, self._make = cluster, functools.partial(_open, place.resolve(), spec, dict(options))
        ((_, described),) = self._cluster.work(self._make, [None], _describe, {})  # by a worker: its device decides
        self._identity, self._width = described

    @property
    def width(self) -> int:
        """Numbers per candidate."""
        return self._width

    def identity(self) -> str:
        """That of the model on one worker's device: rewards of a machine of the same kind are found again."""
        return self._identity

    def batches(
        self, prompts: Sequence[tuple[str, str]], prompt_of: Sequence[int], completions: Sequence[str]
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Row indices, (rows, width) float32, and whether each was cut, as chunks finish.

        Raises:
            RuntimeError: workers die again and again without finishing anything.
        """
        self.facts = {}
        order = sorted(range(len(completions)), key=lambda row: prompt_of[row])  # a prompt is read once per chunk
        chunks: list[Work] = []
        for start in range(0, len(order), self.chunk):
            rows = order[start : start + self.chunk]
            first = {p: i for i, p in enumerate(dict.fromkeys(prompt_of[row] for row in rows))}
            owners = [first[prompt_of[row]] for row in rows]
            chunks.append((rows, [prompts[p] for p in first], owners, [completions[row] for row in rows]))
        for (rows, *_), (values, truncated) in self._cluster.work(self._make, chunks, _read, self.facts):
            yield np.asarray(rows, dtype=int), values, truncated


def _open(place: Path, spec: RewardModelSpec, options: Mapping[str, Any], device: str) -> RewardBackbone:
    return open_reward_model(place, spec, device=device, **options)


def _describe(backbone: RewardBackbone, nothing: None) -> tuple[str, int]:
    return backbone.identity(), backbone.width


def _read(backbone: RewardBackbone, work: Work) -> tuple[np.ndarray, np.ndarray]:
    _, prompts, prompt_of, completions = work
    return backbone.values(prompts, prompt_of, completions)
