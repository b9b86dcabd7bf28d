"""Rewards from a model behind servers: a reward model by vLLM's /classify or /pooling, or a chat model's verdicts.

To the cache of rewards it looks like a model in this process. Where the same reward model is here too, it writes the
texts as token ids, so that both read the same, and its rewards of a few texts must agree before anything is scored.
Retries are the work of `models/servers.py`.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bestofl_lib.models.background import iterate_in_thread
from bestofl_lib.models.identity import fingerprint
from bestofl_lib.models.server_answers import Fault, ServerError, TooLong
from bestofl_lib.models.server_facts import KnownModel, answered_by, server_kind
from bestofl_lib.models.servers import Ask, Patience, Servers, read_addresses
from bestofl_lib.problems.files import find
from bestofl_lib.problems.prompts import messages
from bestofl_lib.rewards.backbone import RewardBackbone
from bestofl_lib.rewards.judging import LONGEST, judge_messages, verdict
from bestofl_lib.rewards.opening import local_spec, open_reward_model
from bestofl_lib.rewards.readouts import HeadReward
from bestofl_lib.rewards.served_models import ServedModel
from bestofl_lib.rewards.spec import RewardModelSpec

PATHS = {"classify": "//classify", "pooling": "//pooling"}  # below the server's root
CHAT = "/chat/completions"
_CHECKED = 20  # texts that are scored on both sides
_TOLERANCE = 0.05  # of a reward
_BATCH = 16  # texts in one request
_ALTERNATIVES = 20  # likeliest tokens that are asked for at each place


class ServedReward:
    """A reward model or judge behind servers, as `cached_values` takes it. Nothing is asked before `batches`.

    Args:
        model: as the study names it.
        style: prompt style of the texts.

    Attributes:
        facts: what happened at the last `batches`: servers, version, requests, faults by kind, parity, truncated.
    """

    width = 1

    def __init__(self, model: ServedModel, style: str = "question"):
        self.model, self.style = model, style
        is_file = model.addresses.endswith(".txt")
        self.addresses = read_addresses(find(model.addresses) if is_file else model.addresses)
        self.facts: dict[str, Any] = {}
        self.missing_is_final = bool(model.template)  # asking a judge again until it answers would bias its rewards
        self._local_spec = local_spec(model.local) if model.local else None

    def identity(self) -> str:
        """What the rewards depend on besides the text; the weights behind a name are known where `local` is given."""
        spec = self._local_spec
        weights = [fingerprint(spec.base, spec.revision), spec.recipe, spec.digest, spec.max_tokens] if spec else []
        model = self.model
        return json.dumps(["served", model.served_model, model.revision, model.template, model.max_tokens, weights])

    def batches(
        self, prompts: Sequence[tuple[str, str]], prompt_of: Sequence[int], completions: Sequence[str]
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Row indices, their rewards as (rows, 1) float32, and whether each was cut; piece by piece as they arrive.

        Raises:
            ServerError: the servers return something else than the local model's rewards (more than 0.05 apart, several
                numbers, an embedding), or fail for longer than `patience` allows. What arrived before is yielded first.
            ValueError: a local model that returns no single number.
        """
        truncated = np.zeros(len(completions), dtype=bool)
        expected = None
        if self.model.template:
            call: _Call = _Verdicts(self.model, prompts, prompt_of, completions)
        elif self._local_spec is None:
            call = _Chats(self.model, self.style, prompts, prompt_of, completions)
        else:
            local = self._local()
            inputs, truncated = local.whole_texts(prompts, prompt_of, completions)
            call = _Tokens(self.model, [list(text["input_ids"]) for text in inputs])
            sample = _evenly(len(completions))
            read, _ = local.values(prompts, [prompt_of[row] for row in sample], [completions[row] for row in sample])
            expected = dict(zip(sample, read[:, 0].tolist(), strict=True))
        call.expected = expected
        try:
            for rows, values in iterate_in_thread(lambda: call.run(self.addresses, len(completions))):
                part = np.asarray(values, dtype=np.float32)[:, None]
                yield np.asarray(rows, dtype=int), part, truncated[rows]
        finally:
            self.facts = call.facts | {"cut": int(truncated.sum())}

    def _local(self) -> RewardBackbone:
        """The same reward model in this process, returning rewards."""
        spec = self._local_spec
        if spec is None:
            raise RuntimeError(f"{self.model.name} has no local model")
        local = open_reward_model(find(self.model.local), spec)
        if spec.readout == "head":
            local.readout = HeadReward()
        if local.width != 1 or not local.is_causal:
            raise ValueError(
                f"{self.model.local!r} gives {local.width} numbers per text here; served rewards need a causal model "
                "with one output: train with readout=head, export it (bestofl export) and serve the exported folder"
            )
        return local


class _Call(ABC):
    """The requests of one scoring: what is sent for some rows, and what their answer says."""

    path = ""
    batch = _BATCH  # rows in one request

    def __init__(self, model: ServedModel):
        self.model = model
        self.expected: dict[int, float] | None = None  # of the first rows, by the local model
        self.facts: dict[str, Any] = {}
        self._too_long: list[int] = []

    @abstractmethod
    def body(self, rows: Sequence[int]) -> dict[str, Any]:
        """What is asked about some rows."""

    @abstractmethod
    def read(self, rows: Sequence[int], answer: Mapping[str, Any]) -> list[float]:
        """One reward per row; NaN where the answer is whole and holds none."""

    def tokens(self, rows: Sequence[int]) -> int:
        """Tokens that may be written, for the deadline."""
        return len(rows)

    async def run(self, addresses: Sequence[str], count: int) -> AsyncIterator[tuple[list[int], list[float]]]:
        """Yield rows and their rewards: first those that are compared, alone, then everything else."""
        known = KnownModel(self.model.served_model)
        async with Servers(addresses, in_flight=self.model.in_flight, patience=Patience()) as servers:
            address = await servers.first_contact("/models", known.check)
            kind, version = await server_kind(servers, address)
            self.facts = {
                "addresses": list(addresses), "served_model": self.model.served_model, "root": known.root,
                "server": kind, "version": version, "path": self.path.removeprefix("/"),
            }  # fmt: skip
            try:
                first = sorted(self.expected or {})
                if first:
                    found = {row: value async for rows, values in self._ask(servers, [first])
                             for row, value in zip(rows, values, strict=True)}  # fmt: skip
                    self.facts["parity"] = self._parity(found)
                    yield list(found), list(found.values())
                done = set(first)
                async for rows, values in self._ask(servers, _batches(range(count), done, self.batch)):
                    yield rows, values
            finally:
                self._note(servers)
            if servers.tally.left_out:
                raise ServerError(
                    f"{sum(len(rows) for rows, _ in servers.tally.left_out)} candidates got no reward from "
                    f"{self.model.served_model!r} (the last fault was: {servers.tally.left_out[-1][1]}); what arrived "
                    "is stored: run again"
                )

    async def _ask(
        self, servers: Servers, batches: Iterable[list[int]]
    ) -> AsyncIterator[tuple[list[int], list[float]]]:
        """Rows and rewards of some batches; of one that holds a text that is too long, row by row."""
        while batches:
            asks = (Ask(rows, self.path, self._bytes(rows), self.tokens(rows)) for rows in batches)
            alone: list[list[int]] = []
            async for rows, values, _ in servers.ask_all(asks, self._checked):
                if not isinstance(values, TooLong):
                    yield rows, values
                elif len(rows) > 1:
                    alone += [[row] for row in rows]
                else:
                    self._too_long += rows
                    yield rows, [math.nan]
            batches = alone

    def _bytes(self, rows: Sequence[int]) -> bytes:
        return json.dumps({"model": self.model.served_model} | self.body(rows), ensure_ascii=False).encode()

    def _checked(self, rows: Sequence[int], answer: Mapping[str, Any]) -> list[float]:
        answered_by(answer, self.model.served_model)
        return self.read(rows, answer)

    def _parity(self, served: Mapping[int, float]) -> float:
        """The largest difference from the local model.

        Raises:
            ServerError: it exceeds the tolerance.
        """
        expected = self.expected or {}
        rows = [row for row in served if row not in self._too_long]
        pairs = [(abs(served[row] - expected[row]), served[row], expected[row]) for row in rows]
        if not pairs:
            raise ServerError(
                f"none of {len(served)} texts fits the context of {self.model.served_model!r}, so it cannot be "
                f"compared with {self.model.local!r}; serve it with a longer context (vLLM: --max-model-len)"
            )
        worst = max(pairs, key=lambda pair: pair[0] if math.isfinite(pair[0]) else math.inf)
        if not worst[0] <= _TOLERANCE:
            _, theirs, ours = worst
            within = all(abs(value) <= 1 for _, value, _ in pairs) and any(abs(value) > 1 for _, _, value in pairs)
            raise ServerError(
                f"{self.model.served_model!r} gives {theirs:.4f} where the local reward model {self.model.local!r} "
                f"gives {ours:.4f} (at most {_TOLERANCE} apart is allowed); nothing was scored: serve the same weights "
                "in the same number format"
                + (", and without an activation: the served numbers lie between -1 and 1" if within else "")
            )
        return worst[0]

    def _note(self, servers: Servers) -> None:
        tally = servers.tally
        self.facts |= {
            "requests": tally.requests, "answers": tally.answers, "faults": dict(tally.faults),
            "left_out": sum(len(rows) for rows, _ in tally.left_out), "prompts too long": len(self._too_long),
            "prompt_tokens": tally.prompt_tokens, "completion_tokens": tally.completion_tokens,
        }  # fmt: skip


class _Rewards(_Call):
    """A reward model behind /classify or /pooling, whose activation is switched off."""

    def __init__(self, model: ServedModel):
        super().__init__(model)
        self.path = PATHS[model.endpoint]

    @abstractmethod
    def texts(self, rows: Sequence[int]) -> dict[str, Any]:
        """The texts of some rows, in one of the shapes that the server takes."""

    def body(self, rows: Sequence[int]) -> dict[str, Any]:
        task = {"task": "classify"} if self.model.endpoint == "pooling" else {}
        return self.texts(rows) | {"use_activation": False} | task

    def read(self, rows: Sequence[int], answer: Mapping[str, Any]) -> list[float]:
        data = answer.get("data")
        if not isinstance(data, list) or len(data) != len(rows):
            found = len(data) if isinstance(data, list) else "no"
            raise Fault("wrong number of rewards", f"{found} for {len(rows)} texts")
        ordered = sorted(data, key=lambda one: one.get("index", 0) if isinstance(one, dict) else 0)
        return [self._number(one) for one in ordered]

    def _number(self, one: object) -> float:
        values = one.get("probs" if self.model.endpoint == "classify" else "data") if isinstance(one, dict) else None
        while isinstance(values, list) and len(values) == 1:
            values = values[0]
        if isinstance(values, list):
            raise ServerError(
                f"{self.model.served_model!r} returns {len(values)} numbers per text, so it is served as embeddings or "
                "is a classifier; start the server with a reward model of one output: vllm serve MODEL --runner "
                "pooling --convert classify"
            )
        if values is None:  # JSON has no NaN, so some servers write null
            return math.nan
        if not isinstance(values, (int, float)):
            raise Fault("no reward", f"a text got {type(values).__name__}")
        return float(values)


class _Tokens(_Rewards):
    """Texts as token ids, written by the local model's tokenizer."""

    def __init__(self, model: ServedModel, ids: Sequence[list[int]]):
        super().__init__(model)
        self.ids = ids

    def texts(self, rows: Sequence[int]) -> dict[str, Any]:
        return {"input": [self.ids[row] for row in rows]}


class _Chats(_Rewards):
    """Texts as chats, written by the server's own chat template; one chat in a request."""

    batch = 1

    def __init__(
        self,
        model: ServedModel,
        style: str,
        prompts: Sequence[tuple[str, str]],
        prompt_of: Sequence[int],
        completions: Sequence[str],
    ):
        super().__init__(model)
        self._asked = [messages(question, language, style) for question, language in prompts]
        self._prompt_of, self._completions = prompt_of, completions

    def texts(self, rows: Sequence[int]) -> dict[str, Any]:
        row = rows[0]
        answer = {"role": "assistant", "content": self._completions[row]}
        chat = [*self._asked[self._prompt_of[row]], answer]
        return {"messages": chat, "add_generation_prompt": False}


class _Verdicts(_Call):
    """A chat model that is asked whether a solution is correct."""

    path = CHAT
    batch = 1

    def __init__(
        self,
        model: ServedModel,
        prompts: Sequence[tuple[str, str]],
        prompt_of: Sequence[int],
        completions: Sequence[str],
    ):
        super().__init__(model)
        self._prompts, self._prompt_of, self._completions = prompts, prompt_of, completions
        self._longest = model.max_tokens or LONGEST[model.template]

    def tokens(self, rows: Sequence[int]) -> int:
        return self._longest

    def body(self, rows: Sequence[int]) -> dict[str, Any]:
        question, _ = self._prompts[self._prompt_of[rows[0]]]
        chat = judge_messages(self.model.template, question, self._completions[rows[0]])
        return {
            "messages": chat, "temperature": 0.0, "top_p": 1.0, "max_tokens": self._longest, "n": 1, "stream": False,
            "logprobs": True, "top_logprobs": _ALTERNATIVES,
        }  # fmt: skip

    def read(self, rows: Sequence[int], answer: Mapping[str, Any]) -> list[float]:
        choices = answer.get("choices")
        choice = choices[0] if isinstance(choices, list) and len(choices) == 1 else None
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(choice, dict) or not isinstance(message, dict):
            raise Fault("wrong number of choices", "the answer does not hold one choice with a message")
        if not isinstance(choice.get("finish_reason"), str):
            raise Fault("no finish reason")
        text = message.get("content")
        if text is None and (message.get("reasoning_content") or message.get("reasoning")):
            return [math.nan]  # its thinking took all the tokens
        if not isinstance(text, str):
            raise Fault("null content", f"the verdict is {type(text).__name__}")
        logprobs = choice.get("logprobs")
        listed = logprobs.get("content") if isinstance(logprobs, dict) else None
        self.facts["verdicts"] = "probability of Yes" if listed else "words, as the server sends no log-probabilities"
        try:
            return [verdict(self.model.template, text, listed or ())]
        except (TypeError, KeyError, ValueError, AttributeError):
            raise Fault("no log-probabilities", "those of the verdict cannot be read") from None


def open_served(place: Path, spec: RewardModelSpec) -> ServedReward:
    """The served reward model that a record describes.

    Raises:
        ValueError: its local reward model is missing or has changed.
    """
    if spec.served is None:
        raise ValueError(
            f"{place / 'reward_model.json'} says nothing about servers; delete the folder and import again"
        )
    return ServedReward(ServedModel(**spec.served), spec.style)


def _evenly(count: int) -> list[int]:
    """Up to 20 rows from the whole length."""
    return sorted({int(row) for row in np.linspace(0, count - 1, min(count, _CHECKED))})


def _batches(rows: Iterable[int], done: set[int], size: int) -> Iterator[list[int]]:
    batch: list[int] = []
    for row in rows:
        if row not in done:
            batch.append(row)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
