"""How good a reward model is by the way it was trained, and in languages it was not trained on."""

from __future__ import annotations

import altair as alt
import polars as pl

from bestofl_lib.display.charts.style import (
    WIDTH,
    finish,
    heat_map,
    interval_dots,
    known_models,
    label_room,
    need,
    or_nothing,
    panels,
    spelled_range,
    tooltips,
    with_names,
)
from bestofl_lib.display.context import languages_in_order
from bestofl_lib.languages import english_name

_PAIRS = "Share of pairs {} whose right candidate is ranked above the wrong one"
_CHOICES = "Share of problems that the best candidate {} solves, as many as one language has"
MEASURES = {  # column of the dots, of the ends of its interval, title of the axis and what a dot is
    "auc": ("auc", "low", "high", "right candidate ranked above wrong one", _PAIRS.format("of the same language")),
    "across": (
        *("across", "across_low", "across_high"),
        *("right candidate ranked above wrong one", _PAIRS.format("in two languages")),
    ),
    "mixed": ("mixed", "mixed_low", "mixed_high", "accuracy", _CHOICES.format("from all languages in equal shares")),
    "english": ("english", "english_low", "english_high", "accuracy", _CHOICES.format("in English")),
}


@or_nothing
def reward_trials(table: pl.DataFrame, measure: str = "auc") -> alt.TopLevelMixin:
    """Which way to train gives the best reward model?

    Args:
        table: `reward_trials`, one row per trial and reward model.
        measure: "auc" (two candidates of one problem and language), "across" (in two languages), or the accuracy of
            the best candidate, "mixed" (from all languages) or "english".
    """
    column, low, high, axis_title, said = MEASURES[measure]
    need(table, "trial", "reward_model", column, low, high, "n_problems")
    order = table["trial"].unique(maintain_order=True).to_list()
    table = table.drop_nulls(column).with_columns(
        pl.col(column).alias("shown"),
        pl.col(low).alias("low"),
        pl.col(high).alias("high"),
        label=pl.col(column).map_elements(lambda share: f"{share:.3f}", return_dtype=pl.String),
        sure=pl.lit(True),
    )
    need(table, "shown")
    best = table.sort("shown").row(-1, named=True)
    first = table.filter((pl.col("trial") == order[0]) & (pl.col("reward_model") == best["reward_model"]))
    tips = tooltips(
        table, "trial", "reward_model", "shown", "low", "high", "rows", "n_problems", "n_candidates", "seconds"
    )

    def panel(rows: pl.DataFrame) -> alt.LayerChart:
        axis = alt.Axis(tickCount=5, format=".2f")
        return interval_dots(rows, "shown", axis, axis_title, order, tips, y="trial").properties(width=WIDTH // 3)

    own = "" if not first.height or first["trial"][0] == best["trial"] else f"; {order[0]}, {first['shown'][0]:.3f}"
    return finish(
        panels(table, "reward_model", known_models(table["reward_model"]), panel, columns=2).resolve_scale(x="shared"),
        "reward_trials",
        f"{best['reward_model']} ranks best with {best['trial']}, {best['shown']:.3f}{own}",
        "Which way to train gives the best reward model?",
        f"{said}, on dev problems; lines are 95 % intervals over problems and {spelled_range(table['trainings'])} "
        f"trainings{'; 0.5 is guessing' if measure in ('auc', 'across') else ''}.",
        room=60 + label_room(table) + 7 * max(map(len, order)),
    )  # fmt: skip


@or_nothing
def transfer(table: pl.DataFrame) -> alt.TopLevelMixin:
    """Does a reward model trained on one language tell right from wrong in another?

    Args:
        table: one row per language trained on and language judged: `trained_on`, `language`, `auc`, `low`, `high`,
            `n_problems`.
    """
    need(table, "trained_on", "language", "auc", "n_problems")
    away = table.filter(pl.col("trained_on") != pl.col("language"))
    need(away, "auc")
    own = table.filter(pl.col("trained_on") == pl.col("language"))
    known = float(own.select(pl.col("auc").mean()).item() or 0)
    general = away.group_by("trained_on").agg(pl.col("auc").mean()).sort("auc", "trained_on").row(-1, named=True)
    table = with_names(with_names(table, "trained_on"))
    order = languages_in_order([*table["trained_on"], *table["language"]])
    turned, level = (alt.Axis(domain=False, ticks=False, labelAngle=angle) for angle in (-45, 0))
    base = alt.Chart(table.with_columns(above=pl.col("auc") - 0.5)).encode(
        x=alt.X("language_name:N", sort=order, title="judging", axis=turned),
        y=alt.Y("trained_on_name:N", sort=order, title="trained on", axis=level),
        tooltip=tooltips(table, "trained_on_name", "language_name", "auc", "low", "high", "n_problems"),
    )
    table_text = base.transform_calculate(told="format(datum.auc, '.2f')")
    return finish(
        heat_map(table_text, "above", 0.5, "", diverging=True, written="told"),
        "transfer",
        f"Trained on {english_name(general['trained_on'])}, a reward model knows other languages best, "
        f"{general['auc']:.3f} on average; in their own language models reach {known:.3f}",
        "Does a reward model trained on one language tell right from wrong in another?",
        f"AUC within problems ({spelled_range(table['n_problems'])} problems that have right and wrong candidates); "
        "0.50 is guessing; the diagonal is a model's own language.",
    )
