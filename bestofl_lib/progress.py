"""How far a long computation is: a bar in the notebook, and a small file that the runner and `bestofl status` read.

The computation says what it has done; who watches decides how to show it. Nothing here knows what is computed.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tqdm.auto import tqdm

PROGRESS_FILE = "BESTOFL_PROGRESS"  # environment variable: where the runner wants to be told
EVERY = 1.0  # seconds between two notes
SURE_SECONDS, SURE_SHARE = 20.0, 0.01  # before so much is done, no time left is estimated
Item = TypeVar("Item")


@dataclass(frozen=True)
class Snapshot:
    """How far something was when it last said so."""

    unit: str  # such as "candidates"
    done: int
    total: int
    at_start: int  # done before this process began: held already
    tokens: int  # written by this process, those of unfinished items too; 0 where they are not counted
    seconds: float  # since this process began, by a clock that nobody sets
    most_tokens: int = 0  # that an item can have; 0 where that is not known
    unfinished_tokens: int = 0  # of items that have begun
    parts: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # such as language to done and total

    def words(self) -> str:
        """Done, speed and time left, such as `320 of 35,200 candidates, 19 tokens/s, about 2 h left`.

        >>> Snapshot("candidates", 320, 640, 0, 1900, 100.0).words()
        '320 of 640 candidates, 3.2/s, 19 tokens/s, about 2 min left'
        """
        new = self.done - self.at_start
        text = f"{self.done:,} of {self.total:,} {self.unit}"
        if self.at_start:
            text += f" ({self.at_start:,} held already)"
        if self.seconds > 0 and new > 0:
            text += f", {_speed(new / self.seconds)}"
        if self.seconds > 0 and self.tokens:
            text += f", {self.tokens / self.seconds:,.0f} tokens/s"
        left = self._left(new)
        return text + (f", about {duration(left)} left" if left is not None else "")

    def part_words(self) -> str:
        """Done and total of each part; empty where there are no parts.

        >>> Snapshot("candidates", 5, 8, 0, 0, 1.0, parts={"en": (4, 4), "sw": (1, 4)}).part_words()
        'en 4/4, sw 1/4'
        """
        return ", ".join(f"{name} {done:,}/{total:,}" for name, (done, total) in self.parts.items())

    def _left(self, new: int) -> float | None:
        """Seconds left by the items that are done, or, where that is less, by the most tokens that are left to write:
        items that are written together end together, and the first ones say little.
        """
        if self.done >= self.total or self.seconds < SURE_SECONDS:
            return None
        known = []
        if new > 0 and new >= SURE_SHARE * (self.total - self.at_start):
            known.append((self.total - self.done) * self.seconds / new)
        if self.tokens and self.tokens >= SURE_SHARE * (self.total - self.at_start) * self.most_tokens > 0:
            most = (self.total - self.done) * self.most_tokens - self.unfinished_tokens
            known.append(max(0, most) * self.seconds / self.tokens)
        return min(known, default=None)


def _speed(rate: float) -> str:
    """So many a second, or how long each takes where that says more."""
    if rate < 0.5:
        return f"{duration(1 / rate)} each"
    return f"{rate:.2g}/s" if rate < 10 else f"{rate:,.0f}/s"


class Progress:
    """Counts what is done of a total; use it as a context.

    Args:
        unit: what is counted, in the plural.
        total: of all, held ones included.
        done: held already.
        most_tokens: that an item can have, where tokens are counted; 0: not known.
        shown: whether a bar is drawn here as well.
        parts: done and total of each part, such as each language; `update` then says of which part an item was.
    """

    def __init__(
        self,
        unit: str,
        total: int,
        done: int = 0,
        *,
        most_tokens: int = 0,
        shown: bool = True,
        parts: Mapping[str, tuple[int, int]] | None = None,
    ):
        self._parts = {name: list(counts) for name, counts in (parts or {}).items()}
        self._bar = tqdm(total=total, initial=done, unit=f" {unit}", disable=not shown)
        self._unit, self._total, self._held, self._done, self._tokens = unit, total, done, done, 0
        self._most_tokens, self._unfinished = most_tokens, 0
        self._began = time.monotonic()
        self._noted = 0.0
        path = os.environ.get(PROGRESS_FILE)
        self._path = Path(path) if path else None

    def __enter__(self) -> Progress:
        self._note()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        self._note()

    def update(self, n: int = 1, tokens: int = 0, unfinished_tokens: int = 0, part: str = "") -> None:
        """So many more are done and so many more tokens written; and how many more tokens unfinished items have."""
        if part in self._parts:
            self._parts[part][0] += n
        self._done += n
        self._tokens += tokens
        self._unfinished += unfinished_tokens
        self._bar.update(n)
        if time.monotonic() - self._noted >= EVERY:
            self._note()

    def _note(self) -> None:
        if self._path is None:
            return
        self._noted = time.monotonic()
        content = {
            "unit": self._unit,
            "done": self._done,
            "total": self._total,
            "at_start": self._held,
            "tokens": self._tokens,
            "seconds": time.monotonic() - self._began,
            "most_tokens": self._most_tokens,
            "unfinished_tokens": self._unfinished,
            "parts": self._parts,
        }
        with contextlib.suppress(OSError):  # whatever stores results reports a full disk
            part = self._path.with_name(f"{self._path.name}.{os.getpid()}.part")
            part.write_text(json.dumps(content))
            os.replace(part, self._path)


def tracked(items: Iterable[Item], unit: str, *, shown: bool = True) -> Iterator[Item]:
    """The items one after another, each counted as done when the next is asked for."""
    items = list(items)
    with Progress(unit, len(items), shown=shown) as progress:
        for item in items:
            yield item
            progress.update()


def read_snapshot(path: Path) -> Snapshot | None:
    """What was last noted at a path; None where nothing (readable) was."""
    try:
        content = json.loads(path.read_text("utf8"))
        return Snapshot(**content)
    except (OSError, ValueError, TypeError):
        return None


def duration(seconds: float) -> str:
    """A time in the unit that a person would use.

    >>> duration(42), duration(100), duration(7300), duration(200_000)
    ('42 s', '2 min', '2.0 h', '2.3 days')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"
