"""Clients and servers that are killed, die, come back or are interrupted, each a process of its own."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from made_up_samplers import SeedWriter, problems

from bestofl_lib.candidates.endpoint_sampler import EndpointSampler
from bestofl_lib.candidates.sampling import generate
from bestofl_lib.candidates.store import Store
from bestofl_lib.models.contract import Sampling
from bestofl_lib.models.servers import Patience
from bestofl_lib.tables import KEY

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = Sampling(max_new_tokens=200)
PATIENT = Patience(timeout=10.0, attempts=50, without_answer=60.0, first_contact=20.0)

CLIENT = """
import sys
sys.path.insert(0, sys.argv[3])
from pathlib import Path
from made_up_samplers import problems
from bestofl_lib.candidates import store
from bestofl_lib.candidates.endpoint_sampler import EndpointSampler
from bestofl_lib.candidates.sampling import generate
from bestofl_lib.models.contract import Sampling
store._FLUSH_ROWS = 50
print("ready", flush=True)
generate(problems(30), store.Store(Path(sys.argv[1])), EndpointSampler(sys.argv[2], "lab", in_flight=16),
         10, Sampling(max_new_tokens=200), progress=False)
"""


def client(folder: Path, port: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CLIENT, str(folder), f"http://127.0.0.1:{port}/v1", str(ROOT / "tests")]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT)
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    return child


def written(table: pl.DataFrame) -> pl.DataFrame:
    return table.select(*KEY, "completion", "seed")


def expected(tmp_path: Path) -> pl.DataFrame:
    return written(generate(problems(30), Store(tmp_path / "expected"), SeedWriter(), 10, SETTINGS, progress=False))


def rows(folder: Path) -> int:
    return sum(len(pl.read_parquet(path)) for path in Store(folder).shards())


def test_kill_9_of_the_client_at_random_moments_loses_and_doubles_nothing(tmp_path, start_stub):
    _, port = start_stub("--delay", "0.03")
    folder, chance, kills = tmp_path / "served", random.Random(2), 0
    for _ in range(2):
        child, before, patient = client(folder, port), rows(folder), time.monotonic() + 20
        while rows(folder) <= before and child.poll() is None and time.monotonic() < patient:
            time.sleep(0.05)  # until something new is stored, however busy the machine
        time.sleep(chance.uniform(0, 0.1))
        child.kill()
        kills += child.wait() == -signal.SIGKILL
    stored = rows(folder)
    assert kills and stored > 0
    writer = EndpointSampler(f"http://127.0.0.1:{port}/v1", "lab", patience=PATIENT)
    table = generate(problems(30), Store(folder), writer, 10, SETTINGS, progress=False)
    assert written(table).equals(expected(tmp_path))
    assert rows(folder) == 600 and (stored == 600 or Store(folder).notes()[-1]["drawn"] == 600 - stored)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143)])
def test_a_signal_stores_what_arrived_and_ends_the_client_soon(tmp_path, start_stub, number, status):
    _, port = start_stub("--delay", "0.05")
    child = client(tmp_path, port)
    patience = time.monotonic() + 30
    while not Store(tmp_path).shards() and time.monotonic() < patience:
        time.sleep(0.02)
    began = time.monotonic()
    os.kill(child.pid, number)
    assert child.wait(20) == status and time.monotonic() - began < 5
    facts = Store(tmp_path).notes()[-1]
    assert 0 < rows(tmp_path) < 600
    assert rows(tmp_path) == facts["drawn"] == facts["answers"] - 2  # which belong to the probe of log-probabilities


def test_a_server_that_dies_and_comes_back_costs_only_what_was_in_flight(tmp_path, start_stub):
    child, port = start_stub("--die-after", "150", "--delay", "0.01")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bestofl_lib.candidates.store._FLUSH_ROWS", 20)
        back: list[object] = []

        class Watched(EndpointSampler):
            def sample(self, requests, settings):
                for item in super().sample(requests, settings):
                    if not back and child.poll() is not None:
                        back.append(start_stub("--port", str(port)))
                    yield item

        _, second = start_stub("--delay", "0.02")
        addresses = [f"http://127.0.0.1:{port}/v1", f"http://127.0.0.1:{second}/v1"]
        writer = Watched(addresses, "lab", in_flight=16, patience=PATIENT)
        table = generate(problems(30), Store(tmp_path / "served"), writer, 10, SETTINGS, progress=False)
    assert back and written(table).equals(expected(tmp_path))
    assert writer.facts["faults"].keys() <= {"connection lost", "no connection"} and writer.facts["faults"]
    assert writer.facts["left_out"] == 0


def test_the_last_server_that_dies_for_good_stops_the_run_and_the_next_run_goes_on(tmp_path, start_stub):
    _, port = start_stub("--die-after", "150")
    short = Patience(timeout=5.0, attempts=50, without_answer=2.0, first_contact=5.0)
    writer = EndpointSampler(f"http://127.0.0.1:{port}/v1", "lab", in_flight=16, patience=short)
    with pytest.raises(RuntimeError, match=r"no request was answered.*what arrived is stored"):
        generate(problems(30), Store(tmp_path / "served"), writer, 10, SETTINGS, progress=False)
    stored = rows(tmp_path / "served")
    assert stored == 150 - 2
    _, port = start_stub()
    writer = EndpointSampler(f"http://127.0.0.1:{port}/v1", "lab", patience=PATIENT)
    table = generate(problems(30), Store(tmp_path / "served"), writer, 10, SETTINGS, progress=False)
    assert written(table).equals(expected(tmp_path)) and writer.facts["answers"] == 600 - stored + 2
