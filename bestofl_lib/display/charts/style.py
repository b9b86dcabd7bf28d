"""What the charts share: colours, axes, tooltips, dots with intervals, labels at line ends, the final layout.

Colours can be told apart by colour-blind readers and on light and dark pages, and never carry meaning alone. A filled
dot is an effect that is statistically significant, a hollow one is not; no colour means "good". Languages are named in
English and have one order everywhere (see `display.context`). Nothing here knows what a chart shows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from itertools import cycle
from typing import Any

import altair as alt
import polars as pl

from bestofl_lib.display import context, words
from bestofl_lib.display.text import unbroken
from bestofl_lib.languages import english_name
from bestofl_lib.text import percent

# after Okabe and Ito, with yellow darkened and blue lightened so that both show on white and on black
OWN, MIXED, MULTI, PLANNED, VOTE, SKY, GREY = (
    "#2477b8",  # a language's own pool; its own reward model (mono)
    "#d55e00",  # all languages; the cross-lingual reward model
    "#009e73",  # the multi reward model
    "#7b5fb0",  # the planner
    "#c79500",  # votes
    "#56b4e9",
    "#868e96",  # ceilings, references, zero
)
RUN_COLOURS = ["#0f7585", "#b0306a", "#6a7d12", "#8b5a2b", "#4a4e9a", "#5f6b78", "#c2185b"]  # of runs side by side
Arm = tuple[str, str, str | None]  # pool ("own": the language of the speaker), strategy, reward model
ARM_COLOURS: dict[Arm, str] = {
    ("own", "best_of_k", "mono"): OWN,
    ("mixed", "best_of_k", "multi"): MULTI,
    ("mixed", "best_of_k", "cross"): MIXED,
    ("own", "majority", None): OWN,
    ("mixed", "majority", None): MIXED,
    ("mixed", "oracle", None): GREY,
}
# of parts that carry no meaning
TONES = ["#33527a", "#5a7ba6", "#86a3c6", "#b0c4dc", "#7c8794", "#a7b0ba", "#c9cfd6", "#5f6b78"]
INK = "currentColor"  # the page's own text colour
WIDTH = 620  # pixels of a chart with one panel; pages fit it to their width
TEXT = 12  # pixels of the smallest text
SHARES = (
    "accuracy",
    "low",
    "high",
    "unreadable",
    "share",
    "gain",
    "coverage",
    "effect",
    "mde",
    "regret",
    "predicted",
    "observed",
    "shapley",
    "gain_low",
    "gain_high",
    "equal",
    "difference",
)
TIP_NAMES = {
    "language_name": "language", "panel_name": "language", "other_name": "other language", "arm": "way of choosing",
    "p_holm": "p (Holm)", "mde": "detectable", "n_problems": "problems",
}  # fmt: skip


def finish(chart: Any, name: str, finding: str, question: str, detail: str, room: int = 0) -> alt.TopLevelMixin:
    """Title (what was found), subtitle (what was asked, of how many, with which interval), plain styling, source.

    Args:
        name: under which the chart and its data are saved.
        finding: one sentence, computed from the chart's table.
        question: ends with a question mark.
        detail: unit, denominator, interval.
        room: pixels beside the plot: of charts with panels for axis labels and labels at line ends, of others for
            labels at the right.
    """
    finding = finding[:1].upper() + finding[1:]
    source = context.current().source
    return chart.properties(
        title=alt.TitleParams(unbroken(finding), subtitle=unbroken(f"{question} {detail}"), anchor="start"),
        usermeta={"name": name} | ({"source": source} if source else {}) | ({"room": room} if room else {}),
        background="transparent",
    ).configure(
        font="system-ui, 'Segoe UI', 'Noto Sans', sans-serif",
        axis=alt.AxisConfig(
            labelFontSize=TEXT, titleFontSize=TEXT, titleFontWeight="normal", gridOpacity=0.6, labelLimit=260
        ),
        axisXQuantitative=alt.AxisConfig(labelOverlap="greedy", labelSeparation=4),
        axisDiscrete=alt.AxisConfig(labelOverlap=False),
        legend=alt.LegendConfig(
            orient="top", labelFontSize=TEXT, titleFontSize=TEXT, titleFontWeight="normal", symbolStrokeWidth=2.5,
            labelLimit=320, columns=4,
        ),
        header=alt.HeaderConfig(
            labelFontSize=13, labelFontWeight=600, labelAnchor="start", labelColor=INK, titleColor=INK
        ),
        text=alt.MarkConfig(fontSize=TEXT),
        view=alt.ViewConfig(stroke=None),
        title=alt.TitleConfig(fontSize=15, subtitleFontSize=TEXT, subtitlePadding=4, offset=14),
    )  # fmt: skip


def interval_dots(
    table: pl.DataFrame,
    x: str,
    axis: alt.Axis,
    title: str,
    order: Sequence[str],
    tips: list[alt.Tooltip],
    *,
    y: str = "language_name",
    colour: str = OWN,
    zero: float | None = None,
    step: int = 24,
) -> alt.LayerChart:
    """One dot per row with its interval and its number.

    Args:
        table: with `low`, `high`, `label` (printed beside the interval; on a phone `short`, where there is one) and
            `sure` (filled, otherwise hollow).
        x: column of the dots.
        colour: of dots and intervals: a language's own pool, or `INK` for what has no colour of its own.
        zero: where a dashed line marks no effect.
    """
    base = alt.Chart(table)
    place = alt.Y(f"{y}:N", sort=list(order), title=None, axis=alt.Axis(ticks=False, domain=False, labelLimit=400))
    paint = alt.value(colour)
    scale = alt.Scale(zero=False, nice=True)
    layers: list[alt.Chart] = []
    if zero is not None:
        layers.append(
            alt.Chart(alt.Data(values=[{"zero": zero}])).mark_rule(strokeDash=[4, 3], color=GREY).encode(x="zero:Q")
        )
    across = alt.X(f"{x}:Q", title=title, axis=axis, scale=scale)
    layers += [
        base.mark_rule(strokeWidth=2).encode(
            y=place, x=alt.X("low:Q", title="", scale=scale), x2="high:Q", color=paint, tooltip=tips
        ),
        base.mark_point(size=70, opacity=1, strokeWidth=2).encode(
            y=place,
            x=across,
            stroke=paint,
            fill=paint,
            tooltip=tips,
            fillOpacity=alt.condition("datum.sure", alt.value(1), alt.value(0)),
        ),
        base.mark_text(align="left", dx=8, color=INK).encode(y=place, x=alt.X("high:Q", title=""), text="label:N"),
    ]
    return alt.layer(*layers).properties(width=WIDTH - 80, height=alt.Step(step))  # type: ignore[return-value]


def panels(
    table: pl.DataFrame,
    column: str,
    order: Sequence[Any],
    make: Callable[[pl.DataFrame], alt.LayerChart],
    title: Callable[[Any], str] = str,
    columns: int = 3,
) -> alt.ConcatChart:
    """One chart per value of a column, side by side; pages put as many side by side as fit.

    Args:
        order: values of the column.
        make: the chart of one value's rows.
        title: a value in words.
    """
    made = [
        make(table.filter(pl.col(column) == value)).properties(title=panel_title(title(value)))
        for value in order
        if value in set(table[column])
    ]
    return alt.concat(*made, columns=columns, spacing=24)


def panel_title(text: str) -> alt.TitleParams:
    """The name of one panel."""
    return alt.TitleParams(text, fontSize=13, anchor="start", color=INK, offset=6)


def label_room(table: pl.DataFrame, label: str = "label", at: str = "high") -> int:
    """Pixels that the labels beside the intervals need at the right edge."""
    widest = table.drop_nulls(at).sort(at, descending=True).head(3)[label].str.len_chars().max()
    return 14 + 7 * int(widest or 0)  # type: ignore[arg-type]


def heat_map(
    base: alt.Chart,
    column: str,
    most: float,
    number: str,
    *,
    least: float | None = None,
    diverging: bool = False,
    written: str = "",
) -> alt.LayerChart:
    """Cells coloured by a number that is also printed in them.

    Args:
        most: the number with the strongest colour.
        least: numbers up to this have no cell.
        diverging: two colours around zero.
        written: a column of text that is written instead of the number; on a phone `short`, where there is one.
    """
    colours = ["#8c510a", "#f5f0e6", "#01665e"] if diverging else ["#eaf1f8", "#08519c"]
    domain = [-most, 0, most] if diverging else [0, most]
    kept = base if least is None else base.transform_filter(f"datum.{column} > {least:g}")
    cells = kept.mark_rect(stroke=None).encode(
        color=alt.Color(f"{column}:Q", scale=alt.Scale(range=colours, domain=domain), legend=None)
    )
    strong = f"abs(datum.{column}) > {0.55 * most:g}"
    text = kept.mark_text().encode(
        text=alt.Text(f"{written}:N") if written else alt.Text(f"{column}:Q", format=number),
        color=alt.condition(strong, alt.value("#ffffff"), alt.value("#1d2126")),
    )
    return (cells + text).properties(width=alt.Step(46), height=alt.Step(28))


def line_ends(
    table: pl.DataFrame, series: str, y: str, domain: tuple[float, float], height: int, x: str
) -> pl.DataFrame:
    """Where each line ends, with `label_y` moved so that labels 15 pixels high do not overprint each other."""
    ends = table.sort(x).group_by(series, maintain_order=True).last().sort(y, descending=True)
    room = 15 * (domain[1] - domain[0]) / height
    places: list[float] = []
    for value in ends[y]:
        places.append(min(value, places[-1] - room) if places else value)
    lowest = domain[0] + room / 2
    for i in range(len(places) - 1, -1, -1):
        floor = lowest if i == len(places) - 1 else places[i + 1] + room
        places[i] = max(places[i], floor)
    return ends.with_columns(label_y=pl.Series(places, dtype=pl.Float64))


# -- tables ----------------------------------------------------------------------------------------------------------


class NoRows(ValueError):
    """A chart's table is empty: a run without reward models, or a claim that could not be tested."""


def need(table: pl.DataFrame, *columns: str) -> None:
    """Refuse a table without a column or without a row.

    Raises:
        ValueError: naming the columns; `NoRows` where there is no row.
    """
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise ValueError(f"this chart needs {', '.join(missing)}; the table has {', '.join(table.columns)}")
    if table.is_empty():
        raise NoRows(f"this chart's table has no rows; expected some with {', '.join(columns)}")


def or_nothing(chart: Callable[..., alt.TopLevelMixin]) -> Callable[..., alt.TopLevelMixin]:
    """The chart, or one that says why there is nothing to draw: a study never stops at an empty table."""

    @wraps(chart)
    def made(*args: Any, **kwargs: Any) -> alt.TopLevelMixin:
        try:
            return chart(*args, **kwargs)
        except NoRows:
            why = words.NOTHING_TO_DRAW.get(chart.__name__, words.NOTHING_TO_DRAW[""])
            picture = alt.Chart(pl.DataFrame({"reason": [why]})).mark_text(color=INK).encode(text="reason:N")
            return finish(picture, chart.__name__, "Nothing to show", why, "")

    return made


def with_names(table: pl.DataFrame, column: str = "language") -> pl.DataFrame:
    """With the English name of a language beside its code."""
    return table.with_columns(pl.col(column).map_elements(english_name, return_dtype=pl.String).alias(f"{column}_name"))


def percent_of(column: str, digits: int = 1) -> pl.Expr:
    """A column of shares as text, such as "61.0 %"."""
    return pl.col(column).map_elements(lambda share: percent(share, digits), return_dtype=pl.String)


def names_by(table: pl.DataFrame, by: str) -> list[str]:
    """Language names, the largest value first."""
    return table.sort(by, descending=True, nulls_last=True)["language_name"].to_list()


def spelled_range(column: pl.Series) -> str:
    """One number, or the smallest and largest, with thousands marked."""
    low, high = -largest(-column.cast(pl.Float64)), largest(column)
    return f"{high:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f}"


def largest(column: pl.Series, otherwise: float = 0) -> float:
    """The largest value; `otherwise` when that is 0 or there is none."""
    return float(column.cast(pl.Float64).max() or otherwise)  # type: ignore[arg-type]


def with_places(table: pl.DataFrame, column: str, order: list[str]) -> pl.DataFrame:
    """With the place of a part in its stack. Counted here: text of a table never goes into a chart's expressions."""
    return table.with_columns(
        place=pl.col(column).replace_strict({name: i for i, name in enumerate(order)}, default=len(order))
    )


def thinned(table: pl.DataFrame, most: int = 4000) -> pl.DataFrame:
    """All budgets while the table is small; beyond `most` rows only those near quarter powers of two."""
    if table.height <= most or "budget" not in table.columns:
        return table
    keep = sorted({round(2 ** (i / 4)) for i in range(60)} | {int(largest(table["budget"], 1))})
    return table.filter(pl.col("budget").is_in(keep))


# -- encodings -------------------------------------------------------------------------------------------------------


def tooltips(table: pl.DataFrame, *columns: str) -> list[alt.Tooltip]:
    """What a pointer shows: the columns that the table has, shares as percentages."""
    return [
        alt.Tooltip(
            f"{column}:{'Q' if table[column].dtype.is_numeric() else 'N'}",
            title=TIP_NAMES.get(column, column.replace("_", " ")),
            format=".1%" if column in SHARES else ".3~f" if table[column].dtype.is_float() else "",
        )
        for column in columns
        if column in table.columns
    ]


def percent_axis(ticks: int = 5) -> alt.Axis:
    return alt.Axis(format="%", tickCount=ticks)


POINTS = "datum.value == 0 ? '0' : format(datum.value * 100, '+.1~f')"  # labels of an axis of differences


def points_axis() -> alt.Axis:
    return alt.Axis(labelExpr=POINTS, tickCount=6)


def accuracy_domain(table: pl.DataFrame, low: str = "low", high: str = "high") -> tuple[float, float]:
    """The tens that hold all of a table's intervals, at most 100 %."""
    least, most = -largest(-table[low]), largest(table[high], 1)
    return max(0.0, int(least * 10) / 10), min(1.0, (int(most * 10 - 1e-9) + 1) / 10)


def accuracy_axis(column: str, domain: tuple[float, float], title: str = "accuracy") -> alt.Y:
    return alt.Y(f"{column}:Q", title=title, axis=percent_axis(), scale=alt.Scale(domain=list(domain)))


def budget_axis(budgets: pl.Series) -> alt.Axis:
    """Ticks at powers of two."""
    most = int(largest(budgets, 1))
    return alt.Axis(values=[2**i for i in range(most.bit_length())], format="d", grid=False)


def token_axis(tokens: pl.Series) -> alt.Axis:
    """Ticks at 1, 2 and 5 times powers of ten."""
    low, high = -largest(-tokens, -1), largest(tokens, 1)
    return alt.Axis(values=[v for e in range(9) for m in (1, 2, 5) if low <= (v := m * 10**e) <= high], format="~s")


def known_models(column: pl.Series) -> list[str]:
    """Reward models: mono, multi, cross, then the others by name."""
    known = ["mono", "multi", "cross"]
    return [m for m in known if m in column] + sorted(set(column.unique()) - set(known))


def model_colours(models: list[str]) -> alt.Color:
    """The colour of each reward model, the same in every chart."""
    fixed = {"mono": OWN, "multi": MULTI, "cross": MIXED}
    spare = cycle((SKY, VOTE, PLANNED, GREY))
    colours = [fixed.get(model) or next(spare) for model in models]
    return alt.Color("reward_model:N", title=None, sort=models, scale=alt.Scale(domain=models, range=colours))
