"""Files that are whole or not there: written in one step, and Parquet tables that carry a digest of their own bytes.

Also when a long computation saves what it has: every few seconds, and when it is asked to end.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl

ROOT = Path(__file__).resolve().parents[1]  # of the project
DIGEST_KEY = "bestofl-digest"
_MARK = b"bestofl-sha256-"  # before the digits of the digest, in the file's footer
_BLANK = b"0" * 32
_PIECE = 2**24  # bytes of a file that are read together
_ROW_GROUP = 250_000  # rows of a table that is written in pieces
_SAVE_SECONDS = (5.0, 60.0)  # at first, and for computations of an hour or more


class DamagedTable(ValueError):
    """A table whose bytes are not those that were written; the message names the file, what is wrong and the remedy."""


def replace_file(path: Path, data: bytes, consequence: str = "what was there before is intact") -> None:
    """Put data at path in one step: a reader sees the old file or the new one, never half of one.

    Args:
        consequence: of a failure, for the message.

    Raises:
        OSError: the disk is full or the folder is not writable; names the file and the remedy. The old file is intact.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:80]}.", suffix=".part")
    except OSError as error:
        raise explain(error, path, consequence) from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise explain(error, path, consequence) from error
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def explain(error: OSError, path: Path, consequence: str) -> OSError:
    """The same error with the file, the reason in words and the remedy; its number is kept."""
    reason = {
        errno.ENOSPC: "the disk is full; free some space",
        errno.EDQUOT: "the disk quota is used up; free some space",
        errno.EROFS: "the file system is read-only; choose other folders (BESTOFL_RUNS, BESTOFL_REPORTS)",
        errno.EACCES: "permission denied; choose other folders (BESTOFL_RUNS, BESTOFL_REPORTS)",
        errno.ENOTDIR: "a file has the folder's name; move or rename it",
        errno.EEXIST: "a file has the folder's name; move or rename it",
    }.get(error.errno or 0, str(error))
    return OSError(error.errno, f"cannot write to {path}: {reason} and run again ({consequence})")


def write_checked(path: Path, table: pl.DataFrame, consequence: str = "the old table is intact") -> None:
    """Store a table as Parquet, in one step, with a digest of the file's bytes in its footer.

    The digest is SHA-256 (32 digits) of the file's name and of its bytes with the digits themselves set to zero, so
    that a table under another table's name is noticed as well. Any Parquet reader can read the file; `read_checked`
    also checks it.

    Raises:
        OSError: as `replace_file`.
    """
    buffer = io.BytesIO()
    table.write_parquet(buffer, metadata={DIGEST_KEY: (_MARK + _BLANK).decode()})
    blank = buffer.getvalue()
    at = blank.rindex(_MARK + _BLANK) + len(_MARK)
    replace_file(path, blank[:at] + _digest(path, blank) + blank[at + len(_BLANK) :], consequence)


def write_in_pieces(path: Path, table: pl.LazyFrame, consequence: str = "the old table is intact") -> None:
    """As `write_checked`, for a table that is never whole in memory.

    Raises:
        OSError: as `replace_file`.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        table.sink_parquet(part, metadata={DIGEST_KEY: (_MARK + _BLANK).decode()}, row_group_size=_ROW_GROUP)
        at = _place_of_digest(part)
        with open(part, "r+b") as file:
            digest = _digest_of_file(path, part, at)
            file.seek(at)
            file.write(digest)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise explain(error, path, consequence) from error
    finally:
        part.unlink(missing_ok=True)


def scan_checked(path: Path) -> pl.LazyFrame:
    """A table that `write_checked` or `write_in_pieces` stored, its digest compared, but not read yet.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedTable: as `read_checked`.
    """
    at = _place_of_digest(path)
    remedy = "delete it and run its notebook again"
    if at < 0:
        raise DamagedTable(f"{path} is damaged or was not written by this version (no digest in it); {remedy}")
    with open(path, "rb") as file:
        file.seek(at)
        found = file.read(len(_BLANK))
    if _digest_of_file(path, path, at) != found:
        raise DamagedTable(f"{path} is damaged: its bytes or its name do not match the digest stored in it; {remedy}")
    return pl.scan_parquet(path)


def read_checked(path: Path) -> pl.DataFrame:
    """A table that `write_checked` stored.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedTable: the file is not what was written, or was written by something else.
    """
    data = path.read_bytes()
    at = data.rfind(_MARK) + len(_MARK)
    found = data[at : at + len(_BLANK)]
    remedy = "delete it and run its notebook again"
    if at < len(_MARK):
        raise DamagedTable(f"{path} is damaged or was not written by this version (no digest in it); {remedy}")
    if _digest(path, data[:at] + _BLANK + data[at + len(_BLANK) :]) != found:
        raise DamagedTable(f"{path} is damaged: its bytes or its name do not match the digest stored in it; {remedy}")
    try:
        return pl.read_parquet(io.BytesIO(data))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DamagedTable(f"{path} cannot be read ({error}); {remedy}") from error


def _place_of_digest(path: Path) -> int:
    """Where in a Parquet file the digits of its digest are, in its footer; -1 where there are none."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        file.seek(max(0, size - 8))
        tail = file.read(8)
        start = max(0, size - 8 - int.from_bytes(tail[:4], "little"))  # the footer's length, then "PAR1"
        file.seek(start)
        at = file.read().rfind(_MARK)
    return -1 if at < 0 else start + at + len(_MARK)


def _digest_of_file(path: Path, written: Path, at: int) -> bytes:
    """As `_digest`, of a file that is read in pieces; `at` is where its digits count as zeros."""
    digest = hashlib.sha256(path.stem.encode() + b"\0")
    with open(written, "rb") as file:
        left = at
        while left and (piece := file.read(min(left, _PIECE))):
            digest.update(piece)
            left -= len(piece)
        digest.update(_BLANK)
        file.seek(at + len(_BLANK))
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()[: len(_BLANK)].encode()


class SavingPace:
    """How often a long computation saves: every 5 seconds at first, every minute when it has run for an hour."""

    def __init__(self) -> None:
        self._began = self._saved = time.monotonic()

    def is_due(self) -> bool:
        """Whether it is time to save."""
        now = time.monotonic()
        first, most = _SAVE_SECONDS
        return now - self._saved >= min(most, max(first, (now - self._began) / 60))

    def saved(self) -> None:
        """Count the time from now."""
        self._saved = time.monotonic()


@contextlib.contextmanager
def terminated_softly() -> Iterator[None]:
    """Turn SIGTERM into SystemExit(143) while the block runs, so that `finally` clauses save what there is."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)


def _digest(path: Path, data: bytes) -> bytes:
    return hashlib.sha256(path.stem.encode() + b"\0" + data).hexdigest()[: len(_BLANK)].encode()
