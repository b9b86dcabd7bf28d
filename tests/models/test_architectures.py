"""Every architecture is sampled as `generate` samples it, or refused in words: tiny random models, ragged prompts.

A dozen rows run in `make quick`; all of them: `pytest tests/models/test_architectures.py`. A new release of Transformers is
tried by running them all: a row that fails says which text differs, or that another decoder serves it now.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from architectures import ARCHITECTURES, PAGE, SWITCH, VOCABULARY, WINDOW, Architecture, make, page  # noqa: E402

from bestofl_lib.models import self_check  # noqa: E402
from bestofl_lib.models.contract import Completion, Sampling  # noqa: E402
from bestofl_lib.models.decoding import Decoder  # noqa: E402
from bestofl_lib.models.generate_decoding import GenerateDecoder, SlowSamplingWarning  # noqa: E402
from bestofl_lib.models.opening import Opening, UnfitWeights, open_language_model  # noqa: E402
from bestofl_lib.models.work import Group, Queue, Row, Shape  # noqa: E402
from bestofl_lib.models.writers import open_writer  # noqa: E402
from bestofl_lib.rewards.logits import refuse_other_logits  # noqa: E402

LENGTHS = (2, 5, WINDOW - 4, 40, 127)  # tokens of the prompts
NEW_TOKENS = WINDOW + 8
EVERY = pytest.mark.parametrize(
    "architecture",
    [pytest.param(a, id=str(a), marks=[] if a.quick else [pytest.mark.slow]) for a in ARCHITECTURES],
)


@pytest.fixture(autouse=True)
def one_thread():
    """Models this small lose time by sharing it among threads, most of all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def prompts() -> list[Group]:
    """Random prompts of different lengths, two completions each."""
    generator = torch.Generator().manual_seed(1)
    ids = [torch.randint(4, VOCABULARY, (n,), generator=generator).tolist() for n in LENGTHS]
    return [Group(tokens, [Row(2 * i, 7 * i), Row(2 * i + 1, 7 * i + 1)]) for i, tokens in enumerate(ids)]


def write(writer: Decoder | GenerateDecoder, groups: list[Group], settings: Sampling) -> dict[int, Completion]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SlowSamplingWarning)
        written = list(writer.run(Queue(groups).take, Shape.of(groups), settings))
    return {index: found for index, found in written if isinstance(found, Completion)}


def open_quietly(folder: Path, dtype: torch.dtype = torch.float32) -> Decoder | GenerateDecoder:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SlowSamplingWarning)
        return open_writer(Opening(str(folder), None, "cpu", dtype))


def generated(model, ids: list[int], new_tokens: int) -> tuple[list[int], float]:
    """What Transformers itself writes, with its log-probability, of a model as Transformers opens it."""
    prompt = torch.tensor([ids])
    out = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=new_tokens,
        eos_token_id=1, pad_token_id=0, output_logits=True, return_dict_in_generate=True,
    )  # fmt: skip
    own = out.sequences[0, len(ids) :]
    logprobs = torch.stack(out.logits)[:, 0].float().log_softmax(-1)
    return own.tolist(), float(logprobs.gather(1, own[:, None]).sum())


@EVERY
def test_greedy_texts_and_log_probabilities_are_those_of_generate(architecture: Architecture, folder):
    make(architecture, folder)
    writer = open_quietly(folder)
    assert isinstance(writer, {"loop": Decoder, "generate": GenerateDecoder}[architecture.served_by])
    found = write(writer, prompts(), Sampling(temperature=0, max_new_tokens=NEW_TOKENS))
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    refuse_other_logits(model, architecture.kind)  # the probe of a reward model computes what the model computes
    for group in prompts():
        own, logprob = generated(model, group.ids, NEW_TOKENS)
        text = writer.opened.tokenizer.decode(own[: len(own) - (own[-1] == 1)], skip_special_tokens=True)
        for row in group.rows:
            assert (found[row.index].text, found[row.index].n_tokens) == (text, len(own)), f"{len(group.ids)} tokens"
            assert found[row.index].logprob == pytest.approx(logprob, abs=1e-4)


@pytest.mark.parametrize("kind", ["llama", "gemma2", "gpt_oss", "qwen3", "cohere2"])
def test_in_bfloat16_the_loop_serves_and_writes_nearly_what_generate_writes(kind, folder):
    make(Architecture(kind, "loop"), folder)
    writer = open_quietly(folder, torch.bfloat16)
    assert isinstance(writer, Decoder)
    found = write(writer, prompts(), Sampling(temperature=0, max_new_tokens=4))
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    same = 0
    for group in prompts():
        own, logprob = generated(model, group.ids, 4)
        if found[group.rows[0].index].text == writer.opened.tokenizer.decode(own, skip_special_tokens=True):
            same += 1
            assert found[group.rows[0].index].logprob == pytest.approx(logprob, abs=0.25)
    assert same >= 3, "of 5 prompts: more than rounding can explain"


def test_the_table_covers_at_least_45_architectures():
    assert len({a.kind for a in ARCHITECTURES}) >= 45
    assert {a.served_by for a in ARCHITECTURES} == {"loop", "generate"}


def test_the_page_for_readers_is_that_of_the_table():
    assert PAGE.read_text("utf8") == page(), "run: python tests/architectures.py"


def test_an_attention_argument_that_the_loop_does_not_know_sends_the_model_to_generate(folder, monkeypatch):
    make(Architecture("llama", "loop"), folder)
    plain = write(open_quietly(folder), prompts(), Sampling(temperature=0, max_new_tokens=9))
    original = transformers.models.llama.modeling_llama.LlamaAttention.forward

    def with_bias(self, *args, **kwargs):
        return original(self, *args, **kwargs, head_bias=torch.zeros(1))

    monkeypatch.setattr(transformers.models.llama.modeling_llama.LlamaAttention, "forward", with_bias)
    with pytest.warns(SlowSamplingWarning, match="head_bias"):
        writer = open_writer(Opening(str(folder), None, "cpu", torch.float32))
    assert isinstance(writer, GenerateDecoder)
    slow = write(writer, prompts(), Sampling(temperature=0, max_new_tokens=9))
    assert {i: c.text for i, c in slow.items()} == {i: c.text for i, c in plain.items()}


def test_only_prompts_that_may_outgrow_their_rotary_embeddings_are_written_apart(folder):
    make(next(a for a in ARCHITECTURES if str(a) == "phi3 with longrope"), folder)
    writer, groups = open_quietly(folder), prompts()
    assert writer.opened.switch == SWITCH
    settings = Sampling(temperature=0, max_new_tokens=SWITCH - 40)  # 40 + 20 tokens just fit
    with pytest.warns(SlowSamplingWarning, match=f"1 prompts .* exceed {SWITCH} tokens"):
        assert len(list(writer.run(Queue(groups).take, Shape.of(groups), settings))) == 2 * len(LENGTHS)


def test_texts_to_be_scored_never_outgrow_their_rotary_embeddings(folder):
    from bestofl_lib.rewards.backbone import RewardBackbone

    make(next(a for a in ARCHITECTURES if str(a) == "phi3 with longrope"), folder)
    assert RewardBackbone(folder, device="cpu").max_tokens == SWITCH
    with pytest.raises(ValueError, match=f"max_tokens={SWITCH + 1}.* 8 to {SWITCH} tokens"):
        RewardBackbone(folder, device="cpu", max_tokens=SWITCH + 1)


def test_both_decoders_draw_the_same_candidates(folder):
    make(Architecture("qwen3", "loop"), folder)
    settings = Sampling(temperature=1.0, top_p=0.9, max_new_tokens=20)
    fast = write(open_quietly(folder), prompts(), settings)
    slow = write(
        GenerateDecoder(open_language_model(Opening(str(folder), None, "cpu", torch.float32))), prompts(), settings
    )
    assert {i: (c.text, c.n_tokens, c.finish_reason) for i, c in fast.items()} == {
        i: (c.text, c.n_tokens, c.finish_reason) for i, c in slow.items()
    }
    assert all(slow[i].logprob == pytest.approx(c.logprob, abs=1e-4) for i, c in fast.items())


def test_the_self_check_sees_a_loop_that_ignores_windows_or_sinks(folder, monkeypatch):
    from bestofl_lib.models import attention, cohorts

    make(Architecture("gpt_oss", "loop"), folder)
    opened = open_language_model(Opening(str(folder), None, "cpu", torch.float32), attention.ATTENTION)
    assert self_check.doubt(opened) is None
    original = cohorts.Cohort.attend
    for blind in (
        lambda self, layer, q, k, v, cap, window, sinks=None: original(self, layer, q, k, v, cap, None, sinks),
        lambda self, layer, q, k, v, cap, window, sinks=None: original(self, layer, q, k, v, cap, window, None),
    ):
        monkeypatch.setattr(cohorts.Cohort, "attend", blind)
        assert "differ" in (self_check.doubt(opened) or "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda config, tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"),
            r"lacks model\.layers\.1\.mlp\.up_proj",
        ),
        (lambda config, tensors: tensors.pop("lm_head.weight"), r"lacks lm_head\.weight"),
        (lambda config, tensors: config.update(num_hidden_layers=1), r"holds model\.layers\.1\..* no layer"),
        (lambda config, tensors: config.update(num_hidden_layers=3, layer_types=None), r"lacks model\.layers\.2\."),
        (lambda config, tensors: config.update(intermediate_size=56), "config.json"),
    ],
)
def test_weights_that_do_not_fit_their_configuration_are_refused_with_their_names(folder, change, message):
    from safetensors.torch import load_file, save_file

    make(Architecture("llama", "loop", {"tie_word_embeddings": False}), folder)
    config, tensors = json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors")
    change(config, tensors)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=message) as caught:
        open_writer(Opening(str(folder), None, "cpu", torch.float32))
    assert isinstance(caught.value, UnfitWeights) or "fit" in str(caught.value)
