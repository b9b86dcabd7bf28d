"""The comparison of runs in words: a few lines for a terminal, and a page without script that needs no network.

Figures come from `analysis/comparison.py`. The page is a template; every text on it is escaped.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl
from markupsafe import Markup

from bestofl_lib.analysis.comparison import STEPS, Comparison, completions_side_by_side, curves_side_by_side
from bestofl_lib.display import charts, embed, words
from bestofl_lib.display.origin import origin
from bestofl_lib.display.pictures import Look, draw_svg
from bestofl_lib.display.report.pages import ALONE, Column, Link, Table, render
from bestofl_lib.display.text import written_answer, written_text
from bestofl_lib.files import replace_file
from bestofl_lib.languages import english_name
from bestofl_lib.runs import Run
from bestofl_lib.text import counted, p_value, percent, signed, signed_interval, signed_points, unsigned

MOST_FLIPS = 200  # rows of the table of flipped problems
WIDTHS = (9.5, 3.6)  # inches of the chart: as wide as the page, and as a phone
MOST_TEXTS = 12  # problems whose completions are shown side by side


def names_of(runs: Sequence[Run]) -> dict[str, str]:
    """How each run is called on the page: by its model, where no two runs have the same, else by its name and model."""
    models = {run.name: ", ".join(origin(run).models[:3]) for run in runs}
    if all(models.values()) and len(set(models.values())) == len(models):
        return models
    return {name: f"{name} ({model})" if model else name for name, model in models.items()}


def summary(found: Comparison, names: Mapping[str, str]) -> list[str]:
    """The comparison of two runs in a few lines, for a terminal."""
    return [
        *_sentences(found, names),
        *(
            f"  {words.strategy(row['strategy'], row['reward_model']):<32} {_change(row)}"
            for row in found.arms.iter_rows(named=True)
        ),
    ]


def write_page(runs: Sequence[Run], found: Sequence[Comparison], reports: Path) -> Path:
    """Write `compare-<run>-<run>….html` into the folder of reports; gives its path.

    Args:
        runs: all of them, the one that others are compared with first.
        found: each further run against the first, see `comparison.compare`.
    """
    names = names_of(runs)
    path = reports / f"compare-{'-'.join(run.name for run in runs)}.html"
    chart = charts.runs_side_by_side(curves_side_by_side(runs), names).to_dict()
    chart["usermeta"]["source"] = " · ".join(
        ("Best-of-L", f"runs {', '.join(run.name for run in runs)}", _asked(found))
    )
    pictures = [draw_svg([chart], Look(width=width))[0] for width in WIDTHS]
    flipped = list(dict.fromkeys(problem for one in found for problem in one.flips["problem_id"].head(MOST_TEXTS)))
    texts = completions_side_by_side(runs, flipped[:MOST_TEXTS])
    replace_file(path, page(found, names, reports, pictures, texts).encode("utf8", "replace"))
    return path


def page(
    found: Sequence[Comparison], names: Mapping[str, str], reports: Path, pictures: Sequence[str], texts: pl.DataFrame
) -> str:
    """The comparison as one page that needs nothing else.

    Args:
        names: how each run is called, see `names_of`.
        reports: where the runs' own reports are looked for, to link their atlases.
        pictures: the runs' curves as SVG, in the widths of `WIDTHS`.
        texts: of `comparison.completions_side_by_side`.
    """
    title = " · ".join(names.values())
    body = render(
        "compare.html.j2",
        title=title,
        pictures=[Markup(f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}") for svg in pictures],
        asked=_asked(found),
        parts=[_part(one, names, reports) for one in found],
        texts=_side_by_side(texts, names),
    )
    links = [
        Link(f"{quote(run)}/index.html", name) for run, name in names.items() if (reports / run / "index.html").exists()
    ]
    return render(
        "alone.html.j2",
        policy=ALONE,
        title=title,
        brand="Best-of-L · comparison",
        links=links,
        body=body,
        heading="",
        rows=[],
        scripts=(),
        style=Markup(embed.asset("page.css") + embed.asset("compare.css")),
    )


def _asked(found: Sequence[Comparison]) -> str:
    n, languages = found[0].n_problems, found[0].languages.height
    return f"{counted(n, 'problem')} in {counted(languages, 'language')}"


def _part(found: Comparison, names: Mapping[str, str], reports: Path) -> dict[str, Any]:
    """What the template shows of one run against the first."""
    arms = [(words.strategy(row["strategy"], row["reward_model"]), row) for row in found.arms.iter_rows(named=True)]
    languages = [(english_name(row["language"]), row) for row in found.languages.iter_rows(named=True)]
    more = f" The first {MOST_FLIPS} of {found.flips.height} are shown." if found.flips.height > MOST_FLIPS else ""
    return {
        "title": f"{names[found.second]} against {names[found.first]}",
        "sentences": _sentences(found, names),
        "budget": found.arms["budget"][0],
        "arm": _arm(found),
        "more": more,
        "arms": _differences(arms, "strategy", found, names),
        "languages": _differences(languages, "language", found, names, parts=True),
        "settings": _settings(found, names),
        "flips": _flips(found, names, reports),
    }


def _side_by_side(texts: pl.DataFrame, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Per problem what each run chose, for the template."""
    made = []
    for (problem,), rows in texts.group_by("problem_id", maintain_order=True):
        chosen = [
            row
            | {
                "name": names[row["run"]],
                "language": words.describe_language(row["language"]),
                "verdict": _verdict(row),
                "question": written_text(row["question"] or ""),
                "completion": written_text(row["completion"] or ""),
            }
            for row in rows.iter_rows(named=True)
        ]
        made.append({"problem": problem, "reference": written_answer(rows["reference"][0]), "chosen": chosen})
    return made


def _verdict(row: Mapping[str, Any]) -> Markup:
    if row["is_correct"] or row["answer"] is None:
        return Markup("✓ correct" if row["is_correct"] else "∅ unread")
    return Markup("✗ wrong: {}").format(written_answer(row["answer"]))


def _differences(
    rows: list[tuple[str, dict[str, Any]]], what: str, found: Comparison, names: Mapping[str, str], parts: bool = False
) -> Table:
    """One tested difference per row, with its place on a line from −reach to +reach."""
    reach = max([0.01, *(max(abs(row["low"]), abs(row["high"])) for _, row in rows)])
    names_of = [
        names[found.first],
        names[found.second],
        f"difference, ±{unsigned(reach, 0)} points wide",
        "points [95 %]",
    ]
    names_of += ["by sampling", "by reading"] if parts else []
    columns = [Column(what, row_header=True), *(Column(head, number=place != 2) for place, head in enumerate(names_of))]
    columns += [Column(name, number=True) for name in ("p (Holm)", "detectable", "problems")]
    told = []
    for name, row in rows:
        cells = [name, percent(row["first"]), percent(row["second"]), _forest(row, reach)]
        cells += [f"{signed(row['difference'])} {signed_interval(row['low'], row['high'])}"]
        cells += [signed(row[key]) for key in ("by_sampling", "by_reading")] if parts else []
        told.append([*cells, p_value(row["p_holm"]), unsigned(row["mde"]), str(row["n_problems"])])
    return Table(columns, told, "differences")


def _forest(row: dict[str, Any], reach: float) -> Markup:
    """An interval and its middle on a line."""
    kind = "" if row["p_holm"] >= 0.05 else " up" if row["difference"] > 0 else " down"
    left, right, at = (50 + 50 * row[key] / reach for key in ("low", "high", "difference"))
    return Markup(
        '<div class="forest"><i class="zero"></i><i class="span" style="left:{:.1f}%;width:{:.1f}%"></i><i '
        'class="dot{}" style="left:{:.1f}%"></i></div>'
    ).format(left, max(right - left, 0.5), Markup(kind), at)


def _settings(found: Comparison, names: Mapping[str, str]) -> Table:
    headings = {"first": names[found.first], "second": names[found.second]}
    columns = [Column(headings.get(name, name)) for name in found.settings.columns]
    return Table(columns, [list(row) for row in found.settings.iter_rows()])


def _flips(found: Comparison, names: Mapping[str, str], reports: Path) -> Table:
    """Problems that flip, with links to their completions where an atlas is there."""
    atlases = [name for name in (found.first, found.second) if (reports / name / "atlas.html").exists()]
    link = Markup('<a href="{}/atlas.html#{}">{}</a>')
    rows = []
    for row in found.flips.head(MOST_FLIPS).iter_rows(named=True):
        solved = row["second"] > row["first"]
        verdict = Markup('<span class="verdict {}">{}</span>').format(
            "supported" if solved else "not-supported", "solved" if solved else "missed"
        )
        read = Markup(" ").join(
            link.format(quote(name), quote(row["problem_id"], safe=""), names[name]) for name in atlases
        )
        chances = [percent(row[key], 0) for key in ("first", "second")]
        rows.append([row["problem_id"], verdict, *chances, row["why"] or "", read])
    columns = [
        Column("problem", row_header=True),
        Column("now"),
        Column(names[found.first], number=True),
        Column(names[found.second], number=True),
    ]
    return Table([*columns, Column("what differs"), Column("read")], rows)


def _sentences(found: Comparison, names: Mapping[str, str]) -> list[str]:
    first, second = names[found.first], names[found.second]
    counts, steps = found.counts, [step for step, _ in STEPS if step in set(found.settings["step"])]
    gained = found.flips.filter(pl.col("second") > pl.col("first")).height
    alike = counts["same"]
    parts = found.languages.select(pl.col("by_sampling", "by_reading", "difference").mean()).row(0, named=True)
    said = [
        f"{second} against {first}, on {found.n_problems} problems in {found.languages.height} languages (differences "
        f"are {second} minus {first}).",
        f"Set differently: {', '.join(steps) or 'nothing in sampling, reading or rewards'} ({found.settings.height} "
        "settings, files and versions).",
        f"{alike:,} of {counts['second']:,} candidates have the same text in both; of these {counts['reread']:,} were "
        f"read differently ({counts['rejudged']:,} judged differently) and {counts['rescored']:,} rewarded "
        "differently.",
        f"The share of correct candidates changes by {signed_points(parts['difference'])} on average: "
        f"{signed_points(parts['by_sampling'])} by other completions, {signed_points(parts['by_reading'])} by other "
        "readings.",
        f"By {_arm(found)}, {gained} problems are newly solved and {found.flips.height - gained} newly missed.",
    ]
    clear = found.languages.filter(pl.col("p_holm") < 0.05)
    told = ", ".join(
        f"{english_name(r['language'])} {signed_points(r['difference'])}" for r in clear.iter_rows(named=True)
    )
    said.append(
        f"{clear.height} of {found.languages.height} languages differ at 5 % after Holm's "
        f"correction{': ' + told if told else ''}."
    )
    return said


def _arm(found: Comparison) -> str:
    """The arm that flips are judged by, in words."""
    row = found.arms.filter(pl.col("judges")).row(0, named=True)
    how = words.strategy(row["strategy"], row["reward_model"])
    return f"{how} from {row['budget']} completions over all {found.languages.height} languages"


def _change(row: dict[str, Any]) -> str:
    return (
        f"{percent(row['first'])} → {percent(row['second'])}, {signed_points(row['difference'])} "
        f"{signed_interval(row['low'], row['high'])}, p {p_value(row['p_holm'])}"
    )
