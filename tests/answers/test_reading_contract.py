"""What the reader writes is what charts, takeaways and the analysis understand: each is given the real reader's table."""

from __future__ import annotations

import json

import polars as pl
from made_up_runs import write_run

from bestofl_lib.analysis import reading_quality
from bestofl_lib.analysis.reading_quality import accuracy_by_language, accuracy_by_reader, compliance, disagreements
from bestofl_lib.answers.columns import read_answers
from bestofl_lib.answers.doubts import is_doubtful, without_harmless_doubts
from bestofl_lib.answers.other_readers import read_with_others
from bestofl_lib.answers.trace import trace_languages
from bestofl_lib.display import charts, takeaways

COMPLETIONS = {
    "en": ["The answer is 18.", "\\boxed{18}", "The answer is 18 or 19.", "I do not know.", ""],
    "de": ["Antwort: 5.600", "Antwort: zwischen 3 und 4", "Also sind es 18.", "\\boxed{?}", "Keine Ahnung, ehrlich."],
}
CANDIDATES = pl.DataFrame(
    [("p", code, i, text) for code, texts in COMPLETIONS.items() for i, text in enumerate(texts)],
    schema={"problem_id": pl.String, "language": pl.String, "sample_index": pl.Int32, "completion": pl.String},
    orient="row",
)
PROBLEMS = pl.DataFrame({"problem_id": ["p", "p"], "language": ["en", "de"], "reference": ["18", "18"]})


def readings() -> pl.DataFrame:
    return read_answers(CANDIDATES, PROBLEMS).hstack(trace_languages(CANDIDATES["completion"]).select("trace_language"))


def drawn(chart: object) -> list[dict]:
    spec = chart.to_dict()  # type: ignore[attr-defined]
    return [row for rows in spec["datasets"].values() for row in rows]


def test_a_rule_is_named_exactly_where_there_is_an_answer() -> None:
    table = readings()
    assert table.filter(pl.col("rule").is_null() != pl.col("answer").is_null()).is_empty()
    assert table["answer"].null_count() >= 4
    assert "none" not in set(table["rule"])


def test_unread_answers_are_drawn_as_unreadable_and_not_under_the_cue_that_found_them() -> None:
    table = readings()
    rows = drawn(charts.reading_rules(table.group_by("language", "rule").agg(n=pl.len())))
    unread = {row["language"]: row["n"] for row in rows if row["rule"] == "nothing readable"}
    assert unread == dict(table.filter(pl.col("answer").is_null()).group_by("language").len().iter_rows())


def test_every_chart_and_sentence_about_reading_takes_the_real_tables() -> None:
    table = readings()
    accuracy = accuracy_by_language(table)
    assert {row["language"] for row in drawn(charts.accuracy_by_language(accuracy))} == {"en", "de"}
    others = read_with_others(CANDIDATES, PROBLEMS, readers=("last_number", "after_cue"))
    compared = accuracy_by_reader(others)
    assert {row["reader"] for row in drawn(charts.accuracy_by_reader(compared))} >= {"last number", "after cue"}
    assert "German" in takeaways.readers(compared).data
    assert "18" in takeaways.differing(disagreements(others, CANDIDATES)).data
    assert json.dumps(drawn(charts.trace_languages(table.group_by("language", "trace_language").agg(n=pl.len()))))
    assert set(compliance(table)["language"]) == {"en", "de"}


def test_doubtful_means_the_same_for_the_accuracy_per_language_and_for_the_analysis() -> None:
    table = readings()
    doubtful = table.with_columns(doubtful=is_doubtful(table))
    shares = doubtful.filter(pl.col("answer").is_not_null()).group_by("language").agg(pl.col("doubtful").sum() / 5)
    assert dict(shares.iter_rows()) == dict(accuracy_by_language(table).select("language", "doubtful").iter_rows())
    kept = without_harmless_doubts(doubtful, CANDIDATES, PROBLEMS).filter("doubtful")
    # "18 or 19" may hide the right answer; "zwischen 3 und 4" cannot; texts without digits may hold number words
    assert ("p", "en", 2) in kept.select("problem_id", "language", "sample_index").rows()
    assert ("p", "de", 1) not in kept.select("problem_id", "language", "sample_index").rows()


def test_the_order_of_languages_before_answers_are_checked_is_that_of_their_accuracy(tmp_path, monkeypatch) -> None:
    run = write_run(tmp_path, n_problems=12, n=6)
    test, candidates = run.problems("test"), run.candidates()
    found = accuracy_by_language(run.readings("test"))["language"].to_list()
    assert found == run_order(candidates, test) != sorted(found)
    training = test.with_columns(
        pl.concat_str(pl.lit("train-"), "problem_id").alias("problem_id"), split=pl.lit("train")
    )
    wrong = candidates.with_columns(
        pl.concat_str(pl.lit("train-"), "problem_id").alias("problem_id"), completion=pl.lit("?")
    )
    assert run_order(pl.concat([candidates, wrong]), pl.concat([test, training])) == found, "test problems decide"
    assert sorted(run_order(wrong, training)) == sorted(found), "without any, all do"
    monkeypatch.setattr(reading_quality, "READ_FOR_ORDER", 2 * len(test))
    first = candidates.filter(pl.col("sample_index") < 2)
    assert run_order(candidates, test) == accuracy_by_language(read_answers(first, test))["language"].to_list()
    assert run_order(candidates.clear(), test) == []


def run_order(candidates: pl.DataFrame, problems: pl.DataFrame) -> list[str]:
    return reading_quality.languages_by_accuracy(candidates, problems)
