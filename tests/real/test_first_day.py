"""What a user meets on the first day with a real model: the doctor, a trial, an interrupt by hand, and going on.

SmolLM2-135M-Instruct is asked as a base model would be: two solved problems first, no chat template. Run by `make real`.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import polars as pl
import pytest

pytest.importorskip("gguf")

from real_model import bestofl, smollm2

from bestofl_lib.candidates.sampling import generate
from bestofl_lib.candidates.store import Store
from bestofl_lib.candidates.transformers_sampler import TransformersSampler
from bestofl_lib.candidates.unfinished import FOLDER, UnfinishedRows
from bestofl_lib.models.contract import Sampling
from bestofl_lib.progress import read_snapshot
from bestofl_lib.runs import Run
from bestofl_lib.study.execution import progress_path
from bestofl_lib.study.freshness import executed_path
from bestofl_lib.tables import KEY

pytestmark = [pytest.mark.real, pytest.mark.timeout(3600)]

ROOT = Path(__file__).resolve().parents[2]
MGSM = ROOT / "tests" / "data" / "mgsm"
SIZE = 12 * 2 * 4  # problems, languages, candidates of each: a trial
NEW_TOKENS = 96
TRIAL = {
    "source": MGSM, "languages": "en,es", "model": smollm2, "reward_base": smollm2, "style": "few_shot",
    "chat_template": "plain", "max_new_tokens": NEW_TOKENS, "folds": 2, "trainings": 1, "device": "cpu", "workers": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("trial")
    return {"runs": place / "runs", "reports": place / "reports"}


@pytest.fixture(scope="module")
def run(folders) -> Run:
    return Run("mgsm-trial", folders["runs"])


def trial(folders: dict[str, Path]) -> subprocess.Popen[str]:
    """`bestofl run mgsm --trial` in the foreground of its own process group, as in a terminal."""
    parameters = {name: value() if callable(value) else value for name, value in TRIAL.items()}
    command, environment = bestofl(folders, "run", "mgsm", "--trial", **parameters)
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip


def status(folders: dict[str, Path]) -> str:
    command, environment = bestofl(folders, "status", "mgsm-trial")
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout


def test_the_doctor_says_what_this_machine_can_do_with_the_model(folders):
    command, environment = bestofl(folders, "doctor", model=smollm2())
    said = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False).stdout
    lines = [line for line in said.splitlines() if ("SmolLM2" in line and "tokens/s" in line) or "cache 46 kB" in line]
    print("\n" + "\n".join(lines))
    assert re.search(r"ok   model .*weights 0\.5 GB, cache 46 kB per token; in .* GB free [\d,]+ completions", said)
    assert re.search(r"ok   model .*: [\d,.]+ tokens/s \(measured now\): 1,000 completions of 512 tokens in ", said)


def test_an_interrupt_by_hand_loses_nothing_and_the_same_command_continues_exactly(folders, run, tmp_path):
    process = trial(folders)
    started, store = time.monotonic(), run.folder / "candidates"
    while time.monotonic() - started < 1200:
        assert process.poll() is None, f"it ended before it could be interrupted:\n{process.stdout.read()}"
        note = read_snapshot(progress_path(executed_path(run, "01_generate_candidates")))
        if note and 0 < note.done < SIZE and any((store / FOLDER).glob("*.parquet")):
            break
        time.sleep(0.2)
    said = status(folders)
    print("\n" + said)
    assert re.search(rf"01_generate_candidates +running since \d\d:\d\d: \d+ of {SIZE} candidates, .*\d tokens/s", said)
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130 and "run the same command to continue" in output
    assert re.search(r"01_generate_candidates +stale: it was interrupted", status(folders))
    held = Store(store).candidates(partial=True)
    begun = UnfinishedRows(store)
    begun.load()
    unfinished = {key[1:]: found for key, found in begun._rows.items()}
    print(
        f"interrupted: {held.height} of {SIZE} finished, {len(begun)} unfinished after {time.monotonic() - started:.0f} s"
    )
    assert 0 < held.height < SIZE and len(begun) > 0

    process = trial(folders)
    output, _ = process.communicate(timeout=2400)
    print(output)
    assert process.returncode == 0, output[-3000:]
    table = run.candidates()
    assert table.height == SIZE
    assert held.equals(table.join(held, on=list(KEY), how="semi").select(held.columns).sort(list(KEY)))
    text = {tuple(key): completion for *key, completion in table.select(*KEY, "completion").iter_rows()}
    sampler = TransformersSampler(smollm2(), device="cpu", chat_template="plain")
    for key, found in unfinished.items():
        written = sampler.tokenizer.decode(found.tokens).rstrip(
            "\ufffd"
        )  # a letter of several tokens may be unfinished
        length = min(len(written), len(text[key]))  # it may have ended at the label of a next problem
        assert text[key][:length].rstrip() == written[:length].rstrip()
    some = run.problems("test").filter(pl.col("problem_id") == next(iter(unfinished))[0])
    settings = Sampling(temperature=0.8, top_p=0.95, max_new_tokens=NEW_TOKENS)
    whole = generate(some, Store(tmp_path / "whole"), sampler, 4, settings, style="few_shot", progress=False)
    assert whole.height == 8
    assert all(text[tuple(key)] == written for *key, written in whole.select(*KEY, "completion").iter_rows())


def test_the_trial_has_gone_to_its_report(folders, run):
    readings = run.read("readings")
    print("\n", readings.group_by("language").agg(pl.col("is_correct").sum(), pl.col("answer").count(), pl.len()))
    assert readings["answer"].count() > SIZE / 4, "a base model that is shown two solved problems gives answers"
    page = (folders["reports"] / "mgsm-trial" / "index.html").read_text("utf8")
    assert "SmolLM2-135M-Instruct" in page and "Not all of the study has run" not in page
    assert "interrupted" not in status(folders)
