"""Keeps what is written of completions that have not ended, so that an interrupt does not lose it.

One small table per writer, replaced as a whole each time. It is a convenience: a damaged table is set aside with a
warning, and its completions start again.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import polars as pl

from bestofl_lib.files import DamagedTable, read_checked, write_checked
from bestofl_lib.models.contract import Unfinished
from bestofl_lib.tables import KEY

FOLDER = "unfinished"  # in the store's folder
SCHEMA = pl.Schema(  # one row per completion that has begun and not ended
    {"draw": pl.String} | KEY | {"tokens": pl.List(pl.Int32), "logprob": pl.Float64, "seconds": pl.Float64}
)


class UnfinishedWarning(UserWarning):
    """Rows that an interrupted call had started cannot be continued and start again."""


class UnfinishedRows:
    """The rows of one store that have begun and not ended, by draw and key.

    Args:
        folder: of the store.
        mark: of the writer's share; empty for a writer of everything.
    """

    def __init__(self, folder: Path, mark: str = ""):
        self.path = folder / FOLDER / f"{mark or 'all'}.parquet"
        self._rows: dict[tuple[Any, ...], Unfinished] = {}
        self._is_changed = False

    def load(self) -> None:
        """Take up what was kept by any writer of this store."""
        for path in sorted(self.path.parent.glob("*.parquet")):
            try:
                table = read_checked(path).select(pl.col(c).cast(t) for c, t in SCHEMA.items())
            except (DamagedTable, OSError, pl.exceptions.PolarsError) as error:
                warnings.warn(
                    f"{error}; its completions are written again from the start", UnfinishedWarning, stacklevel=3
                )
                continue
            for *key, tokens, logprob, seconds in table.iter_rows():
                found = Unfinished(tuple(tokens), logprob, seconds)
                if len(found.tokens) > len(getattr(self._rows.get(tuple(key)), "tokens", ())):
                    self._rows[tuple(key)] = found

    def get(self, *key: Any) -> Unfinished | None:
        """What is known of one row: draw, problem_id, language, sample_index."""
        return self._rows.get(key)

    def keep(self, found: Unfinished, *key: Any) -> None:
        """Note what a row has written so far."""
        self._rows[key] = found
        self._is_changed = True

    def forget(self, *key: Any) -> None:
        """The row has ended."""
        self._is_changed |= self._rows.pop(key, None) is not None

    def save(self) -> None:
        """Put the rows on the disk, if they have changed.

        Raises:
            OSError: the disk is full or read-only; finished candidates are intact.
        """
        if not self._is_changed:
            return
        self._is_changed = False
        if not self._rows:
            self.path.unlink(missing_ok=True)
            return
        rows = [(*key, list(u.tokens), u.logprob, u.seconds) for key, u in self._rows.items()]
        table = pl.DataFrame(rows, schema=SCHEMA, orient="row")
        write_checked(self.path, table, "finished candidates are stored; unfinished ones start again")

    def __len__(self) -> int:
        return len(self._rows)
