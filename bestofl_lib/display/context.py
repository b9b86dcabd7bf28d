"""What all charts and tables of a notebook share: the source line of a picture and the order of languages.

`enable_display(run)` sets it, as a theme is set: once at the top of a notebook. Without it charts have no source line
and order languages by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl

from bestofl_lib.display.origin import footer_of
from bestofl_lib.languages import english_name
from bestofl_lib.runs import Run


@dataclass(frozen=True)
class Context:
    """Shared by the charts of a notebook."""

    source: str = ""  # "Best-of-L · run lab · …"; empty: no line
    order: tuple[str, ...] = ()  # language codes, the most accurate first


_run: list[Run] = []
_order: list[str] = []


def use_run(run: Run | None) -> None:
    """Charts made from now on say that they come from this run, and order languages by its accuracy; None: from no
    run.
    """
    _run[:] = [] if run is None else [run]
    _order.clear()


def use_order(codes: Iterable[str]) -> None:
    """Languages have this order from now on, in place of the one that the run's table of accuracy gives."""
    _order[:] = codes


def current() -> Context:
    """The current context, read from the tables that the run has so far."""
    if not _run or not _run[0].folder.is_dir():
        return Context(order=tuple(_order))
    return Context(footer_of(_run[0]), tuple(_order or _run[0].languages_by_accuracy()))


def languages_in_order(codes: Sequence[str | None] | pl.Series) -> list[str]:
    """English names in the order of the run's accuracy, the best first; unknown ones last, by name."""
    rank = _rank()
    unique = {code for code in codes if code is not None}
    return [english_name(code) for code in sorted(unique, key=lambda c: (rank.get(c, len(rank)), english_name(c)))]


def by_accuracy(table: pl.DataFrame, column: str = "language") -> pl.DataFrame:
    """The table with its languages in the order of the charts; rows of one language keep theirs.

    Args:
        column: language codes, or names of reward models, of which `mono-en` stands where `en` does; all others last.
    """
    rank = _rank()
    place = pl.col(column).str.strip_prefix("mono-").replace_strict(rank, default=len(rank), return_dtype=pl.Int64)
    return table.sort(place, maintain_order=True)


def _rank() -> dict[str, int]:
    return {code: place for place, code in enumerate(current().order)}
