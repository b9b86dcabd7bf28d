"""Two runs side by side: what differs between them, what that changed, and whether it is more than luck.

Compares stored tables; it draws, reads and scores nothing. Figures are paired by problem and come from `analysis/`. The
page has no script and needs no network; every text in it is escaped.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from bestofl_lib.analysis import selection, uncertainty
from bestofl_lib.analysis.pool import Pool, pool_of_run
from bestofl_lib.display import embed, explore
from bestofl_lib.display.report import plain_text
from bestofl_lib.runs import Run, replace_file
from bestofl_lib.text import signed, signed_interval, signed_points

KEYS = explore.KEYS
MOST_FLIPS = 200  # rows of the table of flipped problems
STEPS = (
    ("sampling", ("01_", "02_", "problems/", "models/", "candidates/")),
    ("reading", ("03_", "answers/", "numbers/", "languages")),
    ("rewards", ("04_", "05_", "06_", "rewards/")),
)
ARMS = (
    ("random", None),
    ("majority", None),
    ("best_of_k", "mono"),
    ("best_of_k", "multi"),
    ("best_of_k", "cross"),
    ("logprob", None),
    ("oracle", None),
)


@dataclass(frozen=True)
class Comparison:
    """What `compare` found; differences are second minus first."""

    first: str
    second: str
    n_problems: int  # that both runs have
    settings: pl.DataFrame  # one row per thing set differently: step, what, first, second
    counts: dict[
        str, int
    ]  # candidates: first, second, same (key and text), reread (of these, another answer), rejudged, rescored
    languages: (
        pl.DataFrame
    )  # one row per language: shares correct, difference with interval, its parts by sampling and by reading
    arms: pl.DataFrame  # one row per strategy on the mixed pool at the largest budget both reach
    flips: pl.DataFrame  # one row per problem that the chosen arm solves in one run and not in the other

    @property
    def arm(self) -> str:
        """The arm that flips are judged by, in words."""
        row = self.arms.filter(pl.col("judges")).row(0, named=True)
        return f"{_strategy(row)} from {row['budget']} completions over all {self.languages.height} languages"


def compare(first: Run, second: Run) -> Comparison:
    """Compare two runs on the problems and languages that both have.

    Args:
        first, second: with problems, candidates and readings.

    Raises:
        FileNotFoundError: a run or one of its tables is missing.
        ValueError: no problem or language is in both, or the same id has another right answer.
    """
    if first.name == second.name and first.root == second.root:
        raise ValueError(f"run {first.name!r} is compared with itself; name two runs")
    sources = [
        explore.open_run(run, "test" if "test" in set(run.read("problems")["split"]) else None)
        for run in (first, second)
    ]
    codes = [code for code in sources[0].languages if code in sources[1].languages]
    references = [s.problems.select("problem_id", "reference").unique("problem_id") for s in sources]
    shared = references[0].join(references[1], on="problem_id", suffix="_second").sort("problem_id")
    if shared.is_empty() or not codes:
        raise ValueError(
            f"runs {first.name!r} and {second.name!r} share no {'language' if len(shared) else 'problem'}; nothing can be paired"
        )
    other = shared.filter(pl.col("reference") != pl.col("reference_second"))
    if len(other):
        row = other.row(0, named=True)
        raise ValueError(
            f"problem {row['problem_id']!r} has the right answer {row['reference']} in {first.name!r} and {row['reference_second']} in "
            f"{second.name!r} ({len(other)} such problems); the runs are not about the same problems"
        )
    tables = [_judged(source, codes) for source in sources]
    both = tables[0].join(tables[1], on=KEYS, suffix="_second")
    same = both.filter(pl.col("text") == pl.col("text_second"))
    rescored = _rescored(sources[0], sources[1], same)
    counts = {
        "first": len(tables[0]), "second": len(tables[1]), "same": len(same),
        "reread": same.filter(pl.col("answer").ne_missing(pl.col("answer_second"))).height,
        "rejudged": same.filter(pl.col("is_correct") != pl.col("is_correct_second")).height,
        "rescored": rescored.height,
    }  # fmt: skip
    arms, values, ids = _arms(first, second, sources, codes)
    return Comparison(
        first.name, second.name, len(shared), settings(first.recorded(), second.recorded()), counts,
        _languages(tables, same, codes), arms, _flips(values, ids, tables, same, rescored),
    )  # fmt: skip


def settings(first: dict[str, Any], second: dict[str, Any]) -> pl.DataFrame:
    """What two `run.json` say differently: one row per parameter, library file and version (`step`, `what`, `first`, `second`)."""
    rows: list[tuple[str, str, str, str]] = []
    notebooks = [record.get("notebooks", {}) for record in (first, second)]
    for name in sorted({*notebooks[0], *notebooks[1]}):
        here, there = (notebook.get(name, {}) for notebook in notebooks)
        for section, word in (("parameters", ""), ("library", "code of "), ("versions", "version of ")):
            old, new = here.get(section) or {}, there.get(section) or {}
            for key in sorted({*old, *new}):
                if old.get(key) != new.get(key) and not (section == "parameters" and key == "run"):
                    where = key if section == "library" else name
                    pair = ("one", "another") if section == "library" else (_value(old, key), _value(new, key))
                    rows.append((_step(where), f"{word}{key}", *pair))
    return pl.DataFrame(
        rows, schema=dict.fromkeys(("step", "what", "first", "second"), pl.String), orient="row"
    ).unique(maintain_order=True)


def write_page(found: Comparison, reports: Path) -> Path:
    """Write `compare-<first>-<second>.html` into the folder of reports; gives its path."""
    path = reports / f"compare-{found.first}-{found.second}.html"
    replace_file(path, page(found, reports).encode("utf8", "replace"))
    return path


def summary(found: Comparison) -> list[str]:
    """The comparison in a few lines, for a terminal."""
    return [*_sentences(found), *(f"  {_strategy(row):<22} {_change(row)}" for row in found.arms.iter_rows(named=True))]


# -- figures -------------------------------------------------------------------------------------------------------------


def _judged(source: explore.Source, codes: Sequence[str]) -> pl.DataFrame:
    """One row per candidate: a hash of its text, its answer and whether that is correct."""
    here = pl.col("language").is_in(list(codes))
    texts = (
        source.candidates()
        .filter(here)
        .select(*KEYS, text=pl.col("completion").hash(seed=7))
        .unique(KEYS, keep="first")
    )
    return (
        source.readings.filter(here)
        .select(*KEYS, "answer", "is_correct")
        .join(texts, on=KEYS, how="left")
        .sort(*KEYS)
        .collect()
    )


def _rescored(first: explore.Source, second: explore.Source, same: pl.DataFrame) -> pl.DataFrame:
    """The candidates of one text that a reward model of both runs rewards differently."""
    models = [model for model in first.models if model in second.models]
    if first.rewards is None or second.rewards is None or not models:
        return same.head(0).select(KEYS)
    pair = first.rewards.join(second.rewards, on=[*KEYS, "reward_model"], suffix="_second")
    apart = (pl.col("reward") - pl.col("reward_second")).abs() > 1e-9
    one_aside = pl.col("reward").is_null() != pl.col("reward_second").is_null()
    moved = pair.filter(apart | one_aside).select(KEYS).unique()
    return same.lazy().select(KEYS).join(moved, on=KEYS, how="semi").collect()


def _languages(tables: list[pl.DataFrame], same: pl.DataFrame, codes: Sequence[str]) -> pl.DataFrame:
    """Share correct per language, paired by problem. Of the difference, reading explains what candidates of one text do
    that are judged differently, over the second run's candidates; sampling explains the rest."""
    means = [
        table.group_by("language", "problem_id").agg(pl.col("is_correct").mean().alias("share"), pl.len().alias("n"))
        for table in tables
    ]
    moved = same.group_by("language", "problem_id").agg(
        (pl.col("is_correct_second").cast(pl.Int32) - pl.col("is_correct").cast(pl.Int32)).sum().alias("moved")
    )
    cells = (
        means[0]
        .join(means[1], on=["language", "problem_id"], suffix="_second")
        .join(moved, on=["language", "problem_id"], how="left")
    )
    cells = cells.with_columns(reading=pl.col("moved").fill_null(0) / pl.col("n_second")).sort("problem_id")
    rows = []
    for code in codes:
        mine = cells.filter(pl.col("language") == code)
        if len(mine):
            test = uncertainty.paired_difference(mine["share_second"].to_numpy(), mine["share"].to_numpy())
            reading = float(np.mean(mine["reading"].to_numpy()))
            rows.append(_row(test, mine["share"].to_numpy(), mine["share_second"].to_numpy()) | {
                "language": code, "by_reading": reading, "by_sampling": float(test.effect) - reading, "n_problems": len(mine),
            })  # fmt: skip
    return _corrected(rows)


def _arms(
    first: Run, second: Run, sources: list[explore.Source], codes: Sequence[str]
) -> tuple[pl.DataFrame, tuple[np.ndarray, np.ndarray], list[str]]:
    """The strategies that both runs allow, on the mixed pool, at the largest budget that both reach."""
    pools = [
        pool_of_run(run, split=source.split or "test") if source.split else _whole(run, source)
        for run, source in zip((first, second), sources, strict=True)
    ]
    ids = [problem for problem in pools[0].problem_ids if problem in set(pools[1].problem_ids)]
    if not ids:
        raise ValueError(
            f"runs {first.name!r} and {second.name!r} share no problem with candidates in all languages; nothing can be paired"
        )
    rows_of = [[pool.problem_ids.index(problem) for problem in ids] for pool in pools]
    name = codes[0] if len(codes) == 1 else "+".join(codes)
    budget = min(int(pool.n_candidates(code).min()) for pool in pools for code in codes) * len(codes)
    rows, values = [], {}
    for strategy, model in ARMS:
        if model is not None and not all(
            model in pool.reward_models or (model == "mono" and _covers(pool, codes)) for pool in pools
        ):
            continue
        found = [selection.arm_values(pool, name, strategy, model, [budget]) for pool in pools]
        if found[0] is None or found[1] is None:
            continue
        pair = [arm.accuracy[place, 0] for arm, place in zip(found, rows_of, strict=True) if arm is not None]
        values[strategy, model] = (pair[0], pair[1])
        test = uncertainty.paired_difference(pair[1], pair[0])
        rows.append(
            _row(test, pair[0], pair[1])
            | {"strategy": strategy, "reward_model": model, "budget": budget, "n_problems": len(ids)}
        )
    choice = next(
        arm
        for arm in (("best_of_k", "cross"), ("best_of_k", "multi"), ("best_of_k", "mono"), ("majority", None))
        if arm in values
    )
    judges = [(row["strategy"], row["reward_model"]) == choice for row in rows]
    return _corrected(rows).with_columns(judges=pl.Series(judges)), values[choice], ids


def _whole(run: Run, source: explore.Source) -> Pool:
    rewards = run.read("rewards") if run.has("rewards") else None
    return Pool.of(
        source.candidates().collect(), run.read("readings"), rewards, source.problems, split=None, drop_incomplete=True
    )


def _covers(pool: Pool, codes: Sequence[str]) -> bool:
    return all(f"mono-{code}" in pool.reward_models for code in codes)


def _flips(
    values: tuple[np.ndarray, np.ndarray],
    ids: Sequence[str],
    tables: list[pl.DataFrame],
    same: pl.DataFrame,
    rescored: pl.DataFrame,
) -> pl.DataFrame:
    """Problems whose chance to be solved crosses one half, the largest change first, and what differs in their candidates."""
    frame = pl.DataFrame({"problem_id": list(ids), "first": values[0], "second": values[1]})
    flipped = frame.filter((pl.col("first") > 0.5) != (pl.col("second") > 0.5))
    tally = [table.group_by("problem_id").len() for table in tables]
    alike = same.group_by("problem_id").agg(
        pl.len().alias("alike"), reread=(pl.col("answer").ne_missing(pl.col("answer_second"))).sum()
    )
    moved = rescored.group_by("problem_id").agg(rescored=pl.len())
    joined = flipped.join(tally[0], on="problem_id", how="left").join(
        tally[1], on="problem_id", how="left", suffix="_second"
    )
    joined = joined.join(alike, on="problem_id", how="left").join(moved, on="problem_id", how="left")
    drawn = pl.max_horizontal("len", "len_second").cast(pl.Int64) - pl.col("alike").fill_null(0).cast(pl.Int64)
    parts = [
        pl.when(count > 0).then(pl.format(text, count)).otherwise(None)
        for text, count in (
            ("{} other completions", drawn),
            ("{} other readings", pl.col("reread").fill_null(0)),
            ("{} other rewards", pl.col("rescored").fill_null(0)),
        )
    ]
    return (
        joined.with_columns(why=pl.concat_str(parts, separator=", ", ignore_nulls=True))
        .sort(-(pl.col("second") - pl.col("first")).abs(), "problem_id")
        .select("problem_id", "first", "second", "why")
    )  # fmt: skip


def _row(test: uncertainty.Difference, first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """One tested difference, and how many problems make it."""
    return {
        "first": float(np.mean(first)), "second": float(np.mean(second)), "difference": float(test.effect), "low": float(test.low),
        "high": float(test.high), "p": float(test.p), "mde": float(test.mde), "n_changed": int(np.sum(np.abs(second - first) > 1e-12)),
    }  # fmt: skip


def _corrected(rows: list[dict[str, Any]]) -> pl.DataFrame:
    table = pl.DataFrame(rows, infer_schema_length=None)
    return table.with_columns(p_holm=pl.Series(uncertainty.holm(table["p"].to_list())))


def _step(where: str) -> str:
    return next(
        (
            step
            for step, starts in STEPS
            if any(where.removeprefix("bestofl_lib/").startswith(start) for start in starts)
        ),
        "analysis",
    )


def _value(values: dict[str, Any], key: str) -> str:
    return repr(values[key]) if key in values else "not set"


# -- words ---------------------------------------------------------------------------------------------------------------


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
        f"By {found.arm}, {gained} problems are newly solved and {found.flips.height - gained} newly missed.",
    ]
    clear = found.languages.filter(pl.col("p_holm") < 0.05)
    words = ", ".join(
        f"{explore.describe_language(r['language'])['name']} {signed_points(r['difference'])}"
        for r in clear.iter_rows(named=True)
    )
    said.append(
        f"{clear.height} of {found.languages.height} languages differ at 5 % after Holm's correction{': ' + words if words else ''}."
    )
    return said


def _strategy(row: dict[str, Any]) -> str:
    label = {
        "best_of_k": "best of k",
        "majority": "majority vote",
        "random": "one at random",
        "logprob": "log-probability",
        "oracle": "oracle",
    }[row["strategy"]]
    return f"{label} by {row['reward_model']}" if row["reward_model"] else label


def _change(row: dict[str, Any]) -> str:
    return (
        f"{100 * row['first']:.1f} % → {100 * row['second']:.1f} %, {signed_points(row['difference'])} "
        f"{signed_interval(row['low'], row['high'])}, p {_p(row['p_holm'])}"
    ).replace("-", "−")


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


# -- the page ------------------------------------------------------------------------------------------------------------

STYLE = """
.forest { min-width: 9rem; } .forest div { position: relative; height: 1.1rem; } .forest i { position: absolute; display: block; }
.forest .zero { left: 50%; top: -.35rem; bottom: -.35rem; border-left: 1px solid var(--soft); } .forest .span { height: 3px; top: .5rem; background: var(--soft); }
.forest .dot { width: 9px; height: 9px; border-radius: 50%; top: .3rem; margin-left: -4px; background: var(--none); }
.forest .up { background: var(--good); } .forest .down { background: var(--bad); }
table { width: 100%; } @media (max-width: 520px) { table { width: auto; } }
"""


def page(found: Comparison, reports: Path) -> str:
    """The comparison as one page that needs nothing else."""

    def esc(text: Any) -> str:
        return plain_text(str(text))

    title = f"{found.second} against {found.first}"
    lead, *rest = _sentences(found)
    arms = _table(
        [(_strategy(row), row) for row in found.arms.iter_rows(named=True)], "strategy", found,
    )  # fmt: skip
    named = [(explore.describe_language(row["language"])["name"], row) for row in found.languages.iter_rows(named=True)]
    flips = found.flips.head(MOST_FLIPS)
    more = f" The first {MOST_FLIPS} of {found.flips.height} stand here." if found.flips.height > MOST_FLIPS else ""
    links = [f for f in (found.first, found.second) if (reports / f / "index.html").exists()]
    nav = "".join(f'<a href="{html.escape(name)}/index.html">{esc(name)}</a>' for name in links)
    style = embed.page_file("page.css") + STYLE
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
        f'<h2>Problems flipped</h2><p class="note">Solved means a chance above one half by {esc(found.arm)}.{more}</p>'
        f"{_flip_table(flips, found, reports)}</main></body></html>\n"
    )


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
