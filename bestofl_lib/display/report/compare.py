"""The comparison of two runs in words: a few lines for a terminal, and a page without script that needs no network.

Figures come from `analysis/comparison.py`. The page is a template; every text on it is escaped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl
from markupsafe import Markup

from bestofl_lib.analysis.comparison import STEPS, Comparison
from bestofl_lib.display import embed, words
from bestofl_lib.display.report.pages import ALONE, Column, Link, Table, render
from bestofl_lib.files import replace_file
from bestofl_lib.languages import english_name
from bestofl_lib.text import signed, signed_interval, signed_points

MOST_FLIPS = 200  # rows of the table of flipped problems

STYLE = """
.forest { min-width: 9rem; } .forest div { position: relative; height: 1.1rem; } .forest i { position: absolute; display: block; }
.forest .zero { left: 50%; top: -.35rem; bottom: -.35rem; border-left: 1px solid var(--soft); } .forest .span { height: 3px; top: .5rem; background: var(--soft); }
.forest .dot { width: 9px; height: 9px; border-radius: 50%; top: .3rem; margin-left: -4px; background: var(--none); }
.forest .up { background: var(--good); } .forest .down { background: var(--bad); }
table { width: 100%; } @media (max-width: 520px) { table { width: auto; } }
"""


def summary(found: Comparison) -> list[str]:
    """The comparison in a few lines, for a terminal."""
    return [
        *_sentences(found),
        *(
            f"  {words.strategy(row['strategy'], row['reward_model']):<32} {_change(row)}"
            for row in found.arms.iter_rows(named=True)
        ),
    ]


def write_page(found: Comparison, reports: Path) -> Path:
    """Write `compare-<first>-<second>.html` into the folder of reports; gives its path."""
    path = reports / f"compare-{found.first}-{found.second}.html"
    replace_file(path, page(found, reports).encode("utf8", "replace"))
    return path


def page(found: Comparison, reports: Path) -> str:
    """The comparison as one page that needs nothing else."""
    title = f"{found.second} against {found.first}"
    more = f" The first {MOST_FLIPS} of {found.flips.height} are shown." if found.flips.height > MOST_FLIPS else ""
    body = render(
        "compare.html.j2", title=title, sentences=_sentences(found), budget=found.arms["budget"][0], arm=_arm(found), more=more,
        arms=_differences([(words.strategy(row["strategy"], row["reward_model"]), row) for row in found.arms.iter_rows(named=True)], "strategy", found),
        languages=_differences([(english_name(row["language"]), row) for row in found.languages.iter_rows(named=True)], "language", found, parts=True),
        settings=_settings(found), flips=_flips(found, reports),
    )  # fmt: skip
    links = [
        Link(f"{quote(name)}/index.html", name)
        for name in (found.first, found.second)
        if (reports / name / "index.html").exists()
    ]
    return render(
        "alone.html.j2", policy=ALONE, title=title, brand="Best-of-L · comparison", links=links, body=body, heading="", rows=[],
        scripts=(), style=Markup(embed.asset("page.css") + STYLE),
    )  # fmt: skip


def _differences(rows: list[tuple[str, dict[str, Any]]], what: str, found: Comparison, parts: bool = False) -> Table:
    """One tested difference per row, with its place on a line from −reach to +reach."""
    reach = max([0.01, *(max(abs(row["low"]), abs(row["high"])) for _, row in rows)])
    names = [found.first, found.second, f"difference, ±{100 * reach:.0f} points wide", "points [95 %]"]
    names += ["by sampling", "by reading"] if parts else []
    columns = [Column(what, head=True), *(Column(name, number=place != 2) for place, name in enumerate(names))]
    columns += [Column(name, number=True) for name in ("p (Holm)", "detectable", "problems")]
    told = []
    for name, row in rows:
        cells = [name, f"{100 * row['first']:.1f} %", f"{100 * row['second']:.1f} %", _forest(row, reach)]
        cells += [f"{signed(row['difference'])} {signed_interval(row['low'], row['high'])}"]
        cells += [signed(row[key]) for key in ("by_sampling", "by_reading")] if parts else []
        told.append([*cells, _p(row["p_holm"]), f"{100 * row['mde']:.1f}", str(row["n_problems"])])
    return Table(columns, told, "differences")


def _forest(row: dict[str, Any], reach: float) -> Markup:
    """An interval and its middle on a line."""
    kind = "" if row["p_holm"] >= 0.05 else " up" if row["difference"] > 0 else " down"
    left, right, at = (50 + 50 * row[key] / reach for key in ("low", "high", "difference"))
    return Markup(
        '<div class="forest"><i class="zero"></i><i class="span" style="left:{:.1f}%;width:{:.1f}%"></i><i class="dot{}" style="left:{:.1f}%"></i></div>'
    ).format(left, max(right - left, 0.5), Markup(kind), at)


def _settings(found: Comparison) -> Table:
    headings = {"first": found.first, "second": found.second}
    columns = [Column(headings.get(name, name)) for name in found.settings.columns]
    return Table(columns, [list(row) for row in found.settings.iter_rows()])


def _flips(found: Comparison, reports: Path) -> Table:
    """Problems that flip, with links to their completions where an atlas is there."""
    atlases = [name for name in (found.first, found.second) if (reports / name / "atlas.html").exists()]
    link = Markup('<a href="{}/atlas.html#{}">{}</a>')
    rows = []
    for row in found.flips.head(MOST_FLIPS).iter_rows(named=True):
        solved = row["second"] > row["first"]
        verdict = Markup('<span class="verdict {}">{}</span>').format(
            "supported" if solved else "not-supported", "solved" if solved else "missed"
        )
        read = Markup(" ").join(link.format(quote(name), quote(row["problem_id"], safe=""), name) for name in atlases)
        chances = [f"{100 * row[key]:.0f} %" for key in ("first", "second")]
        rows.append([row["problem_id"], verdict, *chances, row["why"] or "", read])
    heads = [
        Column("problem", head=True),
        Column("now"),
        Column(found.first, number=True),
        Column(found.second, number=True),
    ]
    return Table([*heads, Column("what differs"), Column("read")], rows)


def _sentences(found: Comparison) -> list[str]:
    counts, steps = found.counts, [step for step, _ in STEPS if step in set(found.settings["step"])]
    gained = found.flips.filter(pl.col("second") > pl.col("first")).height
    alike = counts["same"]
    parts = found.languages.select(pl.col("by_sampling", "by_reading", "difference").mean()).row(0, named=True)
    said = [
        f"{found.second} against {found.first}, on {found.n_problems} problems in {found.languages.height} languages (differences are "
        f"{found.second} minus {found.first}).",
        f"Set differently: {', '.join(steps) or 'nothing in sampling, reading or rewards'} ({found.settings.height} settings, files and versions).",
        f"{alike:,} of {counts['second']:,} candidates have the same text in both; of these {counts['reread']:,} were read differently "
        f"({counts['rejudged']:,} judged differently) and {counts['rescored']:,} rewarded differently.",
        f"The share of correct candidates changes by {signed_points(parts['difference'])} on average: {signed_points(parts['by_sampling'])} by other completions, "
        f"{signed_points(parts['by_reading'])} by other readings.",
        f"By {_arm(found)}, {gained} problems are newly solved and {found.flips.height - gained} newly missed.",
    ]
    clear = found.languages.filter(pl.col("p_holm") < 0.05)
    told = ", ".join(
        f"{english_name(r['language'])} {signed_points(r['difference'])}" for r in clear.iter_rows(named=True)
    )
    said.append(
        f"{clear.height} of {found.languages.height} languages differ at 5 % after Holm's correction{': ' + told if told else ''}."
    )
    return said


def _arm(found: Comparison) -> str:
    """The arm that flips are judged by, in words."""
    row = found.arms.filter(pl.col("judges")).row(0, named=True)
    how = words.strategy(row["strategy"], row["reward_model"])
    return f"{how} from {row['budget']} completions over all {found.languages.height} languages"


def _change(row: dict[str, Any]) -> str:
    return (
        f"{100 * row['first']:.1f} % → {100 * row['second']:.1f} %, {signed_points(row['difference'])} "
        f"{signed_interval(row['low'], row['high'])}, p {_p(row['p_holm'])}"
    ).replace("-", "−")


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
