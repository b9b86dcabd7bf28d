"""How well rewards rank, whether they are calibrated, and which languages they choose."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from bestofl_lib.display import words
from bestofl_lib.display.charts.style import (
    GREY,
    INK,
    TONES,
    WIDTH,
    finish,
    known_models,
    largest,
    model_colours,
    need,
    or_nothing,
    panels,
    percent_axis,
    percent_of,
    spelled_range,
    tooltips,
    with_names,
)
from bestofl_lib.display.context import languages_in_order
from bestofl_lib.text import percent

ALL = "all languages"
NEAR = 0.65  # an interval that begins below it shows where guessing lies


@or_nothing
def reward_quality(table: pl.DataFrame) -> alt.TopLevelMixin:
    """Does a reward model rank correct candidates of the same problem above wrong ones?

    Args:
        table: one row per reward model and language: `reward_model`, `language` (null: all together), `auc`, `low`,
            `high`; and, where known, `n_problems`. The mono model of each language is shown in its own language, as
            "mono".
    """
    need(table, "reward_model", "language", "auc", "low", "high")
    mono = pl.col("reward_model").str.starts_with("mono-")
    own = pl.col("reward_model") == pl.lit("mono-") + pl.col("language")
    table = table.filter(pl.col("auc").is_not_null() & pl.col("auc").is_not_nan() & (~mono | own.fill_null(False)))
    need(table, "auc")
    means = table.with_columns(kind=pl.when(mono).then(pl.lit("mono")).otherwise("reward_model"))
    means = means.drop_nulls("language").group_by("kind").agg(pl.col("auc").mean()).sort("auc", descending=True)
    table = table.with_columns(reward_model=pl.when(mono).then(pl.lit("mono")).otherwise("reward_model"))
    order = [*languages_in_order(table["language"]), ALL]
    table = with_names(table.with_columns(pl.col("language").fill_null(ALL)))
    models = known_models(table["reward_model"])
    label = pl.col("auc").map_elements(lambda auc: f"{auc:.3f}", return_dtype=pl.String)
    base = alt.Chart(table.with_columns(label=label))
    place = {
        "y": alt.Y("language_name:N", sort=order, title=None),
        "yOffset": alt.YOffset("reward_model:N", sort=models),
    }
    colour = model_colours(models)
    tips = tooltips(table, "language_name", "reward_model", "auc", "low", "high", "n_problems", "n_pairs")
    scale = alt.Scale(zero=False, nice=True)
    guessing = alt.Chart(alt.Data(values=[{"x": 0.5}])).mark_rule(strokeDash=[4, 3], color=GREY).encode(x="x:Q")
    near = table["low"].min() < NEAR  # type: ignore[operator]
    chart = alt.layer(
        *([guessing] if near else []),
        base.mark_rule(strokeWidth=1.5).encode(
            x=alt.X("low:Q", title="", scale=scale), x2="high:Q", color=colour, **place
        ),
        base.mark_point(filled=True, size=55, opacity=1).encode(
            x=alt.X("auc:Q", title="AUC within problems", scale=scale, axis=alt.Axis(tickCount=6)),
            color=colour,
            tooltip=tips,
            shape=alt.Shape("reward_model:N", title=None, sort=models, scale=alt.Scale(domain=models)),
            **place,
        ),
        base.mark_text(align="left", dx=6, color=INK).encode(x=alt.X("high:Q", title=""), text="label:N", **place),
    ).properties(width=WIDTH - 80, height=alt.Step(13 if len(models) > 1 else 22))
    told = ", ".join(f"{kind} {auc:.3f}" for kind, auc in means.head(4).iter_rows())
    return finish(
        chart,
        "reward_quality",
        f"Mean AUC within problems: {told}"
        if told
        else f"AUC within problems over all languages: {table['auc'].max():.3f} at best",  # type: ignore[str-bytes-safe]
        "Does each reward model tell correct from wrong candidates of the same problem?",
        "Chance that a correct candidate is ranked above a wrong one of the same problem"
        + (f" ({spelled_range(table['n_problems'])} problems that have both)" if "n_problems" in table.columns else "")
        + f"; lines are 95 % intervals; 0.5{', the dashed line,' if near else ''} is guessing.",
        room=48,
    )


@or_nothing
def calibration(table: pl.DataFrame) -> alt.TopLevelMixin:
    """Of the candidates that a reward model calls likely to be right, how many are?

    Args:
        table: `reward_quality.calibration`'s reliability: one row per reward model and bin: `reward_model`,
            `probability` (mean chance of being correct), `share_correct`, `n_candidates`.
    """
    need(table, "reward_model", "probability", "share_correct", "n_candidates")
    models = known_models(table["reward_model"])
    gap = pl.col("share_correct") - pl.col("probability")
    worst = table.filter(pl.col("n_candidates") >= 0.02 * pl.col("n_candidates").sum().over("reward_model"))
    row = worst.sort(gap.abs()).row(-1, named=True)
    colour: Any = model_colours(models).to_dict()
    paint = dict(zip(colour["scale"]["domain"], colour["scale"]["range"], strict=True))
    span = alt.Scale(domain=[0, 1])
    agree = (
        alt.Chart(alt.Data(values=[{"a": 0}, {"a": 1}]))
        .mark_line(color=GREY, strokeDash=[4, 3])
        .encode(x=alt.X("a:Q", title=""), y=alt.Y("a:Q", title=""))
    )

    def panel(rows: pl.DataFrame) -> alt.LayerChart:
        base, tone = alt.Chart(rows), paint[rows["reward_model"][0]]
        x = alt.X("probability:Q", title="predicted chance of being correct", axis=percent_axis(), scale=span)
        y = alt.Y("share_correct:Q", title="share correct", axis=percent_axis(), scale=span)
        points = base.mark_point(filled=True, opacity=1, color=tone).encode(
            x=x, y=y, tooltip=tooltips(rows, "reward_model", "probability", "share_correct", "n_candidates"),
            size=alt.Size("n_candidates:Q", scale=alt.Scale(range=[15, 220]), legend=None),
        )  # fmt: skip
        line = base.mark_line(opacity=0.7, color=tone).encode(x=x, y=y)
        return alt.layer(agree, line, points).properties(width=280, height=280)  # type: ignore[return-value]

    return finish(
        panels(table, "reward_model", models, panel, columns=2),
        "calibration",
        f"Where {row['reward_model']} says {percent(row['probability'], 0)}, {percent(row['share_correct'], 0)} are "
        "correct: its largest error",
        "Of the candidates called likely to be right, how many are?",
        f"Share correct against the predicted chance, in bins of candidates ({table['n_candidates'].sum():,} in all; "
        "larger dots hold more); on the dashed line the two agree.",
    )


@or_nothing
def selected_languages(table: pl.DataFrame) -> alt.TopLevelMixin:
    """Which languages do the chosen candidates come from?

    Args:
        table: one row per way of choosing and language: `language`, `share` (of the choices), `strategy`,
            `reward_model`, `budget`, `n_problems`. The dashed line is the equal share of the languages.
    """
    need(table, "language", "share", "strategy", "reward_model", "budget", "n_problems")
    many = table["budget"].n_unique() > 1
    arms = [words.strategy(s, m) for s, m in table.select("strategy", "reward_model").iter_rows()]
    table = with_names(table).with_columns(arm=pl.Series(arms, dtype=pl.String))
    table = table.with_columns(
        arm=pl.col("arm") + (pl.format(", {} completions", pl.col("budget")) if many else pl.lit("")),
        equal=1 / pl.len().over("arm", "budget"),
        label=percent_of("share", digits=0),
    ).with_columns(at=pl.max_horizontal("share", "equal"))
    shown = table.filter(pl.col("reward_model") == "cross") if "cross" in table["reward_model"] else table
    top = shown.sort("share").row(-1, named=True)
    y = alt.Y("language_name:N", sort=languages_in_order(table["language"]), title=None)
    tips = tooltips(table, "language_name", "arm", "share", "equal", "budget")
    most = alt.Scale(domain=[0, largest(table["share"], 1)])

    def panel(rows: pl.DataFrame) -> alt.LayerChart:
        base = alt.Chart(rows)
        x = alt.X("share:Q", title="share of choices", axis=percent_axis(3), scale=most)
        return alt.layer(  # type: ignore[return-value]
            base.mark_bar(color=TONES[1]).encode(y=y, x=x, tooltip=tips),
            base.mark_rule(color=INK, strokeDash=[4, 3]).encode(x=alt.X("mean(equal):Q", title="")),
            base.mark_text(align="left", dx=4, color=INK).encode(y=y, x=alt.X("at:Q", title=""), text="label:N"),
        ).properties(width=180, height=alt.Step(20))

    order = table["arm"].unique(maintain_order=True).to_list()
    return finish(
        panels(table, "arm", order, panel),
        "selected_languages",
        f"{top['language_name']} supplies {percent(top['share'], 0)} of the choices of {top['arm']}; an equal share is "
        f"{percent(top['equal'], 0)}",
        "Which languages do the chosen candidates come from?",
        f"Share of the candidates chosen from the mixed pool, {spelled_range(table['budget'])} completions per "
        f"problem, {spelled_range(table['n_problems'])} problems; the dashed line is an equal share.",
        room=105,
    )
