"""Which model is meant: a folder or a Hub id, and a fingerprint of its weights.

It reads files and asks the Hub; it loads no model and no model library.
"""

from __future__ import annotations

import hashlib
import ssl
import threading
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from bestofl_lib.problems.files import find

REACH_SECONDS = 3.0  # to wait for the Hub; its client would wait for 20
_IDENTITY_FILES = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model",
    "special_tokens_map.json", "chat_template.jinja", "vocab.json", "merges.txt", "added_tokens.json",
    "adapter_config.json",
)  # fmt: skip


def locate(source: str | Path) -> str:
    """The resolved path of a local model folder, looked for here and under the project; or the Hub id as it is.

    Raises:
        FileNotFoundError: a folder without config or weights, or a path that is no folder.
        ValueError: a folder whose only weights are pickles.
    """
    folder = find(source)
    if folder.is_dir():
        check_weights(folder)
        return str(folder.resolve())
    if folder.is_absolute() or str(source).startswith((".", "~")) or str(source).count("/") != 1:
        raise FileNotFoundError(
            f"no model folder {str(source)!r}; give a folder that holds config.json and *.safetensors, "
            "or a Hub id such as 'Qwen/Qwen2.5-7B-Instruct'"
        )
    return str(source)


def fingerprint(source: str | Path, revision: str | None) -> str:
    """What tells two sets of weights apart: a digest of a local folder, or the commit of a Hub id."""
    located = locate(source)
    if Path(located).is_dir():
        return f"sha256:{folder_hash(Path(located))}"
    return f"{located}@{hub_commit(located, revision)}"


def config_path(source: str | Path, revision: str | None) -> Path:
    """The model's config.json: in its folder, or in the cache of the Hub's models.

    Raises:
        FileNotFoundError, ValueError: see `locate`; also where there is no such Hub id, or the Hub does not answer
            within seconds.
        PermissionError: the model is gated.
    """
    located = locate(source)
    return Path(located) / "config.json" if Path(located).is_dir() else _hub_config(located, revision)


def folder_hash(folder: Path) -> str:
    """Hash of weights, configuration and tokenizer: over all bytes, for large weight files over header, size and
    samples.
    """
    digest = hashlib.sha256()
    files = sorted([*folder.glob("*.safetensors"), *(folder / n for n in _IDENTITY_FILES if (folder / n).is_file())])
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name} {size}\n".encode())
        with file.open("rb") as stream:
            if size <= 256 << 20:
                digest.update(stream.read())
                continue
            for part in range(64):  # the first holds the header
                stream.seek(part * (size - (1 << 20)) // 63)
                digest.update(stream.read(1 << 20))
    return digest.hexdigest()[:16]


def check_weights(folder: Path) -> None:
    """Refuse a folder that holds no model.

    Raises:
        FileNotFoundError: no config.json, or no weights.
        ValueError: its only weights are pickles, which can run any code.
    """
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"{folder} has no config.json, so it is not a model folder of Transformers; check the path"
        )
    if any(folder.glob("*.safetensors")):
        return
    pickles = sorted(p.name for kind in ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl") for p in folder.glob(kind))
    if pickles:
        raise ValueError(
            f"{folder} holds its weights only as {', '.join(pickles)}, a pickle, which can run any code when it is "
            "loaded; "
            "convert it with save_pretrained (it writes safetensors) where you trust it, or take a revision that has "
            "them"
        )
    raise FileNotFoundError(
        f"{folder} holds no weights (*.safetensors); finish its training or download, or check the path"
    )


def hub_commit(model: str, revision: str | None) -> str:
    """The commit that a Hub id and revision stand for: asked of the Hub, or of the local cache when offline."""
    return _hub_config(model, revision).parent.name


def hub_answers() -> bool:
    """Whether the Hub, or the proxy in front of it, answers a request within seconds, DNS lookup included.

    A certificate that cannot be checked is an answer too: whatever downloads says what is wrong with it.
    """
    if constants.HF_HUB_OFFLINE:
        return False
    answered = threading.Event()

    def ask() -> None:
        question = Request(constants.ENDPOINT, method="HEAD")
        try:
            urlopen(question, timeout=REACH_SECONDS).close()
        except HTTPError:  # an answer as well
            pass
        except URLError as error:
            if not isinstance(error.reason, ssl.SSLError):
                return
        except OSError:
            return
        answered.set()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(REACH_SECONDS)
    return answered.is_set()


def _hub_config(model: str, revision: str | None) -> Path:
    unknown = (
        f"no model folder {model!r}, and the Hub cannot be reached to look for a model of that name (offline, and it "
        "is not in the local cache); connect, or give a folder such as data/lab/policy"
    )
    try:
        if hub_answers():
            return Path(hf_hub_download(model, "config.json", revision=revision, etag_timeout=5))
        cached = try_to_load_from_cache(model, "config.json", revision=revision)
    except GatedRepoError as error:
        raise PermissionError(
            f"{model} is gated: accept its licence on its Hub page and log in with `hf auth login`, or take another "
            "model"
        ) from error
    except RevisionNotFoundError as error:
        raise ValueError(f"{model} has no revision {revision!r} on the Hub; give a branch, tag or commit") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise FileNotFoundError(
            f"no model folder and no Hub model {model!r}; check the spelling, or log in (`hf auth login`) if it is "
            "private"
        ) from error
    except LocalEntryNotFoundError as error:
        raise FileNotFoundError(unknown) from error
    except EntryNotFoundError as error:
        raise FileNotFoundError(f"{model} on the Hub has no config.json, so it is not a Transformers model") from error
    except OSError as error:
        raise FileNotFoundError(f"no model folder {model!r}, and asking the Hub failed: {error}") from error
    if not isinstance(cached, str):
        raise FileNotFoundError(unknown)
    return Path(cached)
