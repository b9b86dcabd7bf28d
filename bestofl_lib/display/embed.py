"""Puts Altair charts into notebooks and pages so that they draw without a network.

The chart library is one script of 0.9 MB, taken from vl-convert and kept in the user's cache. A notebook shows it once,
a report links to one copy of it; a chart is only its specification. This file knows HTML and JSON. It knows nothing of
what a chart shows.
"""

from __future__ import annotations

import html
import json
import os
import re
from functools import lru_cache
from importlib import metadata
from itertools import count
from pathlib import Path
from typing import Any

from bestofl_lib.files import replace_file
from bestofl_lib.runs import Run
from bestofl_lib.text import content_digest

ASSETS = Path(__file__).resolve().parent / "assets"
SETUP = "setup"  # value of the output metadata "bestofl" that marks the chart library
CHART = "chart"  # and the one that marks a chart
TABLE_ROWS = 24  # of a table that are shown; the languages, twice
TEXT_LENGTH = 100  # characters of a text in a table
_DRAW = '<script data-bestofl="draw">'
_BREAKS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_numbers = count()


def enable_display(run: str = "", root: Path | None = None) -> None:
    """Make charts draw in this notebook, offline, in JupyterLab and in exported HTML, and show whole tables.

    Call it once at the top: it shows an invisible output that holds the chart library. A table of all languages is
    shown with all its rows and without shape and types, and a text in full.

    Args:
        run: whose charts are shown: they name it in their last line, and order languages by its accuracy.
        root: folder of the runs; by default `data/runs`.
    """
    import altair
    import polars as pl
    from IPython.display import display

    from bestofl_lib.display.context import use_run

    use_run(Run(run, root) if run else None)
    pl.Config(
        tbl_rows=TABLE_ROWS,
        fmt_str_lengths=TEXT_LENGTH,
        tbl_hide_dataframe_shape=True,
        tbl_hide_column_data_types=True,
    )
    altair.renderers.register("bestofl", _render)
    altair.renderers.enable("bestofl")
    code = "\n".join((chart_library(), asset("charts.js")))
    style = asset("charts.css")
    block = f"<style>{style}</style><script>if (!window.vegaEmbed) {{ {inert_script(code)} }}</script>"
    display({"text/html": block, "text/plain": "charts are on"}, metadata={"bestofl": SETUP}, raw=True)


def chart_library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script that sets `window.vegaEmbed`; built once per version, in 2 s."""
    version = metadata.version("vl-convert-python")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bestofl" / f"vega-{version}.js"
    if cache.exists():
        return cache.read_text("utf8")
    import vl_convert

    library = vl_convert.javascript_bundle(vl_version="6.4")  # type: ignore[call-arg]  # its stub makes an option required
    script = "(function () {\n" + library + "\n})();\n"
    try:
        replace_file(cache, script.encode())
    except OSError:
        return script  # no cache to write to: it is built again next time
    return script


def inert_script(code: str) -> str:
    """JavaScript that may stand between script tags."""
    return code.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def inert_json(value: Any) -> str:
    """JSON that may stand between script tags: nothing in it can end the script or begin a tag."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def chart_block(spec: dict[str, Any], draw: bool = True) -> str:
    """One chart as HTML: caption, holder, specification.

    Args:
        spec: Vega-Lite, as from `Chart.to_dict()`; its title becomes the caption.
        draw: add the line that draws it; a report's own script draws all of its charts.
    """
    spec = _without_breaks(spec)
    title = spec.get("title") or {}
    title = {"text": title} if isinstance(title, str) else title
    subtitle = title.get("subtitle", "")
    text = inert_json(spec)
    name = f"chart-{content_digest(text)[:10]}-{next(_numbers)}"
    caption = f"<strong>{html.escape(_line(title.get('text', '')))}</strong>"
    caption += f"<span>{html.escape(_line(subtitle))}</span>" if subtitle else ""
    return (
        f'<figure class="bestofl-chart" id="{name}"><figcaption>{caption}</figcaption>'
        '<div class="bestofl-holder"><p class="bestofl-fallback">This chart is drawn by a script: open the HTML '
        "report, or trust this notebook and run its first cell.</p></div>"
        f'<script type="application/json">{text}</script></figure>'
        + (f"{_DRAW}window.bestofl && window.bestofl.draw({json.dumps(name)})</script>" if draw else "")
    )


def _without_breaks(value: Any) -> Any:
    """The same specification with control characters and line separators in its texts as spaces.

    Vega-Lite writes the values of a sort order into expressions, and its parser stops at a line separator.
    """
    if isinstance(value, str):
        return _BREAKS.sub(" ", value)
    if isinstance(value, dict):
        return {_without_breaks(key): _without_breaks(inner) for key, inner in value.items()}
    return [_without_breaks(inner) for inner in value] if isinstance(value, list) else value


def _line(text: str | list[str]) -> str:
    return " ".join(text) if isinstance(text, list) else str(text)


def _render(spec: dict[str, Any], **_: Any) -> tuple[dict[str, str], dict[str, Any]]:
    """Altair's renderer protocol: a MIME bundle and its metadata."""
    text = spec.get("usermeta", {}).get("name", "chart")
    return {"text/html": chart_block(spec), "text/plain": f"<{text}>"}, {"bestofl": CHART}


def chart_specs(notebook: Any) -> list[dict[str, Any]]:
    """The specifications of all charts that an executed notebook shows, in order."""
    return [
        spec
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if (spec := spec_of_output(output)) is not None
    ]


def spec_of_output(output: Any) -> dict[str, Any] | None:
    """The specification in one output of an executed notebook; None when it is no chart of ours."""
    if output.get("metadata", {}).get("bestofl") != CHART:
        return None
    block = output["data"]["text/html"]
    start = block.index('<script type="application/json">') + len('<script type="application/json">')
    return json.loads(block[start : block.index("</script>", start)])


@lru_cache
def asset(name: str) -> str:
    """The text of a file in `assets`."""
    return (ASSETS / name).read_text("utf8")
