"""Run folders with made-up candidates of the lab's problems, for the explorer's tests: shapes and texts of a real study."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from bestofl_lib.answers.columns import read_answers
from bestofl_lib.candidates.store import Store
from bestofl_lib.files import write_checked
from bestofl_lib.languages import language
from bestofl_lib.problems import lab
from bestofl_lib.runs import Run
from bestofl_lib.tables import SCHEMAS

LAB = lab.languages()  # the eleven languages of the embedded problems

SKILL = dict(zip(LAB, (0.31, 0.62, 0.71, 0.66, 0.63, 0.45, 0.58, 0.24, 0.19, 0.33, 0.52), strict=True))


def write_run(
    root: Path,
    name: str = "made-up",
    *,
    n_problems: int = 250,
    n: int = 16,
    languages: tuple[str, ...] = tuple(LAB),
    seed: int = 5,
    texts: Mapping[tuple[str, str, int], str] | None = None,
    questions: Mapping[tuple[str, str], str] | None = None,
    mono: bool = True,
) -> Run:
    """A run with problems, candidates, readings and rewards.

    Args:
        texts: completions to put in place of made-up ones, by key.
        questions: likewise, by problem and language.
        mono: whether every language has a reward model of its own beside multi and cross.
    """
    run, rng = Run(name, root), np.random.default_rng(seed)
    told = lab.splits()["test"][:n_problems]
    rows, problems, asked = [], [], []
    for place, problem in enumerate(told):
        problem_id, hard = f"lab-test-{place:04d}", rng.normal(0, 1.3)
        for code in languages:
            question, solution = lab.tell(problem, code)
            chance = 1 / (1 + np.exp(-(np.log(SKILL[code] / (1 - SKILL[code])) * 1.3 - hard + rng.normal(0, 0.9))))
            question = (questions or {}).get((problem_id, code), question)
            problems.append(
                (problem_id, code, "test", question, str(problem.answer), bool(rng.random() < 0.06), None, "number")
            )
            asked.append((problem_id, code, "made-up", n))
            for index in range(n):
                kind = "right" if rng.random() < chance else "cut" if rng.random() < 0.05 else "wrong"
                text = _text(solution, problem.answer, code, kind, rng)
                text = (texts or {}).get((problem_id, code, index), text)
                rows.append({
                    "problem_id": problem_id, "language": code, "sample_index": index, "draw": "made-up", "model": "made-up",
                    "completion": text, "n_tokens": len(text) // 3 + 1, "finish_reason": "length" if kind == "cut" else "stop",
                    "logprob": float(-len(text) / 14 - rng.exponential(4) * (2 if kind != "right" else 1)), "seed": index,
                    "seconds": 0.01, "condition": None,
                })  # fmt: skip
    table = run.write("problems", pl.DataFrame(problems, schema=SCHEMAS["problems"], orient="row"))
    candidates = pl.DataFrame(rows, schema=SCHEMAS["candidates"])
    store = Store(run.folder / "candidates")
    with store.writing():
        store.ask(pl.DataFrame(asked, schema=["problem_id", "language", "draw", "n"], orient="row"))
        for row in rows:
            store.add(row)
    traces = np.where(rng.random(len(rows)) < 0.05, "en", candidates["language"].to_numpy())
    readings = run.write(
        "readings", read_answers(candidates, table).with_columns(trace_language=pl.Series(traces.tolist()))
    )
    quality = {"cross": 1.1, "multi": 0.9} | ({f"mono-{code}": 0.3 + SKILL[code] for code in languages} if mono else {})
    right = readings["is_correct"].to_numpy().astype(float)
    rewards = [
        readings.select("problem_id", "language", "sample_index").with_columns(
            reward_model=pl.lit(model), reward=pl.Series(gain * (right - 0.5) + rng.normal(0, 1, len(rows)))
        )
        for model, gain in quality.items()
    ]
    run.write("rewards", pl.concat(rewards))
    run.record("sampling", [{"model": "made-up"}])
    return run


def _text(solution: str, answer: int, code: str, kind: str, rng: np.random.Generator) -> str:
    steps, _, last = solution.rpartition("\n")
    if kind == "cut":
        return steps[: max(8, len(steps) // 3)]
    if kind == "wrong":
        off = int(
            rng.choice(
                [-20, -10, -6, -3, -2, -1, 1, 2, 4, 8, 10, 30],
                p=[0.06, 0.1, 0.06, 0.08, 0.1, 0.2, 0.15, 0.1, 0.05, 0.04, 0.05, 0.01],
            )
        )
        last = language(code).answer_line.format(answer=lab._decimal(max(answer + off, 0), code))
    if rng.random() < 0.15:
        steps = steps + "\n" + steps  # some say everything twice
    return f"{steps}\n{last}"


def write_large_run(root: Path, *, n_problems: int = 5_682, n: int = 16, words: int = 20) -> Run:
    """A run of a million candidates with texts of `words` large numbers, which compress as badly as prose: for measuring how it opens."""
    run, rng, codes = Run("large", root), np.random.default_rng(0), list(LAB)
    ids = [f"p{place:05d}" for place in range(n_problems)]
    cells = pl.DataFrame({"problem_id": ids}).join(pl.DataFrame({"language": codes}), how="cross")
    made = cells.with_columns(
        split=pl.lit("test"),
        question=pl.concat_str(pl.lit("How many? "), "problem_id"),
        reference=pl.lit("18"),
        is_revised=pl.lit(False),
    )
    run.write("problems", made)
    keys = cells.join(pl.DataFrame({"sample_index": range(n)}, schema={"sample_index": pl.Int32}), how="cross")
    keys = keys.sample(fraction=1.0, shuffle=True, seed=1)  # a sampler batches by length, not by problem
    correct = rng.random(len(keys)) < 0.5
    keys = keys.with_columns(
        correct=pl.Series(correct), other=pl.Series(rng.integers(19, 29, len(keys))).cast(pl.String)
    )
    text = pl.concat_str(
        "problem_id",
        pl.lit(" "),
        "language",
        pl.lit(" "),
        "sample_index",
        *(pl.concat_str(pl.lit(" "), pl.struct(pl.all()).hash(seed)) for seed in range(words)),
    )
    folder = run.folder / "candidates"
    folder.mkdir(parents=True)
    for number, start in enumerate(range(0, len(keys), 20_000)):
        shard = keys[start : start + 20_000].select(
            "problem_id", "language", "sample_index", draw=pl.lit("d"), model=pl.lit("m"), completion=text,
            n_tokens=pl.lit(100, pl.Int32), finish_reason=pl.lit("stop"), logprob=pl.lit(-30.0), seed=pl.lit(0, pl.Int64),
            seconds=pl.lit(0.1), condition=pl.lit(None, pl.String),
        )  # fmt: skip
        buffer = io.BytesIO()
        shard.write_parquet(buffer)
        digest = hashlib.sha256(buffer.getvalue()).hexdigest()[:16]
        (folder / f"{number:06d}-{digest}.parquet").write_bytes(buffer.getvalue())
    write_checked(folder / "asked.parquet", cells.with_columns(draw=pl.lit("d"), n=pl.lit(n, pl.Int32)))
    key = ("problem_id", "language", "sample_index")
    answer = pl.when("correct").then(pl.lit("18")).otherwise("other")
    readings = keys.sort(*key).select(
        *key, answer=answer, rule=pl.lit("cue"), start=pl.lit(0, pl.Int32), end=pl.lit(2, pl.Int32), note=pl.lit(""),
        is_correct="correct", trace_language="language",
    )  # fmt: skip
    run.write("readings", readings)
    models = [
        keys.sort(*key).select(
            *key,
            reward_model=pl.lit(model),
            reward=pl.col("correct").cast(pl.Float64) + pl.Series(rng.normal(size=len(keys))),
        )
        for model in ("cross", "multi")
    ]
    run.write("rewards", pl.concat(models))
    return run


def completed(name: str, table: pl.DataFrame) -> pl.DataFrame:
    """A made-up table with the columns of its schema, null where it does not have them."""
    have = [column for column in SCHEMAS[name] if column in table.columns]
    return pl.concat([SCHEMAS[name].to_frame(), table.select(have)], how="diagonal_relaxed")
