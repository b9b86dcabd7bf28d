"""Draws candidates: who is asked what, how many times, with which settings and which random streams.

It knows problems, prompts and the store. It does not know how a model writes: a `Sampler` does that. Nothing heavy is
imported or loaded when everything is stored already.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from bestofl_lib.candidates.store import Store
from bestofl_lib.candidates.writers import Share
from bestofl_lib.models.contract import Request, Sampler, Sampling, Unfinished
from bestofl_lib.problems.prompts import messages, stops
from bestofl_lib.progress import Progress
from bestofl_lib.tables import KEY, SPLITS
from bestofl_lib.text import key_digest, stable_integer

_KEPT = ("n_tokens", "finish_reason", "logprob", "seconds", "token_ids", "token_logprobs")  # of a completion


def generate(
    problems: pl.DataFrame,
    store: Store,
    sampler: Sampler,
    n: int | Mapping[str, int],
    settings: Sampling | None = None,
    *,
    seed: int = 0,
    style: str = "native",
    system: str = "",
    progress: bool = True,
) -> pl.DataFrame:
    """Draw n candidates for every row of problems, skipping what the store already holds.

    The same model, prompts, settings and seed give the same draws, so an interrupted call is continued by
    repeating it, and more problems, more languages or a larger n only add what is missing. What the store holds
    from other calls stays there; the table returned (and `store.candidates()`) has what *this* call asked for.

    Args:
        problems: one row per problem and language (see `tables.SCHEMAS`).
        store: where candidates are kept; this call is its only writer. A store with a share draws that share alone,
            and returns what all shares have drawn so far.
        sampler: writes the completions; not touched beyond its identity when nothing is missing.
        n: candidates per problem and language; or by split, such as {"train": 4, "test": 8}
            (rows of other splits are left out; a split that these problems do not have asks for nothing).
        settings: temperature and so on; by default `Sampling()`.
        seed: of the study; each candidate's own seed is derived from it, the problem, the language and the index.
        style, system: of the prompt, see `problems.prompts.messages`.
        progress: whether to show a progress bar.

    Returns:
        The candidates table, sorted by key.

    Raises:
        ValueError: n below 1, an unknown split, no problems, or a problem that occurs twice in one language.
        RuntimeError: another process writes to the same store.
    """
    settings = settings or Sampling()
    prompts, asked, wanted = requested(problems, sampler.identity, n, settings, seed, style, system)
    with store.writing():
        missing = wanted.join(
            store.held(), on=["problem_id", "language", "sample_index", "draw"], how="anti", maintain_order="left"
        )
        store.ask(asked.select("problem_id", "language", "draw", "n"))
        if store.share is not None:
            missing = missing.filter(_in_share(missing, store.share))
        if missing.height:
            _draw(missing, prompts, store, sampler, settings, seed, style, len(wanted), progress)
    return store.candidates(partial=store.share is not None)


def requested(
    problems: pl.DataFrame,
    identity: str,
    n: int | Mapping[str, int],
    settings: Sampling,
    seed: int,
    style: str,
    system: str,
) -> tuple[list[tuple[Mapping[str, str], ...]], pl.DataFrame, pl.DataFrame]:
    """What a call of `generate` with these arguments asks for.

    Returns:
        The prompts; one row per problem and language asked, with columns draw and n; and one row per completion wanted, with
        key, draw and row, the place of its prompt.
    """
    counted = _with_n(problems, n)
    if settings.temperature == 0 and counted["n"].max() != 1:
        raise ValueError(
            f"temperature 0 writes the same completion each time, but {n} candidates per problem were asked for; "
            "draw 1 candidate, or set a temperature above 0"
        )

    prompts: list[tuple[Mapping[str, str], ...]] = [
        tuple(messages(question, language, style, system))
        for question, language in counted.select("question", "language").iter_rows()
    ]
    asked = counted.with_columns(
        pl.Series("draw", [draw_hash(identity, p, settings, seed) for p in prompts], pl.String)
    )
    wanted = asked.with_columns(
        pl.Series("row", range(len(asked)), pl.Int64), sample_index=pl.int_ranges("n", dtype=pl.Int32)
    )
    wanted = wanted.explode("sample_index").select("problem_id", "language", "sample_index", "draw", "row")
    return prompts, asked, wanted


def draw_hash(identity: str, prompt: Sequence[Mapping[str, str]], settings: Sampling, seed: int) -> str:
    """The name of a distribution of completions: everything that shapes them but the index.

    Problem, language and index are the key beside it. Batch size, device and number of workers are not part of it.
    """
    content: list[Any] = [identity, [dict(message) for message in prompt], dataclasses.asdict(settings), int(seed)]
    text = json.dumps(content, sort_keys=True, ensure_ascii=True)
    return key_digest(text)


def candidate_seed(seed: int, problem_id: str, language: str, sample_index: int) -> int:
    """The seed of one candidate's random stream, 0 to 2**63 - 1; the same on every machine and in every order."""
    text = json.dumps([int(seed), problem_id, language, int(sample_index)])
    return stable_integer(text) >> 1


def _draw(
    missing: pl.DataFrame,
    prompts: Sequence[tuple[Mapping[str, str], ...]],
    store: Store,
    sampler: Sampler,
    settings: Sampling,
    seed: int,
    style: str,
    n_wanted: int,
    progress: bool,
) -> None:
    """Draw the missing candidates into the store, which is open for writing."""
    requests = [
        Request(
            problem_id,
            code,
            index,
            prompts[row],
            candidate_seed(seed, problem_id, code, index),
            stop=stops(code, style),
            begun=store.begun(draw, (problem_id, code, index)),
        )
        for problem_id, code, index, draw, row in missing.select(*KEY, "draw", "row").iter_rows()
    ]
    draws = dict(zip(missing.select(*KEY).iter_rows(), missing["draw"], strict=True))
    bar = Progress("candidates", n_wanted, n_wanted - len(requests), shown=progress)
    try:
        with bar:
            for request, completion in sampler.sample(requests, settings):
                key = (request.problem_id, request.language, request.sample_index)
                if isinstance(completion, Unfinished):
                    store.keep_begun(draws[key], key, completion)
                    continue
                store.add(
                    dict(zip(KEY, key, strict=True))
                    | {"draw": draws.pop(key), "model": sampler.name, "seed": request.seed}
                    | {"completion": completion.text}
                    | {field: getattr(completion, field) for field in _KEPT}
                )
                bar.update(tokens=completion.n_tokens or 0)
    finally:
        if facts := getattr(sampler, "facts", None):
            store.note(facts | {"drawn": len(requests) - len(draws)})
    if draws:
        reason = (getattr(sampler, "facts", None) or {}).get("last_fault_of_left_out")
        raise RuntimeError(
            f"{sampler.name} left {len(draws):,} of {len(requests):,} candidates unwritten; run again to draw them"
            + (f" (the last fault was: {reason})" if reason else "")
        )


def _in_share(table: pl.DataFrame, share: Share) -> pl.Series:
    """Which rows belong to a share."""
    questions = table.select("problem_id", "language").unique()
    mine = questions.with_columns(
        mine=pl.Series([share.takes(*row) for row in questions.iter_rows()], dtype=pl.Boolean)
    )
    return table.join(mine, on=["problem_id", "language"], how="left", maintain_order="left")["mine"]


def _with_n(problems: pl.DataFrame, n: int | Mapping[str, int]) -> pl.DataFrame:
    """The rows to ask, with a column n."""
    if isinstance(n, Mapping):
        present = set(problems["split"])
        if unknown := sorted(set(n) - present - set(SPLITS)):
            raise ValueError(f"n names unknown splits {', '.join(unknown)}; there are: {', '.join(sorted(present))}")
        counts = {split: _count(value) for split, value in n.items() if split in present}
        problems = problems.filter(pl.col("split").is_in(list(counts)))
        counted = problems.with_columns(n=pl.col("split").replace_strict(counts, return_dtype=pl.Int32))
    else:
        counted = problems.with_columns(n=pl.lit(_count(n), pl.Int32))
    if counted.is_empty():
        raise ValueError("no problems to sample; check the languages, split and limit they were loaded with")
    twice = counted.filter(counted.select("problem_id", "language").is_duplicated())
    if not twice.is_empty():
        raise ValueError(
            f"problem {twice['problem_id'][0]!r} occurs twice in {twice['language'][0]!r}; make the problem ids unique"
        )
    return counted


def _count(n: int) -> int:
    if isinstance(n, bool) or int(n) != n or n < 1:
        raise ValueError(f"{n} candidates per problem and language were asked for; draw at least 1, such as 8")
    return int(n)
