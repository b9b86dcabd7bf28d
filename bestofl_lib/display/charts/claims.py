"""What a run says about each claim."""

from __future__ import annotations

import altair as alt
import polars as pl

from bestofl_lib.display import words
from bestofl_lib.display.charts.style import (
    GREY,
    INK,
    finish,
    interval_dots,
    label_room,
    need,
    or_nothing,
    panels,
    points_axis,
    spelled_range,
    tooltips,
)
from bestofl_lib.languages import english_name
from bestofl_lib.text import signed


@or_nothing
def claims_forest(table: pl.DataFrame) -> alt.TopLevelMixin:
    """What does this run say about each claim? One row per claim.

    Args:
        table: `claims`: `claim`, `part`, `high_resource`, `effect`, `low`, `high` (shares), `verdict`; and, where
            known, `statement`, `p_holm`, `mde`, `n_problems`. Only the whole of each claim is shown, with the fixed
            list of high-resource languages; a claim without an effect is named with its verdict.
    """
    need(table, "claim", "part", "high_resource", "effect", "low", "high", "verdict")
    kept = table.filter((pl.col("part") == "total") & pl.col("high_resource").ne_missing(pl.lit("strongest")))
    table = _told(kept.with_columns(row=pl.col("claim").replace(words.CLAIMS)))
    told = [
        f"{row['claim']} {signed(row['effect'])} ({row['verdict']})" for row in table.drop_nulls("effect").to_dicts()
    ]
    tips = tooltips(table, "row", "statement", "effect", "low", "high", "p_holm", "mde", "verdict", "n_problems")
    return finish(
        _panel(table, tips),
        "claims_forest",
        "; ".join(told) or f"None of {table.height} claims could be tested",
        "What does this run say about each claim?",
        _what_is_drawn(table),
        room=label_room(table),
    )


@or_nothing
def claim_details(table: pl.DataFrame) -> alt.TopLevelMixin:
    """What is behind each claim? One panel per claim, part and budget, its languages sorted by effect.

    Args:
        table: `claim_details`: `claim`, `part`, `language`, `arm`, `budget`, `effect`, `low`, `high` (shares),
            `verdict`; and, where known, `against` (of H4's wordings always), `p_holm`, `mde`, `n_problems`.
    """
    need(table, "claim", "part", "language", "arm", "budget", "effect", "low", "high", "verdict")
    table = _detail_rows(table)
    tested = table.drop_nulls("effect").height
    sure = table.filter(pl.col("verdict") == "supported").height
    tips = tooltips(table, "row", "arm", "against", "effect", "low", "high", "p_holm", "mde", "verdict", "n_problems")
    order = table["panel"].unique(maintain_order=True).to_list()
    return finish(
        panels(table, "panel", order, lambda rows: _panel(rows, tips, 20).properties(width=230), columns=2),
        "claim_details",
        f"{sure} of {tested} comparisons are supported",
        "What is behind each claim, language by language?",
        _what_is_drawn(table),
        room=175,
    )


@or_nothing
def claim_controls(table: pl.DataFrame) -> alt.TopLevelMixin:
    """What would simpler rules reach? Every control next to the claim, as gain over a language's own pool and own
    model.

    Args:
        table: one row per arm and language (null: the mean over languages, which is shown): `language`, `pool`,
            `selector`, `gain`, `gain_low`, `gain_high`, `p_holm`, `budget`, `n_problems`.
    """
    need(table, "language", "pool", "selector", "gain", "gain_low", "gain_high", "p_holm", "budget", "n_problems")
    means = table.filter(pl.col("language").is_null()).drop_nulls("gain").drop("low", "high")
    need(means, "gain")
    names = [f"{words.pool(pool)}, {words.selector(how)}" for pool, how in means.select("pool", "selector").iter_rows()]
    means = means.with_columns(
        low="gain_low",
        high="gain_high",
        row=pl.Series(names, dtype=pl.String),
        sure=(pl.col("p_holm") < 0.05).fill_null(False),
        label=pl.col("gain").map_elements(signed, return_dtype=pl.String),
    ).sort("gain", descending=True)
    best = means.row(0, named=True)
    tips = tooltips(means, "row", "gain", "low", "high", "accuracy", "p_holm", "budget", "n_problems")
    order = means["row"].to_list()
    return finish(
        interval_dots(means, "gain", points_axis(), "percentage points", order, tips, y="row", zero=0, colour=INK),
        "claim_controls",
        f"The best of {means.height} ways is {best['row']}: {signed(best['gain'])} points over the own pool with its "
        "own model",
        "What would one do instead, and what does it reach?",
        "Accuracy over a language's own pool chosen by its own reward model, mean over languages, "
        f"{spelled_range(means['budget'])} completions, {spelled_range(means['n_problems'])} problems; 95 % intervals; "
        "filled where significant after Holm's correction.",
        room=label_room(means),
    )


def _panel(table: pl.DataFrame, tips: list[alt.Tooltip], step: int = 26) -> alt.LayerChart:
    order = table["row"].to_list()
    tested = table.drop_nulls("effect")
    dots = interval_dots(
        tested if len(tested) else table, "effect", points_axis(), "percentage points", order, tips, y="row", zero=0,
        colour=INK, step=step,
    )  # fmt: skip
    aside = table.filter(pl.col("effect").is_null())
    if aside.is_empty():
        return dots
    text = (
        alt.Chart(aside)
        .mark_text(align="left", dx=6, color=GREY)
        .encode(y=alt.Y("row:N", sort=order, title=None), x=alt.datum(0), text="verdict:N")
    )
    return alt.layer(dots, text).properties(height=alt.Step(step))  # type: ignore[return-value]


def _what_is_drawn(table: pl.DataFrame) -> str:
    known = "n_problems" in table.columns and table["n_problems"].count()
    n = f"{spelled_range(table['n_problems'].drop_nulls())} problems; " if known else ""
    found = set(table["verdict"])
    marks = ", ".join(f"{mark} {name}" for name, mark in words.VERDICT_MARKS.items() if name in found)
    return (
        f"Effect in percentage points of accuracy or coverage; {n}lines are 95 % intervals; right of the dashed line "
        f"speaks for the claim; filled: the interval excludes 0; verdicts after Holm's correction: {marks}."
    )


def _detail_rows(table: pl.DataFrame) -> pl.DataFrame:
    """One row per comparison: `panel` is claim, part and budget, `row` the language or else the arm; sorted by
    effect.
    """
    parts, budgets = (pl.col(column).n_unique().over("claim") > 1 for column in ("part", "budget"))
    told = {"total": ": total", "wordings": ": wordings of the instruction"}
    part = pl.col("part").replace_strict(told, default=pl.format(": {} effect", "part"))
    name = [_compared(row) for row in table.to_dicts()]
    table = table.with_columns(
        panel=pl.col("claim")
        + pl.when(parts).then(part).otherwise(pl.lit(""))
        + pl.when(budgets).then(pl.format(": {} completions", "budget")).otherwise(pl.lit("")),
        row=pl.Series(name, dtype=pl.String),
    )
    order: list[str | pl.Expr] = ["claim", pl.col("part") != "total", "part", "budget"]
    return _told(table.sort(*order, pl.col("effect").fill_nan(None), descending=[*[False] * 4, True], nulls_last=True))


def _compared(row: dict) -> str:
    """What a comparison of the details is called: its language, its arm, or, of wordings, both of its arms."""
    if row["part"] == "wordings":
        return f"{words.wordings(row['arm'])} against {words.wordings(row['against'])}"
    return english_name(row["language"]) if row["language"] else words.pool(row["arm"])


def _told(table: pl.DataFrame) -> pl.DataFrame:
    """With the printed effect and verdict, and whether the interval excludes 0."""
    table = table.with_columns(pl.col("effect", "low", "high").fill_nan(None))
    points = pl.col("effect").map_elements(signed, return_dtype=pl.String).fill_null("")
    return table.with_columns(
        sure=((pl.col("low") > 0) | (pl.col("high") < 0)).fill_null(False),
        label=points + pl.lit(" ") + pl.col("verdict").replace(words.VERDICT_MARKS),
    )
