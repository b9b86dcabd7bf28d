"""Samples with the Transformers sampler on every worker of a Ray cluster.

A candidate's stream depends on its own seed alone, so what is drawn is the same, candidate by candidate, as on one
machine, however many workers there are and whatever happens to them. This process is the only one that stores. Ray is
an extra and is imported by this file only.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bestofl_lib.candidates.transformers_sampler import TransformersSampler
from bestofl_lib.models.contract import Completion, Request, Sampling

_CHUNK = 256  # requests that a worker is given at once; what a lost worker costs
_LOSSES = 20  # workers lost in a row, without a finished chunk between them, before the run stops


class RaySampler:
    """A `Sampler` over a Ray cluster.

    Args:
        model, revision, dtype, chat_template, batch_rows: see `TransformersSampler`; a folder must be there on every
            node under the same path.
        address: "ray": the cluster named by RAY_ADDRESS, or a new one on this machine; or "ray://head:10001".
        device: "auto" (one GPU per worker where the cluster has GPUs, else one CPU), "cpu" or "cuda".
        workers: processes over the whole cluster; None: one per GPU, or one per CPU where there is none.
        chunk: requests that a worker is given at once.

    Raises:
        ImportError: Ray is not installed.
        FileNotFoundError, ValueError: see `TransformersSampler`.
    """

    def __init__(
        self,
        model: str,
        revision: str | None = None,
        *,
        address: str = "ray",
        device: str = "auto",
        dtype: str = "auto",
        workers: int | None = None,
        chat_template: str | None = None,
        batch_rows: int | None = None,
        chunk: int = _CHUNK,
    ):
        _ray()
        if address != "ray" and not address.startswith("ray://"):
            raise ValueError(f"engine {address!r}: use 'ray' for the cluster of RAY_ADDRESS, or 'ray://head:10001'")
        if device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"device {device!r}: workers of a Ray cluster take 'auto', 'cpu' or 'cuda'")
        if chunk < 1:
            raise ValueError(f"chunk is {chunk}; a worker must be given at least 1 request at a time")
        # the worker's number format follows from its device, which need not be this machine's
        self._options = {"model": str(model), "revision": revision, "dtype": dtype, "chat_template": chat_template,
                         "batch_rows": batch_rows}  # fmt: skip
        local = TransformersSampler(model, revision, device="cpu", chat_template=chat_template, batch_rows=batch_rows)
        self.name, self.identity = local.name, local.identity
        self.address, self.device, self._workers, self.chunk = address, device, workers, chunk
        self.facts: dict[str, Any] = {}

    def sample(self, requests: Sequence[Request], settings: Sampling) -> Iterator[tuple[Request, Completion]]:
        """Yield every request once with its completion, as chunks of them finish.

        Raises:
            RuntimeError: workers die again and again without finishing anything.
            ConnectionError: no cluster at the address.
        """
        ray = _ray()
        with _connected(self.address):
            uses_gpus = self._uses_gpus(ray.cluster_resources())
            crew = _Crew(self._options, uses_gpus)
            chunks = list(_chunks(requests, self.chunk))
            n_workers = min(self._workers or self._slots(uses_gpus), len(chunks))
            self.facts = {"engine": "ray", "workers": n_workers, "on": "gpu" if uses_gpus else "cpu", "lost_workers": 0}
            try:
                for _ in range(n_workers):
                    crew.hire()
                for written in crew.work(deque(chunks), settings):
                    self.facts["lost_workers"] = crew.lost
                    yield from written
            finally:
                crew.dismiss()

    def _uses_gpus(self, resources: Mapping[str, float]) -> bool:
        has = resources.get("GPU", 0) >= 1
        if self.device == "cuda" and not has:
            raise ValueError("device 'cuda': the Ray cluster has no GPU; use device='auto' or 'cpu'")
        return has and self.device != "cpu"

    def _slots(self, uses_gpus: bool) -> int:
        return max(1, int(_ray().cluster_resources().get("GPU" if uses_gpus else "CPU", 1)))


class _Crew:
    """The workers of one call: who is busy with what, and who replaces those that are lost."""

    def __init__(self, options: Mapping[str, Any], uses_gpus: bool):
        self.lost = 0  # workers
        ray = _ray()
        resources = {"num_gpus": 1} if uses_gpus else {"num_cpus": 1}
        self._make = lambda: ray.remote(**resources)(_Worker).remote(dict(options), "cuda" if uses_gpus else "cpu")
        self._busy: dict[Any, tuple[Any, list[Request] | None]] = {}  # promise -> (worker, its chunk; None: it starts)

    def hire(self) -> None:
        worker = self._make()
        self._busy[worker.ready.remote()] = (worker, None)

    def work(self, waiting: deque[list[Request]], settings: Sampling) -> Iterator[list[tuple[Request, Completion]]]:
        """Yield what each chunk became; a lost worker's chunk is given to another."""
        ray = _ray()
        losses = 0
        while waiting or any(chunk is not None for _, chunk in self._busy.values()):
            (promise, *_), _ = ray.wait(list(self._busy), num_returns=1)
            worker, chunk = self._busy.pop(promise)
            try:
                written = ray.get(promise)
            except (ray.exceptions.RayActorError, ray.exceptions.WorkerCrashedError, ray.exceptions.ObjectLostError):
                losses, self.lost = losses + 1, self.lost + 1
                if losses > _LOSSES:
                    raise RuntimeError(
                        f"{losses} Ray workers were lost in a row; what they wrote before is stored: look at the "
                        "cluster's logs (memory is the usual cause: lower batch_rows) and run again"
                    ) from None
                if chunk is not None:
                    waiting.appendleft(chunk)
                self.hire()
                continue
            except ray.exceptions.RayTaskError as error:
                raise error.as_instanceof_cause() from None
            if waiting:
                following = waiting.popleft()
                self._busy[worker.write.remote(following, settings)] = (worker, following)
            else:
                ray.kill(worker)
            if chunk is not None:
                losses = 0
                yield written

    def dismiss(self) -> None:
        ray = _ray()
        for worker, _ in self._busy.values():
            with contextlib.suppress(Exception):  # it may be dead already
                ray.kill(worker)


class _Worker:
    """What runs in a worker process."""

    def __init__(self, options: Mapping[str, Any], device: str):
        self.sampler = TransformersSampler(**options, device=device, workers=1)

    def ready(self) -> list[tuple[Request, Completion]]:
        return []

    def write(self, requests: Sequence[Request], settings: Sampling) -> list[tuple[Request, Completion]]:
        drawn = self.sampler.sample(requests, settings)
        return [(request, written) for request, written in drawn if isinstance(written, Completion)]


@contextlib.contextmanager
def _connected(address: str) -> Iterator[None]:
    """A connection to the cluster: the one that exists, or one that is closed again afterwards."""
    ray = _ray()
    if ray.is_initialized():
        yield
        return
    ray.init(address=None if address == "ray" else address, log_to_driver=False, include_dashboard=False)
    try:
        yield
    finally:
        ray.shutdown()


def _chunks(requests: Sequence[Request], size: int) -> Iterator[list[Request]]:
    """Requests in chunks of about `size`; those of one prompt stay together, so that it is read once."""
    by_prompt: dict[tuple[tuple[str, str], ...], list[Request]] = {}
    for request in requests:
        key = tuple((message["role"], message["content"]) for message in request.messages)
        by_prompt.setdefault(key, []).append(request)
    chunk: list[Request] = []
    for group in by_prompt.values():
        for start in range(0, len(group), size):
            if chunk and len(chunk) + len(group[start : start + size]) > size:
                yield chunk
                chunk = []
            chunk += group[start : start + size]
    if chunk:
        yield chunk


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ImportError("engine 'ray' needs Ray; pip install 'bestofl[cluster]'") from error
    return ray
