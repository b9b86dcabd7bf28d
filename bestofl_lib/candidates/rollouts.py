"""Continues candidates from the ends of their steps: what the policy makes of each beginning.

It knows beginnings, prompts and the store, as `sampling` does. It does not cut completions into steps, and it reads no
answers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import polars as pl

from bestofl_lib.candidates.sampling import AXES, draw_hash, draw_missing
from bestofl_lib.candidates.store import ASKED_SCHEMA, Store
from bestofl_lib.models.contract import Sampler, Sampling
from bestofl_lib.problems.prompts import Asking, messages
from bestofl_lib.tables import KEY
from bestofl_lib.text import stable_integer

MOST_ROLLOUTS = 256  # of one beginning
_STEPS = 64  # of one candidate
_PLACE = ["problem_id", "language", "sample_index", "step"]


def draw_rollouts(
    beginnings: pl.DataFrame,
    store: Store,
    sampler: Sampler,
    n: int,
    settings: Sampling | None = None,
    *,
    seed: int = 0,
    style: str = "native",
    system_prompt: str = "",
    progress: bool = True,
) -> pl.DataFrame:
    """Continue every beginning n times, skipping what the store already holds.

    Every rollout has its own random stream, by problem, language, sample, step and number, so an interrupted call is
    continued by repeating it, and a larger n or more beginnings only add what is missing. Equal beginnings of a problem
    and language are continued once, as the first of them, and share what comes out.

    Args:
        beginnings: one row per candidate and step to continue: KEY, `step`, `beginning` (all of the completion up to
            there), `question` and the three languages as in the candidates table.
        store: of rollouts alone, apart from the candidates; this call is its only writer.
        sampler: the policy; it must be able to continue a message of the assistant.
        n: rollouts per beginning.
        settings: temperature and so on, best those of the candidates.
        seed: of the study; no stream is that of a candidate.
        style, system_prompt: of the prompt that the candidates were asked with.

    Returns:
        One row per beginning and rollout: KEY, `step`, `rollout`, `completion` (the beginning with what was written
        after it) and `finish_reason`.

    Raises:
        ValueError: n below 1 or above 256, temperature 0 with several rollouts, no beginnings, or a step above 63.
        RuntimeError: another process writes to the same store.
    """
    settings = settings or Sampling()
    if isinstance(n, bool) or int(n) != n or not 1 <= n <= MOST_ROLLOUTS:
        raise ValueError(f"{n} rollouts per step were asked for; draw 1 to {MOST_ROLLOUTS}, such as 4")
    if settings.temperature == 0 and n > 1:
        raise ValueError(
            f"temperature 0 writes the same continuation each time, but {n} rollouts per step were asked for; draw 1, "
            "or set a temperature above 0"
        )
    if beginnings.is_empty():
        raise ValueError(
            "no step can be continued: every completion is a single step, so its label is that of its answer; use "
            "readout 'verifier' or 'head' instead"
        )
    if not beginnings["step"].is_between(0, _STEPS - 1).all():
        raise ValueError(f"a candidate has a step outside 0 to {_STEPS - 1}; merge its last steps into one")
    distinct = beginnings.sort(_PLACE).unique(["problem_id", *AXES, "beginning", "language"], maintain_order=True)
    distinct = distinct.with_columns(first=_first_index())
    stream = stable_integer(json.dumps(["rollouts", int(seed)])) >> 1
    prompts, asked, wanted = _requested(distinct, sampler.identity, n, settings, stream, style, system_prompt)
    drawn = draw_missing(prompts, asked, wanted, store, sampler, settings, stream, (style, Asking()), progress)
    written = drawn.select(
        "problem_id", "language", "finish_reason", text="completion",
        first=pl.col("sample_index") // MOST_ROLLOUTS * MOST_ROLLOUTS, rollout=pl.col("sample_index") % MOST_ROLLOUTS,
    )  # fmt: skip
    of_beginning = distinct.select("problem_id", *AXES, "beginning", "language", "first")
    table = beginnings.join(of_beginning, on=["problem_id", *AXES, "beginning", "language"], nulls_equal=True)
    table = table.join(written, on=["problem_id", "language", "first"])
    apart = pl.when(pl.col("text").str.contains(r"^\s|^$")).then(pl.lit("")).otherwise(pl.lit(" "))
    whole = pl.concat_str("beginning", apart, "text")
    return table.select(*KEY, "step", "rollout", "finish_reason", completion=whole).sort(*_PLACE, "rollout")


def _first_index() -> pl.Expr:
    """The `sample_index` under which the first rollout of a beginning is stored."""
    return ((pl.col("sample_index").cast(pl.Int64) * _STEPS + pl.col("step")) * MOST_ROLLOUTS).cast(pl.Int32)


def _requested(
    distinct: pl.DataFrame, identity: str, n: int, settings: Sampling, seed: int, style: str, system_prompt: str
) -> tuple[list[tuple[Mapping[str, str], ...]], pl.DataFrame, pl.DataFrame]:
    """Prompts, what the store notes and one row per rollout, as `sampling.requested` has them."""
    own = [pl.col(axis).fill_null(pl.col("language")) for axis in AXES]
    prompts: list[tuple[Mapping[str, str], ...]] = [
        tuple(messages(question, thinking, style, system_prompt, answer_language=answer, opening=beginning))
        for question, beginning, _, thinking, answer in distinct.select("question", "beginning", *own).iter_rows()
    ]
    asked = distinct.with_columns(
        own,
        draw=pl.Series([draw_hash(identity, prompt, settings, seed) for prompt in prompts], dtype=pl.String),
        n=pl.lit(n, pl.Int32),
        step=pl.lit(1, pl.Int32),
        row=pl.int_range(pl.len()),
        condition=pl.lit(None, pl.String),
    )
    wanted = asked.with_columns(sample_index=pl.int_ranges("first", pl.col("first") + n, dtype=pl.Int32))
    wanted = wanted.explode("sample_index").select(*KEY, "draw", "row", *AXES, "condition")
    return prompts, asked.select(ASKED_SCHEMA.names()), wanted
