"""What the explorer shows of a run: which rows, which numbers, in which order.

Plain functions over the tables of a run folder; the widget in `explorer/` only chooses their arguments. Text that a
model wrote leaves this file as plain strings and as trees of allowed MathML names, never as HTML. Tables are scanned:
a problem's completions are read when that problem is opened and at no other time. Figures and picks come from
`analysis/`; this file knows no estimator and no widget.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import polars as pl
from scipy.special import expit

from bestofl_lib.analysis import estimators, selection, uncertainty
from bestofl_lib.analysis.pool import UNRANKED, Pool
from bestofl_lib.candidates.store import Store
from bestofl_lib.languages import LANGUAGES
from bestofl_lib.runs import Run

Array = np.ndarray
Kept = TypeVar("Kept")
KEYS = ["problem_id", "language", "sample_index"]

STRATEGIES = {
    "best_of_k": "best of k by reward",
    "weighted": "vote weighted by reward",
    "majority": "majority vote",
    "logprob": "log-probability",
    "shortest": "shortest",
    "random": "random",
    "oracle": "oracle (coverage)",
}
NEEDS_REWARD = ("best_of_k", "weighted")
SORTS = {
    "difficulty": "hardest first",
    "exclusive": "solved by one language only first",
    "mistake": "worst reward-model mistakes first",
    "id": "problem id",
}
FILTERS = {
    "revised": "a question was revised",
    "unreadable": "an answer is unreadable",
    "stray": "an answer is in another language",
    "disagreement": "languages disagree",
    "mistake": "reward model picks wrong",
}
OWN = "mono"  # every language by the reward model trained on it alone
LONGEST = 20_000  # characters of a completion sent to the page
PAGE = 1_000  # problems in one view of the atlas
DRAWS = 32  # of a Monte Carlo vote while somebody waits
LARGE = 3_000_000  # rewards read at once; a larger run reads one reward model when it is chosen
_RIGHT_TO_LEFT = {"Arab", "Hebr", "Syrc", "Thaa", "Nkoo", "Adlm"}


# -- languages and rows ------------------------------------------------------------------------------------------------


def describe_language(code: str) -> dict[str, str]:
    """Code, English name, own name and writing direction; a language that the project does not know keeps its code."""
    record = LANGUAGES.get(code)
    if record is None:
        return {"code": code, "name": code, "endonym": "", "dir": "auto"}
    direction = "rtl" if record.script in _RIGHT_TO_LEFT else "ltr"
    return {"code": code, "name": record.name, "endonym": record.endonym, "dir": direction}


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
    rewards: pl.LazyFrame | None  # None: this run has no reward model yet
    models: tuple[str, ...]  # as stored
    languages: tuple[str, ...]
    cells: pl.DataFrame  # one row per problem and language with candidates; see `count_cells`

    @property
    def reward_models(self) -> list[str]:
        """The reward models to choose from; see `reward_names`."""
        return reward_names(self.models)

    def rewards_by(self, model: str) -> pl.LazyFrame:
        """One row per candidate: its reward by one model; `mono` takes each language's own.

        Raises:
            ValueError: this run has no rewards by that model.
        """
        if self.rewards is None or model not in self.reward_models:
            have = ", ".join(self.reward_models) or "none"
            raise ValueError(f"run {self.run.name!r} has no rewards by {model!r}; it has: {have}")
        own = model == OWN and OWN not in self.models
        wanted = pl.concat_str(pl.lit("mono-"), "language") if own else pl.lit(model)
        return self.rewards.filter(pl.col("reward_model") == wanted)

    def candidates(self) -> pl.LazyFrame:
        """One row per candidate that the run asked for, scanned from its shards."""
        store = Store(self.run.folder / "candidates")
        asked = store.asked().lazy()
        if not store.shards():
            raise FileNotFoundError(f"no candidates in {store.folder}; run 01_generate_candidates first")
        rows = pl.scan_parquet(store.shards()).join(asked, on=["problem_id", "language", "draw"])
        return rows.filter(pl.col("sample_index") < pl.col("n"))


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
    if not run.has("readings"):
        run.read("readings")  # says what is missing
    ids = problems.lazy().select("problem_id").unique()
    readings = pl.scan_parquet(run.path("readings")).join(ids, on="problem_id", how="semi")
    rewards = pl.scan_parquet(run.path("rewards")) if run.has("rewards") else None
    models = (
        [] if rewards is None else rewards.select(pl.col("reward_model").unique()).collect()["reward_model"].to_list()
    )
    cells = count_cells(problems, readings)
    if cells.is_empty():
        splits = ", ".join(sorted(everything["split"].unique()))
        raise ValueError(f"run {run.name!r} has read no candidates of split {split!r}; its problems are {splits}")
    present = set(cells["language"].unique())
    languages = (*(code for code in LANGUAGES if code in present), *sorted(present - set(LANGUAGES)))
    return Source(run, split, problems, readings, rewards, tuple(sorted(models)), languages, cells)


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
        `exclusive` (the language, where it is only one), `revised`, `unreadable`, `stray`, `disagreement` (the languages'
        favourite answers differ), `mistake` (null without a reward model).
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


def atlas_page(
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
        One row per problem, at most `limit`: `problem_id`, `why`, `share` (of its candidates that are correct), `exclusive`.
    """
    problems = describe_problems(source.cells, count_mistakes(source, model) if model else None)
    mistake, alone = pl.col("mistake").fill_null(False), pl.col("exclusive").is_not_null()
    why = pl.when(mistake).then(pl.lit("reward model picks wrong")).when(alone).then(pl.lit("one language only"))
    marked = problems.filter(mistake | alone).with_columns(why=why)
    easy_first = pl.when(mistake).then(-pl.col("share")).otherwise(pl.col("share"))
    return marked.sort(~mistake, easy_first, "problem_id").head(limit).select("problem_id", "why", "share", "exclusive")


def say_what_stands_out(source: Source, model: str | None = None) -> list[str]:
    """Sentences with their numbers and denominators, true for whichever run."""
    problems = describe_problems(source.cells, count_mistakes(source, model) if model else None)
    n, solved = len(problems), int((problems["n_solving"] > 0).sum())
    every, alone = (
        int((problems["n_solving"] == len(source.languages)).sum()),
        int(problems["exclusive"].is_not_null().sum()),
    )
    sentences = [
        f"{solved} of {n} problems are solved at least once in some language, {every} in every language, {alone} in one language only.",
        f"In {int(problems['disagreement'].sum())} of {n} problems the languages' most frequent answers differ; "
        f"in {int(problems['unreadable'].sum())} an answer could not be read.",
    ]
    if model:
        missed = int(problems["mistake"].fill_null(False).sum())
        sentences.append(
            f"Given all candidates, reward model {model} picks a wrong one in {missed} of the {solved} problems that were solved."
        )
    return sentences


# -- text, inert -------------------------------------------------------------------------------------------------------

_MATHS = re.compile(
    r"\$\$(?P<display>[^$\n]{1,400}?)\$\$|\\\[(?P<bracket>.{1,400}?)\\\]|\\\((?P<paren>[^\n]{1,400}?)\\\)"
    r"|(?<![\\$\w])\$(?P<inline>[^\s$](?:[^$\n]{0,300}?[^\s$\\])?)\$(?![\d$])",
    re.DOTALL,
)
_MATHML = {
    "math", "mrow", "mi", "mn", "mo", "mtext", "mspace", "mfrac", "msqrt", "mroot", "msub", "msup", "msubsup", "munder", "mover",
    "munderover", "mtable", "mtr", "mtd", "mstyle", "mpadded", "mphantom", "menclose",
}  # fmt: skip
_MATHML_ATTRIBUTES = {
    "display", "mathvariant", "stretchy", "fence", "form", "separator", "lspace", "rspace", "linethickness", "accent",
    "columnalign", "notation", "minsize", "maxsize", "movablelimits",
}  # fmt: skip
_MOST_MATHS = 40  # formulas typeset in one text; the rest stays as written
_CONTROLS = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"} | {127: "␡"}


def visible(text: str) -> str:
    """The text with control characters shown as their symbols, so that none acts (␛ for escape)."""
    return text.replace("\r\n", "\n").translate(_CONTROLS)


def segments(text: str, start: int | None = None, end: int | None = None) -> list[dict[str, Any]]:
    """A completion cut for display.

    Args:
        text: as stored.
        start, end: the span that was read, in characters of `text`; None: nothing was read.

    Returns:
        Pieces in order, each `{"text": …}`, or `{"text": source, "math": tree}` with a tree of `[name, attributes,
        children or string]`; `"read": True` marks the span. A text of more than LONGEST characters is cut around the
        span, and the pieces `{"cut": n}` say how many characters are missing.
    """
    start, end = (None, None) if start is None or end is None or start >= end else (max(start, 0), min(end, len(text)))
    low, high = 0, len(text)
    if high > LONGEST:
        middle = (start + end) // 2 if start is not None and end is not None else high
        low = max(0, min(middle - LONGEST // 2, high - LONGEST))
        high = low + LONGEST
    pieces: list[dict[str, Any]] = [{"cut": low}] if low else []

    def plain(begin: int, stop: int) -> None:
        cuts = [begin, *(cut for cut in (start, end) if cut is not None and begin < cut < stop), stop]
        for a, b in pairwise(cuts):
            if a < b:
                read = start is not None and end is not None and start <= a and b <= end
                pieces.append({"text": visible(text[a:b])} | ({"read": True} if read else {}))

    at, made = low, 0
    for match in _MATHS.finditer(text, low, high):
        source = next(value for value in match.groups() if value is not None)
        tree = typeset(source.strip(), bool(match["display"] or match["bracket"])) if made < _MOST_MATHS else None
        if tree is None:
            continue
        made += 1
        plain(at, match.start())
        read = start is not None and end is not None and start < match.end() and match.start() < end
        pieces.append({"text": visible(match[0]), "math": tree} | ({"read": True} if read else {}))
        at = match.end()
    plain(at, high)
    return [*pieces, {"cut": len(text) - high}] if high < len(text) else pieces


@lru_cache(maxsize=4096)
def typeset(latex: str, display: bool = False) -> list[Any] | None:
    """LaTeX as a tree of MathML names `[name, attributes, children or string]`, or None where it is not plain maths.

    Only names and attributes on a short list pass: links, styles and actions never do.
    """
    from latex2mathml.converter import convert_to_element

    try:
        return _tree(convert_to_element(latex, display="block" if display else "inline"))
    except (
        Exception
    ):  # the converter raises whatever its parser meets (KeyError, RecursionError, its own); then the source is shown
        return None


def _tree(element: Any) -> list[Any] | None:
    if element.tag not in _MATHML:
        return None
    attributes = {name: value for name, value in element.attrib.items() if name in _MATHML_ATTRIBUTES}
    if not len(element):
        return [element.tag, attributes, _character(element.text or "")]
    children = [_tree(child) for child in element]
    return None if any(child is None for child in children) else [element.tag, attributes, children]


def _character(text: str) -> str:
    """The converter writes symbols as character references (`&#x000D7;`); other text stays as it is."""
    return visible(
        re.sub(r"&#x([0-9A-Fa-f]{1,6});", lambda m: chr(int(m[1], 16)) if int(m[1], 16) < 0x110000 else m[0], text)
    )


# -- one problem -------------------------------------------------------------------------------------------------------


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
    """One candidate's reward by a model (`mono`: by its language's own); None where there is none or it is not finite."""
    values = {row["reward_model"]: row["reward"] for row in rewards or []}
    value = values.get(model, values.get(f"mono-{language}") if model == OWN else None)
    return value if value is not None and np.isfinite(value) else None


def shifted(pool: Pool, model: str | None, offsets: Mapping[str, float]) -> Pool:
    """The pool with an offset added to the rewards that one model gives to each language."""
    moved = {code: offset for code, offset in offsets.items() if offset and code in pool.languages}
    if model is None or not moved:
        return pool
    rewards = {name: dict(tables) for name, tables in pool.rewards.items()}
    for code, offset in moved.items():
        name = f"mono-{code}" if model == OWN and OWN not in rewards else model
        if code in rewards.get(name, {}):
            rewards[name][code] = rewards[name][code] + offset
    return replace(pool, rewards=rewards, _cache={})


def explain(taken: Sequence[Mapping[str, Any]], chosen: Mapping[str, Any], strategy: str) -> str:
    """Why a strategy picked this one of the candidates drawn, in words and numbers.

    Args:
        taken: the candidates drawn: `answer`, `is_correct`, `reward` (None where it was set aside), `logprob`, `n_tokens`
            (None where unknown: then lengths count), `completion`, `where` (such as "de #3").
        chosen: the one that was picked.
        strategy: one of STRATEGIES.
    """
    if strategy == "random":
        return f"one of {len(taken)} at random"
    if strategy == "oracle":
        right = sum(bool(row["is_correct"]) for row in taken)
        return f"{right} of {len(taken)} are correct" if right else f"none of {len(taken)} is correct"
    if strategy in ("majority", "weighted"):
        weigh = (
            (lambda row: 0.0 if row["reward"] is None else expit(row["reward"]))
            if strategy == "weighted"
            else (lambda row: 1)
        )
        sums: dict[str, float] = {}
        for row in taken:
            if row["answer"] is not None:
                sums[row["answer"]] = sums.get(row["answer"], 0) + float(weigh(row))
        mine = sums.pop(chosen["answer"])
        tied = sum(abs(total - mine) < 1e-9 for total in sums.values())
        shown = "{:.2f}" if strategy == "weighted" else "{:.0f}"
        what = f"{shown.format(mine)} {'of ' + shown.format(mine + sum(sums.values()))} votes for {chosen['answer']}"
        if tied:
            return f"{what}; {tied + 1} answers tie, one at random"
        return what + (f"; next {shown.format(max(sums.values()))}" if sums else "")
    counted = all(row["n_tokens"] is not None for row in taken)
    measure, label, sign, shown = {
        "best_of_k": (lambda row: row["reward"], "highest reward", 1, "{:.2f}"),
        "logprob": (lambda row: row["logprob"], "highest log-probability", 1, "{:.2f}"),
        "shortest": (
            lambda row: row["n_tokens"] if counted else len(row["completion"]),
            f"fewest {'tokens' if counted else 'characters'}", -1, "{:.0f}",
        ),
    }[strategy]  # fmt: skip
    mine = measure(chosen)
    if mine is None:
        return f"none of {len(taken)} has a usable reward, one at random"
    tied = sum(measure(row) == mine for row in taken) - 1
    rest = [row for row in taken if measure(row) not in (mine, None)]
    what = f"{label}, {shown.format(mine)}"
    if tied:
        return f"{what}; {tied + 1} tie, one at random"
    if not rest:
        return f"{what}; the only one"
    follower = max(rest, key=lambda row: sign * measure(row))
    return f"{what}; next {follower['where']} with {shown.format(measure(follower))}"


def problem_view(
    source: Source,
    problem_id: str,
    *,
    allocation: Mapping[str, int],
    seed: int = 0,
    reward_model: str | None = None,
    offsets: Mapping[str, float] | None = None,
    table: pl.DataFrame | None = None,
) -> dict[str, Any]:
    """Everything the problem view shows, as JSON.

    Args:
        allocation: completions per language.
        seed: of the draw.
        reward_model: that best-of-k and the weighted vote go by.
        offsets: added to the rewards of a language.
        table: the problem's rows where they were read before (see `candidates_of`).

    Returns:
        `reference`; `columns` (one per language: question, counts, `cards`); `picks` (one per strategy); `votes`.
    """
    table = candidates_of(source, problem_id) if table is None else table
    questions = {
        row["language"]: row for row in source.problems.filter(pl.col("problem_id") == problem_id).iter_rows(named=True)
    }
    offsets = offsets or {}
    pool, trouble = _one_problem(table, reward_model, offsets)
    available = {code: int((table["language"] == code).sum()) for code in source.languages}
    allocation = {code: min(k, available[code]) for code, k in allocation.items() if min(k, available.get(code, 0))}
    drawn = set()
    if pool and allocation:
        drawn = set(selection.drawn(pool, allocation, seed).select("language", "sample_index").iter_rows())
    cards: dict[tuple[str, int], dict[str, Any]] = {}
    taken: dict[tuple[str, int], dict[str, Any]] = {}
    for row in table.iter_rows(named=True):
        code, at = row["language"], (row["language"], row["sample_index"])
        reward = reward_of(row["rewards"], reward_model, code) if reward_model else None
        reward = None if reward is None else reward + offsets.get(code, 0.0)
        cards[at] = _card(row, reward, at in drawn)
        if at in drawn:
            taken[at] = row | {"reward": reward, "where": f"{code} #{row['sample_index']}"}
    picks = []
    for strategy, label in STRATEGIES.items():
        if strategy in NEEDS_REWARD and not reward_model:
            continue
        chosen, why = None, trouble or "nothing was drawn; give a language a completion"
        if pool and taken:
            chosen, why = _pick(
                pool, allocation, strategy, reward_model if strategy in NEEDS_REWARD else None, seed, taken
            )
        entry: dict[str, Any] = {"strategy": strategy, "label": label, "why": why, "card": None}
        if chosen is not None:
            cards[chosen]["picked"].append(strategy)
            row = taken[chosen]
            entry |= {
                "card": cards[chosen]["id"], "language": row["language"], "where": row["where"], "answer": row["answer"],
                "correct": bool(row["is_correct"]),
            }  # fmt: skip
        picks.append(entry)
    columns = []
    for code in source.languages:
        mine = [card for (language, _), card in cards.items() if language == code]
        question = questions.get(code, {})
        columns.append({
            "language": code,
            "question": segments(question.get("question") or ""),
            "revised": bool(question.get("is_revised", False)),
            "n": len(mine),
            "correct": sum(card["correct"] for card in mine),
            "unread": sum(not card["read"] for card in mine),
            "drawn": sum(card["drawn"] for card in mine),
            "cards": sorted(mine, key=lambda card: (not card["drawn"], -(card["reward"] or 0.0), card["index"])),
        })  # fmt: skip
    return {
        "id": problem_id,
        "reference": next((row["reference"] for row in questions.values()), None),
        "columns": columns,
        "picks": picks,
        "votes": tally(table, list(taken.values())),
        "n_drawn": len(taken),
        "n": len(table),
    }


def _one_problem(table: pl.DataFrame, model: str | None, offsets: Mapping[str, float]) -> tuple[Pool | None, str]:
    """The pool of one problem's candidates, or None and the reason why there is none."""
    rewards = table.select(*KEYS, "rewards").explode("rewards").drop_nulls("rewards").unnest("rewards")
    rewards = rewards.with_columns(
        pl.col("reward").fill_null(UNRANKED)
    )  # set aside here; other problems may have rewards
    try:
        return shifted(Pool.of(table, table, rewards, split=None), model, offsets), ""
    except ValueError as error:
        return None, str(error)


def _pick(
    pool: Pool,
    allocation: Mapping[str, int],
    strategy: str,
    model: str | None,
    seed: int,
    taken: Mapping[tuple[str, int], Mapping[str, Any]],
) -> tuple[tuple[str, int] | None, str]:
    try:
        found = selection.picks(pool, allocation, strategy, model, seed)
    except ValueError as error:
        return None, str(error)
    if found.is_empty():
        return None, "no answer among those drawn could be read"
    row = found.row(0, named=True)
    at = (row["language"], row["sample_index"])
    if strategy == "oracle" and not row["is_correct"]:
        return None, explain(list(taken.values()), taken[at], strategy)
    return at, explain(list(taken.values()), taken[at], strategy).replace(" -", " −")


def _card(row: Mapping[str, Any], reward: float | None, drawn: bool) -> dict[str, Any]:
    code = row["language"]
    return {
        "id": f"{code}-{row['sample_index']}", "index": row["sample_index"], "drawn": drawn, "picked": [],
        "pieces": segments(row["completion"], row["start"], row["end"]), "length": len(row["completion"]),
        "answer": row["answer"], "rule": row["rule"], "note": row["note"] or "",
        "correct": bool(row["is_correct"]), "read": row["answer"] is not None,
        "reward": reward, "rewards": [[r["reward_model"], _finite(r["reward"])] for r in _in_order(row["rewards"], code)],
        "logprob": _finite(row["logprob"]), "tokens": row["n_tokens"], "finish": row["finish_reason"],
        "condition": row["condition"], "trace": row["trace_language"],
        "strays": row["trace_language"] is not None and row["trace_language"] != code,
    }  # fmt: skip


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


def _finite(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)


def _in_order(rewards: Iterable[Mapping[str, Any]] | None, code: str) -> list[Mapping[str, Any]]:
    order = {"cross": 0, "multi": 1, f"mono-{code}": 2}
    return sorted(rewards or [], key=lambda row: (order.get(row["reward_model"], 3), row["reward_model"]))


# -- what if -----------------------------------------------------------------------------------------------------------


def spread(
    budget: int, languages: Sequence[str], most: Mapping[str, int], weights: Mapping[str, float] | None = None
) -> dict[str, int]:
    """A budget over languages: in proportion to weights (default: equally), whole, at most what each language has.

    Where the budget does not divide, the languages with the largest remainder get one more, the earlier first.

    >>> spread(5, ["en", "sw"], {"en": 16, "sw": 16})
    {'en': 3, 'sw': 2}
    """
    share = {code: 0 for code in languages}
    left = min(budget, sum(most[code] for code in languages))
    weight = {code: 1.0 if weights is None else max(float(weights.get(code, 0.0)), 0.0) for code in languages}
    while left > 0:
        open_ = [code for code in languages if share[code] < most[code]]
        total = sum(weight[code] for code in open_)
        if total == 0:
            weight, total = dict.fromkeys(languages, 1.0), float(len(open_))
        wanted = {code: left * weight[code] / total for code in open_}
        given = {code: min(int(wanted[code] + 1e-9), most[code] - share[code]) for code in open_}
        if not any(given.values()):
            ranked = sorted(open_, key=lambda code: -(wanted[code] - int(wanted[code] + 1e-9)))
            given = {code: 1 for code in ranked[:left]}
        for code, more in given.items():
            share[code] += more
        left -= sum(given.values())
    return share


def move(allocation: Mapping[str, int], code: str, value: int, most: Mapping[str, int]) -> dict[str, int]:
    """The allocation after one slider was moved: the others give or take in proportion, so that the sum stays.

    >>> move({"en": 4, "sw": 2, "th": 2}, "en", 6, {"en": 16, "sw": 16, "th": 16})
    {'en': 6, 'sw': 1, 'th': 1}
    """
    budget = sum(allocation.values())
    others = [other for other in allocation if other != code]
    room = sum(most[other] for other in others)
    value = max(min(value, most[code], budget), budget - room, 0)
    rest = spread(budget - value, others, most, {other: allocation[other] for other in others})
    return {other: value if other == code else rest[other] for other in allocation}


@dataclass(frozen=True)
class Setting:
    """One question to the pool: what if?"""

    languages: tuple[str, ...]  # those that may be given completions
    budget: int  # completions per problem, over all languages
    allocation: dict[str, int] | None  # completions per language; None: equal shares, the odd ones at random
    strategy: str  # one of STRATEGIES
    reward_model: str | None = None
    offsets: dict[str, float] = field(default_factory=dict)  # added to a language's rewards


class Numbers:
    """The pools of one run as arrays, read when a question first needs them; rankings are kept for the next question.

    Args:
        source: see `open_run`.
    """

    def __init__(self, source: Source):
        self.source = source
        self._kept: dict[Any, Any] = {}

    @property
    def most(self) -> dict[str, int]:
        """Per language the candidates that every problem has: what can be allocated to it."""
        n_problems = self.source.cells["problem_id"].n_unique()
        counted = self.source.cells.group_by("language").agg(pl.col("n").min(), pl.len().alias("problems"))
        most = {
            row["language"]: row["n"] if row["problems"] == n_problems else 0 for row in counted.iter_rows(named=True)
        }
        return {code: most[code] for code in self.source.languages}

    def pool(self, model: str | None = None) -> Pool:
        """All candidates; with the rewards of all models, or in a large run of the one asked for.

        Raises:
            ValueError: a candidate without reading, or without a reward that is a number.
        """
        source = self.source
        rows = int(source.cells["n"].sum())
        name = None if rows * max(1, len(source.models)) <= LARGE else model

        def read() -> Pool:
            asked = source.candidates().join(source.readings.select(KEYS), on=KEYS, how="semi")
            candidates = asked.select(*KEYS, "n_tokens", "logprob").unique(KEYS).collect()
            readings = source.readings.select(*KEYS, "answer", "is_correct").collect()
            rewards = None if source.rewards is None or (name is None and rows * len(source.models) > LARGE) else (
                source.rewards if name is None else source.rewards_by(name)
            ).join(source.readings.select(KEYS), on=KEYS, how="semi").collect()  # fmt: skip
            usable = [code for code, n in self.most.items() if n]
            return Pool.of(candidates, readings, rewards, split=None, languages=usable)

        return self.keep(("pool", name), read)

    def ranked(self, model: str | None, offsets: Mapping[str, float]) -> Pool:
        """The same with offsets added to the rewards of each language."""
        moved = tuple(sorted((code, offset) for code, offset in offsets.items() if offset))
        return self.keep(("shifted", model, moved), lambda: shifted(self.pool(model), model, offsets))

    def keep(self, key: Any, make: Callable[[], Kept]) -> Kept:
        """What was computed for this key before, or now; the newest 24 are kept."""
        value = self._kept.pop(key) if key in self._kept else make()
        self._kept[key] = value
        while len(self._kept) > 24:
            self._kept.pop(next(iter(self._kept)))
        return value


def what_if(numbers: Numbers, setting: Setting) -> dict[str, Any]:
    """Accuracy of one setting over all problems, its curve over budgets, and which languages it selects.

    Returns:
        JSON: `accuracy`, `low`, `high` (95 % over problems), `n_problems`, `error` (of a Monte Carlo; null: exact), `lines` (equal
        shares over the languages, and English alone or else the first language: points of budget, accuracy, low, high),
        `oracle` and `random` (at this setting), `selected` (share of problems won per language; null for votes and the oracle),
        `tokens` (expected per problem; null where not stored), `allocation`.

    Raises:
        ValueError: no language, a budget that the pool does not have, or a strategy whose numbers are not stored.
    """
    languages, budget = setting.languages, setting.budget
    if not languages:
        raise ValueError("no language is chosen; choose at least one")
    most = numbers.most
    total, top = sum(most[code] for code in languages), len(languages) * min(most[code] for code in languages)
    if not 1 <= budget <= total:
        raise ValueError(
            f"budget {budget} is outside 1 to {total}, what these languages have; draw more or choose another"
        )
    if setting.allocation is None and budget > top:
        raise ValueError(
            f"equal shares end at a budget of {top} over these languages; lower the budget or move a slider"
        )
    rewarded = setting.strategy in NEEDS_REWARD
    model = setting.reward_model if rewarded else None
    pool = numbers.ranked(model, setting.offsets if rewarded else {})
    allocation = setting.allocation or spread(budget, languages, most)
    budgets = curve_budgets(top, budget if setting.allocation is None else None)
    shares = _arm(numbers, pool, setting, languages, budgets)
    if setting.allocation is None:
        at = budgets.index(budget)
        values, error = shares.accuracy[:, at], float(shares.mc_error[at])
        oracle = selection.arm_values(pool, "+".join(languages), "oracle", None, [budget])
        ceiling = float(oracle.accuracy.mean()) if oracle else None
        weights = dict.fromkeys(languages, 1 / len(languages))
    else:
        values, error = allocated(pool, setting, model)
        correct = {code: pool.is_correct[code] for code in languages}
        ceiling = float(estimators.coverage_of_allocation(correct, allocation).mean())
        weights = {code: allocation[code] / budget for code in languages}
    interval = uncertainty.mean_interval(values)
    lines = [{"name": f"equal shares, {_count(languages)}", "points": _points(budgets, shares.accuracy)}]
    alone = "en" if "en" in pool.languages else languages[0]
    if languages != (alone,):
        own = curve_budgets(most[alone], None)
        lines.append({
            "name": f"{describe_language(alone)['name']} only",
            "points": _points(own, _arm(numbers, pool, setting, (alone,), own).accuracy),
        })  # fmt: skip
    return {
        "accuracy": float(interval.estimate), "low": float(interval.low), "high": float(interval.high),
        "n_problems": pool.n_problems, "error": error or None, "lines": lines, "oracle": ceiling,
        "random": float(guess(pool, weights).mean()), "selected": selected(numbers, pool, setting, model, weights),
        "tokens": _tokens(pool, weights, budget), "allocation": allocation, "equal": setting.allocation is None,
        "budget": budget, "top": top, "total": total,
    }  # fmt: skip


def _arm(
    numbers: Numbers, pool: Pool, setting: Setting, languages: tuple[str, ...], budgets: list[int]
) -> selection.Values:
    """Equal shares over `languages` at many budgets; kept until the ranking changes."""
    rewarded = setting.strategy in NEEDS_REWARD
    model = setting.reward_model if rewarded else None
    moved = (
        tuple(sorted((c, o) for c, o in setting.offsets.items() if o and c in languages and len(languages) > 1))
        if rewarded
        else ()
    )
    key = ("arm", setting.strategy, model, moved, languages, tuple(budgets))
    found = numbers.keep(
        key, lambda: selection.arm_values(pool, "+".join(languages), setting.strategy, model, budgets, draws=DRAWS)
    )
    if found is None:
        what = f"rewards by {model!r}" if model else f"numbers for {STRATEGIES[setting.strategy]!r}"
        raise ValueError(
            f"run {numbers.source.run.name!r} has no {what} in all of {', '.join(languages)}; choose another strategy or model"
        )
    return found


def allocated(pool: Pool, setting: Setting, model: str | None) -> tuple[Array, float]:
    """(problems,) chance to be right with a given allocation, and the error of its mean by Monte Carlo (0: exact)."""
    allocation = {code: k for code, k in (setting.allocation or {}).items() if k}
    if not allocation:
        raise ValueError("the allocation is empty; give a language a completion")
    members, ids = tuple(allocation), pool.problem_ids
    if setting.strategy == "oracle":
        return estimators.coverage_of_allocation(
            {c: pool.is_correct[c] for c in members}, allocation, problem_ids=ids
        ), 0.0
    if setting.strategy == "random":
        return guess(pool, {code: k / setting.budget for code, k in allocation.items()}), 0.0
    answers = {code: pool.answers[code] for code in members}
    if setting.strategy == "majority":
        found = estimators.majority_of_allocation(answers, pool.reference, allocation, DRAWS, problem_ids=ids)
        return found.value, _mean_error(found)
    name = setting.strategy if setting.strategy in ("logprob", "shortest") else str(model)
    if setting.strategy == "weighted":
        rewards = pool.reward(name, members)
        if rewards is None:
            raise ValueError(f"no rewards by {name!r} in all of {', '.join(members)}; choose another reward model")
        weights = {code: selection.vote_weight(values) for code, values in rewards.items()}
        found = estimators.weighted_vote(weights, answers, pool.reference, allocation, DRAWS, problem_ids=ids)
        return found.value, _mean_error(found)
    return selection.contest(pool, name, setting.languages).allocation(allocation), 0.0


def guess(pool: Pool, weights: Mapping[str, float]) -> Array:
    """(problems,) share of correct candidates, languages weighted: what a random choice reaches."""
    used = {code: weight for code, weight in weights.items() if weight}
    return np.sum([weight * np.nanmean(pool.is_correct[code], 1) for code, weight in used.items()], 0)


def _mean_error(estimate: estimators.Estimate) -> float:
    return float(np.sqrt((estimate.standard_error**2).sum()) / len(estimate.value))


def curve_budgets(top: int, also: int | None) -> list[int]:
    """Budgets of a curve up to `top`: dense at first, then two per doubling, and the one asked about.

    >>> curve_budgets(48, 5)
    [1, 2, 3, 4, 5, 6, 8, 11, 16, 23, 32, 45, 48]
    """
    steps = {k for k in (1, 2, 3, 4, 6) if k <= top}
    k = 8.0
    while k <= top:
        steps.add(round(k))
        k *= 2**0.5
    return sorted(steps | ({top} if top else set()) | ({also} if also and also <= top else set()))


def selected(
    numbers: Numbers, pool: Pool, setting: Setting, model: str | None, weights: Mapping[str, float]
) -> list[dict[str, Any]] | None:
    """Per language the share of problems whose chosen candidate comes from it; None for votes and the oracle."""
    languages = setting.languages
    if setting.strategy in ("majority", "weighted", "oracle"):
        return None
    if setting.strategy == "random":
        shares = [weights[code] for code in languages]
    else:
        name = setting.strategy if setting.strategy in ("logprob", "shortest") else str(model)
        moved = tuple(sorted((c, o) for c, o in setting.offsets.items() if o)) if model else ()
        rewards = pool.reward(name, languages)
        if rewards is None:
            return None
        winners = numbers.keep(
            ("winners", name, moved, languages), lambda: estimators.Winners.of(rewards, pool.problem_ids)
        )
        chances = (
            winners.shares(setting.budget) if setting.allocation is None else winners.allocation(setting.allocation)
        )
        shares = chances.mean(0).tolist()
    return [{"language": c, "share": s, "given": weights[c]} for c, s in zip(languages, shares, strict=True)]


def _tokens(pool: Pool, weights: Mapping[str, float], budget: int) -> float | None:
    used = [code for code, weight in weights.items() if weight]
    means = pool.mean_tokens(used)
    return None if means is None else float(budget * sum(weights[c] * means[:, i].mean() for i, c in enumerate(used)))


def _count(languages: Sequence[str]) -> str:
    return f"{len(languages)} languages" if len(languages) > 1 else describe_language(languages[0])["name"]


def _points(budgets: Sequence[int], values: Array) -> list[list[float]]:
    interval = uncertainty.mean_interval(values)
    rows = zip(budgets, interval.estimate, interval.low, interval.high, strict=True)
    return [[int(k), float(mean), float(low), float(high)] for k, mean, low, high in rows]


# -- what was chosen ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class State:
    """The choices of somebody who looks at a run."""

    sort: str  # one of SORTS
    filters: tuple[str, ...]  # some of FILTERS
    page: int  # of the atlas
    problem: str | None
    show: str  # language to bring into view when a problem opens; empty: the first
    tab: str  # "problem" or "what_if"
    seed: int  # of the draw shown in the problem view
    strategy: str
    reward_model: str | None
    languages: tuple[str, ...]  # that the budget is spread over
    budget: int
    allocation: dict[str, int] | None  # None: equal shares
    offsets: dict[str, float]


def first_state(source: Source, most: Mapping[str, int]) -> State:
    """What is shown first: the hardest problems, eight completions in equal shares over all languages."""
    languages = tuple(code for code in source.languages if most[code])
    models = source.reward_models
    equal = len(languages) * min((most[code] for code in languages), default=0)
    return State(
        "difficulty", (), 0, None, "", "problem", 0, "best_of_k" if models else "majority", models[0] if models else None,
        languages, max(1, min(8, equal)), None, {},
    )  # fmt: skip


def restored(old: State | None, first: State, source: Source, most: Mapping[str, int]) -> State:
    """The choices of last time, as far as the run still has what they name; `first` where it was never looked at."""
    if old is None:
        return first
    usable = all(most.get(code) for code in old.languages) and (old.reward_model is None) == (
        first.reward_model is None
    )
    known = old.reward_model is None or old.reward_model in source.reward_models
    enough = old.budget <= sum(most.get(code, 0) for code in old.languages)
    if not (usable and known and enough):
        return first
    problem = old.problem if old.problem in set(source.cells["problem_id"]) else None
    return replace(old, problem=problem)


def next_state(state: State, change: Mapping[str, Any], source: Source, most: Mapping[str, int]) -> State:
    """The choices after one change.

    Args:
        change: one of `sort`, `filters`, `page`, `tab`, `seed`, `strategy`, `reward_model`, `budget` with its new value;
            `problem: [id, language]`; `language: [code, on]`; `slider: [code, completions]`; `offset: [code, value]`;
            `offsets: {}`; `equal: True`.

    Raises:
        ValueError: naming a change that does not exist, or a value that this run does not have.
    """
    for name, value in change.items():
        state = _changed(state, name, value, source, most)
    return state


def _changed(state: State, name: str, value: Any, source: Source, most: Mapping[str, int]) -> State:
    allowed: dict[str, Iterable[str]] = {
        "sort": SORTS, "strategy": STRATEGIES, "tab": ("problem", "what_if"), "reward_model": source.reward_models,
    }  # fmt: skip
    if name in allowed:
        if value not in allowed[name]:
            raise ValueError(f"{name} {value!r} is not to be had; choose one of {', '.join(allowed[name])}")
        return replace(state, page=0 if name == "sort" else state.page, **{name: value})
    if name == "filters":
        return replace(state, filters=tuple(value), page=0)
    if name == "page":
        return replace(state, page=max(int(value), 0))
    if name == "seed":
        return replace(state, seed=max(int(value), 0))
    if name == "problem":
        problem, code = value
        return replace(state, problem=problem, show=code, tab="problem")
    if name == "offsets":
        return replace(state, offsets={code: float(offset) for code, offset in value.items()})
    if name == "offset":
        code, offset = value
        return replace(state, offsets={c: o for c, o in (state.offsets | {code: float(offset)}).items() if o})
    if name == "equal":
        return _within(replace(state, allocation=None), most)
    if name == "budget":
        total = sum(most[code] for code in state.languages)
        budget = max(1, min(int(value), total))
        allocation = None if state.allocation is None else spread(budget, state.languages, most, state.allocation)
        return _within(replace(state, budget=budget, allocation=allocation), most)
    if name == "language":
        code, on = value
        languages = tuple(c for c in source.languages if most[c] and (on if c == code else c in state.languages))
        if not languages:
            return state  # the last language stays
        budget = min(state.budget, sum(most[c] for c in languages))
        allocation = None
        if state.allocation is not None:
            kept = {c: float(state.allocation.get(c, 0)) for c in languages}
            if on:
                kept[code] = max(kept[code], budget / len(languages))
            allocation = spread(budget, languages, most, kept)
        return _within(replace(state, languages=languages, budget=budget, allocation=allocation), most)
    if name == "slider":
        code, k = value
        if code not in state.languages:
            return state
        now = state.allocation or spread(state.budget, state.languages, most)
        return replace(state, allocation=move(now, code, int(k), most))
    raise ValueError(f"nothing is called {name!r} here; see next_state")


def _within(state: State, most: Mapping[str, int]) -> State:
    """Equal shares end where the language with the fewest candidates does; beyond that the budget is allocated by hand."""
    top = len(state.languages) * min(most[code] for code in state.languages)
    if state.allocation is None and state.budget > top:
        return replace(state, allocation=spread(state.budget, state.languages, most))
    return state


def allocation_of(state: State, most: Mapping[str, int]) -> dict[str, int]:
    """Completions per language of one draw; with equal shares the odd ones go to languages that the seed draws."""
    if state.allocation is not None:
        return state.allocation
    order = np.random.default_rng([state.seed, 7]).permutation(len(state.languages))
    shares = spread(state.budget, [state.languages[i] for i in order], most)
    return {code: shares[code] for code in state.languages}


def setting_of(state: State) -> Setting:
    """What `what_if` is asked."""
    return Setting(state.languages, state.budget, state.allocation, state.strategy, state.reward_model, state.offsets)


def describe_state(state: State, most: Mapping[str, int]) -> dict[str, Any]:
    """The choices as JSON, with `most` (completions to be had per language), `total` and `shown` (the sliders' values)."""
    shown = state.allocation or spread(state.budget, state.languages, most)
    total = sum(most[code] for code in state.languages)
    listed = {"filters": list(state.filters), "languages": list(state.languages)}
    return vars(state) | listed | {"most": dict(most), "total": total, "shown": shown}
