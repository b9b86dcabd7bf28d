"""How far the steps of a study carry: a pool of N candidates through import, reading, text baseline, coverage and curves.

`python tests/benchmarks/scale.py N [FOLDER]` makes 11 languages × 364 candidates for as many problems as N needs, about
180 characters each, and runs every step in a process of its own. It prints seconds and peak memory of each step and
goes on after a step that fails, so that the first limit is seen and those behind it too.
"""

from __future__ import annotations

import math
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from bestofl_lib.problems.load import load
from bestofl_lib.runs import Run

PER_LANGUAGE = 364
AT_ONCE = 20  # problems whose rows are made together
STEP_SECONDS = 1800
SENTENCES = (
    "We add the first two numbers and keep the sum in mind. ",
    "Then the remaining part is taken away from what we had. ",
    "After that each of the groups gets the same share of it. ",
    "This is what is left at the end of the day. ",
)


def make(folder: Path, n: int) -> None:
    """Files of candidates, `AT_ONCE` problems each; the chance of a right answer varies by problem and language."""
    codes = sorted(load("lab")["language"].unique())
    problems = math.ceil(n / (len(codes) * PER_LANGUAGE))
    (folder / "pool").mkdir(parents=True)
    chance = np.random.default_rng(0)
    for start in range(0, problems, AT_ONCE):
        ids = range(start, min(start + AT_ONCE, problems))
        rate = chance.beta(1.0, 1.5, (len(ids), len(codes)))
        rows = len(ids) * len(codes) * PER_LANGUAGE
        right = chance.random(rows) < np.repeat(rate.ravel(), PER_LANGUAGE)
        reference = np.repeat(np.array(ids) * 7 % 900 + 10, len(codes) * PER_LANGUAGE)
        answer = np.where(right, reference, reference + chance.integers(1, 6, rows))
        order = chance.integers(0, len(SENTENCES), (rows, 3))
        pl.DataFrame({
            "problem_id": np.repeat([f"p{i:05d}" for i in ids], len(codes) * PER_LANGUAGE),
            "language": np.tile(np.repeat(codes, PER_LANGUAGE), len(ids)),
            "sample_index": np.tile(np.arange(PER_LANGUAGE, dtype=np.int32), len(ids) * len(codes)),
            "completion": ["".join(SENTENCES[k] for k in row) + rf"\boxed{{{a}}}" for row, a in zip(order.tolist(), answer.tolist(), strict=True)],
            "reference": reference.astype(str),
            "n_tokens": chance.integers(30, 60, rows).astype(np.int32),
            "model": "scale",
        }).write_parquet(folder / "pool" / f"{start:06d}.parquet")  # fmt: skip


def step_import(run: Run, folder: Path) -> str:
    from bestofl_lib.candidates.pools import read_pool, store_pool

    return f"{store_pool(run, read_pool(folder / 'pool')):,} stored"


def step_read(run: Run, folder: Path) -> str:
    from bestofl_lib.answers.columns import read_answers
    from bestofl_lib.answers.trace import trace_languages

    candidates = run.candidates()
    traces = trace_languages(candidates["completion"]).select("trace_language")
    readings = run.write("readings", read_answers(candidates, run.problems()).hstack(traces))
    return f"{readings.select(pl.col('is_correct').mean()).item():.3f} correct"


def step_baseline(run: Run, folder: Path) -> str:
    from bestofl_lib.rewards.text_baseline import score_text_baseline

    rewards, _ = score_text_baseline(run.candidates(), run.readings(), variants=["multi", "cross"], trainings=1)
    return f"{len(run.write('rewards', rewards)):,} rewards"


def step_complementarity(run: Run, folder: Path) -> str:
    from bestofl_lib.analysis.arrays import arrays_of_run
    from bestofl_lib.analysis.complementarity import gain_over_resampling

    return f"{len(gain_over_resampling(arrays_of_run(run))):,} gains"


def step_curves(run: Run, folder: Path) -> str:
    from bestofl_lib.analysis.arrays import arrays_of_run
    from bestofl_lib.analysis.curves import curves

    return f"{len(curves(arrays_of_run(run), [1, 4, 16])):,} points"


STEPS = {
    "import": step_import, "read": step_read, "text baseline": step_baseline,
    "complementarity": step_complementarity, "curves": step_curves,
}  # fmt: skip


def main(n: int, folder: Path) -> bool:
    """Make the pool where it is missing and run all steps; whether all of them ended well."""
    began, good = time.monotonic(), True
    if not (folder / "pool").is_dir():
        make(folder, n)
    print(f"{n:,} candidates asked for; made in {time.monotonic() - began:.0f} s", flush=True)
    for name in STEPS:
        began = time.monotonic()
        try:
            done = subprocess.run([sys.executable, __file__, "--step", name, str(folder)], timeout=STEP_SECONDS)
            ended = "" if done.returncode == 0 else f"FAILED with exit status {done.returncode}"
        except subprocess.TimeoutExpired:
            ended = f"STOPPED after {STEP_SECONDS} s"
        if ended:
            good = False
            print(f"{name:<16} {time.monotonic() - began:7.0f} s  {ended}", flush=True)
    return good


def one_step(name: str, folder: Path) -> None:
    began = time.monotonic()
    said = STEPS[name](Run("scale", folder), folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{name:<16} {time.monotonic() - began:7.0f} s  {peak:6.1f} GiB  {said}", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "--step":
        one_step(sys.argv[2], Path(sys.argv[3]))
    else:
        place = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(tempfile.mkdtemp(prefix="bestofl-scale-"))
        sys.exit(0 if main(int(sys.argv[1]), place) else 1)
