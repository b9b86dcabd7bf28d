"""Turns the executed notebooks of a run into a few HTML pages that need no network and no Python.

`index.html` opens with the questions and the answers; then one page per notebook, and the atlas. The chart library,
its drawing script and the stylesheet are stored once in `assets/`. A content security policy in every page lets no
other script run and no request leave. This file knows pages and files. It computes no figure.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import polars as pl
from markupsafe import Markup

from bestofl_lib.analysis.arrays import arrays_of_run
from bestofl_lib.display import embed, words
from bestofl_lib.display.origin import footer_of
from bestofl_lib.display.report import atlas, whatif
from bestofl_lib.display.report.overview import HEADLINES, overview
from bestofl_lib.display.report.pages import POLICY, TEMPLATES, Column, Link, Table, render
from bestofl_lib.display.servers import server_sentences
from bestofl_lib.display.text import inert_text, written_markdown
from bestofl_lib.files import ROOT, replace_file
from bestofl_lib.runs import Run
from bestofl_lib.text import p_value, signed, signed_interval, unsigned

FRESH, FAILED = "up to date", "failed"
STATE = "state.js"  # of a report's assets: empty, or why its pages may be out of date
LARGEST = 6_000_000  # bytes of a whole report
SIMULATED = ROOT / "reports" / "COVERAGE.md"  # how often intervals hold the truth, made by `make coverage`
ASSETS = {  # files of a report's assets folder, and what of `display/assets` each holds
    "charts.js": ("common.js", "charts.js"),
    "atlas.js": ("common.js", "atlas.js"),
    "whatif.js": ("common.js", "estimators.js", "intervals.js", "whatif.js"),
    "page.css": ("charts.css", "page.css", "atlas.css"),
}

States = Mapping[str, tuple[str, str]]  # notebook to (state, why), in order


@dataclass(frozen=True)
class Page:
    """One page before it is put into its shell."""

    name: str  # its file without .html
    text: str  # in the navigation
    question: str
    body: Markup
    heading: str  # above the rows
    rows: list[tuple[str, str]]  # where it comes from
    scripts: tuple[str, ...]


def build_report(run: Run, destination: Path, *, title: str, states: States) -> Path:
    """Write a run's report.

    Args:
        run: with executed notebooks in `notebooks/` and, once the last one has run, a table `claims`.
        destination: the report's folder; replaced as a whole.
        title: of the study.
        states: notebook name to (state, why), in order. Notebooks that are up to date get a page, one that failed gets
            a page with a banner, others are listed as not run: nothing stale is presented as fresh.

    Returns:
        The path of index.html.

    Raises:
        OSError: the pages cannot be written; the old report is intact.
    """
    pages = report_pages(run, title, states)
    new = destination.with_name(f".{destination.name}.{os.getpid()}.part")
    shutil.rmtree(new, ignore_errors=True)
    try:
        (new / "assets").mkdir(parents=True)
        for page in pages:
            (new / f"{page.name}.html").write_text(_in_shell(page, pages, run), "utf8", errors="replace")
        (new / "assets" / "vega.js").write_text(embed.chart_library(), "utf8")
        needed = {"page.css", "charts.js"}.union(*(page.scripts for page in pages))
        for name, parts in ((name, parts) for name, parts in ASSETS.items() if name in needed):
            (new / "assets" / name).write_text(asset(parts), "utf8")
        (new / "assets" / STATE).write_text("", "utf8")
        _put_in_place(new, destination)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return destination / "index.html"


def mark_unfinished(destination: Path, why: str) -> None:
    """Make the pages of a written report say that they may be older than their run, until it is built again.

    Called before a notebook runs: a run that is interrupted or killed then leaves pages that say so. Does nothing where
    there is no report.
    """
    if (destination / "assets").is_dir():
        text = f"document.documentElement.dataset.unfinished = {embed.inert_json(why)};\n"
        replace_file(destination / "assets" / STATE, text.encode())


def report_pages(
    run: Run, title: str, states: States, largest_atlas: int = atlas.LARGEST, link: str = "{}.html"
) -> list[Page]:
    """All pages of a report, the overview first; see `build_report`. `link` is how a page refers to another by its
    name.
    """
    records = run.recorded().get("notebooks", {})
    shown = [name for name, (state, _) in states.items() if state in (FRESH, FAILED) and _executed(run, name).exists()]
    notebooks = {name: nbformat.read(_executed(run, name), as_version=4) for name in shown}
    pages = [
        _notebook_page(name, notebook, states[name], records.get(name, {})) for name, notebook in notebooks.items()
    ]
    seen = atlas_page(run, states, largest_atlas)
    answering = _whatif_page(run, states, "atlas.html#{}" if link.endswith(".html") else "#{}") if seen else None
    pages += [page for page in (seen, answering, _intervals_page(run, states)) if page]
    return [_index_page(run, title, states, notebooks, pages, link), *pages]


def asset(parts: tuple[str, ...]) -> str:
    """Scripts or styles of `display/assets` one after the other."""
    text = "\n".join(map(embed.asset, parts))
    return text + ('\naddEventListener("load", () => window.bestofl.drawAll());\n' if "charts.js" in parts else "")


def _put_in_place(new: Path, destination: Path) -> None:
    old = destination.with_name(f".{destination.name}.{os.getpid()}.old")
    shutil.rmtree(old, ignore_errors=True)
    if destination.exists():
        os.replace(destination, old)
    os.replace(new, destination)
    shutil.rmtree(old, ignore_errors=True)


def _executed(run: Run, name: str) -> Path:
    return run.folder / "notebooks" / f"{name}.ipynb"


def _in_shell(page: Page, pages: list[Page], run: Run) -> str:
    return render(
        "base.html.j2",
        policy=POLICY,
        title=f"{page.text} · {run.name}",
        brand=f"Best-of-L · run {run.name}",
        links=links(pages, page.name),
        body=page.body,
        heading=page.heading,
        rows=page.rows,
        scripts=(STATE, *page.scripts),
    )


def links(pages: list[Page], here: str = "", link: str = "{}.html") -> list[Link]:
    """The navigation over these pages; `here` is the one that is open."""
    return [Link(link.format(page.name), page.text, page.name == here, page.question) for page in pages]


def _chart_scripts(body: str) -> tuple[str, ...]:
    return ("vega.js", "charts.js") if '<figure class="bestofl-chart"' in body else ()


# -- one notebook ----------------------------------------------------------------------------------------------------


def _notebook_page(name: str, notebook: Any, state: tuple[str, str], record: dict[str, Any]) -> Page:
    text, question = _title_and_question(notebook, name)
    why = state[1] if state[0] == FAILED else None
    body = render("notebook.html.j2", name=name, why=why, cells=Markup(_cells(notebook)))
    return Page(name, text, question, body, "Where this page comes from", _provenance(record), _chart_scripts(body))


def _cells(notebook: Any) -> str:
    """A notebook's cells as HTML; every output is made inert by our own template."""
    from nbconvert.exporters import HTMLExporter

    exporter = HTMLExporter(
        template_name="bestofl",
        extra_template_basedirs=[str(TEMPLATES / "nbconvert")],
        filters={"inert_text": inert_text, "written_markdown": written_markdown},
    )
    body, _ = exporter.from_notebook_node(_prepared(notebook))
    return body


def _prepared(notebook: Any) -> Any:
    """The notebook with the chart library left out, charts reduced to their data, and Polars' own styles, its
    quotes around texts and its word for an empty cell dropped.
    """
    notebook = nbformat.from_dict(notebook)
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        kept = []
        for output in cell.outputs:
            spec = embed.spec_of_output(output)
            if spec is not None:
                output["data"] = nbformat.from_dict({"text/html": embed.chart_block(spec, draw=False)})
            elif "text/html" in output.get("data", {}):
                table = re.sub(r"<style>.*?</style>", "", output["data"]["text/html"], flags=re.DOTALL)
                table = re.sub(r"<td>&quot;(.*?)&quot;</td>", r"<td>\1</td>", table, flags=re.DOTALL)
                output["data"]["text/html"] = table.replace("<td>null</td>", "<td>–</td>")
            if output.get("metadata", {}).get("bestofl") != embed.SETUP:
                kept.append(output)
        cell.outputs = kept
    return notebook


def _title_and_question(notebook: Any, name: str) -> tuple[str, str]:
    """Title and question of a notebook, from its first Markdown cell."""
    text = next((cell.source for cell in notebook.cells if cell.cell_type == "markdown" and "# " in cell.source), "")
    title = next((line.lstrip("# ").strip() for line in text.splitlines() if line.startswith("#")), name)
    question = " ".join(line.lstrip("> ").strip() for line in text.splitlines() if line.startswith(">"))
    return title, question


# -- the atlas and the first page ------------------------------------------------------------------------------------


def atlas_page(run: Run, states: States, largest: int = atlas.LARGEST) -> Page | None:
    """The atlas, from tables that are fresh, in at most `largest` bytes of data; None where the run has no fresh
    readings.
    """
    records = run.recorded().get("notebooks", {})
    fresh = {
        file
        for name, (state, _) in states.items()
        if state == FRESH
        for file in records.get(name, {}).get("outputs", {})
    }
    if "readings.parquet" not in fresh:
        return None
    data = atlas.atlas_data(run, with_rewards="rewards.parquet" in fresh, largest=largest)
    if data is None:
        return None
    question = "Which problems are solved in which language, and what was written there?"
    return Page("atlas", "Atlas", question, atlas.atlas_body(data), "", [], ("atlas.js",))


def _whatif_page(run: Run, states: States, link: str) -> Page | None:
    """The What-if page, where every notebook is fresh and the pool is complete and small enough."""
    if any(state != FRESH for state, _ in states.values()):
        return None
    try:
        asked = run.store().asked().join(run.problems("test"), on=["problem_id", "language"], how="semi")
        if asked["n"].sum() > whatif.MOST_CANDIDATES:
            return None
        data = whatif.whatif_data(arrays_of_run(run), link)
    except (ValueError, FileNotFoundError):
        return None  # no complete pool of test problems: the notebooks that need one say why
    if data is None:
        return None
    question = "What would another budget, other languages or another way of choosing have reached?"
    return Page("whatif", "What if", question, whatif.whatif_body(data), "", [], ("whatif.js",))


def _intervals_page(run: Run, states: States) -> Page | None:
    """How often intervals like those of the verdicts hold the truth; None where no verdicts are shown."""
    if any(state != FRESH for state, _ in states.values()) or not run.has("claims") or not SIMULATED.exists():
        return None
    title, _, text = SIMULATED.read_text("utf8").partition("\n")
    body = Markup('<h1>{}</h1><div class="output">{}</div>').format(title.strip("# "), Markup(written_markdown(text)))
    question = "How often do 95 % intervals like these hold the truth?"
    return Page("intervals", "Intervals", question, body, "", [], ())


def _index_page(
    run: Run,
    title: str,
    states: States,
    notebooks: dict[str, Any],
    pages: list[Page],
    link: str,
) -> Page:
    waiting = [{"name": n, "state": s, "why": why} for n, (s, why) in states.items() if n not in notebooks]
    failed = [{"name": n, "why": why} for n, (state, why) in states.items() if state == FAILED]
    judged = not waiting and not failed and all(state == FRESH for state, _ in states.values())
    said = overview(run, title, judged)
    claims = run.read("claims") if judged and run.has("claims") else pl.DataFrame()
    first = [column for column in words.VERDICT_COLUMNS if column in claims.columns]
    rest = [c for c in claims.columns if c not in (*first, "sentence", "low", "high")]
    chart = _headline_chart(notebooks)
    sentences = claims.to_dicts() if "sentence" in claims.columns else []
    body = render(
        "index.html.j2", overview=said, failed=failed, waiting=waiting, judged=judged,
        chart=Markup(embed.chart_block(chart, draw=False)) if chart else None,
        claims=_ClaimTable(_claim_table(claims, first), [row for row in sentences if row["sentence"]]),
        simulated=next((link.format(page.name) for page in pages if page.name == "intervals"), None),
        rest=_claim_table(claims, [*first[:1], *rest] if rest else []), glossary=list(words.GLOSSARY.items()),
        links=links([Page("index", "Overview", "", Markup(), "", [], ()), *pages], "", link),
        about=_about(run, said.title),
    )  # fmt: skip
    heading = "Where this report comes from"
    return Page("index", "Overview", "", body, heading, _summary(run, states), _chart_scripts(body))


@dataclass(frozen=True)
class _ClaimTable:
    """The tests, and their sentences."""

    table: Table
    sentences: list[dict[str, Any]]

    @property
    def columns(self) -> Any:
        return self.table.columns

    @property
    def rows(self) -> Any:
        return self.table.rows

    @property
    def kind(self) -> str:
        return self.table.kind


def _claim_table(claims: pl.DataFrame, columns: list[str]) -> Table:
    if not columns:
        return Table([], [])
    headings = [
        Column(words.HEADINGS.get(name, name.replace("_", " ")), claims[name].dtype.is_numeric()) for name in columns
    ]
    return Table(
        headings, [[_claim_cell(name, row) for name in columns] for row in claims.iter_rows(named=True)], "claims"
    )


def _claim_cell(column: str, row: dict[str, Any]) -> Any:
    value = row[column]
    if value is None or value != value:
        return "–"
    if column == "verdict":
        kind = re.sub("[^a-z]+", "-", str(value).lower())
        return Markup('<span class="verdict {}">{}</span>').format(kind, value)
    if column == "effect":
        low, high = row.get("low"), row.get("high")
        return signed(value) + (f" {signed_interval(low, high)}" if low is not None and high is not None else "")
    if column == "mde":
        return unsigned(value)
    if column in ("p", "p_holm"):
        return p_value(value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _headline_chart(notebooks: dict[str, Any]) -> dict[str, Any] | None:
    """The chart of the first screen: the first of HEADLINES that the notebooks show."""
    specs: dict[str, dict[str, Any]] = {}
    for notebook in notebooks.values():
        for spec in embed.chart_specs(notebook):
            specs.setdefault(spec.get("usermeta", {}).get("name", "chart"), spec)
    return next((specs[name] for name in HEADLINES if name in specs), None)


# -- where it comes from ---------------------------------------------------------------------------------------------


def _about(run: Run, title: str) -> list[str]:
    study = run.recorded().get("study", {})
    given = " ".join(f"-p {name}={_given(value)}" for name, value in study.get("overrides", {}).items())
    lines = [
        f"Cite: Best-of-L, {title}. {footer_of(run)}. Method: Rajaee et al., arXiv 2509.15811; this is an independent "
        "implementation."
    ]
    if study.get("name"):
        lines.append(f"Run again: bestofl run {study['name']}{' ' + given if given else ''}")
    return lines


def _given(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _provenance(record: dict[str, Any]) -> list[tuple[str, str]]:
    """Parameters, versions, git state, data hashes and wall time of one notebook."""
    if not record:
        return []
    return [
        ("parameters", ", ".join(f"{name} = {value!r}" for name, value in record.get("parameters", {}).items())),
        (
            "started",
            f"{record.get('started', '?')}; took {record.get('seconds', 0):,} s, at most "
            f"{record.get('peak_memory_mb', 0):,} MB",
        ),
        ("git", record.get("git", "?")),
        ("versions", ", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items())),
        ("read", _digests(record.get("inputs", {}) | record.get("data", {}))),
        ("written", _digests(record.get("outputs", {}))),
    ]


def _digests(files: dict[str, str], most: int = 12) -> str:
    told = [f"{name} {digest[:8]}" for name, digest in files.items()]
    return ", ".join(told[:most]) + (f" and {len(told) - most} more files" if len(told) > most else "") or "nothing"


def _summary(run: Run, states: States) -> list[tuple[str, str]]:
    """Wall time and state of every notebook, versions and git state of the last one, and what servers were asked."""
    records = run.recorded().get("notebooks", {})
    rows = [
        (
            name,
            f"{state}{': ' + why if why else ''}; {records.get(name, {}).get('seconds', 0):,} s, "
            f"{records.get(name, {}).get('peak_memory_mb', 0):,} MB, {records.get(name, {}).get('started', 'never')}",
        )
        for name, (state, why) in states.items()
    ]
    done = [records[name] for name in states if name in records]
    if done:
        rows.append(("all", f"{sum(record.get('seconds', 0) for record in done):,.0f} s of wall time"))
        rows.append(("git", done[-1].get("git", "?")))
        rows.append(
            ("versions", ", ".join(f"{name} {version}" for name, version in done[-1].get("versions", {}).items()))
        )
    asked = run.recorded().get("sampling", []) + run.recorded().get("reward_servers", [])
    return rows + [("server", text) for text in server_sentences(asked)]
