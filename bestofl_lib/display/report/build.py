"""Turns the executed notebooks of a run into a few HTML pages that need no network and no Python.

`index.html` opens with the claims and their verdicts; then one page per notebook. The chart library, its drawing script
and the stylesheet stand once in `assets/`. A content security policy in every page lets no other script run and no
request leave. This file knows pages. It computes no figure: the claims come from the run's table.
"""

from __future__ import annotations

import html
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat

from bestofl_lib.display import embed
from bestofl_lib.display.report import atlas
from bestofl_lib.display.text import plain_text, written_markdown
from bestofl_lib.runs import Run
from bestofl_lib.text import signed, signed_interval, signed_points

POLICY = (
    "default-src 'none'; script-src 'self' file: 'unsafe-eval'; style-src 'self' file: 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)  # unsafe-eval: Vega compiles its expressions; scripts written into a page never run
HEADLINES = ("claims_forest", "english_against_mixed", "gain_over_resampling", "reward_quality", "accuracy_by_language")
CLAIM_COLUMNS = (
    "claim",
    "statement",
    "verdict",
    "effect",
    "p_holm",
    "mde",
    "budget",
    "n_problems",
)  # shown; the rest is folded
HEADINGS = {"effect": "effect [95 %]", "p_holm": "p (Holm)", "mde": "detectable", "n_problems": "problems"}
TEMPLATES = Path(__file__).resolve().parent / "templates"
LARGEST = 6_000_000  # bytes of a whole report


def build_report(run: Run, target: Path, *, title: str, states: dict[str, tuple[str, str]]) -> Path:
    """Write a run's report.

    Args:
        run: with executed notebooks in `notebooks/` and, once the last one has run, a table `claims`.
        target: the report's folder; replaced as a whole.
        title: of the study.
        states: notebook name to (state, why), in order. Notebooks that are up to date get a page, one that failed gets
            a page with a banner, others are listed as not run: nothing stale is shown as if it were fresh.

    Returns:
        The path of index.html.

    Raises:
        OSError: the pages cannot be written; the old report is intact.
    """
    records = run.recorded().get("notebooks", {})
    shown = [n for n, (state, _) in states.items() if state in ("up to date", "failed") and _executed(run, n).exists()]
    notebooks = {name: nbformat.read(_executed(run, name), as_version=4) for name in shown}
    heads = {name: _head(notebook, name) for name, notebook in notebooks.items()}
    seen = _atlas(run, states, records)
    if seen is not None:
        heads["atlas"] = ("Atlas", "Which problems are solved in which language, and what was written there?")
    pages = {
        f"{name}.html": _page(
            title=f"{heads[name][0]} · {run.name}",
            body=_banner(name, *states[name]) + _body(notebook),
            run=run,
            here=name,
            links=heads,
            footer=_provenance(records.get(name, {})),
        )
        for name, notebook in notebooks.items()
    }
    pages["index.html"] = _page(
        title=f"{title} · {run.name}",
        body=_index(run, title, states, notebooks, heads),
        run=run,
        here="",
        links=heads,
        footer=_summary(records, states),
    )
    if seen is not None:
        pages["atlas.html"] = _page(
            title=f"Atlas · {run.name}", body=seen, run=run, here="atlas", links=heads, footer=""
        )
    new = target.with_name(f".{target.name}.{os.getpid()}.part")
    shutil.rmtree(new, ignore_errors=True)
    try:
        (new / "assets").mkdir(parents=True)
        for name, text in pages.items():
            (new / name).write_text(text, "utf8", errors="replace")
        (new / "assets" / "vega.js").write_text(embed.chart_library(), "utf8")
        (new / "assets" / "charts.js").write_text(
            embed.asset("charts.js") + 'addEventListener("load", () => window.bestofl.drawAll());\n', "utf8"
        )
        (new / "assets" / "page.css").write_text(
            "".join(map(embed.asset, ("charts.css", "page.css", "atlas.css"))), "utf8"
        )
        if seen is not None:
            (new / "assets" / "atlas.js").write_text(embed.asset("atlas.js"), "utf8")
        _put_in_place(new, target)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return target / "index.html"


def _put_in_place(new: Path, target: Path) -> None:
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        os.replace(target, old)
    os.replace(new, target)
    shutil.rmtree(old, ignore_errors=True)


def _executed(run: Run, name: str) -> Path:
    return run.folder / "notebooks" / f"{name}.ipynb"


def _atlas(run: Run, states: dict[str, tuple[str, str]], records: dict[str, Any]) -> str | None:
    """The body of the atlas, from tables that are fresh; None where the run has no fresh readings."""
    fresh = {
        file
        for name, (state, _) in states.items()
        if state == "up to date"
        for file in records.get(name, {}).get("outputs", {})
    }
    if "readings.parquet" not in fresh:
        return None
    data = atlas.atlas_data(run, with_rewards="rewards.parquet" in fresh)
    return None if data is None else atlas.atlas_body(data)


# -- one page ------------------------------------------------------------------------------------------------------------


def _page(title: str, body: str, run: Run, here: str, links: dict[str, tuple[str, str]], footer: str) -> str:
    """The shell around a page's body."""
    entries = [("index.html", "Overview", here == "")] + [
        (f"{n}.html", head[0], here == n) for n, head in links.items()
    ]
    nav = "".join(
        f'<a href="{html.escape(file)}"{" aria-current=page" if current else ""}>{html.escape(text)}</a>'
        for file, text, current in entries
    )
    has_charts = '<figure class="bestofl-chart"' in body
    scripts = '<script src="assets/vega.js"></script><script src="assets/charts.js"></script>' if has_charts else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f'<title>{html.escape(title)}</title><link rel="stylesheet" href="assets/page.css"></head><body>'
        f'<header class="top"><span>Best-of-L · run {html.escape(run.name)}</span><nav aria-label="Pages">{nav}</nav></header>'
        f"<main>{body}</main><footer>{footer}</footer>{scripts}</body></html>\n"
    )


def _body(notebook: Any) -> str:
    """A notebook's cells as HTML."""
    from nbconvert.exporters import HTMLExporter

    exporter = HTMLExporter(
        template_name="bestofl",
        extra_template_basedirs=[str(TEMPLATES / "nbconvert")],
        filters={"plain_text": plain_text, "written_markdown": written_markdown},
    )
    body, _ = exporter.from_notebook_node(_prepared(notebook))
    return body


def _prepared(notebook: Any) -> Any:
    """The notebook with the chart library left out, charts reduced to their data, and Polars' own styles dropped."""
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
                output["data"]["text/html"] = re.sub(
                    r"<style>.*?</style>", "", output["data"]["text/html"], flags=re.DOTALL
                )
            if output.get("metadata", {}).get("bestofl") != embed.SETUP:
                kept.append(output)
        cell.outputs = kept
    return notebook


def _head(notebook: Any, name: str) -> tuple[str, str]:
    """Title and question of a notebook, from its first Markdown cell."""
    text = next((cell.source for cell in notebook.cells if cell.cell_type == "markdown" and "# " in cell.source), "")
    title = next((line.lstrip("# ").strip() for line in text.splitlines() if line.startswith("#")), name)
    question = " ".join(line.lstrip("> ").strip() for line in text.splitlines() if line.startswith(">"))
    return title, question


def _banner(name: str, state: str, why: str) -> str:
    if state != "failed":
        return ""
    return (
        f'<div class="banner" role="alert"><strong>{html.escape(name)} failed.</strong> {plain_text(why)}. What follows is as far '
        "as it came; later notebooks have not run.</div>"
    )


# -- the first page --------------------------------------------------------------------------------------------------------


def _index(
    run: Run,
    title: str,
    states: dict[str, tuple[str, str]],
    notebooks: dict[str, Any],
    heads: dict[str, tuple[str, str]],
) -> str:
    parts = [f"<h1>{html.escape(title)}</h1>"]
    parts += [_banner(name, *state) for name, state in states.items()]
    waiting = [name for name in states if name not in notebooks]
    if waiting:
        parts.append(
            '<div class="banner"><strong>Not all of the study has run.</strong> Without a page: '
            + "; ".join(f"{html.escape(name)} ({plain_text(': '.join(states[name]))})" for name in waiting)
            + ".</div>"
        )
    parts.append(_claims(run, fresh=not waiting and all(state == "up to date" for state, _ in states.values())))
    charts = _headline_charts(notebooks)
    if charts:
        parts += ["<h2>The story in pictures</h2>", *(embed.chart_block(spec, draw=False) for spec in charts)]
    parts.append('<h2>Pages</h2><ul class="pages">')
    for name, (head, question) in heads.items():
        parts.append(
            f'<li><a href="{html.escape(name)}.html">{html.escape(head)}</a><p>{html.escape(question)}</p></li>'
        )
    parts.append("</ul>")
    return "".join(parts)


def _claims(run: Run, fresh: bool) -> str:
    """The claims table in words and numbers."""
    if not run.has("claims") or not fresh:
        return '<p class="note">The claims are judged by the last notebooks; they stand here once all have run.</p>'
    table = run.read("claims")
    parts = []
    if "sentence" in table.columns:
        parts.append(
            '<ul class="lead">'
            + "".join(
                f"<li><strong>{_lead(row)}</strong> {_text(row['sentence'])}</li>"
                for row in table.iter_rows(named=True)
                if row["sentence"]
            )
            + "</ul>"
        )
    first = [column for column in CLAIM_COLUMNS if column in table.columns] or table.columns
    rest = [column for column in table.columns if column not in (*first, "sentence", "low", "high")]
    parts.append("<h2>Claims and verdicts</h2>" + _claim_table(table, first))
    parts.append(
        '<p class="note">Effects and detectable effects in percentage points, with 95 % intervals; p corrected by Holm over '
        "the claims. The detectable effect is what this many problems would find four times in five.</p>"
    )
    if rest:
        parts.append(
            f'<details class="code"><summary>all columns</summary>{_claim_table(table, ["claim", *rest])}</details>'
        )
    return "".join(parts)


def _claim_table(table: Any, columns: list[str]) -> str:
    kinds = {column: "number" if table[column].dtype.is_numeric() else "" for column in columns}
    head = "".join(
        f'<th scope="col" class="{kinds[c]}">{_text(HEADINGS.get(c, c.replace("_", " ")))}</th>' for c in columns
    )
    rows = [
        "<tr>" + "".join(f'<td class="{kinds[c]}">{_claim_cell(c, row)}</td>' for c in columns) + "</tr>"
        for row in table.iter_rows(named=True)
    ]
    return f'<div class="scroll" tabindex="0"><table class="claims"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _lead(row: dict[str, Any]) -> str:
    """What a claim comes to, in a few words."""
    effect = row.get("effect")
    points = "" if effect is None or effect != effect else f" {signed_points(effect)},"
    return _text(f"{row['claim']}:{points} {row['verdict']}.")


def _claim_cell(column: str, row: dict[str, Any]) -> str:
    value = row[column]
    if value is None or value != value:
        return "–"
    if column == "verdict":
        return f'<span class="verdict {re.sub("[^a-z]+", "-", str(value).lower())}">{_text(value)}</span>'
    if column == "effect":
        low, high = row.get("low"), row.get("high")
        return signed(value) + (f" {signed_interval(low, high)}" if low is not None and high is not None else "")
    if column == "mde":
        return f"{100 * value:.1f}"
    if column in ("p", "p_holm"):
        return "&lt; 0.001" if value < 0.001 else f"{value:.3f}"
    return f"{value:.4g}" if isinstance(value, float) else _text(value)


def _text(value: Any) -> str:
    return plain_text(str(value))


def _headline_charts(notebooks: dict[str, Any], most: int = 3) -> list[dict[str, Any]]:
    """The charts that tell the story, as far as the notebooks show them."""
    specs: dict[str, dict[str, Any]] = {}
    for notebook in notebooks.values():
        for spec in embed.chart_specs(notebook):
            specs.setdefault(spec.get("usermeta", {}).get("name", "chart"), spec)
    return [specs[name] for name in HEADLINES if name in specs][:most]


# -- where it comes from -----------------------------------------------------------------------------------------------


def _provenance(record: dict[str, Any]) -> str:
    """Parameters, versions, git state, data hashes and wall time of one notebook."""
    if not record:
        return ""
    rows: list[tuple[str, str]] = [
        ("parameters", ", ".join(f"{name} = {value!r}" for name, value in record.get("parameters", {}).items())),
        (
            "started",
            f"{record.get('started', '?')}; took {record.get('seconds', 0):,} s, at most {record.get('peak_memory_mb', 0):,} MB",
        ),
        ("git", record.get("git", "?")),
        ("versions", ", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items())),
        ("read", _digests(record.get("inputs", {}) | record.get("data", {}))),
        ("written", _digests(record.get("outputs", {}))),
    ]
    return "<h2>Where this page comes from</h2>" + _rows(rows)


def _digests(files: dict[str, str], most: int = 12) -> str:
    words = [f"{name} {digest[:8]}" for name, digest in files.items()]
    return ", ".join(words[:most]) + (f" and {len(words) - most} more files" if len(words) > most else "") or "nothing"


def _summary(records: dict[str, Any], states: dict[str, tuple[str, str]]) -> str:
    """Wall time and state of every notebook, versions and git state of the last one."""
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
    return "<h2>Where this report comes from</h2>" + _rows(rows)


def _rows(rows: list[tuple[str, str]], cell: Callable[[str], str] = plain_text) -> str:
    return (
        "<table>" + "".join(f'<tr><th scope="row">{cell(a)}</th><td>{cell(b)}</td></tr>' for a, b in rows) + "</table>"
    )
