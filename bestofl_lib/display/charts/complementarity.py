"""What languages add to each other."""

from __future__ import annotations

import altair as alt
import polars as pl

from bestofl_lib.display import words
from bestofl_lib.display.charts.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    WIDTH,
    YELLOW,
    finish,
    heat_map,
    largest,
    names_by,
    need,
    points_axis,
    spelled_range,
    tooltips,
    with_names,
    with_places,
)
from bestofl_lib.languages import PIVOT, english_name


def exclusive_solves(table: pl.DataFrame) -> alt.TopLevelMixin:
    """Which problems does one language solve that another does not?

    Args:
        table: one row per ordered pair: `language` (solves), `other` (does not), `exclusive` (problems, may be an
            expectation), `n_problems`.
    """
    need(table, "language", "other", "exclusive", "n_problems")
    table = with_names(with_names(table), "other")
    order = names_by(table.group_by("language_name").agg(pl.col("exclusive").sum()), "exclusive")
    base = alt.Chart(table).encode(
        x=alt.X(
            "other_name:N", sort=order, title="not solved in", axis=alt.Axis(labelAngle=-45, domain=False, ticks=False)
        ),
        y=alt.Y("language_name:N", sort=order, title="solved in", axis=alt.Axis(domain=False, ticks=False)),
        tooltip=tooltips(table, "language_name", "other_name", "exclusive", "n_problems"),
    )
    return finish(
        heat_map(base, "exclusive", "problems", largest(table["exclusive"], 1), ".0f"),
        "exclusive_solves",
        "Which problems does one language solve that another does not?",
        f"Problems of {spelled_range(table['n_problems'])} solved in the row's language and not in the column's.",
    )


def gain_over_resampling(table: pl.DataFrame) -> alt.TopLevelMixin:
    """What does each language add beyond drawing English again?

    Args:
        table: one row per language and budget: `language`, `gain` (coverage with that language minus coverage with
            English again, same budget), `low`, `high`, `n_problems`, `budget`; and, where known, `p_holm` and `base` (the
            language drawn again, if not English).
    """
    need(table, "language", "gain", "low", "high", "n_problems", "budget")
    sure = pl.col("p_holm") < 0.05 if "p_holm" in table.columns else (pl.col("low") > 0) | (pl.col("high") < 0)
    table = with_names(table).with_columns(
        shown=pl.when(sure & (pl.col("gain") > 0))
        .then(pl.lit("adds"))
        .when(sure & (pl.col("gain") < 0))
        .then(pl.lit("costs"))
        .otherwise(pl.lit("undecided"))
    )
    again = english_name(table["base"][0] if "base" in table.columns else PIVOT)
    order = names_by(table.group_by("language_name").agg(pl.col("gain").mean()), "gain")
    budgets = table["budget"].unique().sort().to_list()
    drawn = alt.Chart(table)
    y = alt.Y("language_name:N", sort=order, title=None)
    colour = alt.Color(
        "shown:N", title=None, scale=alt.Scale(domain=["adds", "undecided", "costs"], range=[GREEN, GREY, ORANGE])
    )
    tips = tooltips(table, "language_name", "budget", "gain", "low", "high", "p_holm", "n_problems")
    layers = alt.layer(
        drawn.mark_rule(strokeWidth=2).encode(y=y, x=alt.X("low:Q", title=""), x2="high:Q", color=colour, tooltip=tips),
        drawn.mark_point(filled=True, size=60, opacity=1).encode(
            y=y,
            x=alt.X("gain:Q", title="gain, percentage points", axis=points_axis()),
            color=colour,
            shape=alt.Shape("shown:N", title=None, scale=alt.Scale(domain=["adds", "undecided", "costs"])),
            tooltip=tips,
        ),
        drawn.mark_rule(strokeDash=[4, 3], color=GREY).encode(x=alt.datum(0)),
    )
    chart = (
        layers.properties(width=WIDTH - 120, height=alt.Step(22))
        if len(budgets) == 1
        else layers.properties(width=200, height=alt.Step(18)).facet(
            facet=alt.Facet("budget:O", title="completions per problem"), columns=3
        )
    )
    return finish(
        chart,
        "gain_over_resampling",
        f"What does each language add beyond drawing {again} again?",
        f"Coverage of {again} and that language minus coverage of {again} alone, both with {spelled_range(table['budget'])} completions "
        f"per problem; {spelled_range(table['n_problems'])} problems; lines are 95 % intervals, paired by problem"
        + ("; coloured where significant after Holm's correction." if "p_holm" in table.columns else "."),
    )


def shapley(table: pl.DataFrame) -> alt.TopLevelMixin:
    """What is each language's fair share of the mixed pool's accuracy?

    Args:
        table: one row per language and objective: `language`, `shapley` (share of problems), `objective` ("oracle" for
            coverage, or a reward model that chooses), `budget`, `n_problems`, `low`, `high`. The names `value` and
            `measure` are taken for `shapley` and `objective`.
    """
    table = table.rename({"value": "shapley", "measure": "objective"}, strict=False)
    need(table, "language", "shapley", "objective", "budget", "n_problems", "low", "high")
    table = with_names(table).with_columns(objective=words.objective_column())
    order = names_by(table.group_by("language_name").agg(pl.col("shapley").mean()), "shapley")
    base = alt.Chart(table)
    y = alt.Y("language_name:N", sort=order, title=None)
    tips = tooltips(table, "language_name", "objective", "shapley", "low", "high", "budget", "n_problems")
    layers = (
        base.mark_bar(opacity=0.85).encode(
            y=y,
            x=alt.X("shapley:Q", title="percentage points", axis=points_axis()),
            tooltip=tips,
            color=alt.condition("datum.shapley < 0", alt.value(ORANGE), alt.value(BLUE)),
        ),
        base.mark_rule(color=INK).encode(y=y, x="low:Q", x2="high:Q", tooltip=tips),
    )
    one = table["objective"].n_unique() == 1
    chart = alt.layer(*layers).properties(width=WIDTH - 100 if one else 260, height=alt.Step(22))
    return finish(
        chart if one else chart.facet(facet=alt.Facet("objective:N", title=None), columns=2),
        "shapley",
        "How much of the mixed pool's accuracy is each language's doing?",
        f"Shapley value: what a language adds on average over all orders of joining; {spelled_range(table['budget'])} completions per problem, "
        f"{spelled_range(table['n_problems'])} problems; lines are 95 % intervals.",
    )


def greedy_order(table: pl.DataFrame) -> alt.TopLevelMixin:
    """Which language helps most, then which next?

    Args:
        table: one row per step: `step`, `language` added, `accuracy` with `low` and `high`, `objective`, `budget`, `n_problems`.
    """
    need(table, "step", "language", "accuracy", "low", "high", "objective", "budget", "n_problems")
    table = (
        with_names(table)
        .with_columns(objective=words.objective_column())
        .with_columns(added=pl.format("{}. {}", "step", "language_name"))
    )
    base = alt.Chart(table)
    y = alt.Y("added:N", sort=alt.EncodingSortField("step"), title=None)
    tips = tooltips(table, "step", "language_name", "accuracy", "low", "high", "budget", "n_problems")
    chart = alt.layer(
        base.mark_line(color=BLUE, opacity=0.5).encode(y=y, x="accuracy:Q", order="step:Q"),
        base.mark_rule(color=BLUE, strokeWidth=1.5).encode(y=y, x=alt.X("low:Q", title=""), x2="high:Q", tooltip=tips),
        base.mark_point(color=BLUE, filled=True, size=55, opacity=1).encode(
            y=y,
            x=alt.X("accuracy:Q", title="accuracy", axis=alt.Axis(format="%"), scale=alt.Scale(zero=False)),
            tooltip=tips,
        ),
    ).properties(width=WIDTH - 120, height=alt.Step(22))
    one = table["objective"].n_unique() == 1
    return finish(
        chart
        if one
        else chart.properties(width=250)
        .facet(facet=alt.Facet("objective:N", title=None), columns=2)
        .resolve_scale(y="independent"),
        "greedy_order",
        "Which language helps most, then which next?",
        f"Accuracy ({'; '.join(table['objective'].unique(maintain_order=True))}) as languages join, {spelled_range(table['budget'])} completions per "
        f"problem shared equally; {spelled_range(table['n_problems'])} problems; 95 % intervals. Found and judged on the same problems, so later gains are flattered.",
    )


def sole_solvers(table: pl.DataFrame) -> alt.TopLevelMixin:
    """Of the problems that one language alone solves, what explains how many?

    Args:
        table: one row per language and cause: `language`, `cause` (answer reading, revised question, resampling, left),
            `problems` (an expectation; null where unknown), `budget`, `n_problems`.
    """
    need(table, "language", "cause", "problems", "budget", "n_problems")
    table = with_names(table)
    order = names_by(table.group_by("language_name").agg(pl.col("problems").sum()), "problems")
    colours = {"answer reading": ORANGE, "revised question": YELLOW, "resampling": GREY, "left": BLUE}
    domain = [cause for cause in colours if cause in table["cause"].to_list()]
    table = with_places(table, "cause", domain)
    chart = (
        alt.Chart(table)
        .mark_bar()
        .encode(
            y=alt.Y("language_name:N", sort=order, title=None),
            x=alt.X("problems:Q", title="problems that this language alone solves"),
            color=alt.Color(
                "cause:N",
                title=None,
                sort=domain,
                scale=alt.Scale(domain=domain, range=[colours[cause] for cause in domain]),
            ),
            order=alt.Order("place:Q"),
            tooltip=tooltips(table, "language_name", "cause", "problems", "share", "n_problems"),
        )
        .properties(width=WIDTH - 100, height=alt.Step(22))
    )
    return finish(
        chart,
        "sole_solvers",
        "Of the problems that one language alone solves, what explains how many?",
        f"Expected problems of {spelled_range(table['n_problems'])} when every language draws {spelled_range(table['budget'])}; what is left is not explained by "
        "reading, by faulty questions or by another draw.",
    )
