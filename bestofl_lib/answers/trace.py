"""The language a completion is really written in, by py3langid over all its languages, restricted to those asked for.

The prompt asks for a language; this measures what came back. Numbers, mathematics and markup are removed first,
because they look like English to a classifier; what is left may be too short to tell, and then the answer is null, not
a guess. A completion in two languages gets the one that fills more of it. This file does not know problems or answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

import polars as pl

from bestofl_lib.languages import LANGUAGES, check_languages, code_of, is_language

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

MIN_BYTES = 24  # UTF-8 bytes of words left after cleaning; about 24 Latin letters or 8 of an Asian script
MIN_CONFIDENCE = 0.6  # of the best language among those asked for; measured in tests/candidates/test_trace.py
_SHOWN_BYTES = 480  # of its words that are classified, half from either end: more takes longer and tells no more
_KEPT = 3_000  # characters cleaned, half from either end

_MATHEMATICS = re.compile(
    r"\$\$.{0,2000}?\$\$|\\\[.{0,2000}?\\\]|\\\(.{0,500}?\\\)|\$[^$\n]{0,300}\$|```.{0,2000}?```"
    r"|\\(?:text|textbf|mathrm|mathbf)\s*\{|\\[a-zA-Z]+\s*(?:\{[^{}\n]{0,100}\})?",
    re.DOTALL,
)
_NOT_WORDS = re.compile(r"https?://\S+|<[^<>\n]{0,60}>|[^\w\s'’\u0900-\u0DFF\u0E00-\u0E7F]+|[\d_]+")
_BLANKS = re.compile(r"\s+")
_LONE_LETTERS = re.compile(r"(?<!\S)[A-Za-z](?!\S)")


def words_only(completion: str) -> str:
    """The completion without numbers, mathematics, markup and lone letters.

    >>> words_only("Also gilt \\\\(3x = 18\\\\), **macht** 18 €.")
    'Also gilt macht'
    """
    half = _KEPT // 2
    text = completion if len(completion) <= _KEPT else completion[:half] + " " + completion[-half:]
    text = _NOT_WORDS.sub(" ", _MATHEMATICS.sub(" ", text))
    return _BLANKS.sub(" ", _LONE_LETTERS.sub(" ", text)).strip()


@cache
def _identifier() -> LanguageIdentifier:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


@cache
def _code(label: str) -> str:
    """Our code for one of the classifier's labels: it calls Filipino tl."""
    return label if is_language(label) else code_of(label) or label


def trace_languages(
    completions: pl.Series | Iterable[str | None], languages: Iterable[str] = tuple(LANGUAGES)
) -> pl.DataFrame:
    """The language each completion is written in.

    Args:
        completions: raw texts.
        languages: codes to choose among.

    Returns:
        One row per completion, in order: trace_language (null: abstained), confidence in [0, 1].

    Raises:
        ValueError: a code that is not known.
    """
    codes = tuple(check_languages(languages))
    texts = completions.to_list() if isinstance(completions, pl.Series) else list(completions)
    read = [_trace(text, codes) for text in texts]
    return pl.DataFrame(
        {"trace_language": [code for code, _ in read], "confidence": [confidence for _, confidence in read]},
        schema={"trace_language": pl.String, "confidence": pl.Float64},
    )


def _trace(completion: str | None, codes: tuple[str, ...]) -> tuple[str | None, float]:
    if not completion:
        return None, 0.0
    words = words_only(completion)
    size = len(words.encode("utf8", errors="replace"))
    if size < MIN_BYTES:
        return None, 0.0
    if size > _SHOWN_BYTES:
        half = len(words) * _SHOWN_BYTES // size // 2
        words = words[:half] + " " + words[-half:]
    ranked = [(_code(label), share) for label, share in _identifier().rank(words)]
    if ranked[0][0] not in codes and ranked[0][1] >= MIN_CONFIDENCE and not _close_to(ranked[0][0], codes):
        return None, 0.0  # clearly another language than those asked for: Korean is not Chinese
    asked = [(code, float(share)) for code, share in ranked if code in codes]
    total = sum(share for _, share in asked)
    if not asked or total <= 0:
        return None, 0.0
    code, confidence = asked[0][0], asked[0][1] / total
    return (code if confidence >= MIN_CONFIDENCE else None), confidence


def _close_to(code: str, codes: tuple[str, ...]) -> bool:
    """Whether the classifier could confuse this language with one of those asked for: both use its script.

    Scripts that one language has for itself tell languages apart; within Latin, Cyrillic or Arabic a short text may
    not.
    """
    if not is_language(code):
        return True
    return LANGUAGES[code].script in {LANGUAGES[other].script for other in codes}
