"""The lab: grade-school word problems written for this project, parallel in all its languages.

The numbers and steps of each template are here, the words in `data/lab/templates/<language>.toml`, one file per
language, each written natively. A problem is a template, its numbers and its names; every language tells the same
problem, so references agree by construction. Everything is drawn from a seed and is the same on every machine. This
file knows nothing of models; the policy trained on its `policy` split is made by `data/lab/make_policy.py`.
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import polars as pl
from babel import Locale
from babel.numbers import format_decimal

from bestofl_lib.files import ROOT
from bestofl_lib.languages import check_languages, in_order, language
from bestofl_lib.problems.folds import check_disjoint, question_hashes
from bestofl_lib.tables import check_table

FOLDER = ROOT / "data" / "lab"
SEED = 2509_15811
SPLITS = {"test": 250, "dev": 250, "train": 1000}  # drawn in this order; the policy's own problems come after them
NAMES = 6  # names of each gender in every language's file


@dataclass(frozen=True)
class Template:
    """The numbers of one kind of problem."""

    ranges: dict[str, range]  # what the question states
    steps: Callable[..., dict[str, float]]  # intermediate results in order; the last is the answer


TEMPLATES: dict[str, Template] = {
    "bakery": Template(
        {"a": range(3, 10), "b": range(4, 13), "c": range(5, 40)},
        lambda a, b, c: {"x": a * b, "y": a * b - c},
    ),
    "bus": Template(
        {"a": range(14, 50), "b": range(3, 13), "c": range(2, 13), "d": range(2, 10)},
        lambda a, b, c, d: {"x": a - b, "y": a - b + c, "z": a - b + c + d},
    ),
    "pencils": Template(
        {"a": range(3, 9), "b": range(6, 13), "c": range(2, 6), "d": range(3, 8)},
        lambda a, b, c, d: {"x": a * b, "y": c * d, "z": a * b - c * d},
    ),
    "savings": Template(
        {"a": range(3, 13), "b": range(3, 10), "c": range(11, 60)},
        lambda a, b, c: {"x": a * b, "y": a * b + c},
    ),
    "pages": Template(
        {"a": range(6, 30), "b": range(10, 45)},
        lambda a, b: {"x": 5 * a, "y": 2 * b, "z": 5 * a + 2 * b},
    ),
    "hens": Template(
        {"a": range(6, 13), "b": range(3, 9), "c": range(3, 15), "d": range(3, 7)},
        lambda a, b, c, d: {"x": a * b, "y": a * b - c, "z": (a * b - c) / d},
    ),
    "marbles": Template(
        {"a": range(4, 26), "b": range(3, 8)},
        lambda a, b: {"x": a * b, "y": a + a * b},
    ),
    "ages": Template(
        {"a": range(5, 13), "b": range(2, 9), "c": range(3, 6)},
        lambda a, b, c: {"x": a + b, "y": (a + b) * c},
    ),
    "change": Template(
        {"a": range(2, 7), "b": range(3, 9), "c": range(2, 7), "d": range(2, 8)},
        lambda a, b, c, d: {"x": a * b, "y": c * d, "z": a * b + c * d, "w": 100 - a * b - c * d},
    ),
    "garden": Template(
        {"a": range(3, 10), "b": range(5, 13), "c": range(2, 9), "d": range(4, 12)},
        lambda a, b, c, d: {"x": a * b, "y": c * d, "z": a * b + c * d},
    ),
    "running": Template(
        {"a": range(4, 19), "b": range(2, 10)},
        lambda a, b: {"x": 2 * a, "y": 2 * a - b, "z": a + 2 * a + 2 * a - b},
    ),
    "stickers": Template(
        {"a": range(15, 60), "b": range(6, 40), "c": range(3, 10)},
        lambda a, b, c: {"x": a + b, "y": (a + b) / c},
    ),
    "classroom": Template(
        {"a": range(4, 10), "b": range(3, 7), "c": range(2, 8), "d": range(2, 6)},
        lambda a, b, c, d: {"x": a * b, "y": a * b - c, "z": (a * b - c) * d},
    ),
    "apples": Template(
        {"a": range(12, 80, 2), "b": range(2, 12)},
        lambda a, b: {"x": a / 2, "y": a / 2 - b},
    ),
    "cinema": Template(
        {"a": range(2, 7), "b": range(8, 21, 2), "c": range(2, 8)},
        lambda a, b, c: {"x": b / 2, "y": a * b, "z": c * b / 2, "w": a * b + c * b / 2},
    ),
    "tank": Template(
        {"a": range(60, 200, 5), "b": range(10, 58), "c": range(3, 10)},
        lambda a, b, c: {"x": a - b, "y": (a - b) / c},
    ),
    "sweets": Template(
        {"a": range(18, 100, 3), "b": range(2, 8)},
        lambda a, b: {"x": a / 3, "y": a - a / 3, "z": (a - a / 3) / b},
    ),
    "wages": Template(
        {"a": range(8, 21), "b": range(4, 9), "c": range(2, 7)},
        lambda a, b, c: {"x": b * c, "y": a * b * c},
    ),
    "salary": Template(
        {"a": range(1500, 3200, 100), "b": range(400, 900, 100), "c": range(200, 700, 100), "d": range(2, 7)},
        lambda a, b, c, d: {"x": a - b, "y": a - b - c, "z": (a - b - c) * d},
    ),
    "train": Template(
        {"a": range(4, 10), "b": range(20, 80, 10), "c": range(11, 60)},
        lambda a, b, c: {"x": a * b, "y": a * b - c},
    ),
    "fence": Template(
        {"a": range(15, 80), "b": range(8, 45)},
        lambda a, b: {"x": a + b, "y": 2 * (a + b)},
    ),
    "tiles": Template(
        {"a": range(3, 10), "b": range(3, 8), "c": range(5, 16)},
        lambda a, b, c: {"x": a * b, "y": a * b * c},
    ),
    "goals": Template(
        {"a": range(3, 20), "b": range(2, 12)},
        lambda a, b: {"x": a + b, "y": a + a + b, "z": 3 * (a + a + b)},
    ),
    "cakes": Template(
        {"a": range(3, 9), "b": range(6, 13), "c": range(4, 26)},
        lambda a, b, c: {"x": a * b, "y": 2 * c, "z": a * b - 2 * c},
    ),
    "phone": Template(
        {"a": range(300, 1000, 20), "b": range(60, 300, 20), "c": range(4, 11)},
        lambda a, b, c: {"x": a - b, "y": (a - b) / c},
    ),
    "library": Template(
        {"a": range(4, 10), "b": range(20, 60, 5), "c": range(12, 70), "d": range(5, 40)},
        lambda a, b, c, d: {"x": a * b, "y": a * b - c, "z": a * b - c + d},
    ),
    "water": Template(
        {"a": range(4, 13), "b": range(150, 350, 50), "c": range(2, 8)},
        lambda a, b, c: {"x": a * b, "y": a * b * c},
    ),
    "legs": Template(
        {"a": range(3, 30), "b": range(4, 40)},
        lambda a, b: {"x": 4 * a, "y": 2 * b, "z": 4 * a + 2 * b},
    ),
    "cycling": Template(
        {"a": range(12, 25), "b": range(2, 5), "c": range(8, 16), "d": range(2, 5)},
        lambda a, b, c, d: {"x": a * b, "y": c * d, "z": a * b + c * d},
    ),
    "coins": Template(
        {"a": range(4, 15), "b": range(3, 15), "c": range(9, 40)},
        lambda a, b, c: {"x": 5 * a, "y": 2 * b, "z": 5 * a + 2 * b, "w": 5 * a + 2 * b - c},
    ),
    "exercises": Template(
        {"a": range(40, 120), "b": range(3, 12), "c": range(3, 9)},
        lambda a, b, c: {"x": b * c, "y": a - b * c},
    ),
    "bouquets": Template(
        {"a": range(12, 50), "b": range(10, 40), "c": range(5, 10), "d": range(6, 16)},
        lambda a, b, c, d: {"x": a + b, "y": (a + b) / c, "z": (a + b) / c * d},
    ),
    "sharing": Template(
        {"a": range(12, 60), "b": range(4, 40, 2)},
        lambda a, b: {"x": a + b, "y": a + a + b, "z": (a + a + b) / 2},
    ),
    "discount": Template(
        {"a": range(20, 160, 4), "b": range(6, 40)},
        lambda a, b: {"x": a / 4, "y": a - a / 4, "z": a - a / 4 + b},
    ),
    "painting": Template(
        {"a": range(3, 13), "b": range(3, 7), "c": range(7, 20)},
        lambda a, b, c: {"x": a * b, "y": a * b / 3, "z": a * b / 3 * c},
    ),
    "potatoes": Template(
        {"a": range(12, 40), "b": range(5, 30), "c": range(4, 13)},
        lambda a, b, c: {"x": a - b, "y": (a - b) * c},
    ),
}


@dataclass(frozen=True)
class Problem:
    """One problem, in no language yet."""

    template: str
    numbers: tuple[tuple[str, int], ...]  # stated numbers and results, by name
    answer: int
    names: tuple[int, int]  # which of each language's names stand for its first and second person


class _Number(int):
    """A number inside a template: `{a}` writes it in the language's style, `{a:pear|pears}` the noun's plural form."""

    locale: str

    def __format__(self, forms: str) -> str:
        if not forms:
            return _decimal(int(self), self.locale)
        choices = dict(zip(sorted_plurals(self.locale), forms.split("|"), strict=True))
        return choices[Locale.parse(self.locale).plural_form(int(self))]


@cache
def _decimal(value: int, locale: str) -> str:
    return format_decimal(value, locale=locale, numbering_system="latn")


@cache
def sorted_plurals(locale: str) -> tuple[str, ...]:
    """The locale's plural categories of whole numbers, in CLDR's order (ru: one, few, many; en: one, other)."""
    rule = Locale.parse(locale).plural_form
    present = {rule(n) for n in range(1, 200)}
    return tuple(name for name in ("zero", "one", "two", "few", "many", "other") if name in present)


def languages() -> list[str]:
    """The languages that the lab has texts in."""
    return in_order(path.stem for path in (FOLDER / "templates").glob("*.toml"))


@cache
def words(code: str) -> dict[str, dict[str, Any]]:
    """The lab's texts in one language: `names` and, per template, `question` and `solution`.

    Raises:
        ValueError: naming the templates that the language's file lacks or has beyond the numbers in this module.
    """
    path = FOLDER / "templates" / f"{language(code).code}.toml"
    if not path.exists():
        raise ValueError(f"the lab has no texts in {language(code).name}; write {path.relative_to(ROOT)}")
    content = tomllib.loads(path.read_text("utf8"))
    odd = set(content) ^ ({"names"} | set(TEMPLATES))
    if odd:
        raise ValueError(f"{path.relative_to(ROOT)} and lab.py disagree about: {', '.join(sorted(odd))}")
    return content


def tell(problem: Problem, code: str) -> tuple[str, str]:
    """A problem in one language: its question and its worked solution, which ends in the language's answer line."""
    texts, names = words(code)[problem.template], words(code)["names"]
    fields: dict[str, object] = {}
    for gender in ("f", "m"):
        fields[gender] = names[gender][problem.names[0]]
        fields[gender + "2"] = names[gender][problem.names[1]]
    for key, value in problem.numbers:
        number = _Number(value)
        number.locale = code
        fields[key] = number
    last = language(code).answer_line.format(answer=_decimal(problem.answer, code))
    solution = texts["solution"].strip().format(**fields) + "\n" + last
    return texts["question"].strip().format(**fields), solution


def random_problem(rng: random.Random) -> Problem:
    """One problem at random; every result in it is whole and at least 2."""
    name, template = rng.choice(list(TEMPLATES.items()))
    while True:
        stated = {key: rng.choice(values) for key, values in template.ranges.items()}
        steps = template.steps(**stated)
        if all(value == int(value) and value >= 2 for value in steps.values()):
            break
    numbers = tuple((stated | {key: int(value) for key, value in steps.items()}).items())
    first, second = rng.sample(range(NAMES), 2)
    return Problem(name, numbers, int(list(steps.values())[-1]), (first, second))


def splits(seed: int = SEED) -> dict[str, list[Problem]]:
    """The test, dev and reward-training problems; no two of them share template and numbers."""
    rng, seen = random.Random(seed), set()
    made: dict[str, list[Problem]] = {}
    for split, size in SPLITS.items():
        made[split] = []
        while len(made[split]) < size:
            problem = random_problem(rng)
            if (problem.template, problem.numbers) not in seen:
                seen.add((problem.template, problem.numbers))
                made[split].append(problem)
    return made


def policy_problems(seed: int = SEED) -> Iterator[Problem]:
    """Problems to train a policy on, without end; none shares template and numbers with any other split."""
    held_out = {(p.template, p.numbers) for problems in splits(seed).values() for p in problems}
    rng = random.Random(f"policy {seed}")
    while True:
        problem = random_problem(rng)
        if (problem.template, problem.numbers) not in held_out:
            yield problem


def more_training_problems(n: int, seed: int = SEED) -> list[Problem]:
    """n training problems from the lab's templates; no two of them, and none of them and of any split, share template
    and numbers. The first so many are the same whatever n is.

    Raises:
        ValueError: n below 1, or more than the templates give.
    """
    if n < 1:
        raise ValueError(f"lab-train:{n}: give the number of training problems, such as lab-train:5000")
    seen = {(p.template, p.numbers) for made in splits(seed).values() for p in made}
    rng, found, missed = random.Random(f"more {seed}"), list[Problem](), 0
    while len(found) < n:
        problem = random_problem(rng)
        if (problem.template, problem.numbers) in seen:
            missed += 1
            if missed > 1_000:
                raise ValueError(
                    f"lab-train:{n}: the lab's templates give no more than {len(found):,} training problems"
                )
            continue
        missed = 0
        seen.add((problem.template, problem.numbers))
        found.append(problem)
    return found


def problems(languages: Iterable[str], seed: int = SEED, more: int = 0) -> pl.DataFrame:
    """The problems table of the lab's train, dev and test splits.

    One row per problem and language; `problem_id` is `lab-<split>-<number>`.

    Args:
        languages: those the lab has texts in.
        seed: of all that is drawn.
        more: take so many of `more_training_problems` as the train split, under `lab-more-<number>`; 0: the lab's own.

    Raises:
        ValueError: a training question reads like one of dev or test in some language.
    """
    codes = check_languages(languages)
    made = {split: [(f"lab-{split}-{i:04d}", p) for i, p in enumerate(drawn)] for split, drawn in splits(seed).items()}
    if more:
        made["train"] = [(f"lab-more-{i:06d}", p) for i, p in enumerate(more_training_problems(more, seed))]
    rows = [
        {
            "problem_id": name,
            "language": code,
            "split": split,
            "question": tell(problem, code)[0],
            "reference": str(problem.answer),
            "is_revised": False,
        }
        for split, drawn in made.items()
        for name, problem in drawn
        for code in codes
    ]
    table = check_table("problems", pl.DataFrame(rows))
    if more:
        train, held_out = table.filter(split="train"), table.filter(pl.col("split") != "train")
        check_disjoint(train["problem_id"].unique(), question_hashes(train), held_out, f"lab-train:{more}")
    return table
