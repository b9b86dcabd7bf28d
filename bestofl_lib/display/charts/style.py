"""What the charts share: colours, axes, tooltips, the final looks, and the checks of a table.

Colours are told apart by colour-blind readers and on light and dark pages, and never carry meaning alone. Languages are named in
English on axes. Nothing here knows what a chart shows.
"""

from __future__ import annotations

from itertools import cycle
from typing import Any

import altair as alt
import polars as pl

from bestofl_lib.languages import english_name

BLUE, ORANGE, GREEN, PINK, YELLOW, SKY, GREY = (
    "#2477b8",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#c79500",
    "#56b4e9",
    "#868e96",
)  # after Okabe and Ito, with yellow darkened and blue lightened so that both show on white and on black

INK = "currentColor"  # the page's own text colour

WIDTH = 560  # pixels of a chart with one panel; pages make it narrower where they must


def finish(chart: Any, name: str, title: str, subtitle: str) -> alt.TopLevelMixin:
    """Title, quiet looks, and the name under which the chart and its data are saved."""
    return chart.properties(
        title=alt.TitleParams(title, subtitle=subtitle, anchor="start"),
        usermeta={"name": name},
        background="transparent",
    ).configure(
        font="system-ui, 'Segoe UI', 'Noto Sans', sans-serif",
        axis=alt.AxisConfig(
            labelFontSize=11, titleFontSize=12, titleFontWeight="normal", gridOpacity=0.7, labelLimit=160
        ),
        legend=alt.LegendConfig(
            orient="top",
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
            symbolStrokeWidth=2.5,
            labelLimit=320,
            columns=3,
        ),
        header=alt.HeaderConfig(
            labelFontSize=12, labelFontWeight=600, labelAnchor="start", labelColor=INK, titleColor=INK
        ),
        view=alt.ViewConfig(stroke=None),
        title=alt.TitleConfig(fontSize=14, subtitleFontSize=12, subtitlePadding=4, offset=14),
    )


def heat_map(base: alt.Chart, column: str, title: str, most: float, number: str, least: float = -1) -> alt.LayerChart:
    """Cells coloured by a number that is also written into them where it is above `least`."""
    cells = base.mark_rect(stroke=None).encode(
        color=alt.Color(
            f"{column}:Q", title=title, scale=alt.Scale(range=["#eaf1f8", "#08519c"], domain=[0, most]), legend=None
        )
    )
    words = (
        base.transform_filter(f"datum.{column} > {least:g}")
        .mark_text(fontSize=10)
        .encode(
            text=alt.Text(f"{column}:Q", format=number),
            color=alt.condition(f"datum.{column} > {0.5 * most:g}", alt.value("#ffffff"), alt.value("#1d2126")),
        )
    )
    return (cells + words).properties(width=alt.Step(38), height=alt.Step(26))


def need(table: pl.DataFrame, *columns: str) -> None:
    """Refuse a table without a column or without a row."""
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise ValueError(f"this chart needs {', '.join(missing)}; the table has {', '.join(table.columns)}")
    if table.is_empty():
        raise ValueError(f"this chart's table has no rows; expected some with {', '.join(columns)}")


def with_names(table: pl.DataFrame, column: str = "language") -> pl.DataFrame:
    """With the English name of a language beside its code."""
    return table.with_columns(
        pl.col(column)
        .replace({code: english_name(code) for code in table[column].unique().drop_nulls()})
        .alias(f"{column}_name")
    )


def names_by(table: pl.DataFrame, by: str) -> list[str]:
    return table.sort(by, descending=True)["language_name"].to_list()


def spelled_range(column: pl.Series) -> str:
    """One number, or the smallest and largest, with thousands marked."""
    low, high = -largest(-column.cast(pl.Float64)), largest(column)
    return f"{high:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f}"


def largest(column: pl.Series, otherwise: float = 0) -> float:
    """The largest value; `otherwise` when that is 0 or there is none."""
    return float(column.cast(pl.Float64).max() or otherwise)  # type: ignore[arg-type]


def tooltips(table: pl.DataFrame, *columns: str) -> list[alt.Tooltip]:
    """What a pointer shows: the columns that the table has, shares as percentages."""
    shares = (
        "accuracy",
        "low",
        "high",
        "unreadable",
        "share",
        "pool_share",
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
    )
    names = {
        "language_name": "language",
        "panel_name": "language",
        "other_name": "other language",
        "arm": "way of choosing",
    }
    return [
        alt.Tooltip(
            f"{column}:{'Q' if table[column].dtype.is_numeric() else 'N'}",
            title=names.get(column, column.replace("_", " ")),
            format=".1%" if column in shares else ".3~f" if table[column].dtype.is_float() else "",
        )
        for column in columns
        if column in table.columns
    ]


def share_axis(column: str, title: str, top: float | None = 1.0) -> alt.X:
    scale = alt.Scale(domain=[0, top]) if top else alt.Scale(zero=True)
    return alt.X(f"{column}:Q", title=title, axis=alt.Axis(format="%", tickCount=5), scale=scale)


def accuracy_axis(column: str, table: pl.DataFrame, title: str = "accuracy") -> alt.Y:
    """A share, on the tens that hold all of the table's intervals, at most 100 %."""
    low, high = -largest(-table["low"]), largest(table["high"], 1)
    scale = alt.Scale(domain=[max(0.0, int(low * 10) / 10), min(1.0, (int(high * 10 - 1e-9) + 1) / 10)])
    return alt.Y(f"{column}:Q", title=title, axis=alt.Axis(format="%", tickCount=5), scale=scale)


def line_legend() -> alt.Legend:
    """A legend of lines: bands of the same colour would make it pale."""
    return alt.Legend(symbolType="stroke", symbolOpacity=1, symbolSize=300)


def points_axis() -> alt.Axis:
    return alt.Axis(labelExpr="datum.value == 0 ? '0' : format(datum.value * 100, '+.1~f')", tickCount=6)


def budget_axis(budgets: pl.Series) -> alt.Axis:
    """Ticks at powers of two."""
    most = int(largest(budgets, 1))
    return alt.Axis(values=[2**i for i in range(most.bit_length())], format="d", grid=False)


def known_models(column: pl.Series) -> list[str]:
    known = ["mono", "multi", "cross"]
    return [m for m in known if m in column] + sorted(set(column.unique()) - set(known))


def token_axis(tokens: pl.Series) -> alt.Axis:
    """Ticks at 1, 2 and 5 times powers of ten."""
    low, high = -largest(-tokens, -1), largest(tokens, 1)
    return alt.Axis(values=[v for e in range(9) for m in (1, 2, 5) if low <= (v := m * 10**e) <= high], format="~s")


def model_looks(models: list[str]) -> tuple[alt.Color, alt.Shape]:
    """Colour and shape of each reward model, the same in every chart."""
    fixed = {"mono": BLUE, "multi": GREEN, "cross": ORANGE}
    spare = cycle((PINK, YELLOW, SKY, GREY))
    colours = [fixed.get(model) or next(spare) for model in models]
    return (
        alt.Color("reward_model:N", title="reward model", sort=models, scale=alt.Scale(domain=models, range=colours)),
        alt.Shape("reward_model:N", title="reward model", sort=models, scale=alt.Scale(domain=models)),
    )


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
