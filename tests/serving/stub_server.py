"""An OpenAI-compatible server that answers from the seed, as fast as asyncio can, and does wrong what it is told to.

In a test: `with Stub(plan) as stub`, where plan(count, body) names what happens to the count-th POST, or None for a good
answer. As a process of its own: `python stub_server.py [--port P] [--die-after N] [--fault NAME:EVERY]`, which prints
its port.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import threading
from collections.abc import Callable
from typing import Any

REASONS = {200: "OK", 302: "Found", 400: "Bad Request", 404: "Not Found"}
STATUS_FAULTS = {
    "500": (500, "{}"),
    "502": (502, "<html><body>Bad Gateway</body></html>"),
    "503": (503, '{"error": {"message": "overloaded"}}'),
    "429": (429, '{"error": {"message": "slow down", "type": "rate_limit"}}'),
    "429-after": (429, '{"error": {"message": "slow down"}}'),
    "401": (401, '{"error": {"message": "Incorrect API key provided: KEY"}}'),
    "403": (403, '{"error": {"message": "not for you, KEY"}}'),
    "quota": (429, '{"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}'),
    "402": (402, '{"detail": "payment required"}'),
    "404": (404, '{"error": {"message": "The model `x` does not exist."}}'),
    "bad field": (400, '{"error": {"message": "Unrecognized request argument supplied: min_p"}}'),
    "no template": (400, '{"error": {"message": "default chat template is no longer allowed"}}'),
    "too long": (400, '{"error": {"message": "This model\'s maximum context length is 512 tokens."}}'),
    "html": (200, "<!doctype html><html><body>Sign in to the network</body></html>"),
    "malformed": (200, '{"id": "x", "choices": [{"index": 0, "mess'),
    "list": (200, "[1, 2]"),
    "redirect": (302, ""),
}
REFUSALS = [  # faults that no repetition mends, and what a client says of each
    ("401", r"refuses access \(HTTP 401.*BESTOFL_API_KEY"),
    ("403", r"refuses access \(HTTP 403.*BESTOFL_API_KEY"),
    ("402", r"quota is used up"),
    ("quota", r"quota is used up.*exceeded your current quota"),
    ("404", r"does not exist.*served_model"),
    ("redirect", r"redirects to http://elsewhere/v1"),
]


class Stub:
    """The server, in a thread.

    Attributes:
        bodies: every POST body that arrived; headers: the headers beside it; answered: how many good answers were sent.
    """

    def __init__(
        self,
        plan: Callable[[int, dict[str, Any]], str | None] = lambda count, body: None,
        *,
        models: tuple[str, ...] = ("lab",),
        root: str = "/models/lab",
        kind: str = "vllm",
        port: int = 0,
        delay: float = 0.0,
        logprobs: str = "raw",
    ):
        self.plan, self.models, self.root, self.kind, self.port = plan, models, root, kind, port
        self.delay, self.logprobs = delay, logprobs
        self.reward: Callable[[Any], float] = lambda text: sum(text) / len(text)
        self.rewards: dict[str, Callable[[Any], float]] = {}  # by served name, such as those of LoRA adapters
        self.verdict: Callable[[str], str] | None = None  # what a judge writes about a prompt
        self.chance_of_yes: float | None = None  # at the verdict; None: no log-probabilities are sent
        self.waiting = 0.0  # what /metrics says
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[str] = []
        self.answered = self.in_flight = self.most_in_flight = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Stub:
        started = threading.Event()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self.thread.start()
        assert started.wait(10)
        return self

    def __exit__(self, *error: object) -> None:
        self.loop.call_soon_threadsafe(self.stopped.set)
        self.thread.join(10)

    def _run(self, started: threading.Event) -> None:
        async def main() -> None:
            self.stopped = asyncio.Event()
            await self.listen()
            started.set()
            await self.stopped.wait()
            self.server.close()
            self.server.close_clients()

        self.loop.run_until_complete(main())
        self.loop.close()

    async def listen(self) -> None:
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", self.port)
        self.connections: set[_Connection] = set()
        self.port = self.server.sockets[0].getsockname()[1]
        self.server.close_clients = lambda: [c.transport.abort() for c in list(self.connections)]  # type: ignore

    def die_for(self, seconds: float) -> None:
        """Close every connection and listen again at the same address after some seconds; from the plan."""
        self.server.close()
        self.server.close_clients()
        self.loop.call_later(seconds, lambda: self.loop.create_task(self.listen()))

    def page(self, path: str) -> tuple[int, str]:
        """The answer to a GET."""
        if path == "/v1/models":
            data = [{"id": name, "root": self.root, "max_model_len": 512} for name in self.models]
            return 200, json.dumps({"object": "list", "data": data})
        pages = {
            "vllm": {"/version": '{"version": "0.32.0"}', "/metrics": f"vllm:num_requests_waiting{{engine=\"0\"}} {self.waiting}\n"},
            "llama.cpp": {"/props": '{"build_info": "b9000"}'},
            "openai": {},
        }  # fmt: skip
        pages[self.kind]["/health"] = "{}"
        return (200, pages[self.kind][path]) if path in pages[self.kind] else (404, '{"error": "no such page"}')

    def good(self, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to a completion: its text follows from prompt and seed."""
        if self.verdict is not None:
            return self.judged(body)
        seed, chat = body.get("seed"), "messages" in body
        prompt = body["messages"][-1]["content"] if chat else body["prompt"]
        temperature = 1.0 if self.logprobs == "raw" else body["temperature"]
        choices = []
        for index in range(body.get("n", 1)):
            text = f"{prompt} -> {None if seed is None else seed + index}"
            whole = len(text) // 4 + 1
            n_tokens = min(whole, body["max_tokens"])
            reason = "length" if n_tokens < whole else "stop"
            choice: dict[str, Any] = {"index": index, "finish_reason": reason, "logprobs": None}
            if body.get("logprobs") and self.logprobs:
                # as vLLM has it: the token that was drawn, whichever it is, before the likeliest
                drawn, likeliest = {"logprob": -5.0 * body["temperature"]}, {"logprob": -0.25 / temperature}
                top = {
                    "token": "a",
                    "logprob": -0.25 / temperature,
                    "top_logprobs": [drawn, likeliest][: body.get("top_logprobs", 0)],
                }
                choice["logprobs"] = {"content": [top] * n_tokens} if chat else {
                    "token_logprobs": [-0.25] * n_tokens, "top_logprobs": [{"a": -0.25 / temperature}] * n_tokens}  # fmt: skip
            if body.get("return_token_ids"):
                choice["token_ids"] = list(range(n_tokens))
            choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
            choices.append(choice)
        usage = {"prompt_tokens": 10, "completion_tokens": n_tokens * len(choices)}
        return {"model": body["model"], "choices": choices, "usage": usage}

    def score(self, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to /classify or /pooling: the mean of the token ids, or the sigmoid of it where activation is on."""
        data = []
        reward_of = self.rewards.get(body["model"], self.reward)
        for index, text in enumerate(body.get("input") or [body["messages"]]):
            reward = float(reward_of(text))
            if body.get("use_activation", True):
                reward = 1 / (1 + math.exp(-reward))
            data.append({"index": index, "probs": [reward], "data": [reward]})
        return {"model": body["model"], "data": data}

    def judged(self, body: dict[str, Any]) -> dict[str, Any]:
        """A judge's answer, word by word."""
        assert self.verdict is not None
        text = self.verdict(body["messages"][-1]["content"])
        listed = []
        for word in text.split():
            said = word.strip(".").lower()
            chances = {word: 0.9}
            if said in ("yes", "no") and self.chance_of_yes is not None:
                chances = {" Yes": self.chance_of_yes, "no": 0.9 - self.chance_of_yes, "Maybe": 0.1}
            top = [{"token": token, "logprob": math.log(chance)} for token, chance in chances.items()]
            listed.append({"token": word, "logprob": -0.1, "top_logprobs": top})
        logprobs = {"content": listed} if self.chance_of_yes is not None else None
        choice = {"index": 0, "message": {"content": text}, "finish_reason": "stop", "logprobs": logprobs}
        return {"model": body["model"], "choices": [choice], "usage": {"completion_tokens": len(listed)}}

    def spoilt(self, fault: str, answer: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        """A good answer with one thing wrong; the choices of a reward model's answer are its rewards."""
        listed = "choices" if "choices" in answer else "data"
        choice = answer[listed][0]
        if fault == "empty choices":
            answer[listed] = []
        elif fault == "no choices":
            del answer[listed]
        elif fault == "too few choices":
            answer[listed].pop()
        elif fault == "no number":
            choice["probs"] = choice["data"] = "high"
        elif fault == "null content":
            choice["message"]["content"] = None
        elif fault == "no finish reason":
            choice["finish_reason"] = None
        elif fault == "aborted":
            choice["finish_reason"] = "abort"
        elif fault == "filtered":
            choice["finish_reason"] = "content_filter"
        elif fault == "other model":
            answer["model"] = "another-7b"
        elif fault == "no model":
            del answer["model"]
        elif fault == "dated model":
            answer["model"] += "-2026-11-24"
        elif fault == "too many tokens":
            choice["token_ids"] = list(range(body["max_tokens"] + 1))
        elif fault == "thinking":
            choice["message"] = {"content": "7", "reasoning_content": "3 + 4"}
        elif fault == "cut thinking":
            choice["message"] = {"content": None, "reasoning": "3 + "}
            choice["finish_reason"] = "length"
        elif fault == "empty text":
            choice["message"]["content"] = ""
        elif fault == "nan logprob":
            choice["logprobs"]["content"][0] = {"logprob": float("nan")}
        else:
            raise ValueError(f"unknown fault {fault!r}")
        return answer


class _Connection(asyncio.Protocol):
    """One kept-alive HTTP/1.1 connection."""

    def __init__(self, stub: Stub):
        self.stub, self.data = stub, b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.stub.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.stub.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self.data += data
        while (end := self.data.find(b"\r\n\r\n")) >= 0:
            head = self.data[:end].decode("latin1")
            start = head.lower().find("content-length:")
            length = int(head[start + 15 :].split("\r\n")[0]) if start >= 0 else 0
            if len(self.data) < end + 4 + length:
                return
            body, self.data = self.data[end + 4 : end + 4 + length], self.data[end + 4 + length :]
            method, path, _ = head.split("\r\n")[0].split(" ")
            if method == "GET":
                self.send(*self.stub.page(path))
            else:
                self.answer(path, json.loads(body), head)

    def answer(self, path: str, body: dict[str, Any], head: str) -> None:
        stub = self.stub
        fault = stub.plan(len(stub.bodies), body)
        stub.bodies.append(body)
        stub.headers.append(head)
        stub.in_flight += 1
        stub.most_in_flight = max(stub.most_in_flight, stub.in_flight)
        if stub.delay:
            asyncio.get_running_loop().call_later(stub.delay, self.finish, path, body, head, fault)
        else:
            self.finish(path, body, head, fault)

    def finish(self, path: str, body: dict[str, Any], head: str, fault: str | None) -> None:
        stub = self.stub
        stub.in_flight -= 1
        good = stub.score if path in ("/classify", "/pooling") else stub.good
        if fault is None:
            stub.answered += 1
            self.send(200, json.dumps(good(body)))
        elif fault == "hang":
            stub.in_flight += 1
        elif fault == "hang in the middle":
            stub.in_flight += 1
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + b'{"model": "lab", ')
        elif fault == "cut":
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + b'{"model": "lab", ')
            self.transport.close()
        elif fault == "drop":
            self.transport.abort()
        elif fault == "die":
            os._exit(1)
        elif fault in STATUS_FAULTS:
            status, text = STATUS_FAULTS[fault]
            extra = "Retry-After: 0.5\r\n" if fault == "429-after" else "Location: http://elsewhere/v1\r\n"
            key = head.partition("Bearer ")[2].split("\r\n")[0]
            self.send(status, text.replace("KEY", key), extra)
        else:
            self.send(200, json.dumps(stub.spoilt(fault, good(body), body)))

    def send(self, status: int, text: str, extra: str = "") -> None:
        data = text.encode()
        head = f"HTTP/1.1 {status} {REASONS.get(status, 'Other')}\r\nContent-Length: {len(data)}\r\n{extra}\r\n"
        if not self.transport.is_closing():
            self.transport.write(head.encode() + data)


async def _serve(stub: Stub) -> None:
    await stub.listen()
    print(stub.port, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--die-after", type=int, default=0)
    parser.add_argument("--fault", default="")
    parser.add_argument("--delay", type=float, default=0.0)
    given = parser.parse_args()
    name, _, every = given.fault.partition(":")

    def plan(count: int, body: dict[str, Any]) -> str | None:
        if given.die_after and count >= given.die_after:
            return "die"
        return name if name and count % int(every) == 0 else None

    asyncio.run(_serve(Stub(plan, port=given.port, delay=given.delay)))
