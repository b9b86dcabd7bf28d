"""The state of the explorer: what is chosen, and how one change leads to the next state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import yaml

from bestofl_lib.analysis.apportion import apportion, rebalance
from bestofl_lib.analysis.run_scan import SORTS, Source
from bestofl_lib.analysis.what_if import Setting
from bestofl_lib.display.words import STRATEGIES


@dataclass(frozen=True)
class State:
    """What is chosen in the explorer."""

    sort: str  # one of SORTS
    filters: tuple[str, ...]  # some of FILTERS
    page: int  # of the atlas
    problem: str | None
    show: str  # language to bring into view when a problem opens; empty: the first
    tab: str  # "problem" or "what_if"
    seed: int  # of the draw shown in the problem view
    strategy: str
    reward_model: str | None
    languages: tuple[str, ...]  # that the budget is spread over
    budget: int
    allocation: dict[str, int] | None  # None: equal shares
    offsets: dict[str, float]
    kept: Setting | None = None  # the setting that others are compared with


def first_state(source: Source, most: Mapping[str, int]) -> State:
    """What is shown first: the hardest problems, eight completions in equal shares over all languages."""
    languages = tuple(code for code in source.languages if most[code])
    models = source.reward_models
    equal = len(languages) * min((most[code] for code in languages), default=0)
    return State(
        "difficulty",
        (),
        0,
        None,
        "",
        "problem",
        0,
        "best_of_k" if models else "majority",
        models[0] if models else None,
        languages,
        max(1, min(8, equal)),
        None,
        {},
    )


def restored(old: State | None, first: State, source: Source, most: Mapping[str, int]) -> State:
    """The last choices, as far as the run still has what they name; `first` if there are none."""
    if old is None:
        return first
    usable = all(most.get(code) for code in old.languages) and (old.reward_model is None) == (
        first.reward_model is None
    )
    known = old.reward_model is None or old.reward_model in source.reward_models
    enough = old.budget <= sum(most.get(code, 0) for code in old.languages)
    if not (usable and known and enough):
        return first
    problem = old.problem if old.problem in set(source.cells["problem_id"]) else None
    return replace(old, problem=problem)


def next_state(state: State, change: Mapping[str, Any], source: Source, most: Mapping[str, int]) -> State:
    """The choices after one change.

    Args:
        change: one of `sort`, `filters`, `page`, `tab`, `seed`, `strategy`, `reward_model`, `budget` with its new
            value; `problem: [id, language]`; `language: [code, on]`; `slider: [code, completions]`; `offset: [code,
            value]`; `offsets: {}`; `equal: True`; `keep: True` keeps the setting to compare others with, `keep: False`
            forgets it.

    Raises:
        ValueError: naming a change that does not exist, or a value that this run does not have.
    """
    for name, value in change.items():
        state = _changed(state, name, value, source, most)
    return state


def _changed(state: State, name: str, value: Any, source: Source, most: Mapping[str, int]) -> State:
    allowed: dict[str, Iterable[str]] = {
        "sort": SORTS, "strategy": STRATEGIES, "tab": ("problem", "what_if"), "reward_model": source.reward_models,
    }  # fmt: skip
    if name in allowed:
        if value not in allowed[name]:
            raise ValueError(f"{name} {value!r} is not available; choose one of {', '.join(allowed[name])}")
        return replace(state, page=0 if name == "sort" else state.page, **{name: value})
    if name == "filters":
        return replace(state, filters=tuple(value), page=0)
    if name == "page":
        return replace(state, page=max(int(value), 0))
    if name == "seed":
        return replace(state, seed=max(int(value), 0))
    if name == "problem":
        problem, code = value
        return replace(state, problem=problem, show=code, tab="problem")
    if name == "offsets":
        return replace(state, offsets={code: float(offset) for code, offset in value.items()})
    if name == "offset":
        code, offset = value
        return replace(state, offsets={c: o for c, o in (state.offsets | {code: float(offset)}).items() if o})
    if name == "keep":
        return replace(state, kept=setting_of(state) if value else None)
    if name == "equal":
        return _within(replace(state, allocation=None), most)
    if name == "budget":
        total = sum(most[code] for code in state.languages)
        budget = max(1, min(int(value), total))
        allocation = None if state.allocation is None else apportion(budget, state.languages, most, state.allocation)
        return _within(replace(state, budget=budget, allocation=allocation), most)
    if name == "language":
        code, on = value
        languages = tuple(c for c in source.languages if most[c] and (on if c == code else c in state.languages))
        if not languages:
            return state  # the last language stays
        budget = min(state.budget, sum(most[c] for c in languages))
        allocation = None
        if state.allocation is not None:
            kept = {c: float(state.allocation.get(c, 0)) for c in languages}
            if on:
                kept[code] = max(kept[code], budget / len(languages))
            allocation = apportion(budget, languages, most, kept)
        return _within(replace(state, languages=languages, budget=budget, allocation=allocation), most)
    if name == "slider":
        code, k = value
        if code not in state.languages:
            return state
        now = state.allocation or apportion(state.budget, state.languages, most)
        return replace(state, allocation=rebalance(now, code, int(k), most))
    raise ValueError(f"there is no choice {name!r}; see next_state")


def _within(state: State, most: Mapping[str, int]) -> State:
    """Equal shares end where the language with the fewest candidates does; beyond that the budget is allocated by
    hand.
    """
    top = len(state.languages) * min(most[code] for code in state.languages)
    if state.allocation is None and state.budget > top:
        return replace(state, allocation=apportion(state.budget, state.languages, most))
    return state


def allocation_of(state: State, most: Mapping[str, int]) -> dict[str, int]:
    """Completions per language of one draw; with equal shares the odd ones go to languages that the seed draws."""
    if state.allocation is not None:
        return state.allocation
    order = np.random.default_rng([state.seed, 7]).permutation(len(state.languages))
    shares = apportion(state.budget, [state.languages[i] for i in order], most)
    return {code: shares[code] for code in state.languages}


def setting_of(state: State) -> Setting:
    """What `what_if` is asked."""
    return Setting(state.languages, state.budget, state.allocation, state.strategy, state.reward_model, state.offsets)


def written_setting(setting: Setting, title: str) -> str:
    """A setting as a YAML file that `opened_with` takes; `title` stands above it as a comment."""
    shown = {name: value for name, value in asdict(setting).items() if value not in (None, {})}
    lines = "".join(f"# {line}\n" for line in title.splitlines())
    return lines + yaml.safe_dump(shown | {"languages": list(setting.languages)}, sort_keys=False, allow_unicode=True)


def opened_with(state: State, text: str, source: Source, most: Mapping[str, int]) -> State:
    """The choices, replaced by those of a file that `written_setting` made.

    Raises:
        ValueError: it is no such file, or names a language, strategy, reward model or budget that this run does not
            have.
    """
    found = yaml.safe_load(text)
    known = {field.name for field in fields(Setting)}
    if not isinstance(found, dict) or not {"languages", "budget", "strategy"} <= set(found) <= known:
        raise ValueError(
            "the file is no saved setting; it needs languages, budget and strategy, as the explorer saves them"
        )
    if missing := [code for code in found["languages"] if not most.get(code)]:
        raise ValueError(
            f"the setting names {missing[0]!r}, a language that this run has no candidates in; it has {', '.join(most)}"
        )
    total = sum(most[code] for code in found["languages"])
    if not 1 <= int(found["budget"]) <= total:
        raise ValueError(
            f"the setting's budget is {found['budget']}; its languages have 1 to {total} candidates in this run"
        )
    change = {"strategy": found["strategy"], "tab": "what_if", "offsets": found.get("offsets", {})}
    if found.get("reward_model"):
        change["reward_model"] = found["reward_model"]
    state = next_state(state, change, source, most)
    languages = tuple(code for code in source.languages if code in found["languages"])
    return replace(state, languages=languages, budget=int(found["budget"]), allocation=found.get("allocation"))


def describe_state(state: State, most: Mapping[str, int]) -> dict[str, Any]:
    """The choices as JSON, with `most` (completions available per language), `total` and `shown` (the sliders'
    values).
    """
    shown = state.allocation or apportion(state.budget, state.languages, most)
    total = sum(most[code] for code in state.languages)
    listed = {"filters": list(state.filters), "languages": list(state.languages)}
    return (
        vars(state) | listed | {"kept": state.kept is not None} | {"most": dict(most), "total": total, "shown": shown}
    )
