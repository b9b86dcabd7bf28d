"""Draws candidates: which questions are asked, how many times, with which settings and which random streams.

It knows problems, prompts and the store. It does not know how a model writes: a `Sampler` does that. Nothing heavy is
imported or loaded when everything is stored already.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from bestofl_lib.candidates.store import ASKED_SCHEMA, Store
from bestofl_lib.candidates.writers import Share
from bestofl_lib.models.contract import Request, Sampler, Sampling, Unfinished
from bestofl_lib.problems.prompts import WORDING, Asking, messages, stops
from bestofl_lib.progress import Progress
from bestofl_lib.tables import KEY, SPLITS
from bestofl_lib.text import key_digest, stable_integer

AXES = ("question_language", "thinking_language", "answer_language")  # of a candidate
_SHAPED = (*AXES, "condition")  # of a candidate, as asked
_APART = 100_000  # indices of the next wording start so much higher: more wordings move no candidate
_KEPT = ("n_tokens", "finish_reason", "logprob", "seconds", "token_ids", "token_logprobs")  # of a completion
Wanted = int | Mapping[str, int | Mapping[str, int]]  # candidates per problem and language, see `generate`


def generate(
    problems: pl.DataFrame,
    store: Store,
    sampler: Sampler,
    n: Wanted,
    settings: Sampling | None = None,
    *,
    seed: int = 0,
    style: str = "native",
    system_prompt: str = "",
    asking: Asking | None = None,
    progress: bool = True,
) -> pl.DataFrame:
    """Draw n candidates for every row of problems, skipping what the store already holds.

    The same model, prompts, settings and seed give the same draws, so an interrupted call is continued by
    repeating it, and more problems, more languages or a larger n only add what is missing. Candidates of other calls
    stay in the store; the table returned (and `store.candidates()`) has what *this* call asked for.

    Args:
        problems: one row per problem and language (see `tables.SCHEMAS`).
        store: where candidates are kept; this call is its only writer. A store with a share draws that share alone,
            and returns what all shares have drawn so far.
        sampler: writes the completions; not touched beyond its identity when nothing is missing.
        n: candidates per problem and language; or by split, such as {"train": 4, "test": 8}
            (rows of other splits are left out; a split that these problems do not have asks for nothing); of a split
            one number, or an allocation, such as {"en": 3, "de": 2}: other languages are not asked.
        settings: temperature and so on; by default `Sampling()`.
        seed: of the study; each candidate's own seed is derived from it, the problem, the language and the index.
        style, system_prompt: of the prompt, see `problems.prompts.messages`.
        asking: languages of question, thinking and answer where they are not the row's. Of questions that are thought
            about in several languages, n candidates are drawn in each, and their indices take turns. Of test problems
            asked in several wordings, n are drawn in each; all but the usual one are named in `condition`.
        progress: whether to show a progress bar.

    Returns:
        The candidates table, sorted by key.

    Raises:
        ValueError: n below 1, an unknown split, no problems, or a problem that occurs twice in one language.
        RuntimeError: another process writes to the same store.
    """
    settings = settings or Sampling()
    asking = asking or Asking()
    wanted = requested(problems, sampler.identity, n, settings, seed, style, system_prompt, asking)
    return draw_missing(*wanted, store, sampler, settings, seed, (style, asking), progress)


def requested(
    problems: pl.DataFrame,
    identity: str,
    n: Wanted,
    settings: Sampling,
    seed: int,
    style: str,
    system_prompt: str,
    asking: Asking,
) -> tuple[list[tuple[Mapping[str, str], ...]], pl.DataFrame, pl.DataFrame]:
    """What a call of `generate` with these arguments asks for.

    Returns:
        The prompts; one row per prompt, as the store notes it; and one row per completion wanted, with key, draw, the
        three languages, condition and row, the place of its prompt.
    """
    counted = _with_n(problems, n)
    if settings.temperature == 0 and counted["n"].max() != 1:
        raise ValueError(
            f"temperature 0 writes the same completion each time, but {n} candidates per problem were asked for; "
            "draw 1 candidate, or set a temperature above 0"
        )

    asking.check(style)
    turns = len(asking.think_in) or 1
    thought = pl.DataFrame(
        [
            (code, split, asking.question_language or code, thinking, asking.answer_in or thinking, wording, turn)
            for code, split in counted.select("language", "split").unique(maintain_order=True).iter_rows()
            for turn, thinking in enumerate(asking.thinking(code))
            for wording in asking.worded(thinking, split)
        ],
        schema=["language", "split", *AXES, "wording", "turn"],
        orient="row",
    )
    if asking.wordings > 1 and thought["wording"].max() == 0:
        raise ValueError(
            f"wordings={asking.wordings}, but none of {', '.join(thought['thinking_language'].unique().sort())} has "
            "several wordings of its instruction; add English, or give `wordings` in a language file (parameter "
            "language_file), or set wordings=1"
        )
    asked = counted.join(thought, on=["language", "split"], how="left", maintain_order="left_right").with_columns(
        first=(pl.col("turn") + _APART * pl.col("wording")).cast(pl.Int32), step=pl.lit(turns, pl.Int32)
    )
    prompts: list[tuple[Mapping[str, str], ...]] = [
        tuple(
            messages(
                question, thinking, style, system_prompt,
                answer_language=answer, opening=asking.opening(thinking), wording=wording,
            )
        )
        for question, thinking, answer, wording in asked.select("question", *AXES[1:], "wording").iter_rows()
    ]  # fmt: skip
    asked = asked.with_columns(pl.Series("draw", [draw_hash(identity, p, settings, seed) for p in prompts], pl.String))
    wanted = asked.with_columns(
        pl.Series("row", range(len(asked)), pl.Int64), sample_index=pl.int_ranges("n", dtype=pl.Int32)
    )
    wanted = wanted.explode("sample_index").with_columns(pl.col("first") + pl.col("sample_index") * pl.col("step"))
    named = pl.when(pl.col("wording") > 0).then(pl.format(WORDING + "{}", pl.col("wording") + 1))
    wanted = wanted.with_columns(sample_index="first", condition=named).select(*KEY, "draw", "row", *_SHAPED)
    return prompts, asked.select(ASKED_SCHEMA.names()), wanted


def draw_missing(
    prompts: Sequence[tuple[Mapping[str, str], ...]],
    asked: pl.DataFrame,
    wanted: pl.DataFrame,
    store: Store,
    sampler: Sampler,
    settings: Sampling,
    seed: int,
    how: tuple[str, Asking],
    progress: bool,
) -> pl.DataFrame:
    """Draw what the store does not hold of the completions wanted; all that were asked for, sorted by key.

    Args:
        prompts, asked, wanted: as `requested` returns them.
        how: prompt style, and languages of question, thinking and answer.
    """
    with store.writing():
        missing = wanted.join(
            store.held(), on=["problem_id", "language", "sample_index", "draw"], how="anti", maintain_order="left"
        )
        store.ask(asked)
        if store.share is not None:
            missing = missing.filter(_in_share(missing, store.share))
        if missing.height:
            _draw(missing, prompts, store, sampler, settings, seed, how, Counter(wanted["language"]), progress)
    return store.candidates(partial=store.share is not None)


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
    how: tuple[str, Asking],
    n_wanted: Counter[str],
    progress: bool,
) -> None:
    """Draw the missing candidates into the store, which is open for writing."""
    style, asking = how
    requests = [
        Request(
            problem_id,
            code,
            index,
            prompts[row],
            candidate_seed(seed, problem_id, code, index),
            stop=stops(thinking, style),
            begun=store.begun(draw, (problem_id, code, index)),
        )
        for problem_id, code, index, draw, row, thinking in missing.select(
            *KEY, "draw", "row", "thinking_language"
        ).iter_rows()
    ]
    draws = dict(zip(missing.select(*KEY).iter_rows(), missing["draw"], strict=True))
    shaped = dict(zip(missing.select(*KEY).iter_rows(), missing.select(_SHAPED).iter_rows(), strict=True))
    written = {(r.problem_id, r.language, r.sample_index): len(r.begun.tokens) for r in requests if r.begun}
    limit, total = settings.max_new_tokens, n_wanted.total()
    parts = {code: (n - missing.filter(language=code).height, n) for code, n in n_wanted.items()}
    bar = Progress("candidates", total, total - len(requests), most_tokens=limit, shown=progress, parts=parts)
    try:
        with bar:
            bar.update(0, unfinished_tokens=sum(written.values()))
            for request, completion in sampler.sample(requests, settings):
                key = (request.problem_id, request.language, request.sample_index)
                if isinstance(completion, Unfinished):
                    store.keep_begun(draws[key], key, completion)
                    more, written[key] = len(completion.tokens) - written.get(key, 0), len(completion.tokens)
                    bar.update(0, more, more)
                    continue
                store.add(
                    dict(zip(KEY, key, strict=True))
                    | {"draw": draws.pop(key), "model": sampler.name, "seed": request.seed}
                    | dict(zip(_SHAPED, shaped[key], strict=True))
                    | {"completion": asking.opening(shaped[key][1]) + completion.text}
                    | {field: getattr(completion, field) for field in _KEPT}
                )
                before = written.pop(key, 0)
                bar.update(1, max(0, (completion.n_tokens or 0) - before), -before, key[1])
    finally:
        if facts := getattr(sampler, "facts", None):
            store.note(facts | {"drawn": len(requests) - len(draws)})
    if draws:
        reason = (getattr(sampler, "facts", None) or {}).get("last_fault_of_left_out")
        raise RuntimeError(
            f"{sampler.name} left {len(draws):,} of {len(requests):,} candidates unwritten; run again to draw them"
            + (f" (the last error was: {reason})" if reason else "")
        )


def _in_share(table: pl.DataFrame, share: Share) -> pl.Series:
    """Which rows belong to a share."""
    questions = table.select("problem_id", "language").unique()
    mine = questions.with_columns(
        mine=pl.Series([share.takes(*row) for row in questions.iter_rows()], dtype=pl.Boolean)
    )
    return table.join(mine, on=["problem_id", "language"], how="left", maintain_order="left")["mine"]


def allocation_of(parts: Sequence[str], languages: Sequence[str]) -> dict[str, int]:
    """Completions per language from parts such as "en:3".

    Raises:
        ValueError: a part is not of that form, or names a language that is not asked, or one twice.

    >>> allocation_of(["en:3", "de:2"], ["de", "en", "sw"])
    {'en': 3, 'de': 2}
    """
    found: dict[str, int] = {}
    for part in parts:
        code, _, number = part.partition(":")
        if not number.strip().isdigit():
            raise ValueError(f"allocation has {part!r}; expected language:completions, such as en:3")
        if code.strip() not in languages or code.strip() in found:
            why = "occurs twice" if code.strip() in found else f"is not among the languages {', '.join(languages)}"
            raise ValueError(f"allocation: {code.strip()!r} {why}; name each language once, and in `languages` too")
        found[code.strip()] = _count(int(number))
    return found


def _with_n(problems: pl.DataFrame, n: Wanted) -> pl.DataFrame:
    """The rows to ask, with a column n."""
    if isinstance(n, Mapping):
        present = set(problems["split"])
        if unknown := sorted(set(n) - present - set(SPLITS)):
            raise ValueError(f"n names unknown splits {', '.join(unknown)}; there are: {', '.join(sorted(present))}")
        codes = problems["language"].unique().to_list()
        rows = [
            (split, code, _count(k))
            for split, value in n.items()
            for code, k in (value if isinstance(value, Mapping) else dict.fromkeys(codes, value)).items()
        ]
        counts = pl.DataFrame(rows, schema={"split": pl.String, "language": pl.String, "n": pl.Int32}, orient="row")
        counted = problems.join(counts, on=["split", "language"], how="inner", maintain_order="left")
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
