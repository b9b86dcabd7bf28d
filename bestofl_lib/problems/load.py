"""Loads problems: the embedded lab, a benchmark named by one word, or tables of your own.

Whatever the source, the result is the same table: one row per problem and language, checked. A data set whose
translations disagree about ids or references is refused with a list, because the error would affect every later figure.
This file knows no model and no candidate.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import polars as pl

from bestofl_lib.languages import LANGUAGES, check_languages, code_of
from bestofl_lib.problems import lab
from bestofl_lib.problems.files import LINE, find, is_remote, match_columns, read_table, read_text
from bestofl_lib.problems.references import (
    check_ids,
    check_one_question_each,
    ids_as_text,
    read_references,
    references_as_text,
    refuse_unread,
)
from bestofl_lib.problems.sets import (
    QUESTION,
    REFERENCE,
    SETS,
    melted,
    questions_in_columns,
    read_files,
    read_set,
    set_in_folder,
)
from bestofl_lib.tables import check_table
from bestofl_lib.text import counted, suggestion

SOURCES = ("lab", *SETS)
MORE = "lab-train:"  # and a number: the lab with so many training problems

COLUMNS = ("problem_id", "language", "question", "reference")  # what a table of your own must have
NAMES = {  # ours -> what others call them
    "problem_id": ("id", "problem_index", "index", "question_id", "idx", "doc_id", "unique_id"),
    "language": ("lang", "question_language", "locale"),
    "question": QUESTION,
    "reference": REFERENCE,
    "split": ("subset",),
    "is_revised": (),
    "level": ("difficulty",),
}


def load(
    source: str,
    languages: Sequence[str] | None = None,
    split: str | None = None,
    limit: int | Mapping[str, int] | None = None,
    folder: str | Path | None = None,
    revised: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    decimal_mark: str = "",
    question_language: str = "",
    answer_kind: str = "",
) -> pl.DataFrame:
    """Problems, one row per problem and language (schema "problems").

    References are read by `numbers/references.py`.

    Args:
        source: "lab"; "lab-train:N", the lab with N training problems instead of its 1,000; a benchmark of `sets.SETS`
            such as "mgsm" or "polymath" (from the Hub, or from `folder`); the path of a folder with a benchmark's
            files; the path or `hf://` address of a table of your own (.tsv, .csv, .jsonl, .parquet), with one question
            per row, or with one column of questions per language, named by its code; or a path or address with
            {language} in it, for one file per language whose lines are the same problems.
        languages: ISO 639-1 codes; by default all that the source has.
        split: "train", "dev" or "test"; by default all that the source has (the benchmarks: test).
        limit: keep the first so many problems of each split, in all languages; or by split, such as
            {"train": 300, "test": 250}: splits that are not named give none.
        folder: where a benchmark's files are, instead of the Hub.
        revised: which of MGSM's questions MGSM-Rev2 replaced: its JSON list of question numbers per language (counted
            from 1), or a folder with its TSV files, or "mgsm-rev2" for the Hub's copy, whose questions are then
            compared; by default `is_revised` is null (the lab: false).
        question_language: take all questions in this language and give them to each of `languages`, which are then
            those of the thinking; the source needs no questions in them.
        columns: for a table of your own: our column -> yours, such as {"question": "prompt"}; usual names are known.
        decimal_mark: "." or ",", where references as text leave in doubt what 1,234 or 18.000 is; the benchmarks write
            ".".
        answer_kind: "number" refuses references that are expressions, "expression" compares numbers as expressions too;
            empty: by the rule in `numbers/references.py`.

    Raises:
        ValueError: naming the rows that make the data unusable: ids twice or not in every language, references that
            cannot be read, could be two numbers or differ between languages, empty questions; an unknown source,
            language, split or column; or an argument that this source has no use for.
        OSError: the source cannot be reached or read.
    """
    codes = check_languages(languages) if languages is not None else None
    if question_language:
        one = load(
            source, [question_language], split, limit, folder, revised, columns, decimal_mark, answer_kind=answer_kind
        )
        codes = codes or [question_language]
        each = pl.DataFrame({"language": codes}, schema={"language": pl.String})
        return check_table("problems", one.drop("language").join(each, how="cross", maintain_order="left_right"))
    per_language = "{language}" in source
    own = (
        source not in SOURCES
        and not source.startswith(MORE)
        and not per_language
        and (is_remote(source) or find(source).is_file())
    )
    unused = {
        "columns": bool(columns) and not own,
        "folder": folder is not None and source not in SETS,
        "decimal_mark": decimal_mark == "," and not (own or per_language),  # the benchmarks write "."
    }
    for name in (name for name, is_so in unused.items() if is_so):
        raise ValueError(f"{source} has no use for `{name}`; leave it out")
    table = _read_source(source, codes, folder, columns or {}, own)
    if revised is not None:
        table = _mark_revised(table, revised)
    if codes is not None:
        absent = [code for code in codes if code not in set(table["language"])]
        if absent:
            have = ", ".join(table["language"].unique().sort())
            raise ValueError(f"{source} has no problems in {', '.join(absent)}; it has {have}")
        table = table.filter(pl.col("language").is_in(codes))
    table = check_problems(table, decimal_mark=decimal_mark if own or per_language else ".", answer_kind=answer_kind)
    if split is not None:
        if split not in set(table["split"]):
            raise ValueError(f"{source} has no split {split!r}; it has {', '.join(table['split'].unique().sort())}")
        table = table.filter(pl.col("split") == split)
    return first_problems(table, limit) if limit is not None else table


def _read_source(
    source: str, codes: list[str] | None, folder: str | Path | None, columns: Mapping[str, str], own: bool
) -> pl.DataFrame:
    """The problems of a source, unchecked."""
    if source == "lab" or source.startswith(MORE):
        return lab.problems(codes or lab.languages(), more=_number_of(source) if source != "lab" else 0)
    if source in SETS:
        return read_set(source, codes, find(folder) if folder is not None else None)
    if "{language}" in source:
        if codes is None:
            raise ValueError(f"{source}: say which languages it has, such as languages=['en', 'sw']")
        return read_files(source if is_remote(source) else str(find(source)), codes)
    if not is_remote(source) and find(source).is_dir():
        return read_set(set_in_folder(find(source)), codes, find(source))
    if own:
        return _own(source, columns)
    raise ValueError(
        f"no problems at {source!r}; {suggestion(source, SOURCES)}expected {', '.join(SOURCES)}, an existing file or "
        "folder, or hf://…"
    )


def first_problems(table: pl.DataFrame, limit: int | Mapping[str, int]) -> pl.DataFrame:
    """The first `limit` problems of each split, in all languages, in the order of the table.

    Raises:
        ValueError: nothing would be left.
    """
    first = table.select("split", "problem_id").unique(maintain_order=True)
    wanted = dict(limit) if isinstance(limit, Mapping) else dict.fromkeys(first["split"], limit)
    rank = pl.int_range(pl.len()).over("split")
    kept = first.filter(rank < pl.col("split").replace_strict(wanted, default=0, return_dtype=pl.Int64))
    if kept.is_empty():
        splits = ", ".join(first["split"].unique().sort())
        raise ValueError(f"limit {limit} leaves no problem of the splits {splits}; use 1 or more, or none at all")
    return table.filter(pl.col("problem_id").is_in(kept["problem_id"].implode()))


def check_problems(
    table: pl.DataFrame, parallel: bool = True, decimal_mark: str = "", answer_kind: str = ""
) -> pl.DataFrame:
    """The table with NFC questions and canonical references, sorted as it came; or an error that lists what is wrong.

    Args:
        table: the columns of the schema "problems"; split and is_revised may be missing.
        parallel: whether every problem must be there in every language.
        decimal_mark: of references as text, see `numbers/references.py`.
        answer_kind: as in `load`.

    Raises:
        ValueError: listing up to ten rows of the first kind of fault that there is.
    """
    if table.is_empty():
        raise ValueError("the source holds no problem")
    if "split" not in table.columns:
        table = table.with_columns(split=pl.lit("test"))
    if "is_revised" not in table.columns:
        table = table.with_columns(is_revised=pl.lit(None, pl.Boolean))
    if set(COLUMNS) <= set(table.columns):  # else check_table says what is missing
        table = table.with_columns(ids_as_text(table), references_as_text(table))
        check_ids(table)
        check_one_question_each(table)
        for column in ("language", "question", "reference", "split"):
            text = pl.col(column).cast(pl.String)
            _refuse(table.filter(text.is_null() | (text.str.strip_chars() == "")), f"with no {column}")
    table = check_table("problems", table)
    check_languages(table["language"].unique(maintain_order=True))
    _refuse(
        table.filter(~pl.col("split").is_in(["train", "dev", "test"])),
        "with a split other than train, dev and test",
        "split",
    )
    table = read_references(table.with_columns(question=map_texts("question", clean_text)), decimal_mark, answer_kind)
    refuse_unread(table)
    for column, shown, what in (
        ("reference", "stated", "other references in other languages"),
        ("split", "split", "several splits"),
    ):
        several = table.filter(pl.col(column).n_unique().over("problem_id") > 1).sort("problem_id", maintain_order=True)
        _refuse(several, f"with {what}", shown)
    count = table["language"].n_unique()
    partial = table.filter(pl.len().over("problem_id") < count)
    if parallel and len(partial):
        codes = set(table["language"])
        lines = [
            f"  {name} lacks {', '.join(sorted(codes - set(group['language'])))}"
            for (name,), group in list(partial.group_by("problem_id", maintain_order=True))[:10]
        ]
        raise ValueError(
            f"{counted(partial['problem_id'].n_unique(), 'problem')} missing in some language; translate, or leave out "
            "the language or the problem:\n" + "\n".join(lines)
        )
    return check_table("problems", table)


def _number_of(source: str) -> int:
    number = source.removeprefix(MORE)
    if not number.isdecimal() or int(number) < 1:
        raise ValueError(f"{source}: expected a number of training problems, such as {MORE}5000")
    return int(number)


def map_texts(column: str, function: Callable[[str], str | None]) -> pl.Expr:
    """A column of texts through a function of one text, each distinct text only once."""

    def each(texts: pl.Series) -> pl.Series:
        made = {text: function(text) for text in texts.drop_nulls().unique()}
        return pl.Series(texts.name, [made.get(text) for text in texts], pl.String)

    return pl.col(column).map_batches(each, return_dtype=pl.String)


def clean_text(text: str) -> str:
    """The text in NFC, with one kind of line end and no byte order mark or outer space."""
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\ufeff", "")).strip()


def _refuse(rows: pl.DataFrame, what: str, show: str = "question") -> None:
    if rows.is_empty():
        return
    lines = [
        f"  {row['problem_id']} ({row['language']}): {str(row[show])[:80]!r}"
        for row in rows.head(10).iter_rows(named=True)
    ]
    more = f"\n  … and {len(rows) - 10} more" if len(rows) > 10 else ""
    raise ValueError(f"{counted(len(rows), 'problem row')} {what}:\n" + "\n".join(lines) + more)


def _own(source: str, columns: Mapping[str, str]) -> pl.DataFrame:
    table = _with_rows_per_language(read_table(source, numbered=True), columns)
    picked = match_columns(columns, table.drop(LINE), NAMES, COLUMNS, source)
    typed = ("problem_id", "reference")
    chosen = table.select(
        _truth(theirs, table)
        if ours == "is_revised"
        else pl.col(theirs).alias(ours)
        if ours in typed
        else pl.col(theirs).cast(pl.String).alias(ours)
        for ours, theirs in picked.items()
    )
    whole = chosen.schema["problem_id"].is_integer()
    check_ids(chosen.select(ids_as_text(chosen)), source, table[LINE].to_list())
    chosen = chosen.with_columns(ids_as_text(chosen), references_as_text(chosen))
    chosen = chosen.with_columns(language=map_texts("language", lambda name: code_of(name) or name))
    if whole:  # 7 and 12 sort as numbers do
        width = max(len(name) for name in chosen["problem_id"])
        chosen = chosen.with_columns(pl.col("problem_id").str.zfill(width))
    return chosen


def _with_rows_per_language(table: pl.DataFrame, columns: Mapping[str, str]) -> pl.DataFrame:
    """A table with one column of questions per language as one row per problem and language; any other as it is."""
    have = {name.lower() for name in table.columns}
    if have & {"language", *NAMES["language"]} or {"language", "question"} & set(columns):
        return table
    others = {name for names in NAMES.values() for name in names} | {
        *NAMES,
        *(name.lower() for name in columns.values()),
    }
    languages = questions_in_columns(table, others)
    if len(languages) < 2:
        return table
    if "problem_id" not in columns and not have & {"problem_id", *NAMES["problem_id"]}:
        table = table.with_row_index("problem_id", offset=1)
    return melted(table, languages)


def _truth(column: str, table: pl.DataFrame) -> pl.Expr:
    """A column of truth values, in CSV written as text."""
    if table.schema[column] != pl.String:
        return pl.col(column).cast(pl.Boolean).alias("is_revised")
    return pl.col(column).str.to_lowercase().is_in(["true", "1", "yes"]).alias("is_revised")


def _mark_revised(table: pl.DataFrame, revised: str | Path) -> pl.DataFrame:
    """Sets `is_revised` from a list of question numbers per language, or by comparison with the revised questions."""
    if not table["problem_id"].str.contains(r"^mgsm-\d{3}$").all():
        raise ValueError(
            f"`revised` marks the questions of MGSM; these are {table['problem_id'][0]!r} and others; leave it out"
        )
    if str(revised).endswith(".json"):
        content = json.loads(read_text(revised))
        numbers = content.get("replaced", content) if isinstance(content, dict) else {}
        if not any(code in numbers for code in LANGUAGES):
            raise ValueError(f'{revised}: expected question numbers per language, such as {{"de": [3, 13]}}')
        pairs = [(f"mgsm-{number:03d}", code) for code in LANGUAGES for number in numbers.get(code, [])]
    else:
        new = read_set("mgsm-rev2", None, None if revised == "mgsm-rev2" else find(revised))
        both = table.join(new, on=["problem_id", "language"], suffix="_new")
        changed = both.filter(map_texts("question", clean_text) != map_texts("question_new", clean_text))
        pairs = list(changed.select("problem_id", "language").iter_rows())
    marks = pl.DataFrame(pairs, schema={"problem_id": pl.String, "language": pl.String}, orient="row").unique()
    marks = marks.with_columns(is_revised=pl.lit(True))
    return (
        table.drop("is_revised", strict=False)
        .join(marks, on=["problem_id", "language"], how="left", maintain_order="left")
        .with_columns(pl.col("is_revised").fill_null(False))
    )
