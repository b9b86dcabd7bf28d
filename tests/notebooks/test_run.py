"""Every notebook of the study `lab`, run through papermill on a small slice of the lab."""

from __future__ import annotations

import json
import re
from pathlib import Path

import polars as pl
import pytest

from bestofl_lib.display.figures import charts_of
from bestofl_lib.files import ROOT
from bestofl_lib.languages import english_name
from bestofl_lib.runs import Folders, Run
from bestofl_lib.study.plan import load_study
from bestofl_lib.study.run import run_study
from bestofl_lib.tables import KEY, SCHEMAS, check_table

SLICE = {
    "run": "slice",
    "languages": "en,te,zh",
    "train_problems": "30",
    "train_candidates": "4",
    "dev_problems": "8",
    "test_problems": "12",
    "test_candidates": "4",
    "rows": "60",
    "budgets": "[2, 4]",
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    base = tmp_path_factory.mktemp("slice")
    folders = Folders(ROOT / "notebooks", base / "runs", base / "reports")
    patch = pytest.MonkeyPatch()
    patch.setenv("BESTOFL_RUNS", str(folders.runs))  # the notebooks' own processes read it
    run_study("lab", SLICE, folders=folders)
    patch.undo()
    return Run("slice", folders.runs), folders.reports / "slice"


def test_the_whole_path_leaves_every_table_with_its_schema(finished):
    run, _ = finished
    for name in ("problems", "readings", "rewards", "curves"):
        table = run.read(name)
        assert len(table) and table.columns == check_table(name, table).columns
        assert set(SCHEMAS[name]) <= set(table.columns)
    for name in (
        "accuracy",
        "trained",
        "reward_quality",
        "exclusive",
        "gains",
        "shapley",
        "claims",
        "plan",
        "allocations",
    ):
        assert len(run.read(name)), name


def test_the_run_has_the_candidates_that_were_asked_for(finished):
    run, _ = finished
    readings = run.read("readings").join(run.read("problems").select("problem_id", "split").unique(), on="problem_id")
    assert dict(readings.group_by("split").agg(pl.len()).iter_rows()) == {
        "train": 30 * 4 * 3,
        "dev": 8 * 4 * 3,
        "test": 12 * 4 * 3,
    }


def test_all_reward_models_learnt_from_the_same_number_of_rows(finished):
    trained = finished[0].read("trained").filter(pl.col("rows") > 0)
    assert {"multi", "cross"} <= set(trained["reward_model"])
    assert trained["rows"].n_unique() == 1


def test_every_claim_has_a_verdict_and_a_sentence(finished):
    claims = finished[0].read("claims")
    assert claims["claim"].unique(maintain_order=True).to_list() == ["H1", "H2", "H3", "H4"]
    assert set(claims["verdict"]) <= {"supported", "not supported", "undecided", "no room", "not tested"}
    assert claims["sentence"].str.len_chars().min() > 40


def nodes(part):
    if isinstance(part, dict):
        yield part
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else []:
        yield from nodes(inner)


def test_languages_have_one_order_in_every_chart_of_a_first_run_that_of_accuracy(finished):
    run, _ = finished
    order = [english_name(code) for code in run.languages_by_accuracy()]
    assert order != sorted(order), "the alphabet would pass too"
    seen = set()
    for name, spec in charts_of(run):
        if name == "claim_details":
            continue  # its panels are in order of effect
        for node in nodes(spec):
            axis = [place for place in node["sort"] if place in order] if isinstance(node.get("sort"), list) else []
            assert axis == [place for place in order if place in axis], f"{name}: {axis}"
            seen |= {name} if len(axis) > 1 else set()
    assert {"completion_lengths", "accuracy_by_language", "exclusive_solves", "reward_quality"} <= seen


def test_tables_on_the_pages_have_the_order_of_languages_of_the_charts(finished):
    run, report = finished
    order, seen = run.languages_by_accuracy(), 0
    for page in sorted(report.glob("0*.html")):
        for table in re.findall(r"<table.*?</table>", page.read_text("utf8"), re.S):
            head = re.findall(r"<th>(.*?)</th>", table)
            if head[:1] not in (["language"], ["reward_model"]) or "note" in head:
                continue  # notes are in order of their number
            codes = re.findall(r"<tr><td>(?:mono-)?(\w+)</td>", table)
            codes = list(dict.fromkeys(code for code in codes if code in order))
            assert codes == [code for code in order if code in codes], f"{page.name}: {codes}"
            seen += len(codes) > 1
    assert seen >= 5


def test_the_report_has_a_page_for_each_notebook_and_fits_its_limit(finished):
    run, report = finished
    pages = {path.stem for path in report.glob("*.html")}
    assert pages == {*load_study("lab").notebooks, "index", "atlas", "whatif", "intervals"}
    assert sum(path.stat().st_size for path in report.rglob("*") if path.is_file()) < 6e6
    assert json.loads((run.folder / "run.json").read_text("utf8"))
    training = (report / "04_train_reward_models.html").read_text("utf8")
    assert "English, problem lab-train-" in training and "lab-test-" not in training, (
        "it opens with what it learns from"
    )


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_english_paraphrases_of_a_sampled_run_reach_the_control_of_h4_in_table_sentence_and_chart(
    tmp_path, monkeypatch
):
    folders = Folders(ROOT / "notebooks", tmp_path / "runs", tmp_path / "reports")
    monkeypatch.setenv("BESTOFL_RUNS", str(folders.runs))
    asked = {
        "languages": "en,es",
        "style": "native",
        "wordings": "3",
        "train_problems": "0",
        "dev_problems": "0",
        "budgets": "[2, 4]",
    }
    few = {"run": "worded", "test_problems": "8", "test_candidates": "4"}
    for notebook in ("01_generate_candidates", "03_check_answers", "08_budget_curves"):
        run_study("lab", asked | few, only=notebook, folders=folders)
    run = Run("worded", folders.runs)
    drawn = dict(
        run.candidates().group_by("language", "condition").agg(pl.len()).rows_by_key(["language", "condition"])
    )
    assert drawn == {
        ("en", None): [(32,)], ("es", None): [(32,)], ("en", "wording 2"): [(32,)], ("en", "wording 3"): [(32,)],
    }  # fmt: skip
    rows = run.read("claim_details").filter(part="wordings")
    assert rows.select("arm", "against").rows() == [("en, 3 wordings", "en again"), ("planned", "en, 3 wordings")]
    readings = run.readings("test").join(run.candidates(), on=["problem_id", "language", "sample_index"])
    rate = readings.filter(language="en").group_by("problem_id", "condition").agg(c=pl.col("is_correct").sum())
    assert rate["c"].sum() > 0, "the lab's policy solves some in these words too, or the control would compare nothing"
    assert "English asked in 3 wordings covers" in run.read("claims").filter(claim="H4")["sentence"][0]
    page = (folders.reports / "worded" / "08_budget_curves.html").read_text("utf8")
    assert "3 wordings against one wording" in page and "planned pool against 3 wordings" in page


def test_the_study_for_real_models_cross_fits_adapters_where_there_is_no_training_split(tmp_path, monkeypatch):
    folders = Folders(ROOT / "notebooks", tmp_path / "runs", tmp_path / "reports")
    monkeypatch.setenv("BESTOFL_RUNS", str(folders.runs))
    here = {"source": "lab", "model": "data/lab/policy", "reward_base": "data/lab/policy", "style": "question"}
    small = {
        "languages": "en,es",
        "test_problems": "24",
        "test_candidates": "6",
        "max_new_tokens": "160",
        "folds": "2",
        "rows": "8",
    }
    run_study("mgsm", here | small | {"readout": "head", "tuning": "lora"}, folders=folders)
    trained = Run("mgsm", folders.runs).read("trained")
    assert set(trained["tuning"]) == {"lora"} and set(trained["fold"]) == {0, 1}
    assert set(Run("mgsm", folders.runs).read("problems")["split"]) == {"test"}
    assert "not tested" not in set(Run("mgsm", folders.runs).read("claims")["verdict"])


def test_steps_are_labelled_by_rollouts_and_tried_beside_the_own_way_on_dev_problems(tmp_path, monkeypatch):
    folders = Folders(ROOT / "notebooks", tmp_path / "runs", tmp_path / "reports")
    monkeypatch.setenv("BESTOFL_RUNS", str(folders.runs))
    few = {"languages": "en,es", "train_problems": "20", "dev_problems": "6", "dev_candidates": "4", "rollouts": "2"}
    run_study("lab_steps", few | {"rows": "40", "trainings": "1"}, folders=folders)
    run = Run("lab_steps", folders.runs)
    labels, trials = run.read("step_labels"), run.read("reward_trials")
    train = run.problems("train")["problem_id"].unique()
    assert set(labels["problem_id"]) == set(train) and set(labels["rollouts"]) == {1, 2}
    assert len(run.candidates("train")) == labels.select(*KEY).n_unique() < len(labels)
    assert trials["trial"].n_unique() == 5 and trials["rows"].n_unique() == 1
    trained = list((run.folder / "reward_trials").rglob("reward_model.json"))
    assert len(trained) == 2 * 2, "an aggregation trains nothing: multi and cross of the run's own way and of steps"
    assert trials["auc"].min() > 0.7
    page = (folders.reports / "lab_steps" / "12_label_steps.html").read_text("utf8")
    assert "are lost in their first step" in page
