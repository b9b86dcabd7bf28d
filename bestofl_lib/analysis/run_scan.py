"""Scans a stored run: which problems, which candidates of one problem, how many are right, where to look first.

Tables are scanned lazily: a problem's completions are read only when that problem is opened. Returns tables
and counts; the words for them are in `display/`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from bestofl_lib.runs import Run
from bestofl_lib.tables import KEYS

SORTS = ("difficulty", "exclusive", "mistake", "id")  # orders of problems
FILTERS = ("revised", "unreadable", "stray", "disagreement", "mistake")  # columns of `describe_problems`

OWN = "mono"  # every language by the reward model trained on it alone

PAGE = 1_000  # problems in one view of the atlas


def reward_names(models: Iterable[str]) -> list[str]:
    """The reward models to choose from: cross, multi, mono (each language by its own), then all others by name."""
    models = set(models)
    own = [OWN] if any(name.startswith("mono-") for name in models) and OWN not in models else []
    first = [name for name in ("cross", "multi") if name in models]
    return first + own + sorted(models - set(first))


@dataclass(frozen=True)
class Source:
    """The tables of one run, scanned and not read. Make it with `open_run`."""

    run: Run
    split: str | None  # which problems are looked at; None: all
    problems: pl.DataFrame  # one row per problem and language
    readings: pl.LazyFrame
    rewards: pl.LazyFrame | None  # means over training seeds; None: this run has no reward model yet
    rewards_of_seeds: pl.LazyFrame | None  # as stored: one row per training seed
    models: tuple[str, ...]  # as stored
    languages: tuple[str, ...]  # the most accurate first, as in every chart
    cells: pl.DataFrame  # one row per problem and language with candidates; see `count_cells`

    @property
    def reward_models(self) -> list[str]:
        """The reward models to choose from; see `reward_names`."""
        return reward_names(self.models)

    def rewards_by(self, model: str, *, of_seeds: bool = False) -> pl.LazyFrame:
        """One row per candidate: its reward by one model; `mono` takes each language's own.

        Args:
            of_seeds: one row per candidate and training seed instead of the mean over seeds.

        Raises:
            ValueError: this run has no rewards by that model.
        """
        rewards = self.rewards_of_seeds if of_seeds else self.rewards
        if rewards is None or model not in self.reward_models:
            have = ", ".join(self.reward_models) or "none"
            raise ValueError(f"run {self.run.name!r} has no rewards by {model!r}; it has: {have}")
        own = model == OWN and OWN not in self.models
        wanted = pl.concat_str(pl.lit("mono-"), "language") if own else pl.lit(model)
        return rewards.filter(pl.col("reward_model") == wanted)

    def candidates(self) -> pl.LazyFrame:
        """One row per candidate that the run asked for, scanned from its shards."""
        return self.run.store().scan()


def open_run(run: Run | str, split: str | None = "test") -> Source:
    """Look at a run: reads its problems and counts its readings; completions and rewards stay on disk.

    Args:
        run: its name or folder.
        split: which problems; None: all.

    Raises:
        FileNotFoundError: the run, its problems or its readings are missing; says which.
        ValueError: no candidate of that split was read.
    """
    run = Run(run) if isinstance(run, str) else run
    everything = run.read("problems")
    problems = everything if split is None else everything.filter(pl.col("split") == split)
    run.store().check()  # scanned from disk later
    ids = problems.lazy().select("problem_id").unique()
    readings = run.scan("readings").join(ids, on="problem_id", how="semi")
    of_seeds = run.scan("rewards") if run.has("rewards") else None
    rewards = None if of_seeds is None else _over_seeds(of_seeds)
    models = () if of_seeds is None else _models(of_seeds)
    cells = count_cells(problems, readings)
    if cells.is_empty():
        splits = ", ".join(sorted(everything["split"].unique()))
        raise ValueError(f"run {run.name!r} has read no candidates of split {split!r}; its problems are {splits}")
    right = pl.col("n_correct").sum() / pl.col("n").sum()
    best = cells.group_by("language").agg(right=right).sort("right", "language", descending=[True, False])
    return Source(run, split, problems, readings, rewards, of_seeds, models, tuple(best["language"]), cells)


def _models(rewards: pl.LazyFrame) -> tuple[str, ...]:
    return tuple(sorted(rewards.select(pl.col("reward_model").unique()).collect()["reward_model"]))


def _over_seeds(rewards: pl.LazyFrame) -> pl.LazyFrame:
    """One reward per candidate and reward model: the mean over training seeds."""
    if "seed" not in rewards.collect_schema() or rewards.select(pl.col("seed").n_unique()).collect().item() <= 1:
        return rewards
    return rewards.group_by(*KEYS, "reward_model").agg(pl.col("reward").mean())


def count_cells(problems: pl.DataFrame, readings: pl.LazyFrame) -> pl.DataFrame:
    """One row per problem and language: `n`, `n_correct`, `n_unread`, `n_stray` (written in a language known to
    be another), `favourite` (most frequent answer), `is_revised`.

    Problems without any candidate are left out. Two answers equally frequent: the smaller string, so that the table
    does not depend on the order of rows.
    """
    by_answer = readings.group_by("problem_id", "language", "answer").agg(
        pl.len().alias("votes"), pl.col("is_correct").sum().alias("right"),
        (pl.col("trace_language") != pl.col("language")).sum().alias("strays"),
    )  # fmt: skip
    read = pl.col("answer").is_not_null()
    ranked = by_answer.sort("votes", "answer", descending=[True, False], nulls_last=True)
    cells = ranked.group_by("problem_id", "language").agg(
        pl.col("votes").sum().cast(pl.Int32).alias("n"),
        pl.col("right").sum().cast(pl.Int32).alias("n_correct"),
        pl.col("votes").filter(~read).sum().cast(pl.Int32).alias("n_unread"),
        pl.col("strays").sum().cast(pl.Int32).alias("n_stray"),
        pl.col("answer").filter(read).first().alias("favourite"),
    )
    facts = problems.lazy().select("problem_id", "language", "reference", "is_revised")
    return (
        cells.join(facts, on=["problem_id", "language"], how="left")
        .with_columns(pl.col("is_revised").fill_null(False))
        .sort("problem_id", "language")
        .collect()
    )


def count_mistakes(source: Source, model: str) -> pl.DataFrame:
    """One row per problem: `mistaken`, whether the best-rewarded of all its candidates is wrong though one is right.

    Candidates that share the highest reward count as wrong only if all of them are.
    """
    rewards = source.rewards_by(model).select(*KEYS, "reward").filter(pl.col("reward").is_finite())
    best = rewards.group_by("problem_id").agg(pl.col("reward").max())
    top = rewards.join(best, on=["problem_id", "reward"], how="semi")
    chosen = source.readings.select(*KEYS, "is_correct").join(top, on=KEYS, how="semi")
    right = source.cells.group_by("problem_id").agg((pl.col("n_correct").sum() > 0).alias("solved"))
    return (
        chosen.group_by("problem_id")
        .agg(pl.col("is_correct").any().alias("hit"))
        .join(right.lazy(), on="problem_id")
        .select("problem_id", (pl.col("solved") & ~pl.col("hit")).alias("mistaken"))
        .sort("problem_id")
        .collect()
    )


def describe_problems(cells: pl.DataFrame, mistakes: pl.DataFrame | None = None) -> pl.DataFrame:
    """One row per problem: what the atlas sorts and filters by.

    Returns:
        `problem_id`, `share` (of its candidates that are correct), `n_solving` (languages with a correct candidate),
        `exclusive` (the language, where it is only one), `revised`, `unreadable`, `stray`, `disagreement` (the
        languages' favourite answers differ), `mistake` (null without a reward model).
    """
    solving = pl.col("n_correct") > 0
    table = cells.group_by("problem_id").agg(
        (pl.col("n_correct").sum() / pl.col("n").sum()).alias("share"),
        solving.sum().cast(pl.Int32).alias("n_solving"),
        pl.col("language").filter(solving).first().alias("exclusive"),
        pl.col("is_revised").any().alias("revised"),
        (pl.col("n_unread").sum() > 0).alias("unreadable"),
        (pl.col("n_stray").sum() > 0).alias("stray"),
        (pl.col("favourite").drop_nulls().n_unique() > 1).alias("disagreement"),
    )
    table = table.with_columns(pl.when(pl.col("n_solving") == 1).then("exclusive").alias("exclusive"))
    if mistakes is None:
        return table.with_columns(pl.lit(None, pl.Boolean).alias("mistake")).sort("problem_id")
    return table.join(mistakes.rename({"mistaken": "mistake"}), on="problem_id", how="left").sort("problem_id")


def choose_problems(problems: pl.DataFrame, sort: str = "difficulty", filters: Iterable[str] = ()) -> list[str]:
    """Ids of the problems that fulfil all filters, in order.

    Args:
        problems: see `describe_problems`.
        sort: one of SORTS.
        filters: any of FILTERS.

    Raises:
        ValueError: naming a sort or filter that does not exist.
    """
    filters = list(filters)
    for value, known in ((sort, SORTS), *((name, FILTERS) for name in filters)):
        if value not in known:
            raise ValueError(f"no sort or filter {value!r}; known: {', '.join(known)}")
    for name in filters:
        problems = problems.filter(pl.col(name).fill_null(False))
    order: dict[str, list[pl.Expr]] = {
        "difficulty": [pl.col("share")],
        "exclusive": [pl.col("exclusive").is_null(), pl.col("exclusive"), pl.col("share")],
        "mistake": [~pl.col("mistake").fill_null(False), -pl.col("share")],
        "id": [],
    }
    return problems.sort(*order[sort], pl.col("problem_id"))["problem_id"].to_list()


def grid_page(
    cells: pl.DataFrame, problems: pl.DataFrame, order: Sequence[str], languages: Sequence[str], page: int = 0
) -> dict[str, Any]:
    """What one view of the atlas draws.

    Args:
        cells, problems: see `count_cells` and `describe_problems`.
        order: problem ids as `choose_problems` gives them.
        languages: rows, top to bottom.
        page: 0 for the first PAGE problems.

    Returns:
        JSON: `ids`; `n`, `correct`, `unread`, `revised` with one list per language; `mistake`, `exclusive` per problem;
        `rows` with each language's mean share over all problems of `order`; `page`, `pages`, `total`.
    """
    pages = max(1, -(-len(order) // PAGE))
    page = min(max(page, 0), pages - 1)
    ids = list(order[page * PAGE : (page + 1) * PAGE])
    column = {"problem_id": ids, "x": list(range(len(ids)))}
    place = {"language": list(languages), "y": list(range(len(languages)))}
    shown = cells.join(pl.DataFrame(column, schema={"problem_id": pl.String, "x": pl.Int32}), on="problem_id")
    shown = shown.join(pl.DataFrame(place, schema={"language": pl.String, "y": pl.Int32}), on="language")
    at = (shown["y"].to_numpy(), shown["x"].to_numpy())

    def grid(name: str) -> list[list[int]]:
        values = np.zeros((len(languages), len(ids)), int)
        values[at] = shown[name].cast(pl.Int32).to_numpy()
        return values.tolist()

    facts = problems.join(pl.DataFrame(column, schema={"problem_id": pl.String, "x": pl.Int32}), on="problem_id").sort(
        "x"
    )
    rows = cells.filter(pl.col("problem_id").is_in(list(order))) if len(order) < len(problems) else cells
    means = dict(rows.group_by("language").agg(pl.col("n_correct").sum() / pl.col("n").sum()).iter_rows())
    unread = dict(rows.group_by("language").agg(pl.col("n_unread").sum() / pl.col("n").sum()).iter_rows())
    return {
        "ids": ids,
        "n": grid("n"),
        "correct": grid("n_correct"),
        "unread": grid("n_unread"),
        "revised": grid("is_revised"),
        "mistake": [bool(value) for value in facts["mistake"].fill_null(False)],
        "exclusive": facts["exclusive"].to_list(),
        "rows": [{"share": means.get(code, 0.0), "unread": unread.get(code, 0.0)} for code in languages],
        "page": page,
        "pages": pages,
        "total": len(order),
    }


def worth_opening(source: Source, model: str | None = None, limit: int = 8) -> pl.DataFrame:
    """The problems to open first: the reward model's worst mistakes, then those that one language alone solves.

    Args:
        model: a reward model; None: no mistakes are known.

    Returns:
        One row per problem, at most `limit`: `problem_id`, `why`, `share` (of its candidates that are correct),
        `exclusive`.
    """
    problems = describe_problems(source.cells, count_mistakes(source, model) if model else None)
    mistake, alone = pl.col("mistake").fill_null(False), pl.col("exclusive").is_not_null()
    why = pl.when(mistake).then(pl.lit("reward model picks wrong")).when(alone).then(pl.lit("one language only"))
    marked = problems.filter(mistake | alone).with_columns(why=why)
    easy_first = pl.when(mistake).then(-pl.col("share")).otherwise(pl.col("share"))
    return marked.sort(~mistake, easy_first, "problem_id").head(limit).select("problem_id", "why", "share", "exclusive")


def most_telling(source: Source, mistakes: pl.DataFrame | None = None) -> str:
    """The id of the problem to open first: one that some languages solve and others do not, and where the reward model
    is wrong if there is one.

    Args:
        mistakes: of `count_mistakes`, where there is a reward model.
    """
    shares = source.cells.with_columns(share=pl.col("n_correct") / pl.col("n"))
    spread = shares.group_by("problem_id").agg(spread=pl.col("share").std().fill_null(0.0))
    if mistakes is None:
        mistakes = spread.select("problem_id", mistaken=pl.lit(False))
    table = spread.join(mistakes, on="problem_id", how="left")
    wrong = pl.col("mistaken").fill_null(False) & (pl.col("spread") > 0)
    return str(table.sort(~wrong, -pl.col("spread"), "problem_id")["problem_id"][0])


def candidates_of(source: Source, problem_id: str) -> pl.DataFrame:
    """One row per candidate of one problem: its completion, its reading and `rewards` (a list of model and reward).

    Reads only this problem's rows.

    Raises:
        ValueError: no candidate of that problem was asked for.
    """
    here = pl.col("problem_id") == problem_id
    columns = ("completion", "n_tokens", "finish_reason", "logprob", "model", "condition")
    table = (
        source.candidates().filter(here).select(*KEYS, *columns).unique(KEYS, keep="first")
        .join(source.readings.filter(here), on=KEYS, how="left").sort(*KEYS).collect()
    )  # fmt: skip
    if table.is_empty():
        raise ValueError(
            f"run {source.run.name!r} has no candidates of problem {problem_id!r}; choose one in the atlas"
        )
    if source.rewards is None:
        return table.with_columns(
            pl.lit([], pl.List(pl.Struct({"reward_model": pl.String, "reward": pl.Float64}))).alias("rewards")
        )
    rewards = source.rewards.filter(here).select(*KEYS, pl.struct("reward_model", "reward").alias("rewards")).collect()
    return table.join(rewards.group_by(KEYS, maintain_order=True).agg("rewards"), on=KEYS, how="left")


def reward_of(rewards: Iterable[Mapping[str, Any]] | None, model: str, language: str) -> float | None:
    """One candidate's reward by a model (`mono`: by its language's own); None where there is none or it is not
    finite.
    """
    values = {row["reward_model"]: row["reward"] for row in rewards or []}
    value = values.get(model, values.get(f"mono-{language}") if model == OWN else None)
    return value if value is not None and np.isfinite(value) else None


def tally(table: pl.DataFrame, taken: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One entry per answer, most votes first: votes among those drawn and among all; unreadable ones come last."""
    counts = table.group_by("answer").agg(pl.len().alias("all"), pl.col("is_correct").any().alias("correct"))
    drawn: dict[str | None, int] = {}
    for row in taken:
        drawn[row["answer"]] = drawn.get(row["answer"], 0) + 1
    rows = [
        {
            "answer": row["answer"],
            "drawn": drawn.get(row["answer"], 0),
            "all": row["all"],
            "correct": bool(row["correct"]),
        }
        for row in counts.iter_rows(named=True)
    ]
    return sorted(rows, key=lambda r: (r["answer"] is None, -r["drawn"], -r["all"], r["answer"] or ""))


def count_outcomes(source: Source, model: str | None = None) -> dict[str, int | None]:
    """What stands out in a run: numbers of problems.

    Returns:
        `problems`, `solved` (a candidate in some language is correct), `solved_everywhere`, `one_language_only`,
        `disagreement` (the languages' most frequent answers differ), `unreadable` (an answer could not be read),
        `mistake` (the best-rewarded of all candidates is wrong though one is right; None without a reward model).
    """
    problems = describe_problems(source.cells, count_mistakes(source, model) if model else None)
    return {
        "problems": len(problems),
        "solved": int((problems["n_solving"] > 0).sum()),
        "solved_everywhere": int((problems["n_solving"] == len(source.languages)).sum()),
        "one_language_only": int(problems["exclusive"].is_not_null().sum()),
        "disagreement": int(problems["disagreement"].sum()),
        "unreadable": int(problems["unreadable"].sum()),
        "mistake": int(problems["mistake"].fill_null(False).sum()) if model else None,
    }
