"""Small things done to text in many places: suggestions, digests, valid Unicode, counts and shares as they are written.

The file knows nothing of languages, tables or runs; the English name of a language is `languages.english_name`.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterable
from typing import SupportsFloat


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name most like the one given, or None when none is alike enough.

    Args:
        cutoff: least likeness, 0 (anything) to 1 (equal); the ratio of `difflib`.

    >>> nearest("bugdets", ["budgets", "languages"])
    'budgets'
    """
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)), None)


def suggestion(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """A question to put into an error message, with a space after it; empty when nothing is alike.

    >>> suggestion("bugdets", ["budgets", "languages"])
    "did you mean 'budgets'? "
    >>> suggestion("xyz", ["budgets"])
    ''
    """
    found = nearest(name, known, cutoff)
    return f"did you mean {found!r}? " if found else ""


def shortened(text: str, most: int) -> str:
    """A text of at most `most` characters; one that was longer ends with an ellipsis.

    >>> shortened("a long name", 7), shortened("a name", 7)
    ('a long…', 'a name')
    """
    return text if len(text) <= most else text[: most - 1] + "…"


def content_digest(data: bytes | str) -> str:
    """First 16 hexadecimal digits of the SHA-256 of some content, as `sha256sum` prints them.

    Used for files and for everything a person may want to check.

    >>> content_digest("abc")
    'ba7816bf8f01cfea'
    """
    return hashlib.sha256(as_bytes(data)).hexdigest()[:16]


def key_digest(data: bytes | str, size: int = 8) -> str:
    """BLAKE2b of some content as 2 × `size` hexadecimal digits: the name of what was made from exactly that content."""
    return hashlib.blake2b(as_bytes(data), digest_size=size).hexdigest()


def stable_integer(text: str) -> int:
    """An integer from 0 to 2**64 - 1 that depends on the text alone: the same on every machine and in every order.

    >>> stable_integer("0:mgsm-001") == stable_integer("0:mgsm-001") != stable_integer("1:mgsm-001")
    True
    """
    return int.from_bytes(hashlib.blake2b(as_bytes(text), digest_size=8).digest(), "big")


def as_bytes(data: bytes | str) -> bytes:
    """UTF-8, with `?` for what is no valid Unicode, so that every text has a digest."""
    return data.encode("utf8", "replace") if isinstance(data, str) else data


def valid_unicode(text: str) -> str:
    """The text with lone surrogates replaced by U+FFFD, since tables and files hold valid Unicode only.

    >>> valid_unicode("a" + chr(0xD800) + "b") == "a" + chr(0xFFFD) + "b"
    True
    """
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def counted(n: int, noun: str, plural: str = "") -> str:
    """A number with its noun, in the plural where it is not one.

    >>> counted(1, "problem"), counted(1200, "problem"), counted(0, "entry", "entries")
    ('1 problem', '1,200 problems', '0 entries')
    """
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def unsigned(share: SupportsFloat, digits: int = 1) -> str:
    """A share in percent, or a difference in percentage points, as a bare number.

    >>> unsigned(0.1234), unsigned(0.5, 0)
    ('12.3', '50')
    """
    return f"{100 * float(share):.{digits}f}"


def percent(share: SupportsFloat, digits: int = 1) -> str:
    """A share with its unit.

    >>> percent(0.1234), percent(0.5, 0)
    ('12.3 %', '50 %')
    """
    return f"{unsigned(share, digits)} %"


def points(share: float) -> str:
    """The size of a difference, with its unit.

    >>> points(0.05)
    '5.0 points'
    """
    return f"{unsigned(share)} points"


def signed(share: float) -> str:
    """A difference of shares in percentage points with its sign and one decimal.

    >>> signed(-0.0123), signed(0.25), signed(-0.0001)
    ('−1.2', '+25.0', '0.0')
    """
    text = f"{100 * share:+.1f}".replace("-", "−")
    return "0.0" if text in ("+0.0", "−0.0") else text


def signed_points(share: float) -> str:
    """A difference of shares with its sign and its unit.

    >>> signed_points(0.01)
    '+1.0 points'
    """
    return f"{signed(share)} points"


def signed_interval(low: float, high: float) -> str:
    """An interval of a difference, in percentage points.

    >>> signed_interval(-0.02, 0.031)
    '[−2.0, +3.1]'
    """
    return f"[{signed(low)}, {signed(high)}]"


def p_value(p: float) -> str:
    """A p-value with three decimals.

    >>> p_value(0.0312), p_value(0.0002)
    ('0.031', '< 0.001')
    """
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def trie(words: Iterable[str]) -> str:
    """A regular expression for any of the words, the longest that stands there first, which looks at each letter once.

    >>> trie(["cat", "car", "ca"])
    'ca(?:r|t)?'
    """
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
