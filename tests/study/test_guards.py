"""What a study refuses before anything runs: overwriting finished figures, folders that cannot be written."""

from __future__ import annotations

import errno
import importlib.util
import os
import re
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from tiny_study import MAKE, go, write_notebook

from bestofl_lib.candidates.opening import open_sampler
from bestofl_lib.files import ROOT
from bestofl_lib.runs import Folders, Run
from bestofl_lib.study import guards
from bestofl_lib.study.errors import StudyError
from bestofl_lib.study.preview import request
from bestofl_lib.study.run import run_study
from bestofl_lib.tables import TABLES


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_other_parameters_do_not_replace_a_finished_run_and_a_name_is_proposed(folders, in_process):
    go(folders)
    before = contents(folders.runs / "tiny"), contents(folders.reports)
    with pytest.raises(StudyError) as caught:
        go(folders, {"rows": "9"})
    message = str(caught.value)
    assert "rows (4 → 9)" in message
    assert "bestofl run tiny -p rows=9 -p run=tiny-2" in message and "--replace" in message
    assert (contents(folders.runs / "tiny"), contents(folders.reports)) == before
    go(folders, {"rows": "9", "run": "tiny-2"})
    assert len(Run("tiny-2", folders.runs).read("numbers")) == 9
    assert len(Run("tiny", folders.runs).read("numbers")) == 4
    go(folders, {"rows": "9"}, replace=True)
    assert len(Run("tiny", folders.runs).read("numbers")) == 9


def test_a_default_that_was_edited_in_a_notebook_is_another_parameter_too(folders, in_process):
    go(folders)
    write_notebook(
        folders.notebooks / "01_make_numbers.ipynb", [cell.replace('"en", "de"', '"en", "fr"') for cell in MAKE]
    )
    with pytest.raises(StudyError, match=r"languages \(\['en', 'de'\] → \['en', 'fr'\]\)"):
        go(folders)


def test_another_study_does_not_take_over_a_finished_run(folders, in_process):
    go(folders)
    (folders.notebooks / "studies" / "other.yaml").write_text(
        "title: O\nnotebooks: ['01']\nparameters:\n  rows: 4\n  run: tiny\n"
    )
    from bestofl_lib.study.run import run_study

    with pytest.raises(StudyError, match="made by the study 'tiny', not 'other'; .*-p run=tiny-2"):
        run_study("other", folders=folders, say=lambda line: None)


def test_where_it_runs_may_change_in_the_middle_of_a_run(folders, in_process):
    cell = MAKE[1] + '\ndevice: str = "cpu"  # where'
    write_notebook(folders.notebooks / "01_make_numbers.ipynb", [MAKE[0], cell, *MAKE[2:]])
    go(folders)
    go(folders, {"device": "cuda"})
    assert in_process == ["01", "02", "01"]


def test_a_notebook_run_by_hand_does_not_replace_a_studys_table_by_other_figures(folders, in_process):
    go(folders)
    run = Run("tiny", folders.runs)
    run.write("numbers", run.read("numbers"))  # the same figures: nothing to protect
    with pytest.raises(
        ValueError, match=r"study 'tiny' \(01_make_numbers\).*bestofl copy tiny scratch.*run = 'scratch'"
    ):
        run.write("numbers", pl.DataFrame({"n": [7]}))
    assert len(run.read("numbers")) == 4
    run.write("of_my_own", pl.DataFrame({"n": [7]}))
    run.path("numbers").write_bytes(b"of another version")
    with pytest.raises(ValueError, match=r"bestofl copy tiny scratch"):
        run.write("numbers", pl.DataFrame({"n": [7]}))


def test_one_notebook_run_in_a_copy_does_not_take_over_the_tables_of_others(folders, in_process):
    run = Run("tiny", folders.runs)
    plan = pl.DataFrame(schema=TABLES["plan"].schema)
    run.folder.mkdir(parents=True)
    run.write("plan", plan)  # as in a copy, whose account stays behind: of no notebook
    go(folders)
    owned = {name for record in run.notebook_records().values() for name in record["outputs"]}
    assert "numbers.parquet" in owned and "plan.parquet" not in owned
    run.write("plan", plan.clear(1))  # other figures are welcome


@pytest.mark.parametrize("place", ["runs", "reports"])
def test_a_folder_that_cannot_be_written_is_found_before_anything_runs(folders, in_process, monkeypatch, place):
    real = guards.tempfile.TemporaryFile

    def temporary(dir):
        if getattr(folders, place) in (Path(dir), Path(dir).parent):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(dir=dir)

    monkeypatch.setattr(guards.tempfile, "TemporaryFile", temporary)
    with pytest.raises(StudyError, match=f"{getattr(folders, place)}.*read-only; choose other folders"):
        go(folders)
    assert in_process == []


def test_a_nearly_full_disk_is_found_before_anything_runs(folders, in_process, monkeypatch):
    monkeypatch.setattr(guards, "LEAST_FREE", 10**18)
    with pytest.raises(StudyError, match="are free on the disk of .*free some space"):
        go(folders)
    assert in_process == []


def test_what_a_killed_runner_left_is_swept(folders, in_process):
    go(folders)
    left = [folders.reports / ".tiny.123.part", folders.reports / ".tiny.123.old"]
    for folder in left:
        folder.mkdir()
        (folder / "index.html").write_text("half")
    other = folders.reports / ".another.9.part"
    other.mkdir()
    half, young = (folders.runs / "tiny" / name for name in (".numbers.parquet.x.part", ".numbers.parquet.y.part"))
    half.write_bytes(b"1")
    young.write_bytes(b"1")
    os.utime(half, (time.time() - 7200,) * 2)
    go(folders)
    assert not any(folder.exists() for folder in left) and other.exists()
    assert not half.exists() and young.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b'{"notebooks": {', b"[]", b'"x"', b"\xff\xfe", b'{"notebooks": []}', b'{"study": 3}', b'{"notebooks": {"01_make_numbers": 1}}',
     b'{"notebooks": {"01_make_numbers": {"status": "done"}}}', b'{"study": {"overrides": 1}}'],
)  # fmt: skip
def test_an_account_that_is_empty_torn_or_foreign_is_named_with_the_remedy(folders, in_process, content):
    go(folders)
    (folders.runs / "tiny" / "run.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"run.json is damaged or not ours.*delete it and run the study again"):
        go(folders)
    (folders.runs / "tiny" / "run.json").unlink()
    go(folders)
    assert Run("tiny", folders.runs).read("total")["n"].to_list() == [6]


@pytest.mark.parametrize(("mounts", "kind"), [
    ("/dev/sda / ext4 rw 0 0\nserver:/x {0} nfs4 rw 0 0\n", "nfs4"), ("/dev/sda / ext4 rw 0 0\n", ""),
    ("server:/ / nfs rw 0 0\n/dev/sda {0} ext4 rw 0 0\n", ""),
])  # fmt: skip
def test_places_without_dependable_locks_are_recognised(tmp_path, monkeypatch, mounts, kind):
    monkeypatch.setattr(guards.Path, "read_text", lambda path, encoding: mounts.format(tmp_path))
    assert guards.shared_without_locks(tmp_path / "runs") == kind


@pytest.mark.parametrize("model", ["32B", "nobody/nothing", "data/lab/nothing", "http://bad"])
def test_a_model_that_is_not_there_is_refused_before_any_kernel_starts(tmp_path, monkeypatch, model):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    places = Folders(ROOT / "notebooks", tmp_path / "runs", tmp_path / "reports")
    with pytest.raises(StudyError, match=f"^-p model={model}: .*(?:give a folder|write it like)"):
        run_study("lab", {"model": model}, folders=places, say=lambda line: None)
    assert not places.runs.exists()
    request("lab", {"model": "nobody/nothing", "engine": "ray"}, None, None, False, places)  # looked for by its nodes


SERVED = "http://127.0.0.1:9/v1"


@pytest.mark.parametrize(("missing", "asked", "said"), [
    ("ray", {"engine": "ray"}, "engine 'ray' needs Ray; pip install 'bestofl[cluster]'"),
    ("aiohttp", {"model": SERVED}, "model servers need aiohttp; pip install 'bestofl[serve]'"),
    ("aiohttp", {"reward_models": f"['{SERVED}, served_model=cross']"}, "pip install 'bestofl[serve]'"),
    ("", {"model": SERVED, "workers": "4"}, "workers 4 would be ignored"),
    ("", {"served_model": "qwen"}, "served_model 'qwen' would be ignored"),
])  # fmt: skip
def test_what_servers_or_a_cluster_lack_is_said_before_any_kernel_starts(tmp_path, monkeypatch, missing, asked, said):
    if missing:
        monkeypatch.setitem(sys.modules, missing, None)
    places = Folders(ROOT / "notebooks", tmp_path / "runs", tmp_path / "reports")
    with pytest.raises(StudyError, match=re.escape(said)):
        run_study("lab", asked, folders=places, say=lambda line: None)
    assert not places.runs.exists()


def test_candidates_from_servers_and_rewards_on_a_cluster_are_one_study(tmp_path):
    pytest.importorskip("ray")
    pytest.importorskip("aiohttp")
    places = Folders(ROOT / "notebooks", tmp_path / "runs", tmp_path / "reports")
    asked = {"model": SERVED, "served_model": "lab", "engine": "ray", "device": "cpu"}
    _, _, steps, _ = request("lab", asked, None, None, False, places)
    values = {step.name[:2]: step.effective for step in steps}
    assert open_sampler(SERVED, served_model="lab", engine=values["01"]["engine"], device="cpu").name == "lab"
    assert values["05"]["engine"] == "ray"


@pytest.mark.parametrize(("study", "asked", "said"), [
    ("lab", {"tuning": "lora", "readout": "head"}, "04_train_reward_models: tuning 'lora' needs peft"),
    ("lab_rewards", {}, "13_try_reward_settings: tuning 'lora' needs peft"),
    ("lab", {"tuning": "full"}, "04_train_reward_models: readout 'probe' needs tuning 'frozen'"),
    ("lab", {"learning_rate": "1e-4"}, "learning_rate: tuning 'frozen' is solved exactly"),
    ("lab", {"folds": "1"}, "use 0 for no cross-fitting, or at least 2"),
    ("lab", {"readout": "steps", "loss": "bce"}, "readout 'steps' needs labels of steps, which 12_label_steps makes"),
    ("lab_rewards", {"changes": "['readout steps, loss bce']"}, "needs labels of steps, which 12_label_steps makes"),
    ("lab_rewards", {"changes": "['row 500']"}, "'row 500' is not a change; did you mean 'rows'"),
    ("lab_rewards", {"changes": "[base nobody/nothing]"}, "13_try_reward_settings: no model folder"),
])  # fmt: skip
def test_trainings_that_cannot_be_are_refused_before_any_kernel_starts(tmp_path, monkeypatch, study, asked, said):
    """`make rewards` once stopped after an hour, at its first adapter."""
    known = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *given: None if name == "peft" else known(name, *given)
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    places = Folders(ROOT / "notebooks", tmp_path / "runs", tmp_path / "reports")
    with pytest.raises(StudyError, match=re.escape(said)):
        run_study(study, asked, folders=places, say=lambda line: None)
    assert not places.runs.exists()
    monkeypatch.undo()
    for study in ("lab_rewards", "lab_steps"):
        request(study, {}, None, None, False, places)


@pytest.mark.parametrize(("parameter", "value", "said"), [
    ("reward_base", "nobody/nothing", "-p reward_base=nobody/nothing: no model folder"),
    ("reward_models", "data/lab/reward_base, nobody/nothing", "-p reward_models=nobody/nothing: no model folder"),
    ("reward_models", "[data/lab/reward_base, 'nobody/nothing, revision=v1']", "nobody/nothing: no model folder"),
    ("reward_models", "['data/lab/reward_base, agregation=min']", "'agregation=min'; did you mean 'aggregation'"),
])  # fmt: skip
def test_reward_models_that_are_not_there_are_refused_before_any_kernel_starts(
    tmp_path, monkeypatch, parameter, value, said
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    places = Folders(ROOT / "notebooks", tmp_path / "runs", tmp_path / "reports")
    with pytest.raises((StudyError, ValueError), match=re.escape(said)):
        run_study("lab", {parameter: value}, folders=places, say=lambda line: None)
    assert not places.runs.exists()
    ours = tmp_path / "cross"  # a reward model that another run trained, and one behind a server
    ours.mkdir()
    (ours / "reward_model.json").write_text("{}")
    named = f"[{ours}, 'http://127.0.0.1:9/v1, served_model=cross']"
    request("lab", {"reward_models": named}, None, None, False, places)
