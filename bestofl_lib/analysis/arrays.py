"""The stored candidates of a run as arrays: made once from tables, used by everything else in this folder.

It aligns candidates, readings and rewards by key, per language as (problems, candidates), and refuses what does not
fit, by name. It deliberately computes no figure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any, TypeVar

import numpy as np
import polars as pl

from bestofl_lib.analysis.aligned_rewards import seeded_rewards, who
from bestofl_lib.analysis.axes import AXES, on_axis
from bestofl_lib.analysis.uncertainty import resampled_places
from bestofl_lib.answers.doubts import is_doubtful, without_harmless_doubts
from bestofl_lib.languages import PIVOT, in_order
from bestofl_lib.problems.prompts import WORDING
from bestofl_lib.runs import Run
from bestofl_lib.tables import KEYS
from bestofl_lib.text import counted, suggestion

Array = np.ndarray
Kept = TypeVar("Kept")
# numbers that candidates carry themselves, see `CandidateArrays.reward`
MEASURES = ("logprob", "shortest", "arithmetic")
_PER_LANGUAGE = (
    "exists",
    "is_correct",
    "answers",
    "sample_index",
    "tokens",
    "length",
    "logprob",
    "arithmetic",
    "doubtful",
    "is_revised",
)
_JUDGED = ("answer", "note", "is_correct", "trace_language", "false_equations")  # what is used of a reading


class _Once:
    """A value that is made by whoever asks first."""

    def __init__(self) -> None:
        self._lock, self._made = Lock(), False
        self._value: Any = None

    def get(self, make: Callable[[], Any]) -> Any:
        with self._lock:
            if not self._made:
                self._value, self._made = make(), True
            return self._value


@dataclass(frozen=True)
class CandidateArrays:
    """All candidates of a set of problems in several languages.

    Arrays per language are (problems, candidates) with existing candidates first in each row; `exists` says which do.
    """

    problem_ids: tuple[str, ...]
    languages: tuple[str, ...]
    exists: Mapping[str, Array]  # bool
    is_correct: Mapping[str, Array]  # float, NaN where no candidate exists
    answers: Mapping[str, Array]  # float code: 0 the reference, 1, 2, … other answers of the problem, -1 unread, NaN
    sample_index: Mapping[str, Array]  # int, -1 where no candidate exists
    tokens: Mapping[str, Array]  # float, NaN where none exists; all NaN in languages where any is unknown
    length: Mapping[str, Array]  # float characters of the completion, likewise
    logprob: Mapping[str, Array]  # float, likewise
    arithmetic: Mapping[str, Array]  # float, 0 where every written equation holds, else -1; likewise
    doubtful: Mapping[str, Array]  # bool: the reading is missing or carries a note, and may hide another answer
    rewards: Mapping[str, Mapping[str, Array]]  # reward model → language → float, −∞ set aside; of the first seed
    is_revised: Mapping[str, Array]  # (problems,) bool: this language's question was replaced in a revised edition
    n_dropped: int = 0  # problems left out because a language had no candidate for them
    named_base: str | None = None  # the language that others are compared with, if the user named it
    seeds: tuple[int, ...] = ()  # training seeds of the reward models; empty where none were stored
    # rewards as above, of the second seed, the third, …
    other_seeds: tuple[Mapping[str, Mapping[str, Array]], ...] = ()
    # language → wording of the instruction → as `is_correct`, of candidates asked in other words; they are in no figure
    # but the control of H4
    wordings: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)
    _kept: dict[Any, _Once] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        candidates: pl.DataFrame,
        readings: pl.DataFrame,
        rewards: pl.DataFrame | pl.LazyFrame | None = None,
        problems: pl.DataFrame | None = None,
        split: str | None = "test",
        languages: Sequence[str] | None = None,
        drop_incomplete: bool = False,
    ) -> CandidateArrays:
        """Align the tables of a run.

        Args:
            candidates: table `candidates` (completion, n_tokens and logprob may be null or absent); with a column
                `length`, completions are needed only where a reading is in doubt.
            readings: table `readings`; every candidate needs its row.
            rewards: table `rewards`, long; a model may leave out whole languages, but no single candidate of one. A
                null reward (the candidate was set aside) becomes −∞, below all others. Models trained with several
                seeds (column `seed`) must all have the same seeds.
            problems: table `problems`; with it only problems of `split` are kept, and revised questions are known.
            split: which split is judged; None keeps all problems.
            languages: which languages, in this order; by default all there are.
            drop_incomplete: leave out problems for which some language has no candidate, instead of refusing.

        Raises:
            ValueError: no candidates, a candidate without reading, a problem without candidates in some language, or a
                reward that is missing or not finite: each names the first case.
        """
        found = set(candidates["language"].unique())
        chosen = list(languages) if languages else in_order(found)
        absent = [code for code in chosen if code not in found]
        if absent:
            raise ValueError(f"no candidates in {', '.join(absent)}; the pool has {', '.join(sorted(found)) or 'none'}")
        table = _of_split(candidates.filter(pl.col("language").is_in(chosen)), problems, split)
        table, reworded = _reworded(table)
        table = without_harmless_doubts(_with_readings(table, readings), candidates, problems)
        table, n_dropped = _complete(table, chosen, drop_incomplete)
        table = table.sort(KEYS).with_columns(
            place=pl.int_range(pl.len()).over("problem_id", "language"),
            code=pl.when(pl.col("is_correct"))
            .then(0)
            .when(pl.col("answer").is_null())
            .then(-1)
            .otherwise(pl.col("answer").rank("dense").over("problem_id"))
            .cast(pl.Float64),
        )
        ids = table["problem_id"].unique(maintain_order=True).to_list()
        row = {problem: p for p, problem in enumerate(ids)}
        table = table.with_columns(row=pl.col("problem_id").cast(pl.String).replace_strict(row, return_dtype=pl.Int64))
        columns = {code: _columns(table.filter(pl.col("language") == code), len(ids)) for code in chosen}
        aligned: dict[str, Any] = {name: {code: columns[code][name] for code in chosen} for name in columns[chosen[0]]}
        return cls(
            problem_ids=tuple(ids),
            languages=tuple(chosen),
            **seeded_rewards(rewards, table, columns),
            is_revised=_revised(problems, row, chosen),
            n_dropped=n_dropped,
            wordings=_wordings(reworded, readings, row),
            **aligned,
        )

    @property
    def n_problems(self) -> int:
        return len(self.problem_ids)

    @property
    def base(self) -> str:
        """The language that others are compared with: the one named, else the pivot, else the most accurate one."""
        if self.named_base is not None:
            return self.named_base
        if PIVOT in self.languages:
            return PIVOT
        return max(self.languages, key=lambda code: float(np.nanmean(self.is_correct[code])))

    @property
    def by_seed(self) -> tuple[CandidateArrays, ...]:
        """One pool per training seed; this pool alone where there is one seed or none is known."""
        if not self.other_seeds:
            return (self,)
        return self.remember(
            "by_seed",
            lambda: tuple(
                replace(self, rewards=rewards, other_seeds=(), seeds=(seed,), _kept={})
                for seed, rewards in zip(self.seeds, (self.rewards, *self.other_seeds), strict=True)
            ),
        )

    def remember(self, key: Any, make: Callable[[], Kept]) -> Kept:
        """The value for this key, computed at first use and kept: the pool never changes, so neither does what follows
        from it.

        Threads that ask for the same key wait for the first of them.
        """
        return self._kept.setdefault(key, _Once()).get(make)

    @property
    def reference(self) -> Array:
        """(problems,) the code of the right answer: always 0."""
        return np.zeros(self.n_problems, int)

    def n_candidates(self, code: str) -> Array:
        """(problems,) candidates of one language."""
        return self.exists[code].sum(1)

    def fewest(self, code: str) -> int:
        """Candidates that every problem has in this language."""
        return int(self.n_candidates(code).min())

    def members(self, name: str) -> tuple[str, ...]:
        """The languages of a pool's name: a code, "mixed", "mixed-en", "half-en" or codes joined by "+" such as
        "en+th".

        Raises:
            ValueError: an unknown name or language, with what there is.
        """
        if name == "mixed" or self.half(name):
            return self.languages
        if name.startswith("mixed-"):
            without = name.removeprefix("mixed-")
            if without not in self.languages or len(self.languages) == 1:
                raise ValueError(f"pool {name!r} is empty or all there is; languages here: {', '.join(self.languages)}")
            return tuple(code for code in self.languages if code != without)
        codes = tuple(name.split("+"))
        for code in codes:
            if code not in self.languages:
                hint = suggestion(code, [*self.languages, "mixed", f"mixed-{self.base}", f"half-{self.base}"])
                raise ValueError(
                    f"unknown pool {name!r}; {hint}"
                    f"known: {', '.join(self.languages)}, mixed, mixed-{self.base}, half-{self.base}, and languages "
                    "joined by '+'"
                )
        return codes

    def half(self, name: str) -> str | None:
        """The language that gets half of the budget of a pool named "half-<language>"; None for other pools."""
        code = name.removeprefix("half-")
        if code == name:
            return None
        if code not in self.languages or len(self.languages) < 2:
            raise ValueError(f"pool {name!r} needs {code!r} and another language; here: {', '.join(self.languages)}")
        return code

    def largest_budget(self, name: str) -> int:
        """The largest budget that every problem can serve."""
        half, members = self.half(name), self.members(name)
        if half is not None:
            others = [code for code in members if code != half]
            return min(2 * self.fewest(half), 2 * len(others) * min(map(self.fewest, others)) + 1)
        return len(members) * min(self.fewest(code) for code in members)

    def reward(self, model: str, members: Iterable[str]) -> dict[str, Array] | None:
        """Rewards per language by one model, or None where it does not cover them all.

        "mono" is each language's own model (`mono-<language>`); MEASURES are numbers the candidates carry themselves
        (shortest: fewest tokens, or characters where any token count is unknown; arithmetic: every written equation
        holds).
        """
        members = tuple(members)
        if model in ("logprob", "arithmetic"):
            tables = dict(getattr(self, model))
        elif model == "shortest":
            known = all(_known(self.tokens[code], self.exists[code]) for code in members)
            tables = {code: -(self.tokens if known else self.length)[code] for code in members}
        elif model == "mono":
            tables = {c: self.rewards[f"mono-{c}"][c] for c in members if c in self.rewards.get(f"mono-{c}", {})}
        else:
            tables = dict(self.rewards.get(model, {}))
        if any(code not in tables or not _known(tables[code], self.exists[code]) for code in members):
            return None
        return {code: tables[code] for code in members}

    @property
    def reward_models(self) -> tuple[str, ...]:
        """Reward models as the curves name them: "mono" for the models of single languages, then all others."""
        mono = any(self.reward("mono", [code]) for code in self.languages)
        others = [name for name in self.rewards if not name.startswith("mono-")]
        first = [name for name in ("multi", "cross") if name in others]
        return (*(["mono"] if mono else []), *first, *sorted(set(others) - set(first)))

    @property
    def selectors(self) -> tuple[str, str]:
        """The reward models that claims compare, (own, mixed): mono and cross, where the run has one of them.

        Else the first that covers all languages is both: it came with an imported pool, or was made elsewhere, and
        scores every language.
        """
        if {"mono", "cross"} & set(self.reward_models):
            return "mono", "cross"
        covering = [name for name in self.reward_models if self.reward(name, self.languages) is not None]
        one = next((name for name in covering if name != "multi"), None)
        return (one, one) if one else ("mono", "cross")

    def mean_tokens(self, members: Sequence[str]) -> Array | None:
        """(problems, languages) mean generated tokens per completion; None where any count is unknown."""
        if not all(_known(self.tokens[code], self.exists[code]) for code in members):
            return None
        return np.stack([np.nansum(self.tokens[c], 1) / self.n_candidates(c) for c in members], 1)

    def subset(self, problems: Array) -> CandidateArrays:
        """The pool of some problems only, by index or mask."""
        index = np.arange(self.n_problems)[problems]
        part: dict[str, Any] = {
            name: {code: table[index] for code, table in getattr(self, name).items()} for name in _PER_LANGUAGE
        }
        ids = tuple(self.problem_ids[i] for i in index)
        part["wordings"] = {
            code: {name: table[index] for name, table in tables.items()} for code, tables in self.wordings.items()
        }
        return replace(self, problem_ids=ids, **part)._with_rewards(lambda code, table: table[index])

    def resampled(self, rng: np.random.Generator, model: str | None = None) -> CandidateArrays:
        """The pool after drawing each problem's candidates again from those stored, with replacement, per language.

        Only what ranks and judges them is drawn again: `is_correct`, and the rewards of one model.

        Args:
            model: by its name in `reward`; of all others, and of other trainings, no rewards are kept. None: of none.
        """
        places = {code: resampled_places(exists, rng) for code, exists in self.exists.items()}
        right = {code: np.take_along_axis(table, places[code], 1) for code, table in self.is_correct.items()}
        given: dict[str, dict[str, Array]] = {}
        for code, table in ((self.reward(model, self.languages) if model else None) or {}).items():
            drawn = np.take_along_axis(table, places[code], 1)
            given.setdefault(f"mono-{code}" if model == "mono" else str(model), {})[code] = drawn
        return replace(self, is_correct=right, rewards=given, other_seeds=(), _kept={})

    def with_offsets(self, model: str, offsets: Mapping[str, float]) -> CandidateArrays:
        """The pool with an offset per language added to the rewards of one model ("mono": each language's own)."""

        def moved(rewards: Mapping[str, Mapping[str, Array]]) -> dict[str, dict[str, Array]]:
            changed = {name: dict(tables) for name, tables in rewards.items()}
            for code, offset in offsets.items():
                name = f"mono-{code}" if model == "mono" and model not in changed else model
                if code in changed.get(name, {}):
                    changed[name][code] = changed[name][code] + offset
            return changed

        others = tuple(moved(rewards) for rewards in self.other_seeds)
        return replace(self, rewards=moved(self.rewards), other_seeds=others, _kept={})

    def _with_rewards(self, change: Callable[[str, Array], Array]) -> CandidateArrays:
        first, *others = (
            {m: {code: change(code, table) for code, table in tables.items()} for m, tables in rewards.items()}
            for rewards in (self.rewards, *self.other_seeds)
        )
        return replace(self, rewards=first, other_seeds=tuple(others), _kept={})

    def without_revised(self) -> CandidateArrays:
        """The pool without the problems whose question was replaced in any of its languages."""
        return self.subset(~np.any([self.is_revised[code] for code in self.languages], 0))

    def summary(self) -> pl.DataFrame:
        """One row per language: `language`, `n_problems`, `n_dropped` (problems left out because some language has no
        candidate for them), `fewest` and `most` candidates per problem, `accuracy`."""
        return pl.DataFrame(
            [
                (
                    code,
                    self.n_problems,
                    self.n_dropped,
                    self.fewest(code),
                    int(self.n_candidates(code).max()),
                    float(np.nanmean(self.is_correct[code])),
                )
                for code in self.languages
            ],
            schema={
                "language": pl.String,
                "n_problems": pl.Int32,
                "n_dropped": pl.Int32,
                "fewest": pl.Int32,
                "most": pl.Int32,
                "accuracy": pl.Float64,
            },
            orient="row",
        )


def arrays_of_run(
    run: Run,
    unrevised_only: bool = False,
    own_language_only: bool = False,
    split: str = "test",
    base: str = "",
    axis: str = "",
) -> CandidateArrays:
    """The pool of a run folder: its candidates, readings and, where it has them, rewards.

    Candidates that ended in an error are left out. Problems that lack candidates in some language are left out and
    counted in `n_dropped`.

    Args:
        run: with tables `problems`, `readings`, the candidate store and perhaps `rewards`.
        unrevised_only: leave out the problems that a revised edition replaced in any language.
        own_language_only: leave out the candidates that are written in a language known to be another than the one
            asked for (`trace_language` of the readings).
        split: which problems are judged.
        base: the language that others are compared with; empty: the pivot where the pool holds it, else the strongest.
        axis: what `language` is in every figure: "question", "thinking" or "answer"; empty: as the run keeps it.

    Raises:
        ValueError: no such axis, or `base` is not among the pool's languages.
    """
    scored, problems = "dev_rewards" if split == "dev" else "rewards", run.read("problems")
    short = _short_keys(problems)
    rewards = run.scan(scored).with_columns(short) if run.has(scored) else None
    judged = pl.selectors.by_name(*KEYS, *_JUDGED, require_all=False)  # older runs lack some
    readings = run.scan("readings").select(judged).with_columns(short).collect()
    candidates = _slim_candidates(run, readings, axis, short)
    if own_language_only:
        stray = readings.filter(pl.col("trace_language") != pl.col("language").cast(pl.String))
        candidates = candidates.join(stray, on=KEYS, how="anti")
    tables = on_axis(axis, candidates, readings, rewards, problems.with_columns(short))
    del candidates, readings
    arrays = CandidateArrays.of(*tables, split=split, drop_incomplete=True)
    if base and base not in arrays.languages:
        raise ValueError(f"base {base!r} is not a language of this pool; it has {', '.join(arrays.languages)}")
    arrays = replace(arrays, named_base=base or None)
    return arrays.without_revised() if unrevised_only else arrays


def _short_keys(problems: pl.DataFrame) -> list[pl.Expr]:
    """The key's texts as numbers that sort alike: millions of rows are sorted and joined in less memory."""
    return [
        pl.col(name).cast(pl.Enum(problems[name].unique().sort()), strict=False) for name in ("problem_id", "language")
    ]


def _slim_candidates(run: Run, readings: pl.DataFrame, axis: str, short: list[pl.Expr]) -> pl.DataFrame:
    """The candidates without those that ended in an error; of completions their length, and those whose reading is in
    doubt.
    """
    columns = ["n_tokens", "logprob", "condition", "completion", *([f"{axis}_language"] if axis in AXES else [])]
    length = pl.col("completion").str.len_chars().alias("length")
    doubted = readings.filter(is_doubtful(readings) & ~pl.col("is_correct")).select(*KEYS, doubted=pl.lit(True))
    found = []
    for part in run.candidate_parts(["finish_reason", *columns, length]):
        part = part.filter(pl.col("finish_reason").ne_missing("error")).with_columns(short)
        part = part.join(doubted, on=KEYS, how="left", maintain_order="left")
        part = part.with_columns(pl.when("doubted").then("completion").alias("completion"))
        found.append(part.drop("doubted", "finish_reason"))
    return pl.concat(found)


def outside_of_run(run: Run) -> CandidateArrays | None:
    """The candidates of a run's problems that are not judged: of the dev split, else of the training split; None:
    neither.

    Training problems have no rewards: a reward model never scores a problem that it learnt from.
    """
    problems, drawn = run.read("problems"), run.store().asked()["problem_id"].unique()
    for split in ("dev", "train"):
        if problems.filter(pl.col("split") == split)["problem_id"].is_in(drawn.implode()).any():
            return arrays_of_run(run, split=split)
    return None


def _of_split(table: pl.DataFrame, problems: pl.DataFrame | None, split: str | None) -> pl.DataFrame:
    """The candidates of the problems of one split."""
    if problems is not None and split is not None:
        kept = problems.filter(pl.col("split") == split)["problem_id"].unique()
        if not len(kept):
            splits = ", ".join(sorted(problems["split"].unique()))
            raise ValueError(f"no problems in split {split!r}; the table has {splits or 'no rows'}")
        table = table.filter(pl.col("problem_id").is_in(kept.implode()))
    if table.is_empty():
        raise ValueError("no candidates left to analyse; draw some first, or choose another split")
    return table


def _reworded(table: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The candidates asked in the usual words, and those asked in other words."""
    if "condition" not in table.columns:
        return table, table.clear()
    other = table["condition"].str.starts_with(WORDING).fill_null(False)
    return table.filter(~other), table.filter(other)


def _wordings(reworded: pl.DataFrame, readings: pl.DataFrame, row: Mapping[str, int]) -> dict[str, dict[str, Array]]:
    """The field `wordings` of a pool; wordings in which some problem has no candidate are left out."""
    if reworded.is_empty():
        return {}
    known = reworded.filter(pl.col("problem_id").is_in(list(row)))
    table = known.join(readings.select(*KEYS, "is_correct"), on=KEYS, how="inner").sort(KEYS)
    table = table.with_columns(
        row=pl.col("problem_id").replace_strict(row, return_dtype=pl.Int64),
        place=pl.int_range(pl.len()).over("problem_id", "language", "condition"),
    )
    result: dict[str, dict[str, Array]] = {}
    for (code, name), part in table.partition_by("language", "condition", as_dict=True, maintain_order=True).items():
        at = (part["row"].to_numpy(), part["place"].to_numpy())
        if part["row"].n_unique() == len(row):
            result.setdefault(str(code), {})[str(name)] = _placed(
                part["is_correct"], at, (len(row), int(at[1].max()) + 1)
            )
    return result


def _with_readings(table: pl.DataFrame, readings: pl.DataFrame) -> pl.DataFrame:
    """Each candidate's key, numbers and reading."""
    false = pl.col("false_equations") > 0 if "false_equations" in readings.columns else pl.lit(None, pl.Boolean)
    judged = readings.select(
        *KEYS, "answer", "is_correct", doubtful=is_doubtful(readings), arithmetic=-false.cast(pl.Float64)
    )
    table = _slim(table).join(judged, on=KEYS, how="left", validate="1:1")
    unread = table.filter(pl.col("is_correct").is_null())
    if len(unread):
        raise ValueError(
            f"{counted(len(unread), 'candidate')} without a reading, such as {who(unread)}; read them again"
        )
    return table


def _columns(part: pl.DataFrame, n_problems: int) -> dict[str, Array]:
    """The arrays of one language, by field of `CandidateArrays`."""
    at = (part["row"].to_numpy(), part["place"].to_numpy())
    shape = (n_problems, int(at[1].max()) + 1)
    exists, doubtful = np.zeros(shape, bool), np.zeros(shape, bool)
    exists[at], doubtful[at] = True, part["doubtful"].to_numpy()
    return {
        "exists": exists,
        "is_correct": _placed(part["is_correct"], at, shape),
        "answers": _placed(part["code"], at, shape),
        "sample_index": np.nan_to_num(_placed(part["sample_index"], at, shape), nan=-1).astype(int),
        "tokens": _placed(part["n_tokens"], at, shape),
        "length": _placed(part["length"], at, shape),
        "logprob": _placed(part["logprob"], at, shape),
        "arithmetic": _placed(part["arithmetic"], at, shape),
        "doubtful": doubtful,
    }


def _revised(problems: pl.DataFrame | None, row: Mapping[str, int], languages: Sequence[str]) -> dict[str, Array]:
    """Per language (problems,) bool: whether its question was replaced in a revised edition."""
    revised = {code: np.zeros(len(row), bool) for code in languages}
    if problems is not None and "is_revised" in problems.columns:
        marked = problems.filter(pl.col("is_revised") & pl.col("language").is_in(languages))
        for problem, code in marked.select("problem_id", "language").iter_rows():
            if problem in row:
                revised[code][row[problem]] = True
    return revised


def _placed(column: pl.Series, at: tuple[Array, Array], shape: tuple[int, int]) -> Array:
    """The column at its places, NaN elsewhere; all NaN where any value is unknown."""
    array = np.full(shape, np.nan)
    if not column.null_count():
        array[at] = column.cast(pl.Float64).to_numpy()
    return array


def _known(table: Array, exists: Array) -> bool:
    return not np.isnan(table[exists]).any()


def _slim(candidates: pl.DataFrame) -> pl.DataFrame:
    have = candidates.columns
    length = pl.col("completion").str.len_chars() if "completion" in have else pl.lit(None, pl.UInt32)
    length = pl.col("length") if "length" in have else length
    return candidates.select(
        *KEYS,
        n_tokens=pl.col("n_tokens") if "n_tokens" in have else pl.lit(None, pl.Int32),
        logprob=pl.col("logprob") if "logprob" in have else pl.lit(None, pl.Float64),
        length=length,
    )


def _complete(table: pl.DataFrame, languages: Sequence[str], drop: bool) -> tuple[pl.DataFrame, int]:
    """Only problems with candidates in every language, and how many were left out."""
    seen = table.group_by("problem_id").agg(pl.col("language").unique())
    lacking = seen.filter(pl.col("language").list.len() < len(languages)).sort("problem_id")
    if lacking.is_empty():
        return table, 0
    if not drop:
        problem, has = lacking.row(0)
        missing = next(code for code in languages if code not in has)
        raise ValueError(
            f"{len(lacking)} of {len(seen)} problems lack candidates in some language, such as {problem} ({missing}); "
            "draw them, choose fewer languages, or set drop_incomplete=True"
        )
    table = table.join(lacking.select("problem_id"), on="problem_id", how="anti")
    if table.is_empty():
        raise ValueError(f"no problem has candidates in all of {', '.join(languages)}; choose fewer languages")
    return table, len(lacking)
