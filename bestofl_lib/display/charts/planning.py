"""How the planner spreads a budget, and what planning gains."""

from __future__ import annotations

import altair as alt
import polars as pl

from bestofl_lib.display import words
from bestofl_lib.display.charts.style import (
    OWN,
    PLANNED,
    TONES,
    WIDTH,
    finish,
    interval_dots,
    need,
    or_nothing,
    panels,
    points_axis,
    spelled_range,
    tooltips,
    with_names,
    with_places,
)
from bestofl_lib.display.context import languages_in_order
from bestofl_lib.text import points, signed


@or_nothing
def allocation(table: pl.DataFrame) -> alt.TopLevelMixin:
    """How does the planner spread a budget over languages?

    Args:
        table: one row per budget and language: `budget`, `objective`, `language`, `completions`, `n_problems`; and,
            where known, `least` and `most` (over the plans of the folds).

    Raises:
        ValueError: the table has several objectives, or gives no language a completion.
    """
    need(table, "budget", "objective", "language", "completions", "n_problems")
    if table["objective"].n_unique() > 1:
        raise ValueError(
            f"the table has plans for {', '.join(table['objective'].unique())}; filter it to one objective"
        )
    table = with_names(table.with_columns(objective=words.objective_column())).filter(pl.col("completions") > 0)
    need(table, "language")
    order = languages_in_order(table["language"])
    table = with_places(table, "language_name", order)
    last = table.filter(pl.col("budget") == pl.col("budget").max()).sort("place")
    line = ", ".join(f"{row['language_name']} {row['completions']}" for row in last.iter_rows(named=True))
    table = table.with_columns(row=pl.format("{} completions", "budget"))
    rows = table.sort("budget")["row"].unique(maintain_order=True).to_list()
    base = alt.Chart(table)
    y = alt.Y("row:N", title=None, sort=rows)
    x = alt.X("completions:Q", stack="zero", title="completions per problem", axis=alt.Axis(format="d", tickMinStep=1))
    part = {"y": y, "x": x, "order": alt.Order("place:Q")}
    colour = alt.Color(
        "language_name:N", title=None, sort=order,
        scale=alt.Scale(domain=order, range=([OWN, *TONES] * 4)[: len(order)]),
    )  # fmt: skip
    tips = tooltips(table, "language_name", "budget", "completions", "least", "most", "n_problems")
    centre = alt.X("completions:Q", stack="zero", bandPosition=0.5)
    chart = alt.layer(
        base.mark_bar().encode(color=colour, tooltip=tips, **part),
        base.mark_text(color="#ffffff").encode(y=y, x=centre, order=alt.Order("place:Q"), text="completions:Q"),
    ).properties(width=WIDTH - 40, height=alt.Step(34))
    return finish(
        chart,
        "allocation",
        f"At {last['budget'][0]} completions the plan is {line}",
        "How does the planner spread a budget over languages?",
        f"Completions per problem in each language, planned for {table['objective'][0]} on "
        f"{spelled_range(table['n_problems'])} problems.",
    )


@or_nothing
def planner_regret(table: pl.DataFrame) -> alt.TopLevelMixin:
    """What does planning gain over simpler ways of spending?

    Args:
        table: one row per budget and arm: `budget`, `arm` (planned, a language alone, mixed, hindsight), `accuracy`,
            `regret` (hindsight minus this arm), `gain` (of the plan over this arm), `gain_low`, `gain_high`,
            `n_problems`.
    """
    need(table, "budget", "arm", "accuracy", "regret", "gain", "gain_low", "gain_high", "n_problems")
    planned = table.filter((pl.col("arm") == "planned") & (pl.col("budget") == pl.col("budget").max()))
    table = (
        table.filter(~pl.col("arm").is_in(["planned", "hindsight"]))
        .drop_nulls("gain")
        .drop("low", "high", strict=False)
    )
    need(table, "arm")
    rivals = [f"plan − {words.plan_arm(arm)}" for arm in table["arm"]]
    table = table.with_columns(
        low="gain_low",
        high="gain_high",
        rival=pl.Series(rivals, dtype=pl.String),
        sure=(pl.col("gain_low") > 0) | (pl.col("gain_high") < 0),
        label=pl.col("gain").map_elements(signed, return_dtype=pl.String),
        row=pl.format("{} completions", "budget"),
    )
    last = table.filter(pl.col("budget") == pl.col("budget").max()).sort("gain").row(0, named=True)
    order = table.sort("budget")["row"].unique(maintain_order=True).to_list()
    tips = tooltips(table, "rival", "budget", "gain", "low", "high", "accuracy", "n_problems")

    def panel(rows: pl.DataFrame) -> alt.LayerChart:
        return interval_dots(
            rows, "gain", points_axis(), "percentage points", order, tips, y="row", zero=0, colour=PLANNED, step=26
        ).properties(width=280)

    regret = f" It loses {points(planned['regret'][0])} to hindsight." if len(planned) else ""
    return finish(
        panels(table, "rival", sorted(set(rivals)), panel, columns=2),
        "planner_regret",
        f"At {last['budget']} completions the plan is {signed(last['gain'])} points [{signed(last['gain_low'])}, "
        f"{signed(last['gain_high'])}] against {words.plan_arm(last['arm'])}, its closest rival",
        "What does planning gain over simpler ways of spending?",
        "The plan's accuracy minus the other's, 95 % intervals paired by problem; "
        f"{spelled_range(table['n_problems'])} problems; plans are judged on problems they were not made on.{regret}",
        room=150,
    )
