"""Samples from a model behind one or several OpenAI-compatible servers: vLLM, SGLang, llama.cpp or a hosted one.

It turns requests into HTTP bodies that hold every sampling field, and checked answers into completions. The text of a
completion never decides whether a request is sent again. Waiting and retrying is the work of `models/servers.py`;
problems, answers and the store are unknown here.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from bestofl_lib.candidates.forecast import cost
from bestofl_lib.models.background import iterate_in_thread
from bestofl_lib.models.contract import Completion, Request, Sampling
from bestofl_lib.models.server_answers import Fault, ServerError, TooLong
from bestofl_lib.models.server_facts import KnownModel, answered_by, models_of, server_kind
from bestofl_lib.models.servers import Ask, Patience, Servers, read_addresses

# Fields beyond those of the OpenAI API, so that no default of a server or of a model's generation_config.json applies.
_EXTRA_FIELDS: dict[str, dict[str, Any]] = {
    "vllm": {"min_p": 0.0, "repetition_penalty": 1.0, "ignore_eos": False, "return_token_ids": True},
    "sglang": {"min_p": 0.0, "repetition_penalty": 1.0, "ignore_eos": False},
    "llama.cpp": {"min_p": 0.0, "repeat_penalty": 1.0, "typical_p": 1.0, "dry_multiplier": 0.0, "xtc_probability": 0.0},
    "openai": {},
}
_ALL_TOKENS = {"vllm": -1, "sglang": -1, "llama.cpp": 0}  # the top_k that keeps every token
_STOPPED = ("stop", "eos", "end_turn")
_SEEDED_HINT = "a vLLM built for CPUs dies from several seeded requests in one batch: use seeded=False with it"
_SAME_LOGPROB = 0.02  # largest rounding difference between two answers to one prompt


class EndpointSampler:
    """A `Sampler` over model servers.

    Nothing is asked of a server before the first `sample`, unless `served_model` is empty.

    Args:
        addresses: as `read_addresses` takes them: one address, several, or a .txt file that lists them.
        served_model: the name under which the servers know the model, or a LoRA adapter of it. Empty: the only model
            they serve.
        revision: what the user says about the version of the weights; part of the identity, not checked by a server.
        seeded: send each candidate's seed. False: candidates are drawn unseeded and their `seed` is null. For servers
            that take no seeds, and for vLLM's CPU build, whose engine dies from several seeded requests in one batch.
        per_request: completions per request (the API's n). Above 1, one prompt is sent once for several completions,
            each of which gets the seed that vLLM derives for it: the request's seed plus its index.
        chat_template: None: the server's own; "plain": texts joined by empty lines and sent to /completions.
        in_flight: requests that one server is given at once, at most.
        patience: how much server trouble is tolerated.
        price: of a million tokens written, in any currency; 0: unknown. Prompts are not part of it.

    Raises:
        ValueError: no usable address, or a value out of range.
        ServerError: `served_model` is empty and the servers do not serve exactly one model.
    """

    def __init__(
        self,
        addresses: str | Sequence[str],
        served_model: str = "",
        *,
        revision: str | None = None,
        seeded: bool = True,
        per_request: int = 1,
        chat_template: str | None = None,
        in_flight: int = 256,
        patience: Patience | None = None,
        price: float = 0.0,
    ):
        self.addresses = read_addresses(addresses)
        if not self.addresses:
            raise ValueError(f"{addresses!r} is not a server address; write it like http://host:8000/v1")
        if per_request < 1:
            raise ValueError(f"per_request is {per_request}; at least 1 completion must be asked for at a time")
        if chat_template not in (None, "plain"):
            raise ValueError("a server renders chats by its own template; use chat_template=None or 'plain'")
        if price < 0:
            raise ValueError(f"price is {price}; give the price of a million tokens, or 0 where it is unknown")
        self.seeded, self.per_request, self.chat_template, self.price = seeded, per_request, chat_template, price
        self.in_flight, self.patience = in_flight, patience or Patience()
        self.facts: dict[str, Any] = {}
        self.name = served_model or self._only_model()
        self.identity = f"served:{self.name}" + (f"@{revision}" if revision else "") + self._template_mark()

    def sample(self, requests: Sequence[Request], settings: Sampling) -> Iterator[tuple[Request, Completion]]:
        """Yield requests with their completions as they arrive, each request with the seed that was really used.

        Requests whose every attempt failed are not yielded; `facts["left_out"]` counts them.

        Raises:
            ServerError: no server answers, another model is served than was asked for, the key or quota is refused, or
                servers failed for longer than `patience` allows. Everything that arrived before is yielded first.
        """
        yield from iterate_in_thread(lambda: self._sample(requests, settings))

    # -- what is sent --------------------------------------------------------------------------------------------

    async def _sample(
        self, requests: Sequence[Request], settings: Sampling
    ) -> AsyncIterator[tuple[Request, Completion]]:
        async with Servers(self.addresses, in_flight=self.in_flight, patience=self.patience) as servers:
            servers.hint = _SEEDED_HINT if self.seeded else ""
            begins = any(request.messages[-1]["role"] == "assistant" for request in requests)
            form = await self._meet(servers, settings, begins)
            asks = (form.ask(unit) for unit in _units(requests, self.per_request))
            try:
                async for unit, completions, seconds in servers.ask_all(asks, form.read):
                    if isinstance(completions, TooLong):
                        completions = [Completion("", 0, "error", None, 0.0) for _ in unit]
                        self._count("prompts too long", len(unit))
                    for index, (request, completion) in enumerate(zip(unit, completions, strict=True)):
                        seed = unit[0].seed + index if self.seeded and unit[0].seed is not None else None
                        self._count("without_seed" if seed is None else "with_seed", 1)
                        yield (
                            dataclasses.replace(request, seed=seed),
                            dataclasses.replace(completion, seconds=seconds / len(unit)),
                        )
            finally:
                self._note_tally(servers, form)

    async def _meet(self, servers: Servers, settings: Sampling, begins: bool) -> _Form:
        """Ask the servers what they are, refuse what does not fit, and note it in `facts`.

        Args:
            begins: whether completions are asked for whose beginning is given.
        """
        known = KnownModel(self.name)
        first = await servers.first_contact("/models", known.check)
        kind, version = await server_kind(servers, first)
        form = _Form(self.name, kind, settings, self.seeded, self.per_request, self.chat_template)
        if begins and kind == "openai" and not form.is_plain:
            raise ServerError(
                "completions whose beginning is given (rollouts, think_by='prefill', style='few_shot') cannot be asked "
                "of this server: it takes the fields of the OpenAI API only, which has none to continue a message; use "
                "vLLM, SGLang or llama.cpp, the model in this process, or chat_template='plain' for a base model"
            )
        form.keeps_logprobs, mode = await _logprobs_mode(servers, form)
        self.facts = {
            "addresses": list(self.addresses), "served_model": self.name, "root": known.root, "context": known.context,
            "server": kind, "version": version, "seeded": self.seeded, "logprobs": mode,
            "sent": form.fields() | {"n": self.per_request},
        }  # fmt: skip
        return form

    def _only_model(self) -> str:
        names: set[str] = set()

        async def ask() -> AsyncIterator[str]:
            async with Servers(self.addresses, patience=self.patience) as servers:
                yield await servers.first_contact("/models", lambda _, answer: names.update(models_of(answer)))

        list(iterate_in_thread(ask))
        if len(names) != 1:
            raise ServerError(
                f"served_model is empty and the servers serve {', '.join(sorted(names)) or 'nothing'}; name one of them"
            )
        return names.pop()

    def _template_mark(self) -> str:
        return "+template:plain" if self.chat_template else ""

    # -- what is noted -------------------------------------------------------------------------------------------

    def _count(self, what: str, number: int) -> None:
        self.facts[what] = self.facts.get(what, 0) + number

    def _note_tally(self, servers: Servers, form: _Form) -> None:
        tally = servers.tally
        self.facts |= {
            "requests": tally.requests, "answers": tally.answers, "faults": dict(tally.faults),
            "left_out": sum(len(unit) for unit, _ in tally.left_out),
            "last_fault_of_left_out": tally.left_out[-1][1] if tally.left_out else "",
            "ended_by": dict(form.ended_by), "models_in_answers": sorted(form.answered_as),
            "prompt_tokens": tally.prompt_tokens, "completion_tokens": tally.completion_tokens,
        }  # fmt: skip
        if self.price:
            self.facts["cost"] = round(cost(tally.completion_tokens, self.price), 4)


class _Form:
    """How one run writes its requests and reads their answers."""

    def __init__(
        self, model: str, kind: str, settings: Sampling, seeded: bool, per_request: int, chat_template: str | None
    ):
        if kind == "openai" and settings.top_k:
            raise ServerError(
                f"top_k {settings.top_k} cannot be sent to this server, which takes the fields of the OpenAI API only; "
                "use top_k=0 with top_p"
            )
        self.model, self.kind, self.settings, self.seeded = model, kind, settings, seeded
        self.per_request, self.is_plain = per_request, chat_template == "plain"
        self.keeps_logprobs = False
        self.ended_by: dict[str, int] = {}  # finish reasons other than stop and length
        self.answered_as: set[str] = set()
        self.path = "/completions" if self.is_plain else "/chat/completions"

    def fields(self) -> dict[str, Any]:
        """Every field that shapes sampling; the same in all requests."""
        settings = self.settings
        fields: dict[str, Any] = {
            "model": self.model, "temperature": settings.temperature, "top_p": settings.top_p,
            "max_tokens": settings.max_new_tokens, "presence_penalty": 0.0, "frequency_penalty": 0.0, "stream": False,
        }  # fmt: skip
        if self.kind != "openai":
            fields["top_k"] = settings.top_k or _ALL_TOKENS[self.kind]
        if self.keeps_logprobs:
            fields["logprobs"] = 1 if self.is_plain else True
        return fields | _EXTRA_FIELDS[self.kind]

    def body(self, unit: Sequence[Request], **changes: Any) -> bytes:
        """The JSON body of the request for several completions of one prompt."""
        chat = [dict(message) for message in unit[0].messages]
        is_begun = chat[-1]["role"] == "assistant"  # a completion whose beginning is given to the model
        body = self.fields() | {"n": len(unit)}
        if self.is_plain:
            body["prompt"] = "\n\n".join(message["content"] for message in chat) + ("" if is_begun else "\n\n")
        else:
            body["messages"] = chat
            if is_begun:
                body |= {"continue_final_message": True, "add_generation_prompt": False}
        if self.seeded:
            body["seed"] = unit[0].seed
        if unit[0].stop:
            body["stop"] = list(unit[0].stop)
        return json.dumps(body | changes, ensure_ascii=False).encode()

    def ask(self, unit: tuple[Request, ...]) -> Ask[tuple[Request, ...]]:
        return Ask(unit, self.path, self.body(unit), self.settings.max_new_tokens * len(unit))

    def read(self, unit: Sequence[Request], answer: Mapping[str, Any]) -> list[Completion]:
        """The completions of one answer.

        Raises:
            Fault: the answer is damaged in a way that has nothing to do with what was written.
            ServerError: the server does not do what it was asked to.
        """
        self.answered_as.add(answered_by(answer, self.model))
        choices = answer.get("choices")
        if not isinstance(choices, list) or len(choices) != len(unit):
            found = len(choices) if isinstance(choices, list) else "no"
            raise Fault("wrong number of choices", f"{found} choices where {len(unit)} were asked for")
        usage = answer.get("usage")
        written = usage.get("completion_tokens") if isinstance(usage, dict) and len(unit) == 1 else None
        completions = [self._completion(choice, written) for choice in sorted(choices, key=_index)]
        for completion in completions:
            if completion.n_tokens > self.settings.max_new_tokens:
                raise ServerError(
                    f"the server wrote {completion.n_tokens} tokens where max_tokens was "
                    f"{self.settings.max_new_tokens}: "
                    "it does not keep the limit, so its completions are not those that were asked for"
                )
        return completions

    def _completion(self, choice: object, written: object) -> Completion:
        if not isinstance(choice, dict):
            raise Fault("malformed choice", f"a choice is {type(choice).__name__}, not an object")
        text, reason = self._text(choice), choice.get("finish_reason")
        if not isinstance(reason, str) or reason in ("abort", "error"):
            raise Fault("no finish reason" if not isinstance(reason, str) else f"finish reason {reason}")
        ids, logprobs = choice.get("token_ids"), self._logprobs(choice)
        counts = [len(ids) if isinstance(ids, list) else None, written, len(logprobs) if logprobs else None]
        n_tokens = next((count for count in counts if isinstance(count, int)), None)
        if n_tokens is None:
            raise Fault("no token count", "neither usage nor token ids say how many tokens were written")
        if reason not in (*_STOPPED, "length"):
            self.ended_by[reason] = self.ended_by.get(reason, 0) + 1
            return Completion(text, n_tokens, "error", None, 0.0)
        total = math.fsum(logprobs) if logprobs else None
        if total is not None and not math.isfinite(total):
            total = None
        finished = "length" if reason == "length" else "stop"
        kept = tuple(ids) if isinstance(ids, list) else None
        return Completion(text, n_tokens, finished, total, 0.0, kept, tuple(logprobs) if logprobs else None)

    def _text(self, choice: Mapping[str, Any]) -> str:
        message = choice if self.is_plain else choice.get("message")
        if not isinstance(message, dict):
            raise Fault("no message", "a choice holds no message")
        content = message.get("text" if self.is_plain else "content")
        # servers with a reasoning parser remove the thinking from the text, but the model wrote it
        thinking = message.get("reasoning_content") or message.get("reasoning")
        if isinstance(thinking, str) and thinking:
            ending = f"</think>{content}" if isinstance(content, str) else ""
            return f"<think>{thinking}{ending}"
        if not isinstance(content, str):
            raise Fault("null content", f"the text of a choice is {type(content).__name__}")
        return content

    def _logprobs(self, choice: Mapping[str, Any]) -> list[float]:
        if not self.keeps_logprobs:
            return []
        found = choice.get("logprobs")
        if not isinstance(found, dict):
            raise Fault("no log-probabilities", "they were asked for, and earlier answers held them")
        values = found.get("token_logprobs") if self.is_plain else found.get("content")
        if not isinstance(values, list):
            return []
        try:
            return [float(value if self.is_plain else value["logprob"]) for value in values]
        except (TypeError, KeyError, ValueError):
            raise Fault("no log-probabilities", "one of them is not a number") from None


async def _logprobs_mode(servers: Servers, form: _Form) -> tuple[bool, str]:
    """Whether log-probabilities are those of the untempered model, found by asking the likeliest token at two
    temperatures.

    Returns:
        (they are kept, what was found). Those of the tempered or cut distribution are not kept: the table's column
        means the model's own.
    """
    probe = Request("probe", "", 0, ({"role": "user", "content": "1 + 1 ="},), 1)
    likeliest = []
    for temperature in (1.0, 2.0):
        wanted: dict[str, Any] = {"logprobs": 2} if form.is_plain else {"logprobs": True, "top_logprobs": 2}
        body = form.body((probe,), temperature=temperature, max_tokens=1, **wanted)
        try:
            answers = servers.ask_all([Ask(probe, form.path, body, 1)], lambda _, answer: _top_logprob(answer))
            found = [result async for _, result, _ in answers]
        except ServerError as error:
            return False, f"refused by the server ({error})"
        if not found:
            raise ServerError(f"the servers do not answer a short request: {servers.tally.left_out.pop()[1]}")
        if not isinstance(found[0], float):
            return False, "the server sends none"
        likeliest.append(found[0])
    if abs(likeliest[0] - likeliest[1]) <= _SAME_LOGPROB:
        return True, "raw: of the model itself, before temperature"
    return False, "processed by temperature, so not kept; start vLLM with --logprobs-mode raw_logprobs"


def _top_logprob(answer: Mapping[str, Any]) -> float | None:
    """The log-probability of the likeliest first token, in the shape of either path; None where it is missing.

    vLLM puts the token that was drawn in front of the likeliest ones, so the greatest counts, not the first.
    """
    try:
        found = answer["choices"][0]["logprobs"]
        if "content" in found:
            return float(max(token["logprob"] for token in found["content"][0]["top_logprobs"]))
        return float(max(found["top_logprobs"][0].values()))
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def _units(requests: Sequence[Request], size: int) -> Iterator[tuple[Request, ...]]:
    """Requests, up to `size` of one prompt together, in their order."""
    unit: list[Request] = []
    for request in requests:
        if unit and (len(unit) == size or (request.messages, request.stop) != (unit[0].messages, unit[0].stop)):
            yield tuple(unit)
            unit = []
        unit.append(request)
    if unit:
        yield tuple(unit)


def _index(choice: object) -> int:
    index = choice.get("index") if isinstance(choice, dict) else None
    return index if isinstance(index, int) else 0
