"""Language of the question, of the thinking and of the answer: asked for, stored, and apart in a store."""

from __future__ import annotations

import io
from pathlib import Path

import polars as pl
import pytest
from made_up_samplers import SeedWriter, problems

from bestofl_lib.candidates.forecast import forecast
from bestofl_lib.candidates.sampling import AXES, generate
from bestofl_lib.candidates.store import Store
from bestofl_lib.languages import LANGUAGES
from bestofl_lib.models.contract import Completion, Sampling
from bestofl_lib.problems.load import load
from bestofl_lib.problems.prompts import STYLES, Asking, messages
from bestofl_lib.text import content_digest


class Listener(SeedWriter):
    """Writes a fixed text and keeps the requests."""

    def sample(self, requests, settings):
        self.requests = list(requests)
        for request in self.requests:
            self.asked.append((request.problem_id, request.language, request.sample_index))
            yield request, Completion(" 2.", 2, "stop", -1.0, 0.01)


def draw(folder: Path, asking: Asking, n: int = 2, table: pl.DataFrame | None = None, style: str = "native"):
    sampler = Listener()
    table = problems(2) if table is None else table
    return generate(table, Store(folder), sampler, n, style=style, asking=asking, progress=False), sampler


def test_without_axes_all_three_are_the_rows_language_and_prompts_are_as_ever(tmp_path):
    table, sampler = draw(tmp_path, Asking())
    for name in AXES:
        assert table[name].equals(table["language"].rename(name))
    question = dict(
        ((p, code), q) for p, code, q in problems(2).select("problem_id", "language", "question").iter_rows()
    )
    for request in sampler.requests:
        code = request.language
        assert list(request.messages) == messages(question[request.problem_id, code], code)


def test_questions_in_one_language_with_thinking_in_each_of_several(tmp_path):
    table = load("lab", ["de", "yo"], "test", 2, question_language="en")
    assert table["question"].n_unique() == 2 and sorted(table["language"].unique()) == ["de", "yo"]
    drawn, sampler = draw(tmp_path, Asking("en"), 2, table)
    assert set(drawn["question_language"]) == {"en"}
    assert drawn["thinking_language"].equals(drawn["language"].rename("thinking_language"))
    for request in sampler.requests:
        content = request.messages[0]["content"]
        assert content.startswith(LANGUAGES[request.language].instruction)
        assert content.endswith(table.filter(problem_id=request.problem_id)["question"][0])


def test_each_question_is_thought_about_in_several_languages_whose_indices_take_turns(tmp_path):
    asking = Asking(think_in=("de", "sw", "zh"))
    table, sampler = draw(tmp_path, asking, 2)
    assert len(table) == 2 * 2 * 3 * 2
    assert table.filter(problem_id="p0", language="en")["sample_index"].to_list() == [0, 1, 2, 3, 4, 5]
    assert table.filter(problem_id="p0", language="en")["thinking_language"].to_list() == ["de", "sw", "zh"] * 2
    assert set(table.filter(language="en")["question_language"]) == {"en"}
    more, sampler = draw(tmp_path, asking, 3)
    assert len(sampler.asked) == 2 * 2 * 3, "a larger n draws only what is new"
    assert more.filter(pl.col("sample_index") < 6).equals(table)


def test_prefilling_begins_the_solution_and_stands_in_the_stored_completion(tmp_path):
    table, sampler = draw(tmp_path, Asking(think_in=("sw",), think_by="prefill"), style="question")
    assert all(request.messages[-1] == {"role": "assistant", "content": "Kwanza,"} for request in sampler.requests)
    assert set(table["completion"]) == {"Kwanza, 2."}


def test_the_answer_may_be_asked_for_in_another_language(tmp_path):
    table, sampler = draw(tmp_path, Asking(think_in=("de",), answer_in="fr"))
    content = sampler.requests[0].messages[0]["content"]
    assert "La réponse est …." in content and "Die Antwort" not in content and "auf Deutsch" in content
    assert set(table["answer_language"]) == {"fr"}


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_language_written_by_hand_can_be_thought_in_both_ways_and_answered_in(code):
    other = "fr" if code != "fr" else "sw"
    (told,) = messages("2 + 3 = ?", code, answer_language=other)
    assert LANGUAGES[other].answer_line.format(answer="…") in told["content"]
    assert LANGUAGES[code].answer_line.format(answer="…") not in told["content"]
    opening = Asking(think_by="prefill").opening(code)
    assert opening and messages("2 + 3 = ?", code, "question", opening=opening)[-1]["content"] == opening


def test_few_shot_prompts_show_solutions_in_the_language_of_the_thinking(tmp_path):
    _, sampler = draw(
        tmp_path, Asking(think_in=("de",), think_by="prefill"), table=problems(1, ("en",)), style="few_shot"
    )
    shown, begun = sampler.requests[0].messages
    assert "Die Antwort lautet 7." in shown["content"] and begun["content"].endswith("Schritt: Zuerst")
    assert sampler.requests[0].stop == ("Aufgabe:",)


@pytest.mark.parametrize(
    ("asking", "style", "message"),
    [
        ({"think_in": ("de",)}, "question", r"cannot ask for think_in; use style='native', or think_by='prefill'"),
        ({"question_language": "en"}, "question", r"cannot ask for question_language; use style='native'"),
        ({"answer_in": "en", "think_by": "prefill"}, "question", r"cannot ask for answer_in; use style='native'$"),
        ({"think_in": ("yo",), "think_by": "prefill"}, "native", r"Yoruba \(yo\) has no first word .*language_file"),
        ({"think_in": ("de",), "question_language": "en"}, "native", r"think_in=\['de'\] sets them a second time"),
        ({"think_in": ("de", "de")}, "native", "names a language twice"),
        ({"think_in": ("xx",)}, "native", "unknown language 'xx'"),
        ({"think_by": "force"}, "native", "unknown think_by 'force'; use one of: instruction, prefill"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused_before_anything_is_drawn(tmp_path, asking, style, message):
    with pytest.raises(ValueError, match=message):
        draw(tmp_path, Asking(**asking), style=style)
    assert not list(tmp_path.rglob("*.parquet"))


@pytest.mark.parametrize("style", STYLES)
def test_a_forecast_counts_what_is_drawn(tmp_path, style):
    asking, store = Asking(think_in=("de", "sw"), think_by="prefill"), Store(tmp_path)
    how = {"style": style, "asking": asking}
    before = forecast(problems(2), store, SeedWriter(), 3, Sampling(), **how)
    table = generate(problems(2), store, SeedWriter(), 3, Sampling(), progress=False, **how)
    after = forecast(problems(2), store, SeedWriter(), 3, Sampling(), **how)
    assert (before.wanted, before.held, after.held) == (len(table), 0, len(table))


def test_shards_and_lists_of_an_earlier_version_are_read_with_the_axes_unknown(tmp_path):
    drawn, _ = draw(tmp_path, Asking())
    (path,) = Store(tmp_path).shards()
    buffer = io.BytesIO()
    pl.read_parquet(path).drop(AXES).write_parquet(buffer)
    path.unlink()
    (tmp_path / f"000000-{content_digest(buffer.getvalue())}.parquet").write_bytes(buffer.getvalue())
    table = Store(tmp_path).candidates()
    assert table.drop(AXES).equals(drawn.drop(AXES)) and all(table[name].null_count() == len(table) for name in AXES)
    scanned = Store(tmp_path).scan().collect()
    assert scanned.sort("problem_id", "language", "sample_index").select(table.columns).equals(table)


WORDED = problems(2).with_columns(split=pl.lit("test"))


def test_other_wordings_are_conditions_of_english_and_leave_the_usual_candidates_as_they_are(tmp_path):
    store, sampler = Store(tmp_path), Listener()
    plain = generate(WORDED, store, sampler, 2, progress=False)
    assert len(plain) == len(sampler.asked) == 8 and plain["condition"].null_count() == 8
    both = generate(WORDED, store, sampler, 2, asking=Asking(wordings=3), progress=False)
    assert len(sampler.asked) == 8 + 2 * 2 * 2, "only English is asked in other words, and nothing is drawn twice"
    english = both.filter(pl.col("condition").is_not_null())
    assert set(english["language"]) == {"en"} and set(english["condition"]) == {"wording 2", "wording 3"}
    asked = {request.messages[-1]["content"].split("\n\n")[0] for request in sampler.requests}
    assert asked == set(LANGUAGES["en"].wordings[:2]), "the last call asked in the other words alone"
    assert both.filter(pl.col("condition").is_null()).equals(plain)
    assert generate(WORDED, store, sampler, 2, progress=False).equals(plain), "and a call without them has none"


def test_other_wordings_are_counted_in_a_forecast_and_asked_of_test_problems_alone(tmp_path):
    trained = WORDED.with_columns(split=pl.when(pl.col("problem_id") == "p0").then(pl.lit("train")).otherwise("split"))
    for table, wanted in ((WORDED, 8 + 3 * 4), (trained, 8 + 3 * 2)):
        found = forecast(table, Store(tmp_path), SeedWriter(), 2, Sampling(), asking=Asking(wordings=4))
        assert found.wanted == wanted


@pytest.mark.parametrize(
    ("wordings", "languages", "style", "told"),
    [
        (9, ("en",), "native", "wordings=9 exceeds the 8 wordings .* English.*language_file"),
        (2, ("sw", "de"), "native", "none of de, sw .*add English"),
        (2, ("en",), "question", "use style='native'"),
        (2, ("en",), "few_shot", "use style='native'"),
    ],
)
def test_wordings_that_are_not_there_are_refused_with_a_remedy(tmp_path, wordings, languages, style, told):
    with pytest.raises(ValueError, match=told):
        draw(tmp_path, Asking(wordings=wordings), table=problems(2, languages).with_columns(split=pl.lit("test")), style=style)  # fmt: skip
    with pytest.raises(ValueError, match="use 1 or more"):
        Asking(wordings=0)


def test_every_wording_quotes_its_languages_answer_line_once_and_differs_from_the_others():
    for record in LANGUAGES.values():
        quoted = record.answer_line.format(answer="…")
        assert all(text.count(quoted) == 1 for text in record.wordings), record.code
        assert len({record.instruction, *record.wordings}) == len(record.wordings) + 1
