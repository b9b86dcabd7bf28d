"""Do the intervals cover? Simulated studies over values of the kind that is reported, at four accuracies.

    python -m bestofl_lib.analysis.interval_check --studies 2000        (or: make coverage)

A large population of problems of U-shaped difficulty is drawn once; its means are the truth. Each study takes 50 or 250
of its problems, and counts whether the interval holds the truth and whether the test rejects a true null. At the lab's
accuracy width and coverage are set beside those of the plain bootstrap over problems. Written to `reports/COVERAGE.md`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from scipy.stats import bootstrap

from bestofl_lib.analysis import uncertainty as un
from bestofl_lib.analysis.best_of_k import best_of_k
from bestofl_lib.analysis.bootstrap import FEW, effective_number
from bestofl_lib.analysis.break_even import break_even
from bestofl_lib.analysis.contest import Contest
from bestofl_lib.analysis.coverage import coverage_of_allocation
from bestofl_lib.analysis.figures import Figures, best_on_other_folds, equal_folds
from bestofl_lib.analysis.majority import majority
from bestofl_lib.files import ROOT
from bestofl_lib.text import percent, unsigned

Array = np.ndarray
ACCURACIES = (0.5, 0.8, 0.94, 0.98)
PROBLEMS = (50, 250)
LANGUAGES = ("a", "b", "c")  # three languages of equal strength
BUDGET = 4
CANDIDATES = 8
LAB = 0.5  # the accuracy at which widths are compared with the plain bootstrap
TENTH = 0.1  # so much wider than the plain bootstrap is named
PLAIN = 400  # studies in which they are
SCHEMA = {
    "accuracy": pl.Float64,  # of one candidate
    "n_problems": pl.Int32,
    "figure": pl.String,
    "truth": pl.Float64,
    "covered": pl.Float64,  # share of studies whose 95 % interval holds the truth
    "rejected": pl.Float64,  # of a true null; null where the null is false
    "half_width": pl.Float64,
    "plain": pl.Float64,  # width relative to scipy's BCa bootstrap over problems; null away from the lab's accuracy
    "plain_covered": pl.Float64,  # share of those intervals of scipy's that hold the truth
    "few": pl.Float64,  # share of studies in which fewer than FEW problems differ, weighted by how much
    "n_studies": pl.Int32,
}


@dataclass(frozen=True)
class Population:
    """Per-problem values of many problems; a study is a sample of rows."""

    levels: dict[str, Array]  # figures from 0 to 1
    differences: dict[str, Array]  # paired differences, from −1 to 1
    arms: dict[str, Array]  # alternatives of which the best is chosen on other folds
    mixed: Array  # (problems, budgets) curve of the mixed pool
    alone: Array  # (problems, budgets) curve of one language that starts lower and ends higher, so that they cross
    budgets: Array


def population(accuracy: float, n_problems: int = 60_000, seed: int = 1) -> Population:
    """Problems of U-shaped difficulty in three languages, with two rewards of equal worth."""
    rng = np.random.default_rng(seed)
    sharpness = 0.6
    shape = (accuracy * sharpness, (1 - accuracy) * sharpness)
    shared = rng.beta(*shape, n_problems)
    correct: dict[str, Array] = {}
    answers: dict[str, Array] = {}
    rewards: tuple[dict[str, Array], dict[str, Array]] = ({}, {})
    for code in LANGUAGES:
        rate = np.where(rng.random(n_problems) < 0.6, shared, rng.beta(*shape, n_problems))
        correct[code] = (rng.random((n_problems, CANDIDATES)) < rate[:, None]).astype(float)
        answers[code] = np.where(correct[code] > 0, 0, rng.integers(1, 4, correct[code].shape)).astype(float)
        for reward in rewards:
            reward[code] = correct[code] + rng.normal(size=correct[code].shape)
    mono, cross = (Contest.of(reward, correct) for reward in rewards)
    first, second = LANGUAGES[:2]
    own_mono, own_cross = (c.allocation({first: BUDGET}) for c in (mono, cross))
    mixed_mono, mixed_cross = (c.shares([BUDGET])[:, 0] for c in (mono, cross))
    covered = coverage_of_allocation(correct, {first: BUDGET})
    voted = majority(answers[first], np.zeros(n_problems, int), BUDGET)
    pairs = {code: cross.shares([BUDGET], [first, code])[:, 0] for code in LANGUAGES[1:]}
    budgets = [1, 2, 3, 4, 6, 8]
    weak = {code: rewards[1][code] - 0.5 * correct[code] for code in LANGUAGES}
    spoilt = correct[first] * (rng.random(correct[first].shape) > 0.15)
    strong = 3 * spoilt + rewards[0][first] - correct[first]
    return Population(
        levels={
            "one candidate": correct[first].mean(1),
            "best of 4": own_cross,
            "coverage at 4": covered,
            "majority of 4": voted,
        },
        differences={
            "H1 total": mixed_cross - own_mono,
            "H1 pool effect": (mixed_mono - own_mono + mixed_cross - own_cross) / 2,
            "H1 reward effect (null)": (own_cross - own_mono + mixed_cross - mixed_mono) / 2,
            "own pool, two models (null)": own_cross - own_mono,
            "best of 4, two languages (null)": own_cross - cross.allocation({second: BUDGET}),
            "one candidate, two languages (null)": correct[first].mean(1) - correct[second].mean(1),
            "H4 gain of a language": coverage_of_allocation(correct, {first: 2, second: 2}) - covered,
            "vote against reward": voted - own_cross,
            "Shapley value": cross.shapley(BUDGET)[:, 0],
        },
        arms={"alone": own_cross} | pairs,
        mixed=Contest.of(weak, correct).shares(budgets),
        alone=best_of_k(strong, spoilt, budgets=budgets),
        budgets=np.asarray(budgets, float),
    )


def check(
    accuracies: Sequence[float] = ACCURACIES,
    problems: Sequence[int] = PROBLEMS,
    studies: int = 400,
    replicates: int = 1000,
    seed: int = 3,
) -> pl.DataFrame:
    """Coverage, false rejections and width of every figure.

    Returns:
        One row per accuracy, number of problems and figure; columns as in SCHEMA.
    """
    rows = []
    for accuracy in accuracies:
        people = population(accuracy)
        for n in problems:
            index = np.random.default_rng(seed).integers(0, len(people.mixed), (n, studies))
            for name, truth, low, high, rejected, table in _studies(people, index, replicates):
                held = (low <= truth + 1e-12) & (truth <= high + 1e-12)
                width, wide, usual = float(np.mean(high - low)), None, None
                if accuracy == LAB and table is not None and "seeds" not in name:
                    wide, usual = _beside_plain(table, high - low, truth)
                few = None if table is None else float((effective_number(table, np.median(table, 0)) < FEW).mean())
                truth = float(np.mean(truth))
                rows.append((accuracy, n, name, truth, held.mean(), rejected, width / 2, wide, usual, few, len(low)))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def _beside_plain(table: Array, width: Array, truth: Array | float, studies: int = PLAIN) -> tuple[float, float]:
    """Mean width over that of the plain bootstrap, and how often the latter holds the truth, on the first studies."""
    plain = bootstrap((table[:, :studies],), np.mean, axis=0, n_resamples=1000, batch=50, method="BCa", rng=0)
    low, high = plain.confidence_interval
    usual = np.isfinite(high - low)
    right = np.broadcast_to(truth, width.shape)[:studies]
    ratio = width[:studies][usual].mean() / (high - low)[usual].mean()
    return float(ratio), float(((low <= right) & (right <= high)).mean())


def _studies(
    people: Population, index: Array, replicates: int
) -> Iterator[tuple[str, Array | float, Array, Array, float | None, Array | None]]:
    """Per figure its name, truth, ends of the interval in every study, share of false rejections and, if it is a mean
    over problems, the (problems, studies) values.
    """
    for name, values in people.levels.items():
        found = un.mean_interval(values[index], replicates=replicates)
        yield name, values.mean(), found.low, found.high, None, values[index]
    for name, values in people.differences.items():
        table = values[index]
        test = un.paired_difference(table, np.zeros_like(table), replicates=replicates)
        null = float((test.p < 0.05).mean()) if "(null)" in name else None
        yield name, 0.0 if null is not None else values.mean(), test.low, test.high, null, table
    truths, gains = _chosen(people, index)
    test = un.paired_difference(gains, np.zeros_like(gains), replicates=replicates)
    yield "H3 best mix against alone", truths, test.low, test.high, None, gains
    yield "mean over 3 training seeds", *_seeded(people, index, replicates), None, people.levels["best of 4"][index]
    yield "break-even budget", *_break_even(people, index, replicates), None, None


def _chosen(people: Population, index: Array) -> tuple[Array, Array]:
    """(studies,) true gain of the arms that were chosen on other folds, and their (problems, studies) gains."""
    fold = equal_folds(len(index))
    gains, truths = [], []
    for column in index.T:
        arms = {name: Figures(values[column][None, :, None]) for name, values in people.arms.items()}
        best, chosen = best_on_other_folds(arms, fold)
        gains.append(best.of_problems[:, 0] - people.arms["alone"][column])
        share = np.bincount(fold) / len(fold)
        worth = [people.arms[names[0]].mean() - people.arms["alone"].mean() for names in chosen]
        truths.append(share @ np.array(worth))
    return np.array(truths), np.stack(gains, 1)


def _seeded(people: Population, index: Array, replicates: int) -> tuple[float, Array, Array]:
    """Three trainings whose figures differ by 2 points (standard deviation) where there is room."""
    values = people.levels["best of 4"]
    rng = np.random.default_rng(11)
    moves = rng.normal(0, 0.02, (3, index.shape[1])) * 4 * values.mean() * (1 - values.mean())
    table = values[index]
    found = un.mean_interval(
        np.clip(table + moves.mean(0), 0, 1), replicates=replicates, of_seeds=table.mean(0) + moves
    )
    return values.mean(), found.low, found.high


def _break_even(people: Population, index: Array, replicates: int) -> tuple[Array, Array, Array]:
    """The crossing of the two curves; intervals that reach out of the budgets end at the first or the last of them."""
    bottom, top = people.budgets[0], people.budgets[-1]
    found = [break_even(people.mixed[i], people.alone[i], people.budgets, replicates=replicates) for i in index.T]
    low = np.array([bottom if one.low is None else one.low for one in found])
    high = np.array([top if one.high is None else one.high for one in found])
    mixed, alone = (np.repeat(curve.mean(0)[None], 2, 0) for curve in (people.mixed, people.alone))
    return np.full(len(low), break_even(mixed, alone, people.budgets, replicates=100).end), low, high


def as_markdown(table: pl.DataFrame, studies: int) -> str:
    """The table as a page of the report's notes, with the number of studies of each row."""
    lines = [
        "# Do the intervals cover?",
        "",
        f"{studies:,} simulated studies per row: share of 95 % intervals that hold the truth, share of true nulls that "
        "are rejected at 5 %, and half the width of the interval in points. Made by `make coverage`.",
        "",
        *_notes(table),
        "| accuracy | problems | figure | truth | covered % | rejected % | ± points | × plain | plain covers % | "
        "few differ % |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in table.iter_rows(named=True):
        rejected, usual, few = (
            "" if row[name] is None else unsigned(row[name]) for name in ("rejected", "plain_covered", "few")
        )
        wide = row["half_width"]  # of a break-even budget in completions, of all else in accuracy
        half = f"{abs(wide):.2f} completions" if row["figure"] == "break-even budget" else unsigned(wide, 2)
        plain = "" if row["plain"] is None else f"{row['plain']:.2f}"
        lines.append(
            f"| {row['accuracy']} | {row['n_problems']} | {row['figure']} | {row['truth']:.4f} | "
            f"{unsigned(row['covered'])} | {rejected} | {half} | {plain} | {usual} | {few} |"
        )
    return "\n".join(lines) + "\n"


def _notes(table: pl.DataFrame) -> list[str]:
    """Paragraphs on widths and on the rows that cover more than they should, each with an empty line after it."""
    notes = []
    for (n,), rows in table.drop_nulls("plain").group_by("n_problems", maintain_order=True):
        ratio, covers = rows["plain"].to_list(), rows["plain_covered"].to_list()
        note = (
            f"With {n} problems at accuracy {LAB} the intervals are {min(ratio):.2f} to {max(ratio):.2f} times as wide "
            f"(× plain) as those of the plain bootstrap over problems (BCa of SciPy, {PLAIN} studies), which hold the "
            f"truth in {unsigned(min(covers))} to {unsigned(max(covers))} %."
        )
        wider = rows.filter(pl.col("plain") > 1 + TENTH)["plain_covered"].to_list()
        if wider:
            note += (
                f" In the {len(wider)} rows that are wider by more than a tenth it holds the truth in "
                f"{unsigned(min(wider))} to {unsigned(max(wider))} %."
            )
        notes.append(note)
    above = table.filter(pl.col("covered") > 0.99)["few"].drop_nulls().to_list()
    if above:
        notes.append(
            f"Rows above 99 % are those where few problems differ: fewer than {FEW}, weighted by the size of the "
            f"difference, in {unsigned(min(above), 0)} % or more of their studies. A test that rejects where three "
            "problems differ and favour the same side rejects up to 8.9 % of true nulls; one that waits for four "
            "rejects less than 1 % where fewer than 1.7 problems differ on average (numbers of differing problems "
            "after Poisson). And the interval has to admit one unseen difference as large as 1, because no smaller "
            "bound is known. The break-even budget inverts these comparisons and shares their width."
        )
    return [line for note in notes for line in (note, "")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--to", type=Path, default=ROOT / "reports" / "COVERAGE.md")
    given = parser.parse_args()
    table = check(studies=given.studies, replicates=given.replicates)
    given.to.write_text(as_markdown(table, given.studies), "utf8")
    low, high, rejected = table.select(
        low=pl.col("covered").min(), high=pl.col("covered").max(), rejected=pl.col("rejected").max()
    ).row(0)
    print(f"covered {unsigned(low)} to {percent(high)}, nulls rejected at most {percent(rejected)}")


if __name__ == "__main__":
    main()
