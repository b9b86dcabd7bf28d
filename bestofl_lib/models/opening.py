"""Opens Transformers models: on which device, in which number format, with errors that say what to do."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from bestofl_lib.models.contract import DTYPES, check_device

_LAYER_TENSOR = re.compile(r"\.(layers|h|blocks)\.\d+\.")  # of a decoder layer
_OLD_BUFFER = re.compile(r"(inv_freq|masked_bias|attn\.bias|attention\.bias)$")  # stored by old releases, never read


@dataclass(frozen=True)
class Opening:
    """What to open, and where."""

    source: str  # resolved folder or Hub id
    revision: str | None  # commit on the Hub; None for a folder
    device: str
    dtype: torch.dtype
    batch_rows: int | None = None  # completions written at once; None: as many as memory allows
    threads: int | None = None  # of torch in this process; None: as torch decides


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model ready to write, with what a decoding loop needs to know about it."""

    source: str
    model: Any
    tokenizer: Any
    device: torch.device
    real: torch.dtype  # of random numbers and summed log-probabilities: float64, or float32 where the device has none
    vocabulary: int  # tokens that have a logit
    is_end: torch.Tensor  # (vocabulary,) bool: the token ends a completion
    batch_rows: int | None
    switch: int | None = None  # tokens beyond which its positions are encoded differently, see `rotary_switch`

    @property
    def kind(self) -> str:
        """The name of the architecture in Transformers, such as "qwen2"."""
        return str(self.model.config.model_type)


def open_language_model(opening: Opening, attention: str | None = None) -> LanguageModel:
    """Load a causal language model with its tokenizer.

    Args:
        attention: name of a registered attention function; None: what Transformers chooses for the model.

    Raises:
        ValueError: the files cannot be loaded, or do not hold the model that config.json describes (see
            `refuse_unfit`), or no end-of-text token is named.
    """
    if opening.threads:
        torch.set_num_threads(opening.threads)
    device = torch.device(opening.device)
    common: dict[str, Any] = {"revision": opening.revision, "trust_remote_code": False}
    with loading(opening.source):
        tokenizer = AutoTokenizer.from_pretrained(opening.source, **common)
        family: Any = AutoModelForCausalLM
        model, report = family.from_pretrained(
            opening.source, use_safetensors=True, dtype=opening.dtype, attn_implementation=attention,
            output_loading_info=True, **common,
        )  # fmt: skip
    refuse_unfit(opening.source, report)
    model.to(device).eval()
    vocabulary = int(model.get_output_embeddings().weight.shape[0])
    is_end = torch.zeros(vocabulary, dtype=torch.bool, device=device)
    is_end[sorted(_end_tokens(opening.source, model, tokenizer, vocabulary))] = True
    real = torch.float32 if device.type == "mps" else torch.float64  # float64 is as fine as the random numbers
    return LanguageModel(
        opening.source,
        model,
        tokenizer,
        device,
        real,
        vocabulary,
        is_end,
        opening.batch_rows,
        rotary_switch(model.config),
    )


class UnfitWeights(ValueError):
    """The weights are not those of the model that config.json describes."""


def refuse_unfit(source: str, report: Mapping[str, Any]) -> None:
    """Refuse a checkpoint whose tensors are not the ones that its config.json asks for.

    Transformers would fill missing tensors with random numbers and leave out layers that the configuration does not
    count, with a warning only.

    Args:
        report: the loading info of `from_pretrained(..., output_loading_info=True)`.

    Raises:
        UnfitWeights: tensors are missing, of another shape, or belong to layers that the configuration lacks; named.
    """
    missing = sorted(report["missing_keys"])
    if missing:
        raise UnfitWeights(
            f"{source} lacks {_listed(missing)}: the model would work with random numbers in their place; "
            "finish its download or conversion, or take another revision"
        )
    if mismatched := sorted(report.get("mismatched_keys") or ()):
        name, found, expected = (*mismatched[0], "?", "?")[:3]
        raise UnfitWeights(
            f"{source}: {name} has shape {_shape(found)}, but config.json asks for {_shape(expected)}; "
            "take the config.json that belongs to these weights"
        )
    extra = sorted(
        key for key in report["unexpected_keys"] if _LAYER_TENSOR.search(f".{key}") and not _OLD_BUFFER.search(key)
    )
    if extra:
        raise UnfitWeights(
            f"{source} holds {_listed(extra)}, for which its config.json has no layer; "
            "take the config.json that belongs to these weights"
        )


def choose_device(device: str = "auto") -> torch.device:
    """The device to work on: as named, or for "auto" CUDA, else MPS, else CPU.

    Raises:
        ValueError: another name, or a device that this machine lacks.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        if torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")
    check_device(device)
    chosen = torch.device(device)
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available[chosen.type]:
        raise ValueError(f"device {device!r} is not available on this machine; use 'auto' or 'cpu'")
    return chosen


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The number format of weights and cache: as named, or for "auto" the one that suits the device.

    Raises:
        ValueError: none of `DTYPES`.
    """
    if dtype == "auto":
        if device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        return torch.float16 if device.type == "mps" else torch.float32
    if dtype not in DTYPES:
        raise ValueError(f"unknown dtype {dtype!r}; use one of: {', '.join(DTYPES)}")
    chosen: torch.dtype = getattr(torch, dtype)
    return chosen


@contextlib.contextmanager
def loading(source: str) -> Iterator[None]:
    """Load without the library's progress bars and tables, and shorten its errors to one sentence.

    Raises:
        ValueError: naming the source, for whatever Transformers could not load.
    """
    shown, verbosity = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()  # what is missing or left over is judged by `refuse_unfit`
    try:
        yield
    except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as error:
        if is_out_of_memory(error):
            raise
        hint = ""
        if "trust_remote_code" in str(error):
            hint = (
                "; it needs code from its own repository, which is never run; choose a model whose architecture "
                "Transformers has"
            )
        elif "mismatch" in str(error):
            hint = "; its weights do not fit its config.json: take the config.json that belongs to them"
        elif "safetensors" in str(error):
            hint = (
                "; only safetensors weights are loaded, because pickles can run code: "
                "take a model or revision that has them"
            )
        first = str(error).strip().split("\n")[0]
        raise ValueError(f"{source} cannot be loaded: {first}{hint}") from error
    finally:
        transformers_logging.set_verbosity(verbosity)
        if shown:
            transformers_logging.enable_progress_bar()


def context_length(source: str, revision: str | None) -> int | None:
    """Positions the model can attend to; None where its configuration does not say."""
    with loading(source):
        config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def rotary_switch(config: Any) -> int | None:
    """The length in tokens beyond which all positions of a text are encoded differently; None: there is no such length.

    Rotary embeddings of type "longrope" change their frequencies there, those of type "dynamic" with each token from
    there on. Transformers decides by the longest row of a batch, so a batch is right only if no row of it can get
    there.
    """
    text = config.get_text_config()
    parameters = getattr(text, "rope_parameters", None) or {}
    longest = getattr(text, "max_position_embeddings", None)
    found = []
    for part in [parameters, *(value for value in parameters.values() if isinstance(value, Mapping))]:
        kind = part.get("rope_type") or ""
        if kind == "longrope":
            found.append(part.get("original_max_position_embeddings") or longest)
        elif "dynamic" in kind:
            found.append(longest)
    return min((length for length in found if length), default=None)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on whatever device."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return "out of memory" in text or "can't allocate memory" in text or "not enough memory" in text


def _end_tokens(source: str, model: Any, tokenizer: Any, vocabulary: int) -> set[int]:
    named = model.generation_config.eos_token_id if model.generation_config else None
    ends = set(named if isinstance(named, list) else [named]) | {tokenizer.eos_token_id}
    ends = {int(token) for token in ends if token is not None and 0 <= token < vocabulary}
    if not ends:
        raise ValueError(
            f"{source} names no end-of-text token, so completions would never end; "
            "set eos_token_id in its generation_config.json"
        )
    return ends


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _shape(shape: Any) -> str:
    return " × ".join(map(str, shape)) if isinstance(shape, (tuple, list, torch.Size)) else str(shape)
