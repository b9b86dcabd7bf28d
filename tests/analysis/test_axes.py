"""Any of the three languages can be the axis of an analysis."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from bestofl_lib.analysis.arrays import arrays_of_run
from bestofl_lib.analysis.axes import on_axis
from bestofl_lib.analysis.complementarity import exclusive_solves
from bestofl_lib.analysis.curves import curves
from bestofl_lib.answers.columns import read_answers
from bestofl_lib.candidates.sampling import generate
from bestofl_lib.models.contract import Completion
from bestofl_lib.problems.load import load
from bestofl_lib.problems.prompts import Asking
from bestofl_lib.runs import Run
from bestofl_lib.tables import KEY

THINK = ("de", "sw", "zh")


class ThinksInSwahili:
    """Right exactly where it is made to think in Swahili."""

    name, identity = "thinker", "thinker@1"

    def sample(self, requests, settings):
        for request in requests:
            swahili = "Kiswahili" in request.messages[0]["content"]
            right = self.answers[request.problem_id]
            yield request, Completion(f"#### {right if swahili else int(right) + 1}", 5, "stop", -1.0, 0.1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Questions in English and German, each thought about in three languages, answered in French; two candidates each."""
    root: Path = tmp_path_factory.mktemp("runs")
    run, problems = Run("axes", root), load("lab", ["en", "de"], "test", 12)
    sampler = ThinksInSwahili()
    sampler.answers = dict(problems.select("problem_id", "reference").iter_rows())
    run.write("problems", problems)
    candidates = generate(
        problems, run.store(), sampler, 2, asking=Asking(think_in=THINK, answer_in="fr"), progress=False
    )
    readings = run.write("readings", read_answers(candidates, problems).with_columns(trace_language=pl.lit(None)))
    rewards = readings.select(*KEY, reward_model=pl.lit("cross"), reward=pl.col("is_correct").cast(pl.Float64))
    own = rewards.with_columns(reward_model=pl.format("mono-{}", "language"))
    run.write("rewards", pl.concat([rewards, own]))
    return run


def test_the_axis_decides_what_language_is(run):
    assert arrays_of_run(run).languages == ("de", "en")
    assert arrays_of_run(run, axis="question").languages == ("de", "en")
    assert arrays_of_run(run, axis="thinking").languages == THINK
    assert arrays_of_run(run, axis="answer").languages == ("fr",)


def test_every_candidate_is_there_once_on_every_axis(run):
    for axis in ("", "question", "thinking", "answer"):
        arrays = arrays_of_run(run, axis=axis)
        assert arrays.n_problems == 12
        assert sum(int(arrays.exists[code].sum()) for code in arrays.languages) == 12 * 2 * 3 * 2


def test_accuracy_belongs_to_the_language_of_the_thinking(run):
    accuracy = dict(arrays_of_run(run, axis="thinking").summary().select("language", "accuracy").iter_rows())
    assert accuracy == {"de": 0.0, "sw": 1.0, "zh": 0.0}
    by_question = arrays_of_run(run, axis="question").summary()["accuracy"].to_list()
    assert by_question == pytest.approx([1 / 3, 1 / 3])


def test_the_figures_of_complementarity_and_curves_are_on_the_axis(run):
    arrays = arrays_of_run(run, axis="thinking", base="de")
    solves = exclusive_solves(arrays)
    assert solves.filter(language="sw", other="de")["exclusive"].item() == 12
    table = curves(arrays, [1, 3], strategies=["oracle", "best_of_k"], replicates=200)
    assert set(table["pool"]) >= {"de", "sw", "mixed"}
    assert table.filter(pool="mixed", budget=3, reward_model="cross", strategy="best_of_k")["accuracy"].item() == 1
    assert table.filter(pool="sw", strategy="oracle", budget=1)["accuracy"].item() == 1


def test_models_of_single_languages_know_another_axis_and_are_left_out(run):
    assert arrays_of_run(run).reward_models == ("mono", "cross")
    assert arrays_of_run(run, axis="thinking").reward_models == ("cross",)


def test_no_such_axis_is_refused(run):
    with pytest.raises(ValueError, match="unknown axis 'reasoning'; use one of: question, thinking, answer"):
        arrays_of_run(run, axis="reasoning")


def test_a_run_without_the_columns_is_the_same_on_every_axis(run):
    tables = (
        run.candidates().with_columns(thinking_language=pl.lit(None, pl.String)),
        run.readings(),
        None,
        run.problems(),
    )
    assert on_axis("thinking", *tables)[0].equals(tables[0])
