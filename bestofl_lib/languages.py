"""What the project knows about each language: one record each.

A new language is one new record here (and rows in the test tables). Nothing else in the project
branches on a language code.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Language:
    """What the project knows about one language."""

    code: str  # ISO 639-1
    name: str  # English name, for axes and prose
    endonym: str  # the language's name in itself
    script: str  # ISO 15924
    resource: str  # "high" or "low": the protocol's H2 speaks of high-resource languages
    answer_line: str  # how a solution ends; {answer} is the number
    instruction: str  # asks a chat model to reason in this language and to end with answer_line


_RECORDS = (
    Language(
        "bn", "Bengali", "বাংলা", "Beng", "low",
        "উত্তর হল {answer}।",
        "নিচের অঙ্কটি ধাপে ধাপে বাংলায় সমাধান করুন। শেষ লাইনে লিখুন: «উত্তর হল …।»",
    ),
    Language(
        "de", "German", "Deutsch", "Latn", "high",
        "Die Antwort lautet {answer}.",
        "Löse die folgende Aufgabe Schritt für Schritt auf Deutsch. Schreibe als letzte Zeile: „Die Antwort lautet ….“",
    ),
    Language(
        "en", "English", "English", "Latn", "high",
        "The answer is {answer}.",
        "Solve the following problem step by step in English. Write as the last line: “The answer is ….”",
    ),
    Language(
        "es", "Spanish", "español", "Latn", "high",
        "La respuesta es {answer}.",
        "Resuelve el siguiente problema paso a paso en español. Escribe como última línea: «La respuesta es ….»",
    ),
    Language(
        "fr", "French", "français", "Latn", "high",
        "La réponse est {answer}.",
        "Résous le problème suivant étape par étape en français. Écris en dernière ligne : « La réponse est …. »",
    ),
    Language(
        "ja", "Japanese", "日本語", "Jpan", "high",
        "答えは{answer}です。",
        "次の問題を日本語で順を追って解いてください。最後の行には「答えは…です。」と書いてください。",
    ),
    Language(
        "ru", "Russian", "русский", "Cyrl", "high",
        "Ответ: {answer}.",
        "Реши следующую задачу по шагам на русском языке. Последней строкой напиши: «Ответ: ….»",
    ),
    Language(
        "sw", "Swahili", "Kiswahili", "Latn", "low",
        "Jibu ni {answer}.",
        "Tatua swali lifuatalo hatua kwa hatua kwa Kiswahili. Katika mstari wa mwisho andika: “Jibu ni ….”",
    ),
    Language(
        "te", "Telugu", "తెలుగు", "Telu", "low",
        "సమాధానం {answer}.",
        "కింది లెక్కను తెలుగులో దశలవారీగా సాధించండి. చివరి వరుసలో ఇలా రాయండి: “సమాధానం ….”",
    ),
    Language(
        "th", "Thai", "ไทย", "Thai", "low",
        "คำตอบคือ {answer}",
        "จงแก้โจทย์ต่อไปนี้ทีละขั้นตอนเป็นภาษาไทย และเขียนบรรทัดสุดท้ายว่า “คำตอบคือ …”",
    ),
    Language(
        "zh", "Chinese", "中文", "Hans", "high",
        "答案是{answer}。",
        "请用中文一步一步地解答下面的问题。最后一行请写：“答案是…。”",
    ),
)

LANGUAGES: dict[str, Language] = {record.code: record for record in _RECORDS}


def language(code: str) -> Language:
    """The record of one language.

    Raises:
        ValueError: naming the code, its likely meaning and the codes that are known.
    """
    if code in LANGUAGES:
        return LANGUAGES[code]
    names = {record.name.lower(): record.code for record in _RECORDS} | {
        record.endonym.lower(): record.code for record in _RECORDS
    }
    lowered = str(code).lower()
    guess = names.get(lowered) or next(
        iter(difflib.get_close_matches(lowered, LANGUAGES, n=1, cutoff=0.5)), None
    )
    hint = f"did you mean {guess!r} ({LANGUAGES[guess].name})? " if guess else ""
    raise ValueError(
        f"unknown language {code!r}; {hint}languages are ISO 639-1 codes, in YAML quoted; "
        f"known: {', '.join(LANGUAGES)}; a new one is added in bestofl_lib/languages.py"
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
