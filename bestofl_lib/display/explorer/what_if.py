"""What the explorer shows of one setting: the figures of `analysis/what_if`, with their names."""

from __future__ import annotations

from typing import Any

from bestofl_lib.analysis.what_if import Numbers, Setting, what_if
from bestofl_lib.display import words
from bestofl_lib.languages import english_name


def what_if_view(numbers: Numbers, setting: Setting) -> dict[str, Any]:
    """JSON of `what_if`, its lines named.

    Raises:
        ValueError: the run cannot answer this setting; says why.
    """
    found = what_if(numbers, setting)
    lines = [line | {"name": _line(place, line["languages"])} for place, line in enumerate(found["lines"])]
    return found | {"lines": lines}


def _line(place: int, codes: list[str]) -> str:
    return f"equal shares, {words.count_languages(codes)}" if place == 0 else f"{english_name(codes[0])} only"
