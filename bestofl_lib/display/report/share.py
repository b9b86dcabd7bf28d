"""A report to give away: one HTML file that works when it is mailed, or a folder for a static host.

In the file pages, styles, scripts and data are inside, and the content security policy lets exactly these scripts run,
each by its hash. The folder holds the pages as `build` writes them.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from markupsafe import Markup

from bestofl_lib.display import embed
from bestofl_lib.display.report import atlas
from bestofl_lib.display.report.build import ASSETS, STATE, States, asset, atlas_page, build_report, links, report_pages
from bestofl_lib.display.report.pages import render
from bestofl_lib.files import replace_file
from bestofl_lib.runs import Run

LARGEST = 4_000_000  # bytes, so that a mail server takes it
PAGE_LINK = "#page={}"


def share(run: Run, path: Path, *, title: str, states: States, largest: int = LARGEST) -> int:
    """Write a run's report as one file.

    Args:
        run: with executed notebooks, see `build.build_report`.
        path: of the HTML file.
        title: of the study.
        states: notebook name to (state, why), in order.
        largest: bytes; the atlas leaves out completions until the file fits, and says so.

    Returns:
        Its size in bytes.

    Raises:
        ValueError: the report does not fit, even without completions.
    """
    pages = report_pages(run, title, states, atlas.LARGEST, PAGE_LINK)
    data = _file(run, title, pages)
    for _ in range(4):
        spare = largest - len(data)
        if spare >= 0:
            replace_file(path, data)
            return len(data)
        seen = next((page for page in pages if page.name == "atlas"), None)
        room = len(seen.body) + spare - 3_000 if seen else 0  # of its words, and a little
        if seen is None or room < 1_000:
            break
        smaller = atlas_page(run, states, room)
        pages = [smaller if smaller and page.name == "atlas" else page for page in pages]
        data = _file(run, title, pages)
    raise ValueError(
        f"the report of run {run.name!r} has {len(data):,} bytes, more than {largest:,}; show fewer charts or shorter "
        "tables in its notebooks"
    )


def share_folder(run: Run, folder: Path, *, title: str, states: States) -> int:
    """Write a run's report as a folder that any static host serves, and that opens from disk as well.

    Args:
        run: with executed notebooks, see `build.build_report`.
        folder: new, empty, or an earlier report, which is replaced.
        title: of the study.
        states: notebook name to (state, why), in order.

    Returns:
        The bytes of all its files.

    Raises:
        ValueError: the folder holds something else, which would be lost.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "assets" / STATE).is_file():
        raise ValueError(f"{folder} holds files that are no report and would be lost; name a new or an empty folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    build_report(run, folder, title=title, states=states)
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _file(run: Run, title: str, pages: list) -> bytes:
    code = [embed.chart_library(), *(embed.asset(name) for name in ("common.js", "charts.js", "pages.js"))]
    needed = {name for page in pages for name in page.scripts}
    for name in ("whatif.js", "atlas.js"):
        code[3:3] = [embed.asset(part) for part in ASSETS[name] if part != "common.js"] if name in needed else []
    scripts = [embed.inert_script(text) for text in code]
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in scripts
    )
    policy = Markup(
        f"default-src 'none'; script-src {hashes} 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )  # unsafe-eval: Vega compiles its expressions
    text = render(
        "one_file.html.j2",
        policy=policy,
        title=f"{title} · {run.name}",
        brand=f"Best-of-L · run {run.name}",
        pages=pages,
        links=links(pages, "index", PAGE_LINK),
        body=Markup(),
        heading="",
        rows=[],
        style=Markup(asset(ASSETS["page.css"])),
        scripts=[Markup(script) for script in scripts],
    )
    return text.encode("utf8", "replace")
