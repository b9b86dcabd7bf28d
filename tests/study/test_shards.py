"""Shards of a study: processes that draw disjoint parts, and the run that continues from all of them."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from bestofl_lib.cli import app
from bestofl_lib.study.errors import StudyError
from bestofl_lib.study.shards import run_shard


def test_a_shard_that_cannot_be_is_refused_before_anything_runs():
    with pytest.raises(ValueError, match="5/4.*1/4"):
        run_shard("lab", "5/4")


def test_a_study_that_draws_nothing_has_no_shards():
    with pytest.raises(StudyError, match="study 'pool' draws no candidates"):
        run_shard("pool", "1/2")


def test_the_command_takes_no_option_that_a_shard_would_ignore():
    result = CliRunner().invoke(app, ["run", "lab", "--shard", "1/2", "--force"])
    assert result.exit_code == 1 and "--shard draws candidates and nothing else" in result.output


@pytest.mark.slow
def test_two_shards_then_the_notebook_itself_draw_what_one_run_draws(tmp_path, monkeypatch):
    from bestofl_lib.runs import Run
    from bestofl_lib.study.run import run_study

    monkeypatch.setenv("BESTOFL_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("BESTOFL_REPORTS", str(tmp_path / "reports"))
    small = {
        "languages": "en,sw", "train_problems": "0", "dev_problems": "0", "test_problems": "4",
        "test_candidates": "2", "max_new_tokens": "40", "workers": "1",
    }  # fmt: skip
    for shard in ("2/2", "1/2"):
        executed = run_shard("lab", shard, small | {"run": "parts"}, say=lambda line: None)
        assert executed.name.startswith(f"shard-{shard[0]}-of-2_01_")
    merged = Run("parts").candidates()
    shards = Run("parts").store().shards()
    for name in ("parts", "whole"):
        run_study("lab", small | {"run": name}, only="01", say=lambda line: None)
    assert Run("parts").store().shards() == shards
    whole = Run("whole").candidates()
    # sums of log-probabilities round differently with the rows that are computed together
    columns = [name for name in merged.columns if name not in ("seconds", "logprob")]
    assert merged.select(columns).equals(whole.select(columns))
    assert merged["logprob"].to_list() == pytest.approx(whole["logprob"].to_list(), abs=1e-3)
