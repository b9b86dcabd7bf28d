"""Every chart of a run as files for a paper: SVG and PNG of the picture, CSV of its table.

Takes the charts from the run's executed notebooks and draws them again with vl-convert, which needs no browser. It makes no
chart and computes no figure.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import polars as pl

from bestofl_lib.display import embed
from bestofl_lib.files import replace_file
from bestofl_lib.runs import Run

VEGA_LITE = "6.4"
PIXELS = 3.0  # PNG pixels per unit of length: 900 units are 2,700 pixels, 9 inches at 300 dpi


def export_figures(run: Run, folder: Path, say: Callable[[str], None] = lambda text: None) -> list[Path]:
    """Write every chart that the run's notebooks show.

    Args:
        run: with executed notebooks.
        folder: made where it is missing; files of the same name are replaced.
        say: called once per chart.

    Returns:
        The files written: per chart `<name>.svg`, `<name>.png` and `<name>.csv`; a name that comes twice gets `-2`.

    Raises:
        FileNotFoundError: the run has no executed notebook that shows a chart.
    """
    import vl_convert

    charts = list(charts_of(run))
    if not charts:
        have = "no executed notebook" if not list(_notebooks(run)) else "no chart in its notebooks"
        raise FileNotFoundError(f"run {run.name!r} has {have} in {run.folder / 'notebooks'}; run its study first")
    written = []
    for name, spec in charts:
        picture = json.dumps({**spec, "background": "white"})
        table = table_of(spec)
        for ending, data in (
            (".svg", vl_convert.vegalite_to_svg(picture, vl_version=VEGA_LITE).encode()),
            (".png", vl_convert.vegalite_to_png(picture, vl_version=VEGA_LITE, scale=PIXELS)),
            (".csv", csv_of(table)),
        ):
            replace_file(folder / f"{name}{ending}", data)
            written.append(folder / f"{name}{ending}")
        say(f"  {name}: svg, png, csv ({table.height} rows)")
    return written


def charts_of(run: Run) -> list[tuple[str, dict[str, Any]]]:
    """The charts of a run's executed notebooks in order, each with a name that no other has; the same chart shown twice counts once."""
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
    """The data of a chart: its largest data set."""
    sets = [rows for rows in spec.get("datasets", {}).values() if isinstance(rows, list)]
    inline = (spec.get("data") or {}).get("values")
    sets += [inline] if isinstance(inline, list) else []
    rows = max(sets, key=len, default=[])
    flat = [
        {key: json.dumps(value) if isinstance(value, list | dict) else value for key, value in row.items()}
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


def _notebooks(run: Run) -> list[Path]:
    return sorted((run.folder / "notebooks").glob("[0-9][0-9]_*.ipynb"))
