"""A run read some problems at a time, by several processes, has the readings of the whole."""

from __future__ import annotations

import polars as pl
from made_up_world import make_world

from bestofl_lib.answers.columns import read_answers
from bestofl_lib.answers.other_readers import evenly_spread
from bestofl_lib.answers.run_reading import read_run, sample_of_run
from bestofl_lib.answers.trace import trace_languages
from bestofl_lib.candidates import store
from bestofl_lib.runs import Run


def test_a_run_in_several_parts_is_read_and_sampled_as_in_one(tmp_path, monkeypatch):
    world, run = make_world(n_problems=6), Run("parts", tmp_path)
    run.write("problems", world.problems)
    with run.store().writing() as writer:
        writer.add_table(world.candidates)
        writer.ask(world.candidates.group_by("problem_id", "language", "draw").agg(n=pl.len()))
    monkeypatch.setattr(store, "PART", 30)
    assert len(run.candidate_parts()) == 3
    candidates = run.candidates()
    expected = read_answers(candidates, world.problems).hstack(
        trace_languages(candidates["completion"]).select("trace_language")
    )
    assert read_run(run).equals(expected)
    tested = run.candidates("test")
    assert sample_of_run(run, "test", 5).equals(tested.filter(evenly_spread(5)))
