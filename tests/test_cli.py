"""The command line: one clear message, the right exit status, a fast start."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from bestofl_lib import doctor
from bestofl_lib.cli import app
from bestofl_lib.runs import Folders
from bestofl_lib.study import run as study_run
from bestofl_lib.study.errors import StudyError


def call(*words: str):
    return CliRunner().invoke(app, list(words))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    for name in ("NOTEBOOKS", "RUNS", "REPORTS"):
        (tmp_path / name.lower()).mkdir()
        monkeypatch.setenv(f"BESTOFL_{name}", str(tmp_path / name.lower()))


def test_run_passes_on_parameters_and_choices(monkeypatch, tmp_path):
    seen = {}

    def run_study(name, overrides, **more):
        seen.update({"name": name, "overrides": overrides, **more})
        return tmp_path / "index.html"

    monkeypatch.setattr(study_run, "run_study", run_study)
    answer = call("run", "lab", "-p", "languages=en,sw", "-p", "note=a=b", "--from", "05", "--force")
    assert answer.exit_code == 0 and f"open {tmp_path / 'index.html'}" in answer.output
    assert seen["overrides"] == {"languages": "en,sw", "note": "a=b"}
    assert (seen["name"], seen["start_from"], seen["only"], seen["force"]) == ("lab", "05", None, True)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("run", "lab", "-p", "languages"), "-p 'languages': expected name=value"),
        (("run", "lab"), "no study 'lab'"),
        (("status", "lab"), "no run 'lab'"),
        (("status", "../lab"), "run name '../lab'"),
    ],
)
def test_an_error_is_one_message_and_no_traceback(words, complaint):
    answer = call(*words)
    assert answer.exit_code == 1 and f"bestofl: {complaint}" in answer.output and "Traceback" not in answer.output


def test_debug_shows_the_traceback():
    with pytest.raises(StudyError):
        CliRunner().invoke(app, ["--debug", "run", "lab"], catch_exceptions=False)


def test_a_killed_kernel_ends_with_its_own_status(monkeypatch):
    def run_study(*_, **__):
        raise StudyError("the kernel was killed", exit_code=138)

    monkeypatch.setattr(study_run, "run_study", run_study)
    assert call("run", "lab").exit_code == 138


def test_an_interrupt_says_that_nothing_is_lost(monkeypatch):
    def run_study(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(study_run, "run_study", run_study)
    answer = call("run", "lab")
    assert answer.exit_code == 130 and "goes on from there" in answer.output


def test_a_mistake_in_the_program_itself_is_not_hidden(monkeypatch):
    def run_study(*_, **__):
        raise RuntimeError("a bug")

    monkeypatch.setattr(study_run, "run_study", run_study)
    assert isinstance(call("run", "lab").exception, RuntimeError)


def test_doctor_names_what_is_missing_with_its_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "_device", lambda: ("ok", "device: CPU only"))
    (tmp_path / "constraints.txt").write_text("numpy==0.1\n")
    lines, healthy = doctor.examine(tmp_path, Folders.default())
    text = "\n".join(lines)
    assert not healthy and "train it with `make policy`" in text
    assert "(tested: 0.1); `make install` sets them right" in text


def test_doctor_ends_with_a_status_that_scripts_can_use(monkeypatch):
    monkeypatch.setattr(doctor, "examine", lambda: (["FAIL no disk; buy one"], False))
    answer = call("doctor")
    assert answer.exit_code == 1 and "buy one" in answer.output


def test_a_policy_with_weights_satisfies_the_doctor(tmp_path):
    weights = tmp_path / "data" / "lab" / "policy" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights")
    mark, text = doctor._lab(tmp_path)
    assert mark == "ok" and f"SHA-256 {hashlib.sha256(b'weights').hexdigest()[:16]}" in text


def test_the_library_and_the_help_start_fast_and_load_nothing_heavy():
    code = "import bestofl_lib, bestofl_lib.cli, sys; print([m for m in ('torch', 'transformers', 'altair', 'papermill', 'nbconvert', 'polars') if m in sys.modules])"
    began = time.monotonic()
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
    assert time.monotonic() - began < 20, "even on a crowded machine"
