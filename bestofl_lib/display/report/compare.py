"""The comparison of two runs in words: a few lines for a terminal, and a page without script that needs no network.

Figures come from `analysis/comparison.py`. Every text on the page is escaped.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl

from bestofl_lib.analysis.comparison import STEPS, Comparison
from bestofl_lib.display import embed, words
from bestofl_lib.display.text import plain_text
from bestofl_lib.languages import english_name
from bestofl_lib.runs import replace_file
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

    def esc(text: Any) -> str:
        return plain_text(str(text))

    title = f"{found.second} against {found.first}"
    lead, *rest = _sentences(found)
    arms = _table(
        [(words.strategy(row["strategy"], row["reward_model"]), row) for row in found.arms.iter_rows(named=True)], "strategy", found,
    )  # fmt: skip
    named = [(english_name(row["language"]), row) for row in found.languages.iter_rows(named=True)]
    flips = found.flips.head(MOST_FLIPS)
    more = f" The first {MOST_FLIPS} of {found.flips.height} stand here." if found.flips.height > MOST_FLIPS else ""
    links = [f for f in (found.first, found.second) if (reports / f / "index.html").exists()]
    nav = "".join(f'<a href="{html.escape(name)}/index.html">{esc(name)}</a>' for name in links)
    style = embed.asset("page.css") + STYLE
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{esc(title)}</title><style>{style}</style></head><body>"
        f'<header class="top"><span>Best-of-L · comparison</span><nav aria-label="Reports">{nav}</nav></header><main>'
        f'<h1>{esc(title)}</h1><p>{esc(lead)}</p><ul class="lead">{"".join(f"<li>{esc(sentence)}</li>" for sentence in rest)}</ul>'
        f'<h2>What it changed, by strategy</h2><p class="note">All languages share the budget equally: {esc(found.arms["budget"][0])} completions '
        f"per problem. Intervals of 95 % resample problems; p is corrected by Holm over the rows; paired by problem.</p>{arms}"
        '<h2>One candidate, by language</h2><p class="note">The difference is the sum of two parts: “by reading” is what candidates of one and '
        "the same text that are now judged differently make of it, “by sampling” is the rest.</p>"
        f"{_table(named, 'language', found, parts=True)}"
        f"<h2>What was set differently</h2>{_plain(found.settings, {'first': found.first, 'second': found.second})}"
        f'<h2>Problems flipped</h2><p class="note">Solved means a chance above one half by {esc(_arm(found))}.{more}</p>'
        f"{_flip_table(flips, found, reports)}</main></body></html>\n"
    )


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


def _table(rows: Iterable[tuple[str, dict[str, Any]]], what: str, found: Comparison, parts: bool = False) -> str:
    rows = list(rows)
    reach = max([0.01, *(max(abs(row["low"]), abs(row["high"])) for _, row in rows)])
    extra = (
        '<th scope="col" class="number">by sampling</th><th scope="col" class="number">by reading</th>' if parts else ""
    )
    head = (
        f'<th scope="col">{what}</th><th scope="col" class="number">{plain_text(found.first)}</th><th scope="col" class="number">{plain_text(found.second)}</th>'
        f'<th scope="col">difference, ±{100 * reach:.0f} points wide</th><th scope="col" class="number">points [95 %]</th>{extra}'
        '<th scope="col" class="number">p (Holm)</th><th scope="col" class="number">detectable</th><th scope="col" class="number">problems</th>'
    )
    body = []
    for name, row in rows:
        kind = "" if row["p_holm"] >= 0.05 else " up" if row["difference"] > 0 else " down"
        left, right, at = (50 + 50 * row[key] / reach for key in ("low", "high", "difference"))
        forest = (
            f'<div><i class="zero"></i><i class="span" style="left:{left:.1f}%;width:{max(right - left, 0.5):.1f}%"></i>'
            f'<i class="dot{kind}" style="left:{at:.1f}%"></i></div>'
        )
        numbers = [f"{100 * row[key]:.1f} %" for key in ("first", "second")]
        values = [f"{signed(row['difference'])} {signed_interval(row['low'], row['high'])}"]
        values += [signed(row[key]) for key in ("by_sampling", "by_reading")] if parts else []
        values += [html.escape(_p(row["p_holm"])), f"{100 * row['mde']:.1f}", str(row["n_problems"])]
        body.append(
            f'<tr><th scope="row">{plain_text(name)}</th>' + "".join(f'<td class="number">{value}</td>' for value in numbers)
            + f'<td class="forest">{forest}</td>' + "".join(f'<td class="number">{value.replace("-", "−")}</td>' for value in values) + "</tr>"
        )  # fmt: skip
    return f'<div class="scroll" tabindex="0" role="region" aria-label="by {what}"><table><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def _plain(table: pl.DataFrame, headings: dict[str, str]) -> str:
    if table.is_empty():
        return '<p class="note">Nothing: parameters, code and versions are the same.</p>'
    head = "".join(f'<th scope="col">{plain_text(headings.get(column, column))}</th>' for column in table.columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{plain_text(value)}</td>" for value in row) + "</tr>" for row in table.iter_rows()
    )
    return f'<div class="scroll" tabindex="0" role="region" aria-label="settings"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _flip_table(flips: pl.DataFrame, found: Comparison, reports: Path) -> str:
    if flips.is_empty():
        return '<p class="note">None.</p>'
    from urllib.parse import quote

    atlases = {name: (reports / name / "atlas.html").exists() for name in (found.first, found.second)}
    body = []
    for row in flips.iter_rows(named=True):
        read = " ".join(
            f'<a href="{html.escape(name)}/atlas.html#{quote(row["problem_id"], safe="")}">{plain_text(name)}</a>'
            for name, there in atlases.items()
            if there
        )
        sign = (
            '<span class="verdict supported">solved</span>'
            if row["second"] > row["first"]
            else '<span class="verdict not-supported">missed</span>'
        )
        body.append(
            f'<tr><th scope="row">{plain_text(row["problem_id"])}</th><td>{sign}</td><td class="number">{100 * row["first"]:.0f} %</td>'
            f'<td class="number">{100 * row["second"]:.0f} %</td><td>{plain_text(row["why"] or "")}</td><td>{read}</td></tr>'
        )
    head = "".join(
        f'<th scope="col">{plain_text(name)}</th>'
        for name in ("problem", "now", found.first, found.second, "what differs", "read")
    )
    return f'<div class="scroll" tabindex="0" role="region" aria-label="problems flipped"><table><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'
