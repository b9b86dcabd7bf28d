"""Architectures of Transformers, tiny and random: one row per configuration class, with what served it when last run.

`python tests/architectures.py` writes the table for readers, reports/ARCHITECTURES.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

VOCABULARY = 260
WINDOW = 24  # tokens of every sliding window and chunk; the prompts of the tests reach far beyond it
SWITCH = 60  # tokens beyond which rotary embeddings that change with the length of a text do so

_SMALL = {  # whichever of these a configuration knows is set
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 512,
    "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512, "n_inner": 48, "d_model": 32, "n_heads": 4, "n_layers": 2,
    "num_layers": 2, "num_heads": 4, "ffn_dim": 48, "attention_heads": 4, "sliding_window": WINDOW,
    "attention_chunk_size": WINDOW, "window_size": WINDOW, "attention_window_size": WINDOW, "num_experts": 4,
    "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24,
    "shared_expert_intermediate_size": 24, "initializer_range": 0.3, "init_std": 0.3, "word_embed_proj_dim": 32,
    "rotary_dim": 8, "max_seq_len": 512, "num_logits_to_keep": None, "moe_num_experts": 4, "moe_k": 2,
    "kv_lora_rank": 16, "q_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8,
    "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "rotary_pct": 0.5, "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": VOCABULARY, "num_kv_shared_layers": 0, "laurel_rank": 8, "intermediate_size_mlp": 48,
    "shared_intermediate_size": 24, "state_size": 4, "conv_kernel": 4, "mamba_d_state": 8, "mamba_d_conv": 4,
    "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_expand": 2, "mamba_n_groups": 1, "time_step_rank": 4,
    "linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "lru_width": 32, "mamba_chunk_size": 8, "num_heads_mamba": 4,
}  # fmt: skip


_LONG_ROPE = {  # frequencies for texts up to SWITCH tokens and others for longer ones
    "max_position_embeddings": 512,
    "original_max_position_embeddings": SWITCH,
    "rope_parameters": {
        "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4, "long_factor": [1.0, 1.5, 3.0, 8.0],
        "original_max_position_embeddings": SWITCH,
    },
}  # fmt: skip
_PHIMOE_SCALES = {"short_mscale": 1.0, "long_mscale": 1.3}
_DYNAMIC_ROPE = {
    "max_position_embeddings": SWITCH,
    "rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 8.0},
}


@dataclass(frozen=True)
class Architecture:
    """One row of the table."""

    kind: str  # as Transformers names it in config.json
    served_by: str  # "loop" or "generate"
    changes: dict[str, Any] = field(default_factory=dict)  # beside what is small for all
    quick: bool = False  # whether it is tried on every run of the tests
    name: str = ""  # of the row, where a kind has several

    def __str__(self) -> str:
        return self.name or self.kind


def make(architecture: Architecture, folder: Path, seed: int = 0) -> Any:
    """Write a tiny random model of this architecture to a folder and return it."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = CONFIG_MAPPING[architecture.kind]
    known = set(kind().to_dict()) | set(getattr(kind, "attribute_map", {}))
    small = {key: value for key, value in _SMALL.items() if key in known and value is not None}
    small |= {"bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(kind(**(small | architecture.changes)), dtype=torch.float32).eval()
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1 or "sinks" in name:  # lively, whatever the class's own start
            torch.nn.init.normal_(parameter, std=0.3 if "sinks" not in name else 1.0)
    model.generation_config = GenerationConfig(eos_token_id=1, pad_token_id=0)
    model.save_pretrained(folder)
    return model


ARCHITECTURES = (
    Architecture("afmoe", "loop"),
    Architecture("apertus", "loop"),
    Architecture("arcee", "loop"),
    Architecture("aria_text", "loop"),
    Architecture("bamba", "generate", {"attn_layer_indices": [1]}),
    Architecture("biogpt", "loop"),
    Architecture("bitnet", "loop"),
    Architecture("bloom", "generate", quick=True),
    Architecture("codegen", "generate"),
    Architecture("cohere", "loop"),
    Architecture("cohere2", "loop", quick=True),
    Architecture("ctrl", "loop"),
    Architecture("cwm", "loop", {"bos_token_id": 2}),
    Architecture("deepseek_v3", "generate", {"num_key_value_heads": 4}),
    Architecture(
        "deepseek_v32",
        "generate",
        {"num_key_value_heads": 4, "index_n_heads": 2, "index_head_dim": 16, "index_topk": 8},
    ),
    Architecture("deepseek_v4", "generate"),
    Architecture("diffllama", "generate"),
    Architecture("doge", "loop"),
    Architecture("dots1", "loop", {"n_shared_experts": 1}),
    Architecture("ernie4_5", "loop"),
    Architecture("ernie4_5_moe", "loop"),
    Architecture("exaone4", "loop"),
    Architecture("exaone_moe", "loop"),
    Architecture("falcon", "generate"),
    Architecture("falcon_h1", "generate", {"mamba_d_ssm": 64}),
    Architecture("falcon_mamba", "generate"),
    Architecture("flex_olmo", "loop"),
    Architecture("flint", "loop"),
    Architecture("gemma", "loop"),
    Architecture("gemma2", "loop", quick=True),
    Architecture("gemma3_text", "loop", quick=True),
    Architecture("gemma3n_text", "loop"),
    Architecture("gemma4_text", "loop"),
    Architecture("glm", "loop"),
    Architecture("glm4", "loop"),
    Architecture("glm4_moe", "loop"),
    Architecture("glm4_moe_lite", "generate", {"num_key_value_heads": 4}),
    Architecture("gpt2", "loop"),
    Architecture("gpt_bigcode", "loop"),
    Architecture("gpt_neo", "generate", {"attention_types": [[["global", "local"], 1]]}),
    Architecture("gpt_neox", "loop"),
    Architecture("gpt_oss", "loop", quick=True),
    Architecture("gptj", "generate"),
    Architecture("granite", "loop", quick=True),
    Architecture("granite_swa", "loop"),
    Architecture("granitemoe", "loop"),
    Architecture("granitemoehybrid", "generate", {"layer_types": ["mamba", "attention"]}),
    Architecture("granitemoeshared", "loop"),
    Architecture("helium", "loop"),
    Architecture("hunyuan_v1_dense", "loop"),
    Architecture("hunyuan_v1_moe", "loop"),
    Architecture("hyperclovax", "loop"),
    Architecture("inkling_text", "generate"),
    Architecture("jais2", "loop"),
    Architecture(
        "jamba",
        "generate",
        {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1},
    ),
    Architecture("jetmoe", "generate"),
    Architecture("lfm2", "generate", {"layer_types": ["conv", "full_attention"]}),
    Architecture("lfm2_moe", "generate", {"layer_types": ["conv", "full_attention"]}),
    Architecture("llama", "loop", quick=True),
    Architecture("llama4_text", "generate", quick=True),
    Architecture("longcat_flash", "generate", {"num_key_value_heads": 4}),
    Architecture("mamba", "generate", quick=True),
    Architecture("mamba2", "generate", {"num_heads": 8, "head_dim": 8, "n_groups": 1}),
    Architecture("mellum", "loop"),
    Architecture("mimo_v2_flash", "loop"),
    Architecture("minicpm3", "generate", {"num_key_value_heads": 4}),
    Architecture("minimax", "generate"),
    Architecture("minimax_m2", "loop"),
    Architecture("ministral", "loop"),
    Architecture("ministral3", "loop"),
    Architecture("mistral", "loop"),
    Architecture("mixtral", "loop"),
    Architecture("modernbert-decoder", "loop", {"bos_token_id": 2}),
    Architecture("mpt", "generate"),
    Architecture("nanochat", "loop"),
    Architecture("nemotron", "loop"),
    Architecture("nemotron_h", "generate"),
    Architecture("olmo", "loop"),
    Architecture("olmo2", "loop"),
    Architecture("olmo3", "loop"),
    Architecture("olmo_hybrid", "generate"),
    Architecture("olmoe", "loop"),
    Architecture("openai-gpt", "generate"),
    Architecture("opt", "loop"),
    Architecture("persimmon", "loop"),
    Architecture("phi", "loop"),
    Architecture("phi3", "loop", quick=True),
    Architecture("phimoe", "loop", quick=True),
    Architecture("qwen2", "loop"),
    Architecture("qwen2_moe", "loop", {"use_sliding_window": True, "max_window_layers": 1}),
    Architecture("qwen3", "loop", quick=True),
    Architecture("qwen3_5_text", "generate", {"layer_types": ["linear_attention", "full_attention"]}),
    Architecture("qwen3_moe", "loop"),
    Architecture("qwen3_next", "generate", {"layer_types": ["linear_attention", "full_attention"]}),
    Architecture("seed_oss", "loop"),
    Architecture("smollm3", "loop"),
    Architecture("solar_open", "loop"),
    Architecture("stablelm", "loop"),
    Architecture("starcoder2", "loop"),
    Architecture("vaultgemma", "loop"),
    Architecture("xglm", "generate"),
    Architecture("youtu", "generate", {"num_key_value_heads": 4}),
    Architecture("zaya", "generate", {"num_experts_per_tok": 1}),
    Architecture("qwen2", "loop", {"use_sliding_window": True, "max_window_layers": 1}, name="qwen2 with a window"),
    Architecture("phi3", "loop", _LONG_ROPE, quick=True, name="phi3 with longrope"),
    Architecture("llama", "loop", _LONG_ROPE, name="llama with longrope"),
    Architecture("llama", "loop", _DYNAMIC_ROPE, quick=True, name="llama with dynamic rope"),
    Architecture(
        "phimoe",
        "loop",
        _LONG_ROPE | {"rope_parameters": _LONG_ROPE["rope_parameters"] | _PHIMOE_SCALES},
        name="phimoe with longrope",
    ),
)

PAGE = Path(__file__).resolve().parents[1] / "reports" / "ARCHITECTURES.md"
_ABOVE = """# Architectures that are sampled right

Every row was tried with Transformers {transformers}: a tiny random model, prompts of 2 to 127 tokens in one batch, beyond every
sliding window and chunk (shrunk to {window} tokens). Greedy texts must equal those of `generate` one prompt at a time, and their
log-probabilities those of the model's own logits within 1e-4, in float32; a handful is tried in bfloat16. The test is
`tests/models/test_architectures.py`; `python tests/architectures.py` writes this page.

*loop*: the fast loop of this project. *generate*: Transformers' own `generate`, one prompt at a time, several times slower, with the
same candidates; a warning says so. An architecture that is not in this table is tried before anything is written: the loop against
the model's own eager attention, then `generate` against itself, and it is refused in words where neither is right.

The loop leans on internals of Transformers: the signature of attention functions, `AttentionInterface`, `AttentionMaskInterface`,
`sdpa_mask`, `sdpa_attention_forward`, `CacheLayerMixin`, `keys` and `values` of a cache's layers, `logits_to_keep`, `rope_parameters`.
Reward models lean on one more: a language model computes logits from the last hidden state of its base model. Therefore
pyproject.toml has an upper bound, and a new release is tried by running the table.

| Sampled by | Architectures (`model_type` of config.json) |
| --- | --- |
"""


def page() -> str:
    """The table for readers."""
    import transformers

    rows = []
    for way in ("loop", "generate"):
        names = sorted({str(a) for a in ARCHITECTURES if a.served_by == way})
        rows.append(f"| {way} ({len(names)}) | {', '.join(names)} |")
    version = ".".join(transformers.__version__.split(".")[:2])
    return _ABOVE.format(transformers=version, window=WINDOW) + "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf8")
    print(PAGE)
