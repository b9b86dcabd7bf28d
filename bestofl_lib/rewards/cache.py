"""Vectors of candidates on disk, so that no forward pass is ever made twice.

A cache folder belongs to one model (weights, layers, dtype, token limit); inside, the key is a hash of the text that
the model reads. It knows nothing of labels, pairs or heads, and may be deleted at any time.
"""

from __future__ import annotations

import io
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl

from bestofl_lib.files import SavingPace, replace_file, terminated_softly
from bestofl_lib.progress import Progress
from bestofl_lib.text import counted, key_digest


@dataclass(frozen=True)
class Values:
    """What a model says about each row of a candidates table."""

    values: np.ndarray  # (candidates, width) float32; NaN where the model gave none
    truncated: np.ndarray  # (candidates,) bool: the beginning of the completion was cut to fit
    seconds: float  # wall time of the forward passes


class CandidateReader(Protocol):
    """Whatever gives each candidate a vector: a model in this process, on a cluster or behind servers."""

    style: str  # prompt style of the texts
    missing_is_final: bool  # whether a row without a vector is left alone next time, or tried again

    @property
    def width(self) -> int:
        """Numbers per candidate."""
        ...

    def identity(self) -> str:
        """What the vectors depend on besides the text; cheap to know."""
        ...

    def batches(
        self, prompts: Sequence[tuple[str, str]], prompt_of: Sequence[int], completions: Sequence[str]
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Row indices, (rows, width) float32, and whether each was cut; piece by piece, in any order."""
        ...


def cached_values(
    backbone: CandidateReader,
    candidates: pl.DataFrame,
    problems: pl.DataFrame,
    folder: Path | None,
    counted_as: str = "completions read by the model",
) -> Values:
    """One vector per candidate, from the cache where it is known, else computed and added to it.

    Work is saved every few seconds, every minute in a long run, and when it is interrupted by Ctrl-C or SIGTERM: a run
    that is stopped continues where it was. Identical completions of one question are computed once.

    Args:
        candidates: rows of a candidates table.
        problems: rows of a problems table that hold every (problem_id, language) of the candidates.
        folder: where caches are kept, one sub-folder per model; None keeps nothing.
        counted_as: what the progress counts, in the plural.

    Raises:
        ValueError: naming the first candidate without a question.
    """
    rows, keys = _keyed(backbone, candidates, problems)
    home = _home(backbone, folder)
    known = _read(home, backbone.width)
    index = {key: i for i, key in enumerate(known["key"])}
    missing = {key: i for i, key in enumerate(keys) if key not in index}
    table = [known["values"].to_numpy().reshape(-1, backbone.width)]
    cuts = [known["truncated"].to_numpy()]
    started = time.monotonic()
    if missing:
        wanted, places = list(missing), list(missing.values())
        need = rows[places]
        prompts: dict[tuple[str, str], int] = {}
        owner = [
            prompts.setdefault((q, language), len(prompts))
            for q, language in need.select("question", "language").iter_rows()
        ]
        new: list[tuple[list[str], np.ndarray, np.ndarray]] = []
        pace = SavingPace()
        kept = (home, backbone.missing_is_final)
        try:
            with terminated_softly(), Progress(counted_as, len(missing), shown=False) as progress:
                for batch, part, cut in backbone.batches(list(prompts), owner, need["completion"].to_list()):
                    new.append(([wanted[i] for i in batch], part, cut))
                    if pace.is_due():
                        _flush(kept, new, index, table, cuts)
                        pace.saved()
                    progress.update(len(batch))
        finally:
            _flush(kept, new, index, table, cuts)
    seconds = time.monotonic() - started
    place = np.array([index[key] for key in keys], dtype=int)
    return Values(np.concatenate(table)[place], np.concatenate(cuts)[place], seconds)


def unknown_texts(
    backbone: CandidateReader, candidates: pl.DataFrame, problems: pl.DataFrame, folder: Path | None
) -> int:
    """How many distinct texts `cached_values` with the same arguments would have to compute."""
    _, keys = _keyed(backbone, candidates, problems)
    return len(set(keys) - set(_read(_home(backbone, folder), backbone.width)["key"]))


def _keyed(
    backbone: CandidateReader, candidates: pl.DataFrame, problems: pl.DataFrame
) -> tuple[pl.DataFrame, list[str]]:
    """Candidates with their questions, and the key of each one's text."""
    rows = candidates.select("problem_id", "language", "completion").join(
        problems.select("problem_id", "language", "question"),
        on=["problem_id", "language"],
        how="left",
        maintain_order="left",
    )
    lost = rows.filter(pl.col("question").is_null())
    if lost.height:
        raise ValueError(
            f"{counted(lost.height, 'candidate')} without a question, the first: problem {lost['problem_id'][0]!r} "
            f"({lost['language'][0]}); pass the problems table that they were drawn for"
        )
    keys = [
        key_digest("\0".join((backbone.style, language, question, completion)), 16)
        for _, language, completion, question in rows.iter_rows()
    ]  # fmt: skip
    return rows, keys


def _home(backbone: CandidateReader, folder: Path | None) -> Path | None:
    return None if folder is None else folder / key_digest(backbone.identity())


def _flush(
    kept: tuple[Path | None, bool],
    new: list[tuple[list[str], np.ndarray, np.ndarray]],
    index: dict[str, int],
    table: list[np.ndarray],
    cuts: list[np.ndarray],
) -> None:
    if not new:
        return
    names = [key for part, _, _ in new for key in part]
    values = np.concatenate([part for _, part, _ in new])
    cut = np.concatenate([part for _, _, part in new])
    _save(kept, names, values, cut)
    start = len(index)
    index.update({key: start + i for i, key in enumerate(names)})
    table.append(values)
    cuts.append(cut)
    new.clear()  # last, so that what Ctrl-C kept from being saved is saved by the next call


def _save(kept: tuple[Path | None, bool], names: list[str], values: np.ndarray, cut: np.ndarray) -> None:
    home, with_missing = kept
    if home is None:
        return
    keep = ~np.isnan(values).all(1) | with_missing  # rows that ran out of memory are tried again next time
    buffer = io.BytesIO()
    pl.DataFrame(
        {
            "key": pl.Series(names, dtype=pl.String).filter(pl.Series(keep)),
            "truncated": cut[keep],
            "values": values[keep],
        },
        schema=_schema(values.shape[1]),
    ).write_parquet(buffer)
    data = buffer.getvalue()
    replace_file(home / f"part-{key_digest(data, 12)}.parquet", data)


def _read(home: Path | None, width: int) -> pl.DataFrame:
    parts = [pl.DataFrame(schema=_schema(width))]
    for path in sorted(home.glob("part-*.parquet")) if home is not None else []:
        data = path.read_bytes()
        if f"part-{key_digest(data, 12)}" != path.stem:
            warnings.warn(f"{path} is damaged and is removed; its values are computed again", stacklevel=3)
            path.unlink()
            continue
        parts.append(pl.read_parquet(io.BytesIO(data)))
    return pl.concat(parts).unique("key", maintain_order=True)


def _schema(width: int) -> pl.Schema:
    columns: dict[str, Any] = {"key": pl.String, "truncated": pl.Boolean, "values": pl.Array(pl.Float32, width)}
    return pl.Schema(columns)
