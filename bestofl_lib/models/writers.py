"""Opens a model with the decoder that serves it: the shared-prompt loop where it is right, else `generate`, else words."""

from __future__ import annotations

import gc
import warnings

import torch

from bestofl_lib.models.attention import ATTENTION
from bestofl_lib.models.decoding import Decoder
from bestofl_lib.models.opening import LanguageModel, Opening, UnfitWeights, open_language_model
from bestofl_lib.models.plain_decoding import PlainDecoder
from bestofl_lib.models.self_check import doubt


class SlowSamplingWarning(UserWarning):
    """A model is sampled right, but not by the fast loop."""


def open_writer(opening: Opening) -> Decoder | PlainDecoder:
    """The model of this opening, with the fastest decoder that is right for it.

    Raises:
        ValueError: the model cannot be loaded, does not fit its configuration, or `generate` cannot write with it.
    """
    opened, reason = _open_for_the_loop(opening)
    if opened is not None and reason is None:
        return Decoder(opened)
    del opened
    gc.collect()  # before the model is loaded once more
    opened = open_language_model(opening)
    warnings.warn(
        f"{opening.source} (architecture {opened.kind!r}) is sampled by Transformers' own `generate`, several times slower "
        f"than the loop of this project, because in that loop {reason}. The candidates are the same. "
        "For a large study serve it with vLLM, or sample elsewhere and import the completions",
        SlowSamplingWarning,
        stacklevel=2,
    )
    _try(opened)
    return PlainDecoder(opened)


def _open_for_the_loop(opening: Opening) -> tuple[LanguageModel | None, str | None]:
    """The model with the loop's attention, and why the loop cannot serve it."""
    try:
        opened = open_language_model(opening, ATTENTION)
    except UnfitWeights:
        raise
    except (ValueError, KeyError, AttributeError, NotImplementedError) as error:
        return None, f"it does not load with an attention from outside ({str(error).splitlines()[0]})"
    reason = doubt(opened)
    return opened, reason


@torch.inference_mode()
def _try(opened: LanguageModel) -> None:
    """Write two tokens.

    Raises:
        ValueError: `generate` fails; with the ways out.
    """
    ids = torch.tensor([[3 % opened.vocabulary, 5 % opened.vocabulary]], device=opened.device)
    try:
        opened.model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=2, pad_token_id=0
        )
    except Exception as error:
        raise ValueError(
            f"{opened.source} (architecture {opened.kind!r}) cannot be sampled in this process: `generate` fails with "
            f"{type(error).__name__}: {error}. Serve it with vLLM, or sample it elsewhere and import the completions: "
            "bestofl run pool -p pool=FILE"
        ) from error
