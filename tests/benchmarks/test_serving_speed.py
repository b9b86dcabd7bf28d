"""Completions a second through client and store, from a stub server that is a process of its own: two cores in all."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from made_up_samplers import problems

pytest.importorskip("aiohttp")

from bestofl_lib.candidates.endpoint_sampler import EndpointSampler
from bestofl_lib.candidates.sampling import generate
from bestofl_lib.candidates.store import Store
from bestofl_lib.files import ROOT
from bestofl_lib.models.contract import Sampling


def test_client_and_store_carry_two_thousand_completions_a_second(benchmark, tmp_path):
    command = [sys.executable, str(ROOT / "tests" / "serving" / "stub_server.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as stub:
        try:
            writer = EndpointSampler(f"http://127.0.0.1:{int(stub.stdout.readline())}/v1", "lab")
            began = time.process_time()
            table = benchmark.pedantic(
                lambda: generate(problems(250), Store(tmp_path), writer, 20, Sampling(), progress=False), rounds=1
            )
            busy = time.process_time() - began
        finally:
            stub.kill()
    rate = len(table) / benchmark.stats["min"]
    benchmark.extra_info["completions_per_second"] = round(rate)
    benchmark.extra_info["per_cpu_second_of_the_client"] = round(len(table) / busy)
    assert len(table) == 10_000 and table["n_tokens"].mean() > 30
    assert rate > 2_000
