"""Random streams and the choice of a token, against Transformers' own logits processors."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from bestofl_lib.models.contract import Sampling  # noqa: E402
from bestofl_lib.models.tokens import choose_tokens, uniforms  # noqa: E402


@pytest.mark.parametrize(
    "settings",
    [
        Sampling(1.0, 1.0, 0), Sampling(0.5, 1.0, 0), Sampling(1.5, 0.9, 0), Sampling(1.0, 1.0, 7),
        Sampling(1.0, 0.6, 9), Sampling(0.8, 0.95, 0), Sampling(3.0, 0.97, 0),
    ],
)  # fmt: skip
def test_tokens_are_as_frequent_as_temperature_top_k_and_top_p_say(settings):
    torch.manual_seed(1)
    logits = 2 * torch.randn(150)
    expected = _reference_distribution(logits, settings)
    draws = 40_000
    u = (torch.arange(draws, dtype=torch.float64) + 0.5) / draws  # every part of [0, 1) alike: no noise
    tokens, logprob, is_bad = choose_tokens(logits.expand(draws, -1), u, settings)
    observed = np.bincount(tokens.numpy(), minlength=150) / draws
    assert not is_bad.any()
    assert (observed[expected == 0] == 0).all()
    assert (np.abs(observed - expected) <= 2 / draws).all()
    assert torch.allclose(logprob, logits.log_softmax(-1)[tokens], atol=1e-5)  # of the untempered model


def _reference_distribution(logits: torch.Tensor, settings: Sampling) -> np.ndarray:
    """Transformers' own logits processors."""
    scores = logits[None].double() / settings.temperature
    ids = torch.zeros(1, 1, dtype=torch.long)
    if settings.top_k:
        scores = transformers.TopKLogitsWarper(settings.top_k)(ids, scores)
    if settings.top_p < 1:
        scores = transformers.TopPLogitsWarper(settings.top_p)(ids, scores)
    return scores.softmax(-1)[0].numpy()


def test_a_nucleus_wider_than_the_first_look_is_still_exact():
    flat = torch.linspace(0, 3, 5000)[torch.randperm(5000, generator=torch.Generator().manual_seed(0))]
    steep = torch.linspace(0, 600, 5000)
    settings = Sampling(1.0, 0.9, 0)
    kept = _reference_distribution(flat, settings) > 0
    assert kept.sum() > 2000
    u = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    tokens = torch.cat([  # beside rows whose nucleus is found at once
        choose_tokens(torch.cat([flat.expand(len(part), -1), steep[None]]), torch.cat([part, part[:1]]), settings)[0][:-1]
        for part in u.split(2000)
    ])  # fmt: skip
    assert set(tokens.tolist()) == set(kept.nonzero()[0].tolist())


def test_temperature_0_takes_the_likeliest_token():
    logits = torch.randn(8, 100)
    assert choose_tokens(logits, torch.zeros(8), Sampling(0))[0].equal(logits.argmax(-1))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("settings", [Sampling(0), Sampling(1.0, 1.0), Sampling(0.8, 0.9)])
def test_rows_whose_logits_are_no_numbers_are_marked_and_spare_the_others(bad, settings):
    logits = torch.randn(3, 40)
    good = choose_tokens(logits, torch.full((3,), 0.3, dtype=torch.float64), settings)[0]
    logits[1, 7] = bad
    tokens, _, is_bad = choose_tokens(logits, torch.full((3,), 0.3, dtype=torch.float64), settings)
    assert is_bad.tolist() == [False, True, False]
    assert tokens[[0, 2]].equal(good[[0, 2]])


def test_a_random_stream_is_the_seed_s_alone_and_can_be_entered_anywhere():
    whole = uniforms(12345, 0, 1000)
    assert np.array_equal(uniforms(12345, 250, 600), whole[250:850])
    assert whole.min() >= 0 and whole.max() < 1 and len(set(whole)) == 1000
    assert not np.array_equal(uniforms(12346, 0, 1000), whole)
    assert abs(np.corrcoef(whole[:-1], whole[1:])[0, 1]) < 0.1
