"""Checks, before anything is written, that the shared-prompt loop computes what the model itself computes.

The reference is the model's own eager attention, whole texts at once, without cache. Sliding windows are shrunk for the
check, so that a few tokens reach beyond them.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator
from typing import Any

import torch

from bestofl_lib.models.attention import ATTENTION
from bestofl_lib.models.cohorts import Cohort
from bestofl_lib.models.contract import Sampling
from bestofl_lib.models.decoding import Batch
from bestofl_lib.models.opening import LanguageModel, is_out_of_memory
from bestofl_lib.models.work import Group, Row, Shape

_PROMPTS = (9, 4)  # tokens of the prompts tried
_STEPS = 4  # tokens fed to each, one at a time
_WINDOW = 5
_WINDOWS = ("sliding_window", "attention_chunk_size")
_EXACT = 1e-3  # allowed difference of a logit, as a share of the largest, in float32
_COARSE = 0.05  # and in shorter formats, where single positions may differ more (the choice of an expert)


def doubt(opened: LanguageModel) -> str | None:
    """Why the shared-prompt loop cannot serve this model; None if it can.

    The model is left as it was found.
    """
    try:
        with torch.inference_mode(), shrunk_windows(opened.model):
            expected = _eager(opened)
            found = _shared(opened)
    except Exception as error:  # an architecture may fail in any way; whatever it is, the loop cannot serve it
        if is_out_of_memory(error):
            raise
        return f"it fails with {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    if not all(bool(torch.isfinite(p).all()) for p in expected):
        return None  # weights that give no numbers say nothing about the loop; their rows end as errors
    gaps = [float((f - p).abs().max()) for f, p in zip(torch.cat(found), torch.cat(expected), strict=True)]
    largest = max(1.0, max(float(p.abs().max()) for p in expected))
    exact = opened.model.dtype == torch.float32
    gap, allowed = (max(gaps), _EXACT) if exact else (statistics.median(gaps), _COARSE)
    if not gap <= allowed * largest:
        return f"its logits differ by {gap:.3g} from those of the model's own attention"
    return None


def _texts(opened: LanguageModel) -> list[torch.Tensor]:
    """Token ids of the texts tried, prompts with what is fed to them."""
    return [
        (torch.arange(n + _STEPS, device=opened.device) * 7 + 3 + 11 * i) % opened.vocabulary
        for i, n in enumerate(_PROMPTS)
    ]


def _eager(opened: LanguageModel) -> list[torch.Tensor]:
    """Logits of the model's own attention for each text: (1 + steps, vocabulary), after the prompt and each token
    fed.
    """
    opened.model.set_attn_implementation("eager")
    if opened.model.config._attn_implementation != "eager":
        raise NotImplementedError("its attention cannot be exchanged")
    try:
        return [
            opened.model(input_ids=ids[None], use_cache=False).logits[0, n - 1 :].float()
            for n, ids in zip(_PROMPTS, _texts(opened), strict=True)
        ]
    finally:
        opened.model.set_attn_implementation(ATTENTION)


def _shared(opened: LanguageModel) -> list[torch.Tensor]:
    """The same logits from the shared-prompt loop, both prompts in one batch, two rows each."""
    texts = _texts(opened)
    groups = [
        Group(ids[:n].tolist(), [Row(2 * i, 0), Row(2 * i + 1, 1)])
        for i, (n, ids) in enumerate(zip(_PROMPTS, texts, strict=True))
    ]
    settings = Sampling(max_new_tokens=_STEPS + 1)
    batch = Batch(opened, Shape.of(groups), settings)
    block = batch.prefill(groups)
    cohort = Cohort(opened, settings, block, 2 * len(groups), 0.0)
    batch.cohorts.append(cohort)
    found = [[block.logits[i]] for i in range(len(groups))]
    for step in range(_STEPS):
        for i, (n, ids) in enumerate(zip(_PROMPTS, texts, strict=True)):
            cohort.token[2 * i : 2 * i + 2] = ids[n + step]
        logits = batch.forward()
        for i in range(len(groups)):
            found[i].append(logits[2 * i + 1])
        cohort.age += 1
    return [torch.stack(part).float() for part in found]


@contextlib.contextmanager
def shrunk_windows(model: Any) -> Iterator[None]:
    """Every sliding window and chunk at most a few tokens long, in modules and configurations."""
    configs = {id(c): c for c in (model.config, model.config.get_text_config())}
    holders = [*configs.values(), *model.modules()]
    changed: list[tuple[Any, str, int]] = []
    try:
        for holder in holders:
            for name in _WINDOWS:
                value = getattr(holder, name, None)
                if isinstance(value, int) and not isinstance(value, bool) and value > _WINDOW:
                    setattr(holder, name, _WINDOW)
                    changed.append((holder, name, value))
        yield
    finally:
        for holder, name, value in changed:
            setattr(holder, name, value)
