"""Reward models made elsewhere: each kind is told by its configuration and gives the number its authors compute.

Tiny models with random weights stand for each architecture; the expected number is computed here by plain Transformers calls.
"""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from safetensors.torch import load_file, save_file  # noqa: E402

from bestofl_lib.rewards.opening import import_reward_model, open_reward_model  # noqa: E402
from bestofl_lib.rewards.scoring import score  # noqa: E402
from bestofl_lib.rewards.steps import aggregate_steps, split_steps  # noqa: E402
from bestofl_lib.rewards.ways import ExternalModel, way_of  # noqa: E402

CHAT = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
QUESTION = "Ana has 2 apples and buys 3 + 1. How many?"
SOLUTION = "She buys 3 + 1 = 4.\n\nNow 2 + 4 = 6.\n\nThe answer is 6."
PROMPTS, OWNERS = [(QUESTION, "en"), ("1 + 1?", "en")], [0, 0, 1]
COMPLETIONS = [SOLUTION, "It is 6. I am sure. The answer is 6.", "2"]


@pytest.fixture(scope="module")
def tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    special = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<extra_0>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(special + alphabet)}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|end|>", pad_token="<|pad|>", additional_special_tokens=special[2:]
    )
    fast.chat_template = CHAT
    return fast


def _config(**changes):
    shape = dict(
        vocab_size=262, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=512, initializer_range=0.5, pad_token_id=0, eos_token_id=1,
        bos_token_id=None,
    )  # fmt: skip
    return transformers.Qwen2Config(**(shape | changes))


def _write(folder, tokenizer, kind, config=None, architecture=None, head=None):
    """A tiny model of class `kind`, its weights, and where asked another architecture's name and two-layer head."""
    torch.manual_seed(1)
    model = kind(config or _config()).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if architecture:
        content = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(content | {"architectures": [architecture]}))
    if head is not None:
        weights = {k: v for k, v in load_file(folder / "model.safetensors").items() if not k.startswith("score")}
        names = {
            "score.0.weight": (16, 16),
            "score.0.bias": (16,),
            "score.2.weight": (head, 16),
            "score.2.bias": (head,),
        }
        weights |= {name: torch.randn(shape) for name, shape in names.items()}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        return model, {name: weights[name] for name in names}
    return model, None


def _two_layers(head, states):
    inner = torch.relu(states @ head["score.0.weight"].T + head["score.0.bias"])
    return inner @ head["score.2.weight"].T + head["score.2.bias"]


def _values(folder, tmp_path, text=""):
    spec = import_reward_model(ExternalModel.parse(f"{folder}, name=theirs{text}"), tmp_path / "models")
    backbone = open_reward_model(tmp_path / "models" / "theirs", spec, device="cpu")
    shared, _ = backbone.values(PROMPTS, OWNERS, COMPLETIONS)
    plain, _ = backbone.values(PROMPTS, OWNERS, COMPLETIONS, share=False)
    assert np.allclose(shared, plain, atol=1e-5, equal_nan=True), "computing each prompt once changed a number"
    return spec, shared


def _steps(row):
    return row[~np.isnan(row)]


@torch.no_grad()
def test_a_sequence_head_is_read_at_the_last_token(tokenizer, tmp_path):
    model, _ = _write(tmp_path, tokenizer, transformers.Qwen2ForSequenceClassification, _config(num_labels=1))
    _, values = _values(tmp_path, tmp_path)
    chat = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": SOLUTION}]
    ids = tokenizer(tokenizer.apply_chat_template(chat, tokenize=False), return_tensors="pt", add_special_tokens=False)
    assert values[0, 0] == pytest.approx(model(**ids).logits.item(), abs=1e-4)


@torch.no_grad()
def test_a_two_layer_head_is_read_at_the_last_token_behind_its_system_turn(tokenizer, tmp_path):
    model, head = _write(tmp_path, tokenizer, transformers.Qwen2ForCausalLM, None, "Qwen2ForRewardModel", head=1)
    spec, values = _values(tmp_path, tmp_path)
    assert (spec.way, spec.template) == ("two-layer", "qwen-math")
    system = "Please reason step by step, and put your final answer within \\boxed{}."
    chat = [
        {"role": "system", "content": system},
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": SOLUTION},
    ]
    ids = tokenizer(tokenizer.apply_chat_template(chat, tokenize=False), return_tensors="pt", add_special_tokens=False)
    state = model.model(**ids).last_hidden_state[0, -1]
    assert values[0, 0] == pytest.approx(_two_layers(head, state).item(), abs=1e-3)


@torch.no_grad()
def test_a_process_head_is_read_at_every_separator(tokenizer, tmp_path):
    model, head = _write(tmp_path, tokenizer, transformers.Qwen2ForCausalLM, None, "Qwen2ForProcessRewardModel", head=2)
    spec, values = _values(tmp_path, tmp_path)
    assert (spec.way, spec.aggregation) == ("two-layer steps", "min")
    system = "Please reason step by step, and put your final answer within \\boxed{}."
    chat = [
        {"role": "system", "content": system},
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": "<extra_0>".join(SOLUTION.split("\n\n")) + "<extra_0>"},
    ]
    ids = tokenizer(tokenizer.apply_chat_template(chat, tokenize=False), return_tensors="pt", add_special_tokens=False)
    at = ids["input_ids"][0] == tokenizer.convert_tokens_to_ids("<extra_0>")
    expected = _two_layers(head, model.model(**ids).last_hidden_state[0][at]).softmax(-1)[:, 1]
    assert _steps(values[0]) == pytest.approx(expected.numpy(), abs=1e-4)
    assert len(_steps(values[1])) == 3, "one paragraph is read by its sentences"


@torch.no_grad()
def test_a_token_classifier_is_read_at_the_end_of_each_step(tokenizer, tmp_path):
    model, _ = _write(tmp_path, tokenizer, transformers.Qwen2ForTokenClassification, _config(num_labels=2))
    spec, values = _values(tmp_path, tmp_path)
    assert spec.way == "token steps"
    ids, ends = tokenizer(QUESTION, add_special_tokens=False)["input_ids"], []
    for step in SOLUTION.split("\n\n"):
        ids += tokenizer(step + "\n", add_special_tokens=False)["input_ids"]
        ends.append(len(ids) - 1)
    expected = model(torch.tensor([ids])).logits[0, ends].softmax(-1)[:, 1]
    assert _steps(values[0]) == pytest.approx(expected.numpy(), abs=1e-4)


@torch.no_grad()
def test_label_turns_are_read_before_each_label(tokenizer, tmp_path):
    model, _ = _write(tmp_path, tokenizer, transformers.Qwen2ForCausalLM)
    spec, values = _values(tmp_path, tmp_path, ", template=labels")
    assert spec.way == "label steps"
    plus, minus = (tokenizer(label, add_special_tokens=False)["input_ids"][-1] for label in "+-")
    chat, expected = [], []
    for number, step in enumerate(SOLUTION.split("\n\n")):
        chat.append({"role": "user", "content": step if number else QUESTION + " " + step})
        chat.append({"role": "assistant", "content": "+"})
        text = tokenizer.apply_chat_template(chat, tokenize=False)
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)
        expected.append(
            model(**ids).logits[0, -3, [plus, minus]].softmax(-1)[0].item()
        )  # label, end: third from behind
    assert _steps(values[0]) == pytest.approx(expected, abs=1e-4)


@torch.no_grad()
def test_math_shepherd_is_read_at_its_label_places(tokenizer, tmp_path):
    model, _ = _write(tmp_path, tokenizer, transformers.Qwen2ForCausalLM)
    _, values = _values(tmp_path, tmp_path, ", template=ki")
    text = QUESTION + " " + "\n".join(step + " ки" for step in SOLUTION.split("\n\n"))
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
    place = tokenizer(" ки", add_special_tokens=False)["input_ids"][-1]
    plus, minus = (tokenizer(label, add_special_tokens=False)["input_ids"][-1] for label in "+-")
    logits = model(ids).logits[0][:, [plus, minus]].softmax(-1)[:, 0]
    assert _steps(values[0]) == pytest.approx(logits[ids[0] == place].numpy(), abs=1e-4)


@torch.no_grad()
def test_a_judge_says_yes_or_no(tokenizer, tmp_path):
    model, _ = _write(tmp_path, tokenizer, transformers.Qwen2ForCausalLM)
    _, values = _values(tmp_path, tmp_path, ", template=judge")
    content = f"Problem:\n{QUESTION}\n\nSolution:\n{SOLUTION}\n\nIs this solution correct? Answer Yes or No."
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
    yes, no = (tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in ("Yes", "No"))
    assert values[0, -1] == pytest.approx(model(ids).logits[0, -1, [yes, no]].softmax(-1)[0].item(), abs=1e-4)


def test_a_completion_that_is_too_long_keeps_its_last_step(tokenizer, tmp_path):
    _write(tmp_path, tokenizer, transformers.Qwen2ForTokenClassification, _config(num_labels=2))
    spec = import_reward_model(ExternalModel.parse(f"{tmp_path}, name=theirs"), tmp_path / "models")
    backbone = open_reward_model(tmp_path / "models" / "theirs", spec, device="cpu")
    backbone.texts.max_tokens = 30
    values, cut = backbone.values([("1 + 1?", "en")], [0, 0], [SOLUTION, "The answer is 6."])
    assert cut.tolist() == [True, False]
    assert 1 <= len(_steps(values[0])) < 3 and np.isfinite(values[0, -1])


def test_steps_are_stored_and_the_aggregation_is_a_choice(world, tokenizer, tmp_path):
    _write(tmp_path, tokenizer, transformers.Qwen2ForTokenClassification, _config(num_labels=2))
    long = world.candidates.with_columns(completion=pl.lit("One. Two.\n\n") + pl.col("completion"))
    for how in ("min", "product", "last"):
        model = ExternalModel.parse(f"{tmp_path}, name=theirs-{how}, aggregation={how}")
        import_reward_model(model, tmp_path / "models")
    scores = score(long, world.split("test"), tmp_path / "models", device="cpu")
    key = ["problem_id", "language", "sample_index"]
    steps = scores.steps.filter(pl.col("reward_model") == "theirs-min")
    assert set(steps.group_by(key).len()["len"]) == {2}
    expected = steps.group_by(key).agg(pl.col("reward").product()).sort(key)
    found = scores.rewards.filter(pl.col("reward_model") == "theirs-product").sort(key)
    assert found["reward"].to_list() == pytest.approx(expected["reward"].to_list())


@pytest.mark.parametrize(
    ("config", "option", "words"),
    [
        ({"architectures": ["LlamaForSequenceClassification"], "num_labels": 2}, "", "has 2 outputs; a reward model has 1"),
        ({"architectures": ["BertForTokenClassification"], "num_labels": 9}, "", "has 9 labels per token"),
        ({"architectures": ["InternLM2ForRewardModel"]}, "", "repository's own code"),
        ({"architectures": ["Qwen2Model"]}, "", "is not a kind of reward model that can be read"),
        ({"architectures": ["LlamaForCausalLM"]}, "", "say how its reward is read: template=labels"),
        ({"architectures": ["LlamaForSequenceClassification"], "num_labels": 1}, ", template=ki", "chat or qwen-math, not 'ki'"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_the_reason(tmp_path, config, option, words):
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=words):
        way_of(ExternalModel.parse(f"{tmp_path}{option}"))


def test_a_head_of_another_shape_is_refused(tokenizer, tmp_path):
    _write(tmp_path, tokenizer, transformers.Qwen2ForCausalLM, None, "Qwen2ForRewardModel", head=2)
    with pytest.raises(ValueError, match="has 2 outputs; this kind of reward model has 1"):
        import_reward_model(ExternalModel.parse(f"{tmp_path}, name=x"), tmp_path / "models")


def test_only_pickled_weights_are_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["Qwen2ForPrmModel"]}))
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n")
    with pytest.raises(ValueError, match="pickle"):
        way_of(ExternalModel.parse(str(tmp_path)))


def test_a_mistyped_option_is_named():
    with pytest.raises(ValueError, match="did you mean 'template'"):
        ExternalModel.parse("a/b, templat=ki")
    with pytest.raises(ValueError, match="unknown aggregation 'median'; use one of: last, min, product, mean"):
        ExternalModel.parse("a/b, aggregation=median")


def test_steps_are_paragraphs_lines_or_sentences_and_at_most_64():
    assert split_steps("a b. c\n\nd") == ["a b. c", "d"]
    assert split_steps("ওরা ৩টি কেনে। মোট ৫টি।") == ["ওরা ৩টি কেনে।", "মোট ৫টি।"]
    assert split_steps("买了3个。一共5个。") == ["买了3个。", "一共5个。"]
    assert split_steps("x = 3.5") == ["x = 3.5"]
    assert split_steps("") == [""]
    many = split_steps("\n\n".join(map(str, range(100))))
    assert len(many) == 64 and many[-1].endswith("99")


def test_aggregations_ignore_the_steps_that_a_candidate_does_not_have():
    rewards = np.array([[np.nan, 0.5, 0.8], [0.2, 0.9, 0.1], [np.nan] * 3])
    assert aggregate_steps(rewards, "last")[:2].tolist() == [0.8, 0.1]
    assert aggregate_steps(rewards, "min")[:2].tolist() == [0.5, 0.1]
    assert aggregate_steps(rewards, "mean")[:2] == pytest.approx([0.65, 0.4])
    assert aggregate_steps(rewards, "product")[:2] == pytest.approx([0.4, 0.018])
    assert np.isnan(aggregate_steps(rewards, "min")[2])


def test_a_study_names_its_reward_models_and_those_not_named_any_more_go(world, tokenizer, tiny_policy, tmp_path):
    from bestofl_lib.rewards.opening import import_reward_models
    from bestofl_lib.rewards.spec import TrainingSettings, reward_models
    from bestofl_lib.rewards.training import train_reward_models

    _write(tmp_path / "theirs", tokenizer, transformers.Qwen2ForSequenceClassification, _config(num_labels=1))
    train_reward_models(
        world.candidates, world.readings, world.split("train"), base=tiny_policy, folder=tmp_path / "ours",
        variants=["cross"], settings=TrainingSettings(rows=20), device="cpu",
    )  # fmt: skip
    run = tmp_path / "run"
    import_reward_models([f"{tmp_path / 'theirs'}, name=bought", str(tmp_path / "ours" / "cross")], run)
    assert [spec.name for _, spec in reward_models(run)] == ["bought", "cross"]
    rewards = score(world.candidates, world.split("test"), run, device="cpu").rewards
    assert rewards.group_by("reward_model").agg(pl.col("seed").first()).sort("reward_model").rows() == [
        ("bought", None),
        ("cross", 0),
    ]
    import_reward_models([str(tmp_path / "ours" / "cross")], run)
    assert [spec.name for _, spec in reward_models(run)] == ["cross"]
