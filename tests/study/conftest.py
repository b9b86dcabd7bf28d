"""The tiny study in a temporary folder, and a way to run its cells without a kernel."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_study

from bestofl_lib.runs import Folders
from bestofl_lib.study import execution
from bestofl_lib.study.plan import Step


@pytest.fixture
def folders(tmp_path, monkeypatch) -> Folders:
    places = tiny_study.write_study(tmp_path)
    monkeypatch.setenv("BESTOFL_RUNS", str(places.runs))  # the notebooks' own Run(...) looks there
    return places


@pytest.fixture
def in_process(monkeypatch) -> list[str]:
    """Run notebooks here, without a kernel; the list says which ran."""
    ran: list[str] = []

    def execute(step: Step, target: Path) -> None:
        ran.append(step.name[:2])
        tiny_study.execute_here(step, target)

    monkeypatch.setattr(execution, "execute", execute)
    return ran
