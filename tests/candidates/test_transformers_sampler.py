"""Sampling from Transformers models: against plain forward passes, and with everything that can be wrong."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from bestofl_lib.candidates import transformers_sampler  # noqa: E402
from bestofl_lib.candidates.sampling import candidate_seed  # noqa: E402
from bestofl_lib.candidates.transformers_sampler import TransformersSampler  # noqa: E402
from bestofl_lib.models import decoding, opening  # noqa: E402
from bestofl_lib.models.contract import Completion, Request, Sampling  # noqa: E402
from bestofl_lib.models.generate_decoding import SlowSamplingWarning  # noqa: E402

SETTINGS = Sampling(max_new_tokens=24)
TEMPLATE = "{% for message in messages %}<|user|>{{ message['content'] }}{% endfor %}<|assistant|>"


def requests(prompts: int = 6, n: int = 3) -> list[Request]:
    return [
        Request(
            f"p{i}",
            "en",
            k,
            ({"role": "user", "content": "1 + 1 = ? " * (1 + i % 3) + str(i)},),
            candidate_seed(0, f"p{i}", "en", k),
        )
        for i in range(prompts)
        for k in range(n)
    ]


def draw(sampler: TransformersSampler, asked: list[Request] | None = None, settings: Sampling = SETTINGS) -> dict:
    """Completions by (problem, index); what is handed over unfinished on a slow machine is left out."""
    written = sampler.sample(asked or requests(), settings)
    found = [((r.problem_id, r.sample_index), c) for r, c in written if isinstance(c, Completion)]
    assert len(found) == len(dict(found)) == len(asked or requests())
    return dict(found)


def texts(found: dict) -> dict:
    return {key: (c.text, c.n_tokens, c.finish_reason) for key, c in found.items()}


@pytest.fixture(scope="module")
def sampler(tiny_policy):
    return TransformersSampler(tiny_policy, device="cpu")


@pytest.fixture(scope="module")
def plain(tiny_policy):
    """The model as Transformers loads it, without any of our code."""
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_policy, attn_implementation="eager").eval()
    return model, transformers.AutoTokenizer.from_pretrained(tiny_policy)


# The loop


def test_greedy_completions_are_those_of_generate(sampler, plain):
    model, tokenizer = plain
    asked = requests(6, 1)
    found = draw(sampler, asked, Sampling(temperature=0, max_new_tokens=24))
    for request in asked:
        prompt = tokenizer.apply_chat_template(
            [dict(m) for m in request.messages], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        out = model.generate(**prompt, do_sample=False, max_new_tokens=24, pad_token_id=0)[
            0, prompt["input_ids"].shape[1] :
        ]
        completion = found[request.problem_id, 0]
        assert completion.n_tokens == len(out)
        assert completion.text == tokenizer.decode(
            out[: len(out) - (completion.finish_reason == "stop")], skip_special_tokens=True
        )


def test_the_log_probability_is_that_of_a_plain_forward_pass(sampler, plain):
    model, _ = plain
    written: dict[int, list[int]] = {}
    decode = sampler.writer.opened.tokenizer.batch_decode

    def spy(ids, **kwargs):
        out = decode(ids, **kwargs)
        written.update(zip(map(hash, out), ids, strict=True))
        return out

    asked = requests(4, 4)
    groups = {g.problem_id: g.ids for g in sampler._groups(asked, SETTINGS)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampler.writer.opened.tokenizer, "batch_decode", spy)
        found = draw(sampler, asked)
    checked = 0
    for (problem, _), completion in found.items():
        if completion.finish_reason == "length":  # all its tokens are in the text
            prompt, own = groups[problem], written[hash(completion.text)]
            logprobs = model(torch.tensor([prompt + own])).logits[0].detach().log_softmax(-1)
            expected = sum(float(logprobs[len(prompt) - 1 + i, token]) for i, token in enumerate(own))
            assert completion.logprob == pytest.approx(expected, abs=1e-3)
            checked += 1
    assert checked


@pytest.mark.parametrize("rows", [1, 2, 5, 7])
def test_texts_do_not_depend_on_the_batch_size(sampler, tiny_policy, rows):
    assert texts(draw(TransformersSampler(tiny_policy, device="cpu", batch_rows=rows))) == texts(draw(sampler))


def test_single_rows_may_reach_the_longest_length_among_many_young_ones(tiny_policy):
    asked = requests(60, 4)
    wide = draw(TransformersSampler(tiny_policy, device="cpu", batch_rows=100), asked)
    assert texts(wide) == texts(draw(TransformersSampler(tiny_policy, device="cpu", batch_rows=9), asked))
    assert sum(c.finish_reason == "length" for c in wide.values()) > 5


def test_texts_do_not_depend_on_order_or_neighbours(sampler):
    everything = texts(draw(sampler))
    assert texts(draw(sampler, requests()[::-1])) == everything
    alone = requests()[4:5]
    assert texts(draw(sampler, alone)) == {
        k: v for k, v in everything.items() if k == (alone[0].problem_id, alone[0].sample_index)
    }


def test_longer_completions_begin_with_the_shorter_ones_across_blocks_of_random_numbers(sampler):
    short = draw(sampler, settings=Sampling(1.0, 1.0, max_new_tokens=100))
    long = draw(sampler, settings=Sampling(1.0, 1.0, max_new_tokens=400))
    for key, completion in short.items():
        if completion.finish_reason == "stop":
            assert long[key].text == completion.text
        else:
            assert long[key].text.startswith(completion.text.rstrip("\ufffd"))


def test_each_prompt_is_prefilled_once_however_many_completions(sampler, monkeypatch):
    sampler.writer  # noqa: B018 loads
    seen = []
    original = decoding.Batch.prefill

    def spy(self, groups):
        seen.extend(tuple(group.ids) for group in groups)
        return original(self, groups)

    monkeypatch.setattr(decoding.Batch, "prefill", spy)
    draw(sampler, requests(5, 9))
    assert len(seen) == len(set(seen)) == 5


def test_two_processes_write_what_one_writes(sampler, tiny_policy):
    assert texts(draw(TransformersSampler(tiny_policy, device="cpu", workers=2))) == texts(draw(sampler))


def test_settings_change_the_completions(sampler):
    base = texts(draw(sampler))
    for other in (
        Sampling(1.5, max_new_tokens=24),
        Sampling(top_p=0.3, max_new_tokens=24),
        Sampling(top_k=1, max_new_tokens=24),
    ):
        assert texts(draw(sampler, settings=other)) != base


def test_a_completion_says_how_it_ended_and_what_it_cost(sampler):
    found = draw(sampler, requests(10, 8))
    assert {c.finish_reason for c in found.values()} == {"stop", "length"}
    for completion in found.values():
        assert 1 <= completion.n_tokens <= 24
        assert (completion.finish_reason == "length") <= (completion.n_tokens == 24)
        assert completion.logprob < 0
        assert completion.seconds > 0


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (dict(hidden_size=32, num_attention_heads=4, num_key_value_heads=2), "Qwen2"),
        (dict(hidden_size=32, num_attention_heads=4, num_key_value_heads=2, sliding_window=5), "Mistral"),
        (dict(hidden_size=32, num_attention_heads=4, num_key_value_heads=1, head_dim=8, sliding_window=5, layer_types=["sliding_attention", "full_attention"]), "Gemma3Text"),
        (dict(n_embd=32, n_head=4, n_layer=2), "GPT2"),
    ],
)  # fmt: skip
def test_other_architectures_pass_the_check_and_write_what_generate_writes(tiny_policy, tmp_path, config, kind):
    common = dict(
        vocab_size=260,
        intermediate_size=64,
        num_hidden_layers=2,
        initializer_range=0.3,
        eos_token_id=1,
        bos_token_id=None,
    )
    settings = getattr(transformers, f"{kind}Config")(**(common | config))
    torch.manual_seed(0)
    name = {"Gemma3Text": "Gemma3ForCausalLM", "GPT2": "GPT2LMHeadModel"}.get(kind, f"{kind}ForCausalLM")
    model = getattr(transformers, name)(settings).eval()
    folder = shutil.copytree(tiny_policy, tmp_path / kind)
    model.save_pretrained(folder)
    asked = requests(3, 1)
    other = TransformersSampler(folder, device="cpu")
    found = draw(other, asked, Sampling(temperature=0, max_new_tokens=16))
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    for group in other._groups(asked, Sampling(max_new_tokens=16)):
        ids = torch.tensor([group.ids])
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=16, eos_token_id=1, pad_token_id=0
        )
        out = out[0, ids.shape[1] :]
        assert found[group.problem_id, 0].text == other.tokenizer.decode(out, skip_special_tokens=True)


def test_an_architecture_that_the_loop_does_not_know_is_written_by_generate_and_said_so(tiny_policy, tmp_path):
    config = transformers.MambaConfig(vocab_size=260, hidden_size=32, num_hidden_layers=1, state_size=4, eos_token_id=1)
    folder = shutil.copytree(tiny_policy, tmp_path / "mamba")
    transformers.MambaForCausalLM(config).save_pretrained(folder)
    with pytest.warns(
        SlowSamplingWarning, match=r"\(architecture 'mamba'\) is sampled by Transformers' own `generate`"
    ):
        found = draw(TransformersSampler(folder, device="cpu"), requests(2, 3))
    assert texts(draw(TransformersSampler(folder, device="cpu", batch_rows=1), requests(2, 3))) == texts(found)
    assert len({c.text for c in found.values()}) > 1


# Memory and numbers that fail


def test_a_batch_that_runs_out_of_memory_is_halved_and_nothing_changes(sampler, tiny_policy, monkeypatch):
    expected = texts(draw(sampler))
    sizes = []
    original = decoding.Batch.forward

    def tight(self):
        sizes.append(self.rows)
        if self.active > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return original(self)

    small = TransformersSampler(tiny_policy, device="cpu", batch_rows=16)
    small.writer  # noqa: B018 loads
    monkeypatch.setattr(decoding.Batch, "forward", tight)
    assert texts(draw(small)) == expected
    assert sizes[:3] == [16, 8, 4]


def test_what_runs_out_of_memory_alone_is_an_error_row_and_the_others_are_written(sampler, tiny_policy, monkeypatch):
    expected = texts(draw(sampler))
    sampler_small = TransformersSampler(tiny_policy, device="cpu", batch_rows=4)
    sampler_small.writer  # noqa: B018 loads
    original = decoding.Batch.prefill
    longest = max(len(group.ids) for group in sampler_small._groups(requests(), SETTINGS))

    def tight(self, groups):
        if any(len(group.ids) == longest for group in groups):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return original(self, groups)

    monkeypatch.setattr(decoding.Batch, "prefill", tight)
    found = draw(sampler_small)
    failed = {key for key, c in found.items() if c.finish_reason == "error"}
    assert {key[0] for key in failed} == {"p2", "p5"}
    assert len(failed) == 6
    assert all(found[key].text == "" and found[key].logprob is None for key in failed)
    assert {k: v for k, v in texts(found).items() if k not in failed} == {
        k: v for k, v in expected.items() if k not in failed
    }


def test_other_runtime_errors_are_not_taken_for_want_of_memory(sampler, monkeypatch):
    sampler.writer  # noqa: B018 loads

    def broken(self):
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr(decoding.Batch, "forward", broken)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        draw(sampler)


def test_a_row_whose_logits_turn_nan_ends_as_an_error_and_spares_the_others(sampler, monkeypatch):
    expected = texts(draw(sampler))
    original = decoding.Batch.forward

    def poisoned(self):
        logits = original(self)
        indices = np.concatenate([[row.index for row in cohort.sources] for cohort in self.cohorts])
        counts = torch.cat([cohort.count for cohort in self.cohorts]).numpy()
        logits[torch.from_numpy((indices == 4) & (counts == 1)), 0] = math.nan
        return logits

    monkeypatch.setattr(decoding.Batch, "forward", poisoned)
    found = draw(sampler)
    assert found["p1", 1].finish_reason == "error"
    assert found["p1", 1].n_tokens == 1
    del expected["p1", 1], found["p1", 1]
    assert texts(found) == expected


# What can be wrong with a model


def copy(tiny_policy: Path, tmp_path: Path, *without: str) -> Path:
    folder = shutil.copytree(tiny_policy, tmp_path / "copy")
    for name in without:
        (folder / name).unlink()
    return folder


def test_a_folder_without_weights_is_refused_at_once(tiny_policy, tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no weights"):
        TransformersSampler(copy(tiny_policy, tmp_path, "model.safetensors"))


def test_pickled_weights_are_refused_at_once(tiny_policy, tmp_path):
    folder = copy(tiny_policy, tmp_path, "model.safetensors")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ValueError, match=r"only as pytorch_model\.bin, a pickle"):
        TransformersSampler(folder)


def test_a_folder_that_is_no_model_is_refused_at_once(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        TransformersSampler(tmp_path)
    with pytest.raises(FileNotFoundError, match="no model folder '/no/such'"):
        TransformersSampler("/no/such")


def test_an_unknown_hub_id_without_a_network_is_refused_at_once(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match="no model folder 'nobody/nothing', and the Hub cannot be reached"):
        TransformersSampler("nobody/nothing")


def test_truncated_weights_are_named(tiny_policy, tmp_path):
    folder = copy(tiny_policy, tmp_path)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises((ValueError, RuntimeError), match="cannot be loaded"):
        draw(TransformersSampler(folder, device="cpu"))


def test_a_tokenizer_without_chat_template_names_the_remedy_and_a_given_template_is_recorded(tiny_policy, tmp_path):
    folder = copy(tiny_policy, tmp_path, "chat_template.jinja")
    with pytest.raises(ValueError, match="no chat template.*chat_template to 'plain'"):
        draw(TransformersSampler(folder, device="cpu"))
    plain = TransformersSampler(folder, device="cpu", chat_template="plain")
    own = TransformersSampler(folder, device="cpu", chat_template=TEMPLATE)
    assert plain.render([{"role": "user", "content": "2 + 3 ="}]) == "2 + 3 =\n\n"
    assert own.render([{"role": "user", "content": "2 + 3 ="}]) == "<|user|>2 + 3 =<|assistant|>"
    assert len({plain.identity, own.identity, TransformersSampler(folder).identity}) == 3
    assert draw(plain) and draw(own)


def test_a_template_that_takes_no_system_message_says_which_parameter_to_change(tiny_policy):
    strict = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    refuses = TransformersSampler(tiny_policy, device="cpu", chat_template=strict + TEMPLATE)
    with pytest.raises(ValueError, match=r"System role not supported; leave system_prompt empty"):
        refuses.render([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1 + 1"}])
    assert refuses.render([{"role": "user", "content": "1 + 1"}]) == "<|user|>1 + 1<|assistant|>"


def test_a_model_without_end_of_text_is_refused(tiny_policy, tmp_path):
    folder = copy(tiny_policy, tmp_path, "generation_config.json")
    for name in ("config.json", "tokenizer_config.json"):
        content = json.loads((folder / name).read_text())
        content.pop("eos_token_id", None), content.pop("eos_token", None)
        (folder / name).write_text(json.dumps(content))
    with pytest.raises(ValueError, match="names no end-of-text token"):
        draw(TransformersSampler(folder, device="cpu"))


def test_a_prompt_that_leaves_no_room_is_refused_before_anything_is_written(sampler):
    with pytest.raises(
        ValueError,
        match=r"problem p\d \(en\) has \d+ tokens, .* exceeds the 512 positions .* lower max_new_tokens to \d+",
    ):
        draw(sampler, settings=Sampling(max_new_tokens=500))


def test_the_identity_follows_the_content_not_the_place(tiny_policy, tmp_path):
    moved = copy(tiny_policy, tmp_path)
    assert TransformersSampler(moved).identity == TransformersSampler(tiny_policy).identity
    assert TransformersSampler(moved).name == "copy"
    weights = moved / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    assert TransformersSampler(moved).identity != TransformersSampler(tiny_policy).identity


def test_nothing_is_loaded_to_know_the_identity(tiny_policy, monkeypatch):
    monkeypatch.setattr(opening.AutoModelForCausalLM, "from_pretrained", lambda *a, **k: pytest.fail("model loaded"))
    monkeypatch.setattr(
        transformers_sampler.AutoTokenizer, "from_pretrained", lambda *a, **k: pytest.fail("tokenizer loaded")
    )
    assert TransformersSampler(tiny_policy).identity.startswith("sha256:")


@pytest.mark.parametrize("arguments", [{"batch_rows": 0}, {"workers": 0}, {"dtype": "int8"}, {"device": "gpu"}])
def test_settings_out_of_range_are_named(tiny_policy, arguments):
    with pytest.raises(ValueError, match=str(next(iter(arguments.values())))):
        TransformersSampler(tiny_policy, **arguments)


SAMPLING_CHILD = """
import sys
from pathlib import Path
sys.path[:0] = [sys.argv[3], sys.argv[3] + "/.."]
from bestofl_lib.candidates import store
store._FLUSH_ROWS = 20
from test_transformers_sampler import TransformersSampler
from test_sampling import *
print("ready", flush=True)
draw(Path(sys.argv[1]), TransformersSampler(sys.argv[2], device="cpu", batch_rows=24, workers=2), Sampling(max_new_tokens=60), table=problems(20), n=8)
"""


@pytest.mark.slow
def test_kill_9_of_a_sampling_parent_loses_nothing_and_leaves_no_process_behind(tiny_policy, tmp_path):
    import polars as pl

    from bestofl_lib.candidates.sampling import generate
    from bestofl_lib.candidates.store import Store

    command = [
        sys.executable,
        "-c",
        SAMPLING_CHILD,
        str(tmp_path / "killed"),
        str(tiny_policy),
        str(Path(__file__).parent),
    ]
    root = Path(__file__).resolve().parents[2]
    child = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    store = Store(tmp_path / "killed")
    while child.poll() is None and not store.shards():
        time.sleep(0.01)
    offspring = Path(f"/proc/{child.pid}/task/{child.pid}/children")
    workers = offspring.read_text().split() if offspring.exists() else []
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    rows = [
        {"problem_id": f"p{i}", "language": c, "split": "test" if i % 2 else "train", "question": f"How much is {i}? ({c})", "reference": str(i), "is_revised": False}
        for i in range(20) for c in ("en", "sw")
    ]  # fmt: skip
    tables = [
        generate(pl.DataFrame(rows), Store(tmp_path / name), TransformersSampler(tiny_policy, device="cpu"), 8, Sampling(max_new_tokens=60), progress=False)
        for name in ("killed", "undisturbed")
    ]  # fmt: skip
    assert tables[0].drop("seconds", "logprob").equals(tables[1].drop("seconds", "logprob"))
    for _ in range(200):
        if not any(
            Path(f"/proc/{pid}").exists() and "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
            for pid in workers
        ):
            break
        time.sleep(0.05)
    else:
        pytest.fail("sampling processes outlive their parent")
