"""What every chart of one notebook shares: the line that says where its picture comes from, and the order of languages.

`enable_display(run)` sets it, as a theme is set: once at the top of a notebook. Without it charts have no source line
and order languages by name.
"""

from __future__ import annotations

from dataclasses import dataclass

from bestofl_lib.display.origin import footer_of
from bestofl_lib.runs import Run


@dataclass(frozen=True)
class Context:
    """Shared by the charts of a notebook."""

    source: str = ""  # "Best-of-L · run lab · …"; empty: no line
    order: tuple[str, ...] = ()  # language codes, the most accurate first


_run: list[Run] = []


def use_run(run: Run | None) -> None:
    """Charts made from now on say that they come from this run, and order languages by its accuracy; None: from no
    run.
    """
    _run[:] = [] if run is None else [run]


def current() -> Context:
    """The current context, read from the tables that the run has so far."""
    if not _run or not _run[0].folder.is_dir():
        return Context()
    run = _run[0]
    order = ()
    if run.has("accuracy"):
        order = tuple(run.read("accuracy").sort("accuracy", "language", descending=[True, False])["language"])
    return Context(footer_of(run), order)
