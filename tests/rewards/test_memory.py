"""Memory of a training or a pass, counted before it starts, against what small layers of the same shape really hold."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("peft")

from bestofl_lib.rewards.backbone import RewardBackbone  # noqa: E402
from bestofl_lib.rewards.memory import kept_bytes, reading_memory, training_memory  # noqa: E402
from bestofl_lib.rewards.readouts import Probe  # noqa: E402
from bestofl_lib.rewards.reward_module import with_adapter  # noqa: E402
from bestofl_lib.rewards.spec import TrainingSettings  # noqa: E402

LORA = TrainingSettings(readout="head", tuning="lora")
SHAPE = dict(hidden_size=3584, intermediate_size=18944, num_attention_heads=28, num_key_value_heads=4)  # Qwen2.5-7B


def config(divisor: int = 1, layers: int = 28, vocabulary: int = 152_064):
    """Qwen2.5-7B, or narrower layers of the same shape."""
    heads = max(1, 4 // divisor)
    shape = {
        "hidden_size": SHAPE["hidden_size"] // divisor, "intermediate_size": SHAPE["intermediate_size"] // divisor,
        "num_attention_heads": 7 * heads, "num_key_value_heads": heads,
    }  # fmt: skip
    return transformers.Qwen2Config(
        **shape,
        num_hidden_layers=layers,
        vocab_size=vocabulary,
        pad_token_id=0,
        tie_word_embeddings=False,
        num_labels=1,
    )


@pytest.mark.parametrize("checkpointed", [False, True])
def test_the_estimate_is_what_small_layers_of_the_same_shape_keep(checkpointed):
    small = config(divisor=16, layers=5, vocabulary=500)
    estimate = training_memory(small, LORA, torch.bfloat16, checkpointed)
    model = transformers.AutoModelForSequenceClassification.from_config(small, dtype=torch.bfloat16)
    model = with_adapter(model, LORA, checkpointed).train()
    assert estimate.weights == sum(p.numel() * p.element_size() for p in model.parameters() if not p.requires_grad)
    assert estimate.trained == 16 * sum(p.numel() for p in model.parameters() if p.requires_grad)
    expected = (estimate.kept_per_token + estimate.per_token) * 3 * 40
    assert kept_bytes(model, 3, 40) == pytest.approx(expected, rel=0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):  # as it is trained: it keeps less, never more
        assert 0.6 * expected < kept_bytes(model, 3, 40) <= 1.05 * expected


def test_lora_on_a_model_of_7_billion_fits_one_gpu_of_80_gb_with_checkpoints_and_not_without():
    fits = training_memory(config(), LORA, torch.bfloat16, True)
    assert fits.weights == pytest.approx(14.1e9, rel=0.05)
    assert fits.total(32_768) < 60e9
    assert training_memory(config(), LORA, torch.bfloat16, False).total(16_384) > 160e9


def peak_bytes(run) -> int:
    """The most bytes that PyTorch's allocator gives out at once while `run` is called."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    now = most = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most


@pytest.mark.parametrize("readout", ["probe", "head"])
@pytest.mark.parametrize(("prompt", "completion"), [(10, 60), (90, 4)])
def test_the_estimate_of_a_pass_bounds_what_small_layers_of_the_same_shape_hold(readout, prompt, completion, folder):
    small = config(divisor=8, layers=3, vocabulary=260)
    transformers.AutoModelForCausalLM.from_config(small, dtype=torch.float32).save_pretrained(folder)
    backbone = RewardBackbone(
        folder, readout=Probe() if readout == "probe" else None, device="cpu", dtype="float32", batch_tokens=256
    )
    asked = [("a " * prompt + str(i), "en") for i in range(4)]
    owners = [i // 4 for i in range(16)]
    written = [f"{i} " + "b " * completion for i in range(16)]
    backbone.values(asked[:1], [0], written[:1])  # whether prompts can be shared is tried once
    texts, _ = backbone.whole_texts(asked, owners, written)
    measured = peak_bytes(lambda: backbone.values(asked, owners, written))
    counted = reading_memory(small, readout, torch.float32)
    assert counted.weights == pytest.approx(
        sum(p.numel() * p.element_size() for p in backbone.model.parameters()), rel=0.02
    )
    most = counted.total(256, max(len(text["input_ids"]) for text in texts)) - counted.weights - counted.logits
    most += 256 * 260 * (4 + 4 * 4)  # logits of so few tokens and words
    print(f"{measured / most:.2f} of {most / 1e6:.0f} MB")
    assert 0.4 * most < measured < most


def test_the_reward_models_of_the_study_mgsm_as_shipped_fit_one_gpu_of_80_gb():
    study = yaml.safe_load((Path(__file__).parents[2] / "notebooks" / "studies" / "mgsm.yaml").read_text("utf8"))
    asked = study["parameters"]
    assert asked["reward_base"] == "Qwen/Qwen2.5-7B-Instruct"  # whose shape this is
    assert (asked["readout"], asked["tuning"]) == ("probe", "frozen")
    memory = reading_memory(config(), asked["readout"], torch.bfloat16)
    assert memory.weights == pytest.approx(15.2e9, rel=0.02)
    print(f"{memory.total(32_768, 4096) / 1e9:.1f} GB")
    assert memory.total(32_768, 4096) < 0.9 * 80e9
