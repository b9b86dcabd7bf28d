"""Junk made of each language's own words is read in linear time, for every record and for generic ones."""

from __future__ import annotations

import time

import pytest

from bestofl_lib.answers.reading import read_answer
from bestofl_lib.languages import LANGUAGES, language

GENERIC = ("am", "bg", "ro", "yo", "km", "lo", "my", "ka", "hy", "gu")


def words(code: str) -> list[str]:
    """The words of a record that patterns are made of."""
    record = language(code)
    listed = (record.cues, record.headings, record.copulas, record.conclusions, record.either, record.both, record.per)
    listed += (record.halves, record.currencies, record.joins, record.negatives, record.refusals, record.smaller_units)
    pairs = [word for pair in record.ranges for word in pair]
    scaled = [word for word, _ in (*record.scales, *record.leading_scales, *record.number_words, *record.fractions)]
    return [word for group in listed for word in group] + pairs + scaled


def seconds(text: str, code: str) -> float:
    """CPU time of one reading, the best of three."""
    took = []
    for _ in range(3):
        start = time.process_time()
        read_answer(text, code)
        took.append(time.process_time() - start)
    return min(took)


@pytest.mark.slow
@pytest.mark.parametrize("code", [*LANGUAGES, *GENERIC])
def test_eight_times_a_languages_own_words_take_about_eight_times_the_time(code: str) -> None:
    known = words(code) or ["answer", "####"]
    for unit in (" ".join(known) + " ", "".join(known), " 3 ".join(known) + " 3 ", "\\boxed{" + " ".join(known)):
        short = unit * (4_000 // len(unit) + 1)
        once = seconds(short, code)
        assert seconds(short * 8, code) < max(24 * once, 0.05), unit[:60]
