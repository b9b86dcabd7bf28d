"""Sends requests to one or several OpenAI-compatible servers and collects every answer it can get.

Each request goes to the server with the fewest in flight. Requests that fail in transport are sent again, a bounded
number of times, after a growing random pause or the one the server asked for. A server that keeps failing is given a
rest and then one request at a time. It knows addresses, keys and time; what a request means is known by its callers
(`candidates/endpoint_sampler.py`, `rewards/served.py`).

Keys come from the environment alone: BESTOFL_API_KEY, or OPENAI_API_KEY for addresses at openai.com.
"""

from __future__ import annotations

import asyncio
import collections
import os
import random
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from bestofl_lib.models.server_answers import Fault, ServerError, TooLong, read_answer, without_key

T = TypeVar("T")

_FAILURES_TO_REST = 5  # faults in a row after which a server rests
_LONGEST_PAUSE = 30.0  # seconds between two attempts of one request
_FIRST_IN_FLIGHT = 24  # requests at first; four times as many when these are answered, until the server is overloaded
_SLACK = 5.0  # a request may take this many times longer than the slowest speed seen
_SHORTEST_DEADLINE = 30.0  # seconds
_CONNECT_SECONDS = 15.0
_WATCH_SECONDS = 5.0  # between two looks at a server's own count of waiting requests


@dataclass(frozen=True)
class Patience:
    """How much server trouble is tolerated before a run stops."""

    timeout: float = 600.0  # seconds that one request may take at most
    attempts: int = 8  # times that one request is sent before it is left out
    without_answer: float = 600.0  # seconds without any completed request before the run stops
    first_contact: float = 60.0  # seconds for the first server to answer at all

    def __post_init__(self) -> None:
        for name in ("timeout", "attempts", "without_answer", "first_contact"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")


@dataclass(frozen=True)
class Ask(Generic[T]):
    """One request to be sent, to whichever server is free."""

    item: T  # whatever the caller wants back with the answer
    path: str  # below the address, such as "/chat/completions"; with "//" in front: below the server's root
    body: bytes  # JSON
    tokens: int  # that may be generated, for the deadline


@dataclass
class Tally:
    """What happened between client and servers, for the run's record."""

    requests: int = 0  # sent, repetitions included
    answers: int = 0  # that could be used
    faults: collections.Counter[str] = field(default_factory=collections.Counter)  # by kind; each was one repetition
    left_out: list[tuple[Any, str]] = field(default_factory=list)  # items given up, with the last fault
    prompt_tokens: int = 0  # by the servers' own count
    completion_tokens: int = 0


def read_addresses(model: str | Path | Sequence[str]) -> tuple[str, ...]:
    """The addresses in `model`: one, several separated by commas or blanks, or a .txt file that lists one a line.

    Returns:
        Addresses without a final slash; empty if `model` does not name servers but a folder or a Hub id.

    Raises:
        FileNotFoundError: a .txt file that does not exist.
        ValueError: an address that is not http(s)://host[:port]/…/v1, that holds a password, or occurs twice.
    """
    if not isinstance(model, (str, Path)):
        found = [str(one) for one in model]
    elif str(model).startswith(("http://", "https://")):
        found = re.split(r"[\s,]+", str(model).strip())
    elif str(model).endswith(".txt"):
        path = Path(model).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f"no file {path}; it should list one server address a line")
        lines = [line.split("#")[0].strip() for line in path.read_text("utf8").splitlines()]
        found = [line for line in lines if line]
        if not found:
            raise ValueError(f"{path} lists no server; write one address a line, such as http://host:8000/v1")
    else:
        return ()
    addresses = tuple(_checked(address) for address in found if address)
    if twice := [address for address in addresses if addresses.count(address) > 1]:
        raise ValueError(f"address {twice[0]} is listed twice; list each server once")
    return addresses


def api_key(address: str) -> str:
    """The API key for an address, from the environment; empty if there is none.

    OPENAI_API_KEY is sent to openai.com only: a key that is there for something else must not reach other hosts.
    """
    host = urlsplit(address).hostname or ""
    if host == "openai.com" or host.endswith(".openai.com"):
        return os.environ.get("BESTOFL_API_KEY") or os.environ.get("OPENAI_API_KEY", "")
    return os.environ.get("BESTOFL_API_KEY", "")


class Servers:
    """Several servers of one model, used as one.

    Args:
        addresses: as `read_addresses` returns them.
        in_flight: requests that one server is given at once, at most.
        patience: see `Patience`.
        seed: of the random pauses.

    Attributes:
        tally: what happened so far.

    Used as `async with Servers(…) as servers`; `first_contact` comes before `ask_all`.
    """

    def __init__(
        self, addresses: Sequence[str], *, in_flight: int = 256, patience: Patience | None = None, seed: int = 0
    ):
        if not addresses:
            raise ValueError("no server address given; pass at least one, such as http://host:8000/v1")
        if in_flight < 1:
            raise ValueError(f"in_flight is {in_flight}; at least 1 request must be under way at a time")
        self.patience = patience or Patience()
        self.tally = Tally()
        self.hint = ""  # added to the message when servers failed for too long
        longest_rest = min(_LONGEST_PAUSE, self.patience.without_answer / 5)
        self._servers = [_Server(address, api_key(address), in_flight, longest_rest) for address in addresses]
        self._random = random.Random(seed)
        self._waiting: collections.deque[asyncio.Future[None]] = collections.deque()
        self._slowest: float | None = None  # seconds per token, decaying
        self._last_answer = time.monotonic()
        self._session: Any = None
        self._greeting: tuple[str, Callable[[str, dict[str, Any]], None]]

    async def __aenter__(self) -> Servers:
        aiohttp = load_aiohttp()
        connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=300)
        self._session = aiohttp.ClientSession(connector=connector, headers={"Content-Type": "application/json"})
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._session.close()

    async def first_contact(self, path: str, check: Callable[[str, dict[str, Any]], None]) -> str:
        """Wait until at least one server answers a GET, and let `check` judge each that does.

        Servers that do not answer yet join later, once they do and `check` accepts them; requests go to none before.

        Args:
            path: below each address.
            check: called with address and answer; raises `ServerError` for a server that must not be used.

        Returns:
            The address of a server that answered.

        Raises:
            ServerError: from `check`, or because none answered within `patience.first_contact` seconds.
        """
        self._greeting = (path, check)
        end = time.monotonic() + self.patience.first_contact
        pause = 0.2
        while True:
            faults = await self._greet_strangers()
            for server in self._servers:
                if server.is_known:
                    return server.address
            if time.monotonic() + pause > end:
                reasons = "; ".join(f"{address}: {fault}" for address, fault in faults.items())
                raise ServerError(f"no server answers ({reasons}); start it, or correct the address")
            await asyncio.sleep(pause)
            pause = min(2 * pause, 5.0)

    async def _greet_strangers(self) -> dict[str, Fault]:
        """Ask the servers that have not answered yet; returns the errors of those that still do not answer."""
        path, check = self._greeting
        faults = {}
        for server in [server for server in self._servers if not server.is_known]:
            try:
                check(server.address, await self._exchange(server, "GET", path, None, _CONNECT_SECONDS))
                server.is_known = True
                self._wake(server)
            except Fault as fault:
                faults[server.address] = fault
        return faults

    async def text(self, address: str, path: str) -> str | None:
        """The body of a GET below a server's root, or None if it has no such page."""
        aiohttp = load_aiohttp()
        server = next(s for s in self._servers if s.address == address)
        try:
            timeout = aiohttp.ClientTimeout(total=_CONNECT_SECONDS)
            async with self._session.get(
                server.root + path, headers=server.headers, timeout=timeout, allow_redirects=False
            ) as answer:
                return (await answer.text(errors="replace")) if answer.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None

    async def ask_all(
        self, asks: Iterable[Ask[T]], read: Callable[[T, dict[str, Any]], Any]
    ) -> AsyncIterator[tuple[T, Any, float]]:
        """Send every request and yield (item, what `read` made of its answer, seconds), as they come, in any order.

        Requests are taken from `asks` when there is room for them, so it may be a generator of millions.

        Args:
            asks: what to send.
            read: turns an answer into a result; raises `Fault` where the answer is damaged, so that the request is
                sent again, and `ServerError` where the run must stop. A `TooLong` of the server becomes the result.

        Raises:
            ServerError: see `patience`, and any error that sending again cannot fix. Requests that failed
                `patience.attempts` times are not yielded: they are listed in `tally.left_out`.
        """
        source = iter(asks)
        results: asyncio.Queue[tuple[T, Any, float] | BaseException | None] = asyncio.Queue()
        self._last_answer = time.monotonic()

        async def work() -> None:
            nonlocal source
            try:
                while (ask := next(source, None)) is not None:
                    await self._until_answered(ask, read, results)
                results.put_nowait(None)
            except Exception as error:
                source = iter(())  # nothing more is sent
                results.put_nowait(error)

        n_workers = sum(server.most for server in self._servers)
        workers: list[asyncio.Task[None]] = []
        watch = asyncio.create_task(self._watch(results))
        try:
            workers = [asyncio.create_task(work()) for _ in range(n_workers)]
            ended = 0
            while ended < n_workers:
                result: Any
                try:
                    result = await results.get()
                except asyncio.CancelledError as cancelled:
                    result = cancelled
                if isinstance(result, BaseException):
                    while not results.empty():  # what other requests brought before is passed on first
                        more = results.get_nowait()
                        if isinstance(more, tuple):
                            yield more
                    raise result
                if result is None:
                    ended += 1
                else:
                    yield result
        finally:
            for task in (*workers, watch):
                task.cancel()
            await asyncio.gather(*workers, watch, return_exceptions=True)

    # -- one request ---------------------------------------------------------------------------------------------

    async def _until_answered(
        self, ask: Ask[T], read: Callable[[T, dict[str, Any]], Any], results: asyncio.Queue[Any]
    ) -> None:
        attempts = faults = 0
        while attempts < self.patience.attempts:
            server = await self._free_server()
            try:
                result, seconds = await self._attempt(server, ask, read)
            except Fault as fault:
                last = str(fault)
                self.tally.faults[fault.kind] += 1
                faults += 1
                attempts += fault.blames_request
                server.failed(fault, self._random)
                self._check_patience(server, fault)
            else:
                server.succeeded()
                self._last_answer = time.monotonic()
                self.tally.answers += 1
                results.put_nowait((ask.item, result, seconds))
                return
            finally:
                self._wake(server)
            pause = min(_LONGEST_PAUSE, 0.25 * 2.0 ** min(faults, 10))
            await asyncio.sleep(pause * self._random.uniform(0.5, 1.5))
        self.tally.left_out.append((ask.item, last))

    async def _attempt(
        self, server: _Server, ask: Ask[T], read: Callable[[T, dict[str, Any]], Any]
    ) -> tuple[Any, float]:
        """(result, seconds) of sending one request once."""
        began = time.monotonic()
        server.in_flight += 1
        self.tally.requests += 1
        try:
            answer = await self._exchange(server, "POST", ask.path, ask.body, self._deadline(ask.tokens))
            seconds = time.monotonic() - began
            result = read(ask.item, answer)
        except TooLong as too_long:
            return too_long, time.monotonic() - began
        finally:
            server.in_flight -= 1
        usage = answer.get("usage")
        if isinstance(usage, dict):
            self._note_usage(usage, seconds)
        return result, seconds

    async def _exchange(
        self, server: _Server, method: str, path: str, body: bytes | None, seconds: float
    ) -> dict[str, Any]:
        aiohttp = load_aiohttp()
        where = server.root + path[1:] if path.startswith("//") else server.address + path
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=min(seconds, _CONNECT_SECONDS))
        try:
            async with self._session.request(
                method, where, data=body, headers=server.headers, timeout=timeout, allow_redirects=False
            ) as answer:
                return read_answer(answer.status, answer.headers, await answer.read(), where=where, key=server.key)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Fault("no connection", without_key(str(error), server.key), blames_request=False) from None
        except TimeoutError:
            raise Fault("time-out", f"{where} did not answer within {seconds:.3g} s") from None
        except aiohttp.ClientPayloadError as error:
            raise Fault("answer cut short", without_key(str(error), server.key)) from None
        except (aiohttp.ClientError, OSError) as error:
            detail = without_key(f"{where}: {type(error).__name__} {error}", server.key)
            raise Fault("connection lost", detail) from None

    def _deadline(self, tokens: int) -> float:
        """Seconds allowed for a request, from the slowest recent speed."""
        if self._slowest is None:
            return self.patience.timeout
        return min(self.patience.timeout, max(_SHORTEST_DEADLINE, _SLACK * self._slowest * tokens))

    def _note_usage(self, usage: Mapping[str, Any], seconds: float) -> None:
        written, read = usage.get("completion_tokens"), usage.get("prompt_tokens")
        if isinstance(read, int):
            self.tally.prompt_tokens += read
        if isinstance(written, int) and written > 0:
            self.tally.completion_tokens += written
            self._slowest = max(seconds / written, 0.999 * (self._slowest or 0.0))

    def _check_patience(self, server: _Server, fault: Fault) -> None:
        silent = time.monotonic() - self._last_answer
        asked = fault.retry_after or 0.0
        if max(silent, asked) > self.patience.without_answer:
            what = f"asks to wait {asked:.0f} s" if asked > silent else f"no request was answered for {silent:.0f} s"
            raise ServerError(
                f"{what}, which exceeds the {self.patience.without_answer:.0f} s allowed (last fault: {fault} at "
                f"{server.address}); what arrived is stored: fix the servers and run again"
                + (f" ({self.hint})" if self.hint else "")
            )

    # -- which server --------------------------------------------------------------------------------------------

    async def _free_server(self) -> _Server:
        """The server with the fewest requests in flight among those that can take one; waits for it."""
        while True:
            now = time.monotonic()
            free = [server for server in self._servers if server.room(now) > 0]
            if free:
                return min(free, key=lambda server: server.in_flight)
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn

    def _wake(self, server: _Server) -> None:
        """Let as many waiting requests try again as the server has room for, now or when it has rested."""
        now = time.monotonic()
        if server.rests_until > now:
            if server.alarm is not None:
                server.alarm.cancel()
            server.alarm = asyncio.get_running_loop().call_later(server.rests_until - now + 0.001, self._wake, server)
            return
        room = server.room(now)
        while room > 0 and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                room -= 1

    async def _watch(self, results: asyncio.Queue[Any]) -> None:
        """Let late servers join, and give a server fewer requests while its own count says that they wait there."""
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            try:
                await self._greet_strangers()
            except ServerError as error:
                results.put_nowait(error)
                return
            for server in self._servers:
                page = await self.text(server.address, "/metrics") if server.in_flight else None
                if page is not None:
                    server.note_waiting(waiting_requests(page))


def waiting_requests(metrics: str) -> float:
    """Requests that wait in a server, from its Prometheus page; 0 where the page does not say."""
    names = r"(?:vllm:num_requests_waiting|sglang:num_queue_reqs|llamacpp:requests_deferred)"
    return sum(float(value) for value in re.findall(rf"^{names}(?:\{{[^}}]*\}})?\s+([0-9.e+]+)\s*$", metrics, re.M))


class _Server:
    """One server: how much it is given, and whether it rests."""

    def __init__(self, address: str, key: str, most: int, longest_rest: float):
        self.address, self.key, self.most, self.longest_rest = address, key, most, longest_rest
        self.root = address.removesuffix("/v1")
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.is_known = False  # it answered, and serves what it should
        self.in_flight = 0
        self.rests_until = 0.0
        self.alarm: asyncio.TimerHandle | None = None  # for the end of its rest
        self._limit = float(min(_FIRST_IN_FLIGHT, most))
        self._growth_is_fast = True  # until the first sign of overload
        self._failures = 0  # in a row
        self._shrunk = 0.0  # when
        self._waited = False

    def room(self, now: float) -> int:
        """Requests that it can be given now."""
        if not self.is_known or now < self.rests_until:
            return 0
        limit = 1 if self._failures >= _FAILURES_TO_REST else int(self._limit)
        return limit - self.in_flight

    def succeeded(self) -> None:
        self._failures = 0
        self._limit = min(self.most, self._limit + (3.0 if self._growth_is_fast else 1.0 / self._limit))

    def failed(self, fault: Fault, chance: random.Random) -> None:
        now = time.monotonic()
        self._failures += 1
        if fault.kind in ("HTTP 429", "HTTP 503"):
            self._shrink(self._limit / 2)
        if fault.retry_after:
            self.rests_until = max(self.rests_until, now + fault.retry_after)
        elif self._failures >= _FAILURES_TO_REST and now >= self.rests_until:
            pause = min(self.longest_rest, 0.5 * 2.0 ** min(self._failures - _FAILURES_TO_REST, 10))
            self.rests_until = now + pause * chance.uniform(0.5, 1.5)

    def note_waiting(self, waiting: float) -> None:
        """Shrink when requests waited at two checks in a row: a single check may catch a passing peak."""
        many = waiting > 0.1 * self._limit
        if many and self._waited:
            self._shrink(self._limit - waiting)
        self._waited = many

    def _shrink(self, limit: float) -> None:
        now = time.monotonic()
        if now - self._shrunk >= 1.0:
            self._limit, self._shrunk, self._growth_is_fast = max(1.0, limit), now, False


def _checked(address: str) -> str:
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{address!r} is not a server address; write it like http://host:8000/v1")
    if parts.username or parts.password:
        raise ValueError(
            f"the address of {parts.hostname} holds a user name or password, which would be recorded with the run; "
            "remove it and put the key into BESTOFL_API_KEY"
        )
    if parts.query or parts.fragment or not parts.path.rstrip("/").endswith("/v1"):
        raise ValueError(f"address {address!r} does not end in /v1; write it like {parts.scheme}://{parts.netloc}/v1")
    return address.rstrip("/")


def load_aiohttp() -> Any:
    """The module.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import aiohttp
    except ImportError as error:
        raise ImportError("model servers need aiohttp; pip install 'bestofl[serve]'") from error
    return aiohttp
