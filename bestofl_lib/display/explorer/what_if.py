"""What the explorer shows of one setting: the figures of `analysis/what_if`, with their names."""

from __future__ import annotations

from typing import Any

from bestofl_lib.analysis.what_if import Numbers, Setting, settings_difference, what_if
from bestofl_lib.display import words
from bestofl_lib.languages import english_name
from bestofl_lib.text import signed_interval, signed_points


def what_if_view(numbers: Numbers, setting: Setting, kept: Setting | None = None) -> dict[str, Any]:
    """JSON of `what_if`, its lines named; `against` says the difference from a kept setting, where there is another
    one.

    Raises:
        ValueError: the run cannot answer this setting; says why.
    """
    found = what_if(numbers, setting)
    lines = [line | {"name": _line(place, line["languages"])} for place, line in enumerate(found["lines"])]
    against = None
    if kept is not None and kept != setting:
        test = settings_difference(numbers, kept, setting)
        interval = signed_interval(float(test.low), float(test.high))
        against = f"{signed_points(float(test.effect))} {interval} against {describe(kept)}"
    return found | {"lines": lines, "against": against}


def describe(setting: Setting) -> str:
    """A setting in a few words."""
    if setting.allocation is None:
        how = f"equal shares, {words.count_languages(setting.languages)}"
    else:
        how = ", ".join(f"{code} {k}" for code, k in setting.allocation.items() if k)
    moved = ", ".join(f"{code} {offset:+.2f}" for code, offset in setting.offsets.items() if offset)
    return (
        f"{words.strategy(setting.strategy, setting.reward_model)}, {setting.budget} completions "
        f"({how}{'; offsets ' + moved if moved else ''})"
    )


def _line(place: int, codes: list[str]) -> str:
    return f"equal shares, {words.count_languages(codes)}" if place == 0 else f"{english_name(codes[0])} only"
