"""What a study asks for: its file, its notebooks, and requests that are refused."""

from __future__ import annotations

import pytest
from tiny_study import go

from bestofl_lib.files import ROOT
from bestofl_lib.runs import Folders
from bestofl_lib.study.errors import StudyError
from bestofl_lib.study.notebooks import find_notebook
from bestofl_lib.study.plan import Study, declared_parameters, load_study, plan, study_names, with_absolute_paths
from bestofl_lib.study.preview import trial_overrides


def test_norwegian_that_yaml_took_for_false_is_refused_with_the_remedy(folders):
    (folders.notebooks / "studies" / "tiny.yaml").write_text(
        "title: T\nnotebooks: [01_make_numbers]\nparameters:\n  languages: [en, no]\n"
    )
    with pytest.raises(StudyError, match=r"languages: False \(item \[1\]\); .*quotes"):
        go(folders)


@pytest.mark.parametrize("value", ["true", "1.0", "'1'", "[1]"])
def test_a_study_file_with_a_value_of_another_type_is_refused(folders, value):
    (folders.notebooks / "studies" / "tiny.yaml").write_text(
        f"title: T\nnotebooks: [01_make_numbers]\nparameters:\n  rows: {value}\n"
    )
    with pytest.raises(StudyError, match=r"tiny.yaml: rows: .*; expected int"):
        go(folders)


@pytest.mark.parametrize(
    ("overrides", "choice", "complaint"),
    [
        ({"rosw": "4"}, {}, "no notebook of study 'tiny' has a parameter 'rosw'; did you mean 'rows'?"),
        ({"languages": "en,swa"}, {}, "unknown language 'swa'; did you mean 'sw'"),
        ({}, {"only": "02_shwo_numbers"}, "no notebook '02_shwo_numbers'; did you mean '02_show_numbers'?"),
        ({}, {"start_from": "07"}, "no notebook '07'"),
        ({}, {"start_from": "01", "only": "02"}, "not both"),
        ({"run": "../etc"}, {}, "run name '../etc'"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_runs(folders, in_process, overrides, choice, complaint):
    with pytest.raises((StudyError, ValueError)) as caught:
        go(folders, overrides, **choice)
    assert complaint in str(caught.value)
    assert in_process == [] and not folders.runs.exists()


def test_an_unknown_study_is_refused_with_a_suggestion(folders):
    with pytest.raises(StudyError, match="no study 'tinny' .*did you mean 'tiny'"):
        load_study("tinny", folders)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("parameters: {}", "title: field required"),
        ("title: T\nparams: {}", "params: extra inputs"),
        ("[1]", "is not a study"),
        ("a: [", "is not YAML"),
        ("", "is not a study"),
    ],
)
def test_a_study_file_with_something_else_in_it_is_refused(folders, text, complaint):
    (folders.notebooks / "studies" / "odd.yaml").write_text(text)
    with pytest.raises(StudyError) as caught:
        load_study("odd", folders)
    assert complaint in str(caught.value).lower() or complaint in str(caught.value)


def test_a_parameter_reaches_only_the_notebooks_that_declare_it(folders):
    asked = Study(
        name="tiny", title="T", notebooks=["01", "02"], parameters={"rows": 5}, per_notebook={"02": {"word": "y"}}
    )
    _, [make, show] = plan(asked, {"share": "0.25"}, folders)
    assert make.passed == {"run": "tiny", "rows": 5}
    assert show.passed == {"run": "tiny", "word": "y", "share": 0.25}


def test_a_misspelt_parameter_for_one_notebook_is_refused(folders):
    asked = Study(name="tiny", title="T", notebooks=["01", "02"], per_notebook={"02": {"wrod": "y"}})
    with pytest.raises(StudyError, match=r"02_show_numbers.ipynb has no parameter 'wrod'; did you mean 'word'"):
        plan(asked, {}, folders)


def test_a_study_names_its_notebooks(folders):
    (folders.notebooks / "studies" / "tiny.yaml").write_text("title: T\n")
    with pytest.raises(StudyError, match="notebooks: field required.*in the order in which they run"):
        load_study("tiny", folders)


def test_a_trial_of_the_study_of_a_real_model_is_12_problems_4_candidates_and_2_languages_in_its_own_run():
    small = trial_overrides(load_study("mgsm"), {})
    _, steps = plan(load_study("mgsm"), small)
    values = {name: value for step in reversed(steps) for name, value in step.effective.items()}
    found = [values[name] for name in ("run", "test_problems", "test_candidates", "train_problems")]
    assert found == ["mgsm-trial", 12, 4, 0]
    assert len(values["languages"]) == 2 and "en" in values["languages"]
    assert trial_overrides(load_study("mgsm"), {"run": "mine", "test_problems": "3"})["run"] == "mine"


@pytest.mark.parametrize(("old", "new"), [("prompt", "it is called 'style' now"), ("system", "'system_prompt'")])
def test_an_old_name_of_a_parameter_is_refused_with_the_new_one(old, new):
    with pytest.raises(StudyError, match=f"has a parameter '{old}'; .*{new}"):
        plan(load_study("lab"), {old: "native"})


def test_what_messages_advise_for_a_real_model_are_parameters_of_its_study():
    known = {parameter.name for parameter, _, _ in declared_parameters(load_study("mgsm"))}
    assert {
        "chat_template", "system_prompt", "batch_rows", "workers", "learning_rate", "epochs", "batch_pairs", "dtype", "device",
        "max_tokens", "max_new_tokens", "variants", "trainings", "folds", "reward_base", "reward_models",
    } <= known  # fmt: skip


@pytest.mark.parametrize("name", study_names(Folders.default()))
def test_every_study_of_the_project_can_be_planned_and_its_notebooks_stand_in_order(name, monkeypatch):
    _, steps = plan(load_study(name))
    names = [step.name for step in steps]
    assert names == sorted(names)


@pytest.mark.parametrize(("short", "whole"), [("5", "05_b"), ("05", "05_b"), ("05_b.ipynb", "05_b"), ("10", "10_c")])
def test_a_notebook_may_be_named_by_its_number(short, whole):
    assert find_notebook(short, ["01_a", "05_b", "10_c"]) == whole


@pytest.mark.parametrize("name", ["", " ", "0", "7"])
def test_an_empty_or_unknown_notebook_is_refused(name):
    with pytest.raises(StudyError, match="no notebook"):
        find_notebook(name, ["01_a", "05_b", "10_c"])


def test_paths_where_the_user_stands_become_absolute_and_all_else_stays(tmp_path):
    (tmp_path / "mine").mkdir()
    for name in ("completions.jsonl", "lab", "mine/q.csv"):
        (tmp_path / name).write_text("x")
    given = {
        "pool": "completions.jsonl", "source": "lab", "problems": "mine/q.csv", "model": "Qwen/Qwen2.5-7B-Instruct",
        "run": "mine", "temperature": "0.5", "languages": "en,sw", "revised": "", "prompt": "x" * 5000,
    }  # fmt: skip
    changed = {"pool": str(tmp_path / "completions.jsonl"), "problems": str(tmp_path / "mine" / "q.csv")}
    assert with_absolute_paths(given, tmp_path) == given | changed
    assert with_absolute_paths({"pool": "lab"}, tmp_path) == {"pool": str(tmp_path / "lab")}
    assert with_absolute_paths({"model": "data/lab/policy"}, ROOT) == {"model": "data/lab/policy"}
