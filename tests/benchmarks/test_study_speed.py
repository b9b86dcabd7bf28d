"""How long a newcomer waits: importing the package, and running a finished study again."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bestofl_lib.files import ROOT
from bestofl_lib.runs import Run


def test_importing_the_package_takes_less_than_a_third_of_a_second(benchmark):
    spent = benchmark.pedantic(
        lambda: subprocess.run([sys.executable, "-c", "import bestofl_lib"], check=True), rounds=5
    )
    assert spent.returncode == 0
    assert benchmark.stats["median"] < 0.3


def test_a_study_run_again_unchanged_takes_at_most_fifteen_seconds(benchmark):
    if not Run("lab").has("claims"):
        pytest.skip("the study lab has not run here; `make study` first")
    command = [sys.executable, "-m", "bestofl_lib.cli", "run", "lab"]
    done = benchmark.pedantic(lambda: subprocess.run(command, cwd=ROOT, capture_output=True, text=True), rounds=1)
    assert done.returncode == 0, done.stderr
    assert "running" not in done.stdout, "the study was not up to date; `make study` first"
    assert benchmark.stats["median"] < 15
