"""Accuracy against budget, and how much of an interval comes from which source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import altair as alt
import numpy as np
import polars as pl

from bestofl_lib.display import words
from bestofl_lib.display.charts.style import (
    ARM_COLOURS,
    GREY,
    INK,
    MIXED,
    OWN,
    PLANNED,
    POINTS,
    RUN_COLOURS,
    SKY,
    VOTE,
    Arm,
    NoRows,
    accuracy_axis,
    accuracy_domain,
    budget_axis,
    finish,
    interval_dots,
    largest,
    line_ends,
    need,
    or_nothing,
    panel_title,
    panels,
    percent_axis,
    percent_of,
    spelled_range,
    thinned,
    token_axis,
    tooltips,
)
from bestofl_lib.languages import english_name, is_language
from bestofl_lib.text import percent, points, signed, unsigned

SIMPLE = ("majority", "logprob", "arithmetic")  # ways of choosing that need no reward model
COLUMNS = ("target", "pool", "strategy", "reward_model", "budget", "accuracy", "low", "high", "mc_error", "n_problems")
PAIRS: tuple[tuple[Arm, Arm], ...] = (  # own against mixed; the first pair that the table has is drawn
    (("own", "best_of_k", "mono"), ("mixed", "best_of_k", "cross")),
    (("own", "majority", None), ("mixed", "majority", None)),
    (("own", "oracle", None), ("mixed", "oracle", None)),
)


@or_nothing
def budget_curves(
    curves: pl.DataFrame, targets: Sequence[str] | None = None, arms: Sequence[Arm] | None = None
) -> alt.TopLevelMixin:
    """What does a speaker of each language gain by a mixed pool? One panel per target language, the largest gain first.

    Args:
        curves: the run's table `curves`; rows without a target belong to every panel.
        targets: languages to show; by default all that are a target or a pool of one language.
        arms: (pool, strategy, reward model) to draw, "own" for the target's own language; by default the own pool
            chosen by its own reward model and the mixed pool chosen by the cross-lingual one, or majorities where there
            are no rewards.

    Raises:
        ValueError: the table has none of these arms.
    """
    need(curves, *COLUMNS)
    known = {*curves["target"].drop_nulls(), *_single(curves)}
    wanted = list(targets) if targets else sorted(known, key=english_name)
    given = [(("own", "best_of_k", model), ("mixed", "best_of_k", model)) for model in _other_models(curves)]
    pairs = [list(arms)] if arms else [list(pair) for pair in (PAIRS[0], *given, *PAIRS[1:])]
    found = next((rows for pair in pairs if not (rows := _own_panels(curves, wanted, pair)).is_empty()), None)
    if found is None:
        told = "; ".join(words.arm(*arm) for arm in pairs[0])
        raise ValueError(f"the table has no rows of {told}; it has {_arms_of(curves)}")
    exactness, table = _exactness(found), thinned(found.drop("mc_error"))
    shown = [arm for pair in pairs for arm in pair if words.arm(*arm) in set(table["arm"])]
    shown = list(dict.fromkeys(shown))
    gaps = _gaps(table, shown) if len(shown) == 2 else {}
    order = sorted(wanted, key=lambda code: (-gaps[code][0] if code in gaps else 0, english_name(code)))
    order = [code for code in order if code in set(table["panel"])]
    names = [words.arm(*arm) for arm in shown]
    colours = [ARM_COLOURS.get(arm, (SKY, VOTE, PLANNED)[place % 3]) for place, arm in enumerate(shown)]
    look = _Look(alt.Scale(domain=names, range=colours), accuracy_domain(table), table["budget"])
    layers = [_own_panel(table.filter(pl.col("panel") == code), code, gaps.get(code), names, look) for code in order]
    won = sum(gap > 0 for gap, _ in gaps.values())
    budget = max((at for _, at in gaps.values()), default=0)
    mean = sum(gap for gap, _ in gaps.values()) / max(len(gaps), 1)
    return finish(
        alt.concat(*layers, columns=3, spacing=24),
        "budget_curves",
        f"At {budget} completions the mixed pool is ahead for {won} of {len(gaps)} languages, by {signed(mean)} points "
        "on average"
        if gaps
        else f"{' and '.join(names[:2])}, up to {spelled_range(table['budget'].tail(1))} completions",
        "What does each way of spending a budget reach, for a speaker of each language?",
        f"Accuracy, % of {spelled_range(table['n_problems'])} problems, against completions per problem over all "
        f"languages; expectations over all subsets ({exactness}); the shaded gap and the last values are printed; "
        "bands are 95 % intervals over problems and trainings.",
        room=96,
    )


@or_nothing
def english_against_mixed(
    curves: pl.DataFrame, x: str = "budget", strategies: Iterable[tuple[str, str | None]] | None = None
) -> alt.TopLevelMixin:
    """At which budgets does a mixed pool beat a pool of the base language of the same size?

    Args:
        curves: the run's table `curves`.
        x: "budget" (completions per problem) or "tokens" (generated tokens per problem).
        strategies: (strategy, reward model) to draw, one panel each; by default best of k by the cross-lingual reward
            model (without it by all that came with the pool), majority and the oracle, as far as the table has them.

    Raises:
        ValueError: x is something else, or the table has none of these.
    """
    if x not in ("budget", "tokens"):
        raise ValueError(f"x is {x!r}; expected 'budget' or 'tokens'")
    need(curves, x, *COLUMNS)
    models = ["cross"] if "cross" in curves["reward_model"] else [*_other_models(curves), "cross"]
    chosen = list(strategies or [*(("best_of_k", model) for model in models), ("majority", None), ("oracle", None)])
    base = _base_language(curves)
    names = {base: f"{english_name(base)} only"} | words.POOL_LINES
    kept = _of_pools(curves, list(names), base, x)
    found = [(strategy, model) for strategy, model in chosen if len(_rows_of(kept, strategy, model))]
    if not found:
        told = "; ".join(words.strategy(*pair) for pair in chosen)
        raise ValueError(f"no row of {told} for the pools {', '.join(names)}; it has {_arms_of(curves)}")
    table = thinned(
        pl.concat([_rows_of(kept, *pair).with_columns(panel=pl.lit(words.strategy(*pair))) for pair in found])
    )
    table = table.unique(["panel", "pool", x], maintain_order=True).with_columns(
        arm=pl.col("pool").replace_strict(names), setting=_setting()
    )
    simple = _strongest_simple_way(kept, base)
    if simple is not None and found[0][0] not in SIMPLE:
        label = words.strategy(simple["strategy"][0])
        extra = thinned(
            simple.with_columns(panel=pl.lit(words.strategy(*found[0])), arm=pl.lit(label), setting=_setting())
        )
        table = pl.concat([table, extra.select(table.columns)])
        names["simple"] = label
    domain = [name for name in names.values() if name in set(table["arm"])]
    colours = {
        names[base]: OWN,
        words.POOL_LINES["mixed"]: MIXED,
        words.POOL_LINES["planned"]: PLANNED,
        names.get("simple", ""): GREY,
    }
    look = _Look(
        alt.Scale(domain=domain, range=[colours.get(n, VOTE) for n in domain]), accuracy_domain(table), table[x], x
    )
    columns = [
        _with_gain(table.filter(pl.col("panel") == name), name, names[base], look)
        for name in table["panel"].unique(maintain_order=True)
    ]
    title = "completions per problem" if x == "budget" else "generated tokens per problem"
    return finish(
        alt.concat(*columns, columns=2, spacing=24),
        "english_against_mixed" if x == "budget" else "english_against_mixed_tokens",
        _lead(table.filter(pl.col("panel") == words.strategy(*found[0])), names[base], words.strategy(*found[0])),
        f"When does a mixed pool beat a pool of {english_name(base)} alone of the same size?",
        f"Accuracy, % of {spelled_range(table['n_problems'])} problems, against {title}; expectations over all subsets "
        f"({_exactness(table)}); bands are 95 % intervals over problems and trainings; a line ends where its draws "
        "end. Below: the "
        f"difference to {names[base]}, paired by problem."
        + (
            f" Grey: {english_name(base)} alone by {names['simple']}, its strongest way without a reward model."
            if "simple" in names
            else ""
        ),
        room=142,
    )


@or_nothing
def curves_by_level(table: pl.DataFrame) -> alt.TopLevelMixin:
    """Where does a mixed pool help: on easy problems or on hard ones? One panel per level of difficulty.

    Args:
        table: the run's table `curves_by_level`; drawn by best of k where it has rewards, else by majority.
    """
    need(table, "level", *COLUMNS)
    models = ["cross"] if "cross" in table["reward_model"] else [*_other_models(table), "cross"]
    ways = [*(("best_of_k", model) for model in models), ("majority", None), ("oracle", None)]
    way = next(pair for pair in ways if len(_rows_of(table, *pair)))
    base = _base_language(table)
    names = {base: f"{english_name(base)} only", "mixed": words.POOL_LINES["mixed"]}
    rows = _rows_of(table, *way).with_columns(arm=pl.col("pool").replace_strict(names), setting=_setting())
    rows = thinned(rows.with_columns(panel="level"))
    colours = alt.Scale(domain=list(names.values()), range=[OWN, MIXED])
    look = _Look(colours, accuracy_domain(rows), rows["budget"])
    levels = rows["level"].unique(maintain_order=True).to_list()
    how = words.strategy(*way)
    gains = [_level_gain(rows.filter(level=level), names) for level in levels]
    told = [f"{signed(gain)} on {level}" for level, gain in zip(levels, gains, strict=True) if gain is not None]
    panels_of = [
        _ended_panel(part := rows.filter(level=level), f"{level}, {spelled_range(part['n_problems'])} problems", look)
        for level in levels
    ]
    return finish(
        alt.concat(*panels_of, columns=2, spacing=24),
        "curves_by_level",
        f"{how}, mixed minus {names[base]}, points: {', '.join(told)}" if told else f"{how}, by level",
        "Does a mixed pool help on easy problems or on hard ones?",
        "Accuracy, %, against completions per problem, on the problems of one level each; expectations over all "
        f"subsets ({_exactness(rows)}); bands are 95 % intervals over problems and trainings; gains at the largest "
        "budget of both.",
        room=125,
    )


def _level_gain(rows: pl.DataFrame, names: Mapping[str, str]) -> float | None:
    """Mixed minus the base language at the largest budget that both reach; None where one of them is missing."""
    both = rows.pivot("arm", index="budget", values="accuracy").drop_nulls().sort("budget")
    if not set(names.values()) <= set(both.columns) or both.is_empty():
        return None
    base, mixed = (both[name][-1] for name in names.values())
    return float(mixed - base)


@or_nothing
def runs_side_by_side(table: pl.DataFrame, names: Mapping[str, str] | None = None) -> alt.TopLevelMixin:
    """How far do several runs come with the same budget? One panel per way of choosing, one line per run.

    Args:
        table: of `comparison.curves_side_by_side`.
        names: how each run is called in the picture; by default its own name.
    """
    names = names or {name: name for name in table["run"].unique(maintain_order=True)}
    need(table, "run", "strategy", "reward_model", "budget", "accuracy", "low", "high", "n_problems")
    panel = [words.strategy(*pair) for pair in table.select("strategy", "reward_model").iter_rows()]
    table = table.with_columns(panel=pl.Series(panel, dtype=pl.String), arm=pl.col("run").replace_strict(names))
    shown = [words.strategy(*pair) for pair in (("best_of_k", "cross"), ("majority", None), ("oracle", None))]
    shown = [name for name in shown if name in set(panel)]
    table = thinned(table.filter(pl.col("panel").is_in(shown)))
    colours = alt.Scale(domain=list(names.values()), range=RUN_COLOURS[: len(names)])
    look = _Look(colours, accuracy_domain(table), table["budget"])
    last = table.filter((pl.col("panel") == shown[0]) & (pl.col("budget") == pl.col("budget").max())).sort("accuracy")
    best, k = last.row(-1, named=True), last["budget"][0]
    return finish(
        alt.concat(
            *(_ended_panel(table.filter(pl.col("panel") == name), name, look) for name in shown), columns=3, spacing=24
        ),
        "runs_side_by_side",
        f"At {k} completions {best['arm']} is highest by {shown[0]}: {percent(best['accuracy'])}",
        "How far does each run come with the same budget?",
        f"Accuracy, % of the {spelled_range(table['n_problems'])} problems that all runs have, against completions "
        "per problem in equal shares over the languages that all runs have; bands are 95 % intervals over problems "
        "and trainings.",
        room=50 + 7 * (max(map(len, names.values())) + 7),
    )


def _other_models(curves: pl.DataFrame) -> list[str]:
    """Reward models that are neither mono, multi nor cross: they came with the pool or were made elsewhere."""
    named = curves.filter(pl.col("strategy") == "best_of_k")["reward_model"].drop_nulls().unique().sort()
    return [name for name in named if name not in words.REWARD_MODELS]


@or_nothing
def interval_sources(table: pl.DataFrame) -> alt.TopLevelMixin:
    """How much of an interval is chance?

    Args:
        table: one row per arm and kind of resampling: `pool`, `strategy`, `reward_model`, `budget`, `resampled`
            (such as "problems", "candidates", "both"), `accuracy`, `low`, `high`, `n_problems`.
    """
    need(table, "pool", "strategy", "reward_model", "budget", "resampled", "accuracy", "low", "high", "n_problems")
    arms = [words.arm(*arm) for arm in table.select("pool", "strategy", "reward_model").iter_rows()]
    table = table.with_columns(pl.col("resampled").replace(words.RESAMPLED), arm=pl.Series(arms, dtype=pl.String))
    half = ((pl.col("high") - pl.col("low")) / 2).map_elements(lambda h: f"±{unsigned(h)}", return_dtype=pl.String)
    table = table.with_columns(sure=pl.lit(True), label=half)
    kinds = table["resampled"].unique(maintain_order=True).to_list()
    tips = tooltips(table, "arm", "resampled", "accuracy", "low", "high", "budget", "n_problems")

    def panel(rows: pl.DataFrame) -> alt.LayerChart:
        return interval_dots(rows, "accuracy", percent_axis(3), "accuracy", kinds, tips, y="resampled", colour=INK)

    last = table.filter(pl.col("arm") == arms[-1])
    halves = [f"{row['resampled']} {row['label']}" for row in last.iter_rows(named=True)]
    order = list(dict.fromkeys(arms))
    return finish(
        panels(table, "arm", order, lambda rows: panel(rows).properties(width=190), columns=2),
        "interval_sources",
        f"{arms[-1]}: {', '.join(halves)} points",
        "How much of an interval is chance?",
        f"Accuracy, % of {spelled_range(table['n_problems'])} problems, with {spelled_range(table['budget'])} "
        "completions; printed is half the width of the 95 % interval, in points.",
        room=235,
    )


# -- panels ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Look:
    """What the panels of one chart share."""

    colours: alt.Scale
    domain: tuple[float, float]  # of accuracy
    across: pl.Series  # all values of x
    x: str = "budget"

    def x_axis(self, title: str | None = "") -> alt.X:
        if title == "":
            title = "completions per problem" if self.x == "budget" else "generated tokens per problem"
        axis = budget_axis(self.across) if self.x == "budget" else token_axis(self.across)
        return alt.X(f"{self.x}:Q", title=title, scale=alt.Scale(type="log", base=2), axis=axis)


def _own_panel(
    rows: pl.DataFrame, code: str, gap: tuple[float, int] | None, names: list[str], look: _Look
) -> alt.LayerChart:
    """One language: its lines with their last values, their bands, and the gap of two lines shaded."""
    colour = alt.Color("arm:N", title=None, sort=names, scale=look.colours, legend=_line_legend())
    x, y = look.x_axis(None), accuracy_axis("accuracy", look.domain, "")
    base = alt.Chart(rows)
    tips = tooltips(rows, "arm", "budget", "accuracy", "low", "high", "n_problems")
    layers = [
        base.mark_area(opacity=0.13, clip=True).encode(
            x=x, y=accuracy_axis("low", look.domain, ""), y2="high:Q", color=colour
        ),
        base.mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=14)).encode(x=x, y=y, color=colour, tooltip=tips),
    ]
    if gap:
        wide = rows.pivot("arm", index="budget", values="accuracy").drop_nulls()
        wide = wide.rename({names[0]: "from", names[1]: "to"})
        shade = (
            alt.Chart(wide)
            .mark_area(opacity=0.3, color=GREY)
            .encode(x=x, y=accuracy_axis("from", look.domain, ""), y2="to:Q")
        )
        layers.insert(0, shade)
    ends = rows.sort("budget").group_by("arm", maintain_order=True).last().with_columns(end=percent_of("accuracy"))
    first = ends.filter(pl.col("arm") == names[0])
    near = pl.col("budget") <= 4 * first["budget"].sum()  # the first line's value reaches no further
    rival = rows.filter((pl.col("arm") != names[0]) & near)
    higher = rival.filter(pl.col("accuracy") >= first["accuracy"].sum())
    beside = -9 if rival.height and higher.is_empty() else 9
    layers += [
        alt.Chart(part).mark_text(align="left", dx=5, dy=beside if name == names[0] else 0)
        .encode(x=x, y=y, text="end:N", color=colour)
        for name in names if (part := ends.filter(pl.col("arm") == name)).height
    ]  # fmt: skip
    told = f"{english_name(code)}  {signed(gap[0])} at {gap[1]}" if gap else english_name(code)
    return alt.layer(*layers).properties(width=230, height=140, title=panel_title(told))  # type: ignore[return-value]


def _ended_panel(rows: pl.DataFrame, name: str, look: _Look) -> alt.LayerChart:
    """One strategy: a line per pool with its band, and its name and last value where it ends."""
    height = 240
    last = rows.group_by("arm", maintain_order=True).agg(pl.col(look.x).max())
    early = last.filter(pl.col(look.x) < look.across.max())["arm"].to_list()  # lines that end within the plot
    ends = line_ends(rows.filter(~pl.col("arm").is_in(early)), "arm", "accuracy", look.domain, height, look.x)
    above = (
        rows.filter(pl.col("arm").is_in(early)).sort(look.x).group_by("arm", maintain_order=True).last().sort(look.x)
    )
    powers = np.log2(look.across.to_numpy())
    span = float(np.ptp(powers))
    late = (pl.col(look.x).log(2) > float(powers.min()) + 0.7 * span).alias("late")  # its label ends there
    apart = pl.col("x").log(2) - pl.col(look.x).log(2)  # a label is about two thirds as wide as the plot
    under = pl.when("late").then(apart.is_between(-span * 2 / 3, 0)).otherwise(apart.abs() <= span / 3)
    near = above.select("arm", look.x, late).join(rows.select(x=look.x, label_y="accuracy"), how="cross").filter(under)
    heights = near.group_by("arm").agg(pl.col("label_y").max())
    above = above.join(heights, on="arm", how="left", maintain_order="left")
    line = 14 * (look.domain[1] - look.domain[0]) / height  # each label stands one line of text above the one before
    above = above.with_columns(label_y=pl.col("label_y") + line * pl.int_range(pl.len()))
    ends = pl.concat([ends, above.select(ends.columns)])
    label = pl.format("{} {}", pl.col("arm"), percent_of("accuracy"))
    side = pl.when(~pl.col("arm").is_in(early)).then(pl.lit("left")).when(late).then(pl.lit("right"))
    ends = ends.select("arm", look.x, "label_y", label=label, side=side.otherwise(pl.lit("center")))
    colour = alt.Color("arm:N", scale=look.colours, legend=None)
    x, y = look.x_axis(), accuracy_axis("accuracy", look.domain, "")
    base = alt.Chart(rows)
    tips = tooltips(rows, "arm", look.x, "accuracy", "low", "high", "n_problems")
    return alt.layer(  # type: ignore[return-value]
        base.mark_area(opacity=0.12, clip=True).encode(
            x=x, y=accuracy_axis("low", look.domain, ""), y2="high:Q", color=colour
        ),
        base.mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=18)).encode(x=x, y=y, color=colour, tooltip=tips),
        *(
            alt.Chart(part.drop("side"))
            .mark_text(align=align, dx=right, dy=up, fontWeight=600)  # type: ignore[arg-type]
            .encode(x=x, y=accuracy_axis("label_y", look.domain, ""), text="label:N", color=colour)
            for align, right, up in (("center", 0, -13), ("right", 0, -13), ("left", 7, 0))
            if len(part := ends.filter(side=align))
        ),
    ).properties(width=190, height=height, title=panel_title(name))


def _with_gain(rows: pl.DataFrame, name: str, base: str, look: _Look) -> alt.LayerChart | alt.VConcatChart:
    """One strategy, with the difference to the base language below it where the table has any."""
    panel = _ended_panel(rows, name, look)
    if "gain" not in rows.columns or not rows["gain"].count():
        return panel
    return alt.vconcat(panel, _gain_panel(rows, base, look), spacing=10)


def _gain_panel(rows: pl.DataFrame, base: str, look: _Look) -> alt.LayerChart:
    """The difference of each mixed pool to the base language alone, with its interval, on the axis of the panel
    above.
    """
    rows = rows.drop_nulls("gain")
    reach = float(
        max(0.02, rows.select(pl.max_horizontal(pl.col("gain_low").abs(), pl.col("gain_high").abs()).max()).item())
    )
    scale = alt.Scale(domain=[-reach, reach], nice=False)
    colour = alt.Color("arm:N", scale=look.colours, legend=None)
    axis = alt.Axis(labelExpr=POINTS, tickCount=3)
    chart = alt.Chart(rows)
    x = alt.X(
        f"{look.x}:Q",
        title=None,
        scale=alt.Scale(type="log", base=2, domain=[float(v) for v in np.quantile(look.across.to_numpy(), (0, 1))]),
        axis=None,
    )
    tips = tooltips(rows, "arm", look.x, "gain", "gain_low", "gain_high", "n_problems")
    return alt.layer(  # type: ignore[return-value]
        alt.Chart(pl.DataFrame({"zero": [0.0]}))
        .mark_rule(strokeDash=[4, 3], color=GREY)
        .encode(y=alt.Y("zero:Q", scale=scale, axis=axis, title="")),
        chart.mark_area(opacity=0.15, clip=True).encode(
            x=x, y=alt.Y("gain_low:Q", scale=scale, axis=axis, title=""), y2="gain_high:Q", color=colour
        ),
        chart.mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=18)).encode(
            x=x, y=alt.Y("gain:Q", scale=scale), color=colour, tooltip=tips
        ),
    ).properties(width=190, height=80, title=panel_title(f"minus {base}, points"))


def _line_legend() -> alt.Legend:
    """A legend of lines: bands of the same colour would make it pale."""
    return alt.Legend(symbolType="stroke", symbolOpacity=1, symbolSize=300)


# -- rows ------------------------------------------------------------------------------------------------------------


def _own_panels(curves: pl.DataFrame, targets: Sequence[str], arms: Sequence[Arm]) -> pl.DataFrame:
    """The rows of these arms, once per panel; empty where an arm is missing everywhere."""
    wanted = pl.DataFrame(
        [(*arm, words.arm(*arm)) for arm in arms],
        schema={"arm_pool": pl.String, "strategy": pl.String, "reward_model": pl.String, "arm": pl.String},
        orient="row",
    )
    rows = (
        curves.join(pl.DataFrame({"panel": list(targets)}, schema={"panel": pl.String}), how="cross")
        .filter(pl.col("target").is_null() | (pl.col("target") == pl.col("panel")))
        .with_columns(arm_pool=pl.when(pl.col("pool") == pl.col("panel")).then(pl.lit("own")).otherwise(pl.col("pool")))
        .join(wanted, on=["arm_pool", "strategy", "reward_model"], how="inner", nulls_equal=True)
    )
    return rows.select(
        "panel", "arm", "budget", "accuracy", "low", "high", "mc_error", "n_problems", setting=_setting()
    )


def _of_pools(curves: pl.DataFrame, pools: list[str], base: str, x: str) -> pl.DataFrame:
    """The rows of these pools for a speaker of the base language that have a place on the axis."""
    rows = curves.filter(pl.col("pool").is_in(pools) & (pl.col("target").is_null() | (pl.col("target") == base)))
    if x == "tokens" and rows["tokens"].count() == 0:
        raise NoRows("the table has no token counts")
    return rows.drop_nulls(x)


def _strongest_simple_way(rows: pl.DataFrame, base: str) -> pl.DataFrame | None:
    """The curve of the base language alone chosen without a reward model that is highest at its largest budget; None
    without any.
    """
    simple = rows.filter((pl.col("pool") == base) & pl.col("strategy").is_in(list(SIMPLE)))
    if simple.is_empty():
        return None
    best = simple.filter(pl.col("budget") == pl.col("budget").max()).sort("accuracy")["strategy"][-1]
    return simple.filter(strategy=best)


def _exactness(rows: pl.DataFrame) -> str:
    """How exact the expectations of a chart are: simulated votes have a 95 % error, that of the least exact one."""
    error = largest(rows["mc_error"], 0)
    return f"exact; votes simulated to ±{unsigned(max(1.96 * error, 0.001))} points" if error else "exact"


def _setting() -> pl.Expr:
    """What a point of a curve opens in the report's page "What if?": pool, way of choosing, budget; null for what it
    does not offer.
    """
    way = (
        pl.when(pl.col("strategy") == "best_of_k")
        .then("reward_model")
        .when(pl.col("strategy") != "weighted")
        .then("strategy")
    )
    return pl.when(pl.col("pool") != "planned").then(pl.format("{}/{}/{}", "pool", way, "budget"))


def _gaps(table: pl.DataFrame, arms: Sequence[Arm]) -> dict[str, tuple[float, int]]:
    """Per language the second arm's accuracy minus the first's at the largest budget that both reach, and that
    budget.
    """
    first, second = (table.filter(pl.col("arm") == words.arm(*arm)) for arm in arms)
    both = first.join(second, on=["panel", "budget"], suffix="_second").sort("budget").group_by("panel").last()
    return {
        row["panel"]: (row["accuracy_second"] - row["accuracy"], row["budget"]) for row in both.iter_rows(named=True)
    }


def _base_language(curves: pl.DataFrame) -> str:
    """The language that others are compared with: arms such as "mixed-en" name it; else the strongest on its own."""
    named = {name.partition("-")[2] for name in curves["pool"].unique() if name.startswith(("mixed-", "half-"))}
    if found := named & set(_single(curves)):
        return min(found)
    alone = curves.filter(pl.col("pool").is_in(_single(curves)) & (pl.col("budget") == pl.col("budget").min()))
    if alone.is_empty():
        return str(curves["pool"][0])
    return str(alone.sort("accuracy", "pool", descending=[True, False])["pool"][0])


def _single(curves: pl.DataFrame) -> list[str]:
    """The pools of one language."""
    return [pool for pool in curves["pool"].unique().sort() if is_language(pool)]


def _rows_of(table: pl.DataFrame, strategy: str, model: str | None) -> pl.DataFrame:
    return table.filter((pl.col("strategy") == strategy) & pl.col("reward_model").eq_missing(pl.lit(model, pl.String)))


def _lead(rows: pl.DataFrame, base: str, how: str) -> str:
    """What the first panel shows at the largest budget that the base language and the mixed pool both reach."""
    x = "budget" if "budget" in rows.columns else "tokens"
    first = rows.filter(pl.col("arm") == base).sort(x)
    second = rows.filter(pl.col("arm") == words.POOL_LINES["mixed"]).sort(x)
    both = (
        first.join(second, on="budget", suffix="_mixed", how="inner") if len(first) and len(second) else first.clear()
    )
    if both.is_empty():
        best = rows.sort("accuracy").row(-1, named=True)
        return f"{best['arm']}, {how}: {percent(best['accuracy'])} at {best['budget']} completions"
    last = both.row(-1, named=True)
    difference = last["accuracy_mixed"] - last["accuracy"]
    side = "ahead of" if difference > 0 else "behind"
    return f"With {how}, a mixed pool is {points(abs(difference))} {side} {base} at {last['budget']} completions"


def _arms_of(curves: pl.DataFrame) -> str:
    """What a table of curves holds, for a message."""
    found = curves.select("pool", "strategy", "reward_model").unique(maintain_order=True)
    told = [f"{pool} {words.strategy(strategy, model)}" for pool, strategy, model in found.iter_rows()]
    return ", ".join(told[:8]) + (f" and {len(told) - 8} more" if len(told) > 8 else "")
