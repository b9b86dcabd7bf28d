"""Opens JupyterLab on the explorer of one run: what `bestofl explore` does.

It knows the notebook's file and JupyterLab's process, and nothing of what the notebook shows.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat

from bestofl_lib.analysis.run_scan import open_run
from bestofl_lib.files import ROOT, replace_file
from bestofl_lib.runs import Run

NOTEBOOK = ROOT / "notebooks" / "10_explore_candidates.ipynb"


def write_notebook(run: Run, split: str = "test", setting: str = "", notebook: Path = NOTEBOOK) -> Path:
    """A copy of the explorer's notebook with this run as its parameter, in the run's folder.

    Raises:
        FileNotFoundError: the run, a table that the explorer needs, or the setting is missing.
        ValueError: the notebook has no cell tagged `parameters`.
    """
    if setting and not Path(setting).is_file():
        raise FileNotFoundError(f"no setting {setting!r}; save one in the explorer under What if")
    open_run(run, split)  # fails, saying what is missing, before a browser opens
    content = nbformat.read(notebook, as_version=4)
    tagged = [cell for cell in content.cells if "parameters" in cell.metadata.get("tags", [])]
    if not tagged:
        raise ValueError(f"{notebook} has no cell tagged 'parameters'; tag the one that sets run and split")
    chosen = str(Path(setting).resolve()) if setting else ""
    tagged[0].source = (
        f"run: str = {run.name!r}  # folder in data/runs\nsplit: str = {split!r}  # which problems to look at\n"
        f"setting: str = {chosen!r}  # file of a setting saved in the explorer, to open with"
    )
    target = run.folder / "explore.ipynb"
    replace_file(target, nbformat.writes(content).encode())
    return target


def launch(run: str, split: str = "test", options: Sequence[str] = (), setting: str = "") -> int:
    """Open JupyterLab on a run and wait until it is closed.

    Args:
        run: its name in `data/runs`.
        split: which problems.
        options: handed on to JupyterLab, such as `--no-browser`.
        setting: path of a setting saved in the explorer, to open with.

    Returns:
        JupyterLab's exit status.
    """
    notebook = write_notebook(Run(run), split, setting)
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []  # else JupyterLab refuses
    return subprocess.call([sys.executable, "-m", "jupyterlab", str(notebook), *root, *options])
