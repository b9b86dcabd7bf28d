"""The language a completion is really written in, by py3langid over all its languages, restricted to those asked for.

The prompt asks for a language; this measures what came back. Numbers, mathematics and markup are removed first,
because they look like English to a classifier; what is left may be too short to tell, and then the answer is null, not
a guess. A completion in two languages gets the one that fills more of it. This file does not know problems or answers.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from bestofl_lib.languages import LANGUAGES, check_languages, code_of, is_language

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

MIN_BYTES = 24  # UTF-8 bytes of words left after cleaning; about 24 Latin letters or 8 of an Asian script
MIN_CONFIDENCE = 0.6  # of the best language among those asked for; measured in tests/candidates/test_trace.py
_SHOWN_BYTES = 480  # of its words that are classified, half from either end: more takes longer and tells no more
_KEPT = 3_000  # characters cleaned, half from either end
_AT_ONCE = 4_000  # texts classified together

_MATHEMATICS = re.compile(
    r"\$\$.{0,2000}?\$\$|\\\[.{0,2000}?\\\]|\\\(.{0,500}?\\\)|\$[^$\n]{0,300}\$|```.{0,2000}?```"
    r"|\\(?:text|textbf|mathrm|mathbf)\s*\{|\\[a-zA-Z]+\s*(?:\{[^{}\n]{0,100}\})?",
    re.DOTALL,
)
_NOT_WORDS = re.compile(r"https?://\S+|<[^<>\n]{0,60}>|[^\w\s'’\u0900-\u0DFF\u0E00-\u0E7F]+|[\d_]+")


def words_only(completion: str) -> str:
    """The completion without numbers, mathematics, markup and lone letters.

    >>> words_only("Also gilt \\\\(3x = 18\\\\), **macht** 18 €.")
    'Also gilt macht'
    """
    half = _KEPT // 2
    text = completion if len(completion) <= _KEPT else completion[:half] + " " + completion[-half:]
    words = _NOT_WORDS.sub(" ", _MATHEMATICS.sub(" ", text)).split()
    return " ".join([word for word in words if len(word) > 1 or not (word.isascii() and word.isalpha())])


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
    found: list[tuple[str | None, float]] = [(None, 0.0)] * len(texts)
    words = ((row, _told(text)) for row, text in enumerate(texts) if text)
    long_enough = ((row, told) for row, told in words if told is not None)
    while part := tuple(itertools.islice(long_enough, _AT_ONCE)):
        rows, told = zip(*part, strict=True)
        for row, choice in zip(rows, _chosen(_shares(told), codes), strict=True):
            found[row] = choice
    return pl.DataFrame(found, schema={"trace_language": pl.String, "confidence": pl.Float64}, orient="row")


def _told(completion: str) -> str | None:
    """The words that are classified; None where they are too few."""
    words = words_only(completion)
    size = len(words.encode("utf8", errors="replace"))
    if size < MIN_BYTES:
        return None
    if size > _SHOWN_BYTES:
        half = len(words) * _SHOWN_BYTES // size // 2
        words = words[:half] + " " + words[-half:]
    return words


def _chosen(shares: np.ndarray, codes: tuple[str, ...]) -> list[tuple[str | None, float]]:
    """Language and confidence of each text, from its shares (texts, labels)."""
    labels = [_code(label) for label in _identifier().labels]
    asked = np.array([label in codes for label in labels])
    if not asked.any():
        return [(None, 0.0)] * len(shares)
    close = np.array([label in codes or _close_to(label, codes) for label in labels])
    first = shares.argmax(1)
    other = ~close[first] & (shares.max(1) >= MIN_CONFIDENCE)  # clearly none of those asked for: Korean is not Chinese
    among = np.where(asked, shares, 0.0)
    total, best = among.sum(1), among.argmax(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        confidence = np.where(other | (total <= 0), 0.0, among.max(1) / total)
    return [
        (labels[place] if sure >= MIN_CONFIDENCE else None, sure)
        for place, sure in zip(best.tolist(), confidence.tolist(), strict=True)
    ]


def _shares(texts: Sequence[str]) -> np.ndarray:
    """(texts, labels) float: what `LanguageIdentifier.rank` gives each label of its `labels`, for many texts at once.

    Its automaton reads all texts side by side, a byte at a time.
    """
    known = _identifier()
    read = [
        unicodedata.normalize("NFC", t.lower() if t.isupper() else t).encode("utf8", "surrogatepass") for t in texts
    ]
    size = np.array([len(text) for text in read])
    order = np.argsort(-size, kind="stable")  # the longest first, so that those which go on stand together
    letters = np.zeros((len(read), int(size.max(initial=0))), np.uint8)
    for place, row in enumerate(order):
        letters[place, : size[row]] = np.frombuffer(read[row], np.uint8)
    going = np.searchsorted(-size[order], -np.arange(letters.shape[1]), side="left")  # texts longer than so many bytes
    moves, rows, output = _automaton()
    state, seen = np.zeros(len(read), np.intp), []
    for at, n in enumerate(going):
        state = moves[rows[state[:n]] + letters[:n, at]]
        feature = output[state]
        hit = np.flatnonzero(feature >= 0)
        seen.append((order[hit], feature[hit]))
    row, feature = (np.concatenate(part) for part in zip(*seen, strict=True)) if seen else (order[:0], order[:0])
    shape = (len(read), len(known.nb_ptc))
    counts = csr_array((np.ones(len(row), np.float32), (row, feature)), shape=shape)
    counts.sum_duplicates()
    none = np.diff(counts.indptr) == 0
    counts.data = np.log1p(counts.data)
    scores = np.where(none[:, None], np.float32(0), counts @ known.nb_ptc + known.nb_pc)
    scores *= (1 / np.sqrt(np.maximum(size, 1)))[:, None].astype(np.float32)
    shares = np.exp(scores - scores.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    # a label can stand for two scripts
    return shares @ (np.array(known.nb_classes)[:, None] == np.array(known.labels)).astype(np.float64)


@cache
def _automaton() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(moves, first move of each state, feature of each state or -1)."""
    known = _identifier()
    return np.asarray(known.tk_nextmove), np.asarray(known.tk_row, np.intp) << 8, np.asarray(known.tk_output)


def _close_to(code: str, codes: tuple[str, ...]) -> bool:
    """Whether the classifier could confuse this language with one of those asked for: both use its script.

    Scripts that one language has for itself tell languages apart; within Latin, Cyrillic or Arabic a short text may
    not.
    """
    if not is_language(code):
        return True
    return LANGUAGES[code].script in {LANGUAGES[other].script for other in codes}
