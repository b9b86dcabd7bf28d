"""One sentence behind a chart, computed from the same table, so that it is true for whichever run is shown.

Tables in, sentences out. It computes no figure that the table does not hold.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any

import polars as pl
from IPython.display import HTML, Markdown

from bestofl_lib.answers.other_readers import OURS
from bestofl_lib.display import words
from bestofl_lib.display.servers import server_sentences
from bestofl_lib.display.text import inert_text
from bestofl_lib.languages import PIVOT, english_name, is_language, language
from bestofl_lib.text import percent, points, signed, unsigned


def _or_nothing(sentence: Callable[..., Markdown]) -> Callable[..., Markdown]:
    """The sentence, or an empty one where the table is empty: the chart above says why."""

    @wraps(sentence)
    def said(table: pl.DataFrame, *args: Any, **kwargs: Any) -> Markdown:
        return Markdown("") if table.is_empty() else sentence(table, *args, **kwargs)

    return said


@_or_nothing
def accuracy(table: pl.DataFrame) -> Markdown:
    """The spread of accuracy over languages, and the share that could not be read. Table of `accuracy_by_language`."""
    best, worst = table.sort("accuracy", descending=True).row(0, named=True), table.sort("accuracy").row(0, named=True)
    unread = table.sort("unreadable", descending=True).row(0, named=True)
    share = table.select((pl.col("unreadable") * pl.col("n_candidates")).sum() / pl.col("n_candidates").sum()).item()
    text = (
        f"One candidate is right in {_accuracy(best)} of {best['n_problems']} problems in "
        f"{english_name(best['language'])} and in {_accuracy(worst)} in {english_name(worst['language'])}. Of all "
        f"candidates {percent(share)} could not be read"
        + (
            f", most in {english_name(unread['language'])} ({percent(unread['unreadable'])})."
            if unread["unreadable"] > 0
            else "."
        )
    )
    cut = table.sort("cut", descending=True, nulls_last=True).row(0, named=True)
    if cut["cut"]:
        text += f" Up to {percent(cut['cut'])} were cut off at the longest length ({english_name(cut['language'])})."
    known = table.filter(pl.col("n_unrevised") > 0)
    if len(known):
        change = (
            known.with_columns(change=pl.col("accuracy_unrevised") - pl.col("accuracy"))
            .sort(pl.col("change").abs())
            .row(-1, named=True)
        )
        text += (
            f" Without the questions that a revised edition replaced ({change['n_unrevised']} problems are left), "
            f"accuracy changes most in {english_name(change['language'])}: by {signed(change['change'])} points."
        )
    return Markdown(text + _generic(table["language"]))


def _generic(languages: pl.Series) -> str:
    """Which languages are read without words of their own, and what to do about it; empty where there are none."""
    names = [
        english_name(code)
        for code in languages.unique(maintain_order=True)
        if is_language(code) and language(code).generic
    ]
    if not names:
        return ""
    return (
        f" Read by generic rules: {', '.join(names)}. Their digits, marks, boxes and English cues are known, but no "
        "words of their own: an answer that only such a word announces may be missed. A language file adds such words."
    )


@_or_nothing
def readers(table: pl.DataFrame, ours: str = OURS) -> Markdown:
    """How much of the gap between languages is reading. Table of `accuracy_by_reader`."""
    spread = dict(
        table.group_by("reader", maintain_order=True)
        .agg(pl.col("accuracy").max() - pl.col("accuracy").min())
        .iter_rows()
    )
    mine = table.filter(pl.col("reader") == ours).select("language", mine="accuracy")
    other = (
        table.filter(pl.col("reader") != ours)
        .join(mine, on="language")
        .with_columns(lost=pl.col("mine") - pl.col("accuracy"))
    )
    worst = other.sort(pl.col("lost").abs()).row(-1, named=True)
    gaps = "; ".join(f"{points(gap)} by {reader.replace('_', ' ')}" for reader, gap in spread.items())
    return Markdown(
        f"The gap between the best and the weakest language is {gaps}. The largest difference that a reader makes is "
        f"in {english_name(worst['language'])}: {percent(worst['accuracy'])} by "
        f"{worst['reader'].replace('_', ' ')}, {percent(worst['mine'])} here."
    )


def differing(table: pl.DataFrame, most: int = 60) -> HTML:
    """Readings on which another reader differs, one row each, to be opened. Table of `other_readers.disagreements`.

    Args:
        table: language, reader, answer, ours, reference, is_correct, problem_id and ending (what was written last).
        most: rows shown, spread over languages and readers; the total is stated.
    """
    shown = table.filter(pl.int_range(pl.len()).over("language", "reader") < 2).sort("language", "reader").head(most)
    rows = [
        "<details><summary>{}</summary><pre lang='{}' dir='auto' "
        "style='white-space:pre-wrap'>{}</pre></details>".format(
            html.escape(
                f"{row['language']} · {row['problem_id']}: here {row['ours'] or 'nothing'}, "
                f"{row['reader'].replace('_', ' ')} {row['answer'] or 'nothing'}, reference {row['reference']}"
            ),
            html.escape(row["language"]),
            html.escape(row["ending"] or ""),
        )
        for row in shown.iter_rows(named=True)
    ]
    return HTML(f"<p>{len(shown)} of {len(table)} differing readings:</p>" + "".join(rows))


@_or_nothing
def training(table: pl.DataFrame) -> Markdown:
    """How many rows each reward model got. Table of `train_reward_models`."""
    made = table.filter(pl.col("rows") > 0)
    if not made.height:
        return Markdown(
            f"No reward model was trained: {table['status'][0]}. A pair needs a correct and a wrong candidate of one "
            "problem."
        )
    least, most, few, many = made.select(
        pl.col("rows").min(),
        pl.col("rows").max().alias("most"),
        pl.col("available").min(),
        pl.col("available").max().alias("many"),
    ).row(0)
    seeds = made["seed"].n_unique()
    text = (
        f"{made['reward_model'].n_unique()} reward models, each {f'trained {seeds} times ' if seeds > 1 else ''}on "
        f"{least:,} pairs"
        + ("" if least == most else f" to {most:,} pairs, by fold")
        + f" ({few:,} to {many:,} were available)."
    )
    none = table.filter(pl.col("rows") == 0)["reward_model"].unique().sort()
    return Markdown(text + (f" No pairs, and so no model: {', '.join(none)}." if len(none) else ""))


@_or_nothing
def reward_bias(table: pl.DataFrame, models: list[str]) -> Markdown:
    """The strongest bias of each reward model at fixed correctness, of those whose interval excludes zero. Table
    `reward_bias`.
    """
    sure = table.filter((pl.col("low") > 0) | (pl.col("high") < 0))
    parts = []
    for model in models:
        mine = sure.filter(pl.col("reward_model") == model).sort(pl.col("bias").abs(), descending=True)
        if not mine.height:
            parts.append(f"{model} shows no bias whose interval excludes zero")
            continue
        row = mine.row(0, named=True)
        what = english_name(row["value"]) if row["trait"] == "language" else f"{row['trait']}: {row['value']}"
        parts.append(
            f"{model} has {mine.height} such biases, the strongest {_plus(row['bias'])} standard deviations "
            f"({what}; {_plus(row['low'])} to {_plus(row['high'])})"
        )
    return Markdown("At equal correctness, " + "; ".join(parts) + ".")


@_or_nothing
def reward_trials(table: pl.DataFrame) -> Markdown:
    """The best way to train each reward model, chosen on the dev split, beside the run's own. Table `reward_trials`."""
    own, parts = table["trial"][0], []
    for model in table["reward_model"].unique(maintain_order=True):
        mine = table.filter(pl.col("reward_model") == model).drop_nulls("auc")
        if not mine.height:
            parts.append(f"{model} could not be trained")
            continue
        best = mine.sort("auc", descending=True).row(0, named=True)
        of_run = mine.filter(pl.col("trial") == own)["auc"]
        beside = "" if best["trial"] == own or not len(of_run) else f"; {own} {of_run[0]:.3f}"
        interval = f"{best['low']:.3f} to {best['high']:.3f}"
        parts.append(f"{model} ranks best with *{best['trial']}*, {best['auc']:.3f} ({interval}{beside})")
    return Markdown("On dev problems, " + "; ".join(parts) + ". Where intervals overlap, the simpler way is as good.")


@_or_nothing
def steps_lost(table: pl.DataFrame) -> Markdown:
    """From which step on wrong solutions are wrong. Table of `where_lost`."""
    if not table.height:
        return Markdown("No step is labelled: there is nothing to learn from.")
    row = table.row(-1, named=True)
    text = f"{row['n_candidates']:,} candidates of training problems have {row['steps']:.1f} steps on average."
    if not row["n_wrong"]:
        return Markdown(f"{text} None of them is wrong, so there is nothing to learn from their steps.")
    return Markdown(
        f"{text} Of the {row['n_wrong']:,} wrong ones, {percent(row['first'])} are lost in their first step: no "
        f"continuation from there reaches the right answer. {percent(row['later'])} are lost later, and "
        f"{percent(row['last'])} in their last step."
    )


def _plus(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def reward_quality(table: pl.DataFrame) -> Markdown:
    """Mean quality of each kind of reward model. Table of `within_problem_auc`."""
    if not table.height:
        return Markdown(
            "No rewards, or no problem with both a correct and a wrong candidate that has them: there is nothing to "
            "judge."
        )
    kinds = (
        table.drop_nulls("language")
        .with_columns(kind=pl.col("reward_model").str.replace("^mono-.*$", "mono"))
        .group_by("kind")
        .agg(pl.col("auc").mean(), low=pl.col("auc").min(), high=pl.col("auc").max(), n=pl.len())
    )
    parts = [
        f"{row['kind']} {row['auc']:.3f} ({row['low']:.2f} to {row['high']:.2f} over {row['n']} languages)"
        for row in kinds.sort("auc", descending=True).iter_rows(named=True)
    ]
    return Markdown("Mean AUC within problems: " + "; ".join(parts) + ". Guessing is 0.5.")


def exclusive(table: pl.DataFrame) -> Markdown:
    """The pair of languages that complement each other most, beside drawing the same language again.

    Table of `complementarity.exclusive_solves`.
    """
    if table.is_empty():
        return Markdown("The pool has one language only; there is nothing to compare.")
    top = table.sort("exclusive", descending=True).row(0, named=True)
    text = (
        f"{english_name(top['language'])} solves {top['exclusive']:.1f} of {top['n_problems']} problems that "
        f"{english_name(top['other'])} does not, "
        "the most of any pair"
    )
    again = top["exclusive_resampled"]
    return Markdown(
        text
        + (
            f"; a second draw of {english_name(top['language'])} itself solves {again:.1f} that the first did not."
            if again is not None
            else "."
        )
    )


def gains(table: pl.DataFrame) -> Markdown:
    """Which languages add more than another draw. Table of `complementarity.gain_over_resampling`."""
    if table.is_empty():
        return Markdown(
            "There are too few candidates of the base language to draw it again, so nothing can be compared."
        )
    last = table.filter(pl.col("budget") == pl.col("budget").max())
    clear = last.filter((pl.col("p_holm") < 0.05) & (pl.col("gain") > 0)).sort("gain", descending=True)
    worse = last.filter((pl.col("p_holm") < 0.05) & (pl.col("gain") < 0))
    base = english_name(last["base"][0])
    parts = [f"{english_name(row['language'])} ({signed(row['gain'])} points)" for row in clear.iter_rows(named=True)]
    text = (
        f"At {last['budget'][0]} completions, {len(clear)} of {len(last)} languages add more than drawing {base} again "
        "(Holm-corrected, 5 %)"
    )
    text += ": " + ", ".join(parts) + "." if parts else "."
    return Markdown(
        text
        + (f" {len(worse)} add significantly less. " if len(worse) else " ")
        + f"A gain of {points(last.select(pl.col('mde').median()).item())} would be found with 80 % power in "
        "the median language."
    )


@_or_nothing
def sole_solvers(table: pl.DataFrame) -> Markdown:
    """What explains the problems that one language alone solves. Table of `complementarity.sole_solvers`."""
    total = table.select(pl.col("problems").sum()).item()
    if not total:
        return Markdown("No problem is solved by one language alone.")
    causes = (
        table.group_by("cause", maintain_order=True)
        .agg(pl.col("problems").sum())
        .filter(pl.col("problems").is_not_null())
    )
    bound = {"answer reading": " at most"}  # what misreading could explain, not what it does
    parts = [
        f"{row['cause']}{bound.get(row['cause'], '')} {percent(row['problems'] / total, 0)}"
        for row in causes.iter_rows(named=True)
    ]
    return Markdown(
        f"With {table.item(0, 'budget')} completions of each language, {total:.1f} of {table.item(0, 'n_problems')} "
        f"problems are solved by one language alone (expected number). Explained by: {', '.join(parts)}."
    )


def servers(notes: Sequence[Mapping[str, Any]]) -> HTML:
    """What was asked of servers and clusters, and how it went. Notes of `Store.notes` or of `score`."""
    return HTML("".join(f"<p>{inert_text(text)}</p>" for text in server_sentences(notes)))


@_or_nothing
def claims(table: pl.DataFrame) -> Markdown:
    """The verdicts, one line each. Table of `claims.claims`."""
    return Markdown(
        "\n".join(
            f"* **{row['claim']}{_aspect(row)}: {row['verdict']}.** {row['sentence']}"
            for row in table.iter_rows(named=True)
        )
    )


def _aspect(row: dict[str, Any]) -> str:
    """Which part and which reading of high-resource a row of `claims` is about."""
    told = [f"{row['part']} effect"] if row.get("part") in ("pool", "reward") else []
    if row.get("high_resource") == "strongest":
        told.append("languages this policy is best at")
    return f" ({', '.join(told)})" if told else ""


@_or_nothing
def curves(table: pl.DataFrame) -> Markdown:
    """The best arm at the largest budget that all arms reach. Table of `curves.curves`."""
    choices = table.filter(~pl.col("strategy").is_in(["oracle", "random"]))
    reach = (
        choices.group_by("pool", "strategy", "reward_model")
        .agg(pl.col("budget").max())
        .select(pl.col("budget").min())
        .item()
    )
    shared = choices.filter(pl.col("budget") == reach).sort("accuracy", descending=True)
    best = shared.row(0, named=True)
    arm = words.arm(best["pool"], best["strategy"], best["reward_model"])
    return Markdown(
        f"At {reach} completions the best choice is {arm}: {_accuracy(best)} of "
        f"{best['n_problems']} problems. It is the best of {len(shared)} arms, so part of its lead is chance."
    )


@_or_nothing
def interval_sources(table: pl.DataFrame) -> Markdown:
    """How far the last arm would move on other problems and on other draws. Table of `curves.interval_sources`."""
    half = {
        row["resampled"]: unsigned((row["high"] - row["low"]) / 2) for row in _of_last_arm(table).iter_rows(named=True)
    }
    last = table.row(-1, named=True)
    arm = words.arm(last["pool"], last["strategy"], last["reward_model"])
    trained = f", other training seeds by ±{half['training']}" if "training" in half else ""
    return Markdown(
        f"With {last['budget']} completions, {arm}: other problems would move the figure by ±{half['problems']} "
        f"points, drawing again for the same problems by ±{half['candidates']}, both by "
        f"±{half['both']}{trained} (half the width of the 95 % intervals, {last['n_problems']} problems)."
    )


def _of_last_arm(table: pl.DataFrame) -> pl.DataFrame:
    last = table.tail(1).select("pool", "strategy", "reward_model")
    return table.join(last, on=last.columns, how="semi", nulls_equal=True)


def levels(table: pl.DataFrame) -> pl.DataFrame | Markdown:
    """Accuracy per language and level. Table `accuracy_by_level`; a sentence where the problem set has no levels."""
    if table.is_empty():
        return Markdown("This problem set has no levels of difficulty.")
    return table.pivot("level", index="language", values="accuracy")


@_or_nothing
def plan(table: pl.DataFrame) -> Markdown:
    """What planning gains at the largest budget. Table of `planner.plans`."""
    last = table.filter(pl.col("budget") == pl.col("budget").max())
    planned = last.filter(pl.col("arm") == "planned").row(0, named=True)
    told = {"planned", "mixed", "hindsight"}
    base = next((arm for arm in last["arm"] if arm not in told), PIVOT)
    others = [
        f"{signed(row['gain'])} points over {name} (95 % interval {signed(row['gain_low'])} to "
        f"{signed(row['gain_high'])})"
        for name, arm in ((f"{english_name(base)} only", base), ("equal shares", "mixed"))
        for row in last.filter(pl.col("arm") == arm).iter_rows(named=True)
    ]
    return Markdown(
        f"With {planned['budget']} completions the plan is {planned['allocation']}. Judged on problems it was not made "
        f"on, it reaches {_accuracy(planned)}"
        + (": " + "; ".join(others) if others else "")
        + f". It loses {points(planned['regret'])} to hindsight."
    )


@_or_nothing
def plan_to_paste(table: pl.DataFrame) -> Markdown:
    """The plan at the largest budget as a parameter of a study. Table `allocations` of `planner.plans`."""
    last = table.filter((pl.col("budget") == pl.col("budget").max()) & (pl.col("completions") > 0))
    parts = last.sort("completions", "language", descending=[True, False]).select("language", "completions")
    line = ",".join(f"{code}:{k}" for code, k in parts.iter_rows())
    return Markdown(
        "To draw just this for each test problem, add to a study that samples, such as `bestofl run mgsm`:\n\n"
        f"    -p allocation={line}"
    )


def outcomes(found: dict, model: str | None = None) -> list[str]:
    """Sentences on what stands out in a run. Counts of `run_scan.count_outcomes`; `model` is the reward model they were
    made with.
    """
    n, solved = found["problems"], found["solved"]
    told = [
        f"{solved} of {n} problems are solved at least once in some language, {found['solved_everywhere']} in every "
        f"language, {found['one_language_only']} in one language only.",
        f"In {found['disagreement']} of {n} problems the languages' most frequent answers differ; in "
        f"{found['unreadable']} an answer could not be read.",
    ]
    if model:
        told.append(
            f"Given all candidates, reward model {model} picks a wrong one in {found['mistake']} of the {solved} "
            "problems that were solved."
        )
    return told


def _accuracy(row: dict) -> str:
    return f"{percent(row['accuracy'])} (95 % interval {percent(row['low'])} to {percent(row['high'])})"
