"""The command line: one clear message, the right exit status, a fast start."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
from importlib.metadata import version

import filelock
import nbformat
import polars as pl
import pytest
import tiny_study
from made_up_runs import write_run
from typer.testing import CliRunner

from bestofl_lib import doctor
from bestofl_lib.analysis.reading_quality import accuracy_by_language
from bestofl_lib.cli import app
from bestofl_lib.display import embed
from bestofl_lib.runs import Folders, Run
from bestofl_lib.study import execution
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


@pytest.mark.parametrize("evil", ["\x1b[31mred", "\x1b]0;title\x07", "a\rb", "\x9b31mred", "\x00"])
def test_no_control_character_of_a_file_reaches_the_terminal(tmp_path, evil):
    row = {"problem_id": evil, "language": "en", "completion": f"{evil} 4", "question": f"2 + 2? {evil}"}
    for reference in ("4", f"none {evil}"):  # one that can be read, shown with its rows, and one that is refused
        (tmp_path / "pool.jsonl").write_text(json.dumps(row | {"reference": reference}))
        answer = CliRunner().invoke(app, ["check", str(tmp_path / "pool.jsonl")], color=True)
        assert answer.output and not {sign for sign in answer.output if sign < " " or "\x7f" <= sign < "\xa0"} - {"\n"}


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
    assert answer.exit_code == 130 and "run the same command to continue" in answer.output


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
    monkeypatch.setattr(doctor, "examine", lambda model: (["FAIL no disk; buy one"], False))
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


STUDY_WORDS = [("run", "tiny", "--dry-run"), ("run", "tiny", "--help"), ("run", "tiny", "--trial", "--dry-run")]


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """The tiny study where the command line looks, run without kernels."""
    shutil.rmtree(tmp_path / "notebooks")
    places = tiny_study.write_study(tmp_path)
    monkeypatch.setattr(execution, "execute", tiny_study.execute_here)
    return places


@pytest.mark.parametrize("words", STUDY_WORDS)
def test_looking_at_a_study_changes_nothing(tiny, words):
    answer = call(*words)
    assert answer.exit_code == 0, answer.output
    assert list(tiny.runs.iterdir()) == [] and list(tiny.reports.iterdir()) == []


def test_the_help_of_a_study_lists_its_parameters_with_values_and_help(tiny):
    output = call("run", "tiny", "--help").output
    assert re.search(r"rows +int +4 +rows to make", output) and re.search(
        r"share +float +0.5 +part to show \(02\)", output
    )


def test_a_dry_run_says_what_would_run_and_is_refused_like_the_run(tiny):
    assert "would run: not run yet" in call("run", "tiny", "--dry-run").output
    assert call("run", "tiny").exit_code == 0
    assert "01_make_numbers                  up to date" in call("run", "tiny", "--dry-run").output
    answer = call("run", "tiny", "-p", "rows=9", "--dry-run")
    assert answer.exit_code == 1 and "-p run=tiny-2" in answer.output


@pytest.mark.parametrize("words", [("--only", ""), ("--from", ""), ("-p", "rows=-1"), ("-p", "=3"), ("-p", "run=")])
def test_empty_and_impossible_choices_are_refused_before_anything_runs(tiny, words):
    answer = call("run", "tiny", *words)
    assert answer.exit_code == 1 and answer.output.startswith("bestofl: ") and list(tiny.runs.iterdir()) == []


def test_runs_are_listed_copied_opened_and_removed(tiny, monkeypatch):
    assert "no runs in" in call("runs").output
    call("run", "tiny")
    assert re.search(r"tiny +\d{4}-\d\d-\d\d \d\d:\d\d  tiny", call("runs").output)
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert call("open", "tiny").exit_code == 0 and opened[0].endswith("reports/tiny/index.html")
    assert call("copy", "tiny", "scratch").exit_code == 0
    assert Run("scratch", tiny.runs).read("total").equals(Run("tiny", tiny.runs).read("total"))
    Run("scratch", tiny.runs).write("total", pl.DataFrame({"n": [0]}))  # no study owns it
    assert "exists already" in call("copy", "tiny", "scratch").output
    assert "made by hand: no study" in call("status", "scratch").output
    assert call("rm", "scratch").exit_code == 1 and (tiny.runs / "scratch").exists()  # nobody said yes
    assert call("rm", "scratch", "--yes").exit_code == 0 and not (tiny.runs / "scratch").exists()
    assert "no run 'tinny'" in call("rm", "tinny", "--yes").output
    assert call("rm", "tiny", "--yes").exit_code == 0 and not (tiny.reports / "tiny").exists()


def test_status_says_what_runs_now_and_how_far_it_is(tiny):
    call("run", "tiny")
    run = Run("tiny", tiny.runs)
    run.record_notebook("02_show_numbers", run.notebook_records()["02_show_numbers"] | {"status": "running"})
    assert "02_show_numbers                  stale: it was interrupted" in call("status", "tiny").output
    note = {"unit": "candidates", "done": 4, "total": 320, "at_start": 0, "tokens": 1000, "seconds": 50.0}
    (run.folder / ".progress.json").write_text(json.dumps(note))
    with filelock.FileLock(run.folder / ".study.lock"):
        output = call("status", "tiny").output
        assert "in use" in call("rm", "tiny", "--yes").output
    assert re.search(
        r"02_show_numbers +running since \d\d:\d\d: 4 of 320 candidates, 12 s each, 20 tokens/s, about 66 min left",
        output,
    )


def test_status_lists_languages_in_the_order_of_the_charts(tmp_path, monkeypatch):
    run = write_run(tmp_path / "runs", "drawn", n_problems=6, n=4)
    monkeypatch.setenv("BESTOFL_RUNS", str(run.root))
    run.write("accuracy", accuracy_by_language(run.readings("test")))
    listed = re.findall(r"\b([a-z]{2}) 24\b", call("status", "drawn").output)
    assert listed == run.languages_by_accuracy() != sorted(listed)


def test_the_version_is_said():
    assert call("--version").output == f"bestofl {version('bestofl')}\n"


def test_explore_hands_options_on_to_jupyter_and_works_as_root(monkeypatch, tmp_path):
    from bestofl_lib.display.explorer import launch

    seen: list[list[str]] = []
    monkeypatch.setattr(launch, "write_notebook", lambda run, split, setting: tmp_path / f"{run.name}-{split}.ipynb")
    monkeypatch.setattr(launch.subprocess, "call", lambda command: seen.append(command) or 0)
    monkeypatch.setattr(launch.os, "geteuid", lambda: 0)
    assert call("explore", "lab", "--split", "train", "--no-browser", "--port=9999").exit_code == 0
    assert seen[0][-4:] == [str(tmp_path / "lab-train.ipynb"), "--allow-root", "--no-browser", "--port=9999"]
    monkeypatch.setattr(launch.os, "geteuid", lambda: 1000)
    call("explore", "lab")
    assert "--allow-root" not in seen[1]


def test_check_says_how_completions_and_problems_are_read_and_what_runs_them(tmp_path):
    rows = [
        {"problem_id": "a", "language": code, "completion": f"The answer is {n}.", "reference": "4", "question": "2 + 2?"}
        for code in ("en", "sw") for n in (4, 5)
    ]  # fmt: skip
    pool = tmp_path / "my pool.jsonl"
    pool.write_text("".join(json.dumps(row) + "\n" for row in rows))
    output = call("check", str(pool)).output
    assert "4 completions of 1 problem" in output and "English 2, Swahili 2" in output and "no n_tokens" in output
    assert f"bestofl run pool -p 'pool={pool}'" in output or f"-p pool='{pool}'" in output
    problems = tmp_path / "mine.csv"
    problems.write_text("problem_id,language,question,reference\n1,en,2 + 2?,4\n1,sw,2 + 2?,4\n")
    output = call("check", str(problems)).output
    assert "1 problem in 2 languages (en, sw)" in output and "question: 2 + 2?" in output and "-p source=" in output
    neither = tmp_path / "x.csv"
    neither.write_text("a,b\n1,2\n")
    answer = call("check", str(neither))
    assert answer.exit_code == 1 and "as completions:" in answer.output and "as problems:" in answer.output


def test_check_reads_languages_by_name_and_says_why_a_file_with_completions_is_taken_for_problems(tmp_path):
    rows = [{"problem_id": "a", "lang": name, "question": "2 + 2?", "target": 4, "generations": ["4", "The answer is 5."]}
            for name in ("German", "English")]  # fmt: skip
    pool = tmp_path / "pool.jsonl"
    pool.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert (
        "4 completions of 1 problem" in (output := call("check", str(pool)).output) and "German 2, English 2" in output
    )
    pool.write_text("".join(json.dumps(row | {"model": row["lang"]}) + "\n" for row in rows))
    output = call("check", str(pool)).output
    assert (
        output.startswith("not read as completions: the pool holds 2 models") and "1 problem in 2 languages" in output
    )


def test_a_shell_completes_names_of_runs_and_studies(tiny):
    words = {"_BESTOFL_COMPLETE": "complete_bash", "COMP_CWORD": "2"}
    for line, wanted in (("bestofl run ti", "tiny"), ("bestofl status ti", "tiny"), ("bestofl compare x", "")):
        call("run", "tiny")
        answer = CliRunner().invoke(app, [], env=words | {"COMP_WORDS": line}, prog_name="bestofl")
        assert answer.output.split() == wanted.split()


def test_doctor_says_what_it_finds_of_a_model_and_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    memory, speed = doctor._model("data/lab/policy")
    assert memory[0] == speed[0] == "ok" and "weights" in memory[1] and "tokens/s (measured now)" in speed[1]
    ((state, said),) = doctor._model("nobody/nothing")
    assert state == "FAIL" and "no model folder 'nobody/nothing'" in said and "give a folder" in said
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in doctor._hub()[1]
    answer = call("doctor", "-p", "model=nobody/nothing")
    assert answer.exit_code == 1 and len(answer.output.splitlines()) == 1 and "'nobody/nothing'" in answer.output
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert doctor._hub()[0] == "note" and "http://127.0.0.1:9 cannot be reached" in doctor._hub()[1]
    answer = call("doctor", "-p", "modle=x")
    assert answer.exit_code == 1 and "write -p model=" in answer.output


def test_a_file_in_the_users_folder_is_found_by_the_run(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.jsonl").write_text("{}")
    assert call("run", "tiny", "-p", "word=mine.jsonl").exit_code == 0
    record = Run("tiny", tiny.runs).notebook_records()["02_show_numbers"]
    assert (
        record["parameters"]["word"] == str(tmp_path / "mine.jsonl") and str(tmp_path / "mine.jsonl") in record["data"]
    )
    monkeypatch.chdir("/")
    assert "02_show_numbers                  up to date" in call("status", "tiny").output


@pytest.mark.parametrize(
    "words", [["compare", "labb", "lab"], ["figures", "labb"], ["share", "labb"], ["status", "labb"]]
)
def test_a_run_that_is_not_there_is_said_with_the_nearest_name(tmp_path, monkeypatch, words):
    (tmp_path / "lab").mkdir()
    monkeypatch.setenv("BESTOFL_RUNS", str(tmp_path))
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1 and "no run 'labb'" in result.output and "did you mean 'lab'?" in result.output


def test_figures_of_an_altered_executed_notebook_are_refused_and_those_of_a_stale_one_are_noted(tiny, tmp_path):
    spec = {
        "mark": "bar",
        "usermeta": {"name": "bars"},
        "datasets": {"d": [{"n": 1.25}, {"n": 2.5}]},
        "data": {"name": "d"},
    }
    data, metadata = embed._render(spec)
    source = tiny.notebooks / "02_show_numbers.ipynb"
    notebook = nbformat.read(source, as_version=4)
    notebook.cells[-1].outputs = [nbformat.v4.new_output("display_data", data=data, metadata=metadata)]
    nbformat.write(notebook, source)
    assert call("run", "tiny").exit_code == 0
    words = ["figures", "tiny", "--format", "csv", "--to", str(tmp_path / "out")]
    answer = call(*words)
    assert answer.exit_code == 0 and "note:" not in answer.output
    Run("tiny", tiny.runs).path("numbers").write_bytes(b"")
    answer = call(*words)
    assert answer.exit_code == 0 and "02_show_numbers is stale (earlier table changed" in answer.output
    before = (tmp_path / "out" / "bars.csv").read_text()
    executed = tiny.runs / "tiny" / "notebooks" / "02_show_numbers.ipynb"
    executed.write_text(executed.read_text().replace("2.5", "9.5"))
    answer = call(*words)
    assert answer.exit_code == 1 and "02_show_numbers changed since it was executed" in answer.output
    assert (tmp_path / "out" / "bars.csv").read_text() == before and "2.5" in before
