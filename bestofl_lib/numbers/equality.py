"""Which expressions are equal, and which are understood at all.

Forms are compared part by part: tuples in order, sets and lists in any order, brackets as they are. Written numbers are
compared exactly, other values by math-verify in worker processes. Every distinct value and pair is asked about once and
remembered, on disk where a file is given.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal, localcontext
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bestofl_lib.files import replace_file
from bestofl_lib.numbers.algebra import PAIR, VALUE, ask_all
from bestofl_lib.numbers.forms import Form, for_algebra, form_of

_RULES = 2  # raise it when what is remembered would be answered otherwise
_DIGITS = 25  # to which two constants that are equal agree
_TOWER = re.compile(r"\^\s*\{?\s*\d+\s*\^\s*\{?\s*\d+\s*\^|\^\s*\{?\s*\d{5}")  # 9^9^9^9 takes a processor to its limit
_form = lru_cache(maxsize=100_000)(form_of)


class Equality:
    """Compares expressions as `forms.spelled` writes them.

    Args:
        file: where what was found out is kept between runs; None: nowhere. It may be deleted at any time.
    """

    def __init__(self, file: Path | None = None):
        self._file = file
        self._stamp = f"math-verify {version('math-verify')}, rules {_RULES}"
        self._values: dict[str, dict[str, Any]] = {}
        self._pairs: dict[tuple[str, str], bool] = {}
        self._read()

    def understood(self, texts: Iterable[str]) -> dict[str, bool]:
        """Whether each text is an expression as a whole, or words that are an answer; one process answers all."""
        forms = {text: _form(text) for text in texts}
        values = {for_algebra(v) for form in forms.values() if form is not None for v in form.values()}
        self._values |= {value: {"note": "power too large"} for value in values if _TOWER.search(value)}
        self._ask_values(sorted(values - self._values.keys()))
        return {
            text: form is not None and all("note" not in self._values[for_algebra(value)] for value in form.values())
            for text, form in forms.items()
        }

    def equal(self, first: str, second: str) -> bool:
        """Whether two expressions say the same; what is not understood is equal to itself only."""
        if first == second:
            return True
        if not all(self.understood([first, second]).values()):
            return False
        a, b = _form(first), _form(second)
        return a is not None and b is not None and self._same(a, b)

    def classes(self, texts: Sequence[str], right: str | None = None) -> dict[str, str]:
        """Each text -> the one that stands for all that are equal to it: `right`, else the first of them in order.

        The result does not depend on the order of `texts`.
        """
        self.understood([*texts, *([right] if right is not None else [])])
        stand: list[str] = [] if right is None else [right]
        found: dict[str, str] = {}
        for text in sorted(set(texts)):
            found[text] = next((one for one in stand if self.equal(one, text)), text)
            if found[text] == text and text not in stand:
                stand.append(text)
        return found

    def save(self) -> None:
        """Keep what was found out."""
        if self._file is None:
            return
        pairs = [[a, b, is_equal] for (a, b), is_equal in sorted(self._pairs.items())]
        content = {"made_by": self._stamp, "values": dict(sorted(self._values.items())), "pairs": pairs}
        replace_file(self._file, json.dumps(content, ensure_ascii=False, indent=0).encode())

    # -- forms

    def _same(self, a: Form, b: Form) -> bool:
        if a.name and b.name and a.name != b.name:
            return False
        if "relation" in (a.kind, b.kind):
            return self._same_relation(a, b)
        if {a.kind, b.kind} == {"any_order", "ordered"}:
            a, b = _as_tuple(a), _as_tuple(b)
        if {a.kind, b.kind} == {"union", "ordered"}:
            a, b = (Form("union", "", (one,)) if one.kind == "ordered" else one for one in (a, b))
        if a.kind != b.kind:
            return False
        if a.kind == "value":
            return (not a.unit or not b.unit or a.unit == b.unit) and self._same_value(a, b)
        if a.kind == "text":
            return a.text == b.text
        if len(a.parts) != len(b.parts) or (a.kind in ("ordered", "matrix") and a.brackets != b.brackets):
            return False
        if a.kind in ("ordered", "matrix"):
            return all(self._same(x, y) for x, y in zip(a.parts, b.parts, strict=True))
        left = list(b.parts)
        for part in a.parts:
            match = next((i for i, other in enumerate(left) if self._same(part, other)), None)
            if match is None:
                return False
            left.pop(match)
        return True

    def _same_value(self, a: Form, b: Form) -> bool:
        exact = a.number(), b.number()
        if exact[0] is not None and exact[1] is not None:
            return exact[0] == exact[1]
        texts = [for_algebra(form.text) for form in (a, b)]
        self._ask_values([text for text in texts if text not in self._values])
        first, second = (self._values[text] for text in texts)
        if "at" not in first or "at" not in second or not _agree(first["at"], second["at"]):
            return False
        return not (first["letters"] or second["letters"]) or self._pair(*texts)

    def _same_relation(self, a: Form, b: Form) -> bool:
        """Equations as a whole, such as y = 2x + 3 and y - 2x = 3; never an equation and a lone value."""
        whole = [form.text if form.kind == "relation" else f"{form.name}={form.text}" for form in (a, b)]
        if any(form.kind not in ("relation", "value") or (form.kind == "value" and not form.name) for form in (a, b)):
            return False
        return self._pair(*(for_algebra(text) for text in whole))

    # -- what math-verify says

    def _pair(self, first: str, second: str) -> bool:
        key = (min(first, second), max(first, second))
        if key not in self._pairs:
            answer = ask_all([{PAIR: key}])[0]
            if answer is None:  # killed: not remembered for another time
                return False
            self._pairs[key] = bool(answer.get("equal"))
        return self._pairs[key]

    def _ask_values(self, values: Sequence[str]) -> None:
        for value, answer in zip(values, ask_all([{VALUE: value} for value in values]) if values else (), strict=True):
            self._values[value] = answer if answer is not None else {"note": "took too long", "killed": True}

    def _read(self) -> None:
        if self._file is None or not self._file.exists():
            return
        try:
            content = json.loads(self._file.read_text("utf8"))
        except ValueError:
            return  # torn: everything is asked again and the file replaced
        if isinstance(content, dict) and content.get("made_by") == self._stamp:
            self._values = {k: v for k, v in content["values"].items() if "killed" not in v}
            self._pairs = {(a, b): is_equal for a, b, is_equal in content["pairs"]}


def _as_tuple(form: Form) -> Form:
    """a = 2, b = 0 as (2, 0): a list of values with different names, in the order of the names."""
    names = [part.name.lstrip("\\") for part in form.parts]
    if form.kind != "any_order" or form.brackets or not all(names) or len(set(names)) < len(names):
        return form
    parts = tuple(replace(part, name="") for _, part in sorted(zip(names, form.parts, strict=True), key=lambda p: p[0]))
    return Form("ordered", form.text, parts, "()", form.name)


def _agree(first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether two complex numbers, each two decimal texts, agree to `_DIGITS` digits."""
    if "oo" in first[0] or "oo" in second[0]:
        return first[0] == second[0]
    with localcontext() as context:
        context.prec = 50
        a, b = ([Decimal(part) for part in value] for value in (first, second))
        size = max(*(abs(part) for part in (*a, *b)), Decimal(1).scaleb(-_DIGITS))
        return all(abs(x - y) <= size * Decimal(1).scaleb(-_DIGITS) for x, y in zip(a, b, strict=True))
