"""The words that announce answers, compiled: the cues, copulas, "or", "and" and scales of every language as patterns.

Made once from the records in `languages.py`, for all languages together, because models mix languages. This file knows
no rule: what a cue or a scale means where it stands is decided in `reading.py`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from bestofl_lib.languages import LANGUAGES, remembered
from bestofl_lib.numbers.marks import written_forms
from bestofl_lib.numbers.written import SIGNS
from bestofl_lib.text import trie


@dataclass(frozen=True)
class Phrases:
    """Patterns made from the words of all languages."""

    # to be looked for in raw texts, in every spelling and with every character that `uniform` turns into theirs:
    cue_words: list[str]  # what announces an answer
    scale_words: list[str]  # what may multiply a number
    overruling_words: list[str]  # what may announce a number that overrules a box before it: cues and conclusions
    heading_words: list[str]  # what heads an explanation more often than an answer
    heading_starts: list[str]  # what a heading holds before the cue inside it: 解 in 解答
    longest_cue: int  # characters of the longest cue or heading
    cue: re.Pattern[str]  # any cue, but not as part of a heading
    heading: re.Pattern[str]  # a word that heads an explanation more often than an answer
    negative: re.Pattern[str]  # "minus" in words, before a number
    negated: re.Pattern[str]  # the same at the end of a text
    range_joint: re.Pattern[str]  # directly behind a number: "to", "bis", "から" and the next number
    range_opening: re.Pattern[str]  # "between 3 and", at the end of a text
    refusal: re.Pattern[str]  # a word of a sentence that gives no answer
    lead: re.Pattern[str]  # what may stand between a cue and its number
    operator: re.Pattern[str]  # what continues a formula behind a number
    either: re.Pattern[str]  # "or" before a second number
    offered: re.Pattern[str]  # two numbers with "or" or "and" as text between them, in a formula
    # 1 hour and 35 minutes, 2時間30分: a unit, then another number with a unit and no operator
    compound: re.Pattern[str]
    per: re.Pattern[str]  # makes the number before it a rate's denominator
    conclusion: re.Pattern[str]  # a sentence that opens with "therefore"


def spellings(words: Iterable[str]) -> list[str]:
    """Every word in lower, capital and upper case, composed and decomposed; longest first."""
    forms = {form for w in words for form in (w, w.capitalize(), w.title(), w.upper())}
    forms |= {unicodedata.normalize(kind, form) for form in forms for kind in ("NFC", "NFD")}
    return sorted(forms, key=lambda form: (-len(form), form))


def _as_written(words: list[str]) -> list[str]:
    return [form for word in words for form in written_forms(word)]


def _not_within(inside: set[tuple[str, str, int]]) -> str:
    """Behind a cue: that it is no part of a heading; given as heading, cue and the cue's place in it."""
    parted = sorted({(heading[: at + len(cue)], heading[at + len(cue) :]) for heading, cue, at in inside})
    return "".join(rf"(?!(?<={re.escape(upto)}){re.escape(rest)})" for upto, rest in parted)


@remembered
def phrases() -> Phrases:
    """The patterns of the records as they are now."""
    records = list(LANGUAGES.values())
    cues = spellings({cue for r in records for cue in r.cues} | {"####"})
    # A cue that holds another one further inside ("final answer") is dropped: the inner one is found anyway, and then
    # the last cue of a text is the last place where any cue starts, which is what the fast path looks for.
    cue_words = [cue for cue in cues if not any(inner in cue[1:] for inner in cues)]
    headings = spellings({w for r in records for w in r.headings})
    inside = {(head, cue, head.find(cue)) for head in headings for cue in cue_words if cue in head and cue != head}
    copulas = spellings({w for r in records for w in r.copulas})
    cased = [w for w in copulas if w[0].upper() != w[0].lower()]
    free = [w for w in copulas if w[0].upper() == w[0].lower()]
    both = trie(spellings({w for r in records for w in r.both}))
    either = trie(spellings({w for r in records for w in r.either}))
    therefore = spellings({w for r in records if not r.runs_on for w in r.conclusions})
    joined = spellings({w for r in records if r.runs_on for w in r.conclusions})
    negative = trie(spellings({w for r in records for w in r.negatives}))
    joints = trie(spellings({joint for r in records for opening, joint in r.ranges if not opening}))
    openings = "|".join(
        rf"{trie(spellings([opening]))}\D{{0,6}}[\d.,]++\D{{0,15}}?{trie(spellings([joint]))}"
        for opening, joint in sorted({pair for r in records for pair in r.ranges if pair[0]})
    )
    smaller = trie(spellings({w for r in records for w in r.smaller_units}))
    refusals = spellings({w for r in records for w in r.refusals})
    return Phrases(
        cue_words=_as_written(cue_words),
        scale_words=_as_written(spellings({w for r in records for w, _ in (*r.scales, *r.leading_scales)})),
        overruling_words=_as_written([*cue_words, *therefore, *joined]),
        heading_words=_as_written(headings),
        heading_starts=_as_written(sorted({heading[:at] for heading, _, at in inside if at})),
        longest_cue=max(len(word) for word in (*cue_words, *headings)),
        cue=re.compile(trie(cue_words) + _not_within(inside)),
        heading=re.compile(trie(headings)),
        negative=re.compile(rf"{negative}[\s:]{{0,2}}(?=[\d\\$]|[^\W\d_])"),
        negated=re.compile(rf"(?:^|[^\w)]){negative}\s?$"),
        range_joint=re.compile(rf"\s?[^\W\d_]{{0,6}}?\s?(?:[~〜]|{joints})\s?(?=[\d$])"),
        range_opening=re.compile(rf"(?:^|\W|(?<=[^\x00-\x7f]))(?:{openings})\D{{0,3}}$"),
        refusal=re.compile(trie(refusals)),
        lead=_lead(trie(cased), trie(free), trie(spellings({w for r in records for w in r.currencies}))),
        operator=_OPERATOR,
        either=re.compile(rf"[\s*]*(?:{either}|\\text\{{\s*(?:or|and)\s*\}})[\s*]*(?=[\d$])"),
        offered=re.compile(rf"\d\D*\\(?:text|mathrm)\s*\{{\s*(?:{either}|{both})\s*\}}\D*\d"),
        compound=re.compile(
            rf"\s+(?:{both})\s+{smaller}\s+(?=\d)|(?:\s*[^\W\d_][^\s\d.,;:!?()=+*/<>-]{{0,11}}\.?\s+(?:{both}\s+)?"
            r"|\s?[^\x00-\x7f\W\d_][^\x00-\x7f\s。、，；]{0,5})(?=\d+\s?[^\W\d_][^=+*×÷]*(?:$|\n|[.।。!]))"
        ),
        per=re.compile(rf"\s*\S{{0,3}}?{trie(spellings({w for r in records for w in r.per}))}"),
        conclusion=re.compile(
            rf"(?:^|[\n.。!?।]\s*|\*\*|\s{{2}})[\s*#-]*(?:{trie(therefore)}(?![^\W_])|{trie(joined)})"
        ),
    )


_OPERATOR = re.compile(
    r"\s*(?:(?:[^\W\d_]++|\\text\{[^{}\n]{0,30}\}|\\[,; ]|[$€£¥₹%])[\s.]*+){0,4}"  # possessive: one reading
    r"(?P<op>\*\*(?=\d)|\^(?=\{)|[+*/×÷·=≈≃^-]|−|–|x(?=\s?[\d(])|\\(?:times|div|cdot|approx|pm))\s*(?=[\d({\\$€£¥₹.√-])"
)


def _lead(cased: str, free: str, currencies: str) -> re.Pattern[str]:
    return re.compile(
        r"(?:[\s*_:=≈≃~\"“”„«»‘`#()\[\]{}<>→⇒➜|•．【】「」『』、›‹✅👉]"
        r"|\\[()\[\],;:! ]|\\(?:text|mathbf|mathrm|textbf|mathit|bm|bf|displaystyle|left|right|approx|quad|qquad|"
        r"boldsymbol|large|Large|huge|Huge|color\{\w+\})(?![a-zA-Z])"
        rf"|\\?[{SIGNS}](?=[\s\\]*[\s*_]|\\text|[*_{{\\]|\\?\()"
        r"|[-–—]+(?=[\s*])|-{2,}"
        rf"|{cased}(?![^\W_])|{free}"
        rf"|{currencies}(?=[\s{SIGNS}]*\d)"
        r"|[A-Za-z]\s*=(?!=)"
        r")*+"
    )
