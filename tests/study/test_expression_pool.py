"""The study `pool` by its own notebooks where references are expressions: equal answers vote together, to the report."""

from __future__ import annotations

import polars as pl
import tiny_study
from expression_pool import LEVELS, REFERENCES, write_pool

from bestofl_lib.analysis.arrays import arrays_of_run
from bestofl_lib.analysis.run_scan import open_run
from bestofl_lib.display.explorer.problem import problem_view
from bestofl_lib.display.report.atlas import atlas_data
from bestofl_lib.files import ROOT
from bestofl_lib.runs import Folders, Run
from bestofl_lib.study import execution
from bestofl_lib.study import run as study_run
from bestofl_lib.study.run import run_study


def test_a_pool_of_expressions_goes_through_every_notebook(tmp_path, monkeypatch):
    folders = Folders(ROOT / "notebooks", tmp_path / "runs", tmp_path / "reports")
    monkeypatch.setenv("BESTOFL_RUNS", str(folders.runs))
    monkeypatch.setattr(execution, "execute", tiny_study.execute_here)
    monkeypatch.setattr(study_run, "_report", lambda run, *rest: run.folder)  # pages have tests of their own
    pool = write_pool(tmp_path / "pool.jsonl")
    run_study("pool", {"pool": str(pool), "rewards": "reward", "run": "expr"}, folders=folders, say=lambda _: None)
    run = Run("expr", folders.runs)
    kinds = run.problems().unique("problem_id").sort("problem_id")
    assert kinds["answer_kind"].to_list() == ["expression"] * 7 + ["number"]
    readings = run.readings().join(run.problems(), on=["problem_id", "language"])
    assert (readings.filter("is_correct")["answer"] == readings.filter("is_correct")["reference"]).all()
    right = run.candidates().join(readings.select("problem_id", "language", "sample_index", "is_correct"), on=[
        "problem_id", "language", "sample_index"
    ])  # fmt: skip
    for number, (_, said, wrong) in enumerate(REFERENCES):
        mine = right.filter(problem_id=f"p{number}")
        for text, is_correct in mine.select("completion", "is_correct").iter_rows():
            assert is_correct == any(f"\\boxed{{{answer}}}" in text for answer in said)
            assert is_correct or f"\\boxed{{{wrong}}}" in text or "?" in text
    assert readings.group_by("problem_id").agg(pl.col("answer").drop_nulls().n_unique())["answer"].max() <= 2
    assert (run.folder / "expressions.json").exists()
    assert set(run.read("curves")["strategy"]) >= {"majority", "best_of_k"} and not run.read("claims").is_empty()
    assert run.read("curves_by_level")["level"].unique(maintain_order=True).to_list() == list(LEVELS)
    assert set(run.read("accuracy_by_level")["level"]) == set(LEVELS)
    arrays = arrays_of_run(run)
    assert arrays.reference.tolist() == [0] * 8
    candidates_drawn = dict.fromkeys(("en", "de"), 2)
    view = problem_view(open_run(run, "test"), "p0", allocation=candidates_drawn, reward_model="reward")
    assert view["formulas"][view["reference"]][0] == "math" and r"\frac{\sqrt{2}}{3}" in view["formulas"]
    data = atlas_data(run)
    assert data["levels"] == list(LEVELS)
    assert [one["level"] for one in data["problems"]] == [LEVELS[int(name[1:]) // 2] for name in data["ids"]]
    problem = data["problems"][0]
    assert problem["formulas"].keys() == {vote[0] for vote in problem["votes"] if vote[0]}
