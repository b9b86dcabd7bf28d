"""Imports completions that were sampled elsewhere: a table of any shape, or the logs of an evaluation tool.

An imported pool becomes a problems table and a candidates table, like those of any other run. Several conditions
(prompts, seeds, decoding settings) of one model count as samples of one language; the language can be that of the
question or that of the thinking. What completions mean is read later: this file knows columns and keys only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from bestofl_lib.candidates.pool_rows import HASH, LENGTH, REWARD, ROW, Texts, pool_rows
from bestofl_lib.candidates.store import PART, Store
from bestofl_lib.languages import check_languages, code_of
from bestofl_lib.problems.load import check_problems, clean_text, first_problems, map_texts
from bestofl_lib.problems.references import read_references, refuse_unread
from bestofl_lib.tables import KEY, SCHEMAS, check_table
from bestofl_lib.text import counted

if TYPE_CHECKING:
    from bestofl_lib.runs import Run

STOPPED = ("stop", "eos", "eos_token", "end_turn", "stop_sequence", "end_of_text", "true")
CUT = ("length", "max_tokens", "max_length", "model_length", "max_new_tokens", "false")
AXES = ("question", "thinking")


@dataclass(frozen=True)
class ImportedPool:
    """Completions made elsewhere, as the tables that every later step reads."""

    problems: pl.DataFrame  # schema "problems": one row per problem and language that has candidates
    # schema "candidates" without the completions, with their `length`; sample_index counts from 0 within problem and
    # language
    rows: pl.DataFrame
    texts: Texts  # the completions of the rows
    rewards: pl.DataFrame  # schema "rewards": those that the pool brings and that were asked for, else no rows
    notes: list[str] = field(default_factory=list)  # what was assumed or set aside, one sentence each

    def parts(self) -> Iterator[pl.DataFrame]:
        """Table `candidates`, some rows at a time."""
        for rows in self.rows.iter_slices(PART):
            yield self.texts.of(rows).select(SCHEMAS["candidates"].names())

    @cached_property
    def candidates(self) -> pl.DataFrame:
        """Table `candidates`, whole."""
        return pl.concat(self.parts())


def read_pool(
    source: str | Path | Sequence[str | Path] | pl.DataFrame,
    *,
    model: str | None = None,
    conditions: Sequence[str] | None = None,
    axis: str = "question",
    language: str | None = None,
    languages: Sequence[str] | None = None,
    columns: Mapping[str, str] | Sequence[str] | None = None,
    rewards: Sequence[str] = (),
    problems: pl.DataFrame | None = None,
    set_aside: bool = False,
    limit: int | None = None,
    decimal_mark: str = "",
    answer_kind: str = "",
) -> ImportedPool:
    """A pool of completions as problems and candidates.

    A file's kind is seen from its ending and content: inspect_ai logs (.eval, .json), samples of lm-evaluation-harness
    (samples_*.jsonl), or a table (.parquet, .jsonl, .csv, .tsv) with one completion per row or a list of them per row.

    Args:
        source: a file, several, a folder that holds some, an `hf://` address of one table, or a table in memory.
        model: which model's completions to take; needed where the pool holds several.
        conditions: which conditions count as samples; by default all.
        axis: "question": the language is that of the question; "thinking": the one the model was made to think in.
        language: ISO 639-1 code of all rows, for a pool that does not say.
        languages: the languages to take; by default all.
        columns: our column -> the pool's, where its names are not known here: {"completion": "txt"} or
            ["completion:txt"]; ours are the keys of `pool_rows.NAMES`, and `reward`, which is a first entry of
            `rewards`.
        rewards: columns of rewards, each a reward model of its own: "score" is named after its column, "rm=score" is
            named rm, and "prm:min" says what becomes of the steps of a process reward model (last, min, mean, max, sum
            or product; the last unless told). Values that are not finite numbers are set aside and counted.
        problems: the problems asked, from `problems.load.load`, for question texts, marks of revised questions and
            references. A pool's id joins `problem_id`; where it is a running number, it counts the problems, from 0 or
            1, whichever agrees with the references.
        set_aside: leave out the problems that lack candidates in some language or whose reference cannot be read,
            and say so in the notes, instead of refusing the pool.
        limit: keep the first so many problems.
        decimal_mark: "." or ",", where references as text leave in doubt what 1,234 or 18.000 is; see
            `numbers/references.py`.
        answer_kind: "number" refuses references that are expressions, "expression" compares numbers as expressions too;
            empty: by the rule.

    Returns:
        The pool. Numbers of candidates per language may differ. Without `problems`, a question that the pool does not
        hold reads "[the pool does not hold the question of problem …]".

    Raises:
        ValueError: naming the rows or columns at fault and the next step: a needed column is missing, an id, language
            or reference is null, a language is unknown, a candidate occurs twice, references disagree between
            languages or with `problems`, several models are there and none was chosen, problems lack languages.
        OSError: the source cannot be read.
    """
    if axis not in AXES:
        raise ValueError(f"unknown axis {axis!r}; use one of: {', '.join(AXES)}")
    notes: list[str] = []
    rows, texts = pool_rows(source, columns or {}, rewards, notes)
    rows = _one_model(rows, model)
    if conditions is not None:
        rows = _some_conditions(rows, conditions)
    rows = _with_languages(rows, axis, language, languages)
    rows = _named(rows, notes)
    _one_question_each(rows, problems is not None)
    rows, problems = _with_problems(rows, problems, set_aside, notes, decimal_mark, answer_kind)
    if limit is not None:
        problems = first_problems(problems, limit)
    rows = rows.join(problems.select("problem_id", "language"), on=["problem_id", "language"], how="semi")
    candidates = _candidates(rows)
    given = _given_rewards(candidates, notes)
    undrawn = check_table("candidates", candidates.with_columns(draw=pl.lit(""), completion=pl.lit("")))
    candidates = undrawn.drop("completion").hstack(candidates.select(ROW, LENGTH))
    candidates = candidates.with_columns(draw=pl.lit(_digest(ImportedPool(problems, candidates, texts, given))))
    counts = candidates.group_by("problem_id", "language").len()["len"]
    fewest, most = min(counts), max(counts)
    notes.append(
        f"{counted(len(candidates), 'candidate')} of {counted(candidates['problem_id'].n_unique(), 'problem')} in "
        f"{counted(candidates['language'].n_unique(), 'language')}, "
        f"{fewest if fewest == most else f'{fewest} to {most}'} each."
    )
    return ImportedPool(problems, candidates, texts, given, notes)


def store_pool(run: Run, pool: ImportedPool) -> int:
    """Puts a pool into a run folder, where the later notebooks find it; the same pool again changes nothing.

    A run holds one pool. A study that imports another one (its file has changed, or `--replace`) takes the place of the
    first, whose rewards are removed; by hand, a second pool is refused. Rewards that the pool brings become the table
    `given_rewards`.

    Returns:
        How many candidates were new to the run's store.

    Raises:
        ValueError: the run holds other candidates.
    """
    store = run.store()
    with store.writing():
        if _holds_others(store, pool):
            if not run.may_replace:
                raise ValueError(
                    f"run {run.name!r} already holds other candidates; a run holds one imported pool: set run = "
                    f"'{run.name}-2' in the parameters cell, or delete {run.folder}"
                )
            run.path("rewards").unlink(missing_ok=True)
        run.write("problems", pool.problems)
        run.write("given_rewards", pool.rewards)
        held, count = store.held().select("draw", *KEY), 0
        for part in pool.parts():
            new = part.join(held, on=["draw", *KEY], how="anti", maintain_order="left")
            store.add_table(new)
            count += len(new)
        store.ask(pool.rows.group_by("problem_id", "language", "draw").agg(n=pl.len()))
    return count


def _holds_others(store: Store, pool: ImportedPool) -> bool:
    """Whether the run's latest candidates are not those of this pool."""
    try:
        asked = store.asked()
    except FileNotFoundError:
        return False
    return set(asked["draw"].unique()) != set(pool.rows["draw"].unique())


# -- from rows to keys -----------------------------------------------------------------------------------------------


def _list(items: Iterable[object], most: int = 10) -> str:
    shown = [str(item) for item in items]
    return ", ".join(shown[:most]) + (f" and {len(shown) - most} more" if len(shown) > most else "")


def _one_model(rows: pl.DataFrame, model: str | None) -> pl.DataFrame:
    if "model" not in rows.columns:
        return rows.with_columns(model=pl.lit(model or "unknown"))
    there = rows.group_by("model").len().sort("len", "model", descending=[True, False], nulls_last=True)
    names = [str(name) for name in there["model"]]
    if model is None:
        if len(names) > 1:
            raise ValueError(f"the pool holds {len(names)} models: {_list(names)}; choose one with model='{names[0]}'")
        return rows
    if model not in names:
        raise ValueError(f"the pool holds no model {model!r}; it holds {_list(names)}")
    return rows.filter(pl.col("model") == model)


def _some_conditions(rows: pl.DataFrame, conditions: Sequence[str]) -> pl.DataFrame:
    there = sorted(rows["condition"].drop_nulls().unique()) if "condition" in rows.columns else []
    absent = [name for name in conditions if name not in there]
    if absent or not conditions:
        raise ValueError(
            f"no condition {_list(absent) or 'was named'}; the chosen model has {_list(there, 30) or 'none'}"
        )
    return rows.filter(pl.col("condition").is_in(list(conditions)))


def _with_languages(
    rows: pl.DataFrame, axis: str, language: str | None, languages: Sequence[str] | None
) -> pl.DataFrame:
    """The column `language` on the chosen axis; the other axis' language goes into the condition where it differs."""
    if language is not None:
        if "language" in rows.columns and rows["language"].null_count() < len(rows):
            raise ValueError(
                "the pool names its languages; leave out `language`, or choose some of them with `languages`"
            )
        rows = rows.with_columns(language=pl.lit(language))
    named = [name for name in ("language", "trace_language") if name in rows.columns]
    rows = rows.with_columns(map_texts(name, lambda text: code_of(text) or text) for name in named)  # German is de
    if "language" not in rows.columns:
        raise ValueError(
            "the pool has no column of languages; name it with columns={'language': '…'}, or give the language of all "
            "rows with language='en'"
        )
    if axis == "thinking" and "trace_language" not in rows.columns:
        raise ValueError(
            "axis 'thinking': the pool does not say in which language the model thought; name the column with "
            "columns={'trace_language': '…'}, or use axis='question'"
        )
    if "trace_language" in rows.columns:
        here, there, words = (
            ("language", "trace_language", "thinking in")
            if axis == "question"
            else ("trace_language", "language", "asked in")
        )
        other = pl.when(pl.col(here) != pl.col(there)).then(pl.format(words + " {}", pl.col(there)))
        condition = pl.col("condition") if "condition" in rows.columns else pl.lit(None, pl.String)
        joined = pl.concat_str(condition, other, separator=", ", ignore_nulls=True)
        rows = rows.with_columns(
            pl.when(joined != "").then(joined).alias("condition"), language=pl.col(here),
            question_language="language", thinking_language="trace_language",
        )  # fmt: skip
    unsaid = rows.filter(pl.col("language").is_null())
    if len(unsaid):
        raise ValueError(
            f"{counted(len(unsaid), 'row')} without a language, the first of problem {unsaid['problem_id'][0]}; "
            "correct them, or give the language of all rows with language='en'"
        )
    check_languages(rows["language"].unique(maintain_order=True))
    if languages is not None:
        chosen = check_languages(languages)
        absent = [code for code in chosen if code not in set(rows["language"])]
        if absent:
            raise ValueError(
                f"the pool has no completions in {_list(absent)}; it has {_list(sorted(rows['language'].unique()), 30)}"
            )
        rows = rows.filter(pl.col("language").is_in(chosen))
    return rows


def _named(rows: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    """Ids as text that sorts as it should, and no candidate twice."""
    whole = rows["problem_id"].str.contains(r"^(0|[1-9]\d*)$").all()  # "01" beside "1" is another problem
    if whole:
        width = max(len(name) for name in rows["problem_id"])
        rows = rows.with_columns(pl.col("problem_id").str.zfill(width))
    key = [name for name in ("problem_id", "language", "condition", "sample_index") if name in rows.columns]
    if "sample_index" in rows.columns:
        twice = rows.filter(rows.select(key).is_duplicated() & pl.col("sample_index").is_not_null())
        if len(twice):
            first = twice.row(0, named=True)
            shown = ", ".join(f"{name} {first[name]!r}" for name in key)
            raise ValueError(
                f"{counted(len(twice), 'row')} with the same key as another row, such as {shown}; remove the copies, "
                "or name what tells them apart with columns={'condition': '…'}"
            )
    copies = int(rows.select(*key, HASH).is_duplicated().sum())  # texts of 64 bits each
    if copies:
        notes.append(
            f"{counted(copies, 'completion')} equal to another one of the same problem, language and condition; each "
            "counts as drawn."
        )
    return rows


def _one_question_each(rows: pl.DataFrame, given: bool) -> None:
    """Refuse two questions under one id in one language; where the problems are given, prompts may differ by
    condition.
    """
    if "question" not in rows.columns:
        return
    key = ["problem_id", "language", *(["condition"] if given and "condition" in rows.columns else [])]
    # streamed: a question stands in each of its rows, and sorting all of them out at once takes their whole memory
    asked = rows.lazy().select(*key, "question").unique(maintain_order=True).collect(engine="streaming")
    asked = asked.drop_nulls("question")
    asked = asked.with_columns(question=map_texts("question", clean_text)).unique(maintain_order=True)
    several = asked.filter(pl.struct(key).is_duplicated()).sort(key, maintain_order=True)
    if len(several):
        first = several.filter(
            pl.struct(key)
            == pl.struct(pl.lit(v, pl.String).alias(n) for n, v in zip(key, several.row(0), strict=False))
        )
        shown = "\n".join(f"  {question[:80]!r}" for question in first["question"].head(5))
        raise ValueError(
            f"{counted(several['problem_id'].n_unique(), 'problem')} with several questions in one language, such as "
            f"{first['problem_id'][0]} ({first['language'][0]}):\n{shown}\nname the column that tells them apart with "
            "columns={'problem_id': '…'}; where prompts differ by condition, give the problems"
        )


def _candidates(rows: pl.DataFrame) -> pl.DataFrame:
    """Candidates in a fixed order (condition, the pool's own index, place in the file), numbered from 0 per
    language.
    """
    rows = rows.with_columns(
        pl.lit(None, dtype).alias(name)
        for name, dtype in (
            ("condition", pl.String), ("sample_index", pl.Int64), ("n_tokens", pl.Int32), ("logprob", pl.Float64),
            ("finish_reason", pl.String), ("question_language", pl.String), ("thinking_language", pl.String),
        )
        if name not in rows.columns
    )  # fmt: skip
    order = ["problem_id", "language", "condition", "sample_index", ROW]
    reason = pl.col("finish_reason").str.to_lowercase()
    return rows.sort(order).with_columns(
        sample_index=pl.int_range(pl.len(), dtype=pl.Int32).over("problem_id", "language"),
        finish_reason=pl.when(reason.is_in(STOPPED))
        .then(pl.lit("stop"))
        .when(reason.is_in(CUT))
        .then(pl.lit("length")),
        seed=pl.lit(None, pl.Int64),
        seconds=pl.lit(None, pl.Float64),
    )


def _given_rewards(candidates: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    """The rewards that came with the pool: one row per candidate and reward model."""
    names = [name for name in candidates.columns if name.startswith(REWARD)]
    long = candidates.select(*KEY, *names).unpivot(
        names, index=list(KEY), variable_name="reward_model", value_name="reward"
    )
    long = long.with_columns(pl.col("reward_model").str.strip_prefix(REWARD), pl.col("reward").cast(pl.Float64))
    for name, missing, count in (
        long.group_by("reward_model", maintain_order=True).agg(pl.col("reward").null_count(), n=pl.len()).iter_rows()
    ):
        if missing == count:
            raise ValueError(f"the pool's reward {name!r} is not a finite number in any row; name another column")
        aside = f", of which {missing:,} are no finite number and are chosen only where nothing else was drawn"
        notes.append(f"Rewards of {name!r} for {count:,} candidates{aside if missing else ''}.")
    return check_table("rewards", long)


def _digest(pool: ImportedPool) -> str:
    """Hash of all that the candidates are, so that another pool, model or axis is another draw."""
    digest = hashlib.sha256()
    shaping = ["problem_id", "language", "sample_index", "model", "condition", "completion", "n_tokens", "logprob"]
    for part in pool.parts():
        for row in part.select(*shaping, "finish_reason").iter_rows():
            digest.update(repr(row).encode("utf8", "replace"))
    return digest.hexdigest()[:16]


# -- the problems behind a pool --------------------------------------------------------------------------------------


def _with_problems(
    rows: pl.DataFrame,
    known: pl.DataFrame | None,
    set_aside: bool,
    notes: list[str],
    decimal_mark: str,
    answer_kind: str,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows with ids as in `known`, and one problem row per problem and language that has candidates."""
    if "reference" not in rows.columns:
        rows = rows.with_columns(reference=pl.lit(None, pl.String))
    if known is not None:
        rows = _joined(rows, read_references(rows, decimal_mark, answer_kind), known, notes)
        same = known.select("problem_id", known_reference="reference").unique("problem_id")
        # beside the rows' own references those of the given problems, which decide what a doubtful mark means
        rows = _with_known(rows.join(same, on="problem_id", how="left"), decimal_mark, answer_kind)
        _refuse_references(
            rows.filter(pl.col("reference") != pl.col("known_reference")), "disagree with the given problems"
        )
        rows = rows.with_columns(reference=pl.col("known_reference"))
    else:
        rows = read_references(rows, decimal_mark, answer_kind)
    _refuse_references(
        rows.filter(
            pl.col("reference").n_unique().over("problem_id") - pl.col("reference").is_null().any().over("problem_id")
            > 1
        ),
        "differ between rows of one problem",
    )
    if rows["stated"].null_count() == len(rows) and rows["reference"].null_count() == len(rows):
        raise ValueError(
            "the pool has no references; name their column with columns={'reference': '…'}, or give the problems that "
            "were asked, such as problems=load('mgsm')"
        )
    rows = _one_reference_each(rows, set_aside, notes)
    rows = _in_every_language(rows, set_aside, notes)

    said = [
        pl.col(name).drop_nulls().first() if name in rows.columns else pl.lit(None, pl.String).alias(name)
        for name in ("question", "level")
    ]
    table = (
        rows.group_by("problem_id", "language")
        .agg(*said, pl.col("reference").first(), pl.col("answer_kind").first())
        .sort("problem_id", "language")
    )
    if known is not None:
        table = table.select("problem_id", "language").join(known, on=["problem_id", "language"], maintain_order="left")
    else:
        blank = table.filter(pl.col("question").is_null() | (pl.col("question").str.strip_chars() == ""))
        if len(blank):
            notes.append(f"{counted(len(blank), 'question')} missing in the pool; give `problems` to have them.")
        table = table.with_columns(
            pl.when(pl.col("question").str.strip_chars() != "")
            .then("question")
            .otherwise(pl.format("[the pool does not hold the question of problem {}]", "problem_id"))
        )
    return rows, check_problems(table)


def _one_reference_each(rows: pl.DataFrame, set_aside: bool, notes: list[str]) -> pl.DataFrame:
    """Rows with their problem's reference; one that no row could be read for is refused or, if asked, set aside."""
    read = pl.col("reference").drop_nulls().first().over("problem_id")
    unread = rows.filter(pl.col("reference").is_null() & pl.col("stated").is_not_null())
    given = rows.with_columns(read)
    without = given.filter(pl.col("reference").is_null())
    if set_aside:
        if len(without):
            notes.append(
                f"Set aside: {counted(without['problem_id'].n_unique(), 'problem')} whose reference is neither one "
                "number nor an expression."
            )
        return given.filter(pl.col("reference").is_not_null())
    if len(unread):
        shown = unread.unique(["problem_id", "language", "stated"], maintain_order=True)
        refuse_unread(shown, "set_aside=True leaves such problems out")
    if len(without):
        _refuse_references(without, "are missing (set_aside=True leaves such problems out)")
    return given


def _with_known(rows: pl.DataFrame, decimal_mark: str, answer_kind: str) -> pl.DataFrame:
    """Rows with their references read, where those of the given problems (`known_reference`) decide doubtful marks and
    the spelling of expressions.
    """
    keys = ["problem_id", "language"]
    own = rows.select(*keys, "reference", "known_reference").unique()
    beside = own.select("problem_id", "language", reference="known_reference").unique()
    read = read_references(pl.concat([own.drop("known_reference"), beside]), decimal_mark, answer_kind)
    read = read.unique(["problem_id", "language", "stated"])
    given = beside.join(read.rename({"reference": "_same"}), left_on=[*keys, "reference"], right_on=[*keys, "stated"])
    given = given.select(*keys, "_same", known="reference")
    read = read.join(given, left_on=[*keys, "reference"], right_on=[*keys, "_same"], how="left")
    read = read.with_columns(_read=pl.coalesce("known", "reference")).drop("known", "reference")
    rows = rows.rename({"reference": "stated"})
    rows = rows.join(read, on=["problem_id", "language", "stated"], how="left", nulls_equal=True, maintain_order="left")
    return rows.rename({"_read": "reference"})


def _joined(rows: pl.DataFrame, read: pl.DataFrame, known: pl.DataFrame, notes: list[str]) -> pl.DataFrame:
    """Rows with the ids of `known`: the same, or numbers that mean the same, or that count them from 0 or 1.

    Args:
        read: the rows with their references read, which decide between 0 and 1.
    """
    ids = known["problem_id"].unique(maintain_order=True)
    rows = _equal_numbers(rows, ids)
    strange = sorted(set(rows["problem_id"]) - set(ids))
    if strange and rows["problem_id"].str.contains(r"^\d+$").all():
        references = dict(known.select("problem_id", "reference").iter_rows())
        tried = []
        for base in (0, 1):
            names = {number: ids[place] for number in strange if 0 <= (place := int(number) - base) < len(ids)}
            renamed = rows.with_columns(pl.col("problem_id").replace_strict(names, default=None))
            agree = renamed["problem_id"].replace_strict(references, default=None) == read["reference"]
            if len(names) == len(strange) and agree.fill_null(True).all():
                if agree.null_count() == len(agree) and base == 0 and len(ids) > len(strange):
                    break  # nothing to tell 0 from 1
                notes.append(f"The pool's problem numbers were taken to count the given problems from {base}.")
                rows, strange = renamed, []
                break
            tried.append(
                f"from {base}: {(~agree).sum():,} references differ, {len(strange) - len(names)} numbers too many"
            )
        if strange:
            raise ValueError(
                f"the pool numbers its problems ({_list(strange, 3)}) and these do not count the {len(ids)} given "
                "problems: " + ("; ".join(tried) or "without references, 0 and 1 as the first cannot be told apart")
            )
    pairs = rows.select("problem_id", "language").unique()
    absent = pairs.join(known, on=["problem_id", "language"], how="anti").sort("problem_id", "language")
    if len(absent):
        named = [f"{problem} ({code})" for problem, code in absent.iter_rows()]
        raise ValueError(
            f"{len(absent):,} of the pool's problems are not among those given: {_list(named)}; given are "
            f"{_list(ids, 3)}"
        )
    return rows


def _equal_numbers(rows: pl.DataFrame, ids: pl.Series) -> pl.DataFrame:
    """Rows whose ids are the given ones with other leading zeros ("7" for "007") under the given ones."""
    if not (ids.str.contains(r"^\d+$").all() and rows["problem_id"].str.contains(r"^\d+$").all()):
        return rows
    bare = {name: name.lstrip("0") or "0" for name in (*ids, *rows["problem_id"].unique())}
    given = {bare[name]: name for name in ids}
    theirs = rows["problem_id"].unique().to_list()
    if len(given) < len(ids) or len({bare[name] for name in theirs}) < len(theirs):
        return rows  # "01" and "1" are two problems
    if not all(bare[name] in given for name in theirs):
        return rows
    return rows.with_columns(pl.col("problem_id").replace_strict({name: given[bare[name]] for name in theirs}))


def _in_every_language(rows: pl.DataFrame, set_aside: bool, notes: list[str]) -> pl.DataFrame:
    codes = set(rows["language"])
    have = rows.group_by("problem_id").agg(pl.col("language").unique()).sort("problem_id")
    partial = have.filter(pl.col("language").list.len() < len(codes))
    if partial.is_empty():
        return rows
    if not set_aside or len(partial) == len(have):
        lacking = [code for row in partial["language"] for code in codes - set(row)]
        counts = ", ".join(f"{code} {lacking.count(code):,}" for code in sorted(set(lacking)))
        shown = _list((f"{name} ({', '.join(sorted(codes - set(row)))})" for name, row in partial.iter_rows()), 5)
        raise ValueError(
            f"{len(partial):,} of {len(have):,} problems have no candidate in some language: {shown}; problems lacking "
            f"by language: {counts}. Choose languages that have them with languages=[…]"
            + ("" if set_aside else ", or leave these problems out with set_aside=True")
        )
    notes.append(f"Set aside: {counted(len(partial), 'problem')} without candidates in every language.")
    return rows.filter(~pl.col("problem_id").is_in(partial["problem_id"].implode()))


def _refuse_references(rows: pl.DataFrame, what: str) -> None:
    if rows.is_empty():
        return
    named = rows.select("problem_id", "language", "stated").unique().sort("problem_id", "language")
    shown = _list(f"{problem} ({code}) {stated!r}" for problem, code, stated in named.iter_rows())
    raise ValueError(f"the pool's references {what}: {shown}")
