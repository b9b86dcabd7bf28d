"""Benchmarks that a study names by one word, and the user's own files in their format.

A set keeps its languages apart in one of three ways: a file per language (the Hub's configurations and splits are such
files), a file per language and level, or one column per language. Which one, and where, is declared in `sets.toml`.
This file knows addresses and columns; `load.py` checks the problems.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from bestofl_lib.languages import LANGUAGES, code_of, english_name, in_order
from bestofl_lib.problems.files import frame, json_lines, match_columns, read_table, read_text
from bestofl_lib.problems.references import references_as_text

QUESTION = ("problem", "query", "m_query", "prompt", "text")  # what others call a question
REFERENCE = ("answer_number", "answer", "gold", "target", "response", "ground_truth", "expected_answer")
COLUMNS = pl.Schema(dict.fromkeys(("problem_id", "language", "question", "reference", "level"), pl.String))


@dataclass(frozen=True)
class ProblemSet:
    """Where a benchmark's files are and how they are laid out; the fields are explained in `sets.toml`."""

    name: str
    hub: str
    file: str
    languages: tuple[str, ...]
    spelled: Mapping[str, str] = field(default_factory=dict)
    levels: tuple[str, ...] = ()
    level: str = ""
    key: str = ""
    columns: bool = False
    family: str = ""
    prefix: str = ""
    digits: int = 3
    variants: bool = False

    def address(self, form: str, code: str, level: str) -> str:
        """Where the questions of one language and level are."""
        return form.format(code=code, name=english_name(code), spelled=self.spelled.get(code, code), level=level)


def _declared() -> dict[str, ProblemSet]:
    content = tomllib.loads(Path(__file__).with_name("sets.toml").read_text("utf8"))
    made = {}
    for name, facts in content.items():
        lists = {key: tuple(value) for key, value in facts.items() if isinstance(value, list)}
        made[name] = ProblemSet(name, **facts | lists)
    return made


SETS: dict[str, ProblemSet] = _declared()


def set_of(problem_id: str) -> ProblemSet | None:
    """The benchmark that a problem's id comes from; None for the lab and for tables of one's own.

    >>> set_of("mgsm-pro-symbolic-0007").name, set_of("mgsm-007").name, set_of("lab-test-0007")
    ('mgsm-pro', 'mgsm', None)
    """
    for one in SETS.values():
        levels = f"({'|'.join(one.levels)})-" if one.levels else ""
        if re.fullmatch(rf"{one.prefix or one.name}-{levels}\d+", problem_id):
            return one
    return None


def read_set(name: str, codes: Sequence[str] | None, folder: Path | None) -> pl.DataFrame:
    """The problems of a benchmark, one row per problem and language, as the files have them.

    Args:
        name: one of SETS.
        codes: languages; by default all that the set has, or the folder.
        folder: where the files are; None: on the Hub.

    Returns:
        Columns of COLUMNS. A problem is known by the set's key, else by its line; where there are levels, they take
        turns, so that the first so many problems hold all levels in equal shares.

    Raises:
        ValueError: the folder has no file of the set, or a file lacks a column.
        OSError: a file cannot be read.
    """
    chosen = SETS[name]
    form = chosen.hub if folder is None else str(folder / chosen.file)
    if folder is not None and codes is None:
        codes = present(folder, chosen)
        if not codes:
            raise ValueError(f"{folder} has no files such as {example(chosen)}")
    return _read(chosen, form, codes or chosen.languages)


def read_files(form: str, codes: Sequence[str]) -> pl.DataFrame:
    """The user's own files, one per language, in which line i is the same problem.

    Args:
        form: their path or address with {language} where the code stands.
        codes: the languages.
    """
    name = Path(form.replace("{language}", "")).stem.strip("-_.") or "own"
    return _read(ProblemSet(name, form, form, tuple(codes), digits=4), form.replace("{language}", "{code}"), codes)


def set_in_folder(folder: Path) -> str:
    """The name of the set whose files are in a folder.

    Raises:
        ValueError: no set's.
    """
    found = next((name for name, one in SETS.items() if present(folder, one)), None)
    if found is None:
        shown = ", ".join(dict.fromkeys(example(one) for one in SETS.values()))
        raise ValueError(f"{folder} has no files such as {shown}; name one file, or a folder with those")
    return found


def present(folder: Path, one: ProblemSet) -> list[str]:
    """The languages whose files are in the folder."""
    levels = one.levels or ("",)
    if one.columns:
        here = [folder / one.file.format(level=level) for level in levels]
        names = {name for path in here if path.exists() for name in read_table(path).columns}
        return [code for code in one.languages if one.spelled.get(code, code) in names]
    every = in_order([*LANGUAGES, *one.languages])
    return [c for c in every if any((folder / one.address(one.file, c, level)).exists() for level in levels)]


def example(one: ProblemSet) -> str:
    """The name of this set's file in its first language."""
    return one.address(one.file, one.languages[0], one.levels[0] if one.levels else "")


def questions_in_columns(table: pl.DataFrame, others: Collection[str]) -> dict[str, str]:
    """Columns that are named as languages are ("en", "swa", "Thai", "question_de") -> their code.

    Args:
        table: of which no column is said to hold languages or questions.
        others: names in lower case that mean something else, such as "id", which is Indonesian's code too.
    """
    names = {name: name.lower() for name in table.columns if name.lower() not in others}
    found = {name: code_of(lowered.removeprefix("question_")) for name, lowered in names.items()}
    return {name: code for name, code in found.items() if code is not None}


def melted(table: pl.DataFrame, languages: Mapping[str, str]) -> pl.DataFrame:
    """A table with one column per language as one row per problem and language; questions that are missing give none.

    Args:
        languages: the columns that hold questions -> the code of their language.
    """
    long = table.unpivot(
        list(languages),
        index=[name for name in table.columns if name not in languages],
        variable_name="language",
        value_name="question",
    )
    return long.with_columns(pl.col("language").replace_strict(dict(languages))).filter(
        pl.col("question").is_not_null() & (pl.col("question").cast(pl.String).str.strip_chars() != "")
    )


def _read(one: ProblemSet, form: str, codes: Sequence[str]) -> pl.DataFrame:
    parts = []
    for level in one.levels or ("",):
        if one.columns:
            parts.append(_in_columns(one, form.format(level=level), codes, level))
        else:
            parts += [_of_language(one, one.address(form, code, level), code, level) for code in codes]
    table = pl.concat(parts)
    if one.levels:  # the first problem of each level, then the second
        order = pl.col("language").replace_strict({code: i for i, code in enumerate(codes)})
        rank = pl.col("level").replace_strict({level: i for i, level in enumerate(one.levels)})
        table = table.sort("_line", rank, order, maintain_order=True)
    return table.select(COLUMNS.names())


def _of_language(one: ProblemSet, address: str, code: str, level: str) -> pl.DataFrame:
    return _rows(one, _table(address), address, level).with_columns(language=pl.lit(code)).select(*COLUMNS, "_line")


def _in_columns(one: ProblemSet, address: str, codes: Sequence[str], level: str) -> pl.DataFrame:
    table = _table(address).with_row_index("_row")
    columns = {one.spelled.get(code, code): code for code in codes}
    if absent := [name for name in columns if name not in table.columns]:
        raise ValueError(f"{address} has no column {', '.join(absent)}; it has {', '.join(table.columns[1:])}")
    long = melted(table.select("_row", *columns, *[n for n in table.columns if n in REFERENCE]), columns)
    parts = long.partition_by("language", maintain_order=True)
    return pl.concat([_rows(one, part, address, level).select(*COLUMNS, "_line") for part in parts])


def _rows(one: ProblemSet, table: pl.DataFrame, address: str, level: str) -> pl.DataFrame:
    """The rows of one file as problems, all but their language."""
    known = {"question": QUESTION, "reference": REFERENCE}
    picked = match_columns({}, table, known, known, address)
    if lacking := [name for name in (one.key, one.level) if name and name not in table.columns]:
        raise ValueError(f"{address} has no column {', '.join(lacking)}; it has {', '.join(table.columns)}")
    line = pl.col("_row") if "_row" in table.columns else pl.int_range(pl.len())
    key = pl.col(one.key).cast(pl.String) if one.key else (line + 1).cast(pl.String)
    key = key.str.zfill(one.digits)
    said = pl.col(one.level).cast(pl.String) if one.level else pl.lit(level or None, pl.String)
    kept = [pl.col("language")] if "language" in table.columns else [pl.lit(None, pl.String).alias("language")]
    return table.select(
        pl.concat_str(pl.lit("-".join(filter(None, (one.prefix or one.name, level))) + "-"), key).alias("problem_id"),
        *kept,
        pl.col(picked["question"]).cast(pl.String).alias("question"),
        references_as_text(table, picked["reference"]),
        said.alias("level"),
        line.cast(pl.Int64).alias("_line"),
    )


def _table(address: str) -> pl.DataFrame:
    """The table in a benchmark's file: Parquet, JSON (a list, or one object a line), or TSV with or without a
    header.
    """
    if address.endswith(".json"):
        text = read_text(address)
        if not text.lstrip().startswith("["):
            return frame(json_lines(text, address))
        try:
            return frame(json.loads(text))
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{address}, line {error.lineno}: not JSON ({error.msg}); download the file again"
            ) from error
    if address.endswith(".tsv"):
        return _tab_separated(address)
    return read_table(address)


def _tab_separated(address: str) -> pl.DataFrame:
    lines = [line.rstrip("\r").split("\t") for line in read_text(address).rstrip("\r\n").split("\n")]
    names = [name.strip().lower() for name in lines[0]]
    named = "question" in names
    names = names if named else ["question", "answer"]
    for number, parts in enumerate(lines, 1):
        if len(parts) != len(names):
            expected = f"{len(names)} fields as in its first line" if named else "question TAB answer"
            raise ValueError(f"{address}, line {number}: expected {expected}, found {len(parts)} fields")
    return pl.DataFrame(lines[1:] if named else lines, schema=dict.fromkeys(names, pl.String), orient="row")
