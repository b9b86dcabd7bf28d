"""The atlas of a report: every problem in every language, and what was written there, for readers without Python.

Makes one block of data, capped to a number of bytes; a script in `assets/atlas.js` draws it. Which rows, which order
and which counts come from `analysis/run_scan.py`. Nothing here becomes HTML: the data travels packed (gzip, base64), so
that no text in it can end a script or open a tag, and the page sets every piece of it as text. It says what was left
out.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import polars as pl
from markupsafe import Markup

from bestofl_lib.analysis import run_scan
from bestofl_lib.display import words
from bestofl_lib.display.report.pages import render
from bestofl_lib.display.text import formulas, segments
from bestofl_lib.runs import Run
from bestofl_lib.tables import KEYS

LARGEST = 2_700_000  # bytes of the packed data
MOST_PROBLEMS = 1_000  # columns of the heat map
MOST_CANDIDATES = 40_000  # completions looked at for embedding
MOST_ANSWERS = 8  # answers in the count of votes
QUESTION = 1_500  # characters of a question
AFTER = 80  # characters kept behind the answer where a completion is cut


@dataclass(frozen=True)
class Cap:
    """How much of the candidates is embedded."""

    problems: int  # with their candidates
    per_cell: int  # candidates of one problem in one language
    characters: int  # of one completion


def atlas_data(run: Run, *, with_rewards: bool = True, largest: int = LARGEST) -> dict[str, Any] | None:
    """Everything the atlas shows, as JSON that packs into `largest` bytes.

    Args:
        run: with problems, candidates and readings; its test problems are shown, or all where none was for testing.
        with_rewards: whether the run's rewards are fresh enough to be shown.
        largest: bytes after `pack`; candidates are cut first, then left out.

    Returns:
        `languages`, `levels` (of difficulty), `models`, `sorts`, `filters`, `orders` (problem numbers), `ids`,
        `n`/`correct`/`unread`/`revised` (one list per language), `flags` and `exclusive` per problem, `problems` (see
        `_problem`), `capped` (sentences on what is left out; empty where nothing is). None where the run has no
        readings to show.
    """
    source = _open(run, with_rewards)
    if source is None:
        return None
    models = _models(source)
    model = models[0] if models else None
    facts = run_scan.describe_problems(source.cells, run_scan.count_mistakes(source, model) if model else None)
    everything = facts["problem_id"].to_list()
    facts = facts.head(MOST_PROBLEMS)
    ids = facts["problem_id"].to_list()
    place = {problem: number for number, problem in enumerate(ids)}
    grid = run_scan.grid_page(source.cells, facts, ids, source.languages)
    sorts = {name: text for name, text in words.SORTS.items() if name != "mistake" or model}
    filters = {name: text for name, text in words.FILTERS.items() if name != "mistake" or model}
    data: dict[str, Any] = {
        "run": run.name,
        "split": source.split,
        "languages": [words.describe_language(code) for code in source.languages],
        "models": models,
        "judge": model,
        "sorts": sorts,
        "orders": {name: [place[problem] for problem in run_scan.choose_problems(facts, name)] for name in sorts},
        "filters": filters,
        "flags": {name: facts[name].fill_null(False).cast(pl.Int8).to_list() for name in filters},
        "levels": source.problems["level"].drop_nulls().unique(maintain_order=True).to_list(),
        "total": len(everything),
        "ids": ids,
        "shares": [round(row["share"], 4) for row in grid["rows"]],
    } | {name: grid[name] for name in ("n", "correct", "unread", "revised", "exclusive")}  # fmt: skip
    rows = _rows(source, ids)
    for cap in _caps(len(ids), rows.height, max(map(max, grid["n"]))):
        sample = ids[: cap.problems : 8] if cap.problems > 64 else ids[: cap.problems]
        guess = len(pack(_problems(source, rows, sample, cap))) * min(cap.problems, len(ids)) / max(len(sample), 1)
        if guess > largest * 0.97:
            continue
        filled = data | {"problems": _problems(source, rows, ids, cap)}
        filled["capped"] = _said(filled, rows, cap, len(everything), source)
        if len(pack(filled)) <= largest:
            return filled
    raise ValueError(f"the atlas of run {run.name!r} does not fit into {largest:,} bytes; allow it more")


def pack(data: Any) -> str:
    """JSON as base64 of gzip: letters, digits, `+`, `/` and `=`, whatever the data holds. The same data gives the same
    text.
    """
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode("utf8", "replace"), 6, mtime=0)).decode()


def atlas_body(data: Mapping[str, Any]) -> Markup:
    """The body of the atlas' page: words, and the data that its script draws."""
    n, languages = len(data["ids"]), len(data["languages"])
    return render("atlas.html.j2", n=n, languages=languages, packed=pack(data), capped=data["capped"])


# -- which rows ------------------------------------------------------------------------------------------------------


def _open(run: Run, with_rewards: bool) -> run_scan.Source | None:
    if not (run.has("problems") and run.has("readings")):
        return None
    splits = set(run.read("problems")["split"].unique())
    try:
        source = run_scan.open_run(run, "test" if "test" in splits else None)
    except ValueError:
        return None  # no candidate of these problems was read
    return source if with_rewards else replace(source, rewards=None, models=())


def _models(source: run_scan.Source) -> list[str]:
    """The reward models shown: those of single languages stand together as `mono`."""
    return [model for model in source.reward_models if not model.startswith("mono-")]


def _caps(n_problems: int, n_candidates: int, most: int) -> Iterator[Cap]:
    """From everything to less and less: completions are cut first, then candidates left out, then problems."""
    for characters in (4_000, 1_500, 800):
        yield Cap(n_problems, most, characters)
    for part in (2, 4, 8):
        for characters in (800, 400):
            if most // part >= 1:
                yield Cap(n_problems, most // part, characters)
    problems = n_problems
    while problems >= 1:
        yield Cap(problems, 1, 250)
        problems //= 2
    yield Cap(0, 1, 250)


def _rows(source: run_scan.Source, ids: list[str]) -> pl.DataFrame:
    """One row per candidate of these problems, with its reading and its rewards, in the order in which they are
    kept.
    """
    here = pl.col("problem_id").is_in(ids)
    columns = ("completion", "n_tokens", "finish_reason", "logprob", "condition")
    counts = source.cells.filter(here)["n"].to_list()
    asked = sum(counts)
    most = max(1, MOST_CANDIDATES * max(counts) // asked)
    number = pl.col("sample_index").rank("ordinal").over("problem_id", "language")
    candidates = source.candidates().filter(here).select(*KEYS, *columns).unique(KEYS, keep="first")
    if asked > MOST_CANDIDATES:
        candidates = candidates.filter(number <= most)
    table = candidates.join(source.readings.filter(here), on=KEYS, how="left")
    tops = []
    for model in _models(source):
        mine = source.rewards_by(model).select(*KEYS, pl.col("reward").alias(f"reward: {model}"))
        table = table.join(mine, on=KEYS, how="left")
        tops.append(pl.col(f"reward: {model}") == pl.col(f"reward: {model}").max().over("problem_id"))
    top = pl.any_horizontal(tops) if tops else pl.lit(False)
    return (
        table.with_columns(top=top.fill_null(False))
        .sort("problem_id", "language", ~pl.col("top"), "sample_index")
        .collect()
    )  # fmt: skip


def _problems(source: run_scan.Source, rows: pl.DataFrame, ids: list[str], cap: Cap) -> list[dict[str, Any]]:
    """What is shown of each problem, in the order of `ids`; those beyond the cap have questions and votes, no
    candidates.
    """
    shown, models = set(ids[: cap.problems]), _models(source)
    kept = (
        rows.filter(pl.col("problem_id").is_in(list(shown)))
        .group_by("problem_id", "language", maintain_order=True)
        .head(cap.per_cell)
    )
    cells: dict[tuple[str, str], list[list[Any]]] = {}
    for row in kept.iter_rows(named=True):
        cells.setdefault((row["problem_id"], row["language"]), []).append(_candidate(row, models, cap.characters))
    told = {(row["problem_id"], row["language"]): row for row in source.problems.iter_rows(named=True)}
    votes = _votes(source, ids)
    winners = _winners(source, ids)
    made = []
    for problem in ids:
        mine = [told.get((problem, code), {}) for code in source.languages]
        reference = next((row["reference"] for row in mine if row), None)
        read = [c[2] for code in source.languages for c in cells.get((problem, code), [])]
        told_there = (*votes.get(problem, []), *(row[3:] for row in winners.get(problem, [])))
        made.append({
            "reference": reference,
            "level": next((row["level"] for row in mine if row), None),
            "formulas": formulas([reference, *(row[0] for row in told_there), *read]),
            "questions": [_cut(row.get("question") or "", QUESTION) for row in mine],
            "votes": votes.get(problem, []),
            "winners": winners.get(problem, []),
            "candidates": [cells.get((problem, code), []) for code in source.languages] if problem in shown else None,
        })  # fmt: skip
    return made


def _candidate(row: Mapping[str, Any], models: list[str], characters: int) -> list[Any]:
    """[number, pieces, answer, correct, rule, note, rewards, log-probability, tokens, finish, trace language,
    condition, whether a written equation is false]:
    positions that `atlas.js` knows by the same names; pieces as `text.segments` makes them."""
    return [
        row["sample_index"], _around(row["completion"] or "", row["start"], row["end"], characters),
        row["answer"], int(bool(row["is_correct"])), row["rule"] or "", row["note"] or "",
        [_number(row[f"reward: {model}"], 3) for model in models], _number(row["logprob"], 1), row["n_tokens"],
        row["finish_reason"] or "", row["trace_language"], row["condition"], int(bool(row["false_equations"])),
    ]  # fmt: skip


def _around(text: str, start: int | None, end: int | None, characters: int) -> list[dict[str, Any]]:
    """A completion's pieces, cut to the part around its answer where it has more than `characters`."""
    found = start is not None and end is not None and start < end
    start, end = (min(start or 0, len(text)), min(end or 0, len(text))) if found else (len(text), len(text))
    low, high = 0, len(text)
    if high > characters:
        high = min(high, max(end + AFTER, characters))
        low = max(0, high - characters)
        if low > start:
            low, high = start, start + characters
            end = min(end, high)
    cut = segments(text[low:high], start - low if found else None, end - low)
    return [*([{"cut": low}] if low else []), *cut, *([{"cut": len(text) - high}] if high < len(text) else [])]


def _votes(source: run_scan.Source, ids: list[str]) -> dict[str, list[list[Any]]]:
    """Per problem its most frequent answers over all candidates: answer (None: unread), votes, correct; unread ones
    last.
    """
    counts = (
        source.readings.filter(pl.col("problem_id").is_in(ids))
        .group_by("problem_id", "answer")
        .agg(pl.len().alias("votes"), pl.col("is_correct").any().alias("correct"))
    )
    ranked = counts.sort("problem_id", pl.col("answer").is_null(), -pl.col("votes").cast(pl.Int64), "answer").collect()
    made: dict[str, list[list[Any]]] = {}
    for problem, answer, votes, correct in ranked.iter_rows():
        made.setdefault(problem, []).append([answer, votes, int(correct)])
    return {
        problem: rows
        if len(rows) <= MOST_ANSWERS + 1
        else [*rows[:MOST_ANSWERS], ["", sum(r[1] for r in rows[MOST_ANSWERS:]), len(rows) - MOST_ANSWERS]]
        for problem, rows in made.items()
    }


def _winners(source: run_scan.Source, ids: list[str]) -> dict[str, list[list[Any]]]:
    """Per problem and reward model the candidate with the highest reward of all: [model, language number, sample
    number, answer, correct, reward, how many share it]."""
    number = {code: place for place, code in enumerate(source.languages)}
    made: dict[str, list[list[Any]]] = {}
    for model in _models(source):
        here = source.rewards_by(model).filter(pl.col("problem_id").is_in(ids) & pl.col("reward").is_finite())
        best = here.filter(pl.col("reward") == pl.col("reward").max().over("problem_id"))
        table = best.join(source.readings.select(*KEYS, "answer", "is_correct"), on=KEYS, how="left").sort(*KEYS)
        top = table.group_by("problem_id", maintain_order=True).agg(pl.all().first(), tied=pl.len()).collect()
        for row in top.iter_rows(named=True):
            made.setdefault(row["problem_id"], []).append(
                [
                    model,
                    number[row["language"]],
                    row["sample_index"],
                    row["answer"],
                    int(bool(row["is_correct"])),
                    _number(row["reward"], 3),
                    row["tied"],
                ]
            )
    return made


def _said(
    data: Mapping[str, Any], rows: pl.DataFrame, cap: Cap, n_everything: int, source: run_scan.Source
) -> list[str]:
    """What the page leaves out, one sentence each, counted from its data."""
    held = [candidate for problem in data["problems"] for cell in problem["candidates"] or [] for candidate in cell]
    total, n = int(source.cells["n"].sum()), len(data["ids"])
    said = []
    if n < n_everything:
        said.append(f"{n:,} of {n_everything:,} problems are in the heat map, the first by their id.")
    if cap.problems < n:
        said.append(f"Candidates are embedded for the first {cap.problems:,} of these problems only.")
    if len(held) < total:
        first = "those with the highest reward of their problem, then " if source.models else ""
        said.append(
            f"{len(held):,} of {total:,} candidates are embedded, at most {cap.per_cell} of a problem in one "
            f"language: {first}those drawn first. Counts, shares and votes are over all of them."
        )
    cut = sum(any("cut" in piece for piece in candidate[1]) for candidate in held)
    if cut:
        said.append(
            f"{cut:,} completions of more than {cap.characters:,} characters are cut to the part around their answer."
        )
    long = int(source.problems.select((pl.col("question").str.len_chars() > QUESTION).sum()).item())
    if long:
        said.append(f"{long:,} questions of more than {QUESTION:,} characters are cut.")
    return [*said, "`bestofl explore` shows everything."] if said else []


def _cut(text: str, most: int) -> list[dict[str, Any]]:
    return segments(text if len(text) <= most else text[:most] + " […]")


def _number(value: float | None, digits: int) -> float | None:
    return None if value is None or value != value or value in (float("inf"), float("-inf")) else round(value, digits)
