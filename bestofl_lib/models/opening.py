"""Opens Transformers models: on which device, in which number format, with errors that say what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from safetensors import SafetensorError
from transformers import AutoConfig
from transformers.utils import logging as transformers_logging


def choose_device(device: str = "auto") -> torch.device:
    """The device to work on: as named, or for "auto" CUDA, else MPS, else CPU.

    Raises:
        ValueError: a name torch does not know, or a device this machine lacks.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        if torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"unknown device {device!r}; use 'auto', 'cpu', 'cuda', 'cuda:1' or 'mps'") from error
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(chosen.type, True):
        raise ValueError(f"device {device!r} is not available on this machine; use 'auto' or 'cpu'")
    return chosen


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The number format of weights and cache: as named, or for "auto" the one that suits the device.

    Raises:
        ValueError: not a floating-point format of torch.
    """
    if dtype == "auto":
        if device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        return torch.float16 if device.type == "mps" else torch.float32
    chosen = getattr(torch, dtype, None)
    if not isinstance(chosen, torch.dtype) or not chosen.is_floating_point:
        raise ValueError(f"unknown dtype {dtype!r}; use 'auto', 'float32', 'bfloat16' or 'float16'")
    return chosen


@contextlib.contextmanager
def loading(source: str) -> Iterator[None]:
    """Without the library's progress bars, and with its errors said shorter."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        hint = ""
        if "trust_remote_code" in str(error):
            hint = "; it brings code of its own, which is not run: take a model whose architecture Transformers has"
        elif "safetensors" in str(error):
            hint = "; only safetensors weights are loaded, because pickles can run code: take a model or revision that has them"
        first = str(error).strip().split("\n")[0]
        raise ValueError(f"{source} cannot be loaded: {first}{hint}") from error
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def context_length(source: str, revision: str | None) -> int | None:
    """Positions the model can attend to; None where its configuration does not say."""
    with loading(source):
        config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice, on whatever device."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return "out of memory" in text or "can't allocate memory" in text or "not enough memory" in text
