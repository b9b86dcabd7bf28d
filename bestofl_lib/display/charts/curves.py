"""Accuracy against budget, and how much of an interval is which luck."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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
    WIDTH,
    YELLOW,
    accuracy_axis,
    budget_axis,
    finish,
    line_legend,
    need,
    spelled_range,
    thinned,
    token_axis,
    tooltips,
    with_names,
)
from bestofl_lib.languages import PIVOT, english_name, is_language

DEFAULT_ARMS: tuple[
    tuple[str, str, str | None, str, list[int]], ...
] = (  # pool ("own": the target's language), strategy, reward model, colour, dash
    ("own", "best_of_k", "mono", BLUE, [1, 0]),
    ("mixed", "best_of_k", "multi", GREEN, [1, 0]),
    ("mixed", "best_of_k", "cross", ORANGE, [1, 0]),
    ("own", "majority", None, PINK, [6, 3]),
    ("mixed", "majority", None, YELLOW, [6, 3]),
    ("mixed", "oracle", None, GREY, [2, 2]),
)


def budget_curves(
    curves: pl.DataFrame,
    targets: Sequence[str] | None = None,
    arms: Sequence[tuple[str, str, str | None]] | None = None,
) -> alt.TopLevelMixin:
    """What does each arm reach at every budget, one panel per target language?

    Args:
        curves: the run's table `curves`; rows without a target stand in every panel.
        targets: languages to show; by default all that are a target or a pool of one language.
        arms: (pool, strategy, reward model) to draw, "own" for the target's own language; by default own language with
            its own reward, mixed pool with the multi and the cross-lingual reward, majority of both, and the oracle.
    """
    need(curves, "target", "pool", "strategy", "reward_model", "budget", "accuracy", "low", "high", "n_problems")
    known = {*curves["target"].drop_nulls(), *(pool for pool in curves["pool"] if is_language(pool))}
    targets = list(targets) if targets else sorted(known, key=english_name)
    wanted = pl.DataFrame(
        [_arm(*arm) for arm in (arms or [arm[:3] for arm in DEFAULT_ARMS])],
        schema={
            "arm_pool": pl.String,
            "strategy": pl.String,
            "reward_model": pl.String,
            "arm": pl.String,
            "colour": pl.String,
            "dash": pl.List(pl.Int64),
        },
        orient="row",
    )
    panels = (
        curves.join(pl.DataFrame({"panel": targets}, schema={"panel": pl.String}), how="cross")
        .filter(pl.col("target").is_null() | (pl.col("target") == pl.col("panel")))
        .with_columns(arm_pool=pl.when(pl.col("pool") == pl.col("panel")).then(pl.lit("own")).otherwise(pl.col("pool")))
        .join(wanted, on=["arm_pool", "strategy", "reward_model"], how="inner", nulls_equal=True)
    )
    if panels.is_empty():
        raise ValueError(f"no row of {'; '.join(wanted['arm'])} in the table; it has {_arms_of(curves)}")
    shown = wanted.filter(pl.col("arm").is_in(panels["arm"].unique().to_list()))
    table = thinned(
        with_names(panels, "panel").select(
            "panel_name", "arm", "budget", "accuracy", "low", "high", "n_problems", "colour"
        )
    )
    order = [english_name(code) for code in targets]
    base = alt.Chart(table)
    domain = shown["arm"].to_list()
    colour = alt.Color(
        "arm:N",
        title=None,
        sort=domain,
        legend=line_legend(),
        scale=alt.Scale(domain=domain, range=shown["colour"].to_list()),
    )
    x = alt.X(
        "budget:Q",
        title="completions per problem",
        scale=alt.Scale(type="log", base=2),
        axis=budget_axis(table["budget"]),
    )
    chart = alt.layer(
        base.mark_area(opacity=0.14, clip=True).encode(x=x, y=accuracy_axis("low", table), y2="high:Q", color=colour),
        base.mark_line(strokeWidth=2).encode(
            x=x,
            y=accuracy_axis("accuracy", table),
            color=colour,
            strokeDash=alt.StrokeDash(
                "arm:N",
                title=None,
                legend=line_legend(),
                sort=domain,
                scale=alt.Scale(domain=domain, range=shown["dash"].to_list()),
            ),
            tooltip=tooltips(table, "panel_name", "arm", "budget", "accuracy", "low", "high", "n_problems"),
        ),
    ).properties(width=230, height=150)
    return finish(
        chart.facet(facet=alt.Facet("panel_name:N", title=None, sort=order), columns=3),
        "budget_curves",
        "What does each way of spending a budget reach, for a speaker of each language?",
        f"Accuracy, % of {spelled_range(table['n_problems'])} problems, against completions per problem over all languages; exact expectations; "
        "bands are 95 % intervals over problems.",
    )


def english_against_mixed(
    curves: pl.DataFrame, x: str = "budget", strategies: Iterable[tuple[str, str | None]] | None = None
) -> alt.TopLevelMixin:
    """At which budgets does a mixed pool beat an English pool of the same size?

    Args:
        curves: the run's table `curves`.
        x: "budget" (completions per problem) or "tokens" (generated tokens per problem).
        strategies: (strategy, reward model) to draw, one panel each; by default the oracle, majority and best of k by
            the cross-lingual reward model, as far as the table has them.

    Raises:
        ValueError: x is something else.
    """
    if x not in ("budget", "tokens"):
        raise ValueError(f"x is {x!r}; expected 'budget' or 'tokens'")
    need(curves, "target", "pool", "strategy", "reward_model", x, "accuracy", "low", "high", "n_problems")
    chosen = list(strategies or [("best_of_k", "cross"), ("majority", None), ("oracle", None)])
    labels = pl.DataFrame(
        [(strategy, model, words.strategy(strategy, model)) for strategy, model in chosen],
        schema={"strategy": pl.String, "reward_model": pl.String, "panel": pl.String},
        orient="row",
    )
    names = {
        PIVOT: "English only",
        "mixed": "mixed, equal shares",
        "mixed-en": "mixed without English",
        "planned": "planned",
    }
    table = (
        curves.filter(pl.col("pool").is_in(list(names)) & (pl.col("target").is_null() | (pl.col("target") == PIVOT)))
        .join(labels, on=["strategy", "reward_model"], nulls_equal=True)
        .with_columns(pl.col("pool").replace(names))
        .unique(
            ["panel", "pool", "budget"] if "budget" in curves.columns else ["panel", "pool", x], maintain_order=True
        )
    )
    table = thinned(
        table.select(
            "panel",
            "pool",
            *{x: 0, "budget": 0} if "budget" in table.columns else [x],
            "accuracy",
            "low",
            "high",
            "n_problems",
        )
    )
    if table.is_empty():
        raise ValueError(
            f"no row of {'; '.join(labels['panel'])} for the pools {', '.join(names)}; it has {_arms_of(curves)}"
        )
    domain = [name for name in names.values() if name in table["pool"].unique().to_list()]
    colours = dict(zip(names.values(), (BLUE, ORANGE, PINK, GREEN), strict=True))
    dashes = dict(zip(names.values(), ([1, 0], [1, 0], [6, 3], [2, 2]), strict=True))
    base = alt.Chart(table)
    colour = alt.Color(
        "pool:N",
        title=None,
        sort=domain,
        legend=line_legend(),
        scale=alt.Scale(domain=domain, range=[colours[name] for name in domain]),
    )
    title = "completions per problem" if x == "budget" else "generated tokens per problem"
    axis = budget_axis(table[x]) if x == "budget" else token_axis(table[x])
    across = alt.X(f"{x}:Q", title=title, scale=alt.Scale(type="log", base=2), axis=axis)
    chart = alt.layer(
        base.mark_area(opacity=0.14, clip=True).encode(
            x=across, y=accuracy_axis("low", table), y2="high:Q", color=colour
        ),
        base.mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=18)).encode(
            x=across,
            y=accuracy_axis("accuracy", table),
            color=colour,
            strokeDash=alt.StrokeDash(
                "pool:N",
                title=None,
                legend=line_legend(),
                sort=domain,
                scale=alt.Scale(domain=domain, range=[dashes[n] for n in domain]),
            ),
            tooltip=tooltips(table, "panel", "pool", x, "accuracy", "low", "high", "n_problems"),
        ),
    ).properties(width=230, height=210)
    return finish(
        chart.facet(facet=alt.Facet("panel:N", title=None, sort=labels["panel"].to_list()), columns=3),
        "english_against_mixed" if x == "budget" else "english_against_mixed_tokens",
        "When does a mixed pool beat an English pool of the same size?",
        f"Accuracy, % of {spelled_range(table['n_problems'])} problems, against {title}; exact expectations; bands are 95 % intervals over problems.",
    )


def interval_sources(table: pl.DataFrame) -> alt.TopLevelMixin:
    """How much of an interval is luck of the draw?

    Args:
        table: one row per arm and kind of resampling: `pool`, `strategy`, `reward_model`, `budget`, `resampled`
            ("problems", "candidates" or "both"), `accuracy`, `low`, `high`, `n_problems`.
    """
    need(table, "pool", "strategy", "reward_model", "budget", "resampled", "accuracy", "low", "high", "n_problems")
    told = {"problems": "other problems", "candidates": "same problems, drawn again", "both": "both"}
    arms = [words.arm(*arm) for arm in table.select("pool", "strategy", "reward_model").iter_rows()]
    table = table.with_columns(pl.col("resampled").replace(told), arm=pl.Series(arms, dtype=pl.String))
    kinds = list(told.values())
    y = alt.Y("arm:N", sort=list(dict.fromkeys(arms)), title=None, axis=alt.Axis(labelLimit=300))
    offset = alt.YOffset("resampled:N", sort=kinds)
    colour = alt.Color("resampled:N", title=None, sort=kinds, scale=alt.Scale(domain=kinds, range=[BLUE, ORANGE, GREY]))
    tips = tooltips(table, "arm", "resampled", "accuracy", "low", "high", "budget", "n_problems")
    base = alt.Chart(table)
    x = alt.X("low:Q", title="accuracy", axis=alt.Axis(format="%", tickCount=6), scale=alt.Scale(zero=False))
    layers = [
        base.mark_rule(strokeWidth=2).encode(y=y, yOffset=offset, x=x, x2="high:Q", color=colour, tooltip=tips),
        base.mark_point(filled=True, size=55, opacity=1).encode(
            y=y,
            yOffset=offset,
            x=alt.X("accuracy:Q", title="accuracy"),
            color=colour,
            tooltip=tips,
            shape=alt.Shape(
                "resampled:N",
                title=None,
                sort=kinds,
                scale=alt.Scale(domain=kinds, range=["circle", "square", "diamond"]),
            ),
        ),
    ]
    return finish(
        alt.layer(*layers).properties(width=WIDTH - 120, height=alt.Step(14)),
        "interval_sources",
        "How much of an interval is luck of the draw?",
        f"Accuracy, % of {spelled_range(table['n_problems'])} problems, with {spelled_range(table['budget'])} completions; 95 % intervals over other problems, "
        "over other draws for the same problems, and over both.",
    )


def _arm(pool: str, strategy: str, model: str | None) -> tuple[str, str, str | None, str, str, list[int]]:
    """An arm with its words, colour and dash."""
    looks: dict[tuple[str, str, str | None], tuple[str, list[int]]] = {arm[:3]: arm[3:] for arm in DEFAULT_ARMS}
    colour, dash = looks.get((pool, strategy, model), (SKY, [4, 2]))
    return pool, strategy, model, words.arm(pool, strategy, model), colour, dash


def _arms_of(curves: pl.DataFrame) -> str:
    """What a table of curves holds, for a message."""
    found = curves.select("pool", "strategy", "reward_model").unique(maintain_order=True)
    told = [f"{pool} {words.strategy(strategy, model)}" for pool, strategy, model in found.iter_rows()]
    return ", ".join(told[:8]) + (f" and {len(told) - 8} more" if len(told) > 8 else "")
