"""What languages add to each other."""

from __future__ import annotations

from collections.abc import Callable
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
    heat_map,
    interval_dots,
    label_room,
    largest,
    need,
    or_nothing,
    panels,
    percent_axis,
    percent_of,
    points_axis,
    spelled_range,
    tooltips,
    with_names,
    with_places,
)
from bestofl_lib.display.context import languages_in_order
from bestofl_lib.languages import english_name
from bestofl_lib.text import signed


@or_nothing
def exclusive_solves(table: pl.DataFrame) -> alt.TopLevelMixin:
    """Which problems does one language solve that another does not? The diagonal is the same language drawn again.

    Args:
        table: one row per ordered pair: `language` (solves), `other` (does not), `exclusive` (problems, may be an
            expectation), `n_problems`; and, where known, `exclusive_resampled` (the language drawn again).
    """
    need(table, "language", "other", "exclusive", "n_problems")
    top = table.sort("exclusive").row(-1, named=True)
    if "exclusive_resampled" in table.columns:
        again = table.group_by("language").agg(pl.col("exclusive_resampled", "n_problems").first())
        again = again.select(
            "language",
            pl.col("language").alias("other"),
            pl.col("exclusive_resampled").alias("exclusive"),
            "n_problems",
        )
        table = pl.concat([table.select(again.columns), again.drop_nulls("exclusive")], how="vertical_relaxed")
    table = with_names(with_names(table), "other")
    order = languages_in_order(table["language"])
    base = alt.Chart(table).encode(
        x=alt.X(
            "other_name:N", sort=order, title="not solved in", axis=alt.Axis(labelAngle=-45, domain=False, ticks=False)
        ),
        y=alt.Y("language_name:N", sort=order, title="solved in", axis=alt.Axis(domain=False, ticks=False)),
        tooltip=tooltips(table, "language_name", "other_name", "exclusive", "n_problems"),
    )
    return finish(
        heat_map(base, "exclusive", largest(table["exclusive"], 1), ".0f"),
        "exclusive_solves",
        f"{english_name(top['language'])} solves {top['exclusive']:.0f} problems that {english_name(top['other'])} "
        "does not, the most of any pair",
        "Which problems does one language solve that another does not?",
        f"Expected problems of {spelled_range(table['n_problems'])} solved in the row's language and not in the "
        "column's; the diagonal is the same "
        "language drawn again.",
    )


@or_nothing
def gain_over_resampling(table: pl.DataFrame) -> alt.TopLevelMixin:
    """What does each language add beyond drawing the base language again?

    Args:
        table: one row per language and budget: `language`, `gain` (coverage with that language minus coverage with
            the base again, same budget), `low`, `high`, `n_problems`, `budget`, `p_holm`, `base` (the language drawn
            again).
    """
    need(table, "language", "gain", "low", "high", "n_problems", "budget", "p_holm", "base")
    again = english_name(table["base"][0])
    table = with_names(table.sort("budget", maintain_order=True)).with_columns(
        sure=pl.col("p_holm") < 0.05, label=_points("gain")
    )
    last = table.filter(pl.col("budget") == pl.col("budget").max()).sort("gain", descending=True)
    best, clear = last.row(0, named=True), last.filter(pl.col("sure") & (pl.col("gain") > 0)).height
    tips = tooltips(table, "language_name", "budget", "gain", "low", "high", "p_holm", "n_problems")
    order = languages_in_order(table["language"])

    def panel(rows: pl.DataFrame) -> alt.LayerChart:
        return interval_dots(rows, "gain", points_axis(), "gain, percentage points", order, tips, zero=0, colour=INK)

    chart, room = _one_or_panels(table, "budget", panel, 170, 115, title="{} completions".format)
    at = f"{signed(best['gain'])} points at {best['budget']} completions"
    finding = (
        f"{clear} of {last.height} languages clearly add more than {again} again, {best['language_name']} most: {at}"
        if clear
        else f"No language clearly adds more than {again} again; {best['language_name']} comes closest, {at}"
    )
    return finish(
        chart,
        "gain_over_resampling",
        finding,
        f"What does each language add beyond drawing {again} again?",
        f"Coverage of {again} and that language minus coverage of {again} alone, both with "
        f"{spelled_range(table['budget'])} completions per problem; {spelled_range(table['n_problems'])} problems; "
        "lines are 95 % intervals, paired by problem; filled where significant "
        "after Holm's correction.",
        room=room,
    )


@or_nothing
def added_languages(table: pl.DataFrame) -> alt.TopLevelMixin:
    """For a speaker of each language, which second language adds most?

    Args:
        table: one row per base and added language: `base`, `language`, `gain` (coverage with half of the budget in that
            language minus all of it in the base), `low`, `high`, `p_holm`, `verdict`, `budget`, `n_problems`.
    """
    need(table, "base", "language", "gain", "low", "high", "verdict", "budget", "n_problems")
    best = table.sort("gain").row(-1, named=True)
    clear, pairs = table.filter(pl.col("verdict") == "supported").height, table.height
    budget, n = spelled_range(table["budget"]), spelled_range(table["n_problems"])
    star = pl.when(pl.col("verdict") == "supported").then(pl.lit("*")).otherwise(pl.lit(""))
    again = table.group_by("base", maintain_order=True).agg(language=pl.col("base").first(), gain=pl.lit(0.0))
    table = pl.concat([table, again.select("base", "language", "gain")], how="diagonal_relaxed")
    table = with_names(with_names(table, "base")).with_columns(
        told=pl.when(pl.col("base") == pl.col("language")).then(pl.lit("0")).otherwise(_points("gain") + star),
        short=(100 * pl.col("gain")).round().cast(pl.Int64).cast(pl.String).str.replace("-", "−"),
    )
    order = languages_in_order([*table["base"], *table["language"]])
    turned, level = (alt.Axis(domain=False, ticks=False, labelAngle=angle) for angle in (-45, 0))
    base = alt.Chart(table).encode(
        x=alt.X("language_name:N", sort=order, title="added", axis=turned),
        y=alt.Y("base_name:N", sort=order, title="for a speaker of", axis=level),
        tooltip=tooltips(table, "base_name", "language_name", "gain", "low", "high", "p_holm", "verdict", "n_problems"),
    )
    most = max(largest(table["gain"].abs()), 0.001)
    return finish(
        heat_map(base, "gain", most, "", diverging=True, written="told"),
        "added_languages",
        f"{english_name(best['language'])} adds most to {english_name(best['base'])}: {signed(best['gain'])} points; "
        f"{clear} of {pairs} pairs are clear gains",
        "For a speaker of each language, which second language adds most?",
        f"Coverage with half of {budget} completions in the added language minus all of them in the own one, "
        f"percentage points, {n} problems; * supported after Holm's correction within a row; the diagonal is the same "
        "language again.",
    )


@or_nothing
def shapley(table: pl.DataFrame) -> alt.TopLevelMixin:
    """What is each language's fair share of the mixed pool's accuracy?

    Args:
        table: one row per language and objective: `language`, `shapley` (share of problems), `objective` ("oracle" for
            coverage, or a reward model that chooses), `budget`, `n_problems`, `low`, `high`.
    """
    need(table, "language", "shapley", "objective", "budget", "n_problems", "low", "high")
    sure = (pl.col("low") > 0) | (pl.col("high") < 0)
    table = with_names(table).with_columns(objective=words.objective_column(), sure=sure, label=_points("shapley"))
    top = table.sort("shapley").row(-1, named=True)
    tips = tooltips(table, "language_name", "objective", "shapley", "low", "high", "budget", "n_problems")
    order = languages_in_order(table["language"])

    def panel(rows: pl.DataFrame) -> alt.LayerChart:
        return interval_dots(rows, "shapley", points_axis(), "percentage points", order, tips, zero=0, colour=INK)

    chart, room = _one_or_panels(table, "objective", panel, 300, 115, columns=2)
    return finish(
        chart,
        "shapley",
        f"{top['language_name']} contributes most: {signed(top['shapley'])} points of {top['objective']}",
        "How much of the mixed pool's accuracy does each language contribute?",
        f"Shapley value: what a language adds on average over all orders of joining; {spelled_range(table['budget'])} "
        f"completions per problem, {spelled_range(table['n_problems'])} problems; lines are 95 % intervals.",
        room=room,
    )


@or_nothing
def greedy_order(table: pl.DataFrame) -> alt.TopLevelMixin:
    """Which language helps most, then which next?

    Args:
        table: one row per step: `step`, `language` added, `accuracy` with `low` and `high`, `gain` (over the step
            before; null for the first), `objective`, `budget`, `n_problems`.
    """
    need(table, "step", "language", "accuracy", "low", "high", "gain", "objective", "budget", "n_problems")
    label = pl.col("gain").map_elements(signed, return_dtype=pl.String).fill_null("")
    accuracy = percent_of("accuracy")
    table = with_names(table).with_columns(
        objective=words.objective_column(), added=pl.format("{}. {}", "step", "language_name"), sure=pl.lit(True),
        label=pl.when(pl.col("gain").is_null()).then(accuracy).otherwise(accuracy + pl.lit(" (") + label + pl.lit(")")),
    )  # fmt: skip
    first = table.sort("step").head(3)["language_name"].to_list()
    tips = tooltips(table, "step", "language_name", "accuracy", "low", "high", "gain", "budget", "n_problems")
    order = table.sort("step")["added"].unique(maintain_order=True).to_list()

    def panel(rows: pl.DataFrame) -> alt.LayerChart:
        return interval_dots(rows, "accuracy", percent_axis(), "accuracy", order, tips, y="added", colour=INK)

    chart, room = _one_or_panels(table, "objective", panel, 250, 185, columns=2)
    return finish(
        chart,
        "greedy_order",
        f"The order that helps most: {', then '.join(first)}",
        "Which language helps most, then which next?",
        f"Accuracy ({'; '.join(table['objective'].unique(maintain_order=True))}) as languages are added, and the gain "
        f"in points; {spelled_range(table['budget'])} completions per problem shared equally; "
        f"{spelled_range(table['n_problems'])} problems; 95 % intervals. Found and "
        "judged on the same problems, so later gains are overstated.",
        room=room,
    )


@or_nothing
def sole_solvers(table: pl.DataFrame) -> alt.TopLevelMixin:
    """Of the problems that one language alone solves, what explains how many?

    Args:
        table: one row per language and cause: `language`, `cause` (answer reading, revised question, resampling, left),
            `problems` (an expectation; null where unknown), `budget`, `n_problems`.
    """
    need(table, "language", "cause", "problems", "budget", "n_problems")
    table = with_names(table)
    total = table["problems"].sum()
    left = table.filter(pl.col("cause") == "left")["problems"].sum()
    colours = {"answer reading": TONES[2], "revised question": TONES[3], "resampling": GREY, "left": TONES[0]}
    domain = [cause for cause in colours if cause in table["cause"].to_list()]
    table = with_places(table, "cause", domain)
    order = languages_in_order(table["language"])
    sums = table.group_by("language_name", maintain_order=True).agg(pl.col("problems").sum())
    sums = sums.with_columns(label=pl.col("problems").round(1).cast(pl.String))
    y = alt.Y("language_name:N", sort=order, title=None)
    bars = (
        alt.Chart(table)
        .mark_bar()
        .encode(
            y=y,
            x=alt.X("problems:Q", title="problems that this language alone solves", axis=alt.Axis(tickCount=6)),
            color=alt.Color(
                "cause:N", title=None, sort=domain, scale=alt.Scale(domain=domain, range=[colours[c] for c in domain])
            ),
            order=alt.Order("place:Q"),
            tooltip=tooltips(table, "language_name", "cause", "problems", "share", "n_problems"),
        )
    )
    ends = alt.Chart(sums).mark_text(align="left", dx=5, color=INK).encode(y=y, x="problems:Q", text="label:N")
    return finish(
        alt.layer(bars, ends).properties(width=WIDTH - 60, height=alt.Step(24)),
        "sole_solvers",
        f"{left:.1f} of {total:.1f} problems that one language alone solves are left unexplained",
        "Of the problems that one language alone solves, what explains how many?",
        f"Expected problems of {spelled_range(table['n_problems'])} when every language draws "
        f"{spelled_range(table['budget'])}; the rest is not explained by "
        "reading, by faulty questions or by another draw.",
        room=34,
    )


def _one_or_panels(
    table: pl.DataFrame, column: str, panel: Callable[[pl.DataFrame], alt.LayerChart], width: int, room: int, **how: Any
) -> tuple[alt.TopLevelMixin, int]:
    """The chart of a table with one value in a column, else a panel per value, and its pixels for labels at the right.

    Args:
        width, room: of a panel, where there are several.
        how: see `panels`.
    """
    order = table[column].unique(maintain_order=True).to_list()
    if len(order) == 1:
        return panel(table), label_room(table)
    return panels(table, column, order, lambda rows: panel(rows).properties(width=width), **how), room


def _points(column: str) -> pl.Expr:
    return pl.col(column).map_elements(signed, return_dtype=pl.String)
