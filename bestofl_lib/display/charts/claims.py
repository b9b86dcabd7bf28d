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
    panel_title,
    points_axis,
    spelled_range,
    tooltips,
    with_names,
)
from bestofl_lib.text import signed


@or_nothing
def claims_forest(table: pl.DataFrame) -> alt.TopLevelMixin:
    """What does this run say about each claim, or about a claim in each language?

    Args:
        table: one row per claim and part, or per claim and language: `claim`, `effect`, `low`, `high` (shares),
            `verdict`; and, where known, `part`, `language`, `budget`, `against`, `statement`, `p_holm`, `mde`,
            `n_problems`. Rows without an effect are named with their verdict. Several claims become panels, each sorted
            by effect.
    """
    need(table, "claim", "effect", "low", "high", "verdict")
    table = _rows(table)
    sure = table.filter(pl.col("verdict") == "supported")
    tested = table.drop_nulls("effect")
    told = ", ".join(
        f"{row['row']} {signed(row['effect'])} ({row['verdict']})" for row in tested.head(4).iter_rows(named=True)
    )
    finding = told if table.height <= 6 and told else f"{sure.height} of {tested.height} comparisons are supported"
    tips = tooltips(table, "row", "statement", "effect", "low", "high", "p_holm", "mde", "verdict", "n_problems")
    groups = table["claim"].unique(maintain_order=True).to_list()
    if table.height <= 12 or len(groups) == 1:
        chart: alt.LayerChart | alt.ConcatChart = _panel(table, tips)
    else:
        panels = []
        for name in groups:
            part = table.filter(pl.col("claim") == name).sort("effect", descending=True, nulls_last=True)
            part = part.with_columns(row=pl.col("row").str.strip_prefix(f"{name} ").str.strip_prefix(f"{name}, "))
            panels.append(_panel(part, tips, 20).properties(width=230, title=panel_title(name)))
        chart = alt.concat(*panels, columns=2, spacing=28)
    n = (
        f"{spelled_range(table['n_problems'].drop_nulls())} problems; "
        if "n_problems" in table.columns and tested.height
        else ""
    )
    return finish(
        chart,
        "claims_forest",
        finding,
        "What does this run say about each claim?",
        f"Effect in percentage points of accuracy or coverage; {n}lines are 95 % intervals; right of the dashed line "
        "supports the claim; filled: the interval excludes zero.",
        room=label_room(table) if isinstance(chart, alt.LayerChart) else _panel_room(table),
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


def _panel_room(table: pl.DataFrame) -> int:
    """Pixels beside a panel's plot: the names of its rows, without their claim, and the printed effects and
    verdicts.
    """
    names, labels = (int(table[column].str.len_chars().max() or 0) for column in ("row", "label"))  # type: ignore[arg-type]
    return min(20 + int(6.4 * max(names - 3, 0)) + 7 * labels, 320)


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


def _rows(table: pl.DataFrame) -> pl.DataFrame:
    """With a name for every row, its printed effect and verdict, and whether its interval excludes zero."""
    table = (with_names(table) if "language" in table.columns else table).with_columns(
        pl.col("effect", "low", "high").fill_nan(None)
    )
    name = pl.col("claim")
    if "part" in table.columns:
        name = name + pl.when(pl.col("part") == "total").then(pl.lit("")).otherwise(pl.lit(" ") + pl.col("part"))
    if "high_resource" in table.columns:
        name = name + pl.when(pl.col("high_resource") == "strongest").then(pl.lit(" (strongest)")).otherwise(pl.lit(""))
    if "language_name" in table.columns:
        name = name + pl.lit(" ") + pl.col("language_name").fill_null("")
    table = table.with_columns(row=name.str.strip_chars())
    for column, told in (("arm", "{}, {}"), ("budget", "{}, {} completions"), ("against", "{} against {}")):
        if table["row"].is_duplicated().any() and column in table.columns:
            longer = pl.format(told, "row", pl.col(column).cast(pl.String).fill_null("?"))
            table = table.with_columns(row=pl.when(pl.col("row").is_duplicated()).then(longer).otherwise("row"))
    points = pl.col("effect").map_elements(signed, return_dtype=pl.String).fill_null("")
    return table.with_columns(
        sure=((pl.col("low") > 0) | (pl.col("high") < 0)).fill_null(False),
        label=points + pl.lit(" ") + pl.col("verdict"),
    )
