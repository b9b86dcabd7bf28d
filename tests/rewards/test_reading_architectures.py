"""Models with windows, soft-capped or scaled logits, vision parts: read as their own forward computes, shared prompts or not."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from architectures import WINDOW, Architecture, make
from made_up_world import make_world

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from bestofl_lib.candidates.sampling import generate  # noqa: E402
from bestofl_lib.candidates.store import Store  # noqa: E402
from bestofl_lib.candidates.transformers_sampler import TransformersSampler  # noqa: E402
from bestofl_lib.models.contract import Sampling  # noqa: E402
from bestofl_lib.rewards.backbone import RewardBackbone, SlowScoringWarning  # noqa: E402
from bestofl_lib.rewards.opening import open_reward_model  # noqa: E402
from bestofl_lib.rewards.readouts import Probe  # noqa: E402
from bestofl_lib.rewards.scoring import score  # noqa: E402
from bestofl_lib.rewards.spec import TrainingSettings, reward_models  # noqa: E402
from bestofl_lib.rewards.training import train_reward_models  # noqa: E402

PROMPTS = [("why? " * n, code) for n, code in ((1, "en"), (4, "sw"), (9, "zh"))]
OWNERS = [0, 1, 2, 0, 1, 2, 2]
COMPLETIONS = ["a 12", "b", "it is 3. " * 5, "abc " * 9, "x 1 2 3", "so 7", "12\n"]
READ = [
    Architecture("mistral", "loop"),
    Architecture("gemma2", "loop", {"final_logit_softcapping": 2.0}),
    Architecture("gemma3_text", "loop", {"final_logit_softcapping": 2.0}),
    Architecture("granite", "loop", {"logits_scaling": 3.0}),
    Architecture("cohere2", "loop", {"logit_scale": 0.3}),
    Architecture("gpt_oss", "loop"),
    Architecture("opt", "loop"),
    Architecture("llama4_text", "generate"),  # chunks
]


def make_gemma3(folder: Path) -> None:
    """A tiny random Gemma 3 of the class of the 4b, 12b and 27b models: a vision tower beside the language model."""
    text = dict(
        vocab_size=260, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, sliding_window=WINDOW, max_position_embeddings=512, query_pre_attn_scalar=8,
        layer_types=["sliding_attention", "full_attention"],
    )  # fmt: skip
    vision = dict(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    config = transformers.Gemma3Config(
        text_config=text, vision_config=vision, mm_tokens_per_image=4, eos_token_id=1, bos_token_id=None,
        image_token_index=257, boi_token_index=258, eoi_token_index=259,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    assert type(model).__name__ == "Gemma3ForConditionalGeneration"
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    model.generation_config = transformers.GenerationConfig(eos_token_id=[1, *range(100, 119)])
    model.save_pretrained(folder)


@pytest.mark.parametrize("architecture", READ, ids=str)
def test_the_probe_reads_the_model_s_own_logits_and_shares_prompts_across_windows(architecture, folder):
    make(architecture, folder)
    probe = RewardBackbone(folder, device="cpu", readout=Probe())
    with warnings.catch_warnings():
        warnings.simplefilter("error", SlowScoringWarning)
        shared, _ = probe.values(PROMPTS, OWNERS, COMPLETIONS)
    plain, _ = probe.values(PROMPTS, OWNERS, COMPLETIONS, share=False)
    assert np.abs(shared - plain).max() < 1e-4 * np.abs(plain).max()
    size = probe.hidden_size
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    texts, _ = probe.whole_texts(PROMPTS, OWNERS, COMPLETIONS)
    for row, text in enumerate(texts):
        ids, start = torch.tensor([text["input_ids"]]), text["start"]
        with torch.inference_mode():
            logs = model(ids).logits.float().log_softmax(-1)[0, start - 1 : -1]
        own = logs.gather(1, ids[0, start:, None])
        assert shared[row, 2 * size] == pytest.approx(float(own.sum()), rel=1e-4)
        assert shared[row, 2 * size + 5] == pytest.approx(float(-(logs.exp() * logs).sum(-1).mean()), rel=1e-4)


def test_a_model_whose_prompts_cannot_be_shared_says_so_and_is_read_whole(folder):
    make(Architecture("mamba", "generate"), folder)
    probe = RewardBackbone(folder, device="cpu", readout=Probe())
    with pytest.warns(SlowScoringWarning, match="computes each prompt again for every completion"):
        found, _ = probe.values(PROMPTS, OWNERS, COMPLETIONS)
    plain, _ = probe.values(PROMPTS, OWNERS, COMPLETIONS, share=False)
    assert np.array_equal(found, plain)


def test_weights_that_lack_a_layer_are_not_scored_with_random_ones(folder):
    from safetensors.torch import load_file, save_file

    make(Architecture("llama", "loop"), folder)
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks model\.layers\.1\.mlp\.up_proj"):
        RewardBackbone(folder, device="cpu")


def test_gemma_3_with_its_vision_tower_is_sampled_trained_and_scored(folder, tmp_path):
    make_gemma3(folder)
    world = make_world(n_problems=4)
    problems = world.split("test")
    drawn = generate(
        problems, Store(tmp_path / "store"), TransformersSampler(folder, device="cpu"), 1,
        Sampling(temperature=0, max_new_tokens=WINDOW + 8), style="question", progress=False,
    )  # fmt: skip
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = {(p, code): text for p, code, text in drawn.select("problem_id", "language", "completion").iter_rows()}
    for problem, code, question in problems.select("problem_id", "language", "question").head(4).iter_rows():
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
        )
        ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"]
        out = model.generate(ids, do_sample=False, max_new_tokens=WINDOW + 8, pad_token_id=0)[0, ids.shape[1] :]
        assert texts[problem, code] == tokenizer.decode(out, skip_special_tokens=True)

    for number, settings in enumerate((
        {"readout": "head"}, {"readout": "probe"},
        {"readout": "head", "tuning": "full", "epochs": 1.0}, {"readout": "head", "tuning": "lora", "epochs": 1.0},
    )):  # fmt: skip
        place = tmp_path / str(number)
        train_reward_models(
            world.candidates, world.readings, world.split("train"), base=folder, folder=place, variants=("cross",),
            settings=TrainingSettings(rows=8, **settings), device="cpu",
        )  # fmt: skip
        rewards = score(world.candidates, problems, place, device="cpu").rewards
        assert rewards.height and rewards["reward"].is_finite().all()
        [(at, spec)] = reward_models(place)
        if spec.readout != "head":
            continue
        opened = open_reward_model(at, spec, device="cpu")
        row = world.candidates.join(rewards, on=["problem_id", "language", "sample_index"]).row(0, named=True)
        question = problems.filter(problem_id=row["problem_id"], language=row["language"])["question"].item()
        text, _ = opened.whole_texts([(question, row["language"])], [0], [row["completion"]])
        with torch.inference_mode():
            own = opened.model(input_ids=torch.tensor([text[0]["input_ids"]])).logits
        assert row["reward"] - spec.offset == pytest.approx(float(own), abs=1e-4)
