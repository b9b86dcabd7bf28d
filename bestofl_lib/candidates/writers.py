"""Decides who may write to a store: one process, or several that draw disjoint shares of the same run.

Locks are held by the operating system, so a killed process leaves none behind. It knows files and processes; the store
knows what is written.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import filelock

from bestofl_lib.files import replace_file
from bestofl_lib.text import stable_integer

_GATE_SECONDS = 10.0  # for which another writer of a share may hold the gate while it starts
_SHARE_LOCK = re.compile(r"\.lock\.(\d+)-of-(\d+)")


@dataclass(frozen=True)
class Share:
    """Which part of a run's problems and languages one of several processes draws."""

    number: int  # 1 to of
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise ValueError(f"shard {self.number}/{self.of}: give i/n with i from 1 to n, such as 1/4")

    @classmethod
    def parse(cls, text: str) -> Share | None:
        """The share written as "i/n"; None for an empty text, which stands for everything.

        >>> Share.parse("2/4")
        Share(number=2, of=4)
        """
        if not text:
            return None
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
        if match is None:
            raise ValueError(f"shard {text!r}: give i/n with i from 1 to n, such as 1/4, or nothing for everything")
        return cls(int(match[1]), int(match[2]))

    def takes(self, problem_id: str, language: str) -> bool:
        """Whether this share draws the candidates of a question; each question is in exactly one share of n."""
        return stable_integer(f"{problem_id}\n{language}") % self.of == self.number - 1

    @property
    def mark(self) -> str:
        """Part of file names."""
        return f"{self.number}-of-{self.of}"


@contextlib.contextmanager
def sole_writer(folder: Path, share: Share | None) -> Iterator[bool]:
    """Hold the right to write to a folder, or to one share of it, while the block runs.

    Args:
        folder: of the store; exists.
        share: None: everything, so that no other process may write.

    Yields:
        Whether no other process writes there now; files left by killed writers may be swept then.

    Raises:
        RuntimeError: another process writes the same; names process, host and start time.
    """
    with contextlib.ExitStack() as held:
        gate = filelock.FileLock(folder / ".lock")
        _acquire(gate, folder, None, 0.0 if share is None else _GATE_SECONDS)
        held.callback(gate.release)
        others = [path for path in folder.glob(".lock.*-of-*") if _SHARE_LOCK.fullmatch(path.name)]
        is_alone = True
        if share is not None:
            own = filelock.FileLock(folder / f".lock.{share.mark}")
            _acquire(own, folder, share, 0.0)
            held.callback(own.release)
        for path in others:
            match = _SHARE_LOCK.fullmatch(path.name)
            if match is None or (share is not None and match.groups() == (str(share.number), str(share.of))):
                continue
            other = Share(int(match[1]), int(match[2]))
            if share is not None and other.of == share.of:
                is_alone = is_alone and not _is_held(path)
            elif _is_held(path):
                wanted = "everything" if share is None else f"shard {share.number}/{share.of}"
                raise RuntimeError(
                    f"{wanted} cannot be written to {folder} while shard {other.number}/{other.of} is being written by "
                    f"{_owner(folder, other)}; wait for it to end, or stop it and run again"
                )
        note = _owner_file(folder, share)
        since = datetime.now(UTC).isoformat(" ", "seconds")
        replace_file(note, json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}).encode())
        held.callback(_forget, note)
        if share is not None:
            gate.release()  # writers of other shares may start
        yield is_alone


def _acquire(lock: filelock.BaseFileLock, folder: Path, share: Share | None, timeout: float) -> None:
    try:
        lock.acquire(timeout=timeout)
    except filelock.Timeout:
        what = folder if share is None else f"shard {share.number}/{share.of} of {folder}"
        raise RuntimeError(
            f"{what} is being written by {_owner(folder, share)}; wait for it to end, or stop it and run again"
        ) from None


def _is_held(path: Path) -> bool:
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return True
    lock.release()
    return False


def _owner_file(folder: Path, share: Share | None) -> Path:
    return folder / (".writer.json" if share is None else f".writer.{share.mark}.json")


def _owner(folder: Path, share: Share | None) -> str:
    try:
        owner = json.loads(_owner_file(folder, share).read_text("utf8"))
        return f"process {owner['pid']} on {owner['host']} since {owner['since']}"
    except (OSError, ValueError, KeyError):
        return "another process"


def _forget(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
