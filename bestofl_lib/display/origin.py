"""Where a run's candidates come from: which model, which problems, sampled here or imported, when."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from bestofl_lib.display import words
from bestofl_lib.runs import Run
from bestofl_lib.text import counted

BUNDLED = "lab"  # the problems and the policy that come with the project


@dataclass(frozen=True)
class Origin:
    """Where a run's candidates come from."""

    problems: str  # name of the problem set, or of the file
    models: tuple[str, ...]
    imported: str  # name of the pool's file; empty where the candidates were sampled here
    date: str

    @property
    def bundled(self) -> bool:
        """The embedded problems, answered by the embedded toy policy."""
        return self.problems == BUNDLED and not self.imported and self.models == ("policy",)


def origin(run: Run) -> Origin:
    """Read from the run's records and its candidates.

    Raises:
        ValueError: candidates are damaged; with the remedy.
    """
    records = run.recorded().get("notebooks", {})
    first: dict[str, Any] = next((records[name] for name in sorted(records) if records[name].get("parameters")), {})
    made = first.get("parameters", {})
    store = run.store()
    names: list[str] = []
    if store.shards():
        store.check()  # scanned from disk
        column = pl.scan_parquet(store.shards()).select(pl.col("model").drop_nulls().unique().sort())
        names = [_short(name) for name in column.collect()["model"]]
    pool = made.get("pool") or ""
    imported = _short(pool[0] if isinstance(pool, list) and pool else str(pool or ""))
    problems = _short(str(made.get("source") or made.get("problems") or "")) or imported or run.name
    return Origin(problems, tuple(dict.fromkeys(names)), imported, str(first.get("started", ""))[:10])


def footer_of(run: Run) -> str:
    """One line on where a picture comes from: project, run, model, number of problems, date."""
    found = origin(run)
    n = judged_candidates(run)["problem_id"].n_unique() if run.has("readings") else None
    parts = ["Best-of-L", f"run {run.name}", ", ".join(found.models[:3])]
    return " · ".join(part for part in (*parts, counted(n, "problem") if n else "", found.date) if part)


def judged_candidates(run: Run) -> pl.DataFrame:
    """Problem and language of every candidate of the test problems; of all problems where there is no test split."""
    readings = run.read("readings").select("problem_id", "language")
    problems = run.read("problems")
    tested = problems.filter(pl.col("split") == "test").select("problem_id").unique()
    return readings if tested.is_empty() else readings.join(tested, on="problem_id", how="semi")


def _short(name: str) -> str:
    return Path(name).stem if Path(name).suffix in words.DATA_ENDINGS else Path(name).name
