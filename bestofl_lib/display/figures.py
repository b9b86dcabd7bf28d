"""A run's charts and result tables as files for a paper: PDF, SVG and PNG, the data as CSV, tables as LaTeX.

Takes the charts from the run's executed notebooks; `pictures` draws them. It makes no chart and computes no figure.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nbformat
import polars as pl

from bestofl_lib.display import embed, latex
from bestofl_lib.display.origin import footer_of
from bestofl_lib.display.pictures import Look, draw_svg, to_pdf, to_png
from bestofl_lib.files import replace_file
from bestofl_lib.runs import Run
from bestofl_lib.text import suggestion

FORMATS = ("pdf", "svg", "png", "csv", "tex")
PICTURES = ("pdf", "svg", "png")


def export_figures(
    run: Run,
    folder: Path,
    formats: Sequence[str] = ("svg", "png", "csv"),
    look: Look | None = None,
    only: Sequence[str] = (),
    say: Callable[[str], None] = lambda text: None,
) -> list[Path]:
    """Write the charts that the run's notebooks show, and its result tables.

    Args:
        run: with executed notebooks.
        folder: made where it is missing; files of the same name are replaced.
        formats: of FORMATS; "tex" writes result tables, the others charts.
        look: width, font and title of the pictures.
        only: parts of the names wanted, such as "claims"; empty: all.
        say: called once per chart and table.

    Returns:
        The files written: `<name>.<format>`; a name that comes twice gets `-2`.

    Raises:
        FileNotFoundError: the run has no executed notebook that shows a chart.
        ValueError: an unknown format, or nothing of that name.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise ValueError(
            f"unknown format {unknown[0]!r}; {suggestion(unknown[0], FORMATS)}formats: {', '.join(FORMATS)}"
        )
    charts = charts_of(run)
    if not charts:
        have = "no executed notebook" if not list(_notebooks(run)) else "no chart in its notebooks"
        raise FileNotFoundError(f"run {run.name!r} has {have} in {run.folder / 'notebooks'}; run its study first")
    tables = [name for name in latex.TABLES if run.has(name)] if "tex" in formats else []
    names = [*(name for name, _ in charts), *tables]
    charts, tables = [c for c in charts if _wanted(c[0], only)], [t for t in tables if _wanted(t, only)]
    if not charts and not tables:
        raise ValueError(f"there is no {', '.join(only)!r}; there are {', '.join(names)}")
    written = _write_tables(run, tables, folder, say)
    return [*written, *_write_charts(charts, folder, formats, look or Look(), say)]


def charts_of(run: Run) -> list[tuple[str, dict[str, Any]]]:
    """The charts of a run's executed notebooks in order, each with a name that no other has; the same chart shown twice
    counts once.
    """
    found: list[tuple[str, dict[str, Any]]] = []
    seen: set[str] = set()
    names: dict[str, int] = {}
    for path in _notebooks(run):
        for spec in embed.chart_specs(nbformat.read(path, as_version=4)):
            key = json.dumps(spec, sort_keys=True)
            if key in seen:
                continue
            seen.add(key)
            stem = re.sub(r"[^A-Za-z0-9_-]+", "_", str(spec.get("usermeta", {}).get("name") or "chart"))[:80]
            names[stem] = names.get(stem, 0) + 1
            found.append((stem if names[stem] == 1 else f"{stem}-{names[stem]}", spec))
    return found


def table_of(spec: dict[str, Any]) -> pl.DataFrame:
    """The data of a chart: its largest data set; of a chart with panels, all of their data."""
    sets = [rows for rows in spec.get("datasets", {}).values() if isinstance(rows, list) and rows]
    inline = (spec.get("data") or {}).get("values")
    sets += [inline] if isinstance(inline, list) else []
    largest: list[dict[str, Any]] = max(sets, key=len, default=[])
    alike = [rows for rows in sets if largest and set(rows[0]) == set(largest[0])]
    flat = [
        {key: json.dumps(value) if isinstance(value, list | dict) else value for key, value in row.items()}
        for rows in alike
        for row in rows
    ]
    return pl.DataFrame(flat, infer_schema_length=None)


def csv_of(table: pl.DataFrame) -> bytes:
    """CSV in UTF-8 with a mark; a text that a spreadsheet would take for a formula gets an apostrophe in front."""
    formula = r"^([=+\-@\t\r])"
    safe = table.with_columns(pl.col(pl.String).str.replace(formula, "'$1"))
    buffer = io.BytesIO()
    safe.write_csv(buffer)
    return b"\xef\xbb\xbf" + buffer.getvalue()


def inches(text: str) -> float:
    """A width such as `3.3in`, `84mm` or `8.4cm` in inches.

    Raises:
        ValueError: another unit, or a width outside 1 to 20 inches.

    >>> inches("3.3in"), round(inches("84mm"), 2)
    (3.3, 3.31)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(in|mm|cm)\s*", text)
    if found is None:
        raise ValueError(f"width {text!r}: expected a number and a unit, such as 3.3in, 84mm or 8.4cm")
    width = float(found[1]) / {"in": 1, "cm": 2.54, "mm": 25.4}[found[2]]
    if not 1 <= width <= 20:
        raise ValueError(f"width {text!r} is {width:.1f} inches; expected 1 to 20")
    return width


def _wanted(name: str, only: Sequence[str]) -> bool:
    return not only or any(part in name for part in only)


def _write_charts(
    charts: list[tuple[str, dict[str, Any]]],
    folder: Path,
    formats: Sequence[str],
    look: Look,
    say: Callable[[str], None],
) -> list[Path]:
    pictures = draw_svg([spec for _, spec in charts], look) if set(PICTURES) & set(formats) and charts else []
    written = []
    for place, (name, spec) in enumerate(charts):
        make: dict[str, Callable[[], bytes]] = {
            "svg": lambda: pictures[place].encode(),  # noqa: B023
            "pdf": lambda: to_pdf(pictures[place]),  # noqa: B023
            "png": lambda: to_png(pictures[place]),  # noqa: B023
            "csv": lambda: csv_of(table_of(spec)),  # noqa: B023
        }
        for ending in (ending for ending in formats if ending in make):
            replace_file(folder / f"{name}.{ending}", make[ending]())
            written.append(folder / f"{name}.{ending}")
        if set(formats) & set(make):
            say(f"  {name}: {', '.join(ending for ending in formats if ending in make)}")
    return written


def _write_tables(run: Run, tables: list[str], folder: Path, say: Callable[[str], None]) -> list[Path]:
    written = []
    for name in tables:
        caption = (
            f"{name.replace('_', ' ').capitalize()}; effects in percentage points with 95 % intervals. "
            f"{footer_of(run)}."
        )
        text = latex.booktabs(name, run.read(name), caption, f"tab:{run.name}-{name}".replace("_", "-"))
        replace_file(folder / f"{name}.tex", text.encode())
        written.append(folder / f"{name}.tex")
        say(f"  {name}: tex")
    return written


def _notebooks(run: Run) -> list[Path]:
    return sorted((run.folder / "notebooks").glob("[0-9][0-9]_*.ipynb"))
