"""Draws charts as vector and pixel pictures outside a notebook, with the right glyphs in every script.

Chromium, where it is installed, lays the text out: it shapes Bengali, Telugu and Thai and finds a font for every
character. Without it vl-convert draws, which needs no browser but garbles these scripts: a chart that holds them is
then refused. Knows HTML and processes; knows nothing of runs.
"""

from __future__ import annotations

import base64
import html
import json
import math
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bestofl_lib.display import embed

VEGA_LITE = "6.4"
SCALE = 3.0  # PNG pixels per pixel of the page: 288 per inch
PIXELS_PER_INCH = 96
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# vl-convert garbles or lacks these
SHAPED = re.compile("[\u0590-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]")
_PIXELS = re.compile(r'<pre class="pixels">data:image/png;base64,([^<]+)</pre>')
_PICTURE = re.compile(r'<pre class="picture" data-number="(\d+)">(.*?)</pre>', re.DOTALL)


@dataclass(frozen=True)
class Look:
    """The look of pictures."""

    width: float | None = None  # inches; None: as wide as the chart was written
    font: str = ""  # a family; empty: the sans-serif of the pages
    title: bool = True  # whether the finding and the question are above the chart


def browser() -> str | None:
    """The path of Chromium or Chrome on this machine, or None."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def draw_svg(specs: Sequence[dict[str, Any]], look: Look) -> list[str]:
    """Each chart as SVG text, with its title and its source inside.

    Raises:
        RuntimeError: Chromium could not draw a chart; names it.
        ValueError: there is no Chromium, and a chart holds text that vl-convert cannot set.
    """
    program = browser()
    if program is None:
        return [_without_browser(spec, look) for spec in specs]
    options = {"width": look.width and look.width * PIXELS_PER_INCH, "font": look.font, "title": look.title}
    figures = "".join(embed.chart_block(spec, draw=False) for spec in specs)
    code = "\n".join((embed.chart_library(), embed.asset("common.js"), embed.asset("charts.js"), _SCRIPT))
    page = (
        f'<!doctype html><meta charset="utf-8"><body>{figures}<script>const options = '
        f"{embed.inert_json(options)};</script>"
        f"<script>{embed.inert_script(code)}</script></body>"
    )
    text = _chromium(program, page, ["--virtual-time-budget=120000", "--dump-dom"])
    found = {int(number): html.unescape(picture) for number, picture in _PICTURE.findall(text)}
    for place, spec in enumerate(specs):
        if not found.get(place, "").startswith("<svg"):
            name = spec.get("usermeta", {}).get("name", "chart")
            raise RuntimeError(f"Chromium could not draw {name!r}: {found.get(place, 'no picture')[:300]}")
    return [found[place] for place in range(len(specs))]


def to_pdf(svg: str) -> bytes:
    """A picture as one vector page of its size."""
    program = browser()
    if program is None:
        import vl_convert

        return vl_convert.svg_to_pdf(svg)
    width, height = size_of(svg)
    page = _page(svg, f"@page {{ size: {width}px {height}px; margin: 0; }}")
    with tempfile.TemporaryDirectory() as folder:
        destination = Path(folder) / "picture.pdf"
        _chromium(program, page, ["--no-pdf-header-footer", f"--print-to-pdf={destination}"])
        return destination.read_bytes()


def to_png(svg: str) -> bytes:
    """A picture as pixels, 288 per inch."""
    program = browser()
    if program is None:
        import vl_convert

        return vl_convert.svg_to_png(svg, scale=SCALE)
    page = _page(svg, "") + f"<script>const scale = {SCALE:g};{_TO_PIXELS}</script>"
    found = _PIXELS.search(_chromium(program, page, ["--virtual-time-budget=120000", "--dump-dom"]))
    if found is None:
        raise RuntimeError("Chromium could not draw a picture as pixels; export it as svg or pdf instead")
    return base64.b64decode(found[1])


def size_of(svg: str) -> tuple[int, int]:
    """Width and height of a picture in pixels, rounded up."""
    sizes = [re.search(rf'<svg[^>]*?\s{name}="([\d.]+)"', svg) for name in ("width", "height")]
    if None in sizes:
        raise ValueError("the picture does not say its width and height")
    return tuple(math.ceil(float(found[1])) for found in sizes if found)  # type: ignore[return-value]


def _page(svg: str, style: str) -> str:
    return (
        f'<!doctype html><meta charset="utf-8"><style>{style} body {{ margin: 0; }} svg {{ display: block; '
        f"}}</style>{svg}"
    )


def _chromium(program: str, page: str, options: list[str]) -> str:
    """Run Chromium without a window on a page that loads nothing else; returns its standard output."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.html"
        path.write_text(page, "utf8", errors="replace")
        command = [
            program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-extensions", "--no-first-run",
            "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder}/profile", *options, path.as_uri(),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, timeout=180, check=False)
    if done.returncode:
        last = done.stderr.decode("utf8", "replace").strip().splitlines()[-1:]
        raise RuntimeError(f"{program} stopped with status {done.returncode}: {' '.join(last)}")
    return done.stdout.decode("utf8", "replace")


def _without_browser(spec: Mapping[str, Any], look: Look) -> str:
    """Draw with vl-convert: its own text layout, the chart's own width."""
    import vl_convert

    text = json.dumps(spec, ensure_ascii=False)
    if bad := SHAPED.search(text):
        raise ValueError(
            f"a chart holds {bad[0]!r}, which only Chromium can draw correctly; install it (Debian: apt-get install "
            "chromium) and run again"
        )
    changed: dict[str, Any] = {**spec, "background": "white"}
    changed["config"] = dict(spec.get("config", {})) | {"font": look.font or "DejaVu Sans"}
    if not look.title:
        changed.pop("title", None)
    return vl_convert.vegalite_to_svg(json.dumps(changed), vl_version=VEGA_LITE).replace("currentColor", "#1d2126")


_SCRIPT = """
(async () => {
  const figures = Array.from(document.querySelectorAll("figure.bestofl-chart"));
  for (const [number, figure] of figures.entries()) {
    const out = document.createElement("pre");
    out.className = "picture";
    out.dataset.number = number;
    try { out.textContent = await window.bestofl.picture(figure, options); }
    catch (error) { out.textContent = error.message; }
    document.body.appendChild(out);
  }
})();
"""

# Not a screenshot of the window: of a picture lower than 150 pixels it showed a part.
_TO_PIXELS = """
(async () => {
  const svg = document.querySelector("svg"), image = new Image(), canvas = document.createElement("canvas");
  canvas.width = Math.ceil(svg.getAttribute("width")) * scale;
  canvas.height = Math.ceil(svg.getAttribute("height")) * scale;
  image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(new XMLSerializer().serializeToString(svg));
  await image.decode();
  canvas.getContext("2d").drawImage(image, 0, 0, svg.getAttribute("width") * scale, svg.getAttribute("height") * scale);
  const out = document.createElement("pre");
  out.className = "pixels";
  out.textContent = canvas.toDataURL("image/png");
  document.body.appendChild(out);
})();
"""
