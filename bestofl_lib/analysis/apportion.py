"""Whole completions of a budget to languages: equally, in proportion, or after one of them was changed by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def apportion(
    budget: int, languages: Sequence[str], most: Mapping[str, int], weights: Mapping[str, float] | None = None
) -> dict[str, int]:
    """Divide a budget over languages in proportion to weights (default: equally), in whole completions, at most as many
    as each language has.

    Where the budget does not divide, the languages with the largest remainder get one more, the earlier first.

    >>> apportion(5, ["en", "sw"], {"en": 16, "sw": 16})
    {'en': 3, 'sw': 2}
    """
    share = {code: 0 for code in languages}
    left = min(budget, sum(most[code] for code in languages))
    weight = {code: 1.0 if weights is None else max(float(weights.get(code, 0.0)), 0.0) for code in languages}
    while left > 0:
        open_ = [code for code in languages if share[code] < most[code]]
        total = sum(weight[code] for code in open_)
        if total == 0:
            weight, total = dict.fromkeys(languages, 1.0), float(len(open_))
        wanted = {code: left * weight[code] / total for code in open_}
        given = {code: min(int(wanted[code] + 1e-9), most[code] - share[code]) for code in open_}
        if not any(given.values()):
            ranked = sorted(open_, key=lambda code: -(wanted[code] - int(wanted[code] + 1e-9)))
            given = {code: 1 for code in ranked[:left]}
        for code, more in given.items():
            share[code] += more
        left -= sum(given.values())
    return share


def rebalance(allocation: Mapping[str, int], code: str, value: int, most: Mapping[str, int]) -> dict[str, int]:
    """The allocation after one slider was moved: the others change in proportion, so that the sum stays the same.

    >>> rebalance({"en": 4, "sw": 2, "th": 2}, "en", 6, {"en": 16, "sw": 16, "th": 16})
    {'en': 6, 'sw': 1, 'th': 1}
    """
    budget = sum(allocation.values())
    others = [other for other in allocation if other != code]
    room = sum(most[other] for other in others)
    value = max(min(value, most[code], budget), budget - room, 0)
    rest = apportion(budget - value, others, most, {other: allocation[other] for other in others})
    return {other: value if other == code else rest[other] for other in allocation}
