"""What the project knows about each language: one record each.

A new language is one new record here (and rows in the test tables). Nothing else in the project
branches on a language code.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bestofl_lib.text import nearest


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
    # What follows is for reading answers. A model mixes languages, so words are tried in the question's language,
    # then in English, then in all others.
    decimal: str = "."  # decimal mark of plain prose
    groups: str = ","  # marks and spaces that group thousands in plain prose
    zero: str = "0"  # zero of the script's own digits; nine follow it in Unicode
    cues: tuple[str, ...] = ()  # words that announce an answer, lower case
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

    @property
    def runs_on(self) -> bool:
        """Whether words are not parted by spaces or have endings attached, so that a number runs on into other words."""
        return self.script not in ("Latn", "Cyrl")


_RECORDS = (
    Language(
        "bn",
        "Bengali",
        "বাংলা",
        "Beng",
        "low",
        "উত্তর হল {answer}।",
        "নিচের অঙ্কটি ধাপে ধাপে বাংলায় সমাধান করুন। শেষ লাইনে লিখুন: «উত্তর হল …।»",
        zero="০",
        cues=("উত্তর", "ফলাফল", "চূড়ান্ত উত্তর", "সমাধান"),
        copulas=("হল", "হলো", "হ'ল", "হচ্ছে", "হবে", "হয়", "হয়", "সমান", "প্রায়", "প্রায়", "মোট"),
        conclusions=("সুতরাং", "অতএব", "তাই", "তাহলে"),
        either=("বা", "অথবা"),
        both=("এবং", "ও"),
        scales=(("হাজার", 10**3), ("লাখ", 10**5), ("লক্ষ", 10**5), ("মিলিয়ন", 10**6), ("মিলিয়ন", 10**6), ("কোটি", 10**7)),
        currencies=("টাকা", "ডলার"),
        leading_halves=("সাড়ে",),
        fractions=(("আড়াই", "5/2"), ("দেড়", "3/2"), ("অর্ধেক", "1/2")),
        number_words=(("আঠার", 18), ("দুই শত", 200), ("দুইশো", 200), ("একশ", 100), ("একশো", 100), ("একশত", 100)),
    ),
    Language(
        "de",
        "German",
        "Deutsch",
        "Latn",
        "high",
        "Die Antwort lautet {answer}.",
        "Löse die folgende Aufgabe Schritt für Schritt auf Deutsch. Schreibe als letzte Zeile: „Die Antwort lautet ….“",
        decimal=",",
        groups=".\u00a0\u202f '",
        cues=("antwort", "endantwort", "ergebnis", "endergebnis", "lösung", "endlösung", "resultat"),
        copulas=(
            "ist",
            "lautet",
            "beträgt",
            "wäre",
            "sind",
            "also",
            "gleich",
            "ungefähr",
            "etwa",
            "rund",
            "genau",
            "daher",
            "somit",
        ),
        conclusions=("daher", "somit", "folglich", "also", "insgesamt", "deshalb"),
        either=("oder",),
        both=("und",),
        scales=(
            ("tausend", 10**3),
            ("tsd.", 10**3),
            ("millionen", 10**6),
            ("million", 10**6),
            ("mio.", 10**6),
            ("milliarden", 10**9),
            ("milliarde", 10**9),
            ("mrd.", 10**9),
        ),
        currencies=("euro",),
        halves=("einhalb", "und ein halb", "und eine halbe"),
        fractions=(("anderthalb", "3/2"), ("eineinhalb", "3/2"), ("ein halb", "1/2"), ("die hälfte", "1/2")),
        parts=(("drittel", 3), ("viertel", 4), ("fünftel", 5), ("sechstel", 6), ("achtel", 8), ("zehntel", 10)),
        number_words=(("ein", 1), ("eine", 1), ("einen", 1), ("zwo", 2), ("hundert", 100), ("tausend", 1000)),
        compound_numbers=True,
    ),
    Language(
        "en",
        "English",
        "English",
        "Latn",
        "high",
        "The answer is {answer}.",
        "Solve the following problem step by step in English. Write as the last line: “The answer is ….”",
        cues=("answer", "final answer", "result", "solution"),
        copulas=(
            "is",
            "are",
            "was",
            "would be",
            "will be",
            "be",
            "should be",
            "must be",
            "equals",
            "equal to",
            "comes to",
            "therefore",
            "thus",
            "indeed",
            "still",
            "simply",
            "now",
            "about",
            "approximately",
            "roughly",
            "exactly",
            "then",
            "a total of",
        ),
        conclusions=("therefore", "thus", "hence", "so", "in total", "in conclusion", "consequently"),
        either=("or",),
        both=("and",),
        scales=(
            ("thousand", 10**3),
            ("hundred", 100),
            ("million", 10**6),
            ("billion", 10**9),
            ("trillion", 10**12),
            ("lakhs", 10**5),
            ("lakh", 10**5),
            ("crores", 10**7),
            ("crore", 10**7),
        ),
        currencies=(
            "us",
            "usd",
            "eur",
            "gbp",
            "rs.",
            "rs",
            "inr",
            "jpy",
            "cny",
            "rmb",
            "rub",
            "thb",
            "tzs",
            "kes",
            "bdt",
        ),
        halves=("and a half", "and one half"),
        fractions=(("one half", "1/2"), ("one-half", "1/2"), ("a half", "1/2"), ("half", "1/2")),
        parts=(
            ("third", 3),
            ("thirds", 3),
            ("quarter", 4),
            ("quarters", 4),
            ("fourth", 4),
            ("fourths", 4),
            ("fifth", 5),
            ("fifths", 5),
            ("sixth", 6),
            ("sixths", 6),
            ("eighth", 8),
            ("eighths", 8),
            ("tenth", 10),
            ("tenths", 10),
        ),
        number_words=(("a hundred", 100), ("a thousand", 1000), ("a dozen", 12), ("zero", 0)),
    ),
    Language(
        "es",
        "Spanish",
        "español",
        "Latn",
        "high",
        "La respuesta es {answer}.",
        "Resuelve el siguiente problema paso a paso en español. Escribe como última línea: «La respuesta es ….»",
        decimal=",",
        groups=".\u00a0\u202f ",
        cues=("respuesta", "respuesta final", "resultado", "solución"),
        copulas=(
            "es",
            "es el",
            "son",
            "sería",
            "será",
            "es de",
            "correcta",
            "final",
            "igual a",
            "aproximadamente",
            "unos",
            "unas",
            "por lo tanto",
            "entonces",
        ),
        conclusions=("por lo tanto", "por tanto", "entonces", "así que", "así", "en total", "luego"),
        either=("o", "ó", "u"),
        both=("y", "e", "con"),
        scales=(("mil", 10**3), ("millones", 10**6), ("millón", 10**6)),
        halves=("y medio", "y media"),
        fractions=(("la mitad", "1/2"), ("medio", "1/2"), ("media", "1/2")),
        parts=(
            ("tercio", 3),
            ("tercios", 3),
            ("cuarto", 4),
            ("cuartos", 4),
            ("quinto", 5),
            ("quintos", 5),
            ("décimo", 10),
            ("décimos", 10),
        ),
        number_words=(
            ("un", 1),
            ("una", 1),
            ("veintiún", 21),
            ("veintiuna", 21),
            ("doscientas", 200),
            ("trescientas", 300),
            ("cuatrocientas", 400),
            ("quinientas", 500),
            ("seiscientas", 600),
            ("setecientas", 700),
            ("ochocientas", 800),
            ("novecientas", 900),
        ),
    ),
    Language(
        "fr",
        "French",
        "français",
        "Latn",
        "high",
        "La réponse est {answer}.",
        "Résous le problème suivant étape par étape en français. Écris en dernière ligne : « La réponse est …. »",
        decimal=",",
        groups="\u202f\u00a0 .",
        cues=("réponse", "réponse finale", "résultat", "solution"),
        copulas=(
            "est",
            "est de",
            "est donc",
            "donc",
            "sont",
            "serait",
            "sera",
            "vaut",
            "finale",
            "correcte",
            "égale à",
            "égal à",
            "environ",
            "exactement",
        ),
        conclusions=("donc", "ainsi", "par conséquent", "au total", "alors"),
        either=("ou",),
        both=("et",),
        scales=(("mille", 10**3), ("millions", 10**6), ("million", 10**6), ("milliards", 10**9), ("milliard", 10**9)),
        halves=("et demi", "et demie"),
        fractions=(("la moitié", "1/2"), ("un demi", "1/2"), ("une demie", "1/2"), ("une demi", "1/2")),
        parts=(
            ("tiers", 3),
            ("quart", 4),
            ("quarts", 4),
            ("cinquième", 5),
            ("cinquièmes", 5),
            ("dixième", 10),
            ("dixièmes", 10),
        ),
        number_words=(("une", 1), ("vingt-et-un", 21), ("vingt et une", 21), ("quatre-vingt", 80), ("cents", 100)),
    ),
    Language(
        "ja",
        "Japanese",
        "日本語",
        "Jpan",
        "high",
        "答えは{answer}です。",
        "次の問題を日本語で順を追って解いてください。最後の行には「答えは…です。」と書いてください。",
        zero="０",
        cues=("答え", "答", "解答", "回答", "最終的な答え", "結果", "正解"),
        copulas=("は", "が", "約", "およそ", "合計", "、", "すなわち", "つまり", "次の通り"),
        conclusions=("したがって", "よって", "従って", "ゆえに", "だから", "つまり"),
        either=("または", "か", "もしくは"),
        both=("と",),
        per=("あたり", "当たり", "につき"),
        scales=(("百", 100), ("千", 10**3), ("万", 10**4), ("億", 10**8), ("兆", 10**12)),
        halves=("半",),
        after_halves=("です", "だ", "で"),
        fractions=(("半分", "1/2"),),
    ),
    Language(
        "ru",
        "Russian",
        "русский",
        "Cyrl",
        "high",
        "Ответ: {answer}.",
        "Реши следующую задачу по шагам на русском языке. Последней строкой напиши: «Ответ: ….»",
        decimal=",",
        groups="\u00a0\u202f .",
        cues=("ответ", "окончательный ответ", "результат", "решение", "ответом", "итог", "итого"),
        copulas=(
            "равен",
            "равна",
            "равно",
            "составляет",
            "это",
            "является",
            "будет",
            "такой",
            "около",
            "примерно",
            "приблизительно",
            "ровно",
        ),
        conclusions=("таким образом", "следовательно", "итак", "поэтому", "значит", "всего"),
        either=("или",),
        both=("и",),
        scales=(
            ("тысячи", 10**3),
            ("тысяча", 10**3),
            ("тысяч", 10**3),
            ("тысячу", 10**3),
            ("тыс.", 10**3),
            ("тыс", 10**3),
            ("миллионов", 10**6),
            ("миллиона", 10**6),
            ("миллион", 10**6),
            ("млн", 10**6),
            ("миллиардов", 10**9),
            ("миллиарда", 10**9),
            ("миллиард", 10**9),
            ("млрд", 10**9),
        ),
        halves=("с половиной",),
        fractions=(("полтора", "3/2"), ("полторы", "3/2"), ("половина", "1/2"), ("половину", "1/2")),
        parts=(
            ("треть", 3),
            ("трети", 3),
            ("четверть", 4),
            ("четверти", 4),
            ("пятая", 5),
            ("пятых", 5),
            ("десятая", 10),
            ("десятых", 10),
        ),
        number_words=(("одна", 1), ("одну", 1), ("одно", 1), ("две", 2)),
        cases=("g", "d", "i", "p"),
    ),
    Language(
        "sw",
        "Swahili",
        "Kiswahili",
        "Latn",
        "low",
        "Jibu ni {answer}.",
        "Tatua swali lifuatalo hatua kwa hatua kwa Kiswahili. Katika mstari wa mwisho andika: “Jibu ni ….”",
        cues=("jibu", "majibu", "jawabu", "matokeo", "suluhisho"),
        copulas=(
            "ni",
            "la mwisho",
            "sahihi",
            "la mwisho ni",
            "sahihi ni",
            "litakuwa",
            "ni sawa na",
            "sawa na",
            "takriban",
            "kuwa",
            "jumla ya",
            "jumla",
        ),
        conclusions=("kwa hivyo", "hivyo", "kwa hiyo", "basi", "jumla"),
        either=("au",),
        both=("na",),
        scales=(),
        leading_scales=(("elfu", 10**3), ("laki", 10**5), ("milioni", 10**6), ("bilioni", 10**9)),
        halves=("na nusu",),
        fractions=(("nusu", "1/2"),),
        currencies=("tsh", "ksh", "shilingi", "dola"),
    ),
    Language(
        "te",
        "Telugu",
        "తెలుగు",
        "Telu",
        "low",
        "సమాధానం {answer}.",
        "కింది లెక్కను తెలుగులో దశలవారీగా సాధించండి. చివరి వరుసలో ఇలా రాయండి: “సమాధానం ….”",
        zero="౦",
        cues=("సమాధానం", "జవాబు", "ఫలితం", "తుది సమాధానం"),
        copulas=("అంటే", "ఇది", "దాదాపు", "సుమారు", "మొత్తం", "విలువ"),
        conclusions=("కాబట్టి", "అందువల్ల", "అందుచేత", "కావున"),
        either=("లేదా",),
        both=("మరియు",),
        scales=(
            ("వేలు", 10**3),
            ("వేయిల", 10**3),
            ("వేల", 10**3),
            ("వేయి", 10**3),
            ("లక్షలు", 10**5),
            ("లక్షల", 10**5),
            ("లక్ష", 10**5),
            ("మిలియన్లు", 10**6),
            ("మిలియన్", 10**6),
            ("కోట్లు", 10**7),
            ("కోట్ల", 10**7),
            ("కోటి", 10**7),
        ),
        halves=("న్నర",),
        after_halves=("గం",),
        fractions=(("సగం", "1/2"),),
        number_words=(
            ("సున్నా", 0),
            ("ఐదు", 5),
            ("ఏడు", 7),
            ("పద్దెనిమిది", 18),
            ("పదిహేను", 15),
            ("పదకొండు", 11),
            ("పన్నెండు", 12),
            ("పదమూడు", 13),
            ("పద్నాలుగు", 14),
            ("పదహారు", 16),
            ("పదిహేడు", 17),
            ("పంతొమ్మిది", 19),
            ("వంద", 100),
            ("వెయ్యి", 1000),
        ),
    ),
    Language(
        "th",
        "Thai",
        "ไทย",
        "Thai",
        "low",
        "คำตอบคือ {answer}",
        "จงแก้โจทย์ต่อไปนี้ทีละขั้นตอนเป็นภาษาไทย และเขียนบรรทัดสุดท้ายว่า “คำตอบคือ …”",
        zero="๐",
        cues=("คำตอบ", "คําตอบ", "ตอบ", "ผลลัพธ์", "คำตอบสุดท้าย"),
        copulas=("คือ", "เป็น", "เท่ากับ", "ที่ถูกต้อง", "สุดท้าย", "ประมาณ", "ได้แก่", "ทั้งหมด", "จำนวน", "ว่า"),
        conclusions=("ดังนั้น", "เพราะฉะนั้น", "สรุป", "รวม"),
        either=("หรือ",),
        both=("และ", "กับ"),
        halves=("ครึ่ง",),
        after_halves=("ชั่วโมง",),
        fractions=(("ครึ่งหนึ่ง", "1/2"),),
        number_words=(("เอ็ด", 1),),
        scales=(("ร้อย", 100), ("พัน", 10**3), ("หมื่น", 10**4), ("แสน", 10**5), ("ล้าน", 10**6)),
    ),
    Language(
        "zh",
        "Chinese",
        "中文",
        "Hans",
        "high",
        "答案是{answer}。",
        "请用中文一步一步地解答下面的问题。最后一行请写：“答案是…。”",
        zero="０",
        cues=("答案", "答", "最终答案", "结果", "答复", "解答"),
        copulas=(
            "是",
            "为",
            "為",
            "应该是",
            "应为",
            "就是",
            "等于",
            "约为",
            "大约",
            "约",
            "大约是",
            "共",
            "一共",
            "总共",
            "一共是",
        ),
        conclusions=("因此", "所以", "综上", "总共", "故"),
        either=("或", "或者", "还是"),
        both=("和", "又", "零"),
        halves=("半",),
        after_halves=("小时", "小時", "个月", "的"),
        fractions=(("一半", "1/2"),),
        scales=(("百", 100), ("千", 10**3), ("万", 10**4), ("萬", 10**4), ("亿", 10**8), ("億", 10**8), ("兆", 10**12)),
    ),
)

PIVOT = "en"  # the language that studies compare others with, where a pool holds it
LANGUAGES: dict[str, Language] = {record.code: record for record in _RECORDS}


def english_name(code: str) -> str:
    """The English name of a language, or the code itself where it is not one of ours (in imported pools).

    >>> english_name("sw"), english_name("xx")
    ('Swahili', 'xx')
    """
    return LANGUAGES[code].name if code in LANGUAGES else code


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
    guess = names.get(lowered) or nearest(lowered, LANGUAGES, 0.5)
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
