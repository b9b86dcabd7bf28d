"""What a call would take is said before it is made, and nothing is written for it."""

from __future__ import annotations

import polars as pl
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from bestofl_lib.candidates.forecast import forecast  # noqa: E402
from bestofl_lib.candidates.sampling import generate  # noqa: E402
from bestofl_lib.candidates.store import Store  # noqa: E402
from bestofl_lib.candidates.transformers_sampler import TransformersSampler  # noqa: E402
from bestofl_lib.models.contract import Completion, Request, Sampling  # noqa: E402
from bestofl_lib.models.estimate import memory  # noqa: E402


def problems(count: int) -> pl.DataFrame:
    return pl.DataFrame(
        {"problem_id": f"p{i}", "language": "en", "split": "test", "question": f"{i} + 1 = ?", "reference": str(i + 1)}
        for i in range(count)
    ).with_columns(is_revised=False)


def test_wanted_and_held_completions_and_the_time_of_the_rest(tiny_policy, tmp_path):
    sampler, settings = TransformersSampler(tiny_policy, device="cpu"), Sampling(max_new_tokens=20)
    first = forecast(problems(4), Store(tmp_path), sampler, 3, settings)
    assert (first.wanted, first.held, first.most_tokens) == (12, 0, 240)
    assert first.most_seconds > 0 and "12 completions wanted, 0 held" in str(first)
    generate(problems(2), Store(tmp_path), sampler, 3, settings, progress=False)
    second = forecast(problems(4), Store(tmp_path), sampler, 3, settings)
    assert (second.wanted, second.held) == (12, 6)
    assert Store(tmp_path).candidates().height == 6, "the forecast stored something"
    generate(problems(4), Store(tmp_path), sampler, 3, settings, progress=False)
    assert "nothing to draw" in str(forecast(problems(4), Store(tmp_path), sampler, 3, settings))


def test_memory_is_that_of_the_loaded_model_and_its_cache(tiny_policy):
    found = memory(str(tiny_policy), None, torch.float32)
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_policy)
    assert found.weights == sum(p.numel() * p.element_size() for p in model.parameters())
    cache = model(torch.ones(1, 10, dtype=torch.long), use_cache=True).past_key_values
    held = sum(x.numel() * x.element_size() for layer in cache.layers for x in (layer.keys, layer.values))
    assert found.cache_per_token == held / 10
    assert memory(str(tiny_policy), None, torch.bfloat16).weights == found.weights / 2
    assert found.rows(found.weights + 100 * found.cache_per_token, prompt_tokens=8, new_tokens=8, per_prompt=4) == 10
    assert found.rows(found.weights - 1, prompt_tokens=8, new_tokens=8, per_prompt=4) == 0


def test_a_completion_ends_at_a_text_that_stops_it(tiny_policy):
    sampler, settings = TransformersSampler(tiny_policy, device="cpu"), Sampling(max_new_tokens=40)
    chat = ({"role": "user", "content": "1 + 1"},)
    plain = [Request("p", "en", k, chat, k) for k in range(20)]
    whole = {r.sample_index: c for r, c in sampler.sample(plain, settings) if isinstance(c, Completion)}
    stop = next(a for c in whole.values() for a in c.text[3:] if a.isascii() and a.isprintable())
    asked = [Request("p", "en", k, chat, k, stop=(stop,)) for k in range(20)]
    found = {r.sample_index: c for r, c in sampler.sample(asked, settings) if isinstance(c, Completion)}
    assert any(stop in c.text for c in whole.values())
    for index, completion in found.items():
        assert completion.text == whole[index].text.split(stop)[0]
        assert completion.n_tokens <= whole[index].n_tokens
        if stop in whole[index].text:
            assert completion.finish_reason == "stop"
