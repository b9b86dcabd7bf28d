"""How far a study carries: a pool of N candidates through import, reading, text baseline, complementarity, curves, plan
and report, as `bestofl run pool` does it.

`python tests/benchmarks/scale.py N [FOLDER]` makes a pool of the lab's training problems in its 11 languages, 2,500
problems and 364 candidates each at most, about 180 characters long, runs the study over it, and prints seconds and peak
memory of each notebook and of the report. The same command again goes on where it was stopped.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from bestofl_lib.files import ROOT
from bestofl_lib.languages import language
from bestofl_lib.problems import lab
from bestofl_lib.runs import Run

MOST_PROBLEMS, FEWEST_EACH = 2_500, 16
AT_ONCE = 25  # problems whose rows are made together
UNREAD, CUT, BOXED, CONSISTENT = 0.01, 0.02, 0.3, 0.5  # shares of the candidates
LONG = (60, 130)  # characters of other questions before the solution, at least and at most


def make(folder: Path, n: int) -> int:
    """Files of candidates, `AT_ONCE` problems each; how likely a right answer is varies by problem and language.

    Returns:
        How many candidates were made: `n`, or more where it does not divide by problems and languages.
    """
    codes = lab.languages()
    problems = min(MOST_PROBLEMS, math.ceil(n / (len(codes) * FEWEST_EACH)))
    each = math.ceil(n / (len(codes) * problems))
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(partial(_make_file, folder, problems, each), range(0, problems, AT_ONCE)))
    return problems * len(codes) * each


def _make_file(folder: Path, problems: int, each: int, start: int) -> None:
    codes, rng = lab.languages(), random.Random(start)
    part = list(enumerate(lab.more_training_problems(problems)[start : start + AT_ONCE], start))
    strength = np.random.default_rng(0).normal(0.0, 0.8, len(codes))
    tables = []
    for code, strong in zip(codes, strength, strict=True):
        told = [lab.tell(problem, code) for _, problem in part]
        words = " ".join(question for question, _ in told)
        for (number, problem), (question, solution) in zip(part, told, strict=True):
            chance = 1 / (1 + math.exp(-(random.Random(number).gauss(0.0, 1.5) + strong + rng.gauss(0.0, 0.7))))
            texts = [_completion(rng, code, words, solution, problem.answer, chance) for _ in range(each)]
            tables.append(
                pl.DataFrame({"completion": texts}).with_columns(
                    problem_id=pl.lit(f"p{number:05d}"), language=pl.lit(code), question=pl.lit(question),
                    reference=pl.lit(str(problem.answer)), model=pl.lit("scale"),
                    n_tokens=pl.col("completion").str.len_bytes().cast(pl.Int32) // 3,
                )
            )  # fmt: skip
    pl.concat(tables).write_parquet(folder / f"{start:06d}.parquet")


def _completion(rng: random.Random, code: str, words: str, solution: str, answer: int, chance: float) -> str:
    """Some words, the worked solution and an answer, which is wrong or missing at times."""
    length = rng.randint(*LONG)
    at = rng.randrange(max(1, len(words) - length))
    body = solution.rpartition("\n")[0]
    given = answer if rng.random() < chance else max(1, answer + rng.choice((-10, -2, -1, 1, 1, 2, 10, answer)))
    if given != answer and rng.random() < CONSISTENT:  # the last equation is wrong too
        before, _, behind = body.rpartition(str(answer))
        body = f"{before}{given}{behind}" if before else body
    text = f"{words[at : at + length]}\n{body}\n"
    kind = rng.random()
    if kind < UNREAD:
        return text.replace("=", "…")
    if kind < UNREAD + CUT:
        return text[: -len(body) // 2]
    return text + (rf"\boxed{{{given}}}" if kind < BOXED else language(code).answer_line.format(answer=given))


def main(n: int, folder: Path) -> int:
    """Make the pool where it is missing and run the study over it; the study's exit status."""
    began = time.monotonic()
    if not (folder / "made").exists():
        made = make(folder / "pool", n)
        (folder / "made").write_text(f"{made}\n")
        print(f"{made:,} candidates made in {time.monotonic() - began:.0f} s", flush=True)
    told = {"BESTOFL_RUNS": str(folder / "runs"), "BESTOFL_REPORTS": str(folder / "reports")}
    command = [sys.executable, "-m", "bestofl_lib.cli", "run", "pool"]
    command += ["-p", f"pool={folder / 'pool'}", "-p", "model=scale", "-p", "run=scale"]
    began = time.monotonic()
    status = subprocess.run(command, env=os.environ | told, cwd=ROOT).returncode
    recorded = Run("scale", folder / "runs").recorded()
    rows = [(name, record) for name, record in recorded.get("notebooks", {}).items() if "seconds" in record]
    rows += [("report", recorded["report"])] if "report" in recorded else []
    for name, record in rows:
        print(f"{name:<30} {record['seconds']:7,.0f} s  {record.get('peak_memory_mb', 0) / 1024:6.1f} GiB")
    seconds, peak = (sum(r["seconds"] for _, r in rows), max((r.get("peak_memory_mb", 0) for _, r in rows), default=0))
    print(f"{'all':<30} {seconds:7,.0f} s  {peak / 1024:6.1f} GiB; this call took {time.monotonic() - began:,.0f} s")
    return status


if __name__ == "__main__":
    place = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(tempfile.mkdtemp(prefix="bestofl-scale-"))
    sys.exit(main(int(sys.argv[1]), place))
