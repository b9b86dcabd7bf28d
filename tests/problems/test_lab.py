"""The lab's problems: parallel, correct, disjoint and drawn from a seed."""

from __future__ import annotations

import hashlib
import itertools
import re
import string
from fractions import Fraction

import polars as pl
import pytest

from bestofl_lib.languages import language
from bestofl_lib.problems import lab

CODES = lab.languages()
TABLE = lab.problems(CODES)
SAMPLE = list(itertools.islice(lab.policy_problems(), 400))
MARKS = {"de": ".", "es": ".", "fr": "\u202f", "ru": "\u00a0"}  # thousands; a comma elsewhere


def stated(text: str) -> set[str]:
    return {field for _, field, _, _ in string.Formatter().parse(text) if field}


@pytest.mark.parametrize("code", CODES)
def test_every_language_asks_with_the_same_numbers_and_people(code):
    english, other = lab.words("en"), lab.words(code)
    assert set(other) == set(english)
    for name in lab.TEMPLATES:
        assert stated(other[name]["question"]) == stated(english[name]["question"]), name
        assert stated(other[name]["question"]) - {"f", "m", "f2", "m2"} == set(lab.TEMPLATES[name].ranges), name


@pytest.mark.parametrize("code", CODES)
def test_every_equation_of_a_solution_is_true_and_the_last_result_is_the_answer(code):
    equations = re.compile(r"(\d+(?: [×+÷-] \d+)+) = (\d+)")
    for problem in SAMPLE:
        _, solution = lab.tell(problem, code)
        plain = re.sub(rf"(?<=\d){re.escape(MARKS.get(code, ','))}(?=\d{{3}})", "", solution)
        found = equations.findall(plain)
        assert len(found) == len(lab.TEMPLATES[problem.template].steps(**stated_numbers(problem))), (problem, solution)
        for left, right in found:
            value = eval(
                re.sub(r"(\d+)", r"Fraction(\1)", left.replace("×", "*").replace("÷", "/")), {"Fraction": Fraction}
            )
            assert value == int(right), solution
        assert int(found[-1][1]) == problem.answer


def stated_numbers(problem: lab.Problem) -> dict[str, int]:
    return {key: value for key, value in problem.numbers if key in lab.TEMPLATES[problem.template].ranges}


@pytest.mark.parametrize("code", CODES)
def test_a_solution_ends_in_the_answer_line_of_its_language(code):
    before, after = language(code).answer_line.split("{answer}")
    for problem in SAMPLE[:50]:
        last = lab.tell(problem, code)[1].splitlines()[-1]
        assert last.startswith(before) and last.endswith(after)


@pytest.mark.parametrize("code", CODES)
def test_names_are_six_of_each_gender_and_no_text_is_left_in_english(code):
    names = lab.words(code)["names"]
    assert len(set(names["f"])) == len(set(names["m"])) == lab.NAMES
    if code != "en":
        english = lab.words("en")
        same = [name for name in lab.TEMPLATES if lab.words(code)[name]["question"] == english[name]["question"]]
        assert not same


def test_there_are_at_least_thirty_templates_of_two_to_four_steps():
    assert len(lab.TEMPLATES) >= 30
    steps = {len(t.steps(**{k: 12 for k in t.ranges})) for t in lab.TEMPLATES.values()}
    assert steps == {2, 3, 4}


def test_splits_have_their_sizes_and_share_no_problem_with_each_other_or_the_policy():
    made = lab.splits()
    assert {name: len(problems) for name, problems in made.items()} == {"test": 250, "dev": 250, "train": 1000}
    keys = [(p.template, p.numbers) for problems in made.values() for p in problems]
    assert len(set(keys)) == len(keys)
    policy = {(p.template, p.numbers) for p in itertools.islice(lab.policy_problems(), 20_000)}
    assert len(policy) > 5_000
    assert not policy & set(keys)


def test_references_are_equal_in_all_languages_and_every_problem_is_in_every_language():
    table = TABLE
    assert len(table) == 1500 * 11
    per_problem = table.group_by("problem_id").agg(
        languages=pl.col("language").n_unique(), references=pl.col("reference").n_unique()
    )
    assert set(per_problem["languages"]) == {11}
    assert set(per_problem["references"]) == {1}


def test_the_same_seed_draws_the_same_problems_on_every_machine():
    text = "\n".join(f"{q}\t{r}" for q, r in TABLE.select("question", "reference").iter_rows())
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == DIGEST
    assert lab.splits(seed=1) != lab.splits(seed=2)


def test_russian_nouns_follow_their_numbers():
    assert lab.sorted_plurals("ru") == ("one", "few", "many")
    number = lab._Number(22)
    number.locale = "ru"
    assert f"{number} {number:яблоко|яблока|яблок}" == "22 яблока"


def test_an_unknown_language_is_refused_with_its_likely_meaning():
    with pytest.raises(ValueError, match="did you mean 'sw'"):
        lab.problems(["swa"])


DIGEST = "25ede116c8fe324e"
