"""Runs an asynchronous iterator in its own thread, so that a notebook cell can loop over it.

A notebook's kernel has an event loop already, so a second one needs its own thread. It knows nothing of what is
iterated.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TypeVar

T = TypeVar("T")


class _End:
    """The last thing put into the queue, with what ended the iterator."""

    def __init__(self, error: BaseException | None):
        self.error = error


def iterate_in_thread(make: Callable[[], AsyncIterator[T]]) -> Iterator[T]:
    """Yield what an asynchronous iterator yields, as it comes.

    Ctrl-C and SIGTERM cancel the iterator; what it had yielded by then is still passed on, and the signal takes its
    usual effect after it. A second one takes it at once.

    Args:
        make: returns the iterator; called in the thread, inside its event loop.

    Raises:
        BaseException: whatever the iterator raised, after everything that it yielded before.
    """
    arrived: queue.SimpleQueue[T | _End] = queue.SimpleQueue()
    loop = asyncio.new_event_loop()
    task = loop.create_task(_pass_on(make, arrived))
    thread = threading.Thread(target=_run, args=(loop, task, arrived), name="bestofl-servers", daemon=True)
    thread.start()
    try:
        with _signals_held_back(lambda: _cancel(loop, task)):
            while not isinstance(item := arrived.get(), _End):
                yield item
        if item.error is not None:
            raise item.error
    finally:
        _cancel(loop, task)
        thread.join()


@contextlib.contextmanager
def _signals_held_back(instead: Callable[[], None]) -> Iterator[None]:
    """While the block runs, the first SIGINT or SIGTERM calls `instead`; it takes its usual effect after the block."""
    usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    usual = {number: handler for number, handler in usual.items() if handler not in (None, signal.SIG_IGN)}
    if threading.current_thread() is not threading.main_thread():
        usual = {}
    came: list[int] = []

    def hold_back(number: int, frame: object) -> None:
        came.append(number)
        restore()
        instead()

    def restore() -> None:
        for number, handler in usual.items():
            signal.signal(number, handler)

    for number in usual:
        signal.signal(number, hold_back)
    try:
        yield
    finally:
        restore()
        for held in came:
            signal.raise_signal(held)


def _cancel(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nothing is left to cancel
        loop.call_soon_threadsafe(task.cancel)


def _run(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None], arrived: queue.SimpleQueue[T | _End]) -> None:
    error: BaseException | None = None
    try:
        loop.run_until_complete(task)
    except asyncio.CancelledError:
        pass
    except BaseException as raised:
        error = raised
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
        arrived.put(_End(error))


async def _pass_on(make: Callable[[], AsyncIterator[T]], arrived: queue.SimpleQueue[T | _End]) -> None:
    async for item in make():
        arrived.put(item)
