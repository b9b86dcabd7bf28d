"""Twenty things that a stranger wants to do, each done with nothing but what the README says.

Commands are run as a user runs them, in a folder elsewhere. `stranger` refuses a verb, an option or a parameter that the README does not show.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from bestofl_lib.files import ROOT

pytestmark = pytest.mark.slow

README = (ROOT / "README.md").read_text("utf8")
PROBLEMS, N = 12, 4
SENTENCES = {
    "en": ("Ann has {a} boxes of {b} eggs. How many eggs?", "{a} × {b} = {c}. The answer is {c}."),
    "sw": ("Ann ana masanduku {a} yenye mayai {b} kila moja. Ana mayai mangapi?", "{a} × {b} = {c}. Jibu ni {c}."),
    "th": ("แอนมีกล่อง {a} กล่อง กล่องละ {b} ฟอง มีไข่กี่ฟอง", "{a} × {b} = {c} คำตอบคือ {c}"),
}
SKILL = {"small": {"en": 3, "sw": 1, "th": 2}, "large": {"en": 4, "sw": 2, "th": 3}}  # right ones of N


class Stranger:
    """Somebody with the README, a terminal and a folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.runs, self.reports = folder / "runs", folder / "reports"

    def __call__(self, line: str, status: int = 0, typed: str = "") -> str:
        """Run `bestofl` with these words; gives what it printed."""
        words = tuple(shlex.split(line))
        for word in words[:1] + tuple(w for w in words if w.startswith("-")):
            assert re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", README), f"the README does not show {word}"
        for name in (w.split("=")[0] for w, before in zip(words[1:], words, strict=False) if before == "-p"):
            assert f"-p {name}=" in README, f"the README does not show -p {name}="
        places = {"BESTOFL_RUNS": str(self.runs), "BESTOFL_REPORTS": str(self.reports), "COLUMNS": "200"}
        done = subprocess.run(
            [sys.executable, "-m", "bestofl_lib.cli", *words],
            cwd=self.folder,
            env=os.environ | places | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
            input=typed,
        )
        assert done.returncode == status, f"{' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def page(self, run: str, name: str) -> str:
        return (self.reports / run / f"{name}.html").read_text("utf8")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory) -> Stranger:
    """With two models' completions in three languages in one file, imported as two runs."""
    made = Stranger(tmp_path_factory.mktemp("stranger"))
    rows = []
    for model, skill in SKILL.items():
        for p in range(PROBLEMS):
            a, b = 2 + p % 5, 3 + p % 4
            for code, (question, answer) in SENTENCES.items():
                for i in range(N):
                    right = (i + p) % N < skill[code]
                    text = answer.format(a=a, b=b, c=a * b if right else a * b + 1 + i)
                    rows.append(
                        {
                            "problem_id": f"p{p:02}",
                            "language": code,
                            "question": question.format(a=a, b=b),
                            "reference": a * b,
                            "completion": text,
                            "model": model,
                        }
                    )
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (made.folder / "completions.jsonl").write_text(lines, "utf8")
    for model in SKILL:
        made(f"run pool -p pool=completions.jsonl -p model={model} -p run={model}")
    return made


def test_1_what_a_file_would_be_read_as_is_said_before_anything_runs(stranger):
    assert "choose one with -p model=" in stranger("check completions.jsonl", status=1)
    said = stranger("check completions.jsonl -p model=small")
    assert "144 completions of 12 problems" in said and "bestofl run pool" in said


def test_2_completions_of_two_models_in_three_languages_become_reports(stranger):
    for model, skill in SKILL.items():
        assert f"{model}" in stranger.page(model, "index") and "12 problems" in stranger.page(model, "index")
        accuracy = dict(
            pl.read_parquet(stranger.runs / model / "accuracy.parquet").select("language", "accuracy").iter_rows()
        )
        assert accuracy == pytest.approx({code: right / N for code, right in skill.items()})


def test_3_two_models_are_compared(stranger):
    said = stranger("compare small large")
    assert "large against small, on 12 problems in 3 languages" in said
    assert "Side by side" in (stranger.reports / "compare-small-large.html").read_text("utf8")


def test_4_one_figure_goes_into_latex(stranger):
    stranger("figures large --format pdf,tex --to paper --width 3.3in --no-title --only claims")
    made = sorted(path.suffix for path in (stranger.folder / "paper").iterdir())
    assert ".tex" in made and ".pdf" in made
    assert all("claim" in path.name for path in (stranger.folder / "paper").iterdir())
    assert any("\\toprule" in path.read_text("utf8") for path in (stranger.folder / "paper").glob("*.tex"))


def test_5_a_chart_s_data_goes_into_a_spreadsheet(stranger):
    stranger("figures large --format csv --to sheets --only accuracy")
    with next((stranger.folder / "sheets").glob("accuracy_by_language*.csv")).open(encoding="utf-8-sig") as file:
        assert {row["language"] for row in csv.DictReader(file)} == set(SENTENCES)


def test_6_a_report_is_mailed_as_one_file(stranger):
    stranger("share large --to large.html")
    page = (stranger.folder / "large.html").read_bytes()
    assert len(page) < 4_000_000 and b"What if" in page and b'src="assets' not in page
    assert "index.html" in stranger("share large --to site/")
    assert (stranger.folder / "site" / "index.html").is_file()


def test_7_what_the_reward_model_gets_wrong_is_found(stranger, opened):
    page, _, said = opened(stranger.reports / "small" / "atlas.html")
    page.select_option(".atlas select >> nth=0", label="worst reward-model mistakes first")
    page.select_option("[aria-label='failures in']", label="Thai")
    page.select_option("[aria-label=failures]", "sums")
    assert page.locator(".board .card.bad").count() > 0 and not said


def test_8_the_runs_are_listed_with_their_models(stranger):
    said = stranger("runs")
    assert "small" in said and "large" in said
    assert all(len(re.findall(r"H1 (?:[+−]?\d|not tested)", line)) == 1 for line in said.splitlines() if " H4 " in line)


def test_9_whether_a_run_is_up_to_date_is_said(stranger):
    said = stranger("status large")
    assert said.count("up to date") >= 5


def test_10_what_would_run_is_said_and_nothing_changes(stranger):
    said = stranger("run pool -p pool=completions.jsonl -p model=large -p run=other -p base=sw --dry-run")
    assert "08_budget_curves" in said and not (stranger.runs / "other").exists()
    assert stranger("status large").count("up to date") >= 5


def test_11_another_base_language_is_a_parameter(stranger):
    stranger("copy large scratch")
    stranger("run pool -p pool=completions.jsonl -p model=large -p run=scratch -p base=sw --only 7")
    gains = pl.read_parquet(stranger.runs / "scratch" / "gains.parquet")
    assert set(gains["base"]) == {"sw"} and "Swahili" in stranger.page("scratch", "07_language_complementarity")


def test_12_a_finished_run_is_not_replaced_by_other_parameters(stranger):
    said = stranger("run pool -p pool=completions.jsonl -p model=small -p run=large", status=1)
    assert "-p run=" in said


def test_13_a_run_again_does_nothing(stranger):
    said = stranger("run pool -p pool=completions.jsonl -p model=small -p run=small")
    assert "running" not in said


def test_14_every_parameter_is_explained(stranger):
    said = stranger("run lab --help")
    assert "test_candidates" in said and "temperature" in said


def test_15_twenty_problems_of_my_own_are_checked_and_answered(stranger):
    rows = [
        {
            "problem_id": f"q{p}",
            "language": code,
            "question": SENTENCES[code][0].format(a=2 + p % 5, b=3 + p // 5),
            "reference": (2 + p % 5) * (3 + p // 5),
        }
        for p in range(20)
        for code in ("en", "sw")
    ]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (stranger.folder / "problems.jsonl").write_text(text, "utf8")
    assert "20 problems in 2 languages" in stranger("check problems.jsonl")
    said = stranger("run lab -p source=problems.jsonl -p languages=en,sw -p test_candidates=2 -p run=ours --only 1")
    assert "done" in said
    stored = pl.read_parquet(sorted((stranger.runs / "ours" / "candidates").glob("0*.parquet")))
    assert stored.height == 80 and stored["problem_id"].n_unique() == 20


def test_16_a_slice_is_tried_first(stranger):
    said = stranger("run lab --trial --dry-run")
    assert "01_generate_candidates" in said and "lab-trial" in said


def test_17_the_machine_is_checked(stranger):
    assert "torch" in stranger("doctor")


def test_18_one_notebook_is_run_with_papermill(stranger):
    assert "papermill notebooks/08_budget_curves.ipynb out.ipynb -p run" in README
    places = {"BESTOFL_RUNS": str(stranger.runs), "BESTOFL_REPORTS": str(stranger.reports), "PYTHONPATH": str(ROOT)}
    command = [
        "papermill",
        str(ROOT / "notebooks/09_plan_budget.ipynb"),
        "out.ipynb",
        "-p",
        "run",
        "scratch",
        "-p",
        "objective",
        "oracle",
        "-k",
        "python3",
    ]
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=stranger.folder,
        env=os.environ | places,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "allocation" in (stranger.folder / "out.ipynb").read_text("utf8")


def test_19_an_error_says_what_to_do(stranger):
    said = stranger("run pool -p pool=completions.jsonl -p run=both", status=1)
    assert "-p model=small" in said or "-p model=large" in said


def test_20_a_copy_is_removed(stranger):
    stranger("copy small old")
    stranger("rm old", typed="y\n")
    assert "old" not in stranger("runs").split()
