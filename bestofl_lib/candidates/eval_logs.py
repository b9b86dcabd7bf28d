"""Reads completions out of the logs of evaluation tools: inspect_ai, and lm-evaluation-harness with --log_samples.

The files are read as the JSON that they are; the tools need not be installed. What comes out has the columns `ROWS`,
which `pools.py` turns into candidates. It does not grade: the tools' own scores are not read.
"""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from bestofl_lib.languages import LANGUAGES
from bestofl_lib.numbers.references import number_text
from bestofl_lib.problems.files import read_text, whole

ROWS = pl.Schema(  # one row per completion
    {
        "problem_id": pl.String,
        "language": pl.String,  # null where neither log nor file name says
        "completion": pl.String,  # null where the tool noted an error
        "reference": pl.String,
        "question": pl.String,
        "model": pl.String,
        "condition": pl.String,  # the task without its language
        "sample_index": pl.Int64,
        "n_tokens": pl.Int64,
        "logprob": pl.Float64,
        "finish_reason": pl.String,
    }
)
_ZSTD = 93  # zip's number for Zstandard


# -- inspect_ai ------------------------------------------------------------------------------------------------------


def is_log(path: Path) -> bool:
    """Whether a .json file begins as inspect_ai's logs do."""
    if path.suffix != ".json" or not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(4000)
    return b'"eval"' in start and b'"version"' in start


def inspect_rows(path: Path) -> list[dict[str, Any]]:
    """The completions of one inspect_ai log, `.eval` or `.json`; an epoch is a sample.

    The language is a sample's metadata `language` or `lang`, else the task's argument or metadata of that name, else a
    code in the task's name, such as `mgsm_de`. The id is the metadata `problem_id`, else the sample's id without a
    language code in it: `de-017` and `fr-017` are one problem. Reasoning goes before the text, between think tags.

    Raises:
        ValueError: the file is no log, is damaged, or holds no samples.
    """
    header, samples = _eval_parts(path) if path.suffix == ".eval" else _json_parts(path)
    about = header["eval"]
    told = {**(about.get("metadata") or {}), **(about.get("task_args") or {})}
    task = str(about.get("task_display_name") or about.get("task") or "").split("/")[-1]
    named, condition = split_language(task)
    rows = []
    for sample in samples:
        metadata = sample.get("metadata") or {}
        language = next((str(m[k]) for m in (metadata, told) for k in ("language", "lang") if m.get(k)), named)
        problem = str(metadata.get("problem_id") or sample["id"])
        if not metadata.get("problem_id") and language:
            problem = without_language(problem, language)
        shared = {
            "problem_id": problem,
            "language": language,
            "reference": _first(sample.get("target")),
            "question": _asked(sample.get("input")),
            "model": about.get("model"),
            "condition": condition,
        }
        output = sample.get("output") or {}
        choices = output.get("choices") or [{}]
        for place, choice in enumerate(choices):
            whole_output = len(choices) == 1
            rows.append(
                shared
                | {
                    "completion": _written(choice, sample),
                    "sample_index": (int(sample.get("epoch") or 1) - 1) * len(choices) + place,
                    "n_tokens": (output.get("usage") or {}).get("output_tokens") if whole_output else None,
                    "logprob": _summed((choice.get("logprobs") or {}).get("content")),
                    "finish_reason": choice.get("stop_reason"),
                }
            )
    if not rows:
        raise ValueError(f"{path}: the log holds no samples; run the evaluation with log_samples")
    return whole(rows)


def _eval_parts(path: Path) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
    try:
        file = zipfile.ZipFile(path)
        names = file.namelist()
        first = next((name for name in ("header.json", "_journal/start.json") if name in names), None)
        if first is None:
            raise ValueError(f"{path} is a zip file but not a log of inspect_ai: it has no header.json")
        header = json.loads(_member(file, first))
    except (zipfile.BadZipFile, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} is not a complete log of inspect_ai ({error}); copy it again, or recover it with inspect"
        ) from error
    _check_header(header, path)

    def samples() -> Iterator[dict[str, Any]]:
        for name in names:
            if name.startswith("samples/") and name.endswith(".json"):
                try:
                    yield json.loads(_member(file, name))
                except (zipfile.BadZipFile, json.JSONDecodeError) as error:
                    raise ValueError(
                        f"{path}: {name} is damaged ({error}); remove it from the file or rerun"
                    ) from error

    return header, samples()


def _json_parts(path: Path) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
    try:
        log = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not a complete JSON file ({error}); copy it again") from error
    _check_header(log, path)
    return log, iter(log.get("samples") or [])


def _check_header(log: Any, path: Path) -> None:
    if not isinstance(log, dict) or "model" not in (log.get("eval") or {}):
        raise ValueError(
            f"{path}: expected a log of inspect_ai (an object with 'eval' and 'samples'); "
            "other completions go into .jsonl, .csv or .parquet, one row each"
        )


def _member(file: zipfile.ZipFile, name: str) -> bytes:
    """One file of a zip archive, also where it is packed with Zstandard, which zipfile learns in Python 3.14 only."""
    about = file.getinfo(name)
    if about.compress_type != _ZSTD:
        return file.read(name)
    import zstandard

    archive = file.fp
    if archive is None:
        raise ValueError(f"{file.filename} is closed")
    archive.seek(about.header_offset)
    start = archive.read(30)
    if len(start) < 30 or start[:4] != b"PK\x03\x04":
        raise zipfile.BadZipFile(f"{name} has no header")
    name_length, extra_length = struct.unpack("<HH", start[26:30])
    archive.seek(name_length + extra_length, io.SEEK_CUR)
    packed = archive.read(about.compress_size)
    try:
        with zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True) as stream:
            data = stream.read()
    except zstandard.ZstdError as error:
        raise zipfile.BadZipFile(f"{name}: {error}") from error
    if zlib.crc32(data) != about.CRC:
        raise zipfile.BadZipFile(f"{name} has another checksum than noted")
    return data


def _written(choice: dict[str, Any], sample: dict[str, Any]) -> str | None:
    """What the model wrote, or None where the sample failed before it wrote anything."""
    content = (choice.get("message") or {}).get("content")
    if content is None:
        return None
    if sample.get("error") and not content:
        return None
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    texts = []
    for part in parts:
        if part.get("type") == "reasoning":
            reasoning = part.get("reasoning") or part.get("summary") or ""
            texts.append(f"<think>\n{_attached(reasoning, sample)}\n</think>\n\n")
        elif part.get("type") == "text":
            texts.append(_attached(part.get("text") or "", sample))
    return "".join(texts)


def _attached(text: str, sample: dict[str, Any]) -> str:
    """Long texts are stored once, among the sample's attachments."""
    mark = "attachment://"
    return (sample.get("attachments") or {}).get(text.removeprefix(mark), text) if text.startswith(mark) else text


def _asked(question: Any) -> str | None:
    """The question as text: the last thing that a user says."""
    if isinstance(question, list):
        said = [message for message in question if message.get("role") == "user"]
        question = said[-1].get("content") if said else None
    if isinstance(question, list):
        question = "\n".join(part.get("text") or "" for part in question if part.get("type") == "text")
    return question


def _first(target: Any) -> str | None:
    if isinstance(target, list):
        target = target[0] if target else None
    return None if target is None else _reference(target)


def _reference(value: Any) -> str:
    """A reference as text; a number in the log keeps its value, however it would be written."""
    return number_text(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _summed(tokens: Any) -> float | None:
    values = [token.get("logprob") for token in tokens or []]
    return sum(values) if values and all(value is not None for value in values) else None


# -- lm-evaluation-harness -------------------------------------------------------------------------------------------


def lm_eval_rows(lines: list[dict[str, Any]], path: Path) -> list[dict[str, Any]]:
    """The completions of one samples_<task>_<date>.jsonl of `lm_eval --log_samples`; repeats are samples.

    A document occurs once per filter in the file; its completions are the same each time and count once. The language
    is the document's `language` or `lang`, else a code in the task's name, such as `mgsm_native_cot_de`. The model is
    named in the results_<date>.json beside, else by the folder.

    Raises:
        ValueError: the task compares likelihoods, so that there are no completions.
    """
    task = re.sub(r"^samples_|_\d{4}-\d\d-\d\dT.*$", "", path.stem)
    named, condition = split_language(task)
    model = _lm_eval_model(path)
    rows, seen = [], set()
    for line in lines:
        if line["doc_id"] in seen:
            continue
        seen.add(line["doc_id"])
        document = line["doc"] if isinstance(line["doc"], dict) else {}
        completions = [
            text for request in line["resps"] for text in (request if isinstance(request, list) else [request])
        ]
        if not all(isinstance(text, str) for text in completions):
            raise ValueError(
                f"{path}: document {line['doc_id']} has likelihoods, not completions; only generate_until tasks make a "
                "pool"
            )
        language = next((str(document[key]) for key in ("language", "lang") if document.get(key)), named)
        reference = next(
            (document[key] for key in ("answer_number",) if document.get(key) is not None), line.get("target")
        )
        question = next((document[k] for k in ("question", "query", "m_query", "problem") if document.get(k)), None)
        for place, text in enumerate(completions):
            rows.append(
                {
                    "problem_id": str(document.get("problem_id") or line["doc_id"]),
                    "language": language,
                    "completion": text,
                    "reference": None if reference is None else _reference(reference),
                    "question": question,
                    "model": model,
                    "condition": condition,
                    "sample_index": place,
                }
            )
    return rows


def _lm_eval_model(path: Path) -> str:
    for results in sorted(path.parent.glob("results_*.json"), reverse=True):
        name = json.loads(read_text(results)).get("model_name")
        if name:
            return str(name)
    return path.parent.name.replace("__", "/")


# -- languages in names ----------------------------------------------------------------------------------------------


def split_language(name: str) -> tuple[str | None, str]:
    """The language code that is a separate word of a name (the last if several), and the name without it.

    >>> split_language("mgsm_native_cot_de"), split_language("gsm8k")
    (('de', 'mgsm_native_cot'), (None, 'gsm8k'))
    """
    words = re.split(r"[_\-. ]", name)
    found = next((word for word in reversed(words) if word in LANGUAGES), None)
    return found, without_language(name, found) if found else name


def without_language(name: str, code: str) -> str:
    """The name without a language code that is a word of it, and without the mark next to it.

    >>> without_language("mgsm_de_017", "de"), without_language("de-17", "de"), without_language("model", "de")
    ('mgsm_017', '17', 'model')
    """
    return re.sub(rf"^{re.escape(code)}[_\-. ]+|[_\-. ]+{re.escape(code)}(?=[_\-. ]|$)", "", name) or name
