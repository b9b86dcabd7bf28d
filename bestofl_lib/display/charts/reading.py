"""What models wrote and what was read: accuracy per language, rules, other readers, languages of the text."""

from __future__ import annotations

import altair as alt
import polars as pl

from bestofl_lib.answers.other_readers import OURS
from bestofl_lib.display.charts.style import (
    GREY,
    INK,
    SKY,
    TONES,
    VOTE,
    WIDTH,
    finish,
    heat_map,
    interval_dots,
    label_room,
    largest,
    names_by,
    need,
    or_nothing,
    percent_axis,
    percent_of,
    points_axis,
    spelled_range,
    tooltips,
    with_names,
    with_places,
)
from bestofl_lib.display.context import languages_in_order
from bestofl_lib.display.words import NOTHING_READ, reader_name, rule_name
from bestofl_lib.text import percent, signed


@or_nothing
def completion_lengths(table: pl.DataFrame) -> alt.TopLevelMixin:
    """How long are completions in each language, and how many were cut off?

    Args:
        table: one row per language, as `analysis.drawn.completion_lengths` gives it.
    """
    need(table, "language", "unit", "median", "low", "high", "longest", "cut", "n_candidates")
    unit, most = table["unit"][0], table.select(pl.col("cut").max()).item()
    ends = pl.when(pl.col("cut") >= 0.0005).then(pl.format(" · cut off {}", percent_of("cut"))).otherwise(pl.lit(""))
    printed = pl.col("median").round().cast(pl.Int64).cast(pl.String)
    table = with_names(table).with_columns(sure=pl.lit(True), label=printed + ends, short=printed)
    order = languages_in_order(table["language"])
    shortest, longest = (table.sort("median", "language").row(place, named=True) for place in (0, -1))
    tips = tooltips(table, "language_name", "median", "low", "high", "longest", "cut", "n_candidates")
    told = (
        "how completions ended is not known" if most is None else f"at most {percent(most)} of a language are cut off"
    )
    return finish(
        interval_dots(table, "median", alt.Axis(format="d"), f"{unit} of a completion", order, tips),
        "completion_lengths",
        f"Completions have {shortest['median']:.0f} {unit} in {shortest['language_name']} to "
        f"{longest['median']:.0f} in {longest['language_name']} (medians); {told}",
        "How long are completions in each language, and how many were cut off?",
        f"Median of {spelled_range(table['n_candidates'])} completions per language; lines leave out the shortest and "
        "the longest tenth; cut off: ended at the limit of tokens.",
        room=label_room(table),
    )


@or_nothing
def accuracy_by_language(table: pl.DataFrame) -> alt.TopLevelMixin:
    """How often one candidate is right, per language, and how often nothing could be read.

    Args:
        table: one row per language: `language`, `accuracy`, `low`, `high`, `unreadable` (share of candidates),
            `n_candidates`, `n_problems`.
    """
    need(table, "language", "accuracy", "low", "high", "unreadable", "n_candidates", "n_problems")
    printed = percent_of("accuracy")
    table = with_names(table).with_columns(sure=pl.lit(True), label=printed + _unread(), short=printed)
    order = names_by(table, "accuracy")
    best, worst = (table.sort("accuracy").row(place, named=True) for place in (-1, 0))
    tips = tooltips(table, "language_name", "accuracy", "low", "high", "unreadable", "n_candidates")
    return finish(
        interval_dots(table, "accuracy", percent_axis(), "accuracy of one candidate", order, tips),
        "accuracy_by_language",
        f"{best['language_name']} is right most often, {percent(best['accuracy'])}, {worst['language_name']} least, "
        f"{percent(worst['accuracy'])}",
        "How well does the model solve the same problems in each language?",
        f"Share of all candidates ({spelled_range(table['n_candidates'])} per language, "
        f"{spelled_range(table['n_problems'])} problems); lines "
        "are 95 % intervals over problems; what could not be read counts as not correct.",
        room=label_room(table),
    )


@or_nothing
def reading_rules(table: pl.DataFrame) -> alt.TopLevelMixin:
    """Which rule read the answer, in each language?

    Args:
        table: one row per language and rule: `language`, `rule` (null where nothing could be read), `n` (candidates).
    """
    need(table, "language", "rule", "n")
    table = with_names(table).with_columns(rule=pl.Series([rule_name(rule) for rule in table["rule"]], dtype=pl.String))
    table = table.with_columns(share=pl.col("n") / pl.col("n").sum().over("language"))
    totals = table.group_by("rule").agg(pl.col("n").sum()).sort("n", descending=True)
    rules = [rule for rule in totals["rule"] if rule != NOTHING_READ]
    unread = totals.filter(pl.col("rule") == NOTHING_READ)["n"].sum() / totals["n"].sum()  # type: ignore[operator]
    domain = [*rules, *([NOTHING_READ] if unread else [])]
    table = with_places(table, "rule", domain)
    colours = [*(TONES * 4)[: len(rules)], VOTE][: len(domain)]
    y = alt.Y("language_name:N", title=None, sort=languages_in_order(table["language"]))
    base = alt.Chart(table.with_columns(label=percent_of("share")))
    chart = alt.layer(
        base.mark_bar().encode(
            y=y,
            x=alt.X("share:Q", stack="zero", title="share of candidates", axis=percent_axis()),
            color=alt.Color("rule:N", title=None, sort=domain, scale=alt.Scale(domain=domain, range=colours)),
            order=alt.Order("place:Q"),
            tooltip=tooltips(table, "language_name", "rule", "n", "share"),
        ),
        base.transform_filter("datum.share > 0.2 && datum.place == 0")
        .mark_text(align="left", dx=6, color="#ffffff")
        .encode(y=y, x=alt.datum(0), text="label:N"),
    ).properties(width=WIDTH, height=alt.Step(24))
    first = totals.filter(pl.col("rule") != NOTHING_READ).head(1)
    read = (
        f"{percent(first['n'][0] / totals['n'].sum())} of answers are read by “{first['rule'][0]}”; "
        if len(first)
        else ""
    )
    return finish(
        chart,
        "reading_rules",
        f"{read}{percent(unread)} of candidates could not be read",
        "Which rule read the answer, in each language?",
        f"Share of {spelled_range(table.group_by('language').agg(pl.col('n').sum())['n'])} candidates per language.",
    )


@or_nothing
def accuracy_by_reader(table: pl.DataFrame) -> alt.TopLevelMixin:
    """How accurate would the same candidates look to another reader?

    Args:
        table: one row per language and reader: `language`, `reader` (ours is `other_readers.OURS`), `accuracy`,
            `n_candidates`.

    Raises:
        ValueError: the table lacks our own reader, so that nothing can be compared with it.
    """
    need(table, "language", "reader", "accuracy", "n_candidates")
    ours = table.filter(pl.col("reader") == OURS).select("language", mine="accuracy")
    if ours.is_empty():
        raise ValueError(f"the table has no reader {OURS!r}; it has {', '.join(table['reader'].unique().sort())}")
    table = with_names(table.filter(pl.col("reader") != OURS).join(ours, on="language"))
    need(table, "reader")
    table = table.with_columns(
        difference=pl.col("accuracy") - pl.col("mine"),
        reader=pl.col("reader").map_elements(reader_name, return_dtype=pl.String),
    )
    readers = table["reader"].unique(maintain_order=True).to_list()
    worst = table.sort(pl.col("difference").abs()).row(-1, named=True)
    moved = table.filter(pl.col("difference").abs().max().over("language") > 5e-4)
    same = [name for name in languages_in_order(table["language"]) if name not in set(moved["language_name"])]
    detail = (
        f"The same {spelled_range(table['n_candidates'])} candidates per language, read in other ways: what moves is "
        "reading, not reasoning." + (f" No reader differs in {', '.join(same)}." if same and len(moved) else "")
    )
    question = "How accurate would the same candidates look to another reader?"
    if moved.is_empty():
        moved = table
    moved = moved.with_columns(label=pl.col("difference").map_elements(signed, return_dtype=pl.String))
    return finish(
        _dumbbells(moved, readers, alt.Scale(domain=readers, range=([SKY, VOTE, GREY] * 4)[: len(readers)])),
        "accuracy_by_reader",
        f"Reading moves accuracy most in {worst['language_name']}: {signed(worst['difference'])} points by "
        f"{worst['reader']}",
        question,
        detail,
        room=44,
    )


def _dumbbells(table: pl.DataFrame, readers: list[str], colours: alt.Scale) -> alt.LayerChart:
    """Per language and reader one bar from our accuracy to the reader's, with the difference at its end."""
    base = alt.Chart(table)
    place = {
        "y": alt.Y("language_name:N", sort=languages_in_order(table["language"]), title=None),
        "yOffset": alt.YOffset("reader:N", sort=readers),
    }
    ends = (min(0.0, -largest(-table["difference"])), max(0.0, largest(table["difference"])))
    wide = ends if ends[0] < ends[1] else (-0.01, 0.01)
    scale = alt.Scale(domain=[1.2 * end for end in wide])  # with room for the numbers at the ends
    title = "accuracy against our reader, percentage points"
    x = alt.X("difference:Q", title=title, axis=points_axis(), scale=scale)
    colour = alt.Color("reader:N", title=None, sort=readers, scale=colours)
    shape = alt.Shape("reader:N", title=None, sort=readers, scale=alt.Scale(domain=readers))
    tips = tooltips(table, "language_name", "reader", "accuracy", "mine", "difference", "n_candidates")
    ahead = pl.col("difference") > 0
    return alt.layer(  # type: ignore[return-value]
        base.mark_rule(strokeWidth=2).encode(x=x, x2=alt.datum(0), color=colour, **place),
        base.mark_point(filled=True, size=60, opacity=1).encode(x=x, color=colour, shape=shape, tooltip=tips, **place),
        *(
            alt.Chart(part).mark_text(align=align, dx=dx, color=INK).encode(x=x, text="label:N", **place)  # type: ignore[arg-type]
            for align, dx, part in (("left", 8, table.filter(ahead)), ("right", -8, table.filter(~ahead)))
            if len(part)
        ),
        alt.Chart(alt.Data(values=[{"zero": 0}])).mark_rule(color=INK).encode(x="zero:Q"),
    ).properties(width=WIDTH, height=alt.Step(17))


@or_nothing
def trace_languages(table: pl.DataFrame) -> alt.TopLevelMixin:
    """Which language is a completion really written in?

    Args:
        table: one row per language asked and language found: `language`, `trace_language` (null: the identifier
            abstained), `n` (candidates).
    """
    need(table, "language", "trace_language", "n")
    kept = table.filter(pl.col("trace_language") == pl.col("language"))["n"].sum() / table["n"].sum()  # type: ignore[operator]
    codes = {*table["language"], *table["trace_language"].drop_nulls()}
    found = languages_in_order([*codes])
    table = with_names(with_names(table.with_columns(pl.col("trace_language").fill_null("unsure"))), "trace_language")
    table = table.with_columns(share=pl.col("n") / pl.col("n").sum().over("language"))
    whole = (100 * pl.col("share")).round().cast(pl.Int64).cast(pl.String)
    table = table.with_columns(told=whole + pl.lit("%"), short=whole)
    base = alt.Chart(table).encode(
        x=alt.X(
            "trace_language_name:N",
            sort=[*found, "unsure"],
            title="written in",
            axis=alt.Axis(labelAngle=-45, domain=False, ticks=False),
        ),
        y=alt.Y(
            "language_name:N",
            sort=languages_in_order(table["language"]),
            title="asked in",
            axis=alt.Axis(domain=False, ticks=False),
        ),
        tooltip=tooltips(table, "language_name", "trace_language_name", "share", "n"),
    )
    return finish(
        heat_map(base, "share", 1.0, "", least=0.005, written="told"),
        "trace_languages",
        f"{percent(kept)} of completions are written in the language of their question",
        "Which language is a completion really written in?",
        f"Share of {spelled_range(table.group_by('language').agg(pl.col('n').sum())['n'])} candidates per language of "
        'the question; "unsure": '
        "too short, or only numbers; shares up to 0.5 % are left out.",
    )


def _unread() -> pl.Expr:
    """The share of unreadable candidates, as printed next to accuracy."""
    return (
        pl.when(pl.col("unreadable") >= 0.0005)
        .then(pl.lit(" · unread ") + percent_of("unreadable"))
        .otherwise(pl.lit(""))
    )
