"""A small made-up world for reward tests: texts that give themselves away, in three languages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from bestofl_lib.tables import SCHEMAS

WORDS = {"en": ("right", "wrong"), "sw": ("sahihi", "kosa"), "zh": ("对", "错")}


@dataclass(frozen=True)
class World:
    """Tables of one made-up study."""

    problems: pl.DataFrame
    candidates: pl.DataFrame
    readings: pl.DataFrame

    def split(self, name: str) -> pl.DataFrame:
        return self.problems.filter(pl.col("split") == name)


def make_world(n_problems: int = 24, n_candidates: int = 4, seed: int = 0) -> World:
    """Half of the problems train, half test; a correct completion names the right word of its language."""
    rng = np.random.default_rng(seed)
    problems, candidates, readings = [], [], []
    for i in range(n_problems):
        for code, (right, wrong) in WORDS.items():
            name, split = f"p{i:02}", "train" if i % 2 == 0 else "test"
            problems.append((name, code, split, f"{code}: how many are {i} and {i * 7}?", str(8 * i), False, None))
            correct = rng.permutation(n_candidates) < n_candidates // 2
            for j in range(n_candidates):
                text = f"{'so ' * int(rng.integers(1, 4))}{right if correct[j] else wrong}"
                candidates.append((name, code, j, "d", "m", text, 5, "stop", -1.0, 0, 0.1, None, code, code, code))
                answer = str(8 * i) if correct[j] else None
                readings.append((name, code, j, answer, "cue", 0, 1, "", bool(correct[j]), code, 0, 0))
    return World(_table("problems", problems), _table("candidates", candidates), _table("readings", readings))


def _table(name: str, rows: list[tuple]) -> pl.DataFrame:
    """A table of the first columns of its schema; the others are null."""
    schema = SCHEMAS[name]
    return pl.DataFrame([dict(zip(schema, row, strict=False)) for row in rows], schema=schema)
