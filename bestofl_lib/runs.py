"""The run folder: the contract between notebooks. Each reads named tables and adds its own.

This file knows files and digests; what the columns of a table mean stands in `tables.py`.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import polars as pl

from bestofl_lib.tables import SCHEMAS, check_table

ROOT = Path(__file__).resolve().parents[1]


def replace_file(path: Path, data: bytes) -> None:
    """Put data at path in one step: a reader sees the old file or the new one, never half of one.

    Raises:
        OSError: the disk is full or the folder is not writable; the old file is intact.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:80]}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


class Run:
    """One run folder: `data/runs/<name>/` with its tables and `run.json`.

    Args:
        name: letters, digits, dot, dash and underscore; at most 80 characters.
        root: the folder of all runs; by default `$BESTOFL_RUNS` or `data/runs` of the project.
    """

    def __init__(self, name: str, root: Path | str | None = None):
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", name):
            raise ValueError(
                f"run name {name!r}: use 1 to 80 letters, digits, '.', '-' or '_', starting with a letter or digit"
            )
        self.name = name
        self.root = Path(root or os.environ.get("BESTOFL_RUNS") or ROOT / "data" / "runs")
        self.folder = self.root / name

    def path(self, table: str) -> Path:
        return self.folder / f"{table}.parquet"

    def has(self, table: str) -> bool:
        return self.path(table).exists()

    def write(self, name: str, table: pl.DataFrame) -> pl.DataFrame:
        """Check the table against its schema (tables without one are written as they are) and store it atomically."""
        import io

        table = check_table(name, table) if name in SCHEMAS else table
        buffer = io.BytesIO()
        table.write_parquet(buffer)
        replace_file(self.path(name), buffer.getvalue())
        return table

    def read(self, name: str) -> pl.DataFrame:
        """One table of this run.

        Raises:
            FileNotFoundError: naming the run or table that is missing and the notebook that makes it.
            ValueError: the file is there but cannot be read.
        """
        if not self.path(name).exists():
            raise FileNotFoundError(self._missing(name))
        try:
            table = pl.read_parquet(self.path(name))
        except (pl.exceptions.PolarsError, OSError) as error:
            raise ValueError(f"{self.path(name)} cannot be read ({error}); delete it and rerun its notebook") from error
        return check_table(name, table) if name in SCHEMAS else table

    def _missing(self, name: str) -> str:
        if self.folder.is_dir():
            have = ", ".join(sorted(path.stem for path in self.folder.glob("*.parquet"))) or "none"
            return f"run {self.name!r} has no table {name!r} yet (it has: {have}); run its notebook first"
        runs = sorted(path.name for path in self.root.glob("*") if path.is_dir())
        return f"no run {self.name!r} in {self.root}; run 01_generate_candidates first" + (
            f", or pick one of: {', '.join(runs)}" if runs else ""
        )

    def record(self, section: str, value: Any) -> None:
        """Set one section of `run.json`."""
        content = self.recorded() | {section: value}
        replace_file(self.folder / "run.json", json.dumps(content, indent=1, ensure_ascii=False, default=str).encode())

    def recorded(self) -> dict[str, Any]:
        """The content of `run.json`; empty before anything was recorded."""
        path = self.folder / "run.json"
        return json.loads(path.read_text("utf8")) if path.exists() else {}
