"""What is checked before a study changes a run: finished figures are not overwritten, and both folders can be written.

A finished run stands for its parameters: other parameters need a run with another name, unless the user gives
`--replace`. Parameters that change no figure (device, workers) do not count.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from bestofl_lib.files import explain
from bestofl_lib.runs import Folders, Run
from bestofl_lib.study.errors import StudyError
from bestofl_lib.study.plan import Step
from bestofl_lib.tables import TABLES
from bestofl_lib.text import shortened

WITHOUT_EFFECT = ("device", "workers", "batch_rows")  # parameters that may differ between two halves of one run
LEAST_FREE = 100 * 2**20  # bytes of free disk below which nothing is started
OLD = 3600  # seconds after which a half-written file counts as left by a killed writer


def check_not_finished_otherwise(run: Run, study: str, steps: list[Step], overrides: Mapping[str, str]) -> None:
    """Refuse to replace finished figures by those of other parameters or of another study.

    Args:
        steps: those that are about to run.
        overrides: from `-p`, for the command that is proposed.

    Raises:
        StudyError: with the parameters that differ and the command that keeps both.
    """
    records = run.notebook_records()
    done = {name: record for name, record in records.items() if record["status"] == "done"}
    before = run.recorded().get("study", {}).get("name", study)
    given = "".join(f" -p {name}={value}" for name, value in overrides.items() if name != "run")
    way_out = (
        f"give this one another name: bestofl run {study}{given} -p run={free_name(run)}; "
        "or let it replace the figures of the run: --replace (stored candidates are kept)"
    )
    if done and before != study:
        raise StudyError(f"run {run.name!r} was made by the study {before!r}, not {study!r}; {way_out}")
    changed: dict[str, str] = {}
    for step in steps:
        then = done[step.name]["parameters"] if step.name in done else step.effective
        for name, now in step.effective.items():
            known = name in then or name in step.passed  # one that the notebook did not have then is at its default
            if name not in WITHOUT_EFFECT and known and then.get(name) != now:
                changed[name] = f"{name} ({_shown(then.get(name, 'not set'))} → {_shown(now)})"
    if changed:
        raise StudyError(f"run {run.name!r} was made with other parameters: {', '.join(changed.values())}; {way_out}")


def check_models(run: Run, steps: list[Step]) -> None:
    """Look for the models of every notebook that has not run yet, before any kernel is started.

    Raises:
        StudyError: there is no such folder or Hub id, or it cannot be reached; a library for servers or clusters is not
            installed; or an option is not for such a model. With the remedy.
    """
    from bestofl_lib.candidates.opening import check_options
    from bestofl_lib.models.identity import config_path
    from bestofl_lib.models.ray_crew import load_ray
    from bestofl_lib.models.servers import load_aiohttp, read_addresses

    records = run.notebook_records()
    for step in steps:
        if records.get(step.name, {}).get("status") == "done":
            continue
        if step.effective.get("engine", "local") != "local":
            try:
                load_ray()
            except ImportError as error:
                raise StudyError(str(error)) from error
        for parameter, model, revision in _models_of(step):
            try:
                if read_addresses(model):
                    load_aiohttp()
                elif parameter != "model" or step.effective["engine"] == "local":  # else its nodes look for it
                    config_path(model, revision or None)
                if parameter == "model":
                    check_options(model, step.effective)
            except (OSError, ValueError, ImportError) as error:
                raise StudyError(f"-p {parameter}={model}: {error}") from error


def check_trainings(run: Run, steps: list[Step]) -> None:
    """Look at how reward models are to be trained in every notebook that has not run yet.

    Raises:
        StudyError: settings that exclude each other, a change that is none, a base or labels of steps that are not
            there, or a library that is not installed.
    """
    from bestofl_lib.rewards.spec import TrainingSettings, check_peft

    records, names = run.notebook_records(), [step.name for step in steps]
    for step in steps:
        values = step.effective
        if "readout" not in values or records.get(step.name, {}).get("status") == "done":
            continue
        given = {f.name: values[f.name] for f in fields(TrainingSettings) if f.name in values}
        unset = {f.name: None for f in fields(TrainingSettings) if f.default is None and not values.get(f.name)}
        try:
            settings = TrainingSettings(**given | unset)
            every = [settings]
            if values.get("changes"):
                from bestofl_lib.experiments import trials_of
                from bestofl_lib.models.identity import config_path

                trials = trials_of(values["reward_base"], settings, values["changes"])
                every += [trial.settings for trial in trials]
                for base in {trial.base for trial in trials} - {values["reward_base"]}:
                    config_path(base, None)
            if any(one.tuning == "lora" for one in every):
                check_peft("tuning 'lora'")
            label = TABLES["step_labels"].made_by
            if any(one.readout == "steps" for one in every) and not run.has("step_labels") and label not in names:
                raise ValueError(f"readout 'steps' needs labels of steps, which {label} makes: bestofl run lab_steps")
        except (OSError, ValueError) as error:
            raise StudyError(f"{step.name}: {error}") from error


def check_folders(run: Run, folders: Folders) -> None:
    """Try both places that a study writes to, so that a read-only or full disk shows before anything runs.

    Raises:
        StudyError: naming the folder, what is wrong with it and the remedy.
    """
    for folder in (run.folder, folders.reports):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"\0" * 65536)
                file.flush()
                os.fsync(file.fileno())
            free = shutil.disk_usage(folder).free
        except OSError as error:
            raise StudyError(str(explain(error, folder, "nothing was run"))) from error
        if free < LEAST_FREE:
            raise StudyError(
                f"{free / 2**20:.0f} MB are free on the disk of {folder}; at least {LEAST_FREE / 2**20:.0f} MB are "
                "needed to begin; free some space, or set BESTOFL_RUNS and BESTOFL_REPORTS to folders on another disk"
            )


def sweep(run: Run, folders: Folders) -> None:
    """Remove half-written files and report folders whose writer was killed; call it while holding the run's lock."""
    for left in (*folders.reports.glob(f".{run.name}.*.part"), *folders.reports.glob(f".{run.name}.*.old")):
        shutil.rmtree(left, ignore_errors=True)
    old = time.time() - OLD
    for left in run.folder.rglob(".*.part"):
        with contextlib.suppress(OSError):
            if left.is_file() and left.stat().st_mtime < old:
                left.unlink()


def free_name(run: Run) -> str:
    """The run's name with the first number from 2 on that no run has."""
    number = 2
    while (run.root / f"{run.name}-{number}").exists():
        number += 1
    return f"{run.name}-{number}"


def shared_without_locks(folder: Path) -> str:
    """The file system of a folder if locks and atomic renames are unreliable on it; else empty.

    Such a place (NFS, SMB, SSHFS) works for one writer at a time; nothing prevents a second one on another machine.
    """
    place = next((path for path in [folder, *folder.parents] if path.exists()), folder).resolve()
    best, kind = "", ""
    with contextlib.suppress(OSError):
        for line in Path("/proc/mounts").read_text("utf8").splitlines():
            mount, system = line.split(" ")[1:3]
            mount = mount.replace("\\040", " ")
            if place.is_relative_to(mount) and len(mount) >= len(best):
                best, kind = mount, system
    remote = (
        "nfs",
        "cifs",
        "smb",
        "fuse.sshfs",
        "9p",
        "afs",
        "ceph",
        "lustre",
        "fuse.s3fs",
        "fuse.gcsfuse",
        "beegfs",
        "gpfs",
    )
    return kind if kind.startswith(remote) else ""


def _models_of(step: Step) -> Iterator[tuple[str, str, str | None]]:
    """Parameter, model and revision of each model that a notebook is about to open on this machine."""
    values = step.effective
    if "revision" in values:
        yield "model", values["model"], values["revision"]
    if "reward_revision" in values:
        yield "reward_base", values["reward_base"], values["reward_revision"]
    for text in values.get("reward_models", []):
        from bestofl_lib.problems.files import find
        from bestofl_lib.rewards.ways import ExternalModel

        source = text.split(",")[0].strip()
        is_ours = (find(source) / "reward_model.json").exists()  # trained by another run
        if source.startswith(("http://", "https://")) or source.endswith(".txt"):
            yield "reward_models", str(find(source)) if source.endswith(".txt") else source, None
        elif not is_ours:
            model = ExternalModel.parse(text)
            yield "reward_models", model.source, model.revision


def _shown(value: Any) -> str:
    return shortened(repr(value), 60)
