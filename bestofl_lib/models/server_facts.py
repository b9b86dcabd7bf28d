"""Finds out what a model server is: its software, its version, and the model behind the name that was asked for.

It reads the pages that servers show about themselves and draws nothing.
"""

from __future__ import annotations

import collections
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from bestofl_lib.models.server_answers import Fault, ServerError
from bestofl_lib.models.servers import Servers

_ONE_ENTRY = ("reward_model", "served_model", "root", "server", "version", "addresses", "sent", "logprobs", "engine")
_COUNTS = (
    "requests", "answers", "left_out", "prompts too long", "prompt_tokens", "completion_tokens", "drawn", "with_seed",
    "without_seed", "cost", "cut", "lost_workers",
)  # fmt: skip
_VERSIONED = re.compile(r"-\d{4}-\d{2}-\d{2}|-\d{4,8}")  # what hosted models add to the name that was asked for


class KnownModel:
    """The model that all servers of a run must hold.

    Args:
        name: under which the servers know it.

    Attributes:
        root, context: what the first server says about it: the weights' own name, and the context in tokens or None.
    """

    def __init__(self, name: str):
        self.name = name
        self.root, self._first = "", ""
        self.context: int | None = None

    def check(self, address: str, answer: Mapping[str, Any]) -> None:
        """Compare what one server says of its models with the name and with the servers before it.

        Raises:
            ServerError: it does not serve the model, or another one under the same name.
        """
        models = models_of(answer)
        if self.name not in models:
            listed = ", ".join(sorted(models)) or "none"
            raise ServerError(f"{address} serves no model {self.name!r}; it serves: {listed}")
        root, context = models[self.name]
        if not self._first:
            self._first, self.root, self.context = address, root, context
        elif (root, context) != (self.root, self.context):
            raise ServerError(
                f"{self._first} and {address} hold different models under the name {self.name!r}: {self.root!r} with "
                f"a context of {self.context} and {root!r} with {context}; use servers of one model in one run"
            )


def answered_by(answer: Mapping[str, Any], asked: str) -> str:
    """The name of the model that gave an answer.

    Raises:
        Fault: the answer does not say.
        ServerError: it is another model than the one asked for.
    """
    name = answer.get("model")
    if not isinstance(name, str):
        raise Fault("no model name", "the answer does not say which model gave it")
    if name != asked and not (name.startswith(asked) and _VERSIONED.fullmatch(name[len(asked) :])):
        raise ServerError(f"the server answered with model {name!r} where {asked!r} was asked for")
    return name


def models_of(answer: Mapping[str, Any]) -> dict[str, tuple[str, int | None]]:
    """Served name -> (root, context) of an answer to /models."""
    listed = answer.get("data")
    models: dict[str, tuple[str, int | None]] = {}
    for model in listed if isinstance(listed, list) else []:
        if isinstance(model, dict) and isinstance(model.get("id"), str):
            models[model["id"]] = (str(model.get("root") or ""), model.get("max_model_len"))
    return models


def added_up(notes: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What was noted at several calls, one entry per model, server and way of asking.

    Counts are added up; of everything else the latest note counts.
    """
    found: dict[str, dict[str, Any]] = {}
    for note in notes:
        key = json.dumps([note.get(name) for name in _ONE_ENTRY])
        before = found.get(key, {"calls": 0})
        entry = before | dict(note) | {"calls": before["calls"] + 1}
        for name in {*note} & {*_COUNTS}:
            entry[name] = before.get(name, 0) + note[name]
        for name in {*note} & {"faults", "ended_by"}:
            entry[name] = dict(collections.Counter(before.get(name, {})) + collections.Counter(note[name]))
        found[key] = entry
    return list(found.values())


async def server_kind(servers: Servers, address: str) -> tuple[str, str]:
    """What kind of server answers ("vllm", "sglang", "llama.cpp"; "openai" for any other of that API) and its version,
    empty where it does not say.
    """
    version = await servers.text(address, "/version")
    if version is not None:
        return "vllm", _field(version, "version")
    for path in ("/server_info", "/get_server_info"):
        if (info := await servers.text(address, path)) is not None:
            return "sglang", _field(info, "version")
    if (props := await servers.text(address, "/props")) is not None:
        return "llama.cpp", _field(props, "build_info")
    return "openai", ""


def _field(page: str, name: str) -> str:
    try:
        found = json.loads(page).get(name, "")
    except (ValueError, AttributeError):
        return ""
    return str(found)
