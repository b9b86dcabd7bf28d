"""Keeps candidates as append-only Parquet shards that survive a killed process, a full disk and a second writer.

A shard's name carries the digest of its bytes. A candidate is known by its draw (a hash of all that shapes
it) and its key, so that nothing is drawn twice, and candidates of other settings are kept without being mixed in.
It knows nothing of models or prompts.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from bestofl_lib.candidates.unfinished import UnfinishedRows
from bestofl_lib.candidates.writers import Share, sole_writer
from bestofl_lib.files import SavingPace, explain, read_checked, replace_file, terminated_softly, write_checked
from bestofl_lib.models.contract import Unfinished
from bestofl_lib.tables import KEY, SCHEMAS, TABLES, check_table
from bestofl_lib.text import content_digest, counted, valid_unicode

SCHEMA = SCHEMAS["candidates"]
ASKED_SCHEMA = pl.Schema(  # one row per problem, language and prompt
    {"problem_id": pl.String, "language": pl.String, "draw": pl.String, "n": pl.Int32}
    | {
        "first": pl.Int32,
        "step": pl.Int32,
    }  # its sample_index are first, first + step, …: prompts of one question take turns
)
TOKENS_FOLDER = "tokens"  # in the store's folder: what servers said about tokens; nothing reads it by default
TOKENS_SCHEMA = pl.Schema(  # one row per candidate
    {"draw": pl.String}
    | KEY
    | {"token_ids": pl.List(pl.Int32), "token_logprobs": pl.List(pl.Float32)}  # null: only the ids were given
)
ALL_COLUMNS = pl.Schema(SCHEMA | {name: TOKENS_SCHEMA[name] for name in ("token_ids", "token_logprobs")})

_DRAWN = "drawn*.jsonl"  # one line per call that drew something
_SHARD = re.compile(r"(\d{6,})-([0-9a-f]{16})\.parquet")
_ASKED = "asked.parquet"
_FLUSH_ROWS = 4_000
_TABLE_ROWS = 100_000
PART = 200_000  # candidates that are read together where a run holds more, see `Store.parts`


class StoreWarning(UserWarning):
    """Something in a store was set aside or repaired; nothing that was intact is lost."""


@dataclass(frozen=True)
class Parts(Sequence[pl.DataFrame]):
    """The candidates of a run in several tables, each read when it is asked for: all candidates of some problems.

    Together they are `Store.candidates()`: sorted by key, none missing.
    """

    store: Store
    asked: pl.DataFrame  # see ASKED_SCHEMA
    spans: list[tuple[str, str]]  # first and last problem of each table
    columns: Sequence[str | pl.Expr] | None  # beside the key; None: all

    def __len__(self) -> int:
        return len(self.spans)

    def __getitem__(self, number: Any) -> Any:
        first, last = map(pl.lit, self.spans[number])
        here = pl.col("problem_id").is_between(first, last)
        asked, beside = self.asked.filter(here), () if self.columns is None else self.columns
        found = self.store.scan(asked).filter(here)
        if self.columns is not None:
            found = found.select("draw", *KEY, "finish_reason", *(c for c in beside if _name(c) != "finish_reason"))
        table = _first_good(found.collect()).sort(*KEY)
        self.store.need_all(len(table), asked)
        return table if self.columns is None else table.select(*KEY, *(_name(column) for column in beside))


def _name(column: str | pl.Expr) -> str:
    return column if isinstance(column, str) else column.meta.output_name()


class Store:
    """The candidates of one run.

    Args:
        folder: usually `Run(...).folder / "candidates"`; made by the first writer.
        share: the part of the run that this process draws, where several processes draw one run; reading is the same.
    """

    def __init__(self, folder: Path | str, share: Share | None = None):
        self.folder, self.share = Path(folder), share
        self._rows: list[dict[str, Any]] = []
        self._unfinished = UnfinishedRows(self.folder, share.mark if share else "")
        self._is_open = False
        self._pace = SavingPace()
        self._next = 0

    # reading

    def candidates(self, *, partial: bool = False) -> pl.DataFrame:
        """The candidates that the latest `generate` asked for, one row per candidate, sorted by key.

        Args:
            partial: whether a table with candidates still missing (a run that was interrupted) will do.

        Raises:
            FileNotFoundError: nothing was ever asked for here.
            ValueError: candidates are missing and `partial` is not set, or a shard is damaged.
        """
        asked = self.asked()
        stored = self._read(repair=False)
        table = _asked_for(stored.lazy(), asked).sort(*KEY).collect()
        if not partial:
            self.need_all(len(table), asked)
        return check_table("candidates", table)

    def need_all(self, found: int, asked: pl.DataFrame) -> None:
        """Refuse fewer candidates than were asked for.

        Raises:
            ValueError: with the two numbers and the next step.
        """
        wanted = int(asked["n"].sum() or 0)
        if found < wanted:
            raise ValueError(
                f"{self.folder} holds {found:,} of the {wanted:,} candidates asked for; "
                "run 01_generate_candidates again to draw what is missing, or read with partial=True"
            )

    def parts(self, columns: Sequence[str | pl.Expr] | None = None, problems: Iterable[str] | None = None) -> Parts:
        """As `candidates`, in several tables of which one is read at a time.

        Args:
            columns: what to read beside the key, names or expressions; None: the whole table.
            problems: of these problems only; None: of all.

        Raises:
            FileNotFoundError: nothing was ever asked for here.
            ValueError: a shard is damaged.
        """
        asked = self.asked()
        self.check()
        if problems is not None:
            asked = asked.filter(pl.col("problem_id").is_in(list(problems)))
        by_problem = asked.group_by("problem_id").agg(pl.col("n").sum()).sort("problem_id")
        ends = by_problem.with_columns(part=(pl.col("n").cum_sum() - 1) // PART).group_by("part", maintain_order=True)
        spans = ends.agg(first=pl.col("problem_id").first(), last=pl.col("problem_id").last())
        named = list(spans.select("first", "last").iter_rows()) or [("", "")]  # one table without rows
        return Parts(self, asked, named, columns)

    def scan(self, asked: pl.DataFrame | None = None) -> pl.LazyFrame:
        """As `candidates(partial=True)`, unread, unchecked and unsorted; columns that older shards lack are null.

        Args:
            asked: of these only, rows of `asked()`.

        Raises:
            FileNotFoundError: nothing is stored here.
        """
        asked, shards = self.asked() if asked is None else asked, self.shards()
        if not shards:
            raise FileNotFoundError(self._nothing_here())
        return _asked_for(pl.scan_parquet(shards, schema=SCHEMA, missing_columns="insert"), asked)

    def asked(self) -> pl.DataFrame:
        """What the latest `generate` asked for: one row per problem, language and prompt, with its draw and how many.

        Raises:
            FileNotFoundError: nothing was ever asked for here.
            ValueError: the list cannot be read.
        """
        path = self.folder / _ASKED
        if not path.exists():
            raise FileNotFoundError(self._nothing_here())
        return _asked(read_checked(path))

    def held(self) -> pl.DataFrame:
        """Keys and finish reasons of everything stored, whatever its draw; damaged shards are set aside first.

        Only for the writer: call it inside `writing()`.
        """
        self._need_lock()
        return self._read(repair=True, columns=["draw", *KEY, "finish_reason"])

    def peek(self) -> pl.DataFrame:
        """Keys and draws of everything that can be read, also while another process writes; nothing is repaired."""
        tables = [pl.DataFrame(schema=SCHEMA)]
        for path in self.shards():
            with contextlib.suppress(_DamagedShard):  # what it held counts as missing, as the next writer will see it
                tables.append(_read_shard(path))
        return pl.concat(tables).select("draw", *KEY).unique()

    def shards(self) -> list[Path]:
        """Paths of the shards, oldest first."""
        return sorted(path for path in self.folder.glob("*.parquet") if _SHARD.fullmatch(path.name))

    def notes(self) -> list[dict[str, Any]]:
        """What each call that drew something noted about it (see `note`), oldest first."""
        notes = []
        for path in sorted(self.folder.glob(_DRAWN)):
            for line in path.read_text("utf8").splitlines():
                with contextlib.suppress(ValueError):  # the last line of a process that was killed
                    notes.append(json.loads(line))
        return sorted(notes, key=lambda note: str(note.get("at", "")))

    def tokens(self) -> pl.DataFrame:
        """Token ids and log-probabilities of the candidates for which a server gave them; see `TOKENS_SCHEMA`."""
        parts = [_read_shard(path, TOKENS_SCHEMA) for path in sorted((self.folder / TOKENS_FOLDER).glob("*.parquet"))]
        return pl.concat([pl.DataFrame(schema=TOKENS_SCHEMA), *parts]).unique(["draw", *KEY], keep="first")

    def check(self) -> None:
        """Compare every shard with its digest, without parsing it (about 1 GB a second).

        Raises:
            ValueError: naming the damaged shards and the remedy.
        """
        damaged = []
        for path in self.shards():
            try:
                _checked_bytes(path)
            except _DamagedShard as error:
                damaged.append((path, str(error)))
        self._refuse(damaged)

    def _refuse(self, damaged: list[tuple[Path, str]]) -> None:
        if damaged:
            listed = "; ".join(f"{path.name} {reason}" for path, reason in damaged)
            raise ValueError(
                f"damaged candidates in {self.folder}: {listed}. "
                "Run 01_generate_candidates again: it sets these files aside and redraws what they held"
            )

    def _read(self, repair: bool, columns: Sequence[str] = tuple(SCHEMA)) -> pl.DataFrame:
        tables, damaged = [], []
        for path in sorted(self.folder.glob("*.parquet")) if repair else self.shards():
            if path.name == _ASKED:
                continue
            try:
                tables.append(_read_shard(path).select(columns))
            except _DamagedShard as error:
                damaged.append((path, str(error)))
        if not repair:
            self._refuse(damaged)
        for path, reason in damaged:
            self._set_aside(path, reason)
        if not tables:
            return pl.DataFrame(schema=SCHEMA).select(columns)
        return _first_good(pl.concat(tables))

    def _set_aside(self, path: Path, reason: str) -> None:
        folder = self.folder / "set_aside"
        folder.mkdir(exist_ok=True)
        destination = folder / path.name
        number = 1
        while destination.exists():
            destination, number = folder / f"{path.stem}.{number}{path.suffix}", number + 1
        try:
            os.replace(path, destination)
        except FileNotFoundError:  # the writer of another share has just set it aside
            return
        warnings.warn(
            f"candidate shard {path} {reason}; it was set aside as {destination} and its candidates will be drawn "
            "again",
            StoreWarning,
            stacklevel=4,
        )

    # writing

    @contextlib.contextmanager
    def writing(self) -> Iterator[Store]:
        """Become the one writer, or the one of this share: takes the lock, sweeps leftovers, and stores what was added
        when it ends, however it ends.

        SIGTERM ends the block like Ctrl-C does: what was drawn is stored, then the process exits with status 143.

        Raises:
            RuntimeError: another process writes here; names its id, host and since when.
            OSError: the folder cannot be written to.
        """
        with contextlib.ExitStack() as held:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                is_alone = held.enter_context(sole_writer(self.folder, self.share))
            except OSError as error:
                raise explain(error, self.folder, "nothing was drawn") from error
            if is_alone:
                for leftover in self.folder.glob(".*.part"):
                    leftover.unlink(missing_ok=True)
            numbers = [int(path.name.split("-")[0]) for path in self.shards()]
            self._next = max(numbers, default=-1) + 1
            self._pace = SavingPace()
            self._unfinished = UnfinishedRows(self.folder, self.share.mark if self.share else "")
            self._unfinished.load()
            self._is_open = True
            try:
                with terminated_softly():
                    try:
                        yield self
                    finally:
                        self.flush()
            finally:
                self._rows.clear()
                self._is_open = False

    def ask(self, asked: pl.DataFrame) -> None:
        """Note what is wanted now: columns of `ASKED_SCHEMA`, first and step being 0 and 1 where they are not there.

        `candidates()` returns these and no others.
        """
        self._need_lock()
        write_checked(self.folder / _ASKED, _asked(asked), "nothing was drawn")

    def note(self, facts: Mapping[str, Any]) -> None:
        """Keep what a sampler says about a call: servers, versions, faults. One line, never changed afterwards."""
        self._need_lock()
        line = json.dumps({"at": datetime.now(UTC).isoformat(" ", "seconds")} | dict(facts), ensure_ascii=False)
        name = "drawn.jsonl" if self.share is None else f"drawn.{self.share.mark}.jsonl"
        try:
            with open(self.folder / name, "a", encoding="utf8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise explain(error, self.folder, "the candidates are stored, a note about them is not") from error

    def add(self, row: Mapping[str, Any]) -> None:
        """Take one candidate; it reaches the disk within seconds, in a shard with others.

        Args:
            row: the columns of the candidates table, and those of `TOKENS_SCHEMA` where the model's server gave them.
        """
        self._need_lock()
        self._rows.append(
            {column: row.get(column) for column in ALL_COLUMNS} | {"completion": valid_unicode(row["completion"])}
        )
        self._unfinished.forget(*(row[name] for name in ("draw", *KEY)))
        self._flush_in_time()

    def begun(self, draw: str, key: tuple[str, str, int]) -> Unfinished | None:
        """What an interrupted call wrote of a candidate; None where it had not begun."""
        return self._unfinished.get(draw, *key)

    def keep_begun(self, draw: str, key: tuple[str, str, int], found: Unfinished) -> None:
        """Keep what is written of a candidate that has not ended; it reaches the disk within seconds."""
        self._need_lock()
        self._unfinished.keep(found, draw, *key)
        self._flush_in_time()

    def _flush_in_time(self) -> None:
        if len(self._rows) >= _FLUSH_ROWS or self._pace.is_due():
            self.flush()

    def add_table(self, table: pl.DataFrame) -> None:
        """Store many candidates at once (the columns of the candidates table), in shards of 100,000 rows.

        Raises:
            OSError: the disk is full or read-only; earlier shards are intact.
        """
        self.flush()
        table = table.select(pl.col(column).cast(dtype) for column, dtype in SCHEMA.items())
        for part in table.iter_slices(_TABLE_ROWS):
            try:
                self._write(self.folder, part)
            except OSError as error:
                raise explain(error, self.folder, "what was stored before is intact") from error
            self._next += 1

    def flush(self) -> None:
        """Store what was added so far as one shard.

        Raises:
            OSError: the disk is full or read-only; earlier shards are intact.
        """
        self._need_lock()
        self._pace.saved()
        if self._rows:
            self._flush_rows()
        self._unfinished.save()

    def _flush_rows(self) -> None:
        table = pl.DataFrame(self._rows, schema=ALL_COLUMNS)
        tokens = table.select(TOKENS_SCHEMA.names()).filter(pl.col("token_ids").is_not_null())
        try:
            if tokens.height:  # first, so that no stored candidate lacks its tokens
                self._write(self.folder / TOKENS_FOLDER, tokens)
            self._write(self.folder, table.select(SCHEMA.names()))
        except OSError as error:
            lost = f"not stored: the last {counted(len(self._rows), 'candidate')}; all earlier ones are intact"
            raise explain(error, self.folder, lost) from error
        self._next += 1
        self._rows.clear()

    def _write(self, folder: Path, table: pl.DataFrame) -> None:
        buffer = io.BytesIO()
        table.write_parquet(buffer)
        data = buffer.getvalue()
        replace_file(folder / f"{self._next:06d}-{content_digest(data)}.parquet", data)

    def _nothing_here(self) -> str:
        return f"no candidates in {self.folder}; run 01_generate_candidates first"

    def _need_lock(self) -> None:
        if not self._is_open:
            raise RuntimeError(f"{self.folder} is not open for writing; use `with store.writing():`")


def _first_good(candidates: pl.DataFrame) -> pl.DataFrame:
    """Each candidate once: a writer that was killed between storing a shard and noting it stores the same one again."""
    return (
        candidates.with_columns(pl.col("finish_reason").eq_missing("error").alias("_failed"))
        .sort("_failed", maintain_order=True)
        .unique(["draw", *KEY], keep="first", maintain_order=True)
        .drop("_failed")
    )


def _asked_for(candidates: pl.LazyFrame, asked: pl.DataFrame) -> pl.LazyFrame:
    """The stored candidates that were asked for, by draw and place."""
    place = pl.col("sample_index") - pl.col("first")
    return (
        candidates.join(asked.lazy(), on=["problem_id", "language", "draw"])
        .filter((place >= 0) & (place % pl.col("step") == 0) & (place // pl.col("step") < pl.col("n")))
        .drop("n", "first", "step")
    )


def _asked(table: pl.DataFrame) -> pl.DataFrame:
    for column, usual in (("first", 0), ("step", 1)):
        if column not in table.columns:
            table = table.with_columns(pl.lit(usual, pl.Int32).alias(column))
    return table.select(pl.col(c).cast(t) for c, t in ASKED_SCHEMA.items())


class _DamagedShard(Exception):
    """Why a shard cannot be trusted."""


def _checked_bytes(path: Path) -> bytes:
    match = _SHARD.fullmatch(path.name)
    if match is None:
        raise _DamagedShard("is not a shard of this store (its name has no number and digest)")
    data = path.read_bytes()
    if content_digest(data) != match[2]:
        raise _DamagedShard(f"does not match its digest (found {content_digest(data)} over {len(data):,} bytes)")
    return data


def _read_shard(path: Path, schema: pl.Schema = SCHEMA) -> pl.DataFrame:
    try:
        table = pl.read_parquet(io.BytesIO(_checked_bytes(path)))
    except pl.exceptions.PolarsError as error:
        raise _DamagedShard(f"is not readable Parquet ({error})") from error
    added = [pl.lit(None).alias(c) for c in TABLES["candidates"].optional if c in schema and c not in table.columns]
    table = table.with_columns(added)
    if missing := [column for column in schema if column not in table.columns]:
        raise ValueError(
            f"{path} was written by another version: it lacks {', '.join(missing)}; "
            "use that version, or give this run another name"
        )
    return table.select(pl.col(column).cast(dtype) for column, dtype in schema.items())
