"""The languages of question, thinking and answer through the real notebooks, on the lab's policy: from one parameter to curves."""

from __future__ import annotations

import polars as pl
import pytest

from bestofl_lib.files import ROOT
from bestofl_lib.languages import is_language
from bestofl_lib.runs import Folders, Run
from bestofl_lib.study.run import run_study

pytestmark = pytest.mark.slow
SMALL = {
    "train_problems": "0",
    "dev_problems": "0",
    "test_problems": "6",
    "test_candidates": "2",
    "max_new_tokens": "60",
    "budgets": "[1, 2]",
}
STEPS = ("01_generate_candidates", "03_check_answers", "08_budget_curves")


@pytest.fixture
def folders(tmp_path, monkeypatch) -> Folders:
    monkeypatch.setenv("BESTOFL_RUNS", str(tmp_path / "runs"))  # the notebooks' own processes read it
    return Folders(ROOT / "notebooks", tmp_path / "runs", tmp_path / "reports")


def study(folders: Folders, steps: tuple[str, ...] = STEPS, **parameters: str) -> Run:
    for step in steps:
        run_study("lab", SMALL | {"run": "axes"} | parameters, folders=folders, only=step, replace=True)
    return Run("axes", folders.runs)


def languages_of(run: Run) -> set[str]:
    return {pool for pool in run.read("curves")["pool"] if is_language(pool)}


def test_questions_in_english_with_thinking_in_several_languages_are_a_study_in_one_parameter(folders):
    run = study(folders, languages="de,es,sw", style="native", question_language="en")
    drawn = run.candidates()
    assert set(drawn["question_language"]) == {"en"}
    assert drawn["thinking_language"].equals(drawn["language"].rename("thinking_language"))
    english = set(run.problems("test")["question"])
    assert len(english) == 6, "one question in English for all languages"
    assert languages_of(run) == {"de", "es", "sw"}
    assert set(run.read("curves").filter(pool="mixed")["n_problems"]) == {6}


def test_the_axis_of_the_curves_is_one_parameter_too(folders):
    asked = {"languages": "en,es", "think_in": '["es", "sw", "de"]', "think_by": "prefill"}
    run = study(folders, **asked, axis="thinking")
    assert languages_of(run) == {"de", "es", "sw"}
    drawn = run.candidates()
    assert (
        len(drawn) == 6 * 2 * 3 * 2
        and drawn.filter(thinking_language="sw")["completion"].str.starts_with("Kwanza").all()
    )
    right = run.readings("test").join(drawn, on=["problem_id", "language", "sample_index"])
    one = run.read("curves").filter(pool="sw", strategy="random", budget=1)["accuracy"].item()
    assert one == pytest.approx(right.filter(thinking_language="sw")["is_correct"].mean())
    again = study(folders, STEPS[2:], **asked, axis="question")
    assert languages_of(again) == {"en", "es"}
    assert again.candidates().equals(drawn), "another axis draws nothing"
    assert set(again.read("curves").filter(pl.col("pool") == "mixed")["n_problems"]) == {6}
