"""A sampler that needs no model, and problems for it."""

from __future__ import annotations

import random
import time

import polars as pl

from bestofl_lib.models.contract import Completion


class SeedWriter:
    """Writes a text that follows from the candidate's seed, and counts what it was asked."""

    name = "seed-writer"

    def __init__(self, identity: str = "seed-writer@1", pause: float = 0.0, stop_after: int | None = None):
        self.identity, self.pause, self.stop_after = identity, pause, stop_after
        self.asked: list[tuple[str, str, int]] = []

    def sample(self, requests, settings):
        shuffled = list(requests)
        random.shuffle(shuffled)
        for request in shuffled:
            if self.stop_after is not None and len(self.asked) >= self.stop_after:
                raise KeyboardInterrupt
            time.sleep(self.pause)
            self.asked.append((request.problem_id, request.language, request.sample_index))
            text = f"{request.messages[-1]['content']} -> {request.seed}"
            yield request, Completion(text, len(text), "stop", -1.0, 0.01)


def problems(count: int = 3, languages: tuple[str, ...] = ("en", "sw")) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "problem_id": f"p{i}", "language": code, "split": "test" if i % 2 else "train",
            "question": f"How much is {i}? ({code})", "reference": str(i), "is_revised": False,
        }
        for i in range(count)
        for code in languages
    )  # fmt: skip
