"""Reads completions from files of any kind into rows with this project's column names, and refuses impossible values.

Which rows are one candidate, and which problem they answer, is decided in `pools.py`.
"""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from bestofl_lib.candidates import eval_logs
from bestofl_lib.problems.files import (
    LINE,
    FileWarning,
    check_roles,
    find,
    json_lines,
    match_columns,
    place,
    read_table,
    read_text,
)  # fmt: skip
from bestofl_lib.problems.load import clean_text, map_texts
from bestofl_lib.problems.references import check_ids, ids_as_text, references_as_text
from bestofl_lib.text import content_digest, counted, suggestion


@dataclass(frozen=True)
class _Number:
    """What the values of a column of numbers can be."""

    dtype: pl.DataType
    least: float
    most: float
    expected: str


NUMBERS = {
    "n_tokens": _Number(pl.Int32(), 0, 2**31 - 1, "a whole number of tokens, 0 or more"),
    "sample_index": _Number(pl.Int64(), 0, 2**53, "a whole number, 0 or more"),
    "logprob": _Number(pl.Float64(), -1e300, 0.01, "a log-probability, 0 or less"),
}
_REWARDS = _Number(pl.Float64(), -math.inf, math.inf, "a number")
REWARD = "reward:"  # begins the columns of given rewards
WAYS: dict[str, Callable[[pl.Expr], pl.Expr]] = {  # how the steps of a process reward model become one reward
    "last": lambda steps: steps.list.last(),
    "min": lambda steps: steps.list.min(),
    "mean": lambda steps: steps.list.mean(),
    "max": lambda steps: steps.list.max(),
    "sum": lambda steps: steps.list.sum(),
    "product": lambda steps: steps.list.eval(pl.element().product()).list.first(),
}


@dataclass(frozen=True)
class _Reward:
    """A reward that the pool brings."""

    name: str  # of the reward model
    column: str  # of the pool
    way: str  # one of WAYS


ROW = "_row"  # the column that counts rows over all files, from 0
LENGTH, HASH = "length", "_hash"  # what rows have of their completion: its characters, and 64 bits
HELD = 500_000  # completions of a pool that are kept in memory; where there are more, they are kept in files
NAMES = {  # ours -> what others call them, the likeliest first
    "problem_id": ("problem_index", "question_id", "doc_id", "unique_id", "index", "idx", "id", "item_id", "task_id"),
    "language": ("question_language", "lang", "source_language", "locale"),
    "trace_language": ("reasoning_language", "thinking_language", "response_language", "target_language"),
    "completion": (
        "completions", "completion_tail", "response", "responses", "output", "outputs", "generation", "generations",
        "generated_text", "model_output", "prediction", "text",
    ),
    "reference": ("answer_number", "expected_answer", "gold", "target", "ground_truth", "gold_answer", "answer"),
    "question": ("problem", "query", "m_query", "input", "prompt"),
    "model": ("model_name", "model_id", "policy", "generator"),
    "condition": ("setting", "method", "prompt_type", "prompt_style", "mode", "run"),
    "sample_index": ("sample_id", "sample", "epoch", "repeat", "draw_index", "completion_index"),
    "logprob": ("log_prob", "logprobs_sum", "cumulative_logprob", "sum_logprob"),
    "n_tokens": ("completion_tokens", "output_tokens", "num_tokens", "token_count", "tokens"),
    "finish_reason": ("stop_reason", "finished"),
    "level": ("difficulty",),
}  # fmt: skip


class Texts:
    """The completions of a pool by the number of their row: in memory, or, where they are many, in files that are
    removed with this object.
    """

    def __init__(self) -> None:
        self._held: list[pl.DataFrame] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._n = 0

    def keep(self, table: pl.DataFrame) -> pl.DataFrame:
        """Take the completions out of a table: it has their length and a hash instead, and no rows without one."""
        kept = table.with_row_index(ROW, self._n).filter(pl.col("completion").is_not_null())
        self._n += len(table)
        self._held.append(kept.select(ROW, "completion"))
        if self._folder or sum(map(len, self._held)) > HELD:
            self._folder = self._folder or tempfile.TemporaryDirectory(prefix="bestofl-pool-")
            pl.concat(self._held).write_parquet(Path(self._folder.name) / f"{self._n:012d}.parquet")
            self._held.clear()
        text = pl.col("completion")
        return kept.with_columns(text.str.len_chars().alias(LENGTH), text.hash().alias(HASH)).drop("completion")

    def of(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Some rows of the pool with their completions, in their order."""
        texts = pl.scan_parquet(f"{self._folder.name}/*.parquet") if self._folder else pl.concat(self._held).lazy()
        near = texts.filter(pl.col(ROW).is_between(rows[ROW].min(), rows[ROW].max()))
        mine = near.join(rows.lazy().select(ROW), on=ROW, how="semi").collect(engine="streaming")
        return rows.join(mine, on=ROW, how="left", maintain_order="left")


def pool_rows(
    source: str | Path | Sequence[str | Path] | pl.DataFrame,
    columns: Mapping[str, str] | Sequence[str],
    rewards: Sequence[str],
    notes: list[str],
) -> tuple[pl.DataFrame, Texts]:
    """One row per completion under the names of `NAMES`, in the order of the files, and the completions themselves;
    null completions are set aside.

    Args:
        source, columns, rewards: see `pools.read_pool`; each reward becomes a column "reward:<name>".
        notes: what was set aside is added here, one sentence each.

    Raises:
        ValueError: naming file and line of an id that is not there or a value that cannot be, or the column that is
            missing.
        OSError: the source cannot be read.
    """
    named = named_columns(columns)
    given = _rewards([*([named.pop("reward")] if "reward" in named else []), *rewards])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", FileWarning)
        tables, texts, missing = [], Texts(), 0
        for file in [""] if isinstance(source, pl.DataFrame) else _files(source):
            if isinstance(source, pl.DataFrame):
                table = _typed(_renamed(source, named, given, "the table"), "the table")
            else:
                table = _typed(_file_rows(file, named, given), file)
            tables.append(texts.keep(table))
            missing += len(table) - len(tables[-1])
    for warning in caught:
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        if issubclass(warning.category, FileWarning):
            notes.append(f"{warning.message}.")
    table = pl.concat(tables, how="diagonal")
    if missing:
        notes.append(f"Set aside: {counted(missing, 'row')} without a completion (null).")
    if table.is_empty():
        raise ValueError("the pool holds no completion")
    return table, texts


def named_columns(columns: Mapping[str, str] | Sequence[str]) -> dict[str, str]:
    """Our column -> the pool's, from texts such as "completion:txt".

    Raises:
        ValueError: an entry of another form, or a name that is none of `NAMES` and not "reward".
    """
    if isinstance(columns, Mapping):
        return dict(columns)
    wrong = [text for text in columns if ":" not in text]
    if wrong:
        raise ValueError(f"columns entry {wrong[0]!r}: write our name:their name, such as completion:txt")
    named = dict(text.split(":", 1) for text in columns)
    check_roles(named, [*NAMES, "reward"])
    return named


def _rewards(texts: Sequence[str]) -> list[_Reward]:
    """`column`, `column:way` or `name=column:way`, each a reward model of its own."""
    found = []
    for text in texts:
        name, _, rest = text.rpartition("=") if "=" in text else ("", "", text)
        column, _, way = rest.rpartition(":") if rest.rpartition(":")[2] in WAYS and ":" in rest else (rest, "", "")
        if not column.strip():
            raise ValueError(f"reward {text!r}: write column, column:way or name=column:way")
        found.append(_Reward((name or column).strip(), column.strip(), way or "last"))
    names = [one.name for one in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(
            f"rewards named {', '.join(twice)} more than once; give them names, such as {twice[0]}-min={twice[0]}:min"
        )
    return found


def _files(source: object) -> list[str | Path]:
    if not isinstance(source, (str, Path)):
        if not isinstance(source, Iterable):
            raise ValueError(f"a pool is a path, several, or a table; found {type(source).__name__}")
        files = [file for one in source for file in _files(one)]
        if not files:
            raise ValueError("no files given; name the pool's file or folder")
        return files
    if "://" in str(source):
        return [str(source)]
    path = find(source)
    if path.is_dir():
        logs = sorted(
            p for p in path.rglob("*") if p.suffix == ".eval" or p.match("samples_*.jsonl") or eval_logs.is_log(p)
        )
        tables = sorted(p for p in path.iterdir() if p.suffix in (".parquet", ".jsonl", ".csv", ".tsv"))
        if not (logs or tables):
            raise ValueError(
                f"folder {source} holds no .eval, .json, .jsonl, .parquet, .csv or .tsv; name the pool's file"
            )
        return [*logs] or [*tables]
    if not path.exists():
        raise FileNotFoundError(
            f"no pool at {source}; give a file or folder, its path taken from here or from the project"
        )
    return [path]


def _file_rows(file: str | Path, columns: dict[str, str], given: Sequence[_Reward]) -> pl.DataFrame:
    kind = Path(str(file)).suffix.lower()
    if given and (kind in (".eval", ".json") or Path(str(file)).match("samples_*.jsonl")):
        raise ValueError(
            f"{file}: rewards are taken from tables, and this is a log of an evaluation tool; found rewards "
            f"{', '.join(one.name for one in given)}; leave them out"
        )
    if kind == ".eval" or kind == ".json":
        return pl.DataFrame(eval_logs.inspect_rows(Path(file)), schema=eval_logs.ROWS)
    if kind == ".jsonl" and "://" not in str(file):
        lines = json_lines(read_text(file), file)
        if lines and {"doc_id", "doc", "resps"} <= lines[0].keys():
            return pl.DataFrame(eval_logs.lm_eval_rows(lines, Path(file)), schema=eval_logs.ROWS)
    return _renamed(read_table(file, numbered=True), columns, given, str(file))


def _renamed(table: pl.DataFrame, columns: dict[str, str], given: Sequence[_Reward], source: str) -> pl.DataFrame:
    """A foreign table under our names, a row with a list of completions becoming several."""
    if LINE not in table.columns:
        table = table.with_columns(pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias(LINE))
    theirs_only = table.drop(LINE)
    picked = match_columns(columns, theirs_only, NAMES, ("completion",), source)
    for one in given:
        if one.column not in theirs_only.columns:
            raise ValueError(
                f"{source} has no column {one.column!r} (for the reward {one.name}); "
                f"{suggestion(one.column, theirs_only.columns, 0.4)}it has {', '.join(theirs_only.columns)}; a reward "
                f"is named as column, column:way or name=column:way, where a way is one of {', '.join(WAYS)}"
            )
    if "problem_id" not in picked:
        match_columns(columns, theirs_only, NAMES, ("question" if "language" not in picked else "problem_id",), source)
    chosen = [pl.col(theirs).alias(ours) for ours, theirs in picked.items()]
    table = table.select(*chosen, *(pl.col(one.column).alias(REWARD + one.name) for one in given), LINE)
    if "problem_id" not in picked:  # one language: a problem is known by its question
        table = table.with_columns(problem_id=map_texts("question", _question_id))
    lists = [name for name, dtype in table.schema.items() if isinstance(dtype, pl.List)]
    if "completion" in lists:
        lengths = table.select(pl.col(name).list.len() for name in lists)
        short = [name for name in lists if not (lengths[name] == lengths["completion"]).all()]
        if short:
            theirs = picked.get(short[0], short[0])
            raise ValueError(f"{source}: lists of {theirs!r} and {picked['completion']!r} differ in length")
        table = table.explode(lists)
    for one in given:
        if isinstance(table.schema[REWARD + one.name], pl.List):
            table = table.with_columns(WAYS[one.way](pl.col(REWARD + one.name)))
    if table.schema["completion"] not in (pl.String, pl.Null):
        raise ValueError(
            f"{source}: column {picked['completion']!r} holds {table.schema['completion']}, not text; turn it into "
            "text "
            "first, or name another column with columns={'completion': '…'}"
        )
    return table


def _question_id(question: str) -> str:
    return "question-" + content_digest(clean_text(question))[:10]


def _typed(table: pl.DataFrame, source: str | Path) -> pl.DataFrame:
    """The rows of one file in our types; a value that cannot be what its column says is refused with its line."""
    lines = table[LINE].to_list() if LINE in table.columns else list(range(1, len(table) + 1))
    texts = ("language", "trace_language", "completion", "question", "model", "condition", "finish_reason", "level")
    made = [pl.col(name).cast(pl.String) for name in texts if name in table.columns]
    made += [ids_as_text(table), *([references_as_text(table)] if "reference" in table.columns else [])]
    numbers = [_numbers(table[name], kind, source, lines) for name, kind in NUMBERS.items() if name in table.columns]
    rewards = [name for name in table.columns if name.startswith(REWARD)]
    numbers += [_numbers(table[name], _REWARDS, source, lines) for name in rewards]
    typed = table.with_columns(*made, *numbers).drop(LINE, strict=False)
    check_ids(typed, source, lines)
    return typed


def _numbers(column: pl.Series, kind: _Number, source: str | Path, lines: Sequence[int]) -> pl.Series:
    """A column of numbers, or an error that names the first value that is not a number or is impossible."""
    if not (column.dtype.is_numeric() or column.dtype in (pl.String, pl.Null)):
        raise ValueError(f"{source}: {column.name} holds {column.dtype}, not numbers; name another column for it")
    values = column.cast(pl.Float64, strict=False)
    bad = column.is_not_null() & values.is_null()
    if column.name == "sample_index":  # labels such as "a" give no order, which is all the column is for
        bad = bad & (column.dtype != pl.String)
    bad = bad | ~values.fill_nan(None).is_between(kind.least, kind.most).fill_null(True)
    if kind.dtype.is_integer():
        bad = bad | values.is_nan() | (values % 1 != 0).fill_null(False)
    if bad.fill_null(False).any():
        first = int(bad.fill_null(False).arg_true()[0])
        shown = str(column[first])
        raise ValueError(
            f"{place(source, lines[first])}: {column.name} {shown[:40]}{'…' if len(shown) > 40 else ''}; expected "
            f"{kind.expected} (of {int(bad.sum()):,} such rows this is the first); correct the values, or name another "
            f"column with columns={{'{column.name}': '…'}}"
        )
    finite = pl.when(values.is_finite()).then(values).otherwise(None)
    return pl.select(finite.alias(column.name)).to_series().cast(kind.dtype)
