"""Renders the templates of a report: every value is escaped unless it is Markup that our own code made.

It knows templates and HTML; it knows nothing of runs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from bestofl_lib.display import words
from bestofl_lib.display.text import unbroken, without_controls

TEMPLATES = Path(__file__).resolve().parent / "templates"
POLICY = Markup(
    "default-src 'none'; script-src 'self' file: 'unsafe-eval'; style-src 'self' file: 'unsafe-inline'; img-src data: "
    "blob:; base-uri 'none'; form-action 'none'"
)  # unsafe-eval: Vega compiles its expressions; scripts written into a page never run
ALONE = Markup(
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
)  # of a page without scripts that needs no other file


@dataclass(frozen=True)
class Column:
    """One column of a table on a page."""

    text: str  # its heading
    number: bool = False  # aligned to the right
    row_header: bool = False  # its cells name their rows


@dataclass(frozen=True)
class Table:
    """A table on a page: text, or Markup where a cell is more than text."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    kind: str = ""  # its class


@dataclass(frozen=True)
class Link:
    """One page in the navigation."""

    href: str
    text: str
    current: bool = False
    question: str = ""


def render(template: str, **values: Any) -> Markup:
    """A template of `templates/` filled in; text is escaped and loses its control characters."""
    return Markup(_environment().get_template(template).render(**values))


def defined(text: str) -> Markup:
    """A text in which the first use of each word of the glossary shows its meaning on hover.

    >>> print(defined("of a budget, a second budget"))
    of a <abbr title="completions per problem, over all languages">budget</abbr>, a second budget
    """
    meanings = {word: meaning for words_, meaning in words.GLOSSARY.items() for word in words_.split(", ")}
    seen: set[str] = set()

    def shown(found: re.Match[str]) -> str:
        word = found[1].lower()
        if word in seen:
            return found[0]
        seen.add(word)
        return str(Markup('<abbr title="{}">{}</abbr>').format(meanings[word], Markup(found[0])))

    names = "|".join(re.escape(word) for word in sorted(meanings, key=len, reverse=True))
    return Markup(re.sub(rf"\b({names})s?\b", shown, str(escape(_printable(unbroken(text)))), flags=re.IGNORECASE))


def breakable(name: str) -> Markup:
    """A name that may go on in the next line behind an underscore, and only there.

    >>> print(breakable("08_budget_curves"))
    08_<wbr>budget_<wbr>curves
    """
    return Markup("_<wbr>").join(escape(_printable(part)) for part in name.split("_"))


@lru_cache(maxsize=1)
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=False,
    )
    made.filters |= {"defined": defined, "breakable": breakable}
    return made


def _printable(value: Any) -> Any:
    return value if isinstance(value, Markup) or not isinstance(value, str) else without_controls(value)
