"""Reading numbers off a model: the fast way equals the plain way, and what does not fit is said."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from bestofl_lib.rewards.backbone import RewardBackbone  # noqa: E402
from bestofl_lib.rewards.readouts import Probe  # noqa: E402

TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}<|user|>{{ m['content'] }}"
    "{% else %}<|assistant|>{{ m['content'] | trim }}<|end|>{% endif %}{% endfor %}"
)


@pytest.fixture(scope="module")
def texts():
    """Prompts of several lengths, each with several completions, in no order; one empty, one far too long."""
    rng = random.Random(0)
    prompts = [("why? " * rng.randint(1, 9), code) for code in ("en", "sw", "zh") for _ in range(4)]
    owner = [rng.randrange(len(prompts)) for _ in range(60)]
    completions = ["".join(rng.choices("abc 123.\n", k=rng.randint(1, 60))) for _ in owner]
    completions[7], completions[9] = "", "long " * 400
    return prompts, owner, completions


@pytest.fixture(scope="module")
def backbone(tiny_policy):
    found = RewardBackbone(tiny_policy, device="cpu", batch_tokens=300)
    found.texts.tokenizer.chat_template = TEMPLATE
    return found


def test_sharing_prompts_changes_no_number_beyond_rounding(backbone, texts):
    shared, cut = backbone.values(*texts)
    plain, cut_plain = backbone.values(*texts, share=False)
    assert shared.shape == (60, 32)
    assert np.abs(shared - plain).max() < 1e-5 * np.abs(plain).max()
    assert cut.tolist() == cut_plain.tolist()


def test_rewards_are_those_of_the_transformers_model_on_the_same_tokens(backbone, texts):
    ids, _ = backbone.whole_texts(*texts)
    ids = [row["input_ids"] for row in ids]
    longest = max(map(len, ids))
    padded = torch.tensor([row + [backbone.texts.pad] * (longest - len(row)) for row in ids])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids])
    with torch.inference_mode():
        expected = backbone.model(input_ids=padded, attention_mask=mask).logits[:, 0].numpy()
    head = backbone.model.score.weight.detach().numpy()[0]
    assert np.allclose(backbone.values(*texts)[0] @ head, expected, atol=1e-5 * np.abs(expected).max())


def test_a_probe_s_numbers_are_those_of_the_language_model_and_shared_prompts_change_none(tiny_policy, texts):
    probe = RewardBackbone(tiny_policy, device="cpu", readout=Probe(), batch_tokens=300)
    probe.texts.tokenizer.chat_template = TEMPLATE
    shared, _ = probe.values(*texts)
    plain, _ = probe.values(*texts, share=False)
    filled = np.array([bool(text.strip()) for text in texts[2]])
    assert shared.shape == (60, 2 * 32 + 8)
    assert np.abs(shared - plain)[filled].max() < 1e-4 * np.abs(plain).max()
    prompts, owner, completions = texts
    head, body, _ = probe.texts.encode(prompts, owner, completions)
    ids, start = torch.tensor([head[owner[3]] + body[3]]), len(head[owner[3]])
    with torch.inference_mode():
        out = probe.model(ids, output_hidden_states=True)
    logs = out.logits.log_softmax(-1)[0, start - 1 : -1]
    own = logs.gather(1, ids[0, start:, None])[:, 0]
    assert shared[3, 64] == pytest.approx(own.sum().item(), rel=1e-4)
    assert shared[3, 66] == pytest.approx(own.min().item(), rel=1e-4)
    assert shared[3, 69] == pytest.approx(-(logs.exp() * logs).sum(-1).mean().item(), rel=1e-4)
    assert shared[3, 71] == len(body[3])
    assert np.allclose(shared[3, :32], out.hidden_states[-1][0, -1].numpy(), atol=1e-4)
    assert np.allclose(shared[3, 32:64], out.hidden_states[-1][0, start:].mean(0).numpy(), atol=1e-4)


def test_the_text_is_the_chat_template_s_whatever_it_strips(backbone):
    ids, _ = backbone.whole_texts([("what?", "en")], [0], ["  seven \n"])
    chat = [{"role": "user", "content": backbone.texts.prompt_text("what?", "en").removeprefix("<|user|>").removesuffix("<|assistant|>")},
            {"role": "assistant", "content": "  seven \n"}]  # fmt: skip
    whole = backbone.texts.tokenizer(
        backbone.texts.tokenizer.apply_chat_template(chat, tokenize=False), add_special_tokens=False
    )
    whole = whole["input_ids"]
    assert whole[-1] == backbone.texts.pad  # this tokenizer pads with its end token, which is then not read
    assert ids[0]["input_ids"] == whole[:-1]


def test_a_long_completion_loses_its_beginning_and_is_flagged(backbone, texts):
    prompts, owner, completions = texts
    head, body, cut = backbone.texts.encode(prompts, owner, completions)
    assert np.flatnonzero(cut).tolist() == [9]
    assert len(head[owner[9]]) + len(body[9]) == backbone.max_tokens
    assert backbone.texts.tokenizer.decode(body[9]).endswith("long")


def test_an_empty_completion_has_a_finite_value(backbone, texts):
    assert np.isfinite(backbone.values(*texts)[0][7]).all()


def test_out_of_memory_halves_the_batch_and_gives_up_single_rows_only(backbone, texts, monkeypatch):
    expected, _ = backbone.values(*texts)
    original, largest = backbone._continue, []
    heavy = "long "

    def limited(prompts, slots, ids, marks=None):
        largest.append(len(ids))
        if len(ids) > 2 or any(len(row) > 300 for row in ids):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate too much")
        return original(prompts, slots, ids, marks)

    monkeypatch.setattr(backbone, "_continue", limited)
    monkeypatch.setattr(backbone, "batch_tokens", 10_000)
    found, _ = backbone.values(*texts)
    lost = np.flatnonzero(np.isnan(found).any(1)).tolist()
    assert lost == [i for i, text in enumerate(texts[2]) if text.startswith(heavy)] == sorted(backbone.set_aside)
    keep = np.setdiff1d(np.arange(60), lost)
    assert np.allclose(found[keep], expected[keep], atol=1e-4)
    assert max(largest) > 2


def test_other_errors_are_not_taken_for_want_of_memory(backbone, texts, monkeypatch):
    def broken(*_):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(backbone, "_continue", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        backbone.values(*texts)


def test_fewer_layers_are_read_when_asked(tiny_policy, texts):
    short = RewardBackbone(tiny_policy, device="cpu", layers=1)
    assert len(short.model.model.layers) == 1
    assert short.identity() != RewardBackbone(tiny_policy, device="cpu").identity()
    with pytest.raises(ValueError, match="layers=9"):
        RewardBackbone(tiny_policy, device="cpu", layers=9)


def test_an_encoder_scores_question_and_completion_as_a_pair(tmp_path, texts):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    letters = {
        token: i
        for i, token in enumerate(["[PAD]", "[CLS]", "[SEP]", "[UNK]", *"abcdefghijklmnopqrstuvwxyz0123456789?."])
    }
    raw = Tokenizer(models.WordLevel(letters, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    raw.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        eos_token="[SEP]",
        unk_token="[UNK]",
    )
    tokenizer.save_pretrained(tmp_path)
    config = transformers.BertConfig(
        vocab_size=len(letters), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=200, num_labels=1,
    )  # fmt: skip
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path)
    model = RewardBackbone(tmp_path, style="question", device="cpu")
    assert (model.is_causal, model.width) == (False, 1)
    values, cut = model.values(*texts)
    assert np.isfinite(values).all()
    assert cut[9]
    prompts, owner, completions = texts
    one = tokenizer(prompts[owner[3]][0], completions[3], return_tensors="pt")
    with torch.inference_mode():
        assert values[3, 0] == pytest.approx(model.model(**one).logits.item(), abs=1e-5)


def test_a_token_limit_beyond_the_model_s_is_refused(tiny_policy):
    with pytest.raises(ValueError, match="max_tokens=100000"):
        RewardBackbone(tiny_policy, max_tokens=100_000, device="cpu")


def test_a_model_with_two_outputs_or_without_a_head_is_not_a_reward_model(tmp_path, tiny_policy):
    with pytest.raises(ValueError, match="has no trained head"):
        RewardBackbone(tiny_policy, require_head=True, device="cpu")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tiny_policy, num_labels=3)
    model.save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(tiny_policy).save_pretrained(tmp_path)
    assert len(json.loads((tmp_path / "config.json").read_text())["id2label"]) == 3
    with pytest.raises(ValueError, match="has 3 outputs; a reward model has 1"):
        RewardBackbone(tmp_path, require_head=True, device="cpu")
