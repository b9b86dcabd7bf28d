"""The runner with real kernels: papermill, kills, trust."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import nbformat
import pytest
from tiny_study import MAKE, SHOW, go, write_notebook

from bestofl_lib.runs import Run
from bestofl_lib.study.errors import StudyError
from bestofl_lib.study.freshness import executed_path


@pytest.mark.slow
def test_a_study_runs_through_papermill_and_its_notebooks_open_trusted(folders):
    from nbformat.sign import NotebookNotary

    go(folders)
    executed = executed_path(Run("tiny", folders.runs), "02_show_numbers")
    assert NotebookNotary().check_signature(nbformat.read(executed, as_version=4))
    assert [path.name for path in executed.parent.iterdir() if path.name.startswith(".")] == []
    assert Run("tiny", folders.runs).recorded()["notebooks"]["01_make_numbers"]["peak_memory_mb"] > 20


@pytest.mark.slow
@pytest.mark.parametrize(
    ("last", "complaint", "code"),
    [
        ("1 / 0", "failed in cell [5]: ZeroDivisionError: division by zero", 1),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "the kernel was killed", 138),
        ("import os\nos._exit(0)", "by an exit() in a cell", 138),
    ],
)
def test_a_cell_that_fails_kills_its_kernel_or_leaves_early_is_reported(folders, last, complaint, code):
    write_notebook(folders.notebooks / "01_make_numbers.ipynb", [*MAKE, last, "after = 1"])
    with pytest.raises(StudyError) as caught:
        go(folders)
    assert complaint in str(caught.value) and caught.value.exit_code == code
    assert "01_make_numbers failed" in (folders.reports / "tiny" / "01_make_numbers.html").read_text()


@pytest.mark.slow
def test_papermill_alone_runs_a_notebook_from_any_folder(folders, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = [
        sys.executable,
        "-m",
        "papermill",
        str(folders.notebooks / "01_make_numbers.ipynb"),
        "out.ipynb",
        "-p",
        "run",
        "alone",
        "-p",
        "rows",
        "2",
    ]
    subprocess.run(command, cwd=elsewhere, check=True, capture_output=True, timeout=500)
    assert Run("alone", folders.runs).read("numbers").height == 2


@pytest.mark.slow
def test_a_terminated_runner_leaves_whole_files_and_no_kernel(folders, tmp_path):
    write_notebook(
        folders.notebooks / "01_make_numbers.ipynb",
        [*MAKE, f"import os, time\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)"],
    )
    environment = os.environ | {
        "BESTOFL_NOTEBOOKS": str(folders.notebooks),
        "BESTOFL_RUNS": str(folders.runs),
        "BESTOFL_REPORTS": str(folders.reports),
    }
    child = subprocess.Popen(
        [sys.executable, "-m", "bestofl_lib.cli", "run", "tiny"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    drained = threading.Thread(target=child.communicate)
    drained.start()
    end = time.monotonic() + 300
    while (
        child.poll() is None
        and time.monotonic() < end
        and not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    ):
        time.sleep(0.1)
    child.send_signal(signal.SIGTERM)
    drained.join(timeout=200)
    assert child.returncode == 143
    kernel = int((tmp_path / "pid").read_text())
    for _ in range(100):
        if not Path(f"/proc/{kernel}").exists():
            break
        time.sleep(0.1)
    assert not Path(f"/proc/{kernel}").exists()
    assert (
        json.loads((folders.runs / "tiny" / "run.json").read_text())["notebooks"]["01_make_numbers"]["status"]
        == "running"
    )


@pytest.mark.slow
def test_keys_in_the_environment_are_in_no_file_and_no_line(folders, monkeypatch):
    """Notebooks, run.json, notes, pages and messages, of a study that ends well and of one that fails."""
    keys = {name: f"sk-{name.lower()}-0123456789" for name in ("BESTOFL_API_KEY", "OPENAI_API_KEY", "HF_TOKEN")}
    for name, key in keys.items():
        monkeypatch.setenv(name, key)
    lines = go(folders)
    call = "from bestofl_lib.candidates.endpoint_sampler import EndpointSampler\n" + (
        "from bestofl_lib.models.contract import Request, Sampling\n"
        "writer = EndpointSampler('http://127.0.0.1:9/v1', 'lab', patience=Patience(first_contact=0.1))\n"
        "list(writer.sample([Request('p', 'en', 0, ({'role': 'user', 'content': 'x'},), 0)], Sampling()))"
    )
    asks = f"from bestofl_lib.models.servers import Patience\n{call}"
    write_notebook(folders.notebooks / "02_show_numbers.ipynb", [*SHOW, asks])
    with pytest.raises(StudyError, match="no server answers") as caught:
        go(folders)
    said = "\n".join((*lines, str(caught.value)))
    files = [path for place in (folders.runs, folders.reports) for path in place.rglob("*") if path.is_file()]
    assert len(files) > 5
    for key in keys.values():
        assert key not in said
        assert [path.name for path in files if key.encode() in path.read_bytes()] == []
