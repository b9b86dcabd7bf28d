"""Every chart of the workbench: a table goes in, an Altair chart comes out.

A chart's title says the question, its subtitle the unit, the denominator and the interval. Intervals are 95 %. Colours
are told apart by colour-blind readers and on light and dark pages, and never carry meaning alone. Languages stand on
axes by their English names. This file computes nothing: it chooses rows, words and encodings. Its charts work on
aggregated tables, at most a few thousand rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import cycle
from typing import Any

import altair as alt
import polars as pl

from bestofl_lib.languages import LANGUAGES, english_name

__all__ = [
    "accuracy_by_language",
    "accuracy_by_reader",
    "allocation",
    "budget_curves",
    "calibration",
    "claims_forest",
    "coverage_by_language",
    "english_against_mixed",
    "exclusive_solves",
    "gain_over_resampling",
    "greedy_order",
    "interval_sources",
    "planner_regret",
    "reading_rules",
    "reward_quality",
    "selected_languages",
    "shapley",
    "sole_solvers",
    "trace_languages",
]

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
POOLS = ("en", "mixed", "mixed-en", "planned")  # pools that are no speaker's own language
POOL_NAMES = {"mixed": "mixed pool", "mixed-en": "mixed without English", "planned": "planned pool"}
STRATEGY_NAMES = {
    "best_of_k": "best of k",
    "majority": "majority",
    "weighted": "weighted vote",
    "oracle": "oracle (coverage)",
    "random": "random",
    "logprob": "log-probability",
    "shortest": "shortest",
}
WIDTH = 560  # pixels of a chart with one panel; pages make it narrower where they must


# -- what models wrote and what was read ---------------------------------------------------------------------------------


def accuracy_by_language(table: pl.DataFrame) -> alt.TopLevelMixin:
    """How often one candidate is right, per language, and how often nothing could be read.

    Args:
        table: one row per language: `language`, `accuracy`, `low`, `high`, `unreadable` (share of candidates),
            `n_candidates`, `n_problems`.
    """
    _need(table, "language", "accuracy", "low", "high", "unreadable", "n_candidates", "n_problems")
    table = _named(table)
    order = table.sort("accuracy", descending=True)["language_name"].to_list()
    base = alt.Chart(table)
    y = alt.Y("language_name:N", sort=order, title=None)
    tips = _tips(table, "language_name", "accuracy", "low", "high", "unreadable", "n_candidates")
    left = (
        base.mark_bar(color=BLUE, opacity=0.85).encode(
            y=y, x=_share("accuracy", "accuracy of one candidate"), tooltip=tips
        )
        + base.mark_rule(color=INK).encode(y=y, x="low:Q", x2="high:Q", tooltip=tips)
    ).properties(width=330, height=alt.Step(22))
    right = (
        base.mark_bar(color=ORANGE)
        .encode(
            y=alt.Y("language_name:N", sort=order, axis=None),
            x=_share("unreadable", "nothing readable", top=max(0.05, _most(table["unreadable"], 0) * 1.1)),
            tooltip=tips,
        )
        .properties(width=170, height=alt.Step(22))
    )
    return _finish(
        alt.hconcat(left, right, spacing=18),
        "accuracy_by_language",
        "How well does the model solve the same problems in each language?",
        f"Share of all candidates ({_range(table['n_candidates'])} per language, {_range(table['n_problems'])} problems); "
        "lines are 95 % intervals over problems. Nothing readable counts as not correct.",
    )


def reward_quality(table: pl.DataFrame) -> alt.TopLevelMixin:
    """Does a reward model rank correct candidates of the same problem above wrong ones?

    Args:
        table: one row per reward model and language: `reward_model`, `language` (null: all together), `auc`; and, where
            known, `low`, `high`, `n_problems`. The mono model of each language is shown in its own language, as "mono".
    """
    _need(table, "reward_model", "language", "auc")
    mono = pl.col("reward_model").str.starts_with("mono-")
    own = pl.col("reward_model") == pl.lit("mono-") + pl.col("language")
    table = table.filter(pl.col("auc").is_not_null() & pl.col("auc").is_not_nan() & (~mono | own.fill_null(False)))
    _need(table, "auc")
    table = table.with_columns(
        pl.when(mono).then(pl.lit("mono")).otherwise(pl.col("reward_model")).alias("reward_model")
    )
    table = _named(table.with_columns(pl.col("language").fill_null("all languages")))
    order = _order(table.group_by("language_name").agg(pl.col("auc").mean()), "auc")
    order = [name for name in order if name != "all languages"] + ["all languages"] * ("all languages" in order)
    models = _models(table["reward_model"])
    base = alt.Chart(table)
    y = alt.Y("language_name:N", sort=order, title=None)
    shift = alt.YOffset("reward_model:N", sort=models)
    colour, shape = _model_looks(models)
    tips = _tips(table, "language_name", "reward_model", "auc", "low", "high", "n_problems", "n_pairs")
    x = alt.X("auc:Q", title="AUC within problems", scale=alt.Scale(zero=False, nice=True))
    layers = [
        base.mark_point(filled=True, size=55, opacity=1).encode(
            y=y, x=x, yOffset=shift, color=colour, shape=shape, tooltip=tips
        )
    ]
    if {"low", "high"} <= set(table.columns):
        layers.insert(
            0,
            base.mark_rule(strokeWidth=1.5).encode(
                y=y, x=alt.X("low:Q", title=""), x2="high:Q", yOffset=shift, color=colour
            ),
        )
    chance = alt.Chart(alt.Data(values=[{"chance": 0.5}])).mark_rule(strokeDash=[4, 3], color=GREY).encode(x="chance:Q")
    return _finish(
        alt.layer(chance, *layers).properties(width=WIDTH - 100, height=alt.Step(10 if len(models) > 1 else 20)),
        "reward_quality",
        "Does each reward model tell correct from wrong candidates of the same problem?",
        "Chance that a correct candidate is ranked above a wrong one of the same problem"
        + (f" ({_range(table['n_problems'])} problems that have both)" if "n_problems" in table.columns else "")
        + "; lines are 95 % intervals; 0.5, the dashed line, is guessing.",
    )


def exclusive_solves(table: pl.DataFrame) -> alt.TopLevelMixin:
    """Which problems does one language solve that another does not?

    Args:
        table: one row per ordered pair: `language` (solves), `other` (does not), `exclusive` (problems, may be an
            expectation), `n_problems`.
    """
    _need(table, "language", "other", "exclusive", "n_problems")
    table = _named(_named(table), "other")
    order = _order(table.group_by("language_name").agg(pl.col("exclusive").sum()), "exclusive")
    base = alt.Chart(table).encode(
        x=alt.X(
            "other_name:N", sort=order, title="not solved in", axis=alt.Axis(labelAngle=-45, domain=False, ticks=False)
        ),
        y=alt.Y("language_name:N", sort=order, title="solved in", axis=alt.Axis(domain=False, ticks=False)),
        tooltip=_tips(table, "language_name", "other_name", "exclusive", "n_problems"),
    )
    return _finish(
        _heat(base, "exclusive", "problems", _most(table["exclusive"], 1), ".0f"),
        "exclusive_solves",
        "Which problems does one language solve that another does not?",
        f"Problems of {_range(table['n_problems'])} solved in the row's language and not in the column's.",
    )


def gain_over_resampling(table: pl.DataFrame) -> alt.TopLevelMixin:
    """What does each language add beyond drawing English again?

    Args:
        table: one row per language and budget: `language`, `gain` (coverage with that language minus coverage with
            English again, same budget), `low`, `high`, `n_problems`, `budget`; and, where known, `p_holm` and `base` (the
            language drawn again, if not English).
    """
    _need(table, "language", "gain", "low", "high", "n_problems", "budget")
    sure = pl.col("p_holm") < 0.05 if "p_holm" in table.columns else (pl.col("low") > 0) | (pl.col("high") < 0)
    table = _named(table).with_columns(
        shown=pl.when(sure & (pl.col("gain") > 0))
        .then(pl.lit("adds"))
        .when(sure & (pl.col("gain") < 0))
        .then(pl.lit("costs"))
        .otherwise(pl.lit("undecided"))
    )
    again = english_name(table["base"][0] if "base" in table.columns else "en")
    order = _order(table.group_by("language_name").agg(pl.col("gain").mean()), "gain")
    budgets = table["budget"].unique().sort().to_list()
    drawn = alt.Chart(table)
    y = alt.Y("language_name:N", sort=order, title=None)
    colour = alt.Color(
        "shown:N", title=None, scale=alt.Scale(domain=["adds", "undecided", "costs"], range=[GREEN, GREY, ORANGE])
    )
    tips = _tips(table, "language_name", "budget", "gain", "low", "high", "p_holm", "n_problems")
    layers = alt.layer(
        drawn.mark_rule(strokeWidth=2).encode(y=y, x=alt.X("low:Q", title=""), x2="high:Q", color=colour, tooltip=tips),
        drawn.mark_point(filled=True, size=60, opacity=1).encode(
            y=y,
            x=alt.X("gain:Q", title="gain, percentage points", axis=_points_axis()),
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
    return _finish(
        chart,
        "gain_over_resampling",
        f"What does each language add beyond drawing {again} again?",
        f"Coverage of {again} and that language minus coverage of {again} alone, both with {_range(table['budget'])} completions "
        f"per problem; {_range(table['n_problems'])} problems; lines are 95 % intervals, paired by problem"
        + ("; coloured where significant after Holm's correction." if "p_holm" in table.columns else "."),
    )


# -- budgets -------------------------------------------------------------------------------------------------------------

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
    _need(curves, "target", "pool", "strategy", "reward_model", "budget", "accuracy", "low", "high", "n_problems")
    known = {*curves["target"].drop_nulls(), *(pool for pool in curves["pool"] if pool in LANGUAGES)}
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
    table = _thinned(
        _named(panels, "panel").select("panel_name", "arm", "budget", "accuracy", "low", "high", "n_problems", "colour")
    )
    order = [english_name(code) for code in targets]
    base = alt.Chart(table)
    domain = shown["arm"].to_list()
    colour = alt.Color(
        "arm:N",
        title=None,
        sort=domain,
        legend=_lines(),
        scale=alt.Scale(domain=domain, range=shown["colour"].to_list()),
    )
    x = alt.X(
        "budget:Q",
        title="completions per problem",
        scale=alt.Scale(type="log", base=2),
        axis=_budget_axis(table["budget"]),
    )
    chart = alt.layer(
        base.mark_area(opacity=0.14, clip=True).encode(x=x, y=_accuracy("low", table), y2="high:Q", color=colour),
        base.mark_line(strokeWidth=2).encode(
            x=x,
            y=_accuracy("accuracy", table),
            color=colour,
            strokeDash=alt.StrokeDash(
                "arm:N",
                title=None,
                legend=_lines(),
                sort=domain,
                scale=alt.Scale(domain=domain, range=shown["dash"].to_list()),
            ),
            tooltip=_tips(table, "panel_name", "arm", "budget", "accuracy", "low", "high", "n_problems"),
        ),
    ).properties(width=230, height=150)
    return _finish(
        chart.facet(facet=alt.Facet("panel_name:N", title=None, sort=order), columns=3),
        "budget_curves",
        "What does each way of spending a budget reach, for a speaker of each language?",
        f"Accuracy, % of {_range(table['n_problems'])} problems, against completions per problem over all languages; exact expectations; "
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
    _need(curves, "target", "pool", "strategy", "reward_model", x, "accuracy", "low", "high", "n_problems")
    chosen = list(strategies or [("best_of_k", "cross"), ("majority", None), ("oracle", None)])
    labels = pl.DataFrame(
        [(strategy, model, _strategy_label(strategy, model)) for strategy, model in chosen],
        schema={"strategy": pl.String, "reward_model": pl.String, "panel": pl.String},
        orient="row",
    )
    names = {
        "en": "English only",
        "mixed": "mixed, equal shares",
        "mixed-en": "mixed without English",
        "planned": "planned",
    }
    table = (
        curves.filter(pl.col("pool").is_in(list(names)) & (pl.col("target").is_null() | (pl.col("target") == "en")))
        .join(labels, on=["strategy", "reward_model"], nulls_equal=True)
        .with_columns(pl.col("pool").replace(names))
        .unique(
            ["panel", "pool", "budget"] if "budget" in curves.columns else ["panel", "pool", x], maintain_order=True
        )
    )
    table = _thinned(
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
        legend=_lines(),
        scale=alt.Scale(domain=domain, range=[colours[name] for name in domain]),
    )
    title = "completions per problem" if x == "budget" else "generated tokens per problem"
    axis = _budget_axis(table[x]) if x == "budget" else _token_axis(table[x])
    across = alt.X(f"{x}:Q", title=title, scale=alt.Scale(type="log", base=2), axis=axis)
    chart = alt.layer(
        base.mark_area(opacity=0.14, clip=True).encode(x=across, y=_accuracy("low", table), y2="high:Q", color=colour),
        base.mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=18)).encode(
            x=across,
            y=_accuracy("accuracy", table),
            color=colour,
            strokeDash=alt.StrokeDash(
                "pool:N",
                title=None,
                legend=_lines(),
                sort=domain,
                scale=alt.Scale(domain=domain, range=[dashes[n] for n in domain]),
            ),
            tooltip=_tips(table, "panel", "pool", x, "accuracy", "low", "high", "n_problems"),
        ),
    ).properties(width=230, height=210)
    return _finish(
        chart.facet(facet=alt.Facet("panel:N", title=None, sort=labels["panel"].to_list()), columns=3),
        "english_against_mixed" if x == "budget" else "english_against_mixed_tokens",
        "When does a mixed pool beat an English pool of the same size?",
        f"Accuracy, % of {_range(table['n_problems'])} problems, against {title}; exact expectations; bands are 95 % intervals over problems.",
    )


def selected_languages(table: pl.DataFrame) -> alt.TopLevelMixin:
    """Which languages do the chosen candidates come from?

    Args:
        table: one row per way of choosing and language: `language`, `share` (of the choices), `strategy`, `reward_model`,
            `budget`; and, where known, `pool_share` (what choosing at random would give), `n_problems`.
    """
    _need(table, "language", "share", "strategy", "reward_model", "budget")
    many = table["budget"].n_unique() > 1
    table = _named(table).with_columns(
        arm=pl.struct("strategy", "reward_model").map_elements(
            lambda s: _strategy_label(s["strategy"], s["reward_model"]), return_dtype=pl.String
        )
        + (pl.format(", {} completions", pl.col("budget")) if many else pl.lit(""))
    )
    order = _order(table.group_by("language_name").agg(pl.col("share").mean()), "share")
    base = alt.Chart(table)
    y = alt.Y("language_name:N", sort=order, title=None)
    tips = _tips(table, "language_name", "arm", "share", "pool_share", "budget")
    layers = [
        base.mark_bar(color=BLUE, opacity=0.85).encode(
            y=y, x=_share("share", "share of choices", top=None), tooltip=tips
        )
    ]
    if "pool_share" in table.columns:
        layers.append(base.mark_tick(color=ORANGE, thickness=2, size=16).encode(y=y, x="pool_share:Q", tooltip=tips))
    chart = (
        alt.layer(*layers)
        .properties(width=210, height=alt.Step(18))
        .facet(facet=alt.Facet("arm:N", title=None, sort=table["arm"].unique(maintain_order=True).to_list()), columns=3)
    )
    note = " The orange tick is what choosing at random gives." if "pool_share" in table.columns else ""
    return _finish(
        chart,
        "selected_languages",
        "Which languages do the chosen candidates come from?",
        f"Share of the candidates chosen from the mixed pool, {_range(table['budget'])} completions per problem.{note}",
    )


# -- audits of reading -----------------------------------------------------------------------------------------------------


def reading_rules(table: pl.DataFrame) -> alt.TopLevelMixin:
    """Which rule read the answer, in each language?

    Args:
        table: one row per language and rule: `language`, `rule`, `n` (candidates); the rule of an unreadable answer is
            null or empty.
    """
    _need(table, "language", "rule", "n")
    table = _named(table).with_columns(
        pl.when(pl.col("rule").fill_null("") == "")
        .then(pl.lit("nothing readable"))
        .otherwise(pl.col("rule"))
        .alias("rule")
    )
    table = table.with_columns(share=pl.col("n") / pl.col("n").sum().over("language"))
    totals = table.group_by("rule").agg(pl.col("n").sum()).sort("n", descending=True)["rule"].to_list()
    rules = [rule for rule in totals if rule != "nothing readable"]
    domain = [*rules, "nothing readable"] if "nothing readable" in totals else rules
    table = _placed(table, "rule", domain)
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
            tooltip=_tips(table, "language_name", "rule", "n", "share"),
        )
        .properties(width=WIDTH - 60, height=alt.Step(22))
    )
    return _finish(
        chart,
        "reading_rules",
        "Which rule read the answer, in each language?",
        f"Share of {_range(table.group_by('language').agg(pl.col('n').sum())['n'])} candidates per language.",
    )


def accuracy_by_reader(table: pl.DataFrame) -> alt.TopLevelMixin:
    """How accurate would the same candidates look to another reader?

    Args:
        table: one row per language and reader: `language`, `reader`, `accuracy`, `n_candidates`. The reader named
            "this reader" (or the first row's) is drawn strongest.
    """
    _need(table, "language", "reader", "accuracy", "n_candidates")
    table = _named(table).with_columns(pl.col("reader").str.replace_all("_", " "))
    readers = table["reader"].unique(maintain_order=True).to_list()
    ours = "this reader" if "this reader" in readers else readers[0]
    domain = [ours, *[reader for reader in readers if reader != ours]]
    order = _order(table.filter(pl.col("reader") == ours), "accuracy")
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
            tooltip=_tips(table, "language_name", "reader", "accuracy", "n_candidates"),
        ),
    ).properties(width=WIDTH - 80, height=alt.Step(22))
    return _finish(
        chart,
        "accuracy_by_reader",
        "How accurate would the same candidates look to another reader?",
        f"Share correct of the same {_range(table['n_candidates'])} candidates per language, read in different ways: what moves is reading, not reasoning.",
    )


def trace_languages(table: pl.DataFrame) -> alt.TopLevelMixin:
    """Which language is a completion really written in?

    Args:
        table: one row per language asked and language found: `language`, `trace_language` (null: the identifier
            abstained), `n` (candidates).
    """
    _need(table, "language", "trace_language", "n")
    table = _named(_named(table).with_columns(pl.col("trace_language").fill_null("unsure")), "trace_language")
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
        tooltip=_tips(table, "language_name", "trace_language_name", "share", "n"),
    )
    return _finish(
        _heat(base, "share", "share", 1.0, ".0%", least=0.005),
        "trace_languages",
        "Which language is a completion really written in?",
        f'Share of {_range(table.group_by("language").agg(pl.col("n").sum())["n"])} candidates per language of the question; "unsure": '
        "too short, or only numbers.",
    )


# -- rewards and coverage --------------------------------------------------------------------------------------------------


def calibration(table: pl.DataFrame) -> alt.TopLevelMixin:
    """Of the candidates that a reward model calls likely to be right, how many are?

    Args:
        table: one row per reward model and bin: `reward_model`, `predicted` (mean chance of being correct), `observed`
            (share correct), `n` (candidates in the bin); and, where known, `low` and `high` of the observed share.
    """
    _need(table, "reward_model", "predicted", "observed", "n")
    models = _models(table["reward_model"])
    base = alt.Chart(table)
    x = alt.X(
        "predicted:Q",
        title="predicted chance of being correct",
        axis=alt.Axis(format="%", tickCount=5),
        scale=alt.Scale(domain=[0, 1]),
    )
    y = alt.Y(
        "observed:Q", title="share correct", axis=alt.Axis(format="%", tickCount=5), scale=alt.Scale(domain=[0, 1])
    )
    colour, shape = _model_looks(models)
    tips = _tips(table, "reward_model", "predicted", "observed", "low", "high", "n")
    layers = [
        alt.Chart(alt.Data(values=[{"a": 0}, {"a": 1}]))
        .mark_line(color=GREY, strokeDash=[4, 3])
        .encode(x=alt.X("a:Q", title=""), y=alt.Y("a:Q", title="")),
        base.mark_line(opacity=0.7).encode(x=x, y=y, color=colour),
        base.mark_point(filled=True, opacity=1).encode(
            x=x,
            y=y,
            color=colour,
            shape=shape,
            size=alt.Size("n:Q", title="candidates", scale=alt.Scale(range=[15, 220]), legend=None),
            tooltip=tips,
        ),
    ]
    if {"low", "high"} <= set(table.columns):
        layers.insert(1, base.mark_rule(opacity=0.6).encode(x=x, y=alt.Y("low:Q", title=""), y2="high:Q", color=colour))
    return _finish(
        alt.layer(*layers).properties(width=360, height=320),
        "calibration",
        "Of the candidates called likely to be right, how many are?",
        f"Share correct against the predicted chance, in bins of candidates ({table['n'].sum():,} in all; larger dots hold more); on the dashed line the two agree.",
    )


def coverage_by_language(table: pl.DataFrame) -> alt.TopLevelMixin:
    """How often is at least one of k candidates right (pass@k)?

    Args:
        table: one row per language and budget: `language`, `budget`, `coverage`, `low`, `high`, `n_problems`.
    """
    _need(table, "language", "budget", "coverage", "low", "high", "n_problems")
    table = _thinned(_named(table))
    order = _order(table.filter(pl.col("budget") == pl.col("budget").max()), "coverage")
    base = alt.Chart(table)
    x = alt.X(
        "budget:Q",
        title="candidates per problem",
        scale=alt.Scale(type="log", base=2),
        axis=_budget_axis(table["budget"]),
    )
    y = _accuracy("coverage", table, "coverage (pass@k)")
    labels = alt.Chart(_end_labels(table, "coverage", 0.028))
    chart = alt.layer(
        base.mark_rule(color=BLUE, opacity=0.25).encode(x=x, y=_accuracy("low", table, ""), y2="high:Q"),
        base.mark_line(strokeWidth=1.6, color=BLUE, opacity=0.8).encode(x=x, y=y, detail="language_name:N"),
        base.mark_point(filled=True, size=26, color=BLUE, opacity=1).encode(
            x=x, y=y, tooltip=_tips(table, "language_name", "budget", "coverage", "low", "high", "n_problems")
        ),
        labels.mark_text(align="left", dx=8, fontSize=11, color=INK).encode(
            x="budget:Q", y="coverage:Q", text="label:N"
        ),
    ).properties(width=WIDTH - 80, height=330)
    return _finish(
        chart,
        "coverage_by_language",
        "How often is at least one of k candidates right, in each language?",
        f"Coverage (pass@k), % of {_range(table['n_problems'])} problems, exact; lines are 95 % intervals over problems. "
        f"From the top: {', '.join(order)}.",
    )


# -- what it adds up to ----------------------------------------------------------------------------------------------------


def shapley(table: pl.DataFrame) -> alt.TopLevelMixin:
    """What is each language's fair share of the mixed pool's accuracy?

    Args:
        table: one row per language and objective: `language`, `shapley` (share of problems), `objective` ("oracle" for
            coverage, or a reward model that chooses), `budget`, `n_problems`, `low`, `high`. The names `value` and
            `measure` are taken for `shapley` and `objective`.
    """
    table = table.rename({"value": "shapley", "measure": "objective"}, strict=False)
    _need(table, "language", "shapley", "objective", "budget", "n_problems", "low", "high")
    table = _named(table).with_columns(objective=_objective())
    order = _order(table.group_by("language_name").agg(pl.col("shapley").mean()), "shapley")
    base = alt.Chart(table)
    y = alt.Y("language_name:N", sort=order, title=None)
    tips = _tips(table, "language_name", "objective", "shapley", "low", "high", "budget", "n_problems")
    layers = (
        base.mark_bar(opacity=0.85).encode(
            y=y,
            x=alt.X("shapley:Q", title="percentage points", axis=_points_axis()),
            tooltip=tips,
            color=alt.condition("datum.shapley < 0", alt.value(ORANGE), alt.value(BLUE)),
        ),
        base.mark_rule(color=INK).encode(y=y, x="low:Q", x2="high:Q", tooltip=tips),
    )
    one = table["objective"].n_unique() == 1
    chart = alt.layer(*layers).properties(width=WIDTH - 100 if one else 260, height=alt.Step(22))
    return _finish(
        chart if one else chart.facet(facet=alt.Facet("objective:N", title=None), columns=2),
        "shapley",
        "How much of the mixed pool's accuracy is each language's doing?",
        f"Shapley value: what a language adds on average over all orders of joining; {_range(table['budget'])} completions per problem, "
        f"{_range(table['n_problems'])} problems; lines are 95 % intervals.",
    )


def claims_forest(table: pl.DataFrame) -> alt.TopLevelMixin:
    """What does this run say about each claim?

    Args:
        table: one row per claim, or per claim and language: `claim`, `effect`, `low`, `high` (shares), `verdict`; and,
            where known, `language`, `statement`, `p`, `mde`.
    """
    _need(table, "claim", "effect", "low", "high", "verdict")
    table = (_named(table) if "language" in table.columns else table).with_columns(
        pl.col("effect", "low", "high").fill_nan(None)
    )
    name = pl.col("claim") + (
        pl.lit(" ") + pl.col("language_name").fill_null("") if "language" in table.columns else pl.lit("")
    )
    table = table.with_columns(row=name.str.strip_chars())
    if table["row"].is_duplicated().any() and "budget" in table.columns:
        table = table.with_columns(row=pl.format("{}, {} completions", "row", "budget"))
    if table["row"].is_duplicated().any() and "against" in table.columns:
        told = pl.format("{} against {}", "row", "against")
        table = table.with_columns(row=pl.when(pl.col("row").is_duplicated()).then(told).otherwise("row"))
    verdicts = ["supported", "undecided", "not supported"]
    colour = alt.Color(
        "verdict:N", title=None, sort=verdicts, scale=alt.Scale(domain=verdicts, range=[GREEN, GREY, ORANGE])
    )
    base = alt.Chart(table)
    y = alt.Y("row:N", sort=table["row"].to_list(), title=None, axis=alt.Axis(labelLimit=300))
    tips = _tips(table, "row", "statement", "effect", "low", "high", "p", "p_holm", "mde", "verdict")
    chart = alt.layer(
        base.mark_rule(strokeDash=[4, 3], color=GREY).encode(x=alt.datum(0)),
        base.mark_rule(strokeWidth=2).encode(y=y, x=alt.X("low:Q", title=""), x2="high:Q", color=colour, tooltip=tips),
        base.mark_point(filled=True, size=75, opacity=1).encode(
            y=y,
            x=alt.X("effect:Q", title="effect (percentage points)", axis=_points_axis()),
            color=colour,
            shape=alt.Shape(
                "verdict:N",
                title=None,
                sort=verdicts,
                scale=alt.Scale(domain=verdicts, range=["circle", "diamond", "square"]),
            ),
            tooltip=tips,
        ),
        base.transform_filter("!isValid(datum.effect)")
        .mark_text(align="left", dx=6, color=GREY)
        .encode(y=y, x=alt.datum(0), text="verdict:N"),
    ).properties(width=WIDTH - 120, height=alt.Step(26))
    return _finish(
        chart,
        "claims_forest",
        "What does this run say about each claim?",
        "Effect in percentage points of accuracy or coverage; lines are 95 % intervals; right of the dashed line speaks for the claim.",
    )


def interval_sources(table: pl.DataFrame) -> alt.TopLevelMixin:
    """How much of an interval is luck of the draw?

    Args:
        table: one row per arm and kind of resampling: `pool`, `strategy`, `reward_model`, `budget`, `resampled`
            ("problems", "candidates" or "both"), `accuracy`, `low`, `high`, `n_problems`.
    """
    _need(table, "pool", "strategy", "reward_model", "budget", "resampled", "accuracy", "low", "high", "n_problems")
    words = {"problems": "other problems", "candidates": "same problems, drawn again", "both": "both"}
    arms = [arm_name(*arm) for arm in table.select("pool", "strategy", "reward_model").iter_rows()]
    table = table.with_columns(pl.col("resampled").replace(words), arm=pl.Series(arms, dtype=pl.String))
    kinds = list(words.values())
    y = alt.Y("arm:N", sort=list(dict.fromkeys(arms)), title=None, axis=alt.Axis(labelLimit=300))
    offset = alt.YOffset("resampled:N", sort=kinds)
    colour = alt.Color("resampled:N", title=None, sort=kinds, scale=alt.Scale(domain=kinds, range=[BLUE, ORANGE, GREY]))
    tips = _tips(table, "arm", "resampled", "accuracy", "low", "high", "budget", "n_problems")
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
    return _finish(
        alt.layer(*layers).properties(width=WIDTH - 120, height=alt.Step(14)),
        "interval_sources",
        "How much of an interval is luck of the draw?",
        f"Accuracy, % of {_range(table['n_problems'])} problems, with {_range(table['budget'])} completions; 95 % intervals over other problems, "
        "over other draws for the same problems, and over both.",
    )


def allocation(table: pl.DataFrame) -> alt.TopLevelMixin:
    """How does the planner spread a budget over languages?

    Args:
        table: one row per budget and language: `budget`, `objective`, `language`, `completions`, `n_problems`; and, where
            known, `least` and `most` (over the plans of the folds).

    Raises:
        ValueError: the table has several objectives.
    """
    _need(table, "budget", "objective", "language", "completions", "n_problems")
    if table["objective"].n_unique() > 1:
        raise ValueError(
            f"the table has plans for {', '.join(table['objective'].unique())}; filter it to one objective"
        )
    table = _named(table).with_columns(objective=_objective())
    order = _order(table.group_by("language_name").agg(pl.col("completions").sum()), "completions")
    base = alt.Chart(table).encode(
        x=alt.X("budget:O", title="completions per problem", axis=alt.Axis(labelAngle=0, domain=False, ticks=False)),
        y=alt.Y("language_name:N", sort=order, title=None, axis=alt.Axis(domain=False, ticks=False)),
        tooltip=_tips(table, "language_name", "budget", "completions", "least", "most", "n_problems"),
    )
    return _finish(
        _heat(base, "completions", "completions", _most(table["completions"], 1), ".2~f", least=0.005),
        "allocation",
        "How does the planner spread a budget over languages?",
        f"Completions per problem in each language, planned for {table['objective'][0]} on {_range(table['n_problems'])} problems.",
    )


def planner_regret(table: pl.DataFrame) -> alt.TopLevelMixin:
    """How near does each way of spending come to the best allocation in hindsight, and what does planning gain?

    Args:
        table: one row per budget and arm: `budget`, `arm` (planned, en, mixed, hindsight), `accuracy`, `regret` (hindsight
            minus this arm), `gain` (of the plan over this arm), `gain_low`, `gain_high`, `n_problems`.
    """
    _need(table, "budget", "arm", "accuracy", "regret", "gain", "gain_low", "gain_high", "n_problems")
    names = {"planned": "planner", "mixed": "equal shares", "en": "English only"}
    table = table.filter(pl.col("arm") != "hindsight").with_columns(pl.col("arm").replace(names))
    _need(table, "arm")
    domain = [name for name in names.values() if name in table["arm"].to_list()]
    domain += sorted(set(table["arm"]) - set(domain))
    colour = alt.Color(
        "arm:N",
        title=None,
        sort=domain,
        legend=_lines(),
        scale=alt.Scale(domain=domain, range=([ORANGE, GREEN, BLUE, PINK, YELLOW, SKY] * 3)[: len(domain)]),
    )
    dash = alt.StrokeDash(
        "arm:N",
        title=None,
        sort=domain,
        legend=_lines(),
        scale=alt.Scale(domain=domain, range=([[1, 0], [6, 3], [2, 2], [8, 2, 2, 2]] * 5)[: len(domain)]),
    )
    base = alt.Chart(table)
    x = alt.X("budget:O", title="completions per problem", axis=alt.Axis(labelAngle=0))
    left = (
        base.mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=30))
        .encode(
            x=x,
            y=alt.Y("regret:Q", title="regret (percentage points)", axis=_points_axis()),
            color=colour,
            strokeDash=dash,
            tooltip=_tips(table, "arm", "budget", "accuracy", "regret", "n_problems"),
        )
        .properties(width=270, height=230)
    )
    gains = base.transform_filter("isValid(datum.gain)")
    shift, tips = (
        alt.XOffset("arm:N", sort=domain),
        _tips(table, "arm", "budget", "gain", "gain_low", "gain_high", "n_problems"),
    )
    right = alt.layer(
        base.mark_rule(strokeDash=[4, 3], color=GREY).encode(y=alt.datum(0)),
        gains.mark_rule(strokeWidth=2).encode(
            x=x, y=alt.Y("gain_low:Q", title=""), y2="gain_high:Q", xOffset=shift, color=colour, tooltip=tips
        ),
        gains.mark_point(filled=True, size=45, opacity=1).encode(
            x=x,
            y=alt.Y("gain:Q", title="gain of planning over it (points)", axis=_points_axis()),
            xOffset=shift,
            color=colour,
            tooltip=tips,
        ),
    ).properties(width=270, height=230)
    return _finish(
        alt.hconcat(left, right, spacing=24),
        "planner_regret",
        "How near does each way of spending come to the best allocation in hindsight?",
        f"Left: accuracy of the best allocation in hindsight minus the arm's; right: the plan's accuracy minus the arm's, with 95 % "
        f"intervals paired by problem. {_range(table['n_problems'])} problems; plans are judged on problems that did not make them.",
    )


def greedy_order(table: pl.DataFrame) -> alt.TopLevelMixin:
    """Which language helps most, then which next?

    Args:
        table: one row per step: `step`, `language` added, `accuracy` with `low` and `high`, `objective`, `budget`, `n_problems`.
    """
    _need(table, "step", "language", "accuracy", "low", "high", "objective", "budget", "n_problems")
    table = (
        _named(table)
        .with_columns(objective=_objective())
        .with_columns(added=pl.format("{}. {}", "step", "language_name"))
    )
    base = alt.Chart(table)
    y = alt.Y("added:N", sort=alt.EncodingSortField("step"), title=None)
    tips = _tips(table, "step", "language_name", "accuracy", "low", "high", "budget", "n_problems")
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
    return _finish(
        chart
        if one
        else chart.properties(width=250)
        .facet(facet=alt.Facet("objective:N", title=None), columns=2)
        .resolve_scale(y="independent"),
        "greedy_order",
        "Which language helps most, then which next?",
        f"Accuracy ({'; '.join(table['objective'].unique(maintain_order=True))}) as languages join, {_range(table['budget'])} completions per "
        f"problem shared equally; {_range(table['n_problems'])} problems; 95 % intervals. Found and judged on the same problems, so later gains are flattered.",
    )


def sole_solvers(table: pl.DataFrame) -> alt.TopLevelMixin:
    """Of the problems that one language alone solves, what explains how many?

    Args:
        table: one row per language and cause: `language`, `cause` (answer reading, revised question, resampling, left),
            `problems` (an expectation; null where unknown), `budget`, `n_problems`.
    """
    _need(table, "language", "cause", "problems", "budget", "n_problems")
    table = _named(table)
    order = _order(table.group_by("language_name").agg(pl.col("problems").sum()), "problems")
    words = {"answer reading": ORANGE, "revised question": YELLOW, "resampling": GREY, "left": BLUE}
    domain = [cause for cause in words if cause in table["cause"].to_list()]
    table = _placed(table, "cause", domain)
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
                scale=alt.Scale(domain=domain, range=[words[cause] for cause in domain]),
            ),
            order=alt.Order("place:Q"),
            tooltip=_tips(table, "language_name", "cause", "problems", "share", "n_problems"),
        )
        .properties(width=WIDTH - 100, height=alt.Step(22))
    )
    return _finish(
        chart,
        "sole_solvers",
        "Of the problems that one language alone solves, what explains how many?",
        f"Expected problems of {_range(table['n_problems'])} when every language draws {_range(table['budget'])}; what is left is not explained by "
        "reading, by faulty questions or by another draw.",
    )


# -- parts that charts share -----------------------------------------------------------------------------------------------


def _finish(chart: Any, name: str, title: str, subtitle: str) -> alt.TopLevelMixin:
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


def _heat(base: alt.Chart, column: str, title: str, most: float, number: str, least: float = -1) -> alt.LayerChart:
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


def _need(table: pl.DataFrame, *columns: str) -> None:
    """Refuse a table without a column or without a row."""
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise ValueError(f"this chart needs {', '.join(missing)}; the table has {', '.join(table.columns)}")
    if table.is_empty():
        raise ValueError(f"this chart's table has no rows; expected some with {', '.join(columns)}")


def _named(table: pl.DataFrame, column: str = "language") -> pl.DataFrame:
    """With the English name of a language beside its code."""
    return table.with_columns(
        pl.col(column).replace({code: record.name for code, record in LANGUAGES.items()}).alias(f"{column}_name")
    )


def _order(table: pl.DataFrame, by: str) -> list[str]:
    return table.sort(by, descending=True)["language_name"].to_list()


def _range(column: pl.Series) -> str:
    """One number, or the smallest and largest, with thousands marked."""
    low, high = -_most(-column.cast(pl.Float64)), _most(column)
    return f"{high:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f}"


def _most(column: pl.Series, otherwise: float = 0) -> float:
    """The largest value; `otherwise` when that is 0 or there is none."""
    return float(column.cast(pl.Float64).max() or otherwise)  # type: ignore[arg-type]


def _tips(table: pl.DataFrame, *columns: str) -> list[alt.Tooltip]:
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


def _share(column: str, title: str, top: float | None = 1.0) -> alt.X:
    scale = alt.Scale(domain=[0, top]) if top else alt.Scale(zero=True)
    return alt.X(f"{column}:Q", title=title, axis=alt.Axis(format="%", tickCount=5), scale=scale)


def _accuracy(column: str, table: pl.DataFrame, title: str = "accuracy") -> alt.Y:
    """A share, on the tens that hold all of the table's intervals, at most 100 %."""
    low, high = -_most(-table["low"]), _most(table["high"], 1)
    scale = alt.Scale(domain=[max(0.0, int(low * 10) / 10), min(1.0, (int(high * 10 - 1e-9) + 1) / 10)])
    return alt.Y(f"{column}:Q", title=title, axis=alt.Axis(format="%", tickCount=5), scale=scale)


def _lines() -> alt.Legend:
    """A legend of lines: bands of the same colour would make it pale."""
    return alt.Legend(symbolType="stroke", symbolOpacity=1, symbolSize=300)


def _points_axis() -> alt.Axis:
    return alt.Axis(labelExpr="datum.value == 0 ? '0' : format(datum.value * 100, '+.1~f')", tickCount=6)


def _budget_axis(budgets: pl.Series) -> alt.Axis:
    """Ticks at powers of two."""
    most = int(_most(budgets, 1))
    return alt.Axis(values=[2**i for i in range(most.bit_length())], format="d", grid=False)


def _models(column: pl.Series) -> list[str]:
    known = ["mono", "multi", "cross"]
    return [m for m in known if m in column] + sorted(set(column.unique()) - set(known))


def _token_axis(tokens: pl.Series) -> alt.Axis:
    """Ticks at 1, 2 and 5 times powers of ten."""
    low, high = -_most(-tokens, -1), _most(tokens, 1)
    return alt.Axis(values=[v for e in range(9) for m in (1, 2, 5) if low <= (v := m * 10**e) <= high], format="~s")


def _model_looks(models: list[str]) -> tuple[alt.Color, alt.Shape]:
    """Colour and shape of each reward model, the same in every chart."""
    fixed = {"mono": BLUE, "multi": GREEN, "cross": ORANGE}
    spare = cycle((PINK, YELLOW, SKY, GREY))
    colours = [fixed.get(model) or next(spare) for model in models]
    return (
        alt.Color("reward_model:N", title="reward model", sort=models, scale=alt.Scale(domain=models, range=colours)),
        alt.Shape("reward_model:N", title="reward model", sort=models, scale=alt.Scale(domain=models)),
    )


def _strategy_label(strategy: str, model: str | None) -> str:
    return (
        f"{STRATEGY_NAMES.get(strategy, strategy)} by {model} reward"
        if model
        else STRATEGY_NAMES.get(strategy, strategy)
    )


def _objective() -> pl.Expr:
    """An objective in words: coverage, or choosing by a reward."""
    known = pl.col("objective").is_in(["oracle", "logprob", "shortest"])
    words = pl.col("objective").replace({"oracle": "coverage", "logprob": "log-probability"})
    return pl.when(known).then(words).otherwise(pl.format("best of k by {} reward", "objective"))


def _arm(pool: str, strategy: str, model: str | None) -> tuple[str, str, str | None, str, str, list[int]]:
    """An arm with its words, colour and dash."""
    looks: dict[tuple[str, str, str | None], tuple[str, list[int]]] = {arm[:3]: arm[3:] for arm in DEFAULT_ARMS}
    colour, dash = looks.get((pool, strategy, model), (SKY, [4, 2]))
    return pool, strategy, model, arm_name(pool, strategy, model), colour, dash


def arm_name(pool: str, strategy: str, model: str | None) -> str:
    """An arm in words.

    >>> arm_name("en", "logprob", None), arm_name("mixed", "best_of_k", "cross")
    ('English pool, log-probability', 'mixed pool, best of k by cross reward')
    """
    where = "own language" if pool == "own" else POOL_NAMES.get(pool) or f"{english_name(pool)} pool"
    return f"{where}, {_strategy_label(strategy, model)}"


def _arms_of(curves: pl.DataFrame) -> str:
    """What a table of curves holds, for a message."""
    found = curves.select("pool", "strategy", "reward_model").unique(maintain_order=True)
    words = [f"{pool} {_strategy_label(strategy, model)}" for pool, strategy, model in found.iter_rows()]
    return ", ".join(words[:8]) + (f" and {len(words) - 8} more" if len(words) > 8 else "")


def _placed(table: pl.DataFrame, column: str, order: list[str]) -> pl.DataFrame:
    """With the place of a part in its stack. Counted here: text of a table never goes into a chart's expressions."""
    return table.with_columns(
        place=pl.col(column).replace_strict({name: i for i, name in enumerate(order)}, default=len(order))
    )


def _end_labels(table: pl.DataFrame, column: str, apart: float) -> pl.DataFrame:
    """Where each language's line ends, with its code; lines that end closer than `apart` share a label."""
    ends = table.filter(pl.col("budget") == pl.col("budget").max()).sort(column, descending=True)
    groups: list[list[tuple[str, float]]] = []
    for code, value in ends.select("language", column).iter_rows():
        if groups and groups[-1][0][1] - value < apart:
            groups[-1].append((code, value))
        else:
            groups.append([(code, value)])
    rows = [(int(ends["budget"][0]), sum(v for _, v in g) / len(g), " ".join(code for code, _ in g)) for g in groups]
    return pl.DataFrame(rows, schema=["budget", column, "label"], orient="row")


def _thinned(table: pl.DataFrame, most: int = 4000) -> pl.DataFrame:
    """All budgets while the table is small; beyond `most` rows only those near quarter powers of two."""
    if table.height <= most or "budget" not in table.columns:
        return table
    keep = sorted({round(2 ** (i / 4)) for i in range(60)} | {int(_most(table["budget"], 1))})
    return table.filter(pl.col("budget").is_in(keep))
