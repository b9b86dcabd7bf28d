"""Written arithmetic: what counts as an equation, and whether it holds, in any language."""

from __future__ import annotations

import random

import polars as pl
import pytest

from bestofl_lib.answers.columns import read_answers
from bestofl_lib.answers.equations import count_equations, equations

CASES = [  # language, completion, whether each of its equations holds
    ("en", "She has 7 × 4 = 28. Then 77 - 28 = 5.", [True, False]),
    ("en", "16 eggs - 3 eggs - 4 eggs = 9 eggs. 9 * $2 = $18", [True, True]),
    ("en", "16-3-4=<<16-3-4=9>>9", [True]),
    ("en", "(3 + 4) × 2 = 14 and 3 × (4 + 1) = 16", [True, False]),
    ("en", "((3 + 4) × 2 = 14)", [True]),
    ("en", "5 × 3 = 15 + 2 = 17", [True, True]),
    ("en", "1/4 * 6000 = 1500\n\n1/3 * 6000 = 2000\n7 - 5 = 2", [True, True, True]),  # 1500 and 1/3 are two numbers
    ("en", "5 × 3 = 16 + 2 = 18", [False, True]),
    ("en", "10 / 3 = 3.33; 10/3=3; 56 ÷ 5 = 11; 2 / 3 = 0.67", [True, False, False, True]),
    ("en", r"\(3 \times 4 = 12\) and $5 \div 2 = 2.5$ and \frac{1}{2} × 10 = 5", [True, True, True]),
    ("en", "77 -28 = 49; −5 + 3 = −2", [True, True]),
    ("en", "5 / 0 = 3", []),
    ("en", "x = 5; 5 = 5; 2x + 3 = 11; a == 3 + 4 == 7; 3 >= 2 + 9", []),
    ("en", "25% of 80 = 20; 80 × 25% = 20; 2^3 = 8", []),
    ("de", "12 : 3 = 4. Tag 2: 3 + 4 = 7. Montag : 3 + 4 = 8", [True, True, False]),
    ("de", "Tag 2 : 3 + 4 = 7", [True]),
    ("de", "1.400 × 3 = 4.200", [True]),
    ("fr", "1 400 − 400 = 1 000", [True]),
    ("bn", "১৪ + ২ = ১৬, ১৪ - ২ = ১৬", [True, False]),
    ("th", "ที่เหลือ: 21 - 7 = 14 เม็ด เด็กแต่ละคนได้ 14 ÷ 2 = 8 เม็ด", [True, False]),
    ("th", "21 ÷ 3 = 7 เม็ด ที่เหลือ: 21 - 7 = 14", [True, True]),
    ("zh", "3个 × 4元＝12元。５×４＝２１", [True, False]),
    ("ja", "札：5 × 12 = 60。合わせて：60 + 26 = 86", [True, True]),
]


@pytest.mark.parametrize(("code", "completion", "wanted"), CASES)
def test_an_equation_holds_or_not_whatever_the_language(code, completion, wanted):
    assert equations(completion, code) == wanted


def test_counts_follow_the_rows_and_a_missing_completion_has_none():
    texts = pl.Series(["2 + 2 = 4. 3 + 3 = 7", None, "no sum", "2 + 2 = 4. 3 + 3 = 7"])
    found = count_equations(texts, pl.Series(["en"] * 4))
    assert found.rows() == [(2, 1), (None, None), (0, 0), (2, 1)]


NUMBERS = [
    "3",
    "12",
    "12",
    "5",
    "1,000",
    "2.50",
    "1/2",
    "10",
    "0",
    "888",
    "-4",
    "$5",
    "x2",
    "2x",
    "5%",
    "10^{3}",
    "3万",
]
OPERATIONS = ["", " + ", " − ", " × ", " \\times ", "·", " / ", " ÷ ", " : ", "-", " (", ") - "]
UNITS = [
    "",
    "",
    "",
    "",
    " apples",
    " million",
    ": ",
    " of all that there are",
    " \\text{ m2}",
    " \\text{ pears, ripe}",
    "  ",
]
ENDS = [
    " or ",
    "\n\n",
    ". ",
    ", ",
    "!",
    "\\) \\(",
    "? Tag 2 : ",
    "\\frac{1}{2}",
    "\\frac{6, }{3}",
    "½",
    "\\text{U.S. dollars}",
]


def written_at_random(seed: int, ends: list[str]) -> str:
    """Chains of numbers, units, operators and equals signs; most are false."""
    rng = random.Random(seed)
    written = []
    for _ in range(rng.randint(1, 3)):
        for _ in range(rng.randint(2, 3)):
            written += [rng.choice(NUMBERS), rng.choice(UNITS), rng.choice(OPERATIONS)]
        written += [
            rng.choice(NUMBERS),
            rng.choice(UNITS),
            " = ",
            rng.choice(NUMBERS),
            rng.choice(UNITS),
            rng.choice(ends),
        ]
    return "".join(written)


def test_digits_read_by_themselves_make_the_equations_of_numbers_read_in_their_context():
    found = 0
    for seed in range(2_000):
        text = written_at_random(seed, [" or ", "\n\n", "\\,", "3 "])
        known = equations(text, "de")
        assert known == equations(f"overline {text}", "de"), text  # a word that makes them be read in their context
        found += len(known)
    assert found > 500


def test_a_column_has_the_counts_of_its_completions():
    texts = [written_at_random(seed, ENDS) for seed in range(2_000)]
    known = [equations(text, "en") for text in texts]
    counted = count_equations(pl.Series(texts), pl.Series(["en"] * len(texts)))
    assert counted.rows() == [(len(holds), holds.count(False)) for holds in known]
    assert counted["equations"].sum() > 500


def test_readings_carry_the_counts():
    key = {"problem_id": ["p"] * 2, "language": ["en"] * 2, "sample_index": [0, 1]}
    candidates = pl.DataFrame(key | {"completion": ["9 + 9 = 18. The answer is 18.", "9 + 9 = 19. The answer is 19."]})
    problems = pl.DataFrame({"problem_id": ["p"], "language": ["en"], "reference": ["18"]})
    assert read_answers(candidates, problems)["false_equations"].to_list() == [0, 1]


def test_junk_is_looked_at_in_linear_time():
    for junk in (
        "1 = " * 5000,
        "1 + " * 5000 + "= 3",
        "(" * 20000 + "1 + 1 = 2",
        "9" * 20000 + " + 1 = 2",
        "= " * 9000,
    ):
        assert len(equations(junk, "en")) <= 5000
