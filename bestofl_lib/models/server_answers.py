"""Judges what a model server answered: a usable answer, a fault that may pass, or a reason to stop the run.

One answer at a time. It opens no connection and decides no waiting time: that is `servers.py`.
"""

from __future__ import annotations

import email.utils
import json
import time
from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json

from bestofl_lib.text import shortened

_TOO_LONG = (
    "maximum context length",  # vLLM, OpenAI
    "context_length_exceeded",  # OpenAI
    "exceed_context_size",  # llama.cpp
    "exceeds the available context size",  # llama.cpp
    "longer than the model's context length",  # SGLang
    "longer than the maximum model length",  # vLLM
    "exceeds the maximum length",
)
_NO_TEMPLATE = ("chat template", "chat_template")
_QUOTA = ("insufficient_quota", "exceeded your current quota", "billing")
_SHOWN = 300  # characters of a server's message that are repeated


class ServerError(RuntimeError):
    """Why a run over model servers cannot continue; what has arrived is kept."""


class Fault(Exception):
    """An attempt that failed in transport; the same request may succeed when it is sent again.

    Attributes:
        kind: a short name under which it is counted, such as "HTTP 503" or "time-out".
        retry_after: seconds for which the server asked to be left alone; None: it did not say.
        blames_request: whether it counts against this request's attempts. A server that cannot be reached or is busy
            says nothing about the request.
    """

    def __init__(self, kind: str, detail: str = "", *, retry_after: float | None = None, blames_request: bool = True):
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind, self.retry_after, self.blames_request = kind, retry_after, blames_request


class TooLong(Exception):
    """The server says that prompt and completion do not fit into the model's context."""


def read_answer(status: int, headers: Mapping[str, str], body: bytes, *, where: str, key: str = "") -> dict[str, Any]:
    """The JSON object of a successful answer.

    Args:
        status, headers, body: of the HTTP answer.
        where: the address, for messages.
        key: the API key that was sent; it is removed from every message.

    Raises:
        Fault: the same request may succeed later: 408, 409, 425, 429, 5xx, or a body that is no JSON object.
        TooLong: the prompt does not fit.
        ServerError: sending again cannot help: the key, the quota, the path or a field was refused.
    """
    if status == 200:
        try:
            answer = from_json(body)  # twice as fast as json.loads, which matters for long lists of log-probabilities
        except ValueError:
            text = body.decode("utf8", "replace")
            kind = "HTML instead of JSON" if text.lstrip()[:1] == "<" else "malformed JSON"
            raise Fault(kind, f"{where} answered {_shown(text, key)!r}") from None
        if not isinstance(answer, dict):
            raise Fault("malformed JSON", f"{where} answered {type(answer).__name__} where an object was expected")
        return answer
    text = body.decode("utf8", "replace")
    message = _shown(_message(text), key)
    lowered = text.lower()
    if status == 429 and not any(word in lowered for word in _QUOTA):
        raise Fault("HTTP 429", message, retry_after=retry_after(headers), blames_request=False)
    if status in (408, 409, 425):
        raise Fault(f"HTTP {status}", message)
    if status >= 500:
        after = retry_after(headers)
        raise Fault(f"HTTP {status}", message, retry_after=after, blames_request=status != 503)
    if status in (400, 413, 422) and any(sign in lowered for sign in _TOO_LONG):
        raise TooLong(message)
    raise ServerError(_final(status, lowered, message, headers, where, bool(key)))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by the header Retry-After, which holds seconds or a date; None where it is missing or odd."""
    value = next((v for name, v in headers.items() if name.lower() == "retry-after"), None)
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return None
    return max(0.0, seconds) if seconds == seconds else None


def without_key(text: str, key: str) -> str:
    """The text with every occurrence of the API key replaced."""
    return text.replace(key, "[key]") if key else text


def _final(status: int, lowered: str, message: str, headers: Mapping[str, str], where: str, has_key: bool) -> str:
    """What to tell the user about an answer that sending again would not change."""
    if status in (401, 403):
        remedy = "check the key in BESTOFL_API_KEY" if has_key else "put its key into the environment: BESTOFL_API_KEY"
        return f"{where} refuses access (HTTP {status}: {message}); {remedy}"
    if status == 402 or status == 429:
        return f"{where} says that the quota is used up (HTTP {status}: {message}); raise it, then run again"
    if 300 <= status < 400:
        target = next((v for name, v in headers.items() if name.lower() == "location"), "another address")
        return f"{where} redirects to {_shown(target, '')} (HTTP {status}); give that address instead"
    if any(sign in lowered for sign in _NO_TEMPLATE):
        return (
            f"{where} cannot render a chat (HTTP {status}: {message}), so it probably serves a base model; "
            "serve its instruct version, or pass chat_template='plain' to send texts without a template"
        )
    if status == 404:
        return f"{where} does not know what was asked for (HTTP 404: {message}); check served_model and the address"
    return f"{where} refuses the request (HTTP {status}: {message}); change what it names, then run again"


def _message(text: str) -> str:
    """The sentence inside an error body, in any of the shapes that servers use."""
    try:
        answer = json.loads(text)
    except ValueError:
        return text
    for name in ("error", "detail", "message"):
        found = answer.get(name) if isinstance(answer, dict) else None
        if isinstance(found, dict):
            found = found.get("message")
        if isinstance(found, str):
            return found
    return text


def _shown(text: str, key: str) -> str:
    """A server's text, shortened, in one line, without control characters or the key."""
    text = "".join(letter if letter.isprintable() else " " for letter in without_key(text, key))
    return shortened(" ".join(text.split()), _SHOWN)
