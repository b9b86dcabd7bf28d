"""What models wrote and what was read: accuracy per language, rules, other readers, languages of the text."""

from __future__ import annotations

import altair as alt
import polars as pl

from bestofl_lib.display.charts.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PINK,
    SKY,
    WIDTH,
    YELLOW,
    finish,
    heat_map,
    largest,
    names_by,
    need,
    share_axis,
    spelled_range,
    tooltips,
    with_names,
    with_places,
)


def accuracy_by_language(table: pl.DataFrame) -> alt.TopLevelMixin:
    """How often one candidate is right, per language, and how often nothing could be read.

    Args:
        table: one row per language: `language`, `accuracy`, `low`, `high`, `unreadable` (share of candidates),
            `n_candidates`, `n_problems`.
    """
    need(table, "language", "accuracy", "low", "high", "unreadable", "n_candidates", "n_problems")
    table = with_names(table)
    order = table.sort("accuracy", descending=True)["language_name"].to_list()
    base = alt.Chart(table)
    y = alt.Y("language_name:N", sort=order, title=None)
    tips = tooltips(table, "language_name", "accuracy", "low", "high", "unreadable", "n_candidates")
    left = (
        base.mark_bar(color=BLUE, opacity=0.85).encode(
            y=y, x=share_axis("accuracy", "accuracy of one candidate"), tooltip=tips
        )
        + base.mark_rule(color=INK).encode(y=y, x="low:Q", x2="high:Q", tooltip=tips)
    ).properties(width=330, height=alt.Step(22))
    right = (
        base.mark_bar(color=ORANGE)
        .encode(
            y=alt.Y("language_name:N", sort=order, axis=None),
            x=share_axis("unreadable", "nothing readable", top=max(0.05, largest(table["unreadable"], 0) * 1.1)),
            tooltip=tips,
        )
        .properties(width=170, height=alt.Step(22))
    )
    return finish(
        alt.hconcat(left, right, spacing=18),
        "accuracy_by_language",
        "How well does the model solve the same problems in each language?",
        f"Share of all candidates ({spelled_range(table['n_candidates'])} per language, {spelled_range(table['n_problems'])} problems); "
        "lines are 95 % intervals over problems. Nothing readable counts as not correct.",
    )


def reading_rules(table: pl.DataFrame) -> alt.TopLevelMixin:
    """Which rule read the answer, in each language?

    Args:
        table: one row per language and rule: `language`, `rule`, `n` (candidates); the rule of an unreadable answer is
            null or empty.
    """
    need(table, "language", "rule", "n")
    table = with_names(table).with_columns(
        pl.when(pl.col("rule").fill_null("") == "")
        .then(pl.lit("nothing readable"))
        .otherwise(pl.col("rule"))
        .alias("rule")
    )
    table = table.with_columns(share=pl.col("n") / pl.col("n").sum().over("language"))
    totals = table.group_by("rule").agg(pl.col("n").sum()).sort("n", descending=True)["rule"].to_list()
    rules = [rule for rule in totals if rule != "nothing readable"]
    domain = [*rules, "nothing readable"] if "nothing readable" in totals else rules
    table = with_places(table, "rule", domain)
    colours = ([BLUE, SKY, GREEN, YELLOW, PINK, "#7b5fb0", "#a5673f", "#4d9aa5"] * 4)[: len(rules)]
    chart = (
        alt.Chart(table)
        .mark_bar()
        .encode(
            y=alt.Y("language_name:N", title=None),
            x=alt.X("n:Q", stack="normalize", title="share of candidates", axis=alt.Axis(format="%")),
            color=alt.Color(
                "rule:N",
                title=None,
                sort=domain,
                scale=alt.Scale(domain=domain, range=[*colours, ORANGE][: len(domain)]),
            ),
            order=alt.Order("place:Q"),
            tooltip=tooltips(table, "language_name", "rule", "n", "share"),
        )
        .properties(width=WIDTH - 60, height=alt.Step(22))
    )
    return finish(
        chart,
        "reading_rules",
        "Which rule read the answer, in each language?",
        f"Share of {spelled_range(table.group_by('language').agg(pl.col('n').sum())['n'])} candidates per language.",
    )


def accuracy_by_reader(table: pl.DataFrame) -> alt.TopLevelMixin:
    """How accurate would the same candidates look to another reader?

    Args:
        table: one row per language and reader: `language`, `reader`, `accuracy`, `n_candidates`. The reader named
            "this reader" (or the first row's) is drawn strongest.
    """
    need(table, "language", "reader", "accuracy", "n_candidates")
    table = with_names(table).with_columns(pl.col("reader").str.replace_all("_", " "))
    readers = table["reader"].unique(maintain_order=True).to_list()
    ours = "this reader" if "this reader" in readers else readers[0]
    domain = [ours, *[reader for reader in readers if reader != ours]]
    order = names_by(table.filter(pl.col("reader") == ours), "accuracy")
    base = alt.Chart(table)
    y = alt.Y("language_name:N", sort=order, title=None)
    chart = alt.layer(
        base.mark_rule(color=GREY, opacity=0.6).encode(y=y, x="min(accuracy):Q", x2="max(accuracy):Q"),
        base.mark_point(filled=True, size=60, opacity=1).encode(
            y=y,
            x=alt.X(
                "accuracy:Q",
                title="accuracy of one candidate",
                axis=alt.Axis(format="%"),
                scale=alt.Scale(domain=[0, 1]),
            ),
            color=alt.Color(
                "reader:N",
                title=None,
                sort=domain,
                scale=alt.Scale(domain=domain, range=([BLUE, ORANGE, GREEN, PINK, YELLOW, SKY] * 3)[: len(domain)]),
            ),
            shape=alt.Shape("reader:N", title=None, sort=domain, scale=alt.Scale(domain=domain)),
            tooltip=tooltips(table, "language_name", "reader", "accuracy", "n_candidates"),
        ),
    ).properties(width=WIDTH - 80, height=alt.Step(22))
    return finish(
        chart,
        "accuracy_by_reader",
        "How accurate would the same candidates look to another reader?",
        f"Share correct of the same {spelled_range(table['n_candidates'])} candidates per language, read in different ways: what moves is reading, not reasoning.",
    )


def trace_languages(table: pl.DataFrame) -> alt.TopLevelMixin:
    """Which language is a completion really written in?

    Args:
        table: one row per language asked and language found: `language`, `trace_language` (null: the identifier
            abstained), `n` (candidates).
    """
    need(table, "language", "trace_language", "n")
    table = with_names(with_names(table).with_columns(pl.col("trace_language").fill_null("unsure")), "trace_language")
    table = table.with_columns(share=pl.col("n") / pl.col("n").sum().over("language"))
    order = sorted(table["language_name"].unique())
    found = [*order, *sorted(set(table["trace_language_name"]) - set(order) - {"unsure"})]
    base = alt.Chart(table).encode(
        x=alt.X(
            "trace_language_name:N",
            sort=[*found, "unsure"],
            title="written in",
            axis=alt.Axis(labelAngle=-45, domain=False, ticks=False),
        ),
        y=alt.Y("language_name:N", sort=order, title="asked in", axis=alt.Axis(domain=False, ticks=False)),
        tooltip=tooltips(table, "language_name", "trace_language_name", "share", "n"),
    )
    return finish(
        heat_map(base, "share", "share", 1.0, ".0%", least=0.005),
        "trace_languages",
        "Which language is a completion really written in?",
        f'Share of {spelled_range(table.group_by("language").agg(pl.col("n").sum())["n"])} candidates per language of the question; "unsure": '
        "too short, or only numbers.",
    )
