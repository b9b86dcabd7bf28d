"""Memory of a training, counted before it starts, against what a real forward keeps on small layers of the same shape."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("peft")

from bestofl_lib.rewards.memory import kept_bytes, training_memory  # noqa: E402
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
