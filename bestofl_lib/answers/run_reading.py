"""Reads the answers of a whole run, some problems at a time, on all processors where the run is large."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import polars as pl

from bestofl_lib.answers.columns import read_answers
from bestofl_lib.answers.other_readers import evenly_spread
from bestofl_lib.answers.trace import trace_languages
from bestofl_lib.runs import Run
from bestofl_lib.tables import KEY


def read_run(run: Run) -> pl.DataFrame:
    """Table `readings` of a run's candidates.

    A run of more than one part (see `Store.parts`) is read by several processes; a script that calls this for such a
    run needs Python's usual `if __name__ == "__main__":`.

    Raises:
        ValueError: as `read_answers`.
    """
    parts = run.candidate_parts()
    read = partial(_read_part, parts, run.problems(), run.folder / "expressions.json")
    if len(parts) == 1:
        return read(0)
    workers, fresh = min(len(parts), os.cpu_count() or 1), multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=fresh) as pool:
        return pl.concat(pool.map(read, range(len(parts))))


def sample_of_run(run: Run, split: str, per_language: int) -> pl.DataFrame:
    """Table `candidates`, at most so many of each language, evenly spread."""
    chosen = run.candidate_columns(split=split).filter(evenly_spread(per_language))
    parts = run.candidate_parts(split=split)
    return pl.concat(part.join(chosen, on=list(KEY), how="semi", maintain_order="left") for part in parts)


def _read_part(parts: Sequence[pl.DataFrame], problems: pl.DataFrame, memory: Path, number: int) -> pl.DataFrame:
    candidates = parts[number]
    readings = read_answers(candidates, problems, memory)
    return readings.hstack(trace_languages(candidates["completion"]).select("trace_language"))
