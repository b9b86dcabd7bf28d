"""Draws one shard of a study's candidates, while other processes draw the other shards of the same run.

It runs the notebook that has a parameter `shard`, and no other; the run itself is brought up to date by `run_study`
once all shards have ended.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from bestofl_lib.candidates.writers import Share
from bestofl_lib.runs import Folders, Run
from bestofl_lib.study import execution
from bestofl_lib.study.errors import StudyError
from bestofl_lib.study.execution import NotebookFailed
from bestofl_lib.study.freshness import executed_path
from bestofl_lib.study.plan import Step, load_study, plan
from bestofl_lib.study.run import Say


def run_shard(
    study: str,
    shard: str,
    overrides: dict[str, str] | None = None,
    *,
    folders: Folders | None = None,
    say: Say = print,
) -> Path:
    """Draw shard i/n of a study's candidates.

    Args:
        study: the name of a file in `notebooks/studies`.
        shard: "i/n"; every process of a job gets another i and the same n.
        overrides, folders, say: as for `run_study`.

    Returns:
        The executed notebook.

    Raises:
        StudyError: the study draws no candidates, or the notebook failed.
        ValueError: `shard` is not i/n.
    """
    share = Share.parse(shard)
    if share is None:
        raise ValueError("shard is empty; give i/n with i from 1 to n, such as 1/4")
    folders = folders or Folders.default()
    name, steps = plan(load_study(study, folders), overrides, folders)
    step = _drawing(study, steps)
    run = Run(name, folders.runs)
    step = dataclasses.replace(step, passed=step.passed | {"shard": shard}, effective=step.effective | {"shard": shard})
    whole = executed_path(run, step.name)
    target = whole.with_name(f"shard-{share.mark}_{whole.name}")
    say(f"  {step.name}: drawing shard {shard}")
    try:
        execution.execute(step, target)
    except NotebookFailed as failed:
        raise StudyError(failed.message(step.name, target), failed.exit_code) from failed
    say(f"  {step.name}: shard {shard} is drawn; when all are, run: bestofl run {study}")
    return target


def _drawing(study: str, steps: list[Step]) -> Step:
    for step in steps:
        if "shard" in step.effective:
            return step
    raise StudyError(f"study {study!r} draws no candidates, so it has no shards; run it without --shard")
