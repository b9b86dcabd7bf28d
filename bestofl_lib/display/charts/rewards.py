"""How well rewards rank, whether they are calibrated, and which languages they choose."""

from __future__ import annotations

import altair as alt
import polars as pl

from bestofl_lib.display import words
from bestofl_lib.display.charts.style import (
    BLUE,
    GREY,
    ORANGE,
    WIDTH,
    finish,
    known_models,
    model_looks,
    names_by,
    need,
    share_axis,
    spelled_range,
    tooltips,
    with_names,
)


def reward_quality(table: pl.DataFrame) -> alt.TopLevelMixin:
    """Does a reward model rank correct candidates of the same problem above wrong ones?

    Args:
        table: one row per reward model and language: `reward_model`, `language` (null: all together), `auc`; and, where
            known, `low`, `high`, `n_problems`. The mono model of each language is shown in its own language, as "mono".
    """
    need(table, "reward_model", "language", "auc")
    mono = pl.col("reward_model").str.starts_with("mono-")
    own = pl.col("reward_model") == pl.lit("mono-") + pl.col("language")
    table = table.filter(pl.col("auc").is_not_null() & pl.col("auc").is_not_nan() & (~mono | own.fill_null(False)))
    need(table, "auc")
    table = table.with_columns(
        pl.when(mono).then(pl.lit("mono")).otherwise(pl.col("reward_model")).alias("reward_model")
    )
    table = with_names(table.with_columns(pl.col("language").fill_null("all languages")))
    order = names_by(table.group_by("language_name").agg(pl.col("auc").mean()), "auc")
    order = [name for name in order if name != "all languages"] + ["all languages"] * ("all languages" in order)
    models = known_models(table["reward_model"])
    base = alt.Chart(table)
    y = alt.Y("language_name:N", sort=order, title=None)
    shift = alt.YOffset("reward_model:N", sort=models)
    colour, shape = model_looks(models)
    tips = tooltips(table, "language_name", "reward_model", "auc", "low", "high", "n_problems", "n_pairs")
    x = alt.X("auc:Q", title="AUC within problems", scale=alt.Scale(zero=False, nice=True))
    layers = [
        base.mark_point(filled=True, size=55, opacity=1).encode(
            y=y, x=x, yOffset=shift, color=colour, shape=shape, tooltip=tips
        )
    ]
    if {"low", "high"} <= set(table.columns):
        layers.insert(
            0,
            base.mark_rule(strokeWidth=1.5).encode(
                y=y, x=alt.X("low:Q", title=""), x2="high:Q", yOffset=shift, color=colour
            ),
        )
    chance = alt.Chart(alt.Data(values=[{"chance": 0.5}])).mark_rule(strokeDash=[4, 3], color=GREY).encode(x="chance:Q")
    return finish(
        alt.layer(chance, *layers).properties(width=WIDTH - 100, height=alt.Step(10 if len(models) > 1 else 20)),
        "reward_quality",
        "Does each reward model tell correct from wrong candidates of the same problem?",
        "Chance that a correct candidate is ranked above a wrong one of the same problem"
        + (f" ({spelled_range(table['n_problems'])} problems that have both)" if "n_problems" in table.columns else "")
        + "; lines are 95 % intervals; 0.5, the dashed line, is guessing.",
    )


def calibration(table: pl.DataFrame) -> alt.TopLevelMixin:
    """Of the candidates that a reward model calls likely to be right, how many are?

    Args:
        table: one row per reward model and bin: `reward_model`, `predicted` (mean chance of being correct), `observed`
            (share correct), `n` (candidates in the bin); and, where known, `low` and `high` of the observed share.
    """
    need(table, "reward_model", "predicted", "observed", "n")
    models = known_models(table["reward_model"])
    base = alt.Chart(table)
    x = alt.X(
        "predicted:Q",
        title="predicted chance of being correct",
        axis=alt.Axis(format="%", tickCount=5),
        scale=alt.Scale(domain=[0, 1]),
    )
    y = alt.Y(
        "observed:Q", title="share correct", axis=alt.Axis(format="%", tickCount=5), scale=alt.Scale(domain=[0, 1])
    )
    colour, shape = model_looks(models)
    tips = tooltips(table, "reward_model", "predicted", "observed", "low", "high", "n")
    layers = [
        alt.Chart(alt.Data(values=[{"a": 0}, {"a": 1}]))
        .mark_line(color=GREY, strokeDash=[4, 3])
        .encode(x=alt.X("a:Q", title=""), y=alt.Y("a:Q", title="")),
        base.mark_line(opacity=0.7).encode(x=x, y=y, color=colour),
        base.mark_point(filled=True, opacity=1).encode(
            x=x,
            y=y,
            color=colour,
            shape=shape,
            size=alt.Size("n:Q", title="candidates", scale=alt.Scale(range=[15, 220]), legend=None),
            tooltip=tips,
        ),
    ]
    if {"low", "high"} <= set(table.columns):
        layers.insert(1, base.mark_rule(opacity=0.6).encode(x=x, y=alt.Y("low:Q", title=""), y2="high:Q", color=colour))
    return finish(
        alt.layer(*layers).properties(width=360, height=320),
        "calibration",
        "Of the candidates called likely to be right, how many are?",
        f"Share correct against the predicted chance, in bins of candidates ({table['n'].sum():,} in all; larger dots hold more); on the dashed line the two agree.",
    )


def selected_languages(table: pl.DataFrame) -> alt.TopLevelMixin:
    """Which languages do the chosen candidates come from?

    Args:
        table: one row per way of choosing and language: `language`, `share` (of the choices), `strategy`, `reward_model`,
            `budget`; and, where known, `pool_share` (what choosing at random would give), `n_problems`.
    """
    need(table, "language", "share", "strategy", "reward_model", "budget")
    many = table["budget"].n_unique() > 1
    table = with_names(table).with_columns(
        arm=pl.struct("strategy", "reward_model").map_elements(
            lambda s: words.strategy(s["strategy"], s["reward_model"]), return_dtype=pl.String
        )
        + (pl.format(", {} completions", pl.col("budget")) if many else pl.lit(""))
    )
    order = names_by(table.group_by("language_name").agg(pl.col("share").mean()), "share")
    base = alt.Chart(table)
    y = alt.Y("language_name:N", sort=order, title=None)
    tips = tooltips(table, "language_name", "arm", "share", "pool_share", "budget")
    layers = [
        base.mark_bar(color=BLUE, opacity=0.85).encode(
            y=y, x=share_axis("share", "share of choices", top=None), tooltip=tips
        )
    ]
    if "pool_share" in table.columns:
        layers.append(base.mark_tick(color=ORANGE, thickness=2, size=16).encode(y=y, x="pool_share:Q", tooltip=tips))
    chart = (
        alt.layer(*layers)
        .properties(width=210, height=alt.Step(18))
        .facet(facet=alt.Facet("arm:N", title=None, sort=table["arm"].unique(maintain_order=True).to_list()), columns=3)
    )
    note = " The orange tick is what choosing at random gives." if "pool_share" in table.columns else ""
    return finish(
        chart,
        "selected_languages",
        "Which languages do the chosen candidates come from?",
        f"Share of the candidates chosen from the mixed pool, {spelled_range(table['budget'])} completions per problem.{note}",
    )
