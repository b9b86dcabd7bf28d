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
from bestofl_lib.models.work import Shape  # noqa: E402


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
    shape, settings, cpu = Shape(prompt=8, width=4, rows=9), Sampling(max_new_tokens=8), torch.device("cpu")
    row = found.cache_per_token * (8 + 2 * 2) + 16 * found.vocabulary
    assert found.rows(found.weights + round(5.01 * row / 0.7), cpu, shape, settings) == 5
    assert found.rows(found.weights + 10**12, cpu, shape, settings) == 9
    assert found.rows(found.weights - 1, cpu, shape, settings) == 0


def test_what_does_not_fit_is_said_before_anything_is_loaded(tiny_policy, tmp_path, monkeypatch):
    from bestofl_lib.candidates import transformers_sampler

    sampler, settings = TransformersSampler(tiny_policy, device="cpu"), Sampling(max_new_tokens=20)
    told = str(forecast(problems(4), Store(tmp_path), sampler, 3, settings))
    assert "12 completions are written at once" in told and "(cpu, float32)" in told
    monkeypatch.setattr(transformers_sampler, "free_bytes", lambda device: 1000)
    fresh = TransformersSampler(tiny_policy, device="cpu")
    with pytest.raises(ValueError, match="does not fit.*not one completion fits.*smaller model or dtype"):
        forecast(problems(4), Store(tmp_path), fresh, 3, settings)
    assert "writer" not in fresh.__dict__, "the model was loaded"


def test_the_doctor_says_of_a_model_what_the_forecast_says(tiny_policy, monkeypatch):
    from bestofl_lib import doctor
    from bestofl_lib.candidates import transformers_sampler

    memory_line, speed = doctor._model(str(tiny_policy))
    assert memory_line[0] == speed[0] == "ok"
    assert (
        "memory (cpu, float32): weights 0.0 GB" in memory_line[1]
        and "completions are written at once" in memory_line[1]
    )
    assert "tokens/s (measured now)" in speed[1]
    monkeypatch.setattr(transformers_sampler, "free_bytes", lambda device: 1000)
    [(mark, told)] = doctor._model(str(tiny_policy))
    assert mark == "FAIL" and "not one completion fits" in told
    assert doctor._model("no/such-model-anywhere")[0][0] == "FAIL"


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
