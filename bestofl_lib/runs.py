"""Run folders: the tables that notebooks read and write, the account of a run; listing, copying and removing runs.

This file knows where things are; `tables.py` says what the columns of a table mean.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import polars as pl

from bestofl_lib.candidates.store import Parts, Store
from bestofl_lib.candidates.writers import Share
from bestofl_lib.files import ROOT, read_checked, replace_file, scan_checked, write_checked, write_in_pieces
from bestofl_lib.tables import SPLITS, TABLES, check_table
from bestofl_lib.text import suggestion

UNDER_STUDY = "BESTOFL_UNDER_STUDY"  # set for the kernels that `bestofl run` starts: they may replace a run's tables
_KINDS: dict[str, type] = {  # what a record in `run.json` holds, where it holds it
    "status": str, "parameters": dict, "source": str, "library": dict, "data": dict, "inputs": dict, "outputs": dict,
    "versions": dict, "started": str, "name": str, "title": str, "overrides": dict,
}  # fmt: skip


@dataclass(frozen=True)
class Folders:
    """Where things are."""

    notebooks: Path  # NN_verb_object.ipynb and studies/*.yaml
    runs: Path  # one folder per run
    reports: Path  # one folder per run

    @classmethod
    def default(cls) -> Folders:
        """The project's folders, or those named by BESTOFL_NOTEBOOKS, BESTOFL_RUNS and BESTOFL_REPORTS."""
        return cls(
            Path(os.environ.get("BESTOFL_NOTEBOOKS") or ROOT / "notebooks"),
            Path(os.environ.get("BESTOFL_RUNS") or ROOT / "data" / "runs"),
            Path(os.environ.get("BESTOFL_REPORTS") or ROOT / "reports"),
        )


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
        self.root = Path(root) if root else Folders.default().runs
        self.folder = self.root / name

    # -- tables

    def path(self, table: str) -> Path:
        return self.folder / f"{table}.parquet"

    def has(self, table: str) -> bool:
        return self.path(table).exists()

    def tables(self) -> list[str]:
        """Names of the tables that are here, in order."""
        return sorted(path.stem for path in self.folder.glob("*.parquet"))

    def write(self, name: str, table: pl.DataFrame) -> pl.DataFrame:
        """Check a table against its schema (tables of your own, without one, are written as they are) and store it.

        Raises:
            ValueError: the table does not fit its schema, or a table that a study made would be replaced by other
                figures from a notebook run by hand.
            OSError: it cannot be written; the old table is intact.
        """
        table = check_table(name, table, extra=False) if name in TABLES else table
        self._protect(name, table)
        write_checked(self.path(name), table)
        return table

    def write_in_pieces(self, name: str, table: pl.LazyFrame) -> pl.LazyFrame:
        """As `write`, for a table that is never whole in memory; its keys are not compared. Returns it as stored.

        Raises:
            ValueError, OSError: as `write`.
        """
        table = table.select(pl.col(column).cast(dtype) for column, dtype in TABLES[name].schema.items())
        if not self.may_replace and self.has(name):
            self._protect(name, table.collect())
        write_in_pieces(self.path(name), table)
        return self.scan(name)

    def scan(self, name: str) -> pl.LazyFrame:
        """As `read`, its digest and columns compared, but not read yet.

        Raises:
            FileNotFoundError, ValueError: as `read`.
        """
        if not self.path(name).exists():
            raise FileNotFoundError(self._missing(name))
        table = scan_checked(self.path(name))
        check_table(name, table.head(0).collect())
        return table

    def read(self, name: str) -> pl.DataFrame:
        """One table of this run.

        Raises:
            FileNotFoundError: naming the run or table that is missing and the notebook that makes it.
            ValueError: the file is there but is damaged, or its columns are those of another version.
        """
        if not self.path(name).exists():
            raise FileNotFoundError(self._missing(name))
        table = read_checked(self.path(name))
        return check_table(name, table) if name in TABLES else table

    def problems(self, split: str | None = None) -> pl.DataFrame:
        """The problems, of one split or of all: one row per problem and language.

        Raises:
            ValueError: there is no such split.
        """
        problems = self.read("problems")
        if split is None:
            return problems
        if split not in SPLITS:
            raise ValueError(f"no split {split!r}; {suggestion(split, SPLITS)}splits: {', '.join(SPLITS)}")
        return problems.filter(pl.col("split") == split)

    def candidates(self, split: str | None = None) -> pl.DataFrame:
        """The candidates that the latest sampling or import asked for, of one split or of all: one row per
        candidate.
        """
        return self._of_split(self.store().candidates(), split)

    def candidate_parts(self, columns: Sequence[str | pl.Expr] | None = None, split: str | None = None) -> Parts:
        """As `candidates`, in several tables of which one is in memory at a time; see `Store.parts`."""
        problems = None if split is None else self.problems(split)["problem_id"].unique()
        return self.store().parts(columns, problems)

    def candidate_columns(self, *columns: str | pl.Expr, split: str | None = None) -> pl.DataFrame:
        """As `candidates`, the key and some columns or expressions of columns only."""
        return pl.concat(self.candidate_parts(columns, split))

    def readings(self, split: str | None = None) -> pl.DataFrame:
        """What was read from the candidates, of one split or of all: one row per candidate."""
        return self._of_split(self.read("readings"), split)

    def rewards(self) -> pl.DataFrame:
        """The rewards: one row per candidate and reward model; no rows where nothing has given any."""
        return self.read("rewards") if self.has("rewards") else TABLES["rewards"].schema.to_frame()

    def given_rewards(self) -> pl.DataFrame:
        """Rewards that the imported pool brought: one row per candidate and reward model; none where it brought
        none.
        """
        return self.read("given_rewards") if self.has("given_rewards") else TABLES["given_rewards"].schema.to_frame()

    def languages_by_accuracy(self) -> list[str]:
        """Codes of the languages, the most accurate first; none before answers are checked."""
        if not self.has("accuracy"):
            return []
        return self.read("accuracy").sort("accuracy", "language", descending=[True, False])["language"].to_list()

    @property
    def may_replace(self) -> bool:
        """Whether this process belongs to a study, which may replace what it made before."""
        return bool(os.environ.get(UNDER_STUDY))

    def store(self, shard: str = "") -> Store:
        """The stored candidates, for sampling and importing.

        Args:
            shard: "i/n": this process draws one of n disjoint parts; empty: everything.
        """
        return Store(self.folder / "candidates", Share.parse(shard))

    # -- who is writing here

    @property
    def lock(self) -> filelock.FileLock:
        """What a study holds while it changes this run; a killed process holds nothing."""
        return filelock.FileLock(self.folder / ".study.lock")

    def is_in_use(self) -> bool:
        """Whether a study is running in this run now, on this machine."""
        lock = self.lock
        if not Path(lock.lock_file).exists():
            return False
        try:
            with lock.acquire(timeout=0):
                return False
        except filelock.Timeout:
            return True
        except OSError:
            return False  # a read-only run is not being written

    # -- the account of the run

    def record(self, section: str, value: Any) -> None:
        """Set one section of `run.json`."""
        content = self.recorded() | {section: value}
        replace_file(self._account, json.dumps(content, indent=1, ensure_ascii=False, default=str).encode())

    def record_notebook(self, name: str, record: dict[str, Any]) -> None:
        """Set the account of one notebook."""
        self.record("notebooks", dict(sorted((self.notebook_records() | {name: record}).items())))

    def recorded(self) -> dict[str, Any]:
        """The content of `run.json`; empty before anything was recorded.

        Raises:
            ValueError: the file is empty, torn or holds something else; with the remedy.
        """
        if not self._account.exists():
            return {}
        try:
            content = json.loads(self._account.read_text("utf8"))
        except ValueError as error:  # bytes that are no UTF-8 as well
            raise ValueError(self._bad_account(str(error))) from error
        if not isinstance(content, dict):
            raise ValueError(self._bad_account(f"it holds {type(content).__name__}, not sections by name"))
        for section in ("study", "report", "notebooks"):
            if not isinstance(content.get(section, {}), dict):
                raise ValueError(self._bad_account(f"its section {section!r} is {type(content[section]).__name__}"))
        for section in ("sampling", "reward_servers"):
            notes = content.get(section, [])
            if not isinstance(notes, list) or not all(isinstance(note, dict) for note in notes):
                raise ValueError(self._bad_account(f"its section {section!r} is no list of notes"))
        for name, record in (content.get("notebooks", {}) | {"the study": content.get("study", {})}).items():
            for key, kind in _KINDS.items():
                if not isinstance(record, dict) or not isinstance(record.get(key, kind()), kind):
                    raise ValueError(self._bad_account(f"the record of {name} has no usable {key!r}"))
        return content

    def notebook_records(self) -> dict[str, dict[str, Any]]:
        """The account of each notebook that has run: status, parameters, digests of what it read and wrote.

        Raises:
            ValueError: the account lacks what every record has; with the remedy.
        """
        records = self.recorded().get("notebooks", {})
        for name, record in records.items():
            for key in ("status", "parameters", "source", "library", "data", "inputs", "outputs"):
                if key not in record:
                    raise ValueError(self._bad_account(f"the record of {name} has no usable {key!r}"))
            if record["status"] == "failed" and not isinstance(record.get("error"), dict):
                raise ValueError(self._bad_account(f"the record of {name} has no usable 'error'"))
        return records

    # -- below

    @property
    def _account(self) -> Path:
        return self.folder / "run.json"

    def _bad_account(self, found: str) -> str:
        return (
            f"{self._account} is damaged or not ours ({found}); delete it and run the study again: "
            "stored candidates and reward models are kept"
        )

    def _of_split(self, table: pl.DataFrame, split: str | None) -> pl.DataFrame:
        if split is None:
            return table
        return table.join(self.problems(split), on=["problem_id", "language"], how="semi", maintain_order="left")

    def _protect(self, name: str, table: pl.DataFrame) -> None:
        """Refuse to replace a study's table by other figures, unless the study itself is running."""
        if self.may_replace or not self.has(name):
            return
        owners = [
            notebook
            for notebook, record in self.notebook_records().items()
            if record["status"] == "done" and f"{name}.parquet" in record["outputs"]
        ]
        if owners and not self._holds(name, table):
            study = self.recorded().get("study", {}).get("name", "?")
            raise ValueError(
                f"table {name!r} of run {self.name!r} was made by the study {study!r} ({owners[0]}), and this would "
                f"replace it by other figures; to try things out, copy the run (`bestofl copy {self.name} scratch`) "
                f"and set run = 'scratch' in the parameters cell; to change the run itself: bestofl run {study} -p …"
            )

    def _holds(self, name: str, table: pl.DataFrame) -> bool:
        """Whether this table is stored already; one of another version, or damaged, is another."""
        try:
            return self.read(name).equals(table)
        except ValueError:
            return False

    def _missing(self, name: str) -> str:
        if self.folder.is_dir():
            have = ", ".join(self.tables()) or "none"
            makes = f"{TABLES[name].made_by}" if name in TABLES else "its notebook"
            return f"run {self.name!r} has no table {name!r} yet (it has: {have}); run {makes} first"
        return _no_run(self.name, self.root)


def existing_run(name: str, root: Path | None = None) -> Run:
    """The run of that name.

    Args:
        root: the folder of all runs, as for `Run`.

    Raises:
        FileNotFoundError: there is none; with a suggestion.
    """
    run = Run(name, root)
    if not run.folder.is_dir():
        raise FileNotFoundError(_no_run(name, run.root))
    return run


def run_names(root: Path) -> list[str]:
    """The runs there are, in order of name."""
    return sorted(path.name for path in root.glob("*") if path.is_dir() and not path.name.startswith("."))


def copy_run(name: str, new: str, folders: Folders | None = None) -> Run:
    """A copy of a run to try things out in: notebooks run by hand may change it, since no study made it.

    Raises:
        FileNotFoundError: there is no such run.
        FileExistsError: the new name is taken.
    """
    folders = folders or Folders.default()
    run, target = existing_run(name, folders.runs), Run(new, folders.runs)
    if target.folder.exists():
        raise FileExistsError(f"run {new!r} exists already; choose another name, or remove it: bestofl rm {new}")
    part = target.folder.with_name(f".{new}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(run.folder, part, ignore=shutil.ignore_patterns(".*", "run.json", "explore.ipynb", "*.part"))
    part.rename(target.folder)
    return target


def remove_run(name: str, folders: Folders | None = None) -> list[Path]:
    """Delete a run and its report; the folders that are gone.

    Raises:
        FileNotFoundError: there is no such run.
        ValueError: a study is running in it.
    """
    folders = folders or Folders.default()
    run = existing_run(name, folders.runs)
    if run.is_in_use():
        raise ValueError(f"run {name!r} is in use by `bestofl run`; stop that first")
    gone = [
        folder
        for folder in (run.folder, folders.reports / name, folders.reports / f"{name}-figures")
        if folder.is_dir()
    ]
    for folder in gone:
        shutil.rmtree(folder)
    return gone


def _no_run(name: str, root: Path) -> str:
    runs = run_names(root)
    have = f"runs: {', '.join(runs)}" if runs else "run `bestofl run lab` first"
    return f"no run {name!r} in {root}; {suggestion(name, runs)}{have}"
