"""One sentence behind a chart, computed from the same table, so that it is true for whichever run is shown.

Tables in, sentences out. It computes no figure that the table does not hold.
"""

from __future__ import annotations

import polars as pl
from IPython.display import Markdown

from bestofl_lib.languages import LANGUAGES


def accuracy(table: pl.DataFrame) -> Markdown:
    """The spread of accuracy over languages, and the share that could not be read. Table of `accuracy_by_language`."""
    best, worst = table.sort("accuracy", descending=True).row(0, named=True), table.sort("accuracy").row(0, named=True)
    unread = table.sort("unreadable", descending=True).row(0, named=True)
    share = (table["unreadable"] * table["n_candidates"]).sum() / table["n_candidates"].sum()
    text = (
        f"One candidate is right in {_percent(best)} of {best['n_problems']} problems in {_name(best)} and in {_percent(worst)} in "
        f"{_name(worst)}. Of all candidates {share:.1%} could not be read"
        + (f", most in {_name(unread)} ({unread['unreadable']:.1%})." if unread["unreadable"] > 0 else ".")
    )
    cut = table.sort("cut", descending=True).row(0, named=True)
    if cut["cut"]:
        text += f" Up to {cut['cut']:.1%} were cut off at the longest length ({_name(cut)})."
    known = table.filter(pl.col("n_unrevised") > 0)
    if len(known):
        change = known.with_columns(change=pl.col("accuracy_unrevised") - pl.col("accuracy")).sort("change").row(-1, named=True)
        text += (
            f" Without the questions that a revised edition replaced ({change['n_unrevised']} problems are left), accuracy changes most "
            f"in {_name(change)}: by {100 * change['change']:+.1f} points."
        )
    return Markdown(text)


def readers(table: pl.DataFrame, ours: str = "this reader") -> Markdown:
    """How much of the gap between languages is reading. Table of `compare_readers`."""
    spread = {
        reader: part["accuracy"].max() - part["accuracy"].min()
        for (reader,), part in table.group_by("reader", maintain_order=True)
    }
    mine = table.filter(pl.col("reader") == ours).select("language", mine="accuracy")
    other = table.filter(pl.col("reader") != ours).join(mine, on="language").with_columns(
        lost=pl.col("mine") - pl.col("accuracy")
    )
    worst = other.sort(pl.col("lost").abs()).row(-1, named=True)
    gaps = "; ".join(f"{100 * gap:.1f} points by {reader}" for reader, gap in spread.items())
    return Markdown(
        f"The gap between the best and the weakest language is {gaps}. The largest difference that a reader makes is in "
        f"{_name(worst)}: {100 * worst['accuracy']:.1f} % by {worst['reader']}, {100 * worst['mine']:.1f} % here."
    )


def training(table: pl.DataFrame) -> Markdown:
    """How many rows each reward model got. Table of `train_reward_models`."""
    made = table.filter(pl.col("rows") > 0)
    text = (
        f"{made['reward_model'].n_unique()} reward models, each on {made['rows'].min():,} pairs"
        + ("" if made["rows"].n_unique() == 1 else f" to {made['rows'].max():,} pairs, by fold")
        + f" ({made['available'].min():,} to {made['available'].max():,} were available)."
    )
    none = table.filter(pl.col("rows") == 0)["reward_model"].unique().sort()
    return Markdown(text + (f" No pairs, and so no model: {', '.join(none)}." if len(none) else ""))


def reward_quality(table: pl.DataFrame) -> Markdown:
    """Mean quality of each kind of reward model. Table of `within_problem_auc`."""
    kinds = table.with_columns(kind=pl.col("reward_model").str.replace("^mono-.*$", "mono")).group_by("kind").agg(
        pl.col("auc").mean(), low=pl.col("auc").min(), high=pl.col("auc").max(), n=pl.len()
    )
    parts = [
        f"{row['kind']} {row['auc']:.3f} ({row['low']:.2f} to {row['high']:.2f} over {row['n']} languages)"
        for row in kinds.sort("auc", descending=True).iter_rows(named=True)
    ]
    return Markdown("Mean AUC within problems: " + "; ".join(parts) + ". Guessing is 0.5.")


def _name(row: dict) -> str:
    return LANGUAGES[row["language"]].name if row["language"] in LANGUAGES else row["language"]


def _percent(row: dict) -> str:
    return f"{row['accuracy']:.1%} (95 % interval {row['low']:.1%} to {row['high']:.1%})"
