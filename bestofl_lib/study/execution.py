"""Executes one notebook with papermill, into a file that is replaced in one step, and records what it ran on."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from bestofl_lib.files import ROOT
from bestofl_lib.progress import PROGRESS_FILE
from bestofl_lib.runs import UNDER_STUDY
from bestofl_lib.study.notebooks import cell_source
from bestofl_lib.study.plan import Step

VERSIONS = ("bestofl", "torch", "transformers", "polars", "numpy", "scipy", "altair", "papermill", "nbconvert")


class NotebookFailed(Exception):
    """A notebook that did not reach its end."""

    def __init__(self, cell: str, name: str, value: str, source: str = "", exit_code: int = 1):
        super().__init__(name)
        self.cell, self.name, self.value, self.source, self.exit_code = cell, name, value, source, exit_code
        self.short = f"{name}: {value}".strip(": ")[:500]

    def message(self, notebook: str, executed: Path) -> str:
        """What failed where, the beginning of the cell, and the next step."""
        lines = [f"{notebook} failed in cell {self.cell}: {self.short}"]
        lines += ["    " + line for line in self.source.splitlines()[:12]]
        lines.append(f"the whole traceback is in {executed}")
        lines.append(
            f"next: fix it and run the same command again; it continues at {notebook[:2]}, finished work is kept"
        )
        return "\n".join(lines)


def execute(step: Step, destination: Path) -> None:
    """Run one notebook into `destination`, which is replaced in one step and only by a whole notebook.

    Raises:
        NotebookFailed: with the cell and the error; `destination` then shows how far it came.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    for left in destination.parent.glob(f".{destination.stem}.*.part.ipynb"):
        left.unlink()  # of a run that was killed; this run holds the lock
    part = destination.parent / f".{destination.stem}.{os.getpid()}.part.ipynb"
    try:
        told = {UNDER_STUDY: "1", PROGRESS_FILE: str(progress_path(destination)), "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
        with _environment(told):  # without the last, kernels warn of debugging
            failed = _run_papermill(step, part)
        _sign(part)
        if part.exists():
            os.replace(part, destination)
        if failed:
            raise failed
    finally:
        part.unlink(missing_ok=True)


def progress_path(destination: Path) -> Path:
    """The file in which the notebook that runs into `destination` says how far it is."""
    return destination.parent.parent / ".progress.json"


def unfinished(notebook: Path) -> NotebookFailed | None:
    """Papermill takes `exit()` in a cell for success: a code cell that never ran shows that it was not."""
    for cell in json.loads(notebook.read_text("utf8"))["cells"]:
        if cell["cell_type"] == "code" and cell_source(cell).strip() and cell.get("execution_count") is None:
            return NotebookFailed(
                _last_cell(notebook), "the notebook ended early", "this cell never ran", cell_source(cell)
            )
    return None


def git_state() -> str:
    """The commit of the project and whether files differ from it, such as `650463b, 3 files changed`."""
    try:
        commit, changed = (
            subprocess.run(
                ["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True, timeout=20
            ).stdout
            for words in (("rev-parse", "--short", "HEAD"), ("status", "--porcelain"))
        )
    except (OSError, subprocess.SubprocessError):
        return "not a git checkout"
    n = len(changed.splitlines())
    return commit.strip() + (f", {n} file{'s' if n > 1 else ''} changed" if n else ", clean")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that shape a result."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in VERSIONS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def _run_papermill(step: Step, part: Path) -> NotebookFailed | None:
    """Execute into `part`; what went wrong, if anything."""
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    try:
        papermill.execute_notebook(
            step.path,
            part,
            parameters=step.passed,
            kernel_name="python3",
            cwd=step.path.parent,
            progress_bar=False,  # `watching` shows what the notebook itself says
            start_timeout=120,
            extra_arguments=["--IPKernelApp.log_level=50"],  # else each kernel warns of TCP on this machine
        )
    except papermill.PapermillExecutionError as error:
        return NotebookFailed(f"[{error.exec_count}]", error.ename, error.evalue, error.source)
    except DeadKernelError:
        reason = (
            "most often because memory ran out (close other programs or lower the batch), or by an exit() in a cell"
        )
        return NotebookFailed(_last_cell(part), "the kernel was killed", reason, exit_code=138)
    except CellTimeoutError as error:
        return NotebookFailed(_last_cell(part), "time-out", str(error).splitlines()[0])
    return unfinished(part)


@contextlib.contextmanager
def _environment(changes: dict[str, str]) -> Iterator[None]:
    """Environment variables that the kernel inherits."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _last_cell(notebook: Path) -> str:
    """The execution count of the last cell that was begun, as far as the file says."""
    try:
        counts = [cell.get("execution_count") for cell in json.loads(notebook.read_text("utf8"))["cells"]]
    except (OSError, ValueError, KeyError):
        return "[?]"
    return f"[{max([count for count in counts if count] or [0]) + 1}]"


def _sign(path: Path) -> None:
    """Mark an executed notebook as trusted, so that its charts show when it is opened."""
    import nbformat
    from nbformat.sign import NotebookNotary

    if path.exists():
        with contextlib.suppress(OSError):  # without a signature store, charts ask for trust; nothing else is lost
            NotebookNotary().sign(nbformat.read(path, as_version=4))
