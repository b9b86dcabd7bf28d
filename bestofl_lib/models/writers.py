"""Opens a model with the decoder that serves it: the shared-prompt loop, or `generate`; else says why none does."""

from __future__ import annotations

import gc
import warnings

import torch

from bestofl_lib.models.attention import ATTENTION
from bestofl_lib.models.contract import Completion, Sampling
from bestofl_lib.models.decoding import Decoder
from bestofl_lib.models.generate_decoding import GenerateDecoder, SlowSamplingWarning
from bestofl_lib.models.opening import LanguageModel, Opening, UnfitWeights, is_out_of_memory, open_language_model
from bestofl_lib.models.self_check import doubt
from bestofl_lib.models.work import Group, Queue, Row, Shape

_TRIED = 6  # tokens written to try a decoder


def open_writer(opening: Opening) -> Decoder | GenerateDecoder:
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
        f"{opening.source} (architecture {opened.kind!r}) is sampled by Transformers' own `generate`, several times "
        f"slower than the loop of this project, because in that loop {reason}. The candidates are the same. "
        "For a large study serve it with vLLM, or sample elsewhere and import the completions",
        SlowSamplingWarning,
        stacklevel=2,
    )
    decoder = GenerateDecoder(opened)
    _try(decoder)
    return decoder


def _open_for_the_loop(opening: Opening) -> tuple[LanguageModel | None, str | None]:
    """The model with the loop's attention, and why the loop cannot serve it."""
    try:
        opened = open_language_model(opening, ATTENTION)
    except UnfitWeights:
        raise
    except (ValueError, KeyError, AttributeError, NotImplementedError) as error:
        return None, f"it does not load with a custom attention function ({str(error).splitlines()[0]})"
    reason = doubt(opened)
    return opened, reason


@torch.inference_mode()
def _try(decoder: GenerateDecoder) -> None:
    """Write a few tokens, two rows at once, and compare them with what `generate` writes by itself.

    Raises:
        ValueError: `generate` fails, or writes something else when its tokens are chosen one by one; says what to do.
    """
    opened = decoder.opened
    ids = [3 % opened.vocabulary, 5 % opened.vocabulary, 8 % opened.vocabulary]
    prompt = torch.tensor([ids], device=opened.device)
    ends = opened.is_end.nonzero()[:, 0].tolist()
    reason = None
    try:
        out = opened.model.generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=_TRIED,
            eos_token_id=ends, pad_token_id=ends[0],
        )[0, len(ids) :].tolist()  # fmt: skip
        groups = [Group(ids, [Row(0, 0), Row(1, 1)])]
        led = dict(decoder.run(Queue(groups).take, Shape.of(groups), Sampling(0, max_new_tokens=_TRIED)))
        text = opened.tokenizer.decode(out[: len(out) - (out[-1] in ends)], skip_special_tokens=True)
        found = [c.text for c in led.values() if isinstance(c, Completion) and c.finish_reason != "error"]
        if any(other != text for other in found):
            reason = "it writes something else when two rows are written at once"
    except Exception as error:  # an architecture may fail in any way; whatever it is, it cannot be sampled here
        if is_out_of_memory(error):
            raise
        reason = f"`generate` fails with {type(error).__name__}: {error}"
    if reason is not None:
        raise ValueError(
            f"{opened.source} (architecture {opened.kind!r}) cannot be sampled in this process: {reason}. "
            "Serve it with vLLM, or sample it elsewhere and import the completions: bestofl run pool -p pool=FILE"
        )
