"""What a run says about each claim."""

from __future__ import annotations

import altair as alt
import polars as pl

from bestofl_lib.display.charts.style import (
    GREEN,
    GREY,
    ORANGE,
    WIDTH,
    finish,
    need,
    points_axis,
    tooltips,
    with_names,
)


def claims_forest(table: pl.DataFrame) -> alt.TopLevelMixin:
    """What does this run say about each claim?

    Args:
        table: one row per claim, or per claim and language: `claim`, `effect`, `low`, `high` (shares), `verdict`; and,
            where known, `language`, `statement`, `p`, `mde`.
    """
    need(table, "claim", "effect", "low", "high", "verdict")
    table = (with_names(table) if "language" in table.columns else table).with_columns(
        pl.col("effect", "low", "high").fill_nan(None)
    )
    name = pl.col("claim") + (
        pl.lit(" ") + pl.col("language_name").fill_null("") if "language" in table.columns else pl.lit("")
    )
    table = table.with_columns(row=name.str.strip_chars())
    if table["row"].is_duplicated().any() and "budget" in table.columns:
        table = table.with_columns(row=pl.format("{}, {} completions", "row", "budget"))
    if table["row"].is_duplicated().any() and "against" in table.columns:
        told = pl.format("{} against {}", "row", "against")
        table = table.with_columns(row=pl.when(pl.col("row").is_duplicated()).then(told).otherwise("row"))
    verdicts = ["supported", "undecided", "not supported"]
    colour = alt.Color(
        "verdict:N", title=None, sort=verdicts, scale=alt.Scale(domain=verdicts, range=[GREEN, GREY, ORANGE])
    )
    base = alt.Chart(table)
    y = alt.Y("row:N", sort=table["row"].to_list(), title=None, axis=alt.Axis(labelLimit=300))
    tips = tooltips(table, "row", "statement", "effect", "low", "high", "p", "p_holm", "mde", "verdict")
    chart = alt.layer(
        base.mark_rule(strokeDash=[4, 3], color=GREY).encode(x=alt.datum(0)),
        base.mark_rule(strokeWidth=2).encode(y=y, x=alt.X("low:Q", title=""), x2="high:Q", color=colour, tooltip=tips),
        base.mark_point(filled=True, size=75, opacity=1).encode(
            y=y,
            x=alt.X("effect:Q", title="effect (percentage points)", axis=points_axis()),
            color=colour,
            shape=alt.Shape(
                "verdict:N",
                title=None,
                sort=verdicts,
                scale=alt.Scale(domain=verdicts, range=["circle", "diamond", "square"]),
            ),
            tooltip=tips,
        ),
        base.transform_filter("!isValid(datum.effect)")
        .mark_text(align="left", dx=6, color=GREY)
        .encode(y=y, x=alt.datum(0), text="verdict:N"),
    ).properties(width=WIDTH - 120, height=alt.Step(26))
    return finish(
        chart,
        "claims_forest",
        "What does this run say about each claim?",
        "Effect in percentage points of accuracy or coverage; lines are 95 % intervals; right of the dashed line speaks for the claim.",
    )
