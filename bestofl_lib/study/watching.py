"""Watches a notebook while it runs: memory, and how far it is, and passes that on to the process that started it."""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bestofl_lib.progress import read_snapshot

LOOK = 0.5  # seconds between two looks
EVERY = 30.0  # seconds between two lines where there is no terminal


@dataclass
class Watched:
    """What was measured of a notebook."""

    peak: int = 0  # bytes of resident memory, this process and all below it


@contextlib.contextmanager
def watching(name: str, progress: Path, say: Callable[[str], None]) -> Iterator[Watched]:
    """Watch memory and progress until the block ends.

    On a terminal one line is updated in place, cut to its width; elsewhere one line is printed every 30 seconds.

    Args:
        name: of the notebook.
        progress: the file in which the notebook's computations say how far they are.
        say: gets the plain lines.
    """
    progress.unlink(missing_ok=True)
    seen, end = Watched(), threading.Event()
    thread = threading.Thread(target=_watch, args=(name, progress, say, seen, end), daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        end.set()
        thread.join()
        progress.unlink(missing_ok=True)


def _watch(name: str, progress: Path, say: Callable[[str], None], seen: Watched, end: threading.Event) -> None:
    live = sys.stderr.isatty()
    said, shown = time.monotonic(), ""
    while not end.wait(LOOK):
        seen.peak = max(seen.peak, _memory())
        snapshot = read_snapshot(progress)
        line = f"  {name}: {snapshot.words()}" if snapshot else ""
        if snapshot and snapshot.parts:
            line += f" ({snapshot.part_words()})"
        if live and line != shown:
            width = shutil.get_terminal_size().columns
            print(f"\r\x1b[K{_cut(line, width - 1)}", end="", file=sys.stderr, flush=True)
            shown = line
        elif not live and line and time.monotonic() - said >= EVERY and line != shown:
            said, shown = time.monotonic(), line
            say(line)
    if live and shown:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _cut(line: str, most: int) -> str:
    return line if len(line) <= most else line[: most - 1] + "…"


def _memory() -> int:
    import psutil

    total = 0
    with contextlib.suppress(psutil.Error):
        me = psutil.Process()
        for process in [me, *me.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                total += process.memory_info().rss
    return total
