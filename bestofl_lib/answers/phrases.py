"""The words that announce answers, compiled: the cues, copulas, "or", "and" and scales of every language as patterns.

Made once from the records in `languages.py`, for all languages together, because models mix languages. This file knows no
rule: what a cue or a scale means where it stands is decided in `reading.py`.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

from bestofl_lib.languages import LANGUAGES
from bestofl_lib.numbers.written import SIGNS


def spellings(words: set[str]) -> list[str]:
    """Every word in lower, capital and upper case, composed and decomposed; longest first."""
    forms = {form for w in words for form in (w, w.capitalize(), w.title(), w.upper())}
    forms |= {unicodedata.normalize(kind, form) for form in forms for kind in ("NFC", "NFD")}
    return sorted(forms, key=lambda form: (-len(form), form))


def trie(words: list[str]) -> str:
    """A pattern for any of the words, longest first, that looks at each letter once."""
    tree: dict[str, dict] = {}
    for word in words:
        node = tree
        for letter in word:
            node = node.setdefault(letter, {})
        node[""] = {}

    def write(node: dict[str, dict]) -> str:
        branches = [re.escape(letter) + write(child) for letter, child in sorted(node.items()) if letter]
        if not branches:
            return ""
        body = branches[0] if len(branches) == 1 and "" not in node else f"(?:{'|'.join(branches)})"
        return body + "?" if "" in node else body

    return write(tree)


_ALL = LANGUAGES.values()
# A cue that holds another one further inside ("final answer") is dropped: the inner one is found anyway, and then the
# last cue of a text is the last place where any cue starts, which is what the fast path looks for.
CUE_WORDS = [
    cue
    for cues in [spellings({cue for record in _ALL for cue in record.cues} | {"####"})]
    for cue in cues
    if not any(inner in cue[1:] for inner in cues)
]
CUE = re.compile(trie(CUE_WORDS))
_CASED_COPULAS = [w for w in spellings({w for r in _ALL for w in r.copulas}) if w[0].upper() != w[0].lower()]
_FREE_COPULAS = [w for w in spellings({w for r in _ALL for w in r.copulas}) if w[0].upper() == w[0].lower()]
_CURRENCY_WORDS = spellings({w for r in _ALL for w in r.currencies})
# what may stand between a cue and its number
LEAD = re.compile(
    r"(?:[\s*_:=≈≃~\"“”„«»‘`#()\[\]{}<>→⇒➜|•．【】「」『』、›‹✅👉]"
    r"|\\[()\[\],;:! ]|\\(?:text|mathbf|mathrm|textbf|mathit|bm|bf|displaystyle|left|right|approx|quad|qquad|boldsymbol|large|Large|huge|Huge|color\{\w+\})(?![a-zA-Z])"
    rf"|\\?[{SIGNS}](?=[\s\\]*[\s*_]|\\text|[*_{{\\]|\\?\()"
    r"|[-–—]+(?=[\s*])|-{2,}"
    rf"|{trie(_CASED_COPULAS)}(?![^\W_])|{trie(_FREE_COPULAS)}"
    rf"|{trie(_CURRENCY_WORDS)}(?=[\s{SIGNS}]*\d)"
    r"|[A-Za-z]\s*=(?!=)"
    r")*+"
)
OPERATOR = re.compile(
    r"\s*(?:(?:[^\W\d_]++|\\text\{[^{}\n]{0,30}\}|\\[,; ]|[$€£¥₹%])[\s.]*+){0,4}"  # possessive: a long word has one reading
    r"(?P<op>\*\*(?=\d)|\^(?=\{)|[+*/×÷·=≈≃^-]|−|–|x(?=\s?[\d(])|\\(?:times|div|cdot|approx|pm))\s*(?=[\d({\\$€£¥₹.√-])"
)
EITHER = re.compile(
    rf"[\s*]*(?:{trie(spellings({w for r in _ALL for w in r.either}))}|\\text\{{\s*(?:or|and)\s*\}})[\s*]*(?=[\d$])"
)
# 1 hour and 35 minutes, 2時間30分: a unit, then another number with a unit and no operator
COMPOUND = re.compile(
    rf"(?:\s*[^\W\d_][^\s\d.,;:!?()=+*/<>-]{{0,11}}\.?\s+(?:{trie(spellings({w for r in _ALL for w in r.both}))}\s+)?"
    rf"|\s?[^\x00-\x7f\W\d_][^\x00-\x7f\s。、，；]{{0,5}})(?=\d+\s?[^\W\d_][^=+*×÷]*(?:$|\n|[.।。!]))"
)
PER = re.compile(rf"\s*\S{{0,3}}?{trie(spellings({w for r in _ALL for w in r.per}))}")
SCALE_WORDS = spellings({w for r in _ALL for w, _ in (*r.scales, *r.leading_scales)})


@cache
def conclusion() -> re.Pattern[str]:
    """A sentence that opens with "therefore", in any language."""
    words = trie(spellings({w for r in _ALL for w in r.conclusions}))
    return re.compile(rf"(?:^|[\n.。!?।]\s*|\*\*|\s{{2}})[\s*#-]*{words}(?![^\W_])")
