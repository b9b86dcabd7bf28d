"""Examines the machine: versions, device, disk, fonts, browser, the lab's files, caches.

It looks and says; it changes nothing.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import psutil

from bestofl_lib.files import ROOT
from bestofl_lib.languages import PIVOT, english_name, needing_fonts
from bestofl_lib.progress import duration
from bestofl_lib.runs import Folders
from bestofl_lib.study.execution import VERSIONS
from bestofl_lib.study.guards import shared_without_locks
from bestofl_lib.text import content_digest

TRIED_PROMPTS, TRIED_EACH = 64, 8  # what a model that is examined is asked for; little of it is written
TRIED_TOKENS = 512
FREE = 5 * 2**30  # bytes of disk below which a study may not finish


def examine(root: Path = ROOT, folders: Folders | None = None, model: str = "") -> tuple[list[str], bool]:
    """Findings, one a line, each failure with its remedy; and whether the study `lab` can run here.

    Args:
        root: the project's folder.
        folders: of notebooks, runs and reports.
        model: Hub id or folder of a model that is to be used here; empty for none.
    """
    folders = folders or Folders.default()
    if model and (missing := _missing(model)):  # said at once
        return [missing], False
    findings = [
        *_python(),
        _pinned(root),
        _device(),
        _disk(folders),
        _writable(folders.runs),
        _writable(folders.reports),
        _lab(root),
        _browser(),
        _fonts(),
        _caches(),
        _adapters(),
        _hub(),
        *([_locks(folders.runs)] if shared_without_locks(folders.runs) else []),
        *(_model(model) if model else []),
    ]
    return [f"{mark:<4} {text}" for mark, text in findings], all(mark != "FAIL" for mark, _ in findings)


Finding = tuple[str, str]  # "ok", "note" or "FAIL", and a sentence


def _python() -> list[Finding]:
    found = [("ok", f"python {sys.version.split()[0]} in {sys.prefix}")]
    for package in VERSIONS:
        try:
            found.append(("ok", f"{package} {metadata.version(package)}"))
        except metadata.PackageNotFoundError:
            found.append(("FAIL", f"{package} is not installed; run `make install`"))
    return found


def _pinned(root: Path) -> Finding:
    """Do the installed versions match those that were tested?"""
    path = root / "constraints.txt"
    if not path.exists():
        return "FAIL", f"{path} is missing; restore it with git"
    other = []
    for name, version in re.findall(r"^([\w.-]+)==(\S+)$", path.read_text("utf8"), flags=re.MULTILINE):
        try:
            installed = metadata.version(name).split("+")[0]
        except metadata.PackageNotFoundError:
            continue  # only some are needed on every machine; pip has seen to those
        if installed != version:
            other.append(f"{name} {installed} (tested: {version})")
    return (
        ("note", "other versions than tested: " + ", ".join(other) + "; `make install` sets them right")
        if other
        else ("ok", "all versions as tested (constraints.txt)")
    )


def _device() -> Finding:
    """The accelerator as PyTorch sees it, asked in a separate process."""
    code = (
        "import torch\n"
        "if torch.cuda.is_available():\n"
        "    free, total = torch.cuda.mem_get_info()\n"
        "    print(f'{torch.cuda.device_count()} × {torch.cuda.get_device_name()}, {free / 2**30:.0f} of {total / "
        "2**30:.0f} GB '\n"
        '          f\'free on the first, dtype auto is {"bfloat16" if torch.cuda.is_bf16_supported() else '
        '"float16"}\')\n'
        "else:\n"
        "    print('Apple MPS' if torch.backends.mps.is_available() else 'CPU only, dtype auto is float32')"
    )
    try:
        answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return "FAIL", f"PyTorch does not start ({error}); run `make install`"
    memory = psutil.virtual_memory()
    return "ok", (
        f"device: {answer.stdout.strip()}; {os.cpu_count()} cores, "
        f"{memory.available / 2**30:.0f} of {memory.total / 2**30:.0f} GB memory free"
    )


def _disk(folders: Folders) -> Finding:
    place = next(path for path in [folders.runs, *folders.runs.parents] if path.exists())
    free = shutil.disk_usage(place).free
    text = f"{free / 2**30:.0f} GB free on the disk of {folders.runs}"
    return ("ok", text) if free >= FREE else ("FAIL", text + "; free some space or point BESTOFL_RUNS at another disk")


def _writable(folder: Path) -> Finding:
    place = next(path for path in [folder, *folder.parents] if path.exists())
    if os.access(place, os.W_OK):
        return "ok", f"{folder} can be written"
    return "FAIL", f"{place} cannot be written; change its owner or set BESTOFL_RUNS and BESTOFL_REPORTS"


def _lab(root: Path) -> Finding:
    weights = sorted((root / "data" / "lab").rglob("*.safetensors"))
    if not weights:
        return (
            "FAIL",
            f"no policy model in {root / 'data' / 'lab'}; restore it with git, or train it with `make policy`",
        )
    digest = content_digest(weights[0].read_bytes())
    return (
        "ok",
        f"lab policy {weights[0].relative_to(root)}, {weights[0].stat().st_size / 2**20:.1f} MB, SHA-256 {digest}",
    )


def _browser() -> Finding:
    found = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    if found:
        return "ok", f"browser for the tests of pages: {found}"
    return "note", "no Chromium: tests of pages are skipped; on Debian: apt-get install chromium"


def _fonts() -> Finding:
    if not shutil.which("fc-list"):
        return "note", "fontconfig is not installed: whether all scripts have a font is unknown"
    lacking = []
    for code in needing_fonts():
        answer = subprocess.run(["fc-list", f":lang={code}", "family"], capture_output=True, text=True, timeout=60)
        if not answer.stdout.strip():
            lacking.append(code)
    if lacking:
        return "note", f"no font for {', '.join(lacking)}; on Debian: apt-get install fonts-noto-core fonts-noto-cjk"
    return "ok", f"fonts for {', '.join(english_name(code) for code in needing_fonts())}"


def _caches() -> Finding:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    found = []
    for name, folder in (
        ("charts", cache / "bestofl"),
        ("models", Path(os.environ.get("HF_HOME") or cache / "huggingface")),
    ):
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())
        found.append(f"{name} {folder} {size / 2**20:.1f} MB")
    return "ok", "caches: " + ", ".join(found)


def _adapters() -> Finding:
    try:
        return "ok", f"peft {metadata.version('peft')}: tuning lora works"
    except metadata.PackageNotFoundError:
        return "note", "peft is not installed, so tuning lora does not work; .venv/bin/pip install -e '.[lora]'"


def _hub() -> Finding:
    """Whether the model hub answers within seconds; cached models need none."""
    from huggingface_hub import constants

    from bestofl_lib.models.identity import hub_answers

    if constants.HF_HUB_OFFLINE:
        return "ok", "model hub: switched off (HF_HUB_OFFLINE); models come from folders and the cache"
    if hub_answers():
        return "ok", f"model hub {constants.ENDPOINT} answers"
    return "note", f"model hub {constants.ENDPOINT} cannot be reached; use models from folders or from the cache"


def _locks(folder: Path) -> Finding:
    kind = shared_without_locks(folder)
    return "note", f"{folder} is on {kind}, where file locks are unreliable: run one study at a time there"


def _missing(model: str) -> str:
    """What is wrong if there is no such model; it is looked for, not opened."""
    from bestofl_lib.models.identity import config_path

    try:
        config_path(model, None)
    except (ValueError, OSError) as error:
        return f"FAIL model {model}: {error}"
    return ""


def _model(name: str) -> list[Finding]:
    """What a study with this model would meet: where its weights are, its memory and speed on this machine."""
    from bestofl_lib.candidates.forecast import memory_words
    from bestofl_lib.candidates.transformers_sampler import TransformersSampler
    from bestofl_lib.models.contract import Request, Sampling
    from bestofl_lib.models.opening import context_length

    try:
        sampler = TransformersSampler(name, chat_template="plain")
        memory, place = sampler.memory(), f"{sampler.device.type}, {str(sampler.dtype).removeprefix('torch.')}"
        most = context_length(sampler.source, sampler.revision) or 4 * TRIED_TOKENS
        settings = Sampling(max_new_tokens=min(TRIED_TOKENS, most // 2))
        chat = [({"role": "user", "content": f"{i} + {i}"},) for i in range(TRIED_PROMPTS)]
        asked = [Request(str(i), PIVOT, k, prompt, k) for i, prompt in enumerate(chat) for k in range(TRIED_EACH)]
        free, rows = sampler.fitting(asked, settings)
    except (ValueError, OSError) as error:
        return [("FAIL", f"model {name}: {error}")]
    words = f"model {name}: {memory_words(memory.weights, memory.cache_per_token, free, rows, place)}"
    if not rows:
        return [("FAIL", f"{words}; take a smaller model or dtype, a device with more memory, or a server")]
    found = [("ok", f"{words} (up to {settings.max_new_tokens} tokens each)")]
    if not Path(sampler.source).is_dir() and not _is_cached(sampler.source):
        return [
            *found,
            ("note", f"model {name}: its weights will be downloaded from the hub; its speed is measured then"),
        ]
    try:
        speed = sampler.tokens_per_second(asked, settings)
    except (ValueError, OSError) as error:
        return [*found, ("FAIL", f"model {name}: {error}")]
    return [
        *found,
        (
            "ok",
            f"model {name}: {speed:,.0f} tokens/s (measured now): 1,000 completions of {settings.max_new_tokens} "
            f"tokens in {duration(1000 * settings.max_new_tokens / speed)}",
        ),
    ]


def _is_cached(model: str) -> bool:
    """Whether the hub's cache holds weights of this model."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"models--{model.replace('/', '--')}" / "snapshots"
    return any(folder.glob("*/*.safetensors"))
