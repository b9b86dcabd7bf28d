"""What the project knows about each language: one record each, and no language code anywhere else in the library.

Records written by hand are TOML files in `language_records/`; for every other language of CLDR a generic record is made
from Babel's data: names, script, direction, marks and digits, with the cues that all languages share ("####",
"\\boxed", English "answer"). A language file of the same form adds cues, instruction and number words without code, see
`register`.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from bestofl_lib.text import nearest

PIVOT = "en"  # what models mix into every language, and what the field compares with
FILES = "BESTOFL_LANGUAGE_FILES"  # language files that a process takes up when it starts, see `use_language_file`
P = ParamSpec("P")
T = TypeVar("T")
_FOLDER = Path(__file__).with_name("language_records")
_SHARED_CODES = {"tl": "fil", "iw": "he", "in": "id", "mo": "ro"}  # retired codes -> today's
_ZEROS = {
    "arab": "٠", "arabext": "۰", "beng": "০", "deva": "०", "gujr": "૦", "guru": "੦", "khmr": "០", "knda": "೦",
    "laoo": "໐", "mlym": "൦", "mymr": "၀", "orya": "୦", "tamldec": "௦", "telu": "౦", "thai": "๐", "tibt": "༠",
}  # fmt: skip


@dataclass(frozen=True)
class Language:
    """What the project knows about one language; a language file has the same fields, `code` added."""

    code: str  # ISO 639-1, else 639-3
    name: str  # English name, for axes and prose
    endonym: str  # the language's name in itself
    script: str  # ISO 15924
    resource: str  # "high", "low" or "unstated": claims about high-resource languages use the first
    answer_line: str  # how a solution ends; {answer} is the number
    instruction: str  # asks a chat model to reason in this language and to end with answer_line
    wordings: tuple[str, ...] = ()  # the same instruction in other words, quoting the answer line alike
    opening: str = ""  # how a solution begins, to be put into a model's mouth so that it thinks in this language
    # What follows is for reading answers. A model mixes languages, so words are tried in the question's language,
    # then in English, then in all others.
    decimal: str = "."  # decimal mark of plain prose
    groups: str = ","  # marks and spaces that group thousands in plain prose
    zero: str = "0"  # zero of the script's own digits; nine follow it in Unicode
    cues: tuple[str, ...] = ()  # words that announce an answer, lower case
    # words that head an explanation more often than an answer: cues only where no other is
    headings: tuple[str, ...] = ()
    copulas: tuple[str, ...] = ()  # words that may stand between a cue and its number
    conclusions: tuple[str, ...] = ()  # words that open a concluding sentence: a weaker hint than a cue
    either: tuple[str, ...] = ()  # "or" between two offered numbers
    both: tuple[str, ...] = ()  # "and" between the parts of a compound amount: 1 hour and 35 minutes
    per: tuple[str, ...] = ()  # words behind a unit that make its number a rate's denominator: 1人あたり18円
    scales: tuple[tuple[str, int], ...] = ()  # words that multiply the number before them
    leading_scales: tuple[tuple[str, int], ...] = ()  # words that multiply the number after them
    halves: tuple[str, ...] = ()  # words that add one half to the number before them, perhaps behind its unit
    after_halves: tuple[str, ...] = ()  # words that may run on behind such a half without changing it
    leading_halves: tuple[str, ...] = ()  # words that add one half to the number after them
    fractions: tuple[tuple[str, str], ...] = ()  # words that are a fraction by themselves
    parts: tuple[tuple[str, int], ...] = ()  # words that divide the number word before them: two thirds
    currencies: tuple[str, ...] = ()  # currency words that may stand before a number
    number_words: tuple[tuple[str, int], ...] = ()  # spellings that num2words does not know
    cases: tuple[str, ...] = ()  # grammatical cases of number words, as num2words names them
    compound_numbers: bool = False  # number words are written as one word: fünftausendsechshundert
    spelled: bool = True  # whether the number words of num2words are read; not where endings change them too much
    joins: tuple[str, ...] = ()  # "and" within a number in words: two hundred and five
    grammar: tuple[tuple[str, object], ...] = ()  # number words by table where num2words has none, see numbers/words.py
    negatives: tuple[str, ...] = ()  # "minus" in words
    ranges: tuple[tuple[str, str], ...] = ()  # words around a range: (between, and), ("", to)
    refusals: tuple[str, ...] = ()  # words of a sentence that gives no answer: cannot be determined
    smaller_units: tuple[str, ...] = ()  # units before their number: 64 dollars "na senti 50"
    right_to_left: bool = False
    generic: bool = False  # made from CLDR's data: numbers are known, cues are English's and the common marks

    @property
    def runs_on(self) -> bool:
        """Whether words are not parted by spaces or have endings attached, so that a number runs on into other
        words.
        """
        return self.script not in ("Latn", "Cyrl", "Grek", "Arab", "Hebr", "Deva")


class _Languages(dict[str, Language]):
    """The records written by hand and registered, by code; a lookup of any other CLDR language makes its generic
    record.

    Only what is written by hand or registered is counted, iterated and found by `in`.
    """

    def __missing__(self, code: str) -> Language:
        record = _generic(code)
        if record is None:
            raise KeyError(code)
        return record


_REMEMBERED: list[Any] = []


def remembered(function: Callable[P, T]) -> Callable[P, T]:
    """Like `functools.cache`, for what is made from records: forgotten when a record is added."""
    cached = cache(function)
    _REMEMBERED.append(cached)
    return cached  # type: ignore[return-value]


def register(path: str | Path) -> Language:
    """Add the language of a TOML file, or replace its record, for this process.

    The file has the fields of `Language`, `code` among them. What it leaves out is taken from the record written by
    hand, else from CLDR's data.

    Raises:
        OSError: the file cannot be read.
        ValueError: naming the file and the field that is unknown or of another kind.
    """
    data = _toml(Path(path))
    code = data.get("code")
    if not isinstance(code, str) or not re.fullmatch("[a-z]{2,3}", code):
        found = f", line {_line_of(path, 'code')}: code is {code!r}" if "code" in data else " has no code"
        raise ValueError(f'{path}{found}; expected two or three small letters, such as code = "yo"')
    base = LANGUAGES.get(code) or _generic(code)
    known = {f.name: getattr(base, f.name) for f in fields(Language)} if base else {}
    values = _values(data, str(path))
    line = values.get("answer_line", known.get("answer_line", "{answer}"))
    if line.count("{answer}") != 1 or line.replace("{answer}", "").count("{"):
        raise ValueError(
            f"{path}, line {_line_of(path, 'answer_line')}: answer_line needs {{answer}} once, found {line!r}"
        )
    record = _record(code, known | {"generic": False} | values, str(path))
    LANGUAGES[code] = record
    _forget_patterns()
    return record


def use_language_file(path: str | Path) -> None:
    """Add the language of a file for this process and all that it starts; an empty path adds nothing.

    Raises:
        OSError: the file cannot be read.
        ValueError: as `register`.
    """
    if not str(path):
        return
    register(path)
    known = os.environ.get(FILES, "").split(os.pathsep)
    full = str(Path(path).resolve())
    os.environ[FILES] = os.pathsep.join([*(name for name in known if name and name != full), full])


def forget(code: str) -> None:
    """Drop a registered record: what is written by hand or generic counts again."""
    LANGUAGES.pop(code, None)
    LANGUAGES.update({record.code: record for record in _by_hand() if record.code == code})
    _forget_patterns()


def _forget_patterns() -> None:
    for made in _REMEMBERED:
        made.cache_clear()


def english_name(code: str) -> str:
    """The English name of a language, or the code itself where the name is unknown.

    >>> english_name("sw"), english_name("yo"), english_name("xx")
    ('Swahili', 'Yoruba', 'xx')
    """
    return LANGUAGES[code].name if is_language(code) else code


def is_language(code: str) -> bool:
    """Whether there is a record of this code, written by hand, registered or generic."""
    return code in LANGUAGES or _generic(code) is not None


def code_of(name: str) -> str | None:
    """The code of a language by its code, its ISO 639-2 or 639-3 code, a retired code, its English name or its own
    name.

    >>> code_of("swa"), code_of("Thai"), code_of("Deutsch"), code_of("tl"), code_of("Klingonese")
    ('sw', 'th', 'de', 'fil', None)
    """
    lowered = name.strip().lower()
    if is_language(lowered):
        return lowered
    from babel.core import get_global

    for found in (_names().get(lowered), get_global("language_aliases").get(lowered), _SHARED_CODES.get(lowered)):
        if found and is_language(found):
            return str(found)
    return None


@remembered
def _names() -> dict[str, str]:
    """English and own names of languages, in lower case -> their code."""
    from babel import Locale

    names = {name.lower(): key for key, name in Locale.parse(PIVOT).languages.items()}
    return names | {record.endonym.lower(): key for key, record in LANGUAGES.items()}


def language(code: str) -> Language:
    """The record of one language.

    Raises:
        ValueError: naming the code, its likely meaning and the codes that are known.

    >>> language("ta").name, language("yo").generic
    ('Tamil', True)
    """
    if isinstance(code, str) and is_language(code):
        return LANGUAGES[code]
    guess = _meant(str(code))
    hint = f"did you mean {guess!r} ({LANGUAGES[guess].name})? " if guess else ""
    raise ValueError(
        f"unknown language {code!r}; {hint}languages are ISO 639-1 codes, in YAML quoted; known: "
        f"{', '.join(LANGUAGES)} "
        "and every other language of CLDR; one that CLDR lacks is added by a language file (see "
        "bestofl_lib/languages.py)"
    )


def check_languages(codes: Iterable[str]) -> list[str]:
    """The codes as a list, each known and none twice.

    Raises:
        ValueError: naming the first unknown or repeated code, or an empty list.
    """
    checked = [language(code).code for code in codes]
    repeated = sorted({code for code in checked if checked.count(code) > 1})
    if repeated:
        raise ValueError(f"languages named twice: {', '.join(repeated)}")
    if not checked:
        raise ValueError(f"no languages given; known: {', '.join(LANGUAGES)}")
    return checked


def in_order(codes: Iterable[str]) -> list[str]:
    """Codes in the order of the records, those without one behind them by the alphabet; each once."""
    found = set(codes)
    return [code for code in LANGUAGES if code in found] + sorted(found - set(LANGUAGES))


def needing_fonts() -> list[str]:
    """One language written by hand for each script that a plain system often has no font for."""
    plain = ("Latn", "Cyrl", "Grek")
    return list({r.script: code for code, r in reversed(LANGUAGES.items()) if r.script not in plain}.values())


def _by_hand() -> Iterator[Language]:
    for path in sorted(_FOLDER.glob("*.toml")):
        yield _record(path.stem, _values(_toml(path), path.name), path.name)


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {error}; see bestofl_lib/language_records for examples") from error


def _values(data: dict[str, Any], name: str) -> dict[str, Any]:
    """Lists and tables of a file as the tuples that a record holds."""
    known = {f.name: f for f in fields(Language)}
    made: dict[str, Any] = {}
    for key, value in data.items():
        if key not in known:
            near = nearest(key, known)
            raise ValueError(
                f"{name}, line {_line_of(name, key)}: there is no field {key!r}; "
                f"{f'did you mean {near!r}? ' if near else ''}fields: {', '.join(known)}"
            )
        kind = str(known[key].type)
        fits = {
            "str": isinstance(value, str),
            "bool": isinstance(value, bool),
            "tuple[str, ...]": isinstance(value, list) and all(isinstance(v, str) for v in value),
            "tuple[tuple[str, str], ...]": isinstance(value, dict | list),
        }.get(kind, isinstance(value, dict))
        if not fits:
            raise ValueError(
                f"{name}, line {_line_of(name, key)}: {key} is {str(value)[:60]!r}; expected "
                f"{_SPOKEN.get(kind, 'a table')}"
            )
        if isinstance(value, dict):
            value = tuple((k, tuple(v) if isinstance(v, list) else v) for k, v in value.items())
        elif isinstance(value, list):
            value = tuple(tuple(v) if isinstance(v, list) else v for v in value)
        made[key] = value
    return made


_SPOKEN = {"str": "a text", "bool": "true or false", "tuple[str, ...]": "a list of texts"}


def _line_of(path: str | Path, key: str) -> int:
    """The line of a TOML file that sets a field; 1 where it cannot be told."""
    file = Path(path) if Path(path).exists() else _FOLDER / path
    for number, line in enumerate(file.read_text("utf8").splitlines() if file.exists() else [], 1):
        if re.match(rf"\s*\[?\s*[\"']?{re.escape(key)}[\"']?\s*[\].=]", line):
            return number
    return 1


def _record(code: str, values: dict[str, Any], name: str) -> Language:
    values = values | {"code": code}
    lacking = [f.name for f in fields(Language)[:7] if f.name not in values]
    if lacking:
        raise ValueError(f"{name} lacks {', '.join(lacking)}, and CLDR does not know {code!r}")
    return Language(**values)


@cache
def _generic(code: str) -> Language | None:
    """A record from CLDR's data; None where CLDR does not know the code."""
    from babel import Locale, UnknownLocaleError
    from babel.core import get_global

    if (
        not code.isascii()
        or not code.isalpha()
        or not code.islower()
        or len(code) not in (2, 3)
        or code in _SHARED_CODES
    ):
        return None
    try:
        locale, name = Locale.parse(code), Locale.parse(PIVOT).languages.get(code)
    except (UnknownLocaleError, ValueError):
        return None
    if name is None:
        return None
    subtags = str(get_global("likely_subtags").get(code, "")).split("_")
    script = next((part for part in subtags if len(part) == 4), "Latn")
    symbols: Any = locale.number_symbols.get("latn") or next(iter(locale.number_symbols.values()), {})
    group = str(symbols.get("group", ","))
    return Language(
        code,
        name,
        locale.languages.get(code) or name,
        script,
        "unstated",
        "Answer: {answer}",
        f"Solve the following problem step by step in {name}. Write as the last line: “Answer: …”",
        decimal="," if symbols.get("decimal") == "," else ".",
        groups=group if group in ".," else f"{group}\u00a0\u202f.",
        zero=_ZEROS.get(locale.default_numbering_system, "0"),
        right_to_left=locale.character_order == "right-to-left",
        generic=True,
    )


def _meant(code: str) -> str | None:
    """The code that was probably meant: what `code_of` makes of it, its first part, or a likely misprint."""
    lowered = code.strip().lower().replace("_", "-")
    found = code_of(code) or code_of(lowered.split("-")[0])
    return found or nearest(lowered, LANGUAGES, 0.5)


LANGUAGES: dict[str, Language] = _Languages((record.code, record) for record in _by_hand())
for _path in filter(None, os.environ.get(FILES, "").split(os.pathsep)):
    register(_path)
