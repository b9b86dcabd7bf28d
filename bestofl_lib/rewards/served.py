"""Rewards from a reward model behind servers: vLLM's /classify or /pooling, without activation.

The texts are sent as the token ids that the local reward model would read, so both see the same. Before anything is
scored, a few texts are scored on both sides; a run whose numbers differ stops. Retries are the work of
`models/servers.py`.
"""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from bestofl_lib.models.background import iterate_in_thread
from bestofl_lib.models.server_answers import Fault, ServerError
from bestofl_lib.models.server_facts import KnownModel
from bestofl_lib.models.servers import Ask, Patience, Servers, read_addresses
from bestofl_lib.rewards.backbone import RewardBackbone
from bestofl_lib.tables import KEY
from bestofl_lib.text import counted

PATHS = {"classify": "//classify", "pooling": "//pooling"}  # below the server's root
_CHECKED = 20  # texts that are scored on both sides
_TOLERANCE = 0.05  # of a reward
_BATCH = 16  # texts in one request


@dataclass(frozen=True)
class ServedScores:
    """The rewards that servers returned."""

    rewards: pl.DataFrame  # one row per candidate: its key and `reward`, null where the server gave no finite number
    parity: float  # largest difference from the local model over the texts that both scored
    truncated: int  # candidates that were cut to fit
    facts: dict[str, Any]  # requests, faults by kind, the weights' name; for the run's record


def score_served(
    candidates: pl.DataFrame,
    problems: pl.DataFrame,
    local: RewardBackbone,
    addresses: str | Sequence[str],
    served_model: str,
    *,
    endpoint: str = "classify",
    in_flight: int = 64,
    patience: Patience | None = None,
) -> ServedScores:
    """Rewards of candidates by a served reward model.

    Args:
        candidates, problems: tables as in `bestofl_lib.tables`; candidates of other problems are left out.
        local: the same reward model in this process, opened so that it returns rewards. Its tokenizer writes every
            text; its weights are used for the first few only.
        addresses: see `read_addresses`.
        served_model: the name under which the servers know it, or one of their LoRA adapters.
        endpoint: "classify" or "pooling".
        in_flight: requests of 16 texts that one server is given at once.
        patience: how much server trouble is tolerated.

    Raises:
        ValueError: an unknown endpoint, no candidates, or a local model that returns no rewards.
        ServerError: the servers return something else than the local model's rewards (more than 0.05 apart, several
            numbers, an embedding), or fail for longer than `patience` allows.
    """
    if endpoint not in PATHS:
        raise ValueError(f"unknown endpoint {endpoint!r}; use one of: {', '.join(PATHS)}")
    if local.width != 1 or not local.is_causal:
        raise ValueError(
            f"{local.source!r} gives {local.width} numbers per text here; served rewards need a causal model with one "
            "output: export the reward model and open the exported folder"
        )
    known = problems.select("problem_id", "language", "question")
    table = candidates.join(known, on=["problem_id", "language"], how="inner", maintain_order="left")
    finished = table.filter(pl.col("finish_reason").ne_missing("error"))
    if finished.is_empty():
        raise ValueError(
            f"of {counted(candidates.height, 'candidate')} none belongs to the {counted(problems.height, 'question')} "
            "given"
        )
    prompts = list(zip(finished["question"], finished["language"], strict=True))
    inputs, truncated = local.whole_texts(prompts, range(len(prompts)), finished["completion"].to_list())
    ids = [list(candidate["input_ids"]) for candidate in inputs]
    sample = _evenly(len(ids))
    expected, _ = local.values(
        [prompts[row] for row in sample], range(len(sample)), finished["completion"].gather(sample).to_list()
    )
    call = _Call(served_model, endpoint, ids)
    options = {"in_flight": in_flight, "patience": patience}
    rewards = np.full(len(ids), np.nan)
    parity = 0.0
    for rows, values in iterate_in_thread(lambda: call.run(read_addresses(addresses), sample, options)):
        rewards[rows] = values
        if list(rows) == sample:
            parity = _parity(values, expected[:, 0], served_model)
    good = np.isfinite(rewards)
    scored = finished.select(*KEY).with_columns(reward=pl.Series(np.where(good, rewards, np.nan)).fill_nan(None))
    failed = table.filter(pl.col("finish_reason").eq_missing("error")).select(*KEY)
    return ServedScores(
        pl.concat([scored, failed.with_columns(reward=pl.lit(None, pl.Float64))]),
        parity,
        int(truncated.sum()),
        call.facts,
    )


class _Call:
    """The requests of one scoring."""

    def __init__(self, model: str, endpoint: str, ids: Sequence[list[int]]):
        self.model, self.endpoint, self.ids = model, endpoint, ids
        self.facts: dict[str, Any] = {}

    async def run(
        self, addresses: Sequence[str], sample: Sequence[int], options: Mapping[str, Any]
    ) -> AsyncIterator[tuple[Sequence[int], list[float]]]:
        """Yield rows and their rewards: first the sample, alone, then everything else."""
        known = KnownModel(self.model)
        async with Servers(addresses, **options) as servers:
            await servers.first_contact("/models", known.check)
            try:
                for batches in ([list(sample)], _batches(len(self.ids), set(sample))):
                    asks = (self._ask(rows) for rows in batches)
                    async for rows, values, _ in servers.ask_all(asks, self._read):
                        yield rows, values if isinstance(values, list) else [math.nan] * len(rows)
                if servers.tally.left_out:
                    rows, reason = servers.tally.left_out[-1]
                    raise ServerError(
                        f"{sum(len(rows) for rows, _ in servers.tally.left_out)} candidates got no reward (the last "
                        f"fault was: {reason}); run again"
                    )
            finally:
                tally = servers.tally
                self.facts = {
                    "addresses": list(addresses), "served_model": self.model, "root": known.root,
                    "endpoint": self.endpoint, "requests": tally.requests, "faults": dict(tally.faults),
                }  # fmt: skip

    def _ask(self, rows: list[int]) -> Ask[list[int]]:
        body = {"model": self.model, "input": [self.ids[row] for row in rows], "use_activation": False}
        if self.endpoint == "pooling":
            body["task"] = "classify"
        return Ask(rows, PATHS[self.endpoint], json.dumps(body).encode(), len(rows))

    def _read(self, rows: list[int], answer: Mapping[str, Any]) -> list[float]:
        if answer.get("model") != self.model:
            raise ServerError(
                f"the server answered with model {answer.get('model')!r} where {self.model!r} was asked for"
            )
        data = answer.get("data")
        if not isinstance(data, list) or len(data) != len(rows):
            raise Fault(
                "wrong number of rewards", f"{len(data) if isinstance(data, list) else 'no'} for {len(rows)} texts"
            )
        ordered = sorted(data, key=lambda one: one.get("index", 0) if isinstance(one, dict) else 0)
        return [self._number(one) for one in ordered]

    def _number(self, one: object) -> float:
        values = one.get("probs" if self.endpoint == "classify" else "data") if isinstance(one, dict) else None
        while isinstance(values, list) and len(values) == 1:
            values = values[0]
        if isinstance(values, list):
            raise ServerError(
                f"{self.model!r} returns {len(values)} numbers per text, so it is served as embeddings or is a "
                "classifier; "
                "start the server with a reward model of one output: vllm serve MODEL --runner pooling --convert "
                "classify"
            )
        if values is None:  # JSON has no NaN, so some servers write null
            return math.nan
        if not isinstance(values, (int, float)):
            raise Fault("no reward", f"a text got {type(values).__name__}")
        return float(values)


def _parity(served: Sequence[float], expected: np.ndarray, model: str) -> float:
    """The largest difference.

    Raises:
        ServerError: it exceeds the tolerance.
    """
    differences = np.abs(np.asarray(served) - expected)
    worst = int(np.nanargmax(np.where(np.isfinite(differences), differences, np.inf)))
    if not differences[worst] <= _TOLERANCE:
        within = bool((np.abs(served) <= 1).all() and (np.abs(expected) > 1).any())
        raise ServerError(
            f"{model!r} gives {served[worst]:.4f} where the local reward model gives {expected[worst]:.4f} (at most "
            f"{_TOLERANCE} apart is allowed); nothing was scored: serve the same weights in the same number format"
            + (", and without an activation: the served numbers lie between -1 and 1" if within else "")
        )
    return float(differences[worst])


def _evenly(count: int) -> list[int]:
    """Up to 20 rows from the whole length."""
    return sorted({int(row) for row in np.linspace(0, count - 1, min(count, _CHECKED))})


def _batches(count: int, done: set[int]) -> Iterator[list[int]]:
    rows = [row for row in range(count) if row not in done]
    for start in range(0, len(rows), _BATCH):
        yield rows[start : start + _BATCH]
