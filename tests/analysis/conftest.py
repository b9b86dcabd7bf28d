"""Simulated pools whose truth is known."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from made_up_world import World, make_world

from bestofl_lib.analysis.arrays import CandidateArrays


def simulate(
    languages=("en", "de", "sw", "th"),
    n_problems=60,
    n=4,
    rates=None,
    quality=None,
    shift=None,
    seed=0,
    tokens=True,
    wrong_answers=5,
):
    """Tables candidates, readings, rewards, problems of a simulated pool.

    Args:
        rates: per language (problems,) chance that a candidate is correct; by default around 0.6.
        n: candidates per language, a number or per language (problems,).
        quality: per reward model how far correct candidates lie above wrong ones, in standard deviations; None: no
            rewards. Model "mono" makes mono-<language>; "cross" and "multi" cover all.
        shift: per reward model and language, an offset of its rewards.
    """
    rng = np.random.default_rng(seed)
    rows, scored = [], []
    for code in languages:
        rate = (rates or {}).get(code, np.clip(rng.normal(0.6, 0.3, n_problems), 0.02, 0.98))
        many = np.broadcast_to(n[code] if isinstance(n, dict) else n, n_problems)
        for p in range(n_problems):
            for i in range(many[p]):
                right = bool(rng.random() < rate[p])
                key = {"problem_id": f"p{p:03}", "language": code, "sample_index": i}
                answer = "1" if right else (None if rng.random() < 0.1 else str(2 + rng.integers(wrong_answers)))
                rows.append(
                    key
                    | {
                        "completion": "x" * int(rng.integers(20, 60)),
                        "n_tokens": int(rng.integers(40, 80)) if tokens else None,
                        "logprob": float(rng.normal(right, 1)),
                        "answer": answer,
                        "is_correct": right,
                        "note": "" if rng.random() < 0.95 else "doubtful",
                        "false_equations": 0 if right else (p + i) % 2,
                    }
                )
                for model, apart in (quality or {}).items():
                    reward = rng.normal(apart * right, 1) + (shift or {}).get(model, {}).get(code, 0)
                    name = f"mono-{code}" if model == "mono" else model
                    scored.append(key | {"reward_model": name, "reward": float(reward)})
    table = pl.DataFrame(rows, schema_overrides={"sample_index": pl.Int32, "n_tokens": pl.Int32, "answer": pl.String})
    problems = pl.DataFrame(
        [
            {"problem_id": f"p{p:03}", "language": c, "split": "test", "is_revised": bool(rng.random() < 0.1)}
            for p in range(n_problems)
            for c in languages
        ]
    )
    return {
        "candidates": table.drop("answer", "is_correct", "note", "false_equations"),
        "readings": table.select(
            "problem_id", "language", "sample_index", "answer", "is_correct", "note", "false_equations"
        ),
        "rewards": pl.DataFrame(scored, schema_overrides={"sample_index": pl.Int32}) if scored else None,
        "problems": problems,
    }


@pytest.fixture(scope="session")
def make_tables():
    return simulate


@pytest.fixture(scope="session")
def make_arrays():
    def make(**settings) -> CandidateArrays:
        tables = simulate(**settings)
        return CandidateArrays.of(tables["candidates"], tables["readings"], tables["rewards"], tables["problems"])

    return make


@pytest.fixture(scope="session")
def world() -> World:
    return make_world()
