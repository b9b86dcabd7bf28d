"""Several processes, each with its own copy of the model: one per device, or per core for a small model."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

import torch

from bestofl_lib.models.contract import Completion, Sampling, Unfinished
from bestofl_lib.models.opening import Opening
from bestofl_lib.models.work import Group, Queue, Shape
from bestofl_lib.models.writers import open_writer

SMALL_MODEL_BYTES = 400 << 20  # below this, one process per core is faster than one process on all cores
WORKER_REQUESTS = 6000  # below this, starting processes costs more than it saves


@dataclass(frozen=True)
class Machine:
    """Where the processes that write completions run."""

    device: torch.device
    one_device: bool  # a device was named: no other is used
    weight_bytes: int  # of the model; 0 where it is not known
    asked: int | None  # processes that the user asked for; None: chosen here

    def processes(self, n_requests: int, n_groups: int) -> int:
        """How many processes share so many requests: one per GPU, or per core for a small model and much work."""
        if self.asked is not None:
            return max(1, min(self.asked, n_groups))
        if not hasattr(os, "fork"):
            return 1  # worker processes need POSIX pipes
        if self.device.type == "cuda" and not self.one_device:
            return min(torch.cuda.device_count(), n_groups)
        if self.device.type == "cpu" and 0 < self.weight_bytes < SMALL_MODEL_BYTES and n_requests >= WORKER_REQUESTS:
            return min(cores(), n_groups)
        return 1

    def places(self, processes: int) -> list[tuple[str, int | None]]:
        """Device and threads of each process."""
        if self.device.type == "cuda" and not self.one_device:
            return [(f"cuda:{i % torch.cuda.device_count()}", None) for i in range(processes)]
        return [(str(self.device), max(1, cores() // processes))] * processes


def run_workers(
    openings: Sequence[Opening], groups: Sequence[Group], settings: Sampling
) -> Iterator[tuple[int, Completion | Unfinished]]:
    """Share the groups among processes, each with its own copy of the model; they fetch more as they finish.

    Plain subprocesses on a socket, because multiprocessing would run the caller's script again in each.
    """
    queue, shape = Queue(groups), Shape.of(groups)
    workers: dict[Connection, subprocess.Popen[bytes]] = {}
    path = os.pathsep.join([str(Path(__file__).resolve().parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    try:
        for opening in openings:
            ours, theirs = socket.socketpair()
            with theirs:
                command = "import sys; from bestofl_lib.models.workers import serve; serve(int(sys.argv[1]))"
                process = subprocess.Popen(
                    [sys.executable, "-c", command, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    env=os.environ | {"PYTHONPATH": path},
                )
            connection = Connection(ours.detach())
            workers[connection] = process
            connection.send((opening, shape, settings))
        while workers:
            for ready in wait(list(workers)):
                connection = ready  # type: ignore[assignment]
                try:
                    kind, content = connection.recv()
                except (EOFError, ConnectionError):
                    code = workers.pop(connection).wait()
                    raise RuntimeError(
                        f"a sampling process ended with status {code}"
                        + (" (killed, most likely because memory ran out)" if code == -9 else "")
                        + "; what was drawn is kept: run again, with fewer workers or a smaller batch_rows"
                    ) from None
                if kind == "take":
                    connection.send(queue.take(content))
                elif kind == "done":
                    yield from content
                elif kind == "failed":
                    raise content
                else:
                    workers.pop(connection).wait()
                    connection.close()
    finally:
        for connection, process in workers.items():
            connection.close()
            process.kill()
            process.wait()


def serve(descriptor: int) -> None:
    """The main loop of a sampling process: it takes work from this socket and ends when the socket closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends this process
    connection = Connection(descriptor)
    pending: list[tuple[int, Completion | Unfinished]] = []
    sent = time.monotonic()

    def send() -> None:
        nonlocal sent
        sent = time.monotonic()
        if pending:
            connection.send(("done", pending.copy()))
            pending.clear()

    def take(count: int) -> list[Group]:
        send()
        connection.send(("take", count))
        return connection.recv()

    try:
        opening, shape, settings = connection.recv()
        try:
            for pair in open_writer(opening).run(take, shape, settings):
                pending.append(pair)
                if len(pending) >= 256 or time.monotonic() - sent > 1:
                    send()
            send()
            connection.send(("end", None))
        except (EOFError, ConnectionError):
            raise
        except Exception as error:  # handed to the parent, which raises it
            send()
            connection.send(("failed", error))
    except (EOFError, ConnectionError):
        return  # the parent is gone


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
