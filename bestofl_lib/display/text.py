"""Text that a model or a user wrote, made inert: control characters shown, maths as MathML, no markup.

Nothing leaves this file as HTML except what is escaped here.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise
from typing import Any

from markupsafe import Markup, escape

LONGEST = 20_000  # characters of a completion sent to the page

_MATHS = re.compile(
    r"\$\$(?P<display>[^$\n]{1,400}?)\$\$|\\\[(?P<bracket>.{1,400}?)\\\]|\\\((?P<paren>[^\n]{1,400}?)\\\)"
    r"|(?<![\\$\w])\$(?P<inline>[^\s$](?:[^$\n]{0,300}?[^\s$\\])?)\$(?![\d$])",
    re.DOTALL,
)

MATHML = {
    "math",
    "mrow",
    "mi",
    "mn",
    "mo",
    "mtext",
    "mspace",
    "mfrac",
    "msqrt",
    "mroot",
    "msub",
    "msup",
    "msubsup",
    "munder",
    "mover",
    "munderover",
    "mtable",
    "mtr",
    "mtd",
    "mstyle",
    "mpadded",
    "mphantom",
    "menclose",
}

MATHML_ATTRIBUTES = {
    "display", "mathvariant", "stretchy", "fence", "form", "separator", "lspace", "rspace", "linethickness", "accent",
    "columnalign", "notation", "minsize", "maxsize", "movablelimits",
}  # fmt: skip

_MOST_MATHS = 40  # formulas typeset in one text; the rest stays as written

_CONTROLS = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"} | {127: "␡"}
_CONTROLS |= dict.fromkeys(range(0x80, 0xA0), "\ufffd")  # the second set, which has no symbols
_WRITTEN_TAGS = ("p", "br", "hr", "pre", "h1", "h2", "h3", "h4", "table", "thead", "tbody", "tr", "th", "td")
_TERMINAL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[@-_]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def unbroken(text: str) -> str:
    """The text with spaces that do not break inside "95 %" and inside an interval.

    >>> unbroken("61 % [+1.0, +2.0]") == "61\xa0% [+1.0,\xa0+2.0]"
    True
    """
    return re.sub(
        r"\[[^\]\n]{1,30}\]", lambda found: found[0].replace(" ", "\xa0"), re.sub(r"(?<=\d) %", "\xa0%", text)
    )


def visible(text: str) -> str:
    """The text with control characters shown as their symbols, so that none takes effect (␛ for escape)."""
    return text.replace("\r\n", "\n").translate(_CONTROLS)


def segments(text: str, start: int | None = None, end: int | None = None) -> list[dict[str, Any]]:
    """A completion cut for display.

    Args:
        text: as stored.
        start, end: the span that was read, in characters of `text`; None: nothing was read.

    Returns:
        Pieces in order, each `{"text": …}`, or `{"text": source, "math": tree}` with a tree of `[name, attributes,
        children or string]`; `"read": True` marks the span. A text of more than LONGEST characters is cut around the
        span, and the pieces `{"cut": n}` say how many characters are missing.
    """
    start, end = (None, None) if start is None or end is None or start >= end else (max(start, 0), min(end, len(text)))
    low, high = 0, len(text)
    if high > LONGEST:
        middle = (start + end) // 2 if start is not None and end is not None else high
        low = max(0, min(middle - LONGEST // 2, high - LONGEST))
        high = low + LONGEST
    pieces: list[dict[str, Any]] = [{"cut": low}] if low else []

    def as_text(begin: int, stop: int) -> None:
        cuts = [begin, *(cut for cut in (start, end) if cut is not None and begin < cut < stop), stop]
        for a, b in pairwise(cuts):
            if a < b:
                read = start is not None and end is not None and start <= a and b <= end
                pieces.append({"text": visible(text[a:b])} | ({"read": True} if read else {}))

    at, made = low, 0
    for match in _MATHS.finditer(text, low, high):
        source = next(value for value in match.groups() if value is not None)
        tree = typeset(source.strip(), bool(match["display"] or match["bracket"])) if made < _MOST_MATHS else None
        if tree is None:
            continue
        made += 1
        as_text(at, match.start())
        read = start is not None and end is not None and start < match.end() and match.start() < end
        pieces.append({"text": visible(match[0]), "math": tree} | ({"read": True} if read else {}))
        at = match.end()
    as_text(at, high)
    return [*pieces, {"cut": len(text) - high}] if high < len(text) else pieces


@lru_cache(maxsize=65536)
def typeset(latex: str, display: bool = False) -> list[Any] | None:
    """LaTeX as a tree of MathML names `[name, attributes, children or string]`, or None where it is more than plain
    maths.

    Only names and attributes on a short list pass: links, styles and actions never do.
    """
    from latex2mathml.converter import convert_to_element

    try:
        return _tree(convert_to_element(latex, display="block" if display else "inline"))
    # the converter raises whatever its parser meets (KeyError, RecursionError, its own); then the source is shown
    except Exception:
        return None


def formulas(answers: Iterable[str | None]) -> dict[str, list[Any]]:
    """Those of some answers that are LaTeX, typeset: answer -> tree; numbers and words are shown as they are."""
    latex = {answer for answer in answers if answer and re.search(r"[\\\\^_]", answer)}
    return {answer: tree for answer in sorted(latex) if (tree := typeset(answer)) is not None}


def written_answer(answer: str | None) -> Markup:
    """An answer for a page without script: typeset as in `formulas`, else its text, escaped."""
    tree = formulas([answer]).get(answer or "")
    return escape(visible(answer or "")) if tree is None else _markup(tree)


def written_text(text: str) -> Markup:
    """A question or completion for a page without script: its formulas typeset, everything else escaped."""
    made = Markup("")
    for piece in segments(text):
        if "cut" in piece:
            made += escape(f" [{piece['cut']:,} characters not shown]")
        else:
            made += _markup(piece["math"]) if "math" in piece else escape(piece["text"])
    return made


def _markup(tree: list[Any]) -> Markup:
    name, attributes, inner = tree
    told = Markup("").join(Markup(' {}="{}"').format(Markup(key), value) for key, value in attributes.items())
    content = escape(inner) if isinstance(inner, str) else Markup("").join(map(_markup, inner))
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), told, content)


def _tree(element: Any) -> list[Any] | None:
    if element.tag not in MATHML:
        return None
    attributes = {name: value for name, value in element.attrib.items() if name in MATHML_ATTRIBUTES}
    if not len(element):
        return [element.tag, attributes, _character(element.text or "")]
    children = [_tree(child) for child in element]
    return None if any(child is None for child in children) else [element.tag, attributes, children]


def _character(text: str) -> str:
    """The converter writes symbols as character references (`&#x000D7;`); other text stays as it is."""
    return visible(
        re.sub(r"&#x([0-9A-Fa-f]{1,6});", lambda m: chr(int(m[1], 16)) if int(m[1], 16) < 0x110000 else m[0], text)
    )


def without_controls(text: str) -> str:
    """Text without terminal escapes and control characters; of a line that was overwritten, its last state."""
    lines = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n")]
    return _TERMINAL.sub("", "\n".join(lines))


def inert_text(text: object) -> str:
    """Text as inert HTML: `without_controls`, escaped."""
    return html.escape(without_controls(str(text)))


def written_markdown(text: str) -> str:
    """Markdown that a cell displayed as inert HTML: paragraphs, lists, tables and emphasis; other tags show as text."""
    import bleach
    from nbconvert.filters import markdown2html

    return bleach.clean(markdown2html(unbroken(text)), tags={*bleach.ALLOWED_TAGS, *_WRITTEN_TAGS})
