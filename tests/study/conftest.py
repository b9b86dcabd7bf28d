"""The tiny study in a temporary folder, and a way to run its cells without a kernel."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
import tiny_study

from bestofl_lib.runs import UNDER_STUDY, Folders
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
        notebook = nbformat.read(step.path, as_version=4)
        names: dict = {}
        target.parent.mkdir(parents=True, exist_ok=True)
        os.environ[UNDER_STUDY] = "1"
        try:
            for cell in (c for c in notebook.cells if c.cell_type == "code"):
                try:
                    exec(cell.source, names)
                except Exception as error:
                    nbformat.write(notebook, target)
                    raise execution.NotebookFailed("[3]", type(error).__name__, str(error), cell.source) from error
                if "parameters" in cell.metadata.get("tags", []):
                    names.update(step.passed)
        finally:
            os.environ.pop(UNDER_STUDY)
        nbformat.write(notebook, target)

    monkeypatch.setattr(execution, "execute", execute)
    return ran
