"""Work on a Ray cluster: the same worker in many processes, chunks of work for them, and new workers for lost ones.

It knows nothing of what the workers do. Ray is an extra and is imported by this file only.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from bestofl_lib.models.contract import check_engine

Chunk = TypeVar("Chunk")

_LOSSES = 20  # workers lost in a row, without a finished chunk between them, before the run stops


class RayCluster:
    """Which cluster is used, and how its workers are placed.

    Args:
        engine: "ray": the cluster named by RAY_ADDRESS, or a new one on this machine; or "ray://head:10001".
        device: "auto" (one GPU per worker where the cluster has GPUs, else one CPU), "cpu" or "cuda".
        workers: processes over the whole cluster; None: one per GPU, or one per CPU where there is none.

    Raises:
        ImportError: Ray is not installed.
        ValueError: another engine or device.
    """

    def __init__(self, engine: str = "ray", device: str = "auto", workers: int | None = None):
        load_ray()
        check_engine(engine)
        if engine == "local":
            raise ValueError("engine 'local' is this process and no cluster; use 'ray' or 'ray://head:10001'")
        if device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"device {device!r}: workers of a Ray cluster take 'auto', 'cpu' or 'cuda'")
        self.engine, self.device, self.workers = engine, device, workers

    @contextlib.contextmanager
    def connected(self) -> Iterator[None]:
        """A connection to the cluster: the one that exists, or one that is closed again afterwards."""
        ray = load_ray()
        if ray.is_initialized():
            yield
            return
        address = None if self.engine == "ray" else self.engine
        ray.init(address=address, log_to_driver=False, include_dashboard=False)
        try:
            yield
        finally:
            ray.shutdown()

    def work(
        self,
        make: Callable[[str], Any],
        chunks: list[Chunk],
        call: Callable[[Any, Chunk], Any],
        facts: dict[str, Any],
    ) -> Iterator[tuple[Chunk, Any]]:
        """Yield each chunk once with what a worker made of it, as they finish; a lost worker's chunk goes to another.

        Args:
            make: called in each worker's process with its device, "cpu" or "cuda"; returns the worker.
            chunks: of work; must be picklable.
            call: called in the worker's process with the worker and one chunk.
            facts: is told the number of workers, their kind of device, and how many were lost.

        Raises:
            RuntimeError: workers die again and again without finishing anything.
            ValueError: device "cuda" on a cluster without GPUs.
        """
        resources = load_ray().cluster_resources()
        has_gpus = resources.get("GPU", 0) >= 1
        if self.device == "cuda" and not has_gpus:
            raise ValueError("device 'cuda': the Ray cluster has no GPU; use device='auto' or 'cpu'")
        uses_gpus = has_gpus and self.device != "cpu"
        slots = max(1, int(resources.get("GPU" if uses_gpus else "CPU", 1)))
        n_workers = min(self.workers or slots, len(chunks))
        facts |= {"engine": "ray", "workers": n_workers, "on": "gpu" if uses_gpus else "cpu", "lost_workers": 0}
        crew = _Crew(make, call, uses_gpus, facts)
        try:
            for _ in range(n_workers):
                crew.hire()
            yield from crew.work(deque(chunks))
        finally:
            crew.dismiss()


class _Crew:
    """The workers of one call: who is busy with what, and who replaces those that are lost."""

    def __init__(self, make: Callable[[str], Any], call: Callable[[Any, Any], Any], uses_gpus: bool, facts: dict):
        ray = load_ray()
        resources: Mapping[str, Any] = {"num_gpus": 1} if uses_gpus else {"num_cpus": 1}
        device = "cuda" if uses_gpus else "cpu"
        self.facts = facts
        self._make = lambda: ray.remote(**resources)(_Worker).remote(make, call, device)
        self._busy: dict[Any, tuple[Any, Any, bool]] = {}  # promise -> (worker, its chunk, whether it only starts)

    def hire(self) -> None:
        worker = self._make()
        self._busy[worker.ready.remote()] = (worker, None, True)

    def work(self, waiting: deque[Any]) -> Iterator[tuple[Any, Any]]:
        """Yield what each chunk became."""
        ray = load_ray()
        losses = 0
        while waiting or any(not starts for _, _, starts in self._busy.values()):
            (promise, *_), _ = ray.wait(list(self._busy), num_returns=1)
            worker, chunk, starts = self._busy.pop(promise)
            try:
                result = ray.get(promise)
            except (ray.exceptions.RayActorError, ray.exceptions.WorkerCrashedError, ray.exceptions.ObjectLostError):
                losses += 1
                self.facts["lost_workers"] += 1
                if losses > _LOSSES:
                    raise RuntimeError(
                        f"{losses} Ray workers were lost in a row; what they did before is stored: look at the "
                        "cluster's logs (memory is the usual cause: lower batch_rows) and run again"
                    ) from None
                if not starts:
                    waiting.appendleft(chunk)
                self.hire()
                continue
            except ray.exceptions.RayTaskError as error:
                raise error.as_instanceof_cause() from None
            if waiting:
                following = waiting.popleft()
                self._busy[worker.do.remote(following)] = (worker, following, False)
            else:
                ray.kill(worker)
            if not starts:
                losses = 0
                yield chunk, result

    def dismiss(self) -> None:
        ray = load_ray()
        for worker, _, _ in self._busy.values():
            with contextlib.suppress(Exception):  # it may be dead already
                ray.kill(worker)


class _Worker:
    """What runs in a worker process."""

    def __init__(self, make: Callable[[str], Any], call: Callable[[Any, Any], Any], device: str):
        self.made, self.call = make(device), call

    def ready(self) -> None:
        return None

    def do(self, chunk: Any) -> Any:
        return self.call(self.made, chunk)


def load_ray() -> Any:
    """The module.

    Raises:
        ImportError: Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise ImportError("engine 'ray' needs Ray; pip install 'bestofl[cluster]'") from error
    return ray
