"""Runs a study: in order, only what changed, under a lock, and brings its report up to date."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bestofl_lib.files import explain
from bestofl_lib.runs import Folders, Run
from bestofl_lib.study import execution
from bestofl_lib.study.errors import StudyError
from bestofl_lib.study.execution import NotebookFailed, git_state, versions
from bestofl_lib.study.freshness import (
    Digests,
    earlier_outputs,
    executed_path,
    library_files,
    named_files,
    report_key,
    run_files,
    state_of,
    states,
)
from bestofl_lib.study.guards import check_folders, free_name, shared_without_locks, sweep
from bestofl_lib.study.notebooks import cells_digest, imported_names
from bestofl_lib.study.parameters import spoken
from bestofl_lib.study.plan import Step
from bestofl_lib.study.preview import request
from bestofl_lib.study.watching import watching
from bestofl_lib.tables import TABLES

REPORT = ("bestofl_lib.display.report.build",)  # the modules that build a report
Say = Callable[[str], None]


def run_study(
    study: str,
    overrides: dict[str, str] | None = None,
    *,
    start_from: str | None = None,
    only: str | None = None,
    force: bool = False,
    replace: bool = False,
    folders: Folders | None = None,
    say: Say = print,
) -> Path:
    """Run what has changed of a study and bring its report up to date.

    Args:
        study: the name of a file in `notebooks/studies`.
        overrides: parameter to text, as given by `-p name=value`.
        start_from: leave out the notebooks before this one.
        only: leave out all notebooks but this one.
        force: run them even if they are up to date.
        replace: let other parameters replace the figures of a finished run.
        folders: where notebooks, runs and reports are; by default the project's.
        say: gets each line of progress.

    Returns:
        The report's index.html.

    Raises:
        StudyError: nothing has run, because the request is wrong or the run is in use; or a notebook failed, and the
            message names the cell, the error and the next step. The report then says so too.
    """
    import filelock

    folders = folders or Folders.default()
    asked, run, steps, chosen = request(study, overrides, start_from, only, replace, folders)
    check_folders(run, folders)
    if kind := shared_without_locks(run.folder):
        say(f"  note: {run.folder} is on {kind}, where file locks are unreliable: run one study at a time there")
    try:
        held = run.lock.acquire(timeout=1)
    except filelock.Timeout as error:
        raise StudyError(
            f"run {run.name!r} is in use by another `bestofl run`; wait for it, or give this one a name: -p "
            f"run={free_name(run)}"
        ) from error
    with held:
        sweep(run, folders)
        records = run.notebook_records()  # of this study's notebooks only: others were renamed or dropped
        run.record("notebooks", {name: records[name] for name in sorted(records) if name in {s.name for s in steps}})
        run.record("study", {"name": study, "title": asked.title, "overrides": overrides or {}})
        try:
            for step in chosen:
                _bring_up_to_date(run, step, steps, force, say, folders.reports)
        except StudyError:
            _report(run, asked.title, steps, folders, say)
            raise
        return _report(run, asked.title, steps, folders, say)


def _bring_up_to_date(run: Run, step: Step, steps: list[Step], force: bool, say: Say, reports: Path) -> None:
    digests = Digests(run.folder)
    records = run.notebook_records()
    state = state_of(run, step, steps, records, digests)
    if state.state == "up to date" and not force:
        say(f"  {step.name}: up to date")
        return
    say(f"  {step.name}: running ({state.why or 'asked to run again'})")
    before = {name: digests.of(name) for name in run_files(run.folder)}
    record = _begun(step, steps, records, digests)
    run.record_notebook(step.name, record)
    _mark_report(reports / run.name, step)
    began = time.monotonic()
    failure: StudyError | None = None
    destination = executed_path(run, step.name)
    with watching(step.name, execution.progress_path(destination), say) as seen:
        try:
            execution.execute(step, destination)
            record["status"] = "done"
        except NotebookFailed as failed:
            record |= {"status": "failed", "error": {"cell": failed.cell, "message": failed.short}}
            failure = StudyError(spoken(failed.message(step.name, destination), step.effective), failed.exit_code)
        except OSError as error:
            raise StudyError(f"{step.name}: {explain(error, run.folder, 'finished notebooks are kept')}") from error
    record |= {"seconds": round(time.monotonic() - began, 1), "peak_memory_mb": round(seen.peak / 2**20)}
    _claim_outputs(run, step.name, record, before)
    if failure:
        raise failure
    say(f"  {step.name}: done in {record['seconds']:.0f} s, at most {record['peak_memory_mb']:,} MB")


def _mark_report(destination: Path, step: Step) -> None:
    """The pages of an earlier report say from now on that they are older than the run, until it is built again."""
    from bestofl_lib.display.report.build import mark_unfinished

    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    mark_unfinished(
        destination,
        f"These pages may be older than their run: {step.name} was started on {when} and is not yet in the report.",
    )


def _begun(step: Step, steps: list[Step], records: dict[str, Any], digests: Digests) -> dict[str, Any]:
    """The account of a notebook that is about to run."""
    earlier = earlier_outputs(step, steps, records)
    return {
        "status": "running",
        "parameters": step.effective,
        "source": cells_digest(step.path),
        "library": library_files(imported_names(step.path)),
        "data": named_files(step, digests),
        "inputs": {name: digests.of(name) for name in sorted(earlier) if digests.of(name)},
        "outputs": records.get(step.name, {}).get("outputs", {}),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": git_state(),
        "versions": versions(),
    }


def _claim_outputs(run: Run, name: str, record: dict[str, Any], before: dict[str, str]) -> None:
    """Record which files of the run are this notebook's: its own, files of no notebook, and those that changed
    meanwhile. In a copied run the tables of other notebooks are of no notebook: they stay so.
    """
    digests, records = Digests(run.folder), run.notebook_records()
    foreign = {f for other, entry in records.items() if other != name for f in entry["outputs"]}
    foreign |= {f"{table}.parquet" for table, known in TABLES.items() if name not in known.made_by}
    mine = [f for f in run_files(run.folder) if f not in foreign or before.get(f) != digests.of(f)]
    record["outputs"] = {f: digests.of(f) for f in mine}
    record["executed"] = digests.of(f"notebooks/{name}.ipynb")
    for other, entry in records.items():
        if other != name:
            entry["outputs"] = {f: digest for f, digest in entry["outputs"].items() if f not in record["outputs"]}
    run.record("notebooks", dict(sorted((records | {name: record}).items())))


def _report(run: Run, title: str, steps: list[Step], folders: Folders, say: Say) -> Path:
    """Bring the report up to date; nothing is built when neither its pages nor what they show has changed."""
    destination = folders.reports / run.name
    index = destination / "index.html"
    if index.exists() and run.recorded().get("report", {}).get("key") == report_key(
        run, title, destination, steps, REPORT
    ):
        say(f"  report: up to date, {index}")
        return index
    from bestofl_lib.display.report.build import LARGEST, build_report

    began = time.monotonic()
    now = {state.name: (state.state, state.why) for state in states(run, steps)}
    with watching("report", execution.progress_path(executed_path(run, "report")), say) as seen:
        build_report(run, destination, title=title, states=now)
    key = report_key(run, title, destination, steps, REPORT)
    spent = {"seconds": round(time.monotonic() - began, 1), "peak_memory_mb": round(seen.peak / 2**20)}
    run.record("report", {"key": key} | spent)
    size = sum(path.stat().st_size for path in destination.rglob("*") if path.is_file())
    say(f"  report: {index} ({size / 1e6:.1f} MB)")
    if size > LARGEST:
        say(f"  report: larger than {LARGEST / 1e6:.0f} MB; show shorter tables or fewer charts in the notebooks")
    return index
