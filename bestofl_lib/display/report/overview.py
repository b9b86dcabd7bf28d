"""The first screen of a report: which model was asked what, what came out, and how certain it is.

Reads a run's tables and words them. Every figure is one that a table holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from bestofl_lib.display import words
from bestofl_lib.display.origin import BUNDLED, Origin, judged_candidates, origin
from bestofl_lib.languages import english_name
from bestofl_lib.runs import Run
from bestofl_lib.text import percent, points, signed, signed_interval, signed_points

HEADLINES = (  # the chart of the first screen: the first of these that the notebooks show
    "english_against_mixed", "claims_forest", "gain_over_resampling", "reward_quality", "accuracy_by_language",
)  # fmt: skip
HOPELESS = 0.05  # share correct of the best language below which a policy cannot solve the problems


@dataclass(frozen=True)
class Tile:
    """One question of the first screen with its answer."""

    question: str
    number: str
    interval: str
    verdict: str  # as in the table of claims; empty where nothing is judged
    sentence: str


@dataclass(frozen=True)
class Overview:
    """The words of the first screen."""

    title: str
    warning: str  # empty, or why all that follows means little
    subject: str
    caveat: str
    result: str
    tiles: tuple[Tile, ...]


def overview(run: Run, study_title: str, judged: bool) -> Overview:
    """The first screen of a run.

    Args:
        run: with problems and, as far as it has come, readings, accuracy, claims and plan.
        study_title: the title of the study that made it.
        judged: whether the tables of the last notebooks are fresh; otherwise no verdict is shown.
    """
    found = origin(run)
    title = _title(found, study_title)
    accuracy = run.read("accuracy") if run.has("accuracy") else None
    claims = run.read("claims") if judged and run.has("claims") else None
    plan = run.read("plan") if judged and run.has("plan") else None
    added = run.read("added_languages") if judged and run.has("added_languages") else None
    controls = run.read("claim_controls") if judged and run.has("claim_controls") else None
    tiles = () if claims is None else tuple(_tiles(claims, added, plan))
    return Overview(
        title, _warning(accuracy), _subject(run, found), _caveat(run, found),
        "" if claims is None else _result(claims, controls), tiles,
    )  # fmt: skip


def _title(found: Origin, study_title: str) -> str:
    """Model and problems, as the run says them; the study's title where it studies the bundled ones."""
    if found.bundled:
        return study_title
    models = " and ".join(found.models[:3])
    return f"{models} on {found.problems}" if models else found.problems


def _subject(run: Run, found: Origin) -> str:
    model = " and ".join(found.models[:3]) if found.models else "A model"
    if found.bundled:
        model = "The bundled policy"
    if not run.has("readings"):
        return f"{model}: no answers have been read yet."
    readings = judged_candidates(run)
    counts = readings.group_by("problem_id", "language").len()["len"]
    each = f"{counts.min()}" if counts.min() == counts.max() else f"{counts.min()} to {counts.max()}"  # type: ignore[str-bytes-safe]
    n, languages = readings["problem_id"].n_unique(), readings["language"].n_unique()
    where = f"in {languages} languages" if languages > 1 else f"in {english_name(readings['language'][0])}"
    how = f"imported from {found.imported}" if found.imported else "sampled here"
    date = f" on {found.date}" if found.date and not found.imported else ""
    problems = "made-up problems of the lab" if found.problems == BUNDLED else f"problems of {found.problems}"
    return (
        f"{model} answered {n:,} {problems} {where}, {each} times each: {readings.height:,} completions, {how}{date}."
    )


def _caveat(run: Run, found: Origin) -> str:
    """What limits all that follows; empty where nothing is known to."""
    if found.bundled:
        return words.LAB_CAVEAT
    trained_on_it = run.has("baseline") and not run.read("baseline").is_empty()
    return words.BASELINE_CAVEAT if trained_on_it and run.given_rewards().is_empty() else ""


def _warning(accuracy: pl.DataFrame | None) -> str:
    if accuracy is None or accuracy.is_empty():
        return ""
    best = accuracy.sort("accuracy", descending=True).row(0, named=True)
    if best["accuracy"] >= HOPELESS:
        return ""
    return (
        f"This policy cannot solve these problems: in its best language, {english_name(best['language'])}, "
        f"{percent(best['accuracy'])} of completions are right. Comparisons below mean little."
    )


def _claim(claims: pl.DataFrame, claim: str, part: str = "total") -> Mapping[str, Any] | None:
    """One headline row of the claims table; None where it has none."""
    rows = claims.filter(
        (pl.col("claim") == claim) & (pl.col("part") == part) & pl.col("high_resource").ne_missing(pl.lit("strongest"))
    )
    return rows.row(0, named=True) if len(rows) else None


def _tile(question: str, row: Mapping[str, Any] | None, sentence: str) -> Tile:
    if row is None or row["effect"] is None or row["effect"] != row["effect"]:
        return Tile(question, "–", "", "not tested", (row or {}).get("sentence") or words.NOT_TESTED)
    interval = signed_interval(row["low"], row["high"])
    return Tile(question, f"{signed(row['effect'])} points", f"95 % interval {interval}", row["verdict"], sentence)


def _tiles(claims: pl.DataFrame, added: pl.DataFrame | None, plan: pl.DataFrame | None) -> list[Tile]:
    asked = words.QUESTIONS
    return [
        _tile(asked["mixing"], _claim(claims, "H1", "pool") or _claim(claims, "H1"), words.TILES["pool"]),
        _tile(asked["reward"], _claim(claims, "H1", "reward") or _claim(claims, "H1"), words.TILES["reward"]),
        _helping_tile(asked["languages"], added, _claim(claims, "H4")),
        _plan_tile(asked["plan"], plan),
    ]


def _helping_tile(question: str, added: pl.DataFrame | None, row: Mapping[str, Any] | None) -> Tile:
    """The pair of languages where the second adds most beyond drawing the first again."""
    if added is None or added.is_empty():
        return _tile(question, row, words.TILES["again"])
    best = added.sort("gain").row(-1, named=True)
    clear = added.filter(pl.col("verdict") == "supported").height
    return Tile(
        question,
        signed_points(best["gain"]),
        f"95 % interval {signed_interval(best['low'], best['high'])}",
        best["verdict"],
        f"of coverage: {english_name(best['language'])} for a speaker of {english_name(best['base'])}, half of "
        f"{best['budget']} completions each, beyond asking in {english_name(best['base'])} alone. {clear} of "
        f"{added.height} pairs are clear gains.",
    )


def _plan_tile(question: str, plan: pl.DataFrame | None) -> Tile:
    """The planner's allocation at the largest budget against the strongest simpler way."""
    if plan is None or plan.is_empty():
        return Tile(question, "–", "", "not tested", words.NOT_TESTED)
    last = plan.filter(pl.col("budget") == pl.col("budget").max())
    planned = last.filter(pl.col("arm") == "planned").row(0, named=True)
    others = last.filter(~pl.col("arm").is_in(["planned", "hindsight"])).sort("accuracy", descending=True)
    if others.is_empty():
        return Tile(question, planned["allocation"], "", "", f"for {planned['budget']} completions per problem.")
    rival = others.row(0, named=True)
    low, high = rival["gain_low"], rival["gain_high"]
    verdict = "supported" if low > 0 else "not supported" if high < 0.01 else "undecided"
    name = words.plan_arm(rival["arm"])
    return Tile(
        question, signed_points(rival["gain"]), f"95 % interval {signed_interval(low, high)}", verdict,
        f"over {name} with {planned['budget']} completions. The plan: {planned['allocation']}.",
    )  # fmt: skip


def _result(claims: pl.DataFrame, controls: pl.DataFrame | None) -> str:
    """One sentence on what came out."""
    total = _claim(claims, "H1")
    if total is None or total["effect"] is None or total["effect"] != total["effect"]:
        return "Whether the cross-lingual reward model helps could not be tested on this run."
    pool, reward = _claim(claims, "H1", "pool"), _claim(claims, "H1", "reward")
    parts = (
        f": {signed(pool['effect'])} from the pool, {signed(reward['effect'])} from the reward "
        "model" if pool and reward else ""
    )  # fmt: skip
    verb = "gains" if total["effect"] > 0 else "loses"
    size = f"{points(abs(total['effect']))} {signed_interval(total['low'], total['high'])}"
    return (
        f"Spreading the same budget over all languages and choosing with the cross-lingual reward model {verb} {size} "
        f"against a speaker's own language alone{parts}. Verdict: {total['verdict']}.{_instead(controls)}"
    )


def _instead(controls: pl.DataFrame | None) -> str:
    """What asking in the base language reaches, the obvious alternative; empty where it is not known."""
    if controls is None:
        return ""
    rows = controls.filter(pl.col("language").is_null() & (pl.col("selector") == "best way")).drop_nulls("gain")
    if rows.is_empty():
        return ""
    row = rows.row(0, named=True)
    interval = signed_interval(row["gain_low"], row["gain_high"])
    return (
        f" Asking in {english_name(row['pool'])} instead, chosen the best way: {signed_points(row['gain'])} {interval}."
    )
