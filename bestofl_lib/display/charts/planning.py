"""How the planner spreads a budget, and what planning gains."""

from __future__ import annotations

import altair as alt
import polars as pl

from bestofl_lib.display import words
from bestofl_lib.display.charts.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PINK,
    SKY,
    YELLOW,
    finish,
    heat_map,
    largest,
    line_legend,
    names_by,
    need,
    points_axis,
    spelled_range,
    tooltips,
    with_names,
)
from bestofl_lib.languages import PIVOT


def allocation(table: pl.DataFrame) -> alt.TopLevelMixin:
    """How does the planner spread a budget over languages?

    Args:
        table: one row per budget and language: `budget`, `objective`, `language`, `completions`, `n_problems`; and, where
            known, `least` and `most` (over the plans of the folds).

    Raises:
        ValueError: the table has several objectives.
    """
    need(table, "budget", "objective", "language", "completions", "n_problems")
    if table["objective"].n_unique() > 1:
        raise ValueError(
            f"the table has plans for {', '.join(table['objective'].unique())}; filter it to one objective"
        )
    table = with_names(table).with_columns(objective=words.objective_column())
    order = names_by(table.group_by("language_name").agg(pl.col("completions").sum()), "completions")
    base = alt.Chart(table).encode(
        x=alt.X("budget:O", title="completions per problem", axis=alt.Axis(labelAngle=0, domain=False, ticks=False)),
        y=alt.Y("language_name:N", sort=order, title=None, axis=alt.Axis(domain=False, ticks=False)),
        tooltip=tooltips(table, "language_name", "budget", "completions", "least", "most", "n_problems"),
    )
    return finish(
        heat_map(base, "completions", "completions", largest(table["completions"], 1), ".2~f", least=0.005),
        "allocation",
        "How does the planner spread a budget over languages?",
        f"Completions per problem in each language, planned for {table['objective'][0]} on {spelled_range(table['n_problems'])} problems.",
    )


def planner_regret(table: pl.DataFrame) -> alt.TopLevelMixin:
    """How near does each way of spending come to the best allocation in hindsight, and what does planning gain?

    Args:
        table: one row per budget and arm: `budget`, `arm` (planned, en, mixed, hindsight), `accuracy`, `regret` (hindsight
            minus this arm), `gain` (of the plan over this arm), `gain_low`, `gain_high`, `n_problems`.
    """
    need(table, "budget", "arm", "accuracy", "regret", "gain", "gain_low", "gain_high", "n_problems")
    names = {"planned": "planner", "mixed": "equal shares", PIVOT: "English only"}
    table = table.filter(pl.col("arm") != "hindsight").with_columns(pl.col("arm").replace(names))
    need(table, "arm")
    domain = [name for name in names.values() if name in table["arm"].to_list()]
    domain += sorted(set(table["arm"]) - set(domain))
    colour = alt.Color(
        "arm:N",
        title=None,
        sort=domain,
        legend=line_legend(),
        scale=alt.Scale(domain=domain, range=([ORANGE, GREEN, BLUE, PINK, YELLOW, SKY] * 3)[: len(domain)]),
    )
    dash = alt.StrokeDash(
        "arm:N",
        title=None,
        sort=domain,
        legend=line_legend(),
        scale=alt.Scale(domain=domain, range=([[1, 0], [6, 3], [2, 2], [8, 2, 2, 2]] * 5)[: len(domain)]),
    )
    base = alt.Chart(table)
    x = alt.X("budget:O", title="completions per problem", axis=alt.Axis(labelAngle=0))
    left = (
        base.mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=30))
        .encode(
            x=x,
            y=alt.Y("regret:Q", title="regret (percentage points)", axis=points_axis()),
            color=colour,
            strokeDash=dash,
            tooltip=tooltips(table, "arm", "budget", "accuracy", "regret", "n_problems"),
        )
        .properties(width=270, height=230)
    )
    gains = base.transform_filter("isValid(datum.gain)")
    shift, tips = (
        alt.XOffset("arm:N", sort=domain),
        tooltips(table, "arm", "budget", "gain", "gain_low", "gain_high", "n_problems"),
    )
    right = alt.layer(
        base.mark_rule(strokeDash=[4, 3], color=GREY).encode(y=alt.datum(0)),
        gains.mark_rule(strokeWidth=2).encode(
            x=x, y=alt.Y("gain_low:Q", title=""), y2="gain_high:Q", xOffset=shift, color=colour, tooltip=tips
        ),
        gains.mark_point(filled=True, size=45, opacity=1).encode(
            x=x,
            y=alt.Y("gain:Q", title="gain of planning over it (points)", axis=points_axis()),
            xOffset=shift,
            color=colour,
            tooltip=tips,
        ),
    ).properties(width=270, height=230)
    return finish(
        alt.hconcat(left, right, spacing=24),
        "planner_regret",
        "How near does each way of spending come to the best allocation in hindsight?",
        f"Left: accuracy of the best allocation in hindsight minus the arm's; right: the plan's accuracy minus the arm's, with 95 % "
        f"intervals paired by problem. {spelled_range(table['n_problems'])} problems; plans are judged on problems that did not make them.",
    )
